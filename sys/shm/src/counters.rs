//! The workers' counters and the reasons a packet is dropped: declared once, here; the CLI, the
//! manual and the metrics are derived from this list.

use crate::record::Counter;

macro_rules! drops {
    ($($(#[doc = $doc:literal])+ $name:ident = $text:literal,)+) => {
        /// Why a packet was dropped. Each reason is a counter of its worker.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Drop {
            $($(#[doc = $doc])+ $name,)+
        }

        impl Drop {
            /// Every reason, in counter order.
            pub const ALL: &'static [Drop] = &[$(Drop::$name),+];

            /// The reason's name in metrics and on the command line.
            pub const fn name(self) -> &'static str {
                match self { $(Drop::$name => $text),+ }
            }

            /// One sentence on what was wrong with the packet.
            pub const fn help(self) -> &'static str {
                match self { $(Drop::$name => concat!($($doc),+)),+ }
            }
        }
    };
}

drops! {
    /// Shorter than the headers it announces, or longer than one mbuf.
    Malformed = "malformed",
    /// Not addressed to this port's MAC.
    NotOurMac = "not-our-mac",
    /// An EtherType or IP protocol the plane does not handle.
    Protocol = "protocol",
    /// Addressed to an IP address (or VLAN) the plane does not own.
    NotOurAddress = "not-our-address",
    /// The IPv4 header checksum is wrong.
    IpChecksum = "ip-checksum",
    /// An IP fragment: endpoints take whole datagrams only.
    Fragment = "fragment",
    /// An IPv4 header with options, or an IPv6 extension header.
    IpOptions = "ip-options",
    /// No stream is installed at the destination port.
    NoStream = "no-stream",
    /// The stream's gate is closed (hold).
    GateClosed = "gate-closed",
    /// The source is not the stream's learned or signalled one.
    Source = "source",
    /// Not an RTP or RTCP packet where only those pass (version, length).
    NotRtp = "not-rtp",
    /// The peer's remote address is not known yet.
    NoRoute = "no-route",
    /// The next hop's MAC could not be resolved in time, or too many packets wait for it.
    NextHop = "next-hop",
    /// Larger than the egress port's MTU.
    TooBig = "too-big",
    /// The egress queue was full.
    TxFull = "tx-full",
    /// The steward's queue was full (ARP, neighbour discovery, ICMP).
    SlowPath = "slow-path",
    /// Another worker owns the stream and its hand-over ring was full.
    HandOver = "hand-over",
}

/// How many workers a region has room for.
pub const MAX_WORKERS: usize = 32;

/// One worker's counters. Written by that worker alone; read by anyone.
/// `rx = forwarded + consumed + handed_over + to_kernel + sum(drops)` at rest.
#[derive(Default)]
#[repr(C, align(64))]
pub struct WorkerCounters {
    /// Packets received from the ports and from other workers' hand-overs.
    pub rx: Counter,
    /// Packets handed to an egress queue that took them.
    pub forwarded: Counter,
    /// Packets the steward took: ARP, neighbour discovery, ICMP, or waiting for a next hop.
    pub consumed: Counter,
    /// Packets given to the worker that owns their stream.
    pub handed_over: Counter,
    /// Packets passed on to the kernel through an exception port.
    pub to_kernel: Counter,
    /// Of `rx`, the packets that came from the kernel.
    pub from_kernel: Counter,
    /// Packets sent on the steward's behalf.
    pub tx_steward: Counter,
    /// Iterations of the poll loop that found packets.
    pub polls_busy: Counter,
    /// Iterations of the poll loop that found none.
    pub polls_idle: Counter,
    /// Packets dropped, by reason.
    pub drops: [Counter; Drop::ALL.len()],
}
