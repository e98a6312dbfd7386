//! The copy ring: frames of captured calls, from each worker to whoever reads along.
//!
//! A third file of the region, `copies`, holds one ring for each worker: [`COPY_SLOTS`] slots of 2 KiB, so
//! 2 MiB a worker ([`copies_len`]), reserved when the plane starts, so that no worker ever waits for a page.
//!
//! The ring is a lossy broadcast. Its worker alone writes, never waits, and overwrites the oldest copy. Any
//! number of readers, which map the file read-only and are unknown to the worker, follow at their own pace;
//! one that was too slow counts what it missed. What tells it is each slot's sequence number, which it reads
//! before and after it copies the slot.
//!
//! A worker makes at most [`COPIES_PER_MS`] copies in a millisecond, so that a flood on a captured call costs
//! the calls beside it little, and a reader that looks every 4 ms misses nothing.
//!
//! ```text
//! let mut reader = CopyReader::open(dir)?;         // copies made from now on
//! loop { reader.read(|copy| ...); reader.lost(); } // every 4 ms or more often
//! ```

use crate::cell::Shared;
use crate::record::Endpoint;
use crate::ring::Line;
use crate::sync::{AtomicU64, Ordering, fence};

/// Copies that one worker's ring holds.
pub const COPY_SLOTS: usize = if cfg!(loom) { 2 } else { 1024 };

/// The most copies a worker makes in a millisecond; those beyond are lost, and counted by the worker.
pub const COPIES_PER_MS: u32 = (COPY_SLOTS as u32).div_ceil(4);

const FRAME_WORDS: usize = if cfg!(loom) { 1 } else { 251 };

/// How much of a frame fits a slot, octets; what is longer is cut.
pub const SNAP_LEN: usize = FRAME_WORDS * 8;

/// Which way a frame was going when it was copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Direction {
    /// As it came, whether or not it was then dropped.
    Ingress = 0,
    /// As it leaves. The MAC address of a next hop that is still being resolved is zero.
    Egress = 1,
}

/// What is known of a copied frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct About {
    /// When its burst was received, ns of CLOCK_MONOTONIC.
    pub time_ns: u64,
    /// Control's key of the call.
    pub call: u64,
    /// Record number of the stream it arrived at.
    pub stream: u32,
    /// Where that stream arrives.
    pub endpoint: Endpoint,
    /// Which way it was going.
    pub direction: Direction,
    /// Length of the whole frame, octets.
    pub len: u16,
}

/// Sequence number, then what [`About`] says, then the frame, in words: readers look while the worker writes.
#[repr(C, align(64))]
pub(crate) struct CopySlot {
    /// The number of the copy plus 1; 0 while it is being written.
    pub(crate) seq: AtomicU64,
    /// Time; call; stream and endpoint; direction, length and how much of it is here.
    pub(crate) about: [AtomicU64; 4],
    pub(crate) frame: [AtomicU64; FRAME_WORDS],
}

/// One worker's ring.
#[repr(C)]
pub(crate) struct CopyRing {
    /// Copies ever made.
    pub(crate) head: Line<AtomicU64>,
    pub(crate) slots: [CopySlot; COPY_SLOTS],
}

impl CopyRing {
    #[cfg(loom)]
    pub(crate) fn new() -> CopyRing {
        let word = |_| AtomicU64::new(0);
        CopyRing {
            head: Line::default(),
            slots: std::array::from_fn(|_| CopySlot {
                seq: word(0),
                about: std::array::from_fn(word),
                frame: std::array::from_fn(word),
            }),
        }
    }

    fn slot(&self, number: u64) -> &CopySlot {
        &self.slots[number as usize % COPY_SLOTS]
    }
}

impl CopySlot {
    fn fill(&self, seq: u64, about: &About, frame: &[u8]) {
        self.seq.store(0, Ordering::Relaxed);
        // Pairs with the fence in `copy`: whoever sees a word of what follows sees the 0.
        fence(Ordering::Release);
        let captured = frame.len().min(SNAP_LEN);
        let about = [
            about.time_ns,
            about.call,
            u64::from(about.stream) << 32 | u64::from(about.endpoint.to_bits()),
            (about.direction as u64) << 32 | u64::from(about.len) << 16 | captured as u64,
        ];
        for (word, value) in self.about.iter().zip(about) {
            word.store(value, Ordering::Relaxed);
        }
        let (whole, rest) = frame[..captured].as_chunks::<8>();
        for (word, bytes) in self.frame.iter().zip(whole) {
            word.store(u64::from_ne_bytes(*bytes), Ordering::Relaxed);
        }
        if let Some(word) = self.frame.get(whole.len()) {
            let mut bytes = [0; 8];
            bytes[..rest.len()].copy_from_slice(rest);
            word.store(u64::from_ne_bytes(bytes), Ordering::Relaxed);
        }
        // Relaxed: `head` says that the copy is whole.
        self.seq.store(seq, Ordering::Relaxed);
    }

    /// Copies the slot out, if it holds the copy of this number and held it all the while.
    fn copy(&self, seq: u64, frame: &mut [u8; SNAP_LEN]) -> Option<(About, usize)> {
        if self.seq.load(Ordering::Relaxed) != seq {
            return None;
        }
        let about = self.about.each_ref().map(|w| w.load(Ordering::Relaxed));
        // Torn, it may be anything.
        let captured = usize::from(about[3] as u16).min(SNAP_LEN);
        let (chunks, _) = frame.as_chunks_mut::<8>();
        for (word, chunk) in self.frame.iter().zip(chunks).take(captured.div_ceil(8)) {
            *chunk = word.load(Ordering::Relaxed).to_ne_bytes();
        }
        // Pairs with the fence in `fill`.
        fence(Ordering::Acquire);
        if self.seq.load(Ordering::Relaxed) != seq {
            return None;
        }
        let [time_ns, call, stream, rest] = about;
        let about = About {
            time_ns,
            call,
            stream: (stream >> 32) as u32,
            endpoint: Endpoint::from_bits(stream as u32),
            direction: match rest >> 32 {
                0 => Direction::Ingress,
                _ => Direction::Egress,
            },
            len: (rest >> 16) as u16,
        };
        Some((about, captured))
    }
}

/// A worker's end of its ring.
pub struct CopyWriter {
    ring: Shared<CopyRing>,
    head: u64,
    /// When the present millisecond began, and how many copies were made in it.
    window_ns: u64,
    used: u32,
}

impl CopyWriter {
    /// Goes on where the last writer stopped: a copy it was killed at is written anew.
    pub(crate) fn new(ring: Shared<CopyRing>) -> CopyWriter {
        // Pairs with the store in `write`, should that have been another process.
        let head = ring.head.0.load(Ordering::Acquire);
        CopyWriter {
            ring,
            head,
            window_ns: 0,
            used: 0,
        }
    }

    /// Copies a frame, over the oldest copy. False if this millisecond's copies are used up.
    pub fn write(&mut self, about: &About, frame: &[u8]) -> bool {
        if about.time_ns.abs_diff(self.window_ns) >= 1_000_000 {
            (self.window_ns, self.used) = (about.time_ns, 0);
        }
        if self.used == COPIES_PER_MS {
            return false;
        }
        self.used += 1;
        let number = self.head;
        self.head = number.wrapping_add(1);
        self.ring.slot(number).fill(self.head, about, frame);
        // Pairs with the load in `follow`: whoever sees the count sees the copies.
        self.ring.head.0.store(self.head, Ordering::Release);
        true
    }
}

/// A reader's place in one ring.
pub(crate) struct Follower {
    ring: Shared<CopyRing>,
    next: u64,
    lost: u64,
}

impl Follower {
    /// Follows from the next copy on.
    pub(crate) fn new(ring: Shared<CopyRing>) -> Follower {
        // Pairs with `write`.
        let next = ring.head.0.load(Ordering::Acquire);
        Follower {
            ring,
            next,
            lost: 0,
        }
    }

    /// Hands on each copy made since the last time, as far as it still stands.
    pub(crate) fn follow(&mut self, frame: &mut [u8; SNAP_LEN], each: &mut impl FnMut(Copy<'_>)) {
        // Pairs with `write`.
        let head = self.ring.head.0.load(Ordering::Acquire);
        let behind = head.wrapping_sub(self.next);
        let gone = behind.saturating_sub(COPY_SLOTS as u64);
        self.next = self.next.wrapping_add(gone);
        self.lost += gone;
        while self.next != head {
            let slot = self.ring.slot(self.next);
            self.next = self.next.wrapping_add(1);
            match slot.copy(self.next, frame) {
                Some((about, captured)) => each(Copy {
                    about,
                    frame: &frame[..captured],
                }),
                None => self.lost += 1,
            }
        }
    }

    pub(crate) fn lost(&self) -> u64 {
        self.lost
    }
}

/// A copied frame, cut at [`SNAP_LEN`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Copy<'a> {
    /// What is known of it.
    pub about: About,
    /// The frame, from its destination MAC on, without its check sequence.
    pub frame: &'a [u8],
}

#[cfg(not(loom))]
pub(crate) use file::open_writers;
#[cfg(not(loom))]
pub use file::{CopyReader, copies_len};

#[cfg(not(loom))]
mod file;
