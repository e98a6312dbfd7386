//! RTCP, on the port above and among RTP: it passes as it is, what it says can be read, and what is no compound packet
//! is dropped.

use penstock_e2e::region::{balanced, stream};
use penstock_e2e::{Lab, Sides, lab, phone_at, rtcp, rtp_packet, wait_for};
use penstock_shm::counters::Drop;
use penstock_shm::{StreamStat, TableView};
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

const CALLER: u32 = 0xa;
const CALLEE: u32 = 0xb;
/// NTP time of a sender report: seconds and their fraction.
const NTP: [u32; 2] = [0x1234_5678, 0x9abc_def0];
/// What receiver reports take of it (RFC 3550, 6.4.1, LSR).
const LSR: u32 = 0x5678_9abc;

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_be_bytes()).collect()
}

fn sender_report(ssrc: u32) -> Vec<u8> {
    words(&[0x80c8_0006, ssrc, NTP[0], NTP[1], 8000, 50, 8000])
}

/// A report on the caller's media: 64 of 256 lost, 7 in all, jitter 80; `held` units of 1/65536 s after its report.
fn receiver_report(held: u32) -> Vec<u8> {
    words(&[
        0x81c9_0007,
        CALLEE,
        CALLER,
        64 << 24 | 7,
        100,
        80,
        LSR,
        held,
    ])
}

fn bye(ssrc: u32) -> Vec<u8> {
    words(&[0x81cb_0001, ssrc])
}

/// Compound packets of which a part does not fit (RFC 3550, A.2).
fn malformed() -> Vec<Vec<u8>> {
    let report = sender_report(CALLER);
    let with = |more: &[u8]| [&report[..], more].concat();
    let mut padded = with(&bye(CALLER));
    padded[0] |= 0x20;
    vec![
        // A report that announces a block, or five, and has none.
        words(&[0x81c9_0001, CALLER]),
        words(&[0x85c8_0006, CALLER, 0, 0, 0, 0, 0]),
        // What follows is cut, too long, of another version, or no RTCP.
        with(&[0x80, 201, 0]),
        with(&words(&[0x80c9_0009, CALLER])),
        with(&words(&[0x40cb_0001, CALLER])),
        with(&words(&[0x8000_0001, CALLER])),
        // Padding before the last packet.
        padded,
    ]
}

/// A phone that says what it likes.
struct Talker {
    socket: UdpSocket,
    to: SocketAddr,
}

impl Talker {
    fn new(socket: UdpSocket, to: SocketAddr) -> Talker {
        socket
            .set_read_timeout(Some(Duration::from_secs(10)))
            .expect("a timeout");
        Talker { socket, to }
    }

    fn say(&self, packet: &[u8]) {
        self.socket.send_to(packet, self.to).expect("a packet");
    }

    /// The next packet that comes is this one.
    fn hears(&self, packet: &[u8]) {
        let mut buf = [0; 2048];
        let n = self.socket.recv(&mut buf).expect("a packet within 10 s");
        assert_eq!(buf[..n], *packet);
    }

    fn stat(&self, table: &TableView) -> StreamStat {
        stream(table, self.to).expect("the stream")
    }
}

/// Both phones of a call; `above` for their RTCP ports.
fn phones(lab: &Lab, sides: impl FnOnce([SocketAddr; 2]) -> Sides, above: bool) -> [Talker; 2] {
    let rtp = [phone_at(4000), phone_at(5000)];
    let Sides { caller, callee } = sides(rtp);
    let here = |at| if above { rtcp(at) } else { at };
    [
        Talker::new(lab.socket(here(rtp[0])), here(caller)),
        Talker::new(lab.socket(here(rtp[1])), here(callee)),
    ]
}

/// Reports in both directions, and what can be read of them.
fn reports(table: &TableView, [caller, callee]: &[Talker; 2]) {
    let report = sender_report(CALLER);
    caller.say(&report);
    callee.hears(&report);
    let held = Duration::from_millis(100);
    std::thread::sleep(held);
    // It says that it held the report for half as long: the other half is the way there and back.
    let answer = [receiver_report(65_536 / 20), bye(CALLEE)].concat();
    callee.say(&answer);
    caller.hears(&answer);

    let read = callee.stat(table).reports;
    assert_eq!((read.rtcp, read.blocks, read.byes), (1, 1, 1), "{read:?}");
    assert_eq!(
        (read.fraction_lost, read.lost, read.jitter),
        (0.25, 7, 80),
        "{read:?}"
    );
    assert!((50_000..5_000_000).contains(&read.rtt_us), "{read:?}");
    assert_eq!(read.rtt_max_us, read.rtt_us);
    let read = caller.stat(table).reports;
    assert_eq!((read.rtcp, read.blocks, read.rtt_us), (1, 0, 0), "{read:?}");
}

/// What is malformed is counted, at worker and stream, and nothing of it passes or is read.
fn nothing_malformed_passes(table: &TableView, [caller, callee]: &[Talker; 2]) {
    let (before, of_stream) = (balanced(table), caller.stat(table));
    let bad = malformed();
    bad.iter().for_each(|packet| caller.say(packet));
    let good = [sender_report(CALLER), bye(CALLER)].concat();
    caller.say(&good);
    callee.hears(&good);
    let (after, stat) = (balanced(table), caller.stat(table));
    let dropped = after.dropped(Drop::RtcpMalformed) - before.dropped(Drop::RtcpMalformed);
    assert_eq!(dropped, bad.len() as u64, "{after:?}");
    assert_eq!(after.forwarded - before.forwarded, 1);
    let reason = Drop::RtcpMalformed
        .stream_index()
        .expect("a reason of streams");
    assert_eq!(
        u64::from(stat.drops[reason] - of_stream.drops[reason]),
        dropped
    );
    assert_eq!(stat.meter.packets, of_stream.meter.packets + 1);
    assert_eq!(stat.reports.rtcp, of_stream.reports.rtcp + 1);
    assert_eq!(stat.reports.byes, of_stream.reports.byes + 1);
}

#[test]
fn on_the_port_above() {
    let lab = lab!("rtcp");
    let _plane = lab.plane();
    let _control = lab.control();
    let ng = lab.ng();
    let phones = phones(&lab, |[a, b]| ng.call("above", a, b), true);
    let table = lab.table();
    reports(&table, &phones);
    nothing_malformed_passes(&table, &phones);
}

#[test]
fn among_the_media() {
    let lab = lab!("rtcp_mux");
    let _plane = lab.plane();
    let _control = lab.control();
    let ng = lab.ng();
    let phones = phones(&lab, |[a, b]| ng.call("among", a, b), false);
    let table = lab.table();
    let media = |seqs: std::ops::RangeInclusive<u16>| {
        for seq in seqs {
            for (ssrc, from, to) in [(CALLER, 0, 1), (CALLEE, 1, 0)] {
                phones[from].say(&rtp_packet(ssrc, seq));
                phones[to].hears(&rtp_packet(ssrc, seq));
            }
        }
    };
    media(1..=20);
    reports(&table, &phones);
    media(21..=40);
    nothing_malformed_passes(&table, &phones);
    media(41..=60);
    // Reports have no place in the sequence.
    let metered = wait_for(Duration::from_secs(10), || {
        let meters = phones.iter().map(|phone| phone.stat(&table).meter);
        meters
            .into_iter()
            .all(|meter| (meter.received, meter.lost, meter.ext_seq) == (60, 0, 60))
    });
    assert!(metered, "{:?}", phones[0].stat(&table));
}
