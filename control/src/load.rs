//! Whether the machine has too much to do for new calls.

use crate::service::Service;
use penstock_config::Limits;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;
use tokio::time::Instant;

/// How often it is looked at.
const INTERVAL: Duration = Duration::from_millis(500);

/// The limits, and which of them is exceeded.
#[derive(Default)]
pub(crate) struct Load {
    limits: RefCell<Limits>,
    exceeded: Cell<Option<&'static str>>,
}

impl Load {
    pub(crate) fn new(limits: &Limits) -> Load {
        Load {
            limits: RefCell::new(limits.clone()),
            exceeded: Cell::default(),
        }
    }

    pub(crate) fn configure(&self, limits: &Limits) {
        self.limits.replace(limits.clone());
    }

    /// Why no new call can be taken, in rtpengine's words.
    pub(crate) fn exceeded(&self) -> Option<&'static str> {
        self.exceeded.get()
    }

    /// Reads what there is, and judges what came since `before`: the last look, if there were limits then.
    fn look(
        &self,
        before: &mut Option<(Counters, Instant)>,
        read: impl FnOnce() -> (Counters, String),
    ) {
        if *self.limits.borrow() == Limits::default() {
            *before = None;
            return self.judge(&Seen::default());
        }
        let ((now, load), at) = (read(), Instant::now());
        if let Some((before, then)) = before.replace((now, at)) {
            self.judge(&seen(before, now, at - then, &load));
        }
    }

    /// Holds what was seen against the limits.
    fn judge(&self, seen: &Seen) {
        let limits = self.limits.borrow();
        let checks = [
            (
                limits.load > 0.0 && seen.load > limits.load,
                "Load limit exceeded",
            ),
            (
                limits.cpu_percent > 0.0 && seen.cpu_percent > limits.cpu_percent,
                "CPU usage limit exceeded",
            ),
            (
                limits.bytes_per_s > 0 && seen.bytes_per_s > limits.bytes_per_s,
                "Bandwidth limit exceeded",
            ),
        ];
        let now = checks
            .into_iter()
            .find_map(|(is_over, text)| is_over.then_some(text));
        match (self.exceeded.replace(now), now) {
            (None, Some(text)) => tracing::warn!("new calls are refused: {text}"),
            (Some(_), None) => tracing::info!("new calls are taken again"),
            _ => {}
        }
    }
}

/// What the machine does.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Seen {
    load: f64,
    cpu_percent: f64,
    bytes_per_s: u64,
}

/// Counters that only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Counters {
    busy: u64,
    all: u64,
    bytes: u64,
}

/// Looks for ever.
pub(crate) async fn run(service: Rc<Service>) {
    let mut before = Some((counters(&service), Instant::now()));
    loop {
        tokio::time::sleep(INTERVAL).await;
        service.load.look(&mut before, || {
            let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
            (counters(&service), load)
        });
    }
}

fn counters(service: &Service) -> Counters {
    let stat = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let (busy, all) = processor(&stat).unwrap_or_default();
    let ports = service.reloader.table().map(|table| table.ports());
    let bytes = ports.map_or(0, |ports| ports.iter().map(|port| port.ibytes).sum());
    Counters { busy, all, bytes }
}

/// Ticks in use and in all, of the first line of /proc/stat.
fn processor(stat: &str) -> Option<(u64, u64)> {
    let line = stat.lines().next()?.strip_prefix("cpu ")?;
    // user, nice, system, idle, iowait, irq, softirq, steal
    let ticks: Vec<u64> = line
        .split_whitespace()
        .take(8)
        .map_while(|word| word.parse().ok())
        .collect();
    let all: u64 = ticks.iter().sum();
    let idle: u64 = ticks.get(3..5)?.iter().sum();
    Some((all - idle, all))
}

fn seen(before: Counters, now: Counters, then: Duration, loadavg: &str) -> Seen {
    let load = loadavg.split(' ').next().and_then(|word| word.parse().ok());
    let ticks = now.all.saturating_sub(before.all).max(1);
    let bytes = now.bytes.saturating_sub(before.bytes);
    Seen {
        load: load.unwrap_or(0.0),
        cpu_percent: now.busy.saturating_sub(before.busy) as f64 * 100.0 / ticks as f64,
        bytes_per_s: (bytes as f64 / then.as_secs_f64().max(0.001)) as u64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_become_rates() {
        let stat = "cpu  10 0 20 60 5 0 3 2 0 0\ncpu0 1 2 3 4";
        assert_eq!(processor(stat), Some((35, 100)));
        let before = Counters {
            busy: 35,
            all: 100,
            bytes: 1000,
        };
        let now = Counters {
            busy: 65,
            all: 200,
            bytes: 3000,
        };
        let seen = seen(
            before,
            now,
            Duration::from_millis(500),
            "1.50 1.0 0.5 1/99 3\n",
        );
        let want = Seen {
            load: 1.5,
            cpu_percent: 30.0,
            bytes_per_s: 4000,
        };
        assert_eq!(seen, want);
        assert_eq!(processor("nonsense"), None);
    }

    #[test]
    fn what_passed_without_limits_counts_for_nothing() {
        let half = Limits {
            cpu_percent: 50.0,
            ..Limits::default()
        };
        let load = Load::new(&half);
        let mut before = None;
        let mut look = |busy, all| {
            let counters = Counters {
                busy,
                all,
                bytes: 0,
            };
            load.look(&mut before, || (counters, String::new()));
            load.exceeded()
        };
        assert_eq!(look(0, 0), None);
        assert_eq!(look(90, 100), Some("CPU usage limit exceeded"));
        load.configure(&Limits::default());
        assert_eq!(look(180, 200), None);
        assert_eq!(look(9000, 10_000), None);
        // It is idle since the reload.
        load.configure(&half);
        assert_eq!(look(9010, 10_100), None);
        assert_eq!(look(9020, 10_200), None);
        assert_eq!(look(9110, 10_300), Some("CPU usage limit exceeded"));
    }

    #[test]
    fn each_limit_has_its_sentence() {
        let seen = Seen {
            load: 2.0,
            cpu_percent: 50.0,
            bytes_per_s: 100,
        };
        let none = Limits::default();
        for (limits, want) in [
            (none.clone(), None),
            (
                Limits {
                    load: 2.0,
                    ..none.clone()
                },
                None,
            ),
            (
                Limits {
                    load: 1.9,
                    ..none.clone()
                },
                Some("Load limit exceeded"),
            ),
            (
                Limits {
                    cpu_percent: 40.0,
                    ..none.clone()
                },
                Some("CPU usage limit exceeded"),
            ),
            (
                Limits {
                    bytes_per_s: 99,
                    ..none
                },
                Some("Bandwidth limit exceeded"),
            ),
        ] {
            let load = Load::new(&limits);
            load.judge(&seen);
            assert_eq!(load.exceeded(), want, "{limits:?}");
        }
    }
}
