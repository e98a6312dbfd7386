//! ARP (RFC 826, 5227).

use super::link;
use crate::headers::{Arp, ethertype};
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

/// Asks one host alone, which is believed to be at `at`, whether it still has `target_ip` (RFC 1122, 2.3.2.1).
pub fn arp_probe(
    mac: [u8; 6],
    ip: Ipv4Addr,
    vlan: u16,
    target_ip: Ipv4Addr,
    at: [u8; 6],
) -> ArpFrame {
    arp_frame(at, vlan, REQUEST, (mac, ip), ([0; 6], target_ip))
}

/// Tells everyone on the VLAN that `ip` is at `mac` (RFC 5227, 3).
pub fn arp_announcement(mac: [u8; 6], ip: Ipv4Addr, vlan: u16) -> ArpFrame {
    arp_request(mac, ip, vlan, ip)
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
