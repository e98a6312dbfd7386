//! Copies of a call's legs for those who subscribe to it, over ng.

use penstock_e2e::body::{sections, values};
use penstock_e2e::region::{live, lost, totals};
use penstock_e2e::{
    Lab, Ng, PHONES, Phone, answer_request, exchange, lab, local, meanwhile, meet, offer_request,
    phone_at, rtcp, sdp, with,
};
use penstock_shm::counters::Drop;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::time::Duration;

/// Who subscribes: a phone for each section, which its answer names.
struct Subscriber {
    tag: &'static str,
    phones: Vec<Phone>,
}

impl Subscriber {
    /// Subscribes; the phones' ports start with this one. Returns what the request brought.
    fn begins(
        lab: &Lab,
        ng: &Ng,
        who: Value,
        tag: &'static str,
        first: u16,
    ) -> (Subscriber, Value) {
        let request = json!({"command": "subscribe request", "call-id": "c", "to-tag": tag});
        let reply = ng.done(&with(request, who));
        let offered = sections(reply["sdp"].as_str().expect("an offer"));
        let ports = (first..).step_by(2).take(offered.len());
        let phones: Vec<Phone> = ports
            .map(|port| Phone::new(lab, phone_at(port), 0))
            .collect();
        let mut answer =
            format!("v=0\r\no=- 1 1 IN IP4 {PHONES}\r\ns=-\r\nc=IN IP4 {PHONES}\r\nt=0 0\r\n");
        for phone in &phones {
            answer += &format!("m=audio {} RTP/AVP 0\r\na=recvonly\r\n", phone.at().port());
        }
        ng.done(
            &json!({"command": "subscribe answer", "call-id": "c", "to-tag": tag, "sdp": answer}),
        );
        (Subscriber { tag, phones }, reply)
    }

    fn ends(&self, ng: &Ng) {
        ng.done(&json!({"command": "unsubscribe", "call-id": "c", "to-tag": self.tag}));
    }

    /// Its sections hear these SSRCs, from the numbers on to the numbers.
    fn heard(&mut self, all: &[(u32, u16, u16)]) {
        assert_eq!(self.phones.len(), all.len());
        for (phone, &(ssrc, first, last)) in self.phones.iter_mut().zip(all) {
            phone.heard_all(ssrc, first, last);
        }
    }
}

/// Two phones and where they send.
struct Call {
    a: Phone,
    b: Phone,
    sides: [SocketAddr; 2],
}

impl Call {
    fn new(lab: &Lab, ng: &Ng) -> Call {
        let (a, b) = (
            Phone::new(lab, phone_at(4000), 0xa),
            Phone::new(lab, phone_at(5000), 0xb),
        );
        let sides = ng.call("c", a.at(), b.at());
        let sides = [sides.caller, sides.callee];
        let mut call = Call { a, b, sides };
        meet(&mut call.a, sides[0], &mut call.b, sides[1]);
        call
    }

    fn exchange(&mut self) {
        let [to_a, to_b] = self.sides;
        exchange(&mut self.a, to_a, &mut self.b, to_b);
    }

    fn talk(&mut self, packets: usize) {
        (0..packets).for_each(|_| self.exchange());
    }

    fn sent(&self) -> u16 {
        assert_eq!(self.a.sent(), self.b.sent());
        self.a.sent()
    }

    fn heard_all(&mut self) {
        let sent = self.sent();
        self.a.heard_all(0xb, 1, sent);
        self.b.heard_all(0xa, 1, sent);
    }
}

fn all() -> Value {
    json!({"all": "all"})
}

#[test]
fn subscribers_hear_both_legs_and_leave_without_harm() {
    let lab = lab!("ng_subscribe");
    let _plane = lab.plane();
    let _control = lab.control();
    let (ng, table) = (lab.ng(), lab.table());
    let mut call = Call::new(&lab, &ng);
    call.talk(20);

    let (mut first, reply) = Subscriber::begins(&lab, &ng, all(), "s1", 6000);
    assert_eq!(reply["from-tags"], json!(["a", "b"]), "{reply}");
    assert_eq!(reply["to-tag"], "s1");
    let offer = reply["sdp"].as_str().expect("an offer");
    assert_eq!(values(offer, "sendonly").len(), 2, "{offer}");
    let from = call.sent() + 1;
    call.talk(100);
    first.heard(&[(0xa, from, call.sent()), (0xb, from, call.sent())]);

    // A second one, to one leg; then the first leaves, while both talk.
    let (mut second, reply) = Subscriber::begins(&lab, &ng, json!({"from-tag": "b"}), "s2", 6100);
    assert_eq!(reply["from-tags"], json!(["b"]), "{reply}");
    let since = call.sent() + 1;
    call.talk(20);
    meanwhile(
        || call.exchange(),
        || {
            std::thread::sleep(Duration::from_millis(50));
            first.ends(&ng);
            std::thread::sleep(Duration::from_millis(50));
        },
    );
    call.talk(20);
    call.heard_all();
    second.heard(&[(0xb, since, call.sent())]);
    let copies = first.phones[0].listen().rtp[&0xa].clone();
    let last = from + copies.len() as u16 - 1;
    assert_eq!(copies, (from..=last).collect::<Vec<_>>());
    assert!(
        (since + 20..call.sent() - 20).contains(&last),
        "{last} of {since} to {}",
        call.sent()
    );
    let again = ng.ask(&json!({"command": "unsubscribe", "call-id": "c", "to-tag": "s1"}));
    assert_eq!(again["result"], "error", "{again}");

    // Copies end with the call, and no port stays taken.
    lab.balanced();
    assert_eq!(lost(&table), 0);
    ng.delete("c");
    assert_eq!(live(&table), []);
    let status = lab.penstock_json("status");
    assert_eq!(status["control"]["ports"]["default"]["used"], 0, "{status}");
    call.a.talk_anyway(call.sides[0]);
    lab.settle();
    assert_eq!(
        second.phones[0].listen().rtp[&0xb].len(),
        usize::from(call.b.sent() - since + 1)
    );
}

/// What is published goes to who subscribes, and nowhere else.
#[test]
fn a_leg_publishes() {
    let lab = lab!("ng_publish");
    let _plane = lab.plane();
    let _control = lab.control();
    let (ng, table) = (lab.ng(), lab.table());
    let mut phone = Phone::new(&lab, phone_at(4000), 0xa);
    let body = sdp(phone.at()) + "a=sendonly\r\n";
    let publish = json!({"command": "publish", "call-id": "c", "from-tag": "p", "sdp": body});
    let answer = ng.told(&publish);
    assert_eq!(values(&answer, "recvonly").len(), 1, "{answer}");
    let side = sections(&answer)[0];
    assert_eq!(side.ip(), local(0).ip());
    let (mut one, _) = Subscriber::begins(&lab, &ng, json!({"from-tag": "p"}), "s1", 6000);
    let (mut two, _) = Subscriber::begins(&lab, &ng, all(), "s2", 6100);
    for _ in 0..100 {
        phone.talk(side);
        std::thread::sleep(Duration::from_millis(2));
    }
    for subscriber in [&mut one, &mut two] {
        subscriber.heard(&[(0xa, 1, 100)]);
    }
    let sum = lab.balanced();
    assert_eq!((sum.copied, lost(&table)), (200, 0), "{sum:?}");

    // Nobody listens any more.
    one.ends(&ng);
    two.ends(&ng);
    phone.talk(side);
    lab.balanced();
    assert_eq!(totals(&table).dropped(Drop::NoRoute), 1);
    ng.done(&json!({"command": "delete", "call-id": "c", "from-tag": "p"}));
    assert_eq!(live(&table), []);
}

/// Reports that come with the media of a leg, as the other has none of that, are copied to where reports go.
#[test]
fn reports_are_copied_to_the_port_above() {
    let lab = lab!("ng_subscribe_rtcp");
    let _plane = lab.plane();
    let _control = lab.control();
    let (ng, table) = (lab.ng(), lab.table());
    let (mut a, mut b) = (
        Phone::new(&lab, phone_at(4000), 0xa),
        Phone::new(&lab, phone_at(5000), 0xb),
    );
    let mut reports = [5001, 6001, 6003].map(|port| Phone::new(&lab, phone_at(port), 0xb));
    let muxes = sdp(a.at()) + "a=rtcp-mux\r\n";
    let demux = json!({"rtcp-mux": ["demux"]});
    let out = ng.told(&with(offer_request("c", &muxes), demux));
    let back = ng.told(&answer_request("c", &sdp(b.at())));
    let sides = [sections(&back)[0], sections(&out)[0]];
    meet(&mut a, sides[0], &mut b, sides[1]);
    let (mut subscriber, _) = Subscriber::begins(&lab, &ng, all(), "s", 6000);
    for _ in 0..10 {
        a.report(sides[0]);
        reports[0].report(rtcp(sides[1]));
    }
    let numbers = |first: u32| (first..first + 10).collect::<Vec<_>>();
    let [of_b, of_first, of_second] = &mut reports;
    for (phone, ssrc, first) in [
        (of_b, 0xa, 2),
        (of_first, 0xa, 2),
        (of_second, 0xb, 1),
        (&mut a, 0xb, 1),
    ] {
        let expected = numbers(first);
        let heard = phone.listen_for(|heard| heard.rtcp.get(&ssrc) == Some(&expected));
        assert_eq!(heard.rtcp.get(&ssrc), Some(&expected), "{heard:?}");
    }
    assert_eq!((lab.balanced().copied, lost(&table)), (20, 0));
    for phone in &mut subscriber.phones {
        assert_eq!(phone.listen().rtcp.len(), 0);
    }
}

/// Copies are held back by themselves: the legs hear each other, and who subscribed hears the other leg.
#[test]
fn copies_of_one_leg_are_held_back() {
    let lab = lab!("ng_subscribe_block");
    let _plane = lab.plane();
    let _control = lab.control();
    let ng = lab.ng();
    let mut call = Call::new(&lab, &ng);
    let (mut all, _) = Subscriber::begins(&lab, &ng, all(), "s", 6000);
    let first = call.sent() + 1;
    let asks = |command: &str, way: Value| {
        let who = json!({"command": command, "call-id": "c", "from-tag": "a"});
        ng.done(&with(who, way));
    };
    call.talk(5);
    let before = call.sent();
    all.heard(&[(0xa, first, before), (0xb, first, before)]);
    asks("block media", json!({"all": "except-offer-answer"}));
    call.talk(5);
    let held = call.sent();
    all.phones.iter_mut().for_each(Phone::forget);
    asks("unblock media", json!({"to-tag": "s"}));
    call.talk(5);
    let after = call.sent();
    all.phones[0].heard_all(0xa, held + 1, after);
    let has_last = |heard: &penstock_e2e::Received| {
        heard.rtp.get(&0xb).is_some_and(|all| all.contains(&after))
    };
    assert!(has_last(all.phones[1].listen_for(has_last)));
    call.heard_all();
}
