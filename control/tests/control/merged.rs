//! Two calls that became one have users of their own: what each of them asks for, what an operator sees, and when a name is
//! another call's.

use crate::common::*;
use crate::connect::{call, connect, delete, records, streams, with_records};
use penstock_shm::flag;
use serde_json::{Value, json};

/// `one` of `a` and `b`, `two` of `x` and `y`, `a` and `y` connected, and then a second dialog of `two`, whose caller is
/// called `a` as well: the ports that each sends to.
fn with_equal_tags(world: &World) -> [[u16; 2]; 3] {
    let one = call(world, "one", ["a", "b"], 4000);
    let two = call(world, "two", ["x", "y"], 6000);
    assert_eq!(connect(world, ["one", "a"], ["two", "y"])["result"], "ok");
    [one, two, call(world, "two", ["a", "c"], 8000)]
}

/// A command for a Call-ID that has to succeed.
fn ask(world: &World, command: &str, id: &str, more: Value) -> Value {
    let mut message = json!({"command": command, "call-id": id});
    let more = more.as_object().unwrap().clone();
    message.as_object_mut().unwrap().extend(more);
    let reply = world.ng(message);
    assert_eq!(reply["result"], "ok", "{command} {reply}");
    reply
}

#[test]
fn two_users_with_equal_tags_do_not_meet() {
    let (world, plane) = World::running(64);
    let [[a, b], [x, y], [other_a, c]] = with_equal_tags(&world);
    let open =
        || [a, b, x, y, other_a, c].map(|port| plane.slot(port).flags & flag::GATE_OPEN != 0);
    let tag = json!({"from-tag": "a"});
    ask(&world, "block media", "two", tag.clone());
    assert_eq!(open(), [true, true, true, true, false, true]);
    ask(&world, "silence media", "one", tag.clone());
    assert_eq!(open(), [false, true, true, true, false, true]);
    ask(&world, "unblock media", "two", tag.clone());
    ask(&world, "unsilence media", "one", tag.clone());
    assert_eq!(open(), [true; 6]);
    ask(&world, "block DTMF", "two", tag.clone());
    let drops = |port| plane.slot(port).links & penstock_shm::record::link::DROP_EVENTS != 0;
    assert_eq!([a, other_a].map(drops), [false, true]);

    // Each has a recorder of the same name.
    let all = json!({"to-tag": "rec", "flags": ["all"]});
    let [mine, theirs] = ["one", "two"].map(|id| ask(&world, "subscribe request", id, all.clone()));
    assert_eq!(mine["from-tags"], json!(["a", "b", "y"]));
    assert_eq!(theirs["from-tags"], json!(["a", "x", "y", "a", "c"]));
    let copies = [port_of(&mine), port_of(&theirs)];
    let stands = || copies.map(|port| plane.streams().contains_key(&port));
    let remote = || copies.map(|port| plane.streams()[&port].map(|at| at.port()));
    let body = sdp("10.0.0.9", 9000);
    ask(
        &world,
        "subscribe answer",
        "two",
        json!({"to-tag": "rec", "sdp": body}),
    );
    assert_eq!(remote(), [None, Some(9000)]);
    ask(&world, "unsubscribe", "one", json!({"to-tag": "rec"}));
    assert_eq!(stands(), [false, true]);
    let by_tag = json!({"from-tag": "rec"});
    assert_ne!(
        ask(&world, "delete", "one", by_tag.clone())["warning"],
        Value::Null
    );
    assert_eq!(ask(&world, "delete", "two", by_tag)["warning"], Value::Null);
    assert_eq!(stands(), [false, false]);

    // A publication is of its own call, too.
    let published = json!({"from-tag": "b", "sdp": sdp("10.0.0.5", 5000) + "a=sendonly\r\n"});
    let published = port_of(&ask(&world, "publish", "two", published));
    assert!(![a, b, x, y, other_a, c].contains(&published));

    // Connected again, and ended by tag: neither touches the other's.
    assert_eq!(connect(&world, ["two", "a"], ["two", "x"])["result"], "ok");
    let peer = |port: u16| streams(&plane)[&port].1;
    assert_eq!(
        [peer(other_a), peer(x), peer(a), peer(y)],
        [x, other_a, y, a]
    );
    ask(&world, "delete", "two", tag);
    let left = streams(&plane);
    assert_eq!(
        [a, b, other_a, c].map(|port| left.contains_key(&port)),
        [true, true, false, false]
    );
}

/// An operator finds it under either Call-ID.
#[test]
fn an_operator_sees_both_names() {
    let (world, _plane) = World::running(64);
    let merge = || {
        call(&world, "one", ["a", "b"], 4000);
        call(&world, "two", ["x", "y"], 6000);
        connect(&world, ["one", "a"], ["two", "y"]);
    };
    merge();
    let cli = |args: &[&str]| out(&world.cli(args));
    let table = cli(&["calls"]);
    let row = table.lines().nth(1).unwrap();
    assert!(row.trim_start().starts_with("one, two "), "{table}");
    assert!(row.contains(" a > b > x > y "), "{table}");
    assert_eq!(table.lines().count(), 2);
    let list: Value = serde_json::from_str(&cli(&["calls", "--json"])).unwrap();
    assert_eq!(
        (&list[0]["call_id"], &list[0]["also"]),
        (&json!("one"), &json!(["two"]))
    );
    let rows = cli(&["streams"]);
    assert_eq!(rows.matches("\n").count(), 1 + 8, "{rows}");
    assert!(
        rows.lines()
            .skip(1)
            .all(|row| row.trim_start().starts_with("one ")),
        "{rows}"
    );

    let [shown, by_other] = ["one", "two"].map(|id| cli(&["calls", id]));
    assert!(shown.starts_with("call one, two\n"), "{shown}");
    let head = |text: &str| text.lines().take(7).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(head(&shown), head(&by_other));
    let [shown, by_other] = ["one", "two"].map(|id| cli(&["ctl", "list", "sessions", id]));
    let head = "\ncallid: one\nalias: two\ndeletionmark: no\n";
    assert!(
        shown.starts_with(head) && by_other.starts_with(head),
        "{by_other}"
    );
    assert_eq!(shown.matches("--- Tag ").count(), 4, "{shown}");
    let all = cli(&["ctl", "list", "sessions", "all"]);
    assert!(all.lines().count() == 1 && all.contains(" one | "), "{all}");
    assert!(cli(&["ctl", "list", "numsessions"]).starts_with("Current sessions own: 1\n"));

    for id in ["one", "two"] {
        assert_eq!(cli(&["end", id]), format!("call {id} has ended\n"));
        assert!(!world.cli(&["calls", "one"]).status.success());
        assert!(world.list().is_empty());
        merge();
        let told = cli(&["ctl", "terminate", id]);
        assert_eq!(
            told,
            format!("\nCall Id ({id}) successfully terminated by operator.\n\n")
        );
        world.until("both are gone", || world.list().is_empty());
        merge();
    }
}

/// What is left of the call goes by the name that is left, and whoever comes with the first one begins a call.
#[test]
fn the_first_name_is_free_when_its_dialogs_have_ended() {
    let (mut world, plane) = with_records();
    let [_, [x, y], _] = with_equal_tags(&world);
    plane.feed(y, 40);
    let key = streams(&plane)[&y].0;
    assert_eq!(delete(&world, "one")["warning"], Value::Null);
    assert_eq!(world.list(), ["two"]);
    let unknown = world.ng(json!({"command": "query", "call-id": "one"}));
    assert_eq!(reason(&unknown), "Unknown call-id");
    let shown = out(&world.cli(&["calls", "two"]));
    assert!(shown.starts_with("call two\n"), "{shown}");
    let shown = out(&world.cli(&["ctl", "list", "sessions", "two"]));
    assert!(
        shown.starts_with("\ncallid: two\ndeletionmark: no\n"),
        "{shown}"
    );
    let proxy = world.client.local_addr().unwrap();
    assert!(shown.contains(&format!("\nproxy: {proxy}\n")), "{shown}");

    let restart = |world: &mut World| {
        let before = (streams(&plane), plane.commands());
        world.sigkill();
        world.start();
        world.wait_state("online");
        assert_eq!((streams(&plane), plane.commands()), before);
    };
    restart(&mut world);
    assert_eq!(world.list(), ["two"]);
    let [a, _] = call(&world, "one", ["a", "b"], 4000);
    assert_eq!(world.stats()["calls"], 2);
    let stands = streams(&plane);
    assert_ne!(stands[&a].0, key);
    assert_eq!([stands[&x].0, stands[&y].0], [key; 2]);
    restart(&mut world);
    assert_eq!(world.list(), ["one", "two"]);
    for id in ["one", "two"] {
        assert_eq!(delete(&world, id)["warning"], Value::Null);
    }
    let ids: Vec<Value> = records(&world, 3)
        .iter()
        .map(|r| r["call_id"].clone())
        .collect();
    assert_eq!(ids, ["one", "one", "two"]);
    assert!(plane.streams().is_empty());
    assert_eq!(world.stats()["ports"]["default"]["used"], 0);
}

/// Sends a request whose answer nobody waits for.
fn send(world: &World, message: &Value) {
    let text = format!("{} {message}", world.cookie());
    world.client.send_to(text.as_bytes(), world.ng).unwrap();
}

fn answers(world: &World, count: usize) {
    for _ in 0..count {
        world.client.recv(&mut [0; 65_536]).unwrap();
    }
}

/// All means all, also a call that goes by another name when it is its turn.
#[test]
fn all_calls_end_while_one_changes_its_name() {
    let (world, plane) = with_records();
    with_equal_tags(&world);
    plane.hang(true);
    send(&world, &json!({"command": "delete", "call-id": "one"}));
    let waits = || world.stats()["link"]["commands-in-flight"] == 1;
    world.until("the delete waits for the plane", waits);
    assert_eq!(out(&world.cli(&["end", "--all"])), "1 call ends\n");
    plane.hang(false);
    answers(&world, 1);
    world.until("all have ended", || world.list().is_empty());
    assert!(plane.streams().is_empty());
    assert_eq!(records(&world, 2)[1]["reason"], "operator");
}

/// A merge that comes to nothing leaves nothing behind of a call that was to end meanwhile, and all of the other.
#[test]
fn a_merge_that_fails_while_the_second_call_ends() {
    for first in ["one", "two"] {
        let (mut world, plane) = World::running(64);
        let [a, b] = call(&world, "one", ["a", "b"], 4000);
        call(&world, "two", ["x", "y"], 6000);
        let other = if first == "one" {
            ["two", "y"]
        } else {
            ["one", "a"]
        };
        let own = if first == "one" { "a" } else { "y" };
        let before = streams(&plane);
        plane.hang(true);
        send(
            &world,
            &json!({"command": "connect", "call-id": first, "from-tag": own,
            "to-call-id": other[0], "to-tag": other[1]}),
        );
        let waits = || world.stats()["link"]["commands-in-flight"] == 1;
        world.until("the merge waits for the plane", waits);
        // Before it has failed: a delete, a hold that comes too late for it, and an operator.
        send(&world, &json!({"command": "delete", "call-id": "two"}));
        let hold = sdp("10.0.0.1", 6002) + "a=sendonly\r\n";
        send(
            &world,
            &json!({"command": "answer", "call-id": "two", "from-tag": "x", "to-tag": "y", "sdp": hold}),
        );
        answers(&world, 1);
        assert_eq!(world.stats()["errors"]["plane-timeout"], 1);
        plane.hang(false);
        answers(&world, 2);
        world.until("what was taken back is", || streams(&plane).len() == 4);
        let left = streams(&plane);
        let own: Vec<_> = left.iter().map(|(port, stands)| (*port, *stands)).collect();
        let wanted: Vec<_> = before
            .iter()
            .map(|(port, stands)| (*port, *stands))
            .collect();
        assert!(
            own.iter().all(|stands| wanted.contains(stands)),
            "{own:?} {wanted:?}"
        );
        assert_eq!([left[&a].1, left[&b].1], [b, a]);
        assert_eq!(world.list(), ["one"]);
        world.sigkill();
        world.start();
        world.wait_state("online");
        assert_eq!(
            (world.list(), streams(&plane)),
            (vec!["one".to_owned()], left)
        );
    }
}
