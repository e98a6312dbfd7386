//! What signalling says of sources, payload types and marking, as the streams want it.

mod common;
use common::*;
use penstock_media::*;

/// The call "c" after such an offer and such an answer.
fn call(calls: &mut Calls, on_offer: &Options, on_answer: &Options, extra: &str) -> [Stream; 2] {
    let (a, b) = (sdp("10.0.0.1", 4000, extra), sdp("10.0.0.2", 5000, extra));
    offer(calls, parties("c", "a", None), &a, on_offer, 0.0).unwrap();
    answer(calls, parties("c", "a", Some("b")), &b, on_answer, 0.0).unwrap();
    rtp(calls)
}

#[test]
fn the_way_to_learn() {
    let none = Options::default();
    let learn = |learn| Options {
        learn: Some(learn),
        ..Options::default()
    };
    let asymmetric = |is| Options {
        asymmetric: Some(is),
        ..Options::default()
    };
    use Learn::*;
    for (on_offer, on_answer, want) in [
        (&none, &none, [Heuristic, Heuristic]),
        (&learn(Delayed), &none, [Delayed, Delayed]),
        (&learn(Delayed), &learn(Off), [Off, Off]),
        (&asymmetric(true), &none, [Off, Heuristic]),
        (&learn(Immediate), &asymmetric(true), [Immediate, Off]),
        (
            &asymmetric(false),
            &asymmetric(false),
            [Heuristic, Heuristic],
        ),
    ] {
        let mut calls = calls(8);
        let streams = call(&mut calls, on_offer, on_answer, "");
        assert_eq!(streams.map(|s| s.learn), want, "{on_offer:?} {on_answer:?}");
        // RTCP learns as its RTP does.
        let desired = calls.get("c").unwrap().desired();
        for rtcp in desired.values().filter(|s| s.kind == Kind::Rtcp) {
            assert_eq!(rtcp.learn, want[usize::from(rtcp.leg)]);
        }
    }
    // A re-offer without the word goes back to the default; a leg stays asymmetric until it is called symmetric.
    let mut calls = calls(8);
    call(
        &mut calls,
        &Options {
            asymmetric: Some(true),
            ..learn(Delayed)
        },
        &none,
        "",
    );
    let re_offer = |calls: &mut Calls, options: &Options| {
        let body = sdp("10.0.0.1", 4000, "");
        offer(calls, parties("c", "a", Some("b")), &body, options, 1.0).unwrap();
        rtp(calls).map(|s| s.learn)
    };
    assert_eq!(re_offer(&mut calls, &none), [Off, Heuristic]);
    assert_eq!(
        re_offer(&mut calls, &asymmetric(false)),
        [Heuristic, Heuristic]
    );
}

#[test]
fn handover_hint_and_reset() {
    let mut all = calls(8);
    let on_offer = Options {
        handover: true,
        hint: Some("192.0.2.1".parse().unwrap()),
        ..Options::default()
    };
    let on_answer = Options {
        hint: Some("192.0.2.2".parse().unwrap()),
        ..Options::default()
    };
    let before = call(&mut all, &on_offer, &on_answer, "");
    assert!(before.iter().all(|s| s.handover));
    let hints = before.map(|s| s.hint.unwrap().to_string());
    assert_eq!(hints, ["192.0.2.1", "192.0.2.2"]);

    let again = |calls: &mut Calls, reset| {
        let options = Options {
            reset,
            ..on_offer.clone()
        };
        let body = sdp("10.0.0.1", 4000, "");
        offer(calls, parties("c", "a", Some("b")), &body, &options, 1.0).unwrap();
        rtp(calls).map(|s| s.signal)
    };
    let signals = before.map(|s| s.signal);
    assert_eq!(
        again(&mut all, false),
        signals,
        "a repeated body learns nothing anew"
    );
    assert_eq!(again(&mut all, true), [signals[0] + 1, signals[1]]);
}

#[test]
fn marking_is_of_the_whole_call() {
    let mut all = calls(8);
    let tos = |tos| Options {
        tos,
        ..Options::default()
    };
    let marks = |streams: [Stream; 2]| streams.map(|s| s.dscp);
    let set = call(&mut all, &tos(Tos::Dscp(46)), &tos(Tos::Keep), "");
    assert_eq!(marks(set), [Some(46); 2]);
    let none = Options::default();
    let body = sdp("10.0.0.1", 4000, "");
    offer(&mut all, parties("c", "a", Some("b")), &body, &none, 1.0).unwrap();
    assert_eq!(marks(rtp(&all)), [None; 2], "without the key, the default");
}

#[test]
fn payload_types_of_either_leg() {
    let mut all = calls(8);
    let none = Options::default();
    let body = |types: &str, event: u8| {
        format!(
            "v=0\r\no=- 1 1 IN IP4 10.0.0.1\r\ns=-\r\nc=IN IP4 10.0.0.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP {types}\r\na=rtpmap:{event} telephone-event/8000\r\n"
        )
    };
    let set = |types: &[u8]| types.iter().fold(0_u128, |set, t| set | 1 << t);
    offer(
        &mut all,
        parties("c", "a", None),
        &body("0 8 101", 101),
        &none,
        0.0,
    )
    .unwrap();
    let [a, b] = rtp(&all);
    assert_eq!(
        (a.payload_types, b.payload_types),
        (set(&[0, 8, 101]), set(&[0, 8, 101]))
    );
    assert_eq!((a.event_type, b.event_type), (Some(101), Some(101)));
    answer(
        &mut all,
        parties("c", "a", Some("b")),
        &body("8 96", 96),
        &none,
        0.0,
    )
    .unwrap();
    let [a, b] = rtp(&all);
    assert_eq!(
        (a.payload_types, b.payload_types),
        (set(&[0, 8, 96, 101]), set(&[0, 8, 96, 101]))
    );
    assert_eq!(
        (a.event_type, b.event_type),
        (Some(96), Some(101)),
        "what the other announced"
    );
    let desired = all.get("c").unwrap().desired();
    let rtcp = desired.values().find(|s| s.kind == Kind::Rtcp).unwrap();
    assert_eq!(
        (rtcp.payload_types, rtcp.event_type, rtcp.class),
        (0, None, Class::Rtcp)
    );
}

#[test]
fn transports_say_what_shares_the_port() {
    for (m, kind, shared, secure, class) in [
        (
            "audio 4000 RTP/AVP 0",
            Kind::Rtp,
            Shared::Zrtp,
            false,
            Class::Audio,
        ),
        (
            "video 4000 RTP/SAVPF 96",
            Kind::Rtp,
            Shared::Nothing,
            true,
            Class::Video,
        ),
        (
            "audio 4000 UDP/TLS/RTP/SAVP 0",
            Kind::Rtp,
            Shared::Dtls,
            true,
            Class::Audio,
        ),
        (
            "image 4000 udptl t38",
            Kind::Raw,
            Shared::Nothing,
            false,
            Class::Image,
        ),
        (
            "application 4000 UDP/DTLS/SCTP x",
            Kind::Raw,
            Shared::Nothing,
            false,
            Class::Other,
        ),
    ] {
        let mut all = calls(8);
        let body = format!(
            "v=0\r\no=- 1 1 IN IP4 10.0.0.1\r\ns=-\r\nc=IN IP4 10.0.0.1\r\nt=0 0\r\nm={m}\r\n"
        );
        offer(
            &mut all,
            parties("c", "a", None),
            &body,
            &Options::default(),
            0.0,
        )
        .unwrap();
        let desired = all.get("c").unwrap().desired();
        for stream in desired.values().filter(|s| s.local.port % 2 == 0) {
            let got = (stream.kind, stream.shared, stream.secure, stream.class);
            assert_eq!(got, (kind, shared, secure, class), "{m}");
        }
    }
}

#[test]
fn no_port_latching_gives_the_other_leg_a_new_port() {
    let mut all = calls(8);
    let none = Options::default();
    call(&mut all, &none, &none, "");
    let locals = |calls: &Calls| calls.get("c").unwrap().dialogs[0].medias[0].locals.unwrap();
    let before = locals(&all);
    let fresh = Options {
        fresh_ports: true,
        ..Options::default()
    };
    let mut re_offer = |port: u16, options: &Options| {
        let body = sdp("10.0.0.1", port, "");
        let party = parties("c", "a", Some("b"));
        let out = offer(&mut all, party, &body, options, 1.0).unwrap();
        (port_of(&out), locals(&all))
    };
    assert_eq!(re_offer(4000, &fresh).1, before, "nothing has moved");
    assert_eq!(
        re_offer(4002, &none).1,
        before,
        "ports stay unless asked otherwise"
    );
    let (told, after) = re_offer(4004, &fresh);
    assert_eq!(after[0], before[0]);
    assert_ne!(after[1], before[1]);
    assert_eq!(told, after[1].port);
    assert_eq!(
        all.ports().next().map(|(_, used, _)| used),
        Some(2),
        "the old one is free"
    );
    // What is published has one pair, wherever it moves.
    let mut published = |port: u16| {
        let body = sdp("10.0.0.1", port, "a=sendonly\r\n");
        let p = parties("p", "a", None);
        let pending = all.publish(&p, body.as_bytes(), &fresh, now(2.0));
        commit(&mut all, pending.unwrap(), 2.0);
        all.get("p").unwrap().locals().count()
    };
    assert_eq!([published(4000), published(4002)], [1, 1]);
}

/// A call as control stored it before there were ways to learn.
#[test]
fn an_older_store_is_read() {
    let mut all = calls(8);
    let none = Options::default();
    call(&mut all, &none, &none, "");
    let mut json = serde_json::to_value(all.get("c").unwrap()).unwrap();
    let dialog = json["dialogs"][0].as_object_mut().unwrap();
    for new in ["learn", "handover", "strict_payload", "mark", "heard_ns"] {
        dialog.remove(new);
    }
    dialog.insert("strict".into(), true.into());
    dialog.insert("dscp".into(), 0.into());
    for leg in 0..2 {
        let leg = dialog["legs"][leg].as_object_mut().unwrap();
        leg.remove("asymmetric");
        leg.remove("hint");
    }
    for side in 0..2 {
        let side = dialog["medias"][0]["sides"][side].as_object_mut().unwrap();
        assert!(side.remove("payload_types").is_some());
        side.remove("event_type");
    }
    let old: Call = serde_json::from_value(json).unwrap();
    let mut calls = common::calls(8);
    assert_eq!(calls.restore([old]), [("c".into(), Restore::Done)]);
    for stream in rtp(&calls) {
        assert_eq!(
            (stream.learn, stream.payload_types, stream.dscp),
            (Learn::Heuristic, 0, None)
        );
    }
}
