//! A call between an IPv4 phone and an IPv6 phone: each speaks to the plane in its own version.

use penstock_e2e::region::{live, stream};
use penstock_e2e::{Lab, PLANE6, Phone, Setup, converse, lab, phone_at, phone6_at, rtcp, sdp};
use serde_json::{Value, json};
use std::net::SocketAddr;

fn setup() -> Setup {
    let mut setup = Setup::six();
    setup.port += &format!(
        "[[control.interface]]\nname = \"six\"\naddress = \"{PLANE6}\"\nports = \"40000-41999\"\n"
    );
    setup
}

/// RTP and RTCP of one phone.
struct Party {
    rtp: Phone,
    rtcp: Phone,
}

impl Party {
    fn new(lab: &Lab, at: SocketAddr, ssrc: u32) -> Party {
        Party {
            rtp: Phone::new(lab, at, ssrc),
            rtcp: Phone::new(lab, rtcp(at), ssrc),
        }
    }
}

/// A call set up by `key` of the offer, and what it carries. The kernel drops what has a wrong UDP checksum.
fn call(lab: &Lab, name: &str, key: (&str, Value), caller: &mut Party, callee: &mut Party) {
    let (ng, table) = (lab.ng(), lab.table());
    let before = lab.balanced().forwarded;
    let offer = ng.offer_with(name, &sdp(caller.rtp.at()), key.0, key.1);
    let to_callee_side = offer.expect("the offer");
    let to_caller_side = ng.answer(name, callee.rtp.at()).expect("the answer");
    for (side, phone) in [(to_caller_side, &caller.rtp), (to_callee_side, &callee.rtp)] {
        assert_eq!(
            side.is_ipv6(),
            phone.at().is_ipv6(),
            "{side} for {}",
            phone.at()
        );
    }

    converse(
        &mut caller.rtp,
        to_caller_side,
        &mut callee.rtp,
        to_callee_side,
        400,
    );
    for _ in 0..20 {
        caller.rtcp.report(rtcp(to_caller_side));
        callee.rtcp.report(rtcp(to_callee_side));
    }
    let ssrcs = (caller.rtp.ssrc(), callee.rtp.ssrc());
    caller.rtp.heard_all(ssrcs.1, 1, 400);
    callee.rtp.heard_all(ssrcs.0, 1, 400);
    let reports: Vec<u32> = (1..=20).collect();
    for (party, other) in [(&mut *caller, ssrcs.1), (&mut *callee, ssrcs.0)] {
        let heard = party
            .rtcp
            .listen_for(|heard| heard.rtcp.get(&other).is_some_and(|r| r.len() >= 20));
        assert_eq!(heard.rtcp[&other], reports);
    }
    for (party, side) in [(&*caller, to_caller_side), (&*callee, to_callee_side)] {
        let stream = stream(&table, side).expect("the stream");
        assert_eq!((stream.meter.packets, stream.meter.lost), (400, 0));
        assert_eq!(stream.policy.remote, Some(party.rtp.at()));
        assert!(stream.policy.locked && stream.policy.routed);
    }
    assert_eq!(lab.balanced().forwarded - before, 2 * 400 + 2 * 20);
}

#[test]
fn an_ipv4_phone_and_an_ipv6_phone_hear_each_other() {
    let lab = lab!("four-to-six", setup());
    let mut plane = lab.plane();
    lab.six();
    let _control = lab.control();

    let mut four = Party::new(&lab, phone_at(4000), 0xa);
    let mut six_phone = Party::new(&lab, phone6_at(5000), 0xb);
    let key = ("address-family", json!("IP6"));
    call(&lab, "four-six", key, &mut four, &mut six_phone);

    let mut caller = Party::new(&lab, phone6_at(6000), 0xc);
    let mut callee = Party::new(&lab, phone_at(7000), 0xd);
    let key = ("direction", json!(["six", "default"]));
    call(&lab, "six-four", key, &mut caller, &mut callee);

    // A plane that starts anew makes the same routes of what stands.
    let sides = live(&lab.table());
    assert_eq!(sides.len(), 8);
    plane.stop_well();
    let _plane = lab.plane();
    lab.six();
    let table = lab.table();
    let side_of = |phone: &Phone| {
        let streams = live(&table).into_iter();
        let mut own = streams.filter(|stream| stream.policy.remote == Some(phone.at()));
        let endpoint = own.next().expect("its stream").endpoint;
        let addresses = table.addresses();
        let local = addresses.iter().find(|a| a.number == endpoint.addr);
        SocketAddr::new(local.expect("its address").entry.ip, endpoint.port)
    };
    four.rtp.forget();
    six_phone.rtp.forget();
    let (a, b) = (side_of(&four.rtp), side_of(&six_phone.rtp));
    converse(&mut four.rtp, a, &mut six_phone.rtp, b, 100);
    four.rtp.heard_all(0xb, 401, 500);
    six_phone.rtp.heard_all(0xa, 401, 500);

    let ng = lab.ng();
    for name in ["four-six", "six-four"] {
        let deleted = ng.delete(name);
        assert_eq!(deleted["result"], "ok", "{deleted}");
    }
    assert_eq!(live(&table), [], "streams after the calls' end");
}

#[test]
fn a_call_that_nobody_could_hear_is_refused() {
    let lab = lab!("four-to-six-refused");
    let _plane = lab.plane();
    let _control = lab.control();
    let ng = lab.ng();
    let refused = ng.offer_with("x", &sdp(phone_at(4000)), "address-family", json!("IP6"));
    assert_eq!(refused, Err("No interface has an IPv6 address".into()));
    let refused = ng.offer("x", phone6_at(4000));
    let why = "Address fd00::ff is not of the address family of interface \"default\"";
    assert_eq!(refused, Err(why.into()));
    assert_eq!(live(&lab.table()), []);
}
