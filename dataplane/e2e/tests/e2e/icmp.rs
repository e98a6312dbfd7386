//! ICMP: echo within its limit, and port-unreachable where the operator wants it.

use penstock_e2e::region::Totals;
use penstock_e2e::{Lab, PHONES, PLANE, Setup, lab};
use penstock_shm::counters::Drop;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

const OURS_V6: &str = "fd00:198::1";
const THEIRS_V6: &str = "fd00:198::ff";

fn setup() -> Setup {
    let mut setup = Setup::default();
    setup.port += &format!("[[port.address]]\naddress = \"{OURS_V6}/64\"\n");
    setup
}

/// Destination-unreachable messages that the lab's kernel has heard.
fn heard(lab: &Lab) -> u64 {
    let (_, text, _) = lab.run("cat", &["/proc/net/snmp"]);
    let mut lines = text.lines().filter(|line| line.starts_with("Icmp:"));
    let (names, values) = (lines.next().expect("names"), lines.next().expect("values"));
    let at = names.split(' ').position(|name| name == "InDestUnreachs");
    values
        .split(' ')
        .nth(at.expect("the counter"))
        .expect("a value")
        .parse()
        .expect("a number")
}

/// A socket that sends to a port of the plane's that nobody has.
fn socket(lab: &Lab, from: &str, to: &str) -> UdpSocket {
    let address = |ip: &str, port| SocketAddr::new(ip.parse::<IpAddr>().expect("an address"), port);
    let socket = lab.socket(address(from, 0));
    socket
        .connect(address(to, 9))
        .expect("an address to send to");
    socket
        .set_read_timeout(Some(Duration::from_millis(500)))
        .expect("a timeout");
    socket
}

#[test]
fn echoes_are_answered_up_to_a_limit() {
    let lab = lab!("echo", setup());
    lab.edit("[plane]\n", "[plane]\nicmp_per_s = 10\n");
    let _plane = lab.plane();
    lab.ip(&format!("addr add {THEIRS_V6}/64 dev ps0 nodad"));
    for ours in [PLANE, OURS_V6] {
        let start = Instant::now();
        let args = ["-q", "-c", "150", "-i", "0.002", "-W", "1", ours];
        let (_, out, err) = lab.run("ping", &args);
        let most = 10 * (start.elapsed().as_secs() + 2);
        let words: Vec<&str> = out.split_whitespace().collect();
        let at = words.iter().position(|word| word.starts_with("received"));
        let count: u64 = at
            .and_then(|at| words[at - 1].parse().ok())
            .unwrap_or_else(|| panic!("{out}{err}"));
        eprintln!("echo: {count} of 150 answered by {ours}, {most} at most");
        assert!((10..=most).contains(&count) && count < 110, "{out}");
        std::thread::sleep(Duration::from_millis(1100));
    }
    let totals = lab.balanced();
    assert!(totals.consumed >= 2 * 150, "{totals:?}");
}

#[test]
fn nobody_at_a_port_is_said_on_request_alone() {
    let lab = lab!("unreachable", setup());
    let plane = lab.plane();
    lab.ip(&format!("addr add {THEIRS_V6}/64 dev ps0 nodad"));
    for (theirs, ours) in [(PHONES, PLANE), (THEIRS_V6, OURS_V6)] {
        let silent = socket(&lab, theirs, ours);
        silent.send(b"anyone?").expect("a packet");
        let error = silent.recv(&mut [0; 9]).expect_err("nobody answers");
        assert_eq!(error.kind(), ErrorKind::WouldBlock, "{ours}: {error}");
    }
    assert_eq!(lab.balanced().dropped(Drop::NoStream), 2);
    drop(plane);

    lab.edit("[plane]\n", "[plane]\nport_unreachable = true\n");
    let _plane = lab.plane();
    for (theirs, ours) in [(PHONES, PLANE), (THEIRS_V6, OURS_V6)] {
        let told = socket(&lab, theirs, ours);
        told.send(b"anyone?").expect("a packet");
        let error = told.recv(&mut [0; 9]).expect_err("nobody answers");
        assert_eq!(
            error.kind(),
            ErrorKind::ConnectionRefused,
            "{ours}: {error}"
        );
    }
    // A flood is dropped under its name, one by one, and answered within the limit.
    let unknown = |totals: &Totals| totals.dropped(Drop::NoStream) + totals.dropped(Drop::Flood);
    let (before, told) = (unknown(&lab.balanced()), heard(&lab));
    let flood = socket(&lab, PHONES, PLANE);
    let mut sent = 0;
    while sent < 2000 {
        // The kernel gives an error of the past instead of sending.
        sent += u64::from(flood.send(b"anyone?").is_ok());
        if sent % 50 == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    let totals = lab.balanced();
    assert_eq!(unknown(&totals) - before, 2000, "{totals:?}");
    assert!(totals.dropped(Drop::Flood) > 0, "{totals:?}");
    let told = heard(&lab) - told;
    eprintln!("port-unreachable: {told} of 2000 answered");
    assert!((1..500).contains(&told), "{told} answers");
    // Meanwhile ARP has a queue of its own.
    lab.ip("neigh flush dev ps0");
    let (code, out, err) = lab.run("ping", &["-c", "1", "-W", "5", PLANE]);
    assert_eq!(code, Some(0), "{out}{err}");
}
