//! Streams that stand for one another: candidates of one agent (RFC 8445) at several addresses of the plane. At most one of
//! them has a remote, or, of an agent that checks nothing, each has the one that signalling named; who sends to the first of
//! them, its alternates' home, leaves by the one of highest rank.

use super::{Draft, Drafts, Streams};
use penstock_relay::learn;
use penstock_relay::route::Policy;
use penstock_relay::stun::Check;
use penstock_shm::record::rank;
use penstock_shm::{Endpoint, Feed, Op};

/// Whether the stream that this op sets is to be an alternate.
pub(super) fn is_one(ops: &[Op], at: usize) -> bool {
    let (Some(Op::Set(spec)), Some(Op::Feed(feeding))) = (ops.get(at), ops.get(at + 1)) else {
        return false;
    };
    feeding.endpoint == spec.endpoint && matches!(feeding.feed, Feed::AltOf(_))
}

/// By which stream one sends to an endpoint's remote.
pub(super) struct Exit {
    pub(super) number: u32,
    pub(super) endpoint: Endpoint,
    pub(super) policy: Policy,
}

impl Streams {
    /// The endpoint that a stream's stands for: its own, or that of which it is an alternate.
    pub(super) fn home(&self, number: u32) -> Endpoint {
        let home = self.feeds.home(number);
        home.unwrap_or_else(|| self.endpoint(number))
    }

    /// The stream at an endpoint, and its alternates.
    pub(super) fn group(&self, home: Endpoint) -> impl Iterator<Item = u32> {
        let all = std::iter::once(home).chain(self.feeds.alternates(home));
        all.filter_map(|endpoint| self.table.find(endpoint))
    }

    /// Of the stream at that endpoint and its alternates the one of highest rank that has a remote; the first of equals, or
    /// if none has any.
    pub(super) fn exit(&self, home: Endpoint, drafts: &Drafts) -> Option<Exit> {
        // Alternates alone are no agent: the first one will come back, or they will go.
        self.table.find(home)?;
        let policy = |number: u32| {
            let draft = drafts.get(&number).copied();
            draft.unwrap_or_else(|| self.draft(number)).policy
        };
        let all = self.group(home).map(|number| Exit {
            number,
            endpoint: self.endpoint(number),
            policy: policy(number),
        });
        let worth = |exit: &Exit| exit.policy.remote.map(|_| exit.policy.rank);
        all.reduce(|best, next| match worth(&next) > worth(&best) {
            true => next,
            false => best,
        })
    }

    /// The others of the stream's group that have a remote, as they are without it; `None` if that is not to be changed:
    /// checks that nominate nothing take it from nobody whom checks of the present credentials gave it, those that do from
    /// nobody who holds it. Where the other agent's priority is the same, that of the home is higher than its alternates'.
    pub(super) fn rivals(&self, number: u32, check: &Check, now_ns: u64) -> Option<Drafts> {
        let home = self.home(number);
        let is_home = self.endpoint(number) == home;
        let others = self.group(home).filter(|no| *no != number);
        let mut rivals = Drafts::new();
        for other in others {
            let mut draft: Draft = self.draft(other);
            let policy = &mut draft.policy;
            if policy.remote.is_none() {
                continue;
            }
            let (slot, tally) = (self.table.slot(other), self.table.tally(other));
            let is_kept = match check.nominates {
                true => {
                    let priority = check.priority.saturating_add(is_home.into());
                    learn::holds((&slot, tally), priority, &self.rules.patience, now_ns)
                }
                false => policy.rank >= rank::CHECKED,
            };
            if is_kept {
                return None;
            }
            policy.remote = None;
            policy.rank = rank::NONE;
            policy.nomination = Default::default();
            (policy.latched, policy.locked) = (false, false);
            rivals.insert(other, draft);
        }
        Some(rivals)
    }
}
