//! What each kind of packet costs a worker, in cycles: the pure functions of the packet path, over packets and streams
//! that lie in the first-level cache.

use crate::{Args, Failure, Verdict, median, mhz, round3};
use penstock_relay::police::{Profile, Profiles, Rate, renew};
use penstock_relay::route::{Egress, Policy, fill};
use penstock_relay::usual::{LastAddress, Mac, Usual};
use penstock_relay::{Class, L2Header, LocalAddrs, Rules, Stream, classify, judge, rewrite};
use penstock_shm::record::{Endpoint, Kind, Learn, Slot, StreamSpec, rank};
use penstock_shm::tally::{Last, Tally};
use serde_json::json;
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

const BURST: usize = 32;
const BURSTS: u32 = 4000;
const HEADROOM: usize = 64;
/// Octets of a frame that are restored before each round: what relaying changes.
const HEADERS: usize = 66;
const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const OWNER: u8 = 1;

/// What is different about the packets of a case.
#[derive(Clone, Copy)]
pub struct Case {
    name: &'static str,
    v6: bool,
    to_v6: bool,
    payload: fn(u16) -> Vec<u8>,
    checksum: bool,
    ask: fn(&mut StreamSpec),
    learning: bool,
    stranger: bool,
}

/// The packet a relay mostly sees.
pub const PLAIN: Case = Case {
    name: "usual: locked RTP over IPv4, in sequence",
    v6: false,
    to_v6: false,
    payload: rtp,
    checksum: true,
    ask: |_| {},
    learning: false,
    stranger: false,
};

/// The same over IPv6.
pub const PLAIN6: Case = Case {
    name: "IPv6 to IPv6",
    v6: true,
    to_v6: true,
    ..PLAIN
};

const CASES: [Case; 14] = [
    PLAIN,
    Case {
        name: "usual, policed (and within its profile)",
        ask: |spec| spec.police = 1,
        ..PLAIN
    },
    Case {
        name: "RTP with a header extension",
        payload: extended,
        ..PLAIN
    },
    Case {
        name: "RTP while the source is being learned",
        learning: true,
        ..PLAIN
    },
    Case {
        name: "RTP of a payload type that was not negotiated",
        ask: |spec| spec.payload_types = 1 << 8,
        ..PLAIN
    },
    Case {
        name: "a telephone event",
        ask: |spec| spec.event_type = 18,
        ..PLAIN
    },
    Case {
        name: "RTCP with a sender report, read",
        payload: report,
        ..PLAIN
    },
    PLAIN6,
    Case {
        name: "IPv6 to IPv4",
        v6: true,
        ..PLAIN
    },
    Case {
        name: "IPv4 to IPv6",
        to_v6: true,
        ..PLAIN
    },
    Case {
        name: "IPv4 to IPv6, its UDP checksum made",
        to_v6: true,
        checksum: false,
        ..PLAIN
    },
    Case {
        name: "dropped: another source",
        stranger: true,
        ..PLAIN
    },
    Case {
        name: "dropped: one packet too many",
        ask: |spec| spec.police = 2,
        ..PLAIN
    },
    Case {
        name: "dropped: STUN where none was negotiated",
        payload: |_| vec![0; 172],
        ..PLAIN
    },
];

fn rtp(seq: u16) -> Vec<u8> {
    let [high, low] = seq.to_be_bytes();
    let mut packet = vec![0x80, 18, high, low];
    packet.resize(172, 7);
    packet
}

fn extended(seq: u16) -> Vec<u8> {
    let mut packet = rtp(seq);
    packet[0] = 0x90;
    packet[12..16].copy_from_slice(&[0xbe, 0xde, 0, 1]);
    packet
}

/// A sender report with one block (RFC 3550, 6.4.1).
fn report(seq: u16) -> Vec<u8> {
    let mut packet = vec![0; 52];
    packet[..4].copy_from_slice(&[0x81, 200, 0, 12]);
    packet[12..14].copy_from_slice(&seq.to_be_bytes());
    packet
}

fn address(v6: bool, last: u8) -> IpAddr {
    match v6 {
        false => Ipv4Addr::new(192, 0, 2, last).into(),
        true => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last.into()).into(),
    }
}

fn at(v6: bool, last: u8, port: u16) -> SocketAddr {
    SocketAddr::new(address(v6, last), port)
}

/// A frame behind its headroom; the IPv4 header checksum is right, the UDP one any.
fn buffer(case: &Case, stream: usize, seq: u16) -> Vec<u8> {
    let payload = (case.payload)(seq);
    let udp_len = 8 + payload.len() as u16;
    let from = at(case.v6, 100 + u8::from(case.stranger), 40_000);
    let to = at(case.v6, 1, 20_000 + 2 * stream as u16);
    let mut frame = vec![0; HEADROOM];
    frame.extend(MAC.into_iter().chain([2, 0, 0, 0, 0, 9]));
    match (from.ip(), to.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let mut ip = vec![0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 17, 0, 0];
            ip[2..4].copy_from_slice(&(20 + udp_len).to_be_bytes());
            ip.extend(from.octets().into_iter().chain(to.octets()));
            let sum: u32 = ip
                .chunks(2)
                .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
                .sum();
            let sum = (sum & 0xffff) + (sum >> 16);
            let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
            ip[10..12].copy_from_slice(&sum.to_be_bytes());
            frame.extend([8, 0]);
            frame.extend(ip);
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
            frame.extend(udp_len.to_be_bytes());
            frame.extend([17, 64]);
            frame.extend(from.octets().into_iter().chain(to.octets()));
        }
        _ => unreachable!("both are of the case's version"),
    }
    frame.extend(from.port().to_be_bytes());
    frame.extend(to.port().to_be_bytes());
    frame.extend(udp_len.to_be_bytes());
    frame.extend(if case.checksum { [0x12, 0x34] } else { [0, 0] });
    frame.extend(payload);
    frame
}

/// A burst of one packet of each stream, and what a worker has at hand.
pub struct Bench {
    pristine: [Vec<Vec<u8>>; 2],
    buffers: Vec<Vec<u8>>,
    slots: Vec<Slot>,
    tallies: Vec<Tally>,
    rules: Rules,
    locals: LocalAddrs,
    l2: L2Header,
}

impl Bench {
    /// Its first packets are yet to come.
    pub fn new(case: &Case) -> Bench {
        let slot = |stream: usize| {
            let endpoint = Endpoint {
                addr: 0,
                port: 20_000 + 2 * stream as u16,
            };
            let mut spec = StreamSpec {
                remote: Some(at(case.v6, 100, 40_000)),
                kind: Kind::Rtp,
                learn: Learn::Off,
                clock_hz: 8000,
                ..StreamSpec::new(endpoint, endpoint)
            };
            (case.ask)(&mut spec);
            let mut policy = Policy::new(&spec, case.v6);
            if case.learning {
                policy.spec.learn = Learn::Heuristic;
                (policy.locked, policy.latched, policy.rank) = (false, true, rank::ANY);
                (policy.signalled, policy.learn_until) = ([1, 1], u32::MAX / 2);
            }
            let egress = Egress {
                endpoint: at(case.v6, 1, endpoint.port),
                source: at(case.to_v6, 1, 30_000),
                destination: at(case.to_v6, 200, 50_000),
                adjacency: 0,
                mtu: 1500,
                tos: 0xb8,
                copy_dscp: false,
                pcp: 0,
            };
            fill(&policy, None, Some(&egress), 1)
        };
        let mut profiles = Profiles::default();
        profiles.0[1] = Profile {
            sustained_packets: Rate::new(100_000_000, 100),
            peak_packets: Rate::new(200_000_000, 100),
            sustained_bytes: Rate::new(20_000_000_000, 150_000),
            peak_bytes: Rate::new(40_000_000_000, 150_000),
        };
        profiles.0[2].sustained_packets = Rate::new(1, 1);
        let mut locals = LocalAddrs::new();
        locals
            .insert(0, address(case.v6, 1), 0)
            .expect("the first address");
        let burst = |seq| (0..BURST).map(|stream| buffer(case, stream, seq)).collect();
        let tallies: Vec<Tally> = (0..BURST).map(|_| Tally::default()).collect();
        for tally in &tallies {
            let last = Last::of_owner(OWNER).to_bits();
            tally.meter.last.store(last, Relaxed);
        }
        Bench {
            pristine: [burst(1), burst(2)],
            buffers: burst(1),
            slots: (0..BURST).map(slot).collect(),
            tallies,
            rules: Rules {
                profiles,
                ..Rules::default()
            },
            locals,
            l2: L2Header::new([2, 0, 0, 0, 0, 7], MAC, 0),
        }
    }

    /// Restores the frames of a burst, with the sequence number and timestamp of that turn.
    fn restore(&mut self, turn: u32) {
        let seq = (turn as u16).to_be_bytes();
        let timestamp = (turn * 160).to_be_bytes();
        let pristine = &self.pristine[turn as usize & 1];
        for (buffer, from) in self.buffers.iter_mut().zip(pristine) {
            let end = (HEADROOM + HEADERS).min(from.len());
            buffer[HEADROOM..end].copy_from_slice(&from[HEADROOM..end]);
            let rtp = from.len() - 172;
            if from.len() > HEADROOM + 172 && from[rtp] & 0xc0 == 0x80 {
                buffer[rtp + 2..rtp + 4].copy_from_slice(&seq);
                buffer[rtp + 4..rtp + 8].copy_from_slice(&timestamp);
            }
        }
    }

    /// Relays a burst as a worker would; says how many packets passed.
    fn relay(&mut self, now_ns: u64) -> usize {
        let mac = Mac::new(MAC);
        let usual_l2 = self.l2.untagged().expect("a link without a VLAN");
        let guard = Last::guard(OWNER);
        let mut last = LastAddress::NONE;
        let mut passed = 0;
        for (i, buffer) in self.buffers.iter_mut().enumerate() {
            let (slot, tally) = (&self.slots[i], &self.tallies[i]);
            let packet = Usual::of(&mut buffer[HEADROOM..], mac, &self.locals, &mut last, false);
            if let Some(mut packet) = packet
                && slot.usual_hop != Slot::NOT_USUAL
            {
                let meter = &tally.meter;
                if packet.pass(slot, meter, &usual_l2, guard, now_ns) {
                    passed += 1;
                    continue;
                }
                let used_up = meter.packets.get() >= meter.allowed.get();
                let profiles = &self.rules.profiles;
                if used_up
                    && renew(tally, slot, profiles, 1500, now_ns).is_ok()
                    && packet.pass(slot, meter, &usual_l2, guard, now_ns)
                {
                    passed += 1;
                    continue;
                }
            }
            let frame = &buffer[HEADROOM..];
            let Class::Udp(udp) = classify(frame, &MAC, false) else {
                continue;
            };
            let stream = Stream {
                slot,
                tally,
                peer: None,
            };
            if self.locals.find(frame, &udp).is_some()
                && judge(frame, &udp, stream, &self.rules, now_ns).is_ok()
                && black_box(rewrite(buffer, HEADROOM, &udp, slot, &self.l2)).is_ok()
            {
                passed += 1;
            }
        }
        passed
    }

    /// Makes all bursts in that order of their turns, and relays them or not; says how many packets there were, and how
    /// many passed.
    pub fn relay_bursts(
        &mut self,
        relay: bool,
        order: fn(u32) -> u32,
        clock: &mut u64,
    ) -> (usize, usize) {
        let mut passed = 0;
        for turn in 0..BURSTS {
            self.restore(order(turn));
            *clock += 20_000_000;
            if relay {
                passed += self.relay(*clock);
            }
            black_box(&mut self.buffers);
        }
        (BURST * BURSTS as usize, passed)
    }

    /// Nanoseconds a packet, and how many of them passed, with or without relaying them.
    fn run(&mut self, relay: bool, clock: &mut u64) -> (f64, usize) {
        let start = Instant::now();
        let (packets, passed) = self.relay_bursts(relay, |turn| turn, clock);
        (start.elapsed().as_nanos() as f64 / packets as f64, passed)
    }
}

/// The table.
pub fn run(args: &Args) -> Result<Verdict, Failure> {
    let mhz = mhz();
    let core = core_affinity::CoreId { id: args.core };
    if !core_affinity::set_for_current(core) {
        return Err(Failure::Environment(format!(
            "cannot run on CPU {}",
            args.core
        )));
    }
    let mut first = None;
    for case in &CASES {
        let mut bench = Bench::new(case);
        let mut clock = 1_000_000_000;
        let (mut costs, mut passed) = (Vec::new(), 0);
        for _ in 0..args.rounds.max(3) {
            let (without, _) = bench.run(false, &mut clock);
            let (with, count) = bench.run(true, &mut clock);
            costs.push((with - without) * mhz / 1000.0);
            passed = count;
        }
        let should_pass = !case.name.starts_with("dropped");
        let share = passed as f64 / (BURST as u32 * BURSTS) as f64;
        if (share > 0.99) != should_pass {
            return Err(Failure::Void(format!("{}: {share} passed", case.name)));
        }
        let cycles = median(&costs);
        let usual = *first.get_or_insert(cycles);
        let above = cycles - usual;
        args.case(
            json!({ "bench": "checks", "case": case.name, "cycles": round3(cycles), "above_usual": round3(above) }),
            &format!("{cycles:7.1} cycles {above:+8.1}  {}", case.name),
        )?;
    }
    Ok(Verdict::Measured)
}
