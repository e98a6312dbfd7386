//! Fuzz target: see [`body`] and [`burst`].

#![no_main]

mod body;
mod burst;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    body::run(data);
    burst::run(data);
});
