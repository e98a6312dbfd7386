//! The lines of one part of a body on their way out.

use crate::kind::Kind;
use crate::line::Line;
use std::borrow::Cow;
use std::ops::Range;

/// A line that leaves.
pub(super) struct Leaving<'a> {
    pub(super) kind: Kind,
    pub(super) text: Cow<'a, [u8]>,
    /// Its terminator; empty if the body ended with it.
    end: &'a [u8],
}

/// The lines of the session or of one section.
pub(super) struct Text<'a> {
    pub(super) lines: Vec<Leaving<'a>>,
    /// What ends a new line.
    line_end: &'a [u8],
}

impl<'a> Text<'a> {
    pub(super) fn new(
        body: &'a [u8],
        lines: &'a [Line],
        part: Range<usize>,
        line_end: &'a [u8],
    ) -> Self {
        let lines = lines
            .get(part)
            .unwrap_or_default()
            .iter()
            .map(|line| Leaving {
                kind: line.kind,
                text: Cow::Borrowed(&body[line.text.clone()]),
                end: &body[line.text.end..line.end],
            });
        Self {
            lines: lines.collect(),
            line_end,
        }
    }

    /// Drops every line of which `gone` holds.
    pub(super) fn remove(&mut self, gone: impl Fn(&Leaving<'a>) -> bool) {
        self.lines.retain(|line| !gone(line));
    }

    pub(super) fn has(&self, kind: Kind) -> bool {
        self.lines.iter().any(|line| line.kind == kind)
    }

    /// Leaves the first line of `kind` alone.
    pub(super) fn keep_first(&mut self, kind: Kind) {
        let mut seen = false;
        self.lines
            .retain(|line| line.kind != kind || !std::mem::replace(&mut seen, true));
    }

    /// Lines that have a key change places among themselves, so that the keys ascend.
    pub(super) fn sort<K: Ord>(&mut self, key: impl Fn(&Leaving<'a>) -> Option<K>) {
        let keyed = |(at, line)| Some((key(line)?, at));
        let mut keys: Vec<(K, usize)> = self.lines.iter().enumerate().filter_map(keyed).collect();
        if keys.is_sorted() {
            return;
        }
        let slots: Vec<usize> = keys.iter().map(|(_, at)| *at).collect();
        keys.sort();
        let moved: Vec<_> = keys
            .iter()
            .map(|&(_, from)| (self.lines[from].kind, self.lines[from].text.clone()))
            .collect();
        for (to, (kind, text)) in slots.into_iter().zip(moved) {
            self.lines[to].kind = kind;
            self.lines[to].text = text;
        }
    }

    /// Writes `text` in the place of the first line of `kind`; the others go away. Without one it
    /// is put where its kind belongs.
    pub(super) fn set(&mut self, kind: Kind, text: String) {
        self.keep_first(kind);
        match self.lines.iter_mut().find(|line| line.kind == kind) {
            Some(line) => line.text = Cow::Owned(text.into_bytes()),
            None => self.insert(kind, [text]),
        }
    }

    /// Puts new lines where their kind belongs in a section: after the last of what goes before.
    pub(super) fn insert(&mut self, kind: Kind, texts: impl IntoIterator<Item = String>) {
        let before = |line: &Leaving<'_>| {
            line.kind
                .rank()
                .is_some_and(|rank| Some(rank) <= kind.rank())
        };
        let at = self
            .lines
            .iter()
            .rposition(before)
            .map_or(0, |last| last + 1);
        self.insert_at(at, kind, texts);
    }

    /// Puts new lines behind all that say something.
    pub(super) fn append(&mut self, kind: Kind, texts: impl IntoIterator<Item = String>) {
        let last = self.lines.iter().rposition(|line| line.kind != Kind::Blank);
        self.insert_at(last.map_or(0, |last| last + 1), kind, texts);
    }

    pub(super) fn insert_at(
        &mut self,
        at: usize,
        kind: Kind,
        texts: impl IntoIterator<Item = String>,
    ) {
        let end = self.line_end;
        let new = texts.into_iter().map(|text| Leaving {
            kind,
            text: Cow::Owned(text.into_bytes()),
            end,
        });
        self.lines.splice(at..at, new);
    }

    /// Adds the lines to what has left already.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        for line in &self.lines {
            // Its LF would make one terminator of two.
            if line.text.is_empty() && line.end == b"\n" && out.ends_with(b"\r") {
                continue;
            }
            out.extend_from_slice(&line.text);
            out.extend_from_slice(match line.end {
                b"" => self.line_end,
                end => end,
            });
        }
    }
}
