//! What the tests of the media core share.
#![allow(dead_code, unreachable_pub)]

pub mod two;

use penstock_media::*;
use std::time::Duration;

/// Credentials for the leg that offers and for the other.
pub const KEYS: [Ice; 2] = [
    Ice {
        ufrag: *b"aaaaaaaa",
        pwd: *b"aaaaaaaaaaaaaaaaaaaaaaaa",
    },
    Ice {
        ufrag: *b"bbbbbbbb",
        pwd: *b"bbbbbbbbbbbbbbbbbbbbbbbb",
    },
];

pub const REST: Duration = Duration::from_secs(2);

pub fn now(s: f64) -> Now {
    Now {
        mono: Duration::from_secs_f64(s),
        unix_us: 1_700_000_000_000_000 + (s * 1e6) as u64,
    }
}

/// One interface with that many pairs, a second one, and one for IPv6.
pub fn calls(pairs: u16) -> Calls {
    Calls::new(settings(pairs), now(0.0))
}

/// What [`calls`] begins with.
pub fn settings(pairs: u16) -> Settings {
    let interface = |name: &str, last: u8| Interface {
        name: name.into(),
        ip: [198, 18, 0, last].into(),
        vlan: 0,
        advertise: [203, 0, 113, last].into(),
        ports: (10_000, 10_000 + pairs * 2 - 1),
    };
    let six = Interface {
        ip: "2001:db8::1".parse().unwrap(),
        advertise: "2001:db8::1".parse().unwrap(),
        ..interface("six", 0)
    };
    Settings {
        interfaces: vec![interface("internal", 1), interface("external", 2), six],
        rest: REST,
        max_calls: 20,
        seed: 0,
    }
}

/// The same, and three addresses more that are called as the first interface: IPv4, IPv6, IPv4 in a VLAN.
pub fn many_addresses(pairs: u16) -> Settings {
    let mut settings = settings(pairs);
    for (ip, vlan) in [("198.18.0.3", 0), ("2001:db8::3", 0), ("198.18.0.1", 9)] {
        let ip = ip.parse().unwrap();
        settings.interfaces.push(Interface {
            ip,
            vlan,
            advertise: ip,
            ..settings.interfaces[0].clone()
        });
    }
    settings
}

/// One audio section; `extra` are lines of it.
pub fn sdp(ip: &str, port: u16, extra: &str) -> String {
    format!(
        "v=0\r\no=- 1 1 IN IP4 {ip}\r\ns=-\r\nc=IN IP4 {ip}\r\nt=0 0\r\nm=audio {port} RTP/AVP 8 101\r\na=rtpmap:8 PCMA/8000\r\n{extra}"
    )
}

pub fn parties<'a>(call_id: &'a str, from_tag: &'a str, to_tag: Option<&'a str>) -> Parties<'a> {
    Parties {
        call_id,
        from_tag,
        to_tag,
        branch: None,
    }
}

/// Ends a prepared change well; returns the SDP.
pub fn commit(calls: &mut Calls, pending: Pending, s: f64) -> String {
    let sdp = String::from_utf8(pending.sdp.clone()).unwrap();
    calls.commit(pending, now(s));
    sdp
}

pub fn port_of(sdp: &str) -> u16 {
    penstock_sdp::Sdp::parse(sdp.as_bytes()).unwrap().media()[0].port
}

pub fn offer(
    calls: &mut Calls,
    p: Parties<'_>,
    sdp: &str,
    options: &Options,
    s: f64,
) -> Result<String, MediaError> {
    let pending = calls.offer(&p, sdp.as_bytes(), options, now(s))?;
    Ok(commit(calls, pending, s))
}

pub fn answer(
    calls: &mut Calls,
    p: Parties<'_>,
    sdp: &str,
    options: &Options,
    s: f64,
) -> Result<String, MediaError> {
    let pending = calls.answer(&p, sdp.as_bytes(), options, now(s))?;
    Ok(commit(calls, pending, s))
}

pub fn delete(calls: &mut Calls, id: &str, from: Option<&str>, to: Option<&str>, s: f64) -> bool {
    match calls.delete(id, (from, to), None, Duration::ZERO, now(s)) {
        Ok(pending) => {
            commit(calls, pending, s);
            true
        }
        Err(error) => {
            assert_eq!(error, MediaError::NoMatch);
            false
        }
    }
}

/// A call that stands: offer by `a` from 10.0.0.1:4000, answer by `b` from 10.0.0.2:5000.
pub fn established(calls: &mut Calls) -> (String, String) {
    let none = Options::default();
    let out = offer(
        calls,
        parties("c", "a", None),
        &sdp("10.0.0.1", 4000, ""),
        &none,
        0.0,
    );
    let back = answer(
        calls,
        parties("c", "a", Some("b")),
        &sdp("10.0.0.2", 5000, ""),
        &none,
        1.0,
    );
    (out.unwrap(), back.unwrap())
}

/// The RTP streams facing leg 0 and leg 1.
pub fn rtp(calls: &Calls) -> [Stream; 2] {
    let desired = calls.get("c").unwrap().desired();
    let mut streams: Vec<_> = desired
        .into_values()
        .filter(|s| s.kind == Kind::Rtp)
        .collect();
    streams.sort_by_key(|s| s.leg);
    streams.try_into().unwrap()
}

pub fn gates(calls: &Calls) -> [bool; 2] {
    rtp(calls).map(|s| s.gate_open)
}
