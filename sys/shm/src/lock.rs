//! Who holds a side of the region: a lock that dies with its holder.

use crate::lifecycle::{RegionError, io};
use rustix::io::Errno;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::AsRawFd;
use std::path::Path;

/// A side's program and its files.
pub(crate) struct Side {
    pub(crate) program: &'static str,
    pub(crate) lock: &'static str,
    pub(crate) bell: &'static str,
}

pub(crate) const PLANE: Side = Side {
    program: "penstock-dataplane",
    lock: "plane.lock",
    bell: "plane.bell",
};
pub(crate) const CONTROL: Side = Side {
    program: "penstock-control",
    lock: "control.lock",
    bell: "control.bell",
};

/// An open-file-description lock: the kernel lets go of it when the process dies, and others can
/// ask for it without taking it.
pub(crate) struct Lock {
    file: File,
}

/// fcntl on the whole file with a lock of `kind`; what it answers, for a query.
fn ofd_lock(file: &File, command: libc::c_int, kind: libc::c_int) -> Result<i16, Errno> {
    // SAFETY: a flock is plain numbers, of which zero is valid; OFD commands want l_pid zero.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = kind as libc::c_short;
    lock.l_whence = libc::SEEK_SET as libc::c_short;
    // SAFETY: the descriptor is open, and the pointer is to a flock as these commands want it.
    if unsafe { libc::fcntl(file.as_raw_fd(), command, &mut lock) } == 0 {
        Ok(lock.l_type)
    } else {
        Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO))
    }
}

impl Lock {
    /// Takes the lock in the open file and leaves this process's number in it.
    pub(crate) fn take(mut file: File, path: &Path, side: &Side) -> Result<Lock, RegionError> {
        match ofd_lock(&file, libc::F_OFD_SETLK, libc::F_WRLCK) {
            Ok(_) => {}
            Err(Errno::AGAIN | Errno::ACCESS) => {
                let mut pid = String::new();
                let _ = file.take(16).read_to_string(&mut pid);
                let pid = pid
                    .trim()
                    .parse::<u32>()
                    .map_or("unknown".into(), |pid| pid.to_string());
                return Err(RegionError::Held {
                    who: side.program,
                    pid,
                    lock: path.into(),
                });
            }
            Err(error) => return Err(io("lock", path)(error)),
        }
        file.set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| writeln!(file, "{}", std::process::id()))
            .map_err(io("write", path))?;
        Ok(Lock { file })
    }

    /// Opens a lock to ask for it.
    pub(crate) fn watch(dir: &Path, side: &Side) -> Result<Lock, RegionError> {
        let path = dir.join(side.lock);
        Ok(Lock {
            file: File::open(&path).map_err(io("open", &path))?,
        })
    }

    /// Whether somebody else holds the lock.
    pub(crate) fn is_held(&self) -> bool {
        ofd_lock(&self.file, libc::F_OFD_GETLK, libc::F_WRLCK)
            .is_ok_and(|found| found != libc::F_UNLCK as i16)
    }
}
