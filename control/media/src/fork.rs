//! Copies of what a leg sends, for those who subscribed to it.

use crate::Local;
use crate::call::{Blocked, Call, Leg};
use crate::diff::{Class, Desired, Feed, Kind, Learn, Shared, Stream};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// Subscriptions of one call.
pub const MAX_FORKS: usize = 8;

/// One who is sent copies: a leg that receives and never sends media.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fork {
    /// Numbers its leg, as [`crate::Dialog::number`].
    pub number: u16,
    /// The Call-ID it was made with; `None` for the call's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call_id: Option<String>,
    /// The leg: its one tag is the subscription's.
    pub leg: Leg,
    /// One for each section of the SDP it was offered.
    pub medias: Vec<ForkMedia>,
}

/// One section of a subscription.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForkMedia {
    /// [`crate::Dialog::number`] of what is copied.
    pub dialog: u16,
    /// The leg of it that sends.
    pub side: usize,
    /// The section of it.
    pub media: u16,
    /// The endpoint copies leave from.
    pub local: Local,
    /// Where copies of RTP go; `None` before the answer, or if it was declined.
    pub remote: Option<SocketAddr>,
    /// Where copies of RTCP go: the same if it multiplexes (RFC 5761).
    pub remote_rtcp: Option<SocketAddr>,
    /// Whether it receives.
    pub receives: bool,
    /// What of it is held back; telephone events are not told apart in copies.
    #[serde(default)]
    pub blocked: Blocked,
}

impl ForkMedia {
    /// Whether copies of RTCP leave from where those of RTP do. Before the answer none leaves.
    pub(crate) fn is_muxed(&self) -> bool {
        self.remote_rtcp == self.remote
    }
}

impl Fork {
    pub(crate) fn streams(&self, call: &Call, into: &mut Desired) {
        for (position, own) in (0..).zip(&self.medias) {
            let source = call
                .dialogs
                .iter()
                .find(|dialog| dialog.number == own.dialog);
            let medias = source.map(|dialog| call.leg_medias(dialog, own.side));
            let found = medias.and_then(|all| all.get(usize::from(own.media)).copied());
            let Some((near, far)) = found.filter(|(near, _)| near.media().is_relayed()) else {
                continue;
            };
            let (dialog, media) = (near.dialog, near.media());
            let Some(locals) = media.locals else {
                continue;
            };
            let rtp = Stream {
                local: own.local,
                peer: own.local,
                remote: own.remote.filter(|_| own.receives),
                kind: media.kind,
                learn: Learn::Off,
                handover: false,
                hint: None,
                gate_open: !(own.blocked.media || own.blocked.silence),
                signal: self.leg.signal,
                clock_hz: media.clock_hz,
                dscp: dialog.mark,
                payload_types: 0,
                strict_payload: false,
                event_type: None,
                shared: Shared::Nothing,
                secure: media.has_proto("SAVP"),
                class: media.class(),
                capture: false,
                feed: Feed::CopyOf(locals[own.side]),
                mid: None,
                ice: None,
                drop_events: false,
                pierce: false,
                leg: self.number.wrapping_mul(2),
                media: position,
            };
            into.insert(rtp.local, rtp);
            if call.reports_apart(&near, far.as_ref()) {
                let local = rtp.local.rtcp();
                let rtcp = Stream {
                    local,
                    peer: match own.is_muxed() {
                        true => rtp.local,
                        false => local,
                    },
                    remote: own.remote_rtcp,
                    kind: Kind::Rtcp,
                    gate_open: true,
                    clock_hz: 0,
                    class: Class::Rtcp,
                    feed: Feed::CopyOf(locals[own.side].rtcp()),
                    ..rtp
                };
                into.insert(rtcp.local, rtcp);
            }
        }
    }
}
