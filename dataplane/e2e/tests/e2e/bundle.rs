//! Several streams at one port: bundled media, and RTCP that one side alone multiplexes. Driven through the region.

use penstock_e2e::region::{dropped_of, endpoint, learns, lost, stream};
use penstock_e2e::{
    Lab, Phone, converse, lab, local, meet, phone_at, reach, rtcp_packet, rtp_packet,
};
use penstock_shm::counters::Drop;
use penstock_shm::{Feed, Feeding, Kind, Learn, Mid, Op, StreamSpec, TableView};
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

const CALL: u64 = 1;
/// The shared endpoint, and the one that a part has for itself.
const SHARED: u16 = 20_000;
const PART: u16 = 20_002;
/// Those of the other side.
const FIRST: u16 = 20_100;
const SECOND: u16 = 20_102;

const SOON: Duration = Duration::from_secs(10);

fn spec(table: &TableView, at: u16, peer: u16, remote: SocketAddr) -> StreamSpec {
    let end = |port| endpoint(table, local(port), 0);
    StreamSpec {
        remote: Some(remote),
        learn: Learn::Off,
        signal: 1,
        ..StreamSpec::new(end(at), end(peer))
    }
}

fn part(table: &TableView, at: u16, mid: Option<Mid>) -> Op {
    Op::Feed(Feeding {
        endpoint: endpoint(table, local(at), 0),
        feed: Feed::PartOf(endpoint(table, local(SHARED), 0)),
        mid,
        drop_events: false,
        pierce: false,
    })
}

fn mid(name: &str) -> Option<Mid> {
    let mut octets = [0; 8];
    octets[..name.len()].copy_from_slice(name.as_bytes());
    Some(Mid {
        extension: 3,
        name: octets,
    })
}

/// An RTP packet of this payload type, with a mid in a one-byte header or a two-byte header.
pub(crate) fn packet(payload_type: u8, ssrc: u32, seq: u16, mid: Option<(&str, bool)>) -> Vec<u8> {
    let mut packet = rtp_packet(ssrc, seq);
    packet[1] = payload_type;
    if let Some((mid, two_bytes)) = mid {
        packet[0] |= 0x10;
        let len = mid.len() as u8;
        // Another element before it.
        let mut elements = match two_bytes {
            false => vec![0x12, 1, 2, 3, 0, 0x30 | (len - 1)],
            true => vec![1, 3, 1, 2, 3, 0, 3, len],
        };
        elements.extend(mid.as_bytes());
        elements.resize(elements.len().next_multiple_of(4), 0);
        let profile: [u8; 2] = if two_bytes { [0x10, 0] } else { [0xbe, 0xde] };
        let words = (elements.len() as u16 / 4).to_be_bytes();
        let header = [&profile[..], &words[..], &elements].concat();
        packet.splice(12..12, header);
    }
    packet
}

fn socket(lab: &Lab, port: u16) -> UdpSocket {
    let socket = lab.socket(phone_at(port));
    socket.set_read_timeout(Some(SOON)).expect("a timeout");
    socket
}

/// The next packet that a socket hears, and from where.
fn heard(socket: &UdpSocket) -> (Vec<u8>, u16) {
    let mut buf = [0; 2048];
    let (n, from) = socket.recv_from(&mut buf).expect("a packet");
    (buf[..n].to_vec(), from.port())
}

/// A phone that bundles, and two sockets of one that does not.
struct Bundle {
    table: TableView,
    phone: UdpSocket,
    others: [UdpSocket; 2],
}

impl Bundle {
    /// Audio of payload type 0 is the parent's, video of 96 the part's; all of the bundle has these types as well.
    fn new(lab: &Lab, common: &[u8]) -> Bundle {
        let table = lab.table();
        let [phone, one, two] = [30_000, 30_100, 30_102].map(|port| socket(lab, port));
        let at = |socket: &UdpSocket| socket.local_addr().expect("an address");
        let types = |own: u8| common.iter().fold(1u128 << own, |set, n| set | 1 << n);
        let of = |port, peer, remote, own, media| StreamSpec {
            payload_types: types(own),
            media,
            ..spec(&table, port, peer, remote)
        };
        let first = of(SHARED, FIRST, at(&phone), 0, 0);
        let own = Feeding {
            endpoint: first.endpoint,
            feed: Feed::Own,
            mid: mid("0"),
            drop_events: false,
            pierce: false,
        };
        let ops = [
            Op::Set(first),
            Op::Feed(own),
            Op::Set(of(PART, SECOND, at(&phone), 96, 1)),
            part(&table, PART, mid("video")),
            Op::Set(of(FIRST, SHARED, at(&one), 0, 0)),
            Op::Set(of(SECOND, SHARED, at(&two), 96, 1)),
        ];
        lab.install(CALL, &ops);
        let others = [one, two];
        Bundle {
            table,
            phone,
            others,
        }
    }

    /// Sends to the shared port; it comes out there, unchanged.
    fn goes(&self, packet: &[u8], to: usize) {
        self.phone
            .send_to(packet, local(SHARED))
            .expect("a packet out");
        let ports = [FIRST, SECOND];
        assert_eq!(heard(&self.others[to]), (packet.to_vec(), ports[to]));
    }
}

#[test]
fn two_media_on_one_port_are_told_apart_and_joined() {
    let lab = lab!("bundle");
    let _plane = lab.plane();
    let bundle = Bundle::new(&lab, &[]);
    for seq in 1..=50 {
        bundle.goes(&packet(0, 0xa, seq, None), 0);
        bundle.goes(&packet(96, 0xb, seq, None), 1);
    }
    // RTCP goes with the media of its sender; what nobody knows is the first one's.
    bundle.goes(&rtcp_packet(0xb, 1), 1);
    bundle.goes(&rtcp_packet(0xa, 2), 0);
    bundle.goes(&rtcp_packet(0xf, 3), 0);
    for (at, other) in [FIRST, SECOND].into_iter().zip(&bundle.others) {
        for seq in 1..=50 {
            let packet = packet(0, at.into(), seq, None);
            other.send_to(&packet, local(at)).expect("a packet out");
            assert_eq!(heard(&bundle.phone), (packet, SHARED));
        }
    }
    let packets = |port| {
        stream(&bundle.table, local(port))
            .expect("a stream")
            .meter
            .packets
    };
    lab.balanced();
    assert_eq!((packets(SHARED), packets(PART)), (52, 51));
    assert_eq!(lost(&bundle.table), 0);
    // Strangers are strangers to all of it.
    let stranger = socket(&lab, 30_900);
    for packet in [packet(0, 0xa, 51, None), packet(96, 0xb, 51, None)] {
        stranger.send_to(&packet, local(SHARED)).expect("out");
    }
    let sum = lab.balanced();
    assert_eq!((sum.dropped(Drop::Source), lost(&bundle.table)), (2, 2));
    let stat = stream(&bundle.table, local(PART)).expect("the part");
    assert_eq!(dropped_of(&stat, Drop::Source), 1);
}

#[test]
fn the_mid_says_whose_and_its_ssrc_is_remembered() {
    let lab = lab!("bundle_mid");
    let _plane = lab.plane();
    let bundle = Bundle::new(&lab, &[100]);
    for (seq, two_bytes) in [(1, false), (3, true)] {
        bundle.goes(&packet(100, 0xa, seq, Some(("0", two_bytes))), 0);
        bundle.goes(&packet(100, 0xb, seq, Some(("video", two_bytes))), 1);
        bundle.goes(&packet(100, 0xa, seq + 1, None), 0);
        bundle.goes(&packet(100, 0xb, seq + 1, None), 1);
    }
    // What the first has taken on the short way is the other's from the moment that it says so.
    for seq in 5..10 {
        bundle.goes(&packet(100, 0xc, seq, None), 0);
    }
    bundle.goes(&packet(100, 0xc, 20, Some(("video", false))), 1);
    // It would go on with the first one's sequence.
    bundle.goes(&packet(100, 0xc, 10, None), 1);
    bundle.goes(&packet(100, 0xc, 12, Some(("0", false))), 0);
    bundle.goes(&packet(100, 0xc, 13, None), 0);
    lab.balanced();
    assert_eq!(lost(&bundle.table), 0);
}

/// A media on hold stops alone.
#[test]
fn a_part_has_a_gate_of_its_own() {
    let lab = lab!("bundle_hold");
    let _plane = lab.plane();
    let bundle = Bundle::new(&lab, &[]);
    bundle.goes(&packet(0, 0xa, 1, None), 0);
    bundle.goes(&packet(96, 0xb, 1, None), 1);
    let at = bundle.phone.local_addr().expect("an address");
    let held = StreamSpec {
        gate_open: false,
        payload_types: 1,
        ..spec(&bundle.table, SHARED, FIRST, at)
    };
    lab.install(CALL, &[Op::Set(held)]);
    bundle
        .phone
        .send_to(&packet(0, 0xa, 2, None), local(SHARED))
        .expect("out");
    bundle.goes(&packet(96, 0xb, 2, None), 1);
    let sum = lab.balanced();
    assert_eq!((sum.dropped(Drop::GateClosed), lost(&bundle.table)), (1, 1));
    // The part is gone: its packets are nobody's but the first one's.
    let part = endpoint(&bundle.table, local(PART), 0);
    let open = StreamSpec {
        gate_open: true,
        ..held
    };
    lab.install(CALL, &[Op::Remove(part), Op::Set(open)]);
    bundle.goes(&packet(96, 0xb, 3, None), 0);
}

/// The one side multiplexes, behind a NAT; the other does not.
#[test]
fn rtcp_changes_ports_in_the_middle() {
    let lab = lab!("bundle_mux");
    let plane = lab.plane();
    let table = lab.table();
    let phone = |port, ssrc| Phone::new(&lab, phone_at(port), ssrc);
    let (mut muxed, mut rtp, mut rtcp) =
        (phone(30_000, 0xa), phone(30_100, 0xb), phone(30_101, 0xb));
    // Signalling names a port that the NAT has changed.
    let shared = StreamSpec {
        learn: Learn::Heuristic,
        ..spec(&table, SHARED, FIRST, phone_at(29_000))
    };
    let report = |at, peer, remote| StreamSpec {
        kind: Kind::Rtcp,
        ..spec(&table, at, peer, remote)
    };
    let ops = [
        Op::Set(shared),
        Op::Set(report(PART, SECOND, phone_at(29_001))),
        part(&table, PART, None),
        Op::Set(spec(&table, FIRST, SHARED, rtp.at())),
        Op::Set(report(SECOND, SHARED, rtcp.at())),
    ];
    lab.install(CALL, &ops);
    reach(&mut muxed, local(SHARED), &mut rtp);
    learns(&table, local(SHARED), muxed.at());
    reach(&mut rtp, local(FIRST), &mut muxed);
    converse(&mut muxed, local(SHARED), &mut rtp, local(FIRST), 200);
    muxed.heard_all(0xb, 1, 201);
    rtp.heard_all(0xa, 1, 201);
    let exchange = |muxed: &mut Phone, rtcp: &mut Phone| {
        muxed.forget();
        rtcp.forget();
        for _ in 0..5 {
            muxed.report(local(SHARED));
            rtcp.report(local(SECOND));
        }
        let heard = rtcp.listen_for(|heard| heard.rtcp.get(&0xa).map_or(0, Vec::len) >= 5);
        assert_eq!((heard.rtcp[&0xa].len(), heard.rtp.len()), (5, 0));
        muxed.listen_for(|heard| heard.rtcp.get(&0xb).map_or(0, Vec::len) >= 5);
        assert_eq!(muxed.listen().rtcp[&0xb].len(), 5);
    };
    exchange(&mut muxed, &mut rtcp);
    let stat = stream(&table, local(SECOND)).expect("the RTCP");
    let opposite = table.find(endpoint(&table, local(PART), 0));
    assert_eq!(stat.policy.peer, opposite, "for the round trip");
    lab.balanced();
    assert_eq!(lost(&table), 0);
    plane.kill();
    let _plane = lab.plane();
    meet(&mut muxed, local(SHARED), &mut rtp, local(FIRST));
    exchange(&mut muxed, &mut rtcp);
    let stat = stream(&table, local(PART)).expect("the part");
    assert_eq!((stat.reports.rtcp, stat.meter.packets), (10, 10));
}
