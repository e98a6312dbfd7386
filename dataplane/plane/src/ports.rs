//! From the configuration to started ports, with a queue for each worker while they last.

use crate::Failure;
use crate::limit::Limit;
use crate::plan::{CACHE, Plan, port_config};
use crate::worker::{MediaPorts, PortSide, Role};
use penstock_config::{Config, Device};
use penstock_dpdk::{Eal, MbufPool, Port, PortConfig, RxQueue, StartedPort, TxQueue};
use penstock_relay::LocalAddrs;
use std::sync::Arc;

/// Packets of ARP and neighbour discovery that the kernel hears of a port, each second.
const NEIGHBOURS_PER_S: u32 = 1000;

/// A started port with what belongs to it.
pub struct Opened {
    port: StartedPort,
    rx: Vec<Option<RxQueue>>,
    tx: Vec<Option<TxQueue>>,
    /// What the configuration calls it.
    pub name: String,
    /// Its MAC.
    pub mac: [u8; 6],
    role: Role,
    limit: Arc<Limit>,
    pool: MbufPool,
}

impl Opened {
    /// The index of the exception port that belongs to this port, and how much ARP and neighbour discovery the kernel
    /// hears: that has a limit of its own, so that neither a flood of it nor one of the rest keeps the other out.
    pub fn kernel(&self) -> Option<(usize, Limit)> {
        match self.role {
            Role::Media { kernel } => Some((kernel?, Limit::new(NEIGHBOURS_PER_S))),
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
            limit: Arc::clone(&self.limit),
            pool: self.pool,
        }
    }
}

/// Starts EAL as planned; the plan has no problems.
pub fn start_eal(config: &Config, plan: &Plan) -> Result<Eal, Failure> {
    for warning in &plan.warnings {
        tracing::warn!("{warning}");
    }
    let (hugepages, memory_mb) = (plan.hugepages, config.plane.memory_mb);
    tracing::info!(?hugepages, memory_mb, "starting DPDK");
    Ok(Eal::init(&plan.eal(config))?)
}

/// The workers' pools, in the plan's order, and the steward's.
pub fn pools(eal: &Eal, plan: &Plan) -> Result<(Vec<MbufPool>, MbufPool), Failure> {
    let room = plan.data_room;
    let mut pools = Vec::new();
    for (at, pool) in plan.pools.iter().enumerate() {
        let name = format!("workers{at}");
        let cache = CACHE.min(pool.packets / 2);
        pools.push(MbufPool::new(
            eal,
            &name,
            pool.packets,
            cache,
            room,
            pool.node,
        )?);
        tracing::info!(packets = pool.packets, node = pool.node, "packet pool");
    }
    let node = plan.pools.first().and_then(|pool| pool.node);
    let packets = plan.steward_packets;
    let steward = MbufPool::new(eal, "steward", packets, 0, room, node)?;
    Ok((pools, steward))
}

/// Opens and starts every port, and behind the last the exception ports, in the same order.
pub fn open(
    eal: &Eal,
    config: &Config,
    plan: &Plan,
    pools: &[MbufPool],
) -> Result<Vec<Opened>, Failure> {
    let polling = config.plane.polling;
    let mut opened = Vec::new();
    for (declared, planned) in config.ports.iter().zip(&plan.ports) {
        let wanted = port_config(declared, planned.queues, polling);
        let (device, pool) = (declared.device.as_str(), &pools[planned.pool]);
        opened.push(start(eal, &declared.name, device, &wanted, pool)?);
    }
    for (port, declared) in config.ports.iter().enumerate() {
        let Some(device) = &declared.exception else {
            continue;
        };
        let same_mac = PortConfig {
            mac: Some(opened[port].mac),
            ..port_config(declared, 1, polling)
        };
        let name = format!("{}\" exception \"{}", declared.name, device.name());
        let device = with_mac(device, opened[port].mac);
        let pool = &pools[plan.ports[port].pool];
        let mut exception = start(eal, &name, &device, &same_mac, pool)?;
        exception.role = Role::Exception { port };
        let kernel = Some(opened.len());
        opened[port].role = Role::Media { kernel };
        opened[port].limit = Arc::new(Limit::new(declared.exception_per_s));
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
        name: name.to_owned(),
        mac,
        role: Role::Media { kernel: None },
        limit: Arc::new(Limit::new(0)),
        pool: *pool,
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
