//! An ng client: the same calls for Penstock and for rtpengine.

use crate::Failure;
use serde_json::{Value, json};
use std::cell::Cell;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

/// Where both answer.
pub const SERVER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 2223);
/// How long an answer may take; it is asked for anew each second, as Kamailio does.
const PATIENCE: Duration = Duration::from_secs(10);
const AGAIN: Duration = Duration::from_secs(1);

/// A client that speaks JSON, one of ng's two encodings.
pub struct Ng {
    socket: UdpSocket,
    cookie: Cell<u32>,
}

impl Ng {
    /// A client in this thread's network namespace.
    ///
    /// # Errors
    /// [`Failure::Environment`] if there is no loopback.
    pub fn new() -> Result<Ng, Failure> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        Ok(Ng {
            socket,
            cookie: Cell::new(0),
        })
    }

    /// Whether somebody answers within `limit`.
    pub fn ping(&self, limit: Duration) -> bool {
        let reply = self.ask(&json!({"command": "ping"}), limit);
        reply.is_some_and(|r| r["result"] == "pong")
    }

    /// Offer and answer of a call with one G.711 stream each way: where the caller is to send, and where the callee.
    ///
    /// # Errors
    /// [`Failure::Environment`] with the reason of the refusal.
    pub fn call(&self, id: &str, phones: [SocketAddr; 2]) -> Result<[SocketAddr; 2], Failure> {
        let mut request = json!({
            "command": "offer", "call-id": id, "from-tag": "a", "sdp": sdp(phones[0]),
            "ICE": "remove", "replace": ["origin"],
        });
        let callee_side = self.signal(&request)?;
        request["command"] = json!("answer");
        request["to-tag"] = json!("b");
        request["sdp"] = json!(sdp(phones[1]));
        Ok([self.signal(&request)?, callee_side])
    }

    /// Ends a call, at once.
    ///
    /// # Errors
    /// [`Failure::Environment`] with the reason of the refusal.
    pub fn delete(&self, id: &str) -> Result<(), Failure> {
        let request =
            json!({"command": "delete", "call-id": id, "from-tag": "a", "delete-delay": 0});
        self.ok(&request).map(drop)
    }

    /// Whether the server knows of no call.
    ///
    /// # Errors
    /// [`Failure::Environment`] with the reason of the refusal.
    pub fn no_calls(&self) -> Result<bool, Failure> {
        let reply = self.ok(&json!({"command": "list", "limit": 1}))?;
        let calls = reply["calls"].as_array();
        let refused = || Failure::Environment(format!("ng: list was answered by {reply}"));
        Ok(calls.ok_or_else(refused)?.is_empty())
    }

    fn signal(&self, request: &Value) -> Result<SocketAddr, Failure> {
        let reply = self.ok(request)?;
        let refused = || Failure::Environment(format!("ng: no media in {reply}"));
        reply["sdp"].as_str().and_then(media).ok_or_else(refused)
    }

    fn ok(&self, request: &Value) -> Result<Value, Failure> {
        let refused = |why: &str| {
            let command = request["command"].as_str().unwrap_or_default();
            Failure::Environment(format!("ng: {command} was not answered: {why}"))
        };
        let reply = self
            .ask(request, PATIENCE)
            .ok_or_else(|| refused("silence"))?;
        match reply["result"].as_str() {
            Some("ok") => Ok(reply),
            _ => Err(refused(reply["error-reason"].as_str().unwrap_or("?"))),
        }
    }

    fn ask(&self, request: &Value, limit: Duration) -> Option<Value> {
        self.cookie.set(self.cookie.get() + 1);
        let cookie = format!("bench_{}", self.cookie.get());
        let datagram = format!("{cookie} {request}");
        let mut buf = vec![0; 65_536];
        let end = Instant::now() + limit;
        while Instant::now() < end {
            // Refused, if nobody listens yet.
            let _ = self.socket.send_to(datagram.as_bytes(), SERVER);
            let again = end.min(Instant::now() + AGAIN);
            while let Some(rest) = again.checked_duration_since(Instant::now()) {
                let rest = rest.max(Duration::from_millis(1));
                self.socket.set_read_timeout(Some(rest)).ok()?;
                let Ok(n) = self.socket.recv(&mut buf) else {
                    continue;
                };
                let text = std::str::from_utf8(&buf[..n]).ok()?;
                // Else the second answer to a question asked twice.
                if let Some(body) = text.strip_prefix(&format!("{cookie} ")) {
                    return serde_json::from_str(body).ok();
                }
            }
        }
        None
    }
}

fn sdp(phone: SocketAddr) -> String {
    let (ip, port) = (phone.ip(), phone.port());
    format!(
        "v=0\r\no=- 1 1 IN IP4 {ip}\r\ns=-\r\nc=IN IP4 {ip}\r\nt=0 0\r\nm=audio {port} RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\n"
    )
}

/// Where the first m= line wants its media.
fn media(sdp: &str) -> Option<SocketAddr> {
    let field = |name: &str| sdp.lines().find_map(|line| line.strip_prefix(name));
    let port = field("m=audio ")?.split(' ').next()?.parse().ok()?;
    let ip: IpAddr = field("c=IN IP4 ")?.trim().parse().ok()?;
    Some(SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_says_where_it_wants_its_media() {
        let phone = SocketAddr::from(([10, 0, 3, 7], 40_000));
        assert_eq!(media(&sdp(phone)), Some(phone));
        assert_eq!(media("m=audio 0x RTP/AVP 0\r\nc=IN IP4 10.0.0.1\r\n"), None);
        assert_eq!(media("c=IN IP4 10.0.0.1\r\n"), None);
    }
}
