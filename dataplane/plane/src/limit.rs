//! How many packets a second the kernel gets of a port.

use std::sync::atomic::{AtomicU64, Ordering};

const SECOND_NS: u64 = 1_000_000_000;
/// What comes at once: that many nanoseconds' worth, half of it for those who are no flood.
const BURST_NS: u64 = SECOND_NS / 10;

/// A rate that all workers share: the time at which what passed would have passed at exactly that rate.
pub struct Limit {
    /// 0 for no limit.
    interval_ns: u64,
    next_ns: AtomicU64,
}

impl Limit {
    /// So many packets a second, and a tenth of that at once; 0 for any number.
    pub fn new(per_s: u32) -> Limit {
        Limit {
            interval_ns: SECOND_NS.checked_div(per_s.into()).unwrap_or(0),
            next_ns: AtomicU64::new(0),
        }
    }

    /// Whether one more may pass now. `floods` says that its source has sent far too much: it leaves half of what may
    /// come at once to others, who therefore go first.
    pub fn take(&self, floods: bool, now_ns: u64) -> bool {
        let ahead_ns = if floods { BURST_NS / 2 } else { BURST_NS };
        let after = |next_ns: u64| {
            let next_ns = next_ns.max(now_ns);
            (next_ns - now_ns < ahead_ns).then_some(next_ns + self.interval_ns)
        };
        // Relaxed: the word stands for itself. A flood reads it and writes nothing.
        let order = Ordering::Relaxed;
        self.interval_ns == 0 || self.next_ns.fetch_update(order, order, after).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_pass_in_a_second_and_a_tenth_of_it_at_once() {
        let limit = Limit::new(1000);
        let passed = |from_ns: u64, count: u64, each_ns: u64| {
            let times = (0..count).map(|n| from_ns + n * each_ns);
            times.filter(|&now| limit.take(false, now)).count()
        };
        assert_eq!(passed(SECOND_NS, 5000, 0), 100);
        assert_eq!(passed(2 * SECOND_NS, 10_000, SECOND_NS / 10_000), 1100);
        assert_eq!(passed(10 * SECOND_NS, 999, SECOND_NS / 999), 999);
        let none = Limit::new(0);
        assert!((0..10_000).all(|_| none.take(true, 5)));
    }

    #[test]
    fn a_flood_passes_behind_all_others() {
        let limit = Limit::new(1000);
        let (mut flood, mut other) = (0, 0);
        for us in 0..1_000_000 {
            let now_ns = 5 * SECOND_NS + us * 1000;
            flood += u32::from(limit.take(true, now_ns));
            if us % 2000 == 0 {
                assert!(limit.take(false, now_ns), "{us} us");
                other += 1;
            }
        }
        assert_eq!(other, 500);
        assert_eq!(flood, 550, "what is left of the rate");
    }
}
