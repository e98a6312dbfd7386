//! Both daemons as users of their own, as `scripts/systemd` has them: the plane with what its port takes, control
//! with nothing.

use penstock_e2e::{Lab, PLANE, Phone, Setup, converse, lab, phone_at, wait_for};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

const PLANE_USER: u32 = 64_001;
const CONTROL_USER: u32 = 64_002;
const GROUP: u32 = 64_000;

/// A command that runs what follows as that user, with these capabilities and no way to others.
fn as_user(uid: u32, caps: &[&str]) -> Vec<String> {
    let list: String = caps.iter().map(|cap| format!(",+{cap}")).collect();
    let mut command = vec!["setpriv".to_owned(), "--no-new-privs".to_owned()];
    command.push(format!("--reuid={uid}"));
    command.push(format!("--regid={GROUP}"));
    command.push("--clear-groups".to_owned());
    command.push(format!("--bounding-set=-all{list}"));
    command.push(format!("--inh-caps=-all{list}"));
    command.push(format!("--ambient-caps=-all{list}"));
    command
}

fn relays_a_call(name: &str, lab: &Lab, caps: &[&str]) {
    if !Path::new("/usr/bin/setpriv").exists() {
        return penstock_e2e::skip(name, "no setpriv");
    }
    let anybody = fs::Permissions::from_mode(0o777);
    fs::set_permissions(lab.dir(), anybody).expect("others may write");
    // DPDK's own folder, which systemd would make.
    let run = lab.dir().join("run");
    fs::create_dir(&run).expect("a folder");
    std::os::unix::fs::chown(&run, Some(PLANE_USER), Some(GROUP)).expect("an owner");
    let run = run.to_string_lossy().into_owned();

    let prefix = as_user(PLANE_USER, caps);
    let prefix: Vec<&str> = prefix.iter().map(String::as_str).collect();
    let mut plane = lab.start_by(
        &prefix,
        "penstock-dataplane",
        &[("RUNTIME_DIRECTORY", &run)],
    );
    lab.plane_ready(&plane);
    holds(&plane, PLANE_USER, caps);
    let prefix = as_user(CONTROL_USER, &[]);
    let prefix: Vec<&str> = prefix.iter().map(String::as_str).collect();
    let mut control = lab.start_by(&prefix, "penstock-control", &[]);
    assert!(control.ready(Duration::from_secs(30)), "{}", control.log());
    holds(&control, CONTROL_USER, &[]);
    let region = fs::metadata(lab.region()).expect("the region");
    assert_eq!(
        (region.uid(), region.gid(), region.mode() & 0o777),
        (PLANE_USER, GROUP, 0o750)
    );

    let mut caller = Phone::new(lab, phone_at(4000), 0xa);
    let mut callee = Phone::new(lab, phone_at(5000), 0xb);
    let sides = lab.ng().call("modest", caller.at(), callee.at());
    converse(&mut caller, sides.caller, &mut callee, sides.callee, 50);
    caller.heard_all(0xb, 1, 50);
    callee.heard_all(0xa, 1, 50);
    control.stop_well();
    plane.stop_well();
}

/// The daemon is that user and has just these capabilities.
fn holds(daemon: &penstock_e2e::Daemon, uid: u32, caps: &[&str]) {
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.pid())).expect("its status");
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|rest| rest.split_whitespace().next())
            .expect("a field")
            .to_owned()
    };
    let bit = |cap: &&str| match *cap {
        "net_admin" => 1u64 << 12,
        "net_raw" => 1 << 13,
        other => panic!("{other}"),
    };
    let wanted = caps.iter().map(bit).sum::<u64>();
    assert_eq!(field("Uid:"), uid.to_string());
    for set in ["CapEff:", "CapPrm:", "CapBnd:"] {
        assert_eq!(u64::from_str_radix(&field(set), 16), Ok(wanted), "{set}");
    }
}

#[test]
fn on_a_tap() {
    let lab = lab!("non_root_tap");
    relays_a_call("non_root", &lab, &["net_admin"]);
}

#[test]
fn on_af_packet() {
    let port = format!(
        "device = \"net_af_packet0,iface=ps1\"\nmac = \"02:70:73:00:00:01\"\nqueues = 1\n[[port.address]]\naddress = \"{PLANE}/16\"\n"
    );
    let lab = lab!(
        "non_root_af_packet",
        Setup {
            port,
            ..Setup::default()
        }
    );
    for args in [
        "link add ps0 type veth peer name ps1",
        "link set ps1 up",
        "link set ps0 up",
    ] {
        let args: Vec<&str> = args.split(' ').collect();
        let (code, _, err) = lab.run("ip", &args);
        assert_eq!(code, Some(0), "{args:?}: {err}");
    }
    // DPDK would see checksums that the kernel leaves to a NIC.
    let (code, _, err) = lab.run("ethtool", &["-K", "ps0", "tx", "off"]);
    assert_eq!(code, Some(0), "{err}");
    let up = wait_for(Duration::from_secs(10), || {
        lab.run("ip", &["link", "show", "ps1"])
            .1
            .contains("state UP")
    });
    assert!(up);
    relays_a_call("non_root", &lab, &["net_admin", "net_raw"]);
}

/// systemd knows every word of the units.
#[test]
fn the_units_are_sound() {
    if !Path::new("/usr/bin/systemd-analyze").exists() {
        return penstock_e2e::skip("non_root", "no systemd-analyze");
    }
    let units = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/systemd");
    let dir = tempfile::tempdir().expect("a folder");
    for name in ["penstock-dataplane.service", "penstock-control.service"] {
        let text = fs::read_to_string(units.join(name)).expect("the unit");
        // The programs need not be installed.
        let text = text.replace("ExecStart=/usr/bin/penstock-", "ExecStart=/bin/true ");
        let path = dir.path().join(name);
        fs::write(&path, text).expect("a copy");
        let out = std::process::Command::new("systemd-analyze")
            .arg("verify")
            .arg(&path)
            .output();
        let out = out.expect("systemd-analyze");
        let said = String::from_utf8_lossy(&out.stderr);
        let of_ours: Vec<_> = said
            .lines()
            .filter(|line| line.contains("penstock-"))
            .collect();
        assert!(out.status.success() && of_ours.is_empty(), "{said}");
    }
}
