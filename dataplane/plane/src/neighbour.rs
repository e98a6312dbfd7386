//! Who is on the link: resolves next hops by ARP (RFC 826), pure: time comes in, actions go out.
//!
//! A next hop is asked for when the first route needs it, asked again every second until it answers, and
//! confirmed every [`REFRESH`] from then on; a confirmation that does not come leaves the last
//! answer in force. Packets that wait for an answer are the steward's; this module counts tries.
//! IPv6 next hops have to be listed in the configuration.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

/// How often a neighbour that answered is asked again.
pub const REFRESH: Duration = Duration::from_secs(30);
const RETRY_FAST: Duration = Duration::from_millis(250);
const RETRY: Duration = Duration::from_secs(1);
/// Tries at the fast pace, before the slow one.
const FAST_TRIES: u32 = 4;

/// A neighbour's name: port index, VLAN and address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// Index of the port.
    pub port: u8,
    /// 802.1Q VLAN, 0 for none.
    pub vlan: u16,
    /// The neighbour's address.
    pub ip: IpAddr,
}

/// An ARP request to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask {
    /// Whom, and where.
    pub port: u8,
    /// 802.1Q VLAN, 0 for none.
    pub vlan: u16,
    /// The address to ask for.
    pub ip: Ipv4Addr,
    /// Our address on that link.
    pub from: Ipv4Addr,
}

#[derive(Debug)]
struct Neighbour {
    number: u16,
    from: IpAddr,
    mac: Option<[u8; 6]>,
    fixed: bool,
    tries: u32,
    next_ask_ns: u64,
}

/// All next hops, by name.
pub struct Neighbours {
    known: HashMap<Key, Neighbour>,
    capacity: usize,
}

/// The answer to [`Neighbours::number`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Number {
    /// Number in the adjacency table.
    pub number: u16,
    /// The entry is new: define it in the adjacency table.
    pub new: bool,
}

impl Neighbours {
    /// None yet; at most `capacity` of them.
    pub fn new(capacity: usize) -> Self {
        Neighbours {
            known: HashMap::new(),
            capacity,
        }
    }

    /// The number of a next hop, taken if it has none; `None` when there are too many.
    pub fn number(&mut self, key: Key, from: IpAddr, now_ns: u64) -> Option<Number> {
        if let Some(neighbour) = self.known.get(&key) {
            return Some(Number {
                number: neighbour.number,
                new: false,
            });
        }
        if self.known.len() >= self.capacity {
            return None;
        }
        let number = self.known.len() as u16;
        self.known.insert(
            key,
            Neighbour {
                number,
                from,
                mac: None,
                fixed: false,
                tries: 0,
                next_ask_ns: now_ns,
            },
        );
        Some(Number { number, new: true })
    }

    /// Fixes a neighbour's MAC: it is never asked.
    pub fn fix(&mut self, key: Key, mac: [u8; 6]) {
        if let Some(neighbour) = self.known.get_mut(&key) {
            neighbour.mac = Some(mac);
            neighbour.fixed = true;
        }
    }

    /// A neighbour spoke. Returns its number and whether its MAC is new. Strangers are not remembered.
    pub fn heard(&mut self, key: Key, mac: [u8; 6], now_ns: u64) -> Option<(u16, bool)> {
        let neighbour = self.known.get_mut(&key).filter(|n| !n.fixed)?;
        let changed = neighbour.mac != Some(mac);
        neighbour.mac = Some(mac);
        neighbour.tries = 0;
        neighbour.next_ask_ns = now_ns + REFRESH.as_nanos() as u64;
        Some((neighbour.number, changed))
    }

    /// Who is to be asked now; each is asked again later.
    pub fn due(&mut self, now_ns: u64) -> Vec<Ask> {
        let mut asks = Vec::new();
        for (key, neighbour) in &mut self.known {
            let (IpAddr::V4(ip), IpAddr::V4(from)) = (key.ip, neighbour.from) else {
                continue;
            };
            if neighbour.fixed || neighbour.next_ask_ns > now_ns {
                continue;
            }
            let pause = if neighbour.tries < FAST_TRIES {
                RETRY_FAST
            } else {
                RETRY
            };
            neighbour.tries += 1;
            neighbour.next_ask_ns = now_ns + pause.as_nanos() as u64;
            asks.push(Ask {
                port: key.port,
                vlan: key.vlan,
                ip,
                from,
            });
        }
        asks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;

    fn key(last: u8) -> Key {
        Key {
            port: 0,
            vlan: 0,
            ip: IpAddr::from([10, 0, 0, last]),
        }
    }

    fn us() -> IpAddr {
        IpAddr::from([10, 0, 0, 1])
    }

    #[test]
    fn asked_until_it_answers_then_confirmed() {
        let mut n = Neighbours::new(8);
        assert_eq!(
            n.number(key(2), us(), 0),
            Some(Number {
                number: 0,
                new: true
            })
        );
        assert_eq!(
            n.number(key(2), us(), 0),
            Some(Number {
                number: 0,
                new: false
            })
        );
        assert_eq!(n.due(0).len(), 1);
        assert_eq!(n.due(S / 10).len(), 0);
        assert_eq!(n.due(S).len(), 1);
        assert_eq!(n.heard(key(2), [2; 6], 2 * S), Some((0, true)));
        assert_eq!(n.due(31 * S).len(), 0);
        assert_eq!(n.due(32 * S).len(), 1);
        assert_eq!(n.heard(key(2), [2; 6], 33 * S), Some((0, false)));
        assert_eq!(n.heard(key(2), [4; 6], 34 * S), Some((0, true)));
    }

    #[test]
    fn strangers_are_not_remembered_and_the_number_is_bounded() {
        let mut n = Neighbours::new(1);
        assert_eq!(n.heard(key(9), [2; 6], 0), None);
        assert!(n.number(key(2), us(), 0).is_some());
        assert_eq!(n.number(key(3), us(), 0), None);
    }

    #[test]
    fn a_fixed_neighbour_cannot_be_moved_and_is_not_asked() {
        let mut n = Neighbours::new(4);
        n.number(key(2), us(), 0);
        n.fix(key(2), [2; 6]);
        assert!(n.due(S).is_empty());
        assert_eq!(n.heard(key(2), [6; 6], S), None);
    }
}
