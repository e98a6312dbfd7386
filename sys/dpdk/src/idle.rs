//! What a worker without packets waits by: a receive queue's interrupt, or a processor that watches
//! the memory that the NIC will write.

use std::os::fd::{BorrowedFd, RawFd};
use std::sync::LazyLock;

use penstock_dpdk_sys as sys;

/// Where a receive queue's interrupt is heard.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Interrupt {
    fd: RawFd,
    /// An eventfd, which stays readable until it is read: drivers of other kinds see to that themselves.
    is_counter: bool,
}

impl Interrupt {
    /// The queue's, if its driver has one that can be waited for with poll(2).
    pub(crate) fn of(port: u16, queue: u16) -> Option<Interrupt> {
        // A driver without interrupts is no news: silent while we ask.
        let _quiet = Quiet::begin();
        // SAFETY: the port is started; where the driver has none, the result is negative.
        let fd = unsafe { sys::rte_eth_dev_rx_intr_ctl_q_get_fd(port, queue) };
        if fd < 0 {
            return None;
        }
        let target = std::fs::read_link(format!("/proc/self/fd/{fd}")).ok()?;
        let target = target.to_str()?;
        // UIO's wants a read and a write of its own kind.
        (!target.starts_with("/dev/uio")).then_some(Interrupt {
            fd,
            is_counter: target == "anon_inode:[eventfd]",
        })
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the driver keeps the descriptor open while the port is started, and the queue that holds
        // this value keeps the port so.
        unsafe { BorrowedFd::borrow_raw(self.fd) }
    }

    /// Forgets interrupts that have come.
    pub(crate) fn drain(&self) {
        if self.is_counter {
            // VFIO's eventfds do not block.
            let _ = rustix::io::read(self.fd(), &mut [0; 8]);
        }
    }

    /// From now on packets make the descriptor readable. A driver without the call always does so.
    pub(crate) fn enable(port: u16, queue: u16) {
        // SAFETY: a queue of a started port, used by its owner alone.
        unsafe { sys::rte_eth_dev_rx_intr_enable(port, queue) };
    }

    pub(crate) fn disable(port: u16, queue: u16) {
        // SAFETY: as above.
        unsafe { sys::rte_eth_dev_rx_intr_disable(port, queue) };
    }
}

/// While it lives, ethdev logs only what is critical.
struct Quiet(i32);

impl Quiet {
    fn begin() -> Quiet {
        // SAFETY: the log type's number is set before main() and never changes.
        let level = unsafe { sys::rte_log_get_level(sys::rte_eth_dev_logtype as u32) };
        Quiet::set(sys::RTE_LOG_CRIT);
        Quiet(level)
    }

    fn set(level: u32) {
        // SAFETY: as above; a level is a plain number.
        unsafe { sys::rte_log_set_level(sys::rte_eth_dev_logtype as u32, level) };
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        Quiet::set(u32::try_from(self.0).unwrap_or(sys::RTE_LOG_WARNING));
    }
}

/// Whether the processor can wait for a write to memory (umwait).
static CAN_MONITOR: LazyLock<bool> = LazyLock::new(|| {
    let mut can = sys::rte_cpu_intrinsics::default();
    // SAFETY: `can` is written before the call returns.
    unsafe { sys::rte_cpu_get_intrinsics_support(&mut can) };
    can.power_monitor() != 0
});

/// What the processor has to watch to see the queue's next packet, if processor and driver can.
pub(crate) fn monitor_of(port: u16, queue: u16) -> bool {
    let _quiet = Quiet::begin();
    let mut condition = sys::rte_power_monitor_cond::default();
    // SAFETY: a queue of a started port; `condition` is written before the call returns.
    *CAN_MONITOR && unsafe { sys::rte_eth_get_monitor_addr(port, queue, &mut condition) == 0 }
}

/// Halts the processor until the queue's next packet is written, `until_tsc` has come, or it feels like it.
pub(crate) fn monitor(port: u16, queue: u16, until_tsc: u64) {
    let mut condition = sys::rte_power_monitor_cond::default();
    // SAFETY: a queue of a started port, polled by its owner alone; `condition` is written before the
    // first call returns, and names memory of the queue, which stays while the port is started.
    unsafe {
        if sys::rte_eth_get_monitor_addr(port, queue, &mut condition) == 0 {
            sys::rte_power_monitor(&condition, until_tsc);
        }
    }
}
