//! The highest rate that a relay loses nothing at (RFC 2544, 26.1), and what becomes of more.

use crate::Failure;

/// One rate that was offered.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Step {
    /// Packets a second that were asked for.
    pub offered: f64,
    /// That the generator could send.
    pub sent: f64,
    /// That the relay sent meanwhile.
    pub relayed: f64,
    /// Whether every packet came, in time.
    pub passed: bool,
    /// Whether the relay sent them all, and it was the generator that did not receive some.
    pub by_generator: bool,
}

/// Which rates.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// The first and the last, packets a second, and how many of equal ratio: two at least.
    pub from: f64,
    pub most: f64,
    pub steps: usize,
    /// How often the gap between the last that passed and the first that did not is halved.
    pub halvings: usize,
    /// Trials of a rate, of which one has to pass: on a shared machine processes stand still at times.
    pub tries: usize,
}

/// What was found.
#[derive(Clone, Debug)]
pub struct Found {
    /// The highest rate sent of which nothing was lost; 0 if there is none.
    pub loss_free: f64,
    /// Whether it is not the relay that is at its limit there: the highest rate of the plan passed, or what did not was the
    /// generator's own loss.
    pub by_generator: bool,
    /// The plan's rates.
    pub steps: Vec<Step>,
}

impl Plan {
    fn rates(&self) -> Vec<f64> {
        let last = self.steps.max(2) - 1;
        let of = |n: usize| self.from * (self.most / self.from).powf(n as f64 / last as f64);
        (0..=last).map(of).collect()
    }

    /// Goes up the ladder. The limit is looked for before more is offered: a relay may not come back from that.
    ///
    /// # Errors
    /// The trial's.
    pub fn search(
        &self,
        mut trial: impl FnMut(f64) -> Result<Step, Failure>,
    ) -> Result<Found, Failure> {
        let mut rate = |pps: f64, tries: usize| {
            let mut step = trial(pps)?;
            for _ in 1..tries {
                if step.passed {
                    break;
                }
                let again = trial(pps)?;
                if again.passed || again.relayed > step.relayed {
                    step = again;
                }
            }
            Ok::<Step, Failure>(step)
        };
        let (mut loss_free, mut passed) = (0.0f64, 0.0);
        // The lowest that did not pass.
        let mut limit: Option<Step> = None;
        let mut steps = Vec::new();
        for pps in self.rates() {
            let step = rate(pps, if limit.is_none() { self.tries } else { 1 })?;
            steps.push(step);
            if limit.is_some() {
                continue;
            }
            if step.passed {
                passed = pps;
                loss_free = loss_free.max(step.sent);
                continue;
            }
            let mut failed = step;
            for _ in 0..self.halvings {
                let middle = (passed + failed.offered) / 2.0;
                let step = rate(middle, self.tries)?;
                if step.passed {
                    passed = middle;
                    loss_free = loss_free.max(step.sent);
                } else {
                    failed = step;
                }
            }
            limit = Some(failed);
        }
        Ok(Found {
            loss_free,
            by_generator: limit.is_none_or(|step| step.by_generator),
            steps,
        })
    }
}

impl Found {
    /// The part of the most it ever relayed that it still relays at the highest rate offered.
    pub fn share(&self) -> f64 {
        let relayed = |step: &Step| step.relayed;
        let peak = self.steps.iter().map(relayed).fold(0.0, f64::max);
        self.steps.last().map_or(0.0, relayed) / peak
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAN: Plan = Plan {
        from: 50.0,
        most: 800.0,
        steps: 5,
        halvings: 4,
        tries: 3,
    };

    /// A relay that loses what is more than `limit`, and relays nothing of more than `collapses`.
    fn relay(limit: f64, collapses: f64) -> impl FnMut(f64) -> Result<Step, Failure> {
        let mut dead = false;
        move |offered| {
            dead |= offered > collapses;
            Ok(Step {
                offered,
                sent: offered,
                relayed: if dead { 0.0 } else { offered.min(limit) },
                passed: !dead && offered <= limit,
                by_generator: false,
            })
        }
    }

    #[test]
    fn the_limit_is_found_before_it_is_too_late() {
        let found = PLAN.search(relay(230.0, 500.0)).unwrap();
        assert!(
            (found.loss_free - 230.0).abs() <= 200.0 / 16.0,
            "{}",
            found.loss_free
        );
        assert!(found.loss_free <= 230.0 && !found.by_generator);
        let offered: Vec<f64> = found.steps.iter().map(|s| s.offered.round()).collect();
        assert_eq!(offered, [50.0, 100.0, 200.0, 400.0, 800.0]);
        assert_eq!(found.share(), 0.0);
    }

    #[test]
    fn a_relay_that_is_never_overloaded_has_no_limit() {
        let found = PLAN.search(relay(1e9, 1e9)).unwrap();
        assert!(found.by_generator && (found.loss_free - 800.0).abs() < 1e-6);
        assert_eq!(found.share(), 1.0);
    }

    #[test]
    fn one_of_three_trials_is_enough() {
        let mut trials = 0;
        let found = PLAN.search(|offered| {
            trials += 1;
            let passed = offered < 900.0 && trials % 3 == 0;
            Ok(Step {
                offered,
                sent: offered,
                relayed: offered,
                passed,
                by_generator: false,
            })
        });
        assert!((found.unwrap().loss_free - 800.0).abs() < 1e-6);
        assert_eq!(trials, 15);
    }

    #[test]
    fn a_generator_that_loses_is_no_limit_of_the_relay() {
        let mut relay = relay(230.0, 1e9);
        let found = PLAN.search(|offered| {
            let mut step = relay(offered)?;
            step.by_generator = offered < 300.0;
            Ok(step)
        });
        assert!(found.unwrap().by_generator);
    }

    #[test]
    fn the_share_is_of_the_peak() {
        let found = PLAN.search(relay(300.0, 1e9)).unwrap();
        assert_eq!(found.share(), 1.0, "it holds its peak");
        assert_eq!(PLAN.search(|_| Ok(Step::default())).unwrap().loss_free, 0.0);
    }

    /// Numbers from 0 to 1 that look random, always the same.
    fn noise() -> impl FnMut() -> f64 {
        let mut state = 1u32;
        move || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            f64::from(state >> 8) / f64::from(1 << 24)
        }
    }

    #[test]
    fn a_noisy_relay_is_found_where_its_noise_is() {
        let mut noise = noise();
        for _ in 0..100 {
            // Its limit is another one each time, from 200 to 260.
            let found = PLAN.search(|offered| relay(200.0 + 60.0 * noise(), 1e9)(offered));
            let found = found.unwrap();
            assert!(
                (200.0 - 200.0 / 16.0..=260.0).contains(&found.loss_free) && !found.by_generator,
                "{}",
                found.loss_free
            );
            assert!(found.share() > 200.0 / 260.0, "{}", found.share());
        }
    }

    #[test]
    fn a_generator_that_stalls_once_in_a_while_does_not_lower_the_limit() {
        let mut noise = noise();
        let mut relay = relay(230.0, 1e9);
        let mut lowest = f64::MAX;
        for _ in 0..100 {
            let mut stalls = 0;
            let found = PLAN.search(|offered| {
                let mut step = relay(offered)?;
                // A packet that it did not receive: never three times running.
                stalls = if noise() < 0.3 && stalls < 2 {
                    stalls + 1
                } else {
                    0
                };
                step.by_generator = step.passed && stalls > 0;
                step.passed &= stalls == 0;
                // And it sends a little less than was asked for.
                step.sent *= 1.0 - 0.01 * noise();
                Ok(step)
            });
            let found = found.unwrap();
            assert!(!found.by_generator && found.loss_free <= 230.0);
            lowest = lowest.min(found.loss_free);
        }
        assert!(lowest > (230.0 - 200.0 / 16.0) * 0.99, "{lowest}");
    }
}
