//! Commands: what control asks of the plane.
//!
//! A command is a header slot followed by one 64-byte slot per [`Op`]. Numbers are little-endian;
//! every byte not named below is zero.
//!
//! | slot | bytes |
//! | --- | --- |
//! | header | 0..8 number, 8..16 call, 16..18 count of ops |
//! | any op | 0 tag (1 set, 2 remove, 3 acknowledge, 4 feed, 6 ice, 7 move), 4..6 address and 6..8 port of the endpoint |
//! | set | 1 kind, 2 learn, 3 flags (1 gate open, 2 handover, 4 strict payload, 8 secure, 16, 32, 64 accept, 128 capture), 8..12 peer, 12 IP version of the remote (0, 4, 6), 13 DSCP (64 default, 65 copy), 14..16 remote port, 16..32 remote address, 32..36 signal, 36..39 clock, 39 police, 40..42 leg, 42 media, 43 event type, 44..60 payload types, 60..64 hint |
//! | acknowledge | 32..36 record, 36..40 generation |
//! | feed | 1 from where (0 its own endpoint, 1 copy, 2 part, 3 alternate), 2 flags (1 drop events, 2 pierce), 3 mid's extension, 8..12 parent, 16..24 mid |
//! | ice | 8..16 user name fragment, 16..40 password |
//! | move | 8..16 call that it was of |

use crate::bytes::{Block, get16, get32, get64, put16, put32, put64, zero_but};
use crate::feed::{Feed, Feeding, Mid};
use crate::ice::Ice;
use crate::layout::MAX_ADDRESSES;
use crate::record::{Dscp, Endpoint, Kind, Learn, MAX_POLICIES, StreamSpec, accept};
use std::net::{IpAddr, SocketAddr};

/// The most ops one command carries: a call of 64 media sections, with RTP and RTCP on both sides, each a stream of up to
/// three ops, in the place of as many that are removed.
pub const MAX_OPS: usize = 64 * 4 * (3 + 1);

/// The fastest RTP clock accepted, Hz.
pub const MAX_CLOCK_HZ: u32 = 1_000_000;

/// One entry of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// Install the stream, or bring the installed one to this specification. Its packets arrive at its own endpoint, it
    /// has no mid and its events pass unless [`Op::Feed`] follows. With [`Learn::Checks`], [`Op::Ice`] follows at once.
    Set(StreamSpec),
    /// Where the packets of the call's stream come from. Nothing happens if it has none at the endpoint.
    Feed(Feeding),
    /// The ICE credentials of the stream that the op before sets: anywhere else it is refused.
    Ice {
        /// The stream's.
        endpoint: Endpoint,
        /// Ours.
        ice: Ice,
    },
    /// The stream is this call's from now on, meter, source and all: calls became one. Nothing happens if it is not the
    /// other call's.
    Move {
        /// The stream's.
        endpoint: Endpoint,
        /// Control's key of the call that it was of.
        from: u64,
    },
    /// Remove the stream; nothing happens if there is none.
    Remove(Endpoint),
    /// The last meter of an ended stream was read: the record may be reused.
    Acknowledge {
        /// The record's number.
        number: u32,
        /// Its generation when it was read.
        generation: u32,
    },
}

/// One whole change of a call, as the plane receives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// The command's number: what [`crate::Applied::get`] reaches once it stands.
    pub seq: u64,
    /// Control's key of the call.
    pub call: u64,
    /// The change, in order. At most [`MAX_OPS`].
    pub ops: Vec<Op>,
}

/// A command that cannot be what control meant. It takes its place in the order: answer it with
/// a refusal and mark it applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("command {seq} of the ring is malformed: {why}")]
pub struct BadCommand {
    /// The number to mark as applied.
    pub seq: u64,
    /// What is wrong.
    pub why: &'static str,
}

/// Where a command starts and how far it reaches.
pub(crate) struct Header {
    pub(crate) seq: u64,
    pub(crate) call: u64,
    pub(crate) count: u16,
}

impl Header {
    pub(crate) fn encode(&self) -> Block {
        let mut b = [0; 64];
        put64(&mut b, 0, self.seq);
        put64(&mut b, 8, self.call);
        put16(&mut b, 16, self.count);
        b
    }

    pub(crate) fn decode(b: &Block) -> Result<Header, &'static str> {
        let header = Header {
            seq: get64(b, 0),
            call: get64(b, 8),
            count: get16(b, 16),
        };
        if usize::from(header.count) > MAX_OPS {
            return Err("more ops than a command holds");
        }
        zero_but(b, &[0..16, 16..18])?;
        Ok(header)
    }
}

fn put_endpoint(b: &mut Block, at: usize, endpoint: Endpoint) {
    put16(b, at, endpoint.addr);
    put16(b, at + 2, endpoint.port);
}

fn get_endpoint(b: &Block, at: usize) -> Result<Endpoint, &'static str> {
    let endpoint = Endpoint {
        addr: get16(b, at),
        port: get16(b, at + 2),
    };
    if usize::from(endpoint.addr) >= MAX_ADDRESSES {
        return Err("address number out of range");
    }
    Ok(endpoint)
}

impl Op {
    pub(crate) fn encode(&self) -> Block {
        let mut b = [0; 64];
        match self {
            Op::Set(spec) => {
                b[0] = 1;
                encode_spec(&mut b, spec);
            }
            Op::Remove(endpoint) => {
                b[0] = 2;
                put_endpoint(&mut b, 4, *endpoint);
            }
            Op::Acknowledge { number, generation } => {
                b[0] = 3;
                put32(&mut b, 32, *number);
                put32(&mut b, 36, *generation);
            }
            Op::Feed(feeding) => {
                b[0] = 4;
                encode_feeding(&mut b, feeding);
            }
            Op::Ice { endpoint, ice } => {
                b[0] = 6;
                put_endpoint(&mut b, 4, *endpoint);
                b[8..16].copy_from_slice(&ice.ufrag);
                b[16..40].copy_from_slice(&ice.pwd);
            }
            Op::Move { endpoint, from } => {
                b[0] = 7;
                put_endpoint(&mut b, 4, *endpoint);
                put64(&mut b, 8, *from);
            }
        }
        b
    }

    pub(crate) fn decode(b: &Block) -> Result<Op, &'static str> {
        match b[0] {
            1 => decode_spec(b).map(Op::Set),
            2 => {
                zero_but(b, &[0..1, 4..8])?;
                get_endpoint(b, 4).map(Op::Remove)
            }
            3 => {
                zero_but(b, &[0..1, 32..40])?;
                Ok(Op::Acknowledge {
                    number: get32(b, 32),
                    generation: get32(b, 36),
                })
            }
            4 => decode_feeding(b).map(Op::Feed),
            6 => decode_ice(b),
            7 => {
                zero_but(b, &[0..1, 4..16])?;
                Ok(Op::Move {
                    endpoint: get_endpoint(b, 4)?,
                    from: get64(b, 8),
                })
            }
            _ => Err("unknown op"),
        }
    }
}

fn encode_feeding(b: &mut Block, feeding: &Feeding) {
    put_endpoint(b, 4, feeding.endpoint);
    b[1] = match feeding.feed {
        Feed::Own => 0,
        Feed::CopyOf(_) => 1,
        Feed::PartOf(_) => 2,
        Feed::AltOf(_) => 3,
    };
    if let Some(parent) = feeding.feed.parent() {
        put_endpoint(b, 8, parent);
    }
    b[2] = u8::from(feeding.drop_events) | u8::from(feeding.pierce) << 1;
    if let Some(mid) = feeding.mid {
        b[3] = mid.extension;
        b[16..24].copy_from_slice(&mid.name);
    }
}

fn decode_feeding(b: &Block) -> Result<Feeding, &'static str> {
    zero_but(b, &[0..12, 16..24])?;
    let (endpoint, parent) = (get_endpoint(b, 4)?, get_endpoint(b, 8)?);
    let feed = match b[1] {
        0 if parent.to_bits() == 0 => Feed::Own,
        1 => Feed::CopyOf(parent),
        2 => Feed::PartOf(parent),
        3 => Feed::AltOf(parent),
        _ => return Err("fed by nothing known"),
    };
    if feed.parent() == Some(endpoint) {
        return Err("fed by itself");
    }
    let mut name = [0; 8];
    name.copy_from_slice(&b[16..24]);
    let mid = match b[3] {
        0 if name == [0; 8] => None,
        extension if name[0] != 0 && extension != 0 => Some(Mid { extension, name }),
        _ => return Err("half a mid"),
    };
    if b[2] > 3 {
        return Err("unknown flags of a feed");
    }
    Ok(Feeding {
        endpoint,
        feed,
        mid,
        drop_events: b[2] & 1 != 0,
        pierce: b[2] & 2 != 0,
    })
}

fn decode_ice(b: &Block) -> Result<Op, &'static str> {
    zero_but(b, &[0..1, 4..40])?;
    let mut ice = Ice::NONE;
    ice.ufrag.copy_from_slice(&b[8..16]);
    ice.pwd.copy_from_slice(&b[16..40]);
    if !ice.is_sound() {
        return Err("credentials that are not of ice-chars");
    }
    let endpoint = get_endpoint(b, 4)?;
    Ok(Op::Ice { endpoint, ice })
}

fn encode_spec(b: &mut Block, spec: &StreamSpec) {
    b[1] = spec.kind as u8;
    b[2] = spec.learn as u8;
    b[3] = flags(spec);
    put_endpoint(b, 4, spec.endpoint);
    put_endpoint(b, 8, spec.peer);
    b[13] = spec.dscp.to_u8();
    if let Some(remote) = spec.remote {
        encode_remote(b, remote);
    }
    put32(b, 32, spec.signal);
    put32(b, 36, spec.clock_hz);
    b[39] = spec.police;
    put16(b, 40, spec.leg);
    b[42] = spec.media;
    b[43] = spec.event_type;
    put64(b, 44, spec.payload_types as u64);
    put64(b, 52, (spec.payload_types >> 64) as u64);
    put32(b, 60, spec.hint);
}

fn flags(spec: &StreamSpec) -> u8 {
    let bit = |on: bool, bit: u8| if on { bit } else { 0 };
    bit(spec.gate_open, 1)
        | bit(spec.handover, 2)
        | bit(spec.strict_payload, 4)
        | bit(spec.secure, 8)
        | (spec.accept & accept::ALL) << 4
        | bit(spec.capture, 128)
}

fn decode_spec(b: &Block) -> Result<StreamSpec, &'static str> {
    let spec = StreamSpec {
        endpoint: get_endpoint(b, 4)?,
        peer: get_endpoint(b, 8)?,
        remote: decode_remote(b)?,
        kind: Kind::from_u8(b[1]).ok_or("unknown kind")?,
        learn: Learn::from_u8(b[2]).ok_or("unknown way to learn")?,
        handover: b[3] & 2 != 0,
        hint: get32(b, 60),
        gate_open: b[3] & 1 != 0,
        signal: get32(b, 32),
        clock_hz: get32(b, 36) & 0x00ff_ffff,
        payload_types: u128::from(get64(b, 52)) << 64 | u128::from(get64(b, 44)),
        strict_payload: b[3] & 4 != 0,
        event_type: b[43],
        accept: b[3] >> 4 & accept::ALL,
        secure: b[3] & 8 != 0,
        police: b[39],
        capture: b[3] & 128 != 0,
        dscp: Dscp::from_u8(b[13]).ok_or("unknown DSCP")?,
        leg: get16(b, 40),
        media: b[42],
        feed: Feed::Own,
        mid: None,
        drop_events: false,
        pierce: false,
    };
    if spec.event_type > 127 {
        return Err("payload type above 127");
    }
    if usize::from(spec.police) >= MAX_POLICIES {
        return Err("policing profile out of range");
    }
    if spec.clock_hz > MAX_CLOCK_HZ {
        return Err("clock rate out of range");
    }
    Ok(spec)
}

/// The remote address at bytes 12 (IP version), 14..16 (port) and 16..32 (address).
pub(crate) fn decode_remote(b: &Block) -> Result<Option<SocketAddr>, &'static str> {
    let mut octets = [0; 16];
    octets.copy_from_slice(&b[16..32]);
    let [a, c, d, e, rest @ ..] = octets;
    let ip = match b[12] {
        0 if octets == [0; 16] && b[14..16] == [0; 2] => return Ok(None),
        4 if rest == [0; 12] => IpAddr::from([a, c, d, e]),
        6 => IpAddr::from(octets),
        _ => return Err("remote address of no IP version"),
    };
    Ok(Some(SocketAddr::new(ip, get16(b, 14))))
}

/// Writes the remote address where [`decode_remote`] reads it.
pub(crate) fn encode_remote(b: &mut Block, remote: SocketAddr) {
    put16(b, 14, remote.port());
    match remote.ip() {
        IpAddr::V4(ip) => {
            b[12] = 4;
            b[16..20].copy_from_slice(&ip.octets());
        }
        IpAddr::V6(ip) => {
            b[12] = 6;
            b[16..32].copy_from_slice(&ip.octets());
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    /// Every single field out of its range is an error.
    #[test]
    fn fields_out_of_range_are_refused() {
        let endpoint = Endpoint { addr: 1, port: 2 };
        let spec = StreamSpec {
            endpoint,
            peer: endpoint,
            remote: Some("192.0.2.1:4000".parse().unwrap()),
            kind: Kind::Raw,
            learn: Learn::Immediate,
            handover: true,
            hint: 0x0102_0304,
            signal: 9,
            clock_hz: MAX_CLOCK_HZ,
            payload_types: 1 << 127 | 1 << 101 | 1,
            strict_payload: true,
            event_type: 101,
            accept: accept::DTLS | accept::STUN,
            secure: true,
            police: 15,
            capture: true,
            dscp: Dscp::Set(63),
            leg: 1,
            media: 2,
            ..StreamSpec::new(endpoint, endpoint)
        };
        let good = Op::Set(spec).encode();
        assert_eq!(Op::decode(&good), Ok(Op::Set(spec)));
        for dscp in [Dscp::Default, Dscp::Copy, Dscp::Set(0)] {
            let spec = StreamSpec { dscp, ..spec };
            assert_eq!(Op::decode(&Op::Set(spec).encode()), Ok(Op::Set(spec)));
        }
        let [low, mid, high, _] = (MAX_CLOCK_HZ + 1).to_le_bytes();
        let bad: [(usize, &[u8]); 13] = [
            (0, &[0]),
            (0, &[9]),
            (1, &[3]),
            (2, &[5]),
            (39, &[16]),
            (4, &[64, 0]),
            (8, &[64, 0]),
            (12, &[0]),
            (12, &[5]),
            (13, &[66]),
            (20, &[1]),
            (36, &[low, mid, high]),
            (43, &[128]),
        ];
        for (at, bytes) in bad {
            let mut b = good;
            b[at..at + bytes.len()].copy_from_slice(bytes);
            assert!(Op::decode(&b).is_err(), "{bytes:?} at {at}");
        }
        let parent = Endpoint { addr: 2, port: 3 };
        let feeding = Feeding {
            endpoint,
            feed: Feed::PartOf(parent),
            mid: Some(Mid {
                extension: 14,
                name: *b"video\0\0\0",
            }),
            drop_events: true,
            pierce: true,
        };
        for feed in [
            Feed::Own,
            Feed::CopyOf(parent),
            Feed::PartOf(parent),
            Feed::AltOf(parent),
        ] {
            for mid in [None, feeding.mid] {
                for pierce in [false, true] {
                    let op = Op::Feed(Feeding {
                        feed,
                        mid,
                        pierce,
                        ..feeding
                    });
                    assert_eq!(Op::decode(&op.encode()), Ok(op));
                }
            }
        }
        let bad: [(usize, &[u8]); 7] = [
            (1, &[0]),
            (1, &[4]),
            (2, &[4]),
            (3, &[0]),
            (8, &[64, 0]),
            (8, &[1, 0, 2, 0]),
            (16, &[0]),
        ];
        for (at, bytes) in bad {
            let mut b = Op::Feed(feeding).encode();
            b[at..at + bytes.len()].copy_from_slice(bytes);
            assert!(Op::decode(&b).is_err(), "{bytes:?} at {at}");
        }
        for (op, stray) in [
            (Op::Remove(endpoint), 8),
            (Op::Move { endpoint, from: 7 }, 16),
            (Op::Feed(feeding), 24),
            (
                Op::Acknowledge {
                    number: 1,
                    generation: 2,
                },
                4,
            ),
            (
                Op::Ice {
                    endpoint,
                    ice: Ice {
                        ufrag: *b"aZ09+/zA",
                        pwd: *b"0123456789abcdefghijklmn",
                    },
                },
                40,
            ),
        ] {
            let mut b = op.encode();
            assert_eq!(Op::decode(&b), Ok(op));
            b[stray] = 1;
            assert!(Op::decode(&b).is_err(), "{op:?}");
        }
        for ice in [
            Ice::NONE,
            Ice {
                ufrag: *b"12345678",
                pwd: *b"0123456789abcdefghijkl n",
            },
        ] {
            assert!(
                Op::decode(&Op::Ice { endpoint, ice }.encode()).is_err(),
                "{ice:?}"
            );
        }
        let header = Header {
            seq: 1,
            call: 2,
            count: MAX_OPS as u16,
        };
        assert!(Header::decode(&header.encode()).is_ok());
        assert!(
            Header::decode(
                &Header {
                    count: MAX_OPS as u16 + 1,
                    ..header
                }
                .encode()
            )
            .is_err()
        );
    }
}
