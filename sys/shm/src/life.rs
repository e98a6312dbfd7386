//! A record's transitions, and how a reader outside the plane copies one.
//!
//! free, even generation → [`Record::take`] → live → [`Record::flip`]* → [`Record::end`] → ended →
//! [`Record::free`]. All writes are the steward's. A plane may be killed between any two stores:
//! `generation` alone decides whether a record is in use, `active` which slot is the truth.

use crate::ice::Ice;
use crate::record::{Endpoint, Record, Slot, state};
use crate::sync::{AtomicU32, Ordering, fence};

/// How often a reader tries again when a slot changed under its hands.
const READ_TRIES: usize = if cfg!(loom) { 2 } else { 8 };

/// An index entry: one more than `record << 1 | slot`.
pub(crate) fn index_entry(number: u32, slot: u32) -> u32 {
    (number << 1 | slot & 1) + 1
}

/// The record that an index entry names.
#[inline(always)]
pub(crate) fn entry_number(entry: u32) -> Option<u32> {
    Some(entry.checked_sub(1)? >> 1)
}

impl Record {
    pub(crate) fn endpoint(&self) -> Endpoint {
        Endpoint::from_bits(self.head.endpoint.load(Ordering::Relaxed))
    }

    /// Whether the record is in use and its stream in the index.
    pub(crate) fn is_live(&self) -> bool {
        self.generation() & 1 == 1 && self.head.state.load(Ordering::Relaxed) == state::LIVE
    }

    /// As [`Record::is_live`], of this generation. If it is, the record is not another stream's before the worker that
    /// asks passes a quiescent point: had it passed one since the stream ended, it would see that.
    pub(crate) fn is_still_live(&self, generation: u32) -> bool {
        // Pairs with the Release fence of `take`: who sees a later stream's LIVE sees that this generation is over.
        self.head.state.load(Ordering::Acquire) == state::LIVE && self.generation() == generation
    }

    pub(crate) fn generation(&self) -> u32 {
        self.head.generation.load(Ordering::Relaxed)
    }

    /// Takes a free record: the stream stands with a closed slot and a fresh meter, outside the
    /// index.
    ///
    /// # Safety
    /// Every worker has passed a quiescent point since the record left the index.
    pub(crate) unsafe fn take(&self, endpoint: Endpoint, call: u64, now_ns: u64) {
        // Pairs with the Acquire fence of `read`: who sees one of these stores sees the even generation.
        fence(Ordering::Release);
        self.head
            .endpoint
            .store(endpoint.to_bits(), Ordering::Relaxed);
        self.head.call.store(call, Ordering::Relaxed);
        self.head.created_ns.store(now_ns, Ordering::Relaxed);
        self.head.ended_ns.store(0, Ordering::Relaxed);
        self.tally.reset();
        // The count of flips goes on: were it to start anew, `read` could take the new for the old.
        let active = self.head.active.load(Ordering::Relaxed);
        // SAFETY: by the contract no worker can see the record.
        unsafe { self.slots[active as usize & 1].fill(&Slot::CLOSED) };
        self.ice.store(active, None);
        self.head.state.store(state::LIVE, Ordering::Relaxed);
        let generation = self.generation();
        // Pairs with `read`: who sees the odd generation sees all of the above.
        self.head
            .generation
            .store(generation.wrapping_add(1), Ordering::Release);
    }

    /// Puts the record into its endpoint's place in the index.
    pub(crate) fn enter_index(&self, number: u32, index: &AtomicU32) {
        let active = self.head.active.load(Ordering::Relaxed);
        // Pairs with the worker's Acquire load: it sees the slot filled.
        index.store(index_entry(number, active), Ordering::Release);
    }

    /// Fills the idle slot, with the ICE credentials that go with it, and makes it the live one.
    ///
    /// # Safety
    /// Every worker has passed a quiescent point since the idle slot was live.
    pub(crate) unsafe fn flip(
        &self,
        number: u32,
        index: &AtomicU32,
        slot: &Slot,
        ice: Option<&Ice>,
    ) {
        let active = self.head.active.load(Ordering::Relaxed).wrapping_add(1);
        // Pairs with the Acquire fence of `read`: who sees the new filling sees that the flip before
        // took the slot out of use.
        fence(Ordering::Release);
        // SAFETY: by the contract no worker can see the idle slot.
        unsafe { self.slots[active as usize & 1].fill(slot) };
        self.ice.store(active, ice);
        // Pairs with `read`, and with a plane that restarts here.
        self.head.active.store(active, Ordering::Release);
        self.enter_index(number, index);
    }

    /// A live stream ends; its meter stays readable.
    pub(crate) fn end(&self, index: &AtomicU32, now_ns: u64) {
        // Pairs with the Acquire loads of the index, though who sees 0 looks no further.
        index.store(0, Ordering::Release);
        self.head.ended_ns.store(now_ns, Ordering::Relaxed);
        // Pairs with `read`'s caller, who sees the time with the state.
        self.head.state.store(state::ENDED, Ordering::Release);
    }

    /// An ended record becomes free.
    pub(crate) fn free(&self) {
        let generation = self.generation();
        // Pairs with the last load of `read`; `take` adds the fence before it writes anything else.
        self.head
            .generation
            .store(generation.wrapping_add(1) & !1, Ordering::Release);
        self.head.state.store(state::FREE, Ordering::Relaxed);
    }

    /// The slot that holds the truth. Steward only.
    pub(crate) fn live_slot(&self) -> Slot {
        self.slots[self.head.active.load(Ordering::Relaxed) as usize & 1].copy()
    }

    /// The credentials that go with it. Steward only.
    pub(crate) fn live_ice(&self) -> Option<Ice> {
        self.ice.load(self.head.active.load(Ordering::Relaxed))
    }

    /// What `copy` takes from a record in use and from its live slot and credentials, if both stayed what they were
    /// meanwhile. For any process.
    pub(crate) fn read<T>(&self, copy: impl Fn(&Record, Slot, Option<Ice>) -> T) -> Option<T> {
        // Pairs with `take`.
        let generation = self.head.generation.load(Ordering::Acquire);
        if generation & 1 == 0 {
            return None;
        }
        for _ in 0..READ_TRIES {
            // Pairs with `flip`.
            let active = self.head.active.load(Ordering::Acquire);
            let slot = self.slots[active as usize & 1].copy();
            let copied = copy(self, slot, self.ice.load(active));
            // Pairs with the Release fences of `take` and `flip`.
            fence(Ordering::Acquire);
            if self.head.generation.load(Ordering::Relaxed) != generation {
                return None;
            }
            if self.head.active.load(Ordering::Relaxed) == active {
                return Some(copied);
            }
        }
        None
    }
}
