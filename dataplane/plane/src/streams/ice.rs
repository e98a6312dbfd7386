//! Streams with ICE: whose remote a connectivity check alone can set.

use super::{Refused, Streams};
use crate::slow::Latch;
use penstock_relay::learn::{self, Nomination};
use penstock_relay::route::Policy;
use penstock_relay::stun::Check;
use penstock_shm::{Event, Ice, Learn, Op, Refusal};

/// The credentials of the stream that this op sets.
pub(super) fn of(ops: &[Op], at: usize) -> Option<Ice> {
    match (ops.get(at), ops.get(at + 1)) {
        (Some(Op::Set(spec)), Some(&Op::Ice { endpoint, ice })) if endpoint == spec.endpoint => {
            Some(ice)
        }
        _ => None,
    }
}

/// Holds credentials against the streams they are for: [`Learn::Checks`] has them, nothing else does.
pub(super) fn admit(ops: &[Op]) -> Result<(), Refused> {
    for (at, op) in ops.iter().enumerate() {
        let (endpoint, is_sound) = match op {
            Op::Set(spec) => {
                let has_ice = of(ops, at).is_some();
                (spec.endpoint, (spec.learn == Learn::Checks) == has_ice)
            }
            Op::Ice { endpoint, .. } => {
                let before = at.checked_sub(1).and_then(|at| of(ops, at));
                (*endpoint, before.is_some())
            }
            Op::Feed(_) | Op::Remove(_) | Op::Acknowledge { .. } | Op::Move { .. } => continue,
        };
        if !is_sound {
            return Err((Refusal::Malformed, endpoint));
        }
    }
    Ok(())
}

/// What a stream with ICE accepts: what it did before, if its checks set that. What is signalled is one candidate of several.
/// `stands` says that its credentials are the same; otherwise media goes on as it was until the first check (RFC 8445, 9).
pub(super) fn policy(new: Policy, old: Option<&Policy>, stands: bool) -> Policy {
    let mut policy = Policy {
        remote: None,
        ..new
    };
    if let Some(old) = old.filter(|old| old.spec.learn == Learn::Checks) {
        policy.remote = old.remote;
        (policy.latched, policy.locked) = (old.latched, old.locked);
        if stands {
            (policy.rank, policy.nomination) = (old.rank, old.nomination);
        }
    }
    policy
}

impl Streams {
    /// Makes the source of a connectivity check the stream's remote, if that changes anything. Whatever else was signalled since,
    /// the check counts: it was answered.
    pub(super) fn checked(
        &mut self,
        latch: &Latch,
        ufrag: [u8; 8],
        check: &Check,
        now_ns: u64,
    ) -> Option<Event> {
        let number = latch.record;
        let mut draft = self.draft(number);
        draft.ice.filter(|ice| ice.ufrag == ufrag)?;
        let rivals = self.rivals(number, check, now_ns)?;
        let slot = self.table.slot(number);
        // What a worker that stood still kept from being done is asked again: then others may have kept theirs.
        let again = !rivals.is_empty() && slot.remote() == Some(latch.source);
        let stream = (&slot, self.table.tally(number));
        let patience = &self.rules.patience;
        let rank = learn::checked(latch.source, check, stream, patience, now_ns);
        let rank = rank.or(again.then_some(slot.rank))?;
        let policy = &mut draft.policy;
        policy.remote = Some(latch.source);
        policy.rank = rank;
        policy.nomination = match check.nominates {
            true => Nomination::new(check, now_ns),
            false => Nomination::default(),
        };
        (policy.latched, policy.locked) = (true, true);
        self.change(latch, draft, rivals, now_ns)
    }
}
