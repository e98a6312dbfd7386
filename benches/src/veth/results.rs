//! What the rounds of both sides give.

use super::ladder::{Found, Step};
use super::relays::Kind;
use super::{CALLS, Cpu, Lab, SIZE, Turn};
use crate::{median, round3, spread};
use serde_json::{Value, json};

/// The ratio that is wanted: where the generator is the limit, it is at least what was found.
const WANTED: f64 = 2.0;

/// Rates of both sides, a round each.
pub struct Rate<'a> {
    ours: Vec<&'a Found>,
    reference: Vec<&'a Found>,
    stolen: f64,
}

impl<'a> Rate<'a> {
    /// Of the turns of both.
    pub fn of(ours: &[&'a Turn], reference: &[&'a Turn]) -> Rate<'a> {
        let found = |turns: &[&'a Turn]| turns.iter().filter_map(|t| t.found.as_ref()).collect();
        let stolen = ours.iter().chain(reference).map(|t| t.stolen);
        Rate {
            ours: found(ours),
            reference: found(reference),
            stolen: stolen.fold(0.0, f64::max),
        }
    }

    fn ratio(&self) -> f64 {
        let pairs = self.ours.iter().zip(&self.reference);
        let ratios: Vec<f64> = pairs.map(|(o, r)| o.loss_free / r.loss_free).collect();
        median(&ratios)
    }

    fn spread(&self) -> f64 {
        spread(&loss_free(&self.reference))
    }

    /// Whether it is the generator that says how fast a relay is.
    fn is_limited(&self) -> bool {
        let limited = |all: &[&Found]| all.iter().any(|f| f.by_generator);
        limited(&self.ours) || limited(&self.reference)
    }

    /// Whether the ratio can be relied on, or is at least as high as it has to be.
    pub fn is_conclusive(&self) -> bool {
        let is_enough = self.ratio() >= WANTED && !self.reference.iter().any(|f| f.by_generator);
        self.spread() <= 0.2 && (is_enough || !self.is_limited())
    }

    /// The case.
    pub fn json(&self, lab: &Lab, port: Kind, version: &str) -> Value {
        let mpps = |all: &[&Found]| round3(median(&loss_free(all)) / 1e6);
        let mut case = json!({
            "bench": "veth", "port": port.name(), "polling": lab.cases.polling, "calls": CALLS, "streams": 2 * CALLS,
            "family": "ipv4", "size": SIZE, "mpps": mpps(&self.ours), "reference": "rtpengine",
            "reference_version": version, "reference_mpps": mpps(&self.reference), "ratio": round3(self.ratio()),
            "reference_spread": round3(self.spread()),
            "share_at_most_offered": round3(share(&self.ours)),
            "reference_share_at_most_offered": round3(share(&self.reference)),
            "asked_pps": steps(&self.ours, |s| s.offered),
            "offered_pps": steps(&self.ours, |s| s.sent), "relayed_pps": steps(&self.ours, |s| s.relayed),
            "reference_offered_pps": steps(&self.reference, |s| s.sent),
            "reference_relayed_pps": steps(&self.reference, |s| s.relayed),
            "generator": lab.device.split("9,").next(), "generator_mpps": round3(lab.plan.most / 1e6),
            "stolen": round3(self.stolen), "rounds": self.reference.len(),
        });
        if self.is_limited() {
            case["limited_by"] = json!("generator");
        }
        case
    }

    /// A line of the table.
    pub fn line(&self, port: Kind) -> String {
        let mpps = |all: &[&Found]| median(&loss_free(all)) / 1e6;
        format!(
            "{:14} {CALLS:>5} {:>9.3} {:>14.3} {:>7.2} {:>6.0}% {:>12.0}% {:>14.0}%",
            port.name(),
            mpps(&self.ours),
            mpps(&self.reference),
            self.ratio(),
            100.0 * self.spread(),
            100.0 * share(&self.ours),
            100.0 * share(&self.reference),
        )
    }
}

fn loss_free(all: &[&Found]) -> Vec<f64> {
    all.iter().map(|f| f.loss_free).collect()
}

fn share(all: &[&Found]) -> f64 {
    median(&all.iter().map(|f| f.share()).collect::<Vec<_>>())
}

/// The median of each step over the rounds.
fn steps(all: &[&Found], what: fn(&Step) -> f64) -> Vec<f64> {
    let count = all.first().map_or(0, |f| f.steps.len());
    let step = |n: usize| median(&all.iter().map(|f| what(&f.steps[n])).collect::<Vec<_>>());
    (0..count).map(|n| step(n).round()).collect()
}

/// Costs of both sides, a round each: of their processes, and of their core.
pub struct Cost {
    ours: (Vec<f64>, Vec<f64>),
    reference: (Vec<f64>, Vec<f64>),
    lost: (u64, u64),
    stolen: f64,
}

impl Cost {
    /// Of the turns of both.
    pub fn of(ours: &[&Turn], reference: &[&Turn]) -> Cost {
        let all = |turns: &[&Turn]| -> Vec<Cpu> { turns.iter().filter_map(|t| t.cpu).collect() };
        let split = |all: &[Cpu]| {
            (
                all.iter().map(|c| c.process).collect::<Vec<_>>(),
                all.iter().map(|c| c.core).collect::<Vec<_>>(),
            )
        };
        let lost = |all: &[Cpu]| all.iter().map(|c| c.lost).sum();
        let stolen = ours.iter().chain(reference).map(|t| t.stolen);
        let (ours, reference) = (all(ours), all(reference));
        Cost {
            lost: (lost(&ours), lost(&reference)),
            ours: split(&ours),
            reference: split(&reference),
            stolen: stolen.fold(0.0, f64::max),
        }
    }

    /// Whether the ratio can be relied on: the reference's rounds are alike, and at this rate nothing was lost.
    pub fn is_conclusive(&self) -> bool {
        self.spread() <= 0.2 && self.lost == (0, 0)
    }

    fn spread(&self) -> f64 {
        spread(&self.reference.0)
    }

    fn ratio(ours: &[f64], reference: &[f64]) -> f64 {
        median(
            &ours
                .iter()
                .zip(reference)
                .map(|(o, r)| o / r)
                .collect::<Vec<_>>(),
        )
    }

    /// The case.
    pub fn json(&self, lab: &Lab, port: Kind, calls: usize, version: &str) -> Value {
        let (ours, reference) = (&self.ours, &self.reference);
        json!({
            "bench": "veth-cpu", "port": port.name(), "polling": lab.cases.polling, "calls": calls, "streams": 2 * calls,
            "family": "ipv4", "size": SIZE, "cpu_s_per_mpackets": round3(median(&ours.0)), "reference": "rtpengine",
            "reference_version": version, "reference_cpu_s_per_mpackets": round3(median(&reference.0)),
            "ratio": round3(Cost::ratio(&ours.0, &reference.0)), "reference_spread": round3(self.spread()),
            "core_s_per_mpackets": round3(median(&ours.1)),
            "reference_core_s_per_mpackets": round3(median(&reference.1)),
            "core_ratio": round3(Cost::ratio(&ours.1, &reference.1)),
            "lost": self.lost.0, "reference_lost": self.lost.1, "stolen": round3(self.stolen),
            "rounds": self.reference.0.len(),
        })
    }

    /// A line of the table.
    pub fn line(&self, port: Kind, calls: usize) -> String {
        let (ours, reference) = (&self.ours, &self.reference);
        format!(
            "{:14} {calls:>5} {:>9.2} {:>11.2} {:>7.2} {:>6.0}% {:>16.2} {:>16.2}",
            port.name(),
            median(&ours.0),
            median(&reference.0),
            Cost::ratio(&ours.0, &reference.0),
            100.0 * self.spread(),
            median(&ours.1),
            median(&reference.1),
        )
    }
}
