//! How each source of a stream sounded over the call, in bounded memory.

/// Ratings kept of a source; when there are more, each stands for twice the time.
pub(crate) const MAX_ENTRIES: usize = 60;

/// One rating, in the units of ng's replies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sample {
    /// When it was made, or the last of those it is the average of: seconds since 1970.
    pub(crate) at_s: u32,
    /// Between both legs; 0 while unknown.
    pub(crate) round_trip_us: u32,
    /// Between the relay and the leg that sends; 0 while unknown.
    pub(crate) leg_us: u32,
    pub(crate) jitter_ms: u16,
    pub(crate) loss_percent: u8,
    /// MOS times ten.
    pub(crate) mos_tenths: u8,
}

/// What was measured over an interval.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Measure {
    /// Seconds since 1970.
    pub(crate) at_s: u32,
    pub(crate) mos: f64,
    pub(crate) jitter_ms: f64,
    pub(crate) loss_percent: f64,
    /// Between both legs.
    pub(crate) round_trip_us: Option<f64>,
    /// Between the relay and the leg that sends.
    pub(crate) leg_us: Option<f64>,
}

/// Measures added up. A round trip that is unknown does not count.
#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    count: u32,
    at_s: u32,
    mos: f64,
    jitter_ms: f64,
    loss_percent: f64,
    round_trip_us: (f64, u32),
    leg_us: (f64, u32),
}

impl Sums {
    fn add(&mut self, measure: &Measure) {
        let add = |(sum, count): &mut (f64, u32), value: Option<f64>| {
            if let Some(value) = value {
                *sum += value;
                *count += 1;
            }
        };
        self.count += 1;
        self.at_s = measure.at_s;
        self.mos += measure.mos;
        self.jitter_ms += measure.jitter_ms;
        self.loss_percent += measure.loss_percent;
        add(&mut self.round_trip_us, measure.round_trip_us);
        add(&mut self.leg_us, measure.leg_us);
    }

    fn mean(&self) -> Sample {
        let count = f64::from(self.count.max(1));
        let trip = |(sum, count): (f64, u32)| (sum / f64::from(count.max(1))).round() as u32;
        Sample {
            at_s: self.at_s,
            round_trip_us: trip(self.round_trip_us),
            leg_us: trip(self.leg_us),
            jitter_ms: (self.jitter_ms / count).round() as u16,
            loss_percent: (self.loss_percent / count).round() as u8,
            mos_tenths: (self.mos * 10.0 / count).round() as u8,
        }
    }
}

/// The average of two entries, as late as the second.
fn merged(a: Sample, b: Sample) -> Sample {
    let trip = |a: u32, b: u32| match (a, b) {
        (0, known) | (known, 0) => known,
        (a, b) => a.midpoint(b),
    };
    Sample {
        at_s: b.at_s,
        round_trip_us: trip(a.round_trip_us, b.round_trip_us),
        leg_us: trip(a.leg_us, b.leg_us),
        jitter_ms: a.jitter_ms.midpoint(b.jitter_ms),
        loss_percent: a.loss_percent.midpoint(b.loss_percent),
        mos_tenths: a.mos_tenths.midpoint(b.mos_tenths),
    }
}

/// One source (SSRC) over the call.
#[derive(Clone, Debug)]
pub(crate) struct History {
    pub(crate) ssrc: u32,
    /// Packets of it that were lost.
    pub(crate) lost: i64,
    all: Sums,
    /// What is not yet an entry.
    part: Sums,
    /// How many measures an entry stands for.
    span: u32,
    lowest: Sample,
    highest: Sample,
    entries: Vec<Sample>,
}

impl History {
    pub(crate) fn new(ssrc: u32) -> History {
        History {
            ssrc,
            lost: 0,
            all: Sums::default(),
            part: Sums::default(),
            span: 1,
            lowest: Sample::default(),
            highest: Sample::default(),
            entries: Vec::new(),
        }
    }

    pub(crate) fn add(&mut self, measure: &Measure) {
        let mut one = Sums::default();
        one.add(measure);
        let sample = one.mean();
        if self.all.count == 0 || sample.mos_tenths < self.lowest.mos_tenths {
            self.lowest = sample;
        }
        if self.all.count == 0 || sample.mos_tenths > self.highest.mos_tenths {
            self.highest = sample;
        }
        self.all.add(measure);
        self.part.add(measure);
        if self.part.count < self.span {
            return;
        }
        if self.entries.len() == MAX_ENTRIES {
            let pairs = self.entries.chunks_exact(2);
            self.entries = pairs.map(|pair| merged(pair[0], pair[1])).collect();
            self.span *= 2;
            // What was measured last waits for its second half.
            if self.part.count < self.span {
                return;
            }
        }
        self.entries.push(std::mem::take(&mut self.part).mean());
    }

    /// How many measures there were.
    pub(crate) fn samples(&self) -> u32 {
        self.all.count
    }

    pub(crate) fn average(&self) -> Sample {
        self.all.mean()
    }

    pub(crate) fn lowest(&self) -> Sample {
        self.lowest
    }

    pub(crate) fn highest(&self) -> Sample {
        self.highest
    }

    /// At most `most` entries in the order of time, the last one among them; each is what an equal share of them ended with.
    pub(crate) fn entries(&self, most: usize) -> Vec<Sample> {
        let part = (self.part.count > 0).then(|| self.part.mean());
        let all: Vec<Sample> = self.entries.iter().copied().chain(part).collect();
        let step = all.len().div_ceil(most.max(1)).max(1);
        let mut kept: Vec<Sample> = all.iter().rev().step_by(step).copied().collect();
        kept.reverse();
        kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measure(at_s: u32, mos: f64) -> Measure {
        Measure {
            at_s,
            mos,
            jitter_ms: 3.4,
            loss_percent: 1.0,
            round_trip_us: at_s.is_multiple_of(2).then_some(40_000.0),
            leg_us: None,
        }
    }

    #[test]
    fn extremes_and_averages_are_those_of_the_whole_call() {
        let mut history = History::new(7);
        for (at_s, mos) in [(1, 4.4), (2, 2.0), (3, 4.0), (4, 4.4), (5, 2.0)] {
            history.add(&measure(at_s, mos));
        }
        assert_eq!(history.samples(), 5);
        let average = history.average();
        assert_eq!((average.mos_tenths, average.jitter_ms), (34, 3));
        // What was not known does not count as zero.
        assert_eq!((average.round_trip_us, average.leg_us), (40_000, 0));
        // The first time counts.
        assert_eq!(
            (history.lowest().mos_tenths, history.lowest().at_s),
            (20, 2)
        );
        assert_eq!(
            (history.highest().mos_tenths, history.highest().at_s),
            (44, 1)
        );
        let times: Vec<u32> = history.entries(60).iter().map(|entry| entry.at_s).collect();
        assert_eq!(times, [1, 2, 3, 4, 5]);
        let times: Vec<u32> = history.entries(2).iter().map(|entry| entry.at_s).collect();
        assert_eq!(times, [2, 5]);
    }

    #[test]
    fn a_long_call_takes_no_more_memory_and_keeps_its_course() {
        let mut history = History::new(7);
        for at_s in 1..=10_000 {
            history.add(&measure(at_s, if at_s <= 5000 { 4.0 } else { 2.0 }));
            assert!(history.entries.len() <= MAX_ENTRIES);
            let entries = history.entries(MAX_ENTRIES + 1);
            assert_eq!(entries.last().map(|entry| entry.at_s), Some(at_s));
            assert!(entries.is_sorted_by(|a, b| a.at_s < b.at_s));
        }
        let entries = history.entries(MAX_ENTRIES);
        assert!(entries.len() > MAX_ENTRIES / 4);
        let good = entries.iter().filter(|entry| entry.mos_tenths == 40);
        let half = entries.len() / 2;
        assert!(good.count().abs_diff(half) <= 2);
        assert_eq!(history.average().mos_tenths, 30);
    }
}
