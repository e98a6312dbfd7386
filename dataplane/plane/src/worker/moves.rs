//! Which streams should change hands: a stream's owner gives it to the worker where its packets come in.
//!
//! A stream moves when as many packets in a row were handed over as passed at the stream. The ones that were
//! under way to the former owner come back after those that follow them: once, and packets of a stream are usually
//! milliseconds apart.

use penstock_shm::Pinned;

/// Packets in a row that make a stream move.
const ENOUGH: u32 = 64;
const PLACES: usize = 256;

#[derive(Clone, Copy, Default)]
struct Place {
    record: u32,
    from: u8,
    handed: u32,
    /// Packets that had passed when the count began.
    passed: u32,
}

/// The streams that packets were handed over of lately: a few forget each other.
pub struct Moves {
    places: [Place; PLACES],
    /// Streams that are to move after the burst: record and new owner.
    due: Vec<(u32, usize)>,
}

impl Moves {
    /// None.
    pub fn new() -> Moves {
        Moves {
            places: [Place::default(); PLACES],
            due: Vec::with_capacity(penstock_dpdk::Burst::CAPACITY),
        }
    }

    /// A packet of the record was handed over by that worker.
    pub fn count(&mut self, record: u32, from: usize, view: &Pinned<'_>) {
        let Some(tally) = view.tally(record) else {
            return;
        };
        let passed = tally.meter.packets.get() as u32;
        let place = &mut self.places[record as usize % PLACES];
        let from = from as u8;
        if (place.record, place.from) != (record, from) || place.handed == 0 {
            *place = Place {
                record,
                from,
                handed: 1,
                passed,
            };
            return;
        }
        place.handed += 1;
        if place.handed < ENOUGH {
            return;
        }
        // Those of the present burst have not passed yet.
        let others = passed.wrapping_sub(place.passed) > place.handed;
        let few = passed.wrapping_sub(place.passed) < place.handed / 2;
        place.handed = 0;
        if !others && !few && self.due.len() < self.due.capacity() {
            self.due.push((record, usize::from(from)));
        }
    }

    /// Gives away what is due and is this worker's; says how many.
    pub fn give(&mut self, view: &Pinned<'_>, number: usize) -> u64 {
        let mut given = 0;
        for (record, to) in self.due.drain(..) {
            if let Some(tally) = view.tally(record)
                && view.owner(&tally.meter) == Some(number)
            {
                view.release(&tally.meter, to);
                given += 1;
            }
        }
        given
    }
}
