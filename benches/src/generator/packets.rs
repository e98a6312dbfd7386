//! The packets that a generator sends: G.711 in RTP, of each flow in turn.
//!
//! What a flow's packets have in common is written once, with its checksum; what changes from packet to packet (sequence
//! number, timestamp, time of sending) is added to that checksum, once for all flows that share it.

use super::Flow;
use crate::capture::{self, Family, L2};

const RTP: usize = 12;
/// Octets of the time of sending, first in the payload.
const STAMP: usize = 8;
/// From the end of the RTP header back to the UDP checksum, the sequence number and the timestamp.
const CHECK: usize = RTP + 2;
const SEQ: usize = RTP - 2;
const TIMESTAMP: usize = RTP - 4;
/// Octets of the headers of a packet.
const V4: usize = headers(Family::Ipv4);
const V6: usize = headers(Family::Ipv6);
/// Samples in a packet of 20 ms.
const STEP: u32 = 160;

const fn headers(family: Family) -> usize {
    L2 + family.ip_header() + 8 + RTP
}

/// Octets of the shortest frame that carries the time of sending.
pub const fn least(family: Family) -> usize {
    headers(family) + STAMP
}

/// Octet number `at` of a payload, but for the time of sending. It repeats after as many octets as an IPv6 header is longer
/// than one of IPv4, so that one buffer serves both.
pub fn filler(at: usize) -> u8 {
    (at % (V6 - V4)) as u8 ^ 0x55
}

/// A frame whose payload, wherever it begins, is the filler.
pub fn filled(size: usize) -> Vec<u8> {
    let cycles = V6.next_multiple_of(V6 - V4);
    (0..size).map(|at| filler(at + cycles - V4)).collect()
}

/// The timestamp of a flow's packet of that round.
pub fn timestamp(round: u32) -> u32 {
    round.wrapping_mul(STEP)
}

/// The next packets of all flows.
pub struct Packets {
    templates: Vec<Template>,
    /// Whether the flows are of both IP versions.
    is_mixed: bool,
    /// The flow that is next.
    next: usize,
    /// How often all flows had their turn: the sequence number of the next packet.
    round: u32,
    round_sum: u32,
}

#[repr(align(64))]
struct Template {
    /// What the UDP checksum covers, without what changes.
    sum: u16,
    is_v6: bool,
    header: [u8; V6],
}

/// A time of sending, and its part of a checksum.
#[derive(Clone, Copy)]
pub struct Stamp {
    octets: [u8; STAMP],
    sum: u32,
}

impl Stamp {
    /// Of a time stamp counter's value.
    pub fn new(tsc: u64) -> Stamp {
        let octets = tsc.to_be_bytes();
        Stamp {
            octets,
            sum: capture::sum(0, &octets),
        }
    }
}

impl Packets {
    /// Frames of `size` bytes between the MAC addresses `macs` (from, to); flow number `n` has the SSRC `n + 1`.
    pub fn new(flows: &[Flow], macs: [[u8; 6]; 2], size: usize) -> Packets {
        let template = |(number, flow): (usize, &Flow)| {
            let family = Family::of(flow.from);
            let mut rtp = vec![0x80, 0, 0, 0, 0, 0, 0, 0];
            rtp.extend((number as u32 + 1).to_be_bytes());
            rtp.extend([0; STAMP]);
            let payload = RTP + STAMP..size - (headers(family) - RTP);
            rtp.extend(payload.map(|at| filler(at - RTP)));
            let frame = capture::frame(macs, flow.from, flow.to, &rtp);
            let len = headers(family);
            let check = [frame[len - CHECK], frame[len - CHECK + 1]];
            let mut header = [0; V6];
            header[..len].copy_from_slice(&frame[..len]);
            Template {
                sum: !u16::from_be_bytes(check),
                is_v6: family == Family::Ipv6,
                header,
            }
        };
        let mut packets = Packets {
            templates: flows.iter().enumerate().map(template).collect(),
            is_mixed: flows
                .iter()
                .any(|f| f.from.is_ipv4() != flows[0].from.is_ipv4()),
            next: 0,
            round: 0,
            round_sum: 0,
        };
        packets.set_round(0);
        packets
    }

    /// The round that a flow's next packet is of.
    pub fn round_of(&self, flow: usize) -> u32 {
        self.round.wrapping_add(u32::from(flow < self.next))
    }

    fn set_round(&mut self, round: u32) {
        self.round = round;
        let changing = [
            &(round as u16).to_be_bytes()[..],
            &timestamp(round).to_be_bytes(),
        ];
        self.round_sum = changing.iter().fold(0, |acc, part| capture::sum(acc, part));
    }

    #[inline(always)]
    fn advance(&mut self) {
        self.next += 1;
        if self.next == self.templates.len() {
            self.next = 0;
            self.set_round(self.round.wrapping_add(1));
        }
    }

    /// Leaves out the next packets: their flows lose them.
    pub fn skip(&mut self, count: usize) {
        (0..count).for_each(|_| self.advance());
    }

    /// Writes the next packet, but for the filler, which `frame` holds from its payload on.
    #[inline(always)]
    pub fn write(&mut self, frame: &mut [u8], stamp: Stamp) {
        if let Some(template) = self.templates.get(self.next) {
            if template.is_v6 {
                self.write_as::<V6>(template, frame, stamp);
            } else {
                self.write_as::<V4>(template, frame, stamp);
            }
        }
        self.advance();
    }

    #[inline(always)]
    fn write_as<const LEN: usize>(&self, template: &Template, frame: &mut [u8], stamp: Stamp) {
        let Some((header, payload)) = frame.split_first_chunk_mut::<LEN>() else {
            return;
        };
        *header = *template.header.first_chunk().expect("LEN is V4 or V6");
        let sum = capture::fold(u32::from(template.sum) + self.round_sum + stamp.sum);
        // A sum is never all zeros here: zero is for a packet without one.
        let check = if sum == 0xffff { sum } else { !sum };
        header[LEN - CHECK..LEN - CHECK + 2].copy_from_slice(&check.to_be_bytes());
        header[LEN - SEQ..LEN - SEQ + 2].copy_from_slice(&(self.round as u16).to_be_bytes());
        let time = LEN - TIMESTAMP;
        header[time..time + 4].copy_from_slice(&timestamp(self.round).to_be_bytes());
        if let Some(first) = payload.first_chunk_mut() {
            *first = stamp.octets;
        }
        if LEN == V4 && self.is_mixed {
            // Where the buffer may hold the longer header of another flow.
            let end = payload.len().min(STAMP + V6 - V4);
            for (at, octet) in payload[..end].iter_mut().enumerate().skip(STAMP) {
                *octet = filler(at);
            }
        }
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::capture::Stream;

    pub const MACS: [[u8; 6]; 2] = [capture::NEIGHBOUR_MAC, capture::OUR_MAC];

    pub fn flows(family: Family, count: u32) -> Vec<Flow> {
        let stream = |number| Stream { number, family };
        let flow = |number| Flow {
            from: stream(number).remote(),
            to: stream(number).local(),
            arrives_from: stream(number).peer().local(),
            arrives_at: stream(number).peer().remote(),
        };
        (0..count).map(flow).collect()
    }

    /// The next packet, in a frame that held something else.
    pub fn next(packets: &mut Packets, size: usize, stamp: u64) -> Vec<u8> {
        let v6 = packets.templates[packets.next].is_v6;
        let payload = if v6 { V6 } else { V4 };
        let mut frame = filled(size);
        frame[..payload].fill(0xee);
        packets.write(&mut frame, Stamp::new(stamp));
        frame
    }

    #[test]
    fn checksums_stay_right_however_often_a_flow_advances() {
        let mixed = [flows(Family::Ipv4, 2), flows(Family::Ipv6, 2)].concat();
        for size in [214, 215, least(Family::Ipv6)] {
            let mut packets = Packets::new(&mixed, MACS, size);
            for n in 0..300_000u64 {
                let at = (n % 4) as usize;
                let stamp = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
                let frame = next(&mut packets, size, stamp);
                let family = Family::of(mixed[at].from);
                assert_eq!(capture::udp_sum(family, &frame[L2..]), 0xffff, "{n}");
                let rtp = &frame[headers(family) - RTP..];
                assert_ne!(frame[headers(family) - CHECK..][..2], [0, 0], "none");
                assert_eq!(rtp[2..4], ((n / 4) as u16).to_be_bytes());
                assert_eq!(rtp[4..8], (160 * (n / 4) as u32).to_be_bytes());
                assert_eq!(rtp[8..12], (at as u32 + 1).to_be_bytes());
                assert_eq!(rtp[12..20], stamp.to_be_bytes());
                if family == Family::Ipv4 {
                    assert_eq!(capture::fold(capture::sum(0, &frame[L2..L2 + 20])), 0xffff);
                }
            }
        }
    }

    #[test]
    fn a_packet_left_out_is_lost_to_its_flow() {
        let mut packets = Packets::new(&flows(Family::Ipv4, 3), MACS, 214);
        next(&mut packets, 214, 1);
        packets.skip(4);
        assert_eq!(
            (0..3).map(|f| packets.round_of(f)).collect::<Vec<_>>(),
            [2, 2, 1]
        );
        assert_eq!(
            next(&mut packets, 214, 1)[V4 - RTP + 8..V4],
            3u32.to_be_bytes()
        );
    }
}
