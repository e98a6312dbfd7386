//! The first look at a frame: is it whole, is it ours, and what is it?

use crate::headers::{Ethernet, Icmp, Ipv4, Ipv6, UdpHeader, Vlan, ethertype, protocol, view};
use crate::local::{ADVERTISEMENT, SOLICITATION};
use penstock_shm::counters::Drop;
use std::net::{IpAddr, Ipv6Addr};

/// What the MAC of every IPv6 group begins with (RFC 2464, 7).
const GROUPS_V6: [u8; 2] = [0x33, 0x33];

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// A whole UDP datagram, addressed to this port's MAC.
    Udp(Udp),
    /// ARP, for the steward.
    Arp {
        /// VLAN identifier; 0 for none.
        vlan: u16,
    },
    /// Neighbour discovery, for the steward. It is checked there: a solicitation may come to a group's MAC.
    Nd {
        /// VLAN identifier; 0 for none.
        vlan: u16,
        /// The address that a solicitation asks for; `None` for an advertisement.
        asks_for: Option<Ipv6Addr>,
    },
    /// An ICMP or ICMPv6 echo request, for the steward.
    Icmp {
        /// VLAN identifier; 0 for none.
        vlan: u16,
        /// The address it asks.
        destination: IpAddr,
    },
    /// Nothing that passes.
    Drop(Drop),
}

/// Where the parts of a UDP datagram are in its frame.
///
/// Wide fields on purpose: a [`Class`] of at most 16 octets would be returned in two registers, packed
/// and unpacked again at some twenty instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Udp {
    /// Offset of the IP header in the frame: 14, or 18 behind a VLAN tag.
    pub l3: usize,
    /// Octets of UDP header and payload, 8 to 65,535.
    pub length: usize,
    /// VLAN identifier; 0 for none.
    pub vlan: u16,
    /// Destination port, host order.
    pub port: u16,
    /// IPv6 rather than IPv4.
    pub v6: bool,
}

impl Udp {
    /// What the datagram carries; `None` if `frame` is not the frame that this was made from.
    pub fn payload<'a>(&self, frame: &'a [u8]) -> Option<&'a [u8]> {
        let headers = self.packet_len().checked_sub(self.length)? + UdpHeader::LEN;
        frame
            .get(self.l3..)?
            .get(..self.packet_len())?
            .get(headers..)
    }

    /// Octets of the IP packet. What follows it in the frame is padding.
    #[inline(always)]
    pub fn packet_len(&self) -> usize {
        self.length
            .wrapping_add(if self.v6 { Ipv6::LEN } else { Ipv4::LEN })
    }
}

/// Judges a received frame by its link, network and transport headers.
///
/// `mac` is the port's; `ip_checked` says that the NIC found the IPv4 header checksum right.
/// Octets behind the UDP datagram (Ethernet padding, or an IP payload longer than the UDP length) are
/// legal and do not leave again.
pub fn classify(frame: &[u8], mac: &[u8; 6], ip_checked: bool) -> Class {
    let Some((ethernet, mut rest)) = Ethernet::split(frame) else {
        return Class::Drop(Drop::Malformed);
    };
    let (mut kind, mut vlan, mut l3) = (ethernet.ethertype(), 0, Ethernet::LEN);
    if kind == ethertype::VLAN {
        let Some((tag, inner)) = Vlan::split(rest) else {
            return Class::Drop(Drop::Malformed);
        };
        (kind, vlan, l3, rest) = (tag.ethertype(), tag.id(), l3 + Vlan::LEN, inner);
    }
    if !ethernet.is_for(mac) {
        return not_our_mac(ethernet, kind, vlan, rest);
    }
    match kind {
        ethertype::IPV4 => ipv4(rest, vlan, l3, ip_checked),
        ethertype::IPV6 => ipv6(rest, vlan, l3),
        ethertype::ARP => Class::Arp { vlan },
        _ => Class::Drop(Drop::Protocol),
    }
}

#[cold]
fn not_our_mac(ethernet: Ethernet<'_>, kind: u16, vlan: u16, rest: &[u8]) -> Class {
    let is_group = ethernet.destination()[0] & 1 != 0;
    let class = match kind {
        ethertype::ARP if is_group => Class::Arp { vlan },
        ethertype::IPV6 if ethernet.destination().starts_with(&GROUPS_V6) => ipv6(rest, vlan, 0),
        _ => return Class::Drop(Drop::NotOurMac),
    };
    match class {
        Class::Arp { .. } | Class::Nd { .. } => class,
        _ => Class::Drop(Drop::NotOurMac),
    }
}

fn ipv4(bytes: &[u8], vlan: u16, l3: usize, ip_checked: bool) -> Class {
    // Every datagram that passes has eight octets behind the IP header, be it UDP or ICMP echo.
    let Some(headers) = bytes.first_chunk::<{ Ipv4::LEN + UdpHeader::LEN }>() else {
        return Class::Drop(Drop::Malformed);
    };
    let (ip, udp) = (Ipv4(view(headers, 0)), UdpHeader(view(headers, Ipv4::LEN)));
    if ip.version_ihl() != 0x45 {
        return not_plain(ip);
    }
    let total_len = usize::from(ip.total_len());
    if total_len > bytes.len() {
        return Class::Drop(Drop::Malformed);
    }
    if !ip_checked && !ip.checksum_ok() {
        return Class::Drop(Drop::IpChecksum);
    }
    if ip.is_fragment() {
        return Class::Drop(Drop::Fragment);
    }
    if ip.protocol() != protocol::UDP {
        return icmp(ip, Icmp(udp.0), vlan);
    }
    let length = usize::from(udp.length());
    if length < 8 || length + Ipv4::LEN > total_len {
        return Class::Drop(Drop::Malformed);
    }
    let port = udp.destination();
    Class::Udp(Udp {
        l3,
        v6: false,
        vlan,
        length,
        port,
    })
}

#[cold]
fn not_plain(ip: Ipv4<'_>) -> Class {
    let is_longer = matches!(ip.version_ihl(), 0x46..=0x4f);
    Class::Drop(if is_longer {
        Drop::IpOptions
    } else {
        Drop::Malformed
    })
}

#[cold]
fn icmp(ip: Ipv4<'_>, icmp: Icmp<'_>, vlan: u16) -> Class {
    if ip.protocol() != protocol::ICMP {
        return Class::Drop(Drop::Protocol);
    }
    if usize::from(ip.total_len()) < Ipv4::LEN + Icmp::LEN {
        return Class::Drop(Drop::Malformed);
    }
    if !icmp.is_echo_request() {
        return Class::Drop(Drop::Protocol);
    }
    let destination = ip.destination().into();
    Class::Icmp { vlan, destination }
}

fn ipv6(bytes: &[u8], vlan: u16, l3: usize) -> Class {
    let Some((ip, rest)) = Ipv6::split(bytes) else {
        return Class::Drop(Drop::Malformed);
    };
    let payload_len = usize::from(ip.payload_len());
    if ip.version() != 6 || payload_len > rest.len() {
        return Class::Drop(Drop::Malformed);
    }
    if ip.next_header() != protocol::UDP {
        return not_udp(ip, rest.get(..payload_len).unwrap_or(rest), vlan);
    }
    let Some((udp, _)) = UdpHeader::split(rest) else {
        return Class::Drop(Drop::Malformed);
    };
    let length = usize::from(udp.length());
    // RFC 8200, 8.1: a UDP datagram over IPv6 has a checksum.
    if length < 8 || length > payload_len || udp.checksum() == 0 {
        return Class::Drop(Drop::Malformed);
    }
    let port = udp.destination();
    Class::Udp(Udp {
        l3,
        v6: true,
        vlan,
        length,
        port,
    })
}

#[cold]
fn not_udp(ip: Ipv6<'_>, payload: &[u8], vlan: u16) -> Class {
    match ip.next_header() {
        protocol::ICMPV6 => icmpv6(ip, payload, vlan),
        protocol::IPV6_FRAGMENT => Class::Drop(Drop::Fragment),
        next if protocol::IPV6_EXTENSIONS.contains(&next) => Class::Drop(Drop::IpOptions),
        _ => Class::Drop(Drop::Protocol),
    }
}

fn icmpv6(ip: Ipv6<'_>, payload: &[u8], vlan: u16) -> Class {
    let Some((icmp, rest)) = Icmp::split(payload) else {
        return Class::Drop(Drop::Malformed);
    };
    let asks_for = match icmp.0[0] {
        Icmp::ECHO_V6 => {
            let destination = ip.destination().into();
            return Class::Icmp { vlan, destination };
        }
        SOLICITATION => match rest.first_chunk::<16>() {
            Some(&target) => Some(Ipv6Addr::from(target)),
            None => return Class::Drop(Drop::Malformed),
        },
        ADVERTISEMENT => None,
        _ => return Class::Drop(Drop::Protocol),
    };
    Class::Nd { vlan, asks_for }
}
