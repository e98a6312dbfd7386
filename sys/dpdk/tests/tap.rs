//! A tap: the kernel's frames reach the port, the port's reach the kernel, and the interface
//! goes when the port does. In a network namespace of its own.

mod common;

use std::env;
use std::fs;
use std::net::UdpSocket;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use penstock_dpdk::{Burst, Eal, MbufPool, Port, PortConfig, RxQueue, TxBatch, block_rt_signals};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

const CHILD: &str = "PENSTOCK_DPDK_TEST_CHILD";
const FOLDER: &str = "/sys/class/net/pst0";

#[test]
fn frames_come_and_go() {
    if !Path::new("/dev/net/tun").exists() {
        println!("SKIP: there is no /dev/net/tun");
        return;
    }
    if env::var_os(CHILD).is_some() {
        return in_namespace();
    }
    // /sys shows the namespace that it was mounted in.
    let status = Command::new("unshare")
        .args([
            "--net",
            "--mount",
            "sh",
            "-c",
            "mount -t sysfs none /sys && exec \"$@\"",
            "sh",
        ])
        .arg(env::current_exe().unwrap())
        .args(["--exact", "frames_come_and_go", "--nocapture"])
        .env(CHILD, "1")
        .status()
        .unwrap();
    assert!(status.success());
}

fn in_namespace() {
    let eal = common::eal();
    block_rt_signals();
    let pool = common::pool(&eal, "tap");
    let (port, mut rx, mut tx) = common::start(&eal, "net_tap0,iface=pst0", &pool);
    assert_eq!(port.driver(), "net_tap");
    assert_ne!(port.mac(), [0; 6]);
    assert!(port.link_up().unwrap());

    // A datagram to a neighbour who is not there: the kernel asks for it.
    let status = Command::new("ip")
        .args(["addr", "add", "198.18.0.1/24", "dev", "pst0"])
        .status()
        .unwrap();
    assert!(status.success());
    let socket = UdpSocket::bind("198.18.0.1:0").unwrap();
    socket.send_to(b"hello", "198.18.0.2:9").unwrap();
    let is_arp = |frame: &[u8]| frame[..6] == [0xff; 6] && frame[12..14] == [0x08, 0x06];
    let deadline = Instant::now() + Duration::from_secs(10);
    let mut burst = Burst::new();
    loop {
        assert!(Instant::now() < deadline, "no ARP request");
        rx.receive(&mut burst, 32);
        if burst.iter().any(|mbuf| is_arp(mbuf.frame())) {
            break;
        }
        burst.clear();
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(port.stats().unwrap().ipackets >= 1);

    let mut batch = TxBatch::new();
    let mut mbuf = pool.alloc().unwrap();
    assert!(mbuf.set_data(&[0xff; 60]));
    batch.push(mbuf).unwrap();
    assert_eq!(tx.send(&mut batch).sent, 1);
    let stats = port.stats().unwrap();
    assert_eq!((stats.opackets, stats.obytes), (1, 60));
    let received = fs::read_to_string(format!("{FOLDER}/statistics/rx_packets")).unwrap();
    assert_eq!(received.trim(), "1");

    assert!(rx.interrupt().is_none(), "none was asked for");
    drop((port, rx, tx));
    assert!(
        !Path::new(FOLDER).exists(),
        "the interface outlived its port"
    );
    burst.clear();
    sleeps(&eal, &pool);
    drop(burst);
    assert_eq!(pool.in_use(), 0);
}

/// With interrupts, a packet makes the queue's descriptor readable until it is received.
fn sleeps(eal: &Eal, pool: &MbufPool) {
    let config = PortConfig {
        rx_interrupts: true,
        rx_desc: 256,
        ..PortConfig::default()
    };
    let port = Port::open(eal, "net_tap1,iface=pst1", &config, pool).unwrap();
    let (_port, mut rx, _tx) = port.start().unwrap();
    let rx = &mut rx[0];
    let mut burst = Burst::new();
    let is_readable = |rx: &RxQueue, ms: i64| {
        let fd = rx.interrupt().expect("net_tap has interrupts");
        let limit = Timespec {
            tv_sec: 0,
            tv_nsec: ms * 1_000_000,
        };
        poll(
            &mut [PollFd::from_borrowed_fd(fd, PollFlags::IN)],
            Some(&limit),
        )
        .unwrap()
            == 1
    };
    // The kernel tells its neighbours of a new interface; then it is still.
    let deadline = Instant::now() + Duration::from_secs(30);
    while is_readable(rx, 900) {
        assert!(Instant::now() < deadline, "it is never still");
        rx.receive(&mut burst, 32);
        burst.clear();
    }
    rx.arm();
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    let status = Command::new("ip")
        .args(["addr", "add", "198.18.1.1/24", "dev", "pst1"])
        .status()
        .unwrap();
    assert!(status.success());
    socket.send_to(b"hello", "198.18.1.2:9").unwrap();
    assert!(is_readable(rx, 900));
    rx.disarm();
    let deadline = Instant::now() + Duration::from_secs(10);
    while rx.receive(&mut burst, 32) == 0 {
        assert!(Instant::now() < deadline, "nothing came");
    }
}
