//! What control and workers ask for, against a real table.

mod alternates;
mod feeds;
mod ice;
mod learning;
mod pierce;

use super::*;
use crate::adjacency::{Adjacencies, Hop};
use crate::neighbour::Neighbours;
use penstock_config::{Config, DEFAULTS};
use penstock_shm::{AddressEntry, Dscp, Plane, RegionConfig, WorkerTable, flag};
use std::path::Path;
use std::sync::Arc;

const A: Endpoint = Endpoint {
    addr: 0,
    port: 4000,
};
const B: Endpoint = Endpoint {
    addr: 0,
    port: 5000,
};

/// Of IPv6.
const C: Endpoint = Endpoint {
    addr: 1,
    port: 6000,
};

struct Bench {
    fans: Arc<Fans>,
    streams: Streams,
    seq: u64,
    worker: WorkerTable,
    adjacencies: Arc<Adjacencies>,
    _dir: tempfile::TempDir,
}

impl Bench {
    /// A table of 16 streams at 198.18.0.1/24 and 2001:db8::1/64 without a gateway, and room for so many next
    /// hops.
    fn new(next_hops: usize) -> Bench {
        Bench::with(next_hops, 16, DEFAULTS)
    }

    /// The same with other addresses and so many streams.
    fn with(next_hops: usize, streams: u32, defaults: &str) -> Bench {
        let dir = tempfile::tempdir().unwrap();
        let region = RegionConfig {
            dir: dir.path().join("region"),
            table_dir: None,
            streams,
            group: None,
        };
        let mut parts = Plane::open(&region).unwrap().split(1);
        let six = "[[port.address]]\naddress = \"2001:db8::1/64\"\n";
        let config = Config::parse(&format!("{defaults}{six}"), Path::new("defaults")).unwrap();
        let mut locals = crate::addresses::locals(&config, &[[2, 0, 0, 0, 0, 1]]);
        let entries: Vec<_> = locals
            .iter()
            .map(|local| AddressEntry {
                ip: local.ip,
                vlan: 0,
                port: 0,
                mtu: 1500,
            })
            .collect();
        assert_eq!(parts.table.set_addresses(&entries).unwrap(), [0, 1]);
        let neighbours = Neighbours::new(next_hops);
        let adjacencies = Arc::new(Adjacencies::new());
        let links = Links::new(neighbours, Arc::clone(&adjacencies), &mut locals, 0);
        let fans = Arc::new(Fans::new(streams));
        let streams = Streams::new(
            parts.table,
            locals.into_iter().map(Some).collect(),
            links,
            Arc::new(Rules::default()),
            Window {
                ns: 1000,
                packets: 10,
            },
            Arc::clone(&fans),
        );
        Bench {
            fans,
            streams,
            seq: 0,
            worker: parts.workers.remove(0),
            adjacencies,
            _dir: dir,
        }
    }

    fn apply(&mut self, call: u64, ops: &[Op]) -> Result<(), Refusal> {
        self.apply_at(1, call, ops)
    }

    fn apply_at(&mut self, now_ns: u64, call: u64, ops: &[Op]) -> Result<(), Refusal> {
        self.seq += 1;
        let command = Command {
            seq: self.seq,
            call,
            ops: ops.to_vec(),
        };
        self.streams
            .apply(&command, now_ns)
            .map_err(|(reason, _)| reason)
    }

    fn slot(&self, endpoint: Endpoint) -> Slot {
        self.streams
            .table
            .slot(self.streams.table.find(endpoint).unwrap())
    }

    fn hop(&self, number: u16) -> Hop {
        self.adjacencies.get(number).unwrap()
    }

    fn latch(&mut self, endpoint: Endpoint, source: &str) -> Option<Event> {
        let version = self.slot(endpoint).version;
        self.ask(endpoint, version, source, true)
    }

    fn ask(&mut self, endpoint: Endpoint, version: u32, source: &str, lock: bool) -> Option<Event> {
        let record = self.streams.table.find(endpoint).unwrap();
        let source = source.parse().unwrap();
        self.streams.table.tally(record).meter.packets.add(1);
        self.streams.latch(
            &Latch {
                record,
                version,
                source,
                ask: Ask::Adopt {
                    rank: rank::ANY,
                    lock,
                },
            },
            2,
        )
    }
}

fn spec(endpoint: Endpoint, peer: Endpoint, remote: Option<&str>, signal: u32) -> StreamSpec {
    StreamSpec {
        remote: remote.map(|r| r.parse().unwrap()),
        learn: Learn::Immediate,
        signal,
        clock_hz: 8000,
        dscp: Dscp::Set(46),
        ..StreamSpec::new(endpoint, peer)
    }
}

fn has(slot: &Slot, flags: u16) -> bool {
    slot.flags & flags == flags
}

fn destination(slot: &Slot) -> String {
    let [a, b, c, d] = slot.head[16..20].try_into().unwrap();
    format!(
        "{a}.{b}.{c}.{d}:{}",
        u16::from_be_bytes([slot.head[22], slot.head[23]])
    )
}

#[test]
fn a_route_stands_once_the_peers_remote_is_known() {
    let mut bench = Bench::new(8);
    bench
        .apply(
            7,
            &[
                Op::Set(spec(A, B, Some("198.18.0.9:1000"), 1)),
                Op::Set(spec(B, A, None, 1)),
            ],
        )
        .unwrap();
    assert!(!has(&bench.slot(A), flag::ROUTED));
    assert_eq!(destination(&bench.slot(B)), "198.18.0.9:1000");

    let version = bench.slot(B).version;
    let event = bench.latch(B, "198.18.0.8:2000").unwrap();
    assert_eq!(
        event,
        Event::Latched {
            endpoint: B,
            remote: "198.18.0.8:2000".parse().unwrap(),
            signal: 1
        }
    );
    assert!(has(&bench.slot(B), flag::LOCKED | flag::LATCHED));
    assert_eq!(destination(&bench.slot(A)), "198.18.0.8:2000");
    assert_eq!(
        bench.ask(B, version, "198.18.0.7:2000", true),
        None,
        "what was asked before the lock comes too late"
    );
}

#[test]
fn a_route_leads_from_one_ip_version_to_the_other() {
    let mut bench = Bench::new(8);
    let [four, six] = ["198.18.0.9:1000", "[2001:db8::9]:2000"];
    let ops = [
        Op::Set(spec(A, C, Some(four), 1)),
        Op::Set(spec(C, A, Some(six), 1)),
    ];
    bench.apply(7, &ops).unwrap();
    let (there, back) = (bench.slot(A), bench.slot(C));
    assert!(has(&there, flag::ROUTED | flag::EGRESS_V6) && !has(&there, flag::V6));
    assert_eq!(
        std::net::Ipv6Addr::from(there.ip6_dst).to_string(),
        "2001:db8::9"
    );
    assert!(has(&back, flag::ROUTED | flag::V6) && !has(&back, flag::EGRESS_V6));
    assert_eq!(destination(&back), four);
    assert_ne!(there.adjacency, back.adjacency);

    for (endpoint, peer, remote) in [(A, C, six), (C, A, four)] {
        assert_eq!(
            bench.apply(7, &[Op::Set(spec(endpoint, peer, Some(remote), 2))]),
            Err(Refusal::WrongFamily),
            "a remote of another version than its endpoint"
        );
    }
}

/// What the peer's stream asks for, or else the default of the address that its packets leave from.
#[test]
fn an_address_has_a_dscp_of_its_own() {
    let mut bench = Bench::new(8);
    bench.streams.locals[1].as_mut().unwrap().pcp = 5;
    let [four, six] = ["198.18.0.9:1000", "[2001:db8::9]:2000"];
    for (default, asked, tos, copies) in [
        (Dscp::Set(34), Dscp::Default, 34 << 2, false),
        (Dscp::Set(34), Dscp::Set(0), 0, false),
        (Dscp::Set(34), Dscp::Set(63), 63 << 2, false),
        (Dscp::Set(34), Dscp::Copy, 0, true),
        (Dscp::Copy, Dscp::Default, 0, true),
        (Dscp::Copy, Dscp::Set(46), 46 << 2, false),
    ] {
        bench.streams.locals[1].as_mut().unwrap().dscp = default;
        let mut there = spec(C, A, Some(six), 1);
        there.dscp = asked;
        let ops = [Op::Set(spec(A, C, Some(four), 1)), Op::Set(there)];
        bench.apply(7, &ops).unwrap();
        let slot = bench.slot(A);
        assert_eq!((slot.tos, slot.pcp), (tos, 5), "{default:?} {asked:?}");
        assert_eq!(has(&slot, flag::COPY_DSCP), copies);
        let back = bench.slot(C);
        assert_eq!(
            (back.tos, back.pcp),
            (46 << 2, 0),
            "the other way has its own"
        );
    }
    // After a restart with another default.
    let mut there = spec(C, A, Some(six), 1);
    there.dscp = Dscp::Default;
    bench.apply(7, &[Op::Set(there)]).unwrap();
    bench.streams.locals[1].as_mut().unwrap().dscp = Dscp::Set(10);
    bench.streams.resume(3);
    assert_eq!(bench.slot(A).tos, 10 << 2);
}

/// Our own address is another endpoint's, not a neighbour's.
#[test]
fn a_route_to_our_own_address_enters_again() {
    let mut bench = Bench::new(8);
    let locals = &mut bench.streams.locals;
    let mut off_link = locals[0].clone().unwrap();
    (off_link.ip, off_link.port) = ([203, 0, 113, 1].into(), 3);
    let mut in_vlan = locals[0].clone().unwrap();
    (in_vlan.ip, in_vlan.vlan) = ([198, 18, 0, 7].into(), 7);
    locals.extend([Some(off_link), Some(in_vlan)]);
    bench.streams.rules = Arc::new(Rules {
        sources: penstock_relay::learn::Sources {
            allow: vec![penstock_relay::learn::Network {
                ip: [198, 18, 0, 9].into(),
                len: 32,
            }],
            deny: Vec::new(),
        },
        ..Rules::default()
    });
    let mut own = |remote: &str, port: Option<usize>| {
        let mut there = spec(B, A, Some(remote), 1);
        there.learn = Learn::Off;
        let ops = [
            Op::Set(spec(A, B, Some("198.18.0.9:1000"), 1)),
            Op::Set(there),
        ];
        bench.apply(7, &ops).unwrap();
        let (there, back) = (bench.slot(A), bench.slot(B));
        assert!(has(&there, flag::ROUTED) && there.own_remote == 0);
        assert_eq!(destination(&there), remote);
        let hop = bench.hop(there.adjacency);
        let is_own = (back.own_remote == 1, hop.own.then_some(hop.port));
        assert_eq!(is_own, (port.is_some(), port), "{remote}");
        assert_eq!(has(&back, flag::DENIED), port.is_none(), "{remote}");
        there.adjacency
    };
    let here = own("198.18.0.1:30000", Some(0));
    assert_eq!(own("198.18.0.1:30002", Some(0)), here);
    // Of another port, and on no link of the first.
    assert_ne!(own("203.0.113.1:30000", Some(3)), here);
    // What is ours in a VLAN may be somebody else's outside.
    own("198.18.0.7:30000", None);

    // An address that becomes ours, and is no more.
    let mut gained = bench.streams.locals[0].clone().unwrap();
    gained.ip = [198, 18, 0, 7].into();
    bench.streams.locals.push(Some(gained));
    bench.streams.reroute(0..16, 2);
    let number = bench.slot(A).adjacency;
    assert!(bench.hop(number).own && bench.slot(B).own_remote == 1);
    bench.streams.locals.pop();
    bench.streams.reroute(0..16, 3);
    assert!(!bench.hop(bench.slot(A).adjacency).own);
    assert_eq!(bench.slot(B).own_remote, 0);
    let locals: Vec<Local> = bench.streams.locals.iter().flatten().cloned().collect();
    bench.streams.disband(&locals, 4);
    bench.worker.pin();
    bench.streams.sweep(5);
    assert!(bench.adjacencies.get(number).is_none());
    assert!(bench.hop(here).own, "that address stays");
}

#[test]
fn a_refused_command_leaves_nothing_behind() {
    let mut bench = Bench::new(8);
    let nowhere = Endpoint {
        addr: 3,
        port: 4000,
    };
    let good = Op::Set(spec(A, B, None, 1));
    assert_eq!(
        bench.apply(7, &[good, Op::Set(spec(nowhere, A, None, 1))]),
        Err(Refusal::NoSuchAddress)
    );
    assert_eq!(
        bench.apply(7, &[good, Op::Set(spec(B, A, Some("[2001:db8::1]:9"), 1))]),
        Err(Refusal::WrongFamily)
    );
    let mut fixed = spec(B, A, Some("203.0.113.1:9"), 1);
    fixed.learn = Learn::Off;
    assert_eq!(
        bench.apply(7, &[good, Op::Set(fixed)]),
        Err(Refusal::NoRoute)
    );
    let many: Vec<Op> = (0..17)
        .map(|n| {
            Op::Set(spec(
                Endpoint {
                    addr: 0,
                    port: 6000 + n,
                },
                A,
                None,
                1,
            ))
        })
        .collect();
    assert_eq!(bench.apply(7, &many), Err(Refusal::TableFull));
    assert_eq!(bench.streams.table.counts().live, 0);
}

#[test]
fn a_next_hop_too_many_is_refused() {
    let mut bench = Bench::new(1);
    let ops = [
        Op::Set(spec(A, B, Some("198.18.0.9:1000"), 1)),
        Op::Set(spec(B, A, Some("198.18.0.8:1000"), 1)),
    ];
    assert_eq!(bench.apply(7, &ops), Err(Refusal::TooManyNextHops));
}

#[test]
fn an_endpoint_belongs_to_one_call() {
    let mut bench = Bench::new(8);
    bench.apply(7, &[Op::Set(spec(A, B, None, 1))]).unwrap();
    let first = bench.streams.table.find(A).unwrap();
    bench.apply(8, &[Op::Remove(A)]).unwrap();
    assert_eq!(
        bench.streams.table.find(A),
        Some(first),
        "another call's removal does nothing"
    );
    bench.apply(8, &[Op::Set(spec(A, B, None, 1))]).unwrap();
    assert_ne!(
        bench.streams.table.find(A),
        Some(first),
        "another call gets another record and meter"
    );
    assert_eq!(bench.streams.table.counts().ended, 1);
}

/// What is moved to another call keeps its record, meter and source, in a full table too.
#[test]
fn a_stream_is_moved_to_another_call() {
    let mut bench = Bench::with(8, 2, DEFAULTS);
    let pair = |a_peer, b_peer| {
        [
            Op::Set(spec(A, a_peer, None, 1)),
            Op::Set(spec(B, b_peer, None, 1)),
        ]
    };
    bench.apply(7, &pair(B, A)[..1]).unwrap();
    bench.apply(8, &pair(B, A)[1..]).unwrap();
    bench.latch(B, "198.18.0.8:2000").unwrap();
    let [a, b] = [A, B].map(|endpoint| bench.streams.table.find(endpoint).unwrap());
    let merge = |from| {
        let moved = Op::Move { endpoint: B, from };
        std::iter::once(moved).chain(pair(B, A)).collect::<Vec<_>>()
    };
    assert_eq!(
        bench.apply(7, &merge(9)),
        Err(Refusal::TableFull),
        "it is not that call's"
    );
    // A plane that was killed within a command applies it once more.
    for _ in 0..2 {
        bench.apply(7, &merge(8)).unwrap();
        let call = |number| bench.streams.call(number);
        assert_eq!([call(a), call(b)], [7, 7]);
    }
    assert_eq!(bench.streams.table.find(B), Some(b));
    assert_eq!(bench.streams.table.tally(b).meter.packets.get(), 1);
    assert!(has(&bench.slot(B), flag::LOCKED));
    assert_eq!(destination(&bench.slot(A)), "198.18.0.8:2000");
    bench.apply(8, &[Op::Remove(B)]).unwrap();
    assert_eq!(bench.streams.table.find(B), Some(b));
    bench.apply(7, &[Op::Remove(B)]).unwrap();
    assert_eq!(bench.streams.table.counts().ended, 1);
}

#[test]
fn a_next_hop_is_given_again_once_no_slot_names_it_and_no_worker_can() {
    const MIN: u64 = 60_000_000_000;
    let mut bench = Bench::new(1);
    let pair = |remote| {
        [
            Op::Set(spec(A, B, None, 1)),
            Op::Set(spec(B, A, Some(remote), 1)),
        ]
    };
    let other = [Op::Set(spec(B, A, Some("198.18.0.8:1000"), 2))];
    bench.apply(7, &pair("198.18.0.9:1000")).unwrap();
    // In use, however long: it stays.
    for minute in 1..30 {
        bench.streams.sweep(minute * MIN);
        bench.streams.sweep(minute * MIN + 1);
    }
    assert_eq!(bench.apply(7, &other), Err(Refusal::TooManyNextHops));
    // The refused command left no route; the ten minutes begin with the last sweep that saw one.
    bench.streams.sweep(38 * MIN);
    bench.streams.sweep(38 * MIN + 1);
    assert_eq!(bench.apply(7, &other), Err(Refusal::TooManyNextHops));
    bench.worker.pin();
    bench.streams.sweep(40 * MIN);
    bench.streams.sweep(40 * MIN + 1);
    assert_eq!(
        bench.apply(7, &other),
        Err(Refusal::TooManyNextHops),
        "a worker may still read the old slot"
    );
    bench.worker.pin();
    bench.streams.sweep(40 * MIN + 2);
    assert_eq!(bench.apply(7, &other), Ok(()));
    assert_eq!(destination(&bench.slot(A)), "198.18.0.8:1000");
}

/// Calls between two phones each, all on one link: phone `n` is at port `n` of ours.
mod crowd {
    use super::*;
    use crate::adjacency::CAPACITY;
    use crate::neighbour::Key;
    use std::collections::BTreeSet;
    use std::net::IpAddr;
    use std::ops::Range;

    const S: u64 = 1_000_000_000;
    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 9];

    fn at(n: u16) -> Endpoint {
        Endpoint { addr: 0, port: n }
    }

    fn phone(n: u16) -> IpAddr {
        let [high, low] = n.to_be_bytes();
        IpAddr::from([198, 19, high, low])
    }

    fn call(n: u16) -> [Op; 2] {
        [(n, n + 1), (n + 1, n)].map(|(n, peer)| {
            let spec = StreamSpec::new(at(n), at(peer));
            let remote = Some(SocketAddr::new(phone(n), 4000));
            let learn = Learn::Off;
            Op::Set(StreamSpec {
                remote,
                learn,
                ..spec
            })
        })
    }

    impl Bench {
        /// The first call that is refused.
        fn install(&mut self, phones: Range<u16>, now_ns: u64) -> Result<(), (u16, Refusal)> {
            for n in phones.step_by(2) {
                let done = self.apply_at(now_ns, u64::from(n) + 1, &call(n));
                done.map_err(|reason| (n, reason))?;
            }
            Ok(())
        }

        /// The numbers of their next hops.
        fn hops(&self, phones: Range<u16>) -> BTreeSet<u16> {
            phones.map(|n| self.slot(at(n)).adjacency).collect()
        }

        /// One round of the sweep over all records.
        fn sweep(&mut self, now_ns: u64) {
            let slices = self.streams.table.capacity().div_ceil(4096);
            (0..slices).for_each(|_| self.streams.sweep(now_ns));
        }
    }

    #[test]
    fn ten_thousand_phones_on_one_link_come_and_go_and_others_take_their_place() {
        const FIRST: Range<u16> = 0..10_000;
        const OTHERS: Range<u16> = 20_000..50_000;
        let defaults = DEFAULTS.replace("198.18.0.1/24", "198.18.0.1/15");
        let mut bench = Bench::with(CAPACITY, 65_536, &defaults);
        bench.worker.offline();
        assert_eq!(bench.install(FIRST, 0), Ok(()));
        assert_eq!(bench.hops(FIRST).len(), FIRST.len());

        // Each is asked once, a part of them at a time.
        let mut asked = BTreeSet::new();
        for _ in 0..FIRST.len().div_ceil(512) {
            let asks = bench.streams.links().due(0).asks;
            assert!(asks.len() <= 512);
            for key in asks.into_iter().map(|ask| ask.key) {
                assert!(asked.insert(key), "{key:?} twice");
                let work = bench.streams.links().heard(key, Some(MAC), true, 0);
                assert_eq!(work.resolved.len(), 1);
            }
        }
        let is_resolved = |n: &u16| bench.adjacencies.get(*n).is_some_and(|hop| hop.resolved);
        assert!(bench.hops(FIRST).iter().all(is_resolved));
        assert!(asked.iter().map(|k: &Key| k.ip).eq(FIRST.map(phone)));

        for n in FIRST {
            let call = u64::from(n & !1) + 1;
            assert_eq!(bench.apply_at(S, call, &[Op::Remove(at(n))]), Ok(()));
        }
        // There is room left, so who was here is remembered.
        bench.sweep(60 * S);
        let full = bench.install(OTHERS, 60 * S);
        let Err((last, Refusal::TooManyNextHops)) = full else {
            panic!("{full:?}");
        };
        assert!(usize::from(last - OTHERS.start) > CAPACITY - FIRST.len() - 10);
        // Now there is none. What is used stays, its number too; workers have to let go of the rest.
        let before = bench.hops(OTHERS.start..last);
        bench.sweep(61 * S);
        bench.sweep(62 * S);
        assert_eq!(bench.install(last..OTHERS.end, 62 * S), Ok(()));
        assert_eq!(bench.hops(OTHERS.start..last), before);
        assert_eq!(bench.hops(OTHERS).len(), OTHERS.len());
    }
}
