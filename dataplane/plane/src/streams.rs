//! What control asks for, turned into records: the one place where routes are made.
//!
//! A stream's slot holds its own remote address and the route of its packets; the route leaves from
//! the peer's endpoint to the *peer's* remote address. Whatever changes a remote address (a command, a
//! latch) therefore also remakes the route of the peer.

use crate::addresses::Local;
use crate::adjacency::Adjacencies;
use crate::neighbour::{Key, Neighbours};
use crate::slow::Latch;
use penstock_relay::route::{self, Egress, Peer, Policy};
use penstock_shm::{
    Command, Endpoint, Event, Learn, Op, Refusal, Slot, StreamSpec, TableWriter, flag,
};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// The stream table with what routes are made of.
pub struct Streams {
    table: TableWriter,
    /// By address number; `None` for numbers whose address is no longer configured.
    locals: Vec<Option<Local>>,
    neighbours: Neighbours,
    adjacencies: Arc<Adjacencies>,
}

/// Why a command was not applied, and which endpoint it failed at.
pub type Refused = (Refusal, Endpoint);

/// A stream while its slot is being made.
#[derive(Clone, Copy)]
struct Draft {
    policy: Policy,
    peer: Endpoint,
}

impl Draft {
    fn of_slot(slot: &Slot) -> Draft {
        Draft {
            policy: Policy::of_slot(slot),
            peer: Endpoint::from_bits(slot.peer_endpoint),
        }
    }
}

/// By record number.
type Drafts = BTreeMap<u32, Draft>;

impl Streams {
    /// Takes the table; `locals` by address number.
    pub fn new(
        table: TableWriter,
        locals: Vec<Option<Local>>,
        neighbours: Neighbours,
        adjacencies: Arc<Adjacencies>,
    ) -> Self {
        Streams {
            table,
            locals,
            neighbours,
            adjacencies,
        }
    }

    /// The next hops, for ARP.
    pub fn neighbours(&mut self) -> &mut Neighbours {
        &mut self.neighbours
    }

    /// The table, for ageing.
    pub fn table(&mut self) -> &mut TableWriter {
        &mut self.table
    }

    /// Fixes a next hop from the configuration.
    pub fn fix(&mut self, key: Key, local: &Local, mac: [u8; 6]) -> Result<(), Refusal> {
        let number = self.next_hop(key, local, 0)?;
        self.neighbours.fix(key, mac);
        self.adjacencies.resolve(number, mac);
        Ok(())
    }

    /// Remakes every slot from its record's live one: after a restart, next hops and addresses have
    /// new numbers. Streams whose address is gone stay, without a route.
    pub fn resume(&mut self, now_ns: u64) -> u32 {
        let live: Vec<u32> = self.table.live().collect();
        let drafts = live.iter().map(|&no| (no, self.draft(no))).collect();
        if let Err((reason, endpoint)) = self.store(&drafts, now_ns) {
            tracing::error!(?endpoint, %reason, "a resumed stream has no route");
        }
        live.len() as u32
    }

    /// Applies a whole command, or nothing of it.
    pub fn apply(&mut self, command: &Command, now_ns: u64) -> Result<(), Refused> {
        self.admit(command)?;
        let mut drafts = Drafts::new();
        for op in &command.ops {
            match op {
                Op::Set(spec) => {
                    let number = self
                        .number_for(spec, command.call, now_ns)
                        .ok_or((Refusal::TableFull, spec.endpoint))?;
                    let draft = Draft {
                        policy: self.policy(number, spec),
                        peer: spec.peer,
                    };
                    drafts.insert(number, draft);
                }
                Op::Remove(endpoint) => self.remove(*endpoint, command.call, &mut drafts, now_ns),
                Op::Acknowledge { number, generation } => {
                    self.table.acknowledge(*number, *generation);
                }
            }
        }
        self.add_peers(&mut drafts);
        self.store(&drafts, now_ns)
    }

    /// Everything that can be refused, before anything is changed.
    fn admit(&self, command: &Command) -> Result<(), Refused> {
        let mut new = 0;
        for op in &command.ops {
            let Op::Set(spec) = op else { continue };
            let local = self
                .local(spec.endpoint)
                .ok_or((Refusal::NoSuchAddress, spec.endpoint))?;
            // The peer's may be of the other IP version.
            self.local(spec.peer)
                .ok_or((Refusal::NoSuchAddress, spec.peer))?;
            if let Some(remote) = spec.remote {
                if remote.is_ipv4() != local.ip.is_ipv4() {
                    return Err((Refusal::WrongFamily, spec.endpoint));
                }
                // A stream that learns may be signalled a private address behind a NAT.
                if spec.learn == Learn::Off && local.next_hop(remote.ip()).is_none() {
                    return Err((Refusal::NoRoute, spec.endpoint));
                }
            }
            let stands = self
                .table
                .find(spec.endpoint)
                .is_some_and(|no| self.call(no) == command.call);
            new += u32::from(!stands);
        }
        if new > self.table.counts().free {
            let first = command.ops.iter().find_map(|op| match op {
                Op::Set(spec) => Some(spec.endpoint),
                _ => None,
            });
            return Err((Refusal::TableFull, first.unwrap_or(Endpoint::from_bits(0))));
        }
        Ok(())
    }

    fn local(&self, endpoint: Endpoint) -> Option<&Local> {
        self.locals.get(usize::from(endpoint.addr))?.as_ref()
    }

    /// The record of an endpoint, taken if it has none. An endpoint that another call left behind is
    /// ended first, so that no meter is inherited.
    fn number_for(&mut self, spec: &StreamSpec, call: u64, now_ns: u64) -> Option<u32> {
        if let Some(number) = self.table.find(spec.endpoint)
            && self.call(number) != call
        {
            self.table.remove(number, now_ns);
        }
        self.table.insert(spec.endpoint, call, now_ns).ok()
    }

    fn remove(&mut self, endpoint: Endpoint, call: u64, drafts: &mut Drafts, now_ns: u64) {
        let Some(number) = self
            .table
            .find(endpoint)
            .filter(|&no| self.call(no) == call)
        else {
            return;
        };
        let peer = Endpoint::from_bits(self.table.slot(number).peer_endpoint);
        self.table.remove(number, now_ns);
        drafts.remove(&number);
        if let Some(peer) = self.table.find(peer) {
            let draft = self.draft(peer);
            drafts.entry(peer).or_insert(draft);
        }
    }

    /// Adopts a source that a worker saw, unless the stream has changed or locked meanwhile.
    pub fn latch(&mut self, latch: &Latch, now_ns: u64) -> Option<Event> {
        if !self.table.is_live(latch.record) {
            return None;
        }
        let slot = self.table.slot(latch.record);
        if slot.version != latch.version || slot.flags & flag::LOCKED != 0 {
            return None;
        }
        let mut draft = Draft::of_slot(&slot);
        draft.policy.remote = Some(latch.source);
        draft.policy.locked = true;
        draft.policy.latched = true;
        let mut drafts = Drafts::from([(latch.record, draft)]);
        self.add_peers(&mut drafts);
        self.store(&drafts, now_ns).ok()?;
        let endpoint = self.endpoint(latch.record);
        Some(Event::Latched {
            endpoint,
            remote: latch.source,
            signal: slot.signal,
        })
    }

    fn call(&self, number: u32) -> u64 {
        self.table.head(number).call.load(Relaxed)
    }

    fn endpoint(&self, number: u32) -> Endpoint {
        Endpoint::from_bits(self.table.head(number).endpoint.load(Relaxed))
    }

    fn draft(&self, number: u32) -> Draft {
        Draft::of_slot(&self.table.slot(number))
    }

    /// A peer that is not being changed has to be routed anew all the same: it may have waited for this
    /// stream, or sends to its remote address.
    fn add_peers(&self, drafts: &mut Drafts) {
        let peers: Vec<u32> = drafts
            .values()
            .filter_map(|draft| self.table.find(draft.peer))
            .collect();
        for peer in peers {
            drafts.entry(peer).or_insert_with(|| self.draft(peer));
        }
    }

    /// What control wants of a stream, with what the stream has learned before.
    ///
    /// New signalling lets the stream learn anew. Its remote address stays the learned one until
    /// then, unless the signalling names another address than the last one did.
    fn policy(&self, number: u32, spec: &StreamSpec) -> Policy {
        let slot = self.table.slot(number);
        let old = Policy::of_slot(&slot);
        let v6 = self
            .local(spec.endpoint)
            .is_some_and(|local| local.ip.is_ipv6());
        let mut policy = Policy::new(spec, v6, digest(spec.remote));
        let is_new = slot.version == 0;
        if is_new || !old.latched || policy.signalled != old.signalled || spec.learn == Learn::Off {
            return policy;
        }
        policy.remote = old.remote;
        policy.latched = true;
        policy.locked = old.locked && old.signal == spec.signal;
        policy
    }

    /// Makes the slot of each draft, with a route to its peer's remote address, and stores those that
    /// differ from what stands. Goes on after a failure, and returns the first.
    fn store(&mut self, drafts: &Drafts, now_ns: u64) -> Result<(), Refused> {
        let mut result = Ok(());
        for (&number, draft) in drafts {
            if let Err(reason) = self.store_one(number, draft, drafts, now_ns) {
                result = result.and(Err((reason, self.endpoint(number))));
            }
        }
        result
    }

    fn store_one(
        &mut self,
        number: u32,
        draft: &Draft,
        drafts: &Drafts,
        now_ns: u64,
    ) -> Result<(), Refusal> {
        let record = self.table.find(draft.peer);
        let peer = record.map(|no| {
            drafts
                .get(&no)
                .copied()
                .unwrap_or_else(|| self.draft(no))
                .policy
        });
        let (egress, failed) = match peer {
            Some(peer) => match self.egress(number, draft.peer, &peer, now_ns) {
                Ok(egress) => (egress, None),
                Err(reason) => (None, Some(reason)),
            },
            None => (None, None),
        };
        let peer = Peer {
            record: record.unwrap_or(u32::MAX),
            endpoint: draft.peer,
        };
        let old = self.table.slot(number);
        let slot = route::fill(&draft.policy, Some(peer), egress.as_ref(), old.version);
        if slot != old || old.version == 0 {
            self.table
                .update(number, &slot)
                .map_err(|_| Refusal::WorkerStuck)?;
        }
        failed.map_or(Ok(()), Err)
    }

    /// How a stream's packets leave; `None` while the peer's remote address is not known, or cannot be
    /// reached from here.
    fn egress(
        &mut self,
        number: u32,
        source: Endpoint,
        peer: &Policy,
        now_ns: u64,
    ) -> Result<Option<Egress>, Refusal> {
        let own = self.endpoint(number);
        let (Some(arrival), Some(local), Some(destination)) = (
            self.local(own).map(|local| local.ip),
            self.local(source).cloned(),
            peer.remote,
        ) else {
            return Ok(None);
        };
        let Some(key) = local.next_hop(destination.ip()) else {
            return Ok(None);
        };
        Ok(Some(Egress {
            endpoint: SocketAddr::new(arrival, own.port),
            source: SocketAddr::new(local.ip, source.port),
            destination,
            adjacency: self.next_hop(key, &local, now_ns)?,
            mtu: local.mtu,
            tos: peer.tos,
        }))
    }

    fn next_hop(&mut self, key: Key, local: &Local, now_ns: u64) -> Result<u16, Refusal> {
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
}

/// FNV-1a over the address and port: equal for equal addresses, and that is all it is used for.
fn digest(remote: Option<SocketAddr>) -> [u8; 4] {
    let Some(remote) = remote else { return [0; 4] };
    let mut hash = 0x811c_9dc5u32;
    let mut eat = |bytes: &[u8]| {
        for &byte in bytes {
            hash = (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
        }
    };
    match remote {
        SocketAddr::V4(v4) => eat(&v4.ip().octets()),
        SocketAddr::V6(v6) => eat(&v6.ip().octets()),
    }
    eat(&remote.port().to_be_bytes());
    hash.to_ne_bytes()
}

#[cfg(test)]
mod tests;
