//! A command on its way to the plane, and what becomes of it.

use penstock_media::Local;
use penstock_shm as shm;
use std::cell::Cell;
use std::rc::Rc;
use thiserror::Error;
use tokio::sync::oneshot;

/// Why the plane does not hold a change.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum LinkError {
    /// No plane holds the region, or it stands still.
    #[error("media plane is not running")]
    Away,
    /// It did not apply the command in time.
    #[error("media plane does not answer")]
    Timeout,
    /// It refused the command.
    #[error("media plane refused: {0}")]
    Refused(shm::Refusal),
    /// The configuration names an address that the plane's does not.
    #[error("media plane has no address {ip} (VLAN {vlan})", ip = .0.ip, vlan = .0.vlan)]
    NoAddress(Local),
}

/// What the plane reported of a command that it applied.
pub(crate) struct Applied {
    /// The last meters of the streams it removed.
    pub(crate) ended: Vec<shm::StreamStat>,
    /// While it lives, no sync looks at the calls: commit before dropping it.
    _settling: Settling,
}

impl Applied {
    pub(super) fn new(ended: Vec<shm::StreamStat>, settling: &Rc<Cell<usize>>) -> Applied {
        Applied {
            ended,
            _settling: Settling::new(settling),
        }
    }
}

/// Counts the commands whose callers have not yet committed or rolled back.
pub(super) struct Settling(Rc<Cell<usize>>);

impl Settling {
    pub(super) fn new(count: &Rc<Cell<usize>>) -> Settling {
        count.set(count.get() + 1);
        Settling(count.clone())
    }
}

impl Drop for Settling {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

pub(super) type Outcome = Result<Applied, LinkError>;

/// One command on its way.
pub(super) struct Job {
    pub(super) call: u64,
    pub(super) ops: Vec<shm::Op>,
    /// Goes out even if nobody waits for it any more.
    pub(super) keep: bool,
    pub(super) done: Option<oneshot::Sender<Outcome>>,
    /// Records that it ends: number and generation.
    pub(super) ends: Vec<(u32, u32)>,
    pub(super) refused: Option<shm::Refusal>,
}

impl Job {
    pub(super) fn background(call: u64, ops: Vec<shm::Op>) -> Job {
        Job {
            call,
            ops,
            keep: true,
            done: None,
            ends: Vec::new(),
            refused: None,
        }
    }

    pub(super) fn finish(mut self, ended: Vec<shm::StreamStat>, settling: &Rc<Cell<usize>>) {
        let outcome = match self.refused {
            Some(reason) => Err(LinkError::Refused(reason)),
            None => Ok(Applied::new(ended, settling)),
        };
        if let Some(done) = self.done.take() {
            // A caller that no longer waits has undone it.
            let _ = done.send(outcome);
        }
    }
}
