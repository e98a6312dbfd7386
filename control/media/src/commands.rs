//! What is done to calls besides offer and answer.

use crate::call::{Blocked, Call, Dialog, Leg};
use crate::calls::{Calls, Pending};
use crate::family::facing;
use crate::fork::{Fork, ForkMedia, MAX_FORKS};
use crate::leave::Phase;
use crate::options::Options;
use crate::partner::LegMedia;
use crate::signal::{Parties, Work};
use crate::{MediaError, Now};
use penstock_sdp::Sdp;
use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

/// Legs of a call; `None` is any.
#[derive(Clone, Copy, Debug, Default)]
pub struct Selector<'a> {
    /// One of its tags.
    pub tag: Option<&'a str>,
    /// Its label.
    pub label: Option<&'a str>,
    /// An address it named for its media.
    pub address: Option<IpAddr>,
    /// Whether what it sends was published, or came by offer and answer.
    pub published: Option<bool>,
}

/// What was subscribed to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subscribed {
    /// Tags of the legs that are copied.
    pub from_tags: Vec<String>,
    /// The sections of the offer, in order.
    pub sections: Vec<Section>,
}

/// What a section of a subscription's offer is a copy of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Section {
    /// Tag of the leg.
    pub tag: String,
    /// Label of the leg.
    pub label: Option<String>,
    /// Position of the section in the leg's SDP, from 1.
    pub index: usize,
    /// First word of its m= line.
    pub kind: String,
    /// Its mid (RFC 5888).
    pub media_label: Option<String>,
}

impl Selector<'static> {
    /// Everybody who published media, or nobody of them.
    pub fn published(published: bool) -> Self {
        Selector {
            published: Some(published),
            ..Selector::default()
        }
    }
}

impl Selector<'_> {
    pub(crate) fn fits(&self, dialog: &Dialog, side: usize) -> bool {
        let leg = &dialog.legs[side];
        let at = |address| {
            let remotes = dialog.medias.iter().filter_map(|m| m.sides[side].remote);
            remotes.into_iter().any(|remote| remote.ip() == address)
        };
        self.names(leg)
            && self.address.is_none_or(at)
            && self.published.is_none_or(|it| it == dialog.published)
    }

    pub(crate) fn fits_fork(&self, fork: &Fork) -> bool {
        let at = |address| {
            let remotes = fork.medias.iter().filter_map(|media| media.remote);
            remotes.into_iter().any(|remote| remote.ip() == address)
        };
        self.names(&fork.leg) && self.address.is_none_or(at)
    }

    fn names(&self, leg: &Leg) -> bool {
        self.tag.is_none_or(|tag| leg.has(tag))
            && self
                .label
                .is_none_or(|label| leg.label.as_deref() == Some(label))
    }

    pub(crate) fn is_anybody(&self) -> bool {
        self.tag.is_none() && self.label.is_none() && self.address.is_none()
    }
}

impl Calls {
    /// Prepares the end of the dialogs that were made with a Call-ID, or of those of them that fit the tags; and the
    /// branch; with a delay, that they end by themselves later. Tags of two legs that were connected mean the dialogs of both,
    /// if either is of the Call-ID.
    ///
    /// # Errors
    /// [`MediaError::NoMatch`].
    pub fn delete(
        &mut self,
        call_id: &str,
        (from_tag, to_tag): (Option<&str>, Option<&str>),
        branch: Option<&str>,
        delay: Duration,
        now: Now,
    ) -> Result<Pending, MediaError> {
        let before = self.shared(call_id).ok_or(MediaError::NoMatch)?;
        let has = |leg: &Leg, tag: Option<&str>| tag.is_none_or(|tag| leg.has(tag));
        let is_own = |dialog: &Dialog| before.id_of(dialog) == call_id;
        let connected = |dialog: &Dialog| {
            let (Some(from), Some(to)) = (from_tag, to_tag) else {
                return false;
            };
            let mut sides = dialog.sides();
            sides.any(|side| {
                let partner = before.partner(dialog, side);
                let is_called = |own, other| {
                    before.is_called(call_id, (dialog, side), own)
                        && partner.is_some_and(|leg| before.is_called(call_id, leg, other))
                };
                (is_own(dialog) || partner.is_some_and(|(theirs, _)| is_own(theirs)))
                    && (is_called(from, to) || is_called(to, from))
            })
        };
        let ends = |dialog: &Dialog| {
            let [a, b] = &dialog.legs;
            // A leg that has not answered yet fits any to-tag.
            let fits = |from: &Leg, to: &Leg| {
                has(from, from_tag) && (has(to, to_tag) || to.tags.is_empty())
            };
            let is_meant = match from_tag.or(to_tag) {
                Some(_) => is_own(dialog) && (fits(a, b) || fits(b, a)) || connected(dialog),
                None => is_own(dialog),
            };
            dialog.is_of(branch) && is_meant
        };
        // Of a call of which nothing is left no copy is needed.
        if delay.is_zero() && before.dialogs.iter().all(ends) {
            return Ok(gone(before));
        }
        let forked = |fork: &Fork| {
            before.id_of_fork(fork) == call_id && from_tag.is_some_and(|tag| fork.leg.has(tag))
        };
        let mut call = Call::clone(before);
        call.last_signal_us = now.unix_us;
        // A subscription has no answer to wait for.
        call.forks.retain(|fork| !forked(fork));
        if delay.is_zero() {
            call.dialogs.retain(|dialog| !ends(dialog));
            let counts = |call: &Call| (call.dialogs.len(), call.forks.len());
            if counts(&call) == counts(before) {
                return Err(MediaError::NoMatch);
            }
        } else {
            let ends_us = now.unix_us.saturating_add(delay.as_micros() as u64);
            let mut any = call.forks.len() < before.forks.len();
            for dialog in call.dialogs.iter_mut().filter(|dialog| ends(dialog)) {
                let sooner = dialog.ends_us.filter(|stands| *stands < ends_us);
                dialog.ends_us = sooner.or(Some(ends_us));
                any = true;
            }
            if !any {
                return Err(MediaError::NoMatch);
            }
        }
        Ok(ended(before.clone(), call))
    }

    /// Prepares the end of a call as a whole, whichever Call-IDs it goes by; `None` if there is none.
    pub fn end(&self, key: u64) -> Option<Pending> {
        Some(gone(self.shared_by_key(key)?))
    }

    /// Prepares the end of the dialogs whose delay is over; `None` if there are none.
    pub fn expire(&self, key: u64, now: Now) -> Option<Pending> {
        let before = self.shared_by_key(key)?;
        if !before.is_expired(now) {
            return None;
        }
        let mut call = Call::clone(before);
        call.dialogs.retain(|dialog| !dialog.is_expired(now));
        Some(ended(before.clone(), call))
    }

    /// Prepares a leg that only sends, for others to subscribe to; the SDP is our answer to it.
    ///
    /// # Errors
    /// [`MediaError`]; nothing stays taken.
    pub fn publish(
        &mut self,
        parties: &Parties<'_>,
        sdp: &[u8],
        options: &Options,
        now: Now,
    ) -> Result<Pending, MediaError> {
        self.begin(parties, sdp, options, now, |work, sdp| {
            work.publish(parties, sdp, options)
        })
    }

    /// Prepares that copies of what legs send go to somebody else, once he has answered; the SDP is the offer for
    /// him. `tag` names the subscription: one of that name under the Call-ID is replaced.
    ///
    /// # Errors
    /// [`MediaError`]; nothing stays taken.
    pub fn subscribe(
        &mut self,
        call_id: &str,
        from: &[Selector<'_>],
        tag: &str,
        options: &Options,
        now: Now,
    ) -> Result<(Pending, Subscribed), MediaError> {
        let before = self.shared(call_id).ok_or(MediaError::NoCall)?.clone();
        let mut subscribed = Subscribed::default();
        let pending = self.prepare_change(before, now, |work| {
            work.subscribe((call_id, tag), from, options, &mut subscribed)
        })?;
        Ok((pending, subscribed))
    }

    /// Prepares that a subscription of the Call-ID begins: its SDP answer says where copies go.
    ///
    /// # Errors
    /// [`MediaError`].
    pub fn subscribe_answer(
        &mut self,
        call_id: &str,
        tag: &str,
        sdp: &[u8],
        options: &Options,
        now: Now,
    ) -> Result<Pending, MediaError> {
        let before = self.shared(call_id).ok_or(MediaError::UnknownCall)?.clone();
        let sdp = Sdp::parse(sdp)?;
        self.prepare_change(before, now, |work| {
            work.subscribe_answer((call_id, tag), &sdp, options)
        })
    }

    /// Prepares the end of a subscription of the Call-ID.
    ///
    /// # Errors
    /// [`MediaError::UnknownCall`], [`MediaError::NoLeg`].
    pub fn unsubscribe(&self, call_id: &str, tag: &str) -> Result<Pending, MediaError> {
        let before = self.shared(call_id).ok_or(MediaError::UnknownCall)?;
        let is_meant = |fork: &Fork| before.id_of_fork(fork) == call_id && fork.leg.has(tag);
        let mut call = Call::clone(before);
        call.forks.retain(|fork| !is_meant(fork));
        match call.forks.len() == before.forks.len() {
            true => Err(MediaError::NoLeg),
            false => Ok(ended(before.clone(), call)),
        }
    }
}

/// Nothing is left of a call.
fn gone(before: &Rc<Call>) -> Pending {
    Pending::new(Some(before.clone()), None, Vec::new(), Vec::new())
}

/// What is left of a call: copies end with what they are copies of, a call with its last dialog.
fn ended(before: Rc<Call>, mut call: Call) -> Pending {
    call.forget_partners();
    call.forget_names();
    let numbers: Vec<u16> = call.dialogs.iter().map(|dialog| dialog.number).collect();
    for fork in &mut call.forks {
        fork.medias.retain(|media| numbers.contains(&media.dialog));
    }
    call.forks.retain(|fork| !fork.medias.is_empty());
    let after = Some(call).filter(|call| !call.dialogs.is_empty());
    Pending::new(Some(before), after, Vec::new(), Vec::new())
}

impl Work<'_> {
    fn publish(
        &mut self,
        parties: &Parties<'_>,
        sdp: &Sdp,
        options: &Options,
    ) -> Result<Vec<u8>, MediaError> {
        let call = &self.call;
        let is_own = |dialog: &Dialog| {
            call.id_of(dialog) == parties.call_id
                && dialog.published
                && dialog.legs[0].has(parties.from_tag)
        };
        let idx = match call.dialogs.iter().position(is_own) {
            Some(idx) => idx,
            None => {
                let faced = facing(self.pools, sdp, options)?;
                let legs = faced.map(|facing| Leg::new(facing, self.now));
                self.push_dialog(parties.call_id, legs)?;
                let idx = self.call.dialogs.len() - 1;
                self.call.dialogs[idx].published = true;
                self.name_leg(idx, 0, parties.from_tag)?;
                idx
            }
        };
        let dialog = &mut self.call.dialogs[idx];
        dialog.learn = options.learn.unwrap_or_default();
        dialog.rejects_ice = options.reject_ice;
        let is_new = dialog.hears(0, sdp.as_bytes(), self.now);
        dialog.legs[0].describe(is_new, options);
        self.mark(options.tos);
        self.call.dialogs[idx].medias.truncate(sdp.media().len());
        for (position, offered) in sdp.media().iter().enumerate() {
            self.offer_media(idx, 0, position, offered, is_new, options)?;
        }
        if self.call.media_count() > crate::MAX_MEDIA {
            return Err(MediaError::TooManyMedia);
        }
        let dialog = &mut self.call.dialogs[idx];
        let positions: Vec<usize> = (0..dialog.medias.len()).collect();
        dialog.hear_session(0, (&positions, sdp), true);
        for media in &mut dialog.medias {
            let own = &mut media.sides[0];
            own.told_mux = own.mux;
        }
        dialog.answer_ice(0, options);
        self.alternate(idx, 0, options);
        self.leave(idx, 0, (&positions, sdp), options, Phase::Published)
    }

    fn subscribe(
        &mut self,
        (call_id, tag): (&str, &str),
        from: &[Selector<'_>],
        options: &Options,
        subscribed: &mut Subscribed,
    ) -> Result<Vec<u8>, MediaError> {
        let own_id = Some(call_id.to_owned()).filter(|id| *id != self.call.id);
        let is_replaced = |fork: &Fork| fork.call_id == own_id && fork.leg.has(tag);
        self.call.forks.retain(|fork| !is_replaced(fork));
        if self.call.forks.len() >= MAX_FORKS || !self.call.has_room_for_tags(1) {
            return Err(MediaError::TooManyTags);
        }
        let call = self.call.clone();
        let mut sources = Vec::new();
        let mut meant: Vec<_> = from
            .iter()
            .flat_map(|who| call.meant(call_id, who))
            .collect();
        meant.sort_unstable();
        meant.dedup();
        for (idx, side) in meant {
            let dialog = &call.dialogs[idx];
            let source = match options.egress {
                true => call.partner(dialog, side),
                false => Some((dialog, side)),
            };
            sources.extend(source.filter(|(source, at)| source.legs[*at].signal > 0));
        }
        let Some((dialog, side)) = sources.first() else {
            return Err(MediaError::NoLeg);
        };
        let name = options.direction[1]
            .as_ref()
            .or(options.direction[0].as_ref());
        let own = dialog.legs[*side].facing();
        let facing = match name {
            Some(name) => {
                let full = self.pools.resolve(name);
                let full = full.ok_or_else(|| MediaError::UnknownInterface(name.clone()))?;
                (full, options.address_family)
            }
            None => (own.0, options.address_family.or(own.1)),
        };
        let mut leg = Leg::new(facing.clone(), self.now);
        leg.tags.push(tag.to_owned());
        leg.label.clone_from(&options.label);
        let mut fork = Fork {
            number: self.call.next_dialog,
            call_id: own_id,
            leg,
            medias: Vec::new(),
        };
        self.call.next_dialog = self.call.next_dialog.wrapping_add(1);
        let mut body = String::new();
        for (dialog, side) in &sources {
            let leg = &dialog.legs[*side];
            let tag = leg.tags.last().cloned().unwrap_or_default();
            subscribed.from_tags.push(tag.clone());
            for (near, far) in call.leg_medias(dialog, *side) {
                let media = near.media();
                let idx = near.idx as u16;
                if !media.is_relayed() {
                    continue;
                }
                if media.has_proto("SAVP") {
                    return Err(MediaError::Encrypted);
                }
                let local = self.take(&facing)?;
                let own = &media.sides[*side];
                subscribed.sections.push(Section {
                    tag: tag.clone(),
                    label: leg.label.clone(),
                    index: usize::from(idx) + 1,
                    kind: media.name.clone(),
                    media_label: own.mid.clone(),
                });
                fork.medias.push(ForkMedia {
                    dialog: dialog.number,
                    side: *side,
                    media: idx,
                    local,
                    remote: None,
                    remote_rtcp: None,
                    receives: false,
                    blocked: Blocked::default(),
                });
                let advertise = self.pools.of(local).map_or(local.ip, |i| i.advertise);
                let address = options.media_address.unwrap_or(advertise);
                let at = SocketAddr::new(address, local.port);
                let is_muxed = !call.reports_apart(&near, far.as_ref());
                section(&mut body, &near, is_muxed, at, options.inactive);
            }
        }
        let Some(first) = fork.medias.first() else {
            return Err(MediaError::NoLeg);
        };
        let address = self
            .pools
            .of(first.local)
            .map_or(first.local.ip, |i| i.advertise);
        let family = if address.is_ipv4() { "IP4" } else { "IP6" };
        let id = self.call.key;
        let head = format!("v=0\r\no=- {id} 1 IN {family} {address}\r\ns=-\r\nt=0 0\r\n");
        self.call.forks.push(fork);
        if self.call.media_count() > crate::MAX_MEDIA {
            return Err(MediaError::TooManyMedia);
        }
        Ok((head + &body).into_bytes())
    }

    fn subscribe_answer(
        &mut self,
        (call_id, tag): (&str, &str),
        sdp: &Sdp,
        options: &Options,
    ) -> Result<Vec<u8>, MediaError> {
        let own_id = Some(call_id.to_owned()).filter(|id| *id != self.call.id);
        let mut forks = self.call.forks.iter_mut();
        let found = forks.find(|fork| fork.call_id == own_id && fork.leg.has(tag));
        let fork = found.ok_or(MediaError::NoLeg)?;
        let (answered, offered) = (sdp.media().len(), fork.medias.len());
        if answered > offered {
            return Err(MediaError::AnswerCount { answered, offered });
        }
        fork.leg.hears(sdp.as_bytes());
        for (media, said) in fork.medias.iter_mut().zip(sdp.media()) {
            let mut side = crate::call::Side::default();
            side.hear(said, options)?;
            crate::hear::check_family(&side, &fork.leg.facing())?;
            media.receives = side.receives && !side.declined;
            media.remote = side.remote;
            let apart = side.remote_rtcp.filter(|_| !side.mux);
            media.remote_rtcp = apart.or(side.remote);
        }
        Ok(Vec::new())
    }
}

/// One section of the offer for who subscribes: what the leg sends, as it described it.
fn section(
    body: &mut String,
    near: &LegMedia<'_>,
    is_muxed: bool,
    at: SocketAddr,
    is_paused: bool,
) {
    let (media, own) = (near.media(), near.own());
    let (address, port) = (at.ip(), at.port());
    let family = if address.is_ipv4() { "IP4" } else { "IP6" };
    let formats = own.formats.join(" ");
    // Writing to a String does not fail.
    let _ = write!(
        body,
        "m={} {port} {} {formats}\r\nc=IN {family} {address}\r\n",
        media.name, own.proto
    );
    for line in &own.described {
        let _ = write!(body, "a={line}\r\n");
    }
    body.push_str(match is_paused {
        true => "a=inactive\r\n",
        false => "a=sendonly\r\n",
    });
    // Reports that come with the media leave with the copies of it.
    let _ = match (media.has_rtcp, is_muxed) {
        (false, _) => Ok(()),
        (true, false) => write!(body, "a=rtcp:{}\r\n", port | 1),
        (true, true) => write!(body, "a=rtcp:{port}\r\na=rtcp-mux\r\n"),
    };
}
