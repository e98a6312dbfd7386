//! Commands: what each changes, or tells. Without the word it is not sent.

use super::bench::*;
use crate::common::reason;
use serde_json::{Value, json};

/// Sends the command, if there is one.
fn send(b: &Bench, id: &str, words: &Value, more: Value) -> Told {
    match words["command"].as_str() {
        Some(command) => b.to(id, command, &more),
        None => Told(json!({"result": "not sent"})),
    }
}

/// A call to which a command was sent before, and then this one.
fn after(b: &Bench, words: &Value, before: &str) -> String {
    let id = b.stands();
    if !before.is_empty() {
        assert!(b.to(&id, before, &json!({"from-tag": "a"})).is_ok());
    }
    send(b, &id, words, json!({"from-tag": "a"}));
    id
}

/// A call with a subscription, and the port that copies leave from.
fn subscription(b: &Bench) -> (String, u16) {
    let id = b.stands();
    let port = b.subscribed(&id, &json!({})).port();
    (id, port)
}

fn recorder() -> Value {
    json!({"to-tag": "s", "sdp": phone("10.0.0.9", 7000, "a=recvonly\r\n")})
}

pub fn cases() -> Vec<Case> {
    vec![
        word("ping", |b, w| {
            send(b, "", w, json!({})).0["result"] == "pong"
        }),
        word("offer", |b, w| {
            let more = json!({"from-tag": "a", "sdp": caller("")});
            send(b, &b.id(), w, more).has(&format!("c=IN IP4 {OURS}"))
        }),
        word("answer", |b, w| {
            let id = b.id();
            b.offer(&id, &caller(""), &json!({}));
            let more = json!({"from-tag": "a", "to-tag": "b", "sdp": callee("")});
            let told = send(b, &id, w, more);
            let remote = b.query(&id)["tags"]["b"]["medias"][0]["streams"][0]["endpoint"].clone();
            told.has(&format!("c=IN IP4 {OURS}")) && remote["address"] == "10.0.0.2"
        }),
        word("delete", |b, w| {
            let id = after(b, w, "");
            let query = b.query(&id);
            query["result"] == "error" && reason(&query) == "Unknown call-id"
        }),
        word("query", |b, w| {
            send(b, &b.stands(), w, json!({})).0["tags"]["a"]["tag"] == "a"
        }),
        word("list", |b, w| {
            let id = b.stands();
            send(b, "", w, json!({})).0["calls"] == json!([id])
        }),
        word("statistics", |b, w| {
            b.stands();
            let told = send(b, "", w, json!({}));
            told.0["statistics"]["currentstatistics"]["sessionsown"] == 1
        }),
        word("block DTMF", |b, w| {
            drops_events(&b.slot(&after(b, w, ""), "a"))
        }),
        word("unblock DTMF", |b, w| {
            !drops_events(&b.slot(&after(b, w, "block DTMF"), "a"))
        }),
        word("block media", |b, w| {
            only_events(&b.slot(&after(b, w, ""), "a"))
        }),
        word("unblock media", |b, w| {
            !only_events(&b.slot(&after(b, w, "block media"), "a"))
        }),
        word("silence media", |b, w| {
            !is_open(&b.slot(&after(b, w, ""), "a"))
        }),
        word("unsilence media", |b, w| {
            is_open(&b.slot(&after(b, w, "silence media"), "a"))
        }),
        word("publish", |b, w| {
            let more = json!({"from-tag": "p", "sdp": caller("a=sendonly\r\n")});
            let told = send(b, &b.id(), w, more);
            told.has("a=recvonly") && told.has(&format!("c=IN IP4 {OURS}"))
        }),
        word("subscribe request", |b, w| {
            let told = send(b, &b.stands(), w, json!({"from-tag": "a"}));
            told.has("a=sendonly") && told.0["from-tags"] == json!(["a"])
        }),
        word("subscribe answer", |b, w| {
            let (id, port) = subscription(b);
            send(b, &id, w, recorder());
            b.at(port).remote() == "10.0.0.9:7000".parse().ok()
        }),
        word("unsubscribe", |b, w| {
            let (id, port) = subscription(b);
            send(b, &id, w, json!({"to-tag": "s"}));
            !b.plane.streams().contains_key(&port)
        }),
        word("connect", |b, w| {
            let id = b.stands();
            let other = json!({"from-tag": "x"});
            assert!(b.offer(&id, &phone("10.0.0.4", 4004, ""), &other).is_ok());
            let other = json!({"from-tag": "x", "to-tag": "y"});
            assert!(b.answer(&id, &phone("10.0.0.5", 5004, ""), &other).is_ok());
            let [(own, _), (far, _)] = ["b", "y"].map(|tag| b.stream(&id, tag));
            send(b, &id, w, json!({"from-tag": "b", "to-tag": "y"}));
            peer(&b.at(own)) == far && peer(&b.at(far)) == own
        }),
        word("cli", |b, w| {
            b.stands();
            let told = send(b, "", w, json!({"body": "list numsessions"}));
            let text = told.0["response"].as_str().unwrap_or_default();
            text.contains("Current sessions own: 1")
        }),
    ]
}
