//! Streams as the region shows them, with Call-IDs where control knows them.

use super::detail::Detail;
use super::{CliError, client};
use penstock_config::Config;
use penstock_shm::{Kind, PlaneState, StreamStat, TableView, WorkerStat};
use serde::Serialize;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

/// One stream. Times in seconds, jitter in ms, loss in packets.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Row {
    /// Call-ID, if control could be asked.
    pub(super) call_id: Option<String>,
    /// What the region calls the call.
    pub(super) call: u64,
    pub(super) leg: u16,
    pub(super) media: u16,
    pub(super) kind: &'static str,
    pub(super) local: String,
    pub(super) remote: Option<SocketAddr>,
    /// Whether the remote was learned from a packet.
    pub(super) learned: bool,
    pub(super) gate_open: bool,
    pub(super) peer: String,
    pub(super) packets: u64,
    pub(super) bytes: u64,
    pub(super) dropped: u32,
    pub(super) lost: i64,
    pub(super) received: u32,
    pub(super) jitter_ms: f64,
    pub(super) age_s: f64,
    /// Since the last packet; none before the first.
    pub(super) silent_s: Option<f64>,
    pub(super) detail: Detail,
    /// The record: tells two streams at one endpoint apart.
    #[serde(skip)]
    pub(super) id: (u32, u32),
}

impl Row {
    /// The call as a person knows it.
    pub(super) fn call_name(&self) -> String {
        self.call_id
            .clone()
            .unwrap_or_else(|| format!("#{}", self.call))
    }

    /// Loss in percent of what should have come.
    pub(super) fn loss_percent(&self) -> f64 {
        let lost = self.lost.max(0) as f64;
        let expected = f64::from(self.received) + lost;
        if expected > 0.0 {
            lost * 100.0 / expected
        } else {
            0.0
        }
    }
}

/// Name of the steward's row among those of the workers.
pub(super) const STEWARD: &str = "steward";

/// An open region and what is needed to name what is in it.
pub(super) struct Region<'a> {
    pub(super) table: TableView,
    config: &'a Config,
}

impl<'a> Region<'a> {
    pub(super) fn open(config: &'a Config) -> Result<Region<'a>, CliError> {
        let table = TableView::open(&config.region.dir).map_err(CliError::new)?;
        Ok(Region { table, config })
    }

    /// What a person should know of where the numbers come from.
    pub(super) fn remarks(&self, rows: &[Row]) -> Vec<&'static str> {
        let mut remarks = Vec::new();
        match self.table.plane_state() {
            PlaneState::Running => {}
            PlaneState::Still => {
                remarks.push("the media plane stands still; these are its last counts");
            }
            PlaneState::Gone => {
                remarks.push("the media plane is not running; these are its last counts");
            }
        }
        if rows.iter().any(|row| row.call_id.is_none()) {
            remarks
                .push("penstock-control does not name every call; #N is the region's number of it");
        }
        remarks
    }

    /// The counters of each worker and, last, of the steward; with their names. The steward counts
    /// what the workers hand it, which they have counted as received before.
    pub(super) fn workers(&self) -> Vec<(String, WorkerStat)> {
        let mut rows: Vec<_> = self
            .table
            .workers()
            .into_iter()
            .map(|stat| (stat.number.to_string(), stat))
            .collect();
        if let Some((name, _)) = rows.last_mut() {
            *name = STEWARD.to_owned();
        }
        rows
    }

    /// The live streams, by call, leg, media and kind.
    pub(super) fn rows(&self) -> Vec<Row> {
        let names = client::names(self.config).unwrap_or_default();
        let ips: HashMap<u16, IpAddr> = self
            .table
            .addresses()
            .into_iter()
            .map(|address| (address.number, address.entry.ip))
            .collect();
        let now_ns = penstock_shm::monotonic_ns();
        let live = self.table.iter().filter(|stat| !stat.ended);
        let mut rows: Vec<Row> = live.map(|stat| row(&stat, &names, &ips, now_ns)).collect();
        rows.sort_by(|a, b| {
            let key = |row: &Row| (row.call, row.media, row.leg, row.kind != "rtp");
            key(a).cmp(&key(b)).then_with(|| a.local.cmp(&b.local))
        });
        rows
    }
}

fn row(
    stat: &StreamStat,
    names: &HashMap<u64, String>,
    ips: &HashMap<u16, IpAddr>,
    now_ns: u64,
) -> Row {
    let place = |endpoint: penstock_shm::Endpoint| match ips.get(&endpoint.addr) {
        Some(ip) => SocketAddr::new(*ip, endpoint.port).to_string(),
        None => format!("?{}:{}", endpoint.addr, endpoint.port),
    };
    let since_s = |then_ns: u64| now_ns.saturating_sub(then_ns) as f64 / 1e9;
    let (policy, meter) = (&stat.policy, &stat.meter);
    Row {
        call_id: names.get(&stat.call).cloned(),
        call: stat.call,
        leg: policy.leg,
        media: policy.media.into(),
        kind: match policy.kind {
            Kind::Rtp => "rtp",
            Kind::Rtcp => "rtcp",
            Kind::Raw => "raw",
        },
        local: place(stat.endpoint),
        remote: policy.remote,
        learned: policy.latched,
        gate_open: policy.gate_open,
        // Port 0 stands for nobody.
        peer: match policy.peer_endpoint.port {
            0 => "-".to_owned(),
            _ => place(policy.peer_endpoint),
        },
        packets: meter.packets,
        bytes: meter.bytes,
        dropped: meter.dropped,
        lost: meter.lost,
        received: meter.received,
        jitter_ms: meter.jitter_ms,
        age_s: since_s(stat.created_ns),
        silent_s: (meter.last_seen_ns > 0).then(|| since_s(meter.last_seen_ns)),
        detail: Detail::of(stat),
        id: (stat.number, stat.generation),
    }
}
