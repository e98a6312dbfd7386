//! When a call is taken for dead.

mod common;
use common::*;
use penstock_media::*;
use std::time::Duration;

const T: Timeouts = Timeouts {
    start: Duration::from_secs(60),
    silence: Duration::from_secs(50),
    hold: Duration::from_secs(3600),
    one_way: Duration::from_secs(30),
    one_way_ends: false,
    last: Duration::ZERO,
};

fn s(s: u64) -> Duration {
    Duration::from_secs(s)
}

/// The RTP endpoints facing leg 0 and leg 1.
fn locals(calls: &Calls) -> [Local; 2] {
    calls.get("c").unwrap().dialogs[0].medias[0].locals.unwrap()
}

/// The call at time `at`, whose streams were installed at 0; `seen` are the times of the last packets
/// of the two legs, and the plane is at work since `since`.
fn at(calls: &Calls, seen: [Option<u64>; 2], at: u64, since: u64, timeouts: &Timeouts) -> Health {
    let locals = locals(calls);
    let sign = |local: Local| {
        let side = locals.iter().position(|l| *l == local).expect("RTP alone");
        Some(Sign {
            since: s(0),
            last_seen: seen[side].map(s),
        })
    };
    judge(
        calls.get("c").unwrap(),
        &sign,
        s(since),
        now(at as f64),
        timeouts,
    )
}

fn stands() -> Calls {
    let mut all = calls(8);
    established(&mut all);
    all
}

#[test]
fn media_that_never_comes_or_ceases_ends_the_call() {
    let calls = stands();
    // The answer came at 1.
    for (seen, at_s, want) in [
        ([None, None], 60, Health::Well),
        ([None, None], 61, Health::Over(End::NoStart)),
        ([Some(20), Some(20)], 49, Health::Well),
        ([Some(20), Some(20)], 69, Health::Well),
        ([Some(20), Some(20)], 70, Health::Over(End::Silence)),
        ([Some(20), Some(90)], 91, Health::OneWay),
        ([Some(90), Some(90)], 91, Health::Well),
        // One never started, the other has ceased.
        ([None, Some(20)], 71, Health::Over(End::Silence)),
        ([None, Some(5)], 58, Health::Well),
    ] {
        assert_eq!(at(&calls, seen, at_s, 0, &T), want, "{seen:?} at {at_s}");
    }
}

#[test]
fn a_plane_that_was_away_starts_the_clock_anew() {
    let calls = stands();
    let seen = [Some(20), Some(20)];
    assert_eq!(at(&calls, seen, 200, 190, &T), Health::Well);
    assert_eq!(at(&calls, seen, 240, 190, &T), Health::Over(End::Silence));
    assert_eq!(at(&calls, [None, None], 240, 190, &T), Health::Well);
    assert_eq!(
        at(&calls, [None, None], 250, 190, &T),
        Health::Over(End::NoStart)
    );
}

#[test]
fn zero_is_never() {
    let calls = stands();
    let never = Timeouts {
        start: s(0),
        silence: s(0),
        hold: s(0),
        one_way: s(0),
        ..T
    };
    let long = 1_000_000;
    for seen in [
        [None, None],
        [Some(5), None],
        [Some(5), Some(5)],
        [Some(long), None],
    ] {
        assert_eq!(at(&calls, seen, long, 0, &never), Health::Well);
    }
}

#[test]
fn a_call_on_hold_or_unanswered_has_longer() {
    let mut calls = stands();
    offer(
        &mut calls,
        parties("c", "a", Some("b")),
        &sdp("10.0.0.1", 4000, "a=inactive\r\n"),
        &Options::default(),
        100.0,
    )
    .unwrap();
    answer(
        &mut calls,
        parties("c", "a", Some("b")),
        &sdp("10.0.0.2", 5000, "a=inactive\r\n"),
        &Options::default(),
        101.0,
    )
    .unwrap();
    let seen = [Some(99), Some(99)];
    assert_eq!(at(&calls, seen, 3700, 0, &T), Health::Well);
    assert_eq!(at(&calls, seen, 3701, 0, &T), Health::Over(End::Hold));
    // Off hold: the clock starts anew, whatever the last packet's time.
    for (who, p) in [("10.0.0.1", 4000), ("10.0.0.2", 5000)] {
        let party = parties("c", "a", Some("b"));
        let body = sdp(who, p, "");
        let none = Options::default();
        match p {
            4000 => offer(&mut calls, party, &body, &none, 3000.0).unwrap(),
            _ => answer(&mut calls, party, &body, &none, 3000.0).unwrap(),
        };
    }
    assert_eq!(at(&calls, seen, 3049, 0, &T), Health::Well);
    assert_eq!(at(&calls, seen, 3050, 0, &T), Health::Over(End::Silence));

    let mut rings = common::calls(8);
    let body = sdp("10.0.0.1", 4000, "");
    offer(
        &mut rings,
        parties("c", "a", None),
        &body,
        &Options::default(),
        0.0,
    )
    .unwrap();
    assert_eq!(at(&rings, [None, None], 3599, 0, &T), Health::Well);
    assert_eq!(
        at(&rings, [None, None], 3600, 0, &T),
        Health::Over(End::Hold)
    );
}

#[test]
fn a_retransmission_keeps_no_call_alive() {
    let mut calls = stands();
    let body = sdp("10.0.0.1", 4000, "");
    offer(
        &mut calls,
        parties("c", "a", None),
        &body,
        &Options::default(),
        69.0,
    )
    .unwrap();
    let seen = [Some(20), Some(20)];
    assert_eq!(at(&calls, seen, 70, 0, &T), Health::Over(End::Silence));
}

#[test]
fn one_way_media_ends_the_call_only_on_request() {
    let calls = stands();
    let ends = Timeouts {
        one_way_ends: true,
        ..T
    };
    let one = [Some(40), None];
    assert_eq!(at(&calls, one, 30, 0, &T), Health::Well);
    assert_eq!(at(&calls, one, 41, 0, &T), Health::OneWay);
    assert_eq!(at(&calls, one, 41, 0, &ends), Health::Over(End::OneWay));
    // A leg that only listens sends nothing.
    let mut listens = common::calls(8);
    let none = Options::default();
    let (a, b) = (
        sdp("10.0.0.1", 4000, "a=sendonly\r\n"),
        sdp("10.0.0.2", 5000, "a=recvonly\r\n"),
    );
    offer(&mut listens, parties("c", "a", None), &a, &none, 0.0).unwrap();
    answer(&mut listens, parties("c", "a", Some("b")), &b, &none, 0.0).unwrap();
    assert_eq!(at(&listens, one, 41, 0, &T), Health::Well);
}

#[test]
fn what_the_plane_lacks_does_not_flow() {
    let calls = stands();
    let call = calls.get("c").unwrap();
    let health = |at| judge(call, &|_| None, s(0), now(at), &T);
    assert_eq!(health(60.0), Health::Well);
    assert_eq!(health(61.0), Health::Over(End::NoStart));
}

#[test]
fn no_call_outlives_the_final_timeout() {
    let calls = stands();
    let limit = Timeouts { last: s(100), ..T };
    let seen = [Some(99), Some(99)];
    assert_eq!(at(&calls, seen, 99, 0, &limit), Health::Well);
    assert_eq!(at(&calls, seen, 100, 0, &limit), Health::Over(End::Final));
}

#[test]
fn a_call_without_media_is_kept_as_one_on_hold() {
    let mut calls = stands();
    let refused = sdp("10.0.0.1", 0, "");
    offer(
        &mut calls,
        parties("c", "a", None),
        &refused,
        &Options::default(),
        10.0,
    )
    .unwrap();
    let call = calls.get("c").unwrap();
    let health = |at| judge(call, &|_| None, s(0), now(at), &T);
    assert_eq!(health(3609.0), Health::Well);
    assert_eq!(health(3610.0), Health::Over(End::Hold));
}

/// Of what is held back, dropped or drowned by an echo nothing is expected, and the clock starts anew once it is let go.
#[test]
fn media_that_may_not_pass_is_not_missed() {
    let any = (Selector::default(), Selector::default());
    let seen = [Some(20), Some(20)];
    for what in [HeldBack::Media, HeldBack::Silence] {
        let mut calls = stands();
        let hold = |calls: &mut Calls, on, s| {
            let hold = Hold {
                what,
                on,
                flows: Flows::Dialog,
                label: None,
            };
            let pending = calls.hold_back("c", any, hold, now(s)).unwrap();
            commit(calls, pending, s);
        };
        hold(&mut calls, true, 20.0);
        assert_eq!(at(&calls, seen, 500, 0, &T), Health::Well);
        assert_eq!(at(&calls, seen, 3620, 0, &T), Health::Over(End::Hold));
        hold(&mut calls, false, 500.0);
        assert_eq!(at(&calls, seen, 549, 0, &T), Health::Well);
        assert_eq!(at(&calls, seen, 550, 0, &T), Health::Over(End::Silence));
    }
    let mut calls = stands();
    let offered = |calls: &mut Calls, drop, echo, s| {
        let options = Options {
            drop,
            echo,
            ..Options::default()
        };
        let body = sdp("10.0.0.1", 4000, "");
        offer(calls, parties("c", "a", Some("b")), &body, &options, s).unwrap();
    };
    offered(&mut calls, Some(true), None, 20.0);
    assert_eq!(at(&calls, seen, 500, 0, &T), Health::Well);
    offered(&mut calls, Some(false), None, 500.0);
    assert_eq!(at(&calls, seen, 549, 0, &T), Health::Well);
    assert_eq!(at(&calls, seen, 550, 0, &T), Health::Over(End::Silence));
    offered(&mut calls, None, Some([true, false]), 600.0);
    assert_eq!(at(&calls, [Some(990), None], 1000, 0, &T), Health::Well);
}
