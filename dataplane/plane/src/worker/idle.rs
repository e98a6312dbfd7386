//! What a worker does when there is nothing to do.
//!
//! ```text
//! busy      poll on, with `pause` between polls
//! adaptive  poll on for a while: `pause`, or umwait where processor and driver have it
//!           then sleep: on the ports' interrupts and the worker's bell, NAP_MAX_INTERRUPTS at a time,
//!           or, if a port has none, on the bell for naps of NAP_MIN that double up to NAP_MAX
//! ```
//!
//! A packet that comes to a port with interrupts, or to one of the worker's queues, ends the sleep at once; one that
//! comes to a port without is found after [`NAP_MAX`] at the latest (and what the kernel adds). Before
//! it sleeps the worker goes offline, so that the steward need not wait for it.

use super::PortSide;
use crate::slow::Queues;
use arrayvec::ArrayVec;
use penstock_config::Polling;
use penstock_dpdk::{pause, tsc, tsc_hz};
use penstock_shm::WorkerTable;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::num::NonZeroU64;
use std::os::fd::BorrowedFd;
use std::time::Duration;

/// Polls without a packet before an adaptive worker sleeps.
const SPIN_POLLS: u32 = 400;
/// How long the processor watches for a packet between two of them.
const MONITOR: Duration = Duration::from_micros(2);
/// The first sleep while a port has no interrupts.
pub const NAP_MIN: Duration = Duration::from_micros(50);
/// The longest such sleep.
pub const NAP_MAX: Duration = Duration::from_micros(400);
/// The longest sleep if all ports have them. The steward takes a worker that does not move for a second for a
/// hung one.
pub const NAP_MAX_INTERRUPTS: Duration = Duration::from_millis(100);
/// Ports that DPDK can have.
const MAX_PORTS: usize = 32;

/// The worker's rest.
pub struct Idle {
    polling: Polling,
    polls: u32,
    nap: Duration,
    /// Interrupts and bell have been asked for: sleep, if the next poll finds nothing either.
    is_armed: bool,
    has_interrupts: bool,
    /// The one receive queue that is worth watching.
    monitored: Option<usize>,
}

impl Idle {
    /// For a worker that receives on these ports.
    pub fn new(polling: Polling, ports: &[PortSide]) -> Idle {
        let mut queues = ports.iter().enumerate();
        let queues = queues
            .by_ref()
            .filter_map(|(i, p)| Some((i, p.rx.as_ref()?)));
        let queues: Vec<_> = queues.collect();
        let monitored = match queues[..] {
            [(port, rx)] if rx.can_monitor() => Some(port),
            _ => None,
        };
        Idle {
            polling,
            polls: 0,
            nap: NAP_MIN,
            is_armed: false,
            has_interrupts: queues.iter().all(|(_, rx)| rx.interrupt().is_some()),
            monitored,
        }
    }

    /// On the worker's own thread, before it begins: naps are to be as short as they say.
    pub fn begin(&self) {
        if self.polling == Polling::Adaptive {
            let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1));
        }
    }

    /// There was something to do.
    #[inline]
    pub fn worked(&mut self, number: usize, ports: &mut [PortSide], queues: &Queues) {
        self.polls = 0;
        if self.is_armed {
            self.disarm(number, ports, queues);
            self.nap = NAP_MIN;
        }
    }

    /// A poll found nothing.
    pub fn rest(&mut self, table: &mut WorkerTable, ports: &mut [PortSide], queues: &Queues) {
        if self.polling == Polling::Busy || self.polls < SPIN_POLLS {
            self.polls += u32::from(self.polling == Polling::Adaptive);
            match self.monitored.filter(|_| self.polling == Polling::Adaptive) {
                Some(port) => watch(&mut ports[port]),
                None => pause(),
            }
            // A worker that holds no slot any more must not keep the steward waiting.
            table.pin();
        } else if !self.is_armed {
            self.arm(table.number(), ports, queues);
            table.pin();
        } else {
            self.sleep(table, ports, queues);
        }
    }

    fn arm(&mut self, number: usize, ports: &mut [PortSide], queues: &Queues) {
        self.is_armed = true;
        if self.has_interrupts {
            for rx in ports.iter_mut().filter_map(|port| port.rx.as_mut()) {
                rx.arm();
            }
        }
        queues.bells[number].arm();
    }

    #[cold]
    fn disarm(&mut self, number: usize, ports: &mut [PortSide], queues: &Queues) {
        self.is_armed = false;
        queues.bells[number].disarm();
        if self.has_interrupts {
            for rx in ports.iter_mut().filter_map(|port| port.rx.as_mut()) {
                rx.disarm();
            }
        }
    }

    fn sleep(&mut self, table: &mut WorkerTable, ports: &mut [PortSide], queues: &Queues) {
        let number = table.number();
        let limit = if self.has_interrupts {
            NAP_MAX_INTERRUPTS
        } else {
            self.nap
        };
        table.offline();
        let woken = wait(
            queues.bells[number].fd(),
            interrupts(ports, self.has_interrupts),
            limit,
        );
        self.nap = (2 * self.nap).min(NAP_MAX);
        match woken {
            Woken::No => {}
            Woken::Yes => {
                // What woke us may need a moment to be seen: net_tap's packets are announced by a signal.
                self.polls = 0;
                self.disarm(number, ports, queues);
            }
            // A device that is gone is ready for ever: no longer ask it.
            Woken::Broken => {
                self.disarm(number, ports, queues);
                self.has_interrupts = false;
            }
        }
    }
}

#[derive(PartialEq)]
enum Woken {
    No,
    Yes,
    Broken,
}

fn interrupts(ports: &[PortSide], asked: bool) -> impl Iterator<Item = BorrowedFd<'_>> {
    let queues = ports.iter().filter(move |_| asked);
    queues.filter_map(|port| port.rx.as_ref()?.interrupt())
}

fn wait<'a>(
    bell: BorrowedFd<'a>,
    interrupts: impl Iterator<Item = BorrowedFd<'a>>,
    limit: Duration,
) -> Woken {
    let fds = std::iter::once(bell).chain(interrupts.take(MAX_PORTS));
    let mut fds: ArrayVec<_, { MAX_PORTS + 1 }> = fds
        .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN))
        .collect();
    let limit = Timespec {
        tv_sec: 0,
        tv_nsec: limit.subsec_nanos().into(),
    };
    // An interrupted sleep has ended, like any other.
    if poll(&mut fds, Some(&limit)).unwrap_or(0) == 0 {
        return Woken::No;
    }
    let bad = PollFlags::ERR | PollFlags::HUP | PollFlags::NVAL;
    if fds.iter().any(|fd| fd.revents().intersects(bad)) {
        Woken::Broken
    } else {
        Woken::Yes
    }
}

fn watch(port: &mut PortSide) {
    let ticks = u128::from(tsc_hz()) * MONITOR.as_nanos() / 1_000_000_000;
    if let Some(rx) = &mut port.rx {
        rx.monitor(tsc() + ticks as u64);
    }
}
