//! Ports: whatever DPDK can open.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::ffi::{CStr, c_int};
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use penstock_dpdk_sys as sys;

use crate::burst::Burst;
use crate::eal::{Eal, knows_device};
use crate::error::{Error, c_string, check};
use crate::pool::MbufPool;
use crate::queue::{RxQueue, TxQueue};

/// A port that is set up but does not run.
#[derive(Debug)]
pub enum Configured {}

/// A port that runs, its queues with their owners.
#[derive(Debug)]
pub enum Started {}

/// A port that runs.
pub type StartedPort = Port<Started>;

/// What a port is to be set up with.
#[derive(Debug, Clone)]
pub struct PortConfig {
    /// Receive queues, 1 at least. Packets are spread over several by their IP addresses and UDP
    /// ports, where the driver can.
    pub rx_queues: u16,
    /// Send queues, 1 at least.
    pub tx_queues: u16,
    /// Packets that a receive queue holds; taken to the nearest that the driver can.
    pub rx_desc: u16,
    /// Packets that a send queue holds; taken to the nearest that the driver can.
    pub tx_desc: u16,
    /// The largest IP packet, in bytes. Drivers without such a limit ignore it.
    pub mtu: u16,
    /// The MAC address. None: the device's own. A driver without an address filter
    /// keeps its own, and [`Port::mac`] gives this one all the same.
    pub mac: Option<[u8; 6]>,
    /// Whether to receive frames that are for other MAC addresses. Drivers without an address
    /// filter always do. Multicast is always received: neighbour discovery needs it.
    pub promiscuous: bool,
    /// Whether receive queues shall have interrupts, for who sleeps on them
    /// ([`RxQueue::interrupt`]). A driver without them does as if this were false.
    pub rx_interrupts: bool,
}

impl Default for PortConfig {
    fn default() -> Self {
        Self {
            rx_queues: 1,
            tx_queues: 1,
            rx_desc: 1024,
            tx_desc: 1024,
            mtu: 1500,
            mac: None,
            promiscuous: false,
            rx_interrupts: false,
        }
    }
}

impl PortConfig {
    /// The least data room, in bytes, of a pool for such a port.
    pub fn data_room(&self) -> u16 {
        self.mtu.saturating_add(FRAME_OVERHEAD).max(MIN_DATA_ROOM)
    }
}

/// Ethernet header, two VLAN tags and FCS.
const FRAME_OVERHEAD: u16 = 14 + 2 * 4 + 4;
/// NICs count their buffers in KiB: with less, many of them chain ordinary frames.
const MIN_DATA_ROOM: u16 = 2048;

/// What a port has counted since it was started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Packets received.
    pub ipackets: u64,
    /// Packets sent.
    pub opackets: u64,
    /// Bytes received.
    pub ibytes: u64,
    /// Bytes sent.
    pub obytes: u64,
    /// Packets the port dropped because a receive queue was full.
    pub imissed: u64,
    /// Packets received with errors.
    pub ierrors: u64,
    /// Packets that could not be sent.
    pub oerrors: u64,
    /// Packets lost because the pool was empty.
    pub rx_nombuf: u64,
}

/// A port, [`Configured`] or [`Started`].
///
/// It stops and closes, and leaves DPDK, when it and all of its queues are dropped, on the
/// thread that drops the last of them. It can then be opened anew.
#[derive(Debug)]
pub struct Port<State = Configured> {
    device: Arc<Device>,
    // Not Sync: DPDK wants a port's control calls one at a time.
    _state: PhantomData<(State, Cell<()>)>,
}

impl Port<Configured> {
    /// Sets a port up. `device` is a PCI address with its domain (`0000:03:00.0`), which
    /// EAL was allowed, or a virtual device (`net_tap0,iface=media0,persist`), which is made.
    /// Received packets come from `pool`, which holds those of all ports it is shared by: the full
    /// receive queues, the full send queues, and what workers have in hand.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] if the port is open, if the driver has not as many queues, if the MTU
    /// needs larger packets than the pool's, or its queues more of them; [`Error::Call`] if
    /// DPDK fails.
    pub fn open(
        _eal: &Eal,
        device: &str,
        config: &PortConfig,
        pool: &MbufPool,
    ) -> Result<Self, Error> {
        let mut device = Device::claim(device)?;
        device.configure(config)?;
        device.set_up_queues(config, pool)?;
        if config.rx_interrupts && !device.starts() {
            let config = PortConfig {
                rx_interrupts: false,
                ..config.clone()
            };
            device.configure(&config)?;
            device.set_up_queues(&config, pool)?;
        }
        Ok(Self {
            device: Arc::new(device),
            _state: PhantomData,
        })
    }

    /// Starts the port, and hands out its queues, each by its number.
    ///
    /// # Errors
    ///
    /// [`Error::Call`] if DPDK fails; the port is then closed.
    pub fn start(self) -> Result<(StartedPort, Vec<RxQueue>, Vec<TxQueue>), Error> {
        let device = self.device;
        let id = device.id;
        // SAFETY: the port is claimed and set up; one that is started stays so.
        device.check("rte_eth_dev_start", unsafe { sys::rte_eth_dev_start(id) })?;
        // SAFETY: the port is claimed.
        let ret = unsafe { sys::rte_eth_allmulticast_enable(id) };
        device.check_optional("rte_eth_allmulticast_enable", ret)?;
        if device.promiscuous {
            // SAFETY: the port is claimed.
            let ret = unsafe { sys::rte_eth_promiscuous_enable(id) };
            device.check_optional("rte_eth_promiscuous_enable", ret)?;
        }
        let rx = RxQueue::all(&device, device.rx_queues);
        let tx = TxQueue::all(&device, device.tx_queues);
        Ok((
            Port {
                device,
                _state: PhantomData,
            },
            rx,
            tx,
        ))
    }
}

impl<State> Port<State> {
    /// The device's name: what it was opened by, up to the first comma.
    pub fn name(&self) -> &str {
        &self.device.name
    }

    /// The number that DPDK gave the port, below 32.
    pub fn id(&self) -> u16 {
        self.device.id
    }

    /// The name of its driver, such as `net_tap`.
    pub fn driver(&self) -> &str {
        &self.device.driver
    }

    /// The MAC address it was configured with, or else its own.
    pub fn mac(&self) -> [u8; 6] {
        self.device.mac
    }

    /// Whether it verifies IPv4 header checksums: [`Mbuf::rx_ip_checksum`](crate::Mbuf::rx_ip_checksum).
    pub fn verifies_ip_checksum(&self) -> bool {
        self.device.rx_offloads & sys::PENSTOCK_RX_OFFLOAD_IPV4_CKSUM != 0
    }

    /// Whether it verifies UDP checksums: [`Mbuf::rx_udp_checksum`](crate::Mbuf::rx_udp_checksum).
    pub fn verifies_udp_checksum(&self) -> bool {
        self.device.rx_offloads & sys::PENSTOCK_RX_OFFLOAD_UDP_CKSUM != 0
    }
}

impl Port<Started> {
    /// Whether the link is up, as far as the driver knows now.
    ///
    /// # Errors
    ///
    /// [`Error::Call`] if the driver cannot say, or the device is gone.
    pub fn link_up(&self) -> Result<bool, Error> {
        let mut link = sys::rte_eth_link::default();
        // SAFETY: the port is claimed, and `link` is written before the call returns.
        let ret = unsafe { sys::rte_eth_link_get_nowait(self.device.id, &mut link) };
        self.device.check("rte_eth_link_get_nowait", ret)?;
        Ok(link.link_status() != 0)
    }

    /// What it has counted.
    ///
    /// # Errors
    ///
    /// [`Error::Call`] if the driver does not count, or the device is gone.
    pub fn stats(&self) -> Result<Stats, Error> {
        let mut raw = sys::rte_eth_stats::default();
        // SAFETY: the port is claimed, and `raw` is written before the call returns.
        let ret = unsafe { sys::rte_eth_stats_get(self.device.id, &mut raw) };
        self.device.check("rte_eth_stats_get", ret)?;
        Ok(Stats {
            ipackets: raw.ipackets,
            opackets: raw.opackets,
            ibytes: raw.ibytes,
            obytes: raw.obytes,
            imissed: raw.imissed,
            ierrors: raw.ierrors,
            oerrors: raw.oerrors,
            rx_nombuf: raw.rx_nombuf,
        })
    }
}

/// The ids of the ports that a [`Device`] exists for. Locked while a device comes or goes.
static CLAIMED: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());

fn claimed() -> MutexGuard<'static, BTreeSet<u16>> {
    CLAIMED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A port of DPDK that is ours: one value for one id. Shared by the port and its
/// queues, so that it closes after the last of them.
#[derive(Debug)]
pub(crate) struct Device {
    id: u16,
    name: String,
    subject: String,
    driver: String,
    mac: [u8; 6],
    rx_queues: u16,
    tx_queues: u16,
    rx_offloads: u64,
    promiscuous: bool,
    rx_interrupts: bool,
}

impl Device {
    pub(crate) fn id(&self) -> u16 {
        self.id
    }

    /// Whether its receive queues were set up with interrupts.
    pub(crate) fn has_rx_interrupts(&self) -> bool {
        self.rx_interrupts
    }

    /// Starts it; a driver that knows interrupts may find only now that there are none to be had.
    fn starts(&self) -> bool {
        // SAFETY: the port is claimed, set up and not started.
        unsafe { sys::rte_eth_dev_start(self.id) >= 0 }
    }

    /// Finds the port of a device, which is probed if need be, and takes it.
    fn claim(device: &str) -> Result<Self, Error> {
        let name = device.split(',').next().unwrap_or_default();
        let subject = format!("port {name}");
        let c_device = c_string(&subject, device)?;

        let mut claimed = claimed();
        let found = match find(name) {
            Some(id) => Some(id),
            None => {
                probe(&subject, &c_device)?;
                find(name)
            }
        };
        let Some(id) = found else {
            return Err(Error::refused(&subject, "the device is no Ethernet port"));
        };
        if !claimed.insert(id) {
            return Err(Error::refused(&subject, "it is open already"));
        }
        Ok(Self {
            id,
            name: name.to_owned(),
            subject,
            driver: String::new(),
            mac: [0; 6],
            rx_queues: 0,
            tx_queues: 0,
            rx_offloads: 0,
            promiscuous: false,
            rx_interrupts: false,
        })
    }

    fn configure(&mut self, config: &PortConfig) -> Result<(), Error> {
        let info = device_info(self.id)
            .map_err(|ret| Error::from_return(&self.subject, "rte_eth_dev_info_get", ret))?;
        self.check_queues("receive", config.rx_queues, info.max_rx_queues)?;
        self.check_queues("send", config.tx_queues, info.max_tx_queues)?;
        self.rx_queues = config.rx_queues;
        self.tx_queues = config.tx_queues;
        self.promiscuous = config.promiscuous;
        self.rx_interrupts = config.rx_interrupts;
        self.rx_offloads = info.rx_offload_capa
            & (sys::PENSTOCK_RX_OFFLOAD_IPV4_CKSUM | sys::PENSTOCK_RX_OFFLOAD_UDP_CKSUM);
        if !info.driver_name.is_null() {
            // SAFETY: not NULL, hence the driver's static name.
            let driver = unsafe { CStr::from_ptr(info.driver_name) };
            self.driver = driver.to_string_lossy().into_owned();
        }

        let mut conf = sys::rte_eth_conf::default();
        conf.rxmode.mtu = u32::from(config.mtu);
        conf.rxmode.offloads = self.rx_offloads;
        conf.intr_conf.set_rxq(u32::from(config.rx_interrupts));
        let rss_hf = info.flow_type_rss_offloads & sys::PENSTOCK_RSS_IP_UDP;
        if config.rx_queues > 1 && rss_hf != 0 {
            conf.rxmode.mq_mode = sys::rte_eth_rx_mq_mode::RTE_ETH_MQ_RX_RSS;
            conf.rx_adv_conf.rss_conf.rss_hf = rss_hf;
        }
        // SAFETY: the port is claimed and stopped; `conf` is copied.
        let ret = unsafe {
            sys::rte_eth_dev_configure(self.id, config.rx_queues, config.tx_queues, &conf)
        };
        self.check("rte_eth_dev_configure", ret)?;
        // Drivers with a kernel's interface behind them ignore the MTU of the configuration.
        // SAFETY: the port is claimed.
        let ret = unsafe { sys::rte_eth_dev_set_mtu(self.id, config.mtu) };
        self.check_optional("rte_eth_dev_set_mtu", ret)?;
        self.set_mac(config.mac)
    }

    fn set_mac(&mut self, mac: Option<[u8; 6]>) -> Result<(), Error> {
        let mut address = sys::rte_ether_addr::default();
        if let Some(mac) = mac {
            address.addr_bytes = mac;
            // SAFETY: the port is claimed; the address is copied.
            let ret = unsafe { sys::rte_eth_dev_default_mac_addr_set(self.id, &mut address) };
            self.check_optional("rte_eth_dev_default_mac_addr_set", ret)?;
        } else {
            // SAFETY: the port is claimed, and `address` is written before the call returns.
            let ret = unsafe { sys::rte_eth_macaddr_get(self.id, &mut address) };
            self.check("rte_eth_macaddr_get", ret)?;
        }
        self.mac = address.addr_bytes;
        Ok(())
    }

    fn set_up_queues(&self, config: &PortConfig, pool: &MbufPool) -> Result<(), Error> {
        let needed = u32::from(config.mtu) + u32::from(FRAME_OVERHEAD);
        if needed > u32::from(pool.data_room()) {
            return Err(self.refused(format!(
                "an MTU of {} needs packets of {needed} bytes, the pool's have {}",
                config.mtu,
                pool.data_room()
            )));
        }
        let (mut rx_desc, mut tx_desc) = (config.rx_desc, config.tx_desc);
        // SAFETY: the port is claimed, and both numbers are written before the call returns.
        let ret =
            unsafe { sys::rte_eth_dev_adjust_nb_rx_tx_desc(self.id, &mut rx_desc, &mut tx_desc) };
        self.check("rte_eth_dev_adjust_nb_rx_tx_desc", ret)?;
        // Drivers fill their queues first, and then starve without a word.
        let least = u32::from(config.rx_queues) * u32::from(rx_desc) + Burst::CAPACITY as u32;
        if least > pool.count() {
            return Err(self.refused(format!(
                "{} queues of {rx_desc} packets need a pool of {least} at least, it has {}",
                config.rx_queues,
                pool.count()
            )));
        }
        // -1, as an unsigned number, is "any".
        // SAFETY: the port is claimed.
        let socket = unsafe { sys::rte_eth_dev_socket_id(self.id) } as u32;
        let default = std::ptr::null();
        for queue in 0..config.rx_queues {
            let pool = pool.as_ptr();
            // SAFETY: the port is claimed, configured with that queue and stopped; the pool
            // is never freed. NULL stands for the driver's defaults.
            let ret = unsafe {
                sys::rte_eth_rx_queue_setup(self.id, queue, rx_desc, socket, default, pool)
            };
            self.check("rte_eth_rx_queue_setup", ret)?;
        }
        let default = std::ptr::null();
        for queue in 0..config.tx_queues {
            // SAFETY: as above.
            let ret =
                unsafe { sys::rte_eth_tx_queue_setup(self.id, queue, tx_desc, socket, default) };
            self.check("rte_eth_tx_queue_setup", ret)?;
        }
        Ok(())
    }

    fn check_queues(&self, what: &str, asked: u16, max: u16) -> Result<(), Error> {
        if asked == 0 || asked > max {
            let problem = format!("{asked} {what} queues asked for, it has 1 to {max}");
            return Err(self.refused(problem));
        }
        Ok(())
    }

    fn refused(&self, problem: String) -> Error {
        Error::refused(&self.subject, problem)
    }

    fn check(&self, call: &'static str, ret: c_int) -> Result<(), Error> {
        check(&self.subject, call, ret)
    }

    /// As `check`, for what not every driver can do, and those that cannot do without.
    fn check_optional(&self, call: &'static str, ret: c_int) -> Result<(), Error> {
        if ret == -NOT_SUPPORTED {
            Ok(())
        } else {
            self.check(call, ret)
        }
    }
}

/// ENOTSUP of Linux, which DPDK returns where a driver lacks a function.
const NOT_SUPPORTED: c_int = 95;

impl Drop for Device {
    fn drop(&mut self) {
        // Held to the end: the id is free for others only when DPDK has let go of it.
        let mut claimed = claimed();
        let device = device_info(self.id).map(|info| info.device);
        // Nobody is left to hear of an error; DPDK has logged it.
        // SAFETY: the port is claimed, and as the last holder of the device is going, no queue
        // of it is polled any more. `rte_dev_remove` gets the device that the port
        // stood for, which the bus keeps until then.
        unsafe {
            sys::rte_eth_dev_stop(self.id);
            sys::rte_eth_dev_close(self.id);
            if let Ok(device) = device {
                sys::rte_dev_remove(device);
            }
        }
        claimed.remove(&self.id);
    }
}

/// Attaches a device, which makes its ports.
fn probe(subject: &str, device: &CStr) -> Result<(), Error> {
    // Asked first: to rte_dev_probe an unknown name is a bad address.
    let known = device.to_str().is_ok_and(knows_device);
    if !known {
        return Err(Error::refused(
            subject,
            "no driver of DPDK knows such a device",
        ));
    }
    // SAFETY: a C string, which is copied.
    let ret = unsafe { sys::rte_dev_probe(device.as_ptr()) };
    check(subject, "rte_dev_probe", ret)
}

/// The first port of the device of that name.
fn find(name: &str) -> Option<u16> {
    ports().find(|&id| {
        let Ok(info) = device_info(id) else {
            return false;
        };
        if info.device.is_null() {
            return false;
        }
        // SAFETY: the device of an existing port; CLAIMED keeps others from removing it meanwhile.
        let device = unsafe { CStr::from_ptr(sys::rte_dev_name(info.device)) };
        device.to_bytes() == name.as_bytes()
    })
}

/// The ports that no other device (a bond, say) owns.
fn ports() -> impl Iterator<Item = u16> {
    let next = |from| {
        let nobody = u64::from(sys::RTE_ETH_DEV_NO_OWNER);
        // SAFETY: any number is allowed; the result is RTE_MAX_ETHPORTS at the end.
        let id = unsafe { sys::rte_eth_find_next_owned_by(from, nobody) };
        (id < u64::from(sys::RTE_MAX_ETHPORTS)).then_some(id as u16)
    };
    std::iter::successors(next(0), move |id| next(id + 1))
}

fn device_info(id: u16) -> Result<sys::rte_eth_dev_info, c_int> {
    let mut info = sys::rte_eth_dev_info::default();
    // SAFETY: an id that is not in use is an error; `info` is written before the call returns.
    let ret = unsafe { sys::rte_eth_dev_info_get(id, &mut info) };
    if ret < 0 { Err(ret) } else { Ok(info) }
}
