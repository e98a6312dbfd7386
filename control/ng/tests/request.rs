//! Requests as clients send them.

use penstock_ng::{
    AddressFamily, Datagram, Dict, Encoding, EndpointLearning, Flag, Ice, MAX_WORD, Options,
    Replace, Reply, Request, RequestError, RtcpMux, Signal, Transport, Value, reason,
};
use proptest::collection::vec;
use proptest::prelude::*;

const SDP: &str = "v=0\r\no=user1 53655765 2353687637 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n\
    m=audio 6000 RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\n";

fn json(text: &str) -> Result<Request, RequestError> {
    Request::parse(
        &Datagram::parse(format!("c {text}").as_bytes())
            .unwrap()
            .dict,
    )
}

/// An offer with more keys, as JSON without its braces.
fn offer(more: &str) -> Result<Signal, RequestError> {
    let comma = if more.is_empty() { "" } else { "," };
    let text =
        format!(r#"{{"command":"offer","sdp":"v=0","call-id":"1","from-tag":"a"{comma}{more}}}"#);
    // The longer texts below are broken over lines, which JSON strings cannot be.
    json(&text.replace('\n', " ")).map(|request| match request {
        Request::Offer(signal) => *signal,
        other => panic!("{other:?}"),
    })
}

fn options(more: &str) -> Options {
    offer(more).unwrap().options
}

fn bad_value(key: &str, want: &'static str) -> RequestError {
    RequestError::BadValue {
        key: key.to_owned(),
        want,
    }
}

#[test]
fn kamailio_pings() {
    let datagram = Datagram::parse(b"0_25197_0 d7:command4:pinge").unwrap();
    assert_eq!(
        (datagram.cookie, datagram.encoding),
        (&b"0_25197_0"[..], Encoding::Bencode)
    );
    assert_eq!(Request::parse(&datagram.dict), Ok(Request::Ping));
    assert_eq!(
        Reply::pong().encode(datagram.cookie, datagram.encoding),
        b"0_25197_0 d6:result4:ponge"
    );
}

#[test]
fn kamailio_offers() {
    let text = format!(
        "0_25197_1 d8:supportsl10:load limite3:sdp{}:{SDP}3:ICE6:remove7:replacel6:origin18:session-connectione\
         18:transport-protocol7:RTP/AVP7:call-id17:1-25206@127.0.0.113:received-froml3:IP49:127.0.0.1e\
         8:from-tag15:25206SIPpTag0017:command5:offere",
        SDP.len()
    );
    let datagram = Datagram::parse(text.as_bytes()).unwrap();
    let Ok(Request::Offer(offer)) = Request::parse(&datagram.dict) else {
        panic!("not an offer")
    };
    let want = Signal {
        call_id: "1-25206@127.0.0.1".to_owned(),
        from_tag: "25206SIPpTag001".to_owned(),
        to_tag: None,
        via_branch: None,
        sdp: SDP.as_bytes().to_vec(),
        options: Options {
            replace: vec![Replace::Origin],
            ice: Some(Ice::Remove),
            transport_protocol: Some(Transport::RtpAvp),
            received_from: Some("127.0.0.1".parse().unwrap()),
            load_limit: true,
            ..Options::default()
        },
    };
    assert_eq!(*offer, want);
}

#[test]
fn each_missing_key_in_rtpengines_words() {
    let cases = [
        ("{}", reason::NO_COMMAND),
        (r#"{"command":["ping"]}"#, reason::NO_COMMAND),
        (r#"{"command":"dance"}"#, "Unrecognized command"),
        (r#"{"command":"offer"}"#, "No SDP body in message"),
        (r#"{"command":"answer","sdp":""}"#, "No SDP body in message"),
        (r#"{"command":"offer","sdp":"v=0"}"#, reason::NO_CALL_ID),
        (
            r#"{"command":"offer","sdp":"v=0","call-id":""}"#,
            reason::NO_CALL_ID,
        ),
        (
            r#"{"command":"offer","sdp":"v=0","call-id":"1"}"#,
            reason::NO_FROM_TAG,
        ),
        (
            r#"{"command":"answer","sdp":"v=0","call-id":"1","from-tag":"a"}"#,
            reason::NO_TO_TAG,
        ),
        (r#"{"command":"delete"}"#, reason::NO_CALL_ID),
        (r#"{"command":"query"}"#, reason::NO_CALL_ID),
        (
            r#"{"command":"list","limit":-1}"#,
            "limit must be 0 or more",
        ),
    ];
    for (message, text) in cases {
        assert_eq!(json(message).unwrap_err().to_string(), text, "{message}");
    }
}

#[test]
fn keys_in_every_spelling_and_integers_as_text() {
    let text = r#"{"Command":"delete","CALL ID":"x","From_Tag":7,"to tag":"b","Via-Branch":"z","delete delay":"30"}"#;
    let Ok(Request::Delete(delete)) = json(text) else {
        panic!("not a delete")
    };
    assert_eq!(
        (delete.call_id.as_str(), delete.from_tag.as_deref()),
        ("x", Some("7"))
    );
    assert_eq!(
        (delete.to_tag.as_deref(), delete.via_branch.as_deref()),
        (Some("b"), Some("z"))
    );
    assert_eq!(delete.options.delete_delay_s, Some(30));
    assert_eq!(delete.options.unknown, [""; 0]);
    assert_eq!(
        json(r#"{"command":"list","limit":"7"}"#),
        Ok(Request::List { limit: 7 })
    );
    assert_eq!(
        json(r#"{"command":"list"}"#),
        Ok(Request::List { limit: 32 })
    );
    let Ok(Request::Query(query)) = json(r#"{"command":"query","call-id":"q"}"#) else {
        panic!("not a query")
    };
    assert_eq!(
        (query.call_id.as_str(), query.from_tag, query.to_tag),
        ("q", None, None)
    );
}

#[test]
fn an_answer_has_its_tag() {
    let text = r#"{"command":"answer","sdp":"v=0","call-id":"1","from-tag":"a","to-tag":"b"}"#;
    let Ok(Request::Answer(answer)) = json(text) else {
        panic!("not an answer")
    };
    assert_eq!(answer.to_tag.as_deref(), Some("b"));
}

#[test]
fn the_three_forms_of_a_wish_are_one() {
    let keys = options(
        r#""ICE":"remove","replace":["origin","session connection"],"rtcp-mux":["demux"],"direction":["internal","external"],
           "transport-protocol":"RTP/AVP","flags":["trust address","Strict_Source"],"media-address":"192.0.2.9",
           "endpoint-learning":"delayed","TOS":184,"received-from":["IP6","2001:db8::7"],"address family":"IP6""#,
    );
    let list = options(
        r#""flags":["ICE-remove","replace-origin","replace-session-connection","rtcp-mux-demux","internal","external",
           "RTP/AVP","trust-address","strict-source","media-address=192.0.2.9","endpoint learning=Delayed","TOS=184","received-from=2001:db8::7","address-family=IP6"]"#,
    );
    let text = options(
        r#""rtpp-flags":"ICE=remove replace-origin replace=[session-connection]  rtcp-mux=[demux] direction=[internal external]
           transport-protocol=RTP/AVP trust-address strict-source media-address=192.0.2.9 endpoint-learning=delayed TOS=184 received-from=[IP6 2001:db8::7] address-family=IP6""#,
    );
    let twice = options(r#""rtpp_flags":"direction=internal direction=external""#);
    assert_eq!(keys, list);
    assert_eq!(keys, text);
    let again = options(
        r#""flags":["fast","Fast","replace-origin"],"replace":["origin"],"rtcp-mux":"offer offer""#,
    );
    assert_eq!(
        (again.flags, again.replace),
        (vec![Flag::Fast], vec![Replace::Origin])
    );
    assert_eq!(again.rtcp_mux, [RtcpMux::Offer]);
    assert_eq!(twice.direction, ["internal", "external"]);
    assert_eq!(keys.flags, [Flag::TrustAddress, Flag::StrictSource]);
    assert_eq!(keys.rtcp_mux, [RtcpMux::Demux]);
    assert_eq!(keys.endpoint_learning, Some(EndpointLearning::Delayed));
    assert_eq!(keys.tos, Some(184));
    assert_eq!(keys.address_family, Some(AddressFamily::Ip6));
    assert!(keys.has(Flag::TrustAddress) && !keys.has(Flag::Fatal));
    assert_eq!(keys.unknown, [""; 0]);
}

#[test]
fn a_tos_is_a_number() {
    for (text, want) in [
        (r#""TOS":184"#, Some(184)),
        (r#""TOS":"0""#, Some(0)),
        (r#""rtpp-flags":"TOS=255""#, Some(255)),
        (r#""TOS":-1"#, Some(-1)),
        (r#""TOS":256"#, Some(256)),
    ] {
        assert_eq!(options(text).tos, want, "{text}");
    }
}

#[test]
fn what_is_not_known_is_collected() {
    let found = options(
        r#""colour":{"strip":["all"]},"flags":["Paint It","call-id=stolen","colour=red"],"ICE":"lite","replace":["colour"],
           "rtcp-mux":["maybe"],"rtpp-flags":"codec=[paint=[a b]] sdp-attr=[moon=[add=x]] tone""#,
    );
    let want = [
        "codec-paint",
        "sdp-attr-moon",
        "tone",
        "paint-it",
        "call-id=stolen",
        "colour",
        "ice-lite",
        "replace-colour",
        "rtcp-mux-maybe",
        "colour",
    ];
    assert_eq!(found.unknown, want);
    let long = options(&format!(r#""{}":1"#, "ä".repeat(300)));
    assert_eq!(
        long.unknown[0].len(),
        MAX_WORD - 1,
        "cut between characters"
    );
}

#[test]
fn sizes_and_values_are_checked() {
    let long = "x".repeat(MAX_WORD + 1);
    let fits = "x".repeat(MAX_WORD);
    assert!(offer(&format!(r#""to-tag":"{fits}""#)).is_ok());
    for key in ["to-tag", "via-branch", "label"] {
        let error = RequestError::TooLong {
            key: key.to_owned(),
            len: MAX_WORD + 1,
        };
        assert_eq!(offer(&format!(r#""{key}":"{long}""#)), Err(error));
    }
    let call_id = json(&format!(r#"{{"command":"query","call-id":"{long}"}}"#)).unwrap_err();
    assert_eq!(
        call_id.to_string(),
        "call-id is 256 bytes, the limit is 255"
    );
    // Nonsense that rtpengine passes over is no reason to refuse a call.
    let odd = r#""media-address":"localhost","TOS":"high","transport-protocol":"X","address-family":"IP9""#;
    let unknown = offer(odd).unwrap().options.unknown;
    let want = [
        "media-address-localhost",
        "tos-high",
        "transport-protocol-x",
        "address-family-ip9",
    ];
    assert_eq!(unknown, want);
    assert_eq!(
        offer(r#""received-from":[]"#),
        Err(bad_value("received-from", "an IP address"))
    );
    assert_eq!(
        offer(r#""flags":{"a":"b"}"#),
        Err(bad_value("flags", "text"))
    );
    assert_eq!(
        offer(r#""ICE":{"remove":1}"#),
        Err(bad_value("ICE", "text"))
    );
    assert!(matches!(
        offer(r#""delete-delay":-1"#),
        Err(RequestError::BadValue { .. })
    ));
    let not_utf8 = Dict(vec![
        ("command".into(), "query".into()),
        ("call-id".into(), b"\xff".to_vec().into()),
    ]);
    assert_eq!(
        Request::parse(&not_utf8),
        Err(bad_value("call-id", "UTF-8 text"))
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_values_under_the_known_keys_never_panic(
        command in 0usize..5,
        pairs in vec((0usize..20, prop_oneof![
            any::<i64>().prop_map(Value::from),
            vec(any::<u8>(), 0..20).prop_map(Value::from),
            "[ -~]{0,40}".prop_map(Value::from),
            vec("[ -~]{0,10}".prop_map(Value::from), 0..4).prop_map(Value::from),
            Just(Value::Dict(Dict::default())),
        ]), 0..12),
    ) {
        const KEYS: [&str; 20] = [
            "call-id", "from-tag", "to-tag", "via-branch", "sdp", "flags", "rtpp-flags", "replace", "ICE", "supports",
            "transport-protocol", "direction", "received-from", "address-family", "delete-delay", "tos", "limit",
            "media-address", "rtcp-mux", "x",
        ];
        let command = ["offer", "answer", "delete", "query", "list"][command];
        let mut dict = Dict::from_iter([("command", command)]);
        for (key, value) in pairs {
            dict.push(KEYS[key], value);
        }
        let parsed = Request::parse(&dict);
        if let Ok(Request::Offer(signal) | Request::Answer(signal)) = parsed {
            prop_assert!(!signal.sdp.is_empty() && (1..=MAX_WORD).contains(&signal.call_id.len()));
        }
    }
}
