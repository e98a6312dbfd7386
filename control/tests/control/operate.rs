//! What an operator does: ending calls, setting values, reading totals, with Penstock's words and rtpengine-ctl's.

use crate::common::*;
use serde_json::json;

fn ctl(world: &World, line: &str) -> String {
    let words: Vec<&str> = ["ctl"].into_iter().chain(line.split(' ')).collect();
    out(&world.cli(&words))
}

fn call(world: &World, id: &str) -> [u16; 2] {
    let facing_b = port_of(&world.offer(id, 4000));
    [port_of(&world.answer(id, 5000)), facing_b]
}

#[test]
fn calls_end_on_the_operators_word() {
    let (world, plane) = World::running(256);
    for n in 0..100 {
        world.offer(&format!("call{n}"), 4000);
    }
    let missing = world.cli(&["end", "other"]);
    assert_eq!(missing.status.code(), Some(1));
    let sentence = String::from_utf8_lossy(&missing.stderr).into_owned();
    assert_eq!(sentence, "penstock: there is no call \"other\"\n");
    assert_eq!(world.cli(&["end"]).status.code(), Some(2));
    assert_eq!(out(&world.cli(&["end", "call7"])), "call call7 has ended\n");
    assert_eq!(plane.streams().len(), 99 * 4);
    assert_eq!(out(&world.cli(&["end", "--all"])), "99 calls end\n");
    world.until("the end of all", || plane.streams().is_empty());
    world.until("the end of all", || world.list().is_empty());
}

#[test]
fn what_is_set_holds_until_the_next_reload() {
    let (world, _plane) = World::running(64);
    assert_eq!(out(&world.cli(&["set", "max-calls", "1"])), "max-calls 1\n");
    world.offer("a", 4000);
    assert!(reason(&world.offer("b", 4000)).contains("limit"));
    let all = out(&world.cli(&["set"]));
    for line in ["max-calls 1", "silence 60", "hold 3600", "log-level info"] {
        assert!(all.lines().any(|found| found == line), "{line} in {all}");
    }
    for (words, wrong) in [
        (
            ["set", "max-calls", "many"],
            "max-calls is \"many\"; it must be a number",
        ),
        (["set", "colour", "1"], "there is no setting \"colour\""),
        (
            ["set", "log-level", "loud"],
            "log-level is \"loud\"; it must be one of",
        ),
    ] {
        let output = world.cli(&words);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            output.status.code() == Some(1) && text.contains(wrong),
            "{text}"
        );
    }
    assert_eq!(world.cli(&["set", "max-calls"]).status.code(), Some(2));
    out(&world.cli(&["set", "log-level", "error"]));
    out(&world.cli(&["reload"]));
    assert_eq!(world.offer("b", 4000)["result"], "ok");
}

#[test]
fn totals_count_clients_and_calls() {
    let (world, _plane) = World::running(64);
    call(&world, "a");
    call(&world, "b");
    world.ng(json!({"command": "query", "call-id": "no such"}));
    world.delete("a");
    let all: serde_json::Value =
        serde_json::from_str(&out(&world.cli(&["statistics", "--json"]))).unwrap();
    assert_eq!(all["currentstatistics"]["sessionsown"], 1);
    assert_eq!(all["totalstatistics"]["regularterminatedsessions"], 1);
    let proxy = &all["controlstatistics"]["proxies"][0];
    assert_eq!(proxy["proxy"], "127.0.0.1");
    assert_eq!(
        (&proxy["offercount"], &proxy["errorcount"]),
        (&2.into(), &1.into())
    );
    assert!(proxy["offerduration"].as_f64() > Some(0.0));
    let ports = &all["interfaces"][0]["ports"];
    assert_eq!(
        (&ports["used"], &ports["free"], &ports["totals"]),
        (&4.into(), &124.into(), &128.into())
    );
    let text = out(&world.cli(&["statistics"]));
    for line in [
        "currentstatistics.sessionsown 1",
        "controlstatistics.proxies[127.0.0.1].answercount 2",
        "interfaces[default].ports.used 4",
        "voip_metrics.jitter_samples_total 0",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} in {text}");
    }
}

/// Packets that were relayed, and how many of them a second.
fn relayed(world: &World) -> (u64, u64) {
    let groups = world.socket(r#"{"get":"statistics"}"#)["ok"].clone();
    let rate = groups["currentstatistics"]["packetrate_kernel"].clone();
    let total = groups["totalstatistics"]["relayedpackets"].clone();
    (total.as_u64().unwrap(), rate.as_u64().unwrap())
}

/// Streams that ended stay in the sum, which is made every ten seconds.
#[test]
fn what_was_relayed_is_summed_up() {
    let (world, plane) = World::running(64);
    let a = call(&world, "a");
    plane.feed(a[0], 500);
    world.until("the sum", || relayed(&world).0 == 500);
    assert!((1..=500).contains(&relayed(&world).1));
    world.delete("a");
    let b = call(&world, "b");
    plane.feed(b[1], 70);
    world.until("the sum", || relayed(&world).0 == 570);
}

#[test]
fn a_restart_of_control_begins_the_sum_anew() {
    let (mut world, plane) = World::running(64);
    let b = call(&world, "b");
    plane.feed(b[1], 70);
    assert!(world.stop());
    world.start();
    world.wait_state("online");
    plane.feed(b[0], 9);
    world.until("the sum", || relayed(&world).0 == 9);
}

#[test]
fn rtpengine_ctls_commands_are_answered_in_its_form() {
    let (mut world, plane) = World::running(64);
    assert_eq!(
        ctl(&world, "list sessions all"),
        "No sessions on this media relay.\n"
    );
    let ports = call(&world, "c1");
    plane.feed(ports[0], 50);
    assert!(ctl(&world, "list numsessions").starts_with(
        "Current sessions own: 1\nCurrent sessions foreign: 0\nCurrent sessions total: 1\n"
    ));
    assert!(ctl(&world, "list numsessions").ends_with(
        "ipv4 only media: 1\nCurrent sessions ipv6 only media: 0\nCurrent sessions ip mixed  media: 0\n"
    ));
    let all = ctl(&world, "list sessions all");
    assert!(
        all.starts_with(&format!(
            "callid: {:>60} | deletionmark:  no | created:  1",
            "c1"
        )),
        "{all}"
    );
    let proxy = world.client.local_addr().unwrap();
    assert!(
        all.contains(&format!(
            " | proxy:{proxy} | redis_keyspace:0 | foreign:no\n"
        )),
        "{all}"
    );
    // It is kept with the call.
    world.sigkill();
    world.start();
    world.wait_state("online");
    let one = ctl(&world, "list sessions c1");
    for line in [
        "callid: c1",
        &format!("proxy: {proxy}"),
        "--- Tag 'a', type: FROM_TAG, label '', branch '', callduration ",
        "---     subscribed to 'b'",
        "------ Media #1 (audio over RTP/AVP)",
        &format!(
            "-------- Port      198.18.0.1:{} <>        10.0.0.1:4000 , SSRC 0, 50 p, 8600 b, 0 e, 1",
            ports[0]
        ),
        &format!(
            "-------- Port      198.18.0.1:{} <>        10.0.0.1:4001  (RTCP), SSRC 0, 0 p, 0 b, 0 e, 0 ts",
            ports[0] + 1
        ),
    ] {
        assert!(
            one.lines().any(|found| found.starts_with(line)),
            "{line} in {one}"
        );
    }
    let totals = ctl(&world, "list totals");
    for line in [
        " Owned sessions                                  :1",
        " Total managed sessions                          :0",
        " Average MOS                                     :0.000000",
    ] {
        assert!(
            totals.lines().any(|found| found == line),
            "{line} in {totals}"
        );
    }
    let json: serde_json::Value = serde_json::from_str(&ctl(&world, "list jsonstats")).unwrap();
    assert_eq!(json["currentstatistics"]["sessionstotal"], 1);
    assert!(ctl(&world, "list interfaces").contains(
        "Interface 'default' address '198.18.0.1' (IPv4)\n Port range: 10000 - 10127\n Ports used:     4 /   128 (  3.1%)\n"
    ));
    for (line, answer) in [
        ("set maxsessions 3", "Success setting maxsessions to 3\n"),
        (
            "list maxsessions",
            "Maximum sessions configured on rtpengine: 3\n",
        ),
        ("params diff", "max-sessions = 16000 => 3\n"),
        (
            "set maxsessions -1",
            "Success setting maxsessions to -1; disable feature\n",
        ),
        (
            "get maxsessions",
            "Maximum sessions configured on rtpengine: -1\n",
        ),
        ("params revert", ""),
        (
            "list maxsessions",
            "Maximum sessions configured on rtpengine: 16000\n",
        ),
        ("set timeout 70", "Success setting timeout to 70\n"),
        ("list timeout", "TIMEOUT=70\n"),
        (
            "set silenttimeout x",
            "Fail setting timeout to x; no digists found\n",
        ),
        ("list silenttimeout", "SILENT_TIMEOUT=3600\n"),
        ("set loglevel 7", "Success setting loglevel to 7\n"),
        ("list loglevel", "core = debug\n"),
        ("list", "More parameters required.\n"),
        ("list foo", "Unknown or incomplete command::foo\n"),
        ("set foo 1", "Unknown or incomplete command::foo 1\n"),
        ("ksadd 3", "Unknown or incomplete command::ksadd 3\n"),
        ("list sessions nosuch", "\nCall ID not found (nosuch).\n\n"),
        ("terminate nosuch", "\nCall Id not found (nosuch).\n\n"),
        (
            "terminate c1",
            "\nCall Id (c1) successfully terminated by operator.\n\n",
        ),
    ] {
        assert_eq!(ctl(&world, line), answer, "{line}");
    }
    world.until("its end", || plane.streams().is_empty());
    call(&world, "c2");
    assert_eq!(
        ctl(&world, "terminate all"),
        "All calls terminated by operator.\n"
    );
    world.until("its end", || plane.streams().is_empty());
}

#[test]
fn what_is_known_of_a_leg_is_listed_and_its_password_is_not() {
    let (world, _plane) = World::running(64);
    let ice = "a=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901\r\n";
    let offer = world.ng(json!({
        "command": "offer", "call-id": "c", "from-tag": "a", "label": "caller", "via-branch": "z9",
        "sdp": sdp("10.0.0.1", 4000) + ice, "ICE": "force",
    }));
    let sent = offer["sdp"].as_str().unwrap();
    assert!(sent.contains("a=ice-pwd:"), "{offer}");
    let answer = world.ng(json!({
        "command": "answer", "call-id": "c", "from-tag": "a", "to-tag": "b", "via-branch": "z9",
        "sdp": sdp("10.0.0.2", 5000),
    }));
    assert_eq!(answer["result"], "ok", "{answer}");
    let one = ctl(&world, "list sessions c");
    for line in [
        "deletionmark: no",
        "--- Tag 'a', type: FROM_TAG, label 'caller', branch '', ",
        "--- Tag 'b', type: TO_TAG, label '', branch 'z9', ",
    ] {
        assert!(
            one.lines().any(|found| found.starts_with(line)),
            "{line} in {one}"
        );
    }
    let flags = |tag: &str| {
        let query = world.ng(json!({"command": "query", "call-id": "c"}));
        query["tags"][tag]["medias"][0]["flags"].to_string()
    };
    assert!(flags("a").contains("\"ICE\""), "{}", flags("a"));
    assert!(!flags("b").contains("\"ICE\""), "{}", flags("b"));
    // Keys are there once.
    let query = world.raw(b"q1 d7:call-id1:c7:command5:querye");
    let query = String::from_utf8_lossy(&query).into_owned();
    assert_eq!(query.matches("5:label").count(), 1, "{query}");

    let seen = world.socket(r#"{"get":"call","id":"c"}"#);
    assert_eq!(seen["ok"]["call"]["id"], "c");
    assert!(!seen.to_string().contains("pwd"), "{seen}");
    assert!(world.cli(&["calls", "c"]).status.success());

    let delete = json!({"command": "delete", "call-id": "c", "from-tag": "a", "to-tag": "b", "delete delay": 100});
    assert_eq!(world.ng(delete)["result"], "ok");
    assert!(ctl(&world, "list sessions all").contains("| deletionmark: yes |"));
    assert!(ctl(&world, "list sessions c").contains("\ndeletionmark: yes\n"));
}
