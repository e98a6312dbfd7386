//! What each way in counts.

use serde_json::{Value, json};
use std::sync::atomic::{AtomicU64, Ordering};

/// A way in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    Udp,
    Tcp,
    Http,
    WebSocket,
}

/// What happens there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// A request that may be looked at.
    Request,
    /// A request or connection of a source that is not on the list.
    Denied,
    /// A request beyond its source's rate: dropped over UDP, refused over HTTP, delayed elsewhere.
    Limited,
    /// A connection that was taken on.
    Connection,
    /// A connection beyond the limit.
    Refused,
    /// A connection that was closed for what came over it.
    Garbage,
    /// A connection that was closed because nothing came, or nothing was taken off.
    Idle,
}

const TRANSPORTS: [(Transport, &str); 4] = [
    (Transport::Udp, "udp"),
    (Transport::Tcp, "tcp"),
    (Transport::Http, "http"),
    (Transport::WebSocket, "websocket"),
];

const EVENTS: [(Event, &str); 7] = [
    (Event::Request, "requests"),
    (Event::Denied, "denied"),
    (Event::Limited, "limited"),
    (Event::Connection, "connections"),
    (Event::Refused, "refused"),
    (Event::Garbage, "garbage"),
    (Event::Idle, "idle"),
];

/// Counters of every way in, and the sizes of what strangers can make grow.
#[derive(Default)]
pub(crate) struct Doors {
    counts: [[AtomicU64; EVENTS.len()]; TRANSPORTS.len()],
    /// Requests that are remembered, lest they be carried out twice.
    cookies: AtomicU64,
}

impl Doors {
    pub(crate) fn count(&self, transport: Transport, event: Event) {
        let counters = self.counts.get(transport as usize);
        if let Some(counter) = counters.and_then(|events| events.get(event as usize)) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn set_cookies(&self, count: usize) {
        self.cookies.store(count as u64, Ordering::Relaxed);
    }

    pub(crate) fn cookies(&self) -> u64 {
        self.cookies.load(Ordering::Relaxed)
    }

    /// `{"udp":{"requests":1,...},...}`
    pub(crate) fn json(&self) -> Value {
        let transports = TRANSPORTS.iter().zip(&self.counts);
        let object = transports.map(|((_, name), counts)| {
            let events = EVENTS.iter().zip(counts);
            let events = events.map(|((_, event), count)| {
                ((*event).to_owned(), json!(count.load(Ordering::Relaxed)))
            });
            ((*name).to_owned(), Value::Object(events.collect()))
        });
        Value::Object(object.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_has_its_own_name() {
        let doors = Doors::default();
        for (n, (transport, _)) in TRANSPORTS.iter().enumerate() {
            for (m, (event, _)) in EVENTS.iter().enumerate() {
                (0..=n * 10 + m).for_each(|_| doors.count(*transport, *event));
            }
        }
        let json = doors.json();
        for (n, (_, transport)) in TRANSPORTS.iter().enumerate() {
            for (m, (_, event)) in EVENTS.iter().enumerate() {
                assert_eq!(json[transport][event], n * 10 + m + 1);
            }
        }
    }
}
