//! `--dry-run` says what the plane would use and what is missing, keeps its word, and touches nothing.

use penstock_e2e::{Lab, PLANE, Setup, binary, lab};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Exit code, JSON and text, as one who runs it by `prefix`.
fn dry_run(lab: &Lab, prefix: &[&str]) -> (Option<i32>, Value, String) {
    let program = binary("penstock-dataplane");
    let config = lab.config().to_string_lossy();
    let run = |more: &[&str]| {
        let plain = [
            &*program.to_string_lossy(),
            "--config",
            &config,
            "--dry-run",
        ];
        let all: Vec<&str> = [prefix, &plain, more].concat();
        lab.run(all[0], &all[1..])
    };
    let (code, out, err) = run(&["--json"]);
    let json = serde_json::from_str(&out).unwrap_or_else(|e| panic!("{e}: {out}{err}"));
    let (text_code, text, _) = run(&[]);
    assert_eq!(code, text_code);
    (code, json, text)
}

#[test]
fn it_says_what_then_is_used() {
    let lab = lab!("dry_run");
    let (code, json, text) = dry_run(&lab, &[]);
    assert_eq!(
        (code, &json["would_start"]),
        (Some(0), &Value::Bool(true)),
        "{text}"
    );
    assert_eq!(json["missing"], serde_json::json!([]));
    assert!(text.contains("It would start."), "{text}");
    assert!(!lab.region().exists(), "it made a region");
    let (links, ..) = lab.run("ip", &["link", "show", "ps0"]);
    assert_ne!(links, Some(0), "it made a tap");

    let plane = lab.plane();
    let packets = json["uses"]["memory"]["pools"][0]["packets"]
        .as_u64()
        .expect("packets");
    assert!(
        plane.log().contains(&format!("packets={packets}")),
        "{packets}: {}",
        plane.log()
    );
    let length = |name| fs::metadata(lab.region().join(name)).expect("a file").len();
    let pages = |what: &str| {
        json["uses"]["region"][what]
            .as_u64()
            .map(|bytes| bytes.next_multiple_of(4096))
    };
    assert_eq!(pages("table_bytes"), Some(length("table")));
    assert_eq!(pages("rings_bytes"), Some(length("rings")));
    assert_eq!(pages("copies_bytes"), Some(length("copies")));

    // And while that one runs there cannot be another.
    let before = fs::read(lab.region().join("plane.lock")).expect("the lock");
    let (code, json, text) = dry_run(&lab, &[]);
    assert_eq!(
        (code, &json["would_start"]),
        (Some(1), &Value::Bool(false)),
        "{text}"
    );
    assert!(text.contains("another penstock-dataplane"), "{text}");
    assert!(text.contains(&format!("pid {}", plane.pid())), "{text}");
    assert_eq!(
        fs::read(lab.region().join("plane.lock")).expect("the lock"),
        before
    );
}

/// What it says is missing, and that the plane indeed does not start.
fn lacks(lab: &Lab, prefix: &[&str], words: &[&str]) {
    let (code, json, text) = dry_run(lab, prefix);
    assert_eq!(
        (code, &json["would_start"]),
        (Some(1), &Value::Bool(false)),
        "{words:?}: {text}"
    );
    let (_, missing) = text.split_once("Missing:").expect("a list");
    for word in words {
        assert!(missing.contains(word), "no \"{word}\" in\n{text}");
    }
    let program = binary("penstock-dataplane");
    let config = lab.config().to_string_lossy();
    let limited = ["timeout", "20"];
    let plain = [&*program.to_string_lossy(), "--config", &config];
    let all: Vec<&str> = [&limited, prefix, &plain].concat();
    let (code, out, err) = lab.run(all[0], &all[1..]);
    assert_eq!(code, Some(1), "{words:?}: {out}{err}");
}

fn port(device: &str) -> Setup {
    let port = format!("device = \"{device}\"\n[[port.address]]\naddress = \"{PLANE}/16\"\n");
    Setup {
        port,
        ..Setup::default()
    }
}

#[test]
fn it_says_what_is_missing() {
    let lab = lab!("dry_run_missing");
    for (device, word) in [
        ("0000:ff:1f.7", "no PCI device 0000:ff:1f.7"),
        ("net_nonsense0", "no driver for net_nonsense0"),
        ("net_af_packet0,iface=none", "no interface none"),
        ("net_pcap0,rx_pcap=/none", "/none cannot be read"),
    ] {
        lab.configure(&port(device));
        lacks(&lab, &[], &["port \"media\"", word]);
    }
    lab.configure(&Setup {
        cores: "[1, 900]",
        ..port("net_null0")
    });
    lacks(&lab, &[], &["CPU 900"]);

    lab.configure(&port("net_null0"));
    lab.edit("memory_mb = 256", "memory_mb = 64");
    lab.edit(
        "device = \"net_null0\"\n",
        "device = \"net_null0\"\ndescriptors = 32768\n",
    );
    lacks(
        &lab,
        &[],
        &["memory_mb = 64 has room for", "1 of 32768 at \"media\""],
    );

    // A table that its file system cannot hold.
    let small = lab.dir().join("small");
    fs::create_dir(&small).expect("a folder");
    let (small, region) = (small.to_string_lossy(), lab.region().to_string_lossy());
    let mount = format!("mount -t tmpfs -o size=4m none {small} && exec \"$@\"");
    lab.configure(&port("net_null0"));
    lab.edit(&region, &small);
    lacks(
        &lab,
        &["sh", "-c", &mount, "sh"],
        &["cannot reserve", "/small/table"],
    );
    assert!(fs::read_dir(&*small).expect("the folder").next().is_none());
}

#[test]
fn it_says_which_capability_is_missing() {
    let lab = lab!("dry_run_nobody");
    if !Path::new("/usr/bin/setpriv").exists() {
        return penstock_e2e::skip("dry_run", "no setpriv");
    }
    fs::set_permissions(lab.dir(), fs::Permissions::from_mode(0o755)).expect("others may read");
    let nobody = [
        "setpriv",
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
    ];
    lacks(&lab, &nobody, &["net_tap0 takes CAP_NET_ADMIN"]);
    let admin = [
        &nobody[..],
        &["--inh-caps=+net_admin", "--ambient-caps=+net_admin"],
    ]
    .concat();
    let (code, _, text) = dry_run(&lab, &admin);
    assert_eq!(code, Some(0), "{text}");
}
