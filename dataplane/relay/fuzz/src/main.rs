//! Fuzz target: see [`body`], [`burst`] and [`stun`].

#![no_main]

mod body;
mod burst;
mod stun;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    body::run(data);
    burst::run(data);
    stun::run(data);
});
