//! The plane under test: its configuration, its process, its region.

use crate::capture::{Family, NEIGHBOUR_MAC, OUR_MAC, Stream, addresses_for};
use crate::netns::mac;
use crate::process::{Process, program};
use crate::{Args, Failure};
use penstock_shm::{
    Applied, CommandProducer, Control, ControlBell, Dscp, Endpoint, Event, EventConsumer, Learn,
    Op, PushError, RegionError, StreamSpec, TableView,
};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// More streams than this need more memory for their packets, a MiB for so many.
const MANY: u32 = 100_000;
const PER_MB: u32 = 340;
/// How long a start or a command may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// A folder with a configuration and a region, over which planes come and go.
pub struct Bench {
    dir: tempfile::TempDir,
    region: PathBuf,
    /// A hugetlbfs for the table.
    table_dir: Option<PathBuf>,
    plane: PathBuf,
    core: usize,
    /// MiB for DPDK.
    memory_mb: u32,
    family: Family,
    addresses: u16,
    capacity: u32,
}

impl Bench {
    /// Room for so many streams, and for a capture with a packet of each.
    pub fn new(args: &Args, family: Family, streams: u32) -> Result<Bench, Failure> {
        let dir = tempfile::Builder::new()
            .prefix("penstock-bench-")
            .tempdir()?;
        let name = dir.path().file_name().unwrap_or_default();
        let region = Path::new("/dev/shm").join(format!("{}-{}", crate::prefix(), name.display()));
        let table_dir = args.table_dir.as_ref().map(|huge| huge.join(name));
        let plane = fs::canonicalize(&args.plane).map_err(|e| {
            Failure::Environment(format!(
                "{}: {e}; cargo build --release",
                args.plane.display()
            ))
        })?;
        if let Some(table) = &table_dir {
            fs::create_dir(table)?;
        }
        Ok(Bench {
            region,
            table_dir,
            plane,
            core: args.core,
            memory_mb: 1024 + if streams > MANY { streams / PER_MB } else { 0 },
            family,
            addresses: addresses_for(streams),
            capacity: streams.max(1024),
            dir,
        })
    }

    /// With the worker on this CPU, so many local addresses, and room for so many streams.
    pub fn sized(mut self, core: usize, addresses: u16, capacity: u32) -> Bench {
        (self.core, self.addresses, self.capacity) = (core, addresses, capacity);
        self
    }

    /// A file of the bench that lies in memory, beside the region's; there once the plane was started.
    pub fn file_in_memory(&self, name: &str) -> PathBuf {
        self.region.join(name)
    }

    /// A file of the bench.
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The plane's configuration, once it was started; control reads it too.
    pub fn config(&self) -> PathBuf {
        self.file("penstock.toml")
    }

    /// EAL's memory flags for the reference: the ones the plane uses.
    pub fn eal_memory(&self) -> Vec<String> {
        let huge = fs::read_to_string("/proc/meminfo").is_ok_and(|text| {
            let free = text.lines().find_map(|l| {
                l.strip_prefix("HugePages_Free:")?
                    .trim()
                    .parse::<u32>()
                    .ok()
            });
            free.is_some_and(|pages| pages * 2 >= self.memory_mb)
        });
        let size = format!("{}", self.memory_mb);
        let flags: &[&str] = if huge {
            &["--in-memory", "-m", &size]
        } else {
            &["--no-huge", "--no-shconf", "-m", &size]
        };
        flags.iter().map(|f| (*f).to_owned()).collect()
    }

    /// A port with all addresses of the bench, behind which is one neighbour.
    pub fn port(&self, device: &str) -> String {
        let gateway = self.family.gateway();
        let addresses: String = (0..self.addresses)
            .map(|n| {
                format!(
                    "[[port.address]]\naddress = \"{}/{}\"\ngateway = \"{gateway}\"\n",
                    self.family.local(n),
                    self.family.prefix()
                )
            })
            .collect();
        format!(
            "device = \"{device}\"\nmac = \"{ours}\"\n{addresses}\
             [[port.neighbour]]\naddress = \"{gateway}\"\nmac = \"{theirs}\"\n",
            ours = mac(OUR_MAC),
            theirs = mac(NEIGHBOUR_MAC),
        )
    }

    fn toml(&self, port: &str, polling: &str) -> String {
        let table_dir = self
            .table_dir
            .as_ref()
            .map(|d| format!("table_dir = \"{}\"\n", d.display()))
            .unwrap_or_default();
        format!(
            "[region]\ndir = \"{region}\"\nstreams = {capacity}\n{table_dir}\
             [plane]\ncores = [{core}]\npolling = \"{polling}\"\nmemory_mb = {memory}\nhugepages = \"auto\"\n\
             [[port]]\nname = \"bench\"\n{port}\
             [[control.interface]]\nname = \"default\"\naddress = \"{first}\"\nports = \"2000-61999\"\n{POLICE}",
            region = self.region.display(),
            capacity = self.capacity,
            core = self.core,
            memory = self.memory_mb,
            first = self.family.local(0),
        )
    }

    /// Starts the plane over `device`.
    pub fn start(&self, device: &str, polling: &str) -> Result<Process, Failure> {
        self.start_on(&self.port(device), polling)
    }

    /// Starts the plane over a port whose part of the configuration, but for its name, this is.
    pub fn start_on(&self, port: &str, polling: &str) -> Result<Process, Failure> {
        let config = self.config();
        fs::write(&config, self.toml(port, polling))?;
        let before = TableView::open(&self.region).ok().map(|t| t.info().epoch);
        let mut command = program(&self.plane);
        command.arg("--config").arg(&config);
        let mut plane = Process::start("penstock-dataplane", &mut command, &self.file(""))?;
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            if plane.ended()?.is_some() {
                return Err(Failure::Environment(format!(
                    "the plane ended:\n{}",
                    plane.log()
                )));
            }
            let beats = TableView::open(&self.region).is_ok_and(|t| {
                let info = t.info();
                Some(info.epoch) != before && t.plane_alive() && info.heartbeat_ns > info.started_ns
            });
            if beats {
                return Ok(plane);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Err(Failure::Environment(format!(
            "the plane did not start:\n{}",
            plane.log()
        )))
    }

    /// Installs the streams through the region. The plane then stops; whoever starts next resumes them, so
    /// that not one packet meets a half-filled table. Whether they are `clocked`, so that delay variations are counted.
    /// Says how long it took, from the first push to applied by the plane.
    pub fn install(&self, streams: u32, clocked: bool) -> Result<Duration, Failure> {
        let plane = self.start("net_ring0", "adaptive")?;
        let mut link = self.attach()?;
        let (start, mut last) = (Instant::now(), 0);
        let family = self.family;
        let set = |number| {
            let mut spec = spec(Stream { number, family });
            if !clocked {
                spec.clock_hz = 0;
            }
            Op::Set(spec)
        };
        for first in (0..streams).step_by(2) {
            last = link.push(u64::from(first), &[first, first + 1].map(set))?;
        }
        link.wait(last)?;
        let took = start.elapsed();
        plane.stop()?;
        Ok(took)
    }

    /// The region's table.
    pub fn table(&self) -> Result<TableView, Failure> {
        TableView::open(&self.region).map_err(region)
    }

    /// The memory that the region takes: what of its files is there.
    pub fn region_bytes(&self) -> Result<u64, Failure> {
        let mut bytes = 0;
        for dir in [Some(&self.region), self.table_dir.as_ref()]
            .into_iter()
            .flatten()
        {
            for file in fs::read_dir(dir)? {
                bytes += file?.metadata()?.blocks() * 512;
            }
        }
        Ok(bytes)
    }

    /// Control's side of the region.
    pub fn attach(&self) -> Result<Link, Failure> {
        let parts = Control::attach(&self.region).map_err(region)?.split();
        Ok(Link {
            commands: parts.commands,
            applied: parts.applied,
            bell: parts.bell,
            events: parts.events,
        })
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.region);
        if let Some(table) = &self.table_dir {
            let _ = fs::remove_dir_all(table);
        }
    }
}

fn region(error: RegionError) -> Failure {
    Failure::Environment(error.to_string())
}

/// Control's side: pushes many commands ahead, waits for the last.
pub struct Link {
    commands: CommandProducer,
    applied: Applied,
    bell: ControlBell,
    events: EventConsumer,
}

impl Link {
    /// Pushes a command, waiting while the ring is full.
    pub fn push(&mut self, call: u64, ops: &[Op]) -> Result<u64, Failure> {
        let end = Instant::now() + PATIENCE;
        loop {
            match self.commands.push(call, ops) {
                Ok(seq) => return Ok(seq),
                Err(PushError::Full) if Instant::now() < end => self.sleep(self.applied.get()),
                Err(error) => return Err(Failure::Void(format!("{error:?}"))),
            }
        }
    }

    /// Waits until the plane has applied `seq`; a refusal is an error.
    pub fn wait(&mut self, seq: u64) -> Result<(), Failure> {
        let end = Instant::now() + PATIENCE;
        loop {
            let applied = self.applied.get();
            while let Some(event) = self.events.next() {
                if let Ok(Event::Refused { seq, reason, .. }) = event {
                    return Err(Failure::Void(format!(
                        "command {seq} was refused: {reason}"
                    )));
                }
            }
            if applied >= seq {
                return Ok(());
            }
            if Instant::now() > end {
                return Err(Failure::Void("the plane applies no commands".into()));
            }
            self.sleep(applied);
        }
    }

    fn sleep(&mut self, seen: u64) {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        if self.bell.arm(seen) {
            let limit = Timespec {
                tv_sec: 0,
                tv_nsec: 10_000_000,
            };
            let _ = poll(&mut [PollFd::new(&self.bell, PollFlags::IN)], Some(&limit));
        }
        self.bell.drain();
    }
}

/// Above the rate of any replay, so that policing is evaluated and passes; the bursts are those of two seconds of
/// G.711.
const POLICE: &str = "[[police]]\nnumber = 1\nmedia = \"any\"\npackets_per_s = 1000000\npackets_burst = 100\n\
    bytes_per_s = 200000000\nbytes_burst = 150000\npeak_packets_per_s = 2000000\n\
    peak_bytes_per_s = 400000000\ntolerance_ms = 60\n";

/// What control wants of a stream of the bench: open, its source locked, with every check and meter on.
pub fn spec(stream: Stream) -> StreamSpec {
    let endpoint = |s: Stream| Endpoint {
        addr: s.address(),
        port: s.port(),
    };
    StreamSpec {
        remote: Some(stream.remote()),
        learn: Learn::Off,
        signal: 1,
        clock_hz: 8000,
        payload_types: 1 << 101 | 1 << 8 | 1,
        strict_payload: true,
        event_type: 101,
        police: 1,
        dscp: Dscp::Set(46),
        leg: (stream.number & 1) as u16,
        ..StreamSpec::new(endpoint(stream), endpoint(stream.peer()))
    }
}

/// Packets that the workers have handed to the ports.
pub fn forwarded(table: &TableView) -> u64 {
    table.workers().iter().map(|w| w.forwarded).sum()
}

/// What a plane has counted; it goes on counting where the last one ended.
pub struct Totals {
    pub received: u64,
    pub sent: u64,
    pub metered: u64,
    pub dropped: Vec<(&'static str, u64)>,
}

impl Totals {
    pub fn of(table: &TableView) -> Totals {
        let workers = table.workers();
        let drops = workers.iter().flat_map(|w| &w.drops);
        Totals {
            received: workers.iter().map(|w| w.rx - w.consumed).sum(),
            sent: forwarded(table),
            metered: table.iter().map(|s| s.meter.packets).sum(),
            dropped: drops
                .filter(|(_, n)| *n > 0)
                .map(|(reason, n)| (reason.name(), *n))
                .collect(),
        }
    }
}
