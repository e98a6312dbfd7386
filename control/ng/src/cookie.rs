//! Retransmissions: a client that gets no answer in time sends the same cookie again.
//!
//! A request is carried out once. While it is, a retransmission gets nothing; afterwards it
//! gets the identical bytes. Answers are kept in two generations, swapped every
//! [`GENERATION`], so that each is remembered for one to two of them. A generation that is
//! full is swapped early: memory is bounded, and a flood shortens the remembering.
//!
//! Unlike rtpengine's, the key holds the client, by its address or its connection: one client
//! cannot read or suppress another's answer by guessing its cookie.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a generation lasts.
pub const GENERATION: Duration = Duration::from_secs(30);

/// Most requests a generation remembers.
pub const MAX_ENTRIES: usize = 65_536;

/// Most bytes a generation takes: cookies, replies, and what an entry costs besides.
pub const MAX_BYTES: usize = 64 * 1024 * 1024;

/// What an entry costs beyond its cookie and reply: key, state and its place in the table.
const ENTRY_BYTES: usize = 128;

type Key<P> = (P, Box<[u8]>);

/// What is known of a cookie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// Never seen: carry it out, then call [`CookieCache::finish`].
    New,
    /// Being carried out: send nothing.
    InFlight,
    /// Answered: send these bytes again.
    Answered(Arc<[u8]>),
}

/// `None` while the request is carried out.
type State = Option<Arc<[u8]>>;

/// The requests of the last [`GENERATION`] or two, of clients that a `P` tells apart.
#[derive(Debug)]
pub struct CookieCache<P = SocketAddr> {
    young: Generation<P>,
    old: Generation<P>,
    swapped: Instant,
}

#[derive(Debug)]
struct Generation<P> {
    entries: HashMap<Key<P>, State>,
    bytes: usize,
}

impl<P> Default for Generation<P> {
    fn default() -> Self {
        Self {
            entries: HashMap::new(),
            bytes: 0,
        }
    }
}

impl<P: Eq + Hash> Generation<P> {
    fn insert(&mut self, key: Key<P>, state: State) {
        self.bytes += cost(&key, &state);
        self.entries.insert(key, state);
    }

    fn remove(&mut self, key: &Key<P>) {
        if let Some((key, state)) = self.entries.remove_entry(key) {
            self.bytes -= cost(&key, &state);
        }
    }
}

fn cost<P>(key: &Key<P>, state: &State) -> usize {
    ENTRY_BYTES + key.1.len() + state.as_ref().map_or(0, |reply| reply.len())
}

impl<P: Eq + Hash> CookieCache<P> {
    /// An empty cache.
    pub fn new(now: Instant) -> Self {
        Self {
            young: Generation::default(),
            old: Generation::default(),
            swapped: now,
        }
    }

    /// Looks up a request as it arrives, and notes that it is being carried out if it is new.
    pub fn begin(&mut self, peer: P, cookie: &[u8], now: Instant) -> Seen {
        self.age(now);
        let key = (peer, cookie.into());
        let known = self
            .young
            .entries
            .get(&key)
            .or_else(|| self.old.entries.get(&key));
        match known {
            Some(None) => Seen::InFlight,
            Some(Some(reply)) => Seen::Answered(reply.clone()),
            None => {
                self.insert(key, None, now);
                Seen::New
            }
        }
    }

    /// Notes the answer to a request, to be given again for one to two [`GENERATION`]s from
    /// now. Harmless if the request has been forgotten meanwhile.
    pub fn finish(&mut self, peer: P, cookie: &[u8], reply: &[u8], now: Instant) {
        self.age(now);
        let key = (peer, cookie.into());
        self.young.remove(&key);
        self.old.remove(&key);
        self.insert(key, Some(reply.into()), now);
    }

    /// Requests remembered.
    pub fn len(&self) -> usize {
        self.young.entries.len() + self.old.entries.len()
    }

    /// Whether nothing is remembered.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn insert(&mut self, key: Key<P>, state: State, now: Instant) {
        let full = self.young.entries.len() >= MAX_ENTRIES
            || self.young.bytes + cost(&key, &state) > MAX_BYTES;
        if full {
            self.swap(now);
        }
        self.young.insert(key, state);
    }

    fn age(&mut self, now: Instant) {
        let age = now.saturating_duration_since(self.swapped);
        if age >= GENERATION {
            self.swap(now);
        }
        if age >= 2 * GENERATION {
            self.old = Generation::default();
        }
    }

    fn swap(&mut self, now: Instant) {
        self.old = std::mem::take(&mut self.young);
        self.swapped = now;
    }
}
