//! Any body, any edits: what leaves reads as asked, and nothing else has changed. The property
//! tests and the fuzzer share it.

use penstock_sdp::{
    AttributeEdits, Candidate, Codec, CodecFilter, Direction, ExtmapEdit, GroupEdit, IceEdit,
    IceLines, Media, MediaRewrite, MidEdit, OriginEdit, Protocol, Rewrite, RtcpLine, Sdp, SdpError,
    ZeroAddress,
};
use std::net::IpAddr;

/// Parses `body`, rewrites it as `seed` has it, and looks at what leaves.
pub fn check(body: &[u8], seed: u64) {
    let Ok(sdp) = Sdp::parse(body) else { return };
    assert_eq!(sdp.as_bytes(), body);
    let mut dice = Dice(seed);
    let rewrite = edits(&sdp, &mut dice);
    let out = sdp.rewrite(&rewrite).expect("the edits are sound");
    assert_eq!(untouched(&out), untouched_of(&sdp, body, &rewrite));
    let again = match Sdp::parse(&out) {
        Err(SdpError::TooLarge { .. }) => return,
        Err(SdpError::NoMedia) => {
            assert!(rewrite.media.iter().all(|change| change.remove));
            return;
        }
        again => again.expect("what leaves can be read"),
    };
    // Of two lines that say the same thing differently, either may come to be the first.
    if repeats(body) {
        return;
    }
    session(&again, &sdp, &rewrite);
    let kept = || {
        sdp.media()
            .iter()
            .zip(&rewrite.media)
            .filter(|(_, change)| !change.remove)
    };
    assert_eq!(again.media().len(), kept().count());
    for (is, (was, change)) in again.media().iter().zip(kept()) {
        section(is, was, change, &rewrite);
        attributes(is, was, change);
    }
    // With ICE the zero address is no hold, so there a second rewrite has another one to make.
    let turns_ice = |(was, change): (&Media, &MediaRewrite)| {
        was.is_zero_address() && matches!(change.ice, IceEdit::Own(_))
    };
    if kept().any(turns_ice) {
        return;
    }
    order(&out, &rewrite);
    let twice = Rewrite {
        media: kept().map(|(_, change)| change.clone()).collect(),
        ..rewrite.clone()
    };
    let second = again.rewrite(&twice).expect("the same edits");
    assert_eq!(
        show(&second),
        show(&out),
        "a second rewrite changes nothing"
    );
}

fn show(body: &[u8]) -> String {
    body.escape_ascii().to_string()
}

fn session(is: &Sdp, was: &Sdp, rewrite: &Rewrite) {
    assert_eq!(is.connection(), None);
    match &rewrite.group {
        GroupEdit::Keep => {
            let gone = was
                .media()
                .iter()
                .zip(&rewrite.media)
                .filter(|(_, change)| change.remove);
            for tag in gone.filter_map(|(media, _)| media.mid.as_ref()) {
                assert!(is.bundles().iter().all(|tags| !tags.contains(tag)), "{tag}");
            }
        }
        GroupEdit::Remove => assert!(is.bundles().is_empty()),
        GroupEdit::Bundle(tags) if tags.is_empty() => assert!(is.bundles().is_empty()),
        GroupEdit::Bundle(tags) => assert_eq!(is.bundles(), std::slice::from_ref(tags)),
    }
    let lite = rewrite.ice_lite || was.is_ice_lite() && !rewrite.remove_session_ice;
    assert_eq!(is.is_ice_lite(), lite);
    if let Some(mark) = &rewrite.loop_mark {
        assert!(is.loop_marks().contains(mark));
    }
    // The first o= line may have gone with its section.
    if let (Some(is), Some(new)) = (is.origin(), rewrite.origin.address) {
        assert_eq!(is.address, new.to_string());
        assert_eq!(is.session_version, "77");
    }
}

fn section(is: &Media, was: &Media, change: &MediaRewrite, rewrite: &Rewrite) {
    assert_eq!(is.kind, was.kind);
    assert_eq!(is.port, if was.is_rejected() { 0 } else { change.port });
    if was.is_zero_address() && change.zero_address == ZeroAddress::Keep {
        assert!(is.address.is_some_and(|address| address.is_unspecified()));
    } else {
        assert_eq!(is.address, Some(change.address));
    }
    match change.rtcp {
        RtcpLine::None => assert_eq!(is.rtcp, None),
        RtcpLine::Keep => assert_eq!(is.rtcp, was.rtcp),
        RtcpLine::Port(port) => {
            assert_eq!(is.rtcp.map(|r| (r.port, r.address)), Some((port, None)))
        }
        RtcpLine::Full(port, at) => {
            assert_eq!(is.rtcp.map(|r| (r.port, r.address)), Some((port, Some(at))));
        }
    }
    assert_eq!(is.rtcp_mux, change.rtcp_mux.unwrap_or(was.rtcp_mux));
    assert_eq!(
        is.rtcp_mux_only,
        change.rtcp_mux != Some(false) && was.rtcp_mux_only
    );
    // Else the session's own may contradict it.
    if change.direction.is_none()
        || rewrite
            .media
            .iter()
            .all(|change| change.direction.is_some())
    {
        assert_eq!(is.direction, change.direction.unwrap_or(was.direction));
    }
    assert_eq!(
        is.has_direction,
        was.has_direction || change.direction.is_some()
    );
    match &change.ice {
        IceEdit::Own(own) => {
            assert_eq!(is.ice_ufrag.as_ref(), Some(&own.ufrag));
            assert_eq!(is.ice_pwd.as_ref(), Some(&own.pwd));
            assert_eq!(is.has_candidates, !own.candidates.is_empty());
        }
        IceEdit::Remove => {
            assert!(!is.has_candidates);
            assert!(!rewrite.remove_session_ice || !is.ice);
        }
        IceEdit::Keep => assert_eq!(is.has_candidates, was.has_candidates),
    }
}

/// Whether a section describes a payload type twice, or its RTCP.
fn repeats(body: &[u8]) -> bool {
    let text = String::from_utf8_lossy(body)
        .replace('\r', "\n")
        .to_ascii_lowercase();
    let mut seen = std::collections::HashSet::new();
    text.split('\n').any(|line| {
        if line.starts_with("m=") {
            seen.clear();
        }
        let (name, value) = line
            .strip_prefix("a=")
            .unwrap_or("")
            .split_once(':')
            .unwrap_or_default();
        let number = value.split_ascii_whitespace().next().unwrap_or_default();
        match name.trim() {
            "rtpmap" => !seen.insert(format!("{:?}", number.parse::<u32>())),
            "rtcp" => !seen.insert("rtcp".to_owned()),
            _ => false,
        }
    })
}

/// What is made anew stands in its order.
fn order(out: &[u8], rewrite: &Rewrite) {
    let text = String::from_utf8_lossy(out).replace('\r', "\n");
    let sections = text.split("\nm=").skip(1);
    let kept = rewrite.media.iter().filter(|change| !change.remove);
    for (section, change) in sections.zip(kept).filter(|(_, change)| change.in_order) {
        // The first is the m= line, whatever follows that.
        let ranks = section.lines().skip(1).filter_map(|line| {
            let name = line.strip_prefix("a=")?.split(':').next()?;
            match name.trim_ascii().to_ascii_lowercase().as_str() {
                "mid" => Some(0),
                "rtpmap" | "fmtp" => Some(1),
                "sendrecv" | "sendonly" | "recvonly" | "inactive" => {
                    change.direction.is_some().then_some(2)
                }
                "rtcp" => Some(3),
                "rtcp-mux" => Some(4),
                _ => None,
            }
        });
        assert!(ranks.is_sorted(), "{section}");
    }
}

fn attributes(is: &Media, was: &Media, change: &MediaRewrite) {
    match change.protocol {
        Some(protocol) => assert_eq!(is.protocol(), Some(protocol)),
        None => assert_eq!(is.proto, was.proto),
    }
    match &change.formats {
        Some(formats) if !formats.is_empty() => assert_eq!(&is.formats, formats),
        _ => assert_eq!(is.formats, was.formats),
    }
    for codec in &is.codecs {
        assert!(was.codecs.contains(codec), "{codec}");
    }
    let count = |media: &Media, codec: &Codec| media.codecs.iter().filter(|c| *c == codec).count();
    for codec in is.codecs.iter().filter(|_| change.formats.is_none()) {
        assert_eq!(count(is, codec), count(was, codec));
    }
    if is.proto.to_ascii_uppercase().contains("RTP/") {
        assert_eq!(is.ptime, change.ptime.or(was.ptime));
    }
    assert_eq!(is.maxptime, change.maxptime.or(was.maxptime));
    match &change.mid {
        MidEdit::Keep => assert_eq!(is.mid, was.mid),
        MidEdit::Remove => assert_eq!(is.mid, None),
        MidEdit::Set(tag) => assert_eq!(is.mid.as_ref(), Some(tag)),
    }
    let kept = was.extmaps.iter().filter(|extmap| match &change.extmap {
        ExtmapEdit::Keep => true,
        ExtmapEdit::Strip => false,
        ExtmapEdit::StripNamed(names) => !names.contains(&extmap.uri),
    });
    assert!(is.extmaps.iter().eq(kept));
    assert_eq!(is.bundle_only, was.bundle_only && !change.bundle_only);
    assert_eq!((&is.ssrcs, &is.label), (&was.ssrcs, &was.label));
    assert_eq!(is.keys, was.keys);
}

/// Lines that no edit here speaks of, in their order.
fn untouched(body: &[u8]) -> Vec<&[u8]> {
    const EDITED: [&[u8]; 26] = [
        b"group",
        b"mid",
        b"rtpmap",
        b"fmtp",
        b"rtcp-fb",
        b"ptime",
        b"maxptime",
        b"sendrecv",
        b"sendonly",
        b"recvonly",
        b"inactive",
        b"rtcp",
        b"rtcp-mux",
        b"rtcp-mux-only",
        b"ice-lite",
        b"ice-ufrag",
        b"ice-pwd",
        b"ice-options",
        b"ice-pacing",
        b"ice-mismatch",
        b"candidate",
        b"remote-candidates",
        b"end-of-candidates",
        b"extmap",
        b"bundle-only",
        b"rtpengine",
    ];
    let is_edited = |line: &&[u8]| match line {
        [b'm' | b'c' | b'o' | b's', b'=', ..] => true,
        [b'a', b'=', rest @ ..] => {
            let name = rest.split(|&b| b == b':').next().unwrap_or_default();
            let name = name.trim_ascii().to_ascii_lowercase();
            EDITED.contains(&name.as_slice())
                || name.starts_with(b"x-")
                || name.starts_with(b"msid")
        }
        line => line.is_empty(),
    };
    let lines = body.split(|&b| matches!(b, b'\r' | b'\n'));
    lines.filter(|line| !is_edited(line)).collect()
}

/// The same of a body whose sections do not all stay.
fn untouched_of<'a>(sdp: &Sdp, body: &'a [u8], rewrite: &Rewrite) -> Vec<&'a [u8]> {
    let starts: Vec<usize> = (0..body.len())
        .filter(|&at| {
            let line_starts = at == 0 || matches!(body[at - 1], b'\r' | b'\n');
            line_starts && body[at..].starts_with(b"m=")
        })
        .chain([body.len()])
        .collect();
    assert_eq!(starts.len(), sdp.media().len() + 1);
    let mut lines = untouched(&body[..starts[0]]);
    for (place, change) in starts.windows(2).zip(&rewrite.media) {
        if !change.remove {
            lines.extend(untouched(&body[place[0]..place[1]]));
        }
    }
    lines
}

/// SplitMix64: a number for each question.
struct Dice(u64);

impl Dice {
    fn below(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % sides
    }

    fn some<T>(&mut self, value: T) -> Option<T> {
        (self.below(3) == 0).then_some(value)
    }

    fn pick<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize].clone()
    }
}

fn edits(sdp: &Sdp, dice: &mut Dice) -> Rewrite {
    let address = dice.pick(&["192.0.2.1", "2001:db8::1"]).parse().unwrap();
    let tags = vec!["kept-0".to_owned(), "kept-1".to_owned()];
    let media = sdp.media().iter().enumerate();
    Rewrite {
        origin: match dice.below(3) {
            0 => OriginEdit::default(),
            _ => OriginEdit {
                address: Some(address),
                username: dice.some("relay".to_owned()),
                session_id: dice.some("5".to_owned()),
                version: Some("77".to_owned()),
            },
        },
        session_name: dice.some("a call".to_owned()),
        group: dice.pick(&[
            GroupEdit::Keep,
            GroupEdit::Remove,
            GroupEdit::Bundle(tags),
            GroupEdit::Bundle(Vec::new()),
        ]),
        ice_lite: dice.below(2) == 0,
        remove_session_ice: dice.below(2) == 0,
        loop_mark: dice.some("0123abcd".to_owned()),
        attributes: attribute_edits(dice),
        media: media
            .map(|(idx, media)| media_edits(media, idx, address, dice))
            .collect(),
    }
}

fn media_edits(media: &Media, idx: usize, address: IpAddr, dice: &mut Dice) -> MediaRewrite {
    let port = 10_000 + 2 * idx as u16;
    let is_rtp = media.proto.to_ascii_uppercase().contains("RTP/");
    let own = IceLines {
        ufrag: "ufrag".to_owned(),
        pwd: "a password of ours".replace(' ', "-"),
        options: dice.some("trickle".to_owned()),
        candidates: (1..=dice.below(3) as u8)
            .map(|component| Candidate {
                foundation: "H1".to_owned(),
                component,
                priority: 2_130_706_431,
                address: (address, port).into(),
            })
            .collect(),
    };
    let uris = media
        .extmaps
        .iter()
        .take(1)
        .map(|extmap| extmap.uri.clone())
        .collect();
    let directions = [
        Direction::SendRecv,
        Direction::SendOnly,
        Direction::RecvOnly,
        Direction::Inactive,
    ];
    MediaRewrite {
        remove: dice.below(6) == 0,
        zero_address: dice.pick(&[ZeroAddress::Keep, ZeroAddress::Replace]),
        rtcp: dice.pick(&[
            RtcpLine::None,
            RtcpLine::Keep,
            RtcpLine::Port(port + 1),
            RtcpLine::Full(port + 1, address),
        ]),
        rtcp_mux: dice.pick(&[None, Some(true), Some(false)]),
        protocol: dice.some(Protocol::RtpSavpf).filter(|_| is_rtp),
        direction: dice
            .pick(&directions.map(Some))
            .filter(|_| dice.below(2) == 0),
        formats: formats(media, dice),
        ptime: dice.some(30),
        maxptime: dice.some(60),
        mid: dice.pick(&[
            MidEdit::Keep,
            MidEdit::Remove,
            MidEdit::Set(format!("kept-{idx}")),
        ]),
        ice: dice.pick(&[IceEdit::Keep, IceEdit::Remove, IceEdit::Own(own)]),
        extmap: dice.pick(&[
            ExtmapEdit::Keep,
            ExtmapEdit::Strip,
            ExtmapEdit::StripNamed(uris),
        ]),
        bundle_only: dice.below(2) == 0,
        in_order: dice.below(2) == 0,
        attributes: attribute_edits(dice),
        ..MediaRewrite::new(port, address)
    }
}

/// What a filter leaves, or the formats turned round and cut.
fn formats(media: &Media, dice: &mut Dice) -> Option<Vec<String>> {
    let named = media.codecs.first().map(|codec| codec.name.clone());
    let mut formats = media.formats.clone();
    match dice.below(4) {
        0 => CodecFilter {
            strip: named.into_iter().collect(),
            offer: dice.some("PCMA".to_owned()).into_iter().collect(),
            single: dice.below(2) == 0,
            ..CodecFilter::default()
        }
        .formats(media),
        1 => {
            formats.reverse();
            Some(formats)
        }
        2 => {
            formats.truncate(1 + dice.below(3) as usize);
            Some(formats)
        }
        _ => None,
    }
}

fn attribute_edits(dice: &mut Dice) -> AttributeEdits {
    let text = |text: &str| text.to_owned();
    AttributeEdits {
        add: dice
            .some(vec![text("x-added:1 2"), text("x-other")])
            .unwrap_or_default(),
        remove: dice.some(vec![text("x-gone")]).unwrap_or_default(),
        substitute: dice
            .some(vec![(text("msid"), text("x-msid:3"))])
            .unwrap_or_default(),
    }
}
