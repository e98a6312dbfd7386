//! Copies of captured streams' frames, for the copy ring.

use super::stages::Step;
use penstock_dpdk::Mbuf;
use penstock_shm::copies::{About, Direction};
use penstock_shm::{Entry, Pinned, flag};

impl Step<'_> {
    /// Copies the frame if its stream is captured. Nothing else comes of it: a copy that is lost is counted.
    pub(super) fn capture(&mut self, mbuf: &Mbuf, entry: Entry<'_>, direction: Direction) {
        if entry.slot().flags & flag::CAPTURE != 0 {
            self.copy(mbuf, entry, direction);
        }
    }

    #[cold]
    fn copy(&mut self, mbuf: &Mbuf, entry: Entry<'_>, direction: Direction) {
        let view: &Pinned<'_> = self.view;
        let about = About {
            time_ns: self.now_ns,
            call: entry.call(),
            stream: view.number(entry),
            endpoint: entry.endpoint(),
            direction,
            // A frame that is longer than that lies in no one buffer.
            len: mbuf.frame().len() as u16,
        };
        let count = match self.out.copies.write(&about, mbuf.frame()) {
            true => &self.counters.captured,
            false => &self.counters.capture_lost,
        };
        count.add(1);
    }
}
