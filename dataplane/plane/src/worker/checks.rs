//! Connectivity checks of ICE (RFC 8445, 7.3): answered by the worker that receives them, whoever owns the stream.
//!
//! A check touches no meter, so nobody has to be asked; what it changes of the stream is the steward's to do, by the queue of
//! latches. What verifies costs two HMACs, some microseconds: it is bounded per stream and per worker, and only who
//! names the stream's user name fragment gets so far. Others cost a look at their attributes; few of them get an answer.

use super::Exit;
use super::stages::Step;
use crate::slow::{Latch, ToWorker};
use crate::steward::Bucket;
use penstock_dpdk::{Mbuf, TxBatch};
use penstock_relay::learn::{self, Ask};
use penstock_relay::local::{REPLY_HEADERS, udp_reply};
use penstock_relay::stun::{self, Answer, Message, Refusal, Request};
use penstock_relay::{Drop, Udp, source};
use penstock_shm::copies::Direction;
use penstock_shm::{Entry, Ice, Learn};
use std::net::SocketAddr;

const SECOND_NS: u64 = 1_000_000_000;
/// Checks that a stream may verify within a second: agents pace theirs, 50 ms apart and more (RFC 8445, 14.2).
const PER_STREAM: u32 = 50;
/// Checks that a worker verifies in a second: an eighth of its time.
const PER_WORKER: u32 = 50_000;
/// Refusals of strangers that a worker answers in a second. They may go to whom a stranger names.
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

    /// Whether the sender may be told of one more refusal now. Who has verified is told always, as of success.
    fn tells(&mut self, refusal: Refusal, now_ns: u64) -> bool {
        refusal.is_signed() || self.refusals.take(now_ns)
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

/// What becomes of a message.
struct Outcome {
    /// Why it is none that counts.
    dropped: Option<Drop>,
    /// What is said to its sender.
    answer: Option<Answer>,
}

/// Why a request does not count.
enum Fault {
    /// Nothing is said.
    Drop(Drop),
    /// Its sender is told so.
    Refuse(Refusal),
}

impl From<Refusal> for Fault {
    fn from(refusal: Refusal) -> Fault {
        Fault::Refuse(refusal)
    }
}

impl Step<'_> {
    /// Takes STUN to a stream with ICE.
    pub(super) fn check(&mut self, mbuf: Mbuf, udp: &Udp, entry: Entry<'_>, ice: &Ice) {
        self.capture(&mbuf, entry, Direction::Ingress);
        let Outcome { dropped, answer } = match self.admit(&mbuf, udp) {
            Ok(source) => self.hear(&mbuf, udp, source, entry, ice),
            Err(reason) => Outcome {
                dropped: Some(reason),
                answer: None,
            },
        };
        let answered = match answer {
            Some(answer) => self.reply(mbuf, udp, entry, &answer),
            None => {
                self.free(mbuf);
                Ok(())
            }
        };
        // A check whose answer is lost is a check lost: who asked asks again.
        match dropped.or(answered.err()) {
            Some(reason) => {
                entry.tally().count_dropped(reason);
                self.counters.drops[reason as usize].add(1);
            }
            None => self.counters.consumed.add(1),
        }
    }

    /// The message's source, if it may send at all.
    fn admit(&self, mbuf: &Mbuf, udp: &Udp) -> Result<SocketAddr, Drop> {
        let source = source(mbuf.frame(), udp).ok_or(Drop::Malformed)?;
        // An endpoint of the plane asks nobody.
        if self.crossed > 0 {
            return Err(Drop::Source);
        }
        match self.shared.rules.sources.admit(source.ip()) {
            true => Ok(source),
            false => Err(Drop::Denied),
        }
    }

    fn hear(
        &mut self,
        mbuf: &Mbuf,
        udp: &Udp,
        source: SocketAddr,
        entry: Entry<'_>,
        ice: &Ice,
    ) -> Outcome {
        let payload = udp.payload(mbuf.frame()).unwrap_or_default();
        let request = match stun::parse(payload) {
            Ok(Message::Request(request)) => request,
            other => {
                return Outcome {
                    dropped: other.err(),
                    answer: None,
                };
            }
        };
        let (dropped, answer) = match self.verify(&request, source, entry, ice) {
            Ok(()) => {
                let software = &self.shared.rules.software;
                (None, Some(request.answer(source, ice, software)))
            }
            Err(Fault::Drop(reason)) => (Some(reason), None),
            Err(Fault::Refuse(refusal)) => match self.out.checks.tells(refusal, self.now_ns) {
                true if request.is_sound() => {
                    (Some(Drop::StunCheck), Some(request.refuse(refusal, ice)))
                }
                true => (Some(Drop::Stun), None),
                false => (Some(Drop::StunCheck), None),
            },
        };
        Outcome { dropped, answer }
    }

    /// Verifies a request, and has the steward make its source the stream's remote, if that changes anything. What the steward
    /// has no room for is not answered, and asked again.
    fn verify(
        &mut self,
        request: &Request<'_>,
        source: SocketAddr,
        entry: Entry<'_>,
        ice: &Ice,
    ) -> Result<(), Fault> {
        request.name(ice)?;
        let record = self.view.number(entry);
        if !self.out.checks.take(record, self.now_ns) {
            return Err(Fault::Drop(Drop::StunLimit));
        }
        if !request.is_sound() {
            return Err(Fault::Drop(Drop::Stun));
        }
        let check = request.verify(ice)?;
        let stream = (entry.slot(), entry.tally());
        let patience = &self.shared.rules.patience;
        if learn::checked(source, &check, stream, patience, self.now_ns).is_none() {
            return Ok(());
        }
        let latch = Latch {
            record,
            version: entry.slot().version,
            source,
            ask: Ask::Check {
                ufrag: ice.ufrag,
                check,
            },
        };
        let pushed = self.shared.queues.latches.push(latch);
        self.shared.ringer.ring();
        pushed.map_err(|_| Fault::Drop(Drop::StunLimit))
    }

    /// Sends an answer in place of what it answers, which is not counted yet.
    ///
    /// # Errors
    /// Why it was not sent.
    fn reply(
        &mut self,
        mut mbuf: Mbuf,
        udp: &Udp,
        entry: Entry<'_>,
        answer: &Answer,
    ) -> Result<(), Drop> {
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
                self.send_own(mbuf)
            }
            _ => {
                self.free(mbuf);
                Err(Drop::Malformed)
            }
        }
    }

    /// Sends a packet of the plane's own where one was received: by itself, so that media which waits for the burst's end leaves
    /// in one burst.
    fn send_own(&mut self, mbuf: Mbuf) -> Result<(), Drop> {
        let port = self.port;
        match self.out.exits.get_mut(usize::from(port)) {
            Some(Exit::Own(tx, _)) => {
                let mut alone = TxBatch::new();
                alone.push(mbuf).map_err(|_| Drop::Malformed)?;
                match tx.send(&mut alone).sent {
                    0 => return Err(Drop::TxFull),
                    sent => self.counters.tx_steward.add(sent as u64),
                }
            }
            Some(&mut Exit::Through(sender)) => {
                let packet = ToWorker {
                    port,
                    mbuf,
                    relayed: false,
                    stream: None,
                };
                let pushed = self.shared.queues.send(sender, packet);
                pushed.map_err(|_| Drop::TxFull)?;
            }
            None => return Err(Drop::NoRoute),
        }
        Ok(())
    }

    /// Frees a packet that is counted already.
    fn free(&mut self, mbuf: Mbuf) {
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
    fn strangers_leave_who_verified_its_answer() {
        let mut limits = Limits::new();
        let strangers = (0..10 * REFUSALS).map(|n| match n % 2 {
            0 => Refusal::BadRequest,
            _ => Refusal::Unauthenticated,
        });
        let told = strangers.filter(|refusal| limits.tells(*refusal, SECOND_NS));
        assert_eq!(told.count(), REFUSALS as usize);
        for refusal in [Refusal::RoleConflict, Refusal::UnknownAttribute] {
            assert!(limits.tells(refusal, SECOND_NS), "{refusal:?}");
        }
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
