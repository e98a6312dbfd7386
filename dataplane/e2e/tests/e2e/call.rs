//! A call: media and reports both ways, hold and resume, the operator's view of it, and its end.

use penstock_e2e::region::{live, stream};
use penstock_e2e::{Phone, converse, lab, phone_at, rtcp, sdp};
use penstock_shm::counters::Drop;

#[test]
fn every_packet_arrives_once_in_order_and_unchanged() {
    let lab = lab!("call");
    let _plane = lab.plane();
    let _control = lab.control();
    let ng = lab.ng();
    let table = lab.table();
    let mut caller = Phone::new(&lab, phone_at(4000), 0xa);
    let mut callee = Phone::new(&lab, phone_at(5000), 0xb);
    let mut caller_rtcp = Phone::new(&lab, phone_at(4001), 0xa);
    let mut callee_rtcp = Phone::new(&lab, phone_at(5001), 0xb);

    let sides = ng.call("one", caller.at(), callee.at());
    assert_eq!(
        (sides.caller.port() % 2, sides.callee.port() % 2),
        (0, 0),
        "RTP ports are even"
    );
    converse(&mut caller, sides.caller, &mut callee, sides.callee, 400);
    for _ in 0..20 {
        caller_rtcp.report(rtcp(sides.caller));
        callee_rtcp.report(rtcp(sides.callee));
    }

    caller.heard_all(0xb, 1, 400);
    callee.heard_all(0xa, 1, 400);
    let reports: Vec<u32> = (1..=20).collect();
    for (phone, other) in [(&mut caller_rtcp, 0xb), (&mut callee_rtcp, 0xa)] {
        let heard = phone.listen_for(|heard| heard.rtcp.get(&other).is_some_and(|r| r.len() >= 20));
        assert_eq!(heard.rtcp[&other], reports);
    }

    for (phone, at) in [(&caller, sides.caller), (&callee, sides.callee)] {
        let stream = stream(&table, at).expect("the stream");
        assert_eq!((stream.meter.packets, stream.meter.bytes), (400, 400 * 172));
        assert_eq!(
            (
                stream.meter.received,
                stream.meter.lost,
                stream.meter.dropped
            ),
            (400, 0, 0)
        );
        assert_eq!(
            (stream.meter.ssrc, stream.meter.payload_type),
            (Some(phone.ssrc()), Some(0))
        );
        assert_eq!(stream.policy.remote, Some(phone.at()));
        assert!(stream.policy.locked && stream.policy.gate_open && stream.policy.routed);
        let reports =
            penstock_e2e::region::stream(&table, rtcp(at)).expect("the stream of reports");
        assert_eq!((reports.meter.packets, reports.meter.dropped), (20, 0));
    }
    let totals = lab.balanced();
    assert_eq!(totals.forwarded, 2 * 400 + 2 * 20);

    let deleted = ng.delete("one");
    assert_eq!(deleted["result"], "ok", "{deleted}");
    assert_eq!(live(&table), [], "streams after the call's end");
    assert_eq!(ng.list(), Vec::<String>::new());
    caller.talk(sides.caller);
    let totals = lab.balanced();
    assert_eq!(
        totals.dropped(Drop::NoStream),
        1,
        "a late packet finds nobody: {totals:?}"
    );
}

#[test]
fn hold_and_resume_keep_the_ports() {
    let lab = lab!("hold");
    let _plane = lab.plane();
    let _control = lab.control();
    let ng = lab.ng();
    let mut caller = Phone::new(&lab, phone_at(4000), 0xa);
    let mut callee = Phone::new(&lab, phone_at(5000), 0xb);
    let sides = ng.call("held", caller.at(), callee.at());
    converse(&mut caller, sides.caller, &mut callee, sides.callee, 50);
    caller.heard_all(0xb, 1, 50);

    let with = |phone: &Phone, line: &str| format!("{}a={line}\r\n", sdp(phone.at()));
    assert_eq!(
        ng.offer_sdp("held", &with(&caller, "sendonly")),
        Ok(sides.callee)
    );
    assert_eq!(
        ng.answer_sdp("held", &with(&callee, "recvonly")),
        Ok(sides.caller)
    );
    converse(&mut caller, sides.caller, &mut callee, sides.callee, 50);
    callee.heard_all(0xa, 1, 100);
    caller.heard_all(0xb, 1, 50);
    assert_eq!(
        lab.balanced().dropped(Drop::GateClosed),
        50,
        "the callee speaks into a closed gate"
    );

    assert_eq!(
        ng.offer_sdp("held", &with(&caller, "sendrecv")),
        Ok(sides.callee)
    );
    assert_eq!(
        ng.answer_sdp("held", &with(&callee, "sendrecv")),
        Ok(sides.caller)
    );
    caller.forget();
    converse(&mut caller, sides.caller, &mut callee, sides.callee, 50);
    callee.heard_all(0xa, 1, 150);
    caller.heard_all(0xb, 101, 150);
}

#[test]
fn a_phone_that_moves_is_followed_once_it_says_so() {
    let lab = lab!("moves");
    let _plane = lab.plane();
    let _control = lab.control();
    let ng = lab.ng();
    let table = lab.table();
    let mut caller = Phone::new(&lab, phone_at(4000), 0xa);
    let mut callee = Phone::new(&lab, phone_at(5000), 0xb);
    let mut moved = Phone::new(&lab, phone_at(4444), 0xaa);
    let sides = ng.call("moving", caller.at(), callee.at());
    converse(&mut caller, sides.caller, &mut callee, sides.callee, 50);
    callee.heard_all(0xa, 1, 50);
    caller.heard_all(0xb, 1, 50);

    // Unannounced, it is a stranger.
    for seq in 1..=10 {
        moved.send(&penstock_e2e::rtp_packet(0xdead, seq), sides.caller);
    }
    assert_eq!(lab.balanced().dropped(Drop::Source), 10);

    assert_eq!(ng.offer("moving", moved.at()), Ok(sides.callee));
    assert_eq!(ng.answer("moving", callee.at()), Ok(sides.caller));
    callee.forget();
    converse(&mut moved, sides.caller, &mut callee, sides.callee, 50);
    callee.heard_all(0xaa, 1, 50);
    moved.heard_all(0xb, 51, 100);
    // And the old place is a stranger's now.
    caller.talk(sides.caller);
    assert_eq!(lab.balanced().dropped(Drop::Source), 11);
    let stream = stream(&table, sides.caller).expect("the stream");
    assert_eq!(
        (stream.policy.remote, stream.meter.ssrc),
        (Some(moved.at()), Some(0xaa))
    );
    assert_eq!(stream.meter.packets, 100);
}

#[test]
fn the_operator_sees_it() {
    let lab = lab!("operator");
    let _plane = lab.plane();
    let _control = lab.control();
    let ng = lab.ng();
    let mut caller = Phone::new(&lab, phone_at(4000), 0xa);
    let mut callee = Phone::new(&lab, phone_at(5000), 0xb);
    let stranger = Phone::new(&lab, phone_at(6000), 0xc);

    lab.ping(penstock_e2e::PLANE);
    let sides = ng.call("seen", caller.at(), callee.at());
    converse(&mut caller, sides.caller, &mut callee, sides.callee, 100);
    stranger.send(
        b"nobody asked",
        std::net::SocketAddr::new(sides.caller.ip(), 9),
    );
    lab.balanced();

    let calls = lab.penstock_json("calls");
    assert_eq!(calls[0]["call_id"], "seen", "{calls}");
    assert_eq!(
        (
            &calls[0]["streams"],
            &calls[0]["packets"],
            &calls[0]["lost"]
        ),
        (&4.into(), &200.into(), &0.into())
    );
    assert_eq!(calls[0]["tags"], serde_json::json!(["a", "b"]));

    let streams = lab.penstock_json("streams");
    let list = streams.as_array().expect("a list");
    assert_eq!(list.len(), 4, "{streams}");
    for (phone, at, peer) in [
        (&caller, sides.caller, sides.callee),
        (&callee, sides.callee, sides.caller),
    ] {
        let stream = list
            .iter()
            .find(|s| s["local"] == at.to_string())
            .expect("the stream");
        assert_eq!(
            (&stream["call_id"], &stream["kind"]),
            (&"seen".into(), &"rtp".into()),
            "{stream}"
        );
        assert_eq!(stream["remote"], phone.at().to_string(), "{stream}");
        assert_eq!(stream["peer"], peer.to_string(), "{stream}");
        assert_eq!(
            (&stream["packets"], &stream["lost"]),
            (&100.into(), &0.into()),
            "{stream}"
        );
    }

    let drops = lab.penstock_json("drops");
    let no_stream = drops["reasons"]
        .as_array()
        .expect("a list")
        .iter()
        .find(|d| d["reason"] == "no-stream");
    assert_eq!(no_stream.expect("the reason")["packets"], 1, "{drops}");
    // For people, the same in tables.
    for command in ["calls", "streams", "drops"] {
        let (code, out, err) = lab.penstock(&[command]);
        assert_eq!(code, Some(0), "penstock {command}: {err}");
        assert!(out.lines().count() > 1, "{out}");
    }
}
