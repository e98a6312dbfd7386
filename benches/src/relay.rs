//! `relay`: the plane against testpmd's 5tswap, which makes the same rewrite with no table at all.

use crate::capture::{Family, Load, Order};
use crate::replay::{Replay, WARM_UP, mpps};
use crate::testpmd::Testpmd;
use crate::{Args, Failure, Verdict, median, mhz, round3, spread};
use serde_json::json;
use std::time::{Duration, Instant};

/// testpmd's packets besides those of the capture: its queues and caches.
const MBUFS: u32 = 115_000;

/// What of is to be measured; an empty list says nothing.
pub struct Wanted<'a> {
    pub streams: &'a [u32],
    pub families: &'a [Family],
    pub sizes: &'a [usize],
    pub orders: &'a [Order],
}

impl Wanted<'_> {
    fn is_nothing(&self) -> bool {
        self.streams.is_empty()
            && self.families.is_empty()
            && self.sizes.is_empty()
            && self.orders.is_empty()
    }
}

/// The cases to measure: `full`, or by the lists that are not empty, or the default ones.
pub fn cases(full: bool, wanted: &Wanted<'_>) -> Vec<Load> {
    use Family::{Ipv4, Ipv6};
    use Order::{InTurn, Mixed};
    let load = |streams, family, size, order| Load {
        streams,
        family,
        size,
        order,
    };
    if !full && wanted.is_nothing() {
        let v4 = [200, 2_000, 40_000].map(|streams| load(streams, Ipv4, 214, InTurn));
        let mixed = [2_000, 40_000].map(|streams| load(streams, Ipv4, 214, Mixed));
        return [&v4[..], &mixed, &[load(2_000, Ipv6, 214, InTurn)]].concat();
    }
    fn or<'a, T>(given: &'a [T], all: &'a [T], full: bool) -> &'a [T] {
        match (given, full) {
            ([], true) => all,
            ([], false) => &all[..1],
            _ => given,
        }
    }
    let streams = or(wanted.streams, &[2_000, 200, 40_000, 400_000], full);
    let families = or(wanted.families, &[Ipv4, Ipv6], full);
    let sizes = or(wanted.sizes, &[214, 60, 1400], full);
    let orders = or(wanted.orders, &[InTurn, Mixed], full);
    let mut cases = Vec::new();
    for &order in orders {
        for &family in families {
            for size in sizes.iter().map(|&size| size.max(family.least())) {
                // One kind of packet shows what the order does.
                if order == InTurn || !full || (family, size) == (Ipv4, 214) {
                    cases.extend(streams.iter().map(|&n| load(n, family, size, order)));
                }
            }
        }
    }
    cases
}

/// Runs all cases.
pub fn run(args: &Args, cases: &[Load], seconds: f64) -> Result<Verdict, Failure> {
    let mut verdict = Verdict::Measured;
    let mhz = mhz();
    args.heading(&format!(
        "{:>9} {:>6} {:>5} {:>7} {:>9} {:>12} {:>7} {:>8} {:>9} {:>16}",
        "streams",
        "family",
        "size",
        "order",
        "Mpps",
        "5tswap Mpps",
        "ratio",
        "spread",
        "io Mpps",
        "cycles above io"
    ));
    for &load in cases {
        let replay = Replay::new(args, load, Duration::from_secs_f64(seconds))?;
        let rounds = rounds(&replay, args.rounds)?;
        let of = |f: fn(&Round) -> f64| rounds.iter().map(f).collect::<Vec<f64>>();
        let (ours, theirs, io) = (of(|r| r.plane), of(|r| r.reference), of(|r| r.io));
        let (ratios, ns_above) = (of(|r| r.plane / r.reference), of(Round::ns_above_io));
        let cycles_above = median(&ns_above) * mhz / 1000.0;
        let Load {
            streams,
            family,
            size,
            order,
        } = load;
        args.case(
            json!({
                "bench": "relay", "clocked": replay.is_clocked(), "streams": streams, "family": family.name(), "size": size, "order": order.name(),
                "mpps": round3(median(&ours)), "reference": "5tswap", "reference_mpps": round3(median(&theirs)),
                "ratio": round3(median(&ratios)), "reference_spread": round3(spread(&theirs)),
                "io_mpps": round3(median(&io)), "cycles_above_io": round3(cycles_above),
            }),
            &format!(
                "{streams:>9} {:>6} {size:>5} {:>7} {:>9.2} {:>12.2} {:>7.3} {:>7.0}% {:>9.2} {:>16.1}",
                family.name(),
                order.name(),
                median(&ours),
                median(&theirs),
                median(&ratios),
                100.0 * spread(&theirs),
                median(&io),
                cycles_above,
            ),
        )?;
        if spread(&theirs) > 0.2 {
            verdict = Verdict::Inconclusive;
        }
    }
    Ok(verdict)
}

/// Millions of packets per second.
struct Round {
    plane: f64,
    reference: f64,
    io: f64,
}

impl Round {
    fn ns_above_io(&self) -> f64 {
        1000.0 * (1.0 / self.plane - 1.0 / self.io)
    }
}

fn rounds(replay: &Replay, count: usize) -> Result<Vec<Round>, Failure> {
    let burst = best_burst_of_reference(replay)?;
    (0..count)
        .map(|_| {
            Ok(Round {
                io: reference(replay, "io", burst)?,
                reference: reference(replay, "5tswap", burst)?,
                plane: replay.plane()?,
            })
        })
        .collect()
}

/// By two trials of each: a single one may meet a hiccup of the machine.
fn best_burst_of_reference(replay: &Replay) -> Result<u16, Failure> {
    let mut best = (0.0, 0);
    for burst in [32, 64, 32, 64] {
        let mpps = reference(replay, "5tswap", burst)?;
        if mpps > best.0 {
            best = (mpps, burst);
        }
    }
    Ok(best.1)
}

/// One round of testpmd in a forwarding mode.
pub fn reference(replay: &Replay, mode: &str, burst: u16) -> Result<f64, Failure> {
    let (memory, device) = (replay.bench.eal_memory(), replay.device());
    let mbufs = replay.load.streams + MBUFS;
    let mut testpmd = Testpmd::start(
        &replay.bench.file(""),
        &memory,
        replay.cores,
        &device,
        mode,
        burst,
        mbufs,
    )?;
    std::thread::sleep(WARM_UP);
    let (start, before) = (Instant::now(), testpmd.sent()?);
    std::thread::sleep(replay.time);
    let (end, after) = (Instant::now(), testpmd.sent()?);
    Ok(mpps(after - before, end - start))
}
