//! Requests, typed.

use crate::options::{self, Options, Reader};
use crate::reply::reason;
use crate::select::{Block, Blocked, Connect, Subscribe, SubscribeAnswer, Unsubscribe};
use crate::support::{Command, Known, Refusal};
use crate::value::{Dict, Value};
use thiserror::Error;

/// Longest Call-ID, tag, branch or other word accepted, in bytes.
pub const MAX_WORD: usize = 255;

/// Longest line of a `cli` command accepted, in bytes.
pub const MAX_CLI: usize = 1024;

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
    /// Counters of the whole.
    Statistics,
    /// Media or events that are passed on no longer, or again.
    Block(Box<Block>),
    /// Media without a second side; its `to_tag` means nothing.
    Publish(Box<Signal>),
    /// An SDP for a copy of media.
    SubscribeRequest(Box<Subscribe>),
    /// Where the copy goes.
    SubscribeAnswer(Box<SubscribeAnswer>),
    /// The end of a copy.
    Unsubscribe(Unsubscribe),
    /// Two sides that are to hear each other.
    Connect(Box<Connect>),
    /// A line of rtpengine-ctl.
    Cli {
        /// The line, trimmed, at most [`MAX_CLI`] bytes.
        line: String,
    },
    /// A command that rtpengine knows and Penstock cannot carry out.
    Unsupported {
        /// The command.
        command: &'static str,
        /// Why, for a reply of "`command` is not supported: `why`".
        why: &'static str,
    },
}

/// An offer, an answer or what is published.
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
    /// A key or flag whose effect the client would rely on, and that Penstock cannot have.
    #[error("{word} is not supported: {why}")]
    Refused {
        /// The key or flag.
        word: &'static str,
        /// Why.
        why: &'static str,
    },
}

impl Request {
    /// Types a dictionary.
    ///
    /// # Errors
    /// [`RequestError`], in rtpengine's words where it has some.
    pub fn parse(dict: &Dict) -> Result<Self, RequestError> {
        Self::parse_with(dict, |_| None)
    }

    /// Types a dictionary where flags are configured: `template` gives the flag string of a name.
    /// It is asked for the name of the command first, as rtpengine spells it, then for the one that
    /// the message names under `template`. What the message says wins.
    ///
    /// # Errors
    /// As [`Request::parse`].
    pub fn parse_with<'a>(
        dict: &Dict,
        template: impl Fn(&str) -> Option<&'a str>,
    ) -> Result<Self, RequestError> {
        let Some(Value::Bytes(name)) = dict.get("command") else {
            return Err(RequestError::NoCommand);
        };
        let command = match Command::find(name) {
            Some(Known::Word(command)) => command,
            Some(Known::Refused(Refusal { name, why })) => {
                return Ok(Self::Unsupported { command: name, why });
            }
            Some(Known::Ignored) | None => return Err(RequestError::UnknownCommand),
        };
        match command {
            Command::Ping => return Ok(Self::Ping),
            Command::Statistics => return Ok(Self::Statistics),
            Command::List => return limit(dict).map(|limit| Self::List { limit }),
            Command::Cli => return line(dict).map(|line| Self::Cli { line }),
            _ => {}
        }
        let named = match dict.get("template") {
            Some(Value::Bytes(name)) => std::str::from_utf8(name).ok().and_then(&template),
            _ => None,
        };
        let flags: Vec<&str> = template(command.name()).into_iter().chain(named).collect();
        Self::read(command, dict, options::read(dict, &flags)?)
    }

    fn read(command: Command, dict: &Dict, reader: Reader) -> Result<Self, RequestError> {
        let block = |reader, what, on| Block::read(reader, what, on).map(Box::new).map(Self::Block);
        match command {
            Command::Offer => Ok(Self::Offer(Box::new(Signal::read(dict, reader)?))),
            Command::Answer => {
                let signal = Signal::read(dict, reader)?;
                match signal.to_tag {
                    Some(_) => Ok(Self::Answer(Box::new(signal))),
                    None => Err(RequestError::NoToTag),
                }
            }
            Command::Publish => Ok(Self::Publish(Box::new(Signal::read(dict, reader)?))),
            Command::Delete => Ok(Self::Delete(Box::new(Delete::read(reader)?))),
            Command::Query => Ok(Self::Query(Query::read(reader)?)),
            Command::BlockDtmf => block(reader, Blocked::Dtmf, true),
            Command::UnblockDtmf => block(reader, Blocked::Dtmf, false),
            Command::BlockMedia => block(reader, Blocked::Media, true),
            Command::UnblockMedia => block(reader, Blocked::Media, false),
            Command::SilenceMedia => block(reader, Blocked::Silence, true),
            Command::UnsilenceMedia => block(reader, Blocked::Silence, false),
            Command::SubscribeRequest => {
                Ok(Self::SubscribeRequest(Box::new(Subscribe::read(reader)?)))
            }
            Command::SubscribeAnswer => {
                let answer = SubscribeAnswer::read(sdp(dict)?, reader)?;
                Ok(Self::SubscribeAnswer(Box::new(answer)))
            }
            Command::Unsubscribe => Ok(Self::Unsubscribe(Unsubscribe::read(reader)?)),
            Command::Connect => Ok(Self::Connect(Box::new(Connect::read(reader)?))),
            Command::Ping | Command::List | Command::Statistics | Command::Cli => {
                Err(RequestError::UnknownCommand)
            }
        }
    }

    /// The call it is about; of a `connect` across two calls, the first.
    pub fn call_id(&self) -> Option<&str> {
        match self {
            Self::Offer(signal) | Self::Answer(signal) | Self::Publish(signal) => {
                Some(&signal.call_id)
            }
            Self::Delete(delete) => Some(&delete.call_id),
            Self::Query(query) => Some(&query.call_id),
            Self::Block(block) => Some(&block.call_id),
            Self::SubscribeRequest(subscribe) => Some(&subscribe.call_id),
            Self::SubscribeAnswer(answer) => Some(&answer.call_id),
            Self::Unsubscribe(unsubscribe) => Some(&unsubscribe.call_id),
            Self::Connect(connect) => Some(&connect.call_id),
            Self::Ping
            | Self::List { .. }
            | Self::Statistics
            | Self::Cli { .. }
            | Self::Unsupported { .. } => None,
        }
    }

    /// The second call of a `connect` across two.
    pub fn other_call_id(&self) -> Option<&str> {
        match self {
            Self::Connect(connect) => connect.to_call_id.as_deref(),
            _ => None,
        }
    }

    /// The command, as rtpengine spells it.
    pub fn command(&self) -> &'static str {
        let block = |block: &Block| match (block.what, block.on) {
            (Blocked::Dtmf, true) => Command::BlockDtmf,
            (Blocked::Dtmf, false) => Command::UnblockDtmf,
            (Blocked::Media, true) => Command::BlockMedia,
            (Blocked::Media, false) => Command::UnblockMedia,
            (Blocked::Silence, true) => Command::SilenceMedia,
            (Blocked::Silence, false) => Command::UnsilenceMedia,
        };
        let command = match self {
            Self::Ping => Command::Ping,
            Self::Offer(_) => Command::Offer,
            Self::Answer(_) => Command::Answer,
            Self::Delete(_) => Command::Delete,
            Self::Query(_) => Command::Query,
            Self::List { .. } => Command::List,
            Self::Statistics => Command::Statistics,
            Self::Block(what) => block(what),
            Self::Publish(_) => Command::Publish,
            Self::SubscribeRequest(_) => Command::SubscribeRequest,
            Self::SubscribeAnswer(_) => Command::SubscribeAnswer,
            Self::Unsubscribe(_) => Command::Unsubscribe,
            Self::Connect(_) => Command::Connect,
            Self::Cli { .. } => Command::Cli,
            Self::Unsupported { command, .. } => return command,
        };
        command.name()
    }
}

impl Signal {
    fn read(dict: &Dict, reader: Reader) -> Result<Self, RequestError> {
        let sdp = sdp(dict)?;
        let signal = Self {
            call_id: reader.ids.call_id.ok_or(RequestError::NoCallId)?,
            from_tag: reader.ids.from_tag.ok_or(RequestError::NoFromTag)?,
            to_tag: reader.ids.to_tag,
            via_branch: reader.ids.via_branch,
            sdp,
            options: reader.options,
        };
        reader.refused.map_or(Ok(signal), Err)
    }
}

impl Delete {
    fn read(reader: Reader) -> Result<Self, RequestError> {
        Ok(Self {
            call_id: reader.ids.call_id.ok_or(RequestError::NoCallId)?,
            from_tag: reader.ids.from_tag,
            to_tag: reader.ids.to_tag,
            via_branch: reader.ids.via_branch,
            options: reader.options,
        })
    }
}

impl Query {
    fn read(reader: Reader) -> Result<Self, RequestError> {
        Ok(Self {
            call_id: reader.ids.call_id.ok_or(RequestError::NoCallId)?,
            from_tag: reader.ids.from_tag,
            to_tag: reader.ids.to_tag,
        })
    }
}

/// The body, which must not be empty.
fn sdp(dict: &Dict) -> Result<Vec<u8>, RequestError> {
    match dict.get("sdp") {
        Some(Value::Bytes(sdp)) if !sdp.is_empty() => Ok(sdp.to_vec()),
        _ => Err(RequestError::NoSdp),
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

fn line(dict: &Dict) -> Result<String, RequestError> {
    let line = match dict.get("body") {
        Some(Value::Bytes(line)) if line.len() <= MAX_CLI => std::str::from_utf8(line).ok(),
        _ => None,
    };
    line.map(|line| line.trim().to_owned())
        .ok_or_else(|| RequestError::BadValue {
            key: "body".to_owned(),
            want: "a line of at most 1024 bytes",
        })
}
