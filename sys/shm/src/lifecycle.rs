//! The region's files: made, found, checked, set aside.
//!
//! `rings`, `table`, `copies`, `plane.bell`, `control.bell`, `plane.lock` and `control.lock` lie in one
//! directory. Only the plane makes them; control and readers need them to be there. With a table
//! directory of its own (on a hugetlbfs), `table` is a symbolic link into it.

mod preview;

pub use preview::{Fate, Preview, Sizes};

use crate::bell::Fifo;
use crate::cell::Shared;
use crate::layout::{
    ABI, COMMAND_SLOTS, EVENT_SLOTS, Identity, LAYOUT_HASH, MAX_STREAMS, RINGS_MAGIC, Rings,
    TABLE_MAGIC, Table, table_len,
};
use crate::lock::{CONTROL, Lock, PLANE, Side};
use crate::map::{Access, Mapping, reserve, whole_pages};
use crate::record::Record;
use crate::sync::Ordering;
use rustix::fs::{FileType, Gid, Mode, OFlags};
use rustix::io::Errno;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::ptr::NonNull;
use std::sync::Arc;

/// Where the region is and how large.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegionConfig {
    /// The region's directory, best on a tmpfs. Made if missing.
    pub dir: PathBuf,
    /// A directory on a hugetlbfs, for this region's table alone; `dir` if none.
    pub table_dir: Option<PathBuf>,
    /// How many streams the table holds, 1 to [`MAX_STREAMS`].
    pub streams: u32,
    /// The group that control runs as; unchanged if none.
    pub group: Option<u32>,
}

/// What the plane found when it opened the region.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attached {
    /// Nothing: a new region.
    Fresh,
    /// The region of a former plane.
    Resumed {
        /// Streams that live on.
        records: u32,
    },
    /// A region that does not fit this program or configuration; it was renamed to `*.aside`, and a new
    /// one made.
    SetAside {
        /// What did not fit.
        why: String,
    },
}

/// Why a region could not be opened: what, where, and how to mend it.
#[derive(Debug, thiserror::Error)]
pub enum RegionError {
    /// There is no region in the directory.
    #[error("no region in {}: start penstock-dataplane, or name the directory it uses", dir.display())]
    NoRegion {
        /// The directory.
        dir: PathBuf,
    },
    /// Another process has this side of the region.
    #[error(
        "another {who} (pid {pid}) works on this region ({} is locked): stop it, or use another directory",
        lock.display()
    )]
    Held {
        /// The program's name.
        who: &'static str,
        /// Its process, "unknown" if it left no number.
        pid: String,
        /// The lock file.
        lock: PathBuf,
    },
    /// The region is not one that this program can use.
    #[error("the region in {} does not fit: {why}; restart penstock-dataplane, of the same version as this program", dir.display())]
    Incompatible {
        /// The directory.
        dir: PathBuf,
        /// What does not fit.
        why: String,
    },
    /// There is no memory for the region.
    #[error("cannot reserve {bytes} bytes for {}: {source}; give its file system more room, or configure fewer streams", path.display())]
    Space {
        /// The file.
        path: PathBuf,
        /// Its length.
        bytes: usize,
        /// What the kernel says.
        source: std::io::Error,
    },
    /// The number of streams is out of range.
    #[error("a region holds 1 to {MAX_STREAMS} streams, {streams} are configured")]
    Streams {
        /// What is configured.
        streams: u32,
    },
    /// A file could not be used.
    #[error("cannot {what} {}: {source}; check owner, group and mode of the directory", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What the kernel says.
        source: std::io::Error,
    },
}

/// For `map_err`: an I/O error with its file.
pub(crate) fn io<E: Into<std::io::Error>>(
    what: &'static str,
    path: &Path,
) -> impl FnOnce(E) -> RegionError {
    move |source| RegionError::Io {
        what,
        path: path.into(),
        source: source.into(),
    }
}

const RINGS_MODE: u32 = 0o660;
pub(crate) const TABLE_MODE: u32 = 0o640;

fn open(path: &Path, flags: OFlags, mode: u32) -> Result<File, Errno> {
    let flags = flags | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::from_raw_mode(mode)).map(File::from)
}

/// Owner, group and nobody else, whatever the umask.
fn set_access(file: &File, path: &Path, mode: u32, group: Option<u32>) -> Result<(), RegionError> {
    if let Some(group) = group {
        rustix::fs::fchown(file, None, Some(Gid::from_raw(group)))
            .map_err(io("set the group of", path))?;
    }
    rustix::fs::fchmod(file, Mode::from_raw_mode(mode)).map_err(io("set the mode of", path))
}

fn open_bell(dir: &Path, side: &Side) -> Result<Fifo, RegionError> {
    let path = dir.join(side.bell);
    let file = open(&path, OFlags::RDWR | OFlags::NONBLOCK, 0).map_err(io("open", &path))?;
    Ok(Fifo::new(file))
}

/// Both doorbells: the plane's, then control's.
fn open_bells(dir: &Path) -> Result<[Fifo; 2], RegionError> {
    Ok([open_bell(dir, &PLANE)?, open_bell(dir, &CONTROL)?])
}

/// A mapped file, and for the two sides their lock, which is held as long as the mapping is used.
pub(crate) struct Held {
    pub(crate) mapping: Mapping,
    _lock: Option<Arc<Lock>>,
}

impl Held {
    pub(crate) fn unlocked(mapping: Mapping) -> Held {
        Held {
            mapping,
            _lock: None,
        }
    }
}

/// Whether `path` names the file that is mapped.
pub(crate) fn is_file(mapping: &Mapping, path: &Path) -> bool {
    match (rustix::fs::fstat(mapping.file()), rustix::fs::stat(path)) {
        (Ok(ours), Ok(theirs)) => (ours.st_dev, ours.st_ino) == (theirs.st_dev, theirs.st_ino),
        _ => false,
    }
}

/// The table file.
#[derive(Clone)]
pub(crate) struct TableFile {
    pub(crate) head: Shared<Table>,
    pub(crate) records: Shared<[Record]>,
    held: Arc<Held>,
}

impl TableFile {
    /// `mapping` passed [`check_table`] with this number of streams.
    fn new(mapping: Mapping, streams: u32, lock: Option<Arc<Lock>>) -> TableFile {
        let held = Arc::new(Held {
            mapping,
            _lock: lock,
        });
        let head = held.mapping.at::<Table>(0, 1);
        let records = held
            .mapping
            .at::<Record>(size_of::<Table>(), streams as usize);
        let records = NonNull::slice_from_raw_parts(records, streams as usize);
        // SAFETY: a Table is atomics, any bytes are one, and `held` keeps it mapped.
        let head = unsafe { Shared::new(head, held.clone()) };
        // SAFETY: a Record is atomics and cells, any bytes are one, and `held` keeps it mapped.
        let records = unsafe { Shared::new(records, held.clone()) };
        TableFile {
            head,
            records,
            held,
        }
    }

    /// Whether the table of the region in `dir` is another file by now.
    pub(crate) fn is_replaced(&self, dir: &Path) -> bool {
        !is_file(&self.held.mapping, &dir.join("table"))
    }
}

/// A region as one side holds it.
pub(crate) struct Opened {
    pub(crate) rings: Shared<Rings>,
    pub(crate) table: TableFile,
    /// The plane's doorbell, then control's.
    pub(crate) bells: [Fifo; 2],
    pub(crate) attached: Attached,
}

impl Opened {
    fn new(pair: Pair, lock: Lock, bells: [Fifo; 2], attached: Attached) -> Opened {
        let lock = Some(Arc::new(lock));
        let held = Arc::new(Held {
            mapping: pair.rings,
            _lock: lock.clone(),
        });
        let rings = held.mapping.at::<Rings>(0, 1);
        // SAFETY: Rings are atomics, any bytes are some, and `held` keeps them mapped.
        let rings = unsafe { Shared::new(rings, held) };
        let table = TableFile::new(pair.table, pair.streams, lock);
        Opened {
            rings,
            table,
            bells,
            attached,
        }
    }
}

impl Opened {
    /// The random number of this region.
    pub(crate) fn generation(&self) -> u64 {
        let identity = &self.table.head.identity;
        identity.generation.load(Ordering::Relaxed)
    }
}

/// Opens the region as the plane: takes the lock, resumes what fits, makes anew what does not.
pub(crate) fn open_plane(config: &RegionConfig) -> Result<Opened, RegionError> {
    if config.streams == 0 || config.streams > MAX_STREAMS {
        return Err(RegionError::Streams {
            streams: config.streams,
        });
    }
    let dir = &config.dir;
    make_dir(dir, config.group)?;
    let lock_path = dir.join(PLANE.lock);
    let lock = make_file(&lock_path, TABLE_MODE, config.group)?;
    let lock = Lock::take(lock, &lock_path, &PLANE)?;
    make_file(&dir.join(CONTROL.lock), RINGS_MODE, config.group)?;
    make_fifo(&dir.join(PLANE.bell), config.group)?;
    make_fifo(&dir.join(CONTROL.bell), config.group)?;
    let bells = open_bells(dir)?;

    let table_path = link_table(config)?;
    let found = match find(dir, Access::Write)? {
        Found::Pair(pair) if pair.streams != config.streams => Found::Misfit(format!(
            "its table holds {} streams, {} are configured",
            pair.streams, config.streams
        )),
        found => found,
    };
    let attached = match found {
        Found::Pair(pair) => {
            let mut opened = Opened::new(pair, lock, bells, Attached::Fresh);
            let live = opened
                .table
                .records
                .iter()
                .filter(|record| record.is_live());
            opened.attached = Attached::Resumed {
                records: live.count() as u32,
            };
            return Ok(opened);
        }
        Found::Nothing => Attached::Fresh,
        Found::Misfit(why) => {
            set_aside(&dir.join("rings"))?;
            set_aside(&table_path)?;
            Attached::SetAside { why }
        }
    };
    Ok(Opened::new(
        make_pair(config, &table_path)?,
        lock,
        bells,
        attached,
    ))
}

/// Opens the region as control: takes its lock and insists that everything fits.
pub(crate) fn open_control(dir: &Path) -> Result<Opened, RegionError> {
    let lock_path = dir.join(CONTROL.lock);
    let lock = match open(&lock_path, OFlags::RDWR, 0) {
        Err(Errno::NOENT) => return Err(RegionError::NoRegion { dir: dir.into() }),
        lock => lock.map_err(io("open", &lock_path))?,
    };
    let lock = Lock::take(lock, &lock_path, &CONTROL)?;
    match find(dir, Access::Read)? {
        Found::Nothing => Err(RegionError::NoRegion { dir: dir.into() }),
        Found::Misfit(why) => Err(RegionError::Incompatible {
            dir: dir.into(),
            why,
        }),
        Found::Pair(pair) => {
            let attached = Attached::Resumed { records: 0 };
            Ok(Opened::new(pair, lock, open_bells(dir)?, attached))
        }
    }
}

/// Opens the table alone, to read.
pub(crate) fn open_table(dir: &Path) -> Result<TableFile, RegionError> {
    let Some(table) = open_mapping(&dir.join("table"), Access::Read)? else {
        return Err(RegionError::NoRegion { dir: dir.into() });
    };
    let misfit = |why| RegionError::Incompatible {
        dir: dir.into(),
        why,
    };
    let streams = check_table(&table).map_err(misfit)?;
    Ok(TableFile::new(table, streams, None))
}

/// Rings and table that belong together.
struct Pair {
    rings: Mapping,
    table: Mapping,
    streams: u32,
}

/// What lies in a region's directory.
enum Found {
    Nothing,
    Pair(Pair),
    /// Something, but no region that this program could go on with.
    Misfit(String),
}

/// Maps rings (always to write) and table and checks that they are ours and belong together.
fn find(dir: &Path, table_access: Access) -> Result<Found, RegionError> {
    let rings = open_mapping(&dir.join("rings"), Access::Write)?;
    let table = open_mapping(&dir.join("table"), table_access)?;
    let (rings, table) = match (rings, table) {
        (None, None) => return Ok(Found::Nothing),
        (Some(_), None) => return Ok(Found::Misfit("rings without a table".into())),
        (None, Some(_)) => return Ok(Found::Misfit("a table without rings".into())),
        (Some(rings), Some(table)) => (rings, table),
    };
    Ok(
        match check_rings(&rings).and_then(|generation| check_pair(generation, &table)) {
            Ok(streams) => Found::Pair(Pair {
                rings,
                table,
                streams,
            }),
            Err(why) => Found::Misfit(why),
        },
    )
}

/// The file, mapped; none if it does not exist.
pub(crate) fn open_mapping(path: &Path, access: Access) -> Result<Option<Mapping>, RegionError> {
    let flags = if access == Access::Write {
        OFlags::RDWR
    } else {
        OFlags::RDONLY
    };
    let file = match open(path, flags, 0) {
        Err(Errno::NOENT) => return Ok(None),
        file => file.map_err(io("open", path))?,
    };
    Mapping::new(file, access)
        .map(Some)
        .map_err(io("map", path))
}

pub(crate) fn identity(mapping: &Mapping) -> &Identity {
    // SAFETY: an Identity is atomics, the file is longer, and the mapping outlives the reference.
    unsafe { mapping.at::<Identity>(0, 1).as_ref() }
}

fn check_identity(mapping: &Mapping, magic: u64, name: &str) -> Result<(), String> {
    if mapping.len() < size_of::<Identity>() {
        return Err(format!("{name} is cut short"));
    }
    let id = identity(mapping);
    // Pairs with the store of the file's maker: the rest of the identity stands.
    if id.magic.load(Ordering::Acquire) != magic {
        return Err(format!("{name} is no file of Penstock's"));
    }
    let abi = id.abi.load(Ordering::Relaxed);
    if abi != ABI {
        return Err(format!(
            "{name} was made by ABI {abi}, this program speaks ABI {ABI}"
        ));
    }
    let layout = id.layout.load(Ordering::Relaxed);
    if layout != LAYOUT_HASH {
        return Err(format!(
            "{name} has layout {layout:016x}, this program has {LAYOUT_HASH:016x}"
        ));
    }
    let length = id.length.load(Ordering::Relaxed);
    if length != mapping.len() as u64 {
        return Err(format!(
            "{name} has {} bytes, was made with {length}",
            mapping.len()
        ));
    }
    Ok(())
}

/// The generation of sound rings.
fn check_rings(mapping: &Mapping) -> Result<u64, String> {
    check_identity(mapping, RINGS_MAGIC, "rings")?;
    if mapping.len() < size_of::<Rings>() {
        return Err("rings are cut short".into());
    }
    // SAFETY: Rings are atomics, the file is as long, and the mapping outlives the reference.
    let rings = unsafe { mapping.at::<Rings>(0, 1).as_ref() };
    if rings.commands.waiting() > COMMAND_SLOTS as u64
        || rings.events.waiting() > EVENT_SLOTS as u64
    {
        return Err("a ring holds more than its capacity".into());
    }
    Ok(rings.identity.generation.load(Ordering::Relaxed))
}

/// How many streams a sound table holds.
fn check_table(mapping: &Mapping) -> Result<u32, String> {
    check_identity(mapping, TABLE_MAGIC, "table")?;
    let streams = identity(mapping).streams.load(Ordering::Relaxed);
    if streams == 0 || streams > MAX_STREAMS || mapping.len() < table_len(streams) {
        return Err(format!("table is too short for its {streams} streams"));
    }
    Ok(streams)
}

fn check_pair(rings: u64, table: &Mapping) -> Result<u32, String> {
    let streams = check_table(table)?;
    let generation = identity(table).generation.load(Ordering::Relaxed);
    if generation == rings {
        Ok(streams)
    } else {
        Err(format!(
            "rings of generation {rings:016x}, table of {generation:016x}"
        ))
    }
}

fn make_dir(dir: &Path, group: Option<u32>) -> Result<(), RegionError> {
    if dir.is_dir() {
        return Ok(());
    }
    std::fs::create_dir_all(dir).map_err(io("make", dir))?;
    let file = File::open(dir).map_err(io("open", dir))?;
    set_access(&file, dir, 0o750, group)
}

/// The file, made if missing. One that was there keeps its owner, group and mode.
fn make_file(path: &Path, mode: u32, group: Option<u32>) -> Result<File, RegionError> {
    match open(path, OFlags::RDWR, 0) {
        Err(Errno::NOENT) => {}
        file => return file.map_err(io("open", path)),
    }
    let flags = OFlags::RDWR | OFlags::CREATE;
    let file = open(path, flags, mode).map_err(io("make", path))?;
    set_access(&file, path, mode, group)?;
    Ok(file)
}

fn make_fifo(path: &Path, group: Option<u32>) -> Result<(), RegionError> {
    let mode = Mode::from_raw_mode(RINGS_MODE);
    match rustix::fs::mknodat(rustix::fs::CWD, path, FileType::Fifo, mode, 0) {
        Ok(()) => {}
        Err(Errno::EXIST) => {
            let kind = rustix::fs::lstat(path)
                .map_err(io("look at", path))?
                .st_mode;
            if FileType::from_raw_mode(kind) == FileType::Fifo {
                return Ok(());
            }
            return Err(io("use as a FIFO", path)(Errno::EXIST));
        }
        Err(error) => return Err(io("make the FIFO", path)(error)),
    }
    let file = open(path, OFlags::RDWR | OFlags::NONBLOCK, 0).map_err(io("open", path))?;
    set_access(&file, path, RINGS_MODE, group)
}

/// Where the table file itself is. Sees to it that `dir/table` leads there.
fn link_table(config: &RegionConfig) -> Result<PathBuf, RegionError> {
    let name = config.dir.join("table");
    let linked = std::fs::read_link(&name).ok();
    let Some(table_dir) = &config.table_dir else {
        if linked.is_some() {
            std::fs::remove_file(&name).map_err(io("remove", &name))?;
        }
        return Ok(name);
    };
    make_dir(table_dir, config.group)?;
    let table = std::path::absolute(table_dir.join("table")).map_err(io("find", table_dir))?;
    if linked.as_ref() != Some(&table) {
        if linked.is_some() {
            std::fs::remove_file(&name).map_err(io("remove", &name))?;
        } else {
            set_aside(&name)?;
        }
        std::os::unix::fs::symlink(&table, &name).map_err(io("link", &name))?;
    }
    Ok(table)
}

/// `path` with `suffix` behind its name.
pub(crate) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn set_aside(path: &Path) -> Result<(), RegionError> {
    match std::fs::rename(path, with_suffix(path, ".aside")) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(io("set aside", path)(error)),
        _ => Ok(()),
    }
}

/// Makes a new pair under names of its own, then gives it the names that others look for.
fn make_pair(config: &RegionConfig, table: &Path) -> Result<Pair, RegionError> {
    let generation = random().map_err(io("read", Path::new(URANDOM)))?;
    let rings = config.dir.join("rings");
    let make = |path: &Path, mode, len, magic| -> Result<Mapping, RegionError> {
        let mapping = make_mapping(&with_suffix(path, ".new"), mode, len, config.group)?;
        let id = identity(&mapping);
        id.layout.store(LAYOUT_HASH, Ordering::Relaxed);
        id.generation.store(generation, Ordering::Relaxed);
        id.length.store(mapping.len() as u64, Ordering::Relaxed);
        id.abi.store(ABI, Ordering::Relaxed);
        id.streams.store(config.streams, Ordering::Relaxed);
        // Pairs with the load in `check_identity`.
        id.magic.store(magic, Ordering::Release);
        Ok(mapping)
    };
    let new_table = make(table, TABLE_MODE, table_len(config.streams), TABLE_MAGIC)?;
    let new_rings = make(&rings, RINGS_MODE, size_of::<Rings>(), RINGS_MAGIC)?;
    for path in [table, &rings] {
        std::fs::rename(with_suffix(path, ".new"), path).map_err(io("rename to", path))?;
    }
    Ok(Pair {
        rings: new_rings,
        table: new_table,
        streams: config.streams,
    })
}

pub(crate) fn make_mapping(
    path: &Path,
    mode: u32,
    len: usize,
    group: Option<u32>,
) -> Result<Mapping, RegionError> {
    // What a plane left that died while it made one.
    let _ = std::fs::remove_file(path);
    let file = make_file(path, mode, group)?;
    let bytes = whole_pages(&file, len).map_err(io("look at", path))?;
    let space = |errno: Errno| RegionError::Space {
        path: path.into(),
        bytes,
        source: errno.into(),
    };
    reserve(&file, bytes).map_err(space)?;
    Mapping::new(file, Access::Write).map_err(space)
}

const URANDOM: &str = "/dev/urandom";

fn random() -> std::io::Result<u64> {
    let mut bytes = [0; 8];
    File::open(URANDOM)?.read_exact(&mut bytes)?;
    Ok(u64::from_ne_bytes(bytes))
}
