//! One lane per call: what concerns different calls overlaps, what concerns one call queues.
//!
//! A call that goes by several Call-IDs has the lane of its own one. Work that waited for a call which became a part of
//! another meanwhile goes on to that one's lane.

use crate::service::Service;
use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use tokio::sync::oneshot;

type Work = Pin<Box<dyn Future<Output = ()>>>;

/// Calls with work under way, by Call-ID, and what waits behind it.
#[derive(Default)]
pub(crate) struct Lanes(RefCell<HashMap<String, VecDeque<Work>>>);

impl Lanes {
    /// Starts a piece of work, or has it wait for the one of the same call.
    fn run(self: &Rc<Self>, lane: &str, work: impl Future<Output = ()> + 'static) {
        let work: Work = Box::pin(work);
        if let Some(waiting) = self.0.borrow_mut().get_mut(lane) {
            return waiting.push_back(work);
        }
        let lane = lane.to_owned();
        self.0.borrow_mut().insert(lane.clone(), VecDeque::new());
        let lanes = self.clone();
        tokio::task::spawn_local(async move {
            let mut next = Some(work);
            while let Some(work) = next {
                work.await;
                let mut lanes = lanes.0.borrow_mut();
                next = lanes.get_mut(&lane).and_then(VecDeque::pop_front);
                if next.is_none() {
                    lanes.remove(&lane);
                }
            }
        });
    }

    /// Starts a piece of work once nothing else of either lane is under way. Both places are taken at once, so two that want
    /// the same lanes never wait for each other.
    fn run_both(
        self: &Rc<Self>,
        [one, other]: [&str; 2],
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
            match service.lane(&name) == lane {
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
                match [one, other].map(|name| service.lane(name)) == lanes {
                    true => work.await,
                    false => service.in_both_turns([one, other], work),
                }
            });
    }

    fn lane(&self, id: &str) -> String {
        self.calls.borrow().own_id(id).to_owned()
    }
}
