//! `scripts/bench`: Penstock beside a reference, in one run, on one core, over the same packets.

mod capture;
mod checks;
mod commands;
mod control;
mod cpu;
mod cycles;
mod generator;
mod icount;
mod idle;
mod memif;
mod netns;
mod ng;
mod openvswitch;
mod output;
mod ovs;
mod plane;
mod plot;
mod process;
mod relay;
mod replay;
mod report;
mod rtpengine;
mod scale;
mod set;
mod testpmd;
mod veth;

use capture::{Family, Order};
use clap::{Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Measures ratios, not times: Penstock and a reference take turns on one core. `idle` measures times: compare
/// its rows. Without the name of a bench: of each what takes five minutes together, then the report.
///
/// Run it while nothing else runs. Exit codes: 0 measured, 2 this machine cannot measure,
/// 3 inconclusive (the reference itself varied by more than 20 %, or the generator was the limit), 1 the plane did wrong.
#[derive(Parser)]
#[command(name = "scripts/bench")]
struct Args {
    #[command(subcommand)]
    bench: Option<Bench>,
    /// Print only one JSON object per case to stdout.
    #[arg(long, global = true)]
    json: bool,
    /// Alternating rounds; the median counts. The report calls fewer than three inconclusive.
    #[arg(long, default_value_t = 5, global = true, value_parser = rounds)]
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
    /// Where results are kept for `report`.
    #[arg(long, global = true, default_value = "target/bench", hide = true)]
    results: PathBuf,
    /// All cases rather than those that take five minutes.
    #[arg(long, global = true)]
    full: bool,
}

#[derive(Subcommand)]
enum Bench {
    /// Packets relayed per second, against dpdk-testpmd's 5tswap over the same capture, and cycles a packet above
    /// testpmd's io, which touches no packet. By default some cases of 214 bytes (G.711); what is given of the three
    /// lists is crossed with the others' first values.
    Relay {
        /// Streams installed; each has an equal part of the packets. All cases: 200,2000,40000,400000.
        #[arg(long, value_delimiter = ',')]
        streams: Vec<u32>,
        /// IP version. All cases: both.
        #[arg(long, value_delimiter = ',')]
        family: Vec<Family>,
        /// Bytes of a packet, from the Ethernet header on; IPv6 with RTP takes 74 at least. All cases: 60,214,1400.
        #[arg(long, value_delimiter = ',')]
        size: Vec<usize>,
        /// In which order the streams' packets come. All cases: in-turn, and some mixed.
        #[arg(long, value_delimiter = ',')]
        order: Vec<Order>,
        /// Seconds each round measures.
        #[arg(long, default_value_t = 1.0)]
        seconds: f64,
    },
    /// The highest rate without loss, the highest with at most 0.1 % lost, and what a packet takes at half the first, against
    /// dpdk-testpmd's 5tswap: a generator of calls on another core, over net_memif. By default 2,000 streams with IPv4.
    Memif {
        /// Streams, the two directions of a call each. All cases: 200,2000,40000.
        #[arg(long, value_delimiter = ',')]
        streams: Vec<u32>,
        /// IP version. All cases: both.
        #[arg(long, value_delimiter = ',')]
        family: Vec<Family>,
        /// Bytes of a packet, from the Ethernet header on.
        #[arg(long, default_value_t = 214)]
        size: usize,
        /// Seconds that a rate is tried for.
        #[arg(long, default_value_t = 0.3)]
        seconds: f64,
    },
    /// Packets relayed per second, against Open vSwitch with DPDK, which has a flow for each stream, its caches warm, with
    /// and without its signature cache: the better one counts. And how long both take to install the streams.
    Ovs {
        /// Streams installed. By default 2000,40000; all cases: 200,2000,40000.
        #[arg(long, value_delimiter = ',')]
        streams: Vec<u32>,
        /// Seconds each round measures: the plane, and Open vSwitch twice.
        #[arg(long, default_value_t = 1.0)]
        seconds: f64,
    },
    /// What a packet, a stream and its installation cost, from 100 streams to 1,000,000; the packets above testpmd's io.
    Scale {
        /// Seconds each round measures.
        #[arg(long, default_value_t = 1.0)]
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
    /// Writes one page of the latest results, with plots, and says where.
    Report,
    /// Calls over a veth pair, against rtpengine: the highest rate without loss, what is left of the peak at the highest load, and
    /// processor time of calls. By default three rounds of one port, with fewer and shorter steps.
    Veth {
        /// Penstock's port. All cases: af-packet,af-xdp.
        #[arg(long, value_delimiter = ',')]
        port: Vec<veth::Kind>,
        /// Calls whose processor time is measured. All cases: 100,1000.
        #[arg(long, value_delimiter = ',')]
        calls: Vec<usize>,
        /// How Penstock's worker waits for packets.
        #[arg(long, default_value = "adaptive", value_parser = ["adaptive", "busy"])]
        polling: String,
    },
    /// Calls signalled a second (offer, answer, delete over ng), against rtpengine, while others stand; and how long requests take
    /// at 1,000 calls a second.
    Ng {
        /// Calls that stand. By default 100,10000; all cases: 100000 too, where Penstock is alone, as above 10,000.
        #[arg(long, value_delimiter = ',')]
        standing: Vec<usize>,
        /// Seconds that each round measures a rate for, and a third of those for the latency. By default 0.5, all cases: 3.
        #[arg(long)]
        seconds: Option<f64>,
    },
    /// What each kind of packet costs a worker, in cycles, without driver and cache misses.
    Checks,
    /// Instructions per packet of the packet path's pure functions (valgrind), against the baseline for this rustc. Exit
    /// code 1 if one grew by more than 3 %.
    Icount {
        /// Where the baselines are.
        #[arg(long, default_value = "benches/icount.json")]
        baseline: PathBuf,
        /// Make this the baseline.
        #[arg(long)]
        update: bool,
        #[arg(long, hide = true)]
        under_callgrind: Option<String>,
        #[arg(long, hide = true)]
        idle: bool,
    },
    #[command(hide = true)]
    Generator { setup: PathBuf },
}

impl Bench {
    /// Whether it measures a worker on its CPU.
    const fn needs_quiet(&self) -> bool {
        !matches!(
            self,
            Bench::Report | Bench::Checks | Bench::Icount { .. } | Bench::Generator { .. }
        )
    }
}

fn rounds(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err("one round at least".into()),
        Ok(rounds) => Ok(rounds),
    }
}

/// Why there is no figure.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{0}")]
    Environment(String),
    #[error("void: {0}")]
    Void(String),
    #[error("{0}")]
    Grown(String),
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
        Some(bench) => measure(&args, bench).map(|verdict| match verdict {
            Verdict::Measured => ExitCode::SUCCESS,
            Verdict::Inconclusive => {
                if !matches!(bench, Bench::Icount { .. }) {
                    eprintln!(
                        "inconclusive: the reference varied by more than 20 % (is anything else running?), packets were \
                         lost at the calls' own rate, or the generator was the limit"
                    );
                }
                ExitCode::from(3)
            }
        }),
        None => set::run(&args),
    };
    result.unwrap_or_else(|failure| {
        eprintln!("scripts/bench: {failure}");
        let environment = matches!(failure, Failure::Environment(_));
        ExitCode::from(if environment { 2 } else { 1 })
    })
}

fn measure(args: &Args, bench: &Bench) -> Result<Verdict, Failure> {
    if bench.needs_quiet() {
        cpu::is_quiet(args)?;
    }
    match bench {
        Bench::Relay {
            streams,
            family,
            size,
            order,
            seconds,
        } => {
            let wanted = relay::Wanted {
                streams,
                families: family,
                sizes: size,
                orders: order,
            };
            relay::run(args, &relay::cases(args.full, &wanted), *seconds)
        }
        Bench::Memif {
            streams,
            family,
            size,
            seconds,
        } => {
            let cases = memif::cases(args.full, streams, family, *size);
            memif::run(args, &cases, *seconds)
        }
        Bench::Scale { seconds } => scale::run(args, *seconds),
        Bench::Commands { streams } => commands::run(args, *streams),
        Bench::Idle { seconds, packets } => idle::run(args, *seconds, (*packets).max(1)),
        Bench::Report => report::run(args),
        Bench::Checks => checks::run(args),
        Bench::Ovs { streams, seconds } => ovs::run(args, streams, *seconds),
        Bench::Veth {
            port,
            calls,
            polling,
        } => veth::run(args, &veth::Cases::new(args, port, calls, polling)),
        Bench::Ng { standing, seconds } => {
            cycles::run(args, &cycles::Cases::new(args, standing, *seconds))
        }
        Bench::Icount {
            under_callgrind: Some(name),
            idle,
            ..
        } => icount::under_callgrind(name, !idle),
        Bench::Icount {
            baseline, update, ..
        } => icount::run(args, baseline, *update),
        Bench::Generator { setup } => generator::run_process(setup).map(|()| Verdict::Measured),
    }
}

/// What the names of all begin with that would stay if the bench were killed, and that are not below its TMPDIR: the name of
/// that. scripts/bench removes them.
fn prefix() -> String {
    let dir = std::env::temp_dir();
    let name = dir.file_name().unwrap_or_default();
    name.display().to_string()
}

/// How fast the time-stamp counter counts, MHz: what is called cycles here.
fn mhz() -> f64 {
    let (start, first) = (Instant::now(), penstock_dpdk::tsc());
    std::thread::sleep(Duration::from_millis(100));
    let (took, last) = (start.elapsed(), penstock_dpdk::tsc());
    (last - first) as f64 / took.as_secs_f64() / 1e6
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

/// To three places.
fn round3(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

/// How far apart the largest and the smallest are, as a part of the median.
fn spread(values: &[f64]) -> f64 {
    let most = values.iter().copied().fold(f64::MIN, f64::max);
    let least = values.iter().copied().fold(f64::MAX, f64::min);
    (most - least) / median(values)
}
