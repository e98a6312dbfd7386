//! The command against running and missing daemons.

use crate::common::*;
use serde_json::Value;
use std::process::Output;

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// Standard output of a command that ended well.
fn good(output: &Output) -> &str {
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
}

/// The one sentence of a command that failed.
fn bad(output: &Output) -> &str {
    assert_eq!(output.status.code(), Some(1));
    let sentence = text(&output.stderr).trim_end();
    assert_eq!(sentence.lines().count(), 1, "{sentence}");
    assert!(output.stdout.is_empty());
    sentence
}

fn json(output: &Output) -> Value {
    serde_json::from_str(good(output)).unwrap()
}

/// The words of the line that begins with `first`.
fn line<'a>(table: &'a str, first: &str) -> Vec<&'a str> {
    let found = table
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>());
    let mut found = found.filter(|words| words.first() == Some(&first));
    found
        .next()
        .unwrap_or_else(|| panic!("no {first} in\n{table}"))
}

#[test]
fn streams_and_calls_of_a_running_system() {
    let (world, plane) = World::running(8);
    let facing_b = port_of(&world.offer("call@host", 4000));
    let facing_a = port_of(&world.answer("call@host", 5000));
    plane.feed(facing_a, 50);
    plane.latch(facing_b, "192.0.2.9:5009".parse().unwrap());

    let output = world.cli(&["streams"]);
    assert_eq!(text(&output.stderr), "");
    let table = good(&output);
    assert_eq!(table.lines().count(), 5, "{table}");
    let local = format!("198.18.0.1:{facing_a}");
    let row = table
        .lines()
        .find(|line| line.contains(&format!(" {local} ")))
        .unwrap();
    let words: Vec<_> = row.split_whitespace().collect();
    let peer = format!("198.18.0.1:{facing_b}");
    let want = [
        "call@host",
        "0",
        "0",
        "rtp",
        &local,
        "[10.0.0.1:4000]",
        &peer,
        "50",
        "8600",
        "0",
        "0.00",
        "0.0ms",
    ];
    assert_eq!(words[..12], want);
    assert!(table.contains(" 192.0.2.9:5009 "), "{table}");
    assert!(!table.contains('\x1b'), "no colours without a terminal");

    let rows = json(&world.cli(&["streams", "--json"]));
    assert_eq!(rows.as_array().unwrap().len(), 4);
    assert_eq!(rows[0]["call_id"], "call@host");
    assert_eq!(
        (&rows[0]["packets"], &rows[0]["bytes"]),
        (&50.into(), &8600.into())
    );

    assert_eq!(
        line(good(&world.cli(&["calls"])), "call@host")[1..6],
        ["a", ">", "b", "4", "50"]
    );
    let calls = json(&world.cli(&["calls", "--json"]));
    assert_eq!(
        (&calls[0]["call_id"], &calls[0]["packets"]),
        (&"call@host".into(), &50.into())
    );
    let detail = world.cli(&["calls", "call@host"]);
    assert!(
        good(&detail).contains("leg 1: tag b; interface default"),
        "{}",
        good(&detail)
    );
    assert_eq!(
        json(&world.cli(&["calls", "call@host", "--json"]))["streams"]
            .as_array()
            .unwrap()
            .len(),
        4
    );
    assert_eq!(
        bad(&world.cli(&["calls", "other"])),
        "penstock: there is no call \"other\""
    );

    let drops = world.cli(&["drops"]);
    assert_eq!(line(good(&drops), "no-stream")[1], "0");
    let drops = json(&world.cli(&["drops", "--json"]));
    assert_eq!(
        drops["reasons"].as_array().unwrap().len(),
        penstock_shm::counters::Drop::ALL.len()
    );
    let workers: Vec<_> = drops["workers"].as_array().unwrap().iter().collect();
    let names: Vec<_> = workers.iter().map(|row| &row["worker"]).collect();
    assert_eq!(names, ["0", "steward"]);
}

#[test]
fn one_daemon_is_enough() {
    let (mut world, plane) = World::running(8);
    world.offer("call", 4000);
    assert!(world.stop());
    // Without control: the region's number of the call, and a word about it.
    let output = world.cli(&["streams"]);
    assert!(
        good(&output)
            .lines()
            .nth(1)
            .unwrap()
            .trim_start()
            .starts_with('#')
    );
    assert!(text(&output.stderr).contains("penstock-control does not name every call"));
    assert!(bad(&world.cli(&["calls"])).contains("penstock-control does not answer at "));
    // Without the plane: its last counts.
    plane.kill();
    let output = world.cli(&["streams"]);
    assert_eq!(good(&output).lines().count(), 5);
    assert!(text(&output.stderr).contains("the media plane is not running"));
    std::fs::remove_dir_all(world.region()).unwrap();
    assert!(bad(&world.cli(&["streams"])).contains("no region in "));
    assert!(bad(&world.cli(&["drops"])).contains("no region in "));
    world.start();
    assert_eq!(line(good(&world.cli(&["calls"])), "call")[4..6], ["0", "0"]);
}

#[test]
fn what_repeats_ends_when_nobody_reads() {
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};
    let (world, plane) = World::running(8);
    let port = port_of(&world.offer("call", 4000));
    for args in [
        ["streams", "--watch", "--json"].as_slice(),
        &["top", "--json"],
        &["top"],
    ] {
        let mut child = Command::new(env!("CARGO_BIN_EXE_penstock"))
            .arg("--config")
            .arg(world.config())
            .args(args)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let first = lines.next().unwrap().unwrap();
        plane.feed(port, 1000);
        let second = lines.next().unwrap().unwrap();
        if args == ["top", "--json"] {
            let first: Value = serde_json::from_str(&first).unwrap();
            assert_eq!((&first["calls"], &first["streams"]), (&1.into(), &4.into()));
            let second: Value = serde_json::from_str(&second).unwrap();
            let busiest = &second["busiest"][0];
            assert_eq!(busiest["stream"]["local"], format!("198.18.0.1:{port}"));
            assert!(busiest["packets_s"].as_u64() > Some(0), "{second}");
            let [worker, steward] = [0, 1].map(|idx| &second["workers"][idx]);
            assert_eq!(steward["worker"], "steward");
            assert!(steward["rx_s"].as_u64() > Some(0), "{second}");
            assert_eq!(second["rx_s"], worker["rx_s"], "received once");
        }
        drop(lines);
        assert!(child.wait().unwrap().success(), "{args:?}");
    }
}

#[test]
fn check_says_what_is_wrong() {
    let world = World::new(8);
    let path = world.config().display().to_string();
    let output = world.cli(&["check", &path]);
    assert!(
        good(&output).starts_with(&format!("{path}: ok\n")),
        "{}",
        good(&output)
    );
    assert!(good(&output).contains("interface default: 198.18.0.1 ports 10000-10015, room for 4"));
    assert!(good(&output).contains(&format!("4096 streams; ng on {}", world.ng)));

    let text_before = std::fs::read_to_string(world.config()).unwrap();
    let twice = text_before.replace(
        "advertise = \"203.0.113.1\"",
        "advertise = \"::1\"\nvlan = 7",
    );
    std::fs::write(world.config(), twice).unwrap();
    let output = world.cli(&["check", &path]);
    assert_eq!(output.status.code(), Some(1));
    let problems: Vec<_> = text(&output.stdout).lines().collect();
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert!(
        problems
            .iter()
            .all(|line| line.starts_with(&format!("{path}: ")))
    );
    let object: Value =
        serde_json::from_slice(&world.cli(&["check", &path, "--json"]).stdout).unwrap();
    assert_eq!(
        (&object["ok"], object["problems"].as_array().unwrap().len()),
        (&false.into(), 2)
    );

    std::fs::write(world.config(), text_before + "colour = 1\n").unwrap();
    let output = world.cli(&["check", &path]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stdout).contains("colour"));
    let output = world.cli(&["check", "/nonexistent"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stdout).starts_with("cannot read the configuration /nonexistent"));
}
