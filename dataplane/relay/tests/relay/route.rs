use crate::support::{egress, policy};
use penstock_relay::learn::Nomination;
use penstock_relay::route::{Egress, Peer, Policy, fill};
use penstock_shm::record::{Dscp, Endpoint, Kind, Learn, Slot, StreamSpec, flag};

fn spec() -> StreamSpec {
    let endpoint = Endpoint {
        addr: 1,
        port: 20000,
    };
    let peer = Endpoint {
        addr: 2,
        port: 20002,
    };
    StreamSpec {
        remote: Some("198.51.100.7:40000".parse().unwrap()),
        learn: Learn::Off,
        handover: true,
        hint: 77,
        signal: 9,
        clock_hz: 8000,
        payload_types: 1 << 101 | 1,
        strict_payload: true,
        event_type: 101,
        accept: 7,
        secure: true,
        police: 3,
        dscp: Dscp::Set(46),
        leg: 1,
        media: 2,
        ..StreamSpec::new(endpoint, peer)
    }
}

#[test]
fn a_slot_gives_back_the_policy_it_was_filled_with() {
    let cases = [Kind::Rtp, Kind::Rtcp, Kind::Raw]
        .into_iter()
        .flat_map(|kind| {
            [Learn::Off, Learn::Immediate, Learn::Checks]
                .into_iter()
                .flat_map(move |learn| {
                    ["198.51.100.7:40000", "[2001:db8::7]:40000"].map(move |remote| {
                        let remote = Some(remote.parse().unwrap());
                        StreamSpec {
                            kind,
                            learn,
                            remote,
                            gate_open: learn == Learn::Off,
                            ..spec()
                        }
                    })
                })
        });
    for spec in cases {
        let v6 = spec.remote.unwrap().is_ipv6();
        let mut policy = Policy::new(&spec, v6);
        let peer = Peer {
            record: 1,
            endpoint: spec.peer,
        };
        let of_slot = |policy: &Policy, egress: Option<&Egress>| {
            Policy::of_slot(&fill(policy, Some(peer), egress, 7), spec.endpoint)
        };
        assert_eq!(policy.locked, spec.learn == Learn::Off);
        assert_eq!(of_slot(&policy, None), policy);
        (policy.locked, policy.latched) = (true, true);
        policy.rank = 4;
        match spec.learn {
            Learn::Checks => policy.nomination = Nomination { priority: 5, at: 6 },
            _ => (policy.known, policy.learn_until) = (5, 6),
        }
        (policy.denied, policy.signalled_ns) = (true, 8);
        policy.own_remote = spec.kind == Kind::Rtcp;
        assert_eq!(of_slot(&policy, Some(&egress(v6))), policy);
        policy.spec.remote = None;
        policy = Policy {
            remote: None,
            locked: false,
            latched: false,
            ..policy
        };
        assert_eq!(of_slot(&policy, None), policy);
    }
}

#[test]
fn a_filled_slot_says_what_it_was_filled_with() {
    let peer = Peer {
        record: 77,
        endpoint: Endpoint {
            addr: 2,
            port: 20002,
        },
    };
    let slot = fill(
        &Policy::new(&spec(), false),
        Some(peer),
        Some(&egress(false)),
        5,
    );
    let flags = flag::GATE_OPEN | flag::LOCKED | flag::REMOTE | flag::RTP | flag::ROUTED;
    let asked = flag::HANDOVER | flag::STRICT_PAYLOAD | flag::SECURE;
    assert_eq!(slot.flags, flags | asked);
    assert_eq!((slot.peer, slot.peer_endpoint), (77, 2 << 16 | 20002));
    assert_eq!(slot.usual_hop, 3);
    assert_eq!((slot.adjacency, slot.longest, slot.version), (3, 1500, 5));
    assert_eq!(
        (slot.signal, slot.leg, slot.media, slot.tos),
        (9, 1, 2, 46 << 2)
    );
    assert_eq!((slot.clock_hz, slot.clock_mult), (8000, 34360));
    assert_eq!(slot.remote(), spec().remote);
}

#[test]
fn packets_of_our_own_are_not_usual() {
    let policy = Policy {
        own_remote: true,
        ..Policy::new(&spec(), false)
    };
    let slot = fill(&policy, None, Some(&egress(false)), 5);
    assert!(slot.flags & flag::ROUTED != 0);
    assert_eq!((slot.own_remote, slot.usual_hop), (1, Slot::NOT_USUAL));
}

#[test]
fn a_remote_of_the_other_version_is_none() {
    let slot = fill(&Policy::new(&spec(), true), None, None, 1);
    assert_eq!(slot.remote(), None);
    assert_eq!(slot.flags & flag::LOCKED, 0);
}

/// A stream's own version and that of its route are two things.
#[test]
fn a_route_may_be_of_the_other_version() {
    for (remote, v6) in [("198.51.100.7:40000", false), ("[2001:db8::7]:40000", true)] {
        let own = policy(remote.parse().unwrap());
        let peer = Peer {
            record: 9,
            endpoint: own.spec.peer,
        };
        let slot = fill(&own, Some(peer), Some(&egress(!v6)), 1);
        let is = |bit| slot.flags & bit != 0;
        assert!(is(flag::ROUTED | flag::LOCKED));
        assert_eq!((is(flag::V6), is(flag::EGRESS_V6)), (v6, !v6));
        assert_eq!(slot.usual_hop, Slot::NOT_USUAL);
        assert_eq!(slot.remote(), own.remote);
        assert_eq!(Policy::of_slot(&slot, own.spec.endpoint), own);
    }
}

#[test]
fn nothing_is_sent_where_no_host_is() {
    let policy = policy("198.51.100.7:40000".parse().unwrap());
    // A source and a destination of two versions are no route, whatever came.
    for destination in [
        "0.0.0.0:9",
        "239.1.1.1:9",
        "255.255.255.255:9",
        "127.0.0.1:9",
        "192.0.2.9:0",
        "[fd00::1]:9",
    ] {
        let egress = Egress {
            destination: destination.parse().unwrap(),
            ..egress(false)
        };
        let slot = fill(&policy, None, Some(&egress), 1);
        assert_eq!(slot.flags & flag::ROUTED, 0, "{destination}");
        assert_eq!(slot.head, Slot::CLOSED.head);
    }
}

#[test]
fn a_clock_becomes_ticks() {
    for (clock_hz, mult) in [
        (0, 0),
        (8000, 34360),
        (48000, 206158),
        (90000, 386547),
        (u32::MAX, 0),
    ] {
        let policy = policy("198.51.100.7:40000".parse().unwrap());
        let policy = crate::support::asking(policy, |spec| spec.clock_hz = clock_hz);
        assert_eq!(fill(&policy, None, None, 1).clock_mult, mult, "{clock_hz}");
    }
}
