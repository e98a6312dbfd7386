//! Where a NAT on the way has to see something leave before it lets anything in (`pierce-NAT`): until a phone is heard, its signalled
//! address is sent an empty datagram every second, for a minute at most.

use super::{Drafts, Streams};
use penstock_relay::route::{self, Policy};
use penstock_shm::{Feed, Learn, Slot};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering::Relaxed;

/// From one datagram to the next.
const EVERY_NS: u64 = 1_000_000_000;
/// Nobody who has not been heard by then will be.
const LIMIT_NS: u64 = 60_000_000_000;
/// Streams that one turn of the steward looks at.
const AT_ONCE: usize = 256;

/// A stream whose phone is waited for.
#[derive(Clone, Copy, Debug)]
struct Waited {
    generation: u32,
    /// The signalling that asked for it.
    signal: u32,
    since_ns: u64,
    /// When it is to be looked at next, unless it was heard or given up.
    due_ns: u64,
}

/// All of them.
#[derive(Default)]
pub(super) struct Pierces {
    /// By record; those that were heard or given up too, so that the same signalling does not begin anew.
    waited: BTreeMap<u32, Waited>,
    /// When which record is to be looked at.
    pub(super) due: BTreeSet<(u64, u32)>,
}

/// A datagram that is due: by which next hop, with which headers.
pub struct Due {
    /// The next hop's number.
    pub adjacency: u16,
    /// The route: [`penstock_relay::empty`].
    pub slot: Slot,
}

/// Whether anybody is waited for.
fn waits(policy: &Policy) -> bool {
    let spec = &policy.spec;
    let is_own = spec.feed == Feed::Own && spec.learn != Learn::Checks;
    let is_outside = policy.remote.is_some() && !policy.own_remote;
    spec.pierce && is_own && is_outside && !policy.latched
}

impl Streams {
    /// Notes the streams among these whose phone is to be waited for, by new signalling.
    pub(super) fn await_phones(&mut self, drafts: &Drafts, now_ns: u64) {
        for (&number, draft) in drafts.iter().filter(|(_, draft)| waits(&draft.policy)) {
            let waited = Waited {
                generation: self.table.head(number).generation.load(Relaxed),
                signal: draft.policy.spec.signal,
                since_ns: now_ns,
                due_ns: now_ns,
            };
            let Pierces { waited: all, due } = &mut self.pierces;
            if let Some(known) = all.get(&number) {
                if (known.generation, known.signal) == (waited.generation, waited.signal) {
                    continue;
                }
                due.remove(&(known.due_ns, number));
            }
            all.insert(number, waited);
            due.insert((now_ns, number));
        }
    }

    /// What is to be sent now, to those who have not been heard. What cannot be sent waits for the next time too: who has
    /// no way must not be in the way of others.
    pub fn pierce(&mut self, now_ns: u64) -> Vec<Due> {
        let mut datagrams = Vec::new();
        for _ in 0..AT_ONCE {
            let Pierces { waited: all, due } = &mut self.pierces;
            let first = due.first().filter(|(due_ns, _)| *due_ns <= now_ns);
            let Some(&(due_ns, number)) = first else {
                break;
            };
            due.remove(&(due_ns, number));
            let Some(waited) = all.get(&number).copied() else {
                continue;
            };
            if !self.is_waited_for(number, &waited, now_ns) {
                continue;
            }
            datagrams.extend(self.datagram(number, now_ns));
            let due_ns = now_ns + EVERY_NS;
            let Pierces { waited: all, due } = &mut self.pierces;
            all.insert(number, Waited { due_ns, ..waited });
            due.insert((due_ns, number));
        }
        datagrams
    }

    fn is_waited_for(&self, number: u32, waited: &Waited, now_ns: u64) -> bool {
        let head = self.table.head(number);
        let is_same = head.generation.load(Relaxed) == waited.generation;
        let seen_ns = || self.table.tally(number).meter.last_seen_ns.get();
        self.table.is_live(number)
            && is_same
            && now_ns < waited.since_ns + LIMIT_NS
            && waits(&self.draft(number).policy)
            && seen_ns() < waited.since_ns
    }

    /// By the stream's own endpoint to its own remote: the way of those who send to it.
    fn datagram(&mut self, number: u32, now_ns: u64) -> Option<Due> {
        let policy = self.draft(number).policy;
        let endpoint = self.endpoint(number);
        let egress = self.egress(number, endpoint, &policy, now_ns).ok()??;
        Some(Due {
            adjacency: egress.adjacency,
            slot: route::fill(&policy, None, Some(&egress), 0),
        })
    }
}
