//! More of a network: hosts in namespaces of their own, on a bridge with the plane's tap.

use crate::{Lab, PHONES, PHONES6, PLANE6, run, wait_for};
use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Runs `work` inside a namespace, on a thread of its own.
pub(crate) fn inside<T: Send>(namespace: &str, work: impl FnOnce() -> T + Send) -> T {
    let path = format!("/var/run/netns/{namespace}");
    std::thread::scope(|scope| {
        let inside = scope.spawn(|| {
            let namespace = fs::File::open(path).expect("the namespace");
            rustix::thread::move_into_link_name_space(
                namespace.as_fd(),
                Some(rustix::thread::LinkNameSpaceType::Network),
            )
            .expect("setns");
            work()
        });
        inside.join().expect("inside the namespace")
    })
}

/// A host with a kernel of its own kind: a namespace that goes when it is dropped.
pub struct Host {
    namespace: String,
}

impl Host {
    /// A host without any interface. It forwards, and takes packets whatever way they come.
    pub fn new(lab: &Lab) -> Host {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        let namespace = format!("{}h{n}", lab.namespace);
        run("ip", &["netns", "add", &namespace]);
        let host = Host { namespace };
        host.ip("link set lo up");
        for key in ["all/rp_filter=0", "default/rp_filter=0", "all/forwarding=1"] {
            host.sysctl(&format!("net/ipv4/conf/{key}"));
        }
        host
    }

    /// A host at the lab's bridge, by its `eth0` of this MAC; without an address.
    pub fn on_bridge(lab: &Lab, mac: &str) -> Host {
        let host = Host::new(lab);
        let port = format!(
            "to{}",
            host.namespace.rsplit('h').next().expect("its number")
        );
        let add = format!(
            "link add {port} type veth peer name eth0 netns {}",
            host.namespace
        );
        lab.ip(&add);
        lab.ip(&format!("link set {port} master br0 up"));
        host.ip(&format!("link set eth0 address {mac}"));
        host.ip("link set eth0 up");
        // The bridge hears of it by and by, and lets nothing through until then.
        let forwards = || {
            let (_, out, _) = lab.run("ip", &["-d", "link", "show", &port]);
            out.contains("state forwarding")
        };
        assert!(wait_for(Duration::from_secs(20), forwards), "{port}");
        host
    }

    /// `ip` in the host.
    pub fn ip(&self, args: &str) {
        ip(&self.namespace, args);
    }

    /// Sets a kernel parameter: `net/ipv4/...=1`.
    pub fn sysctl(&self, setting: &str) {
        let args = ["netns", "exec", &self.namespace, "sysctl", "-qw", setting];
        run("ip", &args);
    }

    /// A wire to another host: both ends have this name.
    pub fn wire(&self, name: &str, to: &Host) {
        self.ip(&format!(
            "link add {name} type veth peer name {name} netns {}",
            to.namespace
        ));
        self.ip(&format!("link set {name} up"));
        to.ip(&format!("link set {name} up"));
    }

    /// Takes an interface of the lab's.
    pub fn adopt(&self, lab: &Lab, interface: &str) {
        lab.ip(&format!("link set {interface} netns {}", self.namespace));
    }

    /// Runs `work` inside the host, on a thread of its own.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        inside(&self.namespace, work)
    }

    /// A UDP socket in the host.
    pub fn socket(&self, at: SocketAddr) -> UdpSocket {
        self.inside(|| UdpSocket::bind(at).unwrap_or_else(|e| panic!("{at}: {e}")))
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = Command::new("ip")
            .args(["netns", "del", &self.namespace])
            .output();
    }
}

fn ip(namespace: &str, args: &str) {
    let all: Vec<&str> = ["-n", namespace]
        .into_iter()
        .chain(args.split(' '))
        .collect();
    run("ip", &all);
}

impl Lab {
    /// `ip` in the lab.
    pub fn ip(&self, args: &str) {
        ip(&self.namespace, args);
    }

    /// Gives the tap the IPv6 phones' address, whose MAC a plane on [`crate::Setup::six`] knows, and tells it the plane's.
    pub fn six(&self) {
        self.ip(&format!("-6 addr replace {PHONES6}/64 dev ps0 nodad"));
        let permanent = "lladdr 02:70:73:00:00:01 dev ps0 nud permanent";
        self.ip(&format!("-6 neigh replace {PLANE6} {permanent}"));
    }

    /// Puts the tap of a plane that runs onto a bridge, `br0`, which has the phones' address from now on.
    pub fn bridge(&self) {
        self.ip("link add br0 type bridge");
        self.ip(&format!("addr del {PHONES}/16 dev ps0"));
        // The kernel's end of a tap has the plane's MAC, which a bridge would take for its own.
        self.ip("link set ps0 address 02:00:00:00:00:99");
        self.ip("link set br0 address 02:00:00:00:00:98");
        self.ip("link set ps0 master br0");
        self.ip(&format!("addr add {PHONES}/16 dev br0"));
        self.ip("link set br0 up");
    }
}
