//! One lane per call: what concerns different calls overlaps, what concerns one call queues.
//!
//! A call that goes by several Call-IDs has the lane of its own one. Work that waited for a call which became a part of
//! another meanwhile goes on to that one's lane.

use crate::service::Service;
use std::cell::RefCell;
use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use tokio::sync::oneshot;

type Work = Pin<Box<dyn Future<Output = ()>>>;

/// Calls with work under way, by Call-ID, and what waits behind it.
#[derive(Default)]
pub(crate) struct Lanes(RefCell<HashMap<Rc<str>, VecDeque<Work>>>);

impl Lanes {
    /// Starts a piece of work, or has it wait for the one of the same call.
    fn run(self: &Rc<Self>, lane: &Rc<str>, work: impl Future<Output = ()> + 'static) {
        let work: Work = Box::pin(work);
        match self.0.borrow_mut().entry(lane.clone()) {
            Entry::Occupied(mut waiting) => return waiting.get_mut().push_back(work),
            Entry::Vacant(free) => free.insert(VecDeque::new()),
        };
        let (lanes, lane) = (self.clone(), lane.clone());
        tokio::task::spawn_local(async move {
            let mut next = Some(work);
            while let Some(work) = next {
                work.await;
                next = lanes.after(&lane);
            }
        });
    }

    /// What waits in a lane where nothing is under way any more; without any, it is free.
    fn after(&self, lane: &Rc<str>) -> Option<Work> {
        match self.0.borrow_mut().entry(lane.clone()) {
            Entry::Occupied(mut waiting) => {
                let next = waiting.get_mut().pop_front();
                if next.is_none() {
                    waiting.remove();
                }
                next
            }
            Entry::Vacant(_) => None,
        }
    }

    /// Starts a piece of work once nothing else of either lane is under way. Both places are taken at once, so two that want
    /// the same lanes never wait for each other.
    fn run_both(
        self: &Rc<Self>,
        [one, other]: [&Rc<str>; 2],
        work: impl Future<Output = ()> + 'static,
    ) {
        let (reached, other_is_free) = oneshot::channel();
        let (done, is_done) = oneshot::channel::<()>();
        self.run(other, async move {
            // Either may be gone only as the process ends.
            let _ = reached.send(());
            let _ = is_done.await;
        });
        self.run(one, async move {
            let _ = other_is_free.await;
            work.await;
            drop(done);
        });
    }
}

impl Service {
    /// Has a piece of work wait for its turn among those of the call that goes by this Call-ID.
    pub(crate) fn in_turn(self: &Rc<Self>, id: &str, work: impl Future<Output = ()> + 'static) {
        let (service, name, lane) = (self.clone(), id.to_owned(), self.lane(id));
        self.lanes.run(&lane.clone(), async move {
            match service.is_lane(&lane, &name) {
                true => work.await,
                false => service.in_turn(&name, work),
            }
        });
    }

    /// The same for work that concerns two calls.
    pub(crate) fn in_both_turns(
        self: &Rc<Self>,
        ids: [&str; 2],
        work: impl Future<Output = ()> + 'static,
    ) {
        let lanes = ids.map(|id| self.lane(id));
        let [one, other] = &lanes;
        if one == other {
            return self.in_turn(ids[0], work);
        }
        let (service, names) = (self.clone(), ids.map(str::to_owned));
        self.lanes
            .run_both([&one.clone(), &other.clone()], async move {
                let [one, other] = &names;
                match service.is_lane(&lanes[0], one) && service.is_lane(&lanes[1], other) {
                    true => work.await,
                    false => service.in_both_turns([one, other], work),
                }
            });
    }

    fn lane(&self, id: &str) -> Rc<str> {
        self.calls.borrow().own_id(id).into()
    }

    fn is_lane(&self, lane: &str, id: &str) -> bool {
        self.calls.borrow().own_id(id) == lane
    }
}
