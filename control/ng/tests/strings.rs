//! Flag strings: what they may name, what bounds them.

use penstock_ng::{
    Datagram, Dict, Flag, MAX_BRACKETS, MAX_FLAGS, Options, Replace, Request, RequestError, Signal,
    Value,
};
use proptest::collection::vec;
use proptest::prelude::*;

/// An offer with more keys, as JSON without its braces.
fn offer(more: &str) -> Result<Signal, RequestError> {
    let text =
        format!(r#"c {{"command":"offer","sdp":"v=0","call-id":"1","from-tag":"a",{more}}}"#);
    let dict = Datagram::parse(text.as_bytes()).unwrap().dict;
    Request::parse(&dict).map(|request| match request {
        Request::Offer(signal) => *signal,
        other => panic!("{other:?}"),
    })
}

/// An offer whose flags all stand in one string.
fn string(flags: &str) -> Options {
    offer(&format!(r#""rtpp-flags":"{flags}""#))
        .unwrap()
        .options
}

#[test]
fn identifiers_in_the_string_yield_to_keys() {
    let only = r#"c {"command":"answer","sdp":"v=0","rtpp_flags":"call-id=1 from-tag=a to-tag=b via-branch=z received-from=192.0.2.1"}"#;
    let Ok(Request::Answer(answer)) =
        Request::parse(&Datagram::parse(only.as_bytes()).unwrap().dict)
    else {
        panic!("not an answer")
    };
    assert_eq!(
        (answer.call_id.as_str(), answer.from_tag.as_str()),
        ("1", "a")
    );
    assert_eq!(
        (answer.to_tag.as_deref(), answer.via_branch.as_deref()),
        (Some("b"), Some("z"))
    );
    assert_eq!(
        answer.options.received_from,
        Some("192.0.2.1".parse().unwrap())
    );
    let both = offer(r#""via-branch":"key","to-tag":"","rtpp-flags":"call-id=9 from-tag=9 via-branch=auto-next fatal""#).unwrap();
    assert_eq!((both.call_id.as_str(), both.from_tag.as_str()), ("1", "a"));
    assert_eq!(
        (both.via_branch.as_deref(), both.to_tag),
        (Some("key"), None)
    );
    assert_eq!(both.options.flags, [Flag::Fatal]);
    for branch in ["auto", "auto-next", "next", "extra", "1", "2"] {
        let found = offer(&format!(r#""rtpp-flags":"via-branch={branch}""#)).unwrap();
        assert_eq!(found.via_branch, None, "{branch} names a header");
    }
    assert_eq!(
        offer(r#""via-branch":"1""#).unwrap().via_branch.as_deref(),
        Some("1")
    );
}

#[test]
fn a_flag_string_is_bounded() {
    let nested = |depth: usize| format!("colour={}{}", "[".repeat(depth), "]".repeat(depth));
    assert_eq!(string(&nested(MAX_BRACKETS)).unknown, ["colour"]);
    let deep = offer(&format!(r#""rtpp-flags":"{}""#, nested(MAX_BRACKETS + 1)));
    let text = "rtpp-flags must be at most 16384 bytes, its brackets nested at most 8 deep";
    assert_eq!(deep.unwrap_err().to_string(), text);
    let long = |len: usize| offer(&format!(r#""rtpp-flags":"{}""#, " ".repeat(len)));
    assert!(long(MAX_FLAGS).is_ok());
    assert_eq!(long(MAX_FLAGS + 1).unwrap_err().to_string(), text);
    // Brackets that do not match do no harm.
    let odd = string("] fast replace=[origin username");
    assert_eq!(
        (odd.flags, odd.replace),
        (vec![Flag::Fast], vec![Replace::Origin, Replace::Username])
    );
    let not_utf8 = Dict(vec![
        ("command".into(), "offer".into()),
        ("rtpp-flags".into(), b"call-id=\xff".to_vec().into()),
    ]);
    assert!(matches!(
        Request::parse(&not_utf8),
        Err(RequestError::BadValue { .. })
    ));
}

/// A flag string of nested lists and words that are known.
fn flags() -> impl Strategy<Value = String> {
    const WORDS: [&str; 24] = [
        "codec",
        "strip",
        "sdp-attr",
        "audio",
        "add",
        "substitute",
        "a>b",
        "ICE",
        "remove",
        "SDES-off",
        "fast",
        "rtcp-mux-offer",
        "direction",
        "transcode-X",
        "T.38",
        "call-id",
        "to-tag",
        "extmap",
        "flags",
        "SRTP",
        "ä-ö",
        "codec-strip-",
        "--..",
        "=",
    ];
    let word = prop::sample::select(&WORDS[..]).prop_map(str::to_owned);
    word.prop_recursive(6, 40, 5, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..5).prop_map(|items| format!("[{}]", items.join(" "))),
            (prop::sample::select(&WORDS[..]), inner.clone())
                .prop_map(|(key, value)| format!("{key}={value}")),
            vec(inner, 1..4).prop_map(|items| items.join(" ")),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_flag_string_is_read_or_refused(text in prop_oneof![flags(), "[ -~]{0,80}", "[a-z=\\[\\] .>-]{0,80}"]) {
        let dict = Dict::from_iter([("command", "offer"), ("sdp", "v=0"), ("call-id", "1"), ("from-tag", "a"), ("rtpp-flags", &text)]);
        if let Ok(Request::Offer(signal)) = Request::parse(&dict) {
            prop_assert_eq!(signal.call_id.as_str(), "1");
            for edit in &signal.options.sdp_attributes {
                prop_assert!(edit.add.iter().all(|line| !line.contains(['\r', '\n'])));
            }
        }
    }

    #[test]
    fn words_mean_the_same_in_the_list_and_in_the_string(words in vec(prop::sample::select(&[
        "strict-source", "ICE=remove", "replace-origin", "RTP/SAVP", "internal", "codec-strip-PCMU", "TOS=4", "label=x",
        "sdp-attr-add-audio-x:y", "rtcp-mux-demux", "no-such-thing", "AVPF", "SDES-off", "media-echo=both",
    ][..]), 0..8)) {
        let list: Value = Value::List(words.iter().map(|&word| word.into()).collect());
        let read = |key: &str, value: Value| {
            let mut dict = Dict::from_iter([("command", "offer"), ("sdp", "v=0"), ("call-id", "1"), ("from-tag", "a")]);
            dict.push(key, value);
            Request::parse(&dict)
        };
        prop_assert_eq!(read("flags", list), read("rtpp-flags", words.join(" ").into()));
    }
}
