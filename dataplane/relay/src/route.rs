//! From what a stream should do to the slot that does it: headers and sums made ready, so that a
//! packet costs copies and one addition.

use crate::headers::protocol;
use crate::sum::{bytes, fold};
use penstock_shm::record::{Endpoint, Kind, Learn, Slot, StreamSpec, flag};
use std::net::{IpAddr, SocketAddr};

/// What fresh packets carry as TTL or hop limit.
const TTL: u8 = 64;

/// What may arrive at a stream's endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// The endpoint's address is IPv6. A `remote` of the other version counts as none.
    pub v6: bool,
    /// The signalled or learned remote address.
    pub remote: Option<SocketAddr>,
    /// Only `remote` may send.
    pub locked: bool,
    /// `remote` was learned from a packet.
    pub latched: bool,
    /// [`StreamSpec::kind`].
    pub kind: Kind,
    /// [`StreamSpec::learn`].
    pub learn: Learn,
    /// [`StreamSpec::gate_open`].
    pub gate_open: bool,
    /// [`StreamSpec::signal`].
    pub signal: u32,
    /// [`StreamSpec::clock_hz`].
    pub clock_hz: u32,
    /// Traffic class of what leaves towards `remote`: DSCP and two zero bits.
    pub tos: u8,
    /// [`StreamSpec::leg`].
    pub leg: u16,
    /// [`StreamSpec::media`].
    pub media: u16,
    /// [`Slot::signalled`].
    pub signalled: [u8; 4],
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
    /// The peer's [`Policy::tos`].
    pub tos: u8,
}

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
    pub fn new(spec: &StreamSpec, v6: bool, signalled: [u8; 4]) -> Self {
        Policy {
            v6,
            remote: spec.remote,
            locked: spec.remote.is_some() && spec.learn == Learn::Off,
            latched: false,
            kind: spec.kind,
            learn: spec.learn,
            gate_open: spec.gate_open,
            signal: spec.signal,
            clock_hz: spec.clock_hz,
            tos: spec.dscp << 2,
            leg: spec.leg,
            media: spec.media,
            signalled,
        }
    }

    /// The policy a slot was filled with: what a plane that restarts begins from.
    pub fn of_slot(slot: &Slot) -> Self {
        Policy {
            v6: slot.flags & flag::V6 != 0,
            remote: slot.remote(),
            locked: slot.flags & flag::LOCKED != 0,
            latched: slot.flags & flag::LATCHED != 0,
            kind: match slot.kind {
                kind if kind == Kind::Rtp as u8 => Kind::Rtp,
                kind if kind == Kind::Rtcp as u8 => Kind::Rtcp,
                _ => Kind::Raw,
            },
            learn: if slot.learn == Learn::Immediate as u8 {
                Learn::Immediate
            } else {
                Learn::Off
            },
            gate_open: slot.flags & flag::GATE_OPEN != 0,
            signal: slot.signal,
            clock_hz: slot.clock_hz,
            tos: slot.tos,
            leg: slot.leg,
            media: slot.media,
            signalled: slot.signalled,
        }
    }

    fn flags(&self) -> u16 {
        let kind = match self.kind {
            Kind::Rtp => flag::RTP,
            Kind::Rtcp => flag::RTCP,
            Kind::Raw => 0,
        };
        let mut flags = kind;
        let mut set = |on: bool, bit: u16| flags |= if on { bit } else { 0 };
        set(self.gate_open, flag::GATE_OPEN);
        set(self.v6, flag::V6);
        set(self.has_remote(), flag::REMOTE);
        set(self.has_remote() && self.locked, flag::LOCKED);
        set(self.has_remote() && self.latched, flag::LATCHED);
        flags
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
    let mut slot = Slot {
        flags: policy.flags(),
        version,
        clock_mult: clock_mult(policy.clock_hz),
        clock_hz: policy.clock_hz,
        signal: policy.signal,
        leg: policy.leg,
        media: policy.media,
        kind: policy.kind as u8,
        learn: policy.learn as u8,
        tos: policy.tos,
        signalled: policy.signalled,
        ..Slot::CLOSED
    };
    if let Some(peer) = peer {
        slot.peer = peer.record;
        slot.peer_endpoint = u32::from(peer.endpoint.addr) << 16 | u32::from(peer.endpoint.port);
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
    let addresses = match (egress.source.ip(), egress.destination.ip()) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            slot.head[0] = 0x45;
            slot.head[1] = egress.tos;
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
            slot.head[0] = 0x60 | egress.tos >> 4;
            slot.head[1] = egress.tos << 4;
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
    slot.flags |= flag::ROUTED;
    if slot.flags & (USUAL | flag::V6 | flag::EGRESS_V6) == USUAL {
        slot.usual_hop = slot.adjacency;
    }
}

/// Sum over the addresses and ports of what arrives over IPv4 from the remote.
fn arriving(slot: &Slot, endpoint: &SocketAddr) -> u16 {
    let IpAddr::V4(ip) = endpoint.ip() else {
        return 0;
    };
    let local = bytes(&ip.octets()) + bytes(&endpoint.port().to_be_bytes());
    fold(local + bytes(&slot.remote_v4) + bytes(&slot.remote_port))
}

/// RTP clock ticks per ns, times 2^32, to the nearest; 0 for a clock beyond 1 GHz, which none is.
fn clock_mult(clock_hz: u32) -> u32 {
    let mult = ((u64::from(clock_hz) << 32) + 500_000_000) / 1_000_000_000;
    u32::try_from(mult).unwrap_or(0)
}

/// Whether an address can be one host's: what is neither learned nor sent to otherwise.
pub(crate) fn is_unicast(address: &SocketAddr) -> bool {
    let ip = address.ip();
    let is_broadcast = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
    address.port() != 0
        && !ip.is_unspecified()
        && !ip.is_multicast()
        && !ip.is_loopback()
        && !is_broadcast
}
