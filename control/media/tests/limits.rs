//! What is refused, runs out, forks or comes back: nothing is shared, and nothing leaks.

mod common;
use common::*;
use penstock_media::*;

#[test]
fn commands_out_of_order_have_an_answer() {
    let mut calls = calls(8);
    let none = Options::default();
    let body = sdp("10.0.0.2", 5000, "");
    let error = answer(&mut calls, parties("c", "a", Some("b")), &body, &none, 0.0).unwrap_err();
    assert_eq!(error.to_string(), "Unknown call-id");
    assert!(!delete(&mut calls, "c", Some("a"), None, 0.0));
    established(&mut calls);
    let error = answer(&mut calls, parties("c", "x", Some("b")), &body, &none, 0.0).unwrap_err();
    assert_eq!(error.to_string(), "From-tag not found");
    assert!(!delete(&mut calls, "c", Some("x"), None, 0.0));
    assert!(!delete(&mut calls, "c", Some("a"), Some("x"), 0.0));
    assert!(
        delete(&mut calls, "c", Some("b"), Some("a"), 0.0),
        "either leg may end it"
    );
    assert!(!delete(&mut calls, "c", Some("b"), Some("a"), 0.0));
}

#[test]
fn forks_are_aliases_and_the_last_answer_wins() {
    let mut calls = calls(8);
    let none = Options::default();
    established(&mut calls);
    let back = answer(
        &mut calls,
        parties("c", "a", Some("fork")),
        &sdp("10.0.0.3", 6000, ""),
        &none,
        2.0,
    )
    .unwrap();
    let [a, b] = rtp(&calls);
    assert_eq!(port_of(&back), a.local.port);
    assert_eq!(
        (b.remote, b.signal),
        (Some("10.0.0.3:6000".parse().unwrap()), 2)
    );
    assert_eq!(
        calls.get("c").unwrap().dialogs[0].legs[1].tags,
        ["b", "fork"]
    );
    for n in 0..40 {
        let tag = format!("fork{n}");
        let result = answer(
            &mut calls,
            parties("c", "a", Some(&tag)),
            &sdp("10.0.0.3", 6000, ""),
            &none,
            3.0,
        );
        assert_eq!(result.is_err(), n >= MAX_TAGS - 3, "{n}");
    }
    assert!(delete(&mut calls, "c", Some("a"), Some("fork"), 4.0));
    assert!(calls.is_empty());
}

#[test]
fn one_call_id_can_have_two_dialogs() {
    let mut calls = calls(8);
    let none = Options::default();
    established(&mut calls);
    offer(
        &mut calls,
        parties("c", "x", None),
        &sdp("10.0.0.7", 7000, ""),
        &none,
        2.0,
    )
    .unwrap();
    assert_eq!(calls.get("c").unwrap().desired().len(), 8);
    assert!(delete(&mut calls, "c", Some("a"), Some("b"), 3.0));
    assert_eq!(calls.get("c").unwrap().desired().len(), 4);
    assert!(delete(&mut calls, "c", None, None, 3.0));
    assert!(calls.is_empty());
}

#[test]
fn what_cannot_be_relayed_takes_no_port() {
    let mut calls = calls(3);
    let none = Options::default();
    let many = |count: usize| {
        sdp(
            "10.0.0.1",
            4000,
            &"m=audio 4002 RTP/AVP 8\r\n".repeat(count),
        )
    };
    for (body, want) in [
        (String::new(), "Failed to parse SDP"),
        (
            "v=0\r\no=- 1 1 IN IP4 10.0.0.1\r\ns=-\r\nt=0 0\r\n".into(),
            "Error rewriting SDP: no m=",
        ),
        (sdp("phone.example.com", 4000, ""), "Failed to parse SDP"),
        (many(99), "Failed to parse SDP: 100 media"),
        (many(1), "Ran out of ports"),
        (
            sdp("239.0.0.1", 4000, ""),
            "Media cannot be sent to 239.0.0.1, a loopback, multicast or broadcast address",
        ),
        (
            sdp("127.8.9.10", 4000, ""),
            "Media cannot be sent to 127.8.9.10,",
        ),
        (
            sdp("255.255.255.255", 4000, ""),
            "Media cannot be sent to 255.255.255.255,",
        ),
        (
            sdp("10.0.0.1", 4000, "").replace("IP4 10.0.0.1", "IP6 ::1"),
            "Media cannot be sent to ::1,",
        ),
        (
            sdp("10.0.0.1", 4000, "a=rtcp:4001 IN IP4 127.0.0.1\r\n"),
            "Media cannot be sent to 127.0.0.1,",
        ),
        (
            sdp(
                "10.0.0.1",
                4000,
                "m=audio 4002 RTP/AVP 8\r\nc=IN IP6 2001:db8::7\r\n",
            ),
            "Address 2001:db8::7 is not of the address family of interface \"internal\"",
        ),
        (
            sdp("10.0.0.1", 4000, "a=rtcp:4001 IN IP6 2001:db8::7\r\n"),
            "Address 2001:db8::7 is not of the address family of interface \"internal\"",
        ),
    ] {
        for _ in 0..5 {
            let error = offer(&mut calls, parties("c", "a", None), &body, &none, 0.0).unwrap_err();
            assert!(error.to_string().starts_with(want), "{error} for {body}");
        }
    }
    assert!(calls.ports().all(|(_, used, all)| used == 0 && all == 3));
    assert!(calls.is_empty());
    established(&mut calls);
}

#[test]
fn a_refused_change_gives_its_ports_back_after_a_rest() {
    let mut calls = calls(2);
    let none = Options::default();
    let body = sdp("10.0.0.1", 4000, "");
    let pending = calls
        .offer(&parties("c", "a", None), body.as_bytes(), &none, now(0.0))
        .unwrap();
    let [(key, steps)] = &pending.undo()[..] else {
        panic!("{:?}", pending.undo())
    };
    assert_eq!((*key, steps.len()), (pending.key, 4));
    assert!(steps.iter().all(|op| matches!(op, Op::Remove(_))));
    calls.rollback(pending, now(0.0));
    assert!(calls.is_empty());
    let error = offer(&mut calls, parties("c", "a", None), &body, &none, 1.9).unwrap_err();
    assert_eq!(error, MediaError::OutOfPorts);
    offer(&mut calls, parties("c", "a", None), &body, &none, 2.0).unwrap();
}

#[test]
fn the_limit_of_calls_counts_those_being_set_up() {
    let mut calls = calls(64);
    let none = Options::default();
    let body = sdp("10.0.0.1", 4000, "");
    let mut pending = Vec::new();
    for n in 0..20 {
        let id = n.to_string();
        pending.push(
            calls
                .offer(&parties(&id, "a", None), body.as_bytes(), &none, now(0.0))
                .unwrap(),
        );
    }
    let full = calls.offer(&parties("x", "a", None), body.as_bytes(), &none, now(0.0));
    assert_eq!(full.unwrap_err(), MediaError::TooManyCalls);
    calls.rollback(pending.pop().unwrap(), now(0.0));
    pending.push(
        calls
            .offer(&parties("x", "a", None), body.as_bytes(), &none, now(0.0))
            .unwrap(),
    );
    let mut keys: Vec<_> = pending.iter().map(|p| p.key).collect();
    keys.dedup();
    assert_eq!(keys.len(), 20);
    for p in pending {
        calls.commit(p, now(0.0));
    }
    assert_eq!(calls.len(), 20);
}

#[test]
fn restored_calls_own_their_ports() {
    let mut first = calls(2);
    established(&mut first);
    let json = serde_json::to_string(first.get("c").unwrap()).unwrap();
    let call: Call = serde_json::from_str(&json).unwrap();
    assert_eq!(Some(&call), first.get("c"));

    let mut second = calls(2);
    let thief = Call {
        id: "d".into(),
        key: 1,
        ..call.clone()
    };
    let outcome = second.restore([call.clone(), thief]);
    assert_eq!(
        outcome,
        [("c".into(), Restore::Done), ("d".into(), Restore::Clash)]
    );
    assert_eq!(second.by_key(call.key), Some(&call));
    let body = sdp("10.0.0.1", 4000, "");
    let full = offer(
        &mut second,
        parties("e", "a", None),
        &body,
        &Options::default(),
        9.0,
    );
    assert_eq!(full.unwrap_err(), MediaError::OutOfPorts);
    assert!(delete(&mut second, "c", Some("a"), Some("b"), 9.0));
    offer(
        &mut second,
        parties("e", "a", None),
        &body,
        &Options::default(),
        11.0,
    )
    .unwrap();
    assert!(second.get("e").unwrap().key > call.key);
}

#[test]
fn addresses_other_than_the_sdp_says() {
    let mut calls = calls(8);
    let options = Options {
        source_address: Some("192.0.2.7".parse().unwrap()),
        media_address: Some("192.0.2.200".parse().unwrap()),
        replace: Replace {
            address: true,
            ..Replace::default()
        },
        rtcp_attribute: RtcpAttribute::None,
        tos: Tos::Dscp(46),
        learn: Some(Learn::Off),
        ..Options::default()
    };
    let body = sdp("10.0.0.1", 4000, "");
    let out = offer(&mut calls, parties("c", "a", None), &body, &options, 0.0).unwrap();
    assert!(out.contains("o=- 1 1 IN IP4 192.0.2.200\r\n"), "{out}");
    assert!(
        out.contains("c=IN IP4 192.0.2.200\r\n") && !out.contains("a=rtcp"),
        "{out}"
    );
    let [a, b] = rtp(&calls);
    assert_eq!(a.remote, Some("192.0.2.7:4000".parse().unwrap()));
    assert_eq!(
        (a.dscp, a.learn, b.learn),
        (Some(46), Learn::Off, Learn::Off)
    );
}
