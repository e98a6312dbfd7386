//! Policing: how much one stream may send, by token buckets (H.248.53: sustained rate with burst size, peak rate with
//! tolerance), each for packets and for octets of UDP payload.
//!
//! A packet costs one comparison: with [`Meter::allowed`](penstock_shm::Meter::allowed). When that many packets have
//! passed, [`renew`] settles what passed since, and allows half of what the tightest bucket holds.
//! What passed between two of its calls counts as if it had passed at the first of them, so a stream may exceed
//! its burst by that half.

use penstock_shm::counters::Drop;
use penstock_shm::record::{MAX_POLICIES, Slot};
use penstock_shm::tally::Tally;

/// Nanoseconds of a second.
const SECOND: u64 = 1_000_000_000;

/// A bucket: what is let through in the long run, and at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rate {
    /// Packets or octets at once.
    burst: u64,
    /// Nanoseconds of one of them, times 2^16; 0 for no limit.
    each_ns: u64,
    /// How many of them a nanosecond is, times 2^32.
    per_ns: u64,
}

impl Rate {
    /// So many packets or octets a second, 0 for no limit; and so many at once, which is taken for one packet at least.
    pub fn new(per_s: u64, burst: u64) -> Rate {
        if per_s == 0 {
            return Rate::default();
        }
        let fixed = |value: u128| u64::try_from(value).unwrap_or(u64::MAX);
        Rate {
            burst: burst.max(1),
            each_ns: fixed((u128::from(SECOND) << 16) / u128::from(per_s)).max(1),
            // Rounded up: what is due is never more than the bucket thinks.
            per_ns: fixed((u128::from(per_s) << 32).div_ceil(u128::from(SECOND))),
        }
    }

    fn is_limited(self) -> bool {
        self.each_ns != 0
    }

    /// How long so many take.
    fn duration_ns(self, units: u64) -> u64 {
        let ns = (u128::from(units) * u128::from(self.each_ns)) >> 16;
        u64::try_from(ns).unwrap_or(u64::MAX)
    }

    /// How many come in so many nanoseconds.
    fn units(self, ns: u64) -> u64 {
        let units = (u128::from(ns) * u128::from(self.per_ns)) >> 32;
        u64::try_from(units).unwrap_or(u64::MAX)
    }
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

/// All profiles, by [`Slot::police`]; number 0 limits nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Profiles(pub [Profile; MAX_POLICIES]);

/// Decides on a packet, once the packets allowed before have passed, and counts it if it is one too many.
#[cold]
pub(crate) fn look(
    tally: &Tally,
    slot: &Slot,
    profiles: &Profiles,
    bytes: usize,
    now_ns: u64,
) -> Result<(), Drop> {
    let verdict = renew(tally, slot, profiles, bytes, now_ns);
    if verdict.is_err() {
        tally.bucket.dropped.add(1);
    }
    verdict
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
    let passed_packets = packets.wrapping_sub(bucket.packets.get());
    let passed_octets = octets.wrapping_sub(bucket.bytes.get());
    bucket.packets.set(packets);
    bucket.bytes.set(octets);
    bucket.at_ns.set(now_ns);

    // Packets as long as may be, and a little more: a shift where there was a division.
    let longest = u32::from(slot.longest).next_power_of_two().trailing_zeros();
    let by_packet = (passed_packets, 1, 0, Drop::PolicePackets);
    let by_octet = (passed_octets, bytes as u64, longest, Drop::PoliceBytes);
    let rates = [
        (&profile.sustained_packets, by_packet),
        (&profile.peak_packets, by_packet),
        (&profile.sustained_bytes, by_octet),
        (&profile.peak_bytes, by_octet),
    ];
    let (mut allowed, mut verdict) = (u64::MAX, Ok(()));
    for ((rate, (passed, next, most, reason)), due) in rates.into_iter().zip(&bucket.due_ns) {
        if !rate.is_limited() {
            continue;
        }
        let due_ns = due
            .get()
            .max(since_ns)
            .saturating_add(rate.duration_ns(passed));
        due.set(due_ns);
        let ahead = rate.units(due_ns.saturating_sub(now_ns));
        let room = rate.burst.saturating_sub(ahead);
        if room < next {
            verdict = verdict.and(Err(reason));
        }
        allowed = allowed.min(room >> most);
    }
    match verdict {
        Ok(()) if allowed == u64::MAX => meter.allowed.set(u64::MAX),
        Ok(()) => meter
            .allowed
            .set(packets.saturating_add((allowed / 2).max(1))),
        Err(_) => meter.allowed.set(packets),
    }
    verdict
}
