//! From what is remembered of a dialog to the streams it wants.
//!
//! A leg that multiplexes (RFC 5761) or bundles (RFC 9143) has fewer ports than the relay has streams: what
//! has no port of its own there is a part of what arrives at another one ([`Feed::PartOf`]), and what
//! is sent to that leg leaves from that one.

use crate::Local;
use crate::call::{Call, Dialog, Side};
use crate::diff::{Class, Desired, Feed, Kind, Learn, Mid, Shared, Stream};
use crate::fork::ForkMedia;
use crate::partner::LegMedia;

impl Dialog {
    pub(crate) fn streams(&self, call: &Call, into: &mut Desired) {
        for side in self.sides() {
            let medias = call.leg_medias(self, side);
            for (near, far) in &medias {
                let joined = far.is_some_and(|far| near.is_bundled() && far.is_bundled());
                if !near.media().is_relayed() || joined {
                    continue;
                }
                let is_apart = call.reports_apart(near, far.as_ref());
                near.pair(far.as_ref(), &medias, is_apart, |stream| {
                    self.alternates(near.idx, side, &stream, into);
                    into.insert(stream.local, stream);
                });
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
}

impl Call {
    /// Whether RTCP of a section has a stream of its own; `far` is who hears it, and those who get copies are the others.
    pub(crate) fn reports_apart(&self, near: &LegMedia<'_>, far: Option<&LegMedia<'_>>) -> bool {
        let is_copied = |media: &ForkMedia| {
            (media.dialog, media.side) == (near.dialog.number, near.side)
                && usize::from(media.media) == near.idx
        };
        let mut copies = self.forks.iter().flat_map(|fork| &fork.medias);
        let is_alone = !near.is_muxed() || !far.is_some_and(LegMedia::is_muxed);
        near.media().has_rtcp
            && (is_alone || copies.any(|media| is_copied(media) && !media.is_muxed()))
    }
}

impl LegMedia<'_> {
    fn head(&self) -> usize {
        self.dialog.head(self.idx, self.side)
    }

    /// Whether it uses another section's port.
    fn is_bundled(&self) -> bool {
        self.head() != self.idx
    }

    fn entry(&self) -> Option<Local> {
        self.dialog.entry(self.idx, self.side)
    }

    fn is_muxed(&self) -> bool {
        self.media().is_muxed(self.side)
    }

    /// Hands over the streams that carry what the leg sends to `far`: RTP, and RTCP if that has a stream of its own. `medias`
    /// are all of the leg.
    fn pair(
        &self,
        far: Option<&LegMedia<'_>>,
        medias: &[(LegMedia<'_>, Option<LegMedia<'_>>)],
        is_apart: bool,
        mut put: impl FnMut(Stream),
    ) {
        let media = self.media();
        let (Some(locals), Some(entry)) = (media.locals, self.entry()) else {
            return;
        };
        let local = locals[self.side];
        // No packet leaves from port 0.
        let nobody = Local { port: 0, ..local };
        let exit = far.and_then(LegMedia::entry).unwrap_or(nobody);
        let (own, leg) = (self.own(), self.leg());
        let feed = |local: Local| match entry == locals[self.side] {
            true if local == entry => Feed::Own,
            _ => Feed::PartOf(entry),
        };
        // What it sends is what the other leg announced (RFC 3264 section 5.1).
        let event_type = far.and_then(|far| far.own().event_type).or(own.event_type);
        // Telephone events pass where media is blocked.
        let only_events = event_type.filter(|_| leg.blocked.media && media.kind == Kind::Rtp);
        let only_nothing = leg.blocked.media && only_events.is_none();
        let checks = own.told_ice && own.ice.is_some() && !own.ice_lite;
        let ice = leg.ice.filter(|_| checks);
        let rtp = Stream {
            local,
            peer: if leg.echoed { entry } else { exit },
            // Who sends nothing before he is sent something is not waited for.
            remote: own.remote.filter(|_| !leg.waits),
            kind: media.kind,
            learn: match leg.asymmetric {
                true => Learn::Off,
                false => self.dialog.learn,
            },
            handover: self.dialog.handover,
            hint: leg
                .hint
                .or(own.remote.map(|at| at.ip()).filter(|_| leg.waits)),
            gate_open: self.lets_pass(far) && !only_nothing,
            signal: leg.signal,
            clock_hz: media.clock_hz,
            dscp: self.dialog.mark,
            payload_types: match only_events {
                Some(event) => 1 << event,
                None => self.payload_types(far, medias),
            },
            strict_payload: self.dialog.strict_payload || only_events.is_some(),
            event_type,
            shared: media.shared(),
            secure: media.has_proto("SAVP"),
            class: media.class(),
            capture: false,
            feed: feed(local),
            mid: mid(own).filter(|_| self.is_shared()),
            ice,
            drop_events: leg.blocked.dtmf,
            // Checks open a NAT by themselves.
            pierce: leg.pierces && ice.is_none(),
            leg: self.number(),
            media: self.idx as u16,
        };
        put(rtp);
        if !is_apart {
            return;
        }
        let is_muxed = self.is_muxed();
        put(Stream {
            local: rtp.local.rtcp(),
            peer: match far {
                None => nobody,
                Some(far) if far.is_muxed() => exit,
                Some(far) => far.media().locals.map_or(nobody, |l| l[far.side].rtcp()),
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
        });
    }

    /// Whether its media goes on to `far`, or to copies alone, telephone events apart.
    pub(crate) fn lets_pass(&self, far: Option<&LegMedia<'_>>) -> bool {
        let echoed = |media: &LegMedia<'_>| media.leg().echoed;
        // Who hears himself hears nobody else.
        let is_drowned = far.is_some_and(echoed) && !self.leg().echoed;
        let is_dropped = self.dialog.dropped || far.is_some_and(|far| far.dialog.dropped);
        let receives = far.is_none_or(|far| far.own().receives);
        let is_held = self.leg().blocked.silence || is_dropped || is_drowned;
        self.own().sends && receives && !is_held
    }

    /// Whether other sections use the same port on its side.
    fn is_shared(&self) -> bool {
        let uses = |idx| idx != self.idx && self.dialog.head(idx, self.side) == self.head();
        (0..self.dialog.medias.len()).any(uses)
    }

    /// The types that may pass, those that either leg announced: what is sent by numbers of one's own is as good. Where
    /// both legs bundle, those of the whole bundle.
    fn payload_types(
        &self,
        far: Option<&LegMedia<'_>>,
        medias: &[(LegMedia<'_>, Option<LegMedia<'_>>)],
    ) -> u128 {
        let joined = |(near, other): &(LegMedia<'_>, Option<LegMedia<'_>>)| {
            let (Some(far), Some(other)) = (far, other) else {
                return false;
            };
            near.idx != self.idx && near.head() == self.idx && other.head() == far.idx
        };
        let all = medias.iter().filter(|media| joined(media));
        all.fold(announced(self, far), |set, (near, far)| {
            set | announced(near, far.as_ref())
        })
    }
}

/// The payload types of RTP that legs announced for a section.
fn announced(near: &LegMedia<'_>, far: Option<&LegMedia<'_>>) -> u128 {
    let sides = std::iter::once(near.own()).chain(far.map(LegMedia::own));
    let all = sides.flat_map(|side| &side.payload_types);
    match near.media().kind {
        Kind::Rtp => all.fold(0, |set, number| set | 1 << (number & 127)),
        Kind::Rtcp | Kind::Raw => 0,
    }
}

/// How packets of a bundled section name it.
fn mid(own: &Side) -> Option<Mid> {
    let word = own.mid.as_deref().filter(|_| own.mid_extension != 0)?;
    let mut name = [0; 8];
    name.get_mut(..word.len())?.copy_from_slice(word.as_bytes());
    Some(Mid {
        extension: own.mid_extension,
        name,
    })
}
