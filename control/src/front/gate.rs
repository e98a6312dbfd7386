//! Who may ask, and how often. A pure table: the time comes in, a verdict goes out.
//!
//! A source is an IPv4 address or an IPv6 /64. Each has a bucket that holds a second's worth of requests. There
//! are [`MAX_SOURCES`] buckets; the sources beyond share one, until one that is full again can be given up.

use penstock_config::{Control, Network};
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Sources that have a bucket of their own.
pub(crate) const MAX_SOURCES: usize = 4096;

/// Requests a second of a source that is not loopback, where the configuration says nothing.
const DEFAULT_PER_S: u32 = 5000;

/// How often buckets are given up at most, when there are too many.
const SWEEP: Duration = Duration::from_secs(1);

/// What is to become of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Pass,
    /// Its source is not on the list.
    Denied,
    /// Its source asks too often; there is room for it after so long.
    Wait(Duration),
}

/// The rules in force and the sources that they are applied to.
pub(crate) struct Gate(Mutex<Inner>);

struct Inner {
    rules: Rules,
    buckets: HashMap<IpAddr, Bucket>,
    /// Of all sources that have none.
    shared: Bucket,
    swept: Instant,
}

#[derive(PartialEq)]
struct Rules {
    allow: Vec<Network>,
    per_s: Option<u32>,
}

#[derive(Clone, Copy)]
struct Bucket {
    tokens: f64,
    at: Instant,
}

impl Gate {
    pub(crate) fn new(control: &Control, now: Instant) -> Gate {
        let full = Bucket {
            tokens: f64::MAX,
            at: now,
        };
        Gate(Mutex::new(Inner {
            rules: Rules::new(control),
            buckets: HashMap::new(),
            shared: full,
            swept: now,
        }))
    }

    /// From now on these rules hold; buckets keep what they have.
    pub(crate) fn configure(&self, control: &Control) {
        self.lock().rules = Rules::new(control);
    }

    /// Whether the source is on the list; costs it nothing.
    pub(crate) fn allows(&self, ip: IpAddr) -> bool {
        self.lock().rules.allows(ip.to_canonical())
    }

    /// Takes a token for a request of the source.
    pub(crate) fn admit(&self, ip: IpAddr, now: Instant) -> Verdict {
        let ip = ip.to_canonical();
        let mut inner = self.lock();
        if !inner.rules.allows(ip) {
            return Verdict::Denied;
        }
        match inner.rules.rate(ip) {
            0 => Verdict::Pass,
            rate => inner.bucket(source(ip), rate, now).take(rate, now),
        }
    }

    /// Buckets that there are.
    pub(crate) fn sources(&self) -> usize {
        self.lock().buckets.len()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Rules {
    fn new(control: &Control) -> Rules {
        Rules {
            allow: control.allow.clone(),
            per_s: control.requests_per_s,
        }
    }

    /// Without a list only loopback may: an address that is not loopback demands one.
    fn allows(&self, ip: IpAddr) -> bool {
        match self.allow.is_empty() {
            true => ip.is_loopback(),
            false => self.allow.iter().any(|network| network.contains(ip)),
        }
    }

    fn rate(&self, ip: IpAddr) -> u32 {
        self.per_s
            .unwrap_or(if ip.is_loopback() { 0 } else { DEFAULT_PER_S })
    }
}

impl Inner {
    fn bucket(&mut self, source: IpAddr, rate: u32, now: Instant) -> &mut Bucket {
        let is_known = self.buckets.contains_key(&source);
        if !is_known && self.buckets.len() >= MAX_SOURCES && now >= self.swept + SWEEP {
            self.swept = now;
            // A bucket that has filled up since remembers nothing.
            self.buckets
                .retain(|_, bucket| now < bucket.at + Duration::from_secs(1));
        }
        if !is_known && self.buckets.len() >= MAX_SOURCES {
            return &mut self.shared;
        }
        let full = Bucket {
            tokens: rate.into(),
            at: now,
        };
        self.buckets.entry(source).or_insert(full)
    }
}

impl Bucket {
    fn take(&mut self, rate: u32, now: Instant) -> Verdict {
        let rate = f64::from(rate);
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.tokens = (self.tokens + passed * rate).min(rate);
        self.at = now;
        if self.tokens < 1.0 {
            let missing = (1.0 - self.tokens) / rate;
            return Verdict::Wait(Duration::from_secs_f64(missing));
        }
        self.tokens -= 1.0;
        Verdict::Pass
    }
}

/// What a canonical address counts as.
pub(super) fn source(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => ip,
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << 64)).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(allow: &[&str], per_s: Option<u32>) -> (Gate, Instant) {
        let now = Instant::now();
        let control = Control {
            allow: allow.iter().map(|text| text.parse().unwrap()).collect(),
            requests_per_s: per_s,
            ..Control::default()
        };
        (Gate::new(&control, now), now)
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn who_may_ask() {
        let (gate, now) = gate(&[], None);
        for (source, may) in [
            ("127.0.0.1", true),
            ("::1", true),
            ("::ffff:127.0.0.1", true),
            ("192.0.2.1", false),
            ("2001:db8::1", false),
        ] {
            assert_eq!(gate.allows(ip(source)), may, "{source}");
            assert_eq!(gate.admit(ip(source), now) == Verdict::Pass, may);
        }
        let (gate, now) = self::gate(&["192.0.2.0/24", "2001:db8::/32"], None);
        for (source, may) in [
            ("127.0.0.1", false),
            ("192.0.2.200", true),
            ("::ffff:192.0.2.1", true),
            ("192.0.3.1", false),
            ("2001:db8:7::1", true),
            ("2001:db9::1", false),
        ] {
            assert_eq!(gate.allows(ip(source)), may, "{source}");
            assert_eq!(gate.admit(ip(source), now) == Verdict::Pass, may);
        }
    }

    #[test]
    fn a_source_has_its_rate_and_no_more() {
        let (gate, now) = gate(&["0.0.0.0/0", "::/0"], Some(10));
        let passed = |source: &str, at: Instant| {
            let verdicts = (0..100).map(|_| gate.admit(ip(source), at));
            verdicts.filter(|v| *v == Verdict::Pass).count()
        };
        assert_eq!(passed("192.0.2.1", now), 10);
        assert_eq!(passed("192.0.2.2", now), 10);
        // What shares a /64 shares a bucket; loopback is limited where a rate is stated.
        assert_eq!(passed("2001:db8::1", now), 10);
        assert_eq!(passed("2001:db8::2", now), 0);
        assert_eq!(passed("2001:db8:0:1::1", now), 10);
        assert_eq!(passed("127.0.0.1", now), 10);
        let wait = Duration::from_millis(100);
        assert_eq!(gate.admit(ip("192.0.2.1"), now), Verdict::Wait(wait));
        assert_eq!(passed("192.0.2.1", now + 3 * wait), 3);
        assert_eq!(passed("192.0.2.1", now + 100 * wait), 10);
    }

    #[test]
    fn a_rate_that_is_not_stated_leaves_loopback_alone() {
        let (gate, now) = gate(&["0.0.0.0/0"], None);
        let passed = |source: &str| {
            let verdicts = (0..9000).map(|_| gate.admit(ip(source), now));
            verdicts.filter(|v| *v == Verdict::Pass).count()
        };
        assert_eq!(passed("127.0.0.1"), 9000);
        assert_eq!(passed("192.0.2.1"), 5000);
        assert_eq!(gate.sources(), 1);
    }

    #[test]
    fn the_table_is_bounded_and_forgets() {
        let (gate, now) = gate(&["0.0.0.0/0"], Some(10));
        let flood = |at: Instant| {
            let sources = (0..20_000_u32).map(|n| IpAddr::from((0x0a00_0000 + n).to_be_bytes()));
            let verdicts = sources.map(|source| gate.admit(source, at));
            verdicts.filter(|v| *v == Verdict::Pass).count()
        };
        assert_eq!(flood(now), MAX_SOURCES + 10);
        assert_eq!(gate.sources(), MAX_SOURCES);
        // Those that are known are served as before, and the old give way to the new.
        assert_eq!(gate.admit(ip("10.0.0.1"), now), Verdict::Pass);
        let later = now + Duration::from_secs(2);
        assert_eq!(gate.admit(ip("192.0.2.1"), later), Verdict::Pass);
        assert_eq!(gate.sources(), 1);
    }
}
