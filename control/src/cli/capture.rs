//! `penstock capture`: a call's packets, from the copy rings to a file.
//!
//! Control switches the copies on for as long as this process keeps its connection, so that not even SIGKILL
//! leaves them on. The packets themselves are read from the region.

use super::pcapng::{Packet, Writer};
use super::{CliError, client};
use clap::ValueEnum;
use penstock_config::Config;
use penstock_shm::copies::{About, CopyReader, Direction, SNAP_LEN};
use penstock_shm::{RegionError, TableView, monotonic_ns};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use serde::Deserialize;
use serde_json::json;
use std::fs::OpenOptions;
use std::io::{self, BufRead, BufReader, BufWriter, IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How often the rings are looked at: half of what they hold at the fastest.
const TURN: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 2_000_000,
};

/// How long a copy waits for older ones of other workers, ns: a burst's time is that of a clock read up to eight
/// bursts before.
const SETTLE_NS: u64 = 20_000_000;

/// How often the summary is drawn, and the region's files are looked after.
const TICK: Duration = Duration::from_millis(250);

/// Where packets are copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum At {
    /// As they came, also those that are then dropped
    Ingress,
    /// As they leave
    Egress,
    /// Each of both
    Both,
}

/// What is to be captured, and where to.
#[derive(clap::Args)]
pub(super) struct Wanted {
    /// The Call-ID, as `penstock calls` shows it.
    #[arg(long, value_name = "CALL-ID")]
    call: String,
    /// The file to write, in pcapng; "-" for the standard output.
    #[arg(short, long = "write", value_name = "FILE")]
    write: PathBuf,
    /// Which packets.
    #[arg(long, value_enum, default_value_t = At::Both)]
    at: At,
    /// End after so many seconds.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    seconds: Option<u32>,
    /// End after so many packets in the file.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    packets: Option<u64>,
}

impl At {
    fn wants(self, direction: Direction) -> bool {
        match self {
            At::Ingress => direction == Direction::Ingress,
            At::Egress => direction == Direction::Egress,
            At::Both => true,
        }
    }
}

/// The copy rings, over restarts of the plane.
struct Source<'a> {
    dir: &'a Path,
    reader: CopyReader,
    table: TableView,
    /// What the workers had lost before this capture.
    base: u64,
    /// What was lost in rings that are gone.
    before: u64,
}

fn worker_lost(table: &TableView) -> u64 {
    let workers = table.workers();
    workers.iter().map(|worker| worker.capture_lost).sum()
}

impl Source<'_> {
    fn open(dir: &Path) -> Result<Source<'_>, RegionError> {
        let table = TableView::open(dir)?;
        Ok(Source {
            dir,
            reader: CopyReader::open(dir)?,
            base: worker_lost(&table),
            table,
            before: 0,
        })
    }

    /// Copies of all captured calls that never came here.
    fn lost(&self) -> u64 {
        self.before + self.reader.lost() + worker_lost(&self.table).saturating_sub(self.base)
    }

    /// Looks whether a new plane has made new files.
    fn look_after(&mut self) {
        if self.reader.is_replaced(self.dir)
            && let Ok(fresh) = Source::open(self.dir)
        {
            let before = self.lost();
            *self = Source { before, ..fresh };
        }
    }
}

/// Copies on their way to the file: each worker's come in order, and wait for those of the others.
#[derive(Default)]
struct Order(Vec<(About, Vec<u8>)>);

impl Order {
    /// Those from before `time_ns`, oldest first.
    fn before(&mut self, time_ns: u64) -> impl Iterator<Item = (About, Vec<u8>)> {
        // Stable: what one worker copied at one time stays as it was.
        self.0.sort_by_key(|(about, _)| about.time_ns);
        let ready = self.0.partition_point(|(about, _)| about.time_ns < time_ns);
        self.0.drain(..ready)
    }
}

fn cannot_write(path: &Path, error: &io::Error) -> CliError {
    CliError::new(format!("cannot write {}: {error}", path.display()))
}

/// The file, and what went there.
struct Sink {
    writer: Writer<Box<dyn Write>>,
    /// From CLOCK_MONOTONIC to the date, ns.
    epoch_ns: u64,
    packets: u64,
    bytes: u64,
    limit: u64,
}

impl Sink {
    fn open(wanted: &Wanted) -> Result<Sink, CliError> {
        let path = &wanted.write;
        let out: Box<dyn Write> = if path.as_os_str() == "-" {
            if io::stdout().is_terminal() {
                return Err(CliError::new(
                    "packets are not for a terminal: name a file with -w, or pipe them, as in penstock capture ... -w - | tshark -r -",
                ));
            }
            Box::new(BufWriter::new(io::stdout()))
        } else {
            let mut options = OpenOptions::new();
            // What people say to each other is nobody else's to read.
            options.write(true).create(true).truncate(true).mode(0o600);
            let file = options.open(path);
            let file = file.map_err(|error| cannot_write(path, &error))?;
            Box::new(BufWriter::new(file))
        };
        let unix = SystemTime::now().duration_since(UNIX_EPOCH);
        let unix_ns = unix.map_or(0, |since| since.as_nanos() as u64);
        Ok(Sink {
            writer: Writer::new(out, &["ingress", "egress"], SNAP_LEN as u32)
                .map_err(|error| cannot_write(path, &error))?,
            epoch_ns: unix_ns.wrapping_sub(monotonic_ns()),
            packets: 0,
            bytes: 0,
            limit: wanted.packets.unwrap_or(u64::MAX),
        })
    }

    fn is_full(&self) -> bool {
        self.packets >= self.limit
    }

    fn write(&mut self, copies: impl Iterator<Item = (About, Vec<u8>)>) -> io::Result<()> {
        for (about, frame) in copies {
            if self.is_full() {
                break;
            }
            self.writer.packet(&Packet {
                interface: about.direction as u32,
                time_ns: about.time_ns.wrapping_add(self.epoch_ns),
                inbound: about.direction == Direction::Ingress,
                len: about.len.into(),
                frame: &frame,
            })?;
            self.packets += 1;
            self.bytes += u64::from(about.len);
        }
        self.writer.flush()
    }
}

/// What ended the capture.
enum End {
    Asked,
    CallOver,
    ControlGone,
}

/// Waits for a turn, or for a reason to end.
fn wait(
    control: &mut BufReader<UnixStream>,
    signals: &UnixStream,
) -> Result<Option<End>, CliError> {
    if control.buffer().is_empty() {
        let mut fds = [
            PollFd::new(control.get_ref(), PollFlags::IN),
            PollFd::new(signals, PollFlags::IN),
        ];
        match poll(&mut fds, Some(&TURN)) {
            Err(Errno::INTR) | Ok(0) => return Ok(None),
            outcome => outcome.map_err(io::Error::from)?,
        };
        if !fds[1].revents().is_empty() {
            return Ok(Some(End::Asked));
        }
    }
    let mut line = String::new();
    // Control says one thing only, and that in one piece.
    Ok(Some(match control.read_line(&mut line) {
        Ok(1..) => End::CallOver,
        _ => End::ControlGone,
    }))
}

/// A socket that is readable once somebody wants this process to end.
fn signals() -> io::Result<UnixStream> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    let (read, write) = UnixStream::pair()?;
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::low_level::pipe::register(signal, write.try_clone()?)?;
    }
    Ok(read)
}

#[derive(Deserialize)]
struct Started {
    key: u64,
}

pub(super) fn capture(config: &Config, wanted: &Wanted) -> Result<(), CliError> {
    let signals = signals()?;
    // Before the copies begin, so that none is missed; and no copies if there is no file for them.
    let mut source = Source::open(&config.region.dir).map_err(CliError::new)?;
    let mut sink = Sink::open(wanted)?;
    let request = json!({ "do": "capture", "id": wanted.call });
    let (Started { key }, mut control) = client::hold(config, request)?;

    let start = Instant::now();
    let deadline = wanted
        .seconds
        .map(|s| start + Duration::from_secs(s.into()));
    let live = io::stderr().is_terminal();
    let mut order = Order::default();
    let mut tick = start;
    let end = loop {
        let mut end = wait(&mut control, &signals)?;
        let is_over = deadline.is_some_and(|deadline| Instant::now() >= deadline);
        if is_over && end.is_none() {
            end = Some(End::Asked);
        }
        source.reader.read(|copy| {
            if copy.about.call == key && wanted.at.wants(copy.about.direction) {
                order.0.push((copy.about, copy.frame.to_vec()));
            }
        });
        let settled_ns = match end {
            Some(_) => u64::MAX,
            None => monotonic_ns().saturating_sub(SETTLE_NS),
        };
        match sink.write(order.before(settled_ns)) {
            // Whoever read along has seen enough.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => break End::Asked,
            outcome => outcome.map_err(|error| cannot_write(&wanted.write, &error))?,
        }
        if sink.is_full() {
            break End::Asked;
        }
        if let Some(end) = end {
            break end;
        }
        if tick.elapsed() >= TICK {
            tick = Instant::now();
            source.look_after();
            if live {
                eprint!("\r\x1b[K{}", summary(&sink, source.lost()));
            }
        }
    };
    if live {
        eprint!("\r\x1b[K");
    }
    let over = match end {
        End::CallOver => "; the call has ended",
        _ => "",
    };
    eprintln!("{}{over}", summary(&sink, source.lost()));
    match end {
        End::ControlGone => Err(CliError::new(
            "penstock-control has gone, and with it the capture; what came before is in the file",
        )),
        _ => Ok(()),
    }
}

fn summary(sink: &Sink, lost: u64) -> String {
    format!(
        "{} packets, {} bytes, {lost} copies lost",
        sink.packets, sink.bytes
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use penstock_shm::Endpoint;

    #[test]
    fn workers_are_merged_by_time_and_keep_their_own_order() {
        let copy = |time_ns, stream| {
            let about = About {
                time_ns,
                call: 1,
                stream,
                endpoint: Endpoint { addr: 0, port: 0 },
                direction: Direction::Ingress,
                len: 0,
            };
            (about, Vec::new())
        };
        let mut order = Order::default();
        order.0.extend([copy(10, 1), copy(10, 2), copy(30, 3)]);
        order.0.extend([copy(5, 4), copy(10, 5), copy(31, 6)]);
        let mut streams = |time_ns| -> Vec<u32> {
            let ready = order.before(time_ns);
            ready.map(|(about, _)| about.stream).collect()
        };
        assert_eq!(streams(30), [4, 1, 2, 5]);
        assert!(streams(30).is_empty());
        assert_eq!(streams(u64::MAX), [3, 6]);
    }
}
