use crate::body::plain_sum;
use crate::support::{OURS, THEIRS, checksum, ethernet};
use penstock_relay::local::{
    ArpPacket, arp_announcement, arp_parse, arp_probe, arp_reply, arp_request, echo_reply,
};
use std::net::Ipv4Addr;

const US: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const THEM: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 9);

#[test]
fn a_request_is_these_octets() {
    let expected = [
        &[0xff; 6][..],
        &OURS,
        &[0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 1],
        &OURS,
        &[192, 0, 2, 1],
        &[0; 6],
        &[192, 0, 2, 9],
        &[0; 18],
    ]
    .concat();
    assert_eq!(arp_request(OURS, US, 0, THEM)[..], expected);
}

#[test]
fn a_tagged_reply_is_these_octets() {
    let request = arp_parse(&arp_request(THEIRS, THEM, 5, US)).unwrap();
    let expected = [
        &THEIRS[..],
        &OURS,
        &[0x81, 0x00, 0, 5, 0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 2],
        &OURS,
        &[192, 0, 2, 1],
        &THEIRS,
        &[192, 0, 2, 9],
        &[0; 14],
    ]
    .concat();
    assert_eq!(arp_reply(&request, OURS)[..], expected);
}

#[test]
fn what_is_built_is_understood() {
    for vlan in [0, 5] {
        let arp = ArpPacket {
            vlan,
            is_request: true,
            sender_mac: OURS,
            sender_ip: US,
            target_ip: THEM,
        };
        assert_eq!(arp_parse(&arp_request(OURS, US, vlan, THEM)), Some(arp));
        let probe = arp_probe(OURS, US, vlan, THEM, THEIRS);
        assert_eq!((&probe[..6], arp_parse(&probe)), (&THEIRS[..], Some(arp)));
        let announced = ArpPacket {
            target_ip: US,
            ..arp
        };
        assert_eq!(
            arp_parse(&arp_announcement(OURS, US, vlan)),
            Some(announced)
        );
        let answered = ArpPacket {
            is_request: false,
            sender_mac: THEIRS,
            sender_ip: THEM,
            target_ip: US,
            ..arp
        };
        assert_eq!(arp_parse(&arp_reply(&arp, THEIRS)), Some(answered));
    }
}

#[test]
fn what_is_not_arp_is_nothing() {
    let good = arp_request(THEIRS, THEM, 0, US);
    for len in 0..42 {
        assert_eq!(arp_parse(&good[..len]), None);
    }
    // Type, hardware, protocol, lengths, operation, a group as sender.
    for (at, value) in [
        (13, 0),
        (15, 6),
        (17, 1),
        (18, 8),
        (19, 16),
        (21, 3),
        (22, 0x03),
    ] {
        let mut frame = good;
        frame[at] = value;
        assert_eq!(arp_parse(&frame), None, "{at}");
    }
}

fn echo(vlan: u16, message: &[u8]) -> Vec<u8> {
    let mut ip = vec![
        0x45,
        0,
        0,
        28 + message.len() as u8,
        0x12,
        0x34,
        0x40,
        0,
        3,
        1,
        0,
        0,
    ];
    ip.extend(THEM.octets());
    ip.extend(US.octets());
    let sum = checksum(plain_sum(&ip));
    ip[10..12].copy_from_slice(&sum);
    let mut icmp = vec![8, 0, 0, 0, 0x11, 0x22, 0, 1];
    icmp.extend(message);
    let sum = checksum(plain_sum(&icmp));
    icmp[2..4].copy_from_slice(&sum);
    [ethernet(vlan, 0x0800), ip, icmp, vec![0xee; 3]].concat()
}

#[test]
fn an_echo_is_answered() {
    for (vlan, l3) in [(0, 14), (5, 18)] {
        for message in [&b""[..], b"odd", b"even"] {
            let mut frame = echo(vlan, message);
            let asked = frame.clone();
            assert_eq!(
                echo_reply(&mut frame, OURS),
                Some(asked.len() - 3),
                "no padding"
            );
            frame.truncate(asked.len() - 3);
            assert_eq!(frame[..12], [THEIRS, OURS].concat());
            assert_eq!(frame[12..l3], asked[12..l3]);
            let (ip, icmp) = frame[l3..].split_at(20);
            assert_eq!(ip[12..], [THEM_US_SWAPPED[0], THEM_US_SWAPPED[1]].concat());
            assert_eq!(ip[8], 64);
            assert_eq!(plain_sum(ip) % 0xffff, 0);
            assert_eq!(icmp[..2], [0, 0]);
            assert_eq!(icmp[4..8], [0x11, 0x22, 0, 1]);
            assert_eq!(&icmp[8..], message);
            assert_eq!(plain_sum(icmp) % 0xffff, 0);
        }
    }
}

const THEM_US_SWAPPED: [[u8; 4]; 2] = [US.octets(), THEM.octets()];

#[test]
fn what_is_no_sound_echo_is_not_answered() {
    let good = echo(0, b"sound");
    let end = good.len() - 3;
    for len in 0..end {
        assert_eq!(echo_reply(&mut good[..len].to_vec(), OURS), None);
    }
    for at in 14..end {
        let mut frame = good.clone();
        frame[at] ^= 1;
        let changed = frame.clone();
        assert_eq!(echo_reply(&mut frame, OURS), None, "octet {at}");
        assert_eq!(frame, changed);
    }
}
