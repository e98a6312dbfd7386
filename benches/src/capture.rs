//! The packets of a bench: made here, written to a capture, and checked when they come back.

use pcap_file::pcap::{PcapPacket, PcapReader, PcapWriter};
use std::fs::File;
use std::io::{BufReader, BufWriter};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::Path;
use std::time::Duration;

/// MAC of the plane's port.
pub const OUR_MAC: [u8; 6] = [0x02, 0x70, 0x73, 0, 0, 1];
/// MAC of the one neighbour.
pub const NEIGHBOUR_MAC: [u8; 6] = [0x02, 0x70, 0x73, 0, 0, 2];
/// The gateway that every remote address is behind.
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 254);
const FIRST_PORT: u16 = 2000;
/// Ports used of one local address.
const PER_ADDRESS: u32 = 60_000;
const L2: usize = 14;
const ARP: [u8; 2] = [8, 6];

/// A stream of the bench: `number` and `number ^ 1` are each other's peer.
#[derive(Clone, Copy, Debug)]
pub struct Stream(pub u32);

impl Stream {
    /// Number of its local address.
    pub fn address(self) -> u16 {
        (self.0 / PER_ADDRESS) as u16
    }

    /// Its local port.
    pub fn port(self) -> u16 {
        FIRST_PORT + (self.0 % PER_ADDRESS) as u16
    }

    /// Its local address and port.
    pub fn local(self) -> SocketAddrV4 {
        SocketAddrV4::new(local_address(self.address()), self.port())
    }

    /// Where its packets come from.
    pub fn remote(self) -> SocketAddrV4 {
        SocketAddrV4::new(Ipv4Addr::from_bits(0x0a00_0000 + 2 + self.0), 40_000)
    }

    /// The stream of the opposite direction.
    pub fn peer(self) -> Stream {
        Stream(self.0 ^ 1)
    }
}

/// Address number `n` of the plane's port.
pub fn local_address(n: u16) -> Ipv4Addr {
    Ipv4Addr::new(198, 18, 0, 1 + n as u8)
}

/// How many local addresses so many streams need.
pub fn addresses_for(streams: u32) -> u16 {
    streams.div_ceil(PER_ADDRESS) as u16
}

fn sum(mut acc: u32, bytes: &[u8]) -> u32 {
    let mut words = bytes.chunks_exact(2);
    for word in &mut words {
        acc += u32::from(u16::from_be_bytes([word[0], word[1]]));
    }
    if let [last] = words.remainder() {
        acc += u32::from(*last) << 8;
    }
    acc
}

fn fold(mut acc: u32) -> u16 {
    while acc > 0xffff {
        acc = (acc & 0xffff) + (acc >> 16);
    }
    acc as u16
}

fn udp_sum(ip: &[u8], udp: &[u8]) -> u16 {
    let pseudo = sum(17 + udp.len() as u32, &ip[12..20]);
    fold(sum(pseudo, udp))
}

/// An RTP packet of `size` bytes as it arrives, with valid checksums.
pub fn packet(stream: Stream, size: usize) -> Vec<u8> {
    let mut p = vec![0; size];
    p[0..6].copy_from_slice(&OUR_MAC);
    p[6..12].copy_from_slice(&NEIGHBOUR_MAC);
    p[12..14].copy_from_slice(&[8, 0]);
    let ip_len = (size - L2) as u16;
    let udp_len = ip_len - 20;
    let ip = &mut p[L2..];
    ip[0] = 0x45;
    ip[2..4].copy_from_slice(&ip_len.to_be_bytes());
    ip[8] = 60;
    ip[9] = 17;
    ip[12..16].copy_from_slice(&stream.remote().ip().octets());
    ip[16..20].copy_from_slice(&stream.local().ip().octets());
    let check = !fold(sum(0, &ip[..20]));
    ip[10..12].copy_from_slice(&check.to_be_bytes());
    ip[20..22].copy_from_slice(&stream.remote().port().to_be_bytes());
    ip[22..24].copy_from_slice(&stream.local().port().to_be_bytes());
    ip[24..26].copy_from_slice(&udp_len.to_be_bytes());
    ip[28] = 0x80;
    ip[36..40].copy_from_slice(&stream.0.to_be_bytes());
    for (i, byte) in ip[40..].iter_mut().enumerate() {
        *byte = (i as u32 ^ stream.0) as u8;
    }
    let check = !udp_sum(&ip[..20], &ip[20..]);
    ip[26..28].copy_from_slice(&(if check == 0 { 0xffff } else { check }).to_be_bytes());
    p
}

/// Writes the capture that both forwarders replay: a packet of every stream in turn. A replay repeats its
/// sequence numbers, whatever they are.
pub fn write(path: &Path, streams: u32, size: usize) -> std::io::Result<()> {
    let file = BufWriter::new(File::create(path)?);
    let mut writer = PcapWriter::new(file).map_err(std::io::Error::other)?;
    for stream in (0..streams).map(Stream) {
        let data = packet(stream, size);
        writer
            .write_packet(&PcapPacket::new(Duration::ZERO, size as u32, &data))
            .map_err(std::io::Error::other)?;
    }
    Ok(())
}

/// Reads one lap of what came out and says what is wrong with the first packet that is.
/// Packets leave in the order they came.
pub fn check(path: &Path, streams: u32, size: usize) -> Result<(), String> {
    let file = BufReader::new(File::open(path).map_err(|e| e.to_string())?);
    let mut reader = PcapReader::new(file).map_err(|e| e.to_string())?;
    let mut count = 0u32;
    while let Some(next) = reader.next_packet() {
        let got = next.map_err(|e| e.to_string())?;
        if got.data.get(12..14) == Some(&ARP) {
            continue; // the plane announces its addresses when it starts
        }
        check_packet(&got.data, Stream(count), size).map_err(|e| format!("packet {count}: {e}"))?;
        count += 1;
    }
    if count != streams {
        return Err(format!("{count} packets left, {streams} arrived"));
    }
    Ok(())
}

fn check_packet(got: &[u8], stream: Stream, size: usize) -> Result<(), String> {
    let came = packet(stream, size);
    let (from, to) = (stream.peer().local(), stream.peer().remote());
    if got.len() != size {
        return Err(format!("{} bytes instead of {size}", got.len()));
    }
    if got[0..6] != NEIGHBOUR_MAC || got[6..12] != OUR_MAC || got[12..14] != [8, 0] {
        return Err(format!("Ethernet header {:02x?}", &got[..14]));
    }
    let ip = &got[L2..];
    if ip[0] != 0x45 || ip[8] == 0 || ip[9] != 17 || ip[2..4] != came[16..18] {
        return Err(format!("IPv4 header {:02x?}", &ip[..20]));
    }
    if ip[12..16] != from.ip().octets() || ip[16..20] != to.ip().octets() {
        return Err(format!(
            "addresses {:?}, expected {from} to {to}",
            &ip[12..20]
        ));
    }
    if ip[20..22] != from.port().to_be_bytes() || ip[22..24] != to.port().to_be_bytes() {
        return Err(format!("ports {:?}, expected {from} to {to}", &ip[20..24]));
    }
    if fold(sum(0, &ip[..20])) != 0xffff {
        return Err("IPv4 checksum".into());
    }
    if udp_sum(&ip[..20], &ip[20..]) != 0xffff {
        return Err("UDP checksum".into());
    }
    if got[L2 + 28..] != came[L2 + 28..] {
        return Err("payload".into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_that_was_not_relayed_is_noticed() {
        let came = packet(Stream(4), 214);
        assert!(check_packet(&came, Stream(4), 214).is_err());
    }
}
