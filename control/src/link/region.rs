//! Control's side of the region while it is attached.

use super::TICK;
use super::job::Job;
use crate::plan::Addresses;
use penstock_shm as shm;
use std::cell::Cell;
use std::collections::VecDeque;
use std::io;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::time::Duration;
use tokio::net::unix::pipe;

/// How long it is taken for granted that the plane seen at work still is.
const FRESH_NS: u64 = 1_000_000;

/// The region, attached.
pub(super) struct Attached {
    pub(super) commands: shm::CommandProducer,
    pub(super) events: shm::EventConsumer,
    pub(super) applied: shm::Applied,
    pub(super) watch: shm::PlaneWatch,
    pub(super) table: shm::TableView,
    pub(super) addresses: Addresses,
    /// The plane's epoch that was synced; 0 for none.
    pub(super) synced: u64,
    /// Since when a plane has held what the calls want, on CLOCK_MONOTONIC; zero for not yet.
    pub(super) online_since: Duration,
    /// The plane was seen away, and the link has yet to take note. Whoever saw it may have given
    /// up a change for the next sync, so there has to be one although the plane is back.
    pub(super) lost: Cell<bool>,
    /// When the plane was last seen at work, ns of CLOCK_MONOTONIC.
    pub(super) looked_ns: Cell<u64>,
    pub(super) inflight: VecDeque<(u64, Job)>,
}

impl Attached {
    /// Whether a plane works on this region, or did [`FRESH_NS`] ago.
    pub(super) fn alive(&self) -> bool {
        let now_ns = shm::monotonic_ns();
        // It takes three system calls to know, and thousands ask.
        if now_ns.saturating_sub(self.looked_ns.get()) < FRESH_NS {
            return true;
        }
        // A plane that set the region aside does not listen here any more.
        if self.watch.state() != shm::PlaneState::Running || self.watch.replaced() {
            self.lost.set(true);
        }
        let is_alive = !self.lost.get();
        if is_alive {
            self.looked_ns.set(now_ns);
        }
        is_alive
    }

    pub(super) fn online(&self) -> bool {
        self.synced != 0 && self.synced == self.watch.epoch()
    }

    /// Puts a job into the ring; gives it back if there is no room.
    pub(super) fn push(&mut self, mut job: Job) -> Option<Job> {
        for op in &job.ops {
            if let shm::Op::Remove(endpoint) = op
                && let Some(number) = self.table.find(*endpoint)
                && let Some(generation) = self.table.generation(number)
            {
                job.ends.push((number, generation));
            }
        }
        match self.commands.push(job.call, &job.ops) {
            Ok(seq) => self.inflight.push_back((seq, job)),
            Err(shm::PushError::Full) => {
                job.ends.clear();
                return Some(job);
            }
            Err(shm::PushError::TooLarge) => {
                job.refused = Some(shm::Refusal::Malformed);
                job.finish(Vec::new(), &Rc::default());
            }
        }
        None
    }
}

/// The doorbell of an attached region: armed through the region, heard through its pipe.
pub(super) struct Doorbell {
    pub(super) bell: shm::ControlBell,
    pub(super) pipe: pipe::Receiver,
}

impl Doorbell {
    pub(super) fn new(bell: shm::ControlBell) -> io::Result<Doorbell> {
        let fd = bell.as_fd().try_clone_to_owned()?;
        let pipe = pipe::Receiver::from_owned_fd(fd)?;
        Ok(Doorbell { bell, pipe })
    }

    /// Returns once the plane has rung.
    pub(super) async fn rung(&self) {
        if self.pipe.readable().await.is_err() {
            return tokio::time::sleep(TICK).await;
        }
        let mut bytes = [0; 512];
        while matches!(self.pipe.try_read(&mut bytes), Ok(count) if count == bytes.len()) {}
    }
}
