//! Streams that should stand, and the steps from those that do.

use crate::Local;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

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

/// How a stream comes to accept a source. One once learned is locked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Learn {
    /// Only the signalled address passes.
    Off,
    /// The first packet's source is adopted.
    Immediate,
    /// The last source within the learning window is adopted.
    Delayed,
    /// The most credible source within the learning window is adopted.
    #[default]
    Heuristic,
}

/// What may share the port of an RTP stream, told apart by the first octet (RFC 7983).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Shared {
    /// Nothing.
    #[default]
    Nothing,
    /// ZRTP: plain RTP may be secured in band.
    Zrtp,
    /// DTLS and STUN: the keys are agreed here.
    Dtls,
}

/// Where a stream's packets come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Feed {
    /// They arrive at its own endpoint.
    #[default]
    Own,
    /// They are copies of what passes at that endpoint: a fork. What arrives at its own endpoint is its receiver's RTCP.
    CopyOf(Local),
    /// They arrive at that endpoint, among others': those of its kind (RTCP multiplexed with RTP, RFC 5761), of its
    /// payload types, mid or SSRC (BUNDLE, RFC 9143). What arrives at its own endpoint passes as well.
    PartOf(Local),
    /// They arrive at its own endpoint, another candidate (RFC 8445) for what that endpoint is: checks say at which of them
    /// the leg is, and all that is sent to it leaves from there.
    AltOf(Local),
}

/// ICE credentials of a lite agent (RFC 8445 section 2.5): who checks connectivity with them is answered, and is where media
/// goes and comes from.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ice {
    /// Our user name fragment: ice-chars.
    pub ufrag: [u8; 8],
    /// Our password: ice-chars.
    pub pwd: [u8; 24],
}

/// Without the password, which is nobody's to read in a log.
impl fmt::Debug for Ice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ice({})", self.ufrag.escape_ascii())
    }
}

/// How a bundled stream names itself in its packets: the header extension of RFC 8843's mid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mid {
    /// The extension's number, 1 to 14.
    pub extension: u8,
    /// The mid, padded with zeros.
    pub name: [u8; 8],
}

/// What kind of media a stream carries, for policing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// m=audio.
    Audio,
    /// m=video.
    Video,
    /// m=image: fax.
    Image,
    /// RTCP on a port of its own.
    Rtcp,
    /// Anything else.
    Other,
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
    /// How its source is learned.
    pub learn: Learn,
    /// Whether it follows a new source once the old one is silent.
    pub handover: bool,
    /// Where the leg's signalling came from: a likely source.
    pub hint: Option<IpAddr>,
    /// Whether what arrives is forwarded.
    pub gate_open: bool,
    /// Grows when the source should be learned anew.
    pub signal: u32,
    /// RTP clock, Hz; 0 for none.
    pub clock_hz: u32,
    /// DSCP of what leaves towards the leg, 0 to 63; `None` for that of the local address.
    pub dscp: Option<u8>,
    /// Payload types that either leg announced, a bit each; 0 for any.
    pub payload_types: u128,
    /// Whether others are dropped.
    pub strict_payload: bool,
    /// Payload type of telephone-event (RFC 4733) in this direction.
    pub event_type: Option<u8>,
    /// What else may share the port.
    pub shared: Shared,
    /// Whether it is SRTP.
    pub secure: bool,
    /// What it may send.
    pub class: Class,
    /// Whether its packets are copied to the capture ring.
    pub capture: bool,
    /// Where its packets come from.
    pub feed: Feed,
    /// Its mid, if it is [`Feed::PartOf`] a bundle, or the bundle's first.
    pub mid: Option<Mid>,
    /// If set, its remote is learned from authenticated connectivity checks alone.
    pub ice: Option<Ice>,
    /// Whether telephone events are dropped.
    pub drop_events: bool,
    /// Whether the remote is sent empty datagrams until something comes from it.
    pub pierce: bool,
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
    /// It is this call's stream from now on, no more that of the other key: two calls became one.
    Move {
        /// Where it arrives.
        local: Local,
        /// What the region called its call.
        from: u64,
    },
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

#[cfg(test)]
mod tests {
    use super::Ice;

    #[test]
    fn a_password_is_not_printed() {
        let (ufrag, pwd) = (*b"abcdefgh", *b"0123456789012345678901+/");
        assert_eq!(format!("{:?}", Ice { ufrag, pwd }), "Ice(abcdefgh)");
    }
}
