//! Properties: nothing panics, nothing but the named parts changes, what leaves can be read.

mod bodies;

use bodies::oracle::check;
use bodies::{BODIES, crlf};
use penstock_sdp::{MediaRewrite, Rewrite, RtcpLine, Sdp};
use proptest::collection::vec;
use proptest::prelude::*;
use std::net::IpAddr;

/// Replaces everything by what is there already.
fn identity(sdp: &Sdp) -> Rewrite {
    let media = sdp.media().iter().map(|media| MediaRewrite {
        rtcp: media
            .rtcp
            .map_or(RtcpLine::None, |rtcp| RtcpLine::Port(rtcp.port)),
        protocol: media.protocol().filter(|p| p.as_str() == media.proto),
        ..MediaRewrite::new(
            media.port,
            media.address.unwrap_or(IpAddr::from([0, 0, 0, 0])),
        )
    });
    Rewrite {
        media: media.collect(),
        ..Rewrite::default()
    }
}

/// The lines a rewrite never touches, with their terminators.
fn untouched(body: &[u8]) -> Vec<u8> {
    let named = |line: &[u8]| {
        let name = line.to_ascii_lowercase();
        line.starts_with(b"c=") || line.starts_with(b"m=") || name.starts_with(b"a=rtcp:")
    };
    let kept = body
        .split_inclusive(|&b| b == b'\n')
        .filter(|line| !named(line));
    kept.flatten().copied().collect()
}

/// A body of the corpus with lines swapped, bytes changed, pieces cut and poison added.
fn mutated() -> impl Strategy<Value = Vec<u8>> {
    const POISON: [&[u8]; 14] = [
        b"z=0 99999999999999999\r\n",
        b"r=99999999999999999 9 9\r\n",
        b"a=rtpmap:0 x/99999999999999999999/999\r\n",
        b"a=ptime:1e400\r\n",
        b"\r\r\n",
        b"c=IN IP6 ::1\n",
        b"a=rtcp:1",
        b"m=audio 1 RTP/AVP 0\n",
        b"a=group:BUNDLE 0\r\n",
        b"a=mid:0\n",
        b"a=ice-lite\r",
        b"a=rtcp-mux\r\n",
        b"a=sendonly\n",
        b"o=x 1 1 IN IP4 1\r\n",
    ];
    let edit = (0usize..4096, any::<u8>(), 0u8..4);
    (0..BODIES.len(), vec(edit, 0..6)).prop_map(|(idx, edits)| {
        let mut body = crlf(BODIES[idx].1);
        for (at, byte, how) in edits {
            let at = at % (body.len() + 1);
            let poison = POISON[usize::from(byte) % POISON.len()];
            match how {
                0 => body.insert(at, byte),
                1 => body.truncate(at.max(60)),
                2 => drop(body.splice(at..at, poison.iter().copied())),
                _ => {
                    let line_start = body[..at]
                        .iter()
                        .rposition(|&b| b == b'\n')
                        .map_or(0, |p| p + 1);
                    drop(body.splice(line_start..line_start, poison.iter().copied()));
                }
            }
        }
        body
    })
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 2000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn arbitrary_bytes_never_panic(body in vec(any::<u8>(), 0..400), seed in any::<u64>()) {
        check(&body, seed);
    }

    #[test]
    fn sdp_like_lines_never_panic(body in "(v=0\r\n)?([vosctrzmabk]=[ -~]{0,30}\r?\n?){0,12}", seed in any::<u64>()) {
        check(body.as_bytes(), seed);
    }

    #[test]
    fn mutated_bodies_never_panic_and_read_back(body in mutated(), seed in any::<u64>()) {
        check(&body, seed);
    }

    #[test]
    fn a_sound_body_reads_as_asked(idx in 0..BODIES.len(), lf in any::<bool>(), seed in any::<u64>()) {
        match lf {
            true => check(BODIES[idx].1.trim_start().as_bytes(), seed),
            false => check(&crlf(BODIES[idx].1), seed),
        }
    }

    #[test]
    fn the_identity_leaves_every_other_byte(idx in 0..BODIES.len(), lf in any::<bool>(), open in any::<bool>()) {
        let mut body = if lf { BODIES[idx].1.trim_start().as_bytes().to_vec() } else { crlf(BODIES[idx].1) };
        if open {
            body.truncate(body.trim_ascii_end().len());
        }
        let sdp = Sdp::parse(&body).unwrap();
        let out = sdp.rewrite(&identity(&sdp)).unwrap();
        let again = Sdp::parse(&out).unwrap();
        for (is, was) in again.media().iter().zip(sdp.media()) {
            prop_assert_eq!((is.port, &is.codecs), (was.port, &was.codecs));
            prop_assert!(is.address == was.address || was.address.is_none());
        }
        // A line added last takes over the missing terminator; the lines themselves are the same.
        let (is, was) = (untouched(&out), untouched(&body));
        prop_assert_eq!(is.trim_ascii_end(), was.trim_ascii_end());
        prop_assert_eq!(out.ends_with(b"\n"), !open);
    }

    #[test]
    fn the_identity_of_its_own_output_is_the_output(idx in 0..BODIES.len()) {
        let sdp = Sdp::parse(&crlf(BODIES[idx].1)).unwrap();
        let once = sdp.rewrite(&identity(&sdp)).unwrap();
        let sdp = Sdp::parse(&once).unwrap();
        prop_assert_eq!(sdp.rewrite(&identity(&sdp)).unwrap(), once);
    }
}
