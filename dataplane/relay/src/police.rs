//! Policing: how much one stream may send, by token buckets (H.248.53: sustained rate with burst size, peak rate with
//! tolerance), each for packets and for octets of UDP payload.
//!
//! A packet costs one comparison: with [`Meter::allowed`](penstock_shm::Meter::allowed). When that many packets have
//! passed, [`look`] settles what passed since, and allows an eighth of what the tightest bucket holds.
//! What passed between two looks counts as if it had passed at the first of them, so a stream may exceed its burst
//! by that eighth.

use penstock_shm::counters::Drop;
use penstock_shm::record::{MAX_POLICIES, Slot};
use penstock_shm::tally::Tally;

/// Nanoseconds of a second.
const SECOND: u64 = 1_000_000_000;

/// A bucket: what is let through in the long run, and at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rate {
    /// Packets or octets a second; 0 for no limit.
    pub per_s: u64,
    /// Packets or octets at once, 1 or one whole packet at least.
    pub burst: u64,
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

/// `units` in nanoseconds at that rate.
fn duration_ns(units: u64, per_s: u64) -> u64 {
    u64::try_from(u128::from(units) * u128::from(SECOND) / u128::from(per_s)).unwrap_or(u64::MAX)
}

/// What that rate lets through in so many nanoseconds.
fn units(ns: u64, per_s: u64) -> u64 {
    u64::try_from(u128::from(ns) * u128::from(per_s) / u128::from(SECOND)).unwrap_or(u64::MAX)
}

/// Decides on a packet of `bytes` octets of UDP payload, once the packets allowed before have passed.
///
/// Only the stream's owner worker may call this. `now_ns` is the time of the burst, ns of CLOCK_MONOTONIC.
#[cold]
pub(crate) fn look(
    tally: &Tally,
    slot: &Slot,
    profiles: &Profiles,
    bytes: usize,
    now_ns: u64,
) -> Result<(), Drop> {
    let (meter, bucket) = (&tally.meter, &tally.bucket);
    let profile = profiles.0[usize::from(slot.police) % MAX_POLICIES];
    if profile == Profile::default() {
        meter.allowed.set(u64::MAX);
        return Ok(());
    }
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

    let longest = u64::from(slot.longest).max(1);
    let by_packet = (passed_packets, 1, 1, Drop::PolicePackets);
    let by_octet = (passed_octets, bytes as u64, longest, Drop::PoliceBytes);
    let rates = [
        (profile.sustained_packets, by_packet),
        (profile.peak_packets, by_packet),
        (profile.sustained_bytes, by_octet),
        (profile.peak_bytes, by_octet),
    ];
    let (mut allowed, mut verdict) = (u64::MAX, Ok(()));
    for ((rate, (passed, next, most, reason)), due) in rates.into_iter().zip(&bucket.due_ns) {
        if rate.per_s == 0 {
            continue;
        }
        let due_ns = due
            .get()
            .max(since_ns)
            .saturating_add(duration_ns(passed, rate.per_s));
        due.set(due_ns);
        let ahead = units(due_ns.saturating_sub(now_ns), rate.per_s);
        let room = rate.burst.saturating_sub(ahead);
        if room < next {
            verdict = verdict.and(Err(reason));
        }
        allowed = allowed.min(room / most);
    }
    match verdict {
        Ok(()) => meter
            .allowed
            .set(packets.saturating_add((allowed / 8).max(1))),
        Err(_) => {
            meter.allowed.set(packets);
            bucket.dropped.add(1);
        }
    }
    verdict
}
