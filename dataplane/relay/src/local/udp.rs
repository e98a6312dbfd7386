//! A datagram of our own, back to where one came from.

use crate::classify::Udp;
use crate::headers::{Ethernet, Ipv4, Ipv6, UdpHeader, protocol, view};
use crate::route::is_unicast;
use crate::sum::{bytes, fold};

/// What our own packets carry as TTL or hop limit.
const TTL: u8 = 64;

/// Octets of the longest headers in front of a reply's payload: a VLAN tag, IPv6.
pub const REPLY_HEADERS: usize = 18 + Ipv6::LEN + UdpHeader::LEN;

/// Writes a frame with `payload` that goes back to where the datagram in `frame` came from, from where it was sent, at
/// `mac`. Says how many octets it has.
///
/// `None` if `udp` is not of this frame, if it came from nobody's address, or if `out` is too short.
pub fn udp_reply(
    frame: &[u8],
    udp: &Udp,
    mac: [u8; 6],
    payload: &[u8],
    out: &mut [u8],
) -> Option<usize> {
    let (ethernet, _) = Ethernet::split(frame)?;
    let is_host = is_unicast(&crate::source(frame, udp)?);
    if ethernet.source()[0] & 1 != 0 || !is_host {
        return None;
    }
    let link = frame.get(..udp.l3)?;
    let packet = frame.get(udp.l3..)?;
    let (header, rest) = out.split_at_mut_checked(udp.l3)?;
    // The tag stays.
    header.copy_from_slice(link);
    header.get_mut(..6)?.copy_from_slice(ethernet.source());
    header.get_mut(6..12)?.copy_from_slice(&mac);
    let length = ((UdpHeader::LEN + payload.len()) as u16).to_be_bytes();
    let len = if udp.v6 {
        let (ip, came) = packet.split_first_chunk::<{ Ipv6::LEN }>()?;
        let reply = rest.get_mut(..Ipv6::LEN)?;
        reply.copy_from_slice(&[0; Ipv6::LEN]);
        reply[0] = 0x60;
        reply[4..6].copy_from_slice(&length);
        (reply[6], reply[7]) = (protocol::UDP, TTL);
        reply[8..24].copy_from_slice(view::<16, _>(ip, 24));
        reply[24..40].copy_from_slice(view::<16, _>(ip, 8));
        let addresses = bytes(&reply[8..40]);
        datagram(came, length, addresses, payload, rest.get_mut(Ipv6::LEN..)?)? + Ipv6::LEN
    } else {
        let (ip, came) = packet.split_first_chunk::<{ Ipv4::LEN }>()?;
        let reply = rest.get_mut(..Ipv4::LEN)?;
        reply.copy_from_slice(&[0; Ipv4::LEN]);
        reply[0] = 0x45;
        let total = (Ipv4::LEN + UdpHeader::LEN + payload.len()) as u16;
        reply[2..4].copy_from_slice(&total.to_be_bytes());
        // Do not fragment: the identification may stay 0 (RFC 6864).
        reply[6] = 0x40;
        (reply[8], reply[9]) = (TTL, protocol::UDP);
        reply[12..16].copy_from_slice(view::<4, _>(ip, 16));
        reply[16..20].copy_from_slice(view::<4, _>(ip, 12));
        let checksum = !fold(bytes(reply));
        reply[10..12].copy_from_slice(&checksum.to_ne_bytes());
        let addresses = bytes(&reply[12..20]);
        datagram(came, length, addresses, payload, rest.get_mut(Ipv4::LEN..)?)? + Ipv4::LEN
    };
    Some(udp.l3 + len)
}

/// The UDP header and what is behind it, in answer to `came`; `addresses` is the sum over those of the IP header.
fn datagram(
    came: &[u8],
    length: [u8; 2],
    addresses: u64,
    payload: &[u8],
    out: &mut [u8],
) -> Option<usize> {
    let came = came.first_chunk::<{ UdpHeader::LEN }>()?;
    let out = out.get_mut(..UdpHeader::LEN + payload.len())?;
    let (header, rest) = out.split_first_chunk_mut::<{ UdpHeader::LEN }>()?;
    rest.copy_from_slice(payload);
    *header = [0; UdpHeader::LEN];
    header[..2].copy_from_slice(&came[2..4]);
    header[2..4].copy_from_slice(&came[..2]);
    header[4..6].copy_from_slice(&length);
    let pseudo = addresses + bytes(&[0, protocol::UDP]) + bytes(&length);
    // No checksum at all would be written as 0 (RFC 768).
    let checksum = match !fold(pseudo + bytes(out)) {
        0 => u16::MAX,
        checksum => checksum,
    };
    out.get_mut(6..8)?.copy_from_slice(&checksum.to_ne_bytes());
    Some(out.len())
}
