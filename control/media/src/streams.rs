//! From what is remembered of a dialog to the streams it wants.
//!
//! A leg that multiplexes (RFC 5761) or bundles (RFC 9143) has fewer ports than the relay has streams: what
//! has no port of its own there is a part of what arrives at another one ([`Feed::PartOf`]), and what
//! is sent to that leg leaves from that one.

use crate::Local;
use crate::call::{Dialog, Media};
use crate::diff::{Class, Desired, Feed, Kind, Learn, Mid, Shared, Stream};

impl Dialog {
    pub(crate) fn streams(&self, into: &mut Desired) {
        for idx in 0..self.medias.len() {
            let media = &self.medias[idx];
            let joined = (0..2).all(|side| self.head(idx, side) != idx);
            if !media.is_relayed() || joined {
                continue;
            }
            let sides = if self.published { 0..1 } else { 0..2 };
            for side in sides {
                for stream in self.pair(idx, side).into_iter().flatten() {
                    into.insert(stream.local, stream);
                    self.alternates(idx, side, &stream, into);
                }
            }
        }
    }

    /// The section whose port this one uses on that side: its own, or that of its bundle's first.
    pub(crate) fn head(&self, idx: usize, side: usize) -> usize {
        let own = &self.medias[idx].sides[side];
        let head = own.bundle.filter(|_| own.told_bundle).map(usize::from);
        let stands = |head: &usize| *head < idx && self.medias[*head].is_relayed();
        head.filter(stands).unwrap_or(idx)
    }

    /// Where that side's packets of a section arrive and leave.
    pub(crate) fn entry(&self, idx: usize, side: usize) -> Option<Local> {
        let head = &self.medias[self.head(idx, side)];
        head.locals.map(|locals| locals[side])
    }

    /// The streams that carry what leg `side` sends: RTP, and RTCP if that has a stream of its own.
    fn pair(&self, idx: usize, side: usize) -> [Option<Stream>; 2] {
        let media = &self.medias[idx];
        let (Some(locals), Some(entry), Some(exit)) = (
            media.locals,
            self.entry(idx, side),
            self.entry(idx, 1 - side),
        ) else {
            return [None, None];
        };
        let (own, other) = (&media.sides[side], &media.sides[1 - side]);
        let leg = &self.legs[side];
        let feed = |local: Local| match entry == locals[side] {
            true if local == entry => Feed::Own,
            _ => Feed::PartOf(entry),
        };
        // What it sends is what the other leg announced (RFC 3264 section 5.1).
        let event_type = other.event_type.or(own.event_type);
        // Telephone events pass where media is blocked.
        let only_events = event_type.filter(|_| leg.blocked.media && media.kind == Kind::Rtp);
        let only_nothing = leg.blocked.media && only_events.is_none();
        let checks = own.told_ice && own.ice.is_some() && !own.ice_lite;
        let ice = leg.ice.filter(|_| checks);
        let rtp = Stream {
            local: locals[side],
            peer: if leg.echoed { entry } else { exit },
            // Who sends nothing before he is sent something is not waited for.
            remote: own.remote.filter(|_| !leg.waits),
            kind: media.kind,
            learn: match leg.asymmetric {
                true => Learn::Off,
                false => self.learn,
            },
            handover: self.handover,
            hint: leg
                .hint
                .or(own.remote.map(|at| at.ip()).filter(|_| leg.waits)),
            gate_open: self.lets_pass(media, side) && !only_nothing,
            signal: leg.signal,
            clock_hz: media.clock_hz,
            dscp: self.mark,
            payload_types: match only_events {
                Some(event) => 1 << event,
                None => self.payload_types(idx),
            },
            strict_payload: self.strict_payload || only_events.is_some(),
            event_type,
            shared: media.shared(),
            secure: media.has_proto("SAVP"),
            class: media.class(),
            capture: false,
            feed: feed(locals[side]),
            mid: mid(media, side).filter(|_| self.is_shared(idx, side)),
            ice,
            drop_events: leg.blocked.dtmf,
            // Checks open a NAT by themselves.
            pierce: leg.pierces && ice.is_none(),
            leg: self.number.wrapping_mul(2).wrapping_add(side as u16),
            media: idx as u16,
        };
        let (is_muxed, leaves_muxed) = (media.is_muxed(side), media.is_muxed(1 - side));
        if !media.has_rtcp || is_muxed && leaves_muxed {
            return [Some(rtp), None];
        }
        let rtcp = Stream {
            local: rtp.local.rtcp(),
            peer: match leaves_muxed {
                true => exit,
                false => locals[1 - side].rtcp(),
            },
            remote: match is_muxed {
                true => own.remote,
                false => own.remote_rtcp,
            },
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
            feed: match is_muxed {
                true => Feed::PartOf(entry),
                false => Feed::Own,
            },
            mid: None,
            drop_events: false,
            ..rtp
        };
        [Some(rtp), Some(rtcp)]
    }

    /// Whether media of leg `side` goes anywhere, telephone events apart.
    pub(crate) fn lets_pass(&self, media: &Media, side: usize) -> bool {
        let (own, other) = (&self.legs[side], &self.legs[1 - side]);
        // Who hears himself hears nobody else.
        let is_drowned = other.echoed && !own.echoed;
        let is_held = own.blocked.silence || self.dropped || is_drowned;
        media.gate_open(side) && !is_held
    }

    /// Whether other sections use the same port on that side.
    fn is_shared(&self, idx: usize, side: usize) -> bool {
        let head = self.head(idx, side);
        let uses = |other| other != idx && self.head(other, side) == head;
        (0..self.medias.len()).any(uses)
    }

    /// The types that may pass: where both legs bundle, those of the whole bundle.
    fn payload_types(&self, idx: usize) -> u128 {
        let joined = |other: &usize| (0..2).all(|side| self.head(*other, side) == idx);
        let all = (0..self.medias.len()).filter(joined);
        all.fold(self.medias[idx].payload_types(), |set, other| {
            set | self.medias[other].payload_types()
        })
    }
}

/// How packets of a bundled section name it.
fn mid(media: &Media, side: usize) -> Option<Mid> {
    let own = &media.sides[side];
    let word = own.mid.as_deref().filter(|_| own.mid_extension != 0)?;
    let mut name = [0; 8];
    name.get_mut(..word.len())?.copy_from_slice(word.as_bytes());
    Some(Mid {
        extension: own.mid_extension,
        name,
    })
}
