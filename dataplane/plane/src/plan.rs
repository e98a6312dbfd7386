//! What the plane will use of its machine: decided before DPDK is asked for anything, for the start and for
//! `--dry-run` alike.
//!
//! Packets live in one pool for each NUMA node that has a port, so that a NIC writes to memory of its own node.
//! A virtual port is where the first worker is. With ordinary memory, or on a machine with one node,
//! there is one pool.

use penstock_config::{Config, HugepageUse, Polling, Port};
use penstock_dpdk::{EalConfig, Hugepages, PortConfig};
use std::collections::BTreeMap;

/// Packets each worker may keep to itself: the most DPDK allows.
pub const CACHE: u32 = 512;
/// The steward's packets on their way: half of them questions, half answers. [`Plan::steward_packets`] adds what drivers keep.
const STEWARD_PACKETS: u32 = 2 * STEWARD_QUEUE;
/// Packets that wait for worker 0 in each of the steward's queues.
pub const STEWARD_QUEUE: u32 = 1024;
/// Bytes of an mbuf beside its data: its own two lines, headroom, and the pool's header.
const MBUF_OVERHEAD: u64 = 128 + 128 + 64;
const PAGE: u64 = 4096;

/// What the machine offers.
#[derive(Clone, Debug, Default)]
pub struct Machine {
    /// CPUs that this process may use.
    pub cpus: Vec<usize>,
    /// NUMA node of each CPU.
    pub cpu_nodes: BTreeMap<usize, u32>,
    /// MiB of free huge pages by NUMA node.
    pub huge_mb: BTreeMap<u32, u64>,
    /// MiB of free huge pages in all, without those that others have reserved.
    pub huge_free_mb: u64,
    /// NUMA node of each PCI device of the configuration, as far as the system knows.
    pub device_nodes: BTreeMap<String, u32>,
}

/// What the plane uses.
#[derive(Clone, Debug)]
pub struct Plan {
    /// CPUs of the workers.
    pub workers: Vec<usize>,
    /// CPUs of the steward.
    pub others: Vec<usize>,
    /// Whether packets live on huge pages.
    pub hugepages: Hugepages,
    /// The packet pools.
    pub pools: Vec<PoolPlan>,
    /// The steward's packets. A driver may keep what it has sent until others follow: where there is no media, a whole queue.
    pub steward_packets: u32,
    /// The ports, in the order of the configuration.
    pub ports: Vec<PortPlan>,
    /// Bytes of packet that a buffer holds.
    pub data_room: u16,
    /// What keeps it from starting, one sentence each.
    pub problems: Vec<String>,
    /// What an operator should know, one sentence each.
    pub warnings: Vec<String>,
}

/// A packet pool.
#[derive(Clone, Debug)]
pub struct PoolPlan {
    /// Its NUMA node; none for any.
    pub node: Option<u32>,
    /// Its memory, MiB.
    pub memory_mb: u32,
    /// Packets in it.
    pub packets: u32,
    /// Packets that queues and workers can hold at once.
    pub needed: u32,
}

/// A port.
#[derive(Clone, Debug)]
pub struct PortPlan {
    /// Receive queues, and as many send queues.
    pub queues: u16,
    /// Index of its pool.
    pub pool: usize,
    /// Its NUMA node, if it has one.
    pub node: Option<u32>,
}

impl Machine {
    /// This machine, with what the configuration names.
    pub fn read(config: &Config) -> Machine {
        let cpus = crate::cpus();
        let node_dirs = std::fs::read_dir("/sys/devices/system/node");
        let number = |name: &str| name.strip_prefix("node")?.parse::<u32>().ok();
        let nodes: Vec<u32> = node_dirs
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| number(entry.file_name().to_str()?))
            .collect();
        let node_of = |cpu: usize| {
            let is_in = |node: &u32| {
                let path = format!("/sys/devices/system/node/node{node}/cpu{cpu}");
                std::path::Path::new(&path).exists()
            };
            nodes.iter().copied().find(is_in)
        };
        let device_node = |device: &str| {
            let path = format!("/sys/bus/pci/devices/{device}/numa_node");
            // -1 where the system does not know.
            std::fs::read_to_string(path).ok()?.trim().parse().ok()
        };
        let devices = config.ports.iter().map(|port| port.device.name());
        Machine {
            cpu_nodes: (cpus.iter().chain(&config.plane.cores))
                .filter_map(|&cpu| Some((cpu, node_of(cpu)?)))
                .collect(),
            huge_mb: (nodes.iter())
                .map(|&node| (node, penstock_dpdk::hugepages_free_mb(Some(node))))
                .collect(),
            huge_free_mb: penstock_dpdk::hugepages_free_mb(None),
            device_nodes: devices
                .filter_map(|device| Some((device.to_owned(), device_node(device)?)))
                .collect(),
            cpus,
        }
    }
}

impl Plan {
    /// What the configuration comes to on this machine.
    pub fn new(config: &Config, machine: &Machine) -> Plan {
        let plane = &config.plane;
        let mut plan = Plan {
            workers: plane.cores.clone(),
            others: machine.cpus.clone(),
            hugepages: Hugepages::No,
            pools: Vec::new(),
            steward_packets: 0,
            ports: Vec::new(),
            data_room: data_room(config),
            problems: Vec::new(),
            warnings: Vec::new(),
        };
        plan.find_cpus(machine);
        plan.find_memory(config, machine);
        plan.find_ports(config, machine);
        plan.count_packets(config);
        plan
    }

    fn find_cpus(&mut self, machine: &Machine) {
        let allowed = &machine.cpus;
        for core in self.workers.iter().filter(|core| !allowed.contains(core)) {
            self.problems.push(format!(
                "[plane] cores names CPU {core}, which this process may not use; it may use {allowed:?}"
            ));
        }
        let workers = &self.workers;
        self.others.retain(|cpu| !workers.contains(cpu));
        if self.others.is_empty() {
            self.others = allowed.clone();
            self.warnings.push(
                "every CPU belongs to a worker: steward and control will take time from them"
                    .into(),
            );
        }
    }

    /// The node of every port, whether all of it is on huge pages, and a pool for each node.
    fn find_memory(&mut self, config: &Config, machine: &Machine) {
        let plane = &config.plane;
        let nodes: Vec<Option<u32>> = {
            let ports = config.ports.iter().map(|port| home(port, config, machine));
            let mut nodes: Vec<_> = ports.collect();
            nodes.sort();
            nodes.dedup();
            nodes
        };
        let is_split = machine.huge_mb.len() > 1 && nodes.iter().all(Option::is_some);
        let share = plane.memory_mb / nodes.len().max(1) as u32;
        let is_free = |node: &Option<u32>| {
            let free = node.and_then(|node| machine.huge_mb.get(&node));
            free.is_some_and(|&free| free >= share.into())
        };
        let are_free = machine.huge_free_mb >= plane.memory_mb.into()
            && (!is_split || nodes.iter().all(is_free));
        let wanted = format!(
            "{} MiB of huge pages are wanted, {} are free{}",
            plane.memory_mb,
            machine.huge_free_mb,
            if is_split {
                format!(
                    " (by NUMA node: {:?}, {share} wanted at each of a port)",
                    machine.huge_mb
                )
            } else {
                String::new()
            }
        );
        match plane.hugepages {
            HugepageUse::No => {}
            _ if are_free => self.hugepages = Hugepages::Yes,
            HugepageUse::Yes => self.problems.push(format!(
                "[plane] hugepages = \"yes\", but {wanted}: reserve them (sysctl vm.nr_hugepages) or set \"auto\""
            )),
            HugepageUse::Auto => self.warnings.push(format!("{wanted}: ordinary memory is used")),
        }
        let is_split = is_split && self.hugepages == Hugepages::Yes;
        let pool = |node, memory_mb| PoolPlan {
            node,
            memory_mb,
            packets: 0,
            needed: 0,
        };
        self.pools = if is_split {
            nodes.into_iter().map(|node| pool(node, share)).collect()
        } else {
            vec![pool(None, plane.memory_mb)]
        };
    }

    fn find_ports(&mut self, config: &Config, machine: &Machine) {
        for port in &config.ports {
            let node = home(port, config, machine);
            let queues = (self.workers.len() as u16).min(port.queues);
            let pool = self.pools.iter().position(|pool| pool.node == node);
            self.ports.push(PortPlan {
                queues,
                pool: pool.unwrap_or(0),
                node,
            });
            if !port.device.is_virtual() && self.hugepages == Hugepages::No {
                self.warnings.push(format!(
                    "port \"{}\" is a PCI device: without huge pages most of them do not start",
                    port.name
                ));
            }
            let far = self.workers.iter().take(queues.into()).filter(|&cpu| {
                let cpu_node = machine.cpu_nodes.get(cpu);
                node.zip(cpu_node).is_some_and(|(node, &cpu)| node != cpu)
            });
            let far: Vec<_> = far.collect();
            if !far.is_empty() {
                let near = machine.cpu_nodes.iter().filter(|(_, n)| node == Some(**n));
                let near: Vec<_> = near.map(|(cpu, _)| cpu).collect();
                self.warnings.push(format!(
                    "port \"{}\" is at NUMA node {}, workers on CPUs {far:?} are not: each of their packets crosses the \
                     processor's interconnect; that node's CPUs are {near:?}",
                    port.name,
                    node.unwrap_or(0)
                ));
            }
        }
    }

    /// How many packets each pool has, and whether they are enough: a driver fills its queues first, and then
    /// starves without a word.
    fn count_packets(&mut self, config: &Config) {
        let each = packet_memory(self.data_room, self.hugepages);
        // What waits to be sent may come from any pool.
        let queues = self.ports.iter().zip(&config.ports);
        let queued = |(plan, port): (&PortPlan, &Port)| {
            let queues = plan.queues + u16::from(port.exception.is_some());
            u64::from(queues) * u64::from(port.descriptors)
        };
        let sending: u64 = queues.clone().map(queued).sum();
        let of_worker0 = |port: &Port| {
            let ports = 1 + u32::from(port.exception.is_some());
            ports * u32::from(port.descriptors)
        };
        self.steward_packets = STEWARD_PACKETS + config.ports.iter().map(of_worker0).sum::<u32>();
        // A cache may run over by half before it gives back.
        let working = self.workers.len() as u64 * u64::from(CACHE * 3 / 2 + 64);
        for (at, pool) in self.pools.iter_mut().enumerate() {
            let steward = if at == 0 { self.steward_packets } else { 0 };
            let budget = u64::from(pool.memory_mb) * (1 << 20) / 4 * 3;
            let packets = (budget / each).saturating_sub(steward.into());
            let receiving: u64 = queues
                .clone()
                .filter(|(plan, _)| plan.pool == at)
                .map(queued)
                .sum();
            let needed = receiving + sending + working;
            pool.packets = packets.min(1 << 24) as u32;
            pool.needed = needed as u32;
            if needed > packets {
                let memory = ((needed + u64::from(steward)) * each * 4 / 3).div_ceil(1 << 20);
                let more = u64::from(config.plane.memory_mb)
                    * memory.div_ceil(u64::from(pool.memory_mb.max(1)));
                let queues = queues.clone().map(|(plan, port)| {
                    format!(
                        "{} of {} at \"{}\"",
                        plan.queues, port.descriptors, port.name
                    )
                });
                self.problems.push(format!(
                    "[plane] memory_mb = {} has room for {packets} packets{}, but receive and send queues ({}) and workers can hold \
                     {needed}: set it to {} or more, or lower descriptors",
                    config.plane.memory_mb,
                    pool.node.map_or(String::new(), |node| format!(" at NUMA node {node}")),
                    queues.collect::<Vec<_>>().join(", "),
                    if pool.node.is_none() { memory } else { more },
                ));
            }
        }
    }

    /// What EAL is to be started with.
    pub fn eal(&self, config: &Config) -> EalConfig {
        let pci = config.ports.iter().filter(|p| !p.device.is_virtual());
        let mut node_memory_mb = Vec::new();
        for pool in &self.pools {
            if let Some(node) = pool.node {
                node_memory_mb.resize(node_memory_mb.len().max(node as usize + 1), 0);
                node_memory_mb[node as usize] = pool.memory_mb;
            }
        }
        EalConfig {
            main_cpus: self.others.clone(),
            worker_cpus: self.workers.clone(),
            memory_mb: config.plane.memory_mb,
            node_memory_mb,
            hugepages: self.hugepages,
            pci_allow: pci.map(|p| p.device.as_str().to_owned()).collect(),
        }
    }
}

/// What a port is to be set up with.
pub fn port_config(port: &Port, queues: u16, polling: Polling) -> PortConfig {
    PortConfig {
        rx_queues: queues,
        tx_queues: queues,
        rx_desc: port.descriptors,
        tx_desc: port.descriptors,
        mtu: port.mtu,
        mac: port.mac.map(|mac| mac.0),
        promiscuous: false,
        rx_interrupts: polling == Polling::Adaptive,
    }
}

fn data_room(config: &Config) -> u16 {
    let rooms = config
        .ports
        .iter()
        .map(|port| port_config(port, 1, config.plane.polling).data_room());
    rooms.max().unwrap_or(0)
}

/// The NUMA node of a port; of one that is at none, the first worker's.
fn home(port: &Port, config: &Config, machine: &Machine) -> Option<u32> {
    let first = config.plane.cores.first();
    let known = machine.device_nodes.get(port.device.name());
    known.or_else(|| machine.cpu_nodes.get(first?)).copied()
}

/// Bytes a packet takes of the pool. DPDK lays none across the pages of ordinary memory.
fn packet_memory(room: u16, hugepages: Hugepages) -> u64 {
    let each = u64::from(room) + MBUF_OVERHEAD;
    match hugepages {
        Hugepages::Yes => each,
        Hugepages::No if each <= PAGE => PAGE / (PAGE / each),
        Hugepages::No => each.next_multiple_of(PAGE) + PAGE,
    }
}

#[cfg(test)]
mod tests;
