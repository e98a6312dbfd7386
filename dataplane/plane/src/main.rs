//! `penstock-dataplane`: relays media between DPDK ports, as the region's stream table says.

mod addresses;
mod adjacency;
mod asked;
mod clock;
mod dry_run;
mod fans;
mod feeds;
mod gateways;
mod health;
mod limit;
mod links;
mod neighbour;
mod plan;
mod ports;
mod renewal;
mod rules;
mod slow;
mod steward;
mod streams;
mod timers;
mod waiting;
mod windows;
mod worker;

use adjacency::Adjacencies;
use clap::Parser;
use fans::Fans;
use health::Health;
use links::Links;
use neighbour::Neighbours;
use penstock_config::Config;
use penstock_relay::LocalAddrs;
use penstock_shm::copies::CopyWriter;
use penstock_shm::{
    AddressEntry, Attached, Plane, RegionConfig, Ringer, TableWriter, WorkerTable, monotonic_ns,
};
use plan::{Machine, Plan};
use slow::Queues;
use std::io::IsTerminal;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use steward::{Announcements, Bucket, Reloader, Steward};
use streams::Streams;
use timers::Watch;
use worker::{MediaPorts, Shared, Worker};

/// Relays media between DPDK ports.
///
/// Which streams it relays is penstock-control's to say, through the region (shared memory). Media goes on
/// while control is away; after a restart of this daemon every stream goes on where it was.
/// SIGTERM and SIGINT end it; the streams stay in the region. SIGHUP has it read its configuration again.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// The configuration file.
    #[arg(long, default_value = "/etc/penstock/penstock.toml")]
    config: PathBuf,
    /// Says what the plane would use and what is missing, and changes nothing. Exit code 0: it would start.
    #[arg(long)]
    dry_run: bool,
    /// With --dry-run: data for machines.
    #[arg(long, requires = "dry_run")]
    json: bool,
}

/// Why the plane cannot go on: one sentence.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Config(#[from] penstock_config::ConfigError),
    #[error(transparent)]
    Region(#[from] penstock_shm::RegionError),
    #[error(transparent)]
    Dpdk(#[from] penstock_dpdk::Error),
    #[error("{0}")]
    Other(String),
}

impl Failure {
    fn new(what: String) -> Self {
        Failure::Other(what)
    }
}

/// The CPUs this process may use.
fn cpus() -> Vec<usize> {
    let set = rustix::thread::sched_getaffinity(None).unwrap_or_default();
    (0..rustix::thread::CpuSet::MAX_CPU)
        .filter(|&cpu| set.is_set(cpu))
        .collect()
}

fn main() -> ExitCode {
    let args = Args::parse();
    let filter =
        tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    if args.dry_run {
        return dry_run(&args);
    }
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("penstock-dataplane: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn dry_run(args: &Args) -> ExitCode {
    let config = match Config::load(&args.config) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("penstock-dataplane: {error}");
            return ExitCode::FAILURE;
        }
    };
    let report = dry_run::Report::new(&config);
    if args.json {
        println!("{}", report.json());
    } else {
        println!("{}", report.text());
    }
    ExitCode::from(u8::from(!report.would_start()))
}

fn run(args: &Args) -> Result<(), Failure> {
    let config = Config::load(&args.config)?;
    let plan = Plan::new(&config, &Machine::read(&config));
    if !plan.problems.is_empty() {
        return Err(Failure::new(plan.problems.join("\n")));
    }
    let (region, plane) = open_region(&config)?;
    let (stop_pipe, reload_pipe) =
        on_signals().map_err(|e| Failure::new(format!("cannot handle signals: {e}")))?;
    let eal = ports::start_eal(&config, &plan)?;
    penstock_dpdk::block_rt_signals();
    let (pools, steward_pool) = ports::pools(&eal, &plan)?;
    let mut opened = ports::open(&eal, &config, &plan, &pools)?;

    let workers = config.plane.cores.len();
    let copies = plane.copy_writers(&region, workers)?;
    let mut parts = plane.split(workers + 1);
    let steward_counters = parts.workers.pop().expect("one more than workers");
    let macs: Vec<[u8; 6]> = opened.iter().map(|port| port.mac).collect();
    let shared = shared(&config, parts.bell.ringer(), parts.table.capacity())?;
    let ours = our_addresses(&config, &macs, &shared.adjacencies, &mut parts.table)?;
    let mut streams = Streams::new(
        parts.table,
        addresses::by_number(&ours.locals, &ours.numbers),
        ours.links,
        Arc::clone(&shared.rules),
        rules::window(&config),
        Arc::clone(&shared.fans),
    );
    let resumed = streams.resume(monotonic_ns());
    parts.pulse.start();

    let turns = parts.workers.iter().map(|table| table.turns()).collect();
    let mut running = Vec::new();
    for (index, table) in parts.workers.into_iter().zip(copies).enumerate() {
        let sides = renewal::sides(&config, &ours.locals, &ours.numbers, opened.len());
        let worker = worker(&config, index, table, &mut opened, sides, shared.clone());
        running.push(eal.launch(index, move || worker.run())?);
    }
    let capacity = streams.table().capacity();
    let steward = Steward {
        streams,
        watch: Watch::new(rules::timers(&config), capacity),
        commands: parts.commands,
        events: parts.events,
        bell: parts.bell,
        pulse: parts.pulse,
        locals: ours.locals,
        adjacencies: Arc::clone(&shared.adjacencies),
        queues: Arc::clone(&shared.queues),
        pool: steward_pool,
        counters: steward_counters,
        icmp: Bucket::new(config.plane.icmp_per_s, monotonic_ns()),
        kernels: opened.iter().map(ports::Opened::kernel).collect(),
        announcements: Announcements::new(opened.len(), monotonic_ns()),
        reloader: Reloader::new(args.config.clone(), config, macs, reload_pipe),
        notice: Arc::clone(&shared.notice),
    };
    say_ready(workers, resumed);
    let media = plan.ports.len();
    let health = Health::new(turns, plan.workers.clone(), &opened, media, monotonic_ns());
    steward.run(stop_pipe.as_fd(), health);

    let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
    shared.notice.stop();
    shared.queues.wake();
    for worker in running {
        worker.join();
    }
    log_counts(&opened);
    Ok(())
}

fn open_region(config: &Config) -> Result<(RegionConfig, Plane), Failure> {
    let region = RegionConfig {
        dir: config.region.dir.clone(),
        table_dir: config.region.table_dir.clone(),
        streams: config.region.streams,
        group: config.region.group,
    };
    let plane = Plane::open(&region)?;
    match plane.attached() {
        Attached::Fresh => tracing::info!(dir = %config.region.dir.display(), "new region"),
        Attached::Resumed { records } => tracing::info!(records, "region resumed"),
        Attached::SetAside { why } => tracing::warn!(
            why,
            "the old region was set aside; control will refill the new one"
        ),
    }
    Ok((region, plane))
}

/// What workers and steward share, as it is at the start.
fn shared(config: &Config, ringer: Ringer, streams: u32) -> Result<Shared, Failure> {
    let queues = Queues::new(config.plane.cores.len())
        .map_err(|e| Failure::new(format!("cannot make the workers' bells: {e}")))?;
    Ok(Shared {
        adjacencies: Arc::new(Adjacencies::new()),
        fans: Arc::new(Fans::new(streams)),
        rules: Arc::new(rules::rules(config)),
        queues: Arc::new(queues),
        ringer,
        notice: Arc::default(),
        port_unreachable: config.plane.port_unreachable,
    })
}

/// Our addresses, the numbers the region has for them, and the next hops behind them.
struct Ours {
    locals: Vec<addresses::Local>,
    numbers: Vec<u16>,
    links: Links,
}

/// `macs` by port.
fn our_addresses(
    config: &Config,
    macs: &[[u8; 6]],
    adjacencies: &Arc<Adjacencies>,
    table: &mut TableWriter,
) -> Result<Ours, Failure> {
    let mut locals = addresses::locals(config, macs);
    let mut links = Links::new(
        Neighbours::new(adjacency::CAPACITY),
        Arc::clone(adjacencies),
        &mut locals,
        monotonic_ns(),
    );
    fix_neighbours(config, &locals, &mut links)?;
    let numbers = number_addresses(table, &locals)?;
    Ok(Ours {
        locals,
        numbers,
        links,
    })
}

fn say_ready(workers: usize, resumed: u32) {
    tracing::info!(workers, resumed, "relaying");
    let status = format!("relaying with {workers} worker(s)");
    let _ = sd_notify::notify(&[
        sd_notify::NotifyState::Ready,
        sd_notify::NotifyState::Status(&status),
    ]);
}

fn log_counts(opened: &[ports::Opened]) {
    for port in opened {
        if let Ok(stats) = port.port().stats() {
            tracing::info!(
                port = port.port().name(),
                received = stats.ipackets,
                sent = stats.opackets,
                missed = stats.imissed,
                "port stopped"
            );
        }
    }
}

/// A pipe that is readable once SIGTERM or SIGINT has come, and one that is when SIGHUP has.
fn on_signals() -> std::io::Result<(UnixStream, UnixStream)> {
    let (read, write) = UnixStream::pair()?;
    signal_hook::low_level::pipe::register(signal_hook::consts::SIGTERM, write.try_clone()?)?;
    signal_hook::low_level::pipe::register(signal_hook::consts::SIGINT, write)?;
    let (reload, write) = UnixStream::pair()?;
    reload.set_nonblocking(true)?;
    signal_hook::low_level::pipe::register(signal_hook::consts::SIGHUP, write)?;
    Ok((read, reload))
}

fn number_addresses(
    table: &mut TableWriter,
    locals: &[addresses::Local],
) -> Result<Vec<u16>, Failure> {
    let entries: Vec<AddressEntry> = locals
        .iter()
        .map(|l| AddressEntry {
            ip: l.ip,
            vlan: l.vlan,
            port: u16::from(l.port),
            mtu: l.mtu,
        })
        .collect();
    table
        .set_addresses(&entries)
        .map_err(|e| Failure::new(e.to_string()))
}

/// The address from which a neighbour of the configuration is on the link.
fn on_link<'a>(
    locals: &'a [addresses::Local],
    port: usize,
    neighbour: &penstock_config::Neighbour,
) -> Option<&'a addresses::Local> {
    locals.iter().find(|l| {
        usize::from(l.port) == port && l.vlan == neighbour.vlan && l.has_on_link(neighbour.address)
    })
}

/// The neighbours whose MAC the configuration says.
fn fixed(config: &Config, locals: &[addresses::Local]) -> Vec<neighbour::Key> {
    let ports = config.ports.iter().enumerate();
    let all = ports.flat_map(|(port, p)| p.neighbours.iter().map(move |n| (port, n)));
    all.filter_map(|(port, n)| Some(on_link(locals, port, n)?.neighbour(n.address)))
        .collect()
}

fn fix_neighbours(
    config: &Config,
    locals: &[addresses::Local],
    links: &mut Links,
) -> Result<(), Failure> {
    for (port, declared) in config.ports.iter().enumerate() {
        for neighbour in &declared.neighbours {
            let Some(local) = on_link(locals, port, neighbour) else {
                continue;
            };
            let key = local.neighbour(neighbour.address);
            links.fix(key, local, neighbour.mac.0).map_err(|e| {
                Failure::new(format!(
                    "port \"{}\": neighbour {}: {e}",
                    declared.name, neighbour.address
                ))
            })?;
        }
    }
    Ok(())
}

fn worker(
    config: &Config,
    index: usize,
    (table, copies): (WorkerTable, CopyWriter),
    opened: &mut [ports::Opened],
    parts: Vec<(LocalAddrs, Vec<MediaPorts>)>,
    shared: Shared,
) -> Worker {
    let sides = opened.iter_mut().zip(parts);
    let sides = sides.map(|(opened, (ours, media))| opened.side(index, ours, media));
    Worker::new(
        table,
        copies,
        sides.collect(),
        shared,
        usize::from(config.plane.burst),
        config.plane.polling,
        config.sources.unknown_ports_per_s,
    )
}

#[cfg(test)]
mod tests {
    use penstock_relay::Drop;

    #[test]
    fn the_manual_lists_every_drop_reason() {
        let manual = include_str!("../../../README.md");
        for reason in Drop::ALL {
            let row = format!("| `{}` | {} |", reason.name(), reason.help().trim());
            assert!(manual.contains(&row), "README.md lacks: {row}");
        }
    }
}
