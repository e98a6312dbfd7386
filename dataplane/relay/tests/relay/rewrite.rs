use crate::body::{plain_sum, udp_error};
use crate::support::{Datagram, egress, octets, policy, rtp, slot, udp_of};
use penstock_relay::route::{self, Egress};
use penstock_relay::{Class, Drop, L2Header, Udp, classify, rewrite};
use proptest::prelude::*;
use std::net::{IpAddr, SocketAddr};

const HEADROOM: usize = 64;
const NEXT_HOP: [u8; 6] = [2, 0, 0, 0, 0, 0x77];
const PORT: [u8; 6] = [2, 0, 0, 0, 0, 0x55];

fn rewritten(frame: &[u8], egress: &Egress, vlan: u16) -> Vec<u8> {
    let udp = udp_of(frame);
    let policy = policy(egress.destination);
    let slot = route::fill(&policy, None, Some(egress), 1);
    let mut buffer = vec![0xcc; HEADROOM];
    buffer.extend(frame);
    let l2 = L2Header::new(NEXT_HOP, PORT, vlan);
    let range = rewrite(&mut buffer, HEADROOM, &udp, &slot, &l2).unwrap();
    assert!(
        buffer[..range.start.min(HEADROOM - 4)]
            .iter()
            .all(|&octet| octet == 0xcc)
    );
    buffer[range].to_vec()
}

/// Checks everything about a packet that left.
fn assert_left(frame: &[u8], egress: &Egress, vlan: u16, payload: &[u8]) -> Udp {
    assert_eq!(frame[..6], NEXT_HOP);
    assert_eq!(frame[6..12], PORT);
    let Class::Udp(udp) = classify(frame, &NEXT_HOP, false) else {
        panic!("not UDP")
    };
    assert_eq!(udp.vlan, vlan);
    if vlan != 0 {
        assert_eq!(frame[14..16], vlan.to_be_bytes());
    }
    let (ip, addresses) = match udp.v6 {
        false => (&frame[udp.l3..][..20], 12),
        true => (&frame[udp.l3..][..40], 8),
    };
    let expected = [octets(egress.source), octets(egress.destination)].concat();
    assert_eq!(ip[addresses..], expected);
    if udp.v6 {
        let tos = egress.tos;
        assert_eq!(ip[..4], [0x60 | tos >> 4, tos << 4, 0, 0]);
        assert_eq!(ip[6..8], [17, 64]);
    } else {
        assert_eq!(ip[..2], [0x45, egress.tos]);
        assert_eq!(ip[4..10], [0, 0, 0x40, 0, 64, 17]);
        assert_eq!(plain_sum(ip) % 0xffff, 0);
    }
    let datagram = &frame[udp.l3 + ip.len()..];
    assert_eq!(datagram[..2], egress.source.port().to_be_bytes());
    assert_eq!(datagram[2..4], egress.destination.port().to_be_bytes());
    assert_eq!(udp.length, datagram.len(), "padding does not leave");
    assert_eq!(&datagram[8..], payload);
    udp
}

#[test]
fn a_known_packet_leaves_as_known_octets() {
    let frame: Vec<u8> = [
        &[0x02, 0, 0, 0, 0, 0x01, 0x02, 0, 0, 0, 0, 0x99, 0x08, 0x00][..],
        &[
            0x45, 0xb8, 0, 32, 0x12, 0x34, 0, 0, 57, 17, 0x82, 0xa5, 198, 51, 100, 7, 192, 0, 2, 1,
        ],
        &[0x9c, 0x40, 0x4e, 0x20, 0, 12, 0x25, 0x33, 1, 2, 3, 4],
    ]
    .concat();
    let left: Vec<u8> = [
        &[0x02, 0, 0, 0, 0, 0x77, 0x02, 0, 0, 0, 0, 0x55, 0x08, 0x00][..],
        &[
            0x45, 0xb8, 0, 32, 0, 0, 0x40, 0, 64, 17, 0x3c, 0x09, 192, 0, 2, 2, 203, 0, 113, 9,
        ],
        &[0x4e, 0x22, 0xc3, 0x50, 0, 12, 0xec, 0x50, 1, 2, 3, 4],
    ]
    .concat();
    let actual = rewritten(&frame, &egress(false), 0);
    assert_eq!(udp_error(&frame, &udp_of(&frame)), 0, "the vector itself");
    assert_eq!(actual, left);
}

#[test]
fn tags_come_and_go() {
    for v6 in [false, true] {
        for from in [0, 5] {
            for to in [0, 7, 4094] {
                let payload = rtp(1, 2, 3);
                let datagram = if v6 {
                    Datagram::v6(&payload)
                } else {
                    Datagram::v4(&payload)
                };
                let frame = Datagram {
                    vlan: from,
                    padding: 9,
                    ..datagram
                }
                .frame();
                assert_eq!(
                    L2Header::new(NEXT_HOP, PORT, to).untagged().is_some(),
                    to == 0
                );
                let left = rewritten(&frame, &egress(v6), to);
                let udp = assert_left(&left, &egress(v6), to, &payload);
                assert_eq!(udp_error(&left, &udp), 0);
            }
        }
    }
}

#[test]
fn no_checksum_stays_none() {
    let mut frame = Datagram::v4(&rtp(1, 2, 3)).frame();
    frame[40..42].fill(0);
    let left = rewritten(&frame, &egress(false), 0);
    assert_eq!(left[40..42], [0, 0]);
}

/// Walks a payload word through every value: the checksum that leaves passes zero, which is sent as
/// all ones.
#[test]
fn a_checksum_of_zero_leaves_as_all_ones() {
    let mut seen = 0;
    for word in 0..=u16::MAX {
        let frame = Datagram::v4(&word.to_be_bytes()).frame();
        let left = rewritten(&frame, &egress(false), 0);
        assert_ne!(left[40..42], [0, 0]);
        assert_eq!(
            udp_error(
                &left,
                &Udp {
                    l3: 14,
                    v6: false,
                    vlan: 0,
                    length: 10,
                    port: 0
                }
            ),
            0
        );
        seen += usize::from(left[40..42] == [0xff, 0xff]);
    }
    assert!(seen > 0);
}

#[test]
fn another_version_has_no_route() {
    let frame = Datagram::v6(&rtp(1, 2, 3)).frame();
    let slot = slot(&policy("192.0.2.9:9".parse().unwrap()));
    let mut buffer = [vec![0; HEADROOM], frame.clone()].concat();
    let l2 = L2Header::new(NEXT_HOP, PORT, 0);
    let left = rewrite(&mut buffer, HEADROOM, &udp_of(&frame), &slot, &l2);
    assert_eq!(left, Err(Drop::NoRoute));
    assert_eq!(buffer[HEADROOM..], frame);
}

#[test]
fn too_little_headroom_is_no_packet() {
    let frame = Datagram::v4(&rtp(1, 2, 3)).frame();
    let slot = slot(&policy("192.0.2.9:9".parse().unwrap()));
    let l2 = L2Header::new(NEXT_HOP, PORT, 7);
    for start in 0..=4 {
        let mut buffer = [vec![0; start], frame.clone()].concat();
        let left = rewrite(&mut buffer, start, &udp_of(&frame), &slot, &l2);
        assert_eq!(left.is_ok(), start == 4);
    }
}

pub(crate) fn endpoints(v6: bool) -> impl Strategy<Value = (SocketAddr, SocketAddr, Egress)> {
    let address = move || {
        (any::<[u8; 16]>(), 1u16..).prop_map(move |(octets, port)| {
            let [a, b, c, d, ..] = octets;
            // A unicast address, whatever the octets.
            let v4 = [(a % 126 + 128) & 0xdf, b, c, d | 1];
            let mut v6_octets = octets;
            v6_octets[0] = 0x20;
            let ip = if v6 {
                IpAddr::from(v6_octets)
            } else {
                IpAddr::from(v4)
            };
            SocketAddr::new(ip, port)
        })
    };
    let ends = [address(), address(), address(), address()];
    (ends, any::<u8>()).prop_map(|([from, to, source, destination], tos)| {
        let egress = Egress {
            endpoint: to,
            source,
            destination,
            adjacency: 0,
            mtu: 9000,
            tos,
        };
        (from, to, egress)
    })
}

fn datagrams() -> impl Strategy<Value = (Datagram, Egress)> {
    let rest = (
        prop_oneof![Just(0u16), 1..4095u16],
        0..40usize,
        prop::collection::vec(0u8.., 0..1400),
    );
    (any::<bool>().prop_flat_map(endpoints), rest).prop_map(|(ends, (vlan, padding, payload))| {
        let (source, destination, egress) = ends;
        (
            Datagram {
                source,
                destination,
                vlan,
                payload,
                padding,
            },
            egress,
        )
    })
}

proptest! {
    #[test]
    fn a_valid_packet_leaves_valid((datagram, egress) in datagrams(), vlan in 0u16..4095) {
        let left = rewritten(&datagram.frame(), &egress, vlan);
        let udp = assert_left(&left, &egress, vlan, &datagram.payload);
        prop_assert_eq!(udp_error(&left, &udp), 0);
    }

    #[test]
    fn an_error_stays_the_same_error((datagram, egress) in datagrams(), error in 1u16..0xffff) {
        let mut frame = datagram.frame();
        let at = datagram.l3() + if datagram.source.is_ipv6() { 46 } else { 26 };
        let wrong = u16::from_be_bytes([frame[at], frame[at + 1]]).wrapping_add(error);
        prop_assume!(wrong != 0);
        frame[at..at + 2].copy_from_slice(&wrong.to_be_bytes());
        let before = udp_error(&frame, &udp_of(&frame));
        prop_assume!(before != 0);
        let left = rewritten(&frame, &egress, 0);
        let udp = assert_left(&left, &egress, 0, &datagram.payload);
        prop_assert_eq!(udp_error(&left, &udp), before);
    }
}
