//! Payload types that were not announced: counted, or dropped where the call asks for it. DTMF events are told apart.

use penstock_e2e::{Lab, lab, offer_request, phone_at, wait_for};
use penstock_shm::counters::Drop;
use serde_json::{Value, json};
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

const PCMU: u8 = 0;
const EVENT: u8 = 101;
/// Nobody announces it.
const PCMA: u8 = 8;
const SOON: Duration = Duration::from_secs(10);

fn sdp(at: SocketAddr) -> String {
    format!(
        "v=0\r\no=- 1 1 IN IP4 {ip}\r\ns=-\r\nc=IN IP4 {ip}\r\nt=0 0\r\nm=audio {port} RTP/AVP 0 101\r\n\
         a=rtpmap:0 PCMU/8000\r\na=rtpmap:101 telephone-event/8000\r\n",
        ip = at.ip(),
        port = at.port()
    )
}

/// Payload types and timestamps of what the caller sends, in order; a telephone event also has its code.
fn script() -> Vec<(u8, u32, Option<u8>)> {
    let mut script: Vec<_> = (0..10).map(|n| (PCMU, n * 160, None)).collect();
    // Packets of one event share its timestamp (RFC 4733, 2.3): the digits 5 and #.
    script.extend([(EVENT, 1600, Some(5)); 4]);
    script.extend([(PCMU, 2400, None), (PCMA, 2560, None), (PCMA, 2720, None)]);
    script.extend([(EVENT, 2880, Some(11)); 3]);
    script.extend([(PCMA, 3360, None), (PCMU, 3520, None), (PCMU, 3680, None)]);
    script
}

fn packets() -> Vec<Vec<u8>> {
    let packet = |(seq, (kind, time, event)): (u16, (u8, u32, Option<u8>))| {
        let mut packet = vec![0x80, kind];
        packet.extend(seq.to_be_bytes());
        packet.extend(time.to_be_bytes());
        packet.extend(0xa_u32.to_be_bytes());
        match event {
            Some(code) => packet.extend([code, 10, 1, 144]),
            None => packet.extend([seq as u8; 160]),
        }
        packet
    };
    (1..).zip(script()).map(packet).collect()
}

/// Has the caller of a new call say it all; what the callee heard, and the caller's stream as the CLI shows it.
fn call(lab: &Lab, id: &str, port: u16, flags: Value) -> (Vec<Vec<u8>>, Value) {
    let ng = lab.ng();
    let [caller, callee] = [port, port + 2].map(|port| lab.socket(phone_at(port)));
    let at = |socket: &UdpSocket| socket.local_addr().expect("an address");
    let mut offer = offer_request(id, &sdp(at(&caller)));
    offer["flags"] = flags;
    ng.signal(&offer, SOON).expect("an offer");
    let to = ng.answer_sdp(id, &sdp(at(&callee))).expect("an answer");
    let sent = packets();
    callee.set_read_timeout(Some(SOON)).expect("a timeout");
    let mut buf = [0; 2048];
    let mut heard = Vec::new();
    for (n, packet) in sent.iter().enumerate() {
        caller.send_to(packet, to).expect("a packet");
        if n == 0 {
            // It may wait for its next hop, and be overtaken.
            let length = callee.recv(&mut buf).expect("a packet");
            heard.push(buf[..length].to_vec());
        }
    }
    let mut row = Value::Null;
    let judged = wait_for(SOON, || {
        let rows = lab.penstock_json("streams");
        let rows = rows.as_array().expect("a list");
        let own = |row: &&Value| row["local"] == to.to_string();
        row = rows.iter().find(own).expect("the stream").clone();
        row["packets"]
            .as_u64()
            .zip(row["dropped"].as_u64())
            .is_some_and(|(passed, dropped)| passed + dropped == sent.len() as u64)
    });
    assert!(judged, "{row:#}");
    let quiet = Duration::from_millis(300);
    callee.set_read_timeout(Some(quiet)).expect("a timeout");
    while let Ok(length) = callee.recv(&mut buf) {
        heard.push(buf[..length].to_vec());
    }
    (heard, row)
}

#[test]
fn what_was_not_announced_is_counted_or_dropped() {
    let lab = lab!("payload_types");
    let _plane = lab.plane();
    let _control = lab.control();

    let (heard, row) = call(&lab, "lenient", 4000, json!([]));
    assert_eq!(heard, packets());
    let detail = &row["detail"];
    assert_eq!(
        (&detail["foreign"], &detail["dtmf"], &detail["dtmf_last"]),
        (&json!(3), &json!(2), &json!("#")),
        "{row:#}"
    );
    assert_eq!(detail["drops"], json!({}));
    assert_eq!((&row["lost"], &row["dropped"]), (&json!(0), &json!(0)));
    let before = lab.balanced();
    assert_eq!(before.dropped(Drop::PayloadType), 0, "{before:?}");
    let (_, shown, _) = lab.penstock(&["calls", "lenient"]);
    assert!(
        shown.contains("3 of other payload types") && shown.contains("DTMF: 2 events, last #"),
        "{shown}"
    );

    let (heard, row) = call(&lab, "strict", 5000, json!(["strict-payload"]));
    let mut expected = packets();
    expected.retain(|packet| packet[1] != PCMA);
    assert_eq!(heard, expected);
    let detail = &row["detail"];
    assert_eq!(detail["drops"], json!({ "payload-type": 3 }), "{row:#}");
    assert_eq!(
        (&detail["foreign"], &detail["dtmf"], &detail["dtmf_last"]),
        (&json!(0), &json!(2), &json!("#")),
        "{row:#}"
    );
    let after = lab.balanced();
    assert_eq!(after.dropped(Drop::PayloadType), 3, "{after:?}");
    let (_, shown, _) = lab.penstock(&["calls", "strict"]);
    assert!(shown.contains("dropped: 3 payload-type"), "{shown}");
}
