//! Between the media core's words and the region's: local addresses have numbers there.

use penstock_config::PoliceMedia;
use penstock_media::{Class, Desired, Feed, Kind, Learn, Local, Op, Shared, Stream};
use penstock_shm as shm;
use penstock_shm::record::accept;
use std::collections::{BTreeMap, HashMap, HashSet};

// A call with as much media as it may have fits a command, streams that it replaces and all, and any bundle of it fits an endpoint.
const _: () = assert!(shm::MAX_OPS >= penstock_media::MAX_MEDIA * 4 * (3 + 1));
const _: () = assert!(shm::MAX_OPS >= penstock_media::MAX_PAIRS * 2 * (3 + 1));
const _: () = assert!(shm::MAX_PARTS + 1 >= penstock_media::MAX_MEDIA * 2);

/// The region's numbers of local addresses and of policing profiles.
#[derive(Debug, Default)]
pub(crate) struct Addresses {
    numbers: BTreeMap<(std::net::IpAddr, u16), u16>,
    /// What the profiles are for, and their numbers.
    police: Vec<(PoliceMedia, u8)>,
    /// Which region they are of.
    generation: u64,
}

impl Addresses {
    pub(crate) fn read(table: &shm::TableView, police: &[(PoliceMedia, u8)]) -> Addresses {
        let all = table.addresses().into_iter().filter(|a| a.present);
        Addresses {
            numbers: all
                .map(|a| ((a.entry.ip, a.entry.vlan), a.number))
                .collect(),
            police: police.to_vec(),
            generation: table.info().generation,
        }
    }

    pub(crate) fn endpoint(&self, local: Local) -> Option<shm::Endpoint> {
        let addr = *self.numbers.get(&(local.ip, local.vlan))?;
        Some(shm::Endpoint {
            addr,
            port: local.port,
        })
    }

    /// The number of the first profile that is for the class; 0 for none.
    fn profile(&self, class: Class) -> u8 {
        let is_for = |(media, _): &&(PoliceMedia, u8)| match media {
            PoliceMedia::Audio => class == Class::Audio,
            PoliceMedia::Video => class == Class::Video,
            PoliceMedia::Image => class == Class::Image,
            PoliceMedia::Rtcp => class == Class::Rtcp,
            PoliceMedia::Any => true,
        };
        let found = self.police.iter().find(is_for);
        found.map_or(0, |&(_, number)| number)
    }

    fn feed(&self, feed: Feed) -> Option<shm::Feed> {
        Some(match feed {
            Feed::Own => shm::Feed::Own,
            Feed::CopyOf(parent) => shm::Feed::CopyOf(self.endpoint(parent)?),
            Feed::PartOf(parent) => shm::Feed::PartOf(self.endpoint(parent)?),
            Feed::AltOf(parent) => shm::Feed::AltOf(self.endpoint(parent)?),
        })
    }

    /// The address among a stream's that the plane does not have.
    fn missing(&self, stream: &Stream) -> Local {
        let parent = match stream.feed {
            Feed::Own => None,
            Feed::CopyOf(parent) | Feed::PartOf(parent) | Feed::AltOf(parent) => Some(parent),
        };
        let mut all = [Some(stream.local), parent].into_iter().flatten();
        all.find(|local| self.endpoint(*local).is_none())
            .unwrap_or(stream.peer)
    }

    fn spec(&self, stream: &Stream) -> Option<Wanted> {
        let endpoint = self.endpoint(stream.local)?;
        let peer = self.endpoint(stream.peer)?;
        let spec = shm::StreamSpec {
            remote: stream.remote,
            kind: match stream.kind {
                Kind::Rtp => shm::Kind::Rtp,
                Kind::Rtcp => shm::Kind::Rtcp,
                Kind::Raw => shm::Kind::Raw,
            },
            learn: match stream.learn {
                _ if stream.ice.is_some() => shm::Learn::Checks,
                Learn::Off => shm::Learn::Off,
                Learn::Immediate => shm::Learn::Immediate,
                Learn::Delayed => shm::Learn::Delayed,
                Learn::Heuristic => shm::Learn::Heuristic,
            },
            handover: stream.handover,
            hint: stream
                .hint
                .map_or(0, |ip| shm::record::hint(ip, self.generation)),
            gate_open: stream.gate_open,
            signal: stream.signal,
            clock_hz: stream.clock_hz.min(shm::MAX_CLOCK_HZ),
            payload_types: stream.payload_types,
            strict_payload: stream.strict_payload,
            event_type: stream.event_type.unwrap_or(0),
            accept: match stream.shared {
                Shared::Nothing => 0,
                Shared::Zrtp => accept::ZRTP,
                Shared::Dtls => accept::DTLS | accept::STUN,
            },
            secure: stream.secure,
            police: self.profile(stream.class),
            capture: stream.capture,
            dscp: stream.dscp.map_or(shm::Dscp::Default, shm::Dscp::Set),
            leg: stream.leg,
            media: stream.media as u8,
            feed: self.feed(stream.feed)?,
            mid: stream.mid.map(|mid| shm::Mid {
                extension: mid.extension,
                name: mid.name,
            }),
            drop_events: stream.drop_events,
            pierce: stream.pierce,
            ..shm::StreamSpec::new(endpoint, peer)
        };
        let ice = stream.ice.map(|ice| shm::Ice {
            ufrag: ice.ufrag,
            pwd: ice.pwd,
        });
        Some(Wanted { spec, ice })
    }

    /// The op in the region's words; `Err` with the address that the plane does not have. What
    /// is to be removed from such an address, or moved, is gone already.
    pub(crate) fn ops(&self, ops: &[Op]) -> Result<Vec<shm::Op>, Local> {
        let mut out = Vec::with_capacity(ops.len());
        for op in ops {
            match op {
                Op::Move { local, from } => {
                    let moved = self.endpoint(*local);
                    let from = *from;
                    out.extend(moved.map(|endpoint| shm::Op::Move { endpoint, from }));
                }
                Op::Remove(local) => out.extend(self.endpoint(*local).map(shm::Op::Remove)),
                Op::Put(stream) => {
                    let wanted = self.spec(stream);
                    let wanted = wanted.ok_or_else(|| self.missing(stream))?;
                    out.extend(wanted.ops());
                }
            }
        }
        Ok(out)
    }
}

/// A stream as the region should have it.
#[derive(Clone, Copy, Debug)]
struct Wanted {
    spec: shm::StreamSpec,
    ice: Option<shm::Ice>,
}

impl Wanted {
    /// The ops that make a stream so: those after the first only if there is something to say.
    fn ops(&self) -> impl Iterator<Item = shm::Op> + use<> {
        let spec = self.spec;
        let endpoint = spec.endpoint;
        let ice = self.ice.map(|ice| shm::Op::Ice { endpoint, ice });
        let does = spec.drop_events || spec.pierce;
        let says = spec.feed != shm::Feed::Own || spec.mid.is_some() || does;
        let feeding = shm::Feeding {
            endpoint,
            feed: spec.feed,
            mid: spec.mid,
            drop_events: spec.drop_events,
            pierce: spec.pierce,
        };
        let first = std::iter::once(shm::Op::Set(spec)).chain(ice);
        first.chain(says.then_some(shm::Op::Feed(feeding)))
    }
}

/// What brings the region to what the calls want.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// Commands: the call's key and its ops.
    pub(crate) commands: Vec<(u64, Vec<shm::Op>)>,
    /// Streams wanted at addresses that the plane does not have.
    pub(crate) homeless: usize,
}

/// Compares all calls with all live streams of the table.
pub(crate) fn plan(
    calls: impl Iterator<Item = (u64, Desired)>,
    installed: impl Iterator<Item = shm::StreamStat>,
    addresses: &Addresses,
) -> Plan {
    let mut plan = Plan::default();
    let mut wanted: HashMap<u32, (u64, Wanted)> = HashMap::new();
    let mut keys = HashSet::new();
    for (key, desired) in calls {
        keys.insert(key);
        for stream in desired.values() {
            match addresses.spec(stream) {
                Some(stream) => {
                    wanted.insert(stream.spec.endpoint.to_bits(), (key, stream));
                }
                None => plan.homeless += 1,
            }
        }
    }
    let mut commands: BTreeMap<u64, Vec<shm::Op>> = BTreeMap::new();
    let mut moves: BTreeMap<u64, Vec<shm::Op>> = BTreeMap::new();
    // Removals go first, as a whole: an endpoint may have changed hands.
    for stat in installed {
        if stat.ended {
            // Its reader is gone: a former control, or a caller that gave up.
            let (number, generation) = (stat.number, stat.generation);
            let ops = commands.entry(stat.call).or_default();
            ops.push(shm::Op::Acknowledge { number, generation });
            continue;
        }
        match wanted.get(&stat.endpoint.to_bits()) {
            Some((key, stream)) if *key == stat.call => {
                if stands(&stat, stream) {
                    wanted.remove(&stat.endpoint.to_bits());
                }
            }
            // A merge of the two calls was not stored: its media goes on.
            Some((key, stream)) if keys.contains(&stat.call) && is_of_one_leg(&stat, stream) => {
                let (endpoint, from) = (stat.endpoint, stat.call);
                let ops = moves.entry(*key).or_default();
                ops.push(shm::Op::Move { endpoint, from });
            }
            _ => {
                let ops = commands.entry(stat.call).or_default();
                ops.push(shm::Op::Remove(stat.endpoint));
            }
        }
    }
    plan.commands = chunks(commands);
    // What is moved is set as well: the plane knows by what was signalled whether what it has learned stands.
    let mut commands = moves;
    for (key, stream) in wanted.into_values() {
        commands.entry(key).or_default().extend(stream.ops());
    }
    plan.commands.extend(chunks(commands));
    plan
}

fn chunks(commands: BTreeMap<u64, Vec<shm::Op>>) -> Vec<(u64, Vec<shm::Op>)> {
    let mut parts = Vec::new();
    for (key, mut ops) in commands {
        while ops.len() > shm::MAX_OPS {
            // A stream and its credentials stay together.
            let is_apart = matches!(ops[shm::MAX_OPS], shm::Op::Ice { .. });
            let rest = ops.split_off(shm::MAX_OPS - usize::from(is_apart));
            parts.push((key, std::mem::replace(&mut ops, rest)));
        }
        parts.push((key, ops));
    }
    parts
}

/// Whether a stream may be the wanted one under the key of another call, which had become one with this, rather than that of
/// another leg whose port it was. Of one that has learned where its leg is something else has to tell.
fn is_of_one_leg(stat: &shm::StreamStat, wanted: &Wanted) -> bool {
    let (have, spec) = (&stat.policy, &wanted.spec);
    let is_told = !have.latched || wanted.ice.is_some() || spec.remote.is_some();
    is_told
        && have.ice == wanted.ice
        && (have.signal, have.kind, have.media) == (spec.signal, spec.kind, spec.media)
}

/// Whether the stream is as wanted. A learned remote is as good as the signalled one it replaced; with ICE that one is never
/// taken.
fn stands(stat: &shm::StreamStat, wanted: &Wanted) -> bool {
    let (have, spec) = (&stat.policy, &wanted.spec);
    have.signal == spec.signal
        && (have.latched || wanted.ice.is_some() || have.remote == spec.remote)
        && have.ice == wanted.ice
        && have.kind == spec.kind
        && have.learn == spec.learn
        && have.gate_open == spec.gate_open
        && have.peer_endpoint == spec.peer
        && have.clock_hz == spec.clock_hz
        && (have.leg, have.media) == (spec.leg, spec.media)
        && have.dscp == spec.dscp
        && (have.handover, have.hint) == (spec.handover, spec.hint)
        && (have.payload_types, have.strict_payload) == (spec.payload_types, spec.strict_payload)
        && (have.event_type, have.accept) == (spec.event_type, spec.accept)
        && (have.secure, have.police) == (spec.secure, spec.police)
        && have.capture == spec.capture
        && (have.feed, have.mid) == (spec.feed, spec.mid)
        && (have.drop_events, have.pierce) == (spec.drop_events, spec.pierce)
}

#[cfg(test)]
mod feed_tests {
    use super::*;
    use penstock_media::Mid;

    fn at(port: u16) -> Local {
        Local {
            ip: [192, 0, 2, 1].into(),
            vlan: 0,
            port,
        }
    }

    fn addresses() -> Addresses {
        Addresses {
            numbers: BTreeMap::from([((at(0).ip, 0), 3)]),
            ..Addresses::default()
        }
    }

    fn stream(feed: Feed, mid: Option<Mid>, drop_events: bool) -> Stream {
        Stream {
            local: at(10),
            peer: at(12),
            remote: None,
            kind: Kind::Rtp,
            learn: Learn::Off,
            handover: false,
            hint: None,
            gate_open: true,
            signal: 1,
            clock_hz: 8000,
            dscp: None,
            payload_types: 0,
            strict_payload: false,
            event_type: None,
            shared: Shared::Nothing,
            secure: false,
            class: Class::Audio,
            capture: false,
            feed,
            mid,
            ice: None,
            drop_events,
            pierce: false,
            leg: 0,
            media: 0,
        }
    }

    /// What a stream is fed by goes behind it, and only if there is something to say.
    #[test]
    fn feeds_are_ops_of_their_own() {
        let addresses = addresses();
        let ops = |stream| addresses.ops(&[Op::Put(stream)]);
        assert_eq!(ops(stream(Feed::Own, None, false)).unwrap().len(), 1);
        let mid = Mid {
            extension: 4,
            name: *b"video\0\0\0",
        };
        let parent = shm::Endpoint { addr: 3, port: 20 };
        for (given, feed) in [
            (
                stream(Feed::CopyOf(at(20)), None, false),
                shm::Feed::CopyOf(parent),
            ),
            (
                stream(Feed::PartOf(at(20)), Some(mid), false),
                shm::Feed::PartOf(parent),
            ),
            (
                stream(Feed::AltOf(at(20)), None, false),
                shm::Feed::AltOf(parent),
            ),
            (stream(Feed::Own, None, true), shm::Feed::Own),
            (
                Stream {
                    pierce: true,
                    ..stream(Feed::Own, None, false)
                },
                shm::Feed::Own,
            ),
        ] {
            let [shm::Op::Set(_), shm::Op::Feed(feeding)] = ops(given).unwrap()[..] else {
                panic!("{given:?}")
            };
            assert_eq!((feeding.endpoint.port, feeding.feed), (10, feed));
            assert_eq!(feeding.drop_events, given.drop_events);
            assert_eq!(feeding.pierce, given.pierce);
            assert_eq!(
                feeding.mid.map(|mid| mid.name),
                given.mid.map(|mid| mid.name)
            );
        }
        let far = Local { vlan: 9, ..at(20) };
        assert_eq!(ops(stream(Feed::PartOf(far), None, false)), Err(far));
    }
}

#[cfg(test)]
mod ice_tests {
    use super::*;
    use penstock_media::{Feed, Ice};
    use std::net::IpAddr;

    const LOCAL: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(198, 18, 0, 1));

    fn stream(port: u16) -> Stream {
        let local = |port| Local {
            ip: LOCAL,
            vlan: 0,
            port,
        };
        Stream {
            local: local(port),
            peer: local(port ^ 1),
            remote: None,
            kind: Kind::Rtp,
            learn: Learn::Heuristic,
            handover: false,
            hint: None,
            gate_open: true,
            signal: 1,
            clock_hz: 8000,
            dscp: None,
            payload_types: 1,
            strict_payload: false,
            event_type: None,
            shared: Shared::Nothing,
            secure: false,
            class: Class::Audio,
            capture: false,
            feed: Feed::Own,
            mid: None,
            ice: Some(Ice {
                ufrag: *b"ufrag+/0",
                pwd: *b"passwordpasswordpassword",
            }),
            drop_events: false,
            pierce: false,
            leg: 0,
            media: 0,
        }
    }

    fn addresses() -> Addresses {
        Addresses {
            numbers: BTreeMap::from([((LOCAL, 0), 3)]),
            ..Addresses::default()
        }
    }

    /// A command holds so many ops, and one of them may end between a stream and what belongs to it.
    #[test]
    fn credentials_stay_with_their_stream() {
        let without = Stream {
            ice: None,
            ..stream(1000)
        };
        let streams = (1001..1700).map(stream).chain([without]);
        let desired: Desired = streams.map(|stream| (stream.local, stream)).collect();
        let plan = plan([(7, desired)].into_iter(), std::iter::empty(), &addresses());
        let mut sets = 0;
        for (key, ops) in &plan.commands {
            assert!(*key == 7 && ops.len() <= shm::MAX_OPS);
            for (at, op) in ops.iter().enumerate() {
                let next = ops.get(at + 1);
                match op {
                    shm::Op::Set(spec) => {
                        let expected = spec.endpoint.port != 1000;
                        let has_ice = matches!(next, Some(shm::Op::Ice { endpoint, .. }) if *endpoint == spec.endpoint);
                        assert_eq!(has_ice, expected, "{spec:?}");
                        assert_eq!(spec.learn == shm::Learn::Checks, expected);
                        sets += 1;
                    }
                    shm::Op::Ice { .. } => assert!(!matches!(next, Some(shm::Op::Ice { .. }))),
                    other => panic!("{other:?}"),
                }
            }
            assert!(!matches!(ops[0], shm::Op::Ice { .. }));
        }
        assert_eq!((sets, plan.homeless), (700, 0));
    }

    /// A plane's table with one stream, of call 7, and what control sees of it.
    fn table_with(
        dir: &std::path::Path,
        spec: &shm::StreamSpec,
    ) -> (shm::TableWriter, shm::TableView, u32) {
        let region = shm::RegionConfig {
            dir: dir.join("region"),
            table_dir: None,
            streams: 16,
            group: None,
        };
        let mut table = shm::Plane::open(&region).expect("a region").split(1).table;
        let number = table.insert(spec.endpoint, 7, 1).expect("room");
        let view = shm::TableView::open(&region.dir).expect("the table");
        (table, view, number)
    }

    /// What the plane has of these credentials stands wherever checks have led it, and other credentials do not.
    #[test]
    fn a_stream_stands_by_its_credentials() {
        let wanted = addresses().spec(&stream(1000)).expect("an address");
        let (dir, spec) = (tempfile::tempdir().expect("a folder"), wanted.spec);
        let (mut table, view, number) = table_with(dir.path(), &spec);
        let mut slot = shm::Slot {
            flags: shm::flag::GATE_OPEN,
            peer_endpoint: spec.peer.to_bits(),
            signal: spec.signal,
            clock_hz: spec.clock_hz,
            payload_types: [1, 0],
            kind: spec.kind as u8,
            learn: spec.learn as u8,
            dscp: spec.dscp.to_u8(),
            ..shm::Slot::CLOSED
        };
        let mut stands_with = |slot: &shm::Slot, ice: Option<shm::Ice>, wanted: &Wanted| {
            table
                .update_with(number, slot, ice.as_ref())
                .expect("no worker");
            stands(&view.stream(number).expect("live"), wanted)
        };
        assert!(stands_with(&slot, wanted.ice, &wanted));
        // What is signalled is not taken.
        let signalled = Wanted {
            spec: shm::StreamSpec {
                remote: Some(([192, 0, 2, 1], 9).into()),
                ..spec
            },
            ..wanted
        };
        assert!(stands_with(&slot, wanted.ice, &signalled));
        assert!(!stands_with(&slot, None, &wanted));
        let other = wanted.ice.map(|ice| shm::Ice {
            pwd: *b"wordpasswordpasswordpass",
            ..ice
        });
        assert!(!stands_with(&slot, other, &wanted));
        slot.signal += 1;
        assert!(!stands_with(&slot, wanted.ice, &wanted));
    }

    /// Control was killed in the middle of a merge: the plane has one call, the store two. Nothing begins anew.
    #[test]
    fn a_stream_is_moved_back_to_a_call_that_stands() {
        let wanted = addresses().spec(&stream(1000)).expect("an address");
        let (dir, spec) = (tempfile::tempdir().expect("a folder"), wanted.spec);
        let (mut table, view, number) = table_with(dir.path(), &spec);
        let slot = shm::Slot {
            signal: spec.signal,
            kind: spec.kind as u8,
            learn: spec.learn as u8,
            ..shm::Slot::CLOSED
        };
        table
            .update_with(number, &slot, wanted.ice.as_ref())
            .expect("no worker");
        let planned = |own: Stream, standing: bool| {
            let other = standing.then(|| (7, Desired::new()));
            let calls = other.into_iter().chain([(9, [(own.local, own)].into())]);
            let commands = plan(calls, view.stream(number).into_iter(), &addresses()).commands;
            let all = commands.into_iter();
            all.map(|(key, ops)| (key, ops[0])).collect::<Vec<_>>()
        };
        let endpoint = spec.endpoint;
        let moved = (9, shm::Op::Move { endpoint, from: 7 });
        assert_eq!(planned(stream(1000), true), [moved]);
        let anew = [(7, shm::Op::Remove(endpoint)), (9, shm::Op::Set(spec))];
        assert_eq!(planned(stream(1000), false), anew);
        // Another leg's.
        let other = Stream {
            ice: None,
            ..stream(1000)
        };
        let other = planned(other, true);
        assert_eq!((other.len(), other[0]), (2, anew[0]));
    }
}
