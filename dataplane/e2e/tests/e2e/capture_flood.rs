//! A flood on a captured call: copies are lost and counted, of the call's packets not one, nor of its neighbour's.

use penstock_e2e::frame::{Datagram, Sum, read_datagrams, write_capture};
use penstock_e2e::region::{balanced, totals};
use penstock_e2e::wire::{self, NOTHING, captures, phone, setup};
use penstock_e2e::{lab, local, rtp_packet, rtp_seq, wait_for};
use penstock_shm::copies::{CopyReader, Direction};
use penstock_shm::{Op, StreamSpec, TableView};
use std::collections::BTreeSet;
use std::time::Duration;

const PACKETS: u16 = 30_000;
const CAPTURED: u16 = 20_000;
const BESIDE: u16 = 20_010;

/// Leaves from this much above the port it came to.
const AWAY: u16 = 1000;

fn frame(port: u16, seq: u16) -> Vec<u8> {
    wire::datagram(phone(port), local(port), rtp_packet(port.into(), seq)).frame()
}

fn streams(table: &TableView, port: u16, capture: bool) -> [Op; 2] {
    wire::pair(table, port, port + AWAY).map(|spec| Op::Set(StreamSpec { capture, ..spec }))
}

/// A reader's copies: which packet, which way.
#[derive(Default)]
struct Seen {
    copies: BTreeSet<(u16, Direction)>,
    last: [u16; 2],
}

impl Seen {
    fn read(&mut self, reader: &mut CopyReader) {
        reader.read(|copy| {
            let about = copy.about;
            assert_eq!((about.call, about.endpoint.port), (7, CAPTURED));
            assert_eq!(usize::from(about.len), copy.frame.len());
            let datagram = Datagram::parse(copy.frame).expect("sound").expect("UDP");
            assert_eq!(datagram.sum, Sum::Right);
            let seq = rtp_seq(&datagram.payload);
            assert_eq!(datagram.payload, rtp_packet(CAPTURED.into(), seq));
            let (from, to) = match about.direction {
                Direction::Ingress => (phone(CAPTURED), local(CAPTURED)),
                Direction::Egress => (local(CAPTURED + AWAY), phone(CAPTURED + AWAY)),
            };
            assert_eq!((datagram.from, datagram.to), (from, to));
            let last = &mut self.last[about.direction as usize];
            assert!(seq > *last, "{seq} after {last}");
            *last = seq;
            self.copies.insert((seq, about.direction));
        });
    }
}

#[test]
fn a_flood_loses_copies_and_not_one_packet() {
    let lab = lab!("capture-flood", setup(NOTHING));
    let mut plane = lab.plane();
    let table = lab.table();
    lab.install(7, &streams(&table, CAPTURED, true));
    lab.install(8, &streams(&table, BESIDE, false));
    plane.stop_well();

    let (input, output) = (lab.dir().join("in.pcap"), lab.dir().join("out.pcap"));
    let pair = |seq| [CAPTURED, BESIDE].map(|port| frame(port, seq));
    write_capture(&input, (1..=PACKETS).flat_map(pair));
    lab.configure(&setup(&captures(&[&input], &[&output])));
    let open = || CopyReader::open(lab.region()).expect("the copies");
    let mut readers = [open(), open()];
    let mut seen = [Seen::default(), Seen::default()];
    let mut plane = lab.plane();
    let all = 2 * u64::from(PACKETS);
    let mut turn = 0;
    let done = wait_for(Duration::from_secs(60), || {
        // One reader is five times as fast as the other.
        turn += 1;
        seen[0].read(&mut readers[0]);
        if turn % 5 == 0 {
            seen[1].read(&mut readers[1]);
        }
        totals(&table).forwarded == all
    });
    assert!(done, "{:?}", totals(&table));
    assert_eq!(balanced(&table).dropped_at_all(), 0);

    let worker = &table.workers()[0];
    let (captured, lost) = (worker.captured, worker.capture_lost);
    assert_eq!(captured + lost, 2 * u64::from(PACKETS));
    assert!(lost > 0, "no flood: every copy was made");
    for (reader, seen) in readers.iter_mut().zip(&mut seen) {
        assert!(!reader.is_replaced(lab.region()));
        seen.read(reader);
        assert_eq!(seen.copies.len() as u64 + reader.lost(), captured);
        assert!(!seen.copies.is_empty());
    }
    plane.stop_well();

    // Each left once, in order, whether captured or not.
    let mut next = [1u16; 2];
    for left in read_datagrams(&output) {
        let stream = usize::from(left.to.port() == BESIDE + AWAY);
        let port = [CAPTURED, BESIDE][stream];
        assert_eq!((left.to, left.sum), (phone(port + AWAY), Sum::Right));
        assert_eq!(left.payload, rtp_packet(port.into(), next[stream]));
        next[stream] += 1;
    }
    assert_eq!(next, [PACKETS + 1; 2]);
}
