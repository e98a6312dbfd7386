//! How signalling wants its media treated.

use crate::call::Blocked;
use crate::diff::{Ice, Learn};
use crate::family::Family;
use penstock_sdp::{AttributeEdits, CodecFilter, ExtmapEdit, MediaKind, Protocol};
use std::net::{IpAddr, SocketAddr};

/// How an offer or answer is to be treated.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Interfaces that face the offering leg and the other; kept for the life of the dialog.
    pub direction: [Option<String>; 2],
    /// The other leg is faced by an address of this family, for the life of the dialog; `None` for the family
    /// that the offering leg speaks.
    pub address_family: Option<Family>,
    /// What of o= and s= is replaced.
    pub replace: Replace,
    /// Write our address also where 0.0.0.0 says hold.
    pub replace_zero_address: bool,
    /// Leave the lines that say who sends as they came.
    pub original_sendrecv: bool,
    /// Transport of the RTP sections that leave; of an offer only, and kept for later ones.
    pub protocol: Option<Protocol>,
    /// Pass on the transport that an answer names, though another one was offered.
    pub accept_protocol: bool,
    /// How sources are learned; an answer without it keeps what the offer said.
    pub learn: Option<Learn>,
    /// Follow a new source once the old one is silent.
    pub handover: bool,
    /// Whether the leg sends from elsewhere than it listens at; `None` keeps what it was.
    pub asymmetric: Option<bool>,
    /// Where the signalling came from: a likely source.
    pub hint: Option<IpAddr>,
    /// Learn the leg's source anew, although its body is the one before.
    pub reset: bool,
    /// Give the other leg a new port when this one's address has changed.
    pub fresh_ports: bool,
    /// Drop payload types that were not negotiated.
    pub strict_payload: bool,
    /// Send media here rather than to the address in the SDP.
    pub source_address: Option<IpAddr>,
    /// Write this address into the SDP that leaves rather than that of the interface.
    pub media_address: Option<IpAddr>,
    /// How `a=rtcp` is written.
    pub rtcp_attribute: RtcpAttribute,
    /// What leaves, in all directions of the call.
    pub tos: Tos,
    /// What becomes of multiplexed RTCP (RFC 5761).
    pub mux: MuxWish,
    /// What becomes of ICE (RFC 8839).
    pub ice: IceWish,
    /// Refuse ICE to the leg that offers it.
    pub reject_ice: bool,
    /// Tell the other leg that candidates may trickle (RFC 8840).
    pub trickle: bool,
    /// Credentials nobody has, should the offering leg or the other need some; without them there is no ICE.
    pub ice_keys: Option<[Ice; 2]>,
    /// Which codecs may pass.
    pub codecs: CodecFilter,
    /// Codecs of an answer stand in the order of the offer.
    pub reorder_codecs: bool,
    /// `a=ptime` of an offer that leaves, ms.
    pub ptime: Option<u16>,
    /// `a=ptime` of the answer to this offer, ms.
    pub ptime_back: Option<u16>,
    /// `a=maxptime` of what leaves, ms.
    pub maxptime: Option<u16>,
    /// Edits of attributes: of the session (`None`) or of the sections of a kind.
    pub attributes: Vec<(Option<MediaKind>, AttributeEdits)>,
    /// Give sections without an identification tag (RFC 5888) one.
    pub generate_mid: bool,
    /// Accept that the offering leg bundles (RFC 9143).
    pub accept_bundle: bool,
    /// Offer the other leg to bundle, if the offering one does.
    pub offer_bundle: bool,
    /// What becomes of header extensions (RFC 8285).
    pub extmap: ExtmapEdit,
    /// Our name in `a=rtpengine`: a body that has it leaves as it came, any other gets it.
    pub loop_mark: Option<String>,
    /// Sections of these kinds are taken out of an offer, and refused to the leg that made it.
    pub remove: Vec<MediaKind>,
    /// Make a dialog of its own for a to-tag that is not known.
    pub new_branch: bool,
    /// Name of the leg that speaks.
    pub label: Option<String>,
    /// Name of the other leg.
    pub to_label: Option<String>,
    /// Text to keep with the leg that speaks; `None` for as before.
    pub metadata: Option<String>,
    /// What of the leg's media is held back from now on, beside what is already.
    pub block: Blocked,
    /// Whether media of the leg that speaks, and of the other, goes back to it; `None` for as before.
    pub echo: Option<[bool; 2]>,
    /// Whether the dialog's media is dropped; `None` for as before.
    pub drop: Option<bool>,
    /// Send nothing to the leg that speaks before it has sent.
    pub wait: bool,
    /// Send the leg that speaks empty datagrams until it has sent, so that a NAT on the way lets in what it sends.
    pub pierce: bool,
    /// Who asks: a call that begins keeps it.
    pub asked_by: Option<SocketAddr>,
    /// A subscription begins paused.
    pub inactive: bool,
    /// A subscription is to what the legs are sent.
    pub egress: bool,
}

/// What of o= and s= is replaced in what leaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Replace {
    /// The address of o=.
    pub address: bool,
    /// The user name of o=: the leg is told the first one for the life of the dialog.
    pub username: bool,
    /// The session identifier of o=, likewise.
    pub session_id: bool,
    /// The s= line, likewise.
    pub session_name: bool,
    /// The version of o=: it grows by one with each change of the body, and only then.
    pub version: bool,
    /// The version of o= grows by one with each body.
    pub force_version: bool,
}

/// How `a=rtcp` (RFC 3605) is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RtcpAttribute {
    /// The port.
    #[default]
    Port,
    /// Port and address.
    Full,
    /// Not at all.
    None,
}

/// What an offer asks for of multiplexed RTCP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MuxWish {
    /// Offer it to the other leg.
    pub offer: bool,
    /// Offer it to the other leg and no other port.
    pub require: bool,
    /// Accept it of the offering leg, and do not offer it to the other.
    pub demux: bool,
    /// Accept it of the offering leg, whatever the other answers.
    pub accept: bool,
    /// Refuse it to the offering leg.
    pub reject: bool,
}

/// What becomes of ICE. Candidates of the legs never leave: they would find each other past the relay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IceWish {
    /// Whoever speaks it is answered, and it is offered on if it was offered.
    #[default]
    Default,
    /// It is taken out.
    Remove,
    /// It is offered, and answered even to who did not offer it.
    Force,
    /// It is offered.
    Optional,
}

/// How what leaves is marked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tos {
    /// As configured for the local address.
    #[default]
    Default,
    /// As before.
    Keep,
    /// With this DSCP, 0 to 63.
    Dscp(u8),
}
