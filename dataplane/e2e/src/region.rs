//! The region as a test sees it: read like the CLI does, or driven in control's place.

use crate::{Lab, PLANE, wait_for};
use penstock_shm::counters::Drop;
use penstock_shm::{Control, Endpoint, Event, Op, StreamStat, TableView, WorkerStat};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// The workers' counters, added up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Packets received.
    pub rx: u64,
    /// Packets sent on.
    pub forwarded: u64,
    /// Packets the steward took.
    pub consumed: u64,
    /// Packets given to another worker.
    pub handed_over: u64,
    /// Packets passed on to the kernel.
    pub to_kernel: u64,
    /// Packets that came from it.
    pub from_kernel: u64,
    /// Copies of packets that were due.
    pub copied: u64,
    /// Packets dropped, by reason; reasons without any are left out.
    pub drops: BTreeMap<&'static str, u64>,
}

impl Totals {
    /// Packets dropped for this reason.
    pub fn dropped(&self, reason: Drop) -> u64 {
        self.drops.get(reason.name()).copied().unwrap_or(0)
    }

    /// What became of the packets that were received and of the copies that were made of them, as far as the workers have got with them.
    pub fn accounted(&self) -> u64 {
        let relayed = self.forwarded + self.consumed + self.handed_over;
        relayed + self.to_kernel + self.dropped_at_all()
    }

    /// Packets dropped for any reason.
    pub fn dropped_at_all(&self) -> u64 {
        self.drops.values().sum()
    }
}

/// The workers' counters as they stand, added up.
pub fn totals(table: &TableView) -> Totals {
    add(table.workers())
}

/// One worker's counters as they stand.
pub fn worker(table: &TableView, number: usize) -> Totals {
    add(table
        .workers()
        .into_iter()
        .filter(|worker| worker.number == number))
}

fn add(workers: impl IntoIterator<Item = WorkerStat>) -> Totals {
    let mut sum = Totals::default();
    for worker in workers {
        sum.rx += worker.rx;
        sum.forwarded += worker.forwarded;
        sum.consumed += worker.consumed;
        sum.handed_over += worker.handed_over;
        sum.to_kernel += worker.to_kernel;
        sum.from_kernel += worker.from_kernel;
        sum.copied += worker.copied;
        for (reason, n) in worker.drops.into_iter().filter(|(_, n)| *n > 0) {
            *sum.drops.entry(reason.name()).or_default() += n;
        }
    }
    sum
}

/// Packets that a stream dropped for this reason.
///
/// # Panics
/// If the reason is none of streams.
pub fn dropped_of(stream: &StreamStat, reason: Drop) -> u64 {
    stream.drops[reason.stream_index().expect("a reason of streams")].into()
}

/// Asserts that what was dropped is what streams dropped and the `strays`, which found none, reason by reason. Of a
/// plane that has not restarted, and whose records are all still there.
pub fn assert_attributed(table: &TableView, strays: &[(Drop, u64)]) {
    let (all, streams) = (totals(table), table.iter().collect::<Vec<_>>());
    for &reason in Drop::ALL {
        let is_it = |stray: &&(Drop, u64)| stray.0 == reason;
        let astray: u64 = strays.iter().filter(is_it).map(|(_, n)| n).sum();
        let of_streams = match reason.stream_index() {
            Some(_) => streams.iter().map(|s| dropped_of(s, reason)).sum(),
            None => 0,
        };
        let counted = all.dropped(reason);
        assert_eq!(of_streams + astray, counted, "{}: {all:?}", reason.name());
    }
    for stream in streams {
        let sum: u32 = stream.drops.iter().sum();
        assert_eq!(sum, stream.meter.dropped, "{stream:?}");
    }
}

/// Waits until the workers have done with what they read, asserts that each of them (and the steward, which counts as one
/// more) accounts for all it received, and returns the sum. What a tap's kernel side still has is not among it: see
/// [`Lab::balanced`].
pub fn balanced(table: &TableView) -> Totals {
    let mut last = totals(table);
    let mut loses_count = None;
    let rests = wait_for(Duration::from_secs(10), || {
        std::thread::sleep(Duration::from_millis(100));
        let is_still = std::mem::replace(&mut last, totals(table)) == last;
        let mut workers = table.workers().into_iter().map(|worker| add([worker]));
        loses_count = workers.find(|worker| worker.rx + worker.copied != worker.accounted());
        is_still && loses_count.is_none()
    });
    assert!(
        rests,
        "packets are under way or lost: {last:?} {loses_count:?}"
    );
    last
}

/// The live stream at a local address (outside VLANs) and port.
pub fn stream(table: &TableView, local: SocketAddr) -> Option<StreamStat> {
    table
        .stream(table.find(endpoint(table, local, 0))?)
        .filter(|stream| !stream.ended)
}

/// Where the plane sends what is for the live stream at this local address.
pub fn remote(table: &TableView, local: SocketAddr) -> Option<SocketAddr> {
    stream(table, local)?.policy.remote
}

/// Waits until the steward has made this the remote of the stream at a local address: until then nothing is sent there.
///
/// # Panics
/// If it does not.
pub fn learns(table: &TableView, local: SocketAddr, wanted: SocketAddr) {
    let is_it = || remote(table, local) == Some(wanted);
    let learned = wait_for(Duration::from_secs(20), is_it);
    assert!(learned, "not {wanted}: {:?}", stream(table, local));
}

/// Packets of the live streams that were dropped, for any reason: what no stream drops, such as a tap's kernel's own
/// packets, is not among it.
pub fn lost(table: &TableView) -> u32 {
    live(table).iter().map(|stream| stream.meter.dropped).sum()
}

/// Its live streams, by local port.
pub fn live(table: &TableView) -> Vec<StreamStat> {
    table.iter().filter(|stream| !stream.ended).collect()
}

/// The endpoint of a local address and port.
pub fn endpoint(table: &TableView, local: SocketAddr, vlan: u16) -> Endpoint {
    Endpoint {
        addr: address(table, local.ip(), vlan),
        port: local.port(),
    }
}

fn address(table: &TableView, ip: IpAddr, vlan: u16) -> u16 {
    let addresses = table.addresses();
    let found = addresses
        .iter()
        .find(|a| a.entry.ip == ip && a.entry.vlan == vlan);
    found
        .unwrap_or_else(|| panic!("{ip} (VLAN {vlan}) is not among {addresses:?}"))
        .number
}

impl Lab {
    /// Waits until the plane has read all that was sent to its tap so far, and what it sends on has arrived: both are
    /// queues, and an echo comes back at their end.
    pub fn settle(&self) {
        // With -w the first answer ends it, not the first question: answers are limited.
        let args = ["-q", "-c", "1", "-i", "0.2", "-w", "20", PLANE];
        let (code, out, err) = self.run("ping", &args);
        assert_eq!(code, Some(0), "no echo in 20 s: {out}{err}");
    }

    /// Three echoes come back from there, and no more.
    pub fn ping(&self, ip: &str) {
        // At once, and waited for: else it gives up after twice the time that the first took.
        let (code, out, err) = self.run("ping", &["-c", "3", "-l", "3", "-w", "20", ip]);
        assert_eq!(code, Some(0), "{out}{err}");
        assert!(
            out.contains(" 0% packet loss") && !out.contains("DUP"),
            "{out}"
        );
    }

    /// As [`balanced`], of all that was sent so far to a plane that runs on a tap.
    pub fn balanced(&self) -> Totals {
        self.settle();
        balanced(&self.table())
    }

    /// Takes control's place for a moment: pushes one command, waits until it is applied.
    pub fn install(&self, call: u64, ops: &[Op]) {
        let mut control = Control::attach(self.region()).expect("the region").split();
        let seq = control
            .commands
            .push(call, ops)
            .expect("room for a command");
        let applied = wait_for(Duration::from_secs(10), || control.applied.get() >= seq);
        let is_refusal = |event: &Result<_, _>| {
            use Event::{Latched, Port, Worker};
            !matches!(event, Ok(Port { .. } | Worker { .. } | Latched { .. }))
        };
        let events = std::iter::from_fn(|| control.events.next());
        let refused: Vec<_> = events.filter(is_refusal).collect();
        assert!(applied, "the plane does not apply commands: {refused:?}");
        assert!(refused.is_empty(), "{refused:?}");
    }
}
