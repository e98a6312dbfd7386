//! A network of the bench's own: a namespace, and the wires in it.

use crate::Failure;
use crate::process::run;
use std::fs;
use std::os::fd::AsFd;

/// A network namespace that this thread has entered, and with it every process and thread it starts.
pub struct Namespace(String);

impl Namespace {
    /// Makes one, without IPv6 chatter, and enters it.
    ///
    /// # Errors
    /// [`Failure::Environment`] where namespaces cannot be made.
    pub fn enter() -> Result<Namespace, Failure> {
        let name = format!("{}-{}", crate::prefix(), std::process::id());
        ip(&["netns", "add", &name])?;
        let namespace = Namespace(name);
        let file = fs::File::open(format!("/var/run/netns/{}", namespace.0))?;
        let kind = rustix::thread::LinkNameSpaceType::Network;
        rustix::thread::move_into_link_name_space(file.as_fd(), Some(kind))
            .map_err(std::io::Error::from)?;
        ip(&["link", "set", "lo", "up"])?;
        Ok(namespace)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = ip(&["netns", "del", &self.0]);
    }
}

/// Runs `ip`.
///
/// # Errors
/// [`Failure::Environment`] with what it said.
pub fn ip(args: &[&str]) -> Result<(), Failure> {
    run("ip", args).map(drop)
}

/// What a NIC would do and DPDK does not see: checksums are made before a frame leaves `interface`.
///
/// # Errors
/// [`Failure::Environment`] with what ethtool said.
fn no_offload(interface: &str) -> Result<(), Failure> {
    run("ethtool", &["-K", interface, "tx", "off"]).map(drop)
}

/// Two interfaces joined by a wire, both up; gone when dropped.
pub struct Wire(&'static str);

impl Wire {
    /// A wire between `near` and `far`, each an interface's name and MAC address. Nothing but the bench speaks there:
    /// no IPv6, and frames leave with their checksums.
    ///
    /// # Errors
    /// [`Failure::Environment`] if the kernel has no veth.
    pub fn new(
        near: (&'static str, [u8; 6]),
        far: (&'static str, [u8; 6]),
    ) -> Result<Wire, Failure> {
        for all in ["all", "default"] {
            // A kernel without IPv6 is as good.
            let _ = set(&format!("ipv6/conf/{all}/disable_ipv6"), "1");
        }
        ip(&["link", "add", near.0, "type", "veth", "peer", "name", far.0])?;
        let wire = Wire(near.0);
        for (name, address) in [near, far] {
            ip(&["link", "set", name, "address", &mac(address), "up"])?;
            no_offload(name)?;
        }
        Ok(wire)
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        let _ = ip(&["link", "del", self.0]);
    }
}

/// Sets a value below /proc/sys/net, of the namespace that this thread is in.
///
/// # Errors
/// [`Failure::Environment`] if there is none.
pub fn set(key: &str, value: &str) -> Result<(), Failure> {
    let path = format!("/proc/sys/net/{key}");
    fs::write(&path, value).map_err(|e| Failure::Environment(format!("{path}: {e}")))
}

/// Frames that have come to `interface`, of the namespace that this thread is in.
///
/// # Errors
/// [`Failure::Environment`] if there is no such interface.
pub fn frames_received(interface: &str) -> Result<u64, Failure> {
    let text = fs::read_to_string("/proc/thread-self/net/dev")?;
    // Octets, then packets, follow the name.
    let of = |line: &str| {
        let (name, counts) = line.split_once(':')?;
        let packets = counts.split_whitespace().nth(1)?;
        (name.trim() == interface).then_some(packets.parse().ok()?)
    };
    text.lines()
        .find_map(of)
        .ok_or_else(|| Failure::Environment(format!("there is no interface {interface}")))
}

/// As it is written.
pub fn mac(address: [u8; 6]) -> String {
    address.map(|b| format!("{b:02x}")).join(":")
}
