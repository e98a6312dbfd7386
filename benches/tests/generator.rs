//! The generator's process, over ports that give back what they are sent. Needs root, as every test of DPDK.

use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

const FLOWS: u32 = 50;

/// A setup whose packets have the addresses with which they shall arrive.
fn setup(dir: &Path, device: &str) -> std::path::PathBuf {
    let flow = |n: u32| {
        let (from, to) = if n.is_multiple_of(2) {
            (
                format!("10.0.0.{}:40000", n + 1),
                format!("198.18.0.1:{}", 2000 + n),
            )
        } else {
            (
                format!("[2001:2::1:{n:x}]:40000"),
                format!("[2001:2::1]:{}", 2000 + n),
            )
        };
        json!([from, to, from, to])
    };
    let setup = json!({
        "device": device, "core": 0, "mac": [2, 0, 0, 0, 0, 1], "peer_mac": [2, 0, 0, 0, 0, 1], "size": 214,
        "memory_mb": 256, "checked": true, "flows": (0..FLOWS).map(flow).collect::<Vec<_>>(),
    });
    let path = dir.join("setup.json");
    std::fs::write(&path, setup.to_string()).unwrap();
    path
}

fn start(setup: &Path) -> (Child, BufReader<std::process::ChildStdout>) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_penstock-bench"))
        .arg("generator")
        .arg(setup)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let stdout = BufReader::new(child.stdout.take().unwrap());
    (child, stdout)
}

fn answer(stdout: &mut impl BufRead) -> Value {
    let mut line = String::new();
    stdout.read_line(&mut line).unwrap();
    serde_json::from_str(&line).unwrap()
}

#[test]
fn everything_sent_into_a_loop_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let (mut child, mut stdout) = start(&setup(dir.path(), "net_ring0"));
    assert_eq!(answer(&mut stdout), json!({ "ready": true }));
    let mut stdin = child.stdin.take().unwrap();
    // More than 65,536 packets of a flow, so that sequence numbers go round.
    for (pps, least) in [
        (0.0_f64, 0),
        (10_000.0, 1_000),
        (1e300, 10_000),
        (10_000.0, 1_000),
    ] {
        writeln!(stdin, "{}", json!({ "pps": pps, "seconds": 0.4 })).unwrap();
        let trial = answer(&mut stdout);
        let count = |key: &str| trial[key].as_u64().unwrap();
        let offered = count("offered");
        assert!(offered >= least && offered as f64 <= pps * 0.5, "{trial}");
        assert_eq!(count("sent"), offered, "{trial}");
        assert_eq!(count("received"), offered, "{trial}");
        let bad = ["out_of_order", "repeated", "wrong"].map(count);
        assert_eq!(bad, [0, 0, 0], "{trial}");
        assert_eq!(trial["p999_us"].as_f64().unwrap() > 0.0, offered > 0);
    }
    drop(stdin);
    assert!(child.wait().unwrap().success());
}

#[test]
fn one_that_is_left_alone_ends_even_at_work() {
    let dir = tempfile::tempdir().unwrap();
    let (mut child, mut stdout) = start(&setup(dir.path(), "net_ring0"));
    answer(&mut stdout);
    let mut stdin = child.stdin.take().unwrap();
    writeln!(stdin, "{}", json!({ "pps": 1000.0, "seconds": 1e6 })).unwrap();
    drop(stdin);
    assert!(child.wait().unwrap().success());
}
