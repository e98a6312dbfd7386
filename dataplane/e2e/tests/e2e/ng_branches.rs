//! One INVITE that forks, told apart by the Via branch: each branch has ports of its own, and the one that is given up takes
//! nothing from the other.

use penstock_e2e::body::sections;
use penstock_e2e::region::{self, live};
use penstock_e2e::{
    Lab, Ng, Phone, answer_request, exchange, lab, meanwhile, offer_request, phone_at, sdp,
    wait_for, with,
};
use serde_json::{Value, json};
use std::net::SocketAddr;

/// Somebody who is called by a branch.
struct Branch {
    via: &'static str,
    tag: &'static str,
    phone: Phone,
    /// Where it sends.
    side: SocketAddr,
}

impl Branch {
    fn offer(&self, caller: &Phone) -> Value {
        let keys = json!({"via-branch": self.via, "label": "caller", "to-label": self.via});
        with(offer_request("c", &sdp(caller.at())), keys)
    }

    /// It is called; its own early media goes to the caller at once.
    fn called(lab: &Lab, ng: &Ng, via: &'static str, port: u16, caller: &Phone) -> Branch {
        let mut branch = Branch {
            via,
            tag: via,
            phone: Phone::new(lab, phone_at(port), port.into()),
            side: caller.at(),
        };
        let request = branch.offer(caller);
        let out = ng.told(&request);
        assert_eq!(ng.told(&request), out, "a retransmission");
        branch.side = sections(&out)[0];
        branch
    }

    /// It answers; where the caller is to send.
    fn answers(&self, ng: &Ng) -> SocketAddr {
        let keys = json!({"via-branch": self.via, "to-tag": self.tag});
        let back = ng.told(&with(answer_request("c", &sdp(self.phone.at())), keys));
        sections(&back)[0]
    }
}

/// The caller hears all that a phone has sent, from this number on.
fn hears(caller: &mut Phone, of: &Phone, first: u16) {
    let (ssrc, expected): (_, Vec<u16>) = (of.ssrc(), (first..=of.sent()).collect());
    let heard = caller.listen_for(|heard| heard.rtp.get(&ssrc) == Some(&expected));
    assert_eq!(heard.rtp.get(&ssrc), Some(&expected));
}

fn pair(lab: &Lab, ng: &Ng, caller: &Phone) -> [Branch; 2] {
    [("z9hG4bK1", 5000), ("z9hG4bK2", 6000)]
        .map(|(via, port)| Branch::called(lab, ng, via, port, caller))
}

#[test]
fn the_branch_that_lost_takes_nothing_along() {
    let lab = lab!("ng_branches");
    let _plane = lab.plane();
    let _control = lab.control();
    let (ng, table) = (lab.ng(), lab.table());
    let mut caller = Phone::new(&lab, phone_at(4000), 0xa);
    let [mut lost, mut won] = pair(&lab, &ng, &caller);
    assert_ne!(lost.side, won.side);
    assert_eq!(live(&table).len(), 8);

    // Early media of both, before an answer and after a provisional one.
    for branch in [&mut lost, &mut won] {
        for _ in 0..20 {
            branch.phone.talk(branch.side);
        }
        hears(&mut caller, &branch.phone, 1);
    }
    let sides = [&lost, &won].map(|branch| branch.answers(&ng));
    assert_ne!(sides[0], sides[1]);

    let reply = ng.done(&json!({"command": "query", "call-id": "c"}));
    for (tag, label) in [("a", "caller"), (lost.tag, lost.via), (won.tag, won.via)] {
        assert_eq!(reply["tags"][tag]["label"], label, "{reply}");
    }

    // One is given up in the middle of the other's talk.
    let media = || exchange(&mut caller, sides[1], &mut won.phone, won.side);
    meanwhile(media, || {
        std::thread::sleep(std::time::Duration::from_millis(50));
        ng.done(
            &json!({"command": "delete", "call-id": "c", "from-tag": "a", "via-branch": lost.via}),
        );
        std::thread::sleep(std::time::Duration::from_millis(50));
    });
    hears(&mut caller, &won.phone, 1);
    won.phone.heard_all(0xa, 1, caller.sent());
    assert_eq!(live(&table).len(), 4);
    lost.phone.talk(lost.side);
    lab.balanced();
    assert_eq!(region::lost(&table), 0);

    // In the dialog the tags count.
    let again = with(
        won.offer(&caller),
        json!({"to-tag": won.tag, "via-branch": "z9hG4bK7"}),
    );
    assert_eq!(sections(&ng.told(&again))[0], won.side);
    assert_eq!(live(&table).len(), 4);
    ng.delete("c");
    assert_eq!(live(&table), []);
    let status = lab.penstock_json("status");
    assert_eq!(status["control"]["ports"]["default"]["used"], 0, "{status}");
}

/// Both of the called are connected: they hear each other, and the caller nobody.
#[test]
fn two_legs_of_a_call_are_connected() {
    let lab = lab!("ng_connect");
    let _plane = lab.plane();
    let _control = lab.control();
    let (ng, table) = (lab.ng(), lab.table());
    let mut caller = Phone::new(&lab, phone_at(4000), 0xa);
    let [mut one, mut other] = pair(&lab, &ng, &caller);
    let sides = [&one, &other].map(|branch| branch.answers(&ng));
    for (branch, side) in [&mut one, &mut other].into_iter().zip(sides) {
        exchange(&mut caller, side, &mut branch.phone, branch.side);
        hears(&mut caller, &branch.phone, 1);
        branch
            .phone
            .listen_for(|heard| heard.rtp.contains_key(&0xa));
        branch.phone.forget();
    }
    ng.done(
        &json!({"command": "connect", "call-id": "c", "from-tag": one.tag, "to-tag": other.tag}),
    );
    assert_eq!(live(&table).len(), 8);
    for _ in 0..50 {
        exchange(&mut one.phone, one.side, &mut other.phone, other.side);
    }
    one.phone.heard_all(other.phone.ssrc(), 2, 51);
    other.phone.heard_all(one.phone.ssrc(), 2, 51);
    assert_eq!(caller.listen().rtp.values().map(Vec::len).sum::<usize>(), 2);
    lab.balanced();
    let dropped = |count: u32| {
        let all = || live(&table).iter().map(|s| s.meter.dropped).sum::<u32>();
        let patience = std::time::Duration::from_secs(10);
        assert!(wait_for(patience, || all() >= count));
        assert_eq!(all(), count);
    };
    dropped(0);
    for side in sides {
        caller.talk(side);
    }
    dropped(2);
    // One leaves with what was between him and the caller; the other is alone then.
    ng.done(&json!({"command": "delete", "call-id": "c", "from-tag": one.tag}));
    assert_eq!(live(&table).len(), 4);
    other.phone.talk(other.side);
    dropped(2);
    ng.done(&json!({"command": "delete", "call-id": "c", "from-tag": other.tag}));
    assert_eq!(live(&table), []);
}
