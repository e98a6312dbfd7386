//! Control's side of the region. [`Control::attach`] to it, then split it.

use crate::bell::{Bell, Fifo};
use crate::cell::Shared;
use crate::command::{Header, MAX_OPS, Op};
use crate::event::{BadEvent, Event};
use crate::layout::PlaneInfo;
use crate::lifecycle::{Opened, RegionError, TableFile, open_control};
use crate::lock::{Lock, PLANE};
use crate::pulse::PlaneState;
use crate::ring::{Receiver, RingState, Sender};
use crate::sync::Ordering;
use crate::view::TableView;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A region held by this process as its control.
pub struct Control {
    opened: Opened,
    watch: PlaneWatch,
}

/// Control's parts. Its lock is held while any of them lives.
pub struct ControlParts {
    /// Commands to the plane.
    pub commands: CommandProducer,
    /// Events from the plane.
    pub events: EventConsumer,
    /// How far the plane has come.
    pub applied: Applied,
    /// What control sleeps on.
    pub bell: ControlBell,
    /// Whether the plane lives.
    pub watch: PlaneWatch,
    /// The table, to read.
    pub table: TableView,
}

impl Control {
    /// Attaches to the region in `dir`, whether or not its plane lives. Errors if there is none, it does
    /// not fit this program, or another control works on it.
    pub fn attach(dir: &Path) -> Result<Control, RegionError> {
        let opened = open_control(dir)?;
        let watch = PlaneWatch {
            dir: dir.into(),
            lock: Arc::new(Lock::watch(dir, &PLANE)?),
            info: opened.table.head.part(|table| &table.plane),
            table: opened.table.clone(),
        };
        Ok(Control { opened, watch })
    }

    /// The parts.
    pub fn split(self) -> ControlParts {
        let Opened {
            rings,
            table,
            bells: [plane, control],
            ..
        } = self.opened;
        let commands = rings.part(|rings| &rings.commands);
        let events = rings.part(|rings| &rings.events);
        let bell = Bell::new(rings.part(|rings| &rings.control_asleep), control.clone());
        bell.disarm();
        ControlParts {
            commands: CommandProducer {
                ring: Sender::new(
                    commands.clone(),
                    rings.part(|rings| &rings.command_slots[..]),
                ),
                plane: Bell::new(rings.part(|rings| &rings.plane_asleep), plane),
            },
            applied: Applied {
                commands: commands.clone(),
            },
            bell: ControlBell {
                bell,
                fifo: control,
                commands,
                events: events.clone(),
            },
            events: EventConsumer {
                ring: Receiver::new(events, rings.part(|rings| &rings.event_slots[..])),
            },
            table: TableView::new(table, self.watch.lock.clone()),
            watch: self.watch,
        }
    }
}

/// Why a command could not be pushed. None of it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PushError {
    /// The plane has not taken enough of what was pushed before.
    #[error("the command ring is full")]
    Full,
    /// More than [`MAX_OPS`] entries.
    #[error("a command has at most {MAX_OPS} entries")]
    TooLarge,
}

/// The producer of the command ring.
pub struct CommandProducer {
    ring: Sender,
    plane: Bell<Fifo>,
}

impl CommandProducer {
    /// Asks the plane for one whole change of a call. Returns the command's number, which
    /// [`Applied::get`] reaches when it stands.
    pub fn push(&mut self, call: u64, ops: &[Op]) -> Result<u64, PushError> {
        if ops.len() > MAX_OPS {
            return Err(PushError::TooLarge);
        }
        // A command's number is the ring's head behind it: nothing to remember across restarts.
        let seq = self.ring.head().wrapping_add(1 + ops.len() as u64);
        let header = Header {
            seq,
            call,
            count: ops.len() as u16,
        };
        if !self.ring.push(Blocks {
            header: Some(&header),
            ops,
        }) {
            return Err(PushError::Full);
        }
        self.plane.ring();
        Ok(seq)
    }

    /// The number of the last command, also of one that a former control pushed.
    pub fn last_pushed(&self) -> u64 {
        self.ring.head()
    }
}

/// A command's slots, one after another.
struct Blocks<'a> {
    header: Option<&'a Header>,
    ops: &'a [Op],
}

impl Iterator for Blocks<'_> {
    type Item = crate::bytes::Block;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(header) = self.header.take() {
            return Some(header.encode());
        }
        let (op, rest) = self.ops.split_first()?;
        self.ops = rest;
        Some(op.encode())
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = usize::from(self.header.is_some()) + self.ops.len();
        (left, Some(left))
    }
}

impl ExactSizeIterator for Blocks<'_> {}

/// The consumer of the event ring.
pub struct EventConsumer {
    ring: Receiver,
}

impl EventConsumer {
    /// The next event.
    #[expect(
        clippy::should_implement_trait,
        reason = "an iterator would end for good"
    )]
    pub fn next(&mut self) -> Option<Result<Event, BadEvent>> {
        let event = match self.ring.waiting() {
            Ok(0) => return None,
            Ok(_) => {
                let block = self.ring.peek(0);
                self.ring.advance(1);
                Event::decode(&block)
            }
            Err(_) => {
                self.ring.skip_all();
                Err(BadEvent {
                    why: "more events than the ring has",
                })
            }
        };
        self.ring.release(self.ring.cursor());
        Some(event)
    }
}

/// How far the plane has come.
#[derive(Clone)]
pub struct Applied {
    commands: Shared<RingState>,
}

impl Applied {
    /// The number of the last command that stands. What it caused can be read in the table, a refusal
    /// in the event ring.
    pub fn get(&self) -> u64 {
        // Pairs with `Receiver::release`.
        self.commands.tail.0.load(Ordering::Acquire)
    }
}

/// What control sleeps on: a descriptor that becomes readable.
///
/// Call [`ControlBell::arm`]; if it returns true, wait until the descriptor is readable, then
/// [`ControlBell::drain`] it.
pub struct ControlBell {
    bell: Bell<Fifo>,
    fifo: Fifo,
    commands: Shared<RingState>,
    events: Shared<RingState>,
}

impl ControlBell {
    /// Announces sleep. True if there is no event and nothing was applied after `applied_seen`.
    pub fn arm(&self, applied_seen: u64) -> bool {
        self.bell.arm();
        // Pairs with `Receiver::release`, as in `Applied::get`.
        let quiet = self.events.waiting() == 0
            && self.commands.tail.0.load(Ordering::Acquire) == applied_seen;
        if !quiet {
            self.bell.disarm();
        }
        quiet
    }

    /// Awake again: takes out what was written.
    pub fn drain(&self) {
        self.bell.disarm();
        self.fifo.drain();
    }
}

impl AsFd for ControlBell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fifo.as_fd()
    }
}

impl AsRawFd for ControlBell {
    fn as_raw_fd(&self) -> RawFd {
        self.fifo.as_fd().as_raw_fd()
    }
}

/// Whether the plane lives, and which one it is.
pub struct PlaneWatch {
    dir: PathBuf,
    lock: Arc<Lock>,
    info: Shared<PlaneInfo>,
    table: TableFile,
}

impl PlaneWatch {
    /// Whether a plane holds its lock.
    pub fn alive(&self) -> bool {
        self.lock.is_held()
    }

    /// Whether a plane works on this region at this moment.
    pub fn state(&self) -> PlaneState {
        PlaneState::of(self.alive(), self.heartbeat_ns(), crate::monotonic_ns())
    }

    /// How many planes have started on this region. A change means: compare what stands with what
    /// should.
    pub fn epoch(&self) -> u64 {
        // Pairs with `Pulse::start`.
        self.info.epoch.load(Ordering::Acquire)
    }

    /// When the steward last turned, ns of CLOCK_MONOTONIC.
    pub fn heartbeat_ns(&self) -> u64 {
        self.info.heartbeat_ns.load(Ordering::Relaxed)
    }

    /// Whether a plane has set this region aside: drop every part and attach anew.
    pub fn replaced(&self) -> bool {
        self.table.is_replaced(&self.dir)
    }
}
