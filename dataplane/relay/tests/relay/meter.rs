//! The meter against RFC 3550's own code, appendices A.1, A.3 and A.8.

use crate::support::rtp;
use penstock_relay::headers::Rtp;
use penstock_relay::meter::{lost, lost_total, update};
use penstock_shm::record::Meter;
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

fn feed(meter: &Meter, ssrc: u32, seq: u16, timestamp: u32, now_ns: u64) {
    let packet = rtp(seq, timestamp, ssrc);
    let (header, _) = Rtp::split(&packet).unwrap();
    update(meter, HZ_8000, now_ns, packet.len(), Some(header));
}

fn assert_agrees(meter: &Meter, model: &Model) {
    assert_eq!(Some(meter.ssrc()), model.ssrc);
    assert_eq!(
        meter.ext_seq.load(Relaxed),
        model.cycles + u32::from(model.max_seq)
    );
    assert_eq!(meter.base_seq.load(Relaxed), model.base_seq);
    assert_eq!(meter.received(), model.received);
    assert_eq!(meter.jitter_q4.load(Relaxed), model.jitter);
    assert_eq!(i64::from(lost(meter)), model.lost());
    assert_eq!(
        i64::from(lost_total(meter)),
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
        let (meter, mut model) = (Meter::default(), Model::default());
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
            feed(&meter, ssrc, this, timestamp, now_ns);
            model.packet(ssrc, this, timestamp, now_ns);
            assert_agrees(&meter, &model);
            wild = model.bad_seq.map(|next| next.wrapping_sub(1));
        }
        prop_assert_eq!(meter.packets.get(), sent);
        prop_assert_eq!(meter.bytes.get(), sent * 172);
    }

    #[test]
    fn any_header_is_metered(headers in prop::collection::vec((any::<[u8; 12]>(), any::<u64>(), any::<u32>()), 0..50)) {
        let meter = Meter::default();
        for (header, now_ns, clock_mult) in &headers {
            update(&meter, *clock_mult, *now_ns, 12, Some(Rtp(header)));
            lost_total(&meter);
        }
        prop_assert_eq!(meter.packets.get(), headers.len() as u64);
    }
}

#[test]
fn a_wrap_is_no_loss() {
    let meter = Meter::default();
    for i in 0..200_000u32 {
        feed(
            &meter,
            1,
            (i + 65_000) as u16,
            i * 160,
            u64::from(i) * PTIME_NS,
        );
    }
    assert_eq!(lost_total(&meter), 0);
    assert_eq!(meter.ext_seq.load(Relaxed), 264_999);
    assert_eq!(meter.received(), 200_000);
    assert!(
        meter.jitter_q4.load(Relaxed) < 16,
        "a regular stream has no jitter"
    );
}

#[test]
fn loss_is_the_gap_and_survives_a_new_source() {
    let meter = Meter::default();
    for seq in [10, 11, 15, 16] {
        feed(&meter, 1, seq, 0, 0);
    }
    assert_eq!(lost_total(&meter), 3);
    for seq in [60_000, 60_002] {
        feed(&meter, 2, seq, 0, 0);
    }
    assert_eq!((lost(&meter), lost_total(&meter)), (1, 4));
}

#[test]
fn late_and_double_packets_count_as_received() {
    let meter = Meter::default();
    for seq in [10, 12, 11, 12] {
        feed(&meter, 1, seq, 0, 0);
    }
    assert_eq!(meter.received(), 4);
    assert_eq!(lost_total(&meter), 0);
}

#[test]
fn one_wild_packet_changes_nothing_and_two_in_a_row_restart() {
    let meter = Meter::default();
    for seq in [10, 11, 40_000, 12, 13] {
        feed(&meter, 1, seq, 0, 0);
    }
    assert_eq!((meter.ext_seq.load(Relaxed), meter.received()), (13, 4));
    for seq in [20_000, 20_001, 20_002] {
        feed(&meter, 1, seq, 0, 0);
    }
    assert_eq!(
        (meter.base_seq.load(Relaxed), meter.ext_seq.load(Relaxed)),
        (20_001, 20_002)
    );
    assert_eq!(meter.received(), 2);
    assert_eq!((meter.packets.get(), lost_total(&meter)), (8, 0));
}

#[test]
fn jitter_is_that_of_the_rfc() {
    let meter = Meter::default();
    // Every second packet 10 ms late: |D| = 80 ticks each time.
    for i in 0..1000u64 {
        feed(
            &meter,
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
    let (meter, mut jitter) = (Meter::default(), 0u64);
    for i in 0..200u32 {
        // The transit time alternates between its extremes: |D| = 2^31, cut to 2^27.
        feed(&meter, 1, i as u16, (i % 2) << 31, 0);
        let d = if i == 0 { 0 } else { 1 << 27 };
        jitter = jitter + d - ((jitter + 8) >> 4);
        assert_eq!(u64::from(meter.jitter_q4.load(Relaxed)), jitter);
    }
    assert!(jitter > 0x7fff_0000 && jitter <= 1 << 31, "{jitter:x}");
}

#[test]
fn without_a_clock_all_but_jitter_is_metered() {
    let meter = Meter::default();
    let packet = rtp(1, 2, 3);
    for now_ns in [0, 1 << 40] {
        update(
            &meter,
            0,
            now_ns,
            172,
            Rtp::split(&packet).map(|(header, _)| header),
        );
    }
    assert_eq!((meter.packets.get(), meter.bytes.get()), (2, 344));
    assert_eq!(meter.received(), 2);
    assert_eq!(lost_total(&meter), 0);
}
