//! The short way against the long one: see [`relay`].

use crate::body::{Way, owned, relay, usual};
use crate::rewrite::endpoints;
use crate::support::{Datagram, OURS, asking, egress, policy, rtp, slot, udp_of};
use penstock_relay::route::{self, Egress, Policy};
use penstock_relay::usual::{LastAddress, Mac, Usual};
use penstock_relay::{L2Header, LocalAddrs};
use penstock_shm::record::{Endpoint, Kind, Learn, Slot};
use penstock_shm::tally::Last;
use proptest::prelude::*;
use std::sync::atomic::Ordering::Relaxed;

const UNCHECKED: ([u8; 6], bool) = (OURS, false);

fn way(frame: &[u8], slot: &Slot) -> Option<Way> {
    way_at(frame, UNCHECKED, slot)
}

/// How a frame passes whose stream has seen the same before.
fn way_at(frame: &[u8], port: ([u8; 6], bool), slot: &Slot) -> Option<Way> {
    let meters = owned();
    relay(frame, port, slot, &meters, 1_000);
    relay(frame, port, slot, &meters, 1_000)
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
    let meters = owned();
    for seq in 0..500u16 {
        let frame = Datagram::v4(&rtp(seq, u32::from(seq) * 160, 3)).frame();
        let now_ns = u64::from(seq) * 20_000_000;
        let way = relay(&frame, UNCHECKED, &slot, &meters, now_ns);
        let expected = if seq == 0 { Way::Long } else { Way::Short };
        assert_eq!(way, Some(expected), "{seq}");
    }
    assert_eq!(meters[0].meter.packets.get(), 500);
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
    for payload in [&rtp(1, 2, 3)[..], &rtp(1, 2, 3)[..12]] {
        let v6 = Datagram::v6(payload);
        let slot = crate::support::slot(&policy(v6.source));
        assert_eq!(way(&v6.frame(), &slot), Some(Way::Short));
        // Traffic class, flow label and hop limit are nobody's but the link's.
        let mut frame = v6.frame();
        (frame[14], frame[15], frame[21]) = (0x6b, 0x8f, 3);
        assert_eq!(way(&frame, &slot), Some(Way::Short));
    }
    let latched = Policy {
        latched: true,
        ..asking(policy(ordinary().source), |spec| {
            spec.learn = Learn::Immediate
        })
    };
    let latched = crate::support::slot(&latched);
    assert_eq!(way(&ordinary().frame(), &latched), Some(Way::Short));
    let mut wrong = ordinary().frame();
    wrong[24] ^= 1;
    assert_eq!(way(&wrong, &slot), None, "the IPv4 checksum");
    let checked = way_at(&wrong, (OURS, true), &slot);
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
        altered(&[(43, 200), (44, 0), (45, 42)]),
    ] {
        assert_eq!(way(&frame, &slot), Some(Way::Long), "{:x?}", &frame[12..46]);
    }
    let v6 = Datagram::v6(&rtp(1, 2, 3));
    let slot6 = crate::support::slot(&policy(v6.source));
    let mut padded = Datagram::v6(&rtp(1, 2, 3));
    padded.padding = 1;
    assert_eq!(way(&padded.frame(), &slot6), Some(Way::Long));
    let sound = policy(ordinary().source);
    for policy in [
        Policy {
            locked: false,
            ..asking(sound, |spec| spec.learn = Learn::Immediate)
        },
        asking(sound, |spec| spec.kind = Kind::Raw),
        asking(sound, |spec| spec.capture = true),
        asking(sound, |spec| spec.event_type = 8),
        asking(sound, |spec| spec.payload_types = 1),
    ] {
        let slot = crate::support::slot(&policy);
        assert_eq!(way(&ordinary().frame(), &slot), Some(Way::Long));
    }
    for (datagram, to6) in [(ordinary(), true), (v6, false)] {
        let slot = route::fill(&policy(datagram.source), None, Some(&egress(to6)), 1);
        assert_eq!(way(&datagram.frame(), &slot), Some(Way::Long));
    }
}

/// Each of these ends the sequence, or belongs to another: it goes the long way, once or for good.
#[test]
fn what_does_not_go_on_with_the_sequence_goes_the_long_way() {
    let slot = slot(&policy(ordinary().source));
    let ways = |headers: [(u8, u16, u32); 3]| {
        let meters = owned();
        headers.map(|(payload_type, seq, ssrc)| {
            let mut payload = rtp(seq, u32::from(seq) * 160, ssrc);
            payload[1] = payload_type;
            let now_ns = u64::from(seq) * 20_000_000;
            relay(
                &Datagram::v4(&payload).frame(),
                UNCHECKED,
                &slot,
                &meters,
                now_ns,
            )
        })
    };
    let (long, short) = (Some(Way::Long), Some(Way::Short));
    for (headers, expected) in [
        ([(8, 1, 3), (8, 2, 3), (8, 2, 3)], [long, short, short]),
        ([(8, 1, 3), (8, 3, 3), (8, 4, 3)], [long, long, short]),
        ([(8, 1, 3), (101, 2, 3), (101, 3, 3)], [long, long, short]),
        ([(8, 1, 3), (8, 2, 4), (8, 3, 4)], [long, long, short]),
        ([(8, 1, 3), (8, 3000, 3), (8, 3001, 3)], [long, long, short]),
        ([(8, 1, 3), (8, 3001, 3), (8, 3002, 3)], [long, long, long]),
        ([(8, 9, 3), (8, 8, 3), (8, 10, 3)], [long, long, short]),
        // Payload type 72 with a marker is a sender report.
        ([(72, 1, 3), (72, 2, 3), (72, 3, 3)], [long, long, long]),
    ] {
        assert_eq!(ways(headers), expected, "{headers:?}");
    }
    let (frame, meters) = (ordinary().frame(), owned());
    relay(&frame, UNCHECKED, &slot, &meters, 1_000);
    for tally in &meters {
        let others = Last::of_owner(2).after(8, Last::IN_SEQUENCE, true);
        tally.meter.last.store(others.to_bits(), Relaxed);
    }
    let mut copy = frame.clone();
    let l2 = L2Header::new(OURS, OURS, 0).untagged().unwrap();
    let mut packet = usual(&mut copy, OURS, false).unwrap();
    assert!(
        !packet.pass(&slot, &meters[0].meter, &l2, Last::guard(1), 1_000),
        "another's stream"
    );
    assert!(packet.pass(&slot, &meters[0].meter, &l2, Last::guard(2), 1_000));
}

/// Whatever the payload type before, and whatever the first two octets after it.
#[test]
fn the_first_octets_are_judged_alike() {
    let slot = slot(&policy(ordinary().source));
    for payload_type in [0, 8, 63, 64, 72, 95, 96, 127] {
        for first in 0..=255 {
            for second in [payload_type, payload_type | 0x80] {
                let meters = owned();
                for (first, second, seq) in [(0x80, payload_type, 1), (first, second, 2)] {
                    let mut payload = rtp(seq, 160, 3);
                    (payload[0], payload[1]) = (first, second);
                    let frame = Datagram::v4(&payload).frame();
                    relay(&frame, UNCHECKED, &slot, &meters, 1_000);
                }
            }
        }
    }
}

#[test]
fn nothing_forbidden_slips_through() {
    let from = ordinary().source;
    let sound = policy(from);
    let unrouted = |policy: &Policy| route::fill(policy, None, None, 1);
    let closed = asking(sound, |spec| spec.gate_open = false);
    let unlocked = Policy {
        locked: false,
        ..sound
    };
    let rtcp = asking(sound, |spec| spec.kind = Kind::Rtcp);
    let other = |remote: &str| slot(&policy(remote.parse().unwrap()));
    for unusual in [
        slot(&closed),
        slot(&unlocked),
        slot(&rtcp),
        unrouted(&sound),
        Slot::CLOSED,
    ] {
        assert_eq!(unusual.usual_hop, Slot::NOT_USUAL, "{:b}", unusual.flags);
        assert_eq!(
            way(&ordinary().frame(), &unusual),
            None,
            "{:b}",
            unusual.flags
        );
    }
    let v6 = Datagram::v6(&rtp(1, 2, 3));
    let slot6 = slot(&policy(v6.source));
    assert_ne!(slot6.usual_hop, Slot::NOT_USUAL);
    assert_eq!(way(&ordinary().frame(), &slot6), None);
    let other6 = |remote: &str| slot(&policy(remote.parse().unwrap()));
    for slot in [
        other6("[2001:db8::77:1]:40000"),
        slot(&policy(std::net::SocketAddr::new(v6.source.ip(), 1))),
        Slot {
            longest: 219,
            ..slot6
        },
    ] {
        assert_eq!(way(&v6.frame(), &slot), None);
    }
    // Without a checksum (RFC 8200, 8.1), behind an extension header, of IP version 7.
    for (at, value) in [(60, 0), (20, 0), (14, 0x70)] {
        let mut frame = v6.frame();
        frame[at] = value;
        frame[at + usize::from(at == 60)] = value;
        assert_eq!(way(&frame, &slot6), None, "{at}");
    }
    let sound = slot(&sound);
    for slot in [
        other("198.51.100.7:40001"),
        other("198.51.100.8:40000"),
        Slot {
            longest: 199,
            ..sound
        },
    ] {
        assert_eq!(way(&ordinary().frame(), &slot), None);
    }
    assert_eq!(way(&altered(&[(42, 0x40)]), &sound), None, "RTP version 1");
    assert_eq!(way(&altered(&[(5, 9)]), &sound), None, "another MAC");
    let frame = ordinary().frame();
    for len in 0..frame.len() {
        assert_eq!(way(&frame[..len], &sound), None);
    }
}

/// Frames whose length is that of the datagram but for a multiple of 2^16.
#[test]
fn no_length_is_mistaken_for_another() {
    let slot = Slot {
        longest: u16::MAX,
        ..slot(&policy(ordinary().source))
    };
    for (len, expected) in [(0x10000 - 43, Way::Short), (0x10000 + 180, Way::Long)] {
        let payload = rtp(1, 2, 3).into_iter().cycle().take(len);
        let mut frame = ordinary().frame();
        frame.truncate(42);
        frame.extend(payload);
        let total = (frame.len() - 14) as u16;
        frame[16..18].copy_from_slice(&total.to_be_bytes());
        frame[38..40].copy_from_slice(&(total.wrapping_sub(20)).to_be_bytes());
        let taken = usual(&mut frame.clone(), OURS, true).is_some();
        assert_eq!(taken, expected == Way::Short, "{len}");
        let way = way_at(&frame, (OURS, true), &slot);
        assert_eq!(way, Some(expected), "{len}");
    }
}

#[test]
fn each_octet_of_the_mac_counts() {
    let mut frame = ordinary().frame();
    assert!(usual(&mut frame, OURS, false).is_some());
    for bit in 0..48 {
        let mut other = OURS;
        other[bit / 8] ^= 1 << (bit % 8);
        assert!(usual(&mut frame, other, false).is_none(), "bit {bit}");
    }
}

#[test]
fn both_ways_find_the_same_address() {
    let mut frame = ordinary().frame();
    let mut addrs = LocalAddrs::new();
    let mut last = LastAddress::NONE;
    let of = |frame: &mut [u8], addrs: &LocalAddrs, last: &mut LastAddress| {
        Usual::of(frame, Mac::new(OURS), addrs, last, false)
            .map(|found| Endpoint::from_bits(found.endpoint))
    };
    assert_eq!(of(&mut frame, &addrs, &mut last), None, "nobody's address");
    for (vlan, number) in [(0, 7), (5, 8)] {
        let address = ordinary().destination.ip();
        addrs.insert(vlan, address, number).unwrap();
    }
    let endpoint = Endpoint {
        addr: 7,
        port: 20_000,
    };
    for _ in 0..2 {
        assert_eq!(of(&mut frame, &addrs, &mut last), Some(endpoint));
    }
    assert_eq!(addrs.find(&frame, &udp_of(&frame)), Some(7));
    // The address before is not taken for this one.
    let mut other = Datagram {
        destination: "192.0.2.2:20000".parse().unwrap(),
        ..ordinary()
    }
    .frame();
    assert_eq!(of(&mut other, &addrs, &mut last), None);
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
        let stream = asking(policy(ordinary().source), |spec| spec.clock_hz = clock_hz);
        let (slot, meters) = (slot(&stream), owned());
        let mut seq = 0u16;
        for (mut header, now_ns) in headers {
            seq = seq.wrapping_add(u16::from_be_bytes([header[2], header[3]]));
            header[2..4].copy_from_slice(&seq.to_be_bytes());
            relay(&Datagram::v4(&header).frame(), UNCHECKED, &slot, &meters, now_ns);
        }
    }

    #[test]
    fn any_addresses_leave_alike((source, destination, egress) in endpoints(false, false), payload in prop::collection::vec(0u8.., 10..200)) {
        let payload = [&[0x80, 8][..], &payload].concat();
        let frame = Datagram { source, destination, ..Datagram::v4(&payload) }.frame();
        let expected = if egress.copy_dscp { Way::Long } else { Way::Short };
        let slot = route::fill(&policy(source), None, Some(&egress), 1);
        prop_assert_eq!(way(&frame, &slot), Some(expected));
    }
}
