//! Codecs of a media section: sdp-rs behind guards, and the static table of RFC 3551.
//!
//! sdp-rs can be made to panic by a remote body, and drops what follows a line it does
//! not expect. So it never sees one: each rtpmap is checked here, then printed anew for it.

use crate::kind::{Kind, value};
use sdp_rs::lines::attribute;
use std::fmt;

/// One payload type of a media section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Codec {
    /// RTP payload type, 0 to 127.
    pub payload_type: u8,
    /// Encoding name as written, such as `PCMA` or `telephone-event`.
    pub name: String,
    /// RTP clock, in Hz.
    pub clock_rate: u32,
    /// Audio channels; 1 unless the rtpmap says more.
    pub channels: u8,
}

impl Codec {
    /// Whether `spec` names it: `PCMU`, `PCMU/8000` or `opus/48000/2`, without regard to case.
    /// A clock without channels means one channel.
    pub fn is(&self, spec: &str) -> bool {
        let mut parts = spec.split('/');
        let same = |part: Option<&str>, own: u32| match part {
            None => true,
            Some(part) => number(part) == Some(own),
        };
        let name = parts.next().unwrap_or_default();
        let (clock, channels) = (parts.next(), parts.next());
        let channels = channels.or(clock.map(|_| "1"));
        name.eq_ignore_ascii_case(&self.name)
            && same(clock, self.clock_rate)
            && same(channels, self.channels.into())
            && parts.next().is_none()
    }

    /// Whether it goes with another codec of its clock rather than stands for itself:
    /// `telephone-event` (RFC 4733) and `CN` (RFC 3389).
    pub fn is_supplemental(&self) -> bool {
        ["telephone-event", "CN"]
            .iter()
            .any(|name| self.name.eq_ignore_ascii_case(name))
    }
}

/// As [`Codec::is`] reads it, channels and all: `opus/48000/2`.
impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.name, self.clock_rate, self.channels)
    }
}

/// Longest encoding name accepted, in bytes. The registry's longest has 24.
const MAX_NAME: usize = 64;

/// Static payload types that still occur (RFC 3551 section 6): type, name, clock, channels.
const STATIC: [(u8, &str, u32, u8); 24] = [
    (0, "PCMU", 8000, 1),
    (3, "GSM", 8000, 1),
    (4, "G723", 8000, 1),
    (5, "DVI4", 8000, 1),
    (6, "DVI4", 16000, 1),
    (7, "LPC", 8000, 1),
    (8, "PCMA", 8000, 1),
    (9, "G722", 8000, 1),
    (10, "L16", 44100, 2),
    (11, "L16", 44100, 1),
    (12, "QCELP", 8000, 1),
    (13, "CN", 8000, 1),
    (14, "MPA", 90000, 1),
    (15, "G728", 8000, 1),
    (16, "DVI4", 11025, 1),
    (17, "DVI4", 22050, 1),
    (18, "G729", 8000, 1),
    (25, "CelB", 90000, 1),
    (26, "JPEG", 90000, 1),
    (28, "nv", 90000, 1),
    (31, "H261", 90000, 1),
    (32, "MPV", 90000, 1),
    (33, "MP2T", 90000, 1),
    (34, "H263", 90000, 1),
];

/// The codecs of an m= line in its order, and ptime in ms.
///
/// A format without a usable rtpmap falls back to the static table and is left out
/// if that does not know it either.
pub(crate) fn read<'a>(
    formats: &[String],
    lines: impl Iterator<Item = (Kind, &'a [u8])>,
) -> (Vec<Codec>, Option<u16>) {
    let mut rtpmaps: [Option<Rtpmap<'a>>; 128] = [None; 128];
    let mut ptime = None;
    for (kind, line) in lines {
        match kind {
            Kind::Rtpmap => {
                if let Some(map) = Rtpmap::check(value(line)) {
                    rtpmaps[usize::from(map.payload_type)].get_or_insert(map);
                }
            }
            Kind::Ptime => ptime = ptime.or_else(|| milliseconds(value(line))),
            _ => {}
        }
    }
    let codec = |format: &String| {
        let payload_type = payload_type(format)?;
        let map = rtpmaps.get(usize::from(payload_type))?.as_ref();
        map.and_then(Rtpmap::typed)
            .or_else(|| static_codec(payload_type))
    };
    (formats.iter().filter_map(codec).collect(), ptime)
}

fn static_codec(payload_type: u8) -> Option<Codec> {
    let &(_, name, clock_rate, channels) = STATIC.iter().find(|row| row.0 == payload_type)?;
    Some(Codec {
        payload_type,
        name: name.to_owned(),
        clock_rate,
        channels,
    })
}

/// An rtpmap whose every field is known to be harmless to sdp-rs.
#[derive(Debug, Clone, Copy)]
struct Rtpmap<'a> {
    payload_type: u8,
    name: &'a str,
    clock_rate: u32,
    channels: Option<u8>,
}

impl<'a> Rtpmap<'a> {
    /// Checks `<payload type> <name>/<clock>[/<channels>]` (RFC 8866 section 6.6).
    fn check(value: &'a [u8]) -> Option<Self> {
        let value = std::str::from_utf8(value).ok()?.trim();
        let (payload_type, encoding) = value.split_once([' ', '\t'])?;
        let mut parts = encoding.trim().splitn(3, '/');
        let name = parts.next()?;
        let clock_rate = number(parts.next()?)?;
        let channels = match parts.next() {
            Some(text) => Some(u8::try_from(number(text)?).ok()?),
            None => None,
        };
        let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`{|}~".contains(&b);
        let payload_type = self::payload_type(payload_type)?;
        let sound = payload_type < 128
            && !name.is_empty()
            && name.len() <= MAX_NAME
            && name.bytes().all(token)
            && clock_rate > 0
            && channels != Some(0);
        sound.then_some(Self {
            payload_type,
            name,
            clock_rate,
            channels,
        })
    }

    /// As sdp-rs reads it.
    fn typed(&self) -> Option<Codec> {
        let Self {
            payload_type,
            name,
            clock_rate,
            channels,
        } = *self;
        let text = match channels {
            None => format!("{payload_type} {name}/{clock_rate}"),
            Some(channels) => format!("{payload_type} {name}/{clock_rate}/{channels}"),
        };
        let map = attribute::Rtpmap::try_from(text.as_str()).ok()?;
        Some(Codec {
            payload_type: map.payload_type.try_into().ok()?,
            name: map.encoding_name,
            clock_rate: map.clock_rate.try_into().ok()?,
            channels: map.encoding_params.unwrap_or(1).try_into().ok()?,
        })
    }
}

/// A payload type as all lines write it: two spellings of one number would be two formats.
fn payload_type(word: &str) -> Option<u8> {
    let is_plain =
        word.bytes().all(|b| b.is_ascii_digit()) && (word.len() == 1 || !word.starts_with('0'));
    word.parse().ok().filter(|_| is_plain)
}

/// Digits only, at most nine of them: always within an i32.
fn number(text: &str) -> Option<u32> {
    let digits = (1..=9).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    if digits { text.parse().ok() } else { None }
}

/// Whole milliseconds; a fraction is cut off.
pub(crate) fn milliseconds(value: &[u8]) -> Option<u16> {
    let text = std::str::from_utf8(value).ok()?.trim();
    let whole = text.split_once('.').map_or(text, |(whole, _)| whole);
    u16::try_from(number(whole)?).ok().filter(|&ms| ms > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinded(text: &str) -> (Kind, &[u8]) {
        (Kind::of(text.as_bytes()), text.as_bytes())
    }

    fn codecs(formats: &[&str], lines: &[&str]) -> Vec<String> {
        let formats: Vec<String> = formats.iter().map(|f| (*f).to_owned()).collect();
        let (codecs, _) = read(&formats, lines.iter().map(|l| kinded(l)));
        let show = |c: &Codec| {
            format!(
                "{} {}/{}/{}",
                c.payload_type, c.name, c.clock_rate, c.channels
            )
        };
        codecs.iter().map(show).collect()
    }

    #[test]
    fn rtpmap_first_then_the_static_table_in_the_order_of_the_m_line() {
        let found = codecs(
            &["111", "8", "0", "101", "77"],
            &[
                "a=rtpmap:0 PCMU/8000",
                "a=rtpmap:101 telephone-event/8000",
                "a=rtpmap:111 opus/48000/2",
            ],
        );
        assert_eq!(
            found,
            [
                "111 opus/48000/2",
                "8 PCMA/8000/1",
                "0 PCMU/8000/1",
                "101 telephone-event/8000/1"
            ]
        );
    }

    #[test]
    fn one_bad_rtpmap_does_not_hide_the_others() {
        let found = codecs(
            &["96", "97", "98", "99", "100", "101", "102"],
            &[
                "a=rtpmap:96 opus/99999999999999999999/2",
                "a=rtpmap:97",
                "a=rtpmap:300 x/8000",
                "a=rtpmap:98 a b/8000",
                "a=rtpmap:99 ilbc/8000",
                "a=rtpmap:100 x/0",
                "a=rtpmap:101 y/8000/0",
                "a=rtpmap:102 z/3000000000",
            ],
        );
        assert_eq!(found, ["99 ilbc/8000/1"]);
    }

    #[test]
    fn ptime_in_whole_milliseconds() {
        let ptime = |text: &str| read(&[], [kinded(text)].into_iter()).1;
        assert_eq!(ptime("a=ptime:20"), Some(20));
        assert_eq!(ptime("a=ptime: 30 "), Some(30));
        assert_eq!(ptime("a=ptime:2.5"), Some(2));
        for bad in [
            "a=ptime:",
            "a=ptime:0",
            "a=ptime:-20",
            "a=ptime:99999999999",
            "a=ptime:NaN",
        ] {
            assert_eq!(ptime(bad), None, "{bad}");
        }
    }
}
