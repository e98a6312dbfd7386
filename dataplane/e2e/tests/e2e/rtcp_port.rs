//! RTCP at a port and an address of its own, as `a=rtcp:` names them (RFC 3605).

use penstock_e2e::region::stream;
use penstock_e2e::{Ng, Phone, answer_request, lab, meet, offer_request, phone_at, rtcp, sdp};
use penstock_shm::counters::Drop;
use serde_json::Value;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// Where the caller has its RTCP.
const APART: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(198, 18, 255, 7));
/// Reports of each side.
const COUNT: u16 = 10;

/// Signals, and returns the local RTP address that the reply names.
fn signal(ng: &Ng, request: &Value) -> SocketAddr {
    let at = ng
        .signal(request, Duration::from_secs(10))
        .expect("an answer");
    // The body goes again unchanged, and what comes back names the plane's port and nobody's address.
    let reply = ng.ask(request);
    let body = reply["sdp"].as_str().expect("a body");
    let lines: Vec<_> = body.lines().filter(|l| l.starts_with("a=rtcp:")).collect();
    assert_eq!(lines, [format!("a=rtcp:{}", rtcp(at).port())], "{body}");
    at
}

fn heard_reports(phone: &mut Phone, ssrc: u32) {
    let all: Vec<u32> = (1..=COUNT.into()).collect();
    let came = |heard: &penstock_e2e::Received| {
        heard.rtcp.get(&ssrc).map_or(0, Vec::len) >= usize::from(COUNT)
    };
    phone.listen_for(came);
    let heard = phone.listen_until(Duration::from_millis(100));
    assert_eq!(heard.rtcp.get(&ssrc), Some(&all));
    assert_eq!(
        (heard.rtcp.len(), heard.rtp.len(), heard.changed),
        (1, 0, 0)
    );
}

#[test]
fn reports_go_where_the_sdp_says() {
    let lab = lab!("rtcp_port");
    let _plane = lab.plane();
    let _control = lab.control();
    let table = lab.table();
    lab.address(APART);
    let ng = lab.ng();
    let mut caller = Phone::new(&lab, phone_at(4000), 0xa);
    let mut callee = Phone::new(&lab, phone_at(5000), 0xb);
    let mut caller_rtcp = Phone::new(&lab, SocketAddr::new(APART, 4321), 0x1a);
    // The callee names a port alone.
    let mut callee_rtcp = Phone::new(&lab, phone_at(5555), 0x1b);
    let mut ports_above = [4001, 5001].map(|port| Phone::new(&lab, phone_at(port), 0xc));

    let offer = sdp(caller.at()) + &format!("a=rtcp:4321 IN IP4 {APART}\r\n");
    let to_callee_side = signal(&ng, &offer_request("call", &offer));
    let answer = sdp(callee.at()) + "a=rtcp:5555\r\n";
    let to_caller_side = signal(&ng, &answer_request("call", &answer));
    let shown = |at| stream(&table, at).expect("the stream").policy.remote;
    assert_eq!(shown(rtcp(to_caller_side)), Some(caller_rtcp.at()));
    assert_eq!(shown(rtcp(to_callee_side)), Some(callee_rtcp.at()));

    // The callee's first, to a caller whose RTCP has not been heard of.
    for _ in 0..COUNT {
        callee_rtcp.report(rtcp(to_callee_side));
        caller_rtcp.listen_for(|heard| heard.rtcp.contains_key(&0x1b));
    }
    heard_reports(&mut caller_rtcp, 0x1b);
    for _ in 0..COUNT {
        caller_rtcp.report(rtcp(to_caller_side));
        callee_rtcp.listen_for(|heard| heard.rtcp.contains_key(&0x1a));
    }
    heard_reports(&mut callee_rtcp, 0x1a);
    let sum = lab.balanced();
    assert_eq!(
        (sum.forwarded, sum.dropped(Drop::Source)),
        (2 * u64::from(COUNT), 0),
        "{sum:?}"
    );

    // The ports above the media are strangers'.
    ports_above[0].report(rtcp(to_caller_side));
    ports_above[1].report(rtcp(to_callee_side));
    meet(&mut caller, to_caller_side, &mut callee, to_callee_side);
    let sum = lab.balanced();
    assert_eq!(sum.dropped(Drop::Source), 2, "{sum:?}");
    for phone in &mut ports_above {
        assert_eq!(*phone.listen(), Default::default());
    }
    caller.heard_all(0xb, 1, 1);
    callee.heard_all(0xa, 1, 1);
}
