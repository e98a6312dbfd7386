//! rtpengine's ng control protocol: datagrams in, typed requests out; replies in, bytes out.
//!
//! A datagram is `COOKIE SP DICT`, the dictionary in bencode (`d…e`) or JSON (`{…}`). The
//! reply carries the same cookie and the same encoding. The way of a datagram:
//!
//! 1. [`Datagram::parse`] frames and decodes it, or says whether to answer or to drop it.
//! 2. [`CookieCache::begin`] tells a new request from a retransmission.
//! 3. [`Request::parse`] types it; an error's text is the reply's `error-reason`.
//! 4. [`Reply::encode`] makes the bytes, [`CookieCache::finish`] remembers them.
//!
//! Everything is bounded: a dictionary by [`MAX_DEPTH`] and [`MAX_VALUES`], a cookie by
//! [`MAX_COOKIE`], each name and tag by [`MAX_WORD`], the cache by entries and bytes.
//! Nothing here does I/O or reads a clock.
//!
//! ```
//! use penstock_ng::{Datagram, Reply, Request};
//!
//! let datagram = Datagram::parse(b"0_25197_0 d7:command4:pinge").unwrap();
//! assert_eq!(Request::parse(&datagram.dict), Ok(Request::Ping));
//! let reply = Reply::pong().encode(datagram.cookie, datagram.encoding);
//! assert_eq!(reply, b"0_25197_0 d6:result4:ponge");
//! ```

mod bencode;
mod cookie;
mod datagram;
mod flags;
mod frame;
mod json;
mod options;
mod reply;
mod request;
mod select;
mod support;
mod value;

pub use cookie::{CookieCache, GENERATION, MAX_BYTES, MAX_ENTRIES, Seen};
pub use datagram::{Datagram, Encoding, FrameError, MAX_COOKIE};
pub use flags::{MAX_BRACKETS, MAX_FLAGS};
pub use frame::{Framed, MAX_MESSAGE, frame};
pub use options::{AttributeEdit, Codecs, MAX_LINE, MAX_METADATA, Options};
pub use reply::{Reply, reason};
pub use request::{Delete, MAX_CLI, MAX_WORD, Query, Request, RequestError, Signal};
pub use select::{
    Block, Blocked, Connect, Participant, Sources, Subscribe, SubscribeAnswer, Unsubscribe,
};
pub use support::{
    AddressFamily, All, Bundle, DropTraffic, DtmfSecurity, EndpointLearning, Flag, Ice, Kind,
    MediaEcho, Replace, Row, RtcpMux, SECTIONS, Section, Support, Transport,
};
pub use value::{DecodeError, Dict, MAX_DEPTH, MAX_VALUES, Text, Value};
