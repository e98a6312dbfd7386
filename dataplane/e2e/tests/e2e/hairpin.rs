//! Calls that pass through the same plane twice: a leg of one names an endpoint of the other. What goes between the two
//! leaves no port, and what would go round for ever ends.

use penstock_e2e::feed::{Feed, records};
use penstock_e2e::frame::{Datagram, read_capture, write_capture};
use penstock_e2e::region::{balanced, endpoint, stream, totals, worker};
use penstock_e2e::wire;
use penstock_e2e::{
    Lab, PLANE, Phone, Setup, Sides, Signal, converse, lab, meet, phone_at, rtcp, rtp_packet, sdp,
    wait_for,
};
use penstock_shm::counters::Drop;
use penstock_shm::{Learn, Op, StreamSpec, TableView};
use serde_json::json;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// Further addresses of the plane: at the same port, of the other IP version, at a port without any wire, in a VLAN.
const SECOND: &str = "198.18.0.2";
const SIX: &str = "fd00::1";
const OTHER: &str = "198.19.0.1";
const TAGGED: &str = "198.20.0.1";
const SOON: Duration = Duration::from_secs(20);

fn setup() -> Setup {
    let mut setup = Setup::default();
    setup.port += &format!(
        "[[port.address]]\naddress = \"{SECOND}/16\"\n[[port.address]]\naddress = \"{SIX}/64\"\n\
         [[port]]\nname = \"other\"\ndevice = \"net_null0,no-rx=1\"\n[[port.address]]\naddress = \"{OTHER}/16\"\n\
         [[port.address]]\naddress = \"{TAGGED}/16\"\nvlan = 20\n"
    );
    let interfaces = [
        ("second", SECOND, 0),
        ("six", SIX, 0),
        ("other", OTHER, 0),
        ("tagged", TAGGED, 20),
    ];
    for (name, address, vlan) in interfaces {
        setup.port += &format!(
            "[[control.interface]]\nname = \"{name}\"\naddress = \"{address}\"\nvlan = {vlan}\nports = \"16384-32767\"\n"
        );
    }
    setup
}

/// As many calls in a row as there are interfaces between them, from one phone to another: each offer is made of the one
/// before, and each answer of the one behind. The sides of each call.
fn chain(lab: &Lab, name: &str, [a, b]: [SocketAddr; 2], between: &[&str]) -> Vec<Sides> {
    let ng = lab.ng();
    let ways: Vec<&str> = [&["default"], between, &["default"]].concat();
    let mut callees = Vec::new();
    let mut caller = a;
    for (i, way) in ways.windows(2).enumerate() {
        let id = format!("{name}{i}");
        caller = ng
            .offer_with(&id, &sdp(caller), "direction", json!(way))
            .expect("an offer");
        callees.push(caller);
    }
    let mut callee = b;
    let mut sides = Vec::new();
    for (i, &callee_side) in callees.iter().enumerate().rev() {
        callee = ng.answer(&format!("{name}{i}"), callee).expect("an answer");
        sides.push(Sides {
            caller: callee,
            callee: callee_side,
        });
    }
    sides.reverse();
    sides
}

/// A chain that carries media both ways, RTCP with it: once, in order, and counted as one packet that every endpoint saw.
fn carries(lab: &Lab, name: &str, port: u16, between: &[&str]) {
    let table = lab.table();
    let before = lab.balanced();
    let mut phones =
        [(port, 0xa), (port + 2, 0xb)].map(|(port, ssrc)| Phone::new(lab, phone_at(port), ssrc));
    let mut reports = [(port + 1, 0xa), (port + 3, 0xb)]
        .map(|(port, ssrc)| Phone::new(lab, phone_at(port), ssrc));
    let ends = [phones[0].at(), phones[1].at()];
    let sides = chain(lab, name, ends, between);
    let (first, last) = (sides[0], sides[sides.len() - 1]);
    let [a, b] = &mut phones;
    meet(a, first.caller, b, last.callee);
    converse(a, first.caller, b, last.callee, 300);
    a.heard_all(0xb, 1, 301);
    b.heard_all(0xa, 1, 301);
    // One by one: a stream asks for its lock anew if the one of its peer came in between.
    for i in 1..=20 {
        reports[0].report(rtcp(first.caller));
        reports[1].report(rtcp(last.callee));
        let all: Vec<u32> = (1..=i).collect();
        for (phone, ssrc) in reports.iter_mut().zip([0xb, 0xa]) {
            let heard =
                phone.listen_for(|heard| heard.rtcp.get(&ssrc).map_or(0, Vec::len) >= all.len());
            assert_eq!((heard.rtcp.get(&ssrc), heard.changed), (Some(&all), 0));
        }
    }
    let after = lab.balanced();
    assert_eq!(after.forwarded - before.forwarded, 2 * (301 + 20));
    assert_eq!(after.drops, before.drops);
    // Every leg's remote: what signalling named, and that locked at once.
    let mut remotes = vec![ends[0]];
    for pair in sides.windows(2) {
        remotes.extend([pair[1].caller, pair[0].callee]);
    }
    remotes.push(ends[1]);
    let locals = sides.iter().flat_map(|sides| [sides.caller, sides.callee]);
    for (local, remote) in locals.zip(remotes) {
        for (local, remote, count) in [(local, remote, 301), (rtcp(local), rtcp(remote), 20)] {
            let is_tagged = local.ip().to_string() == TAGGED;
            let endpoint = endpoint(&table, local, if is_tagged { 20 } else { 0 });
            let number = table.find(endpoint).expect("the stream");
            let of = || table.stream(number).expect("its record");
            let is_locked = wait_for(SOON, || of().policy.locked);
            let stream = of();
            assert_eq!(stream.meter.packets, count, "{stream:?}");
            assert_eq!(stream.policy.remote, Some(remote), "{stream:?}");
            assert!(is_locked, "{stream:?}");
        }
    }
}

#[test]
fn two_calls_through_one_plane_are_one_way_for_media() {
    let lab = lab!("hairpin", setup());
    lab.run("sysctl", &["-qw", "net.ipv6.conf.default.disable_ipv6=1"]);
    let _plane = lab.plane();
    let _control = lab.control();
    carries(&lab, "same", 4000, &["default"]);
    carries(&lab, "address", 4100, &["second"]);
    carries(&lab, "version", 4200, &["six"]);
    carries(&lab, "port", 4300, &["other"]);
    carries(&lab, "vlan", 4500, &["tagged"]);
    // As many endpoints as a packet may cross.
    carries(&lab, "four", 4400, &["other", "six", "second"]);
}

#[test]
fn what_goes_round_ends_and_harms_nobody() {
    let lab = lab!("hairpin-circle", setup());
    lab.run("sysctl", &["-qw", "net.ipv6.conf.default.disable_ipv6=1"]);
    let plane = lab.plane();
    let _control = lab.control();
    let table = lab.table();
    let mut a = Phone::new(&lab, phone_at(4000), 0xa);
    let mut b = Phone::new(&lab, phone_at(4002), 0xb);
    let good = lab.ng().call("good", a.at(), b.at());
    meet(&mut a, good.caller, &mut b, good.callee);

    // One call more than a packet may cross.
    let mut far = Phone::new(&lab, phone_at(5000), 0xc);
    let nobody = phone_at(5002);
    let five = ["default", "second", "six", "other"];
    let entry = chain(&lab, "five", [far.at(), nobody], &five)[0].caller;
    for _ in 0..200 {
        far.talk(entry);
        penstock_e2e::exchange(&mut a, good.caller, &mut b, good.callee);
    }
    wait_for(SOON, || totals(&table).dropped_at_all() == 200);
    let sum = lab.balanced();
    assert_eq!(sum.dropped(Drop::Loop), 200, "{sum:?}");
    let at_streams = table.iter().map(|stream| {
        let drops = stream.drops;
        drops[Drop::Loop.stream_index().expect("its place")]
    });
    assert_eq!(at_streams.sum::<u32>(), 200);
    assert_eq!(sum.dropped_at_all(), 200, "{sum:?}");

    // A true circle: two calls, each of whose legs is a leg of the other. It lets a stranger in only until its streams
    // are locked to each other.
    let ng = lab.ng();
    let (x, y) = (ng.call("x", nobody, nobody), ng.call("y", nobody, nobody));
    let anew = |id: &str, caller: SocketAddr, callee: SocketAddr| {
        let sides = ng.call(id, caller, callee);
        assert!([x, y].contains(&sides), "ports stay");
    };
    anew("x", y.callee, y.caller);
    anew("y", x.callee, x.caller);
    plane.signal(Signal::STOP);
    for _ in 0..100 {
        far.talk(x.caller);
        a.talk(good.caller);
        b.talk(good.callee);
    }
    plane.signal(Signal::CONT);
    let ended = wait_for(SOON, || totals(&table).dropped_at_all() == 300);
    let sum = lab.balanced();
    assert!(ended, "{sum:?}");
    assert!(sum.dropped(Drop::Loop) > 200, "{sum:?}");
    let source = sum.dropped(Drop::Source);
    assert_eq!(sum.dropped(Drop::Loop) + source, 300, "{sum:?}");
    a.heard_all(0xb, 1, 301);
    b.heard_all(0xa, 1, 301);
}

const PAIRS: u16 = 8;
const PACKETS: u16 = 100;
const FORGED: u16 = 10;

fn two_workers(device: &str) -> Setup {
    let port = format!(
        "device = \"{device}\"\nmac = \"02:70:73:00:00:01\"\n[[port.address]]\naddress = \"{PLANE}/16\"\n\
         [[port.neighbour]]\naddress = \"198.18.2.1\"\nmac = \"02:00:00:00:00:01\"\n\
         [[port]]\nname = \"other\"\ndevice = \"net_null1,no-rx=1\"\n[[port.address]]\naddress = \"{OTHER}/16\"\n"
    );
    Setup {
        port,
        cores: "[0, 1]",
        ..Setup::default()
    }
}

/// The four endpoints on the way of pair `n`: in at the first, from the second to the third, out by the fourth.
fn way(n: u16) -> [SocketAddr; 4] {
    let at = |ip: &str, port: u16| {
        let ip: IpAddr = ip.parse().expect("an address");
        SocketAddr::new(ip, 20_000 + 8 * n + port)
    };
    [at(PLANE, 0), at(OTHER, 2), at(PLANE, 4), at(PLANE, 6)]
}

fn phone(port: u16) -> SocketAddr {
    SocketAddr::from(([198, 18, 2, 1], port))
}

/// Both calls of every pair.
fn pairs(table: &TableView) -> Vec<Op> {
    let of_pair = |n: u16| {
        let [a1, a2, b1, b2] = way(n);
        let set = |at, peer, remote| {
            Op::Set(StreamSpec {
                capture: n == 0,
                remote: Some(remote),
                learn: Learn::Off,
                signal: 1,
                // By a clock as fast as video's, packets that come at once are near their time: usual ones.
                clock_hz: 90_000,
                ..StreamSpec::new(endpoint(table, at, 0), endpoint(table, peer, 0))
            })
        };
        let (near, far) = (phone(a1.port()), phone(b2.port()));
        [
            set(a1, a2, near),
            set(a2, a1, b1),
            set(b1, b2, a2),
            set(b2, b1, far),
        ]
    };
    (0..PAIRS).flat_map(of_pair).collect()
}

fn frame(from: SocketAddr, to: SocketAddr, n: u16, seq: u16) -> Vec<u8> {
    wire::datagram(from, to, rtp_packet(n.into(), seq)).frame()
}

/// What left of each pair, by number, each packet unchanged.
fn left(captures: &[PathBuf]) -> BTreeMap<u16, Vec<u16>> {
    let mut left: BTreeMap<u16, Vec<u16>> = BTreeMap::new();
    for frame in captures.iter().flat_map(|path| read_capture(path)) {
        let Some(datagram) = Datagram::parse(&frame).expect("a sound frame") else {
            continue;
        };
        let n = (datagram.to.port() - 20_000) / 8;
        let out = way(n)[3];
        assert_eq!((datagram.from, datagram.to), (out, phone(out.port())));
        let seq = u16::from_be_bytes([datagram.payload[2], datagram.payload[3]]);
        assert_eq!(datagram.payload, rtp_packet(n.into(), seq));
        left.entry(n).or_default().push(seq);
    }
    assert_eq!(left.len(), usize::from(PAIRS));
    left
}

fn entering(n: u16, seq: u16) -> Vec<u8> {
    let way = way(n);
    frame(phone(way[0].port()), way[0], n, seq)
}

/// A packet that a port receives, and that claims to be the first call's for the second.
fn forged(n: u16, seq: u16) -> Vec<u8> {
    let way = way(n);
    frame(way[1], way[2], n, seq)
}

#[test]
fn whichever_worker_has_it_it_arrives_and_who_forges_our_address_does_not() {
    let lab = lab!("hairpin-workers", two_workers("net_null0,no-rx=1"));
    let mut plane = lab.plane();
    lab.install(1, &pairs(&lab.table()));
    plane.stop_well();

    // Odd packets at one queue, even ones at the other.
    let file = |name: &str| lab.dir().join(name);
    for (name, first) in [("odd", 1), ("even", 2)] {
        let good = (first..=PACKETS).step_by(2);
        let good = good.flat_map(|seq| (0..PAIRS).map(move |n| entering(n, seq)));
        let bad = (0..FORGED).flat_map(|seq| (0..PAIRS).map(move |n| forged(n, seq)));
        write_capture(&file(name), bad.clone().chain(good).chain(bad));
    }
    let device = format!(
        "net_pcap0,rx_pcap={},rx_pcap={},tx_pcap={},tx_pcap={}",
        file("odd").display(),
        file("even").display(),
        file("out0").display(),
        file("out1").display()
    );
    lab.configure(&two_workers(&device));
    let mut plane = lab.plane();
    let table = lab.table();
    let all = u64::from(PAIRS) * u64::from(PACKETS);
    let bad = 4 * u64::from(FORGED) * u64::from(PAIRS);
    let done = wait_for(SOON, || {
        let sum = totals(&table);
        sum.forwarded + sum.dropped_at_all() == all + bad
    });
    let sum = balanced(&table);
    assert!(done, "{sum:?}");
    assert_eq!(
        (sum.forwarded, sum.dropped(Drop::Source)),
        (all, bad),
        "{sum:?}"
    );
    assert_eq!(sum.rx, all + bad + sum.handed_over, "{sum:?}");
    assert!(sum.handed_over >= all / 2, "{sum:?}");
    // Captured at both endpoints, as it comes and as it leaves.
    let copies = table.workers().into_iter();
    let copies: u64 = copies.map(|w| w.captured + w.capture_lost).sum();
    assert_eq!(copies, 4 * u64::from(PACKETS), "{sum:?}");
    let mut owned = [0; 2];
    for [a1, _, b1, _] in (0..PAIRS).map(way) {
        let of = |at| stream(&table, at).expect("the stream").meter;
        assert_eq!([of(a1).packets, of(b1).packets], [u64::from(PACKETS); 2]);
        owned[of(b1).owner.expect("its owner")] += u64::from(PACKETS);
    }
    assert_eq!([0, 1].map(|n| worker(&table, n).forwarded), owned);
    plane.stop_well();

    let left = left(&[file("out0"), file("out1")]);
    for (n, seqs) in left {
        for parity in 0..2 {
            let seqs = seqs.iter().copied().filter(|seq| seq % 2 == parity);
            let sent = (1..=PACKETS).filter(|seq| seq % 2 == parity);
            assert!(seqs.eq(sent), "pair {n}");
        }
    }
}

/// The first packets come in at worker 0, all others at worker 1, which is given the first calls' streams, and then has
/// packets for the second calls'.
#[test]
fn what_a_worker_delivers_goes_to_the_owner_until_that_is_it() {
    const FIRST: u16 = 64;
    const ALL: u16 = 600;
    let lab = lab!("hairpin-moves", two_workers("net_null0,no-rx=1"));
    let mut plane = lab.plane();
    lab.install(1, &pairs(&lab.table()));
    plane.stop_well();

    let [in0, in1, out0, out1] = ["in0", "in1", "out0", "out1"].map(|name| lab.dir().join(name));
    let (mut first, mut second) = (Feed::new(&in0), Feed::new(&in1));
    lab.configure(&two_workers(&format!(
        "net_pcap0,rx_pcap={},rx_pcap={},tx_pcap={},tx_pcap={}",
        in0.display(),
        in1.display(),
        out0.display(),
        out1.display()
    )));
    let mut plane = lab.plane();
    first.started();
    second.started();
    let table = lab.table();
    let packets = |seqs: std::ops::Range<u16>| {
        records(seqs.flat_map(|seq| (0..PAIRS).map(move |n| entering(n, seq))))
    };
    first.send(&packets(1..FIRST + 1));
    let begun = || totals(&table).forwarded == u64::from(PAIRS) * u64::from(FIRST);
    assert!(wait_for(SOON, begun), "{:?}", totals(&table));
    // A worker that waits for a capture's next frame would not look at what it is handed.
    drop(first);
    for seq in (FIRST + 1..=ALL).step_by(4) {
        second.send(&packets(seq..(seq + 4).min(ALL + 1)));
        std::thread::sleep(Duration::from_millis(16));
    }
    // These would go on with the sequence.
    let forged = (ALL + 1..=ALL + FIRST).flat_map(|seq| (0..PAIRS).map(move |n| forged(n, seq)));
    second.send(&records(forged));
    drop(second);
    let [all, bad] = [ALL, FIRST].map(|count| u64::from(PAIRS) * u64::from(count));
    let done = wait_for(SOON, || {
        let sum = totals(&table);
        sum.forwarded + sum.dropped_at_all() == all + bad
    });
    let sum = balanced(&table);
    assert!(done, "{sum:?}");
    assert_eq!(
        (sum.forwarded, sum.dropped(Drop::Source)),
        (all, bad),
        "{sum:?}"
    );
    assert_eq!(sum.rx, all + bad + sum.handed_over, "{sum:?}");
    let moved: Vec<u64> = table.workers().iter().map(|w| w.streams_moved).collect();
    assert_eq!(moved[..2], [2 * u64::from(PAIRS), 0]);
    for [a1, _, b1, _] in (0..PAIRS).map(way) {
        for at in [a1, b1] {
            let meter = stream(&table, at).expect("the stream").meter;
            assert_eq!((meter.owner, meter.packets), (Some(1), ALL.into()));
            assert_eq!((meter.lost, meter.duplicates), (0, 0), "{meter:?}");
        }
    }
    plane.stop_well();
    for (n, mut seqs) in left(&[out0, out1]) {
        seqs.sort();
        assert!(seqs.into_iter().eq(1..=ALL), "pair {n}");
    }
}

/// An endpoint of ours in somebody's SDP that does not name him in return: nobody learns of him, and no kernel hears him.
#[test]
fn what_is_not_awaited_ends() {
    const PACKETS: u16 = 50;
    let mut setup = Setup::default();
    let exception = "queues = 1\nexception = \"net_tap9,iface=sip0,persist\"\n";
    setup.port = setup.port.replace("queues = 1\n", exception);
    let lab = lab!("hairpin_mistaken", setup);
    let _plane = lab.plane();
    let _control = lab.control();
    let (ng, table) = (lab.ng(), lab.table());
    let dropped = |reason| totals(&table).dropped(reason);
    let phone = |port, ssrc| Phone::new(&lab, phone_at(port), ssrc);

    // A port that no call can have: the kernel's, if it came from the wire.
    let mut first = phone(4000, 0xc);
    let kernel = SocketAddr::new(PLANE.parse().expect("an address"), 5060);
    let sides = ng.call("kernel", first.at(), kernel);
    for _ in 0..PACKETS {
        first.talk(sides.caller);
    }
    let ended = || dropped(Drop::NoStream) == u64::from(PACKETS);
    assert!(wait_for(SOON, ended), "{:?}", totals(&table));

    // An endpoint of another call, whose phones have not spoken yet.
    let (mut a, mut b, mut other) = (phone(4010, 0xa), phone(5010, 0xb), phone(4020, 0xbad));
    let call = ng.call("call", a.at(), b.at());
    let mistaken = ng.call("mistaken", other.at(), call.caller);
    for _ in 0..PACKETS {
        other.talk(mistaken.caller);
    }
    let ended = || dropped(Drop::Source) == u64::from(PACKETS);
    assert!(wait_for(SOON, ended), "{:?}", totals(&table));
    let drops = stream(&table, call.caller).expect("the stream").drops;
    let source = Drop::Source.stream_index().expect("its place");
    assert_eq!(drops[source], u32::from(PACKETS));
    meet(&mut a, call.caller, &mut b, call.callee);
    assert_eq!(b.listen().rtp.len(), 1, "the other was heard");
}
