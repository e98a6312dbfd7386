//! What a poll loop asks of its processor.

#[cfg(not(target_arch = "x86_64"))]
use penstock_dpdk_sys as sys;

/// The time stamp counter, in cycles of [`tsc_hz`]. Not ordered with the instructions
/// around it; the same on all cores of the machines that DPDK supports.
#[inline]
pub fn tsc() -> u64 {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every x86-64 processor has the instruction, and it touches no memory.
    unsafe {
        core::arch::x86_64::_rdtsc()
    }
    #[cfg(not(target_arch = "x86_64"))]
    // SAFETY: reads a counter of the processor.
    unsafe {
        sys::rte_rdtsc()
    }
}

/// Cycles of [`tsc`] in a second; 0 before [`Eal::init`](crate::Eal::init).
#[inline]
pub fn tsc_hz() -> u64 {
    // SAFETY: reads a number that EAL sets once, when it is initialised.
    unsafe { penstock_dpdk_sys::rte_get_tsc_hz() }
}

/// Tells the processor that this is a polling loop.
#[inline]
pub fn pause() {
    core::hint::spin_loop();
}

/// Asks for the cache line of `address`, which need not be mapped.
#[inline]
pub(crate) fn prefetch_address(address: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: SSE is part of x86-64, and a prefetch of any address never faults.
    unsafe {
        use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(address.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    // SAFETY: a prefetch of any address never faults.
    unsafe {
        sys::rte_prefetch0(address.cast());
    }
}
