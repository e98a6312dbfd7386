//! The calls on disk: what is desired, for the next control.
//!
//! A [journal](journal) of the calls as JSON. The store survives SIGKILL; it lies in tmpfs by default, so not a loss of power,
//! and nothing is ever forced to a disk.

mod journal;

use journal::{Entries, Journal, OpenError};
use penstock_media::Call;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use thiserror::Error;

/// The key that holds something while control takes no new calls. Those of calls are Call-IDs as JSON strings.
const DRAINING: &[u8] = b"draining";

/// Bytes of calls as they were that may lie in the file, beside as many as there are of calls as they are.
const SLACK: u64 = 4 << 20;

/// What a store holds.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) calls: Vec<Call>,
    /// Whether new calls are refused.
    pub(crate) is_draining: bool,
}

/// Why the store cannot be used.
#[derive(Debug, Error)]
pub(crate) enum StoreError {
    #[error("cannot create the folder of [control] store {path}: {source}")]
    Folder { path: PathBuf, source: io::Error },
    #[error("the store {0} is in use: another penstock-control runs with this configuration")]
    Busy(PathBuf),
    #[error("cannot open [control] store {path}: {source}")]
    Open { path: PathBuf, source: io::Error },
}

/// The open store.
pub(crate) struct Store(RefCell<Open>);

struct Open {
    journal: Journal,
    key: Vec<u8>,
    value: Vec<u8>,
    /// What is still to be written, by key; nothing where the key is to hold nothing.
    owed: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Store {
    /// Opens or makes the store and reads its calls. A file that is no store is renamed to `*.aside`; of one that is
    /// damaged, what can be read is.
    pub(crate) fn open(path: &Path) -> Result<(Rc<Store>, Stored), StoreError> {
        if let Some(folder) = path.parent() {
            let made = DirBuilder::new().recursive(true).mode(0o750).create(folder);
            made.map_err(|source| StoreError::Folder {
                path: path.into(),
                source,
            })?;
        }
        let mut opened = Journal::open(path, SLACK);
        while let Err(OpenError::Foreign(foreign)) = opened {
            tracing::error!(
                "the store {} cannot be read: it is none of this release's, or only a part; it was renamed to {}, and its calls are lost to control",
                foreign.display(),
                journal::aside(&foreign).display()
            );
            opened = Journal::open(path, SLACK);
        }
        let failed = |source| StoreError::Open {
            path: path.into(),
            source,
        };
        let (mut journal, entries, bad) = opened.map_err(|error| match error {
            OpenError::Busy => StoreError::Busy(path.into()),
            OpenError::Foreign(_) => failed(io::ErrorKind::InvalidData.into()),
            OpenError::System(source) => failed(source),
        })?;
        let (stored, unread) = read(&entries);
        if bad + unread.len() > 0 {
            tracing::error!(
                "{} entries of the store {} cannot be read; their calls are lost to control, or are as they were before",
                bad + unread.len(),
                path.display()
            );
        }
        for key in unread {
            // Without room they are found again the next time.
            let _ = is_written(journal.put(key, b"", None));
        }
        let open = Open {
            journal,
            key: Vec::new(),
            value: Vec::new(),
            owed: BTreeMap::new(),
        };
        Ok((Rc::new(Store(RefCell::new(open))), stored))
    }

    /// Remembers over a restart whether new calls are refused; true once it is written.
    pub(crate) fn set_draining(&self, is_draining: bool) -> bool {
        let value: &[u8] = if is_draining { b"true" } else { b"" };
        let journal = &mut self.0.borrow_mut().journal;
        is_written(journal.put(DRAINING, value, None))
    }

    /// Writes a call, or with `None` removes it; true once it is written.
    pub(crate) fn write(&self, call_id: &str, call: Option<&Call>) -> bool {
        self.replace(None, call_id, call)
    }

    /// Writes a call, or with `None` removes it, and with it removes another that became a part of it: both or neither.
    pub(crate) fn replace(&self, gone: Option<&str>, call_id: &str, call: Option<&Call>) -> bool {
        is_written(self.0.borrow_mut().replace(gone, call_id, call))
    }

    /// The same for what cannot be taken back: what is not written now is written before what comes next.
    pub(crate) fn settle(&self, gone: Option<&str>, call_id: &str, call: Option<&Call>) -> bool {
        let open = &mut *self.0.borrow_mut();
        let written = is_written(open.replace(gone, call_id, call));
        if !written {
            open.owe(gone);
        }
        written
    }
}

impl Open {
    fn replace(
        &mut self,
        gone: Option<&str>,
        call_id: &str,
        call: Option<&Call>,
    ) -> io::Result<()> {
        self.key.clear();
        serde_json::to_writer(&mut self.key, call_id)?;
        self.value.clear();
        if let Some(call) = call {
            serde_json::to_writer(&mut self.value, call)?;
        }
        while let Some(owed) = self.owed.first_entry() {
            self.journal.put(owed.key(), owed.get(), None)?;
            owed.remove();
        }
        let gone = gone.map(serde_json::to_vec).transpose()?;
        self.journal.put(&self.key, &self.value, gone.as_deref())
    }

    /// Remembers what was last to be written, and was not.
    fn owe(&mut self, gone: Option<&str>) {
        let gone = gone.and_then(|gone| serde_json::to_vec(gone).ok());
        self.owed.extend(gone.map(|gone| (gone, Vec::new())));
        self.owed.insert(self.key.clone(), self.value.clone());
    }
}

fn is_written(outcome: io::Result<()>) -> bool {
    outcome
        .inspect_err(|error| tracing::error!("cannot write to the store: {error}"))
        .is_ok()
}

/// The calls of a journal, those first that changed last, and the keys of entries that are none.
fn read(entries: &Entries) -> (Stored, Vec<&[u8]>) {
    let (mut calls, mut unread) = (Vec::new(), Vec::new());
    for (key, value) in entries {
        let call_id = serde_json::from_slice::<String>(key);
        match (call_id, serde_json::from_slice::<Call>(value)) {
            (Ok(call_id), Ok(call)) if call.id == call_id => calls.push(call),
            _ if key == DRAINING => {}
            _ => unread.push(key.as_slice()),
        }
    }
    calls.sort_by_key(|call| std::cmp::Reverse(call.last_signal_us));
    let is_draining = entries.contains_key(DRAINING);
    (Stored { calls, is_draining }, unread)
}

#[cfg(test)]
mod tests;
