//! Media of a sample of the calls: each packet is missed if it does not arrive once, unchanged and in order.

use crate::state::{State, add, is};
use penstock_e2e::region::stream;
use penstock_e2e::{Phone, Sides};
use penstock_shm::TableView;
use std::sync::mpsc::{Receiver, Sender};
use std::time::{Duration, Instant};

/// Between two packets of a phone.
const PTIME: Duration = Duration::from_millis(20);
/// What should not come has so much time to come all the same ...
const LINGER: Duration = Duration::from_millis(200);
/// ... and what should has so much: the machine may be busy with other things.
const PATIENCE: Duration = Duration::from_secs(3);

/// A call with phones.
pub struct Sampled {
    call: String,
    client: u32,
    phones: [Phone; 2],
    sides: Sides,
    until: Instant,
    /// When the packets were sent.
    sent: Vec<Instant>,
    /// Whether both streams are locked to the phones.
    locked: bool,
}

impl Sampled {
    /// A call whose phones talk until then.
    pub fn new(
        call: String,
        client: u32,
        phones: [Phone; 2],
        sides: Sides,
        until: Instant,
    ) -> Sampled {
        let sent = Vec::new();
        Sampled {
            call,
            client,
            phones,
            sides,
            until,
            sent,
            locked: false,
        }
    }

    fn turn(&mut self, now: Instant, state: &State, table: &TableView) {
        let [caller, callee] = &mut self.phones;
        if now < self.until {
            self.sent.push(Instant::now());
            caller.talk_anyway(self.sides.caller);
            callee.talk_anyway(self.sides.callee);
            add(&state.sent, 2);
        }
        caller.listen();
        callee.listen();
        if !self.locked {
            let is_locked = |at| stream(table, at).is_some_and(|stream| stream.policy.locked);
            self.locked = is_locked(self.sides.caller) && is_locked(self.sides.callee);
        }
    }

    /// Whether there is nothing to wait for.
    fn is_over(&mut self, now: Instant) -> bool {
        let ssrcs = [self.phones[1].ssrc(), self.phones[0].ssrc()];
        let all = self.sent.len();
        let mut both = self.phones.iter_mut().zip(ssrcs);
        let whole = |(phone, ssrc): (&mut Phone, _)| {
            phone.listen().rtp.get(&ssrc).map_or(0, Vec::len) >= all
        };
        now > self.until + LINGER && (now > self.until + PATIENCE || both.all(whole))
    }

    /// Holds what was heard against what was sent.
    fn account(&mut self, state: &State, table: &TableView) {
        let excused = |seq: &u16| state.may_lose(self.sent[usize::from(*seq) - 1]);
        let all: Vec<u16> = (1..=self.sent.len() as u16).collect();
        let ssrcs = [self.phones[1].ssrc(), self.phones[0].ssrc()];
        let mut lost = 0;
        for (phone, ssrc) in self.phones.iter_mut().zip(ssrcs) {
            let heard = phone.listen();
            let got = heard.rtp.get(&ssrc).map_or(&[][..], |seqs| &seqs[..]);
            let in_order = got.is_sorted_by(|a, b| a < b);
            if !in_order || heard.changed != 0 || heard.rtp.len() > 1 {
                state.fail(format!(
                    "call {}: strange, changed or out of order: {heard:?}",
                    self.call
                ));
            }
            let missing: Vec<u16> = all
                .iter()
                .filter(|seq| !got.contains(seq))
                .copied()
                .collect();
            lost += missing.len() as u64;
            if !missing.iter().all(excused) {
                state.fail(format!(
                    "call {}: of {} packets are missing {missing:?}",
                    self.call,
                    all.len()
                ));
            }
        }
        add(&state.lost_in_windows, lost);
        add(&state.calls_heard, 1);
        if all.iter().any(excused) {
            return;
        }
        for side in [self.sides.caller, self.sides.callee] {
            let meter = stream(table, side).map(|stream| stream.meter);
            if meter.is_none_or(|meter| meter.packets != all.len() as u64) {
                state.fail(format!(
                    "call {}: {} packets sent, metered {meter:?}",
                    self.call,
                    all.len()
                ));
            }
        }
    }
}

/// Plays the media of the calls that come, until nobody brings any more and all are heard; `done` by client.
pub fn play(state: &State, table: &TableView, calls: &Receiver<Sampled>, done: &[Sender<String>]) {
    let mut live: Vec<Sampled> = Vec::new();
    let mut next = Instant::now();
    while !is(&state.end) {
        live.extend(calls.try_iter());
        let now = Instant::now();
        live.iter_mut()
            .for_each(|call| call.turn(now, state, table));
        let over = |call: &mut Sampled| call.is_over(now);
        for mut call in live.extract_if(.., over) {
            call.account(state, table);
            // A client that has gone has failed.
            let _ = done[call.client as usize].send(call.call);
        }
        // Before it is locked, a stream may take a stranger for its phone.
        let ready = live.iter().filter(|call| call.locked);
        let ends = ready.flat_map(|call| [call.sides.caller, call.sides.callee]);
        *state.targets.lock().expect("targets") = ends.collect();
        next = (next + PTIME).max(Instant::now());
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
    }
}
