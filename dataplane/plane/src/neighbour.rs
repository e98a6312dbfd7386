//! Who is on the link: resolves next hops by ARP (RFC 826) and neighbour discovery (RFC 4861), pure: time
//! comes in, actions go out.
//!
//! ```text
//!              asked, everyone: 250 ms x 4, then each second
//!  INCOMPLETE ───────────────── an answer ─────────────────► REACHABLE
//!   ▲      │                                                 │      ▲
//!   │      └─ it asks us ─► PROBE ◄─────── 30 s later ───────┘      │
//!   │                       │ │ ▲                                   │
//!   └── 3 asks in vain ─────┘ └─┼──────────── an answer ────────────┤
//!                               │                                   │
//!   REACHABLE, PROBE ── another MAC claims to be it ──► VERIFY ─ the old one answers,
//!                                                                or nobody for 500 ms: the other one
//! ```
//!
//! Only an answer to a question of ours shows that a neighbour is reachable. What is said without being asked
//! (requests, announcements) or names another MAC than the known one is a claim: the known
//! MAC is asked first, it alone, and keeps the address if it answers. So who sits beside a call moves nothing, and an
//! address that has moved is found at its new place within half a second.
//!
//! Packets that wait for an answer are the steward's.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

const MS: u64 = 1_000_000;
/// How long an answer holds before the neighbour is asked again.
const REACHABLE_NS: u64 = 30_000 * MS;
/// The same for neighbours that are watched: gateways that another one stands in for.
const WATCHED_NS: u64 = 1_000 * MS;
const FAST_NS: u64 = 250 * MS;
const RETRY_NS: u64 = 1_000 * MS;
/// Questions at the fast pace, before the slow one.
const FAST_TRIES: u32 = 4;
/// Probes before a neighbour is given up, a second apart.
const PROBES: u32 = 3;
/// How long an answer to the last probe may take.
const ANSWER_NS: u64 = 500 * MS;
/// Against a claim the known MAC is asked so often, so long apart.
const VERIFY_TRIES: u32 = 4;
const VERIFY_NS: u64 = 125 * MS;
/// A next hop that no route used for so long is forgotten.
const FORGET_NS: u64 = 600_000 * MS;
/// The same while less than a quarter of the numbers is free. Packets that wait for a next hop are given up sooner.
const FORGET_SCARCE_NS: u64 = 10_000 * MS;
/// Neighbours seen to in one go, besides those that are watched: what they are asked has to fit the steward's queue.
const DUE_AT_ONCE: usize = 512;

/// A MAC address.
pub type Mac = [u8; 6];

/// A neighbour's name: port index, VLAN and address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Index of the port.
    pub port: u8,
    /// 802.1Q VLAN, 0 for none.
    pub vlan: u16,
    /// The neighbour's address.
    pub ip: IpAddr,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Ask who has the address.
    Ask {
        /// The neighbour.
        key: Key,
        /// Our address on that link.
        from: IpAddr,
        /// Whom to ask: this MAC alone, or everyone.
        at: Option<Mac>,
    },
    /// The neighbour's MAC is known, or is another one now.
    Resolve {
        /// The neighbour.
        key: Key,
        /// Its number.
        number: u16,
        /// Its MAC.
        mac: Mac,
    },
    /// The neighbour does not answer any more.
    Lose {
        /// The neighbour.
        key: Key,
        /// Its number.
        number: u16,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Its MAC is not known; it was asked so often.
    Incomplete { tries: u32 },
    /// It has answered.
    Reachable { mac: Mac },
    /// It is asked whether it is still there; it was asked so often.
    Probe { mac: Mac, tries: u32 },
    /// Another MAC claims to be it, and the known one has been asked so often.
    Verify { mac: Mac, claimed: Mac, tries: u32 },
    /// The configuration says its MAC.
    Fixed,
}

#[derive(Debug)]
struct Neighbour {
    number: u16,
    from: IpAddr,
    state: State,
    /// When `state` has something to do by itself.
    due_ns: u64,
    /// Asked each second, and never forgotten.
    watched: bool,
    /// Never forgotten.
    kept: bool,
}

/// All next hops, by name.
pub struct Neighbours {
    known: HashMap<Key, Neighbour>,
    schedule: Schedule,
    free: Vec<u16>,
    /// When each number was last seen in use.
    used_ns: Vec<u64>,
}

/// Who has something to do when, so that nobody looks through all neighbours. Those that are watched come first: a
/// thousand phones that do not answer must not hold up a gateway's turn.
#[derive(Default)]
struct Schedule {
    watched: BTreeSet<(u64, Key)>,
    others: BTreeSet<(u64, Key)>,
}

impl Schedule {
    fn of(&mut self, neighbour: &Neighbour) -> &mut BTreeSet<(u64, Key)> {
        match neighbour.watched {
            true => &mut self.watched,
            false => &mut self.others,
        }
    }

    fn insert(&mut self, key: Key, neighbour: &Neighbour) {
        self.of(neighbour).insert((neighbour.due_ns, key));
    }

    fn remove(&mut self, key: Key, neighbour: &Neighbour) {
        self.of(neighbour).remove(&(neighbour.due_ns, key));
    }

    /// Those whose time has come.
    fn due(&self, now_ns: u64) -> Vec<Key> {
        let until = |set: &BTreeSet<(u64, Key)>, most: usize| {
            let due = set.iter().take_while(|&&(due_ns, _)| due_ns <= now_ns);
            due.take(most).map(|&(_, key)| key).collect::<Vec<_>>()
        };
        let mut due = until(&self.watched, usize::MAX);
        due.extend(until(&self.others, DUE_AT_ONCE));
        due
    }
}

/// The answer to [`Neighbours::number`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Number {
    /// Number in the adjacency table.
    pub number: u16,
    /// The entry is new: define it in the adjacency table.
    pub new: bool,
}

impl Neighbours {
    /// None yet; at most `capacity` of them.
    pub fn new(capacity: usize) -> Self {
        Neighbours {
            known: HashMap::new(),
            schedule: Schedule::default(),
            free: (0..capacity as u16).rev().collect(),
            used_ns: vec![0; capacity],
        }
    }

    /// The number of a next hop, which is in use now; taken if it has none; `None` when there are too many.
    pub fn number(&mut self, key: Key, from: IpAddr, now_ns: u64) -> Option<Number> {
        if let Some(neighbour) = self.known.get(&key) {
            let number = neighbour.number;
            self.mark(number, now_ns);
            return Some(Number { number, new: false });
        }
        let number = self.take(now_ns)?;
        let neighbour = Neighbour {
            number,
            from,
            state: State::Incomplete { tries: 0 },
            due_ns: now_ns,
            watched: false,
            kept: false,
        };
        self.schedule.insert(key, &neighbour);
        self.known.insert(key, neighbour);
        Some(Number { number, new: true })
    }

    /// The number of a next hop, if it has one.
    pub fn find(&self, key: Key) -> Option<u16> {
        self.known.get(&key).map(|neighbour| neighbour.number)
    }

    /// A number that is no neighbour's.
    pub fn take(&mut self, now_ns: u64) -> Option<u16> {
        let number = self.free.pop()?;
        self.mark(number, now_ns);
        Some(number)
    }

    /// Fixes a neighbour's MAC: it is never asked, nor forgotten.
    pub fn fix(&mut self, key: Key) {
        self.change(key, |neighbour| {
            neighbour.state = State::Fixed;
            neighbour.due_ns = u64::MAX;
            neighbour.kept = true;
        });
    }

    /// Keeps a neighbour, used or not; one that is `watched` is asked each second, rather than every 30.
    pub fn keep(&mut self, key: Key, watched: bool) {
        self.change(key, |neighbour| {
            neighbour.kept = true;
            neighbour.watched |= watched;
        });
    }

    /// Undoes [`Neighbours::fix`] and [`Neighbours::keep`]: it is asked for, and forgotten like any other.
    pub fn let_go(&mut self, key: Key, now_ns: u64) {
        self.change(key, |neighbour| {
            (neighbour.kept, neighbour.watched) = (false, false);
            if neighbour.state == State::Fixed {
                neighbour.state = State::Incomplete { tries: 0 };
                neighbour.due_ns = now_ns;
            }
        });
    }

    /// Changes a neighbour, if it is one, and when it has something to do.
    fn change<T>(&mut self, key: Key, how: impl FnOnce(&mut Neighbour) -> T) -> Option<T> {
        let neighbour = self.known.get_mut(&key)?;
        self.schedule.remove(key, neighbour);
        let result = how(neighbour);
        self.schedule.insert(key, neighbour);
        Some(result)
    }

    /// Where a neighbour was found to be.
    pub fn mac(&self, key: Key) -> Option<Mac> {
        match self.known.get(&key)?.state {
            State::Reachable { mac } | State::Probe { mac, .. } | State::Verify { mac, .. } => {
                Some(mac)
            }
            State::Incomplete { .. } | State::Fixed => None,
        }
    }

    /// Has every neighbour asked from an address of ours: `source` has one for each link.
    pub fn ask_from(&mut self, source: impl Fn(Key, IpAddr) -> Option<IpAddr>) {
        for (&key, neighbour) in &mut self.known {
            neighbour.from = source(key, neighbour.from).unwrap_or(neighbour.from);
        }
    }

    /// A neighbour spoke of its MAC; `None` if it answered without naming it. `answers`: to a question of ours.
    /// Strangers are not remembered.
    pub fn heard(
        &mut self,
        key: Key,
        said: Option<Mac>,
        answers: bool,
        now_ns: u64,
    ) -> Option<Action> {
        self.change(key, |neighbour| neighbour.heard(key, said, answers, now_ns))?
    }

    /// What time demands; of a crowd, the first of it.
    pub fn due(&mut self, now_ns: u64) -> Vec<Action> {
        let mut actions = Vec::new();
        for key in self.schedule.due(now_ns) {
            self.change(key, |neighbour| neighbour.due(key, now_ns, &mut actions));
        }
        actions
    }

    /// A live route names this number.
    pub fn mark(&mut self, number: u16, now_ns: u64) {
        if let Some(used_ns) = self.used_ns.get_mut(usize::from(number)) {
            *used_ns = (*used_ns).max(now_ns);
        }
    }

    /// Forgets those that no route has used for ten minutes, or ten seconds if numbers grow scarce. Every live route was
    /// marked since `since_ns`.
    /// Their numbers are to be [`Neighbours::release`]d when no worker can know them any more.
    pub fn forget(&mut self, since_ns: u64, now_ns: u64) -> Vec<u16> {
        let mut forgotten = Vec::new();
        let used_ns = &self.used_ns;
        let patience_ns = match self.free.len() < used_ns.len() / 4 {
            true => FORGET_SCARCE_NS,
            false => FORGET_NS,
        };
        let schedule = &mut self.schedule;
        self.known.retain(|&key, neighbour| {
            let used_ns = used_ns[usize::from(neighbour.number)];
            let is_recent = used_ns.saturating_add(patience_ns) > now_ns;
            let stays = neighbour.kept || used_ns >= since_ns || is_recent;
            if !stays {
                schedule.remove(key, neighbour);
                forgotten.push(neighbour.number);
            }
            stays
        });
        forgotten
    }

    /// Gives a number back.
    pub fn release(&mut self, number: u16) {
        self.free.push(number);
    }
}

impl Neighbour {
    /// See [`Neighbours::heard`].
    fn heard(&mut self, key: Key, said: Option<Mac>, answers: bool, now_ns: u64) -> Option<Action> {
        let (next, action) = self.after(said, answers);
        let moved = next != self.state;
        self.state = next;
        match next {
            State::Reachable { .. } if moved => {
                let holds_ns = if self.watched {
                    WATCHED_NS
                } else {
                    REACHABLE_NS
                };
                self.due_ns = now_ns + holds_ns;
            }
            // Asked at once: the known MAC, whether it is still there.
            State::Verify { mac, .. } if moved => {
                self.due_ns = now_ns + VERIFY_NS;
                let from = self.from;
                let at = Some(mac);
                return Some(Action::Ask { key, from, at });
            }
            State::Probe { tries: 0, .. } if moved => self.due_ns = now_ns,
            _ => {}
        }
        let number = self.number;
        action.map(|mac| Action::Resolve { key, number, mac })
    }

    /// The state after it spoke, and its MAC where that is news.
    fn after(&self, said: Option<Mac>, answers: bool) -> (State, Option<Mac>) {
        let state = self.state;
        match (state, said) {
            (State::Incomplete { tries }, Some(mac)) => {
                let state = if answers && tries > 0 {
                    State::Reachable { mac }
                } else {
                    State::Probe { mac, tries: 0 }
                };
                (state, Some(mac))
            }
            (State::Reachable { mac } | State::Probe { mac, .. }, Some(claimed))
                if claimed != mac =>
            {
                let tries = 1;
                (
                    State::Verify {
                        mac,
                        claimed,
                        tries,
                    },
                    None,
                )
            }
            (State::Verify { mac, .. }, Some(said)) if said != mac => (state, None),
            (State::Probe { mac, .. } | State::Verify { mac, .. }, _) if answers => {
                (State::Reachable { mac }, None)
            }
            _ => (state, None),
        }
    }

    fn due(&mut self, key: Key, now_ns: u64, actions: &mut Vec<Action>) {
        let (from, number) = (self.from, self.number);
        match self.state {
            State::Incomplete { tries } => {
                let fast = tries < FAST_TRIES;
                self.due_ns = now_ns + if fast { FAST_NS } else { RETRY_NS };
                self.state = State::Incomplete {
                    tries: tries.saturating_add(1),
                };
                let at = None;
                actions.push(Action::Ask { key, from, at });
            }
            State::Reachable { mac } => self.probe(key, mac, 0, now_ns, actions),
            State::Probe { mac, tries } if tries < PROBES => {
                self.probe(key, mac, tries, now_ns, actions);
            }
            State::Probe { .. } => {
                actions.push(Action::Lose { key, number });
                self.state = State::Incomplete { tries: 0 };
                self.due(key, now_ns, actions);
            }
            State::Verify {
                mac,
                claimed,
                tries,
            } if tries < VERIFY_TRIES => {
                let tries = tries + 1;
                self.state = State::Verify {
                    mac,
                    claimed,
                    tries,
                };
                // Late questions do not add up; but a steward that was held up must leave time for an answer.
                self.due_ns = (self.due_ns + VERIFY_NS).max(now_ns + VERIFY_NS / 2);
                let at = Some(mac);
                actions.push(Action::Ask { key, from, at });
            }
            State::Verify { claimed: mac, .. } => {
                actions.push(Action::Resolve { key, number, mac });
                self.probe(key, mac, 0, now_ns, actions);
            }
            State::Fixed => self.due_ns = u64::MAX,
        }
    }

    /// Asks the known MAC once more.
    fn probe(&mut self, key: Key, mac: Mac, tries: u32, now_ns: u64, actions: &mut Vec<Action>) {
        let tries = tries + 1;
        self.state = State::Probe { mac, tries };
        self.due_ns = now_ns + if tries < PROBES { RETRY_NS } else { ANSWER_NS };
        let (from, at) = (self.from, Some(mac));
        actions.push(Action::Ask { key, from, at });
    }
}

#[cfg(test)]
mod tests;
