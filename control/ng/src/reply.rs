//! Replies, and the texts that rtpengine's clients know.

use crate::datagram::Encoding;
use crate::value::{Dict, Text, Value};

/// Texts of `error-reason`, `warning` and `message`, word for word as rtpengine sends them.
pub mod reason {
    /// Undecodable: neither bencode nor JSON.
    pub const BAD_FORMAT: &str = "Invalid NG data format";
    /// Undecodable bencode.
    pub const BAD_BENCODE: &str = "Could not decode bencode dictionary";
    /// Undecodable JSON.
    pub const BAD_JSON: &str = "Failed to parse JSON document";
    /// A dictionary without a command.
    pub const NO_COMMAND: &str = "Dictionary contains no key \"command\"";
    /// A command not known here.
    pub const UNKNOWN_COMMAND: &str = "Unrecognized command";
    /// Offer or answer without `sdp`.
    pub const NO_SDP: &str = "No SDP body in message";
    /// No `call-id`.
    pub const NO_CALL_ID: &str = "No call-id in message";
    /// No `from-tag`.
    pub const NO_FROM_TAG: &str = "No from-tag in message";
    /// Answer without `to-tag`.
    pub const NO_TO_TAG: &str = "No to-tag in message";
    /// Query or answer for a call that does not stand.
    pub const UNKNOWN_CALL_ID: &str = "Unknown call-id";
    /// The SDP was refused.
    pub const BAD_SDP: &str = "Failed to parse SDP";
    /// No free port in any pool that would do.
    pub const OUT_OF_PORTS: &str = "Ran out of ports";
    /// Warning of a delete that found nothing.
    pub const NOTHING_DELETED: &str = "Call-ID not found or tags didn't match";
    /// Too many calls: message of a load limit, or an error to a client that knows none.
    pub const SESSION_LIMIT: &str = "Parallel session limit reached";
    /// Too much load: message of a load limit.
    pub const LOAD_LIMIT: &str = "Load limit exceeded";
}

/// A reply before it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply(Dict<'static>);

impl Reply {
    fn new(result: &'static str) -> Self {
        Self(Dict::from_iter([("result", result)]))
    }

    /// `result=ok`
    pub fn ok() -> Self {
        Self::new("ok")
    }

    /// `result=pong`, the answer to a ping.
    pub fn pong() -> Self {
        Self::new("pong")
    }

    /// `result=error` and why.
    pub fn error(reason: impl Into<Value<'static>>) -> Self {
        Self::new("error").with("error-reason", reason)
    }

    /// `result=ok` and a warning.
    pub fn warning(text: impl Into<Value<'static>>) -> Self {
        Self::ok().with("warning", text)
    }

    /// `result=load limit` and which: the client tries the next node. Only for a client
    /// that says it understands ([`Options::load_limit`](crate::Options::load_limit)).
    pub fn load_limit(message: impl Into<Value<'static>>) -> Self {
        Self::new("load limit").with("message", message)
    }

    /// Whether it says `result=error`.
    pub fn is_error(&self) -> bool {
        self.0.get("result") == Some(&Value::from("error"))
    }

    /// Adds a key at the end.
    #[must_use]
    pub fn with(mut self, key: impl Into<Text<'static>>, value: impl Into<Value<'static>>) -> Self {
        self.0.push(key, value);
        self
    }

    /// Adds the keys of `more` at the end.
    #[must_use]
    pub fn with_all(mut self, more: Dict<'static>) -> Self {
        self.0.0.extend(more.0);
        self
    }

    /// The datagram to send: cookie, space, dictionary.
    pub fn encode(&self, cookie: &[u8], encoding: Encoding) -> Vec<u8> {
        let mut out = Vec::new();
        self.encode_into(cookie, encoding, &mut out);
        out
    }

    /// Has `out` be the datagram to send.
    pub fn encode_into(&self, cookie: &[u8], encoding: Encoding, out: &mut Vec<u8>) {
        out.clear();
        out.extend_from_slice(cookie);
        out.push(b' ');
        encoding.encode(&self.0, out);
    }
}
