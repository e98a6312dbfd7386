//! The packets of a bench: made here, written to a capture, and checked when they come back.

use crate::Failure;
use pcap_file::pcap::{PcapPacket, PcapReader, PcapWriter};
use std::fs::File;
use std::io::{BufReader, BufWriter};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

/// MAC of the plane's port.
pub const OUR_MAC: [u8; 6] = [0x02, 0x70, 0x73, 0, 0, 1];
/// MAC of the one neighbour.
pub const NEIGHBOUR_MAC: [u8; 6] = [0x02, 0x70, 0x73, 0, 0, 2];
const FIRST_PORT: u16 = 2000;
/// Ports used of one local address.
const PER_ADDRESS: u32 = 60_000;
/// Octets of an Ethernet header.
pub const L2: usize = 14;
const ARP: [u8; 2] = [8, 6];
const UDP: u8 = 17;
const ICMPV6: u8 = 58;

/// The IP version of a bench's packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Family {
    /// Addresses of 198.18.0.0/24 (RFC 2544), and remotes behind their gateway.
    Ipv4,
    /// Of 2001:2::/64 (RFC 5180).
    Ipv6,
}

impl Family {
    /// Of an address.
    pub const fn of(address: SocketAddr) -> Family {
        match address {
            SocketAddr::V4(_) => Family::Ipv4,
            SocketAddr::V6(_) => Family::Ipv6,
        }
    }

    /// As it is written.
    pub const fn name(self) -> &'static str {
        match self {
            Family::Ipv4 => "ipv4",
            Family::Ipv6 => "ipv6",
        }
    }

    /// Address number `n` of the plane's port.
    pub fn local(self, n: u16) -> IpAddr {
        match self {
            Family::Ipv4 => Ipv4Addr::new(198, 18, 0, 1 + n as u8).into(),
            Family::Ipv6 => Ipv6Addr::new(0x2001, 2, 0, 0, 0, 0, 0, 1 + n).into(),
        }
    }

    /// The gateway that every remote address is behind.
    pub fn gateway(self) -> IpAddr {
        self.local(253)
    }

    /// The length of the port's network prefix.
    pub const fn prefix(self) -> u8 {
        match self {
            Family::Ipv4 => 24,
            Family::Ipv6 => 64,
        }
    }

    /// Octets of the IP header.
    pub const fn ip_header(self) -> usize {
        match self {
            Family::Ipv4 => 20,
            Family::Ipv6 => 40,
        }
    }

    /// Octets of the shortest frame with RTP in it: a header without payload, and Ethernet pads to 60.
    pub const fn least(self) -> usize {
        match self {
            Family::Ipv4 => 60,
            Family::Ipv6 => L2 + 40 + 8 + 12,
        }
    }

    const fn ethertype(self) -> [u8; 2] {
        match self {
            Family::Ipv4 => [8, 0],
            Family::Ipv6 => [0x86, 0xdd],
        }
    }
}

/// A stream of the bench: `number` and `number ^ 1` are each other's peer.
#[derive(Clone, Copy, Debug)]
pub struct Stream {
    /// From 0.
    pub number: u32,
    /// Of both directions.
    pub family: Family,
}

impl Stream {
    /// Number of its local address.
    pub fn address(self) -> u16 {
        (self.number / PER_ADDRESS) as u16
    }

    /// Its local port.
    pub fn port(self) -> u16 {
        FIRST_PORT + (self.number % PER_ADDRESS) as u16
    }

    /// Its local address and port.
    pub fn local(self) -> SocketAddr {
        (self.family.local(self.address()), self.port()).into()
    }

    /// Where its packets come from.
    pub fn remote(self) -> SocketAddr {
        let number = 2 + self.number;
        let ip: IpAddr = match self.family {
            Family::Ipv4 => Ipv4Addr::from_bits(0x0a00_0000 + number).into(),
            Family::Ipv6 => {
                let (high, low) = ((number >> 16) as u16, number as u16);
                Ipv6Addr::new(0x2001, 2, 0, 1, 0, 0, high, low).into()
            }
        };
        (ip, 40_000).into()
    }

    /// The stream of the opposite direction.
    pub fn peer(self) -> Stream {
        Stream {
            number: self.number ^ 1,
            ..self
        }
    }
}

/// How many local addresses so many streams need.
pub fn addresses_for(streams: u32) -> u16 {
    streams.div_ceil(PER_ADDRESS) as u16
}

/// In which order the streams' packets come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Order {
    /// That of ports, which is that of the plane's index and records too: a processor foresees it.
    InTurn,
    /// None that follows anything, as with live streams: steps of the golden section, so that neighbours are far apart.
    Mixed,
}

impl Order {
    /// As it is written.
    pub const fn name(self) -> &'static str {
        match self {
            Order::InTurn => "in-turn",
            Order::Mixed => "mixed",
        }
    }

    /// All streams, once.
    pub fn of(self, streams: u32) -> impl Iterator<Item = u32> + Clone {
        let step = match self {
            Order::InTurn => 1,
            Order::Mixed => golden(streams.into()),
        };
        let count = u64::from(streams);
        (0..count).map(move |at| (at * step % count) as u32)
    }
}

/// A step that comes to all of so many.
fn golden(count: u64) -> u64 {
    fn common(a: u64, b: u64) -> u64 {
        if b == 0 { a } else { common(b, a % b) }
    }
    let first = (count as f64 * 0.618) as u64;
    (first..)
        .find(|&step| common(step, count) == 1)
        .unwrap_or(1)
}

/// Adds octets to an unfolded Internet checksum (RFC 1071).
pub fn sum(mut acc: u32, bytes: &[u8]) -> u32 {
    let mut words = bytes.chunks_exact(2);
    for word in &mut words {
        acc += u32::from(u16::from_be_bytes([word[0], word[1]]));
    }
    if let [last] = words.remainder() {
        acc += u32::from(*last) << 8;
    }
    acc
}

/// Folds it to 16 bits.
pub fn fold(mut acc: u32) -> u16 {
    while acc > 0xffff {
        acc = (acc & 0xffff) + (acc >> 16);
    }
    acc as u16
}

/// Of a pseudo-header (RFC 768; RFC 8200, 8.1) and the datagram: all ones if its checksum is right.
pub fn udp_sum(family: Family, ip: &[u8]) -> u16 {
    let (header, udp) = ip.split_at(family.ip_header());
    let addresses = match family {
        Family::Ipv4 => &header[12..],
        Family::Ipv6 => &header[8..],
    };
    let pseudo = sum(u32::from(UDP) + udp.len() as u32, addresses);
    fold(sum(pseudo, udp))
}

/// An address as a packet has it.
pub fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

/// The IP header of a packet of `ip_len` octets, itself included.
fn ip_header(family: Family, ip_len: u16, from: SocketAddr, to: SocketAddr) -> Vec<u8> {
    let addresses = [octets(from.ip()), octets(to.ip())].concat();
    match family {
        Family::Ipv4 => {
            let [high, low] = ip_len.to_be_bytes();
            let mut header = vec![0x45, 0, high, low, 0, 0, 0, 0, 60, UDP, 0, 0];
            header.extend(addresses);
            let check = !fold(sum(0, &header));
            header[10..12].copy_from_slice(&check.to_be_bytes());
            header
        }
        Family::Ipv6 => {
            let [high, low] = (ip_len - 40).to_be_bytes();
            let mut header = vec![0x60, 0, 0, 0, high, low, UDP, 60];
            header.extend(addresses);
            header
        }
    }
}

/// A UDP datagram in IP and Ethernet, with valid checksums, between two addresses of one family.
pub fn frame(macs: [[u8; 6]; 2], from: SocketAddr, to: SocketAddr, payload: &[u8]) -> Vec<u8> {
    let family = Family::of(from);
    let [from_mac, to_mac] = macs;
    let mut p = [&to_mac[..], &from_mac, &family.ethertype()].concat();
    let udp_len = (8 + payload.len()) as u16;
    p.extend(ip_header(
        family,
        family.ip_header() as u16 + udp_len,
        from,
        to,
    ));
    let udp = p.len();
    p.extend(from.port().to_be_bytes());
    p.extend(to.port().to_be_bytes());
    p.extend(udp_len.to_be_bytes());
    p.extend([0, 0]);
    p.extend(payload);
    let check = match !udp_sum(family, &p[L2..]) {
        0 => 0xffff,
        check => check,
    };
    p[udp + 6..udp + 8].copy_from_slice(&check.to_be_bytes());
    p
}

/// An RTP packet of `size` bytes as it arrives, with valid checksums.
pub fn packet(stream: Stream, size: usize) -> Vec<u8> {
    let (family, from, to) = (stream.family, stream.remote(), stream.local());
    let mut rtp = vec![0x80, 0, 0, 0, 0, 0, 0, 0];
    rtp.extend(stream.number.to_be_bytes());
    let left = size - (L2 + family.ip_header() + 8 + rtp.len());
    rtp.extend((0..left as u32).map(|i| (i ^ stream.number) as u8));
    frame([NEIGHBOUR_MAC, OUR_MAC], from, to, &rtp)
}

/// What is relayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    pub streams: u32,
    pub family: Family,
    /// Bytes of a frame.
    pub size: usize,
    pub order: Order,
}

impl Load {
    /// Whether there are pairs of streams, `most` at most, and frames of `least` bytes at least.
    pub fn check(&self, most: u32, least: usize) -> Result<(), Failure> {
        let is_even = self.streams > 0 && self.streams.is_multiple_of(2);
        if is_even && self.streams <= most && (least..=1514).contains(&self.size) {
            return Ok(());
        }
        Err(Failure::Environment(format!(
            "streams must be even, at most {most}; size {least} to 1514 with {}",
            self.family.name()
        )))
    }

    /// Its packets' streams, so many times.
    fn laps(self, laps: u32) -> impl Iterator<Item = Stream> {
        let family = self.family;
        let numbers = (0..laps).flat_map(move |_| self.order.of(self.streams));
        numbers.map(move |number| Stream { number, family })
    }
}

/// Writes the capture that both forwarders replay: a packet of every stream, so many times. A replay repeats
/// its sequence numbers, whatever they are.
pub fn write(path: &Path, load: Load, laps: u32) -> std::io::Result<()> {
    let file = BufWriter::new(File::create(path)?);
    let mut writer = PcapWriter::new(file).map_err(std::io::Error::other)?;
    for stream in load.laps(laps) {
        let data = packet(stream, load.size);
        writer
            .write_packet(&PcapPacket::new(Duration::ZERO, load.size as u32, &data))
            .map_err(std::io::Error::other)?;
    }
    Ok(())
}

/// Reads the laps that came out and says what is wrong with the first packet that is.
/// Packets leave in the order they came.
pub fn check(path: &Path, load: Load, laps: u32) -> Result<(), String> {
    let file = BufReader::new(File::open(path).map_err(|e| e.to_string())?);
    let mut reader = PcapReader::new(file).map_err(|e| e.to_string())?;
    let arrived = u64::from(laps) * u64::from(load.streams);
    let mut count = 0;
    let mut streams = load.laps(laps);
    while let Some(next) = reader.next_packet() {
        let got = next.map_err(|e| e.to_string())?;
        let is_nd = got.data.get(12..14) == Some(&Family::Ipv6.ethertype())
            && got.data.get(L2 + 6) == Some(&ICMPV6);
        if got.data.get(12..14) == Some(&ARP) || is_nd {
            continue; // the plane announces its addresses when it starts
        }
        let Some(stream) = streams.next() else {
            return Err(format!("more than {arrived} packets left"));
        };
        check_packet(&got.data, stream, load.size).map_err(|e| format!("packet {count}: {e}"))?;
        count += 1;
    }
    if count != arrived {
        return Err(format!("{count} packets left, {arrived} arrived"));
    }
    Ok(())
}

fn check_packet(got: &[u8], stream: Stream, size: usize) -> Result<(), String> {
    let family = stream.family;
    let came = packet(stream, size);
    let (from, to) = (stream.peer().local(), stream.peer().remote());
    if got.len() != size {
        return Err(format!("{} bytes instead of {size}", got.len()));
    }
    if got[0..6] != NEIGHBOUR_MAC || got[6..12] != OUR_MAC || got[12..14] != family.ethertype() {
        return Err(format!("Ethernet header {:02x?}", &got[..14]));
    }
    let (ip, ports) = (&got[L2..], family.ip_header());
    let expected = ip_header(family, (size - L2) as u16, from, to);
    // Whatever the TOS or traffic class, and the hop limit, if there is one, and what is made of them.
    let (open, hops): (&[usize], usize) = match family {
        Family::Ipv4 => (&[1, 4, 5, 6, 7, 8, 10, 11], 8),
        Family::Ipv6 => (&[0, 1, 2, 3, 7], 7),
    };
    let differs = |(i, (got, expected))| !open.contains(&i) && got != expected;
    if ip[0] >> 4 != expected[0] >> 4
        || ip[hops] == 0
        || ip.iter().zip(&expected).enumerate().any(differs)
    {
        return Err(format!(
            "IP header {:02x?}, from {from} to {to}",
            &ip[..ports]
        ));
    }
    if ip[ports..ports + 2] != from.port().to_be_bytes()
        || ip[ports + 2..ports + 4] != to.port().to_be_bytes()
    {
        return Err(format!(
            "ports {:?}, expected {from} to {to}",
            &ip[ports..ports + 4]
        ));
    }
    if family == Family::Ipv4 && fold(sum(0, &ip[..20])) != 0xffff {
        return Err("IPv4 checksum".into());
    }
    if udp_sum(family, ip) != 0xffff {
        return Err("UDP checksum".into());
    }
    if got[L2 + ports + 8..] != came[L2 + ports + 8..] {
        return Err("payload".into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stream_has_its_turn() {
        for streams in [2, 100, 200, 2_000, 40_000, 65_534] {
            let mut seen: Vec<u32> = Order::Mixed.of(streams).collect();
            let in_turn = seen.windows(2).filter(|w| w[0].abs_diff(w[1]) == 1).count();
            assert!(streams < 100 || in_turn == 0, "{streams}");
            seen.sort_unstable();
            assert!(seen.into_iter().eq(0..streams), "{streams}");
        }
    }

    #[test]
    fn a_packet_that_was_not_relayed_is_noticed() {
        for family in [Family::Ipv4, Family::Ipv6] {
            let stream = Stream { number: 4, family };
            assert!(check_packet(&packet(stream, 214), stream, 214).is_err());
        }
    }
}
