//! `scripts/bench`: Penstock beside a reference, in one run, on one core, over the same packets.

mod capture;
mod checks;
mod commands;
mod idle;
mod plane;
mod relay;
mod testpmd;

use clap::{Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;

/// Measures ratios, not times: Penstock and a reference take turns on one core. `idle` measures times: compare
/// its rows.
///
/// Run it while nothing else runs. Exit codes: 0 measured, 2 this machine cannot measure,
/// 3 inconclusive (the reference itself varied by more than 20 %), 1 the plane did wrong.
#[derive(Parser)]
#[command(name = "scripts/bench")]
struct Args {
    #[command(subcommand)]
    bench: Bench,
    /// Print only one JSON object per case to stdout.
    #[arg(long, global = true)]
    json: bool,
    /// Alternating rounds; the median counts.
    #[arg(long, default_value_t = 5, global = true)]
    rounds: usize,
    /// The plane's program.
    #[arg(
        long,
        global = true,
        default_value = "target/release/penstock-dataplane",
        hide = true
    )]
    plane: PathBuf,
    /// CPU of the worker; everything else runs on the others.
    #[arg(long, default_value_t = 1, global = true)]
    core: usize,
    /// A hugetlbfs for the plane's stream table.
    #[arg(long, global = true, hide = true)]
    table_dir: Option<PathBuf>,
    /// MiB of memory for DPDK, on both sides.
    #[arg(long, default_value_t = 1024, global = true)]
    memory_mb: u32,
}

#[derive(Subcommand)]
enum Bench {
    /// Packets relayed per second, against dpdk-testpmd's 5tswap over the same capture.
    Relay {
        /// Streams installed; each has an equal part of the packets.
        #[arg(long, value_delimiter = ',', default_value = "200,2000,40000")]
        streams: Vec<u32>,
        /// Bytes of a packet, from the Ethernet header on.
        #[arg(long, default_value_t = 214)]
        size: usize,
        /// Seconds each round measures.
        #[arg(long, default_value_t = 2.0)]
        seconds: f64,
    },
    /// Stream installations per second, from control's call to applied by the plane.
    Commands {
        /// Streams installed in a round, four to a call.
        #[arg(long, default_value_t = 200_000)]
        streams: u32,
    },
    /// CPU that a plane without traffic takes, and how long the first packet then needs, for `busy` and
    /// `adaptive` polling, over a port with receive interrupts (net_tap) and one without (net_af_packet).
    Idle {
        /// Seconds at rest that CPU is measured for.
        #[arg(long, default_value_t = 3.0)]
        seconds: f64,
        /// Packets that wake the plane, 20 ms apart.
        #[arg(long, default_value_t = 200)]
        packets: usize,
    },
    /// What each kind of packet costs a worker, in cycles, without driver and cache misses.
    Checks,
}

/// Why there is no figure.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{0}")]
    Environment(String),
    #[error("void: {0}")]
    Void(String),
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Failure::Environment(error.to_string())
    }
}

/// Whether a case can be relied on.
#[derive(Clone, Copy, PartialEq)]
enum Verdict {
    Measured,
    Inconclusive,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let result = match &args.bench {
        Bench::Relay {
            streams,
            size,
            seconds,
        } => relay::run(&args, streams, *size, *seconds),
        Bench::Commands { streams } => commands::run(&args, *streams),
        Bench::Idle { seconds, packets } => idle::run(&args, *seconds, (*packets).max(1)),
        Bench::Checks => checks::run(&args),
    };
    match result {
        Ok(Verdict::Measured) => ExitCode::SUCCESS,
        Ok(Verdict::Inconclusive) => {
            eprintln!(
                "inconclusive: the reference varied by more than 20 %; is anything else running?"
            );
            ExitCode::from(3)
        }
        Err(failure) => {
            eprintln!("scripts/bench: {failure}");
            ExitCode::from(if matches!(failure, Failure::Environment(_)) {
                2
            } else {
                1
            })
        }
    }
}

/// The middle one; the mean of the two middle ones of an even number.
fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => sorted[middle],
        _ => (sorted[middle - 1] + sorted[middle]) / 2.0,
    }
}

/// How far apart the largest and the smallest are, as a part of the median.
fn spread(values: &[f64]) -> f64 {
    let most = values.iter().copied().fold(f64::MIN, f64::max);
    let least = values.iter().copied().fold(f64::MAX, f64::min);
    (most - least) / median(values)
}
