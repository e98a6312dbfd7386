//! The values both encodings share.

use std::borrow::Cow;
use std::ops::Deref;
use thiserror::Error;

/// Deepest nesting of lists and dictionaries, the outermost counted.
pub const MAX_DEPTH: usize = 32;

/// Most values in one message, keys not counted.
pub const MAX_VALUES: usize = 4096;

/// Bytes, as a rule text: borrowed from the message that was read, or from this program's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text<'a>(Cow<'a, [u8]>);

impl Deref for Text<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl<'a> From<&'a str> for Text<'a> {
    fn from(text: &'a str) -> Self {
        Self(Cow::Borrowed(text.as_bytes()))
    }
}

impl<'a> From<&'a [u8]> for Text<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Self(Cow::Borrowed(bytes))
    }
}

impl From<String> for Text<'_> {
    fn from(text: String) -> Self {
        Self(Cow::Owned(text.into_bytes()))
    }
}

impl From<Vec<u8>> for Text<'_> {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Cow::Owned(bytes))
    }
}

/// A bencode value, or the JSON that stands for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value<'a> {
    /// `i42e`
    Integer(i64),
    /// `5:bytes`; text in JSON, where bytes that are not UTF-8 become U+FFFD.
    Bytes(Text<'a>),
    /// `l…e`
    List(Vec<Value<'a>>),
    /// `d…e`
    Dict(Dict<'a>),
}

/// A dictionary that keeps the order of its keys. They need not be sorted or unique.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Dict<'a>(pub Vec<(Text<'a>, Value<'a>)>);

impl<'a> Dict<'a> {
    /// An empty one that has room for so many pairs.
    pub fn with_capacity(pairs: usize) -> Self {
        Self(Vec::with_capacity(pairs))
    }

    /// The first value under `name` (`call-id`). The key may have spaces, underscores or capitals
    /// instead.
    pub fn get(&self, name: &str) -> Option<&Value<'a>> {
        let found = self.0.iter().find(|(key, _)| is_same(key, name.as_bytes()));
        found.map(|(_, value)| value)
    }

    /// Adds a pair at the end.
    pub fn push(&mut self, key: impl Into<Text<'a>>, value: impl Into<Value<'a>>) {
        self.0.push((key.into(), value.into()));
    }
}

impl<'a, K: Into<Text<'a>>, V: Into<Value<'a>>> FromIterator<(K, V)> for Dict<'a> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        Self(
            pairs
                .into_iter()
                .map(|(key, value)| (key.into(), value.into()))
                .collect(),
        )
    }
}

/// One byte of a key as all spellings of it share it.
pub(crate) fn canonical(byte: u8) -> u8 {
    match byte {
        b' ' | b'_' => b'-',
        _ => byte.to_ascii_lowercase(),
    }
}

/// Whether both are the same key or flag, however they are spelt.
pub(crate) fn is_same(one: &[u8], other: &[u8]) -> bool {
    let mut pairs = one.iter().zip(other);
    one.len() == other.len() && pairs.all(|(&b, &c)| canonical(b) == canonical(c))
}

/// A key or flag in lower case with hyphens.
pub(crate) fn canonical_word(word: &[u8]) -> Cow<'_, str> {
    // As a rule it is spelt so already.
    if word.iter().all(|&b| canonical(b) == b) {
        return String::from_utf8_lossy(word);
    }
    let bytes: Vec<u8> = word.iter().map(|&b| canonical(b)).collect();
    String::from_utf8_lossy(&bytes).into_owned().into()
}

impl Value<'_> {
    /// The integer, or the integer that the text spells.
    pub fn as_integer(&self) -> Option<i64> {
        match self {
            Self::Integer(number) => Some(*number),
            Self::Bytes(text) => std::str::from_utf8(text).ok()?.trim().parse().ok(),
            _ => None,
        }
    }
}

impl<'a, T: Into<Text<'a>>> From<T> for Value<'a> {
    fn from(text: T) -> Self {
        Self::Bytes(text.into())
    }
}

impl From<i64> for Value<'_> {
    fn from(number: i64) -> Self {
        Self::Integer(number)
    }
}

impl From<u32> for Value<'_> {
    fn from(number: u32) -> Self {
        Self::Integer(number.into())
    }
}

/// Counters: beyond i64's range, they stay at its end.
impl From<u64> for Value<'_> {
    fn from(number: u64) -> Self {
        Self::Integer(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

impl<'a> From<Vec<Value<'a>>> for Value<'a> {
    fn from(list: Vec<Value<'a>>) -> Self {
        Self::List(list)
    }
}

impl<'a> From<Dict<'a>> for Value<'a> {
    fn from(dict: Dict<'a>) -> Self {
        Self::Dict(dict)
    }
}

/// Why a dictionary could not be decoded.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// Neither `d` nor `{` at the start.
    #[error("neither a bencode dictionary nor a JSON object")]
    NotADictionary,
    /// The message ends within a value.
    #[error("the message ends within a value")]
    Truncated,
    /// A byte that begins no value.
    #[error("byte {at}: no value begins here")]
    NoValue {
        /// Offset into the dictionary.
        at: usize,
    },
    /// An integer with a leading zero, a plus sign, no digits, or beyond 64 bits.
    #[error("byte {at}: bad integer")]
    BadInteger {
        /// Offset into the dictionary.
        at: usize,
    },
    /// A string's length with a leading zero, or longer than what follows.
    #[error("byte {at}: bad string length")]
    BadLength {
        /// Offset into the dictionary.
        at: usize,
    },
    /// A dictionary key that is not a string.
    #[error("byte {at}: a dictionary key must be a string")]
    BadKey {
        /// Offset into the dictionary.
        at: usize,
    },
    /// Nesting beyond [`MAX_DEPTH`].
    #[error("nested deeper than {MAX_DEPTH} levels")]
    TooDeep,
    /// More than [`MAX_VALUES`] values.
    #[error("more than {MAX_VALUES} values")]
    TooManyValues,
    /// Bytes after the dictionary.
    #[error("byte {at}: bytes after the dictionary")]
    TrailingBytes {
        /// Offset into the dictionary.
        at: usize,
    },
    /// JSON that serde_json refuses, in its words.
    #[error("{0}")]
    Json(String),
}

/// Counts values while they are decoded.
#[derive(Debug, Default)]
pub(crate) struct Budget {
    spent: usize,
}

impl Budget {
    /// Accounts for one value.
    pub(crate) fn spend(&mut self) -> Result<(), DecodeError> {
        self.spent += 1;
        if self.spent > MAX_VALUES {
            Err(DecodeError::TooManyValues)
        } else {
            Ok(())
        }
    }
}
