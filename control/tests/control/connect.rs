//! Legs of two calls that are connected: one call under two names, whatever dies, and two records in the end.

use crate::common::*;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// A call of two, and where each of them sends.
pub fn call(world: &World, id: &str, [from, to]: [&str; 2], port: u16) -> [u16; 2] {
    let offer =
        json!({"command": "offer", "call-id": id, "from-tag": from, "sdp": sdp("10.0.0.1", port)});
    let facing_to = port_of(&world.ng(offer));
    let answer = json!({"command": "answer", "call-id": id, "from-tag": from, "to-tag": to, "sdp": sdp("10.0.0.2", port)});
    [port_of(&world.ng(answer)), facing_to]
}

pub fn connect(world: &World, one: [&str; 2], other: [&str; 2]) -> Value {
    world.ng(
        json!({"command": "connect", "call-id": one[0], "from-tag": one[1],
        "to-call-id": other[0], "to-tag": other[1]}),
    )
}

pub fn delete(world: &World, id: &str) -> Value {
    world.ng(json!({"command": "delete", "call-id": id}))
}

/// The live streams: port, and which call's they are and where their packets leave.
pub fn streams(plane: &TestPlane) -> BTreeMap<u16, (u64, u16)> {
    plane.with(|table| {
        let live: Vec<u32> = table.live().collect();
        let port = |bits| penstock_shm::Endpoint::from_bits(bits).port;
        let entry = |number: u32| {
            let (head, slot) = (table.head(number), table.slot(number));
            let call = head.call.load(Ordering::Relaxed);
            let own = port(head.endpoint.load(Ordering::Relaxed));
            (own, (call, port(slot.peer_endpoint)))
        };
        live.into_iter().map(entry).collect()
    })
}

pub fn with_records() -> (World, TestPlane) {
    let mut world = World::new(64);
    let path = world.dir.path().join("calls.jsonl");
    world.edit(
        "[control]\n",
        &format!("[control]\ncdr = \"{}\"\n", path.display()),
    );
    let plane = world.plane();
    world.start();
    world.wait_state("online");
    (world, plane)
}

pub fn records(world: &World, count: usize) -> Vec<Value> {
    let read = || {
        let path = world.dir.path().join("calls.jsonl");
        let text = std::fs::read_to_string(path).unwrap_or_default();
        text.lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect::<Vec<Value>>()
    };
    world.until("the records", || read().len() >= count);
    read()
}

fn leg_of<'a>(record: &'a Value, tag: &str) -> &'a Value {
    let legs = record["legs"].as_array().unwrap();
    let found = legs.iter().find(|leg| leg["tags"][0] == tag);
    &found.unwrap_or_else(|| panic!("{record}"))["medias"][0]["streams"][0]
}

#[test]
fn two_calls_are_one_under_both_names_and_each_has_its_record() {
    let (world, plane) = with_records();
    let [a, b] = call(&world, "one", ["a", "b"], 4000);
    let [x, y] = call(&world, "two", ["x", "y"], 6000);
    for (port, packets) in [(a, 10), (b, 20), (x, 30), (y, 40)] {
        plane.feed(port, packets);
    }
    let source = "192.0.2.9:999".parse().unwrap();
    plane.latch(y, source);
    let before = streams(&plane);
    assert_eq!(connect(&world, ["one", "a"], ["two", "y"])["result"], "ok");
    let after = streams(&plane);
    assert_eq!([after[&a].1, after[&y].1], [y, a]);
    assert_eq!([after[&b].1, after[&x].1], [0, 0]);
    let key = before[&a].0;
    assert!(after.values().all(|(call, _)| *call == key));
    // Nothing of either call began anew.
    assert_eq!(plane.ended(), 0);
    assert_eq!(plane.streams()[&y], Some(source));

    assert_eq!(world.list(), ["one", "two"]);
    assert_eq!(world.stats()["calls"], 1);
    let query = world.ng(json!({"command": "query", "call-id": "two"}));
    // What is asked for by one name is what was made with it.
    assert_eq!(query["totals"]["RTP"]["packets"], 70);
    let tags = |report: &Value| {
        let tags = report["tags"].as_object().unwrap();
        tags.keys().cloned().collect::<Vec<_>>()
    };
    assert_eq!(tags(&query), ["x", "y"]);
    let other = world.ng(json!({"command": "query", "call-id": "one"}));
    assert_eq!(tags(&other), ["a", "b"]);
    assert!(query["created_ts"].as_u64() > other["created_ts"].as_u64());
    assert_eq!(other["tags"]["a"]["subscriptions"][0]["tag"], "y");
    assert_eq!(query["tags"]["y"]["subscriptions"][0]["tag"], "a");
    assert_eq!(other["tags"]["b"]["subscriptions"], json!([]));
    let port = &other["tags"]["a"]["medias"][0]["streams"][0];
    assert_eq!(
        (&port["stats"]["packets"], &port["stats_out"]["packets"]),
        (&10.into(), &40.into())
    );
    let told = out(&world.cli(&["calls", "two"]));
    assert!(told.starts_with("call one, two\n"), "{told}");
    assert!(
        told.contains("leg 0: tag a; interface default; connected to leg 3\n"),
        "{told}"
    );
    assert!(
        told.contains("tag b; interface default; hears nobody\n"),
        "{told}"
    );
    let told = out(&world.cli(&["ctl", "list", "sessions", "two"]));
    assert!(told.starts_with("\ncallid: one\nalias: two\n"), "{told}");
    assert!(told.contains("subscribed to 'y'"), "{told}");

    plane.feed(y, 2);
    let gone = delete(&world, "two");
    assert_eq!(
        (&gone["result"], &gone["warning"]),
        (&"ok".into(), &Value::Null)
    );
    assert_eq!(gone["totals"]["RTP"]["packets"], 72);
    assert_eq!(tags(&gone), ["x", "y"]);
    assert_eq!(
        streams(&plane)
            .keys()
            .copied()
            .filter(|p| [a, b, x, y].contains(p))
            .count(),
        2
    );
    let first = records(&world, 1).remove(0);
    assert_eq!(
        (&first["call_id"], &first["goes_on"]),
        (&"two".into(), &false.into())
    );
    assert_eq!(first["legs"].as_array().unwrap().len(), 2);
    assert_eq!(
        (
            &leg_of(&first, "x")["packets"],
            &leg_of(&first, "y")["packets"]
        ),
        (&30.into(), &42.into())
    );
    plane.feed(a, 3);
    let gone = delete(&world, "one");
    assert_eq!(gone["warning"], Value::Null);
    let second = records(&world, 2).remove(1);
    assert_eq!(second["call_id"], "one");
    // Who had to leave the talk has its count as well.
    assert_eq!(
        (
            &leg_of(&second, "a")["packets"],
            &leg_of(&second, "b")["packets"]
        ),
        (&13.into(), &20.into())
    );
    assert!(plane.streams().is_empty());
    world.until("the last meters are acknowledged", || plane.ended() == 0);
    assert_eq!(world.list(), Vec::<String>::new());
    assert_eq!(world.stats()["ports"]["default"]["used"], 0);
    let total = &world.socket(r#"{"get":"statistics"}"#)["ok"]["totalstatistics"];
    assert_eq!(total["managedsessions"], 2, "{total}");
    assert_eq!(total["regularterminatedsessions"], 2, "{total}");
    assert_eq!(
        delete(&world, "two")["warning"],
        "Call-ID not found or tags didn't match"
    );
}

/// Of one call: whoever is left alone has his count in the record of his dialog, whenever that ends.
#[test]
fn legs_of_one_call_have_a_record_for_each_dialog() {
    let (world, plane) = with_records();
    let [_, b] = call(&world, "c", ["a", "b"], 4000);
    let [x, y] = call(&world, "c", ["x", "y"], 6000);
    let ask =
        json!({"command": "subscribe request", "call-id": "c", "from-tag": "y", "to-tag": "s"});
    let copy = port_of(&world.ng(ask));
    for (port, packets) in [(b, 20), (x, 30), (y, 40)] {
        plane.feed(port, packets);
    }
    assert_eq!(connect(&world, ["c", "b"], ["c", "y"])["result"], "ok");
    assert_eq!([streams(&plane)[&b].1, streams(&plane)[&x].1], [y, 0]);
    assert!(plane.streams().contains_key(&copy), "a copy goes on");
    let streams = out(&world.cli(&["streams"]));
    let nobodys = streams.lines().filter(|line| line.contains(" - "));
    assert!(nobodys.count() >= 4, "{streams}");
    let delete = |from: &str, to: &str| {
        world.ng(json!({"command": "delete", "call-id": "c", "from-tag": from, "to-tag": to}))
    };
    assert_eq!(delete("a", "b")["warning"], Value::Null);
    assert_eq!(delete("x", "y")["warning"], Value::Null);
    let [first, second] = &records(&world, 2)[..] else {
        panic!("two records")
    };
    assert_eq!([&first["goes_on"], &second["goes_on"]], [true, false]);
    assert_eq!(leg_of(first, "b")["packets"], 20);
    assert_eq!(leg_of(second, "x")["packets"], 30);
    assert_eq!(leg_of(second, "y")["packets"], 40);
    assert!(plane.streams().is_empty());
}

/// What is published has one pair of ports, and is one leg in all that is told of it.
#[test]
fn a_publication_is_one_leg() {
    let (world, plane) = with_records();
    let body = sdp("10.0.0.1", 4000) + "a=sendonly\r\n";
    let publish = json!({"command": "publish", "call-id": "c", "from-tag": "p", "sdp": body});
    let port = port_of(&world.ng(publish));
    assert_eq!(world.stats()["ports"]["default"]["used"], 1);
    plane.feed(port, 10);
    let query = world.ng(json!({"command": "query", "call-id": "c"}));
    assert_eq!(query["totals"]["RTP"]["packets"], 10);
    assert_eq!(query["tags"].as_object().unwrap().len(), 1);
    let told = out(&world.cli(&["calls", "c"]));
    assert_eq!(told.matches("  leg ").count(), 1, "{told}");
    delete(&world, "c");
    let record = records(&world, 1).remove(0);
    assert_eq!(record["legs"].as_array().unwrap().len(), 1, "{record}");
    assert_eq!(leg_of(&record, "p")["packets"], 10);
    assert_eq!(world.stats()["ports"]["default"]["used"], 0);
    let total = &world.socket(r#"{"get":"statistics"}"#)["ok"]["totalstatistics"];
    assert_eq!(
        (&total["onewaystreams"], &total["zerowaystreams"]),
        (&1.into(), &0.into())
    );
}

/// Ended as a whole, it leaves a record of each all the same; and the names are free.
#[test]
fn an_end_as_a_whole_is_the_end_of_both() {
    let (world, plane) = with_records();
    call(&world, "one", ["a", "b"], 4000);
    call(&world, "two", ["x", "y"], 6000);
    connect(&world, ["one", "b"], ["two", "x"]);
    assert_eq!(out(&world.cli(&["end", "two"])), "call two has ended\n");
    assert!(plane.streams().is_empty() && world.list().is_empty());
    let mut ids: Vec<_> = records(&world, 2)
        .iter()
        .map(|r| (r["call_id"].clone(), r["reason"].clone()))
        .collect();
    ids.sort_by_key(|(id, _)| id.to_string());
    let operator = Value::from("operator");
    assert_eq!(
        ids,
        [("one".into(), operator.clone()), ("two".into(), operator)]
    );
    call(&world, "two", ["x", "y"], 6000);
    assert_eq!(world.list(), ["two"]);
}

/// A dialog that was to end later does so when it was told to, whatever call it is a part of by then.
#[test]
fn a_delayed_delete_of_a_call_that_was_merged_is_carried_out_in_time() {
    let (world, plane) = World::running(64);
    call(&world, "one", ["a", "b"], 4000);
    call(&world, "two", ["x", "y"], 6000);
    call(&world, "two", ["v", "w"], 8000);
    let late = json!({"command": "delete", "call-id": "two", "from-tag": "v", "to-tag": "w", "delete-delay": 2});
    assert_eq!(world.ng(late)["warning"], Value::Null);
    let asked = Instant::now();
    assert_eq!(connect(&world, ["one", "a"], ["two", "y"])["result"], "ok");
    assert_eq!(plane.streams().len(), 12);
    world.until("the late delete", || plane.streams().len() == 8);
    // Long before all calls are looked at.
    assert!(asked.elapsed() < Duration::from_secs(8));
    assert_eq!(world.list(), ["one", "two"]);
}

/// Whoever dies, the call stands under both names, and media is not touched.
#[test]
fn connected_legs_outlive_either_process() {
    let (mut world, plane) = World::running(64);
    let [a, b] = call(&world, "one", ["a", "b"], 4000);
    let [_, y] = call(&world, "two", ["x", "y"], 6000);
    connect(&world, ["two", "y"], ["one", "a"]);
    plane.feed(y, 40);
    let (before, commands) = (streams(&plane), plane.commands());
    world.sigkill();
    world.start();
    world.wait_state("online");
    assert_eq!(streams(&plane), before);
    assert_eq!(plane.commands(), commands, "nothing had to be mended");
    assert_eq!(world.list(), ["one", "two"]);
    // Both die, and the region with them.
    world.sigkill();
    plane.kill();
    std::fs::remove_dir_all(world.region()).unwrap();
    let plane = world.plane();
    world.start();
    world.wait_state("online");
    assert_eq!(streams(&plane), before);
    assert_eq!(connect(&world, ["two", "a"], ["one", "b"])["result"], "ok");
    assert_eq!([streams(&plane)[&a].1, streams(&plane)[&b].1], [b, a]);
    for id in ["one", "two"] {
        assert_eq!(delete(&world, id)["warning"], Value::Null);
    }
    assert!(plane.streams().is_empty());
    assert_eq!(world.stats()["ports"]["default"]["used"], 0);
}

/// What the plane refuses leaves two calls as they were.
#[test]
fn a_merge_that_is_refused_is_taken_back() {
    let (mut world, plane) = World::running(64);
    call(&world, "one", ["a", "b"], 4000);
    call(&world, "two", ["x", "y"], 6000);
    let before = streams(&plane);
    plane.refuse(true);
    let reply = connect(&world, ["one", "a"], ["two", "y"]);
    assert!(reason(&reply).starts_with("media plane refused"), "{reply}");
    let calls = |plane: &TestPlane| {
        streams(plane)
            .into_values()
            .map(|(call, _)| call)
            .collect::<Vec<_>>()
    };
    let own: Vec<u64> = before.values().map(|(call, _)| *call).collect();
    world.until("the streams are those of their calls", || {
        calls(&plane) == own
    });
    plane.refuse(false);
    world.sigkill();
    world.start();
    world.wait_state("online");
    assert_eq!(streams(&plane), before);
    assert_eq!(world.stats()["calls"], 2);
    for (one, other, why) in [
        (["no", "a"], ["two", "y"], "Unknown call-id"),
        (["one", "y"], ["two", "y"], "From-tag not found"),
        (["one", "a"], ["two", "a"], "To-tag not found"),
    ] {
        assert_eq!(reason(&connect(&world, one, other)), why);
    }
    call(&world, "three", ["a", "z"], 8000);
    let why = "Failed to merge two calls into one (tag collision)";
    assert_eq!(reason(&connect(&world, ["one", "a"], ["three", "z"])), why);
    assert_eq!(world.list(), ["one", "three", "two"]);
}

/// Requests that come all at once are carried out one after the other, for whichever of the calls they are.
#[test]
fn requests_of_calls_that_become_one_queue() {
    let (world, plane) = World::running(256);
    for n in 0..20 {
        let ids = [format!("one{n}"), format!("two{n}")];
        let tags = [["a", "b"], ["x", "y"]].map(|pair| pair.map(|tag| format!("{tag}{n}")));
        for (id, [from, to]) in ids.iter().zip(&tags) {
            call(&world, id, [from, to], 4000);
        }
        // Either way round, so that who waits for both could wait for each other.
        let connect = |one: usize, other: usize| {
            json!({"command": "connect", "call-id": ids[one],
            "from-tag": tags[one][0], "to-call-id": ids[other], "to-tag": tags[other][1]})
        };
        let hold = json!({"command": "offer", "call-id": ids[1], "from-tag": tags[1][0],
            "to-tag": tags[1][1], "sdp": sdp("10.0.0.1", 4002) + "a=sendonly\r\n"});
        let end = |id: &String| json!({"command": "delete", "call-id": id});
        let all = [
            connect(0, 1),
            hold,
            connect(1, 0),
            end(&ids[0]),
            end(&ids[1]),
        ];
        for message in &all {
            let text = format!("{} {message}", world.cookie());
            world.client.send_to(text.as_bytes(), world.ng).unwrap();
        }
        let mut buffer = vec![0; 65_536];
        for _ in &all {
            let len = world.client.recv(&mut buffer).unwrap();
            let text = String::from_utf8_lossy(&buffer[..len]);
            // The second connection may come too late: what waited for a call of its own goes behind what waits already.
            let is_late = text.contains("Unknown call-id");
            assert!(text.contains("\"result\":\"ok\"") || is_late, "{text}");
        }
    }
    assert!(plane.streams().is_empty() && world.list().is_empty());
    assert_eq!(world.stats()["ports"]["default"]["used"], 0);
}
