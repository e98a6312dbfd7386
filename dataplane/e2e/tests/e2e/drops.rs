//! What is dropped of a stream's packets counts at that stream, whoever drops them: its owner, the worker where they came
//! in, the one that sends them, the steward. Rings that are full cost what is theirs, and no other call a packet.

use penstock_e2e::feed::{Feed, records};
use penstock_e2e::frame::{Datagram, Sum};
use penstock_e2e::region::{
    assert_attributed, balanced, dropped_of, endpoint, live, stream, totals, worker,
};
use penstock_e2e::{Daemon, Lab, PLANE, Setup, lab, rtp_packet, wait_for};
use penstock_shm::counters::Drop;
use penstock_shm::{Learn, Op, StreamSpec, StreamStat, TableView};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(30);
/// The plane's address at a port that takes nothing: shared memory with nobody at the other end.
const FULL: [u8; 4] = [198, 19, 0, 1];
/// What a worker's hand-over ring holds.
const RING: u64 = 1024;
/// Packets go to a port of these and leave from one this much above.
const AWAY: u16 = 10_000;

/// First ports of streams, two apart: relayed, ...
const GOOD: u16 = 20_000;
/// ... leaving through the port that takes nothing, ...
const TO_FULL: u16 = 21_000;
/// ... to a neighbour that never answers, ...
const TO_NOBODY: u16 = 22_000;
/// ... with a closed gate, ...
const CLOSED: u16 = 23_000;
/// ... taking one payload type alone.
const STRICT: u16 = 24_000;
/// A port of none.
const NONE: u16 = 25_000;

fn setup(lab: &Lab, device: &str, cores: &'static str) -> Setup {
    let port = format!(
        "device = \"{device}\"\nmac = \"02:70:73:00:00:01\"\n[[port.address]]\naddress = \"{PLANE}/16\"\n\
         [[port.neighbour]]\naddress = \"198.18.2.1\"\nmac = \"02:00:00:00:00:01\"\n\
         [[port]]\nname = \"full\"\ndevice = \"net_memif0,role=server,socket-abstract=no,socket={}/memif\"\n\
         mac = \"02:70:73:00:00:02\"\nqueues = 1\n[[port.address]]\naddress = \"198.19.0.1/16\"\n\
         [[port.neighbour]]\naddress = \"198.19.2.1\"\nmac = \"02:00:00:00:00:02\"\n",
        lab.dir().display()
    );
    Setup {
        port,
        cores,
        ..Setup::default()
    }
}

fn local(port: u16) -> SocketAddr {
    SocketAddr::new(PLANE.parse().expect("an address"), port)
}

fn phone(port: u16) -> SocketAddr {
    SocketAddr::from(([198, 18, 2, 1], port))
}

fn datagram(from: SocketAddr, port: u16, payload: Vec<u8>) -> Vec<u8> {
    let datagram = Datagram {
        macs: ([2, 0x70, 0x73, 0, 0, 1], [2, 0, 0, 0, 0, 1]),
        vlan: 0,
        tos: 0,
        from,
        to: local(port),
        sum: Sum::Right,
        payload,
    };
    datagram.frame()
}

/// Packet `seq` of the stream at this port.
fn rtp(port: u16, seq: u16) -> Vec<u8> {
    datagram(phone(port), port, rtp_packet(port.into(), seq))
}

/// Four streams of each kind, with those of the opposite direction.
fn streams(table: &TableView) -> Vec<Op> {
    let both = |first: u16, n: u16| {
        let (port, away) = (first + 2 * n, first + 2 * n + AWAY);
        let (out, remote) = match first {
            TO_FULL => (FULL.into(), SocketAddr::from(([198, 19, 2, 1], away))),
            TO_NOBODY => (local(0).ip(), SocketAddr::from(([198, 18, 2, 9], away))),
            _ => (local(0).ip(), phone(away)),
        };
        let here = endpoint(table, local(port), 0);
        let there = endpoint(table, SocketAddr::new(out, away), 0);
        let spec = |at, peer, remote| StreamSpec {
            remote: Some(remote),
            learn: Learn::Off,
            signal: 1,
            // By this clock, packets that come at once are near their time and go the short way.
            clock_hz: 90_000,
            gate_open: first != CLOSED,
            strict_payload: first == STRICT,
            payload_types: if first == STRICT { 1 << 8 } else { 0 },
            ..StreamSpec::new(at, peer)
        };
        [
            Op::Set(spec(here, there, phone(port))),
            Op::Set(spec(there, here, remote)),
        ]
    };
    let kinds = [GOOD, TO_FULL, TO_NOBODY, CLOSED, STRICT];
    let all = kinds
        .into_iter()
        .flat_map(|first| (0..4).map(move |n| (first, n)));
    all.flat_map(|(first, n)| both(first, n)).collect()
}

fn install(lab: &Lab, cores: &'static str) {
    lab.configure(&setup(lab, "net_null0,no-rx=1", cores));
    let mut plane = lab.plane();
    lab.install(1, &streams(&lab.table()));
    plane.stop_well();
}

/// A plane with two workers, a queue of its own each.
fn two_workers(lab: &Lab) -> (Daemon, [Feed; 2]) {
    install(lab, "[0, 1]");
    let [in0, in1] = ["in0", "in1"].map(|name| lab.dir().join(name));
    let mut feeds = [Feed::new(&in0), Feed::new(&in1)];
    let out = lab.dir().join("out");
    let [in0, in1, out] = [&in0, &in1, &out].map(|path| path.display());
    let device = format!("net_pcap0,rx_pcap={in0},rx_pcap={in1},tx_pcap={out}0,tx_pcap={out}1");
    lab.configure(&setup(lab, &device, "[0, 1]"));
    let plane = lab.plane();
    feeds.iter_mut().for_each(Feed::started);
    (plane, feeds)
}

fn at(table: &TableView, port: u16) -> StreamStat {
    stream(table, local(port)).expect("the stream")
}

/// The worker has received so many packets, and knows what has become of them.
fn received(table: &TableView, number: usize, packets: u64) {
    let all = || worker(table, number).accounted() >= packets;
    assert!(wait_for(LIMIT, all), "{:?}", worker(table, number));
}

/// Worker 0 has relayed so many packets, and waits for its capture's next frame: it looks at nothing else.
fn stands_still(table: &TableView, packets: u64) {
    received(table, 0, packets);
    let turns = || {
        let workers = table.workers();
        workers[0].polls_busy + workers[0].polls_idle
    };
    let mut last = turns();
    let stands = wait_for(LIMIT, || {
        std::thread::sleep(Duration::from_millis(500));
        std::mem::replace(&mut last, turns()) == last
    });
    assert!(stands, "worker 0 goes on");
}

/// A worker that waits for its capture's next frame owns two streams whose packets come in at the other worker.
#[test]
fn a_full_hand_over_ring_costs_the_owners_streams_alone() {
    const EACH: u16 = 800;
    let lab = lab!("hand_over");
    let (_plane, [mut first, mut second]) = two_workers(&lab);
    let table = lab.table();
    let seqs = |ports: [u16; 2], seqs: std::ops::RangeInclusive<u16>| {
        records(seqs.flat_map(|seq| ports.map(|port| rtp(port, seq))))
    };
    let [slow, other] = [[GOOD, GOOD + 2], [GOOD + 4, GOOD + 6]];
    first.send(&seqs(slow, 1..=64));
    stands_still(&table, 128);
    let pair = |seq| [slow, other].map(|ports| ports.map(|port| rtp(port, seq)));
    second.send(&records((65..65 + EACH).flat_map(pair).flatten()));
    received(&table, 1, 4 * u64::from(EACH));
    let full = worker(&table, 1);
    let lost = 2 * u64::from(EACH) - RING;
    assert_eq!(
        (
            full.forwarded,
            full.handed_over,
            full.dropped(Drop::HandOver)
        ),
        (2 * u64::from(EACH), RING, lost),
        "{full:?}"
    );
    drop((first, second));
    let sum = balanced(&table);
    assert_eq!(sum.dropped_at_all(), lost, "{sum:?}");
    for port in slow {
        let stat = at(&table, port);
        assert_eq!(dropped_of(&stat, Drop::HandOver), lost / 2);
        assert_eq!(stat.meter.packets, 64 + u64::from(EACH) - lost / 2);
    }
    for port in other {
        let meter = at(&table, port).meter;
        assert_eq!((meter.packets, meter.dropped), (EACH.into(), 0));
        assert_eq!((meter.lost, meter.late), (0, 0));
    }
    assert_attributed(&table, &[]);
}

/// A frame of the hostile mixture, and the stream and the reason that it is dropped for, if it is sure to be.
fn mixed(i: u16) -> (Vec<u8>, Option<(u16, &'static str)>) {
    let (seq, n) = (1000 + i / 16, 2 * (i / 16 % 4));
    let stranger = |port| datagram(phone(port + 1), port, rtp_packet(port.into(), seq));
    let sure = |frame, port, reason: Drop| (frame, Some((port, reason.name())));
    match i % 16 {
        0..=3 => (rtp(GOOD + 2 * (i % 16), seq), None),
        4 | 5 => sure(stranger(GOOD), GOOD, Drop::Source),
        6 => sure(stranger(GOOD + 6), GOOD + 6, Drop::Source),
        7..=9 => {
            // Not those that worker 0 owns.
            let port = TO_FULL + 4 + n % 4;
            sure(rtp(port, i), port, Drop::TxFull)
        }
        10 => sure(rtp(TO_NOBODY + n, seq), TO_NOBODY + n, Drop::NextHop),
        11 => sure(rtp(CLOSED + n, seq), CLOSED + n, Drop::GateClosed),
        12 => sure(rtp(STRICT + n, seq), STRICT + n, Drop::PayloadType),
        13 => {
            let garbage = datagram(phone(GOOD + 6), GOOD + 6, vec![0xc0; 40]);
            sure(garbage, GOOD + 6, Drop::NotRtp)
        }
        14 => (rtp(NONE, seq), None),
        _ => {
            let mut short = rtp(GOOD, seq);
            short.truncate(60);
            (short, None)
        }
    }
}

/// First worker 0 alone, with bursts to the port that takes nothing; then the mixture at worker 1, which has no queue there,
/// while worker 0 looks at nothing and owns half of the good streams.
#[test]
fn every_drop_is_its_streams() {
    const BURSTS: u16 = 64 * 6;
    const MIXED: u16 = 64 * 16 * 12;
    let lab = lab!("drops");
    let (mut plane, [mut first, mut second]) = two_workers(&lab);
    let table = lab.table();
    // Whole bursts of one stream, and bursts where its packets stand between others.
    let alone = (1..=BURSTS).map(|seq| rtp(TO_FULL, seq));
    let between = |seq: u16| [rtp(GOOD + 2 * (seq % 2), seq), rtp(TO_FULL + 2, seq)];
    first.send(&records(alone.chain((1..=BURSTS).flat_map(between))));
    stands_still(&table, 3 * u64::from(BURSTS));
    let sent = worker(&table, 0);
    assert_eq!(
        (sent.forwarded, sent.dropped(Drop::TxFull)),
        (BURSTS.into(), 2 * u64::from(BURSTS)),
        "{sent:?}"
    );
    assert_attributed(&table, &[]);

    second.send(&records((0..MIXED).map(|i| mixed(i).0)));
    received(&table, 1, MIXED.into());
    drop((first, second));
    let each = u64::from(MIXED / 16);
    // What waits for a neighbour is given up after two seconds.
    let given_up = || totals(&table).dropped(Drop::NextHop) == each;
    assert!(wait_for(LIMIT, given_up), "{:?}", totals(&table));
    let sum = balanced(&table);
    assert_attributed(
        &table,
        &[
            (Drop::Malformed, each),
            (Drop::NoStream, sum.dropped(Drop::NoStream)),
            (Drop::Flood, sum.dropped(Drop::Flood)),
        ],
    );
    assert_eq!(sum.dropped(Drop::NoStream) + sum.dropped(Drop::Flood), each);
    let mut expected = BTreeMap::new();
    for sure in (0..MIXED).filter_map(|i| mixed(i).1) {
        *expected.entry(sure).or_insert(0) += 1;
    }
    // Half of what did not fit the ring each.
    let lost = (u64::from(2 * MIXED / 16) - RING) / 2;
    for (port, reason, count) in [
        (TO_FULL, Drop::TxFull, BURSTS.into()),
        (TO_FULL + 2, Drop::TxFull, BURSTS.into()),
        (GOOD, Drop::HandOver, lost),
        (GOOD + 2, Drop::HandOver, lost),
    ] {
        assert_eq!(expected.insert((port, reason.name()), count), None);
    }
    let mut counted = BTreeMap::new();
    for stream in live(&table) {
        let drops = Drop::OF_STREAM.iter().zip(stream.drops);
        let some = drops.filter(|(_, n)| *n > 0);
        counted
            .extend(some.map(|(reason, n)| ((stream.endpoint.port, reason.name()), u64::from(n))));
    }
    assert_eq!(counted, expected);
    let rows = lab.penstock_json("streams");
    let own = |row: &&serde_json::Value| row["local"] == local(TO_FULL + 4).to_string();
    let row = rows.as_array().and_then(|rows| rows.iter().find(own));
    let shown = &row.expect("the stream")["detail"]["drops"]["tx-full"];
    assert_eq!(*shown, u64::from(3 * MIXED / 32));
    plane.stop_well();
}

/// ARP and ICMP for the steward, faster than it takes them, with a call in between.
#[test]
fn a_flood_beyond_the_stewards_queue_costs_no_call_a_packet() {
    const VOLLEY: u16 = 2048;
    let lab = lab!("slow_path");
    install(&lab, "[1]");
    let (input, output) = (lab.dir().join("in"), lab.dir().join("out"));
    let mut feed = Feed::new(&input);
    let (rx, tx) = (input.display(), output.display());
    lab.configure(&setup(
        &lab,
        &format!("net_pcap0,rx_pcap={rx},tx_pcap={tx}"),
        "[1]",
    ));
    let mut plane = lab.plane();
    feed.started();
    let table = lab.table();
    let question = who_has();
    let echo = echo();
    let mut sent = 0u64;
    let flooded = wait_for(LIMIT, || {
        let volley = (0..VOLLEY).map(|i| match i % 8 {
            0 => {
                sent += 1;
                rtp(GOOD, sent as u16)
            }
            1 | 2 => echo.clone(),
            _ => question.clone(),
        });
        feed.send(&records(volley));
        totals(&table).dropped(Drop::SlowPath) > 1000
    });
    drop(feed);
    assert!(flooded, "{:?}", totals(&table));
    received(&table, 0, 8 * sent);
    balanced(&table);
    let taken = worker(&table, 0);
    assert_eq!(taken.forwarded, sent, "{taken:?}");
    let (lost, heard) = (taken.dropped(Drop::SlowPath), taken.consumed);
    assert_eq!(lost, taken.dropped_at_all(), "{taken:?}");
    assert_eq!(lost + heard, 7 * sent, "{taken:?}");
    // The steward, one row further, had what was left.
    assert_eq!(worker(&table, 1).rx, heard);
    let meter = at(&table, GOOD).meter;
    assert_eq!((meter.packets, meter.lost, meter.dropped), (sent, 0, 0));
    assert_attributed(&table, &[(Drop::SlowPath, lost)]);
    plane.stop_well();
}

/// Asks for the plane's address.
fn who_has() -> Vec<u8> {
    let mut frame = vec![0xff; 6];
    let mac = [2, 0, 0, 0, 0, 1];
    frame.extend(mac);
    frame.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
    frame.extend(mac);
    frame.extend([198, 18, 2, 1, 0, 0, 0, 0, 0, 0, 198, 18, 0, 1]);
    frame.resize(60, 0);
    frame
}

/// An echo request, made of a datagram with the same header checksum but for the protocol.
fn echo() -> Vec<u8> {
    let mut frame = datagram(phone(7), 7, vec![0; 32]);
    frame[23] = 1;
    let sum = u16::from_be_bytes([frame[24], frame[25]]);
    // The protocol fell from 17 to 1.
    let sum = u32::from(sum) + 16;
    let sum = (sum + (sum >> 16)) as u16;
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
    frame[34..].fill(0);
    frame[34..42].copy_from_slice(&[8, 0, 0xf7, 0xff, 0, 0, 0, 0]);
    frame
}
