//! What is remembered of a call. All of it goes to the store.

use crate::diff::{Class, Desired, Feed, Kind, Learn, Shared, Stream};
use crate::{Local, MAX_TAGS};
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
    /// Number of the next dialog.
    pub next_dialog: u16,
    /// How many captures of it run: of this process alone, so never stored.
    #[serde(skip)]
    pub captures: u32,
    /// Usually one; a Call-ID used for several pairs of tags has several.
    pub dialogs: Vec<Dialog>,
}

/// Two legs and the media between them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dialog {
    /// Legs are numbered `2 * number` and `2 * number + 1`.
    pub number: u16,
    /// The leg that made the first offer, and the other.
    pub legs: [Leg; 2],
    /// By position of the m= line.
    pub medias: Vec<Media>,
    /// When either leg last said something new, ns of [`crate::Now::mono`].
    #[serde(default)]
    pub heard_ns: u64,
    /// How sources are learned.
    #[serde(default)]
    pub learn: Learn,
    /// Whether a stream follows a new source once the old one is silent.
    #[serde(default)]
    pub handover: bool,
    /// Whether payload types that were not negotiated are dropped.
    #[serde(default)]
    pub strict_payload: bool,
    /// DSCP of what leaves, 0 to 63; `None` for that of the local address.
    #[serde(default)]
    pub mark: Option<u8>,
}

/// One participant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leg {
    /// Its tags, the last to signal being the last; none before its answer, several if it forked.
    pub tags: Vec<String>,
    /// Name of the interface that faces it.
    pub interface: String,
    /// Grows with each new body from this leg.
    pub signal: u32,
    /// Tells one body from the next; 0 before the first.
    pub body: u64,
    /// When it was made, microseconds since 1970.
    pub created_us: u64,
    /// Whether it sends from elsewhere than it listens at: nothing is learned of it.
    #[serde(default)]
    pub asymmetric: bool,
    /// Where its signalling came from.
    #[serde(default)]
    pub hint: Option<IpAddr>,
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
    /// The RTP endpoints facing either leg; `None` while the section is refused.
    pub locals: Option<[Local; 2]>,
    /// What either leg said of it.
    pub sides: [Side; 2],
}

/// What one leg said of one media.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Side {
    /// Where it wants its RTP.
    pub remote: Option<SocketAddr>,
    /// Where it wants its RTCP, unless multiplexed.
    pub remote_rtcp: Option<SocketAddr>,
    /// Transport as in the m= line it saw or wrote last.
    pub proto: String,
    /// Whether it sends.
    pub sends: bool,
    /// Whether it receives.
    pub receives: bool,
    /// Whether it multiplexes RTCP with RTP (RFC 5761).
    pub mux: bool,
    /// Whether it set the port to 0.
    pub declined: bool,
    /// RTP payload types it announced.
    #[serde(default)]
    pub payload_types: Vec<u8>,
    /// That of telephone-event (RFC 4733).
    #[serde(default)]
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
            declined: false,
            payload_types: Vec::new(),
            event_type: None,
        }
    }
}

impl Call {
    /// The streams this call wants.
    pub fn desired(&self) -> Desired {
        let mut streams = Desired::new();
        for dialog in &self.dialogs {
            for (media, idx) in dialog.medias.iter().zip(0..) {
                dialog.streams(media, idx, &mut streams);
            }
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
        let medias = self.dialogs.iter().flat_map(|dialog| &dialog.medias);
        let relayed = medias.filter(|media| media.is_relayed());
        relayed
            .map(|media| 2 * (1 + usize::from(media.has_own_rtcp())))
            .sum()
    }

    /// The RTP endpoints it holds; each stands for a pair of ports.
    pub fn locals(&self) -> impl Iterator<Item = Local> {
        let medias = self.dialogs.iter().flat_map(|dialog| &dialog.medias);
        medias.filter_map(|media| media.locals).flatten()
    }

    pub(crate) fn media_count(&self) -> usize {
        self.dialogs.iter().map(|dialog| dialog.medias.len()).sum()
    }

    /// Whether that many more tags fit.
    pub(crate) fn has_room_for_tags(&self, more: usize) -> bool {
        let legs = self.dialogs.iter().flat_map(|dialog| &dialog.legs);
        // A leg without a tag will get one.
        legs.map(|leg| leg.tags.len().max(1)).sum::<usize>() + more <= MAX_TAGS
    }

    /// The dialog that an offer belongs to, and which of its legs made it. Strict matches first:
    /// both tags, then one known and the other leg yet unnamed, then the sender's alone.
    pub(crate) fn find_offerer(&self, from: &str, to: Option<&str>) -> Option<(usize, usize)> {
        let both = |leg: &Leg, other: &Leg| leg.has(from) && to.is_some_and(|to| other.has(to));
        let half = |leg: &Leg, other: &Leg| {
            leg.has(from) && other.tags.is_empty()
                || leg.tags.is_empty() && to.is_some_and(|to| other.has(to))
        };
        self.find(both)
            .or_else(|| self.find(half))
            .or_else(|| self.find(|leg, _| leg.has(from)))
    }

    /// The dialog that an answer belongs to, and which of its legs had made the offer.
    pub(crate) fn find_offered(&self, from: &str, to: &str) -> Option<(usize, usize)> {
        self.find(|leg, other| leg.has(from) && other.has(to))
            .or_else(|| self.find(|leg, other| leg.has(from) && other.tags.is_empty()))
            .or_else(|| self.find(|leg, _| leg.has(from)))
    }

    fn find(&self, fits: impl Fn(&Leg, &Leg) -> bool) -> Option<(usize, usize)> {
        // The latest dialog first: an earlier one with the same tag is being replaced.
        for (idx, dialog) in self.dialogs.iter().enumerate().rev() {
            for side in 0..2 {
                if fits(&dialog.legs[side], &dialog.legs[1 - side]) {
                    return Some((idx, side));
                }
            }
        }
        None
    }
}

impl Dialog {
    fn streams(&self, media: &Media, idx: u16, into: &mut Desired) {
        let Some(locals) = media.locals.filter(|_| media.is_relayed()) else {
            return;
        };
        for side in 0..2 {
            let (own, other) = (&media.sides[side], &media.sides[1 - side]);
            let leg = &self.legs[side];
            let rtp = Stream {
                local: locals[side],
                peer: locals[1 - side],
                remote: own.remote,
                kind: media.kind,
                learn: match leg.asymmetric {
                    true => Learn::Off,
                    false => self.learn,
                },
                handover: self.handover,
                hint: leg.hint,
                gate_open: media.gate_open(side),
                signal: leg.signal,
                clock_hz: media.clock_hz,
                dscp: self.mark,
                payload_types: media.payload_types(),
                strict_payload: self.strict_payload,
                // What it sends is what the other leg announced (RFC 3264 section 5.1).
                event_type: other.event_type.or(own.event_type),
                shared: media.shared(),
                secure: media.has_proto("SAVP"),
                class: media.class(),
                capture: false,
                feed: Feed::Own,
                mid: None,
                ice: None,
                drop_events: false,
                leg: self.number.wrapping_mul(2).wrapping_add(side as u16),
                media: idx,
            };
            into.insert(rtp.local, rtp);
            if media.has_own_rtcp() {
                let rtcp = Stream {
                    local: rtp.local.rtcp(),
                    peer: rtp.peer.rtcp(),
                    remote: own.remote_rtcp,
                    kind: match media.kind {
                        Kind::Raw => Kind::Raw,
                        Kind::Rtp | Kind::Rtcp => Kind::Rtcp,
                    },
                    // Reports go on while the media is on hold (RFC 3264 section 8.4).
                    gate_open: true,
                    clock_hz: 0,
                    payload_types: 0,
                    event_type: None,
                    shared: match rtp.shared {
                        // Each port has its own keys (RFC 5764 section 3).
                        Shared::Dtls => Shared::Dtls,
                        _ => Shared::Nothing,
                    },
                    class: Class::Rtcp,
                    ..rtp
                };
                into.insert(rtcp.local, rtcp);
            }
        }
    }
}

impl Media {
    /// Whether it has streams: neither leg has declined it.
    pub fn is_relayed(&self) -> bool {
        self.locals.is_some() && !self.sides.iter().any(|side| side.declined)
    }

    /// The types that either leg announced: what is sent by numbers of one's own is as good.
    fn payload_types(&self) -> u128 {
        let all = self.sides.iter().flat_map(|side| &side.payload_types);
        match self.kind {
            Kind::Rtp => all.fold(0, |set, number| set | 1 << (number & 127)),
            Kind::Rtcp | Kind::Raw => 0,
        }
    }

    /// Whether either leg's transport has that part.
    fn has_proto(&self, part: &str) -> bool {
        let has = |side: &Side| side.proto.to_ascii_uppercase().contains(part);
        self.sides.iter().any(has)
    }

    fn shared(&self) -> Shared {
        match self.kind {
            Kind::Rtp if self.has_proto("UDP/TLS/") => Shared::Dtls,
            Kind::Rtp if !self.has_proto("SAVP") => Shared::Zrtp,
            _ => Shared::Nothing,
        }
    }

    fn class(&self) -> Class {
        match self.name.as_str() {
            "audio" => Class::Audio,
            "video" => Class::Video,
            "image" => Class::Image,
            _ => Class::Other,
        }
    }

    /// Whether what leg `side` sends is forwarded.
    pub fn gate_open(&self, side: usize) -> bool {
        self.sides[side].sends && self.sides[1 - side].receives
    }

    /// Whether RTCP comes to ports of its own (RFC 5761).
    fn has_own_rtcp(&self) -> bool {
        self.has_rtcp && !self.sides.iter().all(|side| side.mux)
    }
}

impl Leg {
    /// Whether `tag` is one of this leg's.
    pub fn has(&self, tag: &str) -> bool {
        self.tags.iter().any(|known| known == tag)
    }
}
