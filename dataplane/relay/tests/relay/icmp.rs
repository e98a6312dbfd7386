//! ICMPv6 echo, and the errors about ports that nobody has. (ICMP echo: `local`.)

use crate::body::plain_sum;
use crate::support::{Datagram, OURS, THEIRS, checksum, ethernet, udp_of};
use penstock_relay::local::{echo_reply, port_unreachable};
use std::net::Ipv6Addr;

const THEM: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 9);
const US: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);

fn sum6(packet: &[u8]) -> u64 {
    let (head, message) = packet.split_at(40);
    plain_sum(&head[8..]) + 58 + message.len() as u64 + plain_sum(message)
}

fn echo(vlan: u16, from: Ipv6Addr, to: Ipv6Addr, text: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0, 0, 8 + text.len() as u8, 58, 3];
    packet.extend(from.octets());
    packet.extend(to.octets());
    packet.extend([128, 0, 0, 0, 0x11, 0x22, 0, 1]);
    packet.extend(text);
    let sum = checksum(sum6(&packet));
    packet[42..44].copy_from_slice(&sum);
    [ethernet(vlan, 0x86dd), packet, vec![0xee; 3]].concat()
}

#[test]
fn an_echo_over_ipv6_is_answered() {
    for (vlan, l3) in [(0, 14), (5, 18)] {
        for text in [&b""[..], b"odd", b"even"] {
            let mut frame = echo(vlan, THEM, US, text);
            let asked = frame.clone();
            assert_eq!(echo_reply(&mut frame, OURS), Some(asked.len() - 3));
            frame.truncate(asked.len() - 3);
            assert_eq!(frame[..12], [THEIRS, OURS].concat());
            assert_eq!(frame[12..l3], asked[12..l3]);
            let packet = &frame[l3..];
            assert_eq!(packet[7], 64);
            assert_eq!(packet[8..40], [US.octets(), THEM.octets()].concat());
            assert_eq!(packet[40..42], [129, 0]);
            assert_eq!(packet[44..48], [0x11, 0x22, 0, 1]);
            assert_eq!(&packet[48..], text);
            assert_eq!(sum6(packet) % 0xffff, 0);
        }
    }
}

#[test]
fn an_echo_that_is_not_sound_or_concerns_a_group_is_not_answered() {
    let good = echo(0, THEM, US, b"sound");
    let end = good.len() - 3;
    for len in 0..end {
        assert_eq!(echo_reply(&mut good[..len].to_vec(), OURS), None);
    }
    // All but traffic class, flow label and hop limit.
    for at in (18..end).filter(|&at| at != 21) {
        let mut frame = good.clone();
        frame[at] ^= 1;
        let changed = frame.clone();
        assert_eq!(echo_reply(&mut frame, OURS), None, "octet {at}");
        assert_eq!(frame, changed);
    }
    let group = "ff02::1".parse().unwrap();
    for (from, to) in [(THEM, group), (group, US), (Ipv6Addr::UNSPECIFIED, US)] {
        assert_eq!(echo_reply(&mut echo(0, from, to, b"?"), OURS), None);
    }
}

#[test]
fn a_port_that_nobody_has_is_unreachable() {
    for vlan in [0, 5] {
        for size in [0, 100, 1400] {
            let mut asked = Datagram::v4(&vec![7; size]);
            (asked.vlan, asked.padding) = (vlan, 4);
            let frame = asked.frame();
            let error = port_unreachable(&frame, &udp_of(&frame), OURS).unwrap();
            let l3 = asked.l3();
            assert_eq!(error[..12], [THEIRS, OURS].concat());
            let (ip, message) = error[l3..].split_at(20);
            assert_eq!((plain_sum(ip) % 0xffff, ip[9]), (0, 1));
            assert_eq!(ip[12..], [192, 0, 2, 1, 198, 51, 100, 7]);
            assert_eq!(message[..2], [3, 3]);
            assert_eq!(plain_sum(message) % 0xffff, 0);
            let quoted = (28 + size).min(548);
            assert_eq!(message[8..], frame[l3..l3 + quoted]);
            assert_eq!(usize::from(ip[2]) << 8 | usize::from(ip[3]), 28 + quoted);

            let mut asked = Datagram::v6(&vec![7; size]);
            (asked.vlan, asked.padding) = (vlan, 4);
            let frame = asked.frame();
            let error = port_unreachable(&frame, &udp_of(&frame), OURS).unwrap();
            let packet = &error[l3..];
            assert_eq!(packet[8..24], frame[l3 + 24..l3 + 40]);
            assert_eq!(packet[24..40], frame[l3 + 8..l3 + 24]);
            assert_eq!((packet[6], &packet[40..42]), (58, &[1, 4][..]));
            assert_eq!(sum6(packet) % 0xffff, 0);
            let quoted = (48 + size).min(1232);
            assert_eq!(packet[48..], frame[l3..l3 + quoted]);
        }
    }
}

#[test]
fn no_error_goes_to_or_about_a_group() {
    let good = Datagram::v4(b"?");
    for source in [
        "0.0.0.0:5",
        "224.0.0.5:5",
        "255.255.255.255:5",
        "127.0.0.1:5",
    ] {
        let source = source.parse().unwrap();
        let frame = Datagram {
            source,
            ..good.clone()
        }
        .frame();
        assert_eq!(port_unreachable(&frame, &udp_of(&frame), OURS), None);
    }
    for source in ["[::]:5", "[ff02::1]:5"] {
        let source = source.parse().unwrap();
        let frame = Datagram {
            source,
            ..Datagram::v6(b"?")
        }
        .frame();
        assert_eq!(port_unreachable(&frame, &udp_of(&frame), OURS), None);
    }
    let mut frame = good.frame();
    let udp = udp_of(&frame);
    frame[..6].fill(0xff);
    assert_eq!(port_unreachable(&frame, &udp, OURS), None);
}
