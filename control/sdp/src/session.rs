//! The body as a whole: lines, session, media sections.

use crate::error::SdpError;
use crate::kind::{Kind, value, value_text};
use crate::line::{self, Line, words};
use crate::media::{self, Defaults, Media};
use crate::{MAX_BODY, MAX_MEDIA};
use std::borrow::Cow;
use std::net::IpAddr;
use std::ops::Range;

/// The o= line (RFC 8866 section 5.2). Bytes that are not UTF-8 show as U+FFFD.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin<'a> {
    /// User name, or `-`.
    pub username: Cow<'a, str>,
    /// Session identifier.
    pub session_id: Cow<'a, str>,
    /// Session version.
    pub session_version: Cow<'a, str>,
    /// Network type, `IN`.
    pub net_type: Cow<'a, str>,
    /// Address type, `IP4` or `IP6`.
    pub address_type: Cow<'a, str>,
    /// Address or host name.
    pub address: Cow<'a, str>,
}

/// A parsed body: its bytes, its lines, and what they say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sdp {
    pub(crate) body: Vec<u8>,
    pub(crate) lines: Vec<Line>,
    connection: Option<IpAddr>,
    bundles: Vec<Vec<String>>,
    ice_lite: bool,
    loop_marks: Vec<String>,
    media: Vec<Media>,
}

impl Sdp {
    /// Parses a body.
    ///
    /// # Errors
    /// [`SdpError`] says what is wrong and in which line. Nothing the relay has no need to
    /// understand is an error: such lines stay as they are.
    pub fn parse(body: &[u8]) -> Result<Self, SdpError> {
        if body.len() > MAX_BODY {
            return Err(SdpError::TooLarge { len: body.len() });
        }
        let lines = line::split(body);
        let text = |line: &Line| &body[line.text.clone()];
        if lines.iter().all(|line| text(line).trim_ascii().is_empty()) {
            return Err(SdpError::Empty);
        }
        let sections = sections(&lines);
        if sections.len() > MAX_MEDIA {
            return Err(SdpError::TooManyMedia {
                count: sections.len(),
            });
        }
        let session = &lines[..sections.first().map_or(lines.len(), |first| first.start)];
        if !session.iter().any(|line| line.kind == Kind::Version) {
            return Err(SdpError::NoVersion);
        }
        if sections.is_empty() {
            return Err(SdpError::NoMedia);
        }
        for (line, number) in lines.iter().zip(1..) {
            if line.kind == Kind::Origin && origin_words(text(line)).is_none() {
                return Err(SdpError::MalformedOrigin { line: number });
            }
        }
        let defaults = Defaults::read(body, session, 0)?;
        let media = sections
            .into_iter()
            .map(|section| media::read(body, &lines, section, &defaults))
            .collect::<Result<_, _>>()?;
        let of_kind = |kind| session.iter().filter(move |line| line.kind == kind);
        Ok(Self {
            body: body.to_vec(),
            connection: defaults.address,
            bundles: of_kind(Kind::Group)
                .filter_map(|line| bundle(text(line)))
                .collect(),
            ice_lite: of_kind(Kind::IceLite).next().is_some(),
            loop_marks: of_kind(Kind::LoopMark)
                .map(|line| value_text(text(line)))
                .collect(),
            media,
            lines,
        })
    }

    /// The o= line, the first if there are several.
    pub fn origin(&self) -> Option<Origin<'_>> {
        let line = self.lines.iter().find(|line| line.kind == Kind::Origin)?;
        let text = self.body.get(line.text.clone())?;
        let [session_id, version, net_type, address_type, address] = origin_words(text)?;
        let show = |word: Range<usize>| String::from_utf8_lossy(&text[word]);
        let username = text[2..session_id.start].trim_ascii_end();
        Some(Origin {
            username: String::from_utf8_lossy(username),
            session_id: show(session_id),
            session_version: show(version),
            net_type: show(net_type),
            address_type: show(address_type),
            address: show(address),
        })
    }

    /// The s= line, if there is one and it is UTF-8.
    pub fn session_name(&self) -> Option<&str> {
        let named = |line: &&Line| line.kind == Kind::SessionName;
        let line = self.lines.iter().find(named)?;
        std::str::from_utf8(self.body.get(line.text.start + 2..line.text.end)?).ok()
    }

    /// Attributes that say what the formats of a section of this body are, without `a=`: rtpmap, fmtp, ptime.
    pub fn described(&self, media: &Media) -> impl Iterator<Item = String> {
        let lines = self.lines.get(media.lines.clone()).unwrap_or_default();
        let telling = lines.iter().filter(|line| {
            use Kind::{Fmtp, MaxPtime, Ptime, Rtpmap};
            matches!(line.kind, Rtpmap | Fmtp | Ptime | MaxPtime)
        });
        telling.filter_map(|line| {
            let text = self.body.get(line.text.start + 2..line.text.end)?;
            String::from_utf8(text.to_vec()).ok()
        })
    }

    /// The address of the session's c= line, if there is one.
    pub fn connection(&self) -> Option<IpAddr> {
        self.connection
    }

    /// The tags of each `a=group:BUNDLE` line (RFC 9143), in order.
    pub fn bundles(&self) -> &[Vec<String>] {
        &self.bundles
    }

    /// Whether the session has `a=ice-lite` (RFC 8839 section 5.3).
    pub fn is_ice_lite(&self) -> bool {
        self.ice_lite
    }

    /// The values of the session's `a=rtpengine:` lines, by which a relay knows what it has seen.
    pub fn loop_marks(&self) -> &[String] {
        &self.loop_marks
    }

    /// The media sections, in order; at least one.
    pub fn media(&self) -> &[Media] {
        &self.media
    }

    /// The body as it came.
    pub fn as_bytes(&self) -> &[u8] {
        &self.body
    }
}

/// A body with more sections: each of `added` is a place among the sections, ascending, and the section's lines,
/// complete with their ends.
pub fn with_sections(body: &[u8], added: &[(usize, String)]) -> Vec<u8> {
    let mut out = Vec::with_capacity(body.len() + 64 * added.len());
    let mut added = added.iter().peekable();
    let (mut count, mut start) = (0, 0);
    for line in line::split(body) {
        let begins = line.kind == Kind::Media;
        while let Some((_, text)) = added.next_if(|(place, _)| begins && *place == count) {
            out.extend_from_slice(text.as_bytes());
            count += 1;
        }
        count += usize::from(begins);
        out.extend_from_slice(body.get(start..line.end).unwrap_or_default());
        start = line.end;
    }
    if added.peek().is_some() && !out.ends_with(b"\n") {
        out.extend_from_slice(b"\r\n");
    }
    for (_, text) in added {
        out.extend_from_slice(text.as_bytes());
    }
    out
}

/// The tags of an `a=group:BUNDLE` line; `None` for another group.
fn bundle(text: &[u8]) -> Option<Vec<String>> {
    let value = value(text);
    let mut words = words(value).map(|word| String::from_utf8_lossy(&value[word]).into_owned());
    words
        .next()?
        .eq_ignore_ascii_case("BUNDLE")
        .then(|| words.collect())
}

/// Line ranges of the media sections.
fn sections(lines: &[Line]) -> Vec<Range<usize>> {
    let is_start = |&idx: &usize| lines[idx].kind == Kind::Media;
    let mut starts = (0..lines.len()).filter(is_start).peekable();
    let mut sections = Vec::new();
    while let Some(start) = starts.next() {
        sections.push(start..starts.peek().copied().unwrap_or(lines.len()));
    }
    sections
}

/// The last five words of an o= line: all but the user name, which some phones write with
/// spaces. `None` if there are not as many.
pub(crate) fn origin_words(text: &[u8]) -> Option<[Range<usize>; 5]> {
    let mut last: [Range<usize>; 5] = Default::default();
    let mut count = 0;
    for word in words(text) {
        last.rotate_left(1);
        last[4] = word;
        count += 1;
    }
    (count > last.len()).then_some(last)
}
