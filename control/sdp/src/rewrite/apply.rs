//! The editor at work.
//!
//! Order of what leaves: each section's c= stands in the section itself, in the place of
//! the one it had or after the m= line (and its i= line, as RFC 8866 wants it); the
//! session's c= goes away. `a=rtcp:` stands in its old place, or after the codecs and the
//! direction.

use super::{IceEdit, MediaRewrite, Rewrite, RtcpLine, ZeroAddress};
use crate::error::SdpError;
use crate::line::{attribute, words};
use crate::media::{Media, direction, is_ice};
use crate::session::{Sdp, origin_words};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

impl Sdp {
    /// The body with the named parts replaced and every other byte as it came.
    ///
    /// # Errors
    /// [`SdpError::RewriteCount`] if `rewrite` does not name every section.
    pub fn rewrite(&self, rewrite: &Rewrite) -> Result<Vec<u8>, SdpError> {
        if rewrite.media.len() != self.media().len() {
            let (count, given) = (self.media().len(), rewrite.media.len());
            return Err(SdpError::RewriteCount { count, given });
        }
        let mut out = Output {
            sdp: self,
            bytes: Vec::with_capacity(self.body.len() + 256),
        };
        for idx in 0..self.media().first().map_or(0, |first| first.lines.start) {
            out.session_line(idx, rewrite);
        }
        for (media, change) in self.media().iter().zip(&rewrite.media) {
            out.section(media, change, rewrite);
        }
        Ok(out.bytes)
    }
}

/// The bytes written so far.
struct Output<'a> {
    sdp: &'a Sdp,
    bytes: Vec<u8>,
}

impl<'a> Output<'a> {
    fn text(&self, idx: usize) -> &'a [u8] {
        &self.sdp.body[self.sdp.lines[idx].text.clone()]
    }

    fn session_line(&mut self, idx: usize, rewrite: &Rewrite) {
        let text = self.text(idx);
        if !text.starts_with(b"c=") && attribute(text, "rtcp").is_none() {
            self.common_line(idx, rewrite, rewrite.remove_session_ice, &[]);
        }
    }

    fn section(&mut self, media: &Media, change: &MediaRewrite, rewrite: &Rewrite) {
        let (has_c, has_rtcp) = (
            media
                .lines
                .clone()
                .any(|idx| self.text(idx).starts_with(b"c=")),
            media
                .lines
                .clone()
                .any(|idx| attribute(self.text(idx), "rtcp").is_some()),
        );
        let mut c_line = Some(connection_line(media, change));
        let mut rtcp_line = match change.rtcp {
            RtcpLine::None | RtcpLine::Keep => None,
            RtcpLine::Port(port) => Some(format!("a=rtcp:{port}")),
            RtcpLine::Full(port, address) => {
                Some(format!("a=rtcp:{port} IN {}", typed_address(address)))
            }
        };
        let c_anchor = self.connection_anchor(media);
        let rtcp_anchor = self.rtcp_anchor(media);

        for idx in media.lines.clone() {
            let text = self.text(idx);
            let is_c = text.starts_with(b"c=");
            let is_rtcp = change.rtcp != RtcpLine::Keep && attribute(text, "rtcp").is_some();
            let mut added = Vec::new();
            if !has_c && idx == c_anchor {
                added.extend(c_line.take());
            }
            if !has_rtcp && idx == rtcp_anchor {
                added.extend(rtcp_line.take());
            }
            if idx == media.lines.start {
                let line = media_line(text, media, change);
                self.push(idx, &line, &added);
            } else if is_c || is_rtcp {
                let line = if is_c {
                    c_line.take()
                } else {
                    rtcp_line.take()
                };
                // The first takes the place. A second has nothing left to say, but what was to
                // follow it still has to.
                match (line, added.split_first()) {
                    (Some(line), _) => self.push(idx, line.as_bytes(), &added),
                    (None, Some((first, rest))) => self.push(idx, first.as_bytes(), rest),
                    (None, None) => {}
                }
            } else {
                self.common_line(idx, rewrite, change.ice != IceEdit::Keep, &added);
            }
        }
    }

    /// A line of session or section alike: o= and ICE.
    fn common_line(&mut self, idx: usize, rewrite: &Rewrite, remove_ice: bool, added: &[String]) {
        let text = self.text(idx);
        // No new line follows an ICE line: nothing is lost with it but itself.
        if remove_ice && is_ice(text) {
            return;
        }
        match (rewrite.origin.address, origin_words(text, idx)) {
            (Some(new), Ok(Some([.., family, address]))) => {
                let mut line = text[..family.start].to_vec();
                line.extend_from_slice(typed_address(new).as_bytes());
                line.extend_from_slice(&text[address.end..]);
                self.push(idx, &line, added);
            }
            _ => self.push(idx, text, added),
        }
    }

    /// Writes `line` in the place of line `idx`, and `added` between it and its terminator,
    /// so that a body without a last terminator still leaves without one.
    fn push(&mut self, idx: usize, line: &[u8], added: &[String]) {
        self.bytes.extend_from_slice(line);
        for line in added {
            self.bytes.extend_from_slice(self.line_end());
            self.bytes.extend_from_slice(line.as_bytes());
        }
        let place = &self.sdp.lines[idx];
        self.bytes
            .extend_from_slice(&self.sdp.body[place.text.end..place.end]);
    }

    /// The body's own terminator: that of its first line.
    fn line_end(&self) -> &'static [u8] {
        let first = &self.sdp.lines[0];
        match self.sdp.body[first.text.end..first.end] {
            [b'\n'] => b"\n",
            [b'\r'] => b"\r",
            _ => b"\r\n",
        }
    }

    /// The line that a new c= follows.
    fn connection_anchor(&self, media: &Media) -> usize {
        let next = media.lines.start + 1;
        let has_title = next < media.lines.end && self.text(next).starts_with(b"i=");
        if has_title { next } else { media.lines.start }
    }

    /// The line that a new `a=rtcp:` follows.
    fn rtcp_anchor(&self, media: &Media) -> usize {
        let leads = |&idx: &usize| {
            let text = self.text(idx);
            let head = [b"m=", b"i=", b"c=", b"b=", b"k="]
                .iter()
                .any(|p| text.starts_with(*p));
            let codec = ["rtpmap", "fmtp", "ptime", "maxptime"]
                .iter()
                .any(|name| attribute(text, name).is_some());
            head || codec || direction(text).is_some()
        };
        media
            .lines
            .clone()
            .rev()
            .find(leads)
            .unwrap_or(media.lines.start)
    }
}

/// `IP4 192.0.2.1` or `IP6 2001:db8::1`.
fn typed_address(address: IpAddr) -> String {
    match address {
        IpAddr::V4(_) => format!("IP4 {address}"),
        IpAddr::V6(_) => format!("IP6 {address}"),
    }
}

fn connection_line(media: &Media, change: &MediaRewrite) -> String {
    let address = match (media.is_zero_address(), change.address) {
        (false, address) => address,
        (true, address) if change.zero_address == ZeroAddress::Replace => address,
        (true, IpAddr::V4(_)) => Ipv4Addr::UNSPECIFIED.into(),
        (true, IpAddr::V6(_)) => Ipv6Addr::UNSPECIFIED.into(),
    };
    format!("c=IN {}", typed_address(address))
}

/// The m= line with its second word, and its third if asked for, replaced.
fn media_line(text: &[u8], media: &Media, change: &MediaRewrite) -> Vec<u8> {
    let port = if media.is_rejected() { 0 } else { change.port };
    // Parsing found at least three words, the first of them glued to `m=` or after a blank.
    let mut spans = words(&text[2..])
        .skip(1)
        .map(|word| word.start + 2..word.end + 2);
    let (Some(ports), Some(proto)) = (spans.next(), spans.next()) else {
        return text.to_vec();
    };
    let mut line = text[..ports.start].to_vec();
    line.extend_from_slice(port.to_string().as_bytes());
    line.extend_from_slice(&text[ports.end..proto.start]);
    match change.protocol {
        Some(protocol) => line.extend_from_slice(protocol.as_str().as_bytes()),
        None => line.extend_from_slice(&text[proto.clone()]),
    }
    line.extend_from_slice(&text[proto.end..]);
    line
}
