//! A worker runs pinned, with real-time signals blocked, and can be launched again.

mod common;

use std::fs;
use std::sync::mpsc;

use penstock_dpdk::{Eal, block_rt_signals, pause, tsc, tsc_hz};

/// A line of this thread's status, without its label.
fn status(label: &str) -> String {
    let status = fs::read_to_string("/proc/thread-self/status").unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(label))
        .unwrap();
    line.trim_start_matches(':').trim().to_owned()
}

/// SIGRTMIN to SIGRTMAX, 34 to 64.
fn rt_signals_blocked() -> bool {
    let blocked = u64::from_str_radix(&status("SigBlk"), 16).unwrap();
    let rt = !0 << 33;
    blocked & rt == rt
}

#[test]
fn workers() {
    assert_eq!(tsc_hz(), 0);
    let config = common::config();
    let eal = Eal::init(&config).unwrap();
    assert!(!rt_signals_blocked());
    block_rt_signals();
    assert!(rt_signals_blocked());
    let inherited = std::thread::spawn(rt_signals_blocked);
    assert!(inherited.join().unwrap());

    let (go, wait) = mpsc::channel::<()>();
    let worker = eal
        .launch(0, move || {
            wait.recv().unwrap();
            (status("Cpus_allowed_list"), rt_signals_blocked())
        })
        .unwrap();
    assert!(!worker.is_finished());
    let busy = eal.launch(0, || ()).unwrap_err();
    assert_eq!(
        busy.to_string(),
        "worker 0: rte_eal_remote_launch failed: Device or resource busy (EBUSY)"
    );
    go.send(()).unwrap();
    let (cpus, blocked) = worker.join();
    assert_eq!(cpus, config.worker_cpus[0].to_string());
    assert!(blocked);

    // At once after the join, and with a clock that runs.
    for round in 0..100 {
        let worker = eal
            .launch(0, move || {
                let start = tsc();
                while tsc() == start {
                    pause();
                }
                round
            })
            .unwrap();
        assert_eq!(worker.join(), round);
    }
    assert!(tsc_hz() > 100_000_000);
}
