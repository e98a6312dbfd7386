//! ICE credentials of an endpoint.

use crate::sync::{AtomicU64, Ordering};
use std::fmt;

/// Our credentials of an endpoint (RFC 8445, 5.3), at which the plane is a lite agent: who checks connectivity with them
/// is answered, and is where media goes and comes from.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Ice {
    /// User name fragment: ice-chars.
    pub ufrag: [u8; 8],
    /// Password: ice-chars.
    pub pwd: [u8; 24],
}

impl Ice {
    /// None at all.
    pub(crate) const NONE: Ice = Ice {
        ufrag: [0; 8],
        pwd: [0; 24],
    };

    /// Whether all octets are ice-chars (RFC 8839, 5.4).
    pub fn is_sound(&self) -> bool {
        let is_ice_char = |c: &u8| c.is_ascii_alphanumeric() || matches!(c, b'+' | b'/');
        self.ufrag.iter().chain(&self.pwd).all(is_ice_char)
    }
}

/// Without the password, which is nobody's to read in a message.
impl fmt::Debug for Ice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ice({})", self.ufrag.escape_ascii())
    }
}

/// Words of the credentials. To the model one is as good as four, which it would not come to an end with.
const WORDS: usize = if cfg!(loom) { 1 } else { 4 };

/// The credentials that go with a record's two slots: each changes with its slot.
#[derive(Default)]
#[repr(C, align(64))]
pub(crate) struct IceCells {
    pub(crate) words: [[AtomicU64; WORDS]; 2],
}

impl IceCells {
    /// Those of the slot with this low bit, which no worker sees: the steward's.
    pub(crate) fn store(&self, slot: u32, ice: Option<&Ice>) {
        let Ice { ufrag, pwd } = ice.unwrap_or(&Ice::NONE);
        let (parts, _) = pwd.as_chunks::<8>();
        let values = std::iter::once(ufrag).chain(parts);
        for (word, value) in self.words[slot as usize & 1].iter().zip(values) {
            word.store(u64::from_ne_bytes(*value), Ordering::Relaxed);
        }
    }

    /// Those of the slot with this low bit, if it has any.
    pub(crate) fn load(&self, slot: u32) -> Option<Ice> {
        let word = |at: &AtomicU64| at.load(Ordering::Relaxed).to_ne_bytes();
        let (words, mut ice) = (&self.words[slot as usize & 1], Ice::NONE);
        let (parts, _) = ice.pwd.as_chunks_mut::<8>();
        let places = std::iter::once(&mut ice.ufrag).chain(parts);
        for (place, at) in places.zip(words) {
            *place = word(at);
        }
        Some(ice).filter(|ice| *ice != Ice::NONE)
    }
}
