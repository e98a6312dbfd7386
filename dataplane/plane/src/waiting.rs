//! Packets whose next hop is not resolved yet: a few, for a while.

use penstock_dpdk::Mbuf;
use std::collections::{HashMap, VecDeque};

/// Packets that wait for one next hop.
const PER_HOP: usize = 64;
/// Packets that wait in all.
const IN_ALL: usize = 1024;
/// How long they wait.
const PATIENCE_NS: u64 = 2_000_000_000;

/// The waiting packets, by next hop.
pub struct Waiting {
    queues: HashMap<u16, VecDeque<(u64, Mbuf)>>,
    count: usize,
}

impl Waiting {
    /// None.
    pub fn new() -> Self {
        Waiting {
            queues: HashMap::new(),
            count: 0,
        }
    }

    /// Keeps a packet, or says that there is no room and drops it.
    pub fn push(&mut self, adjacency: u16, mbuf: Mbuf, now_ns: u64) -> bool {
        let queue = self.queues.entry(adjacency).or_default();
        if queue.len() >= PER_HOP || self.count >= IN_ALL {
            return false;
        }
        queue.push_back((now_ns, mbuf));
        self.count += 1;
        true
    }

    /// The packets that wait for a next hop, in order.
    pub fn take(&mut self, adjacency: u16) -> impl Iterator<Item = Mbuf> + use<> {
        let queue = self.queues.remove(&adjacency).unwrap_or_default();
        self.count -= queue.len();
        queue.into_iter().map(|(_, mbuf)| mbuf)
    }

    /// Drops those that waited too long, and says how many.
    pub fn expire(&mut self, now_ns: u64) -> u64 {
        let before = self.count;
        self.queues.retain(|_, queue| {
            while queue
                .front()
                .is_some_and(|(since, _)| since + PATIENCE_NS < now_ns)
            {
                queue.pop_front();
                self.count -= 1;
            }
            !queue.is_empty()
        });
        (before - self.count) as u64
    }
}
