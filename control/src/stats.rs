//! What the daemon counts. Garbage is counted here and never logged.

use crate::front::Doors;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Counters by name.
#[derive(Default)]
pub(crate) struct Stats {
    /// Requests by command, retransmissions and drops.
    requests: RefCell<BTreeMap<&'static str, u64>>,
    /// Error replies by reason.
    errors: RefCell<BTreeMap<&'static str, u64>>,
    /// Calls that ended by themselves by reason, and those seen to have media one way only.
    ageing: RefCell<BTreeMap<&'static str, u64>>,
    /// What each way in counts.
    pub(crate) doors: Arc<Doors>,
}

impl Stats {
    pub(crate) fn request(&self, name: &'static str) {
        *self.requests.borrow_mut().entry(name).or_default() += 1;
    }

    pub(crate) fn error(&self, reason: &'static str) {
        *self.errors.borrow_mut().entry(reason).or_default() += 1;
    }

    pub(crate) fn ageing(&self, name: &'static str) {
        *self.ageing.borrow_mut().entry(name).or_default() += 1;
    }

    pub(crate) fn aged(&self) -> BTreeMap<&'static str, u64> {
        self.ageing.borrow().clone()
    }

    pub(crate) fn requests(&self) -> BTreeMap<&'static str, u64> {
        self.requests.borrow().clone()
    }

    pub(crate) fn errors(&self) -> BTreeMap<&'static str, u64> {
        self.errors.borrow().clone()
    }
}
