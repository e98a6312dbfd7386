//! The steward's book of which stream sends by which endpoint, and is fed by which: from a stream to those that have to
//! change with it. Made anew from the slots when a plane starts.

use crate::fans::Fans;
use penstock_shm::{Command, Endpoint, Feed, MAX_ALTERNATES, MAX_COPIES, MAX_PARTS, Op, Refusal};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::sync::Arc;

/// What is noted of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Noted {
    endpoint: Endpoint,
    peer: Endpoint,
    feed: Feed,
}

/// The book.
pub struct Feeds {
    fans: Arc<Fans>,
    /// By record.
    noted: Vec<Option<Noted>>,
    /// Who sends by an endpoint: its bits, and a record.
    senders: BTreeSet<(u32, u32)>,
    /// Copies of what passes at an endpoint: its bits, and those of the copy's endpoint.
    copies: BTreeSet<(u32, u32)>,
    /// Parts of what arrives there, likewise.
    parts: BTreeSet<(u32, u32)>,
    /// Those that stand for an endpoint at other addresses, likewise.
    alternates: BTreeSet<(u32, u32)>,
}

/// Every pair that begins with these bits.
fn of(endpoint: Endpoint) -> RangeInclusive<(u32, u32)> {
    let bits = endpoint.to_bits();
    (bits, 0)..=(bits, u32::MAX)
}

impl Feeds {
    /// An empty one, for so many records.
    pub fn new(fans: Arc<Fans>, records: u32) -> Self {
        Feeds {
            fans,
            noted: vec![None; records as usize],
            senders: BTreeSet::new(),
            copies: BTreeSet::new(),
            parts: BTreeSet::new(),
            alternates: BTreeSet::new(),
        }
    }

    fn set(&mut self, feed: Feed) -> Option<&mut BTreeSet<(u32, u32)>> {
        match feed {
            Feed::Own => None,
            Feed::CopyOf(_) => Some(&mut self.copies),
            Feed::PartOf(_) => Some(&mut self.parts),
            Feed::AltOf(_) => Some(&mut self.alternates),
        }
    }

    /// Notes a stream, as it is to be from now on. Says by which endpoints it was fed and is, if that has changed: their
    /// streams have to be stored anew.
    pub fn note(
        &mut self,
        record: u32,
        endpoint: Endpoint,
        peer: Endpoint,
        feed: Feed,
    ) -> [Option<Endpoint>; 2] {
        let new = Noted {
            endpoint,
            peer,
            feed,
        };
        let Some(place) = self.noted.get_mut(record as usize) else {
            return [None; 2];
        };
        let old = place.replace(new);
        if old == Some(new) {
            return [None; 2];
        }
        let before = old.and_then(|old| self.cross_out(record, &old));
        self.senders.insert((peer.to_bits(), record));
        if let Some(parent) = feed.parent()
            && let Some(set) = self.set(feed)
        {
            set.insert((parent.to_bits(), endpoint.to_bits()));
        }
        [before, feed.parent()]
    }

    /// The stream has ended. Says by which endpoint it was fed.
    pub fn forget(&mut self, record: u32) -> Option<Endpoint> {
        let old = self.noted.get_mut(record as usize)?.take()?;
        if self.fans.get(record).is_some() {
            self.fans
                .fill(record, std::iter::empty(), std::iter::empty());
        }
        self.cross_out(record, &old)
    }

    fn cross_out(&mut self, record: u32, old: &Noted) -> Option<Endpoint> {
        self.senders.remove(&(old.peer.to_bits(), record));
        let parent = old.feed.parent()?;
        if let Some(set) = self.set(old.feed) {
            set.remove(&(parent.to_bits(), old.endpoint.to_bits()));
        }
        Some(parent)
    }

    /// The records whose packets leave by the endpoint.
    pub fn senders(&self, endpoint: Endpoint) -> impl Iterator<Item = u32> {
        self.senders.range(of(endpoint)).map(|&(_, record)| record)
    }

    /// The stream of the opposite direction: what arrives at `peer` and leaves by `endpoint`, if that is a part of what
    /// arrives there. (Else it is whoever has that endpoint.)
    pub fn opposite(&self, endpoint: Endpoint, peer: Endpoint) -> Option<u32> {
        let is_part = |record: &u32| {
            let noted = self.noted.get(*record as usize).copied().flatten();
            noted.is_some_and(|noted| noted.feed == Feed::PartOf(peer))
        };
        self.senders(endpoint).find(is_part)
    }

    fn children(set: &BTreeSet<(u32, u32)>, parent: Endpoint) -> impl Iterator<Item = Endpoint> {
        set.range(of(parent))
            .map(|&(_, child)| Endpoint::from_bits(child))
    }

    /// The endpoints that stand for this one at other addresses.
    pub fn alternates(&self, endpoint: Endpoint) -> impl Iterator<Item = Endpoint> {
        Feeds::children(&self.alternates, endpoint)
    }

    /// The endpoint that a record's stands for: its own, or that of which it is an alternate.
    pub fn home(&self, record: u32) -> Option<Endpoint> {
        let noted = self.noted.get(record as usize).copied().flatten()?;
        Some(match noted.feed {
            Feed::AltOf(parent) => parent,
            _ => noted.endpoint,
        })
    }

    /// Whether there are copies and parts of the stream at the endpoint; puts them into the record's fan.
    pub fn fan_out(&self, record: u32, endpoint: Endpoint) -> (bool, bool) {
        let copies = || Feeds::children(&self.copies, endpoint);
        let parts = || Feeds::children(&self.parts, endpoint);
        let has = (copies().next().is_some(), parts().next().is_some());
        if has != (false, false) || self.fans.get(record).is_some() {
            self.fans.fill(record, copies(), parts());
        }
        has
    }

    /// Refuses a command that would have more streams fed by one endpoint than a fan has room for.
    pub fn admit(&self, command: &Command) -> Result<(), (Refusal, Endpoint)> {
        if !command.ops.iter().any(|op| matches!(op, Op::Feed(_))) {
            return Ok(());
        }
        let mut after = BTreeMap::new();
        for op in &command.ops {
            match op {
                Op::Set(spec) => after.insert(spec.endpoint.to_bits(), Feed::Own),
                Op::Remove(endpoint) => after.insert(endpoint.to_bits(), Feed::Own),
                Op::Feed(feeding) => after.insert(feeding.endpoint.to_bits(), feeding.feed),
                Op::Acknowledge { .. } | Op::Ice { .. } | Op::Move { .. } => None,
            };
        }
        for (&child, &feed) in &after {
            let (set, most, parent) = match feed {
                Feed::Own => continue,
                Feed::CopyOf(parent) => (&self.copies, MAX_COPIES, parent),
                Feed::PartOf(parent) => (&self.parts, MAX_PARTS, parent),
                Feed::AltOf(parent) => (&self.alternates, MAX_ALTERNATES, parent),
            };
            let stays = |old: &Endpoint| !after.contains_key(&old.to_bits());
            let old = Feeds::children(set, parent).filter(stays).count();
            let new = after.values().filter(|other| **other == feed).count();
            if old + new > most {
                return Err((Refusal::TooManyFed, Endpoint::from_bits(child)));
            }
        }
        Ok(())
    }
}
