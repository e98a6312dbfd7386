//! What is changed in one media section.

use super::order::{self, payload_type};
use super::text::{Leaving, Text};
use super::{
    Candidate, ExtmapEdit, IceEdit, IceLines, MediaRewrite, MidEdit, RtcpLine, ZeroAddress,
    attributes, typed_address,
};
use crate::kind::Kind;
use crate::line::words;
use crate::media::{Media, extmap};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Makes all changes but those of o= lines.
pub(super) fn edit(text: &mut Text<'_>, media: &Media, change: &MediaRewrite) {
    if change.refused {
        return refuse(text, media, change);
    }
    let formats = formats(media, change);
    if let Some(first) = text.lines.first_mut() {
        first.text = Cow::Owned(media_line(&first.text, media, change, formats.as_deref()));
    }
    if let Some(formats) = &formats {
        follow_formats(text, media, formats);
    }
    connection(text, media, change);
    match &change.mid {
        MidEdit::Keep => {}
        MidEdit::Remove => text.remove(|line| line.kind == Kind::Mid),
        MidEdit::Set(tag) => text.set(Kind::Mid, format!("a=mid:{tag}")),
    }
    if let Some(ms) = change.ptime {
        text.set(Kind::Ptime, format!("a=ptime:{ms}"));
    }
    if let Some(ms) = change.maxptime {
        text.set(Kind::MaxPtime, format!("a=maxptime:{ms}"));
    }
    if let Some(direction) = change.direction {
        text.set(Kind::Direction, format!("a={}", direction.as_str()));
    }
    rtcp(text, change);
    if change.in_order {
        order::codecs(text, media, formats.as_deref().unwrap_or(&media.formats));
        order::others(text, change.direction.is_some());
    }
    ice(text, &change.ice);
    match &change.extmap {
        ExtmapEdit::Keep => {}
        ExtmapEdit::Strip => text.remove(|line| line.kind == Kind::Extmap),
        ExtmapEdit::StripNamed(names) => text.remove(|line| is_extmap_of(line, names)),
    }
    if change.bundle_only {
        text.remove(|line| line.kind == Kind::BundleOnly);
    }
    attributes::edit(text, &change.attributes);
}

/// What a section in use would say of itself goes away.
fn refuse(text: &mut Text<'_>, media: &Media, change: &MediaRewrite) {
    let change = MediaRewrite {
        protocol: change.protocol,
        ..MediaRewrite::new(0, change.address)
    };
    if let Some(first) = text.lines.first_mut() {
        first.text = Cow::Owned(media_line(&first.text, media, &change, None));
    }
    connection(text, media, &change);
    text.remove(|line| {
        let is_of_use = line.kind.rank() >= Kind::Mid.rank() || line.kind == Kind::BundleOnly;
        is_of_use && payload_type(line) != Some(b"*")
    });
}

/// The formats that leave, if they are others than those that came, or in another order.
fn formats(media: &Media, change: &MediaRewrite) -> Option<Vec<String>> {
    let wanted = change.formats.as_ref()?;
    let came: BTreeSet<&str> = media.formats.iter().map(String::as_str).collect();
    let kept: Vec<String> = wanted
        .iter()
        .filter(|word| came.contains(word.as_str()))
        .cloned()
        .collect();
    (!kept.is_empty() && kept != media.formats).then_some(kept)
}

/// The m= line with its port, and transport and formats if asked for, replaced.
fn media_line(
    text: &[u8],
    media: &Media,
    change: &MediaRewrite,
    formats: Option<&[String]>,
) -> Vec<u8> {
    let port = if media.is_rejected() { 0 } else { change.port };
    // Parsing found at least three words, the first of them glued to `m=` or after a blank.
    let mut spans = words(text.get(2..).unwrap_or_default())
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
    match formats {
        Some(formats) => {
            line.push(b' ');
            line.extend_from_slice(formats.join(" ").as_bytes());
        }
        None => line.extend_from_slice(&text[proto.end..]),
    }
    line
}

/// Lines of formats that are gone go with them; the others stand in the order of the m= line.
fn follow_formats(text: &mut Text<'_>, media: &Media, formats: &[String]) {
    let mut place: BTreeMap<&[u8], Option<usize>> = media
        .formats
        .iter()
        .map(|word| (word.as_bytes(), None))
        .collect();
    for (idx, word) in formats.iter().enumerate().rev() {
        place.insert(word.as_bytes(), Some(idx));
    }
    let is_gone =
        |line: &Leaving<'_>| payload_type(line).and_then(|word| place.get(word)) == Some(&None);
    text.remove(is_gone);

    text.sort(|line| payload_type(line).and_then(|word| place.get(word).copied().flatten()));
}

/// One c= line: in the place of the first, else after m= and i=, as RFC 8866 wants it.
fn connection(text: &mut Text<'_>, media: &Media, change: &MediaRewrite) {
    let address = match (media.is_zero_address(), change.zero_address, change.address) {
        (true, ZeroAddress::Keep, IpAddr::V4(_)) => Ipv4Addr::UNSPECIFIED.into(),
        (true, ZeroAddress::Keep, IpAddr::V6(_)) => Ipv6Addr::UNSPECIFIED.into(),
        (_, _, address) => address,
    };
    let line = ["c=IN ", &typed_address(address)].concat();
    if text.has(Kind::Connection) {
        text.set(Kind::Connection, line);
    } else {
        let has_title = text
            .lines
            .get(1)
            .is_some_and(|line| line.kind == Kind::Title);
        text.insert_at(if has_title { 2 } else { 1 }, Kind::Connection, [line]);
    }
}

fn rtcp(text: &mut Text<'_>, change: &MediaRewrite) {
    match change.rtcp {
        RtcpLine::Keep => {}
        RtcpLine::None => text.remove(|line| line.kind == Kind::Rtcp),
        RtcpLine::Port(port) => text.set(Kind::Rtcp, format!("a=rtcp:{port}")),
        RtcpLine::Full(port, address) => {
            let address = typed_address(address);
            text.set(Kind::Rtcp, format!("a=rtcp:{port} IN {address}"));
        }
    }
    match change.rtcp_mux {
        None => {}
        Some(false) => {
            text.remove(|line| matches!(line.kind, Kind::RtcpMux | Kind::RtcpMuxOnly));
        }
        Some(true) if text.has(Kind::RtcpMux) => text.keep_first(Kind::RtcpMux),
        Some(true) => text.insert(Kind::RtcpMux, ["a=rtcp-mux".to_owned()]),
    }
}

fn ice(text: &mut Text<'_>, edit: &IceEdit) {
    if *edit == IceEdit::Keep {
        return;
    }
    let is_end = |line: &Leaving<'_>| line.text.trim_ascii() == b"a=end-of-candidates";
    let is_complete = text.lines.iter().any(is_end);
    text.remove(|line| line.kind.is_ice());
    let IceEdit::Own(IceLines {
        ufrag,
        pwd,
        options,
        candidates,
    }) = edit
    else {
        return;
    };
    let mut lines = vec![format!("a=ice-ufrag:{ufrag}"), format!("a=ice-pwd:{pwd}")];
    lines.extend(
        options
            .iter()
            .map(|options| format!("a=ice-options:{options}")),
    );
    lines.extend(candidates.iter().map(candidate_line));
    let is_trickle = |options: &String| options.split(' ').any(|word| word == "trickle");
    if is_complete || options.as_ref().is_some_and(is_trickle) {
        lines.push("a=end-of-candidates".to_owned());
    }
    text.insert(Kind::IceOther, lines);
}

fn candidate_line(candidate: &Candidate) -> String {
    let Candidate {
        foundation,
        component,
        priority,
        address,
    } = candidate;
    let (ip, port) = (address.ip(), address.port());
    format!("a=candidate:{foundation} {component} UDP {priority} {ip} {port} typ host")
}

fn is_extmap_of(line: &Leaving<'_>, names: &[String]) -> bool {
    line.kind == Kind::Extmap
        && extmap(&line.text).is_some_and(|extmap| names.contains(&extmap.uri))
}
