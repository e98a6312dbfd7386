//! `memif`: the plane under calls whose sequence numbers advance, from a generator on another core, over shared memory,
//! against testpmd's 5tswap over the same wire.
//!
//! A rate is tried for some tenths of a second. It passes when one of up to three trials loses no more than is allowed: a
//! shared machine stalls, and what a stall loses says nothing of who was stalled. Rates are sought to 2 %. What 5tswap
//! answers goes back to the sender, so only the plane's packets are held to their addresses.
//!
//! A round of the plane is void unless its counts, its meters and the generator's counts agree to the last packet, and all that
//! was relayed came once, in order and unchanged; one of 5tswap, unless what came did so once, in order and unchanged.

mod search;

use crate::capture::{Family, Load, NEIGHBOUR_MAC, OUR_MAC, Order, Stream};
use crate::generator::{self, Flow, Generator, Latency, Setup, Trial};
use crate::plane::{Bench, Totals};
use crate::process::Process;
use crate::testpmd::Testpmd;
use crate::{Args, Failure, Verdict, cpu, median, round3, spread};
use search::{Found, highest};
use serde_json::{Value, json};
use std::time::Duration;

/// Trials of a latency, of which one has to lose nothing.
const LATENCY_CHANCES: usize = 5;

/// Packets of testpmd: caches, and what is under way.
const MBUFS: u32 = 65_535;
/// MiB for the generator's packets.
const MEMORY_MB: u32 = 512;
/// A rate that everybody can do, to warm up with.
const GENTLE_PPS: f64 = 100_000.0;
/// The part that may be lost at the second rate.
const TENTH: f64 = 0.001;
/// Timestamps go on by 20 ms a packet, however fast a stream's packets follow each other. Where fewer streams than this take
/// turns, they come less than a tick of the clock apart, all of the 20 ms early, which is a delay variation that has to be
/// counted, the long way. These streams have no clock then, by which the same instructions find no variation.
const CLOCKED: u32 = 2_000;
/// Steps of a search without and with an earlier round's result.
const STEP: f64 = 1.2;
const SMALL_STEP: f64 = 1.04;

/// The cases to measure: `full`, or by the lists that are not empty, or the default one.
pub fn cases(full: bool, streams: &[u32], families: &[Family], size: usize) -> Vec<Load> {
    fn or<'a, T>(given: &'a [T], all: &'a [T], full: bool) -> &'a [T] {
        match (given, full) {
            ([], true) => all,
            ([], false) => &all[..1],
            _ => given,
        }
    }
    let streams = or(streams, &[2_000, 200, 40_000], full);
    let families = or(families, &[Family::Ipv4, Family::Ipv6], full);
    let of = |&family| {
        let load = move |&streams| Load {
            streams,
            family,
            size,
            order: Order::Mixed,
        };
        streams.iter().map(load)
    };
    families.iter().flat_map(of).collect()
}

/// Runs all cases.
pub fn run(args: &Args, cases: &[Load], seconds: f64) -> Result<Verdict, Failure> {
    let mut verdict = Verdict::Measured;
    args.heading(&format!(
        "{:>7} {:>6} {:>22} {:>6} {:>7} {:>22} {:>6} {:>24} {:>24} {:>7} {:>10}",
        "streams",
        "family",
        "no loss, 5tswap: Mpps",
        "ratio",
        "spread",
        "0.1 %, 5tswap: Mpps",
        "ratio",
        "us: median, p99, p99.9",
        "5tswap us",
        "stolen",
        "generator"
    ));
    for &load in cases {
        let case = Case::new(args, load, Duration::from_secs_f64(seconds))?;
        let generator_pps = case.generator_alone()?;
        let rounds = case.rounds(args.rounds)?;
        let report = Report {
            load,
            generator_pps,
            rounds,
        };
        args.case(report.json(), &report.line())?;
        if report.is_by_generator() || spread(&report.of(|r| r.reference.lossless.pps)) > 0.2 {
            verdict = Verdict::Inconclusive;
        }
    }
    Ok(verdict)
}

/// What one side did in a round.
struct Figures {
    lossless: Found,
    /// With at most a thousandth lost.
    tenth: Found,
    /// At half the plane's lossless rate.
    latency: Latency,
}

struct Round {
    plane: Figures,
    reference: Figures,
}

impl Round {
    /// By how much the plane's latencies are above the reference's.
    fn added_us(&self) -> [f64; 3] {
        let (ours, theirs) = (self.plane.latency.parts(), self.reference.latency.parts());
        std::array::from_fn(|at| ours[at] - theirs[at])
    }
}

/// Who relays.
enum Relay {
    Plane(Process, Totals),
    Reference(Testpmd),
}

struct Case {
    bench: Bench,
    load: Load,
    time: Duration,
    /// The generator's, and who relays.
    cores: (usize, usize),
    flows: Vec<Flow>,
}

impl Case {
    fn new(args: &Args, load: Load, time: Duration) -> Result<Case, Failure> {
        load.check(600_000, generator::least(load.family))?;
        let Load {
            streams,
            family,
            order,
            ..
        } = load;
        let bench = Bench::new(args, family, streams)?;
        bench.install(streams, streams >= CLOCKED)?;
        let flow = |number| {
            let stream = Stream { number, family };
            let peer = stream.peer();
            Flow {
                from: stream.remote(),
                to: stream.local(),
                arrives_from: peer.local(),
                arrives_at: peer.remote(),
            }
        };
        Ok(Case {
            bench,
            load,
            time,
            cores: cpu::cores(args)?,
            flows: order.of(streams).map(flow).collect(),
        })
    }

    fn device(&self, role: &str) -> String {
        format!(
            "net_memif0,role={role},rsize=13,socket-abstract=no,socket={}",
            self.bench.file("memif").display()
        )
    }

    /// The wire's end for who is there first. A process that was killed leaves its socket.
    fn server(&self) -> String {
        let _ = std::fs::remove_file(self.bench.file("memif"));
        self.device("server")
    }

    fn plane(&self) -> Result<Relay, Failure> {
        let before = Totals::of(&self.bench.table()?);
        let plane = self.bench.start(&self.server(), "busy")?;
        Ok(Relay::Plane(plane, before))
    }

    fn reference(&self, mode: &str) -> Result<Relay, Failure> {
        let (memory, device) = (self.bench.eal_memory(), self.server());
        let testpmd = Testpmd::start(
            &self.bench.file(""),
            &memory,
            self.cores,
            &device,
            mode,
            64,
            MBUFS,
        )?;
        Ok(Relay::Reference(testpmd))
    }

    /// Packets a second that the generator gets back from who does nothing but send them back, but for a thousandth.
    fn generator_alone(&self) -> Result<f64, Failure> {
        let mut session = Session::start(self, self.reference("io")?)?;
        let from = session.most()?;
        let found = highest(TENTH, from, STEP, |pps| session.trial(pps))?;
        session.end(self)?;
        Ok(found.pps)
    }

    fn rounds(&self, count: usize) -> Result<Vec<Round>, Failure> {
        let mut rounds: Vec<Round> = Vec::new();
        for _ in 0..count {
            let last = rounds.last();
            let plane = self.side(self.plane()?, last.map(|r| &r.plane), None)?;
            let half = plane.lossless.pps / 2.0;
            let reference = self.reference("5tswap")?;
            let reference = self.side(reference, last.map(|r| &r.reference), Some(half))?;
            rounds.push(Round { plane, reference });
        }
        Ok(rounds)
    }

    /// One side's turn: its latency at `half` packets a second, or at half of what it does without loss.
    fn side(
        &self,
        relay: Relay,
        last: Option<&Figures>,
        half: Option<f64>,
    ) -> Result<Figures, Failure> {
        let mut session = Session::start(self, relay)?;
        let (from, step) = match last {
            Some(figures) => (figures.lossless.pps, SMALL_STEP),
            None => (session.most()?, STEP),
        };
        let lossless = highest(0.0, from, step, |pps| session.trial(pps))?;
        let from = last.map_or(lossless.pps, |figures| figures.tenth.pps);
        let from = from.max(lossless.pps);
        let tenth = highest(TENTH, from, SMALL_STEP, |pps| session.trial(pps))?;
        // What loses nothing loses no more than a thousandth.
        let tenth = if tenth.pps > lossless.pps {
            tenth
        } else {
            lossless
        };
        let latency = session.latency(half.unwrap_or(lossless.pps / 2.0))?;
        session.end(self)?;
        Ok(Figures {
            lossless,
            tenth,
            latency,
        })
    }
}

/// A generator and who relays what it sends, and what became of all its packets.
struct Session {
    generator: Generator,
    relay: Relay,
    time: Duration,
    sent: u64,
    received: u64,
}

impl Session {
    fn start(case: &Case, relay: Relay) -> Result<Session, Failure> {
        let generator = Generator::start(&Setup {
            device: &case.device("client"),
            core: case.cores.0,
            dir: case.bench.file("memif").parent().unwrap_or("/tmp".as_ref()),
            mac: NEIGHBOUR_MAC,
            peer_mac: OUR_MAC,
            flows: &case.flows,
            size: case.load.size,
            memory_mb: MEMORY_MB,
            checked: matches!(relay, Relay::Plane(..)),
        })?;
        let mut session = Session {
            generator,
            relay,
            time: case.time,
            sent: 0,
            received: 0,
        };
        session.trial(GENTLE_PPS)?;
        Ok(session)
    }

    /// Packets a second that come back of more than can.
    fn most(&mut self) -> Result<f64, Failure> {
        let trial = self.trial(f64::INFINITY)?;
        Ok((trial.received as f64 / trial.seconds).max(GENTLE_PPS))
    }

    fn trial(&mut self, pps: f64) -> Result<Trial, Failure> {
        let trial = self.generator.run(pps, self.time)?;
        self.sent += trial.sent;
        self.received += trial.received;
        if trial.out_of_order + trial.repeated + trial.wrong > 0 || trial.received == 0 {
            return Err(match self.relay {
                Relay::Plane(..) => Failure::Void(format!("{trial:?}")),
                Relay::Reference(_) => Failure::Environment(format!("dpdk-testpmd: {trial:?}")),
            });
        }
        Ok(trial)
    }

    /// What packets take at a rate, if none is lost: what was lost took longest.
    fn latency(&mut self, pps: f64) -> Result<Latency, Failure> {
        for _ in 0..LATENCY_CHANCES {
            let trial = self.trial(pps)?;
            if trial.lost == 0 {
                return Ok(trial.latency_us);
            }
        }
        let problem = "packets are lost at half the rate that lost none: is anything else running?";
        Err(Failure::Environment(problem.into()))
    }

    /// Ends both, and holds the plane's counts to the generator's.
    fn end(self, case: &Case) -> Result<(), Failure> {
        drop(self.generator);
        let (plane, old) = match self.relay {
            Relay::Plane(plane, old) => (plane, old),
            Relay::Reference(testpmd) => {
                drop(testpmd);
                return Ok(());
            }
        };
        plane.stop()?;
        let new = Totals::of(&case.bench.table()?);
        let drops = |totals: &Totals, wanted: fn(&str) -> bool| {
            let some = totals.dropped.iter().filter(|(name, _)| wanted(name));
            some.map(|(_, count)| count).sum::<u64>()
        };
        let (received, forwarded, metered) = (
            new.received - old.received,
            new.sent - old.sent,
            new.metered - old.metered,
        );
        let dropped = drops(&new, |_| true) - drops(&old, |_| true);
        let is_full = |name: &str| name == "tx-full";
        let full = drops(&new, is_full) - drops(&old, is_full);
        let is_right = received == self.sent
            && received == forwarded + dropped
            && dropped == full
            && metered == received
            && forwarded == self.received;
        if is_right {
            return Ok(());
        }
        Err(Failure::Void(format!(
            "the generator sent {} and got {}; the plane received {received}, metered {metered}, forwarded {forwarded} and \
             dropped before and after {:?} {:?}",
            self.sent, self.received, old.dropped, new.dropped
        )))
    }
}

struct Report {
    load: Load,
    generator_pps: f64,
    rounds: Vec<Round>,
}

impl Report {
    fn of(&self, f: fn(&Round) -> f64) -> Vec<f64> {
        self.rounds.iter().map(f).collect()
    }

    fn median(&self, f: fn(&Round) -> f64) -> f64 {
        round3(median(&self.of(f)))
    }

    /// In most rounds, one of the two did as much as the generator offered.
    fn is_by_generator(&self) -> bool {
        let by = |round: &&Round| {
            round.plane.lossless.by_generator || round.reference.lossless.by_generator
        };
        2 * self.rounds.iter().filter(by).count() > self.rounds.len()
    }

    fn json(&self) -> Value {
        let latency = |of: fn(&Round) -> [f64; 3]| {
            let part = |at: usize| {
                let all: Vec<f64> = self.rounds.iter().map(|r| of(r)[at]).collect();
                round3(median(&all))
            };
            json!({ "median": part(0), "p99": part(1), "p999": part(2) })
        };
        let mut case = json!({
            "bench": "memif", "clocked": self.load.streams >= CLOCKED, "streams": self.load.streams, "family": self.load.family.name(), "size": self.load.size,
            "mpps": self.median(|r| r.plane.lossless.pps / 1e6),
            "reference": "5tswap", "reference_mpps": self.median(|r| r.reference.lossless.pps / 1e6),
            "ratio": self.median(|r| r.plane.lossless.pps / r.reference.lossless.pps),
            "reference_spread": round3(spread(&self.of(|r| r.reference.lossless.pps))),
            "mpps_tenth_percent": self.median(|r| r.plane.tenth.pps / 1e6),
            "reference_mpps_tenth_percent": self.median(|r| r.reference.tenth.pps / 1e6),
            "ratio_tenth_percent": self.median(|r| r.plane.tenth.pps / r.reference.tenth.pps),
            "stolen": self.median(|r| r.plane.lossless.stolen),
            "reference_stolen": self.median(|r| r.reference.lossless.stolen),
            "latency_mpps": self.median(|r| r.plane.lossless.pps / 2e6),
            "latency_us": latency(|r| r.plane.latency.parts()),
            "reference_latency_us": latency(|r| r.reference.latency.parts()),
            "added_latency_us": latency(Round::added_us),
            "generator_mpps": round3(self.generator_pps / 1e6),
        });
        if self.is_by_generator() {
            case["limited_by"] = "generator".into();
        }
        case
    }

    fn line(&self) -> String {
        let two = |f: fn(&Figures) -> f64| {
            let ours: Vec<f64> = self.rounds.iter().map(|r| f(&r.plane)).collect();
            let theirs: Vec<f64> = self.rounds.iter().map(|r| f(&r.reference)).collect();
            (median(&ours), median(&theirs))
        };
        let latency = |pick: fn(&(f64, f64)) -> f64| {
            let parts = [
                two(|f| f.latency.median),
                two(|f| f.latency.p99),
                two(|f| f.latency.p999),
            ];
            parts.map(|both| format!("{:>7.1}", pick(&both))).join(" ")
        };
        let (lossless, tenth) = (two(|f| f.lossless.pps / 1e6), two(|f| f.tenth.pps / 1e6));
        format!(
            "{:>7} {:>6} {:>11.2} {:>10.2} {:>6.3} {:>6.0}% {:>11.2} {:>10.2} {:>6.3} {:>24} {:>24} {:>6.1}% {:>5.2} Mpps{}",
            self.load.streams,
            self.load.family.name(),
            lossless.0,
            lossless.1,
            self.median(|r| r.plane.lossless.pps / r.reference.lossless.pps),
            100.0 * spread(&self.of(|r| r.reference.lossless.pps)),
            tenth.0,
            tenth.1,
            self.median(|r| r.plane.tenth.pps / r.reference.tenth.pps),
            latency(|both| both.0),
            latency(|both| both.1),
            100.0 * self.median(|r| r.plane.lossless.stolen),
            self.generator_pps / 1e6,
            if self.is_by_generator() {
                ": the limit"
            } else {
                ""
            },
        )
    }
}
