//! The reference of `veth`: rtpengine, as Debian ships it, in user space.

use crate::Failure;
use crate::ng::{Ng, SERVER};
use crate::process::{Process, program};
use rustix::process::{Resource, getrlimit, setrlimit};
use std::net::IpAddr;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// How long a start may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// Starts it with one thread for media, all threads on CPU `core`, and waits until it answers ng.
///
/// # Errors
/// [`Failure::Environment`] if there is none, or it does not start.
pub fn start(core: usize, address: IpAddr, dir: &Path, ng: &Ng) -> Result<Process, Failure> {
    // Two sockets a stream; the package's service has 150,000.
    let mut files = getrlimit(Resource::Nofile);
    files.current = files.maximum;
    setrlimit(Resource::Nofile, files).map_err(std::io::Error::from)?;
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
