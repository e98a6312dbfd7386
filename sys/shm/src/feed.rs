//! Streams whose packets arrive at another one's endpoint: forks and shared endpoints.

use crate::record::Endpoint;

/// The most copies that leave for one packet.
pub const MAX_COPIES: usize = 8;

/// The most streams that share one endpoint with the one that is installed there.
pub const MAX_PARTS: usize = 16;

/// Where a stream's packets come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Feed {
    /// They arrive at its own endpoint.
    #[default]
    Own,
    /// They are copies of what passes at that endpoint, and leave by the stream's own route. What arrives at its own
    /// endpoint is metered, and goes nowhere.
    CopyOf(Endpoint),
    /// They arrive at that endpoint among others', from its remote. What arrives at its own endpoint passes as well.
    PartOf(Endpoint),
}

impl Feed {
    /// The endpoint that the packets arrive at, if it is not the stream's own.
    pub const fn parent(self) -> Option<Endpoint> {
        match self {
            Feed::Own => None,
            Feed::CopyOf(parent) | Feed::PartOf(parent) => Some(parent),
        }
    }
}

/// How packets of a bundle name the stream they are of: RFC 9143's header extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mid {
    /// The extension's number (RFC 8285), 1 to 255; 1 to 14 in one-byte headers.
    pub extension: u8,
    /// The mid, padded with zeros.
    pub name: [u8; 8],
}

/// What [`Op::Feed`](crate::Op::Feed) carries: the part of a [`StreamSpec`](crate::StreamSpec) that
/// [`Op::Set`](crate::Op::Set) has no room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Feeding {
    /// The stream's endpoint.
    pub endpoint: Endpoint,
    /// Where its packets come from; never itself.
    pub feed: Feed,
    /// How they name themselves.
    pub mid: Option<Mid>,
    /// Telephone events are dropped.
    pub drop_events: bool,
}
