//! What ng says of learning, marking and payload types, as it reaches the plane.

use crate::common::*;
use penstock_shm::record::{accept, hint};
use penstock_shm::{Dscp, Learn, TableView, flag};
use serde_json::json;

#[test]
fn flags_reach_the_plane() {
    let mut world = World::new(64);
    world.append(concat!(
        "[[police]]\nnumber = 9\nmedia = \"video\"\n",
        "[[police]]\nnumber = 5\nmedia = \"audio\"\n",
        "[[police]]\nnumber = 15\n",
    ));
    let plane = world.plane();
    world.start();
    world.wait_state("online");
    let plain = plane.slot(port_of(&world.offer("plain", 4000)));
    assert_eq!(plain.learn, Learn::Heuristic as u8);
    assert_eq!(plain.payload_types, [1 << 8, 0]);
    assert_eq!((plain.accept, plain.police), (accept::ZRTP, 5));
    assert_eq!(Dscp::from_u8(plain.dscp), Some(Dscp::Default));
    assert_eq!(plain.flags & flag::HANDOVER, 0);

    let body = sdp("10.0.0.1", 4000);
    let asked = json!({
        "command": "offer", "call-id": "asked", "from-tag": "a", "sdp": body, "TOS": 184,
        "endpoint-learning": "delayed", "flags": ["media handover", "strict-payload"],
        "received-from": ["IP4", "192.0.2.9"],
    });
    let facing_b = port_of(&world.ng(asked.clone()));
    let facing_a = port_of(&world.answer("asked", 5000));
    let region = TableView::open(&world.region()).unwrap();
    let slot = plane.slot(facing_a);
    assert_eq!(slot.learn, Learn::Delayed as u8);
    assert_eq!(
        slot.hint,
        hint("192.0.2.9".parse().unwrap(), region.info().generation)
    );
    let set = flag::HANDOVER | flag::STRICT_PAYLOAD;
    assert_eq!(slot.flags & set, set);
    let rtcp = plane.slot(facing_b + 1);
    assert_eq!((rtcp.accept, rtcp.police), (0, 15), "the profile for any");
    assert_eq!(
        Dscp::from_u8(slot.dscp),
        Some(Dscp::Default),
        "an answer without TOS"
    );
    let dscp = |tos: i64| {
        let mut asked = asked.clone();
        asked["TOS"] = tos.into();
        assert_eq!(world.ng(asked)["result"], "ok");
        Dscp::from_u8(plane.slot(facing_a).dscp)
    };
    assert_eq!(dscp(184), Some(Dscp::Set(46)));
    assert_eq!(dscp(-1), Some(Dscp::Set(46)));
    assert_eq!(dscp(256), Some(Dscp::Default));

    // Media handover is a hole that strict-source closes; and strict-source alone learns as ever.
    let mut strict = asked.clone();
    strict["call-id"] = "strict".into();
    strict["flags"] = json!(["media-handover", "strict-source", "asymmetric"]);
    let facing_b = port_of(&world.ng(strict));
    let facing_a = port_of(&world.answer("strict", 5000));
    assert_eq!(plane.slot(facing_a).flags & flag::HANDOVER, 0);
    let learn = [facing_a, facing_b].map(|port| plane.slot(port).learn);
    assert_eq!(learn, [Learn::Off as u8, Learn::Delayed as u8]);

    // All of it stands: a new control has nothing to change.
    let commands = plane.commands();
    world.sigkill();
    world.start();
    world.wait_state("online");
    assert_eq!(plane.commands(), commands);
}
