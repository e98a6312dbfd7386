//! Permits for connections: whoever has more of them than are free gets none, and some are kept for loopback.
//!
//! So one source has half at most, a second one half of what that left, and however many a few of them take, there are
//! permits for another. Who holds some keeps them.

use super::gate::source;
use super::{KEPT_FOR_LOOPBACK, MAX_CONNECTIONS};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

/// The permits that are taken.
#[derive(Default)]
pub(super) struct Permits(Mutex<Taken>);

#[derive(Default)]
struct Taken {
    /// By source as [`Gate`](super::Gate) tells them apart.
    by_source: HashMap<IpAddr, usize>,
    all: usize,
    /// Those of loopback.
    loopback: usize,
}

/// A permit; dropped, it is free again.
pub(super) struct Permit {
    source: IpAddr,
    is_loopback: bool,
    permits: Arc<Permits>,
}

impl Permits {
    /// Takes a permit for a connection of `ip`; `None` if there is none for it.
    pub(super) fn take(self: &Arc<Self>, ip: IpAddr) -> Option<Permit> {
        let ip = ip.to_canonical();
        let (source, is_loopback) = (source(ip), ip.is_loopback());
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let own = taken.by_source.get(&source).copied().unwrap_or(0);
        let free = MAX_CONNECTIONS - taken.all;
        let may = match is_loopback {
            true => free > own || free > 0 && taken.loopback < KEPT_FOR_LOOPBACK,
            false => free.saturating_sub(KEPT_FOR_LOOPBACK.saturating_sub(taken.loopback)) > own,
        };
        if !may {
            return None;
        }
        taken.by_source.insert(source, own + 1);
        taken.all += 1;
        taken.loopback += usize::from(is_loopback);
        drop(taken);
        Some(Permit {
            source,
            is_loopback,
            permits: self.clone(),
        })
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let taken = &self.permits.0;
        let mut taken = taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.all -= 1;
        taken.loopback -= usize::from(self.is_loopback);
        if let Some(own) = taken.by_source.get_mut(&self.source) {
            *own -= 1;
            if *own == 0 {
                taken.by_source.remove(&self.source);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All that a source gets when it asks again and again.
    fn flood(permits: &Arc<Permits>, ip: &str) -> Vec<Permit> {
        let ip = ip.parse().unwrap();
        let taken = std::iter::from_fn(|| permits.take(ip));
        taken.take(2 * MAX_CONNECTIONS).collect()
    }

    const STRANGERS: usize = MAX_CONNECTIONS - KEPT_FOR_LOOPBACK;

    #[test]
    fn a_source_has_half_of_what_the_others_left() {
        let permits: Arc<Permits> = Arc::default();
        let one = flood(&permits, "192.0.2.1");
        assert_eq!(one.len(), STRANGERS / 2);
        assert!(flood(&permits, "::ffff:192.0.2.1").is_empty());
        let six = flood(&permits, "2001:db8::1");
        assert_eq!(six.len(), STRANGERS / 4);
        assert!(flood(&permits, "2001:db8::2").is_empty());
        let third = flood(&permits, "192.0.2.3");
        assert_eq!(third.len(), STRANGERS / 8);
        // Who has permits keeps them; what is given back is for whoever has fewest.
        drop(one);
        assert!(!flood(&permits, "192.0.2.4").is_empty());
        drop((six, third));
        assert_eq!(flood(&permits, "192.0.2.2").len(), STRANGERS / 2);
        let taken = permits.0.lock().unwrap();
        assert_eq!(
            (taken.by_source.len(), taken.all, taken.loopback),
            (0, 0, 0)
        );
    }

    #[test]
    fn strangers_leave_loopback_its_places() {
        let permits: Arc<Permits> = Arc::default();
        let mut strangers = Vec::new();
        for n in 1..=255_u8 {
            strangers.extend(flood(&permits, &format!("192.0.2.{n}")));
        }
        assert_eq!(strangers.len(), STRANGERS);
        let own = flood(&permits, "127.0.0.1");
        assert_eq!(own.len(), KEPT_FOR_LOOPBACK);
        assert!(flood(&permits, "::1").is_empty());
        drop(own);
        assert_eq!(flood(&permits, "::1").len(), KEPT_FOR_LOOPBACK);
        // Where nobody else is it has more, and what it has counts as kept for it.
        drop(strangers);
        let own = flood(&permits, "127.0.0.1");
        assert_eq!(own.len(), MAX_CONNECTIONS / 2);
        assert_eq!(flood(&permits, "192.0.2.1").len(), MAX_CONNECTIONS / 4);
    }
}
