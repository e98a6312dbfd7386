//! Branches, delayed ends, held-back media, subscriptions.

mod common;
use common::*;
use penstock_media::*;
use std::time::Duration;

const NONE: Selector<'static> = Selector {
    tag: None,
    label: None,
    address: None,
    published: None,
};

/// Holding back, or no longer, without a subscription.
fn hold(what: HeldBack, on: bool) -> Hold<'static> {
    Hold {
        what,
        on,
        flows: Flows::Dialog,
        label: None,
    }
}

fn tag(tag: &str) -> Selector<'_> {
    Selector {
        tag: Some(tag),
        ..NONE
    }
}

fn by<'a>(to: Option<&'a str>, branch: &'a str) -> Parties<'a> {
    Parties {
        branch: Some(branch),
        ..parties("c", "a", to)
    }
}

/// One INVITE forked to two phones, told apart by branch: each has ports of its own; the one that is given up
/// takes nothing from the other.
#[test]
fn branches_are_dialogs_of_their_own() {
    let mut calls = calls(8);
    let none = Options::default();
    let body = sdp("10.0.0.1", 4000, "");
    let one = offer(&mut calls, by(None, "b1"), &body, &none, 0.0).unwrap();
    let two = offer(&mut calls, by(None, "b2"), &body, &none, 0.0).unwrap();
    assert_ne!(port_of(&one), port_of(&two));
    let again = offer(&mut calls, by(None, "b1"), &body, &none, 0.1).unwrap();
    assert_eq!(one, again, "a retransmission changes nothing");

    let early = sdp("10.0.0.2", 5000, "");
    let answered = sdp("10.0.0.3", 6000, "");
    answer(&mut calls, by(Some("t1"), "b1"), &early, &none, 1.0).unwrap();
    answer(&mut calls, by(Some("t2"), "b2"), &answered, &none, 2.0).unwrap();
    let call = calls.get("c").unwrap();
    assert_eq!(call.dialogs.len(), 2);
    let remotes: Vec<_> = call
        .dialogs
        .iter()
        .map(|d| d.medias[0].sides[1].remote)
        .collect();
    assert_eq!(remotes[0].unwrap().port(), 5000);
    assert_eq!(remotes[1].unwrap().port(), 6000);

    let pending = calls
        .delete("c", (Some("a"), None), Some("b1"), Duration::ZERO, now(3.0))
        .unwrap();
    commit(&mut calls, pending, 3.0);
    let call = calls.get("c").unwrap();
    assert_eq!(call.dialogs.len(), 1);
    assert!(call.dialogs[0].legs[1].has("t2"));

    // In the dialog branches mean nothing any more: the tags do.
    offer(&mut calls, by(Some("t2"), "b7"), &body, &none, 4.0).unwrap();
    assert_eq!(calls.get("c").unwrap().dialogs.len(), 1);
}

/// A delete with a delay leaves media as it is until then, and signalling takes it back.
#[test]
fn an_end_can_be_delayed() {
    let mut calls = calls(8);
    established(&mut calls);
    let delay = Duration::from_secs(5);
    let delete = |calls: &mut Calls, s| {
        let pending = calls
            .delete("c", (Some("a"), None), None, delay, now(s))
            .unwrap();
        assert!(pending.ops.is_empty());
        commit(calls, pending, s);
    };
    delete(&mut calls, 10.0);
    let key = calls.get("c").unwrap().key;
    assert!(calls.expire(key, now(14.9)).is_none());
    offer(
        &mut calls,
        parties("c", "a", Some("b")),
        &sdp("10.0.0.1", 4000, ""),
        &Options::default(),
        14.0,
    )
    .unwrap();
    assert!(calls.expire(key, now(16.0)).is_none());
    delete(&mut calls, 20.0);
    let pending = calls.expire(key, now(25.0)).unwrap();
    assert!(pending.after().is_none());
    commit(&mut calls, pending, 25.0);
    assert!(calls.is_empty());
}

#[test]
fn media_is_held_back_and_let_go() {
    let mut calls = calls(8);
    established(&mut calls);
    // Without telephone events, all of the media is held back.
    let mut then = |from, what, on| {
        let pending = calls
            .hold_back("c", (from, NONE), hold(what, on), now(2.0))
            .unwrap();
        commit(&mut calls, pending, 2.0);
        (gates(&calls), rtp(&calls).map(|s| s.drop_events))
    };
    assert_eq!(then(tag("a"), HeldBack::Media, true).0, [false, true]);
    assert_eq!(then(NONE, HeldBack::Silence, true).0, [false, false]);
    assert_eq!(then(tag("a"), HeldBack::Media, false).0, [false, false]);
    assert_eq!(then(NONE, HeldBack::Silence, false).0, [true, true]);
    assert_eq!(then(tag("b"), HeldBack::Dtmf, true).1, [false, true]);
    let blocks = hold(HeldBack::Media, true);
    let error = calls.hold_back("c", (tag("x"), NONE), blocks, now(2.0));
    assert_eq!(error.unwrap_err(), MediaError::NoTag);
    let at = Selector {
        address: Some([10, 0, 0, 2].into()),
        ..NONE
    };
    let towards = |to| calls.hold_back("c", (at, to), blocks, now(2.0));
    assert!(towards(tag("a")).is_ok());
    assert_eq!(towards(tag("b")).unwrap_err(), MediaError::NoLeg);
}

/// Copies for one who subscribed are held back by themselves: all, or those on their way to him.
#[test]
fn copies_are_held_back_and_let_go() {
    let mut calls = calls(8);
    established(&mut calls);
    let one = |calls: &mut Calls, name: &str| {
        let from = [tag("a"), tag("b")];
        let none = Options::default();
        let pending = calls
            .subscribe("c", &from, name, &none, now(2.0))
            .unwrap()
            .0;
        commit(calls, pending, 2.0);
    };
    one(&mut calls, "s");
    one(&mut calls, "t");
    let mut then = |from, to, flows, on| {
        let hold = Hold {
            flows,
            ..hold(HeldBack::Media, on)
        };
        let pending = calls.hold_back("c", (from, to), hold, now(3.0)).unwrap();
        commit(&mut calls, pending, 3.0);
        let call = calls.get("c").unwrap();
        let streams = call.desired();
        let copies = call.forks.iter().flat_map(|fork| &fork.medias);
        let open: Vec<bool> = copies.map(|copy| streams[&copy.local].gate_open).collect();
        let locals = call.dialogs[0].medias[0].locals.unwrap();
        let reports = streams.values().filter(|s| s.kind == Kind::Rtcp);
        assert!(reports.into_iter().all(|rtcp| rtcp.gate_open));
        (locals.map(|local| streams[&local].gate_open), open)
    };
    let (both, copies) = ([true, true], |open: [u8; 4]| {
        open.map(|bit| bit == 1).to_vec()
    });
    assert_eq!(
        then(tag("a"), NONE, Flows::Forks, true),
        (both, copies([0, 1, 0, 1]))
    );
    assert_eq!(
        then(tag("a"), tag("t"), Flows::Dialog, false),
        (both, copies([0, 1, 1, 1]))
    );
    assert_eq!(
        then(NONE, tag("s"), Flows::Dialog, true),
        (both, copies([0, 0, 1, 1]))
    );
    assert_eq!(
        then(tag("b"), NONE, Flows::All, true),
        ([true, false], copies([0, 0, 1, 0]))
    );
    assert_eq!(
        then(NONE, NONE, Flows::All, false),
        (both, copies([1, 1, 1, 1]))
    );
    let unsubscribed = calls.unsubscribe("c", "s").unwrap();
    commit(&mut calls, unsubscribed, 4.0);
    let gone = calls.hold_back(
        "c",
        (tag("a"), tag("s")),
        hold(HeldBack::Media, true),
        now(4.0),
    );
    assert_eq!(gone.unwrap_err(), MediaError::NoTag);
}

/// A name that is given to whom a block selects is nobody else's.
#[test]
fn who_is_held_back_may_be_given_a_name() {
    let mut calls = calls(8);
    established(&mut calls);
    let mut names = |from, label| {
        let hold = Hold {
            label: Some(label),
            ..hold(HeldBack::Dtmf, true)
        };
        let pending = calls.hold_back("c", (from, NONE), hold, now(2.0)).unwrap();
        commit(&mut calls, pending, 2.0);
        let legs = &calls.get("c").unwrap().dialogs[0].legs;
        [0, 1].map(|side| legs[side].label.clone().unwrap_or_default())
    };
    assert_eq!(names(tag("a"), "x"), ["x", ""]);
    assert_eq!(names(tag("b"), "x"), ["", "x"]);
    let by_name = Selector {
        label: Some("x"),
        ..NONE
    };
    assert_eq!(names(by_name, "y"), ["", "y"]);
    assert_eq!(names(NONE, "z"), ["", "y"], "nobody was selected");
}

/// Who subscribes to a leg is offered what it sends, and gets copies once he has answered.
#[test]
fn a_leg_is_subscribed_to() {
    let mut calls = calls(8);
    established(&mut calls);
    let none = Options::default();
    let (pending, subscribed) = calls
        .subscribe("c", &[tag("a"), tag("b")], "s", &none, now(2.0))
        .unwrap();
    let body = commit(&mut calls, pending, 2.0);
    assert_eq!(subscribed.from_tags, ["a", "b"]);
    assert!(
        body.contains("a=sendonly\r\n") && body.contains("a=rtpmap:8 PCMA/8000\r\n"),
        "{body}"
    );
    let offered = penstock_sdp::Sdp::parse(body.as_bytes()).unwrap();
    assert_eq!(offered.media().len(), 2);

    let answer = "v=0\r\no=- 1 1 IN IP4 10.0.0.9\r\ns=-\r\nc=IN IP4 10.0.0.9\r\nt=0 0\r\n\
                  m=audio 7000 RTP/AVP 8\r\na=recvonly\r\nm=audio 0 RTP/AVP 8\r\n";
    let pending = calls
        .subscribe_answer("c", "s", answer.as_bytes(), &none, now(3.0))
        .unwrap();
    commit(&mut calls, pending, 3.0);
    let desired = calls.get("c").unwrap().desired();
    let copies: Vec<_> = desired
        .values()
        .filter(|s| matches!(s.feed, Feed::CopyOf(_)) && s.remote.is_some())
        .collect();
    assert_eq!(copies.len(), 2, "RTP and RTCP of one section");
    assert_eq!(copies[0].remote.unwrap().port(), 7000);
    let established: Vec<Local> = desired
        .values()
        .filter(|s| s.feed == Feed::Own && s.leg == 0)
        .map(|s| s.local)
        .collect();
    assert!(
        copies
            .iter()
            .all(|s| matches!(s.feed, Feed::CopyOf(of) if established.contains(&of)))
    );

    let pending = calls.unsubscribe("c", "s").unwrap();
    assert_eq!(pending.ops.len(), 4);
    commit(&mut calls, pending, 4.0);
    assert_eq!(calls.unsubscribe("c", "s").unwrap_err(), MediaError::NoLeg);
    assert_eq!(calls.get("c").unwrap().locals().count(), 2);
}

/// Copies end with the leg they are copies of.
#[test]
fn subscriptions_end_with_the_call() {
    let mut calls = calls(8);
    established(&mut calls);
    let none = Options::default();
    let (pending, _) = calls.subscribe("c", &[NONE], "s", &none, now(2.0)).unwrap();
    commit(&mut calls, pending, 2.0);
    assert!(delete(&mut calls, "c", Some("a"), None, 3.0));
    assert!(calls.is_empty());
    assert!(calls.ports().all(|(_, used, _)| used == 0));
}

/// A leg that only publishes is answered with recvonly, and can be subscribed to.
#[test]
fn a_leg_publishes() {
    let mut calls = calls(8);
    let none = Options::default();
    let body = sdp("10.0.0.1", 4000, "a=sendonly\r\n");
    let pending = calls
        .publish(&parties("c", "p", None), body.as_bytes(), &none, now(0.0))
        .unwrap();
    let answer = commit(&mut calls, pending, 0.0);
    assert!(
        answer.contains("a=recvonly\r\n") && !answer.contains("sendonly"),
        "{answer}"
    );
    let call = calls.get("c").unwrap();
    assert_eq!(call.desired().len(), 2);
    // Nobody is faced by a second pair of ports, and what comes leaves by none.
    assert_eq!(call.locals().count(), 1);
    assert!(call.desired().values().all(|stream| stream.peer.port == 0));
    let used = |calls: &Calls| calls.ports().map(|(_, used, _)| used).sum::<usize>();
    assert_eq!(used(&calls), 1);
    let stored = call.clone();
    assert_eq!(common::calls(8).restore([stored])[0].1, Restore::Done);
    let (pending, subscribed) = calls
        .subscribe("c", &[tag("p")], "s", &none, now(1.0))
        .unwrap();
    commit(&mut calls, pending, 1.0);
    assert_eq!(subscribed.from_tags, ["p"]);
    assert_eq!(used(&calls), 2);
    assert!(delete(&mut calls, "c", Some("p"), None, 2.0));
    assert_eq!(used(&calls), 0);
}

/// o= and s= as one session for the life of the dialog.
#[test]
fn the_origin_is_kept() {
    let mut calls = calls(8);
    let options = Options {
        replace: Replace {
            address: true,
            username: true,
            session_id: true,
            session_name: true,
            version: true,
            force_version: false,
        },
        ..Options::default()
    };
    let body = |user: &str, version: u32, extra: &str| {
        sdp("10.0.0.1", 4000, extra).replace("o=- 1 1", &format!("o={user} 77 {version}"))
    };
    let p = || parties("c", "a", None);
    let out = offer(&mut calls, p(), &body("alice", 5, ""), &options, 0.0).unwrap();
    assert!(out.contains("o=alice 77 5 IN IP4 203.0.113.1\r\n"), "{out}");
    let out = offer(&mut calls, p(), &body("bob", 9, ""), &options, 1.0).unwrap();
    assert!(out.contains("o=alice 77 5 IN IP4"), "{out}");
    let out = offer(
        &mut calls,
        p(),
        &body("bob", 9, "a=sendonly\r\n"),
        &options,
        2.0,
    )
    .unwrap();
    assert!(out.contains("o=alice 77 6 IN IP4"), "{out}");
}

/// A body that has been through here leaves as it came.
#[test]
fn loops_are_left_alone() {
    let mut calls = calls(8);
    let options = Options {
        loop_mark: Some("0123".into()),
        ..Options::default()
    };
    let out = offer(
        &mut calls,
        parties("c", "a", None),
        &sdp("10.0.0.1", 4000, ""),
        &options,
        0.0,
    )
    .unwrap();
    assert!(out.contains("a=rtpengine:0123\r\n"), "{out}");
    let again = offer(&mut calls, parties("d", "a", None), &out, &options, 1.0).unwrap();
    assert_eq!(again, out);
    assert_eq!(calls.len(), 1);
}

/// Interfaces that share a name before the colon take turns; those of one name are one with several addresses.
#[test]
fn interfaces_take_turns_and_have_several_addresses() {
    let interface = |name: &str, ip: &str| Interface {
        name: name.into(),
        ip: ip.parse().unwrap(),
        vlan: 0,
        advertise: ip.parse().unwrap(),
        ports: (10_000, 10_015),
    };
    let settings = Settings {
        interfaces: vec![
            interface("in", "198.18.0.1"),
            interface("in", "2001:db8::1"),
            interface("out:1", "198.18.1.1"),
            interface("out:2", "198.18.1.2"),
        ],
        rest: REST,
        max_calls: 20,
        seed: 0,
    };
    let mut calls = Calls::new(settings, now(0.0));
    let way = |to: &str| Options {
        direction: [Some("in".into()), Some(to.into())],
        ..Options::default()
    };
    let mut seen = Vec::new();
    for id in ["1", "2", "3"] {
        let body = sdp("10.0.0.1", 4000, "");
        let out = offer(&mut calls, parties(id, "a", None), &body, &way("out"), 0.0).unwrap();
        seen.push(out.contains("198.18.1.2"));
    }
    assert!(seen[0] != seen[1] && seen[0] == seen[2], "{seen:?}");
    let six = Options {
        address_family: Some(Family::Ip6),
        ..way("in")
    };
    delete(&mut calls, "1", None, None, 1.0);
    let out = offer(
        &mut calls,
        parties("6", "a", None),
        &sdp("10.0.0.1", 4000, ""),
        &six,
        9.0,
    )
    .unwrap();
    assert!(out.contains("c=IN IP6 2001:db8::1\r\n"), "{out}");
    let unknown = offer(
        &mut calls,
        parties("7", "a", None),
        &sdp("10.0.0.1", 4000, ""),
        &way("ou"),
        9.0,
    );
    assert_eq!(
        unknown.unwrap_err(),
        MediaError::UnknownInterface("ou".into())
    );
}

/// Where media is blocked, telephone events pass.
#[test]
fn events_pass_where_media_is_blocked() {
    let mut calls = calls(8);
    let body = |ip| sdp(ip, 4000, "a=rtpmap:101 telephone-event/8000\r\n");
    let none = Options::default();
    offer(
        &mut calls,
        parties("c", "a", None),
        &body("10.0.0.1"),
        &none,
        0.0,
    )
    .unwrap();
    answer(
        &mut calls,
        parties("c", "a", Some("b")),
        &body("10.0.0.2"),
        &none,
        1.0,
    )
    .unwrap();
    let pending = calls
        .hold_back("c", (tag("a"), NONE), hold(HeldBack::Media, true), now(2.0))
        .unwrap();
    commit(&mut calls, pending, 2.0);
    let [a, b] = rtp(&calls);
    assert!(a.gate_open && a.strict_payload && a.payload_types == 1 << 101);
    assert!(b.gate_open && !b.strict_payload);
}

/// Media goes back to its sender, or nowhere, and nobody is sent to before he has sent.
#[test]
fn media_is_echoed_dropped_and_waited_for() {
    let mut calls = calls(8);
    established(&mut calls);
    let with = |calls: &mut Calls, options: Options, s| {
        offer(
            calls,
            parties("c", "a", Some("b")),
            &sdp("10.0.0.1", 4000, ""),
            &options,
            s,
        )
        .unwrap();
        rtp(calls)
    };
    let echo = Options {
        echo: Some([true, false]),
        ..Options::default()
    };
    let [a, b] = with(&mut calls, echo, 2.0);
    assert_eq!((a.peer, b.peer), (a.local, a.local));
    let end = Options {
        echo: Some([false, false]),
        drop: Some(true),
        ..Options::default()
    };
    let [a, b] = with(&mut calls, end, 3.0);
    assert_eq!(a.peer, b.local);
    assert!(!a.gate_open && !b.gate_open);
    let wait = Options {
        drop: Some(false),
        wait: true,
        ..Options::default()
    };
    let [a, _] = with(&mut calls, wait, 4.0);
    assert!(a.gate_open && a.remote.is_none() && a.hint == Some([10, 0, 0, 1].into()));
}
