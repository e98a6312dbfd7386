//! An ng client as Kamailio's module is one: a cookie, a dictionary, one answer.

use serde_json::{Value, json};
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// A client that speaks JSON, the other of ng's two encodings: Kamailio speaks bencode.
pub struct Ng {
    socket: UdpSocket,
    server: SocketAddr,
    next: AtomicU32,
}

/// The plane's endpoints of a call with one media.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sides {
    /// Where the caller sends its RTP; its RTCP goes one port higher.
    pub caller: SocketAddr,
    /// Where the callee sends its RTP; its RTCP goes one port higher.
    pub callee: SocketAddr,
}

/// The RTCP address that belongs to an RTP address (RFC 3550, 11).
pub fn rtcp(rtp: SocketAddr) -> SocketAddr {
    SocketAddr::new(rtp.ip(), rtp.port() + 1)
}

/// An offer or answer with one G.711 stream.
pub fn sdp(remote: SocketAddr) -> String {
    let (family, ip) = (if remote.is_ipv4() { "IP4" } else { "IP6" }, remote.ip());
    format!(
        "v=0\r\no=- 1 1 IN {family} {ip}\r\ns=-\r\nc=IN {family} {ip}\r\nt=0 0\r\nm=audio {port} RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\n",
        port = remote.port()
    )
}

/// Address and port of the first m= line's media.
fn media(sdp: &str) -> Option<SocketAddr> {
    let port = sdp
        .lines()
        .find_map(|l| l.strip_prefix("m=audio "))?
        .split(' ')
        .next()?
        .parse()
        .ok()?;
    let ip = sdp
        .lines()
        .find_map(|l| l.strip_prefix("c=IN IP4 ").or(l.strip_prefix("c=IN IP6 ")))?;
    Some(SocketAddr::new(ip.trim().parse().ok()?, port))
}

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// An offer.
pub fn offer_request(call: &str, sdp: &str) -> Value {
    json!({
        "command": "offer", "call-id": call, "from-tag": "a", "sdp": sdp,
        "ICE": "remove", "replace": ["origin"],
    })
}

/// The answer to it.
pub fn answer_request(call: &str, sdp: &str) -> Value {
    json!({
        "command": "answer", "call-id": call, "from-tag": "a", "to-tag": "b", "sdp": sdp,
        "ICE": "remove", "replace": ["origin"],
    })
}

/// A request with these keys as well, or in place of its own.
pub fn with(mut request: Value, more: Value) -> Value {
    for (key, value) in more.as_object().into_iter().flatten() {
        request[key] = value.clone();
    }
    request
}

impl Ng {
    pub(crate) fn new(socket: UdpSocket, server: SocketAddr) -> Ng {
        Ng {
            socket,
            server,
            next: AtomicU32::new(0),
        }
    }

    /// Sends bytes as they are.
    pub fn send(&self, datagram: &[u8]) {
        self.socket.send_to(datagram, self.server).expect("ng");
    }

    /// One request and its answer; `None` after `limit`. It is sent anew each second, as Kamailio does.
    pub fn ask_within(&self, request: &Value, limit: Duration) -> Option<Value> {
        let port = self.socket.local_addr().expect("an address").port();
        let cookie = format!("{port}_{}_e2e", self.next.fetch_add(1, Ordering::Relaxed));
        let datagram = format!("{cookie} {request}");
        let mut buf = vec![0; 65_536];
        let end = Instant::now() + limit;
        loop {
            self.send(datagram.as_bytes());
            let again = end.min(Instant::now() + Duration::from_secs(1));
            while let Some(rest) = again.checked_duration_since(Instant::now()) {
                let rest = rest.max(Duration::from_millis(1));
                self.socket.set_read_timeout(Some(rest)).expect("a timeout");
                let Ok(n) = self.socket.recv(&mut buf) else {
                    continue;
                };
                let text = String::from_utf8_lossy(&buf[..n]).into_owned();
                if let Some(body) = text.strip_prefix(&cookie) {
                    return serde_json::from_str(body.trim_start()).ok();
                }
            }
            if Instant::now() >= end {
                return None;
            }
        }
    }

    /// One request and its answer.
    pub fn ask(&self, request: &Value) -> Value {
        self.ask_within(request, PATIENCE)
            .unwrap_or_else(|| panic!("no answer to {request}"))
    }

    /// A request that is carried out; what comes back.
    pub fn done(&self, request: &Value) -> Value {
        let reply = self.ask(request);
        let has_worked = reply["result"] == "ok" && reply["warning"].is_null();
        assert!(has_worked, "{request}\n{reply}");
        reply
    }

    /// An offer, an answer or the like; the SDP that comes back.
    pub fn told(&self, request: &Value) -> String {
        let reply = self.done(request);
        let sdp = reply["sdp"].as_str();
        sdp.unwrap_or_else(|| panic!("no SDP in {reply}"))
            .to_owned()
    }

    /// An offer; the local endpoint that the callee is to send to.
    pub fn offer(&self, call: &str, caller: SocketAddr) -> Result<SocketAddr, String> {
        self.offer_sdp(call, &sdp(caller))
    }

    /// The answer; the local endpoint that the caller is to send to.
    pub fn answer(&self, call: &str, callee: SocketAddr) -> Result<SocketAddr, String> {
        self.answer_sdp(call, &sdp(callee))
    }

    /// An offer with an SDP of one's own.
    pub fn offer_sdp(&self, call: &str, sdp: &str) -> Result<SocketAddr, String> {
        self.offer_with(call, sdp, "", Value::Null)
    }

    /// An offer with one more key, unless that is empty.
    pub fn offer_with(
        &self,
        call: &str,
        sdp: &str,
        key: &str,
        value: Value,
    ) -> Result<SocketAddr, String> {
        let mut request = offer_request(call, sdp);
        if !key.is_empty() {
            request[key] = value;
        }
        self.signal(&request, PATIENCE)
    }

    /// An answer with an SDP of one's own.
    pub fn answer_sdp(&self, call: &str, sdp: &str) -> Result<SocketAddr, String> {
        self.signal(&answer_request(call, sdp), PATIENCE)
    }

    /// Offer and answer of a whole call.
    pub fn call(&self, call: &str, caller: SocketAddr, callee: SocketAddr) -> Sides {
        let failed = |e| panic!("call {call}: {e}");
        let callee_side = self.offer(call, caller).unwrap_or_else(failed);
        let caller_side = self.answer(call, callee).unwrap_or_else(failed);
        Sides {
            caller: caller_side,
            callee: callee_side,
        }
    }

    /// An offer or an answer; the local endpoint in what comes back.
    pub fn signal(&self, request: &Value, limit: Duration) -> Result<SocketAddr, String> {
        let reply = self.ask_within(request, limit).ok_or("no answer")?;
        if reply["result"] != "ok" {
            return Err(reply["error-reason"]
                .as_str()
                .unwrap_or("no reason")
                .to_owned());
        }
        reply["sdp"]
            .as_str()
            .and_then(media)
            .ok_or_else(|| format!("no media in {reply}"))
    }

    /// Ends a call.
    pub fn delete(&self, call: &str) -> Value {
        self.ask(&json!({"command": "delete", "call-id": call, "from-tag": "a"}))
    }

    /// Call-IDs that control knows.
    pub fn list(&self) -> Vec<String> {
        let reply = self.ask(&json!({"command": "list", "limit": 100_000}));
        let calls = reply["calls"].as_array().cloned().unwrap_or_default();
        calls
            .iter()
            .filter_map(|c| c.as_str().map(str::to_owned))
            .collect()
    }
}
