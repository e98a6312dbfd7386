//! The search for the highest rate that passes.

use crate::Failure;
use crate::generator::Trial;

/// The search ends when a rate passed and one this many times as high did not.
const FINE: f64 = 1.02;
/// A part of what the pace asks for that has to be offered at least.
const KEPT_UP: f64 = 0.98;
/// A rate is tried so often before it counts as too high: a machine that is shared stalls.
const CHANCES: usize = 3;
/// With more than this part lost it was no stall.
const HOPELESS: f64 = 0.03;
/// No machine that measures anything is as slow.
const LEAST_PPS: f64 = 10_000.0;
/// Of the growing steps, the largest.
const MOST_STEP: f64 = 2.0;
/// Rates tried, at most.
const PATIENCE: usize = 40;

/// A rate that passed.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Found {
    /// Packets offered per second.
    pub pps: f64,
    /// See [`Trial::stolen`], of the trial that passed.
    pub stolen: f64,
    /// Whether the generator could not offer more.
    pub by_generator: bool,
}

enum Outcome {
    Passed(Found),
    /// Lost more than is allowed.
    Lost,
    /// Passed, but below the rate that was asked for.
    Short(Found),
}

/// The highest rate at which no more than the part `allowed` is lost, sought from `from` on, first in steps of `step`.
/// `trial` offers a rate.
pub fn highest(
    allowed: f64,
    from: f64,
    mut step: f64,
    mut trial: impl FnMut(f64) -> Result<Trial, Failure>,
) -> Result<Found, Failure> {
    let mut best = Found::default();
    let (mut low, mut high) = (None, None);
    // Whether what set `high` was the generator.
    let mut is_short = false;
    let mut at = from;
    for _ in 0..PATIENCE {
        let mut keep = |found: Found| {
            if found.pps > best.pps {
                best = found;
            }
        };
        match attempt(allowed, at, &mut trial)? {
            Outcome::Passed(found) => {
                keep(found);
                low = Some(at);
            }
            Outcome::Lost => {
                high = Some(at);
                is_short = false;
            }
            Outcome::Short(found) => {
                keep(found);
                high = Some(at);
                is_short = true;
            }
        }
        at = match (low, high) {
            (Some(low), Some(high)) if high <= low * FINE => {
                best.by_generator = is_short;
                return Ok(best);
            }
            (Some(low), Some(high)) => (low * high).sqrt(),
            (Some(low), None) => low * step,
            (None, Some(high)) => high / step,
            (None, None) => at,
        };
        if low.is_none() || high.is_none() {
            step = (step * step.sqrt()).min(MOST_STEP);
        }
        if at < LEAST_PPS {
            break;
        }
    }
    Err(Failure::Environment(
        "every rate loses packets: is anything else running?".into(),
    ))
}

fn attempt(
    allowed: f64,
    pps: f64,
    trial: &mut impl FnMut(f64) -> Result<Trial, Failure>,
) -> Result<Outcome, Failure> {
    let mut outcome = Outcome::Lost;
    for _ in 0..CHANCES {
        let done = trial(pps)?;
        let offered = done.offered as f64;
        let lost = done.lost as f64 / offered.max(1.0);
        let found = Found {
            pps: offered / done.seconds,
            stolen: done.stolen,
            by_generator: false,
        };
        if lost > HOPELESS.max(allowed) {
            return Ok(Outcome::Lost);
        }
        if lost > allowed {
            continue;
        }
        if found.pps >= pps * KEPT_UP {
            return Ok(Outcome::Passed(found));
        }
        outcome = Outcome::Short(found);
    }
    Ok(outcome)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generator::Latency;

    /// A relay that loses what is above `most` packets a second, offered by a generator that can do `can`.
    fn trial(pps: f64, most: f64, can: f64) -> Trial {
        let offered = pps.min(can) as u64;
        let received = offered.min(most as u64);
        Trial {
            seconds: 1.0,
            offered,
            sent: offered,
            received,
            lost: offered - received,
            out_of_order: 0,
            repeated: 0,
            wrong: 0,
            latency_us: Latency::default(),
            stolen: 0.0,
        }
    }

    #[test]
    fn the_highest_rate_is_found_from_above_and_below() {
        for from in [1e5, 0.9e6, 1e6, 1.1e6, 3e7] {
            let found = highest(0.0, from, 1.1, |pps| Ok(trial(pps, 1e6, 1e9))).unwrap();
            assert!(
                found.pps <= 1e6 && found.pps > 1e6 / FINE,
                "{from}: {found:?}"
            );
            assert!(!found.by_generator);
            let some = highest(0.1, from, 1.1, |pps| Ok(trial(pps, 1e6, 1e9))).unwrap();
            assert!(
                some.pps <= 1e6 / 0.9 + 1.0 && some.pps > 1.08e6,
                "{from}: {some:?}"
            );
        }
    }

    #[test]
    fn a_stall_of_the_machine_is_forgiven_twice() {
        let mut count = 0;
        let found = highest(0.0, 9e5, 1.1, |pps| {
            count += 1;
            let mut trial = trial(pps, 1e6, 1e9);
            if count % 3 != 0 {
                trial.lost += 1;
            }
            Ok(trial)
        });
        assert!(found.unwrap().pps > 1e6 / FINE);
        let never = highest(0.0, 9e5, 1.1, |pps| {
            Ok(Trial {
                lost: 1,
                ..trial(pps, 1e6, 1e9)
            })
        });
        assert!(never.is_err());
    }

    #[test]
    fn a_generator_that_is_the_limit_is_named() {
        let found = highest(0.0, 1e5, 1.1, |pps| Ok(trial(pps, 1e9, 1e6))).unwrap();
        assert!(found.by_generator && found.pps > 1e6 / FINE, "{found:?}");
        // One that does now a little more, now a little less.
        for from in (1..50).map(|n| 2e4 * f64::from(n)) {
            let mut count = 0;
            let found = highest(0.0, from, 1.1, |pps| {
                count += 1;
                let can = 1e6 * (1.0 + 0.005 * f64::from(count * 7 % 5 - 2));
                Ok(trial(pps, 1e9, can))
            });
            assert!(found.unwrap().by_generator, "{from}");
        }
    }
}
