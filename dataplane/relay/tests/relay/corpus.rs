//! The fuzz target's body over its corpus, over random octets, and over damaged packets.

use crate::body::run;
use crate::support::{Datagram, rtp};
use proptest::prelude::*;
use std::path::Path;

#[test]
fn the_corpus_does_no_harm() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    let mut passed = 0;
    for entry in std::fs::read_dir(corpus).unwrap() {
        passed += usize::from(run(&std::fs::read(entry.unwrap().path()).unwrap()));
    }
    assert_eq!(passed, 10, "seeds that pass every check");
}

fn damaged() -> impl Strategy<Value = Vec<u8>> {
    let datagrams = prop_oneof![
        Just(Datagram::v4(&rtp(1, 2, 3))),
        Just(Datagram::v6(&rtp(1, 2, 3)))
    ];
    let damage = prop::collection::vec((0usize..120, any::<u8>()), 0..4);
    (
        datagrams,
        prop_oneof![Just(0u16), Just(5)],
        damage,
        any::<usize>(),
    )
        .prop_map(|(datagram, vlan, damage, len)| {
            let mut frame = Datagram {
                vlan,
                padding: 5,
                ..datagram
            }
            .frame();
            for (at, value) in damage {
                frame[at] = value;
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
    #[test]
    fn random_octets_do_no_harm(data in prop::collection::vec(0u8.., 0..300)) {
        run(&data);
    }

    #[test]
    fn damaged_packets_do_no_harm(choice in any::<[u8; 16]>(), frame in damaged()) {
        run(&[&choice[..], &frame].concat());
    }
}
