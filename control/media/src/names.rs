//! The Call-IDs of a call that was merged from several, and whom a request by one of them means.
//!
//! Each Call-ID has users of its own, who need not know of the merge. So what they ask for means the legs of their own
//! dialogs; only a tag, label or address that none of those has is sought further, as in rtpengine, where all of the call has
//! one set of tags: first in the legs that were connected to theirs. Equal tags under two Call-IDs are told apart only while
//! both legs stand: once one has ended, a block by that tag means the other Call-ID's leg, and so does a delete that is
//! repeated or an offer that comes late, if it names two legs that are connected. A subscription is answered and ended by its
//! own Call-ID alone.

use crate::call::{Call, Dialog, Merged};
use crate::commands::Selector;
use crate::fork::Fork;
use crate::partner::At;

/// How near a leg is to a Call-ID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Nearness {
    /// Of a dialog that was made with another one.
    Foreign,
    /// The same, but connected to a leg of its own.
    Connected,
    /// Of a dialog that was made with it.
    Own,
}

impl Call {
    /// The Call-IDs that it goes by, its own first.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        let others = self.merged.iter().map(|merged| merged.id.as_str());
        std::iter::once(self.id.as_str()).chain(others)
    }

    /// The Call-ID that one of its dialogs was made with.
    pub fn id_of<'a>(&'a self, dialog: &'a Dialog) -> &'a str {
        dialog.call_id.as_deref().unwrap_or(&self.id)
    }

    /// The Call-ID that a subscription was made with.
    pub(crate) fn id_of_fork<'a>(&'a self, fork: &'a Fork) -> &'a str {
        fork.call_id.as_deref().unwrap_or(&self.id)
    }

    /// When the first offer with this Call-ID came, microseconds since 1970.
    pub fn created_us_of(&self, id: &str) -> u64 {
        let merged = self.merged.iter().find(|merged| merged.id == id);
        merged.map_or(self.created_us, |merged| merged.created_us)
    }

    pub(crate) fn nearness(&self, id: &str, dialog: &Dialog, side: usize) -> Nearness {
        let is_own = |dialog: &Dialog| self.id_of(dialog) == id;
        let partner = self.partner(dialog, side);
        match is_own(dialog) {
            true => Nearness::Own,
            false if partner.is_some_and(|(other, _)| is_own(other)) => Nearness::Connected,
            false => Nearness::Foreign,
        }
    }

    /// Whether a request by a Call-ID may mean a leg by this tag: it has it, and no leg of that Call-ID has it before.
    pub(crate) fn is_called(&self, id: &str, (dialog, side): (&Dialog, usize), tag: &str) -> bool {
        let is_own = |dialog: &&Dialog| self.id_of(dialog) == id;
        let mut own = self.dialogs.iter().filter(is_own).flat_map(|d| &d.legs);
        dialog.legs[side].has(tag) && (is_own(&dialog) || !own.any(|leg| leg.has(tag)))
    }

    /// The legs that a request by a Call-ID means: of those that fit the nearest, and, where nobody is named, those who talk
    /// in its calls.
    pub(crate) fn meant(&self, id: &str, who: &Selector<'_>) -> Vec<At> {
        let legs = self.dialogs.iter().enumerate();
        let legs = legs.flat_map(|(idx, dialog)| dialog.sides().map(move |side| (idx, side)));
        let fitting = legs.filter(|&(idx, side)| who.fits(&self.dialogs[idx], side));
        let near = |&(idx, side): &At| self.nearness(id, &self.dialogs[idx], side);
        let mut fitting: Vec<At> = fitting.collect();
        let nearest = fitting.iter().map(near).max();
        let least = match who.is_anybody() {
            true => Some(Nearness::Connected),
            false => nearest,
        };
        fitting.retain(|at| Some(near(at)) >= least);
        fitting
    }

    /// The numbers of the subscriptions that a block by a Call-ID means: its own of those that fit, else, if they are named,
    /// those of others.
    pub(crate) fn meant_forks(
        &self,
        id: &str,
        is_named: bool,
        fits: impl Fn(&Fork) -> bool,
    ) -> Vec<u16> {
        let fitting = || self.forks.iter().filter(|fork| fits(fork));
        let own = fitting().filter(|fork| self.id_of_fork(fork) == id);
        let own: Vec<u16> = own.map(|fork| fork.number).collect();
        match own.is_empty() && is_named {
            true => fitting().map(|fork| fork.number).collect(),
            false => own,
        }
    }

    /// Gives up the names that no dialog has: subscriptions that were made with them end, and if the call's own is among
    /// them, it goes by the next one. Without a dialog it keeps its own.
    pub(crate) fn forget_names(&mut self) {
        let dialogs = &self.dialogs;
        let has_dialog = |id: &str| dialogs.iter().any(|d| d.call_id.as_deref() == Some(id));
        self.merged.retain(|merged| has_dialog(&merged.id));
        let is_named = dialogs.is_empty() || dialogs.iter().any(|d| d.call_id.is_none());
        let merged = &self.merged;
        self.forks.retain(|fork| match &fork.call_id {
            Some(id) => merged.iter().any(|merged| merged.id == *id),
            None => is_named,
        });
        if !is_named && !self.merged.is_empty() {
            let next = self.merged.remove(0);
            self.go_by(next);
        }
    }

    fn go_by(&mut self, name: Merged) {
        let Merged {
            id,
            created_us,
            asked_by,
        } = name;
        (self.created_us, self.asked_by) = (created_us, asked_by);
        let of_dialogs = self.dialogs.iter_mut().map(|dialog| &mut dialog.call_id);
        let of_forks = self.forks.iter_mut().map(|fork| &mut fork.call_id);
        for own in of_dialogs.chain(of_forks) {
            own.take_if(|own| *own == id);
        }
        self.id = id;
    }
}
