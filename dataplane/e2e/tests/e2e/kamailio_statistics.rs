//! What Kamailio's own module reads of a call's media: its variables hold what the phones' packets were like, by `query`
//! and by `delete`.

use penstock_e2e::{Lab, lab, phone_at, rtcp, rtp_packet, skip, wait_for};
use std::collections::HashMap;
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::time::{Duration, Instant};

const SOON: Duration = Duration::from_secs(60);

/// Name in the answer, and Kamailio's parameter.
const READ: [(&str, &str); 11] = [
    ("avg", "mos_average_pv"),
    ("min", "mos_min_pv"),
    ("max", "mos_max_pv"),
    ("loss", "mos_average_packetloss_pv"),
    ("jitter", "mos_average_jitter_pv"),
    ("trip", "mos_average_roundtrip_pv"),
    ("samples", "mos_average_samples_pv"),
    ("min_at", "mos_min_at_pv"),
    ("min_loss", "mos_min_packetloss_pv"),
    ("max_loss", "mos_max_packetloss_pv"),
    ("max_trip", "mos_max_roundtrip_pv"),
];

/// Asks rtpengine's client about the call of a request, ends it if that is a BYE, and answers with what was read.
fn script() -> String {
    let mut text = String::from(
        "#!KAMAILIO\nlisten=udp:127.0.0.1:5060\nchildren=1\nauto_aliases=no\ndns=no\nrev_dns=no\n\
         disable_tcp=yes\nlog_stderror=yes\ndebug=2\nloadmodule \"sl.so\"\nloadmodule \"pv.so\"\n\
         loadmodule \"textops.so\"\nloadmodule \"rtpengine.so\"\n\
         modparam(\"rtpengine\", \"rtpengine_sock\", \"udp:127.0.0.1:2223\")\n",
    );
    for (name, param) in READ {
        text += &format!("modparam(\"rtpengine\", \"{param}\", \"$avp({name})\")\n");
    }
    text += "request_route {\nif (method == \"BYE\") rtpengine_delete(); else rtpengine_query();\n";
    for (name, _) in READ {
        text += &format!("append_to_reply(\"X-{name}: $avp({name})\\r\\n\");\n");
    }
    text + "sl_send_reply(\"200\", \"OK\");\n}\n"
}

/// What Kamailio answers to a request of the call, by name.
fn asked(socket: &UdpSocket, method: &str) -> HashMap<String, String> {
    let at = socket.local_addr().expect("an address");
    let request = format!(
        "{method} sip:b@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP {at};branch=z9hG4bK{method}\r\n\
         From: <sip:a@example.net>;tag=a\r\nTo: <sip:b@example.net>;tag=b\r\nCall-ID: call\r\n\
         CSeq: 1 {method}\r\nMax-Forwards: 10\r\nContent-Length: 0\r\n\r\n"
    );
    let kamailio = SocketAddr::from(([127, 0, 0, 1], 5060));
    let mut answer = vec![0; 65_536];
    let answered = wait_for(SOON, || {
        socket.send_to(request.as_bytes(), kamailio).expect("SIP");
        let second = Some(Duration::from_secs(1));
        socket.set_read_timeout(second).expect("a timeout");
        socket
            .recv(&mut answer)
            .is_ok_and(|len| answer[..len].starts_with(b"SIP/2.0 200"))
    });
    assert!(answered, "Kamailio does not answer");
    let text = String::from_utf8_lossy(&answer).into_owned();
    let headers = text.lines().filter_map(|line| line.strip_prefix("X-"));
    let pairs = headers.filter_map(|line| line.split_once(": "));
    pairs
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .collect()
}

fn number(values: &HashMap<String, String>, name: &str) -> f64 {
    let value = values.get(name).and_then(|value| value.parse().ok());
    value.unwrap_or_else(|| panic!("{name} in {values:?}"))
}

/// Two phones that talk to the plane and report.
struct Talk<'a> {
    rtp: [&'a UdpSocket; 2],
    reports: [UdpSocket; 2],
    to: [SocketAddr; 2],
    seq: u16,
}

impl Talk<'_> {
    /// For a time, in real time. The caller loses each fifth packet.
    fn on(&mut self, time: Duration) {
        let end = Instant::now() + time;
        while Instant::now() < end {
            self.seq += 1;
            for (side, ssrc) in [(0, 0xa), (1, 0xb)] {
                if side == 1 || !self.seq.is_multiple_of(5) {
                    let packet = rtp_packet(ssrc, self.seq);
                    self.rtp[side].send_to(&packet, self.to[side]).expect("RTP");
                }
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Each phone reports what it sent, and answers the other's report after at least 20 ms.
    fn report(&self) {
        let words = |words: &[u32]| -> Vec<u8> {
            words.iter().flat_map(|word| word.to_be_bytes()).collect()
        };
        for (side, ssrc) in [(0, 0xa), (1, 0xb)] {
            let sent = words(&[0x80c8_0006, ssrc, 0x1234_5678, 0x9abc_def0, 8000, 50, 8000]);
            let to = rtcp(self.to[side]);
            self.reports[side].send_to(&sent, to).expect("RTCP");
        }
        std::thread::sleep(Duration::from_millis(20));
        for (side, [ssrc, other]) in [(0, [0xa, 0xb]), (1, [0xb, 0xa])] {
            let heard = words(&[0x81c9_0007, ssrc, other, 0, 100, 80, 0x5678_9abc, 0]);
            let to = rtcp(self.to[side]);
            self.reports[side].send_to(&heard, to).expect("RTCP");
        }
    }
}

fn check(values: &HashMap<String, String>) {
    // Half of what is said loses a fifth of its packets.
    assert!(number(values, "avg") > 2.0, "{values:?}");
    assert!(number(values, "max") > 4.2, "{values:?}");
    assert!(number(values, "min") < 3.5, "{values:?}");
    assert!(
        (15.0..30.0).contains(&number(values, "min_loss")),
        "{values:?}"
    );
    assert!(number(values, "max_loss") < 5.0, "{values:?}");
    assert!((5.0..18.0).contains(&number(values, "loss")), "{values:?}");
    // Microseconds, of both legs together: 40 ms, less what a report waited for the worker to look.
    assert!(number(values, "trip") >= 30_000.0, "{values:?}");
    assert!(number(values, "samples") >= 2.0, "{values:?}");
    assert!(number(values, "jitter") < 20.0, "{values:?}");
    assert!(values["min_at"].contains(':'), "{values:?}");
}

#[test]
fn kamailios_variables_hold_what_the_phones_heard() {
    if !Path::new("/usr/sbin/kamailio").exists() {
        return skip("kamailio_statistics", "no Kamailio");
    }
    let lab: Lab = lab!("kamailio_statistics");
    lab.edit("[control]\n", "[quality]\ninterval_s = 1\n[control]\n");
    let _plane = lab.plane();
    let control = lab.control();
    let file = lab.dir().join("kamailio.cfg");
    std::fs::write(&file, script()).expect("the script");
    let dir = lab.dir().to_string_lossy().into_owned();
    // Its children would outlive it: as a namespace's first process it takes them with it.
    let words = "unshare --pid --fork --kill-child /usr/sbin/kamailio -DD -E -m 16 -M 8";
    let mut words: Vec<&str> = words.split(' ').collect();
    let script = file.to_string_lossy();
    words.extend(["-Y", &dir, "-f", &script]);
    let kamailio = lab.process(&words);

    let sides = lab.ng().call("call", phone_at(4000), phone_at(5000));
    let phones = [4000, 5000].map(|port| lab.socket(phone_at(port)));
    let mut talk = Talk {
        rtp: [&phones[0], &phones[1]],
        reports: [4001, 5001].map(|port| lab.socket(phone_at(port))),
        to: [sides.caller, sides.callee],
        seq: 0,
    };
    talk.on(Duration::from_millis(300));
    talk.report();
    talk.on(Duration::from_secs(4));
    let sip = lab.socket(SocketAddr::from(([127, 0, 0, 1], 0)));
    let queried = asked(&sip, "OPTIONS");
    check(&queried);
    talk.on(Duration::from_secs(1));
    let deleted = asked(&sip, "BYE");
    check(&deleted);
    assert!(
        number(&deleted, "samples") > number(&queried, "samples"),
        "{queried:?} {deleted:?}"
    );
    let calls = lab.penstock_json("calls");
    assert_eq!(calls, serde_json::json!([]), "{}", kamailio.log());
    drop(control);
}
