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

const UDP6: usize = Ethernet::LEN + Ipv6::LEN;

/// Octets of the headers of Ethernet, IPv4, UDP and RTP; and as many are those of Ethernet and IPv6.
const FRONT: usize = RTP4 + Rtp::LEN;
const _: () = assert!(FRONT == UDP6);

/// Octets of the headers of UDP and RTP, which follow in an IPv6 packet.
const REST: usize = UdpHeader::LEN + Rtp::LEN;

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

/// The headers of a whole UDP datagram over plain IPv4 or IPv6 to one of our addresses, with nothing behind it, and
/// long enough for RTP.
#[derive(Debug)]
pub struct Usual<'a> {
    front: &'a mut [u8; FRONT],
}

/// What of these headers lies behind [`Usual`] if they are IPv6's. Apart, for a burst has room for each packet's
/// [`Usual`], and IPv4's is not to be longer for it.
#[derive(Debug)]
pub struct Rest<'a>(&'a mut [u8; REST]);

/// What [`Usual::of`] finds in a frame.
#[derive(Debug)]
pub struct Found<'a> {
    /// The packet.
    pub packet: Usual<'a>,
    /// Its rest: an IPv6 packet has one, an IPv4 packet has none.
    pub rest: Option<Rest<'a>>,
    /// Where it was sent, as [`Endpoint::to_bits`](penstock_shm::Endpoint::to_bits).
    pub endpoint: u32,
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
    /// The IPv4 packet in a frame, and where it was sent (as [`Found::endpoint`]), if it is such a one, sent to this MAC and to
    /// one of these addresses. `ip_checked` says that the NIC found the IPv4 header checksum right.
    ///
    /// # Errors
    /// Gives back the frame of any other.
    #[inline(always)]
    pub fn of4(
        frame: &'a mut [u8],
        mac: Mac,
        locals: &LocalAddrs,
        last: &mut LastAddress,
        ip_checked: bool,
    ) -> Result<(Usual<'a>, u32), &'a mut [u8]> {
        match endpoint4(frame, mac, locals, last, ip_checked) {
            Some(endpoint) if frame.len() >= FRONT => match frame.first_chunk_mut() {
                Some(front) => Ok((Usual { front }, endpoint)),
                None => unreachable!("compared above"),
            },
            _ => Err(frame),
        }
    }

    /// The IPv6 packet in a frame, likewise.
    #[inline(always)]
    pub fn of6(
        frame: &'a mut [u8],
        mac: Mac,
        locals: &LocalAddrs,
        last: &mut LastAddress,
    ) -> Option<(Usual<'a>, Rest<'a>, u32)> {
        let endpoint = endpoint6(frame, mac, locals, last)?;
        let (front, behind) = frame.split_first_chunk_mut()?;
        let rest = Rest(behind.first_chunk_mut()?);
        Some((Usual { front }, rest, endpoint))
    }

    /// The packet in a frame, of either version.
    #[inline(always)]
    pub fn of(
        frame: &'a mut [u8],
        mac: Mac,
        locals: &LocalAddrs,
        last: &mut LastAddress,
        ip_checked: bool,
    ) -> Option<Found<'a>> {
        let (packet, rest, endpoint) = match Usual::of4(frame, mac, locals, last, ip_checked) {
            Ok((packet, endpoint)) => (packet, None, endpoint),
            Err(frame) => {
                let (packet, rest, endpoint) = Usual::of6(frame, mac, locals, last)?;
                (packet, Some(rest), endpoint)
            }
        };
        Some(Found {
            packet,
            rest,
            endpoint,
        })
    }

    /// Judges, meters and rewrites the packet, in place. False, and nothing changed, if it has to go the
    /// long way.
    ///
    /// `rest` is what was found with it. `slot.usual_hop` is the number of `l2`. `guard` is that of the worker that asks:
    /// only a packet passes whose stream that worker owns, and that goes on with the stream's sequence.
    /// `now_ns` is the time of the burst, ns of CLOCK_MONOTONIC.
    #[inline(always)]
    pub fn pass(
        &mut self,
        rest: Option<&mut Rest<'_>>,
        slot: &Slot,
        meter: &Meter,
        l2: &UntaggedL2,
        guard: Last,
        now_ns: u64,
    ) -> bool {
        debug_assert_eq!(rest.is_some(), self.front[Ethernet::LEN] >> 4 == 6);
        match rest {
            None => pass4(self.front, slot, meter, l2, guard, now_ns),
            Some(Rest(rest)) => pass6(self.front, rest, slot, meter, l2, guard, now_ns),
        }
    }
}

impl Found<'_> {
    /// As [`Usual::pass`], for who has one packet and not a burst.
    #[inline]
    pub fn pass(
        &mut self,
        slot: &Slot,
        meter: &Meter,
        l2: &UntaggedL2,
        guard: Last,
        now_ns: u64,
    ) -> bool {
        let rest = self.rest.as_mut();
        self.packet.pass(rest, slot, meter, l2, guard, now_ns)
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
    let headers = frame.first_chunk::<FRONT>()?;
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
    let headers = frame.first_chunk::<{ FRONT + REST }>()?;
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

#[inline(always)]
fn pass4(
    headers: &mut [u8; FRONT],
    slot: &Slot,
    meter: &Meter,
    l2: &UntaggedL2,
    guard: Last,
    now_ns: u64,
) -> bool {
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

#[inline(always)]
fn pass6(
    front: &mut [u8; FRONT],
    rest: &mut [u8; REST],
    slot: &Slot,
    meter: &Meter,
    l2: &UntaggedL2,
    guard: Last,
    now_ns: u64,
) -> bool {
    let length = *view(front, Ethernet::LEN + 4);
    let udp_len = usize::from(u16::from_be_bytes(length));
    let bytes = udp_len.wrapping_sub(UdpHeader::LEN);
    let rtp = Rtp(view(rest, UdpHeader::LEN));
    let passes = *view(rest, 0) == slot.remote_port
        && *view(front, Ethernet::LEN + 8) == slot.remote_v6
        && udp_len + Ipv6::LEN <= usize::from(slot.longest)
        && meter::follow(meter, slot, now_ns, bytes, rtp, guard);
    if passes {
        l2.write(front);
        known6(front, Ethernet::LEN, rest, slot, length);
    }
    passes
}
