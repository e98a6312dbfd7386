//! Commands beside offer, answer, delete and query.

use penstock_ng::{
    All, Block, Blocked, Datagram, Participant, Request, RequestError, SECTIONS, Sources,
    Subscribe, Support,
};

/// A message of this command, with more keys as JSON without braces.
fn read(command: &str, more: &str) -> Result<Request, RequestError> {
    let comma = if more.is_empty() { "" } else { "," };
    let text = format!(r#"c {{"command":"{command}"{comma}{more}}}"#);
    Request::parse(&Datagram::parse(text.as_bytes()).unwrap().dict)
}

fn block(command: &str, more: &str) -> Block {
    match read(command, &format!(r#""call-id":"1"{more}"#)) {
        Ok(Request::Block(block)) => *block,
        other => panic!("{other:?}"),
    }
}

fn subscribe(more: &str) -> Result<Subscribe, RequestError> {
    match read("subscribe request", &format!(r#""call-id":"1"{more}"#))? {
        Request::SubscribeRequest(subscribe) => Ok(*subscribe),
        other => panic!("{other:?}"),
    }
}

fn tag(tag: &str) -> Participant {
    Participant::Tag(tag.to_owned())
}

fn label(label: &str) -> Participant {
    Participant::Label(label.to_owned())
}

#[test]
fn every_command_of_the_table_is_known() {
    let all = r#""sdp":"v=0","call-id":"1","from-tag":"a","to-tag":"b","body":"list totals""#;
    let commands = SECTIONS
        .iter()
        .find(|section| section.title == "Commands")
        .unwrap();
    assert_eq!(commands.rows.len(), 33);
    for row in commands.rows {
        for name in [
            row.name.to_owned(),
            row.name.replace(' ', "-"),
            row.name.to_uppercase(),
        ] {
            let request = read(&name, all).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(request.command(), row.name);
            let Support::Refused(why) = row.support else {
                assert!(!matches!(request, Request::Unsupported { .. }), "{name}");
                continue;
            };
            assert_eq!(
                request,
                Request::Unsupported {
                    command: row.name,
                    why
                }
            );
            assert_eq!(request.call_id(), None);
        }
    }
    assert_eq!(read("dance", all), Err(RequestError::UnknownCommand));
}

#[test]
fn what_is_blocked() {
    let cases = [
        ("block DTMF", Blocked::Dtmf, true),
        ("unblock DTMF", Blocked::Dtmf, false),
        ("block media", Blocked::Media, true),
        ("unblock media", Blocked::Media, false),
        ("silence media", Blocked::Silence, true),
        ("unsilence media", Blocked::Silence, false),
    ];
    for (command, what, on) in cases {
        let found = block(command, "");
        assert_eq!((found.what, found.on), (what, on));
        assert_eq!(
            (found.source, found.sink, found.all),
            (None, None, All::None)
        );
        assert_eq!(read(command, "").unwrap_err(), RequestError::NoCallId);
    }
    assert!(!block("block DTMF", r#","DTMF-security":"off""#).on);
    assert!(block("block DTMF", r#","DTMF-security":"drop""#).on);
    let tone = read("block DTMF", r#""call-id":"1","DTMF-security":"tone""#);
    assert!(matches!(
        tone,
        Err(RequestError::Refused {
            word: "DTMF-security",
            ..
        })
    ));
}

#[test]
fn whose_media_is_blocked() {
    let address = || Participant::Address("192.0.2.1".parse().unwrap());
    let cases = [
        (r#","from-tag":"a""#, Some(tag("a")), None, All::None),
        (
            r#","from-tag":"a","flags":["directional"]"#,
            Some(tag("a")),
            None,
            All::None,
        ),
        (
            r#","from-tag":"a","label":"x","address":"192.0.2.1""#,
            Some(label("x")),
            None,
            All::None,
        ),
        (
            r#","from-tag":"a","address":"192.0.2.1""#,
            Some(address()),
            None,
            All::None,
        ),
        (
            r#","from-tag":"a","to-tag":"b""#,
            Some(tag("a")),
            Some(tag("b")),
            All::None,
        ),
        (
            r#","from-label":"x","to-tag":"b","to-label":"y""#,
            Some(label("x")),
            Some(label("y")),
            All::None,
        ),
        (
            r#","from-tag":"a","to-tag":"b","flags":["all"]"#,
            None,
            None,
            All::All,
        ),
        (
            r#","from-tag":"a","all":"flows""#,
            Some(tag("a")),
            None,
            All::Flows,
        ),
        (
            r#","from-tag":"a","all":"offer-answer""#,
            Some(tag("a")),
            None,
            All::OfferAnswer,
        ),
        (r#","to-tag":"b""#, None, None, All::None),
        // Who leaves the flags to be read here sends the tags of the SIP message with every request.
        (
            r#","from-tag":"a","to-tag":"b","rtpp-flags":"""#,
            None,
            None,
            All::None,
        ),
        (
            r#","from-tag":"a","to-tag":"b","rtpp-flags":"directional""#,
            Some(tag("a")),
            Some(tag("b")),
            All::None,
        ),
        (
            r#","rtpp-flags":"from-tag=a to-tag=b""#,
            Some(tag("a")),
            Some(tag("b")),
            All::None,
        ),
        (
            r#","from-tag":"a","rtpp-flags":"label=x""#,
            Some(label("x")),
            None,
            All::None,
        ),
    ];
    for (more, source, sink, all) in cases {
        let found = block("block media", more);
        assert_eq!(
            (found.source, found.sink, found.all),
            (source, sink, all),
            "{more}"
        );
    }
    let named = block("block media", r#","from-tag":"a","set-label":"x""#);
    assert_eq!(
        (named.source, named.set_label.as_deref()),
        (Some(tag("a")), Some("x"))
    );
}

#[test]
fn subscriptions() {
    let one = subscribe(r#","from-tag":"a","to-tag":"s","set-label":"rec""#).unwrap();
    assert_eq!(one.sources, Sources::Some(vec![tag("a")]));
    assert_eq!(
        (one.to_tag.as_deref(), one.label.as_deref()),
        (Some("s"), Some("rec"))
    );
    let some = subscribe(
        r#","from-tag":"x","from-tags":["a","b"],"flags":["from-tags-c"],"to-label":"rec""#,
    )
    .unwrap();
    assert_eq!(
        some.sources,
        Sources::Some(vec![tag("c"), tag("a"), tag("b")])
    );
    assert_eq!((some.to_tag, some.label.as_deref()), (None, Some("rec")));
    let everybody = subscribe(r#","from-tag":"a","flags":["all"]"#).unwrap();
    assert_eq!(everybody.sources, Sources::Everybody);
    for (all, sources) in [
        ("all", Sources::Everybody),
        ("flows", Sources::Everybody),
        ("offer-answer", Sources::OfferAnswer),
        ("except-offer-answer", Sources::Published),
        ("none", Sources::Some(vec![tag("a")])),
    ] {
        let some = subscribe(&format!(r#","from-tag":"a","all":"{all}""#)).unwrap();
        assert_eq!(some.sources, sources, "{all}");
    }
    let named = subscribe(r#","label":"x""#).unwrap();
    assert_eq!(named.sources, Sources::Some(vec![label("x")]));
    assert_eq!(subscribe("").unwrap_err(), RequestError::NoFromTag);

    let Ok(Request::SubscribeAnswer(answer)) = read(
        "subscribe answer",
        r#""call-id":"1","to-tag":"s","sdp":"v=0","flags":["allow transcoding"]"#,
    ) else {
        panic!("not an answer")
    };
    assert_eq!(
        (answer.to_tag.as_str(), answer.sdp.as_slice()),
        ("s", &b"v=0"[..])
    );
    assert_eq!(
        read("subscribe answer", r#""call-id":"1","to-tag":"s""#),
        Err(RequestError::NoSdp)
    );
    assert_eq!(
        read("subscribe answer", r#""call-id":"1","sdp":"v=0""#),
        Err(RequestError::NoToTag)
    );
    let Ok(Request::Unsubscribe(end)) = read(
        "unsubscribe",
        r#""call-id":"1","to-tag":"s","from-tag":"x""#,
    ) else {
        panic!("not the end")
    };
    assert_eq!((end.call_id.as_str(), end.to_tag.as_str()), ("1", "s"));
    assert_eq!(
        read("unsubscribe", r#""call-id":"1""#),
        Err(RequestError::NoToTag)
    );
    assert_eq!(
        read("publish", r#""call-id":"1","from-tag":"a""#),
        Err(RequestError::NoSdp)
    );
}

#[test]
fn connections() {
    let Ok(Request::Connect(connect)) = read(
        "connect",
        r#""call-id":"1","from-tag":"a","to-tag":"b","to-call-id":"2""#,
    ) else {
        panic!("not a connection")
    };
    assert_eq!(
        (connect.call_id.as_str(), connect.to_call_id.as_deref()),
        ("1", Some("2"))
    );
    assert_eq!(
        (connect.from_tag.as_str(), connect.to_tag.as_str()),
        ("a", "b")
    );
    assert_eq!(
        read("connect", r#""call-id":"1","to-tag":"b""#),
        Err(RequestError::NoFromTag)
    );
    assert_eq!(
        read("connect", r#""call-id":"1","from-tag":"b""#),
        Err(RequestError::NoToTag)
    );
}

#[test]
fn lines_of_the_command_line_tool() {
    let line = |more: &str| read("cli", more);
    let want = Request::Cli {
        line: "list totals".to_owned(),
    };
    assert_eq!(line(r#""body":" list totals\n""#), Ok(want));
    for bad in [
        String::new(),
        r#""body":["x"]"#.to_owned(),
        format!(r#""body":"{}""#, "x".repeat(1025)),
    ] {
        assert!(
            matches!(line(&bad), Err(RequestError::BadValue { .. })),
            "{bad}"
        );
    }
}
