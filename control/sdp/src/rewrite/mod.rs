//! What may be changed in a body.

mod apply;

use crate::media::{Direction, Protocol};
use std::net::{IpAddr, SocketAddr};

/// What to replace in a body. The default changes nothing, but for [`Rewrite::media`], which has
/// to name every section.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rewrite {
    /// The o= lines.
    pub origin: OriginEdit,
    /// New text of the s= line.
    pub session_name: Option<String>,
    /// The `a=group:BUNDLE` lines (RFC 9143).
    pub group: GroupEdit,
    /// The session has `a=ice-lite` (RFC 8839 section 5.3).
    pub ice_lite: bool,
    /// Drop the session's ICE lines, [`Rewrite::ice_lite`]'s excepted.
    pub remove_session_ice: bool,
    /// Value of an `a=rtpengine:` line to add to the session, by which a relay knows its own.
    pub loop_mark: Option<String>,
    /// Other attributes of the session.
    pub attributes: AttributeEdits,
    /// One for each section, in order.
    pub media: Vec<MediaRewrite>,
}

/// What to replace in every o= line (RFC 8866 section 5.2); `None` for what stays.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OriginEdit {
    /// Address type and address.
    pub address: Option<IpAddr>,
    /// User name: one word.
    pub username: Option<String>,
    /// Session identifier: one word.
    pub session_id: Option<String>,
    /// Session version: one word.
    pub version: Option<String>,
}

/// The `a=group:BUNDLE` lines of the session; other groups stay.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum GroupEdit {
    /// As they came, without the sections that leave the body.
    #[default]
    Keep,
    /// No such line.
    Remove,
    /// One such line with these identification tags; none if there are no tags.
    Bundle(Vec<String>),
}

/// What to replace in one media section. [`MediaRewrite::new`] changes port and address alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MediaRewrite {
    /// The whole section leaves the body; the rest of this record has no effect then.
    pub remove: bool,
    /// New UDP port; 0 rejects the section. A section that came with port 0 keeps it. A
    /// port count in the m= line is dropped: one pair is relayed.
    pub port: u16,
    /// New address.
    pub address: IpAddr,
    /// What a section on hold by its zero address leaves with.
    pub zero_address: ZeroAddress,
    /// The `a=rtcp:` line (RFC 3605).
    pub rtcp: RtcpLine,
    /// `Some(true)`: `a=rtcp-mux` stands once (RFC 5761). `Some(false)`: it is gone, and
    /// `a=rtcp-mux-only` (RFC 8858) with it.
    pub rtcp_mux: Option<bool>,
    /// New transport for the m= line.
    pub protocol: Option<Protocol>,
    /// New direction.
    pub direction: Option<Direction>,
    /// The formats of the m= line, in this order, out of those it has. `a=rtpmap`, `a=fmtp` and
    /// `a=rtcp-fb` of the others leave with them; those kept follow the order of the m= line.
    pub formats: Option<Vec<String>>,
    /// New packet time, in ms.
    pub ptime: Option<u16>,
    /// New longest packet time, in ms.
    pub maxptime: Option<u16>,
    /// The `a=mid:` line (RFC 5888).
    pub mid: MidEdit,
    /// ICE lines (RFC 8839).
    pub ice: IceEdit,
    /// `a=extmap:` lines (RFC 8285).
    pub extmap: ExtmapEdit,
    /// Whether `a=bundle-only` (RFC 9143) is removed.
    pub bundle_only: bool,
    /// Other attributes.
    pub attributes: AttributeEdits,
}

impl MediaRewrite {
    /// New port and address, and all else as it came.
    pub fn new(port: u16, address: IpAddr) -> Self {
        Self {
            remove: false,
            port,
            address,
            zero_address: ZeroAddress::Keep,
            rtcp: RtcpLine::Keep,
            rtcp_mux: None,
            protocol: None,
            direction: None,
            formats: None,
            ptime: None,
            maxptime: None,
            mid: MidEdit::Keep,
            ice: IceEdit::Keep,
            extmap: ExtmapEdit::Keep,
            bundle_only: false,
            attributes: AttributeEdits::default(),
        }
    }
}

/// What becomes of the zero address of a section on hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ZeroAddress {
    /// It stays, in the family of the new address.
    #[default]
    Keep,
    /// The new address takes its place.
    Replace,
}

/// The `a=rtcp:` line that leaves (RFC 3605).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RtcpLine {
    /// No such line.
    None,
    /// `a=rtcp:<port>`
    Port(u16),
    /// `a=rtcp:<port> IN <address type> <address>`
    Full(u16, IpAddr),
    /// As it came.
    #[default]
    Keep,
}

/// The `a=mid:` line that leaves.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum MidEdit {
    /// As it came.
    #[default]
    Keep,
    /// No such line.
    Remove,
    /// This tag: one word.
    Set(String),
}

/// The ICE lines of a section that leaves.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum IceEdit {
    /// As they came.
    #[default]
    Keep,
    /// No such lines.
    Remove,
    /// These and no others.
    Own(IceLines),
}

/// ICE credentials and candidates of a section (RFC 8839 section 5).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct IceLines {
    /// `a=ice-ufrag:`, one word.
    pub ufrag: String,
    /// `a=ice-pwd:`, one word.
    pub pwd: String,
    /// `a=ice-options:`
    pub options: Option<String>,
    /// `a=candidate:` lines, in this order; `a=end-of-candidates` follows them.
    pub candidates: Vec<Candidate>,
}

/// A UDP host candidate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Foundation: one word.
    pub foundation: String,
    /// 1 for RTP, 2 for RTCP.
    pub component: u8,
    /// Priority (RFC 8445 section 5.1.2).
    pub priority: u32,
    /// Where it receives.
    pub address: SocketAddr,
}

/// The `a=extmap:` lines that leave.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum ExtmapEdit {
    /// As they came.
    #[default]
    Keep,
    /// No such lines.
    Strip,
    /// None with one of these names (URIs).
    StripNamed(Vec<String>),
}

/// Attribute lines by their text, without `a=`: ng's `sdp-attr`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AttributeEdits {
    /// Lines to add.
    pub add: Vec<String>,
    /// Lines to remove.
    pub remove: Vec<String>,
    /// Lines to replace, and what by.
    pub substitute: Vec<(String, String)>,
}
