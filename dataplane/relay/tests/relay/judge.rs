use crate::support::{Datagram, egress, policy, rtp, slot, udp_of};
use penstock_relay::route::{self, Policy};
use penstock_relay::{Drop, Pass, judge, latch_requested, source};
use penstock_shm::record::{Kind, Learn, Meter, Slot};
use std::sync::atomic::Ordering::Relaxed;

const PASS: Result<Pass, Drop> = Ok(Pass { latch: false });
const LATCH: Result<Pass, Drop> = Ok(Pass { latch: true });

fn verdict(datagram: &Datagram, slot: &Slot, meter: &Meter) -> Result<Pass, Drop> {
    let frame = datagram.frame();
    judge(&frame, &udp_of(&frame), slot, meter, 1_000)
}

fn both() -> [Datagram; 2] {
    [Datagram::v4(&rtp(1, 2, 3)), Datagram::v6(&rtp(1, 2, 3))]
}

#[test]
fn a_sound_packet_passes_and_is_metered() {
    for datagram in both() {
        let meter = Meter::default();
        let slot = slot(&policy(datagram.source));
        assert_eq!(verdict(&datagram, &slot, &meter), PASS);
        assert_eq!(
            (
                meter.packets.get(),
                meter.bytes.get(),
                meter.last_seen_ns.get()
            ),
            (1, 172, 1_000)
        );
        assert_eq!(meter.ssrc(), 3);
        assert_eq!(meter.last().payload_type(), 8);
        assert_eq!(meter.dropped.load(Relaxed), 0);
    }
}

#[test]
fn a_closed_gate_comes_first() {
    for datagram in both() {
        let meter = Meter::default();
        let closed = Policy {
            gate_open: false,
            ..policy("192.0.2.200:1".parse().unwrap())
        };
        assert_eq!(
            verdict(&datagram, &slot(&closed), &meter),
            Err(Drop::GateClosed)
        );
        assert_eq!((meter.packets.get(), meter.dropped.load(Relaxed)), (0, 1));
    }
}

#[test]
fn a_locked_stream_takes_its_source_alone() {
    for datagram in both() {
        let slot = slot(&policy(datagram.source));
        let mut other_port = datagram.clone();
        other_port.source.set_port(40001);
        let mut other_ip = datagram.clone();
        other_ip.source.set_ip(datagram.destination.ip());
        for other in [other_port, other_ip] {
            assert_eq!(verdict(&other, &slot, &Meter::default()), Err(Drop::Source));
        }
    }
}

#[test]
fn a_learning_stream_asks_once_for_each_slot() {
    for datagram in both() {
        let learning = Policy {
            locked: false,
            learn: Learn::Immediate,
            ..policy(datagram.source)
        };
        let meter = Meter::default();
        for version in [1, 2, 254, 255, 256, 510, 511, u32::MAX] {
            let slot = Slot {
                version,
                ..slot(&learning)
            };
            assert_eq!(
                verdict(&datagram, &slot, &meter),
                LATCH,
                "until the request got through"
            );
            assert_eq!(verdict(&datagram, &slot, &meter), LATCH);
            latch_requested(&slot, &meter);
            assert_eq!(verdict(&datagram, &slot, &meter), PASS, "version {version}");
        }
    }
}

#[test]
fn what_is_no_host_is_not_learned() {
    let mut datagram = Datagram::v4(&rtp(1, 2, 3));
    let learning = Policy {
        locked: false,
        learn: Learn::Immediate,
        ..policy(datagram.source)
    };
    for source in [
        "0.0.0.0:9",
        "224.0.0.1:9",
        "255.255.255.255:9",
        "127.0.0.1:9",
        "192.0.2.9:0",
    ] {
        datagram.source = source.parse().unwrap();
        assert_eq!(
            verdict(&datagram, &slot(&learning), &Meter::default()),
            Err(Drop::Source)
        );
    }
}

#[test]
fn a_stream_that_neither_knows_nor_learns_takes_nobody() {
    let datagram = Datagram::v4(&rtp(1, 2, 3));
    let deaf = Policy {
        remote: None,
        ..policy(datagram.source)
    };
    assert_eq!(
        verdict(&datagram, &slot(&deaf), &Meter::default()),
        Err(Drop::Source)
    );
}

#[test]
fn the_source_is_told() {
    for datagram in both() {
        let frame = datagram.frame();
        assert_eq!(source(&frame, &udp_of(&frame)), Some(datagram.source));
    }
}

/// Payload, and whether it passes as RTP, RTCP and raw, and is in the RTP sequence.
fn payloads() -> Vec<(Vec<u8>, [bool; 3], bool)> {
    let with = |first: u8, second: u8, len: usize| {
        let mut payload = vec![0; len];
        payload[..2].copy_from_slice(&[first, second]);
        payload
    };
    let rtcp = |second: u8, words: u16, len: usize| {
        let mut payload = with(0x80, second, len);
        payload[2..4].copy_from_slice(&words.to_be_bytes());
        payload
    };
    let extension = |words: u8, len: usize| {
        let mut payload = with(0x91, 0, len);
        payload[19] = words;
        payload
    };
    vec![
        (with(0x80, 0, 12), [true, false, true], true),
        (with(0x80, 0x80 | 101, 12), [true, false, true], true),
        (with(0xa0, 0, 12), [true, false, true], true),
        (with(0x80, 0, 11), [false, false, true], false),
        (with(0x40, 0, 12), [false, false, true], false),
        (with(0xc0, 0, 12), [false, false, true], false),
        (with(0x81, 0, 15), [false, false, true], false),
        (with(0x81, 0, 16), [true, false, true], true),
        (with(0x8f, 0, 71), [false, false, true], false),
        (with(0x8f, 0, 72), [true, false, true], true),
        (extension(0, 20), [true, false, true], true),
        (with(0x91, 0, 19), [false, false, true], false),
        (extension(1, 23), [false, false, true], false),
        (extension(1, 24), [true, false, true], true),
        (rtcp(200, 6, 28), [true, true, true], false),
        (rtcp(200, 6, 27), [false, false, true], false),
        (rtcp(201, 1, 22), [true, true, true], false),
        (rtcp(192, 0, 4), [true, true, true], false),
        (rtcp(223, 0, 4), [true, true, true], false),
        (
            rtcp(200, 0, 3 + 1)[..3].to_vec(),
            [false, false, true],
            false,
        ),
        (with(0x40, 200, 28), [false, false, true], false),
        (vec![], [false, false, true], false),
    ]
}

#[test]
fn what_an_endpoint_carries_is_checked() {
    for (payload, passes, in_sequence) in payloads() {
        for (kind, passes) in [Kind::Rtp, Kind::Rtcp, Kind::Raw].into_iter().zip(passes) {
            // Ethernet padding is no payload.
            let padded = Datagram {
                padding: 30,
                ..Datagram::v4(&payload)
            };
            for datagram in [Datagram::v4(&payload), Datagram::v6(&payload), padded] {
                let slot = slot(&Policy {
                    kind,
                    ..policy(datagram.source)
                });
                let meter = Meter::default();
                let expected = if passes { PASS } else { Err(Drop::NotRtp) };
                assert_eq!(
                    verdict(&datagram, &slot, &meter),
                    expected,
                    "{kind:?} {payload:02x?}"
                );
                assert_eq!(meter.packets.get(), u64::from(passes));
                let is_seen = meter.last().seen() != 0;
                assert_eq!(
                    is_seen,
                    kind == Kind::Rtp && passes && in_sequence,
                    "{payload:02x?}"
                );
            }
        }
    }
}

#[test]
fn a_packet_needs_a_route_of_either_version() {
    for datagram in both() {
        let policy = policy(datagram.source);
        let unrouted = route::fill(&policy, None, None, 1);
        assert_eq!(
            verdict(&datagram, &unrouted, &Meter::default()),
            Err(Drop::NoRoute)
        );
        for v6 in [false, true] {
            let routed = route::fill(&policy, None, Some(&egress(v6)), 1);
            assert_eq!(verdict(&datagram, &routed, &Meter::default()), PASS);
            let is_usual = !policy.v6 && !v6;
            assert_eq!(routed.usual_hop == Slot::NOT_USUAL, !is_usual);
        }
    }
}

/// The packet that leaves is 20 octets longer or shorter than the one that came, if their versions differ.
#[test]
fn the_size_of_the_ip_packet_that_leaves_is_limited() {
    for datagram in both() {
        for (v6, len) in [(false, 200), (true, 220)] {
            let slot = route::fill(&policy(datagram.source), None, Some(&egress(v6)), 1);
            let padded = Datagram {
                padding: 30,
                ..datagram.clone()
            };
            let at = |longest| Slot { longest, ..slot };
            assert_eq!(verdict(&padded, &at(len), &Meter::default()), PASS);
            assert_eq!(
                verdict(&padded, &at(len - 1), &Meter::default()),
                Err(Drop::TooBig)
            );
        }
    }
}
