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

    /// Whether the buckets are seen to be full at a glance or settled one by one: what is allowed is half of what four
    /// plain ones hold.
    #[test]
    fn four_buckets_are_settled_alike(
        rates in prop::array::uniform4((20u64..2000, 1u64..100, any::<bool>())),
        turns in prop::collection::vec((0u64..100_000_000, 0u64..60, 40u64..1400), 1..60),
    ) {
        let unit = |n: usize| if n < 2 { 1 } else { LONGEST };
        let rate = |n: usize| match rates[n] {
            (per_s, burst, true) => Rate::new(per_s * unit(n), burst * unit(n)),
            _ => Rate::UNLIMITED,
        };
        let mut profiles = Profiles::default();
        profiles.0[5] = Profile {
            sustained_packets: rate(0),
            peak_packets: rate(1),
            sustained_bytes: rate(2),
            peak_bytes: rate(3),
        };
        let (slot, tally) = (Slot { longest: LONGEST as u16, ..policed() }, Tally::default());
        let meter = &tally.meter;
        let mut levels: [f64; 4] = std::array::from_fn(|n| (rates[n].1 * unit(n)) as f64);
        let mut now_ns = SECOND;
        prop_assert_eq!(renew(&tally, &slot, &profiles, 1, now_ns), Ok(()));
        for (gap_ns, packets, bytes) in turns {
            let packets = packets.min(meter.allowed.get() - meter.packets.get());
            meter.packets.add(packets);
            meter.bytes.add(packets * bytes);
            now_ns += gap_ns;
            let mut room = f64::INFINITY;
            for (n, level) in levels.iter_mut().enumerate().filter(|&(n, _)| rates[n].2) {
                let passed = packets * if n < 2 { 1 } else { bytes };
                let (per_s, burst, _) = rates[n];
                let refilled = gap_ns as f64 / 1e9 * (per_s * unit(n)) as f64;
                *level = (*level - passed as f64 + refilled).min((burst * unit(n)) as f64);
                room = room.min(*level / unit(n) as f64);
            }
            let verdict = renew(&tally, &slot, &profiles, 1, now_ns);
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
