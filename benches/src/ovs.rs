//! `ovs`: the plane against Open vSwitch with DPDK, which has one flow a stream that makes the same rewrite.

use crate::capture::{self, Family, Load, Order};
use crate::netns::Namespace;
use crate::openvswitch::{Counted, Ovs, write_flows};
use crate::replay::{Replay, mpps};
use crate::{Args, Failure, Verdict, median, round3, spread};
use serde_json::json;
use std::time::{Duration, Instant};

/// Bytes of a frame: G.711.
const SIZE: usize = 214;
/// Its pool of packets holds no capture of more.
const MOST: u32 = 200_000;
/// The first lap makes the datapath's flows, the second one finds them.
const LAPS: u32 = 2;

/// Runs all cases, or those of the list if it is not empty.
pub fn run(args: &Args, streams: &[u32], seconds: f64) -> Result<Verdict, Failure> {
    let streams: &[u32] = match (streams, args.full) {
        ([], true) => &[200, 2_000, 40_000],
        ([], false) => &[2_000, 40_000],
        _ => streams,
    };
    if let Some(many) = streams.iter().find(|&&n| n > MOST) {
        return Err(Failure::Environment(format!(
            "{many} streams: Open vSwitch can replay {MOST} at most"
        )));
    }
    let _namespace = Namespace::enter()?;
    args.heading(&format!(
        "{:>9} {:>9} {:>9} {:>7} {:>8} {:>10} {:>10} {:>17} {:>10} {:>10} {:>7}",
        "streams",
        "Mpps",
        "OVS Mpps",
        "ratio",
        "spread",
        "SMC off",
        "SMC on",
        "EMC/SMC/mega %",
        "install s",
        "OVS s",
        "ratio"
    ));
    let mut verdict = Verdict::Measured;
    for &streams in streams {
        let time = Duration::from_secs_f64(seconds);
        let rounds: Result<Vec<Round>, Failure> = (0..args.rounds)
            .map(|n| round(args, streams, time, n == 0))
            .collect();
        if report(args, streams, &rounds?)? > 0.2 {
            verdict = Verdict::Inconclusive;
        }
    }
    Ok(verdict)
}

struct Round {
    /// Millions of packets per second.
    plane: f64,
    /// Without and with the signature cache.
    ovs: [Rate; 2],
    install_s: f64,
    ovs_install_s: f64,
    version: String,
}

/// What Open vSwitch did.
#[derive(Clone, Copy)]
struct Rate {
    mpps: f64,
    counted: Counted,
}

/// Both sides from nothing: each installs the streams, relays them to a file that is looked at (Open vSwitch in the `first`
/// round), and then as fast as it goes.
fn round(args: &Args, streams: u32, time: Duration, first: bool) -> Result<Round, Failure> {
    let load = Load {
        streams,
        family: Family::Ipv4,
        size: SIZE,
        order: Order::Mixed,
    };
    let replay = Replay::new(args, load, time)?;
    let flows = replay.bench.file("flows");
    write_flows(&flows, streams)?;
    let ovs = Ovs::start(&replay)?;
    let version = ovs.version()?;
    let ovs_install = ovs.install(&flows, streams)?;
    if first {
        check_laps(&ovs, &replay)?;
    }
    ovs.add_port(&replay.device())?;
    let rates = [
        measure(&ovs, &replay, false)?,
        measure(&ovs, &replay, true)?,
    ];
    drop(ovs);
    Ok(Round {
        plane: replay.plane()?,
        ovs: rates,
        install_s: replay.installed_in.as_secs_f64(),
        ovs_install_s: ovs_install.as_secs_f64(),
        version,
    })
}

/// Has Open vSwitch relay the capture to a file, and looks at every packet.
fn check_laps(ovs: &Ovs, replay: &Replay) -> Result<(), Failure> {
    let streams = replay.load.streams;
    let (input, output) = (
        replay.bench.file("laps.pcap"),
        replay.bench.file("ovs.pcap"),
    );
    capture::write(&input, replay.load, LAPS)?;
    ovs.add_port(&format!(
        "net_pcap1,rx_pcap={},tx_pcap={}",
        input.display(),
        output.display()
    ))?;
    let end = Instant::now() + Duration::from_secs(30);
    while ovs.counted()?.sent < u64::from(LAPS * streams) && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(10));
    }
    let missed = ovs.counted()?.missed;
    ovs.remove_port()?;
    capture::check(&output, replay.load, LAPS)
        .map_err(|e| Failure::Environment(format!("Open vSwitch: {e}")))?;
    if missed == u64::from(streams) {
        return Ok(());
    }
    Err(Failure::Environment(format!(
        "Open vSwitch made {missed} flows for {streams} streams"
    )))
}

fn measure(ovs: &Ovs, replay: &Replay, signature_cache: bool) -> Result<Rate, Failure> {
    ovs.signature_cache(signature_cache)?;
    ovs.warm_up(replay.load.streams)?;
    let (start, before) = (Instant::now(), ovs.counted()?);
    std::thread::sleep(replay.time);
    let (end, after) = (Instant::now(), ovs.counted()?);
    let counted = after - before;
    if counted.missed > 0 {
        let problem = format!("Open vSwitch lost flows while it was measured: {counted:?}");
        return Err(Failure::Environment(problem));
    }
    // What is in the middle of the switch is not sent yet.
    if counted.sent == 0 || counted.sent < counted.received / 1000 * 999 {
        return Err(Failure::Environment(format!(
            "Open vSwitch counted {counted:?}"
        )));
    }
    Ok(Rate {
        mpps: mpps(counted.sent, end - start),
        counted,
    })
}

/// Says what a case gave; how far the reference varied.
fn report(args: &Args, streams: u32, rounds: &[Round]) -> Result<f64, Failure> {
    let of = |f: &dyn Fn(&Round) -> f64| rounds.iter().map(f).collect::<Vec<f64>>();
    let by_cache = [0, 1].map(|smc| of(&|r| r.ovs[smc].mpps));
    let smc = usize::from(median(&by_cache[1]) > median(&by_cache[0]));
    let theirs = &by_cache[smc];
    let mpps = median(&of(&|r| r.plane));
    let ratio = median(&of(&|r| r.plane / r.ovs[smc].mpps));
    let (install, ovs_install) = (
        median(&of(&|r| r.install_s)),
        median(&of(&|r| r.ovs_install_s)),
    );
    let install_ratio = median(&of(&|r| r.ovs_install_s / r.install_s));
    let share = |hits: fn(&Counted) -> u64| {
        median(&of(&|r| {
            let counted = &r.ovs[smc].counted;
            let all = counted.exact + counted.signature + counted.megaflow;
            hits(counted) as f64 / all as f64
        }))
    };
    let shares = [
        share(|c| c.exact),
        share(|c| c.signature),
        share(|c| c.megaflow),
    ];
    let [emc, smc_hits, mega] = shares;
    let version = rounds.first().map(|r| r.version.as_str());
    args.case(
        json!({
            "bench": "ovs", "streams": streams, "family": Family::Ipv4.name(), "size": SIZE,
            "mpps": round3(mpps), "reference": "openvswitch", "reference_mpps": round3(median(theirs)),
            "ratio": round3(ratio), "reference_spread": round3(spread(theirs)), "reference_version": version,
            "smc": smc == 1, "no_smc_mpps": round3(median(&by_cache[0])), "smc_mpps": round3(median(&by_cache[1])),
            "emc_share": round3(emc), "smc_share": round3(smc_hits), "megaflow_share": round3(mega),
            "install_s": micros(install), "reference_install_s": micros(ovs_install), "install_ratio": round3(install_ratio),
        }),
        &format!(
            "{streams:>9} {mpps:>9.2} {:>9.2} {ratio:>7.2} {:>7.0}% {:>10.2} {:>10.2} {:>17} {install:>10.4} {ovs_install:>10.4} {install_ratio:>7.1}",
            median(theirs),
            100.0 * spread(theirs),
            median(&by_cache[0]),
            median(&by_cache[1]),
            shares.map(|s| format!("{:.0}", 100.0 * s)).join("/"),
        ),
    )?;
    Ok(spread(theirs))
}

/// Seconds, to a microsecond.
fn micros(seconds: f64) -> f64 {
    (seconds * 1e6).round() / 1e6
}
