//! What a device needs of the system and of this process.

use penstock_config::Device;
use rustix::fs::{Access, AtFlags, CWD, accessat};
use rustix::process::{Resource, getrlimit};
use std::path::{Path, PathBuf};

const NET_ADMIN: (&str, u32) = ("CAP_NET_ADMIN", 12);
const NET_RAW: (&str, u32) = ("CAP_NET_RAW", 13);
const IPC_LOCK: (&str, u32) = ("CAP_IPC_LOCK", 14);
const SYS_RAWIO: (&str, u32) = ("CAP_SYS_RAWIO", 17);
const SYS_ADMIN: (&str, u32) = ("CAP_SYS_ADMIN", 21);
const BPF: (&str, u32) = ("CAP_BPF", 39);

/// Kernel drivers whose NICs DPDK drives beside them (bifurcated).
const BESIDE_KERNEL: [&str; 3] = ["mlx4_core", "mlx5_core", "mana"];

fn needs(device: &Device) -> &'static [(&'static str, u32)] {
    match kind(device) {
        "net_tap" | "net_tun" => &[NET_ADMIN],
        // It sets the interface's MTU and MAC.
        "net_af_packet" => &[NET_ADMIN, NET_RAW],
        "net_pcap" => &[NET_RAW],
        "net_af_xdp" => &[NET_ADMIN, NET_RAW, BPF],
        "net_virtio_user" => &[NET_ADMIN],
        _ if device.is_virtual() => &[],
        _ if pci_driver(device).is_some_and(|d| BESIDE_KERNEL.contains(&d.as_str())) => {
            &[NET_ADMIN, NET_RAW, IPC_LOCK]
        }
        // Physical addresses, where no IOMMU translates.
        _ if is_without_iommu(device) => &[IPC_LOCK, SYS_RAWIO, SYS_ADMIN],
        _ => &[IPC_LOCK],
    }
}

/// The capabilities that the device takes, if the process is not root.
pub fn capabilities(device: &Device) -> Vec<&'static str> {
    let reads_captures = kind(device) == "net_pcap" && argument(device, "iface").is_none();
    let needs = needs(device).iter().filter(|_| !reads_captures);
    needs.map(|(name, _)| *name).collect()
}

/// `net_tap` of `net_tap0,iface=x`; empty for a PCI address.
fn kind(device: &Device) -> &str {
    if device.is_virtual() {
        device.name().trim_end_matches(|c: char| c.is_ascii_digit())
    } else {
        ""
    }
}

/// The value of `key=` among the device's arguments.
fn argument<'a>(device: &'a Device, key: &str) -> Option<&'a str> {
    let arguments = device.as_str().split(',').skip(1);
    arguments
        .filter_map(|a| a.split_once('='))
        .find_map(|(k, v)| (k == key).then_some(v))
}

fn pci_folder(device: &Device) -> PathBuf {
    Path::new("/sys/bus/pci/devices").join(device.name())
}

/// The last part of where a link in the device's folder leads.
fn pci_link(device: &Device, link: &str) -> Option<String> {
    let target = std::fs::read_link(pci_folder(device).join(link)).ok()?;
    Some(target.file_name()?.to_str()?.to_owned())
}

fn pci_driver(device: &Device) -> Option<String> {
    pci_link(device, "driver")
}

fn vfio_files(device: &Device) -> Option<[String; 2]> {
    let group = pci_link(device, "iommu_group")?;
    Some([
        format!("/dev/vfio/{group}"),
        format!("/dev/vfio/noiommu-{group}"),
    ])
}

fn is_without_iommu(device: &Device) -> bool {
    vfio_files(device).is_some_and(|[_, without]| Path::new(&without).exists())
}

fn may(path: &str, access: Access) -> bool {
    accessat(CWD, path, access, AtFlags::EACCESS).is_ok()
}

/// What this process holds.
pub struct Held {
    capabilities: u64,
}

impl Held {
    /// From the kernel.
    pub fn read() -> Held {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
        let bits = line.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok());
        Held {
            capabilities: bits.unwrap_or(0),
        }
    }

    /// What the process lacks for the device, a sentence each.
    pub fn missing(&self, device: &Device, memory_mb: u32) -> Vec<String> {
        let has = |bit: u32| self.capabilities & (1 << bit) != 0;
        let wanted = capabilities(device);
        let lacks = |&&(_, bit): &&(&'static str, u32)| match bit {
            // Without it the limit on locked memory counts.
            _ if bit == IPC_LOCK.1 => !has(bit) && locked_mb() < memory_mb.into(),
            // It came with Linux 5.8, split off from this one.
            _ if bit == BPF.1 => !has(bit) && !has(SYS_ADMIN.1),
            _ => !has(bit),
        };
        let needs = needs(device)
            .iter()
            .filter(|(name, _)| wanted.contains(name));
        needs.filter(lacks).map(|(name, bit)| {
            if *bit == IPC_LOCK.1 {
                format!("{} has to lock {memory_mb} MiB for its DMA, the limit is {}: give this process {name}, or raise LimitMEMLOCK", device.name(), locked_mb())
            } else {
                format!("{} takes {name}, which this process has not: start it as root or give it that capability", device.name())
            }
        }).collect()
    }
}

/// The limit on locked memory, MiB.
fn locked_mb() -> u64 {
    getrlimit(Resource::Memlock)
        .current
        .map_or(u64::MAX, |bytes| bytes >> 20)
}

/// What of the device is not there, a sentence each.
pub fn missing(device: &Device) -> Vec<String> {
    if !device.is_virtual() {
        return pci_missing(device).into_iter().collect();
    }
    if !penstock_dpdk::knows_device(device.as_str()) {
        return vec![format!("DPDK has no driver for {}", device.name())];
    }
    let mut missing = Vec::new();
    let read_write = Access::READ_OK | Access::WRITE_OK;
    match kind(device) {
        "net_tap" | "net_tun" if !may("/dev/net/tun", read_write) => missing.push(
            "/dev/net/tun is not there or not ours to open: load the kernel module tun, or give the device to this container".to_owned(),
        ),
        "net_af_packet" | "net_af_xdp" => missing.extend(no_interface(argument(device, "iface"))),
        "net_pcap" => {
            missing.extend(argument(device, "iface").and_then(|iface| no_interface(Some(iface))));
            missing.extend(argument(device, "rx_pcap").filter(|file| !may(file, Access::READ_OK)).map(|file| {
                format!("the capture {file} cannot be read")
            }));
        }
        "net_memif" => missing.extend(argument(device, "socket").and_then(no_folder)),
        "net_virtio_user" => missing.extend(argument(device, "path").filter(|path| !may(path, read_write)).map(|path| {
            format!("{path} is not there or not ours to open: load the kernel module vhost_net")
        })),
        _ => {}
    }
    missing
}

fn no_interface(name: Option<&str>) -> Option<String> {
    let Some(name) = name else {
        return Some("iface= does not say which interface".into());
    };
    let exists = Path::new("/sys/class/net").join(name).exists();
    (!exists).then(|| format!("there is no interface {name} in this network namespace"))
}

/// A socket that is a file is made in a folder that has to be there.
fn no_folder(socket: &str) -> Option<String> {
    let folder = Path::new(socket.strip_prefix('@').map_or(socket, |_| "/")).parent()?;
    let is_there = folder.as_os_str().is_empty() || folder.is_dir();
    (!is_there).then(|| {
        format!(
            "the folder of its socket, {}, does not exist",
            folder.display()
        )
    })
}

fn pci_missing(device: &Device) -> Option<String> {
    let name = device.name();
    if !pci_folder(device).exists() {
        return Some(format!(
            "there is no PCI device {name} (lspci -D lists them)"
        ));
    }
    let bind = format!("bind it to vfio-pci (dpdk-devbind.py --bind=vfio-pci {name})");
    match pci_driver(device).as_deref() {
        Some("vfio-pci") => {
            let Some(files) = vfio_files(device) else {
                return Some(format!(
                    "{name} is bound to vfio-pci, but in no IOMMU group: enable the IOMMU"
                ));
            };
            let read_write = Access::READ_OK | Access::WRITE_OK;
            (!files.iter().any(|file| may(file, read_write))).then(|| {
                format!(
                    "{} is not ours to open: change its owner or group",
                    files[0]
                )
            })
        }
        Some("igb_uio" | "uio_pci_generic") => None,
        Some(driver) if BESIDE_KERNEL.contains(&driver) => None,
        Some(driver) => Some(format!(
            "{name} is bound to the kernel's driver {driver}: {bind}"
        )),
        None => Some(format!("{name} is bound to no driver: {bind}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(text: &str) -> Device {
        text.parse().expect("a device")
    }

    #[test]
    fn each_kind_of_port_takes_its_capabilities() {
        for (text, caps) in [
            ("net_tap0,iface=x", vec!["CAP_NET_ADMIN"]),
            (
                "net_af_packet0,iface=x",
                vec!["CAP_NET_ADMIN", "CAP_NET_RAW"],
            ),
            ("net_pcap0,iface=x", vec!["CAP_NET_RAW"]),
            ("net_pcap0,rx_pcap=x", vec![]),
            ("net_memif0", vec![]),
            ("0000:ff:1f.7", vec!["CAP_IPC_LOCK"]),
        ] {
            assert_eq!(capabilities(&device(text)), caps, "{text}");
        }
        let nobody = Held { capabilities: 0 };
        let text = nobody.missing(&device("net_tap0"), 64).concat();
        assert!(text.contains("CAP_NET_ADMIN"), "{text}");
        let admin = Held {
            capabilities: 1 << 12,
        };
        assert_eq!(admin.missing(&device("net_tap0"), 64), Vec::<String>::new());
        assert_eq!(
            admin.missing(&device("net_af_packet0,iface=x"), 64).len(),
            1
        );
        let old = Held {
            capabilities: 1 << 12 | 1 << 13 | 1 << 21,
        };
        assert_eq!(
            old.missing(&device("net_af_xdp0,iface=x"), 64),
            Vec::<String>::new()
        );
    }

    #[test]
    fn what_is_not_there() {
        for (text, words) in [
            ("0000:ff:1f.7", "no PCI device 0000:ff:1f.7"),
            ("net_nonsense0", "no driver for net_nonsense0"),
            ("net_af_packet0,iface=none-such", "no interface none-such"),
            ("net_af_packet0", "does not say which"),
            ("net_pcap0,rx_pcap=/none/such", "/none/such cannot be read"),
            (
                "net_memif0,socket=/none/such/socket",
                "/none/such, does not exist",
            ),
        ] {
            let missing = missing(&device(text));
            assert!(
                missing.len() == 1 && missing[0].contains(words),
                "{text}: {missing:?}"
            );
        }
        for text in [
            "net_null0",
            "net_ring0",
            "net_af_packet0,iface=lo",
            "net_memif0,socket=@abstract",
        ] {
            assert_eq!(missing(&device(text)), Vec::<String>::new(), "{text}");
        }
    }

    /// The unit's comment lists capabilities by kind of port.
    #[test]
    fn the_unit_says_the_same() {
        let unit = include_str!("../../../../scripts/systemd/penstock-dataplane.service");
        let mut kinds = 0;
        for line in unit.lines().filter(|line| line.starts_with("#   net_")) {
            let (names, caps) = line[4..].split_once(" CAP_").expect("capabilities");
            let caps = format!("CAP_{}", caps.split(',').next().unwrap_or(caps));
            let caps: Vec<_> = caps.split_whitespace().collect();
            for kind in names
                .trim()
                .trim_end_matches(" on an interface")
                .split(", ")
            {
                let text = format!("{kind}0,iface=x");
                assert_eq!(capabilities(&device(&text)), caps, "{line}");
                kinds += 1;
            }
        }
        assert_eq!(kinds, 5);
    }
}
