//! Sources that send what nobody takes: who does so too often is told apart from who does so by chance.

use std::net::{IpAddr, Ipv6Addr};

const SECOND_NS: u64 = 1_000_000_000;
const PLACES: usize = 1024;

#[derive(Clone, Copy, Default)]
struct Place {
    source: u32,
    packets: u32,
    since_ns: u64,
}

/// What sources sent in vain within the last second, in a table of fixed size: a source that finds its
/// place taken by another one takes it over, when that one's second has passed.
pub struct Floods {
    places: Box<[Place; PLACES]>,
    per_s: u32,
}

/// A source as it is counted: an IPv6 host has a whole /64 to send from.
fn name(source: IpAddr) -> u32 {
    let network = match source {
        IpAddr::V4(_) => source,
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64).into(),
    };
    penstock_shm::record::digest_ip(network)
}

impl Floods {
    /// `per_s` is how many packets a source may send in vain within a second.
    pub fn new(per_s: u32) -> Floods {
        Floods {
            places: Box::new([Place::default(); PLACES]),
            per_s,
        }
    }

    /// Counts a packet that nobody takes; says whether its source floods.
    pub fn count(&mut self, source: IpAddr, now_ns: u64) -> bool {
        let source = name(source);
        let place = &mut self.places[source as usize % PLACES];
        if now_ns.saturating_sub(place.since_ns) >= SECOND_NS {
            *place = Place {
                source,
                packets: 0,
                since_ns: now_ns,
            };
        }
        if place.source != source {
            return false;
        }
        place.packets = place.packets.saturating_add(1);
        place.packets > self.per_s
    }

    /// Whether a source floods, by what was counted.
    pub fn is_known(&self, source: IpAddr, now_ns: u64) -> bool {
        let source = name(source);
        let place = &self.places[source as usize % PLACES];
        place.source == source
            && place.packets > self.per_s
            && now_ns.saturating_sub(place.since_ns) < SECOND_NS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_floods_within_a_second_and_others_do_not_suffer() {
        let mut floods = Floods::new(10);
        let [bad, good] = [IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2])];
        let now_ns = 5 * SECOND_NS;
        for n in 1..=20 {
            assert_eq!(floods.is_known(bad, now_ns + n), n > 11, "{n}");
            assert_eq!(floods.count(bad, now_ns + n), n > 10, "{n}");
        }
        assert!(!floods.count(good, now_ns));
        assert!(!floods.is_known(good, now_ns));
        assert!(!floods.is_known(bad, now_ns + 2 * SECOND_NS));
        assert!(!floods.count(bad, now_ns + 2 * SECOND_NS));
    }
}
