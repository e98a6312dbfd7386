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
            let key = service.calls.borrow().get(&name).map(|call| call.key);
            let ended = match key {
                Some(key) => service.end_now(key).await,
                None => false,
            };
            // Nobody may wait any more.
            let _ = done.send(ended);
        });
        ended.await.unwrap_or(false)
    }

    async fn end_now(&self, key: u64) -> bool {
        let prepared = self.calls.borrow().end(key);
        let Some(pending) = prepared else {
            return false;
        };
        tracing::info!(call = pending.call_id, "call ended: the operator ended it");
        self.remove(pending, "operator").await.is_some()
    }

    /// Starts to end every call that stands; returns how many those are.
    pub(crate) fn end_all(self: &Rc<Self>) -> usize {
        let keys: Vec<u64> = self.calls.borrow().iter().map(|call| call.key).collect();
        let count = keys.len();
        let service = self.clone();
        tokio::task::spawn_local(async move {
            for batch in keys.chunks(BATCH) {
                let mut waiting = Vec::new();
                for &key in batch {
                    let (done, ended) = oneshot::channel();
                    let worker = service.clone();
                    service.in_turn_of(key, async move {
                        // Only the batch waits for it.
                        let _ = done.send(worker.end_now(key).await);
                    });
                    waiting.push(ended);
                }
                for ended in waiting {
                    // It is over either way.
                    let _ = ended.await;
                }
            }
        });
        count
    }
}
