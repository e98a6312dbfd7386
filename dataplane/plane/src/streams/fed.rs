//! Streams that are fed by others: what changes with them.

use super::{Drafts, Streams};
use penstock_shm::Feeding;

impl Streams {
    /// Ends a stream. Those that sent to its remote have no route any more, and the one that fed it one less to feed.
    pub(super) fn end(&mut self, number: u32, drafts: &mut Drafts, now_ns: u64) {
        let endpoint = self.endpoint(number);
        self.table.remove(number, now_ns);
        drafts.remove(&number);
        let parent = self.feeds.forget(number);
        let fed: Vec<u32> = parent.iter().flat_map(|&at| self.group(at)).collect();
        let senders: Vec<u32> = self.feeds.senders(endpoint).collect();
        self.add(senders.into_iter().chain(fed), drafts);
    }

    /// Where a stream's packets come from.
    pub(super) fn feed(&self, feeding: &Feeding, call: u64, drafts: &mut Drafts) {
        let Some(number) = self.of(feeding.endpoint, call) else {
            return;
        };
        let draft = drafts.entry(number).or_insert_with(|| self.draft(number));
        let spec = &mut draft.policy.spec;
        spec.feed = feeding.feed;
        spec.mid = feeding.mid;
        spec.drop_events = feeding.drop_events;
        spec.pierce = feeding.pierce;
    }

    /// Notes what streams are fed by, and has those that feed them stored anew.
    pub(super) fn note(&mut self, drafts: &mut Drafts) {
        let mut parents = Vec::new();
        for (&number, draft) in drafts.iter() {
            let (endpoint, feed) = (self.endpoint(number), draft.policy.spec.feed);
            let changed = self.feeds.note(number, endpoint, draft.peer, feed);
            for parent in changed.into_iter().flatten() {
                parents.extend(self.group(parent));
            }
        }
        self.add(parents, drafts);
    }
}
