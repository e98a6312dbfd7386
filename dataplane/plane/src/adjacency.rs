//! Next hops: what Ethernet header a packet leaves with, and through which port.
//!
//! The table is read by every worker for every packet and written by the steward alone. An entry is
//! two words, so a neighbour's new MAC is one store.

use penstock_relay::{L2Header, UntaggedL2};
use std::sync::atomic::{AtomicU64, Ordering};

/// How many next hops a plane knows at most: half a megabyte of them. Below the numbers that stand for none.
pub const CAPACITY: usize = 32_768;

const RESOLVED: u64 = 1;
const DEFINED: u64 = 2;
const OWN: u64 = 4;

/// The table. Numbers are handed out by [`crate::neighbour::Neighbours`].
pub struct Adjacencies {
    entries: Box<[Entry]>,
}

#[derive(Default)]
struct Entry {
    /// MAC of the next hop in the upper 48 bits, the port's index in the next 8, flags below.
    hop: AtomicU64,
    /// MAC of the port in the upper 48 bits, VLAN below. Set once, before `hop`.
    port: AtomicU64,
}

/// A next hop, as a worker uses it.
#[derive(Clone, Copy)]
pub struct Hop {
    /// Index of the egress port.
    pub port: usize,
    /// The header to write; its destination is zero while the next hop is not resolved.
    pub l2: L2Header,
    /// Whether the next hop's MAC is known.
    pub resolved: bool,
    /// Whether it is an address of `port` itself: what goes there enters again.
    pub own: bool,
    /// The header for the short way, which takes resolved next hops without a tag.
    pub usual: Option<UntaggedL2>,
    /// The entry this was made of.
    words: [u64; 2],
}

impl Hop {
    /// No next hop at all.
    pub fn none() -> Hop {
        Hop {
            port: 0,
            l2: L2Header::new([0; 6], [0; 6], 0),
            resolved: false,
            own: false,
            usual: None,
            words: [0; 2],
        }
    }
}

fn mac_word(mac: [u8; 6]) -> u64 {
    let [a, b, c, d, e, f] = mac;
    u64::from_be_bytes([a, b, c, d, e, f, 0, 0])
}

fn mac_of(word: u64) -> [u8; 6] {
    let [a, b, c, d, e, f, _, _] = word.to_be_bytes();
    [a, b, c, d, e, f]
}

impl Adjacencies {
    /// An empty table.
    pub fn new() -> Self {
        Adjacencies {
            entries: (0..CAPACITY).map(|_| Entry::default()).collect(),
        }
    }

    /// Says where number `n` leaves: a port, its MAC and a VLAN. The next hop is not resolved yet.
    pub fn define(&self, n: u16, port: u8, mac: [u8; 6], vlan: u16) {
        let entry = &self.entries[usize::from(n)];
        entry
            .port
            .store(mac_word(mac) | u64::from(vlan), Ordering::Relaxed);
        // Pairs with the Acquire loads of `get` and `is`: who sees the number defined sees the word above.
        entry
            .hop
            .store(u64::from(port) << 8 | DEFINED, Ordering::Release);
    }

    /// Makes number `n` an address of the port itself. It is never resolved, so that what goes there goes the long way.
    pub fn define_own(&self, n: u16, port: u8, mac: [u8; 6], vlan: u16) {
        self.define(n, port, mac, vlan);
        let hop = mac_word(mac) | u64::from(port) << 8 | DEFINED | OWN;
        // Release: as in `resolve`.
        self.entries[usize::from(n)]
            .hop
            .store(hop, Ordering::Release);
    }

    /// The next hop's MAC is known, or has changed.
    pub fn resolve(&self, n: u16, mac: [u8; 6]) {
        let hop = &self.entries[usize::from(n)].hop;
        let port = hop.load(Ordering::Relaxed) & 0xff00;
        // Pairs with `get` and `is`, as in `define`: every store has to, since they may see this one first.
        hop.store(mac_word(mac) | port | DEFINED | RESOLVED, Ordering::Release);
    }

    /// The next hop's MAC is not known any more.
    pub fn lose(&self, n: u16) {
        let hop = &self.entries[usize::from(n)].hop;
        let port = hop.load(Ordering::Relaxed) & 0xff00;
        // Pairs with `get` and `is`, as in `resolve`.
        hop.store(port | DEFINED, Ordering::Release);
    }

    /// No slot names the number any more, and no worker knows it.
    pub fn undefine(&self, n: u16) {
        // Pairs with `get`, though who sees 0 looks no further.
        self.entries[usize::from(n)].hop.store(0, Ordering::Release);
    }

    /// A next hop; `None` if the number was never defined.
    #[inline]
    pub fn get(&self, n: u16) -> Option<Hop> {
        let entry = self.entries.get(usize::from(n))?;
        // Pairs with the stores of `define`, `resolve` and `lose`: the other word is written.
        let hop = entry.hop.load(Ordering::Acquire);
        if hop & DEFINED == 0 {
            return None;
        }
        let port = entry.port.load(Ordering::Relaxed);
        let l2 = L2Header::new(mac_of(hop), mac_of(port), port as u16);
        let resolved = hop & RESOLVED != 0;
        Some(Hop {
            port: (hop >> 8) as u8 as usize,
            l2,
            resolved,
            own: hop & OWN != 0,
            usual: l2.untagged().filter(|_| resolved),
            words: [hop, port],
        })
    }

    /// Whether number `n` is still this next hop.
    #[inline]
    pub fn is(&self, n: u16, hop: &Hop) -> bool {
        let Some(entry) = self.entries.get(usize::from(n)) else {
            return false;
        };
        let words = [
            // Pairs as in `get`.
            entry.hop.load(Ordering::Acquire),
            entry.port.load(Ordering::Relaxed),
        ];
        words == hop.words
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_seen_once_it_is_resolved() {
        let table = Adjacencies::new();
        table.define(7, 3, [2, 0, 0, 0, 0, 9], 100);
        assert!(!table.get(7).unwrap().resolved);
        assert_eq!(
            table.get(7).unwrap().l2,
            L2Header::new([0; 6], [2, 0, 0, 0, 0, 9], 100)
        );
        table.resolve(7, [2, 1, 2, 3, 4, 5]);
        let hop = table.get(7).unwrap();
        assert_eq!(hop.port, 3);
        assert!(hop.resolved);
        assert_eq!(
            hop.l2,
            L2Header::new([2, 1, 2, 3, 4, 5], [2, 0, 0, 0, 0, 9], 100)
        );
        table.resolve(7, [2, 9, 9, 9, 9, 9]);
        assert_eq!(table.get(7).unwrap().port, 3);
        table.lose(7);
        let hop = table.get(7).unwrap();
        assert!(!hop.resolved && hop.usual.is_none() && hop.port == 3);
        table.undefine(7);
        assert!(table.get(7).is_none());
        table.define_own(9, 2, [2, 0, 0, 0, 0, 9], 100);
        let hop = table.get(9).unwrap();
        assert!(hop.own && !hop.resolved && hop.usual.is_none() && hop.port == 2);
        let mac = [2, 0, 0, 0, 0, 9];
        assert_eq!(hop.l2, L2Header::new(mac, mac, 100));
        assert!(table.get(8).is_none() && table.get(CAPACITY as u16).is_none());
    }
}
