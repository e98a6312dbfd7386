//! The verdict on a packet of a known stream.

use crate::classify::Udp;
use crate::headers::{Ipv4, Ipv6, Rtcp, Rtp, UdpHeader, view};
use crate::meter;
use penstock_shm::counters::Drop;
use penstock_shm::record::{Learn, Meter, Slot, flag};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::Ordering::Relaxed;

/// Octets of the IPv4 and of the UDP header; likewise for IPv6.
const HEADERS4: usize = Ipv4::LEN + UdpHeader::LEN;
const HEADERS6: usize = Ipv6::LEN + UdpHeader::LEN;

/// A stream whose gate is open and whose source is known.
const GUARDED: u16 = flag::GATE_OPEN | flag::LOCKED;

/// The packet passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pass {
    /// The stream learns, and nobody has asked yet that the source of this packet ([`source`]) be
    /// latched: ask the steward, and if the request got through, tell [`latch_requested`].
    pub latch: bool,
}

/// Judges a packet of the stream that `slot` belongs to, and meters it.
///
/// Checks, in this order: the gate, the source, what the stream may carry, the route, the size of what would
/// leave. A
/// packet that passes is counted in `meter`, one that does not in [`Meter::dropped`]. Only the stream's
/// owner worker may call this, and only with a packet of the endpoint's IP version. `now_ns` is the
/// time of the burst, ns of CLOCK_MONOTONIC.
pub fn judge(
    frame: &[u8],
    udp: &Udp,
    slot: &Slot,
    meter: &Meter,
    now_ns: u64,
) -> Result<Pass, Drop> {
    if udp.v6 {
        judge_as::<HEADERS6>(frame, udp, slot, meter, now_ns)
    } else {
        judge_as::<HEADERS4>(frame, udp, slot, meter, now_ns)
    }
}

fn judge_as<const HEADERS: usize>(
    frame: &[u8],
    udp: &Udp,
    slot: &Slot,
    meter: &Meter,
    now_ns: u64,
) -> Result<Pass, Drop> {
    match check::<HEADERS>(frame, udp, slot, meter) {
        Ok((pass, rtp)) => {
            let bytes = udp.length - UdpHeader::LEN;
            meter::update(meter, slot.clock_mult, now_ns, bytes, rtp);
            Ok(pass)
        }
        Err(reason) => {
            meter::count_dropped(meter);
            Err(reason)
        }
    }
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
    slot: &Slot,
    meter: &Meter,
) -> Result<(Pass, Option<Rtp<'a>>), Drop> {
    let (header, payload) = parts::<HEADERS>(frame, udp).ok_or(Drop::Malformed)?;
    let latch = if slot.flags & GUARDED != GUARDED {
        unguarded(frame, udp, slot, meter)?
    } else if is_remote(header, slot) {
        false
    } else {
        return Err(Drop::Source);
    };
    let rtp = if slot.flags & flag::RTP != 0 {
        rtp(payload)?
    } else if slot.flags & flag::RTCP != 0 {
        rtcp(payload)?
    } else {
        None
    };
    if slot.flags & flag::ROUTED == 0 {
        return Err(Drop::NoRoute);
    }
    let ip_len = if slot.flags & flag::EGRESS_V6 == 0 {
        Ipv4::LEN
    } else {
        Ipv6::LEN
    };
    if ip_len + udp.length > usize::from(slot.longest) {
        return Err(Drop::TooBig);
    }
    Ok((Pass { latch }, rtp))
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

/// A closed gate, or an unlocked stream: whether its packet passes, and its source is to be latched.
fn unguarded(frame: &[u8], udp: &Udp, slot: &Slot, meter: &Meter) -> Result<bool, Drop> {
    if slot.flags & flag::GATE_OPEN == 0 {
        return Err(Drop::GateClosed);
    }
    let source = source(frame, udp).ok_or(Drop::Malformed)?;
    if slot.learn != Learn::Immediate as u8 || !crate::route::is_unicast(&source) {
        return Err(Drop::Source);
    }
    Ok(!meter::latch_asked(&meter.latch_asked, slot.version))
}

/// RTP (RFC 3550, 5.1), or RTCP multiplexed with it (RFC 5761, 4), which has no place in the
/// sequence. Padding is not looked at: its count is encrypted in SRTP.
fn rtp(payload: &[u8]) -> Result<Option<Rtp<'_>>, Drop> {
    let Some((header, rest)) = Rtp::split(payload) else {
        return rtcp(payload);
    };
    if is_rtcp(header.second_octet()) {
        return rtcp(payload);
    }
    if header.version() == 2 && parts_fit(header, rest) {
        return Ok(Some(header));
    }
    Err(Drop::NotRtp)
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

/// RTCP (RFC 3550, 6.4): the first packet of the compound lies inside the datagram. What follows it is
/// not looked at: it is encrypted in SRTCP.
fn rtcp(payload: &[u8]) -> Result<Option<Rtp<'_>>, Drop> {
    let (header, _) = Rtcp::split(payload).ok_or(Drop::NotRtp)?;
    let is_whole = header.length() <= payload.len();
    if header.version() == 2 && is_rtcp(header.packet_type()) && is_whole {
        return Ok(None);
    }
    Err(Drop::NotRtp)
}

/// The packet types that RFC 5761, 4, sets aside for RTCP.
#[inline(always)]
pub(crate) fn is_rtcp(second_octet: u8) -> bool {
    second_octet & 0xe0 == 192
}
