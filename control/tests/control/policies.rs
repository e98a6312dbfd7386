//! What the configuration says of requests: templates, limits of load, the delay of deletes.

use crate::common::*;
use serde_json::json;

fn sdp_of(reply: &serde_json::Value) -> String {
    assert_eq!(reply["result"], "ok", "{reply}");
    reply["sdp"].as_str().unwrap().to_owned()
}

/// The flags of a command, and those that a message names, are as if it had said them; what it says itself wins.
#[test]
fn templates_speak_for_a_message() {
    let mut world = World::new(64);
    world.append("[templates]\noffer = \"no-rtcp-attribute\"\nmids = \"generate-mid ICE=force\"\n");
    let _plane = world.plane();
    world.start();
    world.wait_state("online");
    let plain = sdp_of(&world.offer("one", 4000));
    assert!(
        !plain.contains("a=rtcp:") && !plain.contains("a=mid:"),
        "{plain}"
    );
    let body = sdp("10.0.0.1", 4000);
    let offer = |call: &str, more: serde_json::Value| {
        let mut request = json!({"command": "offer", "call-id": call, "from-tag": "a", "sdp": body, "template": "mids"});
        for (key, value) in more.as_object().unwrap() {
            request[key] = value.clone();
        }
        sdp_of(&world.ng(request))
    };
    let named = offer("two", json!({}));
    assert!(
        named.contains("a=mid:") && named.contains("a=ice-ufrag:"),
        "{named}"
    );
    let own = offer("three", json!({"ICE": "remove"}));
    assert!(
        own.contains("a=mid:") && !own.contains("a=ice-ufrag:"),
        "{own}"
    );

    let text = std::fs::read_to_string(world.config()).unwrap();
    std::fs::write(
        world.config(),
        text.replace("no-rtcp-attribute", "full-rtcp-attribute"),
    )
    .unwrap();
    out(&world.cli(&["reload"]));
    let plain = sdp_of(&world.offer("four", 4000));
    assert!(
        plain.contains("IN IP4 203.0.113.1\r\n") && plain.contains("a=rtcp:"),
        "{plain}"
    );
}

/// Beyond a limit of load new calls are refused, in the words that the client understands; calls that stand go on.
#[test]
fn new_calls_wait_for_the_machine() {
    let (world, _plane) = World::running(64);
    world.offer("stands", 4000);
    let text = std::fs::read_to_string(world.config()).unwrap();
    // No machine that runs this test is that idle.
    std::fs::write(
        world.config(),
        format!("{text}\n[limits]\nload = 0.000001\n"),
    )
    .unwrap();
    out(&world.cli(&["reload"]));
    // Each is a call of its own: one that was taken stands.
    let mut tries = 0;
    let mut taken = || {
        tries += 1;
        world.offer(&format!("try {tries}"), 4002)["result"] == "ok"
    };
    world.until("a refusal", || !taken());
    assert_eq!(
        reason(&world.offer("new", 4002)),
        "Parallel session limit reached"
    );
    let reply = world.ng(json!({
        "command": "offer", "call-id": "new", "from-tag": "a", "sdp": sdp("10.0.0.1", 4002), "supports": ["load limit"],
    }));
    assert_eq!(reply["result"], "load limit", "{reply}");
    assert_eq!(reply["message"], "Load limit exceeded");
    assert_eq!(world.offer("stands", 4004)["result"], "ok");
    assert_eq!(world.answer("stands", 5000)["result"], "ok");
    std::fs::write(world.config(), text).unwrap();
    out(&world.cli(&["reload"]));
    world.until("a new call", taken);
}

/// A delete waits as configured, unless it says otherwise, and a restart does not forget it.
#[test]
fn deletes_wait() {
    let mut world = World::new(64);
    world.edit("port_rest_s = 1", "port_rest_s = 1\ndelete_delay_s = 2");
    let _plane = world.plane();
    world.start();
    world.wait_state("online");
    for call in ["waits", "at-once"] {
        world.offer(call, 4000);
        world.answer(call, 5000);
    }
    let at_once =
        json!({"command": "delete", "call-id": "at-once", "from-tag": "a", "delete-delay": 0});
    let reply = world.ng(at_once);
    assert!(reply["tags"]["a"].is_object(), "{reply}");
    let reply = world.delete("waits");
    assert!(reply["tags"]["a"].is_object(), "{reply}");
    assert_eq!(world.list(), ["waits"]);
    world.sigkill();
    world.start();
    world.wait_state("online");
    world.until("the end", || world.list().is_empty());
}
