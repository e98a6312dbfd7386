//! RTCP of two legs of which one multiplexes: each hears reports where it wants them (RFC 5761), and from where it sends
//! its own. A re-offer may change that while both talk.

use penstock_e2e::body::{sections, values};
use penstock_e2e::region::live;
use penstock_e2e::{
    Lab, Ng, Phone, answer_request, exchange, lab, meanwhile, meet, offer_request, phone_at, rtcp,
    rtcp_packet, sdp, with,
};
use serde_json::json;
use std::net::{SocketAddr, UdpSocket};

/// One leg: its two sockets hear only what comes from where they send to.
struct Leg {
    rtp: Phone,
    rtcp: Phone,
    sockets: [UdpSocket; 2],
    /// Where it sends its RTP.
    side: SocketAddr,
    muxes: bool,
    reports: u32,
}

impl Leg {
    fn new(lab: &Lab, port: u16, ssrc: u32) -> Leg {
        let sockets = [port, port + 1].map(|port| lab.socket(phone_at(port)));
        let phone = |at: usize| Phone::with(sockets[at].try_clone().expect("a clone"), ssrc);
        Leg {
            rtp: phone(0),
            rtcp: phone(1),
            side: phone_at(port),
            sockets,
            muxes: false,
            reports: 0,
        }
    }

    /// Its agreement is that it multiplexes, or not, and sends to there.
    fn agrees(&mut self, muxes: bool, side: SocketAddr) {
        (self.muxes, self.side) = (muxes, side);
        for (socket, to) in self.sockets.iter().zip([side, rtcp(side)]) {
            socket.connect(to).expect("connected");
        }
    }

    fn report(&mut self) {
        self.reports += 1;
        let report = rtcp_packet(self.rtp.ssrc(), self.reports);
        match self.muxes {
            true => self.rtp.send(&report, self.side),
            false => self.rtcp.send(&report, rtcp(self.side)),
        }
    }

    /// It hears the other's packets from `first` on, and the reports after number `known`.
    fn hears(&mut self, other: &Leg, first: u16, known: u32) {
        let ssrc = other.rtp.ssrc();
        let expected: Vec<u32> = (known + 1..=other.reports).collect();
        let (at, not) = match self.muxes {
            true => (&mut self.rtp, &mut self.rtcp),
            false => (&mut self.rtcp, &mut self.rtp),
        };
        let heard = at.listen_for(|heard| heard.rtcp.get(&ssrc) == Some(&expected));
        assert_eq!(heard.rtcp.get(&ssrc), Some(&expected), "of {ssrc:x}");
        assert_eq!(not.listen().rtcp.len(), 0, "of {ssrc:x}, elsewhere");
        self.rtp.heard_all(ssrc, first, other.rtp.sent());
        for phone in [&mut self.rtp, &mut self.rtcp] {
            phone.forget();
        }
    }
}

/// Who offers or answers: tag, address, whether it multiplexes.
type Said = (&'static str, SocketAddr, bool);

/// An offer of the one and the other's answer, with this for `rtcp-mux`. Returns whether the other was offered to
/// multiplex, and where both are to send.
fn agree(ng: &Ng, call: &str, [one, other]: [Said; 2], wish: &str) -> (bool, [SocketAddr; 2]) {
    let tags = json!({"from-tag": one.0, "to-tag": other.0, "rtcp-mux": [wish]});
    let body = |(_, at, muxes)| sdp(at) + if muxes { "a=rtcp-mux\r\n" } else { "" };
    let out = ng.told(&with(offer_request(call, &body(one)), tags.clone()));
    let back = ng.told(&with(answer_request(call, &body(other)), tags));
    assert_eq!(
        !values(&back, "rtcp-mux").is_empty(),
        one.2,
        "{wish}: {back}"
    );
    let is_offered = !values(&out, "rtcp-mux").is_empty();
    (is_offered, [sections(&back)[0], sections(&out)[0]])
}

/// Both talk and report, and lose nothing.
fn talk(a: &mut Leg, b: &mut Leg, first: [u16; 2]) {
    let known = [a.reports, b.reports];
    for n in 0..60 {
        exchange(&mut a.rtp, a.side, &mut b.rtp, b.side);
        if n % 10 == 0 {
            a.report();
            b.report();
        }
    }
    a.hears(b, first[1], known[1]);
    b.hears(a, first[0], known[0]);
}

#[test]
fn reports_cross_to_where_each_leg_wants_them() {
    let lab = lab!("ng_mux");
    let _plane = lab.plane();
    let _control = lab.control();
    let (ng, table) = (lab.ng(), lab.table());
    // The offer's wish, what the caller and the callee say, whether the callee is offered; then the same of a re-offer, by
    // the caller or by the callee.
    let cases = [
        (
            "demux",
            [true, false],
            false,
            ("", [false, false], false),
            true,
        ),
        (
            "accept",
            [true, false],
            true,
            ("demux", [false, true], false),
            false,
        ),
        ("offer", [false, true], true, ("", [true, true], true), true),
        (
            "require",
            [false, true],
            true,
            ("demux", [true, false], false),
            true,
        ),
        (
            "reject",
            [false, false],
            false,
            ("offer", [false, true], true),
            true,
        ),
    ];
    for (n, (wish, said, offered, (then, says, offers), is_callers)) in (0..).zip(cases) {
        let mut a = Leg::new(&lab, 4000 + n * 10, 0xa0);
        let mut b = Leg::new(&lab, 5000 + n * 10, 0xb0);
        let [at_a, at_b] = [a.rtp.at(), b.rtp.at()];
        let legs = |[a, b]: [bool; 2]| [("a", at_a, a), ("b", at_b, b)];
        let (is_offered, sides) = agree(&ng, wish, legs(said), wish);
        assert_eq!(is_offered, offered, "{wish}");
        a.agrees(said[0], sides[0]);
        b.agrees(said[1], sides[1]);
        meet(&mut a.rtp, a.side, &mut b.rtp, b.side);
        talk(&mut a, &mut b, [1, 1]);

        let first = [a.rtp.sent() + 1, b.rtp.sent() + 1];
        let media = || exchange(&mut a.rtp, sides[0], &mut b.rtp, sides[1]);
        let (is_offered, again) = meanwhile(media, || match (is_callers, legs(says)) {
            (true, legs) => agree(&ng, wish, legs, then),
            (false, [a, b]) => {
                let (is_offered, [of_b, of_a]) = agree(&ng, wish, [b, a], then);
                (is_offered, [of_a, of_b])
            }
        });
        assert_eq!((is_offered, again), (offers, sides), "{wish}, then {then}");
        a.agrees(says[0], sides[0]);
        b.agrees(says[1], sides[1]);
        talk(&mut a, &mut b, first);
        ng.delete(wish);
    }
    lab.balanced();
    assert_eq!(live(&table), []);
}
