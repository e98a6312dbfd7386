//! An answer without what has to differ from run to run: local ports and random values get names, in the order in
//! which they first appear in their case. The port above a named one is `P1+1`, so that RTCP is seen to be RTP + 1;
//! ports of IPv6 are called `S1` and so on.

use serde_json::Value;
use std::collections::HashMap;

/// Local ports of both servers; no body of the corpus has a port in there.
pub const PORTS: std::ops::RangeInclusive<u16> = 30_000..=39_999;

/// What is put behind a line that does not end in CRLF.
const ENDS: [&str; 3] = [" (LF)", " (CR)", " (no end)"];

/// The line, however it ended.
pub fn without_end(line: &str) -> &str {
    let ended = ENDS.iter().find_map(|end| line.strip_suffix(end));
    ended.unwrap_or(line)
}

/// What one server has said in one case.
#[derive(Default)]
pub struct Names {
    /// What was sent: a value found there is none of the server's own.
    sent: String,
    ports: HashMap<(String, u16), String>,
    values: HashMap<(&'static str, String), String>,
    credentials: HashMap<(&'static str, String, String), usize>,
    /// The port of the section that is being read.
    section: String,
}

impl Names {
    /// Notes what the server is told.
    pub fn sent(&mut self, sdp: &str) {
        self.sent.push_str(sdp);
    }

    /// The lines that stand for an answer.
    pub fn lines(&mut self, reply: &Value) -> Vec<String> {
        let mut lines = Vec::new();
        for key in ["result", "error-reason", "warning", "message"] {
            if let Some(text) = reply[key].as_str() {
                lines.push(format!("{key}: {text}"));
            }
        }
        if let Some(sdp) = reply["sdp"].as_str() {
            self.sdp(sdp, &mut lines);
        }
        self.keys("", reply, &mut lines);
        lines
    }

    fn sdp(&mut self, sdp: &str, lines: &mut Vec<String>) {
        let mut session = String::new();
        let mut address = String::new();
        let is_cr = !sdp.contains('\n');
        let all: Vec<&str> = sdp
            .split_inclusive(if is_cr { '\r' } else { '\n' })
            .collect();
        for (idx, line) in all.iter().enumerate() {
            let end = match line {
                line if line.ends_with("\r\n") => "",
                line if line.ends_with('\n') => ENDS[0],
                line if line.ends_with('\r') => ENDS[1],
                _ => ENDS[2],
            };
            let text = line.trim_end_matches(['\r', '\n']);
            if text.starts_with("m=") {
                let own = all[idx + 1..].iter().take_while(|l| !l.starts_with("m="));
                let own = own.filter_map(|l| connection(l)).next();
                address = own.unwrap_or_else(|| session.clone());
            } else if lines.iter().all(|l| !l.starts_with("m="))
                && let Some(found) = connection(text)
            {
                session = found;
            }
            lines.push(format!("{}{end}", self.line(text, &address)));
        }
    }

    fn line(&mut self, text: &str, address: &str) -> String {
        let words: Vec<&str> = text.split(' ').collect();
        if text.starts_with("m=") {
            return self.word(&words, 1, |names, ports| {
                let (port, count) = ports.split_at(ports.find('/').unwrap_or(ports.len()));
                names.section = names.port(address, port);
                format!("{}{count}", names.section)
            });
        }
        if text.starts_with("o=") {
            let named = self.word(&words, 0, |names, user| {
                names.value("USER", user, &user[2..])
            });
            let words: Vec<&str> = named.split(' ').collect();
            let named = self.word(&words, 1, |names, id| names.value("SESSION", id, id));
            let words: Vec<&str> = named.split(' ').collect();
            return self.word(&words, 2, |names, version| names.version(version));
        }
        let Some((name, value)) = text.strip_prefix("a=").and_then(|t| t.split_once(':')) else {
            return text.to_owned();
        };
        let value = match name {
            "rtcp" => {
                let words: Vec<&str> = value.split(' ').collect();
                self.word(&words, 0, |names, port| names.port(address, port))
            }
            "ice-ufrag" => self.credential("UFRAG", value),
            "ice-pwd" => self.credential("PWD", value),
            "tls-id" => self.value("TLSID", value, value),
            "fingerprint" => self.value("FINGERPRINT", value, value),
            "rtpengine" | "penstock" => "ID".to_owned(),
            "crypto" => {
                let words: Vec<&str> = value.split(' ').collect();
                self.word(&words, 2, |names, key| names.value("KEY", key, key))
            }
            "candidate" => self.candidate(value),
            _ => value.to_owned(),
        };
        format!("a={name}:{value}")
    }

    fn candidate(&mut self, value: &str) -> String {
        let words: Vec<&str> = value.split(' ').collect();
        // One with a local port is the server's own, and so is its foundation.
        let port = words.get(5).and_then(|word| word.parse().ok());
        if !port.is_some_and(|port| PORTS.contains(&port)) {
            return value.to_owned();
        }
        let named = self.word(&words, 0, |names, foundation| {
            names.own("FOUNDATION", foundation)
        });
        let words: Vec<&str> = named.split(' ').collect();
        let Some(address) = words.get(4).map(|word| (*word).to_owned()) else {
            return named;
        };
        let named = self.word(&words, 5, |names, port| names.port(&address, port));
        let words: Vec<&str> = named.split(' ').collect();
        let related = words.iter().position(|word| *word == "rport");
        self.word(
            &words,
            related.map_or(usize::MAX, |at| at + 1),
            |names, port| names.port(&address, port),
        )
    }

    /// The words with one of them named.
    fn word(
        &mut self,
        words: &[&str],
        at: usize,
        name: impl FnOnce(&mut Self, &str) -> String,
    ) -> String {
        let mut words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        if let Some(word) = words.get_mut(at) {
            *word = name(self, word);
        }
        words.join(" ")
    }

    /// A value that was not sent is random: its name.
    fn value(&mut self, kind: &'static str, value: &str, needle: &str) -> String {
        match self.sent.contains(needle) {
            true => value.to_owned(),
            false => self.own(kind, value),
        }
    }

    /// The name of a value that is the server's own.
    fn own(&mut self, kind: &'static str, value: &str) -> String {
        let count = self.values.keys().filter(|(k, _)| *k == kind).count();
        let fresh = || format!("{kind}{}", count + 1);
        self.values
            .entry((kind, value.to_owned()))
            .or_insert_with(fresh)
            .clone()
    }

    /// Credentials have names by port: whether sections share them is the server's choice, when they change is not.
    fn credential(&mut self, kind: &'static str, value: &str) -> String {
        if self.sent.contains(value) {
            return value.to_owned();
        }
        let section = self.section.clone();
        let known = self.credentials.keys();
        let count = known
            .filter(|(k, s, _)| (*k, s) == (kind, &section))
            .count();
        let key = (kind, section.clone(), value.to_owned());
        let number = *self.credentials.entry(key).or_insert(count + 1);
        format!("{kind}{number} of {section}")
    }

    /// A session's version: sent, a little higher than one that was, or random.
    fn version(&mut self, version: &str) -> String {
        let number: i128 = version.parse().unwrap_or(-1);
        let origins = self.sent.lines().filter_map(|l| l.strip_prefix("o="));
        let near = origins
            .filter_map(|o| o.split(' ').nth(2)?.parse::<i128>().ok())
            .any(|sent| (0..10).contains(&(number - sent)));
        match near {
            true => version.to_owned(),
            false => self.value("VERSION", version, version),
        }
    }

    fn port(&mut self, address: &str, port: &str) -> String {
        let Some(number) = port.parse().ok().filter(|n| PORTS.contains(n)) else {
            return port.to_owned();
        };
        // On hold the address is not there: the port is one that had a name, or a new one.
        let held = address == "0.0.0.0" || address == "::";
        let known = |wanted: u16| {
            let mut ports = self.ports.iter();
            let found = ports.find(|((ip, p), _)| *p == wanted && (ip == address || held));
            found.map(|(_, name)| name.clone())
        };
        if let Some(name) = known(number) {
            return name;
        }
        if let Some(name) = known(number - 1) {
            return format!("{name}+1");
        }
        let letter = if address.contains(':') { 'S' } else { 'P' };
        let mut names = self.ports.values();
        let mut count = 1;
        while names.any(|name| *name == format!("{letter}{count}")) {
            count += 1;
            names = self.ports.values();
        }
        let name = format!("{letter}{count}");
        self.ports
            .insert((address.to_owned(), number), name.clone());
        name
    }

    /// What a dictionary has besides: paths, with values where they are no times and no random numbers.
    fn keys(&mut self, path: &str, value: &Value, lines: &mut Vec<String>) {
        const SAID: [&str; 5] = ["sdp", "result", "error-reason", "warning", "message"];
        match value {
            Value::Object(dict) => {
                let address = dict.get("local address").and_then(Value::as_str);
                let address = address.unwrap_or_default().to_owned();
                let mut keys: Vec<_> = dict.keys().collect();
                keys.sort();
                for key in keys {
                    let value = &dict[key];
                    match key.as_str() {
                        key if path.is_empty() && SAID.contains(&key) => {}
                        "local port" => {
                            let port = self.port(&address, &value.to_string());
                            lines.push(format!("{path}/{key}: {port}"));
                        }
                        "created" | "created_us" | "created_ts" | "last signal" | "last packet"
                        | "last kernel packet" | "last user packet" | "last redis update" => {
                            lines.push(format!("{path}/{key}"));
                        }
                        "flags" => {
                            let list = value.as_array().into_iter().flatten();
                            let mut words: Vec<&str> = list.filter_map(Value::as_str).collect();
                            words.sort_unstable();
                            lines.push(format!("{path}/{key}: {}", words.join(", ")));
                        }
                        key => self.keys(&format!("{path}/{key}"), value, lines),
                    }
                }
            }
            Value::Array(list) => {
                for (idx, value) in list.iter().enumerate() {
                    self.keys(&format!("{path}/{idx}"), value, lines);
                }
            }
            _ if path.is_empty() => {}
            Value::String(text) => lines.push(format!("{path}: {text}")),
            other => lines.push(format!("{path}: {other}")),
        }
    }
}

fn connection(line: &str) -> Option<String> {
    let address = line
        .strip_prefix("c=IN IP4 ")
        .or(line.strip_prefix("c=IN IP6 "))?;
    Some(address.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn sdp(names: &mut Names, text: &str) -> String {
        let sdp = text.replace('|', "\r\n") + "\r\n";
        names.lines(&json!({"sdp": sdp})).join("|")
    }

    #[test]
    fn ports_have_names_and_keep_them() {
        let mut names = Names::default();
        let said = sdp(
            &mut names,
            "c=IN IP4 1.1.1.1|m=audio 30002 RTP/AVP 0|a=rtcp:30003",
        );
        assert_eq!(said, "c=IN IP4 1.1.1.1|m=audio P1 RTP/AVP 0|a=rtcp:P1+1");
        let said = sdp(
            &mut names,
            "m=audio 30008 RTP/AVP 0|c=IN IP6 ::1|a=rtcp:30008",
        );
        assert_eq!(said, "m=audio S1 RTP/AVP 0|c=IN IP6 ::1|a=rtcp:S1");
        let said = sdp(
            &mut names,
            "m=audio 30002 RTP/AVP 0|c=IN IP4 0.0.0.0|a=rtcp:30007",
        );
        assert_eq!(said, "m=audio P1 RTP/AVP 0|c=IN IP4 0.0.0.0|a=rtcp:P2");
        assert_eq!(
            sdp(&mut names, "m=audio 4000 RTP/AVP 0"),
            "m=audio 4000 RTP/AVP 0"
        );
    }

    #[test]
    fn values_of_the_servers_own_have_names() {
        let mut names = Names::default();
        names.sent("o=a 5 5 IN IP4 1.1.1.1\r\na=ice-ufrag:sent\r\n");
        let first = "m=audio 30000 RTP/AVP 0|a=ice-ufrag:sent|a=ice-ufrag:own|m=audio 30004 RTP/AVP 0|a=ice-ufrag:own";
        let named = "m=audio P1 RTP/AVP 0|a=ice-ufrag:sent|a=ice-ufrag:UFRAG1 of P1|m=audio P2 RTP/AVP 0|a=ice-ufrag:UFRAG1 of P2";
        assert_eq!(sdp(&mut names, first), named);
        let later = "m=audio 30004 RTP/AVP 0|a=ice-ufrag:new";
        let named = "m=audio P2 RTP/AVP 0|a=ice-ufrag:UFRAG2 of P2";
        assert_eq!(sdp(&mut names, later), named);
        assert_eq!(
            sdp(&mut names, "o=a 5 6 IN IP4 1.1.1.1"),
            "o=a 5 6 IN IP4 1.1.1.1"
        );
        assert_eq!(
            sdp(&mut names, "o=a 77 99 IN IP4 1.1.1.1"),
            "o=a SESSION1 VERSION1 IN IP4 1.1.1.1"
        );
        let said = sdp(&mut names, "a=candidate:xyz 1 UDP 5 1.1.1.1 30008 typ host");
        assert_eq!(said, "a=candidate:FOUNDATION1 1 UDP 5 1.1.1.1 P3 typ host");
    }
}
