//! Making the packet that leaves out of the one that came.

use crate::classify::Udp;
use crate::headers::{ethertype, protocol, view};
use crate::sum::{bytes, fold, words};
use penstock_shm::counters::Drop;
use penstock_shm::record::{Slot, flag};
use std::ops::Range;

/// Octets of an Ethernet header with a VLAN tag.
const TAGGED: usize = 18;

/// Octets of the IPv4 and of the UDP header, and of both behind the longest link header.
const IP4: usize = 20;
const HEAD4: usize = TAGGED + IP4 + 8;

/// The UDP length of a datagram without a payload.
const EMPTY: u16 = 8;

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

    /// As the longest one, and with the slot's 802.1p priority if it has a tag.
    #[inline(always)]
    fn tagged(&self, slot: &Slot) -> [u8; TAGGED] {
        let mut header: [u8; TAGGED] = *view(&self.bytes, 0);
        if self.size() == TAGGED {
            header[TAGGED - 4] |= slot.pcp << 5;
        }
        header
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
/// The packet leaves in the IP version of its route. The headers before UDP grow and shrink to the front: by
/// 4 octets when a tag comes or goes, by 20 when IPv4 becomes IPv6 or IPv6 IPv4. Headers that leave are written
/// from where the longest link header would begin, so `start` is at least 4, and 24 if IPv4 becomes IPv6 (an
/// mbuf lends 64 octets of headroom). The payload is untouched. The UDP checksum is updated by the difference
/// of addresses and ports (RFC 1624), so that an error stays an error; zero stays zero over IPv4, and is computed
/// when it becomes IPv6, which has no zero (RFC 8200, 8.1). The bits for ECN leave as zero, whatever the DSCP.
///
/// # Errors
/// [`Drop::Malformed`] if `udp` does not belong to this frame or `start` is too small. `buffer` is unchanged then.
pub fn rewrite(
    buffer: &mut [u8],
    start: usize,
    udp: &Udp,
    slot: &Slot,
    l2: &L2Header,
) -> Result<Range<usize>, Drop> {
    let tos = if slot.flags & flag::COPY_DSCP == 0 {
        0
    } else {
        dscp(buffer, start, udp).ok_or(Drop::Malformed)?
    };
    let place = if slot.flags & flag::EGRESS_V6 == 0 {
        leave4(buffer, start, udp, slot, l2, tos)
    } else {
        leave6(buffer, start, udp, slot, l2, tos)
    };
    let (at, end) = place.ok_or(Drop::Malformed)?;
    Ok(at + TAGGED - l2.size()..end)
}

/// A frame with an empty datagram of our own, by the slot's route; nothing if it has none. For the steward.
pub fn empty(slot: &Slot, l2: &L2Header) -> Option<Vec<u8>> {
    if slot.flags & flag::ROUTED == 0 {
        return None;
    }
    let mut head = [0; HEAD6];
    *view_mut(&mut head, 0) = l2.tagged(slot);
    let udp = match slot.flags & flag::EGRESS_V6 {
        0 => {
            put4(&mut head, TAGGED, slot, (IP4 as u16 + EMPTY).to_be_bytes());
            TAGGED + IP4
        }
        _ => {
            put6(&mut head, TAGGED, slot, EMPTY.to_be_bytes());
            *view_mut(&mut head, TAGGED + IP6) = ports6(slot);
            TAGGED + IP6
        }
    };
    *view_mut(&mut head, udp + 4) = EMPTY.to_be_bytes();
    *view_mut(&mut head, udp + 6) = fresh_checksum(slot, EMPTY, &[]);
    head.get(TAGGED - l2.size()..udp + usize::from(EMPTY))
        .map(<[u8]>::to_vec)
}

/// The traffic class of the packet that came, without the bits for ECN (RFC 3168).
fn dscp(buffer: &[u8], start: usize, udp: &Udp) -> Option<u8> {
    let at = start.wrapping_add(udp.l3);
    let [first, second] = *buffer.get(at..)?.first_chunk()?;
    let class = if udp.v6 {
        first << 4 | second >> 4
    } else {
        second
    };
    Some(class & 0xfc)
}

/// Makes an IPv4 packet whose slot's TOS is 0 if `tos` is not; says where the longest link header would begin,
/// and where the packet ends.
fn leave4(
    buffer: &mut [u8],
    start: usize,
    udp: &Udp,
    slot: &Slot,
    l2: &L2Header,
    tos: u8,
) -> Option<(usize, usize)> {
    let (place, head, _) = parts::<HEAD4>(buffer, start, udp)?;
    let checksum = updated_checksum(head, udp.v6, slot);
    let total_len = udp.length.wrapping_add(IP4) as u16;
    *view_mut(head, 0) = l2.tagged(slot);
    put4(head, TAGGED, slot, total_len.to_be_bytes());
    if tos != 0 {
        // One's complement subtraction of the word that grows by it.
        let sum = u16::from_ne_bytes(*view(head, TAGGED + 10));
        let (sum, borrow) = sum.overflowing_sub(u16::from_ne_bytes([0, tos]));
        *view_mut(head, TAGGED + 10) = sum.wrapping_sub(u16::from(borrow)).to_ne_bytes();
        head[TAGGED + 1] |= tos;
    }
    *view_mut(head, HEAD4 - 2) = checksum;
    Some(place)
}

/// Likewise for IPv6.
fn leave6(
    buffer: &mut [u8],
    start: usize,
    udp: &Udp,
    slot: &Slot,
    l2: &L2Header,
    tos: u8,
) -> Option<(usize, usize)> {
    let (place, head, payload) = parts::<HEAD6>(buffer, start, udp)?;
    let length = udp.length as u16;
    let checksum = match updated_checksum(head, udp.v6, slot) {
        [0, 0] => fresh_checksum(slot, length, payload),
        checksum => checksum,
    };
    *view_mut(head, 0) = l2.tagged(slot);
    put6(head, TAGGED, slot, length.to_be_bytes());
    *view_mut(head, TAGGED + IP6) = ports6(slot);
    head[TAGGED] |= tos >> 4;
    head[TAGGED + 1] |= tos << 4;
    *view_mut(head, HEAD6 - 2) = checksum;
    Some(place)
}

/// A packet that is to leave with `HEAD` octets of headers, the longest link header included: from where these
/// begin to the packet's end, the octets they take (the last eight are the UDP header that came, and before them are
/// the addresses that came), and the payload.
#[expect(clippy::type_complexity, reason = "a place and its two parts")]
#[inline(always)]
fn parts<'a, const HEAD: usize>(
    buffer: &'a mut [u8],
    start: usize,
    udp: &Udp,
) -> Option<((usize, usize), &'a mut [u8; HEAD], &'a [u8])> {
    let ip_len = if udp.v6 { IP6 } else { IP4 };
    let header = start.wrapping_add(udp.l3).wrapping_add(ip_len);
    let at = header.wrapping_sub(HEAD - 8);
    let end = header.wrapping_add(udp.length);
    let (head, payload) = buffer.get_mut(at..end)?.split_first_chunk_mut()?;
    Some(((at, end), head, &*payload))
}

/// The checksum of the UDP header at the end of `head` once the addresses and ports before it are those that
/// leave; zero if it is zero.
///
/// Length and protocol of the two pseudo-headers sum up alike (RFC 768; RFC 8200, 8.1).
#[inline(always)]
fn updated_checksum<const HEAD: usize>(head: &[u8; HEAD], v6: bool, slot: &Slot) -> [u8; 2] {
    let (checksum, new) = (*view(head, HEAD - 2), u32::from(slot.udp_sum));
    if v6 {
        updated::<9>(checksum, words::<36>(view(head, HEAD - 8 - 32)), new)
    } else {
        updated::<3>(checksum, words::<12>(view(head, HEAD - 8 - 8)), new)
    }
}

/// The checksum of a datagram of `length` octets that came without one.
#[cold]
fn fresh_checksum(slot: &Slot, length: u16, payload: &[u8]) -> [u8; 2] {
    let length = u64::from(length.to_be());
    let protocol = u64::from(u16::from(protocol::UDP).to_be());
    // The length stands in the pseudo-header and in the header.
    let sum = u64::from(slot.udp_sum) + 2 * length + protocol + bytes(payload);
    match !fold(sum) {
        0 => [0xff; 2],
        checksum => checksum.to_ne_bytes(),
    }
}

/// Rewrites the IPv4 header at `at` and the UDP header behind it: of a packet whose total length stays, this one,
/// and whose old addresses are those that `Slot::udp_delta` was made for.
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
        *view_mut(head, at + IP4 + 6) = moved(old, slot);
    }
}

/// Rewrites the IPv6 header at `at` and the UDP header that begins `udp`, which has a checksum: likewise.
#[inline(always)]
pub(crate) fn known6<const N: usize, const M: usize>(
    head: &mut [u8; N],
    at: usize,
    udp: &mut [u8; M],
    slot: &Slot,
    length: [u8; 2],
) {
    put6(head, at, slot, length);
    let old = u16::from_ne_bytes(*view(udp, 6));
    *view_mut(udp, 0) = ports6(slot);
    *view_mut(udp, 6) = moved(old, slot);
}

/// A checksum that is not 0, moved by `Slot::udp_delta`: RFC 1624, equation 2, the one that never makes 0 of anything
/// else, as UDP wants it.
#[inline(always)]
fn moved(old: u16, slot: &Slot) -> [u8; 2] {
    let (sum, carry) = old.overflowing_add(slot.udp_delta);
    sum.wrapping_add(u16::from(carry)).to_ne_bytes()
}

/// The type field in front and the header; traffic class and the rest of the first eight octets are those of
/// `Slot::head`.
#[inline(always)]
fn put6<const N: usize>(head: &mut [u8; N], at: usize, slot: &Slot, length: [u8; 2]) {
    *view_mut(head, at - 2) = ethertype::IPV6.to_be_bytes();
    *view_mut(head, at) = *view::<8, 24>(&slot.head, 0);
    *view_mut(head, at + 4) = length;
    *view_mut(head, at + 8) = slot.ip6_src;
    *view_mut(head, at + 24) = slot.ip6_dst;
}

/// The UDP ports of an IPv6 packet that leaves.
#[inline(always)]
fn ports6(slot: &Slot) -> [u8; 4] {
    *view(&slot.head, 20)
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
