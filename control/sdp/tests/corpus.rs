//! Bodies as phones, gateways and browsers send them: read, rewritten, and read again by
//! sdp-types as second opinion.

mod bodies;

use bodies::{BODIES, crlf};
use penstock_sdp::{
    Direction, IceEdit, Media, MediaKind, MediaRewrite, OriginEdit, Rewrite, RtcpLine, Sdp,
};
use std::net::IpAddr;

fn parse(name: &str) -> Sdp {
    let (_, text) = BODIES.iter().find(|(n, _)| *n == name).expect(name);
    Sdp::parse(&crlf(text)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn first(name: &str) -> Media {
    parse(name).media()[0].clone()
}

/// A rewrite to a relay's address, ports from 30,000 on, RTCP at the next.
fn to_relay(sdp: &Sdp, address: &str) -> Rewrite {
    let address: IpAddr = address.parse().unwrap();
    let ports = (30_000..).step_by(2);
    let media = sdp.media().iter().zip(ports).map(|(_, port)| MediaRewrite {
        rtcp: RtcpLine::Port(port + 1),
        ice: IceEdit::Remove,
        ..MediaRewrite::new(port, address)
    });
    Rewrite {
        origin: OriginEdit {
            address: Some(address),
            ..OriginEdit::default()
        },
        remove_session_ice: true,
        media: media.collect(),
        ..Rewrite::default()
    }
}

#[test]
fn sdp_types_agrees_on_every_body() {
    for (name, text) in BODIES {
        let body = crlf(text);
        let sdp = Sdp::parse(&body).unwrap_or_else(|error| panic!("{name}: {error}"));
        let other = sdp_types::Session::parse(&body).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(sdp.media().len(), other.medias.len(), "{name}");
        for (ours, theirs) in sdp.media().iter().zip(&other.medias) {
            assert_eq!(ours.port, theirs.port, "{name}");
            assert_eq!(ours.port_count, theirs.num_ports.unwrap_or(1), "{name}");
            assert_eq!(ours.proto, theirs.proto.to_string(), "{name}");
            assert_eq!(ours.formats.join(" "), theirs.fmt, "{name}");
            let connection = theirs.connections.first().or(other.connection.as_ref());
            let address = connection.map(|c| c.connection_address.split('/').next().unwrap());
            assert_eq!(ours.address, address.map(|a| a.parse().unwrap()), "{name}");
        }
    }
}

#[test]
fn sdp_types_reads_the_new_addresses_and_finds_nothing_else_changed() {
    let touched = |a: &sdp_types::Attribute| {
        let name = a.attribute.as_str();
        name == "rtcp" || name.contains("candidate") || name.starts_with("ice-")
    };
    for (name, text) in BODIES {
        let body = crlf(text);
        let sdp = Sdp::parse(&body).unwrap();
        let out = sdp.rewrite(&to_relay(&sdp, "192.0.2.1")).unwrap();
        let was = sdp_types::Session::parse(&body).unwrap();
        let is = sdp_types::Session::parse(&out).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(is.origin.unicast_address, "192.0.2.1", "{name}");
        assert_eq!(is.connection, None, "{name}");
        assert_eq!(
            (is.session_name, is.times),
            (was.session_name, was.times),
            "{name}"
        );
        let kept = |list: &[sdp_types::Attribute]| -> Vec<_> {
            list.iter().filter(|a| !touched(a)).cloned().collect()
        };
        assert_eq!(kept(&is.attributes), kept(&was.attributes), "{name}");
        for (idx, (is, was)) in is.medias.iter().zip(&was.medias).enumerate() {
            let ours = &sdp.media()[idx];
            let port = if ours.is_rejected() {
                0
            } else {
                30_000 + 2 * idx as u16
            };
            let address = if ours.is_zero_address() {
                "0.0.0.0"
            } else {
                "192.0.2.1"
            };
            assert_eq!(is.port, port, "{name}");
            assert_eq!(is.connections.len(), 1, "{name}");
            assert_eq!(is.connections[0].connection_address, address, "{name}");
            assert_eq!((&is.proto, &is.fmt), (&was.proto, &was.fmt), "{name}");
            assert_eq!(kept(&is.attributes), kept(&was.attributes), "{name}");
            let left: Vec<_> = is.attributes.iter().filter(|a| touched(a)).collect();
            let rtcp = (30_001 + 2 * idx).to_string();
            assert_eq!(left.len(), 1, "{name}: {left:?}");
            assert_eq!(left[0].value.as_deref(), Some(rtcp.as_str()), "{name}");
        }
    }
}

#[test]
fn no_address_of_the_sender_leaves() {
    for (name, text) in BODIES {
        let sdp = Sdp::parse(&crlf(text)).unwrap();
        let out = String::from_utf8(sdp.rewrite(&to_relay(&sdp, "2001:db8::1")).unwrap()).unwrap();
        for private in ["10.", "192.168.", "172.16.", "fd00:", "203.0.113."] {
            let leak = out
                .lines()
                .find(|line| line.contains(&format!(" {private}")));
            assert_eq!(leak, None, "{name}");
        }
    }
}

#[test]
fn what_the_bodies_say() {
    let phone = parse("desk phone");
    let origin = phone.origin().unwrap();
    assert_eq!((&*origin.username, &*origin.address), ("alice", "10.1.2.3"));
    assert_eq!(origin.session_version, "8001");
    assert_eq!(phone.connection(), Some("10.1.2.3".parse().unwrap()));
    let media = &phone.media()[0];
    assert_eq!(
        (media.kind.clone(), media.port, media.ptime),
        (MediaKind::Audio, 11780, Some(20))
    );
    let names: Vec<&str> = media
        .codecs
        .iter()
        .map(|codec| codec.name.as_str())
        .collect();
    assert_eq!(names, ["G722", "PCMU", "PCMA", "G729", "telephone-event"]);

    let gateway = first("explicit rtcp");
    let rtcp = gateway.rtcp.unwrap();
    assert_eq!(
        (rtcp.port, rtcp.address),
        (53020, Some("10.9.9.9".parse().unwrap()))
    );
    assert_eq!(first("explicit rtcp port only").rtcp.unwrap().address, None);

    let browser = parse("webrtc");
    let audio = &browser.media()[0];
    assert!(
        audio.ice && audio.rtcp_mux && !audio.is_hold(),
        "zero address with ICE is not hold"
    );
    assert_eq!(
        (audio.codecs[0].name.as_str(), audio.codecs[0].channels),
        ("opus", 2)
    );
    assert_eq!(audio.protocol().unwrap().as_str(), "UDP/TLS/RTP/SAVPF");

    let fax = first("t38");
    assert_eq!((fax.kind, fax.codecs.len()), (MediaKind::Image, 0));
    assert!(
        !penstock_sdp::Protocol::from_word(&fax.proto)
            .unwrap()
            .is_rtp()
    );
    assert_eq!(first("ipv6").address, Some("fd00::15".parse().unwrap()));
    assert_eq!(first("two ports").port_count, 2);
}

/// A host's over UDP are read, whatever stands behind them; others, and what is broken, are not.
#[test]
fn where_a_lite_agent_is() {
    let lines = [
        "1 1 UDP 2130706431 10.0.1.1 8998 typ host",
        "2 2 udp 2130706430 2001:db8::1 9000 typ host generation 0",
        "3 1 UDP 1694498815 203.0.113.141 45664 typ srflx raddr 10.0.1.1 rport 8998",
        "4 1 TCP 2105524479 10.0.1.1 9 typ host tcptype active",
        "5 256 UDP 1 10.0.1.1 8998 typ host",
        "6 1 UDP 4294967296 10.0.1.1 8998 typ host",
        "7 1 UDP 1 phone.local 8998 typ host",
        "8 1 UDP 1 10.0.1.1 65536 typ host",
        "9 1 UDP 1 10.0.1.1 8998 host",
        "10 1 UDP 1 10.0.1.1",
        "",
    ];
    let body = |lines: &[&str]| {
        let head = "v=0\r\nc=IN IP4 10.0.1.1\r\nm=audio 8998 RTP/AVP 0\r\n".to_owned();
        let lines = lines.iter().map(|line| format!("a=candidate:{line}\r\n"));
        head + &lines.collect::<String>()
    };
    let read = |lines: &[&str]| {
        let sdp = Sdp::parse(body(lines).as_bytes()).unwrap();
        sdp.media()[0].candidates.clone()
    };
    let found = read(&lines);
    let told: Vec<_> = found
        .iter()
        .map(|c| (c.component, c.priority, c.address.to_string()))
        .collect();
    assert_eq!(
        told,
        [
            (1, 2_130_706_431, "10.0.1.1:8998".to_owned()),
            (2, 2_130_706_430, "[2001:db8::1]:9000".to_owned())
        ]
    );
    assert_eq!(read(&[lines[0]; 40]).len(), 16);
}

#[test]
fn what_two_sides_compare() {
    let sdp = parse("webrtc with fingerprint in session and data channel");
    assert_eq!(sdp.bundles(), [["0", "1", "2"]]);
    assert!(!sdp.is_ice_lite() && sdp.loop_marks().is_empty());
    let [audio, video, data] = sdp.media() else {
        panic!("{}", sdp.media().len())
    };
    let mids: Vec<_> = sdp.media().iter().map(|m| m.mid.as_deref()).collect();
    assert_eq!(mids, [Some("0"), Some("1"), Some("2")]);
    assert_eq!(
        audio.keys, video.keys,
        "the session's fingerprint is everyone's"
    );
    assert!(audio.keys.fingerprints[0].starts_with("sha-256 7B:8B:"));
    assert_eq!(audio.keys.setup.as_deref(), Some("actpass"));
    assert_eq!(data.ice_ufrag.as_deref(), Some("2d7d3c81"));
    assert_eq!(
        data.ice_pwd.as_deref(),
        Some("7dc2c1b8d1a46f5c1d4c9c7a7b1f7f5e")
    );
    assert_eq!((audio.has_candidates, video.has_candidates), (true, false));
    let extmaps: Vec<_> = audio
        .extmaps
        .iter()
        .map(|e| (e.number, e.uri.as_str()))
        .collect();
    assert_eq!(
        extmaps[1],
        (2, "urn:ietf:params:rtp-hdrext:csrc-audio-level")
    );
    assert_eq!(extmaps.len(), 3);
    assert_eq!((audio.bundle_only, video.bundle_only), (false, true));
    assert_eq!((audio.rtcp_mux_only, video.rtcp_mux_only), (false, true));
    assert_eq!(video.ssrcs, [1_187_033_184, 2_387_045_013]);
    assert!(audio.has_direction);

    let sdes = first("desk phone with srtp offered twice").keys;
    assert_eq!((sdes.crypto.len(), sdes.fingerprints.len()), (2, 0));
    assert!(sdes.crypto[1].starts_with("2 AES_CM_128_HMAC_SHA1_32 inline:PS1u"));
    assert_eq!(first("softphone with avpf").label.as_deref(), Some("main"));
    assert!(
        !first("desk phone with video").has_direction,
        "that of the session is not its own"
    );
    assert_eq!(first("asterisk").maxptime, Some(150));

    let relayed = parse("seen by a relay");
    assert_eq!(relayed.loop_marks(), ["ff45f3b0a95c"]);
    assert!(relayed.is_ice_lite());
    let session_ice = first("ice phone");
    assert_eq!(session_ice.ice_ufrag.as_deref(), Some("8hhY"));
    assert_eq!(
        session_ice.ice_pwd.as_deref(),
        Some("asd88fgpdd777uzjYhagZg")
    );
}

#[test]
fn unsound_lines_are_no_readings() {
    let body = "v=0\nc=IN IP4 10.0.0.1\na=group:BUNDLE\na=group\na=group:LS 1\nm=audio 9 RTP/AVP 0\na=extmap:x urn:a\n\
        a=extmap:1\na=extmap:99999 urn:b\na=extmap:7/inactive urn:c\na=ssrc:x\na=ssrc:-1 a\na=ssrc:5\na=ssrc:5 b\n\
        a=maxptime:0\na=maxptime:40.5\na=mid\na=label:x\n";
    let sdp = Sdp::parse(body.as_bytes()).unwrap();
    assert_eq!(sdp.bundles(), [Vec::<String>::new()]);
    let media = &sdp.media()[0];
    assert_eq!((media.extmaps.len(), media.extmaps[0].number), (1, 7));
    assert_eq!((&media.ssrcs[..], media.maxptime), (&[5][..], Some(40)));
    assert_eq!(media.mid.as_deref(), Some(""));
}

#[test]
fn ice_of_the_session_counts_and_an_unsound_rtcp_line_does_not() {
    let read = |tail: &str| {
        let body = format!("v=0\nc=IN IP4 0.0.0.0\n{tail}");
        Sdp::parse(body.as_bytes()).unwrap().media()[0].clone()
    };
    assert!(!read("a=ice-ufrag:x\nm=audio 9 RTP/AVP 0\n").is_hold());
    assert!(read("m=audio 9 RTP/AVP 0\n").is_hold());
    for bad in [
        "0",
        "65536",
        "x",
        "",
        "9 IN IP4",
        "9 IN IP4 host.example",
        "9 IN IP6 10.0.0.1",
    ] {
        assert_eq!(
            read(&format!("m=audio 9 RTP/AVP 0\na=rtcp:{bad}\n")).rtcp,
            None,
            "{bad}"
        );
    }
}

#[test]
fn hold_and_rejection() {
    let all = [
        ("hold sendonly", Direction::SendOnly, true),
        ("hold inactive in session", Direction::Inactive, true),
        ("hold zero address", Direction::SendRecv, true),
        ("hold answer recvonly", Direction::RecvOnly, false),
        ("desk phone", Direction::SendRecv, false),
    ];
    for (name, direction, hold) in all {
        let media = first(name);
        assert_eq!(
            (media.direction, media.is_hold()),
            (direction, hold),
            "{name}"
        );
    }
    let sdp = parse("media overrides session");
    assert_eq!(sdp.media()[0].direction, Direction::RecvOnly);
    assert_eq!(sdp.media()[1].direction, Direction::Inactive);
    assert_eq!(sdp.media()[0].address, Some("10.0.1.1".parse().unwrap()));
    assert_eq!(sdp.media()[1].address, Some("10.0.0.9".parse().unwrap()));
    let video = parse("video rejected");
    assert!(video.media()[1].is_rejected() && !video.media()[0].is_rejected());
}
