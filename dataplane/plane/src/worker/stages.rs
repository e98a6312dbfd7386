//! The stages over one burst: `look`, `find`, `pass`, and `finish` for what is not usual.

use super::{Exit, Out, PortSide, Shared};
use crate::slow::{HandOver, Latch, ToSteward, ToWorker};
use penstock_dpdk::{Burst, Checksum, HEADROOM, Mbuf};
use penstock_relay::usual::{Mac, glance, pass};
use penstock_relay::{
    Class, Drop, LocalAddrs, Udp, classify, judge, latch_requested, rewrite, source,
};
use penstock_shm::{Endpoint, Entry, Pinned, WorkerCounters};

/// What the first stage made of a packet.
#[derive(Clone, Copy)]
pub(super) struct Look {
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
    pub(super) const LOCAL: Look = Look {
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

/// The first stage: which packets are datagrams to one of our addresses. Asks for their index entries.
#[inline(never)]
pub(super) fn look(
    burst: &[Mbuf],
    side: &PortSide,
    view: Pinned<'_>,
    looks: &mut [Look; Burst::CAPACITY],
) {
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
pub(super) fn find<'a>(
    looks: &[Look],
    view: Pinned<'a>,
    entries: &mut [Option<Entry<'a>>; Burst::CAPACITY],
) {
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
pub(super) struct Step<'a> {
    pub(super) number: usize,
    pub(super) port: u8,
    pub(super) mac: [u8; 6],
    pub(super) locals: &'a LocalAddrs,
    pub(super) view: Pinned<'a>,
    pub(super) counters: &'a WorkerCounters,
    pub(super) now_ns: u64,
    pub(super) shared: &'a Shared,
    pub(super) out: &'a mut Out,
}

pub(super) type Entries<'a> = [Option<Entry<'a>>; Burst::CAPACITY];

impl Step<'_> {
    /// The third stage: judges, meters and rewrites usual packets that leave through one port, up to the
    /// first that is not one. Says how many those were, and through which port they leave.
    #[inline(never)]
    pub(super) fn pass(
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
    pub(super) fn send_burst(&mut self, exit: usize, burst: &mut Burst) {
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
    pub(super) fn finish(
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
