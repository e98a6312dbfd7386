//! The real daemon and the real command against a region, and a plane without DPDK. Most tests wait for the daemon, so
//! that many may run at a time: `cargo test -p penstock-control --test control -- --test-threads=8`.

mod cli;
mod common;
mod connect;
mod drain;
mod front;
mod kills;
mod learning;
mod life;
mod limits;
mod merged;
mod ng;
mod operate;
mod policies;
mod records;
mod reload;
mod timeouts;
mod words;
