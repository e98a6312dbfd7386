//! Framing on a stream: where does `COOKIE SP d…e` end?
//!
//! A dictionary in bencode is its own terminator; JSON is not, so a stream carries bencode alone,
//! as rtpengine's does. The bytes are walked once and nothing is built: what is
//! [`Framed::Message`] decodes, by the same rules as [`Datagram::parse`](crate::Datagram::parse).

use crate::datagram::MAX_COOKIE;
use crate::value::{MAX_DEPTH, MAX_VALUES};

/// Longest message on a stream, cookie and space counted, in bytes. What claims to be longer is
/// garbage at once, so that a buffer need not hold more.
pub const MAX_MESSAGE: usize = 256 * 1024;

/// Digits of the longest number that decodes, a sign counted.
const MAX_DIGITS: usize = 20;

/// What a stream's buffer begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framed {
    /// The beginning of a message, or nothing: read on.
    Incomplete,
    /// A message of so many bytes, cookie and space counted. Others may follow it.
    Message(usize),
    /// Never a message, whatever follows: close the connection.
    Garbage,
}

/// Finds the end of the message at the start of `buffer`.
pub fn frame(buffer: &[u8]) -> Framed {
    let window = buffer.get(..=MAX_COOKIE).unwrap_or(buffer);
    let at = match window.iter().position(|&byte| byte == b' ') {
        Some(0) => return Framed::Garbage,
        Some(len) => len + 1,
        None if window.len() > MAX_COOKIE => return Framed::Garbage,
        None => return Framed::Incomplete,
    };
    let scan = Scan { bytes: buffer, at };
    scan.dict().map_or_else(|stop| stop, Framed::Message)
}

/// A list or dictionary that is open, and what may come next in it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Open {
    /// A value or the end.
    List,
    /// A key or the end.
    Key,
    /// The value of the key before.
    Value,
}

struct Scan<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Scan<'_> {
    /// The offset after the dictionary that begins here, or why there is none.
    fn dict(mut self) -> Result<usize, Framed> {
        let mut open = [Open::List; MAX_DEPTH];
        let mut depth = 0;
        let mut values = 0;
        loop {
            let byte = self.peek()?;
            let place = match depth {
                0 => None,
                _ => open.get_mut(depth - 1),
            };
            if byte == b'e' && matches!(place, Some(Open::List | Open::Key)) {
                self.at += 1;
                depth -= 1;
                match depth {
                    0 => return Ok(self.at),
                    _ => continue,
                }
            }
            let is_key = match place {
                Some(place @ Open::Key) => {
                    *place = Open::Value;
                    true
                }
                Some(place @ Open::Value) => {
                    *place = Open::Key;
                    false
                }
                Some(Open::List) => false,
                None if byte == b'd' => false,
                None => return Err(Framed::Garbage),
            };
            values += usize::from(!is_key);
            if values > MAX_VALUES {
                return Err(Framed::Garbage);
            }
            match byte {
                b'0'..=b'9' => self.string()?,
                b'i' if !is_key => self.integer()?,
                b'l' | b'd' if !is_key => {
                    let inner = open.get_mut(depth).ok_or(Framed::Garbage)?;
                    *inner = if byte == b'l' { Open::List } else { Open::Key };
                    depth += 1;
                    self.at += 1;
                }
                _ => return Err(Framed::Garbage),
            }
        }
    }

    fn peek(&self) -> Result<u8, Framed> {
        match self.bytes.get(self.at) {
            Some(&byte) => Ok(byte),
            None if self.at >= MAX_MESSAGE => Err(Framed::Garbage),
            None => Err(Framed::Incomplete),
        }
    }

    /// Skips digits, `:`, as many bytes.
    fn string(&mut self) -> Result<(), Framed> {
        let len: usize = self.number(b':')?;
        let end = self.at.saturating_add(len);
        if end >= MAX_MESSAGE {
            return Err(Framed::Garbage);
        }
        self.at = end;
        match end > self.bytes.len() {
            true => Err(Framed::Incomplete),
            false => Ok(()),
        }
    }

    /// Skips `i`, an optional minus sign, digits, `e`.
    fn integer(&mut self) -> Result<(), Framed> {
        self.at += 1;
        self.number::<i64>(b'e').map(|_| ())
    }

    /// The number up to `end`, which is skipped: no plus sign, no leading or negative zero.
    fn number<T: std::str::FromStr>(&mut self, end: u8) -> Result<T, Framed> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let window = rest.get(..=MAX_DIGITS).unwrap_or(rest);
        let is_digit =
            |(at, &byte): (usize, &u8)| byte.is_ascii_digit() || (at == 0 && byte == b'-');
        let len = match window.iter().enumerate().position(|digit| !is_digit(digit)) {
            Some(len) => len,
            None if window.len() > MAX_DIGITS => return Err(Framed::Garbage),
            None => return Err(Framed::Incomplete),
        };
        let (text, after) = window.split_at(len);
        let digits = text.strip_prefix(b"-").unwrap_or(text);
        if after.first() != Some(&end) || (digits.first() == Some(&b'0') && text.len() > 1) {
            return Err(Framed::Garbage);
        }
        let number = std::str::from_utf8(text)
            .ok()
            .and_then(|text| text.parse().ok());
        self.at += len + 1;
        number.ok_or(Framed::Garbage)
    }
}
