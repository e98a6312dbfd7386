//! Whose a packet at a shared endpoint is.

use crate::support::{Datagram, asking, policy, rtp, slot, udp_of};
use penstock_relay::divide::{Member, Whose, divide, note};
use penstock_relay::route::{Peer, Policy};
use penstock_relay::{Drop, Pass, Rules, Stream, arrival, is_sink, judge, judge_at};
use penstock_shm::record::{Kind, Slot, StreamSpec};
use penstock_shm::tally::{SSRCS, Tally};
use penstock_shm::{Endpoint, Feed, Mid};
use proptest::collection::vec;
use proptest::prelude::*;

const AUDIO: u8 = 8;
const VIDEO: u8 = 96;
/// What every media may have.
const COMMON: u8 = 100;

fn base() -> Policy {
    policy(Datagram::v4(&[]).source)
}

fn of(change: impl FnOnce(&mut StreamSpec)) -> Slot {
    slot(&asking(base(), change))
}

fn mid(extension: u8, text: &str) -> Option<Mid> {
    let mut name = [0; 8];
    name[..text.len()].copy_from_slice(text.as_bytes());
    Some(Mid { extension, name })
}

fn types(types: &[u8]) -> u128 {
    types.iter().fold(0, |set, n| set | 1 << n)
}

/// An audio stream, a video stream and their RTCP; the last two are parts of the first one's endpoint, and so is a second
/// video.
struct Bench {
    slots: [Slot; 4],
    tallies: [Tally; 4],
}

const VIDEOS: Option<usize> = Some(0);
const SECOND: Option<usize> = Some(1);
const VIDEO_RTCP: Option<usize> = Some(2);

impl Bench {
    fn new() -> Bench {
        let parent = Endpoint { addr: 1, port: 1 };
        let part = |spec: &mut StreamSpec, media, name| {
            spec.feed = Feed::PartOf(parent);
            spec.media = media;
            spec.mid = mid(4, name);
        };
        let slots = [
            of(|spec| {
                spec.payload_types = types(&[AUDIO, COMMON]);
                spec.mid = mid(4, "a");
            }),
            of(|spec| {
                part(spec, 1, "video");
                spec.payload_types = types(&[VIDEO, COMMON]);
            }),
            of(|spec| {
                part(spec, 2, "12345678");
                spec.payload_types = types(&[97, COMMON]);
            }),
            of(|spec| {
                part(spec, 1, "video");
                spec.kind = Kind::Rtcp;
            }),
        ];
        Bench {
            slots,
            tallies: Default::default(),
        }
    }

    fn members(&self) -> Vec<Member<'_>> {
        let all = self.slots.iter().zip(&self.tallies);
        all.map(|(slot, tally)| Member { slot, tally }).collect()
    }

    fn whose(&self, payload: &[u8]) -> Whose {
        let members = self.members();
        let [four, six] = [Datagram::v4(payload), Datagram::v6(payload)].map(|datagram| {
            let frame = datagram.frame();
            divide(&frame, &udp_of(&frame), members[0], &members[1..])
        });
        assert_eq!(four, six);
        four
    }

    /// As the packet passes.
    fn passes(&self, payload: &[u8]) -> Option<usize> {
        let whose = self.whose(payload);
        if let Some(ssrc) = whose.ssrc {
            note(ssrc, whose.part, &self.members()[1..]);
        }
        whose.part
    }
}

/// RTP of this payload type and SSRC, with an extension header of this profile.
fn packet(payload_type: u8, ssrc: u32, extension: Option<(u16, &[u8])>) -> Vec<u8> {
    let mut packet = rtp(1, 2, ssrc);
    packet[1] = payload_type;
    if let Some((profile, elements)) = extension {
        packet[0] |= 0x10;
        let mut header = profile.to_be_bytes().to_vec();
        header.extend((elements.len().div_ceil(4) as u16).to_be_bytes());
        header.extend(elements);
        header.resize(header.len().next_multiple_of(4), 0);
        packet.splice(12..12, header);
    }
    packet
}

fn report(ssrc: u32) -> Vec<u8> {
    let mut packet = vec![0x80, 201, 0, 1];
    packet.extend(ssrc.to_be_bytes());
    packet
}

#[test]
fn payload_types_and_what_they_taught() {
    let bench = Bench::new();
    assert_eq!(bench.passes(&packet(AUDIO, 1, None)), None);
    assert_eq!(bench.passes(&packet(COMMON, 2, None)), None);
    assert_eq!(bench.passes(&packet(5, 2, None)), None, "of nobody");
    assert_eq!(bench.passes(&packet(VIDEO, 2, None)), VIDEOS);
    assert_eq!(bench.passes(&packet(COMMON, 2, None)), VIDEOS, "its SSRC");
    assert_eq!(bench.passes(&packet(97, 3, None)), SECOND);
    // What does not pass teaches nothing.
    assert_eq!(bench.whose(&packet(VIDEO, 4, None)).part, VIDEOS);
    assert_eq!(bench.passes(&packet(COMMON, 4, None)), None);
    // Anything else is for the whole port.
    for first in [0, 20, 64, 0xc0] {
        assert_eq!(bench.passes(&[first, VIDEO, 0, 0]), None);
    }
    assert_eq!(bench.passes(&[]), None);
}

#[test]
fn the_mid_comes_first() {
    let bench = Bench::new();
    let one: &[u8] = b"\x12abc\x00\x44video";
    let two: &[u8] = b"\x01\x00\x04\x08\x31\x32\x33\x34\x35\x36\x37\x38";
    let cases: [(u16, &[u8], Option<usize>); 9] = [
        (0xbede, one, VIDEOS),
        (0x1000, two, SECOND),
        (0x100f, two, SECOND),
        (0x1000, one, None),
        (0xbede, b"\x40a", None),
        (0xbede, b"\x43vide", None),
        (0xbede, b"\x34video", None),
        // Nothing counts behind number 15, nor what reaches beyond the header.
        (0xbede, b"\xf0\x00\x44video", None),
        (0xbede, b"\x00\x00\x44vi", None),
    ];
    for (ssrc, (profile, elements, part)) in (10..).zip(cases) {
        let packet = packet(COMMON, ssrc, Some((profile, elements)));
        assert_eq!(bench.passes(&packet), part, "{profile:x} {elements:02x?}");
    }
    // Whoever says another mid is another's from then on.
    let video = packet(COMMON, 10, Some((0xbede, b"\x44video")));
    let second = packet(COMMON, 10, Some((0xbede, b"\x4712345678")));
    let audio = packet(VIDEO, 10, Some((0xbede, b"\x40a")));
    for (packet, part) in [(&video, VIDEOS), (&second, SECOND), (&audio, None)] {
        assert_eq!(bench.passes(packet), part);
        assert_eq!(bench.passes(&self::packet(COMMON, 10, None)), part);
    }
}

#[test]
fn rtcp_goes_with_its_senders_media() {
    let bench = Bench::new();
    for (payload_type, ssrc) in [(AUDIO, 1), (VIDEO, 2), (97, 3)] {
        bench.passes(&packet(payload_type, ssrc, None));
    }
    assert_eq!(bench.passes(&report(1)), None);
    assert_eq!(bench.passes(&report(2)), VIDEO_RTCP);
    assert_eq!(bench.passes(&report(3)), SECOND, "it has none of its own");
    assert_eq!(bench.passes(&report(9)), None);
    assert_eq!(bench.passes(&report(2)[..7]), None);
    // Two streams at a port: RTP, and the RTCP of the same media.
    let mut muxed = Bench::new();
    muxed.slots[3].media = 0;
    assert_eq!(muxed.passes(&report(9)), VIDEO_RTCP);
}

/// As many SSRCs as there is room for are known, and the oldest makes room.
#[test]
fn ssrcs_are_bounded() {
    let bench = Bench::new();
    let last = SSRCS as u32 + 1;
    for ssrc in 1..=last {
        bench.passes(&packet(VIDEO, ssrc, None));
        bench.passes(&packet(VIDEO, ssrc, None));
    }
    assert_eq!(bench.passes(&packet(COMMON, 1, None)), None);
    for ssrc in 2..=last {
        assert_eq!(bench.passes(&packet(COMMON, ssrc, None)), VIDEOS);
    }
    assert!(!Tally::default().fed().knows(0));
}

/// The parent says who may send, the part what and whether.
#[test]
fn a_parts_source_is_its_parents() {
    let datagram = Datagram::v4(&packet(VIDEO, 1, None));
    let frame = datagram.frame();
    let udp = udp_of(&frame);
    let stranger = slot(&policy("192.0.2.200:1".parse().unwrap()));
    let [shut, open] = [false, true].map(|open| of(|spec| spec.gate_open = open));
    let verdict = |parent: &Slot, part: &Slot| {
        let (at, own) = (Tally::default(), Tally::default());
        let guard = arrival(parent, part);
        let (slot, tally, peer) = (&guard, &at, None);
        let at_stream = Stream { slot, tally, peer };
        let (slot, tally) = (part, &own);
        let stream = Stream { slot, tally, peer };
        let verdict = judge_at(&frame, &udp, at_stream, stream, &Rules::default(), 1);
        assert_eq!(u64::from(own.dropped()) + own.meter.packets.get(), 1);
        assert_eq!(u64::from(at.dropped()) + at.meter.packets.get(), 0);
        verdict
    };
    let pass = Ok(Pass {
        ask: None,
        held: None,
    });
    assert_eq!(verdict(&open, &stranger), pass, "its own remote is nothing");
    assert_eq!(verdict(&shut, &open), pass, "nor is the parent's gate");
    assert_eq!(verdict(&stranger, &open), Err(Drop::Source));
    assert_eq!(verdict(&open, &shut), Err(Drop::GateClosed));
}

/// What is wanted for its copies alone needs no route, and what comes to a fork's endpoint goes nowhere.
#[test]
fn sinks_need_no_route() {
    let datagram = Datagram::v4(&rtp(1, 2, 3));
    let frame = datagram.frame();
    let verdict = |slot: &Slot| {
        let (tally, peer) = (&Tally::default(), None);
        let stream = Stream { slot, tally, peer };
        judge(&frame, &udp_of(&frame), stream, &Rules::default(), 1).map(|pass| pass.held)
    };
    let unrouted = |policy: &Policy| penstock_relay::route::fill(policy, None, None, 1);
    let copied = Policy {
        copies: true,
        ..base()
    };
    let copy = asking(base(), |spec| {
        spec.feed = Feed::CopyOf(Endpoint { addr: 1, port: 9 });
    });
    assert_eq!(verdict(&unrouted(&base())), Err(Drop::NoRoute));
    for (slot, sink) in [
        (unrouted(&copied), true),
        (slot(&copied), false),
        (unrouted(&copy), true),
        (slot(&copy), true),
    ] {
        assert_eq!((verdict(&slot), is_sink(&slot)), (Ok(None), sink));
        assert_eq!(slot.usual_hop, Slot::NOT_USUAL);
    }
    let shares = Policy {
        parts: true,
        ..base()
    };
    assert_ne!(slot(&shares).usual_hop, Slot::NOT_USUAL);
    for policy in [&copied, &copy, &shares] {
        let peer = Some(Peer {
            record: 7,
            endpoint: policy.spec.peer,
        });
        let slot = penstock_relay::route::fill(policy, peer, None, 1);
        assert_eq!(&Policy::of_slot(&slot, policy.spec.endpoint), policy);
    }
}

proptest! {
    /// Whatever the octets, somebody is found, and only who is there.
    #[test]
    fn any_octets_are_somebodys(
        first in 0x80..=0xbfu8,
        rest in vec(prop_oneof![any::<u8>(), Just(0x40), Just(0xbe), Just(0xde), Just(0)], 0..80),
    ) {
        let bench = Bench::new();
        let payload = [&[first][..], &rest].concat();
        let whose = bench.whose(&payload);
        prop_assert!(whose.part.is_none_or(|part| part < 3));
        prop_assert_eq!(bench.passes(&payload), whose.part);
    }
}
