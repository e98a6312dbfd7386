//! The only safe wrapper over DPDK.
//!
//! # Model
//!
//! [`Eal::init`] starts DPDK, once in a process, and makes the calling thread its main
//! lcore; each worker lcore is a thread that EAL pins, and [`Eal::launch`] runs a closure
//! on it. [`MbufPool`]s hold the packet memory. [`Port::open`] configures a port, named by a
//! PCI address or a vdev string, and [`Port::start`] turns it into a started port and its
//! queues. Each [`RxQueue`] and [`TxQueue`] has one owner, the worker that polls it.
//!
//! # The packet path
//!
//! [`RxQueue::receive`] fills a [`Burst`], which is a slice of [`Mbuf`]s: look at
//! `burst[i].frame()`, rewrite through [`Mbuf::with_headroom_mut`] and [`Mbuf::set_start`].
//! [`Burst::drain`] then hands the mbufs over by value, in order: push those to be sent to
//! a [`TxBatch`] per egress queue and those to be dropped to another `Burst`, for one call
//! to the driver each. None of it allocates, locks or makes a system call of its own.
//!
//! ```no_run
//! # use penstock_dpdk::{Burst, RxQueue, TxBatch, TxQueue};
//! # fn forward(_: &mut [u8]) -> bool { true }
//! fn poll(rx: &mut RxQueue, tx: &mut TxQueue, burst: &mut Burst, batch: &mut TxBatch) {
//!     rx.receive(burst, 32);
//!     let mut dead = Burst::new();
//!     for mut mbuf in burst.drain() {
//!         let refused = if forward(mbuf.frame_mut()) { batch.push(mbuf).err() } else { Some(mbuf) };
//!         if let Some(mbuf) = refused {
//!             let _ = dead.push(mbuf);
//!         }
//!     }
//!     let lost = tx.send(batch).unsent;
//!     # let _ = lost;
//! }
//! ```
//!
//! A worker that has nothing to do waits by [`RxQueue::monitor`] or sleeps on [`RxQueue::interrupt`], where
//! processor and driver have them.
//!
//! # What makes it sound
//!
//! * EAL is initialised once and never cleaned up: the kernel takes everything back when
//!   the process ends. So memory that DPDK handed out never goes away.
//! * Pools are never freed, so they outlive every mbuf, wherever it is.
//! * An [`Mbuf`] is the only reference to its packet: nothing here clones an mbuf or raises
//!   its count. It can be sent to, and freed on, any thread: only EAL's lcores have caches in a
//!   pool, every other thread goes to the pool's ring, which takes several producers.
//! * A port is open once at a time, and each of its queues is one value that is not `Clone`.
//!   The port stops and closes when the last of the port and its queues is dropped, on
//!   the thread that drops it.
//! * Drivers are trusted to return mbufs whose offsets and lengths lie inside their buffers.
//!
//! # Signals
//!
//! `net_tap` announces packets by a real-time signal, which EAL's interrupt thread has
//! to take. Workers block those signals before their closure runs; every other thread calls
//! [`block_rt_signals`] after [`Eal::init`] (a thread inherits the mask of its creator).

#![deny(clippy::undocumented_unsafe_blocks, unsafe_op_in_unsafe_fn)]
#![warn(missing_docs, unreachable_pub)]

mod burst;
mod cpu;
mod eal;
mod error;
mod idle;
mod mbuf;
mod pool;
mod port;
mod queue;

pub use burst::{Burst, Drain, Note, PerPacket, TxBatch};
pub use cpu::{pause, tsc, tsc_hz};
pub use eal::{
    Eal, EalConfig, Hugepages, Worker, block_rt_signals, hugepages_free_mb, knows_device,
};
pub use error::{Errno, Error};
pub use mbuf::{Alike, Checksum, HEADROOM, Mbuf};
pub use pool::MbufPool;
pub use port::{Configured, Port, PortConfig, Started, StartedPort, Stats};
pub use queue::{RxQueue, Sent, TxQueue};
