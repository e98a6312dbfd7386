//! An attacker beside the call sends ten million packets, before, during and after the learning window, and moves
//! nothing: once a stream is locked, none of them is forwarded and no latch changes, and the phones lose nothing.
//!
//! Attacker and phones share the plane's port. What the attacker cannot do here is to send from a phone's own address
//! and port.

use penstock_e2e::feed::{Feed, records};
use penstock_e2e::frame::{Datagram, arp, read_datagrams};
use penstock_e2e::region::{Totals, endpoint, stream, worker};
use penstock_e2e::wire::{self, NOTHING, PHONE_MAC, PHONES, captures, setup};
use penstock_e2e::{PLANE_MAC, lab, local, rtp_packet, rtp_seq, wait_for};
use penstock_shm::counters::Drop;
use penstock_shm::record::hint;
use penstock_shm::{Learn, Op, StreamSpec, StreamStat, TableView};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

const PACKETS: u64 = 10_000_000;
/// Frames sent at once, some of them the phones'.
const BLOCK: usize = 1024;

const ATTACKER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0xbd];
/// What is sent in the RTP packets that are not a phone's.
const ATTACK: &[u8] = b"attack attack attack attack";

/// How the streams of a call learn whom their media comes from.
struct Call {
    learn: Learn,
    /// Whether signalling names the phones' true addresses; else only where signalling came from is known, as behind
    /// a NAT.
    signalled: bool,
}

const CALLS: [Call; 4] = [
    Call {
        learn: Learn::Off,
        signalled: true,
    },
    Call {
        learn: Learn::Immediate,
        signalled: false,
    },
    Call {
        learn: Learn::Heuristic,
        signalled: true,
    },
    Call {
        learn: Learn::Heuristic,
        signalled: false,
    },
];

/// One leg of a call: the phone, its endpoint, and the other phone.
#[derive(Clone, Copy)]
struct Leg {
    call: usize,
    phone: SocketAddr,
    local: SocketAddr,
    peer_local: SocketAddr,
    ssrc: u32,
}

fn legs() -> Vec<Leg> {
    let leg = |n: usize| {
        let port = 20_000 + 4 * (n / 2) as u16;
        let local = |side: usize| local(port + 2 * side as u16);
        Leg {
            call: n / 2,
            phone: SocketAddr::from((PHONES[n % 2], 40_000 + 2 * n as u16)),
            local: local(n % 2),
            peer_local: local(1 - n % 2),
            ssrc: 0x5000 + n as u32,
        }
    };
    (0..2 * CALLS.len()).map(leg).collect()
}

fn streams(table: &TableView) -> Vec<Op> {
    let spec = |leg: Leg| {
        let Call { learn, signalled } = CALLS[leg.call];
        // Nobody's, as a phone behind a NAT signals it.
        let private = SocketAddr::from(([198, 18, 254, 1], 4000));
        let spec = StreamSpec {
            remote: Some(if signalled { leg.phone } else { private }),
            hint: hint(leg.phone.ip(), table.info().generation),
            learn,
            signal: 1,
            clock_hz: 8000,
            ..StreamSpec::new(
                endpoint(table, leg.local, 0),
                endpoint(table, leg.peer_local, 0),
            )
        };
        Op::Set(spec)
    };
    legs().into_iter().map(spec).collect()
}

fn frame(mac: [u8; 6], from: SocketAddr, to: SocketAddr, payload: Vec<u8>) -> Vec<u8> {
    let macs = (PLANE_MAC, mac);
    let sent = wire::datagram(from, to, payload);
    Datagram { macs, ..sent }.frame()
}

/// Well-made RTP that says it is the leg's.
fn forged(leg: &Leg, n: usize) -> Vec<u8> {
    let header = &rtp_packet(leg.ssrc, (n * 7919) as u16)[..12];
    [header, ATTACK].concat()
}

/// RTCP BYE of the leg (RFC 3550, 6.6), as part of a compound packet.
fn bye(leg: &Leg) -> Vec<u8> {
    let report = [&[0x80, 201, 0, 1][..], &leg.ssrc.to_be_bytes()];
    let bye = [&[0x81, 203, 0, 1][..], &leg.ssrc.to_be_bytes()];
    [report, bye].concat().concat()
}

/// ARP that says this address is at the attacker's.
fn claim(ip: [u8; 4], is_reply: bool) -> Vec<u8> {
    let to = if is_reply { PLANE_MAC } else { [0xff; 6] };
    arp(
        (to, ATTACKER_MAC),
        1 + u8::from(is_reply),
        (ATTACKER_MAC, ip),
        (to, ip),
    )
}

/// What a frame is to be counted as once the streams are locked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Counted {
    Source,
    UnknownPort,
    Steward,
}

/// How many kinds of attack there are.
const KINDS: usize = 9;
const PORT_OF_PHONE: usize = 1;
const ANYWHERE: usize = 2;

/// Attack number `n` of this kind against a leg.
fn attack(leg: &Leg, n: usize, kind: usize) -> (Vec<u8>, Counted) {
    let with_port = |from: SocketAddr, port| SocketAddr::new(from.ip(), port);
    let to_leg = |from, payload| {
        let frame = frame(ATTACKER_MAC, from, leg.local, payload);
        (frame, Counted::Source)
    };
    let digits = (n as u32).wrapping_mul(0x9e37_79b9).to_be_bytes();
    let anywhere = SocketAddr::from(([198, 18, 128 | digits[0], digits[1]], 1024 + n as u16));
    match kind {
        0 => {
            let port = leg.phone.port() ^ (1 + n as u16 % 64);
            to_leg(with_port(leg.phone, port), forged(leg, n))
        }
        // Again and again from one source.
        PORT_OF_PHONE => to_leg(
            SocketAddr::from(([198, 18, 200, 1], leg.phone.port())),
            forged(leg, n),
        ),
        ANYWHERE => to_leg(anywhere, forged(leg, n)),
        3 => to_leg(anywhere, bye(leg)),
        // From the plane's own address, and from its other endpoint.
        4 => to_leg(leg.peer_local, forged(leg, n)),
        // A STUN binding request.
        5 => to_leg(anywhere, [&[0, 1, 0, 0][..], &[7; 16]].concat()),
        6 => {
            let to = with_port(leg.local, 1024 + (n as u16).wrapping_mul(31) % 15_000);
            let frame = frame(ATTACKER_MAC, anywhere, to, forged(leg, n));
            (frame, Counted::UnknownPort)
        }
        7 => (
            claim(PHONES[n % 2].octets(), n.is_multiple_of(3)),
            Counted::Steward,
        ),
        _ => (
            claim([198, 18, 0, 1], n.is_multiple_of(3)),
            Counted::Steward,
        ),
    }
}

/// Attack frames, made once and sent again and again.
struct Volley {
    records: Vec<u8>,
    frames: u64,
    wrong_source: u64,
    unknown_port: u64,
}

impl Volley {
    /// As many frames, of these kinds, against these legs.
    fn new(legs: &[Leg], kinds: &[usize], frames: usize) -> Volley {
        let one = |i: usize| {
            attack(
                &legs[i / kinds.len() % legs.len()],
                i / kinds.len(),
                kinds[i % kinds.len()],
            )
        };
        let (sent, counted): (Vec<_>, Vec<_>) = (0..frames).map(one).unzip();
        let count = |of| counted.iter().filter(|counted| **counted == of).count() as u64;
        Volley {
            records: records(sent),
            frames: frames as u64,
            wrong_source: count(Counted::Source),
            unknown_port: count(Counted::UnknownPort),
        }
    }
}

/// The port, with phones and the attacker behind it.
struct Link<'a> {
    feed: Feed,
    legs: &'a [Leg],
    /// Sequence number of the phones' last packets.
    seq: u16,
    /// Frames sent.
    sent: u64,
    /// Of the attacker.
    attacks: u64,
}

impl Link<'_> {
    fn attack(&mut self, volley: &Volley) {
        self.feed.send(&volley.records);
        self.sent += volley.frames;
        self.attacks += volley.frames;
    }

    /// Each phone says one packet.
    fn talk(&mut self) {
        self.seq += 1;
        let say = |leg: &Leg| {
            frame(
                PHONE_MAC,
                leg.phone,
                leg.local,
                rtp_packet(leg.ssrc, self.seq),
            )
        };
        self.feed.send(&records(self.legs.iter().map(say)));
        self.sent += self.legs.len() as u64;
    }

    /// Goes on with these attacks, and so much talk before each, until `what` holds: a worker that gets nothing waits inside its driver, and the steward
    /// for the worker.
    fn until(&mut self, what: &str, volley: &Volley, talk: usize, mut holds: impl FnMut() -> bool) {
        let end = Instant::now() + Duration::from_secs(20);
        while !holds() {
            assert!(Instant::now() < end, "not in 20 s: {what}");
            (0..talk).for_each(|_| self.talk());
            self.attack(volley);
        }
    }

    /// Waits until the plane has read all that was sent.
    fn settle(&self, table: &TableView) {
        let read = || worker(table, 0).rx == self.sent;
        let all = wait_for(Duration::from_secs(120), read);
        assert!(all, "{} sent: {:?}", self.sent, worker(table, 0));
    }
}

fn stats(table: &TableView, legs: &[Leg]) -> Vec<StreamStat> {
    let of = |leg: &Leg| stream(table, leg.local).expect("the stream");
    legs.iter().map(of).collect()
}

fn all_locked(table: &TableView, legs: &[Leg]) -> bool {
    stats(table, legs).iter().all(|stream| stream.policy.locked)
}

#[test]
fn ten_million_packets_move_nothing() {
    let lab = lab!("attack", setup(NOTHING));
    lab.install_beforehand(streams);

    let (input, output) = (lab.dir().join("in"), lab.dir().join("out.pcap"));
    let legs = legs();
    let mut link = Link {
        feed: Feed::new(&input),
        legs: &legs,
        seq: 0,
        sent: 0,
        attacks: 0,
    };
    lab.configure(&setup(&captures(&[&input], &[&output])));
    lab.edit(
        "[control]\n",
        "[learning]\nwindow_packets = 1000000\n[control]\n",
    );
    let mut plane = lab.plane();
    link.feed.started();
    let table = lab.table();

    before_and_during(&mut link, &table);
    let quiet_from = link.seq;
    after(&mut link, &table);
    assert!(link.attacks >= PACKETS, "{}", link.attacks);
    drop(link.feed);
    plane.stop_well();
    check_output(&read_datagrams(&output), &legs, quiet_from, link.seq);
}

/// Attacks before the phones say a word, and while their streams learn; ends when all are locked to the phones.
fn before_and_during(link: &mut Link<'_>, table: &TableView) {
    let legs = link.legs;
    let all: Vec<usize> = (0..KINDS).collect();
    let against_locked = Volley::new(&legs[..2], &all, BLOCK);
    while link.attacks < PACKETS / 5 {
        link.attack(&against_locked);
    }
    // Streams that learn by heuristics prefer the phone as long as the window is open: 3 s, however many packets come.
    link.attack(&Volley::new(
        &legs[4..],
        &[PORT_OF_PHONE, ANYWHERE],
        64 * Feed::WHOLE,
    ));
    link.until("an attacker is adopted", &against_locked, 0, || {
        stats(table, &legs[4..])
            .iter()
            .any(|stream| stream.policy.latched)
    });
    assert!(
        !stats(table, &legs[2..])
            .iter()
            .any(|stream| stream.policy.locked)
    );
    // Whoever comes first has a stream that learns at once.
    link.until(
        "the phones are adopted",
        &against_locked,
        Feed::WHOLE / legs.len(),
        || {
            let stats = stats(table, legs);
            let mut both = legs.iter().zip(&stats);
            both.all(|(leg, stream)| stream.policy.remote == Some(leg.phone))
        },
    );
    assert!(!all_locked(table, legs), "nothing learns any more");

    let against_all = Volley::new(legs, &all, BLOCK - legs.len());
    while link.attacks < 2 * PACKETS / 5 {
        link.talk();
        link.attack(&against_all);
    }
    link.until("all are locked", &against_locked, 0, || {
        all_locked(table, legs)
    });
    for (leg, stream) in legs.iter().zip(stats(table, legs)) {
        assert_eq!(stream.policy.remote, Some(leg.phone), "{stream:?}");
    }
    link.settle(table);
}

/// Attacks on locked streams: counted, and nothing else.
fn after(link: &mut Link<'_>, table: &TableView) {
    let legs = link.legs;
    let (first, first_stats, first_seq) = (worker(table, 0), stats(table, legs), link.seq);
    let all: Vec<usize> = (0..KINDS).collect();
    let volley = Volley::new(legs, &all, BLOCK - legs.len());
    let mut volleys = 0;
    while link.attacks < PACKETS {
        link.talk();
        link.attack(&volley);
        volleys += 1;
    }
    link.settle(table);
    let last = worker(table, 0);
    let more = |of: fn(&Totals) -> u64| of(&last) - of(&first);
    let dropped = |reason| last.dropped(reason) - first.dropped(reason);
    let said = u64::from(link.seq - first_seq);
    assert_eq!(more(|w| w.forwarded), said * legs.len() as u64, "{last:?}");
    assert_eq!(
        dropped(Drop::Source),
        volleys * volley.wrong_source,
        "{last:?}"
    );
    assert_eq!(
        dropped(Drop::NoStream) + dropped(Drop::Flood),
        volleys * volley.unknown_port,
        "{last:?}"
    );
    let accounted = more(|w| w.forwarded + w.consumed + w.handed_over + w.dropped_at_all());
    assert_eq!(more(|w| w.rx), accounted, "{last:?}");
    assert_eq!(more(|w| w.rx), volleys * BLOCK as u64, "{last:?}");

    for (was, is) in first_stats.iter().zip(stats(table, legs)) {
        assert_eq!(was.policy, is.policy, "a latch moved");
        assert_eq!(is.meter.packets - was.meter.packets, said, "{is:?}");
        assert_eq!(
            (is.meter.lost, is.meter.ssrc),
            (was.meter.lost, was.meter.ssrc),
            "{is:?}"
        );
    }
}

/// From the phones' packet `quiet_from` on nothing leaves that is not a phone's, and what they say is whole; a stream
/// that learns nothing never lets anything else out.
fn check_output(datagrams: &[Datagram], legs: &[Leg], quiet_from: u16, last: u16) {
    let mut heard: Vec<Vec<u16>> = vec![Vec::new(); legs.len()];
    let mut quiet = false;
    for left in datagrams {
        let n = legs
            .iter()
            .position(|leg| leg.peer_local == left.from)
            .expect("a leg");
        let seq = rtp_seq(&left.payload);
        let is_phones = left.payload == rtp_packet(legs[n].ssrc, seq);
        quiet |= is_phones && seq > quiet_from;
        let is_strict = CALLS[legs[n].call].learn == Learn::Off;
        assert!(is_phones || !(quiet || is_strict), "of leg {n}: {left:?}");
        if is_phones && (quiet || is_strict) {
            assert_eq!(left.macs, (PHONE_MAC, PLANE_MAC));
            heard[n].push(seq);
        }
    }
    for (leg, heard) in legs.iter().zip(heard) {
        let from = if CALLS[leg.call].learn == Learn::Off {
            0
        } else {
            quiet_from
        };
        assert!(
            heard.into_iter().eq(from + 1..=last),
            "{} lost packets",
            leg.phone
        );
    }
}
