//! Penstock's control side: the daemon `penstock-control` and the command `penstock`.
//!
//! The daemon is one thread with one tokio runtime. Its parts:
//!
//! | part | does |
//! | --- | --- |
//! | [`daemon`] | starts the others, waits for a signal |
//! | `front` | ng over UDP, TCP, HTTP and WebSocket: who may, cookies, replies |
//! | `lanes` | what concerns one call, in order |
//! | `service` | what each command does: media core, plane, store, in that order |
//! | `link` | owns the region: commands out, refusals and *applied* in, the plane's life and death |
//! | `ageing` | ends calls whose media does not flow |
//! | `quality` | rates how media sounds, over the call and for each source |
//! | `statistics` | totals under rtpengine's names |
//! | `records` | a line for each call that ends |
//! | `ctl` | answers rtpengine-ctl's commands |
//! | `settings`, `ending`, `log` | what an operator changes while running |
//! | `reload` | reads the configuration again |
//! | `store` | the calls, on disk before the reply leaves |
//! | `socket` | the command's unix socket |
//! | `capture` | what of a call is copied, for whom |
//!
//! The store says what is desired, the region what is installed. An operation is prepared in the
//! media core, applied by the plane, written to the store, committed, and only then answered. A
//! control killed in between leaves streams that no stored call owns; the next one removes them.

mod ageing;
mod capture;
pub mod cli;
mod ctl;
pub mod daemon;
mod ending;
mod facing;
mod front;
mod history;
mod lanes;
mod link;
mod load;
pub mod log;
mod plan;
mod quality;
mod records;
mod reload;
mod report;
mod service;
mod settings;
mod socket;
mod statistics;
mod stats;
mod store;
mod subscriptions;
mod wishes;
