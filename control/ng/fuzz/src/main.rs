//! Frames, decodes and types any datagram: as it is, on a stream, and as a flag string. What decodes
//! must survive both encodings, and a stream must end it where a datagram does.
//!
//! Built with `RUSTFLAGS="--cfg fuzzing -Cpasses=sancov-module
//! -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters
//! -Cllvm-args=-sanitizer-coverage-pc-table -Ccodegen-units=1"` and an explicit `--target`.

#![no_main]

use libfuzzer_sys::fuzz_target;
use penstock_ng::{
    Datagram, Dict, Encoding, FrameError, Framed, Request, RequestError, Value,
    frame,
};

fuzz_target!(|bytes: &[u8]| {
    stream(bytes);
    flags(bytes);
    datagram(bytes);
});

/// A stream and a datagram hold the same messages.
fn stream(bytes: &[u8]) {
    let bencode =
        |bytes| matches!(Datagram::parse(bytes), Ok(found) if found.encoding == Encoding::Bencode);
    match frame(bytes) {
        Framed::Message(len) => assert!(bencode(&bytes[..len])),
        Framed::Incomplete | Framed::Garbage => assert!(!bencode(bytes)),
    }
}

/// A flag string is read or refused, and cannot take the place of what the message says.
fn flags(bytes: &[u8]) {
    let mut dict = Dict::from_iter([
        ("command", "offer"),
        ("sdp", "v=0"),
        ("call-id", "1"),
        ("from-tag", "a"),
    ]);
    dict.push("rtpp-flags", Value::from(bytes.to_vec()));
    match Request::parse(&dict) {
        Ok(Request::Offer(offer)) => {
            assert_eq!(
                (offer.call_id.as_str(), offer.from_tag.as_str()),
                ("1", "a")
            );
            let lines = offer
                .options
                .sdp_attributes
                .iter()
                .flat_map(|edit| &edit.add);
            assert!(lines.into_iter().all(|line| !line.contains(['\r', '\n'])));
        }
        Err(
            RequestError::BadValue { .. }
            | RequestError::TooLong { .. }
            | RequestError::Refused { .. },
        ) => {}
        other => panic!("{other:?}"),
    }
}

fn datagram(bytes: &[u8]) {
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
        let mut message = [datagram.cookie, b" "].concat();
        encoding.encode(&datagram.dict, &mut message);
        let again = Datagram::parse(&message).expect("what is encoded decodes");
        assert_eq!((again.cookie, again.encoding), (datagram.cookie, encoding));
        if encoding == Encoding::Bencode || datagram.encoding == Encoding::Json {
            assert_eq!(again.dict, datagram.dict);
            assert_eq!(Request::parse(&again.dict), typed);
        }
    }
}
