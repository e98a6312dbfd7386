//! Packets late, twice, with gaps, and with delays that vary: what is shown of them is what was sent.

use penstock_e2e::{Signal, lab, phone_at, wait_for};
use serde_json::{Value, json};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(10);

/// What the caller sends at once, in this order: sequence number, and time that its timestamp says, in ms. So each
/// packet's delay is shorter than that of the one before by as much as its time is later.
const SCRIPT: [(u16, u32); 23] = [
    (1, 0),
    (2, 0),
    (3, 0),
    (4, 0),
    (5, 0),
    (6, 0),
    (7, 0),
    (8, 0),
    // Each in the next class of variation, from 20 ms on.
    (9, 36),
    (10, 108),
    (11, 252),
    (12, 552),
    (13, 1152),
    (14, 2352),
    (15, 6352),
    (16, 6352),
    (17, 6352),
    // Twice.
    (17, 6352),
    (17, 6352),
    // Five are missing; two of them are late; three more are missing.
    (23, 6352),
    (20, 6352),
    (21, 6352),
    (27, 6352),
];

fn packet(ssrc: u32, seq: u16, at_ms: u32) -> Vec<u8> {
    let mut packet = vec![0x80, 0];
    packet.extend(seq.to_be_bytes());
    packet.extend((at_ms * 8).to_be_bytes());
    packet.extend(ssrc.to_be_bytes());
    packet.extend([seq as u8; 160]);
    packet
}

/// Interarrival jitter in ms (RFC 3550, A.8), for packets that arrive at once.
fn jitter_ms() -> f64 {
    let differences = SCRIPT.windows(2).map(|two| f64::from(two[1].1 - two[0].1));
    differences.fold(0.0, |jitter, difference| {
        jitter + (difference - jitter) / 16.0
    })
}

#[test]
fn the_meters_say_what_was_sent() {
    let lab = lab!("meters");
    let plane = lab.plane();
    let _control = lab.control();
    let [caller, callee] = [4000, 5000].map(|port| lab.socket(phone_at(port)));
    callee.set_read_timeout(Some(SOON)).expect("a timeout");
    let sides = lab.ng().call("metered", phone_at(4000), phone_at(5000));
    let mut buf = [0; 2048];
    let mut hears = |packet: &[u8]| {
        let n = callee.recv(&mut buf).expect("a packet within 10 s");
        assert_eq!(buf[..n], *packet);
    };
    let say = |packet: &[u8]| {
        caller.send_to(packet, sides.caller).expect("a packet");
    };
    // Another source's packet finds the way first.
    say(&packet(0x1, 1, 0));
    hears(&packet(0x1, 1, 0));
    // What comes while the plane stands still comes at one time.
    plane.signal(Signal::STOP);
    for (seq, at_ms) in SCRIPT {
        say(&packet(0xa, seq, at_ms));
    }
    plane.signal(Signal::CONT);
    for (seq, at_ms) in SCRIPT {
        hears(&packet(0xa, seq, at_ms));
    }

    let all = 1 + SCRIPT.len() as u64;
    let mut row = Value::Null;
    let counted = wait_for(SOON, || {
        let rows = lab.penstock_json("streams");
        let own = |row: &&Value| row["local"] == sides.caller.to_string();
        let found = rows.as_array().expect("a list").iter().find(own);
        row = found.expect("the stream").clone();
        row["packets"] == all
    });
    assert!(counted, "{row:#}");
    // Loss is what was to come less what came, those that came twice included (RFC 3550, A.3).
    assert_eq!(
        (&row["bytes"], &row["received"], &row["lost"]),
        (&json!(all * 172), &json!(23), &json!(27 - 23)),
        "{row:#}"
    );
    let jitter = row["jitter_ms"].as_f64().expect("a number");
    assert!((jitter - jitter_ms()).abs() < 1.0, "{row:#}");
    let detail = &row["detail"];
    for (key, value) in [
        ("ssrc", json!(0xa)),
        ("payload_type", json!(0)),
        ("foreign", json!(0)),
        ("other", json!(0)),
        ("late", json!(2)),
        ("duplicates", json!(2)),
        ("largest_gap", json!(5)),
        ("drops", json!({})),
        ("dtmf", json!(0)),
    ] {
        assert_eq!(detail[key], value, "{key}: {row:#}");
    }
    for from_ms in [20, 40, 80, 160, 320, 640, 1280] {
        assert_eq!(detail["variation"][from_ms.to_string()], 1, "{row:#}");
    }

    let (_, shown, _) = lab.penstock(&["calls", "metered"]);
    let line = |text: &str| format!("  rtp {}: {text}\n", sides.caller);
    for text in [
        "packets: 2 late, 2 twice, largest gap 5",
        "delay varied: 1 by 20 ms, 1 by 40 ms, 1 by 80 ms, 1 by 160 ms, 1 by 320 ms, 1 by 640 ms, 1 by 1280 ms",
    ] {
        assert!(shown.contains(&line(text)), "{shown}");
    }
    let other_way = format!("  rtp {}: ", sides.callee);
    assert!(!shown.contains(&other_way), "{shown}");
}
