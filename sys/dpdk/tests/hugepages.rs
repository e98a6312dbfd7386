//! Huge pages, where some are free.

mod common;

use penstock_dpdk::{Burst, Eal, EalConfig, Hugepages, hugepages_free_mb};

#[test]
fn packets_on_huge_pages() {
    let free_mb = hugepages_free_mb(None);
    assert_eq!(
        hugepages_free_mb(Some(u32::MAX)),
        0,
        "there is no such node"
    );
    let config = EalConfig {
        hugepages: Hugepages::Yes,
        ..common::config()
    };
    if free_mb < config.memory_mb.into() {
        let text = Eal::init(&config).unwrap_err().to_string();
        println!(
            "SKIP: {} MiB of huge pages are not free ({text})",
            config.memory_mb
        );
        assert!(!text.contains("EINVAL"), "EAL did not take the arguments");
        return;
    }
    let eal = Eal::init(&config).unwrap();
    let pool = common::pool(&eal, "huge");
    let (_port, mut rx, _tx) = common::start(&eal, "net_null0", &pool);
    let mut burst = Burst::new();
    assert_eq!(rx.receive(&mut burst, 32), 32);
}
