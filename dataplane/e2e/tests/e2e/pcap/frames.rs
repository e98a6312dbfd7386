//! What goes in: networks and routes between them, good frames of each, bad frames of every kind, and what is to become
//! of them.

use penstock_e2e::frame::{Datagram, Sum, arp, fix_ip4_sum, link};
use penstock_e2e::{PLANE, PLANE_MAC, rtcp_packet, rtp_packet};
use penstock_shm::Kind;
use penstock_shm::counters::Drop;
use std::net::{IpAddr, SocketAddr};

pub const TOS: u8 = 46 << 2;
pub const MTU: usize = 1400;

/// Packets of each route.
pub const COUNT: u16 = 301;

/// A network the plane has an address in, and the phones there.
pub struct Net {
    pub local: &'static str,
    pub phone: &'static str,
    pub vlan: u16,
    pub phone_mac: [u8; 6],
}

/// The first and second share their addresses, and differ in VLAN alone.
pub const NETS: [Net; 4] = [
    Net {
        local: PLANE,
        phone: "198.18.2.1",
        vlan: 0,
        phone_mac: [2, 0, 0, 0, 0, 1],
    },
    Net {
        local: PLANE,
        phone: "198.18.2.1",
        vlan: 100,
        phone_mac: [2, 0, 0, 0, 0, 2],
    },
    Net {
        local: "fd00::1",
        phone: "fd00::2",
        vlan: 0,
        phone_mac: [2, 0, 0, 0, 0, 3],
    },
    Net {
        local: "fd01::1",
        phone: "fd01::2",
        vlan: 4094,
        phone_mac: [2, 0, 0, 0, 0, 4],
    },
];

impl Net {
    pub fn local(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.local.parse().expect("an address"), port)
    }

    pub fn phone(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.phone.parse().expect("an address"), port)
    }

    /// The longest payload that leaves to its phone: IP and UDP headers fill the rest of the MTU.
    fn longest(&self) -> usize {
        MTU - if self.local(0).is_ipv6() { 48 } else { 28 }
    }

    /// What its phone sends to a local port.
    pub fn datagram(&self, from: u16, to: u16, payload: Vec<u8>) -> Datagram {
        Datagram {
            macs: (PLANE_MAC, self.phone_mac),
            vlan: self.vlan,
            tos: 0,
            from: self.phone(from),
            to: self.local(to),
            sum: Sum::Right,
            payload,
        }
    }
}

/// From which network to which, and the ports: the phone sends from `port` to the plane's `port`; it
/// leaves from the plane's `port + 1` to the other phone's `port + 1`.
pub struct Route {
    pub from: usize,
    pub to: usize,
    pub port: u16,
    pub kind: Kind,
}

pub const ROUTES: [Route; 14] = [
    Route::new(0, 0, 20_000, Kind::Rtp),
    Route::new(0, 1, 20_010, Kind::Rtp),
    Route::new(1, 0, 20_020, Kind::Rtp),
    Route::new(1, 1, 20_030, Kind::Rtcp),
    Route::new(2, 2, 20_040, Kind::Rtp),
    Route::new(2, 3, 20_050, Kind::Rtp),
    Route::new(3, 2, 20_060, Kind::Rtcp),
    Route::new(0, 1, 20_070, Kind::Raw),
    // From one IP version to the other.
    Route::new(0, 2, 20_130, Kind::Rtp),
    Route::new(1, 3, 20_140, Kind::Rtp),
    Route::new(2, 0, 20_150, Kind::Rtp),
    Route::new(3, 1, 20_160, Kind::Rtp),
    Route::new(0, 3, 20_170, Kind::Rtcp),
    Route::new(2, 1, 20_180, Kind::Raw),
];

/// Streams that drop: the gate closed; a peer without a remote; and a next hop that never answers.
pub const CLOSED: u16 = 20_100;
pub const NO_ROUTE: u16 = 20_110;
pub const NO_NEIGHBOUR: u16 = 20_120;

/// What a frame is to become.
pub enum Fate {
    Relayed(Datagram),
    Dropped(Drop),
    Consumed,
}

impl Route {
    pub const fn new(from: usize, to: usize, port: u16, kind: Kind) -> Route {
        Route {
            from,
            to,
            port,
            kind,
        }
    }

    fn payload(&self, ssrc: u32, seq: u16) -> Vec<u8> {
        match self.kind {
            Kind::Rtp => rtp_packet(ssrc, seq),
            Kind::Rtcp => rtcp_packet(ssrc, seq.into()),
            Kind::Raw => seq.to_be_bytes()[..usize::from(seq % 3)].to_vec(),
        }
    }

    /// Makes a payload longer: RTCP by an APP packet (RFC 3550, 6.7).
    fn lengthen(&self, payload: &mut Vec<u8>, len: usize) {
        if self.kind == Kind::Rtcp {
            let words = ((len - payload.len()) / 4 - 1) as u16;
            payload.extend([0x80, 204]);
            payload.extend(words.to_be_bytes());
        }
        payload.resize(len, 0x5a);
    }
}

/// Good packets of each route: every sequence number with each kind of checksum, some padded to
/// Ethernet's least length. The last ones are as long as may be.
fn good() -> Vec<(Vec<u8>, Fate)> {
    let mut frames = Vec::new();
    for seq in 1..=COUNT {
        for (route, ssrc) in ROUTES.iter().zip(1..) {
            let (from, to) = (&NETS[route.from], &NETS[route.to]);
            let mut payload = route.payload(ssrc, seq);
            if seq == COUNT {
                route.lengthen(&mut payload, to.longest());
            }
            let mut sent = from.datagram(route.port, route.port, payload);
            sent.sum = match seq % 3 {
                0 if route.from < 2 => Sum::Zero,
                1 => Sum::Wrong,
                _ => Sum::Right,
            };
            let leaves = Datagram {
                macs: (to.phone_mac, PLANE_MAC),
                vlan: to.vlan,
                tos: TOS,
                from: to.local(route.port + 1),
                to: to.phone(route.port + 1),
                sum: match sent.sum {
                    // IPv6 has none without (RFC 8200, 8.1).
                    Sum::Zero if route.to >= 2 => Sum::Right,
                    sum => sum,
                },
                ..sent.clone()
            };
            let mut frame = sent.frame();
            if seq % 5 == 0 {
                frame.resize(frame.len() + 7, 0xaa);
            }
            frames.push((frame, Fate::Relayed(leaves)));
        }
    }
    frames
}

/// The frame of a good packet of the first route, for spoiling.
fn sample() -> Datagram {
    NETS[0].datagram(20_000, 20_000, rtp_packet(1, 9))
}

/// Like `sample`, over IPv6.
fn sample6() -> Datagram {
    NETS[2].datagram(20_040, 20_040, rtp_packet(5, 9))
}

/// A frame with octets changed and the IPv4 header's checksum made right again.
fn spoilt(frame: Vec<u8>, changes: &[(usize, u8)]) -> Vec<u8> {
    let mut frame = frame;
    for &(at, value) in changes {
        frame[at] = value;
    }
    fix_ip4_sum(&mut frame[14..]);
    frame
}

fn with(datagram: Datagram, change: impl FnOnce(&mut Datagram)) -> Vec<u8> {
    let mut datagram = datagram;
    change(&mut datagram);
    datagram.frame()
}

/// Frames whose link or network headers are bad, by the reason they are dropped for.
fn bad_frames() -> Vec<(Vec<u8>, Drop)> {
    let mut all = Vec::new();
    let whole = sample().frame();
    let mut add = |reason, frame: Vec<u8>| all.push((frame, reason));

    // Cut anywhere before its end, a frame is not whole.
    for len in [13, 14, 33, 34, 41, 42, 60, whole.len() - 1] {
        add(Drop::Malformed, whole[..len].to_vec());
    }
    add(Drop::Malformed, spoilt(whole.clone(), &[(14, 0x65)]));
    add(Drop::Malformed, spoilt(whole.clone(), &[(14, 0x44)]));
    add(Drop::Malformed, spoilt(whole.clone(), &[(38, 0), (39, 7)]));
    add(Drop::Malformed, spoilt(whole.clone(), &[(38, 9)]));
    add(Drop::Malformed, spoilt(whole.clone(), &[(17, 20)]));
    add(Drop::Malformed, with(sample6(), |d| d.sum = Sum::Zero));
    add(Drop::Malformed, sample6().frame()[..53].to_vec());
    add(Drop::Malformed, link((PLANE_MAC, [2; 6]), 0, 0x8100));
    // Larger than a buffer: the driver chains it.
    add(
        Drop::Malformed,
        with(sample(), |d| d.payload.resize(5000, 0)),
    );

    add(
        Drop::NotOurMac,
        with(sample(), |d| d.macs.0 = [2, 0, 0, 0, 0, 0x55]),
    );
    add(Drop::NotOurMac, with(sample(), |d| d.macs.0 = [0xff; 6]));
    add(
        Drop::NotOurMac,
        with(sample6(), |d| d.macs.0 = [0x33, 0x33, 0, 0, 0, 1]),
    );

    add(
        Drop::Protocol,
        [link((PLANE_MAC, [2; 6]), 0, 0x88cc), vec![0; 46]].concat(),
    );
    add(
        Drop::Protocol,
        [link((PLANE_MAC, [2; 6]), 7, 0x8100), vec![0; 46]].concat(),
    );
    add(Drop::Protocol, spoilt(whole.clone(), &[(23, 6)]));
    add(Drop::Protocol, spoilt(whole.clone(), &[(23, 1), (34, 0)]));
    add(Drop::Protocol, spoilt6(58));

    add(
        Drop::NotOurAddress,
        with(sample(), |d| {
            d.to = SocketAddr::from(([198, 18, 0, 9], 20_000))
        }),
    );
    add(Drop::NotOurAddress, with(sample(), |d| d.vlan = 101));
    add(Drop::NotOurAddress, with(sample6(), |d| d.vlan = 4094));

    let mut wrong_sum = whole.clone();
    wrong_sum[24] ^= 1;
    add(Drop::IpChecksum, wrong_sum);

    add(Drop::Fragment, spoilt(whole.clone(), &[(20, 0x20)]));
    add(Drop::Fragment, spoilt(whole.clone(), &[(20, 0), (21, 1)]));
    add(Drop::Fragment, spoilt6(44));
    add(Drop::IpOptions, spoilt(whole.clone(), &[(14, 0x46)]));
    add(Drop::IpOptions, spoilt6(0));
    add(Drop::IpOptions, spoilt6(60));

    all
}

/// Datagrams that no stream takes, or that theirs does not.
fn bad_datagrams() -> Vec<(Vec<u8>, Drop)> {
    let mut all = Vec::new();
    let mut add = |reason, frame: Vec<u8>| all.push((frame, reason));
    add(Drop::NoStream, with(sample(), |d| d.to.set_port(1)));
    add(Drop::NoStream, with(sample6(), |d| d.to.set_port(20_000)));
    add(
        Drop::GateClosed,
        NETS[0].datagram(CLOSED, CLOSED, rtp_packet(9, 1)).frame(),
    );
    add(Drop::Source, with(sample(), |d| d.from.set_port(20_001)));
    add(
        Drop::Source,
        with(sample(), |d| d.from.set_ip(IpAddr::from([198, 18, 2, 2]))),
    );
    add(Drop::Source, with(sample6(), |d| d.from.set_port(1)));
    for len in 0..12 {
        add(Drop::NotRtp, with(sample(), |d| d.payload.truncate(len)));
    }
    for first in [0x00, 0x10, 0x14, 0x40] {
        add(
            Drop::NotNegotiated,
            with(sample(), |d| d.payload[0] = first),
        );
    }
    add(Drop::NotRtp, with(sample(), |d| d.payload[0] = 0xc0));
    add(
        Drop::NotRtp,
        with(sample6(), |d| d.payload = vec![0x8f; 12]),
    );
    let rtcp = NETS[1].datagram(20_030, 20_030, rtcp_packet(4, 1));
    add(Drop::NotRtp, with(rtcp.clone(), |d| d.payload[1] = 0));
    add(Drop::NotRtp, with(rtcp, |d| d.payload[3] = 99));
    add(
        Drop::NoRoute,
        NETS[0]
            .datagram(NO_ROUTE, NO_ROUTE, rtp_packet(9, 1))
            .frame(),
    );
    for (route, ssrc) in ROUTES.iter().zip(1..) {
        let mut payload = route.payload(ssrc, 9);
        // RTCP has whole words.
        let more = if route.kind == Kind::Rtcp { 4 } else { 1 };
        route.lengthen(&mut payload, NETS[route.to].longest() + more);
        let sent = NETS[route.from].datagram(route.port, route.port, payload);
        add(Drop::TooBig, sent.frame());
    }
    all
}

/// An IPv6 packet with another next header.
fn spoilt6(next: u8) -> Vec<u8> {
    let mut frame = sample6().frame();
    frame[20] = next;
    frame
}

/// An ARP request for the plane's address, and an ICMP echo request to it.
fn for_the_steward() -> [Vec<u8>; 2] {
    let phone_mac = NETS[0].phone_mac;
    let ask = arp(
        ([0xff; 6], phone_mac),
        1,
        (phone_mac, [198, 18, 2, 1]),
        ([0; 6], [198, 18, 0, 1]),
    );
    // The payload is made so that the ICMP checksum is 0xf7ff.
    let mut echo = with(sample(), |d| d.payload.clear());
    echo[23] = 1;
    echo[34..42].copy_from_slice(&[8, 0, 0xf7, 0xff, 0, 0, 0, 0]);
    [ask, spoilt(echo, &[])]
}

/// Bad frames stand between good ones, not after them.
pub fn mixture() -> Vec<(Vec<u8>, Fate)> {
    let mut frames = Vec::new();
    let mut bad = bad_frames().into_iter().chain(bad_datagrams());
    for (i, frame) in good().into_iter().enumerate() {
        if i % 20 == 0 {
            frames.extend(
                bad.next()
                    .map(|(frame, reason)| (frame, Fate::Dropped(reason))),
            );
        }
        frames.push(frame);
    }
    assert!(bad.next().is_none(), "a bad frame found no place");
    let waits = NETS[0].datagram(NO_NEIGHBOUR, NO_NEIGHBOUR, rtp_packet(9, 1));
    let consumed = for_the_steward().into_iter().chain([waits.frame()]);
    frames.extend(consumed.map(|frame| (frame, Fate::Consumed)));
    frames
}
