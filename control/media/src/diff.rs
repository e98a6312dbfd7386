//! Streams that should stand, and the steps from those that do.

use crate::Local;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// What an endpoint carries, and so which checks its packets get.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// RTP, and RTCP multiplexed with it.
    Rtp,
    /// RTCP on a port of its own.
    Rtcp,
    /// Anything over UDP: fax, DTLS.
    Raw,
}

/// One stream as it should stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stream {
    /// Where it arrives.
    pub local: Local,
    /// Where its packets leave from: the endpoint of the opposite direction.
    pub peer: Local,
    /// The leg's signalled address; `None` until known.
    pub remote: Option<SocketAddr>,
    /// What passes.
    pub kind: Kind,
    /// Whether the first source is adopted.
    pub learn: bool,
    /// Whether what arrives is forwarded.
    pub gate_open: bool,
    /// Grows when the source should be learned anew.
    pub signal: u32,
    /// RTP clock, Hz; 0 for none.
    pub clock_hz: u32,
    /// DSCP of what leaves towards the leg, 0 to 63; `None` for that of the local address.
    pub dscp: Option<u8>,
    /// Leg of the call.
    pub leg: u16,
    /// Media of the leg.
    pub media: u16,
}

/// The streams of a call, by endpoint.
pub type Desired = BTreeMap<Local, Stream>;

/// One step from what stands to what should.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// Take the stream away.
    Remove(Local),
    /// Make it so, whether it stands or not.
    Put(Stream),
}

/// The steps from `installed` to `desired`, removals first.
pub fn diff(installed: &Desired, desired: &Desired) -> Vec<Op> {
    let gone = installed
        .keys()
        .filter(|local| !desired.contains_key(local));
    let changed = desired
        .iter()
        .filter(|(local, stream)| installed.get(local) != Some(stream));
    gone.map(|&local| Op::Remove(local))
        .chain(changed.map(|(_, &stream)| Op::Put(stream)))
        .collect()
}
