//! A stream whose packets arrive at both workers: one owns it, the other hands over.

use penstock_e2e::frame::{Datagram, Sum, read_datagrams, write_capture};
use penstock_e2e::region::{balanced, totals, worker};
use penstock_e2e::wire::{self, NOTHING, captures, phone, setup_two};
use penstock_e2e::{lab, local, rtp_packet, rtp_seq, wait_for};
use penstock_shm::{Op, TableView};
use std::collections::BTreeMap;
use std::time::Duration;

const STREAMS: u16 = 20;
const PACKETS: u16 = 100;

/// Packet `seq` of stream `n`.
fn frame(n: u16, seq: u16) -> Vec<u8> {
    let port = 20_000 + 2 * n;
    wire::datagram(phone(port), local(port), rtp_packet(n.into(), seq)).frame()
}

/// Both directions of every stream.
fn streams(table: &TableView) -> Vec<Op> {
    let both = |n| wire::pair(table, 20_000 + 2 * n, 30_000 + 2 * n);
    (0..STREAMS).flat_map(both).map(Op::Set).collect()
}

#[test]
fn the_owner_gets_every_packet() {
    let lab = lab!("two_workers", setup_two(NOTHING));
    lab.install_beforehand(streams);

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
    let out = [file("out0"), file("out1")];
    let device = captures(&[&file("odd"), &file("even")], &[&out[0], &out[1]]);
    lab.configure(&setup_two(&device));
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
    check_output(out.iter().flat_map(|path| read_datagrams(path)));
}

/// Every packet left once and unchanged, and those of one queue kept their order.
fn check_output(datagrams: impl Iterator<Item = Datagram>) {
    let mut left: BTreeMap<u16, Vec<u16>> = BTreeMap::new();
    for datagram in datagrams {
        assert_eq!(
            (datagram.from.port(), datagram.sum),
            (datagram.to.port(), Sum::Right)
        );
        let n = (datagram.to.port() - 30_000) / 2;
        let seq = rtp_seq(&datagram.payload);
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
