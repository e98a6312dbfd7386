//! One lane per call: what concerns different calls overlaps, what concerns one call queues.
//!
//! A call that goes by several Call-IDs has the lane of its own one. Work that waited for a call which has the lane of another
//! Call-ID by then goes on to that lane: it became a part of another call, or lost its own name, or another call has its name.

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

    /// The same for work that concerns the call of a key, whatever Call-IDs it goes by.
    pub(crate) fn in_turn_of(self: &Rc<Self>, key: u64, work: impl Future<Output = ()> + 'static) {
        let (service, lane) = (self.clone(), self.lane_of(key));
        self.lanes.run(&lane.clone(), async move {
            match service.lane_of(key) == lane {
                true => work.await,
                false => service.in_turn_of(key, work),
            }
        });
    }

    /// The same for work that concerns two calls, by their Call-IDs.
    pub(crate) fn in_both_turns(
        self: &Rc<Self>,
        ids: [&str; 2],
        work: impl Future<Output = ()> + 'static,
    ) {
        let (service, names) = (self.clone(), ids.map(str::to_owned));
        let lanes = ids.map(|id| self.lane(id));
        let [one, other] = lanes.clone();
        // One call may be two again by then, and the other way round.
        let work = async move {
            let ids = names.each_ref().map(String::as_str);
            match ids.map(|id| service.lane(id)) == lanes {
                true => work.await,
                false => service.in_both_turns(ids, work),
            }
        };
        match one == other {
            true => self.lanes.run(&one, work),
            false => self.lanes.run_both([&one, &other], work),
        }
    }

    /// That of a call which is gone is for those who come too late.
    fn lane_of(&self, key: u64) -> Rc<str> {
        let calls = self.calls.borrow();
        calls.by_key(key).map_or("", |call| &call.id).into()
    }

    fn lane(&self, id: &str) -> Rc<str> {
        self.calls.borrow().own_id(id).into()
    }

    fn is_lane(&self, lane: &str, id: &str) -> bool {
        self.calls.borrow().own_id(id) == lane
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::now;
    use penstock_media::{Options, Parties};
    use std::time::Duration;
    use tokio::task::{LocalSet, yield_now};

    impl Service {
        /// A call of that name begins, without a plane.
        fn offered(&self, call_id: &str, from_tag: &str) {
            let parties = Parties {
                call_id,
                from_tag,
                to_tag: None,
                branch: None,
            };
            let sdp = b"v=0\r\no=- 1 1 IN IP4 10.0.0.1\r\ns=-\r\nc=IN IP4 10.0.0.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 8\r\n";
            let mut calls = self.calls.borrow_mut();
            let pending = calls.offer(&parties, sdp, &Options::default(), now());
            calls.commit(pending.unwrap(), now());
        }

        fn deleted(&self, call_id: &str) {
            let mut calls = self.calls.borrow_mut();
            let pending = calls.delete(call_id, (None, None), None, Duration::ZERO, now());
            calls.commit(pending.unwrap(), now());
        }
    }

    /// Both are one call, `one`.
    fn merged(dir: &std::path::Path) -> Rc<Service> {
        let service = Service::idle(dir);
        service.offered("one", "a");
        service.offered("two", "x");
        {
            let mut calls = service.calls.borrow_mut();
            let pending = calls.connect(("one", "a"), ("two", "x"), now());
            calls.commit(pending.unwrap(), now());
        }
        Rc::new(service)
    }

    /// Runs what is ready.
    async fn settle() {
        for _ in 0..100 {
            yield_now().await;
        }
    }

    type Log = Rc<RefCell<Vec<&'static str>>>;

    /// Work that takes until its sender is dropped or used, and is noted then.
    fn work(
        log: &Log,
        name: &'static str,
    ) -> (oneshot::Sender<()>, impl Future<Output = ()> + use<>) {
        let (end, ends) = oneshot::channel();
        let log = log.clone();
        let work = async move {
            let _ = ends.await;
            log.borrow_mut().push(name);
        };
        (end, work)
    }

    #[tokio::test]
    async fn what_waits_for_one_call_waits_for_both_if_it_is_two_by_then() {
        let dir = tempfile::tempdir().unwrap();
        let service = merged(dir.path());
        let log = Log::default();
        LocalSet::new()
            .run_until(async {
                let (first, works) = work(&log, "first");
                let own = service.clone();
                service.in_turn("one", async move {
                    own.deleted("two");
                    works.await;
                });
                let both = log.clone();
                let connect = async move { both.borrow_mut().push("both") };
                service.in_both_turns(["one", "two"], connect);
                settle().await;
                // Another call has the name, and is not yet done with.
                let (second, works) = work(&log, "second");
                let own = service.clone();
                service.in_turn("two", async move {
                    own.offered("two", "x");
                    works.await;
                });
                settle().await;
                drop(first);
                settle().await;
                drop(second);
                settle().await;
            })
            .await;
        assert_eq!(*log.borrow(), ["first", "second", "both"]);
    }

    #[tokio::test]
    async fn a_key_leads_to_the_lane_of_whatever_name_the_call_has() {
        let dir = tempfile::tempdir().unwrap();
        let service = merged(dir.path());
        let key = service.calls.borrow().get("one").unwrap().key;
        let log = Log::default();
        LocalSet::new()
            .run_until(async {
                let (first, works) = work(&log, "first");
                let own = service.clone();
                service.in_turn("one", async move {
                    own.deleted("one");
                    works.await;
                });
                let swept = log.clone();
                service.in_turn_of(key, async move { swept.borrow_mut().push("swept") });
                settle().await;
                let (second, works) = work(&log, "second");
                service.in_turn("two", works);
                settle().await;
                drop(first);
                settle().await;
                drop(second);
                settle().await;
            })
            .await;
        assert_eq!(*log.borrow(), ["first", "second", "swept"]);
    }
}
