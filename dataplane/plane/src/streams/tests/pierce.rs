//! Phones that are sent empty datagrams, so that a NAT on the way opens.

use super::*;
use penstock_shm::{Feed, Feeding};

const SECOND: u64 = 1_000_000_000;
const PHONE: &str = "198.18.0.8:2000";

fn pierces(endpoint: Endpoint, pierce: bool) -> Op {
    Op::Feed(Feeding {
        endpoint,
        feed: Feed::Own,
        mid: None,
        drop_events: false,
        pierce,
    })
}

fn call(signal: u32, remote: Option<&str>, pierce: bool) -> [Op; 3] {
    let [own, other] = [spec(A, B, remote, signal), spec(B, A, None, signal)].map(Op::Set);
    [own, pierces(A, pierce), other]
}

impl Bench {
    /// Where datagrams are due, and from which port.
    fn due(&mut self, now_ns: u64) -> Vec<(String, u16)> {
        let due = self.streams.pierce(now_ns).into_iter();
        let seen = due.map(|due| {
            assert!(self.adjacencies.get(due.adjacency).is_some());
            let source = u16::from_be_bytes([due.slot.head[20], due.slot.head[21]]);
            (destination(&due.slot), source)
        });
        seen.collect()
    }

    /// How many are due.
    fn sends(&mut self, now_ns: u64) -> usize {
        self.due(now_ns).len()
    }

    /// So many phones at ports of their own, of one command each, that are waited for from then on.
    fn await_many(&mut self, count: u16, now_ns: u64) -> Vec<Endpoint> {
        let all = (0..count).map(|n| Endpoint {
            addr: 0,
            port: 10_000 + 2 * n,
        });
        let all: Vec<Endpoint> = all.collect();
        for (&endpoint, port) in all.iter().zip(20_000..) {
            let remote = format!("198.18.0.8:{port}");
            let own = spec(endpoint, B, Some(&remote), 1);
            let ops = [Op::Set(own), pierces(endpoint, true)];
            self.apply_at(now_ns, 7, &ops).unwrap();
        }
        all
    }
}

#[test]
fn a_phone_is_sent_datagrams_until_it_is_heard() {
    let mut bench = Bench::new(8);
    bench.apply_at(SECOND, 7, &call(1, None, true)).unwrap();
    assert_eq!(bench.due(SECOND), [], "nobody knows where it is");
    bench
        .apply_at(SECOND, 7, &call(2, Some(PHONE), true))
        .unwrap();
    assert_eq!(bench.due(SECOND), [(PHONE.to_owned(), A.port)]);
    assert_eq!(bench.sends(SECOND), 0);
    // Another body of the same signalling does not begin anew.
    bench
        .apply_at(SECOND + 1, 7, &call(2, Some(PHONE), true))
        .unwrap();
    let sent = (10..30).map(|tenth| bench.sends(SECOND + tenth * SECOND / 10));
    assert_eq!(sent.sum::<usize>(), 2);
    bench.latch(A, PHONE).unwrap();
    assert_eq!(bench.sends(9 * SECOND), 0);
    // New signalling: it is known.
    bench
        .apply_at(9 * SECOND, 7, &call(3, Some(PHONE), true))
        .unwrap();
    assert_eq!(bench.sends(9 * SECOND), 0);
}

#[test]
fn one_that_learns_nothing_is_heard_by_its_meter() {
    let mut bench = Bench::new(8);
    let fixed = StreamSpec {
        learn: Learn::Off,
        ..spec(A, B, Some(PHONE), 1)
    };
    let [_, feed, other] = call(1, None, true);
    bench
        .apply_at(SECOND, 7, &[Op::Set(fixed), feed, other])
        .unwrap();
    assert_eq!((bench.sends(SECOND), bench.sends(2 * SECOND)), (1, 1));
    let record = bench.streams.table.find(A).unwrap();
    bench
        .streams
        .table
        .tally(record)
        .meter
        .last_seen_ns
        .set(2 * SECOND);
    assert_eq!(bench.sends(3 * SECOND), 0);
    bench
        .apply_at(4 * SECOND, 7, &[Op::Set(fixed), pierces(A, true)])
        .unwrap();
    assert_eq!(bench.sends(4 * SECOND), 0, "it was heard");
}

#[test]
fn a_phone_that_stays_away_and_one_that_leaves_are_given_up() {
    let mut bench = Bench::new(8);
    bench
        .apply_at(SECOND, 7, &call(1, Some(PHONE), true))
        .unwrap();
    let sent = (0..100).map(|second| bench.sends((1 + second) * SECOND));
    assert_eq!(sent.sum::<usize>(), 60);
    // A command that touches it, as itself or as a peer, is no new signalling.
    let same = call(1, Some(PHONE), true);
    for ops in [&same[..], &same[2..]] {
        bench.apply_at(150 * SECOND, 7, ops).unwrap();
        assert_eq!(bench.sends(150 * SECOND), 0);
    }
    bench
        .apply_at(200 * SECOND, 7, &call(2, Some(PHONE), true))
        .unwrap();
    assert_eq!(bench.sends(200 * SECOND), 1);
    bench
        .apply_at(200 * SECOND, 7, &call(2, Some(PHONE), false))
        .unwrap();
    assert_eq!(bench.sends(201 * SECOND), 0);
    bench
        .apply_at(300 * SECOND, 7, &call(3, Some(PHONE), true))
        .unwrap();
    bench.apply(7, &[Op::Remove(A), Op::Remove(B)]).unwrap();
    assert_eq!(bench.sends(300 * SECOND), 0);
}

/// A plane that starts anew goes on, and a phone of the other IP version is reached by it.
#[test]
fn the_next_plane_goes_on() {
    let mut bench = Bench::new(8);
    let six = "[2001:db8::8]:2000";
    let ops = [Op::Set(spec(C, B, Some(six), 1)), pierces(C, true)];
    bench.apply_at(SECOND, 7, &ops).unwrap();
    bench.streams.pierces = Default::default();
    assert_eq!(bench.due(SECOND), []);
    bench.streams.resume(SECOND);
    let due = bench.streams.pierce(SECOND);
    assert_eq!(due.len(), 1);
    assert!(has(&due[0].slot, flag::EGRESS_V6));
}

/// What leads to an address of ours needs nothing opened.
#[test]
fn a_remote_of_our_own_is_sent_nothing() {
    let mut bench = Bench::new(8);
    bench
        .apply_at(SECOND, 7, &call(1, Some("198.18.0.1:30000"), true))
        .unwrap();
    assert_eq!(bench.sends(SECOND), 0);
    assert!(bench.streams.pierces.due.is_empty());
}

/// Nobody says that anything was sent: those who were looked at wait behind the others.
#[test]
fn phones_without_a_way_do_not_keep_others_from_theirs() {
    let mut bench = Bench::with(8, 1024, DEFAULTS);
    let all = bench.await_many(600, SECOND);
    let turns = [0, 1, 2, 3].map(|turn| bench.due(SECOND + turn));
    assert_eq!(turns.each_ref().map(Vec::len), [256, 256, 88, 0]);
    let mut sent: Vec<u16> = turns.iter().flatten().map(|(_, port)| *port).collect();
    sent.sort_unstable();
    assert_eq!(sent, all.iter().map(|at| at.port).collect::<Vec<u16>>());
    assert_eq!(bench.sends(2 * SECOND), 256);
}

#[test]
fn a_turn_looks_at_what_is_due_alone() {
    let mut bench = Bench::with(8, 4096, DEFAULTS);
    let all = bench.await_many(3000, SECOND);
    let sent = (0..20).map(|_| bench.sends(SECOND));
    assert_eq!(sent.sum::<usize>(), all.len());
    // All are heard; who is looked at is waited for no more.
    for &endpoint in &all {
        let record = bench.streams.table.find(endpoint).unwrap();
        let meter = &bench.streams.table.tally(record).meter;
        meter.last_seen_ns.set(SECOND + 1);
    }
    bench
        .apply_at(3 * SECOND / 2, 7, &call(1, Some(PHONE), true))
        .unwrap();
    assert_eq!(bench.due(3 * SECOND / 2), [(PHONE.to_owned(), A.port)]);
    assert_eq!(bench.streams.pierces.due.len(), all.len() + 1);
    for _ in 0..20 {
        assert_eq!(bench.sends(2 * SECOND), 0);
    }
    assert_eq!(bench.streams.pierces.due.len(), 1);
}

/// A worker that stands still had the command refused: control says it again, of the same signalling.
#[test]
fn a_command_that_is_said_again_is_heeded() {
    let mut bench = Bench::new(8);
    bench.worker.pin();
    bench.apply_at(SECOND, 7, &call(1, None, false)).unwrap();
    let ops = call(2, Some(PHONE), true);
    let refused = (0..3).find_map(|_| bench.apply_at(SECOND, 7, &ops).err());
    assert_eq!(refused, Some(Refusal::WorkerStuck));
    assert_eq!(bench.sends(SECOND), 0);
    bench.worker.offline();
    bench.apply_at(SECOND, 7, &ops).unwrap();
    assert_eq!(bench.sends(SECOND), 1);
}
