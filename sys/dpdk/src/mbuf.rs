//! One packet in the memory of a pool.

use std::fmt;
use std::ops::Range;
use std::ptr::NonNull;
use std::slice;

use penstock_dpdk_sys as sys;

/// Bytes before a packet that [`Mbuf::with_headroom_mut`] lends: a fresh packet has twice as many.
pub const HEADROOM: usize = 64;

// An mbuf whose start was moved back to offset 0 can lend its headroom once more.
const _: () = assert!(sys::RTE_PKTMBUF_HEADROOM as usize >= 2 * HEADROOM);

/// What the port found out about a checksum of a received packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checksum {
    /// Nothing: the caller has to compute it.
    Unknown,
    /// It is right.
    Good,
    /// It is wrong.
    Bad,
}

/// An owned packet. Dropping it gives it back to its pool, on whatever thread.
///
/// A driver chains what is larger than a buffer of the pool: see [`Mbuf::is_chained`].
#[repr(transparent)]
pub struct Mbuf(
    // Invariant: from a pool or a driver, a reference count of 1, and ours alone.
    NonNull<sys::rte_mbuf>,
);

/// That a packet lies in its buffer as the first of its burst does: at the same offset, in one segment.
#[derive(Clone, Copy, Debug)]
pub struct Alike {
    /// See [`Mbuf::place`].
    word: u64,
    data_off: usize,
}

impl Alike {
    /// Like no packet: those have a reference count of 1.
    pub(crate) const NONE: Alike = Alike {
        word: 0,
        data_off: 0,
    };

    /// To this packet.
    #[inline]
    pub(crate) fn to(mbuf: &Mbuf) -> Alike {
        if mbuf.is_chained() {
            return Alike::NONE;
        }
        Alike {
            word: mbuf.place(),
            data_off: usize::from(mbuf.raw().data_off),
        }
    }
}

// SAFETY: an Mbuf is the only reference to its packet, and its pool can be given it back
// by any thread: a cache of the pool is touched by its own lcore only, chosen by a
// thread-local number, and the pool's ring is for several producers.
unsafe impl Send for Mbuf {}
// SAFETY: through a shared reference the packet is only read.
unsafe impl Sync for Mbuf {}

impl Mbuf {
    /// From a fresh mbuf to its packet, bytes: pools have no private area here.
    pub(crate) const FRESH_DATA: usize =
        size_of::<sys::rte_mbuf>() + sys::RTE_PKTMBUF_HEADROOM as usize;

    /// # Safety
    ///
    /// `mbuf` is valid, has a reference count of 1, and nobody else uses it from now on.
    #[inline]
    pub(crate) unsafe fn from_raw(mbuf: NonNull<sys::rte_mbuf>) -> Self {
        Self(mbuf)
    }

    #[inline]
    fn raw(&self) -> &sys::rte_mbuf {
        // SAFETY: valid and unshared (the type's invariant); only `&mut self` writes to it.
        unsafe { self.0.as_ref() }
    }

    #[inline]
    fn raw_mut(&mut self) -> &mut sys::rte_mbuf {
        // SAFETY: valid and ours alone (the type's invariant).
        unsafe { self.0.as_mut() }
    }

    /// Whether a driver chained the packet of several segments, because it is larger than a buffer of
    /// the pool. Then [`frame`](Self::frame) is its first part, and nothing is left to do with it but to
    /// drop it.
    #[inline]
    pub fn is_chained(&self) -> bool {
        self.raw().nb_segs != 1
    }

    /// `data_off`, `refcnt` and `nb_segs` in one. Not the port behind them: a bond's packets have their member's.
    #[inline(always)]
    fn place(&self) -> u64 {
        // SAFETY: the marker stands in front of four fields of 16 bits, 8 bytes that belong to the mbuf
        // (bindgen's layout tests), aligned to 8; the mbuf is ours (the type's invariant).
        let word = unsafe {
            (&raw const (*self.0.as_ptr()).rearm_data)
                .cast::<u64>()
                .read()
        };
        word.to_le() << 16
    }

    /// As [`frame_mut`](Self::frame_mut), for a packet that is alike: sooner there.
    #[inline(always)]
    pub fn frame_if(&mut self, alike: Alike) -> Option<&mut [u8]> {
        if self.place() != alike.word {
            return None;
        }
        let data = self
            .raw()
            .buf_addr
            .cast::<u8>()
            .wrapping_add(alike.data_off);
        // SAFETY: as in `frame_mut`: `data_off` is part of what was compared.
        unsafe { Some(slice::from_raw_parts_mut(data, self.frame_len())) }
    }

    /// The packet from its Ethernet header on, without FCS.
    #[inline]
    pub fn frame(&self) -> &[u8] {
        // SAFETY: `data_len` bytes from `data_off` on lie inside the buffer (the driver's
        // contract, kept by the functions here), which is mapped, so initialised by the
        // kernel at least, and belongs to this mbuf alone.
        unsafe { slice::from_raw_parts(self.data(), self.frame_len()) }
    }

    /// As [`frame`](Self::frame), to write.
    #[inline]
    pub fn frame_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `frame`; `&mut self` makes it the only reference.
        unsafe { slice::from_raw_parts_mut(self.data(), self.frame_len()) }
    }

    /// The [`HEADROOM`] bytes before the frame and the frame: `[HEADROOM..]` is the frame.
    /// None if a driver left it less headroom.
    #[inline]
    pub fn with_headroom_mut(&mut self) -> Option<&mut [u8]> {
        if !self.has_headroom() {
            return None;
        }
        let len = HEADROOM + self.frame_len();
        // SAFETY: as in `frame_mut`; `data_off` is HEADROOM at least, so that the longer
        // slice begins inside the buffer too.
        unsafe { Some(slice::from_raw_parts_mut(self.data().sub(HEADROOM), len)) }
    }

    /// Makes the frame begin at that offset of the slice which
    /// [`with_headroom_mut`](Self::with_headroom_mut) lends: below [`HEADROOM`] it grows, above it
    /// shrinks. An offset past the end leaves an empty frame. Where that slice is
    /// None, nothing changes.
    #[inline]
    pub fn set_start(&mut self, new_start: usize) {
        if !self.has_headroom() {
            return;
        }
        let raw = self.raw_mut();
        let end = HEADROOM + usize::from(raw.data_len);
        let start = new_start.min(end);
        // Neither sum wraps: `data_off` >= HEADROOM, and `data_off + data_len` is a u16.
        raw.data_off = (usize::from(raw.data_off) - HEADROOM + start) as u16;
        raw.data_len = (end - start) as u16;
        raw.pkt_len = u32::from(raw.data_len);
    }

    /// Makes the frame that part of the slice which [`with_headroom_mut`](Self::with_headroom_mut)
    /// lends. A part beyond the slice is cut to it; where that slice is None, nothing changes.
    #[inline]
    pub fn set_range(&mut self, range: Range<usize>) {
        self.set_start(range.start);
        self.truncate(range.end.saturating_sub(range.start));
    }

    /// Shortens the frame to `len` bytes, if it is longer.
    #[inline]
    pub fn truncate(&mut self, len: usize) {
        let raw = self.raw_mut();
        if len < usize::from(raw.data_len) {
            raw.data_len = len as u16;
            raw.pkt_len = u32::from(raw.data_len);
        }
    }

    /// Adds `len` bytes of undefined content at the end of the frame and lends them; None, and
    /// nothing changed, if they do not fit.
    #[inline]
    pub fn append(&mut self, len: usize) -> Option<&mut [u8]> {
        let old_len = self.frame_len();
        let raw = self.raw_mut();
        let room = usize::from(raw.buf_len) - usize::from(raw.data_off) - usize::from(raw.data_len);
        if len > room {
            return None;
        }
        raw.data_len = (old_len + len) as u16;
        raw.pkt_len = u32::from(raw.data_len);
        Some(&mut self.frame_mut()[old_len..])
    }

    /// Makes `bytes` the frame. False, and nothing changed, if they do not fit.
    #[inline]
    #[must_use]
    pub fn set_data(&mut self, bytes: &[u8]) -> bool {
        let raw = self.raw_mut();
        if bytes.len() > usize::from(raw.buf_len) - usize::from(raw.data_off) {
            return false;
        }
        raw.data_len = bytes.len() as u16;
        raw.pkt_len = u32::from(raw.data_len);
        self.frame_mut().copy_from_slice(bytes);
        true
    }

    /// What the port says of the IPv4 header checksum, as the packet was received.
    #[inline]
    pub fn rx_ip_checksum(&self) -> Checksum {
        match self.raw().ol_flags & sys::PENSTOCK_RX_IP_CKSUM_MASK {
            sys::PENSTOCK_RX_IP_CKSUM_GOOD => Checksum::Good,
            sys::PENSTOCK_RX_IP_CKSUM_BAD => Checksum::Bad,
            _ => Checksum::Unknown,
        }
    }

    /// What the port says of the UDP checksum, as the packet was received.
    #[inline]
    pub fn rx_udp_checksum(&self) -> Checksum {
        match self.raw().ol_flags & sys::PENSTOCK_RX_L4_CKSUM_MASK {
            sys::PENSTOCK_RX_L4_CKSUM_GOOD => Checksum::Good,
            sys::PENSTOCK_RX_L4_CKSUM_BAD => Checksum::Bad,
            _ => Checksum::Unknown,
        }
    }

    #[inline]
    fn data(&self) -> *mut u8 {
        let raw = self.raw();
        let offset = usize::from(raw.data_off);
        // The offset lies inside the buffer, but a wrapping one needs no proof.
        raw.buf_addr.cast::<u8>().wrapping_add(offset)
    }

    #[inline]
    fn frame_len(&self) -> usize {
        usize::from(self.raw().data_len)
    }

    #[inline]
    fn has_headroom(&self) -> bool {
        usize::from(self.raw().data_off) >= HEADROOM
    }
}

impl Drop for Mbuf {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: valid and ours alone (the type's invariant), and not used again.
        unsafe { sys::rte_pktmbuf_free(self.0.as_ptr()) }
    }
}

impl fmt::Debug for Mbuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mbuf")
            .field("len", &self.frame_len())
            .finish()
    }
}
