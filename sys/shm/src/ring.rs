//! A ring of 64-byte slots from one producer to one consumer, which may be different processes.
//!
//! `head` and `tail` count slots ever pushed and released. A batch becomes visible by one store of
//! `head`. The consumer's cursor runs ahead of `tail`: what it read but did not release comes again
//! after a restart.

use crate::bytes::Block;
use crate::cell::{BlockCell, Shared};
use crate::sync::{AtomicU64, Ordering};

/// A value on a cache line of its own.
#[derive(Default)]
#[repr(C, align(64))]
pub(crate) struct Line<T>(pub(crate) T);

/// The ring's two counts, each written by one side.
#[derive(Default)]
#[repr(C)]
pub(crate) struct RingState {
    /// Slots pushed. Written by the producer.
    pub(crate) head: Line<AtomicU64>,
    /// Slots released. Written by the consumer.
    pub(crate) tail: Line<AtomicU64>,
}

impl RingState {
    /// Slots that wait, or more than any capacity if a side wrote nonsense.
    pub(crate) fn waiting(&self) -> u64 {
        // Pair with `release` and `push`: slots are neither counted twice nor before they are there.
        let tail = self.tail.0.load(Ordering::Acquire);
        self.head.0.load(Ordering::Acquire).wrapping_sub(tail)
    }
}

/// The producer's end.
pub(crate) struct Sender {
    state: Shared<RingState>,
    slots: Shared<[BlockCell]>,
    head: u64,
    /// What `tail` was when last looked at.
    tail: u64,
}

impl Sender {
    /// Goes on where the last producer stopped. `slots.len()` is a power of two.
    pub(crate) fn new(state: Shared<RingState>, slots: Shared<[BlockCell]>) -> Sender {
        // Acquire pairs with the former producer's Release, should it have been another process.
        let head = state.head.0.load(Ordering::Acquire);
        let tail = state.tail.0.load(Ordering::Acquire);
        Sender {
            state,
            slots,
            head,
            tail,
        }
    }

    /// Slots ever pushed.
    pub(crate) fn head(&self) -> u64 {
        self.head
    }

    /// Slots that can be pushed now.
    pub(crate) fn room(&mut self) -> usize {
        // Pairs with `release`: the consumer has copied what we are about to overwrite.
        self.tail = self.state.tail.0.load(Ordering::Acquire);
        self.cached_room()
    }

    fn cached_room(&self) -> usize {
        // A tail ahead of head is nonsense from the other side: no room.
        let used = self.head.wrapping_sub(self.tail);
        usize::try_from(used).map_or(0, |used| self.slots.len().saturating_sub(used))
    }

    /// Pushes all blocks, visible at once, or none.
    pub(crate) fn push(&mut self, blocks: impl ExactSizeIterator<Item = Block>) -> bool {
        if blocks.len() > self.cached_room() && blocks.len() > self.room() {
            return false;
        }
        let mask = self.slots.len() - 1;
        for block in blocks {
            self.slots[self.head as usize & mask].store(&block);
            self.head = self.head.wrapping_add(1);
        }
        // Pairs with `Receiver::waiting`: whoever sees head sees the slots.
        self.state.head.0.store(self.head, Ordering::Release);
        true
    }
}

/// The consumer's end.
pub(crate) struct Receiver {
    state: Shared<RingState>,
    slots: Shared<[BlockCell]>,
    /// The next slot to read.
    cursor: u64,
}

/// The producer claims more slots than the ring has.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Overrun;

impl Receiver {
    /// Goes on where the last consumer released. `slots.len()` is a power of two.
    pub(crate) fn new(state: Shared<RingState>, slots: Shared<[BlockCell]>) -> Receiver {
        // Pairs with the former consumer's `release`, should it have been another process.
        let cursor = state.tail.0.load(Ordering::Acquire);
        Receiver {
            state,
            slots,
            cursor,
        }
    }

    /// The number of the next slot to read.
    pub(crate) fn cursor(&self) -> u64 {
        self.cursor
    }

    /// Slots that wait at the cursor.
    pub(crate) fn waiting(&self) -> Result<usize, Overrun> {
        // Pairs with `push`.
        let waiting = self
            .state
            .head
            .0
            .load(Ordering::Acquire)
            .wrapping_sub(self.cursor);
        match usize::try_from(waiting) {
            Ok(waiting) if waiting <= self.slots.len() => Ok(waiting),
            _ => Err(Overrun),
        }
    }

    /// A copy of the slot `ahead` of the cursor; [`Receiver::waiting`] says which hold something.
    pub(crate) fn peek(&self, ahead: usize) -> Block {
        let place = self.cursor.wrapping_add(ahead as u64);
        self.slots[place as usize & (self.slots.len() - 1)].load()
    }

    /// Moves the cursor past `count` slots.
    pub(crate) fn advance(&mut self, count: usize) {
        self.cursor = self.cursor.wrapping_add(count as u64);
    }

    /// Moves the cursor past everything: the way out of nonsense.
    pub(crate) fn skip_all(&mut self) {
        // Pairs with `push`, as in `waiting`.
        self.cursor = self.state.head.0.load(Ordering::Acquire);
    }

    /// Gives the slots before `place` back.
    pub(crate) fn release(&mut self, place: u64) {
        // Pairs with `Sender::room`: our copies happened before.
        self.state.tail.0.store(place, Ordering::Release);
    }
}
