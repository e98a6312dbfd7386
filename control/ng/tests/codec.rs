//! Framing and the two encodings: what is accepted, what is refused, what comes back.

use penstock_ng::{
    Datagram, DecodeError, Dict, Encoding, FrameError, MAX_COOKIE, MAX_DEPTH, MAX_VALUES, Reply,
    Value,
};
use proptest::collection::vec;
use proptest::prelude::*;

fn decode(message: &[u8]) -> Result<Dict<'static>, DecodeError> {
    let bytes = [b"7_1 ", message].concat();
    match Datagram::parse(bytes.leak()) {
        Ok(datagram) => Ok(datagram.dict),
        Err(FrameError::Undecodable { reason, .. }) => Err(reason),
        Err(other) => panic!("{other}"),
    }
}

/// The reply to a datagram that cannot be decoded.
fn refusal(bytes: &[u8]) -> String {
    match Datagram::parse(bytes) {
        Err(FrameError::Undecodable { reply, .. }) => String::from_utf8(reply).unwrap(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_string_is_written_behind_its_length() {
    for len in (0..120).chain([999, 1000, 12_345]) {
        let dict = Dict::from_iter([("a", vec![b'x'; len])]);
        let mut written = Vec::new();
        Encoding::Bencode.encode(&dict, &mut written);
        let want = [format!("d1:a{len}:").as_bytes(), &vec![b'x'; len], b"e"].concat();
        assert_eq!(written, want);
    }
}

#[test]
fn without_a_cookie_there_is_no_answer() {
    for bytes in [&b""[..], b"d7:command4:pinge", b" d7:command4:pinge"] {
        assert_eq!(Datagram::parse(bytes), Err(FrameError::NoCookie));
    }
    let fits = format!("{} de", "x".repeat(MAX_COOKIE));
    assert!(Datagram::parse(fits.as_bytes()).is_ok());
    let long = format!("x{fits}");
    let error = FrameError::CookieTooLong {
        len: MAX_COOKIE + 1,
    };
    assert_eq!(Datagram::parse(long.as_bytes()), Err(error));
}

#[test]
fn what_cannot_be_decoded_is_answered_in_bencode() {
    assert_eq!(
        refusal(b"99_x hello"),
        "99_x d6:result5:error12:error-reason22:Invalid NG data formate"
    );
    assert_eq!(
        refusal(b"99_x "),
        "99_x d6:result5:error12:error-reason22:Invalid NG data formate"
    );
    let bencode = "9 d6:result5:error12:error-reason35:Could not decode bencode dictionarye";
    assert_eq!(refusal(b"9 d7:command4:ping"), bencode);
    let json = "9 d6:result5:error12:error-reason29:Failed to parse JSON documente";
    assert_eq!(refusal(b"9 {\"command\":}"), json);
}

#[test]
fn integers_are_strict() {
    let integer =
        |text: &str| decode(format!("d1:ai{text}ee").as_bytes()).map(|d| d.get("a").cloned());
    assert_eq!(integer("0"), Ok(Some(Value::Integer(0))));
    assert_eq!(integer("-42"), Ok(Some(Value::Integer(-42))));
    assert_eq!(
        integer("9223372036854775807"),
        Ok(Some(Value::Integer(i64::MAX)))
    );
    assert_eq!(
        integer("-9223372036854775808"),
        Ok(Some(Value::Integer(i64::MIN)))
    );
    for bad in [
        "",
        "-",
        "-0",
        "00",
        "01",
        "-01",
        "+1",
        " 1",
        "1x",
        "9223372036854775808",
        "11111111111111111111111",
    ] {
        assert_eq!(
            integer(bad),
            Err(DecodeError::BadInteger { at: 4 }),
            "{bad}"
        );
    }
}

#[test]
fn bencode_that_is_not() {
    let cases: [(&[u8], DecodeError); 12] = [
        (b"d", DecodeError::Truncated),
        (b"d1:a", DecodeError::Truncated),
        (b"d1:ai1", DecodeError::Truncated),
        (b"d1:al", DecodeError::Truncated),
        (b"d1:a5", DecodeError::Truncated),
        (b"d1:a5:abce", DecodeError::BadLength { at: 4 }),
        (b"d1:a01:be", DecodeError::BadLength { at: 4 }),
        (b"d1:a1x:be", DecodeError::BadLength { at: 4 }),
        (b"d1:ax", DecodeError::NoValue { at: 4 }),
        (b"d1:ae", DecodeError::NoValue { at: 4 }),
        (b"di1ei1ee", DecodeError::BadKey { at: 1 }),
        (b"de\n", DecodeError::TrailingBytes { at: 2 }),
    ];
    for (message, error) in cases {
        assert_eq!(
            decode(message),
            Err(error),
            "{}",
            String::from_utf8_lossy(message)
        );
    }
}

#[test]
fn bombs() {
    let deep = |open: &str, n: usize| [b"d1:a", open.repeat(n).as_bytes()].concat();
    assert_eq!(decode(&deep("l", 100_000)), Err(DecodeError::TooDeep));
    assert_eq!(decode(&deep("d1:a", 100_000)), Err(DecodeError::TooDeep));
    assert_eq!(
        decode(format!("{{\"a\":{}", "[".repeat(100_000)).as_bytes()),
        Err(DecodeError::TooDeep)
    );
    assert_eq!(
        decode("{\"a\":".repeat(100_000).as_bytes()),
        Err(DecodeError::TooDeep)
    );
    assert_eq!(
        decode(b"d1:a999999999999:x"),
        Err(DecodeError::BadLength { at: 4 })
    );
    assert_eq!(
        decode(b"d1:a18446744073709551616:x"),
        Err(DecodeError::BadLength { at: 4 })
    );
    assert_eq!(
        decode(&[b"d1:a", &[b'9'; 60_000][..]].concat()),
        Err(DecodeError::BadLength { at: 4 })
    );
    assert_eq!(
        decode(&[b"d1:ai", &[b'9'; 60_000][..]].concat()),
        Err(DecodeError::BadInteger { at: 4 })
    );
    let many = format!("d1:al{}ee", "0:".repeat(30_000));
    assert_eq!(decode(many.as_bytes()), Err(DecodeError::TooManyValues));
    let many = format!("{{\"a\":[{}0]}}", "0,".repeat(30_000));
    assert_eq!(decode(many.as_bytes()), Err(DecodeError::TooManyValues));
}

#[test]
fn the_limits_themselves_are_allowed_in_both_encodings() {
    let nested = |open: &str, close: &str, n: usize| open.repeat(n) + &close.repeat(n);
    for (n, fits) in [(MAX_DEPTH - 1, true), (MAX_DEPTH, false)] {
        let bencode = format!("d1:a{}e", nested("l", "e", n));
        let json = format!("{{\"a\":{}}}", nested("[", "]", n));
        assert_eq!(decode(bencode.as_bytes()).is_ok(), fits, "{n}");
        assert_eq!(decode(json.as_bytes()), decode(bencode.as_bytes()), "{n}");
    }
    // The dictionary and the list are two of the values.
    for (n, fits) in [(MAX_VALUES - 2, true), (MAX_VALUES - 1, false)] {
        let bencode = format!("d1:al{}ee", "i1e".repeat(n));
        let json = format!("{{\"a\":[{}]}}", vec!["1"; n].join(","));
        assert_eq!(decode(bencode.as_bytes()).is_ok(), fits, "{n}");
        assert_eq!(decode(json.as_bytes()), decode(bencode.as_bytes()), "{n}");
    }
}

#[test]
fn json_is_the_same_message() {
    let json = br#" 1"#;
    assert_eq!(decode(json), Err(DecodeError::NotADictionary));
    let json =
        br#"{"command":"offer","sdp":"v=0\r\n","n":-3,"t":true,"z":null,"flags":["a",{"b":[]}]} "#;
    let bencode = b"d7:command5:offer3:sdp5:v=0\r\n1:ni-3e1:ti1e1:z0:5:flagsl1:ad1:bleeee";
    assert_eq!(decode(json), decode(bencode));
    for bad in [
        "{\"a\":1.5}",
        "{\"a\":18446744073709551615}",
        "{\"a\":1}}",
        "{\"a\":1} x",
        "{\"a\":\"\u{1}\"}",
    ] {
        assert!(
            matches!(decode(bad.as_bytes()), Err(DecodeError::Json(_))),
            "{bad}"
        );
    }
}

#[test]
fn replies_in_both_encodings() {
    let reply = Reply::ok()
        .with("sdp", b"v=0\r\n\xff".to_vec())
        .with("n", 7_u64);
    assert_eq!(
        reply.encode(b"c", Encoding::Bencode),
        b"c d6:result2:ok3:sdp6:v=0\r\n\xff1:ni7ee"
    );
    let json = "c {\"result\":\"ok\",\"sdp\":\"v=0\\r\\n\u{fffd}\",\"n\":7}";
    assert_eq!(
        String::from_utf8(reply.encode(b"c", Encoding::Json)).unwrap(),
        json
    );
    let shown = |reply: Reply| String::from_utf8(reply.encode(b"c", Encoding::Json)).unwrap();
    assert_eq!(
        shown(Reply::error("no")),
        r#"c {"result":"error","error-reason":"no"}"#
    );
    assert_eq!(
        shown(Reply::warning("hm")),
        r#"c {"result":"ok","warning":"hm"}"#
    );
    assert_eq!(
        shown(Reply::load_limit("full")),
        r#"c {"result":"load limit","message":"full"}"#
    );
    assert_eq!(Value::from(u64::MAX), Value::Integer(i64::MAX));
}

/// Values within the limits; text only, for JSON.
fn value(text: bool) -> impl Strategy<Value = Value<'static>> {
    let bytes = match text {
        true => "\\PC{0,12}".prop_map(Value::from).boxed(),
        false => vec(any::<u8>(), 0..12).prop_map(Value::from).boxed(),
    };
    let leaf = prop_oneof![any::<i64>().prop_map(Value::from), bytes];
    leaf.prop_recursive(6, 60, 6, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..6).prop_map(Value::from),
            vec(("[ -~]{0,8}", inner), 0..6).prop_map(|pairs| Value::Dict(Dict::from_iter(pairs))),
        ]
    })
}

/// A reply written, read back and compared.
fn round_trip(value: Value<'static>, encoding: Encoding) {
    let bytes = Reply::ok()
        .with("value", value.clone())
        .encode(b"cookie", encoding);
    let datagram = Datagram::parse(&bytes).unwrap();
    assert_eq!(
        (datagram.cookie, datagram.encoding),
        (&b"cookie"[..], encoding)
    );
    assert_eq!(datagram.dict.get("value"), Some(&value));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn bencode_round_trips(value in value(false)) {
        round_trip(value, Encoding::Bencode);
    }

    #[test]
    fn json_round_trips(value in value(true)) {
        round_trip(value, Encoding::Json);
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in vec(any::<u8>(), 0..200)) {
        let _ = Datagram::parse(&bytes);
    }

    #[test]
    fn almost_messages_never_panic(text in "[a-z_0-9]{1,4} [d{]([dlie0-9:\\[\\]{},\"-]|1:a|3:sdp){0,60}") {
        let _ = Datagram::parse(text.as_bytes());
    }

    #[test]
    fn what_decodes_encodes_to_the_same_bytes(value in value(false), cut in 0usize..400) {
        let bytes = Reply::ok().with("value", value).encode(b"c", Encoding::Bencode);
        let cut = &bytes[..cut.min(bytes.len())];
        // Bencode is its own terminator: no proper prefix is a message.
        prop_assert_eq!(Datagram::parse(cut).is_ok(), cut.len() == bytes.len());
    }
}
