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
//! Only the stream's owner worker may call what writes; all accesses are relaxed.

use crate::headers::{Rtp, SeqNo};
use penstock_shm::record::Meter;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering::Relaxed};

/// A jump forward of at least this many packets is no loss but another sequence (RFC 3550, A.1).
const MAX_DROPOUT: u16 = 3000;

/// A packet less than this far behind is late (RFC 3550, A.1).
const MAX_MISORDER: u16 = 100;

/// `Meter::rtp_seen` while the last packet was in sequence.
const IN_SEQUENCE: u8 = 1;

/// `Meter::rtp_seen` after a jump: this bit and the low seven bits of the next number.
const JUMPED: u8 = 0x80;

/// Counts a packet of `bytes` octets of UDP payload that passed every check.
///
/// `rtp` is its RTP header, if it is RTP; `clock_mult` is [`Slot::clock_mult`]; without a clock the
/// jitter means nothing.
///
/// [`Slot::clock_mult`]: penstock_shm::record::Slot::clock_mult
#[inline(always)]
pub fn update(meter: &Meter, clock_mult: u32, now_ns: u64, bytes: usize, rtp: Option<Rtp<'_>>) {
    meter.packets.add(1);
    meter.bytes.add(bytes as u64);
    meter.last_seen_ns.set(now_ns);
    let Some(rtp) = rtp else { return };
    meter.payload_type.store(rtp.payload_type(), Relaxed);

    let seq = rtp.seq();
    let ext_seq = meter.ext_seq.load(Relaxed);
    let ahead = seq.ahead_of(SeqNo(ext_seq as u16));
    let transit = ticks(now_ns, clock_mult).wrapping_sub(rtp.timestamp());
    if meter.rtp_seen.load(Relaxed) == IN_SEQUENCE
        && meter.ssrc.load(Relaxed) == rtp.ssrc().0
        && ahead < MAX_DROPOUT
    {
        meter
            .ext_seq
            .store(ext_seq.wrapping_add(u32::from(ahead)), Relaxed);
    } else if !unusual(meter, rtp, ahead, transit) {
        return;
    }
    bump(&meter.received);
    jitter(meter, transit);
}

/// Counts a packet to this endpoint that was dropped.
#[inline]
pub fn count_dropped(meter: &Meter) {
    bump(&meter.dropped);
}

/// Packets lost of the present SSRC: expected less received (RFC 3550, A.3), 0 if duplicates
/// outweigh the loss.
pub fn lost(meter: &Meter) -> u32 {
    if meter.rtp_seen.load(Relaxed) == 0 {
        return 0;
    }
    let expected = meter
        .ext_seq
        .load(Relaxed)
        .wrapping_sub(meter.base_seq.load(Relaxed))
        .wrapping_add(1);
    expected.saturating_sub(meter.received.load(Relaxed))
}

/// Packets lost at this endpoint, of all its SSRCs.
pub fn lost_total(meter: &Meter) -> u32 {
    meter.lost_before.load(Relaxed).saturating_add(lost(meter))
}

/// A new SSRC, a packet out of sequence, or one after such a packet. Says whether it is counted in
/// the sequence.
#[cold]
fn unusual(meter: &Meter, rtp: Rtp<'_>, ahead: u16, transit: u32) -> bool {
    let seq = rtp.seq();
    let seen = meter.rtp_seen.load(Relaxed);
    if seen == 0 || meter.ssrc.load(Relaxed) != rtp.ssrc().0 {
        restart(meter, rtp, transit);
        return true;
    }
    if ahead < MAX_DROPOUT || ahead > 0u16.wrapping_sub(MAX_MISORDER) {
        if ahead < MAX_DROPOUT {
            add(&meter.ext_seq, u32::from(ahead));
        }
        meter.rtp_seen.store(IN_SEQUENCE, Relaxed);
        return true;
    }
    if seen == JUMPED | seq.0 as u8 {
        restart(meter, rtp, transit);
        return true;
    }
    meter
        .rtp_seen
        .store(JUMPED | seq.0.wrapping_add(1) as u8, Relaxed);
    false
}

/// Begins a sequence with this packet.
fn restart(meter: &Meter, rtp: Rtp<'_>, transit: u32) {
    let seq = u32::from(rtp.seq().0);
    meter.lost_before.store(lost_total(meter), Relaxed);
    meter.ssrc.store(rtp.ssrc().0, Relaxed);
    meter.ext_seq.store(seq, Relaxed);
    meter.base_seq.store(seq, Relaxed);
    meter.received.store(0, Relaxed);
    meter.jitter_q4.store(0, Relaxed);
    meter.transit.store(transit, Relaxed);
    meter.rtp_seen.store(IN_SEQUENCE, Relaxed);
}

/// RFC 3550, A.8, in integers: the estimate is kept times sixteen. Without a clock it means nothing.
/// A difference is cut to 2^27, hours of any clock, so that sixteen of them fit.
#[inline(always)]
fn jitter(meter: &Meter, transit: u32) {
    let difference = transit.wrapping_sub(meter.transit.load(Relaxed)) as i32;
    meter.transit.store(transit, Relaxed);
    let old = meter.jitter_q4.load(Relaxed);
    let difference = difference.unsigned_abs().min(1 << 27);
    let new = old
        .wrapping_add(difference)
        .wrapping_sub(old.wrapping_add(8) >> 4);
    meter.jitter_q4.store(new, Relaxed);
}

/// Time in RTP clock units, modulo 2^32.
#[inline(always)]
fn ticks(now_ns: u64, clock_mult: u32) -> u32 {
    ((u128::from(now_ns) * u128::from(clock_mult)) >> 32) as u32
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
