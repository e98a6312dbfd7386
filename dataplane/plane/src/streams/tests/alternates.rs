//! Candidates of one agent at several addresses of the plane.

use super::*;
use penstock_relay::stun::Check;
use penstock_shm::record::{link, rank};
use penstock_shm::{Feed, Feeding, MAX_ALTERNATES};

const OURS: Ice = Ice {
    ufrag: *b"ufragone",
    pwd: *b"passwordpasswordpassword",
};
const NEXT: Ice = Ice {
    ufrag: *b"ufragtwo",
    pwd: *b"wordpasswordpasswordpass",
};
/// Who talks to A and to C, by either version of IP.
const FOUR: &str = "198.18.0.8:2000";
const SIX: &str = "[2001:db8::8]:2000";
const FAR: &str = "198.18.0.9:1000";

fn tied(endpoint: Endpoint, feed: Feed) -> Op {
    Op::Feed(Feeding {
        endpoint,
        feed,
        mid: None,
        drop_events: false,
        pierce: false,
    })
}

fn checked(endpoint: Endpoint, ice: Ice) -> [Op; 2] {
    let spec = StreamSpec {
        learn: Learn::Checks,
        ..spec(endpoint, B, None, 1)
    };
    [Op::Set(spec), Op::Ice { endpoint, ice }]
}

/// A call whose one side has candidates at A and, as an alternate, at C.
fn call(ice: Ice) -> Vec<Op> {
    let mut ops = checked(A, ice).to_vec();
    ops.extend(checked(C, ice));
    ops.push(tied(C, Feed::AltOf(A)));
    ops.push(Op::Set(spec(B, A, Some(FAR), 1)));
    ops
}

impl Bench {
    fn hears(&mut self, at: Endpoint, source: &str, ice: Ice, nominates: bool) -> bool {
        self.hears_of(at, source, ice, (nominates, 1))
    }

    /// Whether a check nominates, and of what priority.
    fn hears_of(
        &mut self,
        at: Endpoint,
        source: &str,
        ice: Ice,
        (nominates, priority): (bool, u32),
    ) -> bool {
        let latch = Latch {
            record: self.streams.table.find(at).unwrap(),
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
        self.streams.latch(&latch, 2).is_some()
    }

    /// The remotes of A and C with their ranks, if they have one.
    fn remotes(&self) -> [Option<(String, u8)>; 2] {
        [A, C].map(|at| {
            let slot = self.slot(at);
            assert_eq!(has(&slot, flag::LOCKED), slot.remote().is_some());
            Some((slot.remote()?.to_string(), slot.rank))
        })
    }

    /// Where packets go that arrive at `from`, and whose they are taken for the opposite of.
    fn way(&self, from: Endpoint) -> Option<(bool, u16, u32)> {
        let slot = self.slot(from);
        let source = u16::from_be_bytes([slot.head[20], slot.head[21]]);
        let is_six = has(&slot, flag::EGRESS_V6);
        has(&slot, flag::ROUTED).then_some((is_six, source, slot.peer))
    }

    fn number(&self, at: Endpoint) -> u32 {
        self.streams.table.find(at).unwrap()
    }

    /// Who sends to A's leg leaves by this one, to its remote.
    fn leaves_by(&self, at: Endpoint) {
        let expected = (at == C, at.port, self.number(at));
        assert_eq!(self.way(B), Some(expected));
        for own in [A, C] {
            let way = self.way(own).map(|(is_six, source, _)| (is_six, source));
            assert_eq!(way, Some((false, B.port)), "{own:?}");
            assert_eq!(self.slot(own).peer, self.number(B));
        }
    }
}

fn one(remote: &str, rank: u8) -> Option<(String, u8)> {
    Some((remote.into(), rank))
}

#[test]
fn the_remote_is_at_the_candidate_that_was_checked_and_then_at_the_nominated_one() {
    let mut bench = Bench::new(8);
    bench.apply(7, &call(OURS)).unwrap();
    assert_eq!((bench.remotes(), bench.way(B)), ([None, None], None));
    assert_eq!(bench.slot(C).links, link::ALT);
    assert!(bench.hears(C, SIX, OURS, false));
    assert_eq!(bench.remotes(), [None, one(SIX, rank::CHECKED)]);
    bench.leaves_by(C);
    // Only a nomination takes it away, from either, and then one of higher priority.
    assert!(!bench.hears(A, FOUR, OURS, false));
    assert_eq!(bench.remotes(), [None, one(SIX, rank::CHECKED)]);
    for priority in [1, 3] {
        assert!(bench.hears_of(A, FOUR, OURS, (true, priority)));
        assert_eq!(bench.remotes(), [one(FOUR, rank::NOMINATED), None]);
        bench.leaves_by(A);
        assert_eq!(destination(&bench.slot(B)), FOUR);
        assert!(!bench.hears(C, SIX, OURS, false));
        assert!(!bench.hears_of(A, FOUR, OURS, (true, priority)), "consent");
        assert!(
            !bench.hears_of(C, SIX, OURS, (true, priority)),
            "not the first"
        );
        assert!(bench.hears_of(C, SIX, OURS, (true, priority + 1)));
        assert_eq!(bench.remotes(), [None, one(SIX, rank::NOMINATED)]);
        bench.leaves_by(C);
    }
    // Of two that the other agent ranks alike, ours is the first.
    assert!(bench.hears_of(A, FOUR, OURS, (true, 4)));
    bench.leaves_by(A);
}

#[test]
fn a_restart_of_ice_or_of_the_plane_keeps_media_where_it_was() {
    let mut bench = Bench::new(8);
    bench.apply(7, &call(OURS)).unwrap();
    assert!(bench.hears(C, SIX, OURS, true));
    bench.apply(7, &call(NEXT)).unwrap();
    assert_eq!(bench.remotes(), [None, one(SIX, rank::NONE)]);
    bench.leaves_by(C);
    assert!(!bench.hears(A, FOUR, OURS, true), "former credentials");
    let capacity = bench.streams.table.capacity();
    bench.streams.feeds = Feeds::new(Arc::clone(&bench.fans), capacity);
    assert_eq!(bench.streams.resume(2), 3);
    assert_eq!(bench.remotes(), [None, one(SIX, rank::NONE)]);
    bench.leaves_by(C);
    // The first check of the new credentials need not nominate.
    assert!(bench.hears(A, FOUR, NEXT, false));
    assert_eq!(bench.remotes(), [one(FOUR, rank::CHECKED), None]);
    bench.leaves_by(A);
}

#[test]
fn either_may_go_first_and_come_last() {
    let removed = |at| [Op::Remove(at)];
    let mut bench = Bench::new(8);
    bench.apply(7, &call(OURS)).unwrap();
    assert!(bench.hears(C, SIX, OURS, true));
    bench.apply(7, &removed(C)).unwrap();
    assert_eq!(bench.way(B), None);
    assert!(bench.hears(A, FOUR, OURS, false));
    bench.apply(7, &call(OURS)).unwrap();
    bench.leaves_by(A);
    assert!(bench.hears(C, SIX, OURS, true));
    // Without the first, who sends there sends nowhere; with it again, as before.
    bench.apply(7, &removed(A)).unwrap();
    assert_eq!(bench.way(B), None);
    bench.apply(7, &checked(A, OURS)).unwrap();
    bench.leaves_by(C);
    bench.apply(7, &removed(B)).unwrap();
    assert_eq!(bench.way(C), None);
    bench.apply(7, &call(OURS)[5..]).unwrap();
    bench.leaves_by(C);
    bench.apply(7, &[Op::Remove(A), Op::Remove(B)]).unwrap();
    bench.apply(7, &removed(C)).unwrap();
    assert_eq!(bench.streams.table.live().count(), 0);
}

/// Forks and parts of the first have what arrives at the others.
#[test]
fn alternates_feed_whom_the_first_feeds() {
    let mut bench = Bench::new(8);
    let [copy, part] = [7000, 7002].map(|port| Endpoint { addr: 0, port });
    bench.apply(7, &call(OURS)).unwrap();
    let fed = [
        Op::Set(spec(copy, copy, Some(FAR), 1)),
        tied(copy, Feed::CopyOf(A)),
        Op::Set(spec(part, B, None, 1)),
        tied(part, Feed::PartOf(A)),
    ];
    bench.apply(7, &fed).unwrap();
    let both = link::COPIES | link::PARTS;
    for (at, links) in [(A, both), (C, both | link::ALT)] {
        assert_eq!(bench.slot(at).links, links);
        let fan = bench.fans.get(bench.number(at)).unwrap();
        assert_eq!(fan.copies().collect::<Vec<_>>(), [copy.to_bits()]);
        assert_eq!(fan.parts().collect::<Vec<_>>(), [part.to_bits()]);
        assert_eq!(bench.slot(at).home(at), A);
    }
    let gone = [Op::Remove(copy), Op::Remove(part)];
    bench.apply(7, &gone).unwrap();
    assert_eq!([A, C].map(|at| bench.slot(at).links), [0, link::ALT]);
}

/// Of an agent that checks nothing the candidates are known: each is heard where it is told to send, none is sent to but by the
/// first, and one that cannot be reached from here refuses no call.
#[test]
fn who_checks_nothing_is_heard_at_alternates_and_sent_to_by_the_first() {
    let mut bench = Bench::new(8);
    let known = |endpoint, remote| {
        Op::Set(StreamSpec {
            learn: Learn::Off,
            ..spec(endpoint, B, Some(remote), 1)
        })
    };
    let far = "[2001:db8:9::8]:2000";
    for six in [SIX, far] {
        let ops = [
            Op::Set(spec(A, B, Some(FOUR), 1)),
            known(C, six),
            tied(C, Feed::AltOf(A)),
            Op::Set(spec(B, A, Some(FAR), 1)),
        ];
        bench.apply(7, &ops).unwrap();
        bench.leaves_by(A);
        let slot = bench.slot(C);
        assert!(has(&slot, flag::LOCKED | flag::ROUTED));
        assert_eq!(slot.remote(), six.parse().ok());
    }
    assert!(bench.latch(A, FOUR).is_some());
    bench.leaves_by(A);
    assert_eq!(bench.apply(8, &[known(C, far)]), Err(Refusal::NoRoute));
}

#[test]
fn an_endpoint_has_so_many_alternates_and_no_more() {
    let mut bench = Bench::new(8);
    bench.apply(7, &call(OURS)).unwrap();
    let more = |port| {
        let end = Endpoint { addr: 0, port };
        let [set, ice] = checked(end, OURS);
        [set, ice, tied(end, Feed::AltOf(A))]
    };
    for port in 1..MAX_ALTERNATES as u16 {
        bench.apply(7, &more(7000 + port)).unwrap();
    }
    let one_more = bench.apply(7, &more(7100));
    assert_eq!(one_more, Err(Refusal::TooManyFed));
}
