//! Doorbells: a side that sleeps is woken, a side that is awake costs its peer one fence and one load.
//!
//! The sleeper sets its flag, fences, looks once more and sleeps; the producer publishes, fences and
//! looks at the flag. Of two SeqCst fences one comes first: either the producer sees the flag, or the
//! sleeper sees what was published.

use crate::cell::Shared;
use crate::ring::Line;
use crate::sync::{AtomicU32, Ordering, fence};

/// What ends the sleep.
pub(crate) trait Wake {
    /// Wakes the sleeper, also one that goes to sleep only afterwards.
    fn wake(&self);
}

/// A sleeping flag and the means to wake who set it.
#[derive(Clone)]
pub(crate) struct Bell<W> {
    asleep: Shared<Line<AtomicU32>>,
    waker: W,
}

impl<W: Wake> Bell<W> {
    pub(crate) fn new(asleep: Shared<Line<AtomicU32>>, waker: W) -> Bell<W> {
        Bell { asleep, waker }
    }

    /// Wakes the sleeper if there is one. Call after publishing.
    pub(crate) fn ring(&self) {
        // Pairs with the fence of `arm`.
        fence(Ordering::SeqCst);
        if self.asleep.0.load(Ordering::Relaxed) != 0
            && self.asleep.0.swap(0, Ordering::Relaxed) != 0
        {
            self.waker.wake();
        }
    }

    /// Announces sleep. Look for work after this, and sleep only if there is none.
    pub(crate) fn arm(&self) {
        self.asleep.0.store(1, Ordering::Relaxed);
        // Pairs with the fence of `ring`.
        fence(Ordering::SeqCst);
    }

    /// Awake again.
    pub(crate) fn disarm(&self) {
        self.asleep.0.store(0, Ordering::Relaxed);
    }
}

#[cfg(not(loom))]
pub(crate) use fifo::Fifo;

#[cfg(not(loom))]
mod fifo {
    use super::Wake;
    use std::fs::File;
    use std::os::fd::{AsFd, BorrowedFd};
    use std::sync::Arc;

    /// A named pipe, open for reading and writing so that neither side's death closes it.
    #[derive(Clone)]
    pub(crate) struct Fifo(Arc<File>);

    impl Fifo {
        /// `file` is a FIFO, open for both, non-blocking.
        pub(crate) fn new(file: File) -> Fifo {
            Fifo(Arc::new(file))
        }

        /// Takes out what was written.
        pub(crate) fn drain(&self) {
            let mut bytes = [0; 4096];
            // Bounded, so that a peer that keeps writing cannot hold us here.
            for _ in 0..32 {
                match rustix::io::read(&*self.0, &mut bytes) {
                    Ok(count) if count > 0 => {}
                    _ => return,
                }
            }
        }
    }

    impl Wake for Fifo {
        fn wake(&self) {
            // A full pipe is readable already, and nobody can mend another failure here.
            let _ = rustix::io::write(&*self.0, &[1]);
        }
    }

    impl AsFd for Fifo {
        fn as_fd(&self) -> BorrowedFd<'_> {
            self.0.as_fd()
        }
    }
}
