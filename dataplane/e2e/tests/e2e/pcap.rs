//! A capture goes in, a capture comes out: every kind of stream, every kind of bad frame, each header
//! of what leaves.

mod frames;

use frames::{CLOSED, COUNT, Fate, MTU, NETS, NO_NEIGHBOUR, NO_ROUTE, ROUTES, Route, TOS, mixture};
use penstock_e2e::frame::{Datagram, Sum, read_capture, write_capture};
use penstock_e2e::region::{balanced, endpoint, worker};
use penstock_e2e::wire::{NOTHING, captures};
use penstock_e2e::{Setup, lab, rtp_packet, wait_for};
use penstock_shm::counters::Drop;
use penstock_shm::{Dscp, Kind, Learn, Op, StreamSpec, TableView};
use std::net::SocketAddr;
use std::time::Duration;

fn setup(device: &str) -> Setup {
    use std::fmt::Write;
    let mut port = format!("device = \"{device}\"\nmac = \"02:70:73:00:00:01\"\nmtu = {MTU}\n");
    for net in &NETS {
        let len = if net.local.contains(':') { 64 } else { 16 };
        let _ = write!(
            port,
            "[[port.address]]\naddress = \"{}/{len}\"\nvlan = {}\n",
            net.local, net.vlan
        );
    }
    for net in &NETS {
        let mac = net.phone_mac.map(|byte| format!("{byte:02x}")).join(":");
        let _ = write!(
            port,
            "[[port.neighbour]]\naddress = \"{}\"\nmac = \"{mac}\"\nvlan = {}\n",
            net.phone, net.vlan
        );
    }
    Setup {
        port,
        ..Setup::default()
    }
}

fn pair(table: &TableView, route: &Route) -> [StreamSpec; 2] {
    let (from, to) = (&NETS[route.from], &NETS[route.to]);
    let here = endpoint(table, from.local(route.port), from.vlan);
    let there = endpoint(table, to.local(route.port + 1), to.vlan);
    let spec = StreamSpec {
        remote: Some(from.phone(route.port)),
        kind: route.kind,
        learn: Learn::Off,
        signal: 1,
        clock_hz: 8000,
        dscp: Dscp::Set(TOS >> 2),
        ..StreamSpec::new(here, there)
    };
    let back = StreamSpec {
        endpoint: there,
        peer: here,
        remote: Some(to.phone(route.port + 1)),
        leg: 1,
        ..spec
    };
    [spec, back]
}

fn streams(table: &TableView) -> Vec<Op> {
    let mut specs: Vec<StreamSpec> = ROUTES.iter().flat_map(|route| pair(table, route)).collect();
    let in_first = |port| pair(table, &Route::new(0, 0, port, Kind::Rtp));
    let [mut closed, closed_peer] = in_first(CLOSED);
    closed.gate_open = false;
    let [no_route, mut without_remote] = in_first(NO_ROUTE);
    without_remote.remote = None;
    let [lost, mut far] = in_first(NO_NEIGHBOUR);
    far.remote = Some(SocketAddr::from(([198, 18, 2, 99], 1)));
    specs.extend([closed, closed_peer, no_route, without_remote, lost, far]);
    specs.into_iter().map(Op::Set).collect()
}

#[test]
fn what_leaves_is_right_to_the_last_bit() {
    let lab = lab!("pcap", setup(NOTHING));
    lab.install_beforehand(streams);
    let frames = mixture();
    let (input, output) = (lab.dir().join("in.pcap"), lab.dir().join("out.pcap"));
    write_capture(&input, frames.iter().map(|(frame, _)| frame));
    lab.configure(&setup(&captures(&[&input], &[&output])));
    let mut plane = lab.plane();
    let table = lab.table();
    let read = || worker(&table, 0).rx == frames.len() as u64;
    assert!(
        wait_for(Duration::from_secs(20), read),
        "{:?}",
        worker(&table, 0)
    );
    let all = balanced(&table);
    assert_eq!(
        all.dropped(Drop::NextHop),
        1,
        "a next hop that never answers: {all:?}"
    );
    check_counters(&table, &frames);
    plane.stop_well();
    check_output(&read_capture(&output), &frames);
}

/// Packets that are out of sequence go another way than those between them: the meter must not see it.
#[test]
fn packets_of_one_burst_are_metered_in_their_order() {
    let lab = lab!("pcap-order", setup(NOTHING));
    lab.install_beforehand(streams);
    let [first, other] = [20_000, 20_010];
    let frame = |port, ssrc, seq| NETS[0].datagram(port, port, rtp_packet(ssrc, seq)).frame();
    // What fills two bursts of 32, so that the stream is in sequence when the next one comes.
    let between = (0..63).map(|seq| frame(other, 2, seq));
    let together = [11, 40_000, 12, 40_001, 13].map(|seq| frame(first, 1, seq));
    let frames: Vec<_> = [frame(first, 1, 10)]
        .into_iter()
        .chain(between)
        .chain(together)
        .collect();
    let input = lab.dir().join("in.pcap");
    write_capture(&input, frames.iter());
    lab.configure(&setup(&captures(&[&input], &[])));
    let mut plane = lab.plane();
    let table = lab.table();
    let read = || worker(&table, 0).forwarded == frames.len() as u64;
    assert!(
        wait_for(Duration::from_secs(20), read),
        "{:?}",
        worker(&table, 0)
    );
    let at = endpoint(&table, NETS[0].local(first), 0);
    let number = table.find(at).expect("the stream");
    let meter = table.stream(number).expect("its record").meter;
    assert_eq!(
        (meter.packets, meter.received, meter.ext_seq, meter.lost),
        (6, 4, 13, 0)
    );
    plane.stop_well();
}

/// Each frame is counted once, under the right name, and each good one at its stream.
fn check_counters(table: &TableView, frames: &[(Vec<u8>, Fate)]) {
    let counted = worker(table, 0);
    let count =
        |is: &dyn Fn(&Fate) -> bool| frames.iter().filter(|(_, fate)| is(fate)).count() as u64;
    assert_eq!(
        counted.forwarded,
        count(&|fate| matches!(fate, Fate::Relayed(_)))
    );
    assert_eq!(
        counted.consumed,
        count(&|fate| matches!(fate, Fate::Consumed))
    );
    for &reason in Drop::ALL {
        let expected = count(&|fate| matches!(fate, Fate::Dropped(why) if *why == reason));
        assert_eq!(counted.dropped(reason), expected, "{}", reason.name());
    }
    for (route, ssrc) in ROUTES.iter().zip(1..) {
        let from = &NETS[route.from];
        let at = endpoint(table, from.local(route.port), from.vlan);
        let stream = table
            .stream(table.find(at).expect("the stream"))
            .expect("its record");
        assert_eq!(stream.meter.packets, u64::from(COUNT));
        let ssrc = (route.kind == Kind::Rtp).then_some(ssrc);
        assert_eq!((stream.meter.ssrc, stream.meter.lost), (ssrc, 0));
    }
}

/// Good packets left in the order they came, and as they should. Between them the plane's own frames go
/// where they like: it answered both that asked.
fn check_output(output: &[Vec<u8>], frames: &[(Vec<u8>, Fate)]) {
    let mut expected = frames.iter().filter_map(|(_, fate)| match fate {
        Fate::Relayed(datagram) => Some(datagram),
        _ => None,
    });
    let (mut arp_replies, mut echo_replies) = (0, 0);
    for frame in output {
        match Datagram::parse(frame) {
            Ok(Some(left)) => {
                assert_eq!(Some(&left), expected.next());
                // A wrong checksum stays wrong, in its own way; all else is what we would have made.
                assert!(
                    left.sum == Sum::Wrong || left.frame() == *frame,
                    "{frame:02x?}"
                );
            }
            Ok(None) if frame[..6] != NETS[0].phone_mac => {}
            Ok(None) if frame[12..14] == [8, 6] => {
                arp_replies += u32::from(frame[20..22] == [0, 2])
            }
            Ok(None) => echo_replies += u32::from(frame[34] == 0),
            Err(wrong) => panic!("{wrong} in {frame:02x?}"),
        }
    }
    assert_eq!(expected.next(), None, "did not leave");
    assert_eq!((arp_replies, echo_replies), (1, 1));
}
