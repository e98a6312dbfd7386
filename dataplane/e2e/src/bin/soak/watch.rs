//! What must hold of the daemons from outside: their memory, their workers' sums, and that nothing is left at the end.

use crate::state::{State, Who};
use penstock_e2e::{Lab, Ng, offer_request, phone_at, sdp, wait_for};
use penstock_shm::TableView;
use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

/// So long after its start a daemon has what it needs: control keeps its answers for a minute, for requests that are
/// repeated.
pub fn warm(who: Who) -> Duration {
    Duration::from_secs(match who {
        Who::Plane => 8,
        Who::Control => 120,
    })
}

/// Longer than ports rest.
pub const REST: Duration = Duration::from_millis(2500);

/// Growth that is no leak: a twentieth, and so many KiB.
const SLACK_KIB: u64 = 4096;

/// A daemon's own memory while it lives, KiB: what it shares in the region has a fixed size.
pub struct Memory {
    who: Who,
    since: Instant,
    warm_kib: Option<u64>,
    last_kib: u64,
}

impl Memory {
    pub fn new(who: Who) -> Memory {
        Memory {
            who,
            since: Instant::now(),
            warm_kib: None,
            last_kib: 0,
        }
    }

    /// Looks at the process.
    pub fn look(&mut self, pid: u32) {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("RssAnon:"));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
        self.last_kib = kib.unwrap_or(self.last_kib);
        if self.since.elapsed() >= warm(self.who) {
            self.warm_kib.get_or_insert(self.last_kib);
        }
    }

    /// The memory it has, KiB.
    pub fn kib(&self) -> u64 {
        self.last_kib
    }

    /// How much it grew since it was warm, KiB, if it lived so long.
    pub fn check(&self, state: &State) -> Option<i64> {
        let warm = self.warm_kib?;
        if self.last_kib > warm + warm / 20 + SLACK_KIB {
            state.fail(format!(
                "{:?} grew from {warm} to {} KiB",
                self.who, self.last_kib
            ));
        }
        Some(self.last_kib as i64 - warm as i64)
    }
}

/// By how much each worker's counters (the last row is the steward's) miss what it received: what they show most often,
/// since a look may fall into a burst.
pub fn skew(table: &TableView) -> Vec<i64> {
    let mut seen: BTreeMap<Vec<i64>, u32> = BTreeMap::new();
    for _ in 0..100 {
        let workers = table.workers().into_iter().map(|w| {
            let drops: u64 = w.drops.iter().map(|(_, n)| n).sum();
            (w.rx + w.copied) as i64
                - (w.forwarded + w.consumed + w.handed_over + w.to_kernel + drops) as i64
        });
        *seen.entry(workers.collect()).or_default() += 1;
        std::thread::sleep(Duration::from_millis(1));
    }
    let most = seen.into_iter().max_by_key(|(_, times)| *times);
    most.map(|(skew, _)| skew).unwrap_or_default()
}

/// How many calls the port pool has room for: places calls until one is refused, and ends them all.
pub fn capacity(lab: &Lab, ng: &Ng) -> Result<u32, String> {
    let limit = Duration::from_secs(10);
    // Ports rest before they are given out again.
    std::thread::sleep(REST);
    let mut n = 0;
    let refused = loop {
        let request = offer_request(&format!("room-{n}"), &sdp(phone_at(2000)));
        match ng.signal(&request, limit) {
            Ok(_) => n += 1,
            Err(why) => break why,
        }
    };
    for n in 0..n {
        let reply = ng.delete(&format!("room-{n}"));
        if reply["result"] != "ok" {
            return Err(format!("call room-{n} could not be ended: {reply}"));
        }
    }
    if !refused.contains("port") {
        return Err(format!("call room-{n} was refused: {refused}"));
    }
    empty(lab, ng)?;
    Ok(n)
}

/// Waits until no call, stream or record is left anywhere.
pub fn empty(lab: &Lab, ng: &Ng) -> Result<(), String> {
    let table = lab.table();
    let mut left = String::new();
    let gone = wait_for(Duration::from_secs(60), || {
        let (counts, calls) = (table.info().counts, ng.list().len());
        let records = table.iter().count();
        left = format!("{calls} calls, {records} records, {counts:?}");
        calls == 0 && records == 0 && counts.live == 0 && counts.ended == 0
    });
    let shown = ["calls", "streams"].map(|what| lab.penstock_json(what));
    match gone
        && shown
            .iter()
            .all(|list| list.as_array().is_some_and(Vec::is_empty))
    {
        true => Ok(()),
        false => Err(format!("left over: {left}")),
    }
}
