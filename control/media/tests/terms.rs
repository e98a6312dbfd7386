//! Multiplexing, bundling and ICE: what each leg is told, and which streams that makes.

mod common;
use common::*;
use penstock_media::*;

fn with(mux: MuxWish) -> Options {
    Options {
        mux,
        ice_keys: Some(KEYS),
        ..Options::default()
    }
}

/// The SDP of both legs: offer with `offered`, answer with `answered`.
fn exchange(calls: &mut Calls, options: &Options, offered: &str, answered: &str) -> [String; 2] {
    let body = sdp("10.0.0.1", 4000, offered);
    let out = offer(calls, parties("c", "a", None), &body, options, 0.0).unwrap();
    let body = sdp("10.0.0.2", 5000, answered);
    let back = answer(calls, parties("c", "a", Some("b")), &body, options, 1.0).unwrap();
    [out, back]
}

fn streams(calls: &Calls) -> Vec<Stream> {
    calls.get("c").unwrap().desired().into_values().collect()
}

const MUX: &str = "a=rtcp-mux\r\n";

/// Both legs multiplex: two streams. Neither: four.
#[test]
fn multiplexing_that_both_speak_passes() {
    for (offered, answered, count) in [(MUX, MUX, 2), ("", "", 4)] {
        let mut calls = calls(8);
        let [out, back] = exchange(&mut calls, &Options::default(), offered, answered);
        assert_eq!(out.contains(MUX), !offered.is_empty());
        assert_eq!(back.contains(MUX), !answered.is_empty());
        assert_eq!(streams(&calls).len(), count);
    }
}

/// One leg multiplexes and the other does not: its RTCP is a part of what comes to its RTP port, and what
/// goes to it leaves from there.
#[test]
fn multiplexing_ends_at_the_relay() {
    let demux = MuxWish {
        demux: true,
        ..MuxWish::default()
    };
    let accept = MuxWish {
        accept: true,
        ..MuxWish::default()
    };
    for (wish, offered_on) in [(demux, false), (accept, true)] {
        let mut calls = calls(8);
        let [out, back] = exchange(&mut calls, &with(wish), MUX, "");
        assert_eq!(out.contains(MUX), offered_on);
        assert!(back.contains(MUX), "{back}");
        assert!(
            back.contains(&format!("a=rtcp:{}\r\n", port_of(&back))),
            "{back}"
        );
        let [a, b] = rtp(&calls);
        let all = streams(&calls);
        let rtcp = |leg| {
            *all.iter()
                .find(|s| s.kind == Kind::Rtcp && s.leg == leg)
                .unwrap()
        };
        assert_eq!(rtcp(0).feed, Feed::PartOf(a.local));
        assert_eq!(rtcp(0).remote, a.remote);
        assert_eq!(rtcp(0).peer, b.local.rtcp());
        assert_eq!(rtcp(1).feed, Feed::Own);
        assert_eq!(rtcp(1).peer, a.local);
        assert_eq!(rtcp(1).remote.unwrap().port(), 5001);
    }
}

/// A leg that does not multiplex calls one that is asked to.
#[test]
fn multiplexing_is_offered_and_required() {
    for require in [false, true] {
        let mut calls = calls(8);
        let wish = MuxWish {
            offer: !require,
            require,
            ..MuxWish::default()
        };
        let [out, back] = exchange(&mut calls, &with(wish), "", MUX);
        assert!(out.contains(MUX), "{out}");
        let rtcp = port_of(&out) + u16::from(!require);
        assert!(out.contains(&format!("a=rtcp:{rtcp}\r\n")), "{out}");
        assert!(!back.contains("rtcp-mux"), "{back}");
        let [a, b] = rtp(&calls);
        let all = streams(&calls);
        let rtcp = |leg| {
            *all.iter()
                .find(|s| s.kind == Kind::Rtcp && s.leg == leg)
                .unwrap()
        };
        assert_eq!(rtcp(1).feed, Feed::PartOf(b.local));
        assert_eq!(rtcp(0).peer, b.local);
        assert_eq!(rtcp(0).remote.unwrap().port(), 4001);
        assert_eq!((a.feed, b.feed), (Feed::Own, Feed::Own));
    }
}

#[test]
fn multiplexing_is_refused() {
    let mut calls = calls(8);
    let wish = MuxWish {
        reject: true,
        ..MuxWish::default()
    };
    // To the leg that offered it; the other is offered it as with rtpengine, and no answer comes of that.
    let [out, back] = exchange(&mut calls, &with(wish), MUX, MUX);
    assert!(
        out.contains("rtcp-mux") && !back.contains("rtcp-mux"),
        "{out}{back}"
    );
    assert_eq!(streams(&calls).len(), 4);
}

/// Who multiplexes goes on at the one port though the other leg ceases to; a port of its own for both says the same
/// as the word.
#[test]
fn multiplexing_is_given_up_or_meant() {
    let mut calls = calls(8);
    let options = with(MuxWish::default());
    exchange(&mut calls, &options, MUX, MUX);
    let [out, back] = exchange(&mut calls, &options, "", MUX);
    let rtp = port_of(&out);
    assert!(
        out.contains(MUX) && out.contains(&format!("a=rtcp:{rtp}\r\n")),
        "{out}"
    );
    assert!(!back.contains("rtcp-mux"), "{back}");

    let mut other = self::calls(8);
    let [out, back] = exchange(&mut other, &options, "a=rtcp:4000\r\n", "");
    assert!(
        out.contains(MUX) && !back.contains("rtcp-mux"),
        "{out}{back}"
    );
}

/// Whoever says that candidates may trickle is told that there are no more; the other leg only on request.
#[test]
fn candidates_have_an_end() {
    let trickle = format!("{ICE}a=ice-options:trickle\r\n");
    let mut one = calls(8);
    let options = with(MuxWish::default());
    let [out, back] = exchange(&mut one, &options, &trickle, ICE);
    let says = |body: &str| {
        body.contains("a=ice-options:trickle\r\n") && body.ends_with("a=end-of-candidates\r\n")
    };
    assert!(says(&back) && !out.contains("trickle"), "{out}{back}");
    let mut two = calls(8);
    let asked = Options {
        trickle: true,
        ..options
    };
    let [out, back] = exchange(&mut two, &asked, ICE, ICE);
    assert!(says(&out) && !back.contains("trickle"), "{out}{back}");
}

const ICE: &str = "a=ice-ufrag:u1u1\r\na=ice-pwd:p1p1p1p1p1p1p1p1p1p1p1\r\na=candidate:1 1 UDP 2130706431 10.0.0.1 4000 typ host\r\n";

/// Whoever speaks ICE is answered with credentials of ours, and no candidate of a leg leaves.
#[test]
fn ice_is_answered() {
    let mut calls = calls(8);
    let [out, back] = exchange(&mut calls, &with(MuxWish::default()), ICE, "");
    assert!(out.contains("a=ice-ufrag:bbbbbbbb\r\n"), "{out}");
    assert!(out.contains("a=ice-lite\r\n"), "{out}");
    assert!(!out.contains("10.0.0.1 4000"), "{out}");
    let [port, rtcp] = [port_of(&out), port_of(&out) + 1];
    assert!(
        out.contains(&format!(" 1 UDP 2130706431 203.0.113.1 {port} typ host")),
        "{out}"
    );
    assert!(
        out.contains(&format!(" 2 UDP 2130706430 203.0.113.1 {rtcp} typ host")),
        "{out}"
    );
    assert!(back.contains("a=ice-ufrag:aaaaaaaa\r\n"), "{back}");
    let [a, b] = rtp(&calls);
    assert_eq!(a.ice, Some(KEYS[0]));
    assert_eq!(b.ice, None, "it did not say ICE");
}

#[test]
fn ice_is_taken_out_or_forced() {
    let remove = Options {
        ice: IceWish::Remove,
        ..with(MuxWish::default())
    };
    let mut one = calls(8);
    let [out, back] = exchange(&mut one, &remove, ICE, "");
    assert!(!out.contains("ice") && !back.contains("ice") && !out.contains("candidate"));
    assert!(rtp(&one).iter().all(|stream| stream.ice.is_none()));

    let force = Options {
        ice: IceWish::Force,
        ..with(MuxWish::default())
    };
    let mut two = calls(8);
    let [out, back] = exchange(&mut two, &force, "", ICE);
    assert!(out.contains("a=ice-pwd:bbbbbbbb"), "{out}");
    assert!(back.contains("a=ice-pwd:aaaaaaaa"), "{back}");
    let [a, b] = rtp(&two);
    assert_eq!((a.ice, b.ice), (None, Some(KEYS[1])));
}

/// A re-offer keeps our credentials; one with other credentials is a restart, and gets new ones.
#[test]
fn ice_restarts() {
    let mut calls = calls(8);
    let options = with(MuxWish::default());
    exchange(&mut calls, &options, ICE, ICE);
    let fresh = Options {
        ice_keys: Some([
            Ice {
                ufrag: *b"cccccccc",
                ..KEYS[0]
            },
            Ice {
                ufrag: *b"dddddddd",
                ..KEYS[1]
            },
        ]),
        ..options
    };
    let [out, back] = exchange(&mut calls, &fresh, ICE, ICE);
    assert!(
        out.contains("ufrag:bbbbbbbb") && back.contains("ufrag:aaaaaaaa"),
        "{out}{back}"
    );
    let restart = ICE.replace("u1u1", "u2u2");
    let body = sdp("10.0.0.1", 4000, &restart);
    let offered = offer(&mut calls, parties("c", "a", None), &body, &fresh, 2.0);
    offered.unwrap();
    let [a, b] = rtp(&calls).map(|stream| stream.ice);
    assert_eq!([a, b], [Some(KEYS[0]), Some(KEYS[1])], "until it is told");
    let [out, back] = exchange(&mut calls, &fresh, &restart, ICE);
    assert!(
        out.contains("ufrag:bbbbbbbb") && back.contains("ufrag:cccccccc"),
        "{out}{back}"
    );
    // Another phone answers: it was offered the same as the first one.
    let another = ICE.replace("u1u1", "u3u3");
    exchange(&mut calls, &fresh, &restart, &another);
    assert_eq!(rtp(&calls)[1].ice, Some(KEYS[1]));
    let [out, _] = exchange(&mut calls, &fresh, &restart, &another);
    assert!(out.contains("ufrag:bbbbbbbb"), "{out}");
}

fn bundle(ip: &str, ports: [u16; 2], group: bool) -> String {
    let group = if group { "a=group:BUNDLE a v\r\n" } else { "" };
    format!(
        "v=0\r\no=- 1 1 IN IP4 {ip}\r\ns=-\r\nc=IN IP4 {ip}\r\nt=0 0\r\n{group}\
         m=audio {} RTP/AVP 8\r\na=mid:a\r\na=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid\r\na=rtcp-mux\r\n\
         m=video {} RTP/AVP 96\r\na=mid:v\r\na=rtpmap:96 VP8/90000\r\na=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid\r\na=rtcp-mux\r\n",
        ports[0], ports[1]
    )
}

/// A leg that bundles calls one that does not: it gets one port, the other two.
#[test]
fn a_bundle_is_taken_apart() {
    let mut calls = calls(8);
    let options = Options {
        accept_bundle: true,
        ..Options::default()
    };
    let body = bundle("10.0.0.1", [4000, 4000], true);
    let out = offer(&mut calls, parties("c", "a", None), &body, &options, 0.0).unwrap();
    assert!(!out.contains("BUNDLE"), "{out}");
    let other = bundle("10.0.0.2", [5000, 5002], false);
    let p = parties("c", "a", Some("b"));
    let back = answer(&mut calls, p, &other, &options, 1.0).unwrap();
    assert!(back.contains("a=group:BUNDLE a v\r\n"), "{back}");
    let parsed = penstock_sdp::Sdp::parse(back.as_bytes()).unwrap();
    assert_eq!(parsed.media()[0].port, parsed.media()[1].port);
    let all = streams(&calls);
    let find = |leg, media| {
        *all.iter()
            .find(|s| (s.leg, s.media) == (leg, media))
            .unwrap()
    };
    assert_eq!(all.len(), 4);
    assert_eq!(find(0, 1).feed, Feed::PartOf(find(0, 0).local));
    assert_eq!(find(0, 1).mid.unwrap().name, *b"v\0\0\0\0\0\0\0");
    assert_eq!(find(0, 0).mid.unwrap().extension, 4);
    assert_eq!(find(1, 1).peer, find(0, 0).local);
    assert_eq!(find(1, 1).mid, None);
    assert_eq!(find(0, 1).peer, find(1, 1).local);
}

/// Without `bundle=accept` nothing is bundled: each section has a port of its own.
#[test]
fn a_bundle_that_is_not_accepted_is_refused() {
    let mut calls = calls(8);
    let none = Options::default();
    let body = bundle("10.0.0.1", [4000, 4000], true);
    offer(&mut calls, parties("c", "a", None), &body, &none, 0.0).unwrap();
    let other = bundle("10.0.0.2", [5000, 5002], false);
    let back = answer(&mut calls, parties("c", "a", Some("b")), &other, &none, 1.0).unwrap();
    assert!(!back.contains("BUNDLE"), "{back}");
    assert!(streams(&calls).iter().all(|s| s.feed == Feed::Own));
}

/// Both legs bundle: one pair of streams carries all, and its types are those of all sections.
#[test]
fn a_bundle_passes_whole_where_both_legs_speak_it() {
    let mut calls = calls(8);
    let options = Options {
        accept_bundle: true,
        offer_bundle: true,
        ..Options::default()
    };
    let body = bundle("10.0.0.1", [4000, 4000], true);
    let out = offer(&mut calls, parties("c", "a", None), &body, &options, 0.0).unwrap();
    assert!(out.contains("a=group:BUNDLE a v\r\n"), "{out}");
    let other = bundle("10.0.0.2", [5000, 5000], true);
    answer(
        &mut calls,
        parties("c", "a", Some("b")),
        &other,
        &options,
        1.0,
    )
    .unwrap();
    let all = streams(&calls);
    assert_eq!(all.len(), 2, "{all:?}");
    assert!(all.iter().all(|s| s.payload_types == 1 << 8 | 1 << 96));
}

/// What is removed from the SDP that leaves stays in the one that comes back: refused.
#[test]
fn sections_of_a_kind_leave_the_body() {
    let mut calls = calls(8);
    let options = Options {
        remove: vec![penstock_sdp::MediaKind::Audio],
        ..Options::default()
    };
    let none = Options::default();
    let body = bundle("10.0.0.1", [4000, 4002], false);
    let out = offer(&mut calls, parties("c", "a", None), &body, &options, 0.0).unwrap();
    assert!(!out.contains("m=audio") && out.contains("m=video"), "{out}");
    let video = |ip: &str| {
        let body = bundle(ip, [5000, 5002], false);
        let (start, end) = (body.find("m=audio").unwrap(), body.find("m=video").unwrap());
        format!("{}{}", &body[..start], &body[end..])
    };
    let p = || parties("c", "a", Some("b"));
    let back = answer(&mut calls, p(), &video("10.0.0.2"), &none, 1.0).unwrap();
    let parsed = penstock_sdp::Sdp::parse(back.as_bytes()).unwrap();
    assert_eq!(parsed.media().len(), 2, "{back}");
    assert!(back.contains("m=audio 0 RTP/AVP 8\r\n"), "{back}");
    assert_ne!(parsed.media()[1].port, 0);
    assert_eq!(streams(&calls).len(), 2);

    // The called leg's own offer speaks of the one section it knows.
    let p = parties("c", "b", Some("a"));
    let out = offer(&mut calls, p, &video("10.0.0.2"), &none, 2.0).unwrap();
    let parsed = penstock_sdp::Sdp::parse(out.as_bytes()).unwrap();
    assert_eq!(
        (parsed.media().len(), parsed.media()[0].port),
        (2, 0),
        "{out}"
    );
    assert_eq!(streams(&calls).len(), 2);
}

/// A browser offers before it has candidates: the zero address is no hold, and the other leg is told ours.
#[test]
fn an_address_that_is_yet_to_be_found_is_no_hold() {
    for wish in [IceWish::Default, IceWish::Remove] {
        let mut calls = calls(8);
        let options = Options {
            ice: wish,
            ..with(MuxWish::default())
        };
        let body = sdp("0.0.0.0", 9, &ICE.replace("a=candidate", "a=x-candidate"));
        let out = offer(&mut calls, parties("c", "a", None), &body, &options, 0.0).unwrap();
        assert!(
            out.contains("c=IN IP4 203.0.113.1\r\n") && !out.contains("sendonly"),
            "{out}"
        );
        let body = sdp("10.0.0.2", 5000, "");
        let p = parties("c", "a", Some("b"));
        answer(&mut calls, p, &body, &with(MuxWish::default()), 1.0).unwrap();
        assert_eq!(gates(&calls), [true, true]);
        let [a, _] = rtp(&calls);
        assert_eq!((a.remote, a.ice), (None, Some(KEYS[0])));
    }
}

/// A leg that bundles is connected to one that does not, and has one port for all that it hears.
#[test]
fn a_bundle_is_connected_to_a_leg_without() {
    let mut calls = calls(16);
    let options = Options {
        accept_bundle: true,
        offer_bundle: true,
        ..Options::default()
    };
    for (from, to, port) in [("a", "b", 4000), ("x", "y", 6000)] {
        let ports = [port, if from == "a" { port } else { port + 2 }];
        let body = |ip| bundle(ip, ports, from == "a");
        let p = parties("c", from, None);
        offer(&mut calls, p, &body("10.0.0.1"), &options, 0.0).unwrap();
        let p = parties("c", from, Some(to));
        answer(&mut calls, p, &body("10.0.0.2"), &options, 1.0).unwrap();
    }
    // Both of the first dialog bundle, neither of the second.
    let find = |calls: &Calls, leg, media| {
        let all = streams(calls);
        all.into_iter()
            .find(|s| (s.leg, s.media) == (leg, media))
            .unwrap()
    };
    assert_eq!(streams(&calls).iter().filter(|s| s.leg < 2).count(), 2);
    let pending = calls.connect(("c", "a"), ("c", "y"), now(2.0)).unwrap();
    calls.commit(pending, now(2.0));
    let [audio, video] = [0, 1].map(|media| find(&calls, 0, media));
    let [heard, seen] = [0, 1].map(|media| find(&calls, 3, media));
    assert_eq!(video.feed, Feed::PartOf(audio.local));
    assert_eq!([audio.peer, video.peer], [heard.local, seen.local]);
    assert_eq!([heard.peer, seen.peer], [audio.local; 2]);
    assert_eq!([heard.feed, seen.feed], [Feed::Own; 2]);
}
