//! The short way against the long one: see [`relay`].

use crate::body::{Way, relay};
use crate::rewrite::endpoints;
use crate::support::{Datagram, OURS, egress, policy, rtp, slot, udp_of};
use penstock_relay::route::{self, Egress, Policy};
use penstock_relay::usual::{Mac, glance, pass};
use penstock_relay::{L2Header, LocalAddrs};
use penstock_shm::record::{Kind, Learn, Meter, Slot, flag};
use proptest::prelude::*;

const UNCHECKED: ([u8; 6], bool) = (OURS, false);

fn way(frame: &[u8], slot: &Slot) -> Option<Way> {
    relay(frame, UNCHECKED, slot, &Default::default(), 1_000)
}

fn ordinary() -> Datagram {
    Datagram::v4(&rtp(1, 2, 3))
}

/// A frame with some octets behind the IP header changed.
fn altered(changes: &[(usize, u8)]) -> Vec<u8> {
    let mut frame = ordinary().frame();
    for &(at, value) in changes {
        frame[at] = value;
    }
    frame
}

#[test]
fn ordinary_packets_go_the_short_way() {
    let slot = slot(&policy(ordinary().source));
    let meters = Default::default();
    for seq in 0..500u16 {
        let frame = Datagram::v4(&rtp(seq, u32::from(seq) * 160, 3)).frame();
        let now_ns = u64::from(seq) * 20_000_000;
        let way = relay(&frame, UNCHECKED, &slot, &meters, now_ns);
        assert_eq!(way, Some(Way::Short), "{seq}");
    }
    assert_eq!(meters[0].packets.get(), 500);
    for changes in [
        &[(40, 0), (41, 0)][..], // no checksum
        &[(42, 0xa0)],           // padding
        &[(43, 0x88)],           // marker
        &[(43, 191)],
        &[(43, 224)],
    ] {
        assert_eq!(way(&altered(changes), &slot), Some(Way::Short));
    }
    let shortest = Datagram::v4(&rtp(1, 2, 3)[..12]).frame();
    assert_eq!(way(&shortest, &slot), Some(Way::Short));
    let latched = Policy {
        latched: true,
        learn: Learn::Immediate,
        ..policy(ordinary().source)
    };
    let latched = crate::support::slot(&latched);
    assert_eq!(way(&ordinary().frame(), &latched), Some(Way::Short));
    let mut wrong = ordinary().frame();
    wrong[24] ^= 1;
    assert_eq!(way(&wrong, &slot), None, "the IPv4 checksum");
    let checked = relay(&wrong, (OURS, true), &slot, &Default::default(), 1_000);
    assert_eq!(checked, Some(Way::Short));
}

#[test]
fn what_is_less_usual_goes_the_long_way() {
    let slot = slot(&policy(ordinary().source));
    let (mut tagged, mut padded) = (ordinary(), ordinary());
    (tagged.vlan, padded.padding) = (5, 1);
    let mut shorter = ordinary().frame();
    shorter[39] -= 1; // the UDP length: an octet of IP payload behind it
    for frame in [
        tagged.frame(),
        padded.frame(),
        shorter,
        altered(&[(42, 0x81)]),
        altered(&[(42, 0x90), (56, 0), (57, 1)]),
        altered(&[(43, 200), (44, 0), (45, 6)]),
    ] {
        assert_eq!(way(&frame, &slot), Some(Way::Long), "{:x?}", &frame[12..46]);
    }
    let v6 = Datagram::v6(&rtp(1, 2, 3));
    let slot6 = crate::support::slot(&policy(v6.source));
    assert_eq!(way(&v6.frame(), &slot6), Some(Way::Long));
    let sound = policy(ordinary().source);
    for policy in [
        Policy {
            locked: false,
            learn: Learn::Immediate,
            ..sound
        },
        Policy {
            kind: Kind::Raw,
            ..sound
        },
    ] {
        let slot = crate::support::slot(&policy);
        assert_eq!(way(&ordinary().frame(), &slot), Some(Way::Long));
    }
}

#[test]
fn nothing_forbidden_slips_through() {
    let sound = slot(&policy(ordinary().source));
    let without = |bit: u16| Slot {
        flags: sound.flags & !bit,
        ..sound
    };
    let other = |remote: &str| slot(&policy(remote.parse().unwrap()));
    for slot in [
        without(flag::GATE_OPEN),
        without(flag::LOCKED),
        without(flag::ROUTED),
        Slot {
            flags: sound.flags | flag::EGRESS_V6,
            ..sound
        },
        other("198.51.100.7:40001"),
        other("198.51.100.8:40000"),
        Slot { mtu: 199, ..sound },
        Slot::CLOSED,
    ] {
        assert_eq!(way(&ordinary().frame(), &slot), None, "{:b}", slot.flags);
    }
    let l2 = L2Header::new(OURS, OURS, 0);
    let v6 = Slot {
        flags: sound.flags | flag::V6,
        ..sound
    };
    let mut frame = ordinary().frame();
    assert!(!pass(&mut frame, &v6, &Meter::default(), &l2, 0));
    assert_eq!(way(&altered(&[(42, 0x40)]), &sound), None, "RTP version 1");
    assert_eq!(way(&altered(&[(5, 9)]), &sound), None, "another MAC");
    let frame = ordinary().frame();
    for len in 0..frame.len() {
        assert_eq!(way(&frame[..len], &sound), None);
        let mut headers = frame[..len.min(53)].to_vec();
        assert!(!pass(&mut headers, &sound, &Meter::default(), &l2, 0));
    }
}

/// Frames whose length is that of the datagram but for a multiple of 2^16.
#[test]
fn no_length_is_mistaken_for_another() {
    let slot = Slot {
        mtu: u16::MAX,
        ..slot(&policy(ordinary().source))
    };
    for (len, expected) in [(0x10000 - 29, Some(Way::Short)), (0x10000 + 180, None)] {
        let payload = rtp(1, 2, 3).into_iter().cycle().take(len);
        let mut frame = ordinary().frame();
        frame.truncate(42);
        frame.extend(payload);
        let total = (frame.len() - 14) as u16;
        frame[16..18].copy_from_slice(&total.to_be_bytes());
        frame[38..40].copy_from_slice(&(total.wrapping_sub(20)).to_be_bytes());
        let taken = glance(&frame, Mac::new(OURS), true);
        assert_eq!(taken.is_some(), expected.is_some(), "{len}");
        let way = relay(&frame, (OURS, true), &slot, &Default::default(), 0);
        assert_eq!(way == Some(Way::Short), expected.is_some(), "{len}");
    }
}

#[test]
fn each_octet_of_the_mac_counts() {
    let frame = ordinary().frame();
    assert!(glance(&frame, Mac::new(OURS), false).is_some());
    for bit in 0..48 {
        let mut other = OURS;
        other[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(glance(&frame, Mac::new(other), false), None, "bit {bit}");
    }
}

#[test]
fn both_ways_find_the_same_address() {
    let frame = ordinary().frame();
    let mut addrs = LocalAddrs::new();
    let glance = glance(&frame, Mac::new(OURS), false).unwrap();
    for (vlan, number) in [(0, 7), (5, 8)] {
        let address = ordinary().destination.ip();
        addrs.insert(vlan, address, number).unwrap();
    }
    assert_eq!(addrs.get4(0, glance.destination), Some(7));
    assert_eq!(addrs.find(&frame, &udp_of(&frame)), Some(7));
}

/// Slots whose `udp_delta` lies at each edge, and the delta.
fn edges() -> Vec<(Slot, Option<u16>)> {
    let from = ordinary().source;
    let unchanged = Egress {
        source: ordinary().destination,
        destination: from,
        ..egress(false)
    };
    let with_source_port = |by: u16| {
        let mut egress = unchanged;
        egress
            .source
            .set_port(egress.source.port().wrapping_add(by));
        route::fill(&policy(from), None, Some(&egress), 1)
    };
    // Old and new sums agree, so the delta is a zero: 0xffff is how it is written, 0 does as well.
    let none = with_source_port(0);
    let zero = Slot {
        udp_delta: 0,
        ..none
    };
    let one = u16::from_ne_bytes([0, 1]);
    vec![
        (none, Some(0xffff)),
        (zero, Some(0)),
        (with_source_port(1), Some(!one)),
        (with_source_port(u16::MAX), Some(one)),
        (slot(&policy(from)), None),
    ]
}

#[test]
fn every_checksum_leaves_alike_at_every_edge() {
    for (slot, delta) in edges() {
        assert_eq!(slot.udp_delta, delta.unwrap_or(slot.udp_delta));
        let mut frame = Datagram::v4(&rtp(1, 2, 3)[..12]).frame();
        for checksum in 0..=u16::MAX {
            frame[40..42].copy_from_slice(&checksum.to_be_bytes());
            assert_eq!(way(&frame, &slot), Some(Way::Short), "{checksum:04x}");
        }
    }
}

/// Whatever the number, `udp_delta` reaches it and both ways agree.
#[test]
fn every_delta_leaves_alike() {
    let from = ordinary().source;
    let mut frame = Datagram::v4(&rtp(1, 2, 3)[..12]).frame();
    let mut reached = 0;
    for port in 1..=u16::MAX {
        let mut egress = egress(false);
        egress.source.set_port(port);
        let slot = route::fill(&policy(from), None, Some(&egress), 1);
        reached += usize::from(matches!(slot.udp_delta, 1 | 0xfffe | 0xffff));
        for checksum in [0, 1, 0x1234, 0xfffe, 0xffff] {
            frame[40..42].copy_from_slice(&u16::to_be_bytes(checksum));
            assert_eq!(way(&frame, &slot), Some(Way::Short), "{port} {checksum:x}");
        }
    }
    assert_eq!(reached, 3);
}

fn headers() -> impl Strategy<Value = Vec<([u8; 12], u64)>> {
    let header = (any::<[u8; 12]>(), 0u16..4, 0u8..8).prop_map(|(mut header, ahead, wild)| {
        header[0] = if wild == 7 { header[0] } else { 0x80 };
        header[1] = if wild == 6 { header[1] } else { 8 };
        if wild < 5 {
            header[2..4].copy_from_slice(&ahead.to_be_bytes());
            header[8..].fill(1);
        }
        header
    });
    prop::collection::vec((header, any::<u64>()), 1..60)
}

proptest! {
    /// A whole history: sequence numbers that go on, jump and restart, other sources, packets that are
    /// no RTP or RTCP between them.
    #[test]
    fn meters_stay_alike(headers in headers(), clock_hz in prop_oneof![Just(8000u32), any::<u32>()]) {
        let stream = Policy { clock_hz, ..policy(ordinary().source) };
        let (slot, meters) = (slot(&stream), Default::default());
        let mut seq = 0u16;
        for (mut header, now_ns) in headers {
            seq = seq.wrapping_add(u16::from_be_bytes([header[2], header[3]]));
            header[2..4].copy_from_slice(&seq.to_be_bytes());
            relay(&Datagram::v4(&header).frame(), UNCHECKED, &slot, &meters, now_ns);
        }
    }

    #[test]
    fn any_addresses_leave_alike((source, destination, egress) in endpoints(false), payload in prop::collection::vec(0u8.., 10..200)) {
        let payload = [&[0x80, 8][..], &payload].concat();
        let frame = Datagram { source, destination, ..Datagram::v4(&payload) }.frame();
        let slot = route::fill(&policy(source), None, Some(&egress), 1);
        prop_assert_eq!(way(&frame, &slot), Some(Way::Short));
    }
}
