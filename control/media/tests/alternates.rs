//! Candidates (RFC 8445) at all addresses of an interface: ports, lines, streams.

mod common;
use common::*;
use penstock_media::*;

const ICE: &str = "a=ice-ufrag:u1u1\r\na=ice-pwd:p1p1p1p1p1p1p1p1p1p1p1\r\n";
const MUXED: &str = "a=rtcp-mux\r\na=ice-ufrag:u1u1\r\na=ice-pwd:p1p1p1p1p1p1p1p1p1p1p1\r\n";

fn keyed() -> Options {
    Options {
        ice_keys: Some(KEYS),
        ..Options::default()
    }
}

/// The called leg is at the interface of one address.
fn outward() -> Options {
    Options {
        direction: [Some("internal".into()), Some("external".into())],
        ..keyed()
    }
}

fn calls_of(pairs: u16) -> Calls {
    Calls::new(many_addresses(pairs), now(0.0))
}

fn offered(calls: &mut Calls, extra: &str, options: &Options, s: f64) -> String {
    let body = sdp("10.0.0.1", 4000, extra);
    offer(calls, parties("c", "a", None), &body, options, s).unwrap()
}

fn answered(calls: &mut Calls, extra: &str, options: &Options, s: f64) -> String {
    let body = sdp("10.0.0.2", 5000, extra);
    answer(calls, parties("c", "a", Some("b")), &body, options, s).unwrap()
}

fn candidates(sdp: &str) -> Vec<&str> {
    let lines = sdp.lines();
    lines
        .filter_map(|line| line.strip_prefix("a=candidate:"))
        .collect()
}

fn media(calls: &Calls) -> Media {
    calls.get("c").unwrap().dialogs[0].medias[0].clone()
}

fn used(calls: &Calls) -> usize {
    calls.ports().map(|(_, used, _)| used).sum()
}

/// What stands for another stream: its endpoint, and that stream's.
fn alternates(calls: &Calls) -> Vec<(Local, Local)> {
    let desired = calls.get("c").unwrap().desired();
    let of = |stream: Stream| match stream.feed {
        Feed::AltOf(first) => {
            let original = desired[&first];
            let as_if = Stream {
                local: first,
                remote: original.remote,
                hint: original.hint,
                feed: original.feed,
                ..stream
            };
            assert_eq!(as_if, original);
            assert_eq!((stream.remote, stream.hint), (None, None));
            Some((stream.local, first))
        }
        _ => None,
    };
    desired.clone().into_values().filter_map(of).collect()
}

#[test]
fn every_address_has_its_candidates_in_the_order_of_families_and_components() {
    let mut calls = calls_of(8);
    let out = offered(&mut calls, ICE, &keyed(), 0.0);
    let to = media(&calls).facing(1).collect::<Vec<_>>();
    let [p, q, r, s] = to[..] else {
        panic!("{to:?}")
    };
    let expected = |component: u32, rtcp: u16| {
        let priority = |n: u32| 2_130_706_431 - 256 * n + 1 - component;
        let line = |n: u32, ip: &str, local: Local| {
            let (port, priority) = (local.port + rtcp, priority(n));
            format!("{} {component} UDP {priority} {ip} {port} typ host", n + 1)
        };
        [
            line(0, "203.0.113.1", p),
            line(1, "198.18.0.3", q),
            line(2, "198.18.0.1", r),
            line(3, "2001:db8::3", s),
        ]
    };
    let all = [expected(1, 0), expected(2, 1)].concat();
    assert_eq!(candidates(&out), all);
    assert_eq!(port_of(&out), p.port);
    assert!(out.contains("c=IN IP4 203.0.113.1\r\n"), "{out}");
    // Nobody is waited for there before it has answered.
    assert_eq!(alternates(&calls), []);
    let back = answered(&mut calls, MUXED, &keyed(), 1.0);
    assert_eq!(candidates(&back).len(), 8);
    let all = alternates(&calls);
    let media = media(&calls);
    for side in 0..2 {
        let locals: Vec<Local> = media.facing(side).collect();
        let (first, others) = locals.split_first().unwrap();
        for other in others {
            assert!(all.contains(&(*other, *first)));
            let reports = (other.rtcp(), first.rtcp());
            assert!(all.contains(&reports), "it was not told to multiplex");
        }
    }
    assert_eq!(all.len(), 12);
}

#[test]
fn an_ipv6_section_names_ipv6_first_and_a_multiplexed_one_a_single_component() {
    let mut calls = calls_of(8);
    let options = Options {
        direction: [Some("internal".into()), Some("internal".into())],
        ..keyed()
    };
    let body = sdp("2001:db8::7", 4000, MUXED).replace("IP4", "IP6");
    let p = parties("c", "a", None);
    let out = offer(&mut calls, p, &body, &options, 0.0).unwrap();
    let told = candidates(&out);
    assert_eq!(told.len(), 8, "{out}");
    assert!(
        told[0].contains(" 2001:db8::3 ") && told[1].contains(" 203.0.113.1 "),
        "{out}"
    );
    let body = sdp("2001:db8::8", 5000, MUXED).replace("IP4", "IP6");
    let p = parties("c", "a", Some("b"));
    let back = answer(&mut calls, p, &body, &options, 1.0).unwrap();
    assert_eq!(candidates(&back).len(), 4, "{back}");
    let all = alternates(&calls);
    assert_eq!(all.len(), 6, "{all:?}");
}

#[test]
fn ports_are_kept_as_long_as_candidates_are_told() {
    let mut calls = calls_of(8);
    offered(&mut calls, ICE, &keyed(), 0.0);
    assert_eq!(used(&calls), 2 + 3);
    let back = answered(&mut calls, ICE, &keyed(), 1.0);
    assert_eq!(used(&calls), 2 + 6);
    let before = media(&calls).alternates;
    // Said again, and with other credentials.
    for (s, ice) in [(2.0, ICE.to_owned()), (3.0, ICE.replace("u1u1", "u2u2"))] {
        offered(&mut calls, &ice, &keyed(), s);
        assert_eq!(alternates(&calls).len(), 12, "also before the answer");
        let again = answered(&mut calls, ICE, &keyed(), s);
        assert_eq!(candidates(&again), candidates(&back));
        assert_eq!(media(&calls).alternates, before);
    }
    // One ceases to speak it, then nobody is told it.
    offered(&mut calls, "", &keyed(), 4.0);
    assert!(media(&calls).alternates[0].is_empty());
    let removed = Options {
        ice: IceWish::Remove,
        ..keyed()
    };
    offered(&mut calls, ICE, &removed, 5.0);
    answered(&mut calls, ICE, &removed, 5.0);
    assert_eq!((used(&calls), alternates(&calls)), (2, vec![]));
    assert!(delete(&mut calls, "c", None, None, 6.0));
    assert_eq!(used(&calls), 0);
}

#[test]
fn whoever_does_not_speak_ice_costs_no_port_once_it_has_said_so() {
    let mut calls = calls_of(8);
    let out = offered(&mut calls, ICE, &keyed(), 0.0);
    assert_eq!(candidates(&out).len(), 8);
    answered(&mut calls, "", &keyed(), 1.0);
    assert_eq!(media(&calls).alternates.map(|all| all.len()), [3, 0]);
    // Declined.
    let mut calls = calls_of(8);
    offered(&mut calls, ICE, &keyed(), 0.0);
    let body = sdp("10.0.0.2", 0, ICE);
    let p = parties("c", "a", Some("b"));
    answer(&mut calls, p, &body, &keyed(), 1.0).unwrap();
    assert_eq!(used(&calls), 2);
}

/// Of two lite agents neither checks: from its candidates media is taken by their version of IP, and it is sent to where its m=
/// line says.
#[test]
fn a_lite_agent_is_heard_at_each_address_and_sent_to_at_one() {
    let mut calls = calls_of(8);
    offered(&mut calls, ICE, &keyed(), 0.0);
    let own = "a=candidate:1 1 UDP 2130706431 10.0.0.2 5000 typ host\r\n\
               a=candidate:1 2 UDP 2130706430 10.0.0.2 5001 typ host\r\n\
               a=candidate:2 1 UDP 2130706175 2001:db8::22 5010 typ host\r\n\
               a=candidate:3 1 TCP 1518280447 10.0.0.2 9 typ host tcptype active\r\n\
               a=candidate:4 1 UDP 1694498815 203.0.113.9 5000 typ srflx raddr 10.0.0.2 rport 5000\r\n";
    let body = sdp("10.0.0.2", 5000, &format!("{ICE}{own}"));
    let body = body.replace("m=audio", "a=ice-lite\r\nm=audio");
    let p = || parties("c", "a", Some("b"));
    answer(&mut calls, p(), &body, &keyed(), 1.0).unwrap();
    let media = media(&calls);
    assert_eq!(media.alternates.each_ref().map(Vec::len), [3, 3]);
    let desired = calls.get("c").unwrap().desired();
    let home = media.locals.unwrap()[1];
    let remotes = media.alternates[1].iter().map(|&local| {
        let both = [local, local.rtcp()].map(|local| desired.get(&local));
        for stream in both.into_iter().flatten() {
            assert_eq!(
                (stream.learn, stream.ice, stream.hint),
                (Learn::Off, None, None)
            );
            assert!(matches!(stream.feed, Feed::AltOf(first) if first.ip == home.ip));
            assert_eq!(stream.peer.ip, desired[&home].peer.ip);
        }
        both.map(|stream| stream.map(|stream| stream.remote.unwrap().port()))
    });
    let four = [Some(5000), Some(5001)];
    assert_eq!(
        remotes.collect::<Vec<_>>(),
        [four, four, [Some(5010), None]]
    );
    assert_eq!(desired[&home].learn, Learn::Heuristic);
    // Nobody sends first to one behind a NAT, by an alternate as little as by the first.
    let mut waits = calls_of(8);
    offered(&mut waits, ICE, &keyed(), 0.0);
    let wait = Options {
        wait: true,
        ..keyed()
    };
    answer(&mut waits, p(), &body, &wait, 1.0).unwrap();
    let desired_b = waits.get("c").unwrap().desired();
    let facing_b: Vec<Local> = self::media(&waits).facing(1).collect();
    let mut sent_to = facing_b.iter().filter_map(|local| desired_b.get(local));
    assert!(sent_to.all(|stream| stream.remote.is_none()));
    // One that becomes a full agent is heard by its checks alone.
    let full = body.replace("a=ice-lite\r\n", "");
    answer(&mut calls, p(), &full, &keyed(), 2.0).unwrap();
    let desired = calls.get("c").unwrap().desired();
    let alternates = &self::media(&calls).alternates[1];
    let is_checked =
        |local: &Local| desired[local].ice.is_some() && desired[local].remote.is_none();
    assert!(alternates.iter().all(is_checked));
}

#[test]
fn what_is_refused_or_undone_takes_nothing() {
    let mut calls = calls_of(8);
    let body = sdp("10.0.0.1", 4000, ICE);
    let p = parties("c", "a", None);
    let pending = calls
        .offer(&p, body.as_bytes(), &keyed(), now(0.0))
        .unwrap();
    assert_eq!(used(&calls), 5);
    calls.rollback(pending, now(0.0));
    assert_eq!(used(&calls), 0);
    offered(&mut calls, ICE, &keyed(), 1.0);
    answered(&mut calls, ICE, &keyed(), 1.0);
    offered(&mut calls, ICE, &keyed(), 2.0);
    let body = sdp("10.0.0.1", 0, ICE);
    offer(&mut calls, parties("c", "a", None), &body, &keyed(), 3.0).unwrap();
    assert_eq!((used(&calls), alternates(&calls)), (0, vec![]));
}

/// What is short of ports is left out; a leg whose interface has one address has one candidate a component.
#[test]
fn an_address_without_ports_is_left_out() {
    let mut calls = calls_of(2);
    let one = sdp("10.0.0.9", 4000, ICE);
    for id in ["x", "y"] {
        offer(&mut calls, parties(id, "a", None), &one, &outward(), 0.0).unwrap();
        let p = parties(id, "a", Some("b"));
        answer(&mut calls, p, &one, &outward(), 0.0).unwrap();
    }
    // The first address has none left; those after it have been taken as alternates.
    let error = offer(&mut calls, parties("c", "a", None), &one, &outward(), 0.0);
    assert_eq!(error, Err(MediaError::OutOfPorts));
    assert!(delete(&mut calls, "x", None, None, 1.0));
    assert!(delete(&mut calls, "y", None, None, 1.0));
    let mut settings = many_addresses(2);
    settings.interfaces[4].ports = (10_000, 10_000);
    let mut calls = Calls::new(settings, now(0.0));
    let out = offered(&mut calls, ICE, &outward(), 0.0);
    assert_eq!(candidates(&out).len(), 2, "{out}");
    let back = answered(&mut calls, ICE, &outward(), 1.0);
    assert_eq!(candidates(&back).len(), 6, "{back}");
    assert!(!back.contains("2001:db8"), "{back}");
}

/// A bundle has the candidates of its first section, and the others' ports at further addresses are given back.
#[test]
fn a_bundle_has_the_candidates_of_its_first() {
    let body = |ip: &str| {
        let section = |kind: &str| {
            format!("m={kind} 4000 RTP/AVP 96\r\na=rtpmap:96 X/8000\r\na=mid:{kind}\r\n{MUXED}")
        };
        format!(
            "v=0\r\no=- 1 1 IN IP4 {ip}\r\ns=-\r\nc=IN IP4 {ip}\r\nt=0 0\r\na=group:BUNDLE audio video\r\n{}{}",
            section("audio"),
            section("video")
        )
    };
    let options = Options {
        accept_bundle: true,
        offer_bundle: true,
        ..keyed()
    };
    let mut calls = calls_of(8);
    let p = parties("c", "a", None);
    offer(&mut calls, p, &body("10.0.0.1"), &options, 0.0).unwrap();
    let p = parties("c", "a", Some("b"));
    let back = answer(&mut calls, p, &body("10.0.0.2"), &options, 1.0).unwrap();
    let told = candidates(&back);
    assert_eq!(told.len(), 8, "{back}");
    assert_eq!(told[..4], told[4..]);
    assert_eq!(alternates(&calls).len(), 6);
    assert_eq!(used(&calls), 4 + 6);
}

/// Another process, and other addresses: calls keep what they have.
#[test]
fn a_store_and_a_new_configuration_know_them() {
    let mut calls = calls_of(4);
    offered(&mut calls, ICE, &keyed(), 0.0);
    answered(&mut calls, ICE, &keyed(), 1.0);
    let call = calls.get("c").unwrap().clone();
    let mut next = calls_of(4);
    let outcome = next.restore([call.clone()]);
    assert_eq!(outcome, [("c".to_owned(), Restore::Done)]);
    assert_eq!(used(&next), 8);
    assert_eq!(
        next.restore([Call {
            id: "d".into(),
            key: 9,
            ..call
        }])[0]
            .1,
        Restore::Clash
    );
    let mut fewer = many_addresses(4);
    fewer.interfaces.pop();
    let held = next.configure(fewer).unwrap_err();
    assert_eq!(held.calls, ["c"]);
    assert!(delete(&mut next, "c", None, None, 2.0));
    assert_eq!(used(&next), 0);
}

/// Media at any of the endpoints keeps a call alive.
#[test]
fn a_packet_at_an_alternate_counts() {
    let mut calls = calls_of(4);
    offered(&mut calls, ICE, &keyed(), 0.0);
    answered(&mut calls, ICE, &keyed(), 1.0);
    let call = calls.get("c").unwrap();
    let alternates = media(&calls).alternates.map(|all| all[2]);
    let second = std::time::Duration::from_secs;
    let timeouts = Timeouts {
        start: second(10),
        silence: second(10),
        hold: second(100),
        one_way: second(5),
        one_way_ends: false,
        last: second(0),
    };
    let heard = |at: [bool; 2], local: Local| {
        let side = alternates.iter().position(|alternate| *alternate == local);
        let last_seen = side.filter(|side| at[*side]).map(|_| second(100));
        Some(Sign {
            since: second(1),
            last_seen,
        })
    };
    let health = |at| {
        judge(
            call,
            &|local| heard(at, local),
            second(0),
            now(101.0),
            &timeouts,
        )
    };
    assert_eq!(health([true, true]), Health::Well);
    assert_eq!(health([true, false]), Health::OneWay);
    assert_eq!(health([false, false]), Health::Over(End::NoStart));
}

/// A call of many sections has candidates as long as a change of all its streams is one command.
#[test]
fn many_sections_are_no_more_than_one_command_holds() {
    let body = |ip: &str, count: usize| {
        let section = format!("m=audio 4000 RTP/AVP 8\r\n{ICE}");
        format!(
            "v=0\r\no=- 1 1 IN IP4 {ip}\r\ns=-\r\nc=IN IP4 {ip}\r\nt=0 0\r\n{}",
            section.repeat(count)
        )
    };
    for count in [10, 20, MAX_MEDIA] {
        let mut calls = calls_of(200);
        let p = parties("c", "a", None);
        offer(&mut calls, p, &body("10.0.0.1", count), &keyed(), 0.0).unwrap();
        let p = parties("c", "a", Some("b"));
        let answer = body("10.0.0.2", count);
        let pending = calls.answer(&p, answer.as_bytes(), &keyed(), now(1.0));
        let pending = pending.unwrap();
        let ops = pending.ops.iter().map(|op| match op {
            Op::Remove(_) | Op::Move { .. } => 1,
            Op::Put(stream) => {
                1 + usize::from(stream.ice.is_some()) + usize::from(stream.feed != Feed::Own)
            }
        });
        let (ops, pairs) = (ops.sum::<usize>(), used(&calls));
        // As many as penstock_shm::MAX_OPS, less what removals may need.
        assert!(ops <= 768, "{count}: {ops}");
        assert_eq!(pairs, (8 * count).min(MAX_PAIRS));
        commit(&mut calls, pending, 1.0);
    }
}
