//! Where packets live.

use std::ptr::NonNull;

use penstock_dpdk_sys as sys;

use crate::burst::Burst;
use crate::eal::Eal;
use crate::error::{Error, c_string};
use crate::mbuf::Mbuf;

/// A pool of packet buffers. A handle: the pool itself is never freed, so that it outlives
/// every packet of it, wherever it is.
///
/// Any thread may allocate from it and free to it. Lcores do so through caches of their own,
/// if the pool has any. Other threads go to the pool's ring, where one that loses its CPU
/// in mid-operation stalls all others: let a thread that is not pinned allocate only from a
/// pool that no worker receives into, made with `cache` 0.
#[derive(Debug, Clone, Copy)]
pub struct MbufPool {
    pool: NonNull<sys::rte_mempool>,
    count: u32,
    data_room: u16,
}

// SAFETY: a pool may be used by several threads at once: a cache belongs to one lcore, and the
// ring behind is for several producers and consumers. It is never freed.
unsafe impl Send for MbufPool {}
// SAFETY: as above.
unsafe impl Sync for MbufPool {}

impl MbufPool {
    /// Makes a pool of `count` packets (best a power of two less one), each of up to
    /// `data_room` bytes (without the headroom, which is added); see
    /// [`PortConfig::data_room`](crate::PortConfig::data_room).
    ///
    /// `name` is unique, of at most 25 bytes. `cache` is how many free packets each lcore
    /// may keep to itself: 0 to 512, and at most two thirds of `count`. `socket` is the NUMA
    /// node, None for any.
    ///
    /// # Errors
    ///
    /// [`Error::Call`] if memory is short or a parameter out of range; [`Error::Refused`] if
    /// `data_room` and the headroom exceed 65,535 bytes.
    pub fn new(
        _eal: &Eal,
        name: &str,
        count: u32,
        cache: u32,
        data_room: u16,
        socket: Option<u32>,
    ) -> Result<Self, Error> {
        let subject = format!("pool {name}");
        let c_name = c_string(&subject, name)?;
        let size = data_room
            .checked_add(sys::RTE_PKTMBUF_HEADROOM as u16)
            .ok_or_else(|| Error::refused(&subject, "data_room is too large"))?;
        let socket = socket.map_or(ANY_SOCKET, |node| node as i32);
        // SAFETY: EAL is initialised (`_eal`), and the name is a C string that is copied.
        let pool =
            unsafe { sys::rte_pktmbuf_pool_create(c_name.as_ptr(), count, cache, 0, size, socket) };
        match NonNull::new(pool) {
            Some(pool) => Ok(Self {
                pool,
                count,
                data_room,
            }),
            None => Err(Error::from_errno(&subject, "rte_pktmbuf_pool_create")),
        }
    }

    /// A packet with an empty frame and full headroom; None if the pool is empty.
    #[inline]
    pub fn alloc(&self) -> Option<Mbuf> {
        // SAFETY: the pool is never freed.
        let mbuf = NonNull::new(unsafe { sys::rte_pktmbuf_alloc(self.pool.as_ptr()) })?;
        // SAFETY: fresh from the pool: valid, counted once, and nobody else's.
        Some(unsafe { Mbuf::from_raw(mbuf) })
    }

    /// As [`alloc`](Self::alloc), `count` packets behind those that `burst` holds, in one call. False, and nothing
    /// changed, if the pool has not as many or the burst no room for them.
    #[inline]
    #[must_use]
    pub fn alloc_burst(&self, burst: &mut Burst, count: usize) -> bool {
        if count > Burst::CAPACITY - burst.len() {
            return false;
        }
        // SAFETY: the pool is never freed. All of the `room` slots get fresh mbufs, valid and nobody else's, or none does.
        let got = unsafe {
            burst.fill(count, |slots, room| {
                let ret = sys::rte_pktmbuf_alloc_bulk(self.pool.as_ptr(), slots, room.into());
                if ret == 0 { room } else { 0 }
            })
        };
        got == count
    }

    /// Packets in the pool, free or not.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Bytes of packet that a buffer holds.
    pub fn data_room(&self) -> u16 {
        self.data_room
    }

    /// Packets that are out of the pool: held by the program, or by a driver. Walks over
    /// all caches, and is exact only while nobody uses the pool.
    pub fn in_use(&self) -> u32 {
        // SAFETY: the pool is never freed.
        unsafe { sys::rte_mempool_in_use_count(self.pool.as_ptr()) }
    }

    pub(crate) fn as_ptr(&self) -> *mut sys::rte_mempool {
        self.pool.as_ptr()
    }
}

/// SOCKET_ID_ANY, a macro that is not bound.
const ANY_SOCKET: i32 = -1;
