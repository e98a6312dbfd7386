//! What each ng command does: media core, plane, store, in that order; a delete is stored before
//! the plane hears of it. So whenever this process is killed, the next one finds nothing in the
//! store that was not wanted, and takes what the store lacks off the plane.

use crate::lanes::Lanes;
use crate::link::{Link, LinkError};
use crate::reload::Reloader;
use crate::report::{self, Clock};
use crate::stats::Stats;
use crate::store::Store;
use penstock_media::{
    Call, Calls, Family, Learn, Local, MediaError, Now, Options, Parties, Pending, Timeouts, Tos,
};
use penstock_ng::{
    AddressFamily, Delete, Dict, EndpointLearning, Flag, Query, Replace, Reply, Request, Signal,
    Transport, reason,
};
use penstock_sdp::Protocol;
use penstock_shm::StreamStat;
use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
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
}

/// The present: CLOCK_MONOTONIC, as the plane's, and the date.
pub(crate) fn now() -> Now {
    let unix = SystemTime::now().duration_since(UNIX_EPOCH);
    Now {
        mono: Duration::from_nanos(penstock_shm::monotonic_ns()),
        unix_us: unix.map_or(0, |since| since.as_micros() as u64),
    }
}

/// Why a change did not come about.
enum Failure {
    Media(MediaError),
    Link(LinkError),
    Store,
}

impl Service {
    /// Carries out a request. Requests of one call must not overlap.
    pub(crate) async fn handle(&self, request: Request) -> Reply {
        self.stats.request(request.command());
        match request {
            Request::Ping => Reply::pong(),
            Request::Offer(signal) => self.signal(&signal, true).await,
            Request::Answer(signal) => self.signal(&signal, false).await,
            Request::Delete(delete) => self.delete(&delete).await,
            Request::Query(query) => self.query(&query),
            Request::List { limit } => self.list(limit),
            Request::Unsupported { command, why } => {
                self.stats.error("unsupported");
                Reply::error(format!("{command} is not supported: {why}"))
            }
            Request::Statistics
            | Request::Block(_)
            | Request::Publish(_)
            | Request::SubscribeRequest(_)
            | Request::SubscribeAnswer(_)
            | Request::Unsubscribe(_)
            | Request::Connect(_)
            | Request::Cli { .. } => {
                self.stats.error("unknown-command");
                Reply::error(reason::UNKNOWN_COMMAND)
            }
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

    async fn signal(&self, signal: &Signal, is_offer: bool) -> Reply {
        // Asked before anything is taken: while the plane is away the answer is immediate.
        if !self.link.alive() {
            return self.refuse(signal, Failure::Link(LinkError::Away));
        }
        let options = match options(signal) {
            Ok(options) => options,
            Err(text) => {
                self.stats.error("bad-option");
                return Reply::error(text);
            }
        };
        let parties = Parties {
            call_id: &signal.call_id,
            from_tag: &signal.from_tag,
            to_tag: signal.to_tag.as_deref(),
        };
        let prepared = {
            let mut calls = self.calls.borrow_mut();
            match is_offer {
                true => calls.offer(&parties, &signal.sdp, &options, now()),
                false => calls.answer(&parties, &signal.sdp, &options, now()),
            }
        };
        let outcome = match prepared {
            Ok(pending) => self.carry_out(pending).await,
            Err(error) => Err(Failure::Media(error)),
        };
        match outcome {
            Ok(sdp) => Reply::ok().with("sdp", sdp),
            Err(failure) => self.refuse(signal, failure),
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
                    self.link.undo(pending.key, &pending.undo());
                    self.calls.borrow_mut().rollback(pending, now());
                    return Err(Failure::Link(error));
                }
            }
        }
        if !self.store.write(&pending.call_id, pending.after()).await {
            self.link.undo(pending.key, &pending.undo());
            self.calls.borrow_mut().rollback(pending, now());
            return Err(Failure::Store);
        }
        let sdp = std::mem::take(&mut pending.sdp);
        self.calls.borrow_mut().commit(pending, now());
        drop(applied);
        Ok(sdp)
    }

    async fn delete(&self, delete: &Delete) -> Reply {
        let prepared = self.calls.borrow_mut().delete(
            &delete.call_id,
            delete.from_tag.as_deref(),
            delete.to_tag.as_deref(),
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
        let Some((before, meters)) = self.remove(pending).await else {
            return Reply::warning(reason::NOTHING_DELETED);
        };
        if delete.options.has(Flag::Fast) {
            return Reply::ok();
        }
        reply(report::report(
            &before,
            &[],
            &|local| meters.get(&local).copied(),
            clock(),
        ))
    }

    /// Store, plane, commit: a call, or some of its dialogs, ends. Returns the call as it was, and the
    /// last meters of its streams.
    pub(crate) async fn remove(
        &self,
        pending: Pending,
    ) -> Option<(Call, HashMap<Local, StreamStat>)> {
        let before = pending.before()?.clone();
        if !self.store.write(&pending.call_id, pending.after()).await {
            self.stats.error("store");
        }
        // What stands now is the report if the plane cannot say more.
        let mut meters = self.meters(&before);
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
        let places = places(&meters);
        for stat in outcome.iter().flat_map(|applied| &applied.ended) {
            if let Some(local) = places.get(&stat.number) {
                meters.insert(*local, *stat);
            }
        }
        if pending.after().is_none() {
            self.one_way.borrow_mut().remove(&before.key);
            self.ratings.borrow_mut().forget(before.key);
        }
        self.calls.borrow_mut().commit(pending, now());
        drop(outcome);
        Some((before, meters))
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
        reply(report::report(
            call,
            &tags,
            &|local| self.link.stream(local),
            clock(),
        ))
    }

    fn list(&self, limit: usize) -> Reply {
        let calls = self.calls.borrow();
        let ids = calls.iter().take(limit.min(MAX_LIST));
        let ids: Vec<penstock_ng::Value> = ids.map(|call| call.id.as_str().into()).collect();
        Reply::ok().with("calls", ids)
    }

    fn meters(&self, call: &Call) -> HashMap<Local, StreamStat> {
        let desired = call.desired();
        let read = |local: &Local| Some((*local, self.link.stream(*local)?));
        desired.keys().filter_map(read).collect()
    }

    fn refuse(&self, signal: &Signal, failure: Failure) -> Reply {
        let (kind, text) = match &failure {
            Failure::Media(error) => (kind(error), error.to_string()),
            Failure::Link(LinkError::Away) => ("plane-away", LinkError::Away.to_string()),
            Failure::Link(LinkError::Timeout) => ("plane-timeout", LinkError::Timeout.to_string()),
            Failure::Link(error) => ("plane-refused", error.to_string()),
            Failure::Store => ("store", "cannot write to the store".to_owned()),
        };
        self.stats.error(kind);
        match failure {
            Failure::Media(MediaError::TooManyCalls | MediaError::Draining)
                if signal.options.load_limit =>
            {
                Reply::load_limit(text)
            }
            _ => Reply::error(text),
        }
    }
}

/// Which record stood for which endpoint.
fn places(meters: &HashMap<Local, StreamStat>) -> HashMap<u32, Local> {
    meters
        .iter()
        .map(|(local, stat)| (stat.number, *local))
        .collect()
}

fn reply(report: Dict) -> Reply {
    let mut reply = Reply::ok();
    for (key, value) in report.0 {
        reply = reply.with(&String::from_utf8_lossy(&key), value);
    }
    reply
}

fn clock() -> Clock {
    let now = now();
    Clock {
        mono_ns: now.mono.as_nanos() as u64,
        unix_us: now.unix_us,
    }
}

/// ng's options in the media core's words.
fn options(signal: &Signal) -> Result<Options, String> {
    let given = &signal.options;
    let direction = match given.interfaces() {
        Some([None, None]) => None,
        Some([from, to]) => {
            let named = |name: Option<&str>| name.unwrap_or_default().to_owned();
            Some([named(from.or(to)), named(to.or(from))])
        }
        None => return Err("direction must name two interfaces".into()),
    };
    let protocol = given.transport_protocol;
    let protocol = protocol.filter(|transport| *transport != Transport::Accept);
    let protocol = protocol.map(|transport| {
        let word = transport.name();
        let known = Protocol::from_word(word).filter(|protocol| protocol.is_rtp());
        known.ok_or_else(|| format!("transport-protocol \"{word}\" is not supported"))
    });
    let replaces = |part| given.replace.contains(&part);
    Ok(Options {
        direction,
        address_family: given.address_family.map(|family| match family {
            AddressFamily::Ip4 => Family::Ip4,
            AddressFamily::Ip6 => Family::Ip6,
        }),
        replace_origin: replaces(Replace::Origin) || replaces(Replace::OriginFull),
        protocol: protocol.transpose()?,
        learn: given.endpoint_learning.map(|learning| match learning {
            EndpointLearning::Off => Learn::Off,
            EndpointLearning::Immediate => Learn::Immediate,
            EndpointLearning::Delayed => Learn::Delayed,
            EndpointLearning::Heuristic => Learn::Heuristic,
        }),
        // strict-source asks for what is done anyway: the learned source is locked.
        handover: given.has(Flag::MediaHandover) && !given.has(Flag::StrictSource),
        asymmetric: match given.has(Flag::Asymmetric) {
            true => Some(true),
            false => given.has(Flag::Symmetric).then_some(false),
        },
        hint: given.received_from,
        reset: given.has(Flag::Reset),
        fresh_ports: given.has(Flag::NoPortLatching) && !given.has(Flag::PortLatching),
        strict_payload: given.has(Flag::StrictPayload),
        source_address: given
            .received_from
            .filter(|_| given.has(Flag::SipSourceAddress)),
        media_address: given.media_address,
        no_rtcp_attribute: given.has(Flag::NoRtcpAttribute),
        tos: match given.tos {
            Some(tos @ 0..=255) => Tos::Dscp((tos >> 2) as u8),
            Some(..0) => Tos::Keep,
            None | Some(256..) => Tos::Default,
        },
    })
}

/// The counter of an error.
fn kind(error: &MediaError) -> &'static str {
    match error {
        MediaError::UnknownCall => "unknown-call",
        MediaError::UnknownTag => "unknown-tag",
        MediaError::NoMatch => "no-match",
        MediaError::Sdp(_) => "bad-sdp",
        MediaError::OutOfPorts => "out-of-ports",
        MediaError::TooManyCalls => "too-many-calls",
        MediaError::Draining => "draining",
        MediaError::TooManyMedia => "too-many-media",
        MediaError::TooManyTags => "too-many-tags",
        MediaError::AnswerCount { .. } => "answer-count",
        MediaError::UnknownInterface(_) => "unknown-interface",
        MediaError::Family { .. } => "wrong-family",
        MediaError::NoInterface(_) => "no-interface",
        MediaError::NoDestination(_) => "no-destination",
        MediaError::Profile { .. } => "profile",
    }
}
