//! Packets whose next hop is not resolved yet: a few, for a while.

use crate::slow::Unresolved;
use penstock_dpdk::Mbuf;
use penstock_shm::RecordId;
use std::collections::{HashMap, VecDeque};

/// Packets that wait for one next hop ...
const PER_HOP: usize = 64;
/// ... or, once half the room is taken, so many: hosts that do not answer leave some to those that will.
const PER_HOP_SCARCE: usize = 8;
/// Packets that wait in all.
const IN_ALL: usize = 1024;
/// How long they wait.
const PATIENCE_NS: u64 = 2_000_000_000;

struct Waits {
    since_ns: u64,
    stream: RecordId,
    mbuf: Mbuf,
}

/// The waiting packets, by next hop.
pub struct Waiting {
    queues: HashMap<u16, VecDeque<Waits>>,
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

    /// Keeps a stream's packet, or says that there is no room and drops it.
    pub fn push(&mut self, packet: Unresolved, now_ns: u64) -> bool {
        let most = match self.count {
            IN_ALL.. => 0,
            count if count >= IN_ALL / 2 => PER_HOP_SCARCE,
            _ => PER_HOP,
        };
        let waiting = self.queues.get(&packet.adjacency).map_or(0, VecDeque::len);
        if waiting >= most {
            return false;
        }
        let queue = self.queues.entry(packet.adjacency).or_default();
        queue.push_back(Waits {
            since_ns: now_ns,
            stream: packet.stream,
            mbuf: packet.mbuf,
        });
        self.count += 1;
        true
    }

    /// The packets that wait for a next hop, in order.
    pub fn take(&mut self, adjacency: u16) -> impl Iterator<Item = (RecordId, Mbuf)> + use<> {
        let queue = self.queues.remove(&adjacency).unwrap_or_default();
        self.count -= queue.len();
        queue.into_iter().map(|waits| (waits.stream, waits.mbuf))
    }

    /// Drops those that waited too long, and tells their streams.
    pub fn expire(&mut self, now_ns: u64, mut dropped: impl FnMut(RecordId)) {
        self.queues.retain(|_, queue| {
            let is_late = |waits: &Waits| waits.since_ns + PATIENCE_NS < now_ns;
            while let Some(waits) = queue.front()
                && is_late(waits)
            {
                dropped(waits.stream);
                queue.pop_front();
                self.count -= 1;
            }
            !queue.is_empty()
        });
    }
}
