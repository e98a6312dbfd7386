//! Raw bindings to DPDK, generated at build time from the installed headers.
//!
//! Nothing here is safe to call: `penstock-dpdk` is the only crate that may depend on it.
//! A static inline function of DPDK is bound to a compiled twin (built `-O3` whatever
//! the profile), so that its name and signature are those of the DPDK manual. DPDK's
//! thread-local variables are not bound: Rust cannot name them.

#![allow(
    clippy::all,
    missing_docs,
    non_camel_case_types,
    non_snake_case,
    non_upper_case_globals,
    unsafe_op_in_unsafe_fn,
    unused_imports
)]

include!(concat!(env!("OUT_DIR"), "/bindings.rs"));
