//! The order of the lines that a relay makes anew; what is in order stays as it is.

use super::text::{Leaving, Text};
use crate::codec::Codec;
use crate::kind::{Kind, value};
use crate::line::words;
use crate::media::Media;
use std::borrow::Cow;
use std::collections::BTreeMap;

/// Payload types have an rtpmap before what else is said of them, all in the order of the m= line's
/// `formats`; lines of no such type go away. An rtpmap that RFC 3551 lets out is written.
pub(super) fn codecs(text: &mut Text<'_>, media: &Media, formats: &[String]) {
    let mut place: BTreeMap<&[u8], usize> = BTreeMap::new();
    for (idx, word) in formats.iter().enumerate() {
        place.entry(word.as_bytes()).or_insert(idx);
    }
    let of = |line: &Leaving<'_>| place.get(payload_type(line)?).copied();
    text.remove(|line| payload_type(line).is_some_and(|word| word != b"*") && of(line).is_none());

    let mut has_map = [false; 128];
    for line in text.lines.iter().filter(|line| line.kind == Kind::Rtpmap) {
        if let Some(has_map) = number(line).and_then(|number| has_map.get_mut(number)) {
            *has_map = true;
        }
    }
    let mut missing = Vec::new();
    for codec in &media.codecs {
        let has_map = has_map.get_mut(usize::from(codec.payload_type));
        let is_missing = has_map.is_some_and(|has| !std::mem::replace(has, true));
        if is_missing && place.contains_key(codec.payload_type.to_string().as_bytes()) {
            missing.push(rtpmap(codec));
        }
    }
    if !missing.is_empty() {
        match text.lines.iter().position(|line| of(line).is_some()) {
            Some(first) => text.insert_at(first, Kind::Rtpmap, missing),
            None => text.insert(Kind::Rtpmap, missing),
        }
    }
    for line in &mut text.lines {
        if line.kind == Kind::Rtpmap && is_mono(line, media) {
            let end = line.text.trim_ascii_end().len().saturating_sub(2);
            line.text = Cow::Owned(line.text.get(..end).unwrap_or_default().to_vec());
        }
    }
    text.sort(|line| Some((of(line)?, line.kind != Kind::Rtpmap)));
}

/// `a=mid:` stands before the codecs; `a=rtcp:`, `a=rtcp-mux`, and the direction if it is made anew,
/// behind them.
pub(super) fn others(text: &mut Text<'_>, has_direction: bool) {
    let rank = |line: &Leaving<'_>| rank(line.kind, has_direction);
    text.keep_first(Kind::Mid);
    let mut lifted = Vec::new();
    let mut lowest = u8::MAX;
    for at in (0..text.lines.len()).rev() {
        let Some(rank) = rank(&text.lines[at]) else {
            continue;
        };
        if rank > CODECS && rank > lowest {
            lifted.push(text.lines.remove(at));
        }
        lowest = lowest.min(rank.max(CODECS));
    }
    lifted.sort_by_key(rank);
    for line in lifted {
        let own = rank(&line);
        let before = |line: &Leaving<'_>| rank(line).is_some_and(|rank| Some(rank) <= own);
        let last = text.lines.iter().rposition(before);
        text.lines.insert(last.map_or(1, |last| last + 1), line);
    }

    let mid = text.lines.iter().position(|line| line.kind == Kind::Mid);
    let first = text.lines.iter().position(|line| rank(line).is_some());
    if let (Some(mid), Some(first)) = (mid, first)
        && first < mid
    {
        let line = text.lines.remove(mid);
        text.lines.insert(first, line);
    }
}

/// That of the codecs.
const CODECS: u8 = 5;

/// As [`Kind::rank`], of what is made anew.
fn rank(kind: Kind, has_direction: bool) -> Option<u8> {
    use Kind::{Direction, Fmtp, Mid, Rtcp, RtcpFb, RtcpMux, Rtpmap};
    match kind {
        Direction if !has_direction => None,
        Mid | Rtpmap | Fmtp | RtcpFb | Direction | Rtcp | RtcpMux => kind.rank(),
        _ => None,
    }
}

/// Whether an rtpmap names one channel, which goes without saying (RFC 8866 section 6.6).
fn is_mono(line: &Leaving<'_>, media: &Media) -> bool {
    let value = value(&line.text).trim_ascii_end();
    if !value.ends_with(b"/1") || value.iter().filter(|b| **b == b'/').count() != 2 {
        return false;
    }
    let number = number(line);
    let is_own = |codec: &&Codec| Some(usize::from(codec.payload_type)) == number;
    let codec = media.codecs.iter().find(is_own);
    codec.is_some_and(|codec| codec.channels == 1)
}

/// The format that an rtpmap, fmtp or rtcp-fb line speaks of.
pub(super) fn payload_type<'l>(line: &'l Leaving<'_>) -> Option<&'l [u8]> {
    if !matches!(line.kind, Kind::Rtpmap | Kind::Fmtp | Kind::RtcpFb) {
        return None;
    }
    let value = value(&line.text);
    words(value).next().map(|word| &value[word])
}

fn number(line: &Leaving<'_>) -> Option<usize> {
    std::str::from_utf8(payload_type(line)?).ok()?.parse().ok()
}

fn rtpmap(codec: &Codec) -> String {
    let Codec {
        payload_type,
        name,
        clock_rate,
        channels,
    } = codec;
    match channels {
        1 => format!("a=rtpmap:{payload_type} {name}/{clock_rate}"),
        _ => format!("a=rtpmap:{payload_type} {name}/{clock_rate}/{channels}"),
    }
}
