//! Scenarios frame by frame: the plane's port is a capture to read and one to write, its phones are addresses.

use crate::frame::{Datagram, Sum};
use crate::region::endpoint;
use crate::{Lab, PLANE_MAC, Setup, local};
use penstock_shm::{Learn, Op, StreamSpec, TableView};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

/// A device that brings nothing and takes everything.
pub const NOTHING: &str = "net_null0,no-rx=1";

/// The phones of [`setup`]; [`phone`] is the first.
pub const PHONES: [Ipv4Addr; 2] = [Ipv4Addr::new(198, 18, 2, 1), Ipv4Addr::new(198, 18, 2, 2)];

/// The MAC of both.
pub const PHONE_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

/// The plane's address at this device, where it knows the phones' MAC.
pub fn setup(device: &str) -> Setup {
    let mut setup = Setup::on(device);
    for ip in PHONES {
        setup.port +=
            &format!("[[port.neighbour]]\naddress = \"{ip}\"\nmac = \"02:00:00:00:00:01\"\n");
    }
    setup
}

/// As [`setup`], with two workers.
pub fn setup_two(device: &str) -> Setup {
    Setup {
        cores: "[0, 1]",
        ..setup(device)
    }
}

/// A device that reads these captures and writes those: a queue each.
pub fn captures(read: &[&Path], written: &[&Path]) -> String {
    let queues = |way: &str, paths: &[&Path]| {
        let queue = |path: &&Path| format!(",{way}_pcap={}", path.display());
        paths.iter().map(queue).collect::<String>()
    };
    format!("net_pcap0{}{}", queues("rx", read), queues("tx", written))
}

/// A port of the phone's.
pub fn phone(port: u16) -> SocketAddr {
    SocketAddr::from((PHONES[0], port))
}

/// What a phone sends to the plane.
pub fn datagram(from: SocketAddr, to: SocketAddr, payload: Vec<u8>) -> Datagram {
    Datagram {
        macs: (PLANE_MAC, PHONE_MAC),
        vlan: 0,
        tos: 0,
        from,
        to,
        sum: Sum::Right,
        payload,
    }
}

/// Two streams at these ports, each other's peers, whose phones send from ports of the same number.
pub fn pair(table: &TableView, here: u16, there: u16) -> [StreamSpec; 2] {
    let at = |port| endpoint(table, local(port), 0);
    [(here, there), (there, here)].map(|(port, peer)| StreamSpec {
        remote: Some(phone(port)),
        learn: Learn::Off,
        signal: 1,
        clock_hz: 8000,
        ..StreamSpec::new(at(port), at(peer))
    })
}

impl Lab {
    /// Installs streams by a plane that starts and stops for it, so that the next one has them from its first packet on.
    pub fn install_beforehand(&self, streams: impl FnOnce(&TableView) -> Vec<Op>) {
        let mut plane = self.plane();
        self.install(1, &streams(&self.table()));
        plane.stop_well();
    }
}
