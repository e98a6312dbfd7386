//! A worker: one pinned core, one loop.
//!
//! ```text
//! receive a burst -> classify -> look up -> verdict -> rewrite -> send the burst
//! ```
//!
//! The loop runs in stages over the burst, so that slots and meters are asked for one stage before they are
//! needed; packet headers are asked for some packets ahead. It allocates nothing, takes no lock, logs
//! nothing, and reads the clock at most once per burst. What it cannot do itself goes to the
//! steward through a bounded queue; what does not fit there is dropped and counted.

mod capture;
mod checks;
mod delivery;
mod exception;
mod flood;
mod idle;
mod looks;
mod moves;
mod stages;
mod strays;
mod ties;

use crate::adjacency::{Adjacencies, Hop};
use crate::clock::Clock;
use crate::fans::Fans;
use crate::limit::Limit;
use crate::renewal::Notice;
use crate::slow::{Queues, ToWorker};
use delivery::Deliveries;
use flood::Floods;
use idle::Idle;
use looks::{Looks, Sixes, look};
use moves::Moves;
use penstock_config::{Polling, PortRange};
use penstock_dpdk::{Burst, Mbuf, MbufPool, PerPacket, RxQueue, Sent, TxBatch, TxQueue};
use penstock_relay::{Drop, LocalAddrs, Rules};
use penstock_shm::copies::CopyWriter;
use penstock_shm::{Ringer, WorkerCounters, WorkerTable};
use stages::{Passed, Step};
use std::sync::Arc;

/// What a worker has of a port.
pub struct PortSide {
    /// Receives here, if the port has a queue for this worker.
    pub rx: Option<RxQueue>,
    /// Sends here, likewise.
    pub tx: Option<TxQueue>,
    /// Which worker sends for it otherwise.
    pub sender: usize,
    /// The port's MAC.
    pub mac: [u8; 6],
    /// Whether its NIC checks IPv4 header checksums.
    pub checks_ip: bool,
    /// The port's addresses.
    pub locals: LocalAddrs,
    /// Where endpoints can be; kept for ports with an exception port.
    pub media: Vec<MediaPorts>,
    /// What the port is for.
    pub role: Role,
    /// What the kernel takes of the port's packets; for ports with an exception port.
    pub limit: Arc<Limit>,
    /// Where packets that it receives live, and copies of them.
    pub pool: MbufPool,
}

/// What a port is for.
#[derive(Clone, Copy, Debug)]
pub enum Role {
    /// Media.
    Media {
        /// Index of the port through which the kernel has what is no media.
        kernel: Option<usize>,
    },
    /// The kernel's packets for a port, and that port's for the kernel.
    Exception {
        /// Index of that port.
        port: usize,
    },
}

/// UDP ports of an address where endpoints can be.
#[derive(Clone, Copy, Debug)]
pub struct MediaPorts {
    /// The address's number.
    pub addr: u16,
    /// First and last.
    pub ports: PortRange,
}

/// What all workers share.
#[derive(Clone)]
pub struct Shared {
    /// Next hops.
    pub adjacencies: Arc<Adjacencies>,
    /// Which streams are fed by which.
    pub fans: Arc<Fans>,
    /// What holds for all streams.
    pub rules: Arc<Rules>,
    /// Queues to and from the steward and between workers.
    pub queues: Arc<Queues>,
    /// Wakes the steward.
    pub ringer: Ringer,
    /// What the worker is to notice.
    pub notice: Arc<Notice>,
    /// Whether who sends to a port that nobody has is told so.
    pub port_unreachable: bool,
}

/// One polling core.
pub struct Worker {
    number: usize,
    table: WorkerTable,
    ports: Vec<PortSide>,
    shared: Shared,
    out: Out,
    clock: Clock,
    moves: Moves,
    /// How often the bell had rung when all its queues were empty.
    heard: u32,
    /// The notice heeded last.
    noticed: u32,
    burst_max: usize,
    idle: Idle,
}

/// Busy or idle, and since when by the time stamp counter, which is read when that changes.
struct Shift {
    busy: bool,
    since: u64,
    turns: u32,
}

impl Shift {
    fn new() -> Shift {
        Shift {
            busy: false,
            since: penstock_dpdk::tsc(),
            turns: 0,
        }
    }

    #[inline]
    fn turn(&mut self, busy: bool, counters: &WorkerCounters) {
        self.turns = self.turns.wrapping_add(1);
        // Readers see what is long.
        if busy != self.busy || self.turns.is_multiple_of(if busy { 1024 } else { 16 }) {
            self.settle(busy, counters);
        }
    }

    #[inline(never)]
    fn settle(&mut self, busy: bool, counters: &WorkerCounters) {
        let now = penstock_dpdk::tsc();
        let ticks = now.wrapping_sub(self.since);
        let count = match self.busy {
            true => &counters.cycles_busy,
            false => &counters.cycles_idle,
        };
        count.add(ticks);
        (self.busy, self.since) = (busy, now);
    }
}

/// Packets on their way out.
struct Out {
    exits: Vec<Exit>,
    /// The exits from this one on lead to the kernel.
    first_exception: usize,
    /// Packets that were dropped in this burst: freed together.
    dead: Burst,
    /// The next hop of the packet before: mostly it is this one's too.
    hop: Hop,
    /// Who sends to ports without a stream.
    floods: Floods,
    /// Who sends to the kernel more than it takes.
    kernel_floods: Floods,
    /// Where copies of captured calls go.
    copies: CopyWriter,
    /// What goes from endpoint to endpoint of the plane.
    deliveries: Deliveries,
    /// How many connectivity checks it looks at.
    checks: checks::Limits,
}

/// How this worker sends through a port.
#[expect(
    clippy::large_enum_variant,
    reason = "a handful, each in use: no box on the packet path"
)]
enum Exit {
    /// By a queue of its own.
    Own(TxQueue, Outgoing),
    /// By leaving the packet to that worker.
    Through(usize),
}

/// Packets collected for a queue, and of which streams they are.
struct Outgoing {
    batch: TxBatch,
    /// Numbers of records, by packet.
    records: [u32; TxBatch::CAPACITY],
}

impl Outgoing {
    /// Of no stream.
    const NONE: u32 = u32::MAX;

    fn new() -> Outgoing {
        Outgoing {
            batch: TxBatch::new(),
            records: [Outgoing::NONE; TxBatch::CAPACITY],
        }
    }

    /// As [`TxBatch::push`], of this record or of [`Outgoing::NONE`].
    #[inline]
    fn push(&mut self, mbuf: Mbuf, record: u32) -> Result<(), Mbuf> {
        let at = self.batch.len();
        self.batch.push(mbuf)?;
        self.records[at] = record;
        Ok(())
    }

    /// The records of what a queue did not take of the batch.
    fn unsent(&self, sent: Sent) -> impl Iterator<Item = u32> {
        let unsent = self.records.iter().skip(sent.sent).take(sent.unsent);
        unsent.copied().filter(|record| *record != Outgoing::NONE)
    }
}

impl Worker {
    /// A worker over its parts; `ports` in the order of the configuration.
    pub fn new(
        table: WorkerTable,
        copies: CopyWriter,
        mut ports: Vec<PortSide>,
        shared: Shared,
        burst_max: usize,
        polling: Polling,
        unknown_ports_per_s: u32,
    ) -> Worker {
        let exit = |side: &mut PortSide| match side.tx.take() {
            Some(tx) => Exit::Own(tx, Outgoing::new()),
            None => Exit::Through(side.sender),
        };
        let is_media = |side: &&PortSide| matches!(side.role, Role::Media { .. });
        let out = Out {
            first_exception: ports.iter().filter(is_media).count(),
            exits: ports.iter_mut().map(exit).collect(),
            dead: Burst::new(),
            hop: Hop::none(),
            floods: Floods::new(unknown_ports_per_s),
            kernel_floods: Floods::new(unknown_ports_per_s),
            copies,
            deliveries: Deliveries::new(),
            checks: checks::Limits::new(),
        };
        let idle = Idle::new(polling, &ports);
        Worker {
            number: table.number(),
            table,
            ports,
            shared,
            out,
            clock: Clock::new(),
            moves: Moves::new(),
            heard: 0,
            noticed: 0,
            burst_max,
            idle,
        }
    }

    /// Polls until the plane stops.
    pub fn run(mut self) {
        let mut burst = Burst::new();
        let mut shift = Shift::new();
        self.idle.begin();
        loop {
            let (mut got, mut sent) = (0, 0);
            let rings = self.shared.queues.bells[self.number].rings();
            if rings != self.heard {
                match self.answer(rings, &mut burst) {
                    Some(found) => (got, sent) = found,
                    None => break,
                }
            }
            for port in 0..self.ports.len() {
                let Some(rx) = &mut self.ports[port].rx else {
                    continue;
                };
                let received = rx.receive(&mut burst, self.burst_max);
                if received > 0 {
                    got += received;
                    self.relay(port, &mut burst);
                }
            }
            if !self.out.deliveries.is_empty() {
                got += self.deliver();
            }
            if got == 0 {
                self.clock.idle();
            }
            got += sent;
            if got > 0 {
                self.table.counters().polls_busy.add(1);
                self.idle
                    .worked(self.number, &mut self.ports, &self.shared.queues, got);
            }
            shift.turn(got > 0, self.table.counters());
            if got == 0 {
                self.table.counters().polls_idle.add(1);
                self.idle
                    .rest(&mut self.table, &mut self.ports, &self.shared.queues);
            }
        }
        self.table.offline();
    }

    /// The bell has rung: looks at what it may have rung for. Says how many packets there were of the steward's and of other
    /// workers' to relay, and how many of others' to send; `None` if the plane stops.
    #[inline(never)]
    fn answer(&mut self, rings: u32, burst: &mut Burst) -> Option<(usize, usize)> {
        if self.shared.notice.word() != self.noticed && !self.heed() {
            return None;
        }
        // First, while the ports' queues have room: what is asked and answered must not wait behind media.
        let got = self.send_for_steward() + self.handed_over(burst);
        let sent = self.send_for_others();
        if self.shared.queues.are_empty(self.number) {
            self.heard = rings;
        }
        Some((got, sent))
    }

    /// Takes over what the steward renewed; false if the plane stops.
    fn heed(&mut self) -> bool {
        let Some(word) = self.shared.notice.heed() else {
            return false;
        };
        self.noticed = word;
        while let Some(renewal) = self.shared.queues.renewals[self.number].pop() {
            self.shared.rules = renewal.rules;
            for (side, (locals, media)) in self.ports.iter_mut().zip(renewal.sides) {
                side.locals = locals;
                side.media = media;
            }
            self.out.floods = Floods::new(renewal.unknown_ports_per_s);
            self.out.kernel_floods = Floods::new(renewal.unknown_ports_per_s);
        }
        true
    }

    /// Relays a burst that arrived at `port`.
    fn relay(&mut self, port: usize, burst: &mut Burst) {
        if let Role::Exception { port } = self.ports[port].role {
            return self.send_for_kernel(port, burst);
        }
        let view = &self.table.pin();
        let counters = view.counters();
        let now_ns = self.clock.now_ns(burst.len() >= self.burst_max);
        let side = &self.ports[port];
        counters.rx.add(burst.len() as u64);
        counters.bursts[burst.len().max(1).ilog2() as usize].add(1);

        let mut step = Step {
            number: self.number,
            port: port as u8,
            side,
            sides: &self.ports,
            view,
            counters,
            now_ns,
            crossed: 0,
            shared: &self.shared,
            out: &mut self.out,
        };
        let mut passed = Passed::default();
        let mut looks = PerPacket::<Looks<'_>>::new();
        // In a block, for the rests borrow the burst until they are dropped.
        {
            let mut sixes = Sixes::new();
            let seen = if side.checks_ip {
                look::<true>(burst, side, view, &mut looks, &mut sixes)
            } else {
                look::<false>(burst, side, view, &mut looks, &mut sixes)
            };
            step.pass(seen, &mut sixes, &mut passed);
        }
        match passed.exit() {
            Some(exit) => step.send_burst(exit, burst, &looks),
            None => step.finish(burst, &passed, &looks),
        }
    }

    /// Relays what other workers received of our streams.
    fn handed_over(&mut self, burst: &mut Burst) -> usize {
        let mut port = 0;
        let mut total = 0;
        while let Some(next) = self.shared.queues.of(self.number).1.pop() {
            if burst.len() == self.burst_max || (!burst.is_empty() && next.port != port) {
                self.relay(usize::from(port), burst);
            }
            total += 1;
            let view = self.table.pin();
            self.moves.count(next.record, usize::from(next.from), &view);
            if next.crossed > 0 {
                self.out.deliveries.hand_over(next, &view);
            } else {
                port = next.port;
                let _ = burst.push(next.mbuf);
            }
            if total == Burst::CAPACITY {
                break;
            }
        }
        if !burst.is_empty() {
            self.relay(usize::from(port), burst);
        }
        if !self.out.deliveries.is_empty() {
            self.deliver();
        }
        let view = self.table.pin();
        let moved = self.moves.give(&view, self.number);
        view.counters().streams_moved.add(moved);
        total
    }

    /// Sends what the steward asks and answers.
    fn send_for_steward(&mut self) -> usize {
        let mut total = 0;
        while total < Burst::CAPACITY
            && let Some(packet) = self.shared.queues.of_steward(self.number)
        {
            total += 1;
            self.send_left(packet);
        }
        total
    }

    /// Sends what a worker without a queue at the port left to us, and media that waited for its next hop.
    fn send_for_others(&mut self) -> usize {
        let mut total = 0;
        while total < Burst::CAPACITY
            && let Some(packet) = self.shared.queues.of(self.number).0.pop()
        {
            total += 1;
            self.send_left(packet);
        }
        total
    }

    fn send_left(&mut self, packet: ToWorker) {
        let ToWorker {
            port,
            mbuf,
            relayed,
            stream,
        } = packet;
        // Nobody is asked to send where he has no queue.
        let is_sent = match self.out.exits.get_mut(usize::from(port)) {
            Some(Exit::Own(tx, Outgoing { batch, .. })) => {
                batch.push(mbuf).is_ok() && tx.send(batch).sent == 1
            }
            _ => false,
        };
        let view = self.table.pin();
        let counters = view.counters();
        if !relayed {
            return counters.tx_steward.add(u64::from(is_sent));
        }
        counters.rx.add(1);
        if !is_sent {
            counters.drops[Drop::TxFull as usize].add(1);
            if let Some(stream) = stream {
                view.count_dropped(stream, Drop::TxFull);
            }
        } else if usize::from(port) >= self.out.first_exception {
            counters.to_kernel.add(1);
        } else {
            counters.forwarded.add(1);
        }
    }
}
