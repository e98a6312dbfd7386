//! A capture goes in, a capture comes out: every kind of stream, every kind of bad frame, each header
//! of what leaves.

use penstock_e2e::frame::{Datagram, Sum, fix_ip4_sum, link, read_capture, write_capture};
use penstock_e2e::region::{balanced, endpoint, worker};
use penstock_e2e::{Lab, PLANE, Setup, lab, rtcp_packet, rtp_packet, wait_for};
use penstock_shm::counters::Drop;
use penstock_shm::{Dscp, Kind, Learn, Op, StreamSpec, TableView};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

const MAC: [u8; 6] = [2, 0x70, 0x73, 0, 0, 1];
const TOS: u8 = 46 << 2;
const MTU: usize = 1400;

/// Packets of each route.
const COUNT: u16 = 301;

/// A network the plane has an address in, and the phones there.
struct Net {
    local: &'static str,
    phone: &'static str,
    vlan: u16,
    phone_mac: [u8; 6],
}

/// The first and second share their addresses, and differ in VLAN alone.
const NETS: [Net; 4] = [
    Net {
        local: PLANE,
        phone: "198.18.2.1",
        vlan: 0,
        phone_mac: [2, 0, 0, 0, 0, 1],
    },
    Net {
        local: PLANE,
        phone: "198.18.2.1",
        vlan: 100,
        phone_mac: [2, 0, 0, 0, 0, 2],
    },
    Net {
        local: "fd00::1",
        phone: "fd00::2",
        vlan: 0,
        phone_mac: [2, 0, 0, 0, 0, 3],
    },
    Net {
        local: "fd01::1",
        phone: "fd01::2",
        vlan: 4094,
        phone_mac: [2, 0, 0, 0, 0, 4],
    },
];

impl Net {
    fn local(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.local.parse().expect("an address"), port)
    }

    fn phone(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.phone.parse().expect("an address"), port)
    }

    /// The longest payload that leaves to its phone: IP and UDP headers fill the rest of the MTU.
    fn longest(&self) -> usize {
        MTU - if self.local(0).is_ipv6() { 48 } else { 28 }
    }

    /// What its phone sends to a local port.
    fn datagram(&self, from: u16, to: u16, payload: Vec<u8>) -> Datagram {
        Datagram {
            macs: (MAC, self.phone_mac),
            vlan: self.vlan,
            tos: 0,
            from: self.phone(from),
            to: self.local(to),
            sum: Sum::Right,
            payload,
        }
    }
}

/// From which network to which, and the ports: the phone sends from `port` to the plane's `port`; it
/// leaves from the plane's `port + 1` to the other phone's `port + 1`.
struct Route {
    from: usize,
    to: usize,
    port: u16,
    kind: Kind,
}

const ROUTES: [Route; 14] = [
    Route {
        from: 0,
        to: 0,
        port: 20_000,
        kind: Kind::Rtp,
    },
    Route {
        from: 0,
        to: 1,
        port: 20_010,
        kind: Kind::Rtp,
    },
    Route {
        from: 1,
        to: 0,
        port: 20_020,
        kind: Kind::Rtp,
    },
    Route {
        from: 1,
        to: 1,
        port: 20_030,
        kind: Kind::Rtcp,
    },
    Route {
        from: 2,
        to: 2,
        port: 20_040,
        kind: Kind::Rtp,
    },
    Route {
        from: 2,
        to: 3,
        port: 20_050,
        kind: Kind::Rtp,
    },
    Route {
        from: 3,
        to: 2,
        port: 20_060,
        kind: Kind::Rtcp,
    },
    Route {
        from: 0,
        to: 1,
        port: 20_070,
        kind: Kind::Raw,
    },
    // From one IP version to the other.
    Route {
        from: 0,
        to: 2,
        port: 20_130,
        kind: Kind::Rtp,
    },
    Route {
        from: 1,
        to: 3,
        port: 20_140,
        kind: Kind::Rtp,
    },
    Route {
        from: 2,
        to: 0,
        port: 20_150,
        kind: Kind::Rtp,
    },
    Route {
        from: 3,
        to: 1,
        port: 20_160,
        kind: Kind::Rtp,
    },
    Route {
        from: 0,
        to: 3,
        port: 20_170,
        kind: Kind::Rtcp,
    },
    Route {
        from: 2,
        to: 1,
        port: 20_180,
        kind: Kind::Raw,
    },
];

/// Streams that drop: the gate closed; a peer without a remote; and a next hop that never answers.
const CLOSED: u16 = 20_100;
const NO_ROUTE: u16 = 20_110;
const NO_NEIGHBOUR: u16 = 20_120;

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
    let in_first = |port| {
        pair(
            table,
            &Route {
                from: 0,
                to: 0,
                port,
                kind: Kind::Rtp,
            },
        )
    };
    let [mut closed, closed_peer] = in_first(CLOSED);
    closed.gate_open = false;
    let [no_route, mut without_remote] = in_first(NO_ROUTE);
    without_remote.remote = None;
    let [lost, mut far] = in_first(NO_NEIGHBOUR);
    far.remote = Some(SocketAddr::from(([198, 18, 2, 99], 1)));
    specs.extend([closed, closed_peer, no_route, without_remote, lost, far]);
    specs.into_iter().map(Op::Set).collect()
}

/// What a frame is to become.
enum Fate {
    Relayed(Datagram),
    Dropped(Drop),
    Consumed,
}

impl Route {
    fn payload(&self, ssrc: u32, seq: u16) -> Vec<u8> {
        match self.kind {
            Kind::Rtp => rtp_packet(ssrc, seq),
            Kind::Rtcp => rtcp_packet(ssrc, seq.into()),
            Kind::Raw => seq.to_be_bytes()[..usize::from(seq % 3)].to_vec(),
        }
    }

    /// Makes a payload longer: RTCP by an APP packet (RFC 3550, 6.7).
    fn lengthen(&self, payload: &mut Vec<u8>, len: usize) {
        if self.kind == Kind::Rtcp {
            let words = ((len - payload.len()) / 4 - 1) as u16;
            payload.extend([0x80, 204]);
            payload.extend(words.to_be_bytes());
        }
        payload.resize(len, 0x5a);
    }
}

/// Good packets of each route: every sequence number with each kind of checksum, some padded to
/// Ethernet's least length. The last ones are as long as may be.
fn good() -> Vec<(Vec<u8>, Fate)> {
    let mut frames = Vec::new();
    for seq in 1..=COUNT {
        for (route, ssrc) in ROUTES.iter().zip(1..) {
            let (from, to) = (&NETS[route.from], &NETS[route.to]);
            let mut payload = route.payload(ssrc, seq);
            if seq == COUNT {
                route.lengthen(&mut payload, to.longest());
            }
            let mut sent = from.datagram(route.port, route.port, payload);
            sent.sum = match seq % 3 {
                0 if route.from < 2 => Sum::Zero,
                1 => Sum::Wrong,
                _ => Sum::Right,
            };
            let leaves = Datagram {
                macs: (to.phone_mac, MAC),
                vlan: to.vlan,
                tos: TOS,
                from: to.local(route.port + 1),
                to: to.phone(route.port + 1),
                sum: match sent.sum {
                    // IPv6 has none without (RFC 8200, 8.1).
                    Sum::Zero if route.to >= 2 => Sum::Right,
                    sum => sum,
                },
                ..sent.clone()
            };
            let mut frame = sent.frame();
            if seq % 5 == 0 {
                frame.resize(frame.len() + 7, 0xaa);
            }
            frames.push((frame, Fate::Relayed(leaves)));
        }
    }
    frames
}

/// The frame of a good packet of the first route, for spoiling.
fn sample() -> Datagram {
    NETS[0].datagram(20_000, 20_000, rtp_packet(1, 9))
}

/// Like `sample`, over IPv6.
fn sample6() -> Datagram {
    NETS[2].datagram(20_040, 20_040, rtp_packet(5, 9))
}

/// A frame with octets changed and the IPv4 header's checksum made right again.
fn spoilt(frame: Vec<u8>, changes: &[(usize, u8)]) -> Vec<u8> {
    let mut frame = frame;
    for &(at, value) in changes {
        frame[at] = value;
    }
    fix_ip4_sum(&mut frame[14..]);
    frame
}

fn with(datagram: Datagram, change: impl FnOnce(&mut Datagram)) -> Vec<u8> {
    let mut datagram = datagram;
    change(&mut datagram);
    datagram.frame()
}

/// Frames whose link or network headers are bad, by the reason they are dropped for.
fn bad_frames() -> Vec<(Vec<u8>, Drop)> {
    let mut all = Vec::new();
    let whole = sample().frame();
    let mut add = |reason, frame: Vec<u8>| all.push((frame, reason));

    // Cut anywhere before its end, a frame is not whole.
    for len in [13, 14, 33, 34, 41, 42, 60, whole.len() - 1] {
        add(Drop::Malformed, whole[..len].to_vec());
    }
    add(Drop::Malformed, spoilt(whole.clone(), &[(14, 0x65)]));
    add(Drop::Malformed, spoilt(whole.clone(), &[(14, 0x44)]));
    add(Drop::Malformed, spoilt(whole.clone(), &[(38, 0), (39, 7)]));
    add(Drop::Malformed, spoilt(whole.clone(), &[(38, 9)]));
    add(Drop::Malformed, spoilt(whole.clone(), &[(17, 20)]));
    add(Drop::Malformed, with(sample6(), |d| d.sum = Sum::Zero));
    add(Drop::Malformed, sample6().frame()[..53].to_vec());
    add(Drop::Malformed, link((MAC, [2; 6]), 0, 0x8100));
    // Larger than a buffer: the driver chains it.
    add(
        Drop::Malformed,
        with(sample(), |d| d.payload.resize(5000, 0)),
    );

    add(
        Drop::NotOurMac,
        with(sample(), |d| d.macs.0 = [2, 0, 0, 0, 0, 0x55]),
    );
    add(Drop::NotOurMac, with(sample(), |d| d.macs.0 = [0xff; 6]));
    add(
        Drop::NotOurMac,
        with(sample6(), |d| d.macs.0 = [0x33, 0x33, 0, 0, 0, 1]),
    );

    add(
        Drop::Protocol,
        [link((MAC, [2; 6]), 0, 0x88cc), vec![0; 46]].concat(),
    );
    add(
        Drop::Protocol,
        [link((MAC, [2; 6]), 7, 0x8100), vec![0; 46]].concat(),
    );
    add(Drop::Protocol, spoilt(whole.clone(), &[(23, 6)]));
    add(Drop::Protocol, spoilt(whole.clone(), &[(23, 1), (34, 0)]));
    add(Drop::Protocol, spoilt6(58));

    add(
        Drop::NotOurAddress,
        with(sample(), |d| {
            d.to = SocketAddr::from(([198, 18, 0, 9], 20_000))
        }),
    );
    add(Drop::NotOurAddress, with(sample(), |d| d.vlan = 101));
    add(Drop::NotOurAddress, with(sample6(), |d| d.vlan = 4094));

    let mut wrong_sum = whole.clone();
    wrong_sum[24] ^= 1;
    add(Drop::IpChecksum, wrong_sum);

    add(Drop::Fragment, spoilt(whole.clone(), &[(20, 0x20)]));
    add(Drop::Fragment, spoilt(whole.clone(), &[(20, 0), (21, 1)]));
    add(Drop::Fragment, spoilt6(44));
    add(Drop::IpOptions, spoilt(whole.clone(), &[(14, 0x46)]));
    add(Drop::IpOptions, spoilt6(0));
    add(Drop::IpOptions, spoilt6(60));

    all
}

/// Datagrams that no stream takes, or that theirs does not.
fn bad_datagrams() -> Vec<(Vec<u8>, Drop)> {
    let mut all = Vec::new();
    let mut add = |reason, frame: Vec<u8>| all.push((frame, reason));
    add(Drop::NoStream, with(sample(), |d| d.to.set_port(1)));
    add(Drop::NoStream, with(sample6(), |d| d.to.set_port(20_000)));
    add(
        Drop::GateClosed,
        NETS[0].datagram(CLOSED, CLOSED, rtp_packet(9, 1)).frame(),
    );
    add(Drop::Source, with(sample(), |d| d.from.set_port(20_001)));
    add(
        Drop::Source,
        with(sample(), |d| d.from.set_ip(IpAddr::from([198, 18, 2, 2]))),
    );
    add(Drop::Source, with(sample6(), |d| d.from.set_port(1)));
    for len in 0..12 {
        add(Drop::NotRtp, with(sample(), |d| d.payload.truncate(len)));
    }
    for first in [0x00, 0x10, 0x14, 0x40] {
        add(
            Drop::NotNegotiated,
            with(sample(), |d| d.payload[0] = first),
        );
    }
    add(Drop::NotRtp, with(sample(), |d| d.payload[0] = 0xc0));
    add(
        Drop::NotRtp,
        with(sample6(), |d| d.payload = vec![0x8f; 12]),
    );
    let rtcp = NETS[1].datagram(20_030, 20_030, rtcp_packet(4, 1));
    add(Drop::NotRtp, with(rtcp.clone(), |d| d.payload[1] = 0));
    add(Drop::NotRtp, with(rtcp, |d| d.payload[3] = 99));
    add(
        Drop::NoRoute,
        NETS[0]
            .datagram(NO_ROUTE, NO_ROUTE, rtp_packet(9, 1))
            .frame(),
    );
    for (route, ssrc) in ROUTES.iter().zip(1..) {
        let mut payload = route.payload(ssrc, 9);
        // RTCP has whole words.
        let more = if route.kind == Kind::Rtcp { 4 } else { 1 };
        route.lengthen(&mut payload, NETS[route.to].longest() + more);
        let sent = NETS[route.from].datagram(route.port, route.port, payload);
        add(Drop::TooBig, sent.frame());
    }
    all
}

/// An IPv6 packet with another next header.
fn spoilt6(next: u8) -> Vec<u8> {
    let mut frame = sample6().frame();
    frame[20] = next;
    frame
}

/// An ARP request for the plane's address, and an ICMP echo request to it.
fn for_the_steward() -> [Vec<u8>; 2] {
    let phone_mac = NETS[0].phone_mac;
    let mut arp = link(([0xff; 6], phone_mac), 0, 0x0806);
    arp.extend([0, 1, 8, 0, 6, 4, 0, 1]);
    arp.extend(
        phone_mac
            .into_iter()
            .chain([198, 18, 2, 1])
            .chain([0; 6])
            .chain([198, 18, 0, 1]),
    );
    // The payload is made so that the ICMP checksum is 0xf7ff.
    let mut echo = with(sample(), |d| d.payload.clear());
    echo[23] = 1;
    echo[34..42].copy_from_slice(&[8, 0, 0xf7, 0xff, 0, 0, 0, 0]);
    [arp, spoilt(echo, &[])]
}

fn install(lab: &Lab) {
    lab.configure(&setup("net_null0,no-rx=1"));
    let mut plane = lab.plane();
    lab.install(1, &streams(&lab.table()));
    plane.stop_well();
}

/// Bad frames stand between good ones, not after them.
fn mixture() -> Vec<(Vec<u8>, Fate)> {
    let mut frames = Vec::new();
    let mut bad = bad_frames().into_iter().chain(bad_datagrams());
    for (i, frame) in good().into_iter().enumerate() {
        if i % 20 == 0 {
            frames.extend(
                bad.next()
                    .map(|(frame, reason)| (frame, Fate::Dropped(reason))),
            );
        }
        frames.push(frame);
    }
    assert!(bad.next().is_none(), "a bad frame found no place");
    let waits = NETS[0].datagram(NO_NEIGHBOUR, NO_NEIGHBOUR, rtp_packet(9, 1));
    let consumed = for_the_steward().into_iter().chain([waits.frame()]);
    frames.extend(consumed.map(|frame| (frame, Fate::Consumed)));
    frames
}

#[test]
fn what_leaves_is_right_to_the_last_bit() {
    let lab = lab!("pcap", setup("net_null0,no-rx=1"));
    install(&lab);
    let frames = mixture();
    let (input, output) = (lab.dir().join("in.pcap"), lab.dir().join("out.pcap"));
    write_capture(&input, frames.iter().map(|(frame, _)| frame));
    let device = format!(
        "net_pcap0,rx_pcap={},tx_pcap={}",
        input.display(),
        output.display()
    );
    lab.configure(&setup(&device));
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
    let lab = lab!("pcap-order", setup("net_null0,no-rx=1"));
    install(&lab);
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
    lab.configure(&setup(&format!("net_pcap0,rx_pcap={}", input.display())));
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
