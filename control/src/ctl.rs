//! rtpengine-ctl's commands, answered as text in its form. `control/MIGRATION.md` says which there are.

use crate::facing;
use crate::log;
use crate::service::{Service, clock};
use crate::settings;
use penstock_config::Config;
use penstock_media::{Call, Dialog, Kind, Local, Media};
use std::borrow::Cow;
use std::net::SocketAddr;
use std::rc::Rc;

/// Calls that are listed at most: meanwhile nothing else is done.
const MAX_LISTED: usize = 4096;

/// Carries out a line; what it prints. What ends calls is begun, not waited for.
pub(crate) fn cli(service: &Rc<Service>, line: &str) -> String {
    let words: Vec<&str> = line.split_whitespace().collect();
    match words.as_slice() {
        [] | ["help"] => {
            "Available sub-commands at this level:\n\tlist\n\tterminate\n\tset\n\tget\n\tparams\n"
                .into()
        }
        ["list" | "get", rest @ ..] => list(service, rest),
        ["set", rest @ ..] => set(service, rest),
        ["terminate", rest @ ..] => terminate(service, rest),
        ["params", rest @ ..] => params(service, rest),
        other => unknown("", other),
    }
}

/// Whether a line changes nothing.
pub(crate) fn only_looks(line: &str) -> bool {
    let word = line.split_whitespace().next();
    matches!(word, None | Some("help" | "list" | "get"))
}

fn unknown(level: &str, words: &[&str]) -> String {
    format!(
        "Unknown or incomplete command:{level}:{}\n",
        words.join(" ")
    )
}

fn more() -> String {
    "More parameters required.\n".into()
}

fn list(service: &Rc<Service>, words: &[&str]) -> String {
    let running = |what: fn(&Config) -> u32| service.reloader.running(what);
    match words {
        [] | ["sessions"] => more(),
        ["numsessions"] => numbers(service),
        ["sessions", which] => sessions(service, which),
        ["totals", ..] => service.totals_text(),
        ["jsonstats"] => format!("{}\n", serde_json::Value::Object(service.groups())),
        ["interfaces", ..] => interfaces(service),
        ["maxsessions"] => format!(
            "Maximum sessions configured on rtpengine: {}\n",
            limit(running(|config| config.control.max_calls))
        ),
        ["maxopenfiles"] => open_files(),
        ["timeout"] => format!("TIMEOUT={}\n", running(|c| c.timeouts.silence_s)),
        ["silenttimeout"] => format!("SILENT_TIMEOUT={}\n", running(|c| c.timeouts.hold_s)),
        ["offertimeout"] => format!("OFFER_TIMEOUT={}\n", running(|c| c.timeouts.hold_s)),
        ["finaltimeout"] => format!("FINAL_TIMEOUT={}\n", running(|c| c.timeouts.final_s)),
        ["loglevel" | "loglevels"] => format!("core = {}\n", log::level()),
        ["transcoders"] => "No stats entries\n".into(),
        other => unknown("", other),
    }
}

/// rtpengine writes "none" as -1.
fn limit(value: u32) -> i64 {
    match value {
        u32::MAX => -1,
        value => value.into(),
    }
}

fn open_files() -> String {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let limit = limit
        .current
        .map_or("-1".to_owned(), |count| count.to_string());
    format!(
        "Maximum open-files configured on rtpengine: {limit}; cat /proc/{}/limits\n",
        std::process::id()
    )
}

fn numbers(service: &Service) -> String {
    let calls = service.calls.borrow();
    let [v4, v6, mixed] = calls.by_family();
    let all = calls.len();
    format!(
        "Current sessions own: {all}\nCurrent sessions foreign: 0\nCurrent sessions total: {all}\n\
         Current transcoded media: 0\nCurrent sessions ipv4 only media: {v4}\n\
         Current sessions ipv6 only media: {v6}\nCurrent sessions ip mixed  media: {mixed}\n"
    )
}

fn sessions(service: &Service, which: &str) -> String {
    let calls = service.calls.borrow();
    match which {
        "all" if calls.is_empty() => "No sessions on this media relay.\n".into(),
        "own" if calls.is_empty() => "No own sessions on this media relay.\n".into(),
        "foreign" => "No foreign sessions on this media relay.\n".into(),
        "all" | "own" => listing(calls.iter(), calls.len()),
        id => match calls.get(id) {
            Some(call) => session(service, call),
            None => format!("\nCall ID not found ({id}).\n\n"),
        },
    }
}

/// Some of `all` calls: as many as may be listed.
fn listing<'a>(calls: impl Iterator<Item = &'a Call>, all: usize) -> String {
    let mut list: Vec<&Call> = calls.take(MAX_LISTED).collect();
    list.sort_by_key(|call| call.key);
    let line = |call: &Call| {
        let created_s = call.created_us / 1_000_000;
        format!(
            "callid: {:>60} | deletionmark:{:>4} | created:{created_s:>12} | proxy:{} | redis_keyspace:0 | foreign:no\n",
            call.id,
            deletion_mark(call),
            proxy(call)
        )
    };
    let mut text: String = list.into_iter().map(line).collect();
    if let more @ 1.. = all.saturating_sub(MAX_LISTED) {
        text += &format!("{more} more sessions are not listed.\n");
    }
    text
}

/// Who asked for a call; nothing is known of one that an earlier release took on.
fn proxy(call: &Call) -> String {
    call.asked_by
        .map_or_else(|| "-".to_owned(), |proxy| proxy.to_string())
}

/// Whether any of it was deleted with a delay.
fn deletion_mark(call: &Call) -> &'static str {
    match call.dialogs.iter().any(|dialog| dialog.ends_us.is_some()) {
        true => "yes",
        false => "no",
    }
}

fn session(service: &Service, call: &Call) -> String {
    let marks = call.dialogs.iter().find_map(|dialog| dialog.mark);
    let aliases: String = call
        .ids()
        .skip(1)
        .map(|id| format!("alias: {id}\n"))
        .collect();
    let mut text = format!(
        "\ncallid: {}\n{aliases}deletionmark: {}\ncreated: {}\nproxy: {}\ntos: {}\nlast_signal: {}\nredis_keyspace: 0\nforeign: no\n\n",
        call.id,
        deletion_mark(call),
        call.created_us / 1_000_000,
        proxy(call),
        marks.unwrap_or(0) << 2,
        call.last_signal_us / 1_000_000,
    );
    for dialog in &call.dialogs {
        for side in dialog.sides() {
            text += &leg(service, call, dialog, side);
        }
    }
    text + "\n"
}

fn leg(service: &Service, call: &Call, dialog: &Dialog, side: usize) -> String {
    let own = &dialog.legs[side];
    let partner = call.partner(dialog, side);
    let tag = |leg: &penstock_media::Leg| leg.tags.last().cloned().unwrap_or_default();
    let age_us = clock().unix_us.saturating_sub(own.created_us);
    let mut text = format!(
        "--- Tag '{}', type: {}, label '{}', branch '{}', callduration {:.6}\n",
        tag(own),
        ["FROM_TAG", "TO_TAG"][side],
        own.label.as_deref().unwrap_or_default(),
        // The offer's branch leads to who answers it.
        dialog
            .branch
            .as_deref()
            .filter(|_| side == 1)
            .unwrap_or_default(),
        age_us as f64 / 1e6
    );
    let peer = partner.map_or_else(String::new, |(other, far)| tag(&other.legs[far]));
    if !peer.is_empty() {
        text += &format!("---     subscribed to '{peer}'\n---     subscription of '{peer}'\n");
    }
    for (media, number) in dialog.medias.iter().zip(1..) {
        if media.locals.is_none() {
            continue;
        }
        let this = &media.sides[side];
        text += &format!(
            "------ Media #{number} ({} over {})\n",
            media.name, this.proto
        );
        let at = |second| facing::locals(media, side, second).collect::<Vec<Local>>();
        text += &port(service, at(false), this.remote, "");
        if media.has_rtcp && media.kind == Kind::Rtp && !has_mux(media) {
            text += &port(service, at(true), this.remote_rtcp, " (RTCP)");
        }
    }
    text
}

fn has_mux(media: &Media) -> bool {
    media.sides.iter().all(|side| side.mux)
}

/// What came to the first of the endpoints, or to another that stands for it.
fn port(
    service: &Service,
    locals: Vec<Local>,
    signalled: Option<SocketAddr>,
    kind: &str,
) -> String {
    let Some(&first) = locals.first() else {
        return String::new();
    };
    let meters = |local| service.link.stream(local).map(Cow::Owned);
    let (local, stat) = facing::joined(locals.into_iter(), &meters).unzip();
    let local = local.unwrap_or(first);
    let remote = stat.as_ref().and_then(|stat| stat.policy.remote);
    let remote = remote.or(signalled);
    let (ip, port) = match remote {
        Some(remote) => (remote.ip().to_string(), remote.port()),
        None => (String::new(), 0),
    };
    let meter = stat.map(|stat| stat.meter);
    let count = |what: fn(&penstock_shm::MeterStat) -> u64| meter.as_ref().map_or(0, what);
    let seen_ns = count(|meter| meter.last_seen_ns);
    let seen_s = if seen_ns > 0 {
        clock().unix_s(seen_ns)
    } else {
        0
    };
    format!(
        "-------- Port {:>15}:{:<5} <> {ip:>15}:{port:<5}{kind}, SSRC {:x}, {} p, {} b, {} e, {seen_s} ts\n",
        local.ip.to_string(),
        local.port,
        count(|meter| meter.ssrc.unwrap_or(0).into()),
        count(|meter| meter.packets),
        count(|meter| meter.bytes),
        count(|meter| meter.dropped.into()),
    )
}

fn interfaces(service: &Service) -> String {
    let calls = service.calls.borrow();
    let text = service.reloader.interfaces(|interface| {
        let found = calls.ports().find(|(name, ..)| *name == interface.name);
        let (used, all) = found.map_or((0, 0), |(_, used, all)| (2 * used, 2 * all));
        let version = if interface.address.is_ipv4() { 4 } else { 6 };
        format!(
            "Interface '{}' address '{}' (IPv{version})\n Port range: {:5} - {:5}\n Ports used: {used:5} / {all:5} ({:5.1}%)\n",
            interface.name,
            interface.address,
            interface.ports.first,
            interface.ports.last,
            100.0 * used as f64 / all.max(1) as f64
        )
    });
    text.concat()
}

fn set(service: &Service, words: &[&str]) -> String {
    let [what, value, ..] = words else {
        return match words {
            [] => more(),
            ["maxsessions" | "loglevel" | "timeout" | "silenttimeout" | "finaltimeout"] => more(),
            other => unknown("", other),
        };
    };
    // rtpengine names all timeouts by one word.
    let (name, keys): (_, &[&str]) = match *what {
        "maxsessions" => ("maxsessions", &["max-calls"]),
        "timeout" => ("timeout", &["start", "silence"]),
        "silenttimeout" => ("timeout", &["hold"]),
        "finaltimeout" => ("timeout", &["final"]),
        "loglevel" => ("loglevel", &["log-level"]),
        _ => return unknown("", words),
    };
    let (number, remark) = match (*what, value.parse::<i64>()) {
        ("loglevel", Ok(level)) => (log_word(level).to_owned(), ""),
        ("maxsessions", Ok(-1)) => (u32::MAX.to_string(), "; disable feature"),
        (_, Ok(0..)) => ((*value).to_owned(), ""),
        _ => {
            return format!("Fail setting {name} to {value}; no digists found\n");
        }
    };
    for key in keys {
        if let Err(error) = settings::set(service, key, &number) {
            return format!("Fail setting {name} to {value}; {error}\n");
        }
    }
    format!("Success setting {name} to {value}{remark}\n")
}

/// The level for one of syslog's severities, as rtpengine numbers them.
fn log_word(level: i64) -> &'static str {
    match level {
        ..=3 => "error",
        4 => "warn",
        5 | 6 => "info",
        7 => "debug",
        8.. => "trace",
    }
}

fn terminate(service: &Rc<Service>, words: &[&str]) -> String {
    match words {
        [] => more(),
        ["all"] => {
            service.end_all();
            "All calls terminated by operator.\n".into()
        }
        ["own"] => {
            service.end_all();
            "All own calls terminated by operator.\n".into()
        }
        ["foreign"] => "All foreign calls terminated by operator.\n".into(),
        [id, ..] if service.calls.borrow().get(id).is_none() => {
            format!("\nCall Id not found ({id}).\n\n")
        }
        [id, ..] => {
            let (service, name) = (service.clone(), (*id).to_owned());
            tokio::task::spawn_local(async move { service.end_call(&name).await });
            format!("\nCall Id ({id}) successfully terminated by operator.\n\n")
        }
    }
}

fn params(service: &Service, words: &[&str]) -> String {
    let [before, now] = service
        .reloader
        .both(|config| lines(config).collect::<Vec<_>>());
    match words {
        [] => more(),
        ["start"] => before.concat(),
        ["current"] => now.concat(),
        ["diff"] => {
            let pairs = before.into_iter().zip(now);
            let differing = pairs.filter(|(before, now)| before != now);
            let line = |(before, now): (String, String)| {
                let value = now.rsplit(" = ").next().unwrap_or_default();
                format!("{} => {value}", before.trim_end())
            };
            differing.map(line).collect()
        }
        ["revert"] => match service.reloader.revert(service) {
            Ok(()) => String::new(),
            Err(error) => format!("{error}\n"),
        },
        other => unknown("", other),
    }
}

/// The parameters that Penstock has, by rtpengine's names.
fn lines(config: &Config) -> impl Iterator<Item = String> {
    let (control, timeouts) = (&config.control, &config.timeouts);
    let values = [
        ("max-sessions", limit(control.max_calls)),
        ("timeout", timeouts.silence_s.into()),
        ("silent-timeout", timeouts.hold_s.into()),
        ("final-timeout", timeouts.final_s.into()),
        ("offer-timeout", timeouts.hold_s.into()),
    ];
    let interfaces = control.interfaces.iter().enumerate();
    let interfaces =
        interfaces.map(|(n, i)| format!("interface[{n}] = {}\\{}\n", i.name, i.address));
    let values = values.map(|(name, value)| format!("{name} = {value}\n"));
    values
        .into_iter()
        .chain(interfaces)
        .collect::<Vec<_>>()
        .into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_has_an_end_that_says_so() {
        let now = crate::service::now();
        let call = |key: usize| Call::new(&format!("c{key}"), key as u64, now);
        let calls: Vec<Call> = (0..MAX_LISTED + 7).map(call).collect();
        let text = listing(calls.iter().take(MAX_LISTED), MAX_LISTED);
        assert_eq!(text.lines().count(), MAX_LISTED);
        assert!(!text.contains("more"));
        let text = listing(calls.iter(), calls.len());
        assert_eq!(text.lines().count(), MAX_LISTED + 1);
        assert!(text.ends_with("\n7 more sessions are not listed.\n"));
    }
}
