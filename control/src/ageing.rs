//! Ends calls whose media does not flow.
//!
//! The plane reports when a stream's timer runs out; such a report only says which call to look at. All
//! calls are looked at from time to time as well, so that a lost report leaks none. What is done is
//! decided by [`penstock_media::judge`] from the meters, and once more when it is the call's turn.

use crate::service::{Service, now};
use penstock_media::{Call, End, Health, Local, Sign, Timeouts};
use std::rc::Rc;
use std::time::Duration;
use tokio::time::Instant;

/// How often all calls are looked at, unless a timeout is shorter.
const SWEEP: Duration = Duration::from_secs(30);

/// Calls looked at before other tasks get their turn.
const BATCH: usize = 64;

/// The configuration in the media core's words.
pub(crate) fn timeouts(config: &penstock_config::Timeouts) -> Timeouts {
    let s = |s: u32| Duration::from_secs(s.into());
    Timeouts {
        start: s(config.start_s),
        silence: s(config.silence_s),
        hold: s(config.hold_s),
        one_way: s(config.one_way_s),
        one_way_ends: config.one_way_ends,
        last: s(config.final_s),
    }
}

/// The time between two sweeps: half the shortest timeout, within bounds.
fn pause(t: &Timeouts) -> Duration {
    let all = [t.start, t.silence, t.hold, t.one_way, t.last];
    let shortest = all.into_iter().filter(|limit| !limit.is_zero()).min();
    let half = shortest.unwrap_or(SWEEP) / 2;
    half.clamp(Duration::from_millis(500), SWEEP)
}

/// Looks at calls for ever.
pub(crate) async fn run(service: Rc<Service>) {
    service.resume_delays();
    let mut swept = Instant::now();
    loop {
        let due = swept + pause(&service.timeouts.get());
        tokio::select! {
            keys = service.link.reported() => look(&service, keys).await,
            () = tokio::time::sleep_until(due) => {
                let keys = service.calls.borrow().iter().map(|call| call.key).collect();
                look(&service, keys).await;
                swept = Instant::now();
            }
        }
    }
}

async fn look(service: &Rc<Service>, keys: Vec<u64>) {
    for batch in keys.chunks(BATCH) {
        for key in batch {
            service.look(*key);
        }
        tokio::task::yield_now().await;
    }
}

impl Service {
    /// Ends those dialogs of a call that were deleted with a delay.
    async fn expire(&self, key: u64) {
        let pending = self.calls.borrow().expire(key, now());
        if let Some(pending) = pending {
            tracing::debug!(call = pending.call_id, "the delay of a delete is over");
            self.remove(pending, "delete").await;
        }
    }

    /// Looks at a call once this time has passed.
    pub(crate) fn look_in(self: &Rc<Self>, key: u64, time: Duration) {
        let service = self.clone();
        tokio::task::spawn_local(async move {
            tokio::time::sleep(time).await;
            service.look(key);
        });
    }

    /// Takes over the delays of deletes that a former process was told of.
    fn resume_delays(self: &Rc<Self>) {
        let calls = self.calls.borrow();
        calls.iter().for_each(|call| self.look_when_due(call));
    }

    /// Looks at a call as the delay of each delete is over.
    pub(crate) fn look_when_due(self: &Rc<Self>, call: &Call) {
        let now_us = now().unix_us;
        for ends_us in call.dialogs.iter().filter_map(|dialog| dialog.ends_us) {
            let rest = Duration::from_micros(ends_us.saturating_sub(now_us));
            self.look_in(call.key, rest);
        }
    }

    /// Looks at one call; what has to be done is done in its lane.
    pub(crate) fn look(self: &Rc<Self>, key: u64) {
        let calls = self.calls.borrow();
        let Some(call) = calls.by_key(key) else {
            return;
        };
        if call.is_expired(now()) {
            let service = self.clone();
            return self.in_turn_of(key, async move { service.expire(key).await });
        }
        match self.health(call) {
            None => {}
            Some(Health::Well) => self.goes_both_ways(call),
            Some(Health::OneWay) => self.goes_one_way(call),
            Some(Health::Over(_)) => {
                let service = self.clone();
                self.in_turn_of(key, async move { service.end(key).await });
            }
        }
    }

    /// How a call fares; unknown while the plane does not hold what the calls want.
    fn health(&self, call: &Call) -> Option<Health> {
        let since = self.link.online_since()?;
        let sign = |local: Local| {
            let stat = self
                .link
                .stream(local)
                .filter(|stat| stat.call == call.key)?;
            let seen_ns = stat.meter.last_seen_ns;
            Some(Sign {
                since: Duration::from_nanos(stat.policy.signalled_ns.max(stat.created_ns)),
                last_seen: (seen_ns > 0).then(|| Duration::from_nanos(seen_ns)),
            })
        };
        let timeouts = self.timeouts.get();
        Some(penstock_media::judge(call, &sign, since, now(), &timeouts))
    }

    fn goes_one_way(&self, call: &Call) {
        if self.one_way.borrow_mut().insert(call.key) {
            self.stats.ageing("one-way-seen");
            tracing::info!(call = call.id, "media flows one way only");
        }
    }

    fn goes_both_ways(&self, call: &Call) {
        if self.one_way.borrow_mut().remove(&call.key) {
            tracing::info!(call = call.id, "media no longer flows one way only");
        }
    }

    /// Ends a call if it still is over.
    async fn end(&self, key: u64) {
        let health = {
            let calls = self.calls.borrow();
            calls.by_key(key).and_then(|call| self.health(call))
        };
        let Some(Health::Over(why)) = health else {
            return;
        };
        let ended = self.calls.borrow().end(key);
        let Some(pending) = ended else { return };
        self.count_end(&pending.call_id, why);
        self.remove(pending, why.name()).await;
    }

    fn count_end(&self, call_id: &str, why: End) {
        self.stats.ageing(why.name());
        tracing::info!(call = call_id, "call ended: {}", why.reason());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_timeout_is_looked_after_sooner() {
        let mut config = penstock_config::Timeouts::default();
        assert_eq!(pause(&timeouts(&config)), Duration::from_secs(15));
        config.silence_s = 4;
        assert_eq!(pause(&timeouts(&config)), Duration::from_secs(2));
        config.silence_s = 1;
        assert_eq!(pause(&timeouts(&config)), Duration::from_millis(500));
        config = penstock_config::Timeouts {
            start_s: 0,
            silence_s: 0,
            hold_s: 600,
            one_way_s: 0,
            ..config
        };
        assert_eq!(pause(&timeouts(&config)), SWEEP);
    }
}
