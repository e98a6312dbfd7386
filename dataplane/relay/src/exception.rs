//! What a port passes on to the kernel, if it has an exception port: what is not the relay's.

use crate::LocalAddrs;
use crate::headers::{Ethernet, Ipv4, Ipv6, ethertype};
use crate::local::link;
use penstock_shm::counters::Drop;
use std::net::IpAddr;

/// Whether the kernel takes a frame that the plane would drop for this reason.
///
/// Frames for the port's MAC or for a group that are no media of ours: other protocols, other addresses. What is
/// broken is nobody's; fragments and options pass to addresses that are not ours, since at those of ours they could be
/// media. Datagrams to ports of ours without a stream are told apart by [`Drop::NoStream`], which the caller gives
/// for ports that are no endpoint's alone.
pub fn is_kernels(frame: &[u8], reason: Drop, locals: &LocalAddrs) -> bool {
    match reason {
        Drop::Protocol | Drop::NotOurAddress | Drop::NoStream => true,
        Drop::NotOurMac => {
            Ethernet::split(frame).is_some_and(|(link, _)| link.destination()[0] & 1 != 0)
        }
        Drop::Fragment | Drop::IpOptions => addresses(frame)
            .is_some_and(|(vlan, _, destination)| locals.get(vlan, destination).is_none()),
        _ => false,
    }
}

/// Where an IP packet says it comes from.
pub fn source_ip(frame: &[u8]) -> Option<IpAddr> {
    addresses(frame).map(|(_, source, _)| source)
}

/// VLAN, source and destination address of an IP packet.
fn addresses(frame: &[u8]) -> Option<(u16, IpAddr, IpAddr)> {
    let (kind, vlan, l3) = link(frame)?;
    let packet = frame.get(l3..)?;
    match kind {
        ethertype::IPV4 => {
            let (ip, _) = Ipv4::split(packet)?;
            Some((vlan, ip.source().into(), ip.destination().into()))
        }
        ethertype::IPV6 => {
            let (ip, _) = Ipv6::split(packet)?;
            Some((vlan, ip.source().into(), ip.destination().into()))
        }
        _ => None,
    }
}
