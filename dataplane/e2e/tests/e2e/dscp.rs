//! What leaves carries the DSCP that its call asks for, or else the default of the address it leaves from,
//! and in a VLAN that address's priority: octet by octet, from one capture to another.

use penstock_e2e::frame::{Datagram, Sum, read_capture, write_capture};
use penstock_e2e::region::{balanced, endpoint, worker};
use penstock_e2e::wire::{NOTHING, captures};
use penstock_e2e::{PLANE_MAC, Setup, lab, rtp_packet, wait_for};
use penstock_shm::{Dscp, Learn, Op, StreamSpec, TableView};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

const PHONE_MAC: [u8; 6] = [2, 0, 0, 0, 0, 7];

/// A local address, its VLAN and priority, and its default as configured.
struct Net {
    local: &'static str,
    phone: &'static str,
    vlan: u16,
    pcp: u16,
    keys: &'static str,
    default: Dscp,
}

/// The second and third share their VLAN and their phone's address, and so a next hop.
const NETS: [Net; 4] = [
    Net {
        local: "198.18.0.1",
        phone: "198.18.2.1",
        vlan: 0,
        pcp: 0,
        keys: "",
        default: Dscp::Set(0),
    },
    Net {
        local: "198.18.0.2",
        phone: "198.18.2.2",
        vlan: 100,
        pcp: 5,
        keys: "dscp = 34\npcp = 5",
        default: Dscp::Set(34),
    },
    Net {
        local: "198.18.0.3",
        phone: "198.18.2.2",
        vlan: 100,
        pcp: 2,
        keys: "dscp = \"copy\"\npcp = 2",
        default: Dscp::Copy,
    },
    Net {
        local: "fd00::1",
        phone: "fd00::2",
        vlan: 4094,
        pcp: 7,
        keys: "dscp = \"copy\"\npcp = 7",
        default: Dscp::Copy,
    },
];

impl Net {
    fn at(ip: &str, port: u16) -> SocketAddr {
        SocketAddr::new(ip.parse::<IpAddr>().expect("an address"), port)
    }

    fn local(&self, port: u16) -> SocketAddr {
        Net::at(self.local, port)
    }

    fn phone(&self, port: u16) -> SocketAddr {
        Net::at(self.phone, port)
    }
}

fn setup(device: &str) -> Setup {
    let mut port = format!("device = \"{device}\"\nmac = \"02:70:73:00:00:01\"\n");
    for net in &NETS {
        let len = if net.local.contains(':') { 64 } else { 16 };
        port += &format!(
            "[[port.address]]\naddress = \"{}/{len}\"\nvlan = {}\n{}\n",
            net.local, net.vlan, net.keys
        );
    }
    for net in [&NETS[0], &NETS[1], &NETS[3]] {
        port += &format!(
            "[[port.neighbour]]\naddress = \"{}\"\nmac = \"02:00:00:00:00:07\"\nvlan = {}\n",
            net.phone, net.vlan
        );
    }
    Setup {
        port,
        ..Setup::default()
    }
}

/// What a call may ask for.
const ASKED: [Dscp; 3] = [Dscp::Default, Dscp::Copy, Dscp::Set(46)];

/// Every network to every network with everything asked for, and the ports: a phone sends to the plane's
/// `port` from the same one, and it leaves from `port + 1` to the other phone's `port + 1`.
fn routes() -> impl Iterator<Item = (&'static Net, &'static Net, Dscp, u16)> {
    let pairs = NETS
        .iter()
        .flat_map(|from| NETS.iter().map(move |to| (from, to)));
    pairs
        .flat_map(|(from, to)| ASKED.map(|asked| (from, to, asked)))
        .zip(0..)
        .map(|((from, to, asked), n)| (from, to, asked, 20_000 + 2 * n))
}

fn streams(table: &TableView) -> Vec<Op> {
    let streams = routes().flat_map(|(from, to, asked, port)| {
        let here = endpoint(table, from.local(port), from.vlan);
        let there = endpoint(table, to.local(port + 1), to.vlan);
        let spec = |endpoint, peer, remote, dscp| {
            Op::Set(StreamSpec {
                remote: Some(remote),
                learn: Learn::Off,
                dscp,
                ..StreamSpec::new(endpoint, peer)
            })
        };
        // The stream towards the phone says what its phone is sent.
        [
            spec(here, there, from.phone(port), Dscp::Set(1)),
            spec(there, here, to.phone(port + 1), asked),
        ]
    });
    streams.collect()
}

/// TOS values that come, the bits for ECN among them.
const CAME: [u8; 6] = [0x00, 0x03, 0xb8, 0xfe, 0x29, 0xff];

fn traffic() -> Vec<(Datagram, Datagram)> {
    let mut all = Vec::new();
    for (seq, tos) in (1..).zip(CAME.into_iter().cycle().take(60)) {
        for (from, to, asked, port) in routes() {
            let sent = Datagram {
                macs: (PLANE_MAC, PHONE_MAC),
                vlan: from.vlan,
                tos,
                from: from.phone(port),
                to: from.local(port),
                sum: Sum::Right,
                payload: rtp_packet(port.into(), seq),
            };
            let dscp = if asked == Dscp::Default {
                to.default
            } else {
                asked
            };
            let leaves = Datagram {
                macs: (PHONE_MAC, PLANE_MAC),
                // The whole tag: priority and VLAN.
                vlan: to.pcp << 13 | to.vlan,
                tos: match dscp {
                    Dscp::Set(dscp) => dscp << 2,
                    _ => tos & 0xfc,
                },
                from: to.local(port + 1),
                to: to.phone(port + 1),
                ..sent.clone()
            };
            all.push((sent, leaves));
        }
    }
    all
}

#[test]
fn each_packet_leaves_in_its_class() {
    let lab = lab!("dscp", setup(NOTHING));
    lab.install_beforehand(streams);
    let traffic = traffic();
    let (input, output) = (lab.dir().join("in.pcap"), lab.dir().join("out.pcap"));
    write_capture(&input, traffic.iter().map(|(sent, _)| sent.frame()));
    lab.configure(&setup(&captures(&[&input], &[&output])));
    let mut plane = lab.plane();
    let table = lab.table();
    let read = || worker(&table, 0).rx == traffic.len() as u64;
    assert!(
        wait_for(Duration::from_secs(20), read),
        "{:?}",
        worker(&table, 0)
    );
    balanced(&table);
    plane.stop_well();

    let left = read_capture(&output);
    let media = left
        .iter()
        .filter(|frame| matches!(Datagram::parse(frame), Ok(Some(_))));
    let mut expected = traffic.iter().map(|(_, leaves)| leaves);
    for frame in media {
        let leaves = expected.next().expect("no more than came");
        assert_eq!(Datagram::parse(frame).as_ref(), Ok(&Some(leaves.clone())));
        assert_eq!(*frame, leaves.frame());
    }
    assert_eq!(expected.next(), None, "did not leave");
}
