//! Sources: adopted, locked, remembered.

use super::*;

/// Both streams of a call whose leg at B is signalled there.
fn call(remote: &str, signal: u32) -> [Op; 2] {
    [
        Op::Set(spec(A, B, Some("198.18.0.9:1000"), 1)),
        Op::Set(spec(B, A, Some(remote), signal)),
    ]
}

#[test]
fn new_signalling_lets_a_stream_learn_anew_and_the_same_does_not() {
    let mut bench = Bench::new(8);
    bench.apply(7, &call("198.18.0.8:2000", 1)).unwrap();
    bench.latch(B, "198.18.0.8:2222").unwrap();

    bench.apply(7, &call("198.18.0.8:2000", 1)).unwrap();
    assert!(
        has(&bench.slot(B), flag::LOCKED),
        "a command that comes twice changes nothing"
    );
    bench.apply(7, &call("198.18.0.8:2000", 2)).unwrap();
    assert!(!has(&bench.slot(B), flag::LOCKED));
    assert_eq!(
        destination(&bench.slot(A)),
        "198.18.0.8:2222",
        "until somebody else is heard"
    );
    bench.apply(7, &call("198.18.0.8:3000", 3)).unwrap();
    assert_eq!(
        destination(&bench.slot(A)),
        "198.18.0.8:3000",
        "the signalling named another address"
    );
}

#[test]
fn a_window_ends_in_time_and_locks() {
    let mut bench = Bench::new(8);
    bench.apply(7, &call("198.18.0.8:2000", 1)).unwrap();
    let version = bench.slot(B).version;
    assert_eq!(bench.ask(B, version, "198.18.0.7:1", false), None);
    let slot = bench.slot(B);
    assert!(!has(&slot, flag::LOCKED) && has(&slot, flag::LATCHED));
    assert_eq!((slot.rank, slot.learn_until), (rank::ANY, 11));
    assert_eq!(destination(&bench.slot(A)), "198.18.0.7:1");
    let mut events = Vec::new();
    bench.streams.tick(1001, |event| events.push(event));
    assert!(events.is_empty(), "the window is 1000 ns, from 2 on");
    bench.streams.tick(1002, |event| events.push(event));
    assert_eq!(events.len(), 1);
    assert!(has(&bench.slot(B), flag::LOCKED));

    // New signalling: the old source is known, and stays the destination until another one is adopted.
    bench
        .apply(7, &[Op::Set(spec(B, A, Some("198.18.0.8:2000"), 2))])
        .unwrap();
    let slot = bench.slot(B);
    assert!(!has(&slot, flag::LOCKED));
    assert_eq!(slot.known, digest_address("198.18.0.7:1".parse().unwrap()));
    assert_eq!(slot.rank, rank::NONE);
    bench.streams.tick(9_000, |event| events.push(event));
    assert_eq!(events.len(), 1, "nothing is locked that was not heard");
}

#[test]
fn what_signalling_replaces_is_remembered_as_that() {
    let mut bench = Bench::new(8);
    bench.apply(7, &call("198.18.0.8:2000", 1)).unwrap();
    bench.latch(B, "198.18.0.7:7777").unwrap();
    let old = digest_address("198.18.0.7:7777".parse().unwrap());
    bench.apply(7, &call("198.18.0.8:3000", 2)).unwrap();
    let slot = bench.slot(B);
    assert!(has(&slot, flag::FORMER) && !has(&slot, flag::LATCHED));
    assert_eq!(slot.known, old);
    // It stays that over signalling that says nothing new.
    bench.apply(7, &call("198.18.0.8:3000", 3)).unwrap();
    assert!(has(&bench.slot(B), flag::FORMER));
    bench.latch(B, "198.18.0.8:3000").unwrap();
    bench.apply(7, &call("198.18.0.8:3000", 4)).unwrap();
    let slot = bench.slot(B);
    assert!(!has(&slot, flag::FORMER));
    assert_eq!(
        slot.known,
        digest_address("198.18.0.8:3000".parse().unwrap())
    );
}

/// Behind a closed gate who speaks has no rival: only once something has passed is he locked.
#[test]
fn what_was_held_back_locks_nobody() {
    let mut bench = Bench::new(8);
    bench.apply(7, &call("198.18.0.8:2000", 1)).unwrap();
    let version = bench.slot(B).version;
    let packets = |bench: &Bench, count| {
        let table = &bench.streams.table;
        table.tally(table.find(B).unwrap()).meter.packets.set(count);
    };
    assert_eq!(bench.ask(B, version, "198.18.0.7:1", false), None);
    packets(&bench, 0);
    for now_ns in [1_002, 2_002, 50_000] {
        bench.streams.tick(now_ns, |event| panic!("{event:?}"));
        assert!(!has(&bench.slot(B), flag::LOCKED));
    }
    packets(&bench, 1);
    let mut locks = 0;
    bench.streams.tick(51_000, |_| locks += 1);
    assert!(has(&bench.slot(B), flag::LOCKED));
    assert_eq!(locks, 1);
}

#[test]
fn a_window_of_rtcp_is_longer_and_none_ends_another_signallings() {
    let mut bench = Bench::new(8);
    let mut rtcp = spec(B, A, Some("198.18.0.8:2001"), 1);
    rtcp.kind = penstock_shm::Kind::Rtcp;
    let other = Op::Set(spec(A, B, Some("198.18.0.9:1000"), 1));
    bench.apply(7, &[other, Op::Set(rtcp)]).unwrap();
    let version = bench.slot(B).version;
    assert_eq!(bench.ask(B, version, "198.18.0.7:1", false), None);
    let mut locks = 0;
    bench.streams.tick(5_000, |_| locks += 1);
    assert!(!has(&bench.slot(B), flag::LOCKED));
    bench.streams.tick(5_002, |_| locks += 1);
    assert!(has(&bench.slot(B), flag::LOCKED));

    let version = bench.slot(A).version;
    assert_eq!(bench.ask(A, version, "198.18.0.6:1", false), None);
    bench
        .apply(7, &[Op::Set(spec(A, B, Some("198.18.0.9:1000"), 2))])
        .unwrap();
    let version = bench.slot(A).version;
    assert_eq!(bench.ask(A, version, "198.18.0.6:1", false), None);
    // The first window was opened at 2 and is over; the second was opened at 2 as well, but under its own signalling.
    bench.streams.tick(5_002, |_| locks += 1);
    assert_eq!(locks, 2);
}
