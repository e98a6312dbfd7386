//! Model checks of the shipped types: loom runs every interleaving and every value that the orderings
//! allow, up to a number of preemptions.
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p penstock-shm --release --lib`
//!
//! Each of these, done alone, was seen to fail: Relaxed instead of Release where `push` stores head,
//! `release` tail, `enter` and `leave` the epoch, `flip` the count, `enter_index` the entry; Relaxed
//! instead of Acquire in `room` and `reached`; any one fence taken away; `take` counting flips from 0
//! again; `update` not retiring, or not waiting; of the copies, `head` stored or loaded Relaxed, no 0, no second look at
//! the number. Not seen by loom: Relaxed in `retire`, which on weakly
//! ordered machines would let a worker reach an epoch before it sees that epoch's index.

use crate::bell::{Bell, Wake};
use crate::cell::{BlockCell, Shared};
use crate::copies::{About, CopyRing, CopyWriter, Direction, Follower, SNAP_LEN};
use crate::counters::{PortCounters, WorkerCounters};
use crate::layout::{AddressCell, PlaneInfo};
use crate::qsbr::Epochs;
use crate::record::{Endpoint, Record, Slot};
use crate::ring::{Line, Receiver, RingState, Sender};
use crate::sync::{AtomicU32, Ordering};
use crate::table::{TableWriter, UpdateError};
use crate::worker::WorkerTable;
use loom::sync::{Condvar, Mutex};
use loom::thread;
use std::sync::Arc;

fn check(preemptions: usize, body: impl Fn() + Sync + Send + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(preemptions);
    model.check(body);
}

fn slice<T: Send + Sync + 'static>(len: usize, make: impl FnMut(usize) -> T) -> Shared<[T]> {
    Shared::own((0..len).map(make).collect::<Vec<_>>()).part(|values| &values[..])
}

fn ring(capacity: usize) -> (Sender, Receiver, Shared<RingState>) {
    let state = Shared::own(RingState::default());
    let slots = slice(capacity, |_| BlockCell::new());
    let sender = Sender::new(state.clone(), slots.clone());
    (sender, Receiver::new(state.clone(), slots), state)
}

/// What the consumer finds, each slot in its turn, none of it while it is written.
fn take_all(receiver: &mut Receiver, next: &mut u8) {
    let waiting = receiver.waiting().unwrap();
    for ahead in 0..waiting {
        assert_eq!(receiver.peek(ahead), [*next; 64]);
        *next += 1;
    }
    receiver.advance(waiting);
    receiver.release(receiver.cursor());
}

#[test]
fn the_ring_loses_nothing_and_shows_a_batch_at_once() {
    check(3, || {
        let (mut sender, mut receiver, _) = ring(2);
        let producer = thread::spawn(move || {
            for batch in [0..2, 2..3, 3..5] {
                while !sender.push(batch.clone().map(|n: u8| [n; 64])) {
                    thread::yield_now();
                }
            }
        });
        let mut next = 0;
        while next < 5 {
            take_all(&mut receiver, &mut next);
            assert!([0, 2, 3, 5].contains(&next), "half a batch");
            thread::yield_now();
        }
        producer.join().unwrap();
    });
}

/// A FIFO of one byte.
#[derive(Clone)]
struct Pipe(Arc<(Mutex<bool>, Condvar)>);

impl Wake for Pipe {
    fn wake(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_one();
    }
}

impl Pipe {
    /// A sleep that is never ended is a deadlock, which loom reports.
    fn sleep(&self) {
        let mut written = self.0.0.lock().unwrap();
        while !*written {
            written = self.0.1.wait(written).unwrap();
        }
        *written = false;
    }
}

#[test]
fn no_sleeper_misses_the_bell() {
    check(3, || {
        let (mut sender, mut receiver, state) = ring(2);
        let pipe = Pipe(Arc::new((Mutex::new(false), Condvar::new())));
        let bell = Bell::new(Shared::own(Line::default()), pipe.clone());
        let ringer = bell.clone();
        let producer = thread::spawn(move || {
            for n in 0..2 {
                assert!(sender.push([[n; 64]].into_iter()));
                ringer.ring();
            }
        });
        let mut next = 0;
        while next < 2 {
            bell.arm();
            if state.waiting() == 0 {
                pipe.sleep();
            }
            bell.disarm();
            take_all(&mut receiver, &mut next);
        }
        producer.join().unwrap();
    });
}

const AT: Endpoint = Endpoint { addr: 0, port: 0 };

fn slot(signal: u32) -> Slot {
    Slot {
        signal,
        ..Slot::CLOSED
    }
}

/// A table of one record, and one worker.
fn table() -> (TableWriter, WorkerTable, Shared<[Record]>) {
    let info = Shared::own(PlaneInfo::default());
    let addresses = slice(1, |_| AddressCell::default());
    let index = slice(1, |_| AtomicU32::new(0));
    let records = slice(1, |_| Record::new());
    let epochs = Arc::new(Epochs::new(1));
    let steward = TableWriter::new(
        info,
        slice(1, |_| PortCounters::default()),
        addresses,
        index.clone(),
        records.clone(),
        epochs.clone(),
    );
    let counters = Shared::own(WorkerCounters::default());
    let worker = WorkerTable {
        number: 0,
        epochs,
        index,
        records: records.clone(),
        counters,
    };
    (steward, worker, records)
}

#[test]
fn no_worker_reads_a_slot_that_is_filled() {
    check(3, || {
        let (mut steward, mut worker, _) = table();
        let number = steward.insert(AT, 1, 0).unwrap();
        let reader = thread::spawn(move || {
            let mut last = 0;
            for _ in 0..2 {
                let pinned = worker.pin();
                // SlotCell::get fails the test if the steward may be filling it.
                let seen = pinned.entry(AT).unwrap().slot();
                assert!(seen.signal >= last && seen.signal == seen.version);
                last = seen.signal;
            }
            worker.offline();
            worker.pin().entry(AT).unwrap().slot();
        });
        for signal in 1..=3 {
            match steward.update(number, &slot(signal)) {
                Ok(()) => {}
                Err(UpdateError::WorkerStuck { worker: 0 }) => break,
                Err(other) => panic!("{other}"),
            }
        }
        reader.join().unwrap();
    });
}

#[test]
fn no_worker_sees_a_record_taken_anew() {
    check(3, || {
        let (mut steward, mut worker, records) = table();
        let number = steward.insert(AT, 1, 0).unwrap();
        let generation = records[0].generation();
        let reader = thread::spawn(move || {
            let pinned = worker.pin();
            if let Some(entry) = pinned.entry(AT) {
                entry.slot();
                entry.meter().packets.add(1);
                entry.slot();
            }
            worker.offline();
        });
        steward.remove(number, 1);
        steward.acknowledge(number, generation);
        // Succeeds only once the worker has let go.
        if steward.insert(AT, 2, 2).is_ok() {
            assert_eq!(steward.tally(number).meter.packets.get(), 0);
            let _ = steward.update(number, &slot(1));
        }
        reader.join().unwrap();
    });
}

#[test]
fn no_reader_accepts_a_torn_record() {
    check(3, || {
        let (_, _, records) = table();
        let index = AtomicU32::new(0);
        let record = records.clone();
        // SAFETY: there are no workers.
        unsafe { record[0].take(AT, 1, 1) };
        let reader = thread::spawn(move || {
            let copied = records[0].read(|record, slot, _| {
                let head = &record.head;
                (head.call.load(Ordering::Relaxed), slot.version, slot.signal)
            });
            if let Some((call, version, signal)) = copied {
                let whole = if version == 0 {
                    0
                } else {
                    call as u32 * 10 + version
                };
                assert_eq!(signal, whole, "call {call}, version {version}");
            }
        });
        let fill = |call: u32, version| Slot {
            version,
            ..slot(call * 10 + version)
        };
        // SAFETY: as above, here and below.
        unsafe { record[0].flip(0, &index, &fill(1, 1), None) };
        unsafe { record[0].flip(0, &index, &fill(1, 2), None) };
        record[0].end(&index, 2);
        record[0].free();
        unsafe { record[0].take(AT, 2, 3) };
        unsafe { record[0].flip(0, &index, &fill(2, 1), None) };
        reader.join().unwrap();
    });
}

#[test]
fn no_reader_accepts_a_torn_copy_and_each_is_read_or_missed() {
    check(3, || {
        let ring = Shared::own(CopyRing::new());
        let mut writer = CopyWriter::new(ring.clone());
        let mut reader = Follower::new(ring);
        let worker = thread::spawn(move || {
            for number in 1..=3u64 {
                let about = About {
                    time_ns: number * 1_000_000,
                    call: number,
                    stream: number as u32,
                    endpoint: AT,
                    direction: Direction::Egress,
                    len: number as u16,
                };
                assert!(writer.write(&about, &[number as u8; SNAP_LEN]));
            }
        });
        let (mut last, mut read) = (0, 0);
        let mut frame = [0; SNAP_LEN];
        let mut look = || {
            reader.follow(&mut frame, &mut |copy| {
                let (about, number) = (copy.about, copy.about.call);
                let whole = (about.time_ns, about.stream, about.len)
                    == (number * 1_000_000, number as u32, number as u16)
                    && copy.frame == [number as u8; SNAP_LEN];
                assert!(whole && number > last, "{copy:?} after {last}");
                (last, read) = (number, read + 1);
            });
            reader.lost()
        };
        look();
        worker.join().unwrap();
        let lost = look();
        assert_eq!(read + lost, 3);
    });
}
