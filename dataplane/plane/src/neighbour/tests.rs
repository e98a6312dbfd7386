//! The state machine, transition by transition.

use super::*;

const S: u64 = 1000 * MS;
const OLD: Mac = [2, 0, 0, 0, 0, 2];
const NEW: Mac = [2, 0, 0, 0, 0, 3];
const THIRD: Mac = [2, 0, 0, 0, 0, 4];

fn key(last: u8) -> Key {
    let ip = IpAddr::from([10, 0, 0, last]);
    let (port, vlan) = (0, 0);
    Key { port, vlan, ip }
}

fn us() -> IpAddr {
    IpAddr::from([10, 0, 0, 1])
}

fn ask(at: Option<Mac>) -> Action {
    let (key, from) = (key(2), us());
    Action::Ask { key, from, at }
}

fn resolve(mac: Mac) -> Action {
    let (key, number) = (key(2), 0);
    Action::Resolve { key, number, mac }
}

const fn lose(key: Key) -> Action {
    Action::Lose { key, number: 0 }
}

fn one() -> Neighbours {
    let mut n = Neighbours::new(8);
    let (number, new) = (0, true);
    assert_eq!(n.number(key(2), us(), 0), Some(Number { number, new }));
    let new = false;
    assert_eq!(n.number(key(2), us(), 0), Some(Number { number, new }));
    n
}

/// One that answered at time 0.
fn reachable() -> Neighbours {
    let mut n = one();
    assert_eq!(n.due(0), [ask(None)]);
    assert_eq!(n.heard(key(2), Some(OLD), true, 0), Some(resolve(OLD)));
    n
}

/// When it does something by itself until `end_ns`, and what, looked at every 50 ms as the steward does.
fn until(n: &mut Neighbours, from_ns: u64, end_ns: u64) -> Vec<(u64, Action)> {
    let ticks = (from_ns..end_ns).step_by(50 * MS as usize);
    ticks
        .flat_map(|now| n.due(now).into_iter().map(move |a| (now / MS, a)))
        .collect()
}

#[test]
fn everyone_is_asked_fast_and_then_each_second() {
    let mut n = one();
    let times: Vec<u64> = until(&mut n, 0, 4 * S)
        .into_iter()
        .map(|(at, action)| {
            assert_eq!(action, ask(None));
            at
        })
        .collect();
    assert_eq!(times, [0, 250, 500, 750, 1000, 2000, 3000]);
}

#[test]
fn an_answer_holds_for_30_s_and_is_then_confirmed_with_it_alone() {
    let mut n = reachable();
    assert_eq!(until(&mut n, 0, 30 * S), []);
    assert_eq!(n.due(30 * S), [ask(Some(OLD))]);
    assert_eq!(n.heard(key(2), Some(OLD), true, 30 * S), None);
    assert_eq!(until(&mut n, 30 * S, 60 * S), []);
    // An advertisement need not name the MAC (RFC 4861, 4.4).
    assert_eq!(n.due(60 * S), [ask(Some(OLD))]);
    assert_eq!(n.heard(key(2), None, true, 60 * S), None);
    assert_eq!(until(&mut n, 60 * S, 90 * S), []);
}

#[test]
fn who_does_not_answer_three_probes_is_lost_and_everyone_is_asked() {
    let mut n = reachable();
    let seen = until(&mut n, 30 * S, 33 * S);
    let expected = [
        (30_000, ask(Some(OLD))),
        (31_000, ask(Some(OLD))),
        (32_000, ask(Some(OLD))),
        (32_500, lose(key(2))),
        (32_500, ask(None)),
        (32_750, ask(None)),
    ];
    assert_eq!(seen, expected);
    assert_eq!(n.heard(key(2), Some(NEW), true, 33 * S), Some(resolve(NEW)));
}

#[test]
fn a_watched_one_is_lost_within_four_seconds() {
    let mut n = one();
    n.keep(key(2), true);
    n.due(0);
    n.heard(key(2), Some(OLD), true, 0);
    let seen = until(&mut n, 0, 4 * S);
    assert_eq!(seen[0], (1000, ask(Some(OLD))));
    assert!(seen.contains(&(3500, lose(key(2)))), "{seen:?}");
}

#[test]
fn a_claim_moves_nothing_while_the_known_one_answers() {
    let mut n = reachable();
    for answers in [false, true] {
        let asked = n.heard(key(2), Some(NEW), answers, S);
        assert_eq!(asked, Some(ask(Some(OLD))));
        // However often it is claimed, and by whom: the known one is asked once.
        for claimed in [NEW, THIRD] {
            assert_eq!(n.heard(key(2), Some(claimed), answers, S), None);
        }
        let again = [(1150, ask(Some(OLD))), (1250, ask(Some(OLD)))];
        assert_eq!(until(&mut n, S, S + 300 * MS), again);
        // To speak is not to answer.
        assert_eq!(n.heard(key(2), Some(OLD), false, S), None);
        assert_eq!(n.heard(key(2), Some(OLD), true, S + 400 * MS), None);
        assert_eq!(until(&mut n, S + 400 * MS, 30 * S), []);
    }
    // Nor while it is being probed.
    n.due(32 * S);
    assert_eq!(
        n.heard(key(2), Some(NEW), true, 32 * S),
        Some(ask(Some(OLD)))
    );
    assert_eq!(n.heard(key(2), Some(OLD), true, 32 * S), None);
    assert_eq!(until(&mut n, 32 * S, 60 * S), []);
}

#[test]
fn a_claim_stands_if_the_known_one_is_silent_for_half_a_second() {
    let mut n = reachable();
    assert_eq!(n.heard(key(2), Some(NEW), false, S), Some(ask(Some(OLD))));
    let asked = until(&mut n, S, S + 500 * MS);
    assert_eq!(asked.len(), 3, "{asked:?}");
    assert!(asked.iter().all(|(_, action)| *action == ask(Some(OLD))));
    assert_eq!(n.due(S + 500 * MS), [resolve(NEW), ask(Some(NEW))]);
    assert_eq!(n.heard(key(2), Some(NEW), true, 2 * S), None);
    assert_eq!(until(&mut n, 2 * S, 32 * S), []);
}

#[test]
fn a_steward_that_was_held_up_leaves_time_for_the_answer() {
    let mut n = reachable();
    n.heard(key(2), Some(NEW), false, S);
    assert_eq!(n.due(3 * S), [ask(Some(OLD))]);
    assert_eq!(n.due(3 * S + 60 * MS), []);
    assert_eq!(n.heard(key(2), Some(OLD), true, 3 * S + 61 * MS), None);
    assert_eq!(until(&mut n, 4 * S, 33 * S), []);
}

#[test]
fn who_asks_us_is_known_but_has_to_answer() {
    let mut n = one();
    assert_eq!(n.heard(key(2), Some(OLD), false, 0), Some(resolve(OLD)));
    assert_eq!(n.due(0), [ask(Some(OLD))]);
    let seen = until(&mut n, 0, 3 * S);
    assert!(seen.contains(&(2500, lose(key(2)))), "{seen:?}");
    // An answer to a question that was not asked is none.
    let mut n = one();
    assert_eq!(n.heard(key(2), Some(OLD), true, 0), Some(resolve(OLD)));
    assert_eq!(n.due(0), [ask(Some(OLD))]);
}

#[test]
fn strangers_are_not_remembered_and_the_number_is_bounded() {
    let mut n = Neighbours::new(1);
    assert_eq!(n.heard(key(9), Some(OLD), true, 0), None);
    assert!(n.number(key(2), us(), 0).is_some());
    assert_eq!(n.number(key(3), us(), 0), None);
}

#[test]
fn a_fixed_neighbour_cannot_be_moved_and_is_not_asked() {
    let mut n = one();
    n.fix(key(2));
    assert!(n.due(S).is_empty());
    assert_eq!(n.heard(key(2), Some(NEW), true, S), None);
    assert!(n.due(1000 * S).is_empty());
    assert!(n.forget(u64::MAX, u64::MAX).is_empty());
}

#[test]
fn one_that_no_route_uses_is_forgotten_and_its_number_given_again() {
    let mut n = Neighbours::new(2);
    let first = n.number(key(2), us(), 0).unwrap().number;
    let second = n.number(key(3), us(), 0).unwrap().number;
    n.mark(second, 599 * S);
    assert!(
        n.forget(598 * S, 599 * S).is_empty(),
        "not for ten minutes yet"
    );
    n.mark(second, 601 * S);
    assert_eq!(n.forget(600 * S, 601 * S), [first]);
    assert_eq!(n.number(key(4), us(), 601 * S), None, "workers may know it");
    n.release(first);
    let number = Number {
        number: first,
        new: true,
    };
    assert_eq!(n.number(key(4), us(), 601 * S), Some(number));
    // What is used was marked since the sweep began, however long ago that is.
    assert!(n.forget(601 * S, 9000 * S).is_empty());
    n.keep(key(3), false);
    assert_eq!(n.forget(8999 * S, 9000 * S), [first]);
}

#[test]
fn a_crowd_that_does_not_answer_holds_up_no_gateway() {
    let mut n = Neighbours::new(2048);
    let keys = (0..2000u16).map(|i| {
        let [high, low] = i.to_be_bytes();
        let ip = IpAddr::from([10, 1, high, low]);
        Key { ip, ..key(0) }
    });
    for key in keys {
        assert!(n.number(key, us(), 0).is_some());
    }
    n.number(key(2), us(), 5);
    n.keep(key(2), true);
    assert!(n.due(5).contains(&ask(None)));
    // The others in turn, all of them.
    let rest: usize = (0..3).map(|_| n.due(5).len()).sum();
    assert_eq!((rest, n.due(5)), (2000 - DUE_AT_ONCE, vec![]));
}
