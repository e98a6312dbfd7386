//! The ends of a started port, each polled by its one owner.

use std::cell::Cell;
use std::marker::PhantomData;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use penstock_dpdk_sys as sys;

use crate::burst::{Burst, TxBatch};
use crate::idle::{self, Interrupt};
use crate::port::Device;

/// A receive queue of a started port. It can move to another thread, but has one owner.
#[derive(Debug)]
pub struct RxQueue {
    port: u16,
    queue: u16,
    interrupt: Option<Interrupt>,
    can_monitor: bool,
    _device: Arc<Device>,
    _not_sync: PhantomData<Cell<()>>,
}

/// A send queue of a started port. It can move to another thread, but has one owner.
#[derive(Debug)]
pub struct TxQueue {
    port: u16,
    queue: u16,
    _device: Arc<Device>,
    _not_sync: PhantomData<Cell<()>>,
}

/// What became of a [`TxBatch`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub struct Sent {
    /// Packets that the port took over.
    pub sent: usize,
    /// Packets that found the queue full, and were freed.
    pub unsent: usize,
}

impl RxQueue {
    /// The queues of a started device, numbered from 0. To be called once in its life.
    pub(crate) fn all(device: &Arc<Device>, count: u16) -> Vec<Self> {
        let port = device.id();
        let interrupts = device.has_rx_interrupts();
        let queue = |queue| Self {
            port,
            queue,
            interrupt: interrupts.then(|| Interrupt::of(port, queue)).flatten(),
            can_monitor: idle::monitor_of(port, queue),
            _device: Arc::clone(device),
            _not_sync: PhantomData,
        };
        (0..count).map(queue).collect()
    }

    /// What becomes readable when packets come, after [`arm`](Self::arm): for poll(2). None if the
    /// driver has no interrupts, or the port was opened without.
    pub fn interrupt(&self) -> Option<BorrowedFd<'_>> {
        self.interrupt.as_ref().map(Interrupt::fd)
    }

    /// Asks for an interrupt at the next packet. Those that came before may give none: look once more
    /// before sleeping.
    pub fn arm(&mut self) {
        if self.interrupt.is_some() {
            Interrupt::enable(self.port, self.queue);
        }
    }

    /// Polled again: no more interrupts.
    pub fn disarm(&mut self) {
        if let Some(interrupt) = &self.interrupt {
            interrupt.drain();
            Interrupt::disable(self.port, self.queue);
        }
    }

    /// Whether [`monitor`](Self::monitor) does anything here.
    pub fn can_monitor(&self) -> bool {
        self.can_monitor
    }

    /// Rests the processor until the queue has a packet or the time stamp counter has come to `until_tsc`, or
    /// for less (umwait). To the system the processor is busy.
    pub fn monitor(&mut self, until_tsc: u64) {
        if self.can_monitor {
            idle::monitor(self.port, self.queue, until_tsc);
        }
    }

    /// Receives up to `max` packets behind those that `burst` holds, as far as there is
    /// room, without waiting; says how many. `max` is 32 or 64 and the burst empty
    /// for the drivers that work in vectors, which return none if asked for fewer than 4.
    #[inline]
    pub fn receive(&mut self, burst: &mut Burst, max: usize) -> usize {
        // SAFETY: the port is started and the queue set up while `_device` lives, and nobody
        // else polls it (`&mut self` of the queue's only handle). It writes `room` mbufs at
        // most, each valid and handed over to us, and returns how many.
        unsafe {
            burst.fill(max, |slots, room| {
                sys::rte_eth_rx_burst(self.port, self.queue, slots, room)
            })
        }
    }

    /// The queue's number, from 0.
    pub fn index(&self) -> u16 {
        self.queue
    }
}

impl TxQueue {
    /// As [`RxQueue::all`].
    pub(crate) fn all(device: &Arc<Device>, count: u16) -> Vec<Self> {
        let port = device.id();
        let queue = |queue| Self {
            port,
            queue,
            _device: Arc::clone(device),
            _not_sync: PhantomData,
        };
        (0..count).map(queue).collect()
    }

    /// Sends the batch in order, in one call to the driver, and leaves it empty. Packets
    /// that the queue has no room for are freed: the last ones.
    #[inline]
    pub fn send(&mut self, batch: &mut TxBatch) -> Sent {
        let len = batch.len();
        if len == 0 {
            return Sent { sent: 0, unsent: 0 };
        }
        // SAFETY: the port is started and the queue set up while `_device` lives, and nobody
        // else uses it (`&mut self` of the queue's only handle). The driver takes over the
        // first packets and returns how many.
        let sent = unsafe {
            batch.consume(|slots, count| sys::rte_eth_tx_burst(self.port, self.queue, slots, count))
        };
        Sent {
            sent,
            unsent: len - sent,
        }
    }

    /// As [`send`](Self::send), a whole burst as it is. None of its packets may be chained: drivers that do not
    /// send segments would lose their tails.
    #[inline]
    pub fn send_burst(&mut self, burst: &mut Burst) -> Sent {
        debug_assert!(burst.iter().all(|mbuf| !mbuf.is_chained()));
        let len = burst.len();
        // SAFETY: as in `send`.
        let sent = unsafe {
            burst.consume(|slots, count| sys::rte_eth_tx_burst(self.port, self.queue, slots, count))
        };
        Sent {
            sent,
            unsent: len - sent,
        }
    }

    /// The queue's number, from 0.
    pub fn index(&self) -> u16 {
        self.queue
    }
}
