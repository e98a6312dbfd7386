//! What passed at an endpoint, by RFC 3550, appendix A.
//!
//! Three simplifications, for a relay is no receiver:
//! * A source is metered from its first packet; there is no probation (A.1), because its packets are
//!   relayed from the first.
//! * A packet far outside the sequence is relayed and counted in `packets`, but joins the sequence only
//!   when the next one follows it: then the source has restarted, and is metered like a new one.
//!   Of the awaited number seven bits are kept.
//! * A new SSRC or a restart carries the loss so far to `lost_before`, and likewise what was late or came twice.
//!   Twice means: it repeated the highest number. What is behind that one is late, though it may have come before.
//!
//! Only the stream's owner worker may call what writes; accesses are relaxed where no partner is named.
//! Packets of a stream that come in one burst are metered in their order, but for those with an extension,
//! contributing sources, another link header or another place in its buffer than the stream's plain ones: they
//! come last.

use crate::headers::{Rtp, SeqNo};
use penstock_shm::record::Slot;
use penstock_shm::tally::{Detail, Last, Meter, Tally, VARIATIONS};
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering::Relaxed, Ordering::Release};

/// A jump forward of at least this many packets is no loss but another sequence (RFC 3550, A.1).
const MAX_DROPOUT: u16 = 3000;

/// A packet less than this far behind is late (RFC 3550, A.1).
const MAX_MISORDER: u16 = 100;

/// A change of transit beyond this, hours of any clock, is cut to it: sixteen of them fit.
const MAX_DIFFERENCE: u32 = 1 << 27;

/// [`Last::seen`] after a jump: this bit and the low seven bits of the next number.
const JUMPED: u8 = 0x80;

/// What a packet that passed is.
#[derive(Clone, Copy, Debug)]
pub enum Content<'a> {
    /// RTP, with what follows the fixed header.
    Rtp(Rtp<'a>, &'a [u8]),
    /// RTCP.
    Rtcp,
    /// Neither.
    Other,
}

/// Counts a packet of `bytes` octets of UDP payload that passed every check.
pub fn update(tally: &Tally, slot: &Slot, now_ns: u64, bytes: usize, content: Content<'_>) {
    let Tally { meter, detail, .. } = tally;
    count(meter, now_ns, bytes);
    let (rtp, payload) = match content {
        Content::Rtp(rtp, payload) => (rtp, payload),
        Content::Rtcp => {
            bump(&tally.reports.rtcp);
            return one_apart(meter);
        }
        Content::Other => {
            bump(&detail.other);
            return one_apart(meter);
        }
    };
    let transit = transit(slot.clock_mult, now_ns, rtp);
    let seen = sequence(tally, rtp, transit);
    let is_event = slot.event_type != 0 && rtp.payload_type() == slot.event_type;
    let is_foreign = !negotiated(slot, rtp.payload_type());
    if is_event {
        event(tally, rtp, payload);
    }
    if is_foreign {
        bump(&detail.foreign);
    }
    let last = meter
        .last()
        .after(rtp.payload_type(), seen, !is_event && !is_foreign);
    meter.last.store(last.to_bits(), Relaxed);
    if seen == Last::IN_SEQUENCE {
        let difference = difference(meter, transit).min(MAX_DIFFERENCE);
        jitter(meter, transit, difference);
        varied(detail, slot.steady, difference);
    } else {
        one_apart(meter);
    }
}

/// Whether the stream may carry this payload type.
pub(crate) fn negotiated(slot: &Slot, payload_type: u8) -> bool {
    let [low, high] = slot.payload_types;
    let half = if payload_type < 64 { low } else { high };
    (low | high) == 0 || half >> (payload_type & 63) & 1 != 0
}

/// The least jitter worth a class, in ticks of the clock less one: [`Slot::steady`].
pub(crate) fn steady(clock_hz: u32) -> u32 {
    let ticks = clock_hz / 1000 * penstock_shm::tally::VARIATION_FROM_MS;
    if ticks == 0 {
        MAX_DIFFERENCE
    } else {
        ticks - 1
    }
}

fn varied(detail: &Detail, steady: u32, difference: u32) {
    if difference > steady {
        let class = (difference / (steady + 1)).ilog2() as usize;
        bump(&detail.variation[class.min(VARIATIONS - 1)]);
    }
}

/// A telephone event (RFC 4733, 2.3): its packets share a timestamp.
fn event(tally: &Tally, rtp: Rtp<'_>, payload: &[u8]) {
    let reports = &tally.reports;
    let is_known = reports.dtmf_last.load(Relaxed) != 0;
    let csrcs = 4 * usize::from(rtp.csrc_count());
    let Some(&code) = payload.get(csrcs).filter(|_| !rtp.has_extension()) else {
        return;
    };
    if is_known && reports.dtmf_at.load(Relaxed) == rtp.timestamp() {
        return;
    }
    bump(&reports.dtmf);
    reports.dtmf_at.store(rtp.timestamp(), Relaxed);
    reports.dtmf_last.store(256 | u32::from(code), Relaxed);
}

/// As [`update`], for a packet that goes on with its stream's sequence, the next one or the last one again, neither
/// policed nor far from its time. False, and nothing counted, for any other. `guard` is that of the worker that asks.
#[inline(always)]
pub(crate) fn follow(
    meter: &Meter,
    slot: &Slot,
    now_ns: u64,
    bytes: usize,
    rtp: Rtp<'_>,
    guard: Last,
) -> bool {
    if meter.last.load(Relaxed) != guard.expected(rtp.first_word())
        || meter.ssrc.load(Relaxed) != rtp.ssrc_word()
        || meter.packets.get() >= meter.allowed.get()
    {
        return false;
    }
    let ext_seq = meter.ext_seq.load(Relaxed);
    let ahead = rtp.seq().ahead_of(SeqNo(ext_seq as u16));
    if ahead > 1 {
        return false;
    }
    let transit = transit(slot.clock_mult, now_ns, rtp);
    let difference = difference(meter, transit);
    if difference > slot.steady {
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

/// Packets lost of the present SSRC: expected less received (RFC 3550, A.3), 0 if duplicates
/// outweigh the loss.
pub fn lost(tally: &Tally) -> u32 {
    let Tally { meter, detail, .. } = tally;
    if meter.last().seen() == 0 {
        return 0;
    }
    let expected = meter
        .ext_seq
        .load(Relaxed)
        .wrapping_sub(detail.base_seq.load(Relaxed))
        .wrapping_add(1);
    expected.saturating_sub(meter.received())
}

/// Packets lost at this endpoint, of all its SSRCs.
pub fn lost_total(tally: &Tally) -> u32 {
    let before = tally.detail.lost_before.load(Relaxed);
    before.saturating_add(lost(tally))
}

/// Finds the packet's place in the sequence: what [`Last::seen`] is after it. It is counted already.
fn sequence(tally: &Tally, rtp: Rtp<'_>, transit: u32) -> u8 {
    let Tally { meter, detail, .. } = tally;
    let seq = rtp.seq();
    let seen = meter.last().seen();
    if seen == 0 || meter.ssrc.load(Relaxed) != rtp.ssrc_word() {
        restart(tally, rtp, transit);
        return Last::IN_SEQUENCE;
    }
    let ahead = seq.ahead_of(SeqNo(meter.ext_seq.load(Relaxed) as u16));
    if ahead < MAX_DROPOUT {
        let skipped = u32::from(ahead.saturating_sub(1));
        add(&detail.skipped, skipped);
        raise(&detail.largest_gap, skipped);
        add(&meter.ext_seq, u32::from(ahead));
        return Last::IN_SEQUENCE;
    }
    if ahead > 0u16.wrapping_sub(MAX_MISORDER) {
        bump(&detail.late);
        return Last::IN_SEQUENCE;
    }
    if seen == JUMPED | seq.0 as u8 {
        restart(tally, rtp, transit);
        return Last::IN_SEQUENCE;
    }
    JUMPED | seq.0.wrapping_add(1) as u8
}

/// Begins a sequence with this packet.
fn restart(tally: &Tally, rtp: Rtp<'_>, transit: u32) {
    let Tally { meter, detail, .. } = tally;
    let seq = u32::from(rtp.seq().0);
    let before = (meter.packets.get() as u32).wrapping_sub(1);
    // The packet itself is not one of the sequence that ends.
    one_apart(meter);
    if meter.last().seen() != 0 {
        let duplicates = tally.duplicates(meter.received(), meter.ext_seq.load(Relaxed));
        add(&detail.duplicates_before, duplicates);
        add(&detail.late_before, detail.late.load(Relaxed));
    }
    detail.late.store(0, Relaxed);
    detail.skipped.store(0, Relaxed);
    detail.lost_before.store(lost_total(tally), Relaxed);
    meter.ssrc.store(rtp.ssrc_word(), Relaxed);
    meter.ext_seq.store(seq, Relaxed);
    detail.base_seq.store(seq, Relaxed);
    // Pairs with `Meter::received`: the packets before have been counted.
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
pub(crate) fn bump(counter: &AtomicU32) {
    add(counter, 1);
}

/// Keeps the greater of two.
pub(crate) fn raise(most: &AtomicU32, value: u32) {
    if value > most.load(Relaxed) {
        most.store(value, Relaxed);
    }
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
