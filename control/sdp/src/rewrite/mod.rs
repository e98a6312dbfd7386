//! The body that leaves.
//!
//! A line that is replaced keeps its place, unless [`MediaRewrite::in_order`] says otherwise; of
//! several lines that say the same, the first does. A
//! new line of a section is put where it belongs in this order: m=, i=, c=, b=, `a=mid:`, the codecs
//! with `a=ptime:` and `a=maxptime:`, direction, `a=rtcp:`, `a=rtcp-mux`, keys, ICE. What has no
//! place in it stays where it stood. A new line of the session goes to its end. The session's
//! c= and `a=rtcp:` always go away.

mod attributes;
mod check;
mod order;
mod section;
mod session;
mod text;

use crate::address::ip_text;
use crate::error::SdpError;
use crate::kind::Kind;
use crate::media::{Direction, Protocol};
use crate::session::Sdp;
use std::net::{IpAddr, SocketAddr};
use text::Text;

impl Sdp {
    /// The body with the named parts replaced and every other byte as it came. A body without a
    /// last terminator leaves without one.
    ///
    /// # Errors
    /// [`SdpError::RewriteCount`] if `rewrite` does not name every section;
    /// [`SdpError::NotOneWord`] and [`SdpError::NotOneLine`] for text that does not fit its line.
    pub fn rewrite(&self, rewrite: &Rewrite) -> Result<Vec<u8>, SdpError> {
        if rewrite.media.len() != self.media().len() {
            let (count, given) = (self.media().len(), rewrite.media.len());
            return Err(SdpError::RewriteCount { count, given });
        }
        check::check(rewrite)?;
        let line_end = self.line_end();
        let part = |range| Text::new(&self.body, &self.lines, range, line_end);
        let mut out = Vec::with_capacity(self.body.len() + 512);

        let mut text = part(0..self.media().first().map_or(0, |first| first.lines.start));
        session::origins(&mut text, &rewrite.origin);
        session::edit(&mut text, self.media(), rewrite);
        text.write(&mut out);
        for (media, change) in self.media().iter().zip(&rewrite.media) {
            if !change.remove {
                let mut text = part(media.lines.clone());
                session::origins(&mut text, &rewrite.origin);
                section::edit(&mut text, media, change);
                text.write(&mut out);
            }
        }
        if !self.body.ends_with(b"\n") && !self.body.ends_with(b"\r") {
            let end = [&b"\r\n"[..], b"\n", b"\r"]
                .into_iter()
                .find(|end| out.ends_with(end));
            out.truncate(out.len() - end.map_or(0, <[u8]>::len));
        }
        Ok(out)
    }

    /// The body's own terminator: that of its v= line, which always leaves.
    fn line_end(&self) -> &[u8] {
        let version = self.lines.iter().find(|line| line.kind == Kind::Version);
        version.map_or(b"\r\n", |line| &self.body[line.text.end..line.end])
    }
}

/// `IP4 192.0.2.1` or `IP6 2001:db8::1`.
fn typed_address(address: IpAddr) -> String {
    match address {
        IpAddr::V4(_) => ["IP4 ", &ip_text(address)].concat(),
        IpAddr::V6(_) => ["IP6 ", &ip_text(address)].concat(),
    }
}

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
    /// As they came, but for the tags of sections that leave the body or change their tag.
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
    /// The section is refused: besides its m= line, with port 0, and its c= line, only what means
    /// nothing to a relay is left. Of the rest of this record only the address and the transport have
    /// an effect then.
    pub refused: bool,
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
    /// New direction. If every section that leaves in use has one, that of the session goes away.
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
    /// Lines of the codecs, `a=mid:`, direction, `a=rtcp:` and `a=rtcp-mux` stand in the order of
    /// this module's documentation, wherever they came; each codec has an rtpmap, and lines of
    /// payload types that the m= line does not have go away.
    pub in_order: bool,
    /// Other attributes.
    pub attributes: AttributeEdits,
}

impl MediaRewrite {
    /// New port and address, and all else as it came.
    pub fn new(port: u16, address: IpAddr) -> Self {
        Self {
            remove: false,
            refused: false,
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
            in_order: false,
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
    /// `a=candidate:` lines, in this order. With the option `trickle`, or where the section has it,
    /// `a=end-of-candidates` follows them (RFC 8840).
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

/// The `a=extmap:` lines of a section that leave; those of the session are
/// [`Rewrite::attributes`]' to remove.
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
///
/// A line to remove or replace is named in full, or by its name and first word, or by its name:
/// `foo:bar baz`, `foo:bar`, `foo`. Lines are removed first, then replaced, each at most once, then
/// added; all of it after the other changes of its part of the body.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AttributeEdits {
    /// Lines to add at the end, unless the same line stands already.
    pub add: Vec<String>,
    /// Lines to remove.
    pub remove: Vec<String>,
    /// Lines to replace, and what by.
    pub substitute: Vec<(String, String)>,
}
