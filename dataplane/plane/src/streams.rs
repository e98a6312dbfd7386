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
            let peer = self
                .local(spec.peer)
                .ok_or((Refusal::NoSuchAddress, spec.peer))?;
            if peer.ip.is_ipv4() != local.ip.is_ipv4() {
                return Err((Refusal::WrongFamily, spec.endpoint));
            }
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
mod tests {
    use super::*;
    use penstock_config::{Config, DEFAULTS};
    use penstock_shm::{AddressEntry, Kind, Plane, RegionConfig};
    use std::path::Path;

    const A: Endpoint = Endpoint {
        addr: 0,
        port: 4000,
    };
    const B: Endpoint = Endpoint {
        addr: 0,
        port: 5000,
    };

    struct Bench {
        streams: Streams,
        seq: u64,
        _dir: tempfile::TempDir,
    }

    impl Bench {
        /// A table of 16 streams at 198.18.0.1/24 without a gateway, and room for so many next hops.
        fn new(next_hops: usize) -> Bench {
            let dir = tempfile::tempdir().unwrap();
            let region = RegionConfig {
                dir: dir.path().join("region"),
                table_dir: None,
                streams: 16,
                group: None,
            };
            let mut parts = Plane::open(&region).unwrap().split(1);
            let config = Config::parse(DEFAULTS, Path::new("defaults")).unwrap();
            let locals = crate::addresses::locals(&config, &[[2, 0, 0, 0, 0, 1]]);
            let entry = AddressEntry {
                ip: locals[0].ip,
                vlan: 0,
                port: 0,
                mtu: 1500,
            };
            assert_eq!(parts.table.set_addresses(&[entry]).unwrap(), [0]);
            let neighbours = Neighbours::new(next_hops);
            let streams = Streams::new(
                parts.table,
                vec![Some(locals[0].clone())],
                neighbours,
                Arc::new(Adjacencies::new()),
            );
            Bench {
                streams,
                seq: 0,
                _dir: dir,
            }
        }

        fn apply(&mut self, call: u64, ops: &[Op]) -> Result<(), Refusal> {
            self.seq += 1;
            let command = Command {
                seq: self.seq,
                call,
                ops: ops.to_vec(),
            };
            self.streams
                .apply(&command, 1)
                .map_err(|(reason, _)| reason)
        }

        fn slot(&self, endpoint: Endpoint) -> Slot {
            self.streams
                .table
                .slot(self.streams.table.find(endpoint).unwrap())
        }

        fn latch(&mut self, endpoint: Endpoint, source: &str) -> Option<Event> {
            let record = self.streams.table.find(endpoint).unwrap();
            let version = self.slot(endpoint).version;
            let source = source.parse().unwrap();
            self.streams.latch(
                &Latch {
                    record,
                    version,
                    source,
                },
                2,
            )
        }
    }

    fn spec(endpoint: Endpoint, peer: Endpoint, remote: Option<&str>, signal: u32) -> StreamSpec {
        StreamSpec {
            endpoint,
            peer,
            remote: remote.map(|r| r.parse().unwrap()),
            kind: Kind::Rtp,
            learn: Learn::Immediate,
            gate_open: true,
            signal,
            clock_hz: 8000,
            dscp: 46,
            leg: 0,
            media: 0,
        }
    }

    fn has(slot: &Slot, flags: u16) -> bool {
        slot.flags & flags == flags
    }

    fn destination(slot: &Slot) -> String {
        let [a, b, c, d] = slot.ip4[16..].try_into().unwrap();
        format!(
            "{a}.{b}.{c}.{d}:{}",
            u16::from_be_bytes([slot.udp_ports[2], slot.udp_ports[3]])
        )
    }

    #[test]
    fn a_route_stands_once_the_peers_remote_is_known() {
        let mut bench = Bench::new(8);
        bench
            .apply(
                7,
                &[
                    Op::Set(spec(A, B, Some("198.18.0.9:1000"), 1)),
                    Op::Set(spec(B, A, None, 1)),
                ],
            )
            .unwrap();
        assert!(!has(&bench.slot(A), flag::ROUTED));
        assert_eq!(destination(&bench.slot(B)), "198.18.0.9:1000");

        let event = bench.latch(B, "198.18.0.8:2000").unwrap();
        assert_eq!(
            event,
            Event::Latched {
                endpoint: B,
                remote: "198.18.0.8:2000".parse().unwrap(),
                signal: 1
            }
        );
        assert!(has(&bench.slot(B), flag::LOCKED | flag::LATCHED));
        assert_eq!(destination(&bench.slot(A)), "198.18.0.8:2000");
        assert_eq!(
            bench.latch(B, "198.18.0.7:2000"),
            None,
            "a locked stream does not move"
        );
    }

    #[test]
    fn new_signalling_lets_a_stream_learn_anew_and_the_same_does_not() {
        let mut bench = Bench::new(8);
        let set = |remote, signal| {
            [
                Op::Set(spec(A, B, Some("198.18.0.9:1000"), 1)),
                Op::Set(spec(B, A, Some(remote), signal)),
            ]
        };
        bench.apply(7, &set("198.18.0.8:2000", 1)).unwrap();
        bench.latch(B, "198.18.0.8:2222").unwrap();

        bench.apply(7, &set("198.18.0.8:2000", 1)).unwrap();
        assert!(
            has(&bench.slot(B), flag::LOCKED),
            "a command that comes twice changes nothing"
        );
        bench.apply(7, &set("198.18.0.8:2000", 2)).unwrap();
        assert!(!has(&bench.slot(B), flag::LOCKED));
        assert_eq!(
            destination(&bench.slot(A)),
            "198.18.0.8:2222",
            "until somebody else is heard"
        );
        bench.apply(7, &set("198.18.0.8:3000", 3)).unwrap();
        assert_eq!(
            destination(&bench.slot(A)),
            "198.18.0.8:3000",
            "the signalling named another address"
        );
    }

    #[test]
    fn a_refused_command_leaves_nothing_behind() {
        let mut bench = Bench::new(8);
        let nowhere = Endpoint {
            addr: 3,
            port: 4000,
        };
        let good = Op::Set(spec(A, B, None, 1));
        assert_eq!(
            bench.apply(7, &[good, Op::Set(spec(nowhere, A, None, 1))]),
            Err(Refusal::NoSuchAddress)
        );
        assert_eq!(
            bench.apply(7, &[good, Op::Set(spec(B, A, Some("[2001:db8::1]:9"), 1))]),
            Err(Refusal::WrongFamily)
        );
        let mut fixed = spec(B, A, Some("203.0.113.1:9"), 1);
        fixed.learn = Learn::Off;
        assert_eq!(
            bench.apply(7, &[good, Op::Set(fixed)]),
            Err(Refusal::NoRoute)
        );
        let many: Vec<Op> = (0..17)
            .map(|n| {
                Op::Set(spec(
                    Endpoint {
                        addr: 0,
                        port: 6000 + n,
                    },
                    A,
                    None,
                    1,
                ))
            })
            .collect();
        assert_eq!(bench.apply(7, &many), Err(Refusal::TableFull));
        assert_eq!(bench.streams.table.counts().live, 0);
    }

    #[test]
    fn a_next_hop_too_many_is_refused() {
        let mut bench = Bench::new(1);
        let ops = [
            Op::Set(spec(A, B, Some("198.18.0.9:1000"), 1)),
            Op::Set(spec(B, A, Some("198.18.0.8:1000"), 1)),
        ];
        assert_eq!(bench.apply(7, &ops), Err(Refusal::TooManyNextHops));
    }

    #[test]
    fn an_endpoint_belongs_to_one_call() {
        let mut bench = Bench::new(8);
        bench.apply(7, &[Op::Set(spec(A, B, None, 1))]).unwrap();
        let first = bench.streams.table.find(A).unwrap();
        bench.apply(8, &[Op::Remove(A)]).unwrap();
        assert_eq!(
            bench.streams.table.find(A),
            Some(first),
            "another call's removal does nothing"
        );
        bench.apply(8, &[Op::Set(spec(A, B, None, 1))]).unwrap();
        assert_ne!(
            bench.streams.table.find(A),
            Some(first),
            "another call gets another record and meter"
        );
        assert_eq!(bench.streams.table.counts().ended, 1);
    }
}
