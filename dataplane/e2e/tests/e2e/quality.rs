//! How media sounds: streams are rated by what is lost and by what legs report, and a poor one is reported when it turns
//! poor and when it is well again; what VoIP metrics say can be read.

use penstock_e2e::{lab, phone_at, rtcp, rtp_packet, wait_for};
use serde_json::Value;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(60);

/// An extended report of one block: 5 % lost, 10 % too late, 150 and 80 ms, R factor 72, MOS 3.7 and 3.6.
fn voip_metrics() -> Vec<u8> {
    let words = [
        0x80cf_000a,
        0xa,
        0x0700_0008,
        0xb,
        0x0d1a_0000,
        0,
        0x0096_0050,
        0,
        0x487f_2524,
        0,
        0,
    ];
    words
        .into_iter()
        .flat_map(|word: u32| word.to_be_bytes())
        .collect()
}

#[test]
fn a_stream_that_loses_packets_is_poor_until_it_no_longer_does() {
    let lab = lab!("quality");
    lab.edit(
        "[control]\n",
        "[quality]\ninterval_s = 1\nloss_percent = 10.0\n[control]\n",
    );
    let _plane = lab.plane();
    let control = lab.control();
    let ng = lab.ng();
    let sides = ng.call("call", phone_at(4000), phone_at(5000));
    let caller = lab.socket(phone_at(4000));
    let reports = lab.socket(rtcp(phone_at(4000)));
    let callee = lab.socket(phone_at(5000));
    let mut seq: u16 = 0;
    // The caller skips every `skip`-th packet, the callee none.
    let mut speak = |skip: u16| {
        seq += 1;
        if skip == 0 || !seq.is_multiple_of(skip) {
            let packet = rtp_packet(0xa, seq);
            caller.send_to(&packet, sides.caller).expect("a packet");
        }
        let packet = rtp_packet(0xb, seq);
        callee.send_to(&packet, sides.callee).expect("a packet");
        std::thread::sleep(Duration::from_millis(10));
    };
    let poor = || lab.penstock_json("calls")[0]["poor"].clone();
    let quality = |leg: u64| -> Value {
        let (_, call, _) = lab.penstock(&["calls", "call", "--json"]);
        let call: Value = serde_json::from_str(&call).expect("JSON");
        let all = call["quality"].as_array().expect("a list").clone();
        let mut all = all.into_iter();
        all.find(|rated| rated["leg"] == leg).unwrap_or_default()
    };
    let mos = |leg| quality(leg)["mos"].as_f64().unwrap_or(0.0);

    let is_rated = || {
        speak(0);
        mos(0) > 4.0 && mos(1) > 4.0
    };
    assert!(wait_for(SOON, is_rated), "{} {}", quality(0), quality(1));
    assert_eq!(poor(), false);
    let is_poor = || {
        speak(4);
        poor() == true
    };
    assert!(wait_for(SOON, is_poor), "{}", quality(0));
    let (lossy, whole) = (quality(0), quality(1));
    assert_eq!(
        (&lossy["poor"], &whole["poor"]),
        (&true.into(), &false.into())
    );
    assert!(lossy["loss_percent"].as_f64() > Some(10.0), "{lossy}");
    assert!(
        lossy["mos"].as_f64() < whole["mos"].as_f64(),
        "{lossy} {whole}"
    );
    let status = lab.penstock_json("status")["control"].clone();
    assert_eq!(status["poor"], 1, "{status}");

    let is_well = || {
        speak(0);
        poor() == false
    };
    assert!(wait_for(SOON, is_well), "{}", quality(0));
    assert!(quality(0)["mos_lowest"].as_f64() < quality(0)["mos"].as_f64());
    let log = control.log();
    for line in ["media is poor", "media is no longer poor"] {
        let lines = log.lines().filter(|l| l.contains(line)).count();
        assert_eq!(lines, 1, "{line}: {log}");
    }

    let metrics = voip_metrics();
    let told = || {
        reports
            .send_to(&metrics, rtcp(sides.caller))
            .expect("a packet");
        let streams = lab.penstock_json("streams");
        let mut voips = streams
            .as_array()
            .expect("a list")
            .iter()
            .map(|stream| stream["detail"]["rtcp"]["voip"].clone());
        voips.any(|voip| {
            voip["r_factor"] == 72
                && voip["mos_lq"] == 3.7
                && voip["mos_cq"] == 3.6
                && voip["round_trip_ms"] == 150
                && voip["end_system_ms"] == 80
        })
    };
    assert!(wait_for(SOON, told), "{}", lab.penstock_json("streams"));
}
