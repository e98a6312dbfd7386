//! Legs of different dialogs that are to hear each other, and calls that become one for it.
//!
//! The dialogs stay as they are: signalling, deletes and records go on by them, and so do the streams, with what they have
//! counted and learned. All that changes is who hears whom ([`Partner`]). Whoever was heard before hears nobody, until an
//! offer and an answer bring the legs of a dialog together again.
//!
//! Two calls become one: the second one's dialogs are the first one's from then on, and keep their Call-ID. The call goes by
//! each name until the last dialog of that Call-ID ends, and its region key is the first one's.

use crate::call::{Call, Dialog, Merged};
use crate::calls::{Calls, Pending};
use crate::commands::Selector;
use crate::fork::MAX_FORKS;
use crate::partner::{At, Partner};
use crate::{MAX_MEDIA, MAX_NAMES, MAX_PAIRS, MediaError, Now};
use std::rc::Rc;

/// Number of the last dialog of a call: its legs' have one bit more.
const MAX_DIALOG: u16 = u16::MAX >> 1;

impl Calls {
    /// Prepares that two legs, each named by Call-ID and tag, hear each other and nobody else. If they are of different
    /// calls, the second one's becomes a part of the first one's.
    ///
    /// # Errors
    /// [`MediaError::UnknownCall`], [`MediaError::UnknownTag`], [`MediaError::UnknownToTag`],
    /// [`MediaError::NothingInCommon`]; of two calls also [`MediaError::TagCollision`], [`MediaError::TooManyMedia`],
    /// [`MediaError::TooManyTags`], [`MediaError::TooManyNames`], [`MediaError::TooManyDialogs`].
    pub fn connect(
        &self,
        (call_id, tag): (&str, &str),
        (other_id, other_tag): (&str, &str),
        now: Now,
    ) -> Result<Pending, MediaError> {
        let before = self.shared(call_id).ok_or(MediaError::UnknownCall)?;
        let other = self.shared(other_id).ok_or(MediaError::UnknownCall)?;
        let one = before
            .find_tag(call_id, tag)
            .ok_or(MediaError::UnknownTag)?;
        let found = other.find_tag(other_id, other_tag);
        let (idx, side) = found.ok_or(MediaError::UnknownToTag)?;
        let mut call = Call::clone(before);
        let absorbed = (other.key != before.key).then_some(other);
        let first = match absorbed {
            Some(other) => call.absorb(other)?,
            None => 0,
        };
        call.join(one, (first + idx, side), now)?;
        call.last_signal_us = now.unix_us;
        let pending = Pending::new(Some(before.clone()), Some(call), Vec::new(), Vec::new());
        Ok(match absorbed {
            Some(other) => pending.absorbing(Rc::clone(other)),
            None => pending,
        })
    }
}

impl Call {
    /// The leg that a request by a Call-ID means by the tag. A tag is in several dialogs if its offer forked: the one whose
    /// partner has answered is meant, then one that was answered at all, then the latest.
    fn find_tag(&self, id: &str, tag: &str) -> Option<At> {
        let who = Selector {
            tag: Some(tag),
            ..Selector::default()
        };
        let found = self.meant(id, &who).into_iter();
        found.max_by_key(|&(idx, side)| {
            let dialog = &self.dialogs[idx];
            let partner = self.partner(dialog, side);
            let talks = partner.is_some_and(|(other, far)| other.legs[far].signal > 0);
            (talks, dialog.legs.iter().all(|leg| leg.signal > 0))
        })
    }

    /// Has two legs hear each other, and those that they heard before nobody.
    fn join(&mut self, one: At, other: At, now: Now) -> Result<(), MediaError> {
        // Signalling takes back a delete that has not come to pass.
        for (idx, _) in [one, other] {
            self.dialogs[idx].ends_us = None;
        }
        let dialog = &self.dialogs[one.0];
        let partner = self.partner(dialog, one.1);
        let wanted = &self.dialogs[other.0];
        if partner.is_some_and(|(found, side)| (found.number, side) == (wanted.number, other.1)) {
            return Ok(());
        }
        if one == other {
            return Err(MediaError::NothingInCommon);
        }
        self.part(one, now);
        self.part(other, now);
        let number = |(idx, side): At| self.dialogs[idx].leg_number(side);
        let partners = match one.0 == other.0 {
            true => [Partner::Own; 2],
            false => [other, one].map(|at| Partner::Leg(number(at))),
        };
        for ((idx, side), partner) in [one, other].into_iter().zip(partners) {
            let dialog = &mut self.dialogs[idx];
            dialog.legs[side].partner = partner;
            // The first answer is as one to a new offer.
            dialog.is_reoffered = dialog.sides().any(|side| dialog.legs[side].signal == 0);
            dialog.expects_anew(now);
        }
        let medias = self.leg_medias(&self.dialogs[one.0], one.1);
        match medias.iter().any(|(_, far)| far.is_some()) {
            true => Ok(()),
            false => Err(MediaError::NothingInCommon),
        }
    }

    /// Has a leg and the one it hears hear nobody.
    fn part(&mut self, (idx, side): At, now: Now) {
        let dialog = &self.dialogs[idx];
        let partner = self.partner(dialog, side);
        let partner = partner.and_then(|(other, side)| {
            let at = |dialog: &Dialog| dialog.number == other.number;
            self.dialogs.iter().position(at).map(|idx| (idx, side))
        });
        for (idx, side) in partner.into_iter().chain([(idx, side)]) {
            let dialog = &mut self.dialogs[idx];
            dialog.legs[side].partner = Partner::Nobody;
            dialog.expects_anew(now);
        }
    }

    /// An answer has come in this dialog: if an offer came before it, its legs hear each other again.
    pub(crate) fn rejoin(&mut self, idx: usize, now: Now) {
        let dialog = &self.dialogs[idx];
        if dialog.is_apart() && dialog.is_reoffered {
            (0..2).for_each(|side| self.part((idx, side), now));
            for leg in &mut self.dialogs[idx].legs {
                leg.partner = Partner::Own;
            }
        }
    }

    /// Has nobody name a leg that has left.
    pub(crate) fn forget_partners(&mut self) {
        let numbers: Vec<u16> = self.dialogs.iter().map(|d| d.leg_number(0)).collect();
        for leg in self.dialogs.iter_mut().flat_map(|d| &mut d.legs) {
            if let Partner::Leg(number) = leg.partner
                && !numbers.contains(&(number & !1))
            {
                leg.partner = Partner::Nobody;
            }
        }
    }

    /// Takes over all of another call's dialogs and subscriptions; returns where its dialogs begin.
    fn absorb(&mut self, other: &Call) -> Result<usize, MediaError> {
        let mut tags = other.legs().flat_map(|leg| &leg.tags);
        if tags.any(|tag| self.legs().any(|leg| leg.has(tag))) {
            return Err(MediaError::TagCollision);
        }
        if !self.has_room_for_tags(other.tag_count())
            || self.forks.len() + other.forks.len() > MAX_FORKS
        {
            return Err(MediaError::TooManyTags);
        }
        if self.media_count() + other.media_count() > MAX_MEDIA
            || self.locals().count() + other.locals().count() > MAX_PAIRS
        {
            return Err(MediaError::TooManyMedia);
        }
        if self.merged.len() + other.merged.len() + 2 > MAX_NAMES {
            return Err(MediaError::TooManyNames);
        }
        if usize::from(self.next_dialog) + usize::from(other.next_dialog) > usize::from(MAX_DIALOG)
        {
            return Err(MediaError::TooManyDialogs);
        }
        let (first, begin) = (self.next_dialog, self.dialogs.len());
        let renumbered = |number: u16| number.wrapping_add(first);
        for mut dialog in other.dialogs.iter().cloned() {
            dialog.number = renumbered(dialog.number);
            dialog.call_id.get_or_insert_with(|| other.id.clone());
            for leg in &mut dialog.legs {
                if let Partner::Leg(number) = &mut leg.partner {
                    *number = number.wrapping_add(first.wrapping_mul(2));
                }
            }
            self.dialogs.push(dialog);
        }
        for mut fork in other.forks.iter().cloned() {
            fork.number = renumbered(fork.number);
            fork.call_id.get_or_insert_with(|| other.id.clone());
            for media in &mut fork.medias {
                media.dialog = renumbered(media.dialog);
            }
            self.forks.push(fork);
        }
        self.next_dialog = renumbered(other.next_dialog);
        self.merged.push(Merged {
            id: other.id.clone(),
            created_us: other.created_us,
            asked_by: other.asked_by,
        });
        self.merged.extend(other.merged.iter().cloned());
        Ok(begin)
    }
}
