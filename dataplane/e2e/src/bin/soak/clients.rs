//! Calls that come and go: what a SIP proxy's ng clients do.

use crate::media::Sampled;
use crate::state::{State, add, is};
use penstock_e2e::{Ng, PHONES, Phone, Sides, answer_request, offer_request, phone_at, sdp};
use serde_json::json;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::net::UdpSocket;
use std::sync::mpsc::{Receiver, Sender};
use std::time::{Duration, Instant};

/// How long an answer may take; the request is repeated meanwhile.
const PATIENCE: Duration = Duration::from_secs(5);
/// Calls last from so long ...
const SHORTEST: Duration = Duration::from_secs(1);
/// ... to so much longer.
const SPREAD_MS: u64 = 3000;

/// What one client does.
pub struct Client<'a> {
    pub number: u32,
    pub ng: Ng,
    pub state: &'a State,
    /// Between two calls.
    pub pace: Duration,
    /// One call in so many has media.
    pub sample: u32,
    /// Calls in a hundred that it never ends.
    pub abandon: u32,
    pub media: Sender<Sampled>,
    /// Calls whose media has been heard to its end.
    pub heard: Receiver<String>,
}

/// Scatters, always alike.
fn scatter(n: u32) -> u64 {
    u64::from(n.wrapping_mul(0x9e37_79b9).rotate_left(13) >> 8)
}

impl Client<'_> {
    /// Places calls until they end, then ends those that stand.
    pub fn run(self) {
        let mut next = Instant::now();
        let mut due: BinaryHeap<Reverse<(Instant, String)>> = BinaryHeap::new();
        let mut over: VecDeque<(String, bool)> = VecDeque::new();
        let mut with_media = 0u32;
        for n in 0.. {
            let placing = !is(&self.state.calls_end);
            if !placing && due.is_empty() && over.is_empty() && with_media == 0 {
                return;
            }
            if is(&self.state.end) {
                return self
                    .state
                    .fail(format!("client {}: calls do not end", self.number));
            }
            if placing && Instant::now() >= next {
                // After an interruption there is no rush to make up for it.
                next = (next + self.pace).max(Instant::now() - 10 * self.pace);
                self.place(n, &mut due, &mut over, &mut with_media);
            }
            while let Ok(call) = self.heard.try_recv() {
                with_media -= 1;
                over.push_back((call, true));
            }
            while let Some(Reverse((at, _))) = due.peek()
                && (*at <= Instant::now() || !placing)
                && let Some(Reverse((_, call))) = due.pop()
            {
                over.push_back((call, true));
            }
            if let Some((call, stands)) = over.pop_front()
                && !self.end(&call, stands)
            {
                over.push_back((call, stands));
            }
            if over.is_empty() {
                let rest = next.saturating_duration_since(Instant::now());
                std::thread::sleep(rest.min(Duration::from_millis(5)));
            }
        }
    }

    fn place(
        &self,
        n: u32,
        due: &mut BinaryHeap<Reverse<(Instant, String)>>,
        over: &mut VecDeque<(String, bool)>,
        with_media: &mut u32,
    ) {
        let call = format!("soak-{}-{n}", self.number);
        let life = SHORTEST + Duration::from_millis(scatter(n) % SPREAD_MS);
        let sampled = n.is_multiple_of(self.sample);
        let asked = Instant::now();
        let phones = sampled.then(|| self.phones(n));
        let at = |side: usize| match &phones {
            Some(phones) => phones[side].at(),
            None => phone_at(2000 + 2 * side as u16),
        };
        let callee = self.ng.signal(&offer_request(&call, &sdp(at(0))), PATIENCE);
        let sides = callee.and_then(|callee| {
            let answer = answer_request(&call, &sdp(at(1)));
            let caller = self.ng.signal(&answer, PATIENCE)?;
            Ok(Sides { caller, callee })
        });
        let sides = match sides {
            Ok(sides) => sides,
            Err(why) => {
                if !self.state.may_refuse(asked) {
                    self.state.fail(format!("call {call} was refused: {why}"));
                }
                add(&self.state.refused, 1);
                return over.push_back((call, false));
            }
        };
        add(&self.state.placed, 1);
        let until = Instant::now() + life;
        if let Some([caller, callee]) = phones {
            *with_media += 1;
            let sampled = Sampled::new(call, self.number, [caller, callee], sides, until);
            self.media.send(sampled).expect("the media thread");
        } else if scatter(n ^ 0x55aa) % 100 < u64::from(self.abandon) {
            add(&self.state.abandoned, 1);
        } else {
            due.push(Reverse((until, call)));
        }
    }

    fn phones(&self, n: u32) -> [Phone; 2] {
        [0, 1].map(|side| {
            let socket = UdpSocket::bind((PHONES, 0)).expect("a socket");
            Phone::with(socket, self.number << 28 | (n << 1 | side) & 0x0fff_ffff)
        })
    }

    /// Ends a call; false if that has to be tried again. One that was refused may stand all the same, if only the
    /// answer was lost.
    fn end(&self, call: &str, stands: bool) -> bool {
        let asked = Instant::now();
        let request = json!({"command": "delete", "call-id": call, "from-tag": "a"});
        let reply = self.ng.ask_within(&request, PATIENCE);
        let is_ok = reply.as_ref().is_some_and(|reply| reply["result"] == "ok");
        if is_ok || (reply.is_some() && !stands) {
            add(&self.state.ended, u64::from(stands));
            return true;
        }
        let excused = self.state.may_refuse(asked);
        if !excused {
            self.state
                .fail(format!("call {call} could not be ended: {reply:?}"));
        }
        !excused
    }
}
