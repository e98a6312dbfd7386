//! Legs that are connected to legs of other dialogs, and of other calls: who hears whom.

mod common;
use common::two::*;
use common::*;
use penstock_media::*;
use std::time::Duration;

const VIDEO: &str = "m=video 4002 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n";

#[test]
fn legs_of_one_call_are_connected_and_keep_what_they_have() {
    let mut calls = calls(20);
    talk(&mut calls, "c", ["a", "b"], 4000);
    talk(&mut calls, "c", ["x", "y"], 6000);
    let before = calls.get("c").unwrap().desired();
    connect(&mut calls, ("c", "b"), ("c", "y"), 2.0);
    assert_eq!(who_hears_whom(&calls), [None, some("y"), None, some("b")]);
    let after = calls.get("c").unwrap().desired();
    for (local, stream) in &after {
        // No source is learned anew, and nobody takes a leg for another.
        let as_before = Stream {
            peer: before[local].peer,
            ..*stream
        };
        assert_eq!(as_before, before[local]);
    }
    assert_eq!(after.len(), before.len());
    let nobody = after.values().filter(|stream| stream.peer.port == 0);
    assert_eq!(nobody.count(), 4, "RTP and RTCP of who is left alone");

    // Again it changes nothing; back, and to another one.
    let again = connect(&mut calls, ("c", "y"), ("c", "b"), 3.0);
    assert!(again.is_empty());
    connect(&mut calls, ("c", "a"), ("c", "b"), 4.0);
    assert_eq!(who_hears_whom(&calls), [some("b"), some("a"), None, None]);
    connect(&mut calls, ("c", "y"), ("c", "x"), 5.0);
    assert_eq!(calls.get("c").unwrap().desired(), before);
}

#[test]
fn what_cannot_be_connected_is_refused() {
    let mut calls = two();
    let refused = |calls: &Calls, one, other| calls.connect(one, other, now(2.0)).unwrap_err();
    let no = MediaError::UnknownCall;
    assert_eq!(refused(&calls, ("no", "a"), ("two", "y")), no);
    assert_eq!(refused(&calls, ("one", "a"), ("no", "y")), no);
    let no = MediaError::UnknownTag;
    assert_eq!(refused(&calls, ("one", "y"), ("two", "y")), no);
    let no = MediaError::UnknownToTag;
    assert_eq!(refused(&calls, ("one", "a"), ("two", "b")), no);
    let no = MediaError::NothingInCommon;
    assert_eq!(refused(&calls, ("one", "a"), ("one", "a")), no);
    talk(&mut calls, "three", ["a", "z"], 8000);
    let no = MediaError::TagCollision;
    assert_eq!(refused(&calls, ("one", "a"), ("three", "z")), no);
    // SRTP is for the other leg of its dialog alone, for that one has the keys.
    let savp = sdp("10.0.0.1", 8000, "").replace("RTP/AVP", "RTP/SAVP");
    let none = Options::default();
    for (id, from) in [("srtp", "s"), ("other", "o")] {
        offer(&mut calls, parties(id, from, None), &savp, &none, 2.0).unwrap();
    }
    let no = MediaError::NothingInCommon;
    assert_eq!(refused(&calls, ("one", "a"), ("srtp", "s")), no);
    assert_eq!(refused(&calls, ("srtp", "s"), ("other", "o")), no);
    // However often calls come and go, there are numbers for all, and few names.
    let mut crowded = common::calls(20);
    let name = |n: u8| Merged {
        id: n.to_string(),
        created_us: 0,
        asked_by: None,
    };
    let stored = calls.iter().filter(|call| call.id.len() == 3);
    for mut call in stored.cloned().collect::<Vec<_>>() {
        if call.id == "one" {
            call.merged = (0..63).map(name).collect();
        } else {
            call.next_dialog = 0x7fff;
        }
        assert_eq!(crowded.restore([call])[0].1, Restore::Done);
    }
    let no = MediaError::TooManyNames;
    assert_eq!(refused(&crowded, ("one", "a"), ("two", "y")), no);
    assert_eq!(refused(&crowded, ("two", "y"), ("one", "a")), no);
    talk(&mut crowded, "new", ["v", "w"], 8000);
    let no = MediaError::TooManyDialogs;
    assert_eq!(refused(&crowded, ("two", "y"), ("new", "v")), no);
    assert_eq!(refused(&crowded, ("new", "v"), ("two", "y")), no);
    // Each call has room for 32 tags.
    for n in 0..15 {
        let [from, to] = ["f", "t"].map(|tag| format!("{tag}{n}"));
        let id = "many";
        let p = parties(id, &from, Some(&to));
        offer(&mut calls, p, &sdp("10.0.0.1", 0, ""), &none, 2.0).unwrap();
    }
    talk(&mut calls, "many", ["m", "n"], 8000);
    let no = MediaError::TooManyTags;
    assert_eq!(refused(&calls, ("one", "a"), ("many", "m")), no);
}

/// As with rtpengine: an offer and its answer bring the legs of a dialog together again, one alone does not.
#[test]
fn an_offer_and_an_answer_bring_a_dialog_together_again() {
    let mut calls = two();
    connect(&mut calls, ("one", "a"), ("two", "y"), 2.0);
    let none = Options::default();
    let answered = |calls: &mut Calls, s| {
        let p = parties("one", "a", Some("b"));
        answer(calls, p, &sdp("10.0.0.2", 4100, ""), &none, s).unwrap();
        hears(calls, "a")
    };
    assert_eq!(answered(&mut calls, 3.0), some("y"), "it came once more");
    let p = parties("one", "a", Some("b"));
    offer(
        &mut calls,
        p,
        &sdp("10.0.0.1", 4000, "a=sendonly\r\n"),
        &none,
        4.0,
    )
    .unwrap();
    assert_eq!(hears(&calls, "a"), some("y"));
    // It is on hold for whomever it hears.
    assert!(!stream(&calls, "y").gate_open && stream(&calls, "a").gate_open);
    assert_eq!(answered(&mut calls, 5.0), some("b"));
    assert_eq!(who_hears_whom(&calls), [some("b"), some("a"), None, None]);
    connect(&mut calls, ("one", "a"), ("two", "y"), 6.0);
    assert_eq!(answered(&mut calls, 7.0), some("y"), "before that offer");
}

/// The first answer is one to an offer, even if the caller was connected to another before it came.
#[test]
fn a_first_answer_brings_a_dialog_together() {
    let mut calls = calls(20);
    let none = Options::default();
    let p = parties("one", "a", None);
    offer(&mut calls, p, &sdp("10.0.0.1", 4000, ""), &none, 0.0).unwrap();
    talk(&mut calls, "two", ["x", "y"], 6000);
    connect(&mut calls, ("one", "a"), ("two", "y"), 2.0);
    let answered = |calls: &mut Calls, s| {
        let p = parties("one", "a", Some("b"));
        answer(calls, p, &sdp("10.0.0.2", 4100, ""), &none, s).unwrap();
        who_hears_whom(calls)
    };
    let own = [some("b"), some("a"), None, None];
    assert_eq!(answered(&mut calls, 3.0), own);
    connect(&mut calls, ("one", "a"), ("two", "y"), 4.0);
    let connected = [some("y"), None, None, some("a")];
    assert_eq!(answered(&mut calls, 5.0), connected, "it came once more");
}

/// Of a caller whose offer forked the branch that answered is meant, not one that lost.
#[test]
fn a_forked_caller_is_connected_where_it_talks() {
    let mut calls = calls(20);
    let none = Options::default();
    let branch = |to, branch| Parties {
        branch: Some(branch),
        ..parties("one", "a", to)
    };
    let body = sdp("10.0.0.1", 4000, "");
    for name in ["z1", "z2"] {
        offer(&mut calls, branch(None, name), &body, &none, 0.0).unwrap();
    }
    let back = sdp("10.0.0.2", 4100, "");
    answer(&mut calls, branch(Some("b"), "z1"), &back, &none, 1.0).unwrap();
    talk(&mut calls, "two", ["x", "y"], 6000);
    let partner_of_b = |calls: &Calls| {
        let call = calls.get("one").unwrap();
        call.partner(&call.dialogs[0], 1).map(|(d, _)| d.number)
    };
    assert_eq!(partner_of_b(&calls), Some(0));
    connect(&mut calls, ("one", "a"), ("two", "y"), 2.0);
    assert_eq!(hears(&calls, "b"), None);
    assert_eq!(partner_of_b(&calls), None);
    let heard = |calls: &Calls| {
        let (call, y, side) = leg(calls, "y");
        call.partner(y, side).map(|(d, far)| (d.number, far))
    };
    assert_eq!(heard(&calls), Some((0, 0)));
    // So it is once who answered has been connected to another.
    connect(&mut calls, ("one", "b"), ("two", "x"), 3.0);
    connect(&mut calls, ("two", "y"), ("two", "x"), 4.0);
    assert_eq!(
        [hears(&calls, "b"), heard(&calls).map(|_| "x".into())],
        [None, some("x")]
    );
    connect(&mut calls, ("one", "a"), ("two", "y"), 5.0);
    assert_eq!(heard(&calls), Some((0, 0)));
}

/// Sections of a kind are for each other, one after the other, and the rest for nobody.
#[test]
fn sections_find_their_like() {
    let mut calls = calls(20);
    let none = Options::default();
    let video = sdp("10.0.0.1", 4000, "") + VIDEO;
    offer(&mut calls, parties("one", "a", None), &video, &none, 0.0).unwrap();
    let body = format!(
        "v=0\r\no=- 1 1 IN IP4 10.0.0.3\r\ns=-\r\nc=IN IP4 10.0.0.3\r\nt=0 0\r\n{VIDEO}{}m=audio 4006 RTP/AVP 8\r\n",
        "m=audio 4004 RTP/AVP 8\r\n"
    );
    offer(&mut calls, parties("two", "x", None), &body, &none, 0.0).unwrap();
    connect(&mut calls, ("one", "a"), ("two", "x"), 2.0);
    let (call, a, side) = leg(&calls, "a");
    let found =
        |(near, far): &(LegMedia<'_>, Option<LegMedia<'_>>)| (near.idx, far.map(|far| far.idx));
    let of_a: Vec<_> = call.leg_medias(a, side).iter().map(found).collect();
    let (_, x, side) = leg(&calls, "x");
    let of_x: Vec<_> = call.leg_medias(x, side).iter().map(found).collect();
    assert_eq!(of_a, [(0, Some(1)), (1, Some(0))]);
    assert_eq!(of_x, [(0, Some(1)), (1, Some(0)), (2, None)]);
    // What neither can decode is nobody's business here; what either announced may pass.
    let desired = call.desired();
    let at = |dialog: &Dialog, idx: usize| desired[&dialog.medias[idx].locals.unwrap()[0]];
    assert_eq!(at(a, 0).payload_types, 1 << 8 | 1 << 101);
    assert_eq!(at(x, 2).peer.port, 0);
}

/// RTCP goes where it is heard, if one of them multiplexes and the other does not.
#[test]
fn reports_find_the_other_leg() {
    let mut calls = calls(20);
    let none = Options::default();
    let muxed = sdp("10.0.0.1", 4000, "a=rtcp-mux\r\n");
    offer(&mut calls, parties("one", "a", None), &muxed, &none, 0.0).unwrap();
    let back = sdp("10.0.0.2", 4100, "a=rtcp-mux\r\n");
    answer(
        &mut calls,
        parties("one", "a", Some("b")),
        &back,
        &none,
        1.0,
    )
    .unwrap();
    talk(&mut calls, "two", ["x", "y"], 6000);
    assert_eq!(calls.get("one").unwrap().desired().len(), 2);
    connect(&mut calls, ("one", "a"), ("two", "y"), 2.0);
    let (a, y) = (stream(&calls, "a"), stream(&calls, "y"));
    let desired = calls.get("one").unwrap().desired();
    let reports = desired[&a.local.rtcp()];
    assert_eq!(
        (reports.feed, reports.peer),
        (Feed::PartOf(a.local), y.local.rtcp())
    );
    let back = desired[&y.local.rtcp()];
    assert_eq!((back.feed, back.peer), (Feed::Own, a.local));
}

/// A subscriber is sent reports where it said, whether the leg and whom it hears multiplex or not.
#[test]
fn copies_of_reports_go_where_the_subscriber_wants_them() {
    let none = Options::default();
    let muxes = "a=rtcp-mux\r\n";
    let mut calls = calls(20);
    let offered = sdp("10.0.0.1", 4000, muxes);
    offer(&mut calls, parties("one", "a", None), &offered, &none, 0.0).unwrap();
    let p = parties("one", "a", Some("b"));
    answer(&mut calls, p, &sdp("10.0.0.2", 4100, muxes), &none, 1.0).unwrap();
    talk(&mut calls, "two", ["x", "y"], 6000);
    let subscribe = |calls: &mut Calls, tag: &str, port, lines: &str| {
        let who = Selector {
            tag: Some("a"),
            ..Selector::default()
        };
        let (pending, _) = calls
            .subscribe("one", &[who], tag, &none, now(2.0))
            .unwrap();
        let told = commit(calls, pending, 2.0);
        assert_eq!(told.contains(muxes), lines == muxes, "{told}");
        let body = sdp("10.0.0.9", port, lines);
        let answered = calls.subscribe_answer("one", tag, body.as_bytes(), &none, now(2.0));
        commit(calls, answered.unwrap(), 2.0);
    };
    // Where reports of `a` go besides: the endpoint they leave from, and the port.
    let copied = |calls: &Calls| {
        let call = calls.get("one").unwrap();
        let (desired, own) = (call.desired(), stream(calls, "a").local);
        let to = |fork: &Fork| {
            let rtp = desired[&fork.medias[0].local];
            let Some(rtcp) = desired.get(&rtp.local.rtcp()) else {
                assert!(!desired.contains_key(&own.rtcp()), "with the media");
                return rtp.remote.unwrap().port();
            };
            assert_eq!(rtcp.feed, Feed::CopyOf(own.rtcp()));
            assert_eq!(desired[&own.rtcp()].feed, Feed::PartOf(own));
            let exit = desired[&rtcp.peer];
            assert_eq!((exit.local == rtp.local), exit.remote == rtp.remote);
            exit.remote.unwrap().port()
        };
        call.forks.iter().map(to).collect::<Vec<_>>()
    };
    subscribe(&mut calls, "with", 9000, muxes);
    assert_eq!(copied(&calls), [9000]);
    connect(&mut calls, ("one", "a"), ("two", "y"), 3.0);
    assert_eq!(copied(&calls), [9000]);
    subscribe(&mut calls, "apart", 9100, "");
    assert_eq!(copied(&calls), [9000, 9101]);
    connect(&mut calls, ("one", "b"), ("one", "a"), 4.0);
    assert_eq!(copied(&calls), [9000, 9101]);
    // Whoever hears nobody reports as well.
    connect(&mut calls, ("one", "b"), ("two", "y"), 5.0);
    assert_eq!(
        (hears(&calls, "a"), copied(&calls)),
        (None, vec![9000, 9101])
    );
    for tag in ["with", "apart"] {
        connect(&mut calls, ("one", "b"), ("one", "a"), 6.0);
        let gone = calls.unsubscribe("one", tag).unwrap();
        commit(&mut calls, gone, 6.0);
    }
    let left = calls.get("one").unwrap().desired();
    assert!(!left.contains_key(&stream(&calls, "a").local.rtcp()));
}

/// Copies of a leg's media go on whomever it hears, and so do those of one that hears nobody.
#[test]
fn copies_go_on() {
    let mut calls = two();
    let none = Options::default();
    let all = [Selector::default()];
    let mut forks = Vec::new();
    for (id, tag) in [("one", "s1"), ("two", "s2")] {
        let (pending, _) = calls.subscribe(id, &all, tag, &none, now(2.0)).unwrap();
        commit(&mut calls, pending, 2.0);
        forks.extend(calls.get(id).unwrap().desired().into_values());
    }
    connect(&mut calls, ("one", "a"), ("two", "y"), 3.0);
    let call = calls.get("one").unwrap();
    let copies = |streams: Vec<Stream>| {
        let copies = streams
            .into_iter()
            .filter(|s| matches!(s.feed, Feed::CopyOf(_)));
        let mut all: Vec<_> = copies.map(|s| (s.local, s.feed, s.gate_open)).collect();
        all.sort_by_key(|(local, ..)| *local);
        all
    };
    let now_there = copies(call.desired().into_values().collect());
    assert_eq!(now_there.len(), 8);
    assert_eq!(now_there, copies(forks));
    assert!(stream(&calls, "b").gate_open, "copies of it are made");
    let pending = calls.unsubscribe("two", "s2").unwrap();
    commit(&mut calls, pending, 4.0);
    // They end with what they are copies of.
    assert!(delete(&mut calls, "two", None, None, 5.0));
    assert_eq!(calls.get("one").unwrap().forks[0].medias.len(), 2);
    assert!(delete(&mut calls, "one", None, None, 5.0));
    assert!(calls.ports().all(|(_, used, _)| used == 0));
}

/// Who hears nobody keeps no call alive, unless nobody is left who does.
#[test]
fn a_connected_call_ages_by_those_who_talk() {
    let mut calls = two();
    connect(&mut calls, ("one", "a"), ("two", "y"), 2.0);
    let s = Duration::from_secs;
    let timeouts = Timeouts {
        start: s(10),
        silence: s(10),
        hold: s(100),
        one_way: s(5),
        one_way_ends: false,
        last: s(0),
    };
    let judged = |calls: &Calls, seen: &[(Local, f64)], t: f64| {
        let sign = |local: Local| {
            let seen = seen.iter().find(|(at, _)| *at == local);
            Some(Sign {
                since: s(0),
                last_seen: seen.map(|(_, t)| Duration::from_secs_f64(*t)),
            })
        };
        judge(calls.get("one").unwrap(), &sign, s(0), now(t), &timeouts)
    };
    let [a, b, y] = ["a", "b", "y"].map(|tag| stream(&calls, tag).local);
    assert_eq!(judged(&calls, &[(a, 19.0), (y, 19.0)], 20.0), Health::Well);
    assert_eq!(
        judged(&calls, &[(a, 19.0), (b, 19.0)], 20.0),
        Health::OneWay,
        "b is not heard"
    );
    let over = Health::Over(End::Silence);
    assert_eq!(judged(&calls, &[(a, 1.0), (b, 19.0), (y, 1.0)], 20.0), over);
    delete(&mut calls, "two", None, None, 20.0);
    assert_eq!(judged(&calls, &[(a, 19.0)], 99.0), Health::Well);
    assert_eq!(
        judged(&calls, &[(a, 19.0)], 130.0),
        Health::Over(End::Hold),
        "as on hold"
    );
}

/// Both take the same ways to hold back and to let through as before, by whom they hear now.
#[test]
fn media_is_held_back_from_whom_it_goes_to() {
    let mut calls = two();
    connect(&mut calls, ("one", "a"), ("two", "y"), 2.0);
    let tag = |tag| Selector {
        tag: Some(tag),
        ..Selector::default()
    };
    let hold = |calls: &mut Calls, from, to, on| {
        let held = calls.hold_back("two", (from, to), hold_media(on), now(3.0))?;
        calls.commit(held, now(3.0));
        Ok(stream(calls, "a").gate_open)
    };
    assert_eq!(hold(&mut calls, tag("a"), tag("y"), true), Ok(false));
    assert_eq!(
        hold(&mut calls, tag("a"), tag("b"), true),
        Err(MediaError::NoTag)
    );
    assert_eq!(
        hold(&mut calls, tag("a"), Selector::default(), false),
        Ok(true)
    );
    assert_eq!(
        hold(&mut calls, tag("b"), Selector::default(), true),
        Ok(true)
    );
    assert!(!stream(&calls, "b").gate_open);
}

fn hold_media(on: bool) -> Hold<'static> {
    Hold {
        what: HeldBack::Media,
        on,
        flows: Flows::Dialog,
        label: None,
    }
}
