//! The steward: the plane's one thread that sleeps.
//!
//! It applies control's commands and the workers' latches, answers ARP and ICMP echo for our
//! addresses, finds next hops, keeps the packets that wait for one, and ages what has ended. What it sends
//! goes through a worker's queue, from a pool of its own.

use crate::addresses::Local;
use crate::adjacency::Adjacencies;
use crate::health::Health;
use crate::neighbour::{Ask, Key};
use crate::slow::{Queues, ToSteward, ToWorker};
use crate::streams::Streams;
use crate::timers::Watch;
use crate::waiting::Waiting;
use penstock_dpdk::{Mbuf, MbufPool};
use penstock_relay::{Drop, local};
use penstock_shm::{
    CommandConsumer, Event, EventProducer, MAX_OPS, PlaneBell, Pulse, WorkerTable, monotonic_ns,
};
use std::net::IpAddr;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Duration;

/// The longest sleep: next hops are asked for at this grain.
const PULSE: Duration = Duration::from_millis(50);
const EXPIRE_NS: u64 = 1_000_000_000;
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
}

impl Steward {
    /// Works until `stop` is readable.
    pub fn run(mut self, stop: BorrowedFd<'_>, mut health: Health<'_>) {
        self.counters.offline();
        self.announce();
        let mut waiting = Waiting::new();
        let mut expire_at = 0;
        loop {
            let now_ns = monotonic_ns();
            self.latch(now_ns);
            let events = &mut self.events;
            // Control reads in the table what it missed.
            self.streams.tick(now_ns, |event| {
                events.push(event);
            });
            // Refusals need room.
            let mut report = |event| events.room() > MAX_OPS && events.push(event);
            self.watch.turn(self.streams.table(), now_ns, &mut report);
            self.hear_workers(&mut waiting, now_ns);
            self.apply_commands(now_ns);
            for ask in self.streams.neighbours().due(now_ns) {
                self.ask(&ask);
            }
            let given_up = waiting.expire(now_ns);
            self.counters.counters().drops[Drop::NextHop as usize].add(given_up);
            if now_ns >= expire_at {
                self.streams.table().expire(now_ns);
                expire_at = now_ns + EXPIRE_NS;
            }
            for change in health.look(now_ns, self.streams.table()) {
                self.events.push(change.into());
            }
            self.pulse.beat(now_ns);
            let queues = &self.queues;
            let more = || !queues.steward.is_empty() || !queues.latches.is_empty();
            if self.bell.wait(more, &[stop], PULSE) {
                return;
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
        for _ in 0..BATCH {
            let Some(message) = self.queues.steward.pop() else {
                return;
            };
            match message {
                ToSteward::Local { port, mbuf } => {
                    let counters = self.counters.counters();
                    counters.rx.add(1);
                    counters.consumed.add(1);
                    self.local(port, mbuf, waiting, now_ns);
                }
                ToSteward::Unresolved {
                    adjacency,
                    mut mbuf,
                } => {
                    self.counters.counters().rx.add(1);
                    match self.adjacencies.get(adjacency) {
                        Some(hop) if hop.resolved => {
                            address(&mut mbuf, hop.l2.destination());
                            self.relayed(hop.port as u8, mbuf);
                        }
                        _ => {
                            if !waiting.push(adjacency, mbuf, now_ns) {
                                self.counters.counters().drops[Drop::NextHop as usize].add(1);
                            }
                        }
                    }
                }
            }
        }
    }

    /// ARP or ICMP echo.
    fn local(&mut self, port: u8, mut mbuf: Mbuf, waiting: &mut Waiting, now_ns: u64) {
        let Some(mac) = self.locals.iter().find(|l| l.port == port).map(|l| l.mac) else {
            return;
        };
        let Some(arp) = local::arp_parse(mbuf.frame()) else {
            if let Some(len) = local::icmp_echo_reply(mbuf.frame_mut(), mac) {
                mbuf.truncate(len);
                self.send(port, mbuf);
            }
            return;
        };
        let sender = Key {
            port,
            vlan: arp.vlan,
            ip: arp.sender_ip.into(),
        };
        if let Some((number, changed)) =
            self.streams
                .neighbours()
                .heard(sender, arp.sender_mac, now_ns)
        {
            if changed {
                self.adjacencies.resolve(number, arp.sender_mac);
            }
            for mut mbuf in waiting.take(number) {
                address(&mut mbuf, arp.sender_mac);
                self.relayed(port, mbuf);
            }
        }
        let is_ours = |l: &&Local| {
            l.port == port && l.vlan == arp.vlan && l.ip == IpAddr::from(arp.target_ip)
        };
        if arp.is_request && self.locals.iter().find(is_ours).is_some() {
            self.send_frame(port, &local::arp_reply(&arp, mac));
        }
    }

    fn ask(&mut self, ask: &Ask) {
        let Some(mac) = self
            .locals
            .iter()
            .find(|l| l.port == ask.port)
            .map(|l| l.mac)
        else {
            return;
        };
        self.send_frame(
            ask.port,
            &local::arp_request(mac, ask.from, ask.vlan, ask.ip),
        );
    }

    /// Tells every link where our addresses are: after a failover, switches and neighbours know an old
    /// place.
    fn announce(&mut self) {
        for local in self.locals.clone() {
            if let IpAddr::V4(ip) = local.ip {
                self.send_frame(
                    local.port,
                    &local::arp_announcement(local.mac, ip, local.vlan),
                );
            }
        }
    }

    fn send_frame(&mut self, port: u8, frame: &[u8]) {
        if let Some(mut mbuf) = self.pool.alloc()
            && mbuf.set_data(frame)
        {
            self.send(port, mbuf);
        }
    }

    /// Worker 0 has a queue at every port. A full ring drops: ARP asks again.
    fn send(&mut self, port: u8, mbuf: Mbuf) {
        let _ = self.queues.send(
            0,
            ToWorker {
                port,
                mbuf,
                relayed: false,
            },
        );
    }

    /// Sends a stream's packet whose next hop is known by now.
    fn relayed(&mut self, port: u8, mbuf: Mbuf) {
        let counters = self.counters.counters();
        let packet = ToWorker {
            port,
            mbuf,
            relayed: true,
        };
        match self.queues.send(0, packet) {
            Ok(()) => counters.handed_over.add(1),
            Err(_) => counters.drops[Drop::TxFull as usize].add(1),
        }
    }
}

/// Writes the next hop's MAC, the one thing such a packet lacked.
fn address(mbuf: &mut Mbuf, mac: [u8; 6]) {
    if let Some(destination) = mbuf.frame_mut().first_chunk_mut::<6>() {
        *destination = mac;
    }
}
