//! What Prometheus reads: `penstock status --json` and the workers' counters as its text format has them.

use crate::service::Service;
use crate::socket;
use penstock_shm::TableView;
use penstock_shm::counters::Drop;
use serde_json::Value;
use std::fmt::{Display, Write};

/// The page.
pub(super) fn page(service: &Service) -> String {
    let mut page = Page(String::new());
    control(&mut page, &socket::stats(service));
    if let Ok(table) = service.reloader.table() {
        plane(&mut page, &table);
    }
    page.0
}

fn control(page: &mut Page, stats: &Value) {
    let is = |name: &str, word: &str| i32::from(stats[name] == word);
    page.gauge("calls", "Calls that stand.", &stats["calls"]);
    page.gauge(
        "calls_one_way",
        "Calls whose media flows one way only.",
        &stats["one_way"],
    );
    page.gauge("streams_poor", "Streams that sound poor.", &stats["poor"]);
    let draining = i32::from(stats["draining"] == true);
    page.gauge("draining", "1 while new calls are refused.", draining);
    page.gauge(
        "plane_online",
        "1 while control holds the media plane.",
        is("plane", "online"),
    );
    page.gauge(
        "uptime_seconds",
        "Since control started.",
        &stats["uptime_s"],
    );
    for (name, help, label) in [
        ("requests", "ng requests, and retransmissions.", "command"),
        ("errors", "What went wrong.", "reason"),
        (
            "ageing",
            "Calls that ended by themselves, and what was seen of media.",
            "reason",
        ),
        (
            "link",
            "What passed between control and the media plane.",
            "event",
        ),
    ] {
        page.head(&format!("{name}_total"), help, "counter");
        for (key, count) in object(&stats[name]) {
            page.line(&format!("{name}_total"), &[(label, key)], count);
        }
    }
    page.head(
        "transport_total",
        "What happened on the ways in.",
        "counter",
    );
    for (transport, counts) in object(&stats["transports"]) {
        for (event, count) in object(counts) {
            let labels = [("transport", transport.as_str()), ("event", event)];
            page.line("transport_total", &labels, count);
        }
    }
    page.head(
        "port_pairs",
        "Pairs of ports: in use, and all there are.",
        "gauge",
    );
    for (interface, pairs) in object(&stats["ports"]) {
        for (state, count) in object(pairs) {
            let labels = [("interface", interface.as_str()), ("state", state)];
            page.line("port_pairs", &labels, count);
        }
    }
}

fn plane(page: &mut Page, table: &TableView) {
    let (info, workers) = (table.info(), table.workers());
    page.head("streams", "Records of the stream table.", "gauge");
    let counts = info.counts;
    for (state, count) in [
        ("live", counts.live),
        ("ended", counts.ended),
        ("free", counts.free),
    ] {
        page.line("streams", &[("state", state)], count);
    }
    let totals = |of: fn(&penstock_shm::WorkerStat) -> u64| workers.iter().map(of).sum::<u64>();
    page.head(
        "packets_total",
        "Packets: received, sent on, kept for ourselves.",
        "counter",
    );
    for (what, count) in [
        ("received", totals(|worker| worker.rx)),
        ("forwarded", totals(|worker| worker.forwarded)),
        ("consumed", totals(|worker| worker.consumed)),
    ] {
        page.line("packets_total", &[("what", what)], count);
    }
    page.head("drops_total", "Packets dropped, by reason.", "counter");
    for reason in Drop::ALL {
        let drops = workers.iter().flat_map(|worker| &worker.drops);
        let count: u64 = drops
            .filter(|(r, _)| r == reason)
            .map(|(_, count)| count)
            .sum();
        page.line("drops_total", &[("reason", reason.name())], count);
    }
}

fn object(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

struct Page(String);

impl Page {
    fn head(&mut self, name: &str, help: &str, kind: &str) {
        let text = format!("# HELP penstock_{name} {help}\n# TYPE penstock_{name} {kind}\n");
        self.0.push_str(&text);
    }

    fn gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.head(name, help, "gauge");
        self.line(name, &[], value);
    }

    fn line(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        let labels = labels.iter().map(|(label, value)| {
            let value = value
                .replace('\\', "\\\\")
                .replace('"', "\\\"")
                .replace('\n', "\\n");
            format!("{label}=\"{value}\"")
        });
        let labels = labels.collect::<Vec<_>>().join(",");
        let labels = if labels.is_empty() {
            labels
        } else {
            format!("{{{labels}}}")
        };
        // A String takes whatever there is memory for.
        let _ = writeln!(self.0, "penstock_{name}{labels} {value}");
    }
}
