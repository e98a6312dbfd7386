//! Each edit byte for byte, on bodies that phones and browsers send.

mod bodies;

use bodies::{BODIES, crlf};
use penstock_sdp::{
    AttributeEdits, Candidate, Direction, ExtmapEdit, GroupEdit, IceEdit, IceLines, MediaRewrite,
    MidEdit, OriginEdit, Protocol, Rewrite, RtcpLine, Sdp, SdpError, ZeroAddress,
};
use std::net::IpAddr;

const HEAD: &str = "v=0\r\no=- 1 1 IN IP4 10.0.0.1\r\ns=-\r\nc=IN IP4 10.0.0.1\r\nt=0 0\r\n";

fn relay() -> IpAddr {
    "192.0.2.1".parse().unwrap()
}

fn parse(name: &str) -> Sdp {
    let (_, text) = BODIES.iter().find(|(n, _)| *n == name).expect(name);
    Sdp::parse(&crlf(text)).unwrap()
}

fn text(sdp: &Sdp, rewrite: &Rewrite) -> String {
    String::from_utf8(sdp.rewrite(rewrite).unwrap()).unwrap()
}

/// One section with these lines, and what becomes of them.
fn section(lines: &str, change: MediaRewrite) -> String {
    let body = format!(
        "{HEAD}m=audio 4000 RTP/AVP 0 8\r\n{}",
        lines.replace('\n', "\r\n")
    );
    let rewrite = Rewrite {
        media: vec![change],
        ..Rewrite::default()
    };
    let out = text(&Sdp::parse(body.as_bytes()).unwrap(), &rewrite);
    let (_, section) = out.split_once("\r\nm=").unwrap();
    section.replace("\r\n", "\n")
}

fn new() -> MediaRewrite {
    MediaRewrite::new(5000, relay())
}

/// The session part, of a body with these lines in it.
fn session(lines: &str, rewrite: Rewrite) -> String {
    let body = format!(
        "{HEAD}{}m=audio 4000 RTP/AVP 0\r\na=mid:0\r\nm=video 4002 RTP/AVP 96\r\na=mid:1\r\n",
        lines.replace('\n', "\r\n")
    );
    let rewrite = Rewrite {
        media: match rewrite.media.is_empty() {
            true => vec![new(), new()],
            false => rewrite.media.clone(),
        },
        ..rewrite
    };
    let out = text(&Sdp::parse(body.as_bytes()).unwrap(), &rewrite);
    let (session, _) = out.split_once("\r\nm=").unwrap();
    let (_, rest) = session.split_once("t=0 0").unwrap();
    rest.trim_start().replace("\r\n", "\n")
}

/// All that a browser's offer needs to reach a phone: no ICE, no BUNDLE, no extensions.
#[test]
fn a_browsers_offer_for_a_phone() {
    let sdp = parse("webrtc with fingerprint in session and data channel");
    let audio = MediaRewrite {
        rtcp: RtcpLine::Port(30_001),
        rtcp_mux: Some(false),
        protocol: Some(Protocol::RtpAvp),
        formats: Some(vec!["8".into(), "0".into(), "101".into()]),
        mid: MidEdit::Remove,
        ice: IceEdit::Remove,
        extmap: ExtmapEdit::Strip,
        attributes: AttributeEdits {
            remove: vec!["ssrc".into(), "msid".into(), "setup".into()],
            ..AttributeEdits::default()
        },
        ..MediaRewrite::new(30_000, relay())
    };
    let gone = MediaRewrite {
        remove: true,
        ..new()
    };
    let out = text(
        &sdp,
        &Rewrite {
            origin: OriginEdit {
                address: Some(relay()),
                ..OriginEdit::default()
            },
            remove_session_ice: true,
            attributes: AttributeEdits {
                remove: vec!["fingerprint".into(), "msid-semantic:WMS".into()],
                ..AttributeEdits::default()
            },
            group: GroupEdit::Remove,
            media: vec![audio, gone.clone(), gone],
            ..Rewrite::default()
        },
    );
    let want = "
v=0
o=mozilla...THIS_IS_SDPARTA-99.0 5273648391 0 IN IP4 192.0.2.1
s=-
t=0 0
m=audio 30000 RTP/AVP 8 0 101
c=IN IP4 192.0.2.1
a=sendrecv
a=rtpmap:8 PCMA/8000
a=rtpmap:0 PCMU/8000
a=fmtp:101 0-15
a=rtpmap:101 telephone-event/8000
a=rtcp:30001
";
    assert_eq!(out.as_bytes(), crlf(want));
}

/// And a phone's offer for a browser: what is new stands in the order that clients rely on.
#[test]
fn a_phones_offer_with_ice_of_our_own() {
    let sdp = parse("desk phone");
    let candidate = |component: u8| Candidate {
        foundation: "H1".into(),
        component,
        priority: 2_130_706_432 - u32::from(component),
        address: (relay(), 30_000 + u16::from(component) - 1).into(),
    };
    let audio = MediaRewrite {
        rtcp: RtcpLine::Full(30_001, relay()),
        rtcp_mux: Some(true),
        protocol: Some(Protocol::RtpAvpf),
        mid: MidEdit::Set("a0".into()),
        ice: IceEdit::Own(IceLines {
            ufrag: "FXwFWIzx".into(),
            pwd: "JVDogi2V8MplfrlIPh65zdee9A".into(),
            options: Some("trickle".into()),
            candidates: vec![candidate(1), candidate(2)],
        }),
        ptime: Some(30),
        maxptime: Some(60),
        direction: Some(Direction::SendOnly),
        attributes: AttributeEdits {
            add: vec!["x-new:1".into(), "fmtp:101 0-15".into()],
            ..AttributeEdits::default()
        },
        ..MediaRewrite::new(30_000, relay())
    };
    let out = text(
        &sdp,
        &Rewrite {
            origin: OriginEdit {
                address: Some("2001:db8::1".parse().unwrap()),
                username: Some("-".into()),
                session_id: Some("42".into()),
                version: Some("7".into()),
            },
            session_name: Some("a call".into()),
            group: GroupEdit::Bundle(vec!["a0".into()]),
            ice_lite: true,
            loop_mark: Some("ff45f3b0a95c".into()),
            media: vec![audio],
            ..Rewrite::default()
        },
    );
    let want = "
v=0
o=- 42 7 IN IP6 2001:db8::1
s=a call
t=0 0
a=group:BUNDLE a0
a=rtpengine:ff45f3b0a95c
a=ice-lite
m=audio 30000 RTP/AVPF 9 0 8 18 101
c=IN IP4 192.0.2.1
a=mid:a0
a=rtpmap:9 G722/8000
a=rtpmap:0 PCMU/8000
a=rtpmap:8 PCMA/8000
a=rtpmap:18 G729/8000
a=fmtp:18 annexb=no
a=rtpmap:101 telephone-event/8000
a=fmtp:101 0-15
a=ptime:30
a=maxptime:60
a=sendonly
a=rtcp:30001 IN IP4 192.0.2.1
a=rtcp-mux
a=ice-ufrag:FXwFWIzx
a=ice-pwd:JVDogi2V8MplfrlIPh65zdee9A
a=ice-options:trickle
a=candidate:H1 1 UDP 2130706431 192.0.2.1 30000 typ host
a=candidate:H1 2 UDP 2130706430 192.0.2.1 30001 typ host
a=end-of-candidates
a=x-new:1
";
    assert_eq!(out.as_bytes(), crlf(want));
}

#[test]
fn a_rewrite_of_port_and_address_leaves_every_other_line() {
    for (name, text) in BODIES {
        let sdp = parse(name);
        let media = sdp
            .media()
            .iter()
            .map(|m| MediaRewrite::new(m.port, relay()))
            .collect();
        let out = sdp
            .rewrite(&Rewrite {
                media,
                ..Rewrite::default()
            })
            .unwrap();
        let other = |body: &[u8]| -> Vec<String> {
            let body = String::from_utf8(body.to_vec()).unwrap();
            body.lines()
                .filter(|l| !l.starts_with("c="))
                .map(str::to_owned)
                .collect()
        };
        let mut was = other(&crlf(text));
        for line in &mut was {
            *line = line.replace("m=audio 20000/2 ", "m=audio 20000 ");
        }
        assert_eq!(other(&out), was, "{name}");
    }
}

#[test]
fn lines_follow_the_formats_and_those_of_all_stay() {
    let change = |formats: &[&str]| MediaRewrite {
        formats: Some(formats.iter().map(|&f| f.to_owned()).collect()),
        ..new()
    };
    let lines = "a=x\na=rtcp-fb:* nack\na=fmtp:8 a\na=rtpmap:0 PCMU/8000\na=rtcp-fb:0 ccm\na=y\na=rtpmap:8 PCMA/8000\na=rtpmap:80 foo/8000\n";
    let head = |formats: &str| format!("audio 5000 RTP/AVP {formats}\nc=IN IP4 192.0.2.1\n");
    assert_eq!(
        section(lines, change(&["8"])),
        head("8")
            + "a=x\na=rtcp-fb:* nack\na=fmtp:8 a\na=y\na=rtpmap:8 PCMA/8000\na=rtpmap:80 foo/8000\n"
    );
    assert_eq!(
        section(lines, change(&["8", "0"])),
        head("8 0")
            + "a=x\na=rtcp-fb:* nack\na=fmtp:8 a\na=rtpmap:8 PCMA/8000\na=rtpmap:0 PCMU/8000\na=y\na=rtcp-fb:0 ccm\na=rtpmap:80 foo/8000\n"
    );
    // What the section does not have is not made up, and an empty m= line is no m= line.
    for same in [&["0", "77", "8"][..], &[], &["77"]] {
        assert_eq!(section(lines, change(same)), head("0 8") + lines);
    }
}

#[test]
fn a_line_that_is_replaced_keeps_its_place_and_its_doubles_go() {
    let change = MediaRewrite {
        rtcp_mux: Some(true),
        direction: Some(Direction::Inactive),
        ptime: Some(30),
        mid: MidEdit::Set("z".into()),
        ..new()
    };
    let lines = "a=rtcp-mux\na=SendRecv\na=ptime:20\na=x\na=mid:0\na=recvonly\na=rtcp-mux\na=ptime:10\na=mid:1\n";
    let want = "audio 5000 RTP/AVP 0 8\nc=IN IP4 192.0.2.1\na=rtcp-mux\na=inactive\na=ptime:30\na=x\na=mid:z\n";
    assert_eq!(section(lines, change), want);
}

#[test]
fn lines_go_by_their_kind() {
    let lines = "a=rtcp-mux\na=rtcp-mux-only\na=bundle-only\na=extmap:1 urn:a\na=extmap:2/sendonly urn:b x\na=extmap-allow-mixed\na=mid:q\n";
    let head = "audio 5000 RTP/AVP 0 8\nc=IN IP4 192.0.2.1\n".to_owned();
    let change = MediaRewrite {
        rtcp_mux: Some(false),
        bundle_only: true,
        extmap: ExtmapEdit::StripNamed(vec!["urn:b".into(), "urn".into()]),
        ..new()
    };
    assert_eq!(
        section(lines, change),
        head.clone() + "a=extmap:1 urn:a\na=extmap-allow-mixed\na=mid:q\n"
    );
    let change = MediaRewrite {
        extmap: ExtmapEdit::Strip,
        mid: MidEdit::Remove,
        ..new()
    };
    assert_eq!(
        section(lines, change),
        head + "a=rtcp-mux\na=rtcp-mux-only\na=bundle-only\na=extmap-allow-mixed\n"
    );
}

#[test]
fn a_zero_address_is_kept_or_replaced() {
    let zero = "c=IN IP4 0.0.0.0\n";
    let out = |zero_address, address: &str| {
        let address = address.parse().unwrap();
        section(
            zero,
            MediaRewrite {
                zero_address,
                ..MediaRewrite::new(5000, address)
            },
        )
    };
    assert!(out(ZeroAddress::Keep, "192.0.2.1").ends_with("c=IN IP4 0.0.0.0\n"));
    assert!(out(ZeroAddress::Keep, "2001:db8::1").ends_with("c=IN IP6 ::\n"));
    assert!(out(ZeroAddress::Replace, "192.0.2.1").ends_with("c=IN IP4 192.0.2.1\n"));
}

#[test]
fn attributes_by_text() {
    let lines = "a=foo:bar baz quuz\na=foo:bart\na=two\na=fmtp:101 0-15\na=sendrecv\n";
    let out = |edits: AttributeEdits| {
        let out = section(
            lines,
            MediaRewrite {
                attributes: edits,
                ..new()
            },
        );
        let (_, rest) = out.split_once("192.0.2.1\n").unwrap();
        rest.replace('\n', "|")
    };
    let remove = |name: &str| {
        out(AttributeEdits {
            remove: vec![name.to_owned()],
            ..AttributeEdits::default()
        })
    };
    let all = "a=foo:bar baz quuz|a=foo:bart|a=two|a=fmtp:101 0-15|a=sendrecv|";
    let rest = "a=two|a=fmtp:101 0-15|a=sendrecv|";
    assert_eq!(remove("foo"), rest);
    assert_eq!(remove("foo:bar"), format!("a=foo:bart|{rest}"));
    assert_eq!(remove("foo:bar baz quuz"), format!("a=foo:bart|{rest}"));
    for other in ["foo:bar baz", "foo:ba", "FOO", "a=two", "", "wo", "c"] {
        assert_eq!(remove(other), all, "{other}");
    }
    let pair = |old: &str, new: &str| (old.to_owned(), new.to_owned());
    let substituted = out(AttributeEdits {
        substitute: vec![
            pair("sendrecv", "sendonly"),
            pair("sendonly", "inactive"),
            pair("fmtp:101", "fmtp:126 0-16"),
            pair("two", "gone"),
        ],
        remove: vec!["two".into()],
        add: vec!["sendonly".into(), "x:1".into(), "x:1".into()],
    });
    assert_eq!(
        substituted,
        "a=foo:bar baz quuz|a=foo:bart|a=fmtp:126 0-16|a=sendonly|a=x:1|"
    );
}

#[test]
fn attributes_of_the_session() {
    let attributes = AttributeEdits {
        add: vec!["sendrecv".into()],
        remove: vec!["x-two".into()],
        substitute: vec![("x-one:1".into(), "x-one:2".into())],
    };
    let rewrite = Rewrite {
        attributes,
        ..Rewrite::default()
    };
    assert_eq!(
        session("a=x-one:1 a\na=x-two\n\n", rewrite),
        "a=x-one:2\na=sendrecv\n"
    );
}

#[test]
fn groups() {
    let lines = "a=group:LS 0 1\na=group:BUNDLE 0  1 \na=group:bundle 1\n";
    let with = |group| {
        session(
            lines,
            Rewrite {
                group,
                ..Rewrite::default()
            },
        )
    };
    assert_eq!(with(GroupEdit::Keep), lines.trim_end());
    assert_eq!(with(GroupEdit::Remove), "a=group:LS 0 1");
    assert_eq!(with(GroupEdit::Bundle(Vec::new())), "a=group:LS 0 1");
    let tags = vec!["x".to_owned(), "y".to_owned()];
    assert_eq!(
        with(GroupEdit::Bundle(tags.clone())),
        "a=group:LS 0 1\na=group:BUNDLE x y"
    );
    let added = session(
        "a=x\n",
        Rewrite {
            group: GroupEdit::Bundle(tags),
            ..Rewrite::default()
        },
    );
    assert_eq!(added, "a=x\na=group:BUNDLE x y");
}

#[test]
fn groups_follow_the_tags_of_sections() {
    let lines = "a=group:BUNDLE 0 1\na=group:BUNDLE 1\n";
    let with = |first: MidEdit, second: MediaRewrite| {
        let media = vec![
            MediaRewrite {
                mid: first,
                ..new()
            },
            second,
        ];
        session(
            lines,
            Rewrite {
                media,
                ..Rewrite::default()
            },
        )
    };
    let gone = MediaRewrite {
        remove: true,
        ..new()
    };
    assert_eq!(with(MidEdit::Keep, gone.clone()), "a=group:BUNDLE 0");
    assert_eq!(
        with(MidEdit::Set("a".into()), gone.clone()),
        "a=group:BUNDLE a"
    );
    assert_eq!(with(MidEdit::Remove, gone), "");
    assert_eq!(
        with(MidEdit::Set("1x".into()), new()),
        "a=group:BUNDLE 1x 1\na=group:BUNDLE 1"
    );
}

#[test]
fn marks_and_ice_of_the_session_stand_once() {
    let rewrite = Rewrite {
        ice_lite: true,
        remove_session_ice: true,
        loop_mark: Some("ours".into()),
        ..Rewrite::default()
    };
    let lines = "a=ice-lite\na=ice-ufrag:x\na=rtpengine:theirs\na=ice-pwd:y\n";
    let want = "a=ice-lite\na=rtpengine:theirs\na=rtpengine:ours";
    assert_eq!(session(lines, rewrite.clone()), want);
    assert_eq!(session(&format!("{want}\n"), rewrite), want);
    let rewrite = Rewrite {
        remove_session_ice: true,
        ..Rewrite::default()
    };
    assert_eq!(session(lines, rewrite), "a=rtpengine:theirs");
}

#[test]
fn names_of_the_origin_with_blanks_in_them() {
    let body = "v=0\no=al ice  1 2 IN IP4 phone.local \nc=IN IP4 10.0.0.1\nm=audio 9 RTP/AVP 0\no= 3 4 IN IP6 ::1\n";
    let sdp = Sdp::parse(body.as_bytes()).unwrap();
    let out = text(
        &sdp,
        &Rewrite {
            origin: OriginEdit {
                username: Some("-".into()),
                version: Some("9".into()),
                ..OriginEdit::default()
            },
            media: vec![MediaRewrite::new(9, "10.0.0.1".parse().unwrap())],
            ..Rewrite::default()
        },
    );
    assert!(out.contains("o=-  1 9 IN IP4 phone.local \n"), "{out}");
    assert!(out.contains("o=- 3 9 IN IP6 ::1\n"), "{out}");
}

#[test]
fn text_that_would_break_its_line_is_refused() {
    let sdp = parse("desk phone");
    let try_it = |edit: &dyn Fn(&mut Rewrite)| {
        let mut rewrite = Rewrite {
            media: vec![new()],
            ..Rewrite::default()
        };
        edit(&mut rewrite);
        sdp.rewrite(&rewrite)
    };
    let word = |what| Err(SdpError::NotOneWord { what });
    let line = |what| Err(SdpError::NotOneLine { what });
    for bad in ["", "a b", "a\tb", "a\r", "a\0"] {
        let text = || bad.to_owned();
        assert_eq!(
            try_it(&|r| r.origin.username = Some(text())),
            word("user name")
        );
        assert_eq!(
            try_it(&|r| r.origin.session_id = Some(text())),
            word("session identifier")
        );
        assert_eq!(
            try_it(&|r| r.origin.version = Some(text())),
            word("session version")
        );
        assert_eq!(try_it(&|r| r.loop_mark = Some(text())), word("loop mark"));
        assert_eq!(
            try_it(&|r| r.media[0].mid = MidEdit::Set(text())),
            word("identification tag")
        );
        assert_eq!(
            try_it(&|r| r.group = GroupEdit::Bundle(vec![text()])),
            word("identification tag")
        );
    }
    for bad in ["", "a\nm=audio 1 RTP/AVP 0", "a\r", "a\0"] {
        let text = || bad.to_owned();
        assert_eq!(
            try_it(&|r| r.session_name = Some(text())),
            line("session name")
        );
        assert_eq!(
            try_it(&|r| r.attributes.add = vec![text()]),
            line("attribute")
        );
        assert_eq!(
            try_it(&|r| r.media[0].attributes.add = vec![text()]),
            line("attribute")
        );
        let pair = || vec![("x".to_owned(), text())];
        assert_eq!(
            try_it(&|r| r.media[0].attributes.substitute = pair()),
            line("attribute")
        );
    }
    let ice = |edit: fn(&mut IceLines)| {
        let mut lines = IceLines {
            ufrag: "u".into(),
            pwd: "p".into(),
            ..IceLines::default()
        };
        edit(&mut lines);
        try_it(&|r| r.media[0].ice = IceEdit::Own(lines.clone()))
    };
    assert!(ice(|_| ()).is_ok());
    assert_eq!(
        ice(|l| l.ufrag = "a b".into()),
        word("ICE user name fragment")
    );
    assert_eq!(ice(|l| l.pwd = String::new()), word("ICE password"));
    assert_eq!(ice(|l| l.options = Some("a\n".into())), line("ICE options"));
}
