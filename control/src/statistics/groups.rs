//! The groups of the statistics: each name and sentence of rtpengine's stands once, in the function that makes its group.

use super::{Calls, Relayed};
use crate::quality::{Overall, Spread};
use crate::report::Sum;
use crate::service::Service;
use penstock_ng::{Dict, Value};
use serde_json::{Map, Value as Json, json};

/// One value.
enum Number {
    Count(u64),
    Real(f64),
}

/// Its key in ng and JSON, what the text says of it, and its unit there.
type Metric = (String, &'static str, Number, &'static str);

fn count(key: &str, label: &'static str, value: u64) -> Metric {
    (key.to_owned(), label, Number::Count(value), "")
}

fn real(key: &str, label: &'static str, value: f64, unit: &'static str) -> Metric {
    (key.to_owned(), label, Number::Real(value), unit)
}

/// A spread's five values. `labels` are those of total, squares, samples, average and deviation.
fn spread(prefix: &str, spread: Spread, labels: [&'static str; 5]) -> [Metric; 5] {
    let key = |end: &str| format!("{prefix}{end}");
    [
        real(&key("_total"), labels[0], spread.total, ""),
        real(&key("2_total"), labels[1], spread.total2, ""),
        count(&key("_samples_total"), labels[2], spread.samples),
        real(&key("_average"), labels[3], spread.average(), ""),
        real(&key("_stddev"), labels[4], spread.deviation(), ""),
    ]
}

fn mos(overall: &Overall) -> Vec<Metric> {
    let labels = [
        "Sum of all MOS values sampled",
        "Sum of all MOS square values sampled",
        "Total number of MOS samples",
        "Average MOS",
        "MOS standard deviation",
    ];
    spread("mos", overall.mos, labels).into()
}

fn voip(overall: &Overall, calls: &Calls) -> Vec<Metric> {
    let named = [
        ("jitter", overall.jitter),
        ("rtt_e2e", overall.round_trip),
        ("rtt_dsct", overall.leg),
        ("packetloss", overall.loss),
        ("jitter_measured", overall.jitter),
    ];
    let spreads = named
        .into_iter()
        .flat_map(|(key, of)| spread(key, of, [""; 5]));
    let counts = [
        count("packets_lost", "", calls.lost),
        count("rtp_duplicates", "", calls.duplicates),
        count("rtp_reordered", "", calls.late),
    ];
    spreads.chain(counts).collect()
}

fn sums(keys: [&str; 3], labels: [&'static str; 3], sum: Sum) -> [Metric; 3] {
    [
        count(keys[0], labels[0], sum.packets),
        count(keys[1], labels[1], sum.bytes),
        count(keys[2], labels[2], sum.errors),
    ]
}

fn current(calls: usize, relayed: &Relayed) -> Vec<Metric> {
    let calls = calls as u64;
    let mut list = vec![
        count("sessionsown", "Owned sessions", calls),
        count("sessionsforeign", "Foreign sessions", 0),
        count("sessionstotal", "Total sessions", calls),
        count("transcodedmedia", "Transcoded media", 0),
    ];
    list.extend(sums(
        ["packetrate_user", "byterate_user", "errorrate_user"],
        [
            "Packets per second (userspace)",
            "Bytes per second (userspace)",
            "Errors per second (userspace)",
        ],
        Sum::default(),
    ));
    list.extend(sums(
        ["packetrate_kernel", "byterate_kernel", "errorrate_kernel"],
        [
            "Packets per second (kernel)",
            "Bytes per second (kernel)",
            "Errors per second (kernel)",
        ],
        relayed.rates,
    ));
    list.extend(sums(
        ["packetrate", "byterate", "errorrate"],
        [
            "Packets per second (total)",
            "Bytes per second (total)",
            "Errors per second (total)",
        ],
        relayed.rates,
    ));
    list.extend([
        count("media_userspace", "Userspace-only media streams", 0),
        count("media_kernel", "Kernel-only media streams", relayed.streams),
        count("media_mixed", "Mixed kernel/userspace media streams", 0),
    ]);
    list
}

/// How calls ended.
fn ends(calls: &Calls) -> [Metric; 7] {
    [
        ("managedsessions", "Total managed sessions", calls.ended),
        (
            "timeoutsessions",
            "Total timed-out sessions via TIMEOUT",
            calls.timeout,
        ),
        (
            "silenttimeoutsessions",
            "Total timed-out sessions via SILENT_TIMEOUT",
            calls.silent_timeout,
        ),
        (
            "finaltimeoutsessions",
            "Total timed-out sessions via FINAL_TIMEOUT",
            calls.final_timeout,
        ),
        (
            "offertimeoutsessions",
            "Total timed-out sessions via OFFER_TIMEOUT",
            calls.offer_timeout,
        ),
        (
            "regularterminatedsessions",
            "Total regular terminated sessions",
            calls.regular,
        ),
        (
            "forcedterminatedsessions",
            "Total forced terminated sessions",
            calls.forced,
        ),
    ]
    .map(|(key, label, value)| count(key, label, value))
}

/// What was relayed by each of rtpengine's ways, and by both.
fn relayed(sum: Sum) -> Vec<Metric> {
    let ways = [
        (
            "_user",
            [
                "Total relayed packets (userspace)",
                "Total relayed packet errors (userspace)",
                "Total relayed bytes (userspace)",
            ],
            Sum::default(),
        ),
        (
            "_kernel",
            [
                "Total relayed packets (kernel)",
                "Total relayed packet errors (kernel)",
                "Total relayed bytes (kernel)",
            ],
            sum,
        ),
        (
            "",
            [
                "Total relayed packets",
                "Total relayed packet errors",
                "Total relayed bytes",
            ],
            sum,
        ),
    ];
    let metrics = ways.into_iter().flat_map(|(end, labels, sum)| {
        let key = |start: &str| format!("{start}{end}");
        [
            count(&key("relayedpackets"), labels[0], sum.packets),
            count(&key("relayedpacketerrors"), labels[1], sum.errors),
            count(&key("relayedbytes"), labels[2], sum.bytes),
        ]
    });
    metrics.collect()
}

fn durations(calls: &Calls) -> [Metric; 4] {
    let spread = Spread {
        total: calls.duration_s,
        total2: calls.duration2_s,
        samples: calls.ended,
    };
    [
        real(
            "avgcallduration",
            "Average call duration",
            spread.average(),
            " seconds",
        ),
        real(
            "totalcallsduration",
            "Total calls duration",
            spread.total,
            " seconds",
        ),
        real(
            "totalcallsduration2",
            "Total calls duration squared",
            spread.total2,
            " seconds squared",
        ),
        real(
            "totalcallsduration_stddev",
            "Total calls duration standard deviation",
            spread.deviation(),
            " seconds",
        ),
    ]
}

fn totals(uptime_s: u64, rejected: u64, calls: &Calls, sum: Sum) -> Vec<Metric> {
    let uptime = Number::Count(uptime_s);
    let mut list = vec![(
        "uptime".to_owned(),
        "Uptime of rtpengine",
        uptime,
        " seconds",
    )];
    list.extend(ends(calls));
    list.insert(
        2,
        count("rejectedsessions", "Total rejected sessions", rejected),
    );
    list.extend(relayed(sum));
    list.push(count(
        "zerowaystreams",
        "Total number of streams with no relayed packets",
        calls.zero_way,
    ));
    list.push(count(
        "onewaystreams",
        "Total number of 1-way streams",
        calls.one_way,
    ));
    list.extend(durations(calls));
    list
}

fn object(metrics: Vec<Metric>) -> Json {
    let pairs = metrics.into_iter().map(|(key, _, value, _)| match value {
        Number::Count(count) => (key, json!(count)),
        Number::Real(real) => (key, json!(real)),
    });
    Json::Object(pairs.collect())
}

/// Lines of the text: what it is, and its value.
fn lines(metrics: Vec<Metric>, width: usize) -> String {
    let line = |(_, label, value, unit): Metric| match value {
        Number::Count(count) => format!(" {label:<width$}:{count}{unit}\n"),
        Number::Real(real) => format!(" {label:<width$}:{real:.6}{unit}\n"),
    };
    metrics.into_iter().map(line).collect()
}

/// JSON as ng has it: it knows no fractions, so they are texts.
fn value(json: Json) -> Value<'static> {
    match json {
        Json::Number(number) => match number.as_i64() {
            Some(integer) => integer.into(),
            None => format!("{:.6}", number.as_f64().unwrap_or(0.0)).into(),
        },
        Json::String(text) => text.into(),
        Json::Array(list) => Value::List(list.into_iter().map(value).collect()),
        Json::Object(pairs) => Value::Dict(dict(pairs)),
        Json::Bool(_) | Json::Null => Value::Integer(0),
    }
}

fn dict(pairs: Map<String, Json>) -> Dict<'static> {
    pairs
        .into_iter()
        .map(|(key, json)| (key, value(json)))
        .collect()
}

impl Service {
    /// The answer to ng's `statistics`, under the key of that name.
    pub(crate) fn statistics(&self) -> Dict<'static> {
        let mut groups = self.groups();
        // As rtpengine has it in ng, not in its text.
        if let Some(total) = groups.get_mut("totalstatistics") {
            let uptime = total["uptime"].to_string();
            total["uptime"] = uptime.into();
        }
        dict(groups)
    }

    /// All of it as JSON, with numbers.
    pub(crate) fn groups(&self) -> Map<String, Json> {
        let overall = self.ratings.borrow().overall;
        let calls = self.statistics.calls.get();
        let groups = [
            ("currentstatistics", object(self.current())),
            ("totalstatistics", object(self.totals())),
            ("mos", object(mos(&overall))),
            ("voip_metrics", object(voip(&overall, &calls))),
            ("controlstatistics", self.statistics.clients_json()),
            ("interfaces", self.interfaces()),
            ("transcoders", json!([])),
        ];
        let named = groups.map(|(name, group)| (name.to_owned(), group));
        named.into_iter().collect()
    }

    fn current(&self) -> Vec<Metric> {
        let calls = self.calls.borrow().len();
        current(calls, &self.statistics.relayed.get())
    }

    fn totals(&self) -> Vec<Metric> {
        let errors = self.stats.errors();
        let refused = ["too-many-calls", "draining"].map(|name| errors.get(name).unwrap_or(&0));
        let relayed = self.statistics.relayed.get().total;
        totals(
            self.started.elapsed().as_secs(),
            refused.into_iter().sum(),
            &self.statistics.calls.get(),
            relayed,
        )
    }

    /// The answer to `list totals`.
    pub(crate) fn totals_text(&self) -> String {
        let overall = self.ratings.borrow().overall;
        format!(
            "\nStatistics over currently running sessions:\n\n{}\n\
             Total statistics (does not include current running sessions):\n\n{}\n\n\
             MOS statistics:\n\n{}\n\nControl statistics:\n\n{}\n",
            lines(self.current(), 48),
            lines(self.totals(), 48),
            lines(mos(&overall), 48),
            self.statistics.clients_text(),
        )
    }

    /// Per interface: its address and ports; a port is RTP's or RTCP's.
    fn interfaces(&self) -> Json {
        let calls = self.calls.borrow();
        let list = self.reloader.interfaces(|interface| {
            let mut ports = calls.ports();
            let found = ports.find(|(name, ..)| *name == interface.name);
            let (used, all) = found.map_or((0, 0), |(_, used, all)| (2 * used, 2 * all));
            json!({
                "name": interface.name,
                "address": interface.address.to_string(),
                "ports": {
                    "min": interface.ports.first, "max": interface.ports.last,
                    "used": used, "used_pct": 100.0 * used as f64 / all.max(1) as f64,
                    "free": all - used, "totals": all,
                },
            })
        });
        Json::Array(list)
    }
}
