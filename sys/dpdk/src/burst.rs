//! Packets in numbers: what is received at once, and what is sent at once.

use std::fmt;
use std::mem::{self, MaybeUninit};
use std::ops::{Deref, DerefMut};
use std::slice;

use penstock_dpdk_sys as sys;

use crate::cpu::prefetch_address;
use crate::mbuf::{Alike, Mbuf};

/// How many packets before its turn the first line of a packet is asked for.
const AHEAD: usize = 6;

/// What a slot holds that never held a packet: memory to be asked for in vain. For an address that is not mapped
/// the processor would walk the page tables, each time anew.
const NO_PACKET: MaybeUninit<Mbuf> = {
    static NOTHING: [u8; Mbuf::FRESH_DATA + 1] = [0; Mbuf::FRESH_DATA + 1];
    // SAFETY: an Mbuf is one pointer; this one is never taken for a packet (the invariant of Burst).
    unsafe { mem::transmute::<&[u8; Mbuf::FRESH_DATA + 1], MaybeUninit<Mbuf>>(&NOTHING) }
};

/// Up to [`CAPACITY`](Burst::CAPACITY) owned packets, in order: a slice of [`Mbuf`]s.
/// What it still holds when it is dropped goes back to its pools, in one call.
pub struct Burst {
    // Invariant: `len <= CAPACITY`, and the first `len` slots hold packets. The others hold some pointer, which
    // nobody follows: where a packet was, or NO_PACKET.
    slots: [MaybeUninit<Mbuf>; Burst::CAPACITY + AHEAD],
    len: usize,
}

impl Burst {
    /// How many packets fit.
    pub const CAPACITY: usize = 64;

    /// An empty burst.
    #[inline]
    pub const fn new() -> Self {
        Self {
            slots: [NO_PACKET; Self::CAPACITY + AHEAD],
            len: 0,
        }
    }

    /// Adds a packet at the end; gives it back if the burst is full.
    #[inline]
    pub fn push(&mut self, mbuf: Mbuf) -> Result<(), Mbuf> {
        if self.len == Self::CAPACITY {
            return Err(mbuf);
        }
        self.slots[self.len].write(mbuf);
        self.len += 1;
        Ok(())
    }

    /// Takes the packets out by value, first to last. Those that the iterator was not asked
    /// for are freed with it.
    #[inline]
    pub fn drain(&mut self) -> Drain<'_> {
        // From here on the iterator owns them: one that is forgotten leaks, no more.
        let len = mem::take(&mut self.len);
        Drain {
            burst: self,
            next: 0,
            len,
        }
    }

    /// Frees all packets, in one call.
    #[inline]
    pub fn clear(&mut self) {
        let len = mem::take(&mut self.len);
        self.free(0, len);
    }

    /// Frees the slots `from..to`, which are initialised and no longer counted by `len`.
    #[inline]
    fn free(&mut self, from: usize, to: usize) {
        if let Some(slots) = self.slots.get_mut(from..to)
            && !slots.is_empty()
        {
            // SAFETY: an Mbuf is one pointer to a packet that is ours alone (both invariants);
            // each is freed once, since `len` no longer counts it. At most 64 fit a c_uint.
            unsafe { sys::rte_pktmbuf_free_bulk(slots.as_mut_ptr().cast(), slots.len() as u32) }
        }
    }

    /// Lets `fill` write packets behind the last one: it is given where, and how many of the
    /// `max` asked for there is room for.
    ///
    /// # Safety
    ///
    /// `fill` returns how many valid, unshared mbufs it wrote there, no more than it was allowed; behind them it
    /// writes pointers or nothing.
    #[inline]
    pub(crate) unsafe fn fill(
        &mut self,
        max: usize,
        fill: impl FnOnce(*mut *mut sys::rte_mbuf, u16) -> u16,
    ) -> usize {
        let free = &mut self.slots[self.len..Self::CAPACITY];
        let room = free.len().min(max) as u16;
        let got = usize::from(fill(free.as_mut_ptr().cast(), room));
        self.len += got;
        got
    }

    /// What the packets have in common with the first that is not chained: see [`Alike`].
    #[inline]
    pub fn alike(&self) -> Alike {
        let first = self.iter().find(|mbuf| !mbuf.is_chained());
        first.map_or(Alike::NONE, Alike::to)
    }

    /// Offers all packets to `consume`, which takes the first ones; frees the others.
    /// Returns how many were taken.
    ///
    /// # Safety
    ///
    /// `consume` returns how many, from the first on, it has taken over.
    #[inline]
    pub(crate) unsafe fn consume(
        &mut self,
        consume: impl FnOnce(*mut *mut sys::rte_mbuf, u16) -> u16,
    ) -> usize {
        let len = mem::take(&mut self.len);
        let taken = usize::from(consume(self.slots.as_mut_ptr().cast(), len as u16));
        self.free(taken, len);
        taken
    }
}

impl Default for Burst {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Burst {
    #[inline]
    fn drop(&mut self) {
        self.clear();
    }
}

impl Deref for Burst {
    type Target = [Mbuf];

    #[inline]
    fn deref(&self) -> &[Mbuf] {
        // SAFETY: the first `len` slots are initialised (the type's invariant).
        unsafe { slice::from_raw_parts(self.slots.as_ptr().cast(), self.len) }
    }
}

impl DerefMut for Burst {
    #[inline]
    fn deref_mut(&mut self) -> &mut [Mbuf] {
        // SAFETY: the first `len` slots are initialised (the type's invariant).
        unsafe { slice::from_raw_parts_mut(self.slots.as_mut_ptr().cast(), self.len) }
    }
}

impl fmt::Debug for Burst {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// The packets of a [`Burst`], by value: see [`Burst::drain`].
#[derive(Debug)]
pub struct Drain<'a> {
    burst: &'a mut Burst,
    // Invariant: the slots `next..len` are initialised, and owned by the iterator.
    next: usize,
    len: usize,
}

impl Iterator for Drain<'_> {
    type Item = Mbuf;

    #[inline]
    fn next(&mut self) -> Option<Mbuf> {
        if self.next == self.len {
            return None;
        }
        // SAFETY: `next < len <= CAPACITY`, the slot is initialised (the type's invariant),
        // and is left behind by the next line.
        let mbuf = unsafe { self.burst.slots.get_unchecked(self.next).assume_init_read() };
        self.next += 1;
        Some(mbuf)
    }

    #[inline]
    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.len - self.next;
        (left, Some(left))
    }
}

impl ExactSizeIterator for Drain<'_> {}

impl Drop for Drain<'_> {
    #[inline]
    fn drop(&mut self) {
        self.burst.free(self.next, self.len);
    }
}

/// What is noted of a packet: see [`PerPacket`].
pub trait Note {
    /// A part that may borrow from the packet.
    type Borrowed<'p>;
    /// A part that is still there when the packet is gone.
    type Kept;
}

/// The value of a packet, if it has one.
type Noted<'p, N> = Option<(<N as Note>::Borrowed<'p>, <N as Note>::Kept)>;

/// Room for a value of each packet of a [`Burst`].
pub struct PerPacket<N: Note> {
    // Invariant: the first `len` were written. Their borrowed parts may be of packets that are gone.
    values: [MaybeUninit<Noted<'static, N>>; Burst::CAPACITY],
    len: usize,
}

impl<N: Note> PerPacket<N> {
    /// Without any value yet.
    #[inline(always)]
    pub const fn new() -> Self {
        const { assert!(!mem::needs_drop::<Noted<'static, N>>()) };
        Self {
            values: [const { MaybeUninit::uninit() }; Burst::CAPACITY],
            len: 0,
        }
    }

    /// The part that was kept of a packet of the burst last seen, by its number there.
    pub fn kept(&self, at: usize) -> Option<&N::Kept> {
        let value = self.values.get(..self.len)?.get(at)?.as_ptr();
        // SAFETY: it was written (the invariant), and what `fill` gave out is no longer used while `self` is borrowed. No
        // more is read than whether there is a value, perhaps by the bits of its borrowed part, and where: that part is not
        // taken for a reference.
        unsafe {
            match *value {
                Some((_, ref kept)) => Some(kept),
                None => None,
            }
        }
    }

    /// What `value` makes of each packet and its number in the burst, in order. Asks for the packets' first lines, each
    /// some packets before its turn.
    #[inline(always)]
    pub fn fill<'p>(
        &mut self,
        burst: &'p mut Burst,
        mut value: impl FnMut(usize, &'p mut Mbuf) -> Noted<'p, N>,
    ) -> &mut [Noted<'p, N>] {
        let len = burst.len;
        let mut packet = burst.slots.as_mut_ptr().cast::<Mbuf>();
        let start = packet.addr();
        let first = self.values.as_mut_ptr().cast::<Noted<'p, N>>();
        let mut to = first;
        let ask = |slot: *mut Mbuf| {
            // SAFETY: `slot` is one of the burst's, which all hold a pointer (its invariant). It is not followed.
            let mbuf = unsafe { slot.cast::<*const u8>().read() };
            prefetch_address(mbuf.wrapping_add(Mbuf::FRESH_DATA));
        };
        (0..AHEAD).for_each(|i| ask(packet.wrapping_add(i)));
        let end = packet.wrapping_add(len);
        // Two loops, so that the inner one falls through its checks: packets without a value are rare.
        while packet < end {
            while packet < end {
                // `packet` is below `end`, so AHEAD slots follow.
                ask(packet.wrapping_add(AHEAD));
                let number = (packet.addr() - start) / size_of::<Mbuf>();
                // SAFETY: one of the first `len` slots: a packet, borrowed from the burst for 'p, each once.
                let Some(value) = value(number, unsafe { &mut *packet }) else {
                    break;
                };
                // SAFETY: `to` goes with `packet`, and there is room for CAPACITY.
                unsafe { to.write(Some(value)) };
                packet = packet.wrapping_add(1);
                to = to.wrapping_add(1);
            }
            if packet < end {
                // SAFETY: as above.
                unsafe { to.write(None) };
                packet = packet.wrapping_add(1);
                to = to.wrapping_add(1);
            }
        }
        self.len = len;
        // SAFETY: each of the first `len` was written. Types that differ in a lifetime alone are laid out alike.
        unsafe { slice::from_raw_parts_mut(first, len) }
    }
}

impl<N: Note> Default for PerPacket<N> {
    fn default() -> Self {
        Self::new()
    }
}

/// Packets on their way to one queue, in order, to be sent at once.
#[derive(Debug, Default)]
pub struct TxBatch(Burst);

impl TxBatch {
    /// How many packets fit.
    pub const CAPACITY: usize = Burst::CAPACITY;

    /// An empty batch.
    #[inline]
    pub const fn new() -> Self {
        Self(Burst::new())
    }

    /// Adds a packet at the end; gives it back if the batch is full, or the packet chained. Its frame should be 60
    /// bytes at least: not every driver pads.
    #[inline]
    pub fn push(&mut self, mbuf: Mbuf) -> Result<(), Mbuf> {
        if mbuf.is_chained() {
            return Err(mbuf);
        }
        self.0.push(mbuf)
    }

    /// How many packets it holds.
    #[inline]
    pub fn len(&self) -> usize {
        self.0.len
    }

    /// Whether it holds none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.0.len == 0
    }

    /// As [`Burst::consume`].
    ///
    /// # Safety
    ///
    /// As there.
    #[inline]
    pub(crate) unsafe fn consume(
        &mut self,
        consume: impl FnOnce(*mut *mut sys::rte_mbuf, u16) -> u16,
    ) -> usize {
        // SAFETY: the caller's promise, handed on.
        unsafe { self.0.consume(consume) }
    }
}
