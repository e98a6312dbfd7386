//! Keys: what a value under each does.

use super::bench::*;
use penstock_shm::record::hint;
use penstock_shm::{Dscp, Learn, TableView};
use serde_json::{Value, json};

/// Two sections.
fn video() -> String {
    caller("m=video 4002 RTP/AVP 96\r\na=rtpmap:96 VP8/90000\r\n")
}

/// Two sections that share a port.
pub fn bundled(body: &str) -> String {
    let video = "a=mid:a\r\na=rtcp-mux\r\nm=video 4002 RTP/AVP 96\r\na=rtpmap:96 VP8/90000\r\n\
                 a=mid:v\r\na=rtcp-mux\r\n";
    body.replacen("t=0 0\r\n", "t=0 0\r\na=group:BUNDLE a v\r\n", 1) + video
}

/// The address of the callee's offer, then that of the caller's answer.
fn addresses(b: &Bench, w: &Value) -> [String; 2] {
    b.call(&caller(""), &callee(""), w).map(|told| {
        let line = told.sdp().lines().find(|line| line.starts_with("c="));
        line.unwrap_or_default().to_owned()
    })
}

fn at(address: &str) -> String {
    format!("c=IN IP4 {address}")
}

/// The label of a leg.
fn label(b: &Bench, id: &str, tag: &str) -> String {
    let query = b.query(id);
    let label = query["tags"][tag]["label"].as_str();
    label.unwrap_or_default().to_owned()
}

/// Which legs' events are dropped after a block with these words.
pub fn blocked(b: &Bench, id: &str, words: &Value) -> [bool; 2] {
    b.to(id, "block DTMF", words);
    ["a", "b"].map(|tag| drops_events(&b.slot(id, tag)))
}

pub fn cases() -> Vec<Case> {
    [identifiers(), flags(), addressed(), bodies(), selected()]
        .into_iter()
        .flatten()
        .collect()
}

fn identifiers() -> Vec<Case> {
    vec![
        key("command", "ping", |b, w| {
            b.ask(w.clone()).0["result"] == "pong"
        }),
        key("call-id", "words-call", |b, w| {
            let plain = json!({"command": "offer", "from-tag": "a", "sdp": caller("")});
            b.ask(with(plain, w));
            let list = b.ask(json!({"command": "list"})).0;
            b.ask(json!({"command": "delete", "call-id": "words-call"}));
            list["calls"] == json!(["words-call"])
        }),
        key("from-tag", "w", |b, w| {
            let id = b.id();
            let plain = json!({"command": "offer", "call-id": id, "sdp": caller("")});
            b.ask(with(plain, w));
            b.query(&id)["tags"]["w"]["tag"] == "w"
        }),
        key("to-tag", "w", |b, w| {
            let id = b.id();
            b.offer(&id, &caller(""), &json!({}));
            let plain = json!({"from-tag": "a", "sdp": callee("")});
            b.to(&id, "answer", &with(plain, w));
            b.query(&id)["tags"]["w"]["tag"] == "w"
        }),
        key("via-branch", "w", |b, w| {
            let id = b.id();
            let first = b.offer(&id, &caller(""), &json!({"via-branch": "first"}));
            first.port() != b.offer(&id, &caller(""), w).port()
        }),
        key("sdp", caller(""), |b, w| {
            b.to(&b.id(), "offer", &with(json!({"from-tag": "a"}), w))
                .is_ok()
        }),
        key("limit", 1, |b, w| {
            b.stands();
            b.stands();
            let list = b.ask(with(json!({"command": "list"}), w)).0;
            list["calls"]
                .as_array()
                .is_some_and(|calls| calls.len() == 1)
        }),
        key("body", "list numsessions", |b, w| {
            let told = b.ask(with(json!({"command": "cli"}), w));
            let text = told.0["response"].as_str().unwrap_or_default();
            text.contains("Current sessions own: 0")
        }),
        key("to-call-id", "another", |b, w| {
            let id = b.stands();
            let tags = json!({"from-tag": "x", "to-tag": "y"});
            assert!(
                b.offer("another", &caller(""), &json!({"from-tag": "x"}))
                    .is_ok()
            );
            assert!(
                b.answer("another", &phone("10.0.0.5", 5004, ""), &tags)
                    .is_ok()
            );
            let ends = json!({"from-tag": "b", "to-tag": "y"});
            let is_ok = b.to(&id, "connect", &with(ends, w)).is_ok();
            let heard = b.query(&id)["tags"]["b"]["subscriptions"][0]["tag"].clone();
            b.to("another", "delete", &json!({}));
            is_ok && heard == "y"
        }),
        key("delete-delay", 5, |b, w| {
            let id = b.stands();
            b.to(&id, "delete", w).is_ok() && b.query(&id)["result"] == "ok"
        }),
    ]
}

fn flags() -> Vec<Case> {
    vec![
        key("flags", json!(["no-rtcp-attribute"]), |b, w| {
            !b.offered(&caller(""), w).has("a=rtcp:")
        }),
        key(
            "rtpp-flags",
            "no-rtcp-attribute replace=[origin]",
            |b, w| {
                let told = b.offered(&caller(""), w);
                !told.has("a=rtcp:") && told.has(&format!("o=phone 1 1 IN IP4 {OURS}"))
            },
        ),
        key("supports", json!(["load limit"]), |b, w| {
            let limit = |most: &str| {
                let line = format!("set maxsessions {most}");
                let told = b.ask(json!({"command": "cli", "body": line}));
                assert!(
                    told.0["response"]
                        .as_str()
                        .is_some_and(|text| text.contains("Success"))
                );
            };
            limit("0");
            let told = b.offered(&caller(""), w);
            limit("-1");
            assert!(!told.is_ok());
            told.0["result"] == "load limit"
        }),
        key("template", "words", |b, w| {
            !b.offered(&caller(""), w).has("a=rtcp:")
        }),
        key("replace", "origin", |b, w| {
            b.offered(&caller(""), w)
                .has(&format!("o=phone 1 1 IN IP4 {OURS}"))
        }),
        key("rtcp-mux", json!(["offer"]), |b, w| {
            b.offered(&caller(""), w).has("a=rtcp-mux")
        }),
        key("bundle", "accept", |b, w| {
            let [_, answered] = b.call(&bundled(&caller("")), &video(), w);
            answered.has("a=group:BUNDLE a v")
        }),
        key("ICE", "force", |b, w| {
            b.offered(&caller(""), w).has("a=ice-ufrag:")
        }),
        key("endpoint-learning", "immediate", |b, w| {
            b.heard(&caller(""), w).learn == Learn::Immediate as u8
        }),
        key("TOS", 184, |b, w| {
            Dscp::from_u8(b.heard(&caller(""), w).dscp) == Some(Dscp::Set(46))
        }),
        key("drop-traffic", "start", |b, w| {
            !is_open(&b.heard(&caller(""), w))
        }),
        key("media-echo", "backwards", |b, w| {
            let id = b.id();
            b.offer(&id, &caller(""), w);
            let (port, slot) = b.stream(&id, "a");
            peer(&slot) == port
        }),
        key("DTMF-security", "off", |b, w| {
            let request = json!({"flags": ["block-DTMF"]});
            !drops_events(&b.heard(&caller(""), &with(request, w)))
        }),
        key("record-call", "yes", |b, w| {
            let told = b.offered(&caller(""), w);
            told.reason().starts_with("record-call is not supported: ")
        }),
        key("T.38", "force", |b, w| {
            let told = b.offered(&caller(""), w);
            told.reason().starts_with("T.38 is not supported: ")
        }),
    ]
}

fn addressed() -> Vec<Case> {
    vec![
        key("direction", json!(["default", "other"]), |b, w| {
            addresses(b, w) == [at(OTHER), at(OURS)]
        }),
        key("interface", "other", |b, w| {
            addresses(b, w) == [at(OTHER), at(OTHER)]
        }),
        key("from-interface", "other", |b, w| {
            addresses(b, w) == [at(OURS), at(OTHER)]
        }),
        key("to-interface", "other", |b, w| {
            addresses(b, w) == [at(OTHER), at(OURS)]
        }),
        key("address-family", "IP6", |b, w| {
            b.offered(&caller(""), w).has(&format!("c=IN IP6 {SIX}"))
        }),
        key("media-address", "203.0.113.77", |b, w| {
            b.offered(&caller(""), w).has("c=IN IP4 203.0.113.77")
        }),
        key("received-from", json!(["IP4", "192.0.2.9"]), |b, w| {
            let region = TableView::open(&b.world.region()).expect("the table");
            let from = "192.0.2.9".parse().expect("an address");
            b.heard(&caller(""), w).hint == hint(from, region.info().generation)
        }),
        key("transport-protocol", "RTP/AVPF", |b, w| {
            b.offered(&caller(""), w)
                .sdp()
                .contains(" RTP/AVPF 0 8 101\r\n")
        }),
    ]
}

fn bodies() -> Vec<Case> {
    const EXTMAP: &str = "a=extmap:1 urn:one\r\na=extmap:2 urn:two\r\n";
    vec![
        key("codec", json!({"strip": ["PCMA"]}), |b, w| {
            b.offered(&caller(""), w).formats() == "0 101"
        }),
        key("ptime", 40, |b, w| {
            let [offered, answered] = b.call(&caller(""), &callee(""), w);
            offered.has("a=ptime:40") && !answered.has("a=ptime")
        }),
        key("ptime-reverse", 40, |b, w| {
            let [offered, answered] = b.call(&caller(""), &callee("a=ptime:20\r\n"), w);
            !offered.has("a=ptime") && answered.has("a=ptime:40") && !answered.has("a=ptime:20")
        }),
        key("maxptime", 60, |b, w| {
            b.offered(&caller(""), w).has("a=maxptime:60")
        }),
        key("sdp-attr", json!({"audio": {"add": ["x-word"]}}), |b, w| {
            b.offered(&caller(""), w).has("a=x-word")
        }),
        key("sdp-media-remove", json!(["video"]), |b, w| {
            !b.offered(&video(), w).has("m=video")
        }),
        key("extmap", json!({"strip": ["urn:one"]}), |b, w| {
            let told = b.offered(&caller(EXTMAP), w);
            told.has("a=extmap:2 urn:two") && !told.has("a=extmap:1")
        }),
        key("metadata", "k:v|w:x", |b, w| {
            let id = b.id();
            b.offer(&id, &caller(""), w);
            b.answer(&id, &callee(""), &json!({}));
            let tags = b.query(&id)["tags"].clone();
            tags["a"]["metadata"] == "k:v|w:x" && tags["b"]["metadata"].is_null()
        }),
    ]
}

fn selected() -> Vec<Case> {
    vec![
        key("label", "one", |b, w| {
            let id = b.id();
            b.offer(&id, &caller(""), w);
            b.answer(&id, &callee(""), &json!({}));
            let named = label(b, &id, "a") == "one";
            // And the participant of that name.
            named && blocked(b, &id, &with(json!({"from-tag": "b"}), w)) == [true, false]
        }),
        key("set-label", "one", |b, w| {
            let (offered, stands) = (b.id(), b.stands());
            b.offer(&offered, &caller(""), w);
            blocked(b, &stands, &with(json!({"from-tag": "b"}), w));
            let names = [(&offered, "a"), (&stands, "b")].map(|(id, tag)| label(b, id, tag));
            // A subscription has it too, and is found by it.
            b.subscribed(&stands, w);
            let hold = json!({"to-label": "one"});
            let held = b.to(
                &stands,
                "block media",
                &with(json!({"from-tag": "a"}), &hold),
            );
            names == ["one", "one"] && held.is_ok()
        }),
        key("to-label", "two", |b, w| {
            let id = b.id();
            b.offer(&id, &caller(""), w);
            b.answer(&id, &callee(""), &json!({}));
            label(b, &id, "b") == "two"
        }),
        key("address", "10.0.0.2", |b, w| {
            let id = b.stands();
            blocked(b, &id, &with(json!({"from-tag": "a"}), w)) == [false, true]
        }),
        key("from-tags", json!(["a", "b"]), |b, w| {
            b.subscribed(&b.stands(), w).0["from-tags"] == json!(["a", "b"])
        }),
        key("all", "all", |b, w| {
            let id = b.stands();
            blocked(b, &id, &with(json!({"from-tag": "a"}), w)) == [true, true]
        }),
    ]
}
