//! Whole bursts of random frames over random streams: see [`bursts`](crate::bursts).

use crate::bursts::{Sums, run};
use penstock_relay::Drop;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

#[test]
fn the_sums_hold_over_mixed_bursts() {
    let mut all = Sums::default();
    let mut runner = TestRunner::deterministic();
    for _ in 0..2000 {
        let data = vec(any::<u8>(), 0..4096).new_tree(&mut runner).unwrap();
        let sums = run(&data.current());
        all.frames += sums.frames;
        all.forwarded += sums.forwarded;
        all.short += sums.short;
        all.steward += sums.steward;
        all.drops
            .iter_mut()
            .zip(sums.drops)
            .for_each(|(sum, n)| *sum += n);
    }
    // The frames are such that nearly everything happens.
    assert!(
        all.forwarded > all.frames / 10 && all.short > 200,
        "{all:?}"
    );
    assert!(all.steward > 0, "{all:?}");
    // Where a packet leaves, by which worker, with which copies and who answers it is no part of this.
    let elsewhere = [
        Drop::Stun,
        Drop::StunCheck,
        Drop::StunLimit,
        Drop::Loop,
        Drop::NextHop,
        Drop::TxFull,
        Drop::HandOver,
        Drop::NoBuffer,
    ];
    for reason in Drop::OF_STREAM {
        let never = all.drops[*reason as usize] == 0;
        assert_eq!(never, elsewhere.contains(reason), "{reason:?}: {all:?}");
    }
}
