//! Streams whose packets arrive at another one's endpoint: forks and shared endpoints.

use crate::record::{Endpoint, Slot};

/// The most copies that leave for one packet.
pub const MAX_COPIES: usize = 8;

/// The most streams that share one endpoint with the one that is installed there: RTP and RTCP of 64 media sections in one
/// bundle, but for that one.
pub const MAX_PARTS: usize = 2 * 64 - 1;

/// The most streams that stand for one other at further addresses.
pub const MAX_ALTERNATES: usize = 3;

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
    /// They arrive at its own endpoint, which is another candidate (RFC 8445) for what that endpoint is: one of both, and of
    /// the other alternates, has the remote that checks have set, and who sends to that endpoint's remote sends to this one.
    AltOf(Endpoint),
}

impl Feed {
    /// The endpoint that the stream is tied to.
    pub const fn parent(self) -> Option<Endpoint> {
        match self {
            Feed::Own => None,
            Feed::CopyOf(parent) | Feed::PartOf(parent) | Feed::AltOf(parent) => Some(parent),
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
    /// The signalled remote is sent empty datagrams until something comes from it.
    pub pierce: bool,
}

/// Bits of [`Slot::links`](crate::Slot::links): how a stream is tied to others.
pub mod link {
    /// It is a copy of the parent's: a fork.
    pub const COPY: u8 = 1 << 0;
    /// Its packets arrive at the parent's endpoint as well.
    pub const PART: u8 = 1 << 1;
    /// Others are copies of it.
    pub const COPIES: u8 = 1 << 2;
    /// Others have their packets among those that arrive here.
    pub const PARTS: u8 = 1 << 3;
    /// Telephone events are dropped.
    pub const DROP_EVENTS: u8 = 1 << 4;
    /// It is an alternate of the parent.
    pub const ALT: u8 = 1 << 5;
    /// Its remote is sent empty datagrams until something comes.
    pub const PIERCE: u8 = 1 << 6;
}

impl Slot {
    /// [`StreamSpec::feed`](crate::StreamSpec::feed).
    pub fn feed(&self) -> Feed {
        let parent = Endpoint {
            addr: self.parent_addr.into(),
            port: self.parent_port,
        };
        match self.links & (link::COPY | link::PART | link::ALT) {
            0 => Feed::Own,
            link::PART => Feed::PartOf(parent),
            link::ALT => Feed::AltOf(parent),
            _ => Feed::CopyOf(parent),
        }
    }

    /// The endpoint that the stream at `endpoint` stands for: its parent's, if it is an alternate.
    pub fn home(&self, endpoint: Endpoint) -> Endpoint {
        match self.feed() {
            Feed::AltOf(parent) => parent,
            _ => endpoint,
        }
    }

    /// [`StreamSpec::mid`](crate::StreamSpec::mid).
    pub fn mid(&self) -> Option<Mid> {
        (self.mid_extension != 0).then_some(Mid {
            extension: self.mid_extension,
            name: self.mid,
        })
    }
}
