//! Pairs of ports: first in, first out, and at rest for a while in between.

use crate::family::Family;
use crate::{Interface, Local};
use std::collections::{HashMap, VecDeque};
use std::time::Duration;

/// One interface's pairs, named by their even port.
struct Pool {
    interface: Interface,
    /// In the order they were freed; the time is when the rest is over.
    free: VecDeque<(u16, Duration)>,
    /// By `port / 2`, relative to `first_pair`.
    used: Vec<bool>,
    first_pair: u16,
}

/// The pools of all interfaces.
pub(crate) struct Pools {
    pools: Vec<Pool>,
    rest: Duration,
    /// Of names that several interfaces share, how often they were asked for.
    turns: HashMap<String, usize>,
}

fn fits(interface: &Interface, name: &str, family: Option<Family>) -> bool {
    interface.name == name && family.is_none_or(|family| Family::of(interface.ip) == family)
}

impl Pools {
    pub(crate) fn new(interfaces: Vec<Interface>, rest: Duration, seed: u64) -> Pools {
        let pools = interfaces
            .into_iter()
            .map(|interface| Pool::new(interface, seed))
            .collect();
        Pools {
            pools,
            rest,
            turns: HashMap::new(),
        }
    }

    /// The first address of an interface, or the first of that family.
    pub(crate) fn facing(&self, name: &str, family: Option<Family>) -> Option<&Interface> {
        let mut all = self.pools.iter().map(|pool| &pool.interface);
        all.find(|interface| fits(interface, name, family))
    }

    /// The interface of that name; or, of those named `name:...`, each in turn.
    pub(crate) fn resolve(&mut self, name: &str) -> Option<String> {
        if self.facing(name, None).is_some() {
            return Some(name.to_owned());
        }
        let mut names: Vec<&str> = Vec::new();
        for pool in &self.pools {
            let full = pool.interface.name.as_str();
            let base = full.split_once(':').map(|(base, _)| base);
            if base == Some(name) && !names.contains(&full) {
                names.push(full);
            }
        }
        if names.is_empty() {
            return None;
        }
        let turn = self.turns.entry(name.to_owned()).or_default();
        let chosen = names.get(*turn % names.len())?;
        *turn = turn.wrapping_add(1);
        Some((*chosen).to_owned())
    }

    pub(crate) fn first(&self) -> Option<&Interface> {
        self.pools.first().map(|pool| &pool.interface)
    }

    pub(crate) fn first_of(&self, family: Family) -> Option<&Interface> {
        let mut all = self.pools.iter().map(|pool| &pool.interface);
        all.find(|interface| Family::of(interface.ip) == family)
    }

    /// The interface that gave out this pair, or would have.
    pub(crate) fn of(&self, local: Local) -> Option<&Interface> {
        let mut all = self.pools.iter().map(|pool| &pool.interface);
        all.find(|interface| interface.holds(local))
    }

    /// The pair that has been free for longest, if its rest is over: at the first of the interface's addresses
    /// that has one.
    pub(crate) fn take(
        &mut self,
        name: &str,
        family: Option<Family>,
        now: Duration,
    ) -> Option<Local> {
        let fitting = self
            .pools
            .iter_mut()
            .filter(|pool| fits(&pool.interface, name, family));
        for pool in fitting {
            if let Some(local) = pool.take(now) {
                return Some(local);
            }
        }
        None
    }

    /// As [`Pools::take`], at an address of the interface that none of `held` is at: first one of the family of the first
    /// of those.
    pub(crate) fn take_beside(
        &mut self,
        name: &str,
        held: &[Local],
        now: Duration,
    ) -> Option<Local> {
        let own = held.first().map(|local| Family::of(local.ip));
        let is_own = |pool: &&mut Pool| Some(Family::of(pool.interface.ip)) == own;
        let fitting = self.pools.iter_mut().filter(|pool| {
            let at = (pool.interface.ip, pool.interface.vlan);
            let is_held = held.iter().any(|local| (local.ip, local.vlan) == at);
            fits(&pool.interface, name, None) && !is_held && pool.is_ready(now)
        });
        let (mut own, others): (Vec<_>, Vec<_>) = fitting.partition(is_own);
        own.extend(others);
        own.into_iter().next()?.take(now)
    }

    /// Marks a pair as taken: for a call that comes from the store. False if it is taken already.
    /// A pair outside every pool (the configuration changed) is nobody else's: true.
    pub(crate) fn claim(&mut self, local: Local) -> bool {
        let Some(pool) = self.owner(local) else {
            return true;
        };
        !pool.set_used(local.port, true)
    }

    /// Takes a claim back, before [`Pools::settle`].
    pub(crate) fn unclaim(&mut self, local: Local) {
        if let Some(pool) = self.owner(local) {
            pool.set_used(local.port, false);
        }
    }

    /// After the last [`Pools::claim`]: takes what was claimed out of the queues.
    pub(crate) fn settle(&mut self) {
        for pool in &mut self.pools {
            let (used, first) = (&pool.used, pool.first_pair);
            pool.free
                .retain(|&(port, _)| !used[usize::from(port / 2 - first)]);
        }
    }

    /// Becomes `next`: pairs in use stay in use, also those of `held` that had no pool; pairs at rest
    /// keep their time and their order, behind those that are new.
    pub(crate) fn replace(&mut self, mut next: Pools, held: &[Local]) {
        for local in self.used().chain(held.iter().copied()) {
            // One that is claimed twice stands in both lists.
            next.claim(local);
        }
        next.settle();
        let mut known = HashMap::new();
        for pool in &self.pools {
            for &(port, ready) in &pool.free {
                known.insert(pool.local(port), (known.len() + 1, ready));
            }
        }
        for pool in &mut next.pools {
            let mut free: Vec<_> = std::mem::take(&mut pool.free)
                .into_iter()
                .map(|(port, ready)| {
                    let (place, ready) = *known.get(&pool.local(port)).unwrap_or(&(0, ready));
                    (place, port, ready)
                })
                .collect();
            free.sort_by_key(|&(place, ..)| place);
            pool.free = free
                .into_iter()
                .map(|(_, port, ready)| (port, ready))
                .collect();
        }
        *self = next;
    }

    pub(crate) fn interfaces(&self) -> impl Iterator<Item = &Interface> {
        self.pools.iter().map(|pool| &pool.interface)
    }

    /// Pairs in use.
    pub(crate) fn used(&self) -> impl Iterator<Item = Local> {
        self.pools.iter().flat_map(|pool| {
            let used = (pool.first_pair..)
                .zip(&pool.used)
                .filter(|(_, used)| **used);
            used.map(|(pair, _)| pool.local(pair * 2))
        })
    }

    /// Gives back a pair that nobody has seen: it is the next to be taken again.
    pub(crate) fn untake(&mut self, local: Local) {
        if let Some(pool) = self.owner(local)
            && pool.set_used(local.port, false)
        {
            pool.free.push_front((local.port, Duration::ZERO));
        }
    }

    /// Lays a pair to rest.
    pub(crate) fn release(&mut self, local: Local, now: Duration) {
        let ready = now + self.rest;
        if let Some(pool) = self.owner(local)
            && pool.set_used(local.port, false)
        {
            pool.free.push_back((local.port, ready));
        }
    }

    /// Pairs in use and pairs in all, of each interface.
    pub(crate) fn usage(&self) -> impl Iterator<Item = (&str, usize, usize)> {
        let mut sums: Vec<(&str, usize, usize)> = Vec::new();
        for pool in &self.pools {
            let name = pool.interface.name.as_str();
            let used = pool.used.iter().filter(|&&used| used).count();
            match sums.iter_mut().find(|sum| sum.0 == name) {
                Some(sum) => (sum.1, sum.2) = (sum.1 + used, sum.2 + pool.used.len()),
                None => sums.push((name, used, pool.used.len())),
            }
        }
        sums.into_iter()
    }

    fn owner(&mut self, local: Local) -> Option<&mut Pool> {
        self.pools.iter_mut().find(|pool| {
            pool.interface.ip == local.ip
                && pool.interface.vlan == local.vlan
                && local.port.is_multiple_of(2)
                && local.port / 2 >= pool.first_pair
                && usize::from(local.port / 2 - pool.first_pair) < pool.used.len()
        })
    }
}

impl Pool {
    fn new(interface: Interface, seed: u64) -> Pool {
        let (first, last) = interface.ports;
        // Whole pairs only: an even port and the odd one after it.
        let first_pair = first.div_ceil(2);
        let end_pair = (u32::from(last).div_ceil(2)) as u16;
        let mut free: VecDeque<_> = (first_pair..end_pair)
            .map(|pair| (pair * 2, Duration::ZERO))
            .collect();
        let count = free.len();
        if count > 0 {
            free.rotate_left((seed % count as u64) as usize);
        }
        Pool {
            interface,
            free,
            used: vec![false; count],
            first_pair,
        }
    }

    /// Whether there is a pair that has rested.
    fn is_ready(&self, now: Duration) -> bool {
        self.free.front().is_some_and(|&(_, ready)| ready <= now)
    }

    fn take(&mut self, now: Duration) -> Option<Local> {
        if !self.is_ready(now) {
            return None;
        }
        let (port, _) = self.free.pop_front()?;
        self.set_used(port, true);
        Some(self.local(port))
    }

    fn local(&self, port: u16) -> Local {
        Local {
            ip: self.interface.ip,
            vlan: self.interface.vlan,
            port,
        }
    }

    /// Returns what it was.
    fn set_used(&mut self, port: u16, used: bool) -> bool {
        let idx = usize::from(port / 2 - self.first_pair);
        std::mem::replace(&mut self.used[idx], used)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pools(ports: (u16, u16), seed: u64) -> Pools {
        let interface = Interface {
            name: "a".into(),
            ip: [192, 0, 2, 1].into(),
            vlan: 0,
            advertise: [192, 0, 2, 1].into(),
            ports,
        };
        Pools::new(vec![interface], Duration::from_secs(2), seed)
    }

    fn take(pools: &mut Pools, s: u64) -> Option<u16> {
        pools
            .take("a", None, Duration::from_secs(s))
            .map(|local| local.port)
    }

    #[test]
    fn pairs_are_whole_and_even() {
        for (range, want) in [
            ((10_000, 10_003), vec![10_000, 10_002]),
            ((10_001, 10_004), vec![10_002]),
            ((10_001, 10_002), vec![]),
            ((65_532, 65_535), vec![65_532, 65_534]),
        ] {
            let mut pools = pools(range, 0);
            let mut got = Vec::new();
            while let Some(port) = take(&mut pools, 0) {
                got.push(port);
            }
            assert_eq!(got, want, "{range:?}");
        }
    }

    #[test]
    fn freed_pairs_rest_and_come_back_in_order() {
        let mut pools = pools((10_000, 10_005), 1);
        let first = pools.take("a", None, Duration::ZERO).unwrap();
        assert_eq!(first.port, 10_002);
        pools.release(first, Duration::from_secs(10));
        assert_eq!(take(&mut pools, 10), Some(10_004));
        assert_eq!(take(&mut pools, 10), Some(10_000));
        assert_eq!(take(&mut pools, 11), None);
        assert_eq!(take(&mut pools, 12), Some(10_002));
    }

    #[test]
    fn a_pair_is_released_once_and_claimed_once() {
        let mut pools = pools((10_000, 10_003), 0);
        let local = pools.local_for_test(10_002);
        assert!(pools.claim(local));
        assert!(!pools.claim(local));
        pools.settle();
        assert_eq!(take(&mut pools, 0), Some(10_000));
        assert_eq!(take(&mut pools, 0), None);
        pools.release(local, Duration::ZERO);
        pools.release(local, Duration::ZERO);
        assert_eq!(take(&mut pools, 2), Some(10_002));
        assert_eq!(take(&mut pools, 9), None);
    }

    impl Pools {
        fn local_for_test(&self, port: u16) -> Local {
            self.pools[0].local(port)
        }
    }
}
