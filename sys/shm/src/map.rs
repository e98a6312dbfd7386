//! Files mapped into memory.

use rustix::fs::{FallocateFlags, fallocate, fstatfs};
use rustix::io::Errno;
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap, munmap};
use std::fs::File;
use std::ptr::NonNull;

const HUGETLBFS_MAGIC: u64 = 0x9584_58f6;

/// What the mapping is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    Read,
    Write,
}

/// A whole file, mapped shared until this is dropped.
pub(crate) struct Mapping {
    start: NonNull<u8>,
    len: usize,
    file: File,
}

// SAFETY: the memory belongs to no thread; what is in it is used through `&T`, T: Sync.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

/// The length a file of `len` bytes needs on its file system: whole pages, huge ones on hugetlbfs.
pub(crate) fn whole_pages(file: &File, len: usize) -> Result<usize, Errno> {
    let fs = fstatfs(file)?;
    let page = if fs.f_type as u64 == HUGETLBFS_MAGIC {
        fs.f_bsize as usize
    } else {
        4096
    };
    Ok(len.next_multiple_of(page))
}

/// Gives the empty file `len` bytes of zeroed memory that is really there.
pub(crate) fn reserve(file: &File, len: usize) -> Result<(), Errno> {
    fallocate(file, FallocateFlags::empty(), 0, len as u64)
}

impl Mapping {
    /// Maps all of `file`; of an empty one there is nothing to look at.
    pub(crate) fn new(file: File, access: Access) -> Result<Mapping, Errno> {
        let len = rustix::fs::fstat(&file)?.st_size as usize;
        let (prot, flags) = match access {
            Access::Read => (ProtFlags::READ, MapFlags::SHARED),
            // No page faults in the workers.
            Access::Write => (
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED | MapFlags::POPULATE,
            ),
        };
        // SAFETY: a new mapping at an address of the kernel's choice.
        let start = unsafe { mmap(std::ptr::null_mut(), len.max(1), prot, flags, &file, 0)? };
        // SAFETY: advice changes no contents. Refused where huge pages are off, which is no harm.
        let _ = unsafe { madvise(start, len.max(1), Advice::LinuxHugepage) };
        let start = NonNull::new(start.cast()).ok_or(Errno::NOMEM)?;
        Ok(Mapping { start, len, file })
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Where `count` values lie from `offset`.
    pub(crate) fn at<T>(&self, offset: usize, count: usize) -> NonNull<T> {
        let end = size_of::<T>()
            .checked_mul(count)
            .and_then(|size| size.checked_add(offset));
        assert!(end.is_some_and(|end| end <= self.len), "beyond the mapping");
        assert!(offset.is_multiple_of(align_of::<T>()), "misaligned");
        // SAFETY: within the mapping, as just checked.
        unsafe { self.start.add(offset).cast() }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and every `Shared` into it keeps this value alive.
        let _ = unsafe { munmap(self.start.as_ptr().cast(), self.len.max(1)) };
    }
}
