//! Requests about the participants of a call that stands.

use crate::options::{Options, Reader};
use crate::request::RequestError;
use crate::support::{All, DtmfSecurity, Flag};
use std::net::IpAddr;

/// How a participant is named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Participant {
    /// By its tag.
    Tag(String),
    /// By the label it was given.
    Label(String),
    /// By the address its SDP gave.
    Address(IpAddr),
}

/// What is withheld.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blocked {
    /// Telephone events (RFC 4733).
    Dtmf,
    /// Media, but not telephone events.
    Media,
    /// Media that rtpengine would replace by silence.
    Silence,
}

/// Block or unblock, silence or unsilence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// Call-ID.
    pub call_id: String,
    /// What.
    pub what: Blocked,
    /// Whether it is withheld from now on, or passed on again.
    pub on: bool,
    /// Whose media; without one, everybody's.
    pub source: Option<Participant>,
    /// Only on its way to this one.
    pub sink: Option<Participant>,
    /// Which flows, and whether an unblock for everybody also ends what was blocked for one.
    pub all: All,
    /// A name for the source.
    pub set_label: Option<String>,
}

/// Whose media is copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sources {
    /// Everybody's.
    Everybody,
    /// Everybody's that came by offer and answer.
    OfferAnswer,
    /// Everybody's that was published.
    Published,
    /// That of some.
    Some(Vec<Participant>),
}

/// A request to subscribe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscribe {
    /// Call-ID.
    pub call_id: String,
    /// Whose media.
    pub sources: Sources,
    /// Tag of the subscription; without one, a new one is made.
    pub to_tag: Option<String>,
    /// A name for the subscription.
    pub label: Option<String>,
    /// Everything else.
    pub options: Options,
}

/// The answer to the SDP of a subscription.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubscribeAnswer {
    /// Call-ID.
    pub call_id: String,
    /// Tag of the subscription.
    pub to_tag: String,
    /// The SDP body, never empty.
    pub sdp: Vec<u8>,
    /// Everything else.
    pub options: Options,
}

/// The end of a subscription.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsubscribe {
    /// Call-ID.
    pub call_id: String,
    /// Tag of the subscription.
    pub to_tag: String,
}

/// Two participants that are to hear each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connect {
    /// Call-ID.
    pub call_id: String,
    /// Tag of the one.
    pub from_tag: String,
    /// Tag of the other.
    pub to_tag: String,
    /// Call-ID of the other's call, if it is not the same.
    pub to_call_id: Option<String>,
    /// Everything else: `directional`.
    pub options: Options,
}

/// Whom a message selects. A label or an address is always meant, while clients send the tag of
/// the SIP message unasked: so the label wins, then the address.
fn source(reader: &mut Reader) -> Option<Participant> {
    let label = reader.options.label.take().map(Participant::Label);
    let address = reader.options.address.map(Participant::Address);
    let tag = reader.ids.from_tag.take().map(Participant::Tag);
    label.or(address).or(tag)
}

impl Block {
    pub(crate) fn read(mut reader: Reader, what: Blocked, on: bool) -> Result<Self, RequestError> {
        let all = reader.options.all.unwrap_or(All::None);
        let is_meant = reader.names_sender || reader.options.has(Flag::Directional);
        if reader.is_raw && !is_meant {
            reader.ids.from_tag = None;
        }
        let source = source(&mut reader).filter(|_| all != All::All);
        let label = reader.options.to_label.map(Participant::Label);
        let sink = label.or(reader.ids.to_tag.map(Participant::Tag));
        let off = what == Blocked::Dtmf && reader.options.dtmf_security == Some(DtmfSecurity::Off);
        let block = Self {
            call_id: reader.ids.call_id.ok_or(RequestError::NoCallId)?,
            what,
            on: on && !off,
            // A tag of the SIP message's other side says nothing about the entire call.
            sink: sink.filter(|_| source.is_some()),
            source,
            all,
            set_label: reader.options.set_label,
        };
        reader.refused.map_or(Ok(block), Err)
    }
}

impl Subscribe {
    pub(crate) fn read(mut reader: Reader) -> Result<Self, RequestError> {
        let one = source(&mut reader);
        let options = &mut reader.options;
        let tags = std::mem::take(&mut options.from_tags);
        let sources = match (options.all.unwrap_or(All::None), tags.is_empty()) {
            (All::None, false) => Sources::Some(tags.into_iter().map(Participant::Tag).collect()),
            (All::None, true) => Sources::Some(vec![one.ok_or(RequestError::NoFromTag)?]),
            (All::OfferAnswer, _) => Sources::OfferAnswer,
            (All::ExceptOfferAnswer, _) => Sources::Published,
            (All::All | All::Flows, _) => Sources::Everybody,
        };
        let subscribe = Self {
            call_id: reader.ids.call_id.ok_or(RequestError::NoCallId)?,
            sources,
            to_tag: reader.ids.to_tag,
            label: options.set_label.take().or(options.to_label.take()),
            options: reader.options,
        };
        reader.refused.map_or(Ok(subscribe), Err)
    }
}

impl SubscribeAnswer {
    pub(crate) fn read(sdp: Vec<u8>, reader: Reader) -> Result<Self, RequestError> {
        let answer = Self {
            call_id: reader.ids.call_id.ok_or(RequestError::NoCallId)?,
            to_tag: reader.ids.to_tag.ok_or(RequestError::NoToTag)?,
            sdp,
            options: reader.options,
        };
        reader.refused.map_or(Ok(answer), Err)
    }
}

impl Unsubscribe {
    pub(crate) fn read(reader: Reader) -> Result<Self, RequestError> {
        Ok(Self {
            call_id: reader.ids.call_id.ok_or(RequestError::NoCallId)?,
            to_tag: reader.ids.to_tag.ok_or(RequestError::NoToTag)?,
        })
    }
}

impl Connect {
    pub(crate) fn read(reader: Reader) -> Result<Self, RequestError> {
        Ok(Self {
            call_id: reader.ids.call_id.ok_or(RequestError::NoCallId)?,
            from_tag: reader.ids.from_tag.ok_or(RequestError::NoFromTag)?,
            to_tag: reader.ids.to_tag.ok_or(RequestError::NoToTag)?,
            to_call_id: reader.ids.to_call_id,
            options: reader.options,
        })
    }
}
