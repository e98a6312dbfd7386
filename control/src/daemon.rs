//! Starting, running and stopping the daemon.

use crate::front::{Front, Sockets};
use crate::link::Link;
use crate::load::{self, Load};
use crate::records::Records;
use crate::reload::Reloader;
use crate::service::{Service, now};
use crate::statistics::{self, Statistics};
use crate::stats::Stats;
use crate::store::{Store, StoreError, Stored};
use crate::{ageing, quality, service, socket};
use penstock_config::{Config, Control};
use penstock_media::{Calls, Interface, Restore, Settings};
use std::cell::{Cell, RefCell};
use std::io;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::signal::unix::{SignalKind, signal};

/// Why control could not start, or cannot go on: one sentence.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct DaemonError(String);

impl DaemonError {
    fn new(text: impl ToString) -> DaemonError {
        DaemonError(text.to_string())
    }
}

/// Runs control until SIGTERM or SIGINT. Media goes on afterwards. SIGHUP has it read its
/// configuration again from `path`.
///
/// # Errors
/// [`DaemonError`]: what is wrong and how to mend it.
pub fn run(config: &Config, path: &Path) -> Result<(), DaemonError> {
    pin(config);
    // A page of 2 MiB is cleared in one go, and whoever asks meanwhile waits.
    if let Err(error) = rustix::thread::disable_transparent_huge_pages(true) {
        tracing::warn!("cannot do without huge pages: {error}");
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| DaemonError(format!("cannot start: {error}")))?;
    tokio::task::LocalSet::new().block_on(&runtime, serve(config, path))
}

fn loop_mark() -> Result<String, DaemonError> {
    let word: Option<[u8; 16]> = crate::wishes::random_word();
    let word = word.ok_or_else(|| DaemonError::new("the kernel gives no random numbers"))?;
    Ok(String::from_utf8_lossy(&word).into_owned())
}

async fn serve(config: &Config, path: &Path) -> Result<(), DaemonError> {
    let control = &config.control;
    let mut terminate = signal(SignalKind::terminate()).map_err(DaemonError::new)?;
    let mut hangup = signal(SignalKind::hangup()).map_err(DaemonError::new)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(DaemonError::new)?;

    let link = Rc::new(Link::new(config.region.dir.clone()));
    link.police(&config.police);
    let bell = link.attach().map_err(DaemonError::new)?;
    let (store, stored) = open_store(&control.store).await?;
    let sockets = Sockets::bind(control).map_err(DaemonError)?;
    let cli = socket::bind(&control.socket, config.region.group).map_err(|error| {
        let path = control.socket.display();
        match error.kind() {
            io::ErrorKind::AddrInUse => DaemonError(format!(
                "another penstock-control answers at [control] socket {path}"
            )),
            _ => DaemonError(format!("cannot bind [control] socket {path}: {error}")),
        }
    })?;

    let records = Records::start(control.cdr.as_deref()).map_err(|error| {
        let path = control.cdr.as_deref().unwrap_or(Path::new(""));
        DaemonError(format!(
            "cannot open [control] cdr {}: {error}",
            path.display()
        ))
    })?;

    let (calls, lost) = restore(control, stored);
    tracing::info!(calls = calls.len(), ng = ?control.ng, "control is ready");
    let service = Rc::new(Service {
        calls: RefCell::new(calls),
        link: link.clone(),
        store: store.clone(),
        stats: Stats::default(),
        started: Instant::now(),
        lanes: Rc::default(),
        timeouts: Cell::new(ageing::timeouts(&config.timeouts)),
        one_way: RefCell::default(),
        quality: Cell::new(quality::Rule::new(&config.quality)),
        quality_changed: tokio::sync::Notify::new(),
        started_ns: penstock_shm::monotonic_ns(),
        ratings: RefCell::default(),
        reloader: Reloader::new(path.into(), config),
        loop_mark: loop_mark()?,
        load: Load::new(&config.limits),
        statistics: Statistics::default(),
        records,
    });
    let wanted = service.clone();
    let desired = Box::new(move || {
        let calls = wanted.calls.borrow();
        calls
            .iter()
            .map(|call| (call.key, call.desired()))
            .collect()
    });
    for id in &lost {
        store.write(id, None);
    }
    Front::new(service.clone()).run(sockets);
    let reloads = service.clone();
    tokio::task::spawn_local(async move {
        while hangup.recv().await.is_some() {
            // What went wrong is in the log.
            let _ = reloads.reloader.reload(&reloads);
        }
    });
    tokio::task::spawn_local(ageing::run(service.clone()));
    tokio::task::spawn_local(quality::run(service.clone()));
    tokio::task::spawn_local(load::run(service.clone()));
    tokio::task::spawn_local(statistics::run(service.clone()));
    tokio::task::spawn_local(socket::run(cli, service.clone()));
    if let Err(error) = sd_notify::notify(&[sd_notify::NotifyState::Ready]) {
        tracing::warn!("cannot tell systemd that control is ready: {error}");
    }
    tokio::task::spawn_local(feed_watchdog());
    let outcome = tokio::select! {
        error = link.run(bell, desired) => Err(DaemonError::new(error)),
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
    };
    service.records.end();
    // Another control may have taken the place already.
    if outcome.is_ok() {
        tracing::info!("control stops; media goes on");
        drop(std::fs::remove_file(&control.socket));
    }
    outcome
}

/// The calls of the store, and the Call-IDs of those that cannot be taken over.
fn restore(control: &Control, stored: Stored) -> (Calls, Vec<String>) {
    let mut calls = Calls::new(settings(control), now());
    calls.drain(stored.is_draining);
    if stored.is_draining {
        tracing::warn!("draining, as before the restart: new calls are refused");
    }
    let outcome = calls.restore(stored.calls);
    let clashes = outcome.iter().filter(|(_, o)| *o == Restore::Clash);
    let lost: Vec<_> = clashes.map(|(id, _)| id.clone()).collect();
    for id in &lost {
        tracing::error!("call {id} of the store claims ports of another call; it is dropped");
    }
    (calls, lost)
}

/// Tells systemd that this thread's loop turns, at half the time it would wait.
async fn feed_watchdog() {
    let Some(limit) = sd_notify::watchdog_enabled() else {
        return;
    };
    loop {
        if let Err(error) = sd_notify::notify(&[sd_notify::NotifyState::Watchdog]) {
            return tracing::warn!("cannot feed systemd's watchdog: {error}");
        }
        tokio::time::sleep(limit / 2).await;
    }
}

async fn open_store(path: &Path) -> Result<(Rc<Store>, Stored), DaemonError> {
    let mut tries = 0;
    loop {
        match Store::open(path) {
            // A control that was just killed may take a moment to be gone.
            Err(StoreError::Busy(_)) if tries < 10 => tries += 1,
            outcome => return outcome.map_err(DaemonError::new),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// What the media core needs of the configuration.
pub(crate) fn settings(control: &Control) -> Settings {
    let interfaces = control.interfaces.iter().map(|interface| Interface {
        name: interface.name.clone(),
        ip: interface.address,
        vlan: interface.vlan,
        advertise: interface.advertise.unwrap_or(interface.address),
        ports: (interface.ports.first, interface.ports.last),
    });
    // Where a pool begins should not be guessed: the hasher's keys come from the system.
    let seed = std::hash::BuildHasher::hash_one(&std::collections::hash_map::RandomState::new(), 0);
    Settings {
        interfaces: interfaces.collect(),
        rest: Duration::from_secs(control.port_rest_s.into()),
        max_calls: control.max_calls as usize,
        seed: seed ^ service::now().unix_us,
    }
}

/// Keeps this thread off the workers' CPUs, where there are others.
fn pin(config: &Config) {
    let allowed = core_affinity::get_core_ids().unwrap_or_default();
    let free = |core: &core_affinity::CoreId| match config.control.core {
        Some(wanted) => core.id == wanted,
        None => !config.plane.cores.contains(&core.id),
    };
    match allowed.into_iter().find(free) {
        Some(core) if !core_affinity::set_for_current(core) => {
            tracing::warn!("cannot run on CPU {}", core.id);
        }
        None if config.control.core.is_some() => {
            tracing::warn!("[control] core is not a CPU that control may run on; it runs anywhere");
        }
        _ => {}
    }
}
