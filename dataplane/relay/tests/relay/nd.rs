//! Neighbour solicitations and advertisements: octets, and what is not believed.

use crate::body::plain_sum;
use crate::support::{OURS, THEIRS, checksum};
use penstock_relay::local::{
    NdKind, NdPacket, nd_advertisement, nd_announcement, nd_parse, nd_probe, nd_solicitation,
};
use std::net::Ipv6Addr;

fn ip(text: &str) -> Ipv6Addr {
    text.parse().unwrap()
}

fn us() -> Ipv6Addr {
    ip("2001:db8::1")
}

fn them() -> Ipv6Addr {
    ip("2001:db8::aa:bbcc")
}

/// Makes the checksum of an untagged message right again.
fn mend(frame: &mut [u8]) {
    let (head, message) = frame[14..].split_at_mut(40);
    message[2..4].fill(0);
    let pseudo = plain_sum(&head[8..]) + 58 + message.len() as u64;
    let sum = checksum(pseudo + plain_sum(message));
    message[2..4].copy_from_slice(&sum);
}

#[test]
fn a_solicitation_is_these_octets() {
    let mut expected = [
        &[0x33, 0x33, 0xff, 0xaa, 0xbb, 0xcc][..],
        &OURS,
        &[0x86, 0xdd, 0x60, 0, 0, 0, 0, 32, 58, 255],
        &us().octets(),
        &ip("ff02::1:ffaa:bbcc").octets(),
        &[135, 0, 0, 0, 0, 0, 0, 0],
        &them().octets(),
        &[1, 1],
        &OURS,
    ]
    .concat();
    mend(&mut expected);
    assert_eq!(nd_solicitation(OURS, us(), 0, them()), expected);
}

#[test]
fn an_answer_is_these_octets() {
    let asked = nd_parse(&nd_solicitation(THEIRS, them(), 5, us())).unwrap();
    let mut expected = [
        &THEIRS[..],
        &OURS,
        &[0x86, 0xdd, 0x60, 0, 0, 0, 0, 32, 58, 255],
        &us().octets(),
        &them().octets(),
        &[136, 0, 0, 0, 0x60, 0, 0, 0],
        &us().octets(),
        &[2, 1],
        &OURS,
    ]
    .concat();
    mend(&mut expected);
    expected.splice(12..12, [0x81, 0x00, 0, 5]);
    assert_eq!(nd_advertisement(&asked, OURS), expected);
}

#[test]
fn what_is_built_is_understood() {
    for vlan in [0, 5] {
        let asked = NdPacket {
            vlan,
            kind: NdKind::Solicitation,
            source: us(),
            destination: ip("ff02::1:ffaa:bbcc"),
            target: them(),
            mac: Some(OURS),
            link_source: OURS,
        };
        let frame = nd_solicitation(OURS, us(), vlan, them());
        assert_eq!(nd_parse(&frame), Some(asked));
        let probe = nd_probe(OURS, us(), vlan, them(), THEIRS);
        assert_eq!(probe[..6], THEIRS);
        let destination = them();
        let probed = NdPacket {
            destination,
            ..asked
        };
        assert_eq!(nd_parse(&probe), Some(probed));
        let told = NdPacket {
            kind: NdKind::Advertisement { solicited: false },
            destination: ip("ff02::1"),
            target: us(),
            ..asked
        };
        assert_eq!(nd_parse(&nd_announcement(OURS, us(), vlan)), Some(told));
        // Who looks whether an address is free hears of it with everyone (RFC 4861, 7.2.4).
        let looking = NdPacket {
            source: Ipv6Addr::UNSPECIFIED,
            target: us(),
            mac: None,
            ..asked
        };
        assert_eq!(
            nd_advertisement(&looking, OURS),
            nd_announcement(OURS, us(), vlan)
        );
    }
}

#[test]
fn what_is_not_sound_is_nothing() {
    let asked = nd_solicitation(THEIRS, them(), 0, us());
    for len in 0..asked.len() {
        assert_eq!(nd_parse(&asked[..len]), None, "{len}");
    }
    // Any octet that the checksum covers: addresses, length, next header, message.
    for at in (18..asked.len()).filter(|&at| at != 21) {
        let mut frame = asked.clone();
        frame[at] ^= 1;
        assert_eq!(nd_parse(&frame), None, "octet {at}");
    }
    let answer = nd_advertisement(&nd_parse(&asked).unwrap(), OURS);
    // A router was in between; a code; a group as target, as source; an option of no length, of another;
    // a group's MAC. With a checksum that is right.
    for (at, value) in [
        (21, 254),
        (55, 1),
        (62, 0xff),
        (22, 0xff),
        (79, 0),
        (79, 2),
        (80, 0x03),
    ] {
        for good in [&asked, &answer] {
            let mut frame = good.clone();
            assert!(nd_parse(&frame).is_some());
            frame[at] = value;
            mend(&mut frame);
            assert_eq!(nd_parse(&frame), None, "{at} {value}");
        }
    }
    // An answer to everyone is none; whoever has no address yet names no MAC.
    let mut frame = answer;
    frame[38..54].copy_from_slice(&ip("ff02::1").octets());
    mend(&mut frame);
    assert_eq!(nd_parse(&frame), None);
    let mut frame = asked;
    frame[22..38].fill(0);
    mend(&mut frame);
    assert_eq!(nd_parse(&frame), None);
}

#[test]
fn other_options_are_passed_over_and_none_is_fine() {
    let mut frame = nd_solicitation(THEIRS, them(), 0, us());
    let nonce = [14, 1, 9, 9, 9, 9, 9, 9];
    frame.splice(78..78, nonce);
    frame[19] += 8;
    mend(&mut frame);
    assert_eq!(nd_parse(&frame).unwrap().mac, Some(THEIRS));
    frame.truncate(78);
    frame[19] = 24;
    mend(&mut frame);
    assert_eq!(nd_parse(&frame).unwrap().mac, None);
    assert_eq!(
        nd_advertisement(&nd_parse(&frame).unwrap(), OURS)[..6],
        THEIRS
    );
}
