//! EAL's own refusal comes out as an error, and uses up the only start.

mod common;

use penstock_dpdk::{Eal, Error};

#[test]
fn more_memory_than_there_is() {
    let mut config = common::config();
    config.memory_mb = u32::MAX >> 4;
    let error = Eal::init(&config).unwrap_err();
    assert!(
        matches!(
            &error,
            Error::Call {
                call: "rte_eal_init",
                ..
            }
        ),
        "{error}"
    );
    config.memory_mb = 64;
    assert_eq!(Eal::init(&config).unwrap_err(), Error::AlreadyInitialised);
}
