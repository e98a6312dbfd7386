//! What happens to a packet: pure judgement, no I/O, no clock, no allocation.
//!
//! Bytes, a stream's record and `now` go in; a verdict and rewritten bytes come out. These
//! are the steps; [`usual`] takes them at once for the packets that a relay mostly sees:
//!
//! | step | function | touches |
//! | --- | --- | --- |
//! | parse | [`classify`] | the packet's first line |
//! | address | [`LocalAddrs::find`] | a table of 1 KiB |
//! | verdict | [`judge`] | the slot's first line, the meter |
//! | rewrite | [`rewrite`] | the packet's first line, one [`L2Header`] |
//!
//! ```
//! use penstock_relay::{Class, Drop, classify};
//!
//! let port_mac = [2, 0, 0, 0, 0, 1];
//! assert_eq!(classify(&[0; 9], &port_mac, false), Class::Drop(Drop::Malformed));
//! ```
//!
//! [`route::fill`] makes the slots these functions read, and [`local`] answers what is addressed
//! to the plane itself (ARP, neighbour discovery, ICMP echo). No function here panics, whatever its input: a geometry
//! that cannot be is [`Drop::Malformed`].
//!
//! A packet leaves in the IP version of its route, whichever it came in.
//!
//! Limits: one 802.1Q tag; no IP options, extension headers or fragments, and none are made.

mod classify;
pub mod divide;
mod exception;
pub mod headers;
mod judge;
pub mod learn;
pub mod local;
mod local_addrs;
pub mod meter;
pub mod police;
mod rewrite;
pub mod route;
mod rtcp;
pub mod stun;
mod sum;
pub mod usual;

pub use classify::{Class, Udp, classify};
pub use exception::{is_kernels, source_ip};
pub use judge::{
    Pass, Rules, Stream, arrival, is_sink, judge, judge_at, latch_requested, may_enter, source,
};
pub use local_addrs::{AddrError, LocalAddrs};
pub use penstock_shm::counters::Drop;
pub use rewrite::{L2Header, UntaggedL2, empty, rewrite};
