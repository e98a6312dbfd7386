//! Media that is held back on request.

use crate::call::{Blocked, Call, Dialog};
use crate::calls::{Calls, Pending};
use crate::commands::Selector;
use crate::fork::{Fork, ForkMedia};
use crate::partner::At;
use crate::{MediaError, Now};

/// What of a leg's media may be held back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeldBack {
    /// All of it.
    Media,
    /// All of it, where silence was asked for.
    Silence,
    /// Telephone events. Copies of them are not held back by themselves.
    Dtmf,
}

/// Which ways of a leg's media are meant where nobody is named whom it goes to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Flows {
    /// That to the other leg. What is held back there is not copied either.
    #[default]
    Dialog,
    /// Those to who has subscribed to it.
    Forks,
    /// All of them.
    All,
}

/// What is to be held back, or no longer.
#[derive(Clone, Copy, Debug)]
pub struct Hold<'a> {
    /// What of the media.
    pub what: HeldBack,
    /// Whether it is held back from now on.
    pub on: bool,
    /// Of which ways.
    pub flows: Flows,
    /// A name for the legs whose media it is: nobody else under their Call-IDs, or the one that asks, has it then.
    pub label: Option<&'a str>,
}

impl Calls {
    /// Prepares that media of the legs that fit is held back towards those that fit `to`, or no longer. Without `to`, its
    /// ways are those of [`Hold::flows`].
    ///
    /// # Errors
    /// [`MediaError::NoCall`], [`MediaError::NoTag`], [`MediaError::NoLeg`].
    pub fn hold_back(
        &self,
        call_id: &str,
        (from, to): (Selector<'_>, Selector<'_>),
        hold: Hold<'_>,
        now: Now,
    ) -> Result<Pending, MediaError> {
        let before = self.shared(call_id).ok_or(MediaError::NoCall)?;
        let mut call = Call::clone(before);
        let mut any = false;
        let (to_dialog, to_forks) = match hold.flows {
            _ if !to.is_anybody() => (true, true),
            Flows::Dialog => (true, false),
            Flows::Forks => (false, true),
            Flows::All => (true, true),
        };
        let is_to = |dialog: &Dialog, side| match before.partner(dialog, side) {
            Some((other, far)) => to.fits(other, far),
            None => to.is_anybody(),
        };
        let legs = before.meant(call_id, &from);
        for &(idx, side) in &legs {
            let dialog = &mut call.dialogs[idx];
            if to_dialog && is_to(&before.dialogs[idx], side) {
                hold.put(&mut dialog.legs[side].blocked);
                dialog.expects_anew(now);
                any = true;
            }
        }
        if to_forks {
            let numbers = legs
                .iter()
                .map(|&(idx, side)| (before.dialogs[idx].number, side));
            let copied: Vec<(u16, usize)> = numbers.collect();
            let is_copied = |media: &ForkMedia| copied.contains(&(media.dialog, media.side));
            let is_meant = |fork: &Fork| to.fits_fork(fork) && fork.medias.iter().any(is_copied);
            let meant = before.meant_forks(call_id, !to.is_anybody(), is_meant);
            let forks = call.forks.iter_mut();
            let forks = forks.filter(|fork| meant.contains(&fork.number));
            for media in forks.flat_map(|fork| &mut fork.medias) {
                if is_copied(media) {
                    hold.put(&mut media.blocked);
                    any = true;
                }
            }
        }
        if let Some(label) = hold.label.filter(|_| !from.is_anybody()) {
            name(&mut call, call_id, label, &legs);
        }
        match any {
            true => Ok(Pending::new(
                Some(before.clone()),
                Some(call),
                Vec::new(),
                Vec::new(),
            )),
            false if from.tag.is_some() => Err(MediaError::NoTag),
            false => Err(MediaError::NoLeg),
        }
    }
}

impl Hold<'_> {
    fn put(&self, blocked: &mut Blocked) {
        match self.what {
            HeldBack::Media => blocked.media = self.on,
            HeldBack::Silence => blocked.silence = self.on,
            HeldBack::Dtmf => blocked.dtmf = self.on,
        }
    }
}

/// Gives a name to legs, and takes it from all others of the Call-ID and of those that the legs are of.
fn name(call: &mut Call, call_id: &str, label: &str, legs: &[At]) {
    let own_id = Some(call_id.to_owned()).filter(|id| *id != call.id);
    let of_legs = legs
        .iter()
        .map(|&(idx, _)| call.dialogs[idx].call_id.clone());
    let ids: Vec<Option<String>> = of_legs.chain([own_id]).collect();
    let dialogs = call.dialogs.iter_mut();
    let dialogs = dialogs.filter(|dialog| ids.contains(&dialog.call_id));
    let forks = call.forks.iter_mut();
    let forks = forks.filter(|fork| ids.contains(&fork.call_id));
    let others = dialogs.flat_map(|d| &mut d.legs);
    for leg in others.chain(forks.map(|fork| &mut fork.leg)) {
        leg.label.take_if(|known| known == label);
    }
    for &(idx, side) in legs {
        call.dialogs[idx].legs[side].label = Some(label.to_owned());
    }
}
