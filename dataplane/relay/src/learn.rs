//! Whose packets a stream takes: learning a source, locking it, and what may move the lock.
//!
//! | state of the slot | passes | ends |
//! | --- | --- | --- |
//! | fresh: nothing came | by [`Learn`] | with the first source adopted |
//! | learning: LATCHED, not LOCKED | the adopted source, or a better one | when the window has passed, in time or in packets, or a source is certain |
//! | LOCKED | the remote alone | by new signalling, after long silence, or by a hand-over |
//!
//! A stream with ICE ([`Learn::Checks`]) takes nobody's word: see [`checked`].
//!
//! A worker decides on the packet and asks the steward to adopt or to lock ([`Ask`]); the steward alone changes the slot.

use crate::stun::Check;
use penstock_shm::counters::Drop;
use penstock_shm::record::{Learn, Slot, digest_address, digest_ip, flag, rank};
use penstock_shm::tally::Tally;
use std::net::{IpAddr, SocketAddr};

/// What a packet's source has the worker ask of the steward.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// Make it the stream's remote.
    Adopt {
        /// Of [`rank`].
        rank: u8,
        /// And take no other from now on.
        lock: bool,
    },
    /// It is the stream's remote: take no other from now on.
    Lock,
    /// A connectivity check verified: see [`checked`].
    Check {
        /// Which credentials it had: other ones may have come meanwhile.
        ufrag: [u8; 8],
        /// What it said.
        check: Check,
    },
}

/// How long sources may take to move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// A locked stream that was silent for so long learns anew, ns; 0 for never.
    pub relearn_ns: u64,
    /// A stream that follows its source (media-handover) does so after a silence of so long, ns.
    pub handover_ns: u64,
}

impl Default for Patience {
    /// What the defaults file says.
    fn default() -> Self {
        Patience {
            relearn_ns: 30_000_000_000,
            handover_ns: 200_000_000,
        }
    }
}

/// How credible a source is, of [`rank`].
fn rank_of(source: SocketAddr, slot: &Slot) -> u8 {
    let address = digest_address(source);
    let ip = digest_ip(source.ip());
    let is_hinted = slot.hint == ip;
    // The remote is or was locked, unless it is merely the best of a window.
    let is_locked = slot.flags & flag::LOCKED != 0;
    let was_locked = slot.flags & flag::LATCHED != 0 && (is_locked || slot.rank == rank::NONE);
    let has_known_ip = was_locked && slot.remote().is_some_and(|known| known.ip() == source.ip());
    if address == slot.signalled {
        rank::SIGNALLED
    } else if address == slot.known {
        match slot.flags & flag::FORMER {
            0 => rank::KNOWN,
            _ => rank::FORMER,
        }
    } else if ip == slot.signalled_ip || is_hinted || has_known_ip {
        rank::ADDRESS
    } else if source.port().to_be_bytes() == slot.signalled_port {
        rank::PORT
    } else {
        rank::ANY
    }
}

/// Of what priority the remote of a stream with ICE was nominated, and when.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Nomination {
    /// [`Check::priority`].
    pub priority: u32,
    /// Units of 2^20 ns of CLOCK_MONOTONIC.
    pub at: u32,
}

impl Nomination {
    /// One at `now_ns`.
    pub fn new(check: &Check, now_ns: u64) -> Nomination {
        Nomination {
            priority: check.priority,
            at: (now_ns >> 20) as u32,
        }
    }

    /// That of a slot with [`Learn::Checks`].
    pub fn of(slot: &Slot) -> Nomination {
        Nomination {
            priority: slot.learn_until,
            at: slot.known,
        }
    }

    fn age_ns(self, now_ns: u64) -> u64 {
        let age = ((now_ns >> 20) as u32).wrapping_sub(self.at);
        u64::from(age) << 20
    }
}

/// How long a nomination stands though nothing comes from its pair, ns: until checks have been made of all others. RFC 7675
/// asks for consent as often.
const FRESH_NS: u64 = 5_000_000_000;

/// What a source of a stream with ICE becomes by a connectivity check that verified, of [`rank`]; `None` if nothing changes.
///
/// The first one is the remote at once, so that media need not wait for a nomination; from then on only nominations count, and
/// of these the one of highest priority (RFC 8445, 8.1.1), so that an agent that nominates with every check (RFC 5245,
/// 8.1.1.2) does not move media with each. One that [`holds`] no longer gives way to any: an agent whose network has changed
/// cannot choose a better one. While nothing else says that it is in use, its own checks renew it.
pub fn checked(
    source: SocketAddr,
    check: &Check,
    (slot, tally): (&Slot, &Tally),
    patience: &Patience,
    now_ns: u64,
) -> Option<u8> {
    let rank = match check.nominates {
        true => rank::NOMINATED,
        false => rank::CHECKED,
    };
    let own = Nomination::of(slot);
    let renews = || {
        let is_old = own.age_ns(now_ns) >= FRESH_NS / 2;
        check.nominates && is_old && is_silent(tally, patience, now_ns)
    };
    let changes = match slot.remote() == Some(source) {
        true => slot.rank < rank || renews(),
        false if !check.nominates => slot.rank < rank::CHECKED,
        false => !holds((slot, tally), check.priority, patience, now_ns),
    };
    changes.then_some(rank)
}

/// Whether the remote of a stream with ICE stands against a nomination of this priority: it was nominated itself, with
/// no lower one, and it is in use, or may yet be. Of a pair's two priorities the other agent's is the lower one, since that is of
/// a peer-reflexive candidate (RFC 8445, 7.1.1) and ours of a host candidate, and so the one that counts (RFC 8445, 6.1.2.3).
pub fn holds(
    (slot, tally): (&Slot, &Tally),
    priority: u32,
    patience: &Patience,
    now_ns: u64,
) -> bool {
    let own = Nomination::of(slot);
    let is_used = || own.age_ns(now_ns) < FRESH_NS || !is_silent(tally, patience, now_ns);
    slot.rank == rank::NOMINATED && own.priority >= priority && is_used()
}

/// Whether nothing has come of a stream for the time of a hand-over.
fn is_silent(tally: &Tally, patience: &Patience, now_ns: u64) -> bool {
    now_ns.saturating_sub(tally.meter.last_seen_ns.get()) >= patience.handover_ns
}

/// Decides on a source that is not the one the stream is locked to.
pub(crate) fn admit(
    source: SocketAddr,
    slot: &Slot,
    tally: &Tally,
    patience: &Patience,
    now_ns: u64,
) -> Result<Option<Ask>, Drop> {
    let learn = Learn::from_u8(slot.learn).unwrap_or(Learn::Off);
    if matches!(learn, Learn::Off | Learn::Checks) || !crate::route::is_unicast(&source) {
        return Err(Drop::Source);
    }
    let rank = rank_of(source, slot);
    let certain = rank >= rank::KNOWN;
    let silent_ns = now_ns.saturating_sub(tally.meter.last_seen_ns.get());
    if slot.flags & flag::LOCKED != 0 {
        // A lock that nothing has passed yet is as old as its signalling.
        let silent_ns = silent_ns.min(now_ns.saturating_sub(slot.signalled_ns));
        let follows = slot.flags & flag::HANDOVER != 0 && silent_ns >= patience.handover_ns;
        let anew = patience.relearn_ns != 0 && silent_ns >= patience.relearn_ns;
        // Who was no more credible himself gives way to anybody.
        let credible = rank >= rank::ADDRESS || slot.rank != rank::NONE && rank >= slot.rank;
        return match (follows, anew && credible) {
            (true, _) => Ok(Some(Ask::Adopt { rank, lock: true })),
            (false, true) => Ok(Some(Ask::Adopt {
                rank,
                lock: certain,
            })),
            (false, false) => Err(Drop::Source),
        };
    }
    // The source that was locked before has time to speak again: RTCP does so every five seconds, silence
    // suppression hardly at all.
    let has_known = slot.known != 0 && slot.flags & flag::FORMER == 0;
    let is_known_gone = patience.relearn_ns != 0 && silent_ns >= patience.relearn_ns;
    if has_known && !is_known_gone && rank < rank::ADDRESS {
        return Err(Drop::Source);
    }
    let is_remote = slot.flags & flag::LATCHED != 0 && slot.remote() == Some(source);
    let over = || {
        let packets = tally.meter.packets.get() as u32;
        // A stranger must not hurry the end of the window.
        let counts = learn == Learn::Delayed || slot.rank >= rank::ADDRESS;
        counts && packets.wrapping_sub(slot.learn_until) as i32 >= 0
    };
    match learn {
        Learn::Off | Learn::Checks => Err(Drop::Source),
        // Once there was a source, new signalling must not let the first comer in.
        Learn::Immediate if slot.known == 0 && !is_remote => {
            Ok(Some(Ask::Adopt { rank, lock: true }))
        }
        Learn::Delayed if is_remote => Ok(over().then_some(Ask::Lock)),
        Learn::Delayed => Ok(Some(Ask::Adopt { rank, lock: false })),
        _ if is_remote => Ok((certain || over()).then_some(Ask::Lock)),
        _ if rank > slot.rank => Ok(Some(Ask::Adopt {
            rank,
            lock: certain,
        })),
        _ => Err(Drop::Source),
    }
}

/// Which sources may send at all: lists of networks. What no list names may.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sources {
    /// If there are any, no other network may send.
    pub allow: Vec<Network>,
    /// These may not, even if the list above names them.
    pub deny: Vec<Network>,
}

/// A network: an address and how many of its leading bits count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    /// Any address of it.
    pub ip: IpAddr,
    /// Prefix length, bits.
    pub len: u8,
}

impl Network {
    /// Whether the address is of this network.
    pub fn contains(&self, ip: IpAddr) -> bool {
        let differing = match (self.ip, ip) {
            (IpAddr::V4(a), IpAddr::V4(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros(),
            (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros(),
            _ => return false,
        };
        differing >= u32::from(self.len)
    }
}

impl Sources {
    /// Whether the lists let this source send.
    pub fn admit(&self, ip: IpAddr) -> bool {
        let named = |list: &[Network]| list.iter().any(|network| network.contains(ip));
        !named(&self.deny) && (self.allow.is_empty() || named(&self.allow))
    }
}
