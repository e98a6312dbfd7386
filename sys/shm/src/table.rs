//! The steward's end of the table: addresses, streams, and the two slots of each.

use crate::address::{Address, AddressEntry, TooManyAddresses};
use crate::cell::Shared;
use crate::counters::{Drop, PortCounters};
use crate::ice::Ice;
use crate::layout::{AddressCell, PlaneInfo};
use crate::life::entry_number;
use crate::qsbr::Epochs;
use crate::record::{Endpoint, Head, Record, RecordId, Slot, state};
use crate::sync::{AtomicU32, Ordering};
use crate::tally::Tally;
use std::collections::VecDeque;
use std::sync::Arc;

/// How long an ended stream waits for control to read its last meter.
const ENDED_NS: u64 = 10_000_000_000;

/// Records that are freed by the way.
const SOME: usize = 64;

/// How long [`TableWriter::update`] waits for the workers: this often, this long. With the kernel's timer
/// slack, about a second.
#[cfg(not(loom))]
const GRACE: (u32, std::time::Duration) = (10_000, std::time::Duration::from_micros(50));

/// Every record of the table is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the stream table is full")]
pub struct TableFull;

/// Why a stream could not be updated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UpdateError {
    /// No live stream has this number.
    #[error("no live stream has this number")]
    NotLive,
    /// A worker has not passed a quiescent point for a second, so the idle slot cannot be filled.
    #[error("worker {worker} hangs")]
    WorkerStuck {
        /// Its number.
        worker: usize,
    },
}

/// How many records are in which state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Streams in the index.
    pub live: u32,
    /// Streams whose last meter waits to be read.
    pub ended: u32,
    /// Records that can be taken (some only after the workers' next quiescent point).
    pub free: u32,
}

/// What the steward remembers of a record.
#[derive(Clone, Default)]
struct Note {
    /// The epoch that the idle slot, or the ended record, was retired in.
    retired: u64,
    /// Nobody needs the ended record's meter any more.
    dying: bool,
}

/// The one writer of the table, but for meters and counters.
pub struct TableWriter {
    pub(crate) info: Shared<PlaneInfo>,
    ports: Shared<[PortCounters]>,
    addresses: Shared<[AddressCell]>,
    index: Shared<[AtomicU32]>,
    records: Shared<[Record]>,
    epochs: Arc<Epochs>,
    /// An epoch that every worker is known to have reached.
    reached: u64,
    /// How far the workers were when one of them was last given up.
    stuck_at: Option<u64>,
    notes: Vec<Note>,
    free: VecDeque<u32>,
    /// Ended records by age, with their generation.
    ended: VecDeque<(u32, u32)>,
    /// Records to be freed once their epoch is reached.
    dying: VecDeque<u32>,
    live_cnt: u32,
    ended_cnt: u32,
}

impl TableWriter {
    /// Takes over the records that a former plane left; all are free in a new table. No worker runs yet.
    pub(crate) fn new(
        info: Shared<PlaneInfo>,
        ports: Shared<[PortCounters]>,
        addresses: Shared<[AddressCell]>,
        index: Shared<[AtomicU32]>,
        records: Shared<[Record]>,
        epochs: Arc<Epochs>,
    ) -> TableWriter {
        let notes = vec![Note::default(); records.len()];
        let mut table = TableWriter {
            info,
            ports,
            addresses,
            index,
            records,
            epochs,
            reached: 0,
            stuck_at: None,
            notes,
            free: VecDeque::new(),
            ended: VecDeque::new(),
            dying: VecDeque::new(),
            live_cnt: 0,
            ended_cnt: 0,
        };
        table.resume();
        table
    }

    fn resume(&mut self) {
        for entry in self.index.iter() {
            // Most are zero already, and a store would make the page dirty.
            if entry.load(Ordering::Relaxed) != 0 {
                entry.store(0, Ordering::Relaxed);
            }
        }
        for number in 0..self.capacity() {
            let record = &self.records[number as usize];
            record.tally.meter.disown();
            record.tally.meter.latch_asked.store(0, Ordering::Relaxed);
            let in_use = record.head.generation.load(Ordering::Relaxed) & 1 == 1;
            match record.head.state.load(Ordering::Relaxed) {
                state::LIVE if in_use => {
                    record.enter_index(number, self.place(record.endpoint()));
                    self.live_cnt += 1;
                }
                state::ENDED if in_use => {
                    self.ended.push_back((number, record.generation()));
                    self.ended_cnt += 1;
                }
                // The former plane died between taking or freeing it and saying so.
                found => {
                    if in_use || found != state::FREE {
                        record.free();
                    }
                    self.free.push_back(number);
                }
            }
        }
        let records = &self.records;
        let ended_ns = |number: u32| {
            records[number as usize]
                .head
                .ended_ns
                .load(Ordering::Relaxed)
        };
        self.ended
            .make_contiguous()
            .sort_by_key(|(number, _)| ended_ns(*number));
        self.publish_counts();
    }

    fn place(&self, endpoint: Endpoint) -> &AtomicU32 {
        &self.index[endpoint.to_bits() as usize]
    }

    fn record(&self, number: u32) -> &Record {
        &self.records[number as usize]
    }

    fn publish_counts(&self) {
        self.info.live.store(self.live_cnt, Ordering::Relaxed);
        self.info.ended.store(self.ended_cnt, Ordering::Relaxed);
    }

    /// Makes this the list of the plane's addresses, and returns the number of each. A known (address,
    /// VLAN) keeps its number, also across restarts; one that is missing is marked absent, and its
    /// streams stay.
    pub fn set_addresses(&mut self, list: &[AddressEntry]) -> Result<Vec<u16>, TooManyAddresses> {
        crate::address::set(&self.addresses, list)
    }

    /// Every address that was ever the plane's.
    pub fn addresses(&self) -> Vec<Address> {
        crate::address::list(&self.addresses)
    }

    /// The counters of a port, to write; below [`crate::counters::MAX_PORTS`].
    pub fn port(&self, number: usize) -> Option<&PortCounters> {
        self.ports.get(number)
    }

    /// How many records there are.
    pub fn capacity(&self) -> u32 {
        self.records.len() as u32
    }

    /// The number of the live stream at the endpoint.
    pub fn find(&self, endpoint: Endpoint) -> Option<u32> {
        entry_number(
            self.index
                .get(endpoint.to_bits() as usize)?
                .load(Ordering::Relaxed),
        )
    }

    /// Installs a stream with a closed slot and returns its number; [`TableWriter::update`] opens it.
    /// An endpoint that is live already keeps its number and meter, and takes the new call.
    ///
    /// # Panics
    /// If the endpoint's address number is not below [`crate::MAX_ADDRESSES`].
    pub fn insert(&mut self, at: Endpoint, call: u64, now_ns: u64) -> Result<u32, TableFull> {
        if let Some(number) = self.find(at) {
            self.record(number).head.call.store(call, Ordering::Relaxed);
            return Ok(number);
        }
        if self.free.is_empty() {
            self.bury(SOME);
        }
        let number = self.free.pop_front().ok_or(TableFull)?;
        self.notes[number as usize] = Note::default();
        let record = self.record(number);
        // SAFETY: `bury` puts a record on the free list once its epoch is reached, and at the start
        // there are no workers.
        unsafe { record.take(at, call, now_ns) };
        record.enter_index(number, self.place(at));
        self.live_cnt += 1;
        self.publish_counts();
        Ok(number)
    }

    /// Whether a live stream has this number.
    pub fn is_live(&self, number: u32) -> bool {
        self.records
            .get(number as usize)
            .is_some_and(Record::is_live)
    }

    /// A copy of the record's live slot.
    ///
    /// # Panics
    /// If there is no such record; so do [`TableWriter::head`] and [`TableWriter::tally`].
    pub fn slot(&self, number: u32) -> Slot {
        self.record(number).live_slot()
    }

    /// The ICE credentials that go with it.
    ///
    /// # Panics
    /// If there is no such record.
    pub fn ice(&self, number: u32) -> Option<Ice> {
        self.record(number).live_ice()
    }

    /// As [`TableWriter::update_with`], with the ICE credentials that the stream has.
    pub fn update(&mut self, number: u32, slot: &Slot) -> Result<(), UpdateError> {
        let live = self.records.get(number as usize);
        let ice = live.and_then(Record::live_ice);
        self.update_with(number, slot, ice.as_ref())
    }

    /// Makes `slot` the stream's policy and route, with the next version, and these its ICE credentials. Waits for the workers only if
    /// the stream was updated a moment ago; then, if they do not move for a second, nothing changes.
    pub fn update_with(
        &mut self,
        number: u32,
        slot: &Slot,
        ice: Option<&Ice>,
    ) -> Result<(), UpdateError> {
        if !self.is_live(number) {
            return Err(UpdateError::NotLive);
        }
        self.await_epoch(self.notes[number as usize].retired)?;
        let record = self.record(number);
        let version = record.live_slot().version.wrapping_add(1);
        let place = self.place(record.endpoint());
        // SAFETY: every worker has reached the epoch in which the idle slot was retired.
        unsafe { record.flip(number, place, &Slot { version, ..*slot }, ice) };
        self.notes[number as usize].retired = self.epochs.retire();
        Ok(())
    }

    /// Waits, but not for long, until every worker has reached the epoch; and not at all for a worker that
    /// it has waited for in vain and that has not moved since.
    fn await_epoch(&mut self, epoch: u64) -> Result<(), UpdateError> {
        #[cfg(not(loom))]
        let (tries, pause) = (GRACE.0, || std::thread::sleep(GRACE.1));
        #[cfg(loom)]
        let (tries, pause) = (2, loom::thread::yield_now);
        let mut behind = 0;
        for attempt in 0..tries {
            if epoch <= self.reached {
                return Ok(());
            }
            let (reached, slowest) = self.epochs.reached();
            self.reached = reached;
            match slowest {
                Some(worker) if reached < epoch => behind = worker,
                _ => return Ok(()),
            }
            if attempt == 0 && self.stuck_at == Some(reached) {
                break;
            }
            pause();
        }
        self.stuck_at = Some(self.reached);
        Err(UpdateError::WorkerStuck { worker: behind })
    }

    /// Ends a live stream: no packet passes any more, its meter stays to be read. False if there is none.
    pub fn remove(&mut self, number: u32, now_ns: u64) -> bool {
        if !self.is_live(number) {
            return false;
        }
        let record = self.record(number);
        record.end(self.place(record.endpoint()), now_ns);
        let generation = record.generation();
        self.notes[number as usize].retired = self.epochs.retire();
        self.ended.push_back((number, generation));
        self.live_cnt -= 1;
        self.ended_cnt += 1;
        self.publish_counts();
        true
    }

    /// Control has read the last meter of this generation of the record. False if it is not ended.
    pub fn acknowledge(&mut self, number: u32, generation: u32) -> bool {
        let known = self.is_waiting(number, generation);
        if known {
            self.notes[number as usize].dying = true;
            self.dying.push_back(number);
            self.bury(SOME);
        }
        known
    }

    /// Whether this generation of the record is ended and waits to be read.
    fn is_waiting(&self, number: u32, generation: u32) -> bool {
        self.records.get(number as usize).is_some_and(|record| {
            record.generation() == generation
                && record.head.state.load(Ordering::Relaxed) == state::ENDED
                && !self.notes[number as usize].dying
        })
    }

    /// Frees some of the records that ended more than ten seconds ago or were acknowledged, `most` at most; whether there may be
    /// more of them.
    pub fn expire(&mut self, now_ns: u64, most: usize) -> bool {
        let mut looked = 0;
        while let Some(&(number, generation)) = self.ended.front().filter(|_| looked < most) {
            if self.is_waiting(number, generation) {
                let ended_ns = self.head(number).ended_ns.load(Ordering::Relaxed);
                if now_ns.saturating_sub(ended_ns) <= ENDED_NS {
                    break;
                }
                self.notes[number as usize].dying = true;
                self.dying.push_back(number);
            }
            self.ended.pop_front();
            looked += 1;
        }
        let freed = self.bury(most);
        looked.max(freed) == most
    }

    /// Frees what nobody needs and no worker can see any more, `most` records at most; returns how many.
    fn bury(&mut self, most: usize) -> usize {
        let mut freed = 0;
        while let Some(&number) = self.dying.front().filter(|_| freed < most) {
            let retired = self.notes[number as usize].retired;
            if retired > self.reached {
                self.reached = self.epochs.reached().0;
            }
            if retired > self.reached {
                break;
            }
            self.record(number).free();
            self.dying.pop_front();
            self.free.push_back(number);
            self.ended_cnt -= 1;
            freed += 1;
        }
        self.publish_counts();
        freed
    }

    /// Begins an epoch: what no live slot names from here on, no worker reads once it is
    /// [`TableWriter::has_passed`].
    pub fn retire(&mut self) -> u64 {
        self.epochs.retire()
    }

    /// Whether every worker has passed a quiescent point since the epoch began. Does not wait.
    pub fn has_passed(&mut self, epoch: u64) -> bool {
        if epoch > self.reached {
            self.reached = self.epochs.reached().0;
        }
        epoch <= self.reached
    }

    /// The record's identity and state.
    pub fn head(&self, number: u32) -> &Head {
        &self.record(number).head
    }

    /// The record's counters, to read.
    pub fn tally(&self, number: u32) -> &Tally {
        &self.record(number).tally
    }

    /// Counts a packet that was dropped after a worker found its stream, unless the record is free by now.
    pub fn count_dropped(&self, id: RecordId, reason: Drop) {
        if let Some(record) = self.records.get(id.number as usize)
            && record.generation() == id.generation
        {
            record.tally.count_dropped(reason);
        }
    }

    /// Has the stream's owner look at its policing before the next packet.
    pub fn police_anew(&self, number: u32) {
        self.record(number).tally.meter.allowed.set(0);
    }

    /// The numbers of all live streams; right after the start, of those that a former plane left.
    pub fn live(&self) -> impl Iterator<Item = u32> {
        (0..self.capacity()).filter(|number| self.is_live(*number))
    }

    /// How many records are in which state.
    pub fn counts(&self) -> Counts {
        let free = self.capacity() - self.live_cnt - self.ended_cnt;
        Counts {
            live: self.live_cnt,
            ended: self.ended_cnt,
            free,
        }
    }
}
