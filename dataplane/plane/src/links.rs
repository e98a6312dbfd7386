//! The plane's next hops: neighbours and groups of gateways, their numbers, and what stands under those in
//! the workers' table.

use crate::addresses::{Local, NextHop};
use crate::adjacency::Adjacencies;
use crate::gateways::Group;
use crate::neighbour::{Action, Key, Mac, Neighbours};
use penstock_shm::{Refusal, TableWriter, flag};
use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;

/// Records looked at in one go by [`Links::sweep`]: a fraction of a millisecond.
const SLICE: u32 = 4096;

/// Who has an address: a question to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask {
    /// The neighbour.
    pub key: Key,
    /// Our address on that link.
    pub from: IpAddr,
    /// Whom to ask: this MAC alone, or everyone.
    pub at: Option<Mac>,
}

/// What the steward has to do.
#[derive(Default)]
pub struct Work {
    /// Questions to send.
    pub asks: Vec<Ask>,
    /// Numbers that were resolved: packets may wait for them.
    pub resolved: Vec<u16>,
}

/// All next hops.
pub struct Links {
    neighbours: Neighbours,
    groups: Vec<Group>,
    /// Numbers of our own addresses that routes lead to.
    own: HashMap<Key, u16>,
    adjacencies: Arc<Adjacencies>,
    sweep: Sweep,
}

/// How far the search for numbers in use is.
#[derive(Default)]
struct Sweep {
    /// The next record to look at.
    next: u32,
    began_ns: u64,
    /// Numbers that nothing names any more, by the epoch since which that is so.
    retired: VecDeque<(u64, u16)>,
}

impl Links {
    /// The next hops that the addresses' gateways are; each address learns the number of its group.
    pub fn new(
        neighbours: Neighbours,
        adjacencies: Arc<Adjacencies>,
        locals: &mut [Local],
        now_ns: u64,
    ) -> Links {
        let mut links = Links {
            neighbours,
            groups: Vec::new(),
            own: HashMap::new(),
            adjacencies,
            sweep: Sweep::default(),
        };
        links.regroup(locals, now_ns);
        links
    }

    /// The same for other addresses. Groups that are needed no more stay until [`Links::disband`].
    pub fn regroup(&mut self, locals: &mut [Local], now_ns: u64) {
        for local in locals.iter_mut().filter(|l| !l.gateways.is_empty()) {
            let keys: Vec<Key> = local
                .gateways
                .iter()
                .map(|&ip| local.neighbour(ip))
                .collect();
            if let Some(group) = self.groups.iter().find(|group| group.is(&keys)) {
                local.group = Some(group.number());
                continue;
            }
            // There are far more numbers than addresses.
            local.group = self.neighbours.take(now_ns);
            let Some(number) = local.group else { continue };
            self.adjacencies
                .define(number, local.port, local.mac, local.vlan);
            let mut group = Group::new(number, keys.iter().copied());
            for &key in &keys {
                if let Some(hop) = self.neighbours.number(key, local.ip, now_ns) {
                    if hop.new {
                        self.adjacencies
                            .define(hop.number, key.port, local.mac, key.vlan);
                    }
                    self.neighbours.keep(key, keys.len() > 1);
                }
                group.changed(key, self.neighbours.mac(key), now_ns);
            }
            self.groups.push(group);
        }
        let has =
            |l: &&Local, key: Key, ip: IpAddr| (l.port, l.vlan, l.ip) == (key.port, key.vlan, ip);
        self.neighbours.ask_from(|key, from| {
            let on_link =
                |l: &&Local| (l.port, l.vlan) == (key.port, key.vlan) && l.has_on_link(key.ip);
            let now = locals.iter().find(|l| has(l, key, from));
            now.or_else(|| locals.iter().find(on_link)).map(|l| l.ip)
        });
        // Gateways may be known already.
        self.choose(now_ns, &mut Work::default());
    }

    /// Gives up the groups that no address has any more, and the numbers of our own that are gone; no route names
    /// them.
    pub fn disband(&mut self, locals: &[Local], table: &mut TableWriter, now_ns: u64) {
        let is_used = |group: &Group| locals.iter().any(|l| l.group == Some(group.number()));
        let (stay, go): (Vec<_>, Vec<_>) = self.groups.drain(..).partition(is_used);
        self.groups = stay;
        for group in go {
            for key in group.keys() {
                if !self
                    .groups
                    .iter()
                    .any(|other| other.keys().any(|k| k == key))
                {
                    self.neighbours.let_go(key, now_ns);
                }
            }
            self.sweep
                .retired
                .push_back((table.retire(), group.number()));
        }
        let is_gone = |key: &Key, _: &mut u16| !locals.iter().any(|l| l.neighbour(l.ip) == *key);
        for (_, number) in self.own.extract_if(is_gone) {
            self.sweep.retired.push_back((table.retire(), number));
        }
    }

    /// A neighbour whose MAC the configuration no longer says.
    pub fn unfix(&mut self, key: Key, now_ns: u64) {
        self.neighbours.let_go(key, now_ns);
        for group in self.groups.iter().filter(|g| g.keys().any(|k| k == key)) {
            self.neighbours.keep(key, group.keys().count() > 1);
        }
    }

    /// The number of a next hop, which a route is about to use.
    pub fn number(&mut self, hop: NextHop, local: &Local, now_ns: u64) -> Result<u16, Refusal> {
        let key = match hop {
            NextHop::Gateways(number) => return Ok(number),
            NextHop::Neighbour(key) => key,
        };
        let hop = self
            .neighbours
            .number(key, local.ip, now_ns)
            .ok_or(Refusal::TooManyNextHops)?;
        if hop.new {
            self.adjacencies
                .define(hop.number, key.port, local.mac, key.vlan);
        }
        Ok(hop.number)
    }

    /// The number of one of our own addresses as a next hop. It stays as long as the address.
    pub fn own(&mut self, local: &Local, now_ns: u64) -> Result<u16, Refusal> {
        let key = local.neighbour(local.ip);
        if let Some(&number) = self.own.get(&key) {
            return Ok(number);
        }
        let number = self.neighbours.take(now_ns);
        let number = number.ok_or(Refusal::TooManyNextHops)?;
        self.adjacencies
            .define_own(number, local.port, local.mac, local.vlan);
        self.own.insert(key, number);
        Ok(number)
    }

    /// Fixes a neighbour from the configuration.
    pub fn fix(&mut self, key: Key, local: &Local, mac: Mac) -> Result<(), Refusal> {
        let number = self.number(NextHop::Neighbour(key), local, 0)?;
        self.neighbours.fix(key);
        self.act(
            Action::Resolve { key, number, mac },
            0,
            &mut Work::default(),
        );
        Ok(())
    }

    /// A neighbour spoke: see [`Neighbours::heard`].
    pub fn heard(&mut self, key: Key, said: Option<Mac>, answers: bool, now_ns: u64) -> Work {
        let mut work = Work::default();
        if let Some(action) = self.neighbours.heard(key, said, answers, now_ns) {
            self.act(action, now_ns, &mut work);
        }
        work
    }

    /// Whether this is a next hop, and its MAC.
    pub fn is_at(&self, key: Key, mac: Mac) -> bool {
        let hop = self
            .neighbours
            .find(key)
            .and_then(|n| self.adjacencies.get(n));
        hop.is_some_and(|hop| hop.resolved && hop.l2.destination() == mac)
    }

    /// What time demands.
    pub fn due(&mut self, now_ns: u64) -> Work {
        let mut work = Work::default();
        for action in self.neighbours.due(now_ns) {
            self.act(action, now_ns, &mut work);
        }
        self.choose(now_ns, &mut work);
        work
    }

    fn act(&mut self, action: Action, now_ns: u64, work: &mut Work) {
        let (key, mac) = match action {
            Action::Ask { key, from, at } => return work.asks.push(Ask { key, from, at }),
            Action::Resolve { key, number, mac } => {
                self.adjacencies.resolve(number, mac);
                work.resolved.push(number);
                (key, Some(mac))
            }
            Action::Lose { key, number } => {
                self.adjacencies.lose(number);
                (key, None)
            }
        };
        for group in &mut self.groups {
            group.changed(key, mac, now_ns);
        }
        self.choose(now_ns, work);
    }

    fn choose(&mut self, now_ns: u64, work: &mut Work) {
        for group in &mut self.groups {
            let number = group.number();
            match group.choose(now_ns) {
                None => continue,
                Some(Some(mac)) => {
                    self.adjacencies.resolve(number, mac);
                    work.resolved.push(number);
                }
                Some(None) => self.adjacencies.lose(number),
            }
            match group.active() {
                Some(gateway) => {
                    tracing::info!(gateway = %gateway.ip, vlan = gateway.vlan, "gateway in use")
                }
                None => tracing::warn!(number, "no gateway answers"),
            }
        }
    }

    /// Looks at the next records of the table for numbers in use; once around, forgets the next hops that no
    /// route has used for long. A number is given again when every worker has passed a quiescent point since.
    pub fn sweep(&mut self, table: &mut TableWriter, now_ns: u64) {
        let sweep = &mut self.sweep;
        while let Some(&(epoch, number)) = sweep.retired.front()
            && table.has_passed(epoch)
        {
            sweep.retired.pop_front();
            self.adjacencies.undefine(number);
            self.neighbours.release(number);
        }
        if sweep.next == 0 {
            sweep.began_ns = now_ns;
        }
        let end = sweep.next.saturating_add(SLICE).min(table.capacity());
        for record in (sweep.next..end).filter(|&record| table.is_live(record)) {
            let slot = table.slot(record);
            if slot.flags & flag::ROUTED != 0 {
                self.neighbours.mark(slot.adjacency, now_ns);
            }
        }
        sweep.next = end;
        if end == table.capacity() {
            sweep.next = 0;
            let forgotten = self.neighbours.forget(sweep.began_ns, now_ns);
            if !forgotten.is_empty() {
                let epoch = table.retire();
                sweep
                    .retired
                    .extend(forgotten.into_iter().map(|n| (epoch, n)));
            }
        }
    }
}
