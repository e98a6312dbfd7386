//! Random sequences: no port in two calls, none leaked, nothing panics.

mod common;
use common::*;
use penstock_media::*;
use proptest::prelude::*;
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

#[derive(Clone, Debug)]
enum Step {
    Offer {
        call: u8,
        from: u8,
        to: Option<u8>,
        ports: Vec<u16>,
        line: u8,
        fail: bool,
    },
    Answer {
        call: u8,
        from: u8,
        to: u8,
        ports: Vec<u16>,
        line: u8,
        fail: bool,
    },
    Connect {
        one: (u8, u8),
        other: (u8, u8),
        fail: bool,
    },
    Delete {
        call: u8,
        from: Option<u8>,
        to: Option<u8>,
    },
    Wait(u8),
}

fn step() -> impl Strategy<Value = Step> {
    let ports = || prop::collection::vec(prop_oneof![3 => 4000..4010u16, 1 => Just(0)], 1..4);
    let id = || 0..4u8;
    prop_oneof![
        4 => (id(), id(), prop::option::of(id()), ports(), 0..9u8, prop::bool::weighted(0.1)).prop_map(
            |(call, from, to, ports, line, fail)| Step::Offer { call, from, to, ports, line, fail }),
        4 => (id(), id(), id(), ports(), 0..9u8, prop::bool::weighted(0.1)).prop_map(
            |(call, from, to, ports, line, fail)| Step::Answer { call, from, to, ports, line, fail }),
        2 => ((id(), id()), (id(), id()), prop::bool::weighted(0.2)).prop_map(
            |(one, other, fail)| Step::Connect { one, other, fail }),
        2 => (id(), prop::option::of(id()), prop::option::of(id())).prop_map(
            |(call, from, to)| Step::Delete { call, from, to }),
        1 => (0..4u8).prop_map(Step::Wait),
    ]
}

fn body(ports: &[u16], line: u8, who: u8) -> Vec<u8> {
    let lines = [
        "",
        "a=sendonly\r\n",
        "a=inactive\r\n",
        "a=rtcp-mux\r\n",
        "c=IN IP4 0.0.0.0\r\n",
        "a=recvonly\r\n",
        "a=rtcp:9\r\n",
        "a=ice-ufrag:uuuu\r\na=ice-pwd:p1p1p1p1p1p1p1p1p1p1p1\r\n",
        "a=rtcp-mux\r\na=ice-ufrag:vvvv\r\na=ice-pwd:p1p1p1p1p1p1p1p1p1p1p1\r\n",
    ];
    // One of them speaks IPv6.
    let at = match who {
        3 => "IP6 2001:db8::7".to_owned(),
        _ => format!("IP4 10.0.0.{who}"),
    };
    let mut body = format!("v=0\r\no=- 1 1 IN {at}\r\ns=-\r\nc=IN {at}\r\nt=0 0\r\n");
    for (n, port) in ports.iter().enumerate() {
        let proto = ["RTP/AVP", "udptl", "RTP/AVP"][n % 3];
        body += &format!(
            "m=audio {port} {proto} 8\r\n{}",
            lines[usize::from(line) % lines.len()]
        );
    }
    body.into_bytes()
}

/// What the plane holds, kept by applying ops alone.
#[derive(Default)]
struct Plane(BTreeMap<Local, (u64, Stream)>);

impl Plane {
    fn apply(&mut self, call: u64, ops: &[Op]) {
        for op in ops {
            match *op {
                Op::Put(stream) => {
                    let old = self.0.insert(stream.local, (call, stream));
                    assert!(
                        old.is_none_or(|(owner, _)| owner == call),
                        "two calls at {:?}",
                        stream.local
                    );
                }
                Op::Move { local, from } => {
                    let stands = self.0.get_mut(&local).expect("a stream");
                    assert_eq!(stands.0, from);
                    stands.0 = call;
                }
                Op::Remove(local) => {
                    assert_eq!(self.0.remove(&local).map(|(owner, _)| owner), Some(call));
                }
            }
        }
    }
}

fn check(calls: &Calls, plane: &Plane) {
    let mut owners = HashMap::new();
    let mut want = BTreeMap::new();
    for call in calls.iter() {
        for local in call.locals() {
            assert!(owners.insert(local, call.key).is_none(), "{local:?} twice");
            assert_eq!(local.port % 2, 0);
        }
        want.extend(
            call.desired()
                .into_iter()
                .map(|(local, s)| (local, (call.key, s))),
        );
    }
    assert_eq!(want, plane.0);
    let used: usize = calls.ports().map(|(_, used, _)| used).sum();
    assert_eq!(used, owners.len());
    let mut families = [0; 4];
    for call in calls.iter() {
        let medias = call.dialogs.iter().flat_map(|dialog| &dialog.medias);
        let locals: Vec<Local> = medias.filter_map(|m| m.locals).flatten().collect();
        let has = |v4| locals.iter().any(|local| local.ip.is_ipv4() == v4);
        families[usize::from(has(true)) + 2 * usize::from(has(false))] += 1;
    }
    assert_eq!(calls.by_family(), families[1..]);
    // Keys are given out one after another: nothing that ended is still found by its own.
    let first = now(0.0).unix_us;
    let keys = (first..first + 64).filter(|key| calls.by_key(*key).is_some());
    assert_eq!(keys.count(), calls.len());
    for call in calls.iter() {
        let by_key = calls.by_key(call.key);
        assert!(by_key.is_some_and(|found| std::ptr::eq(found, call)));
        for id in call.ids() {
            assert_eq!(calls.get(id).map(|found| found.key), Some(call.key));
            let mut dialogs = call.dialogs.iter();
            assert!(
                dialogs.any(|dialog| call.id_of(dialog) == id),
                "{id} is no name"
            );
        }
        for (dialog, side) in call.dialogs.iter().flat_map(|d| [(d, 0), (d, 1)]) {
            let Some((other, far)) = call.partner(dialog, side) else {
                assert_eq!(dialog.legs[side].partner, Partner::Nobody);
                continue;
            };
            let back = call.partner(other, far).map(|(d, side)| (d.number, side));
            assert_eq!(back, Some((dialog.number, side)), "who is heard hears");
        }
    }
    for (_, stream) in plane.0.values().filter(|(_, s)| s.peer.port != 0) {
        // What a leg without a port of its own for it sends is a part of what comes to another one.
        let entry = match stream.feed {
            Feed::PartOf(entry) | Feed::AltOf(entry) => entry,
            _ => stream.local,
        };
        let back = |s: &&(u64, Stream)| {
            let (feed, own) = (s.1.feed, s.1.local);
            s.1.peer == entry
                && s.1.kind == stream.kind
                && (own == stream.peer || feed == Feed::PartOf(stream.peer))
        };
        assert!(plane.0.values().any(|s| back(&s)), "{stream:?}");
        let ip4 = stream.local.ip.is_ipv4();
        assert!(stream.remote.is_none_or(|remote| remote.is_ipv4() == ip4));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_port_is_shared_or_lost(steps in prop::collection::vec(step(), 1..60)) {
        let mut calls = Calls::new(many_addresses(10), now(0.0));
        let mut plane = Plane::default();
        let mut store = BTreeMap::new();
        let mut t = 0.0;
        // Two Call-IDs have some tags in common.
        let tag = |call: u8, n: u8| format!("{}t{n}", call / n.max(1));
        for step in steps {
            t += 0.1;
            let result = match &step {
                Step::Offer { call, from, to, ports, line, .. } => {
                    let (id, from_tag, to) = (call.to_string(), tag(*call, *from), to.map(|to| tag(*call, to)));
                    let p = parties(&id, &from_tag, to.as_deref());
                    let family = [None, Some(Family::Ip4), Some(Family::Ip6), None];
                    let options = Options {
                        address_family: family[usize::from(*call)],
                        ice_keys: Some(KEYS),
                        ..Options::default()
                    };
                    calls.offer(&p, &body(ports, *line, *from), &options, now(t))
                }
                Step::Answer { call, from, to, ports, line, .. } => {
                    let (id, from_tag, to_tag) = (call.to_string(), tag(*call, *from), tag(*call, *to));
                    let p = parties(&id, &from_tag, Some(&to_tag));
                    let options = Options { ice_keys: Some(KEYS), ..Options::default() };
                    calls.answer(&p, &body(ports, *line, *to), &options, now(t))
                }
                Step::Delete { call, from, to } => {
                    let tag = |n: u8| tag(*call, n);
                    let (from, to) = (from.map(tag), to.map(tag));
                    calls.delete(&call.to_string(), (from.as_deref(), to.as_deref()), None, Duration::ZERO, now(t))
                }
                Step::Connect { one, other, .. } => {
                    let [one, other] = [one, other].map(|(call, n)| (call.to_string(), tag(*call, *n)));
                    calls.connect((&one.0, &one.1), (&other.0, &other.1), now(t))
                }
                Step::Wait(s) => { t += f64::from(*s); continue }
            };
            let Ok(pending) = result else { check(&calls, &plane); continue };
            let fail = matches!(step, Step::Offer { fail: true, .. } | Step::Answer { fail: true, .. } | Step::Connect { fail: true, .. });
            plane.apply(pending.key, &pending.ops);
            if fail {
                for (key, ops) in pending.undo() {
                    plane.apply(key, &ops);
                }
                calls.rollback(pending, now(t));
            } else {
                if let Some(gone) = pending.gone() {
                    store.remove(gone);
                }
                match pending.after() {
                    Some(call) => drop(store.insert(pending.call_id.clone(), call.clone())),
                    None => drop(store.remove(&pending.call_id)),
                }
                calls.commit(pending, now(t));
            }
            check(&calls, &plane);
        }
        // The store knows all there is to know.
        prop_assert!(store.iter().all(|(id, call)| *id == call.id));
        let mut restarted = Calls::new(many_addresses(10), now(0.0));
        let stored = store.into_values();
        prop_assert!(restarted.restore(stored).iter().all(|(_, outcome)| *outcome == Restore::Done));
        check(&restarted, &plane);
        for id in 0..4 {
            if let Ok(pending) = calls.delete(&id.to_string(), (None, None), None, Duration::ZERO, now(t)) {
                plane.apply(pending.key, &pending.ops);
                calls.commit(pending, now(t));
            }
        }
        prop_assert!(calls.is_empty() && plane.0.is_empty());
        prop_assert!(calls.ports().all(|(_, used, _)| used == 0));
        // Every pair can be had again after the rest, and not one more.
        let all = body(&[4000; 15], 0, 1);
        prop_assert!(calls.offer(&parties("x", "a", None), &all, &Options::default(), now(t + 2.1)).is_ok());
    }
}
