//! The flag string: `replace-origin ICE=remove direction=[internal external] sdp-attr=[audio=[add=[a b]]]`.
//!
//! Words stand apart by blanks, `key=value` is a pair, brackets make a list, and lists nest. What
//! comes out are the values that a message would have had instead: a word is text, a pair a
//! dictionary of one, a bracket a list. A bracket that is never closed ends with the string; one
//! that was never opened is skipped.

use crate::value::{Dict, Value};

/// Longest flag string accepted, in bytes.
pub const MAX_FLAGS: usize = 16 * 1024;

/// Deepest nesting of brackets.
pub const MAX_BRACKETS: usize = 8;

/// Parses a flag string; `None` if it is longer than [`MAX_FLAGS`] or nested deeper than
/// [`MAX_BRACKETS`].
pub(crate) fn parse(text: &str) -> Option<Vec<Value<'_>>> {
    let mut parser = Parser { rest: text };
    match text.len() > MAX_FLAGS {
        true => None,
        false => parser.items(0),
    }
}

struct Parser<'a> {
    rest: &'a str,
}

impl<'a> Parser<'a> {
    /// Items up to the bracket that closes, or the end.
    fn items(&mut self, depth: usize) -> Option<Vec<Value<'a>>> {
        let mut items = Vec::new();
        loop {
            self.rest = self.rest.trim_ascii_start();
            if let Some(rest) = self.rest.strip_prefix(']') {
                self.rest = rest;
                match depth {
                    0 => continue,
                    _ => return Some(items),
                }
            }
            if self.rest.is_empty() {
                return Some(items);
            }
            items.push(self.item(depth)?);
        }
    }

    /// A word, a pair or a list.
    fn item(&mut self, depth: usize) -> Option<Value<'a>> {
        if self.rest.starts_with('[') {
            return self.list(depth);
        }
        let ends = |c: char| c == '=' || self.ends(depth, c);
        let key = self.take(self.rest.find(ends));
        let Some(rest) = self.rest.strip_prefix('=').filter(|_| !key.is_empty()) else {
            let more = self.take(self.rest.find(|c| self.ends(depth, c)));
            return Some(Value::from(format!("{key}{more}")));
        };
        self.rest = rest;
        let value = match self.rest.starts_with('[') {
            true => self.list(depth)?,
            false => Value::from(self.take(self.rest.find(|c| self.ends(depth, c)))),
        };
        Some(Value::Dict(Dict::from_iter([(key, value)])))
    }

    fn list(&mut self, depth: usize) -> Option<Value<'a>> {
        self.rest = self.rest.get(1..)?;
        match depth == MAX_BRACKETS {
            true => None,
            false => self.items(depth + 1).map(Value::List),
        }
    }

    /// Whether `c` ends a word; outside of brackets a closing one does not.
    fn ends(&self, depth: usize, c: char) -> bool {
        c.is_ascii_whitespace() || (c == ']' && depth > 0)
    }

    /// Takes the text before `end`, or all that is left.
    fn take(&mut self, end: Option<usize>) -> &'a str {
        let (taken, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        self.rest = rest;
        taken
    }
}
