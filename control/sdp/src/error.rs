//! Why a body was refused.

use crate::{MAX_BODY, MAX_MEDIA};
use thiserror::Error;

/// Why a body was refused, in words fit for an operator's log. Lines count from 1.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SdpError {
    /// Nothing, or only blank lines.
    #[error("the SDP body is empty")]
    Empty,
    /// More than [`MAX_BODY`] bytes.
    #[error("the SDP body is {len} bytes, the limit is {MAX_BODY}")]
    TooLarge {
        /// Bytes received.
        len: usize,
    },
    /// No v= line before the first m= line.
    #[error("no v= line before the first m= line")]
    NoVersion,
    /// No m= line.
    #[error("no m= line")]
    NoMedia,
    /// More than [`MAX_MEDIA`] m= lines.
    #[error("{count} media sections, the limit is {MAX_MEDIA}")]
    TooManyMedia {
        /// m= lines received.
        count: usize,
    },
    /// An o= line without its six fields (RFC 8866 section 5.2).
    #[error("line {line}: malformed o= line")]
    MalformedOrigin {
        /// Line number.
        line: usize,
    },
    /// An m= line without kind, port, transport and format (RFC 8866 section 5.14).
    #[error("line {line}: malformed m= line")]
    MalformedMedia {
        /// Line number.
        line: usize,
    },
    /// A port that is not 0 to 65535, or a port count that is not 1 to 65535.
    #[error("line {line}: bad port in m= line")]
    BadPort {
        /// Line number.
        line: usize,
    },
    /// A c= line that names a host instead of an address.
    #[error("line {line}: host name in c= line")]
    HostName {
        /// Line number.
        line: usize,
    },
    /// A c= line that is not `IN IP4` or `IN IP6` and a matching address.
    #[error("line {line}: malformed c= line")]
    MalformedConnection {
        /// Line number.
        line: usize,
    },
    /// A media section in use, and no c= line for it in the section or the session.
    #[error("line {line}: no c= line for this media section")]
    NoConnection {
        /// Line number of the m= line.
        line: usize,
    },
    /// Bytes that are not UTF-8 in a line that must be understood (m= or c=).
    #[error("line {line}: not UTF-8")]
    NotUtf8 {
        /// Line number.
        line: usize,
    },
    /// A rewrite that does not name every media section.
    #[error("the rewrite names {given} media sections, the body has {count}")]
    RewriteCount {
        /// Sections in the body.
        count: usize,
        /// Sections in the rewrite.
        given: usize,
    },
    /// Text of a rewrite that is empty or has a blank where a single word is due.
    #[error("the {what} to write is not one word")]
    NotOneWord {
        /// What it was to be.
        what: &'static str,
    },
    /// Text of a rewrite that is empty or has a line break.
    #[error("the {what} to write is not one line")]
    NotOneLine {
        /// What it was to be.
        what: &'static str,
    },
}
