//! From the configuration to started ports, with a queue for each worker while they last.

use crate::Failure;
use crate::plan::{CACHE, Plan, STEWARD_PACKETS, port_config};
use crate::worker::PortSide;
use penstock_config::Config;
use penstock_dpdk::{Eal, MbufPool, Port, RxQueue, StartedPort, TxQueue};
use penstock_relay::LocalAddrs;

/// A started port with what belongs to it.
pub struct Opened {
    port: StartedPort,
    rx: Vec<Option<RxQueue>>,
    tx: Vec<Option<TxQueue>>,
    /// What the configuration calls it.
    pub name: String,
    /// Its MAC.
    pub mac: [u8; 6],
}

impl Opened {
    /// The port itself.
    pub fn port(&self) -> &StartedPort {
        &self.port
    }

    /// What `worker` has of this port.
    pub fn side(&mut self, worker: usize, locals: LocalAddrs) -> PortSide {
        let rx = self.rx.get_mut(worker).and_then(Option::take);
        let tx = self.tx.get_mut(worker).and_then(Option::take);
        PortSide {
            rx,
            tx,
            sender: 0,
            checks_ip: self.port.verifies_ip_checksum(),
            mac: self.mac,
            locals,
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
    let steward = MbufPool::new(eal, "steward", STEWARD_PACKETS, 0, room, node)?;
    Ok((pools, steward))
}

/// Opens and starts every port.
pub fn open(
    eal: &Eal,
    config: &Config,
    plan: &Plan,
    pools: &[MbufPool],
) -> Result<Vec<Opened>, Failure> {
    let ports = config.ports.iter().zip(&plan.ports);
    ports.map(|(declared, planned)| {
        let queues = planned.queues;
        let named = |error| Failure::new(format!("port \"{}\": {error}", declared.name));
        let config = port_config(declared, queues, config.plane.polling);
        let port = Port::open(eal, declared.device.as_str(), &config, &pools[planned.pool]).map_err(named)?;
        let (mac, driver) = (port.mac(), port.driver().to_owned());
        let (port, rx, tx) = port.start().map_err(named)?;
        tracing::info!(port = declared.name, driver, mac = %penstock_config::MacAddr(mac), queues, "port started");
        Ok(Opened { port, rx: rx.into_iter().map(Some).collect(), tx: tx.into_iter().map(Some).collect(), name: declared.name.clone(), mac })
    }).collect()
}
