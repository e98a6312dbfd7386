//! Datagrams of our own, back to where one came from.

use crate::body::udp_error;
use crate::support::{Datagram, OURS, THEIRS, udp_of};
use penstock_relay::local::udp_reply;
use penstock_relay::{Class, classify, source};

fn reply(datagram: &Datagram, payload: &[u8]) -> Option<Vec<u8>> {
    let frame = datagram.frame();
    let mut out = [0xee; 200];
    let len = udp_reply(&frame, &udp_of(&frame), OURS, payload, &mut out)?;
    Some(out[..len].to_vec())
}

#[test]
fn a_reply_goes_back_where_the_datagram_came_from() {
    for asked in [Datagram::v4(b"question"), Datagram::v6(b"question")] {
        for vlan in [0, 5] {
            let asked = Datagram {
                vlan,
                ..asked.clone()
            };
            for payload in [&b""[..], b"odd", b"even"] {
                let reply = reply(&asked, payload).expect("a reply");
                assert_eq!(reply[..12], [THEIRS, OURS].concat());
                let Class::Udp(udp) = classify(&reply, &THEIRS, false) else {
                    panic!("{reply:x?}");
                };
                assert_eq!(udp.payload(&reply), Some(payload));
                assert_eq!((udp.vlan, udp.port), (vlan, asked.source.port()));
                assert_eq!(source(&reply, &udp), Some(asked.destination));
                assert_eq!(udp_error(&reply, &udp), 0);
            }
        }
    }
}

#[test]
fn nobody_is_answered_at_no_hosts_address() {
    for from in [
        "0.0.0.0:9",
        "224.0.0.1:9",
        "255.255.255.255:9",
        "127.0.0.1:9",
        "192.0.2.1:0",
    ] {
        let asked = Datagram {
            source: from.parse().unwrap(),
            ..Datagram::v4(b"question")
        };
        assert_eq!(reply(&asked, b"answer"), None, "{from}");
    }
    let mut frame = Datagram::v4(b"question").frame();
    let udp = udp_of(&frame);
    frame[6] |= 1;
    assert_eq!(udp_reply(&frame, &udp, OURS, b"", &mut [0; 200]), None);
}
