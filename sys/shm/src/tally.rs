//! What is counted of a stream, a line of memory for each part. Written by the stream's owner worker alone,
//! with relaxed stores, but for [`Drops`]; readers check [`Head::generation`](crate::Head::generation) before and after.

use crate::counters::Drop;
use crate::sync::{AtomicU8, AtomicU32, AtomicU64, Ordering};

/// A counter with one writer: plain load and store, no locked instruction.
#[derive(Default)]
#[repr(transparent)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`. Only the counter's one writer may call it.
    #[inline(always)]
    pub fn add(&self, n: u64) {
        self.0.store(
            self.0.load(Ordering::Relaxed).wrapping_add(n),
            Ordering::Relaxed,
        );
    }

    /// The present value.
    #[inline(always)]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Sets the value. Only the counter's one writer may call it.
    #[inline(always)]
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }
}

/// Forgets what was counted.
trait Reset {
    fn reset(&self);
}

impl Reset for AtomicU8 {
    fn reset(&self) {
        self.store(0, Ordering::Relaxed);
    }
}

impl Reset for AtomicU32 {
    fn reset(&self) {
        self.store(0, Ordering::Relaxed);
    }
}

impl Reset for AtomicU64 {
    fn reset(&self) {
        self.store(0, Ordering::Relaxed);
    }
}

impl Reset for Counter {
    fn reset(&self) {
        self.set(0);
    }
}

impl<T: Reset, const N: usize> Reset for [T; N] {
    fn reset(&self) {
        self.iter().for_each(T::reset);
    }
}

macro_rules! parts {
    ($($(#[doc = $doc:literal])+ $name:ident { $($(#[doc = $fdoc:literal])+ $field:ident: $type:ty,)+ })+) => {
        $(
            $(#[doc = $doc])+
            #[derive(Default)]
            #[repr(C, align(64))]
            pub struct $name {
                $($(#[doc = $fdoc])+ pub $field: $type,)+
            }

            impl Reset for $name {
                fn reset(&self) {
                    $(self.$field.reset();)+
                }
            }
        )+
    };
}

/// Delay variations are counted from this on, ms; each class of [`Detail::variation`] is twice as wide as the one
/// before.
pub const VARIATION_FROM_MS: u32 = 20;

/// How many classes [`Detail::variation`] has: from 20, 40, 80, 160, 320, 640 and 1280 ms on.
pub const VARIATIONS: usize = 7;

/// How many SSRCs a stream is known by at a shared endpoint.
pub const SSRCS: usize = 4;

parts! {
    /// What every packet is counted in.
    Meter {
        /// Packets that passed every check. What happens to them then (no next hop, a full queue) is in [`Drops`] too.
        packets: Counter,
        /// Their UDP payload, octets.
        bytes: Counter,
        /// When the last one came, ns of CLOCK_MONOTONIC; 0 for never.
        last_seen_ns: Counter,
        /// How many `packets` may be reached before policing has to look again; 0 before the first packet. The
        /// steward sets it to 0 when it changes the policing.
        allowed: Counter,
        /// SSRC of the present source (RFC 3550, 5.1), as it lies in the packet: see [`Meter::ssrc`].
        ssrc: AtomicU32,
        /// Extended highest sequence number (RFC 3550, A.1).
        ext_seq: AtomicU32,
        /// How many of `packets` are not of this SSRC's sequence: what came before it, strays, RTCP.
        apart: AtomicU32,
        /// Interarrival jitter in RTP clock units, times 16 (RFC 3550, A.8).
        jitter_q4: AtomicU32,
        /// Relative transit time of the last packet, RTP clock units.
        transit: AtomicU32,
        /// The owner and what the last RTP packet was like: a [`Last`].
        last: AtomicU32,
        /// [`Slot::version`](crate::Slot::version) modulo 255, plus one, for which a latch was requested; 0 for none.
        latch_asked: AtomicU8,
    }
    /// What packets out of the ordinary are counted in.
    Detail {
        /// Extended sequence number the SSRC began with.
        base_seq: AtomicU32,
        /// Loss of this endpoint's former SSRCs.
        lost_before: AtomicU32,
        /// Packets of the present SSRC that were less than the highest one: late, out of order.
        late: AtomicU32,
        /// Sequence numbers of the present SSRC that were skipped when a higher one came; what is late afterwards
        /// stays in.
        skipped: AtomicU32,
        /// `late` and duplicates of former SSRCs.
        late_before: AtomicU32,
        /// See `late_before`.
        duplicates_before: AtomicU32,
        /// The most sequence numbers skipped at once, of all SSRCs.
        largest_gap: AtomicU32,
        /// Packets with a payload type that was not negotiated.
        foreign: AtomicU32,
        /// Packets that were neither RTP nor RTCP: STUN, DTLS, ZRTP.
        other: AtomicU32,
        /// RTP packets by how far their delay was from the packet's before (RFC 3550, A.8, the difference D), from
        /// [`VARIATION_FROM_MS`] on. What was less is all the others.
        variation: [AtomicU32; VARIATIONS],
    }
    /// What the packets say: RTCP reports (RFC 3550, 6.4) and DTMF events (RFC 4733).
    Reports {
        /// When the last sender report passed, ns of CLOCK_MONOTONIC; 0 for never.
        sender_report_ns: Counter,
        /// When the last report block came, ns of CLOCK_MONOTONIC; 0 for never.
        report_ns: Counter,
        /// The middle 32 bits of that sender report's NTP time.
        sender_report_ntp: AtomicU32,
        /// RTCP packets (datagrams).
        rtcp: AtomicU32,
        /// Report blocks read, of which the last one says the following about what this leg receives.
        blocks: AtomicU32,
        /// Fraction lost since the block before, in 256ths.
        fraction_lost: AtomicU32,
        /// Cumulative number of packets lost: a signed number of 24 bits.
        cumulative_lost: AtomicU32,
        /// Interarrival jitter in RTP clock units.
        jitter: AtomicU32,
        /// Round trip between the plane and this leg, us; 0 while unknown.
        rtt_us: AtomicU32,
        /// The greatest `rtt_us`.
        rtt_max_us: AtomicU32,
        /// RTCP BYE packets.
        byes: AtomicU32,
        /// DTMF events that began (RFC 4733).
        dtmf: AtomicU32,
        /// The last DTMF event's code in the lowest octet, plus 256; 0 for none.
        dtmf_last: AtomicU32,
        /// RTP timestamp of that event, which tells it from the next.
        dtmf_at: AtomicU32,
    }
    /// The last block of VoIP metrics that RTCP brought (RFC 3611, 4.7): what the leg says of the media it receives.
    Voip {
        /// When it came, ns of CLOCK_MONOTONIC; 0 for never.
        at_ns: Counter,
        /// How many came.
        blocks: AtomicU32,
        /// Packets lost on the way, 256ths.
        loss: AtomicU32,
        /// Packets that came too late to be played, 256ths.
        discard: AtomicU32,
        /// Round trip between the leg and the other end of its RTCP, ms.
        round_trip_ms: AtomicU32,
        /// Delay inside the leg, ms.
        end_system_ms: AtomicU32,
        /// R factor, 0 to 100; 127 if the leg does not say.
        r_factor: AtomicU32,
        /// MOS for listening quality, times 10; 127 if the leg does not say.
        mos_lq: AtomicU32,
        /// MOS for conversational quality, likewise.
        mos_cq: AtomicU32,
    }
    /// The stream's packets that were dropped, by reason. Counted by whoever drops one: its owner, the worker where it came
    /// in or that sends it, the steward.
    Drops {
        /// In the order of [`Drop::OF_STREAM`].
        by_reason: [AtomicU32; Drop::OF_STREAM.len()],
        /// Forks and shared endpoints: here because there is room on the line.
        fed: Fed,
    }
    /// The token buckets that police the stream (H.248.53: sustained rate with burst size, peak rate with tolerance).
    Bucket {
        /// When the packets and octets counted so far would have passed at the rates exactly, ns of CLOCK_MONOTONIC:
        /// packets at the sustained and at the peak rate, then octets.
        due_ns: [Counter; 4],
        /// [`Meter::packets`] at the last look.
        packets: Counter,
        /// [`Meter::bytes`] at the last look.
        bytes: Counter,
        /// When that was, ns of CLOCK_MONOTONIC; 0 for never.
        at_ns: Counter,
    }
}

/// What has to do with another stream's endpoint. Written by whichever worker has a packet of that endpoint: each
/// word stands for itself.
#[derive(Default)]
#[repr(C)]
pub struct Fed {
    /// UDP payload of `copied`, octets.
    pub copied_bytes: AtomicU64,
    /// Packets of the parent that were due to this stream, a copy of it. What became of a copy that did not leave is in
    /// [`Drops`].
    pub copied: AtomicU32,
    /// SSRCs that were seen to be this stream's, of those that share its parent's endpoint; 0 for none.
    pub ssrcs: [AtomicU32; SSRCS],
    /// How many were learned: the next one's place, modulo their number.
    pub learned: AtomicU32,
}

impl Reset for Fed {
    fn reset(&self) {
        let Fed {
            copied_bytes,
            copied,
            ssrcs,
            learned,
        } = self;
        copied_bytes.reset();
        copied.reset();
        ssrcs.reset();
        learned.reset();
    }
}

/// All of a stream's counters.
#[derive(Default)]
#[repr(C, align(64))]
pub struct Tally {
    /// Touched by every packet.
    pub meter: Meter,
    /// Sequence and variation.
    pub detail: Detail,
    /// What RTCP and DTMF said.
    pub reports: Reports,
    /// What VoIP metrics said.
    pub voip: Voip,
    /// Drops by reason.
    pub drops: Drops,
    /// Policing.
    pub bucket: Bucket,
}

impl Tally {
    /// Forgets everything. Steward only, while no worker can see the record.
    pub(crate) fn reset(&self) {
        let Tally {
            meter,
            detail,
            reports,
            voip,
            drops,
            bucket,
        } = self;
        meter.reset();
        detail.reset();
        reports.reset();
        voip.reset();
        drops.reset();
        bucket.reset();
    }

    /// Packets of the present SSRC that repeated the highest sequence number, given `received` and the highest:
    /// those that neither went on nor were late.
    pub fn duplicates(&self, received: u32, ext_seq: u32) -> u32 {
        let word = |word: &AtomicU32| word.load(Ordering::Relaxed);
        let Detail {
            base_seq,
            skipped,
            late,
            ..
        } = &self.detail;
        let went_on = ext_seq
            .wrapping_sub(word(base_seq))
            .wrapping_sub(word(skipped));
        let others = received
            .wrapping_sub(1)
            .wrapping_sub(went_on)
            .wrapping_sub(word(late));
        // A reader beside the writer may see the parts of different packets.
        if others > i32::MAX as u32 { 0 } else { others }
    }

    /// Forks and shared endpoints.
    pub fn fed(&self) -> &Fed {
        &self.drops.fed
    }

    /// Packets of this stream that were dropped, for any reason.
    pub fn dropped(&self) -> u32 {
        let counts = self.drops.by_reason.iter();
        counts.fold(0, |sum, n| sum.wrapping_add(n.load(Ordering::Relaxed)))
    }

    /// Counts a packet of this stream that was dropped. Any thread may.
    #[inline]
    pub fn count_dropped(&self, reason: Drop) {
        if let Some(counter) = reason
            .stream_index()
            .and_then(|at| self.drops.by_reason.get(at))
        {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Fed {
    /// A packet of so many octets is due to this stream as a copy. Any thread may.
    pub fn count_copied(&self, bytes: usize) {
        self.copied.fetch_add(1, Ordering::Relaxed);
        self.copied_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// How many copies were due to this stream, and their octets of UDP payload.
    pub fn copies(&self) -> (u32, u64) {
        let copied = self.copied.load(Ordering::Relaxed);
        (copied, self.copied_bytes.load(Ordering::Relaxed))
    }

    /// Whether an SSRC was seen to be the stream's.
    pub fn knows(&self, ssrc: u32) -> bool {
        let is_it = |known: &AtomicU32| known.load(Ordering::Relaxed) == ssrc;
        ssrc != 0 && self.ssrcs.iter().any(is_it)
    }

    /// An SSRC is the stream's, as it has said itself. The one that was learned first makes room.
    pub fn learn(&self, ssrc: u32) {
        if ssrc == 0 || self.knows(ssrc) {
            return;
        }
        let place = self.learned.fetch_add(1, Ordering::Relaxed) as usize % SSRCS;
        if let Some(word) = self.ssrcs.get(place) {
            word.store(ssrc, Ordering::Relaxed);
        }
    }

    /// An SSRC is another stream's by now.
    pub fn forget(&self, ssrc: u32) {
        let known = self.ssrcs.iter();
        known
            .filter(|word| word.load(Ordering::Relaxed) == ssrc)
            .for_each(|word| word.store(0, Ordering::Relaxed));
    }
}

/// What [`Meter::last`] holds, in one word, so that a packet like the last one is known by one comparison.
///
/// From the lowest octet: the first octet of an RTP header without padding, extension or contributing
/// sources, or one that no packet is compared with, if a packet of this payload type may be RTCP; the payload type; the owner worker's number
/// plus one, 0 while nobody owns the stream; and [`Last::seen`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Last(u32);

/// The padding bit of an RTP header, which [`Last::expected`] leaves out.
const PADDED: u32 = 0x20;

impl Last {
    /// [`Last::seen`] while the last packet was in sequence.
    pub const IN_SEQUENCE: u8 = 1;

    /// Of its word.
    #[inline(always)]
    pub const fn from_bits(bits: u32) -> Last {
        Last(bits)
    }

    /// Its word.
    #[inline(always)]
    pub const fn to_bits(self) -> u32 {
        self.0
    }

    /// Of the owner alone: no RTP packet came yet.
    pub const fn of_owner(owner: u8) -> Last {
        Last((owner as u32) << 16)
    }

    /// Of a stream whose last packet was in sequence, without the packet's own octets.
    #[inline(always)]
    pub const fn guard(owner: u8) -> Last {
        Last((owner as u32) << 16 | (Last::IN_SEQUENCE as u32) << 24)
    }

    /// After an RTP packet. `plain` says that packets of its payload type need no look of their own.
    pub const fn after(self, payload_type: u8, seen: u8, plain: bool) -> Last {
        let may_be_rtcp = payload_type & 0x60 == 0x40;
        let first = if may_be_rtcp || !plain { PADDED } else { 0x80 };
        Last(self.0 & 0x00ff_0000 | (seen as u32) << 24 | (payload_type as u32) << 8 | first)
    }

    /// In another owner's hands, with a first octet that no packet is compared with.
    pub const fn given(self, owner: u8) -> Last {
        Last(self.0 & 0xff00_ff00 | (owner as u32) << 16 | PADDED)
    }

    /// What the word is if a packet that begins with these octets (a little-endian word of them) goes on
    /// with the sequence: marker and padding aside.
    #[inline(always)]
    pub const fn expected(self, rtp: u32) -> u32 {
        rtp & 0x7fdf | self.0
    }

    /// Number of the owner worker plus one; 0 while nobody owns the stream.
    pub const fn owner(self) -> u8 {
        (self.0 >> 16) as u8
    }

    /// Payload type last seen.
    pub const fn payload_type(self) -> u8 {
        (self.0 >> 8) as u8
    }

    /// 0 before the first RTP packet; [`Last::IN_SEQUENCE`]; 128 and seven bits of the next number after
    /// a jump.
    pub const fn seen(self) -> u8 {
        (self.0 >> 24) as u8
    }
}

impl Meter {
    /// See [`Last`].
    pub fn last(&self) -> Last {
        Last(self.last.load(Ordering::Relaxed))
    }

    /// Nobody owns the stream any more. Only while no worker can see the record.
    pub(crate) fn disown(&self) {
        let last = self.last().0 & !Last::of_owner(u8::MAX).0;
        self.last.store(last, Ordering::Relaxed);
    }

    /// SSRC of the present source (RFC 3550, 5.1).
    pub fn ssrc(&self) -> u32 {
        u32::from_be(self.ssrc.load(Ordering::Relaxed))
    }

    /// Packets received from the present SSRC.
    pub fn received(&self) -> u32 {
        // Pairs with the owner's Release stores: the packets that are apart have been counted, so a reader
        // beside it sees no difference below 0.
        let apart = self.apart.load(Ordering::Acquire);
        (self.packets.get() as u32).wrapping_sub(apart)
    }
}

#[cfg(not(loom))]
const _: () = {
    assert!(size_of::<Meter>() == 64);
    assert!(size_of::<Tally>() == 7 * 64);
};
