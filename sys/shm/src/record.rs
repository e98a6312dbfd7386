//! The stream record: what one endpoint is, where its packets go, and what passed.
//!
//! Fifteen cache lines. An IPv4 packet touches the index entry, the first line of one [`Slot`] and the
//! [`Meter`](crate::Meter); an IPv6 packet one line more.
//!
//! | line | what | written by |
//! | --- | --- | --- |
//! | 0 | [`Head`]: identity and state | steward |
//! | 1 to 7 | [`Tally`]: what is counted | the owner worker; drops and copies: who drops and copies |
//! | 8 to 10 | [`Slot`] 0: policy and route | steward, while no worker can see it |
//! | 11 to 13 | [`Slot`] 1 | likewise |
//! | 14 | ICE credentials of either slot | as the slot |
//!
//! The number is odd, so that the meters of a table fall into all sets of a cache, and its first slot lines too: with
//! sixteen they would fall into a quarter of them.
//!
//! The index entry of an endpoint names the stream *and* its live slot, so one release store
//! changes policy and route together.

use crate::cell::SlotCell;
#[cfg(not(loom))]
pub(crate) use crate::digest::set_digest_key;
pub use crate::digest::{digest_address, digest_ip, hint};
pub use crate::feed::link;
use crate::feed::{Feed, Mid};
use crate::ice::IceCells;
use crate::sync::{AtomicU32, AtomicU64};
use crate::tally::Tally;
use std::net::{IpAddr, SocketAddr};

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

/// How a stream comes to accept a source. A source once learned is locked: nothing else passes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Learn {
    /// Only the signalled address passes.
    Off = 0,
    /// The first packet's source is adopted and locked at once.
    Immediate = 1,
    /// For the length of the learning window every source passes and the last one is adopted; then it is locked.
    Delayed = 2,
    /// For the length of the learning window the most credible source so far passes, and no other: see
    /// [`rank`]. The signalled address itself is locked at once.
    #[default]
    Heuristic = 3,
    /// The source of the connectivity check that verifies first is, then of the one of highest priority that nominates
    /// (RFC 8445, 8.1.1): a stream with ICE.
    Checks = 4,
}

impl Learn {
    /// The way to learn of this number, if there is one.
    pub const fn from_u8(number: u8) -> Option<Learn> {
        match number {
            0 => Some(Learn::Off),
            1 => Some(Learn::Immediate),
            2 => Some(Learn::Delayed),
            3 => Some(Learn::Heuristic),
            4 => Some(Learn::Checks),
            _ => None,
        }
    }
}

/// How credible a source is: values of [`Slot::rank`].
pub mod rank {
    /// Nothing came yet.
    pub const NONE: u8 = 0;
    /// It was locked until signalling named another one: packets that were under way.
    pub const FORMER: u8 = 1;
    /// Nothing is known of it.
    pub const ANY: u8 = 2;
    /// It has the signalled port.
    pub const PORT: u8 = 3;
    /// It has the signalled IP address, or the one that signalling came from.
    pub const ADDRESS: u8 = 4;
    /// It was locked before.
    pub const KNOWN: u8 = 5;
    /// It is the signalled one.
    pub const SIGNALLED: u8 = 6;
    /// A connectivity check came from it that the stream's ICE credentials stand for.
    pub const CHECKED: u8 = 7;
    /// Likewise, and the other agent chose it.
    pub const NOMINATED: u8 = 8;
}

/// DSCP of what leaves (RFC 2474).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dscp {
    /// The one configured for the local address it leaves from.
    #[default]
    Default,
    /// That of the packet that came.
    Copy,
    /// This one, 0 to 63.
    Set(u8),
}

impl Dscp {
    const DEFAULT: u8 = 64;
    const COPY: u8 = 65;

    /// Its number in commands and slots.
    pub const fn to_u8(self) -> u8 {
        match self {
            Dscp::Default => Dscp::DEFAULT,
            Dscp::Copy => Dscp::COPY,
            Dscp::Set(dscp) => dscp & 63,
        }
    }

    /// The DSCP of this number, if there is one.
    pub const fn from_u8(number: u8) -> Option<Dscp> {
        match number {
            0..64 => Some(Dscp::Set(number)),
            Dscp::DEFAULT => Some(Dscp::Default),
            Dscp::COPY => Some(Dscp::Copy),
            _ => None,
        }
    }
}

/// What may share the port of an RTP stream, told apart by the first octet (RFC 7983): bits of
/// [`StreamSpec::accept`]. RTP and RTCP always may.
pub mod accept {
    /// STUN (first octet 0 to 3) and TURN channels (64 to 79).
    pub const STUN: u8 = 1 << 0;
    /// DTLS (20 to 63).
    pub const DTLS: u8 = 1 << 1;
    /// ZRTP (16 to 19).
    pub const ZRTP: u8 = 1 << 2;
    /// Every bit that means something.
    pub const ALL: u8 = STUN | DTLS | ZRTP;
}

/// How many policing profiles there are; number 0 is none at all.
pub const MAX_POLICIES: usize = 16;

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
    /// A locked stream follows a new source once the old one is silent.
    pub handover: bool,
    /// [`hint`] of where the leg's signalling came from, a likely source behind a NAT; 0 for unknown.
    pub hint: u32,
    /// Whether packets that arrive here are forwarded.
    pub gate_open: bool,
    /// Grows with each signalling that should make the stream learn its source anew.
    pub signal: u32,
    /// RTP clock rate in Hz, for jitter; 0 for none.
    pub clock_hz: u32,
    /// RTP payload types negotiated for what arrives, a bit each; 0 for any.
    pub payload_types: u128,
    /// Packets of other payload types are dropped rather than counted.
    pub strict_payload: bool,
    /// Payload type of telephone-event (RFC 4733); 0 for none.
    pub event_type: u8,
    /// What may share the port, of [`accept`].
    pub accept: u8,
    /// RTP and RTCP are SRTP: what is behind an RTCP header cannot be read.
    pub secure: bool,
    /// Number of the policing profile, below [`MAX_POLICIES`]; 0 for none.
    pub police: u8,
    /// Copies of what passes go to the capture ring.
    pub capture: bool,
    /// DSCP of the packets that leave towards `remote`.
    pub dscp: Dscp,
    /// Which leg of the call, from 0.
    pub leg: u16,
    /// Which media of the leg, from 0. Parts of one endpoint that share it are its RTP and its RTCP.
    pub media: u8,
    /// Where its packets come from. This and what follows is not in [`Op::Set`](crate::Op::Set): see
    /// [`Op::Feed`](crate::Op::Feed).
    pub feed: Feed,
    /// How its packets name themselves among those of a bundle.
    pub mid: Option<Mid>,
    /// Telephone events are dropped.
    pub drop_events: bool,
    /// The signalled remote is sent empty datagrams until something comes from it, which opens a NAT on the way.
    pub pierce: bool,
}

impl StreamSpec {
    /// A stream as most are: RTP, learning by heuristics, its gate open.
    pub const fn new(endpoint: Endpoint, peer: Endpoint) -> StreamSpec {
        StreamSpec {
            endpoint,
            peer,
            remote: None,
            kind: Kind::Rtp,
            learn: Learn::Heuristic,
            handover: false,
            hint: 0,
            gate_open: true,
            signal: 0,
            clock_hz: 0,
            payload_types: 0,
            strict_payload: false,
            event_type: 0,
            accept: 0,
            secure: false,
            police: 0,
            capture: false,
            dscp: Dscp::Default,
            leg: 0,
            media: 0,
            feed: Feed::Own,
            mid: None,
            drop_events: false,
            pierce: false,
        }
    }
}

/// A stream, and not the one that has its record later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordId {
    /// Number of the record.
    pub number: u32,
    /// Its [`Head::generation`].
    pub generation: u32,
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
    /// A locked stream follows a new source once the old one is silent.
    pub const HANDOVER: u16 = 1 << 9;
    /// Packets of payload types that were not negotiated are dropped.
    pub const STRICT_PAYLOAD: u16 = 1 << 10;
    /// What is behind an RTCP header is encrypted.
    pub const SECURE: u16 = 1 << 11;
    /// Copies of what passes go to the capture ring.
    pub const CAPTURE: u16 = 1 << 12;
    /// What leaves has the DSCP of what came.
    pub const COPY_DSCP: u16 = 1 << 13;
    /// The remote address may not send (source lists).
    pub const DENIED: u16 = 1 << 14;
    /// [`Slot::known`](super::Slot::known) is the source that signalling has replaced.
    pub const FORMER: u16 = 1 << 15;
}

/// Policy and route of a stream: three cache lines, of which the first is enough for a usual packet.
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
    /// What the UDP checksum grows by, from what arrives to what leaves, if LOCKED and of one IP version on both
    /// sides: the sum over the old addresses and ports less `udp_sum`.
    pub udp_delta: u16,
    /// The IPv4 header that leaves, with total length and checksum zero, or with EGRESS_V6 the first eight
    /// octets of the IPv6 header; from octet 20 on the UDP ports that leave.
    pub head: [u8; 24],
    /// The checksum that the IPv4 header would have with a total length of 0.
    pub ip4_sum: u16,
    /// `adjacency`, if the stream's packets are usual ones: locked RTP that stays in its IP version, with its gate open
    /// and a route; else [`Slot::NOT_USUAL`].
    pub usual_hop: u16,
    /// Number of times the stream's slots were filled: tells a worker that a latch was answered.
    pub version: u32,
    /// RTP clock ticks per ns, times 2^32; 0 for no clock.
    pub clock_mult: u32,
    /// RTP clock ticks by which the delay of a packet may differ from the one before without being counted in
    /// [`Detail::variation`](crate::tally::Detail::variation).
    pub steady: u32,
    /// Record number of the peer stream; `u32::MAX` while it has none.
    pub peer: u32,
    /// [`StreamSpec::event_type`].
    pub event_type: u8,
    /// [`StreamSpec::accept`].
    pub accept: u8,
    /// [`StreamSpec::police`].
    pub police: u8,
    /// 802.1p priority of what leaves tagged, 0 to 7.
    pub pcp: u8,

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
    pub media: u8,
    /// See [`link`].
    pub links: u8,
    /// [`Kind`] as a number.
    pub kind: u8,
    /// [`Learn`] as a number.
    pub learn: u8,
    /// Traffic class or TOS byte that leaves by the route: the DSCP, unless COPY_DSCP, and two zero bits.
    pub tos: u8,
    /// [`StreamSpec::dscp`] as [`Dscp::to_u8`].
    pub dscp: u8,
    /// RTP clock rate in Hz; 0 for no clock.
    pub clock_hz: u32,

    /// [`StreamSpec::payload_types`], the lower half first.
    pub payload_types: [u64; 2],
    /// When the stream was installed, signalled anew, or its gate opened or closed, ns of CLOCK_MONOTONIC.
    pub signalled_ns: u64,
    /// [`digest_address`] of [`StreamSpec::remote`] as signalled, 0 for none: tells new signalling that moves the
    /// remote from new signalling that confirms it.
    pub signalled: u32,
    /// [`digest_ip`] of it.
    pub signalled_ip: u32,
    /// [`StreamSpec::hint`].
    pub hint: u32,
    /// [`digest_address`] of the source that was locked before the present learning began, 0 for none. With FORMER,
    /// signalling has named another one since. With [`Learn::Checks`]: when the remote was nominated, in 2^20 ns.
    pub known: u32,
    /// The lower half of [`Meter::packets`](crate::Meter::packets) at which the learning window ends. With
    /// [`Learn::Checks`]: the priority of the check that nominated the remote.
    pub learn_until: u32,
    /// Endpoint the packets leave from, `addr << 16 | port`.
    pub peer_endpoint: u32,
    /// Port of the signalled remote, network order.
    pub signalled_port: [u8; 2],
    /// Of [`rank`]: how credible [`Slot::remote`] is, if it was learned; NONE from new signalling until its next packet.
    pub rank: u8,
    /// 1 if [`Slot::remote`] is one of the plane's own endpoints, whose packets come from no port; else 0.
    pub own_remote: u8,
    /// UDP port of the parent, with COPY, PART or ALT.
    pub parent_port: u16,
    /// Number of its address.
    pub parent_addr: u8,
    /// [`Mid::extension`]; 0 for no mid.
    pub mid_extension: u8,
    /// [`Mid::name`].
    pub mid: [u8; 8],
}

#[cfg(not(loom))]
const _: () = {
    assert!(size_of::<Head>() == 64);
    assert!(size_of::<Slot>() == 192);
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
        steady: 0,
        peer: u32::MAX,
        event_type: 0,
        accept: 0,
        police: 0,
        pcp: 0,
        remote_v6: [0; 16],
        ip6_src: [0; 16],
        ip6_dst: [0; 16],
        signal: 0,
        leg: 0,
        media: 0,
        links: 0,
        kind: 0,
        learn: 0,
        tos: 0,
        dscp: 0,
        clock_hz: 0,
        payload_types: [0; 2],
        signalled_ns: 0,
        signalled: 0,
        signalled_ip: 0,
        hint: 0,
        known: 0,
        learn_until: 0,
        peer_endpoint: 0,
        signalled_port: [0; 2],
        rank: rank::NONE,
        own_remote: 0,
        parent_port: 0,
        parent_addr: 0,
        mid_extension: 0,
        mid: [0; 8],
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
    /// What is counted.
    pub tally: Tally,
    /// Policy and route, twice.
    pub(crate) slots: [SlotCell; 2],
    /// ICE credentials of either slot.
    pub(crate) ice: IceCells,
}

#[cfg(not(loom))]
const _: () = assert!(size_of::<Record>() / 64 % 2 == 1);

#[cfg(loom)]
impl Record {
    pub(crate) fn new() -> Record {
        let slots = [SlotCell::new(), SlotCell::new()];
        Record {
            head: Head::default(),
            tally: Tally::default(),
            slots,
            ice: IceCells::default(),
        }
    }
}
