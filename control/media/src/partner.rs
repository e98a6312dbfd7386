//! Who hears whom: the other leg of the dialog or, once they were connected, a leg of another dialog.

use crate::call::{Call, Dialog, Leg, Media, Side};
use crate::hear::convert;
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Whom a leg hears, and is heard by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Partner {
    /// The other leg of its dialog.
    #[default]
    Own,
    /// The leg of this number, which names this one.
    Leg(u16),
    /// Nobody: the one it heard was connected to another, or has left.
    Nobody,
}

impl Partner {
    pub(crate) fn is_own(&self) -> bool {
        *self == Partner::Own
    }
}

/// A leg: which dialog of the call, and which leg of it.
pub(crate) type At = (usize, usize);

/// One section of one leg.
#[derive(Clone, Copy, Debug)]
pub struct LegMedia<'a> {
    /// The leg's dialog.
    pub dialog: &'a Dialog,
    /// Which of the dialog's legs it is: 0 or 1.
    pub side: usize,
    /// Which of the dialog's sections it is.
    pub idx: usize,
}

impl<'a> LegMedia<'a> {
    /// The section.
    pub fn media(&self) -> &'a Media {
        &self.dialog.medias[self.idx]
    }

    /// The number of the leg within the call.
    pub fn number(&self) -> u16 {
        self.dialog.leg_number(self.side)
    }

    pub(crate) fn own(&self) -> &'a Side {
        &self.media().sides[self.side]
    }

    pub(crate) fn leg(&self) -> &'a Leg {
        &self.dialog.legs[self.side]
    }

    /// Whether what the one sends could be for the other. What is encrypted is for the other leg of the dialog alone, which
    /// agreed on the keys.
    fn is_like(&self, other: &LegMedia<'_>) -> bool {
        let (own, theirs) = (self.media(), other.media());
        !own.has_proto("SAVP")
            && (&own.name, own.kind, own.has_rtcp) == (&theirs.name, theirs.kind, theirs.has_rtcp)
            && convert(&self.own().proto, &other.own().proto).is_some()
    }
}

impl Dialog {
    /// Its legs that are somebody.
    pub fn sides(&self) -> Range<usize> {
        match self.published {
            true => 0..1,
            false => 0..2,
        }
    }

    /// Whether its legs hear others, or nobody.
    pub(crate) fn is_apart(&self) -> bool {
        self.legs.iter().any(|leg| !leg.partner.is_own())
    }

    /// The number of one of its legs, 0 or 1, within the call.
    pub fn leg_number(&self, side: usize) -> u16 {
        self.number.wrapping_mul(2).wrapping_add(side as u16)
    }

    fn leg_medias(&self, side: usize) -> impl Iterator<Item = LegMedia<'_>> {
        (0..self.medias.len()).map(move |idx| LegMedia {
            dialog: self,
            side,
            idx,
        })
    }
}

impl Call {
    /// The leg of a number: its dialog, and which leg of it.
    fn leg(&self, number: u16) -> Option<(&Dialog, usize)> {
        let numbered = |dialog: &&Dialog| dialog.leg_number(0) == number & !1;
        let found = self.dialogs.iter().find(numbered);
        found.map(|dialog| (dialog, usize::from(number & 1)))
    }

    /// Whom a leg hears and is heard by: the dialog, and which leg of it.
    pub fn partner<'a>(&'a self, dialog: &'a Dialog, side: usize) -> Option<(&'a Dialog, usize)> {
        match dialog.legs[side].partner {
            Partner::Own => (!dialog.published).then_some((dialog, 1 - side)),
            Partner::Leg(number) => self.leg(number).filter(|(other, far)| {
                other.legs[*far].partner == Partner::Leg(dialog.leg_number(side))
            }),
            Partner::Nobody => None,
        }
    }

    /// The sections of a leg, each with the one of the other leg that its media goes to and comes from.
    pub fn leg_medias<'a>(
        &'a self,
        dialog: &'a Dialog,
        side: usize,
    ) -> Vec<(LegMedia<'a>, Option<LegMedia<'a>>)> {
        let Some((other, far)) = self.partner(dialog, side) else {
            return dialog.leg_medias(side).map(|near| (near, None)).collect();
        };
        if other.number == dialog.number {
            let opposite = |near: LegMedia<'a>| LegMedia { side: far, ..near };
            let medias = dialog.leg_medias(side);
            return medias.map(|near| (near, Some(opposite(near)))).collect();
        }
        // Both legs have to find the same, whichever is asked.
        let pairs = match dialog.number < other.number {
            true => pairs((dialog, side), (other, far)),
            false => pairs((other, far), (dialog, side))
                .into_iter()
                .map(|(theirs, own)| (own, theirs))
                .collect(),
        };
        let opposite = |near: &LegMedia<'_>| {
            let found = pairs.iter().find(|(own, _)| own.idx == near.idx);
            found.map(|(_, theirs)| *theirs)
        };
        let medias = dialog.leg_medias(side);
        medias.map(|near| (near, opposite(&near))).collect()
    }
}

/// The relayed sections of two legs of different dialogs that are alike, one after the other.
fn pairs<'a>(
    one: (&'a Dialog, usize),
    other: (&'a Dialog, usize),
) -> Vec<(LegMedia<'a>, LegMedia<'a>)> {
    let relayed = |(dialog, side): (&'a Dialog, usize)| {
        let medias = dialog.leg_medias(side);
        medias.filter(|near| near.media().is_relayed())
    };
    let mut left: Vec<LegMedia<'a>> = relayed(other).collect();
    let mut pairs = Vec::new();
    for own in relayed(one) {
        if let Some(at) = left.iter().position(|theirs| own.is_like(theirs)) {
            pairs.push((own, left.remove(at)));
        }
    }
    pairs
}
