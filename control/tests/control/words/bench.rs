//! What the cases work with: control, a plane without DPDK, and calls.

use crate::common::*;
use penstock_shm::record::{Endpoint, Slot, flag, link};
use serde_json::{Value, json};
use std::cell::{Cell, RefCell};

/// Whether what a word does has come of a request. The words are those to put into it: in one of their forms, or none.
pub type Shows = fn(&Bench, &Value) -> bool;

/// A word, and how it shows.
pub struct Case {
    pub word: &'static str,
    /// Of a key: what stands under it. Of a list of codecs: the codec.
    pub value: Value,
    pub shows: Shows,
}

/// A word that needs no value.
pub fn word(word: &'static str, shows: Shows) -> Case {
    key(word, Value::Null, shows)
}

pub fn key(word: &'static str, value: impl Into<Value>, shows: Shows) -> Case {
    Case {
        word,
        value: value.into(),
        shows,
    }
}

/// The addresses that interfaces of these names have: `default`, `other`, and IPv6's `six`.
pub const OURS: &str = "203.0.113.1";
pub const OTHER: &str = "198.18.1.1";
pub const SIX: &str = "2001:db8::1";

pub struct Bench {
    pub world: World,
    pub plane: TestPlane,
    calls: RefCell<Vec<String>>,
    next: Cell<u32>,
}

/// A reply.
pub struct Told(pub Value);

impl Told {
    pub fn sdp(&self) -> &str {
        self.0["sdp"].as_str().unwrap_or_default()
    }

    /// Whether a line of its SDP begins so.
    pub fn has(&self, line: &str) -> bool {
        self.sdp().lines().any(|own| own.starts_with(line))
    }

    /// What follows the profile in its first m= line.
    pub fn formats(&self) -> String {
        let line = self.sdp().lines().find(|line| line.starts_with("m="));
        let mut words = line.unwrap_or_default().splitn(4, ' ').skip(3);
        words.next().unwrap_or_default().to_owned()
    }

    pub fn port(&self) -> u16 {
        port_of(&self.0)
    }

    pub fn is_ok(&self) -> bool {
        self.0["result"] == "ok"
    }

    /// Why it is an error; nothing if it is none.
    pub fn reason(&self) -> &str {
        self.0["error-reason"].as_str().unwrap_or_default()
    }
}

/// The request with these words: lists under one key are joined, and so are flag strings.
pub fn with(mut request: Value, words: &Value) -> Value {
    for (key, value) in words.as_object().expect("words") {
        let place = &mut request[key];
        *place = match (place.take(), value) {
            (Value::Array(mut had), Value::Array(more)) => {
                had.extend(more.iter().cloned());
                had.into()
            }
            (Value::String(had), Value::String(more)) if key == "rtpp-flags" => {
                format!("{had} {more}").into()
            }
            (_, value) => value.clone(),
        };
    }
    request
}

/// A phone's SDP with two codecs and telephone events, and more lines of its section.
pub fn phone(ip: &str, port: u16, more: &str) -> String {
    let family = if ip.contains(':') { "IP6" } else { "IP4" };
    format!(
        "v=0\r\no=phone 1 1 IN {family} {ip}\r\ns=call\r\nc=IN {family} {ip}\r\nt=0 0\r\n\
         m=audio {port} RTP/AVP 0 8 101\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\n\
         a=rtpmap:101 telephone-event/8000\r\n{more}"
    )
}

/// The caller's, and the callee's.
pub fn caller(more: &str) -> String {
    phone("10.0.0.1", 4000, more)
}

pub fn callee(more: &str) -> String {
    phone("10.0.0.2", 5000, more)
}

/// Lines of an SDP with ICE.
pub const ICE: &str = "a=ice-ufrag:abcd\r\na=ice-pwd:abcdefghijklmnopqrstuv\r\n\
                       a=candidate:1 1 UDP 2130706431 10.0.0.1 4000 typ host\r\n";

impl Bench {
    pub fn new() -> Bench {
        let mut world = World::new(4096);
        let first = "address = \"198.18.0.1/24\"";
        let more = format!(
            "{first}\n[[port.address]]\naddress = \"{OTHER}/24\"\n[[port.address]]\naddress = \"{SIX}/64\""
        );
        world.edit(first, &more);
        for (name, address) in [("other", OTHER), ("six", SIX)] {
            world.append(&format!(
                "[[control.interface]]\nname = \"{name}\"\naddress = \"{address}\"\nports = \"20000-29999\"\n"
            ));
        }
        world.append("[templates]\nwords = \"no-rtcp-attribute\"\n");
        let addresses = ["198.18.0.1", OTHER, SIX].map(|ip| ip.parse().expect("an address"));
        let plane = TestPlane::start_at(&world.region(), &addresses);
        world.start();
        world.wait_state("online");
        Bench {
            world,
            plane,
            calls: RefCell::default(),
            next: Cell::new(0),
        }
    }

    /// Runs a case; its calls end with it.
    pub fn shows(&self, case: &Case, words: &Value) -> bool {
        let shows = (case.shows)(self, words);
        for id in self.calls.take() {
            self.world
                .ng(json!({"command": "delete", "call-id": id, "flags": ["fast"]}));
        }
        shows
    }

    pub fn ask(&self, request: Value) -> Told {
        Told(self.world.ng(request))
    }

    /// A Call-ID that is deleted at the end.
    pub fn id(&self) -> String {
        let next = self.next.get();
        self.next.set(next + 1);
        let id = format!("words-{next}");
        self.calls.borrow_mut().push(id.clone());
        id
    }

    pub fn offer(&self, id: &str, body: &str, words: &Value) -> Told {
        let request = json!({"command": "offer", "call-id": id, "from-tag": "a", "sdp": body});
        self.ask(with(request, words))
    }

    pub fn answer(&self, id: &str, body: &str, words: &Value) -> Told {
        let request = json!({"command": "answer", "call-id": id, "from-tag": "a", "to-tag": "b",
            "sdp": body});
        self.ask(with(request, words))
    }

    /// A first offer with these words.
    pub fn offered(&self, body: &str, words: &Value) -> Told {
        self.offer(&self.id(), body, words)
    }

    /// An answer with these words to a plain offer.
    pub fn answered(&self, offer: &str, answer: &str, words: &Value) -> Told {
        let id = self.id();
        assert!(self.offer(&id, offer, &json!({})).is_ok());
        self.answer(&id, answer, words)
    }

    /// A plain answer to an offer with these words; both replies.
    pub fn call(&self, offer: &str, answer: &str, words: &Value) -> [Told; 2] {
        let id = self.id();
        let told = self.offer(&id, offer, words);
        [told, self.answer(&id, answer, &json!({}))]
    }

    /// A plain call that stands.
    pub fn stands(&self) -> String {
        let id = self.id();
        assert!(self.offer(&id, &caller(""), &json!({})).is_ok());
        assert!(self.answer(&id, &callee(""), &json!({})).is_ok());
        id
    }

    /// A command to a call, with these words.
    pub fn to(&self, id: &str, command: &str, words: &Value) -> Told {
        self.ask(with(json!({"command": command, "call-id": id}), words))
    }

    pub fn query(&self, id: &str) -> Value {
        self.ask(json!({"command": "query", "call-id": id})).0
    }

    /// The stream at a port of the first address.
    pub fn at(&self, port: u16) -> Slot {
        self.plane.slot(port)
    }

    /// The RTP stream that has what a leg sends, and its port.
    pub fn stream(&self, id: &str, tag: &str) -> (u16, Slot) {
        let query = self.query(id);
        let stream = &query["tags"][tag]["medias"][0]["streams"][0];
        let port = stream["local port"].as_u64().expect("a port") as u16;
        (port, self.at(port))
    }

    pub fn slot(&self, id: &str, tag: &str) -> Slot {
        self.stream(id, tag).1
    }

    /// The slot of the caller's stream after an offer with these words.
    pub fn heard(&self, body: &str, words: &Value) -> Slot {
        let id = self.id();
        assert!(self.offer(&id, body, words).is_ok());
        self.slot(&id, "a")
    }

    /// Subscribes to a call; returns the reply.
    pub fn subscribed(&self, id: &str, words: &Value) -> Told {
        let request = json!({"from-tag": "a", "to-tag": "s"});
        self.to(id, "subscribe request", &with(request, words))
    }

    /// Somebody publishes in the call.
    pub fn published(&self, id: &str, words: &Value) -> Told {
        let request = json!({"from-tag": "p", "sdp": phone("10.0.0.3", 6000, "a=sendonly\r\n")});
        self.to(id, "publish", &with(request, words))
    }
}

/// Nothing but telephone events passes.
pub fn only_events(slot: &Slot) -> bool {
    slot.flags & flag::STRICT_PAYLOAD != 0 && slot.payload_types == [0, 1 << (101 - 64)]
}

pub fn is_open(slot: &Slot) -> bool {
    slot.flags & flag::GATE_OPEN != 0
}

pub fn drops_events(slot: &Slot) -> bool {
    slot.links & link::DROP_EVENTS != 0
}

/// The port that what comes is sent from.
pub fn peer(slot: &Slot) -> u16 {
    Endpoint::from_bits(slot.peer_endpoint).port
}
