//! Media that is held back on request.

use crate::call::{Blocked, Call, Dialog, Leg};
use crate::calls::{Calls, Pending};
use crate::commands::Selector;
use crate::fork::ForkMedia;
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
    /// A name for the legs whose media it is: nobody else has it then.
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
        for (dialog, stands) in call.dialogs.iter_mut().zip(&before.dialogs) {
            for side in 0..2 {
                if !from.fits(stands, side) {
                    continue;
                }
                if to_dialog && is_to(stands, side) {
                    hold.put(&mut dialog.legs[side].blocked);
                    dialog.expects_anew(now);
                    any = true;
                }
                let forks = call.forks.iter_mut();
                for fork in forks.filter(|fork| to_forks && to.fits_fork(fork)) {
                    let is_it = |media: &&mut ForkMedia| {
                        (media.dialog, media.side) == (dialog.number, side)
                    };
                    for media in fork.medias.iter_mut().filter(is_it) {
                        hold.put(&mut media.blocked);
                        any = true;
                    }
                }
            }
        }
        if let Some(label) = hold.label.filter(|_| !from.is_anybody()) {
            name(&mut call, label, |dialog, side| from.fits(dialog, side));
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

/// Gives a name to the legs that are meant, and to nobody else.
fn name(call: &mut Call, label: &str, is_meant: impl Fn(&Dialog, usize) -> bool) {
    let has = |leg: &Leg| leg.label.as_deref() == Some(label);
    for dialog in &mut call.dialogs {
        let meant = [0, 1].map(|side| is_meant(dialog, side));
        for (leg, is_meant) in dialog.legs.iter_mut().zip(meant) {
            match is_meant {
                true => leg.label = Some(label.to_owned()),
                false if has(leg) => leg.label = None,
                false => {}
            }
        }
    }
    for fork in call.forks.iter_mut().filter(|fork| has(&fork.leg)) {
        fork.leg.label = None;
    }
}
