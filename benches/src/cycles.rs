//! `ng`: how fast calls are signalled, against rtpengine.
//!
//! In a network namespace of its own: one client, on a CPU of its own, has calls come and go (offer, answer, delete) while others
//! stand, and checks every reply. The server answers on the measured CPU: rtpengine with all it does; Penstock's control, with
//! the plane beside it, which applies each change on its own CPU, and then with the plane on the same CPU. A turn is one life of
//! a server, at more and more standing calls; the servers take turns.

mod client;
mod messages;
mod results;
mod server;

use crate::cpu::{Time, cores};
use crate::netns::Namespace;
use crate::{Args, Failure, Verdict, rtpengine};
use client::{Client, Paced};
use results::{Latency, Rate};
use server::{Server, Side};
use std::time::Duration;

/// Calls a second where it is asked how long a request takes.
const PACE: f64 = 1000.0;
/// Standing calls beyond which there is no reference: its ports are those of one address.
const REFERENCE_MOST: usize = 10_000;

/// What is measured.
pub struct Cases {
    /// Calls that stand, ascending.
    standing: Vec<usize>,
    rounds: usize,
    time: Duration,
}

impl Cases {
    /// What is given, or all, or some.
    pub fn new(args: &Args, standing: &[usize], seconds: Option<f64>) -> Cases {
        let mut standing = match (standing, args.full) {
            ([], true) => vec![100, 10_000, 100_000],
            ([], false) => vec![100, 10_000],
            _ => standing.to_vec(),
        };
        standing.sort_unstable();
        standing.dedup();
        let seconds = seconds.unwrap_or(if args.full { 3.0 } else { 0.5 });
        Cases {
            standing,
            rounds: match args.full {
                true => args.rounds,
                false => args.rounds.min(3),
            },
            time: Duration::from_secs_f64(seconds),
        }
    }

    fn has_reference(calls: usize) -> bool {
        calls <= REFERENCE_MOST
    }
}

/// Calls that came and went in one go.
#[derive(Clone, Copy, Debug)]
struct Went {
    per_s: f64,
    /// Processor time of a cycle, of who answers and of the plane, microseconds.
    us: [f64; 2],
    /// The part of the time that the measured CPU was at work.
    busy: f64,
}

/// What one life of a server gave at a number of standing calls.
struct Turn {
    side: Side,
    calls: usize,
    /// How many did stand, where the machine does not let the reference have more files.
    stood: usize,
    beside: Went,
    /// With the plane on the same CPU; of Penstock.
    together: Option<Went>,
    paced: Paced,
    repeated: u64,
}

/// Measures all cases.
pub fn run(args: &Args, cases: &Cases) -> Result<Verdict, Failure> {
    let version = rtpengine::version()?;
    let _namespace = Namespace::enter()?;
    server::prepare()?;
    let mut turns = Vec::new();
    for _ in 0..cases.rounds {
        for side in [Side::Penstock, Side::Rtpengine] {
            let of_side = |&&calls: &&usize| side == Side::Penstock || Cases::has_reference(calls);
            let standing: Vec<usize> = cases.standing.iter().filter(of_side).copied().collect();
            if !standing.is_empty() {
                turns.extend(life(args, cases, side, &standing)?);
            }
        }
    }
    report(args, cases, &turns, &version)
}

/// One life of a server.
fn life(args: &Args, cases: &Cases, side: Side, standing: &[usize]) -> Result<Vec<Turn>, Failure> {
    let most = standing.last().copied().unwrap_or_default();
    let mut server = Server::start(args, side, most)?;
    let (beside, core) = cores(args)?;
    // A thread of its own, since what it starts would inherit its CPU.
    let turns = std::thread::scope(|scope| {
        let client = scope.spawn(|| {
            core_affinity::set_for_current(core_affinity::CoreId { id: beside });
            let mut client = Client::new()?;
            let turn = |&calls: &usize| {
                let places = (beside, core);
                turn(&mut server, &mut client, places, calls, cases.time)
            };
            standing.iter().map(turn).collect::<Result<Vec<Turn>, _>>()
        });
        client.join().expect("it does not panic")
    })?;
    server.end()?;
    Ok(turns)
}

fn turn(
    server: &mut Server,
    client: &mut Client,
    (beside, core): (usize, usize),
    calls: usize,
    time: Duration,
) -> Result<Turn, Failure> {
    let stood = match server.side {
        Side::Penstock => calls,
        Side::Rtpengine => calls.min(rtpengine::max_calls()?),
    };
    server.stand(client, stood)?;
    let went = go(server, client, core, time)?;
    let mut together = None;
    if server.side == Side::Penstock {
        server.plane_to(core)?;
        together = Some(go(server, client, core, time)?);
        server.plane_to(beside)?;
    }
    let paced = client.pace(PACE, 3 * time);
    Ok(Turn {
        side: server.side,
        calls,
        stood,
        beside: went,
        together,
        paced: server.checked(paced)?,
        repeated: std::mem::take(&mut client.repeated),
    })
}

fn go(
    server: &mut Server,
    client: &mut Client,
    core: usize,
    time: Duration,
) -> Result<Went, Failure> {
    let (cpu, machine) = (server.cpu_s()?, Time::of(Some(core))?);
    let cycled = client.cycle(time);
    let (cpu_after, machine_after) = (server.cpu_s()?, Time::of(Some(core))?);
    let (cycles, seconds) = server.checked(cycled)?;
    let us = |n: usize| 1e6 * (cpu_after[n] - cpu[n]) / cycles as f64;
    Ok(Went {
        per_s: cycles as f64 / seconds,
        us: [us(0), us(1)],
        busy: machine_after.since(machine).busy_part(),
    })
}

fn report(args: &Args, cases: &Cases, turns: &[Turn], version: &str) -> Result<Verdict, Failure> {
    let mut is_conclusive = true;
    let of = |side: Side, calls: usize| -> Vec<&Turn> {
        let those = turns.iter().filter(|t| t.side == side && t.calls == calls);
        those.collect()
    };
    args.heading(&format!(
        "{:>8} {:11} {:>9} {:>11} {:>6} {:>7} {:>11} {:>9} {:>12} {:>5}",
        "standing",
        "plane",
        "cycles/s",
        "rtpengine's",
        "ratio",
        "spread",
        "control us",
        "plane us",
        "rtpengine us",
        "busy"
    ));
    for &calls in &cases.standing {
        for is_together in [false, true] {
            let (ours, reference) = (of(Side::Penstock, calls), of(Side::Rtpengine, calls));
            let rate = Rate::of(&ours, &reference, is_together);
            args.case(rate.json(calls, version), &rate.line(calls))?;
            is_conclusive &= rate.is_conclusive();
        }
    }
    args.heading(&format!(
        "{:>8} {:10} {:>26} {:>26} {:>26}",
        "standing",
        PACE.to_string() + " calls/s",
        "offer us: p50 p99 p99.9",
        "answer",
        "delete"
    ));
    for &calls in &cases.standing {
        for side in [Side::Penstock, Side::Rtpengine] {
            let those = of(side, calls);
            if those.is_empty() {
                continue;
            }
            let latency = Latency::of(&those);
            args.case(
                latency.json(side, calls, version),
                &latency.line(side, calls),
            )?;
            is_conclusive &= latency.is_conclusive();
        }
    }
    Ok(match is_conclusive {
        true => Verdict::Measured,
        false => Verdict::Inconclusive,
    })
}
