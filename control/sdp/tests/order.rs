//! Where lines stand that are made anew, and whose direction counts.

use penstock_sdp::{Direction, MediaRewrite, Rewrite, RtcpLine, Sdp};

const HEAD: &str = "v=0\r\no=- 1 1 IN IP4 10.0.0.1\r\ns=-\r\nc=IN IP4 10.0.0.1\r\nt=0 0\r\n";

fn new() -> MediaRewrite {
    MediaRewrite::new(5000, "192.0.2.1".parse().unwrap())
}

/// What becomes of a body with these lines after its t= line, each ending in LF.
fn rewrite(lines: &str, media: &[MediaRewrite]) -> String {
    let body = format!("{HEAD}{}", lines.replace('\n', "\r\n"));
    let rewrite = Rewrite {
        media: media.to_vec(),
        ..Rewrite::default()
    };
    let out = Sdp::parse(body.as_bytes()).unwrap().rewrite(&rewrite);
    let out = String::from_utf8(out.unwrap()).unwrap();
    let (_, rest) = out.split_once("t=0 0\r\n").unwrap();
    rest.replace("\r\n", "\n")
}

fn section(lines: &str, change: MediaRewrite) -> String {
    let out = rewrite(&format!("m=audio 4000 RTP/AVP 0 8\n{lines}"), &[change]);
    out.split_once("m=").unwrap().1.to_owned()
}

fn session(lines: &str, media: &[MediaRewrite]) -> String {
    let sections = "m=audio 4000 RTP/AVP 0\nm=video 4002 RTP/AVP 96\n";
    let out = rewrite(&format!("{lines}{sections}"), media);
    out.split_once("m=").unwrap().0.to_owned()
}

/// What is made anew stands in its order, what passes where it stood.
#[test]
fn lines_made_anew_stand_in_order() {
    let anew = || MediaRewrite {
        in_order: true,
        direction: Some(Direction::SendOnly),
        rtcp: RtcpLine::Port(5001),
        rtcp_mux: Some(true),
        ..new()
    };
    let head = "audio 5000 RTP/AVP 0 8\nc=IN IP4 192.0.2.1\n".to_owned();
    let came = "a=sendrecv\na=x\na=rtcp:4001\na=fmtp:8 y\na=rtcp-fb:8 nack\na=z\na=rtpmap:8 PCMA/8000/1\na=fmtp:99 gone\na=mid:m\n";
    let want = "a=x\na=mid:m\na=rtpmap:0 PCMU/8000\na=rtpmap:8 PCMA/8000\na=fmtp:8 y\na=z\na=rtcp-fb:8 nack\n\
        a=sendonly\na=rtcp:5001\na=rtcp-mux\n";
    assert_eq!(section(came, anew()), head.clone() + want);
    // What is in order stays, between other lines too.
    let sound = "a=1\na=mid:m\na=2\na=rtpmap:0 PCMU/8000\na=rtcp-fb:0 nack\na=fmtp:0 x\na=3\na=rtpmap:8 PCMA/8000\n\
        a=ptime:20\na=4\na=sendonly\na=5\na=rtcp:5001\na=rtcp-mux\na=6\n";
    assert_eq!(section(sound, anew()), head.clone() + sound);
    // A direction that is not made anew stays where it stood.
    let passed = MediaRewrite {
        direction: None,
        ..anew()
    };
    let out = section(
        "a=inactive\na=rtpmap:0 PCMU/8000\na=rtpmap:8 PCMA/8000\n",
        passed,
    );
    assert!(
        out.starts_with(&(head + "a=inactive\na=rtpmap:0 ")),
        "{out}"
    );
}

/// The session's direction goes once each section that is used has its own; lines that contradict each other are heard
/// as rtpengine hears them.
#[test]
fn directions_of_session_and_section() {
    let own = || MediaRewrite {
        direction: Some(Direction::SendRecv),
        ..new()
    };
    let refused = MediaRewrite {
        refused: true,
        ..new()
    };
    assert_eq!(session("a=inactive\n", &[own(), own()]), "");
    assert_eq!(session("a=inactive\n", &[own(), refused]), "");
    assert_eq!(session("a=inactive\n", &[own(), new()]), "a=inactive\n");
    for (one, other, want) in [
        ("sendrecv", "inactive", Direction::Inactive),
        ("inactive", "sendonly", Direction::SendOnly),
        ("sendonly", "recvonly", Direction::RecvOnly),
    ] {
        for (first, second) in [(one, other), (other, one)] {
            let heard = |body: String| Sdp::parse(body.as_bytes()).unwrap().media()[0].direction;
            let media = "m=audio 4000 RTP/AVP 0\r\n";
            assert_eq!(
                heard(format!("{HEAD}a={first}\r\n{media}a={second}\r\n")),
                want
            );
            assert_eq!(
                heard(format!("{HEAD}{media}a={first}\r\na={second}\r\n")),
                want
            );
        }
    }
}
