//! Call detail records: a line for each call that ends, whole whatever happens to control.

use crate::common::*;
use serde_json::Value;
use std::path::PathBuf;

fn path(world: &World) -> PathBuf {
    world.dir.path().join("calls.jsonl")
}

/// With records, and `more` in the configuration.
fn running(more: &str) -> (World, TestPlane) {
    let mut world = World::new(1024);
    let cdr = format!("[control]\ncdr = \"{}\"\n", path(&world).display());
    world.edit("[control]\n", &cdr);
    world.append(more);
    let plane = world.plane();
    world.start();
    world.wait_state("online");
    (world, plane)
}

fn lines(path: &std::path::Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// The records once there are so many.
fn records(world: &World, count: usize) -> Vec<Value> {
    world.until("the records", || lines(&path(world)).len() >= count);
    let lines = lines(&path(world));
    assert_eq!(lines.len(), count, "{lines:?}");
    let parsed = lines.iter().map(|line| serde_json::from_str(line).unwrap());
    parsed.collect()
}

#[test]
fn a_record_says_who_talked_and_how_much() {
    let (world, plane) = running("");
    let facing_b = port_of(&world.offer("call", 4000));
    let facing_a = port_of(&world.answer("call", 5000));
    let named = serde_json::json!({"command": "offer", "call-id": "call", "from-tag": "a",
        "sdp": sdp("10.0.0.1", 4000), "metadata": "k:v|w:x", "label": "one"});
    assert_eq!(world.ng(named)["result"], "ok");
    plane.feed(facing_a, 50);
    plane.latch(facing_b, "192.0.2.9:5009".parse().unwrap());
    world.delete("call");
    let record = records(&world, 1).remove(0);
    assert_eq!(record["call_id"], "call");
    assert_eq!(record["reason"], "delete");
    assert_eq!(record["goes_on"], false);
    assert!(record["ended_us"].as_u64() > record["created_us"].as_u64());
    assert!(record["duration_s"].as_f64() > Some(0.0));
    let [a, b] = [0, 1].map(|leg| &record["legs"][leg]);
    assert_eq!((&a["tags"][0], &b["tags"][0]), (&"a".into(), &"b".into()));
    assert_eq!(a["interface"], "default");
    assert_eq!(
        (&a["metadata"], &a["label"]),
        (&"k:v|w:x".into(), &"one".into())
    );
    assert!(b["metadata"].is_null() && b["label"].is_null());
    let media = &a["medias"][0];
    assert_eq!(
        (&media["type"], &media["payload_types"][0]),
        (&"audio".into(), &8.into())
    );
    let heard = &media["streams"][0];
    assert_eq!(heard["local"], format!("198.18.0.1:{facing_a}"));
    assert_eq!(heard["signalled"], "10.0.0.1:4000");
    assert_eq!(
        (&heard["packets"], &heard["bytes"]),
        (&50.into(), &8600.into())
    );
    assert_eq!(media["streams"][1]["kind"], "rtcp");
    let silent = &b["medias"][0]["streams"][0];
    assert_eq!(silent["learned"], "192.0.2.9:5009");
    assert_eq!(silent["packets"], 0);
}

#[test]
fn every_end_has_its_reason() {
    let (world, _plane) = running("[timeouts]\nstart_s = 2\none_way_s = 0\n");
    world.offer("never", 4000);
    world.answer("never", 5000);
    world.offer("ended", 4000);
    assert_eq!(out(&world.cli(&["end", "ended"])), "call ended has ended\n");
    let found = records(&world, 2);
    let told: Vec<_> = found
        .iter()
        .map(|r| (&r["call_id"], &r["reason"]))
        .collect();
    assert_eq!(
        told,
        [
            (&"ended".into(), &"operator".into()),
            (&"never".into(), &"no-start".into())
        ]
    );
    let total = &world.socket(r#"{"get":"statistics"}"#)["ok"]["totalstatistics"];
    assert_eq!(total["forcedterminatedsessions"], 1, "{total}");
    assert_eq!(total["timeoutsessions"], 1, "{total}");
    assert_eq!(total["managedsessions"], 2, "{total}");
    assert_eq!(total["zerowaystreams"], 2, "{total}");
}

#[test]
fn a_rotated_file_is_opened_anew() {
    let (world, _plane) = running("");
    let old = world.dir.path().join("calls.jsonl.1");
    world.offer("a", 4000);
    world.delete("a");
    records(&world, 1);
    std::fs::rename(path(&world), &old).unwrap();
    out(&world.cli(&["reload"]));
    world.offer("b", 4000);
    world.delete("b");
    assert_eq!(records(&world, 1)[0]["call_id"], "b");
    std::fs::remove_file(path(&world)).unwrap();
    world.signal(rustix::process::Signal::HUP);
    world.until("the file", || path(&world).exists());
    assert_eq!(lines(&old).len(), 1);
    assert_eq!(world.stats()["records_lost"], 0);
}

/// Whatever a kill leaves, each record after it stands on a line of its own.
#[test]
fn a_kill_spoils_no_later_record() {
    let (mut world, _plane) = running("");
    for round in 0..5 {
        for n in 0..20 {
            let id = format!("r{round}-{n}");
            assert_eq!(world.offer(&id, 4000)["result"], "ok");
        }
        // Nobody waits for these.
        for n in 0..20 {
            let delete =
                format!("k{round}{n} {{\"command\":\"delete\",\"call-id\":\"r{round}-{n}\"}}");
            world.client.send_to(delete.as_bytes(), world.ng).unwrap();
        }
        std::thread::sleep(std::time::Duration::from_millis(round * 3));
        world.sigkill();
        // The worst a kill could leave.
        use std::io::Write;
        let mut file = std::fs::File::options()
            .append(true)
            .open(path(&world))
            .unwrap();
        write!(file, "{{\"call_id\":\"torn").unwrap();
        drop(file);
        world.start();
        world.wait_state("online");
        let id = format!("after{round}");
        world.offer(&id, 4000);
        world.delete(&id);
        world.until("its record", || {
            let last = lines(&path(&world)).pop().unwrap_or_default();
            serde_json::from_str::<Value>(&last).is_ok_and(|record| record["call_id"] == id)
        });
    }
    let bad = lines(&path(&world))
        .into_iter()
        .filter(|line| serde_json::from_str::<Value>(line).is_err())
        .inspect(|line| assert!(line.starts_with("{\"call_id\":\"torn"), "{line}"));
    assert_eq!(bad.count(), 5);
}

#[test]
fn a_reload_that_is_refused_leaves_the_file_as_it_is() {
    let (world, _plane) = running("");
    world.offer("call", 4000);
    let old = path(&world).with_extension("old");
    std::fs::rename(path(&world), &old).unwrap();
    world.edit("10000-12047", "20000-22047");
    let reload = r#"{"do":"reload"}"#;
    let told = world.socket(reload)["error"].to_string();
    assert!(told.contains("cannot be removed"), "{told}");
    world.delete("call");
    world.until("the record", || lines(&old).len() == 1);
    assert!(!path(&world).exists());
    assert!(world.socket(reload)["error"].is_null());
    world.until("the new file", || path(&world).exists());
}

#[test]
fn a_file_that_cannot_be_is_one_sentence() {
    let world = World::new(8);
    world.edit("[control]\n", "[control]\ncdr = \"/nonexistent/calls\"\n");
    let _plane = world.plane();
    let second = world.second();
    assert_eq!(second.status.code(), Some(1));
    let text = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(
        text.contains("cannot open [control] cdr /nonexistent/calls: No such file"),
        "{text}"
    );
}
