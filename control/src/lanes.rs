//! One lane per call: what concerns different calls overlaps, what concerns one call queues.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;

type Work = Pin<Box<dyn Future<Output = ()>>>;

/// Calls with work under way, by Call-ID, and what waits behind it.
#[derive(Default)]
pub(crate) struct Lanes(RefCell<HashMap<String, VecDeque<Work>>>);

impl Lanes {
    /// Starts a piece of work, or has it wait for the one of the same call.
    pub(crate) fn run(self: &Rc<Self>, call_id: &str, work: impl Future<Output = ()> + 'static) {
        let work: Work = Box::pin(work);
        if let Some(waiting) = self.0.borrow_mut().get_mut(call_id) {
            return waiting.push_back(work);
        }
        let lane = call_id.to_owned();
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
}
