//! Packets from one endpoint of the plane to another: calls that pass through the same plane twice.
//!
//! Such a packet leaves no port. Judged and rewritten, it waits in a queue of its worker, and is then taken the long
//! way as if the port that has its destination had received it. It was received and is forwarded once; each stream's
//! meter counts it. A circle of routes ends at [`MAX_CROSSED`].

use super::Worker;
use super::stages::Step;
use crate::slow::HandOver;
use penstock_dpdk::{Burst, Mbuf};
use penstock_relay::Drop;
use penstock_shm::{Entry, Pinned};
use std::collections::VecDeque;

/// Endpoints that send a packet on: the last one's has to leave the plane.
pub const MAX_CROSSED: u8 = 4;
/// Packets that wait at a worker. A turn makes no more than a burst for each port and endpoint on the way.
const CAPACITY: usize = 1024;

/// A packet that enters again.
struct Delivery {
    /// Index of the port that has its destination.
    port: u8,
    /// How many endpoints have sent it on.
    crossed: u8,
    mbuf: Mbuf,
}

/// A worker's packets that are to enter again, in order.
pub(super) struct Deliveries(VecDeque<Delivery>);

impl Deliveries {
    /// None.
    pub(super) fn new() -> Deliveries {
        Deliveries(VecDeque::with_capacity(CAPACITY))
    }

    /// Whether none waits.
    #[inline(always)]
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Gives the packet back if there is no room.
    fn push(&mut self, delivery: Delivery) -> Result<(), Mbuf> {
        if self.0.len() == CAPACITY {
            return Err(delivery.mbuf);
        }
        self.0.push_back(delivery);
        Ok(())
    }

    /// Takes one that entered again at a worker that does not own the stream.
    pub(super) fn hand_over(&mut self, handed: HandOver, view: &Pinned<'_>) {
        let counters = view.counters();
        counters.rx.add(1);
        let (port, crossed, mbuf) = (handed.port, handed.crossed, handed.mbuf);
        let delivery = Delivery {
            port,
            crossed,
            mbuf,
        };
        if self.push(delivery).is_err() {
            counters.drops[Drop::TxFull as usize].add(1);
            let tally = view.tally(handed.record);
            tally.inspect(|tally| tally.count_dropped(Drop::TxFull));
        }
    }
}

impl Step<'_> {
    /// Has a packet of this stream, rewritten, enter again at the port that has its destination.
    #[cold]
    pub(super) fn deliver(&mut self, port: usize, mbuf: Mbuf, from: Entry<'_>) {
        let crossed = self.crossed + 1;
        if crossed == MAX_CROSSED {
            return self.drop_of(from, mbuf, Drop::Loop);
        }
        let delivery = Delivery {
            port: port as u8,
            crossed,
            mbuf,
        };
        if let Err(mbuf) = self.out.deliveries.push(delivery) {
            self.drop_of(from, mbuf, Drop::TxFull);
        }
    }
}

impl Worker {
    /// Relays what waits to enter again, and says how much it was. What comes of it waits for the next turn.
    #[cold]
    pub(super) fn deliver(&mut self) -> usize {
        let total = self.out.deliveries.0.len();
        let view = &self.table.pin();
        // They have the time of the burst that brought them.
        let now_ns = self.clock.now_ns(true);
        for taken in 1..=total {
            let Some(next) = self.out.deliveries.0.pop_front() else {
                break;
            };
            let mut step = Step {
                number: self.number,
                port: next.port,
                side: &self.ports[usize::from(next.port)],
                sides: &self.ports,
                view,
                counters: view.counters(),
                now_ns,
                crossed: next.crossed,
                shared: &self.shared,
                out: &mut self.out,
            };
            step.long_way(next.mbuf);
            // The exits take no more at once.
            if taken % Burst::CAPACITY == 0 || taken == total {
                step.flush();
            }
        }
        total
    }
}
