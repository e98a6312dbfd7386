//! Codec lists against what rtpengine 10.5 answers to the same offer or answer.

use penstock_sdp::{Codec, CodecFilter, MediaRewrite, Rewrite, Sdp};

const MAPS: &[&str] = &[
    "0 PCMU/8000",
    "8 PCMA/8000",
    "9 G722/8000",
    "13 CN/8000",
    "18 G729/8000",
    "63 red/48000/2",
    "96 telephone-event/48000",
    "97 AMR-WB/16000",
    "98 telephone-event/16000",
    "101 telephone-event/8000",
    "105 CN/16000",
    "111 opus/48000/2",
    "121 foo/8000",
];

fn body(formats: &str) -> Sdp {
    let maps = formats.split(' ').filter_map(|number| {
        let map = MAPS
            .iter()
            .find(|map| map.split(' ').next() == Some(number))?;
        Some(format!("a=rtpmap:{map}\r\n"))
    });
    let maps: String = maps.collect();
    let text = format!("v=0\r\nc=IN IP4 10.0.0.1\r\nm=audio 4000 RTP/AVP {formats}\r\n{maps}");
    Sdp::parse(text.as_bytes()).unwrap()
}

fn list(words: &str) -> Vec<String> {
    words.split_whitespace().map(str::to_owned).collect()
}

/// The m= line's formats once `filter` has been at them.
fn left(formats: &str, filter: &CodecFilter) -> String {
    let sdp = body(formats);
    let left = filter.formats(&sdp.media()[0]);
    assert!(
        left.as_ref() != Some(&sdp.media()[0].formats),
        "no change is None"
    );
    left.map_or(formats.to_owned(), |left| left.join(" "))
}

/// `lists` such as `strip=PCMU,PCMA offer=opus`.
fn filter(lists: &str) -> CodecFilter {
    let mut filter = CodecFilter::default();
    for entry in lists.split(' ') {
        let (name, codecs) = entry.split_once('=').unwrap_or((entry, ""));
        let codecs = codecs.split(',').map(str::to_owned).collect();
        match name {
            "strip" => filter.strip = codecs,
            "except" => filter.except = codecs,
            "offer" => filter.offer = codecs,
            "mask" => filter.mask = codecs,
            "consume" => filter.consume = codecs,
            "reorder" => filter.reorder = codecs,
            "single" => filter.single = true,
            _ => panic!("{name}"),
        }
    }
    filter
}

const DESK: &str = "9 0 8 18 111 13 101 96";

#[test]
fn one_codec_is_taken_out_by_its_name_and_format() {
    for (lists, want) in [
        ("strip=PCMU", "9 8 18 111 13 101 96"),
        ("strip=pcmu/8000", "9 8 18 111 13 101 96"),
        ("strip=PCMU/8000/1", "9 8 18 111 13 101 96"),
        ("strip=opus", "9 0 8 18 13 101"),
        ("strip=opus/48000/2", "9 0 8 18 13 101"),
        ("strip=CN", "9 0 8 18 111 101 96"),
        ("mask=PCMU", "9 8 18 111 13 101 96"),
        ("mask=opus", "9 0 8 18 13 101"),
        ("consume=PCMU", "9 8 18 111 13 101 96"),
        ("strip=G722,PCMU,PCMA,G729", "111 96"),
    ] {
        assert_eq!(left(DESK, &filter(lists)), want, "{lists}");
    }
    for lists in [
        "strip=PCMU/16000",
        "strip=opus/48000",
        "strip=opus/48000/1",
        "strip=opus//2",
        "strip=opus/48000/",
        "strip=opus/48000/2/32000",
        "strip=0",
        "strip=*",
        "strip=",
        "except=PCMA",
        "offer=PCMA,G722",
        "offer=all",
    ] {
        assert_eq!(left(DESK, &filter(lists)), DESK, "{lists}");
    }
}

#[test]
fn all_but_some() {
    for (came, lists, want) in [
        (DESK, "strip=all except=PCMA", "8"),
        (DESK, "strip=full except=PCMA", "8"),
        (DESK, "mask=all except=PCMA", "8"),
        (DESK, "strip=all offer=PCMA,G722", "8 9"),
        (DESK, "mask=ALL offer=PCMA", "8"),
        (DESK, "strip=all,PCMA offer=PCMA", "8"),
        (
            "0 8 101 13",
            "strip=all except=PCMA,telephone-event",
            "8 101",
        ),
        (
            "0 8 101 13 96",
            "strip=all except=telephone-event,PCMA",
            "8 101",
        ),
        ("101 8 0", "strip=all except=telephone-event,PCMA", "101 8"),
        (
            "0 8 101 13 9",
            "strip=all offer=telephone-event,PCMA",
            "8 101",
        ),
        (
            "0 8 101 13 9",
            "strip=all offer=G722,PCMA except=PCMU",
            "0 9 8",
        ),
        ("0 8 63 111", "strip=all except=opus,red", "63 111"),
    ] {
        assert_eq!(left(came, &filter(lists)), want, "{came} {lists}");
    }
}

#[test]
fn with_nothing_left_all_stays() {
    for (came, lists) in [
        (DESK, "strip=all"),
        (DESK, "mask=full"),
        (DESK, "consume=all"),
        (DESK, "strip=G722,PCMU,PCMA,G729,opus,CN,telephone-event"),
        ("0 8 9 101", "strip=all offer=iLBC"),
        ("0 8 9 101", "strip=all,PCMU except=PCMU"),
        ("0 8 9 101", "strip=all mask=PCMA except=PCMA"),
        ("0 8 9", "strip=PCMU,PCMA,G722"),
        // rtpengine 10.5 leaves an m= line without a format here.
        ("0 8 9 101", "strip=PCMU,PCMA,G722"),
        ("0 8 101 13", "strip=all except=telephone-event"),
    ] {
        assert_eq!(left(came, &filter(lists)), came, "{lists}");
    }
}

#[test]
fn what_is_put_back_stands_before_events_and_noise() {
    for (came, lists, want) in [
        (DESK, "strip=PCMA offer=PCMA", "9 0 18 111 8 13 101 96"),
        (DESK, "strip=PCMA except=PCMA", "9 0 18 111 13 101 96"),
        ("0 8 9 101", "strip=PCMU,PCMA offer=PCMA,PCMU", "9 8 0 101"),
        ("0 8 9 101", "strip=PCMU offer=G722", "8 9 101"),
        ("0 101 8 9", "strip=PCMU offer=PCMU", "0 101 8 9"),
        (
            "0 101 8 9",
            "strip=telephone-event offer=telephone-event",
            "0 101 8 9",
        ),
    ] {
        assert_eq!(left(came, &filter(lists)), want, "{came} {lists}");
    }
}

#[test]
fn events_and_noise_go_with_the_last_codec_of_their_clock() {
    for (came, lists, want) in [
        ("0 101 8 13 111 96", "strip=PCMU", "101 8 13 111 96"),
        ("0 101 8 13 111 96", "strip=opus", "0 101 8 13"),
        ("0 101 8 13 97 98 105", "strip=AMR-WB", "0 101 8 13"),
        ("0 8 97 101 98", "strip=PCMA,PCMU", "97 98"),
        // What had no codec of its clock to begin with is none of the filter's business.
        ("0 8 101 13 105", "strip=PCMA", "0 101 13 105"),
        ("9 101 98 0", "strip=G722", "101 98 0"),
        ("0 8 111 63 96 101", "strip=opus", "0 8 63 96 101"),
        ("0 8 121 101", "strip=foo", "0 8 101"),
    ] {
        assert_eq!(left(came, &filter(lists)), want, "{came} {lists}");
    }
}

#[test]
fn one_codec_and_every_event_of_an_answer() {
    for (came, want) in [
        ("0 8 101 13", "0 101 13"),
        ("101 8 0 13", "101 8 13"),
        ("111 0 96 101", "111 96 101"),
        ("0 111 96 13", "0 96 13"),
        ("0 63 111", "0"),
        ("101", "101"),
    ] {
        assert_eq!(left(came, &filter("single")), want, "{came}");
    }
    assert_eq!(left("0 8 9 101", &filter("strip=PCMU single")), "8 101");
}

#[test]
fn the_order_of_an_offer() {
    let offer: Vec<String> = body("8 111 0 101").media()[0]
        .codecs
        .iter()
        .map(Codec::to_string)
        .collect();
    let filter = CodecFilter {
        reorder: offer,
        ..CodecFilter::default()
    };
    assert_eq!(left("101 0 9 111 8 120", &filter), "8 111 0 101 9 120");
}

#[test]
fn sections_without_codecs_are_left_alone() {
    let text = "v=0\nc=IN IP4 10.0.0.1\nm=audio 0 RTP/AVP 0 8\nm=image 9 udptl t38\nm=audio 9 RTP/AVP 120\n";
    let sdp = Sdp::parse(text.as_bytes()).unwrap();
    let filter = filter("strip=all except=PCMA single");
    for media in sdp.media() {
        assert_eq!(filter.formats(media), None, "{:?}", media.kind);
    }
}

#[test]
fn a_format_without_a_name_goes_with_all() {
    assert_eq!(left("8 0 120", &filter("strip=all except=PCMA")), "8");
    assert_eq!(left("8 0 120", &filter("strip=PCMA")), "0 120");
}

/// Filter and editor together, as they are used.
#[test]
fn a_desk_phones_offer_leaves_with_its_lines_in_order() {
    let text = "v=0\r\no=- 1 1 IN IP4 10.1.2.3\r\ns=x\r\nc=IN IP4 10.1.2.3\r\nt=0 0\r\n\
        m=audio 11780 RTP/AVP 9 0 8 18 101\r\na=rtpmap:9 G722/8000\r\na=rtpmap:0 PCMU/8000\r\n\
        a=rtpmap:8 PCMA/8000\r\na=rtpmap:18 G729/8000\r\na=fmtp:18 annexb=no\r\n\
        a=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\na=ptime:20\r\na=sendrecv\r\n";
    let sdp = Sdp::parse(text.as_bytes()).unwrap();
    let filter = CodecFilter {
        strip: list("all"),
        offer: list("G729 PCMA telephone-event"),
        ..CodecFilter::default()
    };
    let change = MediaRewrite {
        formats: filter.formats(&sdp.media()[0]),
        ..MediaRewrite::new(30_000, "192.0.2.1".parse().unwrap())
    };
    let out = sdp.rewrite(&Rewrite {
        media: vec![change],
        ..Rewrite::default()
    });
    let want = "v=0\r\no=- 1 1 IN IP4 10.1.2.3\r\ns=x\r\nt=0 0\r\n\
        m=audio 30000 RTP/AVP 18 8 101\r\nc=IN IP4 192.0.2.1\r\na=rtpmap:18 G729/8000\r\n\
        a=fmtp:18 annexb=no\r\na=rtpmap:8 PCMA/8000\r\n\
        a=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\na=ptime:20\r\na=sendrecv\r\n";
    assert_eq!(String::from_utf8(out.unwrap()).unwrap(), want);
}
