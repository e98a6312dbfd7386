//! The fuzz target's body over its corpus, over random octets, and over damaged packets.

use crate::body::{Way, plain_sum, run};
use crate::support::{Datagram, checksum, rtp};
use proptest::prelude::*;
use std::path::Path;

#[test]
fn the_corpus_does_no_harm() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    let mut ways = Vec::new();
    for entry in std::fs::read_dir(corpus).unwrap() {
        ways.extend(run(&std::fs::read(entry.unwrap().path()).unwrap()));
    }
    assert_eq!(ways.len(), 15, "seeds that pass every check");
    let short = ways.iter().filter(|way| **way == Way::Short).count();
    assert_eq!(short, 3, "seeds that take the short way");
}

/// A stream that an undamaged packet passes, with up to three octets of the choice altered.
fn choices() -> impl Strategy<Value = [u8; 16]> {
    const SOUND: [u8; 16] = [
        0x03, 0, 0x1f, 0x40, 0, 0, 0xc3, 0x50, 44, 0xb8, 5, 0xdc, 3, 0xe8, 0, 0,
    ];
    let altered = prop::collection::vec((0usize..16, any::<u8>()), 0..4);
    (altered, prop::bool::weighted(0.25)).prop_map(|(altered, is_mixed)| {
        let mut choice = SOUND;
        // The route's version is not the packet's.
        choice[0] ^= u8::from(is_mixed) << 5;
        for (at, value) in altered {
            choice[at] = value;
        }
        choice
    })
}

/// A packet with up to three octets altered, the IPv4 header checksum mostly right, and sometimes cut
/// short.
fn damaged() -> impl Strategy<Value = Vec<u8>> {
    let datagrams = prop_oneof![
        3 => Just(Datagram::v4(&rtp(1, 2, 3))),
        1 => Just(Datagram::v6(&rtp(1, 2, 3)))
    ];
    let damage = prop::collection::vec((0usize..120, any::<u8>()), 0..4);
    (
        datagrams,
        prop_oneof![2 => Just((0u16, 0)), 1 => Just((0, 5)), 1 => Just((5, 5))],
        damage,
        any::<usize>(),
    )
        .prop_map(|(datagram, (vlan, padding), damage, len)| {
            let mut frame = Datagram {
                vlan,
                padding,
                ..datagram
            }
            .frame();
            for (at, value) in damage {
                frame[at] = value;
            }
            if len % 5 != 0 {
                let ip = if vlan == 0 { 14..34 } else { 18..38 };
                frame[ip.start + 10..ip.start + 12].fill(0);
                let sum = checksum(plain_sum(&frame[ip.clone()]));
                frame[ip.start + 10..ip.start + 12].copy_from_slice(&sum);
            }
            frame.truncate(
                frame.len()
                    - if len % 3 == 0 {
                        len / 3 % frame.len()
                    } else {
                        0
                    },
            );
            frame
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2048))]

    #[test]
    fn random_octets_do_no_harm(data in prop::collection::vec(0u8.., 0..300)) {
        run(&data);
        crate::stun::run(&data);
    }

    #[test]
    fn damaged_packets_do_no_harm(choice in prop_oneof![3 => choices(), 1 => any::<[u8; 16]>()], frame in damaged()) {
        run(&[&choice[..], &frame].concat());
    }
}
