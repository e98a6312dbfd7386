//! One body for the fuzz target and for the tests that run its corpus: whatever the frame, nothing
//! panics, and what passes leaves as the same datagram under new headers.
//!
//! Input: sixteen octets that choose the stream ([`Choice`]), then the frame.

use penstock_relay::route::{self, Egress, Policy};
use penstock_relay::{
    Class, L2Header, LocalAddrs, Udp, classify, judge, local, meter, rewrite, source,
};
use penstock_shm::record::{Kind, Learn, Meter, Slot};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

const HEADROOM: usize = 64;

struct Choice<'a>(&'a [u8; 16]);

impl Choice<'_> {
    fn bit(&self, n: usize) -> bool {
        self.0[n / 8] >> (n % 8) & 1 != 0
    }

    fn number(&self, at: usize) -> u16 {
        u16::from_be_bytes([self.0[at], self.0[at + 1]])
    }

    fn slot(&self, v6: bool, source: Option<SocketAddr>) -> Slot {
        let policy = Policy {
            v6,
            remote: source.filter(|_| self.bit(0)),
            locked: self.bit(1),
            latched: self.bit(2),
            kind: [Kind::Rtp, Kind::Rtcp, Kind::Raw][usize::from(self.0[1] % 3)],
            learn: if self.bit(3) {
                Learn::Immediate
            } else {
                Learn::Off
            },
            gate_open: !self.bit(4),
            signal: 1,
            clock_hz: u32::from(self.number(2)),
            tos: self.0[4],
            leg: 0,
            media: 0,
            signalled: [0; 4],
        };
        let port = self.number(6);
        let (from, to) = if v6 != self.bit(5) {
            (IpAddr::from([0xfd; 16]), IpAddr::from([self.0[8]; 16]))
        } else {
            (IpAddr::from([10; 4]), IpAddr::from([self.0[8]; 4]))
        };
        let egress = Egress {
            source: SocketAddr::new(from, !port),
            destination: SocketAddr::new(to, port),
            adjacency: 1,
            mtu: self.number(10),
            tos: self.0[9],
        };
        route::fill(&policy, None, Some(&egress), 1)
    }
}

/// Judges the frame in `data` as a stream that `data` chooses would. Says whether it passed.
pub fn run(data: &[u8]) -> bool {
    let Some((choice, frame)) = data.split_first_chunk() else {
        return false;
    };
    let choice = Choice(choice);
    let mac = match frame.first_chunk() {
        Some(destination) if !choice.bit(6) => *destination,
        _ => [2, 0, 0, 0, 0, 1],
    };
    steward(frame, mac);
    misplaced(frame, &choice);
    let Class::Udp(udp) = classify(frame, &mac, choice.bit(7)) else {
        return false;
    };
    let end = udp.l3 + udp.packet_len();
    assert!(end <= frame.len() && udp.length >= 8);
    let source = source(frame, &udp);
    assert!(source.is_some_and(|source| source.is_ipv6() == udp.v6));
    let slot = choice.slot(udp.v6, source);

    let meter = Meter::default();
    let verdict = judge(frame, &udp, &slot, &meter, u64::from(choice.number(12)));
    let dropped = meter.dropped.load(std::sync::atomic::Ordering::Relaxed);
    assert_eq!(verdict.is_ok(), meter.packets.get() == 1);
    assert_eq!(verdict.is_err(), dropped == 1);
    assert_eq!(meter::lost_total(&meter), 0);
    if verdict.is_err() {
        return false;
    }
    assert!(udp.packet_len() <= usize::from(slot.mtu));
    forward(frame, &udp, &slot, choice.number(14) & 0x0fff);
    true
}

fn forward(frame: &[u8], udp: &Udp, slot: &Slot, vlan: u16) {
    let mut buffer = vec![0; HEADROOM];
    buffer.extend_from_slice(frame);
    let l2 = L2Header::new([2, 0, 0, 0, 0, 2], [2, 0, 0, 0, 0, 1], vlan);
    let range = rewrite(&mut buffer, HEADROOM, udp, slot, &l2).expect("a packet that passed");
    let (before, after) = (udp_part(frame, udp), &buffer[range.clone()]);
    let class = classify(after, &[2, 0, 0, 0, 0, 2], false);
    let Class::Udp(left) = class else {
        panic!("what left is {class:?}")
    };
    assert_eq!(range.len(), left.l3 + left.packet_len());
    assert_eq!(
        (left.vlan, left.v6, left.length),
        (vlan, udp.v6, udp.length)
    );
    assert_eq!(left.port.to_be_bytes(), slot.udp_ports[2..]);
    let changed = udp_part(after, &left);
    assert_eq!(before[8..], changed[8..], "payload");
    if before[6..8] == [0, 0] {
        assert_eq!(changed[6..8], [0, 0]);
    } else {
        assert_ne!(changed[6..8], [0, 0]);
        assert_eq!(
            udp_error(frame, udp),
            udp_error(after, &left),
            "an error stays an error"
        );
    }
}

/// UDP header and payload.
fn udp_part<'a>(frame: &'a [u8], udp: &Udp) -> &'a [u8] {
    let end = udp.l3 + udp.packet_len();
    &frame[end - udp.length..end]
}

/// What the UDP checksum is off by, modulo 65535: 0 if it is right.
pub fn udp_error(frame: &[u8], udp: &Udp) -> u64 {
    let l3 = udp.l3;
    let addresses = if udp.v6 {
        l3 + 8..l3 + 40
    } else {
        l3 + 12..l3 + 20
    };
    let datagram = udp_part(frame, udp);
    (plain_sum(&frame[addresses]) + plain_sum(datagram) + 17 + udp.length as u64) % 0xffff
}

/// Sum of the big-endian 16-bit words (RFC 1071).
pub fn plain_sum(bytes: &[u8]) -> u64 {
    let word = |pair: &[u8]| u64::from(pair[0]) << 8 | u64::from(*pair.get(1).unwrap_or(&0));
    bytes.chunks(2).map(word).sum()
}

fn steward(frame: &[u8], mac: [u8; 6]) {
    if let Some(arp) = local::arp_parse(frame) {
        let reply = local::arp_parse(&local::arp_reply(&arp, [2; 6])).expect("our own reply");
        assert_eq!(
            (reply.sender_ip, reply.target_ip),
            (arp.target_ip, arp.sender_ip)
        );
        assert_eq!((reply.vlan, reply.is_request), (arp.vlan, false));
    }
    let mut echo = frame.to_vec();
    match local::icmp_echo_reply(&mut echo, mac) {
        Some(len) => assert!(len <= frame.len()),
        None => assert_eq!(echo, frame),
    }
}

/// A geometry that is not this frame's must do no harm.
fn misplaced(frame: &[u8], choice: &Choice<'_>) {
    let mut addrs = LocalAddrs::new();
    let _ = addrs.insert(choice.number(14), Ipv4Addr::LOCALHOST.into(), 1);
    let _ = addrs.insert(choice.number(14), Ipv6Addr::LOCALHOST.into(), 2);
    for v6 in [false, true] {
        let udp = Udp {
            l3: usize::from(choice.0[12]).wrapping_sub(usize::from(choice.bit(5)) * 20),
            v6,
            vlan: choice.number(14),
            length: usize::from(choice.number(10)).wrapping_sub(usize::from(choice.bit(4)) * 40),
            port: choice.number(6),
        };
        let _ = addrs.find(frame, &udp);
        let slot = choice.slot(v6, source(frame, &udp));
        let _ = judge(frame, &udp, &slot, &Meter::default(), 0);
        let l2 = L2Header::new([0; 6], [0; 6], choice.number(14));
        for start in [
            usize::from(choice.0[13]),
            usize::MAX - usize::from(choice.0[13]),
        ] {
            let _ = rewrite(&mut frame.to_vec(), start, &udp, &slot, &l2);
        }
    }
}
