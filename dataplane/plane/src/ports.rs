//! From the configuration to started ports, with a queue for each worker while they last.

use crate::Failure;
use crate::worker::{MediaPorts, PortSide, Role};
use penstock_config::{Config, Device, HugepageUse};
use penstock_dpdk::{
    Eal, EalConfig, Hugepages, MbufPool, Port, PortConfig, RxQueue, StartedPort, TxQueue,
    hugepages_free,
};
use penstock_relay::LocalAddrs;

/// Packets each worker may keep to itself: the most DPDK allows.
const CACHE: u32 = 512;
/// The steward's packets.
const STEWARD_PACKETS: u32 = 2047;
/// Bytes of an mbuf beside its data: its own two lines, headroom, and the pool's header.
const MBUF_OVERHEAD: u64 = 128 + 128 + 64;
const PAGE: u64 = 4096;

/// A started port with what belongs to it.
pub struct Opened {
    port: StartedPort,
    rx: Vec<Option<RxQueue>>,
    tx: Vec<Option<TxQueue>>,
    /// Its MAC.
    pub mac: [u8; 6],
    role: Role,
}

impl Opened {
    /// The index of the exception port that belongs to this port.
    pub fn kernel(&self) -> Option<usize> {
        match self.role {
            Role::Media { kernel } => kernel,
            Role::Exception { .. } => None,
        }
    }

    /// The port itself.
    pub fn port(&self) -> &StartedPort {
        &self.port
    }

    /// What `worker` has of this port.
    pub fn side(&mut self, worker: usize, locals: LocalAddrs, media: Vec<MediaPorts>) -> PortSide {
        let rx = self.rx.get_mut(worker).and_then(Option::take);
        let tx = self.tx.get_mut(worker).and_then(Option::take);
        PortSide {
            rx,
            tx,
            sender: 0,
            checks_ip: self.port.verifies_ip_checksum(),
            mac: self.mac,
            locals,
            media,
            role: self.role,
        }
    }
}

/// Starts EAL as the configuration says.
pub fn start_eal(config: &Config) -> Result<(Eal, Hugepages), Failure> {
    let plane = &config.plane;
    let cpus = crate::cpus();
    if let Some(missing) = plane.cores.iter().find(|core| !cpus.contains(core)) {
        return Err(Failure::new(format!(
            "[plane] cores names CPU {missing}, which this process may not use; it may use {cpus:?}"
        )));
    }
    let mut main_cpus: Vec<usize> = cpus
        .iter()
        .copied()
        .filter(|cpu| !plane.cores.contains(cpu))
        .collect();
    if main_cpus.is_empty() {
        main_cpus = cpus;
    }
    let hugepages = match plane.hugepages {
        HugepageUse::No => Hugepages::No,
        HugepageUse::Yes if !hugepages_free(plane.memory_mb) => {
            return Err(Failure::new(format!(
                "[plane] hugepages = \"yes\", but {} MiB of huge pages are not free: reserve them (sysctl vm.nr_hugepages) or set \"auto\"",
                plane.memory_mb
            )));
        }
        HugepageUse::Yes => Hugepages::Yes,
        HugepageUse::Auto if hugepages_free(plane.memory_mb) => Hugepages::Yes,
        HugepageUse::Auto => Hugepages::No,
    };
    tracing::info!(?hugepages, memory_mb = plane.memory_mb, "starting DPDK");
    let pci = config.ports.iter().filter(|p| !p.device.is_virtual());
    let eal = Eal::init(&EalConfig {
        main_cpus,
        worker_cpus: plane.cores.clone(),
        memory_mb: plane.memory_mb,
        hugepages,
        pci_allow: pci.map(|p| p.device.as_str().to_owned()).collect(),
    })?;
    Ok((eal, hugepages))
}

/// The workers' pool, as large as the memory allows, and the steward's.
pub fn pools(
    eal: &Eal,
    hugepages: Hugepages,
    config: &Config,
) -> Result<(MbufPool, MbufPool), Failure> {
    let room = config
        .ports
        .iter()
        .map(|p| port_config(p, 1).data_room())
        .max()
        .unwrap_or(0);
    let each = packet_memory(room, hugepages);
    let budget = u64::from(config.plane.memory_mb) * (1 << 20) / 4 * 3;
    let count = (budget / each)
        .saturating_sub(u64::from(STEWARD_PACKETS))
        .min(1 << 24) as u32;
    let workers = MbufPool::new(eal, "workers", count, CACHE.min(count / 2), room, None)?;
    let steward = MbufPool::new(eal, "steward", STEWARD_PACKETS, 0, room, None)?;
    tracing::info!(packets = count, "packet pool");
    Ok((workers, steward))
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

fn port_config(port: &penstock_config::Port, queues: u16) -> PortConfig {
    PortConfig {
        rx_queues: queues,
        tx_queues: queues,
        rx_desc: port.descriptors,
        tx_desc: port.descriptors,
        mtu: port.mtu,
        mac: port.mac.map(|mac| mac.0),
        promiscuous: false,
    }
}

/// Opens and starts every port, and behind the last the exception ports, in the same order.
pub fn open(eal: &Eal, config: &Config, pool: &MbufPool) -> Result<Vec<Opened>, Failure> {
    let workers = config.plane.cores.len() as u16;
    let mut opened = Vec::new();
    for declared in &config.ports {
        let queues = port_config(declared, workers.min(declared.queues));
        opened.push(start(
            eal,
            &declared.name,
            declared.device.as_str(),
            &queues,
            pool,
        )?);
    }
    for (port, declared) in config.ports.iter().enumerate() {
        let Some(device) = &declared.exception else {
            continue;
        };
        let same_mac = PortConfig {
            mac: Some(opened[port].mac),
            ..port_config(declared, 1)
        };
        let name = format!("{}\" exception \"{}", declared.name, device.name());
        let device = with_mac(device, opened[port].mac);
        let mut exception = start(eal, &name, &device, &same_mac, pool)?;
        exception.role = Role::Exception { port };
        let kernel = Some(opened.len());
        opened[port].role = Role::Media { kernel };
        opened.push(exception);
    }
    Ok(opened)
}

/// The vdev string with a MAC for the kernel's interface, where only the string can give it one.
fn with_mac(device: &Device, mac: [u8; 6]) -> String {
    let text = device.as_str();
    if device.name().starts_with("net_virtio_user") && !text.contains(",mac=") {
        return format!("{text},mac={}", penstock_config::MacAddr(mac));
    }
    text.to_owned()
}

fn start(
    eal: &Eal,
    name: &str,
    device: &str,
    config: &PortConfig,
    pool: &MbufPool,
) -> Result<Opened, Failure> {
    let named = |error| Failure::new(format!("port \"{name}\": {error}"));
    let port = Port::open(eal, device, config, pool).map_err(named)?;
    let (mac, driver) = (port.mac(), port.driver().to_owned());
    let (port, rx, tx) = port.start().map_err(named)?;
    let queues = config.rx_queues;
    tracing::info!(port = name, driver, mac = %penstock_config::MacAddr(mac), queues, "port started");
    Ok(Opened {
        port,
        rx: rx.into_iter().map(Some).collect(),
        tx: tx.into_iter().map(Some).collect(),
        mac,
        role: Role::Media { kernel: None },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_end_of_virtio_user_gets_the_ports_mac_by_its_string() {
        let mac = [2, 0x70, 0x73, 0, 0, 1];
        let given = |text: &str| with_mac(&text.parse().unwrap(), mac);
        assert_eq!(given("net_tap9,iface=sip0"), "net_tap9,iface=sip0");
        let user = "net_virtio_user9,path=/dev/vhost-net";
        assert_eq!(given(user), format!("{user},mac=02:70:73:00:00:01"));
        let own = "net_virtio_user9,mac=02:00:00:00:00:02";
        assert_eq!(given(own), own);
    }
}
