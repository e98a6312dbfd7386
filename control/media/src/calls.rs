//! All calls, their ports, and the two halves of each operation.

use crate::call::Call;
use crate::diff::{Desired, Op, diff};
use crate::options::Options;
use crate::pool::Pools;
use crate::signal::{Parties, Work};
use crate::{Held, Local, MediaError, Now, Settings};
use penstock_sdp::Sdp;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

/// Every call the relay knows.
pub struct Calls {
    /// By their own Call-IDs. Shared with whoever reports on one: a change makes another.
    calls: HashMap<String, Rc<Call>>,
    /// Call-IDs of calls that became a part of another one, and that one's.
    merged: HashMap<String, String>,
    /// All calls by their keys: the same ones as in `calls`, each with a second owner here.
    by_key: HashMap<u64, Rc<Call>>,
    /// Of how many calls media is relayed over neither IP version, over IPv4, over IPv6, over both.
    by_family: [usize; 4],
    pools: Pools,
    max_calls: usize,
    is_draining: bool,
    /// Calls that have only a pending first offer.
    newcomers: usize,
    next_key: u64,
}

/// A prepared change of one call: hand it to [`Calls::commit`] or [`Calls::rollback`].
#[must_use = "a change that is neither committed nor rolled back leaks its ports"]
#[derive(Debug)]
pub struct Pending {
    /// The Call-ID that it is stored under from now on.
    pub call_id: String,
    /// What the region calls the call.
    pub key: u64,
    /// The SDP that leaves; empty for a delete.
    pub sdp: Vec<u8>,
    /// What the plane has to do, in order; empty if nothing changes there.
    pub ops: Vec<Op>,
    before: Option<Rc<Call>>,
    after: Option<Call>,
    /// A call that becomes a part of this one.
    absorbed: Option<Rc<Call>>,
    taken: Vec<Local>,
}

impl Pending {
    /// The call as it will be; `None` if it will be gone.
    pub fn after(&self) -> Option<&Call> {
        self.after.as_ref()
    }

    /// The call as it still is; `None` if it is new.
    pub fn before(&self) -> Option<&Rc<Call>> {
        self.before.as_ref()
    }

    /// The call that becomes a part of this one, as it still is.
    pub fn absorbed(&self) -> Option<&Rc<Call>> {
        self.absorbed.as_ref()
    }

    /// The Call-ID under which a call is stored no longer: of the one that becomes a part of this one, or the one that this
    /// one went by.
    pub fn gone(&self) -> Option<&str> {
        let before = self.absorbed.as_ref().or(self.before.as_ref());
        let id = before.map(|call| call.id.as_str());
        id.filter(|id| *id != self.call_id)
    }

    /// The steps that take the plane back, should it have applied [`Pending::ops`]: those of each call by its key, in order.
    pub fn undo(&self) -> Vec<(u64, Vec<Op>)> {
        let mut after = desired(self.after.as_ref());
        let mut steps = Vec::new();
        if let Some(absorbed) = &self.absorbed {
            let theirs = absorbed.desired();
            after.retain(|local, _| !theirs.contains_key(local));
            let back = moves(&theirs, self.key);
            let puts = theirs.values().map(|stream| Op::Put(*stream));
            steps.push((absorbed.key, back.chain(puts).collect()));
        }
        steps.push((self.key, diff(&after, &desired(self.before.as_deref()))));
        steps
    }

    /// The same change, but for all of another call being a part of this one afterwards.
    pub(crate) fn absorbing(mut self, other: Rc<Call>) -> Pending {
        let theirs = other.desired();
        let mut before = desired(self.before.as_deref());
        let moved: Vec<Op> = moves(&theirs, other.key).collect();
        before.extend(theirs);
        self.ops = moved;
        self.ops
            .extend(diff(&before, &desired(self.after.as_ref())));
        self.absorbed = Some(other);
        self
    }
}

/// What became of a stored call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restore {
    /// It is known again.
    Done,
    /// It holds a port, a key or a Call-ID that another call has: not taken over.
    Clash,
}

/// Whether the body has been through here (`loop-protect`).
fn is_ours(sdp: &Sdp, options: &Options) -> bool {
    let mark = options.loop_mark.as_ref();
    mark.is_some_and(|mark| sdp.loop_marks().contains(mark))
}

/// A bit for each IP version that a call's media is relayed over.
fn families(call: &Call) -> usize {
    let medias = call.dialogs.iter().flat_map(|dialog| &dialog.medias);
    let locals = medias.filter_map(|media| media.locals).flatten();
    locals.fold(0, |bits, local| bits | 1 << usize::from(local.ip.is_ipv6()))
}

/// Has streams be this call's rather than that of the key `from`.
fn moves(streams: &Desired, from: u64) -> impl Iterator<Item = Op> {
    let locals = streams.keys();
    locals.map(move |&local| Op::Move { local, from })
}

fn desired(call: Option<&Call>) -> Desired {
    call.map(Call::desired).unwrap_or_default()
}

impl Calls {
    /// No calls yet. Keys begin at the present microsecond, above those of any earlier run.
    pub fn new(settings: Settings, now: Now) -> Calls {
        Calls {
            calls: HashMap::new(),
            merged: HashMap::new(),
            by_key: HashMap::new(),
            by_family: [0; 4],
            pools: Pools::new(settings.interfaces, settings.rest, settings.seed),
            max_calls: settings.max_calls,
            is_draining: false,
            newcomers: 0,
            next_key: now.unix_us.max(1),
        }
    }

    /// Takes over the calls of an earlier run and marks their ports as taken.
    pub fn restore(&mut self, calls: impl IntoIterator<Item = Call>) -> Vec<(String, Restore)> {
        let outcome = calls
            .into_iter()
            .map(|call| (call.id.clone(), self.restore_one(call)))
            .collect();
        self.pools.settle();
        outcome
    }

    fn restore_one(&mut self, call: Call) -> Restore {
        let locals: Vec<Local> = call.locals().collect();
        let distinct: HashSet<_> = locals.iter().collect();
        let mut names = call.ids();
        let known =
            names.any(|id| self.shared(id).is_some()) || self.by_key.contains_key(&call.key);
        drop(names);
        if known || distinct.len() != locals.len() {
            return Restore::Clash;
        }
        for (idx, &local) in locals.iter().enumerate() {
            if !self.pools.claim(local) {
                for &claimed in &locals[..idx] {
                    self.pools.unclaim(claimed);
                }
                return Restore::Clash;
            }
        }
        self.next_key = self.next_key.max(call.key.saturating_add(1));
        self.insert(Rc::new(call));
        Restore::Done
    }

    /// A call by its Call-ID.
    pub fn get(&self, call_id: &str) -> Option<&Call> {
        self.shared(call_id).map(Rc::as_ref)
    }

    pub(crate) fn shared(&self, call_id: &str) -> Option<&Rc<Call>> {
        self.calls.get(self.own_id(call_id))
    }

    /// The first Call-ID of the call that goes by this one; the same if there is none.
    pub fn own_id<'a>(&'a self, call_id: &'a str) -> &'a str {
        self.merged.get(call_id).map_or(call_id, String::as_str)
    }

    fn insert(&mut self, call: Rc<Call>) {
        self.by_family[families(&call)] += 1;
        self.by_key.insert(call.key, call.clone());
        for merged in &call.merged {
            self.merged.insert(merged.id.clone(), call.id.clone());
        }
        self.calls.insert(call.id.clone(), call);
    }

    fn remove(&mut self, call: &Call) {
        self.by_key.remove(&call.key);
        for merged in &call.merged {
            self.merged.remove(&merged.id);
        }
        if let Some(gone) = self.calls.remove(&call.id) {
            self.by_family[families(&gone)] -= 1;
        }
    }

    /// A call by what the region calls it.
    pub fn by_key(&self, key: u64) -> Option<&Call> {
        self.shared_by_key(key).map(Rc::as_ref)
    }

    pub(crate) fn shared_by_key(&self, key: u64) -> Option<&Rc<Call>> {
        self.by_key.get(&key)
    }

    /// All calls, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Call> {
        self.calls.values().map(Rc::as_ref)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.calls.len()
    }

    /// Calls whose media is relayed over IPv4 alone, over IPv6 alone, over both.
    pub fn by_family(&self) -> [usize; 3] {
        let [_, four, six, both] = self.by_family;
        [four, six, both]
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    /// Takes over other settings: new calls use them. All or nothing.
    ///
    /// # Errors
    /// [`Held`]: an interface that a call uses would be gone, moved, or without the call's ports.
    pub fn configure(&mut self, settings: Settings) -> Result<(), Held> {
        let new = &settings.interfaces;
        for old in self.pools.interfaces() {
            let moved = !new
                .iter()
                .any(|i| i.name == old.name && i.ip == old.ip && i.vlan == old.vlan);
            let lost = |local: &Local| old.holds(*local) && !new.iter().any(|i| i.holds(*local));
            let needs = |call: &&Rc<Call>| {
                let legs = || call.legs();
                moved && legs().any(|leg| leg.interface == old.name)
                    || call.locals().any(|local| lost(&local))
            };
            let mut calls: Vec<_> = self.calls.values().filter(needs).collect();
            // Offers under way hold ports that no call has yet.
            let setting_up = moved && self.newcomers > 0;
            let mut used = self.pools.used();
            let is_held = used.any(|local| lost(&local) || setting_up && old.holds(local));
            if calls.is_empty() && !is_held {
                continue;
            }
            calls.sort_by_key(|call| call.key);
            return Err(Held {
                interface: old.name.clone(),
                ip: old.ip,
                ports: old.ports,
                calls: calls.into_iter().map(|call| call.id.clone()).collect(),
            });
        }
        let Settings {
            interfaces,
            rest,
            max_calls,
            seed,
        } = settings;
        let held: Vec<Local> = self.iter().flat_map(Call::locals).collect();
        self.pools
            .replace(Pools::new(interfaces, rest, seed), &held);
        self.max_calls = max_calls;
        Ok(())
    }

    /// Whether new calls are refused.
    pub fn is_draining(&self) -> bool {
        self.is_draining
    }

    /// Refuses new calls from now on, or no longer. Calls that stand are served either way.
    pub fn drain(&mut self, is_draining: bool) {
        self.is_draining = is_draining;
    }

    /// Calls that stand, and calls whose first offer is being carried out.
    pub fn left(&self) -> usize {
        self.calls.len() + self.newcomers
    }

    /// Of each interface: name, pairs in use, pairs in all.
    pub fn ports(&self) -> impl Iterator<Item = (&str, usize, usize)> {
        self.pools.usage()
    }

    /// Prepares an offer.
    ///
    /// # Errors
    /// [`MediaError`]; nothing stays taken.
    pub fn offer(
        &mut self,
        parties: &Parties<'_>,
        sdp: &[u8],
        options: &Options,
        now: Now,
    ) -> Result<Pending, MediaError> {
        self.begin(parties, sdp, options, now, |work, sdp| {
            work.offer(parties, sdp, options)
        })
    }

    /// Prepares a change that a call may begin with.
    pub(crate) fn begin(
        &mut self,
        parties: &Parties<'_>,
        sdp: &[u8],
        options: &Options,
        now: Now,
        apply: impl FnOnce(&mut Work<'_>, &Sdp) -> Result<Vec<u8>, MediaError>,
    ) -> Result<Pending, MediaError> {
        let sdp = Sdp::parse(sdp)?;
        if is_ours(&sdp, options) {
            return Ok(Pending::nothing(parties.call_id, sdp.as_bytes()));
        }
        let before = self.shared(parties.call_id).cloned();
        if before.is_none() && self.is_draining {
            return Err(MediaError::Draining);
        }
        if before.is_none() && self.left() >= self.max_calls {
            return Err(MediaError::TooManyCalls);
        }
        let call = before.as_deref().cloned();
        let call = call.unwrap_or_else(|| Call {
            asked_by: options.asked_by,
            ..Call::new(parties.call_id, self.next_key, now)
        });
        let is_new = before.is_none();
        let pending = self.prepare(call, before, now, |work| apply(work, &sdp))?;
        if is_new {
            self.newcomers += 1;
            self.next_key += 1;
        }
        Ok(pending)
    }

    /// Prepares an answer. `parties.from_tag` is the tag of the leg that made the offer.
    ///
    /// # Errors
    /// [`MediaError`]; the call stays as it is.
    pub fn answer(
        &mut self,
        parties: &Parties<'_>,
        sdp: &[u8],
        options: &Options,
        now: Now,
    ) -> Result<Pending, MediaError> {
        let before = self.shared(parties.call_id);
        let before = before.ok_or(MediaError::UnknownCall)?.clone();
        let sdp = Sdp::parse(sdp)?;
        if is_ours(&sdp, options) {
            return Ok(Pending::nothing(parties.call_id, sdp.as_bytes()));
        }
        self.prepare_change(before, now, |work| work.answer(parties, &sdp, options))
    }

    /// Prepares that one capture more of a call runs, or one fewer.
    ///
    /// # Errors
    /// [`MediaError::UnknownCall`]: no call has this key any more.
    pub fn capture(&self, key: u64, begins: bool) -> Result<Pending, MediaError> {
        let before = self.shared_by_key(key).ok_or(MediaError::UnknownCall)?;
        let captures = match begins {
            true => before.captures.saturating_add(1),
            false => before.captures.saturating_sub(1),
        };
        let after = Call {
            captures,
            ..Call::clone(before)
        };
        let before = Some(before.clone());
        Ok(Pending::new(before, Some(after), Vec::new(), Vec::new()))
    }

    /// Prepares a change of a call that stands.
    pub(crate) fn prepare_change(
        &mut self,
        before: Rc<Call>,
        now: Now,
        apply: impl FnOnce(&mut Work<'_>) -> Result<Vec<u8>, MediaError>,
    ) -> Result<Pending, MediaError> {
        self.prepare(Call::clone(&before), Some(before), now, apply)
    }

    fn prepare(
        &mut self,
        call: Call,
        before: Option<Rc<Call>>,
        now: Now,
        apply: impl FnOnce(&mut Work<'_>) -> Result<Vec<u8>, MediaError>,
    ) -> Result<Pending, MediaError> {
        let mut work = Work {
            call,
            pools: &mut self.pools,
            taken: Vec::new(),
            now,
        };
        let result = apply(&mut work);
        let Work {
            mut call, taken, ..
        } = work;
        match result {
            Ok(sdp) => {
                call.last_signal_us = now.unix_us;
                Ok(Pending::new(before, Some(call), sdp, taken))
            }
            Err(error) => {
                // Nobody has seen them: no rest needed.
                for local in taken.into_iter().rev() {
                    self.pools.untake(local);
                }
                Err(error)
            }
        }
    }

    /// The plane holds the change: it is the truth now. Ports it freed go to rest.
    pub fn commit(&mut self, pending: Pending, now: Now) {
        let Pending {
            before,
            after,
            absorbed,
            taken,
            ..
        } = pending;
        let mut kept: Vec<Local> = after.iter().flat_map(Call::locals).collect();
        kept.sort_unstable();
        let freed = before.iter().flat_map(|call| call.locals()).chain(taken);
        for local in freed.filter(|local| kept.binary_search(local).is_err()) {
            self.pools.release(local, now.mono);
        }
        if before.is_none() && after.is_some() {
            self.newcomers -= 1;
        }
        for gone in before.iter().chain(&absorbed) {
            self.remove(gone);
        }
        if let Some(call) = after {
            self.insert(Rc::new(call));
        }
    }

    /// The plane refused the change: the call stays as it was. Ports taken for it go to rest.
    pub fn rollback(&mut self, pending: Pending, now: Now) {
        if pending.before.is_none() && pending.after.is_some() {
            self.newcomers -= 1;
        }
        for local in pending.taken {
            self.pools.release(local, now.mono);
        }
    }
}

impl Pending {
    /// Nothing changes, and the body leaves as it came.
    fn nothing(call_id: &str, body: &[u8]) -> Pending {
        Pending {
            call_id: call_id.to_owned(),
            key: 0,
            sdp: body.to_vec(),
            ops: Vec::new(),
            before: None,
            after: None,
            absorbed: None,
            taken: Vec::new(),
        }
    }

    /// Whether there is nothing to store or install.
    pub fn is_nothing(&self) -> bool {
        self.before.is_none() && self.after.is_none()
    }

    pub(crate) fn new(
        before: Option<Rc<Call>>,
        after: Option<Call>,
        sdp: Vec<u8>,
        taken: Vec<Local>,
    ) -> Pending {
        let named = after.as_ref().or(before.as_deref());
        Pending {
            call_id: named.map(|call| call.id.clone()).unwrap_or_default(),
            key: named.map_or(0, |call| call.key),
            sdp,
            ops: diff(&desired(before.as_deref()), &desired(after.as_ref())),
            before,
            after,
            absorbed: None,
            taken,
        }
    }
}
