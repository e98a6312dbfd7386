//! Values as text, words, numbers and addresses.

use crate::request::{MAX_WORD, RequestError};
use crate::support::Key;
use crate::value::{Dict, Text, Value, canonical_word, is_same};
use std::borrow::Cow;
use std::net::IpAddr;

/// What `key` must be.
pub(super) fn bad(key: Key, want: &'static str) -> RequestError {
    RequestError::BadValue {
        key: key.name().to_owned(),
        want,
    }
}

/// The words of a list, or of a text between its blanks.
pub(super) fn words(key: Key, value: &Value) -> Result<Vec<String>, RequestError> {
    let mut words = Vec::new();
    each_word(key, value, |word| words.push(word.to_owned()))?;
    Ok(words)
}

/// Shows `see` the words of a list, or of a text between its blanks.
pub(super) fn each_word(
    key: Key,
    value: &Value,
    mut see: impl FnMut(&str),
) -> Result<(), RequestError> {
    match value {
        Value::List(list) => {
            for item in list {
                match item {
                    Value::Dict(pair) => see(bounded(key, &pair_word(key, pair)?)?),
                    _ => see(bounded(key, text(key, item)?.trim())?),
                }
            }
        }
        _ => {
            for word in text(key, value)?.split_ascii_whitespace() {
                see(bounded(key, word)?);
            }
        }
    }
    Ok(())
}

/// In a flag string `mode=30` looks like a pair although a word was meant.
fn pair_word(key: Key, pair: &Dict) -> Result<String, RequestError> {
    match pair.0.as_slice() {
        [(name, value)] => {
            let name = String::from_utf8_lossy(name);
            Ok(format!("{name}={}", text(key, value)?))
        }
        _ => Err(bad(key, "a list of words")),
    }
}

/// One word: text or a number.
pub(super) fn word(key: Key, value: &Value) -> Result<String, RequestError> {
    Ok(bounded(key, text(key, value)?.trim())?.to_owned())
}

/// Whether it is this one word, however it is spelt.
pub(super) fn is_word(key: Key, value: &Value, word: &str) -> Result<bool, RequestError> {
    let text = text(key, value)?;
    Ok(is_same(
        bounded(key, text.trim())?.as_bytes(),
        word.as_bytes(),
    ))
}

/// One word in lower case with hyphens.
pub(super) fn canonical(key: Key, value: &Value) -> Result<String, RequestError> {
    let text = text(key, value)?;
    let word = bounded(key, text.trim())?;
    Ok(canonical_word(word.as_bytes()).into_owned())
}

/// Text or a number, as text.
pub(super) fn text<'a>(key: Key, value: &'a Value) -> Result<Cow<'a, str>, RequestError> {
    match value {
        Value::Bytes(bytes) => Ok(String::from_utf8_lossy(bytes)),
        Value::Integer(number) => Ok(number.to_string().into()),
        _ => Err(bad(key, "text")),
    }
}

/// An identifier; an empty one is none. It must be UTF-8: made so by force, two different
/// Call-IDs could become one.
pub(super) fn id(key: Key, value: &Value) -> Result<Option<String>, RequestError> {
    let text: Cow<'_, str> = match value {
        Value::Bytes(bytes) => {
            let text = std::str::from_utf8(bytes).map_err(|_| bad(key, "UTF-8 text"))?;
            text.into()
        }
        Value::Integer(number) => number.to_string().into(),
        _ => return Err(bad(key, "UTF-8 text")),
    };
    let id = bounded(key, &text)?;
    Ok((!id.is_empty()).then(|| id.to_owned()))
}

/// The same, unless it is too long for a word.
fn bounded(key: Key, word: &str) -> Result<&str, RequestError> {
    match word.len() > MAX_WORD {
        true => Err(RequestError::TooLong {
            key: key.name().to_owned(),
            len: word.len(),
        }),
        false => Ok(word),
    }
}

/// An address as text, or as the last of a list (`[IP4, 192.0.2.1]`).
pub(super) fn address(key: Key, value: &Value) -> Result<IpAddr, RequestError> {
    let mut parsed = None;
    each_word(key, value, |word| {
        let bare = word
            .strip_prefix('[')
            .and_then(|w| w.strip_suffix(']'))
            .unwrap_or(word);
        parsed = bare.parse().ok();
    })?;
    parsed.ok_or_else(|| bad(key, "an IP address"))
}

/// An integer, or text that spells one.
pub(super) fn number<T: TryFrom<i64>>(
    key: Key,
    value: &Value,
    want: &'static str,
) -> Result<T, RequestError> {
    let number = value
        .as_integer()
        .and_then(|number| T::try_from(number).ok());
    number.ok_or_else(|| bad(key, want))
}

/// A name, and its value unless it is a mere word.
pub(super) type Entry<'a> = (String, Option<&'a Value<'a>>);

/// What a dictionary says, or the list that a flag string makes of one.
pub(super) fn entries<'a>(key: Key, value: &'a Value<'a>) -> Result<Vec<Entry<'a>>, RequestError> {
    let mut entries = Vec::new();
    match value {
        Value::Dict(dict) => pairs(dict, &mut entries),
        Value::List(list) => {
            for item in list {
                match item {
                    Value::Dict(dict) => pairs(dict, &mut entries),
                    _ => entries.push((word(key, item)?, None)),
                }
            }
        }
        _ => entries.extend(words(key, value)?.into_iter().map(|word| (word, None))),
    }
    Ok(entries)
}

fn pairs<'a>(dict: &'a Dict<'a>, entries: &mut Vec<Entry<'a>>) {
    let named = |(name, value): &'a (Text<'a>, Value<'a>)| {
        (String::from_utf8_lossy(name).into_owned(), Some(value))
    };
    entries.extend(dict.0.iter().map(named));
}
