//! What is no packet of a stream: for the steward, or for nobody.

use super::Role;
use super::stages::Step;
use crate::slow::Arrived;
use crossbeam::queue::ArrayQueue;
use penstock_dpdk::Mbuf;
use penstock_relay::{Drop, Udp, local, source};

impl Step<'_> {
    /// ARP that asks for one of our addresses, answers one, or tells where its sender is; the kernel behind an
    /// exception port wants to hear all of it. What others ask each other must not fill the steward's queue.
    #[cold]
    pub(super) fn is_arp_of_interest(&self, mbuf: &Mbuf, vlan: u16) -> bool {
        let has_kernel = matches!(self.side.role, Role::Media { kernel: Some(_) });
        has_kernel
            || local::arp_parse(mbuf.frame()).is_some_and(|arp| {
                let is_ours = self.side.locals.get(vlan, arp.target_ip.into()).is_some();
                is_ours || arp.target_ip == arp.sender_ip
            })
    }

    /// ARP or neighbour discovery: what is expected goes ahead of what strangers say.
    #[cold]
    pub(super) fn tell_neighbours(&mut self, mbuf: Mbuf) {
        let queues = &self.shared.queues;
        let frame = mbuf.frame();
        let is_expected = queues.asked.expects(self.port, frame, &self.side.locals);
        let queue = match is_expected {
            true => &queues.expected,
            false => &queues.neighbours,
        };
        self.tell_steward(queue, mbuf);
    }

    #[cold]
    pub(super) fn tell_steward(&mut self, queue: &ArrayQueue<Arrived>, mbuf: Mbuf) {
        let port = self.port;
        match queue.push(Arrived { port, mbuf }) {
            Ok(()) => self.consumed(),
            Err(Arrived { mbuf, .. }) => self.drop(mbuf, Drop::SlowPath),
        }
    }

    /// Nobody takes a datagram to an address of ours: it is dropped, and its sender told so if the operator wants
    /// that. If no endpoint can have the port, it is the kernel's.
    #[cold]
    pub(super) fn no_stream(&mut self, mbuf: Mbuf, addr: u16, udp: &Udp) {
        if self.crossed > 0 {
            return self.drop(mbuf, Drop::NoStream);
        }
        let is_media = self.side.media.iter().any(|media| {
            media.addr == addr && (media.ports.first..=media.ports.last).contains(&udp.port)
        });
        if let Role::Media { kernel: Some(_) } = self.side.role
            && !is_media
        {
            return self.not_ours(mbuf, Drop::NoStream);
        }
        let source = source(mbuf.frame(), udp);
        if source.is_some_and(|source| self.out.floods.count(source.ip(), self.now_ns)) {
            return self.drop(mbuf, Drop::Flood);
        }
        if !self.shared.port_unreachable {
            return self.drop(mbuf, Drop::NoStream);
        }
        self.counters.drops[Drop::NoStream as usize].add(1);
        let port = self.port;
        if self
            .shared
            .queues
            .unreachable
            .push(Arrived { port, mbuf })
            .is_ok()
        {
            self.shared.ringer.ring();
        }
    }
}
