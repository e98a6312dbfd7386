//! Every error says what it concerns, which call failed, and why.

mod common;

use penstock_dpdk::{Eal, Errno, Error, MbufPool, Port, PortConfig};

#[test]
fn texts() {
    refused_before_eal_starts();
    let eal = common::eal();
    let again = Eal::init(&common::config()).unwrap_err();
    assert_eq!(again, Error::AlreadyInitialised);
    let pool = common::pool(&eal, "errors");
    let text = |device: &str, config: &PortConfig| {
        Port::open(&eal, device, config, &pool)
            .unwrap_err()
            .to_string()
    };
    let default = PortConfig::default();

    assert_eq!(
        text("net_nosuch0", &default),
        "port net_nosuch0: no driver of DPDK knows such a device"
    );
    assert_eq!(
        text("net_pcap0,rx_pcap=/nonexistent/file", &default),
        "port net_pcap0: rte_dev_probe failed: no reason but what it wrote to stderr"
    );
    assert_eq!(
        text("net_null\0", &default),
        "port net_null\0: a name must not hold a NUL byte"
    );
    let many = PortConfig {
        rx_queues: 5000,
        ..default.clone()
    };
    let refused = text("net_null1", &many);
    assert!(
        refused.starts_with("port net_null1: 5000 receive queues asked for"),
        "{refused}"
    );
    let none = PortConfig {
        tx_queues: 0,
        ..default.clone()
    };
    let refused = text("net_null1", &none);
    assert!(
        refused.starts_with("port net_null1: 0 send queues asked for"),
        "{refused}"
    );
    let jumbo = PortConfig {
        mtu: 9000,
        ..default.clone()
    };
    assert_eq!(
        text("net_null1", &jumbo),
        "port net_null1: an MTU of 9000 needs packets of 9026 bytes, the pool's have 2048"
    );
    assert_eq!((jumbo.data_room(), default.data_room()), (9026, 2048));
    let deep = PortConfig {
        rx_desc: 960,
        ..default.clone()
    };
    assert_eq!(
        text("net_null1", &deep),
        "port net_null1: 1 queues of 960 packets need a pool of 1024 at least, it has 1023"
    );
    let default = PortConfig {
        rx_desc: 959,
        ..default
    };
    let multicast = PortConfig {
        mac: Some([1; 6]),
        ..default.clone()
    };
    assert_eq!(
        text("net_null1", &multicast),
        "port net_null1: rte_eth_dev_default_mac_addr_set failed: Invalid argument (EINVAL)"
    );

    // A failed port is closed: nothing stands in the way of a better configuration.
    let mac = [2, 0, 0, 0, 0, 1];
    let config = PortConfig {
        mac: Some(mac),
        promiscuous: true,
        ..default.clone()
    };
    let port = Port::open(&eal, "net_null1", &config, &pool).unwrap();
    assert_eq!(port.mac(), mac);
    assert_eq!(
        text("net_null1", &default),
        "port net_null1: it is open already"
    );
    assert!(port.start().is_ok());

    let twice = MbufPool::new(&eal, "errors", 63, 0, 2048, None).unwrap_err();
    assert_eq!(
        twice.to_string(),
        "pool errors: rte_pktmbuf_pool_create failed: File exists (EEXIST)"
    );
    let too_much = MbufPool::new(&eal, "large", 1 << 20, 0, 2048, None).unwrap_err();
    assert_eq!(
        too_much.to_string(),
        "pool large: rte_pktmbuf_pool_create failed: No buffer space available (ENOBUFS)"
    );
    let room = MbufPool::new(&eal, "room", 63, 0, u16::MAX, None).unwrap_err();
    assert_eq!(room.to_string(), "pool room: data_room is too large");
    let worker = eal.launch(1, || ()).unwrap_err();
    assert_eq!(
        worker.to_string(),
        "worker 1: EAL was started with 1 workers"
    );
    assert_eq!(
        Errno(1001).to_string(),
        "Invalid call in secondary process (1001)"
    );
}

/// None of them uses up the only start.
fn refused_before_eal_starts() {
    let mut config = common::config();
    config.worker_cpus = vec![1, 1];
    let text = Eal::init(&config).unwrap_err().to_string();
    assert_eq!(text, "EAL: two workers cannot share a CPU");
    config.worker_cpus = vec![9000];
    let text = Eal::init(&config).unwrap_err().to_string();
    assert_eq!(text, "EAL: there is no CPU 9000");
    config.worker_cpus = (0..128).collect();
    let text = Eal::init(&config).unwrap_err().to_string();
    assert_eq!(text, "EAL: at most 127 workers");
    config.main_cpus.clear();
    let text = Eal::init(&config).unwrap_err().to_string();
    assert_eq!(text, "EAL: the main thread needs a CPU to run on");
}
