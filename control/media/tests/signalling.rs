//! Offer, answer and what follows, step by step.

mod common;
use common::*;
use penstock_media::*;

#[test]
fn an_offer_installs_both_directions_and_an_answer_completes_them() {
    let mut calls = calls(8);
    let body = sdp("10.0.0.1", 4000, "a=sendrecv\r\na=rtcp:4005\r\n");
    let options = Options {
        replace: Replace {
            address: true,
            ..Replace::default()
        },
        ..Options::default()
    };
    let pending = calls
        .offer(
            &parties("c", "a", None),
            body.as_bytes(),
            &options,
            now(0.0),
        )
        .unwrap();
    assert_eq!(pending.ops.len(), 4);
    assert!(calls.get("c").is_none(), "not before the plane has it");
    let out = commit(&mut calls, pending, 0.0);
    let [a, b] = rtp(&calls);
    assert_eq!(a.remote, Some("10.0.0.1:4000".parse().unwrap()));
    assert_eq!(
        (b.remote, b.learn, b.gate_open),
        (None, Learn::Heuristic, true)
    );
    assert_eq!((a.peer, b.peer), (b.local, a.local));
    assert_eq!((a.clock_hz, a.signal, b.signal), (8000, 1, 0));
    let port = b.local.port;
    assert_eq!(
        out,
        format!(
            "v=0\r\no=- 1 1 IN IP4 203.0.113.1\r\ns=-\r\nt=0 0\r\nm=audio {port} RTP/AVP 8 101\r\nc=IN IP4 203.0.113.1\r\na=rtpmap:8 PCMA/8000\r\na=sendrecv\r\na=rtcp:{}\r\n",
            port + 1
        )
    );
    let desired = calls.get("c").unwrap().desired();
    let rtcp = desired[&a.local.rtcp()];
    assert_eq!(rtcp.remote, Some("10.0.0.1:4005".parse().unwrap()));
    assert_eq!((rtcp.kind, rtcp.peer), (Kind::Rtcp, b.local.rtcp()));

    let pending = calls
        .answer(
            &parties("c", "a", Some("b")),
            sdp("10.0.0.2", 5000, "").as_bytes(),
            &Options::default(),
            now(1.0),
        )
        .unwrap();
    assert_eq!(pending.ops.len(), 2, "only the answerer's streams change");
    let back = commit(&mut calls, pending, 1.0);
    assert_eq!(port_of(&back), a.local.port);
    let [_, b] = rtp(&calls);
    assert_eq!(
        (b.remote, b.signal),
        (Some("10.0.0.2:5000".parse().unwrap()), 1)
    );
}

#[test]
fn a_repeated_offer_or_answer_changes_nothing() {
    let mut calls = calls(8);
    let (out, back) = established(&mut calls);
    let none = Options::default();
    let p = parties("c", "a", None);
    let again = calls
        .offer(&p, sdp("10.0.0.1", 4000, "").as_bytes(), &none, now(2.0))
        .unwrap();
    assert_eq!((again.ops.len(), again.sdp.as_slice()), (0, out.as_bytes()));
    commit(&mut calls, again, 2.0);
    let p = parties("c", "a", Some("b"));
    let again = calls
        .answer(&p, sdp("10.0.0.2", 5000, "").as_bytes(), &none, now(2.0))
        .unwrap();
    assert_eq!(
        (again.ops.len(), again.sdp.as_slice()),
        (0, back.as_bytes())
    );
    commit(&mut calls, again, 2.0);
}

#[test]
fn a_re_offer_from_either_side_keeps_its_ports() {
    let mut calls = calls(8);
    let (out, back) = established(&mut calls);
    let none = Options::default();
    let again = offer(
        &mut calls,
        parties("c", "a", Some("b")),
        &sdp("10.0.0.9", 4100, ""),
        &none,
        2.0,
    );
    assert_eq!(port_of(&again.unwrap()), port_of(&out));
    let swapped = offer(
        &mut calls,
        parties("c", "b", Some("a")),
        &sdp("10.0.0.2", 5002, ""),
        &none,
        3.0,
    );
    assert_eq!(port_of(&swapped.unwrap()), port_of(&back));
    let reply = answer(
        &mut calls,
        parties("c", "b", Some("a")),
        &sdp("10.0.0.9", 4102, ""),
        &none,
        4.0,
    );
    assert_eq!(port_of(&reply.unwrap()), port_of(&out));
    let [a, b] = rtp(&calls);
    assert_eq!(a.remote, Some("10.0.0.9:4102".parse().unwrap()));
    assert_eq!(b.remote, Some("10.0.0.2:5002".parse().unwrap()));
    assert_eq!((a.signal, b.signal), (3, 2));
    assert_eq!(calls.get("c").unwrap().dialogs.len(), 1);
}

#[test]
fn hold_closes_the_gates_its_direction_asks_for() {
    let none = Options::default();
    for (line, want) in [
        ("a=sendrecv\r\n", [true, true]),
        ("a=sendonly\r\n", [true, false]),
        ("a=recvonly\r\n", [false, true]),
        ("a=inactive\r\n", [false, false]),
    ] {
        let mut calls = calls(8);
        let (out, _) = established(&mut calls);
        let hold = offer(
            &mut calls,
            parties("c", "a", Some("b")),
            &sdp("10.0.0.1", 4000, line),
            &none,
            2.0,
        );
        assert_eq!(port_of(&hold.unwrap()), port_of(&out));
        assert_eq!(gates(&calls), want, "{line}");
        let desired = calls.get("c").unwrap().desired();
        let mut rtcp = desired.values().filter(|s| s.kind == Kind::Rtcp);
        assert!(rtcp.all(|s| s.gate_open));
        offer(
            &mut calls,
            parties("c", "a", Some("b")),
            &sdp("10.0.0.1", 4000, ""),
            &none,
            3.0,
        )
        .unwrap();
        assert_eq!(gates(&calls), [true, true]);
    }
}

#[test]
fn the_zero_address_holds_and_remembers_where_the_leg_was() {
    let mut calls = calls(8);
    established(&mut calls);
    let none = Options::default();
    let hold = offer(
        &mut calls,
        parties("c", "a", Some("b")),
        &sdp("0.0.0.0", 4000, ""),
        &none,
        2.0,
    );
    assert!(hold.unwrap().contains("c=IN IP4 0.0.0.0"));
    assert_eq!(gates(&calls), [true, false]);
    assert_eq!(
        rtp(&calls)[0].remote,
        Some("10.0.0.1:4000".parse().unwrap())
    );
}

#[test]
fn medias_come_go_and_are_refused() {
    let mut calls = calls(8);
    let none = Options::default();
    let two = |video: u16| sdp("10.0.0.1", 4000, &format!("m=video {video} RTP/AVP 31\r\n"));
    offer(&mut calls, parties("c", "a", None), &two(4002), &none, 0.0).unwrap();
    assert_eq!(calls.get("c").unwrap().desired().len(), 8);
    // The callee takes the audio only: its streams go, its ports stay for another fork's answer.
    let back = answer(
        &mut calls,
        parties("c", "a", Some("b")),
        &two(0),
        &none,
        1.0,
    )
    .unwrap();
    assert!(back.contains("m=video 0 "), "{back}");
    assert_eq!(calls.get("c").unwrap().desired().len(), 4);
    assert_eq!(calls.get("c").unwrap().locals().count(), 4);
    // The caller drops it: the ports go.
    let out = offer(
        &mut calls,
        parties("c", "a", Some("b")),
        &two(0),
        &none,
        2.0,
    )
    .unwrap();
    assert!(out.contains("m=video 0 "), "{out}");
    assert_eq!(calls.get("c").unwrap().locals().count(), 2);
    // And takes it up again.
    offer(
        &mut calls,
        parties("c", "a", Some("b")),
        &two(4002),
        &none,
        3.0,
    )
    .unwrap();
    assert_eq!(calls.get("c").unwrap().desired().len(), 8);
    // A body with fewer sections.
    offer(
        &mut calls,
        parties("c", "a", Some("b")),
        &sdp("10.0.0.1", 4000, ""),
        &none,
        4.0,
    )
    .unwrap();
    assert_eq!(calls.get("c").unwrap().desired().len(), 4);
    // An answer with more.
    let error = answer(
        &mut calls,
        parties("c", "a", Some("b")),
        &two(1),
        &none,
        5.0,
    )
    .unwrap_err();
    assert_eq!(
        error,
        MediaError::AnswerCount {
            answered: 2,
            offered: 1
        }
    );
}

#[test]
fn rtcp_mux_takes_effect_when_both_want_it() {
    let mut calls = calls(8);
    let none = Options::default();
    let mux = "a=rtcp-mux\r\n";
    let out = offer(
        &mut calls,
        parties("c", "a", None),
        &sdp("10.0.0.1", 4000, mux),
        &none,
        0.0,
    )
    .unwrap();
    assert!(
        out.contains(&format!("a=rtcp:{}\r\na=rtcp-mux", port_of(&out) + 1)),
        "{out}"
    );
    assert_eq!(calls.get("c").unwrap().desired().len(), 4);
    let back = answer(
        &mut calls,
        parties("c", "a", Some("b")),
        &sdp("10.0.0.2", 5000, mux),
        &none,
        1.0,
    )
    .unwrap();
    assert!(
        back.contains(&format!("a=rtcp:{}\r\n", port_of(&back))),
        "{back}"
    );
    assert_eq!(calls.get("c").unwrap().desired().len(), 2);
}

#[test]
fn transports_convert_only_where_no_keys_are_needed() {
    use penstock_sdp::Protocol;
    let mut calls = calls(8);
    let to = |protocol| Options {
        protocol: Some(protocol),
        ..Options::default()
    };
    let avpf = sdp("10.0.0.1", 4000, "").replace("RTP/AVP", "RTP/AVPF");
    let out = offer(
        &mut calls,
        parties("c", "a", None),
        &avpf,
        &to(Protocol::RtpAvp),
        0.0,
    )
    .unwrap();
    assert!(out.contains(" RTP/AVP 8"), "{out}");
    let back = answer(
        &mut calls,
        parties("c", "a", Some("b")),
        &sdp("10.0.0.2", 5000, ""),
        &Options::default(),
        1.0,
    )
    .unwrap();
    assert!(back.contains(" RTP/AVPF 8"), "{back}");

    let savp = sdp("10.0.0.1", 4000, "").replace("RTP/AVP", "RTP/SAVP");
    let error = offer(
        &mut calls,
        parties("d", "a", None),
        &savp,
        &to(Protocol::RtpAvp),
        0.0,
    )
    .unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("Cannot convert RTP/SAVP to RTP/AVP")
    );
    let out = offer(
        &mut calls,
        parties("d", "a", None),
        &savp,
        &to(Protocol::RtpSavp),
        0.0,
    )
    .unwrap();
    assert!(out.contains(" RTP/SAVP 8"));
}

/// A transport that was asked for stands until another is, where it fits.
#[test]
fn a_transport_is_remembered() {
    let mut calls = calls(8);
    let none = Options::default();
    let feedback = Options {
        protocol: Some(penstock_sdp::Protocol::RtpAvpf),
        ..Options::default()
    };
    let plain = sdp("10.0.0.1", 4000, "");
    let p = parties("c", "a", None);
    for options in [&feedback, &none] {
        let out = offer(&mut calls, p, &plain, options, 0.0).unwrap();
        assert!(out.contains(" RTP/AVPF 8 101"), "{out}");
    }
    let secure = plain.replace("RTP/AVP", "RTP/SAVP");
    let out = offer(&mut calls, p, &secure, &none, 1.0).unwrap();
    assert!(out.contains(" RTP/SAVP 8 101"), "{out}");
}

/// An answer has no format that was not offered, and the packet time of the offer if it has none itself.
#[test]
fn an_answer_keeps_to_the_offer() {
    let mut calls = calls(8);
    let none = Options::default();
    let p = parties("c", "a", Some("b"));
    let offered = sdp("10.0.0.1", 4000, "a=ptime:40\r\n").replace("8 101", "8 97");
    offer(&mut calls, parties("c", "a", None), &offered, &none, 0.0).unwrap();
    let extra = "a=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\n";
    let back = answer(&mut calls, p, &sdp("10.0.0.2", 5000, extra), &none, 1.0).unwrap();
    assert!(
        back.contains(" RTP/AVP 8\r\n") && !back.contains("101"),
        "{back}"
    );
    assert!(back.contains("a=ptime:40\r\n"), "{back}");
    let own = sdp("10.0.0.2", 5000, "a=ptime:20\r\n");
    let back = answer(&mut calls, p, &own, &none, 2.0).unwrap();
    assert!(
        back.contains("a=ptime:20\r\n") && !back.contains("a=ptime:40"),
        "{back}"
    );
}

/// What is refused keeps its m= line, our address, and what means nothing to a relay.
#[test]
fn a_refused_section_says_no_more() {
    let mut calls = calls(8);
    let none = Options::default();
    let video = "m=video 0 RTP/AVP 97 98\r\nb=AS:960\r\na=mid:v\r\na=rtpmap:97 H264/90000\r\na=sendrecv\r\na=x-own\r\n";
    let body = sdp("10.0.0.1", 4000, video);
    let out = offer(&mut calls, parties("c", "a", None), &body, &none, 0.0).unwrap();
    let want = "m=video 0 RTP/AVP 97 98\r\nc=IN IP4 203.0.113.1\r\nb=AS:960\r\na=x-own\r\n";
    assert!(out.ends_with(want), "{out}");
}

/// Hold by the zero address is said in words where our ICE stands beside it.
#[test]
fn a_hold_is_one_with_ice_too() {
    let mut calls = calls(8);
    let options = Options {
        ice: IceWish::Force,
        ice_keys: Some(
            [Ice {
                ufrag: *b"aaaaaaaa",
                pwd: [b'a'; 24],
            }; 2],
        ),
        original_sendrecv: true,
        ..Options::default()
    };
    let body = sdp("0.0.0.0", 4000, "a=sendrecv\r\n");
    let out = offer(&mut calls, parties("c", "a", None), &body, &options, 0.0).unwrap();
    assert!(
        out.contains("c=IN IP4 0.0.0.0\r\n") && out.contains("a=ice-ufrag"),
        "{out}"
    );
    assert!(
        out.contains("a=sendonly\r\n") && !out.contains("sendrecv"),
        "{out}"
    );
}

#[test]
fn sections_that_are_not_rtp() {
    let mut calls = calls(8);
    let none = Options::default();
    let fax = sdp(
        "10.0.0.1",
        4000,
        "m=image 4002 udptl t38\r\nm=message 4004 TCP/MSRP *\r\n",
    );
    let out = offer(&mut calls, parties("c", "a", None), &fax, &none, 0.0).unwrap();
    // What names its own way is left alone, and takes no port.
    let past = "m=message 4004 TCP/MSRP *\r\nc=IN IP4 10.0.0.1\r\n";
    assert!(out.contains(past), "{out}");
    let desired = calls.get("c").unwrap().desired();
    assert_eq!(desired.values().filter(|s| s.kind == Kind::Raw).count(), 2);
    assert_eq!(desired.len(), 6);
    assert_eq!(calls.get("c").unwrap().locals().count(), 4);
}

#[test]
fn interfaces_are_chosen_once() {
    let mut calls = calls(8);
    let way = |a: &str, b: &str| Options {
        direction: [Some(a.into()), Some(b.into())],
        ..Options::default()
    };
    let out = offer(
        &mut calls,
        parties("c", "a", None),
        &sdp("10.0.0.1", 4000, ""),
        &way("internal", "external"),
        0.0,
    )
    .unwrap();
    assert!(out.contains("c=IN IP4 203.0.113.2"));
    let [a, b] = rtp(&calls);
    assert_eq!(
        (a.local.ip.to_string(), b.local.ip.to_string()),
        ("198.18.0.1".into(), "198.18.0.2".into())
    );
    let out = offer(
        &mut calls,
        parties("c", "a", None),
        &sdp("10.0.0.1", 4002, ""),
        &way("external", "internal"),
        1.0,
    )
    .unwrap();
    assert!(out.contains("c=IN IP4 203.0.113.2"));
    let error = offer(
        &mut calls,
        parties("d", "a", None),
        &sdp("10.0.0.1", 4000, ""),
        &way("internal", "moon"),
        1.0,
    )
    .unwrap_err();
    assert_eq!(error.to_string(), "Unknown interface \"moon\"");
}

#[test]
fn ice_never_leaves() {
    let mut calls = calls(8);
    let none = Options::default();
    let ice = "a=ice-ufrag:F7gI\r\na=ice-pwd:x9cml/YzichV2+XlhiMu8g\r\na=candidate:1 1 UDP 2130706431 10.0.0.1 4000 typ host\r\n";
    let out = offer(
        &mut calls,
        parties("c", "a", None),
        &sdp("10.0.0.1", 4000, ice),
        &none,
        0.0,
    );
    let back = answer(
        &mut calls,
        parties("c", "a", Some("b")),
        &sdp("10.0.0.2", 5000, ice),
        &none,
        1.0,
    );
    for body in [out.unwrap(), back.unwrap()] {
        assert!(
            !body.contains("ice-") && !body.contains("candidate"),
            "{body}"
        );
    }
}
