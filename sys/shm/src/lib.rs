//! The region: the shared memory that the data plane and control meet in.
//!
//! Two files: the **rings** (both sides write) carry commands to the plane and events back; the
//! **table** (only the plane writes) holds the local addresses, the index, the stream records with
//! their meters, and the workers' counters. Control and the CLI map the table read-only and read
//! statistics in place. A third file, the **copies** (only workers write), holds rings of frames of
//! captured calls; see [`copies`].
//!
//! | side | begins with | has |
//! | --- | --- | --- |
//! | plane | [`Plane::open`] | [`CommandConsumer`], [`EventProducer`], [`TableWriter`], [`WorkerTable`]s, [`PlaneBell`], [`Pulse`] |
//! | control | [`Control::attach`] | [`CommandProducer`], [`EventConsumer`], [`Applied`], [`ControlBell`], [`PlaneWatch`], [`TableView`] |
//! | a reader | [`TableView::open`] | [`TableView`] |
//! | a capture | [`copies::CopyReader::open`] | [`copies::CopyReader`] |
//!
//! See `ARCHITECTURE.md`, chapter *Concurrency*, for who writes what and which ordering pairs with
//! which.

// Model checks build the parts that run on loom's atomics, and those alone.
#![cfg_attr(loom, allow(dead_code, unused_imports))]

mod address;
mod bell;
mod bytes;
mod cell;
pub mod command;
#[cfg(not(loom))]
mod control;
pub mod copies;
pub mod counters;
mod digest;
pub mod event;
mod feed;
mod ice;
mod layout;
mod life;
#[cfg(not(loom))]
mod lifecycle;
#[cfg(not(loom))]
mod lock;
#[cfg(not(loom))]
mod map;
#[cfg(all(loom, test))]
mod model;
#[cfg(not(loom))]
mod plane;
#[cfg(not(loom))]
mod pulse;
mod qsbr;
pub mod record;
mod ring;
mod sync;
mod table;
pub mod tally;
#[cfg(not(loom))]
mod view;
mod worker;

pub use address::{Address, AddressEntry, TooManyAddresses};
pub use command::{BadCommand, Command, MAX_CLOCK_HZ, MAX_OPS, Op};
#[cfg(not(loom))]
pub use control::{
    Applied, CommandProducer, Control, ControlBell, ControlParts, EventConsumer, PlaneWatch,
    PushError,
};
pub use counters::{MAX_WORKERS, WorkerCounters};
pub use event::{BadEvent, Event, MediaState, Refusal, Seen, Timers};
pub use feed::{Feed, Feeding, MAX_ALTERNATES, MAX_COPIES, MAX_PARTS, Mid};
pub use ice::Ice;
pub use layout::{MAX_ADDRESSES, MAX_STREAMS};
#[cfg(not(loom))]
pub use lifecycle::{Attached, Fate, Preview, RegionConfig, RegionError, Sizes};
#[cfg(not(loom))]
pub use plane::{CommandConsumer, EventProducer, Plane, PlaneBell, PlaneParts, Pulse, Ringer};
#[cfg(not(loom))]
pub use pulse::{PlaneState, STILL_NS};
pub use record::{
    Dscp, Endpoint, Head, Kind, Learn, MAX_POLICIES, Record, RecordId, Slot, StreamSpec, flag,
    state,
};
pub use table::{Counts, TableFull, TableWriter, UpdateError};
pub use tally::{Counter, Meter, Tally};
#[cfg(not(loom))]
pub use view::{
    MeterStat, Policy, PortStat, RegionInfo, ReportStat, StreamStat, TableView, VoipStat,
    WorkerStat,
};
pub use worker::{Entry, Pinned, Turns, WorkerTable};

/// The time in ns of CLOCK_MONOTONIC: the same clock for both processes, and across their restarts.
pub fn monotonic_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}
