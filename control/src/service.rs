//! What each ng command does: media core, plane, store, in that order; a delete is stored before
//! the plane hears of it. So whenever this process is killed, the next one finds nothing in the
//! store that was not wanted, and takes what the store lacks off the plane.

use crate::lanes::Lanes;
use crate::link::{Link, LinkError};
use crate::load::Load;
use crate::records::{Ended, Records};
use crate::reload::Reloader;
use crate::report::{self, Clock};
use crate::statistics::Statistics;
use crate::stats::Stats;
use crate::store::Store;
use crate::wishes;
use penstock_media::{Call, Calls, Local, MediaError, Now, Options, Parties, Pending, Timeouts};
use penstock_ng::{Delete, Flag, Query, Reply, Request, Signal, reason};
use penstock_shm::StreamStat;
use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashSet};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How long the plane has to apply a change.
const LIMIT: Duration = Duration::from_secs(2);

/// Most Call-IDs in the reply to a list: what fits a datagram.
const MAX_LIST: usize = 200;

/// What the commands work on.
pub(crate) struct Service {
    pub(crate) calls: RefCell<Calls>,
    pub(crate) link: Rc<Link>,
    pub(crate) store: Rc<Store>,
    pub(crate) stats: Stats,
    pub(crate) started: Instant,
    pub(crate) lanes: Rc<Lanes>,
    pub(crate) timeouts: Cell<Timeouts>,
    /// Keys of the calls whose media flows one way only.
    pub(crate) one_way: RefCell<HashSet<u64>>,
    pub(crate) quality: Cell<crate::quality::Rule>,
    pub(crate) quality_changed: tokio::sync::Notify,
    /// Since when this process has been at work, ns of CLOCK_MONOTONIC.
    pub(crate) started_ns: u64,
    pub(crate) ratings: RefCell<crate::quality::Ratings>,
    pub(crate) reloader: Reloader,
    /// What `loop-protect` knows this relay by.
    pub(crate) loop_mark: String,
    pub(crate) load: Load,
    pub(crate) statistics: Statistics,
    pub(crate) records: Records,
}

/// The present: CLOCK_MONOTONIC, as the plane's, and the date.
pub(crate) fn now() -> Now {
    let unix = SystemTime::now().duration_since(UNIX_EPOCH);
    Now {
        mono: Duration::from_nanos(penstock_shm::monotonic_ns()),
        unix_us: unix.map_or(0, |since| since.as_micros() as u64),
    }
}

/// How an offer, an answer or what is published becomes a change.
type Prepare = fn(&mut Calls, &Parties<'_>, &[u8], &Options, Now) -> Result<Pending, MediaError>;

/// Why a change did not come about.
pub(crate) enum Failure {
    Media(MediaError),
    Link(LinkError),
    Store,
}

impl Service {
    /// Carries out a request. Requests of one call must not overlap.
    pub(crate) async fn handle(self: &Rc<Self>, request: Request, client: SocketAddr) -> Reply {
        self.stats.request(request.command());
        match request {
            Request::Ping => Reply::pong(),
            Request::Offer(signal) => self.begin(&signal, client, Calls::offer).await,
            Request::Answer(signal) => self.signal(&signal, client, Calls::answer).await,
            Request::Publish(signal) => self.begin(&signal, client, Calls::publish).await,
            Request::Delete(delete) => self.delete(&delete).await,
            Request::Block(block) => self.block(&block).await,
            Request::SubscribeRequest(subscribe) => self.subscribe(&subscribe).await,
            Request::SubscribeAnswer(answer) => self.subscribe_answer(&answer).await,
            Request::Unsubscribe(end) => self.unsubscribe(&end).await,
            Request::Connect(connect) => self.connect(&connect).await,
            Request::Query(query) => self.query(&query),
            Request::List { limit } => self.list(limit),
            Request::Unsupported { command, why } => {
                self.stats.error("unsupported");
                Reply::error(format!("{command} is not supported: {why}"))
            }
            Request::Statistics => Reply::ok().with("statistics", self.statistics()),
            Request::Cli { line } => Reply::ok().with("response", crate::ctl::cli(self, &line)),
        }
    }

    /// Refuses new calls from now on, or no longer; false if that could not be stored, and nothing
    /// changed.
    pub(crate) fn drain(&self, is_draining: bool) -> bool {
        if !self.store.set_draining(is_draining) {
            return false;
        }
        let mut calls = self.calls.borrow_mut();
        let was_draining = calls.is_draining();
        calls.drain(is_draining);
        match (was_draining, is_draining) {
            (false, true) => {
                tracing::info!(calls = calls.left(), "draining: new calls are refused")
            }
            (true, false) => tracing::info!("draining has ended: new calls are taken"),
            _ => {}
        }
        true
    }

    /// What a call may begin with: not while there is too much to do.
    async fn begin(&self, signal: &Signal, client: SocketAddr, prepare: Prepare) -> Reply {
        let is_new = self.calls.borrow().get(&signal.call_id).is_none();
        let Some(text) = self.load.exceeded().filter(|_| is_new) else {
            return self.signal(signal, client, prepare).await;
        };
        self.stats.error("load-limit");
        match signal.options.load_limit {
            true => Reply::load_limit(text),
            false => Reply::error(reason::SESSION_LIMIT),
        }
    }

    async fn signal(&self, signal: &Signal, client: SocketAddr, prepare: Prepare) -> Reply {
        let takes_load_limit = signal.options.load_limit;
        // Asked before anything is taken: while the plane is away the answer is immediate.
        if !self.link.alive() {
            return self.refuse(Failure::Link(LinkError::Away), takes_load_limit);
        }
        let options = match wishes::options(&signal.options, &signal.sdp, &self.loop_mark) {
            Ok(options) => Options {
                asked_by: Some(client),
                ..options
            },
            Err(text) => {
                self.stats.error("bad-option");
                return Reply::error(text);
            }
        };
        let parties = Parties {
            call_id: &signal.call_id,
            from_tag: &signal.from_tag,
            to_tag: signal.to_tag.as_deref(),
            branch: signal.via_branch.as_deref(),
        };
        let prepared = prepare(
            &mut self.calls.borrow_mut(),
            &parties,
            &signal.sdp,
            &options,
            now(),
        );
        match self.change(prepared).await {
            Ok(sdp) => Reply::ok().with("sdp", sdp),
            Err(failure) => self.refuse(failure, takes_load_limit),
        }
    }

    /// Carries out what was prepared; returns the SDP that leaves.
    pub(crate) async fn change(
        &self,
        prepared: Result<Pending, MediaError>,
    ) -> Result<Vec<u8>, Failure> {
        match prepared {
            Ok(pending) if pending.is_nothing() => Ok(pending.sdp),
            Ok(pending) => self.carry_out(pending).await,
            Err(error) => Err(Failure::Media(error)),
        }
    }

    /// Plane, store, commit; or all of it back.
    async fn carry_out(&self, mut pending: Pending) -> Result<Vec<u8>, Failure> {
        let mut applied = None;
        if !pending.ops.is_empty() {
            match self
                .link
                .apply(pending.key, &pending.ops, false, LIMIT)
                .await
            {
                Ok(done) => applied = Some(done),
                Err(error) => {
                    // A refused command may stand in part, one that timed out may yet come.
                    self.undo(pending);
                    return Err(Failure::Link(error));
                }
            }
        }
        let (gone, id) = (pending.gone(), &pending.call_id);
        if !self.store.replace(gone, id, pending.after()) {
            self.undo(pending);
            return Err(Failure::Store);
        }
        if let Some(gone) = pending.absorbed() {
            self.one_way.borrow_mut().remove(&gone.key);
            self.ratings.borrow_mut().merge(pending.key, gone.key);
        }
        let sdp = std::mem::take(&mut pending.sdp);
        self.calls.borrow_mut().commit(pending, now());
        drop(applied);
        Ok(sdp)
    }

    /// Takes back what may stand in the plane of a change that did not come about.
    fn undo(&self, pending: Pending) {
        for (key, ops) in pending.undo() {
            self.link.undo(key, &ops);
        }
        self.calls.borrow_mut().rollback(pending, now());
    }

    async fn delete(self: &Rc<Self>, delete: &Delete) -> Reply {
        let by_default = self
            .reloader
            .running(|config| config.control.delete_delay_s);
        let delay = delete.options.delete_delay_s.unwrap_or(by_default);
        let prepared = self.calls.borrow_mut().delete(
            &delete.call_id,
            (delete.from_tag.as_deref(), delete.to_tag.as_deref()),
            delete.via_branch.as_deref(),
            Duration::from_secs(delay.into()),
            now(),
        );
        let pending = match prepared {
            Ok(pending) => pending,
            Err(error) if delete.options.has(Flag::Fatal) => {
                self.stats.error(kind(&error));
                return Reply::error(error.to_string());
            }
            Err(error) => return Reply::warning(error.to_string()),
        };
        let removed = match delay {
            0 => self.remove(pending, "delete").await,
            _ => match self.schedule(pending, delay).await {
                Ok(ended) => ended,
                Err(failure) => return self.refuse(failure, false),
            },
        };
        let Some(ended) = removed else {
            return Reply::warning(reason::NOTHING_DELETED);
        };
        if delete.options.has(Flag::Fast) {
            return Reply::ok();
        }
        Reply::ok().with_all(report::report(
            (&ended.call, &delete.call_id),
            &[],
            &|local| ended.meters.get(&local).map(Cow::Borrowed),
            &ended.rated,
            clock(),
        ))
    }

    /// Has dialogs end later. Returns what a delete reports, as it stands now.
    async fn schedule(
        self: &Rc<Self>,
        pending: Pending,
        delay_s: u32,
    ) -> Result<Option<Ended>, Failure> {
        let Some(before) = pending.before().cloned() else {
            return Ok(None);
        };
        let ended = self.standing(before);
        self.carry_out(pending).await?;
        // One clock for each call, however often it is deleted; all calls are looked at from time to time as well.
        if ended
            .call
            .dialogs
            .iter()
            .all(|dialog| dialog.ends_us.is_none())
        {
            self.look_in(ended.call.key, Duration::from_secs(delay_s.into()));
        }
        Ok(Some(ended))
    }

    /// A call as it stands.
    fn standing(&self, call: Rc<Call>) -> Ended {
        Ended {
            rest: call.dialogs.iter().map(|dialog| dialog.number).collect(),
            meters: self.meters(&call, &[]),
            rated: self.ratings.borrow().of(call.key).to_vec(),
            why: "delete",
            call,
        }
    }

    /// Store, plane, commit: a call, or some of its dialogs, ends for the reason `why`.
    pub(crate) async fn remove(&self, pending: Pending, why: &'static str) -> Option<Ended> {
        let before = pending.before()?.clone();
        self.rate_at_end(before.key);
        let (gone, id) = (pending.gone(), &pending.call_id);
        if !self.store.settle(gone, id, pending.after()) {
            self.stats.error("store");
        }
        let outcome = self
            .link
            .apply(pending.key, &pending.ops, true, LIMIT)
            .await;
        if let Err(error) = &outcome
            && *error != LinkError::Away
        {
            // Kept: the call is no longer wanted, and the next sync removes its streams.
            tracing::warn!("a delete waits for the media plane: {error}");
        }
        // What stands now is the report if the plane cannot say more.
        let meters = match &outcome {
            Ok(applied) => self.meters(&before, &applied.ended),
            Err(_) => self.meters(&before, &[]),
        };
        let rated = match pending.after() {
            None => {
                self.one_way.borrow_mut().remove(&before.key);
                self.ratings.borrow_mut().forget(before.key)
            }
            Some(_) => self.ratings.borrow().of(before.key).to_vec(),
        };
        let rest = pending.after().map(|after| after.dialogs.as_slice());
        let ended = Ended {
            rest: rest.unwrap_or_default().iter().map(|d| d.number).collect(),
            call: before,
            meters,
            rated,
            why,
        };
        self.statistics.ended(&ended, now());
        self.records.write(&ended, now());
        self.calls.borrow_mut().commit(pending, now());
        drop(outcome);
        Some(ended)
    }

    fn query(&self, query: &Query) -> Reply {
        let calls = self.calls.borrow();
        let Some(call) = calls.get(&query.call_id) else {
            self.stats.error("unknown-call");
            return Reply::error(reason::UNKNOWN_CALL_ID);
        };
        let tags: Vec<&str> = [&query.from_tag, &query.to_tag]
            .into_iter()
            .flatten()
            .map(String::as_str)
            .collect();
        Reply::ok().with_all(report::report(
            (call, &query.call_id),
            &tags,
            &|local| self.link.stream(local).map(Cow::Owned),
            self.ratings.borrow().of(call.key),
            clock(),
        ))
    }

    fn list(&self, limit: usize) -> Reply {
        let calls = self.calls.borrow();
        let ids = calls.iter().flat_map(Call::ids).take(limit.min(MAX_LIST));
        let ids: Vec<penstock_ng::Value> = ids.map(|id| id.to_owned().into()).collect();
        Reply::ok().with("calls", ids)
    }

    /// The meters of a call's streams: the last ones of those that `ended`, the present ones of the others.
    fn meters(&self, call: &Call, ended: &[StreamStat]) -> BTreeMap<Local, StreamStat> {
        let mut meters = BTreeMap::new();
        for local in call.locals().flat_map(|rtp| [rtp, rtp.rtcp()]) {
            if let Some(stat) = self.link.last(local, ended) {
                meters.insert(local, stat);
            }
        }
        meters
    }

    pub(crate) fn refuse(&self, failure: Failure, takes_load_limit: bool) -> Reply {
        let (kind, text) = match &failure {
            Failure::Media(error) => (kind(error), error.to_string()),
            Failure::Link(LinkError::Away) => ("plane-away", LinkError::Away.to_string()),
            Failure::Link(LinkError::Timeout) => ("plane-timeout", LinkError::Timeout.to_string()),
            Failure::Link(error) => ("plane-refused", error.to_string()),
            Failure::Store => ("store", "cannot write to the store".to_owned()),
        };
        self.stats.error(kind);
        match failure {
            Failure::Media(MediaError::TooManyCalls | MediaError::Draining) if takes_load_limit => {
                Reply::load_limit(text)
            }
            _ => Reply::error(text),
        }
    }
}

pub(crate) fn clock() -> Clock {
    let now = now();
    Clock {
        mono_ns: now.mono.as_nanos() as u64,
        unix_us: now.unix_us,
    }
}

/// The counter of an error.
fn kind(error: &MediaError) -> &'static str {
    match error {
        MediaError::UnknownCall | MediaError::NoCall => "unknown-call",
        MediaError::UnknownTag | MediaError::UnknownToTag | MediaError::NoTag => "unknown-tag",
        MediaError::NoMatch => "no-match",
        MediaError::NoLeg => "no-leg",
        MediaError::Encrypted => "encrypted",
        MediaError::NothingInCommon => "nothing-in-common",
        MediaError::TagCollision => "tag-collision",
        MediaError::Sdp(_) => "bad-sdp",
        MediaError::OutOfPorts => "out-of-ports",
        MediaError::TooManyCalls => "too-many-calls",
        MediaError::Draining => "draining",
        MediaError::TooManyMedia => "too-many-media",
        MediaError::TooManyTags => "too-many-tags",
        MediaError::TooManyNames => "too-many-names",
        MediaError::TooManyDialogs => "too-many-dialogs",
        MediaError::AnswerCount { .. } => "answer-count",
        MediaError::UnknownInterface(_) => "unknown-interface",
        MediaError::Family { .. } => "wrong-family",
        MediaError::NoInterface(_) => "no-interface",
        MediaError::NoDestination(_) => "no-destination",
        MediaError::Profile { .. } => "profile",
    }
}

#[cfg(test)]
impl Service {
    /// One with nothing behind it.
    pub(crate) fn idle(dir: &std::path::Path) -> Service {
        let config = penstock_config::Config::parse(penstock_config::DEFAULTS, dir).unwrap();
        let (store, _) = Store::open(&dir.join("calls.journal")).unwrap();
        let calls = Calls::new(crate::daemon::settings(&config.control), now());
        Service {
            calls: RefCell::new(calls),
            link: Rc::new(Link::new(dir.into())),
            store,
            stats: Stats::default(),
            started: Instant::now(),
            lanes: Rc::default(),
            timeouts: Cell::new(crate::ageing::timeouts(&config.timeouts)),
            one_way: RefCell::default(),
            quality: Cell::default(),
            quality_changed: tokio::sync::Notify::new(),
            started_ns: 0,
            ratings: RefCell::default(),
            loop_mark: "0".into(),
            load: Load::default(),
            reloader: Reloader::new(dir.into(), &config),
            statistics: Statistics::default(),
            records: Records::default(),
        }
    }
}
