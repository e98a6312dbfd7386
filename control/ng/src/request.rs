//! Requests, typed.

use crate::options::Options;
use crate::reply::reason;
use crate::value::{Dict, Value};
use thiserror::Error;

/// Longest Call-ID, tag, branch or other word accepted, in bytes.
pub const MAX_WORD: usize = 255;

/// Calls that `list` names unless it says how many.
const DEFAULT_LIMIT: usize = 32;

/// A request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Is anybody there?
    Ping,
    /// An SDP offer.
    Offer(Box<Signal>),
    /// An SDP answer; its `to_tag` is always there.
    Answer(Box<Signal>),
    /// The end of a call or of one of its legs.
    Delete(Box<Delete>),
    /// What stands and what has passed.
    Query(Query),
    /// Call-IDs of the calls that stand.
    List {
        /// How many at most.
        limit: usize,
    },
}

/// An offer or an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signal {
    /// Call-ID.
    pub call_id: String,
    /// Tag of who made the offer.
    pub from_tag: String,
    /// Tag of who answers.
    pub to_tag: Option<String>,
    /// Branch of the Via header, which tells forks apart.
    pub via_branch: Option<String>,
    /// The SDP body, never empty.
    pub sdp: Vec<u8>,
    /// Everything else.
    pub options: Options,
}

/// A delete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delete {
    /// Call-ID.
    pub call_id: String,
    /// Tag of the leg that leaves; without one, the whole call.
    pub from_tag: Option<String>,
    /// Tag of the other leg.
    pub to_tag: Option<String>,
    /// Branch of the Via header.
    pub via_branch: Option<String>,
    /// Everything else: `fatal`, `fast`, `to-tag`, `delete-delay`.
    pub options: Options,
}

/// A query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// Call-ID.
    pub call_id: String,
    /// Only this leg.
    pub from_tag: Option<String>,
    /// Only this other leg.
    pub to_tag: Option<String>,
}

/// Why a dictionary is no request. The text goes into `error-reason`.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RequestError {
    /// No command.
    #[error("{}", reason::NO_COMMAND)]
    NoCommand,
    /// A command not known here.
    #[error("{}", reason::UNKNOWN_COMMAND)]
    UnknownCommand,
    /// Offer or answer without a body.
    #[error("{}", reason::NO_SDP)]
    NoSdp,
    /// No Call-ID.
    #[error("{}", reason::NO_CALL_ID)]
    NoCallId,
    /// Offer or answer without a from-tag.
    #[error("{}", reason::NO_FROM_TAG)]
    NoFromTag,
    /// Answer without a to-tag.
    #[error("{}", reason::NO_TO_TAG)]
    NoToTag,
    /// A word longer than [`MAX_WORD`].
    #[error("{key} is {len} bytes, the limit is {MAX_WORD}")]
    TooLong {
        /// Its key.
        key: String,
        /// Its length, in bytes.
        len: usize,
    },
    /// A value that cannot be what its key asks for.
    #[error("{key} must be {want}")]
    BadValue {
        /// Its key.
        key: String,
        /// What it must be.
        want: &'static str,
    },
}

impl Request {
    /// Types a dictionary.
    ///
    /// # Errors
    /// [`RequestError`], in rtpengine's words where it has some.
    pub fn parse(dict: &Dict) -> Result<Self, RequestError> {
        let Some(Value::Bytes(command)) = dict.get("command") else {
            return Err(RequestError::NoCommand);
        };
        match command.as_slice() {
            b"ping" => Ok(Self::Ping),
            b"offer" => Ok(Self::Offer(Box::new(Signal::parse(dict)?))),
            b"answer" => {
                let signal = Signal::parse(dict)?;
                match signal.to_tag {
                    Some(_) => Ok(Self::Answer(Box::new(signal))),
                    None => Err(RequestError::NoToTag),
                }
            }
            b"delete" => Ok(Self::Delete(Box::new(Delete::parse(dict)?))),
            b"query" => Ok(Self::Query(Query::parse(dict)?)),
            b"list" => limit(dict).map(|limit| Self::List { limit }),
            _ => Err(RequestError::UnknownCommand),
        }
    }
}

impl Signal {
    fn parse(dict: &Dict) -> Result<Self, RequestError> {
        let Some(Value::Bytes(sdp)) = dict.get("sdp") else {
            return Err(RequestError::NoSdp);
        };
        if sdp.is_empty() {
            return Err(RequestError::NoSdp);
        }
        Ok(Self {
            call_id: id(dict, "call-id")?.ok_or(RequestError::NoCallId)?,
            from_tag: id(dict, "from-tag")?.ok_or(RequestError::NoFromTag)?,
            to_tag: id(dict, "to-tag")?,
            via_branch: id(dict, "via-branch")?,
            sdp: sdp.clone(),
            options: Options::read(dict)?,
        })
    }
}

impl Delete {
    fn parse(dict: &Dict) -> Result<Self, RequestError> {
        Ok(Self {
            call_id: id(dict, "call-id")?.ok_or(RequestError::NoCallId)?,
            from_tag: id(dict, "from-tag")?,
            to_tag: id(dict, "to-tag")?,
            via_branch: id(dict, "via-branch")?,
            options: Options::read(dict)?,
        })
    }
}

impl Query {
    fn parse(dict: &Dict) -> Result<Self, RequestError> {
        Ok(Self {
            call_id: id(dict, "call-id")?.ok_or(RequestError::NoCallId)?,
            from_tag: id(dict, "from-tag")?,
            to_tag: id(dict, "to-tag")?,
        })
    }
}

/// An identifier; an empty one is none. It must be UTF-8: made so by force, two different
/// Call-IDs could become one.
fn id(dict: &Dict, key: &str) -> Result<Option<String>, RequestError> {
    let bad = || RequestError::BadValue {
        key: key.to_owned(),
        want: "UTF-8 text",
    };
    let text = match dict.get(key) {
        None => return Ok(None),
        Some(Value::Bytes(bytes)) => String::from_utf8(bytes.clone()).map_err(|_| bad())?,
        Some(Value::Integer(number)) => number.to_string(),
        Some(_) => return Err(bad()),
    };
    match text.len() {
        0 => Ok(None),
        len if len > MAX_WORD => Err(RequestError::TooLong {
            key: key.to_owned(),
            len,
        }),
        _ => Ok(Some(text)),
    }
}

fn limit(dict: &Dict) -> Result<usize, RequestError> {
    let Some(value) = dict.get("limit") else {
        return Ok(DEFAULT_LIMIT);
    };
    let limit = value
        .as_integer()
        .and_then(|number| usize::try_from(number).ok());
    let bad = || RequestError::BadValue {
        key: "limit".to_owned(),
        want: "0 or more",
    };
    limit.ok_or_else(bad)
}
