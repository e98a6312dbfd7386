//! One body for the fuzz target and for the tests that run its corpus: whatever the frame, nothing
//! panics, what passes leaves as the same datagram under new headers, and the short way of
//! [`penstock_relay::usual`] does what the long way does.
//!
//! Input: sixteen octets that choose the stream ([`Choice`]), then the frame.

use penstock_relay::divide::{Member, divide, note};
use penstock_relay::route::{self, Egress, Policy};
use penstock_relay::usual::{Found, LastAddress, Mac, Usual};
use penstock_relay::{
    Class, Drop, L2Header, LocalAddrs, Pass, Rules, Stream, Udp, classify, is_kernels, judge,
    local, may_enter, meter, rewrite, source,
};
use penstock_shm::record::{
    Dscp, Endpoint, Kind, Learn, Slot, StreamSpec, digest_address, flag, rank,
};
use penstock_shm::tally::{Detail, Drops, Last, Meter, Reports, Tally};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::Ordering::Relaxed;

const HEADROOM: usize = 64;
const NEXT_HOP: [u8; 6] = [2, 0, 0, 0, 0, 2];
const PORT: [u8; 6] = [2, 0, 0, 0, 0, 1];

/// How a packet passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// By [`Usual`].
    Short,
    /// By [`classify`], [`judge`] and [`rewrite()`](rewrite).
    Long,
}

struct Choice<'a>(&'a [u8; 16]);

impl Choice<'_> {
    fn bit(&self, n: usize) -> bool {
        self.0[n / 8] >> (n % 8) & 1 != 0
    }

    fn number(&self, at: usize) -> u16 {
        u16::from_be_bytes([self.0[at], self.0[at + 1]])
    }

    /// The slot of a stream to which `source` sends, or another does.
    fn slot(&self, v6: bool, source: Option<SocketAddr>, endpoint: SocketAddr) -> Slot {
        let other = |mut remote: SocketAddr| {
            remote.set_port(remote.port() ^ u16::from(self.bit(40)));
            if self.bit(41) {
                remote.set_ip([9; 4].into());
            }
            remote
        };
        let learn = Learn::from_u8(self.0[0] >> 2 & 3).unwrap_or_default();
        let nowhere = Endpoint { addr: 0, port: 0 };
        let spec = StreamSpec {
            kind: [Kind::Rtp, Kind::Rtcp, Kind::Raw][usize::from(self.0[1] % 3)],
            learn,
            handover: self.bit(43),
            gate_open: !self.bit(4),
            signal: 1,
            clock_hz: u32::from(self.number(2)),
            payload_types: if self.bit(44) { 0x101 } else { 0 },
            strict_payload: self.bit(45),
            event_type: if self.bit(46) { 8 } else { 0 },
            accept: self.0[4] & 7,
            secure: self.bit(47),
            mid: self.bit(44).then_some(penstock_shm::Mid {
                extension: self.0[4] & 15 | 1,
                name: [self.0[5], 0, 0, 0, 0, 0, 0, 0],
            }),
            drop_events: self.bit(40),
            pierce: self.bit(41),
            dscp: Dscp::Set(self.0[4] >> 2),
            ..StreamSpec::new(nowhere, nowhere)
        };
        let remote = source.filter(|_| self.bit(0)).map(other);
        let policy = Policy {
            remote,
            locked: self.bit(1),
            latched: self.bit(40),
            rank: self.0[5] % (rank::SIGNALLED + 1),
            known: source.filter(|_| self.bit(42)).map_or(0, digest_address),
            ..Policy::new(&spec, v6)
        };
        let port = self.number(6);
        let (from, to) = if v6 != self.bit(5) {
            (IpAddr::from([0xfd; 16]), IpAddr::from([self.0[8]; 16]))
        } else {
            (IpAddr::from([10; 4]), IpAddr::from([self.0[8]; 4]))
        };
        let egress = Egress {
            endpoint,
            source: SocketAddr::new(from, !port),
            destination: SocketAddr::new(to, port),
            adjacency: 1,
            mtu: self.number(10),
            tos: self.0[9] & 0xfc,
            copy_dscp: self.bit(43),
            pcp: self.0[4] & 7,
        };
        let egress = Some(&egress).filter(|_| !self.bit(42));
        route::fill(&policy, None, egress, 1)
    }
}

/// Judges the frame in `data` as a stream that `data` chooses would, three times. Says how it passed the
/// second time.
pub fn run(data: &[u8]) -> Option<Way> {
    let (choice, frame) = data.split_first_chunk()?;
    let choice = Choice(choice);
    let mac = match frame.first_chunk() {
        Some(destination) if !choice.bit(6) => *destination,
        _ => PORT,
    };
    steward(frame, mac);
    misplaced(frame, &choice);
    let udp = first_look(frame, mac, choice.bit(7))?;
    let end = udp.l3 + udp.packet_len();
    assert!(end <= frame.len() && udp.length >= 8);
    let source = source(frame, &udp);
    assert!(source.is_some_and(|source| source.is_ipv6() == udp.v6));
    let slot = choice.slot(udp.v6, source, destination(frame, &udp));

    divided(frame, &udp, &slot);
    let meters = owned();
    let now_ns = u64::from(choice.number(12));
    let port = (mac, choice.bit(7));
    let first = relay(frame, port, &slot, &meters, now_ns);
    assert_ne!(first, Some(Way::Short), "nothing goes on with no sequence");
    let way = relay(frame, port, &slot, &meters, now_ns);
    assert_eq!(way.is_some(), first.is_some());
    assert_eq!(way.is_some(), meters[0].meter.packets.get() == 2);
    assert_eq!(way.is_none(), meters[0].dropped() == 2);
    assert_eq!(meter::lost_total(&meters[0]), 0);
    relay(frame, port, &slot, &meters, !now_ns);
    if way.is_some() {
        forward(frame, &udp, &slot, choice.number(14) & 0x0fff);
    }
    way
}

/// A packet at a shared endpoint is one stream's, and its SSRC no other's after that.
fn divided(frame: &[u8], udp: &Udp, slot: &Slot) {
    let [at, one, two] = [*slot, *slot, Slot::CLOSED];
    let tallies = <[Tally; 3]>::default();
    let member = |(slot, tally)| Member { slot, tally };
    let all: Vec<_> = [&at, &one, &two]
        .into_iter()
        .zip(&tallies)
        .map(member)
        .collect();
    assert_eq!(divide(frame, udp, all[0], &[]).part, None);
    let whose = divide(frame, udp, all[0], &all[1..]);
    assert!(whose.part.is_none_or(|part| part < 2));
    if let Some(ssrc) = whose.ssrc.filter(|ssrc| *ssrc != 0) {
        note(ssrc, whose.part, &all[1..]);
        let knows = [0, 1].map(|part| tallies[part + 1].fed().knows(ssrc));
        assert_eq!(knows, [0, 1].map(|part| whose.part == Some(part)));
    }
}

/// What both ways make of a frame at first: the short one says no more than the long one.
fn first_look(frame: &[u8], mac: [u8; 6], ip_checked: bool) -> Option<Udp> {
    let class = classify(frame, &mac, ip_checked);
    let mut copy = frame.to_vec();
    let Class::Udp(udp) = class else {
        let usual = usual(&mut copy, mac, ip_checked);
        assert!(usual.is_none(), "{class:?}");
        return None;
    };
    if let Some(usual) = usual(&mut copy, mac, ip_checked) {
        assert_eq!((udp.l3, udp.vlan), (14, 0));
        assert_eq!(udp.v6, usual.rest.is_some());
        assert_eq!(frame.len(), 14 + udp.packet_len(), "nothing behind it");
        let (addr, port) = (ADDRESS, udp.port);
        assert_eq!(usual.endpoint, Endpoint { addr, port }.to_bits());
    }
    Some(udp)
}

/// The number that every local address has here.
const ADDRESS: u16 = 3;

/// The usual packet in a frame, on a port whose one address is the frame's destination.
pub fn usual(frame: &mut [u8], mac: [u8; 6], ip_checked: bool) -> Option<Found<'_>> {
    let mut locals = LocalAddrs::new();
    let destination4: [u8; 4] = *frame.get(30..)?.first_chunk()?;
    let _ = locals.insert(0, destination4.into(), ADDRESS);
    if let Some(&destination6) = frame.get(38..).and_then(<[u8]>::first_chunk::<16>) {
        let _ = locals.insert(0, destination6.into(), ADDRESS);
    }
    let mut last = LastAddress::NONE;
    let usual = Usual::of(frame, Mac::new(mac), &locals, &mut last, ip_checked);
    // No port has the address zero, so there is no stream.
    usual.filter(|usual| usual.endpoint >> 16 == u32::from(ADDRESS))
}

/// The worker that relays here, and the meters of a stream that it owns.
const OWNER: u8 = 1;

pub fn owned() -> [Tally; 2] {
    let tallies = <[Tally; 2]>::default();
    for tally in &tallies {
        let last = Last::of_owner(OWNER).to_bits();
        tally.meter.last.store(last, Relaxed);
    }
    tallies
}

/// As [`judge`], of a stream without a peer; a verdict of the source alone says no more.
fn judged(
    frame: &[u8],
    udp: &Udp,
    slot: &Slot,
    tally: &Tally,
    now_ns: u64,
) -> Result<Pass, penstock_relay::Drop> {
    let rules = Rules::default();
    let stream = Stream {
        slot,
        tally,
        peer: Some(tally),
    };
    let enters = may_enter(frame, udp, stream, &rules, now_ns);
    let verdict = judge(frame, udp, stream, &rules, now_ns);
    assert!(verdict.is_err() || enters.is_ok(), "{enters:?}");
    verdict.and_then(|pass| pass.held.map_or(Ok(pass), Err))
}

/// Relays a packet of the stream at its destination by both ways, which must come to the same: octets,
/// and meters that agreed before. The short way must take what is ordinary and must not touch what
/// it leaves to the long one. `port` is its MAC, and whether it checked the IPv4 header checksum.
pub fn relay(
    frame: &[u8],
    port: ([u8; 6], bool),
    slot: &Slot,
    meters: &[Tally; 2],
    now_ns: u64,
) -> Option<Way> {
    let (mac, ip_checked) = port;
    let udp = first_look(frame, mac, ip_checked)?;
    let before = reading(&meters[0]);
    let l2 = L2Header::new(NEXT_HOP, PORT, 0);
    let untagged = l2.untagged().expect("no VLAN");
    let mut short = frame.to_vec();
    let follows = follows(frame, &udp, slot, &meters[0].meter, now_ns);
    let is_short = slot.usual_hop != Slot::NOT_USUAL
        && usual(&mut short, mac, ip_checked).is_some_and(|mut packet| {
            packet.pass(
                slot,
                &meters[0].meter,
                &untagged,
                Last::guard(OWNER),
                now_ns,
            )
        });
    if !is_short {
        assert_eq!(short, frame, "left to the long way");
        assert_eq!(reading(&meters[0]), before, "left to the long way");
        let _ = judged(frame, &udp, slot, &meters[0], now_ns);
    }

    let verdict = judged(frame, &udp, slot, &meters[1], now_ns);
    assert_eq!(reading(&meters[0]), reading(&meters[1]));
    let mut buffer = vec![0; HEADROOM];
    buffer.extend_from_slice(frame);
    let left = rewrite(&mut buffer, HEADROOM, &udp, slot, &l2);
    let is_ordinary = is_ordinary(frame, &udp, slot) && follows;
    let expected = verdict
        == Ok(Pass {
            held: None,
            ask: None,
        })
        && is_ordinary;
    assert_eq!(is_short, expected, "{verdict:?}");
    if is_short {
        assert_eq!(left, Ok(HEADROOM..buffer.len()));
        assert_eq!(buffer[HEADROOM..], short);
        return Some(Way::Short);
    }
    verdict.ok().map(|_| Way::Long)
}

/// What a relay mostly sees, if it passes: untagged, with nothing behind it, from a locked source,
/// RTP with neither contributing sources nor an extension, to the same IP version.
fn is_ordinary(frame: &[u8], udp: &Udp, slot: &Slot) -> bool {
    let payload = &udp_part(frame, udp)[8..];
    let is = |bit| slot.flags & bit != 0;
    let is_locked_rtp = is(flag::LOCKED) && is(flag::RTP);
    is_locked_rtp
        && !is(flag::CAPTURE | flag::COPY_DSCP | flag::DENIED)
        && [is(flag::V6), is(flag::EGRESS_V6)] == [udp.v6; 2]
        && udp.l3 == 14
        && frame.len() == 14 + udp.packet_len()
        && match udp.v6 {
            false => frame[30..34] != [0; 4],
            true => frame[38..54] != [0; 16],
        }
        && payload.len() >= 12
        && matches!(payload[0], 0x80 | 0xa0)
        && !matches!(payload[1], 192..=223)
}

/// Whether an RTP packet goes on with the sequence that the meter is in.
fn follows(frame: &[u8], udp: &Udp, slot: &Slot, meter: &Meter, now_ns: u64) -> bool {
    let Some(rtp) = udp_part(frame, udp)[8..].first_chunk::<12>() else {
        return false;
    };
    let [_, second, s0, s1, t0, t1, t2, t3, ssrc @ ..] = *rtp;
    let seq = u32::from(u16::from_be_bytes([s0, s1]));
    let ahead = (seq as u16).wrapping_sub(meter.ext_seq.load(Relaxed) as u16);
    let ticks = (u128::from(now_ns) * u128::from(slot.clock_mult)) >> 32;
    let transit = (ticks as u32).wrapping_sub(u32::from_be_bytes([t0, t1, t2, t3]));
    let moved = transit.wrapping_sub(meter.transit.load(Relaxed)) as i32;
    meter.last().seen() == Last::IN_SEQUENCE
        && meter.last().payload_type() == second & 0x7f
        && !(64..96).contains(&(second & 0x7f))
        && meter.ssrc() == u32::from_be_bytes(ssrc)
        && ahead < 2
        && moved.unsigned_abs() <= slot.steady
        && (slot.payload_types == [0; 2]
            || slot.payload_types[usize::from(second >> 6 & 1)] >> (second & 63) & 1 != 0)
        && (slot.event_type == 0 || second & 0x7f != slot.event_type)
}

/// Everything that is counted.
fn reading(tally: &Tally) -> (Vec<u64>, Vec<u32>) {
    let Tally {
        meter,
        detail,
        reports,
        voip: _,
        drops: Drops { by_reason, fed: _ },
        bucket: _,
    } = tally;
    let Meter {
        packets,
        bytes,
        last_seen_ns,
        allowed,
        ssrc,
        ext_seq,
        apart,
        jitter_q4,
        transit,
        last,
        latch_asked,
    } = meter;
    let Detail {
        base_seq,
        lost_before,
        late,
        skipped,
        late_before,
        duplicates_before,
        largest_gap,
        foreign,
        other,
        variation,
    } = detail;
    let Reports {
        rtcp,
        blocks,
        byes,
        dtmf,
        dtmf_last,
        dtmf_at,
        ..
    } = reports;
    let words = [
        ssrc,
        ext_seq,
        apart,
        jitter_q4,
        transit,
        last,
        base_seq,
        lost_before,
        late,
        skipped,
        late_before,
        duplicates_before,
        largest_gap,
        foreign,
        other,
        rtcp,
        blocks,
        byes,
        dtmf,
        dtmf_last,
        dtmf_at,
    ];
    let words = words.into_iter().chain(variation).chain(by_reason);
    let counters = [packets, bytes, last_seen_ns, allowed].map(|counter| counter.get());
    let asked = u32::from(latch_asked.load(Relaxed));
    (
        counters.to_vec(),
        words
            .map(|word| word.load(Relaxed))
            .chain([asked])
            .collect(),
    )
}

fn forward(frame: &[u8], udp: &Udp, slot: &Slot, vlan: u16) {
    let mut buffer = vec![0; HEADROOM];
    buffer.extend_from_slice(frame);
    let l2 = L2Header::new(NEXT_HOP, PORT, vlan);
    let range = rewrite(&mut buffer, HEADROOM, udp, slot, &l2).expect("a packet that passed");
    let (before, after) = (udp_part(frame, udp), &buffer[range.clone()]);
    let class = classify(after, &NEXT_HOP, false);
    let Class::Udp(left) = class else {
        panic!("what left is {class:?}")
    };
    assert_eq!(range.len(), left.l3 + left.packet_len());
    assert!(left.packet_len() <= usize::from(slot.longest));
    let v6 = slot.flags & flag::EGRESS_V6 != 0;
    assert_eq!((left.vlan, left.v6, left.length), (vlan, v6, udp.length));
    assert_eq!(left.port.to_be_bytes(), slot.head[22..]);
    let tos = match slot.flags & flag::COPY_DSCP {
        0 => slot.tos,
        _ => class_of(frame, udp) & 0xfc,
    };
    assert_eq!(class_of(after, &left), tos);
    assert!(vlan == 0 || after[14] >> 4 == slot.pcp << 1);
    let changed = udp_part(after, &left);
    assert_eq!(before[8..], changed[8..], "payload");
    if before[6..8] == [0, 0] {
        assert!(v6 || changed[6..8] == [0, 0]);
        assert!(!v6 || udp_error(after, &left) == 0);
    } else {
        assert_ne!(changed[6..8], [0, 0]);
        assert_eq!(
            udp_error(frame, udp),
            udp_error(after, &left),
            "an error stays an error"
        );
    }
}

/// TOS or traffic class.
fn class_of(frame: &[u8], udp: &Udp) -> u8 {
    let word = u16::from_be_bytes([frame[udp.l3], frame[udp.l3 + 1]]);
    if udp.v6 {
        (word >> 4) as u8
    } else {
        word as u8
    }
}

/// Where a datagram was sent.
pub fn destination(frame: &[u8], udp: &Udp) -> SocketAddr {
    let packet = &frame[udp.l3..];
    let ip = if udp.v6 {
        IpAddr::from(<[u8; 16]>::try_from(&packet[24..40]).expect("16 octets"))
    } else {
        IpAddr::from(<[u8; 4]>::try_from(&packet[16..20]).expect("4 octets"))
    };
    SocketAddr::new(ip, udp.port)
}

/// UDP header and payload.
fn udp_part<'a>(frame: &'a [u8], udp: &Udp) -> &'a [u8] {
    let end = udp.l3 + udp.packet_len();
    &frame[end - udp.length..end]
}

/// What the UDP checksum is off by, modulo 65535: 0 if it is right.
pub fn udp_error(frame: &[u8], udp: &Udp) -> u64 {
    let l3 = udp.l3;
    let addresses = if udp.v6 {
        l3 + 8..l3 + 40
    } else {
        l3 + 12..l3 + 20
    };
    let datagram = udp_part(frame, udp);
    (plain_sum(&frame[addresses]) + plain_sum(datagram) + 17 + udp.length as u64) % 0xffff
}

/// Sum of the big-endian 16-bit words (RFC 1071).
pub fn plain_sum(bytes: &[u8]) -> u64 {
    let word = |pair: &[u8]| u64::from(pair[0]) << 8 | u64::from(*pair.get(1).unwrap_or(&0));
    bytes.chunks(2).map(word).sum()
}

fn steward(frame: &[u8], mac: [u8; 6]) {
    if let Some(arp) = local::arp_parse(frame) {
        let reply = local::arp_parse(&local::arp_reply(&arp, [2; 6])).expect("our own reply");
        assert_eq!(
            (reply.sender_ip, reply.target_ip),
            (arp.target_ip, arp.sender_ip)
        );
        assert_eq!((reply.vlan, reply.is_request), (arp.vlan, false));
    }
    if let Some(nd) = local::nd_parse(frame) {
        let reply = local::nd_parse(&local::nd_advertisement(&nd, [2; 6])).expect("our own reply");
        assert_eq!((reply.target, reply.vlan), (nd.target, nd.vlan));
        assert_eq!(reply.mac, Some([2; 6]));
    }
    let mut echo = frame.to_vec();
    match local::echo_reply(&mut echo, mac) {
        Some(len) => assert!(len <= frame.len()),
        None => assert_eq!(echo, frame),
    }
    if let Class::Udp(udp) = classify(frame, &mac, true)
        && let Some(error) = local::port_unreachable(frame, &udp, mac)
    {
        assert!(error.len() <= 18 + 1280, "{}", error.len());
    }
    if let Class::Udp(udp) = classify(frame, &mac, true) {
        answered(frame, &udp, mac);
    }
}

/// A reply is a whole datagram, back where the one in `frame` came from.
fn answered(frame: &[u8], udp: &Udp, mac: [u8; 6]) {
    let mut out = [0; local::REPLY_HEADERS + 9];
    let Some(len) = local::udp_reply(frame, udp, mac, b"an answer", &mut out) else {
        return;
    };
    let reply = &out[..len];
    let them = *reply.first_chunk().expect("a frame");
    let Class::Udp(back) = classify(reply, &them, false) else {
        panic!("{reply:x?}");
    };
    assert_eq!(back.payload(reply), Some(&b"an answer"[..]));
    assert_eq!((back.vlan, udp_error(reply, &back)), (udp.vlan, 0));
    let [from, to] = [frame, reply].map(|frame| &frame[udp.l3..]);
    assert_eq!(
        source(frame, udp).map(|source| source.port()),
        Some(back.port)
    );
    let addresses = if udp.v6 { 8..40 } else { 12..20 };
    let half = addresses.len() / 2;
    let mut swapped = from[addresses.clone()].to_vec();
    swapped.rotate_left(half);
    assert_eq!(swapped, to[addresses]);
    assert_eq!(
        local::udp_reply(frame, udp, mac, b"an answer", &mut out[..len - 1]),
        None
    );
}

/// A geometry that is not this frame's must do no harm.
fn misplaced(frame: &[u8], choice: &Choice<'_>) {
    let mut addrs = LocalAddrs::new();
    let _ = addrs.insert(choice.number(14), Ipv4Addr::LOCALHOST.into(), 1);
    let _ = addrs.insert(choice.number(14), Ipv6Addr::LOCALHOST.into(), 2);
    for &reason in Drop::ALL {
        let _ = is_kernels(frame, reason, &addrs);
    }
    for v6 in [false, true] {
        let udp = Udp {
            l3: usize::from(choice.0[12]).wrapping_sub(usize::from(choice.bit(5)) * 20),
            v6,
            vlan: choice.number(14),
            length: usize::from(choice.number(10)).wrapping_sub(usize::from(choice.bit(4)) * 40),
            port: choice.number(6),
        };
        let _ = local::port_unreachable(frame, &udp, PORT);
        let _ = local::udp_reply(frame, &udp, PORT, b"?", &mut [0; 99]);
        let _ = udp.payload(frame);
        let _ = addrs.find(frame, &udp);
        let slot = choice.slot(v6, source(frame, &udp), ([10; 4], 9).into());
        let _ = judged(frame, &udp, &slot, &Tally::default(), 0);
        let l2 = L2Header::new([0; 6], [0; 6], choice.number(14));
        for start in [
            usize::from(choice.0[13]),
            usize::MAX - usize::from(choice.0[13]),
        ] {
            let _ = rewrite(&mut frame.to_vec(), start, &udp, &slot, &l2);
        }
    }
}
