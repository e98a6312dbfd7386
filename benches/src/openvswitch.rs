//! The reference of `ovs`: Debian's Open vSwitch with DPDK, in a folder of its own. Whoever starts it is in a network
//! namespace, since a bridge makes taps.

use crate::capture::{Family, NEIGHBOUR_MAC, OUR_MAC, Stream};
use crate::plane::Bench;
use crate::process::{Process, program, run};
use crate::{Failure, replay::Replay};
use serde_json::{Deserializer, Value, json};
use std::fs::{self, File};
use std::io::{BufReader, BufWriter, Write};
use std::net::IpAddr;
use std::ops::Sub;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Where Debian puts it; its alternatives name the one without DPDK.
const SWITCH: &str = "/usr/lib/openvswitch-switch-dpdk/ovs-vswitchd-dpdk";
const SCHEMA: &str = "/usr/share/openvswitch/vswitch.ovsschema";
/// How long a start, an answer or a warm-up may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// The one port's OpenFlow number.
const PORT: u32 = 1;
/// A CPU that no machine has: where the datapath's thread is while there shall be none.
const NOBODY: usize = 1023;
/// Without a new flow for so long, it is warm.
const STILL: Duration = Duration::from_millis(300);

/// A running Open vSwitch with one bridge; it ends when this is dropped.
pub struct Ovs {
    // Dropped in this order.
    switch: Process,
    _database: Process,
    dir: PathBuf,
    core: usize,
}

/// What it has counted.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counted {
    /// At its ports.
    pub received: u64,
    pub sent: u64,
    /// Packets whose flow the exact-match cache knew, or the signature cache, or the classifier.
    pub exact: u64,
    pub signature: u64,
    pub megaflow: u64,
    /// Packets whose flow the datapath did not know.
    pub missed: u64,
    /// Flows in the datapath.
    pub flows: u64,
}

impl Counted {
    /// Adds up what is said of each port and of each thread.
    fn of(ports: &str, threads: &str) -> Counted {
        let total = |text: &str, name: &str| {
            let numbers = text.lines().filter_map(|line| {
                let rest = line.trim().strip_prefix(name)?;
                rest.split_whitespace().next()?.parse::<u64>().ok()
            });
            numbers.sum::<u64>()
        };
        Counted {
            received: total(ports, "RX packets:"),
            sent: total(ports, "TX packets:"),
            flows: total(ports, "flows:"),
            exact: total(threads, "emc hits:"),
            signature: total(threads, "smc hits:"),
            megaflow: total(threads, "megaflow hits:"),
            missed: total(threads, "miss with success upcall:")
                + total(threads, "miss with failed upcall:"),
        }
    }
}

impl Sub for Counted {
    type Output = Counted;

    /// What came between; the flows are those of now.
    fn sub(self, before: Counted) -> Counted {
        Counted {
            received: self.received - before.received,
            sent: self.sent - before.sent,
            exact: self.exact - before.exact,
            signature: self.signature - before.signature,
            megaflow: self.megaflow - before.megaflow,
            missed: self.missed - before.missed,
            flows: self.flows,
        }
    }
}

impl Ovs {
    /// Starts it on the replay's cores, with the plane's memory flags; no port, no flow, and caches so large that no
    /// flow is ever forgotten.
    pub fn start(replay: &Replay) -> Result<Ovs, Failure> {
        if !Path::new(SWITCH).exists() {
            return Err(Failure::Environment(format!(
                "there is no {SWITCH} (scripts/install bench)"
            )));
        }
        let (main, core) = replay.cores;
        let dir = replay.bench.file("ovs");
        fs::create_dir_all(&dir)?;
        let at = |name: &str| dir.join(name).display().to_string();
        let database = at("conf.db");
        run("ovsdb-tool", &["create", &database, SCHEMA])?;
        let remote = format!("--remote=punix:{}", at("db.sock"));
        let control = format!("--unixctl={}", at("database.ctl"));
        let server = ["ovsdb-server", &database, &remote, &control];
        let database = daemon("ovsdb-server", main, &server, &dir)?;
        let socket = dir.join("db.sock");
        until("ovsdb-server never listened", || Ok(socket.exists()))?;

        vsctl(&dir, &["--no-wait", "init"])?;
        let settings = [
            "dpdk-init=true".to_owned(),
            format!("dpdk-lcore-mask={}", mask(main)),
            format!("pmd-cpu-mask={}", mask(NOBODY)),
            format!("dpdk-extra=\"--no-pci {}\"", memory(&replay.bench)),
            "emc-insert-inv-prob=1".to_owned(),
            "flow-limit=1000000".to_owned(),
            "max-idle=600000".to_owned(),
            "n-revalidator-threads=1".to_owned(),
            "n-handler-threads=1".to_owned(),
        ];
        let settings = settings.map(|s| format!("other_config:{s}"));
        let mut set = vec!["--no-wait", "set", "Open_vSwitch", "."];
        set.extend(settings.iter().map(String::as_str));
        vsctl(&dir, &set)?;

        let (from, control) = (format!("unix:{}", at("db.sock")), at("switch.ctl"));
        let server = [SWITCH, &from, &format!("--unixctl={control}")];
        let switch = daemon("ovs-vswitchd", main, &server, &dir)?;
        let mut ovs = Ovs {
            switch,
            _database: database,
            dir,
            core,
        };
        ovs.wait_for_dpdk()?;
        let bridge = ["add-br", "br0", "--", "set", "bridge", "br0"];
        let kind = ["datapath_type=netdev", "fail-mode=secure"];
        vsctl(&ovs.dir, &[&bridge[..], &kind].concat())?;
        // It would otherwise let in 10,000 at first, and more by and by.
        ovs.ask("upcall/set-flow-limit", &["1000000"])?;
        Ok(ovs)
    }

    fn wait_for_dpdk(&mut self) -> Result<(), Failure> {
        let (dir, switch) = (&self.dir, &mut self.switch);
        until("Open vSwitch did not initialise DPDK", || {
            if switch.ended()?.is_some() {
                let log = switch.log();
                let lines: Vec<&str> = log.lines().collect();
                let last = lines[lines.len().saturating_sub(8)..].join("\n");
                return Err(Failure::Environment(format!("Open vSwitch ended:\n{last}")));
            }
            let initialized = vsctl(dir, &["get", "Open_vSwitch", ".", "dpdk_initialized"])?;
            Ok(initialized.trim() == "true")
        })
    }

    /// Its version and its DPDK's.
    pub fn version(&self) -> Result<String, Failure> {
        let said = self.ask("version", &[])?;
        let own = said.split_whitespace().last().unwrap_or_default();
        let dpdk = vsctl(&self.dir, &["get", "Open_vSwitch", ".", "dpdk_version"])?;
        Ok(format!("{own}, {}", dpdk.trim().trim_matches('"')))
    }

    /// Whether packets are also looked for in the signature cache.
    pub fn signature_cache(&self, on: bool) -> Result<(), Failure> {
        self.set(&format!("smc-enable={on}"))
    }

    /// Installs the flows of a file in one bundle, which is what `ovs-ofctl` does fastest; how long that took. All of
    /// `streams` stand then.
    pub fn install(&self, flows: &Path, streams: u32) -> Result<Duration, Failure> {
        let bridge = format!("unix:{}", self.dir.join("br0.mgmt").display());
        let file = flows.display().to_string();
        let start = Instant::now();
        run("ovs-ofctl", &["--bundle", "add-flows", &bridge, &file])?;
        let took = start.elapsed();
        let said = run("ovs-ofctl", &["dump-aggregate", &bridge])?;
        if said.trim().ends_with(&format!("flow_count={streams}")) {
            Ok(took)
        } else {
            Err(Failure::Environment(format!(
                "Open vSwitch has not all flows: {said}"
            )))
        }
    }

    /// Adds the port, a DPDK device; what it receives is forwarded from now on.
    pub fn add_port(&self, device: &str) -> Result<(), Failure> {
        let devargs = format!("options:dpdk-devargs=\"{device}\"");
        let number = format!("ofport_request={PORT}");
        let port = ["add-port", "br0", "p0", "--", "set", "interface", "p0"];
        let with = ["type=dpdk", "options:n_rxq=1", &devargs, &number];
        vsctl(&self.dir, &[&port[..], &with].concat())?;
        let error = vsctl(&self.dir, &["get", "interface", "p0", "error"])?;
        if error.trim() != "[]" {
            return Err(Failure::Environment(format!("Open vSwitch: {error}")));
        }
        // Not before: the datapath polls a port that the bridge does not know yet, and its packets are lost.
        self.poll_on(self.core)
    }

    /// Takes the port away; what it wrote is complete then.
    pub fn remove_port(&self) -> Result<(), Failure> {
        vsctl(&self.dir, &["del-port", "br0", "p0"])?;
        self.poll_on(NOBODY)
    }

    fn poll_on(&self, core: usize) -> Result<(), Failure> {
        self.set(&format!("pmd-cpu-mask={}", mask(core)))
    }

    fn set(&self, setting: &str) -> Result<(), Failure> {
        let setting = format!("other_config:{setting}");
        vsctl(&self.dir, &["set", "Open_vSwitch", ".", &setting]).map(|_| ())
    }

    /// Waits until every stream has a flow in the datapath, and all packets find theirs.
    pub fn warm_up(&self, streams: u32) -> Result<(), Failure> {
        until("Open vSwitch went on asking for flows", || {
            let before = self.counted()?;
            std::thread::sleep(STILL);
            let after = self.counted()?;
            Ok(after.missed == before.missed
                && after.sent > before.sent
                && after.flows >= u64::from(streams))
        })
    }

    /// Everything so far.
    pub fn counted(&self) -> Result<Counted, Failure> {
        let ports = self.ask("dpctl/show", &["-s"])?;
        let threads = self.ask("dpif-netdev/pmd-stats-show", &[])?;
        Ok(Counted::of(&ports, &threads))
    }

    /// Asks as `ovs-appctl` does: JSON-RPC over a socket.
    fn ask(&self, method: &str, params: &[&str]) -> Result<String, Failure> {
        let mut socket = UnixStream::connect(self.dir.join("switch.ctl"))?;
        socket.set_read_timeout(Some(PATIENCE))?;
        let question = json!({ "id": 0, "method": method, "params": params });
        socket.write_all(question.to_string().as_bytes())?;
        let mut answers = Deserializer::from_reader(BufReader::new(socket)).into_iter::<Value>();
        match answers.next() {
            Some(Ok(Value::Object(answer))) if answer["error"].is_null() => {
                Ok(answer["result"].as_str().unwrap_or_default().to_owned())
            }
            other => Err(Failure::Environment(format!(
                "Open vSwitch answered {method} with {other:?}"
            ))),
        }
    }
}

/// A CPU as a hexadecimal mask.
fn mask(cpu: usize) -> String {
    format!("0x{:x}{}", 1 << (cpu % 4), "0".repeat(cpu / 4))
}

/// The plane's memory flags. Open vSwitch adds one that does not go with ordinary pages unless it is told that memory is
/// the old kind, which ordinary pages are anyway.
fn memory(bench: &Bench) -> String {
    let mut flags = bench.eal_memory();
    if flags.iter().any(|flag| flag == "--no-huge") {
        flags.push("--legacy-mem".into());
    }
    flags.join(" ")
}

/// Writes a flow for each stream, IPv4: what comes from its remote to its local address leaves by the same port, from
/// its peer's local to its peer's remote address.
pub fn write_flows(path: &Path, streams: u32) -> std::io::Result<()> {
    let mac = |m: [u8; 6]| m.map(|b| format!("{b:02x}")).join(":");
    let (ours, theirs) = (mac(OUR_MAC), mac(NEIGHBOUR_MAC));
    let mut file = BufWriter::new(File::create(path)?);
    for number in 0..streams {
        let stream = Stream {
            number,
            family: Family::Ipv4,
        };
        let (remote, local) = (stream.remote(), stream.local());
        let (from, to) = (stream.peer().local(), stream.peer().remote());
        let ip = |ip: IpAddr| ip.to_string();
        writeln!(
            file,
            "in_port={PORT},udp,nw_src={},nw_dst={},tp_src={},tp_dst={} actions=\
             set_field:{ours}->eth_src,set_field:{theirs}->eth_dst,set_field:{}->ip_src,set_field:{}->ip_dst,\
             set_field:{}->udp_src,set_field:{}->udp_dst,in_port",
            ip(remote.ip()),
            ip(local.ip()),
            remote.port(),
            local.port(),
            ip(from.ip()),
            ip(to.ip()),
            from.port(),
            to.port(),
        )?;
    }
    file.flush()
}

/// A daemon on CPU `core`.
fn daemon(
    name: &'static str,
    core: usize,
    command: &[&str],
    dir: &Path,
) -> Result<Process, Failure> {
    let mut taskset = program("taskset");
    taskset
        .args(["-c", &core.to_string()])
        .args(command)
        .env("OVS_RUNDIR", dir)
        .env("OVS_DBDIR", dir)
        .env("OVS_LOGDIR", dir);
    Process::start(name, &mut taskset, dir)
}

fn until(or: &str, mut ready: impl FnMut() -> Result<bool, Failure>) -> Result<(), Failure> {
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end {
        if ready()? {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Err(Failure::Environment(or.into()))
}

fn vsctl(dir: &Path, args: &[&str]) -> Result<String, Failure> {
    let database = format!("--db=unix:{}", dir.join("db.sock").display());
    let timeout = format!("--timeout={}", PATIENCE.as_secs());
    run("ovs-vsctl", &[&[&*database, &timeout], args].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_of_ports_and_threads_is_added_up() {
        let ports = "netdev@ovs-netdev:\n  lookups: hit:90 missed:1 lost:0\n  flows: 7\n  port 1: br0 (tap)\n    \
            RX packets:3 errors:0 dropped:0\n    TX packets:2 errors:0\n  port 2: p0 (dpdk)\n    \
            RX packets:100 errors:0 dropped:0 overruns:?\n    TX packets:98 errors:0\n    RX bytes:9 (9 B)  TX bytes:9\n";
        let threads = "pmd thread numa_id 0 core_id 1:\n  emc hits: 40\n  smc hits: 30\n  megaflow hits: 20\n  \
            avg. subtable lookups per megaflow hit: 5.00\n  miss with success upcall: 6\n  miss with failed upcall: 4\n\
            main thread:\n  emc hits: 1\n";
        let counted = Counted::of(ports, threads);
        let Counted { flows, missed, .. } = counted;
        assert_eq!((counted.received, counted.sent), (103, 100));
        let hits = (counted.exact, counted.signature, counted.megaflow);
        assert_eq!((hits, missed, flows), ((41, 30, 20), 10, 7));
    }

    #[test]
    fn a_flow_relays_to_the_peer() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("flows");
        write_flows(&file, 2).unwrap();
        let text = fs::read_to_string(file).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines[0],
            "in_port=1,udp,nw_src=10.0.0.2,nw_dst=198.18.0.1,tp_src=40000,tp_dst=2000 actions=\
             set_field:02:70:73:00:00:01->eth_src,set_field:02:70:73:00:00:02->eth_dst,\
             set_field:198.18.0.1->ip_src,set_field:10.0.0.3->ip_dst,\
             set_field:2001->udp_src,set_field:40000->udp_dst,in_port"
        );
        assert_eq!(lines.len(), 2);
    }

    #[test]
    fn a_mask_has_the_bit_of_its_cpu() {
        assert_eq!([0, 1, 5, 8].map(mask), ["0x1", "0x2", "0x20", "0x100"]);
    }
}
