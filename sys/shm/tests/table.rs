//! The stream table against a plain map, and the workers' view of it.
#![cfg(not(loom))]

mod common;

use common::{config, endpoint, temp_dir};
use penstock_shm::counters::Drop;
use penstock_shm::tally::Last;
use penstock_shm::{
    Counts, Endpoint, Ice, Plane, PlaneParts, RecordId, RegionConfig, Slot, TableView, Tally,
    UpdateError, WorkerTable, flag,
};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;

const SECOND: u64 = 1_000_000_000;

#[derive(Clone, Debug)]
enum Step {
    Insert(u16),
    Update(u16, u32),
    Remove(u16),
    Acknowledge(usize),
    Expire(u64),
    Count(u16),
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let port = 0..12u16;
    prop_oneof![
        6 => port.clone().prop_map(Step::Insert),
        6 => (port.clone(), any::<u32>()).prop_map(|(port, signal)| Step::Update(port, signal)),
        4 => port.clone().prop_map(Step::Remove),
        2 => any::<usize>().prop_map(Step::Acknowledge),
        1 => (0..12u64).prop_map(Step::Expire),
        4 => port.prop_map(Step::Count),
        1 => Just(Step::Restart),
    ]
}

/// What a stream should be.
#[derive(Clone, Debug, PartialEq)]
struct Stream {
    number: u32,
    call: u64,
    created_ns: u64,
    signal: u32,
    version: u32,
    packets: u64,
}

/// A table that keeps streams in maps.
#[derive(Default)]
struct Oracle {
    live: BTreeMap<u16, Stream>,
    /// By record number: the stream, its generation, and when it ended.
    ended: BTreeMap<u32, (Stream, u32, u64)>,
}

/// Spread over the index, so that addresses count too.
fn at(port: u16) -> Endpoint {
    endpoint(port % 3 * 31, port * 5000)
}

struct Subject {
    config: RegionConfig,
    /// None only while a plane has died and the next has not begun.
    parts: Option<PlaneParts>,
    oracle: Oracle,
    now_ns: u64,
    calls: u64,
}

impl Subject {
    fn apply(&mut self, step: Step) {
        self.now_ns += 1;
        let (parts, oracle) = (self.parts.as_mut().unwrap(), &mut self.oracle);
        match step {
            Step::Insert(port) => {
                self.calls += 1;
                let full = oracle.live.len() + oracle.ended.len() == 8;
                let inserted = parts.table.insert(at(port), self.calls, self.now_ns);
                if let Some(known) = oracle.live.get_mut(&port) {
                    assert_eq!(inserted, Ok(known.number));
                    known.call = self.calls;
                } else if full {
                    assert!(inserted.is_err());
                } else {
                    let number = inserted.expect("there is room");
                    assert!(oracle.live.values().all(|other| other.number != number));
                    assert!(!oracle.ended.contains_key(&number));
                    let (call, created_ns) = (self.calls, self.now_ns);
                    let new = Stream {
                        number,
                        call,
                        created_ns,
                        signal: 0,
                        version: 0,
                        packets: 0,
                    };
                    oracle.live.insert(port, new);
                }
            }
            Step::Update(port, signal) => {
                let Some(stream) = oracle.live.get_mut(&port) else {
                    return;
                };
                let slot = Slot {
                    signal,
                    ..parts.table.slot(stream.number)
                };
                parts.table.update(stream.number, &slot).unwrap();
                stream.signal = signal;
                stream.version += 1;
                // A worker that reads keeps up.
                parts.workers[0].pin();
            }
            Step::Remove(port) => {
                let Some(stream) = oracle.live.remove(&port) else {
                    return;
                };
                assert!(parts.table.remove(stream.number, self.now_ns));
                assert!(!parts.table.remove(stream.number, self.now_ns), "only once");
                let generation = parts.table.head(stream.number).generation.load(Relaxed);
                parts.workers[0].pin();
                oracle
                    .ended
                    .insert(stream.number, (stream, generation, self.now_ns));
            }
            Step::Acknowledge(which) => {
                let chosen = oracle.ended.keys().nth(which % 8).copied();
                let Some(number) = chosen else { return };
                let (_, generation, _) = oracle.ended.remove(&number).unwrap();
                assert!(!parts.table.acknowledge(number, generation.wrapping_add(2)));
                assert!(parts.table.acknowledge(number, generation));
                assert!(!parts.table.acknowledge(number, generation), "only once");
            }
            Step::Expire(seconds) => {
                self.now_ns += seconds * SECOND;
                parts.table.expire(self.now_ns, 100);
                oracle
                    .ended
                    .retain(|_, (_, _, ended_ns)| self.now_ns - *ended_ns <= 10 * SECOND);
            }
            Step::Count(port) => {
                let Some(stream) = oracle.live.get_mut(&port) else {
                    return;
                };
                let pinned = parts.workers[0].pin();
                let entry = pinned.entry(at(port)).unwrap();
                assert_eq!(pinned.claim(entry.meter()), Ok(()));
                entry.meter().packets.add(1);
                stream.packets += 1;
            }
            Step::Restart => self.restart(),
        }
    }

    fn restart(&mut self) {
        self.parts = None;
        let parts = Plane::open(&self.config).unwrap().split(1);
        for stream in self.oracle.live.values() {
            assert_eq!(parts.table.tally(stream.number).meter.last().owner(), 0);
        }
        self.parts = Some(parts);
    }

    fn check(&mut self) {
        let (parts, oracle) = (self.parts.as_mut().unwrap(), &self.oracle);
        let counts = parts.table.counts();
        assert_eq!(
            (counts.live as usize, counts.ended as usize),
            (oracle.live.len(), oracle.ended.len())
        );
        let view = TableView::open(&self.config.dir).unwrap();
        assert_eq!(view.info().counts, counts);
        for port in 0..12 {
            let number = oracle.live.get(&port).map(|stream| stream.number);
            assert_eq!(parts.table.find(at(port)), number);
            assert_eq!(view.find(at(port)), number);
            let pinned = parts.workers[0].pin();
            assert_eq!(
                pinned.entry(at(port)).map(|entry| pinned.number(entry)),
                number
            );
            let signal = pinned.entry(at(port)).map(|entry| entry.slot().signal);
            assert_eq!(signal, oracle.live.get(&port).map(|stream| stream.signal));
        }
        let mut stood: Vec<_> = oracle
            .live
            .iter()
            .map(|(port, s)| (*port, s, false))
            .collect();
        let ended: Vec<_> = oracle.ended.values().collect();
        stood.extend(ended.iter().map(|(stream, ..)| (0, stream, true)));
        assert_eq!(view.iter().count(), stood.len());
        for (port, stream, ended) in stood {
            let stat = view.stream(stream.number).unwrap();
            let seen = Stream {
                number: stat.number,
                call: stat.call,
                created_ns: stat.created_ns,
                signal: stat.policy.signal,
                version: stat.policy.version,
                packets: stat.meter.packets,
            };
            assert_eq!((&seen, stat.ended), (stream, ended));
            assert!(ended || stat.endpoint == at(port));
        }
        for number in 0..9 {
            let generation = view.stream(number).map(|stat| stat.generation);
            assert_eq!(view.generation(number), generation);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..Default::default() })]

    /// Whatever happens in whatever order, the table is what a plain map would be.
    #[test]
    fn the_table_is_a_map(steps in prop::collection::vec(step(), 1..60)) {
        let dir = temp_dir();
        let config = config(&dir, 8);
        let parts = Some(Plane::open(&config).unwrap().split(1));
        let mut subject = Subject { config, parts, oracle: Oracle::default(), now_ns: 1, calls: 0 };
        for step in steps {
            subject.apply(step);
            subject.check();
        }
        subject.restart();
        subject.check();
    }
}

#[test]
fn a_worker_that_hangs_is_reported_and_keeps_what_it_reads() {
    let dir = temp_dir();
    let mut parts = Plane::open(&config(&dir, 8)).unwrap().split(2);
    let (table, workers) = (&mut parts.table, &mut parts.workers);
    let at = endpoint(0, 1000);
    let number = table.insert(at, 1, 1).unwrap();
    let set = |signal| Slot {
        signal,
        ..Slot::CLOSED
    };
    table.update(number, &set(1)).unwrap();
    {
        let pinned = workers[1].pin();
        let entry = pinned.entry(at).unwrap();
        table.update(number, &set(2)).unwrap();
        let stuck = table.update(number, &set(3));
        assert_eq!(stuck, Err(UpdateError::WorkerStuck { worker: 1 }));
        assert_eq!(
            entry.slot().signal,
            1,
            "what the worker reads is not touched"
        );
        assert_eq!(table.slot(number).signal, 2);
        // Nor is a record it may still see reused.
        let generation = table.head(number).generation.load(Relaxed);
        assert!(table.remove(number, 2));
        assert!(table.acknowledge(number, generation));
        assert!(!table.acknowledge(number, generation), "only once");
        table.expire(2 + 11 * SECOND, 100);
        assert_eq!(
            table.counts(),
            Counts {
                live: 0,
                ended: 1,
                free: 7
            }
        );
    }
    workers[1].offline();
    table.expire(2 + 11 * SECOND, 100);
    assert_eq!(
        table.counts(),
        Counts {
            live: 0,
            ended: 0,
            free: 8
        }
    );
    assert_eq!(table.update(number, &set(4)), Err(UpdateError::NotLive));
}

#[test]
fn an_ended_stream_stays_for_ten_seconds() {
    let dir = temp_dir();
    let mut parts = Plane::open(&config(&dir, 8)).unwrap().split(1);
    let number = parts.table.insert(endpoint(0, 1000), 1, 1).unwrap();
    assert!(parts.table.remove(number, 5));
    parts.table.expire(5 + 10 * SECOND, 100);
    assert_eq!(parts.table.counts().ended, 1);
    parts.table.expire(6 + 10 * SECOND, 100);
    assert_eq!(parts.table.counts().ended, 0);
}

#[test]
fn two_workers_read_while_the_steward_writes() {
    let dir = temp_dir();
    let config = config(&dir, 8);
    let mut parts = Plane::open(&config).unwrap().split(2);
    let at = endpoint(3, 1000);
    let number = parts.table.insert(at, 1, 1).unwrap();
    let slot = |n: u32| Slot {
        signal: n,
        peer: n,
        ip6_dst: [n as u8; 16],
        ..Slot::CLOSED
    };
    // They change with their slot.
    let ice = |n: u32| Ice {
        ufrag: [n as u8 | 1; 8],
        pwd: [n as u8 | 1; 24],
    };
    parts
        .table
        .update_with(number, &slot(0), Some(&ice(0)))
        .unwrap();
    let done = std::sync::atomic::AtomicBool::new(false);
    let whole = |s: &Slot| s.signal == s.peer && s.ip6_dst == [s.peer as u8; 16];
    let read = |mut worker: WorkerTable| {
        let mut last = 0;
        while !done.load(Relaxed) {
            let pinned = worker.pin();
            let entry = pinned.entry(at).expect("installed");
            let slot = entry.slot();
            assert!(whole(slot) && slot.signal >= last);
            assert_eq!(entry.ice(), Some(ice(slot.signal)));
            last = slot.signal;
            if last % 64 == 0 {
                worker.offline();
                std::thread::yield_now();
            }
        }
    };
    std::thread::scope(|scope| {
        for worker in parts.workers.drain(..) {
            scope.spawn(|| read(worker));
        }
        let view = TableView::open(&config.dir).unwrap();
        for n in 1..2000 {
            parts
                .table
                .update_with(number, &slot(n), Some(&ice(n)))
                .unwrap();
            let stat = view.stream(number).expect("live");
            assert_eq!((stat.policy.signal, stat.policy.peer), (n, Some(n)));
            assert_eq!(stat.policy.ice, Some(ice(n)));
        }
        done.store(true, Relaxed);
        parts.table.update(number, &slot(0)).unwrap();
        assert_eq!(parts.table.ice(number), Some(ice(1999)), "kept");
    });
    // Whoever has the record later has no part in them.
    assert!(parts.table.remove(number, 2));
    let generation = parts.table.head(number).generation.load(Relaxed);
    assert!(parts.table.acknowledge(number, generation));
    let others = (0..8).map(|n| parts.table.insert(endpoint(4, n), 2, 3).unwrap());
    let others: Vec<u32> = others.collect();
    assert!(others.contains(&number));
    assert!(others.iter().all(|&other| parts.table.ice(other).is_none()));
}

#[test]
fn meters_are_decoded_by_rfc_3550() {
    let dir = temp_dir();
    let config = config(&dir, 8);
    let mut parts = Plane::open(&config).unwrap().split(1);
    parts.pulse.start();
    let at = endpoint(0, 1000);
    let number = parts.table.insert(at, 1, 1).unwrap();
    let slot = Slot {
        clock_hz: 8000,
        flags: flag::RTP | flag::GATE_OPEN,
        ..Slot::CLOSED
    };
    parts.table.update(number, &slot).unwrap();
    let view = TableView::open(&config.dir).unwrap();
    let before = view.stream(number).unwrap().meter;
    assert_eq!((before.lost, before.ssrc, before.owner), (0, None, None));
    let pinned = parts.workers[0].pin();
    let tally = pinned.entry(at).unwrap().tally();
    let (meter, detail) = (&tally.meter, &tally.detail);
    assert_eq!([pinned.claim(meter), pinned.claim(meter)], [Ok(()); 2]);
    assert_eq!(pinned.owner(meter), Some(0));
    let last = meter.last().after(8, Last::IN_SEQUENCE, true);
    meter.last.store(last.to_bits(), Relaxed);
    meter.ssrc.store(0xdead_beef_u32.to_be(), Relaxed);
    detail.base_seq.store(65_530, Relaxed);
    meter.ext_seq.store(65_536 + 9, Relaxed);
    meter.packets.set(15);
    meter.apart.store(2, Relaxed);
    detail.lost_before.store(4, Relaxed);
    meter.jitter_q4.store(16 * 80, Relaxed);
    detail.skipped.store(4, Relaxed);
    detail.late.store(1, Relaxed);
    tally.count_dropped(Drop::Source);
    tally.count_dropped(Drop::TxFull);
    let after = view.stream(number).unwrap().meter;
    // 16 expected, 13 received, 4 lost before.
    assert_eq!(
        (after.lost, after.ssrc, after.owner),
        (7, Some(0xdead_beef), Some(0))
    );
    assert_eq!(after.jitter_ms, 10.0);
    // 15 steps on, 4 of them skipped: 11 went on, 1 began, 1 was late.
    assert_eq!((after.late, after.duplicates), (1, 0));
    let stat = view.stream(number).unwrap();
    let source = Drop::Source.stream_index().unwrap();
    assert_eq!((stat.drops[source], stat.meter.dropped), (1, 2));
    assert_eq!(Drop::OF_STREAM[source], Drop::Source);
    meter.packets.set(22);
    assert_eq!(
        view.stream(number).unwrap().meter.lost,
        0,
        "duplicates make up for loss"
    );
    parts.workers[0].counters().drops[3].add(5);
    assert_eq!(view.workers()[0].drops[3].1, 5);
}

/// Counts one drop each way, as a worker and as the steward do.
fn drop_late(parts: &mut PlaneParts, id: RecordId) {
    parts.workers[0].pin().count_dropped(id, Drop::TxFull);
    parts.table.count_dropped(id, Drop::NextHop);
}

#[test]
fn a_late_drop_is_its_streams_or_nobodys() {
    let dir = temp_dir();
    let config = config(&dir, 1);
    let mut parts = Plane::open(&config).unwrap().split(1);
    let view = TableView::open(&config.dir).unwrap();
    let counted = || {
        let stat = view.stream(0).unwrap();
        let of = |reason: Drop| stat.drops[reason.stream_index().unwrap()];
        (of(Drop::TxFull), of(Drop::NextHop), stat.meter.dropped)
    };
    let at = endpoint(0, 1000);
    let number = parts.table.insert(at, 1, 1).unwrap();
    let pinned = parts.workers[0].pin();
    let id = pinned.id(pinned.entry(at).unwrap());
    assert_eq!(id.number, number);
    drop_late(&mut parts, id);
    assert_eq!(counted(), (1, 1, 2));
    // Its record is ended: that of a worker's may soon be another's, the steward knows when.
    assert!(parts.table.remove(number, 2));
    drop_late(&mut parts, id);
    assert_eq!(counted(), (1, 2, 3));
    assert!(parts.table.acknowledge(number, id.generation));
    drop_late(&mut parts, id);
    assert_eq!(parts.table.tally(number).dropped(), 3);
    let again = parts.table.insert(endpoint(0, 1002), 2, 3).unwrap();
    assert_eq!(again, number);
    drop_late(&mut parts, id);
    assert_eq!(counted(), (0, 0, 0));
}

#[test]
fn several_threads_count_drops() {
    let tally = Tally::default();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..100_000).for_each(|_| tally.count_dropped(Drop::Source)));
        }
    });
    assert_eq!(tally.dropped(), 400_000);
}

/// The steward has commands to apply meanwhile.
#[test]
fn records_are_freed_a_few_at_a_time() {
    let dir = temp_dir();
    let mut parts = Plane::open(&config(&dir, 1000)).unwrap().split(1);
    let table = &mut parts.table;
    for port in 1..=500 {
        let number = table.insert(endpoint(0, port), 1, 1).unwrap();
        assert!(table.remove(number, 5));
    }
    let now = 6 + 10 * SECOND;
    for freed in [200, 400] {
        assert!(table.expire(now, 200), "there are more");
        assert_eq!(table.counts().ended, 500 - freed);
    }
    assert!(!table.expire(now, 200));
    assert_eq!(table.counts().ended, 0);
}
