//! How long media may not flow: the rule by which a call is taken for dead.
//!
//! A packet is *expected* of a stream when both legs have sent a body and the stream's gate is open;
//! of any other stream (on hold, or nobody has answered yet) silence is normal, for as long as
//! [`Timeouts::hold`]. A call ends when none of its streams flows any more. RTCP does not count.
//! Whatever changes what is expected starts the clock anew: a new body, the stream's installation,
//! and the moment since which the plane has been at work.

use crate::call::{Call, Dialog, Media};
use crate::partner::LegMedia;
use crate::{Local, Now};
use std::time::Duration;

/// What lasts long enough to be acted upon; zero is never.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Without a packet from the start, where one is expected.
    pub start: Duration,
    /// Since the last packet, where one is expected.
    pub silence: Duration,
    /// Either, where none is expected.
    pub hold: Duration,
    /// Packets one way only, where both are expected.
    pub one_way: Duration,
    /// Whether that ends the call.
    pub one_way_ends: bool,
    /// The call as a whole.
    pub last: Duration,
}

/// What the meters say of a stream, on the clock of [`Now::mono`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sign {
    /// When the stream was installed, or last signalled anew.
    pub since: Duration,
    /// When its last packet passed.
    pub last_seen: Option<Duration>,
}

/// How a call fares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// Media flows, or may yet.
    Well,
    /// In one of its medias packets come from one side only.
    OneWay,
    /// It is over.
    Over(End),
}

/// Why a call is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// No packet ever came.
    NoStart,
    /// None came lately.
    Silence,
    /// Nothing was expected for too long.
    Hold,
    /// Packets came one way only.
    OneWay,
    /// It has lasted as long as a call may.
    Final,
}

impl End {
    /// Its name among the counters.
    pub fn name(self) -> &'static str {
        match self {
            End::NoStart => "no-start",
            End::Silence => "silence",
            End::Hold => "hold",
            End::OneWay => "one-way",
            End::Final => "final",
        }
    }

    /// What the log says.
    pub fn reason(self) -> &'static str {
        match self {
            End::NoStart => "no media came",
            End::Silence => "media ceased",
            End::Hold => "on hold or unanswered for too long",
            End::OneWay => "media came one way only",
            End::Final => "it has lasted as long as a call may",
        }
    }
}

/// One stream against the clock.
struct Flow {
    is_expected: bool,
    was_seen: bool,
    quiet: Duration,
}

impl Flow {
    /// Whether the stream flows no more.
    fn is_over(&self, timeouts: &Timeouts) -> bool {
        let limit = match (self.is_expected, self.was_seen) {
            (false, _) => timeouts.hold,
            (true, false) => timeouts.start,
            (true, true) => timeouts.silence,
        };
        has_passed(self.quiet, limit)
    }
}

fn has_passed(time: Duration, limit: Duration) -> bool {
    !limit.is_zero() && time >= limit
}

/// Judges a call by its meters. `sign` is `None` for a stream that the plane does not have; before
/// `since` it could have had none.
pub fn judge(
    call: &Call,
    sign: &dyn Fn(Local) -> Option<Sign>,
    since: Duration,
    now: Now,
    timeouts: &Timeouts,
) -> Health {
    let age_us = now.unix_us.saturating_sub(call.created_us);
    if has_passed(Duration::from_micros(age_us), timeouts.last) {
        return Health::Over(End::Final);
    }
    let (mut flows, mut idle, mut is_one_way) = (Vec::new(), Vec::new(), false);
    let flow = |near: &LegMedia<'_>, far: Option<&LegMedia<'_>>| {
        let heard = far.map_or(Duration::ZERO, |far| heard(far.dialog, now));
        let start = since.max(heard.max(self::heard(near.dialog, now)));
        self::flow(near, far, sign, start, now)
    };
    for dialog in &call.dialogs {
        for side in dialog.sides() {
            for (near, far) in call.leg_medias(dialog, side) {
                if !near.media().is_relayed() {
                    continue;
                }
                let own = flow(&near, far.as_ref());
                // Of both directions together once.
                if let Some(far) = far.filter(|far| near.number() < far.number()) {
                    is_one_way |= one_way(&own, &flow(&far, Some(&near)), timeouts);
                }
                match far.is_some() || dialog.published {
                    true => flows.push(own),
                    false => idle.push(own),
                }
            }
        }
        if !dialog.medias.iter().any(Media::is_relayed) {
            // Nothing to listen to: kept for as long as a call on hold.
            flows.push(Flow {
                is_expected: false,
                was_seen: false,
                quiet: now.mono.saturating_sub(since.max(heard(dialog, now))),
            });
        }
    }
    // Who hears nobody is waited for only if nobody hears anybody.
    if flows.is_empty() {
        flows = idle;
    }
    if flows.iter().all(|flow| flow.is_over(timeouts)) {
        let expected = || flows.iter().filter(|flow| flow.is_expected);
        return Health::Over(match expected().count() {
            0 => End::Hold,
            _ if expected().any(|flow| flow.was_seen) => End::Silence,
            _ => End::NoStart,
        });
    }
    match (is_one_way, timeouts.one_way_ends) {
        (true, true) => Health::Over(End::OneWay),
        (true, false) => Health::OneWay,
        (false, _) => Health::Well,
    }
}

/// When something new was last said. The future is that of a machine that was restarted since.
fn heard(dialog: &Dialog, now: Now) -> Duration {
    Some(Duration::from_nanos(dialog.heard_ns))
        .filter(|heard| *heard <= now.mono)
        .unwrap_or_default()
}

/// What one leg sends in one section to `far`.
fn flow(
    near: &LegMedia<'_>,
    far: Option<&LegMedia<'_>>,
    sign: &dyn Fn(Local) -> Option<Sign>,
    start: Duration,
    now: Now,
) -> Flow {
    let is_answered = |far: &LegMedia<'_>| near.leg().signal > 0 && far.leg().signal > 0;
    let signs = || near.media().facing(near.side).filter_map(sign);
    let seen = signs().filter_map(|sign| sign.last_seen).max();
    let since = signs().map(|sign| sign.since).max();
    let moment = seen.or(since).unwrap_or_default();
    let is_blocked = near.leg().blocked.media;
    Flow {
        is_expected: far.is_some_and(is_answered) && near.lets_pass(far) && !is_blocked,
        was_seen: seen.is_some(),
        quiet: now.mono.saturating_sub(moment.max(start)),
    }
}

fn one_way(a: &Flow, b: &Flow, timeouts: &Timeouts) -> bool {
    let quiet = |flow: &Flow| has_passed(flow.quiet, timeouts.one_way);
    let half = |dead: &Flow, live: &Flow| quiet(dead) && live.was_seen && !quiet(live);
    a.is_expected && b.is_expected && (half(a, b) || half(b, a))
}
