//! Where a NAT on the way has to see something leave before it lets anything in (`pierce-NAT`): until a phone is heard, its signalled
//! address is sent an empty datagram every second, for a minute at most.

use super::{Drafts, Streams};
use penstock_relay::route::{self, Policy};
use penstock_shm::{Feed, Learn, RecordId, Slot};
use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;

/// From one datagram to the next.
const EVERY_NS: u64 = 1_000_000_000;
/// Nobody who has not been heard by then will be.
const LIMIT_NS: u64 = 60_000_000_000;
/// Datagrams of one turn of the steward.
const AT_ONCE: usize = 256;

/// A stream whose phone is waited for.
#[derive(Clone, Copy, Debug)]
struct Waited {
    generation: u32,
    /// The signalling that asked for it.
    signal: u32,
    since_ns: u64,
    due_ns: u64,
}

/// All of them, by record.
#[derive(Default)]
pub(super) struct Pierces {
    waited: BTreeMap<u32, Waited>,
    /// Nothing is due before.
    next_ns: u64,
}

/// A datagram that is due: by which next hop, with which headers.
pub struct Due {
    /// Of whom.
    pub stream: RecordId,
    /// The next hop's number.
    pub adjacency: u16,
    /// The route: [`penstock_relay::empty`].
    pub slot: Slot,
}

/// Whether anybody is waited for.
fn waits(policy: &Policy) -> bool {
    let spec = &policy.spec;
    let is_own = spec.feed == Feed::Own && spec.learn != Learn::Checks;
    spec.pierce && is_own && policy.remote.is_some() && !policy.latched
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
            let known = self.pierces.waited.get(&number);
            let is_known = known.is_some_and(|known| {
                (known.generation, known.signal) == (waited.generation, waited.signal)
            });
            if !is_known {
                self.pierces.waited.insert(number, waited);
                self.pierces.next_ns = 0;
            }
        }
    }

    /// What is to be sent now, to those who have not been heard. Each comes again until [`Streams::pierced`].
    pub fn pierce(&mut self, now_ns: u64) -> Vec<Due> {
        let mut due = Vec::new();
        if now_ns < self.pierces.next_ns {
            return due;
        }
        let mut all = std::mem::take(&mut self.pierces.waited);
        all.retain(|&number, waited| self.is_waited_for(number, waited, now_ns));
        for (&number, waited) in all.iter().filter(|(_, waited)| waited.due_ns <= now_ns) {
            if due.len() < AT_ONCE {
                due.extend(self.datagram(number, waited.generation, now_ns));
            }
        }
        let next = all.values().map(|waited| waited.due_ns).min();
        self.pierces = Pierces {
            waited: all,
            next_ns: next.unwrap_or(u64::MAX),
        };
        due
    }

    /// A datagram was sent: the next one is due later.
    pub fn pierced(&mut self, stream: RecordId, now_ns: u64) {
        if let Some(waited) = self.pierces.waited.get_mut(&stream.number) {
            waited.due_ns = now_ns + EVERY_NS;
        }
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
    fn datagram(&mut self, number: u32, generation: u32, now_ns: u64) -> Option<Due> {
        let policy = self.draft(number).policy;
        let endpoint = self.endpoint(number);
        let egress = self.egress(number, endpoint, &policy, now_ns).ok()??;
        Some(Due {
            stream: RecordId { number, generation },
            adjacency: egress.adjacency,
            slot: route::fill(&policy, None, Some(&egress), 0),
        })
    }
}
