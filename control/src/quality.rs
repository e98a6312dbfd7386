//! Rates the media of all calls, and says when it is poor and when it no longer is.

use crate::service::Service;
use penstock_media::{Call, Kind, Limits, Local, Measured, mos};
use penstock_shm::StreamStat;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

/// Calls rated before other tasks get their turn.
const BATCH: usize = 64;

/// Streams whose turns for better or worse are written to the log after one interval; the others are counted.
const MAX_LINES: u32 = 20;

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

/// What is known of all calls, by their keys.
#[derive(Default)]
pub(crate) struct Ratings(HashMap<u64, Vec<Rated>>);

impl Ratings {
    /// The streams of a call that media came to.
    pub(crate) fn of(&self, key: u64) -> &[Rated] {
        self.0.get(&key).map_or(&[], Vec::as_slice)
    }

    /// Whether one of the call's streams is poor.
    pub(crate) fn is_poor(&self, key: u64) -> bool {
        self.of(key).iter().any(|rated| rated.poor)
    }

    /// How many streams are.
    pub(crate) fn poor(&self) -> usize {
        self.0.values().flatten().filter(|rated| rated.poor).count()
    }

    /// A call is over.
    pub(crate) fn forget(&mut self, key: u64) {
        self.0.remove(&key);
    }
}

/// Rates for ever.
pub(crate) async fn run(service: Rc<Service>) {
    loop {
        let interval = service.quality.get().interval;
        if interval.is_zero() {
            // A reload may want it otherwise.
            tokio::time::sleep(Duration::from_secs(1)).await;
            continue;
        }
        tokio::time::sleep(interval).await;
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
}

impl Service {
    fn rate(&self, key: u64, turns: &mut u32) {
        let calls = self.calls.borrow();
        let Some(call) = calls.by_key(key) else {
            return;
        };
        let limits = self.quality.get().limits;
        let mut ratings = self.ratings.borrow_mut();
        for (leg, local, peer) in speech(call) {
            let stat = self.link.stream(local);
            let Some(stat) = stat.filter(|stat| stat.call == key && stat.meter.packets > 0) else {
                continue;
            };
            let round_trip_ms = self.round_trip_ms(local, key) + self.round_trip_ms(peer, key);
            let streams = ratings.0.entry(key).or_default();
            let rated = rated_of(streams, leg, local);
            if !rated.take(&stat, round_trip_ms, &limits) {
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

    /// Between the plane and the leg that sends here, by its RTCP on either port; 0 while unknown.
    fn round_trip_ms(&self, local: Local, key: u64) -> f64 {
        let trip_us = |local| {
            let stat = self.link.stream(local);
            let stat = stat.filter(|stat| stat.call == key);
            stat.map_or(0, |stat| stat.reports.rtt_us)
        };
        f64::from(trip_us(local).max(trip_us(local.rtcp()))) / 1000.0
    }
}

/// The RTP streams of a call: leg, where they arrive, and where the opposite direction does.
fn speech(call: &Call) -> Vec<(u16, Local, Local)> {
    let mut streams = Vec::new();
    for dialog in &call.dialogs {
        let audio =
            |media: &&penstock_media::Media| media.kind == Kind::Rtp && media.name == "audio";
        for media in dialog.medias.iter().filter(audio) {
            if let Some([a, b]) = media.locals {
                streams.push((2 * dialog.number, a, b));
                streams.push((2 * dialog.number + 1, b, a));
            }
        }
    }
    streams
}

fn rated_of(streams: &mut Vec<Rated>, leg: u16, local: Local) -> &mut Rated {
    let at = streams.iter().position(|rated| rated.local == local);
    let at = at.unwrap_or_else(|| {
        streams.push(Rated::new(leg, local));
        streams.len() - 1
    });
    &mut streams[at]
}

impl Rated {
    fn new(leg: u16, local: Local) -> Rated {
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
            seen: Seen::default(),
        }
    }

    /// Rates the time since the last look; whether the stream turned poor, or well again.
    fn take(&mut self, stat: &StreamStat, round_trip_ms: f64, limits: &Limits) -> bool {
        let seen = Seen::of(stat);
        if self.seen.generation != seen.generation {
            self.seen = Seen::default();
        }
        let packets = seen.packets.saturating_sub(self.seen.packets);
        // What came after all was counted as lost before.
        let lost = u64::try_from(seen.lost - self.seen.lost).unwrap_or(0);
        self.seen = seen;
        if packets == 0 {
            return false;
        }
        let measured = Measured {
            loss: lost as f64 / (packets + lost) as f64,
            jitter_ms: stat.meter.jitter_ms,
            round_trip_ms,
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
        self.round_trip_ms = (round_trip_ms > 0.0).then_some(round_trip_ms);
        let was_poor = std::mem::replace(&mut self.poor, limits.are_passed(&measured));
        self.poor != was_poor
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
