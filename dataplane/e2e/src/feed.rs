//! A capture that grows while the plane reads it: a FIFO where net_pcap expects a file, so that a scenario decides what
//! arrives when, in what order, and how much of it.

use rustix::fs::{CWD, FileType, Mode, mknodat};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

/// What a capture file begins with: little-endian, microseconds, Ethernet.
const HEADER: [u8; 24] = [
    0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 1, 0, 0, 0,
];

/// Frames as a capture's records, one after the other.
pub fn records(frames: impl IntoIterator<Item = impl AsRef<[u8]>>) -> Vec<u8> {
    let mut records = Vec::new();
    for frame in frames {
        let frame = frame.as_ref();
        let len = (frame.len() as u32).to_le_bytes();
        records.extend([[0; 4], [0; 4], len, len].concat());
        records.extend(frame);
    }
    records
}

/// The writing end of a receive queue.
///
/// The worker waits for the next frame inside its driver while there is none, so it gets whole bursts only: what is sent
/// between two looks at the counters has to be a multiple of [`Feed::WHOLE`]. Dropped, it is a capture that has ended.
pub struct Feed {
    path: PathBuf,
    file: File,
}

impl Feed {
    /// A multiple of the burst size.
    pub const WHOLE: usize = 64;

    /// Makes the FIFO, for a plane that starts afterwards.
    pub fn new(path: &Path) -> Feed {
        mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).expect("a FIFO");
        // For reading too: so it opens before there is a reader.
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(path)
            .expect("the FIFO");
        file.write_all(&HEADER).expect("room for the header");
        Feed {
            path: path.to_owned(),
            file,
        }
    }

    /// The plane has started: from now on its death is an error, rather than a wait without end.
    pub fn started(&mut self) {
        let write = OpenOptions::new().write(true).open(&self.path);
        self.file = write.expect("the FIFO");
    }

    /// Sends what [`records`] made; waits while the plane is behind.
    pub fn send(&mut self, records: &[u8]) {
        self.file.write_all(records).expect("a plane that reads");
    }
}
