//! Our own addresses: where a packet leaves for a remote address, and over which next hop.

use crate::neighbour::Key;
use penstock_config::Config;
use std::net::IpAddr;

/// A local address with all that a route from it needs.
#[derive(Clone, Debug)]
pub struct Local {
    /// The address.
    pub ip: IpAddr,
    prefix: penstock_config::Prefix,
    /// 802.1Q VLAN, 0 for none.
    pub vlan: u16,
    /// Index of the port.
    pub port: u8,
    /// MAC of the port.
    pub mac: [u8; 6],
    /// Largest IP packet, bytes.
    pub mtu: u16,
    gateway: Option<IpAddr>,
}

impl Local {
    /// Which neighbour takes packets to `remote`: itself on the link, else the gateway.
    pub fn next_hop(&self, remote: IpAddr) -> Option<Key> {
        let ip = if self.prefix.contains(remote) {
            remote
        } else {
            self.gateway?
        };
        Some(Key {
            port: self.port,
            vlan: self.vlan,
            ip,
        })
    }
}

/// The addresses of all ports, in the order of the configuration; `macs` by port.
pub fn locals(config: &Config, macs: &[[u8; 6]]) -> Vec<Local> {
    let mut all = Vec::new();
    for (port, (declared, mac)) in config.ports.iter().zip(macs).enumerate() {
        all.extend(declared.addresses.iter().map(|a| Local {
            ip: a.address.ip,
            prefix: a.address,
            vlan: a.vlan,
            port: port as u8,
            mac: *mac,
            mtu: declared.mtu,
            gateway: a.gateway,
        }));
    }
    all
}
