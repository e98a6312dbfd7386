//! Parses any bytes; what parses is rewritten with edits that hang on the bytes themselves, and what
//! leaves must read as asked (`oracle`, which the property tests share).
//!
//! Built with `RUSTFLAGS="--cfg fuzzing -Cpasses=sancov-module
//! -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters
//! -Cllvm-args=-sanitizer-coverage-pc-table -Ccodegen-units=1"` and an explicit `--target`.

#![no_main]

#[path = "../../tests/bodies/oracle.rs"]
mod oracle;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|body: &[u8]| {
    // FNV-1a: the same edits for the same body.
    let seed = body.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    oracle::check(body, seed);
});
