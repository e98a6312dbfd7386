//! ng over every transport, in both encodings, and what else HTTP and WebSocket answer.

use crate::common::doors::*;
use crate::common::*;
use serde_json::{Value, json};
use std::io::Write;
use std::net::{Shutdown, SocketAddr};

/// A call from offer to delete, through whatever carries a request.
fn a_call(world: &World, plane: &TestPlane, name: &str, ask: &mut dyn FnMut(&Value) -> Value) {
    assert_eq!(ask(&json!({"command": "ping"}))["result"], "pong", "{name}");
    let parties = |command: &str, more: Value| {
        let mut request = json!({"command": command, "call-id": name, "from-tag": "a"});
        let object = request.as_object_mut().unwrap();
        object.extend(more.as_object().unwrap().clone());
        request
    };
    let offer = ask(&parties("offer", json!({"sdp": sdp("10.0.0.1", 4000)})));
    assert_eq!(offer["result"], "ok", "{name}: {offer}");
    let answer = parties(
        "answer",
        json!({"to-tag": "b", "sdp": sdp("10.0.0.2", 5000)}),
    );
    let answer = ask(&answer);
    let streams = plane.streams();
    assert_eq!(
        streams[&port_of(&answer)],
        Some("10.0.0.1:4000".parse().unwrap())
    );
    assert_eq!(
        streams[&port_of(&offer)],
        Some("10.0.0.2:5000".parse().unwrap())
    );
    plane.feed(port_of(&offer), 7);
    let query = ask(&json!({"command": "query", "call-id": name}));
    assert_eq!(query["totals"]["RTP"]["packets"], 7, "{name}: {query}");
    let wrong = ask(&json!({"command": "query", "call-id": "nobody's"}));
    assert_eq!(reason(&wrong), "Unknown call-id");
    assert_eq!(
        ask(&parties("delete", json!({"to-tag": "b"})))["result"],
        "ok"
    );
    assert!(plane.streams().is_empty());
    assert_eq!(world.list(), Vec::<String>::new());
}

/// Puts a cookie before a request, and takes it off the reply.
fn with_cookie(
    world: &World,
    encoding: Encoding,
    request: &Value,
    carry: impl FnOnce(&[u8]) -> Vec<u8>,
) -> Value {
    let cookie = world.cookie();
    let reply = carry(&[cookie.as_bytes(), b" ", &encoding.write(request)].concat());
    let dict = &reply[cookie.len() + 1..];
    assert_eq!(dict[0] == b'{', encoding == Encoding::Json);
    let (echoed, reply) = read(&reply);
    assert_eq!(echoed, cookie);
    reply
}

fn without_cookie(encoding: Encoding, reply: &[u8]) -> Value {
    assert_eq!(reply[0] == b'{', encoding == Encoding::Json);
    read(&[b"x ", reply].concat()).1
}

#[test]
fn a_call_over_each_transport_in_both_encodings() {
    let mut world = World::new(64);
    let (tcp, http) = open_doors(&world);
    let plane = world.plane();
    world.start();
    world.wait_state("online");
    const NG: &str = "application/x-rtpengine-ng";
    for encoding in [Encoding::Bencode, Encoding::Json] {
        let is_text = encoding == Encoding::Json;
        a_call(&world, &plane, "udp", &mut |request| {
            with_cookie(&world, encoding, request, |bytes| world.raw(bytes))
        });
        let mut page = Http::new(connect(http));
        a_call(&world, &plane, "http", &mut |request| {
            with_cookie(&world, encoding, request, |bytes| {
                let reply = page.post("/ng", NG, bytes);
                assert!(reply.head.contains(&format!("content-type: {NG}\r\n")));
                reply.body
            })
        });
        let kind = if is_text { "application/json" } else { NG };
        a_call(&world, &plane, "http-plain", &mut |request| {
            let reply = page.post("/ng-plain", kind, &encoding.write(request));
            assert!(reply.head.contains(&format!("content-type: {kind}\r\n")));
            without_cookie(encoding, &reply.body)
        });
        let mut socket = Socket::open(http, "/any/path", "ng.rtpengine.com").unwrap();
        a_call(&world, &plane, "ws", &mut |request| {
            with_cookie(&world, encoding, request, |bytes| {
                socket.send(is_text, bytes);
                let (replied_text, reply) = socket.read().unwrap();
                assert!(!replied_text);
                reply
            })
        });
        let mut socket = Socket::open(http, "/", "ng-plain.rtpengine.com").unwrap();
        a_call(&world, &plane, "ws-plain", &mut |request| {
            socket.send(is_text, &encoding.write(request));
            without_cookie(encoding, &socket.read().unwrap().1)
        });
    }
    let mut stream = connect(tcp);
    a_call(&world, &plane, "tcp", &mut |request| {
        with_cookie(&world, Encoding::Bencode, request, |bytes| {
            stream.write_all(bytes).unwrap();
            messages(&mut stream, 1).remove(0)
        })
    });
    let transports = &world.stats()["transports"];
    assert_eq!(transports["tcp"]["requests"], 6, "{transports}");
    assert_eq!(transports["http"]["requests"], 24);
    assert_eq!(transports["websocket"]["requests"], 24);
    assert_eq!(transports["websocket"]["connections"], 4);
    let status = String::from_utf8(world.cli(&["status"]).stdout).unwrap();
    assert!(status.contains("tcp: 6 requests\n"), "{status}");
}

fn tcp_world() -> (World, TestPlane, SocketAddr, SocketAddr) {
    let mut world = World::new(512);
    let (tcp, http) = open_doors(&world);
    let plane = world.plane();
    world.start();
    world.wait_state("online");
    (world, plane, tcp, http)
}

#[test]
fn tcp_is_a_stream_of_messages() {
    let (world, _plane, tcp, _) = tcp_world();
    let mut stream = connect(tcp);
    // Back to back, and byte by byte.
    let many: Vec<u8> = (0..1000)
        .flat_map(|n| format!("c{n} d7:command4:pinge").into_bytes())
        .collect();
    stream.write_all(&many).unwrap();
    let replies = messages(&mut stream, 1000);
    let mut cookies: Vec<String> = replies.iter().map(|reply| read(reply).0).collect();
    cookies.sort();
    cookies.dedup();
    assert_eq!(cookies.len(), 1000);
    for byte in b"slow d7:command4:pinge" {
        stream.write_all(&[*byte]).unwrap();
    }
    assert_eq!(messages(&mut stream, 1), [b"slow d6:result4:ponge"]);
    // A retransmission is one of this connection alone.
    let before = world.stats()["requests"]["ping"].as_u64().unwrap();
    stream.write_all(b"slow d7:command4:pinge").unwrap();
    assert_eq!(messages(&mut stream, 1), [b"slow d6:result4:ponge"]);
    assert_eq!(world.stats()["requests"]["ping"], before);
    assert_eq!(world.stats()["requests"]["retransmission"], 1);
    let mut other = connect(tcp);
    other.write_all(b"slow d7:command4:pinge").unwrap();
    messages(&mut other, 1);
    assert_eq!(world.stats()["requests"]["ping"], before + 1);
    // Who has no more questions still gets the answers.
    other
        .write_all(b"x d7:command4:pingey d7:command4:pinge")
        .unwrap();
    other.shutdown(Shutdown::Write).unwrap();
    assert_eq!(messages(&mut other, 2).len(), 2);
    assert!(is_closed(&mut other));
    // What is no message closes the connection, and no other.
    let json = json!({"command": "ping"}).to_string();
    let garbage = [
        b"c x".to_vec(),
        vec![b'x'; 4096],
        vec![0; 300],
        format!("c {json}").into_bytes(),
        b"c d7:command99999999:".to_vec(),
        [b"c ".as_slice(), &b"d1:a".repeat(10_000)].concat(),
    ];
    for bytes in &garbage {
        let mut bad = connect(tcp);
        bad.write_all(bytes).unwrap();
        assert!(is_closed(&mut bad), "{}", String::from_utf8_lossy(bytes));
    }
    assert_eq!(world.stats()["transports"]["tcp"]["garbage"], garbage.len());
    stream.write_all(b"z d7:command4:pinge").unwrap();
    assert_eq!(messages(&mut stream, 1), [b"z d6:result4:ponge"]);
}

#[test]
fn one_connection_has_so_many_requests_under_way_and_no_more() {
    let (world, plane, tcp, _) = tcp_world();
    let mut stream = connect(tcp);
    plane.hang(true);
    for n in 0..100 {
        let offer = json!({"command": "offer", "call-id": format!("call-{n}"), "from-tag": "a", "sdp": sdp("10.0.0.1", 4000)});
        let bytes = [
            format!("o{n} ").as_bytes(),
            &Encoding::Bencode.write(&offer),
        ]
        .concat();
        stream.write_all(&bytes).unwrap();
    }
    world.until("the connection's share is under way", || {
        world.stats()["requests"]["offer"] == 64
    });
    assert_eq!(world.ng(json!({"command": "ping"}))["result"], "pong");
    assert_eq!(world.stats()["requests"]["offer"], 64);
    plane.hang(false);
    for reply in messages(&mut stream, 100) {
        assert_eq!(read(&reply).1["result"], "ok");
    }
    assert_eq!(world.stats()["requests"]["offer"], 100);
}

#[test]
fn who_does_not_read_or_does_not_finish_is_cut_off() {
    let (world, _plane, tcp, http) = tcp_world();
    let large = sdp("10.0.0.1", 4000) + &"m=audio 4002 RTP/AVP 8\r\n".repeat(63);
    let offer = json!({"command": "offer", "call-id": "large", "from-tag": "a", "sdp": large});
    assert_eq!(world.ng(offer)["result"], "ok");
    let mut deaf = connect(tcp);
    let query = Encoding::Bencode.write(&json!({"command": "query", "call-id": "large"}));
    for n in 0..500 {
        let bytes = [format!("q{n} ").as_bytes(), &query].concat();
        deaf.write_all(&bytes).unwrap();
    }
    let mut slow = [connect(tcp), connect(http), connect(http), connect(http)];
    slow[0].write_all(b"c d7:comm").unwrap();
    slow[1].write_all(b"GET /ping HTTP/1.1\r\nHo").unwrap();
    slow[2]
        .write_all(b"POST /ng HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/x-rtpengine-ng\r\nContent-Length: 100\r\n\r\nc d")
        .unwrap();
    // An answer to one question is no reason to keep a connection for ever.
    slow[3]
        .write_all(b"GET /ping HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        .unwrap();
    // One that asks and never reads, until neither side's buffers hold any more.
    let mut unread = connect(http);
    let get = b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".repeat(2000);
    unread.write_all(&get).unwrap();
    world.until("who does not read is cut off over HTTP", || {
        world.stats()["transports"]["http"]["idle"] == 1
    });
    world.until("both are cut off", || {
        assert_eq!(world.ng(json!({"command": "ping"}))["result"], "pong");
        world.stats()["transports"]["tcp"]["idle"] == 2
    });
    let queries = world.stats()["requests"]["query"].as_u64().unwrap();
    assert!(queries < 500, "{queries}: nobody had to wait for room");
    assert!(slow.iter_mut().all(is_closed));
}

#[test]
fn http_says_what_is_wrong() {
    let (world, _plane, _, http) = tcp_world();
    world.offer("call", 4000);
    let mut page = Http::new(connect(http));
    let ping = page.get("/ping");
    assert_eq!((ping.status, ping.text().as_str()), (200, "pong\n"));
    let ng = "application/x-rtpengine-ng";
    let large = vec![b'x'; penstock_ng::MAX_MESSAGE + 1];
    for (path, kind, body, want) in [
        ("/ng", "text/plain", b"c d7:command4:pinge".as_slice(), 415),
        ("/ng-plain", "text/plain", b"d7:command4:pinge", 415),
        ("/ng", ng, b"nocookie", 400),
        ("/nowhere", ng, b"x", 404),
        ("/cli", ng, b"list", 415),
        (
            "/ng",
            "application/x-rtpengine-ng; charset=x",
            b"c d7:command4:pinge",
            200,
        ),
    ] {
        let reply = page.post(path, kind, body);
        assert_eq!(reply.status, want, "{path} {kind}: {}", reply.text());
    }
    assert_eq!(Http::new(connect(http)).post("/ng", ng, &large).status, 413);
    assert_eq!(page.get("/nowhere").status, 404);
    // What cannot be decoded is answered as over UDP.
    assert!(
        page.post("/ng", ng, b"c d1:a")
            .text()
            .starts_with("c d6:result5:error")
    );
    assert!(
        page.post("/ng-plain", ng, b"")
            .text()
            .starts_with("d6:result5:error")
    );
    // A page in a browser cannot leave these out.
    for (mark, want) in [
        (("Origin", "http://evil.example"), 403),
        (("Origin", "http://localhost"), 403),
        (("Sec-Fetch-Site", "cross-site"), 403),
        (("Sec-Fetch-Site", "none"), 200),
    ] {
        page.send("GET /ping", &[mark], b"");
        assert_eq!(page.read().status, want, "{mark:?}");
    }
    // The text commands.
    assert_eq!(
        page.get("/cli/list+no%20such").text(),
        "Unknown or incomplete command::no such\n"
    );
    assert_eq!(
        page.post("/cli", "text/plain", b"no such\n").text(),
        "Unknown or incomplete command::no such\n"
    );
}

/// A page's GET over HTTP says nothing of the page: an image's, or one to a name that was made to lead here.
#[test]
fn a_get_changes_nothing_and_is_asked_by_address() {
    let (world, _plane, _, http) = tcp_world();
    assert_eq!(world.offer("call", 4000)["result"], "ok");
    let mut page = Http::new(connect(http));
    for path in [
        "terminate+all",
        "%20terminate+all",
        "set+maxsessions+1",
        "params+revert",
    ] {
        assert_eq!(page.get(&format!("/cli/{path}")).status, 405, "{path}");
    }
    assert_eq!(world.list(), ["call"]);
    assert!(
        page.get("/cli/list+numsessions")
            .text()
            .contains("own: 1\n")
    );
    for path in ["/ping", "/metrics", "/cli/list+numsessions"] {
        for (host, want) in [
            ("evil.example", 403),
            ("localhost:1", 200),
            ("[::1]:1", 200),
        ] {
            page.send_to(host, &format!("GET {path}"), &[], b"");
            assert_eq!(page.read().status, want, "{path} {host}");
        }
    }
    let kind = [("Content-Type", "text/plain")];
    page.send_to("evil.example", "POST /cli", &kind, b"terminate all");
    assert_eq!(page.read().status, 403);
    assert_eq!(world.list(), ["call"]);
    let mut page = Http::new(connect(http));
    page.post("/cli", "text/plain", b"terminate all");
    world.until("it ends", || world.list().is_empty());
}

#[test]
fn prometheus_reads_what_is_counted() {
    let (world, plane, _, http) = tcp_world();
    assert_eq!(world.offer("call", 4000)["result"], "ok");
    world.delete("nobody's");
    world.ng(json!({"command": "query", "call-id": "x"}));
    let page = Http::new(connect(http)).get("/metrics");
    assert_eq!(page.status, 200);
    let text = page.text();
    for line in [
        "penstock_calls 1",
        "penstock_draining 0",
        "penstock_plane_online 1",
        "penstock_requests_total{command=\"offer\"} 1",
        "penstock_errors_total{reason=\"unknown-call\"} 1",
        "penstock_transport_total{transport=\"http\",event=\"requests\"} 1",
        "penstock_port_pairs{interface=\"default\",state=\"used\"} 2",
        "penstock_port_pairs{interface=\"default\",state=\"all\"} 512",
        "penstock_streams{state=\"live\"} 4",
        "penstock_drops_total{reason=\"ip-checksum\"} 0",
        "penstock_packets_total{what=\"forwarded\"} 0",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
    // Each line is of a metric that is declared above it, once.
    let mut declared: Vec<&str> = Vec::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let name = rest.split(' ').next().unwrap();
            assert!(!declared.contains(&name), "{name}");
            declared.push(name);
        } else if !line.starts_with('#') {
            let name = line.split(['{', ' ']).next().unwrap();
            assert_eq!(declared.last(), Some(&name), "{line}");
            let value = line.rsplit(' ').next().unwrap();
            assert!(value.parse::<f64>().is_ok(), "{line}");
        }
    }
    drop(plane);
}

#[test]
fn a_websocket_speaks_what_it_asked_for() {
    let (world, _plane, _, http) = tcp_world();
    let mut echo = Socket::open(http, "/", "echo.rtpengine.com").unwrap();
    for len in [0, 1, 200, 70_000] {
        let bytes = vec![b'e'; len];
        echo.send(len % 2 == 0, &bytes);
        assert_eq!(echo.read(), Some((false, bytes)));
    }
    let mut cli = Socket::open(http, "/ng", "cli.rtpengine.com").unwrap();
    cli.send(true, b"no such");
    assert_eq!(
        cli.read(),
        Some((false, b"Unknown or incomplete command::no such\n".to_vec()))
    );
    for other in ["janus-protocol", "", "xmpp"] {
        let page = Socket::open(http, "/", other).err().unwrap();
        assert_eq!(page.status, 400, "{other}");
        assert!(page.text().contains("ng-plain.rtpengine.com"));
    }
    // Too long a message ends the connection; others go on.
    echo.send(false, &vec![0; penstock_ng::MAX_MESSAGE + 1]);
    assert_eq!(echo.read(), None);
    world.until("it is counted", || {
        world.stats()["transports"]["websocket"]["garbage"] == 1
    });
    cli.send(false, b"no such");
    assert_eq!(
        cli.read(),
        Some((false, b"Unknown or incomplete command::no such\n".to_vec()))
    );
}

#[test]
fn a_reply_leaves_from_the_address_that_was_asked() {
    let mut world = World::new(8);
    let others: Vec<SocketAddr> = ["127.0.0.2:0", "[::1]:0"]
        .iter()
        .filter_map(|at| Some(std::net::UdpSocket::bind(at).ok()?.local_addr().unwrap()))
        .collect();
    let list: Vec<_> = others.iter().map(|at| format!("\"{at}\"")).collect();
    let one = format!("ng = \"{}\"", world.ng);
    let all = format!("ng = [\"{}\", {}]", world.ng, list.join(", "));
    world.edit(&one, &all);
    let _plane = world.plane();
    world.start();
    for at in others {
        // A connected socket takes datagrams of this address alone.
        let from = if at.is_ipv4() {
            "127.0.0.1:0"
        } else {
            "[::1]:0"
        };
        let client = datagrams(from, at);
        client.send(b"c d7:command4:pinge").unwrap();
        let mut reply = [0; 100];
        let len = client.recv(&mut reply).unwrap();
        assert_eq!(&reply[..len], b"c d6:result4:ponge", "{at}");
    }
}
