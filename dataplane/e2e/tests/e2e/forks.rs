//! Copies of what passes at an endpoint, for whoever subscribed to it; driven through the region.

use penstock_e2e::frame::{Sum, read_datagrams, write_capture};
use penstock_e2e::region::{balanced, dropped_of, endpoint, lost, stream, totals};
use penstock_e2e::{
    Lab, PLANE6, Phone, Setup, converse, lab, local, meanwhile, meet, phone_at, phone6_at,
    rtp_packet, rtp_seq, wait_for, wire,
};
use penstock_shm::counters::Drop;
use penstock_shm::{Feed, Feeding, Learn, Op, StreamSpec, TableView};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

const CALL: u64 = 1;

/// The two endpoints of the call, and those of its forks.
const A: u16 = 20_000;
const B: u16 = 20_002;
const FORKS: [u16; 2] = [20_010, 20_012];

fn spec(table: &TableView, at: u16, peer: u16, remote: SocketAddr) -> StreamSpec {
    let end = |port| endpoint(table, local(port), 0);
    StreamSpec {
        remote: Some(remote),
        learn: Learn::Off,
        signal: 1,
        ..StreamSpec::new(end(at), end(peer))
    }
}

/// The call's streams, from and to the two phones.
fn call(table: &TableView, [a, b]: [SocketAddr; 2]) -> [StreamSpec; 2] {
    [spec(table, A, B, a), spec(table, B, A, b)]
}

/// A fork of what passes at A, from this endpoint to there.
fn fork(table: &TableView, at: SocketAddr, remote: SocketAddr) -> [Op; 2] {
    let own = endpoint(table, at, 0);
    let spec = StreamSpec {
        remote: Some(remote),
        learn: Learn::Off,
        signal: 1,
        ..StreamSpec::new(own, own)
    };
    let feeding = Feeding {
        endpoint: own,
        feed: Feed::CopyOf(endpoint(table, local(A), 0)),
        mid: None,
        drop_events: false,
        pierce: false,
    };
    [Op::Set(spec), Op::Feed(feeding)]
}

/// A lab's phones: two that talk, two that listen.
fn phones(lab: &Lab) -> ([Phone; 2], [Phone; 2]) {
    let phone = |port, ssrc| Phone::new(lab, phone_at(port), ssrc);
    let talk = [phone(30_000, 0xa), phone(30_002, 0xb)];
    (talk, [phone(31_000, 0xc), phone(31_002, 0xd)])
}

fn install(lab: &Lab, table: &TableView, talk: &[Phone; 2], subscribers: &[Phone; 2]) {
    let call = call(table, [talk[0].at(), talk[1].at()]).map(Op::Set);
    let forks = FORKS.into_iter().zip(subscribers);
    let forks = forks.flat_map(|(at, phone)| fork(table, local(at), phone.at()));
    lab.install(CALL, &call.into_iter().chain(forks).collect::<Vec<_>>());
}

/// The first packet of each, which may wait for its next hop.
fn begin(talk: &mut [Phone; 2], subscribers: &mut [Phone]) {
    let [a, b] = talk;
    meet(a, local(A), b, local(B));
    for phone in subscribers {
        phone.listen_for(|heard| heard.rtp.contains_key(&0xa));
    }
}

#[test]
fn subscribers_hear_all_of_it() {
    let lab = lab!("forks", Setup::six());
    let _plane = lab.plane();
    lab.six();
    let table = lab.table();
    let (mut talk, subscribers) = phones(&lab);
    install(&lab, &table, &talk, &subscribers);
    let mut all = Vec::from(subscribers);
    all.push(Phone::new(&lab, phone6_at(31_004), 0xe));
    let at6 = SocketAddr::new(PLANE6.parse().expect("an address"), 20_014);
    lab.install(CALL, &fork(&table, at6, all[2].at()));
    begin(&mut talk, &mut all);
    let [a, b] = &mut talk;
    converse(a, local(A), b, local(B), 300);
    b.heard_all(0xa, 1, 301);
    a.heard_all(0xb, 1, 301);
    for phone in &mut all {
        phone.heard_all(0xa, 1, 301);
    }
    // RTCP too; and what a subscriber reports goes nowhere.
    a.report(local(A));
    for phone in &mut all {
        phone.listen_for(|heard| heard.rtcp.contains_key(&0xa));
    }
    let ends = [local(FORKS[0]), local(FORKS[1]), at6];
    for (phone, at) in all.iter_mut().zip(ends) {
        phone.forget();
        phone.report(at);
        phone.report(at);
    }
    let sum = lab.balanced();
    assert_eq!((sum.forwarded, sum.copied), (602 + 1 + 3 * 302, 3 * 302));
    assert_eq!(lost(&table), 0);
    for (phone, at) in all.iter_mut().zip(ends) {
        let stat = stream(&table, at).expect("the fork");
        assert_eq!(stat.copied, (302, 301 * 172 + 28));
        assert_eq!((stat.meter.packets, stat.reports.rtcp), (2, 2), "{stat:?}");
        assert_eq!(phone.listen().rtcp.len(), 0);
    }
    assert_eq!(a.listen().rtcp.len() + b.listen().rtp.len(), 1);
}

#[test]
fn one_that_leaves_takes_nothing_from_the_other() {
    let lab = lab!("forks_leave", Setup::six());
    let _plane = lab.plane();
    let table = lab.table();
    let (mut talk, mut subscribers) = phones(&lab);
    install(&lab, &table, &talk, &subscribers);
    begin(&mut talk, &mut subscribers);
    let first = endpoint(&table, local(FORKS[0]), 0);
    let again = fork(&table, local(FORKS[0]), subscribers[0].at());
    let [a, b] = &mut talk;
    meanwhile(
        || {
            a.talk(local(A));
            std::thread::sleep(Duration::from_millis(2));
        },
        || {
            for _ in 0..20 {
                std::thread::sleep(Duration::from_millis(20));
                lab.install(CALL, &[Op::Remove(first)]);
                std::thread::sleep(Duration::from_millis(20));
                lab.install(CALL, &again);
            }
        },
    );
    let last = a.sent();
    b.heard_all(0xa, 1, last);
    subscribers[1].heard_all(0xa, 1, last);
    lab.settle();
    let heard = subscribers[0].listen().rtp[&0xa].clone();
    assert!(heard.is_sorted() && heard.len() > 20 && heard.len() < usize::from(last) - 20);
    lab.balanced();
    assert_eq!(lost(&table), 0);
}

#[test]
fn a_plane_that_is_killed_copies_on() {
    let lab = lab!("forks_killed", Setup::six());
    let plane = lab.plane();
    let table = lab.table();
    let (mut talk, mut subscribers) = phones(&lab);
    install(&lab, &table, &talk, &subscribers);
    begin(&mut talk, &mut subscribers);
    plane.kill();
    let _plane = lab.plane();
    let from = talk[0].sent() + 1;
    for phone in &mut subscribers {
        phone.forget();
    }
    begin(&mut talk, &mut subscribers);
    let [a, b] = &mut talk;
    b.forget();
    converse(a, local(A), b, local(B), 100);
    for phone in &mut subscribers {
        phone.heard_all(0xa, from, from + 100);
    }
    let copies = stream(&table, local(FORKS[1])).expect("the fork").copied.0;
    assert_eq!(copies, 102);
}

#[test]
fn what_does_not_pass_is_not_copied_and_a_parent_may_come_back() {
    let lab = lab!("forks_gate", Setup::six());
    let _plane = lab.plane();
    let table = lab.table();
    let (mut talk, mut subscribers) = phones(&lab);
    install(&lab, &table, &talk, &subscribers);
    begin(&mut talk, &mut subscribers);
    let [open, there] = call(&table, [talk[0].at(), talk[1].at()]);
    let closed = StreamSpec {
        gate_open: false,
        ..open
    };
    lab.install(CALL, &[Op::Set(closed)]);
    talk[0].talk(local(A));
    let sum = lab.balanced();
    assert_eq!((sum.copied, sum.dropped(Drop::GateClosed)), (2, 1));
    // Gone for good, and there again: those it feeds are linked again by themselves.
    lab.install(CALL, &[Op::Remove(open.endpoint)]);
    talk[0].talk(local(A));
    assert_eq!(lab.balanced().copied, 2);
    lab.install(CALL, &[Op::Set(open)]);
    talk[0].talk(local(A));
    for phone in &mut subscribers {
        let heard = phone.listen_for(|heard| heard.rtp[&0xa].len() >= 2);
        assert_eq!(heard.rtp[&0xa], [1, 4]);
    }
    // Nobody at the other end: what is published is for the subscribers alone.
    let nobody = StreamSpec {
        remote: None,
        ..there
    };
    let before = lab.balanced();
    lab.install(CALL, &[Op::Set(nobody)]);
    talk[0].talk(local(A));
    for phone in &mut subscribers {
        phone.listen_for(|heard| heard.rtp[&0xa].len() >= 3);
    }
    let after = lab.balanced();
    assert_eq!(after.forwarded - before.forwarded, 2);
    assert_eq!(lost(&table), 0);
    assert_eq!(stream(&table, local(A)).expect("A").meter.packets, 2);
}

#[test]
fn events_that_are_blocked_are_dropped() {
    let lab = lab!("forks_events", Setup::six());
    let _plane = lab.plane();
    let table = lab.table();
    let (mut talk, mut subscribers) = phones(&lab);
    install(&lab, &table, &talk, &subscribers);
    begin(&mut talk, &mut subscribers);
    let [open, _] = call(&table, [talk[0].at(), talk[1].at()]);
    let own = Feeding {
        endpoint: open.endpoint,
        feed: Feed::Own,
        mid: None,
        drop_events: true,
        pierce: false,
    };
    let event_type = 101;
    let open = StreamSpec { event_type, ..open };
    let mut event = rtp_packet(0xa, 2);
    event[1] = event_type;
    event.truncate(16);
    lab.install(CALL, &[Op::Set(open)]);
    talk[0].send(&event, local(A));
    lab.balanced();
    assert_eq!(lost(&table), 0);
    lab.install(CALL, &[Op::Set(open), Op::Feed(own)]);
    for _ in 0..3 {
        talk[0].send(&event, local(A));
    }
    talk[0].talk(local(A));
    let sum = lab.balanced();
    assert_eq!((sum.dropped(Drop::Event), lost(&table)), (3, 3));
    assert_eq!(sum.copied, 2 * 3);
    let stat = stream(&table, local(A)).expect("A");
    assert_eq!(dropped_of(&stat, Drop::Event), 3);
}

const PACKETS: u16 = 200;

/// As many forks as there may be, and a part that shares the parent's endpoint.
fn crowd(table: &TableView) -> Vec<Op> {
    let [mut parent, there] = wire::pair(table, A, B);
    parent.payload_types = 1;
    let [mut part, other] = wire::pair(table, A + 2_000, B + 2_000);
    (part.payload_types, part.media) = (1 << 96, 1);
    let feeding = Feeding {
        endpoint: part.endpoint,
        feed: Feed::PartOf(parent.endpoint),
        mid: None,
        drop_events: false,
        pierce: false,
    };
    let streams = [parent, there, part, other].map(Op::Set);
    let forks = (0..8).flat_map(|n| fork(table, local(21_000 + n), wire::phone(40_000 + n)));
    let all = streams.into_iter().chain([Op::Feed(feeding)]);
    all.chain(forks).collect()
}

/// Whole bursts make nine times as many packets; and they come in at both workers, as a wayward RSS would have it.
#[test]
fn bursts_of_two_workers_are_copied_and_divided() {
    let lab = lab!("forks_two", wire::setup_two(wire::NOTHING));
    lab.install_beforehand(crowd);
    let file = |name: &str| lab.dir().join(name);
    let frame = |payload_type, seq| {
        let mut packet = rtp_packet(payload_type, seq);
        packet[1] = payload_type as u8;
        wire::datagram(wire::phone(A), local(A), packet).frame()
    };
    for (name, first) in [("odd", 1), ("even", 2)] {
        let seqs = (first..=PACKETS).step_by(2);
        let both = seqs.flat_map(|seq| [frame(0, seq), frame(96, seq)]);
        write_capture(&file(name), both);
    }
    let out = [file("out0"), file("out1")];
    let device = wire::captures(&[&file("odd"), &file("even")], &[&out[0], &out[1]]);
    lab.configure(&wire::setup_two(&device));
    let mut plane = lab.plane();
    let table = lab.table();
    let all = u64::from(PACKETS);
    let done = wait_for(Duration::from_secs(20), || {
        totals(&table).forwarded == 10 * all
    });
    assert!(done, "{:?}", totals(&table));
    let sum = balanced(&table);
    assert_eq!((sum.copied, sum.dropped_at_all()), (8 * all, 0), "{sum:?}");
    assert_eq!(sum.rx - sum.handed_over, 2 * all);
    for at in [A, A + 2_000] {
        assert_eq!(stream(&table, local(at)).expect("it").meter.packets, all);
    }
    plane.stop_well();
    let mut left = BTreeMap::<u16, Vec<u16>>::new();
    for packet in out.iter().flat_map(|path| read_datagrams(path)) {
        assert_eq!(packet.sum, Sum::Right);
        left.entry(packet.to.port())
            .or_default()
            .push(rtp_seq(&packet.payload));
    }
    let ends = (40_000..40_008).chain([B, B + 2_000]);
    assert_eq!(left.len(), 10);
    for end in ends {
        let mut seqs = left.remove(&end).expect("a phone");
        seqs.sort_unstable();
        assert_eq!(seqs, (1..=PACKETS).collect::<Vec<_>>(), "{end}");
    }
}
