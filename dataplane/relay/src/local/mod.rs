//! What the plane says and answers for itself: ARP (RFC 826, 5227), neighbour discovery (RFC 4861),
//! ICMP and ICMPv6 echo, what nobody takes here (RFC 792, 4443), and how a datagram is answered.
//!
//! For the steward, but for [`udp_reply`]: these are slow, plain, and start from the frame alone.

mod arp;
mod icmp;
mod nd;
mod udp;

pub use arp::{
    ArpFrame, ArpPacket, arp_announcement, arp_parse, arp_probe, arp_reply, arp_request,
};
pub use icmp::{echo_reply, port_unreachable};
pub(crate) use nd::{ADVERTISEMENT, SOLICITATION};
pub use nd::{
    NdKind, NdPacket, nd_advertisement, nd_announcement, nd_parse, nd_probe, nd_solicitation,
};
pub use udp::{REPLY_HEADERS, udp_reply};

use crate::headers::{Ethernet, Ipv4, Ipv6, Vlan, ethertype, protocol, view};
use crate::sum::{bytes, fold};
use std::net::{Ipv4Addr, Ipv6Addr};

/// The source address of an IPv4 packet.
pub fn source_v4(frame: &[u8]) -> Option<Ipv4Addr> {
    let (kind, _, l3) = link(frame)?;
    let (ip, _) = Ipv4::split(frame.get(l3..)?)?;
    (kind == ethertype::IPV4).then(|| ip.source())
}

/// Type, VLAN identifier and length of a frame's link header.
pub(crate) fn link(frame: &[u8]) -> Option<(u16, u16, usize)> {
    let (ethernet, rest) = Ethernet::split(frame)?;
    if ethernet.ethertype() != ethertype::VLAN {
        return Some((ethernet.ethertype(), 0, Ethernet::LEN));
    }
    let (tag, _) = Vlan::split(rest)?;
    Some((tag.ethertype(), tag.id(), Ethernet::LEN + Vlan::LEN))
}

/// The link header of a frame, tagged if `vlan` is not 0.
fn link_header(to: [u8; 6], from: [u8; 6], vlan: u16, kind: u16) -> Vec<u8> {
    let mut header = [to, from].concat();
    if vlan != 0 {
        header.extend(ethertype::VLAN.to_be_bytes());
        header.extend((vlan & 0x0fff).to_be_bytes());
    }
    header.extend(kind.to_be_bytes());
    header
}

/// A frame with an ICMPv6 message, whose checksum is filled in.
fn ip6_frame(
    to: ([u8; 6], Ipv6Addr),
    from: ([u8; 6], Ipv6Addr),
    vlan: u16,
    hop_limit: u8,
    mut message: Vec<u8>,
) -> Vec<u8> {
    let mut ip = [0; Ipv6::LEN];
    ip[0] = 0x60;
    ip[4..6].copy_from_slice(&(message.len() as u16).to_be_bytes());
    ip[6] = protocol::ICMPV6;
    ip[7] = hop_limit;
    ip[8..24].copy_from_slice(&from.1.octets());
    ip[24..].copy_from_slice(&to.1.octets());
    let checksum = !fold(nd::pseudo_header(Ipv6(view(&ip, 0)), message.len()) + bytes(&message));
    message[2..4].copy_from_slice(&checksum.to_ne_bytes());
    let mut frame = link_header(to.0, from.0, vlan, ethertype::IPV6);
    frame.extend(ip);
    frame.extend(message);
    frame
}
