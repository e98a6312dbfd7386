//! `commands`: how fast control can have streams installed.

use crate::capture::{Family, Stream};
use crate::plane::{Bench, spec};
use crate::{Args, Failure, Verdict, median, round3, spread};
use penstock_shm::{Kind, Op};
use serde_json::json;
use std::time::Instant;

/// Streams of a call: RTP and RTCP, two legs.
const PER_CALL: u32 = 4;

/// Installs and removes so many streams, again and again.
pub fn run(args: &Args, streams: u32) -> Result<Verdict, Failure> {
    let streams = streams / PER_CALL * PER_CALL;
    let bench = Bench::new(args, Family::Ipv4, 2 * streams)?;
    let plane = bench.start("net_ring0", "adaptive")?;
    let mut link = bench.attach()?;
    let mut rates = Vec::new();
    for round in 0..args.rounds {
        let calls: Vec<(u64, Vec<Op>)> = (0..streams / PER_CALL)
            .map(|call| install(round, call))
            .collect();
        let start = Instant::now();
        let mut last = 0;
        for (call, ops) in &calls {
            last = link.push(*call, ops)?;
        }
        link.wait(last)?;
        rates.push(f64::from(streams) / start.elapsed().as_secs_f64());
        let live = bench.table()?.info().counts.live;
        if live != streams {
            return Err(Failure::Void(format!(
                "{live} streams stand, {streams} were installed"
            )));
        }
        remove(&mut link, &bench, &calls)?;
    }
    plane.stop()?;
    let rate = median(&rates);
    let spread = spread(&rates);
    args.case(
        json!({ "bench": "commands", "streams": streams, "installs_per_s": rate.round(), "spread": round3(spread) }),
        &format!(
            "{rate:.0} stream installations a second, median of {} rounds of {streams}, spread {:.0} %",
            args.rounds,
            100.0 * spread
        ),
    )?;
    Ok(Verdict::Measured)
}

fn install(round: usize, call: u32) -> (u64, Vec<Op>) {
    let ops = (0..PER_CALL).map(|n| {
        let mut spec = spec(Stream {
            number: call * PER_CALL + n,
            family: Family::Ipv4,
        });
        spec.kind = if n < 2 { Kind::Rtp } else { Kind::Rtcp };
        Op::Set(spec)
    });
    ((round as u64) << 32 | u64::from(call), ops.collect())
}

/// Ends the streams, and gives their records back.
fn remove(
    link: &mut crate::plane::Link,
    bench: &Bench,
    calls: &[(u64, Vec<Op>)],
) -> Result<(), Failure> {
    let mut last = 0;
    for (call, ops) in calls {
        let ends: Vec<Op> = ops
            .iter()
            .filter_map(|op| match op {
                Op::Set(spec) => Some(Op::Remove(spec.endpoint)),
                _ => None,
            })
            .collect();
        last = link.push(*call, &ends)?;
    }
    link.wait(last)?;
    let ended: Vec<_> = bench
        .table()?
        .iter()
        .filter(|s| s.ended)
        .map(|s| Op::Acknowledge {
            number: s.number,
            generation: s.generation,
        })
        .collect();
    for ops in ended.chunks(256) {
        last = link.push(0, ops)?;
    }
    link.wait(last)
}
