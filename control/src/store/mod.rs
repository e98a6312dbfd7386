//! The calls on disk: what is desired, for the next control.
//!
//! A [journal](journal) of the calls as JSON. The store survives SIGKILL; it lies in tmpfs by default, so not a loss of power,
//! and nothing is ever forced to a disk.

mod journal;

use journal::{Entries, Journal, OpenError};
use penstock_media::Call;
use std::cell::RefCell;
use std::ffi::OsString;
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use thiserror::Error;

/// The key that holds something while control takes no new calls. Those of calls are Call-IDs as JSON strings.
const DRAINING: &[u8] = b"draining";

/// Bytes of calls as they were that may lie in the file, beside as many as there are of calls as they are.
const SLACK: u64 = 16 << 20;

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
        let failed = |error| match error {
            OpenError::Busy => StoreError::Busy(path.into()),
            OpenError::Foreign => system(path, io::ErrorKind::InvalidData.into()),
            OpenError::System(source) => system(path, source),
        };
        let opened = match Journal::open(path, SLACK) {
            Err(OpenError::Foreign) => {
                set_aside(path).map_err(|source| system(path, source))?;
                Journal::open(path, SLACK)
            }
            opened => opened,
        };
        let (journal, entries, bad) = opened.map_err(failed)?;
        let (stored, unread) = read(&entries);
        if bad + unread > 0 {
            tracing::error!(
                "{} entries of the store {} cannot be read; their calls are lost to control",
                bad + unread,
                path.display()
            );
        }
        let open = Open {
            journal,
            key: Vec::new(),
            value: Vec::new(),
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
        let gone = gone.map(serde_json::to_vec).transpose()?;
        self.journal.put(&self.key, &self.value, gone.as_deref())
    }
}

fn is_written(outcome: io::Result<()>) -> bool {
    outcome
        .inspect_err(|error| tracing::error!("cannot write to the store: {error}"))
        .is_ok()
}

/// The calls of a journal, and how many entries are none.
fn read(entries: &Entries) -> (Stored, usize) {
    let calls: Vec<Call> = entries
        .iter()
        .filter_map(|(key, value)| {
            let call_id: String = serde_json::from_slice(key).ok()?;
            let call = serde_json::from_slice::<Call>(value).ok()?;
            (call.id == call_id).then_some(call)
        })
        .collect();
    let is_draining = entries.contains_key(DRAINING);
    let unread = entries.len() - calls.len() - usize::from(is_draining);
    (Stored { calls, is_draining }, unread)
}

fn system(path: &Path, source: io::Error) -> StoreError {
    StoreError::Open {
        path: path.into(),
        source,
    }
}

fn set_aside(path: &Path) -> io::Result<()> {
    for path in [path.to_owned(), journal::next(path)] {
        let mut aside = OsString::from(&path);
        aside.push(".aside");
        match std::fs::rename(&path, &aside) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            outcome => outcome?,
        }
        let (path, aside) = (path.display(), Path::new(&aside).display());
        tracing::error!(
            "the store {path} cannot be read: it is none of this release's; it was renamed to {aside}, and its calls are lost to control"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests;
