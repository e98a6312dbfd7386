//! Retransmissions: a client that gets no answer in time sends the same cookie again.
//!
//! A request is carried out once. While it is, a retransmission gets nothing; afterwards it
//! gets the identical bytes. Answers are kept in two generations, swapped every
//! [`GENERATION`], so that each is remembered for one to two of them. A generation that is
//! full is swapped early: memory is bounded, and a flood shortens the remembering. Cookies and
//! answers lie end to end in memory that is used again: as an allocation each, they were a tenth
//! of a request's time.
//!
//! Unlike rtpengine's, the key holds the client, by its address or its connection: one client
//! cannot read or suppress another's answer by guessing its cookie.

use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, Hash, Hasher, RandomState};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// How long a generation lasts.
pub const GENERATION: Duration = Duration::from_secs(30);

/// Most requests a generation remembers.
pub const MAX_ENTRIES: usize = 65_536;

/// Most bytes a generation takes: the memory that cookies and replies lie in, and what entries cost besides.
pub const MAX_BYTES: usize = 64 * 1024 * 1024;

/// What an entry costs beyond its cookie and reply: its place in the table.
const ENTRY_BYTES: usize = 128;

/// What cookies and replies may lie in. It does not depend on how many entries there are: memory is used again.
const MAX_TAKEN: usize = MAX_BYTES - ENTRY_BYTES * MAX_ENTRIES;

/// What is allocated at a time.
const CHUNK: usize = 256 * 1024;

/// What is known of a cookie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// Never seen: carry it out, then call [`CookieCache::finish`].
    New,
    /// Being carried out: send nothing.
    InFlight,
    /// Answered: send these bytes again.
    Answered(Vec<u8>),
}

/// The requests of the last [`GENERATION`] or two, of clients that a `P` tells apart.
#[derive(Debug)]
pub struct CookieCache<P = SocketAddr> {
    young: Generation<P>,
    old: Generation<P>,
    swapped: Instant,
    /// Where a client's cookie has its entry; nobody can choose two that share one.
    hasher: RandomState,
}

#[derive(Debug)]
struct Generation<P> {
    entries: HashMap<u64, Entry<P>, BuildHasherDefault<Hashed>>,
    bytes: Bytes,
}

/// Of a key that is a hash, the hash.
#[derive(Debug, Default)]
struct Hashed(u64);

impl Hasher for Hashed {
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(byte);
        }
    }

    fn write_u64(&mut self, key: u64) {
        self.0 = key;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[derive(Debug)]
struct Entry<P> {
    peer: P,
    cookie: Span,
    /// `None` while the request is carried out.
    reply: Option<Span>,
}

/// Byte strings, end to end.
#[derive(Debug, Default)]
struct Bytes {
    chunks: Vec<Vec<u8>>,
    /// The one that is being filled.
    current: usize,
    /// Octets of those up to it, filled or not.
    taken: usize,
}

/// Where one of them lies.
#[derive(Clone, Copy, Debug)]
struct Span {
    chunk: usize,
    start: usize,
    len: usize,
}

impl Bytes {
    /// What [`Bytes::reserve`] adds to what is taken.
    fn cost(&self, len: usize) -> usize {
        let fits = |chunk: &&Vec<u8>| chunk.capacity() - chunk.len() >= len;
        if self.chunks.get(self.current).filter(fits).is_some() {
            return 0;
        }
        let next = self.chunks.get(self.current + 1).filter(fits);
        next.map_or(len.max(CHUNK), Vec::capacity)
    }

    fn has_room(&self, len: usize) -> bool {
        self.taken + self.cost(len) <= MAX_TAKEN
    }

    /// Makes room for so many octets end to end.
    fn reserve(&mut self, len: usize) {
        let cost = self.cost(len);
        if cost == 0 {
            return;
        }
        let next = (self.current + 1).min(self.chunks.len());
        let fits = |chunk: &Vec<u8>| chunk.capacity() >= len;
        if !self.chunks.get(next).is_some_and(fits) {
            // One of the last time is too small. With those behind it kept, memory would have no bound.
            self.chunks.truncate(next);
            self.chunks.push(Vec::with_capacity(cost));
        }
        self.current = next;
        self.taken += cost;
    }

    fn push(&mut self, bytes: &[u8]) -> Span {
        self.reserve(bytes.len());
        let chunk = &mut self.chunks[self.current];
        let start = chunk.len();
        chunk.extend_from_slice(bytes);
        Span {
            chunk: self.current,
            start,
            len: bytes.len(),
        }
    }

    fn get(&self, span: Span) -> &[u8] {
        let chunk = self.chunks.get(span.chunk);
        chunk
            .and_then(|chunk| chunk.get(span.start..span.start + span.len))
            .unwrap_or_default()
    }

    /// Forgets all, and keeps as much memory as was used.
    fn clear(&mut self) {
        self.chunks.truncate(self.current + 1);
        self.chunks.iter_mut().for_each(Vec::clear);
        self.current = 0;
        self.taken = self.chunks.first().map_or(0, Vec::capacity);
    }
}

impl<P> Default for Generation<P> {
    fn default() -> Self {
        Self {
            entries: HashMap::default(),
            bytes: Bytes::default(),
        }
    }
}

impl<P: Eq> Generation<P> {
    fn get(&self, key: u64, peer: &P, cookie: &[u8]) -> Option<&Entry<P>> {
        let entry = self.entries.get(&key)?;
        (entry.peer == *peer && self.bytes.get(entry.cookie) == cookie).then_some(entry)
    }

    fn clear(&mut self) {
        let used = self.entries.len();
        self.entries.clear();
        self.entries.shrink_to(used);
        self.bytes.clear();
    }
}

impl<P: Eq + Hash> CookieCache<P> {
    /// An empty cache.
    pub fn new(now: Instant) -> Self {
        Self {
            young: Generation::default(),
            old: Generation::default(),
            swapped: now,
            hasher: RandomState::new(),
        }
    }

    /// Looks up a request as it arrives, and notes that it is being carried out if it is new.
    pub fn begin(&mut self, peer: P, cookie: &[u8], now: Instant) -> Seen {
        self.age(now);
        let key = self.key(&peer, cookie);
        for generation in [&self.young, &self.old] {
            if let Some(entry) = generation.get(key, &peer, cookie) {
                return match entry.reply {
                    None => Seen::InFlight,
                    Some(reply) => Seen::Answered(generation.bytes.get(reply).to_vec()),
                };
            }
        }
        self.insert(key, peer, cookie, None, now);
        Seen::New
    }

    /// Notes the answer to a request, to be given again for one to two [`GENERATION`]s from
    /// now. Harmless if the request has been forgotten meanwhile.
    pub fn finish(&mut self, peer: P, cookie: &[u8], reply: &[u8], now: Instant) {
        self.age(now);
        let key = self.key(&peer, cookie);
        if self.old.get(key, &peer, cookie).is_some() {
            self.old.entries.remove(&key);
        }
        let has_room = self.young.bytes.has_room(reply.len());
        if has_room && self.young.get(key, &peer, cookie).is_some() {
            let reply = self.young.bytes.push(reply);
            if let Some(entry) = self.young.entries.get_mut(&key) {
                entry.reply = Some(reply);
            }
            return;
        }
        self.young.entries.remove(&key);
        self.insert(key, peer, cookie, Some(reply), now);
    }

    /// Requests remembered.
    pub fn len(&self) -> usize {
        self.young.entries.len() + self.old.entries.len()
    }

    /// Whether nothing is remembered.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes that both generations hold, with memory that waits to be used again: twice [`MAX_BYTES`] at most, but for a message
    /// that is longer by itself.
    pub fn bytes(&self) -> usize {
        let held = |generation: &Generation<P>| {
            let chunks = generation.bytes.chunks.iter().map(Vec::capacity);
            chunks.sum::<usize>() + ENTRY_BYTES * generation.entries.len()
        };
        held(&self.young) + held(&self.old)
    }

    fn key(&self, peer: &P, cookie: &[u8]) -> u64 {
        self.hasher.hash_one((peer, cookie))
    }

    fn insert(&mut self, key: u64, peer: P, cookie: &[u8], reply: Option<&[u8]>, now: Instant) {
        let len = cookie.len() + reply.map_or(0, <[u8]>::len);
        if self.young.entries.len() >= MAX_ENTRIES || !self.young.bytes.has_room(len) {
            self.swap(now);
        }
        let bytes = &mut self.young.bytes;
        bytes.reserve(len);
        let entry = Entry {
            peer,
            cookie: bytes.push(cookie),
            reply: reply.map(|reply| bytes.push(reply)),
        };
        self.young.entries.insert(key, entry);
    }

    fn age(&mut self, now: Instant) {
        let age = now.saturating_duration_since(self.swapped);
        if age >= GENERATION {
            self.swap(now);
        }
        if age >= 2 * GENERATION {
            self.old.clear();
        }
    }

    fn swap(&mut self, now: Instant) {
        std::mem::swap(&mut self.young, &mut self.old);
        self.young.clear();
        self.swapped = now;
    }
}
