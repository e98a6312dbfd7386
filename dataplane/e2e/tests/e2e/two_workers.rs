//! A stream whose packets arrive at both workers: one owns it, the other hands over.

use penstock_e2e::frame::{Datagram, Sum, read_capture, write_capture};
use penstock_e2e::region::{balanced, endpoint, totals, worker};
use penstock_e2e::{PLANE, Setup, lab, rtp_packet, wait_for};
use penstock_shm::{Learn, Op, StreamSpec, TableView};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

const STREAMS: u16 = 20;
const PACKETS: u16 = 100;

fn setup(device: &str) -> Setup {
    let port = format!(
        "device = \"{device}\"\nmac = \"02:70:73:00:00:01\"\n[[port.address]]\naddress = \"{PLANE}/16\"\n\
         [[port.neighbour]]\naddress = \"198.18.2.1\"\nmac = \"02:00:00:00:00:01\"\n"
    );
    Setup {
        port,
        cores: "[0, 1]",
        ..Setup::default()
    }
}

fn local(port: u16) -> SocketAddr {
    SocketAddr::new(PLANE.parse().expect("an address"), port)
}

fn phone(port: u16) -> SocketAddr {
    SocketAddr::from(([198, 18, 2, 1], port))
}

/// Packet `seq` of stream `n`.
fn frame(n: u16, seq: u16) -> Vec<u8> {
    let port = 20_000 + 2 * n;
    let macs = ([2, 0x70, 0x73, 0, 0, 1], [2, 0, 0, 0, 0, 1]);
    let payload = rtp_packet(n.into(), seq);
    Datagram {
        macs,
        vlan: 0,
        tos: 0,
        from: phone(port),
        to: local(port),
        sum: Sum::Right,
        payload,
    }
    .frame()
}

/// Both directions of every stream.
fn streams(table: &TableView) -> Vec<Op> {
    let both = |n| {
        [
            (20_000 + 2 * n, 30_000 + 2 * n),
            (30_000 + 2 * n, 20_000 + 2 * n),
        ]
    };
    let at = |port| endpoint(table, local(port), 0);
    let spec = |(port, peer)| StreamSpec {
        remote: Some(phone(port)),
        learn: Learn::Off,
        signal: 1,
        clock_hz: 8000,
        ..StreamSpec::new(at(port), at(peer))
    };
    (0..STREAMS)
        .flat_map(both)
        .map(|ends| Op::Set(spec(ends)))
        .collect()
}

#[test]
fn the_owner_gets_every_packet() {
    let lab = lab!("two_workers", setup("net_null0,no-rx=1"));
    let mut plane = lab.plane();
    lab.install(1, &streams(&lab.table()));
    plane.stop_well();

    // Odd packets arrive at one queue, even ones at the other, as a wayward RSS would have it. Fewer
    // than a hand-over ring holds: nothing may be lost however late the owner is.
    let file = |name: &str| lab.dir().join(name);
    for (name, first) in [("odd", 1), ("even", 2)] {
        let seqs = (first..=PACKETS).step_by(2);
        write_capture(
            &file(name),
            seqs.flat_map(|seq| (0..STREAMS).map(move |n| frame(n, seq))),
        );
    }
    let device = format!(
        "net_pcap0,rx_pcap={},rx_pcap={},tx_pcap={},tx_pcap={}",
        file("odd").display(),
        file("even").display(),
        file("out0").display(),
        file("out1").display()
    );
    lab.configure(&setup(&device));
    let mut plane = lab.plane();
    let table = lab.table();
    let all = u64::from(STREAMS) * u64::from(PACKETS);
    let done = wait_for(Duration::from_secs(20), || totals(&table).forwarded == all);
    assert!(done, "{:?}", totals(&table));
    let sum = balanced(&table);
    assert_eq!((sum.dropped_at_all(), sum.forwarded), (0, all));
    // Of each stream, all that came to the worker that does not own it.
    assert_eq!(
        (sum.handed_over, sum.rx),
        (all / 2, all + all / 2),
        "{sum:?}"
    );
    let used: Vec<_> = table
        .iter()
        .filter(|stream| stream.meter.packets > 0)
        .collect();
    assert_eq!(used.len(), usize::from(STREAMS));
    assert!(
        used.iter()
            .all(|stream| stream.meter.packets == u64::from(PACKETS))
    );
    for number in 0..2 {
        let owned = used
            .iter()
            .filter(|stream| stream.meter.owner == Some(number))
            .count();
        assert_eq!(
            worker(&table, number).forwarded,
            owned as u64 * u64::from(PACKETS)
        );
    }
    plane.stop_well();
    check_output(
        [file("out0"), file("out1")]
            .iter()
            .flat_map(|path| read_capture(path)),
    );
}

/// Every packet left once and unchanged, and those of one queue kept their order.
fn check_output(frames: impl Iterator<Item = Vec<u8>>) {
    let mut left: BTreeMap<u16, Vec<u16>> = BTreeMap::new();
    for frame in frames {
        let Some(datagram) = Datagram::parse(&frame).expect("a sound frame") else {
            continue;
        };
        assert_eq!(
            (datagram.from.port(), datagram.sum),
            (datagram.to.port(), Sum::Right)
        );
        let n = (datagram.to.port() - 30_000) / 2;
        let seq = u16::from_be_bytes([datagram.payload[2], datagram.payload[3]]);
        assert_eq!(datagram.payload, rtp_packet(n.into(), seq));
        left.entry(n).or_default().push(seq);
    }
    assert_eq!(left.len(), usize::from(STREAMS));
    for (n, seqs) in left {
        for parity in 0..2 {
            let of_queue = |seqs: &[u16]| {
                seqs.iter()
                    .copied()
                    .filter(|seq| seq % 2 == parity)
                    .collect::<Vec<_>>()
            };
            let expected: Vec<u16> = (1..=PACKETS).collect();
            assert_eq!(of_queue(&seqs), of_queue(&expected), "stream {n}");
        }
    }
}
