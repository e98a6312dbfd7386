//! Two processes, one of which is killed at random points, again and again.
//!
//! The child is this very program, told by an environment variable what to be. `PENSTOCK_SEED=N`
//! repeats a run's choices (not its timing).
#![cfg(not(loom))]

mod common;

use common::{Random, config, endpoint, spec, temp_dir};
use penstock_shm::{
    Applied, Command, CommandProducer, Control, Endpoint, Event, Op, Plane, PlaneParts, PushError,
    Refusal, RegionConfig, Slot, TableView, monotonic_ns,
};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

const KILLS: usize = 50;
const STREAMS: u32 = 1 << 16;
const ROLE: &str = "PENSTOCK_TEST_ROLE";
const DIR: &str = "PENSTOCK_TEST_DIR";

/// Far beyond what anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);

fn seed() -> u64 {
    let seed = std::env::var("PENSTOCK_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or(2026);
    println!("PENSTOCK_SEED={seed}");
    seed
}

/// Starts this program as `role`, a test that does nothing else in the parent.
fn spawn(role: &str, dir: &Path) -> Child {
    std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", role, "--nocapture"])
        .env(ROLE, role)
        .env(DIR, dir)
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

/// The region to work on, if this process was spawned as `role`.
fn spawned_as(role: &str) -> Option<RegionConfig> {
    let dir = std::env::var_os(DIR).filter(|_| std::env::var(ROLE).is_ok_and(|is| is == role))?;
    // A test that is killed kills nobody any more.
    let signal = Some(rustix::process::Signal::KILL);
    rustix::process::set_parent_process_death_signal(signal).unwrap();
    Some(RegionConfig {
        dir: dir.into(),
        table_dir: None,
        streams: STREAMS,
        group: None,
    })
}

/// Kills the child at once, wherever it is. It must have lived until now.
fn kill(mut child: Child) {
    assert!(
        child.try_wait().unwrap().is_none(),
        "the child ended by itself"
    );
    child.kill().unwrap();
    child.wait().unwrap();
}

fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "waited in vain until {what}");
        std::thread::sleep(Duration::from_micros(100));
    }
}

/// What the steward does with a command.
fn carry_out(plane: &mut PlaneParts, command: &Command) {
    for op in &command.ops {
        match op {
            Op::Set(spec) => {
                let number = plane
                    .table
                    .insert(spec.endpoint, command.call, monotonic_ns())
                    .unwrap();
                let slot = Slot {
                    signal: spec.signal,
                    leg: spec.leg,
                    ..Slot::CLOSED
                };
                plane.table.update(number, &slot).unwrap();
            }
            Op::Feed(_) => {}
            Op::Remove(endpoint) => {
                if let Some(number) = plane.table.find(*endpoint) {
                    assert!(plane.table.remove(number, monotonic_ns()));
                }
            }
            Op::Acknowledge { number, generation } => {
                plane.table.acknowledge(*number, *generation);
            }
            Op::Ice { .. } | Op::Move { .. } => unreachable!("nobody sends it here"),
        }
    }
}

#[test]
fn child_plane() {
    let Some(config) = spawned_as("child_plane") else {
        return;
    };
    let mut plane = Plane::open(&config).unwrap().split(1);
    plane.pulse.start();
    let mut worker = plane.workers.remove(0);
    std::thread::spawn(move || {
        let mut port = 0u16;
        loop {
            port = port.wrapping_add(2);
            let table = worker.pin();
            if let Some(entry) = table.entry(endpoint(port & 3, port & 63)) {
                assert_eq!(table.claim(entry.meter()), Ok(()));
                entry.meter().packets.add(1);
            }
            if port == 0 {
                worker.offline();
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    });
    loop {
        while let Some(command) = plane.commands.next() {
            let command = command.expect("control pushes well-formed commands");
            // Says what it did before it says that it did: a refusal is never lost.
            let refused = Event::Refused {
                seq: command.seq,
                reason: Refusal::NoRoute,
                endpoint: endpoint(0, 0),
            };
            carry_out(&mut plane, &command);
            if command.call.is_multiple_of(8) {
                assert!(plane.events.push(refused));
            }
            plane.commands.applied(command.seq);
        }
        plane.table.expire(monotonic_ns(), 100);
        plane.bell.wait(|| false, &[], Duration::from_millis(5));
    }
}

/// What should stand: call and signal of each endpoint.
type Oracle = BTreeMap<Endpoint, (u64, u32)>;

/// Pushes one random change of a call, and notes it.
fn push_some(
    random: &mut Random,
    commands: &mut CommandProducer,
    applied: &Applied,
    oracle: &mut Oracle,
    acknowledge: Option<Op>,
) -> (u64, u64) {
    let call = random.next();
    let mut ops: Vec<Op> = acknowledge.into_iter().collect();
    for _ in 0..1 + random.below(4) {
        let at = endpoint(random.below(4) as u16, random.below(32) as u16 * 2);
        if random.below(3) == 0 {
            ops.push(Op::Remove(at));
            oracle.remove(&at);
        } else {
            let signal = random.next() as u32;
            ops.push(Op::Set(spec(at, signal)));
            oracle.insert(at, (call, signal));
        }
    }
    let start = Instant::now();
    loop {
        match commands.push(call, &ops) {
            Ok(seq) => return (call, seq),
            Err(PushError::Full) => std::thread::yield_now(),
            Err(PushError::TooLarge) => unreachable!("at most five"),
        }
        assert!(start.elapsed() < PATIENCE, "stuck at {}", applied.get());
    }
}

#[test]
fn a_plane_killed_anywhere_finishes_what_was_asked() {
    let dir = temp_dir();
    let config = config(&dir, STREAMS);
    drop(Plane::open(&config).unwrap().split(1));
    let mut control = Control::attach(&config.dir).unwrap().split();
    let mut random = Random(seed());
    let mut oracle = Oracle::new();
    let mut to_refuse = Vec::new();
    let mut refused = std::collections::BTreeSet::new();
    let mut killed_mid_work = 0;
    for _ in 0..KILLS {
        let child = spawn("child_plane", &config.dir);
        let epoch = control.watch.epoch();
        // One in five dies while it takes the region over.
        if random.below(5) != 0 {
            wait_until("the plane has started", || control.watch.epoch() != epoch);
            assert!(control.watch.alive());
        }
        for _ in 0..random.below(400) {
            let ended = match random.below(8) {
                0 => control
                    .table
                    .stream(random.below(512) as u32)
                    .filter(|stat| stat.ended),
                _ => None,
            };
            let acknowledge = ended.map(|stat| Op::Acknowledge {
                number: stat.number,
                generation: stat.generation,
            });
            let pushed = push_some(
                &mut random,
                &mut control.commands,
                &control.applied,
                &mut oracle,
                acknowledge,
            );
            if pushed.0.is_multiple_of(8) {
                to_refuse.push(pushed.1);
            }
        }
        std::thread::sleep(Duration::from_micros(random.below(1500)));
        kill(child);
        assert!(!control.watch.alive());
        killed_mid_work += usize::from(control.applied.get() < control.commands.last_pushed());
        while let Some(event) = control.events.next() {
            let Ok(Event::Refused { seq, .. }) = event else {
                panic!("{event:?}")
            };
            refused.insert(seq);
        }
    }
    println!("{killed_mid_work} of {KILLS} planes died with commands before them");
    assert!(
        killed_mid_work >= KILLS / 10,
        "the kills came too late to test anything"
    );

    let child = spawn("child_plane", &config.dir);
    let last = control.commands.last_pushed();
    wait_until("every command stands", || control.applied.get() == last);
    while let Some(event) = control.events.next() {
        let Ok(Event::Refused { seq, .. }) = event else {
            panic!("{event:?}")
        };
        refused.insert(seq);
    }
    kill(child);
    assert_eq!(
        refused.into_iter().collect::<Vec<_>>(),
        to_refuse,
        "refusals lost or invented"
    );

    let live: Oracle = control
        .table
        .iter()
        .filter(|stat| !stat.ended)
        .map(|stat| (stat.endpoint, (stat.call, stat.policy.signal)))
        .collect();
    assert_eq!(live, oracle);
    // Every record is accounted for, by a plane that has to find out for itself.
    let stats: Vec<_> = control.table.iter().collect();
    let ended = stats.iter().filter(|stat| stat.ended).count();
    assert_eq!(
        stats.len() - ended,
        oracle.len(),
        "an endpoint stands twice"
    );
    let plane = Plane::open(&config).unwrap().split(1);
    let counts = plane.table.counts();
    assert_eq!(
        (counts.live as usize, counts.ended as usize),
        (oracle.len(), ended)
    );
    assert_eq!(counts.live + counts.ended + counts.free, STREAMS);
    for (at, (_, signal)) in &oracle {
        let number = plane.table.find(*at).unwrap();
        assert_eq!(plane.table.slot(number).signal, *signal);
    }
}

#[test]
fn child_control() {
    let Some(config) = spawned_as("child_control") else {
        return;
    };
    let mut control = Control::attach(&config.dir).unwrap().split();
    let mut random = Random(u64::from(std::process::id()));
    loop {
        // One signal for the whole call: half a command would show.
        let signal = random.next() as u32;
        let base = random.below(64) as u16 * 16;
        let ops: Vec<_> = (0..8)
            .map(|n| Op::Set(spec(endpoint(1, base + n * 2), signal)))
            .collect();
        while control.commands.push(u64::from(signal), &ops) == Err(PushError::Full) {
            std::thread::yield_now();
        }
        while control.events.next().is_some() {}
    }
}

/// All streams of a call carry its signal.
fn check_whole(view: &TableView) {
    let mut signals: BTreeMap<u16, u32> = BTreeMap::new();
    for stat in view.iter() {
        let signal = *signals
            .entry(stat.endpoint.port / 16)
            .or_insert(stat.policy.signal);
        assert_eq!(stat.policy.signal, signal, "half a command stands");
        assert_eq!(stat.call, u64::from(signal));
    }
}

#[test]
fn a_control_killed_anywhere_leaves_whole_commands() {
    let dir = temp_dir();
    let config = config(&dir, STREAMS);
    let mut plane = Plane::open(&config).unwrap().split(1);
    let view = TableView::open(&config.dir).unwrap();
    let mut random = Random(seed());
    let mut last = 0;
    let mut total = 0;
    for _ in 0..KILLS {
        let mut child = Some(spawn("child_control", &config.dir));
        let start = Instant::now();
        let mut life = None;
        loop {
            if let Some(command) = plane.commands.next() {
                let command = command.expect("no half command ever becomes visible");
                assert_eq!((command.ops.len(), command.seq), (8, last + 9));
                last = command.seq;
                carry_out(&mut plane, &command);
                plane.commands.applied(command.seq);
                total += 1;
                // It lives on for a random moment after its first command.
                life.get_or_insert_with(|| {
                    start.elapsed() + Duration::from_micros(random.below(3000))
                });
            } else if child.is_none() {
                break;
            }
            if life.is_some_and(|life| start.elapsed() >= life) {
                child.take().into_iter().for_each(kill);
            }
            assert!(start.elapsed() < PATIENCE, "no command came");
        }
        check_whole(&view);
    }
    println!("{total} commands of {KILLS} controls");
    let control = Control::attach(&config.dir).unwrap().split();
    assert_eq!(control.commands.last_pushed(), last);
    assert_eq!(control.applied.get(), last);
}
