//! Streams whose remote only connectivity checks set.

use super::*;
use penstock_relay::stun::Check;
use penstock_shm::record::rank;

const OURS: Ice = Ice {
    ufrag: *b"ufragone",
    pwd: *b"passwordpasswordpassword",
};
const NEXT: Ice = Ice {
    ufrag: *b"ufragtwo",
    pwd: *b"wordpasswordpasswordpass",
};
const HOST: &str = "198.18.0.8:2000";
const OTHER: &str = "198.18.0.7:3000";

fn with_ice(signal: u32, remote: Option<&str>, ice: Ice) -> [Op; 3] {
    let spec = StreamSpec {
        learn: Learn::Checks,
        ..spec(A, B, remote, signal)
    };
    [
        Op::Set(spec),
        Op::Ice { endpoint: A, ice },
        Op::Set(super::spec(B, A, Some("198.18.0.9:1000"), signal)),
    ]
}

impl Bench {
    fn check(&mut self, source: &str, ice: Ice, nominates: bool) -> Option<Event> {
        self.checks(source, ice, (nominates, 1), 2)
    }

    /// Whether a check nominates, and of what priority.
    fn checks(
        &mut self,
        source: &str,
        ice: Ice,
        (nominates, priority): (bool, u32),
        now_ns: u64,
    ) -> Option<Event> {
        let record = self.streams.table.find(A).unwrap();
        let latch = Latch {
            record,
            // What changed since does not undo a check that was answered.
            version: 0,
            source: source.parse().unwrap(),
            ask: Ask::Check {
                ufrag: ice.ufrag,
                check: Check {
                    nominates,
                    priority,
                },
            },
        };
        self.streams.latch(&latch, now_ns)
    }

    /// The remote of A, whether it is locked, and its rank; and where B's packets go.
    fn remote(&self) -> (Option<String>, bool, u8) {
        let slot = self.slot(A);
        let remote = slot.remote().map(|remote| remote.to_string());
        let is_routed = has(&self.slot(B), flag::ROUTED);
        assert_eq!(is_routed, remote.is_some());
        if let Some(remote) = &remote {
            assert_eq!(destination(&self.slot(B)), *remote);
        }
        (remote, has(&slot, flag::LOCKED), slot.rank)
    }
}

fn at(remote: &str, rank: u8) -> (Option<String>, bool, u8) {
    (Some(remote.into()), true, rank)
}

#[test]
fn the_first_check_sets_the_remote_and_then_nominations_do() {
    let mut bench = Bench::new(8);
    // What is signalled is not believed.
    bench.apply(7, &with_ice(1, Some(HOST), OURS)).unwrap();
    assert_eq!(bench.remote(), (None, false, rank::NONE));
    assert_eq!(bench.check(HOST, NEXT, true), None, "of other credentials");
    assert_eq!(bench.remote(), (None, false, rank::NONE));
    assert!(bench.check(HOST, OURS, false).is_some());
    assert_eq!(bench.remote(), at(HOST, rank::CHECKED));
    assert_eq!(bench.check(OTHER, OURS, false), None);
    assert_eq!(bench.remote(), at(HOST, rank::CHECKED));
    for (remote, priority) in [(HOST, 1), (OTHER, 2), (HOST, 3)] {
        let nominates = (true, priority);
        assert!(bench.checks(remote, OURS, nominates, 2).is_some());
        assert_eq!(bench.remote(), at(remote, rank::NOMINATED));
        let version = bench.slot(A).version;
        assert_eq!(bench.check(remote, OURS, true), None, "consent");
        assert_eq!(bench.check(OTHER, OURS, false), None);
        assert_eq!(bench.slot(A).version, version, "nothing is written");
    }
}

/// What was chosen stays so over new signalling and a restart, until it is out of use.
#[test]
fn a_nomination_of_lower_priority_moves_nothing() {
    const SECOND: u64 = 1_000_000_000;
    let mut bench = Bench::new(8);
    bench.apply(7, &with_ice(1, None, OURS)).unwrap();
    assert!(bench.checks(HOST, OURS, (true, 9), SECOND).is_some());
    let lower = |bench: &mut Bench, now_ns| bench.checks(OTHER, OURS, (true, 8), now_ns);
    assert_eq!(lower(&mut bench, SECOND), None);
    bench.apply(7, &with_ice(2, Some(OTHER), OURS)).unwrap();
    assert_eq!(lower(&mut bench, 2 * SECOND), None);
    bench.streams.resume(9);
    assert_eq!(lower(&mut bench, 3 * SECOND), None);
    assert_eq!(bench.remote(), at(HOST, rank::NOMINATED));
    assert!(
        bench.checks(HOST, OURS, (true, 9), 4 * SECOND).is_some(),
        "renewed"
    );
    assert_eq!(lower(&mut bench, 7 * SECOND), None);
    assert!(lower(&mut bench, 10 * SECOND).is_some());
    assert_eq!(bench.remote(), at(OTHER, rank::NOMINATED));
    // Other credentials ask for other nominations.
    bench.apply(7, &with_ice(3, None, NEXT)).unwrap();
    assert!(bench.checks(HOST, NEXT, (true, 1), 10 * SECOND).is_some());
}

#[test]
fn signalling_and_a_restart_of_ice_keep_media_going() {
    let mut bench = Bench::new(8);
    bench.apply(7, &with_ice(1, None, OURS)).unwrap();
    bench.check(HOST, OURS, true).unwrap();
    // The same credentials, another body.
    bench.apply(7, &with_ice(2, Some(OTHER), OURS)).unwrap();
    assert_eq!(bench.remote(), at(HOST, rank::NOMINATED));
    bench.apply(7, &with_ice(3, Some(OTHER), NEXT)).unwrap();
    assert_eq!(bench.remote(), at(HOST, rank::NONE));
    assert_eq!(
        bench.check(OTHER, OURS, true),
        None,
        "of former credentials"
    );
    assert_eq!(bench.remote(), at(HOST, rank::NONE));
    bench.check(OTHER, NEXT, false).unwrap();
    assert_eq!(bench.remote(), at(OTHER, rank::CHECKED));
    // And the plane's own work on routes, and a restart's, lose nothing.
    bench.streams.resume(9);
    assert_eq!(bench.remote(), at(OTHER, rank::CHECKED));
    let record = bench.streams.table.find(A).unwrap();
    assert_eq!(bench.streams.table.ice(record), Some(NEXT));
}

#[test]
fn with_ice_a_stream_begins_afresh_and_without_it_ends() {
    let mut bench = Bench::new(8);
    let plain = [
        Op::Set(spec(A, B, None, 1)),
        Op::Set(spec(B, A, Some("198.18.0.9:1000"), 1)),
    ];
    bench.apply(7, &plain).unwrap();
    bench.latch(A, OTHER).unwrap();
    let version = bench.slot(A).version;
    bench.apply(7, &with_ice(1, None, OURS)).unwrap();
    assert_eq!(bench.remote(), (None, false, rank::NONE), "nobody checked");
    assert_eq!(bench.ask(A, version, OTHER, true), None, "asked before");
    bench.check(HOST, OURS, true).unwrap();
    bench.apply(7, &plain).unwrap();
    assert_eq!(bench.check(OTHER, OURS, true), None);
    let record = bench.streams.table.find(A).unwrap();
    assert_eq!(bench.streams.table.ice(record), None);
}

#[test]
fn credentials_stand_behind_their_stream() {
    let [set, ice, peer] = with_ice(1, None, OURS);
    let plain = Op::Set(spec(A, B, None, 1));
    let elsewhere = Op::Ice {
        endpoint: B,
        ice: OURS,
    };
    for ops in [
        vec![set, peer],
        vec![set, peer, ice],
        vec![ice, set],
        vec![plain, ice],
        vec![set, elsewhere],
        vec![set, ice, ice],
    ] {
        let mut bench = Bench::new(8);
        assert_eq!(bench.apply(7, &ops), Err(Refusal::Malformed), "{ops:?}");
        assert_eq!(bench.streams.table.find(A), None);
    }
}
