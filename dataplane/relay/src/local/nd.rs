//! Neighbour discovery (RFC 4861): who has an IPv6 address, and where ours are.

use super::link;
use crate::headers::{Ethernet, Ipv6, ethertype, protocol};
use crate::sum::{bytes, fold};
use std::net::Ipv6Addr;

/// Type of a neighbour solicitation (RFC 4861, 4.3).
pub(crate) const SOLICITATION: u8 = 135;
/// Type of a neighbour advertisement (RFC 4861, 4.4).
pub(crate) const ADVERTISEMENT: u8 = 136;
/// Octets of either, without options.
const LEN: usize = 24;
const SOURCE_LINK_ADDRESS: u8 = 1;
const TARGET_LINK_ADDRESS: u8 = 2;
const SOLICITED: u8 = 0x40;
const OVERRIDE: u8 = 0x20;
/// No router was in between (RFC 4861, 7.1).
const HOP_LIMIT: u8 = 255;
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// Which of the two messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NdKind {
    /// Somebody asks.
    Solicitation,
    /// Somebody answers, or tells without being asked.
    Advertisement {
        /// It is an answer.
        solicited: bool,
    },
}

/// What a neighbour solicitation or advertisement says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NdPacket {
    /// VLAN identifier; 0 for none.
    pub vlan: u16,
    /// Solicitation or advertisement.
    pub kind: NdKind,
    /// Who says it; `::` while it looks whether its address is free (RFC 4862, 5.4).
    pub source: Ipv6Addr,
    /// Whom it says it to.
    pub destination: Ipv6Addr,
    /// The address asked for, or told of.
    pub target: Ipv6Addr,
    /// The sender's MAC, or the target's in an advertisement, if the message names it.
    pub mac: Option<[u8; 6]>,
    /// The frame's source.
    pub link_source: [u8; 6],
}

/// Reads a neighbour solicitation or advertisement; `None` if it is not a valid one (RFC 4861, 7.1).
pub fn nd_parse(frame: &[u8]) -> Option<NdPacket> {
    let (ethertype, vlan, l3) = link(frame)?;
    let (ethernet, _) = Ethernet::split(frame)?;
    let (ip, rest) = Ipv6::split(frame.get(l3..)?)?;
    let message = rest.get(..usize::from(ip.payload_len()))?;
    let (fixed, options) = message.split_first_chunk::<LEN>()?;
    let is_sound = ethertype == ethertype::IPV6
        && ip.version() == 6
        && ip.next_header() == protocol::ICMPV6
        && ip.hop_limit() == HOP_LIMIT
        && fold(pseudo_header(ip, message.len()) + bytes(message)) == 0xffff
        && fixed[1] == 0;
    let target = Ipv6Addr::from(*fixed.last_chunk::<16>()?);
    let (source, destination) = (ip.source(), ip.destination());
    if !is_sound || target.is_multicast() || source.is_multicast() {
        return None;
    }
    let (kind, wanted) = match fixed[0] {
        SOLICITATION => (NdKind::Solicitation, SOURCE_LINK_ADDRESS),
        ADVERTISEMENT => {
            let solicited = fixed[4] & SOLICITED != 0;
            if solicited && destination.is_multicast() {
                return None;
            }
            (NdKind::Advertisement { solicited }, TARGET_LINK_ADDRESS)
        }
        _ => return None,
    };
    let mac = link_address(options, wanted)?;
    if source.is_unspecified() && (mac.is_some() || destination != solicited_node(target)) {
        return None;
    }
    Some(NdPacket {
        vlan,
        kind,
        source,
        destination,
        target,
        mac,
        link_source: *ethernet.source(),
    })
}

/// The link address among the options, if it is there; `None` if the options are not sound, or the address
/// is a group's.
fn link_address(mut options: &[u8], wanted: u8) -> Option<Option<[u8; 6]>> {
    let mut found = None;
    while let Some(&kind) = options.first() {
        let length = usize::from(*options.get(1)?) * 8;
        let option = options.get(..length).filter(|option| !option.is_empty())?;
        if kind == wanted {
            let mac: [u8; 6] = option.get(2..)?.try_into().ok()?;
            if mac[0] & 1 != 0 {
                return None;
            }
            found = Some(mac);
        }
        options = &options[length..];
    }
    Some(found)
}

/// Asks everyone who may have `target` for its MAC (RFC 4861, 7.2.2); `mac` and `ip` are ours.
pub fn nd_solicitation(mac: [u8; 6], ip: Ipv6Addr, vlan: u16, target: Ipv6Addr) -> Vec<u8> {
    let to = solicited_node(target);
    message(
        (group_mac(to), to),
        (mac, ip),
        vlan,
        [SOLICITATION, 0],
        target,
        SOURCE_LINK_ADDRESS,
    )
}

/// Asks one host alone, which is believed to be at `at`, whether it still has `target` (RFC 4861, 7.3).
pub fn nd_probe(mac: [u8; 6], ip: Ipv6Addr, vlan: u16, target: Ipv6Addr, at: [u8; 6]) -> Vec<u8> {
    message(
        (at, target),
        (mac, ip),
        vlan,
        [SOLICITATION, 0],
        target,
        SOURCE_LINK_ADDRESS,
    )
}

/// Answers a solicitation for one of our addresses (RFC 4861, 7.2.4): the asker, or everyone if it
/// has no address yet.
pub fn nd_advertisement(asked: &NdPacket, mac: [u8; 6]) -> Vec<u8> {
    if asked.source.is_unspecified() {
        return nd_announcement(mac, asked.target, asked.vlan);
    }
    let to = (asked.mac.unwrap_or(asked.link_source), asked.source);
    let kind = [ADVERTISEMENT, SOLICITED | OVERRIDE];
    let from = (mac, asked.target);
    message(
        to,
        from,
        asked.vlan,
        kind,
        asked.target,
        TARGET_LINK_ADDRESS,
    )
}

/// Tells everyone on the VLAN that `ip` is at `mac` (RFC 4861, 7.2.6).
pub fn nd_announcement(mac: [u8; 6], ip: Ipv6Addr, vlan: u16) -> Vec<u8> {
    let to = (group_mac(ALL_NODES), ALL_NODES);
    let kind = [ADVERTISEMENT, OVERRIDE];
    message(to, (mac, ip), vlan, kind, ip, TARGET_LINK_ADDRESS)
}

/// The group that those listen to who may have this address (RFC 4291, 2.7.1).
fn solicited_node(target: Ipv6Addr) -> Ipv6Addr {
    let [.., a, b, c] = target.octets();
    Ipv6Addr::from([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a, b, c])
}

/// The MAC of an IPv6 group (RFC 2464, 7).
fn group_mac(group: Ipv6Addr) -> [u8; 6] {
    let [.., a, b, c, d] = group.octets();
    [0x33, 0x33, a, b, c, d]
}

/// Sum over the pseudo-header of an ICMPv6 message (RFC 8200, 8.1).
pub(super) fn pseudo_header(ip: Ipv6<'_>, len: usize) -> u64 {
    let addresses = [ip.source().octets(), ip.destination().octets()];
    let rest = [(len as u32).to_be_bytes(), [0, 0, 0, protocol::ICMPV6]];
    bytes(addresses.as_flattened()) + bytes(rest.as_flattened())
}

fn message(
    to: ([u8; 6], Ipv6Addr),
    from: ([u8; 6], Ipv6Addr),
    vlan: u16,
    [kind, flags]: [u8; 2],
    target: Ipv6Addr,
    option: u8,
) -> Vec<u8> {
    let mut message = vec![kind, 0, 0, 0, flags, 0, 0, 0];
    message.extend(target.octets());
    message.extend([option, 1]);
    message.extend(from.0);
    super::ip6_frame(to, from, vlan, HOP_LIMIT, message)
}
