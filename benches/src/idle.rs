//! `idle`: what a plane without traffic costs, and how fast it is awake.
//!
//! In a network namespace of its own: a phone's packet goes into the port of a plane that has had nothing to do,
//! and is timed until the other phone has it. The time holds the kernel's two trips as well, the same for
//! `busy` and `adaptive`: compare the two.

use crate::capture::{Family, NEIGHBOUR_MAC, OUR_MAC, Stream};
use crate::netns::{Namespace, Wire, ip};
use crate::plane::Bench;
use crate::{Args, Failure, Verdict};
use penstock_shm::{Endpoint, Op, StreamSpec};
use serde_json::json;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

/// The phones' interface, the plane's address and the phones'.
const IFACE: &str = "ps0";
const PLANE: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
const PHONES: Ipv4Addr = Ipv4Addr::new(198, 18, 255, 1);
const PORTS: [u16; 2] = [20_000, 20_002];
/// Between two packets: longer than it takes a worker to come to its longest nap.
const GAP: Duration = Duration::from_millis(20);
/// A packet that has not come by now does not come.
const LOST: Duration = Duration::from_secs(2);

/// How a port is made, and what its driver can.
struct Device {
    name: &'static str,
    vdev: &'static str,
    /// Whether it is over the phones' wire.
    is_wired: bool,
    says: &'static str,
}

const DEVICES: [Device; 2] = [
    Device {
        name: "net_tap",
        vdev: "net_tap0,iface=ps0",
        is_wired: false,
        says: "interrupts",
    },
    Device {
        name: "net_af_packet",
        vdev: "net_af_packet0,iface=ps1",
        is_wired: true,
        says: "naps",
    },
];

/// Measures each kind of port with each kind of polling.
pub fn run(args: &Args, seconds: f64, packets: usize) -> Result<Verdict, Failure> {
    let _namespace = Namespace::enter()?;
    args.heading(&format!(
        "{:14} {:9} {:>10} {:>10} {:>10} {:>10}",
        "port", "polling", "worker CPU", "median", "p99", "max"
    ));
    for device in &DEVICES {
        for polling in ["busy", "adaptive"] {
            let case = measure(args, device, polling, seconds, packets)?;
            args.case(
                case.json(device, polling, packets),
                &case.line(device, polling),
            )?;
        }
    }
    Ok(Verdict::Measured)
}

struct Case {
    /// Of one core, the worker's thread and all threads of the plane.
    worker_percent: f64,
    plane_percent: f64,
    /// Sorted.
    latencies: Vec<Duration>,
}

impl Case {
    /// The latency that so many of a hundred packets stay below, microseconds.
    fn us(&self, percent: usize) -> f64 {
        let last = self.latencies.len() - 1;
        let at = (self.latencies.len() * percent / 100).min(last);
        (self.latencies[at].as_secs_f64() * 1e7).round() / 10.0
    }

    fn line(&self, device: &Device, polling: &str) -> String {
        format!(
            "{:14} {polling:9} {:>8.1} % {:>7.0} us {:>7.0} us {:>7.0} us",
            device.name,
            self.worker_percent,
            self.us(50),
            self.us(99),
            self.us(100)
        )
    }

    fn json(&self, device: &Device, polling: &str, packets: usize) -> serde_json::Value {
        let round = |x: f64| (x * 100.0).round() / 100.0;
        json!({
            "bench": "idle", "port": device.name, "sleeps_by": device.says, "polling": polling, "packets": packets,
            "worker_cpu_percent": round(self.worker_percent), "plane_cpu_percent": round(self.plane_percent),
            "latency_us": { "median": self.us(50), "p99": self.us(99), "max": self.us(100) },
        })
    }
}

fn measure(
    args: &Args,
    device: &Device,
    polling: &str,
    seconds: f64,
    packets: usize,
) -> Result<Case, Failure> {
    let bench = Bench::new(args, Family::Ipv4, 16)?;
    let wire = || Wire::new((IFACE, NEIGHBOUR_MAC), ("ps1", OUR_MAC));
    let _wire = device.is_wired.then(wire).transpose()?;
    let port = format!(
        "device = \"{}\"\nmac = \"02:70:73:00:00:01\"\nqueues = 1\n[[port.address]]\naddress = \"{PLANE}/16\"\n",
        device.vdev
    );
    let plane = bench.start_on(&port, polling)?;
    ip(&["addr", "add", &format!("{PHONES}/16"), "dev", IFACE])?;
    ip(&["link", "set", IFACE, "up"])?;
    let phones = PORTS.map(|port| SocketAddr::from((PHONES, port)));
    let mut link = bench.attach()?;
    let seq = link.push(1, &[stream(0, phones), stream(1, phones)])?;
    link.wait(seq)?;

    let sockets = [UdpSocket::bind(phones[0])?, UdpSocket::bind(phones[1])?];
    sockets[1].set_nonblocking(true)?;
    let mut latencies = warm_up(&sockets)?;
    latencies.clear();
    let before = threads(plane.pid())?;
    let start = Instant::now();
    std::thread::sleep(Duration::from_secs_f64(seconds));
    let elapsed = start.elapsed().as_secs_f64();
    let after = threads(plane.pid())?;
    for seq in 0..packets {
        std::thread::sleep(GAP);
        let sent = Instant::now();
        let took = pass(&sockets, seq as u16 + 1000, sent)?;
        latencies.push(took.ok_or_else(|| Failure::Void("a packet did not come back".into()))?);
    }
    latencies.sort();
    plane.stop()?;
    let percent =
        |of: fn(&Threads) -> u64| 100.0 * (of(&after) - of(&before)) as f64 / 1e9 / elapsed;
    Ok(Case {
        worker_percent: percent(|t| t.worker_ns),
        plane_percent: percent(|t| t.all_ns),
        latencies,
    })
}

fn stream(n: usize, phones: [SocketAddr; 2]) -> Op {
    let endpoint = |n: usize| Endpoint {
        addr: 0,
        port: PORTS[n],
    };
    Op::Set(StreamSpec {
        endpoint: endpoint(n),
        peer: endpoint(1 - n),
        remote: Some(phones[n]),
        ..crate::plane::spec(Stream {
            number: n as u32,
            family: Family::Ipv4,
        })
    })
}

/// Sends until packets pass at once: next hops are known by then.
fn warm_up(sockets: &[UdpSocket; 2]) -> Result<Vec<Duration>, Failure> {
    let end = Instant::now() + Duration::from_secs(20);
    let mut passed = Vec::new();
    for seq in 0.. {
        let took = pass(sockets, seq, Instant::now())?;
        passed.extend(took);
        if passed.len() >= 20 {
            break;
        }
        if Instant::now() > end {
            return Err(Failure::Void("the plane passes no packets".into()));
        }
    }
    Ok(passed)
}

/// One packet from the first phone to the second; how long it took.
fn pass(sockets: &[UdpSocket; 2], seq: u16, sent: Instant) -> Result<Option<Duration>, Failure> {
    let mut packet = [0; 172];
    packet[0] = 0x80;
    packet[2..4].copy_from_slice(&seq.to_be_bytes());
    packet[11] = 1;
    sockets[0].send_to(&packet, (PLANE, PORTS[0]))?;
    let mut heard = [0; 256];
    while sent.elapsed() < LOST {
        // Polled, so that it is not the phone's waking up that is measured.
        if let Ok(n) = sockets[1].recv(&mut heard)
            && n == packet.len()
            && heard[2..4] == packet[2..4]
        {
            return Ok(Some(sent.elapsed()));
        }
    }
    Ok(None)
}

/// Processor time of the plane's threads, nanoseconds.
struct Threads {
    worker_ns: u64,
    all_ns: u64,
}

fn threads(pid: u32) -> Result<Threads, Failure> {
    let mut found = Threads {
        worker_ns: 0,
        all_ns: 0,
    };
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let task = task?.path();
        let name = fs::read_to_string(task.join("comm"))?;
        // utime and stime, in hundredths of a second, follow the name's parenthesis as 12th and 13th.
        let stat = fs::read_to_string(task.join("stat"))?;
        let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        let ticks = fields.split_whitespace().skip(11).take(2);
        let ns = 10_000_000 * ticks.filter_map(|t| t.parse::<u64>().ok()).sum::<u64>();
        found.all_ns += ns;
        if name.contains("worker") {
            found.worker_ns += ns;
        }
    }
    Ok(found)
}
