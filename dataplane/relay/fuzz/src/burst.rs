//! Whole bursts over a small table: whatever the frames and the rules, nothing panics, no header is written outside its
//! packet, and the sums hold: each frame is forwarded, given to the steward, or dropped for one reason, and each
//! stream counts what is its own.
//!
//! Input: octets that choose rules, streams and frames, one after the other; what is missing is 0.

use crate::body::plain_sum;
use penstock_relay::learn::{Ask, Network};
use penstock_relay::police::{Profile, Rate};
use penstock_relay::route::{self, Egress, Peer, Policy};
use penstock_relay::usual::{LastAddress, Mac, Usual};
use penstock_relay::{
    Class, Drop, L2Header, LocalAddrs, Pass, Rules, Stream, Udp, classify, judge, latch_requested,
    rewrite, source,
};
use penstock_shm::record::{Dscp, Endpoint, Kind, Learn, Slot, StreamSpec, rank};
use penstock_shm::tally::{Last, Tally};
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::sync::atomic::Ordering::Relaxed;

const HEADROOM: usize = 64;
const CANARY: u8 = 0xc5;
const PORT: [u8; 6] = [2, 0, 0, 0, 0, 1];
const NEXT_HOP: [u8; 6] = [2, 0, 0, 0, 0, 2];
const OWNER: u8 = 1;
const STREAMS: usize = 8;
const FIRST_PORT: u16 = 20_000;
const MS: u64 = 1_000_000;
/// Of the first profile.
const PER_S: u64 = 50;
const BURST: u64 = 10;

/// The octets that choose.
struct Choice<'a>(&'a [u8]);

impl Choice<'_> {
    fn octet(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        *first
    }

    /// One of `n`.
    fn of(&mut self, n: u8) -> u8 {
        self.octet() % n
    }

    /// Once in `n`.
    fn seldom(&mut self, n: u8) -> bool {
        self.octet() % n == n - 1
    }
}

/// The local addresses and their VLANs, by number.
fn locals() -> [(IpAddr, u16); 3] {
    let v6 = [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    [
        ([192, 0, 2, 1].into(), 0),
        ([192, 0, 2, 1].into(), 7),
        (v6.into(), 0),
    ]
}

fn far(v6: bool, n: u8) -> IpAddr {
    match v6 {
        true => [0xfd, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, n].into(),
        false => [198, 51, 100, n].into(),
    }
}

/// A stream, and what it should have counted.
struct Known {
    policy: Policy,
    egress: Option<Egress>,
    slot: Slot,
    local: SocketAddr,
    vlan: u16,
    remote: SocketAddr,
    seq: u16,
    passed: u64,
    octets: u64,
    dropped: [u32; Drop::OF_STREAM.len()],
}

impl Known {
    fn new(n: usize, choice: &mut Choice<'_>, rules: &Rules) -> Known {
        let (ip, vlan) = locals()[n % 3];
        let end = |n: usize| Endpoint {
            addr: (n % 3) as u16,
            port: FIRST_PORT + n as u16,
        };
        let remote = SocketAddr::new(far(ip.is_ipv6(), n as u8), 4000 + n as u16);
        let mut spec = StreamSpec::new(end(n), end(n ^ 1));
        spec.remote = Some(remote);
        spec.learn = Learn::from_u8(choice.of(4)).unwrap_or_default();
        spec.gate_open = !choice.seldom(16);
        spec.kind =
            [Kind::Rtp, Kind::Rtp, Kind::Rtp, Kind::Rtcp, Kind::Raw][usize::from(choice.of(5))];
        spec.clock_hz = 8000;
        spec.police = choice.of(4);
        spec.payload_types = if choice.seldom(2) { 0x101 } else { 0 };
        spec.strict_payload = choice.seldom(2);
        spec.event_type = if choice.seldom(2) { 101 } else { 0 };
        spec.drop_events = choice.seldom(2);
        spec.pierce = choice.seldom(8);
        spec.accept = choice.of(8);
        spec.secure = choice.seldom(4);
        spec.handover = choice.seldom(4);
        spec.capture = choice.seldom(8);
        spec.dscp = [Dscp::Copy, Dscp::Set(46), Dscp::Default][usize::from(choice.of(3))];
        let mut policy = Policy::new(&spec, ip.is_ipv6());
        policy.denied = !rules.sources.admit(remote.ip());
        let v6 = ip.is_ipv6() != choice.seldom(4);
        let egress = Egress {
            endpoint: SocketAddr::new(ip, spec.endpoint.port),
            source: SocketAddr::new(locals()[if v6 { 2 } else { 0 }].0, spec.peer.port),
            destination: SocketAddr::new(far(v6, 77), 5000),
            adjacency: 1,
            mtu: 200 + 8 * u16::from(choice.octet()),
            tos: choice.octet() & 0xfc,
            copy_dscp: choice.seldom(4),
            pcp: choice.of(8),
        };
        let mut known = Known {
            policy,
            egress: Some(egress).filter(|_| !choice.seldom(16)),
            slot: Slot::CLOSED,
            local: SocketAddr::new(ip, spec.endpoint.port),
            vlan,
            remote,
            seq: 0,
            passed: 0,
            octets: 0,
            dropped: Default::default(),
        };
        known.fill();
        known
    }

    fn fill(&mut self) {
        let spec = &self.policy.spec;
        let record = u32::from(spec.peer.port - FIRST_PORT);
        let peer = Some(Peer {
            record,
            endpoint: spec.peer,
        });
        self.slot = route::fill(
            &self.policy,
            peer,
            self.egress.as_ref(),
            self.slot.version + 1,
        );
    }

    /// What a steward does when a worker asks.
    fn adopt(&mut self, source: SocketAddr, ask: Ask, packets: u64, rules: &Rules) {
        let (rank, lock) = match ask {
            Ask::Adopt { rank, lock } => (rank, lock),
            Ask::Lock => (rank::NONE, true),
            Ask::Check { .. } => unreachable!("asked by no packet that is judged"),
        };
        if matches!(ask, Ask::Adopt { .. }) {
            self.policy.remote = Some(source);
            self.policy.latched = true;
            self.policy.denied = !rules.sources.admit(source.ip());
        }
        self.policy.learn_until = (packets as u32).wrapping_add(20);
        self.policy.locked = lock;
        self.policy.rank = if lock { rank::NONE } else { rank };
        self.fill();
    }

    fn drops(&mut self, reason: Drop) {
        let at = reason.stream_index().expect("a reason of streams");
        self.dropped[at] += 1;
    }

    /// The stream's own counters say the same.
    fn check(&self, tally: &Tally, elapsed_ns: u64) {
        let word = |word: &std::sync::atomic::AtomicU32| word.load(Relaxed);
        assert_eq!(tally.meter.packets.get(), self.passed);
        assert_eq!(tally.meter.bytes.get(), self.octets);
        assert_eq!(tally.drops.by_reason.each_ref().map(word), self.dropped);
        if self.policy.spec.police == 1 {
            let most = BURST + BURST.div_ceil(4) + 2 + elapsed_ns * PER_S / (1000 * MS);
            assert!(self.passed <= most, "{} passed, {most} may", self.passed);
        }
    }
}

/// What became of the frames.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// How many there were.
    pub frames: u64,
    /// How many left.
    pub forwarded: u64,
    /// Of these, by the short way.
    pub short: u64,
    /// For the steward.
    pub steward: u64,
    /// Dropped, by reason.
    pub drops: [u64; Drop::ALL.len()],
}

/// A worker with its port and table.
struct Worker {
    rules: Rules,
    addresses: LocalAddrs,
    table: Vec<Known>,
    tallies: Vec<Tally>,
    asks: Vec<(usize, SocketAddr, Ask)>,
    sums: Sums,
    /// Dropped before their stream was found, by reason.
    strays: [u64; Drop::ALL.len()],
    l2: L2Header,
    now_ns: u64,
}

impl Worker {
    fn new(choice: &mut Choice<'_>) -> Worker {
        let mut addresses = LocalAddrs::new();
        for ((ip, vlan), number) in locals().into_iter().zip(0..) {
            let _ = addresses.insert(vlan, ip, number);
        }
        let rules = rules(choice);
        let vlan = if choice.seldom(4) { 9 } else { 0 };
        let tallies: Vec<Tally> = (0..STREAMS).map(|_| Tally::default()).collect();
        for tally in &tallies {
            tally
                .meter
                .last
                .store(Last::of_owner(OWNER).to_bits(), Relaxed);
        }
        Worker {
            table: (0..STREAMS)
                .map(|n| Known::new(n, choice, &rules))
                .collect(),
            rules,
            addresses,
            tallies,
            asks: Vec::new(),
            sums: Sums::default(),
            strays: [0; Drop::ALL.len()],
            l2: L2Header::new(NEXT_HOP, PORT, vlan),
            now_ns: 1000 * MS,
        }
    }

    fn at(&self, endpoint: Endpoint) -> Option<usize> {
        self.table
            .iter()
            .position(|known| known.policy.spec.endpoint == endpoint)
    }

    /// One frame, as a worker's two ways have it.
    fn relay(&mut self, frame: &[u8]) {
        self.sums.frames += 1;
        let mut buffer = vec![CANARY; HEADROOM];
        buffer.extend_from_slice(frame);
        buffer.extend([CANARY; HEADROOM]);
        let end = HEADROOM + frame.len();
        let passed = match self.short_way(&mut buffer[HEADROOM..end]) {
            Some(n) => {
                self.sums.short += 1;
                Ok((n, HEADROOM..end))
            }
            None => {
                assert_eq!(buffer[HEADROOM..end], *frame, "left to the long way");
                self.long_way(frame, &mut buffer[..end])
            }
        };
        assert!(buffer[end..].iter().all(|octet| *octet == CANARY));
        match passed {
            Ok((n, range)) => {
                // A link header is written with the place of a tag, whether it has one or not.
                let begin = range.start.saturating_sub(4).min(HEADROOM);
                let untouched = &buffer[..begin];
                assert!(untouched.iter().all(|octet| *octet == CANARY));
                self.left(n, &buffer[range]);
            }
            Err(Some(reason)) => self.sums.drops[reason as usize] += 1,
            Err(None) => self.sums.steward += 1,
        }
    }

    fn short_way(&self, frame: &mut [u8]) -> Option<usize> {
        let mut last = LastAddress::NONE;
        let mut packet = Usual::of(frame, Mac::new(PORT), &self.addresses, &mut last, false)?;
        let n = self.at(Endpoint::from_bits(packet.endpoint))?;
        let (slot, meter) = (&self.table[n].slot, &self.tallies[n].meter);
        let l2 = self.l2.untagged()?;
        let may = slot.usual_hop != Slot::NOT_USUAL;
        (may && packet.pass(slot, meter, &l2, Last::guard(OWNER), self.now_ns)).then_some(n)
    }

    /// The stream of a frame, or why it has none; without a reason it is the steward's.
    fn find(&self, frame: &[u8]) -> Result<(usize, Udp), Option<Drop>> {
        let udp = match classify(frame, &PORT, false) {
            Class::Udp(udp) => udp,
            Class::Drop(reason) => return Err(Some(reason)),
            _ => return Err(None),
        };
        let addr = self.addresses.find(frame, &udp);
        let addr = addr.ok_or(Drop::NotOurAddress)?;
        let port = udp.port;
        let n = self.at(Endpoint { addr, port }).ok_or(Drop::NoStream)?;
        Ok((n, udp))
    }

    /// The stream and where the packet lies, or why it does not leave; none if it is the steward's.
    fn long_way(
        &mut self,
        frame: &[u8],
        buffer: &mut [u8],
    ) -> Result<(usize, Range<usize>), Option<Drop>> {
        let (n, udp) = self.find(frame).inspect_err(|reason| {
            reason.inspect(|&reason| self.strays[reason as usize] += 1);
        })?;
        let (slot, tally) = (self.table[n].slot, &self.tallies[n]);
        let stream = Stream {
            slot: &slot,
            tally,
            peer: Some(&self.tallies[n ^ 1]),
        };
        match judge(frame, &udp, stream, &self.rules, self.now_ns) {
            Ok(Pass { ask, held }) => {
                let source = source(frame, &udp).expect("a datagram");
                if let Some(ask) = ask {
                    latch_requested(&slot, &tally.meter);
                    self.asks.push((n, source, ask));
                }
                if let Some(reason) = held {
                    assert!(ask.is_some());
                    self.table[n].drops(reason);
                    return Err(Some(reason));
                }
                self.may_pass(n, frame, &udp);
            }
            Err(reason) => {
                self.table[n].drops(reason);
                return Err(Some(reason));
            }
        }
        let range = rewrite(buffer, HEADROOM, &udp, &slot, &self.l2).expect("a packet that passed");
        Ok((n, range))
    }

    /// What must hold of a packet that passed, by a plain reading of the policy.
    fn may_pass(&self, n: usize, frame: &[u8], udp: &Udp) {
        let Policy {
            spec,
            locked,
            remote,
            ..
        } = &self.table[n].policy;
        let source = source(frame, udp).expect("a datagram");
        assert!(spec.gate_open);
        assert!(self.rules.sources.admit(source.ip()), "{source} is denied");
        let may_move = spec.learn != Learn::Off && (spec.handover || self.now_ns > 30_000 * MS);
        assert!(
            !locked || *remote == Some(source) || may_move,
            "{source} is not {remote:?}"
        );
        let payload = &frame[udp.l3 + udp.packet_len() - udp.length + 8..][..udp.length - 8];
        let is_rtp = spec.kind == Kind::Rtp && payload[0] >> 6 == 2 && payload[1] & 0xe0 != 0xc0;
        if is_rtp && spec.strict_payload && spec.payload_types != 0 {
            assert!(spec.payload_types >> (payload[1] & 0x7f) & 1 != 0);
        }
        if is_rtp && spec.drop_events && spec.event_type != 0 {
            assert_ne!(payload[1] & 0x7f, spec.event_type);
        }
    }

    /// What left is one sound datagram of the route.
    fn left(&mut self, n: usize, frame: &[u8]) {
        self.sums.forwarded += 1;
        let known = &mut self.table[n];
        let egress = known.egress.expect("a route");
        let Class::Udp(udp) = classify(frame, &NEXT_HOP, false) else {
            panic!("{frame:02x?}")
        };
        assert_eq!(frame.len(), udp.l3 + udp.packet_len());
        assert!(udp.packet_len() <= usize::from(egress.mtu));
        assert_eq!(source(frame, &udp), Some(egress.source));
        assert_eq!(udp.port, egress.destination.port());
        known.passed += 1;
        known.octets += udp.length as u64 - 8;
    }

    /// The sums hold, and the steward does what it was asked.
    fn rest(&mut self) {
        let Sums {
            frames,
            forwarded,
            steward,
            drops,
            ..
        } = &self.sums;
        assert_eq!(*frames, forwarded + steward + drops.iter().sum::<u64>());
        for (known, tally) in self.table.iter().zip(&self.tallies) {
            known.check(tally, self.now_ns);
        }
        for &reason in Drop::OF_STREAM {
            let at = reason.stream_index().expect("a reason of streams");
            let dropped = |tally: &Tally| u64::from(tally.drops.by_reason[at].load(Relaxed));
            let sum: u64 = self.tallies.iter().map(dropped).sum();
            let strays = self.strays[reason as usize];
            assert_eq!(drops[reason as usize], sum + strays, "{reason:?}");
        }
        for (n, source, ask) in std::mem::take(&mut self.asks) {
            let packets = self.tallies[n].meter.packets.get();
            self.table[n].adopt(source, ask, packets, &self.rules);
        }
    }
}

fn rules(choice: &mut Choice<'_>) -> Rules {
    let mut rules = Rules::default();
    rules.profiles.0[1] = Profile {
        sustained_packets: Rate::new(PER_S, BURST),
        ..Profile::default()
    };
    let octets = Rate::new(20_000, 3000);
    rules.profiles.0[2].sustained_bytes = octets;
    rules.profiles.0[3].peak_packets = Rate::new(PER_S, BURST);
    rules.profiles.0[3].peak_bytes = octets;
    let network = |n, len| Network {
        ip: far(false, n),
        len,
    };
    if choice.seldom(4) {
        rules.sources.deny = vec![network(4, 31)];
    }
    if choice.seldom(4) {
        rules.sources.allow = vec![
            network(0, 28),
            Network {
                ip: far(true, 0),
                len: 64,
            },
        ];
    }
    rules
}

/// A payload for a stream, good or not.
fn payload(choice: &mut Choice<'_>, seq: &mut u16, now_ns: u64) -> Vec<u8> {
    let kind = choice.of(14);
    *seq = seq.wrapping_add(if kind == 5 { 3000 } else { 1 });
    let payload_type = match choice.of(12) {
        1 => 0,
        2 => 101,
        3 => 96,
        4 => 0xc8,
        _ => 8,
    };
    let mut octets = vec![0x80, payload_type];
    octets.extend(seq.to_be_bytes());
    let jitter = if choice.seldom(8) { 1000 } else { 0 };
    octets.extend(((now_ns / MS * 8) as u32 + jitter).to_be_bytes());
    octets.extend([0, 0, 0, 1 + u8::from(choice.seldom(16))]);
    octets.resize(12 + usize::from(choice.octet()), 0x5a);
    let report = [0x80, 200, 0, 6, 0, 0, 0, 1];
    match kind {
        0..=5 => {}
        6 => octets[0] = choice.octet(),
        7 => octets = [&report[..], &[7; 20]].concat(),
        8 => octets = [&report[..], &[7; 20], &[0x81, 203, 0, 1, 0, 0, 0, 1]].concat(),
        9 => octets = [&report[..], &[7; 20], &[0x81, 203, 0, choice.octet()]].concat(),
        10 => octets[0] = [0, 1, 20, 63, 16, 64][usize::from(choice.of(6))],
        11 => octets.truncate(usize::from(choice.of(16))),
        12 => octets.resize(1400 + usize::from(choice.octet()), 0),
        _ => octets
            .iter_mut()
            .take(16)
            .for_each(|octet| *octet = choice.octet()),
    }
    octets
}

/// A frame to a stream or beside it, whole or damaged.
fn frame(choice: &mut Choice<'_>, table: &mut [Known], now_ns: u64) -> Vec<u8> {
    let known = &mut table[usize::from(choice.of(STREAMS as u8))];
    let mut to = known.local;
    if choice.seldom(32) {
        to.set_port(choice.octet().into());
    }
    let mut from = known.remote;
    match choice.of(12) {
        8 => from.set_port(from.port() ^ 1),
        9 => from.set_ip(far(to.is_ipv6(), choice.octet())),
        10 => from = SocketAddr::new(far(to.is_ipv6(), choice.octet()), choice.octet().into()),
        11 => from = to,
        _ => {}
    }
    let payload = payload(choice, &mut known.seq, now_ns);
    let mut frame = datagram(from, to, known.vlan, choice.octet(), &payload);
    match choice.of(16) {
        11 => {
            let at = usize::from(choice.octet()) % frame.len();
            frame[at] = choice.octet();
        }
        12 => frame.truncate(usize::from(choice.octet())),
        13 => frame.resize(frame.len() + usize::from(choice.octet()), 0xaa),
        15 if known.vlan == 0 && choice.seldom(4) => frame[12..14].copy_from_slice(&[8, 6]),
        14 if !to.is_ipv6() => {
            let l4 = frame.len() - payload.len() - 8;
            frame[l4 + 6..l4 + 8].fill(0);
        }
        _ => {}
    }
    frame
}

fn datagram(from: SocketAddr, to: SocketAddr, vlan: u16, tos: u8, payload: &[u8]) -> Vec<u8> {
    let sum_of = |sum: u64| !((1..4).fold(sum, |sum, _| (sum & 0xffff) + (sum >> 16)) as u16);
    let length = 8 + payload.len() as u16;
    let ports = [from.port(), to.port(), length, 0]
        .map(u16::to_be_bytes)
        .concat();
    let mut udp = [&ports[..], payload].concat();
    let (kind, mut ip, addresses) = match (from.ip(), to.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let [high, low] = (20 + length).to_be_bytes();
            let header = vec![0x45, tos, high, low, 0, 0, 0x40, 0, 64, 17, 0, 0];
            (0x0800u16, header, [from.octets(), to.octets()].concat())
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let [high, low] = length.to_be_bytes();
            let header = vec![0x60 | tos >> 4, tos << 4, 0, 0, high, low, 17, 64];
            (0x86dd, header, [from.octets(), to.octets()].concat())
        }
        _ => panic!("{from} to {to}"),
    };
    let sum = sum_of(plain_sum(&addresses) + plain_sum(&udp) + 17 + u64::from(length));
    udp[6..8].copy_from_slice(&sum.max(1).to_be_bytes());
    ip.extend(addresses);
    if ip.len() == 20 {
        let sum = sum_of(plain_sum(&ip));
        ip[10..12].copy_from_slice(&sum.to_be_bytes());
    }
    let mut frame = [PORT, NEXT_HOP].concat();
    if vlan != 0 {
        frame.extend([0x81, 0]);
        frame.extend(vlan.to_be_bytes());
    }
    frame.extend(kind.to_be_bytes());
    [frame, ip, udp].concat()
}

/// Relays bursts as long as there is something to choose by.
pub fn run(data: &[u8]) -> Sums {
    let mut choice = Choice(data);
    let mut worker = Worker::new(&mut choice);
    while !choice.0.is_empty() {
        worker.now_ns += MS * u64::from(choice.octet()) * if choice.seldom(32) { 200 } else { 1 };
        for _ in 0..1 + choice.of(32) {
            let frame = frame(&mut choice, &mut worker.table, worker.now_ns);
            worker.relay(&frame);
        }
        worker.rest();
    }
    worker.sums
}
