use crate::body::{plain_sum, udp_error};
use crate::support::{Datagram, egress, octets, policy, rtp, udp_of};
use penstock_relay::route::{self, Egress};
use penstock_relay::{Class, Drop, L2Header, Udp, classify, empty, rewrite, source};
use proptest::prelude::*;
use std::net::{IpAddr, SocketAddr};

const HEADROOM: usize = 64;
const NEXT_HOP: [u8; 6] = [2, 0, 0, 0, 0, 0x77];
const PORT: [u8; 6] = [2, 0, 0, 0, 0, 0x55];

fn rewritten(frame: &[u8], egress: &Egress, vlan: u16) -> Vec<u8> {
    let udp = udp_of(frame);
    let policy = policy(source(frame, &udp).unwrap());
    let slot = route::fill(&policy, None, Some(egress), 1);
    let mut buffer = vec![0xcc; HEADROOM];
    buffer.extend(frame);
    let l2 = L2Header::new(NEXT_HOP, PORT, vlan);
    let range = rewrite(&mut buffer, HEADROOM, &udp, &slot, &l2).unwrap();
    let longest = range.start + l2.size() - 18;
    let untouched = &buffer[..longest.min(HEADROOM)];
    assert!(untouched.iter().all(|&octet| octet == 0xcc));
    buffer[range].to_vec()
}

/// Checks everything about a packet that left; `came` is what came.
fn assert_left(frame: &[u8], egress: &Egress, vlan: u16, came: &Datagram) -> Udp {
    assert_eq!(frame[..6], NEXT_HOP);
    assert_eq!(frame[6..12], PORT);
    let Class::Udp(udp) = classify(frame, &NEXT_HOP, false) else {
        panic!("not UDP")
    };
    assert_eq!((udp.vlan, udp.v6), (vlan, egress.destination.is_ipv6()));
    if vlan != 0 {
        let tag = u16::from(egress.pcp) << 13 | vlan;
        assert_eq!(frame[14..16], tag.to_be_bytes());
    }
    let (ip, addresses) = match udp.v6 {
        false => (&frame[udp.l3..][..20], 12),
        true => (&frame[udp.l3..][..40], 8),
    };
    let expected = [octets(egress.source), octets(egress.destination)].concat();
    assert_eq!(ip[addresses..], expected);
    let tos = match egress.copy_dscp {
        true => came.tos & 0xfc,
        false => egress.tos,
    };
    if udp.v6 {
        assert_eq!(ip[..4], [0x60 | tos >> 4, tos << 4, 0, 0]);
        assert_eq!(ip[6..8], [17, 64]);
    } else {
        assert_eq!(ip[..2], [0x45, tos]);
        assert_eq!(ip[4..10], [0, 0, 0x40, 0, 64, 17]);
        assert_eq!(plain_sum(ip) % 0xffff, 0);
    }
    let datagram = &frame[udp.l3 + ip.len()..];
    assert_eq!(datagram[..2], egress.source.port().to_be_bytes());
    assert_eq!(datagram[2..4], egress.destination.port().to_be_bytes());
    assert_eq!(udp.length, datagram.len(), "padding does not leave");
    assert_eq!(datagram[8..], came.payload);
    udp
}

/// A packet from 198.51.100.7 and the same one from 2001:db8:1::7, and each as it leaves by [`egress`].
#[rustfmt::skip]
mod known {
    pub(super) const CAME4: [u8; 46] = [
        0x02, 0, 0, 0, 0, 0x01, 0x02, 0, 0, 0, 0, 0x99, 0x08, 0x00,
        0x45, 0xb8, 0, 32, 0x12, 0x34, 0, 0, 57, 17, 0x82, 0xa5, 198, 51, 100, 7, 192, 0, 2, 1,
        0x9c, 0x40, 0x4e, 0x20, 0, 12, 0x25, 0x33, 1, 2, 3, 4,
    ];
    pub(super) const CAME6: [u8; 66] = [
        0x02, 0, 0, 0, 0, 0x01, 0x02, 0, 0, 0, 0, 0x99, 0x86, 0xdd,
        0x6b, 0x81, 0x23, 0x45, 0, 12, 17, 57,
        0x20, 0x01, 0x0d, 0xb8, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7,
        0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1,
        0x9c, 0x40, 0x4e, 0x20, 0, 12, 0xb5, 0xf4, 1, 2, 3, 4,
    ];
    pub(super) const LEFT4: [u8; 46] = [
        0x02, 0, 0, 0, 0, 0x77, 0x02, 0, 0, 0, 0, 0x55, 0x08, 0x00,
        0x45, 0xb8, 0, 32, 0, 0, 0x40, 0, 64, 17, 0x3c, 0x09, 192, 0, 2, 2, 203, 0, 113, 9,
        0x4e, 0x22, 0xc3, 0x50, 0, 12, 0xec, 0x50, 1, 2, 3, 4,
    ];
    pub(super) const LEFT6: [u8; 66] = [
        0x02, 0, 0, 0, 0, 0x77, 0x02, 0, 0, 0, 0, 0x55, 0x86, 0xdd,
        0x6b, 0x80, 0, 0, 0, 12, 17, 64,
        0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2,
        0x20, 0x01, 0x0d, 0xb8, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9,
        0x4e, 0x22, 0xc3, 0x50, 0, 12, 0x8e, 0xde, 1, 2, 3, 4,
    ];
}

#[test]
fn known_packets_leave_as_known_octets() {
    for frame in [&known::CAME4[..], &known::CAME6] {
        assert_eq!(udp_error(frame, &udp_of(frame)), 0, "the vector itself");
        assert_eq!(rewritten(frame, &egress(false), 0), known::LEFT4);
        assert_eq!(rewritten(frame, &egress(true), 0), known::LEFT6);
    }
    let mut without = known::CAME4;
    without[40..42].fill(0);
    assert_eq!(rewritten(&without, &egress(true), 0), known::LEFT6);
}

/// From IPv4 or IPv6 to either.
const DIRECTIONS: [(bool, bool); 4] = [(false, false), (true, true), (false, true), (true, false)];

fn datagram(v6: bool, payload: &[u8]) -> Datagram {
    if v6 {
        Datagram::v6(payload)
    } else {
        Datagram::v4(payload)
    }
}

#[test]
fn tags_come_and_go() {
    for (from6, to6) in DIRECTIONS {
        for from in [0, 5] {
            for to in [0, 7, 4094] {
                let payload = rtp(1, 2, 3);
                let came = Datagram {
                    vlan: from,
                    padding: 9,
                    ..datagram(from6, &payload)
                };
                assert_eq!(
                    L2Header::new(NEXT_HOP, PORT, to).untagged().is_some(),
                    to == 0
                );
                let left = rewritten(&came.frame(), &egress(to6), to);
                let udp = assert_left(&left, &egress(to6), to, &came);
                assert_eq!(udp_error(&left, &udp), 0);
            }
        }
    }
}

/// All values of the octet, both ways to write it: the DSCP leaves, the bits for ECN do not.
#[test]
fn a_dscp_is_copied() {
    for (from6, to6) in DIRECTIONS {
        let copying = Egress {
            copy_dscp: true,
            ..egress(to6)
        };
        for tos in 0..=u8::MAX {
            let came = Datagram {
                tos,
                ..datagram(from6, &rtp(1, 2, 3))
            };
            let left = rewritten(&came.frame(), &copying, 0);
            assert_left(&left, &copying, 0, &came);
        }
    }
}

#[test]
fn a_priority_stands_in_the_tag_alone() {
    for (from6, to6) in DIRECTIONS {
        let came = datagram(from6, &rtp(1, 2, 3));
        let egress = Egress {
            pcp: 5,
            ..egress(to6)
        };
        for (vlan, tag) in [(7, [0xa0, 7]), (4094, [0xaf, 0xfe])] {
            let left = rewritten(&came.frame(), &egress, vlan);
            assert_eq!(left[12..16], [0x81, 0x00, tag[0], tag[1]]);
            assert_left(&left, &egress, vlan, &came);
        }
        assert_left(&rewritten(&came.frame(), &egress, 0), &egress, 0, &came);
    }
}

#[test]
fn no_checksum_stays_none_over_ipv4() {
    let mut frame = Datagram::v4(&rtp(1, 2, 3)).frame();
    frame[40..42].fill(0);
    let left = rewritten(&frame, &egress(false), 0);
    assert_eq!(left[40..42], [0, 0]);
}

/// Walks a payload word through every value: the checksum that leaves passes zero, which is sent as
/// all ones.
#[test]
fn a_checksum_of_zero_leaves_as_all_ones() {
    for (from6, to6) in DIRECTIONS {
        for without in [false, true] {
            // What came without a checksum over IPv4 leaves without one.
            if without && (from6, to6) != (false, true) {
                continue;
            }
            let mut seen = 0;
            for word in 0..=u16::MAX {
                let mut frame = datagram(from6, &word.to_be_bytes()).frame();
                if without {
                    frame[40..42].fill(0);
                }
                let left = rewritten(&frame, &egress(to6), 0);
                let at = left.len() - 4;
                assert_ne!(left[at..at + 2], [0, 0]);
                let udp = Udp {
                    l3: 14,
                    v6: to6,
                    vlan: 0,
                    length: 10,
                    port: 0,
                };
                assert_eq!(udp_error(&left, &udp), 0);
                seen += usize::from(left[at..at + 2] == [0xff, 0xff]);
            }
            assert!(seen > 0);
        }
    }
}

#[test]
fn too_little_headroom_is_no_packet() {
    for ((from6, to6), least) in DIRECTIONS.into_iter().zip([4, 4, 24, 0]) {
        let frame = datagram(from6, &rtp(1, 2, 3)).frame();
        let policy = policy(datagram(from6, &[]).source);
        let slot = route::fill(&policy, None, Some(&egress(to6)), 1);
        let l2 = L2Header::new(NEXT_HOP, PORT, 7);
        for start in 0..=30 {
            let mut buffer = [vec![0; start], frame.clone()].concat();
            let left = rewrite(&mut buffer, start, &udp_of(&frame), &slot, &l2);
            assert_eq!(left.is_ok(), start >= least, "{from6} {to6} {start}");
            if let Err(reason) = left {
                assert_eq!(reason, Drop::Malformed);
                assert_eq!(buffer[start..], frame);
            }
        }
    }
}

/// Where a packet comes from and goes to, and its route, of these versions.
pub(crate) fn endpoints(
    from6: bool,
    to6: bool,
) -> impl Strategy<Value = (SocketAddr, SocketAddr, Egress)> {
    let address = |v6: bool| {
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
    let ends = [address(from6), address(from6), address(to6), address(to6)];
    let class = (any::<u8>(), any::<bool>(), 0u8..8);
    (ends, class).prop_map(|([from, to, source, destination], (tos, copy_dscp, pcp))| {
        let egress = Egress {
            endpoint: to,
            source,
            destination,
            adjacency: 0,
            mtu: 9000,
            tos,
            copy_dscp,
            pcp,
        };
        (from, to, egress)
    })
}

fn datagrams() -> impl Strategy<Value = (Datagram, Egress)> {
    let rest = (
        prop_oneof![Just(0u16), 1..4095u16],
        0..40usize,
        prop::collection::vec(0u8.., 0..1400),
        any::<u8>(),
    );
    let ends = any::<(bool, bool)>().prop_flat_map(|(from6, to6)| endpoints(from6, to6));
    (ends, rest).prop_map(|(ends, (vlan, padding, payload, tos))| {
        let (source, destination, egress) = ends;
        (
            Datagram {
                source,
                destination,
                vlan,
                tos,
                payload,
                padding,
            },
            egress,
        )
    })
}

/// A packet with the same payload, made for the route.
fn anew(datagram: &Datagram, egress: &Egress) -> Vec<u8> {
    Datagram {
        source: egress.source,
        destination: egress.destination,
        vlan: 0,
        tos: 0,
        payload: datagram.payload.clone(),
        padding: 0,
    }
    .frame()
}

/// UDP header and payload, as long as the datagram's, at the end of a frame.
fn udp_part<'a>(frame: &'a [u8], datagram: &Datagram) -> &'a [u8] {
    &frame[frame.len() - 8 - datagram.payload.len()..]
}

proptest! {
    #[test]
    fn a_valid_packet_leaves_valid((datagram, egress) in datagrams(), vlan in 0u16..4095) {
        let left = rewritten(&datagram.frame(), &egress, vlan);
        assert_left(&left, &egress, vlan, &datagram);
        let expected = anew(&datagram, &egress);
        prop_assert_eq!(udp_part(&left, &datagram), udp_part(&expected, &datagram));
    }

    #[test]
    fn a_packet_without_a_checksum_has_one_over_ipv6_alone((datagram, egress) in datagrams(), vlan in 0u16..4095) {
        prop_assume!(!datagram.source.is_ipv6());
        let mut frame = datagram.frame();
        let at = datagram.l3() + 26;
        frame[at..at + 2].fill(0);
        let left = rewritten(&frame, &egress, vlan);
        assert_left(&left, &egress, vlan, &datagram);
        let mut expected = udp_part(&anew(&datagram, &egress), &datagram).to_vec();
        if !egress.destination.is_ipv6() {
            expected[6..8].fill(0);
        }
        prop_assert_eq!(udp_part(&left, &datagram), expected);
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
        let udp = assert_left(&left, &egress, 0, &datagram);
        prop_assert_eq!(udp_error(&left, &udp), before);
    }
}

/// What the plane sends by itself is a packet like those that it relays.
#[test]
fn an_empty_datagram_leaves_by_the_route() {
    for v6 in [false, true] {
        for vlan in [0, 5] {
            let egress = egress(v6);
            let policy = policy(egress.destination);
            let slot = route::fill(&policy, None, Some(&egress), 1);
            let l2 = L2Header::new(NEXT_HOP, PORT, vlan);
            let frame = empty(&slot, &l2).expect("a route");
            assert_eq!(frame[..12], [NEXT_HOP, PORT].concat());
            let Class::Udp(udp) = classify(&frame, &NEXT_HOP, false) else {
                panic!("{frame:x?}")
            };
            assert_eq!((udp.vlan, udp.v6), (vlan, v6));
            assert_eq!(udp.payload(&frame), Some(&b""[..]));
            assert_eq!(source(&frame, &udp), Some(egress.source));
            assert_eq!(udp.port, egress.destination.port());
            assert_eq!(udp_error(&frame, &udp), 0);
            assert_eq!(frame.len(), l2.size() + if v6 { 48 } else { 28 });
            let none = route::fill(&policy, None, None, 1);
            assert_eq!(empty(&none, &l2), None);
        }
    }
}
