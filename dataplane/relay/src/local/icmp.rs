//! ICMP and ICMPv6 echo (RFC 792; RFC 4443, 4), and that a port has nobody (RFC 792; RFC 4443, 3.1).

use super::nd::pseudo_header;
use super::{ip6_frame, link, link_header};
use crate::classify::Udp;
use crate::headers::{Ethernet, Icmp, Ipv4, Ipv6, ethertype, protocol, view};
use crate::sum::{bytes, fold};
use std::net::{IpAddr, Ipv4Addr};

/// What our own packets carry as TTL or hop limit.
const TTL: u8 = 64;
/// Octets of an IP packet that an ICMP error has at most (RFC 1812, 4.3.2.3).
const ERROR_V4: usize = 576;
/// The same for ICMPv6 (RFC 4443, 2.4 c).
const ERROR_V6: usize = 1280;

/// Turns an ICMP or ICMPv6 echo request into its reply, in place. Says how many octets to send: padding behind
/// the IP packet does not leave again.
///
/// `None`, and the frame unchanged, if it is not a whole, sound echo request from one host to one host.
pub fn echo_reply(frame: &mut [u8], mac: [u8; 6]) -> Option<usize> {
    let (kind, _, l3) = link(frame)?;
    let end = match kind {
        ethertype::IPV4 => echo_v4(frame, l3)?,
        ethertype::IPV6 => echo_v6(frame, l3)?,
        _ => return None,
    };
    frame.copy_within(6..12, 0);
    frame.get_mut(6..12)?.copy_from_slice(&mac);
    Some(end)
}

/// Whether an address can be one host's.
fn is_host(ip: IpAddr) -> bool {
    let is_broadcast = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
    !ip.is_unspecified() && !ip.is_multicast() && !ip.is_loopback() && !is_broadcast
}

fn echo_v4(frame: &mut [u8], l3: usize) -> Option<usize> {
    let (ip, _) = Ipv4::split(frame.get(l3..)?)?;
    let end = l3 + usize::from(ip.total_len());
    let message = frame.get(l3 + Ipv4::LEN..end)?;
    let (icmp, _) = Icmp::split(message)?;
    let is_echo = ip.version_ihl() == 0x45
        && ip.checksum_ok()
        && !ip.is_fragment()
        && ip.protocol() == protocol::ICMP
        && icmp.is_echo_request()
        && fold(bytes(message)) == 0xffff;
    if !is_echo || !is_host(ip.source().into()) || !is_host(ip.destination().into()) {
        return None;
    }
    let (ip, message) = frame
        .get_mut(l3..end)?
        .split_first_chunk_mut::<{ Ipv4::LEN }>()?;
    let icmp = message.first_chunk_mut::<{ Icmp::LEN }>()?;
    let asker: [u8; 4] = *view(ip, 12);
    ip.copy_within(16..20, 12);
    ip[16..20].copy_from_slice(&asker);
    ip[8] = TTL;
    ip[10..12].fill(0);
    let checksum = !fold(bytes(ip));
    ip[10..12].copy_from_slice(&checksum.to_ne_bytes());
    icmp[0] = 0;
    icmp[2..4].fill(0);
    let checksum = !fold(bytes(message));
    message
        .get_mut(2..4)?
        .copy_from_slice(&checksum.to_ne_bytes());
    Some(end)
}

fn echo_v6(frame: &mut [u8], l3: usize) -> Option<usize> {
    let (ip, rest) = Ipv6::split(frame.get(l3..)?)?;
    let message = rest.get(..usize::from(ip.payload_len()))?;
    let (icmp, _) = Icmp::split(message)?;
    let end = l3 + Ipv6::LEN + message.len();
    // The sum does not know which of the two addresses is whose.
    let pseudo = pseudo_header(ip, message.len());
    let is_echo = ip.version() == 6
        && ip.next_header() == protocol::ICMPV6
        && icmp.is_echo_request_v6()
        && fold(pseudo + bytes(message)) == 0xffff;
    if !is_echo || !is_host(ip.source().into()) || !is_host(ip.destination().into()) {
        return None;
    }
    let (ip, message) = frame
        .get_mut(l3..end)?
        .split_first_chunk_mut::<{ Ipv6::LEN }>()?;
    let asker: [u8; 16] = *view(ip, 8);
    ip.copy_within(24..40, 8);
    ip[24..40].copy_from_slice(&asker);
    ip[7] = TTL;
    let icmp = message.first_chunk_mut::<{ Icmp::LEN }>()?;
    icmp[0] = Icmp::ECHO_REPLY_V6;
    icmp[2..4].fill(0);
    let checksum = !fold(pseudo + bytes(message));
    message
        .get_mut(2..4)?
        .copy_from_slice(&checksum.to_ne_bytes());
    Some(end)
}

/// Tells the sender of a datagram that nobody takes it: from the address it was sent to, at `mac`.
///
/// `None` if no such error may be sent (RFC 1122, 3.2.2): to a group, to no host, about what came to a group.
pub fn port_unreachable(frame: &[u8], udp: &Udp, mac: [u8; 6]) -> Option<Vec<u8>> {
    let (ethernet, _) = Ethernet::split(frame)?;
    let packet = frame.get(udp.l3..)?.get(..udp.packet_len())?;
    if ethernet.destination()[0] & 1 != 0 || ethernet.source()[0] & 1 != 0 {
        return None;
    }
    let to = *ethernet.source();
    if udp.v6 {
        let (ip, _) = Ipv6::split(packet)?;
        let (sender, us) = (ip.source(), ip.destination());
        hosts(sender, us)?;
        let mut message = vec![1, 4, 0, 0, 0, 0, 0, 0];
        let most = ERROR_V6 - Ipv6::LEN - message.len();
        message.extend(packet.get(..most).unwrap_or(packet));
        Some(ip6_frame((to, sender), (mac, us), udp.vlan, TTL, message))
    } else {
        let (ip, _) = Ipv4::split(packet)?;
        let (sender, us) = (ip.source(), ip.destination());
        hosts(sender, us)?;
        let mut message = vec![3, 3, 0, 0, 0, 0, 0, 0];
        let most = ERROR_V4 - Ipv4::LEN - message.len();
        message.extend(packet.get(..most).unwrap_or(packet));
        let checksum = !fold(bytes(&message));
        message[2..4].copy_from_slice(&checksum.to_ne_bytes());
        Some(ip4_frame((to, sender), (mac, us), udp.vlan, &message))
    }
}

/// `Some` if both are addresses that one host can have.
fn hosts(sender: impl Into<IpAddr>, us: impl Into<IpAddr>) -> Option<()> {
    (is_host(sender.into()) && is_host(us.into())).then_some(())
}

fn ip4_frame(
    to: ([u8; 6], Ipv4Addr),
    from: ([u8; 6], Ipv4Addr),
    vlan: u16,
    message: &[u8],
) -> Vec<u8> {
    let mut ip = [0; Ipv4::LEN];
    ip[0] = 0x45;
    ip[2..4].copy_from_slice(&((Ipv4::LEN + message.len()) as u16).to_be_bytes());
    // Do not fragment: the identification may stay 0 (RFC 6864).
    ip[6] = 0x40;
    ip[8] = TTL;
    ip[9] = protocol::ICMP;
    ip[12..16].copy_from_slice(&from.1.octets());
    ip[16..].copy_from_slice(&to.1.octets());
    let checksum = !fold(bytes(&ip));
    ip[10..12].copy_from_slice(&checksum.to_ne_bytes());
    let mut frame = link_header(to.0, from.0, vlan, ethertype::IPV4);
    frame.extend(ip);
    frame.extend(message);
    frame
}
