//! What workers and steward hand each other, through bounded queues that never block.

use crate::renewal::Renewal;
use crossbeam::queue::ArrayQueue;
use penstock_dpdk::Mbuf;
use penstock_relay::learn::Ask;
use std::net::SocketAddr;

/// A packet with the port it arrived at.
pub struct Arrived {
    /// Index of the port.
    pub port: u8,
    /// The packet.
    pub mbuf: Mbuf,
}

/// A rewritten packet whose next hop is not resolved; all but its Ethernet addresses stands.
pub struct Unresolved {
    /// The next hop's number.
    pub adjacency: u16,
    /// The packet.
    pub mbuf: Mbuf,
}

/// A worker saw a packet from a source that its stream may learn.
#[derive(Clone, Copy, Debug)]
pub struct Latch {
    /// The stream's record.
    pub record: u32,
    /// Version of the slot that the worker judged by.
    pub version: u32,
    /// Where the packet came from.
    pub source: SocketAddr,
    /// What is asked.
    pub ask: Ask,
}

/// A packet for a worker to send for another thread.
pub struct ToWorker {
    /// Index of the port.
    pub port: u8,
    /// The packet.
    pub mbuf: Mbuf,
    /// Relayed by a worker that has no queue at the port, rather than sent by the steward.
    pub relayed: bool,
}

/// A packet given to the worker that owns its stream.
pub struct HandOver {
    /// Index of the port it arrived at.
    pub port: u8,
    /// Which worker received it.
    pub from: u8,
    /// The stream's record.
    pub record: u32,
    /// The packet.
    pub mbuf: Mbuf,
}

/// All queues of the plane.
pub struct Queues {
    /// ARP and neighbour discovery, from every worker. What goes to the steward has a queue for each kind, so
    /// that a flood of one keeps no other out.
    pub neighbours: ArrayQueue<Arrived>,
    /// Echo requests, from every worker.
    pub echoes: ArrayQueue<Arrived>,
    /// Datagrams to ports that nobody has, from every worker. They are counted as dropped already.
    pub unreachable: ArrayQueue<Arrived>,
    /// Media that waits for its next hop, from every worker.
    pub unresolved: ArrayQueue<Unresolved>,
    /// Sources to adopt, from every worker.
    pub latches: ArrayQueue<Latch>,
    /// From the steward, by worker.
    pub send: Vec<ArrayQueue<ToWorker>>,
    /// What each worker is to take over, by worker; [`Notice`](crate::renewal::Notice) says when.
    pub renewals: Vec<ArrayQueue<Renewal>>,
    /// From other workers, by worker.
    pub hand_over: Vec<ArrayQueue<HandOver>>,
}

impl Queues {
    /// Queues for so many workers.
    pub fn new(workers: usize) -> Self {
        Queues {
            neighbours: ArrayQueue::new(1024),
            echoes: ArrayQueue::new(256),
            unreachable: ArrayQueue::new(64),
            unresolved: ArrayQueue::new(4096),
            latches: ArrayQueue::new(4096),
            send: (0..workers).map(|_| ArrayQueue::new(1024)).collect(),
            renewals: (0..workers).map(|_| ArrayQueue::new(1)).collect(),
            hand_over: (0..workers).map(|_| ArrayQueue::new(1024)).collect(),
        }
    }

    /// Whether anything waits for the steward.
    pub fn wait_for_steward(&self) -> bool {
        let arrived = [&self.neighbours, &self.echoes, &self.unreachable];
        arrived.iter().any(|queue| !queue.is_empty())
            || !self.unresolved.is_empty()
            || !self.latches.is_empty()
    }
}
