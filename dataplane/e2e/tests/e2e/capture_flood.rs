//! A flood on a captured call: copies are lost and counted, of the call's packets not one, nor of its neighbour's.

use penstock_e2e::frame::{Datagram, Sum, read_capture, write_capture};
use penstock_e2e::region::{balanced, endpoint, totals};
use penstock_e2e::{PLANE, Setup, lab, rtp_packet, wait_for};
use penstock_shm::copies::{CopyReader, Direction};
use penstock_shm::{Learn, Op, StreamSpec, TableView};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

const PACKETS: u16 = 30_000;
const CAPTURED: u16 = 20_000;
const BESIDE: u16 = 20_010;

/// Leaves from this much above the port it came to.
const AWAY: u16 = 1000;

fn setup(device: &str) -> Setup {
    let port = format!(
        "device = \"{device}\"\nmac = \"02:70:73:00:00:01\"\n[[port.address]]\naddress = \"{PLANE}/16\"\n\
         [[port.neighbour]]\naddress = \"198.18.2.1\"\nmac = \"02:00:00:00:00:01\"\n"
    );
    Setup {
        port,
        ..Setup::default()
    }
}

fn local(port: u16) -> SocketAddr {
    SocketAddr::new(PLANE.parse().expect("an address"), port)
}

fn phone(port: u16) -> SocketAddr {
    SocketAddr::from(([198, 18, 2, 1], port))
}

fn datagram(port: u16, seq: u16) -> Datagram {
    Datagram {
        macs: ([2, 0x70, 0x73, 0, 0, 1], [2, 0, 0, 0, 0, 1]),
        vlan: 0,
        tos: 0,
        from: phone(port),
        to: local(port),
        sum: Sum::Right,
        payload: rtp_packet(port.into(), seq),
    }
}

fn install(table: &TableView, port: u16, capture: bool) -> [Op; 2] {
    let at = |port| endpoint(table, local(port), 0);
    let both = [(port, port + AWAY), (port + AWAY, port)];
    both.map(|(port, peer)| {
        Op::Set(StreamSpec {
            remote: Some(phone(port)),
            learn: Learn::Off,
            signal: 1,
            clock_hz: 8000,
            capture,
            ..StreamSpec::new(at(port), at(peer))
        })
    })
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
            let seq = u16::from_be_bytes([datagram.payload[2], datagram.payload[3]]);
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
    let lab = lab!("capture-flood", setup("net_null0,no-rx=1"));
    let mut plane = lab.plane();
    let table = lab.table();
    lab.install(7, &install(&table, CAPTURED, true));
    lab.install(8, &install(&table, BESIDE, false));
    plane.stop_well();

    let (input, output) = (lab.dir().join("in.pcap"), lab.dir().join("out.pcap"));
    let pair = |seq| [CAPTURED, BESIDE].map(|port| datagram(port, seq).frame());
    write_capture(&input, (1..=PACKETS).flat_map(pair));
    let (rx, tx) = (input.display(), output.display());
    lab.configure(&setup(&format!("net_pcap0,rx_pcap={rx},tx_pcap={tx}")));
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
    for frame in read_capture(&output) {
        let Some(left) = Datagram::parse(&frame).expect("a sound frame") else {
            continue;
        };
        let stream = usize::from(left.to.port() == BESIDE + AWAY);
        let port = [CAPTURED, BESIDE][stream];
        assert_eq!((left.to, left.sum), (phone(port + AWAY), Sum::Right));
        assert_eq!(left.payload, rtp_packet(port.into(), next[stream]));
        next[stream] += 1;
    }
    assert_eq!(next, [PACKETS + 1; 2]);
}
