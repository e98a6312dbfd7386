//! CLOCK_MONOTONIC for a worker: the time stamp counter, held to the system's clock once a second.
//!
//! A read of the counter costs some 20 ns, most of a packet's time, so while one full burst follows the
//! other, one in [`FULL_BURSTS`] has it read: their packets were waiting already, and nobody knows since when.

use penstock_dpdk::{tsc, tsc_hz};
use penstock_shm::monotonic_ns;

/// A worker's clock.
pub struct Clock {
    anchor_tsc: u64,
    anchor_ns: u64,
    hz: u64,
    /// Nanoseconds per tick, times 2^32.
    ns_per_tick: u64,
    /// What was read last, and how many full bursts ago.
    now_ns: u64,
    full_bursts: u32,
}

/// How many full bursts in a row are given the same time.
const FULL_BURSTS: u32 = 8;

/// Counter and clock of one moment: tried anew if the worker was interrupted between the two, which would have its
/// time lag for a second.
fn both(hz: u64) -> (u64, u64) {
    let mut best = (u64::MAX, 0, 0);
    for _ in 0..4 {
        let before = tsc();
        let now_ns = monotonic_ns();
        let took = tsc().wrapping_sub(before);
        if took < best.0 {
            best = (took, before.wrapping_add(took / 2), now_ns);
        }
        // 5 us.
        if took < hz / 200_000 {
            break;
        }
    }
    (best.1, best.2)
}

impl Clock {
    /// Set to the system's clock. DPDK has to be initialised: it knows the counter's rate.
    pub fn new() -> Clock {
        let hz = tsc_hz().max(1);
        let (anchor_tsc, now_ns) = both(hz);
        Clock {
            anchor_tsc,
            anchor_ns: now_ns,
            hz,
            ns_per_tick: ((1_000_000_000u128 << 32) / u128::from(hz)) as u64,
            now_ns,
            full_bursts: FULL_BURSTS,
        }
    }

    /// Nanoseconds of CLOCK_MONOTONIC, right to some parts in a million of a second. `full` says that the burst
    /// was as large as bursts are.
    #[inline(always)]
    pub fn now_ns(&mut self, full: bool) -> u64 {
        self.full_bursts += 1;
        if !full || self.full_bursts >= FULL_BURSTS {
            self.read();
        }
        self.now_ns
    }

    /// Nothing was waiting: the next burst has the counter read, full or not.
    #[inline]
    pub fn idle(&mut self) {
        self.full_bursts = FULL_BURSTS;
    }

    #[inline(never)]
    fn read(&mut self) {
        let ticks = tsc().wrapping_sub(self.anchor_tsc);
        let before_ns = self.now_ns;
        if ticks > self.hz {
            *self = Clock::new();
        } else {
            let since = (u128::from(ticks) * u128::from(self.ns_per_tick)) >> 32;
            self.now_ns = self.anchor_ns + since as u64;
        }
        // The counter's rate is not known to the last digit: time stands still rather than going back.
        self.now_ns = self.now_ns.max(before_ns);
        self.full_bursts = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread::sleep;
    use std::time::Duration;

    /// Without DPDK the counter's rate is unknown, and every read is one of the system's clock.
    #[test]
    fn full_bursts_in_a_row_share_a_time_and_no_others() {
        let mut clock = Clock::new();
        let read = |clock: &mut Clock, full| {
            sleep(Duration::from_millis(1));
            clock.now_ns(full)
        };
        let first = read(&mut clock, true);
        for _ in 1..FULL_BURSTS {
            assert_eq!(read(&mut clock, true), first);
        }
        let second = read(&mut clock, true);
        assert!(second >= first + 1_000_000 * u64::from(FULL_BURSTS));
        let third = read(&mut clock, false);
        assert!(third > second, "a burst that is not full");
        assert_eq!(read(&mut clock, true), third);
        clock.idle();
        assert!(read(&mut clock, true) > third, "after an idle poll");
    }
}
