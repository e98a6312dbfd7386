//! Making the packet that leaves out of the one that came.

use crate::classify::Udp;
use crate::headers::{ethertype, view};
use crate::sum::{fold, words};
use penstock_shm::counters::Drop;
use penstock_shm::record::{Slot, flag};
use std::ops::Range;

/// Octets of an Ethernet header with a VLAN tag.
const TAGGED: usize = 18;

/// Octets of the IPv4 and of the UDP header, and of both behind the longest link header.
const IP4: usize = 20;
const HEAD4: usize = TAGGED + IP4 + 8;

/// Likewise for IPv6.
const IP6: usize = 40;
const HEAD6: usize = TAGGED + IP6 + 8;

/// A link header that leaves: what an adjacency holds. Filled by the steward, read by workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(align(32))]
pub struct L2Header {
    /// Flush right, so that it can be copied whole in front of the IP header, tagged or not. The type
    /// field stands for IPv4. Two octets of the packet behind it make sixteen of the untagged one.
    bytes: [u8; TAGGED + 2],
    size: u8,
}

impl L2Header {
    /// A header from `source` to `destination`, tagged if `vlan` is not 0.
    pub fn new(destination: [u8; 6], source: [u8; 6], vlan: u16) -> Self {
        let mut bytes = [0; TAGGED + 2];
        let size = if vlan == 0 { 14 } else { TAGGED };
        let header = &mut bytes[TAGGED - size..TAGGED];
        header[..6].copy_from_slice(&destination);
        header[6..12].copy_from_slice(&source);
        if vlan != 0 {
            header[12..14].copy_from_slice(&ethertype::VLAN.to_be_bytes());
            header[14..16].copy_from_slice(&(vlan & 0x0fff).to_be_bytes());
        }
        bytes[TAGGED - 2..TAGGED].copy_from_slice(&ethertype::IPV4.to_be_bytes());
        L2Header {
            bytes,
            size: size as u8,
        }
    }

    /// Octets that leave: 14, or 18 with a tag.
    #[inline(always)]
    pub const fn size(&self) -> usize {
        self.size as usize
    }

    #[inline(always)]
    fn tagged(&self) -> [u8; TAGGED] {
        *view(&self.bytes, 0)
    }

    /// The header alone, if it has no VLAN tag.
    #[inline]
    pub fn untagged(&self) -> Option<UntaggedL2> {
        (self.size() != TAGGED).then(|| UntaggedL2(*view(&self.bytes, TAGGED - 14)))
    }

    /// The MAC address of the next hop.
    pub fn destination(&self) -> [u8; 6] {
        std::array::from_fn(|i| self.bytes[TAGGED - self.size() + i])
    }
}

/// An Ethernet header without a tag, and two octets more: sixteen are quickly copied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UntaggedL2([u8; 16]);

impl UntaggedL2 {
    /// Writes the header to the front of a frame, and two octets more, which the IP header has to overwrite.
    #[inline(always)]
    pub(crate) fn write<const N: usize>(&self, frame: &mut [u8; N]) {
        *view_mut::<16, N>(frame, 0) = self.0;
    }
}

/// Rewrites the packet whose frame begins at `start` of `buffer`; says where in `buffer` the frame that
/// leaves lies.
///
/// The link header moves when a tag comes or goes, so `start` is at least 4 (an mbuf's headroom is 128);
/// the four octets in front of it may be overwritten. The payload is untouched. The UDP checksum is
/// updated by the difference of addresses and ports (RFC 1624), so that an error stays an error; zero
/// stays zero.
///
/// # Errors
/// [`Drop::NoRoute`] if the route leaves over another IP version, [`Drop::Malformed`] if `udp` does not
/// belong to this frame or `start` is too small. `buffer` is unchanged then.
pub fn rewrite(
    buffer: &mut [u8],
    start: usize,
    udp: &Udp,
    slot: &Slot,
    l2: &L2Header,
) -> Result<Range<usize>, Drop> {
    if udp.v6 {
        return rewrite6(buffer, start, udp, slot, l2);
    }
    if slot.flags & flag::EGRESS_V6 != 0 {
        return Err(Drop::NoRoute);
    }
    let (at, end, head) = place::<HEAD4>(buffer, start, udp).ok_or(Drop::Malformed)?;
    *view_mut(head, 0) = l2.tagged();
    headers4(head, TAGGED, slot, udp.length.wrapping_add(IP4) as u16);
    Ok(at + TAGGED - l2.size()..end)
}

fn rewrite6(
    buffer: &mut [u8],
    start: usize,
    udp: &Udp,
    slot: &Slot,
    l2: &L2Header,
) -> Result<Range<usize>, Drop> {
    if slot.flags & flag::EGRESS_V6 == 0 {
        return Err(Drop::NoRoute);
    }
    let (at, end, head) = place(buffer, start, udp).ok_or(Drop::Malformed)?;
    headers6(head, slot, l2, udp.length as u16);
    Ok(at + TAGGED - l2.size()..end)
}

/// Where the longest link header would begin, where the packet ends, and the headers: `HEAD` octets from
/// there on.
#[inline(always)]
fn place<'a, const HEAD: usize>(
    buffer: &'a mut [u8],
    start: usize,
    udp: &Udp,
) -> Option<(usize, usize, &'a mut [u8; HEAD])> {
    let at = start.wrapping_add(udp.l3).wrapping_sub(TAGGED);
    let end = at.wrapping_add(HEAD - 8).wrapping_add(udp.length);
    if end > buffer.len() {
        return None;
    }
    let head = buffer.get_mut(at..)?.first_chunk_mut()?;
    Some((at, end, head))
}

/// Rewrites the IPv4 header at `at` and the UDP header behind it.
#[inline(always)]
pub(crate) fn headers4<const N: usize>(head: &mut [u8; N], at: usize, slot: &Slot, total_len: u16) {
    let udp = at + IP4;
    let old = words::<12>(view(head, udp - 8));
    let checksum = updated::<3>(*view(head, udp + 6), old, u32::from(slot.udp_sum));
    put4(head, at, slot, total_len.to_be_bytes());
    *view_mut(head, udp + 6) = checksum;
}

/// As [`headers4`], for a packet whose total length stays, this one, and whose old addresses are those that
/// `Slot::udp_delta` was made for.
#[inline(always)]
pub(crate) fn known4<const N: usize>(
    head: &mut [u8; N],
    at: usize,
    slot: &Slot,
    total_len: [u8; 2],
) {
    let old = u16::from_ne_bytes(*view(head, at + IP4 + 6));
    put4(head, at, slot, total_len);
    if old != 0 {
        // RFC 1624, equation 2: the one that never makes 0 of anything else, as UDP wants it.
        let (sum, carry) = old.overflowing_add(slot.udp_delta);
        let new = sum.wrapping_add(u16::from(carry));
        *view_mut(head, at + IP4 + 6) = new.to_ne_bytes();
    }
}

#[inline(always)]
fn put4<const N: usize>(head: &mut [u8; N], at: usize, slot: &Slot, total_len: [u8; 2]) {
    // `ip4_sum` is the checksum for a total length of 0; one's complement subtraction.
    let (checksum, borrow) = slot.ip4_sum.overflowing_sub(u16::from_ne_bytes(total_len));
    let checksum = checksum.wrapping_sub(u16::from(borrow));
    *view_mut(head, at) = slot.head;
    *view_mut(head, at + 2) = total_len;
    *view_mut(head, at + 10) = checksum.to_ne_bytes();
}

/// `N` octets at `at`, to write. With constants for both, no check is left after inlining.
#[inline(always)]
fn view_mut<const N: usize, const LEN: usize>(head: &mut [u8; LEN], at: usize) -> &mut [u8; N] {
    match head.get_mut(at..).and_then(<[u8]>::first_chunk_mut) {
        Some(octets) => octets,
        None => unreachable!("constants of this module"),
    }
}

/// The first eight octets of the header that leaves are those of `Slot::head`.
#[inline(always)]
fn headers6(head: &mut [u8; HEAD6], slot: &Slot, l2: &L2Header, payload_len: u16) {
    const UDP: usize = TAGGED + IP6;
    let old = words(view::<36, HEAD6>(head, UDP - 32));
    let checksum = updated::<9>(*view(head, UDP + 6), old, u32::from(slot.udp_sum));

    head[..TAGGED].copy_from_slice(&l2.tagged());
    head[TAGGED - 2..TAGGED].copy_from_slice(&ethertype::IPV6.to_be_bytes());
    head[TAGGED..TAGGED + 8].copy_from_slice(&slot.head[..8]);
    head[TAGGED + 4..TAGGED + 6].copy_from_slice(&payload_len.to_be_bytes());
    head[TAGGED + 8..TAGGED + 24].copy_from_slice(&slot.ip6_src);
    head[TAGGED + 24..UDP].copy_from_slice(&slot.ip6_dst);
    head[UDP..UDP + 4].copy_from_slice(&slot.head[20..]);
    head[UDP + 6..].copy_from_slice(&checksum);
}

/// The checksum after `WORDS` words of 32 bits that summed to `old` gave way to others that sum to
/// `new`: RFC 1624, equation 3, with the complement of `old` taken before it is folded.
#[inline(always)]
fn updated<const WORDS: u64>(checksum: [u8; 2], old: u64, new: u32) -> [u8; 2] {
    let checksum = u16::from_ne_bytes(checksum);
    let old_complement = WORDS * 0xffff_ffff - old;
    let sum = !fold(u64::from(!checksum) + u64::from(new) + old_complement);
    let sum = if sum == 0 { 0xffff } else { sum };
    if checksum == 0 {
        [0; 2]
    } else {
        sum.to_ne_bytes()
    }
}
