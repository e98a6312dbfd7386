//! Which worker owns a stream: it follows its packets, and strangers cannot take it or stand in its way.

use penstock_e2e::feed::{Feed, records};
use penstock_e2e::frame::read_datagrams;
use penstock_e2e::region::{assert_attributed, balanced, stream, totals, worker};
use penstock_e2e::wire::{self, NOTHING, captures, phone, setup_two};
use penstock_e2e::{Daemon, Lab, lab, local, rtp_packet, rtp_seq, wait_for};
use penstock_shm::counters::Drop;
use penstock_shm::{Learn, Op, StreamSpec, StreamStat, TableView};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

const STREAMS: u16 = 8;
const LIMIT: Duration = Duration::from_secs(20);
/// Packets of a stream that may come late when it moves: those that wait for the former owner, which may not have a core
/// to itself here.
const FEW: u32 = 64;

fn port(n: u16) -> u16 {
    20_000 + 2 * n
}

/// Packet `seq` to stream `n` from there.
fn frame_from(from: SocketAddr, n: u16, seq: u16) -> Vec<u8> {
    wire::datagram(from, local(port(n)), rtp_packet(n.into(), seq)).frame()
}

/// Packets of these numbers, each of every stream.
fn packets(seqs: impl IntoIterator<Item = u16>) -> Vec<u8> {
    let all = |seq| (0..STREAMS).map(move |n| frame_from(phone(port(n)), n, seq));
    records(seqs.into_iter().flat_map(all))
}

fn streams(table: &TableView) -> Vec<Op> {
    let learns = |n: u16| match n.is_multiple_of(2) {
        true => Learn::Off,
        false => Learn::Heuristic,
    };
    let both = |n| {
        wire::pair(table, port(n), 10_000 + port(n)).map(|spec| StreamSpec {
            learn: learns(n),
            ..spec
        })
    };
    (0..STREAMS).flat_map(both).map(Op::Set).collect()
}

/// A plane with two workers, a queue of its own each, and what they send.
struct Two {
    plane: Daemon,
    feeds: [Feed; 2],
    out: [PathBuf; 2],
    table: TableView,
}

impl Two {
    fn start(lab: &Lab) -> Two {
        lab.install_beforehand(streams);
        let file = |name: &str| lab.dir().join(name);
        let (ins, out) = ([file("in0"), file("in1")], [file("out0"), file("out1")]);
        let mut feeds = [Feed::new(&ins[0]), Feed::new(&ins[1])];
        let device = captures(&[&ins[0], &ins[1]], &[&out[0], &out[1]]);
        lab.configure(&setup_two(&device));
        let plane = lab.plane();
        feeds.iter_mut().for_each(Feed::started);
        let table = lab.table();
        Two {
            plane,
            feeds,
            out,
            table,
        }
    }
}

fn stats(table: &TableView) -> Vec<StreamStat> {
    let of = |n| stream(table, local(port(n))).expect("the stream");
    (0..STREAMS).map(of).collect()
}

fn all_owned_by(table: &TableView, worker: usize) -> bool {
    stats(table)
        .iter()
        .all(|stream| stream.meter.owner == Some(worker))
}

/// What a worker sent of each stream, by number, each packet unchanged.
fn sent(capture: &Path) -> Vec<Vec<u16>> {
    let mut sent = vec![Vec::new(); usize::from(STREAMS)];
    for left in read_datagrams(capture) {
        let n = (left.from.port() - port(0) - 10_000) / 2;
        let seq = rtp_seq(&left.payload);
        assert_eq!(left.payload, rtp_packet(n.into(), seq));
        sent[usize::from(n)].push(seq);
    }
    sent
}

/// Goes on with packets every few milliseconds, as streams have them.
fn talk(feed: &mut Feed, from: u16, to: u16) {
    for seq in (from..=to).step_by(4) {
        feed.send(&packets(seq..(seq + 4).min(to + 1)));
        std::thread::sleep(Duration::from_millis(16));
    }
}

const FIRST: u16 = 64;
const ALL: u16 = 600;

/// The first packets come in at worker 0, all others at worker 1, as when a NIC's RSS table changes.
#[test]
fn a_stream_follows_its_packets() {
    let lab = lab!("streams_move", setup_two(NOTHING));
    let Two {
        mut plane,
        feeds: [mut first, mut second],
        out,
        table,
    } = Two::start(&lab);
    first.send(&packets(1..=FIRST));
    let begun = || totals(&table).forwarded == u64::from(STREAMS) * u64::from(FIRST);
    assert!(wait_for(LIMIT, begun), "{:?}", totals(&table));
    assert!(all_owned_by(&table, 0), "{:?}", stats(&table));
    // A worker that waits for a capture's next frame would not look at what it is handed.
    drop(first);
    talk(&mut second, FIRST + 1, ALL);
    drop(second);
    let all = u64::from(STREAMS) * u64::from(ALL);
    let done = wait_for(LIMIT, || totals(&table).forwarded == all);
    assert!(done, "{:?}", totals(&table));
    let sum = balanced(&table);
    assert_eq!(sum.dropped_at_all(), 0, "{sum:?}");
    assert!(all_owned_by(&table, 1), "{:?}", stats(&table));
    let moved: Vec<u64> = table.workers().iter().map(|w| w.streams_moved).collect();
    assert_eq!(moved[..2], [u64::from(STREAMS), 0]);
    // What was handed over is what makes a stream move, and not much more.
    assert!(
        (1..=100).contains(&(sum.handed_over / u64::from(STREAMS))),
        "{sum:?}"
    );
    for stream in stats(&table) {
        let meter = stream.meter;
        assert_eq!(
            (meter.packets, meter.received),
            (ALL.into(), ALL.into()),
            "{meter:?}"
        );
        assert_eq!((meter.lost, meter.duplicates), (0, 0), "{meter:?}");
        assert!(meter.late <= FEW, "{meter:?}");
    }
    plane.stop_well();
    for (mut seqs, more) in sent(&out[0]).into_iter().zip(sent(&out[1])) {
        assert!(seqs.is_sorted() && !more.is_empty());
        let late = more.windows(2).filter(|pair| pair[0] > pair[1]).count();
        assert!(late <= FEW as usize, "{more:?}");
        seqs.extend(more);
        seqs.sort();
        assert!(seqs.into_iter().eq(1..=ALL));
    }
}

/// Strangers come in at worker 1, as fast as it can take them, while the phones' packets come in at worker 0.
#[test]
fn strangers_neither_take_a_stream_nor_fill_the_ring() {
    const STRANGERS: u64 = 500_000;
    let lab = lab!("strangers_elsewhere", setup_two(NOTHING));
    let Two {
        mut plane,
        feeds: [mut first, mut second],
        out,
        table,
    } = Two::start(&lab);
    first.send(&packets(1..=FIRST));
    let locked = || stats(&table).iter().all(|stream| stream.policy.locked);
    let ready = || all_owned_by(&table, 0) && locked();
    assert!(wait_for(LIMIT, ready), "{:?}", stats(&table));
    let strange = |i: u16| {
        let from = match i % 3 {
            0 => phone(port(i % STREAMS) + 1),
            1 => SocketAddr::from(([198, 18, 7, i as u8], port(i % STREAMS))),
            _ => SocketAddr::from(([198, 19, (i >> 8) as u8, i as u8], i)),
        };
        frame_from(from, i % STREAMS, i)
    };
    let volley = records((0..1000).map(strange));
    std::thread::scope(|scope| {
        scope.spawn(|| (0..STRANGERS / 1000).for_each(|_| second.send(&volley)));
        talk(&mut first, FIRST + 1, ALL);
    });
    drop((first, second));
    let all = u64::from(STREAMS) * u64::from(ALL);
    let done = wait_for(LIMIT, || totals(&table).rx == all + STRANGERS);
    assert!(done, "{:?}", totals(&table));
    balanced(&table);
    let [good, bad] = [0, 1].map(|number| worker(&table, number));
    assert_eq!(
        (good.forwarded, good.dropped_at_all()),
        (all, 0),
        "{good:?}"
    );
    assert_eq!(
        (bad.rx, bad.dropped(Drop::Source)),
        (STRANGERS, STRANGERS),
        "{bad:?}"
    );
    // They count at the streams, whose owner never saw them.
    assert_attributed(&table, &[]);
    assert_eq!(bad.handed_over + good.handed_over, 0);
    assert!(table.workers().iter().all(|w| w.streams_moved == 0));
    assert!(all_owned_by(&table, 0), "{:?}", stats(&table));
    plane.stop_well();
    assert!(
        sent(&out[0])
            .into_iter()
            .all(|seqs| seqs.into_iter().eq(1..=ALL))
    );
}
