//! `scripts/bench` without the name of a bench: all of them, one after the other, and the report.

use crate::{Args, Failure};
use std::env;
use std::process::{Command, ExitCode};

/// Five minutes' worth.
const SHORT: [&[&str]; 5] = [
    &["relay", "--streams", "2000", "--order", "in-turn,mixed"],
    &["ovs", "--streams", "2000"],
    &["memif"],
    &["veth"],
    &["icount"],
];

/// Everything there is, with `--full`.
const ALL: [&[&str]; 9] = [
    &["relay"],
    &["ovs"],
    &["memif"],
    &["veth"],
    &["scale"],
    &["commands"],
    &["checks"],
    &["icount"],
    &["idle"],
];

/// What counts of many exit codes, the first before the others.
const WORST: [i32; 4] = [1, 2, 3, 0];

/// Runs each as a process of its own: some enter a network namespace. The exit code is the worst of theirs.
pub fn run(args: &Args) -> Result<ExitCode, Failure> {
    let benches: &[&[&str]] = if args.full { &ALL } else { &SHORT };
    let mut worst = WORST.len() - 1;
    for bench in benches.iter().chain(&[&["report"][..]]) {
        args.heading(&format!("\n{}", bench.join(" ")));
        let mut process = Command::new(env::current_exe()?);
        let status = process.args(env::args().skip(1)).args(*bench).status()?;
        let code = status.code().unwrap_or(1);
        worst = worst.min(WORST.iter().position(|&w| w == code).unwrap_or(0));
    }
    Ok(ExitCode::from(WORST[worst] as u8))
}
