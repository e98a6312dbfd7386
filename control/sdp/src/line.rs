//! Where the lines of a body begin and end.

use crate::kind::Kind;
use std::ops::Range;

/// One line as byte offsets into the body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    /// The line without its terminator.
    pub(crate) text: Range<usize>,
    /// First byte after the terminator.
    pub(crate) end: usize,
    /// What it is about.
    pub(crate) kind: Kind,
}

/// Splits at CRLF, LF and lone CR. The lines cover the body without a gap.
pub(crate) fn split(body: &[u8]) -> Vec<Line> {
    let mut lines = Vec::new();
    let mut start = 0;
    while start < body.len() {
        let len = body[start..]
            .iter()
            .position(|b| matches!(b, b'\r' | b'\n'));
        let text_end = len.map_or(body.len(), |len| start + len);
        let end = match &body[text_end..] {
            [b'\r', b'\n', ..] => text_end + 2,
            [_, ..] => text_end + 1,
            [] => text_end,
        };
        lines.push(Line {
            text: start..text_end,
            end,
            kind: Kind::of(&body[start..text_end]),
        });
        start = end;
    }
    lines
}

/// Byte ranges of the words of `text`: what stands between runs of spaces and tabs.
pub(crate) fn words(text: &[u8]) -> impl Iterator<Item = Range<usize>> + '_ {
    let mut at = 0;
    std::iter::from_fn(move || {
        let blank = |b: &u8| matches!(b, b' ' | b'\t');
        let start = at + text[at..].iter().position(|b| !blank(b))?;
        let end = text[start..]
            .iter()
            .position(blank)
            .map_or(text.len(), |len| start + len);
        at = end;
        Some(start..end)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_terminator_ends_a_line_and_none_is_lost() {
        let body = b"a\r\nb\nc\rd\r\r\n\ne";
        let lines = split(body);
        let text: Vec<&[u8]> = lines.iter().map(|l| &body[l.text.clone()]).collect();
        assert_eq!(text, [&b"a"[..], b"b", b"c", b"d", b"", b"", b"e"]);
        assert_eq!(lines.last().unwrap().end, body.len());
    }

    #[test]
    fn words_skip_runs_of_blanks() {
        let text = b" IN  IP4\t1.2.3.4 ";
        let found: Vec<&[u8]> = words(text).map(|w| &text[w]).collect();
        assert_eq!(found, [&b"IN"[..], b"IP4", b"1.2.3.4"]);
    }
}
