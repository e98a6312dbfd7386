//! The control daemon beside the plane under test.

use crate::ng::Ng;
use crate::plane::Bench;
use crate::process::{Process, program};
use crate::{Args, Failure};
use std::time::{Duration, Instant};

/// How long it may take to start.
const PATIENCE: Duration = Duration::from_secs(20);

/// Starts the one that lies beside the plane's program, with the plane's configuration, and waits until it answers ng.
///
/// # Errors
/// [`Failure::Environment`] if there is none, or it does not start.
pub fn start(args: &Args, bench: &Bench, ng: &Ng) -> Result<Process, Failure> {
    let mut command = program(args.plane.with_file_name("penstock-control"));
    command.arg("--config").arg(bench.config());
    command.env("RUST_LOG", "warn");
    let mut control = Process::start("penstock-control", &mut command, &bench.file(""))?;
    let end = Instant::now() + PATIENCE;
    while !ng.ping(Duration::from_millis(100)) {
        if let Some(why) = control.ended()? {
            return Err(Failure::Environment(why));
        }
        if Instant::now() > end {
            return Err(Failure::Environment("control did not answer ng".into()));
        }
    }
    Ok(control)
}
