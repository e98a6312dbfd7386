//! Two ports with a network each: a call from one to the other, bursts whose packets leave through both, and no port
//! that takes the other's packets.

use penstock_e2e::region::totals;
use penstock_e2e::{
    Lab, PLANE, Phone, Setup, Sides, Signal, lab, meet, phone_at, rtcp, sdp, wait_for,
};
use penstock_shm::counters::Drop;
use serde_json::json;
use std::net::SocketAddr;
use std::time::Duration;

/// The plane's address at the second port.
const OTHER: &str = "198.19.0.1";
const SOON: Duration = Duration::from_secs(20);

fn setup() -> Setup {
    let mut setup = Setup::default();
    setup.port += &format!(
        "[[port]]\nname = \"other\"\ndevice = \"net_tap1,iface=ps1,persist\"\nmac = \"02:70:73:00:00:02\"\n\
         queues = 1\n[[port.address]]\naddress = \"{OTHER}/16\"\n\
         [[port.neighbour]]\naddress = \"198.19.255.1\"\nmac = \"02:00:00:00:00:77\"\n\
         [[control.interface]]\nname = \"other\"\naddress = \"{OTHER}\"\nports = \"16384-32767\"\n"
    );
    setup
}

/// The phones' end of the second port: its MAC is known beforehand, that of the first is asked for.
fn second_port(lab: &Lab) {
    lab.ip("link set ps1 address 02:00:00:00:00:77");
    lab.ip("addr add 198.19.255.1/16 dev ps1");
    lab.ip("link set ps1 txqueuelen 10000 up");
}

fn at_other(port: u16) -> SocketAddr {
    SocketAddr::from(([198, 19, 255, 1], port))
}

/// A call from the default interface to that of this name.
fn call(lab: &Lab, to: &str, caller: SocketAddr, callee: SocketAddr) -> Sides {
    // By a clock as fast as video's, packets that come at once are near their time and go the short way.
    let [offer, answer] = [caller, callee].map(|at| sdp(at).replace("/8000", "/90000"));
    let (ng, id) = (lab.ng(), format!("to-{to}"));
    let callee_side = ng.offer_with(&id, &offer, "direction", json!(["default", to]));
    Sides {
        callee: callee_side.expect("an offer"),
        caller: ng.answer_sdp(&id, &answer).expect("an answer"),
    }
}

/// Both heard all reports of the other.
fn reports_came([a, b]: &mut [Phone; 2]) {
    heard_reports(a.ssrc(), a.sent(), b);
    heard_reports(b.ssrc(), b.sent(), a);
}

fn heard_reports(ssrc: u32, sent: u16, phone: &mut Phone) {
    let all: Vec<u32> = (1..=sent.into()).collect();
    let heard = phone.listen_for(|heard| heard.rtcp.get(&ssrc).map_or(0, Vec::len) >= all.len());
    assert_eq!(heard.rtcp.get(&ssrc), Some(&all));
    assert_eq!((heard.rtp.len(), heard.changed), (0, 0));
}

#[test]
fn calls_go_from_port_to_port() {
    let lab = lab!("two_ports", setup());
    // What the kernel says by itself is none of the strays.
    lab.run("sysctl", &["-qw", "net.ipv6.conf.default.disable_ipv6=1"]);
    let plane = lab.plane();
    second_port(&lab);
    let _control = lab.control();
    let table = lab.table();
    let mut a = Phone::new(&lab, phone_at(4000), 0xa);
    let mut b = Phone::new(&lab, at_other(5000), 0xb);
    let sides = call(&lab, "other", a.at(), b.at());
    let ips = [sides.caller, sides.callee].map(|side| side.ip().to_string());
    assert_eq!(ips, [PLANE, OTHER]);
    let mut c = Phone::new(&lab, phone_at(6000), 0xc);
    let mut d = Phone::new(&lab, phone_at(7000), 0xd);
    let within = call(&lab, "default", c.at(), d.at());
    meet(&mut a, sides.caller, &mut b, sides.callee);
    meet(&mut c, within.caller, &mut d, within.callee);

    let mut reports = [
        Phone::new(&lab, phone_at(4001), 0x1a),
        Phone::new(&lab, at_other(5001), 0x1b),
    ];
    for _ in 0..20 {
        reports[0].report(rtcp(sides.caller));
        reports[1].report(rtcp(sides.callee));
        std::thread::sleep(Duration::from_millis(5));
    }
    reports_came(&mut reports);

    // What waits while the plane stands still comes in bursts, whose packets leave through both ports in turn.
    for _ in 0..20 {
        plane.signal(Signal::STOP);
        for _ in 0..32 {
            a.talk(sides.caller);
            c.talk(within.caller);
            b.talk(sides.callee);
            d.talk(within.callee);
        }
        plane.signal(Signal::CONT);
        for phone in [&mut a, &mut b, &mut c, &mut d] {
            phone.listen();
        }
        let sent = 4 * u64::from(a.sent()) + 40;
        assert!(
            wait_for(SOON, || totals(&table).forwarded >= sent),
            "{:?}",
            totals(&table)
        );
    }
    let sent = a.sent();
    assert_eq!(sent, 641);
    for (phone, from) in [(&mut a, 0xb), (&mut b, 0xa), (&mut c, 0xd), (&mut d, 0xc)] {
        phone.heard_all(from, 1, sent);
    }
    let sum = lab.balanced();
    assert_eq!(sum.dropped_at_all(), 0, "{sum:?}");
    assert_eq!(sum.forwarded, 4 * 641 + 40);
    let bursts = table.workers()[0].bursts;
    let many: u64 = bursts[4..].iter().sum();
    assert!(many >= 20, "few packets came at once: {bursts:?}");

    // An address is that of one port.
    for (from, to, through) in [
        (phone_at(0), sides.callee, PLANE),
        (at_other(0), sides.caller, OTHER),
    ] {
        let way = format!("{}/32 via {through}", to.ip());
        lab.ip(&format!("route add {way}"));
        let stray = lab.socket(from);
        stray.send_to(&[0x80; 172], to).expect("a packet");
        lab.ip(&format!("route del {way}"));
    }
    let strays = wait_for(SOON, || totals(&table).dropped(Drop::NotOurAddress) == 2);
    assert!(strays, "{:?}", totals(&table));
    assert_eq!(lab.balanced().dropped_at_all(), 2);

    // Through the first came three phones' packets, through the second one phone's; and both counted them.
    let mut ports = json!(null);
    let counted = wait_for(SOON, || {
        ports = lab.penstock_json("ports");
        let least = |n: usize, packets: u64| {
            let port = &ports[n];
            port["up"] == true
                && ["ipackets", "opackets"]
                    .iter()
                    .all(|key| port[key].as_u64().is_some_and(|count| count >= packets))
        };
        least(0, 3 * 641 + 20) && least(1, 641 + 20)
    });
    assert!(counted, "{ports:#}");
    let names: Vec<_> = ports
        .as_array()
        .expect("a list")
        .iter()
        .map(|port| &port["port"])
        .collect();
    assert_eq!(names, ["media", "other"]);
    assert!(ports[1]["ipackets"].as_u64() < Some(2 * 641), "{ports:#}");
}
