//! Penstock's one configuration file, read by both daemons and by `penstock check`.
//!
//! `penstock.toml` beside this crate documents every key with its default; a test holds the two
//! together. A key that is not known is an error, so that a misspelt one cannot pass for a default.

mod check;
mod parts;

pub use parts::{
    Device, Dscp, HugepageUse, MacAddr, Network, PoliceMedia, Polling, PortRange, Prefix,
};

use serde::Deserialize;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

/// The documented defaults file.
pub const DEFAULTS: &str = include_str!("../penstock.toml");

/// Why a configuration cannot be used. Each problem is one sentence: what, where, how to mend it.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is not TOML, or has a key or value that does not fit.
    #[error("{path}: {message}")]
    Syntax {
        /// The file.
        path: PathBuf,
        /// What and where.
        message: String,
    },
    /// The parts contradict each other; one sentence each.
    #[error("{path}: {}", problems.join("\n"))]
    Problems {
        /// The file.
        path: PathBuf,
        /// One sentence each.
        problems: Vec<String>,
    },
}

/// The whole file.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// `[region]`
    #[serde(default)]
    pub region: Region,
    /// `[plane]`
    #[serde(default)]
    pub plane: Plane,
    /// `[[port]]`
    #[serde(default, rename = "port")]
    pub ports: Vec<Port>,
    /// `[control]`
    #[serde(default)]
    pub control: Control,
    /// `[timeouts]`
    #[serde(default)]
    pub timeouts: Timeouts,
    /// `[quality]`
    #[serde(default)]
    pub quality: Quality,
    /// `[learning]`
    #[serde(default)]
    pub learning: Learning,
    /// `[sources]`
    #[serde(default)]
    pub sources: Sources,
    /// `[[police]]`
    #[serde(default)]
    pub police: Vec<Police>,
    /// `[limits]`
    #[serde(default)]
    pub limits: Limits,
    /// `[templates]`: flag strings of ng, by name.
    #[serde(default)]
    pub templates: BTreeMap<String, String>,
}

/// Where the two processes meet.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Region {
    /// Folder of the region's files.
    pub dir: PathBuf,
    /// A hugetlbfs mount for the table.
    pub table_dir: Option<PathBuf>,
    /// Capacity of the table, in streams.
    pub streams: u32,
    /// Group that may take part.
    pub group: Option<u32>,
}

impl Default for Region {
    fn default() -> Self {
        Region {
            dir: "/dev/shm/penstock".into(),
            table_dir: None,
            streams: 65_536,
            group: None,
        }
    }
}

/// The data plane.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Plane {
    /// CPUs of the workers.
    pub cores: Vec<usize>,
    /// What a worker does when there is nothing to do.
    pub polling: Polling,
    /// Memory for packets, MiB.
    pub memory_mb: u32,
    /// Whether DPDK's memory lies on huge pages.
    pub hugepages: HugepageUse,
    /// Packets received at once.
    pub burst: u16,
    /// ICMP and ICMPv6 messages sent per second at most.
    pub icmp_per_s: u32,
    /// Whether who sends to a port that nobody has is told so.
    pub port_unreachable: bool,
    /// What answers to ICE's connectivity checks call us (SOFTWARE); empty for nothing.
    pub stun_software: String,
}

impl Default for Plane {
    fn default() -> Self {
        Plane {
            cores: vec![1],
            polling: Polling::Adaptive,
            memory_mb: 512,
            hugepages: HugepageUse::Auto,
            burst: 32,
            icmp_per_s: 100,
            port_unreachable: false,
            stun_software: "penstock".into(),
        }
    }
}

/// A DPDK port.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Port {
    /// What messages call it.
    pub name: String,
    /// PCI address or vdev string.
    pub device: Device,
    /// MAC address to set.
    pub mac: Option<MacAddr>,
    /// Largest IP packet, bytes.
    #[serde(default = "default_mtu")]
    pub mtu: u16,
    /// Packets a queue holds.
    #[serde(default = "default_descriptors")]
    pub descriptors: u16,
    /// Receive and send queues at most; each worker has one of each while they last.
    #[serde(default = "default_queues")]
    pub queues: u16,
    /// The device through which the kernel has what is not the relay's: a vdev string.
    pub exception: Option<Device>,
    /// Packets a second that the kernel gets through it at most; 0 for any number.
    #[serde(default = "default_exception_per_s")]
    pub exception_per_s: u32,
    /// `[[port.address]]`
    #[serde(default, rename = "address")]
    pub addresses: Vec<Address>,
    /// `[[port.neighbour]]`
    #[serde(default, rename = "neighbour")]
    pub neighbours: Vec<Neighbour>,
}

fn default_mtu() -> u16 {
    1500
}

fn default_exception_per_s() -> u32 {
    50_000
}

fn default_queues() -> u16 {
    32
}

fn default_descriptors() -> u16 {
    1024
}

/// A local address of a port.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Address {
    /// The address and its prefix.
    pub address: Prefix,
    /// 802.1Q VLAN, 0 for none.
    #[serde(default)]
    pub vlan: u16,
    /// Next hops to what is not on the link: the first that answers is used. One, or a list.
    #[serde(default, rename = "gateway", deserialize_with = "parts::one_or_more")]
    pub gateways: Vec<IpAddr>,
    /// What media carries that leaves from here, unless the call asks for another.
    #[serde(default)]
    pub dscp: Dscp,
    /// 802.1p priority of media that leaves from here tagged, 0 to 7.
    #[serde(default)]
    pub pcp: u8,
}

/// A neighbour whose MAC is known beforehand.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Neighbour {
    /// Its address.
    pub address: IpAddr,
    /// Its MAC.
    pub mac: MacAddr,
    /// Its VLAN, 0 for none.
    #[serde(default)]
    pub vlan: u16,
}

/// The control daemon.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Control {
    /// Where ng is answered over UDP. One, or a list.
    #[serde(deserialize_with = "parts::one_or_more")]
    pub ng: Vec<SocketAddr>,
    /// Where ng is answered over TCP. One, or a list.
    #[serde(deserialize_with = "parts::one_or_more")]
    pub ng_tcp: Vec<SocketAddr>,
    /// Where HTTP and WebSocket are answered. One, or a list.
    #[serde(deserialize_with = "parts::one_or_more")]
    pub http: Vec<SocketAddr>,
    /// Who may ask over these; if there are any, nobody else may.
    pub allow: Vec<Network>,
    /// Requests a second that one source may make, 0 for any number. Without it, 5000, and any number from loopback.
    pub requests_per_s: Option<u32>,
    /// The CLI's socket.
    pub socket: PathBuf,
    /// Where calls are kept over a restart.
    pub store: PathBuf,
    /// Seconds a port rests before reuse.
    pub port_rest_s: u32,
    /// Calls at one time.
    pub max_calls: u32,
    /// Seconds that a delete without `delete-delay` waits.
    pub delete_delay_s: u32,
    /// CPU of control's thread.
    pub core: Option<usize>,
    /// The file of call detail records.
    pub cdr: Option<PathBuf>,
    /// `[[control.interface]]`
    #[serde(rename = "interface")]
    pub interfaces: Vec<Interface>,
}

impl Default for Control {
    fn default() -> Self {
        Control {
            ng: vec![SocketAddr::from(([127, 0, 0, 1], 2223))],
            ng_tcp: Vec::new(),
            http: Vec::new(),
            allow: Vec::new(),
            requests_per_s: None,
            socket: "/run/penstock/control.sock".into(),
            store: "/run/penstock/calls.journal".into(),
            port_rest_s: 2,
            max_calls: 16_000,
            delete_delay_s: 0,
            core: None,
            cdr: None,
            interfaces: Vec::new(),
        }
    }
}

/// How a stream learns whom its media comes from.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Learning {
    /// How long a source may give way to a more credible one, ms after the first packet.
    pub window_ms: u32,
    /// Or in packets, whichever comes first.
    pub window_packets: u32,
    /// Silence after which a locked stream learns anew, s; 0 for never.
    pub relearn_s: u32,
    /// Silence after which a stream with media-handover follows a new source, ms.
    pub handover_ms: u32,
}

impl Default for Learning {
    fn default() -> Self {
        Learning {
            window_ms: 3000,
            window_packets: 200,
            relearn_s: 30,
            handover_ms: 200,
        }
    }
}

/// Who may send media.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sources {
    /// If there are any, nobody else may.
    pub allow: Vec<Network>,
    /// These may not.
    pub deny: Vec<Network>,
    /// Packets a second to ports without a stream, before their source counts as a flood.
    pub unknown_ports_per_s: u32,
}

impl Default for Sources {
    fn default() -> Self {
        Sources {
            allow: Vec::new(),
            deny: Vec::new(),
            unknown_ports_per_s: 1000,
        }
    }
}

/// What one stream may send. A rate of 0 limits nothing.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Police {
    /// What a stream's record calls it, 1 to 15: it does not depend on the place in the list.
    pub number: u8,
    /// What it is for.
    pub media: PoliceMedia,
    /// Packets a second in the long run.
    pub packets_per_s: u64,
    /// Packets at once on top.
    pub packets_burst: u64,
    /// Octets of UDP payload a second in the long run.
    pub bytes_per_s: u64,
    /// Octets at once on top.
    pub bytes_burst: u64,
    /// Packets a second at any time.
    pub peak_packets_per_s: u64,
    /// Octets a second at any time.
    pub peak_bytes_per_s: u64,
    /// How early a packet may come, ms.
    pub tolerance_ms: u64,
}

/// When media that does not flow, or a call, has lasted long enough; seconds, 0 for never.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Timeouts {
    /// Without a packet since the call was answered.
    pub start_s: u32,
    /// Since the last packet.
    pub silence_s: u32,
    /// Either, where nothing has to come: on hold, or before the answer.
    pub hold_s: u32,
    /// Media one way only.
    pub one_way_s: u32,
    /// Whether media one way only ends the call.
    pub one_way_ends: bool,
    /// Of a call as a whole.
    pub final_s: u32,
}

impl Default for Timeouts {
    fn default() -> Self {
        Timeouts {
            start_s: 60,
            silence_s: 60,
            hold_s: 3600,
            one_way_s: 30,
            one_way_ends: false,
            final_s: 0,
        }
    }
}

/// What the machine may have to do before new calls are refused; 0 is no limit.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Load average over a minute.
    pub load: f64,
    /// Processor time in use over half a second, percent of all CPUs.
    pub cpu_percent: f64,
    /// Octets a second that all ports receive.
    pub bytes_per_s: u64,
}

/// How media is rated, and from where on it is reported as poor; a limit of 0 is none.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Quality {
    /// How often, s; 0 for never.
    pub interval_s: u32,
    /// Packets lost within the interval, percent.
    pub loss_percent: f64,
    /// Interarrival jitter, ms.
    pub jitter_ms: f64,
    /// Round trip between both legs, ms.
    pub round_trip_ms: f64,
    /// Mean opinion score, 1 to 5: poor is what scores less.
    pub mos: f64,
}

impl Default for Quality {
    fn default() -> Self {
        Quality {
            interval_s: 10,
            loss_percent: 0.0,
            jitter_ms: 0.0,
            round_trip_ms: 0.0,
            mos: 0.0,
        }
    }
}

/// A local address and the ports that calls may use on it.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Interface {
    /// What `direction` names.
    pub name: String,
    /// One of the ports' addresses.
    pub address: IpAddr,
    /// The VLAN that address is in, 0 for none.
    #[serde(default)]
    pub vlan: u16,
    /// The address written into SDP, where it differs.
    pub advertise: Option<IpAddr>,
    /// First and last UDP port.
    pub ports: PortRange,
}

impl Config {
    /// Reads and checks a file.
    pub fn load(path: &Path) -> Result<Config, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
            path: path.into(),
            source,
        })?;
        Config::parse(&text, path)
    }

    /// Checks a text; `path` is only named in errors.
    pub fn parse(text: &str, path: &Path) -> Result<Config, ConfigError> {
        let config: Config = toml::from_str(text).map_err(|error| ConfigError::Syntax {
            path: path.into(),
            message: error.to_string().trim_end().to_owned(),
        })?;
        let problems = check::problems(&config);
        if problems.is_empty() {
            Ok(config)
        } else {
            Err(ConfigError::Problems {
                path: path.into(),
                problems,
            })
        }
    }
}
