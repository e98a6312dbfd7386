//! Policing: how much one stream may send, by token buckets (H.248.53: sustained rate with burst size, peak rate with
//! tolerance), each for packets and for octets of UDP payload.
//!
//! A packet costs one comparison: with [`Meter::allowed`](penstock_shm::Meter::allowed). When that many packets have
//! passed, [`renew`] settles what passed since, and allows half of what the tightest bucket holds.
//! What passed between two of its calls counts as if it had passed at the first of them, so a stream may exceed
//! its burst by that half.

use penstock_shm::counters::Drop;
use penstock_shm::record::{MAX_POLICIES, Slot};
use penstock_shm::tally::{Bucket, Counter, Tally};

/// Nanoseconds of a second.
const SECOND: u64 = 1_000_000_000;

/// A bucket: what is let through in the long run, and at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Packets or octets at once; `u64::MAX` for no limit.
    burst: u64,
    /// Nanoseconds of one of them, times 2^16; 0 for no limit.
    each_ns: u64,
    /// How many of them a nanosecond is, times 2^32.
    per_ns: u64,
}

impl Default for Rate {
    fn default() -> Rate {
        Rate::UNLIMITED
    }
}

impl Rate {
    /// No limit.
    pub const UNLIMITED: Rate = Rate {
        burst: u64::MAX,
        each_ns: 0,
        per_ns: 0,
    };

    /// So many packets or octets a second, 0 for no limit; and so many at once, which is taken for one packet at least.
    pub fn new(per_s: u64, burst: u64) -> Rate {
        if per_s == 0 {
            return Rate::UNLIMITED;
        }
        let fixed = |value: u128| u64::try_from(value).unwrap_or(u64::MAX);
        Rate {
            burst: burst.max(1),
            each_ns: fixed((u128::from(SECOND) << 16) / u128::from(per_s)).max(1),
            // Rounded up: what is due is never more than the bucket thinks.
            per_ns: fixed((u128::from(per_s) << 32).div_ceil(u128::from(SECOND))),
        }
    }

    /// How many come in so many nanoseconds.
    fn units(self, ns: u64) -> u64 {
        let units = (u128::from(ns) * u128::from(self.per_ns)) >> 32;
        u64::try_from(units).unwrap_or(u64::MAX)
    }
}

/// How long so many take, by [`Rate::each_ns`].
fn duration_ns(units: u64, each_ns: u64) -> u64 {
    let ns = (u128::from(units) * u128::from(each_ns)) >> 16;
    u64::try_from(ns).unwrap_or(u64::MAX)
}

/// What the streams of a profile may send.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Profile {
    /// Sustained rate of packets and their burst size.
    pub sustained_packets: Rate,
    /// Peak rate of packets and its tolerance.
    pub peak_packets: Rate,
    /// Sustained rate of octets and their burst size.
    pub sustained_bytes: Rate,
    /// Peak rate of octets and its tolerance.
    pub peak_bytes: Rate,
}

impl Profile {
    /// Those for packets, and those for octets.
    fn rates(&self) -> [[Rate; 2]; 2] {
        [
            [self.sustained_packets, self.peak_packets],
            [self.sustained_bytes, self.peak_bytes],
        ]
    }

    /// How many packets and octets may pass at once, if all buckets are full.
    #[inline(always)]
    fn bursts(&self) -> [u64; 2] {
        self.rates()
            .map(|[sustained, peak]| sustained.burst.min(peak.burst))
    }

    /// Whether all buckets are full, with what has passed since; said by the slowest rates, so sometimes too late. Then
    /// there is nothing to settle: what was due before now is due no more.
    #[inline(always)]
    fn is_full_again(&self, bucket: &Bucket, passed: [u64; 2], since_ns: u64, now_ns: u64) -> bool {
        let dues = bucket.due_ns.iter().map(Counter::get);
        let took = self.rates().into_iter().zip(passed);
        let took = took.map(|([sustained, peak], passed)| {
            duration_ns(passed, sustained.each_ns.max(peak.each_ns))
        });
        let due_ns = dues.fold(since_ns, u64::max);
        due_ns.saturating_add(took.fold(0, u64::max)) <= now_ns
    }

    /// Settles what has passed since, and says how many packets and octets may pass now.
    #[inline(never)]
    fn settle(&self, bucket: &Bucket, passed: [u64; 2], since_ns: u64, now_ns: u64) -> [u64; 2] {
        let mut room = [u64::MAX; 2];
        let mut dues = bucket.due_ns.iter();
        for ((rates, passed), room) in self.rates().into_iter().zip(passed).zip(&mut room) {
            for (rate, due) in rates.into_iter().zip(dues.by_ref()) {
                let took = duration_ns(passed, rate.each_ns);
                let due_ns = due.get().max(since_ns).saturating_add(took);
                // What passed by another profile leaves the bucket empty at worst; one more is what rounding lends.
                let most = duration_ns(rate.burst.saturating_add(1), rate.each_ns);
                let empty_ns = now_ns.saturating_add(most);
                let due_ns = due_ns.min(empty_ns);
                due.set(due_ns);
                let ahead = rate.units(due_ns.saturating_sub(now_ns));
                *room = (*room).min(rate.burst.saturating_sub(ahead));
            }
        }
        room
    }
}

/// All profiles, by [`Slot::police`]; number 0 limits nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Profiles(pub [Profile; MAX_POLICIES]);

/// Decides on a packet, once the packets allowed before have passed.
#[cold]
pub(crate) fn look(
    tally: &Tally,
    slot: &Slot,
    profiles: &Profiles,
    bytes: usize,
    now_ns: u64,
) -> Result<(), Drop> {
    renew(tally, slot, profiles, bytes, now_ns)
}

/// Settles what has passed, and allows what may pass now: a packet of `bytes` octets of UDP payload at least, or none
/// for the reason returned.
///
/// Only the stream's owner worker may call this. `now_ns` is the time of the burst, ns of CLOCK_MONOTONIC.
#[inline]
pub fn renew(
    tally: &Tally,
    slot: &Slot,
    profiles: &Profiles,
    bytes: usize,
    now_ns: u64,
) -> Result<(), Drop> {
    let (meter, bucket) = (&tally.meter, &tally.bucket);
    let profile = &profiles.0[usize::from(slot.police) % MAX_POLICIES];
    let (packets, octets) = (meter.packets.get(), meter.bytes.get());
    let since_ns = match bucket.at_ns.get() {
        0 => now_ns,
        at_ns => at_ns,
    };
    let passed = [
        packets.wrapping_sub(bucket.packets.get()),
        octets.wrapping_sub(bucket.bytes.get()),
    ];
    bucket.packets.set(packets);
    bucket.bytes.set(octets);
    bucket.at_ns.set(now_ns);

    let [for_packets, for_octets] = if profile.is_full_again(bucket, passed, since_ns, now_ns) {
        profile.bursts()
    } else {
        profile.settle(bucket, passed, since_ns, now_ns)
    };
    let verdict = if for_packets < 1 {
        Err(Drop::PolicePackets)
    } else if for_octets < bytes as u64 {
        Err(Drop::PoliceBytes)
    } else {
        Ok(())
    };
    // As many packets as long as may be; one division of 32 bits, for it is the slowest step.
    let longest = u32::from(slot.longest).max(1);
    let allowed = match for_octets {
        u64::MAX => for_packets,
        octets => {
            let octets = u32::try_from(octets).unwrap_or(u32::MAX);
            for_packets.min(u64::from(octets / longest))
        }
    };
    meter.allowed.set(match verdict {
        Ok(()) if allowed == u64::MAX => u64::MAX,
        Ok(()) => packets.saturating_add((allowed / 2).max(1)),
        Err(_) => packets,
    });
    verdict
}
