//! Memory that one side fills and another reads: ring slots, policy slots, and the pointer to
//! either. In model checks loom's cells stand in, which fail when a read meets a write.

use crate::bytes::Block;
use crate::record::Slot;
use std::any::Any;
use std::ops::Deref;
use std::ptr::NonNull;
use std::sync::Arc;

/// A value inside a mapping (in model checks: on the heap), which lives as long as this does.
pub(crate) struct Shared<T: ?Sized> {
    value: NonNull<T>,
    owner: Arc<dyn Any + Send + Sync>,
}

impl<T: ?Sized> Shared<T> {
    /// # Safety
    /// `value` points to a valid T that stays valid, and is changed only through `&T`, while `owner` lives.
    pub(crate) unsafe fn new(value: NonNull<T>, owner: Arc<dyn Any + Send + Sync>) -> Shared<T> {
        Shared { value, owner }
    }

    /// A part of the value.
    pub(crate) fn part<U: ?Sized>(&self, pick: impl for<'a> FnOnce(&'a T) -> &'a U) -> Shared<U> {
        // What `pick` may return is part of the value, or static: both live as long as the owner.
        Shared {
            value: NonNull::from(pick(self)),
            owner: self.owner.clone(),
        }
    }
}

impl<T: Send + Sync + 'static> Shared<T> {
    /// A value of this process alone.
    pub(crate) fn own(value: T) -> Shared<T> {
        let owner = Arc::new(value);
        Shared {
            value: NonNull::from(&*owner),
            owner,
        }
    }
}

impl<T: ?Sized> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Shared {
            value: self.value,
            owner: self.owner.clone(),
        }
    }
}

impl<T: ?Sized> Deref for Shared<T> {
    type Target = T;

    #[inline(always)]
    fn deref(&self) -> &T {
        // SAFETY: `new` requires the value to be valid while `owner`, which we hold, lives.
        unsafe { self.value.as_ref() }
    }
}

// SAFETY: it gives out `&T` only, and the owner is Send and Sync.
unsafe impl<T: ?Sized + Sync> Send for Shared<T> {}
// SAFETY: as above.
unsafe impl<T: ?Sized + Sync> Sync for Shared<T> {}

#[cfg(not(loom))]
pub(crate) use mapped::{BlockCell, SlotCell};

#[cfg(not(loom))]
mod mapped {
    use super::{Block, Slot};
    use crate::sync::{AtomicU64, Ordering};
    use std::cell::UnsafeCell;

    /// One slot of a ring. Words are atomic because the other process may write at any time, whatever
    /// the protocol says.
    #[repr(C, align(64))]
    pub(crate) struct BlockCell([AtomicU64; 8]);

    impl BlockCell {
        pub(crate) fn load(&self) -> Block {
            let mut block = [0; 64];
            for (bytes, word) in block.chunks_exact_mut(8).zip(&self.0) {
                bytes.copy_from_slice(&word.load(Ordering::Relaxed).to_ne_bytes());
            }
            block
        }

        pub(crate) fn store(&self, block: &Block) {
            for (index, word) in self.0.iter().enumerate() {
                let mut bytes = [0; 8];
                bytes.copy_from_slice(&block[index * 8..index * 8 + 8]);
                word.store(u64::from_ne_bytes(bytes), Ordering::Relaxed);
            }
        }
    }

    const WORDS: usize = size_of::<Slot>() / 8;

    /// One of a record's two slots.
    #[repr(transparent)]
    pub(crate) struct SlotCell(UnsafeCell<Slot>);

    // SAFETY: `fill` and `get` state when they may meet; `copy` and `fill` use atomic words.
    unsafe impl Sync for SlotCell {}

    impl SlotCell {
        fn words(&self) -> &[AtomicU64; WORDS] {
            // SAFETY: a Slot is 128 bytes without padding, aligned to 64, so it is WORDS words; all
            // access that may be concurrent goes through these atomics.
            unsafe { &*self.0.get().cast() }
        }

        /// # Safety
        /// No worker holds what [`SlotCell::get`] returned.
        pub(crate) unsafe fn fill(&self, slot: &Slot) {
            // SAFETY: a Slot is WORDS words without padding; any bytes are valid words.
            let from: [u64; WORDS] = unsafe { std::mem::transmute(*slot) };
            for (word, value) in self.words().iter().zip(from) {
                word.store(value, Ordering::Relaxed);
            }
        }

        /// # Safety
        /// Nobody fills the slot while the reference lives: it was reached through an index entry
        /// loaded since the worker's last quiescent point.
        #[inline(always)]
        pub(crate) unsafe fn get(&self) -> &Slot {
            // SAFETY: by the contract above nothing writes while the reference lives.
            unsafe { &*self.0.get() }
        }

        /// A copy that may be torn: the caller checks afterwards.
        pub(crate) fn copy(&self) -> Slot {
            let words = self
                .words()
                .each_ref()
                .map(|word| word.load(Ordering::Relaxed));
            // SAFETY: a Slot is WORDS words, and any bytes are a valid Slot.
            unsafe { std::mem::transmute(words) }
        }
    }
}

#[cfg(loom)]
pub(crate) use modelled::{BlockCell, SlotCell};

#[cfg(loom)]
mod modelled {
    use super::{Block, Slot};
    use crate::sync::{AtomicU32, Ordering};
    use loom::cell::UnsafeCell;

    pub(crate) struct BlockCell(UnsafeCell<Block>);

    // SAFETY: loom fails the test where two accesses could meet.
    unsafe impl Sync for BlockCell {}
    // SAFETY: as above.
    unsafe impl Send for BlockCell {}

    impl BlockCell {
        pub(crate) fn new() -> BlockCell {
            BlockCell(UnsafeCell::new([0; 64]))
        }

        pub(crate) fn load(&self) -> Block {
            // SAFETY: loom checks that nobody writes.
            self.0.with(|block| unsafe { *block })
        }

        pub(crate) fn store(&self, block: &Block) {
            // SAFETY: loom checks that nobody reads or writes.
            self.0.with_mut(|cell| unsafe { *cell = *block });
        }
    }

    /// Workers read the cell, so that loom sees a read meet a write; readers copy two words, which
    /// may be torn as in the mapping.
    pub(crate) struct SlotCell {
        cell: UnsafeCell<Slot>,
        words: [AtomicU32; 2],
    }

    // SAFETY: loom fails the test where two accesses could meet.
    unsafe impl Sync for SlotCell {}
    // SAFETY: as above.
    unsafe impl Send for SlotCell {}

    impl SlotCell {
        pub(crate) fn new() -> SlotCell {
            SlotCell {
                cell: UnsafeCell::new(Slot::CLOSED),
                words: Default::default(),
            }
        }

        pub(crate) unsafe fn fill(&self, slot: &Slot) {
            // SAFETY: loom checks that nobody reads or writes.
            self.cell.with_mut(|cell| unsafe { *cell = *slot });
            self.words[0].store(slot.version, Ordering::Relaxed);
            self.words[1].store(slot.signal, Ordering::Relaxed);
        }

        pub(crate) unsafe fn get(&self) -> &Slot {
            // SAFETY: loom checks that nobody writes.
            self.cell.with(|cell| unsafe { &*cell })
        }

        pub(crate) fn copy(&self) -> Slot {
            Slot {
                version: self.words[0].load(Ordering::Relaxed),
                signal: self.words[1].load(Ordering::Relaxed),
                ..Slot::CLOSED
            }
        }
    }
}
