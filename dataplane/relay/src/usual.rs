//! The packet a relay mostly sees, handled by as few instructions as will do: untagged IPv4, RTP with
//! neither contributing sources nor an extension, from a locked source, out over an untagged link.
//!
//! [`glance`] accepts such a packet as [`classify`](crate::classify) would, [`pass`] judges, meters
//! and rewrites it as [`judge`](crate::judge) and [`rewrite`](crate::rewrite()) would. Both only ever
//! say yes; what they do not accept goes the long way, which names the reason. Tests hold both ways
//! to the same result.

use crate::headers::{Ethernet, Ipv4, Rtp, UdpHeader, protocol, view};
use crate::judge::is_rtcp;
use crate::meter;
use crate::rewrite::{L2Header, known4};
use penstock_shm::record::{Meter, Slot, flag};

const UDP: usize = Ethernet::LEN + Ipv4::LEN;
const RTP: usize = UDP + UdpHeader::LEN;
const HEADERS: usize = RTP + Rtp::LEN;

/// The longest frame that an IPv4 total length can describe.
const LONGEST: usize = Ethernet::LEN + 0xffff;

/// A MAC address, ready to be compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mac(u64);

impl Mac {
    /// Of its octets.
    pub const fn new([a, b, c, d, e, f]: [u8; 6]) -> Mac {
        Mac(u64::from_le_bytes([0, 0, a, b, c, d, e, f]))
    }
}

/// Where a packet was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Glance {
    /// Destination address.
    pub destination: [u8; 4],
    /// Destination port, host order.
    pub port: u16,
}

/// Whether a frame is a whole UDP datagram over plain IPv4 to this MAC, with nothing behind it, and long
/// enough for RTP. `ip_checked` says that the NIC found the IPv4 header checksum right.
#[inline(always)]
pub fn glance(frame: &[u8], mac: Mac, ip_checked: bool) -> Option<Glance> {
    const PLAIN: [u8; 4] = [0x08, 0x00, 0x45, 0];
    const UNFRAGMENTED_UDP: [u8; 4] = [0, 0, 0, protocol::UDP];
    let headers = frame.first_chunk::<HEADERS>()?;
    let ip = Ipv4(view(headers, Ethernet::LEN));
    let total_len = ((frame.len() - Ethernet::LEN) as u16).to_be_bytes();
    let length = ((frame.len() - UDP) as u16).to_be_bytes();
    let is_usual = u64::from_le_bytes(*view(headers, 0)) << 16 == mac.0
        && masked(
            view(headers, Ethernet::LEN - 2),
            [0xff, 0xff, 0xff, 0],
            PLAIN,
        )
        && masked(
            view(headers, Ethernet::LEN + 6),
            [0x3f, 0xff, 0, 0xff],
            UNFRAGMENTED_UDP,
        )
        && *view(headers, Ethernet::LEN + 2) == total_len
        && *view(headers, UDP + 4) == length
        && frame.len() <= LONGEST
        && (ip_checked || ip.checksum_ok());
    is_usual.then(|| Glance {
        destination: *view(headers, UDP - 4),
        port: u16::from_be_bytes(*view(headers, UDP + 2)),
    })
}

/// Judges, meters and rewrites, in place, a packet that [`glance`] accepted. False, and nothing changed,
/// if it has to go the long way. `l2` is untagged.
///
/// Only the stream's owner worker may call this. `now_ns` is the time of the burst, ns of CLOCK_MONOTONIC.
#[inline(always)]
pub fn pass(frame: &mut [u8], slot: &Slot, meter: &Meter, l2: &L2Header, now_ns: u64) -> bool {
    const READY: u16 = flag::GATE_OPEN | flag::LOCKED | flag::ROUTED | flag::RTP;
    let packet_len = frame.len().wrapping_sub(Ethernet::LEN);
    let Some(headers) = frame.first_chunk_mut::<HEADERS>() else {
        return false;
    };
    let rtp = Rtp(view(headers, RTP));
    let is_usual = slot.flags & (READY | flag::V6 | flag::EGRESS_V6) == READY
        && *view(headers, UDP - 8) == slot.remote_v4
        && *view(headers, UDP) == slot.remote_port
        && rtp.is_plain()
        && !is_rtcp(rtp.second_octet())
        && packet_len <= usize::from(slot.mtu);
    if !is_usual {
        return false;
    }
    let bytes = packet_len - (Ipv4::LEN + UdpHeader::LEN);
    meter::update(meter, slot.clock_mult, now_ns, bytes, Some(rtp));
    l2.write_untagged(headers);
    known4(headers, Ethernet::LEN, slot);
    true
}

/// Compares the bits of four octets that `mask` selects.
#[inline(always)]
fn masked(octets: &[u8; 4], mask: [u8; 4], expected: [u8; 4]) -> bool {
    u32::from_ne_bytes(*octets) & u32::from_ne_bytes(mask) == u32::from_ne_bytes(expected)
}
