//! Whose packets pass, and what is asked about them.

use crate::judge::verdict_by;
use crate::support::{Datagram, asking, policy, rtp, slot};
use penstock_relay::learn::{Ask, Network, Nomination, Patience, Sources, checked};
use penstock_relay::route::{self, Policy};
use penstock_relay::stun::Check;
use penstock_relay::{Drop, Pass, Rules};
use penstock_shm::record::{Learn, Slot, digest_address, digest_ip, rank};
use penstock_shm::tally::Tally;
use std::net::SocketAddr;

const SIGNALLED: &str = "198.51.100.7:40000";
const SAME_IP: &str = "198.51.100.7:1";
const SAME_PORT: &str = "203.0.113.5:40000";
const STRANGER: &str = "203.0.113.66:6666";
const FRIEND: &str = "192.0.2.77:9";

const SECOND: u64 = 1_000_000_000;

fn ask(slot: &Slot, tally: &Tally, source: &str, now_ns: u64) -> Result<Option<Ask>, Drop> {
    let datagram = Datagram {
        source: source.parse().unwrap(),
        ..Datagram::v4(&rtp(1, 2, 3))
    };
    verdict_by(&Rules::default(), &datagram, slot, tally, now_ns).map(|Pass { ask, .. }| ask)
}

fn adopt(rank: u8) -> Result<Option<Ask>, Drop> {
    let lock = rank >= rank::KNOWN;
    Ok(Some(Ask::Adopt { rank, lock }))
}

fn fresh(learn: Learn) -> Policy {
    let policy = asking(policy(SIGNALLED.parse().unwrap()), |spec| {
        spec.learn = learn
    });
    Policy {
        locked: false,
        ..policy
    }
}

/// The stream after it adopted a source.
fn adopted(learn: Learn, source: &str, rank: u8) -> Policy {
    Policy {
        remote: Some(source.parse().unwrap()),
        latched: true,
        learn_until: 10,
        rank,
        ..fresh(learn)
    }
}

#[test]
fn heuristics_prefer_what_was_signalled() {
    let fresh = asking(fresh(Learn::Heuristic), |spec| {
        spec.hint = digest_ip("192.0.2.77".parse().unwrap());
    });
    let slot = slot(&fresh);
    for (source, rank) in [
        (SIGNALLED, rank::SIGNALLED),
        (SAME_IP, rank::ADDRESS),
        (FRIEND, rank::ADDRESS),
        (SAME_PORT, rank::PORT),
        (STRANGER, rank::ANY),
    ] {
        assert_eq!(
            ask(&slot, &Tally::default(), source, 1),
            adopt(rank),
            "{source}"
        );
    }
}

#[test]
fn within_the_window_only_a_better_source_passes() {
    let ranks = [
        (STRANGER, rank::ANY),
        (SAME_PORT, rank::PORT),
        (SAME_IP, rank::ADDRESS),
        (SIGNALLED, rank::SIGNALLED),
    ];
    for (present, present_rank) in &ranks[..3] {
        let slot = slot(&adopted(Learn::Heuristic, present, *present_rank));
        for (other, rank) in ranks {
            let expected = match rank {
                _ if other == *present => Ok(None),
                rank if rank > *present_rank => adopt(rank),
                _ => Err(Drop::Source),
            };
            let asked = ask(&slot, &Tally::default(), other, 1);
            assert_eq!(asked, expected, "{other} after {present}");
        }
        let as_bad = "203.0.113.67:7777";
        assert_eq!(ask(&slot, &Tally::default(), as_bad, 1), Err(Drop::Source));
    }
}

#[test]
fn the_window_ends_after_so_many_packets_of_a_credible_source() {
    for (learn, source, rank, ends) in [
        (Learn::Delayed, STRANGER, rank::ANY, true),
        (Learn::Heuristic, SAME_IP, rank::ADDRESS, true),
        (Learn::Heuristic, SAME_PORT, rank::PORT, false),
        (Learn::Heuristic, STRANGER, rank::ANY, false),
    ] {
        let slot = slot(&adopted(learn, source, rank));
        let tally = Tally::default();
        for packet in 0..10 {
            assert_eq!(ask(&slot, &tally, source, 1), Ok(None), "{packet}");
        }
        let after = ask(&slot, &tally, source, 1);
        assert_eq!(after, Ok(ends.then_some(Ask::Lock)), "{learn:?} {source}");
    }
}

#[test]
fn delayed_takes_the_last_one_and_immediate_the_first() {
    let any = Ok(Some(Ask::Adopt {
        rank: rank::ANY,
        lock: false,
    }));
    let tally = Tally::default();
    let delayed = slot(&adopted(Learn::Delayed, SAME_PORT, rank::ANY));
    assert_eq!(ask(&delayed, &tally, STRANGER, 1), any);
    let immediate = slot(&fresh(Learn::Immediate));
    assert_eq!(
        ask(&immediate, &tally, STRANGER, 1),
        Ok(Some(Ask::Adopt {
            rank: rank::ANY,
            lock: true
        }))
    );
    let off = Policy {
        remote: None,
        ..fresh(Learn::Off)
    };
    assert_eq!(ask(&slot(&off), &tally, STRANGER, 1), Err(Drop::Source));
}

/// A stream that was locked to `source` before new signalling.
fn again(learn: Learn, source: &str) -> Policy {
    let source: SocketAddr = source.parse().unwrap();
    Policy {
        remote: Some(source),
        latched: true,
        known: digest_address(source),
        ..fresh(learn)
    }
}

#[test]
fn after_new_signalling_the_old_source_is_certain() {
    for learn in [Learn::Heuristic, Learn::Immediate] {
        let tally = Tally::default();
        let slot = slot(&again(learn, FRIEND));
        assert_eq!(ask(&slot, &tally, FRIEND, 1), Ok(Some(Ask::Lock)));
        assert_eq!(ask(&slot, &tally, "192.0.2.77:10", 1), adopt(rank::ADDRESS));
        assert_eq!(ask(&slot, &tally, STRANGER, 1), Err(Drop::Source));
        // It was silent for long: a stranger is taken, and the old source takes its place back.
        let late = ask(&slot, &Tally::default(), STRANGER, 31 * SECOND);
        assert_eq!(late, adopt(rank::ANY));
        let taken = Policy {
            remote: Some(STRANGER.parse().unwrap()),
            rank: rank::ANY,
            ..again(learn, FRIEND)
        };
        let slot = crate::support::slot(&taken);
        assert_eq!(ask(&slot, &tally, FRIEND, 1), adopt(rank::KNOWN));
    }
}

fn locked(source: &str) -> Policy {
    Policy {
        remote: Some(source.parse().unwrap()),
        latched: true,
        locked: true,
        ..fresh(Learn::Heuristic)
    }
}

#[test]
fn a_lock_moves_after_long_silence_to_an_address_that_is_known() {
    let slot = slot(&locked(FRIEND));
    let tally = Tally::default();
    assert_eq!(ask(&slot, &tally, FRIEND, 100 * SECOND), Ok(None));
    let moved = "192.0.2.77:10";
    for (source, after, expected) in [
        (moved, 29 * SECOND, Err(Drop::Source)),
        (STRANGER, 29 * SECOND, Err(Drop::Source)),
        (STRANGER, 3000 * SECOND, Err(Drop::Source)),
        (SAME_PORT, 3000 * SECOND, Err(Drop::Source)),
    ] {
        let asked = ask(&slot, &tally, source, 100 * SECOND + after);
        assert_eq!(asked, expected, "{source}");
    }
    let asked = ask(&slot, &tally, moved, 130 * SECOND);
    assert_eq!(asked, adopt(rank::ADDRESS));
}

#[test]
fn a_handover_follows_once_the_old_source_is_silent() {
    let following = asking(locked(FRIEND), |spec| spec.handover = true);
    let slot = slot(&following);
    let tally = Tally::default();
    assert_eq!(ask(&slot, &tally, FRIEND, SECOND), Ok(None));
    let early = ask(&slot, &tally, STRANGER, SECOND + 199_000_000);
    assert_eq!(early, Err(Drop::Source));
    let late = ask(&slot, &tally, STRANGER, SECOND + 200_000_000);
    assert_eq!(
        late,
        Ok(Some(Ask::Adopt {
            rank: rank::ANY,
            lock: true
        }))
    );
}

#[test]
fn what_the_lists_deny_is_not_heard() {
    let network = |ip: &str, len| Network {
        ip: ip.parse().unwrap(),
        len,
    };
    let sources = Sources {
        allow: vec![network("198.51.100.0", 24), network("2001:db8::", 32)],
        deny: vec![network("198.51.100.64", 26)],
    };
    for (ip, allowed) in [
        ("198.51.100.7", true),
        ("198.51.100.63", true),
        ("198.51.100.64", false),
        ("198.51.101.7", false),
        ("2001:db8:ffff::1", true),
        ("2001:db9::1", false),
    ] {
        assert_eq!(sources.admit(ip.parse().unwrap()), allowed, "{ip}");
    }
    assert!(network("10.0.0.0", 0).contains("203.0.113.1".parse().unwrap()));
    let rules = Rules {
        sources,
        ..Rules::default()
    };
    let slot = slot(&fresh(Learn::Heuristic));
    let datagram = Datagram {
        source: "198.51.100.66:40000".parse().unwrap(),
        ..Datagram::v4(&rtp(1, 2, 3))
    };
    let verdict = verdict_by(&rules, &datagram, &slot, &Tally::default(), 1);
    assert_eq!(verdict, Err(Drop::Denied));
    let signalled = Policy {
        denied: true,
        ..policy(datagram.source)
    };
    let slot = crate::support::slot(&signalled);
    let verdict = verdict_by(&rules, &datagram, &slot, &Tally::default(), 1);
    assert_eq!(verdict, Err(Drop::Denied), "though it was signalled");
    // One of our own addresses need not be allowed: what it sends was allowed where it came in.
    let own = |policy| {
        let slot = crate::support::slot(&Policy {
            own_remote: true,
            ..policy
        });
        verdict_by(&rules, &datagram, &slot, &Tally::default(), 1).map(|pass| pass.ask)
    };
    let learns = Policy {
        remote: Some(datagram.source),
        ..fresh(Learn::Heuristic)
    };
    assert!(matches!(own(learns), Ok(Some(_))));
    let elsewhere = Policy {
        remote: Some("198.51.100.7:40000".parse().unwrap()),
        ..learns
    };
    assert_eq!(own(elsewhere), Err(Drop::Denied));
}

#[test]
fn what_signalling_replaced_gives_way_to_anybody() {
    let replaced = Policy {
        known: digest_address(FRIEND.parse().unwrap()),
        former: true,
        ..fresh(Learn::Heuristic)
    };
    let tally = Tally::default();
    let straggler = slot(&replaced);
    assert_eq!(ask(&straggler, &tally, FRIEND, 1), adopt(rank::FORMER));
    let adopted = slot(&Policy {
        remote: Some(FRIEND.parse().unwrap()),
        latched: true,
        rank: rank::FORMER,
        ..replaced
    });
    assert_eq!(ask(&adopted, &tally, FRIEND, 1), Ok(None));
    assert_eq!(ask(&adopted, &tally, STRANGER, 1), adopt(rank::ANY));
}

#[test]
fn a_stranger_that_was_locked_gives_way_after_silence() {
    let slot = slot(&Policy {
        rank: rank::ANY,
        ..locked(STRANGER)
    });
    let tally = Tally::default();
    assert_eq!(ask(&slot, &tally, STRANGER, SECOND), Ok(None));
    let other = "203.0.113.99:99";
    assert_eq!(ask(&slot, &tally, other, 30 * SECOND), Err(Drop::Source));
    assert_eq!(ask(&slot, &tally, other, 31 * SECOND), adopt(rank::ANY));
}

/// A phone that may not send, or whose peer is not known yet, is learned of all the same if it is a likely one.
#[test]
fn what_is_held_back_can_be_learned_from() {
    let likely = "192.0.2.77:9";
    let hinted = |learn| {
        asking(fresh(learn), |spec| {
            spec.hint = digest_ip("192.0.2.77".parse().unwrap());
        })
    };
    let judged = |slot: &Slot, source: &str| {
        let datagram = Datagram {
            source: source.parse().unwrap(),
            ..Datagram::v4(&rtp(1, 2, 3))
        };
        let tally = Tally::default();
        let verdict = verdict_by(&Rules::default(), &datagram, slot, &tally, SECOND);
        assert_eq!(tally.meter.packets.get(), 0);
        assert_eq!(tally.dropped(), 1);
        verdict
    };
    let closed = |learn| slot(&asking(hinted(learn), |spec| spec.gate_open = false));
    let unrouted = |learn| route::fill(&hinted(learn), None, None, 1);
    for learn in [Learn::Heuristic, Learn::Immediate, Learn::Delayed] {
        for (slot, reason) in [
            (closed(learn), Drop::GateClosed),
            (unrouted(learn), Drop::NoRoute),
        ] {
            let ask = Some(Ask::Adopt {
                rank: rank::ADDRESS,
                lock: false,
            });
            let held = Some(reason);
            assert_eq!(judged(&slot, likely), Ok(Pass { held, ask }));
            assert_eq!(judged(&slot, "203.0.113.4:9"), Err(reason), "a stranger");
        }
    }
    assert_eq!(judged(&closed(Learn::Off), likely), Err(Drop::GateClosed));
    let locked = Policy {
        locked: true,
        ..hinted(Learn::Heuristic)
    };
    let locked = slot(&asking(locked, |spec| spec.gate_open = false));
    assert_eq!(judged(&locked, likely), Err(Drop::GateClosed));
}

#[test]
fn with_ice_no_packet_moves_the_remote() {
    let tally = Tally::default();
    let fresh = fresh(Learn::Checks);
    for source in [SIGNALLED, SAME_IP, STRANGER] {
        let slot = slot(&Policy {
            remote: None,
            ..fresh
        });
        assert_eq!(ask(&slot, &tally, source, 0), Err(Drop::Source), "{source}");
    }
    let nominated = Policy {
        locked: true,
        rank: rank::NOMINATED,
        ..adopted(Learn::Checks, FRIEND, rank::NOMINATED)
    };
    let handover = asking(nominated, |spec| spec.handover = true);
    for slot in [nominated, handover].map(|policy| slot(&policy)) {
        assert_eq!(ask(&slot, &tally, FRIEND, 0), Ok(None));
        for now_ns in [0, 100 * SECOND] {
            assert_eq!(ask(&slot, &tally, SIGNALLED, now_ns), Err(Drop::Source));
        }
    }
}

/// What a check at `now_ns` makes of the source, with the present remote last heard at `seen_ns`.
fn becomes(slot: &Slot, source: &str, check: (bool, u32), now_ns: u64, seen_ns: u64) -> Option<u8> {
    let tally = Tally::default();
    tally.meter.last_seen_ns.set(seen_ns);
    let (nominates, priority) = check;
    let check = Check {
        nominates,
        priority,
    };
    let source = source.parse().unwrap();
    checked(source, &check, (slot, &tally), &Patience::default(), now_ns)
}

/// A stream with ICE whose remote is [`FRIEND`], nominated with priority 100 at second 1000 if it was.
fn with_ice(rank: u8) -> Slot {
    let check = Check {
        nominates: true,
        priority: 100,
    };
    slot(&Policy {
        nomination: Nomination::new(&check, 1000 * SECOND),
        ..adopted(Learn::Checks, FRIEND, rank)
    })
}

#[test]
fn the_first_check_counts_and_then_nominations() {
    let none = slot(&Policy {
        remote: None,
        ..fresh(Learn::Checks)
    });
    for (slot, source, nominates, expected) in [
        (none, FRIEND, false, Some(rank::CHECKED)),
        (none, FRIEND, true, Some(rank::NOMINATED)),
        // That of former credentials.
        (with_ice(rank::NONE), STRANGER, false, Some(rank::CHECKED)),
        (with_ice(rank::NONE), FRIEND, false, Some(rank::CHECKED)),
        (with_ice(rank::CHECKED), FRIEND, false, None),
        (with_ice(rank::CHECKED), STRANGER, false, None),
        (with_ice(rank::CHECKED), FRIEND, true, Some(rank::NOMINATED)),
        (
            with_ice(rank::CHECKED),
            STRANGER,
            true,
            Some(rank::NOMINATED),
        ),
        (with_ice(rank::NOMINATED), FRIEND, true, None),
        (with_ice(rank::NOMINATED), STRANGER, false, None),
    ] {
        let found = becomes(&slot, source, (nominates, 1), 1000 * SECOND, 0);
        assert_eq!(found, expected, "{slot:?} {source} {nominates}");
    }
}

/// Of the pairs that are nominated, the one of highest priority is chosen, whatever their order (RFC 8445, 8.1.1); one that
/// is out of use is given up.
#[test]
fn the_nomination_of_highest_priority_stands_while_it_is_used() {
    let chosen = with_ice(rank::NOMINATED);
    let now = |ms: u64| 1000 * SECOND + ms * SECOND / 1000;
    let becomes = |priority, now_ms, seen_ms| {
        let found = becomes(
            &chosen,
            STRANGER,
            (true, priority),
            now(now_ms),
            now(seen_ms),
        );
        found == Some(rank::NOMINATED)
    };
    for (priority, moves) in [(99, false), (100, false), (101, true), (u32::MAX, true)] {
        assert_eq!(becomes(priority, 10, 0), moves, "{priority}");
    }
    // Nothing may have come of a fresh one.
    assert!(!becomes(99, 4900, 0));
    assert!(becomes(99, 5100, 0));
    assert!(becomes(100, 5100, 4800) && !becomes(100, 5100, 5000));
    assert!(!becomes(99, 3_600_000, 3_599_900));
    assert!(becomes(99, 3_600_000, 3_599_700));
}

/// Its own checks keep a nomination fresh, at most every other second, and only while no media does.
#[test]
fn a_nomination_is_renewed_while_nothing_comes() {
    let chosen = with_ice(rank::NOMINATED);
    let now = |ms: u64| 1000 * SECOND + ms * SECOND / 1000;
    let renewed = |nominates, now_ms, seen_ms| {
        becomes(&chosen, FRIEND, (nominates, 100), now(now_ms), now(seen_ms))
    };
    assert_eq!(renewed(true, 2400, 0), None);
    assert_eq!(renewed(true, 2600, 0), Some(rank::NOMINATED));
    assert_eq!(renewed(true, 2600, 2500), None);
    assert_eq!(renewed(false, 2600, 0), None);
}
