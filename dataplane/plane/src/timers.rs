//! Media that stays away: every stream is looked at once a second, some at each turn of the steward.

use penstock_shm::{Endpoint, Event, Kind, MediaState, Seen, TableWriter, Timers, flag};
use std::sync::atomic::Ordering::Relaxed;

/// How often each stream is looked at.
const ROUND_NS: u64 = 1_000_000_000;
/// The flags of a stream whose media should flow.
const FLOWS: u16 = flag::GATE_OPEN | flag::ROUTED;
/// Records looked at before the steward turns to something else: about a millisecond.
const SLICE: u32 = 16_384;

/// What was last reported of each record, and where the round is.
pub struct Watch {
    timers: Timers,
    reported: Vec<MediaState>,
    next: u32,
    round_ns: u64,
}

impl Watch {
    /// Nothing reported yet; as many records as the table has.
    pub fn new(timers: Timers, capacity: u32) -> Watch {
        Watch {
            timers,
            reported: vec![MediaState::Flows; capacity as usize],
            next: 0,
            round_ns: 0,
        }
    }

    /// Other timers from now on.
    pub fn set(&mut self, timers: Timers) {
        self.timers = timers;
    }

    /// Looks at some more streams; hands each event to `report`, which says whether it could be reported. What could
    /// not comes again a round later.
    pub fn turn(
        &mut self,
        table: &TableWriter,
        now_ns: u64,
        mut report: impl FnMut(Event) -> bool,
    ) {
        if self.next == 0 {
            if now_ns < self.round_ns {
                return;
            }
            self.round_ns = now_ns + ROUND_NS;
        }
        let end = (self.next + SLICE).min(table.capacity());
        for number in self.next..end {
            let state = state(table, number, now_ns, &self.timers);
            let reported = &mut self.reported[number as usize];
            match state {
                None => *reported = MediaState::Flows,
                Some((endpoint, state)) if state != *reported => {
                    if report(Event::Media { endpoint, state }) {
                        *reported = state;
                    }
                }
                Some(_) => {}
            }
        }
        self.next = if end == table.capacity() { 0 } else { end };
    }
}

/// How the media of an RTP stream is; `None` if the record is none.
fn state(
    table: &TableWriter,
    number: u32,
    now_ns: u64,
    timers: &Timers,
) -> Option<(Endpoint, MediaState)> {
    if !table.is_live(number) {
        return None;
    }
    let slot = table.slot(number);
    if slot.kind == Kind::Rtcp as u8 {
        return None;
    }
    let last_ns = |number| table.tally(number).meter.last_seen_ns.get();
    let peer = Some(slot.peer).filter(|&peer| table.is_live(peer));
    let seen = Seen {
        signalled_ns: slot.signalled_ns,
        last_ns: last_ns(number),
        peer_ns: peer.map_or(0, last_ns),
        // Nothing has to come before anybody answered.
        gate_open: slot.flags & FLOWS == FLOWS,
    };
    let endpoint = Endpoint::from_bits(table.head(number).endpoint.load(Relaxed));
    Some((endpoint, MediaState::at(now_ns, seen, timers)))
}
