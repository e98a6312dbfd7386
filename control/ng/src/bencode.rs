//! Bencode, strictly: no leading zeros, no plus sign, no negative zero, nothing after the end.
//!
//! Two liberties: keys may be unsorted, as rtpengine's clients send them, and repeated.

use crate::value::{Budget, DecodeError, Dict, MAX_DEPTH, Value};

/// Decodes one value that fills `bytes`.
pub(crate) fn decode(bytes: &[u8]) -> Result<Value<'_>, DecodeError> {
    let mut reader = Reader {
        bytes,
        at: 0,
        budget: Budget::default(),
    };
    let value = reader.value(0)?;
    match reader.at == bytes.len() {
        true => Ok(value),
        false => Err(DecodeError::TrailingBytes { at: reader.at }),
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    budget: Budget,
}

impl<'a> Reader<'a> {
    fn peek(&self) -> Result<u8, DecodeError> {
        self.bytes
            .get(self.at)
            .copied()
            .ok_or(DecodeError::Truncated)
    }

    fn value(&mut self, depth: usize) -> Result<Value<'a>, DecodeError> {
        self.budget.spend()?;
        match self.peek()? {
            b'i' => self.integer().map(Value::Integer),
            b'0'..=b'9' => self.string().map(Value::from),
            b'l' | b'd' if depth == MAX_DEPTH => Err(DecodeError::TooDeep),
            b'l' => self.list(depth + 1).map(Value::List),
            b'd' => self.dict(depth + 1).map(Value::Dict),
            _ => Err(DecodeError::NoValue { at: self.at }),
        }
    }

    /// `i`, an optional minus sign, digits, `e`.
    fn integer(&mut self) -> Result<i64, DecodeError> {
        let at = self.at;
        let text = self.until(b'e', at + 1)?;
        let digits = text.strip_prefix(b"-").unwrap_or(text);
        let zero_led = digits.first() == Some(&b'0') && text.len() > 1;
        if digits.is_empty() || zero_led || !digits.iter().all(u8::is_ascii_digit) {
            return Err(DecodeError::BadInteger { at });
        }
        let number = std::str::from_utf8(text)
            .ok()
            .and_then(|text| text.parse().ok());
        number.ok_or(DecodeError::BadInteger { at })
    }

    /// Digits, `:`, as many bytes.
    fn string(&mut self) -> Result<&'a [u8], DecodeError> {
        let at = self.at;
        let len = decimal(self.until(b':', at)?);
        let rest = &self.bytes[self.at..];
        let text = len
            .and_then(|len| rest.get(..len))
            .ok_or(DecodeError::BadLength { at })?;
        self.at += text.len();
        Ok(text)
    }

    fn list(&mut self, depth: usize) -> Result<Vec<Value<'a>>, DecodeError> {
        self.at += 1;
        let mut list = Vec::new();
        while self.peek()? != b'e' {
            list.push(self.value(depth)?);
        }
        self.at += 1;
        Ok(list)
    }

    fn dict(&mut self, depth: usize) -> Result<Dict<'a>, DecodeError> {
        self.at += 1;
        let mut dict = Dict::default();
        while self.peek()? != b'e' {
            if !self.peek()?.is_ascii_digit() {
                return Err(DecodeError::BadKey { at: self.at });
            }
            let key = self.string()?;
            dict.push(key, self.value(depth)?);
        }
        self.at += 1;
        Ok(dict)
    }

    /// The bytes from `start` to the next `end`, which is skipped. Numbers are short: a
    /// longer search would let many of them make decoding quadratic.
    fn until(&mut self, end: u8, start: usize) -> Result<&'a [u8], DecodeError> {
        const LONGEST: usize = 20;
        let rest = &self.bytes[start.min(self.bytes.len())..];
        let window = &rest[..rest.len().min(LONGEST + 1)];
        match window.iter().position(|&b| b == end) {
            Some(len) => {
                self.at = start + len + 1;
                Ok(&window[..len])
            }
            None if window.len() == rest.len() => Err(DecodeError::Truncated),
            None if end == b'e' => Err(DecodeError::BadInteger { at: self.at }),
            None => Err(DecodeError::BadLength { at: self.at }),
        }
    }
}

/// What digits without a leading zero spell.
fn decimal(digits: &[u8]) -> Option<usize> {
    if digits.is_empty() || digits.len() > 1 && digits[0] == b'0' {
        return None;
    }
    digits.iter().try_fold(0_usize, |number, digit| {
        let digit = digit.is_ascii_digit().then(|| usize::from(digit - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    })
}

/// Appends `value` to `out`.
pub(crate) fn encode(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Integer(number) => {
            out.push(b'i');
            out.extend_from_slice(itoa::Buffer::new().format(*number).as_bytes());
            out.push(b'e');
        }
        Value::Bytes(bytes) => encode_string(bytes, out),
        Value::List(list) => {
            out.push(b'l');
            list.iter().for_each(|value| encode(value, out));
            out.push(b'e');
        }
        Value::Dict(dict) => encode_dict(dict, out),
    }
}

/// Appends `dict` to `out`, its keys in their order.
pub(crate) fn encode_dict(dict: &Dict, out: &mut Vec<u8>) {
    out.push(b'd');
    for (key, value) in &dict.0 {
        encode_string(key, out);
        encode(value, out);
    }
    out.push(b'e');
}

fn encode_string(bytes: &[u8], out: &mut Vec<u8>) {
    encode_length(bytes.len(), out);
    out.push(b':');
    out.extend_from_slice(bytes);
}

/// Its decimal digits: a reply has hundreds of lengths, most of them of one or two.
fn encode_length(len: usize, out: &mut Vec<u8>) {
    if len >= 100 {
        return out.extend_from_slice(itoa::Buffer::new().format(len).as_bytes());
    }
    if len >= 10 {
        out.push(b'0' + (len / 10) as u8);
    }
    out.push(b'0' + (len % 10) as u8);
}
