//! Media and events that are held back on request: of whom, and what still passes.

use penstock_e2e::body::sections;
use penstock_e2e::{
    Lab, Ng, Phone, answer_request, lab, meet, offer_request, phone_at, rtp_packet, sdp, with,
};
use penstock_shm::counters::Drop;
use serde_json::{Value, json};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

const EVENTS: u8 = 101;
/// The callee's phone is another host's.
const OTHER: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 18, 255, 2));

fn body(at: SocketAddr) -> String {
    sdp(at).replace("RTP/AVP 0", "RTP/AVP 0 101") + "a=rtpmap:101 telephone-event/8000\r\n"
}

/// A leg, and how many of its packets and events have come out.
struct Leg {
    phone: Phone,
    side: SocketAddr,
}

/// A call whose legs are asked for one packet and one event each.
struct Call<'a> {
    lab: &'a Lab,
    ng: Ng,
    a: Leg,
    b: Leg,
}

/// What passed of one round: of the caller's packet and event, and of the callee's.
type Passed = [[bool; 2]; 2];
const ALL: [bool; 2] = [true, true];
const NONE: [bool; 2] = [false, false];
const NO_MEDIA: [bool; 2] = [false, true];
const NO_EVENTS: [bool; 2] = [true, false];

impl Call<'_> {
    fn new(lab: &Lab) -> Call<'_> {
        lab.address(OTHER);
        let ng = lab.ng();
        let mut a = Phone::new(lab, phone_at(4000), 0xa);
        let mut b = Phone::new(lab, SocketAddr::new(OTHER, 5000), 0xb);
        let labels = json!({"label": "one", "to-label": "other"});
        let out = ng.told(&with(offer_request("c", &body(a.at())), labels));
        let back = ng.told(&answer_request("c", &body(b.at())));
        let sides = [sections(&back)[0], sections(&out)[0]];
        meet(&mut a, sides[0], &mut b, sides[1]);
        let [a, b] = [(a, sides[0]), (b, sides[1])].map(|(phone, side)| Leg { phone, side });
        Call { lab, ng, a, b }
    }

    /// Each leg sends one packet and one event.
    fn round(&mut self) -> Passed {
        let legs = [&mut self.a, &mut self.b];
        let mut event = rtp_packet(0, 0);
        event[1] = EVENTS;
        event.truncate(16);
        let [a, b] = legs.map(|leg| {
            leg.phone.forget();
            event[8..12].copy_from_slice(&leg.phone.ssrc().to_be_bytes());
            leg.phone.talk(leg.side);
            leg.phone.send(&event, leg.side);
            leg
        });
        self.lab.settle();
        [b, a].map(|leg| {
            let heard = leg.phone.listen();
            [!heard.rtp.is_empty(), heard.changed > 0]
        })
    }

    fn asks(&mut self, command: &str, who: Value) -> Passed {
        let request = json!({"command": command, "call-id": "c"});
        self.ng.done(&with(request, who));
        self.round()
    }

    /// Packets dropped of the streams, as `query` has it.
    fn errors(&self, tag: &str) -> u64 {
        let reply = self.ng.done(&json!({"command": "query", "call-id": "c"}));
        let stream = &reply["tags"][tag]["medias"][0]["streams"][0];
        stream["stats"]["errors"].as_u64().expect("a number")
    }
}

#[test]
fn what_is_held_back_is_and_nothing_else() {
    let lab = lab!("ng_block");
    let _plane = lab.plane();
    let _control = lab.control();
    let mut call = Call::new(&lab);
    assert_eq!(call.round(), [ALL, ALL]);
    let a = || json!({"from-tag": "a"});
    let everybody = || json!({});

    assert_eq!(call.asks("block media", a()), [NO_MEDIA, ALL]);
    assert_eq!((call.errors("a"), call.errors("b")), (1, 0));
    assert_eq!(call.asks("block DTMF", a()), [NONE, ALL]);
    assert_eq!((call.errors("a"), call.errors("b")), (3, 0));
    assert_eq!(call.asks("unblock media", a()), [NO_EVENTS, ALL]);
    assert_eq!(call.asks("block DTMF", everybody()), [NO_EVENTS, NO_EVENTS]);
    assert_eq!(call.asks("unblock DTMF", a()), [ALL, NO_EVENTS]);
    assert_eq!(call.asks("unblock DTMF", everybody()), [ALL, ALL]);
    assert_eq!((call.errors("a"), call.errors("b")), (5, 2));

    // By label and by address, of the one and of the other.
    assert_eq!(
        call.asks("silence media", json!({"label": "one"})),
        [NONE, ALL]
    );
    assert_eq!(
        call.asks("unsilence media", json!({"label": "one"})),
        [ALL, ALL]
    );
    assert_eq!(
        call.asks("block media", json!({"label": "other"})),
        [ALL, NO_MEDIA]
    );
    let other = || json!({"address": OTHER.to_string()});
    assert_eq!(call.asks("unblock media", other()), [ALL, ALL]);
    assert_eq!(call.asks("block media", other()), [ALL, NO_MEDIA]);
    // A tag of the message does not count beside an address.
    let both = with(other(), a());
    assert_eq!(call.asks("unblock media", both), [ALL, ALL]);
    assert_eq!(
        call.asks("block media", json!({"from-tag": "b", "to-tag": "a"})),
        [ALL, NO_MEDIA]
    );
    assert_eq!(
        call.asks("unblock media", json!({"all": "all", "from-tag": "a"})),
        [ALL, ALL]
    );
    for nobody in [
        json!({"from-tag": "x"}),
        json!({"label": "x"}),
        json!({"address": "192.0.2.1"}),
    ] {
        let request = json!({"command": "block media", "call-id": "c"});
        let reply = call.ng.ask(&with(request, nobody));
        assert_eq!(reply["result"], "error", "{reply}");
    }
    assert_eq!(call.round(), [ALL, ALL]);

    let sum = lab.balanced();
    let dropped =
        [Drop::Event, Drop::PayloadType, Drop::GateClosed].map(|reason| sum.dropped(reason));
    let held = call.errors("a") + call.errors("b");
    assert_eq!(dropped.iter().sum::<u64>(), held, "{sum:?}");
    assert_eq!(held, 5 + 2 + 2 + 3);
}
