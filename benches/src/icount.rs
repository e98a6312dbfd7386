//! `icount`: instructions per packet of the packet path's pure functions, counted by valgrind's callgrind. They do not
//! depend on what else the machine does, so a test can hold them.

use crate::checks::{Bench, Case, PLAIN, PLAIN6};
use crate::{Args, Failure, Verdict, round3};
use serde_json::{Map, Value, json};
use std::fs;
use std::path::Path;
use std::process::Command;

/// By how much a count may be above its baseline.
const TOLERANCE: f64 = 0.03;

/// What is counted: the packets, and the order in which a stream's sequence numbers come.
struct Count {
    name: &'static str,
    case: Case,
    order: fn(u32) -> u32,
}

const IN_ORDER: fn(u32) -> u32 = |turn| turn;
/// Every two packets have changed places.
const SWAPPED: fn(u32) -> u32 = |turn| turn ^ 1;

const COUNTS: [Count; 4] = [
    Count {
        name: "ipv4 in order",
        case: PLAIN,
        order: IN_ORDER,
    },
    Count {
        name: "ipv4 out of order",
        case: PLAIN,
        order: SWAPPED,
    },
    Count {
        name: "ipv6 in order",
        case: PLAIN6,
        order: IN_ORDER,
    },
    Count {
        name: "ipv6 out of order",
        case: PLAIN6,
        order: SWAPPED,
    },
];

/// Counts all, and compares them with the baseline of this rustc, or makes it.
pub fn run(args: &Args, baseline: &Path, update: bool) -> Result<Verdict, Failure> {
    let rustc = rustc()?;
    let mut all = read(baseline)?;
    let mut counted = Map::new();
    let mut grown = Vec::new();
    for count in &COUNTS {
        let (with, packets) = collected(count.name, true)?;
        let (without, _) = collected(count.name, false)?;
        let instructions = ((with - without) / packets * 10.0).round() / 10.0;
        let known = all
            .get(&rustc)
            .and_then(|known| known.get(count.name)?.as_f64());
        let grew = known.map_or("no baseline".to_owned(), |known| {
            format!("{:+.1} %", 100.0 * (instructions / known - 1.0))
        });
        args.case(
            json!({
                "bench": "icount", "case": count.name, "instructions": instructions, "reference": rustc,
                "reference_instructions": known, "ratio": known.map(|known| round3(instructions / known)),
            }),
            &format!("{instructions:8.1} instructions {grew:>12}  {}", count.name),
        )?;
        if known.is_some_and(|known| instructions > known * (1.0 + TOLERANCE)) {
            grown.push(count.name);
        }
        counted.insert(count.name.to_owned(), json!(instructions));
    }
    if update {
        all.insert(rustc, Value::Object(counted));
        let text = serde_json::to_string_pretty(&all).map_err(std::io::Error::other)?;
        fs::write(baseline, text + "\n")?;
        return Ok(Verdict::Measured);
    }
    if !grown.is_empty() {
        return Err(Failure::Grown(format!(
            "more than {:.0} % above the baseline: {}. If it has to be so, run scripts/bench icount --update and commit {} with the change",
            100.0 * TOLERANCE,
            grown.join(", "),
            baseline.display()
        )));
    }
    if !all.contains_key(&rustc) {
        eprintln!(
            "{} has nothing of {rustc}: scripts/bench icount --update",
            baseline.display()
        );
        return Ok(Verdict::Inconclusive);
    }
    Ok(Verdict::Measured)
}

fn read(baseline: &Path) -> Result<Map<String, Value>, Failure> {
    let text = fs::read_to_string(baseline)
        .map_err(|e| Failure::Environment(format!("{}: {e}", baseline.display())))?;
    serde_json::from_str(&text)
        .map_err(|e| Failure::Environment(format!("{}: {e}", baseline.display())))
}

/// The compiler's name and version.
fn rustc() -> Result<String, Failure> {
    let output = Command::new("rustc").arg("--version").output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let version = text.split_whitespace().nth(1);
    let version = version.ok_or_else(|| Failure::Environment("rustc says no version".into()))?;
    Ok(format!("rustc {version}"))
}

/// Instructions of this program while it relays the packets of a case, or all but that; and how many packets.
fn collected(name: &str, relay: bool) -> Result<(f64, f64), Failure> {
    let own = std::env::current_exe()?;
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(own)
        .args(["icount", "--under-callgrind", name])
        .args((!relay).then_some("--idle"))
        .output()
        .map_err(|e| Failure::Environment(format!("valgrind: {e} (scripts/install bench)")))?;
    let said = String::from_utf8_lossy(&output.stderr);
    let number = |after: &str, text: &str| -> Option<f64> {
        let rest = text.lines().find_map(|line| line.split_once(after))?.1;
        rest.trim().parse().ok()
    };
    let instructions = number("Collected : ", &said);
    let packets = number("packets: ", &String::from_utf8_lossy(&output.stdout));
    match instructions.zip(packets) {
        Some(found) if output.status.success() => Ok(found),
        _ => Err(Failure::Environment(format!("valgrind failed:\n{said}"))),
    }
}

/// What callgrind counts.
pub fn under_callgrind(name: &str, relay: bool) -> Result<Verdict, Failure> {
    let count = COUNTS.iter().find(|count| count.name == name);
    let count = count.ok_or_else(|| Failure::Environment(format!("no case {name}")))?;
    let mut bench = Bench::new(&count.case);
    let (packets, passed) = bench.relay_bursts(relay, count.order, &mut 1_000_000_000);
    if relay && passed < packets * 99 / 100 {
        return Err(Failure::Void(format!(
            "{name}: {passed} of {packets} passed"
        )));
    }
    println!("packets: {packets}");
    Ok(Verdict::Measured)
}
