//! The media core: calls, legs, medias, ports, and what streams the plane should hold.
//!
//! A front door (ng and others) hands in SDP and the identity of a call; out come the SDP that
//! leaves and the difference between the streams that stand and those that should. No I/O: bytes,
//! values and [`Now`] go in, values come out.
//!
//! Each operation is prepared, then ended. [`Calls::offer`], [`Calls::answer`] and
//! [`Calls::delete`] return a [`Pending`] change and leave the call as it was (an offer has taken
//! its ports). When the plane has applied the change, [`Calls::commit`] makes it the truth and
//! lays freed ports to rest; if it could not, [`Calls::rollback`] gives back what was taken. A
//! call has at most one pending change: the caller keeps a call's operations in order.
//!
//! For each m= section the relay allocates one pair of ports per leg. The endpoint *facing* a leg
//! is the one that leg sends to:
//!
//! ```text
//! leg 0 --> locals[0] | stream, its peer is locals[1]
//!           locals[1] <-- leg 1
//! ```
//!
//! A leg that is told ICE (RFC 8445) has candidates at all addresses of the interface that faces it: a pair of ports more at
//! each. Candidates of the legs never leave, or media would find a way past the relay.
//!
//! The two legs of a dialog may be of different address families: each leg's SDP is of the family of the interface
//! that faces it.
//!
//! A leg that was connected ([`Calls::connect`]) hears a leg of another dialog in place of the other one of its own:
//! [`Call::partner`] says whom, [`Call::leg_medias`] in which sections. The dialogs may have been two calls'; then that call goes
//! by both Call-IDs, as long as each has a dialog.
//!
//! Limits: [`MAX_MEDIA`] media sections, [`MAX_TAGS`] tags a call, `max_calls` calls.

mod ageing;
mod alternates;
mod call;
mod calls;
mod commands;
mod connect;
mod diff;
mod error;
mod family;
mod fork;
mod hear;
mod hold;
mod leave;
mod names;
mod options;
mod partner;
mod pool;
mod quality;
mod signal;
mod stored;
mod streams;
mod terms;

pub use ageing::{End, Health, Sign, Timeouts, judge};
pub use call::{Blocked, Call, Dialog, Leg, Media, Merged, Mux, Side, Told};
pub use calls::{Calls, Pending, Restore};
pub use commands::{Section, Selector, Subscribed};
pub use diff::{Class, Desired, Feed, Ice, Kind, Learn, Mid, Op, Shared, Stream, diff};
pub use error::{Held, MediaError};
pub use family::Family;
pub use fork::{Fork, ForkMedia, MAX_FORKS};
pub use hold::{Flows, HeldBack, Hold};
pub use options::{IceWish, MuxWish, Options, Replace, RtcpAttribute, Tos};
pub use partner::{LegMedia, Partner};
pub use quality::{Limits, Measured, mos};
pub use signal::Parties;

use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use std::time::Duration;

/// Media sections of one call, over all its dialogs.
pub const MAX_MEDIA: usize = 64;

/// Pairs of ports that one leg has in one media besides those of its m= line: candidates at other addresses.
pub const MAX_ALTERNATES: usize = 3;

/// Pairs of ports of one call from which on it gets none at other addresses: a change of all its streams has to fit one
/// command of the region.
pub const MAX_PAIRS: usize = 2 * MAX_MEDIA;

/// Tags of one call, over all its dialogs and forks.
pub const MAX_TAGS: usize = 32;

/// Call-IDs that one call goes by.
pub const MAX_NAMES: usize = 64;

/// The present, twice.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// Time since any fixed moment, never going back.
    pub mono: Duration,
    /// Microseconds since 1970, UTC.
    pub unix_us: u64,
}

/// A local (address, VLAN, port): where a stream arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Local {
    /// Address the plane owns.
    pub ip: IpAddr,
    /// 802.1Q VLAN of that address, 0 for none.
    pub vlan: u16,
    /// UDP port.
    pub port: u16,
}

impl Local {
    /// The RTCP endpoint of this RTP endpoint: the next port (RFC 3550 section 11).
    pub fn rtcp(self) -> Local {
        // RTP ports are even, so there is a next one.
        Local {
            port: self.port | 1,
            ..self
        }
    }
}

/// A local address and the ports that calls may use on it.
#[derive(Clone, Debug)]
pub struct Interface {
    /// What `direction` names.
    pub name: String,
    /// Address the plane owns.
    pub ip: IpAddr,
    /// 802.1Q VLAN of that address, 0 for none.
    pub vlan: u16,
    /// The address written into SDP.
    pub advertise: IpAddr,
    /// First and last UDP port; pairs start at even ones.
    pub ports: (u16, u16),
}

impl Interface {
    /// Whether the pair of ports that begins at `local` is one of its own.
    pub(crate) fn holds(&self, local: Local) -> bool {
        let (first, last) = self.ports;
        let own = self.ip == local.ip && self.vlan == local.vlan;
        own && local.port.is_multiple_of(2) && local.port >= first && local.port < last
    }
}

/// What the media core needs to know of the configuration.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where media may arrive; the first is the default.
    pub interfaces: Vec<Interface>,
    /// How long a freed port rests before it is given out again.
    pub rest: Duration,
    /// Calls at one time.
    pub max_calls: usize,
    /// Any number: where in its range each pool begins.
    pub seed: u64,
}
