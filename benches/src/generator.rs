//! A traffic generator: a process of its own (EAL starts once in a process) that sends calls' packets through a DPDK port
//! at a given pace, and looks at every packet that comes back.
//!
//! The bench runs itself again with a hidden subcommand. The setup is in a file; then one command a line goes to its
//! stdin and one answer a line, an object, comes from its stdout. It ends when its stdin does.
//!
//! One core sends and receives, in turns. Packets are G.711 in RTP with valid UDP checksums, of each flow in turn; SSRC is
//! the flow's number plus one. The time of sending is in the payload. The pace is held in bursts of up to 32: what the
//! device does not take is lost, and what the generator itself comes too late for is not offered, so that it never
//! makes up for a long stall by a flood.

mod arrivals;
mod packets;
mod process;

use crate::Failure;
use crate::capture::Family;
use crate::cpu::Time;
use crate::process::{Process, program};
use serde_json::{Value, json};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{ChildStdin, ChildStdout};
use std::time::Duration;

pub use process::run as run_process;

/// Packets of one direction of a call: sent `from` and `to`, a correct relay makes them arrive `arrives_from` and
/// `arrives_at`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flow {
    pub from: SocketAddr,
    pub to: SocketAddr,
    pub arrives_from: SocketAddr,
    pub arrives_at: SocketAddr,
}

/// What a generator is to be.
#[derive(Clone, Debug)]
pub struct Setup<'a> {
    /// Its port, a vdev string or a PCI address.
    pub device: &'a str,
    /// The CPU that it polls on.
    pub core: usize,
    /// Where it keeps its files.
    pub dir: &'a Path,
    /// MAC address of its port, and of who it sends to.
    pub mac: [u8; 6],
    pub peer_mac: [u8; 6],
    pub flows: &'a [Flow],
    /// Bytes of a frame, [`least`] to 1514.
    pub size: usize,
    /// MiB for packets: huge pages if as many are free.
    pub memory_mb: u32,
    /// Whether addresses of what arrives are held to the flow's: not where packets go back to their sender.
    pub checked: bool,
}

/// A generator, which ends when dropped.
pub struct Generator {
    process: Process,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

/// What became of a run's packets.
#[derive(Clone, Debug)]
pub struct Trial {
    /// How long it sent.
    pub seconds: f64,
    /// Packets that it tried to send: below what the pace asked for where it could not keep up.
    pub offered: u64,
    /// Packets that the device took.
    pub sent: u64,
    /// Packets that came back, each counted once.
    pub received: u64,
    /// Those offered that did not come back.
    pub lost: u64,
    /// Of those received, those that came after a later packet of their flow.
    pub out_of_order: u64,
    /// Packets that came once more.
    pub repeated: u64,
    /// Packets of no flow, with wrong addresses or, among one of 61, with a wrong checksum or content.
    pub wrong: u64,
    /// From before a packet was handed to the device to when it was received.
    pub latency_us: Latency,
    /// The share of the machine's CPU time that the hypervisor stole meanwhile.
    pub stolen: f64,
}

/// Microseconds that this part of the packets took at most, to 3 %.
#[derive(Clone, Copy, Debug, Default)]
pub struct Latency {
    pub median: f64,
    pub p99: f64,
    pub p999: f64,
}

impl Latency {
    /// Median, p99 and p99.9.
    pub fn parts(self) -> [f64; 3] {
        [self.median, self.p99, self.p999]
    }
}

impl Generator {
    /// Starts it, and waits until its link is up.
    pub fn start(setup: &Setup) -> Result<Generator, Failure> {
        setup.check()?;
        let path = setup.dir.join("generator.json");
        fs::write(&path, setup.json().to_string())?;
        let mut command = program(std::env::current_exe()?);
        command.arg("generator").arg(&path);
        let (process, stdin, stdout) = Process::talk("generator", &mut command, setup.dir)?;
        let mut generator = Generator {
            process,
            stdin: Some(stdin),
            stdout,
        };
        generator.answer()?;
        Ok(generator)
    }

    /// Offers that many packets a second for a time, all it can if they are infinitely many, none if 0.0; then waits for what
    /// is still under way.
    pub fn run(&mut self, pps: f64, time: Duration) -> Result<Trial, Failure> {
        let before = Time::of(None)?;
        let command = json!({ "pps": pps.min(f64::MAX), "seconds": time.as_secs_f64() });
        if let Some(stdin) = &mut self.stdin {
            // If it went away, it is the answer that is missing.
            let _ = writeln!(stdin, "{command}").and_then(|()| stdin.flush());
        }
        let answer = self.answer()?;
        let machine = Time::of(None)?.since(before);
        let count = |key: &str| answer[key].as_u64().unwrap_or(0);
        let real = |key: &str| answer[key].as_f64().unwrap_or(0.0);
        Ok(Trial {
            seconds: real("seconds"),
            offered: count("offered"),
            sent: count("sent"),
            received: count("received"),
            lost: count("offered").saturating_sub(count("received")),
            out_of_order: count("out_of_order"),
            repeated: count("repeated"),
            wrong: count("wrong"),
            latency_us: Latency {
                median: real("median_us"),
                p99: real("p99_us"),
                p999: real("p999_us"),
            },
            stolen: machine.stolen_part(),
        })
    }

    fn answer(&mut self) -> Result<Value, Failure> {
        let mut line = String::new();
        self.stdout.read_line(&mut line)?;
        serde_json::from_str(&line).map_err(|_| {
            Failure::Environment(format!(
                "the generator ended: {}",
                self.process.log().trim()
            ))
        })
    }
}

impl Drop for Generator {
    fn drop(&mut self) {
        // So that it closes its port: what a driver changed at an interface goes with it.
        self.stdin = None;
        self.process.leave();
    }
}

/// Bytes of the shortest frame that a generator can send.
pub const fn least(family: Family) -> usize {
    packets::least(family)
}

impl Setup<'_> {
    fn check(&self) -> Result<(), Failure> {
        let short = |flow: &Flow| self.size < least(Family::of(flow.from));
        let mixed = |flow: &Flow| flow.from.is_ipv4() != flow.to.is_ipv4();
        let problem = if self.flows.is_empty() {
            "a generator without flows"
        } else if self.size > 1514 || self.flows.iter().any(short) {
            "a generator's frames are of 62 bytes (IPv6: 82) to 1514"
        } else if self.flows.iter().any(mixed) {
            "a flow is sent from and to addresses of one IP version"
        } else {
            return Ok(());
        };
        Err(Failure::Environment(problem.into()))
    }

    fn json(&self) -> Value {
        let flow =
            |f: &Flow| json!([f.from, f.to, f.arrives_from, f.arrives_at].map(|a| a.to_string()));
        json!({
            "device": self.device, "core": self.core, "mac": self.mac, "peer_mac": self.peer_mac, "size": self.size,
            "memory_mb": self.memory_mb, "checked": self.checked, "flows": self.flows.iter().map(flow).collect::<Vec<_>>(),
        })
    }
}
