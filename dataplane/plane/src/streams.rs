//! What control asks for, turned into records: the one place where routes are made.
//!
//! A stream's slot holds its own remote address and the route of its packets; the route leaves from
//! the peer's endpoint to the *peer's* remote address. Whatever changes a remote address (a command, a
//! latch) therefore also remakes the route of the peer.

mod alternates;
mod calls;
mod egress;
mod fed;
mod ice;
mod pierce;

use crate::addresses::Local;
use crate::fans::Fans;
use crate::feeds::Feeds;
use crate::links::Links;
use crate::slow::Latch;
use crate::windows::{Window, Windows};
use penstock_relay::Rules;
use penstock_relay::learn::Ask;
use penstock_relay::route::{self, Peer, Policy};
use penstock_shm::record::{digest_address, rank};
use penstock_shm::{
    Command, Endpoint, Event, Ice, Learn, Op, Refusal, Slot, StreamSpec, TableWriter,
};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// The stream table with what routes are made of.
pub struct Streams {
    table: TableWriter,
    /// By address number; `None` for numbers whose address is no longer configured.
    locals: Vec<Option<Local>>,
    links: Links,
    rules: Arc<Rules>,
    windows: Windows,
    /// Which stream sends by which endpoint, and is fed by which.
    feeds: Feeds,
    /// Streams whose policing changed, and the epoch of that: a worker may have been at work on the former one.
    police_anew: Vec<(u32, u64)>,
    /// What a worker that stood still kept from being done.
    retries: Vec<Latch>,
    pierces: pierce::Pierces,
}

/// Why a command was not applied, and which endpoint it failed at.
pub type Refused = (Refusal, Endpoint);

/// A stream while its slot is being made.
#[derive(Clone, Copy)]
struct Draft {
    policy: Policy,
    peer: Endpoint,
    ice: Option<Ice>,
}

impl Draft {
    fn of_slot(slot: &Slot, ice: Option<Ice>, endpoint: Endpoint) -> Draft {
        Draft {
            policy: Policy::of_slot(slot, endpoint),
            peer: Endpoint::from_bits(slot.peer_endpoint),
            ice,
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
        links: Links,
        rules: Arc<Rules>,
        window: Window,
        fans: Arc<Fans>,
    ) -> Self {
        Streams {
            feeds: Feeds::new(fans, table.capacity()),
            table,
            locals,
            links,
            rules,
            windows: Windows::new(window),
            police_anew: Vec::new(),
            retries: Vec::new(),
            pierces: pierce::Pierces::default(),
        }
    }

    /// The next hops.
    pub fn links(&mut self) -> &mut Links {
        &mut self.links
    }

    /// The table, for ageing.
    pub fn table(&mut self) -> &mut TableWriter {
        &mut self.table
    }

    /// Looks for next hops that nothing uses: see [`Links::sweep`].
    pub fn sweep(&mut self, now_ns: u64) {
        self.links.sweep(&mut self.table, now_ns);
    }

    /// Other addresses, by number, and rules. Routes are made from them from now on; those that stand are
    /// remade by [`Streams::reroute`].
    pub fn renew(&mut self, locals: Vec<Option<Local>>, rules: Arc<Rules>, window: Window) {
        self.locals = locals;
        self.rules = rules;
        self.windows.set(window);
        // Profiles keep their numbers, and may have other rates.
        let (live, epoch) = (self.table.live().collect::<Vec<u32>>(), self.table.retire());
        for &number in &live {
            self.table.police_anew(number);
        }
        self.police_anew
            .extend(live.into_iter().map(|number| (number, epoch)));
    }

    /// Remakes the slots of these records: next hops and addresses are others now.
    pub fn reroute(&mut self, records: std::ops::Range<u32>, now_ns: u64) {
        let live = records.filter(|&number| self.table.is_live(number));
        let drafts = live.map(|number| (number, self.draft(number))).collect();
        if let Err((reason, endpoint)) = self.store(&drafts, now_ns) {
            tracing::error!(?endpoint, %reason, "a stream has no route any more");
        }
    }

    /// Gives up the groups of gateways that no address has any more; see [`Links::disband`].
    pub fn disband(&mut self, locals: &[Local], now_ns: u64) {
        self.links.disband(locals, &mut self.table, now_ns);
    }

    /// How many streams each of these address numbers has.
    pub fn count(&self, numbers: &[u16]) -> Vec<u32> {
        let mut counts = vec![0; numbers.len()];
        for record in self.table.live() {
            let number = self.endpoint(record).addr;
            if let Some(place) = numbers.iter().position(|n| *n == number) {
                counts[place] += 1;
            }
        }
        counts
    }

    /// The address numbers in use, with what they stand for.
    pub fn locals(&self) -> impl Iterator<Item = (u16, &Local)> {
        let numbered = (0..).zip(&self.locals);
        numbered.filter_map(|(number, local)| Some((number, local.as_ref()?)))
    }

    /// Remakes every slot from its record's live one: after a restart, next hops and addresses have
    /// new numbers. Streams whose address is gone stay, without a route.
    pub fn resume(&mut self, now_ns: u64) -> u32 {
        let live: Vec<u32> = self.table.live().collect();
        let mut drafts = live.iter().map(|&no| (no, self.draft(no))).collect();
        self.note(&mut drafts);
        if let Err((reason, endpoint)) = self.store(&drafts, now_ns) {
            tracing::error!(?endpoint, %reason, "a resumed stream has no route");
        }
        self.await_phones(&drafts, now_ns);
        for &number in &live {
            let slot = self.table.slot(number);
            if slot.rank != rank::NONE {
                let head = self.table.head(number);
                self.windows.open(number, head, &slot, now_ns);
            }
        }
        live.len() as u32
    }

    /// Ends the learning windows that are over, adopts what a window deferred, and has policing that changed looked at
    /// once more. Each lock is an event for `report`.
    pub fn tick(&mut self, now_ns: u64, mut report: impl FnMut(Event)) {
        let Streams {
            police_anew, table, ..
        } = self;
        police_anew.retain(|&(number, epoch)| {
            let passed = table.has_passed(epoch);
            if passed {
                table.police_anew(number);
            }
            !passed
        });
        for latch in std::mem::take(&mut self.retries) {
            if let Some(event) = self.latch(&latch, now_ns) {
                report(event);
            }
        }
        for latch in self.windows.deferred() {
            let _ = self.adopt(&latch, rank::ANY, false, now_ns);
        }
        while let Some(number) = self.windows.over(&self.table, now_ns) {
            if let Some(event) = self.lock(number, now_ns) {
                report(event);
            }
        }
    }

    /// Applies a whole command, or nothing of it.
    pub fn apply(&mut self, command: &Command, now_ns: u64) -> Result<(), Refused> {
        self.admit(command)?;
        let mut drafts = Drafts::new();
        for (at, op) in command.ops.iter().enumerate() {
            match op {
                Op::Set(spec) => {
                    let ice = ice::of(&command.ops, at);
                    let number = self
                        .number_for(spec, command.call, &mut drafts, now_ns)
                        .ok_or((Refusal::TableFull, spec.endpoint))?;
                    let draft = Draft {
                        policy: self.policy(number, spec, ice, now_ns),
                        peer: spec.peer,
                        ice,
                    };
                    drafts.insert(number, draft);
                }
                Op::Feed(feeding) => self.feed(feeding, command.call, &mut drafts),
                Op::Remove(endpoint) => self.remove(*endpoint, command.call, &mut drafts, now_ns),
                Op::Acknowledge { number, generation } => {
                    self.table.acknowledge(*number, *generation);
                }
                Op::Move { endpoint, from } => self.take_over(*endpoint, *from, command.call),
                // Taken with its stream.
                Op::Ice { .. } => {}
            }
        }
        self.note(&mut drafts);
        self.add_peers(&mut drafts);
        self.store(&drafts, now_ns)?;
        // Not before: who is looked at while his slot is the old one is given up.
        self.await_phones(&drafts, now_ns);
        Ok(())
    }

    /// Everything that can be refused, before anything is changed.
    fn admit(&self, command: &Command) -> Result<(), Refused> {
        self.feeds.admit(command)?;
        ice::admit(&command.ops)?;
        let mut new = 0;
        let mut moved = Vec::new();
        for (at, op) in command.ops.iter().enumerate() {
            if let Op::Move { endpoint, from } = op
                && self.of(*endpoint, *from).is_some()
            {
                moved.push(*endpoint);
            }
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
                // A stream that learns may be signalled a private address behind a NAT, and nobody need be sent to by an
                // alternate.
                if spec.learn == Learn::Off
                    && !alternates::is_one(&command.ops, at)
                    && self.own(local, remote.ip()).is_none()
                    && local.next_hop(remote.ip()).is_none()
                {
                    return Err((Refusal::NoRoute, spec.endpoint));
                }
            }
            let stands = self.of(spec.endpoint, command.call).is_some();
            new += u32::from(!stands && !moved.contains(&spec.endpoint));
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

    /// The address of ours that `ip` is, seen from `local`: of whatever port, but in the same VLAN, since a VLAN is a
    /// network of its own, in which the address may be another host's.
    fn own(&self, local: &Local, ip: IpAddr) -> Option<&Local> {
        let mut locals = self.locals.iter().flatten();
        locals.find(|own| (own.ip, own.vlan) == (ip, local.vlan))
    }

    /// Has streams stored anew as they are.
    fn add(&self, numbers: impl IntoIterator<Item = u32>, drafts: &mut Drafts) {
        for number in numbers {
            drafts.entry(number).or_insert_with(|| self.draft(number));
        }
    }

    /// Does what a worker asks about a source it saw, unless the stream has changed meanwhile. A lock is an event.
    pub fn latch(&mut self, latch: &Latch, now_ns: u64) -> Option<Event> {
        if !self.table.is_live(latch.record) {
            return None;
        }
        if let Ask::Check { ufrag, check } = latch.ask {
            return self.checked(latch, ufrag, &check, now_ns);
        }
        let slot = self.table.slot(latch.record);
        if slot.version != latch.version {
            return None;
        }
        match latch.ask {
            Ask::Lock => self.lock(latch.record, now_ns),
            // Sources that take turns would have the route change with every packet.
            Ask::Adopt { lock: false, .. }
                if slot.learn == Learn::Delayed as u8 && slot.rank != rank::NONE =>
            {
                self.windows.defer(*latch);
                None
            }
            Ask::Adopt { rank, lock } => self.adopt(latch, rank, lock, now_ns),
            Ask::Check { .. } => None,
        }
    }

    /// Makes a source the stream's remote, and the end of the learning window known to its owner.
    fn adopt(&mut self, latch: &Latch, rank: u8, lock: bool, now_ns: u64) -> Option<Event> {
        let number = latch.record;
        let slot = self.table.slot(number);
        if !self.table.is_live(number) || slot.version != latch.version {
            return None;
        }
        let mut draft = self.draft(number);
        let policy = &mut draft.policy;
        if policy.locked {
            policy.known = policy.remote.map_or(0, digest_address);
            policy.former = false;
            policy.rank = rank::NONE;
        }
        if !lock && policy.rank == rank::NONE {
            let packets = self.table.tally(number).meter.packets.get() as u32;
            policy.learn_until = packets.wrapping_add(self.windows.packets());
            let head = self.table.head(number);
            self.windows.open(number, head, &slot, now_ns);
        }
        policy.remote = Some(latch.source);
        policy.latched = true;
        policy.locked = lock;
        policy.rank = rank;
        self.change(latch, draft, Drafts::new(), now_ns)
    }

    /// Locks a stream to the source it has learned.
    fn lock(&mut self, number: u32, now_ns: u64) -> Option<Event> {
        let slot = self.table.slot(number);
        let mut draft = self.draft(number);
        if draft.policy.locked || !draft.policy.latched {
            return None;
        }
        draft.policy.locked = true;
        let latch = Latch {
            record: number,
            version: slot.version,
            source: draft.policy.remote?,
            ask: Ask::Lock,
        };
        self.change(&latch, draft, Drafts::new(), now_ns)
    }

    /// Changes the stream, and others along with it. What was asked comes back at the next tick if a worker stands still:
    /// nobody would ask again.
    fn change(
        &mut self,
        latch: &Latch,
        draft: Draft,
        mut drafts: Drafts,
        now_ns: u64,
    ) -> Option<Event> {
        let number = latch.record;
        let Policy {
            remote,
            locked,
            spec,
            ..
        } = draft.policy;
        drafts.insert(number, draft);
        self.add_peers(&mut drafts);
        if let Err((reason, _)) = self.store(&drafts, now_ns) {
            if reason == Refusal::WorkerStuck {
                self.retries.push(*latch);
            }
            return None;
        }
        Some(Event::Latched {
            endpoint: self.endpoint(number),
            remote: remote.filter(|_| locked)?,
            signal: spec.signal,
        })
    }

    fn endpoint(&self, number: u32) -> Endpoint {
        Endpoint::from_bits(self.table.head(number).endpoint.load(Relaxed))
    }

    fn draft(&self, number: u32) -> Draft {
        let ice = self.table.ice(number);
        Draft::of_slot(&self.table.slot(number), ice, self.endpoint(number))
    }

    /// A peer that is not being changed has to be routed anew all the same: it may have waited for this
    /// stream, or sends to its remote address, as everybody does whose packets leave by this endpoint.
    fn add_peers(&self, drafts: &mut Drafts) {
        let mut peers: Vec<u32> = drafts
            .values()
            .filter_map(|draft| self.table.find(draft.peer))
            .collect();
        for &number in drafts.keys() {
            peers.extend(self.feeds.senders(self.home(number)));
        }
        self.add(peers, drafts);
    }

    /// What control wants of a stream, with what the stream has learned before.
    ///
    /// New signalling lets the stream learn anew, its old source first: that one stays the remote address, and is
    /// locked again by its next packet. Signalling that names another address than the last one did begins afresh.
    fn policy(&self, number: u32, spec: &StreamSpec, ice: Option<Ice>, now_ns: u64) -> Policy {
        let slot = self.table.slot(number);
        let old = Policy::of_slot(&slot, spec.endpoint);
        let v6 = self
            .local(spec.endpoint)
            .is_some_and(|local| local.ip.is_ipv6());
        let mut policy = Policy::new(spec, v6);
        let is_new = slot.version == 0;
        let is_anew = old.spec.signal != spec.signal || old.spec.gate_open != spec.gate_open;
        policy.signalled_ns = match is_new || is_anew {
            true => now_ns,
            false => old.signalled_ns,
        };
        if spec.learn == Learn::Checks {
            let stands = self.table.ice(number) == ice;
            return ice::policy(policy, Some(&old).filter(|_| !is_new), stands);
        }
        if is_new || spec.learn == Learn::Off {
            return policy;
        }
        if policy.signalled != old.signalled {
            // Packets of the old source may still be under way.
            policy.known = old.remote.filter(|_| old.latched).map_or(0, digest_address);
            policy.former = policy.known != 0;
            return policy;
        }
        (policy.known, policy.former) = (old.known, old.former);
        if !old.latched {
            return policy;
        }
        policy.remote = old.remote;
        policy.latched = true;
        if old.spec.signal == spec.signal {
            policy.locked = old.locked;
            policy.rank = old.rank;
            policy.learn_until = old.learn_until;
        } else if old.locked {
            policy.known = old.remote.map_or(0, digest_address);
            policy.former = false;
        }
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
        let exit = self.exit(draft.peer, drafts);
        let (egress, failed) = match &exit {
            Some(exit) => match self.egress(number, exit.endpoint, &exit.policy, now_ns) {
                Ok(egress) => (egress, None),
                Err(reason) => (None, Some(reason)),
            },
            None => (None, None),
        };
        let (endpoint, home) = (self.endpoint(number), self.home(number));
        let part = self.feeds.opposite(home, draft.peer);
        let peer = Peer {
            record: part.or(exit.map(|exit| exit.number)).unwrap_or(u32::MAX),
            endpoint: draft.peer,
        };
        let old = self.table.slot(number);
        let mut policy = draft.policy;
        (policy.copies, policy.parts) = self.feeds.fan_out(number, home);
        let denied = |remote: SocketAddr| !self.rules.sources.admit(remote.ip());
        let own = |remote: SocketAddr| {
            let local = self.local(endpoint);
            local.is_some_and(|local| self.own(local, remote.ip()).is_some())
        };
        policy.own_remote = policy.remote.is_some_and(own);
        policy.denied = !policy.own_remote && policy.remote.is_some_and(denied);
        let slot = route::fill(&policy, Some(peer), egress.as_ref(), old.version);
        if slot != old || old.version == 0 || draft.ice != self.table.ice(number) {
            self.table
                .update_with(number, &slot, draft.ice.as_ref())
                .map_err(|_| Refusal::WorkerStuck)?;
        }
        if slot.police != old.police {
            self.table.police_anew(number);
            self.police_anew.push((number, self.table.retire()));
        }
        failed.map_or(Ok(()), Err)
    }
}

#[cfg(test)]
mod tests;
