//! A worker: one pinned core, one loop.
//!
//! ```text
//! receive a burst -> classify -> look up -> verdict -> rewrite -> send the burst
//! ```
//!
//! The loop runs in stages over the burst, so that each line of memory is asked for one stage before
//! it is needed: packet headers, index entries, then slots and meters. It allocates nothing, takes
//! no lock, logs nothing, and reads the clock once per burst. What it cannot do itself goes to the
//! steward through a bounded queue; what does not fit there is dropped and counted.

use crate::adjacency::{Adjacencies, Hop};
use crate::clock::Clock;
use crate::slow::{HandOver, Latch, Queues, ToSteward, ToWorker};
use penstock_config::Polling;
use penstock_dpdk::{Burst, Checksum, HEADROOM, Mbuf, RxQueue, TxBatch, TxQueue};
use penstock_relay::usual::{Mac, glance, pass};
use penstock_relay::{
    Class, Drop, LocalAddrs, Udp, classify, judge, latch_requested, rewrite, source,
};
use penstock_shm::{Endpoint, Entry, Pinned, Ringer, WorkerCounters, WorkerTable};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Polls without a packet before an adaptive worker sleeps.
const SPIN_POLLS: u32 = 400;
/// How long it sleeps; the kernel adds its timer slack of 50 us.
const NAP: Duration = Duration::from_micros(50);

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
    /// The port's addresses.
    pub locals: LocalAddrs,
}

/// What all workers share.
pub struct Shared {
    /// Next hops.
    pub adjacencies: Arc<Adjacencies>,
    /// Queues to and from the steward and between workers.
    pub queues: Arc<Queues>,
    /// Wakes the steward.
    pub ringer: Ringer,
    /// Set when the plane stops.
    pub stop: Arc<AtomicBool>,
}

/// One polling core.
pub struct Worker {
    number: usize,
    table: WorkerTable,
    ports: Vec<PortSide>,
    shared: Shared,
    out: Out,
    looks: Box<[Look; Burst::CAPACITY]>,
    clock: Clock,
    burst_max: usize,
    polling: Polling,
}

/// Packets on their way out.
struct Out {
    exits: Vec<Exit>,
    /// Packets that were dropped in this burst: freed together.
    dead: Burst,
    /// The next hop of the packet before: mostly it is this one's too.
    hop: Hop,
    hop_number: u32,
}

/// How this worker sends through a port.
#[expect(
    clippy::large_enum_variant,
    reason = "a handful, each in use: no box on the packet path"
)]
enum Exit {
    /// By a queue of its own.
    Own(TxQueue, TxBatch),
    /// By leaving the packet to that worker.
    Through(usize),
}

/// What the first stage made of a packet.
#[derive(Clone, Copy)]
struct Look {
    /// A datagram's destination, as [`Endpoint::to_bits`].
    endpoint: u32,
    fate: Fate,
}

#[derive(Clone, Copy, PartialEq)]
enum Fate {
    /// A datagram to one of our addresses that may go the short way.
    Usual,
    /// A datagram to one of our addresses.
    Datagram,
    /// For the steward.
    Local,
    /// Nothing that passes.
    Dropped(Drop),
}

impl Look {
    const LOCAL: Look = Look {
        endpoint: 0,
        fate: Fate::Local,
    };

    #[inline(always)]
    fn endpoint(&self) -> Endpoint {
        Endpoint::from_bits(self.endpoint)
    }

    #[inline(always)]
    fn is_datagram(&self) -> bool {
        matches!(self.fate, Fate::Usual | Fate::Datagram)
    }
}

impl Worker {
    /// A worker over its parts; `ports` in the order of the configuration.
    pub fn new(
        table: WorkerTable,
        mut ports: Vec<PortSide>,
        shared: Shared,
        burst_max: usize,
        polling: Polling,
    ) -> Worker {
        let exit = |side: &mut PortSide| match side.tx.take() {
            Some(tx) => Exit::Own(tx, TxBatch::new()),
            None => Exit::Through(side.sender),
        };
        let out = Out {
            exits: ports.iter_mut().map(exit).collect(),
            dead: Burst::new(),
            hop: Hop::none(),
            hop_number: u32::MAX,
        };
        Worker {
            number: table.number(),
            table,
            ports,
            shared,
            out,
            looks: Box::new([Look::LOCAL; Burst::CAPACITY]),
            clock: Clock::new(),
            burst_max,
            polling,
        }
    }

    /// Polls until the plane stops.
    pub fn run(mut self) {
        let mut burst = Burst::new();
        let mut idle_polls = 0;
        // Relaxed: nothing is published by the flag.
        while !self.shared.stop.load(Ordering::Relaxed) {
            let mut got = 0;
            for port in 0..self.ports.len() {
                let Some(rx) = &mut self.ports[port].rx else {
                    continue;
                };
                let n = rx.receive(&mut burst, self.burst_max);
                if n > 0 {
                    got += n;
                    self.relay(port, &mut burst);
                }
            }
            if !self.shared.queues.hand_over[self.number].is_empty() {
                got += self.handed_over(&mut burst);
            }
            if !self.shared.queues.send[self.number].is_empty() {
                got += self.send_for_others();
            }
            if got > 0 {
                self.table.counters().polls_busy.add(1);
                idle_polls = 0;
            } else {
                self.idle(&mut idle_polls);
            }
        }
        self.table.offline();
    }

    fn idle(&mut self, idle_polls: &mut u32) {
        self.table.counters().polls_idle.add(1);
        *idle_polls = idle_polls.saturating_add(1);
        if self.polling == Polling::Busy || *idle_polls < SPIN_POLLS {
            penstock_dpdk::pause();
            // A worker that holds no slot any more must not keep the steward waiting.
            self.table.pin();
            return;
        }
        self.table.offline();
        std::thread::sleep(NAP);
    }

    /// Relays a burst that arrived at `port`.
    fn relay(&mut self, port: usize, burst: &mut Burst) {
        let view = self.table.pin();
        let counters = view.counters();
        let now_ns = self.clock.now_ns();
        let side = &self.ports[port];
        counters.rx.add(burst.len() as u64);

        look(burst, side, view, &mut self.looks);
        let mut entries = [None; Burst::CAPACITY];
        find(&self.looks[..burst.len()], view, &mut entries);
        let mut step = Step {
            number: self.number,
            port: port as u8,
            mac: side.mac,
            locals: &side.locals,
            view,
            counters,
            now_ns,
            shared: &self.shared,
            out: &mut self.out,
        };
        let passed = step.pass(burst, &self.looks, &entries);
        if passed.0 == burst.len() {
            step.send_burst(passed.1, burst);
        } else {
            step.finish(burst, &self.looks, &entries, passed);
        }
    }

    /// Relays what other workers received of our streams.
    fn handed_over(&mut self, burst: &mut Burst) -> usize {
        let mut port = 0;
        let mut total = 0;
        while let Some(next) = self.shared.queues.hand_over[self.number].pop() {
            if burst.len() == self.burst_max || (!burst.is_empty() && next.port != port) {
                self.relay(usize::from(port), burst);
            }
            port = next.port;
            total += 1;
            let _ = burst.push(next.mbuf);
            if total == Burst::CAPACITY {
                break;
            }
        }
        if !burst.is_empty() {
            self.relay(usize::from(port), burst);
        }
        total
    }

    /// Sends what the steward, or a worker without a queue at the port, left to us.
    fn send_for_others(&mut self) -> usize {
        let mut total = 0;
        while total < Burst::CAPACITY
            && let Some(ToWorker {
                port,
                mbuf,
                relayed,
            }) = self.shared.queues.send[self.number].pop()
        {
            total += 1;
            let counters = self.table.counters();
            let count = if relayed {
                &counters.rx
            } else {
                &counters.tx_steward
            };
            count.add(1);
            let Some(Exit::Own(tx, batch)) = self.out.exits.get_mut(usize::from(port)) else {
                continue;
            };
            let refused = batch.push(mbuf).is_err();
            let sent = tx.send(batch);
            if relayed {
                counters.forwarded.add(sent.sent as u64);
                counters.drops[Drop::TxFull as usize].add(sent.unsent as u64 + u64::from(refused));
            }
        }
        total
    }
}

/// The first stage: which packets are datagrams to one of our addresses. Asks for their index entries.
#[inline(never)]
fn look(burst: &[Mbuf], side: &PortSide, view: Pinned<'_>, looks: &mut [Look; Burst::CAPACITY]) {
    for mbuf in burst {
        mbuf.prefetch_header();
    }
    let mac = Mac::new(side.mac);
    let mut last = ([0; 4], side.locals.get4(0, [0; 4]));
    for (mbuf, look) in burst.iter().zip(looks) {
        let ip_checked = mbuf.rx_ip_checksum() == Checksum::Good;
        if let Some(glance) = glance(mbuf.frame(), mac, ip_checked) {
            if glance.destination != last.0 {
                last = (glance.destination, side.locals.get4(0, glance.destination));
            }
            if let Some(addr) = last.1 {
                *look = Look {
                    endpoint: u32::from(addr) << 16 | u32::from(glance.port),
                    fate: Fate::Usual,
                };
                view.prefetch_index(look.endpoint());
                continue;
            }
        }
        *look = second_look(mbuf, side);
        if look.is_datagram() {
            view.prefetch_index(look.endpoint());
        }
    }
}

/// As the first, for what is not usual.
#[inline(never)]
fn second_look(mbuf: &Mbuf, side: &PortSide) -> Look {
    let mut look = Look::LOCAL;
    look.fate = match classified(mbuf, side.mac) {
        Class::Udp(udp) => match side.locals.find(mbuf.frame(), &udp) {
            Some(addr) => {
                look.endpoint = u32::from(addr) << 16 | u32::from(udp.port);
                Fate::Datagram
            }
            None => Fate::Dropped(Drop::NotOurAddress),
        },
        Class::Arp { .. } => Fate::Local,
        Class::Icmp { vlan, destination } => match side.locals.get(vlan, destination.into()) {
            Some(_) => Fate::Local,
            None => Fate::Dropped(Drop::NotOurAddress),
        },
        Class::Drop(reason) => Fate::Dropped(reason),
    };
    look
}

fn classified(mbuf: &Mbuf, mac: [u8; 6]) -> Class {
    match (mbuf.segments(), mbuf.rx_ip_checksum()) {
        (1, Checksum::Bad) => Class::Drop(Drop::IpChecksum),
        (1, checksum) => classify(mbuf.frame(), &mac, checksum == Checksum::Good),
        _ => Class::Drop(Drop::Malformed),
    }
}

/// The second stage: the streams of the datagrams. Asks for their slots and meters.
#[inline(never)]
fn find<'a>(looks: &[Look], view: Pinned<'a>, entries: &mut [Option<Entry<'a>>; Burst::CAPACITY]) {
    for (look, entry) in looks.iter().zip(entries) {
        if look.is_datagram()
            && let Some(found) = view.entry(look.endpoint())
        {
            found.prefetch();
            *entry = Some(found);
        }
    }
}

/// The last stages, over the packets of one burst.
struct Step<'a> {
    number: usize,
    port: u8,
    mac: [u8; 6],
    locals: &'a LocalAddrs,
    view: Pinned<'a>,
    counters: &'a WorkerCounters,
    now_ns: u64,
    shared: &'a Shared,
    out: &'a mut Out,
}

type Entries<'a> = [Option<Entry<'a>>; Burst::CAPACITY];

impl Step<'_> {
    /// The third stage: judges, meters and rewrites usual packets that leave through one port, up to the
    /// first that is not one. Says how many those were, and through which port they leave.
    #[inline(never)]
    fn pass(
        &mut self,
        burst: &mut Burst,
        looks: &[Look; Burst::CAPACITY],
        entries: &Entries<'_>,
    ) -> (usize, usize) {
        self.out.hop_number = u32::MAX;
        let mut exit = None;
        let mut count = 0;
        for ((mbuf, look), entry) in burst.iter_mut().zip(looks).zip(entries) {
            let (Fate::Usual, Some(entry)) = (look.fate, *entry) else {
                break;
            };
            if self.out.hop_number != u32::from(entry.slot().adjacency) {
                if !self.refresh_hop(entry) || exit.is_some_and(|exit| exit != self.out.hop.port) {
                    break;
                }
                exit = Some(self.out.hop.port);
            }
            if !self.short_way(mbuf, entry) {
                break;
            }
            count += 1;
        }
        (count, exit.unwrap_or(0))
    }

    /// Whether the packet could go the short way, by the hop at hand, and did.
    #[inline(always)]
    fn short_way(&self, mbuf: &mut Mbuf, entry: Entry<'_>) -> bool {
        let (slot, meter) = (entry.slot(), entry.meter());
        self.view.claim(meter) && pass(mbuf.frame_mut(), slot, meter, &self.out.hop.l2, self.now_ns)
    }

    /// Takes the stream's next hop at hand: once per burst, and where it changes. False if the short
    /// way cannot take it: it is not resolved, or tagged.
    #[inline(never)]
    fn refresh_hop(&mut self, entry: Entry<'_>) -> bool {
        let adjacency = entry.slot().adjacency;
        if self.shared.adjacencies.is(adjacency, &self.out.hop) {
            self.out.hop_number = u32::from(adjacency);
            return true;
        }
        self.out.hop_number = u32::MAX;
        match self.shared.adjacencies.get(adjacency) {
            Some(hop) if hop.resolved && hop.l2.is_untagged() => {
                self.out.hop = hop;
                self.out.hop_number = u32::from(adjacency);
                true
            }
            _ => false,
        }
    }

    /// Sends the whole burst through one port.
    fn send_burst(&mut self, exit: usize, burst: &mut Burst) {
        if let Some(Exit::Own(tx, _)) = self.out.exits.get_mut(exit)
            && let Some(sent) = tx.send_burst(burst)
        {
            self.counters.forwarded.add(sent.sent as u64);
            self.counters.drops[Drop::TxFull as usize].add(sent.unsent as u64);
            return;
        }
        for mbuf in burst.drain() {
            self.send(exit, mbuf);
        }
        self.flush();
    }

    /// The last stage of a burst that is mixed: one packet after the other, in order. The first
    /// `passed` only have to be sent.
    #[inline(never)]
    fn finish(
        &mut self,
        burst: &mut Burst,
        looks: &[Look; Burst::CAPACITY],
        entries: &Entries<'_>,
        (passed, exit): (usize, usize),
    ) {
        for (i, mut mbuf) in burst.drain().enumerate() {
            match (looks[i].fate, entries[i]) {
                _ if i < passed => self.send(exit, mbuf),
                (Fate::Usual, Some(entry))
                    if self.hop_is(entry) && self.short_way(&mut mbuf, entry) =>
                {
                    self.send(self.out.hop.port, mbuf);
                }
                (Fate::Usual | Fate::Datagram, Some(entry)) => self.long_way(mbuf, entry),
                (Fate::Usual | Fate::Datagram, None) => self.drop(mbuf, Drop::NoStream),
                (Fate::Local, _) => {
                    self.tell_steward(|port| ToSteward::Local { port, mbuf }, Drop::SlowPath);
                }
                (Fate::Dropped(reason), _) => self.drop(mbuf, reason),
            }
        }
        self.flush();
    }

    fn hop_is(&mut self, entry: Entry<'_>) -> bool {
        self.out.hop_number == u32::from(entry.slot().adjacency) || self.refresh_hop(entry)
    }

    /// Judges, meters and rewrites a packet by one check after the other.
    fn long_way(&mut self, mut mbuf: Mbuf, entry: Entry<'_>) {
        let (slot, meter) = (entry.slot(), entry.meter());
        let Class::Udp(udp) = classified(&mbuf, self.mac) else {
            return self.drop(mbuf, Drop::Malformed);
        };
        if !self.view.claim(meter) {
            return self.hand_over(mbuf, entry);
        }
        match judge(mbuf.frame(), &udp, slot, meter, self.now_ns) {
            // Nobody honest sends from one of our own addresses.
            Ok(pass) if pass.latch && !self.latch(&mbuf, &udp, entry) => {
                return self.drop(mbuf, Drop::Source);
            }
            Ok(_) => {}
            Err(reason) => return self.drop(mbuf, reason),
        }
        let Some(hop) = self.shared.adjacencies.get(slot.adjacency) else {
            return self.drop(mbuf, Drop::NoRoute);
        };
        let Some(buffer) = mbuf.with_headroom_mut() else {
            return self.drop(mbuf, Drop::Malformed);
        };
        match rewrite(buffer, HEADROOM, &udp, slot, &hop.l2) {
            Ok(range) => mbuf.set_range(range),
            Err(reason) => return self.drop(mbuf, reason),
        }
        if hop.resolved {
            return self.send(hop.port, mbuf);
        }
        let adjacency = slot.adjacency;
        self.tell_steward(|_| ToSteward::Unresolved { adjacency, mbuf }, Drop::NextHop);
    }

    fn send(&mut self, port: usize, mbuf: Mbuf) {
        match self.out.exits.get_mut(port) {
            Some(Exit::Own(_, batch)) => {
                if let Err(mbuf) = batch.push(mbuf) {
                    self.drop(mbuf, Drop::TxFull);
                }
            }
            Some(Exit::Through(sender)) => {
                let sender = *sender;
                self.send_through(sender, port, mbuf);
            }
            None => self.drop(mbuf, Drop::NoRoute),
        }
    }

    /// Sends what was collected, in order per port, and frees what was dropped.
    fn flush(&mut self) {
        for exit in &mut self.out.exits {
            let Exit::Own(tx, batch) = exit else { continue };
            let sent = tx.send(batch);
            self.counters.forwarded.add(sent.sent as u64);
            self.counters.drops[Drop::TxFull as usize].add(sent.unsent as u64);
        }
        self.out.dead.clear();
    }

    #[cold]
    fn send_through(&mut self, sender: usize, port: usize, mbuf: Mbuf) {
        let packet = ToWorker {
            port: port as u8,
            mbuf,
            relayed: true,
        };
        match self.shared.queues.send[sender].push(packet) {
            Ok(()) => self.counters.handed_over.add(1),
            Err(ToWorker { mbuf, .. }) => self.drop(mbuf, Drop::TxFull),
        }
    }

    fn drop(&mut self, mbuf: Mbuf, reason: Drop) {
        self.counters.drops[reason as usize].add(1);
        // A full burst frees the packet at once: all the same.
        let _ = self.out.dead.push(mbuf);
    }

    #[cold]
    fn hand_over(&mut self, mbuf: Mbuf, entry: Entry<'_>) {
        let port = self.port;
        let owner = self
            .view
            .owner(entry.meter())
            .filter(|&owner| owner != self.number);
        let Some(queue) = owner.and_then(|owner| self.shared.queues.hand_over.get(owner)) else {
            return self.drop(mbuf, Drop::HandOver);
        };
        match queue.push(HandOver { port, mbuf }) {
            Ok(()) => self.counters.handed_over.add(1),
            Err(HandOver { mbuf, .. }) => self.drop(mbuf, Drop::HandOver),
        }
    }

    /// Asks for the packet's source to be adopted. False if that cannot be: it is one of our own.
    #[cold]
    fn latch(&mut self, mbuf: &Mbuf, udp: &Udp, entry: Entry<'_>) -> bool {
        let Some(source) = source(mbuf.frame(), udp) else {
            return false;
        };
        if self.locals.get(udp.vlan, source.ip()).is_some() {
            return false;
        }
        let latch = Latch {
            record: self.view.number(entry),
            version: entry.slot().version,
            source,
        };
        if self.shared.queues.latches.push(latch).is_ok() {
            latch_requested(entry.slot(), entry.meter());
            self.shared.ringer.ring();
        }
        true
    }

    #[cold]
    fn tell_steward(&mut self, message: impl FnOnce(u8) -> ToSteward, otherwise: Drop) {
        match self.shared.queues.steward.push(message(self.port)) {
            Ok(()) => {
                self.counters.consumed.add(1);
                self.shared.ringer.ring();
            }
            Err(_) => self.counters.drops[otherwise as usize].add(1),
        }
    }
}
