//! A phone whose media a NAT on the way lets in only once something has gone out to it (`pierce-NAT`).

use penstock_e2e::body::sections;
use penstock_e2e::region::balanced;
use penstock_e2e::{
    Lab, Phone, answer_request, lab, local, offer_request, phone_at, sdp, wait_for, with,
};
use serde_json::json;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

const SOON: Duration = Duration::from_secs(20);
/// Longer than from one datagram to the next.
const LONG: Duration = Duration::from_millis(1500);

/// A socket at the phones, for what is empty.
fn hears(lab: &Lab, port: u16) -> UdpSocket {
    let socket = lab.socket(phone_at(port));
    socket.set_nonblocking(true).expect("a socket");
    socket
}

/// The senders of the empty datagrams that come within a time. Others are lost.
fn empties(socket: &UdpSocket, time: Duration) -> Vec<SocketAddr> {
    let (end, mut found) = (Instant::now() + time, Vec::new());
    while Instant::now() < end {
        match socket.recv_from(&mut [0; 2048]) {
            Ok((0, from)) => found.push(from),
            Ok(_) => {}
            Err(_) => std::thread::sleep(Duration::from_millis(1)),
        }
    }
    found
}

fn first(socket: &UdpSocket) -> SocketAddr {
    let mut from = None;
    assert!(wait_for(SOON, || {
        from = empties(socket, Duration::from_millis(10)).pop();
        from.is_some()
    }));
    from.expect("a datagram")
}

#[test]
fn a_nat_is_opened_and_media_flows() {
    let lab = lab!("ng_pierce");
    let _plane = lab.plane();
    let _control = lab.control();
    let (ng, table) = (lab.ng(), lab.table());
    let [rtp, rtcp] = [4000, 4001].map(|port| hears(&lab, port));
    let mut caller = Phone::with(rtp.try_clone().expect("a clone"), 0xa);
    let mut callee = Phone::new(&lab, phone_at(5000), 0xb);
    let pierce = json!({"flags": ["pierce-NAT"]});
    let request = with(offer_request("c", &sdp(caller.at())), pierce);
    let out = ng.told(&request);
    // At once, from where its media is to go, and again while it is not heard.
    let (from, reports) = (first(&rtp), first(&rtcp));
    let more = empties(&rtp, LONG);
    assert!(
        !more.is_empty() && more.iter().all(|other| *other == from),
        "{more:?}"
    );
    let back = ng.told(&answer_request("c", &sdp(callee.at())));
    let [to_caller, to_callee] = [sections(&back)[0], sections(&out)[0]];
    assert_eq!(from, to_caller);
    assert_eq!(reports, local(to_caller.port() + 1));
    // The NAT is open: what the phone says comes in.
    caller.talk(to_caller);
    callee.heard_all(0xa, 1, 1);
    // It is heard, and left alone from then on; its RTCP is not.
    callee.talk(to_callee);
    let heard = caller.listen_for(|heard| heard.rtp.contains_key(&0xb));
    assert!(heard.rtp.contains_key(&0xb), "{heard:?}");
    ng.told(&request);
    assert_eq!(empties(&rtp, LONG), []);
    assert!(!empties(&rtcp, LONG).is_empty());
    // What the plane sends by itself is nobody's packet.
    balanced(&table);
    ng.delete("c");
    empties(&rtcp, Duration::from_millis(100));
    assert_eq!(empties(&rtcp, LONG), [], "the call has ended");

    // Nobody asked.
    let [rtp, _rtcp] = [6000, 6001].map(|port| hears(&lab, port));
    ng.told(&offer_request("plain", &sdp(phone_at(6000))));
    assert_eq!(empties(&rtp, LONG), []);
}
