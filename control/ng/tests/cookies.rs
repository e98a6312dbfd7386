//! Retransmissions.

use penstock_ng::{CookieCache, GENERATION, MAX_BYTES, MAX_ENTRIES, Seen};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

const MS: Duration = Duration::from_millis(1);

fn peer(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

fn answered(reply: &[u8]) -> Seen {
    Seen::Answered(reply.into())
}

#[test]
fn carried_out_once_then_the_identical_bytes() {
    let now = Instant::now();
    let mut cache = CookieCache::new(now);
    assert!(cache.is_empty());
    assert_eq!(cache.begin(peer(1), b"c", now), Seen::New);
    assert_eq!(cache.begin(peer(1), b"c", now), Seen::InFlight);
    cache.finish(peer(1), b"c", b"c reply", now);
    assert_eq!(cache.begin(peer(1), b"c", now), answered(b"c reply"));
    assert_eq!(cache.begin(peer(1), b"d", now), Seen::New, "another cookie");
    assert_eq!(cache.begin(peer(2), b"c", now), Seen::New, "another client");
    assert_eq!(cache.len(), 3);
}

#[test]
fn remembered_for_one_to_two_generations() {
    let start = Instant::now();
    for begun in [Duration::ZERO, GENERATION / 2, GENERATION - MS] {
        let mut cache = CookieCache::new(start);
        let begun = start + begun;
        cache.begin(peer(1), b"c", begun);
        cache.finish(peer(1), b"c", b"r", begun);
        // Other traffic turns the generations meanwhile.
        cache.begin(peer(2), b"other", start + GENERATION);
        let last = begun + GENERATION;
        assert_eq!(cache.begin(peer(1), b"c", last - MS), answered(b"r"));
        assert_eq!(
            cache.begin(peer(1), b"c", start + 2 * GENERATION),
            Seen::New
        );
    }
}

#[test]
fn a_silent_minute_forgets_everything() {
    let start = Instant::now();
    let mut cache = CookieCache::new(start);
    cache.begin(peer(1), b"c", start);
    cache.finish(peer(1), b"c", b"r", start);
    assert_eq!(
        cache.begin(peer(1), b"c", start + 2 * GENERATION),
        Seen::New
    );
    assert_eq!(cache.len(), 1);
}

#[test]
fn a_slow_request_is_remembered_from_its_answer_on() {
    let start = Instant::now();
    let mut cache = CookieCache::new(start);
    cache.begin(peer(1), b"slow", start);
    let later = start + GENERATION + MS;
    assert_eq!(
        cache.begin(peer(1), b"slow", later),
        Seen::InFlight,
        "still in the old generation"
    );
    cache.finish(peer(1), b"slow", b"r", later);
    assert_eq!(cache.len(), 1, "moved, not copied");
    let turned = later + GENERATION;
    assert_eq!(cache.begin(peer(1), b"slow", turned), answered(b"r"));
    assert_eq!(cache.len(), 1);
    // An answer to a request long forgotten is remembered all the same.
    cache.finish(peer(1), b"gone", b"g", turned);
    assert_eq!(cache.begin(peer(1), b"gone", turned), answered(b"g"));
}

#[test]
fn a_clock_that_steps_back_does_no_harm() {
    let start = Instant::now() + GENERATION;
    let mut cache = CookieCache::new(start);
    cache.begin(peer(1), b"c", start - GENERATION);
    assert_eq!(cache.begin(peer(1), b"c", start), Seen::InFlight);
}

#[test]
fn entries_are_bounded() {
    let now = Instant::now();
    let mut cache = CookieCache::new(now);
    let total = 3 * MAX_ENTRIES + 10;
    for n in 0..total {
        assert_eq!(cache.begin(peer(1), &n.to_be_bytes(), now), Seen::New);
        assert!(cache.len() <= 2 * MAX_ENTRIES);
    }
    assert_eq!(
        cache.begin(peer(1), &(total - 1).to_be_bytes(), now),
        Seen::InFlight,
        "the last is known"
    );
    assert_eq!(
        cache.begin(peer(1), &0_usize.to_be_bytes(), now),
        Seen::New,
        "the first is forgotten"
    );
}

#[test]
fn bytes_are_bounded() {
    let now = Instant::now();
    let mut cache = CookieCache::new(now);
    let bounded = |cache: &CookieCache| {
        let bytes = cache.bytes();
        assert!(bytes <= 2 * MAX_BYTES, "{bytes} bytes");
    };
    // Short ones leave ends of memory unused, long ones need more than those before them left.
    for len in [1, 60_000, 140_000, 1, 300_000, 600_000, 60_000] {
        let reply = vec![0; len];
        for n in 0..MAX_BYTES / len.max(1000) * 5 / 2 {
            cache.finish(peer(1), &n.to_be_bytes(), &reply, now);
            bounded(&cache);
        }
    }
    let reply = vec![0; 60_000];
    let fit = MAX_BYTES / reply.len();
    // What is answered over and over counts each time, and never beyond the bound.
    for _ in 0..3 * fit {
        cache.finish(peer(1), b"again", &reply, now);
        assert!(cache.len() <= 2 * fit);
        bounded(&cache);
    }
    assert_eq!(cache.begin(peer(1), b"again", now), answered(&reply));
    assert!(cache.len() <= 2);
}

#[test]
fn memory_is_used_again_for_messages_of_any_length() {
    let mut now = Instant::now();
    let mut cache = CookieCache::new(now);
    for turn in 0..6_usize {
        let len = |n: usize| (n * 7919 * (turn + 1)) % 600_000;
        for n in 0..40_usize {
            let cookie = n.to_be_bytes();
            assert_eq!(cache.begin(peer(1), &cookie, now), Seen::New);
            cache.finish(peer(1), &cookie, &vec![n as u8; len(n)], now);
        }
        for n in 0..40_usize {
            let reply = vec![n as u8; len(n)];
            assert_eq!(
                cache.begin(peer(1), &n.to_be_bytes(), now),
                answered(&reply)
            );
        }
        now += 2 * GENERATION;
    }
}
