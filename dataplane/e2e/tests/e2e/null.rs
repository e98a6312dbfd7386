//! A device that never ends: every packet is a drop with a name, and the plane stops when told to.

use penstock_e2e::region::{balanced, totals};
use penstock_e2e::{Setup, Signal, lab, wait_for};
use penstock_shm::counters::Drop;
use std::time::Duration;

#[test]
fn each_packet_is_counted_under_a_name() {
    let lab = lab!("null", Setup::on("net_null0"));
    let mut plane = lab.plane();
    let table = lab.table();
    assert!(
        wait_for(Duration::from_secs(10), || totals(&table).rx > 100_000),
        "{:?}",
        totals(&table)
    );
    plane.stop_well();

    // Zeroes are addressed to nobody.
    let totals = balanced(&table);
    assert_eq!(
        (totals.forwarded, totals.consumed, totals.handed_over),
        (0, 0, 0)
    );
    assert_eq!(totals.rx, totals.dropped(Drop::NotOurMac), "{totals:?}");
}

#[test]
fn both_signals_end_it_cleanly_under_load() {
    let lab = lab!("signals", Setup::on("net_null0"));
    for signal in [Signal::TERM, Signal::INT] {
        let mut plane = lab.plane();
        let before = totals(&lab.table()).rx;
        assert!(wait_for(Duration::from_secs(10), || totals(&lab.table())
            .rx
            > before + 10_000));
        assert!(lab.table().plane_alive());
        let status = plane
            .stop(signal)
            .unwrap_or_else(|| panic!("{signal:?} does not end it"));
        assert_eq!(status.code(), Some(0), "{signal:?}: {}", plane.log());
        assert!(!lab.table().plane_alive());
    }
}
