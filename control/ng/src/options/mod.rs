//! What a message asks for beside its identifiers: flags, replacements, ICE and the like.
//!
//! The same wish comes in three forms, and all end here: a key of its own
//! (`ICE: remove`), a word in the `flags` list (`ICE-remove`, `replace-origin`), or a word
//! in the one string `rtpp-flags` that newer Kamailio passes through unread
//! (`replace-origin ICE=remove RTP/AVP direction=[internal external]`). Case, spaces, hyphens and
//! underscores do not matter. A key wins over a flag, a flag over the string, the string over a
//! template. What is not known here is collected, not refused.

mod edits;
mod reader;
mod text;

pub use edits::MAX_LINE;
pub(crate) use reader::{Reader, read};

use crate::support::{
    AddressFamily, All, Bundle, DropTraffic, DtmfSecurity, EndpointLearning, Flag, Ice, Kind,
    MediaEcho, Replace, RtcpMux, Transport,
};
use std::net::IpAddr;

/// The options of a message. Lists keep the order of the message.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Options {
    /// Known flags.
    pub flags: Vec<Flag>,
    /// Parts of the SDP to replace.
    pub replace: Vec<Replace>,
    /// RTCP multiplexing.
    pub rtcp_mux: Vec<RtcpMux>,
    /// BUNDLE.
    pub bundle: Option<Bundle>,
    /// ICE.
    pub ice: Option<Ice>,
    /// Profile towards the other side.
    pub transport_protocol: Option<Transport>,
    /// Names of the logical interfaces: that of the sender, then that of the other side, both of `direction`.
    /// See [`Options::interfaces`].
    pub direction: Vec<String>,
    /// The interface where only one is needed.
    pub interface: Option<String>,
    /// Interface of the sender, instead of the first of `direction`.
    pub from_interface: Option<String>,
    /// Interface of the other side, instead of the second of `direction`.
    pub to_interface: Option<String>,
    /// Address family for the other side.
    pub address_family: Option<AddressFamily>,
    /// Address to put into the SDP instead of our own.
    pub media_address: Option<IpAddr>,
    /// Where the SIP message came from.
    pub received_from: Option<IpAddr>,
    /// How the source of media is learned.
    pub endpoint_learning: Option<EndpointLearning>,
    /// `TOS`: the octet, negative to leave it as it is, above 255 for the default.
    pub tos: Option<i64>,
    /// `delete-delay`, in s.
    pub delete_delay_s: Option<u32>,
    /// A name for the participant.
    pub label: Option<String>,
    /// A name to give where `label` selects.
    pub set_label: Option<String>,
    /// The other participant by name, or the name of a new subscription.
    pub to_label: Option<String>,
    /// Participants to subscribe to.
    pub from_tags: Vec<String>,
    /// What a block or a subscription reaches.
    pub all: Option<All>,
    /// The participant whose SDP gave this address.
    pub address: Option<IpAddr>,
    /// Name of the set of flags that was asked for.
    pub template: Option<String>,
    /// Text to keep with the call's records, at most [`MAX_METADATA`] bytes.
    pub metadata: Option<String>,
    /// Lists of codecs.
    pub codecs: Codecs,
    /// `a=ptime` towards the other side, in ms; 0 is none.
    pub ptime_ms: Option<u16>,
    /// `a=ptime` towards the sender, in ms; 0 is none.
    pub ptime_reverse_ms: Option<u16>,
    /// `a=maxptime` towards the other side, in ms; 0 is none.
    pub max_ptime_ms: Option<u16>,
    /// Edits of attributes, at most one for each kind.
    pub sdp_attributes: Vec<AttributeEdit>,
    /// Kinds of media that leave the SDP.
    pub sdp_media_remove: Vec<Kind>,
    /// Header extensions to strip, by their URI.
    pub extmap_strip: Vec<String>,
    /// Header extensions not to offer to the other side, by their URI.
    pub extmap_mask: Vec<String>,
    /// Whose media goes back to its sender.
    pub media_echo: Option<MediaEcho>,
    /// Whether the call's media is dropped.
    pub drop_traffic: Option<DropTraffic>,
    /// How DTMF is blocked.
    pub dtmf_security: Option<DtmfSecurity>,
    /// Whether the client understands a [`load limit`](crate::Reply::load_limit).
    pub load_limit: bool,
    /// Keys and flags not known here, as written but for case and hyphens.
    pub unknown: Vec<String>,
}

/// Longest `metadata` accepted, in bytes.
pub const MAX_METADATA: usize = 4096;

/// Codecs as written: `PCMU`, `opus/48000/2`, `all`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Codecs {
    /// To take out of the SDP.
    pub strip: Vec<String>,
    /// To leave although `strip` or `mask` names them.
    pub except: Vec<String>,
    /// As `except`, and in this order.
    pub offer: Vec<String>,
    /// To take out of an offer's SDP.
    pub mask: Vec<String>,
    /// As `mask`.
    pub consume: Vec<String>,
    /// As `offer` where the SDP has them. One that it lacks would have to be transcoded.
    pub transcode: Vec<String>,
}

/// Attribute lines to change, without their `a=`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttributeEdit {
    /// The media to change, or the session.
    pub kind: Kind,
    /// Lines to add.
    pub add: Vec<String>,
    /// Lines to remove: a name, a name with its tag, or all of the line.
    pub remove: Vec<String>,
    /// Lines to replace, and by what.
    pub substitute: Vec<(String, String)>,
}

impl Options {
    /// Whether the flag is set.
    pub fn has(&self, flag: Flag) -> bool {
        self.flags.contains(&flag)
    }

    /// Interface of the sender, then that of the other side. `None` if more than two were named.
    pub fn interfaces(&self) -> Option<[Option<&str>; 2]> {
        let [from, to] = match self.direction.as_slice() {
            [] => [None, None],
            // One alone says of no side that it is meant.
            [_] => [None, None],
            [from, to] => [Some(from), Some(to)],
            _ => return None,
        };
        let only = self.interface.as_ref();
        Some(
            [
                self.from_interface.as_ref().or(from).or(only),
                self.to_interface.as_ref().or(to).or(only),
            ]
            .map(|name| name.map(String::as_str)),
        )
    }
}
