//! How packets leave.

use super::Streams;
use penstock_relay::route::{Egress, Policy};
use penstock_shm::{Dscp, Endpoint, Refusal};
use std::net::SocketAddr;

impl Streams {
    /// How a stream's packets leave; `None` while the peer's remote address is not known, or cannot be
    /// reached from here.
    pub(super) fn egress(
        &mut self,
        number: u32,
        source: Endpoint,
        peer: &Policy,
        now_ns: u64,
    ) -> Result<Option<Egress>, Refusal> {
        let own = self.endpoint(number);
        let (Some(arrival), Some(local), Some(destination)) = (
            self.local(own).map(|local| local.ip),
            self.local(source).cloned(),
            peer.remote,
        ) else {
            return Ok(None);
        };
        let adjacency = match self.own(&local, destination.ip()).cloned() {
            Some(own) => self.links.own(&own, now_ns)?,
            None => match local.next_hop(destination.ip()) {
                Some(hop) => self.links.number(hop, &local, now_ns)?,
                None => return Ok(None),
            },
        };
        let dscp = match peer.spec.dscp {
            Dscp::Default => local.dscp,
            asked => asked,
        };
        Ok(Some(Egress {
            endpoint: SocketAddr::new(arrival, own.port),
            source: SocketAddr::new(local.ip, source.port),
            destination,
            adjacency,
            mtu: local.mtu,
            tos: match dscp {
                Dscp::Set(dscp) => dscp << 2,
                Dscp::Default | Dscp::Copy => 0,
            },
            copy_dscp: dscp == Dscp::Copy,
            pcp: local.pcp,
        }))
    }
}
