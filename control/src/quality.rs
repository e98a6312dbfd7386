//! Rates the media of all calls, and says when it is poor and when it no longer is.

use crate::facing;
use crate::history::{History, Measure};
use crate::service::{Service, now};
use penstock_media::{Call, Kind, LegMedia, Limits, Local, Measured, mos};
use penstock_shm::StreamStat;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

/// Calls rated before other tasks get their turn.
const BATCH: usize = 64;

/// Streams whose turns for better or worse are written to the log after one interval; the others are counted.
const MAX_LINES: u32 = 20;

/// So many packets say how a stream sounds; of fewer (comfort noise, a call's first and last) the next interval tells.
const LEAST_PACKETS: u64 = 25;

/// Sources that are remembered of a stream, the latest ones.
const MAX_SOURCES: usize = 4;

/// How often to rate, and from where on media is poor.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Rule {
    /// Zero for never.
    interval: Duration,
    limits: Limits,
}

impl Rule {
    pub(crate) fn new(config: &penstock_config::Quality) -> Rule {
        Rule {
            interval: Duration::from_secs(config.interval_s.into()),
            limits: Limits {
                loss: config.loss_percent / 100.0,
                jitter_ms: config.jitter_ms,
                round_trip_ms: config.round_trip_ms,
                mos: config.mos,
            },
        }
    }
}

/// What one stream was like.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Rated {
    /// Where it arrives.
    local: Local,
    leg: u16,
    /// Over the last interval.
    mos: f64,
    loss_percent: f64,
    jitter_ms: f64,
    /// Between both legs; `None` while unknown.
    round_trip_ms: Option<f64>,
    /// Over the call.
    mos_average: f64,
    mos_lowest: f64,
    poor: bool,
    #[serde(skip)]
    intervals: u32,
    #[serde(skip)]
    seen: Seen,
    /// The sources that were rated, the present one last.
    #[serde(skip)]
    sources: Vec<History>,
}

/// The meters at the end of the last interval.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    generation: u32,
    packets: u64,
    lost: i64,
}

impl Seen {
    fn of(stat: &StreamStat) -> Seen {
        Seen {
            generation: stat.generation,
            packets: stat.meter.packets,
            lost: stat.meter.lost,
        }
    }
}

/// Round trips, ms; `None` while unknown.
#[derive(Clone, Copy, Default)]
struct Trips {
    /// Between both legs.
    both: Option<f64>,
    /// Between the relay and the leg that sends.
    leg: Option<f64>,
}

/// A value over all ratings of this process.
#[derive(Clone, Copy, Default)]
pub(crate) struct Spread {
    pub(crate) total: f64,
    /// Sum of the squares.
    pub(crate) total2: f64,
    pub(crate) samples: u64,
}

impl Spread {
    fn add(&mut self, value: f64) {
        self.total += value;
        self.total2 += value * value;
        self.samples += 1;
    }

    pub(crate) fn average(self) -> f64 {
        self.total / self.samples.max(1) as f64
    }

    /// The standard deviation.
    pub(crate) fn deviation(self) -> f64 {
        let square = self.total2 / self.samples.max(1) as f64 - self.average().powi(2);
        square.max(0.0).sqrt()
    }
}

/// All ratings of this process. Times in ms, loss in percent.
#[derive(Clone, Copy, Default)]
pub(crate) struct Overall {
    pub(crate) mos: Spread,
    pub(crate) jitter: Spread,
    pub(crate) loss: Spread,
    pub(crate) round_trip: Spread,
    pub(crate) leg: Spread,
}

impl Overall {
    fn add(&mut self, measure: &Measure) {
        self.mos.add(measure.mos);
        self.jitter.add(measure.jitter_ms);
        self.loss.add(measure.loss_percent);
        let trips = [
            (&mut self.round_trip, measure.round_trip_us),
            (&mut self.leg, measure.leg_us),
        ];
        for (spread, us) in trips {
            if let Some(us) = us {
                spread.add(us / 1000.0);
            }
        }
    }
}

/// What is known of all calls, by their keys.
#[derive(Default)]
pub(crate) struct Ratings {
    calls: HashMap<u64, Vec<Rated>>,
    pub(crate) overall: Overall,
}

impl Ratings {
    /// The streams of a call that media came to.
    pub(crate) fn of(&self, key: u64) -> &[Rated] {
        self.calls.get(&key).map_or(&[], Vec::as_slice)
    }

    /// Whether one of the call's streams is poor.
    pub(crate) fn is_poor(&self, key: u64) -> bool {
        self.of(key).iter().any(|rated| rated.poor)
    }

    /// How many streams are.
    pub(crate) fn poor(&self) -> usize {
        self.calls
            .values()
            .flatten()
            .filter(|rated| rated.poor)
            .count()
    }

    /// A call became a part of another: what was known of it is known of that one.
    pub(crate) fn merge(&mut self, key: u64, other: u64) {
        let theirs = self.forget(other);
        if !theirs.is_empty() {
            self.calls.entry(key).or_default().extend(theirs);
        }
    }

    /// A call is over: what was known of it.
    pub(crate) fn forget(&mut self, key: u64) -> Vec<Rated> {
        self.calls.remove(&key).unwrap_or_default()
    }
}

/// Rates for ever.
pub(crate) async fn run(service: Rc<Service>) {
    loop {
        let rule = service.quality.get();
        let rest = match rule.interval.is_zero() {
            true => Duration::MAX,
            false => rule.interval,
        };
        tokio::select! {
            () = tokio::time::sleep(rest) => rate_all(&service).await,
            () = service.quality_changed.notified() => service.ratings.borrow_mut().calls.clear(),
        }
    }
}

async fn rate_all(service: &Service) {
    let keys: Vec<u64> = service.calls.borrow().iter().map(|call| call.key).collect();
    let mut turns = 0;
    for batch in keys.chunks(BATCH) {
        for key in batch {
            service.rate(*key, &mut turns);
        }
        tokio::task::yield_now().await;
    }
    if turns > MAX_LINES {
        let more = turns - MAX_LINES;
        tracing::info!(more, "other streams turned poor, or well again");
    }
}

impl Service {
    /// Rates a call that is about to end once more: what came since the last interval counts too.
    pub(crate) fn rate_at_end(&self, key: u64) {
        if !self.quality.get().interval.is_zero() {
            // What turned poor at the very end is no news any more: counted, not logged.
            self.rate(key, &mut { MAX_LINES });
        }
    }

    fn rate(&self, key: u64, turns: &mut u32) {
        let calls = self.calls.borrow();
        let Some(call) = calls.by_key(key) else {
            return;
        };
        let limits = self.quality.get().limits;
        let at_s = u32::try_from(now().unix_us / 1_000_000).unwrap_or(u32::MAX);
        let mut ratings = self.ratings.borrow_mut();
        let Ratings { calls, overall } = &mut *ratings;
        let streams = calls.entry(key).or_default();
        let speech = speech(call);
        // Ports that the call no longer has.
        let stands = |at| {
            speech
                .iter()
                .any(|(near, _)| near.media().facing(near.side).any(|own| own == at))
        };
        streams.retain(|rated| stands(rated.local));
        for (near, far) in speech {
            let Some(local) = self.heard(&near, key) else {
                continue;
            };
            let stat = self.link.stream(local);
            let Some(stat) = stat.filter(|stat| stat.call == key && stat.meter.packets > 0) else {
                continue;
            };
            let leg = self.round_trip_ms(local, key);
            let heard = leg.and(far).and_then(|far| self.heard(&far, key));
            let back = heard.and_then(|far| self.round_trip_ms(far, key));
            let both = leg.zip(back).map(|(leg, back)| leg + back);
            let rated = rated_of(streams, near.number(), local, &stat, self.started_ns);
            let was_poor = rated.poor;
            if let Some(measure) = rated.take(&stat, Trips { both, leg }, at_s, &limits) {
                overall.add(&measure);
            }
            if rated.poor == was_poor {
                continue;
            }
            *turns += 1;
            if rated.poor {
                self.stats.ageing("poor-seen");
            }
            if *turns <= MAX_LINES {
                rated.log(&call.id);
            }
        }
    }

    /// Where of its endpoints the leg is heard.
    fn heard(&self, near: &LegMedia<'_>, key: u64) -> Option<Local> {
        let own = |stat: &StreamStat| stat.call == key;
        let meters = |local| self.link.stream(local).filter(own).map(Cow::Owned);
        facing::heard(near.media().facing(near.side), &meters)
    }

    /// Between the plane and the leg that sends here, by its RTCP on either port.
    fn round_trip_ms(&self, local: Local, key: u64) -> Option<f64> {
        let trip_us = |local| {
            let stat = self.link.stream(local);
            let stat = stat.filter(|stat| stat.call == key);
            stat.map_or(0, |stat| stat.reports.rtt_us)
        };
        let us = match trip_us(local.rtcp()) {
            0 => trip_us(local),
            us => us,
        };
        (us > 0).then(|| f64::from(us) / 1000.0)
    }
}

/// The audio of a call: each leg's, with that of whom it hears.
fn speech(call: &Call) -> Vec<(LegMedia<'_>, Option<LegMedia<'_>>)> {
    let mut all = Vec::new();
    for dialog in &call.dialogs {
        for side in dialog.sides() {
            all.extend(call.leg_medias(dialog, side));
        }
    }
    all.retain(|(near, _)| {
        let media = near.media();
        media.kind == Kind::Rtp && media.name == "audio" && media.locals.is_some()
    });
    all
}

/// What is known of a stream. One that has been there for longer than this process is rated from now on.
fn rated_of<'a>(
    streams: &'a mut Vec<Rated>,
    leg: u16,
    local: Local,
    stat: &StreamStat,
    started_ns: u64,
) -> &'a mut Rated {
    let at = streams.iter().position(|rated| rated.local == local);
    let at = at.unwrap_or_else(|| {
        let is_older = stat.created_ns < started_ns;
        let seen = if is_older {
            Seen::of(stat)
        } else {
            Seen::default()
        };
        streams.push(Rated::new(leg, local, seen));
        streams.len() - 1
    });
    // Another number since its call became a part of another.
    streams[at].leg = leg;
    &mut streams[at]
}

impl Rated {
    fn new(leg: u16, local: Local, seen: Seen) -> Rated {
        Rated {
            local,
            leg,
            mos: 0.0,
            loss_percent: 0.0,
            jitter_ms: 0.0,
            round_trip_ms: None,
            mos_average: 0.0,
            mos_lowest: 5.0,
            poor: false,
            intervals: 0,
            seen,
            sources: Vec::new(),
        }
    }

    /// Where the stream arrives.
    pub(crate) fn local(&self) -> Local {
        self.local
    }

    /// The sources that were rated.
    pub(crate) fn sources(&self) -> &[History] {
        &self.sources
    }

    /// Rates the time since the last look, if enough came in it.
    fn take(
        &mut self,
        stat: &StreamStat,
        trips: Trips,
        at_s: u32,
        limits: &Limits,
    ) -> Option<Measure> {
        let seen = Seen::of(stat);
        if self.seen.generation != seen.generation {
            self.seen = Seen::default();
        }
        let packets = seen.packets.saturating_sub(self.seen.packets);
        if packets == 0 {
            // Nothing is heard, so nothing sounds poor.
            self.poor = false;
            return None;
        }
        // What came after all was counted as lost before.
        let lost = u64::try_from(seen.lost - self.seen.lost).unwrap_or(0);
        if packets + lost < LEAST_PACKETS {
            return None;
        }
        let lost_since = seen.lost - self.seen.lost;
        self.seen = seen;
        let measured = Measured {
            loss: lost as f64 / (packets + lost) as f64,
            jitter_ms: stat.meter.jitter_ms,
            round_trip_ms: trips.both.unwrap_or(0.0),
            payload_type: stat.meter.payload_type.unwrap_or(0),
        };
        let mos = mos(&measured);
        let before = f64::from(self.intervals);
        self.intervals += 1;
        self.mos_average = (self.mos_average * before + mos) / (before + 1.0);
        self.mos_lowest = self.mos_lowest.min(mos);
        self.mos = mos;
        self.loss_percent = 100.0 * measured.loss;
        self.jitter_ms = measured.jitter_ms;
        self.round_trip_ms = trips.both;
        self.poor = limits.are_passed(&measured);
        let us = |ms: Option<f64>| ms.map(|ms| ms * 1000.0);
        let measure = Measure {
            at_s,
            mos,
            jitter_ms: self.jitter_ms,
            loss_percent: self.loss_percent,
            round_trip_us: us(trips.both),
            leg_us: us(trips.leg),
        };
        if let Some(ssrc) = stat.meter.ssrc {
            let source = self.source(ssrc);
            source.add(&measure);
            source.lost += lost_since;
        }
        Some(measure)
    }

    /// What is known of a source, which is then the last of the list.
    fn source(&mut self, ssrc: u32) -> &mut History {
        let known = self.sources.iter().position(|source| source.ssrc == ssrc);
        let source = match known {
            Some(at) => self.sources.remove(at),
            None => History::new(ssrc),
        };
        if self.sources.len() == MAX_SOURCES {
            self.sources.remove(0);
        }
        let last = self.sources.len();
        self.sources.push(source);
        &mut self.sources[last]
    }

    /// For a person.
    pub(crate) fn line(&self) -> String {
        let trip = match self.round_trip_ms {
            Some(ms) => format!("{ms:.0} ms"),
            None => "unknown".to_owned(),
        };
        format!(
            "leg {} sounds{}: MOS {:.1} ({:.1} on average, {:.1} at worst); lately {:.1} % lost, jitter {:.1} ms, round trip {trip}",
            self.leg,
            if self.poor { " poor" } else { "" },
            self.mos,
            self.mos_average,
            self.mos_lowest,
            self.loss_percent,
            self.jitter_ms,
        )
    }

    fn log(&self, call: &str) {
        let (mos, loss_percent) = (round2(self.mos), round2(self.loss_percent));
        let (jitter_ms, leg) = (round2(self.jitter_ms), self.leg);
        let round_trip_ms = self.round_trip_ms.map(round2);
        if self.poor {
            tracing::info!(
                call,
                leg,
                mos,
                loss_percent,
                jitter_ms,
                round_trip_ms,
                "media is poor"
            );
        } else {
            tracing::info!(call, leg, mos, "media is no longer poor");
        }
    }
}

fn round2(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}
