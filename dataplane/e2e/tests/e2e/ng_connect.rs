//! Legs of two calls are connected while all four talk.

use penstock_e2e::body::sections;
use penstock_e2e::region::{balanced, live, lost, stream, totals};
use penstock_e2e::{
    Lab, Ng, PHONES, Phone, answer_request, lab, meanwhile, offer_request, phone_at, sdp, wait_for,
    with,
};
use penstock_shm::TableView;
use penstock_shm::counters::Drop;
use serde_json::json;
use std::net::SocketAddr;
use std::time::Duration;

/// A phone and where it sends.
struct Party {
    phone: Phone,
    side: SocketAddr,
}

impl Party {
    fn number(&self) -> u16 {
        self.phone.sent()
    }

    /// What it heard of another.
    fn heard(&mut self, other: u32) -> Vec<u16> {
        let heard = self.phone.listen_until(Duration::from_millis(50));
        heard.rtp.get(&other).cloned().unwrap_or_default()
    }
}

/// A call of two phones; the second one is behind a NAT: it sends from elsewhere than its SDP says.
fn call(lab: &Lab, ng: &Ng, id: &str, tags: [&str; 2], ports: [u16; 2], ssrc: u32) -> [Party; 2] {
    let phone = |n: usize| Phone::new(lab, phone_at(ports[n]), ssrc + n as u32);
    let said = [phone_at(ports[0]), phone_at(ports[1] + 50)].map(sdp);
    let offer = with(offer_request(id, &said[0]), json!({"from-tag": tags[0]}));
    let out = ng.told(&offer);
    let both = json!({"from-tag": tags[0], "to-tag": tags[1]});
    let back = ng.told(&with(answer_request(id, &said[1]), both));
    [(phone(0), &back), (phone(1), &out)].map(|(phone, sdp)| Party {
        phone,
        side: sections(sdp)[0],
    })
}

/// All send once, hear what is there, and rest for 2 ms.
fn talk(all: &mut [Party; 4]) {
    for party in all.iter_mut() {
        party.phone.talk(party.side);
    }
    for party in all {
        party.phone.listen();
    }
    std::thread::sleep(Duration::from_millis(2));
}

/// Waits until the plane has seen all that they sent: on a busy machine some of it still lies in the kernel.
fn arrives(table: &TableView, all: &[Party; 4]) {
    let has_come = |party: &Party| {
        let meter = stream(table, party.side).expect("a stream").meter;
        meter.packets + u64::from(meter.dropped) >= u64::from(party.number())
    };
    assert!(wait_for(Duration::from_secs(10), || all
        .iter()
        .all(has_come)));
}

/// Every number up to `sent` was heard once and in order, first by the one and then by the other.
fn changed_hands(first: &[u16], second: &[u16], sent: u16) {
    assert_eq!([first, second].concat(), (1..=sent).collect::<Vec<_>>());
    assert!(first.len() > 10 && second.len() > 10);
}

#[test]
fn legs_of_two_calls_hear_each_other_and_nothing_is_lost() {
    let lab = lab!("ng_connect_calls");
    let _plane = lab.plane();
    let control = lab.control();
    let (ng, table) = (lab.ng(), lab.table());
    let [a, b] = call(&lab, &ng, "one", ["a", "b"], [4000, 5000], 0xa);
    let [x, y] = call(&lab, &ng, "two", ["x", "y"], [6000, 7000], 0x10);
    let mut all = [a, b, x, y];
    // Whoever is behind a NAT has to be found before he can hear.
    for n in [1, 3] {
        let Party { phone, side } = &mut all[n];
        phone.talk(*side);
        let ssrc = phone.ssrc();
        all[n - 1]
            .phone
            .listen_for(|heard| heard.rtp.contains_key(&ssrc));
    }
    (0..20).for_each(|_| talk(&mut all));
    arrives(&table, &all);

    // A recorder hears what `a` says, whomever that is for.
    let mut recorder = Phone::new(&lab, phone_at(8000), 0);
    let ask =
        json!({"command": "subscribe request", "call-id": "one", "from-tag": "a", "to-tag": "r"});
    ng.told(&ask);
    let body = format!(
        "v=0\r\no=- 1 1 IN IP4 {PHONES}\r\ns=-\r\nc=IN IP4 {PHONES}\r\nt=0 0\r\nm=audio 8000 RTP/AVP 0\r\na=recvonly\r\n"
    );
    ng.done(&json!({"command": "subscribe answer", "call-id": "one", "to-tag": "r", "sdp": body}));
    let recorded = all[0].number() + 1;

    let rest = || std::thread::sleep(Duration::from_millis(100));
    let _control = meanwhile(
        || talk(&mut all),
        || {
            rest();
            ng.done(&json!({"command": "connect", "call-id": "one", "from-tag": "a", "to-call-id": "two", "to-tag": "y"}));
            rest();
            control.kill();
            let control = lab.control();
            assert_eq!(ng.list().len(), 2);
            rest();
            control
        },
    );
    talk(&mut all);
    arrives(&table, &all);

    let sum = balanced(&table);
    let heard = |all: &mut [Party; 4], who: usize, whom: usize| {
        let ssrc = all[whom].phone.ssrc();
        all[who].heard(ssrc)
    };
    let [a, b, x, y] = [0, 1, 2, 3];
    // Each packet went to the former partner or to the new one.
    for [from, to, then] in [[a, b, y], [y, x, a]] {
        let (first, second) = (heard(&mut all, to, from), heard(&mut all, then, from));
        changed_hands(&first, &second, all[from].number());
    }
    // Those who were left are heard by nobody from then on.
    let mut unheard = 0;
    for [from, to] in [[b, a], [x, y]] {
        let first = heard(&mut all, to, from);
        assert_eq!(first, (1..=first.len() as u16).collect::<Vec<_>>());
        unheard += u64::from(all[from].number()) - first.len() as u64;
        assert!(unheard > 10);
    }
    assert_eq!(sum.dropped(Drop::NoRoute), unheard, "{sum:?}");
    let dropped = live(&table).into_iter().map(|s| u64::from(s.meter.dropped));
    assert_eq!(dropped.sum::<u64>(), unheard, "for no other reason");
    for (party, others) in all.iter_mut().zip([2, 1, 1, 2]) {
        let heard = party.phone.listen();
        assert_eq!((heard.rtp.len(), heard.changed), (others, 0));
    }
    recorder.heard_all(0xa, recorded, all[a].number());
    // Nothing was counted from zero or learned again.
    for party in &all {
        let stat = stream(&table, party.side).expect("a stream");
        assert_eq!(
            stat.meter.packets + u64::from(stat.meter.dropped),
            u64::from(party.number())
        );
    }
    let stat = stream(&table, all[y].side).expect("a stream");
    assert_eq!(stat.policy.remote, Some(phone_at(7000)));

    // Each call's delete ends what belongs to it.
    assert_eq!(lab.penstock_json("status")["control"]["calls"], 1);
    let delete = |id: &str, from: &str, to: &str| {
        ng.done(&json!({"command": "delete", "call-id": id, "from-tag": from, "to-tag": to}))
    };
    let told = delete("two", "x", "y");
    let counted = &told["tags"]["y"]["medias"][0]["streams"][0]["stats"]["packets"];
    assert_eq!(*counted, all[y].number(), "{told}");
    assert_eq!(live(&table).len(), 4 + 2);
    // Who is left alone hears nobody, not even his former partner.
    for from in [a, b] {
        let Party { phone, side } = &mut all[from];
        phone.talk(*side);
    }
    // What is recorded is not in vain.
    let dropped = || totals(&table).dropped(Drop::NoRoute);
    assert!(wait_for(Duration::from_secs(10), || dropped() == unheard + 1));
    recorder.heard_all(0xa, recorded, all[a].number());
    delete("one", "a", "b");
    assert_eq!(live(&table), []);
    assert_eq!(ng.list(), Vec::<String>::new());
    let status = lab.penstock_json("status");
    assert_eq!(status["control"]["ports"]["default"]["used"], 0, "{status}");
}

/// A recorder gets the reports of a leg where it wants them, whether that leg and whom it hears multiplex or not.
#[test]
fn reports_are_copied_whomever_a_leg_hears() {
    let lab = lab!("ng_connect_reports");
    let _plane = lab.plane();
    let _control = lab.control();
    let (ng, table) = (lab.ng(), lab.table());
    let muxes = |port| sdp(phone_at(port)) + "a=rtcp-mux\r\n";
    ng.told(&offer_request("one", &muxes(4000)));
    let back = ng.told(&answer_request("one", &muxes(5000)));
    let side = sections(&back)[0];
    call(&lab, &ng, "two", ["x", "y"], [6000, 7000], 0x10);
    let mut a = Phone::new(&lab, phone_at(4000), 0xa);
    let phone = |port| Phone::new(&lab, phone_at(port), 0);
    // RTCP of `b`, of `y`, of a recorder that multiplexes and of one that does not.
    let mut all = [5000, 7051, 8000, 9001].map(phone);
    let subscribe = |tag: &str, port: u16, line: &str| {
        ng.told(&json!({"command": "subscribe request", "call-id": "one", "from-tag": "a", "to-tag": tag}));
        let body = format!(
            "v=0\r\no=- 1 1 IN IP4 {PHONES}\r\ns=-\r\nc=IN IP4 {PHONES}\r\nt=0 0\r\nm=audio {port} RTP/AVP 0\r\na=recvonly\r\n{line}"
        );
        ng.done(
            &json!({"command": "subscribe answer", "call-id": "one", "to-tag": tag, "sdp": body}),
        );
    };
    let connect = |to: &str, id: &str| {
        ng.done(&json!({"command": "connect", "call-id": "one", "from-tag": "a", "to-call-id": id, "to-tag": to}));
    };
    let mut copied = 0;
    // A report of `a` is heard by these and nobody else.
    let mut heard_by = |who: &[usize]| {
        all.iter_mut().for_each(Phone::forget);
        a.report(side);
        for &n in who {
            let heard = all[n].listen_for(|heard| heard.rtcp.contains_key(&0xa));
            assert_eq!(heard.rtcp[&0xa].len(), 1, "{n}");
        }
        copied += who.len() as u64 - 1;
        assert_eq!((lab.balanced().copied, lost(&table)), (copied, 0));
        let others = (0..4).filter(|n| !who.contains(n));
        others.for_each(|n| assert!(all[n].listen().rtcp.is_empty(), "{n}"));
    };
    subscribe("muxes", 8000, "a=rtcp-mux\r\n");
    heard_by(&[0, 2]);
    connect("y", "two");
    heard_by(&[1, 2]);
    subscribe("apart", 9000, "");
    heard_by(&[1, 2, 3]);
    connect("b", "one");
    heard_by(&[0, 2, 3]);
}
