//! `report`: one page of the latest results.

use crate::output::{Case, kept};
use crate::plot::Plot;
use crate::{Args, Failure, Verdict};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::Command;

/// What columns come first; the others follow by name.
const FIRST: [&str; 18] = [
    "case",
    "port",
    "polling",
    "calls",
    "streams",
    "family",
    "size",
    "order",
    "mpps",
    "reference",
    "reference_mpps",
    "ratio",
    "reference_spread",
    "rounds",
    "inconclusive",
    "io_mpps",
    "cycles_above_io",
    "limited_by",
];

/// A bench's part of the page.
struct Section {
    bench: &'static str,
    title: &'static str,
    /// How it was measured and what is wanted.
    says: &'static str,
}

const SECTIONS: [Section; 12] = [
    Section {
        bench: "relay",
        title: "Replayed from memory, against testpmd",
        says: "Both relay the same capture, replayed by `net_pcap` from memory (`infinite_rx=1`), one packet of each stream, on the same core, in \
            alternating rounds. 5tswap swaps MAC addresses, IP addresses and ports and looks nothing up; io touches no packet. Penstock looks up the stream, holds source, payload type and \
            policing, meters, and rewrites. Each round it also relays the capture once to a file, where every packet is checked. \
            Wanted of 5tswap: 0.95 at 200 and 2,000 streams, 0.85 at 40,000, 0.6 at 400,000.",
    },
    Section {
        bench: "ovs",
        title: "Replayed from memory, against Open vSwitch",
        says: "Open vSwitch's DPDK datapath, one flow a stream that rewrites addresses and ports, the same capture and core; all flows warm, exact-match cache with insertion \
            probability 1, the signature cache on or off, whichever is faster. Installation: `ovs-ofctl` with all flows in one bundle, against pushes of ready streams into the region; \
            neither has signalling in it. Wanted: 3.5 times at 2,000 streams, 5 times at 40,000; a twentieth of its time to install 40,000.",
    },
    Section {
        bench: "memif",
        title: "Between processes, in order",
        says: "A generator on another core sends every stream in order, numbers and timestamps advancing, through `net_memif`, and receives what is relayed. The rates are found by binary search; \
            a trial that loses is repeated twice, since on a shared machine processes stand still at times. Latency is that of a trial without loss, at half the plane's rate; added is \
            what 5tswap does not take at the same rate over the same wire.",
    },
    Section {
        bench: "veth",
        title: "Over a veth pair, against rtpengine",
        says: "rtpengine relays in user space with one thread, pinned to the same core; calls are set up over ng by the same client. Loss-free is a rate of which, in one of three trials, \
            nothing is lost and 99.9 % come within 20 ms. The highest load is what the generator can send, which is less the more it receives: `offered_pps` and `reference_offered_pps` \
            say what each relay got. Wanted: twice rtpengine's loss-free rate, nine tenths of the own peak at the highest load.",
    },
    Section {
        bench: "veth-cpu",
        title: "Processor time of calls, against rtpengine",
        says: "Calls at their real rate, 50 packets a second each way; user and system time of a relay's processes, Penstock's control daemon included, and beside it \
            the busy time of the relay's core. What the kernel does to receive at the relay's port falls to the generator's core, for both. Wanted: a tenth of rtpengine's.",
    },
    Section {
        bench: "ng",
        title: "Signalling calls, against rtpengine",
        says: "Offer, answer and delete of calls that come and go while others stand (`calls`), over ng in bencode with the keys of Kamailio, 64 requests \
            under way, every reply checked. What answers has a core: rtpengine for all it does, Penstock's control. The plane's steward applies each \
            change on a CPU of its own, the client's (`plane_us` of processor time a cycle, its worker's polling included), or, in the second \
            row, on control's. Wanted: three times rtpengine's cycles. rtpengine needs four files a call; where the machine gives it fewer, fewer \
            calls stand there (`reference_calls`), which makes it faster, not slower.",
    },
    Section {
        bench: "ng-latency",
        title: "How long a request takes, at 1,000 calls a second",
        says: "Offers by the clock, whatever becomes of them; answer and delete follow each reply. An offer's time begins when it was due. \
            `client_late_us`: by how much the client itself was late, p99. Wanted: p99 of an offer below 1,000 us.",
    },
    Section {
        bench: "scale",
        title: "From 100 streams to 1,000,000",
        says: "As in the first section, above testpmd's io. A stream's memory is what the region takes more than one for 1,024 streams, by those more; its \
            installation runs from control's push to applied by the plane, once a case.",
    },
    Section {
        bench: "commands",
        title: "Installing streams",
        says: "From control's call to applied by the plane, four streams to a call.",
    },
    Section {
        bench: "checks",
        title: "What each kind of packet costs",
        says: "Cycles a worker spends on it, without driver and cache misses.",
    },
    Section {
        bench: "icount",
        title: "Instructions",
        says: "Of the packet path's pure functions, per packet, counted by callgrind.",
    },
    Section {
        bench: "idle",
        title: "At rest",
        says: "Processor time of a plane without traffic, and the time from phone to phone after a pause.",
    },
];

/// Writes `report.md` and its plots beside the results.
pub fn run(args: &Args) -> Result<Verdict, Failure> {
    let all = kept(&args.results)?;
    if all.is_empty() {
        return Err(Failure::Environment(format!(
            "there are no results in {} yet: run scripts/bench first",
            args.results.display()
        )));
    }
    let mut page = String::from("# What Penstock's benches measured\n\n");
    about(&mut page, args);
    for section in &SECTIONS {
        let cases: Vec<&Case> = all
            .iter()
            .filter(|case| case.get("bench").is_some_and(|b| b == section.bench))
            .collect();
        if !cases.is_empty() {
            let _ = write!(page, "\n## {}\n\n{}\n", section.title, section.says);
            plots(&mut page, section.bench, &cases, &args.results)?;
            table(&mut page, cases);
        }
    }
    let file = args.results.join("report.md");
    fs::write(&file, page)?;
    args.heading(&file.display().to_string());
    Ok(Verdict::Measured)
}

fn about(page: &mut String, args: &Args) {
    let cpu = field("/proc/cpuinfo", "model name");
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let memory = field("/proc/meminfo", "MemTotal");
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let dpdk = output("pkg-config", &["--modversion", "libdpdk"]);
    let rustc = output("rustc", &["--version"]);
    let plane = output(&args.plane.display().to_string(), &["--version"]);
    let _ = writeln!(
        page,
        "Machine: {cpu}, {cores} processors, {memory}, Linux {}. Versions: {plane}, DPDK {dpdk}, {rustc}; each case says which commit it \
         measured, and when (`at`, seconds of Unix time): the rest of this line is of the day the page was written. Rates and ratios are medians \
         of alternating rounds in one run on one core; absolute figures are this machine's. A case whose reference varied by more than 0.2 \
         (`reference_spread`), or with fewer than three rounds, is inconclusive and in no plot. In the order `in-turn` packets come as ports, index and memory follow each other, which a processor foresees; `mixed`, as live streams do, they follow nothing. \
         Benches without the word mix. `clocked` says whether streams have an RTP clock: where a replay would run ahead of it they have none, \
         which spares no instruction, but keeps each packet from being counted as late. testpmd and Open vSwitch are Debian's, linked \
         to DPDK's shared libraries; Penstock is linked to the same release statically, which alone is worth some 3 ns a packet.",
        kernel.trim(),
    );
}

/// The value of the first line that begins with `name`, which `:` ends.
fn field(file: &str, name: &str) -> String {
    let text = fs::read_to_string(file).unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with(name));
    line.and_then(|l| l.split_once(':'))
        .map_or_else(|| "unknown".into(), |(_, value)| value.trim().into())
}

fn output(program: &str, args: &[&str]) -> String {
    let run = Command::new(program).args(args).output();
    run.ok().filter(|out| out.status.success()).map_or_else(
        || "unknown".into(),
        |out| String::from_utf8_lossy(&out.stdout).trim().into(),
    )
}

fn table(page: &mut String, mut cases: Vec<&Case>) {
    let number = |case: &Case, key: &str| case.get(key).and_then(Value::as_f64).unwrap_or(0.0);
    let text = |case: &Case, key: &str| case.get(key).map(Value::to_string).unwrap_or_default();
    cases.sort_by(|a, b| {
        let words = |c: &Case| (text(c, "family"), text(c, "port"));
        words(a).cmp(&words(b)).then(
            ["size", "streams", "calls"]
                .map(|key| number(a, key))
                .partial_cmp(&["size", "streams", "calls"].map(|key| number(b, key)))
                .unwrap_or(std::cmp::Ordering::Equal),
        )
    });
    let flat: Vec<Vec<(String, String)>> = cases.iter().map(|case| cells(case)).collect();
    let names: BTreeSet<&str> = flat
        .iter()
        .flatten()
        .map(|(name, _)| name.as_str())
        .collect();
    let first = FIRST.iter().copied().filter(|name| names.contains(name));
    let others = names.iter().copied().filter(|name| !FIRST.contains(name));
    let columns: Vec<&str> = first.chain(others).collect();
    let _ = write!(
        page,
        "\n| {} |\n|{}\n",
        columns.join(" | "),
        " --- |".repeat(columns.len())
    );
    for row in &flat {
        let cell = |column: &&str| {
            let found = row.iter().find(|(name, _)| name == column);
            found.map_or("", |(_, value)| value.as_str())
        };
        let line: Vec<&str> = columns.iter().map(cell).collect();
        let _ = writeln!(page, "| {} |", line.join(" | "));
    }
}

/// What a table shows of a case: everything but its curves.
fn cells(case: &Case) -> Vec<(String, String)> {
    let mut cells = Vec::new();
    for (key, value) in case {
        match value {
            Value::Object(parts) => {
                cells.extend(
                    parts
                        .iter()
                        .map(|(part, value)| (format!("{key} {part}"), plain(value))),
                );
            }
            Value::Array(_) | Value::Null => {}
            _ if key == "bench" => {}
            _ => cells.push((key.clone(), plain(value))),
        }
    }
    cells
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Draws what a bench has curves of.
fn plots(page: &mut String, bench: &str, cases: &[&Case], dir: &Path) -> Result<(), Failure> {
    let usual: Vec<&Case> = cases
        .iter()
        .copied()
        .filter(|c| {
            c.get("inconclusive").is_none()
                && c.get("order").is_none_or(|o| o == "in-turn")
                && c.get("family").is_none_or(|f| f == "ipv4")
                && c.get("size").is_none_or(|s| *s == 214)
        })
        .collect();
    let by_streams = |key: &str| curve(&usual, "streams", key);
    let drawn: Vec<(&str, Plot)> = match bench {
        "relay" => vec![(
            "relay",
            Plot {
                title: "IPv4, 214-byte packets, one core",
                x: "streams",
                y: "Mpps",
                curves: vec![
                    ("testpmd io".into(), by_streams("io_mpps")),
                    ("testpmd 5tswap".into(), by_streams("reference_mpps")),
                    ("Penstock".into(), by_streams("mpps")),
                ],
            },
        )],
        "ovs" => vec![(
            "ovs",
            Plot {
                title: "IPv4, 214-byte packets, one core",
                x: "streams",
                y: "Mpps",
                curves: vec![
                    ("Open vSwitch".into(), by_streams("reference_mpps")),
                    ("Penstock".into(), by_streams("mpps")),
                ],
            },
        )],
        "veth" => vec![(
            "veth",
            Plot {
                title: "1,000 calls over a veth pair, one core",
                x: "packets offered a second",
                y: "packets relayed a second",
                curves: usual.iter().flat_map(|case| offered(case)).collect(),
            },
        )],
        "scale" => vec![
            (
                "scale-cycles",
                Plot {
                    title: "Cost of a packet",
                    x: "streams",
                    y: "cycles",
                    curves: vec![("Penstock".into(), by_streams("cycles"))],
                },
            ),
            (
                "scale-bytes",
                Plot {
                    title: "Memory of a stream",
                    x: "streams",
                    y: "bytes",
                    curves: vec![("Penstock".into(), by_streams("bytes_per_stream"))],
                },
            ),
            (
                "scale-install",
                Plot {
                    title: "Installing a stream",
                    x: "streams",
                    y: "microseconds",
                    curves: vec![("Penstock".into(), by_streams("install_us"))],
                },
            ),
        ],
        _ => Vec::new(),
    };
    for (name, plot) in drawn.iter().filter(|(_, plot)| plot.is_worth_it()) {
        plot.draw(&dir.join(format!("{name}.svg")))?;
        let _ = write!(
            page,
            "\n![{}, {} by {}]({name}.svg)\n",
            plot.title, plot.y, plot.x
        );
    }
    Ok(())
}

fn curve(cases: &[&Case], x: &str, y: &str) -> Vec<(f64, f64)> {
    let point = |case: &&Case| Some((case.get(x)?.as_f64()?, case.get(y)?.as_f64()?));
    let mut points: Vec<(f64, f64)> = cases.iter().filter_map(point).collect();
    points.sort_by(|a, b| a.0.total_cmp(&b.0));
    points
}

/// A case's curves of what was relayed of what was offered.
fn offered(case: &Case) -> Vec<(String, Vec<(f64, f64)>)> {
    let numbers = |key: &str| -> Vec<f64> {
        let list = case.get(key).and_then(Value::as_array);
        list.map_or_else(Vec::new, |l| l.iter().filter_map(Value::as_f64).collect())
    };
    let pairs =
        |offered: &str, relayed: &str| numbers(offered).into_iter().zip(numbers(relayed)).collect();
    let name = |key: &str| case.get(key).map(plain).unwrap_or_default();
    vec![
        (
            format!("Penstock, {}", name("port")),
            pairs("offered_pps", "relayed_pps"),
        ),
        (
            format!("rtpengine (beside {})", name("port")),
            pairs("reference_offered_pps", "reference_relayed_pps"),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_page_has_a_row_for_every_case_and_a_plot_of_their_curve() {
        let dir = tempfile::tempdir().unwrap();
        let flag = format!("--results={}", dir.path().display());
        let args = <Args as clap::Parser>::parse_from(["bench", &flag, "report"]);
        assert!(run(&args).is_err(), "there is nothing to report yet");
        for (streams, mpps) in [(2000, 33.25), (200, 34.5)] {
            let case = json!({
                "bench": "relay", "streams": streams, "family": "ipv4", "size": 214, "mpps": mpps,
                "reference_mpps": 41.0, "io_mpps": 60.0, "latency_us": { "median": 7 },
            });
            args.case(case, "").unwrap();
        }
        run(&args).unwrap();
        let page = fs::read_to_string(dir.path().join("report.md")).unwrap();
        let rows: Vec<&str> = page.lines().filter(|l| l.starts_with("| 2")).collect();
        assert!(
            rows[0].starts_with("| 200 | ipv4 | 214 | 34.5 | 41.0 | 60.0 |"),
            "{page}"
        );
        assert!(
            rows[1].starts_with("| 2000 | ipv4 | 214 | 33.25 |"),
            "{page}"
        );
        assert!(
            page.contains("latency_us median") && page.contains("](relay.svg)"),
            "{page}"
        );
        let plot = fs::read_to_string(dir.path().join("relay.svg")).unwrap();
        assert!(
            plot.contains("Penstock") && plot.contains("testpmd 5tswap"),
            "{plot}"
        );
    }
}
