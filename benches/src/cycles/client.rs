//! A client that asks faster than either server answers: many requests under way, one thread, one socket.

use super::messages::{Message, Step, is_right, opened};
use crate::ng::SERVER;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::io::ErrorKind;
use std::net::{Ipv4Addr, UdpSocket};
use std::time::{Duration, Instant};

/// Requests under way where a reply begets the next request.
pub const WINDOW: usize = 64;
/// And at most where they come by the clock: who is behind by more does not keep up.
const MOST: usize = 4096;
/// A request is asked anew after so long, and given up after so many times.
const AGAIN: Duration = Duration::from_secs(1);
const TIMES: u32 = 10;
/// What a wait lasts at most.
const TICK: Duration = Duration::from_millis(100);

/// What went wrong, in a sentence.
type Wrong = String;

/// A request under way.
struct Slot {
    call: u32,
    step: Step,
    number: u32,
    /// What its time is taken from.
    from: Instant,
    sent: Instant,
    times: u32,
}

/// The client; the Call-IDs it makes up never come again.
pub struct Client {
    socket: UdpSocket,
    messages: [Message; 3],
    slots: Vec<Option<Slot>>,
    free: Vec<usize>,
    number: u32,
    calls: u32,
    buf: Vec<u8>,
    /// Requests that were sent again.
    pub repeated: u64,
}

/// What came of requests by the clock.
#[derive(Default)]
pub struct Paced {
    /// How long each offer, answer and delete took, microseconds; an offer from the time it was due.
    pub us: [Vec<f64>; 3],
    /// By how much the client itself was late with its offers.
    pub late_us: Vec<f64>,
}

/// What one reply ended.
struct Heard {
    slot: Slot,
    at: Instant,
}

impl Client {
    /// A client in this thread's network namespace.
    ///
    /// # Errors
    /// If there is no loopback.
    pub fn new() -> std::io::Result<Client> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        socket.connect(SERVER)?;
        socket.set_nonblocking(true)?;
        // A client that waits for its turn measures itself: who shares its CPU, the plane, waits.
        rustix::process::setpriority_process(None, -20)?;
        // The kernel is 50 us late otherwise.
        rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1))?;
        Ok(Client {
            socket,
            messages: [Step::Offer, Step::Answer, Step::Delete].map(Message::new),
            slots: (0..MOST).map(|_| None).collect(),
            free: (0..MOST).rev().collect(),
            number: 0,
            calls: 0,
            buf: vec![0; 65_536],
            repeated: 0,
        })
    }

    /// Sets up so many calls that stand.
    ///
    /// # Errors
    /// A wrong reply, or none.
    pub fn stand(&mut self, calls: usize) -> Result<(), Wrong> {
        let mut left = calls;
        for _ in 0..WINDOW.min(left) {
            left -= 1;
            self.begin(Instant::now())?;
        }
        while self.is_waiting() {
            let Some(heard) = self.hear_within(TICK)? else {
                continue;
            };
            match heard.slot.step {
                Step::Offer => self.ask(heard.slot.call, Step::Answer, heard.at)?,
                _ if left > 0 => {
                    left -= 1;
                    self.begin(heard.at)?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Has calls come and go for so long: how many did, and how long it took.
    ///
    /// # Errors
    /// A wrong reply, or none.
    pub fn cycle(&mut self, time: Duration) -> Result<(u64, f64), Wrong> {
        let start = Instant::now();
        let mut done = 0;
        for _ in 0..WINDOW {
            self.begin(start)?;
        }
        while self.is_waiting() {
            let Some(heard) = self.hear_within(TICK)? else {
                continue;
            };
            match heard.slot.step.next() {
                Some(step) => self.ask(heard.slot.call, step, heard.at)?,
                None => {
                    done += 1;
                    if heard.at - start < time {
                        self.begin(heard.at)?;
                    }
                }
            }
        }
        Ok((done, start.elapsed().as_secs_f64()))
    }

    /// Offers calls at this rate, whatever becomes of them; answer and delete follow each reply.
    ///
    /// # Errors
    /// A wrong reply, or none; or thousands of calls wait.
    pub fn pace(&mut self, per_s: f64, time: Duration) -> Result<Paced, Wrong> {
        let mut paced = Paced::default();
        let start = Instant::now() + TICK;
        let offers = (per_s * time.as_secs_f64()) as u32;
        let mut offered = 0;
        while offered < offers || self.is_waiting() {
            let due = start + Duration::from_secs_f64(f64::from(offered) / per_s);
            let now = Instant::now();
            if offered < offers && now >= due {
                paced.late_us.push((now - due).as_secs_f64() * 1e6);
                self.begin(due)?;
                offered += 1;
                continue;
            }
            let rest = match offered < offers {
                true => (due - now).min(TICK),
                false => TICK,
            };
            let Some(heard) = self.hear_within(rest)? else {
                continue;
            };
            let took = heard.at.saturating_duration_since(heard.slot.from);
            paced.us[heard.slot.step as usize].push(took.as_secs_f64() * 1e6);
            if let Some(step) = heard.slot.step.next() {
                self.ask(heard.slot.call, step, Instant::now())?;
            }
        }
        Ok(paced)
    }

    fn is_waiting(&self) -> bool {
        self.free.len() < MOST
    }

    /// Offers a new call.
    fn begin(&mut self, from: Instant) -> Result<(), Wrong> {
        self.calls += 1;
        self.ask(self.calls, Step::Offer, from)
    }

    fn ask(&mut self, call: u32, step: Step, from: Instant) -> Result<(), Wrong> {
        let place = self.free.pop();
        let place =
            place.ok_or_else(|| format!("{MOST} requests wait: the server does not keep up"))?;
        self.number = self.number.wrapping_add(1);
        self.slots[place] = Some(Slot {
            call,
            step,
            number: self.number,
            from,
            sent: Instant::now(),
            times: 1,
        });
        self.send(place);
        Ok(())
    }

    fn send(&mut self, place: usize) {
        if let Some(slot) = &self.slots[place] {
            let message = &mut self.messages[slot.step as usize];
            let bytes = message.patched(place as u32, slot.number, slot.call);
            // What is not sent now is sent again.
            let _ = self.socket.send(bytes);
        }
    }

    /// The next reply, if one comes within `limit`.
    fn hear_within(&mut self, limit: Duration) -> Result<Option<Heard>, Wrong> {
        loop {
            match self.socket.recv(&mut self.buf) {
                Ok(len) => {
                    if let Some(heard) = self.take(len)? {
                        return Ok(Some(heard));
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                // Nobody listens there: it is asked again.
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
                Err(error) => return Err(format!("ng: {error}")),
            }
        }
        let timeout = Timespec {
            tv_sec: limit.as_secs() as i64,
            tv_nsec: limit.subsec_nanos().into(),
        };
        let ready = poll(
            &mut [PollFd::new(&self.socket, PollFlags::IN)],
            Some(&timeout),
        );
        if ready == Ok(0) && limit >= TICK {
            self.send_again()?;
        }
        Ok(None)
    }

    /// What of our requests a reply of `len` bytes ends.
    fn take(&mut self, len: usize) -> Result<Option<Heard>, Wrong> {
        let at = Instant::now();
        let reply = &self.buf[..len];
        let wrong = |what: &str| {
            let text = String::from_utf8_lossy(reply);
            Err(format!("ng: {what} was answered by {text}"))
        };
        let Some((place, number, body)) = opened(reply) else {
            return wrong("a request");
        };
        let place = place as usize;
        let slot = self.slots.get_mut(place);
        // Else the second reply to what was asked twice.
        let Some(slot) = slot.and_then(|s| s.take_if(|slot| slot.number == number)) else {
            return Ok(None);
        };
        self.free.push(place);
        match is_right(slot.step, body) {
            true => Ok(Some(Heard { slot, at })),
            false => wrong(&format!("{:?}", slot.step)),
        }
    }

    fn send_again(&mut self) -> Result<(), Wrong> {
        let now = Instant::now();
        for place in 0..MOST {
            let Some(slot) = &mut self.slots[place] else {
                continue;
            };
            if now - slot.sent < AGAIN {
                continue;
            }
            if slot.times >= TIMES {
                return Err(format!("ng: {:?} was not answered", slot.step));
            }
            (slot.sent, slot.times) = (now, slot.times + 1);
            self.repeated += 1;
            self.send(place);
        }
        Ok(())
    }
}
