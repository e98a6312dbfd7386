//! One media section: the m= line and what follows it.

use crate::codec::{self, Codec};
use crate::error::SdpError;
use crate::kind::{Kind, value, value_text};
use crate::line::{Line, words};
use crate::rewrite::Candidate;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;

/// What a media section carries: the first word of its m= line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MediaKind {
    /// `audio`
    Audio,
    /// `video`
    Video,
    /// `text`
    Text,
    /// `application`
    Application,
    /// `message`
    Message,
    /// `image`, such as T.38 fax
    Image,
    /// Any other word, as written.
    Other(String),
}

/// Transports a relay may be asked to write into an m= line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// `RTP/AVP` (RFC 3551)
    RtpAvp,
    /// `RTP/AVPF` (RFC 4585)
    RtpAvpf,
    /// `RTP/SAVP` (RFC 3711)
    RtpSavp,
    /// `RTP/SAVPF` (RFC 5124)
    RtpSavpf,
    /// `UDP/TLS/RTP/SAVP` (RFC 5764)
    UdpTlsRtpSavp,
    /// `UDP/TLS/RTP/SAVPF` (RFC 5764)
    UdpTlsRtpSavpf,
    /// `udptl` (T.38)
    Udptl,
}

impl Protocol {
    const ALL: [Self; 7] = [
        Self::RtpAvp,
        Self::RtpAvpf,
        Self::RtpSavp,
        Self::RtpSavpf,
        Self::UdpTlsRtpSavp,
        Self::UdpTlsRtpSavpf,
        Self::Udptl,
    ];

    /// The protocol written as `word`, without regard to case.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|protocol| protocol.as_str().eq_ignore_ascii_case(word))
    }

    /// As it is written in an m= line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RtpAvp => "RTP/AVP",
            Self::RtpAvpf => "RTP/AVPF",
            Self::RtpSavp => "RTP/SAVP",
            Self::RtpSavpf => "RTP/SAVPF",
            Self::UdpTlsRtpSavp => "UDP/TLS/RTP/SAVP",
            Self::UdpTlsRtpSavpf => "UDP/TLS/RTP/SAVPF",
            Self::Udptl => "udptl",
        }
    }

    /// Whether the media is RTP, secured or not.
    pub fn is_rtp(self) -> bool {
        self != Self::Udptl
    }
}

/// Who sends media, seen from the sender of the SDP (RFC 8866 section 6.7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Direction {
    /// Both sides; the default.
    #[default]
    SendRecv,
    /// Only the sender of the SDP.
    SendOnly,
    /// Only its receiver.
    RecvOnly,
    /// Nobody.
    Inactive,
}

impl Direction {
    /// What counts of two lines that contradict each other, in one section or in session and section:
    /// the first of recvonly, sendonly, inactive and sendrecv, as rtpengine has it.
    fn and(self, other: Self) -> Self {
        let narrow = [Self::RecvOnly, Self::SendOnly, Self::Inactive];
        let stated = |known: &Self| [self, other].contains(known);
        narrow.into_iter().find(stated).unwrap_or_default()
    }

    /// The attribute's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SendRecv => "sendrecv",
            Self::SendOnly => "sendonly",
            Self::RecvOnly => "recvonly",
            Self::Inactive => "inactive",
        }
    }
}

/// Where RTCP goes if not to the next port (RFC 3605).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rtcp {
    /// UDP port.
    pub port: u16,
    /// Address, if it is not that of the RTP.
    pub address: Option<IpAddr>,
}

/// An RTP header extension (RFC 8285 section 8).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extmap {
    /// Number in the RTP header, or of a proposal.
    pub number: u16,
    /// Its name, almost always a URI.
    pub uri: String,
}

/// What a section says of its keys, as written, so that two sides can be compared. Values without
/// their names; what the section does not say is taken from the session, but for `crypto`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Keys {
    /// `a=crypto:` lines (RFC 4568), in order.
    pub crypto: Vec<String>,
    /// `a=fingerprint:` lines (RFC 8122), in order.
    pub fingerprints: Vec<String>,
    /// `a=setup:` (RFC 4145)
    pub setup: Option<String>,
    /// `a=tls-id:` (RFC 8842)
    pub tls_id: Option<String>,
}

/// What a media section says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Media {
    /// What it carries.
    pub kind: MediaKind,
    /// UDP port for RTP; 0 rejects the section.
    pub port: u16,
    /// Port pairs asked for, almost always 1.
    pub port_count: u16,
    /// Transport as written; see [`Media::protocol`].
    pub proto: String,
    /// Format words as written: payload types for RTP, `t38` for fax.
    pub formats: Vec<String>,
    /// Address from the section's c= line, else the session's. `None` only if rejected.
    pub address: Option<IpAddr>,
    /// Direction from the section and the session: of several that contradict each other, the first of
    /// recvonly, sendonly, inactive and sendrecv.
    pub direction: Direction,
    /// Whether the section itself has a direction line.
    pub has_direction: bool,
    /// The `a=rtcp:` line, if there is a sound one.
    pub rtcp: Option<Rtcp>,
    /// Whether the section has `a=rtcp-mux` (RFC 5761).
    pub rtcp_mux: bool,
    /// Whether the section has `a=rtcp-mux-only` (RFC 8858).
    pub rtcp_mux_only: bool,
    /// Codecs of an RTP section in the order of its m= line.
    pub codecs: Vec<Codec>,
    /// Packet time, in ms.
    pub ptime: Option<u16>,
    /// Longest packet time, in ms.
    pub maxptime: Option<u16>,
    /// Whether the section or the session offers ICE.
    pub ice: bool,
    /// `a=ice-ufrag:` of the section, else the session (RFC 8839 section 5.4).
    pub ice_ufrag: Option<String>,
    /// `a=ice-pwd:` of the section, else the session.
    pub ice_pwd: Option<String>,
    /// Whether the section or the session says that candidates may trickle (RFC 8840).
    pub trickle: bool,
    /// Whether the section has candidates.
    pub has_candidates: bool,
    /// Its UDP candidates of type host, in order: all that a lite agent has (RFC 8445 section 5.2). At most 16.
    pub candidates: Vec<Candidate>,
    /// What keys it uses.
    pub keys: Keys,
    /// Identification tag (RFC 5888).
    pub mid: Option<String>,
    /// Whether the section has `a=bundle-only` (RFC 9143).
    pub bundle_only: bool,
    /// The section's header extensions, in order.
    pub extmaps: Vec<Extmap>,
    /// SSRCs announced by `a=ssrc:` (RFC 5576), ascending, each once.
    pub ssrcs: Vec<u32>,
    /// `a=label:` (RFC 4574)
    pub label: Option<String>,
    /// Its lines, the m= line first.
    pub(crate) lines: Range<usize>,
}

impl Media {
    /// The transport, if it is one of those known here.
    pub fn protocol(&self) -> Option<Protocol> {
        Protocol::from_word(&self.proto)
    }

    /// Whether the transport is RTP, secured or not, be it one of those known here or not.
    pub fn is_rtp(&self) -> bool {
        is_rtp(&self.proto)
    }

    /// Whether the section is refused or switched off (port 0, RFC 3264 section 6). One that only shares the port of
    /// its bundle has port 0 too (`a=bundle-only`, RFC 9143 section 6).
    pub fn is_rejected(&self) -> bool {
        // Without formats it could not be given a port.
        self.port == 0 && (!self.bundle_only || self.formats.is_empty())
    }

    /// Whether the sender put the other side on hold: sendonly, inactive, or the older
    /// zero address (RFC 3264 section 8.4).
    pub fn is_hold(&self) -> bool {
        matches!(self.direction, Direction::SendOnly | Direction::Inactive)
            || self.is_zero_address()
    }

    /// Whether the address is 0.0.0.0 or `::` and means hold.
    ///
    /// With ICE it does not: there it says that candidates are still being gathered.
    pub fn is_zero_address(&self) -> bool {
        !self.ice && self.address.is_some_and(|address| address.is_unspecified())
    }
}

/// What the session says for all of its sections, or a section for itself.
#[derive(Debug, Clone, Default)]
pub(crate) struct Defaults {
    pub(crate) address: Option<IpAddr>,
    direction: Option<Direction>,
    ice: bool,
    trickle: bool,
    ufrag: Option<String>,
    pwd: Option<String>,
    keys: Keys,
}

impl Defaults {
    /// Reads the lines of the session, or of one section after its m= line.
    pub(crate) fn read(body: &[u8], lines: &[Line], first: usize) -> Result<Self, SdpError> {
        let mut found = Self::default();
        for (line, number) in lines.iter().zip(first + 1..) {
            let text = &body[line.text.clone()];
            match line.kind {
                Kind::Connection => {
                    let address = connection(text, number)?;
                    found.address.get_or_insert(address);
                }
                Kind::Direction => {
                    let direction = direction(text);
                    let known = found.direction.unwrap_or_default();
                    found.direction = Some(known.and(direction));
                }
                Kind::Candidate => found.ice = true,
                Kind::IceUfrag => {
                    found.ice = true;
                    found.ufrag.get_or_insert_with(|| value_text(text));
                }
                Kind::IcePwd => {
                    found.pwd.get_or_insert_with(|| value_text(text));
                }
                Kind::IceOptions => {
                    let value = value(text);
                    found.trickle |= words(value).any(|word| &value[word] == b"trickle");
                }
                Kind::Crypto => found.keys.crypto.push(value_text(text)),
                Kind::Fingerprint => found.keys.fingerprints.push(value_text(text)),
                Kind::Setup => {
                    found.keys.setup.get_or_insert_with(|| value_text(text));
                }
                Kind::TlsId => {
                    found.keys.tls_id.get_or_insert_with(|| value_text(text));
                }
                _ => {}
            }
        }
        Ok(found)
    }

    /// What the section says for itself, with the session's words where it says nothing.
    fn over(mut self, session: &Self) -> Self {
        self.address = self.address.or(session.address);
        self.ice |= session.ice;
        self.trickle |= session.trickle;
        self.ufrag = self.ufrag.or_else(|| session.ufrag.clone());
        self.pwd = self.pwd.or_else(|| session.pwd.clone());
        if self.keys.fingerprints.is_empty() {
            self.keys
                .fingerprints
                .clone_from(&session.keys.fingerprints);
        }
        self.keys.setup = self.keys.setup.or_else(|| session.keys.setup.clone());
        self.keys.tls_id = self.keys.tls_id.or_else(|| session.keys.tls_id.clone());
        self
    }
}

/// Reads the section whose m= line is `lines[section.start]`.
pub(crate) fn read(
    body: &[u8],
    lines: &[Line],
    section: Range<usize>,
    session: &Defaults,
) -> Result<Media, SdpError> {
    let (start, number) = (section.start, section.start + 1);
    let text = |line: &Line| &body[line.text.clone()];
    let mline = MediaLine::read(text(&lines[start]), number)?;
    let rest = &lines[start + 1..section.end];
    let own = Defaults::read(body, rest, start + 1)?;
    let stated = own.direction;
    let own = own.over(session);

    if own.address.is_none() && mline.port != 0 {
        return Err(SdpError::NoConnection { line: number });
    }
    let (codecs, ptime) = match is_rtp(&mline.proto) {
        true => codec::read(
            &mline.formats,
            rest.iter().map(|line| (line.kind, text(line))),
        ),
        false => (Vec::new(), None),
    };
    let all = |kind| rest.iter().filter(move |line| line.kind == kind).map(text);
    let has = |kind| all(kind).next().is_some();
    let mut ssrcs: Vec<u32> = all(Kind::Ssrc).filter_map(ssrc).collect();
    ssrcs.sort_unstable();
    ssrcs.dedup();
    Ok(Media {
        kind: mline.kind,
        port: mline.port,
        port_count: mline.port_count,
        proto: mline.proto,
        formats: mline.formats,
        address: own.address,
        direction: (stated.unwrap_or_default()).and(session.direction.unwrap_or_default()),
        has_direction: stated.is_some(),
        rtcp: all(Kind::Rtcp).find_map(|line| rtcp(value(line))),
        rtcp_mux: has(Kind::RtcpMux),
        rtcp_mux_only: has(Kind::RtcpMuxOnly),
        codecs,
        ptime,
        maxptime: all(Kind::MaxPtime).find_map(|line| codec::milliseconds(value(line))),
        ice: own.ice,
        ice_ufrag: own.ufrag,
        ice_pwd: own.pwd,
        trickle: own.trickle,
        has_candidates: has(Kind::Candidate),
        candidates: all(Kind::Candidate)
            .filter_map(candidate)
            .take(MAX_CANDIDATES)
            .collect(),
        keys: own.keys,
        mid: all(Kind::Mid).next().map(value_text),
        bundle_only: has(Kind::BundleOnly),
        extmaps: all(Kind::Extmap).filter_map(extmap).collect(),
        ssrcs,
        label: all(Kind::Label).next().map(value_text),
        lines: section,
    })
}

/// The SSRC of an `a=ssrc:` line.
fn ssrc(text: &[u8]) -> Option<u32> {
    let value = value(text);
    let word = words(value).next()?;
    std::str::from_utf8(&value[word]).ok()?.parse().ok()
}

/// Most candidates of a section that are read.
const MAX_CANDIDATES: usize = 16;

/// What an `a=candidate:` line (RFC 8839 section 5.1) says, if it is a host's and over UDP.
fn candidate(text: &[u8]) -> Option<Candidate> {
    let value = std::str::from_utf8(value(text)).ok()?;
    let mut words = words(value.as_bytes()).map(|word| &value[word]);
    let mut next = || words.next();
    let (foundation, component, transport, priority) = (next()?, next()?, next()?, next()?);
    let (ip, port, typ, kind) = (next()?, next()?, next()?, next()?);
    let is_host = transport.eq_ignore_ascii_case("UDP") && (typ, kind) == ("typ", "host");
    Some(Candidate {
        foundation: foundation.to_owned(),
        component: u8::try_from(decimal(component)?).ok()?,
        priority: priority.parse().ok()?,
        address: SocketAddr::new(ip.parse().ok()?, decimal(port)?),
    })
    .filter(|_| is_host)
}

/// Number and name of an `a=extmap:` line, without direction and attributes.
pub(crate) fn extmap(text: &[u8]) -> Option<Extmap> {
    let value = std::str::from_utf8(value(text)).ok()?;
    let mut words = words(value.as_bytes()).map(|word| &value[word]);
    let (number, uri) = (words.next()?, words.next()?);
    Some(Extmap {
        number: decimal(number.split('/').next()?)?,
        uri: uri.to_owned(),
    })
}

/// Longest kind or transport of an m= line, in bytes: a call keeps them.
const MAX_WORD: usize = 64;

/// Most formats of an m= line: twice the payload types that there are.
const MAX_FORMATS: usize = 256;

/// The words of an m= line.
struct MediaLine {
    kind: MediaKind,
    port: u16,
    port_count: u16,
    proto: String,
    formats: Vec<String>,
}

impl MediaLine {
    fn read(text: &[u8], line: usize) -> Result<Self, SdpError> {
        let text = std::str::from_utf8(&text[2..]).map_err(|_| SdpError::NotUtf8 { line })?;
        let mut words = words(text.as_bytes()).map(|word| &text[word]);
        let (Some(kind), Some(ports), Some(proto)) = (words.next(), words.next(), words.next())
        else {
            return Err(SdpError::MalformedMedia { line });
        };
        let (port, port_count) = read_ports(ports).ok_or(SdpError::BadPort { line })?;
        let formats: Vec<String> = words.map(str::to_owned).collect();
        let is_long = kind.len() > MAX_WORD || proto.len() > MAX_WORD;
        if is_long || formats.len() > MAX_FORMATS {
            return Err(SdpError::MalformedMedia { line });
        }
        // Some phones leave the formats out of a section they reject.
        if formats.is_empty() && port != 0 {
            return Err(SdpError::MalformedMedia { line });
        }
        let kind = media_kind(kind);
        Ok(Self {
            kind,
            port,
            port_count,
            proto: proto.to_owned(),
            formats,
        })
    }
}

fn is_rtp(proto: &str) -> bool {
    let is_part = |bytes: &[u8]| bytes.eq_ignore_ascii_case(b"RTP/");
    proto.as_bytes().windows(4).any(is_part)
}

fn media_kind(word: &str) -> MediaKind {
    match word.to_ascii_lowercase().as_str() {
        "audio" => MediaKind::Audio,
        "video" => MediaKind::Video,
        "text" => MediaKind::Text,
        "application" => MediaKind::Application,
        "message" => MediaKind::Message,
        "image" => MediaKind::Image,
        _ => MediaKind::Other(word.to_owned()),
    }
}

fn read_ports(word: &str) -> Option<(u16, u16)> {
    let (port, count) = word.split_once('/').unwrap_or((word, "1"));
    let count = decimal(count).filter(|&count| count > 0)?;
    Some((decimal(port)?, count))
}

/// Digits only: `parse` alone would take a plus sign.
fn decimal(word: &str) -> Option<u16> {
    let digits = word.bytes().all(|b| b.is_ascii_digit());
    if digits { word.parse().ok() } else { None }
}

/// The address of a c= line (RFC 8866 section 5.7), without TTL and count.
fn connection(text: &[u8], line: usize) -> Result<IpAddr, SdpError> {
    let text = std::str::from_utf8(&text[2..]).map_err(|_| SdpError::NotUtf8 { line })?;
    let words: Vec<&str> = words(text.as_bytes()).map(|word| &text[word]).collect();
    let [net_type, family, address] = words[..] else {
        return Err(SdpError::MalformedConnection { line });
    };
    let address = address.split('/').next().unwrap_or_default();
    if net_type.eq_ignore_ascii_case("IN") {
        if let Some(address) = address_of(family, address) {
            return Ok(address);
        }
        if is_host_name(address) {
            return Err(SdpError::HostName { line });
        }
    }
    Err(SdpError::MalformedConnection { line })
}

/// `address` if it belongs to `family`, `IP4` or `IP6`.
pub(crate) fn address_of(family: &str, address: &str) -> Option<IpAddr> {
    if family.eq_ignore_ascii_case("IP4") {
        address.parse().ok().map(IpAddr::V4)
    } else if family.eq_ignore_ascii_case("IP6") {
        address.parse().ok().map(IpAddr::V6)
    } else {
        None
    }
}

fn is_host_name(word: &str) -> bool {
    word.bytes()
        .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'))
        && word.bytes().any(|b| b.is_ascii_alphabetic())
}

/// The value of `a=rtcp:` (RFC 3605 section 2.1); port 0 and anything unsound is no line at all.
fn rtcp(value: &[u8]) -> Option<Rtcp> {
    let text = std::str::from_utf8(value).ok()?;
    let words: Vec<&str> = words(text.as_bytes()).map(|word| &text[word]).collect();
    let (port, address) = match words[..] {
        [port] => (port, None),
        [port, _, family, address] => (port, Some(address_of(family, address)?)),
        _ => return None,
    };
    let port = decimal(port).filter(|&port| port != 0)?;
    Some(Rtcp { port, address })
}

/// The direction a line of [`Kind::Direction`] states.
fn direction(text: &[u8]) -> Direction {
    let name = text.get(2..).unwrap_or_default();
    let name = name.split(|&b| b == b':').next().unwrap_or_default();
    let known = [
        Direction::SendOnly,
        Direction::RecvOnly,
        Direction::Inactive,
    ];
    known
        .into_iter()
        .find(|known| {
            name.trim_ascii()
                .eq_ignore_ascii_case(known.as_str().as_bytes())
        })
        .unwrap_or_default()
}
