//! Tables and JSON.

use super::streams::{Region, Row};
use super::{CliError, client, screen};
use comfy_table::{Attribute, Cell, CellAlignment, Table};
use penstock_config::Config;
use penstock_media::Partner;
use penstock_shm::counters::Drop;
use serde_json::json;
use std::collections::HashMap;
use std::io::{self, IsTerminal, Write};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A bare table: columns apart by blanks, so that awk and grep can read it.
pub(super) fn table(header: &[&str], right: &[usize]) -> Table {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    let bold = io::stdout().is_terminal();
    table.set_header(header.iter().map(|text| match bold {
        true => Cell::new(text).add_attribute(Attribute::Bold),
        false => Cell::new(text),
    }));
    for idx in right {
        if let Some(column) = table.column_mut(*idx) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// `7s`, `3m07s`, `2h05m`, `4d03h`.
pub(super) fn duration(seconds: f64) -> String {
    let s = seconds as u64;
    match s {
        0..60 => format!("{s}s"),
        60..3600 => format!("{}m{:02}s", s / 60, s % 60),
        3600..86_400 => format!("{}h{:02}m", s / 3600, s / 60 % 60),
        _ => format!("{}d{:02}h", s / 86_400, s / 3600 % 24),
    }
}

fn remark(texts: &[&str]) {
    for text in texts {
        eprintln!("penstock: {text}");
    }
}

pub(super) fn streams(config: &Config, as_json: bool) -> Result<(), CliError> {
    let region = Region::open(config)?;
    let rows = region.rows();
    let mut out = io::stdout().lock();
    match as_json {
        true => writeln!(out, "{}", json!(rows))?,
        false => writeln!(out, "{}", stream_table(&rows).trim_fmt())?,
    }
    remark(&region.remarks(&rows));
    Ok(())
}

/// The streams once a second, until q, Ctrl-C, or nobody reads any more.
pub(super) fn watch(config: &Config, as_json: bool) -> Result<(), CliError> {
    screen::every_second(!as_json, |size| {
        let region = Region::open(config)?;
        let rows = region.rows();
        if as_json {
            return Ok(json!(rows).to_string());
        }
        let shown = size.map_or(rows.len(), |size| rows.len().min(size.saturating_sub(4)));
        let mut text = stream_table(&rows[..shown]).trim_fmt();
        if shown < rows.len() {
            text += &format!("\n... and {} more", rows.len() - shown);
        }
        for remark in region.remarks(&rows) {
            text += &format!("\n{remark}");
        }
        Ok(text)
    })
}

pub(super) fn stream_table(rows: &[Row]) -> Table {
    let header = [
        "CALL", "LEG", "MEDIA", "KIND", "LOCAL", "REMOTE", "PEER", "PACKETS", "BYTES", "LOST",
        "LOSS%", "JITTER", "AGE",
    ];
    let mut table = table(&header, &[1, 2, 7, 8, 9, 10, 11, 12]);
    for row in rows {
        let rtp = row.kind == "rtp";
        let only_rtp = |text: String| if rtp { text } else { "-".into() };
        table.add_row([
            row.call_name(),
            row.leg.to_string(),
            row.media.to_string(),
            format!("{}{}", row.kind, if row.gate_open { "" } else { " (held)" }),
            row.local.clone(),
            match (row.remote, row.learned) {
                (Some(remote), true) => remote.to_string(),
                (Some(remote), false) => format!("[{remote}]"),
                (None, _) => "-".into(),
            },
            row.peer.clone(),
            row.packets.to_string(),
            row.bytes.to_string(),
            only_rtp(row.lost.to_string()),
            only_rtp(format!("{:.2}", row.loss_percent())),
            only_rtp(format!("{:.1}ms", row.jitter_ms)),
            duration(row.age_s),
        ]);
    }
    table
}

pub(super) fn calls(config: &Config, id: Option<&str>, as_json: bool) -> Result<(), CliError> {
    match id {
        Some(id) => one_call(config, id, as_json),
        None => all_calls(config, as_json),
    }
}

fn all_calls(config: &Config, as_json: bool) -> Result<(), CliError> {
    let mut calls = client::calls(config)?;
    calls.sort_by_key(|call| call.created_us);
    // Calls can be listed without a region; then nothing is known of their packets.
    let rows = Region::open(config)
        .map(|region| region.rows())
        .unwrap_or_default();
    let mut by_call: HashMap<u64, Vec<&Row>> = HashMap::new();
    for row in &rows {
        by_call.entry(row.call).or_default().push(row);
    }
    let now_us = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or(Duration::ZERO)
        .as_micros() as u64;
    let mut table = table(
        &["CALL", "TAGS", "STREAMS", "PACKETS", "LOST", "AGE", "MEDIA"],
        &[2, 3, 4, 5],
    );
    let mut list = Vec::new();
    for call in calls {
        let own = by_call.remove(&call.key).unwrap_or_default();
        let rtp = || own.iter().filter(|row| row.kind != "rtcp");
        let packets: u64 = rtp().map(|row| row.packets).sum();
        let lost: i64 = rtp().map(|row| row.lost).sum();
        let age_s = now_us.saturating_sub(call.created_us) as f64 / 1e6;
        if as_json {
            list.push(json!({
                "call_id": call.id, "also": call.also, "call": call.key, "tags": call.tags, "streams": own.len(),
                "packets": packets, "lost": lost, "age_s": age_s, "one_way": call.one_way,
                "poor": call.poor,
            }));
            continue;
        }
        let tags: Vec<_> = call
            .tags
            .iter()
            .map(|tag| tag.as_deref().unwrap_or("?"))
            .collect();
        let ids = [&[call.id], &call.also[..]].concat();
        table.add_row([
            ids.join(", "),
            tags.join(" > "),
            own.len().to_string(),
            packets.to_string(),
            lost.to_string(),
            duration(age_s),
            match (call.one_way, call.poor) {
                (true, true) => "one-way, poor",
                (true, false) => "one-way",
                (false, true) => "poor",
                (false, false) => "",
            }
            .to_owned(),
        ]);
    }
    let mut out = io::stdout().lock();
    match as_json {
        true => writeln!(out, "{}", json!(list))?,
        false => writeln!(out, "{}", table.trim_fmt())?,
    }
    Ok(())
}

fn one_call(config: &Config, id: &str, as_json: bool) -> Result<(), CliError> {
    let client::Particulars { call, quality } = client::call(config, id)?;
    let region = Region::open(config);
    let mut rows = region.as_ref().map(Region::rows).unwrap_or_default();
    rows.retain(|row| row.call == call.key);
    let mut out = io::stdout().lock();
    if as_json {
        writeln!(
            out,
            "{}",
            json!({ "call": call, "streams": rows, "quality": quality })
        )?;
        return Ok(());
    }
    let ids: Vec<&str> = call.ids().collect();
    writeln!(out, "call {}", ids.join(", "))?;
    for dialog in &call.dialogs {
        for side in dialog.sides() {
            let leg = &dialog.legs[side];
            let tags = match leg.tags.is_empty() {
                true => "has not answered".to_owned(),
                false => format!("tag {}", leg.tags.join(", ")),
            };
            let number = dialog.leg_number(side);
            let partner = match leg.partner {
                Partner::Own => String::new(),
                Partner::Leg(other) => format!("; connected to leg {other}"),
                Partner::Nobody => "; hears nobody".to_owned(),
            };
            writeln!(
                out,
                "  leg {number}: {tags}; interface {}{partner}",
                leg.interface
            )?;
        }
        for (number, media) in dialog.medias.iter().enumerate() {
            let state = match (media.locals, media.sides.iter().any(|side| side.declined)) {
                (Some(_), false) => "relayed",
                _ => "refused",
            };
            writeln!(
                out,
                "  media {number}: {} {}, {state}",
                media.name, media.sides[0].proto
            )?;
        }
    }
    writeln!(out, "{}", stream_table(&rows).trim_fmt())?;
    for rated in &quality {
        writeln!(out, "  {}", rated.line())?;
    }
    for row in &rows {
        for line in row.detail.lines() {
            writeln!(out, "  {} {}: {line}", row.kind, row.local)?;
        }
    }
    Ok(())
}

pub(super) fn ports(config: &Config, as_json: bool) -> Result<(), CliError> {
    let region = Region::open(config)?;
    let name = |number: usize| match config.ports.get(number) {
        Some(port) => port.name.clone(),
        None => format!("exception of {}", number - config.ports.len()),
    };
    let ports = region.table.ports();
    let mut out = io::stdout().lock();
    if as_json {
        let list: Vec<_> = ports
            .iter()
            .map(|p| {
                json!({
                    "port": name(p.number), "up": p.up, "ipackets": p.ipackets, "opackets": p.opackets,
                    "ibytes": p.ibytes, "obytes": p.obytes, "imissed": p.imissed,
                    "ierrors": p.ierrors, "oerrors": p.oerrors, "rx_nombuf": p.rx_nombuf,
                })
            })
            .collect();
        writeln!(out, "{}", json!(list))?;
        return Ok(());
    }
    let header = [
        "PORT",
        "LINK",
        "RX",
        "TX",
        "RX-BYTES",
        "TX-BYTES",
        "MISSED",
        "RX-ERRORS",
        "TX-ERRORS",
        "NO-MBUF",
    ];
    let mut table = table(&header, &[2, 3, 4, 5, 6, 7, 8, 9]);
    for port in ports {
        let counts = [
            port.ipackets,
            port.opackets,
            port.ibytes,
            port.obytes,
            port.imissed,
            port.ierrors,
            port.oerrors,
            port.rx_nombuf,
        ];
        let link = if port.up { "up" } else { "down" };
        let words = [name(port.number), link.to_owned()];
        table.add_row(
            words
                .into_iter()
                .chain(counts.map(|count| count.to_string())),
        );
    }
    writeln!(out, "{}", table.trim_fmt())?;
    remark(&region.remarks(&[]));
    Ok(())
}

pub(super) fn drops(config: &Config, as_json: bool) -> Result<(), CliError> {
    let region = Region::open(config)?;
    let workers = region.workers();
    let of = |reason: Drop| -> u64 {
        let all = workers.iter().flat_map(|(_, worker)| worker.drops.iter());
        all.filter(|(r, _)| *r == reason)
            .map(|(_, count)| count)
            .sum()
    };
    let mut out = io::stdout().lock();
    if as_json {
        let reasons: Vec<_> = Drop::ALL
            .iter()
            .map(|r| json!({ "reason": r.name(), "packets": of(*r), "help": r.help().trim() }))
            .collect();
        let workers: Vec<_> = workers
            .iter()
            .map(|(name, w)| {
                let drops: serde_json::Map<_, _> = w
                    .drops
                    .iter()
                    .map(|(reason, count)| (reason.name().to_owned(), json!(count)))
                    .collect();
                json!({
                    "worker": name, "rx": w.rx, "forwarded": w.forwarded,
                    "consumed": w.consumed, "handed_over": w.handed_over,
                    "to_kernel": w.to_kernel, "from_kernel": w.from_kernel, "copied": w.copied, "drops": drops,
                    "polls_busy": w.polls_busy, "polls_idle": w.polls_idle,
                    "cycles_busy": w.cycles_busy, "cycles_idle": w.cycles_idle,
                    "bursts": w.bursts, "streams_moved": w.streams_moved,
                    "captured": w.captured, "capture_lost": w.capture_lost,
                })
            })
            .collect();
        writeln!(out, "{}", json!({ "reasons": reasons, "workers": workers }))?;
        return Ok(());
    }
    let mut table = table(&["REASON", "PACKETS", "MEANING"], &[1]);
    for reason in Drop::ALL {
        table.add_row([
            reason.name().to_owned(),
            of(*reason).to_string(),
            reason.help().trim().to_owned(),
        ]);
    }
    writeln!(out, "{}", table.trim_fmt())?;
    remark(&region.remarks(&[]));
    Ok(())
}
