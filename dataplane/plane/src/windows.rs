//! Learning windows: how long a stream that saw a source may still prefer another one.

use crate::slow::Latch;
use penstock_shm::record::{Head, rank};
use penstock_shm::{Kind, Slot, TableWriter, flag};
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::Ordering::Relaxed;

/// How long a window is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// From the first packet, ns.
    pub ns: u64,
    /// Or so many packets, whichever comes first.
    pub packets: u32,
}

struct Open {
    record: u32,
    generation: u32,
    /// [`penstock_shm::StreamSpec::signal`] that it was opened under.
    signal: u32,
    until_ns: u64,
}

/// How much longer windows of RTCP are: between two reports pass some seconds, and who sends one sooner need not be the
/// leg.
const RTCP_TIMES: u64 = 5;

/// Packets of the stream can pass.
const OPEN_ROUTE: u16 = flag::GATE_OPEN | flag::ROUTED;

/// The open windows, those of RTCP apart, in the order in which they end.
pub struct Windows {
    window: Window,
    open: [VecDeque<Open>; 2],
    /// Of streams that adopt every source: the last one seen, by record.
    deferred: BTreeMap<u32, Latch>,
}

impl Windows {
    /// How long windows will be from now on.
    pub fn set(&mut self, window: Window) {
        self.window = window;
    }

    /// None open; each will be so long.
    pub fn new(window: Window) -> Windows {
        Windows {
            window,
            open: Default::default(),
            deferred: BTreeMap::new(),
        }
    }

    /// Packets of a window.
    pub fn packets(&self) -> u32 {
        self.window.packets
    }

    /// A stream saw its first source.
    pub fn open(&mut self, record: u32, head: &Head, slot: &Slot, now_ns: u64) {
        let is_rtcp = slot.kind == Kind::Rtcp as u8;
        let times = if is_rtcp { RTCP_TIMES } else { 1 };
        self.open[usize::from(is_rtcp)].push_back(Open {
            record,
            generation: head.generation.load(Relaxed),
            signal: slot.signal,
            until_ns: now_ns + self.window.ns * times,
        });
    }

    /// Adopts the source at the next tick rather than now.
    pub fn defer(&mut self, latch: Latch) {
        self.deferred.insert(latch.record, latch);
    }

    /// What was deferred.
    pub fn deferred(&mut self) -> impl Iterator<Item = Latch> + use<> {
        std::mem::take(&mut self.deferred).into_values()
    }

    /// The next stream whose window is over and that still learns.
    pub fn over(&mut self, table: &TableWriter, now_ns: u64) -> Option<u32> {
        let Windows { window, open, .. } = self;
        for (queue, times) in open.iter_mut().zip([1, RTCP_TIMES]) {
            while queue.front().is_some_and(|open| open.until_ns <= now_ns) {
                let open = queue.pop_front()?;
                let same = table.is_live(open.record)
                    && table.head(open.record).generation.load(Relaxed) == open.generation;
                if !same {
                    continue;
                }
                let slot = table.slot(open.record);
                let learns = slot.flags & flag::LOCKED == 0 && slot.rank != rank::NONE;
                if !learns || slot.signal != open.signal {
                    continue;
                }
                let packets = table.tally(open.record).meter.packets.get() as u32;
                let is_open = slot.flags & (flag::GATE_OPEN | flag::ROUTED) == OPEN_ROUTE;
                let is_still = packets.wrapping_add(window.packets) == slot.learn_until;
                if packets != 0 && (is_open || !is_still) {
                    return Some(open.record);
                }
                // It was learned from what was held back, and nothing has passed since: who spoke meanwhile had no
                // rival, and is not locked yet.
                queue.push_back(Open {
                    until_ns: now_ns + (window.ns * times).max(1),
                    ..open
                });
            }
        }
        None
    }
}
