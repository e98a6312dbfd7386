//! The plane's side of a comparison by throughput: streams installed through the region, and a capture of their
//! packets relayed over `net_pcap` as fast as it goes.

use crate::capture::{self, Load};
use crate::plane::{Bench, Totals, forwarded};
use crate::{Args, Failure, cpu};
use std::time::{Duration, Instant};

/// Before a rate is measured.
pub const WARM_UP: Duration = Duration::from_millis(500);

/// Streams at most.
const MOST: u32 = 1_000_000;

/// A replay repeats timestamps. Where more streams than this take turns, a packet comes tens of milliseconds after the same
/// one, which to a stream with a clock is a delay variation that has to be counted, the long way; in a live stream timestamps
/// go on. These streams have no clock then, by which the same instructions find no variation.
const CLOCKED: u32 = 50_000;

/// A case: the plane's folder with the streams installed, and the capture.
pub struct Replay {
    pub bench: Bench,
    pub load: Load,
    /// That a round measures.
    pub time: Duration,
    /// CPU for everything else, and the worker's.
    pub cores: (usize, usize),
    /// How long the installation took, from the first push to applied by the plane.
    pub installed_in: Duration,
}

impl Replay {
    /// Writes the capture, installs the streams.
    pub fn new(args: &Args, load: Load, time: Duration) -> Result<Replay, Failure> {
        load.check(MOST, load.family.least())?;
        let cores = cpu::cores(args)?;
        let bench = Bench::new(args, load.family, load.streams)?;
        capture::write(&bench.file("in.pcap"), load, 1)?;
        let mut replay = Replay {
            bench,
            load,
            time,
            cores,
            installed_in: Duration::ZERO,
        };
        replay.installed_in = replay.bench.install(load.streams, replay.is_clocked())?;
        Ok(replay)
    }

    /// Whether the streams have a clock, by which jitter is known.
    pub fn is_clocked(&self) -> bool {
        self.load.streams <= CLOCKED
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
        capture::check(&output, self.load, 1).map_err(Failure::Void)
    }

    /// The port that replays the capture.
    pub fn device(&self) -> String {
        format!(
            "net_pcap0,rx_pcap={},infinite_rx=1",
            self.bench.file("in.pcap").display()
        )
    }

    /// One round of the plane. It is void unless one lap comes out right, and every packet received was
    /// sent and metered.
    pub fn plane(&self) -> Result<f64, Failure> {
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

/// Millions of packets per second.
pub fn mpps(packets: u64, time: Duration) -> f64 {
    packets as f64 / time.as_secs_f64() / 1e6
}
