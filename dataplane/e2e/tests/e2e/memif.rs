//! A real peer, DPDK's own testpmd, over shared memory: what it sent came back, to the last packet.

use penstock_e2e::region::{balanced, endpoint, totals, worker};
use penstock_e2e::{Lab, PLANE, Setup, lab, wait_for};
use penstock_shm::counters::Drop;
use penstock_shm::{Kind, Learn, Op, StreamSpec};
use std::fs::{self, File};
use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A flow of testpmd's `flowgen`, which has these addresses built in: it sends from here ...
const FROM: &str = "10.254.0.0:1000";
/// ... to here, ...
const TO: &str = "10.253.0.0:1001";
/// ... to this MAC.
const MAC: &str = "00:01:02:03:04:01";

/// testpmd on the other end, driven through its prompt.
struct Testpmd {
    child: Child,
    said: PathBuf,
}

impl Testpmd {
    fn start(lab: &Lab) -> Testpmd {
        let said = lab.dir().join("testpmd.log");
        let out = File::create(&said).expect("a log file");
        let device = format!(
            "net_memif0,role=client,socket-abstract=no,socket={}/memif",
            lab.dir().display()
        );
        // Line by line: into a file it would speak in blocks.
        let child = Command::new("stdbuf")
            .args([
                "-oL",
                "dpdk-testpmd",
                "--no-huge",
                "--no-pci",
                "--no-shconf",
                "-m",
                "128",
                "-l",
                "0,1",
                "--file-prefix",
                "peer",
            ])
            .args([
                "--vdev",
                &device,
                "--",
                "-i",
                "--forward-mode=flowgen",
                "--flowgen-flows=1",
            ])
            .args(["--total-num-mbufs=8192", "--no-lsc-interrupt"])
            .stdin(Stdio::piped())
            .stdout(out.try_clone().expect("a log file"))
            .stderr(out)
            .spawn()
            .expect("dpdk-testpmd");
        Testpmd { child, said }
    }

    fn say(&mut self, command: &str) {
        writeln!(self.child.stdin.as_mut().expect("its prompt"), "{command}")
            .expect("testpmd listens");
    }

    fn said(&self) -> String {
        fs::read_to_string(&self.said).unwrap_or_default()
    }

    /// A command, until it has said `what` as often as `times`.
    fn until(&mut self, command: &str, what: &str, times: usize) {
        self.say(command);
        let heard = wait_for(Duration::from_secs(30), || {
            self.said().matches(what).count() >= times
        });
        assert!(heard, "{command}: no {what}\n{}", self.said());
    }

    /// Packets received and sent, as its port counted.
    fn counts(&mut self) -> (u64, u64) {
        let before = self.said().len();
        self.until(
            "show port stats 0",
            "Tx-pps",
            self.said().matches("Tx-pps").count() + 1,
        );
        let said = self.said().split_off(before);
        let number = |key: &str| {
            let after = said.split(key).nth(1)?;
            after.split_whitespace().next()?.parse().ok()
        };
        number("RX-packets:")
            .zip(number("TX-packets:"))
            .unwrap_or_else(|| panic!("no counts in {said}"))
    }
}

impl std::ops::Drop for Testpmd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn setup(lab_dir: &str) -> Setup {
    let port = format!(
        "device = \"net_memif0,role=server,socket-abstract=no,socket={lab_dir}/memif\"\nmac = \"{MAC}\"\n\
         [[port.address]]\naddress = \"10.253.0.0/8\"\n[[port.address]]\naddress = \"{PLANE}/16\"\n\
         [[port.neighbour]]\naddress = \"198.18.2.1\"\nmac = \"02:00:00:00:00:01\"\n\
         [[port.neighbour]]\naddress = \"10.254.0.0\"\nmac = \"02:00:00:00:00:02\"\n"
    );
    Setup {
        port,
        ..Setup::default()
    }
}

#[test]
fn testpmd_gets_back_what_it_sent() {
    let lab = lab!("memif");
    if !std::path::Path::new("/usr/bin/dpdk-testpmd").exists() {
        return penstock_e2e::skip("memif", "no dpdk-testpmd");
    }
    lab.configure(&setup(&lab.dir().display().to_string()));
    let _plane = lab.plane();
    let table = lab.table();
    let at = |text: &str| text.parse::<SocketAddr>().expect("an address");
    let (here, there) = (at(TO), at("198.18.0.1:20000"));
    let spec = StreamSpec {
        remote: Some(at(FROM)),
        kind: Kind::Raw,
        learn: Learn::Off,
        ..StreamSpec::new(endpoint(&table, here, 0), endpoint(&table, there, 0))
    };
    let back = StreamSpec {
        endpoint: spec.peer,
        peer: spec.endpoint,
        remote: Some(at("198.18.2.1:20000")),
        ..spec
    };
    lab.install(1, &[Op::Set(spec), Op::Set(back)]);

    let mut testpmd = Testpmd::start(&lab);
    testpmd.until("", "testpmd>", 1);
    testpmd.until("start", "flowgen packet forwarding - ", 1);
    let sends = wait_for(Duration::from_secs(20), || {
        totals(&table).forwarded > 50_000
    });
    assert!(sends, "{:?}\n{}", totals(&table), testpmd.said());
    testpmd.until("stop", "Done.", 1);
    // What is still on its way back is read, and nothing sent.
    testpmd.say("set fwd rxonly");
    testpmd.until("start", "rxonly packet forwarding - ", 1);
    let sum = balanced(&table);
    // The plane announces its addresses, too; nobody may listen yet.
    let own: u64 = table.workers().iter().map(|worker| worker.tx_steward).sum();
    let all = sum.forwarded..=sum.forwarded + own;
    let all_back = wait_for(Duration::from_secs(10), || {
        all.contains(&testpmd.counts().0)
    });
    let (received, sent) = testpmd.counts();
    assert!(all_back, "received {received}, announced {own}: {sum:?}");

    // The kernel gave both sides one core each at best: a full ring is no loss without a count.
    assert_eq!(sent, worker(&table, 0).rx, "{sum:?}");
    assert_eq!(sent, sum.forwarded + sum.dropped(Drop::TxFull), "{sum:?}");
    assert_eq!(sum.dropped_at_all(), sum.dropped(Drop::TxFull), "{sum:?}");
    let stream = table
        .stream(table.find(spec.endpoint).expect("the stream"))
        .expect("its record");
    assert_eq!(stream.meter.packets, sent);
}
