//! What rtpengine calls its statistics: totals since the start, by its names, for monitoring that knows them.
//!
//! [`Statistics`] counts, [`Service::statistics`] answers ng's `statistics`, and the same groups as text or JSON numbers
//! answer `list totals` and `list jsonstats`. [`groups`] has their names.
//!
//! What was relayed is summed up from all meters every [`INTERVAL`], a few at a time, so that asking costs
//! nothing; rates are those between two sums. All of it is the plane's work, which rtpengine's kernel module stands for
//! in these names: `_user` is always 0.

mod groups;

use crate::records::Ended;
use crate::report::Sum;
use crate::service::Service;
use penstock_media::{Dialog, Kind, Media, Now};
use penstock_ng::{Reply, Request};
use serde_json::{Map, Value as Json, json};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// How often the meters are summed up.
const INTERVAL: Duration = Duration::from_secs(10);

/// Records looked at before other tasks get their turn.
const BATCH: u32 = 64;

/// Clients that are counted by themselves; all count in the totals.
const MAX_CLIENTS: usize = 64;

/// ng's commands, what rtpengine calls them in its statistics, and in the table of its text.
const COMMANDS: [(&str, &str, &str); 24] = [
    ("ping", "ping", "Ping"),
    ("offer", "offer", "Offer"),
    ("answer", "answer", "Answer"),
    ("delete", "delete", "Delete"),
    ("query", "query", "Query"),
    ("list", "list", "List"),
    ("start recording", "startrec", "StartRec"),
    ("stop recording", "stoprec", "StopRec"),
    ("start forwarding", "startfwd", "StartFwd"),
    ("stop forwarding", "stopfwd", "StopFwd"),
    ("block DTMF", "blkdtmf", "BlkDTMF"),
    ("unblock DTMF", "unblkdtmf", "UnblkDTMF"),
    ("block media", "blkmedia", "BlkMedia"),
    ("unblock media", "unblkmedia", "UnblkMedia"),
    ("play media", "playmedia", "PlayMedia"),
    ("stop media", "stopmedia", "StopMedia"),
    ("play DTMF", "playdtmf", "PlayDTMF"),
    ("statistics", "stats", "Stats"),
    ("silence media", "slnmedia", "SlnMedia"),
    ("unsilence media", "unslnmedia", "UnslnMedia"),
    ("publish", "pub", "Pub"),
    ("subscribe request", "subreq", "SubReq"),
    ("subscribe answer", "subans", "SubAns"),
    ("unsubscribe", "unsub", "Unsub"),
];

/// What one client asked for: by place in [`COMMANDS`], how often, and how long that took.
#[derive(Clone, Default)]
struct Client {
    commands: [(u64, Duration); COMMANDS.len()],
    errors: u64,
}

/// The calls that ended.
#[derive(Clone, Copy, Default)]
struct Calls {
    ended: u64,
    regular: u64,
    forced: u64,
    timeout: u64,
    silent_timeout: u64,
    final_timeout: u64,
    offer_timeout: u64,
    /// Sum of their durations and of the squares, s.
    duration_s: f64,
    duration2_s: f64,
    /// Medias that no packet came to, and those that packets came to from one leg only.
    zero_way: u64,
    one_way: u64,
    /// Packets lost, repeated and out of order.
    lost: u64,
    duplicates: u64,
    late: u64,
}

/// What was relayed so far, and how fast lately.
#[derive(Clone, Copy, Default)]
struct Relayed {
    at: Option<Instant>,
    /// Of the streams that stand and those that ended; less than was reported before if meters were lost.
    seen: Sum,
    /// Never goes back.
    total: Sum,
    rates: Sum,
    /// RTP streams that stand.
    streams: u64,
}

/// What is counted for the statistics.
#[derive(Default)]
pub(crate) struct Statistics {
    clients: RefCell<BTreeMap<IpAddr, Client>>,
    all: RefCell<Client>,
    calls: Cell<Calls>,
    relayed: Cell<Relayed>,
}

impl Statistics {
    fn served(&self, name: &str, client: IpAddr, took: Duration, is_error: bool) {
        let at = COMMANDS.iter().position(|(command, ..)| *command == name);
        let count = |client: &mut Client| {
            if let Some((count, time)) = at.and_then(|at| client.commands.get_mut(at)) {
                *count += 1;
                *time += took;
            }
            client.errors += u64::from(is_error);
        };
        count(&mut self.all.borrow_mut());
        let mut clients = self.clients.borrow_mut();
        if clients.len() < MAX_CLIENTS || clients.contains_key(&client) {
            count(clients.entry(client).or_default());
        }
    }

    /// Counts what ended.
    pub(crate) fn ended(&self, ended: &Ended, now: Now) {
        let mut calls = self.calls.get();
        let has_answered = |d: &Dialog| d.legs.iter().all(|leg| !leg.tags.is_empty());
        for id in ended.ids() {
            let mut was_answered = false;
            for dialog in ended.gone(id) {
                was_answered |= has_answered(dialog);
                let relayed = dialog.medias.iter().filter(|m| m.kind == Kind::Rtp);
                for media in relayed.filter(|media| media.locals.is_some()) {
                    calls.media(dialog, media, ended);
                }
            }
            if ended.goes_on(id) {
                continue;
            }
            let created_us = ended.call.created_us_of(id);
            let duration_s = now.unix_us.saturating_sub(created_us) as f64 / 1e6;
            calls.ended += 1;
            calls.duration_s += duration_s;
            calls.duration2_s += duration_s * duration_s;
            *match (ended.why, was_answered) {
                ("operator", _) => &mut calls.forced,
                ("final", _) => &mut calls.final_timeout,
                ("hold", true) => &mut calls.silent_timeout,
                ("hold", false) => &mut calls.offer_timeout,
                ("delete", _) => &mut calls.regular,
                _ => &mut calls.timeout,
            } += 1;
        }
        self.calls.set(calls);
    }

    fn summed(&self, seen: Sum, streams: u64) {
        let now = Instant::now();
        let mut relayed = self.relayed.get();
        let more = Sum {
            packets: seen.packets.saturating_sub(relayed.seen.packets),
            bytes: seen.bytes.saturating_sub(relayed.seen.bytes),
            errors: seen.errors.saturating_sub(relayed.seen.errors),
        };
        relayed.seen = seen;
        if let Some(before) = relayed.at.replace(now) {
            let seconds = now.duration_since(before).as_secs_f64().max(0.001);
            let rate = |count: u64| (count as f64 / seconds).round() as u64;
            relayed.rates = Sum {
                packets: rate(more.packets),
                bytes: rate(more.bytes),
                errors: rate(more.errors),
            };
            relayed.total.add(more);
        }
        relayed.streams = streams;
        self.relayed.set(relayed);
    }
}

impl Calls {
    fn media(&mut self, dialog: &Dialog, media: &Media, ended: &Ended) {
        let joined = |side| ended.facing(media, side, false);
        let meters: Vec<_> = dialog.sides().map(joined).collect();
        let stats = || meters.iter().flatten().map(|(_, stat)| stat);
        match stats().filter(|stat| stat.meter.packets > 0).count() {
            0 => self.zero_way += 1,
            1 => self.one_way += 1,
            _ => {}
        }
        for stat in stats() {
            self.lost += u64::try_from(stat.meter.lost).unwrap_or(0);
            self.duplicates += u64::from(stat.meter.duplicates);
            self.late += u64::from(stat.meter.late);
        }
    }
}

/// Sums up the meters for ever.
pub(crate) async fn run(service: Rc<Service>) {
    loop {
        let (mut live, mut streams) = (Sum::default(), 0);
        let mut first = 0;
        while let Some(part) = service.link.sum(first, BATCH) {
            live.add(part.0);
            streams += part.1;
            first += BATCH;
            tokio::task::yield_now().await;
        }
        let mut seen = service.link.ended();
        seen.add(live);
        service.statistics.summed(seen, streams);
        tokio::time::sleep(INTERVAL).await;
    }
}

impl Service {
    /// Carries out a request of a client, and counts it as the client's. Requests of one call must not overlap.
    pub(crate) async fn serve(self: &Rc<Self>, request: Request, client: SocketAddr) -> Reply {
        let name = request.command();
        let start = Instant::now();
        let reply = self.handle(request, client).await;
        let is_error = reply.is_error();
        self.statistics
            .served(name, client.ip(), start.elapsed(), is_error);
        reply
    }
}

impl Statistics {
    fn clients_json(&self) -> Json {
        let one = |(address, client): (&IpAddr, &Client)| {
            let mut pairs = Map::new();
            pairs.insert("proxy".into(), json!(address.to_string()));
            for ((_, name, _), (count, time)) in COMMANDS.iter().zip(client.commands) {
                pairs.insert(format!("{name}count"), json!(count));
                pairs.insert(format!("{name}duration"), json!(time.as_secs_f64()));
            }
            pairs.insert("errorcount".into(), json!(client.errors));
            Json::Object(pairs)
        };
        let proxies: Vec<Json> = self.clients.borrow().iter().map(one).collect();
        let mut pairs = Map::new();
        pairs.insert("proxies".into(), proxies.into());
        for ((_, name, _), (count, _)) in COMMANDS.iter().zip(self.all.borrow().commands) {
            pairs.insert(format!("total{name}count"), json!(count));
        }
        Json::Object(pairs)
    }

    fn clients_text(&self) -> String {
        let mut text = format!(" {:>20} ", "Proxy");
        for (_, _, column) in COMMANDS {
            text += &format!("| {column:>10} ");
        }
        for (address, client) in self.clients.borrow().iter() {
            text += &format!("\n {:>20} ", address.to_string());
            for (count, _) in client.commands {
                text += &format!("| {count:>10} ");
            }
        }
        text + "\n"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use penstock_ng::{Dict, SECTIONS, Support, Value};

    fn get<'a>(dict: &'a Dict<'a>, path: &[&str]) -> &'a Value<'a> {
        let (first, rest) = path.split_first().unwrap();
        let found = dict.0.iter().find(|(key, _)| **key == *first.as_bytes());
        let value = &found.unwrap_or_else(|| panic!("no {first}")).1;
        match (rest, value) {
            ([], value) => value,
            (rest, Value::Dict(dict)) => get(dict, rest),
            _ => panic!("{first} is no dictionary"),
        }
    }

    #[test]
    fn ng_has_its_fractions_as_text() {
        let dir = tempfile::tempdir().unwrap();
        let service = Service::idle(dir.path());
        let client = IpAddr::from([127, 0, 0, 1]);
        let took = Duration::from_micros(1500);
        service.statistics.served("offer", client, took, false);
        service.statistics.served("offer", client, took, true);
        service.statistics.served("no such", client, took, true);
        let dict = service.statistics();
        let mean = get(&dict, &["mos", "mos_average"]);
        assert_eq!(*mean, Value::from("0.000000"));
        let own = get(&dict, &["currentstatistics", "sessionsown"]);
        assert_eq!(*own, Value::from(0_u64));
        assert_eq!(
            *get(&dict, &["totalstatistics", "uptime"]),
            Value::from("0")
        );
        let all = get(&dict, &["controlstatistics", "totaloffercount"]);
        assert_eq!(*all, Value::from(2_u64));
        let Value::List(proxies) = get(&dict, &["controlstatistics", "proxies"]) else {
            panic!("no list");
        };
        let [Value::Dict(proxy)] = proxies.as_slice() else {
            panic!("{proxies:?}");
        };
        assert_eq!(*get(proxy, &["offerduration"]), Value::from("0.003000"));
        assert_eq!(*get(proxy, &["errorcount"]), Value::from(2_u64));
        assert_eq!(*get(proxy, &["proxy"]), Value::from("127.0.0.1"));
    }

    /// rtpengine's statistics have no row for these.
    const WITHOUT: [&str; 2] = ["connect", "cli"];

    #[test]
    fn every_command_has_a_row_or_is_known_to_have_none() {
        let commands = SECTIONS.iter().find(|section| section.title == "Commands");
        let known = commands.unwrap().rows;
        let has_row = |name| COMMANDS.iter().any(|(command, ..)| *command == name);
        let supported = known
            .iter()
            .filter(|row| matches!(row.support, Support::Supported(_)));
        for row in supported {
            assert_ne!(
                has_row(row.name),
                WITHOUT.contains(&row.name),
                "{}",
                row.name
            );
        }
        for name in COMMANDS
            .map(|(command, ..)| command)
            .into_iter()
            .chain(WITHOUT)
        {
            assert!(known.iter().any(|row| row.name == name), "{name}");
        }
    }

    #[test]
    fn clients_are_bounded_and_all_count_in_the_totals() {
        let statistics = Statistics::default();
        for n in 0..1000_u32 {
            let client = IpAddr::from(n.to_be_bytes());
            statistics.served("ping", client, Duration::ZERO, false);
        }
        assert_eq!(statistics.clients.borrow().len(), MAX_CLIENTS);
        assert_eq!(statistics.all.borrow().commands[0].0, 1000);
    }

    #[test]
    fn what_was_relayed_never_goes_back() {
        let statistics = Statistics::default();
        let sum = |packets| Sum {
            packets,
            ..Sum::default()
        };
        let total = || statistics.relayed.get().total.packets;
        // What stood at the start passed before.
        statistics.summed(sum(1000), 2);
        assert_eq!(total(), 0);
        statistics.summed(sum(1500), 2);
        assert_eq!(total(), 500);
        // A new region: its meters start anew.
        statistics.summed(sum(10), 2);
        assert_eq!(total(), 500);
        statistics.summed(sum(30), 2);
        assert_eq!(total(), 520);
    }
}
