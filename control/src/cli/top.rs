//! Rates per second: workers, reasons, busiest streams.

use super::show::{duration, table};
use super::streams::{Region, Row, STEWARD};
use super::{CliError, screen};
use penstock_config::Config;
use penstock_shm::{PlaneState, RegionInfo, WorkerStat};
use serde_json::json;
use std::collections::HashMap;
use std::time::Instant;

/// Streams shown where the height of the screen does not say.
const STREAMS: usize = 20;

/// What was read at one moment.
struct Sample {
    at: Instant,
    state: PlaneState,
    info: RegionInfo,
    workers: Vec<(String, WorkerStat)>,
    rows: Vec<Row>,
}

/// The difference between two samples, per second. In the sums, a packet that a worker handed to the
/// steward is received once.
struct Rates {
    rx: u64,
    forwarded: u64,
    dropped: u64,
    workers: Vec<[u64; 4]>,
    /// Packets and bits of each row of the later sample.
    streams: Vec<(u64, u64)>,
}

pub(super) fn top(config: &Config, as_json: bool) -> Result<(), CliError> {
    let mut before: Option<Sample> = None;
    screen::every_second(!as_json, |rows| {
        let after = sample(config)?;
        let rates = rates(before.as_ref().unwrap_or(&after), &after);
        let text = match as_json {
            true => object(&after, &rates).to_string(),
            false => picture(&after, &rates, rows),
        };
        before = Some(after);
        Ok(text)
    })
}

fn sample(config: &Config) -> Result<Sample, CliError> {
    // Opened anew each time: the region may have been set aside meanwhile.
    let region = Region::open(config)?;
    Ok(Sample {
        at: Instant::now(),
        state: region.table.plane_state(),
        info: region.table.info(),
        workers: region.workers(),
        rows: region.rows(),
    })
}

fn dropped(worker: &WorkerStat) -> u64 {
    worker.drops.iter().map(|(_, count)| count).sum()
}

fn rates(before: &Sample, after: &Sample) -> Rates {
    let seconds = (after.at - before.at).as_secs_f64();
    // The counters live on when the plane restarts, but not when it sets the region aside.
    let rate = |before: u64, after: u64| match seconds > 0.0 {
        true => (after.saturating_sub(before) as f64 / seconds).round() as u64,
        false => 0,
    };
    let workers: Vec<[u64; 4]> = after
        .workers
        .iter()
        .map(|(_, now)| {
            // By number: with more workers the steward counts in another place.
            let then = before.workers.iter().find(|(_, w)| w.number == now.number);
            let then = then.map_or(now, |(_, then)| then);
            let busy = now.cycles_busy.saturating_sub(then.cycles_busy);
            let all = busy + now.cycles_idle.saturating_sub(then.cycles_idle);
            [
                rate(then.rx, now.rx),
                rate(then.forwarded, now.forwarded),
                rate(dropped(then), dropped(now)),
                (busy * 100).checked_div(all).unwrap_or(0),
            ]
        })
        .collect();
    let old: HashMap<_, _> = before.rows.iter().map(|row| (row.id, row)).collect();
    let streams = after.rows.iter().map(|row| {
        let (packets, bytes) = old
            .get(&row.id)
            .map_or((row.packets, row.bytes), |r| (r.packets, r.bytes));
        (rate(packets, row.packets), rate(bytes, row.bytes) * 8)
    });
    let named = || after.workers.iter().map(|(name, _)| name).zip(&workers);
    let relayed = |idx: usize| {
        let workers = named().filter(|(name, _)| *name != STEWARD);
        workers.map(|(_, rates)| rates[idx]).sum()
    };
    Rates {
        rx: relayed(0),
        forwarded: relayed(1),
        dropped: workers.iter().map(|rates| rates[2]).sum(),
        streams: streams.collect(),
        workers,
    }
}

/// Rows of the sample, busiest first, with their rates.
fn busiest<'a>(after: &'a Sample, rates: &Rates) -> Vec<(&'a Row, u64, u64)> {
    let pairs = after.rows.iter().zip(&rates.streams);
    let mut rows: Vec<_> = pairs.map(|(row, &(pps, bps))| (row, pps, bps)).collect();
    rows.sort_by_key(|(_, pps, _)| std::cmp::Reverse(*pps));
    rows
}

fn calls(after: &Sample) -> usize {
    let keys: std::collections::HashSet<_> = after.rows.iter().map(|row| row.call).collect();
    keys.len()
}

fn picture(after: &Sample, rates: &Rates, rows: Option<usize>) -> String {
    let uptime_s = penstock_shm::monotonic_ns().saturating_sub(after.info.started_ns) as f64 / 1e9;
    let state = match after.state {
        PlaneState::Running => format!("running for {}", duration(uptime_s)),
        PlaneState::Still => "stands still".to_owned(),
        PlaneState::Gone => "not running".to_owned(),
    };
    let mut text = format!(
        "media plane {state}, {} calls, {} of {} streams\nper second: {} received, {} relayed, {} dropped\n\n",
        calls(after),
        after.rows.len(),
        after.info.capacity,
        rates.rx,
        rates.forwarded,
        rates.dropped
    );
    let mut workers = table(
        &["WORKER", "RX/S", "RELAYED/S", "DROPPED/S", "BUSY%"],
        &[0, 1, 2, 3, 4],
    );
    for ((name, _), rates) in after.workers.iter().zip(&rates.workers) {
        let rates = rates.map(|rate| rate.to_string());
        workers.add_row([name.clone()].into_iter().chain(rates));
    }
    text += &format!("{}\n\n", workers.trim_fmt());
    let room = rows.map_or(STREAMS, |rows| rows.saturating_sub(8 + after.workers.len()));
    let header = [
        "CALL",
        "KIND",
        "LOCAL",
        "REMOTE",
        "PACKETS/S",
        "KBIT/S",
        "LOSS%",
        "JITTER",
    ];
    let mut streams = table(&header, &[4, 5, 6, 7]);
    for (row, pps, bps) in busiest(after, rates).into_iter().take(room) {
        streams.add_row([
            row.call_name(),
            row.kind.to_owned(),
            row.local.clone(),
            row.remote
                .map_or("-".to_owned(), |remote| remote.to_string()),
            pps.to_string(),
            (bps / 1000).to_string(),
            format!("{:.2}", row.loss_percent()),
            format!("{:.1}ms", row.jitter_ms),
        ]);
    }
    text + &streams.trim_fmt()
}

fn object(after: &Sample, rates: &Rates) -> serde_json::Value {
    let streams: Vec<_> = busiest(after, rates)
        .into_iter()
        .take(STREAMS)
        .map(|(row, pps, bps)| json!({ "stream": row, "packets_s": pps, "bits_s": bps }))
        .collect();
    let workers: Vec<_> = after
        .workers
        .iter()
        .zip(&rates.workers)
        .map(|((name, _), [rx, forwarded, dropped, busy])| {
            json!({
                "worker": name, "rx_s": rx, "forwarded_s": forwarded,
                "dropped_s": dropped, "busy_percent": busy,
            })
        })
        .collect();
    json!({
        "plane": after.state == PlaneState::Running, "calls": calls(after), "streams": after.rows.len(),
        "capacity": after.info.capacity, "rx_s": rates.rx, "forwarded_s": rates.forwarded,
        "dropped_s": rates.dropped, "workers": workers, "busiest": streams,
    })
}
