//! The steward: the plane's one thread that sleeps.
//!
//! It applies control's commands and the workers' latches, answers ARP, neighbour discovery and ICMP for our
//! addresses, finds next hops, keeps the packets that wait for one, and ages what has ended. What it sends
//! goes through a worker's queue, from a pool of its own.

mod local;
mod reload;

pub use local::{Announcements, Bucket};
pub use reload::Reloader;

use crate::addresses::Local;
use crate::adjacency::Adjacencies;
use crate::health::Health;
use crate::limit::Limit;
use crate::renewal::Notice;
use crate::slow::{Queues, ToWorker, Unresolved};
use crate::streams::Streams;
use crate::timers::Watch;
use crate::waiting::Waiting;
use penstock_dpdk::{Mbuf, MbufPool};
use penstock_relay::Drop;
use penstock_shm::{
    CommandConsumer, Event, EventProducer, MAX_OPS, PlaneBell, Pulse, RecordId, WorkerTable,
    monotonic_ns,
};
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Duration;

/// The longest sleep: next hops are asked for at this grain.
const PULSE: Duration = Duration::from_millis(50);
/// Records freed in a turn: a second's worth of ended calls takes milliseconds, and commands wait.
const EXPIRES: usize = 128;
/// Commands, latches and packets handled before a look at the others.
const BATCH: usize = 1024;

/// The steward's parts.
pub struct Steward {
    /// The table and the routes.
    pub streams: Streams,
    /// Media that stays away.
    pub watch: Watch,
    /// From control.
    pub commands: CommandConsumer,
    /// To control.
    pub events: EventProducer,
    /// Wakes and is woken.
    pub bell: PlaneBell,
    /// The heartbeat.
    pub pulse: Pulse,
    /// Our addresses.
    pub locals: Vec<Local>,
    /// Next hops.
    pub adjacencies: Arc<Adjacencies>,
    /// To and from the workers.
    pub queues: Arc<Queues>,
    /// Packets of its own.
    pub pool: MbufPool,
    /// The steward's counters: it counts like a worker, but holds no slot.
    pub counters: WorkerTable,
    /// What ICMP messages may leave.
    pub icmp: Bucket,
    /// By port: the port through which the kernel hears what this one does, and how much of it.
    pub kernels: Vec<Option<(usize, Limit)>>,
    /// What addresses are to be announced.
    pub announcements: Announcements,
    /// The configuration in force.
    pub reloader: Reloader,
    /// What workers are to notice.
    pub notice: Arc<Notice>,
}

impl Steward {
    /// Works until `stop` is readable. Reads the configuration anew whenever the reloader is asked to.
    pub fn run(mut self, stop: BorrowedFd<'_>, mut health: Health<'_>) {
        self.counters.offline();
        let mut waiting = Waiting::new();
        let mut sweep_at = 0;
        loop {
            let now_ns = monotonic_ns();
            // A worker that stands still brings no answers either: a neighbour's silence counts only while the
            // worker takes what it is given to send.
            // Nor does one whose answers find no room: a flood must not pass for silence.
            let expected = &self.queues.expected;
            let is_taken = self.queues.has_asked() && expected.len() < expected.capacity() / 2;
            self.latch(now_ns);
            let events = &mut self.events;
            // Control reads in the table what it missed.
            self.streams.tick(now_ns, |event| {
                events.push(event);
            });
            // Refusals need room.
            let mut report = |event| events.room() > MAX_OPS && events.push(event);
            let is_watching = self.watch.turn(self.streams.table(), now_ns, &mut report);
            self.hear_workers(&mut waiting, now_ns);
            self.apply_commands(now_ns);
            if is_taken {
                let work = self.streams.links().due(now_ns);
                self.do_work(work, &mut waiting);
            }
            self.pierce(now_ns);
            self.announce(now_ns, |port| health.link_up(port));
            waiting.expire(now_ns, |stream| self.dropped(stream, Drop::NextHop));
            let is_expiring = self.streams.table().expire(now_ns, EXPIRES);
            if now_ns >= sweep_at {
                self.streams.sweep(now_ns);
                sweep_at = now_ns + PULSE.as_nanos() as u64;
            }
            for change in health.look(now_ns, self.streams.table()) {
                self.events.push(change.into());
            }
            self.pulse.beat(now_ns);
            if is_expiring || is_watching {
                continue;
            }
            let queues = &self.queues;
            let extra = [stop, self.reloader.asks()];
            if self.bell.wait(|| queues.wait_for_steward(), &extra, PULSE) {
                if !self.reloader.is_asked() {
                    return;
                }
                self.reload();
            }
        }
    }

    fn apply_commands(&mut self, now_ns: u64) {
        // A refusal is never lost: there is room for it before the command is taken.
        for _ in 0..BATCH {
            if self.events.room() == 0 {
                return;
            }
            let Some(next) = self.commands.next() else {
                return;
            };
            let (seq, result) = match next {
                Ok(command) => (command.seq, self.streams.apply(&command, now_ns)),
                Err(bad) => {
                    tracing::warn!(
                        command = bad.seq,
                        why = bad.why,
                        "control sent a command that cannot be"
                    );
                    (
                        bad.seq,
                        Err((
                            penstock_shm::Refusal::Malformed,
                            penstock_shm::Endpoint::from_bits(0),
                        )),
                    )
                }
            };
            if let Err((reason, endpoint)) = result {
                self.events.push(Event::Refused {
                    seq,
                    reason,
                    endpoint,
                });
            }
            self.commands.applied(seq);
        }
    }

    fn latch(&mut self, now_ns: u64) {
        for _ in 0..BATCH {
            let Some(latch) = self.queues.latches.pop() else {
                return;
            };
            if let Some(event) = self.streams.latch(&latch, now_ns) {
                // Control reads the latch in the table if it missed the event.
                self.events.push(event);
            }
        }
    }

    fn hear_workers(&mut self, waiting: &mut Waiting, now_ns: u64) {
        let queues = Arc::clone(&self.queues);
        // Those that are there: who was answered may ask again, and again in his name.
        for _ in 0..queues.expected.len() {
            let Some(arrived) = queues.expected.pop() else {
                break;
            };
            self.consumed();
            self.hear_neighbour(&arrived, true, waiting, now_ns);
        }
        for _ in 0..BATCH {
            let Some(arrived) = queues.neighbours.pop() else {
                break;
            };
            self.consumed();
            self.hear_neighbour(&arrived, false, waiting, now_ns);
        }
        for _ in 0..BATCH {
            let Some(packet) = queues.unresolved.pop() else {
                break;
            };
            self.counters.counters().rx.add(1);
            self.unresolved(packet, waiting, now_ns);
        }
        for _ in 0..BATCH {
            let Some(arrived) = queues.echoes.pop() else {
                break;
            };
            self.consumed();
            self.echo(arrived, now_ns);
        }
        for _ in 0..BATCH {
            let Some(arrived) = queues.unreachable.pop() else {
                break;
            };
            self.unreachable(&arrived, now_ns);
        }
    }

    fn consumed(&self) {
        let counters = self.counters.counters();
        counters.rx.add(1);
        counters.consumed.add(1);
    }

    /// Media without a next hop: waits, or goes on if the next hop was resolved meanwhile.
    fn unresolved(&mut self, packet: Unresolved, waiting: &mut Waiting, now_ns: u64) {
        let stream = packet.stream;
        match self.adjacencies.get(packet.adjacency) {
            Some(hop) if hop.resolved => {
                let mut mbuf = packet.mbuf;
                address(&mut mbuf, hop.l2.destination());
                self.relayed(hop.port as u8, stream, mbuf);
            }
            _ => {
                if !waiting.push(packet, now_ns) {
                    self.dropped(stream, Drop::NextHop);
                }
            }
        }
    }

    /// A stream's packet is dropped.
    fn dropped(&mut self, stream: RecordId, reason: Drop) {
        self.counters.counters().drops[reason as usize].add(1);
        self.streams.table().count_dropped(stream, reason);
    }

    /// Sends a stream's packet whose next hop is known by now.
    fn relayed(&mut self, port: u8, stream: RecordId, mbuf: Mbuf) {
        let packet = ToWorker {
            port,
            mbuf,
            relayed: true,
            stream: Some(stream),
        };
        match self.queues.send(0, packet) {
            Ok(()) => self.counters.counters().handed_over.add(1),
            Err(_) => self.dropped(stream, Drop::TxFull),
        }
    }
}

/// Writes the next hop's MAC, the one thing such a packet lacked.
fn address(mbuf: &mut Mbuf, mac: [u8; 6]) {
    if let Some(destination) = mbuf.frame_mut().first_chunk_mut::<6>() {
        *destination = mac;
    }
}
