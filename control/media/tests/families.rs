//! IPv4 and IPv6 in one call: which interface faces which leg, and what its SDP says.

mod common;
use common::*;
use penstock_media::*;

const SIX: &str = "2001:db8::7";

/// The same body from an IPv6 phone.
fn sdp6(port: u16, extra: &str) -> String {
    sdp(SIX, port, extra).replace("IP4", "IP6")
}

fn way(a: &str, b: &str) -> Options {
    Options {
        direction: [Some(a.into()), Some(b.into())],
        ..Options::default()
    }
}

fn towards(family: Family) -> Options {
    Options {
        address_family: Some(family),
        ..Options::default()
    }
}

fn faced_by(calls: &Calls) -> [String; 2] {
    let [a, b] = &calls.get("c").unwrap().dialogs[0].legs;
    [a.interface.clone(), b.interface.clone()]
}

/// Offer by an IPv4 phone, answer by an IPv6 one: each sees its own version, and only that.
#[test]
fn an_ipv4_phone_calls_an_ipv6_phone() {
    for options in [way("internal", "six"), towards(Family::Ip6)] {
        let mut calls = calls(8);
        let options = Options {
            replace: Replace {
                address: true,
                ..Replace::default()
            },
            ..options
        };
        let body = sdp("10.0.0.1", 4000, "a=rtcp:4009 IN IP4 10.0.0.1\r\n");
        let out = offer(&mut calls, parties("c", "a", None), &body, &options, 0.0).unwrap();
        assert_eq!(faced_by(&calls), ["internal", "six"]);
        assert!(out.contains("o=- 1 1 IN IP6 2001:db8::1\r\n"), "{out}");
        assert!(out.contains("c=IN IP6 2001:db8::1\r\n"), "{out}");
        assert!(!out.contains("IP4"), "{out}");
        assert!(
            out.contains(&format!("a=rtcp:{}\r\n", port_of(&out) + 1)),
            "{out}"
        );

        let body = sdp6(5000, &format!("a=rtcp:5009 IN IP6 {SIX}\r\n"));
        let p = parties("c", "a", Some("b"));
        let back = answer(&mut calls, p, &body, &options, 1.0).unwrap();
        assert!(back.contains("o=- 1 1 IN IP4 203.0.113.1\r\n"), "{back}");
        assert!(back.contains("c=IN IP4 203.0.113.1\r\n"), "{back}");
        assert!(!back.contains("IP6"), "{back}");

        let [a, b] = rtp(&calls);
        assert_eq!(a.remote, Some("10.0.0.1:4000".parse().unwrap()));
        assert_eq!(b.remote, Some(format!("[{SIX}]:5000").parse().unwrap()));
        assert_eq!((a.peer, b.peer), (b.local, a.local));
        assert!(a.local.ip.is_ipv4() && b.local.ip.is_ipv6());
        let desired = calls.get("c").unwrap().desired();
        let reports = [a, b].map(|stream| desired[&stream.local.rtcp()].remote.unwrap());
        assert_eq!(
            reports.map(|at| at.to_string()),
            ["10.0.0.1:4009", "[2001:db8::7]:5009"]
        );

        // The other way round on the same ports; what the first offer chose stays.
        let again = offer(
            &mut calls,
            parties("c", "b", Some("a")),
            &sdp6(5000, "a=sendonly\r\n"),
            &towards(Family::Ip6),
            2.0,
        );
        assert_eq!(port_of(&again.unwrap()), a.local.port);
        assert!(delete(&mut calls, "c", Some("a"), None, 3.0));
        assert!(calls.ports().all(|(_, used, _)| used == 0));
    }
}

#[test]
fn a_leg_is_faced_by_its_own_family() {
    for (body, options, want) in [
        (
            sdp("10.0.0.1", 4000, ""),
            Options::default(),
            ["internal", "internal"],
        ),
        (sdp6(4000, ""), Options::default(), ["six", "six"]),
        (sdp6(4000, ""), towards(Family::Ip4), ["six", "internal"]),
        (sdp6(4000, ""), towards(Family::Ip6), ["six", "six"]),
        (
            sdp("10.0.0.1", 4000, ""),
            towards(Family::Ip4),
            ["internal", "internal"],
        ),
        // Where its packets come from counts, not what it says.
        (
            sdp("10.0.0.1", 4000, ""),
            Options {
                source_address: Some(SIX.parse().unwrap()),
                ..Options::default()
            },
            ["six", "six"],
        ),
        // A direction is what it says.
        (
            sdp("10.0.0.1", 4000, ""),
            Options {
                address_family: Some(Family::Ip6),
                ..way("external", "internal")
            },
            ["external", "internal"],
        ),
        // On hold by the zero address.
        (
            sdp("::", 4000, "").replace("IP4", "IP6"),
            Options::default(),
            ["six", "six"],
        ),
    ] {
        let mut calls = calls(8);
        offer(&mut calls, parties("c", "a", None), &body, &options, 0.0).unwrap();
        assert_eq!(faced_by(&calls), want, "{body}{options:?}");
    }
}

#[test]
fn what_is_of_the_wrong_family_is_refused() {
    let four = sdp("10.0.0.1", 4000, "");
    let media_address = |address: &str, options| Options {
        media_address: Some(address.parse().unwrap()),
        ..options
    };
    for (body, options, want) in [
        (
            &four,
            way("six", "internal"),
            "Address 10.0.0.1 is not of the address family of interface \"six\"",
        ),
        (
            &sdp6(4000, ""),
            way("internal", "six"),
            "Address 2001:db8::7 is not of the address family of interface \"internal\"",
        ),
        (
            &four,
            media_address("192.0.2.9", towards(Family::Ip6)),
            "Address 192.0.2.9 is not of the address family of interface \"six\"",
        ),
    ] {
        let mut calls = calls(8);
        let error = offer(&mut calls, parties("c", "a", None), body, &options, 0.0).unwrap_err();
        assert_eq!(error.to_string(), want);
        assert!(calls.ports().all(|(_, used, _)| used == 0));
    }
    let mut calls = calls(8);
    offer(
        &mut calls,
        parties("c", "a", None),
        &four,
        &towards(Family::Ip6),
        0.0,
    )
    .unwrap();
    let p = parties("c", "a", Some("b"));
    let error = answer(&mut calls, p, &four, &Options::default(), 1.0).unwrap_err();
    assert_eq!(
        error.to_string(),
        "Address 10.0.0.1 is not of the address family of interface \"six\""
    );
}

#[test]
fn a_family_that_no_interface_has_is_refused() {
    let settings = Settings {
        interfaces: vec![Interface {
            name: "only".into(),
            ip: [198, 18, 0, 1].into(),
            vlan: 0,
            advertise: [198, 18, 0, 1].into(),
            ports: (10_000, 10_015),
        }],
        rest: REST,
        max_calls: 20,
        seed: 0,
    };
    let mut calls = Calls::new(settings, now(0.0));
    let four = sdp("10.0.0.1", 4000, "");
    let p = parties("c", "a", None);
    let error = offer(&mut calls, p, &four, &towards(Family::Ip6), 0.0).unwrap_err();
    assert_eq!(error.to_string(), "No interface has an IPv6 address");
    let error = offer(&mut calls, p, &sdp6(4000, ""), &Options::default(), 0.0).unwrap_err();
    assert_eq!(
        error.to_string(),
        "Address 2001:db8::7 is not of the address family of interface \"only\""
    );
    assert!(calls.is_empty() && calls.ports().all(|(_, used, _)| used == 0));
}

/// Each section is faced by the family of its own address, where the interface has it; an address to be written says
/// of which family the ports behind it are.
#[test]
fn sections_of_two_families() {
    let at = |ip: &str| Interface {
        name: "only".into(),
        ip: ip.parse().unwrap(),
        vlan: 0,
        advertise: ip.parse().unwrap(),
        ports: (10_000, 10_015),
    };
    let settings = || Settings {
        interfaces: vec![at("198.18.0.1"), at("2001:db8::1")],
        rest: REST,
        max_calls: 20,
        seed: 0,
    };
    let none = Options::default();
    let p = parties("c", "a", None);
    let video = format!("m=video 4002 RTP/AVP 97\r\nc=IN IP6 {SIX}\r\n");
    let mut one = Calls::new(settings(), now(0.0));
    let body = sdp("10.0.0.1", 4000, &video);
    let out = offer(&mut one, p, &body, &none, 0.0).unwrap();
    let (audio, video) = out.split_once("m=video").unwrap();
    assert!(audio.contains("c=IN IP4 198.18.0.1"), "{out}");
    assert!(video.contains("c=IN IP6 2001:db8::1"), "{out}");
    let back = answer(&mut one, parties("c", "a", Some("b")), &body, &none, 1.0).unwrap();
    assert!(
        back.contains("c=IN IP4") && back.contains("c=IN IP6"),
        "{back}"
    );

    let mut two = Calls::new(settings(), now(0.0));
    let shown = Options {
        media_address: Some(SIX.parse().unwrap()),
        ..Options::default()
    };
    let out = offer(&mut two, p, &sdp("10.0.0.1", 4000, ""), &shown, 0.0).unwrap();
    assert!(out.contains(&format!("c=IN IP6 {SIX}\r\n")), "{out}");
    let locals: Vec<Local> = two.get("c").unwrap().locals().collect();
    assert!(locals[0].ip.is_ipv4() && locals[1].ip.is_ipv6());
}

/// Calls are counted by what they are relayed over as they come, change and go.
#[test]
fn calls_are_counted_by_family() {
    let mut calls = calls(20);
    let none = Options::default();
    let begin = |calls: &mut Calls, id: &str, options: &Options| {
        let body = sdp("10.0.0.1", 4000, "");
        offer(calls, parties(id, id, None), &body, options, 0.0).unwrap();
        calls.by_family()
    };
    assert_eq!(calls.by_family(), [0, 0, 0]);
    assert_eq!(begin(&mut calls, "four", &none), [1, 0, 0]);
    assert_eq!(begin(&mut calls, "both", &towards(Family::Ip6)), [1, 0, 1]);
    let six = sdp6(4000, "");
    offer(&mut calls, parties("six", "six", None), &six, &none, 0.0).unwrap();
    assert_eq!(calls.by_family(), [1, 1, 1]);
    // One whose only section is refused is relayed over neither.
    let refused = sdp("10.0.0.1", 0, "");
    offer(
        &mut calls,
        parties("four", "four", None),
        &refused,
        &none,
        1.0,
    )
    .unwrap();
    assert_eq!(calls.by_family(), [0, 1, 1]);
    begin(&mut calls, "four", &none);
    let pending = calls.connect(("four", "four"), ("six", "six"), now(2.0));
    calls.commit(pending.unwrap(), now(2.0));
    assert_eq!(calls.by_family(), [0, 0, 2]);
    let stored: Vec<Call> = calls.iter().cloned().collect();
    let mut restarted = common::calls(20);
    restarted.restore(stored);
    assert_eq!(restarted.by_family(), [0, 0, 2]);
    for id in ["four", "six", "both"] {
        assert!(delete(&mut calls, id, None, None, 3.0));
    }
    assert_eq!(calls.by_family(), [0, 0, 0]);
}
