//! The stream record: what one endpoint is, where its packets go, and what passed.
//!
//! Six cache lines. An IPv4 packet touches the index entry, the first line of one [`Slot`] and the
//! [`Meter`]; an IPv6 packet one line more.
//!
//! | line | what | written by |
//! | --- | --- | --- |
//! | 0 | [`Head`]: identity and state | steward |
//! | 1 | [`Meter`] | the owner worker |
//! | 2, 3 | [`Slot`] 0: policy and route | steward, while no worker can see it |
//! | 4, 5 | [`Slot`] 1 | likewise |
//!
//! The index entry of an endpoint names the stream *and* its live slot, so one release store
//! changes policy and route together.

use crate::cell::SlotCell;
use crate::sync::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::net::{IpAddr, SocketAddr};

/// A counter with one writer: plain load and store, no locked instruction.
#[derive(Default)]
#[repr(transparent)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`. Only the counter's one writer may call it.
    #[inline(always)]
    pub fn add(&self, n: u64) {
        self.0.store(
            self.0.load(Ordering::Relaxed).wrapping_add(n),
            Ordering::Relaxed,
        );
    }

    /// The present value.
    #[inline(always)]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Sets the value. Only the counter's one writer may call it.
    #[inline(always)]
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }
}

/// A local (address, port): the name of a stream on the wire between control and the plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Endpoint {
    /// Number of the local address in the table's address list.
    pub addr: u16,
    /// UDP port, host order.
    pub port: u16,
}

impl Endpoint {
    /// `addr << 16 | port`: the endpoint's place in the index, and its form in a record.
    #[inline(always)]
    pub const fn to_bits(self) -> u32 {
        (self.addr as u32) << 16 | self.port as u32
    }

    /// The inverse of [`Endpoint::to_bits`].
    #[inline(always)]
    pub const fn from_bits(bits: u32) -> Endpoint {
        Endpoint {
            addr: (bits >> 16) as u16,
            port: bits as u16,
        }
    }
}

/// What an endpoint carries, and so which checks its packets get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// RTP (and RTCP multiplexed with it, RFC 5761).
    Rtp = 0,
    /// RTCP on a port of its own.
    Rtcp = 1,
    /// Anything over UDP (T.38's UDPTL): no RTP checks.
    Raw = 2,
}

impl Kind {
    /// The kind of this number, if there is one.
    pub const fn from_u8(number: u8) -> Option<Kind> {
        match number {
            0 => Some(Kind::Rtp),
            1 => Some(Kind::Rtcp),
            2 => Some(Kind::Raw),
            _ => None,
        }
    }
}

/// How a stream comes to accept a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Learn {
    /// Only the signalled address passes.
    Off = 0,
    /// The first packet's source is adopted, then locked.
    Immediate = 1,
}

impl Learn {
    /// The way to learn of this number, if there is one.
    pub const fn from_u8(number: u8) -> Option<Learn> {
        match number {
            0 => Some(Learn::Off),
            1 => Some(Learn::Immediate),
            _ => None,
        }
    }
}

/// What control wants of one stream. In a command it is one 64-byte entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamSpec {
    /// Where the stream arrives.
    pub endpoint: Endpoint,
    /// The endpoint its packets leave from: the stream of the opposite direction.
    pub peer: Endpoint,
    /// The signalled remote address, where packets of the *peer* stream are sent; `None` until known.
    pub remote: Option<SocketAddr>,
    /// What passes here.
    pub kind: Kind,
    /// How a source is accepted.
    pub learn: Learn,
    /// Whether packets that arrive here are forwarded.
    pub gate_open: bool,
    /// Grows with each signalling that should make the stream learn its source anew.
    pub signal: u32,
    /// RTP clock rate in Hz, for jitter; 0 for none.
    pub clock_hz: u32,
    /// DSCP of the packets that leave towards `remote`, 0 to 63.
    pub dscp: u8,
    /// Which leg of the call, from 0.
    pub leg: u16,
    /// Which media of the leg, from 0.
    pub media: u16,
}

/// Identity and state of a record. Written by the steward, read by anyone.
#[derive(Default)]
#[repr(C, align(64))]
pub struct Head {
    /// Grows by one when the record is taken and by one when it is freed: odd while in use.
    pub generation: AtomicU32,
    /// [`state`]: free, live or ended.
    pub state: AtomicU32,
    /// Number of flips since the region was made; the low bit names the slot that holds the truth.
    /// A plane that restarts reads it here, and a reader sees by it that a slot changed under its hands.
    pub active: AtomicU32,
    /// `addr << 16 | port` of the endpoint.
    pub endpoint: AtomicU32,
    /// Control's key of the call.
    pub call: AtomicU64,
    /// When the record was taken, ns of CLOCK_MONOTONIC.
    pub created_ns: AtomicU64,
    /// When the stream was removed, ns of CLOCK_MONOTONIC.
    pub ended_ns: AtomicU64,
}

/// Values of [`Head::state`].
pub mod state {
    /// Nobody's; on the free list.
    pub const FREE: u32 = 0;
    /// In the index; packets pass.
    pub const LIVE: u32 = 1;
    /// Out of the index; the last meter waits for control to read it.
    pub const ENDED: u32 = 2;
}

/// What passed at an endpoint. Written by the owner worker alone, with relaxed stores; readers
/// check [`Head::generation`] before and after.
#[derive(Default)]
#[repr(C, align(64))]
pub struct Meter {
    /// Packets that passed every check.
    pub packets: Counter,
    /// Their UDP payload, octets.
    pub bytes: Counter,
    /// When the last one came, ns of CLOCK_MONOTONIC; 0 for never.
    pub last_seen_ns: Counter,
    /// Packets to this endpoint that were dropped.
    pub dropped: AtomicU32,
    /// SSRC of the present source (RFC 3550, 5.1), as it lies in the packet: see [`Meter::ssrc`].
    pub ssrc: AtomicU32,
    /// Extended highest sequence number (RFC 3550, A.1).
    pub ext_seq: AtomicU32,
    /// Extended sequence number the SSRC began with.
    pub base_seq: AtomicU32,
    /// How many of `packets` are not of this SSRC's sequence: what came before it, strays, RTCP.
    pub apart: AtomicU32,
    /// Loss of this endpoint's former SSRCs.
    pub lost_before: AtomicU32,
    /// Interarrival jitter in RTP clock units, times 16 (RFC 3550, A.8).
    pub jitter_q4: AtomicU32,
    /// Relative transit time of the last packet, RTP clock units.
    pub transit: AtomicU32,
    /// The owner and what the last RTP packet was like: a [`Last`].
    pub last: AtomicU32,
    /// [`Slot::version`] modulo 255, plus one, for which a latch was requested; 0 for none.
    pub latch_asked: AtomicU8,
}

/// What [`Meter::last`] holds, in one word, so that a packet like the last one is known by one comparison.
///
/// From the lowest octet: the first octet of an RTP header without padding, extension or contributing
/// sources, or one that no packet is compared with, if a packet of this payload type may be RTCP; the payload type; the owner worker's number
/// plus one, 0 while nobody owns the stream; and [`Last::seen`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Last(u32);

/// The padding bit of an RTP header, which [`Last::expected`] leaves out.
const PADDED: u32 = 0x20;

impl Last {
    /// [`Last::seen`] while the last packet was in sequence.
    pub const IN_SEQUENCE: u8 = 1;

    /// Of its word.
    #[inline(always)]
    pub const fn from_bits(bits: u32) -> Last {
        Last(bits)
    }

    /// Its word.
    #[inline(always)]
    pub const fn to_bits(self) -> u32 {
        self.0
    }

    /// Of the owner alone: no RTP packet came yet.
    pub const fn of_owner(owner: u8) -> Last {
        Last((owner as u32) << 16)
    }

    /// Of a stream whose last packet was in sequence, without the packet's own octets.
    #[inline(always)]
    pub const fn guard(owner: u8) -> Last {
        Last((owner as u32) << 16 | (Last::IN_SEQUENCE as u32) << 24)
    }

    /// After an RTP packet.
    pub const fn after(self, payload_type: u8, seen: u8) -> Last {
        let may_be_rtcp = payload_type & 0x60 == 0x40;
        let first = if may_be_rtcp { PADDED } else { 0x80 };
        Last(self.0 & 0x00ff_0000 | (seen as u32) << 24 | (payload_type as u32) << 8 | first)
    }

    /// What the word is if a packet that begins with these octets (a little-endian word of them) goes on
    /// with the sequence: marker and padding aside.
    #[inline(always)]
    pub const fn expected(self, rtp: u32) -> u32 {
        rtp & 0x7fdf | self.0
    }

    /// Number of the owner worker plus one; 0 while nobody owns the stream.
    pub const fn owner(self) -> u8 {
        (self.0 >> 16) as u8
    }

    /// Payload type last seen.
    pub const fn payload_type(self) -> u8 {
        (self.0 >> 8) as u8
    }

    /// 0 before the first RTP packet; [`Last::IN_SEQUENCE`]; 128 and seven bits of the next number after
    /// a jump.
    pub const fn seen(self) -> u8 {
        (self.0 >> 24) as u8
    }
}

impl Meter {
    /// See [`Last`].
    pub fn last(&self) -> Last {
        Last(self.last.load(Ordering::Relaxed))
    }

    /// Nobody owns the stream any more. Only while no worker can see the record.
    pub(crate) fn disown(&self) {
        let last = self.last().0 & !Last::of_owner(u8::MAX).0;
        self.last.store(last, Ordering::Relaxed);
    }

    /// SSRC of the present source (RFC 3550, 5.1).
    pub fn ssrc(&self) -> u32 {
        u32::from_be(self.ssrc.load(Ordering::Relaxed))
    }

    /// Packets received from the present SSRC.
    pub fn received(&self) -> u32 {
        // Pairs with the owner's Release stores: the packets that are apart have been counted, so a reader
        // beside it sees no difference below 0.
        let apart = self.apart.load(Ordering::Acquire);
        (self.packets.get() as u32).wrapping_sub(apart)
    }

    /// Forgets everything. Steward only, while no worker can see the record.
    pub(crate) fn reset(&self) {
        let Meter {
            packets,
            bytes,
            last_seen_ns,
            dropped,
            ssrc,
            ext_seq,
            base_seq,
            apart,
            lost_before,
            jitter_q4,
            transit,
            last,
            latch_asked,
        } = self;
        for counter in [packets, bytes, last_seen_ns] {
            counter.set(0);
        }
        for word in [
            dropped,
            ssrc,
            ext_seq,
            base_seq,
            apart,
            lost_before,
            jitter_q4,
            transit,
            last,
        ] {
            word.store(0, Ordering::Relaxed);
        }
        latch_asked.store(0, Ordering::Relaxed);
    }
}

/// Bits of [`Slot::flags`].
pub mod flag {
    /// Packets that arrive are forwarded.
    pub const GATE_OPEN: u16 = 1 << 0;
    /// Only [`Slot::remote`] may send.
    pub const LOCKED: u16 = 1 << 1;
    /// The route is complete: egress addresses and adjacency are set.
    pub const ROUTED: u16 = 1 << 2;
    /// [`Slot::remote`] is set.
    pub const REMOTE: u16 = 1 << 3;
    /// The endpoint and its remote are IPv6.
    pub const V6: u16 = 1 << 4;
    /// The route leaves over IPv6.
    pub const EGRESS_V6: u16 = 1 << 5;
    /// RTP checks and meters apply.
    pub const RTP: u16 = 1 << 6;
    /// RTCP checks apply.
    pub const RTCP: u16 = 1 << 7;
    /// The source was learned from a packet rather than taken from signalling.
    pub const LATCHED: u16 = 1 << 8;
}

/// Policy and route of a stream: two cache lines, one of which is enough for IPv4.
///
/// Immutable while a worker can see it. Ready-made header bytes are in network order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct Slot {
    /// See [`flag`].
    pub flags: u16,
    /// Number of the next hop in the plane's adjacency table.
    pub adjacency: u16,
    /// The source port that may send here (network order), if LOCKED.
    pub remote_port: [u8; 2],
    /// The longest IP packet that may leave, octets: the egress port's MTU.
    pub longest: u16,
    /// The IPv4 source that may send here, if LOCKED and not V6.
    pub remote_v4: [u8; 4],
    /// One's-complement sum of the addresses and ports that leave, folded to 16 bits. Sums are over words
    /// in native byte order.
    pub udp_sum: u16,
    /// What the UDP checksum grows by, from what arrives to what leaves, if LOCKED and IPv4 on both
    /// sides: the sum over the old addresses and ports less `udp_sum`.
    pub udp_delta: u16,
    /// The IPv4 header that leaves, with total length and checksum zero, or with EGRESS_V6 the first eight
    /// octets of the IPv6 header; from octet 20 on the UDP ports that leave.
    pub head: [u8; 24],
    /// The checksum that the IPv4 header would have with a total length of 0.
    pub ip4_sum: u16,
    /// `adjacency`, if the stream's packets are usual ones: locked RTP from IPv4 to IPv4, with its gate open
    /// and a route; else [`Slot::NOT_USUAL`].
    pub usual_hop: u16,
    /// Number of times the stream's slots were filled: tells a worker that a latch was answered.
    pub version: u32,
    /// RTP clock ticks per ns, times 2^32; 0 for no clock.
    pub clock_mult: u32,
    /// RTP clock rate in Hz; 0 for no clock.
    pub clock_hz: u32,
    /// Record number of the peer stream; `u32::MAX` while it has none.
    pub peer: u32,
    /// Endpoint the packets leave from, `addr << 16 | port`.
    pub peer_endpoint: u32,

    /// The IPv6 source that may send here, if LOCKED and V6.
    pub remote_v6: [u8; 16],
    /// Source address that leaves, if EGRESS_V6.
    pub ip6_src: [u8; 16],
    /// Destination address that leaves, if EGRESS_V6.
    pub ip6_dst: [u8; 16],
    /// [`StreamSpec::signal`] that was last applied.
    pub signal: u32,
    /// Leg and media number, [`StreamSpec::leg`] and [`StreamSpec::media`].
    pub leg: u16,
    /// See `leg`.
    pub media: u16,
    /// [`Kind`] as a number.
    pub kind: u8,
    /// [`Learn`] as a number.
    pub learn: u8,
    /// Traffic class or TOS byte that leaves towards this stream's own remote.
    pub tos: u8,
    /// Digest of [`StreamSpec::remote`] as signalled: tells new signalling that moves the remote from
    /// new signalling that confirms it.
    pub signalled: [u8; 4],
    /// Zero.
    pub reserved: u8,
}

#[cfg(not(loom))]
const _: () = {
    assert!(size_of::<Head>() == 64);
    assert!(size_of::<Meter>() == 64);
    assert!(size_of::<Slot>() == 128);
    assert!(std::mem::offset_of!(Slot, remote_v6) == 64);
};

impl Slot {
    /// See [`Slot::usual_hop`].
    pub const NOT_USUAL: u16 = u16::MAX;

    /// A slot with its gate closed, no route and no peer.
    pub const CLOSED: Slot = Slot {
        flags: 0,
        adjacency: 0,
        remote_port: [0; 2],
        longest: 0,
        remote_v4: [0; 4],
        udp_sum: 0,
        udp_delta: 0,
        head: [0; 24],
        ip4_sum: 0,
        usual_hop: Slot::NOT_USUAL,
        version: 0,
        clock_mult: 0,
        clock_hz: 0,
        peer: u32::MAX,
        peer_endpoint: 0,
        remote_v6: [0; 16],
        ip6_src: [0; 16],
        ip6_dst: [0; 16],
        signal: 0,
        leg: 0,
        media: 0,
        kind: 0,
        learn: 0,
        tos: 0,
        signalled: [0; 4],
        reserved: 0,
    };

    /// The remote address this stream accepts packets from and its peer sends to.
    pub fn remote(&self) -> Option<SocketAddr> {
        if self.flags & flag::REMOTE == 0 {
            return None;
        }
        let ip = if self.flags & flag::V6 == 0 {
            IpAddr::from(self.remote_v4)
        } else {
            IpAddr::from(self.remote_v6)
        };
        Some(SocketAddr::new(ip, u16::from_be_bytes(self.remote_port)))
    }
}

/// One stream of the table.
#[repr(C, align(64))]
pub struct Record {
    /// Identity and state.
    pub head: Head,
    /// What passed.
    pub meter: Meter,
    /// Policy and route, twice.
    pub(crate) slots: [SlotCell; 2],
}

#[cfg(not(loom))]
const _: () = assert!(size_of::<Record>() == 384);

#[cfg(loom)]
impl Record {
    pub(crate) fn new() -> Record {
        let slots = [SlotCell::new(), SlotCell::new()];
        Record {
            head: Head::default(),
            meter: Meter::default(),
            slots,
        }
    }
}
