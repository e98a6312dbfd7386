//! What a message asks for beside its identifiers: flags, replacements, ICE and the like.
//!
//! The same wish comes in three forms, and all end here: a key of its own
//! (`ICE: remove`), a word in the `flags` list (`ICE-remove`, `replace-origin`), or a word
//! in the one string `rtpp-flags` that newer Kamailio passes through unread
//! (`replace-origin ICE=remove RTP/AVP direction=[internal external]`). Case, spaces, hyphens and
//! underscores do not matter. What is not known here is collected, not refused.

use crate::request::{MAX_WORD, RequestError};
use crate::value::{Dict, Value, canonical_word};
use std::net::IpAddr;

/// Declares an enum of protocol words together with their spelling.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name { $(#[doc = concat!("`", $word, "`")] $(#[$vdoc])* $variant,)* }

        impl $name {
            /// The value spelled `word`, in lower case with hyphens.
            fn from_word(word: &str) -> Option<Self> {
                match word { $($word => Some(Self::$variant),)* _ => None }
            }
        }
    };
}

words! {
    /// Flags a relay acts upon.
    Flag {
        TrustAddress = "trust-address",
        SipSourceAddress = "sip-source-address",
        Symmetric = "symmetric",
        Asymmetric = "asymmetric",
        StrictSource = "strict-source",
        MediaHandover = "media-handover",
        Unidirectional = "unidirectional",
        PortLatching = "port-latching",
        NoPortLatching = "no-port-latching",
        Reset = "reset",
        /// Penstock's own: payload types that were not negotiated are dropped.
        StrictPayload = "strict-payload",
        LoopProtect = "loop-protect",
        OriginalSendrecv = "original-sendrecv",
        NoRtcpAttribute = "no-rtcp-attribute",
        FullRtcpAttribute = "full-rtcp-attribute",
        Fatal = "fatal",
        Fast = "fast",
        ToTag = "to-tag",
    }
}

words! {
    /// Parts of the SDP to replace.
    Replace {
        Origin = "origin",
        OriginFull = "origin-full",
        /// Accepted for old scripts: it always is replaced.
        SessionConnection = "session-connection",
        Username = "username",
        SessionName = "session-name",
        SdpVersion = "sdp-version",
        ZeroAddress = "zero-address",
        ForceIncrementSdpVersion = "force-increment-sdp-ver",
    }
}

words! {
    /// What to do about ICE.
    Ice {
        Remove = "remove",
        Force = "force",
        Default = "default",
        Optional = "optional",
        ForceRelay = "force-relay",
    }
}

words! {
    /// What to do about RTCP multiplexing.
    RtcpMux {
        Offer = "offer",
        Require = "require",
        Demux = "demux",
        Accept = "accept",
        Reject = "reject",
    }
}

words! {
    /// How a stream learns whom its media comes from.
    EndpointLearning {
        Off = "off",
        Immediate = "immediate",
        Delayed = "delayed",
        Heuristic = "heuristic",
    }
}

words! {
    /// Address family to offer to the other side.
    AddressFamily {
        Ip4 = "ip4",
        Ip6 = "ip6",
    }
}

/// The options of a message. Lists keep the order of the message.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Options {
    /// Known flags.
    pub flags: Vec<Flag>,
    /// Parts of the SDP to replace.
    pub replace: Vec<Replace>,
    /// RTCP multiplexing.
    pub rtcp_mux: Vec<RtcpMux>,
    /// ICE.
    pub ice: Option<Ice>,
    /// Transport for the other side, as written (`RTP/AVP`).
    pub transport_protocol: Option<String>,
    /// Names of the logical interfaces: that of the sender, then that of the other side.
    pub direction: Vec<String>,
    /// Address family for the other side.
    pub address_family: Option<AddressFamily>,
    /// Address to put into the SDP instead of our own.
    pub media_address: Option<IpAddr>,
    /// Where the SIP message came from.
    pub received_from: Option<IpAddr>,
    /// How the source of media is learned.
    pub endpoint_learning: Option<EndpointLearning>,
    /// `TOS`: the octet, negative to leave it as it is, above 255 for the default.
    pub tos: Option<i64>,
    /// `delete-delay`, in s.
    pub delete_delay_s: Option<u32>,
    /// Whether the client understands a [`load limit`](crate::Reply::load_limit).
    pub load_limit: bool,
    /// Keys and flags not known here, as written but for case and hyphens.
    pub unknown: Vec<String>,
}

impl Options {
    /// Reads every key of a message but its identifiers.
    pub(crate) fn read(dict: &Dict) -> Result<Self, RequestError> {
        let mut options = Self::default();
        for (key, value) in &dict.0 {
            options.set(&canonical_word(key), value)?;
        }
        Ok(options)
    }

    /// Whether the flag is set.
    pub fn has(&self, flag: Flag) -> bool {
        self.flags.contains(&flag)
    }

    fn set(&mut self, key: &str, value: &Value) -> Result<(), RequestError> {
        match key {
            "command" | "call-id" | "from-tag" | "to-tag" | "via-branch" | "sdp" | "limit" => {}
            "flags" => words(key, value)?
                .iter()
                .try_for_each(|word| self.flag(word))?,
            "rtpp-flags" => self.flag_string(&words(key, value)?.join(" "))?,
            "replace" => words(key, value)?
                .iter()
                .for_each(|word| self.replace(word)),
            "rtcp-mux" => words(key, value)?
                .iter()
                .for_each(|word| self.rtcp_mux(word)),
            "direction" => self.direction.extend(words(key, value)?),
            "supports" => {
                // One text holds one feature, spaces and all: it is not a list of words.
                let features = match value {
                    Value::List(list) => list.iter().map(|item| word(key, item)).collect(),
                    _ => word(key, value).map(|feature| vec![feature]),
                };
                let load_limit =
                    |feature: &String| canonical_word(feature.as_bytes()) == "load-limit";
                self.load_limit |= features?.iter().any(load_limit);
            }
            "ice" => self.ice(&word(key, value)?),
            "transport-protocol" => self.transport_protocol = Some(word(key, value)?),
            "address-family" => self.address_family(&word(key, value)?)?,
            "media-address" => self.media_address = Some(address(key, value)?),
            "received-from" => self.received_from = Some(address(key, value)?),
            "endpoint-learning" => {
                let written = word(key, value)?;
                match EndpointLearning::from_word(&canonical_word(written.as_bytes())) {
                    Some(learning) => self.endpoint_learning = Some(learning),
                    None => self.unknown(format!("endpoint-learning={written}")),
                }
            }
            "tos" => self.tos = Some(number(key, value)?),
            "delete-delay" => self.delete_delay_s = Some(seconds(key, value)?),
            _ => self.unknown(key.to_owned()),
        }
        Ok(())
    }

    /// Collects what is not known here, cut to a length fit for a log line.
    fn unknown(&mut self, mut word: String) {
        let end = (0..=MAX_WORD).rev().find(|&at| word.is_char_boundary(at));
        word.truncate(end.unwrap_or(0));
        self.unknown.push(word);
    }

    /// One word of the `flags` list.
    fn flag(&mut self, written: &str) -> Result<(), RequestError> {
        let word = canonical_word(written.as_bytes());
        if let Some((key, value)) = written.split_once('=') {
            return self.assign(&canonical_word(key.as_bytes()), value);
        }
        if let Some(flag) = Flag::from_word(&word) {
            if !self.has(flag) {
                self.flags.push(flag);
            }
        } else if let Some(part) = word.strip_prefix("replace-") {
            self.replace(part);
        } else if let Some(mux) = word.strip_prefix("rtcp-mux-") {
            self.rtcp_mux(mux);
        } else if let Some(ice) = word.strip_prefix("ice-") {
            self.ice(ice);
        } else if word.starts_with("rtp/") || word.starts_with("udp/tls/rtp/") {
            self.transport_protocol = Some(written.to_owned());
        } else if word == "internal" || word == "external" {
            self.direction.push(word);
        } else {
            self.unknown(word);
        }
        Ok(())
    }

    /// `key=value` or `key=[a b]` in a flag string. A key that takes text must not be set to
    /// what identifies the call.
    fn assign(&mut self, key: &str, value: &str) -> Result<(), RequestError> {
        let value = value
            .strip_prefix('[')
            .and_then(|v| v.strip_suffix(']'))
            .unwrap_or(value);
        match key {
            "flags" | "replace" | "rtcp-mux" | "direction" | "supports" | "ice"
            | "transport-protocol" | "address-family" | "media-address" | "received-from"
            | "endpoint-learning" | "tos" | "delete-delay" => self.set(key, &Value::from(value)),
            _ => {
                self.unknown(format!("{key}={value}"));
                Ok(())
            }
        }
    }

    /// A whole flag string: words apart by blanks, except within brackets. The keys of nested
    /// lists are not known here, so nesting needs no more than to be skipped.
    fn flag_string(&mut self, text: &str) -> Result<(), RequestError> {
        let mut depth = 0_u32;
        let blank_outside = |c: char| {
            match c {
                '[' => depth += 1,
                ']' => depth = depth.saturating_sub(1),
                _ => {}
            }
            depth == 0 && c.is_ascii_whitespace()
        };
        for word in text.split(blank_outside).filter(|word| !word.is_empty()) {
            self.flag(word)?;
        }
        Ok(())
    }

    fn replace(&mut self, word: &str) {
        match Replace::from_word(&canonical_word(word.as_bytes())) {
            Some(part) if self.replace.contains(&part) => {}
            Some(part) => self.replace.push(part),
            None => self.unknown(format!("replace-{word}")),
        }
    }

    fn rtcp_mux(&mut self, word: &str) {
        match RtcpMux::from_word(&canonical_word(word.as_bytes())) {
            Some(mux) if self.rtcp_mux.contains(&mux) => {}
            Some(mux) => self.rtcp_mux.push(mux),
            None => self.unknown(format!("rtcp-mux-{word}")),
        }
    }

    fn ice(&mut self, word: &str) {
        match Ice::from_word(&canonical_word(word.as_bytes())) {
            Some(ice) => self.ice = Some(ice),
            None => self.unknown(format!("ice-{word}")),
        }
    }

    fn address_family(&mut self, word: &str) -> Result<(), RequestError> {
        let family = AddressFamily::from_word(&canonical_word(word.as_bytes()));
        let bad = || RequestError::BadValue {
            key: "address-family".into(),
            want: "IP4 or IP6",
        };
        self.address_family = Some(family.ok_or_else(bad)?);
        Ok(())
    }
}

/// The words of a list, or of a text between its blanks.
fn words(key: &str, value: &Value) -> Result<Vec<String>, RequestError> {
    match value {
        Value::List(list) => list.iter().map(|item| word(key, item)).collect(),
        _ => text(key, value)?
            .split_ascii_whitespace()
            .map(|word| bounded(key, word))
            .collect(),
    }
}

/// One word: text or a number.
fn word(key: &str, value: &Value) -> Result<String, RequestError> {
    bounded(key, text(key, value)?.trim())
}

fn text(key: &str, value: &Value) -> Result<String, RequestError> {
    match value {
        Value::Bytes(bytes) => Ok(String::from_utf8_lossy(bytes).into_owned()),
        Value::Integer(number) => Ok(number.to_string()),
        _ => Err(RequestError::BadValue {
            key: key.to_owned(),
            want: "text",
        }),
    }
}

fn bounded(key: &str, word: &str) -> Result<String, RequestError> {
    match word.len() > MAX_WORD {
        true => Err(RequestError::TooLong {
            key: key.to_owned(),
            len: word.len(),
        }),
        false => Ok(word.to_owned()),
    }
}

/// An address as text, or as the last of a list (`[IP4, 192.0.2.1]`).
fn address(key: &str, value: &Value) -> Result<IpAddr, RequestError> {
    let parsed = words(key, value)?.last().and_then(|word| {
        let bare = word
            .strip_prefix('[')
            .and_then(|w| w.strip_suffix(']'))
            .unwrap_or(word);
        bare.parse().ok()
    });
    parsed.ok_or_else(|| RequestError::BadValue {
        key: key.to_owned(),
        want: "an IP address",
    })
}

fn number(key: &str, value: &Value) -> Result<i64, RequestError> {
    let bad = |_| RequestError::BadValue {
        key: key.to_owned(),
        want: "a number",
    };
    text(key, value)?.trim().parse().map_err(bad)
}

fn seconds(key: &str, value: &Value) -> Result<u32, RequestError> {
    let parsed = value
        .as_integer()
        .and_then(|number| u32::try_from(number).ok());
    parsed.ok_or_else(|| RequestError::BadValue {
        key: key.to_owned(),
        want: "a number of seconds, 0 or more",
    })
}
