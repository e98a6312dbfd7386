//! A panic on a worker ends the process: it never unwinds into C.

mod common;

use std::env;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;

const CHILD: &str = "PENSTOCK_DPDK_TEST_CHILD";
const SIGABRT: i32 = 6;

#[test]
fn aborts() {
    if env::var_os(CHILD).is_some() {
        let eal = common::eal();
        eal.launch(0, || panic!("on purpose")).unwrap().join();
        return;
    }
    let output = Command::new(env::current_exe().unwrap())
        .args(["--exact", "aborts", "--nocapture"])
        .env(CHILD, "1")
        .output()
        .unwrap();
    assert_eq!(output.status.signal(), Some(SIGABRT), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("on purpose"));
}
