//! Places for connections: so many in all, and of them so many for one source.

use super::gate::source;
use super::{MAX_CONNECTIONS, MAX_FROM_ONE};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

/// The places that are taken, by source as [`Gate`](super::Gate) tells them apart.
#[derive(Default)]
pub(super) struct Places(Mutex<HashMap<IpAddr, usize>>);

/// A place; dropped, it is free again.
pub(super) struct Place {
    source: IpAddr,
    places: Arc<Places>,
}

impl Places {
    /// Takes a place for a connection of `ip`; `None` if there is none, or the source has its share.
    pub(super) fn take(self: &Arc<Self>, ip: IpAddr) -> Option<Place> {
        let source = source(ip.to_canonical());
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if taken.values().sum::<usize>() >= MAX_CONNECTIONS
            || taken.get(&source).is_some_and(|own| *own >= MAX_FROM_ONE)
        {
            return None;
        }
        *taken.entry(source).or_default() += 1;
        drop(taken);
        Some(Place {
            source,
            places: self.clone(),
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let taken = &self.places.0;
        let mut taken = taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = taken.get_mut(&self.source) {
            *own -= 1;
        }
        taken.retain(|_, own| *own > 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_has_its_share_and_leaves_the_rest() {
        let places: Arc<Places> = Arc::default();
        let take = |ip: &str| {
            let ip = ip.parse().unwrap();
            let taken = std::iter::from_fn(|| places.take(ip)).take(2 * MAX_CONNECTIONS);
            taken.collect::<Vec<_>>()
        };
        let one = take("192.0.2.1");
        assert_eq!(one.len(), MAX_FROM_ONE);
        assert!(take("::ffff:192.0.2.1").is_empty());
        let six = take("2001:db8::1");
        assert_eq!(six.len(), MAX_FROM_ONE.min(MAX_CONNECTIONS - one.len()));
        assert!(take("2001:db8::2").is_empty());
        assert!(take("192.0.2.2").is_empty());
        drop(one);
        assert_eq!(take("192.0.2.2").len(), MAX_FROM_ONE);
        assert_eq!(places.0.lock().unwrap().len(), 1);
    }
}
