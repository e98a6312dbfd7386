//! `relay`: the plane against testpmd's 5tswap, which makes the same rewrite with no table at all.

use crate::capture::{self, Family};
use crate::plane::{Bench, Totals, forwarded};
use crate::testpmd::Testpmd;
use crate::{Args, Failure, Verdict, median, mhz, round3, spread};
use serde_json::json;
use std::time::{Duration, Instant};

/// testpmd's packets besides those of the capture: its queues and caches.
const MBUFS: u32 = 115_000;
const WARM_UP: Duration = Duration::from_millis(500);

/// What is relayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    streams: u32,
    family: Family,
    /// Bytes of a frame.
    size: usize,
}

/// The cases to measure: `full`, or by the lists that are not empty, or the default ones.
pub fn cases(full: bool, streams: &[u32], families: &[Family], sizes: &[usize]) -> Vec<Load> {
    let load = |streams, family, size: usize| Load {
        streams,
        family,
        size,
    };
    if !full && streams.is_empty() && families.is_empty() && sizes.is_empty() {
        let v4 = [200, 2_000, 40_000].map(|streams| load(streams, Family::Ipv4, 214));
        return [&v4[..], &[load(2_000, Family::Ipv6, 214)]].concat();
    }
    fn or<'a, T>(given: &'a [T], all: &'a [T], full: bool) -> &'a [T] {
        match (given, full) {
            ([], true) => all,
            ([], false) => &all[..1],
            _ => given,
        }
    }
    let streams = or(streams, &[2_000, 200, 40_000, 400_000], full);
    let families = or(families, &[Family::Ipv4, Family::Ipv6], full);
    let sizes = or(sizes, &[214, 60, 1400], full);
    let sized = |family: Family| {
        let size = move |size: &usize| (family, (*size).max(family.least()));
        sizes.iter().map(size)
    };
    let kinds = families.iter().flat_map(|&family| sized(family));
    kinds
        .flat_map(|(family, size)| streams.iter().map(move |&n| load(n, family, size)))
        .collect()
}

/// Runs all cases.
pub fn run(args: &Args, cases: &[Load], seconds: f64) -> Result<Verdict, Failure> {
    let mut verdict = Verdict::Measured;
    let mhz = mhz()?;
    args.heading(&format!(
        "{:>9} {:>6} {:>5} {:>9} {:>12} {:>7} {:>8} {:>9} {:>16}",
        "streams",
        "family",
        "size",
        "Mpps",
        "5tswap Mpps",
        "ratio",
        "spread",
        "io Mpps",
        "cycles above io"
    ));
    for &load in cases {
        let case = Case::new(args, load, Duration::from_secs_f64(seconds))?;
        let rounds = case.rounds(args.rounds)?;
        let of = |f: fn(&Round) -> f64| rounds.iter().map(f).collect::<Vec<f64>>();
        let (ours, theirs, io) = (of(|r| r.plane), of(|r| r.reference), of(|r| r.io));
        let (ratios, ns_above) = (of(|r| r.plane / r.reference), of(Round::ns_above_io));
        let cycles_above = median(&ns_above) * mhz / 1000.0;
        let Load {
            streams,
            family,
            size,
        } = load;
        args.case(
            json!({
                "bench": "relay", "streams": streams, "family": family.name(), "size": size,
                "mpps": round3(median(&ours)), "reference": "5tswap", "reference_mpps": round3(median(&theirs)),
                "ratio": round3(median(&ratios)), "reference_spread": round3(spread(&theirs)),
                "io_mpps": round3(median(&io)), "cycles_above_io": round3(cycles_above),
            }),
            &format!(
                "{streams:>9} {:>6} {size:>5} {:>9.2} {:>12.2} {:>7.3} {:>7.0}% {:>9.2} {:>16.1}",
                family.name(),
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

struct Case {
    bench: Bench,
    load: Load,
    time: Duration,
    cores: (usize, usize),
}

impl Case {
    fn new(args: &Args, load: Load, time: Duration) -> Result<Case, Failure> {
        let Load {
            streams,
            family,
            size,
        } = load;
        if streams == 0
            || !streams.is_multiple_of(2)
            || streams > 600_000
            || !(family.least()..=1514).contains(&size)
        {
            return Err(Failure::Environment(format!(
                "streams must be even, at most 600000; size {} to 1514 with {}",
                family.least(),
                family.name()
            )));
        }
        let main = (0..).find(|&c| c != args.core).unwrap_or(0);
        let bench = Bench::new(args, family, streams)?;
        let case = Case {
            bench,
            load,
            time,
            cores: (main, args.core),
        };
        capture::write(&case.bench.file("in.pcap"), family, streams, size)?;
        case.bench.install(streams)?;
        Ok(case)
    }

    /// Relays the capture once, to a file, and looks at every packet.
    fn check_one_lap(&self) -> Result<(), Failure> {
        let (input, output) = (self.bench.file("in.pcap"), self.bench.file("out.pcap"));
        let device = format!(
            "net_pcap0,rx_pcap={},tx_pcap={}",
            input.display(),
            output.display()
        );
        let before = forwarded(&self.bench.table()?);
        let plane = self.bench.start(&device, "adaptive")?;
        let table = self.bench.table()?;
        let end = Instant::now() + Duration::from_secs(30);
        while forwarded(&table) < before + u64::from(self.load.streams) && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(10));
        }
        plane.stop()?;
        let Load {
            streams,
            family,
            size,
        } = self.load;
        capture::check(&output, family, streams, size).map_err(Failure::Void)
    }

    fn rounds(&self, count: usize) -> Result<Vec<Round>, Failure> {
        let burst = self.best_burst_of_reference()?;
        (0..count)
            .map(|_| {
                Ok(Round {
                    io: self.reference("io", burst)?,
                    reference: self.reference("5tswap", burst)?,
                    plane: self.plane()?,
                })
            })
            .collect()
    }

    /// By two trials of each: a single one may meet a hiccup of the machine.
    fn best_burst_of_reference(&self) -> Result<u16, Failure> {
        let mut best = (0.0, 0);
        for burst in [32, 64, 32, 64] {
            let mpps = self.reference("5tswap", burst)?;
            if mpps > best.0 {
                best = (mpps, burst);
            }
        }
        Ok(best.1)
    }

    fn device(&self) -> String {
        format!(
            "net_pcap0,rx_pcap={},infinite_rx=1",
            self.bench.file("in.pcap").display()
        )
    }

    fn reference(&self, mode: &str, burst: u16) -> Result<f64, Failure> {
        let (memory, device) = (self.bench.eal_memory(), self.device());
        let mbufs = self.load.streams + MBUFS;
        let mut testpmd = Testpmd::start(&memory, self.cores, &device, mode, burst, mbufs)?;
        std::thread::sleep(WARM_UP);
        let (start, before) = (Instant::now(), testpmd.sent()?);
        std::thread::sleep(self.time);
        let (end, after) = (Instant::now(), testpmd.sent()?);
        Ok(mpps(after - before, end - start))
    }

    /// One round of the plane. It is void unless one lap comes out right, and every packet received was
    /// sent and metered.
    fn plane(&self) -> Result<f64, Failure> {
        self.check_one_lap()?;
        let old = Totals::of(&self.bench.table()?);
        let plane = self.bench.start(&self.device(), "busy")?;
        let table = self.bench.table()?;
        std::thread::sleep(WARM_UP);
        let (start, before) = (Instant::now(), forwarded(&table));
        std::thread::sleep(self.time);
        let (end, after) = (Instant::now(), forwarded(&table));
        plane.stop()?;

        let new = Totals::of(&table);
        let (received, sent, metered) = (
            new.received - old.received,
            new.sent - old.sent,
            new.metered - old.metered,
        );
        if received != sent || metered != sent || new.dropped != old.dropped || sent == 0 {
            let problem = format!(
                "received {received}, sent {sent}, metered {metered}, dropped before and after {:?} {:?}",
                old.dropped, new.dropped
            );
            return Err(Failure::Void(problem));
        }
        Ok(mpps(after - before, end - start))
    }
}

fn mpps(packets: u64, time: Duration) -> f64 {
    packets as f64 / time.as_secs_f64() / 1e6
}
