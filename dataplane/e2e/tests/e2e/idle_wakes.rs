//! A plane with nothing to do sleeps, and is awake as soon as there is something.

use penstock_e2e::wire::{self, NOTHING};
use penstock_e2e::{Lab, PLANE, Phone, Setup, lab, local, phone_at, wait_for};
use penstock_shm::Op;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// A worker that nobody wakes sleeps for 100 ms: 50 on average, and the answer takes another such sleep.
const AWAKE: Duration = Duration::from_millis(25);

/// Two streams, each other's peers.
fn call(lab: &Lab, phones: [SocketAddr; 2]) {
    let mut specs = wire::pair(&lab.table(), 20_000, 20_002);
    for (spec, phone) in specs.iter_mut().zip(phones) {
        spec.remote = Some(phone);
    }
    lab.install(1, &specs.map(Op::Set));
}

/// In one of three rounds at least half the times are short: a busy machine may spoil the others, and nobody has that luck
/// who sleeps.
fn is_awake(what: &str, mut round: impl FnMut() -> Vec<Duration>) {
    let mut medians = Vec::new();
    let awake = (0..3).any(|_| {
        let mut times = round();
        times.sort();
        let median = times[times.len() / 2];
        medians.push(median);
        median < AWAKE
    });
    assert!(awake, "{medians:?} {what}");
}

#[test]
fn a_packet_wakes_a_worker() {
    let lab = lab!("wakes");
    let _plane = lab.plane();
    let mut caller = Phone::new(&lab, phone_at(4000), 0xa);
    let mut callee = Phone::new(&lab, phone_at(5000), 0xb);
    call(&lab, [caller.at(), callee.at()]);
    let mut latency = || {
        std::thread::sleep(Duration::from_millis(30));
        let sent = Instant::now();
        caller.talk(local(20_000));
        let n = usize::from(caller.sent());
        while callee.listen().rtp.get(&0xa).map_or(0, Vec::len) < n {
            assert!(sent.elapsed() < Duration::from_secs(10), "packet {n}");
        }
        sent.elapsed()
    };
    is_awake("from phone to phone", || {
        (0..31).map(|_| latency()).collect()
    });
    callee.heard_all(0xa, 1, caller.sent());
}

#[test]
fn the_steward_wakes_a_worker() {
    let lab = lab!("wakes_steward");
    let _plane = lab.plane();
    // An echo goes from the worker to the steward, and back when the worker sleeps again.
    let time = |line: &str| {
        let ms = line.split_once("time=")?.1.split_whitespace().next()?;
        Some(Duration::from_secs_f64(ms.parse::<f64>().ok()? / 1000.0))
    };
    is_awake("for an echo", || {
        let (_, out, err) = lab.run("ping", &["-c", "21", "-i", "0.05", "-W", "10", PLANE]);
        let times: Vec<_> = out.lines().filter_map(time).collect();
        assert!(times.len() >= 20, "{out}{err}");
        times
    });
}

/// Polls that found nothing in a second: far from the millions of a worker that does not sleep, whatever else
/// the machine does.
fn polls_in_a_second(lab: &Lab) -> u64 {
    let polls = || {
        let workers = lab.table().workers();
        workers.iter().map(|worker| worker.polls_idle).sum::<u64>()
    };
    std::thread::sleep(Duration::from_millis(500));
    let before = polls();
    std::thread::sleep(Duration::from_secs(1));
    polls() - before
}

#[test]
fn at_rest_it_sleeps() {
    let lab = lab!("sleeps");
    let mut plane = lab.plane();
    // The interface is new: the kernel tells its neighbours for a while.
    let mut polls = 0;
    let sleeps = wait_for(Duration::from_secs(30), || {
        polls = polls_in_a_second(&lab);
        (1..=100).contains(&polls)
    });
    assert!(sleeps, "{polls} polls, on interrupts");
    plane.stop_well();

    lab.configure(&Setup::on(NOTHING));
    let plane = lab.plane();
    let polls = polls_in_a_second(&lab);
    assert!((100..10_000).contains(&polls), "{polls} polls, in naps");
    drop(plane);

    lab.edit("[plane]\n", "[plane]\npolling = \"busy\"\n");
    let _plane = lab.plane();
    let polls = polls_in_a_second(&lab);
    assert!(polls > 20_000, "{polls} polls, busy");
}
