//! The plane's side of the region. [`Plane::open`] it, then split it: each part is owned by one thread.

use crate::bell::{Bell, Fifo};
use crate::cell::Shared;
use crate::command::{BadCommand, Command, Header, MAX_OPS, Op};
use crate::copies::{CopyWriter, open_writers};
use crate::counters::MAX_WORKERS;
use crate::event::Event;
use crate::layout::{EVENT_SLOTS, PlaneInfo};
use crate::lifecycle::{Attached, Opened, RegionConfig, RegionError, open_plane};
use crate::monotonic_ns;
use crate::qsbr::Epochs;
use crate::record::set_digest_key;
use crate::ring::{Line, Receiver, RingState, Sender};
use crate::sync::Ordering;
use crate::table::TableWriter;
use crate::worker::WorkerTable;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

/// A region held by this process as its plane.
pub struct Plane(Opened);

/// The plane's parts. Its lock is held while any of them lives.
pub struct PlaneParts {
    /// Commands from control.
    pub commands: CommandConsumer,
    /// Events to control.
    pub events: EventProducer,
    /// The stream table.
    pub table: TableWriter,
    /// The workers' ends of the table, in order.
    pub workers: Vec<WorkerTable>,
    /// What the steward sleeps on.
    pub bell: PlaneBell,
    /// The sign of life.
    pub pulse: Pulse,
}

impl Plane {
    /// Makes the region, or takes over the one a former plane left. Errors if another plane runs on it,
    /// or files cannot be made.
    pub fn open(config: &RegionConfig) -> Result<Plane, RegionError> {
        let opened = open_plane(config)?;
        set_digest_key(opened.generation());
        Ok(Plane(opened))
    }

    /// What was found.
    pub fn attached(&self) -> &Attached {
        &self.0.attached
    }

    /// The copy ring of each of `workers` workers, in order; `config` is what the region was opened with.
    ///
    /// # Errors
    /// The file `copies` cannot be made.
    pub fn copy_writers(
        &self,
        config: &RegionConfig,
        workers: usize,
    ) -> Result<Vec<CopyWriter>, RegionError> {
        let generation = self.0.rings.identity.generation.load(Ordering::Relaxed);
        open_writers(config, generation, workers)
    }

    /// The parts, with one end of the table for each of `workers` workers.
    ///
    /// # Panics
    /// If there are no workers or more than [`MAX_WORKERS`].
    pub fn split(self, workers: usize) -> PlaneParts {
        assert!(
            (1..=MAX_WORKERS).contains(&workers),
            "1 to {MAX_WORKERS} workers"
        );
        let Opened {
            rings,
            table: file,
            bells: [plane_fifo, control_fifo],
            ..
        } = self.0;
        let epochs = Arc::new(Epochs::new(workers));
        let index = file.head.part(|table| &table.index[..]);
        let table = TableWriter::new(
            file.head.part(|table| &table.plane),
            file.head.part(|table| &table.ports[..]),
            file.head.part(|table| &table.addresses[..]),
            index.clone(),
            file.records.clone(),
            epochs.clone(),
        );
        let worker = |number| WorkerTable {
            number,
            epochs: epochs.clone(),
            index: index.clone(),
            records: file.records.clone(),
            counters: file.head.part(|table| &table.counters[number]),
        };
        let commands = rings.part(|rings| &rings.commands);
        let events = rings.part(|rings| &rings.events);
        let control = Bell::new(rings.part(|rings| &rings.control_asleep), control_fifo);
        let bell = PlaneBell {
            link: Bell::new(rings.part(|rings| &rings.plane_asleep), plane_fifo.clone()),
            steward: Bell::new(Shared::own(Line::default()), plane_fifo.clone()),
            fifo: plane_fifo,
            commands: commands.clone(),
            events: events.clone(),
        };
        bell.link.disarm();
        let pulse = Pulse {
            info: file.head.part(|table| &table.plane),
            workers,
        };
        PlaneParts {
            commands: CommandConsumer {
                ring: Receiver::new(commands, rings.part(|rings| &rings.command_slots[..])),
                events: events.clone(),
                control: control.clone(),
            },
            events: EventProducer {
                ring: Sender::new(events, rings.part(|rings| &rings.event_slots[..])),
                control,
            },
            table,
            workers: (0..workers).map(worker).collect(),
            bell,
            pulse,
        }
    }
}

/// Whether the event ring has room for a refusal of each op of a command.
fn can_answer(events: &RingState) -> bool {
    events.waiting() <= (EVENT_SLOTS - MAX_OPS) as u64
}

/// The consumer of the command ring.
pub struct CommandConsumer {
    ring: Receiver,
    events: Shared<RingState>,
    control: Bell<Fifo>,
}

impl CommandConsumer {
    /// The next command, if there is one and the event ring has room for [`MAX_OPS`] answers. What was
    /// taken but not [`CommandConsumer::applied`] comes again after a restart.
    #[expect(
        clippy::should_implement_trait,
        reason = "an iterator would end for good"
    )]
    pub fn next(&mut self) -> Option<Result<Command, BadCommand>> {
        if self.ring.waiting() == Ok(0) || !can_answer(&self.events) {
            return None;
        }
        Some(match self.header() {
            Ok(header) => self.body(&header),
            // Where the next command begins is anyone's guess: nothing that waits can be trusted.
            Err(why) => {
                self.ring.skip_all();
                Err(BadCommand {
                    seq: self.ring.cursor(),
                    why,
                })
            }
        })
    }

    /// The header at the cursor, if the whole command is there.
    fn header(&self) -> Result<Header, &'static str> {
        let waiting = self
            .ring
            .waiting()
            .map_err(|_| "more slots than the ring has")?;
        let header = Header::decode(&self.ring.peek(0))?;
        let slots = 1 + usize::from(header.count);
        if slots > waiting {
            return Err("reaches beyond what was pushed");
        }
        if header.seq != self.ring.cursor().wrapping_add(slots as u64) {
            return Err("its number is not its place");
        }
        Ok(header)
    }

    fn body(&mut self, header: &Header) -> Result<Command, BadCommand> {
        let count = usize::from(header.count);
        let ops = (1..=count)
            .map(|ahead| Op::decode(&self.ring.peek(ahead)))
            .collect();
        self.ring.advance(1 + count);
        match ops {
            Ok(ops) => Ok(Command {
                seq: header.seq,
                call: header.call,
                ops,
            }),
            Err(why) => Err(BadCommand {
                seq: header.seq,
                why,
            }),
        }
    }

    /// Everything up to the command `seq` stands; control is told.
    pub fn applied(&mut self, seq: u64) {
        self.ring.release(seq);
        self.control.ring();
    }
}

/// The producer of the event ring.
pub struct EventProducer {
    ring: Sender,
    control: Bell<Fifo>,
}

impl EventProducer {
    /// Tells control. False if the ring is full.
    pub fn push(&mut self, event: Event) -> bool {
        let pushed = self.ring.push([event.encode()].into_iter());
        if pushed {
            self.control.ring();
        }
        pushed
    }

    /// How many events can be pushed now.
    pub fn room(&mut self) -> usize {
        self.ring.room()
    }
}

/// What the steward sleeps on: commands, workers, and descriptors of its own.
pub struct PlaneBell {
    /// Rung by control.
    link: Bell<Fifo>,
    /// Rung by the workers.
    steward: Bell<Fifo>,
    /// What both write to.
    fifo: Fifo,
    commands: Shared<RingState>,
    events: Shared<RingState>,
}

impl PlaneBell {
    /// Sleeps until a command comes, a [`Ringer`] rings, one of `extra` is readable or `timeout` has
    /// passed; true if one of `extra` is. Does not sleep if commands wait that could be answered, or if
    /// `busy` says so, which is asked after the workers can see that the steward sleeps.
    pub fn wait(
        &mut self,
        busy: impl FnOnce() -> bool,
        extra: &[BorrowedFd<'_>],
        timeout: Duration,
    ) -> bool {
        self.link.arm();
        self.steward.arm();
        let commands = self.commands.waiting() != 0 && can_answer(&self.events);
        let timeout = if commands || busy() {
            Duration::ZERO
        } else {
            timeout
        };
        let timeout = Timespec::try_from(timeout).ok();
        let extra = extra
            .iter()
            .map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN));
        let bell = PollFd::from_borrowed_fd(self.fifo.as_fd(), PollFlags::IN);
        let mut fds: Vec<_> = [bell].into_iter().chain(extra).collect();
        // An interrupted sleep has ended, like any other.
        let ready = poll(&mut fds, timeout.as_ref()).is_ok_and(|ready| ready > 0);
        let extra = ready && fds[1..].iter().any(|fd| !fd.revents().is_empty());
        let rung = ready && !fds[0].revents().is_empty();
        self.link.disarm();
        self.steward.disarm();
        if rung {
            self.fifo.drain();
        }
        extra
    }

    /// What a worker wakes the steward with.
    pub fn ringer(&self) -> Ringer {
        Ringer(self.steward.clone())
    }
}

/// Wakes the steward if it sleeps.
#[derive(Clone)]
pub struct Ringer(Bell<Fifo>);

impl Ringer {
    /// Call after giving the steward something: one fence and one load while it is awake.
    #[inline]
    pub fn ring(&self) {
        self.0.ring();
    }
}

/// This build's version: major, minor and patch, 8 bits each.
const VERSION: u32 = {
    let parts = [
        env!("CARGO_PKG_VERSION_MAJOR"),
        env!("CARGO_PKG_VERSION_MINOR"),
        env!("CARGO_PKG_VERSION_PATCH"),
    ];
    let mut version = 0;
    let mut idx = 0;
    while idx < parts.len() {
        let Ok(part) = u8::from_str_radix(parts[idx], 10) else {
            panic!("a part of the version is above 255");
        };
        version = version << 8 | part as u32;
        idx += 1;
    }
    version
};

/// The plane's sign of life.
pub struct Pulse {
    info: Shared<PlaneInfo>,
    workers: usize,
}

impl Pulse {
    /// A new plane has begun: the table says what stands, and what addresses there are. Control compares at once, and
    /// what has no address then stays away until the next plane.
    pub fn start(&mut self) {
        let now_ns = monotonic_ns();
        self.info.pid.store(std::process::id(), Ordering::Relaxed);
        self.info
            .workers
            .store(self.workers as u32, Ordering::Relaxed);
        self.info.version.store(VERSION, Ordering::Relaxed);
        self.info.started_ns.store(now_ns, Ordering::Relaxed);
        self.info.heartbeat_ns.store(now_ns, Ordering::Relaxed);
        let epoch = self.info.epoch.load(Ordering::Relaxed);
        // Pairs with `PlaneWatch::epoch`: who sees the new epoch sees the rebuilt index and the addresses.
        self.info.epoch.store(epoch + 1, Ordering::Release);
    }

    /// The steward is alive at `now_ns` of CLOCK_MONOTONIC.
    pub fn beat(&mut self, now_ns: u64) {
        self.info.heartbeat_ns.store(now_ns, Ordering::Relaxed);
    }
}
