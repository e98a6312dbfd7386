//! What workers and steward hand each other, through bounded queues that never block.

use crate::asked::Asked;
use crate::plan::STEWARD_QUEUE;
use crate::renewal::Renewal;
use crossbeam::queue::ArrayQueue;
use crossbeam::utils::CachePadded;
use penstock_dpdk::Mbuf;
use penstock_relay::learn::Ask;
use penstock_shm::RecordId;
use rustix::event::{EventfdFlags, eventfd};
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

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
    /// The stream that it is of.
    pub stream: RecordId,
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
    /// The stream that it is of; none for the steward's and the kernel's.
    pub stream: Option<RecordId>,
}

/// A packet given to the worker that owns its stream.
pub struct HandOver {
    /// Index of the port it arrived at.
    pub port: u8,
    /// Which worker received it.
    pub from: u8,
    /// The stream's record.
    pub record: u32,
    /// How many endpoints of the plane have sent it on before.
    pub crossed: u8,
    /// The packet.
    pub mbuf: Mbuf,
}

/// Tells a worker that there is something in one of its queues or to [notice](crate::renewal::Notice), and wakes it if
/// it sleeps. A worker that polls looks at one word a turn.
pub struct WorkerBell {
    rings: AtomicU32,
    asleep: AtomicBool,
    wakes: OwnedFd,
}

impl WorkerBell {
    fn new() -> std::io::Result<Self> {
        Ok(WorkerBell {
            rings: AtomicU32::new(0),
            asleep: AtomicBool::new(false),
            wakes: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
        })
    }

    /// How often it has rung: a worker that sees another number than before finds what was pushed.
    #[inline(always)]
    pub fn rings(&self) -> u32 {
        // SeqCst: pairs with both accesses of `ring`, and comes after the store of `arm`.
        self.rings.load(Ordering::SeqCst)
    }

    /// The worker is about to sleep. To be followed by a look at [`rings`](Self::rings).
    pub fn arm(&self) {
        // SeqCst, as the load of `rings` that follows: either the one who rings sees the flag, or the worker the ring.
        self.asleep.store(true, Ordering::SeqCst);
    }

    /// The worker is awake.
    pub fn disarm(&self) {
        self.asleep.store(false, Ordering::Relaxed);
        let _ = rustix::io::read(&self.wakes, &mut [0; 8]);
    }

    /// Readable once the bell has rung.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.wakes.as_fd()
    }

    /// Call after pushing into one of the worker's queues, or changing [`Notice`](crate::renewal::Notice).
    #[inline]
    pub fn ring(&self) {
        // SeqCst: pairs with `rings`, and comes before the load.
        self.rings.fetch_add(1, Ordering::SeqCst);
        // SeqCst: pairs with the store of `arm`. One of those who ring clears the flag and writes: the rest need not.
        if self.asleep.load(Ordering::SeqCst) && self.asleep.swap(false, Ordering::Relaxed) {
            // A counter that is full is readable already.
            let _ = rustix::io::write(&self.wakes, &1u64.to_ne_bytes());
        }
    }
}

/// All queues of the plane.
pub struct Queues {
    /// ARP and neighbour discovery that the steward expects, from every worker. What goes to the steward has
    /// a queue for each kind, so that a flood of one keeps no other out.
    pub expected: ArrayQueue<Arrived>,
    /// What it expects.
    pub asked: Asked,
    /// The rest of ARP and neighbour discovery, from every worker.
    pub neighbours: ArrayQueue<Arrived>,
    /// Echo requests, from every worker.
    pub echoes: ArrayQueue<Arrived>,
    /// Datagrams to ports that nobody has, from every worker. They are counted as dropped already.
    pub unreachable: ArrayQueue<Arrived>,
    /// Media that waits for its next hop, from every worker.
    pub unresolved: ArrayQueue<Unresolved>,
    /// Sources to adopt, from every worker.
    pub latches: ArrayQueue<Latch>,
    /// The steward's questions and its answers to those it knows, for worker 0 to send. Private, as the next: who pushes has to ring.
    asks: ArrayQueue<ToWorker>,
    /// Its answers to strangers, likewise.
    replies: ArrayQueue<ToWorker>,
    /// What else is to be sent, by worker.
    send: Vec<ArrayQueue<ToWorker>>,
    /// What each worker is to take over, by worker; [`Notice`](crate::renewal::Notice) says when.
    pub renewals: Vec<ArrayQueue<Renewal>>,
    /// From other workers, by worker.
    hand_over: Vec<ArrayQueue<HandOver>>,
    /// By worker. Each on lines of its own: its worker looks at it once a turn, and who rings writes it.
    pub bells: Vec<CachePadded<WorkerBell>>,
}

impl Queues {
    /// Queues for so many workers. Fails if no descriptor is left for their bells.
    pub fn new(workers: usize) -> std::io::Result<Self> {
        let bells = (0..workers).map(|_| WorkerBell::new().map(CachePadded::new));
        Ok(Queues {
            expected: ArrayQueue::new(1024),
            asked: Asked::new(),
            neighbours: ArrayQueue::new(1024),
            echoes: ArrayQueue::new(256),
            unreachable: ArrayQueue::new(64),
            unresolved: ArrayQueue::new(4096),
            latches: ArrayQueue::new(4096),
            asks: ArrayQueue::new(STEWARD_QUEUE as usize),
            replies: ArrayQueue::new(STEWARD_QUEUE as usize),
            send: (0..workers).map(|_| ArrayQueue::new(1024)).collect(),
            renewals: (0..workers).map(|_| ArrayQueue::new(1)).collect(),
            hand_over: (0..workers).map(|_| ArrayQueue::new(1024)).collect(),
            bells: bells.collect::<Result<_, _>>()?,
        })
    }

    /// Gives a question of the steward's to worker 0, which has a queue at every port; wakes it.
    pub fn ask(&self, packet: ToWorker) -> Result<(), ToWorker> {
        let pushed = self.asks.push(packet);
        self.bells[0].ring();
        pushed
    }

    /// Whether worker 0 has sent all that was to be asked.
    #[inline(always)]
    pub fn has_asked(&self) -> bool {
        self.asks.is_empty()
    }

    /// Gives an answer of the steward's to worker 0; wakes it.
    pub fn reply(&self, packet: ToWorker) -> Result<(), ToWorker> {
        let pushed = self.replies.push(packet);
        self.bells[0].ring();
        pushed
    }

    /// What a worker is to send for the steward: its questions first.
    #[inline(always)]
    pub fn of_steward(&self, worker: usize) -> Option<ToWorker> {
        if worker != 0 {
            return None;
        }
        self.asks.pop().or_else(|| self.replies.pop())
    }

    /// Gives a packet to a worker to send; wakes it.
    pub fn send(&self, worker: usize, packet: ToWorker) -> Result<(), ToWorker> {
        let pushed = self.send[worker].push(packet);
        self.bells[worker].ring();
        pushed
    }

    /// Wakes every worker, for a [`Notice`](crate::renewal::Notice).
    pub fn wake(&self) {
        self.bells.iter().for_each(|bell| bell.ring());
    }

    /// Whether a worker has found all that was pushed into its queues.
    pub fn are_empty(&self, worker: usize) -> bool {
        let (send, hand_over) = self.of(worker);
        let is_asked = worker == 0 && !(self.asks.is_empty() && self.replies.is_empty());
        send.is_empty() && hand_over.is_empty() && !is_asked
    }

    /// What a worker is to send, and what it is to relay.
    #[inline(always)]
    pub fn of(&self, worker: usize) -> (&ArrayQueue<ToWorker>, &ArrayQueue<HandOver>) {
        (&self.send[worker], &self.hand_over[worker])
    }

    /// Gives a packet to the worker that owns its stream; wakes it.
    pub fn hand_over(&self, worker: usize, packet: HandOver) -> Result<(), HandOver> {
        let Some(queue) = self.hand_over.get(worker) else {
            return Err(packet);
        };
        let pushed = queue.push(packet);
        self.bells[worker].ring();
        pushed
    }

    /// Whether anything waits for the steward.
    pub fn wait_for_steward(&self) -> bool {
        let arrived = [
            &self.expected,
            &self.neighbours,
            &self.echoes,
            &self.unreachable,
        ];
        arrived.iter().any(|queue| !queue.is_empty())
            || !self.unresolved.is_empty()
            || !self.latches.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use std::sync::atomic::AtomicU64;
    use std::thread;

    /// Sleeps until the bell rings, for seconds at most.
    fn is_woken(bell: &WorkerBell) -> bool {
        let limit = Timespec {
            tv_sec: 5,
            tv_nsec: 0,
        };
        let mut fds = [PollFd::from_borrowed_fd(bell.fd(), PollFlags::IN)];
        poll(&mut fds, Some(&limit)).expect("poll") > 0
    }

    /// A worker that sleeps whenever it finds nothing, and who pushes only once the worker has the last one: a ring that
    /// is lost ends the play.
    #[test]
    fn no_ring_is_lost() {
        const PUSHES: u64 = 200_000;
        let bell = WorkerBell::new().unwrap();
        let (pushed, seen) = (AtomicU64::new(0), AtomicU64::new(0));
        let mut slept = 0;
        thread::scope(|scope| {
            scope.spawn(|| {
                for n in 1..=PUSHES {
                    pushed.store(n, Ordering::Relaxed);
                    bell.ring();
                    while seen.load(Ordering::Relaxed) < n {
                        thread::yield_now();
                    }
                }
            });
            let mut heard = 0;
            while seen.load(Ordering::Relaxed) < PUSHES {
                bell.arm();
                let rings = bell.rings();
                if rings == heard {
                    slept += 1;
                    let last = pushed.load(Ordering::Relaxed);
                    if !is_woken(&bell) {
                        // So that the other thread ends too.
                        seen.store(u64::MAX, Ordering::Relaxed);
                        panic!("asleep with {last} pushed");
                    }
                }
                bell.disarm();
                if rings != heard {
                    heard = rings;
                    seen.store(pushed.load(Ordering::Relaxed), Ordering::Relaxed);
                }
            }
        });
        assert!(slept > 0);
    }

    #[test]
    fn a_bell_rings_for_empty_queues_too() {
        let queues = Queues::new(2).unwrap();
        let rings = queues.bells[1].rings();
        assert!(queues.are_empty(0) && queues.are_empty(1));
        queues.wake();
        assert!(queues.are_empty(1) && queues.bells[1].rings() != rings);
    }
}
