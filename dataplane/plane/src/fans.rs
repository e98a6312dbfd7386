//! Which streams have to do with the packets that arrive at another one's endpoint, for workers to read.
//!
//! A stream that others are fed by has a fan: their endpoints. A worker looks each of them up in the index, like any
//! endpoint, and takes the slot it finds there at its word ([`Slot::feed`](penstock_shm::Slot::feed)): what stands in a
//! fan is no more than a hint where to look, and may be outdated.

use penstock_shm::{Endpoint, MAX_COPIES, MAX_PARTS};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// The bits of no endpoint: the index has none there.
const NOBODY: u32 = u32::MAX;

/// Those fed by one stream.
pub struct Fan {
    copies: [AtomicU32; MAX_COPIES],
    parts: [AtomicU32; MAX_PARTS],
}

impl Fan {
    fn new() -> Self {
        Fan {
            copies: [const { AtomicU32::new(NOBODY) }; MAX_COPIES],
            parts: [const { AtomicU32::new(NOBODY) }; MAX_PARTS],
        }
    }

    /// The copies' endpoints, as [`Endpoint::to_bits`].
    pub fn copies(&self) -> impl Iterator<Item = u32> {
        somebody(&self.copies)
    }

    /// The parts' endpoints, likewise.
    pub fn parts(&self) -> impl Iterator<Item = u32> {
        somebody(&self.parts)
    }
}

/// Relaxed: each word stands for itself, and what it leads to is published by the index.
fn somebody(words: &[AtomicU32]) -> impl Iterator<Item = u32> {
    let words = words.iter().map(|word| word.load(Relaxed));
    words.take_while(|word| *word != NOBODY)
}

fn fill(words: &[AtomicU32], endpoints: impl Iterator<Item = Endpoint>) {
    let endpoints = endpoints.map(Endpoint::to_bits);
    let all = endpoints.chain(std::iter::repeat(NOBODY));
    for (word, bits) in words.iter().zip(all) {
        if word.load(Relaxed) != bits {
            word.store(bits, Relaxed);
        }
    }
}

/// The fans, by record number. One once made stays, for whoever has the record.
pub struct Fans(Box<[OnceLock<Box<Fan>>]>);

impl Fans {
    /// None, for so many records.
    pub fn new(records: u32) -> Self {
        Fans((0..records).map(|_| OnceLock::new()).collect())
    }

    /// The record's, if it ever had one.
    pub fn get(&self, record: u32) -> Option<&Fan> {
        self.0.get(record as usize)?.get().map(Box::as_ref)
    }

    /// Makes these the record's. What exceeds a fan is left out. For the steward.
    pub fn fill(
        &self,
        record: u32,
        copies: impl Iterator<Item = Endpoint>,
        parts: impl Iterator<Item = Endpoint>,
    ) {
        if let Some(place) = self.0.get(record as usize) {
            let fan = place.get_or_init(|| Box::new(Fan::new()));
            fill(&fan.copies, copies);
            fill(&fan.parts, parts);
        }
    }
}
