//! Calls that come and go under load, among attackers, while either daemon is killed every so often: what `scripts/soak`
//! runs. It asserts
//!
//! * outside the time from a plane's kill to its return, that every packet of the sampled phones arrives once, unchanged and
//!   in order, and is metered; that every call is set up and ended; that each worker accounts for all it receives;
//! * inside, that nothing is lost that was sent more than 0.1 s before the kill or 0.5 s after the new plane was ready, and
//!   that a kill costs a worker's sums no more than a burst;
//! * that half of the calls a second that were asked for came about, on whatever machine;
//! * that memory is flat, and at the end that no call, stream, record or port is left over.

mod attackers;
mod clients;
mod media;
mod state;
mod watch;

use clients::Client;
use penstock_e2e::{Daemon, Lab, Setup, unable};
use penstock_shm::TableView;
use serde_json::json;
use state::{State, Who, get};
use std::io::IsTerminal;
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};
use watch::{Memory, capacity, empty, skew};

/// A worker's burst: what it may not have counted when it is killed.
const BURST: i64 = 64;
const CLIENTS: u32 = 4;

struct Options {
    seconds: u64,
    rate: u32,
    sample: u32,
    kill_every: Option<u64>,
    abandon: u32,
    json: bool,
}

impl Options {
    fn parse(mut args: impl Iterator<Item = String>) -> Result<Options, String> {
        let mut options = Options {
            seconds: 300,
            rate: 200,
            sample: 25,
            kill_every: None,
            abandon: 5,
            json: false,
        };
        while let Some(arg) = args.next() {
            if arg == "--json" {
                options.json = true;
                continue;
            }
            let mut number = |least: u64, most: u64| {
                let value = args.next().and_then(|value| value.parse().ok());
                value
                    .filter(|n| (least..=most).contains(n))
                    .ok_or(format!("{arg} wants a number from {least} to {most}"))
            };
            match arg.as_str() {
                "--seconds" => options.seconds = number(20, 1_000_000)?,
                "--rate" => options.rate = number(4, 1000)? as u32,
                "--sample" => options.sample = number(1, 10_000)? as u32,
                "--kill-every" => options.kill_every = Some(number(0, 100_000)?),
                "--abandon" => options.abandon = number(0, 100)? as u32,
                _ => return Err(format!("unknown option {arg} (try --help)")),
            }
        }
        Ok(options)
    }

    fn kill_every(&self) -> Duration {
        let default = (self.seconds / 5).clamp(6, 150);
        Duration::from_secs(self.kill_every.unwrap_or(default))
    }
}

/// Both daemons, and how they do.
struct Pair {
    plane: Daemon,
    control: Daemon,
    memory: [Memory; 2],
    /// Of the plane that runs, at its start.
    skew: Vec<i64>,
    kills: [u32; 2],
    away: Duration,
    /// At most, of those that lived long enough.
    grown_kib: [Option<i64>; 2],
}

impl Pair {
    fn look(&mut self) {
        self.memory[0].look(self.plane.pid());
        self.memory[1].look(self.control.pid());
    }

    /// The sums hold since the last kill.
    fn check_sums(&self, state: &State, table: &TableView) {
        let now = skew(table);
        if now != self.skew {
            state.fail(format!(
                "workers lost count: off by {:?}, then by {now:?}",
                self.skew
            ));
        }
    }

    fn check_memory(&mut self, which: usize, state: &State) {
        let grown = self.memory[which].check(state);
        self.grown_kib[which] = self.grown_kib[which].max(grown);
    }

    fn kill(mut self, who: Who, lab: &Lab, state: &State, table: &TableView) -> Pair {
        self.check_sums(state, table);
        self.check_memory(who as usize, state);
        state.opens(who);
        match who {
            Who::Plane => {
                self.plane.kill();
                self.plane = lab.plane();
            }
            Who::Control => {
                self.control.kill();
                self.control = lab.control();
            }
        }
        self.away = self.away.max(state.closes());
        self.kills[who as usize] += 1;
        self.memory[who as usize] = Memory::new(who);
        std::thread::sleep(state::AFTER);
        let skew = skew(table);
        let pairs = skew.iter().zip(&self.skew);
        if who == Who::Plane && pairs.into_iter().any(|(is, was)| (is - was).abs() > BURST) {
            state.fail(format!(
                "a kill cost more than a burst: {:?}, then {skew:?}",
                self.skew
            ));
        }
        if who == Who::Plane {
            self.skew = skew;
        }
        self
    }
}

/// The load, once a second shown and every so often interrupted by a kill.
fn watch(options: &Options, lab: &Lab, state: &State, table: &TableView, mut pair: Pair) -> Pair {
    let start = Instant::now();
    let whole = Duration::from_secs(options.seconds);
    let every = options.kill_every();
    let mut kill_at = every;
    let mut who = Who::Plane;
    let shows = std::io::stderr().is_terminal();
    if shows {
        eprintln!("   time  calls  /s   media     lost  attacks  kills  plane MiB  control MiB");
    }
    let mut second = 0;
    while start.elapsed() < whole {
        let is_due = !every.is_zero() && start.elapsed() >= kill_at;
        // The last daemons to start get warm, too, if there is the time.
        let rest = (watch::warm(who) + watch::warm(who) / 4).min(whole / 3);
        if is_due && start.elapsed() + rest < whole {
            pair = pair.kill(who, lab, state, table);
            kill_at += every;
            who = if who == Who::Plane {
                Who::Control
            } else {
                Who::Plane
            };
        }
        pair.look();
        if shows && start.elapsed().as_secs() > second {
            second = start.elapsed().as_secs();
            eprint!(
                "\r{second:>6}s {:>6} {:>4} {:>8} {:>7} {:>8} {:>6} {:>10} {:>12}",
                get(&state.placed),
                get(&state.placed) / second,
                get(&state.sent),
                get(&state.lost_in_windows),
                get(&state.attacks),
                pair.kills.iter().sum::<u32>(),
                pair.memory[0].kib() / 1024,
                pair.memory[1].kib() / 1024,
            );
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    if shows {
        eprintln!();
    }
    pair.check_sums(state, table);
    (0..2).for_each(|which| pair.check_memory(which, state));
    pair
}

/// Ends everything when the one who watches has gone, however that came.
struct End<'a>(&'a State);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.calls_end.store(true, Ordering::Relaxed);
        self.0.end.store(true, Ordering::Relaxed);
    }
}

fn soak(options: &Options, lab: &Lab, state: &State, pair: Pair) -> Pair {
    let table = lab.table();
    let (to_media, calls) = channel();
    std::thread::scope(|scope| {
        let _end = End(state);
        let mut done = Vec::new();
        let mut clients = Vec::new();
        for number in 0..CLIENTS {
            let (to_client, heard) = channel();
            done.push(to_client);
            let client = Client {
                number,
                ng: lab.ng(),
                state,
                pace: Duration::from_secs(CLIENTS.into()) / options.rate,
                sample: options.sample,
                abandon: options.abandon,
                media: to_media.clone(),
                heard,
            };
            clients.push(scope.spawn(|| lab.inside(|| client.run())));
        }
        let ng = lab.ng();
        scope.spawn(move || lab.inside(|| attackers::attack(state, &ng)));
        let view = lab.table();
        scope.spawn(move || lab.inside(move || media::play(state, &view, &calls, &done)));

        let pair = watch(options, lab, state, &table, pair);
        state.calls_end.store(true, Ordering::Relaxed);
        let over = Instant::now() + Duration::from_secs(30);
        while clients.iter().any(|client| !client.is_finished()) && Instant::now() < over {
            std::thread::sleep(Duration::from_millis(20));
        }
        pair
    })
}

fn run(options: &Options) -> ExitCode {
    let lab = Lab::new(
        "soak",
        Setup {
            streams: 16_384,
            ports: "20000-27999",
            ..Setup::default()
        },
    );
    if options.abandon > 0 {
        lab.edit(
            "[control]\n",
            "[timeouts]\nstart_s = 3\nsilence_s = 3\n[control]\n",
        );
    }
    let (plane, control) = (lab.plane(), lab.control());
    lab.address(attackers::STRANGER.into());
    // The kernel's end of the tap must not drop what comes while the machine is busy with other things.
    lab.run("ip", &["link", "set", "ps0", "txqueuelen", "20000"]);
    let state = State::default();
    let table = lab.table();
    let ng = lab.ng();
    let room = capacity(&lab, &ng);
    std::thread::sleep(watch::REST);
    let pair = Pair {
        skew: skew(&table),
        plane,
        control,
        memory: [Memory::new(Who::Plane), Memory::new(Who::Control)],
        kills: [0; 2],
        away: Duration::ZERO,
        grown_kib: [None; 2],
    };
    let start = Instant::now();
    let pair = soak(options, &lab, &state, pair);
    let took = start.elapsed();
    if state.failures().0 > 0 {
        how_it_stands(&lab, &pair);
    }
    if let Err(left) = empty(&lab, &ng) {
        state.fail(left);
    }
    let (placed, asked) = (
        get(&state.placed),
        u64::from(options.rate) * options.seconds,
    );
    if 2 * placed < asked {
        state.fail(format!("{placed} calls were placed, not half of {asked}"));
    }
    let room_after = capacity(&lab, &ng);
    match (&room, &room_after) {
        (Ok(before), Ok(after)) if before == after => {}
        _ => state.fail(format!(
            "room for calls: {room:?} before, {room_after:?} after"
        )),
    }
    report(options, &state, &pair, took)
}

/// What helps to find out why something failed, while it can still be seen.
fn how_it_stands(lab: &Lab, pair: &Pair) {
    let table = lab.table();
    let polls = || -> Vec<_> {
        let workers = table.workers().into_iter();
        workers
            .map(|w| (w.rx, w.forwarded, w.polls_busy, w.polls_idle))
            .collect()
    };
    eprintln!(
        "workers (received, forwarded, polls busy and idle): {:?}",
        polls()
    );
    std::thread::sleep(Duration::from_secs(1));
    eprintln!("a second later: {:?}; ports {:?}", polls(), table.ports());
    for args in [&["neigh"][..], &["-s", "link", "show", "ps0"]] {
        eprintln!("{}", lab.run("ip", args).1);
    }
    for daemon in [&pair.plane, &pair.control] {
        let log = daemon.log();
        let lines: Vec<&str> = log.lines().collect();
        eprintln!("{}", lines[lines.len().saturating_sub(20)..].join("\n"));
    }
}

fn report(options: &Options, state: &State, pair: &Pair, took: Duration) -> ExitCode {
    let (count, failures) = state.failures();
    let per_s = get(&state.placed) as f64 / options.seconds as f64;
    eprintln!(
        "{} calls in {} s, {per_s:.0} a second, {} of them with media; {} refused while a daemon was away",
        get(&state.placed),
        took.as_secs(),
        get(&state.calls_heard),
        get(&state.refused),
    );
    eprintln!(
        "{} media packets, {} lost while the plane was away, {} attacks; {} kills of the plane, {} of control, {} ms away at most",
        get(&state.sent),
        get(&state.lost_in_windows),
        get(&state.attacks),
        pair.kills[0],
        pair.kills[1],
        pair.away.as_millis(),
    );
    for (who, grown) in ["plane", "control"].iter().zip(pair.grown_kib) {
        match grown {
            Some(kib) => eprintln!("{who}: grown by {kib} KiB at most, once warm"),
            None => eprintln!("{who}: never lived long enough to say that its memory is flat"),
        }
    }
    for failure in &failures {
        eprintln!("FAILED  {failure}");
    }
    if count > failures.len() as u64 {
        eprintln!("FAILED  and {} times more", count - failures.len() as u64);
    }
    if options.json {
        let report = json!({
            "seconds": options.seconds, "calls": get(&state.placed), "calls_per_s": per_s,
            "calls_with_media": get(&state.calls_heard), "refused": get(&state.refused),
            "abandoned": get(&state.abandoned), "media_sent": get(&state.sent),
            "media_lost": get(&state.lost_in_windows), "attacks": get(&state.attacks),
            "plane_kills": pair.kills[0], "control_kills": pair.kills[1],
            "away_ms": pair.away.as_millis() as u64,
            "plane_grown_kib": pair.grown_kib[0], "control_grown_kib": pair.grown_kib[1],
            "failures": count,
        });
        println!("{report}");
    }
    match count {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(why) => {
            eprintln!("soak: {why}");
            return ExitCode::from(2);
        }
    };
    if let Some(why) = unable() {
        eprintln!("soak: {why}");
        return ExitCode::from(2);
    }
    match std::panic::catch_unwind(|| run(&options)) {
        Ok(code) => code,
        Err(_) => ExitCode::FAILURE,
    }
}
