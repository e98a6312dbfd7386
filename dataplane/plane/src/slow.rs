//! What workers and steward hand each other, through bounded queues that never block.

use crossbeam::queue::ArrayQueue;
use penstock_dpdk::Mbuf;
use penstock_relay::learn::Ask;
use std::net::SocketAddr;

/// A packet for the steward.
pub enum ToSteward {
    /// ARP or ICMP that arrived at a port.
    Local {
        /// Index of the port.
        port: u8,
        /// The packet.
        mbuf: Mbuf,
    },
    /// A rewritten packet whose next hop is not resolved; all but its Ethernet addresses stands.
    Unresolved {
        /// The next hop's number.
        adjacency: u16,
        /// The packet.
        mbuf: Mbuf,
    },
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
    /// Packets from every worker.
    pub steward: ArrayQueue<ToSteward>,
    /// Sources to adopt, from every worker: apart, so that a flood of pings cannot keep calls from latching.
    pub latches: ArrayQueue<Latch>,
    /// From the steward, by worker.
    pub send: Vec<ArrayQueue<ToWorker>>,
    /// From other workers, by worker.
    pub hand_over: Vec<ArrayQueue<HandOver>>,
}

impl Queues {
    /// Queues for so many workers.
    pub fn new(workers: usize) -> Self {
        Queues {
            steward: ArrayQueue::new(4096),
            latches: ArrayQueue::new(4096),
            send: (0..workers).map(|_| ArrayQueue::new(1024)).collect(),
            hand_over: (0..workers).map(|_| ArrayQueue::new(1024)).collect(),
        }
    }
}
