//! Packets built from nothing, with checksums by the plain rule of RFC 1071.

use crate::body::plain_sum;
use penstock_relay::route::{self, Egress, Policy};
use penstock_relay::{Class, Udp, classify};
use penstock_shm::record::{Endpoint, Learn, Slot, StreamSpec};
use std::net::{IpAddr, SocketAddr};

pub(crate) const OURS: [u8; 6] = [0x02, 0, 0, 0, 0, 0x01];
pub(crate) const THEIRS: [u8; 6] = [0x02, 0, 0, 0, 0, 0x99];

/// A datagram to be sent.
#[derive(Clone, Debug)]
pub(crate) struct Datagram {
    pub(crate) source: SocketAddr,
    pub(crate) destination: SocketAddr,
    pub(crate) vlan: u16,
    /// TOS or traffic class.
    pub(crate) tos: u8,
    pub(crate) payload: Vec<u8>,
    /// Octets behind the IP packet.
    pub(crate) padding: usize,
}

impl Datagram {
    pub(crate) fn v4(payload: &[u8]) -> Self {
        Datagram {
            source: "198.51.100.7:40000".parse().unwrap(),
            destination: "192.0.2.1:20000".parse().unwrap(),
            vlan: 0,
            tos: 0xb8,
            payload: payload.to_vec(),
            padding: 0,
        }
    }

    pub(crate) fn v6(payload: &[u8]) -> Self {
        Datagram {
            source: "[2001:db8:1::7]:40000".parse().unwrap(),
            destination: "[2001:db8::1]:20000".parse().unwrap(),
            ..Datagram::v4(payload)
        }
    }

    pub(crate) fn l3(&self) -> usize {
        if self.vlan == 0 { 14 } else { 18 }
    }

    pub(crate) fn frame(&self) -> Vec<u8> {
        let udp = udp_datagram(self.source, self.destination, &self.payload);
        let (kind, mut packet) = match (self.source.ip(), self.destination.ip()) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let mut ip = vec![0x45, self.tos];
                ip.extend((20 + udp.len() as u16).to_be_bytes());
                ip.extend([0x12, 0x34, 0x00, 0x00, 57, 17, 0, 0]);
                ip.extend(source.octets());
                ip.extend(destination.octets());
                let checksum = checksum(plain_sum(&ip));
                ip[10..12].copy_from_slice(&checksum);
                (0x0800u16, ip)
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let mut ip = vec![0x60 | self.tos >> 4, self.tos << 4 | 1, 0x23, 0x45];
                ip.extend((udp.len() as u16).to_be_bytes());
                ip.extend([17, 57]);
                ip.extend(source.octets());
                ip.extend(destination.octets());
                (0x86dd, ip)
            }
            _ => panic!("two versions"),
        };
        packet.extend(udp);
        packet.resize(packet.len() + self.padding, 0xee);
        let mut frame = ethernet(self.vlan, kind);
        frame.extend(packet);
        frame
    }
}

pub(crate) fn ethernet(vlan: u16, kind: u16) -> Vec<u8> {
    let mut frame = [OURS, THEIRS].concat();
    if vlan != 0 {
        frame.extend([0x81, 0x00]);
        frame.extend((0xa000 | vlan).to_be_bytes());
    }
    frame.extend(kind.to_be_bytes());
    frame
}

fn udp_datagram(source: SocketAddr, destination: SocketAddr, payload: &[u8]) -> Vec<u8> {
    let length = 8 + payload.len() as u16;
    let mut udp = Vec::new();
    udp.extend(source.port().to_be_bytes());
    udp.extend(destination.port().to_be_bytes());
    udp.extend(length.to_be_bytes());
    udp.extend([0, 0]);
    udp.extend(payload);
    let pseudo =
        plain_sum(&octets(source)) + plain_sum(&octets(destination)) + 17 + u64::from(length);
    let checksum = match checksum(pseudo + plain_sum(&udp)) {
        [0, 0] => [0xff, 0xff],
        checksum => checksum,
    };
    udp[6..8].copy_from_slice(&checksum);
    udp
}

pub(crate) fn octets(address: SocketAddr) -> Vec<u8> {
    match address.ip() {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

pub(crate) fn checksum(mut sum: u64) -> [u8; 2] {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (!(sum as u16)).to_be_bytes()
}

/// An RTP packet of payload type 8 with 160 octets of sound.
pub(crate) fn rtp(seq: u16, timestamp: u32, ssrc: u32) -> Vec<u8> {
    let mut packet = vec![0x80, 8];
    packet.extend(seq.to_be_bytes());
    packet.extend(timestamp.to_be_bytes());
    packet.extend(ssrc.to_be_bytes());
    packet.extend((0..160).map(|i| i as u8));
    packet
}

pub(crate) fn udp_of(frame: &[u8]) -> Udp {
    match classify(frame, &OURS, false) {
        Class::Udp(udp) => udp,
        other => panic!("{other:?}"),
    }
}

/// A stream locked to `remote`, open.
pub(crate) fn policy(remote: SocketAddr) -> Policy {
    policy_of(&spec(remote))
}

/// What control would ask for to have such a stream.
pub(crate) fn spec(remote: SocketAddr) -> StreamSpec {
    let [endpoint, peer] = [20_000, 20_002].map(|port| Endpoint { addr: 1, port });
    StreamSpec {
        remote: Some(remote),
        learn: Learn::Off,
        clock_hz: 8000,
        ..StreamSpec::new(endpoint, peer)
    }
}

/// The policy with something else asked for.
pub(crate) fn asking(mut policy: Policy, change: impl FnOnce(&mut StreamSpec)) -> Policy {
    change(&mut policy.spec);
    policy
}

pub(crate) fn policy_of(spec: &StreamSpec) -> Policy {
    let v6 = spec.remote.is_some_and(|remote| remote.is_ipv6());
    Policy::new(spec, v6)
}

pub(crate) fn egress(v6: bool) -> Egress {
    let (endpoint, source, destination) = if v6 {
        (
            "[2001:db8::1]:20000",
            "[2001:db8::2]:20002",
            "[2001:db8:2::9]:50000",
        )
    } else {
        ("192.0.2.1:20000", "192.0.2.2:20002", "203.0.113.9:50000")
    };
    Egress {
        endpoint: endpoint.parse().unwrap(),
        source: source.parse().unwrap(),
        destination: destination.parse().unwrap(),
        adjacency: 3,
        mtu: 1500,
        tos: 0xb8,
        copy_dscp: false,
        pcp: 0,
    }
}

pub(crate) fn slot(policy: &Policy) -> Slot {
    route::fill(policy, None, Some(&egress(policy.v6)), 1)
}
