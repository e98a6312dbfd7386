//! Call detail records: a JSON line in a file for each call that ends.
//!
//! A thread of its own writes them, so that a slow disk is never waited for; what does not fit its queue is lost, and
//! counted. A line is written whole. What a writer that was killed, or a full disk, left of one is closed with a line
//! feed before the next: a reader finds at most that one line bad, and none after it. The file is opened anew on
//! request, for log rotation.

use crate::facing;
use crate::quality::Rated;
use penstock_media::{Call, Dialog, Kind, Leg, Local, Media, Now};
use penstock_shm::StreamStat;
use penstock_shm::counters::Drop as Dropped;
use serde_json::{Value, json};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

/// Records that wait for the disk.
const QUEUE: usize = 8192;

/// How long an ending control waits for the disk.
const PATIENCE: Duration = Duration::from_secs(2);

/// A call, or some of its dialogs, as they were when they ended.
pub(crate) struct Ended {
    /// With all its dialogs.
    pub(crate) call: Rc<Call>,
    /// Numbers of the dialogs that go on.
    pub(crate) rest: Vec<u16>,
    /// The last meters of its streams.
    pub(crate) meters: BTreeMap<Local, StreamStat>,
    pub(crate) rated: Vec<Rated>,
    /// `delete`, `operator`, or why it ended by itself.
    pub(crate) why: &'static str,
}

impl Ended {
    /// The Call-IDs of which something ended, in order.
    pub(crate) fn ids(&self) -> impl Iterator<Item = &str> {
        self.call.ids().filter(|id| self.gone(id).next().is_some())
    }

    /// The dialogs of a Call-ID that ended.
    pub(crate) fn gone(&self, id: &str) -> impl Iterator<Item = &Dialog> {
        self.of(id)
            .filter(|dialog| !self.rest.contains(&dialog.number))
    }

    /// Whether others of the same Call-ID go on.
    pub(crate) fn goes_on(&self, id: &str) -> bool {
        self.of(id).any(|dialog| self.rest.contains(&dialog.number))
    }

    fn of(&self, id: &str) -> impl Iterator<Item = &Dialog> {
        let dialogs = self.call.dialogs.iter();
        dialogs.filter(move |dialog| self.call.id_of(dialog) == id)
    }

    /// What came from a leg in a media, and where: its RTP, or, with `second`, at the port after it.
    pub(crate) fn facing(
        &self,
        media: &Media,
        side: usize,
        second: bool,
    ) -> Option<(Local, Cow<'_, StreamStat>)> {
        facing::joined(facing::locals(media, side, second), &|local| {
            self.meters.get(&local).map(Cow::Borrowed)
        })
    }

    fn rated_of(&self, media: &Media, side: usize) -> impl Iterator<Item = &Rated> {
        let locals: Vec<Local> = media.facing(side).collect();
        let rated = self.rated.iter();
        rated.filter(move |rated| locals.contains(&rated.local()))
    }
}

/// What the writer is told.
enum Order {
    Line(String),
    Reopen,
    End(SyncSender<()>),
}

/// Where records go; nowhere if there is no file for them.
#[derive(Default)]
pub(crate) struct Records {
    orders: Option<SyncSender<Order>>,
    /// Records that were not written. The writer adds as well; a count alone, nothing follows from it.
    lost: Arc<AtomicU64>,
}

impl Records {
    /// Starts writing.
    ///
    /// # Errors
    /// The file cannot be opened, or the thread not be started.
    pub(crate) fn start(path: Option<&Path>) -> io::Result<Records> {
        let lost: Arc<AtomicU64> = Arc::default();
        let Some(path) = path else {
            return Ok(Records::default());
        };
        let mut file = Log::open(path)?;
        let (orders, inbox) = sync_channel(QUEUE);
        let count = lost.clone();
        std::thread::Builder::new()
            .name("records".into())
            .spawn(move || file.run(&inbox, &count))?;
        Ok(Records {
            orders: Some(orders),
            lost,
        })
    }

    /// Records that were lost.
    pub(crate) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Writes down what ended.
    pub(crate) fn write(&self, ended: &Ended, now: Now) {
        if let Some(orders) = &self.orders {
            for id in ended.ids() {
                let mut line = record(ended, id, now).to_string();
                line.push('\n');
                if orders.try_send(Order::Line(line)).is_err() {
                    self.lost.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    }

    /// Opens the file anew: it was renamed.
    ///
    /// # Errors
    /// A sentence: the writer has too much to do.
    pub(crate) fn reopen(&self) -> Result<(), String> {
        let asked = self.orders.as_ref().map(|o| o.try_send(Order::Reopen));
        match asked {
            Some(Err(TrySendError::Full(_))) => {
                Err("the configuration is in force, but the call records' disk is too slow: their file was not opened anew".into())
            }
            _ => Ok(()),
        }
    }

    /// Waits until all is written, or for too long.
    pub(crate) fn end(&self) {
        let (done, written) = sync_channel(1);
        if let Some(orders) = &self.orders
            && orders.try_send(Order::End(done)).is_ok()
            && written.recv_timeout(PATIENCE).is_err()
        {
            tracing::error!("control stops before all call records are on disk");
        }
    }
}

/// The file.
struct Log {
    path: PathBuf,
    file: File,
    /// Whether it ends within a line.
    is_torn: bool,
    /// Whether the last write failed: a full disk is reported once.
    is_failing: bool,
}

impl Log {
    fn open(path: &Path) -> io::Result<Log> {
        let mut options = File::options();
        let mut file = options
            .read(true)
            .append(true)
            .create(true)
            .mode(0o640)
            .open(path)?;
        let mut last = [b'\n'];
        // A pipe has no end to look at.
        if file.metadata()?.len() > 0 && file.seek(SeekFrom::End(-1)).is_ok() {
            file.read_exact(&mut last)?;
        }
        Ok(Log {
            path: path.into(),
            file,
            is_torn: last != *b"\n",
            is_failing: false,
        })
    }

    fn run(&mut self, inbox: &Receiver<Order>, lost: &AtomicU64) {
        for order in inbox {
            match order {
                Order::Line(line) => {
                    if let Err(error) = self.write(&line) {
                        lost.fetch_add(1, Ordering::Relaxed);
                        if !std::mem::replace(&mut self.is_failing, true) {
                            let path = self.path.display();
                            tracing::error!("cannot write call records to {path}: {error}");
                        }
                    } else {
                        self.is_failing = false;
                    }
                }
                Order::Reopen => match Log::open(&self.path) {
                    Ok(log) => *self = log,
                    Err(error) => tracing::error!(
                        "cannot open {} anew, call records still go to the old file: {error}",
                        self.path.display()
                    ),
                },
                // Whoever asked may have gone.
                Order::End(done) => drop(done.send(())),
            }
        }
    }

    fn write(&mut self, line: &str) -> io::Result<()> {
        if self.is_torn {
            self.file.write_all(b"\n")?;
        }
        // Until it stands whole.
        self.is_torn = true;
        self.file.write_all(line.as_bytes())?;
        self.is_torn = false;
        Ok(())
    }
}

/// The line of what ended of a Call-ID.
fn record(ended: &Ended, id: &str, now: Now) -> Value {
    let created_us = ended.call.created_us_of(id);
    let legs: Vec<Value> = ended
        .gone(id)
        .flat_map(|dialog| dialog.sides().map(move |side| leg(ended, dialog, side)))
        .collect();
    json!({
        "call_id": id,
        "created_us": created_us,
        "ended_us": now.unix_us,
        "duration_s": now.unix_us.saturating_sub(created_us) as f64 / 1e6,
        "reason": ended.why,
        // A Call-ID with several dialogs has a line for each time that some of them end.
        "goes_on": ended.goes_on(id),
        "legs": legs,
    })
}

fn leg(ended: &Ended, dialog: &Dialog, side: usize) -> Value {
    let leg: &Leg = &dialog.legs[side];
    let medias: Vec<Value> = dialog
        .medias
        .iter()
        .map(|media| section(ended, media, side))
        .collect();
    json!({
        "leg": dialog.leg_number(side),
        "tags": leg.tags,
        "label": leg.label,
        "metadata": leg.metadata,
        "interface": leg.interface,
        "signalled_from": leg.hint,
        "created_us": leg.created_us,
        "medias": medias,
    })
}

/// What one leg did in one m= section.
fn section(ended: &Ended, media: &Media, side: usize) -> Value {
    let own = &media.sides[side];
    let mut streams = Vec::new();
    if let Some(locals) = media.locals {
        let local = locals[side];
        let rtp = ended.facing(media, side, false);
        let mut line = stream(local, rtp.as_ref(), own.remote, media.kind);
        if let Some((_, stat)) = rtp.filter(|_| media.kind == Kind::Rtp) {
            sounded(&mut line, &stat, ended.rated_of(media, side));
        }
        streams.push(line);
        let rtcp = ended.facing(media, side, true);
        if media.has_rtcp && rtcp.is_some() {
            streams.push(stream(local, rtcp.as_ref(), own.remote_rtcp, Kind::Rtcp));
        }
    }
    json!({
        "type": media.name,
        "protocol": own.proto,
        "declined": own.declined,
        "payload_types": own.payload_types,
        "clock_hz": media.clock_hz,
        "streams": streams,
    })
}

/// What arrived from a leg: at which of its endpoints, else at the one of its m= line, and its meters.
fn stream(
    first: Local,
    joined: Option<&(Local, Cow<'_, StreamStat>)>,
    signalled: Option<std::net::SocketAddr>,
    kind: Kind,
) -> Value {
    let local = joined.map_or(first, |(local, _)| *local);
    let mut line = json!({
        "kind": match kind { Kind::Rtp => "rtp", Kind::Rtcp => "rtcp", Kind::Raw => "raw" },
        "local": std::net::SocketAddr::new(local.ip, local.port).to_string(),
        "vlan": local.vlan,
        "signalled": signalled,
    });
    let Some((_, stat)) = joined else {
        return line;
    };
    let meter = &stat.meter;
    let drops: serde_json::Map<String, Value> = Dropped::OF_STREAM
        .iter()
        .zip(stat.drops)
        .filter(|(_, count)| *count > 0)
        .map(|(reason, count)| (reason.name().to_owned(), count.into()))
        .collect();
    let learned = stat.policy.remote.filter(|_| stat.policy.latched);
    line["learned"] = json!(learned);
    line["packets"] = meter.packets.into();
    line["bytes"] = meter.bytes.into();
    line["dropped"] = meter.dropped.into();
    line["drops"] = drops.into();
    line
}

/// What is said of RTP alone.
fn sounded<'a>(line: &mut Value, stat: &StreamStat, rated: impl Iterator<Item = &'a Rated>) {
    let meter = &stat.meter;
    line["lost"] = meter.lost.into();
    line["late"] = meter.late.into();
    line["duplicates"] = meter.duplicates.into();
    line["jitter_ms"] = json!((meter.jitter_ms * 100.0).round() / 100.0);
    line["ssrc"] = json!(meter.ssrc);
    line["payload_type"] = json!(meter.payload_type);
    line["quality"] = rated.flat_map(Rated::sources).map(quality).collect();
}

/// How one source sounded. MOS 1 to 5; averages over the call.
fn quality(source: &crate::history::History) -> Value {
    let average = source.average();
    json!({
        "ssrc": source.ssrc,
        "lost": source.lost,
        "ratings": source.samples(),
        "mos_average": f64::from(average.mos_tenths) / 10.0,
        "mos_lowest": f64::from(source.lowest().mos_tenths) / 10.0,
        "jitter_ms": average.jitter_ms,
        "loss_percent": average.loss_percent,
        "round_trip_us": average.round_trip_us,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use penstock_media::{Calls, Options, Parties};
    use std::os::unix::fs::PermissionsExt;

    fn lines(path: &Path) -> Vec<String> {
        let text = std::fs::read_to_string(path).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    fn ended(id: &str) -> Ended {
        let config = penstock_config::DEFAULTS;
        let config = penstock_config::Config::parse(config, Path::new("defaults")).unwrap();
        let begun = Now {
            unix_us: 5,
            ..now()
        };
        let mut calls = Calls::new(crate::daemon::settings(&config.control), begun);
        let parties = Parties {
            call_id: id,
            from_tag: "a",
            to_tag: None,
            branch: None,
        };
        let body = b"v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nt=0 0\r\nm=audio 0 RTP/AVP 8\r\nc=IN IP4 192.0.2.1\r\n";
        let offered = calls.offer(&parties, body, &Options::default(), begun);
        let pending = offered.unwrap();
        let call = pending.after().unwrap().clone();
        calls.rollback(pending, begun);
        Ended {
            call: Rc::new(call),
            rest: Vec::new(),
            meters: BTreeMap::new(),
            rated: Vec::new(),
            why: "delete",
        }
    }

    fn now() -> Now {
        Now {
            mono: Duration::ZERO,
            unix_us: 1_000_005,
        }
    }

    #[test]
    fn a_torn_line_stands_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("calls.jsonl");
        std::fs::write(&path, "{\"call_id\":\"whole\"}\n{\"call_i").unwrap();
        let records = Records::start(Some(&path)).unwrap();
        records.write(&ended("a"), now());
        records.write(&ended("b"), now());
        records.end();
        let found = lines(&path);
        assert_eq!(found.len(), 4, "{found:?}");
        assert_eq!(found[1], "{\"call_i");
        for (line, id) in [(&found[2], "a"), (&found[3], "b")] {
            let record: Value = serde_json::from_str(line).unwrap();
            assert_eq!(record["call_id"], id);
            assert_eq!(record["duration_s"], 1.0);
        }
    }

    #[test]
    fn a_renamed_file_is_left_alone_once_it_was_said_so() {
        let dir = tempfile::tempdir().unwrap();
        let [path, old] = ["calls.jsonl", "calls.jsonl.1"].map(|name| dir.path().join(name));
        let records = Records::start(Some(&path)).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        // The umask may take more.
        assert_eq!(mode & 0o777 & !0o640, 0);
        records.write(&ended("a"), now());
        std::fs::rename(&path, &old).unwrap();
        records.write(&ended("b"), now());
        records.reopen().unwrap();
        records.write(&ended("c"), now());
        records.end();
        assert_eq!((lines(&old).len(), lines(&path).len()), (2, 1));
        assert_eq!(records.lost(), 0);
    }

    #[test]
    fn a_slow_disk_costs_records_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pipe");
        let status = std::process::Command::new("mkfifo").arg(&path).status();
        assert!(status.unwrap().success());
        // Opened for both, so that the writer finds a reader, who then never reads.
        let reader = File::options().read(true).write(true).open(&path).unwrap();
        let records = Records::start(Some(&path)).unwrap();
        let start = std::time::Instant::now();
        let ended = ended("a");
        for _ in 0..QUEUE + 2000 {
            records.write(&ended, now());
        }
        assert!(records.lost() > 0);
        assert!(records.reopen().is_err());
        assert!(start.elapsed() < Duration::from_secs(20));
        drop(reader);
    }

    #[test]
    fn without_a_file_nothing_is_written() {
        let records = Records::start(None).unwrap();
        records.write(&ended("a"), now());
        records.reopen().unwrap();
        records.end();
        assert_eq!(records.lost(), 0);
        assert!(Records::start(Some(Path::new("/nonexistent/calls.jsonl"))).is_err());
    }
}
