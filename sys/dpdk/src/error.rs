//! What went wrong, with which port or pool, in which call of DPDK.

use std::ffi::{CStr, CString, c_int};
use std::fmt;

use penstock_dpdk_sys as sys;

/// An error of this crate. Each text names what it concerns.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// [`Eal::init`](crate::Eal::init) was called before in this process, whether it succeeded or not.
    #[error("EAL: it can be initialised only once in a process")]
    AlreadyInitialised,
    /// A call into DPDK failed; it may have written more to stderr.
    #[error("{subject}: {call} failed: {errno}")]
    Call {
        /// What the call was for: `EAL`, `port net_tap0`, `pool media`, `worker 0`.
        subject: String,
        /// The function of DPDK.
        call: &'static str,
        /// Why it failed.
        errno: Errno,
    },
    /// What was asked for cannot be; DPDK was not called.
    #[error("{subject}: {problem}")]
    Refused {
        /// What it concerns, as in [`Error::Call`].
        subject: String,
        /// What is wrong.
        problem: String,
    },
}

impl Error {
    /// From the negative return value of `call`. A bare -1 is not EPERM: many drivers know no
    /// other error.
    pub(crate) fn from_return(subject: &str, call: &'static str, ret: c_int) -> Self {
        let errno = Errno(if ret == -1 { 0 } else { ret.saturating_neg() });
        let subject = subject.to_owned();
        Self::Call {
            subject,
            call,
            errno,
        }
    }

    /// From rte_errno, which `call` has set.
    pub(crate) fn from_errno(subject: &str, call: &'static str) -> Self {
        let subject = subject.to_owned();
        let errno = Errno(errno());
        Self::Call {
            subject,
            call,
            errno,
        }
    }

    pub(crate) fn refused(subject: &str, problem: impl Into<String>) -> Self {
        let (subject, problem) = (subject.to_owned(), problem.into());
        Self::Refused { subject, problem }
    }
}

/// A positive error number of the C library, or one of DPDK's own above it; 0 where a driver
/// gave none. Prints as words and name: `Invalid argument (EINVAL)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Errno(pub i32);

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return f.write_str("no reason but what it wrote to stderr");
        }
        // SAFETY: any number is allowed; the text is NUL-terminated and stays as it is
        // until this thread's next rte_strerror, after its last use here.
        let words = unsafe { CStr::from_ptr(sys::rte_strerror(self.0)) };
        f.write_str(&words.to_string_lossy())?;
        // SAFETY: any number is allowed; the result is NULL or static.
        let name = unsafe { sys::penstock_errno_name(self.0) };
        if name.is_null() {
            return write!(f, " ({})", self.0);
        }
        // SAFETY: not NULL, hence a NUL-terminated static string.
        let name = unsafe { CStr::from_ptr(name) };
        write!(f, " ({})", name.to_string_lossy())
    }
}

fn errno() -> c_int {
    // SAFETY: reads a thread-local variable that exists before EAL does.
    unsafe { sys::penstock_errno() }
}

/// Zero or more is success, anything else the failure of `call`.
pub(crate) fn check(subject: &str, call: &'static str, ret: c_int) -> Result<(), Error> {
    if ret < 0 {
        return Err(Error::from_return(subject, call, ret));
    }
    Ok(())
}

pub(crate) fn c_string(subject: &str, text: &str) -> Result<CString, Error> {
    CString::new(text).map_err(|_| Error::refused(subject, "a name must not hold a NUL byte"))
}
