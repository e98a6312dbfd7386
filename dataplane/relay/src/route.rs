//! From what a stream should do to the slot that does it: headers and sums made ready, so that a
//! packet costs copies and one addition.

use crate::headers::protocol;
use crate::learn::Nomination;
use crate::sum::{bytes, fold};
use penstock_shm::Feed;
use penstock_shm::record::{
    Dscp, Endpoint, Kind, Learn, Slot, StreamSpec, digest_address, digest_ip, flag, link, rank,
};
use std::net::{IpAddr, SocketAddr};

/// What fresh packets carry as TTL or hop limit.
const TTL: u8 = 64;

/// What may arrive at a stream's endpoint: what was asked for, and what was learned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// What control wants; its `remote` is the signalled one.
    pub spec: StreamSpec,
    /// The endpoint's address is IPv6. A `remote` of the other version counts as none.
    pub v6: bool,
    /// The signalled or learned remote address.
    pub remote: Option<SocketAddr>,
    /// Only `remote` may send.
    pub locked: bool,
    /// `remote` was learned from a packet.
    pub latched: bool,
    /// `remote` may not send (source lists).
    pub denied: bool,
    /// `remote` is an address of the plane itself.
    pub own_remote: bool,
    /// Other streams are copies of this one.
    pub copies: bool,
    /// Other streams have their packets among those that arrive here.
    pub parts: bool,
    /// [`Slot::rank`].
    pub rank: u8,
    /// [`Slot::known`].
    pub known: u32,
    /// `known` is the source that signalling has replaced.
    pub former: bool,
    /// [`Slot::learn_until`].
    pub learn_until: u32,
    /// With [`Learn::Checks`], in the place of `known` and `learn_until`.
    pub nomination: Nomination,
    /// Digests of the signalled remote, [`Slot::signalled`] and [`Slot::signalled_ip`].
    pub signalled: [u32; 2],
    /// [`Slot::signalled_port`].
    pub signalled_port: [u8; 2],
    /// [`Slot::signalled_ns`].
    pub signalled_ns: u64,
}

/// How a stream's packets leave: by its peer's endpoint, to its peer's remote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Egress {
    /// The stream's own endpoint, as address and port: where the packets arrive.
    pub endpoint: SocketAddr,
    /// The peer's endpoint, as address and port.
    pub source: SocketAddr,
    /// The peer's remote address.
    pub destination: SocketAddr,
    /// Number of the next hop.
    pub adjacency: u16,
    /// Octets of IP packet the egress port can carry.
    pub mtu: u16,
    /// Traffic class of what leaves: DSCP and two zero bits.
    pub tos: u8,
    /// What leaves has the DSCP of what came, rather than that of `tos`.
    pub copy_dscp: bool,
    /// 802.1p priority of what leaves tagged, 0 to 7.
    pub pcp: u8,
}

/// What [`usual`](crate::usual) packets may not have: the long way looks after these.
const NEVER_USUAL: u16 = flag::CAPTURE | flag::COPY_DSCP | flag::DENIED;

/// Likewise, of [`Slot::links`].
const NEVER_USUAL_LINKS: u8 = link::COPY | link::COPIES;

/// What [`usual`](crate::usual) packets need.
const USUAL: u16 = flag::GATE_OPEN | flag::LOCKED | flag::ROUTED | flag::RTP;

/// The stream of the opposite direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its record number.
    pub record: u32,
    /// Its endpoint.
    pub endpoint: Endpoint,
}

impl Policy {
    /// What a new stream accepts: its signalled remote alone, or, if it learns, any source.
    pub fn new(spec: &StreamSpec, v6: bool) -> Self {
        Policy {
            spec: *spec,
            v6,
            remote: spec.remote,
            locked: spec.remote.is_some() && spec.learn == Learn::Off,
            latched: false,
            denied: false,
            own_remote: false,
            copies: false,
            parts: false,
            rank: rank::NONE,
            known: 0,
            former: false,
            learn_until: 0,
            nomination: Nomination::default(),
            signalled_ns: 0,
            signalled: spec.remote.map_or([0; 2], |remote| {
                [digest_address(remote), digest_ip(remote.ip())]
            }),
            signalled_port: spec
                .remote
                .map_or([0; 2], |remote| remote.port().to_be_bytes()),
        }
    }

    /// The policy a slot was filled with: what a plane that restarts begins from. The signalled remote is known by its
    /// digests alone, unless it is the present one.
    pub fn of_slot(slot: &Slot, endpoint: Endpoint) -> Self {
        let is = |bit| slot.flags & bit != 0;
        let [low, high] = slot.payload_types.map(u128::from);
        let remote = slot.remote();
        let (known, learn_until, nomination) = match slot.learn == Learn::Checks as u8 {
            true => (0, 0, Nomination::of(slot)),
            false => (slot.known, slot.learn_until, Nomination::default()),
        };
        Policy {
            spec: StreamSpec {
                remote,
                kind: Kind::from_u8(slot.kind).unwrap_or(Kind::Raw),
                learn: Learn::from_u8(slot.learn).unwrap_or(Learn::Off),
                handover: is(flag::HANDOVER),
                hint: slot.hint,
                gate_open: is(flag::GATE_OPEN),
                signal: slot.signal,
                clock_hz: slot.clock_hz,
                payload_types: high << 64 | low,
                strict_payload: is(flag::STRICT_PAYLOAD),
                event_type: slot.event_type,
                accept: slot.accept,
                secure: is(flag::SECURE),
                police: slot.police,
                capture: is(flag::CAPTURE),
                dscp: Dscp::from_u8(slot.dscp).unwrap_or_default(),
                leg: slot.leg,
                media: slot.media,
                feed: slot.feed(),
                mid: slot.mid(),
                drop_events: slot.links & link::DROP_EVENTS != 0,
                pierce: slot.links & link::PIERCE != 0,
                ..StreamSpec::new(endpoint, Endpoint::from_bits(slot.peer_endpoint))
            },
            v6: is(flag::V6),
            remote,
            locked: is(flag::LOCKED),
            latched: is(flag::LATCHED),
            denied: is(flag::DENIED),
            own_remote: slot.own_remote != 0,
            copies: slot.links & link::COPIES != 0,
            parts: slot.links & link::PARTS != 0,
            rank: slot.rank,
            known,
            former: is(flag::FORMER),
            learn_until,
            nomination,
            signalled_ns: slot.signalled_ns,
            signalled: [slot.signalled, slot.signalled_ip],
            signalled_port: slot.signalled_port,
        }
    }

    fn flags(&self) -> u16 {
        let spec = &self.spec;
        let kind = match spec.kind {
            Kind::Rtp => flag::RTP,
            Kind::Rtcp => flag::RTCP,
            Kind::Raw => 0,
        };
        let mut flags = kind;
        let mut set = |on: bool, bit: u16| flags |= if on { bit } else { 0 };
        set(spec.gate_open, flag::GATE_OPEN);
        set(spec.handover, flag::HANDOVER);
        set(spec.strict_payload, flag::STRICT_PAYLOAD);
        set(spec.secure, flag::SECURE);
        set(spec.capture, flag::CAPTURE);
        set(self.denied, flag::DENIED);
        set(self.former, flag::FORMER);
        set(self.v6, flag::V6);
        set(self.has_remote(), flag::REMOTE);
        set(self.has_remote() && self.locked, flag::LOCKED);
        set(self.has_remote() && self.latched, flag::LATCHED);
        flags
    }

    fn links(&self) -> u8 {
        let mut links = match self.spec.feed {
            Feed::Own => 0,
            Feed::CopyOf(_) => link::COPY,
            Feed::PartOf(_) => link::PART,
            Feed::AltOf(_) => link::ALT,
        };
        let mut set = |on: bool, bit: u8| links |= if on { bit } else { 0 };
        set(self.copies, link::COPIES);
        set(self.parts, link::PARTS);
        set(self.spec.drop_events, link::DROP_EVENTS);
        set(self.spec.pierce, link::PIERCE);
        links
    }

    fn has_remote(&self) -> bool {
        self.remote
            .is_some_and(|remote| remote.is_ipv6() == self.v6)
    }
}

/// Fills a slot. Without `egress`, or with one that nothing can be sent by (versions that differ, a
/// destination that is no unicast address or port), it has no route and drops as
/// [`Drop::NoRoute`](crate::Drop::NoRoute).
///
/// `version` is [`Slot::version`]: the steward raises it with each filling.
pub fn fill(policy: &Policy, peer: Option<Peer>, egress: Option<&Egress>, version: u32) -> Slot {
    let spec = &policy.spec;
    let (known, learn_until) = match (spec.learn, policy.nomination) {
        (Learn::Checks, Nomination { priority, at }) => (at, priority),
        _ => (policy.known, policy.learn_until),
    };
    let mut slot = Slot {
        flags: policy.flags(),
        version,
        clock_mult: clock_mult(spec.clock_hz),
        steady: crate::meter::steady(spec.clock_hz),
        clock_hz: spec.clock_hz,
        signal: spec.signal,
        leg: spec.leg,
        media: spec.media,
        links: policy.links(),
        mid_extension: spec.mid.map_or(0, |mid| mid.extension),
        mid: spec.mid.map_or([0; 8], |mid| mid.name),
        kind: spec.kind as u8,
        learn: spec.learn as u8,
        dscp: spec.dscp.to_u8(),
        payload_types: [spec.payload_types as u64, (spec.payload_types >> 64) as u64],
        signalled_ns: policy.signalled_ns,
        signalled: policy.signalled[0],
        signalled_ip: policy.signalled[1],
        signalled_port: policy.signalled_port,
        hint: spec.hint,
        known,
        learn_until,
        rank: policy.rank,
        event_type: spec.event_type,
        accept: spec.accept,
        police: spec.police,
        own_remote: policy.own_remote.into(),
        ..Slot::CLOSED
    };
    if let Some(peer) = peer {
        slot.peer = peer.record;
        slot.peer_endpoint = u32::from(peer.endpoint.addr) << 16 | u32::from(peer.endpoint.port);
    }
    if let Some(parent) = spec.feed.parent() {
        // An address's number fits: see MAX_ADDRESSES.
        (slot.parent_addr, slot.parent_port) = (parent.addr as u8, parent.port);
    }
    if let Some(remote) = policy.remote.filter(|_| policy.has_remote()) {
        slot.remote_port = remote.port().to_be_bytes();
        match remote.ip() {
            IpAddr::V4(ip) => slot.remote_v4 = ip.octets(),
            IpAddr::V6(ip) => slot.remote_v6 = ip.octets(),
        }
    }
    if let Some(egress) = egress.filter(|egress| is_unicast(&egress.destination)) {
        fill_egress(&mut slot, egress);
    }
    slot
}

fn fill_egress(slot: &mut Slot, egress: &Egress) {
    let tos = if egress.copy_dscp { 0 } else { egress.tos };
    let addresses = match (egress.source.ip(), egress.destination.ip()) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            slot.head[0] = 0x45;
            slot.head[1] = tos;
            slot.head[6] = 0x40; // do not fragment: the identification may stay 0 (RFC 6864)
            slot.head[8] = TTL;
            slot.head[9] = protocol::UDP;
            slot.head[12..16].copy_from_slice(&source.octets());
            slot.head[16..20].copy_from_slice(&destination.octets());
            slot.ip4_sum = !fold(bytes(&slot.head[..20]));
            bytes(&slot.head[12..20])
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            // The head of the IPv6 header lies where the IPv4 header would.
            slot.flags |= flag::EGRESS_V6;
            slot.head[0] = 0x60 | tos >> 4;
            slot.head[1] = tos << 4;
            slot.head[6] = protocol::UDP;
            slot.head[7] = TTL;
            slot.ip6_src = source.octets();
            slot.ip6_dst = destination.octets();
            bytes(&slot.ip6_src) + bytes(&slot.ip6_dst)
        }
        _ => return,
    };
    slot.head[20..22].copy_from_slice(&egress.source.port().to_be_bytes());
    slot.head[22..].copy_from_slice(&egress.destination.port().to_be_bytes());
    slot.udp_sum = fold(addresses + bytes(&slot.head[20..]));
    slot.udp_delta = fold(u64::from(!slot.udp_sum) + u64::from(arriving(slot, &egress.endpoint)));
    slot.adjacency = egress.adjacency;
    slot.longest = egress.mtu;
    (slot.tos, slot.pcp) = (tos, egress.pcp & 7);
    slot.flags |= flag::ROUTED;
    if egress.copy_dscp {
        slot.flags |= flag::COPY_DSCP;
    }
    let stays = (slot.flags & flag::V6 == 0) == (slot.flags & flag::EGRESS_V6 == 0);
    // Who forges our address would come the short way.
    let tied = slot.links & NEVER_USUAL_LINKS != 0;
    if stays && slot.own_remote == 0 && !tied && slot.flags & (USUAL | NEVER_USUAL) == USUAL {
        slot.usual_hop = slot.adjacency;
    }
}

/// Sum over the addresses and ports of what arrives from the remote.
fn arriving(slot: &Slot, endpoint: &SocketAddr) -> u16 {
    let addresses = match endpoint.ip() {
        IpAddr::V4(ip) => bytes(&ip.octets()) + bytes(&slot.remote_v4),
        IpAddr::V6(ip) => bytes(&ip.octets()) + bytes(&slot.remote_v6),
    };
    let ports = bytes(&endpoint.port().to_be_bytes()) + bytes(&slot.remote_port);
    fold(addresses + ports)
}

/// RTP clock ticks per ns, times 2^32, to the nearest; 0 for a clock beyond 1 GHz, which none is.
fn clock_mult(clock_hz: u32) -> u32 {
    let mult = ((u64::from(clock_hz) << 32) + 500_000_000) / 1_000_000_000;
    u32::try_from(mult).unwrap_or(0)
}

/// Whether an address can be one host's: what is neither learned nor sent to otherwise.
pub fn is_unicast(address: &SocketAddr) -> bool {
    let ip = address.ip();
    let is_broadcast = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
    address.port() != 0
        && !ip.is_unspecified()
        && !ip.is_multicast()
        && !ip.is_loopback()
        && !is_broadcast
}
