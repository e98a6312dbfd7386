//! Token buckets against a plain model that refills at every packet.

use crate::judge::verdict_by;
use crate::support::{Datagram, asking, policy, rtp, slot};
use penstock_relay::police::{Profile, Profiles, Rate, renew};
use penstock_relay::{Drop, Rules};
use penstock_shm::record::Slot;
use penstock_shm::tally::Tally;
use proptest::prelude::*;

const SECOND: u64 = 1_000_000_000;
/// Octets of UDP payload of every packet here.
const BYTES: u64 = 172;
/// And of the longest IP packet that may leave.
const LONGEST: u64 = 1500;

fn rules(profile: Profile) -> Rules {
    let mut profiles = Profiles::default();
    profiles.0[5] = profile;
    Rules {
        profiles,
        ..Rules::default()
    }
}

fn policed() -> Slot {
    let source = Datagram::v4(&[]).source;
    slot(&asking(policy(source), |spec| spec.police = 5))
}

/// Sends a packet at each of these times; says how many passed, and why others did not.
fn send(profile: Profile, times: impl IntoIterator<Item = u64>) -> (u64, Vec<Drop>) {
    let (rules, slot, tally) = (rules(profile), policed(), Tally::default());
    let datagram = Datagram::v4(&rtp(1, 2, 3));
    let mut reasons = Vec::new();
    for now_ns in times {
        reasons.extend(verdict_by(&rules, &datagram, &slot, &tally, now_ns).err());
    }
    (tally.meter.packets.get(), reasons)
}

fn sustained(per_s: u64, burst: u64) -> Profile {
    Profile {
        sustained_packets: Rate::new(per_s, burst),
        ..Profile::default()
    }
}

#[test]
fn a_burst_passes_and_no_more() {
    let (passed, reasons) = send(sustained(100, 40), vec![SECOND; 1000]);
    assert_eq!(passed, 40);
    assert!(reasons.iter().all(|reason| *reason == Drop::PolicePackets));
}

#[test]
fn in_the_long_run_the_rate_passes() {
    // A thousand a second for ten seconds, of which a hundred a second may pass.
    let times = (0..10_000).map(|n| SECOND + n * SECOND / 1000);
    let (passed, _) = send(sustained(100, 40), times);
    assert!((1030..=1045).contains(&passed), "{passed}");
}

#[test]
fn what_keeps_to_the_rate_is_never_dropped() {
    let times = (0..10_000).map(|n| SECOND + n * SECOND / 50);
    let profile = Profile {
        peak_packets: Rate::new(200, 2),
        sustained_bytes: Rate::new(50 * BYTES, 1500),
        ..sustained(50, 10)
    };
    assert_eq!(send(profile, times).0, 10_000);
}

#[test]
fn octets_and_peaks_have_buckets_of_their_own() {
    let bytes = Profile {
        sustained_bytes: Rate::new(1000 * BYTES, 10 * BYTES),
        ..sustained(1_000_000, 1_000_000)
    };
    let (passed, reasons) = send(bytes, vec![SECOND; 100]);
    assert_eq!((passed, reasons[0]), (10, Drop::PoliceBytes));
    let peak = Profile {
        peak_packets: Rate::new(1000, 3),
        ..sustained(1_000_000, 1_000_000)
    };
    let (passed, reasons) = send(peak, vec![SECOND; 100]);
    assert_eq!((passed, reasons[0]), (3, Drop::PolicePackets));
}

#[test]
fn a_stream_without_a_profile_is_looked_at_once() {
    let source = Datagram::v4(&[]).source;
    let (slot, tally) = (slot(&policy(source)), Tally::default());
    let datagram = Datagram::v4(&rtp(1, 2, 3));
    let verdict = verdict_by(&Rules::default(), &datagram, &slot, &tally, 1);
    assert!(verdict.is_ok());
    assert_eq!(tally.meter.allowed.get(), u64::MAX);
}

proptest! {
    /// Whatever the arrivals: nothing that an exact bucket lets through in total by half its burst more
    /// is exceeded, and a bucket smaller by that half is never stricter.
    #[test]
    fn an_exact_bucket_is_close(gaps in prop::collection::vec(0u64..60_000_000, 1..400), per_s in 20u64..200, burst in 8u64..100) {
        let mut now_ns = SECOND;
        let times: Vec<u64> = gaps.iter().map(|gap| { now_ns += gap; now_ns }).collect();
        let (passed, _) = send(sustained(per_s, burst), times.iter().copied());
        let exact = |burst: u64| {
            let (mut tokens, mut last, mut passed) = (burst as f64, SECOND, 0u64);
            for &at in &times {
                tokens = (tokens + (at - last) as f64 * per_s as f64 / 1e9).min(burst as f64);
                last = at;
                if tokens >= 1.0 {
                    tokens -= 1.0;
                    passed += 1;
                }
            }
            passed
        };
        prop_assert!(passed <= exact(burst + burst.div_ceil(2)) + 1, "{passed} of {}", exact(burst));
        prop_assert!(passed + 1 >= exact(burst - burst.div_ceil(2)), "{passed} of {}", exact(burst));
    }

    /// Whether the buckets are seen to be full at a glance or settled one by one, and whatever profile the stream had
    /// before: what is allowed is half of what four plain ones hold.
    #[test]
    fn four_buckets_are_settled_alike(
        rates in prop::array::uniform8((20u64..2000, 1u64..100, any::<bool>())),
        turns in prop::collection::vec((0u64..100_000_000, 0u64..60, 40u64..1400, 0usize..8), 1..60),
    ) {
        let unit = |n: usize| if n % 4 < 2 { 1 } else { LONGEST };
        let rate = |n: usize| match rates[n] {
            (per_s, burst, true) => Rate::new(per_s * unit(n), burst * unit(n)),
            _ => Rate::UNLIMITED,
        };
        let mut profiles = Profiles::default();
        for number in [0, 1] {
            profiles.0[5 + number] = Profile {
                sustained_packets: rate(4 * number),
                peak_packets: rate(4 * number + 1),
                sustained_bytes: rate(4 * number + 2),
                peak_bytes: rate(4 * number + 3),
            };
        }
        let slots = [5, 6].map(|police| Slot { longest: LONGEST as u16, police, ..policed() });
        let tally = Tally::default();
        let meter = &tally.meter;
        // Nanoseconds that each bucket is ahead of the clock: full, if none.
        let mut ahead_ns = [0.0f64; 4];
        let mut now_ns = SECOND;
        prop_assert_eq!(renew(&tally, &slots[0], &profiles, 1, now_ns), Ok(()));
        let mut profile = 0;
        for (gap_ns, packets, bytes, change) in turns {
            let packets = packets.min(meter.allowed.get().saturating_sub(meter.packets.get()));
            meter.packets.add(packets);
            meter.bytes.add(packets * bytes);
            now_ns += gap_ns;
            if change == 0 {
                profile = 1 - profile;
            }
            let mut room = f64::INFINITY;
            for (n, ahead_ns) in ahead_ns.iter_mut().enumerate() {
                let (per_s, burst, is_limited) = rates[4 * profile + n];
                if !is_limited {
                    *ahead_ns = 0.0;
                    continue;
                }
                let passed = packets * if n < 2 { 1 } else { bytes };
                let each_ns = 1e9 / (per_s * unit(n)) as f64;
                let burst = (burst * unit(n)) as f64;
                *ahead_ns = (*ahead_ns + passed as f64 * each_ns - gap_ns as f64).clamp(0.0, (burst + 1.0) * each_ns);
                room = room.min((burst - *ahead_ns / each_ns) / unit(n) as f64);
            }
            let verdict = renew(&tally, &slots[profile], &profiles, 1, now_ns);
            let allowed = meter.allowed.get().saturating_sub(meter.packets.get());
            if room.is_infinite() {
                prop_assert_eq!(meter.allowed.get(), u64::MAX);
            } else if verdict.is_ok() {
                prop_assert!((room / 2.0 - allowed as f64).abs() <= 1.01, "{allowed}, not half of {room}");
            } else {
                prop_assert!(room < 1.01 && allowed == 0, "{verdict:?} with {room}");
            }
        }
    }
}

/// A stream that was not policed owes nothing for it: its bucket is empty at worst.
#[test]
fn what_passed_unpoliced_is_not_held_against_a_stream() {
    let mut profiles = Profiles::default();
    profiles.0[5] = sustained(100, 40);
    let (free, policed, tally) = (
        Slot {
            police: 0,
            ..policed()
        },
        policed(),
        Tally::default(),
    );
    let meter = &tally.meter;
    assert_eq!(renew(&tally, &free, &profiles, 172, SECOND), Ok(()));
    meter.packets.add(90_000);
    // As the steward does when a profile is given.
    meter.allowed.set(0);
    let now_ns = 601 * SECOND;
    let verdict = renew(&tally, &policed, &profiles, 172, now_ns);
    assert_eq!(verdict, Err(Drop::PolicePackets));
    let later = now_ns + SECOND / 10;
    assert_eq!(renew(&tally, &policed, &profiles, 172, later), Ok(()));
    assert_eq!(meter.allowed.get(), meter.packets.get() + 4);
}
