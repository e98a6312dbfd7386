//! What RTCP says: compound packets, reports, the round trip.

use crate::support::{Datagram, asking, policy, slot, udp_of};
use penstock_relay::{Drop, Pass, Rules, Stream, judge};
use penstock_shm::record::{Kind, accept};
use penstock_shm::tally::{Tally, Voip};
use proptest::prelude::*;
use std::sync::atomic::Ordering::Relaxed;

/// An RTCP packet of this type, its words after the header.
fn packet(first: u8, kind: u8, words: &[u32]) -> Vec<u8> {
    let mut packet = vec![first, kind];
    packet.extend((words.len() as u16).to_be_bytes());
    packet.extend(words.iter().flat_map(|word| word.to_be_bytes()));
    packet
}

/// A sender report (RFC 3550, 6.4.1) with that NTP time and one block that answers `last`.
fn sender_report(ntp: [u32; 2], last: u32, delay: u32) -> Vec<u8> {
    let block = [9, 0x4000_0007, 0x1_0005, 44, last, delay];
    packet(
        0x81,
        200,
        &[&[7, ntp[0], ntp[1], 0, 10, 1600][..], &block].concat(),
    )
}

fn judged(payload: &[u8], tally: &Tally, peer: Option<&Tally>, now_ns: u64) -> Result<Pass, Drop> {
    judged_as(payload, false, tally, peer, now_ns)
}

fn judged_as(
    payload: &[u8],
    secure: bool,
    tally: &Tally,
    peer: Option<&Tally>,
    now_ns: u64,
) -> Result<Pass, Drop> {
    let datagram = Datagram::v4(payload);
    let policy = asking(policy(datagram.source), |spec| {
        spec.kind = Kind::Rtcp;
        spec.secure = secure;
    });
    let (slot, frame) = (slot(&policy), datagram.frame());
    let stream = Stream {
        slot: &slot,
        tally,
        peer,
    };
    judge(&frame, &udp_of(&frame), stream, &Rules::default(), now_ns)
}

#[test]
fn a_report_is_read_and_the_round_trip_known() {
    let (caller, callee) = (Tally::default(), Tally::default());
    let ms = 1_000_000;
    // The callee's sender report passes at 10 ms; the caller answers it 250 ms after it came, and 30 ms are the way.
    let report = sender_report([0x1111_2222, 0x3333_4444], 0, 0);
    judged(&report, &callee, Some(&caller), 10 * ms).unwrap();
    assert_eq!(callee.reports.sender_report_ntp.load(Relaxed), 0x2222_3333);
    assert_eq!(callee.reports.rtt_us.load(Relaxed), 0, "nothing to answer");
    let answer = sender_report([1, 2], 0x2222_3333, 65_536 / 4);
    judged(&answer, &caller, Some(&callee), 290 * ms).unwrap();
    let reports = &caller.reports;
    assert_eq!(reports.rtt_us.load(Relaxed), 30_000);
    assert_eq!(reports.rtt_max_us.load(Relaxed), 30_000);
    assert_eq!(reports.fraction_lost.load(Relaxed), 64);
    assert_eq!(reports.cumulative_lost.load(Relaxed), 7);
    assert_eq!(reports.jitter.load(Relaxed), 44);
    assert_eq!(
        (reports.blocks.load(Relaxed), reports.rtcp.load(Relaxed)),
        (1, 1)
    );
    // An answer to another report says nothing of the way.
    let other = sender_report([1, 2], 0x9999_9999, 0);
    judged(&other, &caller, Some(&callee), 900 * ms).unwrap();
    assert_eq!(reports.rtt_us.load(Relaxed), 30_000);
    // Nor does one that was under way for less than nothing.
    judged(&answer, &caller, Some(&callee), 200 * ms).unwrap();
    assert_eq!(reports.rtt_us.load(Relaxed), 30_000);
}

#[test]
fn voip_metrics_are_read_wherever_they_stand_in_an_extended_report() {
    let receiver_time = [0x0400_0002, 1, 2];
    let voip = [
        0x0700_0008,
        9,
        0x1a_0d_00_00,
        0,
        0x0096_0050,
        0,
        (93 << 24) | (127 << 16) | (42 << 8) | 41,
        0,
        0,
    ];
    let tally = Tally::default();
    let report = packet(0x80, 207, &[&[7][..], &receiver_time, &voip].concat());
    judged(&report, &tally, None, 77).unwrap();
    let of = |word: &std::sync::atomic::AtomicU32| word.load(Relaxed);
    let Voip {
        loss,
        discard,
        round_trip_ms,
        end_system_ms,
        r_factor,
        mos_lq,
        mos_cq,
        blocks,
        at_ns,
    } = &tally.voip;
    assert_eq!((of(loss), of(discard)), (26, 13));
    assert_eq!((of(round_trip_ms), of(end_system_ms)), (150, 80));
    assert_eq!((of(r_factor), of(mos_lq), of(mos_cq)), (93, 42, 41));
    assert_eq!((of(blocks), at_ns.get()), (1, 77));
    // A block that says it is longer than the packet, or shorter than it must be, says nothing.
    for first in [0x0700_0009u32, 0x0700_0001] {
        let words = [&[7, first][..], &voip[1..]].concat();
        judged(&packet(0x80, 207, &words), &tally, None, 78).unwrap();
        assert_eq!(of(blocks), 1);
    }
    // What is encrypted is not looked into.
    judged_as(&report, true, &tally, None, 79).unwrap();
    assert_eq!(of(blocks), 1);
}

#[test]
fn compound_packets_are_whole_or_dropped() {
    let report = sender_report([1, 2], 0, 0);
    let bye = packet(0x81, 203, &[7]);
    let sdes = packet(0x81, 202, &[7, 0]);
    let with = |parts: &[&[u8]]| parts.concat();
    let padded = packet(0xa1, 203, &[7, 0x0000_0004]);
    for (payload, expected) in [
        (with(&[&report, &sdes, &bye]), Ok(())),
        (with(&[&bye]), Ok(())), // reduced size, RFC 5506
        (with(&[&report, &padded]), Ok(())),
        (with(&[&padded, &report]), Err(Drop::RtcpMalformed)),
        (with(&[&report, &sdes[..7]]), Err(Drop::RtcpMalformed)),
        (with(&[&report, &[0x80, 203]]), Err(Drop::RtcpMalformed)),
        (
            with(&[&report, &packet(0x41, 203, &[7])]),
            Err(Drop::RtcpMalformed),
        ),
        (
            with(&[&report, &packet(0x81, 100, &[7])]),
            Err(Drop::RtcpMalformed),
        ),
        (
            packet(0x82, 201, &[7, 1, 2, 3, 4, 5, 6]),
            Err(Drop::RtcpMalformed),
        ),
        (
            packet(0x80, 200, &[7, 1, 2, 3, 4]),
            Err(Drop::RtcpMalformed),
        ),
        (report[..20].to_vec(), Err(Drop::NotRtp)),
    ] {
        let tally = Tally::default();
        let verdict = judged(&payload, &tally, None, 1).map(|_| ());
        assert_eq!(verdict, expected, "{payload:02x?}");
        if let Err(reason) = expected {
            let at = reason.stream_index().unwrap();
            assert_eq!(tally.drops.by_reason[at].load(Relaxed), 1);
        }
        // What is encrypted is not looked into.
        let secure = judged_as(&payload, true, &Tally::default(), None, 1).map(|_| ());
        assert_eq!(secure.is_ok(), expected != Err(Drop::NotRtp));
    }
    let tally = Tally::default();
    judged(&with(&[&report, &bye]), &tally, None, 1).unwrap();
    assert_eq!(tally.reports.byes.load(Relaxed), 1);
    let tally = Tally::default();
    judged_as(&report, true, &tally, None, 1).unwrap();
    assert_eq!(tally.reports.blocks.load(Relaxed), 0, "encrypted");
}

#[test]
fn the_first_octet_tells_what_shares_a_port() {
    for (first, needs) in [
        (0, accept::STUN),
        (3, accept::STUN),
        (16, accept::ZRTP),
        (19, accept::ZRTP),
        (20, accept::DTLS),
        (63, accept::DTLS),
        (64, accept::STUN),
        (79, accept::STUN),
    ] {
        for accepted in 0..=accept::ALL {
            let payload = [first; 40];
            let datagram = Datagram::v4(&payload);
            let policy = asking(policy(datagram.source), |spec| spec.accept = accepted);
            let (slot, frame, tally) = (slot(&policy), datagram.frame(), Tally::default());
            let stream = Stream {
                slot: &slot,
                tally: &tally,
                peer: None,
            };
            let verdict = judge(&frame, &udp_of(&frame), stream, &Rules::default(), 1);
            if accepted & needs != 0 {
                assert!(verdict.is_ok());
                assert_eq!(tally.detail.other.load(Relaxed), 1);
            } else {
                assert_eq!(verdict, Err(Drop::NotNegotiated));
            }
        }
    }
}

proptest! {
    #[test]
    fn no_report_does_harm(payload in prop::collection::vec(any::<u8>(), 0..200), kind in 192u8..224, now_ns in any::<u64>()) {
        let mut payload = payload;
        if let Some(head) = payload.first_chunk_mut::<4>() {
            (head[0], head[1], head[2]) = (0x81, kind, 0);
        }
        let (tally, peer) = (Tally::default(), Tally::default());
        let _ = judged(&payload, &tally, Some(&peer), now_ns);
    }
}
