//! ARP and neighbour discovery at full speed, questions and forged answers: calls start and flow, gateways stay in use
//! while they answer, and are left when they do not.

use penstock_e2e::frame::{Datagram, Sum, link, write_capture};
use penstock_e2e::region::{balanced, totals};
use penstock_e2e::{Host, Lab, Phone, Setup, lab, meanwhile, meet, phone_at, wait_for};
use penstock_shm::counters::Drop;
use std::net::SocketAddr;
use std::thread::sleep;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(60);
/// How long the call lasts: four times what it takes to give up a gateway.
const SECONDS: u32 = 12;
const GATEWAYS: [&str; 2] = ["198.18.0.254", "198.18.0.253"];
const CALLEE: &str = "198.18.3.3";
const FLOODED: [u8; 6] = [2, 0x70, 0x73, 0, 0, 2];
const OURS_4: [u8; 4] = [198, 19, 0, 1];

/// A second port, at which there is nothing but the flood.
fn setup(flood: &str) -> Setup {
    let mut setup = Setup::default();
    setup.port += &format!(
        "gateway = [\"{}\", \"{}\"]\n[[port]]\nname = \"flooded\"\nqueues = 1\nmac = \"02:70:73:00:00:02\"\n\
         device = \"net_pcap0,rx_pcap={flood},infinite_rx=1\"\n\
         [[port.address]]\naddress = \"198.19.0.1/16\"\n[[port.address]]\naddress = \"fd00:19::1/64\"\n",
        GATEWAYS[0], GATEWAYS[1]
    );
    setup
}

/// Host `n` asks for our address, or claims to answer.
fn arp(n: u8, operation: u8) -> Vec<u8> {
    let mac = [2, 0, 0, 0, 1, n];
    let mut frame = link((FLOODED, mac), 0, 0x0806);
    frame.extend([0, 1, 8, 0, 6, 4, 0, operation]);
    frame.extend(mac);
    frame.extend([198, 19, 1, n]);
    frame.extend(FLOODED);
    frame.extend(OURS_4);
    frame.resize(60, 0);
    frame
}

/// Host `n` solicits us (135), or advertises itself (136).
fn nd(n: u8, kind: u8) -> Vec<u8> {
    let at = |ip: String| format!("[{ip}]:0").parse().expect("an address");
    let (them, us) = (format!("fd00:19::1:{n}"), "fd00:19::1".to_owned());
    let mac = [2, 0, 0, 0, 1, n];
    let target = if kind == 135 { "fd00:19::1" } else { &them };
    let target: std::net::Ipv6Addr = target.parse().expect("an address");
    let mut message = vec![kind, 0, 0, 0, if kind == 136 { 0x60 } else { 0 }, 0, 0, 0];
    message.extend(target.octets());
    message.extend([if kind == 135 { 1 } else { 2 }, 1]);
    message.extend(mac);
    // The header of a datagram with that many octets, whose protocol and checksum are then those of ICMPv6.
    let datagram = Datagram {
        macs: (FLOODED, mac),
        vlan: 0,
        tos: 0,
        from: at(them.clone()),
        to: at(us),
        sum: Sum::Right,
        payload: vec![0; message.len() - 8],
    };
    let mut frame = datagram.frame();
    frame[14 + 6] = 58;
    frame[14 + 7] = 255;
    let sum = icmpv6_sum(&frame[22..54], &message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    frame[54..].copy_from_slice(&message);
    frame
}

/// RFC 8200, 8.1.
fn icmpv6_sum(addresses: &[u8], message: &[u8]) -> u16 {
    let rest = [0, 0, 0, message.len() as u8, 0, 0, 0, 58];
    let all = [addresses, &rest, message].concat();
    let words = all
        .chunks(2)
        .map(|w| u32::from(u16::from_be_bytes([w[0], w[1]])));
    let sum = words.sum::<u32>();
    !((sum & 0xffff) + (sum >> 16)) as u16
}

fn host(lab: &Lab, ip: &str, n: u8) -> Host {
    let host = Host::on_bridge(lab, &format!("02:00:00:00:02:0{n}"));
    host.ip(&format!("addr add {ip}/16 dev eth0"));
    host
}

#[test]
fn calls_start_and_gateways_stay() {
    let lab = lab!("neighbour-flood");
    let flood = lab.dir().join("flood");
    let of_host = |n| [arp(n, 1), arp(n, 2), nd(n, 135), nd(n, 136)];
    write_capture(&flood, (1..=100).flat_map(of_host));
    lab.configure(&setup(&flood.display().to_string()));
    let mut plane = lab.plane();
    let _control = lab.control();
    let table = lab.table();
    lab.bridge();
    let gateways = [host(&lab, GATEWAYS[0], 1), host(&lab, GATEWAYS[1], 2)];
    let callee_host = host(&lab, CALLEE, 3);
    let news = || {
        let log = plane.log();
        let news = log.lines().filter(|line| line.contains("gateway"));
        news.map(str::to_owned).collect::<Vec<_>>()
    };
    let in_use = |gateway: &str| {
        let is_it = || news().last().is_some_and(|line| line.contains(gateway));
        assert!(wait_for(SOON, is_it), "{:?}", news());
    };
    in_use(GATEWAYS[0]);
    let floods = || totals(&table).dropped(Drop::SlowPath) > 100_000;
    assert!(wait_for(SOON, floods), "{:?}", totals(&table));

    let so_far = news();
    let mut caller = Phone::new(&lab, phone_at(4000), 0xa);
    let callee_at = SocketAddr::new(CALLEE.parse().expect("an address"), 5000);
    let mut callee = Phone::with(callee_host.socket(callee_at), 0xb);
    let sides = lab.ng().call("call", caller.at(), callee.at());
    meet(&mut caller, sides.caller, &mut callee, sides.callee);
    // At a phone's pace: its kernel keeps what waits for an answer of ours for some seconds.
    let media = || {
        caller.talk(sides.caller);
        callee.talk(sides.callee);
        caller.listen();
        callee.listen();
        sleep(Duration::from_millis(20));
    };
    meanwhile(media, || {
        for _ in 0..SECONDS {
            // Who has forgotten us asks, and is answered.
            callee_host.ip("neigh flush dev eth0");
            sleep(Duration::from_secs(1));
        }
    });
    let (said, answered) = (caller.sent(), callee.sent());
    callee.heard_all(0xa, 1, said);
    caller.heard_all(0xb, 1, answered);
    assert_eq!(news(), so_far, "a gateway that answers was left");
    gateways[0].ip("link set eth0 down");
    in_use(GATEWAYS[1]);

    plane.stop_well();
    let totals = balanced(&table);
    assert_eq!(totals.dropped(Drop::NextHop), 0, "{totals:?}");
}
