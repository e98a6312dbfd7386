//! Phones: sockets that send RTP and RTCP, and remember what they hear.

use crate::{Lab, wait_for};
use std::collections::BTreeMap;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// A call's packets up to this number may have waited until the plane knew the phone's MAC, and been overtaken meanwhile.
const FIRST: u16 = 32;

/// An RTP packet with 160 octets that depend on all its numbers (RFC 3550, 5.1).
pub fn rtp_packet(ssrc: u32, seq: u16) -> Vec<u8> {
    let mut p = vec![0x80, 0];
    p.extend(seq.to_be_bytes());
    p.extend((u32::from(seq) * 160).to_be_bytes());
    p.extend(ssrc.to_be_bytes());
    p.extend((0..160u32).map(|i| (i.wrapping_mul(31) ^ ssrc ^ u32::from(seq)) as u8));
    p
}

/// The sequence number of an RTP packet.
pub fn rtp_seq(packet: &[u8]) -> u16 {
    u16::from_be_bytes([packet[2], packet[3]])
}

/// An RTCP sender report that carries a number as its packet count (RFC 3550, 6.4.1).
pub fn rtcp_packet(ssrc: u32, number: u32) -> Vec<u8> {
    let mut p = vec![0x80, 200, 0, 6];
    p.extend(ssrc.to_be_bytes());
    p.extend([0; 12]);
    p.extend(number.to_be_bytes());
    p.extend((number * 160).to_be_bytes());
    p
}

/// What arrived at a socket.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Received {
    /// RTP sequence numbers by SSRC, in order of arrival.
    pub rtp: BTreeMap<u32, Vec<u16>>,
    /// Sender reports' numbers by SSRC, in order of arrival.
    pub rtcp: BTreeMap<u32, Vec<u32>>,
    /// Packets that were not as [`rtp_packet`] or [`rtcp_packet`] made them.
    pub changed: usize,
}

impl Received {
    /// Whether the RTP packet of this SSRC with this number is among it.
    pub fn has(&self, ssrc: u32, seq: u16) -> bool {
        let seqs = self.rtp.get(&ssrc);
        seqs.is_some_and(|seqs| seqs.contains(&seq))
    }

    fn add(&mut self, packet: &[u8]) {
        let word = |at: usize| {
            packet
                .get(at..at + 4)
                .map(|w| u32::from_be_bytes([w[0], w[1], w[2], w[3]]))
        };
        if packet.get(1) == Some(&200) {
            if let (Some(ssrc), Some(number)) = (word(4), word(20))
                && packet == rtcp_packet(ssrc, number)
            {
                return self.rtcp.entry(ssrc).or_default().push(number);
            }
        } else if let (Some(first), Some(ssrc)) = (word(0), word(8))
            && packet == rtp_packet(ssrc, first as u16)
        {
            return self.rtp.entry(ssrc).or_default().push(first as u16);
        }
        self.changed += 1;
    }
}

/// A phone's socket for one direction of RTP, or of RTCP.
pub struct Phone {
    socket: UdpSocket,
    ssrc: u32,
    sent: u16,
    heard: Received,
}

impl Phone {
    /// A phone in the lab; its packets carry this SSRC.
    pub fn new(lab: &Lab, at: SocketAddr, ssrc: u32) -> Phone {
        Phone::with(lab.socket(at), ssrc)
    }

    /// A phone on a socket that exists.
    pub fn with(socket: UdpSocket, ssrc: u32) -> Phone {
        socket.set_nonblocking(true).expect("non-blocking");
        // Whoever stands still on a busy machine must lose nothing in the kernel.
        rustix::net::sockopt::set_socket_recv_buffer_size_force(&socket, 8 << 20)
            .expect("room for packets");
        Phone {
            socket,
            ssrc,
            sent: 0,
            heard: Received::default(),
        }
    }

    /// Its address.
    pub fn at(&self) -> SocketAddr {
        self.socket.local_addr().expect("its address")
    }

    /// Its SSRC.
    pub fn ssrc(&self) -> u32 {
        self.ssrc
    }

    /// How many RTP packets or reports it has sent. The first has number 1.
    pub fn sent(&self) -> u16 {
        self.sent
    }

    /// Sends the next RTP packet.
    pub fn talk(&mut self, to: SocketAddr) {
        self.sent += 1;
        self.send(&rtp_packet(self.ssrc, self.sent), to);
    }

    /// Sends the next sender report.
    pub fn report(&mut self, to: SocketAddr) {
        self.sent += 1;
        self.send(&rtcp_packet(self.ssrc, u32::from(self.sent)), to);
    }

    /// Sends bytes as they are.
    pub fn send(&self, packet: &[u8], to: SocketAddr) {
        self.socket
            .send_to(packet, to)
            .unwrap_or_else(|e| panic!("{to}: {e}"));
    }

    /// Sends the next RTP packet even if nobody is there to take it.
    pub fn talk_anyway(&mut self, to: SocketAddr) {
        self.sent += 1;
        let _ = self.socket.send_to(&rtp_packet(self.ssrc, self.sent), to);
    }

    /// Sends the next sender report even if nobody is there to take it.
    pub fn report_anyway(&mut self, to: SocketAddr) {
        self.sent += 1;
        let _ = self
            .socket
            .send_to(&rtcp_packet(self.ssrc, u32::from(self.sent)), to);
    }

    /// Reads what has come so far.
    pub fn listen(&mut self) -> &Received {
        let mut buf = [0; 2048];
        while let Ok(n) = self.socket.recv(&mut buf) {
            self.heard.add(&buf[..n]);
        }
        &self.heard
    }

    /// Reads until nothing came for `quiet`.
    pub fn listen_until(&mut self, quiet: Duration) -> &Received {
        let mut last = Instant::now();
        let mut buf = [0; 2048];
        while last.elapsed() < quiet {
            match self.socket.recv(&mut buf) {
                Ok(n) => {
                    self.heard.add(&buf[..n]);
                    last = Instant::now();
                }
                Err(_) => std::thread::sleep(Duration::from_millis(1)),
            }
        }
        &self.heard
    }

    /// Reads until the RTP packet of this SSRC with this number is there; false if it is not within 10 s.
    pub fn hears(&mut self, ssrc: u32, seq: u16) -> bool {
        self.listen_for(|heard| heard.has(ssrc, seq)).has(ssrc, seq)
    }

    /// Reads until `enough` holds, 10 s at most.
    pub fn listen_for(&mut self, mut enough: impl FnMut(&Received) -> bool) -> &Received {
        wait_for(Duration::from_secs(10), || enough(self.listen()));
        &self.heard
    }

    /// Forgets what it heard.
    pub fn forget(&mut self) {
        self.heard = Received::default();
    }

    /// Asserts that it heard numbers `first` to `last` of the RTP of `ssrc`, each once, in order after [`FIRST`],
    /// unchanged, and nothing else.
    pub fn heard_all(&mut self, ssrc: u32, first: u16, last: u16) {
        let expected: Vec<u16> = (first..=last).collect();
        self.listen_for(|heard| heard.rtp.get(&ssrc).map_or(0, Vec::len) >= expected.len());
        // Time for what should not come.
        let heard = self.listen_until(Duration::from_millis(100));
        let mut got = heard.rtp.get(&ssrc).cloned().unwrap_or_default();
        let missing: Vec<_> = expected.iter().filter(|seq| !got.contains(seq)).collect();
        assert!(
            missing.is_empty(),
            "of SSRC {ssrc:#x}, {first} to {last}, are missing {}, from {:?} to {:?}",
            missing.len(),
            missing.first(),
            missing.last()
        );
        let waited = |seq: &&u16| **seq <= FIRST;
        let waited = got.iter().take_while(waited).count();
        got[..waited].sort_unstable();
        let odd = got
            .iter()
            .zip(&expected)
            .find(|(got, expected)| got != expected);
        assert_eq!(
            (odd, got.len()),
            (None, expected.len()),
            "twice, strange or out of order"
        );
        assert_eq!(
            (heard.changed, heard.rtp.len()),
            (0, 1),
            "changed or strange packets"
        );
    }
}

/// Both phones send `count` RTP packets, one every 2 ms, each to its own side of the plane. Waits until either has heard
/// the other's last; not for long: a gate may be closed.
pub fn converse(
    a: &mut Phone,
    to_a_side: SocketAddr,
    b: &mut Phone,
    to_b_side: SocketAddr,
    count: usize,
) {
    for _ in 0..count {
        exchange(a, to_a_side, b, to_b_side);
    }
    wait_for(Duration::from_millis(400), || {
        let a_has = a.listen().has(b.ssrc, b.sent);
        b.listen().has(a.ssrc, a.sent) && a_has
    });
}

/// Repeats `media` on a thread of its own while `scenario` runs, and ends it however that ends.
pub fn meanwhile<T>(mut media: impl FnMut() + Send, scenario: impl FnOnce() -> T) -> T {
    struct End<'a>(&'a AtomicBool);
    impl Drop for End<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _end = End(&over);
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                media();
            }
        });
        scenario()
    })
}

/// Each phone's first packet, which may wait for its next hop, arrives before the next one is sent: what waited
/// can be overtaken.
///
/// # Panics
/// If one does not arrive.
pub fn meet(a: &mut Phone, to_a_side: SocketAddr, b: &mut Phone, to_b_side: SocketAddr) {
    reach(a, to_a_side, b);
    reach(b, to_b_side, a);
}

/// The phone's next packet, sent there, arrives at the other.
///
/// # Panics
/// If it does not.
pub fn reach(from: &mut Phone, to: SocketAddr, at: &mut Phone) {
    from.talk(to);
    assert!(
        at.hears(from.ssrc, from.sent),
        "packet {} of {:#x}, sent to {to}, does not arrive: {:?}",
        from.sent,
        from.ssrc,
        at.heard
    );
}

/// Both phones send once, hear what is there, and rest for 2 ms.
pub fn exchange(a: &mut Phone, to_a_side: SocketAddr, b: &mut Phone, to_b_side: SocketAddr) {
    a.talk(to_a_side);
    b.talk(to_b_side);
    a.listen();
    b.listen();
    std::thread::sleep(Duration::from_millis(2));
}
