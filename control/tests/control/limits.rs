//! Strangers: who may ask, how often, and how much they can make us keep.

use crate::common::doors::*;
use crate::common::*;
use rustix::process::Signal;
use serde_json::{Value, json};
use std::io::Write;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

const PING: &[u8] = b"c d7:command4:pinge";

fn world(keys: &str) -> (World, TestPlane, SocketAddr, SocketAddr) {
    let mut world = World::new(512);
    let (tcp, http) = open_doors(&world);
    world.edit("[control]", &format!("[control]\n{keys}"));
    let plane = world.plane();
    world.start();
    world.wait_state("online");
    (world, plane, tcp, http)
}

fn counted(world: &World, transport: &str, event: &str) -> u64 {
    world.stats()["transports"][transport][event]
        .as_u64()
        .unwrap()
}

#[test]
fn only_who_is_listed_may_ask() {
    let (world, _plane, tcp, http) = world("allow = [\"127.0.0.1/32\"]");
    let stranger = datagrams("127.0.0.2:0", world.ng);
    stranger.send(PING).unwrap();
    world.until("the datagram is dropped", || {
        counted(&world, "udp", "denied") == 1
    });
    assert!(is_closed(&mut connect_from("127.0.0.2", tcp)));
    assert!(is_closed(&mut connect_from("127.0.0.2", http)));
    assert_eq!(counted(&world, "tcp", "denied"), 1);
    assert_eq!(counted(&world, "http", "denied"), 1);
    assert_eq!(world.ng(json!({"command": "ping"}))["result"], "pong");

    // The list is read again, and then holds for what is open as well.
    world.edit("127.0.0.1/32", "127.0.0.0/30");
    world.signal(Signal::HUP);
    world.until("the stranger is none", || {
        stranger
            .set_read_timeout(Some(Duration::from_millis(100)))
            .unwrap();
        stranger.send(PING).unwrap();
        stranger.recv(&mut [0; 100]).is_ok()
    });
    let mut stream = connect_from("127.0.0.2", tcp);
    stream.write_all(PING).unwrap();
    messages(&mut stream, 1);
    let mut page = Http::new(connect_from("127.0.0.2", http));
    assert_eq!(page.get("/ping").status, 200);
    world.edit("127.0.0.0/30", "127.0.0.1/32");
    world.socket(r#"{"do":"reload"}"#);
    stream.write_all(PING).unwrap();
    assert!(is_closed(&mut stream));
    assert_eq!(page.get("/ping").status, 403);
}

#[test]
fn an_address_that_is_not_loopback_demands_the_list() {
    for key in ["ng", "ng_tcp", "http"] {
        let world = World::new(8);
        let line = format!("[control]\n{key} = \"192.0.2.1:2223\"");
        match key {
            "ng" => world.edit(&format!("ng = \"{}\"", world.ng), "ng = \"192.0.2.1:2223\""),
            _ => world.edit("[control]", &line),
        }
        let want = format!("[control] {key} 192.0.2.1:2223 is not a loopback address");
        for output in [world.second(), world.cli(&["check"])] {
            let text = String::from_utf8_lossy(&output.stderr).into_owned()
                + &String::from_utf8_lossy(&output.stdout);
            assert!(!output.status.success() && text.contains(&want), "{text}");
            assert!(text.contains("allow = [\"192.0.2.0/24\"]"), "{text}");
        }
        // With it, nothing is wrong but that the address is nobody's here.
        world.edit("[control]", "[control]\nallow = [\"192.0.2.0/24\"]");
        assert!(world.cli(&["check"]).status.success());
        let text = String::from_utf8(world.second().stderr).unwrap();
        assert!(
            text.contains(&format!("cannot bind [control] {key}")),
            "{text}"
        );
    }
}

#[test]
fn a_source_that_asks_too_often_harms_itself_alone() {
    let (world, _plane, tcp, http) = world("requests_per_s = 50");
    let flood = datagrams("127.0.0.2:0", world.ng);
    let start = Instant::now();
    let mut sent = 0;
    world.until("two thousand have come", || {
        // Some at a time: what the kernel has no room for is not counted.
        for n in sent..sent + 100 {
            let ping = format!("c{n} d7:command4:pinge");
            flood.send(ping.as_bytes()).unwrap();
        }
        sent += 100;
        counted(&world, "udp", "limited") >= 2000
    });
    assert_eq!(world.ng(json!({"command": "ping"}))["result"], "pong");
    let allowance = 50 + (start.elapsed().as_secs_f64() * 50.0) as usize;
    flood
        .set_read_timeout(Some(Duration::from_secs(1)))
        .unwrap();
    let answered = std::iter::repeat_with(|| flood.recv(&mut [0; 100]))
        .take_while(Result::is_ok)
        .count();
    assert!((50..=allowance + 1).contains(&answered), "{answered}");

    // Over a connection nothing is lost, but it takes its time.
    let mut stream = connect_from("127.0.0.3", tcp);
    let start = Instant::now();
    for n in 0..80 {
        let ping = format!("c{n} d7:command4:pinge");
        stream.write_all(ping.as_bytes()).unwrap();
    }
    messages(&mut stream, 80);
    assert!(start.elapsed() > Duration::from_millis(500));
    assert!(counted(&world, "tcp", "limited") > 0);
    let mut page = Http::new(connect_from("127.0.0.4", http));
    world.until("HTTP says no", || page.get("/ping").status == 429);
    assert!(counted(&world, "http", "limited") > 0);
    assert_eq!(world.stats()["remembered"]["sources"], 4);
    let status = String::from_utf8(world.cli(&["status"]).stdout).unwrap();
    assert!(status.contains(" limited"), "{status}");
}

#[test]
fn connections_are_so_many_and_no_more() {
    let (world, _plane, tcp, http) = world("allow = [\"127.0.0.0/8\"]");
    for (at, transport) in [(tcp, "tcp"), (http, "http")] {
        // Each source has as many as it leaves free, so there is one for whoever comes next.
        let mut open = Vec::new();
        for (source, share) in (1..).zip([128, 64, 32, 16, 8, 4, 2, 1]) {
            let source = format!("127.0.0.{source}");
            open.extend((0..share).map(|_| connect_from(&source, at)));
            assert!(is_closed(&mut connect_from(&source, at)));
        }
        let mut last = connect_from("127.0.0.9", at);
        if at == tcp {
            last.write_all(PING).unwrap();
            messages(&mut last, 1);
        }
        open.push(last);
        assert!(is_closed(&mut connect_from("127.0.0.10", at)));
        assert_eq!(counted(&world, transport, "refused"), 9);
        assert_eq!(counted(&world, transport, "connections"), 256);
        drop(open);
        world.until("there is room again", || {
            let mut page = connect(at);
            page.set_read_timeout(Some(Duration::from_millis(50)))
                .unwrap();
            let mut is_open = || !is_closed(&mut page);
            is_open()
        });
    }
}

/// Sends as a client does: again when no answer comes in time. Returns how long it took.
fn served(world: &World, request: &Value) -> (Value, Duration) {
    let start = Instant::now();
    let client = datagrams("127.0.0.1:0", world.ng);
    client
        .set_read_timeout(Some(Duration::from_millis(250)))
        .unwrap();
    let message = format!("s {request}");
    let mut buffer = vec![0; 65_536];
    loop {
        client.send(message.as_bytes()).unwrap();
        if let Ok(len) = client.recv(&mut buffer) {
            return (read(&buffer[..len]).1, start.elapsed());
        }
        assert!(start.elapsed() < PATIENCE);
    }
}

fn resident_mib(world: &World) -> u64 {
    let pid = &world.stats()["pid"];
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .unwrap();
    line.split_whitespace()
        .nth(1)
        .unwrap()
        .parse::<u64>()
        .unwrap()
        / 1024
}

/// Cookies that nobody has seen, and offers that nobody will answer, more of each than there is room for.
#[test]
fn a_flood_fills_tables_to_their_bounds_and_a_call_goes_on() {
    let (world, plane, tcp, _) = world("max_calls = 50");
    assert_eq!(world.offer("stands", 4000)["result"], "ok");
    assert_eq!(world.answer("stands", 5000)["result"], "ok");
    let before = resident_mib(&world);
    // Over TCP, so that each is taken in; while it pours, the call is looked after over UDP.
    let flood = std::thread::spawn(move || {
        let mut stream = connect(tcp);
        let mut reading = stream.try_clone().unwrap();
        let count = 140_000;
        let reader = std::thread::spawn(move || {
            let replies = messages(&mut reading, count);
            let limit = b"Parallel session limit reached";
            let is_limit = |reply: &&Vec<u8>| reply.windows(limit.len()).any(|w| w == limit);
            replies.iter().filter(is_limit).count()
        });
        for n in 0..count {
            let ping = json!({"command": "ping"});
            let offer = json!({"command": "offer", "call-id": format!("flood-{n}"), "from-tag": "a", "sdp": sdp("10.0.0.1", 4000)});
            let request = if n % 100 == 0 { offer } else { ping };
            let cookie = format!("{n:08} ");
            let bytes = [cookie.as_bytes(), &Encoding::Bencode.write(&request)].concat();
            stream.write_all(&bytes).unwrap();
        }
        reader.join().unwrap()
    });
    let mut times = Vec::new();
    while !flood.is_finished() {
        let sdp = sdp("10.0.0.1", 4000);
        let again = json!({"command": "offer", "call-id": "stands", "from-tag": "a", "to-tag": "b", "sdp": sdp});
        let (reply, took) = served(&world, &again);
        assert_eq!(reply["result"], "ok", "{reply}");
        times.push(took);
    }
    // 49 offers of the flood were taken, as there was room.
    assert_eq!(flood.join().unwrap(), 1400 - 49);
    times.sort();
    let (median, worst) = (times[times.len() / 2], times[times.len() - 1]);
    assert!(median < Duration::from_millis(100), "{median:?}");
    assert!(worst < Duration::from_secs(2), "{worst:?}");
    let stats = world.stats();
    assert_eq!(stats["calls"], 50);
    assert_eq!(plane.streams().len(), 200);
    let cookies = stats["remembered"]["cookies"].as_u64().unwrap() as usize;
    assert!(cookies <= 2 * penstock_ng::MAX_ENTRIES, "{cookies}");
    let grown = resident_mib(&world).saturating_sub(before);
    assert!(grown < 256, "{grown} MiB");
}

/// As much as an offer can say, again and again under one Call-ID: what is kept of it has its bounds.
#[test]
fn a_call_that_only_rings_is_no_place_to_store_things() {
    let (world, _plane, _, _) = world("");
    let head = "v=0\r\no=- 1 1 IN IP4 10.0.0.1\r\ns=-\r\nc=IN IP4 10.0.0.1\r\nt=0 0\r\n";
    let (long, longest) = ("x".repeat(50_000), "x".repeat(64));
    let (many, most) = (" 8".repeat(20_000), " 8".repeat(256));
    let attributes = format!("a=x:{}\r\n", "y".repeat(400)).repeat(100);
    for (case, line, is_taken) in [
        (0, format!("m={long} 4000 RTP/AVP 8\r\n"), false),
        (1, format!("m=audio 4000 {long} 8\r\n"), false),
        (2, format!("m=audio 4000 RTP/AVP{many}\r\n"), false),
        (3, format!("m={longest} 4000 {longest}{most}\r\n"), true),
        (4, format!("m=audio 4000 RTP/AVP{most}\r\n"), true),
        (5, format!("m=audio 4000 RTP/AVP 8\r\n{attributes}"), true),
    ] {
        let call = format!("rings-{case}");
        for tag in 0..50 {
            let offer = json!({"command": "offer", "call-id": call, "from-tag": format!("t{tag}"),
                "sdp": format!("{head}{line}")});
            let result = &world.ng(offer)["result"];
            assert!(is_taken || result == "error", "{case}: {result}");
        }
        let request = json!({"get": "call", "id": call}).to_string();
        let kept = world.socket(&request);
        assert_eq!(kept["ok"].is_object(), is_taken, "{case}");
        assert!(
            kept.to_string().len() < 64 * 1024,
            "{case}: {}",
            kept.to_string().len()
        );
    }
}
