//! Every key and flag in its forms.

use penstock_ng::{
    All, AttributeEdit, Bundle, Codecs, Datagram, DropTraffic, DtmfSecurity, Flag, Ice, Kind,
    MAX_LINE, MAX_METADATA, MediaEcho, Options, Replace, Request, RequestError, RtcpMux, SECTIONS,
    Signal, Support, Transport,
};

/// An offer with more keys, as JSON without its braces.
fn offer(more: &str) -> Result<Signal, RequestError> {
    let comma = if more.is_empty() { "" } else { "," };
    let text =
        format!(r#"c {{"command":"offer","sdp":"v=0","call-id":"1","from-tag":"a"{comma}{more}}}"#);
    let dict = Datagram::parse(text.leak().as_bytes()).unwrap().dict;
    Request::parse(&dict).map(|request| match request {
        Request::Offer(signal) => *signal,
        other => panic!("{other:?}"),
    })
}

fn options(more: &str) -> Options {
    offer(more)
        .unwrap_or_else(|error| panic!("{more}: {error}"))
        .options
}

/// An offer whose flags all stand in one string.
fn string(flags: &str) -> Options {
    options(&format!(r#""rtpp-flags":"{flags}""#))
}

/// An offer with one flag in the list.
fn flag(flag: &str) -> Options {
    options(&format!(r#""flags":["{flag}"]"#))
}

#[test]
fn codecs_in_all_forms() {
    let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    let want = Codecs {
        strip: names(&["all"]),
        except: names(&["PCMU"]),
        offer: names(&["PCMA", "G722"]),
        mask: names(&["opus/48000/2"]),
        consume: names(&["GSM"]),
        transcode: names(&["iLBC/8000/1///mode=30"]),
    };
    let forms = [
        r#""codec":{"strip":["all"],"except":"PCMU","offer":["PCMA","G722"],"mask":["opus/48000/2"],"accept":["AMR"],"consume":["GSM"],"transcode":["iLBC/8000/1///mode=30"]}"#,
        r#""codec":["strip-all","except-PCMU","offer-PCMA","offer-G722","mask-opus/48000/2","accept-AMR","consume-GSM",{"transcode":["iLBC/8000/1///mode=30"]}]"#,
        r#""flags":["codec-strip-all","codec-except-PCMU","codec-offer-PCMA","codec-offer-G722","codec-mask-opus/48000/2","codec accept AMR","codec-consume=GSM","codec-transcode-iLBC/8000/1///mode--30"]"#,
        r#""rtpp-flags":"codec=[strip=[all] except=[PCMU] offer=[PCMA G722] mask=opus/48000/2 accept-AMR consume=[GSM] transcode=[iLBC/8000/1///mode=30]]""#,
        r#""rtpp-flags":"codec-strip-all codec-except=PCMU codec-offer=[PCMA G722] codec-mask=[opus/48000/2] codec-accept-AMR codec-consume-GSM transcode-iLBC/8000/1///mode--30""#,
    ];
    for form in forms {
        assert_eq!(options(form).codecs, want, "{form}");
    }
    assert_eq!(string("transcode=[PCMA]").codecs.transcode, ["PCMA"]);
    assert_eq!(flag("always transcode").codecs, Codecs::default());
    let ignored = string("codec-set-opus/48000/1/16000 codec-ignore=[CN] codec=[set=[x]]");
    assert_eq!(
        (ignored.codecs, ignored.unknown.len()),
        (Codecs::default(), 0)
    );
}

#[test]
fn attributes_in_all_forms() {
    let lines = |lines: &[&str]| {
        lines
            .iter()
            .map(|&line| line.to_owned())
            .collect::<Vec<_>>()
    };
    let want = [
        AttributeEdit {
            kind: Kind::Session,
            add: lines(&[]),
            remove: lines(&[]),
            substitute: vec![("sendrecv".into(), "sendonly".into())],
        },
        AttributeEdit {
            kind: Kind::Audio,
            add: lines(&["ptime:20", "fmtp:96 mode=30"]),
            remove: lines(&["rtcp-mux"]),
            substitute: vec![("fmtp:101 0-15".into(), "fmtp:126 0-16".into())],
        },
    ];
    let forms = [
        r#""sdp-attr":{"none":{"substitute":["sendrecv","sendonly"]},"audio":{"add":["ptime:20","fmtp:96 mode=30"],"remove":"rtcp-mux","substitute":[["fmtp:101 0-15","fmtp:126 0-16"]]}}"#,
        r#""flags":["sdp-attr-substitute-none-sendrecv>sendonly","sdp-attr-add-audio-ptime:20","sdp-attr-add-audio-fmtp:96..mode--30","sdp-attr-remove-audio-rtcp-mux","sdp-attr-substitute-audio-fmtp:101..0-15>fmtp:126..0-16"]"#,
        r#""rtpp-flags":"sdp-attr=[none=[substitute=[sendrecv sendonly]] audio=[add=[ptime:20 fmtp:96..mode=30] remove=rtcp-mux substitute=[[fmtp:101..0-15 fmtp:126..0-16]]]]""#,
        r#""rtpp-flags":"SDP-attr=[global=[substitute=[sendrecv>sendonly]] audio=[add=[ptime:20] add=[fmtp:96..mode--30] remove=[rtcp-mux] substitute=[fmtp:101..0-15>fmtp:126..0-16]]]""#,
    ];
    for form in forms {
        assert_eq!(options(form).sdp_attributes, want, "{form}");
    }
    // Under a key of its own nothing is escaped.
    let plain =
        options(r#""sdp-attr":{"video":{"add":["x:a..b--c","y:>"],"substitute":[["p>q","r"]]}}"#);
    assert_eq!(plain.sdp_attributes[0].add, ["x:a..b--c", "y:>"]);
    assert_eq!(
        plain.sdp_attributes[0].substitute,
        [("p>q".into(), "r".into())]
    );
    for bad in [
        r#""sdp-attr":{"audio":{"add":["a\r\nm=audio 1 RTP/AVP 0"]}}"#.to_owned(),
        r#""sdp-attr":{"audio":{"substitute":["one"]}}"#.to_owned(),
        format!(
            r#""sdp-attr":{{"audio":{{"add":["{}"]}}}}"#,
            "x".repeat(MAX_LINE + 1)
        ),
    ] {
        assert!(
            matches!(offer(&bad), Err(RequestError::BadValue { .. })),
            "{bad}"
        );
    }
}

#[test]
fn known_words_under_keys_as_flags_and_in_the_string() {
    fn alike<T: PartialEq + std::fmt::Debug>(
        key: &str,
        value: &str,
        of: impl Fn(Options) -> T,
        want: T,
    ) {
        for form in [
            format!(r#""{key}":"{value}""#),
            format!(r#""flags":["{key}={value}"]"#),
            format!(r#""flags":["{key}-{value}"]"#),
            format!(r#""rtpp-flags":"{key}={value}""#),
            format!(r#""rtpp-flags":"{key}=[{value}]""#),
            format!(
                r#""rtpp-flags":"{}-{}""#,
                key.to_uppercase(),
                value.to_uppercase()
            ),
        ] {
            let found = options(&form);
            assert_eq!(found.unknown, [""; 0], "{form}");
            assert_eq!(of(found), want, "{form}");
        }
    }
    alike(
        "replace",
        "session-name",
        |o| o.replace,
        vec![Replace::SessionName],
    );
    alike(
        "rtcp-mux",
        "require",
        |o| o.rtcp_mux,
        vec![RtcpMux::Require],
    );
    alike("bundle", "reject", |o| o.bundle, Some(Bundle::Reject));
    alike("bundle", "offer", |o| o.bundle, Some(Bundle::Offer));
    alike("ICE", "force", |o| o.ice, Some(Ice::Force));
    alike("ICE", "lite-both", |o| o.ice, None);
    alike("ICE", "reject", |o| o.flags, vec![Flag::RejectIce]);
    alike("ICE", "trickle", |o| o.ice, None);
    alike("ICE-lite", "backward", |o| o.ice, None);
    alike(
        "all",
        "except-offer-answer",
        |o| o.all,
        Some(All::ExceptOfferAnswer),
    );
    alike(
        "media-echo",
        "sinkhole",
        |o| o.media_echo,
        Some(MediaEcho::Blackhole),
    );
    alike(
        "drop-traffic",
        "start",
        |o| o.drop_traffic,
        Some(DropTraffic::Start),
    );
    alike(
        "DTMF-security",
        "off",
        |o| o.dtmf_security,
        Some(DtmfSecurity::Off),
    );
    alike(
        "sdp-media-remove",
        "video",
        |o| o.sdp_media_remove,
        vec![Kind::Video],
    );
    alike("record-call", "no", |o| o, Options::default());
    alike("T.38", "no-ECM", |o| o, Options::default());
    alike(
        "SDES",
        "no-AES_CM_128_HMAC_SHA1_32",
        |o| o,
        Options::default(),
    );
    alike("OSRTP", "accept-RFC", |o| o, Options::default());
    alike("DTLS", "passive", |o| o, Options::default());
    assert_eq!(flag("all").all, Some(All::All));
    let both = string("drop-traffic=stop drop-traffic=start ICE=[force trickle]");
    assert_eq!(
        (both.drop_traffic, both.ice),
        (Some(DropTraffic::Stop), Some(Ice::Force))
    );
    assert_eq!(
        options(r#""sdp-media-remove":["video","other"]"#).sdp_media_remove,
        [Kind::Video, Kind::Other]
    );
}

#[test]
fn names_numbers_and_lists() {
    let text = "label=alice set-label=x to-label=bob template=webrtc metadata=k:v|w:x address=192.0.2.7 from-tags=[a b] \
        from-tags-c ptime=20 ptime-reverse=40 maxptime=60 extmap-strip-urn:a extmap=[mask=[urn:b urn:c]] delete-delay=0 \
        transport-protocol=accept interface=one";
    let found = string(text);
    assert_eq!(found.label.as_deref(), Some("alice"));
    assert_eq!(found.set_label.as_deref(), Some("x"));
    assert_eq!(found.to_label.as_deref(), Some("bob"));
    assert_eq!(found.template.as_deref(), Some("webrtc"));
    assert_eq!(found.metadata.as_deref(), Some("k:v|w:x"));
    assert_eq!(found.address, Some("192.0.2.7".parse().unwrap()));
    assert_eq!(found.from_tags, ["a", "b", "c"]);
    assert_eq!(
        (found.ptime_ms, found.ptime_reverse_ms, found.max_ptime_ms),
        (Some(20), Some(40), Some(60))
    );
    assert_eq!(
        (found.extmap_strip, found.extmap_mask),
        (
            vec!["urn:a".to_owned()],
            vec!["urn:b".to_owned(), "urn:c".to_owned()]
        )
    );
    assert_eq!(found.delete_delay_s, Some(0));
    assert_eq!(found.transport_protocol, Some(Transport::Accept));
    assert_eq!(found.interface.as_deref(), Some("one"));
    assert_eq!(found.unknown, [""; 0]);
    assert_eq!(
        options(r#""from-label":"alice","ptime":0"#)
            .label
            .as_deref(),
        Some("alice")
    );
    for bad in [r#""ptime":-1"#, r#""ptime":70000"#, r#""address":"x""#] {
        assert!(
            matches!(offer(bad), Err(RequestError::BadValue { .. })),
            "{bad}"
        );
    }
    let long = format!(r#""metadata":"{}""#, "x".repeat(MAX_METADATA + 1));
    assert!(matches!(offer(&long), Err(RequestError::BadValue { .. })));
}

#[test]
fn interfaces_by_any_of_their_names() {
    let both = |options: Options| {
        let [from, to] = options.interfaces().expect("two at most");
        (from.map(str::to_owned), to.map(str::to_owned))
    };
    let two = (Some("priv".to_owned()), Some("pub".to_owned()));
    for text in [
        "direction=[priv pub]",
        "direction=priv direction=pub",
        "from-interface=priv to-interface=pub",
        "in-iface=priv out-iface=pub",
        "direction=[x pub] from-interface=priv",
        "interface=pub from-interface=priv",
    ] {
        assert_eq!(both(string(text)), two, "{text}");
    }
    assert_eq!(
        both(options(
            r#""direction":["priv","pub"],"flags":["internal","external"],"rtpp-flags":"external internal""#
        )),
        two
    );
    assert_eq!(
        string("internal round-robin-calls").direction,
        ["internal", "round-robin-calls"]
    );
    assert_eq!(options(r#""direction":["a","b","c"]"#).interfaces(), None);
    assert_eq!(both(Options::default()), (None, None));
}

#[test]
fn profiles_by_their_parts() {
    let cases = [
        ("RTP AVP", Transport::RtpAvp),
        ("RTP", Transport::RtpAvp),
        ("SRTP", Transport::RtpSavp),
        ("SRTP AVPF", Transport::RtpSavpf),
        ("AVPF", Transport::RtpAvpf),
        ("DTLS", Transport::UdpTlsRtpSavp),
        ("DTLS AVPF", Transport::UdpTlsRtpSavpf),
        ("UDP/TLS/RTP/SAVPF", Transport::UdpTlsRtpSavpf),
        ("rtp/savpf", Transport::RtpSavpf),
        ("transport-protocol=udptl", Transport::Udptl),
    ];
    for (text, want) in cases {
        assert_eq!(string(text).transport_protocol, Some(want), "{text}");
        let list: Vec<String> = text.split(' ').map(|word| format!("{word:?}")).collect();
        let found = options(&format!(r#""flags":[{}]"#, list.join(",")));
        assert_eq!(found.transport_protocol, Some(want), "{text}");
    }
    let key = options(r#""rtpp-flags":"RTP/AVP","flags":["SRTP"],"transport protocol":"RTP/AVPF""#);
    assert_eq!(
        key.transport_protocol,
        Some(Transport::RtpAvpf),
        "a key wins"
    );
}

#[test]
fn webrtc_is_many_flags() {
    let web = flag("WebRTC");
    let one_by_one = string(
        "UDP/TLS/RTP/SAVPF ICE=force trickle-ICE rtcp-mux-offer rtcp-mux-require no-rtcp-attribute SDES-off generate-mid bundle-accept",
    );
    assert_eq!(web, one_by_one);
}

#[test]
fn a_flag_may_have_a_yes_or_a_no() {
    for yes in [
        r#""strict source":"yes""#,
        r#""flags":["strict-source=on"]"#,
        r#""strict-source":true"#,
    ] {
        assert_eq!(options(yes).flags, [Flag::StrictSource], "{yes}");
    }
    for no in [
        r#""strict source":"no""#,
        r#""flags":["strict-source=off"]"#,
        r#""debug":"yes""#,
    ] {
        assert_eq!(options(no), Options::default(), "{no}");
    }
}

#[test]
fn templates_are_the_weakest() {
    let dict = |more: &str| {
        let text =
            format!(r#"c {{"command":"offer","sdp":"v=0","call-id":"1","from-tag":"a"{more}}}"#);
        Datagram::parse(text.leak().as_bytes()).unwrap().dict
    };
    let read = |more: &str| {
        let template = |name: &str| match name {
            "offer" => Some("ICE=remove TOS=1 replace-origin internal external"),
            "web" => Some("ICE=force"),
            "deep" => Some("[[[[[[[[[[["),
            _ => None,
        };
        match Request::parse_with(&dict(more), template)? {
            Request::Offer(signal) => Ok(signal.options),
            other => panic!("{other:?}"),
        }
    };
    let base = read("").unwrap();
    assert_eq!((base.ice, base.tos), (Some(Ice::Remove), Some(1)));
    let web = read(r#","template":"web","TOS":2"#).unwrap();
    assert_eq!((web.ice, web.tos), (Some(Ice::Force), Some(2)));
    assert_eq!(web.replace, [Replace::Origin]);
    let flags = read(r#","template":"web","flags":["ICE=default","external","internal"]"#).unwrap();
    assert_eq!(
        (flags.ice, flags.direction),
        (
            Some(Ice::Default),
            vec!["external".into(), "internal".into()]
        )
    );
    assert!(read(r#","template":"none such""#).is_ok());
    assert!(matches!(
        read(r#","template":"deep""#),
        Err(RequestError::BadValue { .. })
    ));
}

#[test]
fn what_would_change_media_is_refused_by_name() {
    let cases = [
        (
            r#""flags":["record-call"]"#,
            "record-call is not supported: ",
        ),
        (r#""record-call":"yes""#, "record-call is not supported: "),
        (
            r#""rtpp-flags":"record-call=on""#,
            "record-call is not supported: ",
        ),
        (r#""T.38":["decode"]"#, "T.38 is not supported: "),
        (r#""flags":["T38-force"]"#, "T.38 is not supported: "),
        (
            r#""DTMF-security":"tone""#,
            "DTMF-security is not supported: ",
        ),
    ];
    for (more, start) in cases {
        let text = offer(more).unwrap_err().to_string();
        assert!(
            text.starts_with(start) && text.len() > start.len(),
            "{more}: {text}"
        );
        // A delete comes with the same flags, and must pass.
        let delete = format!(r#"c {{"command":"delete","call-id":"1",{more}}}"#);
        let dict = Datagram::parse(delete.as_bytes()).unwrap().dict;
        assert!(Request::parse(&dict).is_ok(), "{more}");
    }
}

#[test]
fn every_word_of_the_table_does_what_it_says() {
    let under = |title: &str| {
        let section = SECTIONS.iter().find(|section| section.title == title);
        section.expect(title).rows.iter()
    };
    for row in under("Flags") {
        for name in [&[row.name], row.also].concat() {
            let found = offer(&format!(r#""flags":["{name}"]"#));
            match row.support {
                Support::Refused(_) => {
                    assert!(matches!(found, Err(RequestError::Refused { .. })), "{name}")
                }
                Support::Ignored(_) => {
                    assert_eq!(found.unwrap().options, Options::default(), "{name}")
                }
                Support::Supported(_) => {
                    let found = found.unwrap().options;
                    assert_ne!(found, Options::default(), "{name}");
                    assert_eq!(found.unknown, [""; 0], "{name}");
                }
            }
        }
    }
    for row in under("Keys").filter(|row| matches!(row.support, Support::Ignored(_))) {
        let found = options(&format!(r#""{}":"x""#, row.name));
        assert_eq!(found, Options::default(), "{}", row.name);
    }
    let mut names: Vec<String> = Vec::new();
    for row in under("Keys") {
        names.extend(
            [&[row.name], row.also]
                .concat()
                .iter()
                .map(|name| name.to_lowercase()),
        );
    }
    let count = names.len();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), count, "a key stands twice");
}
