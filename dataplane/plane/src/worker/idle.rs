//! What a worker does when there is nothing to do.
//!
//! ```text
//! busy      poll on, with `pause` between polls
//! adaptive  under load, poll on for a while: `pause`, or umwait where processor and driver have it;
//!           under light load nap at once, NAP_MIN to NAP_MAX, by how many packets the last nap found
//!           without packets sleep: on the ports' interrupts and the worker's bell, NAP_MAX_INTERRUPTS at a time,
//!           or, if a port has none, on the bell for naps that double up to NAP_MAX
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

/// Polls without a packet before an adaptive worker that was under load sleeps.
const SPIN_POLLS: u32 = 400;
/// So many polls without a packet between two with one, and the load is light.
const LIGHT_POLLS: u32 = 8;
/// Fewer packets than this after a nap, and the next one is twice as long...
const FEW: usize = 32;
/// ...so many, and it is half as long. The smallest rings of virtual devices hold four times as many.
const MANY: usize = 128;
/// How long the processor watches for a packet between two of them.
const MONITOR: Duration = Duration::from_micros(2);
/// The shortest nap.
pub const NAP_MIN: Duration = Duration::from_micros(50);
/// The longest, while a port has no interrupts.
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
    /// The next one.
    nap: Duration,
    /// Packets come, and few: sleep at once, and without interrupts, which would come for each.
    is_light: bool,
    /// Bell and, as wanted, interrupts have been asked for: sleep, if the next poll finds nothing either.
    armed: Option<Armed>,
    /// Since the last sleep, and up to the first poll that found nothing after some: so many packets.
    found: Option<usize>,
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
            is_light: false,
            armed: None,
            found: None,
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

    /// There was something to do: so many packets.
    #[inline]
    pub fn worked(
        &mut self,
        number: usize,
        ports: &mut [PortSide],
        queues: &Queues,
        packets: usize,
    ) {
        if self.armed.is_some() {
            self.disarm(number, ports, queues);
        }
        match &mut self.found {
            Some(found) => *found += packets,
            None => self.is_light |= self.polls >= LIGHT_POLLS,
        }
        self.polls = 0;
    }

    /// After a nap that found so many packets, up to the first poll without.
    #[cold]
    fn find_pace(&mut self, packets: usize) {
        self.is_light = packets < MANY || packets < 4 * MANY && self.nap > NAP_MIN;
        let next = match packets {
            _ if !self.is_light => NAP_MIN,
            0..FEW => 2 * self.nap,
            FEW..MANY => self.nap,
            _ => self.nap / 2,
        };
        self.nap = next.clamp(NAP_MIN, NAP_MAX);
    }

    /// A poll found nothing.
    pub fn rest(&mut self, table: &mut WorkerTable, ports: &mut [PortSide], queues: &Queues) {
        if let Some(packets @ 1..) = self.found {
            self.found = None;
            self.find_pace(packets);
        }
        let spins = !self.is_light && self.polls < SPIN_POLLS;
        if self.polling == Polling::Busy || spins {
            self.polls += u32::from(self.polling == Polling::Adaptive);
            match self.monitored.filter(|_| self.polling == Polling::Adaptive) {
                Some(port) => watch(&mut ports[port]),
                None => pause(),
            }
            // A worker that holds no slot any more must not keep the steward waiting.
            table.pin();
        } else if let Some(armed) = self.armed {
            self.sleep(armed, table, ports, queues);
        } else {
            self.arm(table.number(), ports, queues);
            table.pin();
        }
    }

    fn arm(&mut self, number: usize, ports: &mut [PortSide], queues: &Queues) {
        let by_interrupts = self.has_interrupts && !self.is_light;
        self.armed = Some(Armed { by_interrupts });
        if by_interrupts {
            for rx in ports.iter_mut().filter_map(|port| port.rx.as_mut()) {
                rx.arm();
            }
        }
        queues.bells[number].arm();
    }

    #[cold]
    fn disarm(&mut self, number: usize, ports: &mut [PortSide], queues: &Queues) {
        let armed = self.armed.take();
        queues.bells[number].disarm();
        if armed.is_some_and(|armed| armed.by_interrupts) {
            for rx in ports.iter_mut().filter_map(|port| port.rx.as_mut()) {
                rx.disarm();
            }
        }
    }

    fn sleep(
        &mut self,
        Armed { by_interrupts }: Armed,
        table: &mut WorkerTable,
        ports: &mut [PortSide],
        queues: &Queues,
    ) {
        let number = table.number();
        if self.found == Some(0) && !by_interrupts {
            if self.has_interrupts {
                // They are the better rest.
                self.disarm(number, ports, queues);
                (self.is_light, self.polls) = (false, SPIN_POLLS);
                return;
            }
            self.nap = (2 * self.nap).min(NAP_MAX);
        }
        let limit = if by_interrupts {
            NAP_MAX_INTERRUPTS
        } else {
            self.nap
        };
        table.offline();
        let woken = wait(
            queues.bells[number].fd(),
            interrupts(ports, by_interrupts),
            limit,
        );
        self.found = Some(0);
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

/// What a sleeper has asked to be woken by, beside its bell.
#[derive(Clone, Copy)]
struct Armed {
    by_interrupts: bool,
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
