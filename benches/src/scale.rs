//! `scale`: what a packet, a stream and its installation cost, by how many streams there are.

use crate::capture::{Family, Load, Order};
use crate::plane::Bench;
use crate::relay::reference;
use crate::replay::Replay;
use crate::{Args, Failure, Verdict, median, mhz, round3, spread};
use serde_json::json;
use std::time::Duration;

/// Streams that the smallest region here has room for.
const LEAST: u32 = 1024;

/// Packets in a burst of the reference, testpmd's io: more gave it nothing.
const BURST: u16 = 32;

/// Runs the cases.
pub fn run(args: &Args, seconds: f64) -> Result<Verdict, Failure> {
    let few = [100, 1_000, 10_000, 100_000, 1_000_000];
    let all = [
        100, 300, 1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000,
    ];
    let cases: &[u32] = if args.full { &all } else { &few };
    let mhz = mhz();
    let smallest = Bench::new(args, Family::Ipv4, LEAST)?;
    smallest.install(2, true)?;
    let least = smallest.region_bytes()?;
    drop(smallest);
    let mut verdict = Verdict::Measured;
    args.heading(&format!(
        "{:>9} {:>8} {:>8} {:>10} {:>16} {:>16} {:>14}",
        "streams",
        "Mpps",
        "io Mpps",
        "cycles",
        "cycles above io",
        "bytes a stream",
        "us to install"
    ));
    for &streams in cases {
        let load = Load {
            streams,
            family: Family::Ipv4,
            size: 214,
            order: Order::Mixed,
        };
        let replay = Replay::new(args, load, Duration::from_secs_f64(seconds))?;
        let (mut ours, mut io) = (Vec::new(), Vec::new());
        let (mut ratios, mut above) = (Vec::new(), Vec::new());
        for _ in 0..args.rounds {
            let (theirs, mpps) = (reference(&replay, "io", BURST)?, replay.plane()?);
            above.push(mhz / mpps - mhz / theirs);
            ratios.push(mpps / theirs);
            ours.push(mpps);
            io.push(theirs);
        }
        let per_stream = 1.0 / f64::from(streams);
        let bytes = replay.bench.region_bytes()?.saturating_sub(least) as f64
            / f64::from(streams.saturating_sub(LEAST));
        let bytes = (streams >= 8 * LEAST).then_some(bytes.round());
        let install_us = replay.installed_in.as_secs_f64() * 1e6 * per_stream;
        let (mpps, cycles) = (median(&ours), mhz / median(&ours));
        args.case(
            json!({
                "bench": "scale", "streams": streams, "family": "ipv4", "size": 214, "mpps": round3(mpps), "cycles": round3(cycles),
                "reference": "io", "reference_mpps": round3(median(&io)), "ratio": round3(median(&ratios)), "clocked": replay.is_clocked(),
                "reference_spread": round3(spread(&io)), "cycles_above_io": round3(median(&above)),
                "bytes_per_stream": bytes, "install_us": round3(install_us),
            }),
            &format!(
                "{streams:>9} {mpps:>8.2} {:>8.2} {cycles:>10.1} {:>16.1} {:>16} {install_us:>14.2}",
                median(&io),
                median(&above),
                bytes.map_or_else(String::new, |bytes| bytes.to_string()),
            ),
        )?;
        if spread(&io) > 0.2 {
            verdict = Verdict::Inconclusive;
        }
    }
    Ok(verdict)
}
