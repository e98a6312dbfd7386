//! Draining: who is refused, who is served, and what a restart makes of it.

use crate::common::*;
use serde_json::json;
use std::io::{BufRead, BufReader, Lines};
use std::process::{Child, ChildStdout, Command, Stdio};

fn error(output: &std::process::Output) -> String {
    assert_eq!(output.status.code(), Some(1));
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn new_calls_are_refused_and_old_ones_served() {
    let (mut world, _plane) = World::running(64);
    world.offer("stands", 4000);
    world.answer("stands", 5000);
    world.offer("rings", 4002);
    assert!(out(&world.cli(&["drain"])).contains("2 calls are left"));
    assert_eq!(
        reason(&world.offer("new", 4004)),
        "No new calls: this relay is being drained"
    );
    let new = sdp("10.0.0.1", 4004);
    let reply = world.ng(json!({
        "command": "offer", "call-id": "new", "from-tag": "a", "sdp": new,
        "supports": ["load limit"],
    }));
    assert_eq!(reply["result"], "load limit", "{reply}");
    assert_eq!(world.stats()["errors"]["draining"], 2);

    // What stands is served: an answer, a re-offer, and both after a restart.
    assert_eq!(world.answer("rings", 5002)["result"], "ok");
    assert_eq!(world.offer("stands", 4008)["result"], "ok");
    world.sigkill();
    world.start();
    world.wait_state("online");
    assert_eq!(world.stats()["draining"], true);
    assert_eq!(world.offer("new", 4004)["result"], "error");
    assert_eq!(world.offer("stands", 4010)["result"], "ok");
    assert_eq!(world.delete("stands")["result"], "ok");
    assert_eq!(world.list(), ["rings"]);

    assert!(out(&world.cli(&["drain", "--end"])).contains("taken again"));
    assert_eq!(world.offer("new", 4004)["result"], "ok");
    world.sigkill();
    world.start();
    assert_eq!(world.stats()["draining"], false);
}

/// `penstock drain --wait` behind its first line, and the lines it prints; it ends by itself.
fn waiting(world: &World) -> (Child, Lines<BufReader<ChildStdout>>) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_penstock"))
        .arg("--config")
        .arg(world.config())
        .args(["drain", "--wait", "--timeout", "60"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut told = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(next(&mut told).starts_with("draining: "));
    (child, told)
}

fn next(told: &mut Lines<BufReader<ChildStdout>>) -> String {
    told.next().expect("a line").unwrap()
}

#[test]
fn waiting_for_the_last_call() {
    let (world, _plane) = World::running(64);
    world.offer("a", 4000);
    world.offer("b", 4002);
    let told = error(&world.cli(&["drain", "--wait", "--timeout", "1"]));
    assert!(told.contains("2 calls are left after 1s"), "{told}");
    let (mut waits, mut told) = waiting(&world);
    assert_eq!(next(&mut told), "2 calls are left");
    world.delete("a");
    assert_eq!(next(&mut told), "1 call is left");
    assert!(waits.try_wait().unwrap().is_none(), "a call is left");
    world.delete("b");
    assert_eq!(next(&mut told), "no call is left");
    assert!(waits.wait().unwrap().success());
    // Ended by somebody else, while one waits.
    world.cli(&["drain", "--end"]);
    world.offer("c", 4000);
    let (waits, mut told) = waiting(&world);
    assert_eq!(next(&mut told), "1 call is left");
    world.cli(&["drain", "--end"]);
    let ended = waits.wait_with_output().unwrap();
    assert!(error(&ended).contains("the drain was ended"));
}

#[test]
fn status_tells_who_works() {
    let (mut world, plane) = World::running(64);
    world.offer("call", 4000);
    let told = out(&world.cli(&["status"]));
    let version = env!("CARGO_PKG_VERSION");
    for part in [
        "media plane  running for ",
        &format!("version {version}, epoch 1"),
        "link: online",
        "calls        1",
        "streams      4 live, 0 ended, 4092 free of 4096",
        "ports        default: 2 of 64 pairs in use",
    ] {
        assert!(told.contains(part), "no \"{part}\" in\n{told}");
    }
    world.cli(&["drain"]);
    assert!(out(&world.cli(&["status"])).contains("draining: new calls are refused"));
    let json = |world: &World| -> serde_json::Value {
        serde_json::from_slice(&world.cli(&["status", "--json"]).stdout).unwrap()
    };
    let object = json(&world);
    assert_eq!(
        (&object["well"], &object["control"]["draining"]),
        (&true.into(), &true.into())
    );
    assert_eq!(object["plane"]["streams"]["live"], 4);

    // A plane that was stopped holds its lock; nobody takes it for a running one.
    plane.freeze(true);
    world.wait_state("plane stands still");
    let output = world.cli(&["status"]);
    assert_eq!(output.status.code(), Some(1));
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(told.contains("stands still"), "{told}");
    assert_eq!(json(&world)["plane"]["state"], "stands still");
    let streams = world.cli(&["streams"]);
    assert!(String::from_utf8_lossy(&streams.stderr).contains("the media plane stands still"));
    plane.freeze(false);
    world.wait_state("online");

    assert!(world.stop());
    assert_eq!(world.cli(&["status"]).status.code(), Some(1));
    assert!(
        json(&world)["control"]["error"]
            .as_str()
            .unwrap()
            .contains("does not answer")
    );
    plane.kill();
    assert_eq!(json(&world)["plane"]["state"], "not running");
}
