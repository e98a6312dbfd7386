//! The last stages over one burst: `pass`, and `finish` for what is not usual.

use super::checks::for_agent;
use super::looks::{Look, Looks, Sixes};
use super::ties::{Parts, Share};
use super::{Exit, Out, Outgoing, PortSide, Shared};
use crate::slow::{HandOver, Latch, ToWorker, Unresolved};
use arrayvec::ArrayVec;
use penstock_dpdk::{Burst, Checksum, HEADROOM, Mbuf, PerPacket, Sent, TxBatch};
use penstock_relay::learn::Ask;
use penstock_relay::police;
use penstock_relay::usual::Rest;
use penstock_relay::{
    Class, Drop, Pass, Stream, Udp, UntaggedL2, arrival, classify, is_sink, judge_at,
    latch_requested, may_enter, rewrite, source,
};
use penstock_shm::copies::Direction;
use penstock_shm::record::{Slot, digest_address, flag, link};
use penstock_shm::tally::{Last, Meter};
use penstock_shm::{Endpoint, Entry, Pinned, WorkerCounters};
use std::iter;
use std::net::SocketAddr;
use std::ptr;

/// Not the number of any next hop, nor [`Slot::NOT_USUAL`].
const NO_HOP: u16 = Slot::NOT_USUAL - 1;

/// Which packets of a burst passed the short way.
#[derive(Default)]
pub(super) struct Passed {
    /// Those that did not: a bit for each.
    failed: u64,
    /// From which packet on the others leave through which port.
    exits: ArrayVec<(u8, u8), { Burst::CAPACITY }>,
}

impl Passed {
    /// The port that the whole burst leaves through, if it does.
    pub(super) fn exit(&self) -> Option<usize> {
        match self.exits[..] {
            [(_, port)] if self.failed == 0 => Some(usize::from(port)),
            _ => None,
        }
    }
}

fn classified(mbuf: &Mbuf, mac: [u8; 6]) -> Class {
    if mbuf.is_chained() {
        return Class::Drop(Drop::Malformed);
    }
    match mbuf.rx_ip_checksum() {
        Checksum::Bad => Class::Drop(Drop::IpChecksum),
        checksum => classify(mbuf.frame(), &mac, checksum == Checksum::Good),
    }
}

/// The last stages, over the packets of one burst.
pub(super) struct Step<'a> {
    pub(super) number: usize,
    pub(super) port: u8,
    pub(super) side: &'a PortSide,
    /// All ports.
    pub(super) sides: &'a [PortSide],
    pub(super) view: &'a Pinned<'a>,
    pub(super) counters: &'a WorkerCounters,
    pub(super) now_ns: u64,
    /// How many endpoints of the plane have sent the packets on before; 0 for those that a port received.
    pub(super) crossed: u8,
    pub(super) shared: &'a Shared,
    pub(super) out: &'a mut Out,
}

#[cold]
#[inline(never)]
fn waits(waiting: &[&Meter], entry: &Entry<'_>) -> bool {
    waiting.iter().any(|&meter| ptr::eq(meter, entry.meter()))
}

/// Passes the first packets, as far as they are usual ones to this next hop; says how many. Each has a rest if they are
/// of IPv6.
#[inline(never)]
fn run<'r, 'p: 'r>(
    looks: &mut [Option<Look<'_, '_>>],
    rests: impl Iterator<Item = Option<&'r mut Rest<'p>>>,
    hop: u16,
    l2: UntaggedL2,
    guard: Last,
    now_ns: u64,
) -> usize {
    let mut count = 0;
    // This loop is the plane's innermost: nothing in it may call.
    for (look, rest) in looks.iter_mut().zip(rests) {
        let Some((packet, entry)) = look else { break };
        let (slot, meter) = (entry.slot(), entry.meter());
        if slot.usual_hop != hop || !packet.pass(rest, slot, meter, &l2, guard, now_ns) {
            break;
        }
        count += 1;
    }
    count
}

impl<'a> Step<'a> {
    /// The second stage: judges, meters and rewrites the packets that can go the short way.
    pub(super) fn pass(
        &mut self,
        looks: &mut [Option<Look<'_, '_>>],
        sixes: &mut Sixes<Rest<'_>>,
        passed: &mut Passed,
    ) {
        let (guard, now_ns) = (self.view.guard(), self.now_ns);
        let mut hop = NO_HOP;
        let mut l2 = UntaggedL2::default();
        // Streams with a packet that waits for the long way: their next ones wait behind it.
        let mut waiting: ArrayVec<&Meter, { Burst::CAPACITY }> = ArrayVec::new();
        let mut i = 0;
        while let Some(look) = looks.get(i) {
            let entry = look.as_ref().map(|&(_, entry)| entry);
            if let Some(next) = entry.map(|entry| entry.slot().usual_hop)
                && next != hop
                && let Some(header) = self.take_hop(next, i, passed)
            {
                (hop, l2) = (next, header);
            }
            let upto = match entry {
                _ if waiting.is_empty() => looks.len(),
                Some(entry) if !waits(&waiting, &entry) => i + 1,
                _ => i,
            };
            let (alike, rests) = sixes.from(i);
            let these = &mut looks[i..upto.min(i + alike)];
            let count = match rests {
                None => run(these, iter::repeat_with(|| None), hop, l2, guard, now_ns),
                Some(rests) => run(these, rests.iter_mut().map(Some), hop, l2, guard, now_ns),
            };
            i += count;
            if count == 0 && !self.police(&looks[i..]) {
                passed.failed |= 1 << i;
                waiting.extend(entry.map(|entry| entry.meter()));
                i += 1;
            }
        }
    }

    /// Whether the first packet's stream had used up its allowance and may have another one: then it can be tried again.
    /// Streams of the same rate use theirs up together, so the others of the burst are seen to at once.
    #[cold]
    #[inline(never)]
    fn police(&self, looks: &[Option<Look<'_, '_>>]) -> bool {
        let is_used_up = |entry: &Entry<'_>| {
            let meter = entry.meter();
            meter.packets.get() >= meter.allowed.get()
                && self.view.owner(meter) == Some(self.number)
        };
        let first = looks.first().and_then(Option::as_ref);
        if !first.is_some_and(|(_, entry)| is_used_up(entry)) {
            return false;
        }
        let used_up: ArrayVec<Entry<'_>, { Burst::CAPACITY }> = looks
            .iter()
            .flatten()
            .map(|&(_, entry)| entry)
            .filter(is_used_up)
            .inspect(|entry| entry.prefetch_policing())
            .collect();
        let mut may_pass = false;
        for (at, entry) in used_up.iter().enumerate() {
            let (tally, slot) = (entry.tally(), entry.slot());
            let longest = usize::from(slot.longest);
            let profiles = &self.shared.rules.profiles;
            let renewed = police::renew(tally, slot, profiles, longest, self.now_ns);
            may_pass |= at == 0 && renewed.is_ok();
        }
        may_pass
    }

    /// Takes a next hop at hand, for this and the following packets: once per burst, and where it changes.
    /// `None` if the short way cannot take it: it is not resolved, or tagged.
    #[cold]
    #[inline(never)]
    fn take_hop(&mut self, number: u16, packet: usize, passed: &mut Passed) -> Option<UntaggedL2> {
        let hop = &mut self.out.hop;
        if !self.shared.adjacencies.is(number, hop) {
            *hop = self.shared.adjacencies.get(number)?;
        }
        let l2 = hop.usual?;
        let port = hop.port as u8;
        if passed.exits.last().is_none_or(|last| last.1 != port) {
            passed.exits.push((packet as u8, port));
        }
        Some(l2)
    }

    /// Sends the whole burst through one port.
    pub(super) fn send_burst(
        &mut self,
        exit: usize,
        burst: &mut Burst,
        looks: &PerPacket<Looks<'_>>,
    ) {
        if let Some(Exit::Own(tx, _)) = self.out.exits.get_mut(exit) {
            let sent = tx.send_burst(burst);
            self.counters.forwarded.add(sent.sent as u64);
            if sent.unsent > 0 {
                self.unsent(sent, looks);
            }
            return;
        }
        for (i, mbuf) in burst.drain().enumerate() {
            self.send(exit, mbuf, looks.kept(i).copied());
        }
        self.flush();
    }

    /// A burst's last packets found the queue full.
    #[cold]
    #[inline(never)]
    fn unsent(&self, sent: Sent, looks: &PerPacket<Looks<'_>>) {
        self.counters.drops[Drop::TxFull as usize].add(sent.unsent as u64);
        let last = (sent.sent..sent.sent + sent.unsent).filter_map(|i| looks.kept(i));
        last.for_each(|entry| entry.tally().count_dropped(Drop::TxFull));
    }

    /// The last stage of a burst that is mixed: one packet after the other, in order.
    #[inline(never)]
    pub(super) fn finish(
        &mut self,
        burst: &mut Burst,
        passed: &Passed,
        looks: &PerPacket<Looks<'_>>,
    ) {
        let mut exits = passed.exits.iter().peekable();
        let mut exit = 0;
        for (i, mbuf) in burst.drain().enumerate() {
            while let Some(&(_, port)) = exits.next_if(|&&(from, _)| usize::from(from) <= i) {
                exit = usize::from(port);
            }
            if passed.failed >> i & 1 == 0 {
                self.send(exit, mbuf, looks.kept(i).copied());
            } else {
                self.long_way(mbuf);
            }
        }
        self.flush();
    }

    /// What is not usual: by one check after the other.
    #[inline(never)]
    pub(super) fn long_way(&mut self, mbuf: Mbuf) {
        let locals = &self.side.locals;
        let is_ours = |vlan, address| locals.get(vlan, address).is_some();
        let queues = &self.shared.queues;
        let reason = match classified(&mbuf, self.side.mac) {
            Class::Udp(udp) => match locals.find(mbuf.frame(), &udp) {
                Some(addr) => match self.view.entry(Endpoint {
                    addr,
                    port: udp.port,
                }) {
                    Some(entry) => return self.relay(mbuf, &udp, entry),
                    None => return self.no_stream(mbuf, addr, &udp),
                },
                None => Drop::NotOurAddress,
            },
            Class::Arp { vlan } if self.is_arp_of_interest(&mbuf, vlan) => {
                return self.tell_neighbours(mbuf);
            }
            Class::Arp { .. } => Drop::NotOurAddress,
            Class::Nd { vlan, asks_for } if asks_for.is_none_or(|ip| is_ours(vlan, ip.into())) => {
                return self.tell_neighbours(mbuf);
            }
            Class::Icmp { vlan, destination } if is_ours(vlan, destination) => {
                return self.tell_steward(&queues.echoes, mbuf);
            }
            Class::Nd { .. } | Class::Icmp { .. } => Drop::NotOurAddress,
            Class::Drop(reason) => reason,
        };
        self.not_ours(mbuf, reason);
    }

    /// Judges, meters and rewrites a packet that arrived at the endpoint of `at`.
    fn relay(&mut self, mbuf: Mbuf, udp: &Udp, at: Entry<'a>) {
        match at.slot().links & link::PARTS {
            0 => self.relay_of(mbuf, udp, at, None),
            _ => self.relay_shared(mbuf, udp, at),
        }
    }

    /// As [`Step::relay`], at an endpoint that others share.
    #[cold]
    #[inline(never)]
    fn relay_shared(&mut self, mbuf: Mbuf, udp: &Udp, at: Entry<'a>) {
        let mut parts = Parts::new();
        let share = self.divide(&mbuf, udp, at, &mut parts);
        self.relay_of(mbuf, udp, at, Some(&share));
    }

    /// As [`Step::relay`], of the stream that has the endpoint, or of the one that `share` says.
    fn relay_of(&mut self, mbuf: Mbuf, udp: &Udp, at: Entry<'a>, share: Option<&Share<'_, 'a>>) {
        let entry = share.map_or(at, |share| share.entry);
        let (slot, meter) = (entry.slot(), entry.meter());
        let stream = Stream {
            slot,
            tally: entry.tally(),
            peer: self.view.tally(slot.peer),
        };
        let shared_slot;
        let guard = match share {
            Some(share) if share.is_part() => {
                shared_slot = arrival(at.slot(), slot);
                Stream {
                    slot: &shared_slot,
                    tally: at.tally(),
                    peer: None,
                }
            }
            _ => stream,
        };
        let rules = &self.shared.rules;
        if self.is_misplaced(&mbuf, udp, guard.slot) {
            return self.drop_of(entry, mbuf, Drop::Source);
        }
        if let Some(ice) = for_agent(&mbuf, udp, entry) {
            return self.check(mbuf, udp, entry, &ice);
        }
        if self.view.owner(meter) != Some(self.number) {
            // Strangers neither take a stream nor fill its owner's ring.
            if let Err(reason) = may_enter(mbuf.frame(), udp, guard, rules, self.now_ns) {
                self.capture(&mbuf, entry, Direction::Ingress);
                return self.drop_of(entry, mbuf, reason);
            }
        }
        if let Err(owner) = self.view.claim(meter) {
            return self.hand_over(mbuf, entry, owner);
        }
        self.capture(&mbuf, entry, Direction::Ingress);
        match judge_at(mbuf.frame(), udp, guard, stream, rules, self.now_ns) {
            Ok(Pass { ask, held }) => {
                let is_foreign = ask.is_none_or(|ask| self.latch(&mbuf, udp, at, ask));
                // Counted at the stream already.
                if let Some(reason) = held {
                    return self.drop(mbuf, reason);
                }
                if !is_foreign {
                    // Nobody honest sends from one of our own addresses.
                    return self.drop_of(entry, mbuf, Drop::Source);
                }
            }
            // Counted at the stream already.
            Err(reason) => return self.drop(mbuf, reason),
        }
        if let Some(share) = share {
            self.shared(share, at);
        }
        if (slot.links | at.slot().links) & link::COPIES != 0 {
            self.fork(&mbuf, udp, at, entry);
        }
        match is_sink(slot) {
            true => self.take(mbuf),
            false => self.leave(mbuf, udp, entry),
        }
    }

    /// Rewrites a packet of this stream, or a copy that is due to it, and sends it by the stream's route.
    pub(super) fn leave(&mut self, mut mbuf: Mbuf, udp: &Udp, entry: Entry<'_>) {
        let slot = entry.slot();
        let Some(hop) = self.shared.adjacencies.get(slot.adjacency) else {
            return self.drop_of(entry, mbuf, Drop::NoRoute);
        };
        let Some(buffer) = mbuf.with_headroom_mut() else {
            return self.drop_of(entry, mbuf, Drop::Malformed);
        };
        match rewrite(buffer, HEADROOM, udp, slot, &hop.l2) {
            Ok(range) => mbuf.set_range(range),
            Err(reason) => return self.drop_of(entry, mbuf, reason),
        }
        self.capture(&mbuf, entry, Direction::Egress);
        if hop.resolved {
            return self.send(hop.port, mbuf, Some(entry));
        }
        if hop.own {
            return self.deliver(hop.port, mbuf, entry);
        }
        let waits = Unresolved {
            adjacency: slot.adjacency,
            stream: self.view.id(entry),
            mbuf,
        };
        match self.shared.queues.unresolved.push(waits) {
            Ok(()) => self.consumed(),
            Err(Unresolved { mbuf, .. }) => self.drop_of(entry, mbuf, Drop::NextHop),
        }
    }

    /// Sends a packet of this stream, or of none.
    pub(super) fn send(&mut self, port: usize, mbuf: Mbuf, stream: Option<Entry<'_>>) {
        let refused = match self.out.exits.get_mut(port) {
            Some(Exit::Own(_, outgoing)) => {
                let record = stream.map_or(Outgoing::NONE, |entry| self.view.number(entry));
                outgoing
                    .push(mbuf, record)
                    .map_err(|mbuf| (mbuf, Drop::TxFull))
            }
            Some(&mut Exit::Through(sender)) => self
                .send_through(sender, port, mbuf, stream)
                .map_err(|mbuf| (mbuf, Drop::TxFull)),
            None => Err((mbuf, Drop::NoRoute)),
        };
        if let Err((mbuf, reason)) = refused {
            self.refused(port, mbuf, reason, stream);
        }
    }

    /// An exit did not take a packet. With copies, a burst is more than it takes at once.
    #[cold]
    fn refused(&mut self, port: usize, mbuf: Mbuf, reason: Drop, stream: Option<Entry<'_>>) {
        if let Some(Exit::Own(_, outgoing)) = self.out.exits.get(port)
            && outgoing.batch.len() == TxBatch::CAPACITY
        {
            self.flush();
            return self.send(port, mbuf, stream);
        }
        match stream {
            Some(entry) => self.drop_of(entry, mbuf, reason),
            None => self.drop(mbuf, reason),
        }
    }

    /// Sends what was collected, in order per port, and frees what was dropped.
    pub(super) fn flush(&mut self) {
        for (i, exit) in self.out.exits.iter_mut().enumerate() {
            let Exit::Own(tx, outgoing) = exit else {
                continue;
            };
            let sent = tx.send(&mut outgoing.batch);
            let count = if i < self.out.first_exception {
                &self.counters.forwarded
            } else {
                &self.counters.to_kernel
            };
            count.add(sent.sent as u64);
            if sent.unsent > 0 {
                self.counters.drops[Drop::TxFull as usize].add(sent.unsent as u64);
                let tallies = outgoing.unsent(sent).flat_map(|of| self.view.tally(of));
                tallies.for_each(|tally| tally.count_dropped(Drop::TxFull));
            }
        }
        self.out.dead.clear();
    }

    /// Leaves a packet to the worker that has a queue at the port; gives it back if there is no room.
    #[cold]
    fn send_through(
        &self,
        sender: usize,
        port: usize,
        mbuf: Mbuf,
        stream: Option<Entry<'_>>,
    ) -> Result<(), Mbuf> {
        let packet = ToWorker {
            port: port as u8,
            mbuf,
            relayed: true,
            stream: stream.map(|entry| self.view.id(entry)),
        };
        let sent = self.shared.queues.send(sender, packet);
        self.counters.handed_over.add(u64::from(sent.is_ok()));
        sent.map_err(|packet| packet.mbuf)
    }

    /// Drops a packet of a stream.
    #[cold]
    pub(super) fn drop_of(&mut self, entry: Entry<'_>, mbuf: Mbuf, reason: Drop) {
        entry.tally().count_dropped(reason);
        self.drop(mbuf, reason);
    }

    pub(super) fn drop(&mut self, mbuf: Mbuf, reason: Drop) {
        self.counters.drops[reason as usize].add(1);
        // A full burst frees the packet at once: all the same.
        let _ = self.out.dead.push(mbuf);
    }

    /// Gives a packet to the worker that owns its stream, or did a moment ago: then that one gives it to its new owner.
    #[cold]
    fn hand_over(&mut self, mbuf: Mbuf, entry: Entry<'_>, owner: usize) {
        let port = self.port;
        let handed = HandOver {
            port,
            from: self.number as u8,
            record: self.view.number(entry),
            crossed: self.crossed,
            mbuf,
        };
        match self.shared.queues.hand_over(owner, handed) {
            Ok(()) => self.counters.handed_over.add(1),
            Err(HandOver { mbuf, .. }) => {
                self.capture(&mbuf, entry, Direction::Ingress);
                self.drop_of(entry, mbuf, Drop::HandOver);
            }
        }
    }

    /// Whether a packet that a port received names one of our own addresses as its source: nobody honest sends
    /// that. Or whether one that another endpoint of ours sent on comes where it was not signalled: a private address
    /// may be ours by accident. Streams that are locked to somebody else have no need to ask.
    fn is_misplaced(&self, mbuf: &Mbuf, udp: &Udp, slot: &Slot) -> bool {
        let is_settled = slot.flags & (flag::LOCKED | flag::HANDOVER) == flag::LOCKED;
        if self.crossed == 0 && is_settled && slot.own_remote == 0 {
            return false;
        }
        source(mbuf.frame(), udp).is_some_and(|source| {
            if self.crossed > 0 {
                return digest_address(source) != slot.signalled;
            }
            slot.own_remote != 0 && slot.remote() == Some(source) || self.is_ours(udp.vlan, source)
        })
    }

    /// Whether an address is ours, at whatever port.
    fn is_ours(&self, vlan: u16, address: SocketAddr) -> bool {
        let mut sides = self.sides.iter();
        sides.any(|side| side.locals.get(vlan, address.ip()).is_some())
    }

    /// Asks for the packet's source to be adopted. False if that cannot be: it is one of our own.
    #[cold]
    fn latch(&mut self, mbuf: &Mbuf, udp: &Udp, entry: Entry<'_>, ask: Ask) -> bool {
        let Some(source) = source(mbuf.frame(), udp) else {
            return false;
        };
        if self.crossed == 0 && self.is_ours(udp.vlan, source) {
            return false;
        }
        let latch = Latch {
            record: self.view.number(entry),
            version: entry.slot().version,
            source,
            ask,
        };
        if self.shared.queues.latches.push(latch).is_ok() {
            latch_requested(entry.slot(), entry.meter());
            self.shared.ringer.ring();
        }
        true
    }

    pub(super) fn consumed(&mut self) {
        self.counters.consumed.add(1);
        self.shared.ringer.ring();
    }
}
