//! Garbage on the ng port: control answers the sane as before, and the call does not notice.

use penstock_e2e::{Phone, converse, lab, phone_at};
use serde_json::json;
use std::time::Duration;

/// A generator of bytes that are the same in each run.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }

    fn bytes(&mut self, most: u64) -> Vec<u8> {
        let len = self.next() % most + 1;
        (0..len).map(|_| self.next() as u8).collect()
    }
}

fn datagrams() -> Vec<Vec<u8>> {
    let mut noise = Noise(1);
    let valid = b"c1 d7:command5:offer7:call-id1:x8:from-tag1:a3:sdp3:v=0e".to_vec();
    let mut all: Vec<Vec<u8>> = (0..500).map(|_| noise.bytes(1400)).collect();
    all.extend((0..valid.len()).map(|len| valid[..len].to_vec()));
    for _ in 0..500 {
        let mut bent = valid.clone();
        let at = noise.next() as usize % bent.len();
        bent[at] = noise.next() as u8;
        all.push(bent);
    }
    // Bombs: depth, length, numbers without end, repeated keys.
    let with_cookie = |body: Vec<u8>| [b"b0mb ".to_vec(), body].concat();
    all.push(with_cookie(vec![b'l'; 60_000]));
    all.push(with_cookie(vec![b'd'; 60_000]));
    all.push(with_cookie(b"d1:a".repeat(15_000)));
    all.push(with_cookie(b"[".repeat(60_000)));
    all.push(with_cookie(b"{\"a\":".repeat(12_000)));
    all.push(with_cookie(b"d7:command99999999999999999999:x".to_vec()));
    all.push(with_cookie(b"d7:command4294967295:x".to_vec()));
    all.push(with_cookie(
        [b"d7:commandi".to_vec(), vec![b'9'; 50_000], b"ee".to_vec()].concat(),
    ));
    all.push(with_cookie(
        [b"d".to_vec(), b"1:a1:b".repeat(9_000), b"e".to_vec()].concat(),
    ));
    all.push(with_cookie(b"d7:command-4:pinge".to_vec()));
    all.push(Vec::new());
    all.push(vec![b' '; 65_000]);
    all.push(vec![0; 65_507]);
    all
}

fn bad_requests() -> Vec<serde_json::Value> {
    let request = |command: &str, sdp: &str| json!({"command": command, "call-id": "bad", "from-tag": "a", "to-tag": "b", "sdp": sdp});
    let head = "v=0\r\no=- 1 1 IN IP4 198.18.255.1\r\ns=-\r\nc=IN IP4 198.18.255.1\r\nt=0 0\r\n";
    vec![
        json!({}),
        json!({"command": "dance"}),
        json!({"command": ["offer"]}),
        json!({"command": "offer"}),
        json!({"command": "offer", "call-id": "bad"}),
        json!({"command": "query", "call-id": "unknown"}),
        request("answer", head),
        request("offer", ""),
        request("offer", head),
        request(
            "offer",
            &format!("{head}{}", "m=audio 4000 RTP/AVP 0\r\n".repeat(100)),
        ),
        request(
            "offer",
            "v=0\r\no=- 1 1 IN IP4 a.example\r\ns=-\r\nc=IN IP4 a.example\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n",
        ),
        request("offer", &format!("{head}m=audio 99999 RTP/AVP 0\r\n")),
    ]
}

#[test]
fn control_stays_up_and_the_call_unharmed() {
    let lab = lab!("ng_hostile");
    let _plane = lab.plane();
    let mut control = lab.control();
    let (ng, attacker) = (lab.ng(), lab.ng());
    let mut caller = Phone::new(&lab, phone_at(4000), 0xa);
    let mut callee = Phone::new(&lab, phone_at(5000), 0xb);
    let sides = ng.call("good", caller.at(), callee.at());
    converse(&mut caller, sides.caller, &mut callee, sides.callee, 20);

    for (n, datagram) in datagrams().iter().enumerate() {
        attacker.send(datagram);
        if n % 50 == 0 {
            assert_eq!(ng.ask(&json!({"command": "ping"}))["result"], "pong");
        }
    }
    for request in bad_requests() {
        let reply = ng.ask(&request);
        assert_eq!(reply["result"], "error", "{request}\n{reply}");
        assert!(
            reply["error-reason"]
                .as_str()
                .is_some_and(|why| !why.is_empty()),
            "{request}\n{reply}"
        );
    }
    // The two lines that make sdp-rs panic, and one m= that is refused but no error.
    for line in ["z=0 99999999999999999", "r=99999999999999999999d 1 1"] {
        let sdp =
            penstock_e2e::sdp(caller.at()).replace("t=0 0\r\n", &format!("t=0 0\r\n{line}\r\n"));
        let reply =
            ng.ask(&json!({"command": "offer", "call-id": line, "from-tag": "a", "sdp": sdp}));
        assert!(
            reply["result"] == "ok" || reply["result"] == "error",
            "{reply}"
        );
        ng.delete(line);
    }

    assert_eq!(control.ended(Duration::ZERO), None, "control ended");
    assert_eq!(ng.ask(&json!({"command": "ping"}))["result"], "pong");
    assert_eq!(ng.list(), ["good"]);
    converse(&mut caller, sides.caller, &mut callee, sides.callee, 50);
    caller.heard_all(0xb, 1, 70);
    callee.heard_all(0xa, 1, 70);
}

#[test]
fn a_retransmission_gets_the_same_bytes() {
    let lab = lab!("ng_again");
    let _plane = lab.plane();
    let _control = lab.control();
    let socket = lab.socket("127.0.0.1:0".parse().expect("an address"));
    socket
        .set_read_timeout(Some(Duration::from_secs(20)))
        .expect("a timeout");
    let sdp = penstock_e2e::sdp(phone_at(4000));
    let offer = format!(
        "same_1 d7:command5:offer7:call-id1:x8:from-tag1:a3:sdp{}:{sdp}e",
        sdp.len()
    );
    let mut replies = Vec::new();
    for _ in 0..2 {
        socket
            .send_to(offer.as_bytes(), "127.0.0.1:2223")
            .expect("ng");
        let mut buf = [0; 4096];
        let n = socket.recv(&mut buf).expect("a reply");
        replies.push(buf[..n].to_vec());
    }
    assert!(
        replies[0].starts_with(b"same_1 d"),
        "{}",
        String::from_utf8_lossy(&replies[0])
    );
    assert!(
        replies[0].windows(11).any(|w| w == b"6:result2:o"),
        "{}",
        String::from_utf8_lossy(&replies[0])
    );
    assert_eq!(replies[0], replies[1]);
    assert_eq!(lab.ng().list(), ["x"]);
}
