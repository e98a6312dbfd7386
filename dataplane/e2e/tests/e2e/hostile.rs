//! Strangers and garbage at the media ports: a good call loses nothing, every bad packet is counted
//! once under its name.

use penstock_e2e::region::stream;
use penstock_e2e::{Lab, PLANE, Phone, converse, exchange, lab, meanwhile, phone_at, wait_for};
use penstock_shm::counters::Drop;
use rustix::net::{
    AddressFamily, SendFlags, SocketFlags, SocketType, ipproto, sendto, socket_with,
};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::fd::OwnedFd;
use std::time::Duration;

const STRANGER: [u8; 4] = [198, 18, 255, 66];

/// A socket that sends IPv4 packets with headers of one's own (the kernel fixes the checksum).
struct Raw(OwnedFd);

impl Raw {
    fn new(lab: &Lab) -> Raw {
        let open = || {
            socket_with(
                AddressFamily::INET,
                SocketType::RAW,
                SocketFlags::CLOEXEC,
                Some(ipproto::RAW),
            )
        };
        Raw(lab.inside(open).expect("a raw socket"))
    }

    /// Sends `body` behind an IPv4 header of `words` words to the plane.
    fn send(&self, words: u8, fragment: u16, protocol: u8, body: &[u8]) {
        let plane: Ipv4Addr = PLANE.parse().expect("an address");
        let mut packet = vec![0x40 | words, 0, 0, 0, 0, 1];
        packet.extend(fragment.to_be_bytes());
        packet.extend([64, protocol, 0, 0]);
        packet.extend(STRANGER.into_iter().chain(plane.octets()));
        packet.resize(usize::from(words) * 4, 1);
        packet.extend(body);
        sendto(
            &self.0,
            &packet,
            SendFlags::empty(),
            &SocketAddrV4::new(plane, 0),
        )
        .expect("a raw packet");
    }
}

/// A UDP header to this port that claims `length` octets.
fn udp(port: u16, length: u16) -> [u8; 8] {
    let mut header = [0; 8];
    header[..2].copy_from_slice(&7u16.to_be_bytes());
    header[2..4].copy_from_slice(&port.to_be_bytes());
    header[4..6].copy_from_slice(&length.to_be_bytes());
    header
}

#[test]
fn a_good_call_does_not_notice() {
    let lab = lab!("hostile");
    let _plane = lab.plane();
    let _control = lab.control();
    lab.address(IpAddr::from(STRANGER));
    let ng = lab.ng();
    let table = lab.table();
    let mut caller = Phone::new(&lab, phone_at(4000), 0xa);
    let mut callee = Phone::new(&lab, phone_at(5000), 0xb);
    let mut stranger = Phone::new(&lab, SocketAddr::from((STRANGER, 4000)), 0xbad);
    let neighbour = Phone::new(&lab, phone_at(4002), 0xbad);
    let careless = lab.socket(phone_at(0));
    let raw = Raw::new(&lab);
    let sides = ng.call("good", caller.at(), callee.at());
    // The first packets lock both sources.
    converse(&mut caller, sides.caller, &mut callee, sides.callee, 20);
    let locked = || {
        let stream = stream(&table, sides.caller);
        stream.expect("the stream").policy.locked
    };
    assert!(wait_for(Duration::from_secs(10), locked));
    let before = lab.balanced();

    let media = || exchange(&mut caller, sides.caller, &mut callee, sides.callee);
    meanwhile(media, || {
        for n in 0..100 {
            // Well-made RTP from another address, from another port, and with the good call's SSRC.
            stranger.talk(sides.caller);
            neighbour.send(&penstock_e2e::rtp_packet(0xa, n), sides.caller);
            neighbour.send(&penstock_e2e::rtp_packet(0xb, n), sides.callee);
            // Garbage of every length, to the call and beside it.
            stranger.send(&vec![n as u8; usize::from(n) * 14], sides.callee);
            careless
                .send_to(&[0; 40], SocketAddr::new(sides.caller.ip(), 40_000 + n))
                .expect("a packet");
            // Beyond the MTU: three fragments each.
            careless
                .send_to(&[0x80; 3000], sides.caller)
                .expect("a big packet");
            // Headers that lie: UDP too long, too short; options; other protocols; fragments.
            raw.send(5, 0, 17, &udp(sides.caller.port(), 900));
            raw.send(5, 0, 17, &udp(sides.caller.port(), 7));
            raw.send(5, 0, 17, &[1, 2, 3]);
            raw.send(6, 0, 17, &udp(sides.caller.port(), 8));
            raw.send(5, 0x2000, 17, &udp(sides.caller.port(), 8));
            raw.send(5, 100, 17, &udp(sides.caller.port(), 8));
            raw.send(5, 0, 132, &[0; 40]);
            std::thread::sleep(Duration::from_millis(2));
        }
    });
    caller.heard_all(0xb, 1, callee.sent());
    callee.heard_all(0xa, 1, caller.sent());

    let after = lab.balanced();
    let dropped = |reason: Drop| after.dropped(reason) - before.dropped(reason);
    assert_eq!(dropped(Drop::Source), 4 * 100);
    assert_eq!(dropped(Drop::NoStream), 100);
    assert_eq!(dropped(Drop::Fragment), 5 * 100);
    assert_eq!(dropped(Drop::Malformed), 3 * 100);
    assert_eq!(dropped(Drop::IpOptions), 100);
    assert_eq!(dropped(Drop::Protocol), 100);
    let media = u64::from(caller.sent()) + u64::from(callee.sent()) - 2 * 20;
    assert_eq!(after.forwarded - before.forwarded, media);
    for (phone, at) in [(&caller, sides.caller), (&callee, sides.callee)] {
        let stream = stream(&table, at).expect("the stream");
        assert_eq!(stream.policy.remote, Some(phone.at()), "the latch moved");
        assert_eq!(stream.meter.packets, u64::from(phone.sent()));
        assert_eq!(
            (stream.meter.lost, stream.meter.ssrc),
            (0, Some(phone.ssrc()))
        );
        assert_eq!(stream.meter.dropped, 200);
    }
}

#[test]
fn a_phone_that_sends_garbage_harms_itself_alone() {
    let lab = lab!("garbage");
    let _plane = lab.plane();
    let _control = lab.control();
    let ng = lab.ng();
    let mut caller = Phone::new(&lab, phone_at(4000), 0xa);
    let mut callee = Phone::new(&lab, phone_at(5000), 0xb);
    let sides = ng.call("noisy", caller.at(), callee.at());
    converse(&mut caller, sides.caller, &mut callee, sides.callee, 20);
    let before = lab.balanced();

    let good = penstock_e2e::rtp_packet(0xa, 21);
    let mut bad: Vec<Vec<u8>> = (0..12).map(|len| good[..len].to_vec()).collect();
    for first in [0x00, 0x40, 0xc0, 0x9f, 0x8f] {
        // Another version; an extension or contributing sources that reach beyond the end.
        let mut packet = good[..12].to_vec();
        packet[0] = first;
        bad.push(packet);
    }
    for packet in &bad {
        caller.send(packet, sides.caller);
    }
    converse(&mut caller, sides.caller, &mut callee, sides.callee, 20);
    callee.heard_all(0xa, 1, 40);
    caller.heard_all(0xb, 1, 40);
    // What begins with 0x00 could be STUN, with 0x40 a TURN channel (RFC 7983).
    let after = lab.balanced();
    let dropped = |reason| after.dropped(reason) - before.dropped(reason);
    assert_eq!(dropped(Drop::NotRtp), bad.len() as u64 - 2);
    assert_eq!(dropped(Drop::NotNegotiated), 2);
}
