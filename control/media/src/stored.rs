//! How a field of a call is written to the store.

use penstock_sdp::socket_text;
use serde::{Serialize, Serializer};
use std::net::SocketAddr;

/// Whether a field may be left out: most of them, of most calls.
pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

pub(crate) fn is_yes(value: &bool) -> bool {
    *value
}

pub(crate) fn yes() -> bool {
    true
}

/// As serde writes it, but without `fmt`.
pub(crate) fn address<S: Serializer>(at: &Option<SocketAddr>, to: S) -> Result<S::Ok, S::Error> {
    at.map(socket_text).serialize(to)
}
