//! Frames, decodes and types any datagram. What decodes must survive both encodings.
//!
//! Built with `RUSTFLAGS="--cfg fuzzing -Cpasses=sancov-module
//! -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters
//! -Cllvm-args=-sanitizer-coverage-pc-table -Ccodegen-units=1"` and an explicit `--target`.

#![no_main]

use libfuzzer_sys::fuzz_target;
use penstock_ng::{Datagram, DecodeError, Encoding, FrameError, Reply, Request};

fuzz_target!(|bytes: &[u8]| {
    let datagram = match Datagram::parse(bytes) {
        Ok(datagram) => datagram,
        Err(FrameError::Undecodable { reply, .. }) => {
            let refusal = Datagram::parse(&reply).expect("a refusal is a message");
            assert_eq!(refusal.encoding, Encoding::Bencode);
            return;
        }
        Err(_) => return,
    };
    let typed = Request::parse(&datagram.dict);
    for encoding in [Encoding::Bencode, Encoding::Json] {
        let reply = Reply::ok()
            .with("echo", datagram.dict.clone())
            .encode(datagram.cookie, encoding);
        // The reply wraps what came in one dictionary more, which may be one too many.
        let again = match Datagram::parse(&reply) {
            Err(FrameError::Undecodable {
                reason: DecodeError::TooDeep | DecodeError::TooManyValues,
                ..
            }) => continue,
            again => again.expect("what is encoded decodes"),
        };
        assert_eq!((again.cookie, again.encoding), (datagram.cookie, encoding));
        let Some(penstock_ng::Value::Dict(echo)) = again.dict.get("echo") else {
            panic!("the echo is a dictionary")
        };
        if encoding == Encoding::Bencode || datagram.encoding == Encoding::Json {
            assert_eq!(echo, &datagram.dict);
            assert_eq!(Request::parse(echo), typed);
        }
    }
});
