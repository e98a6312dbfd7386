//! `veth`: calls over a veth pair, against rtpengine.
//!
//! In a network namespace of its own. A generator at one end of the pair is every phone; at the other end is the relay, alone
//! on its core: Penstock over `net_af_packet` or `net_af_xdp`, or rtpengine. The same client sets the same calls up over
//! ng. A relay's turn is one life of its processes: start, calls, a moment in which it learns whom media comes from, calls at
//! their real rate for the processor time, then more and more packets. The relays take turns.

mod ladder;
mod relays;
mod results;

use crate::cpu::{Time, cores};
use crate::generator::{Flow, Generator, Setup, Trial};
use crate::netns::{Namespace, frames_received};
use crate::{Args, Failure, Verdict, capture, rtpengine};
use ladder::{Found, Plan, Step};
pub use relays::Kind;
use relays::{NEAR, Relay, wire};
use results::{Cost, Rate};
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::{Duration, Instant};

/// Octets of a frame of G.711, 20 ms.
const SIZE: usize = 214;
/// Packets of a call a second, both directions.
const CALL_PPS: f64 = 100.0;
/// Calls whose packets are offered faster than calls are.
const CALLS: usize = 1000;
/// The lowest rate offered.
const FROM_PPS: f64 = 50_000.0;
/// What takes more than this has not come in time: a relay that is too slow loses nothing for seconds where a kernel's socket
/// buffers, thousands of them, take what it leaves. A packet of G.711 holds as much speech.
const IN_TIME_US: f64 = 20_000.0;
/// Both products wait 3 s from a stream's first packet on before they lock its source.
const LEARNING: Duration = Duration::from_secs(3);
const SETTLE: Duration = Duration::from_millis(300);
/// MiB for the generator's packets.
const MEMORY_MB: u32 = 256;

/// What is measured, by default and in full.
pub struct Cases {
    /// As given: none for the default ones.
    ports: Vec<Kind>,
    full: bool,
    calls: Vec<usize>,
    polling: String,
    rounds: usize,
    plan: Plan,
    trial: Duration,
    /// How long calls at their real rate are measured.
    cpu: Duration,
}

impl Cases {
    /// `full`, or what is given, or some.
    pub fn new(args: &Args, ports: &[Kind], calls: &[usize], polling: &str) -> Cases {
        let full = args.full;
        let seconds =
            |full_s: f64, some_s: f64| Duration::from_secs_f64(if full { full_s } else { some_s });
        let calls = match (calls, full) {
            ([], true) => vec![100, CALLS],
            ([], false) => vec![CALLS],
            _ => calls.to_vec(),
        };
        Cases {
            ports: ports.to_vec(),
            full,
            calls,
            polling: polling.to_owned(),
            rounds: if full {
                args.rounds
            } else {
                args.rounds.min(3)
            },
            plan: Plan {
                from: FROM_PPS,
                most: FROM_PPS,
                steps: if full { 10 } else { 6 },
                halvings: if full { 5 } else { 3 },
                tries: 3,
            },
            trial: seconds(2.0, 0.5),
            cpu: seconds(5.0, 2.0),
        }
    }

    /// The ports to measure, where the drivers of some do not start.
    fn ports(&self, missing: &[(Kind, String)]) -> Vec<Kind> {
        if !self.ports.is_empty() {
            return self.ports.clone();
        }
        let starts = |kind: &Kind| missing.iter().all(|(other, _)| other != kind);
        let best_first = [Kind::AfXdp, Kind::AfPacket].into_iter().filter(starts);
        best_first.take(if self.full { 2 } else { 1 }).collect()
    }
}

/// Measures all cases.
pub fn run(args: &Args, cases: &Cases) -> Result<Verdict, Failure> {
    let version = rtpengine::version()?;
    let _namespace = Namespace::enter()?;
    let _wire = wire()?;
    let mut lab = Lab {
        args,
        cases,
        ports: Vec::new(),
        core: cores(args)?.0,
        device: String::new(),
        plan: cases.plan,
    };
    lab.choose_drivers()?;
    let mut turns = Vec::new();
    let mut relays = vec![Kind::Rtpengine];
    relays.extend(&lab.ports);
    let others = cases.calls.iter().copied().filter(|&calls| calls != CALLS);
    let calls: Vec<usize> = others.chain([CALLS]).collect();
    for _ in 0..cases.rounds {
        for &calls in &calls {
            for &kind in &relays {
                turns.push(lab.turn(kind, calls)?);
            }
        }
    }
    report(&lab, &turns, &version)
}

/// The wire with its generator.
struct Lab<'a> {
    args: &'a Args,
    cases: &'a Cases,
    ports: Vec<Kind>,
    /// The generator's.
    core: usize,
    device: String,
    plan: Plan,
}

/// One life of a relay.
struct Turn {
    kind: Kind,
    calls: usize,
    cpu: Option<Cpu>,
    found: Option<Found>,
    /// The highest part of the machine's time that its host took, of all trials.
    stolen: f64,
}

/// What a million packets relayed cost, in seconds.
#[derive(Clone, Copy)]
struct Cpu {
    /// User and system time of the relay's processes.
    process: f64,
    /// Time that their core was busy, interrupts included.
    core: f64,
    lost: u64,
}

impl Lab<'_> {
    /// Finds the generator's device that offers more, where nobody is at the other end, and the ports to measure. A driver that
    /// does not start, as with a kernel that lacks AF_XDP, is left out.
    fn choose_drivers(&mut self) -> Result<(), Failure> {
        let mut missing = Vec::new();
        let mut most = 0.0;
        for kind in [Kind::AfPacket, Kind::AfXdp] {
            let device = format!("{}9,iface={NEAR}", kind.name());
            match self.most(&device) {
                Ok(pps) if pps > most => (most, self.device) = (pps, device),
                Ok(_) => {}
                Err(Failure::Environment(why)) => {
                    let last = why.lines().next_back().unwrap_or_default();
                    missing.push((kind, last.to_owned()));
                }
                Err(other) => return Err(other),
            }
        }
        let said = missing
            .iter()
            .map(|(kind, why)| format!("{} does not start and is left out: {why}", kind.name()));
        let said = said.collect::<Vec<_>>().join("\n");
        if self.device.is_empty() {
            return Err(Failure::Environment(format!("no generator sends:\n{said}")));
        }
        if !said.is_empty() {
            eprintln!("{said}");
        }
        self.ports = self.cases.ports(&missing);
        self.plan.most = most;
        self.plan.from = FROM_PPS.min(most / 4.0);
        Ok(())
    }

    /// Packets a second that a generator offers over `device`.
    fn most(&self, device: &str) -> Result<f64, Failure> {
        let dir = tempfile::tempdir()?;
        let mut generator = self.generator(device, &sink(), dir.path())?;
        let trial = generator.run(f64::INFINITY, self.cases.trial)?;
        Ok(trial.sent as f64 / trial.seconds)
    }

    fn generator(&self, device: &str, flows: &[Flow], dir: &Path) -> Result<Generator, Failure> {
        Generator::start(&Setup {
            device,
            core: self.core,
            dir,
            mac: capture::NEIGHBOUR_MAC,
            peer_mac: capture::OUR_MAC,
            flows,
            size: SIZE,
            memory_mb: MEMORY_MB,
            checked: true,
        })
    }

    fn turn(&self, kind: Kind, calls: usize) -> Result<Turn, Failure> {
        let dir = tempfile::tempdir()?;
        let mut relay = Relay::start(self.args, kind, calls, &self.cases.polling)?;
        let flows = relay.set_up(calls)?;
        let mut generator = self.generator(&self.device, &flows, dir.path())?;
        let mut turn = Turn {
            kind,
            calls,
            cpu: None,
            found: None,
            stolen: 0.0,
        };
        let pps = CALL_PPS * calls as f64;
        // Once more after the wait: a source is locked by the packet that comes then.
        let start = Instant::now();
        generator.run(pps / 4.0, SETTLE)?;
        std::thread::sleep((LEARNING + SETTLE).saturating_sub(start.elapsed()));
        let warm = generator.run(pps / 4.0, SETTLE)?;
        relay.alive()?;
        if warm.received == 0 || warm.wrong > 0 {
            let problem = format!("{} relays nothing right: {warm:?}", kind.name());
            return Err(kind.fault(problem));
        }
        if self.cases.calls.contains(&calls) {
            turn.cpu = Some(self.cpu(&mut relay, &mut generator, &mut turn.stolen, kind, pps)?);
        }
        if calls == CALLS {
            let stolen = &mut turn.stolen;
            let plan = self.plan;
            let found =
                plan.search(|pps| self.step(&mut relay, &mut generator, stolen, kind, pps))?;
            turn.found = Some(found);
        }
        drop(generator);
        relay.end()?;
        Ok(turn)
    }

    /// What calls cost at their real rate.
    fn cpu(
        &self,
        relay: &mut Relay,
        generator: &mut Generator,
        stolen: &mut f64,
        kind: Kind,
        pps: f64,
    ) -> Result<Cpu, Failure> {
        let (before, core) = (relay.cpu_s()?, Time::of(Some(self.args.core))?);
        let trial = generator.run(pps, self.cases.cpu);
        relay.alive()?;
        let trial = trial?;
        let (after, core_after) = (relay.cpu_s()?, Time::of(Some(self.args.core))?);
        *stolen = stolen.max(trial.stolen);
        right(kind, &trial)?;
        let millions = trial.received as f64 / 1e6;
        Ok(Cpu {
            process: (after - before) / millions,
            core: core_after.since(core).busy_s() / millions,
            lost: trial.sent.saturating_sub(trial.received),
        })
    }

    /// Offers `pps` for one trial.
    fn step(
        &self,
        relay: &mut Relay,
        generator: &mut Generator,
        stolen: &mut f64,
        kind: Kind,
        pps: f64,
    ) -> Result<Step, Failure> {
        quiet()?;
        let before = frames_received(NEAR)?;
        let time = self.cases.trial;
        // What goes over the wire while there is load, not what comes when it is over.
        let watch = std::thread::spawn(move || relayed(time));
        let trial = generator.run(pps, time);
        let relayed = watch.join().expect("it does not panic")?;
        relay.alive()?;
        let trial = trial?;
        *stolen = stolen.max(trial.stolen);
        right(kind, &trial)?;
        let is_right = trial.wrong + trial.repeated + trial.out_of_order == 0;
        Ok(Step {
            offered: pps,
            sent: trial.sent as f64 / trial.seconds,
            relayed,
            passed: is_right
                && trial.sent > 0
                && trial.received == trial.sent
                && trial.latency_us.p999 <= IN_TIME_US,
            by_generator: trial.received < trial.sent
                && frames_received(NEAR)? - before >= trial.sent,
        })
    }
}

/// Flows to where nobody is.
fn sink() -> Vec<Flow> {
    let phone = |n: u32| (Ipv4Addr::from_bits(0x0a00_0002 + n), 40_000).into();
    let local = capture::Family::Ipv4.local(0);
    let flow = |n: u16| Flow {
        from: phone(n.into()),
        to: (local, 2000 + n).into(),
        arrives_from: (local, 2000 + n).into(),
        arrives_at: phone(n.into()),
    };
    (0..2 * CALLS as u16).map(flow).collect()
}

/// Packets a second that the relay sends in the middle of a trial.
fn relayed(time: Duration) -> Result<f64, Failure> {
    std::thread::sleep(time.mul_f64(0.3));
    let (start, before) = (Instant::now(), frames_received(NEAR)?);
    std::thread::sleep(time.mul_f64(0.6));
    let (end, after) = (Instant::now(), frames_received(NEAR)?);
    Ok((after - before) as f64 / (end - start).as_secs_f64())
}

/// Waits until what was queued in the last trial is through.
fn quiet() -> Result<(), Failure> {
    let end = Instant::now() + Duration::from_secs(10);
    let mut last = frames_received(NEAR)?;
    while Instant::now() < end {
        std::thread::sleep(Duration::from_millis(50));
        let now = frames_received(NEAR)?;
        if now == last {
            break;
        }
        last = now;
    }
    Ok(())
}

/// The plane may lose packets when there are too many; it may never change, repeat or reorder them.
fn right(kind: Kind, trial: &Trial) -> Result<(), Failure> {
    if kind == Kind::Rtpengine || trial.wrong + trial.repeated + trial.out_of_order == 0 {
        return Ok(());
    }
    Err(Failure::Void(format!(
        "{} relayed {} packets wrongly, {} twice and {} out of order of {}",
        kind.name(),
        trial.wrong,
        trial.repeated,
        trial.out_of_order,
        trial.sent
    )))
}

fn report(lab: &Lab, turns: &[Turn], version: &str) -> Result<Verdict, Failure> {
    let mut verdict = Verdict::Measured;
    let args = lab.args;
    let of = |kind: Kind, calls: usize| -> Vec<&Turn> {
        let those = turns.iter().filter(|t| t.kind == kind && t.calls == calls);
        those.collect()
    };
    args.heading(&format!(
        "{:14} {:>5} {:>9} {:>14} {:>7} {:>7} {:>13} {:>15}",
        "port",
        "calls",
        "Mpps",
        "rtpengine Mpps",
        "ratio",
        "spread",
        "holds of peak",
        "rtpengine holds"
    ));
    for &port in &lab.ports {
        let case = Rate::of(&of(port, CALLS), &of(Kind::Rtpengine, CALLS));
        let object = case.json(lab, port, version);
        args.case(object, &case.line(port))?;
        if !case.is_conclusive() {
            verdict = Verdict::Inconclusive;
        }
    }
    args.heading(&format!(
        "{:14} {:>5} {:>9} {:>11} {:>7} {:>7} {:>16} {:>16}",
        "port",
        "calls",
        "s/Mpacket",
        "rtpengine s",
        "ratio",
        "spread",
        "core busy, s",
        "rtpengine's"
    ));
    for &port in &lab.ports {
        for &calls in &lab.cases.calls {
            let case = Cost::of(&of(port, calls), &of(Kind::Rtpengine, calls));
            let object = case.json(lab, port, calls, version);
            args.case(object, &case.line(port, calls))?;
            if !case.is_conclusive() {
                verdict = Verdict::Inconclusive;
            }
        }
    }
    Ok(verdict)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_port_is_one_whose_driver_starts() {
        let ports = |flags: &[&str], given: &[Kind], missing: &[Kind]| {
            let flags = [&["bench"], flags].concat();
            let args = <Args as clap::Parser>::parse_from(flags);
            let missing: Vec<_> = missing.iter().map(|&k| (k, String::new())).collect();
            Cases::new(&args, given, &[], "busy").ports(&missing)
        };
        let (packet, xdp) = (Kind::AfPacket, Kind::AfXdp);
        assert_eq!(ports(&[], &[], &[]), [xdp]);
        assert_eq!(ports(&[], &[], &[xdp]), [packet]);
        assert_eq!(ports(&["--full"], &[], &[]), [xdp, packet]);
        assert_eq!(ports(&["--full"], &[], &[xdp]), [packet]);
        assert_eq!(ports(&[], &[xdp], &[xdp]), [xdp], "as was asked for");
    }

    #[test]
    fn only_the_plane_is_to_blame_for_what_it_does() {
        let void = |kind: Kind| matches!(kind.fault(String::new()), Failure::Void(_));
        assert_eq!(
            [Kind::AfPacket, Kind::AfXdp, Kind::Rtpengine].map(void),
            [true, true, false]
        );
    }
}
