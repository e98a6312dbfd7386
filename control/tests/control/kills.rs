//! Either process is killed at random while calls come and go. In the end the store, the region
//! and the ports agree, and nothing is left behind.

use crate::common::*;
use crate::connect::streams;
use penstock_media::Call;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

const CALLS: u64 = 24;

struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.0 >> 33) % n
    }
}

fn message(random: &mut Random) -> Value {
    let call = random.below(CALLS).to_string();
    let video = "m=video 4002 RTP/AVP 31\r\n".repeat(random.below(2) as usize);
    let sdp = sdp("10.0.0.1", 4000 + random.below(20) as u16) + &video;
    let other = random.below(CALLS).to_string();
    let (a, b) = (format!("a{call}"), format!("b{call}"));
    match random.below(6) {
        0 | 1 => json!({"command": "offer", "call-id": call, "from-tag": a, "sdp": sdp}),
        2 => json!({"command": "offer", "call-id": call, "from-tag": b, "to-tag": a, "sdp": sdp}),
        3 => json!({"command": "answer", "call-id": call, "from-tag": a, "to-tag": b, "sdp": sdp}),
        4 => {
            json!({"command": "connect", "call-id": call, "from-tag": a, "to-call-id": other, "to-tag": format!("a{other}")})
        }
        _ => json!({"command": "delete", "call-id": call, "from-tag": a}),
    }
}

/// Sends a request and waits for nothing.
fn request(world: &World, random: &mut Random) {
    let datagram = format!("{} {}", world.cookie(), message(random));
    // Control may be away.
    let _ = world.client.send_to(datagram.as_bytes(), world.ng);
}

/// What control's calls want: of each port whose stream it is and where its packets leave.
fn wanted(world: &World) -> BTreeMap<u16, (u64, u16)> {
    let mut ports = BTreeMap::new();
    let calls = world.socket(r#"{"get":"calls"}"#);
    for call in calls["ok"].as_array().unwrap() {
        let detail = world.socket(&json!({"get": "call", "id": call["id"]}).to_string());
        let known: Call = serde_json::from_value(detail["ok"]["call"].clone()).unwrap();
        let desired = known.desired();
        assert_eq!(call["streams"], desired.len());
        for (local, stream) in desired {
            let stands = ports.insert(local.port, (known.key, stream.peer.port));
            assert_eq!(stands, None, "{} twice", local.port);
        }
    }
    ports
}

#[test]
fn store_region_and_ports_agree_after_random_kills() {
    let (mut world, mut plane) = World::running(300);
    let mut random = Random(std::process::id().into());
    for round in 0..30 {
        for _ in 0..20 + random.below(200) {
            request(&world, &mut random);
            if random.below(8) == 0 {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        match round % 3 {
            0 => {
                world.sigkill();
                world.start();
            }
            1 => {
                plane.kill();
                std::thread::sleep(Duration::from_millis(random.below(150)));
                for _ in 0..random.below(40) {
                    request(&world, &mut random);
                }
                plane = world.plane();
            }
            _ => {
                plane.kill();
                world.sigkill();
                plane = world.plane();
                world.start();
            }
        }
    }
    world.wait_state("online");
    let idle = || {
        let stats = world.stats();
        stats["link"]["commands-in-flight"] == 0 && stats["link"]["commands-waiting"] == 0
    };
    world.until("control is idle", idle);
    assert_eq!(streams(&plane), wanted(&world));
    world.client.set_nonblocking(true).unwrap();
    while world.client.recv(&mut [0; 65_536]).is_ok() {}
    world.client.set_nonblocking(false).unwrap();
    // So they do after changes that nothing mends.
    for _ in 0..200 {
        world.ng(message(&mut random));
    }
    assert_eq!(streams(&plane), wanted(&world));
    for call in world.list() {
        assert_eq!(
            world.ng(json!({"command": "delete", "call-id": call}))["result"],
            "ok"
        );
    }
    assert!(plane.streams().is_empty());
    assert_eq!(world.stats()["ports"]["default"]["used"], 0);
    world.until("the last meters are acknowledged", || plane.ended() == 0);
}
