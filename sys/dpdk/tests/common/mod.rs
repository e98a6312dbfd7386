//! What the tests share. EAL is initialised once in a process, so each file has one test
//! that does so. They need root, or the capabilities that EAL wants.

#![allow(dead_code, reason = "not every test needs everything")]

use penstock_dpdk::{Eal, EalConfig, Hugepages, MbufPool, Port, PortConfig, RxQueue};
use penstock_dpdk::{StartedPort, TxQueue};

pub fn config() -> EalConfig {
    // The main thread's own, where there is only one.
    let last_cpu = std::thread::available_parallelism().unwrap().get() - 1;
    EalConfig {
        main_cpus: vec![0],
        worker_cpus: vec![last_cpu],
        memory_mb: 64,
        node_memory_mb: vec![],
        hugepages: Hugepages::No,
        pci_allow: vec![],
    }
}

pub fn eal() -> Eal {
    Eal::init(&config()).unwrap()
}

pub fn pool(eal: &Eal, name: &str) -> MbufPool {
    MbufPool::new(eal, name, 1023, 32, 2048, None).unwrap()
}

pub fn start(eal: &Eal, device: &str, pool: &MbufPool) -> (StartedPort, RxQueue, TxQueue) {
    let config = PortConfig {
        rx_desc: 256,
        tx_desc: 256,
        ..PortConfig::default()
    };
    let port = Port::open(eal, device, &config, pool).unwrap();
    let (port, mut rx, mut tx) = port.start().unwrap();
    assert_eq!((rx.len(), tx.len()), (1, 1));
    (port, rx.remove(0), tx.remove(0))
}
