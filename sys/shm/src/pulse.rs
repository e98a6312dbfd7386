//! Whether a plane works on a region: it holds its lock, and its heart beats.

/// A plane whose heart has not beaten for so long hangs or was stopped, ns; it beats every 50 ms.
pub const STILL_NS: u64 = 2_000_000_000;

/// What can be told of a plane from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlaneState {
    /// Its heart beats.
    Running,
    /// There is a process, but its heart does not beat: it is starting, was stopped, or hangs.
    Still,
    /// No process holds the region.
    Gone,
}

impl PlaneState {
    /// From whether the plane's lock is held, and the times of its last beat and of now, ns of
    /// CLOCK_MONOTONIC.
    pub(crate) fn of(is_held: bool, heartbeat_ns: u64, now_ns: u64) -> PlaneState {
        match is_held {
            false => PlaneState::Gone,
            true if now_ns.saturating_sub(heartbeat_ns) >= STILL_NS => PlaneState::Still,
            true => PlaneState::Running,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_held_lock_is_not_life() {
        assert_eq!(PlaneState::of(false, 9, 10), PlaneState::Gone);
        assert_eq!(PlaneState::of(true, 9, 10), PlaneState::Running);
        assert_eq!(PlaneState::of(true, 11, 10), PlaneState::Running);
        assert_eq!(PlaneState::of(true, 9, 8 + STILL_NS), PlaneState::Running);
        assert_eq!(PlaneState::of(true, 9, 9 + STILL_NS), PlaneState::Still);
    }
}
