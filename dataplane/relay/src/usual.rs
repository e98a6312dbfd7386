//! The packet a relay mostly sees, handled by as few instructions as will do: untagged IPv4, RTP with
//! neither contributing sources nor an extension, from a locked source, out over an untagged link.
//!
//! [`Usual::of`] accepts such a packet as [`classify`](crate::classify) would, [`Usual::pass`] judges,
//! meters and rewrites it as [`judge`](crate::judge) and [`rewrite`](crate::rewrite()) would. Both only
//! ever say yes; what they do not accept goes the long way, which names the reason. Tests hold both ways
//! to the same result.

use crate::headers::{Ethernet, Ipv4, Rtp, UdpHeader, ethertype, protocol, view};
use crate::local_addrs::LocalAddrs;
use crate::meter;
use crate::rewrite::{UntaggedL2, known4};
use penstock_shm::record::Slot;
use penstock_shm::tally::{Last, Meter};

const UDP: usize = Ethernet::LEN + Ipv4::LEN;
const RTP: usize = UDP + UdpHeader::LEN;
const HEADERS: usize = RTP + Rtp::LEN;

/// The longest frame that an IPv4 total length can describe.
const LONGEST: usize = Ethernet::LEN + 0xffff;

/// A MAC address, ready to be compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mac(u64);

impl Mac {
    /// Of its octets.
    pub const fn new([a, b, c, d, e, f]: [u8; 6]) -> Mac {
        Mac(u64::from_le_bytes([0, 0, a, b, c, d, e, f]))
    }
}

/// A whole UDP datagram over plain IPv4 to one of our addresses, with nothing behind it, and long enough
/// for RTP.
#[derive(Debug)]
pub struct Usual<'a> {
    headers: &'a mut [u8; HEADERS],
}

/// The local address of the packet before: mostly it is the next one's too.
#[derive(Debug)]
pub struct LastAddress {
    address: [u8; 4],
    /// The endpoint of its port 0.
    first: u32,
}

impl LastAddress {
    /// Of no address: nobody's packets are sent to 0.0.0.0, and if so, they find no stream.
    pub const NONE: LastAddress = LastAddress {
        address: [0; 4],
        first: 0xffff_0000,
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
        let len = frame.len();
        let headers = frame.first_chunk_mut::<HEADERS>()?;
        let ip = Ipv4(view(headers, Ethernet::LEN));
        let destination: [u8; 4] = *view(headers, UDP - 4);
        let total_len = ((len - Ethernet::LEN) as u16).to_be_bytes();
        let port_and_length = u32::from_be_bytes(*view(headers, UDP + 2));
        // IPv4 without options, whatever its TOS; UDP, unfragmented, whatever its TTL. The order is that of the
        // shortest machine code: checks of a kind side by side are made one, by more instructions.
        let is_usual = len <= LONGEST
            && u64::from_le_bytes(*view(headers, 0)) << 16 == mac.0
            && *view(headers, Ethernet::LEN - 2) == ethertype::IPV4.to_be_bytes()
            && headers[Ethernet::LEN] == 0x45
            && u32::from_le_bytes(*view(headers, Ethernet::LEN + 6)) & 0xff00_ff3f
                == u32::from(protocol::UDP) << 24
            && *view(headers, Ethernet::LEN + 2) == total_len
            && (ip_checked || ip.checksum_ok())
            && (last.address == destination || last.find(destination, locals))
            && port_and_length as u16 == (len - UDP) as u16;
        is_usual.then_some((Usual { headers }, last.first | port_and_length >> 16))
    }

    /// Judges, meters and rewrites the packet, in place. False, and nothing changed, if it has to go the
    /// long way.
    ///
    /// `slot.usual_hop` is the number of `l2`. `guard` is that of the worker that asks:
    /// only a packet passes whose stream that worker owns, and that goes on with the stream's sequence.
    /// `now_ns` is the time of the burst, ns of CLOCK_MONOTONIC.
    #[inline(always)]
    pub fn pass(
        &mut self,
        slot: &Slot,
        meter: &Meter,
        l2: &UntaggedL2,
        guard: Last,
        now_ns: u64,
    ) -> bool {
        let Usual { headers } = self;
        let total_len = *view(headers, Ethernet::LEN + 2);
        let len = u16::from_be_bytes(total_len);
        let bytes = usize::from(len).wrapping_sub(RTP - Ethernet::LEN);
        let rtp = Rtp(view(headers, RTP));
        let passes = *view(headers, UDP - 8) == slot.remote_v4
            && *view(headers, UDP) == slot.remote_port
            && len <= slot.longest
            && meter::follow(meter, slot, now_ns, bytes, rtp, guard);
        if passes {
            l2.write(headers);
            known4(headers, Ethernet::LEN, slot, total_len);
        }
        passes
    }
}
