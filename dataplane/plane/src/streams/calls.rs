//! Which call a stream is of.

use super::{Drafts, Streams};
use penstock_shm::{Endpoint, StreamSpec};
use std::sync::atomic::Ordering::Relaxed;

impl Streams {
    pub(super) fn call(&self, number: u32) -> u64 {
        self.table.head(number).call.load(Relaxed)
    }

    /// The record of an endpoint, taken if it has none. An endpoint that another call left behind is
    /// ended first, so that no meter is inherited.
    pub(super) fn number_for(
        &mut self,
        spec: &StreamSpec,
        call: u64,
        drafts: &mut Drafts,
        now_ns: u64,
    ) -> Option<u32> {
        if let Some(number) = self.table.find(spec.endpoint)
            && self.call(number) != call
        {
            self.end(number, drafts, now_ns);
        }
        self.table.insert(spec.endpoint, call, now_ns).ok()
    }

    pub(super) fn remove(
        &mut self,
        endpoint: Endpoint,
        call: u64,
        drafts: &mut Drafts,
        now_ns: u64,
    ) {
        let Some(number) = self.of(endpoint, call) else {
            return;
        };
        let peer = Endpoint::from_bits(self.table.slot(number).peer_endpoint);
        self.end(number, drafts, now_ns);
        self.add(self.table.find(peer), drafts);
    }

    /// Makes a stream of the call `from` one of `call`.
    pub(super) fn take_over(&self, endpoint: Endpoint, from: u64, call: u64) {
        if let Some(number) = self.of(endpoint, from) {
            self.table.head(number).call.store(call, Relaxed);
        }
    }

    /// The record of an endpoint, if it is that call's.
    pub(super) fn of(&self, endpoint: Endpoint, call: u64) -> Option<u32> {
        let number = self.table.find(endpoint);
        number.filter(|&number| self.call(number) == call)
    }
}
