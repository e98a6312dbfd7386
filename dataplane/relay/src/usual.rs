//! The packet a relay mostly sees, handled by as few instructions as will do: untagged IPv4 or IPv6, RTP with
//! neither contributing sources nor an extension, from a locked source, out over an untagged link in the same IP version.
//!
//! [`Usual::of`] accepts such a packet as [`classify`](crate::classify) would, [`Usual::pass`] judges,
//! meters and rewrites it as [`judge`](crate::judge) and [`rewrite`](crate::rewrite()) would. Both only
//! ever say yes; what they do not accept goes the long way, which names the reason. Tests hold both ways
//! to the same result.

use crate::headers::{Ethernet, Ipv4, Ipv6, Rtp, UdpHeader, ethertype, protocol, view};
use crate::local_addrs::LocalAddrs;
use crate::meter;
use crate::rewrite::{UntaggedL2, known4, known6};
use penstock_shm::record::Slot;
use penstock_shm::tally::{Last, Meter};

const UDP4: usize = Ethernet::LEN + Ipv4::LEN;
const RTP4: usize = UDP4 + UdpHeader::LEN;
const HEADERS4: usize = RTP4 + Rtp::LEN;

const UDP6: usize = Ethernet::LEN + Ipv6::LEN;
const RTP6: usize = UDP6 + UdpHeader::LEN;
const HEADERS6: usize = RTP6 + Rtp::LEN;

/// The longest frame that an IPv4 total length can describe.
const LONGEST4: usize = Ethernet::LEN + 0xffff;

/// The longest frame that an IPv6 payload length can describe.
const LONGEST6: usize = UDP6 + 0xffff;

/// A MAC address, ready to be compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mac(u64);

impl Mac {
    /// Of its octets.
    pub const fn new([a, b, c, d, e, f]: [u8; 6]) -> Mac {
        Mac(u64::from_le_bytes([0, 0, a, b, c, d, e, f]))
    }
}

/// A whole UDP datagram over plain IPv4 or IPv6 to one of our addresses, with nothing behind it, and long enough
/// for RTP.
#[derive(Debug)]
pub enum Usual<'a> {
    /// Over IPv4.
    V4(Usual4<'a>),
    /// Over IPv6.
    V6(Usual6<'a>),
}

/// See [`Usual`].
#[derive(Debug)]
pub struct Usual4<'a> {
    headers: &'a mut [u8; HEADERS4],
}

/// See [`Usual`].
#[derive(Debug)]
pub struct Usual6<'a> {
    headers: &'a mut [u8; HEADERS6],
}

/// The local addresses of the packets before: mostly one is the next one's too.
#[derive(Debug)]
pub struct LastAddress {
    address: [u8; 4],
    /// The endpoint of its port 0.
    first: u32,
    address6: [u8; 16],
    first6: u32,
}

impl LastAddress {
    /// Of no address: nobody's packets are sent to 0.0.0.0 or ::, and if so, they find no stream.
    pub const NONE: LastAddress = LastAddress {
        address: [0; 4],
        first: 0xffff_0000,
        address6: [0; 16],
        first6: 0xffff_0000,
    };

    #[cold]
    #[inline(never)]
    fn find(&mut self, address: [u8; 4], locals: &LocalAddrs) -> bool {
        let Some(number) = locals.get4(0, address) else {
            return false;
        };
        self.address = address;
        self.first = u32::from(number) << 16;
        true
    }

    #[cold]
    #[inline(never)]
    fn find6(&mut self, address: [u8; 16], locals: &LocalAddrs) -> bool {
        let Some(number) = locals.get6(0, address) else {
            return false;
        };
        self.address6 = address;
        self.first6 = u32::from(number) << 16;
        true
    }
}

impl<'a> Usual<'a> {
    /// The packet in a frame, if it is such a one, sent to this MAC and to one of these addresses, and where
    /// it was sent, as [`Endpoint::to_bits`]. `ip_checked` says that the NIC found the IPv4 header checksum right.
    ///
    /// [`Endpoint::to_bits`]: penstock_shm::Endpoint::to_bits
    #[inline(always)]
    pub fn of(
        frame: &'a mut [u8],
        mac: Mac,
        locals: &LocalAddrs,
        last: &mut LastAddress,
        ip_checked: bool,
    ) -> Option<(Usual<'a>, u32)> {
        match endpoint4(frame, mac, locals, last, ip_checked) {
            Some(endpoint) => {
                let headers = frame.first_chunk_mut()?;
                Some((Usual::V4(Usual4 { headers }), endpoint))
            }
            None => {
                let endpoint = endpoint6(frame, mac, locals, last)?;
                let headers = frame.first_chunk_mut()?;
                Some((Usual::V6(Usual6 { headers }), endpoint))
            }
        }
    }

    /// Judges, meters and rewrites the packet, in place. False, and nothing changed, if it has to go the
    /// long way.
    ///
    /// `slot.usual_hop` is the number of `l2`. `guard` is that of the worker that asks:
    /// only a packet passes whose stream that worker owns, and that goes on with the stream's sequence.
    /// `now_ns` is the time of the burst, ns of CLOCK_MONOTONIC.
    #[inline]
    pub fn pass(
        &mut self,
        slot: &Slot,
        meter: &Meter,
        l2: &UntaggedL2,
        guard: Last,
        now_ns: u64,
    ) -> bool {
        match self {
            Usual::V4(packet) => packet.pass(slot, meter, l2, guard, now_ns),
            Usual::V6(packet) => packet.pass(slot, meter, l2, guard, now_ns),
        }
    }
}

#[inline(always)]
fn endpoint4(
    frame: &[u8],
    mac: Mac,
    locals: &LocalAddrs,
    last: &mut LastAddress,
    ip_checked: bool,
) -> Option<u32> {
    let len = frame.len();
    let headers = frame.first_chunk::<HEADERS4>()?;
    let ip = Ipv4(view(headers, Ethernet::LEN));
    let destination: [u8; 4] = *view(headers, UDP4 - 4);
    let total_len = ((len - Ethernet::LEN) as u16).to_be_bytes();
    let port_and_length = u32::from_be_bytes(*view(headers, UDP4 + 2));
    // IPv4 without options, whatever its TOS; UDP, unfragmented, whatever its TTL. The order is that of the
    // shortest machine code: checks of a kind side by side are made one, by more instructions.
    let is_usual = len <= LONGEST4
        && u64::from_le_bytes(*view(headers, 0)) << 16 == mac.0
        && *view(headers, Ethernet::LEN - 2) == ethertype::IPV4.to_be_bytes()
        && headers[Ethernet::LEN] == 0x45
        && u32::from_le_bytes(*view(headers, Ethernet::LEN + 6)) & 0xff00_ff3f
            == u32::from(protocol::UDP) << 24
        && *view(headers, Ethernet::LEN + 2) == total_len
        && (ip_checked || ip.checksum_ok())
        && (last.address == destination || last.find(destination, locals))
        && port_and_length as u16 == (len - UDP4) as u16;
    is_usual.then_some(last.first | port_and_length >> 16)
}

#[inline(never)]
fn endpoint6(frame: &[u8], mac: Mac, locals: &LocalAddrs, last: &mut LastAddress) -> Option<u32> {
    let len = frame.len();
    let headers = frame.first_chunk::<HEADERS6>()?;
    let destination: [u8; 16] = *view(headers, UDP6 - 16);
    let length = ((len - UDP6) as u16).to_be_bytes();
    let port_and_length = u32::from_be_bytes(*view(headers, UDP6 + 2));
    // UDP behind no extension header, whatever the traffic class, flow label and hop limit, and with a checksum
    // (RFC 8200, 8.1).
    let is_usual = len <= LONGEST6
        && u64::from_le_bytes(*view(headers, 0)) << 16 == mac.0
        && *view(headers, Ethernet::LEN - 2) == ethertype::IPV6.to_be_bytes()
        && headers[Ethernet::LEN] & 0xf0 == 0x60
        && headers[Ethernet::LEN + 6] == protocol::UDP
        && *view(headers, Ethernet::LEN + 4) == length
        && *view(headers, UDP6 + 6) != [0; 2]
        && (last.address6 == destination || last.find6(destination, locals))
        && port_and_length as u16 == (len - UDP6) as u16;
    is_usual.then_some(last.first6 | port_and_length >> 16)
}

impl Usual4<'_> {
    /// See [`Usual::pass`].
    #[inline(always)]
    pub fn pass(
        &mut self,
        slot: &Slot,
        meter: &Meter,
        l2: &UntaggedL2,
        guard: Last,
        now_ns: u64,
    ) -> bool {
        let headers = &mut *self.headers;
        let total_len = *view(headers, Ethernet::LEN + 2);
        let len = u16::from_be_bytes(total_len);
        let bytes = usize::from(len).wrapping_sub(RTP4 - Ethernet::LEN);
        let rtp = Rtp(view(headers, RTP4));
        let passes = *view(headers, UDP4 - 8) == slot.remote_v4
            && *view(headers, UDP4) == slot.remote_port
            && len <= slot.longest
            && meter::follow(meter, slot, now_ns, bytes, rtp, guard);
        if passes {
            l2.write(headers);
            known4(headers, Ethernet::LEN, slot, total_len);
        }
        passes
    }
}

impl Usual6<'_> {
    /// See [`Usual::pass`].
    #[inline(always)]
    pub fn pass(
        &mut self,
        slot: &Slot,
        meter: &Meter,
        l2: &UntaggedL2,
        guard: Last,
        now_ns: u64,
    ) -> bool {
        let headers = &mut *self.headers;
        let length = *view(headers, Ethernet::LEN + 4);
        let udp_len = usize::from(u16::from_be_bytes(length));
        let bytes = udp_len.wrapping_sub(UdpHeader::LEN);
        let rtp = Rtp(view(headers, RTP6));
        let passes = *view(headers, UDP6) == slot.remote_port
            && *view(headers, Ethernet::LEN + 8) == slot.remote_v6
            && udp_len + Ipv6::LEN <= usize::from(slot.longest)
            && meter::follow(meter, slot, now_ns, bytes, rtp, guard);
        if passes {
            l2.write(headers);
            known6(headers, Ethernet::LEN, slot, length);
        }
        passes
    }
}
