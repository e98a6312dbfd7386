//! The workers' view of the table: from an endpoint to its slot and meter in a few instructions.
//!
//! ```text
//! loop {
//!     let table = worker.pin();              // once per burst
//!     let packets = rx_burst();
//!     for each packet: if let Some(entry) = table.entry(endpoint) { entry.prefetch() }
//!     for each packet: judge by entry.slot(), count in entry.meter()
//! }
//! ```

use crate::cell::{Shared, SlotCell};
use crate::counters::{self, WorkerCounters};
use crate::ice::Ice;
use crate::qsbr::Epochs;
use crate::record::{Endpoint, Record, RecordId, Slot};
use crate::sync::{AtomicU32, Ordering, fence};
use crate::tally::{Last, Meter, Tally};
use std::marker::PhantomData;
use std::sync::Arc;

/// One worker's end of the table.
pub struct WorkerTable {
    pub(crate) number: usize,
    pub(crate) epochs: Arc<Epochs>,
    pub(crate) index: Shared<[AtomicU32]>,
    pub(crate) records: Shared<[Record]>,
    pub(crate) counters: Shared<WorkerCounters>,
}

impl WorkerTable {
    /// The worker's number, from 0.
    pub fn number(&self) -> usize {
        self.number
    }

    /// A quiescent point: what was looked up before is given back, and what is looked up now stays
    /// until the next call. Once per burst. Brings the worker back online.
    #[inline(always)]
    pub fn pin(&mut self) -> Pinned<'_> {
        self.epochs.enter(self.number);
        Pinned {
            index: &self.index,
            records: &self.records,
            counters: &self.counters,
            guard: Last::guard(self.number as u8 + 1),
            stays: PhantomData,
        }
    }

    /// Lets the steward go on without this worker until the next [`WorkerTable::pin`]. Call before
    /// sleeping.
    pub fn offline(&mut self) {
        self.epochs.leave(self.number);
    }

    /// The worker's counters.
    pub fn counters(&self) -> &WorkerCounters {
        &self.counters
    }

    /// To watch the worker by.
    pub fn turns(&self) -> Turns {
        Turns(self.counters.clone())
    }
}

/// How often a worker's loop has turned, for another thread to see whether it still does.
pub struct Turns(Shared<WorkerCounters>);

impl Turns {
    /// A number that grows with each turn.
    pub fn get(&self) -> u64 {
        self.0
            .polls_busy
            .get()
            .wrapping_add(self.0.polls_idle.get())
    }
}

impl Drop for WorkerTable {
    fn drop(&mut self) {
        self.offline();
    }
}

/// The table as it stands during one burst.
#[derive(Clone, Copy)]
pub struct Pinned<'a> {
    index: &'a [AtomicU32],
    records: &'a [Record],
    counters: &'a WorkerCounters,
    guard: Last,
    // Not Send: another thread's reads would escape the quiescent points of this one.
    stays: PhantomData<*const ()>,
}

impl<'a> Pinned<'a> {
    /// The stream installed at the endpoint.
    #[inline(always)]
    pub fn entry(self, endpoint: Endpoint) -> Option<Entry<'a>> {
        self.entry_at(endpoint.to_bits())
    }

    /// The stream installed at the endpoint of these [`Endpoint::to_bits`].
    #[inline(always)]
    pub fn entry_at(self, endpoint: u32) -> Option<Entry<'a>> {
        let index = self.index.get(endpoint as usize)?;
        // Pairs with `Record::enter_index`: the slot it names is filled. Where there is none, 0 less 1 names
        // a record beyond the 2^24 that a table may have.
        let at = index.load(Ordering::Acquire).wrapping_sub(1) as usize;
        let record = self.records.get(at >> 1)?;
        Some(Entry {
            record,
            slot: &record.slots[at & 1],
            stays: PhantomData,
        })
    }

    /// What is counted of a record, to read: [`Slot::peer`] names it.
    pub fn tally(self, number: u32) -> Option<&'a Tally> {
        Some(&self.records.get(number as usize)?.tally)
    }

    /// The number of an entry's record.
    #[inline(always)]
    pub fn number(self, entry: Entry<'a>) -> u32 {
        let offset = std::ptr::from_ref(entry.record).addr() - self.records.as_ptr().addr();
        (offset / size_of::<Record>()) as u32
    }

    /// The stream of an entry, for later.
    pub fn id(self, entry: Entry<'a>) -> RecordId {
        RecordId {
            number: self.number(entry),
            generation: entry.record.generation(),
        }
    }

    /// Counts a packet that was dropped after another thread found its stream, unless that has ended meanwhile.
    pub fn count_dropped(self, id: RecordId, reason: counters::Drop) {
        if let Some(record) = self.records.get(id.number as usize)
            && record.is_still_live(id.generation)
        {
            record.tally.count_dropped(reason);
        }
    }

    /// The worker's counters.
    #[inline(always)]
    pub fn counters(self) -> &'a WorkerCounters {
        self.counters
    }

    /// Makes the stream this worker's, if nobody owns it.
    ///
    /// # Errors
    /// The number of the worker that owns it, as it was when that was found out: it may have given it away since, to this
    /// worker too.
    #[inline(always)]
    pub fn claim(self, meter: &Meter) -> Result<(), usize> {
        loop {
            let last = meter.last();
            if let Some(owner) = usize::from(last.owner()).checked_sub(1) {
                // Pairs with `release`. Only packets that go the long way come here; those that do not follow one that did.
                fence(Ordering::Acquire);
                return match last.owner() == self.guard.owner() {
                    true => Ok(()),
                    false => Err(owner),
                };
            }
            let ours = last.to_bits() | Last::of_owner(self.guard.owner()).to_bits();
            // Acquire pairs with `release`: what the owner before counted is seen. It fails if somebody else was faster.
            let claimed = meter.last.compare_exchange(
                last.to_bits(),
                ours,
                Ordering::Acquire,
                Ordering::Relaxed,
            );
            if claimed.is_ok() {
                return Ok(());
            }
        }
    }

    /// Makes another worker the owner of a stream that this one owns: whatever it counted is seen by the other.
    pub fn release(self, meter: &Meter, to: usize) {
        // Pairs with the Acquire fence of `claim`, which the next packet comes to: it is not like the last one.
        let theirs = meter.last().given(to as u8 + 1);
        meter.last.store(theirs.to_bits(), Ordering::Release);
    }

    /// What [`Meter::last`] holds of a stream that this worker owns and whose last packet was in sequence,
    /// apart from the packet's own octets: see [`Last::expected`].
    #[inline(always)]
    pub fn guard(self) -> Last {
        self.guard
    }

    /// The number of the worker that owns the stream.
    #[inline(always)]
    pub fn owner(self, meter: &Meter) -> Option<usize> {
        usize::from(meter.last().owner()).checked_sub(1)
    }
}

/// A stream and the slot of it that is live, until the worker's next quiescent point.
#[derive(Clone, Copy)]
pub struct Entry<'a> {
    record: &'a Record,
    slot: &'a SlotCell,
    stays: PhantomData<*const ()>,
}

impl<'a> Entry<'a> {
    /// Starts loading the meter and the slot's first line.
    #[inline(always)]
    pub fn prefetch(self) {
        prefetch(self.slot);
        prefetch(&raw const self.record.tally.meter);
    }

    /// Likewise, for an IPv6 packet: it needs the slot's second line as well.
    #[inline(always)]
    pub fn prefetch6(self) {
        self.prefetch();
        // As below: asked for by address.
        prefetch(&raw const self.slot().remote_v6);
    }

    /// Starts loading what policing looks at now and then.
    #[inline]
    pub fn prefetch_policing(self) {
        prefetch(&raw const self.record.tally.bucket);
    }

    /// Policy and route.
    #[inline(always)]
    pub fn slot(self) -> &'a Slot {
        // SAFETY: the index entry was loaded after the quiescent point that began 'a, and the steward
        // fills a slot that has left the index only after the next one, which ends 'a.
        unsafe { self.slot.get() }
    }

    /// The ICE credentials that go with the slot, if the stream has any.
    pub fn ice(self) -> Option<Ice> {
        let is_first = std::ptr::eq(self.slot, &self.record.slots[0]);
        self.record.ice.load(u32::from(!is_first))
    }

    /// The meter. Only its owner may count there, see [`Pinned::claim`].
    #[inline(always)]
    pub fn meter(self) -> &'a Meter {
        &self.record.tally.meter
    }

    /// Control's key of the call.
    pub fn call(self) -> u64 {
        self.record.head.call.load(Ordering::Relaxed)
    }

    /// Where the stream arrives.
    pub fn endpoint(self) -> Endpoint {
        self.record.endpoint()
    }

    /// All counters, likewise, but for [`Tally::count_dropped`].
    #[inline(always)]
    pub fn tally(self) -> &'a Tally {
        &self.record.tally
    }
}

#[inline(always)]
fn prefetch<T>(address: *const T) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a prefetch reads nothing that the program could see, and faults nowhere.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}
