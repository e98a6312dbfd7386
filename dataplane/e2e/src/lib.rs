//! A network of one's own for each scenario: a namespace, the plane's tap in it, both daemons as
//! real processes, phones as real sockets. Everything a [`Lab`] made goes when it is dropped.
//!
//! A scenario that cannot run here says why through [`lab!`], and is counted as skipped.

pub mod body;
mod daemon;
pub mod feed;
pub mod frame;
mod net;
mod ng;
pub mod region;
mod rtp;
pub mod stun;
pub mod wire;

pub use daemon::{Daemon, binary, wait_for};
pub use net::Host;
pub use ng::{Ng, Sides, answer_request, offer_request, rtcp, sdp, with};
pub use rtp::{
    Phone, Received, converse, exchange, meanwhile, meet, reach, rtcp_packet, rtp_packet, rtp_seq,
};
pub use rustix::process::Signal;

use penstock_shm::TableView;
use std::ffi::OsStr;
use std::fs;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// The plane's media address in every lab.
pub const PLANE: &str = "198.18.0.1";

/// Its MAC.
pub const PLANE_MAC: [u8; 6] = [2, 0x70, 0x73, 0, 0, 1];

/// The phones' address in every lab; the tap's link is 198.18.0.0/16.
pub const PHONES: &str = "198.18.255.1";

/// The IPv6 address of a plane on [`Setup::six`], and that of its phones.
pub const PLANE6: &str = "fd00::1";
/// See [`PLANE6`].
pub const PHONES6: &str = "fd00::ff";

/// A namespace with a plane and a control daemon in it.
pub struct Lab {
    namespace: String,
    dir: tempfile::TempDir,
    region: PathBuf,
    config: PathBuf,
}

/// What a scenario may change of the configuration.
pub struct Setup {
    /// Streams the table holds.
    pub streams: u32,
    /// The interface's ports.
    pub ports: &'static str,
    /// Everything that stands for the media port; the default is a tap named `ps0`.
    pub port: String,
    /// CPUs of the workers.
    pub cores: &'static str,
}

impl Default for Setup {
    fn default() -> Self {
        Setup {
            streams: 16_384,
            ports: "16384-32767",
            port: format!(
                "device = \"net_tap0,iface=ps0,persist\"\nmac = \"02:70:73:00:00:01\"\nqueues = 1\n\
                 [[port.address]]\naddress = \"{PLANE}/16\"\n"
            ),
            cores: "[1]",
        }
    }
}

impl Setup {
    /// The tap, with an IPv6 address as well; [`Lab::six`] gives the phones theirs.
    pub fn six() -> Setup {
        let mut setup = Setup::default();
        setup.port += &format!(
            "[[port.address]]\naddress = \"{PLANE6}/64\"\n\
             [[port.neighbour]]\naddress = \"{PHONES6}\"\nmac = \"02:70:73:00:00:01\"\n"
        );
        setup
    }

    /// The plane's address and MAC at this device.
    pub fn on(device: &str) -> Setup {
        Setup {
            port: format!(
                "device = \"{device}\"\nmac = \"02:70:73:00:00:01\"\n[[port.address]]\naddress = \"{PLANE}/16\"\n"
            ),
            ..Setup::default()
        }
    }
}

/// Why no lab can be had, if so.
pub fn unable() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("not root".into());
    }
    if !Path::new("/dev/net/tun").exists() {
        return Some("no /dev/net/tun".into());
    }
    None
}

/// Notes a skipped scenario where `scripts/test` counts them.
pub fn skip(name: &str, why: &str) {
    use std::io::Write;
    eprintln!("skipped: {name}: {why}");
    if let Some(path) = std::env::var_os("PENSTOCK_SKIPS")
        && let Ok(mut file) = fs::OpenOptions::new().append(true).create(true).open(path)
    {
        let _ = writeln!(file, "e2e {name}: {why}");
    }
}

/// A lab for the scenario, or the end of it with a reason.
#[macro_export]
macro_rules! lab {
    ($name:literal, $setup:expr) => {
        match $crate::unable() {
            Some(why) => return $crate::skip($name, &why),
            None => $crate::Lab::new($name, $setup),
        }
    };
    ($name:literal) => {
        $crate::lab!($name, $crate::Setup::default())
    };
}

/// Runs a command that has to succeed.
pub fn run(program: &str, args: &[&str]) -> String {
    let out = Command::new(program)
        .args(args)
        .output()
        .unwrap_or_else(|e| panic!("{program}: {e}"));
    assert!(
        out.status.success(),
        "{program} {args:?}: {}",
        String::from_utf8_lossy(&out.stderr)
    );
    String::from_utf8_lossy(&out.stdout).into_owned()
}

/// A port of the plane's media address.
pub fn local(port: u16) -> SocketAddr {
    SocketAddr::new(PLANE.parse().expect("an address"), port)
}

/// A port of [`PHONES6`].
pub fn phone6_at(port: u16) -> SocketAddr {
    SocketAddr::new(PHONES6.parse().expect("an address"), port)
}

/// A phones' address with a port; port 0 is any.
pub fn phone_at(port: u16) -> SocketAddr {
    SocketAddr::new(PHONES.parse().expect("an address"), port)
}

impl Lab {
    /// A new namespace and a configuration; nothing runs yet.
    pub fn new(name: &str, setup: Setup) -> Lab {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        let namespace = format!("pe{}-{n}", std::process::id());
        let dir = tempfile::Builder::new()
            .prefix(&format!("penstock-{name}-"))
            .tempdir()
            .expect("a folder");
        let region = PathBuf::from(format!("/dev/shm/{namespace}"));
        let config = dir.path().join("penstock.toml");
        run("ip", &["netns", "add", &namespace]);
        let lab = Lab {
            namespace,
            dir,
            region,
            config,
        };
        run("ip", &["-n", &lab.namespace, "link", "set", "lo", "up"]);
        lab.configure(&setup);
        lab
    }

    /// Writes the configuration file anew, for daemons that start from now on.
    pub fn configure(&self, setup: &Setup) {
        fs::write(&self.config, self.toml(setup)).expect("the configuration");
    }

    /// Changes the configuration file's text; what is replaced has to be there.
    pub fn edit(&self, from: &str, to: &str) {
        let text = fs::read_to_string(&self.config).expect("the configuration");
        assert!(text.contains(from), "no {from} in\n{text}");
        fs::write(&self.config, text.replacen(from, to, 1)).expect("the configuration");
    }

    fn toml(&self, setup: &Setup) -> String {
        format!(
            "[region]\ndir = \"{region}\"\nstreams = {streams}\n\
             [plane]\ncores = {cores}\nmemory_mb = 256\nhugepages = \"no\"\n\
             [control]\nng = \"127.0.0.1:2223\"\nsocket = \"{dir}/control.sock\"\nstore = \"{region}-calls.journal\"\n\
             [[control.interface]]\nname = \"default\"\naddress = \"{PLANE}\"\nports = \"{ports}\"\n\
             [[port]]\nname = \"media\"\n{port}",
            region = self.region.display(),
            dir = self.dir.path().display(),
            streams = setup.streams,
            cores = setup.cores,
            ports = setup.ports,
            port = setup.port,
        )
    }

    /// The configuration file.
    pub fn config(&self) -> &Path {
        &self.config
    }

    /// A folder that goes with the lab.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The region's folder.
    pub fn region(&self) -> &Path {
        &self.region
    }

    /// The plane, ready. If it has the tap, the tap is up and has the phones' address.
    pub fn plane(&self) -> Daemon {
        let plane = self.start("penstock-dataplane");
        self.plane_ready(&plane);
        plane
    }

    /// As [`Lab::plane`], for one that was started.
    pub fn plane_ready(&self, plane: &Daemon) {
        let ready = plane.ready(Duration::from_secs(60));
        assert!(ready, "the plane did not become ready:\n{}", plane.log());
        let ip = |args: &[&str]| {
            let all = [&["-n", &self.namespace], args].concat();
            Command::new("ip")
                .args(all)
                .output()
                .expect("ip")
                .status
                .success()
        };
        if ip(&["link", "show", "ps0"]) {
            assert!(ip(&[
                "addr",
                "replace",
                &format!("{PHONES}/16"),
                "dev",
                "ps0"
            ]));
            assert!(ip(&["link", "set", "ps0", "txqueuelen", "10000", "up"]));
        }
    }

    /// Gives the tap one more address for phones.
    pub fn address(&self, ip: IpAddr) {
        run(
            "ip",
            &[
                "-n",
                &self.namespace,
                "addr",
                "add",
                &format!("{ip}/16"),
                "dev",
                "ps0",
            ],
        );
    }

    /// The control daemon, ready.
    pub fn control(&self) -> Daemon {
        let control = self.start("penstock-control");
        let ready = control.ready(Duration::from_secs(30));
        assert!(ready, "control did not become ready:\n{}", control.log());
        control
    }

    /// A daemon in the namespace, not waited for.
    pub fn start(&self, program: &str) -> Daemon {
        self.start_by(&[], program, &[])
    }

    /// A daemon that `prefix` (`setpriv` and the like) becomes, with more in its environment.
    pub fn start_by(&self, prefix: &[&str], program: &str, env: &[(&str, &str)]) -> Daemon {
        let program = binary(program);
        let mut command: Vec<&OsStr> = prefix.iter().map(OsStr::new).collect();
        command.extend([
            program.as_os_str(),
            "--config".as_ref(),
            self.config.as_os_str(),
        ]);
        Daemon::start(&self.namespace, &command, env, self.dir.path())
    }

    /// Any program with its arguments, in the namespace and in the background.
    pub fn process(&self, command: &[&str]) -> Daemon {
        let command: Vec<&OsStr> = command.iter().map(OsStr::new).collect();
        Daemon::start(&self.namespace, &command, &[], self.dir.path())
    }

    /// The CLI in the background.
    pub fn penstock_start(&self, args: &[&str]) -> Daemon {
        let program = binary("penstock");
        let config = ["--config".as_ref(), self.config.as_os_str()];
        let command: Vec<&OsStr> = [program.as_os_str()]
            .into_iter()
            .chain(config)
            .chain(args.iter().map(|arg| OsStr::new(*arg)))
            .collect();
        Daemon::start(&self.namespace, &command, &[], self.dir.path())
    }

    /// Another program that runs on in the namespace.
    pub fn program(&self, command: &[&str]) -> Daemon {
        let command: Vec<&OsStr> = command.iter().map(OsStr::new).collect();
        Daemon::start(&self.namespace, &command, &[], self.dir.path())
    }

    /// A command in the namespace: its exit code, output and errors.
    pub fn run(&self, program: &str, args: &[&str]) -> (Option<i32>, String, String) {
        let out = Command::new("ip")
            .args(["netns", "exec", &self.namespace, program])
            .args(args)
            .output()
            .unwrap_or_else(|e| panic!("{program}: {e}"));
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (out.status.code(), text(&out.stdout), text(&out.stderr))
    }

    /// The CLI: its exit code, output and errors.
    pub fn penstock(&self, args: &[&str]) -> (Option<i32>, String, String) {
        let config = self.config.to_string_lossy().into_owned();
        let all: Vec<&str> = ["--config", &config]
            .into_iter()
            .chain(args.iter().copied())
            .collect();
        self.run(&binary("penstock").to_string_lossy(), &all)
    }

    /// What the CLI prints with `--json`.
    pub fn penstock_json(&self, command: &str) -> serde_json::Value {
        let (code, out, err) = self.penstock(&[command, "--json"]);
        assert_eq!(code, Some(0), "penstock {command}: {err}");
        serde_json::from_str(&out)
            .unwrap_or_else(|e| panic!("penstock {command} --json: {e}\n{out}"))
    }

    /// Runs `work` inside the namespace, on a thread of its own.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        net::inside(&self.namespace, work)
    }

    /// A UDP socket in the namespace.
    pub fn socket(&self, at: SocketAddr) -> UdpSocket {
        self.inside(|| UdpSocket::bind(at).unwrap_or_else(|e| panic!("{at}: {e}")))
    }

    /// An ng client in the namespace.
    pub fn ng(&self) -> Ng {
        let socket = self.socket(SocketAddr::from(([127, 0, 0, 1], 0)));
        Ng::new(socket, SocketAddr::from(([127, 0, 0, 1], 2223)))
    }

    /// The region's table.
    pub fn table(&self) -> TableView {
        TableView::open(&self.region).expect("the region's table")
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let _ = Command::new("ip")
            .args(["netns", "del", &self.namespace])
            .output();
        let _ = fs::remove_dir_all(&self.region);
        let _ = fs::remove_file(format!("{}-calls.journal", self.region.display()));
    }
}
