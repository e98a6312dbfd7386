//! `scripts/bench` without the name of a bench: all of them, one after the other, and the report.

use crate::process::program;
use crate::{Args, Failure};
use std::env;
use std::process::ExitCode;

/// Five minutes' worth.
const SHORT: [&[&str]; 6] = [
    &["relay", "--streams", "2000", "--order", "in-turn,mixed"],
    &["ovs", "--streams", "2000"],
    &["memif"],
    &["veth"],
    &["ng"],
    &["icount"],
];

/// Everything there is, with `--full`.
const ALL: [&[&str]; 10] = [
    &["relay"],
    &["ovs"],
    &["memif"],
    &["veth"],
    &["ng"],
    &["scale"],
    &["commands"],
    &["checks"],
    &["icount"],
    &["idle"],
];

/// What counts of many exit codes, the first before the others.
const WORST: [u8; 4] = [1, 2, 3, 0];

/// Runs each as a process of its own: some enter a network namespace. The exit code is the worst of theirs.
pub fn run(args: &Args) -> Result<ExitCode, Failure> {
    let benches: &[&[&str]] = if args.full { &ALL } else { &SHORT };
    let mut codes = Vec::new();
    for bench in benches.iter().chain(&[&["report"][..]]) {
        args.heading(&format!("\n{}", bench.join(" ")));
        let mut process = program(env::current_exe()?);
        let status = process.args(env::args().skip(1)).args(*bench).status()?;
        codes.push(status.code());
    }
    Ok(ExitCode::from(worst(&codes)))
}

/// What ended by a signal, or as no bench does, went wrong.
fn worst(codes: &[Option<i32>]) -> u8 {
    let place = |code: &Option<i32>| WORST.iter().position(|&w| Some(w.into()) == *code);
    let places = codes.iter().map(|code| place(code).unwrap_or(0));
    places.min().map_or(0, |place| WORST[place])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_exit_code_is_that_of_all() {
        let worst = |codes: &[i32]| worst(&codes.iter().copied().map(Some).collect::<Vec<_>>());
        assert_eq!(worst(&[]), 0);
        assert_eq!(worst(&[0, 0]), 0);
        assert_eq!(worst(&[0, 3, 0]), 3);
        assert_eq!(
            worst(&[3, 2, 0, 3]),
            2,
            "not measured is worse than doubtful"
        );
        assert_eq!(worst(&[2, 1, 3]), 1, "and wrong is the worst");
        assert_eq!(worst(&[0, 101]), 1, "a panic");
        assert_eq!(super::worst(&[Some(3), None]), 1, "a signal");
    }
}
