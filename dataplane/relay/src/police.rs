//! Policing: how much one stream may send, by token buckets (H.248.53: sustained rate with burst size, peak rate with
//! tolerance), each for packets and for octets of UDP payload.
//!
//! A packet costs one comparison: with [`Meter::allowed`](penstock_shm::Meter::allowed). When that many packets have
//! passed, [`renew`] settles what passed since, and allows half of what the tightest bucket holds.
//! What passed between two of its calls counts as if it had passed at the first of them, so a stream may exceed
//! its burst by that half.

use penstock_shm::counters::Drop;
use penstock_shm::record::{MAX_POLICIES, Slot};
use penstock_shm::tally::{Counter, Tally};

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
    let passed_packets = packets.wrapping_sub(bucket.packets.get());
    let passed_octets = octets.wrapping_sub(bucket.bytes.get());
    bucket.packets.set(packets);
    bucket.bytes.set(octets);
    bucket.at_ns.set(now_ns);

    let mut verdict = Ok(());
    // Room for how many of what the two rates limit; `u64::MAX` if they do not.
    let mut room = |rates: [Rate; 2], due: &[Counter], passed, next, reason| {
        let mut least = u64::MAX;
        for (rate, due) in rates.into_iter().zip(due) {
            if !rate.is_limited() {
                continue;
            }
            let due_ns = due
                .get()
                .max(since_ns)
                .saturating_add(rate.duration_ns(passed));
            due.set(due_ns);
            let ahead = rate.units(due_ns.saturating_sub(now_ns));
            least = least.min(rate.burst.saturating_sub(ahead));
        }
        if least < next {
            verdict = verdict.and(Err(reason));
        }
        least
    };
    let (packet_dues, octet_dues) = bucket.due_ns.split_at(2);
    let for_packets = room(
        [profile.sustained_packets, profile.peak_packets],
        packet_dues,
        passed_packets,
        1,
        Drop::PolicePackets,
    );
    let for_octets = room(
        [profile.sustained_bytes, profile.peak_bytes],
        octet_dues,
        passed_octets,
        bytes as u64,
        Drop::PoliceBytes,
    );
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
