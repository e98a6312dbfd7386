//! Quiescent-state reclamation: when may a slot that workers could read be filled again?

use crate::ring::Line;
use crate::sync::{AtomicU64, Ordering, fence};

/// The epoch of a worker that reads nothing.
const OFFLINE: u64 = u64::MAX;

/// The steward's epoch and, for each worker, the one it has reached.
pub(crate) struct Epochs {
    global: Line<AtomicU64>,
    locals: Box<[Line<AtomicU64>]>,
}

impl Epochs {
    /// All workers begin offline.
    pub(crate) fn new(workers: usize) -> Epochs {
        let offline = || Line(AtomicU64::new(OFFLINE));
        Epochs {
            global: Line(AtomicU64::new(1)),
            locals: (0..workers).map(|_| offline()).collect(),
        }
    }

    /// A worker's quiescent point: it holds nothing it read before, and will read what is live now.
    #[inline(always)]
    pub(crate) fn enter(&self, worker: usize) {
        let local = &self.locals[worker].0;
        // Pairs with `retire`: a worker at an epoch sees the index without what that epoch retired.
        let now = self.global.0.load(Ordering::Acquire);
        let before = local.load(Ordering::Relaxed);
        if before == now {
            return;
        }
        // Release pairs with `reached`: our reads of old slots happened before.
        local.store(now, Ordering::Release);
        if before == OFFLINE {
            // Pairs with the fence of `reached`: it sees us online, or we see its index.
            fence(Ordering::SeqCst);
        }
    }

    /// The worker holds nothing and reads nothing until it enters again.
    pub(crate) fn leave(&self, worker: usize) {
        // Pairs with `reached`, as in `enter`.
        self.locals[worker].0.store(OFFLINE, Ordering::Release);
    }

    /// Begins an epoch after the index has lost its way to a slot; the slot may be filled once that
    /// epoch is [`Epochs::reached`]. Steward only.
    pub(crate) fn retire(&self) -> u64 {
        let epoch = self.global.0.load(Ordering::Relaxed) + 1;
        // Pairs with `enter`.
        self.global.0.store(epoch, Ordering::Release);
        epoch
    }

    /// The newest epoch that every worker has reached, and the worker that is furthest behind, if one
    /// is. Steward only.
    pub(crate) fn reached(&self) -> (u64, Option<usize>) {
        let mut oldest = (self.global.0.load(Ordering::Relaxed), None);
        // Pairs with the fence of `enter`.
        fence(Ordering::SeqCst);
        for (worker, local) in self.locals.iter().enumerate() {
            // Pairs with the Release stores of `enter` and `leave`.
            let local = local.0.load(Ordering::Acquire);
            if local < oldest.0 {
                oldest = (local, Some(worker));
            }
        }
        oldest
    }
}
