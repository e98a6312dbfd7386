//! Media that stays away: every stream is looked at once a second, some at each turn of the steward.

use penstock_shm::{Endpoint, Event, Kind, MediaState, Seen, TableWriter, Timers, flag};
use std::ops::Range;
use std::sync::atomic::Ordering::Relaxed;

/// How often each stream is looked at.
const ROUND_NS: u64 = 1_000_000_000;
/// The flags of a stream whose media should flow.
const FLOWS: u16 = flag::GATE_OPEN | flag::ROUTED;
/// Records looked at before the steward turns to something else: less than 0.1 ms, if none is in a cache.
const SLICE: u32 = 256;

/// What was last reported of each record, and where the round is.
pub struct Watch {
    timers: Timers,
    reported: Vec<MediaState>,
    next: u32,
    /// When the round began.
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
    /// not comes again a round later. Returns whether more should have been looked at by now.
    pub fn turn(
        &mut self,
        table: &TableWriter,
        now_ns: u64,
        mut report: impl FnMut(Event) -> bool,
    ) -> bool {
        let Some(records) = self.due(table.capacity(), now_ns) else {
            return false;
        };
        for number in records.start..records.end.min(records.start + SLICE) {
            self.next = number + 1;
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
        self.next < records.end
    }

    /// The records whose time has come in this round; begins the next one.
    fn due(&mut self, capacity: u32, now_ns: u64) -> Option<Range<u32>> {
        let mut since_ns = now_ns.saturating_sub(self.round_ns).min(ROUND_NS);
        if self.next == capacity && since_ns == ROUND_NS {
            (self.next, self.round_ns, since_ns) = (0, now_ns, 0);
        }
        let due = u64::from(capacity) * since_ns / ROUND_NS;
        Some(self.next..due as u32).filter(|records| !records.is_empty())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_takes_a_second_and_leaves_nobody_out() {
        let mut watch = Watch::new(Timers::default(), 1000);
        let mut look = |ms: u64, most: u32| {
            let due = watch.due(1000, ms * 1_000_000)?;
            watch.next = due.end.min(due.start + most);
            Some(due.start..watch.next)
        };
        // At the start all are due, then a part at a time.
        assert_eq!(look(5000, 600), Some(0..600));
        assert_eq!(look(5001, 600), Some(600..1000));
        assert_eq!(look(5002, 600), None);
        assert_eq!(look(5252, 600), Some(0..250));
        assert_eq!(look(5252, 600), None);
        assert_eq!(look(5902, 600), Some(250..850));
        // Who is late catches up, and the next round begins when this one is over.
        assert_eq!(look(7000, 600), Some(850..1000));
        assert_eq!(look(7001, 600), None);
        assert_eq!(look(7101, 600), Some(0..100));
    }
}
