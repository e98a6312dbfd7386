//! Frames as they stand on the wire: made byte by byte, taken apart without mercy, kept in captures.

use pcap_file::pcap::{PcapPacket, PcapReader, PcapWriter};
use std::fs::File;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

/// What stands in a UDP header's checksum field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sum {
    /// The right one (RFC 768).
    Right,
    /// None: zero, which IPv4 allows.
    Zero,
    /// One that is wrong.
    Wrong,
}

/// A UDP datagram and the headers around it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// Destination and source MAC.
    pub macs: ([u8; 6], [u8; 6]),
    /// 802.1Q VLAN, 0 for no tag.
    pub vlan: u16,
    /// TOS or traffic class.
    pub tos: u8,
    /// Where it comes from.
    pub from: SocketAddr,
    /// Where it goes.
    pub to: SocketAddr,
    /// The UDP checksum.
    pub sum: Sum,
    /// What it carries.
    pub payload: Vec<u8>,
}

/// Octets of the shortest frame, in which padding may follow the packet.
const LEAST: usize = 60;

/// The one's-complement sum of 16-bit words (RFC 1071).
fn ones_sum(bytes: &[u8]) -> u16 {
    let mut sum = 0u32;
    for pair in bytes.chunks(2) {
        sum += u32::from(u16::from_be_bytes([
            pair[0],
            pair.get(1).copied().unwrap_or(0),
        ]));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// What `ones_sum` has to see in front of a UDP datagram (RFC 768; RFC 8200, 8.1).
fn pseudo_header(from: IpAddr, to: IpAddr, udp: &[u8]) -> Vec<u8> {
    let mut all = match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => [from.octets(), to.octets()].concat(),
        (IpAddr::V6(from), IpAddr::V6(to)) => [from.octets(), to.octets()].concat(),
        _ => panic!("{from} to {to}"),
    };
    all.extend([0, 17]);
    all.extend((udp.len() as u16).to_be_bytes());
    all.extend(udp);
    all
}

/// Sets the checksum of an IPv4 header without options.
pub fn fix_ip4_sum(header: &mut [u8]) {
    header[10..12].fill(0);
    let sum = !ones_sum(&header[..20]);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
}

impl Datagram {
    /// The frame, without its check sequence. An IPv4 header says "do not fragment", identification 0
    /// (RFC 6864); the time to live is 64.
    pub fn frame(&self) -> Vec<u8> {
        let mut udp = Vec::new();
        udp.extend(self.from.port().to_be_bytes());
        udp.extend(self.to.port().to_be_bytes());
        udp.extend((8 + self.payload.len() as u16).to_be_bytes());
        udp.extend([0, 0]);
        udp.extend(&self.payload);
        let right = match !ones_sum(&pseudo_header(self.from.ip(), self.to.ip(), &udp)) {
            0 => 0xffff,
            sum => sum,
        };
        let sum = match self.sum {
            Sum::Right => right,
            Sum::Zero => 0,
            Sum::Wrong => (right ^ 0x0101).max(1),
        };
        udp[6..8].copy_from_slice(&sum.to_be_bytes());
        let (kind, packet) = match (self.from.ip(), self.to.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                let mut ip = vec![0x45, self.tos, 0, 0, 0, 0, 0x40, 0, 64, 17, 0, 0];
                ip.extend(from.octets().into_iter().chain(to.octets()));
                ip[2..4].copy_from_slice(&(20 + udp.len() as u16).to_be_bytes());
                fix_ip4_sum(&mut ip);
                (0x0800, [ip, udp].concat())
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                let mut ip = vec![0x60 | self.tos >> 4, self.tos << 4, 0, 0, 0, 0, 17, 64];
                ip[4..6].copy_from_slice(&(udp.len() as u16).to_be_bytes());
                ip.extend(from.octets().into_iter().chain(to.octets()));
                (0x86dd, [ip, udp].concat())
            }
            (from, to) => panic!("{from} to {to}"),
        };
        let mut frame = link(self.macs, self.vlan, kind);
        frame.extend(packet);
        frame
    }

    /// Takes a frame apart; an error says what in it is not as it has to be. A frame that is no UDP
    /// is `None`.
    pub fn parse(frame: &[u8]) -> Result<Option<Datagram>, String> {
        let mac = |at: usize| frame.get(at..at + 6)?.try_into().ok();
        let macs = mac(0).zip(mac(6)).ok_or("no Ethernet header")?;
        let word = |at: usize| {
            frame
                .get(at..at + 2)
                .map(|w| u16::from_be_bytes([w[0], w[1]]))
        };
        let (mut kind, mut vlan, mut l3) = (word(12).ok_or("no EtherType")?, 0, 14);
        if kind == 0x8100 {
            vlan = word(14).ok_or("no VLAN")?;
            kind = word(16).ok_or("no EtherType")?;
            l3 = 18;
        }
        let mut packet = &frame[l3..];
        if frame.len() == LEAST
            && let (0x0800, Some(length)) = (kind, word(l3 + 2))
        {
            packet = packet.get(..usize::from(length)).unwrap_or(packet);
        }
        let (tos, from, to, udp) = match kind {
            0x0800 => match ip4(packet)? {
                Some(parts) => parts,
                None => return Ok(None),
            },
            0x86dd => match ip6(packet)? {
                Some(parts) => parts,
                None => return Ok(None),
            },
            _ => return Ok(None),
        };
        if udp.len() < 8 || usize::from(u16::from_be_bytes([udp[4], udp[5]])) != udp.len() {
            return Err("UDP length".into());
        }
        let sum = match u16::from_be_bytes([udp[6], udp[7]]) {
            0 => Sum::Zero,
            _ if ones_sum(&pseudo_header(from, to, udp)) == 0xffff => Sum::Right,
            _ => Sum::Wrong,
        };
        let port = |at: usize| u16::from_be_bytes([udp[at], udp[at + 1]]);
        Ok(Some(Datagram {
            macs,
            vlan,
            tos,
            from: SocketAddr::new(from, port(0)),
            to: SocketAddr::new(to, port(2)),
            sum,
            payload: udp[8..].to_vec(),
        }))
    }
}

/// An Ethernet header, tagged if `vlan` is not 0.
pub fn link(macs: ([u8; 6], [u8; 6]), vlan: u16, kind: u16) -> Vec<u8> {
    let mut header = [macs.0, macs.1].concat();
    if vlan != 0 {
        header.extend(0x8100u16.to_be_bytes());
        header.extend(vlan.to_be_bytes());
    }
    header.extend(kind.to_be_bytes());
    header
}

type Parts<'a> = (u8, IpAddr, IpAddr, &'a [u8]);

fn ip4(packet: &[u8]) -> Result<Option<Parts<'_>>, String> {
    let (header, rest) = packet.split_first_chunk::<20>().ok_or("no IPv4 header")?;
    if header[0] != 0x45 {
        return Err(format!("version and length {:#x}", header[0]));
    }
    if ones_sum(header) != 0xffff {
        return Err("IPv4 header checksum".into());
    }
    if usize::from(u16::from_be_bytes([header[2], header[3]])) != packet.len() {
        return Err("IPv4 length".into());
    }
    if header[8] == 0 {
        return Err("time to live".into());
    }
    let address =
        |at: usize| IpAddr::from([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    Ok((header[9] == 17).then(|| (header[1], address(12), address(16), rest)))
}

fn ip6(packet: &[u8]) -> Result<Option<Parts<'_>>, String> {
    let (header, rest) = packet.split_first_chunk::<40>().ok_or("no IPv6 header")?;
    if header[0] >> 4 != 6 || header[7] == 0 {
        return Err("IPv6 version or hop limit".into());
    }
    if usize::from(u16::from_be_bytes([header[4], header[5]])) != rest.len() {
        return Err("IPv6 length".into());
    }
    let address = |at: usize| {
        let octets: [u8; 16] = header[at..at + 16].try_into().expect("16 of 40");
        IpAddr::from(octets)
    };
    let tos = header[0] << 4 | header[1] >> 4;
    Ok((header[6] == 17).then(|| (tos, address(8), address(24), rest)))
}

/// An ARP packet over Ethernet (RFC 826): `operation` is 1 for a question, 2 for an answer; MAC and IP address of
/// who sends it and of whom it is about.
pub fn arp(
    macs: ([u8; 6], [u8; 6]),
    operation: u8,
    sender: ([u8; 6], [u8; 4]),
    target: ([u8; 6], [u8; 4]),
) -> Vec<u8> {
    let mut frame = link(macs, 0, 0x0806);
    frame.extend([0, 1, 8, 0, 6, 4, 0, operation]);
    for (mac, ip) in [sender, target] {
        frame.extend(mac.into_iter().chain(ip));
    }
    frame
}

/// Writes a capture.
pub fn write_capture(path: &Path, frames: impl IntoIterator<Item = impl AsRef<[u8]>>) {
    let mut writer = PcapWriter::new(File::create(path).expect("a capture")).expect("its header");
    for (frame, i) in frames.into_iter().zip(0..) {
        let frame = frame.as_ref();
        let packet = PcapPacket::new(Duration::from_micros(i), frame.len() as u32, frame);
        writer.write_packet(&packet).expect("a packet");
    }
}

/// Reads a capture.
pub fn read_capture(path: &Path) -> Vec<Vec<u8>> {
    let file = File::open(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let mut reader = PcapReader::new(file).expect("the capture's header");
    let mut frames = Vec::new();
    while let Some(packet) = reader.next_packet() {
        frames.push(packet.expect("a packet").data.into_owned());
    }
    frames
}

/// The UDP datagrams of a capture, each of which is whole.
pub fn read_datagrams(path: &Path) -> Vec<Datagram> {
    let frames = read_capture(path).into_iter();
    frames
        .filter_map(|frame| {
            Datagram::parse(&frame).unwrap_or_else(|e| panic!("{e} in {frame:02x?}"))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_made_is_read_back() {
        for (from, to) in [("10.0.0.1:5", "10.0.0.2:6"), ("[fd00::1]:7", "[fd00::2]:8")] {
            for (vlan, sum) in [(0, Sum::Right), (7, Sum::Wrong), (4094, Sum::Zero)] {
                let made = Datagram {
                    macs: ([2; 6], [4; 6]),
                    vlan,
                    tos: 0xb8,
                    from: from.parse().unwrap(),
                    to: to.parse().unwrap(),
                    sum,
                    payload: vec![1, 2, 3],
                };
                assert_eq!(Datagram::parse(&made.frame()), Ok(Some(made)));
            }
        }
    }
}
