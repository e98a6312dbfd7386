//! What the relay costs per burst of 32 packets of 214 octets: G.711 with 20 ms a packet, each packet of
//! another stream. `usual` is the short way that these packets take, `full` the way of all others.
//!
//! `cargo bench -p penstock-benches --bench relay`

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use penstock_relay::route::{Egress, Policy, fill};
use penstock_relay::usual::{LastAddress, Mac, Usual};
use penstock_relay::{Class, L2Header, LocalAddrs, Rules, Stream, Udp, classify, judge, rewrite};
use penstock_shm::record::{Learn, Slot};
use penstock_shm::tally::{Last, Tally};
use penstock_shm::{Endpoint, StreamSpec};
use std::hint::black_box;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::Ordering::Relaxed;

const BURST: usize = 32;
const HEADROOM: usize = 128;
const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const LOCAL: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const FIRST_PORT: u16 = 20_000;

fn remote(stream: usize) -> SocketAddr {
    SocketAddr::from(([198, 51, 100, stream as u8], 40_000))
}

fn put(frame: &mut [u8], at: usize, octets: &[u8]) {
    frame[at..at + octets.len()].copy_from_slice(octets);
}

/// A frame behind its headroom.
fn buffer(stream: usize) -> Vec<u8> {
    let mut buffer = vec![0x55; HEADROOM + 214];
    let frame = &mut buffer[HEADROOM..];
    put(frame, 0, &MAC);
    put(frame, 6, &[2, 0, 0, 0, 0, 9, 0x08, 0x00]);
    put(frame, 14, &[0x45, 0, 0, 200, 0, 0, 0x40, 0, 64, 17, 0, 0]);
    put(frame, 26, &[198, 51, 100, stream as u8]);
    put(frame, 30, &LOCAL.octets());
    let mut sum: u32 = frame[14..34]
        .chunks(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
        .sum();
    sum = (sum & 0xffff) + (sum >> 16);
    put(frame, 24, &(!(sum as u16)).to_be_bytes());
    put(frame, 34, &40_000u16.to_be_bytes());
    put(frame, 36, &(FIRST_PORT + 2 * stream as u16).to_be_bytes());
    put(
        frame,
        38,
        &[0, 180, 0x12, 0x34, 0x80, 8, 0, 1, 0, 0, 0, 160, 0, 0, 0, 9],
    );
    buffer
}

fn slot(stream: usize) -> Slot {
    let endpoint = Endpoint {
        addr: 0,
        port: FIRST_PORT + 2 * stream as u16,
    };
    let spec = StreamSpec {
        remote: Some(remote(stream)),
        learn: Learn::Off,
        clock_hz: 8000,
        ..StreamSpec::new(endpoint, endpoint)
    };
    let policy = Policy::new(&spec, false);
    let egress = Egress {
        endpoint: SocketAddr::from((LOCAL, FIRST_PORT + 2 * stream as u16)),
        source: SocketAddr::from((LOCAL, 30_000)),
        destination: SocketAddr::from(([203, 0, 113, 9], 50_000)),
        adjacency: 0,
        mtu: 1500,
        tos: 0xb8,
        copy_dscp: false,
        pcp: 0,
    };
    fill(&policy, None, Some(&egress), 1)
}

fn udp_of(buffer: &[u8]) -> Udp {
    match classify(&buffer[HEADROOM..], &MAC, false) {
        Class::Udp(udp) => udp,
        other => panic!("{other:?}"),
    }
}

/// A burst, and what a worker has at hand.
struct Bench {
    buffers: Vec<Vec<u8>>,
    slots: Vec<Slot>,
    tallies: Vec<Tally>,
    rules: Rules,
    addrs: LocalAddrs,
    index: Vec<u32>,
    l2: L2Header,
}

impl Bench {
    fn new() -> Self {
        let mut addrs = LocalAddrs::new();
        addrs.insert(0, LOCAL.into(), 0).expect("the first address");
        let mut index = vec![0u32; 1 << 16];
        for stream in 0..BURST {
            index[usize::from(FIRST_PORT) + 2 * stream] = (stream as u32 + 1) << 1;
        }
        Bench {
            buffers: (0..BURST).map(buffer).collect(),
            slots: (0..BURST).map(slot).collect(),
            tallies: (0..BURST).map(|_| Tally::default()).collect(),
            rules: Rules::default(),
            addrs,
            index,
            l2: L2Header::new([2, 0, 0, 0, 0, 7], MAC, 0),
        }
    }

    /// Stream number `i`, to be judged.
    fn stream(&self, i: usize) -> Stream<'_> {
        Stream {
            slot: &self.slots[i],
            tally: &self.tallies[i],
            peer: None,
        }
    }

    /// The index entry of a local address's port.
    fn entry(&self, number: Option<u16>, port: u16) -> Option<&u32> {
        let number = number.unwrap_or(u16::MAX);
        self.index
            .get(usize::from(number) << 16 | usize::from(port))
    }
}

fn usual(c: &mut Criterion) {
    let bench = Bench::new();
    let mac = Mac::new(MAC);
    let l2 = bench.l2.untagged().expect("a link without a VLAN");
    let owner = 1;
    let udps: Vec<_> = bench.buffers.iter().map(|buffer| udp_of(buffer)).collect();
    for (i, buffer) in bench.buffers.iter().enumerate() {
        let last = Last::of_owner(owner).to_bits();
        bench.tallies[i].meter.last.store(last, Relaxed);
        let verdict = judge(
            &buffer[HEADROOM..],
            &udps[i],
            bench.stream(i),
            &bench.rules,
            0,
        );
        assert!(verdict.is_ok());
    }

    let mut group = c.benchmark_group("usual");
    group.throughput(Throughput::Elements(BURST as u64));
    let mut buffers = bench.buffers.clone();
    group.bench_function("parse and lookup", |b| {
        b.iter(|| {
            let mut last = LastAddress::NONE;
            for buffer in black_box(&mut buffers) {
                let frame = &mut buffer[HEADROOM..];
                let packet = Usual::of(frame, mac, &bench.addrs, &mut last, false);
                let found = packet.expect("a usual packet");
                let endpoint = Endpoint::from_bits(found.endpoint);
                black_box(bench.entry(Some(endpoint.addr), endpoint.port));
            }
        });
    });
    group.bench_function("parse, verdict and rewrite", |b| {
        b.iter_batched_ref(
            || bench.buffers.clone(),
            |buffers| {
                let mut last = LastAddress::NONE;
                for (i, buffer) in buffers.iter_mut().enumerate() {
                    let frame = &mut buffer[HEADROOM..];
                    let (slot, meter) = (&bench.slots[i], &bench.tallies[i].meter);
                    let packet = Usual::of(frame, mac, &bench.addrs, &mut last, false);
                    let mut packet = packet.expect("a usual packet");
                    assert!(packet.pass(slot, meter, &l2, Last::guard(owner), 0));
                }
            },
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

fn full(c: &mut Criterion) {
    let bench = Bench::new();
    let udps: Vec<_> = bench.buffers.iter().map(|buffer| udp_of(buffer)).collect();

    let mut group = c.benchmark_group("full");
    group.throughput(Throughput::Elements(BURST as u64));
    group.bench_function("parse", |b| {
        b.iter(|| {
            for buffer in black_box(&bench.buffers) {
                black_box(classify(&buffer[HEADROOM..], &MAC, false));
            }
        });
    });
    group.bench_function("lookup", |b| {
        b.iter(|| {
            for (buffer, udp) in black_box(&bench.buffers).iter().zip(&udps) {
                let number = bench.addrs.find(&buffer[HEADROOM..], udp);
                black_box(bench.entry(number, udp.port));
            }
        });
    });
    let mut now_ns = 0;
    group.bench_function("verdict", |b| {
        b.iter(|| {
            now_ns += 20_000_000;
            for (i, buffer) in black_box(&bench.buffers).iter().enumerate() {
                let frame = &buffer[HEADROOM..];
                let verdict = judge(frame, &udps[i], bench.stream(i), &bench.rules, now_ns);
                assert!(black_box(verdict).is_ok());
            }
        });
    });
    group.bench_function("rewrite", |b| {
        b.iter_batched_ref(
            || bench.buffers.clone(),
            |buffers| {
                for (i, buffer) in buffers.iter_mut().enumerate() {
                    let left = rewrite(buffer, HEADROOM, &udps[i], &bench.slots[i], &bench.l2);
                    assert!(black_box(left).is_ok());
                }
            },
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

criterion_group!(benches, usual, full);
criterion_main!(benches);
