//! The link to the plane: the one owner of control's side of the region.
//!
//! Detached (no region) -> attached (the plane is away) -> syncing -> online. Commands are
//! accepted whenever a plane is alive: they wait for the end of syncing, then go out in order. A
//! plane that dies fails all that wait; what it had or had not applied is settled when the
//! next one is synced. One that stands still counts as dead until its heart beats again.

mod job;
mod region;

pub(crate) use job::LinkError;

use crate::plan::{self, Addresses};
use crate::report::Sum;
use job::{Job, Outcome};
use penstock_config::PoliceMedia;
use penstock_media::{Desired, Local, Op};
use penstock_shm as shm;
use region::{Attached, Doorbell};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, VecDeque};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::{Notify, oneshot};

/// How often the plane's life is looked at, and how long attaching waits between attempts.
const TICK: Duration = Duration::from_millis(100);

/// Where the link stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// There is no region.
    NoRegion,
    /// There is one, and no plane.
    Away,
    /// There is a plane whose heart does not beat.
    Still,
    /// The plane is being brought to what the calls want.
    Syncing,
    /// Commands go straight out.
    Online,
}

impl State {
    pub(crate) fn word(self) -> &'static str {
        match self {
            State::NoRegion => "no region",
            State::Away => "plane away",
            State::Still => "plane stands still",
            State::Syncing => "syncing",
            State::Online => "online",
        }
    }
}

#[derive(Default)]
struct Inner {
    attached: Option<Attached>,
    waiting: VecDeque<Job>,
    latches: u64,
    media_reports: u64,
    bad_events: u64,
    refusals: u64,
    /// Links that went down or up.
    port_changes: u64,
    /// Workers that hung or went on.
    worker_changes: u64,
    /// What passed at streams that were removed.
    ended: Sum,
    /// Keys of calls whose media the plane reported on.
    reported: BTreeSet<u64>,
    /// Why attaching failed last, so that it is logged once.
    trouble: String,
}

/// What all calls want, asked when a plane is synced.
pub(crate) type AllDesired = Box<dyn Fn() -> Vec<(u64, Desired)>>;

/// Handle to the link; the work is done by [`Link::run`].
pub(crate) struct Link {
    dir: PathBuf,
    inner: RefCell<Inner>,
    settling: Rc<Cell<usize>>,
    /// What the policing profiles are for, and their numbers.
    police: RefCell<Vec<(PoliceMedia, u8)>>,
    /// Rung when a job waits.
    wake: Notify,
    /// Rung when the plane reported on a call's media.
    report: Notify,
}

impl Link {
    pub(crate) fn new(dir: PathBuf) -> Link {
        Link {
            dir,
            inner: RefCell::default(),
            settling: Rc::default(),
            police: RefCell::default(),
            wake: Notify::new(),
            report: Notify::new(),
        }
    }

    /// Attaches if there is a region; returns its doorbell.
    ///
    /// # Errors
    /// Another control holds the region.
    pub(crate) fn attach(&self) -> Result<Option<shm::ControlBell>, shm::RegionError> {
        let parts = match shm::Control::attach(&self.dir) {
            Ok(control) => control.split(),
            Err(error @ shm::RegionError::Held { .. }) => return Err(error),
            Err(error) => {
                let text = error.to_string();
                let mut inner = self.inner.borrow_mut();
                if inner.trouble != text {
                    tracing::warn!("{text}; waiting");
                    inner.trouble = text;
                }
                return Ok(None);
            }
        };
        self.inner.borrow_mut().attached = Some(Attached {
            addresses: Addresses::default(),
            commands: parts.commands,
            events: parts.events,
            applied: parts.applied,
            watch: parts.watch,
            table: parts.table,
            synced: 0,
            online_since: Duration::ZERO,
            lost: Cell::new(false),
            looked_ns: Cell::new(0),
            inflight: VecDeque::new(),
        });
        Ok(Some(parts.bell))
    }

    /// Whether a plane works on the region at this moment.
    pub(crate) fn alive(&self) -> bool {
        let inner = self.inner.borrow();
        inner.attached.as_ref().is_some_and(Attached::alive)
    }

    pub(crate) fn state(&self) -> State {
        match &self.inner.borrow().attached {
            None => State::NoRegion,
            Some(attached) if !attached.alive() => match attached.watch.state() {
                shm::PlaneState::Still => State::Still,
                _ => State::Away,
            },
            Some(attached) if attached.online() => State::Online,
            Some(_) => State::Syncing,
        }
    }

    /// Commands on their way, latches and timers reported, refusals, malformed events.
    pub(crate) fn counters(&self) -> [(&'static str, u64); 8] {
        let inner = self.inner.borrow();
        let inflight = inner.attached.as_ref().map_or(0, |a| a.inflight.len());
        [
            ("commands-in-flight", inflight as u64),
            ("commands-waiting", inner.waiting.len() as u64),
            ("latches", inner.latches),
            ("media-reports", inner.media_reports),
            ("port-changes", inner.port_changes),
            ("refusals", inner.refusals),
            ("worker-changes", inner.worker_changes),
            ("malformed-events", inner.bad_events),
        ]
    }

    /// Since when the plane has held what the calls want, on CLOCK_MONOTONIC; nothing while it does not.
    pub(crate) fn online_since(&self) -> Option<Duration> {
        let inner = self.inner.borrow();
        let attached = inner.attached.as_ref()?;
        let is_online = attached.alive() && attached.online();
        is_online.then_some(attached.online_since)
    }

    /// The keys of calls on whose media the plane has reported since the last time.
    pub(crate) async fn reported(&self) -> Vec<u64> {
        loop {
            let keys = std::mem::take(&mut self.inner.borrow_mut().reported);
            if !keys.is_empty() {
                return keys.into_iter().collect();
            }
            self.report.notified().await;
        }
    }

    /// The meter and policy of the stream at `local`, alive or not the plane.
    pub(crate) fn stream(&self, local: Local) -> Option<shm::StreamStat> {
        self.last(local, &[])
    }

    /// The same, or the last meter of a stream that was removed, if it is among those `ended`.
    pub(crate) fn last(&self, local: Local, ended: &[shm::StreamStat]) -> Option<shm::StreamStat> {
        let inner = self.inner.borrow();
        let attached = inner.attached.as_ref()?;
        let endpoint = attached.addresses.endpoint(local)?;
        let last = ended.iter().find(|stat| stat.endpoint == endpoint);
        let table = &attached.table;
        last.copied()
            .or_else(|| table.stream(table.find(endpoint)?))
    }

    /// What passed at the streams that stand, of `count` records from `first` on, and how many of them are RTP
    /// streams; `None` beyond the last record.
    pub(crate) fn sum(&self, first: u32, count: u32) -> Option<(Sum, u64)> {
        let inner = self.inner.borrow();
        let table = &inner.attached.as_ref()?.table;
        let records = first..table.info().capacity.min(first.saturating_add(count));
        if records.is_empty() {
            return None;
        }
        let live = records.filter_map(|number| table.stream(number).filter(|stat| !stat.ended));
        let (mut sum, mut rtp) = (Sum::default(), 0);
        for stat in live {
            sum.add(Sum::of(Some(&stat)));
            rtp += u64::from(stat.policy.kind == shm::Kind::Rtp);
        }
        Some((sum, rtp))
    }

    /// What passed at streams that were removed since this process is at work.
    pub(crate) fn ended(&self) -> Sum {
        self.inner.borrow().ended
    }

    /// Has the plane apply a change of one call, at most within `limit`.
    pub(crate) async fn apply(
        &self,
        call: u64,
        ops: &[Op],
        keep: bool,
        limit: Duration,
    ) -> Outcome {
        let done = self.submit(call, ops, keep)?;
        match tokio::time::timeout(limit, done).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err(LinkError::Away),
            Err(_) => Err(LinkError::Timeout),
        }
    }

    /// Says which policing profiles there are; the first for a kind of media is the one it has.
    pub(crate) fn police(&self, profiles: &[penstock_config::Police]) {
        let known = profiles.iter().map(|p| (p.media, p.number));
        self.police.replace(known.collect());
    }

    /// Compares what stands with what the calls want once more.
    pub(crate) fn resync(&self) {
        self.with_mut(|attached| attached.synced = 0);
        self.wake.notify_one();
    }

    /// Takes a change back without waiting. While no plane is there nothing has to be done: the
    /// next one is brought to what the calls want.
    pub(crate) fn undo(&self, call: u64, ops: &[Op]) {
        drop(self.submit(call, ops, true));
    }

    fn submit(
        &self,
        call: u64,
        ops: &[Op],
        keep: bool,
    ) -> Result<oneshot::Receiver<Outcome>, LinkError> {
        let mut inner = self.inner.borrow_mut();
        let attached = inner.attached.as_ref().filter(|a| a.alive());
        let attached = attached.ok_or(LinkError::Away)?;
        let (done, outcome) = oneshot::channel();
        let mut job = Job {
            call,
            ops: Vec::new(),
            keep,
            done: Some(done),
            ends: Vec::new(),
            refused: None,
        };
        if !attached.online() {
            // Syncing first: the plane's address numbers may have changed.
            let fresh = Addresses::read(&attached.table, &self.police.borrow());
            job.ops = fresh.ops(ops).map_err(LinkError::NoAddress)?;
        } else {
            job.ops = attached.addresses.ops(ops).map_err(LinkError::NoAddress)?;
        }
        if job.ops.is_empty() {
            job.finish(Vec::new(), &self.settling);
            return Ok(outcome);
        }
        inner.waiting.push_back(job);
        // Sent by the link's own task: what others submit meanwhile rings the plane once.
        self.wake.notify_one();
        Ok(outcome)
    }

    /// The life of the link; returns only if another control takes the region.
    pub(crate) async fn run(
        &self,
        mut bell: Option<shm::ControlBell>,
        desired: AllDesired,
    ) -> shm::RegionError {
        loop {
            let Some(current) = bell.take() else {
                tokio::time::sleep(TICK).await;
                match self.attach() {
                    Ok(attached) => bell = attached,
                    Err(error) => return error,
                }
                continue;
            };
            match Doorbell::new(current) {
                Ok(bell) => self.attached(&bell, &desired).await,
                Err(error) => {
                    tracing::error!("cannot wait for the plane's doorbell: {error}");
                    tokio::time::sleep(TICK).await;
                }
            }
            self.detach();
        }
    }

    /// Until the region is replaced.
    async fn attached(&self, bell: &Doorbell, desired: &AllDesired) {
        let mut was_alive = true;
        loop {
            let (alive, replaced, online) = {
                let inner = self.inner.borrow();
                let Some(attached) = &inner.attached else {
                    return;
                };
                let alive = attached.alive();
                // Where it was set aside, it is not alive here.
                (
                    alive,
                    !alive && attached.watch.replaced(),
                    attached.online(),
                )
            };
            if replaced {
                tracing::info!("the region was set aside; attaching to the new one");
                return;
            }
            if !alive {
                if std::mem::take(&mut was_alive) {
                    tracing::warn!(
                        "the media plane is not running or stands still; offers are refused until it goes on"
                    );
                }
                self.fail_all();
                tokio::time::sleep(TICK).await;
                continue;
            }
            was_alive = true;
            if !online {
                self.sync(bell, desired).await;
                continue;
            }
            self.turn(bell).await;
        }
    }

    /// Takes in what the plane reported, sends what waits, and sleeps until there is more. Looks
    /// at the plane's life at least once a tick.
    async fn turn(&self, bell: &Doorbell) {
        let seen = self.collect();
        self.inner.borrow_mut().flush();
        if !bell.bell.arm(seen) {
            // The plane went on meanwhile. Others get their turn too.
            return tokio::task::yield_now().await;
        }
        tokio::select! {
            () = bell.rung() => {}
            () = self.wake.notified() => {}
            () = tokio::time::sleep(TICK) => {}
        }
    }

    /// Reads `applied` and the events behind it, and finishes the commands that stand.
    fn collect(&self) -> u64 {
        let mut inner = self.inner.borrow_mut();
        let inner = &mut *inner;
        let Some(attached) = &mut inner.attached else {
            return 0;
        };
        // In this order: a refusal is pushed before `applied` passes its command.
        let applied = attached.applied.get();
        while let Some(event) = attached.events.next() {
            match event {
                Ok(shm::Event::Refused { seq, reason, .. }) => {
                    inner.refusals += 1;
                    let job = attached
                        .inflight
                        .iter_mut()
                        .find(|(number, _)| *number == seq);
                    if let Some((_, job)) = job {
                        job.refused.get_or_insert(reason);
                    }
                }
                Ok(shm::Event::Latched { .. }) => inner.latches += 1,
                Ok(shm::Event::Media { endpoint, .. }) => {
                    let number = attached.table.find(endpoint);
                    let stat = number.and_then(|number| attached.table.stream(number));
                    inner.media_reports += 1;
                    inner.reported.extend(stat.map(|stat| stat.call));
                    self.report.notify_one();
                }
                Ok(shm::Event::Port { port, up }) => {
                    inner.port_changes += 1;
                    match up {
                        true => tracing::info!("the link of the plane's port {port} is up"),
                        false => tracing::warn!("the link of the plane's port {port} is down"),
                    }
                }
                Ok(shm::Event::Worker { worker, hangs }) => {
                    inner.worker_changes += 1;
                    match hangs {
                        true => tracing::warn!("worker {worker} of the plane hangs"),
                        false => tracing::info!("worker {worker} of the plane goes on"),
                    }
                }
                Err(_) => inner.bad_events += 1,
            }
        }
        while attached
            .inflight
            .front()
            .is_some_and(|(seq, _)| *seq <= applied)
        {
            let Some((_, mut job)) = attached.inflight.pop_front() else {
                break;
            };
            let (ended, read): (Vec<_>, Vec<_>) = std::mem::take(&mut job.ends)
                .into_iter()
                .filter_map(|(number, generation)| {
                    let stat = attached.table.stream(number)?;
                    let same = stat.ended && stat.generation == generation;
                    same.then_some((stat, shm::Op::Acknowledge { number, generation }))
                })
                .unzip();
            for stat in &ended {
                inner.ended.add(Sum::of(Some(stat)));
            }
            if !read.is_empty() {
                inner.waiting.push_back(Job::background(job.call, read));
            }
            job.finish(ended, &self.settling);
        }
        applied
    }

    /// Brings the plane to what the calls want.
    async fn sync(&self, bell: &Doorbell, desired: &AllDesired) {
        let start = std::time::Instant::now();
        let Some((epoch, last)) = self.with(|a| (a.watch.epoch(), a.commands.last_pushed())) else {
            return;
        };
        if !self.reached(bell, last).await {
            return;
        }
        // Callers whose commands have just been applied are about to commit them.
        while self.settling.get() > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let plan = {
            let calls = desired();
            let mut inner = self.inner.borrow_mut();
            let Some(attached) = &mut inner.attached else {
                return;
            };
            attached.addresses = Addresses::read(&attached.table, &self.police.borrow());
            plan::plan(
                calls.into_iter(),
                attached.table.iter(),
                &attached.addresses,
            )
        };
        let changes = plan.commands.len();
        let refused = self.inner.borrow().refusals;
        for (call, ops) in plan.commands {
            let mut job = Some(Job::background(call, ops));
            while let Some(next) = job.take() {
                let Some(left) = self.with_mut(|a| a.push(next)) else {
                    return;
                };
                job = left;
                if job.is_some() && !self.wait(bell).await {
                    return;
                }
            }
        }
        let Some(last) = self.with(|a| a.commands.last_pushed()) else {
            return;
        };
        if !self.reached(bell, last).await {
            return;
        }
        self.with_mut(|a| {
            a.synced = epoch;
            if a.online_since.is_zero() {
                a.online_since = Duration::from_nanos(shm::monotonic_ns());
            }
        });
        let (homeless, refused) = (plan.homeless, self.inner.borrow().refusals - refused);
        let took_ms = start.elapsed().as_millis();
        tracing::info!(
            epoch,
            changes,
            took_ms,
            "the media plane holds what the calls want"
        );
        if homeless + refused as usize > 0 {
            tracing::error!(
                homeless,
                refused,
                "the media plane cannot hold some streams: its addresses or its table do not suffice"
            );
        }
        self.inner.borrow_mut().flush();
    }

    /// Waits until the plane has applied command `seq`; false if it died.
    async fn reached(&self, bell: &Doorbell, seq: u64) -> bool {
        loop {
            if self.collect() >= seq {
                return true;
            }
            if !self.wait(bell).await {
                return false;
            }
        }
    }

    /// Sleeps until the plane rings; false if it died or the region was replaced.
    async fn wait(&self, bell: &Doorbell) -> bool {
        let seen = self.collect();
        if bell.bell.arm(seen) {
            // Silence is no error: the plane's life is looked at below.
            let _ = tokio::time::timeout(TICK, bell.rung()).await;
        } else {
            tokio::task::yield_now().await;
        }
        self.with(Attached::alive) == Some(true)
    }

    fn with<T>(&self, f: impl FnOnce(&Attached) -> T) -> Option<T> {
        self.inner.borrow().attached.as_ref().map(f)
    }

    fn with_mut<T>(&self, f: impl FnOnce(&mut Attached) -> T) -> Option<T> {
        self.inner.borrow_mut().attached.as_mut().map(f)
    }

    fn detach(&self) {
        self.fail_all();
        self.inner.borrow_mut().attached = None;
    }

    fn fail_all(&self) {
        let mut inner = self.inner.borrow_mut();
        let inner = &mut *inner;
        let inflight = inner.attached.iter_mut().flat_map(|a| {
            a.synced = 0;
            a.lost.set(false);
            a.online_since = Duration::ZERO;
            a.inflight.drain(..).map(|(_, job)| job)
        });
        for mut job in inflight.chain(inner.waiting.drain(..)) {
            if let Some(done) = job.done.take() {
                // A caller that no longer waits has given up on it.
                let _ = done.send(Err(LinkError::Away));
            }
        }
    }
}

impl Inner {
    /// Sends what waits, as far as there is room.
    fn flush(&mut self) {
        let Some(attached) = &mut self.attached else {
            return;
        };
        if !attached.online() {
            return;
        }
        while let Some(job) = self.waiting.pop_front() {
            if !job.keep && job.done.as_ref().is_some_and(oneshot::Sender::is_closed) {
                continue;
            }
            if let Some(job) = attached.push(job) {
                return self.waiting.push_front(job);
            }
        }
    }
}
