//! Parses any bytes; what parses is rewritten, and what leaves must parse again.
//!
//! Built with `RUSTFLAGS="--cfg fuzzing -Cpasses=sancov-module
//! -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters
//! -Cllvm-args=-sanitizer-coverage-pc-table -Ccodegen-units=1"` and an explicit `--target`.

#![no_main]

use libfuzzer_sys::fuzz_target;
use penstock_sdp::{MediaRewrite, Rewrite, Sdp, SdpError};
use std::net::IpAddr;

fuzz_target!(|body: &[u8]| {
    let Ok(sdp) = Sdp::parse(body) else { return };
    let address = IpAddr::from([192, 0, 2, 1]);
    let change = MediaRewrite {
        port: 30_000,
        address,
        rtcp_port: Some(30_001),
        protocol: None,
    };
    let media = vec![change; sdp.media().len()];
    let rewrite = Rewrite {
        origin: Some(address),
        remove_ice: true,
        media,
    };
    let out = sdp.rewrite(&rewrite).expect("every section is named");
    let again = match Sdp::parse(&out) {
        Err(SdpError::TooLarge { .. }) => return,
        again => again.expect("what leaves can be read"),
    };
    assert_eq!(again.connection(), None);
    assert_eq!(again.media().len(), sdp.media().len());
    for (is, was) in again.media().iter().zip(sdp.media()) {
        assert_eq!(is.port, if was.is_rejected() { 0 } else { 30_000 });
        assert!(is.address == Some(address) || was.is_zero_address());
        assert!(!is.ice);
    }
    assert_eq!(
        again.rewrite(&rewrite).as_deref(),
        Ok(&out[..]),
        "a second rewrite changes nothing"
    );
});
