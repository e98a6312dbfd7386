//! The workers' counters and the reasons a packet is dropped: declared once, here; the CLI, the
//! manual and the metrics are derived from this list.

use crate::tally::Counter;

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

            /// The reasons that are counted at the stream as well, in order: every packet dropped after its stream was
            /// found, by whatever thread.
            ///
            /// What belongs to no stream is in the counters of workers alone: malformed packets told by their
            /// headers, and for `tx-full` and `no-route` the kernel's packets. So is a packet that outlives its stream on its
            /// way from one thread to another: one that another worker was to send, of a stream that has ended; one that
            /// the steward had, of a stream whose record is free; and one between endpoints of the plane that was handed
            /// over to a worker whose queue for such packets is full.
            pub const OF_STREAM: &'static [Drop] = Drop::ALL.split_at(FIRST_OF_STREAM as usize).1;

            /// Its place in [`Drop::OF_STREAM`].
            pub const fn stream_index(self) -> Option<usize> {
                (self as usize).checked_sub(FIRST_OF_STREAM as usize)
            }
        }
    };
}

const FIRST_OF_STREAM: Drop = Drop::Malformed;

drops! {
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
    /// For no stream, or for the kernel beyond its limit, from a source that floods with such packets: not answered.
    Flood = "flood",
    /// The steward's queue was full (ARP, neighbour discovery, ICMP).
    SlowPath = "slow-path",
    /// More packets for the kernel than its exception port's limit allows.
    KernelLimit = "kernel-limit",
    /// Shorter than the headers it announces, or longer than one mbuf.
    Malformed = "malformed",
    /// The stream's gate is closed (hold).
    GateClosed = "gate-closed",
    /// The source is not the stream's learned or signalled one.
    Source = "source",
    /// From a source that the source lists deny.
    Denied = "denied",
    /// Not an RTP or RTCP packet where only those pass (version, length).
    NotRtp = "not-rtp",
    /// STUN, DTLS, ZRTP or a TURN channel (RFC 7983) where it was not negotiated.
    NotNegotiated = "not-negotiated",
    /// STUN (RFC 8489) to a stream with ICE that is no sound message, or none that a lite agent takes.
    Stun = "stun",
    /// A connectivity check (RFC 8445, 7.3) without the stream's ICE credentials, or one that was refused.
    StunCheck = "stun-check",
    /// More connectivity checks at once than a stream or a worker looks at, or than the steward has room for.
    StunLimit = "stun-limit",
    /// A compound RTCP packet of which a part does not fit (RFC 3550, A.2).
    RtcpMalformed = "rtcp-malformed",
    /// A payload type that was not negotiated, where those are to be dropped.
    PayloadType = "payload-type",
    /// A telephone event (RFC 4733) of a stream whose events are blocked.
    Event = "event",
    /// More packets than the stream's policing allows.
    PolicePackets = "police-packets",
    /// More octets than the stream's policing allows.
    PoliceBytes = "police-bytes",
    /// The peer's remote address is not known yet.
    NoRoute = "no-route",
    /// Larger than the egress port's MTU.
    TooBig = "too-big",
    /// Sent on by four endpoints of the plane in turn, and to a fifth.
    Loop = "loop",
    /// The next hop's MAC could not be resolved in time, or too many packets wait for it.
    NextHop = "next-hop",
    /// The egress queue was full, or the worker's own for packets from one endpoint of the plane to another.
    TxFull = "tx-full",
    /// Another worker owns the stream and its hand-over ring was full.
    HandOver = "hand-over",
    /// A copy for which no buffer was free.
    NoBuffer = "no-buffer",
}

/// How many workers a region has room for.
pub const MAX_WORKERS: usize = 32;

/// One worker's counters. Written by that worker alone; read by anyone.
/// `rx + copied = forwarded + consumed + handed_over + to_kernel + sum(drops)` at rest.
#[derive(Default)]
#[repr(C, align(64))]
pub struct WorkerCounters {
    /// Packets received from the ports and from other workers' hand-overs. One that goes from endpoint to endpoint of the
    /// plane was received once.
    pub rx: Counter,
    /// Packets handed to an egress queue that took them.
    pub forwarded: Counter,
    /// Packets the plane itself took. The steward: ARP, neighbour discovery, ICMP, or waiting for a next hop. The worker: STUN
    /// that ended here, what a receiver of copies says, and what only its copies were wanted of.
    pub consumed: Counter,
    /// Packets given to the worker that owns their stream.
    pub handed_over: Counter,
    /// Packets passed on to the kernel through an exception port.
    pub to_kernel: Counter,
    /// Of `rx`, the packets that came from the kernel.
    pub from_kernel: Counter,
    /// Copies of packets that were due to forks: each of them was then forwarded, consumed, handed over or dropped too.
    pub copied: Counter,
    /// Packets sent on the steward's behalf, and answers to connectivity checks.
    pub tx_steward: Counter,
    /// Iterations of the poll loop that found packets.
    pub polls_busy: Counter,
    /// Iterations of the poll loop that found none.
    pub polls_idle: Counter,
    /// Ticks of the time stamp counter from an iteration that found packets to one that found none.
    pub cycles_busy: Counter,
    /// The other ticks, asleep or not.
    pub cycles_idle: Counter,
    /// Streams whose ownership moved to another worker, where their packets come in.
    pub streams_moved: Counter,
    /// Frames copied to the capture ring.
    pub captured: Counter,
    /// Frames of captured calls that were not copied: too many in that millisecond.
    pub capture_lost: Counter,
    /// Bursts received, by size: 1, 2 to 3, 4 to 7, and so on; 64 is the last.
    pub bursts: [Counter; BURST_SIZES],
    /// Packets dropped, by reason.
    pub drops: [Counter; Drop::ALL.len()],
}

/// How many classes [`WorkerCounters::bursts`] has.
pub const BURST_SIZES: usize = 7;

/// How many ports a region has room for.
pub const MAX_PORTS: usize = 32;

/// A port's state and what its device counted since the plane started. Written by the steward once a second; read
/// by anyone.
#[derive(Default)]
#[repr(C, align(64))]
pub struct PortCounters {
    /// 0 for no port, 1 for one whose link is down, 2 for up.
    pub link: Counter,
    /// Packets received.
    pub ipackets: Counter,
    /// Packets sent.
    pub opackets: Counter,
    /// Bytes received.
    pub ibytes: Counter,
    /// Bytes sent.
    pub obytes: Counter,
    /// Packets the device dropped because a receive queue was full.
    pub imissed: Counter,
    /// Packets received with errors.
    pub ierrors: Counter,
    /// Packets that could not be sent.
    pub oerrors: Counter,
    /// Packets lost because the pool was empty.
    pub rx_nombuf: Counter,
}
