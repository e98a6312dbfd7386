//! Ending calls on an operator's word.

use crate::service::Service;
use std::rc::Rc;
use tokio::sync::oneshot;

/// Calls that end at one time when all are to.
const BATCH: usize = 64;

impl Service {
    /// Ends a call when it is its turn; false if there was none.
    pub(crate) async fn end_call(self: &Rc<Self>, id: &str) -> bool {
        let (done, ended) = oneshot::channel();
        let (service, name) = (self.clone(), id.to_owned());
        self.in_turn(id, async move {
            // Nobody may wait any more.
            let _ = done.send(service.end_now(&name).await);
        });
        ended.await.unwrap_or(false)
    }

    async fn end_now(&self, id: &str) -> bool {
        let prepared = self.calls.borrow().end(id);
        let Ok(pending) = prepared else {
            return false;
        };
        tracing::info!(call = id, "call ended: the operator ended it");
        self.remove(pending, "operator").await.is_some()
    }

    /// Starts to end every call that stands; returns how many those are.
    pub(crate) fn end_all(self: &Rc<Self>) -> usize {
        let ids: Vec<String> = self.calls.borrow().iter().map(|c| c.id.clone()).collect();
        let count = ids.len();
        let service = self.clone();
        tokio::task::spawn_local(async move {
            for batch in ids.chunks(BATCH) {
                let mut waiting = tokio::task::JoinSet::new();
                for id in batch {
                    let (service, id) = (service.clone(), id.clone());
                    waiting.spawn_local(async move { service.end_call(&id).await });
                }
                while waiting.join_next().await.is_some() {}
            }
        });
        count
    }
}
