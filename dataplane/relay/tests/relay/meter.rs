//! The meter against RFC 3550's own code, appendices A.1, A.3 and A.8.

use crate::support::rtp;
use penstock_relay::headers::Rtp;
use penstock_relay::meter::{Content, lost, lost_total, update};
use penstock_shm::record::Slot;
use penstock_shm::tally::Tally;
use proptest::prelude::*;
use std::sync::atomic::Ordering::Relaxed;

const HZ_8000: u32 = 34360;
const PTIME_NS: u64 = 20_000_000;

/// RFC 3550's `source`, without probation; a jump is forgotten when the sequence goes on.
#[derive(Default, Debug)]
struct Model {
    ssrc: Option<u32>,
    max_seq: u16,
    cycles: u32,
    base_seq: u32,
    bad_seq: Option<u16>,
    received: u32,
    transit: u32,
    jitter: u32,
    lost_before: i64,
}

impl Model {
    fn init_seq(&mut self, seq: u16) {
        self.lost_before += self.lost();
        self.base_seq = u32::from(seq);
        self.max_seq = seq;
        self.bad_seq = None;
        self.cycles = 0;
        self.received = 0;
    }

    fn update_seq(&mut self, seq: u16) -> bool {
        let udelta = seq.wrapping_sub(self.max_seq);
        if udelta < 3000 {
            if seq < self.max_seq {
                self.cycles += 65536;
            }
            self.max_seq = seq;
            self.bad_seq = None;
        } else if u32::from(udelta) <= 65536 - 100 {
            if self.bad_seq != Some(seq) {
                self.bad_seq = Some(seq.wrapping_add(1));
                return false;
            }
            self.init_seq(seq);
            self.jitter = 0;
            self.transit = u32::MAX; // replaced by the caller
        } else {
            self.bad_seq = None;
        }
        self.received += 1;
        true
    }

    fn packet(&mut self, ssrc: u32, seq: u16, timestamp: u32, now_ns: u64) {
        let arrival = ((u128::from(now_ns) * u128::from(HZ_8000)) >> 32) as u32;
        let transit = arrival.wrapping_sub(timestamp);
        let base = (self.ssrc, self.base_seq, self.lost_before);
        if self.ssrc != Some(ssrc) {
            self.init_seq(seq);
            self.ssrc = Some(ssrc);
            self.received = 1;
            (self.jitter, self.transit) = (0, transit);
            return;
        }
        if !self.update_seq(seq) {
            return;
        }
        if self.received == 1 && base != (self.ssrc, self.base_seq, self.lost_before) {
            self.transit = transit;
        }
        let d = (transit.wrapping_sub(self.transit) as i32).unsigned_abs();
        self.transit = transit;
        self.jitter = self.jitter + d - ((self.jitter + 8) >> 4);
    }

    fn lost(&self) -> i64 {
        if self.ssrc.is_none() {
            return 0;
        }
        let expected =
            i64::from(self.cycles + u32::from(self.max_seq)) - i64::from(self.base_seq) + 1;
        (expected - i64::from(self.received)).max(0)
    }
}

/// 8 kHz, and delays that differ by 20 ms are counted.
const SLOT: Slot = Slot {
    clock_mult: HZ_8000,
    steady: 159,
    ..Slot::CLOSED
};

fn feed(tally: &Tally, ssrc: u32, seq: u16, timestamp: u32, now_ns: u64) {
    let packet = rtp(seq, timestamp, ssrc);
    let (header, payload) = Rtp::split(&packet).unwrap();
    update(
        tally,
        &SLOT,
        now_ns,
        packet.len(),
        Content::Rtp(header, payload),
    );
}

fn assert_agrees(tally: &Tally, model: &Model) {
    let meter = &tally.meter;
    assert_eq!(Some(meter.ssrc()), model.ssrc);
    assert_eq!(
        meter.ext_seq.load(Relaxed),
        model.cycles + u32::from(model.max_seq)
    );
    assert_eq!(tally.detail.base_seq.load(Relaxed), model.base_seq);
    assert_eq!(meter.received(), model.received);
    assert_eq!(meter.jitter_q4.load(Relaxed), model.jitter);
    assert_eq!(i64::from(lost(tally)), model.lost());
    assert_eq!(
        i64::from(lost_total(tally)),
        model.lost() + model.lost_before
    );
}

/// What becomes of the next packet.
#[derive(Clone, Debug)]
enum Step {
    Sent { delay_ns: u64 },
    Lost(u16),
    Late { behind: u16 },
    Jump { by: u16 },
    NewSsrc { ssrc: u32, seq: u16 },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        30 => (0u64..PTIME_NS).prop_map(|delay_ns| Step::Sent { delay_ns }),
        4 => (1u16..2998).prop_map(Step::Lost),
        4 => (0u16..130).prop_map(|behind| Step::Late { behind }),
        2 => (3000u16..).prop_map(|by| Step::Jump { by }),
        1 => (0u32..3, any::<u16>()).prop_map(|(ssrc, seq)| Step::NewSsrc { ssrc, seq }),
    ];
    prop::collection::vec(step, 1..400)
}

proptest! {
    #[test]
    fn agrees_with_rfc_3550(steps in steps(), first in any::<u16>(), start_ns in 0..u64::MAX / 4) {
        let (tally, mut model) = (Tally::default(), Model::default());
        let (mut ssrc, mut seq, mut sent) = (7, first, 0u64);
        let mut wild: Option<u16> = None;
        for step in steps {
            let mut delay = 0;
            let mut this = seq;
            match step {
                Step::Sent { delay_ns } => delay = delay_ns,
                Step::Lost(n) => this = seq.wrapping_add(n),
                Step::Late { behind } => this = seq.wrapping_sub(behind),
                Step::Jump { by } => this = seq.wrapping_add(by),
                Step::NewSsrc { ssrc: new, seq } => (ssrc, this) = (new, seq),
            }
            // The meter knows a jump's successor by seven bits only.
            if wild.is_some_and(|last| this != last.wrapping_add(1) && this & 127 == last.wrapping_add(1) & 127) {
                this = this.wrapping_add(1);
            }
            if !matches!(step, Step::Late { .. }) {
                seq = this.wrapping_add(1);
            }
            sent += 1;
            let now_ns = start_ns + sent * PTIME_NS + delay;
            let timestamp = (sent * 160) as u32;
            feed(&tally, ssrc, this, timestamp, now_ns);
            model.packet(ssrc, this, timestamp, now_ns);
            assert_agrees(&tally, &model);
            wild = model.bad_seq.map(|next| next.wrapping_sub(1));
        }
        prop_assert_eq!(tally.meter.packets.get(), sent);
        prop_assert_eq!(tally.meter.bytes.get(), sent * 172);
    }

    #[test]
    fn any_header_is_metered(headers in prop::collection::vec((any::<[u8; 12]>(), any::<u64>(), any::<u32>()), 0..50)) {
        let tally = Tally::default();
        for (header, now_ns, clock_mult) in &headers {
            let slot = Slot { clock_mult: *clock_mult, event_type: 7, payload_types: [0x80, 0], ..Slot::CLOSED };
            update(&tally, &slot, *now_ns, 12, Content::Rtp(Rtp(header), &[]));
            lost_total(&tally);
        }
        prop_assert_eq!(tally.meter.packets.get(), headers.len() as u64);
    }
}

#[test]
fn a_wrap_is_no_loss() {
    let tally = Tally::default();
    let meter = &tally.meter;
    for i in 0..200_000u32 {
        feed(
            &tally,
            1,
            (i + 65_000) as u16,
            i * 160,
            u64::from(i) * PTIME_NS,
        );
    }
    assert_eq!(lost_total(&tally), 0);
    assert_eq!(meter.ext_seq.load(Relaxed), 264_999);
    assert_eq!(meter.received(), 200_000);
    assert!(
        meter.jitter_q4.load(Relaxed) < 16,
        "a regular stream has no jitter"
    );
}

#[test]
fn loss_is_the_gap_and_survives_a_new_source() {
    let tally = Tally::default();
    for seq in [10, 11, 15, 16] {
        feed(&tally, 1, seq, 0, 0);
    }
    assert_eq!(lost_total(&tally), 3);
    for seq in [60_000, 60_002] {
        feed(&tally, 2, seq, 0, 0);
    }
    assert_eq!((lost(&tally), lost_total(&tally)), (1, 4));
}

#[test]
fn late_and_double_packets_count_as_received() {
    let tally = Tally::default();
    let meter = &tally.meter;
    for seq in [10, 12, 11, 12] {
        feed(&tally, 1, seq, 0, 0);
    }
    assert_eq!(meter.received(), 4);
    assert_eq!(lost_total(&tally), 0);
}

#[test]
fn one_wild_packet_changes_nothing_and_two_in_a_row_restart() {
    let tally = Tally::default();
    let meter = &tally.meter;
    for seq in [10, 11, 40_000, 12, 13] {
        feed(&tally, 1, seq, 0, 0);
    }
    assert_eq!((meter.ext_seq.load(Relaxed), meter.received()), (13, 4));
    for seq in [20_000, 20_001, 20_002] {
        feed(&tally, 1, seq, 0, 0);
    }
    assert_eq!(
        (
            tally.detail.base_seq.load(Relaxed),
            meter.ext_seq.load(Relaxed)
        ),
        (20_001, 20_002)
    );
    assert_eq!(meter.received(), 2);
    assert_eq!((meter.packets.get(), lost_total(&tally)), (8, 0));
}

#[test]
fn jitter_is_that_of_the_rfc() {
    let tally = Tally::default();
    let meter = &tally.meter;
    // Every second packet 10 ms late: |D| = 80 ticks each time.
    for i in 0..1000u64 {
        feed(
            &tally,
            1,
            i as u16,
            i as u32 * 160,
            i * PTIME_NS + (i % 2) * 10_000_000,
        );
    }
    let jitter = meter.jitter_q4.load(Relaxed) / 16;
    assert!((79..=80).contains(&jitter), "{jitter}");
}

#[test]
fn jitter_stays_in_bounds_whatever_the_times() {
    let (tally, mut jitter) = (Tally::default(), 0u64);
    let meter = &tally.meter;
    for i in 0..200u32 {
        // The transit time alternates between its extremes: |D| = 2^31, cut to 2^27.
        feed(&tally, 1, i as u16, (i % 2) << 31, 0);
        let d = if i == 0 { 0 } else { 1 << 27 };
        jitter = jitter + d - ((jitter + 8) >> 4);
        assert_eq!(u64::from(meter.jitter_q4.load(Relaxed)), jitter);
    }
    assert!(jitter > 0x7fff_0000 && jitter <= 1 << 31, "{jitter:x}");
}

#[test]
fn without_a_clock_all_but_jitter_is_metered() {
    let tally = Tally::default();
    let meter = &tally.meter;
    let packet = rtp(1, 2, 3);
    for now_ns in [0, 1 << 40] {
        let slot = Slot {
            clock_mult: 0,
            steady: u32::MAX,
            ..Slot::CLOSED
        };
        let (header, payload) = Rtp::split(&packet).unwrap();
        update(&tally, &slot, now_ns, 172, Content::Rtp(header, payload));
    }
    assert_eq!((meter.packets.get(), meter.bytes.get()), (2, 344));
    assert_eq!(meter.received(), 2);
    assert_eq!(lost_total(&tally), 0);
}

#[test]
fn late_double_and_skipped_packets_have_counters_of_their_own() {
    let tally = Tally::default();
    let read = |tally: &Tally| {
        let (received, ext_seq) = (tally.meter.received(), tally.meter.ext_seq.load(Relaxed));
        let detail = &tally.detail;
        [
            detail.late.load(Relaxed),
            tally.duplicates(received, ext_seq),
            detail.skipped.load(Relaxed),
            detail.largest_gap.load(Relaxed),
        ]
    };
    for (seq, expected) in [
        (10, [0, 0, 0, 0]),
        (11, [0, 0, 0, 0]),
        (11, [0, 1, 0, 0]),
        (15, [0, 1, 3, 3]),
        (13, [1, 1, 3, 3]),
        (15, [1, 2, 3, 3]),
        (17, [1, 2, 4, 3]),
        (40_000, [1, 2, 4, 3]),
        (18, [1, 2, 4, 3]),
    ] {
        feed(&tally, 1, seq, 0, 0);
        assert_eq!(read(&tally), expected, "{seq}");
    }
    feed(&tally, 2, 5, 0, 0);
    assert_eq!(read(&tally), [0, 0, 0, 3], "another source begins");
    let before = |counter: &std::sync::atomic::AtomicU32| counter.load(Relaxed);
    let detail = &tally.detail;
    assert_eq!(before(&detail.late_before), 1);
    assert_eq!(before(&detail.duplicates_before), 2);
}

#[test]
fn delays_that_vary_are_counted_by_class() {
    let tally = Tally::default();
    let mut now_ns = 0;
    let delays_ms = [0, 16, 36, 0, 40, 0, 80, 0, 636, 0, 1600, 0];
    for (seq, delay_ms) in (0u16..).zip(delays_ms) {
        now_ns += PTIME_NS;
        let at_ns = now_ns + delay_ms * 1_000_000;
        feed(&tally, 1, seq, u32::from(seq) * 160, at_ns);
    }
    // Differences: 16, 20, 36, 40, 40, 80, 80, 636, 636, 1600, 1600 ms.
    let classes = tally
        .detail
        .variation
        .each_ref()
        .map(|class| class.load(Relaxed));
    assert_eq!(classes, [2, 2, 2, 0, 2, 0, 2]);
}

#[test]
fn telephone_events_and_foreign_payload_types_are_counted() {
    let tally = Tally::default();
    let slot = Slot {
        event_type: 101,
        payload_types: [1 << 8, 1 << (101 - 64)],
        ..SLOT
    };
    let send = |seq: u16, payload_type: u8, timestamp: u32, code: u8| {
        let mut packet = rtp(seq, timestamp, 7);
        packet[1] = payload_type;
        packet[12] = code;
        let (header, payload) = Rtp::split(&packet).unwrap();
        update(&tally, &slot, 0, 172, Content::Rtp(header, payload));
    };
    send(1, 8, 160, 0);
    for (seq, timestamp, code) in [
        (2, 320, 5),
        (3, 320, 5),
        (4, 320, 5),
        (5, 800, 11),
        (6, 800, 11),
    ] {
        send(seq, 101, timestamp, code);
    }
    send(7, 0, 960, 0);
    send(8, 8, 960, 0);
    let reports = &tally.reports;
    assert_eq!(reports.dtmf.load(Relaxed), 2);
    assert_eq!(reports.dtmf_last.load(Relaxed), 256 | 11);
    assert_eq!(tally.detail.foreign.load(Relaxed), 1);
}
