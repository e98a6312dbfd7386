//! Our own addresses: where a packet leaves for a remote address, and over which next hop.

use crate::neighbour::Key;
use penstock_config::Config;
use penstock_shm::Dscp;
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
    /// Of what leaves from here, unless the call asks for another. Never [`Dscp::Default`].
    pub dscp: Dscp,
    /// 802.1p priority of media that leaves from here tagged.
    pub pcp: u8,
    /// In order of preference.
    pub gateways: Vec<IpAddr>,
    /// Number of the next hop to what is behind them; set by [`crate::links::Links::new`].
    pub group: Option<u16>,
}

/// Where a packet goes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NextHop {
    /// To this neighbour.
    Neighbour(Key),
    /// To whichever gateway of the group answers: the group's number.
    Gateways(u16),
}

impl Local {
    /// Where packets to `remote` go: itself on the link, else the gateways.
    pub fn next_hop(&self, remote: IpAddr) -> Option<NextHop> {
        if self.has_on_link(remote) {
            return Some(NextHop::Neighbour(self.neighbour(remote)));
        }
        self.group.map(NextHop::Gateways)
    }

    /// Whether `remote` is on this address's link.
    pub fn has_on_link(&self, remote: IpAddr) -> bool {
        self.prefix.contains(remote)
    }

    /// The name of a neighbour on this address's link.
    pub fn neighbour(&self, ip: IpAddr) -> Key {
        Key {
            port: self.port,
            vlan: self.vlan,
            ip,
        }
    }

    /// Whether `ip` is the link's broadcast address, which no host has (RFC 919).
    pub fn is_broadcast(&self, ip: IpAddr) -> bool {
        let IpAddr::V4(v4) = ip else { return false };
        let host_bits = u32::MAX
            .checked_shr(u32::from(self.prefix.len))
            .unwrap_or(0);
        self.prefix.len < 31 && self.prefix.contains(ip) && v4.to_bits() & host_bits == host_bits
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
            dscp: match a.dscp {
                penstock_config::Dscp::Set(dscp) => Dscp::Set(dscp),
                penstock_config::Dscp::Copy => Dscp::Copy,
            },
            pcp: a.pcp,
            gateways: a.gateways.clone(),
            group: None,
        }));
    }
    all
}

/// The addresses by the number that the region has for each.
pub fn by_number(locals: &[Local], numbers: &[u16]) -> Vec<Option<Local>> {
    let mut all = Vec::new();
    for (local, &number) in locals.iter().zip(numbers) {
        all.resize(all.len().max(usize::from(number) + 1), None);
        all[usize::from(number)] = Some(local.clone());
    }
    all
}
