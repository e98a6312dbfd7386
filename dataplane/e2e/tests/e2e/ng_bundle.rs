//! A leg that bundles audio and video on one port calls one that does not (RFC 9143).

use crate::bundle::packet;
use penstock_e2e::body::{sections, values};
use penstock_e2e::region::{live, lost};
use penstock_e2e::{Lab, Ng, answer_request, lab, offer_request, phone_at, rtcp_packet, with};
use serde_json::json;
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(10);
/// Of audio, of video, and one that both have.
const TYPES: [u8; 2] = [8, 96];
const COMMON: u8 = 100;

/// Audio and video at these ports, in a bundle or not; port 0 refuses.
fn body(ports: [u16; 2], bundles: bool) -> String {
    let ip = phone_at(0).ip();
    let group = if bundles {
        "a=group:BUNDLE a v\r\n"
    } else {
        ""
    };
    let section = |name: &str, mid: &str, port: u16, types: [u8; 2], map: &str| {
        let [own, common] = types;
        format!(
            "m={name} {port} RTP/AVP {own} {common}\r\na=mid:{mid}\r\na=rtpmap:{own} {map}\r\na=rtpmap:{common} red/90000\r\n\
             a=extmap:3 urn:ietf:params:rtp-hdrext:sdes:mid\r\na=rtcp-mux\r\n"
        )
    };
    format!(
        "v=0\r\no=- 1 1 IN IP4 {ip}\r\ns=-\r\nc=IN IP4 {ip}\r\nt=0 0\r\n{group}{}{}",
        section("audio", "a", ports[0], [TYPES[0], COMMON], "PCMA/8000"),
        section("video", "v", ports[1], [TYPES[1], COMMON], "VP8/90000"),
    )
}

/// A leg's socket, and what it sends to or hears from.
struct Way {
    socket: UdpSocket,
    side: SocketAddr,
}

impl Way {
    fn new(lab: &Lab, port: u16, side: SocketAddr) -> Way {
        let socket = lab.socket(phone_at(port));
        socket.set_read_timeout(Some(SOON)).expect("a timeout");
        Way { socket, side }
    }

    /// A packet goes this way, and comes out that way, unchanged and from there.
    fn goes(&self, packet: &[u8], out: &Way) {
        self.socket.send_to(packet, self.side).expect("sent");
        out.hears(packet);
    }

    fn hears(&self, packet: &[u8]) {
        let mut buf = [0; 2048];
        let (n, from) = self.socket.recv_from(&mut buf).expect("a packet");
        assert_eq!((&buf[..n], from), (packet, self.side));
    }
}

/// The caller's bundle, answered so: what each leg is told.
fn call(ng: &Ng, answer: &str) -> [String; 2] {
    let accept = json!({"bundle": "accept"});
    let offer = body([4000, 4000], true);
    let out = ng.told(&with(offer_request("c", &offer), accept.clone()));
    assert_eq!(values(&out, "group"), [""; 0], "{out}");
    [ng.told(&with(answer_request("c", answer), accept)), out]
}

/// Where the sections of the leg that is called are to send, and the caller's of whatever is not refused.
fn ways(lab: &Lab, [back, out]: &[String; 2]) -> (Way, [Way; 2]) {
    let shared = sections(back).into_iter().find(|at| at.port() != 0);
    let own = sections(out);
    let others = [(5000, own[0]), (5002, own[1])];
    let caller = Way::new(lab, 4000, shared.expect("a section"));
    (caller, others.map(|(port, side)| Way::new(lab, port, side)))
}

#[test]
fn a_bundle_is_taken_apart_and_joined() {
    let lab = lab!("ng_bundle");
    let _plane = lab.plane();
    let _control = lab.control();
    let (ng, table) = (lab.ng(), lab.table());
    let told = call(&ng, &body([5000, 5002], false));
    assert_eq!(values(&told[0], "group"), ["BUNDLE a v"]);
    let at = sections(&told[0]);
    assert_eq!(at[0], at[1], "{}", told[0]);
    let (a, b) = ways(&lab, &told);
    assert_ne!(b[0].side, b[1].side);

    for seq in 1..=50 {
        for media in 0..2 {
            let ssrc = 0xa0 + media as u32;
            a.goes(&packet(TYPES[media], ssrc, seq, None), &b[media]);
            b[media].goes(&packet(TYPES[media], ssrc + 0x10, seq, None), &a);
        }
    }
    // By the mid alone, and by what the mid has said of the SSRC.
    for (seq, two_bytes) in [(1, false), (3, true)] {
        for (media, mid) in ["a", "v"].into_iter().enumerate() {
            let ssrc = 0xc0 + media as u32;
            let said = packet(COMMON, ssrc, seq, Some((mid, two_bytes)));
            a.goes(&said, &b[media]);
            a.goes(&packet(COMMON, ssrc, seq + 1, None), &b[media]);
        }
    }
    lab.balanced();
    let streams = live(&table);
    let packets: u64 = streams.iter().map(|stream| stream.meter.packets).sum();
    assert_eq!((streams.len(), lost(&table), packets), (4, 0, 208));
    ng.delete("c");
    assert_eq!(live(&table), []);
}

/// With `bundle=offer` the callee decides: both bundle, or neither does.
#[test]
fn a_bundle_is_offered_to_who_takes_it_and_to_who_does_not() {
    let lab = lab!("ng_bundle_offer");
    let _plane = lab.plane();
    let _control = lab.control();
    let (ng, table) = (lab.ng(), lab.table());
    let wish = || json!({"bundle": "offer"});
    // Who offers names a port for each section, as long as it does not know.
    let out = ng.told(&with(offer_request("c", &body([4000, 4002], true)), wish()));
    assert_eq!(values(&out, "group"), ["BUNDLE a v"]);
    let back = ng.told(&with(
        answer_request("c", &body([5000, 5000], true)),
        wish(),
    ));
    assert_eq!(values(&back, "group"), ["BUNDLE a v"]);
    let at = sections(&back);
    assert_eq!(at[0], at[1], "{back}");
    {
        let a = Way::new(&lab, 4000, at[0]);
        let b = Way::new(&lab, 5000, sections(&out)[0]);
        for seq in 1..=20 {
            for (media, mid) in ["a", "v"].into_iter().enumerate() {
                let ssrc = 0xa0 + media as u32;
                a.goes(&packet(TYPES[media], ssrc, seq, Some((mid, false))), &b);
                b.goes(&packet(TYPES[media], ssrc + 0x10, seq, None), &a);
            }
        }
        a.goes(&rtcp_packet(0xa0, 1), &b);
    }
    lab.balanced();
    assert_eq!((live(&table).len(), lost(&table)), (2, 0));
    ng.delete("c");

    let out = ng.told(&with(offer_request("c", &body([4000, 4002], true)), wish()));
    assert_eq!(values(&out, "group"), ["BUNDLE a v"]);
    let back = ng.told(&with(
        answer_request("c", &body([5000, 5002], false)),
        wish(),
    ));
    assert_eq!(values(&back, "group"), [""; 0], "{back}");
    let (own, others) = (sections(&back), sections(&out));
    assert_ne!(own[0], own[1], "{back}");
    for (media, port) in [(0, 0), (1, 2)] {
        let a = Way::new(&lab, 4000 + port, own[media]);
        let b = Way::new(&lab, 5000 + port, others[media]);
        for seq in 1..=20 {
            a.goes(&packet(TYPES[media], 0xa0, seq, None), &b);
            b.goes(&packet(TYPES[media], 0xb0, seq, None), &a);
        }
    }
    lab.balanced();
    assert_eq!((live(&table).len(), lost(&table)), (4, 0));
    ng.delete("c");
    assert_eq!(live(&table), []);
}

/// Whichever section the callee refuses, the other one passes; a re-offer brings it back.
#[test]
fn a_section_may_be_refused() {
    let lab = lab!("ng_bundle_refused");
    let _plane = lab.plane();
    let _control = lab.control();
    let (ng, table) = (lab.ng(), lab.table());
    let mut seq = 0;
    for (refused, ports) in [(1, [5000, 0]), (0, [0, 5002])] {
        let told = call(&ng, &body(ports, false));
        let passes = 1 - refused;
        let at = sections(&told[0]);
        assert!(
            at[refused].port() == 0 && at[passes].port() != 0,
            "{}",
            told[0]
        );
        {
            let (a, b) = ways(&lab, &told);
            for _ in 0..10 {
                seq += 1;
                a.goes(&packet(TYPES[passes], 0xa0, seq, None), &b[passes]);
                b[passes].goes(&packet(TYPES[passes], 0xb0, seq, None), &a);
            }
        }
        let told = call(&ng, &body([5000, 5002], false));
        let (a, b) = ways(&lab, &told);
        for (media, other) in (0..).zip(&b) {
            seq += 1;
            a.goes(&packet(TYPES[media], 0xc0 + media as u32, seq, None), other);
            other.goes(&packet(TYPES[media], 0xd0 + media as u32, seq, None), &a);
        }
        lab.balanced();
        assert_eq!(lost(&table), 0);
        ng.delete("c");
    }
    assert_eq!(live(&table), []);
}

/// Who subscribes to the bundle gets its sections one by one, each with its reports.
#[test]
fn its_sections_are_copied_apart() {
    let lab = lab!("ng_bundle_copies");
    let plane = lab.plane();
    let control = lab.control();
    let (ng, table) = (lab.ng(), lab.table());
    let told = call(&ng, &body([5000, 5002], false));
    let (a, b) = ways(&lab, &told);
    let subscribe =
        json!({"command": "subscribe request", "call-id": "c", "from-tag": "a", "to-tag": "s"});
    let offer = ng.told(&subscribe);
    assert_eq!(values(&offer, "rtcp-mux").len(), 2, "{offer}");
    let ports = [(6000, 0), (6002, 1)];
    let copies = ports.map(|(port, media)| Way::new(&lab, port, sections(&offer)[media]));
    let answer = body([6000, 6002], false);
    let answered =
        json!({"command": "subscribe answer", "call-id": "c", "to-tag": "s", "sdp": answer});
    ng.done(&answered);
    let mut seq = 0;
    let mut flows = || {
        for (media, copy) in copies.iter().enumerate() {
            seq += 1;
            let ssrc = 0xa0 + media as u32;
            for packet in [
                packet(TYPES[media], ssrc, seq, None),
                rtcp_packet(ssrc, seq.into()),
            ] {
                a.goes(&packet, &b[media]);
                copy.hears(&packet);
            }
        }
    };
    (0..20).for_each(|_| flows());
    assert_eq!(lab.balanced().copied, 80);
    // Whoever of the two daemons dies, the copies go on.
    control.kill();
    flows();
    let control = lab.control();
    flows();
    plane.kill();
    let _plane = lab.plane();
    flows();
    ng.done(&json!({"command": "unsubscribe", "call-id": "c", "to-tag": "s"}));
    a.goes(&packet(TYPES[0], 0xa0, 100, None), &b[0]);
    assert_eq!((live(&table).len(), lost(&table)), (4, 0));
    drop(control);
}

/// As many sections as a call may have, in one bundle, called a leg that has ports of its own for each of them and its RTCP.
#[test]
fn the_largest_bundle_is_taken_apart() {
    const SECTIONS: u16 = 64;
    let lab = lab!("ng_bundle_most");
    let _plane = lab.plane();
    let _control = lab.control();
    let (ng, table) = (lab.ng(), lab.table());
    let ip = phone_at(0).ip();
    let body = |session: &str, port: fn(u16) -> u16, more: &str| {
        let section = |n| {
            let port = port(n);
            format!(
                "m=audio {port} RTP/AVP 8\r\na=mid:{n}\r\na=extmap:3 urn:ietf:params:rtp-hdrext:sdes:mid\r\n{more}"
            )
        };
        let sections: String = (0..SECTIONS).map(section).collect();
        format!(
            "v=0\r\no=- 1 1 IN IP4 {ip}\r\ns=-\r\nc=IN IP4 {ip}\r\nt=0 0\r\n{session}{sections}"
        )
    };
    let mids: String = (0..SECTIONS).map(|n| format!(" {n}")).collect();
    let group = format!("a=group:BUNDLE{mids}\r\n");
    let accept = json!({"bundle": "accept"});
    let offer = body(&group, |_| 4000, "a=rtcp-mux\r\n");
    let out = ng.told(&with(offer_request("c", &offer), accept.clone()));
    let answer = body("", |n| 5000 + 2 * n, "");
    let back = ng.told(&with(answer_request("c", &answer), accept));
    assert_eq!(values(&back, "group").len(), 1, "{back}");
    assert_eq!(live(&table).len(), usize::from(4 * SECTIONS));
    let (at, own) = (sections(&back), sections(&out));
    let a = Way::new(&lab, 4000, at[0]);
    for n in [0, 1, 8, 16, SECTIONS - 1] {
        let b = Way::new(&lab, 5000 + 2 * n, own[usize::from(n)]);
        let mid = n.to_string();
        let ssrc = 0xa0 + u32::from(n);
        a.goes(&packet(8, ssrc, 1, Some((&mid, false))), &b);
        a.goes(&packet(8, ssrc, 2, None), &b);
        b.goes(&packet(8, ssrc + 0x1000, 1, None), &a);
    }
    lab.balanced();
}
