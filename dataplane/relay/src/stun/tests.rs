//! RFC 5769's vectors, and what a stranger may send.

use super::*;

const PWD: &[u8] = b"VOkJxbRl1RmTxUk/WvJxBt";
const ICE: Ice = Ice {
    ufrag: *b"ab+/0123",
    pwd: *b"abcdefghijklmnopqrstuvwx",
};

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let octet = |pair: &[u8]| {
        let pair = std::str::from_utf8(pair).unwrap();
        u8::from_str_radix(pair, 16).unwrap()
    };
    digits.chunks(2).map(octet).collect()
}

/// RFC 5769, 2.1.
fn sample_request() -> Vec<u8> {
    hex("00 01 00 58 21 12 a4 42 b7 e7 a7 01 bc 34 d6 86 fa 87 df ae
         80 22 00 10 53 54 55 4e 20 74 65 73 74 20 63 6c 69 65 6e 74
         00 24 00 04 6e 00 01 ff 80 29 00 08 93 2f f9 b1 51 26 3b 36
         00 06 00 09 65 76 74 6a 3a 68 36 76 59 20 20 20
         00 08 00 14 9a ea a7 0c bf d8 cb 56 78 1e f2 b5 b2 d3 f2 49 c1 b5 71 a2
         80 28 00 04 e5 7a 3b cf")
}

/// RFC 5769, 2.2 and 2.3, with where they go.
fn sample_responses() -> [(Vec<u8>, &'static str); 2] {
    [
        (
            hex("01 01 00 3c 21 12 a4 42 b7 e7 a7 01 bc 34 d6 86 fa 87 df ae
                 80 22 00 0b 74 65 73 74 20 76 65 63 74 6f 72 20
                 00 20 00 08 00 01 a1 47 e1 12 a6 43
                 00 08 00 14 2b 91 f5 99 fd 9e 90 c3 8c 74 89 f9 2a f9 ba 53 f0 6b e7 d7
                 80 28 00 04 c0 7d 4c 96"),
            "192.0.2.1:32853",
        ),
        (
            hex("01 01 00 48 21 12 a4 42 b7 e7 a7 01 bc 34 d6 86 fa 87 df ae
                 80 22 00 0b 74 65 73 74 20 76 65 63 74 6f 72 20
                 00 20 00 14 00 02 a1 47 01 13 a9 fa a5 d3 f1 79 bc 25 f4 b5 be d2 b9 d9
                 00 08 00 14 a3 82 95 4e 4b e6 7b f1 17 84 c9 7c 82 92 c2 75 bf e3 ed 41
                 80 28 00 04 c8 fb 0b 4c"),
            "[2001:db8:1234:5678:11:2233:4455:6677]:32853",
        ),
    ]
}

/// Whether a request is whole, with a right fingerprint.
fn is_sound(message: &[u8]) -> bool {
    matches!(parse(message), Ok(Message::Request(request)) if request.is_sound())
}

fn request(message: &[u8]) -> Request<'_> {
    match parse(message) {
        Ok(Message::Request(request)) => request,
        other => panic!("{other:?}"),
    }
}

/// A message of this type; with MESSAGE-INTEGRITY by `pwd` and a fingerprint.
fn message(kind: u16, attributes: &[(u16, &[u8])], pwd: Option<&[u8; 24]>) -> Vec<u8> {
    let mut built = Answer::new(kind, b"transaction!");
    for (kind, value) in attributes {
        built.push(*kind, value);
    }
    if let Some(pwd) = pwd {
        built.integrity(&Ice { pwd: *pwd, ..ICE });
    }
    built.fingerprint();
    built.octets().to_vec()
}

const USERNAME: (u16, &[u8]) = (attribute::USERNAME, b"ab+/0123:them");

/// What [`Request::name`] and [`Request::verify`] say.
fn judged(message: &[u8]) -> Result<Check, Refusal> {
    let request = request(message);
    request.name(&ICE)?;
    request.verify(&ICE)
}

#[test]
fn the_sample_request_verifies() {
    let octets = sample_request();
    assert!(is_stun(&octets));
    let sample = request(&octets);
    assert_eq!(sample.username, Some(&b"evtj:h6vY"[..]));
    assert!(sample.controlled && !sample.nominates);
    assert_eq!(sample.priority, Some(0x6e00_01ff));
    assert_eq!(sample.unknown.count, 0);
    let (at, claimed) = sample.integrity.unwrap();
    assert!(integrity(&octets[..at], PWD).verify_slice(claimed).is_ok());
    assert!(
        integrity(&octets[..at], &PWD[1..])
            .verify_slice(claimed)
            .is_err()
    );
}

#[test]
fn no_octet_of_it_can_change() {
    let good = sample_request();
    // But that a fingerprint is one: it may be missing.
    let crc_kind = good.len() - 8..good.len() - 6;
    for at in (0..good.len()).filter(|at| !crc_kind.contains(at)) {
        let mut bad = good.clone();
        bad[at] ^= 1;
        assert!(!is_sound(&bad), "{at}");
    }
    assert!(is_sound(&good));
    for len in 0..good.len() {
        assert_eq!(parse(&good[..len]), Err(Drop::Stun), "{len}");
    }
}

#[test]
fn the_sample_responses_are_what_is_sent() {
    for (octets, to) in sample_responses() {
        let to: SocketAddr = to.parse().unwrap();
        let (hmac_at, crc_at) = (octets.len() - 32, octets.len() - 8);
        let claimed = &octets[hmac_at + 4..crc_at];
        assert!(
            integrity(&octets[..hmac_at], PWD)
                .verify_slice(claimed)
                .is_ok()
        );
        assert_eq!(
            fingerprint(&octets[..crc_at]).to_be_bytes(),
            octets[crc_at + 4..]
        );
        let mut answer = Answer::new(kind::SUCCESS, octets[8..20].first_chunk().unwrap());
        answer.push(attribute::SOFTWARE, b"test vector");
        answer.xor_mapped_address(to, octets[8..20].first_chunk().unwrap());
        // The vectors pad with spaces.
        assert_eq!(answer.octets()[20..35], octets[20..35]);
        assert_eq!(answer.octets()[36..], octets[36..hmac_at]);
        // A response is nobody's here.
        assert_eq!(parse(&octets), Err(Drop::Stun));
    }
}

#[test]
fn a_check_is_told_from_what_is_none() {
    let nominating = [
        USERNAME,
        (attribute::PRIORITY, &[1; 4]),
        (attribute::USE_CANDIDATE, &[]),
    ];
    let check = |attributes: &[_], pwd| judged(&message(kind::REQUEST, attributes, pwd));
    let ours = Some(&ICE.pwd);
    let said = |nominates, priority| {
        Ok(Check {
            nominates,
            priority,
        })
    };
    assert_eq!(check(&nominating[..1], ours), said(false, 0));
    assert_eq!(check(&nominating[..2], ours), said(false, 0x0101_0101));
    assert_eq!(check(&nominating, ours), said(true, 0x0101_0101));
    // Of what comes twice, the first.
    let twice = [&nominating[..2], &[(attribute::PRIORITY, &[2; 4])]].concat();
    assert_eq!(check(&twice, ours), said(false, 0x0101_0101));
    let short = [USERNAME, (attribute::PRIORITY, &[1; 3])];
    assert_eq!(
        parse(&message(kind::REQUEST, &short, ours)),
        Err(Drop::Stun)
    );
    assert_eq!(check(&nominating[1..], ours), Err(Refusal::BadRequest));
    assert_eq!(check(&nominating, None), Err(Refusal::BadRequest));
    let other = Some(b"abcdefghijklmnopqrstuvwX");
    assert_eq!(check(&nominating, other), Err(Refusal::Unauthenticated));
    for name in [
        &b"ab+/0123"[..],
        b"ab+/0124:them",
        b"them:ab+/0123",
        b"ab+/01234:them",
        b"",
    ] {
        let refused = check(&[(attribute::USERNAME, name)], ours);
        assert_eq!(refused, Err(Refusal::Unauthenticated), "{name:?}");
    }
    let unknown = [USERNAME, (0x7001, &[]), (0x8001, &[])];
    assert_eq!(check(&unknown, ours), Err(Refusal::UnknownAttribute));
    let conflict = [USERNAME, (attribute::ICE_CONTROLLED, &[0; 8])];
    assert_eq!(check(&conflict, ours), Err(Refusal::RoleConflict));
    // Who is not known learns nothing of that.
    for attributes in [&unknown[..], &conflict] {
        assert_eq!(check(attributes, other), Err(Refusal::Unauthenticated));
    }
    assert_eq!(
        parse(&message(kind::INDICATION, &[], None)),
        Ok(Message::Indication)
    );
    for kind in [kind::SUCCESS, kind::ERROR, 0x0003, 0x0013] {
        assert_eq!(
            parse(&message(kind, &nominating, ours)),
            Err(Drop::Stun),
            "{kind:#x}"
        );
    }
}

/// A stranger's fingerprint is not looked at: what is not for these credentials is known before, whatever its length.
#[test]
fn a_stranger_costs_no_checksum() {
    let filler = [0; MOST_SOFTWARE];
    let padding = (attribute::SOFTWARE, &filler[..]);
    let theirs = (attribute::USERNAME, &b"other:them"[..]);
    for (attributes, pwd, refusal) in [
        (
            &[theirs, padding][..],
            Some(&ICE.pwd),
            Refusal::Unauthenticated,
        ),
        (&[padding], None, Refusal::BadRequest),
    ] {
        let mut octets = message(kind::REQUEST, attributes, pwd);
        *octets.last_mut().unwrap() ^= 1;
        let stranger = request(&octets);
        assert_eq!(stranger.name(&ICE), Err(refusal));
        assert!(!stranger.is_sound());
    }
    // An attribute of another length is none, nor one that is not the last.
    let mut built = Answer::new(kind::REQUEST, b"transaction!");
    built.push(attribute::FINGERPRINT, &[0; 8]);
    assert_eq!(parse(built.octets()), Err(Drop::Stun));
    let mut built = Answer::new(kind::REQUEST, b"transaction!");
    built.fingerprint();
    built.push(attribute::SOFTWARE, b"more");
    assert_eq!(parse(built.octets()), Err(Drop::Stun));
}

/// What stands behind MESSAGE-INTEGRITY is not the sender's to say.
#[test]
fn nothing_unprotected_counts() {
    let mut built = Answer::new(kind::REQUEST, b"transaction!");
    built.push(USERNAME.0, USERNAME.1);
    built.integrity(&ICE);
    for kind in [attribute::USE_CANDIDATE, 0x7001, attribute::ICE_CONTROLLED] {
        built.push(kind, &[]);
    }
    built.push(attribute::PRIORITY, &[9; 4]);
    let plain = Check {
        nominates: false,
        priority: 0,
    };
    assert_eq!(judged(built.octets()), Ok(plain));
    built.fingerprint();
    assert_eq!(judged(built.octets()), Ok(plain));
}

/// The attributes of a message with a right fingerprint, and whether `pwd` verifies it.
fn read_back(octets: &[u8]) -> (Vec<(u16, Vec<u8>)>, bool) {
    let (mut at, mut found, mut verified) = (HEADER, Vec::new(), false);
    while at < octets.len() {
        let kind = u16::from_be_bytes([octets[at], octets[at + 1]]);
        let len = usize::from(u16::from_be_bytes([octets[at + 2], octets[at + 3]]));
        let value = octets[at + 4..at + 4 + len].to_vec();
        if kind == attribute::MESSAGE_INTEGRITY {
            verified = integrity(&octets[..at], &ICE.pwd)
                .verify_slice(&value)
                .is_ok();
        }
        if kind == attribute::FINGERPRINT {
            assert_eq!(value, fingerprint(&octets[..at]).to_be_bytes());
        }
        found.push((kind, value));
        at += 4 + padded(len);
    }
    assert_eq!(at, octets.len());
    assert_eq!(
        usize::from(u16::from_be_bytes([octets[2], octets[3]])),
        at - HEADER
    );
    (found, verified)
}

#[test]
fn answers_carry_what_they_have_to() {
    let octets = message(
        kind::REQUEST,
        &[USERNAME, (0x7001, &[]), (0x0055, &[])],
        Some(&ICE.pwd),
    );
    let request = request(&octets);
    let kinds = |answer: &Answer| {
        let (found, verified) = read_back(answer.octets());
        (
            found.iter().map(|(kind, _)| *kind).collect::<Vec<_>>(),
            verified,
        )
    };
    let longest = "x".repeat(MOST_SOFTWARE + 1);
    for (text, to) in [
        ("", "192.0.2.1:9"),
        ("penstock", "[2001:db8::1]:9"),
        (&*longest, "[::]:0"),
    ] {
        let answer = request.answer(to.parse().unwrap(), &ICE, text);
        let (found, verified) = kinds(&answer);
        let mut expected = vec![attribute::XOR_MAPPED_ADDRESS, attribute::SOFTWARE];
        expected.truncate(1 + usize::from(!text.is_empty()));
        expected.extend([attribute::MESSAGE_INTEGRITY, attribute::FINGERPRINT]);
        assert!(verified);
        assert_eq!(found, expected, "{text}");
        assert_eq!(answer.octets()[..2], [1, 1]);
        assert_eq!(answer.octets()[8..20], *b"transaction!");
    }
    for (refusal, class, code, is_signed) in [
        (Refusal::BadRequest, 4, 0, false),
        (Refusal::Unauthenticated, 4, 1, false),
        (Refusal::UnknownAttribute, 4, 20, true),
        (Refusal::RoleConflict, 4, 87, true),
    ] {
        let answer = request.refuse(refusal, &ICE);
        let (found, verified) = read_back(answer.octets());
        assert_eq!(found[0], (attribute::ERROR_CODE, vec![0, 0, class, code]));
        assert_eq!(verified, is_signed, "{refusal:?}");
        assert_eq!(refusal.is_signed(), is_signed);
        assert_eq!(answer.octets()[..2], [1, 0x11]);
        if !is_signed {
            // To whoever was named as the source: no more than came.
            assert!(answer.octets().len() <= HEADER + 16);
        }
        if refusal == Refusal::UnknownAttribute {
            assert_eq!(
                found[1],
                (attribute::UNKNOWN_ATTRIBUTES, vec![0x70, 1, 0, 0x55])
            );
        }
    }
}

#[test]
fn media_is_no_stun() {
    for first in [4, 0x14, 0x80, 0xff] {
        let mut octets = sample_request();
        octets[0] = first;
        assert!(!is_stun(&octets), "{first}");
    }
    assert!(!is_stun(&[]) && !is_stun(&[0; 20]) && !is_stun(&COOKIE));
}

proptest::proptest! {
    #[test]
    fn whatever_comes_is_read_or_not(words in proptest::collection::vec(0u32.., 0..80), kinds in 0u8..8) {
        let mut data = [[0, 1], ((words.len() * 4) as u16).to_be_bytes()].concat();
        data.extend(COOKIE.iter().chain(b"transaction!"));
        for (n, word) in words.iter().enumerate() {
            // Now and then a likely attribute.
            let known = [attribute::USERNAME, attribute::MESSAGE_INTEGRITY, attribute::FINGERPRINT, 0x7001];
            let likely = u32::from(known[*word as usize % 4]) << 16 | word >> 27;
            let word = if n as u8 & kinds == 0 { likely } else { *word };
            data.extend(word.to_be_bytes());
        }
        if let Ok(Message::Request(request)) = parse(&data) {
            let _ = (request.name(&ICE), request.is_sound(), request.verify(&ICE));
        }
    }
}
