//! What is remembered of a call. All of it goes to the store.

use crate::diff::{Class, Desired, Ice, Kind, Learn, Shared};
use crate::fork::Fork;
use crate::partner::Partner;
use crate::signal::Parties;
use crate::stored::{is_default, is_yes, yes};
use crate::{Family, Local, MAX_TAGS, Now, stored};
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, SocketAddr};

/// One Call-ID.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    /// The Call-ID.
    pub id: String,
    /// What the region calls it.
    pub key: u64,
    /// When the first offer came, microseconds since 1970.
    pub created_us: u64,
    /// When the last offer or answer came, microseconds since 1970.
    pub last_signal_us: u64,
    /// Other Call-IDs that it goes by: of calls that became a part of it when legs were connected.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub merged: Vec<Merged>,
    /// Who asked for it.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        serialize_with = "stored::address"
    )]
    pub asked_by: Option<SocketAddr>,
    /// Number of the next dialog.
    pub next_dialog: u16,
    /// How many captures of it run: of this process alone, so never stored.
    #[serde(skip)]
    pub captures: u32,
    /// Usually one; a Call-ID used for several pairs of tags or branches has several.
    pub dialogs: Vec<Dialog>,
    /// Those who are sent copies of what a leg sends.
    #[serde(default, skip_serializing_if = "is_default")]
    pub forks: Vec<Fork>,
}

/// A call that became a part of another one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Merged {
    /// Its Call-ID.
    pub id: String,
    /// When its first offer came, microseconds since 1970.
    pub created_us: u64,
    /// Who asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked_by: Option<SocketAddr>,
}

/// Two legs and the media between them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dialog {
    /// Legs are numbered `2 * number` and `2 * number + 1`.
    pub number: u16,
    /// The Call-ID it was made with; `None` for the call's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call_id: Option<String>,
    /// The leg that made the first offer, and the other.
    pub legs: [Leg; 2],
    /// By position of the m= line.
    pub medias: Vec<Media>,
    /// When either leg last said something new, or other packets were to be expected, ns of [`crate::Now::mono`].
    #[serde(default, skip_serializing_if = "is_default")]
    pub heard_ns: u64,
    /// How sources are learned.
    #[serde(default, skip_serializing_if = "is_default")]
    pub learn: Learn,
    /// Whether a stream follows a new source once the old one is silent.
    #[serde(default, skip_serializing_if = "is_default")]
    pub handover: bool,
    /// Whether payload types that were not negotiated are dropped.
    #[serde(default, skip_serializing_if = "is_default")]
    pub strict_payload: bool,
    /// DSCP of what leaves, 0 to 63; `None` for that of the local address.
    #[serde(default, skip_serializing_if = "is_default")]
    pub mark: Option<u8>,
    /// Branch of the Via header of the offer that made it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub branch: Option<String>,
    /// Whether only leg 0 is somebody: its media goes to forks alone.
    #[serde(default, skip_serializing_if = "is_default")]
    pub published: bool,
    /// Whether its media is dropped.
    #[serde(default, skip_serializing_if = "is_default")]
    pub dropped: bool,
    /// Whether an offer has come since its legs were connected to others: the answer to it brings them together again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_reoffered: bool,
    /// Whether the last offer asked for its bundle to be accepted.
    #[serde(default, skip_serializing_if = "is_default")]
    pub accepts_bundle: bool,
    /// Whether the last offer asked for its ICE to be refused.
    #[serde(default, skip_serializing_if = "is_default")]
    pub rejects_ice: bool,
    /// `a=ptime` that the last offer asked for in its answer, ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ptime_back: Option<u16>,
    /// When it ends, if it was deleted with a delay, microseconds since 1970. Signalling takes that back.
    #[serde(default, skip_serializing_if = "is_default")]
    pub ends_us: Option<u64>,
}

/// One participant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leg {
    /// Its tags, the last to signal being the last; none before its answer, several if it forked.
    pub tags: Vec<String>,
    /// Name of the interface that faces it.
    pub interface: String,
    /// Family of that interface's addresses it is faced by; `None` for the first one's.
    #[serde(default, skip_serializing_if = "is_default")]
    pub family: Option<Family>,
    /// Grows with each new body from this leg.
    pub signal: u32,
    /// Tells one body from the next; 0 before the first.
    pub body: u64,
    /// When it was made, microseconds since 1970.
    pub created_us: u64,
    /// Whether it sends from elsewhere than it listens at: nothing is learned of it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub asymmetric: bool,
    /// Where its signalling came from.
    #[serde(default, skip_serializing_if = "is_default")]
    pub hint: Option<IpAddr>,
    /// Whom it hears, and is heard by.
    #[serde(default, skip_serializing_if = "Partner::is_own")]
    pub partner: Partner,
    /// A name that the signalling gave it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub label: Option<String>,
    /// Text that the signalling wants kept with its records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<String>,
    /// What of its media is held back.
    #[serde(default, skip_serializing_if = "is_default")]
    pub blocked: Blocked,
    /// Whether its media goes back to itself.
    #[serde(default, skip_serializing_if = "is_default")]
    pub echoed: bool,
    /// Whether nothing is sent to it before it has sent (`NAT-wait`).
    #[serde(default, skip_serializing_if = "is_default")]
    pub waits: bool,
    /// Whether it is sent empty datagrams until it has sent (`pierce-NAT`).
    #[serde(default, skip_serializing_if = "is_default")]
    pub pierces: bool,
    /// Our credentials in the SDP it is given, once ICE was spoken of.
    #[serde(default, skip_serializing_if = "is_default")]
    pub ice: Option<Ice>,
    /// Whether it has offered other credentials of its own, so that it gets other ones of ours.
    #[serde(default, skip_serializing_if = "is_default")]
    pub restarts: bool,
    /// Transport that was asked for towards it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub transport: Option<String>,
    /// What it was told of the session.
    #[serde(default, skip_serializing_if = "is_default")]
    pub told: Told,
}

/// What of a leg's media is held back on request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blocked {
    /// All of it but telephone events.
    pub media: bool,
    /// All of it, where silence was asked for: a relay has none to put in its place.
    pub silence: bool,
    /// Telephone events (RFC 4733).
    pub dtmf: bool,
}

/// The session's name and origin in the SDP that a leg is given, where we keep them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// User name of o=.
    #[serde(default, skip_serializing_if = "is_default")]
    pub username: Option<String>,
    /// Session identifier of o=.
    #[serde(default, skip_serializing_if = "is_default")]
    pub session_id: Option<String>,
    /// Session version of o=.
    #[serde(default, skip_serializing_if = "is_default")]
    pub version: Option<u64>,
    /// The s= line.
    #[serde(default, skip_serializing_if = "is_default")]
    pub name: Option<String>,
    /// Tells one body from the next, its version apart; 0 before the first.
    #[serde(default, skip_serializing_if = "is_default")]
    pub body: u64,
}

/// One m= section.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Media {
    /// First word of the m= line.
    pub name: String,
    /// What passes on its first port.
    pub kind: Kind,
    /// Whether it has a second port (RTCP).
    pub has_rtcp: bool,
    /// RTP clock of its first codec, Hz; 0 for none.
    pub clock_hz: u32,
    /// The RTP endpoints facing either leg, of what is published one for both; `None` while the section is refused.
    pub locals: Option<[Local; 2]>,
    /// More RTP endpoints facing either leg, at other addresses of its interface: candidates (RFC 8445). At most
    /// [`crate::MAX_ALTERNATES`] each.
    #[serde(default, skip_serializing_if = "is_default")]
    pub alternates: [Vec<Local>; 2],
    /// What either leg said of it.
    pub sides: [Side; 2],
    /// The side whose SDP this section was taken out of.
    #[serde(default, skip_serializing_if = "is_default")]
    pub hidden_from: Option<usize>,
    /// What the leg that made the last offer is told of multiplexing.
    #[serde(default, skip_serializing_if = "is_default")]
    pub mux: Mux,
}

/// What becomes of multiplexing (RFC 5761) that was offered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mux {
    /// What the other leg answers.
    #[default]
    Pass,
    /// It is accepted, whatever the other leg answers.
    Accept,
    /// It is refused.
    Reject,
}

/// What one leg said of one media.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Side {
    /// Where it wants its RTP.
    #[serde(
        default,
        skip_serializing_if = "is_default",
        serialize_with = "stored::address"
    )]
    pub remote: Option<SocketAddr>,
    /// Where it wants its RTCP, unless multiplexed.
    #[serde(
        default,
        skip_serializing_if = "is_default",
        serialize_with = "stored::address"
    )]
    pub remote_rtcp: Option<SocketAddr>,
    /// Transport as in the m= line it saw or wrote last.
    pub proto: String,
    /// Whether it sends.
    pub sends: bool,
    /// Whether it receives.
    pub receives: bool,
    /// Whether it said that it multiplexes RTCP with RTP (RFC 5761).
    #[serde(default, skip_serializing_if = "is_default")]
    pub mux: bool,
    /// Whether it was told that we do.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub told_mux: bool,
    /// Its ICE user name fragment (RFC 8839), if it speaks ICE.
    #[serde(default, skip_serializing_if = "is_default")]
    pub ice: Option<String>,
    /// Whether it is a lite agent, which checks nothing.
    #[serde(default, skip_serializing_if = "is_default")]
    pub ice_lite: bool,
    /// Where a lite agent is, by component (1 for RTP, 2 for RTCP): its candidates.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub candidates: Vec<(u8, SocketAddr)>,
    /// Whether it says that candidates may trickle (RFC 8840).
    #[serde(default, skip_serializing_if = "is_default")]
    pub trickles: bool,
    /// Whether it was given candidates.
    #[serde(default, skip_serializing_if = "is_default")]
    pub told_ice: bool,
    /// Its identification tag (RFC 5888).
    #[serde(default, skip_serializing_if = "is_default")]
    pub mid: Option<String>,
    /// Number of the header extension that carries the mid (RFC 9143), 0 for none.
    #[serde(default, skip_serializing_if = "is_default")]
    pub mid_extension: u8,
    /// The section whose port this one shares, as it said (RFC 9143): its bundle's first.
    #[serde(default, skip_serializing_if = "is_default")]
    pub bundle: Option<u16>,
    /// Whether it was told that we do.
    #[serde(default, skip_serializing_if = "is_default")]
    pub told_bundle: bool,
    /// The formats of its m= line.
    #[serde(default, skip_serializing_if = "is_default")]
    pub formats: Vec<String>,
    /// Its lines that describe them: rtpmap, fmtp, ptime.
    #[serde(default, skip_serializing_if = "is_default")]
    pub described: Vec<String>,
    /// Whether it set the port to 0.
    #[serde(default, skip_serializing_if = "is_default")]
    pub declined: bool,
    /// RTP payload types it announced.
    #[serde(default, skip_serializing_if = "is_default")]
    pub payload_types: Vec<u8>,
    /// That of telephone-event (RFC 4733).
    #[serde(default, skip_serializing_if = "is_default")]
    pub event_type: Option<u8>,
}

impl Default for Side {
    /// Before its first word: early media may pass either way.
    fn default() -> Side {
        Side {
            remote: None,
            remote_rtcp: None,
            proto: String::new(),
            sends: true,
            receives: true,
            mux: false,
            told_mux: false,
            ice: None,
            ice_lite: false,
            candidates: Vec::new(),
            trickles: false,
            told_ice: false,
            mid: None,
            mid_extension: 0,
            bundle: None,
            told_bundle: false,
            formats: Vec::new(),
            described: Vec::new(),
            declined: false,
            payload_types: Vec::new(),
            event_type: None,
        }
    }
}

impl Call {
    /// One without dialogs yet. `key` is what the region calls it.
    pub fn new(id: &str, key: u64, now: Now) -> Call {
        Call {
            id: id.to_owned(),
            key,
            created_us: now.unix_us,
            last_signal_us: now.unix_us,
            merged: Vec::new(),
            asked_by: None,
            next_dialog: 0,
            captures: 0,
            dialogs: Vec::new(),
            forks: Vec::new(),
        }
    }

    /// Whether the delay of a delete is over for one of its dialogs.
    pub fn is_expired(&self, now: Now) -> bool {
        self.dialogs.iter().any(|dialog| dialog.is_expired(now))
    }

    /// All legs, those of forks among them.
    pub fn legs(&self) -> impl Iterator<Item = &Leg> {
        let forks = self.forks.iter().map(|fork| &fork.leg);
        self.dialogs
            .iter()
            .flat_map(|dialog| &dialog.legs)
            .chain(forks)
    }

    /// The streams this call wants.
    pub fn desired(&self) -> Desired {
        let mut streams = Desired::new();
        for dialog in &self.dialogs {
            dialog.streams(self, &mut streams);
        }
        for fork in &self.forks {
            fork.streams(self, &mut streams);
        }
        if self.captures > 0 {
            streams
                .values_mut()
                .for_each(|stream| stream.capture = true);
        }
        streams
    }

    /// How many streams [`Call::desired`] has.
    pub fn stream_count(&self) -> usize {
        self.desired().len()
    }

    /// The RTP endpoints it holds; each stands for a pair of ports.
    pub fn locals(&self) -> impl Iterator<Item = Local> {
        let medias = self.dialogs.iter().flat_map(|dialog| &dialog.medias);
        let forked = self.forks.iter().flat_map(|fork| &fork.medias);
        medias
            .flat_map(Media::endpoints)
            .chain(forked.map(|media| media.local))
    }

    pub(crate) fn media_count(&self) -> usize {
        let forked = self.forks.iter().map(|fork| fork.medias.len());
        let relayed = self.dialogs.iter().map(|dialog| dialog.medias.len());
        relayed.chain(forked).sum()
    }

    /// Whether that many more tags fit.
    pub(crate) fn has_room_for_tags(&self, more: usize) -> bool {
        self.tag_count() + more <= MAX_TAGS
    }

    pub(crate) fn tag_count(&self) -> usize {
        // A leg without a tag will get one.
        self.legs().map(|leg| leg.tags.len().max(1)).sum()
    }

    /// The dialog that an offer belongs to, and which of its legs made it: one of its Call-ID, or one whose leg was connected
    /// to the leg of the to-tag. Strict matches first: both tags, then those connected, then one known and the other leg yet
    /// unnamed, then the sender's alone. An offer without a to-tag that comes by another branch belongs to none: it is a
    /// fork's own.
    pub(crate) fn find_offerer(&self, parties: &Parties<'_>) -> Option<(usize, usize)> {
        let Parties {
            from_tag: from,
            to_tag: to,
            branch,
            ..
        } = *parties;
        let both = |_: &Dialog, leg: &Leg, other: &Leg| {
            leg.has(from) && to.is_some_and(|to| other.has(to))
        };
        let half = |dialog: &Dialog, leg: &Leg, other: &Leg| {
            dialog.is_of(branch)
                && (leg.has(from) && other.tags.is_empty()
                    || leg.tags.is_empty() && to.is_some_and(|to| other.has(to)))
        };
        let alone = |dialog: &Dialog, leg: &Leg, _: &Leg| {
            leg.has(from) && !dialog.published && (to.is_some() || dialog.is_of(branch))
        };
        self.find(parties, both)
            .or_else(|| self.find_connected(parties))
            .or_else(|| self.find(parties, half))
            .or_else(|| self.find(parties, alone))
    }

    /// The dialog that an answer belongs to, and which of its legs had made the offer.
    pub(crate) fn find_offered(&self, parties: &Parties<'_>) -> Option<(usize, usize)> {
        let Parties {
            from_tag: from,
            to_tag: to,
            branch,
            ..
        } = *parties;
        let to = to.unwrap_or_default();
        let find = |fits: &dyn Fn(&Dialog, &Leg, &Leg) -> bool| self.find(parties, fits);
        find(&|dialog, leg, other| leg.has(from) && other.has(to) && dialog.is_of(branch))
            .or_else(|| find(&|_, leg, other| leg.has(from) && other.has(to)))
            .or_else(|| self.find_connected(parties))
            .or_else(|| {
                find(&|dialog, leg, other| {
                    leg.has(from) && other.tags.is_empty() && dialog.is_of(branch)
                })
            })
            .or_else(|| find(&|dialog, leg, _| leg.has(from) && dialog.is_of(branch)))
            .or_else(|| find(&|dialog, leg, _| leg.has(from) && !dialog.published))
    }

    /// Whether the leg that the one of a dialog was connected to has the tag.
    pub(crate) fn is_connected(&self, (idx, side): (usize, usize), tag: &str) -> bool {
        let dialog = &self.dialogs[idx];
        let partner = self.partner(dialog, side);
        let other = partner.filter(|(other, _)| other.number != dialog.number);
        other.is_some_and(|(other, far)| other.legs[far].has(tag))
    }

    /// The leg of the from-tag, if it was connected to that of the to-tag; either may be of the Call-ID.
    fn find_connected(&self, parties: &Parties<'_>) -> Option<(usize, usize)> {
        let (id, to) = (parties.call_id, parties.to_tag?);
        let is_own = |dialog: &Dialog| self.id_of(dialog) == id;
        let mut legs = (0..self.dialogs.len()).flat_map(|idx| [(idx, 0), (idx, 1)]);
        legs.find(|&(idx, side)| {
            let dialog = &self.dialogs[idx];
            let partner = self.partner(dialog, side);
            self.is_called(id, (dialog, side), parties.from_tag)
                && self.is_connected((idx, side), to)
                && partner.is_some_and(|leg| {
                    self.is_called(id, leg, to) && (is_own(dialog) || is_own(leg.0))
                })
        })
    }

    fn find(
        &self,
        parties: &Parties<'_>,
        fits: impl Fn(&Dialog, &Leg, &Leg) -> bool,
    ) -> Option<(usize, usize)> {
        let is_own = |(_, dialog): &(usize, &Dialog)| self.id_of(dialog) == parties.call_id;
        // The latest dialog first: an earlier one with the same tag is being replaced.
        for (idx, dialog) in self.dialogs.iter().enumerate().rev().filter(is_own) {
            for side in 0..2 {
                if fits(dialog, &dialog.legs[side], &dialog.legs[1 - side]) {
                    return Some((idx, side));
                }
            }
        }
        None
    }
}

impl Dialog {
    pub(crate) fn is_expired(&self, now: Now) -> bool {
        self.ends_us.is_some_and(|ends| ends <= now.unix_us)
    }

    /// Whether a message with this branch may be of this dialog: one that names none, or a dialog
    /// that was made without one, is of any.
    pub(crate) fn is_of(&self, branch: Option<&str>) -> bool {
        match (branch, &self.branch) {
            (Some(branch), Some(own)) => branch == own,
            _ => true,
        }
    }
}

impl Media {
    /// Whether it has streams: neither leg has declined it.
    pub fn is_relayed(&self) -> bool {
        self.locals.is_some() && !self.sides.iter().any(|side| side.declined)
    }

    /// The RTP endpoints it holds; each stands for a pair of ports.
    fn endpoints(&self) -> impl Iterator<Item = Local> {
        let alternates = self.alternates.iter().flatten().copied();
        let first = self.locals.map(|[own, _]| own);
        let second = self.locals.filter(|[own, other]| own != other);
        let second = second.map(|[_, other]| other);
        first.into_iter().chain(second).chain(alternates)
    }

    /// The RTP endpoints that face leg `side`: the one of its m= line first, then its alternates.
    pub fn facing(&self, side: usize) -> impl Iterator<Item = Local> + Clone {
        let first = self.locals.map(|locals| locals[side]);
        first
            .into_iter()
            .chain(self.alternates[side].iter().copied())
    }

    /// Whether either leg's transport has that part.
    pub(crate) fn has_proto(&self, part: &str) -> bool {
        let is_part = |bytes: &[u8]| bytes.eq_ignore_ascii_case(part.as_bytes());
        let has = |side: &Side| side.proto.as_bytes().windows(part.len()).any(is_part);
        self.sides.iter().any(has)
    }

    pub(crate) fn shared(&self) -> Shared {
        match self.kind {
            Kind::Rtp if self.has_proto("UDP/TLS/") => Shared::Dtls,
            Kind::Rtp if !self.has_proto("SAVP") => Shared::Zrtp,
            _ => Shared::Nothing,
        }
    }

    pub(crate) fn class(&self) -> Class {
        match self.name.as_str() {
            "audio" => Class::Audio,
            "video" => Class::Video,
            "image" => Class::Image,
            _ => Class::Other,
        }
    }

    /// Whether RTCP of leg `side` shares the port of its RTP: it said so, and was told so.
    pub(crate) fn is_muxed(&self, side: usize) -> bool {
        self.sides[side].mux && self.sides[side].told_mux
    }
}

impl Leg {
    /// Whether `tag` is one of this leg's.
    pub fn has(&self, tag: &str) -> bool {
        self.tags.iter().any(|known| known == tag)
    }
}
