//! The verdict on a packet of a known stream.

use crate::classify::Udp;
use crate::headers::{Ipv4, Ipv6, Rtp, UdpHeader, view};
use crate::learn::{self, Ask, Patience, Sources};
use crate::meter::{self, Content};
use crate::police::{self, Profiles};
use crate::rtcp;
use penstock_shm::counters::Drop;
use penstock_shm::record::{Slot, accept, flag, link, rank};
use penstock_shm::tally::{Meter, Tally};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::Ordering::Relaxed;

/// Octets of the IPv4 and of the UDP header; likewise for IPv6.
const HEADERS4: usize = Ipv4::LEN + UdpHeader::LEN;
const HEADERS6: usize = Ipv6::LEN + UdpHeader::LEN;

/// A stream whose gate is open and whose source is known.
const GUARDED: u16 = flag::GATE_OPEN | flag::LOCKED;

/// One whose gate is open and that leads somewhere.
const OPEN_ROUTE: u16 = flag::GATE_OPEN | flag::ROUTED;

/// What holds for all streams.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// What streams may send.
    pub profiles: Profiles,
    /// Who may send.
    pub sources: Sources,
    /// When a lock may move.
    pub patience: Patience,
    /// What answers to connectivity checks call us (SOFTWARE, RFC 8489, 14.14); empty for nothing.
    pub software: String,
}

/// The packet passes, or its source is to be learned although it does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pass {
    /// Why the packet goes no further, counted at the stream as a drop: the gate is closed or there is no route, but its
    /// source is a likely one of the phone's, which may wait for media that only comes once it is known.
    pub held: Option<Drop>,
    /// What to ask of the steward about the packet's [`source`], if nobody has asked yet; if the request got through,
    /// tell [`latch_requested`].
    pub ask: Option<Ask>,
}

/// The parts of a stream that its verdict needs.
#[derive(Clone, Copy)]
pub struct Stream<'a> {
    /// Policy and route.
    pub slot: &'a Slot,
    /// Its counters.
    pub tally: &'a Tally,
    /// Those of the stream of the opposite direction, to read.
    pub peer: Option<&'a Tally>,
}

/// Judges a packet of a stream, and meters it.
///
/// Checks, in this order: the gate, the source, what the stream may carry, the route, the size of what would leave, policing. A
/// packet that passes is counted, and one that does not, too. Only the stream's owner worker may call
/// this, and only with a packet of the endpoint's IP version. `now_ns` is the time of the burst, ns of
/// CLOCK_MONOTONIC.
pub fn judge(
    frame: &[u8],
    udp: &Udp,
    stream: Stream<'_>,
    rules: &Rules,
    now_ns: u64,
) -> Result<Pass, Drop> {
    judge_at(frame, udp, stream, stream, rules, now_ns)
}

/// As [`judge`], for a packet of `stream` that arrived at the endpoint that `at` stands for: a part's source is judged by
/// [`arrival`], everything else by the stream itself. What [`Pass::ask`] says is about the endpoint's source.
pub fn judge_at(
    frame: &[u8],
    udp: &Udp,
    at: Stream<'_>,
    stream: Stream<'_>,
    rules: &Rules,
    now_ns: u64,
) -> Result<Pass, Drop> {
    if udp.v6 {
        judge_as::<HEADERS6>(frame, udp, at, stream, rules, now_ns)
    } else {
        judge_as::<HEADERS4>(frame, udp, at, stream, rules, now_ns)
    }
}

/// The slot that the source of a part's packets is judged by: the parent's remote and what it may learn, behind the
/// part's own gate.
pub fn arrival(parent: &Slot, part: &Slot) -> Slot {
    let gate = part.flags & flag::GATE_OPEN;
    Slot {
        flags: parent.flags & !flag::GATE_OPEN | gate,
        ..*parent
    }
}

/// Whether what passes here goes nowhere itself: it came to a fork's own endpoint, or is wanted for its copies alone.
pub fn is_sink(slot: &Slot) -> bool {
    let is_copied = slot.links & link::COPIES != 0;
    slot.links & link::COPY != 0 || is_copied && slot.flags & flag::ROUTED == 0
}

fn judge_as<const HEADERS: usize>(
    frame: &[u8],
    udp: &Udp,
    at: Stream<'_>,
    stream: Stream<'_>,
    rules: &Rules,
    now_ns: u64,
) -> Result<Pass, Drop> {
    match check::<HEADERS>(frame, udp, at, stream, rules, now_ns) {
        Ok((pass, payload, content)) => {
            let Stream { slot, tally, peer } = stream;
            if let Some(reason) = pass.held {
                tally.count_dropped(reason);
                return Ok(pass);
            }
            meter::update(tally, slot, now_ns, payload.len(), content);
            if matches!(content, Content::Rtcp) && slot.flags & flag::SECURE == 0 {
                rtcp::read(payload, tally, peer, now_ns);
            }
            Ok(pass)
        }
        Err(reason) => {
            stream.tally.count_dropped(reason);
            Err(reason)
        }
    }
}

/// Whether a packet's source may have it judged at all: for a worker that does not own the stream, before it claims it or
/// hands the packet over. Reads only.
///
/// # Errors
/// As [`judge`]'s, of the gate and the source.
pub fn may_enter(
    frame: &[u8],
    udp: &Udp,
    stream: Stream<'_>,
    rules: &Rules,
    now_ns: u64,
) -> Result<(), Drop> {
    let source = source(frame, udp).ok_or(Drop::Malformed)?;
    let flags = stream.slot.flags & (GUARDED | flag::DENIED);
    if flags == GUARDED && stream.slot.remote() == Some(source) {
        return Ok(());
    }
    unguarded(frame, udp, stream, rules, now_ns).map(drop)
}

/// Notes that a latch was requested for the present slot, so that [`judge`] does not ask again.
pub fn latch_requested(slot: &Slot, meter: &Meter) {
    meter
        .latch_asked
        .store(meter::latch_mark(slot.version), Relaxed);
}

/// Where a datagram came from; `None` if `frame` is not the frame `udp` was made from.
pub fn source(frame: &[u8], udp: &Udp) -> Option<SocketAddr> {
    let (ip, header) = if udp.v6 {
        let (headers, _) = parts::<HEADERS6>(frame, udp)?;
        let ip = Ipv6(view(headers, 0)).source();
        (IpAddr::from(ip), UdpHeader(view(headers, Ipv6::LEN)))
    } else {
        let (headers, _) = parts::<HEADERS4>(frame, udp)?;
        let ip = Ipv4(view(headers, 0)).source();
        (IpAddr::from(ip), UdpHeader(view(headers, Ipv4::LEN)))
    };
    Some(SocketAddr::new(ip, header.source()))
}

fn check<'a, const HEADERS: usize>(
    frame: &'a [u8],
    udp: &Udp,
    at: Stream<'_>,
    stream: Stream<'_>,
    rules: &Rules,
    now_ns: u64,
) -> Result<(Pass, &'a [u8], Content<'a>), Drop> {
    let Stream { slot, tally, .. } = stream;
    let (header, payload) = parts::<HEADERS>(frame, udp).ok_or(Drop::Malformed)?;
    let guard = at.slot;
    let ask = if guard.flags & (GUARDED | flag::DENIED) == GUARDED && is_remote(header, guard) {
        None
    } else {
        unguarded(frame, udp, at, rules, now_ns)?
    };
    let content = content(payload, slot)?;
    let held = match slot.flags & (flag::GATE_OPEN | flag::ROUTED) {
        OPEN_ROUTE => None,
        flags if flags & flag::GATE_OPEN == 0 => Some(Drop::GateClosed),
        _ if is_sink(slot) => None,
        _ => Some(Drop::NoRoute),
    };
    if let Some(reason) = held {
        return match ask.and_then(likely) {
            None => Err(reason),
            ask => Ok((Pass { ask, held }, payload, content)),
        };
    }
    let ip_len = if slot.flags & flag::EGRESS_V6 == 0 {
        Ipv4::LEN
    } else {
        Ipv6::LEN
    };
    if ip_len + udp.length > usize::from(slot.longest) && !is_sink(slot) {
        return Err(Drop::TooBig);
    }
    if tally.meter.packets.get() >= tally.meter.allowed.get() {
        police::look(tally, slot, &rules.profiles, payload.len(), now_ns)?;
    }
    Ok((Pass { ask, held }, payload, content))
}

/// While nothing may pass, a phone that sends nothing has no say against a stranger: only its own address counts, and
/// only a source that is certain is locked.
fn likely(ask: Ask) -> Option<Ask> {
    match ask {
        Ask::Adopt { rank, lock } if rank >= rank::ADDRESS => Some(Ask::Adopt {
            rank,
            lock: lock && rank >= rank::KNOWN,
        }),
        Ask::Adopt { .. } | Ask::Lock | Ask::Check { .. } => None,
    }
}

/// The headers and the payload of the datagram, `N` octets of headers; `None` if `frame` is not the
/// frame `udp` was made from.
#[inline(always)]
fn parts<'a, const N: usize>(frame: &'a [u8], udp: &Udp) -> Option<(&'a [u8; N], &'a [u8])> {
    let rest = frame.get(udp.l3..)?;
    let payload = rest.get(N..udp.length.wrapping_add(N - UdpHeader::LEN))?;
    Some((rest.first_chunk()?, payload))
}

#[inline(always)]
fn is_remote<const HEADERS: usize>(header: &[u8; HEADERS], slot: &Slot) -> bool {
    if HEADERS == HEADERS6 {
        *view(header, 8) == slot.remote_v6 && *view(header, 40) == slot.remote_port
    } else {
        *view(header, 12) == slot.remote_v4 && *view(header, 20) == slot.remote_port
    }
}

/// A closed gate, or a source that the stream is not locked to: whether its packet passes, and what is to be asked. Behind a
/// closed gate nothing passes, but a likely source of a stream that learns is asked for.
fn unguarded(
    frame: &[u8],
    udp: &Udp,
    stream: Stream<'_>,
    rules: &Rules,
    now_ns: u64,
) -> Result<Option<Ask>, Drop> {
    let Stream { slot, tally, .. } = stream;
    let is_open = slot.flags & flag::GATE_OPEN != 0;
    if !is_open && slot.flags & flag::LOCKED != 0 {
        return Err(Drop::GateClosed);
    }
    let source = source(frame, udp).ok_or(Drop::Malformed)?;
    // The plane's own packets were admitted where they came in.
    let is_own = slot.own_remote != 0 && slot.remote() == Some(source);
    let admitted = match is_own || rules.sources.admit(source.ip()) {
        true => learn::admit(source, slot, tally, &rules.patience, now_ns),
        false => Err(Drop::Denied),
    };
    let is_new = |_: &Ask| !meter::latch_asked(&tally.meter.latch_asked, slot.version);
    match admitted.map(|ask| ask.filter(is_new)) {
        Ok(ask) if is_open || ask.and_then(likely).is_some() => Ok(ask),
        Err(reason) if is_open => Err(reason),
        _ => Err(Drop::GateClosed),
    }
}

/// What a packet is, by its first octet (RFC 7983) and what the stream may carry.
fn content<'a>(payload: &'a [u8], slot: &Slot) -> Result<Content<'a>, Drop> {
    let secure = slot.flags & flag::SECURE != 0;
    if slot.flags & (flag::RTP | flag::RTCP) == 0 {
        return Ok(Content::Other);
    }
    let needed = match payload.first() {
        Some(0..=3 | 64..=79) => accept::STUN,
        Some(16..=19) => accept::ZRTP,
        Some(20..=63) => accept::DTLS,
        _ if slot.flags & flag::RTP != 0 => return rtp(payload, slot),
        _ => return rtcp::check(payload, secure).map(|()| Content::Rtcp),
    };
    if slot.accept & needed == 0 {
        return Err(Drop::NotNegotiated);
    }
    Ok(Content::Other)
}

/// RTP (RFC 3550, 5.1), or RTCP multiplexed with it (RFC 5761, 4), which has no place in the
/// sequence. Padding is not looked at: its count is encrypted in SRTP.
fn rtp<'a>(payload: &'a [u8], slot: &Slot) -> Result<Content<'a>, Drop> {
    let secure = slot.flags & flag::SECURE != 0;
    let rtcp = || rtcp::check(payload, secure).map(|()| Content::Rtcp);
    let Some((header, rest)) = Rtp::split(payload) else {
        return rtcp();
    };
    if rtcp::is_rtcp(header.second_octet()) {
        return rtcp();
    }
    if header.version() != 2 || !parts_fit(header, rest) {
        return Err(Drop::NotRtp);
    }
    if slot.flags & flag::STRICT_PAYLOAD != 0 && !meter::negotiated(slot, header.payload_type()) {
        return Err(Drop::PayloadType);
    }
    let blocks = slot.links & link::DROP_EVENTS != 0 && slot.event_type != 0;
    if blocks && header.payload_type() == slot.event_type {
        return Err(Drop::Event);
    }
    Ok(Content::Rtp(header, rest))
}

/// Whether the contributing sources and the extension header lie inside the packet.
fn parts_fit(header: Rtp<'_>, rest: &[u8]) -> bool {
    let csrcs = 4 * usize::from(header.csrc_count());
    let Some(rest) = rest.get(csrcs..) else {
        return false;
    };
    if !header.has_extension() {
        return true;
    }
    let Some((extension, rest)) = rest.split_first_chunk::<4>() else {
        return false;
    };
    let words = u16::from_be_bytes([extension[2], extension[3]]);
    4 * usize::from(words) <= rest.len()
}
