//! Living with it: one screen of state, draining, reloading.

use super::show::duration;
use super::{CliError, client};
use penstock_config::Config;
use penstock_shm::{PlaneState, RegionInfo, TableView};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// How often a drain that is waited for is looked at.
const LOOK: Duration = Duration::from_millis(500);

/// How long control may be away while a drain is waited for: it may be restarted.
const AWAY: Duration = Duration::from_secs(30);

/// Pairs of ports of one interface.
#[derive(Deserialize)]
struct Pairs {
    used: u64,
    all: u64,
}

/// What control says of itself.
#[derive(Deserialize)]
struct Control {
    version: String,
    pid: u32,
    uptime_s: f64,
    draining: bool,
    calls: u64,
    /// The state of its link.
    plane: String,
    ports: BTreeMap<String, Pairs>,
    transports: BTreeMap<String, BTreeMap<String, u64>>,
}

/// Prints whether both daemons work and what they carry; fails if one of them does not.
pub(super) fn status(config: &Config, as_json: bool) -> Result<ExitCode, CliError> {
    let table = TableView::open(&config.region.dir);
    let plane = table.map(|table| (table.plane_state(), table.info(), links(config, &table)));
    let plane = plane.map_err(|error| error.to_string());
    let asked: Result<Value, CliError> = client::stats(config);
    let is_well = matches!(plane, Ok((PlaneState::Running, ..)))
        && matches!(&asked, Ok(stats) if stats["plane"] == "online");
    let mut out = io::stdout().lock();
    match as_json {
        true => writeln!(out, "{}", object(&plane, asked, is_well))?,
        false => writeln!(out, "{}", screen(&plane, asked)?)?,
    }
    Ok(match is_well {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

/// Names of the ports, and whether their links are up.
type Links = Vec<(String, bool)>;

type Plane = Result<(PlaneState, RegionInfo, Links), String>;

fn links(config: &Config, table: &TableView) -> Links {
    let ports = table.ports();
    let is_up = |number: usize| ports.iter().any(|port| port.number == number && port.up);
    let named = config.ports.iter().enumerate();
    named
        .map(|(number, port)| (port.name.clone(), is_up(number)))
        .collect()
}

fn word(state: PlaneState) -> &'static str {
    match state {
        PlaneState::Running => "running",
        PlaneState::Still => "stands still",
        PlaneState::Gone => "not running",
    }
}

fn version(info: &RegionInfo) -> String {
    info.version.map(|part| part.to_string()).join(".")
}

fn uptime_s(info: &RegionInfo) -> f64 {
    penstock_shm::monotonic_ns().saturating_sub(info.started_ns) as f64 / 1e9
}

fn object(plane: &Plane, control: Result<Value, CliError>, is_well: bool) -> Value {
    let plane = match plane {
        Err(error) => json!({ "state": "no region", "error": error }),
        Ok((state, info, links)) => json!({
            "state": word(*state),
            "version": version(info),
            "epoch": info.epoch,
            "pid": info.pid,
            "uptime_s": (*state != PlaneState::Gone).then(|| uptime_s(info)),
            "heartbeat_s": penstock_shm::monotonic_ns().saturating_sub(info.heartbeat_ns) as f64 / 1e9,
            "workers": info.workers.saturating_sub(1),
            "links": links.iter().cloned().collect::<BTreeMap<_, _>>(),
            "streams": {
                "live": info.counts.live, "ended": info.counts.ended, "free": info.counts.free,
                "capacity": info.capacity,
            },
        }),
    };
    let control = match control {
        Ok(stats) => stats,
        Err(error) => json!({ "error": error.to_string() }),
    };
    json!({ "well": is_well, "plane": plane, "control": control })
}

fn screen(plane: &Plane, control: Result<Value, CliError>) -> Result<String, CliError> {
    let mut lines = Vec::new();
    match plane {
        Err(error) => lines.push(format!("media plane  {error}")),
        Ok((state, info, links)) => {
            let life = match state {
                PlaneState::Gone => String::new(),
                _ => format!(" for {} (process {})", duration(uptime_s(info)), info.pid),
            };
            let state = match state {
                PlaneState::Still => "started but stands still, up",
                state => word(*state),
            };
            lines.push(format!(
                "media plane  {state}{life}, version {}, epoch {}",
                version(info),
                info.epoch
            ));
            // The last row is the steward's.
            lines.push(format!("workers      {}", info.workers.saturating_sub(1)));
            let links: Vec<_> = links
                .iter()
                .map(|(name, up)| format!("{name} {}", if *up { "up" } else { "down" }))
                .collect();
            lines.push(format!("ports        {}", links.join(", ")));
            let counts = info.counts;
            lines.push(format!(
                "streams      {} live, {} ended, {} free of {}",
                counts.live, counts.ended, counts.free, info.capacity
            ));
        }
    }
    match control {
        Err(error) => lines.push(format!("control      {error}")),
        Ok(stats) => {
            let control: Control = serde_json::from_value(stats).map_err(CliError::new)?;
            lines.push(format!(
                "control      running for {} (process {}), version {}, link: {}",
                duration(control.uptime_s),
                control.pid,
                control.version,
                control.plane
            ));
            let draining = match control.draining {
                true => "; draining: new calls are refused",
                false => "",
            };
            lines.push(format!("calls        {}{draining}", control.calls));
            for (name, pairs) in control.ports {
                lines.push(format!(
                    "ports        {name}: {} of {} pairs in use",
                    pairs.used, pairs.all
                ));
            }
            for (name, counts) in &control.transports {
                lines.extend(asked(name, counts));
            }
        }
    }
    Ok(lines.join("\n"))
}

/// What came over one transport; nothing if nothing did.
fn asked(name: &str, counts: &BTreeMap<String, u64>) -> Option<String> {
    let of = |event: &str| counts.get(event).copied().unwrap_or(0);
    let others =
        ["denied", "limited", "refused", "garbage", "idle"].map(|event| (event, of(event)));
    let others = others.iter().filter(|(_, count)| *count > 0);
    let others: String = others
        .map(|(event, count)| format!(", {count} {event}"))
        .collect();
    let requests = of("requests");
    (requests > 0 || !others.is_empty())
        .then(|| format!("asked        {name}: {requests} requests{others}"))
}

/// Has control read its configuration again.
pub(super) fn reload(config: &Config, as_json: bool) -> Result<(), CliError> {
    let done: Value = client::act(config, "reload")?;
    let mut out = io::stdout().lock();
    if as_json {
        writeln!(out, "{done}")?;
        return Ok(());
    }
    let keys = |of: &str| {
        let list = done[of].as_array().into_iter().flatten();
        let words: Vec<_> = list.filter_map(Value::as_str).collect();
        words.join(", ")
    };
    match keys("changed").as_str() {
        "" => writeln!(out, "nothing changed")?,
        changed => writeln!(out, "in force for new calls: {changed}")?,
    }
    match keys("restart").as_str() {
        "" => {}
        restart => writeln!(out, "takes a restart of penstock-control: {restart}")?,
    }
    Ok(())
}

/// Has control refuse new calls, or take them again.
pub(super) fn drain(config: &Config, end: bool) -> Result<(), CliError> {
    let stats: Control = client::act(config, if end { "undrain" } else { "drain" })?;
    let mut out = io::stdout().lock();
    match end {
        true => writeln!(out, "new calls are taken again")?,
        false => writeln!(
            out,
            "draining: new calls are refused; {}",
            left(stats.calls)
        )?,
    }
    Ok(())
}

fn left(calls: u64) -> String {
    match calls {
        0 => "no call is left".to_owned(),
        1 => "1 call is left".to_owned(),
        n => format!("{n} calls are left"),
    }
}

/// Shows how many calls are left until there are none; control may be restarted meanwhile.
pub(super) fn wait(config: &Config, limit: Option<Duration>) -> Result<(), CliError> {
    let start = Instant::now();
    let (mut heard, mut shown) = (Instant::now(), None);
    let in_place = io::stdout().is_terminal();
    loop {
        match client::stats::<Control>(config) {
            Err(error) if heard.elapsed() > AWAY => return Err(error),
            Err(_) => {}
            Ok(control) if !control.draining => {
                return Err(CliError::new(
                    "the drain was ended: new calls are taken again",
                ));
            }
            Ok(control) => {
                heard = Instant::now();
                if shown.replace(control.calls) != Some(control.calls) {
                    let mut out = io::stdout().lock();
                    let ends = !in_place || control.calls == 0;
                    let (begin, end) = (
                        if in_place { "\r\x1b[K" } else { "" },
                        if ends { "\n" } else { "" },
                    );
                    write!(out, "{begin}{}{end}", left(control.calls))?;
                    out.flush()?;
                }
                if control.calls == 0 {
                    return Ok(());
                }
            }
        }
        if limit.is_some_and(|limit| start.elapsed() >= limit) {
            if in_place {
                println!();
            }
            return Err(CliError::new(format!(
                "{} after {}; the drain goes on",
                left(shown.unwrap_or_default()),
                duration(start.elapsed().as_secs_f64())
            )));
        }
        std::thread::sleep(LOOK);
    }
}
