use crate::body::plain_sum;
use crate::support::{Datagram, OURS, THEIRS, checksum, ethernet, rtp};
use penstock_relay::local::{nd_announcement, nd_probe, nd_solicitation};
use penstock_relay::{Class, Drop, Udp, classify};
use std::net::{Ipv4Addr, Ipv6Addr};

fn class(frame: &[u8]) -> Class {
    classify(frame, &OURS, false)
}

/// A frame with some octets changed, its IPv4 header checksum made right again.
fn altered(l3: usize, changes: &[(usize, u8)]) -> Vec<u8> {
    let mut datagram = Datagram::v4(&rtp(1, 2, 3));
    datagram.vlan = if l3 == 14 { 0 } else { 5 };
    let mut frame = datagram.frame();
    for &(at, value) in changes {
        frame[l3 + at] = value;
    }
    frame[l3 + 10..l3 + 12].fill(0);
    let sum = checksum(plain_sum(&frame[l3..l3 + 20]));
    frame[l3 + 10..l3 + 12].copy_from_slice(&sum);
    frame
}

#[test]
fn a_datagram_is_described() {
    for (vlan, l3) in [(0, 14), (5, 18), (4094, 18)] {
        for (mut datagram, v6) in [
            (Datagram::v4(&[1; 20]), false),
            (Datagram::v6(&[1; 20]), true),
        ] {
            datagram.vlan = vlan;
            let expected = Udp {
                l3,
                v6,
                vlan,
                length: 28,
                port: 20000,
            };
            assert_eq!(class(&datagram.frame()), Class::Udp(expected));
            datagram.padding = 7;
            assert_eq!(class(&datagram.frame()), Class::Udp(expected));
        }
    }
}

#[test]
fn a_priority_tag_is_no_vlan() {
    let mut datagram = Datagram::v4(&[1; 20]);
    datagram.vlan = 5;
    let mut frame = datagram.frame();
    frame[14..16].copy_from_slice(&[0xa0, 0x00]);
    let expected = Udp {
        l3: 18,
        v6: false,
        vlan: 0,
        length: 28,
        port: 20000,
    };
    assert_eq!(class(&frame), Class::Udp(expected));
}

#[test]
fn every_truncation_is_malformed() {
    for datagram in [Datagram::v4(&rtp(1, 2, 3)), Datagram::v6(&rtp(1, 2, 3))] {
        for vlan in [0, 5] {
            let frame = Datagram {
                vlan,
                ..datagram.clone()
            }
            .frame();
            for len in 0..frame.len() {
                assert_eq!(class(&frame[..len]), Class::Drop(Drop::Malformed), "{len}");
            }
        }
    }
}

#[test]
fn only_our_mac_passes() {
    let mut frame = Datagram::v4(&rtp(1, 2, 3)).frame();
    frame[5] ^= 1;
    assert_eq!(class(&frame), Class::Drop(Drop::NotOurMac));
    frame[..6].fill(0xff);
    assert_eq!(class(&frame), Class::Drop(Drop::NotOurMac));
}

#[test]
fn ipv4_headers_are_checked() {
    for l3 in [14, 18] {
        let cases: &[(&[(usize, u8)], Drop)] = &[
            (&[(0, 0x65)], Drop::Malformed),
            (&[(0, 0x44)], Drop::Malformed),
            (&[(0, 0x46)], Drop::IpOptions),
            (&[(0, 0x4f)], Drop::IpOptions),
            (&[(6, 0x20)], Drop::Fragment),
            (&[(6, 0x1f)], Drop::Fragment),
            (&[(7, 0x01)], Drop::Fragment),
            (&[(9, 6)], Drop::Protocol),
            (&[(3, 27), (2, 0)], Drop::Malformed),
            (&[(2, 0xff)], Drop::Malformed),
            (&[(24, 0), (25, 7)], Drop::Malformed),
            (&[(24, 0xff)], Drop::Malformed),
        ];
        for (changes, reason) in cases {
            assert_eq!(
                class(&altered(l3, changes)),
                Class::Drop(*reason),
                "{changes:?}"
            );
        }
        // Do not fragment is no fragment.
        assert!(matches!(class(&altered(l3, &[(6, 0x40)])), Class::Udp(_)));
    }
}

#[test]
fn the_ipv4_checksum_is_checked_unless_the_nic_did() {
    let good = Datagram::v4(&rtp(1, 2, 3)).frame();
    for bit in 14 * 8..34 * 8 {
        let mut frame = good.clone();
        frame[bit / 8] ^= 1 << (bit % 8);
        assert!(matches!(class(&frame), Class::Drop(_)), "bit {bit}");
    }
    let mut frame = good;
    frame[26] ^= 0x10;
    assert_eq!(class(&frame), Class::Drop(Drop::IpChecksum));
    assert!(matches!(classify(&frame, &OURS, true), Class::Udp(_)));
}

#[test]
fn ipv6_headers_are_checked() {
    let good = Datagram::v6(&rtp(1, 2, 3)).frame();
    let cases = [
        (14, 0x4b, Drop::Malformed),
        (18, 0xff, Drop::Malformed),
        (20, 44, Drop::Fragment),
        (20, 0, Drop::IpOptions),
        (20, 43, Drop::IpOptions),
        (20, 60, Drop::IpOptions),
        (20, 58, Drop::Protocol),
        (20, 6, Drop::Protocol),
        (59, 7, Drop::Malformed),
        (58, 0xff, Drop::Malformed),
    ];
    for (at, value, reason) in cases {
        let mut frame = good.clone();
        frame[at] = value;
        assert_eq!(class(&frame), Class::Drop(reason), "{at} {value}");
    }
    let mut frame = good;
    frame[60..62].fill(0);
    assert_eq!(
        class(&frame),
        Class::Drop(Drop::Malformed),
        "no checksum over IPv6"
    );
}

#[test]
fn a_payload_longer_than_the_udp_length_is_padding() {
    let frame = altered(14, &[(24, 0), (25, 100)]);
    assert!(
        matches!(class(&frame), Class::Udp(udp) if udp.length == 100 && udp.packet_len() == 120)
    );
}

#[test]
fn arp_passes_to_us_and_to_everyone() {
    for vlan in [0, 5] {
        let mut frame = ethernet(vlan, 0x0806);
        frame.extend([0; 46]);
        assert_eq!(class(&frame), Class::Arp { vlan });
        frame[..6].fill(0xff);
        assert_eq!(class(&frame), Class::Arp { vlan });
        frame[..6].copy_from_slice(&[2, 0, 0, 0, 0, 0x42]);
        assert_eq!(class(&frame), Class::Drop(Drop::NotOurMac));
    }
}

#[test]
fn echo_requests_pass_and_no_other_icmp() {
    let destination = Ipv4Addr::new(192, 0, 2, 1).into();
    let echo = [(9, 1), (20, 8), (21, 0)];
    assert_eq!(
        class(&altered(14, &echo)),
        Class::Icmp {
            vlan: 0,
            destination
        }
    );
    assert_eq!(
        class(&altered(18, &echo)),
        Class::Icmp {
            vlan: 5,
            destination
        }
    );
    let unreachable = [(9, 1), (20, 3), (21, 3)];
    assert_eq!(
        class(&altered(14, &unreachable)),
        Class::Drop(Drop::Protocol)
    );
}

#[test]
fn other_protocols_are_dropped() {
    for kind in [0x88a8, 0x88cc, 0x8100, 0x0026] {
        let mut frame = ethernet(0, kind);
        frame.extend([0x81; 60]);
        assert_eq!(class(&frame), Class::Drop(Drop::Protocol));
    }
}

#[test]
fn neighbour_discovery_passes_to_us_and_to_groups() {
    let them: Ipv6Addr = "2001:db8::9".parse().unwrap();
    let us: Ipv6Addr = "2001:db8::1".parse().unwrap();
    for vlan in [0, 5] {
        let asked = nd_solicitation(THEIRS, them, vlan, us);
        let asks_for = Some(us);
        assert_eq!(class(&asked), Class::Nd { vlan, asks_for });
        let probe = nd_probe(THEIRS, them, vlan, us, OURS);
        assert_eq!(class(&probe), Class::Nd { vlan, asks_for });
        let told = nd_announcement(THEIRS, them, vlan);
        let asks_for = None;
        assert_eq!(class(&told), Class::Nd { vlan, asks_for });
        let mut other = asked.clone();
        other[..6].copy_from_slice(&[2, 0, 0, 0, 0, 0x42]);
        assert_eq!(class(&other), Class::Drop(Drop::NotOurMac));
        let l3 = if vlan == 0 { 14 } else { 18 };
        let mut router = asked.clone();
        router[l3 + 40] = 133;
        assert_eq!(class(&router), Class::Drop(Drop::NotOurMac));
        let mut short = probe.clone();
        short[l3 + 5] = 20;
        assert_eq!(class(&short), Class::Drop(Drop::Malformed));
        // A datagram to a group is nobody's.
        let mut media = Datagram::v6(&[1; 20]).frame();
        media[..6].copy_from_slice(&asked[..6]);
        assert_eq!(class(&media), Class::Drop(Drop::NotOurMac));
    }
}
