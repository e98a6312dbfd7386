//! Deaths and returns: of control, of the plane, of the region.

use crate::common::*;
use serde_json::json;
use std::process::Command;
use std::time::Instant;

#[test]
fn control_is_killed_and_owns_its_calls_again() {
    let (mut world, plane) = World::running(64);
    for n in 0..10 {
        world.offer(&format!("call{n}"), 4000);
        world.answer(&format!("call{n}"), 5000);
    }
    world.delete("call0");
    let before = plane.streams();
    let port = *before.keys().find(|port| *port % 2 == 0).unwrap();
    plane.feed(port, 7);
    let commands = plane.commands();
    world.sigkill();
    assert_eq!(plane.streams(), before, "media goes on");
    world.start();
    world.wait_state("online");
    assert_eq!(world.list().len(), 9);
    assert_eq!(plane.streams(), before);
    assert_eq!(plane.commands(), commands, "nothing had to be changed");
    for n in 1..10 {
        let reply = world.delete(&format!("call{n}"));
        assert_eq!(reply["result"], "ok");
        assert!(reply["warning"].is_null());
    }
    assert!(plane.streams().is_empty());
}

#[test]
fn what_no_call_owns_is_removed() {
    let (mut world, plane) = World::running(8);
    world.offer("call", 4000);
    world.sigkill();
    std::fs::remove_file(world.dir.path().join("store/calls.journal")).unwrap();
    assert_eq!(plane.streams().len(), 4);
    world.start();
    world.wait_state("online");
    assert!(plane.streams().is_empty());
    assert_eq!(world.offer("other", 4000)["result"], "ok");
}

#[test]
fn the_plane_is_killed_and_resumes() {
    let (world, plane) = World::running(64);
    let mut latched = 0;
    for n in 0..5 {
        world.offer(&format!("call{n}"), 4000);
        latched = port_of(&world.answer(&format!("call{n}"), 5000));
    }
    plane.latch(latched, "192.0.2.99:9999".parse().unwrap());
    plane.kill();

    let start = Instant::now();
    assert_eq!(
        reason(&world.offer("new", 4000)),
        "media plane is not running"
    );
    assert_eq!(
        reason(&world.answer("call1", 5001)),
        "media plane is not running"
    );
    assert!(
        start.elapsed().as_millis() < 1000,
        "at once, not after a time limit"
    );
    // Deletes are kept; the rest of the protocol works.
    assert_eq!(world.delete("call0")["result"], "ok");
    assert_eq!(world.list(), ["call1", "call2", "call3", "call4"]);
    assert_eq!(
        world.ng(serde_json::json!({"command": "ping"}))["result"],
        "pong"
    );
    let query = world.ng(serde_json::json!({"command": "query", "call-id": "call1"}));
    assert_eq!(query["result"], "ok");

    let plane = world.plane();
    assert!(plane.resumed);
    world.wait_state("online");
    let streams = plane.streams();
    assert_eq!(streams.len(), 16, "the kept delete was applied");
    assert_eq!(streams[&latched], Some("192.0.2.99:9999".parse().unwrap()));
    assert_eq!(plane.commands(), 1, "and nothing else");
    assert_eq!(world.offer("new", 4000)["result"], "ok");
}

#[test]
fn control_starts_without_a_plane() {
    let mut world = World::new(8);
    world.start();
    assert_eq!(
        reason(&world.offer("call", 4000)),
        "media plane is not running"
    );
    assert_eq!(world.stats()["plane"], "no region");
    let plane = world.plane();
    world.wait_state("online");
    assert_eq!(world.offer("call", 4000)["result"], "ok");
    assert_eq!(plane.streams().len(), 4);
}

#[test]
fn a_region_of_another_version_is_set_aside_and_refilled() {
    let (world, plane) = World::running(64);
    for n in 0..5 {
        world.offer(&format!("call{n}"), 4000);
    }
    let before = plane.streams();
    plane.kill();
    // The ABI version lies somewhere in the first bytes after the magic.
    for file in ["rings", "table"] {
        let path = world.region().join(file);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[8..16].fill(0xee);
        std::fs::write(&path, bytes).unwrap();
    }
    let plane = world.plane();
    assert!(plane.set_aside);
    world.until("control refills it", || plane.streams() == before);
    world.wait_state("online");
    assert_eq!(world.delete("call0")["result"], "ok");
    assert_eq!(plane.streams().len(), before.len() - 4);
}

#[test]
fn both_die_and_the_store_rebuilds_the_region() {
    let (mut world, plane) = World::running(8);
    world.offer("call", 4000);
    world.answer("call", 5000);
    let before = plane.streams();
    plane.kill();
    world.sigkill();
    std::fs::remove_dir_all(world.region()).unwrap();
    let plane = world.plane();
    world.start();
    world.until("control refills it", || plane.streams() == before);
}

#[test]
fn a_second_control_is_refused() {
    let (world, plane) = World::running(8);
    world.offer("call", 4000);
    let second = world.second();
    assert_eq!(second.status.code(), Some(1));
    let text = String::from_utf8(second.stderr).unwrap();
    assert!(text.contains("another penstock-control"), "{text}");
    assert_eq!(text.trim_end().lines().count(), 1, "{text}");
    assert_eq!(world.list(), ["call"]);
    assert_eq!(plane.streams().len(), 4);
    plane.kill();
    std::fs::remove_dir_all(world.region()).unwrap();
    // Without a region, the store tells.
    let text = String::from_utf8(world.second().stderr).unwrap();
    assert!(text.contains("another penstock-control"), "{text}");
}

#[test]
fn a_refused_offer_is_rolled_back() {
    let (world, plane) = World::running(2);
    plane.refuse(true);
    assert!(reason(&world.offer("call", 4000)).starts_with("media plane refused: "));
    assert_eq!(world.list(), Vec::<String>::new());
    assert!(plane.streams().is_empty());
    plane.refuse(false);
    world.until("the ports have rested", || {
        world.offer("call", 4000)["result"] == "ok"
    });
    plane.refuse(true);
    let before = plane.streams();
    assert!(reason(&world.offer("call", 4444)).starts_with("media plane refused: "));
    assert_eq!(plane.streams(), before);
}

#[test]
fn a_hanging_plane_has_a_time_limit() {
    let (world, plane) = World::running(4);
    assert_eq!(world.offer("stands", 4000)["result"], "ok");
    plane.hang(true);
    assert_eq!(
        reason(&world.offer("call", 4000)),
        "media plane does not answer"
    );
    assert_eq!(world.list(), ["stands"]);
    assert_eq!(world.delete("stands")["result"], "ok");
    plane.hang(false);
    world.until("late commands are undone", || plane.streams().is_empty());
    world.until("the ports have rested", || {
        world.offer("call", 4000)["result"] == "ok"
    });
    assert_eq!(plane.streams().len(), 4);
}

#[test]
fn a_plane_that_stands_still_is_away_until_it_goes_on() {
    let (world, plane) = World::running(8);
    assert_eq!(world.offer("stands", 4000)["result"], "ok");
    let stands = plane.streams();
    assert_eq!(world.offer("goes", 4000)["result"], "ok");
    plane.freeze(true);
    // Until it is noticed, a command goes out and is not applied.
    assert_eq!(world.offer("lost", 4000)["result"], "error");
    world.wait_state("plane stands still");
    let start = Instant::now();
    for n in 0..10 {
        assert_eq!(
            reason(&world.offer(&format!("new{n}"), 4000)),
            "media plane is not running"
        );
    }
    assert_eq!(world.delete("goes")["result"], "ok");
    assert!(start.elapsed().as_millis() < 1000, "at once");
    plane.freeze(false);
    world.wait_state("online");
    assert_eq!(plane.streams(), stands);
    assert_eq!(world.offer("new", 4000)["result"], "ok");
}

#[test]
fn a_delete_cut_short_by_death_stays_deleted() {
    let (mut world, plane) = World::running(8);
    world.offer("call", 4000);
    plane.hang(true);
    let delete = r#"d {"command": "delete", "call-id": "call", "from-tag": "a"}"#;
    world.client.send_to(delete.as_bytes(), world.ng).unwrap();
    world.until("the command is out", || {
        world.stats()["link"]["commands-in-flight"] == 1
    });
    world.sigkill();
    plane.hang(false);
    world.start();
    world.wait_state("online");
    assert_eq!(world.list(), Vec::<String>::new());
    assert!(plane.streams().is_empty());
}

#[test]
fn sigterm_leaves_the_media() {
    let (mut world, plane) = World::running(8);
    world.offer("call", 4000);
    assert!(world.stop());
    assert_eq!(plane.streams().len(), 4);
    assert!(!world.dir.path().join("control.sock").exists());
    world.start();
    assert_eq!(world.list(), ["call"]);
}

#[test]
fn a_store_that_is_none_is_set_aside() {
    let mut world = World::new(8);
    let store = world.dir.path().join("store");
    std::fs::create_dir(&store).unwrap();
    for garbage in [vec![0; 10], vec![0xff; 100_000], b"hello".repeat(5000)] {
        std::fs::write(store.join("calls.journal"), garbage).unwrap();
        world.start();
        assert_eq!(world.list(), Vec::<String>::new());
        assert!(world.stop());
        assert!(store.join("calls.journal.aside").exists());
        std::fs::remove_file(store.join("calls.journal.aside")).unwrap();
    }
    let sentences = world.log_text();
    assert_eq!(
        sentences.matches("cannot be read").count(),
        3,
        "{sentences}"
    );
}

#[test]
fn a_damaged_store_costs_the_calls_whose_lines_are_damaged() {
    let (mut world, _plane) = World::running(200);
    for n in 0..30 {
        assert_eq!(world.offer(&format!("call{n}"), 4000)["result"], "ok");
    }
    world.sigkill();
    let path = world.dir.path().join("store/calls.journal");
    let sound = std::fs::read(&path).unwrap();
    for at in (20..sound.len() - 200).step_by(sound.len() / 12) {
        let mut bytes = sound.clone();
        bytes[at..at + 200].fill(0xa5);
        std::fs::write(&path, bytes).unwrap();
        world.start();
        world.wait_state("online");
        let calls = world.list().len();
        assert!((27..30).contains(&calls), "{calls}");
        world.sigkill();
    }
    assert!(world.log_text().contains("cannot be read"));
}

/// A file system of its own, until it is dropped.
struct Mount(std::path::PathBuf);

impl Mount {
    fn new(path: std::path::PathBuf, size: &str) -> Mount {
        let tmpfs = ["-t", "tmpfs", "-o", size, "penstock-test"];
        let done = Command::new("mount").args(tmpfs).arg(&path).status();
        assert!(done.unwrap().success());
        Mount(path)
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_store_without_room_refuses_calls_and_keeps_those_it_has() {
    let mut world = World::new(200);
    let _plane = world.plane();
    let store = world.dir.path().join("store");
    std::fs::create_dir(&store).unwrap();
    let _mount = Mount::new(store.clone(), "size=128k");
    let filler = store.join("filler");
    std::fs::write(&filler, vec![0; 64 << 10]).unwrap();
    world.start();
    world.wait_state("online");
    let mut calls = Vec::new();
    let text = loop {
        let call = format!("call{}", calls.len());
        let reply = world.offer(&call, 4000);
        if reply["result"] != "ok" {
            break reason(&reply).to_owned();
        }
        calls.push(call);
    };
    assert_eq!(text, "cannot write to the store");
    calls.sort();
    let list = |world: &World| {
        let reply = world.ng(json!({ "command": "list", "limit": 1000 }));
        let mut list: Vec<_> = reply["calls"]
            .as_array()
            .unwrap()
            .iter()
            .map(|id| id.as_str().unwrap().to_owned())
            .collect();
        list.sort();
        list
    };
    assert!(calls.len() > 20, "{calls:?}");
    assert_eq!(list(&world), calls);
    // Calls end all the same; what could not be written of that is, once there is room.
    for call in calls.drain(..60) {
        assert_eq!(world.delete(&call)["result"], "ok");
    }
    let errors = |world: &World| {
        world
            .log_text()
            .matches("cannot write to the store")
            .count()
    };
    assert!(errors(&world) > 10, "{}", errors(&world));
    std::fs::remove_file(filler).unwrap();
    assert_eq!(world.offer("later", 4000)["result"], "ok");
    calls.push("later".into());
    calls.sort();
    world.sigkill();
    world.start();
    world.wait_state("online");
    assert_eq!(list(&world), calls);
}

#[test]
fn a_public_address_is_refused() {
    let world = World::new(8);
    let text = std::fs::read_to_string(world.config()).unwrap();
    let public = text.replace(&format!("ng = \"{}\"", world.ng), "ng = \"0.0.0.0:2223\"");
    assert_ne!(text, public);
    std::fs::write(world.config(), public).unwrap();
    let output = world.second();
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("loopback"), "{text}");
}
