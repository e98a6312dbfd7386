//! Connectivity checks of ICE (RFC 8445, 7.3): answered by the worker that receives them, whoever owns the stream.
//!
//! A check touches no meter, so nobody has to be asked; what it changes of the stream is the steward's to do, by the queue of
//! latches. What verifies costs two HMACs, some microseconds: it is bounded per stream and per worker, and only who
//! names the stream's user name fragment gets so far.

use super::stages::Step;
use super::{Exit, Outgoing};
use crate::slow::{Latch, ToWorker};
use crate::steward::Bucket;
use penstock_dpdk::Mbuf;
use penstock_relay::learn::{self, Ask};
use penstock_relay::local::{REPLY_HEADERS, udp_reply};
use penstock_relay::stun::{self, Answer, Message, Refusal};
use penstock_relay::{Drop, Udp, source};
use penstock_shm::copies::Direction;
use penstock_shm::{Entry, Ice, Learn};
use std::net::SocketAddr;

const SECOND_NS: u64 = 1_000_000_000;
/// Checks that a stream may verify within a second: agents pace theirs, 50 ms apart and more (RFC 8445, 14.2).
const PER_STREAM: u32 = 50;
/// Checks that a worker verifies in a second: an eighth of its time.
const PER_WORKER: u32 = 50_000;
/// Refusals that a worker answers in a second. They may go to whom a stranger names.
const REFUSALS: u32 = 100;
/// Streams beyond so many share a place with others.
const PLACES: usize = 8192;

/// What a stream had verified in a second.
#[derive(Clone, Copy, Default)]
struct Place {
    second: u32,
    checks: u32,
}

/// How many checks a worker looks at.
pub(super) struct Limits {
    streams: Box<[Place]>,
    all: Bucket,
    refusals: Bucket,
}

impl Limits {
    pub(super) fn new() -> Limits {
        Limits {
            streams: vec![Place::default(); PLACES].into(),
            all: Bucket::new(PER_WORKER, 0),
            refusals: Bucket::new(REFUSALS, 0),
        }
    }

    /// Whether one more check of the stream may be verified now.
    fn take(&mut self, record: u32, now_ns: u64) -> bool {
        let second = (now_ns / SECOND_NS) as u32;
        let place = &mut self.streams[record as usize % PLACES];
        if place.second != second {
            *place = Place { second, checks: 0 };
        }
        place.checks = place.checks.saturating_add(1);
        place.checks <= PER_STREAM && self.all.take(now_ns)
    }
}

/// The ICE credentials of the stream, if the datagram is STUN for its agent.
pub(super) fn for_agent(mbuf: &Mbuf, udp: &Udp, entry: Entry<'_>) -> Option<Ice> {
    let has_ice = entry.slot().learn == Learn::Checks as u8;
    let is_stun = || udp.payload(mbuf.frame()).is_some_and(stun::is_stun);
    if has_ice && is_stun() {
        entry.ice()
    } else {
        None
    }
}

impl Step<'_> {
    /// Takes STUN to a stream with ICE.
    pub(super) fn check(&mut self, mbuf: Mbuf, udp: &Udp, entry: Entry<'_>, ice: &Ice) {
        self.capture(&mbuf, entry, Direction::Ingress);
        let refused = match self.admit(&mbuf, udp, entry, ice) {
            Ok(None) => {
                self.counters.consumed.add(1);
                return self.drop_uncounted(mbuf);
            }
            Ok(Some(answer)) => {
                self.counters.consumed.add(1);
                return self.reply(mbuf, udp, entry, &answer);
            }
            Err(refused) => refused,
        };
        match refused {
            (reason, Some(answer)) if self.out.checks.refusals.take(self.now_ns) => {
                entry.tally().count_dropped(reason);
                self.counters.drops[reason as usize].add(1);
                self.reply(mbuf, udp, entry, &answer);
            }
            (reason, _) => self.drop_of(entry, mbuf, reason),
        }
    }

    /// What is to be said to a message that is as it should be, and why one is not, with what is said then.
    fn admit(
        &mut self,
        mbuf: &Mbuf,
        udp: &Udp,
        entry: Entry<'_>,
        ice: &Ice,
    ) -> Result<Option<Answer>, (Drop, Option<Answer>)> {
        let source = source(mbuf.frame(), udp).ok_or((Drop::Malformed, None))?;
        // An endpoint of the plane asks nobody.
        if self.crossed > 0 {
            return Err((Drop::Source, None));
        }
        let rules = &self.shared.rules;
        if !rules.sources.admit(source.ip()) {
            return Err((Drop::Denied, None));
        }
        let payload = udp.payload(mbuf.frame()).unwrap_or_default();
        let request = match stun::parse(payload).map_err(|reason| (reason, None))? {
            Message::Indication => return Ok(None),
            Message::Request(request) => request,
        };
        let refuse = |refusal: Refusal| (Drop::StunCheck, Some(request.refuse(refusal, ice)));
        request.name(ice).map_err(refuse)?;
        let record = self.view.number(entry);
        if !self.out.checks.take(record, self.now_ns) {
            return Err((Drop::StunLimit, None));
        }
        let check = request.verify(ice).map_err(refuse)?;
        self.learn(source, entry, ice, check.nominates)?;
        Ok(Some(request.answer(source, ice, &rules.software)))
    }

    /// Has the steward make the source of a check the stream's remote, if that changes anything. What it has no room for is
    /// not answered, and asked again.
    fn learn(
        &self,
        source: SocketAddr,
        entry: Entry<'_>,
        ice: &Ice,
        nominates: bool,
    ) -> Result<(), (Drop, Option<Answer>)> {
        if learn::checked(source, entry.slot(), nominates).is_none() {
            return Ok(());
        }
        let latch = Latch {
            record: self.view.number(entry),
            version: entry.slot().version,
            source,
            ask: Ask::Check {
                ufrag: ice.ufrag,
                nominates,
            },
        };
        let pushed = self.shared.queues.latches.push(latch);
        self.shared.ringer.ring();
        pushed.map_err(|_| (Drop::StunLimit, None))
    }

    /// Sends an answer in place of what it answers.
    fn reply(&mut self, mut mbuf: Mbuf, udp: &Udp, entry: Entry<'_>, answer: &Answer) {
        let mut frame = [0; REPLY_HEADERS + Answer::MOST];
        let written = udp_reply(
            mbuf.frame(),
            udp,
            self.side.mac,
            answer.octets(),
            &mut frame,
        );
        match written.and_then(|len| frame.get(..len)) {
            Some(frame) if mbuf.set_data(frame) => {
                self.capture(&mbuf, entry, Direction::Egress);
                self.send_own(mbuf);
            }
            _ => self.drop_uncounted(mbuf),
        }
    }

    /// Sends a packet of the plane's own where one was received. It is not sent again: who asked asks again.
    fn send_own(&mut self, mbuf: Mbuf) {
        // What is collected for the queue is others'.
        self.flush();
        let port = self.port;
        match self.out.exits.get_mut(usize::from(port)) {
            Some(Exit::Own(tx, Outgoing { batch, .. })) => {
                if batch.push(mbuf).is_ok() {
                    self.counters.tx_steward.add(tx.send(batch).sent as u64);
                }
            }
            Some(&mut Exit::Through(sender)) => {
                let packet = ToWorker {
                    port,
                    mbuf,
                    relayed: false,
                    stream: None,
                };
                let _ = self.shared.queues.send(sender, packet);
            }
            None => {}
        }
    }

    /// Frees a packet that is counted already.
    fn drop_uncounted(&mut self, mbuf: Mbuf) {
        let _ = self.out.dead.push(mbuf);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_that_is_flooded_takes_no_other_streams_checks() {
        let mut limits = Limits::new();
        let now_ns = 7 * SECOND_NS;
        let taken = |limits: &mut Limits, record, now_ns, n| {
            (0..n).filter(|_| limits.take(record, now_ns)).count()
        };
        assert_eq!(taken(&mut limits, 1, now_ns, 100_000), PER_STREAM as usize);
        assert_eq!(taken(&mut limits, 2, now_ns, 10), 10);
        assert_eq!(taken(&mut limits, 1, now_ns + SECOND_NS, 10), 10);
    }

    #[test]
    fn a_worker_verifies_so_many_in_all() {
        let mut limits = Limits::new();
        let streams = 0..2 * PER_WORKER / PER_STREAM;
        let many = streams.flat_map(|record| vec![record; PER_STREAM as usize]);
        let taken = many
            .filter(|record| limits.take(*record, SECOND_NS))
            .count();
        assert_eq!(taken, PER_WORKER as usize);
    }
}
