//! Reading the configuration again while calls stand: all of it takes effect, or nothing. Only then is the call records'
//! file opened anew.

use crate::daemon::settings;
use crate::front::Gate;
use crate::service::Service;
use crate::{ageing, quality};
use penstock_config::{Config, Interface};
use penstock_shm::{RegionError, TableView};
use sd_notify::NotifyState;
use serde::Serialize;
use std::cell::RefCell;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

/// The file, and what of it is in force.
pub(crate) struct Reloader {
    path: PathBuf,
    running: RefCell<Config>,
    /// `running` before anything was set.
    read: RefCell<Config>,
    gate: Arc<Gate>,
}

/// What a reload came to.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Reloaded {
    /// Keys that are in force now.
    changed: Vec<&'static str>,
    /// Keys whose new value takes a restart of control.
    restart: Vec<&'static str>,
}

impl Reloader {
    pub(crate) fn new(path: PathBuf, config: &Config) -> Reloader {
        Reloader {
            path,
            running: RefCell::new(config.clone()),
            read: RefCell::new(config.clone()),
            gate: Arc::new(Gate::new(&config.control, Instant::now())),
        }
    }

    /// Who may ask, as is in force.
    pub(crate) fn gate(&self) -> &Arc<Gate> {
        &self.gate
    }

    /// The region's table, to be read.
    pub(crate) fn table(&self) -> Result<TableView, RegionError> {
        TableView::open(&self.running.borrow().region.dir)
    }

    /// Reads the file and acts on what changed; tells systemd and the log.
    ///
    /// # Errors
    /// What is wrong with it, or which calls stand in its way: nothing has changed then. Or that the configuration is in
    /// force, but the call records' file was not opened anew.
    pub(crate) fn reload(&self, service: &Service) -> Result<Reloaded, String> {
        let begun = NotifyState::monotonic_usec_now().map(|now| [NotifyState::Reloading, now]);
        // Without systemd there is nobody to tell.
        let _ = begun.map(|states| sd_notify::notify(&states));
        let outcome = self.apply(service);
        let _ = sd_notify::notify(&[NotifyState::Ready]);
        match &outcome {
            Ok(done) => {
                tracing::info!(changed = ?done.changed, "configuration reloaded");
                if !done.restart.is_empty() {
                    tracing::warn!(keys = ?done.restart, "these changes take a restart of control");
                }
            }
            Err(error) => tracing::error!("configuration not reloaded, nothing changed: {error}"),
        }
        let done = outcome?;
        let reopened = service.records.reopen();
        reopened.inspect_err(|error| tracing::error!("{error}"))?;
        Ok(done)
    }

    /// What `what` makes of each interface in force.
    pub(crate) fn interfaces<T>(&self, what: impl Fn(&Interface) -> T) -> Vec<T> {
        let running = self.running.borrow();
        running.control.interfaces.iter().map(what).collect()
    }

    /// What is in force.
    pub(crate) fn running<T>(&self, what: impl FnOnce(&Config) -> T) -> T {
        what(&self.running.borrow())
    }

    /// Puts what `edit` changes into force, until the next reload or restart.
    ///
    /// # Errors
    /// Which calls stand in its way. Nothing has changed then.
    pub(crate) fn change(
        &self,
        service: &Service,
        edit: impl FnOnce(&mut Config),
    ) -> Result<(), String> {
        let mut new = self.running.borrow().clone();
        edit(&mut new);
        self.put(service, new).map(drop)
    }

    /// What `what` makes of the configuration as it was read, and of what is in force.
    pub(crate) fn both<T>(&self, what: impl Fn(&Config) -> T) -> [T; 2] {
        [what(&self.read.borrow()), what(&self.running.borrow())]
    }

    /// Takes back what was set since the configuration was read.
    ///
    /// # Errors
    /// As [`Reloader::change`].
    pub(crate) fn revert(&self, service: &Service) -> Result<(), String> {
        let read = self.read.borrow().clone();
        self.put(service, read).map(drop)
    }

    fn apply(&self, service: &Service) -> Result<Reloaded, String> {
        let new = Config::load(&self.path).map_err(|error| error.to_string())?;
        let done = self.put(service, new)?;
        self.read.replace(self.running.borrow().clone());
        Ok(done)
    }

    fn put(&self, service: &Service, new: Config) -> Result<Reloaded, String> {
        let mut running = self.running.borrow_mut();
        let done = compare(&running, &new);
        let wanted = settings(&new.control);
        let mut calls = service.calls.borrow_mut();
        calls.configure(wanted).map_err(|held| held.to_string())?;
        self.gate.configure(&new.control);
        service.load.configure(&new.limits);
        service.timeouts.set(ageing::timeouts(&new.timeouts));
        let rule = quality::Rule::new(&new.quality);
        if service.quality.replace(rule) != rule {
            service.quality_changed.notify_one();
        }
        *running = in_force(&running, new);
        service.link.police(&running.police);
        // The plane may have been given addresses, and streams may want something else.
        service.link.resync();
        Ok(done)
    }
}

/// Which keys differ.
fn compare(old: &Config, new: &Config) -> Reloaded {
    let (a, b) = (&old.control, &new.control);
    let differing = |keys: &[(&'static str, bool)]| {
        let differ = keys.iter().filter(|(_, same)| !same);
        differ.map(|(key, _)| *key).collect()
    };
    Reloaded {
        changed: differing(&[
            ("[[control.interface]]", a.interfaces == b.interfaces),
            ("[control] max_calls", a.max_calls == b.max_calls),
            ("[control] port_rest_s", a.port_rest_s == b.port_rest_s),
            ("[control] allow", a.allow == b.allow),
            (
                "[control] requests_per_s",
                a.requests_per_s == b.requests_per_s,
            ),
            ("[timeouts]", old.timeouts == new.timeouts),
            (
                "[control] delete_delay_s",
                a.delete_delay_s == b.delete_delay_s,
            ),
            ("[quality]", old.quality == new.quality),
            ("[limits]", old.limits == new.limits),
            ("[templates]", old.templates == new.templates),
            ("[[police]]", old.police == new.police),
        ]),
        restart: differing(&[
            ("[region]", old.region == new.region),
            ("[control] ng", a.ng == b.ng),
            ("[control] ng_tcp", a.ng_tcp == b.ng_tcp),
            ("[control] http", a.http == b.http),
            ("[control] socket", a.socket == b.socket),
            ("[control] store", a.store == b.store),
            ("[control] core", a.core == b.core),
            ("[control] cdr", a.cdr == b.cdr),
        ]),
    }
}

/// The new configuration, but for what takes a restart.
fn in_force(old: &Config, new: Config) -> Config {
    let kept = &old.control;
    Config {
        region: old.region.clone(),
        control: penstock_config::Control {
            ng: kept.ng.clone(),
            ng_tcp: kept.ng_tcp.clone(),
            http: kept.http.clone(),
            socket: kept.socket.clone(),
            store: kept.store.clone(),
            core: kept.core,
            cdr: kept.cdr.clone(),
            ..new.control
        },
        ..new
    }
}
