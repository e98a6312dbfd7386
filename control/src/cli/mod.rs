//! The command `penstock`: what stands, what passes, what is dropped; draining and reloading.
//!
//! It reads the region itself, and asks control only for Call-IDs: meters cost the plane nothing,
//! and either daemon may be away.

mod capture;
mod client;
mod detail;
mod live;
mod operate;
mod pcapng;
mod screen;
mod show;
mod streams;
mod top;

use clap::{Parser, Subcommand};
use penstock_config::{Config, ConfigError};
use serde_json::json;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// Looks into a running Penstock: its calls, its streams, and what it drops.
///
/// Meters are read from the memory that the media plane shares, so looking costs it nothing.
/// Call-IDs come from penstock-control; without it, streams show its number of the call.
#[derive(Parser)]
#[command(name = "penstock", version)]
#[command(after_help = "\
Examples:
  penstock status                whether both daemons work, and what they carry
  penstock calls                 every call, its parties and its packets
  penstock calls 3f2a@host       one call: legs, addresses, streams
  penstock streams --watch       every stream, once a second
  penstock drops                 why packets were dropped, with an explanation of each reason
  penstock ports                 what the devices counted, and their links
  penstock top                   rates per second, busiest streams first; q ends
  penstock drain --wait          no new calls; return when the last one has ended
  penstock end 3f2a@host         that call's media ends
  penstock set max-calls 500     until control reads its configuration again
  penstock statistics            totals since control started
  penstock capture --call 3f2a@host -w call.pcap
                                 a call's packets, as they come and as they leave
  penstock check penstock.toml   what is wrong with a configuration
The exit code is 0, or 1 with a sentence that says what is wrong.")]
struct Args {
    /// The configuration that the daemons run with.
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        default_value = "/etc/penstock/penstock.toml"
    )]
    config: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// One screen: whether the media plane and control work, calls, streams, ports.
    ///
    /// The exit code is 1 if one of the two does not work, or control does not hold the plane.
    Status {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Has control refuse new calls; those that stand go on and are served.
    ///
    /// A client that understands a load limit (Kamailio's rtpengine module does) tries its next relay.
    /// A drain outlives a restart of control; --end ends it.
    Drain {
        /// Take new calls again.
        #[arg(long)]
        end: bool,
        /// Show how many calls are left, until there are none.
        #[arg(long, conflicts_with = "end")]
        wait: bool,
        /// Fail if calls are left after so many seconds. The drain goes on.
        #[arg(long, value_name = "SECONDS", requires = "wait")]
        timeout: Option<u32>,
    },
    /// Has control read its configuration again; calls go on.
    ///
    /// All of it takes effect, or nothing: an interface that a call uses cannot be taken away, and what takes a
    /// restart is named. The media plane reads its own part on SIGHUP.
    Reload {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Calls, their parties, age and packets; or one call in detail.
    Calls {
        /// Show this call alone, with its streams.
        call_id: Option<String>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// One line per stream: what arrives at one local port.
    ///
    /// LOCAL is where it arrives, REMOTE who sends it (in brackets: as signalled, nothing learned
    /// yet), PEER the local port its packets leave from. Loss and jitter are computed from RTP
    /// sequence numbers and timestamps as RFC 3550 says. AGE is the time since it was installed.
    Streams {
        /// Show it again every second.
        #[arg(long)]
        watch: bool,
        /// Print JSON: one array, or with --watch one line a second.
        #[arg(long)]
        json: bool,
    },
    /// Packets dropped, by reason, summed over the workers.
    Drops {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// What each port's device counted since the plane started, and whether its link is up.
    Ports {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Rates per second, workers and busiest streams; q or Ctrl-C ends.
    Top {
        /// Print one JSON object a second instead.
        #[arg(long)]
        json: bool,
    },
    /// Ends a call, or all of them: their ports are free, their media is no longer relayed.
    ///
    /// Phones and proxies are not told.
    #[command(group = clap::ArgGroup::new("which").required(true))]
    End {
        /// The Call-ID, as `penstock calls` shows it.
        #[arg(group = "which")]
        call_id: Option<String>,
        /// Every call.
        #[arg(long, group = "which")]
        all: bool,
    },
    /// Sets a value until control restarts or reads its configuration again; alone, shows what is set.
    ///
    /// max-calls (calls at one time), start, silence, hold, one-way, final (the seconds of [timeouts]; 0 is never),
    /// log-level (error, warn, info, debug, trace).
    Set {
        #[arg(requires = "value")]
        key: Option<String>,
        value: Option<String>,
    },
    /// Totals since control started, under rtpengine's names; how media sounds over all calls; clients and interfaces.
    ///
    /// What was relayed is summed up every 10 seconds.
    Statistics {
        /// Print JSON, as rtpengine's `list jsonstats` does.
        #[arg(long)]
        json: bool,
    },
    /// Answers a command of rtpengine-ctl's as that one does: list, terminate, set, get, params.
    #[command(after_help = "\
Examples:
  penstock ctl list numsessions
  penstock ctl list sessions all
  penstock ctl terminate 3f2a@host")]
    Ctl {
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        words: Vec<String>,
    },
    /// Copies a call's packets to a file that Wireshark opens.
    ///
    /// Each packet stands there twice: at the interface "ingress" as it came to one of the call's ports, also if it was
    /// then dropped, and at "egress" as it leaves. Packets that come in one burst have one time. The call does not
    /// notice: where there are more packets than can be copied (256 in a millisecond and worker) or written, copies
    /// are lost, which the summary counts (those of other captures that run too). Frames are cut at 2008 bytes.
    ///
    /// It ends on Ctrl-C, when the call does, or when --seconds or --packets say so. Streams that the call gets
    /// meanwhile are captured too.
    #[command(after_help = "\
Examples:
  penstock capture --call 3f2a@host -w call.pcap
  penstock capture --call 3f2a@host -w call.pcap --at ingress --seconds 10
  penstock capture --call 3f2a@host -w - | tshark -r -
  tshark -r call.pcap -Y 'frame.interface_name == \"egress\"'   what left
The file belongs to its owner alone, and holds what people say to each other.")]
    Capture(capture::Wanted),
    /// Says what is wrong with a configuration, one sentence per problem.
    Check {
        /// The file; without it, that of --config.
        file: Option<PathBuf>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

/// Why a command failed: one sentence, or a reader that went away.
#[derive(Debug, thiserror::Error)]
enum CliError {
    #[error("{0}")]
    Sentence(String),
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl CliError {
    fn new(text: impl ToString) -> CliError {
        CliError::Sentence(text.to_string())
    }
}

/// Runs the command with the process's arguments.
pub fn main() -> ExitCode {
    let args = Args::parse();
    match run(&args) {
        Ok(code) => code,
        // `penstock streams | head` is no failure.
        Err(CliError::Io(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("penstock: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<ExitCode, CliError> {
    if let Command::Check { file, json } = &args.command {
        return check(file.as_deref().unwrap_or(&args.config), *json);
    }
    let config = Config::load(&args.config).map_err(CliError::new)?;
    match &args.command {
        Command::Calls { call_id, json } => show::calls(&config, call_id.as_deref(), *json)?,
        Command::Streams { watch: false, json } => show::streams(&config, *json)?,
        Command::Streams { watch: true, json } => show::watch(&config, *json)?,
        Command::Status { json } => return live::status(&config, *json),
        Command::Drain { end, wait, timeout } => {
            live::drain(&config, *end)?;
            if *wait {
                let limit = timeout.map(|s| Duration::from_secs(s.into()));
                live::wait(&config, limit)?;
            }
        }
        Command::Reload { json } => live::reload(&config, *json)?,
        Command::End { call_id, .. } => match call_id {
            Some(id) => operate::end(&config, id)?,
            None => operate::end_all(&config)?,
        },
        Command::Set { key, value } => {
            let pair = key.as_deref().zip(value.as_deref());
            operate::set(&config, pair)?;
        }
        Command::Statistics { json } => operate::statistics(&config, *json)?,
        Command::Ctl { words } => operate::ctl(&config, words)?,
        Command::Drops { json } => show::drops(&config, *json)?,
        Command::Ports { json } => show::ports(&config, *json)?,
        Command::Top { json } => top::top(&config, *json)?,
        Command::Capture(wanted) => capture::capture(&config, wanted)?,
        Command::Check { .. } => {}
    }
    Ok(ExitCode::SUCCESS)
}

fn check(file: &Path, as_json: bool) -> Result<ExitCode, CliError> {
    let (summary, problems) = match Config::load(file) {
        Ok(config) => (summary(&config), Vec::new()),
        Err(ConfigError::Problems { problems, .. }) => (Vec::new(), problems),
        Err(error) => (Vec::new(), vec![error.to_string()]),
    };
    let path = file.display().to_string();
    let mut out = io::stdout().lock();
    if as_json {
        let object = json!({ "file": path, "ok": problems.is_empty(), "problems": problems });
        writeln!(out, "{object}")?;
    } else if problems.is_empty() {
        writeln!(out, "{path}: ok")?;
        for line in summary {
            writeln!(out, "  {line}")?;
        }
    } else {
        for problem in &problems {
            // Errors of the file as a whole name it already.
            let prefix = if problem.contains(&path) {
                ""
            } else {
                &format!("{path}: ")
            };
            writeln!(out, "{prefix}{problem}")?;
        }
    }
    Ok(match problems.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

/// What a sound configuration amounts to.
fn summary(config: &Config) -> Vec<String> {
    let mut lines = Vec::new();
    for port in &config.ports {
        let addresses: Vec<_> = port
            .addresses
            .iter()
            .map(|a| a.address.to_string())
            .collect();
        let device = port.device.name();
        lines.push(format!(
            "port {} ({device}): {}",
            port.name,
            addresses.join(", ")
        ));
    }
    for interface in &config.control.interfaces {
        let (first, last) = (interface.ports.first, interface.ports.last);
        let pairs = u32::from(last)
            .div_ceil(2)
            .saturating_sub(u32::from(first.div_ceil(2)));
        lines.push(format!(
            "interface {}: {} ports {first}-{last}, room for {} one-media calls",
            interface.name,
            interface.address,
            pairs / 2
        ));
    }
    let cores: Vec<_> = config.plane.cores.iter().map(usize::to_string).collect();
    lines.push(format!(
        "workers on CPU {}; a table of {} streams; {}",
        cores.join(", "),
        config.region.streams,
        doors(&config.control)
    ));
    lines
}

/// Where control answers.
fn doors(control: &penstock_config::Control) -> String {
    let kinds = [
        ("ng", &control.ng),
        ("ng over TCP", &control.ng_tcp),
        ("HTTP", &control.http),
    ];
    let kinds = kinds.iter().filter(|(_, at)| !at.is_empty());
    let words = kinds.map(|(kind, at)| {
        let at: Vec<_> = at.iter().map(|at| at.to_string()).collect();
        format!("{kind} on {}", at.join(", "))
    });
    words.collect::<Vec<_>>().join("; ")
}
