//! What a generator makes of the packets that come back to it.

use super::Flow;
use super::packets::{Packets, filler, timestamp};
use crate::capture::{self, Family, L2, octets};
use std::net::SocketAddr;

/// One packet of so many is looked at whole: a prime, so that every flow has its turn.
const SAMPLE: u32 = 61;
const UDP: u8 = 17;

/// What came back in a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Packets of the run, each counted once.
    pub received: u64,
    /// Of them those that came after a later packet of their flow.
    pub out_of_order: u64,
    /// Packets that had come already.
    pub repeated: u64,
    /// UDP packets that are of no flow, from or to addresses that are not its, or changed.
    pub wrong: u64,
}

/// The flows' packets, as they come.
pub struct Arrivals {
    flows: Vec<Expected>,
    mac: [u8; 6],
    /// Whether addresses are held to the flow, and the MAC address to `mac`.
    checked: bool,
    /// When the run began, by the time stamp counter: what was sent before is of no interest.
    began: u64,
    until_sample: u32,
    counts: Counts,
    latency: Histogram,
}

#[repr(align(64))]
struct Expected {
    /// The next sequence number.
    next: u16,
    is_v6: bool,
    /// Source and destination, and both ports behind.
    addresses: [u8; 36],
    /// Bit `n`: whether the packet `n + 1` before the next one came.
    came: u64,
}

/// Where things are in a frame.
struct Place {
    family: Family,
    addresses: usize,
    rtp: usize,
}

const V4: Place = Place {
    family: Family::Ipv4,
    addresses: L2 + 12,
    rtp: L2 + 28,
};
const V6: Place = Place {
    family: Family::Ipv6,
    addresses: L2 + 8,
    rtp: L2 + 48,
};

impl Arrivals {
    /// For packets that are to arrive at `mac`.
    pub fn new(flows: &[Flow], mac: [u8; 6], checked: bool) -> Arrivals {
        let flow = |flow: &Flow| {
            let mut addresses = [0; 36];
            let all = addresses_of(flow.arrives_from, flow.arrives_at);
            addresses[..all.len()].copy_from_slice(&all);
            Expected {
                next: 0,
                is_v6: flow.arrives_at.is_ipv6(),
                addresses,
                came: 0,
            }
        };
        Arrivals {
            flows: flows.iter().map(flow).collect(),
            mac,
            checked,
            began: 0,
            until_sample: SAMPLE,
            counts: Counts::default(),
            latency: Histogram::new(),
        }
    }

    /// Begins a run: what `packets` has next is expected next.
    pub fn begin(&mut self, packets: &Packets, tsc: u64) {
        for (number, flow) in self.flows.iter_mut().enumerate() {
            flow.next = packets.round_of(number) as u16;
            flow.came = 0;
        }
        self.began = tsc;
        self.counts = Counts::default();
        self.latency = Histogram::new();
    }

    /// What came since.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// How long it took, in ticks of the time stamp counter.
    pub fn latency(&self) -> &Histogram {
        &self.latency
    }

    /// Takes a frame that came by `tsc`. `packets` are those that were sent.
    #[inline(always)]
    pub fn take(&mut self, frame: &[u8], tsc: u64, packets: &Packets) {
        let Some(place) = place(frame) else {
            return;
        };
        if self.follow(frame, place, tsc, packets).is_none() {
            self.counts.wrong += 1;
        }
    }

    /// None if it is wrong.
    #[inline(always)]
    fn follow(&mut self, frame: &[u8], place: &Place, tsc: u64, packets: &Packets) -> Option<()> {
        let rtp = frame.get(place.rtp..)?;
        let (rtp, payload) = rtp.split_first_chunk::<12>()?;
        let sent = u64::from_be_bytes(*payload.first_chunk()?);
        if sent < self.began {
            return Some(());
        }
        let number = u32::from_be_bytes([rtp[8], rtp[9], rtp[10], rtp[11]]).wrapping_sub(1);
        let flow = self.flows.get_mut(number as usize)?;
        let took = tsc.checked_sub(sent)?;
        if self.checked && !flow.is_addressed(frame, place) {
            return None;
        }
        self.until_sample -= 1;
        if self.until_sample == 0 {
            self.until_sample = SAMPLE;
            let round = packets.round_of(number as usize);
            let to_us = !self.checked || frame.starts_with(&self.mac);
            if !to_us || !is_whole(frame, place, round) {
                return None;
            }
        }
        let seq = u16::from_be_bytes([rtp[2], rtp[3]]);
        match flow.follow(seq) {
            Order::Next => {}
            Order::Late => self.counts.out_of_order += 1,
            Order::Again => {
                self.counts.repeated += 1;
                return Some(());
            }
        }
        self.counts.received += 1;
        self.latency.add(took);
        Some(())
    }
}

enum Order {
    Next,
    Late,
    Again,
}

impl Expected {
    #[inline(always)]
    fn is_addressed(&self, frame: &[u8], place: &Place) -> bool {
        let from = &frame[place.addresses..];
        match place.family {
            Family::Ipv4 => !self.is_v6 && from.starts_with(&self.addresses[..12]),
            Family::Ipv6 => self.is_v6 && from.starts_with(&self.addresses),
        }
    }

    #[inline(always)]
    fn follow(&mut self, seq: u16) -> Order {
        let ahead = seq.wrapping_sub(self.next) as i16;
        if ahead >= 0 {
            let shifted = self.came.checked_shl(ahead as u32 + 1).unwrap_or(0);
            self.came = shifted | 1;
            self.next = seq.wrapping_add(1);
            return Order::Next;
        }
        // What is too old to be remembered is taken for late.
        let bit = 1u64
            .checked_shl((-1 - i32::from(ahead)) as u32)
            .unwrap_or(0);
        if self.came & bit != 0 {
            return Order::Again;
        }
        self.came |= bit;
        Order::Late
    }
}

fn addresses_of(from: SocketAddr, at: SocketAddr) -> Vec<u8> {
    let ports = [from.port().to_be_bytes(), at.port().to_be_bytes()].concat();
    [octets(from.ip()), octets(at.ip()), ports].concat()
}

/// None for what is no UDP for us alone: questions for addresses, the kernel's announcements.
#[inline(always)]
fn place(frame: &[u8]) -> Option<&'static Place> {
    let place = match frame.get(12..15)? {
        [8, 0, 0x45] if frame.get(L2 + 9) == Some(&UDP) => &V4,
        [0x86, 0xdd, _] if frame.get(L2 + 6) == Some(&UDP) => &V6,
        _ => return None,
    };
    (frame[0] & 1 == 0 && frame.len() >= place.rtp).then_some(place)
}

/// Whether checksums, RTP header and payload are those of a packet of its flow, whose next one is of `round`.
#[cold]
fn is_whole(frame: &[u8], place: &Place, round: u32) -> bool {
    let (ip, rtp) = (&frame[L2..], &frame[place.rtp..]);
    let length = match place.family {
        Family::Ipv4 => usize::from(u16::from_be_bytes([ip[2], ip[3]])),
        Family::Ipv6 => 40 + usize::from(u16::from_be_bytes([ip[4], ip[5]])),
    };
    let is_ip = place.family == Family::Ipv6 || capture::fold(capture::sum(0, &ip[..20])) == 0xffff;
    let has_sum = frame[place.rtp - 2..place.rtp] != [0, 0];
    let behind = (round as u16).wrapping_sub(u16::from_be_bytes([rtp[2], rtp[3]]));
    let time = timestamp(round.wrapping_sub(behind.into()));
    let payload = (8..).zip(&rtp[20..]);
    length == ip.len()
        && is_ip
        && has_sum
        && capture::udp_sum(place.family, ip) == 0xffff
        && rtp[..2] == [0x80, 0]
        && rtp[4..8] == time.to_be_bytes()
        && payload.into_iter().all(|(at, octet)| filler(at) == *octet)
}

/// How often something took how long, to 3 %: 32 buckets to each doubling.
pub struct Histogram {
    buckets: Vec<u64>,
    total: u64,
}

const PER_DOUBLING: u32 = 32;

impl Histogram {
    fn new() -> Histogram {
        let doublings = (u64::BITS - PER_DOUBLING.ilog2() + 1) as usize;
        Histogram {
            buckets: vec![0; doublings * PER_DOUBLING as usize],
            total: 0,
        }
    }

    #[inline(always)]
    fn add(&mut self, ticks: u64) {
        if let Some(bucket) = self.buckets.get_mut(Self::bucket(ticks)) {
            *bucket += 1;
        }
        self.total += 1;
    }

    #[inline(always)]
    fn bucket(ticks: u64) -> usize {
        let shift = (ticks | u64::from(PER_DOUBLING)).ilog2() - PER_DOUBLING.ilog2();
        let doubling = (shift * PER_DOUBLING) as usize;
        doubling + (ticks >> shift) as usize
    }

    /// What that part of all values is not above; 0 if there are none.
    pub fn quantile(&self, part: f64) -> u64 {
        let wanted = ((self.total as f64 * part).ceil() as u64).max(1);
        let mut seen = 0;
        for (at, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return Self::most(at as u64);
            }
        }
        0
    }

    /// The largest value of a bucket.
    fn most(bucket: u64) -> u64 {
        let per = u64::from(PER_DOUBLING);
        if bucket < 2 * per {
            return bucket;
        }
        let shift = bucket / per - 1;
        ((bucket % per + per + 1) << shift).wrapping_sub(1)
    }
}

#[cfg(test)]
mod tests {
    use super::super::packets::tests::{MACS, flows, next};
    use super::*;

    const SIZE: usize = 214;

    /// A generator whose packets a correct relay brings to it.
    struct Looped {
        packets: Packets,
        arrivals: Arrivals,
        tsc: u64,
    }

    impl Looped {
        fn new(family: Family, checked: bool) -> Looped {
            let sent = flows(family, 2);
            // As relayed: what is sent has the addresses of what is to arrive.
            let relayed: Vec<Flow> = (sent.iter())
                .map(|flow| Flow {
                    from: flow.arrives_from,
                    to: flow.arrives_at,
                    ..flow.clone()
                })
                .collect();
            let packets = Packets::new(&relayed, MACS, SIZE);
            let mut arrivals = Arrivals::new(&sent, MACS[1], checked);
            arrivals.begin(&packets, 1000);
            Looped {
                packets,
                arrivals,
                tsc: 1000,
            }
        }

        fn next(&mut self) -> Vec<u8> {
            self.tsc += 10;
            next(&mut self.packets, SIZE, self.tsc)
        }

        fn take(&mut self, frame: &[u8]) {
            self.arrivals.take(frame, self.tsc + 100, &self.packets);
        }
    }

    fn counts(received: u64, out_of_order: u64, repeated: u64, wrong: u64) -> Counts {
        Counts {
            received,
            out_of_order,
            repeated,
            wrong,
        }
    }

    #[test]
    fn all_that_come_in_order_are_received() {
        for family in [Family::Ipv4, Family::Ipv6] {
            let mut it = Looped::new(family, true);
            for _ in 0..200_000 {
                let frame = it.next();
                it.take(&frame);
            }
            assert_eq!(it.arrivals.counts(), &counts(200_000, 0, 0, 0));
            assert_eq!(it.arrivals.latency().quantile(0.999), 101, "100, to 3 %");
        }
    }

    #[test]
    fn gaps_swaps_and_repeats_are_told_apart() {
        let mut it = Looped::new(Family::Ipv4, true);
        let mut sent: Vec<Vec<u8>> = (0..400).map(|_| it.next()).collect();
        sent.swap(100, 102); // of one flow
        sent.remove(50);
        sent.insert(300, sent[299].clone());
        sent.insert(310, sent[307].clone());
        sent.iter().for_each(|frame| it.take(frame));
        assert_eq!(it.arrivals.counts(), &counts(399, 1, 2, 0));
    }

    #[test]
    fn what_was_sent_before_the_run_is_left_alone() {
        let mut it = Looped::new(Family::Ipv4, true);
        let old = it.next();
        it.arrivals.begin(&it.packets, it.tsc + 1);
        it.take(&old);
        let new = it.next();
        it.take(&new);
        assert_eq!(it.arrivals.counts(), &counts(1, 0, 0, 0));
    }

    #[test]
    fn addresses_are_held_to_the_flow_where_asked() {
        for (family, at) in [(Family::Ipv4, V4.addresses), (Family::Ipv6, V6.addresses)] {
            for octet in [0, V4.rtp - 8 - V4.addresses] {
                let mut it = Looped::new(family, true);
                let mut frame = it.next();
                frame[at + octet] ^= 1;
                it.take(&frame);
                assert_eq!(it.arrivals.counts(), &counts(0, 0, 0, 1), "{octet}");
                let mut it = Looped::new(family, false);
                let mut frame = it.next();
                frame[at + octet] ^= 1;
                it.take(&frame);
                assert_eq!(it.arrivals.counts(), &counts(1, 0, 0, 0), "{octet}");
            }
        }
    }

    #[test]
    fn a_change_anywhere_is_found_in_the_samples() {
        for at in [0, L2 + 8, V4.rtp - 1, V4.rtp + 1, V4.rtp + 7, SIZE - 1] {
            let mut it = Looped::new(Family::Ipv4, true);
            for _ in 0..10 * SAMPLE {
                let mut frame = it.next();
                frame[at] ^= 2;
                it.take(&frame);
            }
            assert_eq!(it.arrivals.counts().wrong, 10, "{at}");
        }
    }

    #[test]
    fn what_is_of_no_flow_is_wrong_and_chatter_is_none() {
        let mut it = Looped::new(Family::Ipv4, false);
        let good = it.next();
        let mut stranger = good.clone();
        stranger[V4.rtp + 11] = 3;
        let mut group = good.clone();
        group[0] |= 1;
        let mut arp = good.clone();
        arp[13] = 6;
        for frame in [&stranger[..], &good[..50], &group, &arp, &[]] {
            it.take(frame);
        }
        assert_eq!(it.arrivals.counts(), &counts(0, 0, 0, 2));
    }

    #[test]
    fn the_histogram_is_right_to_three_percent() {
        for ticks in [0, 1, 31, 32, 63, 64, 65, 1000, 123_456_789, u64::MAX] {
            let mut histogram = Histogram::new();
            histogram.add(ticks);
            let found = histogram.quantile(0.5);
            assert!(
                found >= ticks && found - ticks <= ticks / 32,
                "{ticks}: {found}"
            );
        }
        let mut histogram = Histogram::new();
        (1..=1000).for_each(|ticks| histogram.add(ticks));
        assert!((990..=1023).contains(&histogram.quantile(0.99)));
    }
}
