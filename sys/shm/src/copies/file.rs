//! The file `copies`: made by the plane, read by anyone in its group.

use super::{Copy, CopyRing, CopySlot, CopyWriter, Follower, SNAP_LEN};
use crate::cell::Shared;
use crate::counters::MAX_WORKERS;
use crate::layout::{Identity, fnv, layout};
use crate::lifecycle::{Held, io};
use crate::lifecycle::{
    RegionConfig, RegionError, TABLE_MODE, identity, is_file, make_mapping, open_mapping,
    with_suffix,
};
use crate::map::{Access, Mapping};
use crate::sync::Ordering;
use std::mem::offset_of;
use std::path::Path;
use std::sync::Arc;

const MAGIC: u64 = u64::from_be_bytes(*b"pencopys");

/// Grows with every change that the layout cannot show.
const VERSION: u32 = 1;

/// The copies have a layout of their own: a change here sets no region aside.
const LAYOUT: u64 = {
    let mut h = 0xcbf2_9ce4_8422_2325;
    h = layout!(h, CopySlot { seq, about, frame });
    h = layout!(h, CopyRing { head, slots });
    h
};

/// Bytes of memory that the copy rings of this many workers take.
pub const fn copies_len(workers: usize) -> usize {
    size_of::<Identity>() + workers * size_of::<CopyRing>()
}

/// How many rings a sound file holds.
fn check(mapping: &Mapping) -> Result<usize, String> {
    if mapping.len() < size_of::<Identity>() {
        return Err("copies are cut short".into());
    }
    let id = identity(mapping);
    // Pairs with the store in `make`.
    if id.magic.load(Ordering::Acquire) != MAGIC {
        return Err("copies are no file of Penstock's".into());
    }
    let is_ours =
        id.abi.load(Ordering::Relaxed) == VERSION && id.layout.load(Ordering::Relaxed) == LAYOUT;
    if !is_ours {
        return Err("copies were made by another version".into());
    }
    let rings = id.streams.load(Ordering::Relaxed) as usize;
    if rings > MAX_WORKERS || mapping.len() < copies_len(rings) {
        return Err(format!("copies are too short for {rings} workers"));
    }
    Ok(rings)
}

fn ring(held: &Arc<Held>, number: usize) -> Shared<CopyRing> {
    let at = copies_len(number);
    let ring = held.mapping.at::<CopyRing>(at, 1);
    // SAFETY: a CopyRing is atomics, any bytes are one, and `held` keeps it mapped.
    unsafe { Shared::new(ring, held.clone()) }
}

/// The ring of each worker, in the file that the region has if that fits: its readers then go on. Nothing in it
/// is worth keeping otherwise.
pub(crate) fn open_writers(
    config: &RegionConfig,
    generation: u64,
    workers: usize,
) -> Result<Vec<CopyWriter>, RegionError> {
    let path = config.dir.join("copies");
    let fits = |mapping: &Mapping| {
        check(mapping) == Ok(workers)
            && identity(mapping).generation.load(Ordering::Relaxed) == generation
    };
    let mapping = match open_mapping(&path, Access::Write)?.filter(fits) {
        Some(mapping) => mapping,
        None => make(config, &path, generation, workers)?,
    };
    let held = Arc::new(Held::unlocked(mapping));
    Ok((0..workers)
        .map(|number| CopyWriter::new(ring(&held, number)))
        .collect())
}

fn make(
    config: &RegionConfig,
    path: &Path,
    generation: u64,
    workers: usize,
) -> Result<Mapping, RegionError> {
    let new = with_suffix(path, ".new");
    let mapping = make_mapping(&new, TABLE_MODE, copies_len(workers), config.group)?;
    let id = identity(&mapping);
    id.layout.store(LAYOUT, Ordering::Relaxed);
    id.generation.store(generation, Ordering::Relaxed);
    id.length.store(mapping.len() as u64, Ordering::Relaxed);
    id.abi.store(VERSION, Ordering::Relaxed);
    id.streams.store(workers as u32, Ordering::Relaxed);
    // Pairs with the load in `check`.
    id.magic.store(MAGIC, Ordering::Release);
    std::fs::rename(&new, path).map_err(io("rename to", path))?;
    Ok(mapping)
}

/// Follows the copy rings of all workers of a region.
pub struct CopyReader {
    rings: Vec<Follower>,
    held: Arc<Held>,
    frame: Box<[u8; SNAP_LEN]>,
}

impl CopyReader {
    /// Follows the region in `dir` from the next copy on. Needs no lock, and the plane need not live.
    ///
    /// # Errors
    /// There is no such region, it is another version's, or its files may not be read.
    pub fn open(dir: &Path) -> Result<CopyReader, RegionError> {
        let Some(mapping) = open_mapping(&dir.join("copies"), Access::Read)? else {
            return Err(RegionError::NoRegion { dir: dir.into() });
        };
        let rings = check(&mapping).map_err(|why| RegionError::Incompatible {
            dir: dir.into(),
            why,
        })?;
        let held = Arc::new(Held::unlocked(mapping));
        Ok(CopyReader {
            rings: (0..rings)
                .map(|number| Follower::new(ring(&held, number)))
                .collect(),
            held,
            frame: Box::new([0; SNAP_LEN]),
        })
    }

    /// Hands on each copy made since the last time, in each worker's order, one worker after the other.
    pub fn read(&mut self, mut each: impl FnMut(Copy<'_>)) {
        for ring in &mut self.rings {
            ring.follow(&mut self.frame, &mut each);
        }
    }

    /// Copies of all calls that were overwritten before this reader came to them.
    pub fn lost(&self) -> u64 {
        self.rings.iter().map(Follower::lost).sum()
    }

    /// Whether the region in `dir` has other copy rings by now: open them anew.
    pub fn is_replaced(&self, dir: &Path) -> bool {
        !is_file(&self.held.mapping, &dir.join("copies"))
    }
}
