//! What opening the region as the plane would do, found out without changing anything.

use super::{Found, RegionConfig, RegionError, find, io};
use crate::layout::{MAX_STREAMS, Rings, table_len};
use crate::lock::{Lock, PLANE};
use crate::map::Access;
use crate::record::Record;
use rustix::fs::{Access as May, AtFlags, CWD, accessat};
use std::path::Path;

/// What a region takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Length of the rings file, bytes, before it is rounded up to whole pages.
    pub rings_bytes: u64,
    /// Length of the table file, likewise.
    pub table_bytes: u64,
    /// Bytes of the table that each stream takes.
    pub record_bytes: u64,
}

/// What [`Plane::open`](crate::Plane::open) would do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preview {
    /// What it takes.
    pub sizes: Sizes,
    /// What would happen to what lies there.
    pub fate: Fate,
    /// Bytes free where the table would be made; none if its file system does not say.
    pub free_bytes: Option<u64>,
}

/// What would happen to the region that lies there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// There is none: a new one.
    Made,
    /// It is resumed; no memory is needed.
    Resumed,
    /// It does not fit, and is kept as `*.aside` beside a new one.
    SetAside {
        /// What does not fit.
        why: String,
    },
}

impl RegionConfig {
    /// What the region takes.
    pub fn sizes(&self) -> Sizes {
        Sizes {
            rings_bytes: size_of::<Rings>() as u64,
            table_bytes: table_len(self.streams) as u64,
            record_bytes: size_of::<Record>() as u64,
        }
    }

    /// What [`Plane::open`](crate::Plane::open) would do with this configuration now.
    ///
    /// # Errors
    ///
    /// What would keep it from doing so, as far as that shows: another plane, a directory that must not be
    /// written to, a number of streams out of range, too little room.
    pub fn preview(&self) -> Result<Preview, RegionError> {
        if self.streams == 0 || self.streams > MAX_STREAMS {
            return Err(RegionError::Streams {
                streams: self.streams,
            });
        }
        let lock_path = self.dir.join(PLANE.lock);
        if let Ok(lock) = Lock::watch(&self.dir, &PLANE)
            && lock.is_held()
        {
            let pid = std::fs::read_to_string(&lock_path).unwrap_or_default();
            return Err(RegionError::Held {
                who: PLANE.program,
                pid: pid.trim().to_owned(),
                lock: lock_path,
            });
        }
        let table_dir = self.table_dir.as_deref().unwrap_or(&self.dir);
        for dir in [self.dir.as_path(), table_dir] {
            may_write(dir)?;
        }
        let fate = match find(&self.dir, Access::Read)? {
            Found::Nothing => Fate::Made,
            Found::Pair(pair) if pair.streams == self.streams => Fate::Resumed,
            Found::Pair(pair) => Fate::SetAside {
                why: format!(
                    "its table holds {} streams, {} are configured",
                    pair.streams, self.streams
                ),
            },
            Found::Misfit(why) => Fate::SetAside { why },
        };
        let sizes = self.sizes();
        let free_bytes = free(table_dir);
        if fate != Fate::Resumed && free_bytes.is_some_and(|free| free < sizes.table_bytes) {
            return Err(RegionError::Space {
                path: table_dir.join("table"),
                bytes: sizes.table_bytes as usize,
                source: rustix::io::Errno::NOSPC.into(),
            });
        }
        Ok(Preview {
            sizes,
            fate,
            free_bytes,
        })
    }
}

/// The directory, or the one that it would be made in.
fn existing(dir: &Path) -> &Path {
    dir.ancestors().find(|dir| dir.exists()).unwrap_or(dir)
}

fn may_write(dir: &Path) -> Result<(), RegionError> {
    let dir = existing(dir);
    accessat(CWD, dir, May::WRITE_OK | May::EXEC_OK, AtFlags::EACCESS)
        .map_err(io("write to", dir))?;
    Ok(())
}

fn free(dir: &Path) -> Option<u64> {
    let stat = rustix::fs::statvfs(existing(dir)).ok()?;
    // A file system without a limit says zero blocks in all.
    (stat.f_blocks != 0).then(|| stat.f_bavail.saturating_mul(stat.f_frsize))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Plane;

    fn config(dir: &Path, streams: u32) -> RegionConfig {
        RegionConfig {
            dir: dir.join("region"),
            table_dir: None,
            streams,
            group: None,
        }
    }

    #[test]
    fn tells_what_open_then_does() {
        let dir = tempfile::tempdir().expect("a folder");
        let small = config(dir.path(), 64);
        let preview = small.preview().expect("a preview");
        assert_eq!(preview.fate, Fate::Made);
        assert!(!small.dir.exists(), "a preview made something");

        let plane = Plane::open(&small).expect("a region");
        let length = |name| std::fs::metadata(small.dir.join(name)).map_or(0, |m| m.len());
        assert_eq!(
            preview.sizes.rings_bytes.next_multiple_of(4096),
            length("rings")
        );
        assert_eq!(
            preview.sizes.table_bytes.next_multiple_of(4096),
            length("table")
        );
        let held = small.preview().expect_err("it is held");
        let pid = std::process::id().to_string();
        assert!(matches!(held, RegionError::Held { pid: found, .. } if found == pid));
        drop(plane);

        assert_eq!(small.preview().expect("a preview").fate, Fate::Resumed);
        let large = config(dir.path(), 128).preview().expect("a preview");
        assert!(matches!(large.fate, Fate::SetAside { why } if why.contains("64 streams")));
        std::fs::write(small.dir.join("rings"), "no rings").expect("a file");
        let broken = small.preview().expect("a preview");
        assert!(matches!(broken.fate, Fate::SetAside { .. }));
        let endless = config(dir.path(), MAX_STREAMS + 1).preview();
        assert!(matches!(endless, Err(RegionError::Streams { .. })));
    }
}
