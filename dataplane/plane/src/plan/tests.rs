use super::*;
use std::path::Path;

/// Two nodes of two CPUs and 2 GiB of huge pages; one NIC at each.
fn machine() -> Machine {
    Machine {
        cpus: vec![0, 1, 2, 3],
        cpu_nodes: [(0, 0), (1, 0), (2, 1), (3, 1)].into(),
        huge_mb: [(0, 2048), (1, 2048)].into(),
        huge_free_mb: 4096,
        device_nodes: [("0000:3b:00.0".into(), 0), ("0000:af:00.0".into(), 1)].into(),
    }
}

fn config(plane: &str, devices: &[&str]) -> Config {
    let port = |(n, device): (usize, &&str)| {
        format!(
            "[[port]]\nname = \"p{n}\"\ndevice = \"{device}\"\n[[port.address]]\naddress = \"198.18.{n}.1/24\"\n"
        )
    };
    let ports: String = devices.iter().enumerate().map(port).collect();
    let text = format!(
        "[plane]\n{plane}\n{ports}[[control.interface]]\nname = \"default\"\naddress = \"198.18.0.1\"\nports = \"16384-32767\"\n"
    );
    Config::parse(&text, Path::new("test")).expect("a configuration")
}

const BOTH: [&str; 2] = ["0000:3b:00.0", "0000:af:00.0"];

#[test]
fn each_port_takes_packets_of_its_own_node() {
    let plan = Plan::new(
        &config("cores = [1, 2]\nmemory_mb = 2048", &BOTH),
        &machine(),
    );
    assert_eq!(plan.problems, Vec::<String>::new());
    let pools: Vec<_> = plan.pools.iter().map(|p| (p.node, p.memory_mb)).collect();
    assert_eq!(pools, [(Some(0), 1024), (Some(1), 1024)]);
    assert_eq!(
        plan.ports.iter().map(|p| p.pool).collect::<Vec<_>>(),
        [0, 1]
    );
    let config = config("cores = [1, 2]\nmemory_mb = 2048", &BOTH);
    assert_eq!(plan.eal(&config).node_memory_mb, [1024, 1024]);
    // Each worker polls both ports.
    assert_eq!(plan.warnings.len(), 2, "{:?}", plan.warnings);
    assert!(plan.warnings[0].contains("\"p0\" is at NUMA node 0, workers on CPUs [2]"));
    assert!(plan.warnings[1].contains("\"p1\" is at NUMA node 1, workers on CPUs [1]"));
}

#[test]
fn a_virtual_port_is_where_the_first_worker_is() {
    let text = config("cores = [3, 1]\nmemory_mb = 512", &["net_ring0"]);
    let plan = Plan::new(&text, &machine());
    assert_eq!(plan.pools.len(), 1);
    assert_eq!(plan.pools[0].node, Some(1));
    assert_eq!(plan.eal(&text).node_memory_mb, [0, 512]);
}

#[test]
fn a_node_without_huge_pages_is_no_place_for_a_pool() {
    let mut machine = machine();
    machine.huge_mb.insert(1, 100);
    let plan = Plan::new(&config("cores = [1]\nhugepages = \"yes\"", &BOTH), &machine);
    assert!(
        plan.problems[0].contains("256 wanted at each"),
        "{:?}",
        plan.problems
    );
    let plan = Plan::new(&config("cores = [1]", &BOTH), &machine);
    assert_eq!(plan.hugepages, Hugepages::No);
    assert_eq!(plan.pools.len(), 1);
    assert_eq!(plan.pools[0].node, None);
    assert!(plan.warnings.iter().any(|w| w.contains("PCI device")));
}

#[test]
fn descriptors_of_all_ports_are_summed() {
    let one = Machine {
        huge_mb: [(0, 0)].into(),
        huge_free_mb: 0,
        ..machine()
    };
    let plane = "cores = [0, 1]\nmemory_mb = 80\nhugepages = \"no\"";
    let large = |devices: &[&str]| {
        let mut config = config(plane, devices);
        config
            .ports
            .iter_mut()
            .for_each(|port| port.descriptors = 2048);
        config
    };
    // Two queues each way.
    let plan = Plan::new(&large(&["net_ring0"]), &one);
    assert_eq!(plan.problems, Vec::<String>::new());
    assert_eq!(plan.pools[0].needed, 4 * 2048 + 2 * (768 + 64));
    let config = large(&["net_ring0", "net_ring1"]);
    let plan = Plan::new(&config, &one);
    assert_eq!(plan.problems.len(), 1, "{:?}", plan.problems);
    let text = &plan.problems[0];
    assert!(
        text.contains("2 of 2048 at \"p0\", 2 of 2048 at \"p1\""),
        "{text}"
    );
    // What it says is enough.
    let memory = text
        .split("set it to ")
        .nth(1)
        .and_then(|t| t.split(' ').next());
    let mut config = config;
    config.plane.memory_mb = memory.and_then(|m| m.parse().ok()).expect("a number");
    assert_eq!(Plan::new(&config, &one).problems, Vec::<String>::new());
    config.plane.memory_mb -= 1;
    assert_eq!(Plan::new(&config, &one).problems.len(), 1);
}

#[test]
fn cpus_that_are_not_ours() {
    let plan = Plan::new(&config("cores = [0, 7]", &["net_ring0"]), &machine());
    assert!(plan.problems[0].contains("CPU 7"), "{:?}", plan.problems);
    assert_eq!(plan.others, [1, 2, 3]);
}
