//! Spellings that today's rtpengine knows (ng.md, 1.1) and 10.5 does not.

use serde_json::{Map, Value, json};

/// Transports, which may stand among the flags.
const TRANSPORTS: [&str; 2] = ["RTP/AVP", "RTP/AVPF"];

/// The request as 10.5 spells it; `None` if it knows the spelling.
pub fn of_10_5(request: &Map<String, Value>) -> Option<Map<String, Value>> {
    let mut out = Map::new();
    let mut interfaces = Vec::new();
    for (key, value) in request {
        match (canonical(key).as_str(), value) {
            ("flags", Value::Array(flags)) => {
                for flag in flags {
                    word(flag, &mut interfaces, &mut out);
                }
            }
            ("transport-protocol", value) => put(&mut out, "transport-protocol", value.clone()),
            ("command", Value::String(text)) => {
                let name = text.to_lowercase().replace("dtmf", "DTMF");
                put(&mut out, key, json!(name));
            }
            ("ice", Value::String(text)) => put(&mut out, "ICE", json!(text.to_lowercase())),
            ("address-family", Value::String(text)) => {
                put(&mut out, key, json!(text.to_uppercase()))
            }
            ("replace", Value::String(text)) => replace(&mut out, text),
            ("replace", Value::Array(parts)) => {
                for part in parts.iter().filter_map(Value::as_str) {
                    replace(&mut out, part);
                }
            }
            _ => put(&mut out, key, value.clone()),
        }
    }
    if !interfaces.is_empty() {
        put(&mut out, "direction", Value::Array(interfaces));
    }
    (out != *request).then_some(out)
}

/// One word of the flags, under the key that it stands for.
fn word(flag: &Value, interfaces: &mut Vec<Value>, out: &mut Map<String, Value>) {
    let text = flag.as_str().unwrap_or_default();
    let name = canonical(text);
    if TRANSPORTS.contains(&text) {
        put(out, "transport-protocol", flag.clone());
    } else if let Some(part) = name.strip_prefix("replace-") {
        replace(out, part);
    } else if let Some(wish) = name.strip_prefix("rtcp-mux-") {
        list(out, "rtcp-mux").push(json!(wish));
    } else if let Some(wish) = name.strip_prefix("ice-").filter(|wish| *wish != "lite") {
        put(out, "ICE", json!(wish));
    } else if ["internal", "external"].contains(&text) {
        interfaces.push(flag.clone());
    } else {
        list(out, "flags").push(flag.clone());
    }
}

/// A part to replace. Of what `origin-full` replaces, 10.5 knows the address alone.
fn replace(out: &mut Map<String, Value>, part: &str) {
    let part = if part == "origin-full" {
        "origin"
    } else {
        part
    };
    list(out, "replace").push(json!(part));
}

fn put(out: &mut Map<String, Value>, key: &str, value: Value) {
    out.insert(key.to_owned(), value);
}

fn list<'a>(out: &'a mut Map<String, Value>, key: &str) -> &'a mut Vec<Value> {
    let list = out.entry(key).or_insert_with(|| json!([]));
    list.as_array_mut().expect("a list")
}

fn canonical(word: &str) -> String {
    word.to_lowercase().replace([' ', '_'], "-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_10_5_does_not_know_is_spelled_for_it() {
        let spelled = |request: Value| of_10_5(request.as_object().expect("a request"));
        let known = json!({"command": "offer", "flags": ["trust-address"], "ICE": "force",
            "replace": ["origin"], "address-family": "IP6", "transport-protocol": "RTP/AVP"});
        assert_eq!(spelled(known), None);
        let ours = json!({"command": "Offer", "Transport_Protocol": "RTP/AVP", "replace": "origin",
            "flags": ["asymmetric", "rtcp-mux-demux", "ICE-remove", "internal", "external"]});
        let theirs = json!({"command": "offer", "transport-protocol": "RTP/AVP",
            "replace": ["origin"], "flags": ["asymmetric"], "rtcp-mux": ["demux"],
            "ICE": "remove", "direction": ["internal", "external"]});
        assert_eq!(spelled(ours), theirs.as_object().cloned());
    }
}
