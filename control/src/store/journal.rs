//! Keys and values in a file that is only ever appended to: the last line of a key is what it holds.
//!
//! ```text
//! penstock calls 1
//! KEY \t VALUE            holds it from now on
//! KEY \t                  holds nothing any more
//! KEY \t VALUE \t OTHER   the same, and OTHER holds nothing any more: both or neither
//! ```
//! Neither keys nor values have tabs or line feeds in them. A line is written at once; what a writer that was killed left
//! of one is cut off by the next. When most of the file is of no more use a second one is begun, PATH.next: changes go
//! there, and with each of them some lines of the first that still count are copied. Then it takes the first one's place.
//! Whoever finds both reads them in this order, and goes on copying.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::{File, Metadata, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

const HEADER: &[u8] = b"penstock calls 1\n";

/// The file's: it holds passwords of ICE.
const MODE: u32 = 0o640;

/// Bytes of the first file that are looked at with each change, besides twice as many as the change has.
const SLICE: usize = 16 << 10;

/// Bytes of a file that is gone which are given back with each change: all at once takes milliseconds.
const PIECE: u64 = 512 << 10;

/// What a journal holds: keys and their values.
pub(super) type Entries = HashMap<Vec<u8>, Vec<u8>>;

/// Why there is no journal.
#[derive(Debug)]
pub(super) enum OpenError {
    /// Another process has it.
    Busy,
    /// This file was none of a journal of this version. It was renamed, see [`aside`]: open the journal again.
    Foreign(PathBuf),
    System(io::Error),
}

impl From<io::Error> for OpenError {
    fn from(error: io::Error) -> OpenError {
        OpenError::System(error)
    }
}

/// A file, and where its lines end.
struct Lines {
    file: File,
    end: u64,
}

/// The first file, while what counts of it is copied to the second.
struct Copied {
    from: Lines,
    /// What has been looked at.
    at: u64,
}

/// Where the line is that counts.
#[derive(Clone, Copy, PartialEq, Eq)]
struct At {
    /// Of the two: the file that was begun later has the higher number.
    file: u64,
    offset: u64,
    len: u64,
}

/// An open journal. It is locked as long as it is.
pub(super) struct Journal {
    path: PathBuf,
    current: Lines,
    number: u64,
    copied: Option<Copied>,
    /// The file whose place another has taken, as long as it has memory.
    gone: Option<Lines>,
    index: HashMap<Vec<u8>, At>,
    /// Bytes of the lines that count.
    live: u64,
    /// See [`Journal::open`].
    slack: u64,
    /// Whether the last attempt to make it smaller failed.
    is_troubled: bool,
    buffer: Vec<u8>,
}

impl Journal {
    /// Opens or makes a journal. Returns what it holds, and how many lines could not be read.
    ///
    /// `slack` is how many bytes of lines without use the file may hold, beside as many as there are of use.
    pub(super) fn open(path: &Path, slack: u64) -> Result<(Journal, Entries, usize), OpenError> {
        // A link stays one.
        let path = &path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let is_new = !path.exists();
        let mut reading = Reading::default();
        let current = reading.take_file(path, 0)?;
        let (mut current, mut copied) = (current, None);
        let next = next(path);
        if next.exists() {
            if is_new {
                // Somebody removed the first file: what changed since is not the whole.
                let _locked = lock(&next)?;
                return Err(set_aside(&next));
            }
            let from = std::mem::replace(&mut current, reading.take_file(&next, 1)?);
            copied = Some(Copied { from, at: 0 });
        }
        let journal = Journal {
            path: path.into(),
            number: u64::from(copied.is_some()),
            current,
            copied,
            gone: None,
            live: reading.index.values().map(|at| at.len).sum(),
            index: reading.index,
            slack,
            is_troubled: false,
            buffer: Vec::new(),
        };
        // What a writer that was killed left of a line.
        journal.current.file.set_len(journal.current.end)?;
        Ok((journal, reading.entries, reading.bad))
    }

    /// Has `key` hold `value`, or nothing if that is empty, and `gone` hold nothing.
    ///
    /// # Errors
    /// What the system says; then nothing has changed.
    pub(super) fn put(&mut self, key: &[u8], value: &[u8], gone: Option<&[u8]>) -> io::Result<()> {
        self.buffer.clear();
        push(&mut self.buffer, key, value, gone);
        let len = self.buffer.len();
        self.append()?;
        let offset = self.current.end - len as u64;
        let at = At {
            file: self.number,
            offset,
            len: len as u64,
        };
        self.hold(key, (!value.is_empty()).then_some(at));
        if let Some(gone) = gone {
            self.hold(gone, None);
        }
        // The change stands, whatever becomes of this.
        let tidied = self.tidy(SLICE + 2 * len);
        let was_troubled = std::mem::replace(&mut self.is_troubled, tidied.is_err());
        if let Err(error) = tidied
            && !was_troubled
        {
            let path = self.path.display();
            tracing::error!("cannot write the store {path} anew, so it grows: {error}");
        }
        Ok(())
    }

    fn hold(&mut self, key: &[u8], at: Option<At>) {
        let before = match at {
            Some(at) => match self.index.get_mut(key) {
                Some(held) => Some(std::mem::replace(held, at)),
                None => self.index.insert(key.to_vec(), at),
            },
            None => self.index.remove(key),
        };
        self.live += at.map_or(0, |at| at.len);
        self.live -= before.map_or(0, |at| at.len);
    }

    /// Writes the buffer behind the last line.
    fn append(&mut self) -> io::Result<()> {
        let current = &mut self.current;
        let written = current.file.write_all_at(&self.buffer, current.end);
        match &written {
            Ok(()) => current.end += self.buffer.len() as u64,
            // If this fails too, the next line is written over what is left of this one.
            Err(_) => drop(current.file.set_len(current.end)),
        }
        written
    }

    /// Goes on copying what counts of the first of two files, then gives it back; begins the second when it is time.
    fn tidy(&mut self, bytes: usize) -> io::Result<()> {
        if let Some(mut gone) = self.gone.take() {
            gone.end = gone.end.saturating_sub(PIECE);
            gone.file.set_len(gone.end)?;
            self.gone = Some(gone).filter(|gone| gone.end > 0);
            return Ok(());
        }
        let Some(mut copied) = self.copied.take() else {
            return match self.current.end > 2 * self.live + self.slack {
                true => self.begin_next(),
                false => Ok(()),
            };
        };
        let is_done = self.copy(&mut copied, bytes).and_then(|is_done| {
            if is_done {
                std::fs::rename(next(&self.path), &self.path)?;
            }
            Ok(is_done)
        });
        match is_done {
            Ok(true) => self.gone = Some(copied.from),
            _ => self.copied = Some(copied),
        }
        is_done.map(drop)
    }

    fn begin_next(&mut self) -> io::Result<()> {
        let path = next(&self.path);
        let file = lock(&path).map_err(|error| match error {
            OpenError::System(error) => error,
            _ => io::ErrorKind::AlreadyExists.into(),
        })?;
        file.set_len(0)?;
        if let Err(error) = file.write_all_at(HEADER, 0) {
            // Who comes next would have to finish it, and may have no room either.
            let _ = std::fs::remove_file(&path);
            return Err(error);
        }
        let end = HEADER.len() as u64;
        let from = std::mem::replace(&mut self.current, Lines { file, end });
        self.copied = Some(Copied { from, at: 0 });
        self.number += 1;
        Ok(())
    }

    /// Copies what counts of the next `bytes` of the first file; true at its end.
    fn copy(&mut self, copied: &mut Copied, bytes: usize) -> io::Result<bool> {
        let left = copied.from.end - copied.at;
        let mut slice = vec![0; bytes.min(left as usize)];
        copied.from.file.read_exact_at(&mut slice, copied.at)?;
        let whole = slice
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |at| at + 1);
        if whole == 0 && left > bytes as u64 {
            return self.copy(copied, 2 * bytes);
        }
        let start = self.current.end;
        self.buffer.clear();
        let mut moved = Vec::new();
        let mut offset = copied.at;
        for line in slice[..whole].split_inclusive(|byte| *byte == b'\n') {
            let len = line.len() as u64;
            let at = At {
                file: self.number - 1,
                offset,
                len,
            };
            offset += len;
            let Some(read) = parse(line) else { continue };
            if self.index.get(read.key) != Some(&at) {
                continue;
            }
            // Without what it removed: that may be there again by now.
            let before = self.buffer.len();
            push(&mut self.buffer, read.key, read.value, None);
            let at = At {
                file: self.number,
                offset: start + before as u64,
                len: (self.buffer.len() - before) as u64,
            };
            moved.push((read.key, at));
        }
        self.append()?;
        for (key, at) in moved {
            self.hold(key, Some(at));
        }
        copied.at += whole as u64;
        Ok(whole as u64 == left)
    }
}

/// What is found in a journal's files.
#[derive(Default)]
struct Reading {
    entries: Entries,
    index: HashMap<Vec<u8>, At>,
    bad: usize,
}

impl Reading {
    /// Opens or makes a file and takes in its lines.
    fn take_file(&mut self, path: &Path, number: u64) -> Result<Lines, OpenError> {
        let file = lock(path)?;
        match self.lines(&file, number)? {
            Some(end) => Ok(Lines { file, end }),
            None => Err(set_aside(path)),
        }
    }

    /// Takes in a file's lines; returns where the last one ends, nothing if it is foreign.
    fn lines(&mut self, file: &File, number: u64) -> io::Result<Option<u64>> {
        let len = file.metadata()?.len() as usize;
        let mut bytes = vec![0; len];
        file.read_exact_at(&mut bytes, 0)?;
        if HEADER.starts_with(&bytes) {
            file.write_all_at(HEADER, 0)?;
            return Ok(Some(HEADER.len() as u64));
        }
        if !bytes.starts_with(HEADER) {
            return Ok(None);
        }
        let mut offset = HEADER.len();
        for line in bytes[HEADER.len()..].split_inclusive(|byte| *byte == b'\n') {
            if !line.ends_with(b"\n") {
                break;
            }
            let at = At {
                file: number,
                offset: offset as u64,
                len: line.len() as u64,
            };
            offset += line.len();
            match parse(line) {
                Some(read) => self.take(read, at),
                None => self.bad += 1,
            }
        }
        Ok(Some(offset as u64))
    }

    fn take(&mut self, line: Line<'_>, at: At) {
        if let Some(gone) = line.gone {
            self.entries.remove(gone);
            self.index.remove(gone);
        }
        match line.value {
            b"" => {
                self.entries.remove(line.key);
                self.index.remove(line.key);
            }
            value => {
                self.entries.insert(line.key.to_vec(), value.to_vec());
                self.index.insert(line.key.to_vec(), at);
            }
        }
    }
}

/// One line.
struct Line<'a> {
    key: &'a [u8],
    value: &'a [u8],
    gone: Option<&'a [u8]>,
}

fn parse(line: &[u8]) -> Option<Line<'_>> {
    let mut parts = line.strip_suffix(b"\n")?.split(|byte| *byte == b'\t');
    let (key, value, gone) = (parts.next()?, parts.next()?, parts.next());
    let is_whole = parts.next().is_none() && !key.is_empty();
    is_whole.then_some(Line { key, value, gone })
}

fn push(out: &mut Vec<u8>, key: &[u8], value: &[u8], gone: Option<&[u8]>) {
    for part in [key, b"\t", value] {
        out.extend_from_slice(part);
    }
    if let Some(gone) = gone {
        out.push(b'\t');
        out.extend_from_slice(gone);
    }
    out.push(b'\n');
}

pub(super) fn next(path: &Path) -> PathBuf {
    with_ending(path, ".next")
}

/// Where a file goes that is none of ours.
pub(super) fn aside(path: &Path) -> PathBuf {
    with_ending(path, ".aside")
}

fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(ending);
    name.into()
}

/// Renames a file that is locked.
fn set_aside(path: &Path) -> OpenError {
    match std::fs::rename(path, aside(path)) {
        Ok(()) => OpenError::Foreign(path.to_owned()),
        Err(error) => OpenError::System(error),
    }
}

/// Opens or makes a file that nobody else may have open this way; for its owner and group alone from the start.
fn lock(path: &Path) -> Result<File, OpenError> {
    let mut options = File::options();
    let options = options.read(true).write(true).create(true).truncate(false);
    let file = options.mode(MODE).open(path)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(OpenError::Busy),
        Err(TryLockError::Error(error)) => return Err(error.into()),
    }
    file.set_permissions(Permissions::from_mode(MODE))?;
    // Another file may have taken its place before it was locked.
    let inode = |metadata: Metadata| (metadata.dev(), metadata.ino());
    match std::fs::metadata(path)
        .is_ok_and(|named| file.metadata().is_ok_and(|own| inode(own) == inode(named)))
    {
        true => Ok(file),
        false => Err(OpenError::Busy),
    }
}
