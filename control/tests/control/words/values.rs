//! Values that are words: what each does under its key. One that only says what is done anyway is held against another that is
//! said in the flag string, which counts less.

use super::bench::*;
use super::keys::{blocked, bundled};
use penstock_shm::Learn;
use serde_json::{Value, json};

pub fn cases(title: &str) -> Vec<Case> {
    let key = title.split('`').nth(1).unwrap_or_default();
    match key {
        "replace" => replace(),
        "transport-protocol" => transport(),
        "address-family" => family(),
        "rtcp-mux" => rtcp_mux(),
        "bundle" => bundle(),
        "ICE" => ice(),
        "endpoint-learning" => learning(),
        "codec" => codec(),
        "sdp-attr" => kinds(),
        "all" => all(),
        "drop-traffic" => drop_traffic(),
        "media-echo" => media_echo(),
        "DTMF-security" => dtmf_security(),
        _ => Vec::new(),
    }
}

/// The SDP of an offer, and of a later one with another body, both with these words.
fn twice(b: &Bench, w: &Value, later: &str) -> [Told; 2] {
    let id = b.id();
    [caller("").as_str(), later].map(|body| b.offer(&id, body, w))
}

/// The caller's body with another o= line, and another s= line.
fn other(origin: &str) -> String {
    caller("a=sendonly\r\n")
        .replace("o=phone 1 1 ", origin)
        .replace("s=call", "s=other")
}

fn replace() -> Vec<Case> {
    vec![
        word("origin", |b, w| {
            b.offered(&caller(""), w)
                .has(&format!("o=phone 1 1 IN IP4 {OURS}"))
        }),
        word("origin-full", |b, w| {
            let [_, later] = twice(b, w, &other("o=other 7 7 "));
            later.has(&format!("o=phone 1 2 IN IP4 {OURS}"))
        }),
        word("username", |b, w| {
            let [_, later] = twice(b, w, &other("o=other 7 7 "));
            later.has("o=phone 7 7 IN IP4 10.0.0.1")
        }),
        word("session-name", |b, w| {
            let [_, later] = twice(b, w, &other("o=other 7 7 "));
            later.has("s=call")
        }),
        word("SDP-version", |b, w| {
            let [_, later] = twice(b, w, &other("o=other 7 7 "));
            let [_, same] = twice(b, w, &caller("").replace("o=phone 1 1 ", "o=phone 1 2 "));
            later.has("o=other 7 2 IN IP4 10.0.0.1") && same.has("o=phone 1 1 ")
        }),
        word("zero-address", |b, w| {
            let body = caller("").replace("c=IN IP4 10.0.0.1", "c=IN IP4 0.0.0.0");
            b.offered(&body, w).has(&format!("c=IN IP4 {OURS}"))
        }),
        word("force-increment-sdp-ver", |b, w| {
            let [first, same] = twice(b, w, &caller(""));
            first.has("o=phone 1 1 ") && same.has("o=phone 1 2 ")
        }),
    ]
}

/// The profile that an offer with this one leaves with.
fn profile(b: &Bench, from: &str, w: &Value) -> String {
    let told = b.offered(&caller("").replace("RTP/AVP", from), w);
    let line = told.sdp().lines().find(|line| line.starts_with("m="));
    line.unwrap_or_default()
        .split(' ')
        .nth(2)
        .unwrap_or_default()
        .to_owned()
}

fn transport() -> Vec<Case> {
    vec![
        word("RTP/AVP", |b, w| profile(b, "RTP/AVPF", w) == "RTP/AVP"),
        word("RTP/AVPF", |b, w| profile(b, "RTP/AVP", w) == "RTP/AVPF"),
        word("RTP/SAVP", |b, w| profile(b, "RTP/SAVPF", w) == "RTP/SAVP"),
        word("RTP/SAVPF", |b, w| profile(b, "RTP/SAVP", w) == "RTP/SAVPF"),
        word("UDP/TLS/RTP/SAVP", |b, w| {
            profile(b, "UDP/TLS/RTP/SAVPF", w) == "UDP/TLS/RTP/SAVP"
        }),
        word("UDP/TLS/RTP/SAVPF", |b, w| {
            profile(b, "UDP/TLS/RTP/SAVP", w) == "UDP/TLS/RTP/SAVPF"
        }),
        word("UDPTL", |b, w| {
            let fax = caller("").replace("audio 4000 RTP/AVP 0 8 101", "image 4000 udptl t38");
            let passes = b.offered(&fax, w).has("m=image");
            let refused = b.offered(&caller(""), w);
            passes && refused.reason().contains("udptl")
        }),
        word("accept", |b, w| {
            let answer = callee("").replace("RTP/AVP", "RTP/AVPF");
            let told = b.answered(&caller(""), &answer, w);
            told.sdp().contains(" RTP/AVPF 0 8 101\r\n")
        }),
    ]
}

fn family() -> Vec<Case> {
    vec![
        word("IP4", |b, w| {
            let told = b.offered(&phone("2001:db8::9", 4000, ""), w);
            told.has(&format!("c=IN IP4 {OURS}"))
        }),
        word("IP6", |b, w| {
            b.offered(&caller(""), w).has(&format!("c=IN IP6 {SIX}"))
        }),
    ]
}

const MUX: &str = "a=rtcp-mux\r\n";

fn rtcp_mux() -> Vec<Case> {
    vec![
        word("offer", |b, w| {
            let told = b.offered(&caller(""), w);
            told.has("a=rtcp-mux") && told.has(&format!("a=rtcp:{}", told.port() + 1))
        }),
        word("require", |b, w| {
            let told = b.offered(&caller(""), w);
            told.has("a=rtcp-mux") && told.has(&format!("a=rtcp:{}", told.port()))
        }),
        word("demux", |b, w| {
            let [offered, answered] = b.call(&caller(MUX), &callee(""), w);
            !offered.has("a=rtcp-mux") && answered.has("a=rtcp-mux")
        }),
        word("accept", |b, w| {
            let [offered, answered] = b.call(&caller(MUX), &callee(""), w);
            offered.has("a=rtcp-mux") && answered.has("a=rtcp-mux")
        }),
        word("reject", |b, w| {
            let [_, answered] = b.call(&caller(MUX), &callee(MUX), w);
            answered.is_ok() && !answered.has("a=rtcp-mux")
        }),
    ]
}

fn bundle() -> Vec<Case> {
    vec![
        word("accept", |b, w| {
            let video = "m=video 5002 RTP/AVP 96\r\na=rtpmap:96 VP8/90000\r\n";
            let [offered, answered] = b.call(&bundled(&caller("")), &callee(video), w);
            !offered.has("a=group:") && answered.has("a=group:BUNDLE a v")
        }),
        word("offer", |b, w| {
            let bodies = [caller(""), callee("")].map(|body| bundled(&body));
            let [offered, answered] = b.call(&bodies[0], &bodies[1], w);
            [offered, answered]
                .iter()
                .all(|told| told.has("a=group:BUNDLE a v"))
        }),
        word("reject", |b, w| {
            let request = json!({"rtpp-flags": "bundle=offer"});
            let told = b.offered(&bundled(&caller("")), &with(request, w));
            told.is_ok() && !told.has("a=group:")
        }),
    ]
}

fn ice() -> Vec<Case> {
    vec![
        word("remove", |b, w| {
            let told = b.offered(&caller(ICE), w);
            told.is_ok() && !told.has("a=ice-ufrag:")
        }),
        word("force", |b, w| {
            let told = b.offered(&caller(""), w);
            let answered = b.answered(&caller(""), &callee(""), w);
            told.has("a=ice-ufrag:") && answered.has("a=ice-ufrag:")
        }),
        word("default", |b, w| {
            let request = json!({"rtpp-flags": "ICE=remove"});
            let with_ice = b.offered(&caller(ICE), &with(request.clone(), w));
            let without = b.offered(&caller(""), &with(request, w));
            with_ice.has("a=ice-ufrag:") && !without.has("a=ice-ufrag:")
        }),
        word("optional", |b, w| {
            let told = b.offered(&caller(""), w);
            let answered = b.answered(&caller(""), &callee(""), w);
            told.has("a=ice-ufrag:") && !answered.has("a=ice-ufrag:")
        }),
    ]
}

fn learns(b: &Bench, before: &str, w: &Value, how: Learn) -> bool {
    let request = json!({"rtpp-flags": before});
    b.heard(&caller(""), &with(request, w)).learn == how as u8
}

fn learning() -> Vec<Case> {
    vec![
        word("off", |b, w| learns(b, "", w, Learn::Off)),
        word("immediate", |b, w| learns(b, "", w, Learn::Immediate)),
        word("delayed", |b, w| learns(b, "", w, Learn::Delayed)),
        word("heuristic", |b, w| {
            learns(b, "endpoint-learning=off", w, Learn::Heuristic)
        }),
    ]
}

/// The formats of an offer from which all codecs but one are taken, and these words.
fn left(b: &Bench, w: &Value) -> String {
    let request = json!({"rtpp-flags": "codec-strip-all codec-except-PCMU"});
    b.offered(&caller(""), &with(request, w)).formats()
}

/// Those of a plain offer, and of a plain answer, with these words.
fn filtered(b: &Bench, w: &Value) -> [String; 2] {
    let answered = b.answered(&caller(""), &callee(""), w);
    [b.offered(&caller(""), w), answered].map(|told| told.formats())
}

fn codec() -> Vec<Case> {
    vec![
        key("strip", "PCMA", |b, w| filtered(b, w) == ["0 101", "0 101"]),
        key("except", "PCMA", |b, w| left(b, w) == "0 8"),
        key("offer", "PCMA", |b, w| {
            left(b, w).split(' ').any(|format| format == "8")
        }),
        key("mask", "PCMA", |b, w| {
            filtered(b, w) == ["0 101", "0 8 101"]
        }),
        key("consume", "PCMA", |b, w| {
            filtered(b, w) == ["0 101", "0 8 101"]
        }),
        key("transcode", "PCMA", |b, w| {
            let lacks = caller("")
                .replace("0 8 101", "0 101")
                .replace("a=rtpmap:8 PCMA/8000\r\n", "");
            let refused = b.offered(&lacks, w);
            left(b, w).split(' ').any(|format| format == "8")
                && refused
                    .reason()
                    .starts_with("transcode \"PCMA\" is not supported")
        }),
    ]
}

/// Whether an attribute was added to a section of this kind, or the section has left.
fn edited(b: &Bench, kind: &str, line: &str, w: &Value) -> bool {
    let first = if kind == "audio" { "video" } else { "audio" };
    let body = format!(
        "v=0\r\no=phone 1 1 IN IP4 10.0.0.1\r\ns=call\r\nc=IN IP4 10.0.0.1\r\nt=0 0\r\n\
         m={first} 4000 RTP/AVP 96\r\na=rtpmap:96 x/8000\r\nm={line}\r\n"
    );
    let told = b.offered(&body, w);
    assert!(told.has(&format!("m={first} ")), "{}", told.0);
    let own = format!("\r\nm={kind}");
    match told.sdp().split_once(own.as_str()) {
        Some((before, section)) => section.contains("a=x-word") && !before.contains("a=x-word"),
        None => true,
    }
}

fn kinds() -> Vec<Case> {
    vec![
        word("none", |b, w| {
            let told = b.offered(&caller(""), w);
            told.sdp()
                .split_once("m=")
                .is_some_and(|(session, _)| session.contains("a=x-word"))
        }),
        word("audio", |b, w| {
            edited(b, "audio", "audio 4002 RTP/AVP 97\r\na=rtpmap:97 y/8000", w)
        }),
        word("video", |b, w| {
            edited(
                b,
                "video",
                "video 4002 RTP/AVP 97\r\na=rtpmap:97 y/90000",
                w,
            )
        }),
        word("text", |b, w| {
            edited(
                b,
                "text",
                "text 4002 RTP/AVP 97\r\na=rtpmap:97 t140/1000",
                w,
            )
        }),
        word("application", |b, w| {
            edited(b, "application", "application 4002 UDP/BFCP *", w)
        }),
        word("message", |b, w| {
            edited(b, "message", "message 4002 TCP/MSRP *", w)
        }),
        word("image", |b, w| {
            edited(b, "image", "image 4002 udptl t38", w)
        }),
        word("other", |b, w| edited(b, "game", "game 4002 UDP play", w)),
    ]
}

/// Whose media a subscription is to, of a call whose third party publishes.
fn subscribed(b: &Bench, w: &Value) -> Value {
    let id = b.stands();
    assert!(b.published(&id, &json!({})).is_ok());
    b.subscribed(&id, w).0["from-tags"].clone()
}

/// After a block of what the caller sends: whether it still goes to the callee, and to a subscriber.
fn passes(b: &Bench, w: &Value) -> [bool; 2] {
    let id = b.stands();
    let copy = b.subscribed(&id, &json!({})).port();
    assert!(
        b.to(&id, "block media", &with(json!({"from-tag": "a"}), w))
            .is_ok()
    );
    [!only_events(&b.slot(&id, "a")), is_open(&b.at(copy))]
}

fn all() -> Vec<Case> {
    vec![
        word("none", |b, w| {
            let request = json!({"from-tag": "a", "flags": ["all"]});
            blocked(b, &b.stands(), &with(request, w)) == [true, false]
        }),
        word("all", |b, w| {
            let request = json!({"from-tag": "a"});
            blocked(b, &b.stands(), &with(request, w)) == [true, true]
                && subscribed(b, w) == json!(["a", "b", "p"])
        }),
        word("offer-answer", |b, w| {
            subscribed(b, w) == json!(["a", "b"]) && passes(b, w) == [false, true]
        }),
        word("except-offer-answer", |b, w| {
            subscribed(b, w) == json!(["p"]) && passes(b, w) == [true, false]
        }),
        word("flows", |b, w| {
            subscribed(b, w) == json!(["a", "b", "p"]) && passes(b, w) == [false, false]
        }),
    ]
}

fn drop_traffic() -> Vec<Case> {
    vec![
        word("start", |b, w| !is_open(&b.heard(&caller(""), w))),
        word("stop", |b, w| {
            let id = b.id();
            b.offer(&id, &caller(""), &json!({"drop-traffic": "start"}));
            b.offer(&id, &caller(""), w);
            is_open(&b.slot(&id, "a"))
        }),
    ]
}

/// Whose media goes back to its sender: the caller's, the callee's; and whether the caller's is dropped.
fn echoes(b: &Bench, w: &Value) -> ([bool; 2], bool) {
    let id = b.id();
    b.offer(&id, &caller(""), w);
    b.answer(&id, &callee(""), &json!({}));
    let streams = ["a", "b"].map(|tag| b.stream(&id, tag));
    let back = [0, 1].map(|leg| peer(&streams[leg].1) == streams[leg].0);
    (back, !is_open(&streams[0].1))
}

fn media_echo() -> Vec<Case> {
    vec![
        word("blackhole", |b, w| echoes(b, w) == ([false, false], true)),
        // Who is echoed hears nobody else.
        word("forward", |b, w| echoes(b, w) == ([false, true], true)),
        word("backwards", |b, w| echoes(b, w) == ([true, false], false)),
        word("both", |b, w| echoes(b, w) == ([true, true], false)),
    ]
}

fn dtmf_security() -> Vec<Case> {
    let drops = |b: &Bench, w: &Value| {
        let request = json!({"flags": ["block-DTMF"], "rtpp-flags": "DTMF-security=off"});
        drops_events(&b.heard(&caller(""), &with(request, w)))
    };
    vec![
        word("drop", drops),
        word("off", |b, w| {
            let request = json!({"flags": ["block-DTMF"]});
            !drops_events(&b.heard(&caller(""), &with(request, w)))
        }),
    ]
}
