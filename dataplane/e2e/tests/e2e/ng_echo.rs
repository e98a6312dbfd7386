//! Media that goes back to its sender, or nowhere, and what is not sent before its receiver has sent.

use penstock_e2e::body::sections;
use penstock_e2e::region::{learns, remote};
use penstock_e2e::{
    Lab, Ng, Phone, answer_request, converse, lab, meet, offer_request, phone_at, reach, sdp, with,
};
use penstock_shm::counters::Drop;
use serde_json::{Value, json};
use std::net::SocketAddr;

/// Offer and answer with these keys in the one and the other: where each leg is to send.
fn call(ng: &Ng, legs: &[Phone; 2], offer: Value, answer: Value) -> [SocketAddr; 2] {
    let [a, b] = legs.each_ref().map(|leg| sdp(leg.at()));
    let out = ng.told(&with(offer_request("c", &a), offer));
    let back = ng.told(&with(answer_request("c", &b), answer));
    [sections(&back)[0], sections(&out)[0]]
}

fn phones(lab: &Lab) -> [Phone; 2] {
    [(4000, 0xa), (5000, 0xb)].map(|(port, ssrc)| Phone::new(lab, phone_at(port), ssrc))
}

#[test]
fn media_goes_back_to_its_sender_or_nowhere() {
    let lab = lab!("ng_echo");
    let _plane = lab.plane();
    let _control = lab.control();
    let ng = lab.ng();
    let mut legs = phones(&lab);
    let none = || json!({});
    let sides = call(&ng, &legs, none(), none());
    let [a, b] = &mut legs;
    meet(a, sides[0], b, sides[1]);
    // What the offer says, and whose packets each leg hears then: nobody's but its own.
    for (key, value, hears) in [
        ("media-echo", "backwards", [Some(0xa), None]),
        ("media-echo", "both", [Some(0xa), Some(0xb)]),
        ("media-echo", "forward", [None, Some(0xb)]),
    ] {
        assert_eq!(call(&ng, &legs, json!({ key: value }), none()), sides);
        let [a, b] = &mut legs;
        for leg in [&mut *a, &mut *b] {
            leg.forget();
        }
        converse(a, sides[0], b, sides[1], 50);
        lab.settle();
        for (leg, ssrc) in legs.iter_mut().zip(hears) {
            let Some(ssrc) = ssrc else {
                assert_eq!(leg.listen().rtp.len(), 0, "{value}");
                continue;
            };
            let last = leg.sent();
            let heard = leg.listen_for(|heard| heard.rtp.get(&ssrc).map_or(0, Vec::len) >= 50);
            assert_eq!(
                heard.rtp.get(&ssrc),
                Some(&(last - 49..=last).collect()),
                "{value}"
            );
        }
    }
    lab.balanced();
}

/// Dropped while so told, and counted; then as before.
#[test]
fn traffic_is_dropped_for_as_long_as_told() {
    let lab = lab!("ng_drop_traffic");
    let _plane = lab.plane();
    let _control = lab.control();
    let ng = lab.ng();
    let mut legs = phones(&lab);
    let none = || json!({});
    let sides = call(&ng, &legs, json!({"drop-traffic": "start"}), none());
    let [a, b] = &mut legs;
    converse(a, sides[0], b, sides[1], 50);
    let sum = lab.balanced();
    assert_eq!([a.listen().rtp.len(), b.listen().rtp.len()], [0, 0]);
    assert_eq!((sum.forwarded, sum.dropped(Drop::GateClosed)), (0, 100));
    // It stays so until it is told to stop.
    assert_eq!(call(&ng, &legs, none(), none()), sides);
    let [a, b] = &mut legs;
    converse(a, sides[0], b, sides[1], 10);
    assert_eq!(lab.balanced().dropped(Drop::GateClosed), 120);
    assert_eq!(
        call(&ng, &legs, json!({"drop-traffic": "stop"}), none()),
        sides
    );
    let [a, b] = &mut legs;
    meet(a, sides[0], b, sides[1]);
    converse(a, sides[0], b, sides[1], 50);
    a.heard_all(0xb, 61, 111);
    b.heard_all(0xa, 61, 111);
}

/// Nothing is sent to the address in the SDP before that has sent.
#[test]
fn a_leg_is_waited_for() {
    let lab = lab!("ng_wait");
    let _plane = lab.plane();
    let _control = lab.control();
    let (ng, table) = (lab.ng(), lab.table());
    let mut legs = phones(&lab);
    // Behind its NAT the caller sends from another port than it names.
    let mut nat = Phone::new(&lab, phone_at(4444), 0xa);
    let sides = call(&ng, &legs, json!({"flags": ["NAT-wait"]}), json!({}));
    let [a, b] = &mut legs;
    for _ in 0..10 {
        b.talk(sides[1]);
    }
    let sum = lab.balanced();
    assert_eq!((sum.dropped(Drop::NoRoute), sum.forwarded), (10, 0));
    reach(&mut nat, sides[0], b);
    learns(&table, sides[0], nat.at());
    reach(b, sides[1], &mut nat);
    converse(&mut nat, sides[0], b, sides[1], 50);
    nat.heard_all(0xb, 11, 61);
    b.heard_all(0xa, 1, 51);
    lab.settle();
    assert_eq!(a.listen().rtp.len(), 0);
    assert_eq!(remote(&table, sides[0]), Some(nat.at()));
}
