//! The calls on disk: what is desired, for the next control.
//!
//! One table, Call-ID -> the call as JSON. Writers that come together share one commit. The
//! store survives SIGKILL; it lies in tmpfs by default, so not a loss of power.

use penstock_media::Call;
use redb::{Database, DatabaseError, ReadableDatabase, ReadableTable, TableDefinition};
use std::cell::RefCell;
use std::fs::{DirBuilder, File, Permissions};
use std::ops::Range;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use thiserror::Error;
use tokio::sync::{Notify, oneshot};

const CALLS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("calls");
/// `schema`, and `draining` while control takes no new calls.
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");

/// The key of [`META`] that is there while control takes no new calls.
const DRAINING: &str = "draining";

/// Grows when the stored form of a call changes so that it cannot be read as what it was. What has been added since 1 is left
/// out or taken for its default by whoever does not know it. So an earlier build that reads a store written now loses what it
/// had no word for: of calls that became one it knows the first one's Call-ID alone, and that no leg was connected to another.
const SCHEMA: u64 = 1;

/// Bytes of the store kept in memory.
const CACHE: usize = 16 << 20;

/// The file's.
const MODE: u32 = 0o640;

/// Bytes of the queue that are kept for the next commit.
const KEPT: usize = 1 << 20;

/// Turns of the loop that a commit waits for at most.
const MAX_TURNS: usize = 16;

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
    Folder {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("the store {0} is in use: another penstock-control runs with this configuration")]
    Busy(PathBuf),
    #[error("cannot open the store {path}: {message}")]
    Open { path: PathBuf, message: String },
}

/// What is to be committed next.
#[derive(Default)]
struct Queue {
    changes: Vec<Change>,
    /// The calls to be written, end to end.
    bytes: Vec<u8>,
}

struct Change {
    call_id: String,
    /// Where in the bytes it is; nowhere if it is to be removed.
    value: Option<Range<usize>>,
    /// Another Call-ID to be removed.
    gone: Option<String>,
    done: oneshot::Sender<bool>,
}

/// The open store.
pub(crate) struct Store {
    db: Database,
    queue: RefCell<Queue>,
    wake: Notify,
}

impl Store {
    /// Opens or makes the store and reads its calls. A file that is not a sound store of this
    /// schema is renamed to `*.aside`. `is_sound` tries it out first: redb may panic on a corrupt
    /// file, and a panic ends this process.
    pub(crate) fn open(
        path: &Path,
        is_sound: impl FnOnce(&Path) -> bool,
    ) -> Result<(Rc<Store>, Stored), StoreError> {
        if let Some(folder) = path.parent() {
            let made = DirBuilder::new().recursive(true).mode(0o750).create(folder);
            made.map_err(|source| StoreError::Folder {
                path: path.into(),
                source,
            })?;
        }
        let open = |message: String| StoreError::Open {
            path: path.into(),
            message,
        };
        let found = match path.exists() && !is_sound(path) {
            true => Err(Trouble::Foreign("it is corrupt".into())),
            false => read(path),
        };
        let (db, stored) = match found {
            Ok(found) => found,
            Err(Trouble::Busy) => return Err(StoreError::Busy(path.into())),
            Err(Trouble::System(message)) => return Err(open(message)),
            Err(Trouble::Foreign(why)) => {
                let mut aside = path.as_os_str().to_owned();
                aside.push(".aside");
                std::fs::rename(path, &aside).map_err(|error| open(error.to_string()))?;
                tracing::error!(
                    "the store {} cannot be read ({why}); it was renamed to {}, and its calls are lost to control",
                    path.display(),
                    Path::new(&aside).display()
                );
                read(path).map_err(|trouble| open(trouble.to_string()))?
            }
        };
        let store = Store {
            db,
            queue: RefCell::default(),
            wake: Notify::new(),
        };
        Ok((Rc::new(store), stored))
    }

    /// Remembers over a restart whether new calls are refused; true once it is on disk.
    pub(crate) fn set_draining(&self, is_draining: bool) -> bool {
        let outcome = self.write_draining(is_draining);
        if let Err(error) = &outcome {
            tracing::error!("cannot write to the store: {error}");
        }
        outcome.is_ok()
    }

    fn write_draining(&self, is_draining: bool) -> Result<(), redb::Error> {
        let txn = self.db.begin_write()?;
        let mut meta = txn.open_table(META)?;
        match is_draining {
            true => drop(meta.insert(DRAINING, 1)?),
            false => drop(meta.remove(DRAINING)?),
        }
        drop(meta);
        txn.commit()?;
        Ok(())
    }

    /// Writes a call, or with `None` removes it; true once it is on disk.
    pub(crate) async fn write(&self, call_id: &str, call: Option<&Call>) -> bool {
        self.replace(None, call_id, call).await
    }

    /// Writes a call, or with `None` removes it, and with it removes another that became a part of it: both or neither.
    pub(crate) async fn replace(
        &self,
        gone: Option<&str>,
        call_id: &str,
        call: Option<&Call>,
    ) -> bool {
        let (done, outcome) = oneshot::channel();
        if let Err(error) = self.queue.borrow_mut().push(gone, call_id, call, done) {
            tracing::error!("cannot write a call as JSON: {error}");
            return false;
        }
        self.wake.notify_one();
        outcome.await.unwrap_or(false)
    }

    /// Commits what is queued, for ever.
    pub(crate) async fn run(&self) {
        loop {
            self.wake.notified().await;
            // Whoever is ready to write now shares the commit; and as long as there are more, those after them.
            for _ in 0..MAX_TURNS {
                let queued = self.queue.borrow().changes.len();
                tokio::task::yield_now().await;
                if self.queue.borrow().changes.len() == queued {
                    break;
                }
            }
            self.commit_queued();
        }
    }

    /// Commits what is queued.
    pub(crate) fn commit_queued(&self) {
        let mut queue = self.queue.borrow_mut();
        if queue.changes.is_empty() {
            return;
        }
        let committed = self.commit(&queue);
        if let Err(error) = &committed {
            tracing::error!("cannot write to the store: {error}");
        }
        for change in queue.changes.drain(..) {
            // A caller that was dropped no longer cares.
            let _ = change.done.send(committed.is_ok());
        }
        queue.bytes.clear();
        queue.bytes.shrink_to(KEPT);
    }

    fn commit(&self, queue: &Queue) -> Result<(), redb::Error> {
        let txn = self.db.begin_write()?;
        {
            let mut table = txn.open_table(CALLS)?;
            for change in &queue.changes {
                let call_id = change.call_id.as_str();
                let value = change.value.clone().and_then(|at| queue.bytes.get(at));
                match value {
                    Some(value) => drop(table.insert(call_id, value)?),
                    None => drop(table.remove(call_id)?),
                }
                if let Some(gone) = &change.gone {
                    table.remove(gone.as_str())?;
                }
            }
        }
        txn.commit()?;
        Ok(())
    }
}

impl Queue {
    fn push(
        &mut self,
        gone: Option<&str>,
        call_id: &str,
        call: Option<&Call>,
        done: oneshot::Sender<bool>,
    ) -> serde_json::Result<()> {
        let start = self.bytes.len();
        let mut value = None;
        if let Some(call) = call {
            serde_json::to_writer(&mut self.bytes, call)
                .inspect_err(|_| self.bytes.truncate(start))?;
            value = Some(start..self.bytes.len());
        }
        self.changes.push(Change {
            call_id: call_id.to_owned(),
            value,
            gone: gone.map(str::to_owned),
            done,
        });
        Ok(())
    }
}

/// What is wrong with a file.
#[derive(Debug, Error)]
enum Trouble {
    #[error("in use")]
    Busy,
    #[error("{0}")]
    System(String),
    #[error("{0}")]
    Foreign(String),
}

impl From<redb::Error> for Trouble {
    fn from(error: redb::Error) -> Trouble {
        match error {
            redb::Error::DatabaseAlreadyOpen => Trouble::Busy,
            redb::Error::Io(e) if !is_format(&e) => Trouble::System(e.to_string()),
            other => Trouble::Foreign(other.to_string()),
        }
    }
}

fn is_format(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{InvalidData, UnexpectedEof};
    matches!(error.kind(), InvalidData | UnexpectedEof)
}

/// Opens and reads a store to see whether that panics; any other outcome is fine.
pub(crate) fn try_out(path: &Path) {
    // What is wrong with it, if it does not panic, is found out again by who opens it in earnest.
    drop(read(path));
}

fn read(path: &Path) -> Result<(Database, Stored), Trouble> {
    protect(path).map_err(|error| Trouble::System(error.to_string()))?;
    let opened = Database::builder().set_cache_size(CACHE).create(path);
    let db = opened.map_err(|error: DatabaseError| Trouble::from(redb::Error::from(error)))?;
    let stored = read_stored(&db)??;
    Ok((db, stored))
}

/// Has the file be there for its owner and group alone, from the start: it holds passwords of ICE.
fn protect(path: &Path) -> std::io::Result<()> {
    let mut options = File::options();
    let options = options.read(true).write(true).create(true).truncate(false);
    let file = options.mode(MODE).open(path)?;
    file.set_permissions(Permissions::from_mode(MODE))
}

fn read_stored(db: &Database) -> Result<Result<Stored, Trouble>, redb::Error> {
    let txn = db.begin_write()?;
    let is_draining;
    {
        let mut meta = txn.open_table(META)?;
        let schema = meta.get("schema")?.map(|value| value.value());
        match schema {
            None => drop(meta.insert("schema", SCHEMA)?),
            Some(SCHEMA) => {}
            Some(other) => {
                let why = format!("its schema is {other}, not {SCHEMA}");
                return Ok(Err(Trouble::Foreign(why)));
            }
        }
        is_draining = meta.get(DRAINING)?.is_some();
        txn.open_table(CALLS)?;
    }
    txn.commit()?;
    let table = db.begin_read()?.open_table(CALLS)?;
    let mut calls = Vec::new();
    for entry in table.iter()? {
        let (call_id, value) = entry?;
        match serde_json::from_slice::<Call>(value.value()) {
            Ok(call) if call.id == call_id.value() => calls.push(call),
            Ok(_) => return Ok(Err(Trouble::Foreign("a call under another's name".into()))),
            Err(error) => return Ok(Err(Trouble::Foreign(error.to_string()))),
        }
    }
    Ok(Ok(Stored { calls, is_draining }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use penstock_media::Now;
    use std::time::Duration;

    fn call(n: usize) -> Call {
        let now = Now {
            mono: Duration::ZERO,
            unix_us: 1,
        };
        Call::new(&format!("call{n}"), n as u64, now)
    }

    fn open(path: &Path) -> Result<(Rc<Store>, Stored), StoreError> {
        let is_sound = |path: &Path| std::panic::catch_unwind(|| try_out(path)).is_ok();
        Store::open(path, is_sound)
    }

    fn write(store: &Store, calls: impl Iterator<Item = Call>) {
        let mut queue = Queue::default();
        for call in calls {
            let done = oneshot::channel().0;
            queue.push(None, &call.id, Some(&call), done).unwrap();
        }
        store.commit(&queue).unwrap();
    }

    #[test]
    fn what_was_written_is_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/er/calls.redb");
        let (store, stored) = open(&path).unwrap();
        assert!(stored.calls.is_empty() && !stored.is_draining);
        assert!(matches!(open(&path), Err(StoreError::Busy(_))));
        write(&store, (0..20).map(call));
        drop(store);
        let (store, Stored { mut calls, .. }) = open(&path).unwrap();
        calls.sort_by_key(|call| call.key);
        assert_eq!(calls, (0..20).map(call).collect::<Vec<_>>());
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(path.parent().unwrap()), 0o750);
        assert_eq!(mode(&path), 0o640);

        for is_draining in [true, false] {
            assert!(store.set_draining(is_draining));
        }
        assert!(store.set_draining(true));
        drop(store);
        // What an earlier release made.
        std::fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        let (store, stored) = open(&path).unwrap();
        assert_eq!(mode(&path), 0o640);
        assert!(stored.is_draining);
        assert_eq!(stored.calls.len(), 20);
        assert!(store.set_draining(false));
        drop(store);
        assert!(!open(&path).unwrap().1.is_draining);
    }

    #[test]
    fn another_schema_is_set_aside() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("calls.redb");
        let (store, _) = open(&path).unwrap();
        let txn = store.db.begin_write().unwrap();
        txn.open_table(META)
            .unwrap()
            .insert("schema", SCHEMA + 1)
            .unwrap();
        txn.commit().unwrap();
        drop(store);
        let (_store, stored) = open(&path).unwrap();
        assert!(stored.calls.is_empty());
        assert!(dir.path().join("calls.redb.aside").exists());
    }

    /// Whatever the file holds, control starts: with these calls, with some, or with none.
    #[test]
    fn damage_never_keeps_control_from_starting() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("calls.redb");
        let (store, _) = open(&path).unwrap();
        write(&store, (0..200).map(call));
        drop(store);
        let sound = std::fs::read(&path).unwrap();
        let used = sound.iter().rposition(|byte| *byte != 0).unwrap();
        let mut state = 1_u64;
        let mut random = |below: usize| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 33) as usize % below
        };
        for n in 0..120 {
            let mut bytes = sound.clone();
            match n % 4 {
                0 => bytes.truncate(random(bytes.len())),
                1 => bytes[random(4096)] ^= 1 << random(8),
                2 => bytes[random(used)] ^= 1 << random(8),
                _ => {
                    let at = random(used);
                    let end = (at + 4096).min(bytes.len());
                    bytes[at..end].fill(random(256) as u8);
                }
            }
            std::fs::write(&path, bytes).unwrap();
            drop(open(&path).unwrap());
        }
    }
}
