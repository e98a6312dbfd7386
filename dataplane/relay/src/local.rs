//! What the plane says and answers for itself: ARP (RFC 826, 5227) and ICMP echo (RFC 792).
//!
//! For the steward: these are slow, plain, and start from the frame alone. Frames that are built
//! have 60 octets, the least Ethernet carries (without its check sequence), zero behind the packet.

use crate::headers::{Arp, Ethernet, Icmp, Ipv4, Vlan, ethertype, protocol, view};
use crate::sum::{bytes, fold};
use std::net::Ipv4Addr;

/// A frame that holds one ARP packet.
pub type ArpFrame = [u8; 60];

const BROADCAST: [u8; 6] = [0xff; 6];
const REQUEST: u16 = 1;
const REPLY: u16 = 2;

/// What an ARP frame says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArpPacket {
    /// VLAN identifier; 0 for none.
    pub vlan: u16,
    /// A request rather than a reply.
    pub is_request: bool,
    /// Who says it.
    pub sender_mac: [u8; 6],
    /// Its IPv4 address; 0.0.0.0 in a probe.
    pub sender_ip: Ipv4Addr,
    /// The IPv4 address asked for, or answered to.
    pub target_ip: Ipv4Addr,
}

/// Reads an ARP frame; `None` if it is not ARP for IPv4 over Ethernet, or its sender's MAC address is
/// a group's.
pub fn arp_parse(frame: &[u8]) -> Option<ArpPacket> {
    let (kind, vlan, l3) = link(frame)?;
    let (arp, _) = Arp::split(frame.get(l3..)?)?;
    let operation = arp.operation();
    if kind != ethertype::ARP
        || !arp.is_ipv4_over_ethernet()
        || !matches!(operation, REQUEST | REPLY)
    {
        return None;
    }
    if arp.sender_mac()[0] & 1 != 0 {
        return None;
    }
    Some(ArpPacket {
        vlan,
        is_request: operation == REQUEST,
        sender_mac: arp.sender_mac(),
        sender_ip: arp.sender_ip(),
        target_ip: arp.target_ip(),
    })
}

/// Answers a request for one of our addresses.
pub fn arp_reply(request: &ArpPacket, mac: [u8; 6]) -> ArpFrame {
    let sender = (mac, request.target_ip);
    let target = (request.sender_mac, request.sender_ip);
    arp_frame(request.sender_mac, request.vlan, REPLY, sender, target)
}

/// Asks who has `target_ip`; to everyone on the VLAN.
pub fn arp_request(mac: [u8; 6], ip: Ipv4Addr, vlan: u16, target_ip: Ipv4Addr) -> ArpFrame {
    arp_frame(BROADCAST, vlan, REQUEST, (mac, ip), ([0; 6], target_ip))
}

/// Tells everyone on the VLAN that `ip` is at `mac` (RFC 5227, 3).
pub fn arp_announcement(mac: [u8; 6], ip: Ipv4Addr, vlan: u16) -> ArpFrame {
    arp_request(mac, ip, vlan, ip)
}

/// Turns an ICMP echo request into its reply, in place. Says how many octets to send: padding behind
/// the IP packet does not leave again.
///
/// `None`, and the frame unchanged, if it is not a whole, sound echo request from one host.
pub fn icmp_echo_reply(frame: &mut [u8], mac: [u8; 6]) -> Option<usize> {
    let (kind, _, l3) = link(frame)?;
    let (ip, _) = Ipv4::split(frame.get(l3..)?)?;
    let end = l3 + usize::from(ip.total_len());
    let message = frame.get(l3 + Ipv4::LEN..end)?;
    let (icmp, _) = Icmp::split(message)?;
    let is_echo = kind == ethertype::IPV4
        && ip.version_ihl() == 0x45
        && ip.checksum_ok()
        && !ip.is_fragment()
        && ip.protocol() == protocol::ICMP
        && icmp.is_echo_request()
        && fold(bytes(message)) == 0xffff;
    let asker = ip.source();
    if !is_echo || asker.is_unspecified() || asker.is_multicast() || asker.is_broadcast() {
        return None;
    }
    let (link, packet) = frame.get_mut(..end)?.split_at_mut_checked(l3)?;
    link.copy_within(6..12, 0);
    link.get_mut(6..12)?.copy_from_slice(&mac);
    let (ip, message) = packet.split_first_chunk_mut::<{ Ipv4::LEN }>()?;
    let icmp = message.first_chunk_mut::<{ Icmp::LEN }>()?;
    reply_headers(ip, icmp);
    let checksum = !fold(bytes(message));
    message
        .get_mut(2..4)?
        .copy_from_slice(&checksum.to_ne_bytes());
    Some(end)
}

fn reply_headers(ip: &mut [u8; Ipv4::LEN], icmp: &mut [u8; Icmp::LEN]) {
    let asker: [u8; 4] = *view(ip, 12);
    ip.copy_within(16..20, 12);
    ip[16..20].copy_from_slice(&asker);
    ip[8] = 64;
    ip[10..12].fill(0);
    let checksum = !fold(bytes(ip));
    ip[10..12].copy_from_slice(&checksum.to_ne_bytes());
    icmp[0] = 0;
    icmp[2..4].fill(0);
}

/// Type, VLAN identifier and length of a frame's link header.
fn link(frame: &[u8]) -> Option<(u16, u16, usize)> {
    let (ethernet, rest) = Ethernet::split(frame)?;
    if ethernet.ethertype() != ethertype::VLAN {
        return Some((ethernet.ethertype(), 0, Ethernet::LEN));
    }
    let (tag, _) = Vlan::split(rest)?;
    Some((tag.ethertype(), tag.id(), Ethernet::LEN + Vlan::LEN))
}

fn arp_frame(
    destination: [u8; 6],
    vlan: u16,
    operation: u16,
    sender: ([u8; 6], Ipv4Addr),
    target: ([u8; 6], Ipv4Addr),
) -> ArpFrame {
    let mut frame = [0; 60];
    let mut at = 0;
    let mut put = |bytes: &[u8]| {
        frame[at..at + bytes.len()].copy_from_slice(bytes);
        at += bytes.len();
    };
    put(&destination);
    put(&sender.0);
    if vlan != 0 {
        put(&ethertype::VLAN.to_be_bytes());
        put(&(vlan & 0x0fff).to_be_bytes());
    }
    put(&ethertype::ARP.to_be_bytes());
    put(&[0, 1, 8, 0, 6, 4]);
    put(&operation.to_be_bytes());
    put(&sender.0);
    put(&sender.1.octets());
    put(&target.0);
    put(&target.1.octets());
    frame
}
