//! Messages back to back on a stream.

use penstock_ng::{
    Datagram, Dict, Encoding, Framed, MAX_COOKIE, MAX_DEPTH, MAX_MESSAGE, MAX_VALUES, Reply, Value,
    frame,
};
use proptest::collection::vec;
use proptest::prelude::*;

#[test]
fn one_message_then_the_next() {
    let two = b"1_1 d7:command4:pinge1_2 d1:xli-3ed0:0:eee";
    assert_eq!(frame(two), Framed::Message(21));
    assert_eq!(frame(&two[21..]), Framed::Message(two.len() - 21));
    assert_eq!(frame(b""), Framed::Incomplete);
    for end in 1..21 {
        assert_eq!(frame(&two[..end]), Framed::Incomplete, "{end}");
    }
}

#[test]
fn garbage_is_known_at_once() {
    let cookie = "x".repeat(MAX_COOKIE + 1);
    let deep = format!("c d0:{}", "l".repeat(MAX_DEPTH));
    let many = format!("c d0:l{}", "0:".repeat(MAX_VALUES - 1));
    let huge = format!("c d{MAX_MESSAGE}:");
    for bytes in [
        " de",
        "c {\"command\":\"ping\"}",
        "c l",
        "c 4:ping",
        "c di1e",
        "c d1:ae",
        "c d1:a-1:",
        "c d01:",
        "c d1x",
        "c d0:i-0e",
        "c d0:ie",
        "c d0:i01e",
        "c d0:i9223372036854775808e",
        "c d0:i111111111111111111111",
        "c d18446744073709551616:",
        &cookie,
        &deep,
        &many,
        &huge,
    ] {
        assert_eq!(frame(bytes.as_bytes()), Framed::Garbage, "{bytes}");
    }
    let fits = format!("{} d", &cookie[1..]);
    assert_eq!(frame(fits.as_bytes()), Framed::Incomplete);
}

#[test]
fn no_buffer_need_hold_more_than_the_longest_message() {
    let message = |len: usize| format!("c d0:{len}:{}e", "x".repeat(len));
    let overhead = message(100_000).len() - 100_000;
    let longest = message(MAX_MESSAGE - overhead);
    assert_eq!(frame(longest.as_bytes()), Framed::Message(MAX_MESSAGE));
    assert_eq!(frame(&longest.as_bytes()[..200_000]), Framed::Incomplete);
    let longer = message(MAX_MESSAGE - overhead + 1);
    assert_eq!(frame(&longer.as_bytes()[..20]), Framed::Garbage);
    let values = "1024:".to_owned() + &"x".repeat(1024);
    let list = format!("c d0:l{}", values.repeat(300));
    assert_eq!(frame(list.as_bytes()), Framed::Garbage);
}

/// Values within the limits.
fn value() -> impl Strategy<Value = Value<'static>> {
    let leaf = prop_oneof![
        any::<i64>().prop_map(Value::from),
        vec(any::<u8>(), 0..12).prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 60, 6, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..6).prop_map(Value::from),
            vec(("[ -~]{0,8}", inner), 0..6).prop_map(|pairs| Value::Dict(Dict::from_iter(pairs))),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn each_message_ends_where_it_was_written_to(value in value(), more in vec(any::<u8>(), 0..9), cut in 0usize..400) {
        let mut bytes = Reply::ok().with("value", value).encode(b"c", Encoding::Bencode);
        let len = bytes.len();
        prop_assert_eq!(frame(&bytes[..cut.min(len - 1)]), Framed::Incomplete);
        bytes.extend(more);
        prop_assert_eq!(frame(&bytes), Framed::Message(len));
    }

    #[test]
    fn what_is_framed_decodes(text in "c d([dlie0-9:]|0:|1:a|3:sdp|i1e){0,60}e{0,6}") {
        match frame(text.as_bytes()) {
            Framed::Message(len) => prop_assert!(Datagram::parse(&text.as_bytes()[..len]).is_ok()),
            Framed::Incomplete => prop_assert!(Datagram::parse(text.as_bytes()).is_err()),
            // A stream's limits are not a datagram's, but nothing here comes near them.
            Framed::Garbage => prop_assert!(Datagram::parse(text.as_bytes()).is_err()),
        }
    }
}
