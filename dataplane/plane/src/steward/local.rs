//! What the steward says and answers for the plane's own addresses: ARP, neighbour discovery, ICMP.

use super::{Steward, address};
use crate::addresses::Local;
use crate::links::{Ask, Work};
use crate::neighbour::Key;
use crate::plan::STEWARD_QUEUE;
use crate::slow::{Arrived, ToWorker};
use crate::waiting::Waiting;
use penstock_dpdk::Mbuf;
use penstock_relay::local::{self, ArpPacket, NdKind, NdPacket};
use penstock_relay::{Class, classify};
use std::net::IpAddr;

const SECOND_NS: u64 = 1_000_000_000;
/// How often an address is announced, a second apart.
const ANNOUNCEMENTS: u8 = 3;
/// The least that Ethernet carries, without its check sequence.
const LEAST_FRAME: usize = 60;

/// How many ICMP messages may leave: so many per second, and a second's worth at once.
pub struct Bucket {
    per_s: u32,
    /// Messages, times 10^9.
    level: u64,
    at_ns: u64,
}

impl Bucket {
    /// A full one.
    pub fn new(per_s: u32, now_ns: u64) -> Bucket {
        Bucket {
            per_s,
            level: u64::from(per_s) * SECOND_NS,
            at_ns: now_ns,
        }
    }

    /// Whether one more may leave now.
    pub fn take(&mut self, now_ns: u64) -> bool {
        let per_s = u64::from(self.per_s);
        let since_ns = now_ns.saturating_sub(self.at_ns).min(SECOND_NS);
        self.at_ns = now_ns;
        self.level = (self.level + since_ns * per_s).min(per_s * SECOND_NS);
        let may = self.level >= SECOND_NS;
        if may {
            self.level -= SECOND_NS;
        }
        may
    }
}

/// Which ports' addresses are to be announced: three times, at the start and when a link comes up.
pub struct Announcements {
    /// By port: whether its link was up, and announcements left.
    ports: Vec<(bool, u8)>,
    due_ns: u64,
}

impl Announcements {
    /// All are due now.
    pub fn new(ports: usize, now_ns: u64) -> Announcements {
        Announcements {
            ports: vec![(true, ANNOUNCEMENTS); ports],
            due_ns: now_ns,
        }
    }

    /// All are due anew: addresses may have come.
    pub(super) fn again(&mut self) {
        for (_, left) in &mut self.ports {
            *left = ANNOUNCEMENTS;
        }
    }

    /// The ports to announce now; once a second.
    fn due(&mut self, now_ns: u64, link_up: impl Fn(usize) -> bool) -> Vec<u8> {
        if now_ns < self.due_ns {
            return Vec::new();
        }
        self.due_ns = now_ns + SECOND_NS;
        let mut due = Vec::new();
        for (port, (was_up, left)) in self.ports.iter_mut().enumerate() {
            let is_up = link_up(port);
            if is_up && !*was_up {
                *left = ANNOUNCEMENTS;
            }
            *was_up = is_up;
            if *left > 0 {
                *left -= 1;
                due.push(port as u8);
            }
        }
        due
    }
}

impl Steward {
    /// ARP or neighbour discovery; what is expected is answered before the rest.
    pub(super) fn hear_neighbour(
        &mut self,
        arrived: &Arrived,
        is_expected: bool,
        waiting: &mut Waiting,
        now_ns: u64,
    ) {
        let port = arrived.port;
        if let Some(arp) = local::arp_parse(arrived.mbuf.frame()) {
            if let Some(mac) = self.arp(port, &arp, waiting, now_ns) {
                self.reply(port, &local::arp_reply(&arp, mac), is_expected);
            }
        } else if let Some(nd) = local::nd_parse(arrived.mbuf.frame())
            && let Some(mac) = self.nd(port, &nd, waiting, now_ns)
        {
            self.reply(port, &local::nd_advertisement(&nd, mac), is_expected);
        }
        // The kernel has addresses and neighbours of its own behind this port.
        if let Some(Some((port, limit))) = self.kernels.get(usize::from(arrived.port))
            && limit.take(false, now_ns)
            && let Some(packet) = self.packet(*port as u8, arrived.mbuf.frame())
        {
            let _ = self.queues.send(0, packet);
        }
    }

    /// The MAC to answer with.
    fn arp(
        &mut self,
        port: u8,
        arp: &ArpPacket,
        waiting: &mut Waiting,
        now_ns: u64,
    ) -> Option<[u8; 6]> {
        let ours = self.ours(port, arp.vlan, arp.target_ip.into());
        if self.ours(port, arp.vlan, arp.sender_ip.into()).is_some() {
            return None;
        }
        let sender = Key {
            port,
            vlan: arp.vlan,
            ip: arp.sender_ip.into(),
        };
        let answers = !arp.is_request && ours.is_some();
        let links = self.streams.links();
        let work = links.heard(sender, Some(arp.sender_mac), answers, now_ns);
        if links.is_at(sender, arp.sender_mac) {
            self.queues.asked.may_ask(sender, arp.sender_mac);
        }
        self.do_work(work, waiting);
        ours.filter(|_| arp.is_request)
    }

    /// The MAC to answer with.
    fn nd(
        &mut self,
        port: u8,
        nd: &NdPacket,
        waiting: &mut Waiting,
        now_ns: u64,
    ) -> Option<[u8; 6]> {
        // Who says it, where, and whether it was asked to.
        let (ip, said, answers) = match nd.kind {
            NdKind::Solicitation => (nd.source, nd.mac, false),
            NdKind::Advertisement { solicited } => {
                let to_us = self.ours(port, nd.vlan, nd.destination.into());
                (nd.target, nd.mac, solicited && to_us.is_some())
            }
        };
        if self.ours(port, nd.vlan, ip.into()).is_some() {
            return None;
        }
        let key = Key {
            port,
            vlan: nd.vlan,
            ip: ip.into(),
        };
        let links = self.streams.links();
        let work = links.heard(key, said, answers, now_ns);
        let mac = said.unwrap_or(nd.link_source);
        if links.is_at(key, mac) {
            self.queues.asked.may_ask(key, mac);
        }
        self.do_work(work, waiting);
        let asked = self.ours(port, nd.vlan, nd.target.into());
        asked.filter(|_| nd.kind == NdKind::Solicitation)
    }

    /// The MAC under which an address is ours, if it is.
    fn ours(&self, port: u8, vlan: u16, ip: IpAddr) -> Option<[u8; 6]> {
        let is_it = |l: &&Local| l.port == port && l.vlan == vlan && l.ip == ip;
        self.locals.iter().find(is_it).map(|l| l.mac)
    }

    /// Asks, and sends what waited for an answer.
    pub(super) fn do_work(&mut self, work: Work, waiting: &mut Waiting) {
        for ask in &work.asks {
            self.ask(ask);
        }
        for number in work.resolved {
            let Some(hop) = self.adjacencies.get(number) else {
                continue;
            };
            for (stream, mut mbuf) in waiting.take(number) {
                address(&mut mbuf, hop.l2.destination());
                self.relayed(hop.port as u8, stream, mbuf);
            }
        }
    }

    fn ask(&mut self, ask: &Ask) {
        let Key { port, vlan, ip } = ask.key;
        let Some(mac) = self.ours(port, vlan, ask.from) else {
            return;
        };
        self.queues.asked.ask(ask.key, ask.at);
        match (ask.from, ip, ask.at) {
            (IpAddr::V4(from), IpAddr::V4(ip), None) => {
                self.send_frame(port, &local::arp_request(mac, from, vlan, ip));
            }
            (IpAddr::V4(from), IpAddr::V4(ip), Some(at)) => {
                self.send_frame(port, &local::arp_probe(mac, from, vlan, ip, at));
            }
            (IpAddr::V6(from), IpAddr::V6(ip), None) => {
                self.send_frame(port, &local::nd_solicitation(mac, from, vlan, ip));
            }
            (IpAddr::V6(from), IpAddr::V6(ip), Some(at)) => {
                self.send_frame(port, &local::nd_probe(mac, from, vlan, ip, at));
            }
            _ => {}
        }
    }

    /// Tells the links where our addresses are: after a failover, switches and neighbours know an old
    /// place.
    pub(super) fn announce(&mut self, now_ns: u64, link_up: impl Fn(usize) -> bool) {
        for port in self.announcements.due(now_ns, link_up) {
            for local in self.locals.clone().iter().filter(|l| l.port == port) {
                match local.ip {
                    IpAddr::V4(ip) => {
                        let frame = local::arp_announcement(local.mac, ip, local.vlan);
                        self.send_frame(port, &frame);
                    }
                    IpAddr::V6(ip) => {
                        let frame = local::nd_announcement(local.mac, ip, local.vlan);
                        self.send_frame(port, &frame);
                    }
                }
            }
        }
    }

    /// Opens NATs. Where the next hop is not known yet, it is being asked for: the next datagram has its answer.
    pub(super) fn pierce(&mut self, now_ns: u64) {
        for due in self.streams.pierce(now_ns) {
            let hop = self.adjacencies.get(due.adjacency);
            if let Some(hop) = hop.filter(|hop| hop.resolved)
                && let Some(frame) = penstock_relay::empty(&due.slot, &hop.l2)
            {
                self.reply(hop.port as u8, &frame, false);
            }
        }
    }

    /// Answers an echo request.
    pub(super) fn echo(&mut self, arrived: Arrived, now_ns: u64) {
        let Arrived { port, mut mbuf } = arrived;
        let Some(mac) = self.locals.iter().find(|l| l.port == port).map(|l| l.mac) else {
            return;
        };
        if self.is_from_broadcast(port, mbuf.frame()) || !self.icmp.take(now_ns) {
            return;
        }
        if let Some(len) = local::echo_reply(mbuf.frame_mut(), mac) {
            mbuf.truncate(len);
            // A full queue drops: what matters is asked again.
            let _ = self.queues.reply(to_worker(port, mbuf));
        }
    }

    /// Tells the sender of a datagram that nobody takes it.
    pub(super) fn unreachable(&mut self, arrived: &Arrived, now_ns: u64) {
        let (port, frame) = (arrived.port, arrived.mbuf.frame());
        let Some(mac) = self.locals.iter().find(|l| l.port == port).map(|l| l.mac) else {
            return;
        };
        let Class::Udp(udp) = classify(frame, &mac, true) else {
            return;
        };
        if self.is_from_broadcast(port, frame) || !self.icmp.take(now_ns) {
            return;
        }
        if let Some(error) = local::port_unreachable(frame, &udp, mac) {
            self.reply(port, &error, false);
        }
    }

    /// Whether a packet claims to come from the broadcast address of one of the port's links.
    fn is_from_broadcast(&self, port: u8, frame: &[u8]) -> bool {
        let Some(source) = local::source_v4(frame) else {
            return false;
        };
        let on_port = |l: &&Local| l.port == port;
        let source = source.into();
        self.locals
            .iter()
            .filter(on_port)
            .any(|l| l.is_broadcast(source))
    }

    /// Sends what the plane says by itself, ahead of what it answers to strangers.
    fn send_frame(&self, port: u8, frame: &[u8]) {
        if let Some(packet) = self.packet(port, frame) {
            let _ = self.queues.ask(packet);
        }
    }

    /// Answers; strangers with what questions leave of the pool.
    fn reply(&self, port: u8, frame: &[u8], is_expected: bool) {
        if is_expected {
            self.send_frame(port, frame);
        } else if self.pool.in_use() + STEWARD_QUEUE < self.pool.count()
            && let Some(packet) = self.packet(port, frame)
        {
            // A full queue drops: what matters is asked again.
            let _ = self.queues.reply(packet);
        }
    }

    fn packet(&self, port: u8, frame: &[u8]) -> Option<ToWorker> {
        let mut mbuf = self.pool.alloc()?;
        mbuf.set_data(frame).then(|| to_worker(port, mbuf))
    }
}

fn to_worker(port: u8, mut mbuf: Mbuf) -> ToWorker {
    let lacking = LEAST_FRAME.saturating_sub(mbuf.frame().len());
    if let Some(padding) = mbuf.append(lacking) {
        padding.fill(0);
    }
    ToWorker {
        port,
        mbuf,
        relayed: false,
        stream: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_per_second_and_a_second_at_once() {
        let mut bucket = Bucket::new(100, 0);
        let mut taken = |from_ms: u64, to_ms: u64| {
            let ms = (from_ms * 10..to_ms * 10).map(|tenth| tenth * SECOND_NS / 10_000);
            ms.filter(|&now| bucket.take(now)).count()
        };
        assert_eq!(taken(0, 1000), 199);
        assert_eq!(taken(1000, 2000), 100);
        assert_eq!(taken(60_000, 60_001), 10, "ten tries in a millisecond");
        assert_eq!(taken(60_001, 61_000), 189);
        let mut none = Bucket::new(0, 0);
        assert!(!none.take(0) && !none.take(SECOND_NS));
    }

    #[test]
    fn addresses_are_announced_thrice_at_the_start_and_when_a_link_comes_up() {
        let mut announcements = Announcements::new(2, 0);
        let up = |_| true;
        let mut seen = Vec::new();
        for tenth in 0..50 {
            let now = tenth * SECOND_NS / 10;
            seen.extend(announcements.due(now, up).into_iter().map(|p| (tenth, p)));
        }
        assert_eq!(seen, [(0, 0), (0, 1), (10, 0), (10, 1), (20, 0), (20, 1)]);
        assert!(
            announcements
                .due(10 * SECOND_NS, |port| port != 1)
                .is_empty()
        );
        for (second, expected) in [(11, vec![1]), (12, vec![1]), (13, vec![1]), (14, vec![])] {
            assert_eq!(announcements.due(second * SECOND_NS, up), expected);
        }
    }
}
