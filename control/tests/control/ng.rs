//! ng over UDP against the real daemon: what commands do and how bad ones end.

use crate::common::*;
use penstock_shm::Dscp;
use serde_json::json;

#[test]
fn a_call_from_offer_to_delete() {
    let (world, plane) = World::running(8);
    assert_eq!(world.ng(json!({"command": "ping"}))["result"], "pong");

    let offer = world.offer("call", 4000);
    assert_eq!(offer["result"], "ok");
    // The answer came after the plane had applied the command.
    assert_eq!(plane.streams().len(), 4);
    let facing_b = port_of(&offer);
    assert!(
        offer["sdp"]
            .as_str()
            .unwrap()
            .contains("o=- 1 1 IN IP4 203.0.113.1\r\n")
    );
    let answer = world.answer("call", 5000);
    let facing_a = port_of(&answer);
    let streams = plane.streams();
    assert_eq!(streams[&facing_a], Some("10.0.0.1:4000".parse().unwrap()));
    assert_eq!(streams[&facing_b], Some("10.0.0.2:5000".parse().unwrap()));

    plane.feed(facing_a, 50);
    plane.feed(facing_b, 40);
    let query = world.ng(json!({"command": "query", "call-id": "call"}));
    assert_eq!(query["totals"]["RTP"]["packets"], 90);
    let stream = &query["tags"]["a"]["medias"][0]["streams"][0];
    assert_eq!(stream["local port"], facing_a);
    assert_eq!(stream["stats"]["packets"], 50);
    assert_eq!(stream["stats_out"]["packets"], 40);
    assert_eq!(stream["endpoint"]["address"], "10.0.0.1");
    assert_eq!(stream["flags"][0], "RTP");
    assert_eq!(stream["flags"][1], "filled");
    assert_eq!(stream["last kernel packet"], stream["last packet"]);
    assert_eq!(stream["last user packet"], 0);
    let media = &query["tags"]["a"]["medias"][0];
    assert_eq!(media["flags"], json!(["initialized", "send", "recv"]));
    assert_eq!(media["ingress SSRCs"], json!([]));
    assert_eq!(query["last redis update"], 0);
    assert_eq!(query["tags"]["b"]["subscriptions"][0]["tag"], "a");
    assert_eq!(world.list(), ["call"]);

    plane.feed(facing_a, 5);
    let delete = world.delete("call");
    assert_eq!(delete["result"], "ok");
    assert_eq!(
        delete["totals"]["RTP"],
        json!({"packets": 95, "bytes": 95 * 172, "errors": 0})
    );
    assert!(plane.streams().is_empty());
    world.until("the last meters are acknowledged", || plane.ended() == 0);
    assert_eq!(world.list(), Vec::<String>::new());
}

#[test]
fn kamailio_speaks_bencode() {
    let (world, _plane) = World::running(8);
    let sdp = sdp("10.0.0.1", 6000);
    let body = format!(
        "d8:supportsl10:load limite3:sdp{}:{sdp}3:ICE6:remove7:replacel6:origin18:session-connectione18:transport-protocol7:RTP/AVP7:call-id17:1-25206@127.0.0.113:received-froml3:IP49:127.0.0.1e8:from-tag15:25206SIPpTag0017:command5:offere",
        sdp.len()
    );
    let answer = world.raw(format!("0_25197_1 {body}").as_bytes());
    let text = String::from_utf8(answer.clone()).unwrap();
    assert!(text.starts_with("0_25197_1 d6:result2:ok3:sdp"), "{text}");
    // A retransmission is answered with the same bytes and not carried out again.
    assert_eq!(world.raw(format!("0_25197_1 {body}").as_bytes()), answer);
    let stats = world.stats();
    assert_eq!(stats["requests"]["offer"], 1);
    assert_eq!(stats["requests"]["retransmission"], 1);
    assert_eq!(world.raw(b"x d7:command4:pinge"), b"x d6:result4:ponge");
    let error = b"y d6:result5:error12:error-reason15:Unknown call-ide";
    assert_eq!(world.raw(b"y d7:command5:query7:call-id1:xe"), error);
}

/// A client reads a map: in however many branches a tag stands, it has one entry, with all that it does.
#[test]
fn a_forked_call_has_one_entry_for_the_caller() {
    let (world, plane) = World::running(8);
    let sdp = sdp("10.0.0.1", 4000);
    for (branch, tag) in [("1", "b"), ("2", "c")] {
        let offer = json!({"command": "offer", "call-id": "call", "from-tag": "a", "sdp": sdp, "via-branch": branch});
        let answer = json!({"command": "answer", "call-id": "call", "from-tag": "a", "to-tag": tag, "sdp": sdp,
            "via-branch": branch, "metadata": branch});
        assert_eq!(world.ng(offer)["result"], "ok");
        plane.feed(port_of(&world.ng(answer)), 10);
    }
    let text = world.raw(b"x d7:command5:query7:call-id4:calle");
    let text = String::from_utf8(text).unwrap();
    // As the key of an entry, with its dictionary.
    assert_eq!(text.matches("1:ad3:tag1:a").count(), 1, "{text}");
    let query = world.ng(json!({"command": "query", "call-id": "call"}));
    let caller = &query["tags"]["a"];
    let peers = json!([{"tag": "b", "type": "offer/answer"}, {"tag": "c", "type": "offer/answer"}]);
    assert_eq!(
        (&caller["subscriptions"], &caller["subscribers"]),
        (&peers, &peers)
    );
    let medias = caller["medias"].as_array().unwrap();
    let index: Vec<_> = medias.iter().map(|media| media["index"].as_u64()).collect();
    assert_eq!(index, [Some(1), Some(2)]);
    for media in medias {
        assert_eq!(media["streams"][0]["stats"]["packets"], 10);
    }
    assert_eq!(query["totals"]["RTP"]["packets"], 20);
    assert_eq!(query["tags"]["c"]["metadata"], "2");
    assert_eq!(query["tags"]["c"]["via-branch"], "2");
    let one = world.ng(json!({"command": "query", "call-id": "call", "to-tag": "b"}));
    assert_eq!(one["tags"]["a"]["medias"].as_array().unwrap().len(), 1);
    assert!(one["tags"]["c"].is_null());
}

/// Who asks for none gets the default of the local address, now or later.
#[test]
fn a_tos_is_the_calls_dscp() {
    let (world, plane) = World::running(8);
    let dscps = || {
        plane.with(|table| {
            let live: Vec<u32> = table.live().collect();
            live.into_iter()
                .map(|number| table.slot(number).dscp)
                .collect::<Vec<u8>>()
        })
    };
    assert_eq!(world.offer("call", 4000)["result"], "ok");
    assert_eq!(dscps(), [Dscp::Default.to_u8(); 4]);
    let asked = json!({"command": "answer", "call-id": "call", "from-tag": "a", "to-tag": "b",
        "sdp": sdp("10.0.0.2", 5000), "TOS": 184});
    assert_eq!(world.ng(asked)["result"], "ok");
    assert_eq!(dscps(), [Dscp::Set(46).to_u8(); 4]);
    assert_eq!(world.offer("call", 4000)["result"], "ok");
    assert_eq!(dscps(), [Dscp::Default.to_u8(); 4]);
}

#[test]
fn the_same_offer_under_a_new_cookie_changes_nothing() {
    let (world, plane) = World::running(8);
    let first = world.offer("call", 4000);
    let commands = plane.commands();
    assert_eq!(world.offer("call", 4000), first);
    assert_eq!(plane.commands(), commands);
}

#[test]
fn commands_out_of_order() {
    let (world, plane) = World::running(8);
    assert_eq!(reason(&world.answer("call", 5000)), "Unknown call-id");
    assert_eq!(
        reason(&world.ng(json!({"command": "query", "call-id": "call"}))),
        "Unknown call-id"
    );
    let gone = world.delete("call");
    assert_eq!(gone["result"], "ok");
    assert_eq!(gone["warning"], "Call-ID not found or tags didn't match");
    let fatal = world
        .ng(json!({"command": "delete", "call-id": "call", "from-tag": "a", "flags": ["fatal"]}));
    assert_eq!(reason(&fatal), "Call-ID not found or tags didn't match");
    assert_eq!(
        reason(&world.ng(json!({"command": "reboot"}))),
        "Unrecognized command"
    );
    assert_eq!(
        reason(&world.ng(json!({"command": "offer", "call-id": "c", "from-tag": "a"}))),
        "No SDP body in message"
    );
    world.offer("call", 4000);
    let stranger = world.ng(json!({"command": "answer", "call-id": "call", "from-tag": "x", "to-tag": "b", "sdp": sdp("10.0.0.2", 5000)}));
    assert_eq!(reason(&stranger), "From-tag not found");
    // Requests of one call are carried out in the order they came, without waiting for answers.
    let send = |text: String| world.client.send_to(text.as_bytes(), world.ng).unwrap();
    for n in 0..20 {
        let offer = json!({"command": "offer", "call-id": "fast", "from-tag": "a", "sdp": sdp("10.0.0.1", 4000 + n)});
        send(format!("o{n} {offer}"));
        send(format!(
            "d{n} {}",
            json!({"command": "delete", "call-id": "fast", "from-tag": "a"})
        ));
    }
    let mut buffer = vec![0; 65_536];
    for _ in 0..40 {
        let len = world.client.recv(&mut buffer).unwrap();
        let text = String::from_utf8_lossy(&buffer[..len]);
        let reply: serde_json::Value =
            serde_json::from_str(text.split_once(' ').unwrap().1).unwrap();
        let exhausted = reply["error-reason"] == "Ran out of ports";
        let nothing = !reply["warning"].is_null();
        assert!(reply["result"] == "ok" || exhausted, "{reply}");
        assert!(!nothing || text.starts_with('d'));
    }
    assert_eq!(world.list(), ["call"]);
    assert_eq!(plane.streams().len(), 4);
}

#[test]
fn bodies_that_cannot_be_relayed() {
    let (world, plane) = World::running(8);
    let offer = |sdp: &str| {
        world.ng(json!({"command": "offer", "call-id": "c", "from-tag": "a", "sdp": sdp}))
    };
    let good = sdp("10.0.0.1", 4000);
    for (body, want) in [
        (
            "v=0\r\no=- 1 1 IN IP4 10.0.0.1\r\ns=-\r\nt=0 0\r\n".to_owned(),
            "Error rewriting SDP: no m=",
        ),
        (
            good.clone() + &"m=audio 4002 RTP/AVP 8\r\n".repeat(99),
            "Failed to parse SDP: 100 media sections",
        ),
        (sdp("phone.example.com", 4000), "Failed to parse SDP: "),
        ("hello".to_owned(), "Failed to parse SDP: "),
        ("\0".repeat(1000), "Failed to parse SDP: "),
    ] {
        let reply = offer(&body);
        assert!(reason(&reply).starts_with(want), "{reply}");
    }
    // The two lines that make sdp-rs panic are nothing to us.
    let reply = offer(&(good + "z=0 99999999999999999\r\nr=99999999999999999999d\r\n"));
    assert_eq!(reply["result"], "ok", "{reply}");
    assert_eq!(plane.streams().len(), 4);
    let savp = sdp("10.0.0.1", 4000).replace("RTP/AVP", "RTP/SAVP");
    let reply = world.ng(json!({"command": "offer", "call-id": "d", "from-tag": "a", "sdp": savp, "transport-protocol": "RTP/AVP"}));
    assert!(
        reason(&reply).starts_with("Cannot convert RTP/SAVP to RTP/AVP"),
        "{reply}"
    );
}

#[test]
fn ports_run_out_and_come_back() {
    let (world, plane) = World::running(4);
    assert_eq!(world.offer("one", 4000)["result"], "ok");
    assert_eq!(world.offer("two", 4000)["result"], "ok");
    assert_eq!(reason(&world.offer("three", 4000)), "Ran out of ports");
    assert_eq!(
        world.stats()["ports"]["default"],
        json!({"used": 4, "all": 4})
    );
    assert_eq!(world.delete("one")["result"], "ok");
    assert_eq!(world.delete("two")["result"], "ok");
    assert!(plane.streams().is_empty());
    // They rest before they are given out again.
    assert_eq!(reason(&world.offer("three", 4000)), "Ran out of ports");
    let two = sdp("10.0.0.1", 4000) + "m=audio 4002 RTP/AVP 8\r\nm=audio 4004 RTP/AVP 8\r\n";
    let large = json!({"command": "offer", "call-id": "large", "from-tag": "a", "sdp": two});
    world.until("the rest is over", || {
        world.offer("three", 4000)["result"] == "ok"
    });
    assert_eq!(reason(&world.ng(large)), "Ran out of ports");
    assert_eq!(world.stats()["ports"]["default"]["used"], 2);
    assert_eq!(world.list(), ["three"]);
}

#[test]
fn garbage_costs_nothing() {
    let (world, _plane) = World::running(8);
    let mut state = 1_u64;
    let mut random = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 33) as u8
    };
    let log = world.log_text().len();
    let flood = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    for n in 0..3000_usize {
        let mut bytes: Vec<u8> = (0..n % 1400).map(|_| random()).collect();
        match n % 5 {
            0 => bytes.splice(0..0, *b"cookie ").for_each(drop),
            1 => bytes.splice(0..0, *b"cookie d3:").for_each(drop),
            2 => bytes.splice(0..0, *b"cookie {\"").for_each(drop),
            _ => {}
        }
        flood.send_to(&bytes, world.ng).unwrap();
    }
    flood.send_to(&[b'x'; 65_507], world.ng).unwrap();
    flood
        .send_to(&[b"c ".as_slice(), &[b'l'; 60_000]].concat(), world.ng)
        .unwrap();
    flood
        .send_to(
            &[b"c ".as_slice(), &b"d1:a".repeat(10_000)].concat(),
            world.ng,
        )
        .unwrap();
    flood
        .send_to(b"c d7:command99999999999:pinge", world.ng)
        .unwrap();
    assert_eq!(world.offer("call", 4000)["result"], "ok");
    let errors = &world.stats()["errors"];
    assert!(
        errors["no-cookie"].as_u64() > Some(0) && errors["undecodable"].as_u64() > Some(0),
        "{errors}"
    );
    assert_eq!(world.log_text().len(), log, "nothing is logged per packet");
}

#[test]
fn a_reply_too_large_for_a_datagram_is_said_to_be() {
    let (world, plane) = World::running(200);
    let large = sdp("10.0.0.1", 4000) + &"m=audio 4002 RTP/AVP 8\r\n".repeat(63);
    let offer =
        |body: &str| json!({"command": "offer", "call-id": "large", "from-tag": "a", "sdp": body});
    let reply = world.ng(offer(&large));
    assert_eq!(reply["result"], "ok", "{reply}");
    assert_eq!(plane.streams().len(), 256);
    let answer = json!({"command": "answer", "call-id": "large", "from-tag": "a", "to-tag": "b", "sdp": large});
    assert_eq!(world.ng(answer)["result"], "ok");
    assert!(
        reason(&world.ng(json!({"command": "query", "call-id": "large"}))).contains("too large")
    );
    let reply = world.delete("large");
    assert_eq!(reply["result"], "ok");
    assert!(reply["warning"].as_str().unwrap().contains("too large"));
    assert!(plane.streams().is_empty());
}

#[test]
fn a_retransmission_of_what_is_under_way_gets_one_answer() {
    let (world, plane) = World::running(8);
    plane.hang(true);
    let sdp = sdp("10.0.0.1", 4000);
    let offer = json!({"command": "offer", "call-id": "call", "from-tag": "a", "sdp": sdp});
    let datagram = format!("same {offer}");
    for _ in 0..3 {
        world.client.send_to(datagram.as_bytes(), world.ng).unwrap();
    }
    // Other calls and commands go on meanwhile.
    assert_eq!(world.ng(json!({"command": "ping"}))["result"], "pong");
    plane.hang(false);
    let mut buffer = vec![0; 65_536];
    let len = world.client.recv(&mut buffer).unwrap();
    assert!(buffer[..len].starts_with(b"same {"));
    assert_eq!(world.ng(json!({"command": "ping"}))["result"], "pong");
    assert_eq!(world.stats()["requests"]["retransmission-in-flight"], 2);
    assert_eq!(world.list(), ["call"]);
}

#[test]
fn the_socket_answers_what_it_knows() {
    let (world, _plane) = World::running(8);
    world.offer("call", 4000);
    let calls = world.socket(r#"{"get":"calls"}"#);
    assert_eq!(calls["ok"][0]["tags"], json!(["a", null]));
    let call = world.socket(r#"{"get":"call","id":"call"}"#);
    assert_eq!(
        call["ok"]["call"]["dialogs"][0]["medias"][0]["name"],
        "audio"
    );
    assert!(world.socket(r#"{"get":"call","id":"x"}"#)["error"].is_string());
    for bad in ["", "x", "{}", r#"{"get":"moon"}"#, &"x".repeat(10_000)] {
        assert!(world.socket(bad)["error"].is_string(), "{bad}");
    }
    let socket = std::fs::metadata(world.dir.path().join("control.sock")).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::mode(&socket.permissions());
    assert_eq!(mode & 0o777, 0o660);
}
