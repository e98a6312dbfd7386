//! ICE over ng: the credentials that control gives are those that the plane answers checks with, and media passes once a check
//! has (RFC 8445).

use crate::ice::Agent;
use penstock_e2e::body::{credentials, sections, values};
use penstock_e2e::region::{learns, stream, totals};
use penstock_e2e::stun::{Credentials, NOMINATE};
use penstock_e2e::{
    Lab, Ng, answer_request, lab, local, offer_request, phone_at, sdp, wait_for, with,
};
use penstock_shm::TableView;
use penstock_shm::counters::Drop;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(20);
const PLAIN: &str = "RTP/AVP";
const SECURE: &str = "UDP/TLS/RTP/SAVPF";

/// A leg: an agent, and where it is to send.
struct Leg {
    agent: Agent,
    side: SocketAddr,
    told: Option<Credentials>,
}

impl Leg {
    fn new(lab: &Lab, port: u16, ssrc: u32) -> Leg {
        Leg {
            agent: Agent::new(lab, phone_at(port), ssrc),
            side: local(0),
            told: None,
        }
    }

    /// Its SDP, with ICE if it has a user name fragment.
    fn body(&self, proto: &str, ufrag: &str) -> String {
        let at = self.agent.phone.at();
        let ice = format!(
            "a=ice-ufrag:{ufrag}\r\na=ice-pwd:{ufrag}passwordpasswordpass\r\n\
             a=candidate:1 1 UDP 2130706431 {} {} typ host\r\n",
            at.ip(),
            at.port()
        );
        let keys = "a=setup:actpass\r\na=fingerprint:sha-256 0A:0B\r\n";
        [
            sdp(at).replace(PLAIN, proto).as_str(),
            "a=rtcp-mux\r\n",
            if ufrag.is_empty() { "" } else { &ice },
            if proto == SECURE { keys } else { "" },
        ]
        .concat()
    }

    fn is_told(&mut self, sdp: &str) {
        self.side = sections(sdp)[0];
        assert_eq!(self.side.ip(), local(0).ip(), "{sdp}");
        let has_ice = !values(sdp, "ice-ufrag").is_empty();
        assert_eq!(!values(sdp, "candidate").is_empty(), has_ice, "{sdp}");
        self.told = has_ice.then(|| credentials(sdp));
    }

    /// It checks, and nominates.
    fn passes(&mut self) {
        let told = self.told.expect("ICE");
        self.agent.passes(self.side, told, &[NOMINATE]);
    }

    fn send(&self, packet: &[u8]) {
        self.agent.phone.send(packet, self.side);
    }

    /// It sends; the other hears that, unchanged.
    fn reaches(&self, other: &Leg, packet: &[u8]) {
        let mut buf = [0; 2048];
        let mut heard = Vec::new();
        self.send(packet);
        let is_it = || {
            let Ok(n) = other.agent.socket.recv(&mut buf) else {
                return false;
            };
            heard.push(buf[..n].to_vec());
            buf[..n] == *packet
        };
        assert!(wait_for(SOON, is_it), "{packet:x?} of {heard:x?}");
    }
}

/// Whatever passes between two legs, both ways.
fn flows(a: &Leg, b: &Leg, seq: u16) {
    for (from, to) in [(a, b), (b, a)] {
        let ssrc = from.agent.phone.ssrc();
        from.reaches(to, &penstock_e2e::rtp_packet(ssrc, seq));
    }
}

/// Offer and answer of a call, with these keys.
fn call(ng: &Ng, legs: [&mut Leg; 2], bodies: [&str; 2], keys: [Value; 2]) -> [String; 2] {
    let [a, b] = legs;
    let [offered, answered] = keys;
    let mut offer = with(offer_request("c", bodies[0]), offered);
    let mut answer = with(answer_request("c", bodies[1]), answered);
    for request in [&mut offer, &mut answer] {
        if request["ICE"] == "none" {
            request.as_object_mut().expect("keys").remove("ICE");
        }
    }
    let out = ng.told(&offer);
    b.is_told(&out);
    let back = ng.told(&answer);
    a.is_told(&back);
    [out, back]
}

fn none() -> Value {
    json!({"ICE": "none"})
}

/// The plane has taken over whom the leg's last check names.
fn settles(table: &TableView, leg: &Leg) {
    learns(table, leg.side, leg.agent.phone.at());
}

#[test]
fn media_passes_after_checks_alone_and_restarts() {
    let lab = lab!("ng_ice");
    let _plane = lab.plane();
    let _control = lab.control();
    let (ng, table) = (lab.ng(), lab.table());
    let mut a = Leg::new(&lab, 4000, 0xa0);
    let mut b = Leg::new(&lab, 5000, 0xb0);
    let bodies = [a.body(SECURE, "aaaa"), b.body(SECURE, "bbbb")];
    let bodies = [bodies[0].as_str(), &bodies[1]];
    let [out, back] = call(&ng, [&mut a, &mut b], bodies, [none(), none()]);
    for told in [&out, &back] {
        assert!(
            values(told, "ice-lite") == [""] && told.contains(SECURE),
            "{told}"
        );
        assert_eq!(values(told, "fingerprint"), ["sha-256 0A:0B"], "{told}");
    }
    let first = [a.told, b.told].map(|told| told.expect("ICE"));
    assert_ne!(
        (first[0].ufrag, first[0].pwd),
        (first[1].ufrag, first[1].pwd)
    );

    // A candidate that has not checked is nobody.
    for leg in [&a, &b] {
        leg.send(&penstock_e2e::rtp_packet(1, 1));
    }
    assert!(wait_for(SOON, || totals(&table).dropped(Drop::Source) == 2));
    // The other side's credentials are not this one's.
    assert_eq!(a.agent.check(a.side, first[1], &[NOMINATE]).code, 401);
    a.passes();
    settles(&table, &a);
    b.passes();
    settles(&table, &b);
    flows(&a, &b, 1);
    let hello = [&[22, 254, 253, 0, 0][..], &[7; 200]].concat();
    a.reaches(&b, &hello);
    b.reaches(&a, &hello);

    // From elsewhere, once the leg has said so.
    let (side, told) = (a.side, a.told);
    let old = std::mem::replace(&mut a, Leg::new(&lab, 4100, 0xa1));
    (a.side, a.told) = (side, told);
    let bodies = [a.body(SECURE, "cccc"), b.body(SECURE, "bbbb")];
    let bodies = [bodies[0].as_str(), &bodies[1]];
    call(&ng, [&mut a, &mut b], bodies, [none(), none()]);
    let second = [a.told, b.told].map(|told| told.expect("ICE"));
    assert_ne!(
        (second[0].ufrag, second[0].pwd),
        (first[0].ufrag, first[0].pwd)
    );
    assert_eq!(
        (second[1].ufrag, second[1].pwd),
        (first[1].ufrag, first[1].pwd)
    );
    assert_eq!(a.side, side);
    // Until then media goes on as it was.
    flows(&old, &b, 2);
    assert_eq!(a.agent.check(a.side, first[0], &[NOMINATE]).code, 401);
    a.passes();
    settles(&table, &a);
    flows(&a, &b, 3);
    b.passes();

    let lost = |reason| totals(&table).dropped(reason);
    lab.balanced();
    assert_eq!((lost(Drop::Source), lost(Drop::StunCheck)), (2, 2));
    assert_eq!(lost(Drop::NoRoute), 0);
}

/// As a browser says it before it has candidates.
fn trickled(body: &str) -> String {
    let lines = body.lines().filter_map(|line| match line.split_once(' ') {
        _ if line.starts_with("a=candidate") => None,
        Some(("c=IN", _)) => Some("c=IN IP4 0.0.0.0\r\n".to_owned()),
        Some(("m=audio", rest)) => {
            let (_, rest) = rest.split_once(' ').expect("a port");
            Some(format!("m=audio 9 {rest}\r\n"))
        }
        _ => Some(format!("{line}\r\n")),
    });
    lines
        .chain(["a=ice-options:trickle\r\n".to_owned()])
        .collect()
}

/// One leg alone speaks ICE: it is taken out towards the other, or asked for there.
#[test]
fn one_leg_has_ice_and_the_other_has_not() {
    let lab = lab!("ng_ice_one");
    let _plane = lab.plane();
    let _control = lab.control();
    let (ng, table) = (lab.ng(), lab.table());
    let key = |wish: &str| json!({ "ICE": wish });
    // The offer's wish, the answer's, and which leg has ICE.
    for (n, (offer, answer, has)) in [("remove", "force", 0), ("force", "remove", 1)]
        .into_iter()
        .enumerate()
    {
        let mut legs = [4000, 5000].map(|port| Leg::new(&lab, port + n as u16 * 10, port.into()));
        let ufrags = if has == 0 { ["aaaa", ""] } else { ["", "bbbb"] };
        let [a, b] = &mut legs;
        let mut bodies = [a.body(PLAIN, ufrags[0]), b.body(PLAIN, ufrags[1])];
        bodies[has] = trickled(&bodies[has]);
        let bodies = [bodies[0].as_str(), &bodies[1]];
        call(&ng, [a, b], bodies, [key(offer), key(answer)]);
        assert_eq!(
            [a.told.is_some(), b.told.is_some()],
            [has == 0, has == 1],
            "{offer}"
        );
        let before = totals(&table).dropped(Drop::Source);
        legs[has].send(&penstock_e2e::rtp_packet(1, 1));
        assert!(wait_for(SOON, || totals(&table).dropped(Drop::Source) == before + 1));
        legs[has].passes();
        settles(&table, &legs[has]);
        let [a, b] = &legs;
        flows(a, b, 1);
        // ICE for nobody: the leg without it stays as it is.
        let hold = [a, b].map(|leg| stream(&table, leg.side));
        let has_ice = hold.map(|stat| stat.expect("the stream").policy.ice.is_some());
        assert_eq!(has_ice, [has == 0, has == 1]);
        ng.delete("c");
    }
}
