//! CLOCK_MONOTONIC for a worker: one read of the time stamp counter per burst, held to the system's
//! clock once a second.

use penstock_dpdk::{tsc, tsc_hz};
use penstock_shm::monotonic_ns;

/// A worker's clock.
pub struct Clock {
    anchor_tsc: u64,
    anchor_ns: u64,
    hz: u64,
    /// Nanoseconds per tick, times 2^32.
    ns_per_tick: u64,
}

impl Clock {
    /// Set to the system's clock. DPDK has to be initialised: it knows the counter's rate.
    pub fn new() -> Clock {
        let hz = tsc_hz().max(1);
        Clock {
            anchor_tsc: tsc(),
            anchor_ns: monotonic_ns(),
            hz,
            ns_per_tick: ((1_000_000_000u128 << 32) / u128::from(hz)) as u64,
        }
    }

    /// Nanoseconds of CLOCK_MONOTONIC, right to some parts in a million of a second.
    #[inline]
    pub fn now_ns(&mut self) -> u64 {
        let ticks = tsc().wrapping_sub(self.anchor_tsc);
        if ticks > self.hz {
            *self = Clock::new();
            return self.anchor_ns;
        }
        self.anchor_ns + ((u128::from(ticks) * u128::from(self.ns_per_tick)) >> 32) as u64
    }
}
