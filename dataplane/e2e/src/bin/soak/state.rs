//! What the threads of a soak share.

use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// One of the two daemons.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    Plane,
    Control,
}

/// From a kill until the daemon is ready again.
struct Window {
    who: Who,
    from: Instant,
    to: Option<Instant>,
}

/// Media that was sent so long before a kill may be lost: it lay in the tap's queue.
pub const BEFORE: Duration = Duration::from_millis(100);
/// And so long after the new plane is ready: next hops are asked for anew.
pub const AFTER: Duration = Duration::from_millis(500);
/// Signalling may fail so long after a daemon is ready: what was asked before may have gone unanswered.
const SIGNALLING_AFTER: Duration = Duration::from_millis(1500);

/// Counters and what went wrong.
#[derive(Default)]
pub struct State {
    /// No calls are placed any more.
    pub calls_end: AtomicBool,
    /// Nor anything else done.
    pub end: AtomicBool,
    pub placed: AtomicU64,
    pub ended: AtomicU64,
    pub abandoned: AtomicU64,
    pub refused: AtomicU64,
    pub calls_heard: AtomicU64,
    pub sent: AtomicU64,
    pub lost_in_windows: AtomicU64,
    pub attacks: AtomicU64,
    /// Endpoints with media, for attackers.
    pub targets: Mutex<Vec<SocketAddr>>,
    windows: Mutex<Vec<Window>>,
    failures: Mutex<(u64, Vec<String>)>,
}

pub fn add(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Ordering::Relaxed);
}

pub fn get(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

pub fn is(flag: &AtomicBool) -> bool {
    flag.load(Ordering::Relaxed)
}

impl State {
    /// Something that must not be. The first ones are kept in words.
    pub fn fail(&self, what: String) {
        let mut failures = self.failures.lock().expect("failures");
        failures.0 += 1;
        if failures.1.len() < 20 {
            failures.1.push(what);
        }
    }

    /// How many failures, and the first of them.
    pub fn failures(&self) -> (u64, Vec<String>) {
        self.failures.lock().expect("failures").clone()
    }

    /// Just before a daemon is killed.
    pub fn opens(&self, who: Who) {
        let window = Window {
            who,
            from: Instant::now(),
            to: None,
        };
        self.windows.lock().expect("windows").push(window);
    }

    /// The daemon is ready again; says how long it was away.
    pub fn closes(&self) -> Duration {
        let now = Instant::now();
        let mut windows = self.windows.lock().expect("windows");
        let last = windows.last_mut().expect("an open window");
        last.to = Some(now);
        now - last.from
    }

    /// Whether media sent then may be lost.
    pub fn may_lose(&self, at: Instant) -> bool {
        let windows = self.windows.lock().expect("windows");
        let mut planes = windows.iter().rev().filter(|w| w.who == Who::Plane);
        planes.any(|w| at + BEFORE >= w.from && w.to.is_none_or(|to| at <= to + AFTER))
    }

    /// Whether a request made then, and failed now, may fail.
    pub fn may_refuse(&self, asked: Instant) -> bool {
        let windows = self.windows.lock().expect("windows");
        let now = Instant::now();
        let mut all = windows.iter().rev();
        all.any(|w| now >= w.from && w.to.is_none_or(|to| asked <= to + SIGNALLING_AFTER))
    }
}
