//! Who has come to a stand: workers that no longer turn, ports whose link has changed, and systemd, which
//! wants to hear that all goes well.
//!
//! A worker turns its loop at least every 100 ms, asleep or not. One that has not for a second hangs:
//! that is said once, and again when it goes on. While one hangs, systemd hears nothing, so a unit with
//! `WatchdogSec` is restarted, and the next plane resumes every stream.

use crate::ports::Opened;
use penstock_shm::counters::{MAX_PORTS, PortCounters};
use penstock_shm::{Event, TableWriter, Turns};
use std::time::Duration;

/// How long a worker may stand still.
const HANGS_NS: u64 = 1_000_000_000;
/// How often ports are asked for their link and counters.
const PORTS_NS: u64 = 1_000_000_000;
/// The most that counts of the time between two looks: if the steward was not there to look, neither, perhaps,
/// were the workers.
const LOOK_NS: u64 = 200_000_000;

/// Something that has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// A worker hangs, or goes on.
    Worker {
        /// Its number.
        worker: usize,
        /// Whether it hangs.
        hangs: bool,
    },
    /// A port's link went up or down, or was down from the start.
    Port {
        /// Its index.
        port: usize,
        /// Whether it is up.
        up: bool,
    },
}

/// What was seen of workers and ports.
pub struct Signs {
    workers: Vec<Seen>,
    links: Vec<Option<bool>>,
    looked_ns: u64,
    ports_ns: u64,
    watchdog: Option<Watchdog>,
}

struct Seen {
    turns: u64,
    still_ns: u64,
    /// Whether it has turned since systemd was told.
    has_turned: bool,
}

struct Watchdog {
    every_ns: u64,
    due_ns: u64,
}

impl Signs {
    /// Over so many workers and ports; `watchdog` is the time that systemd waits for a sign.
    pub fn new(workers: usize, ports: usize, watchdog: Option<Duration>, now_ns: u64) -> Signs {
        let seen = || Seen {
            turns: 0,
            still_ns: 0,
            has_turned: false,
        };
        Signs {
            workers: (0..workers).map(|_| seen()).collect(),
            links: vec![None; ports],
            looked_ns: now_ns,
            ports_ns: now_ns,
            watchdog: watchdog.map(|limit| Watchdog {
                every_ns: limit.as_nanos() as u64 / 2,
                due_ns: now_ns,
            }),
        }
    }

    /// Compares how often each worker has turned with the last time.
    pub fn workers(&mut self, now_ns: u64, turns: impl Iterator<Item = u64>) -> Vec<Change> {
        let passed = (now_ns - self.looked_ns).min(LOOK_NS);
        self.looked_ns = now_ns;
        let mut changes = Vec::new();
        for (worker, (seen, turns)) in self.workers.iter_mut().zip(turns).enumerate() {
            let hung = seen.still_ns >= HANGS_NS;
            if turns == seen.turns {
                seen.still_ns = seen.still_ns.saturating_add(passed);
            } else {
                seen.turns = turns;
                seen.still_ns = 0;
                seen.has_turned = true;
            }
            let hangs = seen.still_ns >= HANGS_NS;
            if hangs != hung {
                changes.push(Change::Worker { worker, hangs });
            }
        }
        changes
    }

    /// Whether it is time to look at the ports.
    pub fn ports_are_due(&mut self, now_ns: u64) -> bool {
        let due = now_ns >= self.ports_ns;
        if due {
            self.ports_ns = now_ns + PORTS_NS;
        }
        due
    }

    /// Compares each port's link with the last time; a driver that cannot say gives none.
    pub fn links(&mut self, links: impl Iterator<Item = Option<bool>>) -> Vec<Change> {
        let mut changes = Vec::new();
        for (port, (seen, up)) in self.links.iter_mut().zip(links).enumerate() {
            let Some(up) = up else { continue };
            // That it is up at first is no news.
            if seen.unwrap_or(true) != up {
                changes.push(Change::Port { port, up });
            }
            *seen = Some(up);
        }
        changes
    }

    /// Whether systemd is to hear that all goes well: at half the time it would wait, once every worker has
    /// turned since it last heard.
    pub fn all_is_well(&mut self, now_ns: u64) -> bool {
        let Some(watchdog) = &mut self.watchdog else {
            return false;
        };
        if now_ns < watchdog.due_ns || !self.workers.iter().all(|seen| seen.has_turned) {
            return false;
        }
        watchdog.due_ns = now_ns + watchdog.every_ns;
        self.workers
            .iter_mut()
            .for_each(|seen| seen.has_turned = false);
        true
    }
}

/// The workers and ports that the steward looks at.
pub struct Health<'a> {
    signs: Signs,
    turns: Vec<Turns>,
    cpus: Vec<usize>,
    ports: &'a [Opened],
    /// How many of them, the first, are in the configuration's order.
    media: usize,
}

impl<'a> Health<'a> {
    /// The workers, with their CPUs, and the ports, of which the first `media` are in the configuration's order and
    /// are looked at.
    pub fn new(
        turns: Vec<Turns>,
        cpus: Vec<usize>,
        ports: &'a [Opened],
        media: usize,
        now_ns: u64,
    ) -> Self {
        let watchdog = sd_notify::watchdog_enabled();
        Health {
            signs: Signs::new(turns.len(), media, watchdog, now_ns),
            turns,
            cpus,
            ports,
            media,
        }
    }

    /// Whether a port's link is up now; a driver that cannot say is taken at its best.
    pub fn link_up(&self, port: usize) -> bool {
        let up = |port: &Opened| port.port().link_up().unwrap_or(true);
        self.ports.get(port).is_none_or(up)
    }

    /// Looks, logs, tells systemd, and writes the ports' counters into the table; returns what has changed.
    pub fn look(&mut self, now_ns: u64, table: &TableWriter) -> Vec<Change> {
        let turns = self.turns.iter().map(Turns::get);
        let mut changes = self.signs.workers(now_ns, turns);
        if self.signs.ports_are_due(now_ns) {
            let mut links = Vec::new();
            for number in 0..MAX_PORTS {
                match (table.port(number), self.ports[..self.media].get(number)) {
                    (Some(counters), Some(port)) => links.push(count(counters, port)),
                    // A former plane may have had more.
                    (Some(counters), None) => counters.link.set(link::NONE),
                    (None, _) => {}
                }
            }
            changes.extend(self.signs.links(links.into_iter()));
        }
        for change in &changes {
            self.log(*change);
        }
        if self.signs.all_is_well(now_ns) {
            feed_watchdog();
        }
        changes
    }

    fn log(&self, change: Change) {
        match change {
            Change::Worker {
                worker,
                hangs: true,
            } => tracing::error!(
                worker,
                cpu = self.cpus[worker],
                "the worker has not moved for a second: packets that come to it wait"
            ),
            Change::Worker { worker, .. } => {
                tracing::warn!(worker, cpu = self.cpus[worker], "the worker goes on");
            }
            Change::Port { port, up: true } => {
                tracing::info!(port = self.ports[port].name, "the port's link is up");
            }
            Change::Port { port, .. } => {
                tracing::warn!(port = self.ports[port].name, "the port's link is down");
            }
        }
    }
}

/// Tells systemd that all is well; also for who keeps the steward at long but bounded work.
pub fn feed_watchdog() {
    if sd_notify::watchdog_enabled().is_none() {
        return;
    }
    // A failure is systemd's to notice.
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Watchdog]);
}

/// Values of [`PortCounters::link`].
mod link {
    pub(super) const NONE: u64 = 0;
    pub(super) const DOWN: u64 = 1;
    pub(super) const UP: u64 = 2;
}

/// Writes a port's state and counters; returns whether its link is up. A driver that cannot say is taken to be up
/// in the table; one that does not count leaves zeroes.
fn count(counters: &PortCounters, port: &Opened) -> Option<bool> {
    let up = port.port().link_up().ok();
    let is_down = up == Some(false);
    counters
        .link
        .set(if is_down { link::DOWN } else { link::UP });
    let Ok(stats) = port.port().stats() else {
        return up;
    };
    counters.ipackets.set(stats.ipackets);
    counters.opackets.set(stats.opackets);
    counters.ibytes.set(stats.ibytes);
    counters.obytes.set(stats.obytes);
    counters.imissed.set(stats.imissed);
    counters.ierrors.set(stats.ierrors);
    counters.oerrors.set(stats.oerrors);
    counters.rx_nombuf.set(stats.rx_nombuf);
    up
}

impl From<Change> for Event {
    fn from(change: Change) -> Event {
        match change {
            Change::Worker { worker, hangs } => Event::Worker {
                worker: worker as u16,
                hangs,
            },
            Change::Port { port, up } => Event::Port {
                port: port as u16,
                up,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn hangs(worker: usize, hangs: bool) -> Vec<Change> {
        vec![Change::Worker { worker, hangs }]
    }

    #[test]
    fn a_worker_that_stands_still_is_named_once_and_once_when_it_goes_on() {
        let mut signs = Signs::new(2, 0, None, 0);
        let mut look = |ms: u64, turns: [u64; 2]| signs.workers(ms * MS, turns.into_iter());
        assert_eq!(look(100, [1, 1]), []);
        for n in 1..10 {
            assert_eq!(look(100 + n * 100, [1, 1 + n]), [], "{n}");
        }
        assert_eq!(look(1100, [1, 20]), hangs(0, true));
        assert_eq!(look(1200, [1, 21]), []);
        assert_eq!(look(1300, [2, 22]), hangs(0, false));
        assert_eq!(look(1400, [3, 23]), []);
    }

    #[test]
    fn a_steward_that_slept_accuses_nobody() {
        let mut signs = Signs::new(1, 0, None, 0);
        assert_eq!(signs.workers(100 * MS, [1].into_iter()), []);
        assert_eq!(signs.workers(60_000 * MS, [1].into_iter()), []);
        assert_eq!(signs.workers(60_050 * MS, [2].into_iter()), []);
    }

    #[test]
    fn systemd_hears_of_it_only_if_all_workers_turn() {
        let mut signs = Signs::new(2, 0, Some(Duration::from_secs(2)), 0);
        assert!(!signs.all_is_well(0), "nobody has turned yet");
        signs.workers(100 * MS, [1, 1].into_iter());
        assert!(signs.all_is_well(100 * MS));
        signs.workers(200 * MS, [2, 2].into_iter());
        assert!(!signs.all_is_well(200 * MS), "too soon");
        assert!(signs.all_is_well(1100 * MS));
        signs.workers(1200 * MS, [3, 2].into_iter());
        assert!(!signs.all_is_well(9000 * MS), "one stands still");
        signs.workers(9100 * MS, [3, 3].into_iter());
        assert!(signs.all_is_well(9100 * MS));
        let mut without = Signs::new(0, 0, None, 0);
        assert!(!without.all_is_well(1));
    }

    #[test]
    fn a_link_is_news_when_it_changes_or_is_down_at_first() {
        let mut signs = Signs::new(0, 3, None, 0);
        let mut look = |links: [Option<bool>; 3]| signs.links(links.into_iter());
        let port = |port, up| Change::Port { port, up };
        assert_eq!(look([Some(true), Some(false), None]), [port(1, false)]);
        assert_eq!(look([Some(true), Some(false), None]), []);
        assert_eq!(
            look([Some(false), Some(true), None]),
            [port(0, false), port(1, true)]
        );
        assert_eq!(look([None, None, None]), []);
        assert_eq!(look([Some(true), Some(true), Some(true)]), [port(0, true)]);
    }
}
