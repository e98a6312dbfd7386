//! What the rounds of both sides give.

use super::client::WINDOW;
use super::server::Side;
use super::{PACE, Turn, Went};
use crate::{median, round3, spread};
use serde_json::{Value, json};

/// The ratio that is wanted: where the client is the limit, it is at least what was found.
const WANTED: f64 = 3.0;
/// A server whose CPU is less busy was not asked fast enough.
const BUSY: f64 = 0.9;
/// A client that offers later than this, in one of a hundred, measures itself.
const LATE_US: f64 = 300.0;

/// Cycles of both sides, a round each.
pub struct Rate {
    is_together: bool,
    ours: Vec<Went>,
    reference: Vec<Went>,
    reference_calls: usize,
    repeated: [u64; 2],
}

impl Rate {
    /// Of the turns of both; there may be no reference.
    pub fn of(ours: &[&Turn], reference: &[&Turn], is_together: bool) -> Rate {
        let went = |turn: &&Turn| match is_together {
            true => turn.together,
            false => Some(turn.beside),
        };
        let repeated = |turns: &[&Turn]| turns.iter().map(|turn| turn.repeated).sum();
        Rate {
            is_together,
            ours: ours.iter().filter_map(went).collect(),
            reference: reference.iter().map(|turn| turn.beside).collect(),
            reference_calls: reference.first().map_or(0, |turn| turn.stood),
            repeated: [repeated(ours), repeated(reference)],
        }
    }

    fn ratio(&self) -> f64 {
        let pairs = self.ours.iter().zip(&self.reference);
        median(&pairs.map(|(o, r)| o.per_s / r.per_s).collect::<Vec<_>>())
    }

    fn spread(&self) -> f64 {
        spread(&all(&self.reference, |went| went.per_s))
    }

    /// Whether it is the client that says how fast a server is; or the plane, where it has a CPU of its own.
    fn is_limited(went: &[Went]) -> bool {
        !went.is_empty() && median(&all(went, |went| went.busy)) < BUSY
    }

    /// Whether the ratio can be relied on, or is at least as high as it has to be.
    pub fn is_conclusive(&self) -> bool {
        if self.reference.is_empty() {
            return !Rate::is_limited(&self.ours);
        }
        let is_enough = self.ratio() >= WANTED || !Rate::is_limited(&self.ours);
        self.spread() <= 0.2 && is_enough && !Rate::is_limited(&self.reference)
    }

    const fn case(&self) -> &'static str {
        match self.is_together {
            true => "plane on control's CPU",
            false => "plane on another CPU",
        }
    }

    /// The case.
    pub fn json(&self, calls: usize, version: &str) -> Value {
        let (ours, reference) = (&self.ours, &self.reference);
        let middle = |went: &[Went], what: fn(&Went) -> f64| round3(median(&all(went, what)));
        let mut case = json!({
            "bench": "ng", "case": self.case(), "calls": calls, "in_flight": WINDOW,
            "cycles_per_s": middle(ours, |w| w.per_s).round(),
            "control_us": middle(ours, |w| w.us[0]), "plane_us": middle(ours, |w| w.us[1]),
            "busy": middle(ours, |w| w.busy), "repeated": self.repeated[0], "rounds": ours.len(),
        });
        if !reference.is_empty() {
            case["reference"] = json!("rtpengine");
            case["reference_version"] = json!(version);
            case["reference_calls"] = json!(self.reference_calls);
            case["reference_cycles_per_s"] = json!(middle(reference, |w| w.per_s).round());
            case["reference_us"] = json!(middle(reference, |w| w.us[0]));
            case["reference_busy"] = json!(middle(reference, |w| w.busy));
            case["reference_repeated"] = json!(self.repeated[1]);
            case["ratio"] = json!(round3(self.ratio()));
            case["reference_spread"] = json!(round3(self.spread()));
        }
        if Rate::is_limited(ours) || Rate::is_limited(reference) {
            case["limited_by"] = json!("client or plane");
        }
        case
    }

    /// A line of the table.
    pub fn line(&self, calls: usize) -> String {
        let middle = |went: &[Went], what: fn(&Went) -> f64| median(&all(went, what));
        let (ours, reference) = (&self.ours, &self.reference);
        let plane = match self.is_together {
            true => "on the same",
            false => "beside",
        };
        let mine = [
            middle(ours, |w| w.us[0]),
            middle(ours, |w| w.us[1]),
            100.0 * middle(ours, |w| w.busy),
        ];
        let rate = middle(ours, |w| w.per_s);
        if reference.is_empty() {
            return format!(
                "{calls:>8} {plane:11} {rate:>9.0} {:>11} {:>6} {:>7} {:>11.1} {:>9.1} {:>12} {:>4.0}%",
                "", "", "", mine[0], mine[1], "", mine[2]
            );
        }
        let fewer = match self.reference_calls < calls {
            true => format!("  rtpengine: {} standing", self.reference_calls),
            false => String::new(),
        };
        format!(
            "{calls:>8} {plane:11} {rate:>9.0} {:>11.0} {:>6.2} {:>6.0}% {:>11.1} {:>9.1} {:>12.1} {:>4.0}%{fewer}",
            middle(reference, |w| w.per_s),
            self.ratio(),
            100.0 * self.spread(),
            mine[0],
            mine[1],
            middle(reference, |w| w.us[0]),
            mine[2],
        )
    }
}

fn all(went: &[Went], what: fn(&Went) -> f64) -> Vec<f64> {
    went.iter().map(what).collect()
}

/// How long requests took: p50, p99 and p99.9 of offer, answer and delete, microseconds, medians of the rounds.
pub struct Latency {
    us: [[f64; 3]; 3],
    late_us: f64,
    stood: usize,
    rounds: usize,
}

const PARTS: [f64; 3] = [0.5, 0.99, 0.999];

impl Latency {
    /// Of one server's turns.
    pub fn of(turns: &[&Turn]) -> Latency {
        let middle = |n: usize, part: f64| {
            let rounds = turns.iter().map(|turn| quantile(&turn.paced.us[n], part));
            median(&rounds.collect::<Vec<_>>())
        };
        let late = turns.iter().map(|turn| quantile(&turn.paced.late_us, 0.99));
        Latency {
            us: [0, 1, 2].map(|n| PARTS.map(|part| middle(n, part))),
            late_us: median(&late.collect::<Vec<_>>()),
            stood: turns.first().map_or(0, |turn| turn.stood),
            rounds: turns.len(),
        }
    }

    /// Whether it was the server that took the time.
    pub fn is_conclusive(&self) -> bool {
        self.late_us <= LATE_US
    }

    /// The case.
    pub fn json(&self, side: Side, calls: usize, version: &str) -> Value {
        let of = |n: usize| {
            let [p50, p99, p999] = self.us[n].map(|us| us.round());
            json!({ "p50": p50, "p99": p99, "p99.9": p999 })
        };
        let mut case = json!({
            "bench": "ng-latency", "case": name(side), "calls": calls, "standing": self.stood, "calls_per_s": PACE,
            "offer_us": of(0), "answer_us": of(1), "delete_us": of(2), "client_late_us": self.late_us.round(),
            "rounds": self.rounds,
        });
        if side == Side::Rtpengine {
            case["reference_version"] = json!(version);
        }
        if !self.is_conclusive() {
            case["limited_by"] = json!("client");
            case["inconclusive"] = json!(true);
        }
        case
    }

    /// A line of the table.
    pub fn line(&self, side: Side, calls: usize) -> String {
        let of = |n: usize| {
            let [p50, p99, p999] = self.us[n];
            format!("{p50:>10.0} {p99:>7.0} {p999:>7.0}")
        };
        let late = match self.is_conclusive() {
            true => String::new(),
            false => format!("  the client was {:.0} us late", self.late_us),
        };
        format!(
            "{calls:>8} {:12} {} {} {}{late}",
            name(side),
            of(0),
            of(1),
            of(2)
        )
    }
}

const fn name(side: Side) -> &'static str {
    match side {
        Side::Penstock => "Penstock",
        Side::Rtpengine => "rtpengine",
    }
}

/// The value that such a part of them is below.
fn quantile(values: &[f64], part: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = (sorted.len() as f64 * part) as usize;
    let last = sorted.len().checked_sub(1);
    last.map_or(f64::NAN, |last| sorted[at.min(last)])
}

#[cfg(test)]
mod tests {
    use super::super::client::Paced;
    use super::*;

    fn turn(side: Side, per_s: f64, busy: f64) -> Turn {
        let went = |per_s| Went {
            per_s,
            us: [1e6 / per_s, 5.0],
            busy,
        };
        Turn {
            side,
            calls: 100,
            stood: 100,
            beside: went(per_s),
            together: (side == Side::Penstock).then(|| went(per_s / 2.0)),
            paced: Paced {
                us: [1.0, 2.0, 3.0].map(|us| (0..1000).map(|n| us * f64::from(n)).collect()),
                late_us: vec![5.0; 1000],
            },
            repeated: 0,
        }
    }

    fn rate(ours: (f64, f64), reference: (f64, f64), is_together: bool) -> Rate {
        let ours = turn(Side::Penstock, ours.0, ours.1);
        let reference = turn(Side::Rtpengine, reference.0, reference.1);
        Rate::of(&[&ours; 3], &[&reference; 3], is_together)
    }

    #[test]
    fn a_ratio_holds_where_the_servers_were_the_limit_or_it_is_enough() {
        let fast = rate((9000.0, 1.0), (2000.0, 1.0), false);
        assert_eq!((fast.ratio(), fast.is_conclusive()), (4.5, true));
        let together = rate((9000.0, 1.0), (2000.0, 1.0), true);
        assert_eq!((together.ratio(), together.is_conclusive()), (2.25, true));
        assert!(rate((9000.0, 0.5), (2000.0, 1.0), false).is_conclusive());
        assert!(!rate((9000.0, 0.5), (2000.0, 1.0), true).is_conclusive());
        assert!(!rate((9000.0, 1.0), (2000.0, 0.5), false).is_conclusive());
        let json = fast.json(100, "10");
        assert_eq!(
            (json["ratio"].as_f64(), json["calls"].as_u64()),
            (Some(4.5), Some(100))
        );
        assert!(json.get("limited_by").is_none());
        let alone = Rate::of(&[&turn(Side::Penstock, 9000.0, 1.0)], &[], false);
        assert!(alone.is_conclusive() && alone.json(100, "10").get("ratio").is_none());
    }

    #[test]
    fn latencies_are_told_by_request() {
        let turn = turn(Side::Penstock, 1.0, 1.0);
        let latency = Latency::of(&[&turn]);
        assert_eq!(latency.us[0], [500.0, 990.0, 999.0]);
        assert_eq!(latency.us[2], [1500.0, 2970.0, 2997.0]);
        assert!(latency.is_conclusive());
        assert!(quantile(&[], 0.5).is_nan());
    }
}
