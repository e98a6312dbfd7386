//! Reading the configuration again while streams stand: all of it takes effect, or nothing.
//!
//! Addresses come and go, gateways, neighbours, source lists, policing, learning and timers change; what
//! ports, workers and memory are made of takes a restart. Routes that stand are made anew in slices, the
//! heart beating in between.

use super::Steward;
use crate::addresses::{self, Local};
use crate::renewal::{self, Renewal};
use crate::rules;
use penstock_config::{Config, Port};
use penstock_shm::monotonic_ns;
use sd_notify::NotifyState;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;

/// Records whose routes are made anew between two heartbeats.
const SLICE: u32 = 4096;

/// The file, what of it is in force, and who asks for it to be read again.
pub struct Reloader {
    path: PathBuf,
    running: Config,
    /// By port.
    macs: Vec<[u8; 6]>,
    asks: UnixStream,
}

/// What a reload came to.
#[derive(Debug, Default, PartialEq, Eq)]
struct Changes {
    /// Keys that are in force now.
    changed: Vec<String>,
    /// Keys whose new value takes a restart.
    restart: Vec<String>,
    /// Whether routes have to be made anew.
    routes: bool,
}

impl Reloader {
    /// `asks` is readable, without blocking, when the file is to be read again.
    pub fn new(path: PathBuf, running: Config, macs: Vec<[u8; 6]>, asks: UnixStream) -> Reloader {
        Reloader {
            path,
            running,
            macs,
            asks,
        }
    }

    /// What becomes readable.
    pub(super) fn asks(&self) -> BorrowedFd<'_> {
        self.asks.as_fd()
    }

    /// Whether it was; several requests are one.
    pub(super) fn is_asked(&mut self) -> bool {
        let mut is_asked = false;
        while matches!(self.asks.read(&mut [0; 64]), Ok(count) if count > 0) {
            is_asked = true;
        }
        is_asked
    }
}

impl Steward {
    /// Reads the configuration again; tells systemd and the log.
    pub(super) fn reload(&mut self) {
        let begun = NotifyState::monotonic_usec_now().map(|now| [NotifyState::Reloading, now]);
        // Without systemd there is nobody to tell.
        let _ = begun.map(|states| sd_notify::notify(&states));
        match self.renew() {
            Ok(changes) => {
                tracing::info!(changed = ?changes.changed, "configuration reloaded");
                if !changes.restart.is_empty() {
                    tracing::warn!(keys = ?changes.restart, "these changes take a restart of the plane");
                }
            }
            Err(error) => tracing::error!("configuration not reloaded, nothing changed: {error}"),
        }
        let _ = sd_notify::notify(&[NotifyState::Ready]);
    }

    fn renew(&mut self) -> Result<Changes, String> {
        let now_ns = monotonic_ns();
        let new = Config::load(&self.reloader.path).map_err(|error| error.to_string())?;
        let changes = compare(&self.reloader.running, &new);
        let new = in_force(&self.reloader.running, new);
        let mut locals = addresses::locals(&new, &self.reloader.macs);
        self.check_unused(&locals, &new)?;
        let numbers = crate::number_addresses(self.streams.table(), &locals)
            .map_err(|error| error.to_string())?;

        let links = self.streams.links();
        links.regroup(&mut locals, now_ns);
        for key in crate::fixed(&self.reloader.running, &locals) {
            links.unfix(key, now_ns);
        }
        let fixed = crate::fix_neighbours(&new, &locals, links);
        let rules = Arc::new(rules::rules(&new));
        let by_number = addresses::by_number(&locals, &numbers);
        self.streams
            .renew(by_number, Arc::clone(&rules), rules::window(&new));
        self.watch.set(rules::timers(&new));
        let renewal = Renewal {
            rules,
            sides: renewal::sides(&new, &locals, &numbers, self.reloader.macs.len()),
            unknown_ports_per_s: new.sources.unknown_ports_per_s,
        };
        for worker in &self.queues.renewals {
            worker.force_push(renewal.clone());
        }
        self.notice.renewed();
        self.queues.wake();
        if changes.routes {
            self.reroute();
        }
        self.streams.disband(&locals, now_ns);
        self.announcements.again();
        self.locals = locals;
        self.reloader.running = new;
        // The numbers of next hops ran out: all else is in force.
        fixed.map_err(|error| error.to_string())?;
        Ok(changes)
    }

    /// An address that streams arrive at cannot go.
    fn check_unused(&self, new: &[Local], config: &Config) -> Result<(), String> {
        let same = |a: &Local, b: &Local| (a.ip, a.vlan, a.port) == (b.ip, b.vlan, b.port);
        let gone = self.streams.locals();
        let gone: Vec<(u16, &Local)> = gone
            .filter(|(_, local)| !new.iter().any(|n| same(n, local)))
            .collect();
        let numbers: Vec<u16> = gone.iter().map(|(number, _)| *number).collect();
        let counts = self.streams.count(&numbers);
        let used = gone.iter().zip(counts).find(|(_, count)| *count > 0);
        match used {
            None => Ok(()),
            Some(((_, local), count)) => Err(format!(
                "address {} (VLAN {}) of port \"{}\" cannot be removed while {count} streams use it",
                local.ip,
                local.vlan,
                config
                    .ports
                    .get(usize::from(local.port))
                    .map_or("", |port| &port.name)
            )),
        }
    }

    fn reroute(&mut self) {
        let capacity = self.streams.table().capacity();
        let mut fed_ns = monotonic_ns();
        for first in (0..capacity).step_by(SLICE as usize) {
            let now_ns = monotonic_ns();
            let end = first.saturating_add(SLICE).min(capacity);
            self.streams.reroute(first..end, now_ns);
            self.pulse.beat(now_ns);
            if now_ns - fed_ns > 1_000_000_000 {
                crate::health::feed_watchdog();
                fed_ns = now_ns;
            }
        }
    }
}

/// Whether two ports are made of the same, whatever their addresses and neighbours.
fn same_port(a: &Port, b: &Port) -> bool {
    let bare = |port: &Port| Port {
        addresses: Vec::new(),
        neighbours: Vec::new(),
        ..port.clone()
    };
    bare(a) == bare(b)
}

/// Which keys differ.
fn compare(old: &Config, new: &Config) -> Changes {
    let mut changes = Changes::default();
    let mut changed = |key: &str, same: bool| {
        if !same {
            changes.changed.push(key.to_owned());
        }
        !same
    };
    let same_names = names(old).eq(names(new));
    let ports = || old.ports.iter().zip(&new.ports).filter(|_| same_names);
    let addresses = changed(
        "[[port.address]]",
        ports().all(|(a, b)| a.addresses == b.addresses),
    );
    let neighbours = changed(
        "[[port.neighbour]]",
        ports().all(|(a, b)| a.neighbours == b.neighbours),
    );
    let sources = changed("[sources]", old.sources == new.sources);
    changed("[learning]", old.learning == new.learning);
    changed("[[police]]", old.police == new.police);
    changed("[timeouts]", old.timeouts == new.timeouts);
    changes.routes = addresses || neighbours || sources;
    if old.region != new.region {
        changes.restart.push("[region]".into());
    }
    if old.plane != new.plane {
        changes.restart.push("[plane]".into());
    }
    if !same_names {
        changes.restart.push("[[port]]".into());
    }
    for (a, b) in ports().filter(|(a, b)| !same_port(a, b)) {
        debug_assert_eq!(a.name, b.name);
        changes.restart.push(format!("[[port]] \"{}\"", a.name));
    }
    changes
}

fn names(config: &Config) -> impl Iterator<Item = &str> {
    config.ports.iter().map(|port| port.name.as_str())
}

/// The new configuration, but for what takes a restart.
fn in_force(old: &Config, new: Config) -> Config {
    let ports = match names(old).eq(names(&new)) {
        false => old.ports.clone(),
        true => {
            let pairs = old.ports.iter().zip(new.ports);
            let keep = |(old, new): (&Port, Port)| Port {
                addresses: new.addresses,
                neighbours: new.neighbours,
                ..old.clone()
            };
            pairs.map(keep).collect()
        }
    };
    Config {
        region: old.region.clone(),
        plane: old.plane.clone(),
        ports,
        ..new
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn config(edit: impl Fn(&str) -> String) -> Config {
        let text = "
            [[port]]
            name = \"a\"
            device = \"net_null0\"
            [[port.address]]
            address = \"198.18.0.1/24\"
            [[port]]
            name = \"b\"
            device = \"net_null1\"
            [[port.address]]
            address = \"198.18.1.1/24\"
            [[control.interface]]
            name = \"default\"
            address = \"198.18.0.1\"
            ports = \"16384-32767\"
            ";
        Config::parse(&edit(text), Path::new("test.toml")).unwrap()
    }

    #[test]
    fn what_takes_a_restart_is_named_and_stays() {
        let old = config(str::to_owned);
        assert_eq!(compare(&old, &old), Changes::default());
        let new = config(|text| {
            text.replace("\"net_null1\"", "\"net_null1\"\nmtu = 9000")
                .replace("198.18.1.1/24", "198.18.2.1/24")
                + "[plane]\ncores = [2]\n[learning]\nrelearn_s = 9\n"
        });
        let changes = compare(&old, &new);
        assert_eq!(changes.changed, ["[[port.address]]", "[learning]"]);
        assert_eq!(changes.restart, ["[plane]", "[[port]] \"b\""]);
        assert!(changes.routes);
        let kept = in_force(&old, new.clone());
        assert_eq!((kept.ports[1].mtu, &kept.plane), (1500, &old.plane));
        assert_eq!(kept.ports[1].addresses, new.ports[1].addresses);
        assert_eq!(kept.learning, new.learning);
        // What takes a restart is named again the next time.
        assert_eq!(compare(&kept, &new).restart, changes.restart);
        assert!(!compare(&kept, &new).routes);
    }

    #[test]
    fn other_ports_take_a_restart_with_their_addresses() {
        let old = config(str::to_owned);
        let new = config(|text| {
            text.replace("\"b\"", "\"c\"")
                .replace("198.18.1.1/24", "198.18.2.1/24")
        });
        let changes = compare(&old, &new);
        assert_eq!(changes.restart, ["[[port]]"]);
        assert_eq!(changes.changed, [""; 0]);
        assert_eq!(in_force(&old, new).ports, old.ports);
    }
}
