//! How media sounds, by the E-model (ITU-T G.107) for narrowband telephony, and when that is worth a report.
//!
//! R = 93.2 - Id - Ie,eff: the default for all that a relay does not know, less what delay and what the codec and
//! its losses take. Echo is taken for cancelled, losses for random, a receiver's buffer for two
//! jitters deep. Codecs without figures in ITU-T G.113 count as G.711, so wideband speech is rated lower than it sounds.

/// Packets of speech are taken to be so long, ms.
const PTIME_MS: f64 = 20.0;

/// What was measured of a stream over some time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Measured {
    /// Share of packets lost, 0 to 1.
    pub loss: f64,
    /// Interarrival jitter (RFC 3550, 6.4.1), ms.
    pub jitter_ms: f64,
    /// Round trip between both legs, ms; 0 while unknown.
    pub round_trip_ms: f64,
    /// RTP payload type.
    pub payload_type: u8,
}

/// From where on a stream's media is poor; zero is nowhere.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Limits {
    /// More is lost than this share, 0 to 1.
    pub loss: f64,
    /// There is more jitter, ms.
    pub jitter_ms: f64,
    /// The round trip is longer, ms.
    pub round_trip_ms: f64,
    /// The MOS is lower, 1 to 5.
    pub mos: f64,
}

impl Limits {
    /// Whether a stream is beyond any of them.
    pub fn are_passed(&self, measured: &Measured) -> bool {
        let above = |value: f64, limit: f64| limit > 0.0 && value > limit;
        above(measured.loss, self.loss)
            || above(measured.jitter_ms, self.jitter_ms)
            || above(measured.round_trip_ms, self.round_trip_ms)
            || self.mos > 0.0 && mos(measured) < self.mos
    }
}

/// Equipment impairment Ie and packet-loss robustness Bpl (ITU-T G.113, appendix I) of a payload type of RFC 3551;
/// G.711 with concealment for all others.
fn codec(payload_type: u8) -> (f64, f64) {
    match payload_type {
        4 => (15.0, 16.1),  // G.723.1 at 6.3 kbit/s
        18 => (11.0, 19.0), // G.729A
        _ => (0.0, 25.1),
    }
}

/// The mean opinion score for conversation, 1 to 4.5 (ITU-T G.107, annex B).
pub fn mos(measured: &Measured) -> f64 {
    let one_way_ms = measured.round_trip_ms / 2.0 + 2.0 * measured.jitter_ms + PTIME_MS;
    let (ie, bpl) = codec(measured.payload_type);
    let percent = 100.0 * measured.loss;
    let equipment = ie + (95.0 - ie) * percent / (percent + bpl);
    let r = 93.2 - delay(one_way_ms) - equipment;
    if r <= 0.0 {
        return 1.0;
    }
    (1.0 + 0.035 * r + r * (r - 60.0) * (100.0 - r) * 7e-6).clamp(1.0, 4.5)
}

/// Idd (ITU-T G.107, 7.4): what absolute delay takes.
fn delay(one_way_ms: f64) -> f64 {
    if one_way_ms <= 100.0 {
        return 0.0;
    }
    let x = (one_way_ms / 100.0).log2();
    let root = |x: f64| (1.0 + x.powi(6)).powf(1.0 / 6.0);
    25.0 * (root(x) - 3.0 * root(x / 3.0) + 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rated(loss: f64, one_way_ms: f64, payload_type: u8) -> f64 {
        mos(&Measured {
            loss,
            round_trip_ms: 2.0 * (one_way_ms - PTIME_MS),
            payload_type,
            ..Measured::default()
        })
    }

    #[test]
    fn scores_are_those_of_the_recommendation() {
        let near = |value: f64, expected: f64| assert!((value - expected).abs() < 0.03, "{value}");
        // R of 93.2, 82.2 and 78.2, by G.107's annex B.
        near(rated(0.0, 20.0, 0), 4.41);
        near(rated(0.0, 20.0, 18), 4.12);
        near(rated(0.0, 20.0, 4), 3.97);
        // G.107, figure of Idd: 200 ms take 3, 300 ms 15, 400 ms 24.
        near(delay(200.0), 3.03);
        assert!((delay(300.0) - 14.6).abs() < 0.5, "{}", delay(300.0));
        assert!((delay(400.0) - 24.0).abs() < 1.0, "{}", delay(400.0));
        // Ie,eff of 5 % lost: 95 * 5 / 30.1 = 15.8.
        near(rated(0.05, 20.0, 0), 3.93);
        assert_eq!(rated(1.0, 2000.0, 18), 1.0);
    }

    #[test]
    fn what_is_worse_scores_less() {
        let steps = [0.0, 0.01, 0.03, 0.1, 0.3];
        assert!(steps.is_sorted_by(|a, b| rated(*a, 20.0, 0) > rated(*b, 20.0, 0)));
        let delays = [150.0, 250.0, 400.0, 700.0];
        assert!(delays.is_sorted_by(|a, b| rated(0.0, *a, 0) > rated(0.0, *b, 0)));
        let jitter = |jitter_ms| {
            mos(&Measured {
                jitter_ms,
                ..Measured::default()
            })
        };
        assert!(jitter(5.0) > jitter(100.0));
    }

    #[test]
    fn each_limit_counts_by_itself_and_none_by_default() {
        let poor = Measured {
            loss: 0.2,
            jitter_ms: 80.0,
            round_trip_ms: 900.0,
            payload_type: 0,
        };
        assert!(!Limits::default().are_passed(&poor));
        let limits = |at: usize, value: f64| {
            let mut each = [0.0; 4];
            each[at] = value;
            let [loss, jitter_ms, round_trip_ms, mos] = each;
            Limits {
                loss,
                jitter_ms,
                round_trip_ms,
                mos,
            }
        };
        for (at, passed, kept) in [
            (0, 0.1, 0.3),
            (1, 50.0, 100.0),
            (2, 500.0, 1000.0),
            (3, 3.0, 1.0),
        ] {
            assert!(limits(at, passed).are_passed(&poor), "{at}");
            assert!(!limits(at, kept).are_passed(&poor), "{at}");
        }
        assert!(!limits(3, 4.0).are_passed(&Measured::default()));
    }
}
