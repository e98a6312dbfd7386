//! The reference of `veth` and `ng`: rtpengine, as Debian ships it, in user space.

use crate::Failure;
use crate::ng::{Ng, SERVER};
use crate::process::{Process, program};
use rustix::process::{Resource, getrlimit, setrlimit};
use std::net::IpAddr;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// Files that the package's service may open, and those kept for what are no standing calls.
const FILES: u64 = 150_000;
const SPARE: u64 = 1000;
/// How long a start may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// Starts it with one thread for media, all threads on CPU `core`, and waits until it answers ng.
///
/// # Errors
/// [`Failure::Environment`] if there is none, or it does not start.
pub fn start(core: usize, address: IpAddr, dir: &Path, ng: &Ng) -> Result<Process, Failure> {
    max_calls()?;
    let mut command = program("taskset");
    command
        .args(["-c", &core.to_string()])
        .args(["rtpengine", "--foreground", "--log-stderr", "--log-level=3"])
        .args(["--config-file=none", "--table=-1", "--num-threads=1"])
        .arg("--media-num-threads=0")
        .arg(format!("--interface={address}"))
        .arg(format!("--listen-ng={SERVER}"))
        .args(["--port-min=2000", "--port-max=61999"])
        // Calls without media between two trials stay.
        .args(["--timeout=3600", "--silent-timeout=3600"])
        .arg(format!("--pidfile={}", dir.join("rtpengine.pid").display()));
    let mut process = Process::start("rtpengine", &mut command, dir)?;
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end {
        if ng.ping(Duration::from_millis(100)) {
            return Ok(process);
        }
        if let Some(why) = process.ended()? {
            return Err(Failure::Environment(why));
        }
    }
    Err(Failure::Environment("rtpengine did not answer ng".into()))
}

/// Has what we start open as many files as the package's service may, or as the machine lets us.
///
/// # Errors
/// [`Failure::Environment`] if the limit cannot be set.
///
/// Returns how many calls of two legs that is enough for, a socket for each leg's RTP and RTCP.
pub fn max_calls() -> Result<usize, Failure> {
    let mut files = getrlimit(Resource::Nofile);
    let is_enough = files.maximum.is_none_or(|maximum| maximum >= FILES);
    files.current = Some(FILES);
    if !is_enough {
        let mut more = files;
        more.maximum = Some(FILES);
        if setrlimit(Resource::Nofile, more).is_err() {
            files.current = files.maximum;
        } else {
            files = more;
        }
    }
    setrlimit(Resource::Nofile, files).map_err(std::io::Error::from)?;
    let files = files.current.unwrap_or(FILES).min(FILES);
    Ok(files.saturating_sub(SPARE) as usize / 4)
}

/// What it calls itself, such as `10.5.3.5-1+deb12u1`.
///
/// # Errors
/// [`Failure::Environment`] if there is none.
pub fn version() -> Result<String, Failure> {
    let out = Command::new("rtpengine").arg("--version").output();
    let out =
        out.map_err(|e| Failure::Environment(format!("rtpengine: {e} (scripts/install bench)")))?;
    // To stdout or stderr, by version.
    let text = [out.stdout, out.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    Ok(text.trim().trim_start_matches("Version:").trim().to_owned())
}
