use crate::support::{Datagram, asking, egress, policy, rtp, slot, udp_of};
use penstock_relay::learn::Ask;
use penstock_relay::route::{self, Policy};
use penstock_relay::{Drop, Pass, Rules, Stream, judge, latch_requested, source};
use penstock_shm::record::{Kind, Learn, Slot, rank};
use penstock_shm::tally::Tally;

const PASS: Result<Pass, Drop> = Ok(Pass { ask: None });

fn verdict(datagram: &Datagram, slot: &Slot, tally: &Tally) -> Result<Pass, Drop> {
    verdict_by(&Rules::default(), datagram, slot, tally, 1_000)
}

pub(crate) fn verdict_by(
    rules: &Rules,
    datagram: &Datagram,
    slot: &Slot,
    tally: &Tally,
    now_ns: u64,
) -> Result<Pass, Drop> {
    let frame = datagram.frame();
    let stream = Stream {
        slot,
        tally,
        peer: None,
    };
    judge(&frame, &udp_of(&frame), stream, rules, now_ns)
}

fn both() -> [Datagram; 2] {
    [Datagram::v4(&rtp(1, 2, 3)), Datagram::v6(&rtp(1, 2, 3))]
}

#[test]
fn a_sound_packet_passes_and_is_metered() {
    for datagram in both() {
        let tally = Tally::default();
        let meter = &tally.meter;
        let slot = slot(&policy(datagram.source));
        assert_eq!(verdict(&datagram, &slot, &tally), PASS);
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
        assert_eq!(tally.dropped(), 0);
    }
}

#[test]
fn a_closed_gate_comes_first() {
    for datagram in both() {
        let tally = Tally::default();
        let meter = &tally.meter;
        let stranger = policy("192.0.2.200:1".parse().unwrap());
        let closed = asking(stranger, |spec| spec.gate_open = false);
        assert_eq!(
            verdict(&datagram, &slot(&closed), &tally),
            Err(Drop::GateClosed)
        );
        assert_eq!((meter.packets.get(), tally.dropped()), (0, 1));
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
            assert_eq!(verdict(&other, &slot, &Tally::default()), Err(Drop::Source));
        }
    }
}

fn learning(datagram: &Datagram) -> Policy {
    let policy = asking(policy(datagram.source), |spec| {
        spec.learn = Learn::Immediate
    });
    Policy {
        locked: false,
        ..policy
    }
}

const LATCH: Result<Pass, Drop> = Ok(Pass {
    ask: Some(Ask::Adopt {
        rank: rank::SIGNALLED,
        lock: true,
    }),
});

#[test]
fn a_learning_stream_asks_once_for_each_slot() {
    for datagram in both() {
        let learning = learning(&datagram);
        let tally = Tally::default();
        let meter = &tally.meter;
        for version in [1, 2, 254, 255, 256, 510, 511, u32::MAX] {
            let slot = Slot {
                version,
                ..slot(&learning)
            };
            assert_eq!(
                verdict(&datagram, &slot, &tally),
                LATCH,
                "until the request got through"
            );
            assert_eq!(verdict(&datagram, &slot, &tally), LATCH);
            latch_requested(&slot, meter);
            assert_eq!(verdict(&datagram, &slot, &tally), PASS, "version {version}");
        }
    }
}

#[test]
fn what_is_no_host_is_not_learned() {
    let mut datagram = Datagram::v4(&rtp(1, 2, 3));
    let learning = learning(&datagram);
    for source in [
        "0.0.0.0:9",
        "224.0.0.1:9",
        "255.255.255.255:9",
        "127.0.0.1:9",
        "192.0.2.9:0",
    ] {
        datagram.source = source.parse().unwrap();
        assert_eq!(
            verdict(&datagram, &slot(&learning), &Tally::default()),
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
        verdict(&datagram, &slot(&deaf), &Tally::default()),
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
        (rtcp(201, 1, 8), [true, true, true], false),
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
                let slot = slot(&asking(policy(datagram.source), |spec| spec.kind = kind));
                let tally = Tally::default();
                let meter = &tally.meter;
                let first = payload.first().copied().unwrap_or(0xff);
                let reason = match (kind, first) {
                    (Kind::Rtp | Kind::Rtcp, 0..=79) => Drop::NotNegotiated,
                    _ => Drop::NotRtp,
                };
                let expected = if passes { PASS } else { Err(reason) };
                assert_eq!(
                    verdict(&datagram, &slot, &tally),
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
            verdict(&datagram, &unrouted, &Tally::default()),
            Err(Drop::NoRoute)
        );
        for v6 in [false, true] {
            let routed = route::fill(&policy, None, Some(&egress(v6)), 1);
            assert_eq!(verdict(&datagram, &routed, &Tally::default()), PASS);
            let is_usual = policy.v6 == v6;
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
            assert_eq!(verdict(&padded, &at(len), &Tally::default()), PASS);
            assert_eq!(
                verdict(&padded, &at(len - 1), &Tally::default()),
                Err(Drop::TooBig)
            );
        }
    }
}
