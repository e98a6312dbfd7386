//! Views of the headers a packet begins with: the bytes themselves, read by name.
//!
//! Each view borrows an array of exactly the header's fixed length, so that reading a field needs
//! no bounds check and cannot fail. `split` takes a view off the front of a slice; what a header
//! announces about the bytes behind it is checked by those who use it. Numbers are in host order.

use std::net::{Ipv4Addr, Ipv6Addr};

/// Values of the Ethernet type field.
pub mod ethertype {
    /// IPv4.
    pub const IPV4: u16 = 0x0800;
    /// ARP.
    pub const ARP: u16 = 0x0806;
    /// 802.1Q tag.
    pub const VLAN: u16 = 0x8100;
    /// IPv6.
    pub const IPV6: u16 = 0x86dd;
}

/// Values of the IPv4 protocol and the IPv6 next header field.
pub mod protocol {
    /// ICMP for IPv4.
    pub const ICMP: u8 = 1;
    /// UDP.
    pub const UDP: u8 = 17;
    /// ICMPv6.
    pub const ICMPV6: u8 = 58;
    /// The IPv6 fragment header (RFC 8200, 4.5).
    pub const IPV6_FRAGMENT: u8 = 44;
    /// Hop-by-hop, routing, authentication, destination options, mobility: extension headers of
    /// IPv6 other than the fragment header.
    pub const IPV6_EXTENSIONS: [u8; 5] = [0, 43, 51, 60, 135];
}

/// An RTP sequence number (RFC 3550, 5.1): counts modulo 2^16.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeqNo(pub u16);

impl SeqNo {
    /// How far this number is ahead of `other`, modulo 2^16.
    #[inline(always)]
    pub const fn ahead_of(self, other: SeqNo) -> u16 {
        self.0.wrapping_sub(other.0)
    }
}

/// A synchronization source (RFC 3550, 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ssrc(pub u32);

macro_rules! views {
    ($($(#[doc = $doc:literal])+ $name:ident: $len:literal,)+) => {
        $(
            $(#[doc = $doc])+
            #[derive(Clone, Copy, Debug)]
            pub struct $name<'a>(pub &'a [u8; $len]);

            impl<'a> $name<'a> {
                /// Octets of the fixed part.
                pub const LEN: usize = $len;

                /// The header at the front of `bytes` and what follows it; `None` if it is short.
                #[inline(always)]
                pub fn split(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
                    let (header, rest) = bytes.split_first_chunk()?;
                    Some(($name(header), rest))
                }
            }
        )+
    };
}

views! {
    /// Ethernet II (IEEE 802.3, 3.1.1).
    Ethernet: 14,
    /// What follows the type field of a tagged frame (IEEE 802.1Q, 9.6): tag and inner type.
    Vlan: 4,
    /// IPv4 without options (RFC 791, 3.1).
    Ipv4: 20,
    /// IPv6 (RFC 8200, 3).
    Ipv6: 40,
    /// UDP (RFC 768).
    UdpHeader: 8,
    /// ARP for IPv4 over Ethernet (RFC 826).
    Arp: 28,
    /// ICMP and ICMPv6 echo and echo reply (RFC 792; RFC 4443, 4).
    Icmp: 8,
    /// The fixed RTP header (RFC 3550, 5.1).
    Rtp: 12,
    /// What every RTCP packet begins with (RFC 3550, 6.4).
    Rtcp: 4,
}

/// `N` bytes at `at`. With constants for both, no check is left after inlining.
#[inline(always)]
pub(crate) fn view<const N: usize, const LEN: usize>(header: &[u8; LEN], at: usize) -> &[u8; N] {
    header
        .get(at..)
        .and_then(<[u8]>::first_chunk)
        .unwrap_or(&[0; N])
}

#[inline(always)]
fn be16<const LEN: usize>(header: &[u8; LEN], at: usize) -> u16 {
    u16::from_be_bytes(*view(header, at))
}

#[inline(always)]
fn be32<const LEN: usize>(header: &[u8; LEN], at: usize) -> u32 {
    u32::from_be_bytes(*view(header, at))
}

impl<'a> Ethernet<'a> {
    /// Destination MAC address.
    #[inline(always)]
    pub fn destination(self) -> &'a [u8; 6] {
        view(self.0, 0)
    }

    /// Whether the frame is addressed to `mac`.
    #[inline(always)]
    pub fn is_for(self, mac: &[u8; 6]) -> bool {
        // In two parts: the compiler would compose 48-bit numbers.
        view::<4, 14>(self.0, 0) == view::<4, 6>(mac, 0)
            && view::<2, 14>(self.0, 4) == view::<2, 6>(mac, 4)
    }

    /// Source MAC address.
    #[inline(always)]
    pub fn source(self) -> &'a [u8; 6] {
        view(self.0, 6)
    }

    /// See [`ethertype`].
    #[inline(always)]
    pub fn ethertype(self) -> u16 {
        be16(self.0, 12)
    }
}

impl Vlan<'_> {
    /// VLAN identifier, 0 to 4095; 0 for a frame that has only a priority.
    #[inline(always)]
    pub fn id(self) -> u16 {
        be16(self.0, 0) & 0x0fff
    }

    /// The type field behind the tag.
    #[inline(always)]
    pub fn ethertype(self) -> u16 {
        be16(self.0, 2)
    }
}

impl Ipv4<'_> {
    /// Version and header length in words, as one octet: 0x45 for IPv4 without options.
    #[inline(always)]
    pub fn version_ihl(self) -> u8 {
        self.0[0]
    }

    /// Octets of header and payload.
    #[inline(always)]
    pub fn total_len(self) -> u16 {
        be16(self.0, 2)
    }

    /// Whether this is part of a larger datagram: more fragments, or an offset.
    #[inline(always)]
    pub fn is_fragment(self) -> bool {
        be16(self.0, 6) & 0x3fff != 0
    }

    /// See [`protocol`].
    #[inline(always)]
    pub fn protocol(self) -> u8 {
        self.0[9]
    }

    /// Whether the header checksum is right.
    #[inline(always)]
    pub fn checksum_ok(self) -> bool {
        crate::sum::twenty(self.0).is_multiple_of(0xffff)
    }

    /// Source address.
    #[inline(always)]
    pub fn source(self) -> Ipv4Addr {
        Ipv4Addr::from(be32(self.0, 12))
    }

    /// Destination address.
    #[inline(always)]
    pub fn destination(self) -> Ipv4Addr {
        Ipv4Addr::from(be32(self.0, 16))
    }
}

impl Ipv6<'_> {
    /// 6.
    #[inline(always)]
    pub fn version(self) -> u8 {
        self.0[0] >> 4
    }

    /// Octets behind this header.
    #[inline(always)]
    pub fn payload_len(self) -> u16 {
        be16(self.0, 4)
    }

    /// See [`protocol`].
    #[inline(always)]
    pub fn next_header(self) -> u8 {
        self.0[6]
    }

    /// Hop limit.
    #[inline(always)]
    pub fn hop_limit(self) -> u8 {
        self.0[7]
    }

    /// Source address.
    #[inline(always)]
    pub fn source(self) -> Ipv6Addr {
        Ipv6Addr::from(*view::<16, 40>(self.0, 8))
    }

    /// Destination address.
    #[inline(always)]
    pub fn destination(self) -> Ipv6Addr {
        Ipv6Addr::from(*view::<16, 40>(self.0, 24))
    }
}

impl UdpHeader<'_> {
    /// Source port.
    #[inline(always)]
    pub fn source(self) -> u16 {
        be16(self.0, 0)
    }

    /// Destination port.
    #[inline(always)]
    pub fn destination(self) -> u16 {
        be16(self.0, 2)
    }

    /// Octets of header and payload.
    #[inline(always)]
    pub fn length(self) -> u16 {
        be16(self.0, 4)
    }

    /// Checksum; 0 for none (IPv4 only).
    #[inline(always)]
    pub fn checksum(self) -> u16 {
        be16(self.0, 6)
    }
}

impl Arp<'_> {
    /// Hardware type, protocol type and their lengths are those of IPv4 over Ethernet.
    #[inline(always)]
    pub fn is_ipv4_over_ethernet(self) -> bool {
        *view(self.0, 0) == [0, 1, 8, 0, 6, 4]
    }

    /// 1 for a request, 2 for a reply.
    #[inline(always)]
    pub fn operation(self) -> u16 {
        be16(self.0, 6)
    }

    /// MAC address of the sender.
    #[inline(always)]
    pub fn sender_mac(self) -> [u8; 6] {
        *view(self.0, 8)
    }

    /// IPv4 address of the sender.
    #[inline(always)]
    pub fn sender_ip(self) -> Ipv4Addr {
        Ipv4Addr::from(be32(self.0, 14))
    }

    /// IPv4 address asked for.
    #[inline(always)]
    pub fn target_ip(self) -> Ipv4Addr {
        Ipv4Addr::from(be32(self.0, 24))
    }
}

impl Icmp<'_> {
    /// Type of an echo request.
    pub const ECHO: u8 = 8;
    /// Type of an ICMPv6 echo request (RFC 4443, 4.1).
    pub const ECHO_V6: u8 = 128;
    /// Type of an ICMPv6 echo reply (RFC 4443, 4.2).
    pub const ECHO_REPLY_V6: u8 = 129;

    /// Whether this is an echo request.
    #[inline(always)]
    pub fn is_echo_request(self) -> bool {
        self.0[0] == Self::ECHO && self.0[1] == 0
    }

    /// Whether this is an ICMPv6 echo request.
    #[inline(always)]
    pub fn is_echo_request_v6(self) -> bool {
        self.0[0] == Self::ECHO_V6 && self.0[1] == 0
    }
}

impl Rtp<'_> {
    /// 2.
    #[inline(always)]
    pub fn version(self) -> u8 {
        self.0[0] >> 6
    }

    /// Version 2, with neither extension header nor contributing sources: most of all packets.
    #[inline(always)]
    pub fn is_plain(self) -> bool {
        self.0[0] & 0xdf == 0x80
    }

    /// Whether an extension header follows the contributing sources.
    #[inline(always)]
    pub fn has_extension(self) -> bool {
        self.0[0] & 0x10 != 0
    }

    /// Number of contributing sources, 0 to 15.
    #[inline(always)]
    pub fn csrc_count(self) -> u8 {
        self.0[0] & 0x0f
    }

    /// The first four octets as a little-endian word: flags, marker and payload type, sequence number.
    #[inline(always)]
    pub fn first_word(self) -> u32 {
        u32::from_le_bytes(*view(self.0, 0))
    }

    /// Marker bit and payload type in one octet: what tells RTCP from RTP (RFC 5761, 4).
    #[inline(always)]
    pub fn second_octet(self) -> u8 {
        self.0[1]
    }

    /// Payload type, 0 to 127.
    #[inline(always)]
    pub fn payload_type(self) -> u8 {
        self.0[1] & 0x7f
    }

    /// Sequence number.
    #[inline(always)]
    pub fn seq(self) -> SeqNo {
        SeqNo(be16(self.0, 2))
    }

    /// Timestamp, in units of the payload's clock.
    #[inline(always)]
    pub fn timestamp(self) -> u32 {
        be32(self.0, 4)
    }

    /// Synchronization source.
    #[inline(always)]
    pub fn ssrc(self) -> Ssrc {
        Ssrc(be32(self.0, 8))
    }

    /// The synchronization source as it lies here: network order, as a native word.
    #[inline(always)]
    pub fn ssrc_word(self) -> u32 {
        u32::from_ne_bytes(*view(self.0, 8))
    }
}

impl Rtcp<'_> {
    /// 2.
    #[inline(always)]
    pub fn version(self) -> u8 {
        self.0[0] >> 6
    }

    /// Number of report blocks, or what else the packet type counts.
    #[inline(always)]
    pub fn count(self) -> u8 {
        self.0[0] & 0x1f
    }

    /// Packet type: 200 for a sender report, 201 for a receiver report, and so on.
    #[inline(always)]
    pub fn packet_type(self) -> u8 {
        self.0[1]
    }

    /// Octets of this RTCP packet, header included: always a multiple of four.
    #[inline(always)]
    pub fn length(self) -> usize {
        (usize::from(be16(self.0, 2)) + 1) * 4
    }
}
