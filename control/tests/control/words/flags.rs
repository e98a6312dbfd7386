//! Flags: what each does. One that only says what is done anyway is held against the flag that it wins over.

use super::bench::*;
use super::keys::{blocked, bundled};
use penstock_shm::record::link;
use penstock_shm::{Learn, flag};
use serde_json::{Value, json};

fn has(slot: &penstock_shm::Slot, bit: u16) -> bool {
    slot.flags & bit != 0
}

/// The caller's stream after an offer with these flags and then the words.
fn heard(b: &Bench, flags: &[&str], w: &Value) -> penstock_shm::Slot {
    let from = json!(["IP4", "192.0.2.9"]);
    let request = json!({"flags": flags, "received-from": from});
    b.heard(&caller(""), &with(request, w))
}

/// The callee's ports before and after the caller has moved.
fn moved(b: &Bench, flags: &[&str], w: &Value) -> [u16; 2] {
    let id = b.stands();
    ["4000", "4100"].map(|port| {
        let body = caller("").replace("4000", port);
        b.offer(&id, &body, &with(json!({"flags": flags}), w))
            .port()
    })
}

pub fn cases() -> Vec<Case> {
    [sources(), ports(), bodies(), ice(), commands()]
        .into_iter()
        .flatten()
        .collect()
}

fn sources() -> Vec<Case> {
    vec![
        word("trust-address", |b, w| {
            let slot = heard(b, &["SIP-source-address"], w);
            slot.remote() == "10.0.0.1:4000".parse().ok()
        }),
        word("SIP-source-address", |b, w| {
            heard(b, &[], w).remote() == "192.0.2.9:4000".parse().ok()
        }),
        word("symmetric", |b, w| {
            let id = b.id();
            b.offer(&id, &caller(""), &json!({"flags": ["asymmetric"]}));
            b.offer(&id, &caller(""), w);
            b.slot(&id, "a").learn == Learn::Heuristic as u8
        }),
        word("asymmetric", |b, w| {
            heard(b, &[], w).learn == Learn::Off as u8
        }),
        word("strict-source", |b, w| {
            !has(&heard(b, &["media-handover"], w), flag::HANDOVER)
        }),
        word("media-handover", |b, w| {
            has(&heard(b, &[], w), flag::HANDOVER)
        }),
        word("reset", |b, w| {
            let id = b.stands();
            let before = b.slot(&id, "a").signal;
            b.offer(&id, &caller(""), w);
            b.slot(&id, "a").signal != before
        }),
        word("strict-payload", |b, w| {
            has(&heard(b, &[], w), flag::STRICT_PAYLOAD)
        }),
        word("pierce-NAT", |b, w| {
            heard(b, &[], w).links & link::PIERCE != 0
        }),
        word("NAT-wait", |b, w| heard(b, &[], w).remote().is_none()),
    ]
}

fn ports() -> Vec<Case> {
    vec![
        word("port-latching", |b, w| {
            let [before, after] = moved(b, &["no-port-latching"], w);
            before == after
        }),
        word("no-port-latching", |b, w| {
            let [before, after] = moved(b, &[], w);
            before != after
        }),
        word("new-branch", |b, w| {
            let id = b.id();
            let first = b.offer(&id, &caller(""), &json!({})).port();
            b.answer(&id, &callee(""), &json!({}));
            let other = b.offer(&id, &caller(""), &with(json!({"to-tag": "c"}), w));
            first != other.port()
        }),
    ]
}

fn bodies() -> Vec<Case> {
    const EXTMAP: &str = "a=extmap:1 urn:one\r\n";
    vec![
        word("loop-protect", |b, w| {
            let through = b.offered(&caller(""), w);
            let again = b.offered(through.sdp(), w);
            through.has("a=rtpengine:") && again.sdp() == through.sdp()
        }),
        word("original-sendrecv", |b, w| {
            let told = b.offered(&caller(""), w);
            told.is_ok() && !told.has("a=sendrecv")
        }),
        word("no-rtcp-attribute", |b, w| {
            let told = b.offered(&caller(""), w);
            told.is_ok() && !told.has("a=rtcp:")
        }),
        word("full-rtcp-attribute", |b, w| {
            let told = b.offered(&caller(""), w);
            told.has(&format!("a=rtcp:{} IN IP4 {OURS}", told.port() + 1))
        }),
        word("generate-mid", |b, w| {
            b.offered(&caller(""), w).has("a=mid:1")
        }),
        word("strip-extmap", |b, w| {
            let told = b.offered(&caller(EXTMAP), w);
            told.is_ok() && !told.has("a=extmap")
        }),
        word("single-codec", |b, w| {
            b.answered(&caller(""), &callee(""), w).formats() == "0 101"
        }),
        word("reorder-codecs", |b, w| {
            let other = callee("").replace("RTP/AVP 0 8", "RTP/AVP 8 0");
            b.answered(&caller(""), &other, w).formats() == "0 8 101"
        }),
    ]
}

fn ice() -> Vec<Case> {
    vec![
        word("trickle-ICE", |b, w| {
            let told = b.offered(&caller(""), &with(json!({"ICE": "force"}), w));
            told.has("a=ice-options:trickle")
        }),
        word("reject-ICE", |b, w| {
            let [offered, answered] = b.call(&caller(ICE), &callee(ICE), w);
            offered.has("a=ice-ufrag:") && answered.is_ok() && !answered.has("a=ice-ufrag:")
        }),
        word("WebRTC", |b, w| {
            let keys = "a=setup:actpass\r\na=fingerprint:sha-256 0A:0B\r\n";
            let body = caller(keys).replace("RTP/AVP", "UDP/TLS/RTP/SAVP");
            let told = b.offered(&body, w);
            // A section that only the bundle has a port for.
            let video = bundled(&body).replace("video 4002 RTP/AVP", "video 0 UDP/TLS/RTP/SAVP");
            let video = video + "a=bundle-only\r\n";
            let grouped = b.offered(&video, w);
            let lines = [
                "a=ice-ufrag:",
                "a=rtcp-mux",
                "a=mid:1",
                "a=ice-options:trickle",
            ];
            told.sdp().contains(" UDP/TLS/RTP/SAVPF 0")
                && lines.iter().all(|line| told.has(line))
                && !told.has("a=rtcp:")
                && grouped.has("m=video ")
                && !grouped.has("m=video 0 ")
        }),
    ]
}

fn commands() -> Vec<Case> {
    vec![
        word("fatal", |b, w| {
            let told = b.to("nowhere", "delete", w);
            told.reason() == "Call-ID not found or tags didn't match"
        }),
        word("fast", |b, w| {
            let told = b.to(&b.stands(), "delete", w);
            told.is_ok() && told.0["totals"].is_null()
        }),
        word("block-DTMF", |b, w| drops_events(&heard(b, &[], w))),
        word("block-media", |b, w| only_events(&heard(b, &[], w))),
        word("inactive", |b, w| {
            b.subscribed(&b.stands(), w).has("a=inactive")
        }),
        word("egress", |b, w| {
            b.subscribed(&b.stands(), w).0["from-tags"] == json!(["b"])
        }),
        word("directional", |b, w| {
            let request = json!({"from-tag": "a", "rtpp-flags": ""});
            blocked(b, &b.stands(), &with(request, w)) == [true, false]
        }),
    ]
}
