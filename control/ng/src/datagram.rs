//! Framing: `COOKIE SP DICT`.

use crate::reply::{Reply, reason};
use crate::value::{DecodeError, Dict, Value};
use crate::{bencode, json};
use thiserror::Error;

/// Longest cookie accepted, in bytes. Clients use about 20.
pub const MAX_COOKIE: usize = 255;

/// How a dictionary is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// `d…e`
    Bencode,
    /// `{…}`
    Json,
}

impl Encoding {
    /// Appends `dict` to `out`.
    pub fn encode(self, dict: &Dict<'_>, out: &mut Vec<u8>) {
        match self {
            Self::Bencode => bencode::encode_dict(dict, out),
            Self::Json => json::encode_dict(dict, out),
        }
    }
}

/// A framed and decoded datagram.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Datagram<'a> {
    /// What the reply must begin with; without a space, 1 to [`MAX_COOKIE`] bytes.
    pub cookie: &'a [u8],
    /// What the reply must be written in.
    pub encoding: Encoding,
    /// The message.
    pub dict: Dict<'a>,
}

/// Why a datagram is no message.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum FrameError {
    /// No space, or nothing before it: drop it, there is no cookie to answer with.
    #[error("no cookie")]
    NoCookie,
    /// More than [`MAX_COOKIE`] bytes before the space: drop it.
    #[error("the cookie is {len} bytes, the limit is {MAX_COOKIE}")]
    CookieTooLong {
        /// Bytes before the space.
        len: usize,
    },
    /// A cookie and no dictionary after it: send `reply`.
    #[error("{reason}")]
    Undecodable {
        /// What was wrong.
        reason: DecodeError,
        /// The datagram to answer with: bencode, for nothing else is known of the sender.
        reply: Vec<u8>,
    },
}

impl<'a> Datagram<'a> {
    /// Frames and decodes a datagram.
    ///
    /// # Errors
    /// [`FrameError`] says whether to answer or to drop it.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, FrameError> {
        let space = bytes.iter().position(|&b| b == b' ').filter(|&len| len > 0);
        let len = space.ok_or(FrameError::NoCookie)?;
        if len > MAX_COOKIE {
            return Err(FrameError::CookieTooLong { len });
        }
        let (cookie, message) = (&bytes[..len], &bytes[len + 1..]);
        let (encoding, decoded, text) = match message.first() {
            Some(b'd') => (
                Encoding::Bencode,
                bencode::decode(message),
                reason::BAD_BENCODE,
            ),
            Some(b'{') => (Encoding::Json, json::decode(message), reason::BAD_JSON),
            _ => (
                Encoding::Bencode,
                Err(DecodeError::NotADictionary),
                reason::BAD_FORMAT,
            ),
        };
        let decoded = decoded.and_then(|value| match value {
            Value::Dict(dict) => Ok(dict),
            _ => Err(DecodeError::NotADictionary),
        });
        match decoded {
            Ok(dict) => Ok(Self {
                cookie,
                encoding,
                dict,
            }),
            Err(reason) => {
                let reply = Reply::error(text).encode(cookie, Encoding::Bencode);
                Err(FrameError::Undecodable { reason, reply })
            }
        }
    }
}
