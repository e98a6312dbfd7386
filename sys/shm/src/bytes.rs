//! Little-endian fields of a 64-byte ring slot.

use std::ops::Range;

/// One slot of a ring, copied out.
pub(crate) type Block = [u8; 64];

pub(crate) fn put16(b: &mut Block, at: usize, value: u16) {
    b[at..at + 2].copy_from_slice(&value.to_le_bytes());
}

pub(crate) fn put32(b: &mut Block, at: usize, value: u32) {
    b[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

pub(crate) fn put64(b: &mut Block, at: usize, value: u64) {
    b[at..at + 8].copy_from_slice(&value.to_le_bytes());
}

pub(crate) fn get16(b: &Block, at: usize) -> u16 {
    u16::from_le_bytes([b[at], b[at + 1]])
}

pub(crate) fn get32(b: &Block, at: usize) -> u32 {
    u32::from(get16(b, at)) | u32::from(get16(b, at + 2)) << 16
}

pub(crate) fn get64(b: &Block, at: usize) -> u64 {
    u64::from(get32(b, at)) | u64::from(get32(b, at + 4)) << 32
}

/// Checks that every byte outside `used` is zero, so that each slot has exactly one reading.
pub(crate) fn zero_but(b: &Block, used: &[Range<usize>]) -> Result<(), &'static str> {
    let stray = (0..64).any(|i| b[i] != 0 && !used.iter().any(|range| range.contains(&i)));
    if stray {
        Err("bytes set that have no meaning")
    } else {
        Ok(())
    }
}
