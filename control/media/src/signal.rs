//! Offer and answer (RFC 3264) against a working copy of the call.

use crate::call::{Blocked, Call, Dialog, Leg, Media};
use crate::diff::Learn;
use crate::family::{Facing, Family, facing};
use crate::hear::{check_family, clock, convert, is_of, transport_of};
use crate::leave::Phase;
use crate::options::{Options, Tos};
use crate::partner::Partner;
use crate::pool::Pools;
use crate::{Local, MAX_MEDIA, MediaError, Now};
use penstock_sdp::Sdp;
use std::net::IpAddr;

/// Whose signalling it is.
#[derive(Clone, Copy, Debug)]
pub struct Parties<'a> {
    /// The Call-ID.
    pub call_id: &'a str,
    /// Tag of the leg that made the offer.
    pub from_tag: &'a str,
    /// Tag of the other leg, if known.
    pub to_tag: Option<&'a str>,
    /// Branch of the Via header, which tells forks of one offer apart.
    pub branch: Option<&'a str>,
}

/// A working copy of a call and the ports taken for it.
pub(crate) struct Work<'a> {
    pub(crate) call: Call,
    pub(crate) pools: &'a mut Pools,
    pub(crate) taken: Vec<Local>,
    pub(crate) now: Now,
}

impl Work<'_> {
    /// Applies an offer; returns the SDP for the other leg.
    pub(crate) fn offer(
        &mut self,
        parties: &Parties<'_>,
        sdp: &Sdp,
        options: &Options,
    ) -> Result<Vec<u8>, MediaError> {
        let found = self.call.find_offerer(parties).filter(|&(idx, from)| {
            let other = &self.call.dialogs[idx].legs[1 - from];
            let is_to = |to| other.has(to) || self.call.is_connected((idx, from), to);
            !options.new_branch || parties.to_tag.is_none_or(is_to)
        });
        let (idx, from) = match found {
            Some((idx, from)) => {
                self.name_leg(idx, from, parties.from_tag)?;
                (idx, from)
            }
            None => (self.add_dialog(parties, sdp, options)?, 0),
        };
        if let Some(to) = parties.to_tag
            && !self.call.is_connected((idx, from), to)
        {
            self.name_leg(idx, 1 - from, to)?;
        }
        let dialog = &mut self.call.dialogs[idx];
        dialog.is_reoffered = dialog.is_apart();
        dialog.learn = options.learn.unwrap_or_default();
        dialog.handover = options.handover;
        dialog.strict_payload = options.strict_payload;
        dialog.ptime_back = options.ptime_back;
        let is_new = dialog.hears(from, sdp.as_bytes(), self.now);
        dialog.legs[from].describe(is_new, options);
        dialog.steer(from, options, self.now);
        if let Some(label) = &options.to_label {
            dialog.legs[1 - from].label = Some(label.clone());
        }
        self.mark(options.tos);
        let dialog = &mut self.call.dialogs[idx];

        // What the offer no longer names is gone; the caller releases the ports.
        let mut positions = dialog.seen_by(from);
        for gone in positions
            .drain(sdp.media().len().min(positions.len())..)
            .rev()
        {
            // Others name sections by their position: one that stands before another stays, refused.
            match gone + 1 == dialog.medias.len() {
                true => drop(dialog.medias.pop()),
                false => {
                    dialog.medias[gone].sides[from].declined = true;
                    dialog.medias[gone].locals = None;
                }
            }
        }
        let next = dialog.medias.len();
        positions.extend(next..next + sdp.media().len() - positions.len());
        for (&position, offered) in positions.iter().zip(sdp.media()) {
            self.offer_media(idx, from, position, offered, is_new, options)?;
        }
        if self.call.media_count() > MAX_MEDIA {
            return Err(MediaError::TooManyMedia);
        }
        let dialog = &mut self.call.dialogs[idx];
        dialog.hear_session(from, (&positions, sdp), true);
        dialog.offer_mux(from, options);
        dialog.offer_ice(from, options);
        dialog.offer_bundle(from, options);
        self.alternate(idx, 1 - from, options);
        self.leave(idx, 1 - from, (&positions, sdp), options, Phase::Offer)
    }

    /// Applies an answer; returns the SDP for the leg that made the offer.
    pub(crate) fn answer(
        &mut self,
        parties: &Parties<'_>,
        sdp: &Sdp,
        options: &Options,
    ) -> Result<Vec<u8>, MediaError> {
        let (idx, offerer) = self
            .call
            .find_offered(parties)
            .ok_or(MediaError::UnknownTag)?;
        let side = 1 - offerer;
        let tag = parties.to_tag.unwrap_or_default();
        if !self.call.is_connected((idx, offerer), tag) {
            self.name_leg(idx, side, tag)?;
        }
        self.call.rejoin(idx, self.now);
        let dialog = &mut self.call.dialogs[idx];
        dialog.learn = options.learn.unwrap_or(dialog.learn);
        dialog.handover |= options.handover;
        dialog.strict_payload |= options.strict_payload;
        let positions = dialog.seen_by(side);
        let (answered, offered) = (sdp.media().len(), positions.len());
        if answered > offered {
            return Err(MediaError::AnswerCount { answered, offered });
        }
        let is_new = dialog.hears(side, sdp.as_bytes(), self.now);
        dialog.legs[side].describe(is_new, options);
        dialog.steer(side, options, self.now);
        self.mark(options.tos);
        let dialog = &mut self.call.dialogs[idx];
        for (&position, said) in positions.iter().zip(sdp.media()) {
            let media = &mut dialog.medias[position];
            media.sides[side].hear(said, options)?;
            let told = &mut media.sides[offerer].proto;
            if options.accept_protocol && convert(&said.proto, told).is_some() {
                told.clone_from(&said.proto);
            }
            let (name, family) = dialog.legs[side].facing();
            let local = media.locals.map(|locals| Family::of(locals[side].ip));
            check_family(&media.sides[side], &(name, local.or(family)))?;
        }
        dialog.hear_session(side, (&positions, sdp), false);
        // Whoever answers was offered our credentials: they stand, whoever it is.
        dialog.legs[side].restarts = false;
        dialog.answer_mux(offerer);
        dialog.answer_ice(offerer, options);
        dialog.answer_bundle(offerer, options);
        self.alternate(idx, offerer, options);
        self.leave(idx, offerer, (&positions, sdp), options, Phase::Answer)
    }

    fn add_dialog(
        &mut self,
        parties: &Parties<'_>,
        sdp: &Sdp,
        options: &Options,
    ) -> Result<usize, MediaError> {
        let faced = facing(self.pools, sdp, options)?;
        let legs = faced.map(|facing| Leg::new(facing, self.now));
        self.push_dialog(parties.call_id, legs)?;
        let idx = self.call.dialogs.len() - 1;
        self.call.dialogs[idx].branch = parties.branch.map(str::to_owned);
        self.name_leg(idx, 0, parties.from_tag)?;
        Ok(idx)
    }

    pub(crate) fn push_dialog(&mut self, call_id: &str, legs: [Leg; 2]) -> Result<(), MediaError> {
        if !self.call.has_room_for_tags(2) {
            return Err(MediaError::TooManyTags);
        }
        let mut dialog = Dialog::new(self.call.next_dialog, legs);
        dialog.call_id = Some(call_id.to_owned()).filter(|id| *id != self.call.id);
        self.call.dialogs.push(dialog);
        self.call.next_dialog = self.call.next_dialog.wrapping_add(1);
        Ok(())
    }

    /// One marking for the whole call, as rtpengine has it.
    pub(crate) fn mark(&mut self, tos: Tos) {
        let mark = match tos {
            Tos::Keep => return,
            Tos::Default => None,
            Tos::Dscp(dscp) => Some(dscp & 63),
        };
        for dialog in &mut self.call.dialogs {
            dialog.mark = mark;
        }
    }

    /// Makes `tag` the leg's last; a tag it had not is an alias of those it had (a fork).
    pub(crate) fn name_leg(
        &mut self,
        idx: usize,
        side: usize,
        tag: &str,
    ) -> Result<(), MediaError> {
        let leg = &self.call.dialogs[idx].legs[side];
        if !leg.tags.is_empty() && !leg.has(tag) && !self.call.has_room_for_tags(1) {
            return Err(MediaError::TooManyTags);
        }
        let tags = &mut self.call.dialogs[idx].legs[side].tags;
        tags.retain(|known| known != tag);
        tags.push(tag.to_owned());
        Ok(())
    }

    /// A pair of ports at what faces the leg.
    pub(crate) fn take(&mut self, facing: &Facing) -> Result<Local, MediaError> {
        let (name, family) = facing;
        let local = self.pools.take(name, *family, self.now.mono);
        let local = local.ok_or(MediaError::OutOfPorts)?;
        self.taken.push(local);
        Ok(local)
    }

    /// What faces either leg in one section: what it has, else the family of the address `said` if the interface has
    /// one, for the other leg too unless it is to be faced by another family than the one that offers.
    fn faced(&self, idx: usize, from: usize, position: usize, said: Option<IpAddr>) -> [Facing; 2] {
        let dialog = &self.call.dialogs[idx];
        let locals = dialog.medias.get(position).and_then(|media| media.locals);
        let is_bridged = dialog.legs[0].family != dialog.legs[1].family;
        let spoken = said.filter(|said| !said.is_unspecified()).map(Family::of);
        [0, 1].map(|side| {
            let (name, family) = dialog.legs[side].facing();
            let own = match locals {
                Some(locals) => Some(Family::of(locals[side].ip)),
                None if is_bridged && side != from => None,
                None => spoken.filter(|own| self.pools.facing(&name, Some(*own)).is_some()),
            };
            (name, own.or(family))
        })
    }

    pub(crate) fn offer_media(
        &mut self,
        idx: usize,
        from: usize,
        position: usize,
        offered: &penstock_sdp::Media,
        is_new: bool,
        options: &Options,
    ) -> Result<(), MediaError> {
        let dialog = &mut self.call.dialogs[idx];
        if position == dialog.medias.len() {
            dialog.medias.push(Media::new(offered));
        }
        let faced = self.faced(
            idx,
            from,
            position,
            options.source_address.or(offered.address),
        );
        let dialog = &mut self.call.dialogs[idx];
        let media = &mut dialog.medias[position];
        if !media.is_like(offered) {
            // Another kind of media in an old place (RFC 3264 section 8.3.3): the ports stay.
            *media = Media {
                locals: media.locals,
                alternates: std::mem::take(&mut media.alternates),
                ..Media::new(offered)
            };
        }
        if options.remove.iter().any(|kind| is_of(kind, &offered.kind))
            && media.hidden_from.is_none()
        {
            media.hidden_from = Some(1 - from);
        }
        let before = media.sides[from].remote;
        media.sides[from].hear(offered, options)?;
        media.sides[from].declined |= media.hidden_from.is_some();
        let has_moved = before.is_some() && media.sides[from].remote != before;
        check_family(&media.sides[from], &faced[from])?;
        media.clock_hz = clock(offered);
        if is_new {
            media.sides[1 - from].declined = false;
        }
        let transport = &mut dialog.legs[1 - from].transport;
        media.sides[1 - from].proto = transport_of(offered, options, transport)?;
        if media.sides[from].declined {
            media.locals = None;
            media.alternates = Default::default();
            return Ok(());
        }
        let has_ports = media.locals.is_some();
        if !has_ports {
            let first = self.take(&faced[0])?;
            let locals = match self.call.dialogs[idx].published {
                // Nobody is faced by a second one.
                true => [first; 2],
                false => [first, self.take(&faced[1])?],
            };
            let media = &mut self.call.dialogs[idx].medias[position];
            media.locals = Some(locals);
            for (side, local) in media.sides.iter_mut().zip(locals) {
                side.is_faced_by(Family::of(local.ip));
            }
        } else if options.fresh_ports && has_moved && !self.call.dialogs[idx].published {
            let local = self.take(&faced[1 - from])?;
            let media = &mut self.call.dialogs[idx].medias[position];
            media.alternates[1 - from].clear();
            if let Some(locals) = &mut media.locals {
                locals[1 - from] = local;
            }
        }
        Ok(())
    }
}

impl Dialog {
    fn new(number: u16, legs: [Leg; 2]) -> Dialog {
        Dialog {
            number,
            call_id: None,
            legs,
            medias: Vec::new(),
            heard_ns: 0,
            learn: Learn::default(),
            handover: false,
            strict_payload: false,
            mark: None,
            branch: None,
            published: false,
            dropped: false,
            is_reoffered: false,
            accepts_bundle: false,
            rejects_ice: false,
            ptime_back: None,
            ends_us: None,
        }
    }

    /// Takes over what a message of leg `side` says of the dialog's media as a whole.
    fn steer(&mut self, side: usize, options: &Options, now: Now) {
        let ways = |dialog: &Dialog| (dialog.dropped, [0, 1].map(|s| dialog.legs[s].echoed));
        let before = ways(self);
        self.dropped = options.drop.unwrap_or(self.dropped);
        if let Some([own, other]) = options.echo {
            self.legs[side].echoed = own;
            self.legs[1 - side].echoed = other;
        }
        if ways(self) != before {
            self.expects_anew(now);
        }
    }

    /// Other packets are expected from now on.
    pub(crate) fn expects_anew(&mut self, now: Now) {
        self.heard_ns = now.mono.as_nanos() as u64;
    }

    /// The sections that the SDP of a leg has.
    pub(crate) fn seen_by(&self, side: usize) -> Vec<usize> {
        let is_seen = |&idx: &usize| self.medias[idx].hidden_from != Some(side);
        (0..self.medias.len()).filter(is_seen).collect()
    }

    /// Notes a body of leg `side`; false if it is the one heard last.
    pub(crate) fn hears(&mut self, side: usize, body: &[u8], now: Now) -> bool {
        let is_new = self.legs[side].hears(body);
        self.ends_us = None;
        if is_new {
            self.expects_anew(now);
        }
        is_new
    }
}

impl Leg {
    pub(crate) fn new((interface, family): Facing, now: Now) -> Leg {
        Leg {
            tags: Vec::new(),
            interface,
            family,
            signal: 0,
            body: 0,
            created_us: now.unix_us,
            asymmetric: false,
            hint: None,
            partner: Partner::Own,
            label: None,
            metadata: None,
            blocked: Blocked::default(),
            echoed: false,
            waits: false,
            pierces: false,
            ice: None,
            restarts: false,
            transport: None,
            told: Default::default(),
        }
    }

    pub(crate) fn facing(&self) -> Facing {
        (self.interface.clone(), self.family)
    }

    /// Takes over what signalling says of the leg itself.
    pub(crate) fn describe(&mut self, is_new: bool, options: &Options) {
        self.asymmetric = options.asymmetric.unwrap_or(self.asymmetric);
        self.hint = options.hint.or(self.hint);
        if options.label.is_some() {
            self.label.clone_from(&options.label);
        }
        if options.metadata.is_some() {
            self.metadata.clone_from(&options.metadata);
        }
        self.waits |= options.wait;
        self.pierces |= options.pierce;
        self.blocked.media |= options.block.media;
        self.blocked.silence |= options.block.silence;
        self.blocked.dtmf |= options.block.dtmf;
        if options.reset && !is_new {
            self.signal = self.signal.wrapping_add(1);
        }
    }

    /// Notes a body; false if it is the one heard last, so that a retransmission changes nothing.
    pub(crate) fn hears(&mut self, body: &[u8]) -> bool {
        let hash = crate::leave::hash(body);
        let is_new = self.body != hash;
        if is_new {
            self.body = hash;
            self.signal = self.signal.wrapping_add(1);
        }
        is_new
    }
}
