//! `relay`: the plane against testpmd's 5tswap, which makes the same rewrite with no table at all.

use crate::capture::{self, Stream};
use crate::plane::{Bench, spec};
use crate::testpmd::Testpmd;
use crate::{Args, Failure, Verdict, median, spread};
use penstock_shm::{Op, TableView};
use serde_json::json;
use std::time::{Duration, Instant};

/// testpmd's packets: as many as a capture needs, and its queues.
const MBUFS: u32 = 155_000;
const WARM_UP: Duration = Duration::from_millis(500);

/// Runs all cases.
pub fn run(args: &Args, streams: &[u32], size: usize, seconds: f64) -> Result<Verdict, Failure> {
    let mut verdict = Verdict::Measured;
    if !args.json {
        println!(
            "{:>9} {:>9} {:>12} {:>7} {:>8}",
            "streams", "Mpps", "5tswap Mpps", "ratio", "spread"
        );
    }
    for &streams in streams {
        let case = Case::new(args, streams, size, Duration::from_secs_f64(seconds))?;
        let rounds = case.rounds(args.rounds)?;
        let of = |f: fn(&Round) -> f64| rounds.iter().map(f).collect::<Vec<f64>>();
        let (ours, theirs, ratios) = (
            of(|r| r.plane),
            of(|r| r.reference),
            of(|r| r.plane / r.reference),
        );
        if args.json {
            println!(
                "{}",
                json!({
                    "bench": "relay", "streams": streams,
                    "mpps": round3(median(&ours)), "reference": "5tswap", "reference_mpps": round3(median(&theirs)),
                    "ratio": round3(median(&ratios)),
                })
            );
        } else {
            println!(
                "{streams:>9} {:>9.2} {:>12.2} {:>7.3} {:>7.0}%",
                median(&ours),
                median(&theirs),
                median(&ratios),
                100.0 * spread(&theirs)
            );
        }
        if spread(&theirs) > 0.2 {
            verdict = Verdict::Inconclusive;
        }
    }
    Ok(verdict)
}

fn round3(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

/// Millions of packets per second.
struct Round {
    plane: f64,
    reference: f64,
}

struct Case {
    bench: Bench,
    streams: u32,
    size: usize,
    time: Duration,
    cores: (usize, usize),
}

impl Case {
    fn new(args: &Args, streams: u32, size: usize, time: Duration) -> Result<Case, Failure> {
        if streams == 0
            || !streams.is_multiple_of(2)
            || streams > 600_000
            || !(74..=1514).contains(&size)
        {
            return Err(Failure::Environment(
                "streams must be even, at most 600000; size 74 to 1514".into(),
            ));
        }
        let main = (0..).find(|&c| c != args.core).unwrap_or(0);
        let bench = Bench::new(args, streams)?;
        let case = Case {
            bench,
            streams,
            size,
            time,
            cores: (main, args.core),
        };
        capture::write(&case.bench.file("in.pcap"), streams, size)?;
        case.install()?;
        Ok(case)
    }

    /// Installs the streams through the region. The plane then stops; whoever starts next resumes them, so
    /// that not one packet meets a half-filled table.
    fn install(&self) -> Result<(), Failure> {
        let plane = self.bench.start("net_ring0", "adaptive")?;
        let mut link = self.bench.attach()?;
        let mut last = 0;
        for first in (0..self.streams).step_by(2) {
            let ops = [
                Op::Set(spec(Stream(first))),
                Op::Set(spec(Stream(first + 1))),
            ];
            last = link.push(u64::from(first), &ops)?;
        }
        link.wait(last)?;
        plane.stop()
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
        while forwarded(&table) < before + u64::from(self.streams) && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(10));
        }
        plane.stop()?;
        capture::check(&output, self.streams, self.size).map_err(Failure::Void)
    }

    fn rounds(&self, count: usize) -> Result<Vec<Round>, Failure> {
        let burst = self.best_burst_of_reference()?;
        (0..count)
            .map(|_| {
                Ok(Round {
                    reference: self.reference(burst)?,
                    plane: self.plane()?,
                })
            })
            .collect()
    }

    /// By two trials of each: a single one may meet a hiccup of the machine.
    fn best_burst_of_reference(&self) -> Result<u16, Failure> {
        let mut best = (0.0, 0);
        for burst in [32, 64, 32, 64] {
            let mpps = self.reference(burst)?;
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

    fn reference(&self, burst: u16) -> Result<f64, Failure> {
        let memory = self.bench.eal_memory();
        let mut testpmd =
            Testpmd::start(&memory, self.cores, &self.device(), "5tswap", burst, MBUFS)?;
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

fn forwarded(table: &TableView) -> u64 {
    table.workers().iter().map(|w| w.forwarded).sum()
}

/// What a plane has counted; it goes on counting where the last one ended.
struct Totals {
    received: u64,
    sent: u64,
    metered: u64,
    dropped: Vec<(&'static str, u64)>,
}

impl Totals {
    fn of(table: &TableView) -> Totals {
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
