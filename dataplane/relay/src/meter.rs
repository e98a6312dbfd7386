//! What passed at an endpoint, by RFC 3550, appendix A.
//!
//! Three simplifications, for a relay is no receiver:
//! * A source is metered from its first packet; there is no probation (A.1), because its packets are
//!   relayed from the first.
//! * A packet far outside the sequence is relayed and counted in `packets`, but joins the sequence only
//!   when the next one follows it: then the source has restarted, and is metered like a new one.
//!   Of the awaited number seven bits are kept.
//! * A new SSRC or a restart carries the loss so far to `lost_before`.
//!
//! Only the stream's owner worker may call what writes; accesses are relaxed where no partner is named.
//! Packets of a stream that come in one burst are metered in their order, but for those with an extension,
//! contributing sources, another link header or another place in its buffer than the stream's plain ones: they
//! come last.

use crate::headers::{Rtp, SeqNo};
use penstock_shm::record::{Last, Meter};
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering::Relaxed, Ordering::Release};

/// A jump forward of at least this many packets is no loss but another sequence (RFC 3550, A.1).
const MAX_DROPOUT: u16 = 3000;

/// A packet less than this far behind is late (RFC 3550, A.1).
const MAX_MISORDER: u16 = 100;

/// A change of transit beyond this, hours of any clock, is cut to it: sixteen of them fit.
const MAX_DIFFERENCE: u32 = 1 << 27;

/// [`Last::seen`] after a jump: this bit and the low seven bits of the next number.
const JUMPED: u8 = 0x80;

/// Counts a packet of `bytes` octets of UDP payload that passed every check.
///
/// `rtp` is its RTP header, if it is RTP; `clock_mult` is [`Slot::clock_mult`]; without a clock the
/// jitter means nothing.
///
/// [`Slot::clock_mult`]: penstock_shm::record::Slot::clock_mult
pub fn update(meter: &Meter, clock_mult: u32, now_ns: u64, bytes: usize, rtp: Option<Rtp<'_>>) {
    count(meter, now_ns, bytes);
    let Some(rtp) = rtp else {
        return one_apart(meter);
    };
    let transit = transit(clock_mult, now_ns, rtp);
    let seen = sequence(meter, rtp, transit);
    let last = meter.last().after(rtp.payload_type(), seen);
    meter.last.store(last.to_bits(), Relaxed);
    if seen == Last::IN_SEQUENCE {
        let difference = difference(meter, transit).min(MAX_DIFFERENCE);
        jitter(meter, transit, difference);
    } else {
        one_apart(meter);
    }
}

/// As [`update`], for a packet that goes on with its stream's sequence. False, and nothing counted, for
/// any other. `guard` is that of the worker that asks.
#[inline(always)]
pub(crate) fn follow(
    meter: &Meter,
    clock_mult: u32,
    now_ns: u64,
    bytes: usize,
    rtp: Rtp<'_>,
    guard: Last,
) -> bool {
    if meter.last.load(Relaxed) != guard.expected(rtp.first_word())
        || meter.ssrc.load(Relaxed) != rtp.ssrc_word()
    {
        return false;
    }
    let ext_seq = meter.ext_seq.load(Relaxed);
    let ahead = rtp.seq().ahead_of(SeqNo(ext_seq as u16));
    if ahead >= MAX_DROPOUT {
        return false;
    }
    let transit = transit(clock_mult, now_ns, rtp);
    let difference = difference(meter, transit);
    if difference > MAX_DIFFERENCE {
        return false;
    }
    meter
        .ext_seq
        .store(ext_seq.wrapping_add(u32::from(ahead)), Relaxed);
    jitter(meter, transit, difference);
    count(meter, now_ns, bytes);
    true
}

#[inline(always)]
fn count(meter: &Meter, now_ns: u64, bytes: usize) {
    meter.packets.add(1);
    meter.bytes.add(bytes as u64);
    meter.last_seen_ns.set(now_ns);
}

/// Counts a packet to this endpoint that was dropped.
#[inline]
pub fn count_dropped(meter: &Meter) {
    bump(&meter.dropped);
}

/// Packets lost of the present SSRC: expected less received (RFC 3550, A.3), 0 if duplicates
/// outweigh the loss.
pub fn lost(meter: &Meter) -> u32 {
    if meter.last().seen() == 0 {
        return 0;
    }
    let expected = meter
        .ext_seq
        .load(Relaxed)
        .wrapping_sub(meter.base_seq.load(Relaxed))
        .wrapping_add(1);
    expected.saturating_sub(meter.received())
}

/// Packets lost at this endpoint, of all its SSRCs.
pub fn lost_total(meter: &Meter) -> u32 {
    meter.lost_before.load(Relaxed).saturating_add(lost(meter))
}

/// Finds the packet's place in the sequence: what [`Last::seen`] is after it. It is counted already.
fn sequence(meter: &Meter, rtp: Rtp<'_>, transit: u32) -> u8 {
    let seq = rtp.seq();
    let seen = meter.last().seen();
    if seen == 0 || meter.ssrc.load(Relaxed) != rtp.ssrc_word() {
        restart(meter, rtp, transit);
        return Last::IN_SEQUENCE;
    }
    let ahead = seq.ahead_of(SeqNo(meter.ext_seq.load(Relaxed) as u16));
    if ahead < MAX_DROPOUT {
        add(&meter.ext_seq, u32::from(ahead));
        return Last::IN_SEQUENCE;
    }
    if ahead > 0u16.wrapping_sub(MAX_MISORDER) {
        return Last::IN_SEQUENCE;
    }
    if seen == JUMPED | seq.0 as u8 {
        restart(meter, rtp, transit);
        return Last::IN_SEQUENCE;
    }
    JUMPED | seq.0.wrapping_add(1) as u8
}

/// Begins a sequence with this packet.
fn restart(meter: &Meter, rtp: Rtp<'_>, transit: u32) {
    let seq = u32::from(rtp.seq().0);
    let before = (meter.packets.get() as u32).wrapping_sub(1);
    // The packet itself is not one of the sequence that ends.
    one_apart(meter);
    meter.lost_before.store(lost_total(meter), Relaxed);
    meter.ssrc.store(rtp.ssrc_word(), Relaxed);
    meter.ext_seq.store(seq, Relaxed);
    meter.base_seq.store(seq, Relaxed);
    meter.apart.store(before, Release);
    meter.jitter_q4.store(0, Relaxed);
    meter.transit.store(transit, Relaxed);
}

/// Relative transit time (RFC 3550, A.8) in RTP clock units, modulo 2^32.
#[inline(always)]
fn transit(clock_mult: u32, now_ns: u64, rtp: Rtp<'_>) -> u32 {
    // What the product loses beyond 64 bits is beyond 32 in the quotient.
    let ticks = now_ns.wrapping_mul(u64::from(clock_mult)) >> 32;
    (ticks as u32).wrapping_sub(rtp.timestamp())
}

/// How far the transit time is from that of the packet before.
#[inline(always)]
fn difference(meter: &Meter, transit: u32) -> u32 {
    let difference = transit.wrapping_sub(meter.transit.load(Relaxed)) as i32;
    difference.unsigned_abs()
}

/// RFC 3550, A.8, in integers: the estimate is kept times sixteen. Without a clock it means nothing.
#[inline(always)]
fn jitter(meter: &Meter, transit: u32, difference: u32) {
    meter.transit.store(transit, Relaxed);
    let old = meter.jitter_q4.load(Relaxed);
    let new = old
        .wrapping_add(difference)
        .wrapping_sub(old.wrapping_add(8) >> 4);
    meter.jitter_q4.store(new, Relaxed);
}

/// One more packet that is counted and not of the sequence.
fn one_apart(meter: &Meter) {
    let apart = meter.apart.load(Relaxed).wrapping_add(1);
    // Pairs with `Meter::received`.
    meter.apart.store(apart, Release);
}

#[inline(always)]
fn bump(counter: &AtomicU32) {
    add(counter, 1);
}

#[inline(always)]
fn add(counter: &AtomicU32, n: u32) {
    counter.store(counter.load(Relaxed).wrapping_add(n), Relaxed);
}

/// What [`Meter::latch_asked`] holds when a latch was requested for this slot version: never 0.
pub(crate) fn latch_mark(version: u32) -> u8 {
    (version % 255) as u8 + 1
}

/// Whether a latch was requested for this slot version.
pub(crate) fn latch_asked(asked: &AtomicU8, version: u32) -> bool {
    asked.load(Relaxed) == latch_mark(version)
}
