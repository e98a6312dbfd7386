//! What leaves, byte for byte, and what is refused.

use penstock_sdp::{
    IceEdit, MAX_BODY, MediaRewrite, OriginEdit, Protocol, Rewrite, RtcpLine, Sdp, SdpError,
};

const HEAD: &str = "v=0\r\no=- 1 1 IN IP4 10.0.0.1\r\ns=-\r\nc=IN IP4 10.0.0.1\r\nt=0 0\r\n";

fn relay(port: u16) -> MediaRewrite {
    let address = "192.0.2.1".parse().unwrap();
    MediaRewrite {
        rtcp: RtcpLine::None,
        ice: IceEdit::Remove,
        ..MediaRewrite::new(port, address)
    }
}

fn rewrite(body: &[u8], media: Vec<MediaRewrite>) -> String {
    let origin = OriginEdit {
        address: Some("192.0.2.1".parse().unwrap()),
        ..OriginEdit::default()
    };
    let sdp = Sdp::parse(body).unwrap();
    let out = sdp
        .rewrite(&Rewrite {
            origin,
            remove_session_ice: true,
            media,
            ..Rewrite::default()
        })
        .unwrap();
    String::from_utf8_lossy(&out).into_owned()
}

fn error(body: impl AsRef<[u8]>) -> SdpError {
    Sdp::parse(body.as_ref()).unwrap_err()
}

#[test]
fn odd_order_unknown_lines_blanks_and_other_terminators_stay() {
    let body =
        b"s=-\nv=0\no=al ice  1 1 IN IP4 phone.local \nt=0 0\nx=\xff\xfe\nc=IN IP4 10.0.0.1\n\
        z=0 99999999999999999\r\nm=audio  4000 \tRTP/AVP 0 \na=x:10.0.0.1\rb=AS:64\ni=late\n\nq";
    let want = "s=-\nv=0\no=al ice  1 1 IN IP4 192.0.2.1 \nt=0 0\nx=\u{fffd}\u{fffd}\n\
        z=0 99999999999999999\r\nm=audio  5000 \tRTP/AVP 0 \nc=IN IP4 192.0.2.1\na=x:10.0.0.1\rb=AS:64\ni=late\n\nq";
    assert_eq!(rewrite(body, vec![relay(5000)]), want);
}

#[test]
fn a_missing_last_terminator_stays_missing() {
    let body = format!("{HEAD}m=audio 4000 RTP/AVP 0");
    let change = MediaRewrite {
        rtcp: RtcpLine::Port(5001),
        ..relay(5000)
    };
    let out = rewrite(body.as_bytes(), vec![change]);
    let want = "m=audio 5000 RTP/AVP 0\r\nc=IN IP4 192.0.2.1\r\na=rtcp:5001";
    assert!(out.ends_with(want), "{out}");
}

#[test]
fn the_connection_follows_the_title_and_rtcp_follows_the_direction() {
    let body = format!(
        "{HEAD}m=audio 4000 RTP/AVP 96\r\ni=x\r\nb=AS:64\r\na=rtpmap:96 opus/48000/2\r\na=sendrecv\r\n\
         a=rtcp-mux\r\na=ssrc:1\r\n"
    );
    let change = MediaRewrite {
        rtcp: RtcpLine::Port(5001),
        ..relay(5000)
    };
    let out = rewrite(body.as_bytes(), vec![change]);
    let want = "m=audio 5000 RTP/AVP 96\r\ni=x\r\nc=IN IP4 192.0.2.1\r\nb=AS:64\r\na=rtpmap:96 opus/48000/2\r\n\
         a=sendrecv\r\na=rtcp:5001\r\na=rtcp-mux\r\na=ssrc:1\r\n";
    assert!(out.ends_with(want), "{out}");
}

#[test]
fn second_connection_and_rtcp_lines_go_away() {
    let body = format!(
        "{HEAD}a=rtcp:9\r\nm=audio 4000 RTP/AVP 0\r\nc=IN IP4 10.0.0.2\r\nc=IN IP4 10.0.0.3\r\n\
         a=RTCP:4001 IN IP4 10.0.0.2\r\na=rtcp:4003\r\n"
    );
    let change = MediaRewrite {
        rtcp: RtcpLine::Port(5001),
        ..relay(5000)
    };
    let session = "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nt=0 0\r\n";
    let media = "m=audio 5000 RTP/AVP 0\r\nc=IN IP4 192.0.2.1\r\n";
    assert_eq!(
        rewrite(body.as_bytes(), vec![change]),
        format!("{session}{media}a=rtcp:5001\r\n")
    );
    assert_eq!(
        rewrite(body.as_bytes(), vec![relay(5000)]),
        format!("{session}{media}")
    );
}

#[test]
fn a_new_rtcp_line_may_take_the_place_of_a_second_connection() {
    let body = format!("{HEAD}m=audio 4000 RTP/AVP 0\r\nc=IN IP4 10.0.0.2\r\nc=IN IP4 10.0.0.3");
    let change = MediaRewrite {
        rtcp: RtcpLine::Port(5001),
        ..relay(5000)
    };
    let out = rewrite(body.as_bytes(), vec![change]);
    assert!(
        out.ends_with("m=audio 5000 RTP/AVP 0\r\nc=IN IP4 192.0.2.1\r\na=rtcp:5001"),
        "{out}"
    );
}

#[test]
fn ice_lines_leave_only_when_they_may() {
    let body = format!(
        "{HEAD}a=ice-lite\r\nm=audio 4000 RTP/AVP 0\r\na=ice-ufrag:x\r\na=candidate:1 1 UDP 1 10.0.0.1 8998 typ host"
    );
    let sdp = Sdp::parse(body.as_bytes()).unwrap();
    let kept = sdp
        .rewrite(&Rewrite {
            media: vec![MediaRewrite {
                ice: IceEdit::Keep,
                ..relay(1)
            }],
            ..Rewrite::default()
        })
        .unwrap();
    let kept = String::from_utf8(kept).unwrap();
    assert_eq!(
        kept.matches("a=ice-").count() + kept.matches("a=candidate").count(),
        3
    );
    assert!(
        kept.contains("o=- 1 1 IN IP4 10.0.0.1\r\n"),
        "no new origin was asked for"
    );
    let out = rewrite(body.as_bytes(), vec![relay(1)]);
    assert!(
        out.ends_with("m=audio 1 RTP/AVP 0\r\nc=IN IP4 192.0.2.1"),
        "{out}"
    );
}

#[test]
fn rejected_hold_family_and_protocol() {
    let body = format!(
        "{HEAD}m=video 0 RTP/AVP 99\r\nm=audio 4000/2 RTP/AVP 0\r\nc=IN IP4 0.0.0.0\r\nm=audio 1 RTP/AVP 0\r\n"
    );
    let v6 = MediaRewrite {
        address: "2001:db8::1".parse().unwrap(),
        ..relay(5000)
    };
    let secure = MediaRewrite {
        protocol: Some(Protocol::RtpSavp),
        ..relay(0)
    };
    let out = rewrite(body.as_bytes(), vec![relay(7), v6, secure]);
    let want = "m=video 0 RTP/AVP 99\r\nc=IN IP4 192.0.2.1\r\nm=audio 5000 RTP/AVP 0\r\nc=IN IP6 ::\r\n\
         m=audio 0 RTP/SAVP 0\r\nc=IN IP4 192.0.2.1\r\n";
    assert!(out.ends_with(want), "{out}");
}

#[test]
fn a_rewrite_names_every_section() {
    let sdp = Sdp::parse(format!("{HEAD}m=audio 1 RTP/AVP 0\r\n").as_bytes()).unwrap();
    let refused = sdp.rewrite(&Rewrite::default());
    assert_eq!(refused, Err(SdpError::RewriteCount { count: 1, given: 0 }));
}

#[test]
fn the_lines_that_make_sdp_rs_panic_are_only_bytes_here() {
    let long = "9".repeat(400);
    for poison in [
        "z=0 99999999999999999",
        "r=99999999999999999 1 0",
        &format!("r={long}d {long}h {long}m"),
    ] {
        let body = format!(
            "v=0\r\no=- 1 1 IN IP4 10.0.0.1\r\ns=-\r\nt=0 0\r\n{poison}\r\nm=audio 1 RTP/AVP 0\r\n\
             c=IN IP4 10.0.0.1\r\n{poison}\r\na=rtpmap:0 PCMU/8000\r\n"
        );
        let out = rewrite(body.as_bytes(), vec![relay(5000)]);
        assert_eq!(out.matches(poison).count(), 2, "{out}");
    }
}

#[test]
fn refusals_say_what_and_where() {
    let media = "m=audio 1 RTP/AVP 0\r\n";
    let full = |tail: &str| error(format!("{HEAD}{tail}"));
    assert_eq!(error(""), SdpError::Empty);
    assert_eq!(error("\r\n \r\n"), SdpError::Empty);
    assert_eq!(
        error(vec![b'a'; MAX_BODY + 1]),
        SdpError::TooLarge { len: MAX_BODY + 1 }
    );
    assert_eq!(error("o=x"), SdpError::NoVersion);
    assert_eq!(error(format!("s=-\r\n{media}v=0\r\n")), SdpError::NoVersion);
    assert_eq!(full(""), SdpError::NoMedia);
    let many = full(&media.repeat(100));
    assert_eq!(many.to_string(), "100 media sections, the limit is 64");
    assert!(Sdp::parse(format!("{HEAD}{}", media.repeat(64)).as_bytes()).is_ok());
    assert_eq!(error("v=0\r\no=- 1 IN IP4 x\r\n"), SdpError::NoMedia);
    assert_eq!(
        error(format!("v=0\no=- 1 IN IP4 x\n{media}")),
        SdpError::MalformedOrigin { line: 2 }
    );
    for bad in [
        "m=",
        "m=audio",
        "m=audio 1",
        "m=audio 1 RTP/AVP",
        "m=audio 1 RTP/AVP ",
    ] {
        assert_eq!(full(bad), SdpError::MalformedMedia { line: 6 }, "{bad}");
    }
    for bad in [
        "65536",
        "-1",
        "+1",
        "x",
        "1/0",
        "1/",
        "/",
        "1/2/3",
        "99999999999999999999",
    ] {
        assert_eq!(
            full(&format!("m=audio {bad} RTP/AVP 0")),
            SdpError::BadPort { line: 6 },
            "{bad}"
        );
    }
    let host = full(&format!("{media}c=IN IP4 media.example.com\r\n"));
    assert_eq!(host.to_string(), "line 7: host name in c= line");
    for bad in [
        "c=",
        "c=IN IP4",
        "c=IN IP4 10.0.0",
        "c=IN IP6 10.0.0.1",
        "c=ATM IP4 10.0.0.1",
        "c=IN IP4 10.0.0.1 x",
    ] {
        assert_eq!(
            full(&format!("{media}{bad}\r\n")),
            SdpError::MalformedConnection { line: 7 },
            "{bad}"
        );
    }
    assert_eq!(
        error(format!("v=0\r\n{media}")),
        SdpError::NoConnection { line: 2 }
    );
    assert_eq!(
        error(b"v=0\nm=audio 1 RTP/AVP \xff"),
        SdpError::NotUtf8 { line: 2 }
    );
    assert_eq!(
        error(b"v=0\nc=IN IP4 \xff\nm=audio 1 RTP/AVP 0"),
        SdpError::NotUtf8 { line: 2 }
    );
}

#[test]
fn a_new_line_ends_as_the_first_that_always_leaves() {
    let body = "c=IN IP4 10.0.0.1\nv=0\r\nm=audio 4000 RTP/AVP 0\n";
    let want = "v=0\r\nm=audio 5000 RTP/AVP 0\nc=IN IP4 192.0.2.1\r\n";
    assert_eq!(rewrite(body.as_bytes(), vec![relay(5000)]), want);
}

#[test]
fn a_terminator_does_not_become_another_one() {
    let body = "v=0\rc=IN IP4 10.0.0.1\n\nm=audio 4000 RTP/AVP 0\n";
    let want = "v=0\rm=audio 5000 RTP/AVP 0\nc=IN IP4 192.0.2.1\r";
    assert_eq!(rewrite(body.as_bytes(), vec![relay(5000)]), want);
}
