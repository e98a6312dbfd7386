//! Events: what the plane tells control. One 64-byte slot each.
//!
//! | event | bytes |
//! | --- | --- |
//! | any | 0 tag (1 refused, 2 latched, 3 media, 4 port, 5 worker), 4..6 address and 6..8 port of the endpoint |
//! | refused | 1 reason, 32..40 number of the command |
//! | latched | 12 IP version, 14..16 port, 16..32 address of the remote, 32..36 signal |
//! | media | 1 state |
//! | port | 1 up, 4..6 number of the port |
//! | worker | 1 hangs, 4..6 number of the worker |

use crate::bytes::{Block, get16, get32, get64, put16, put32, put64, zero_but};
use crate::command::{decode_remote, encode_remote};
use crate::record::Endpoint;
use std::net::SocketAddr;

/// Why a command was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[repr(u8)]
pub enum Refusal {
    /// Every record of the table is in use.
    #[error("the stream table is full")]
    TableFull = 1,
    /// The plane has no such local address.
    #[error("the plane has no such local address")]
    NoSuchAddress = 2,
    /// The endpoint and the remote are not of one IP version.
    #[error("the remote is not of the endpoint's IP version")]
    WrongFamily = 3,
    /// The adjacency table is full.
    #[error("too many next hops")]
    TooManyNextHops = 4,
    /// No port of the plane leads to the remote.
    #[error("no route to the remote")]
    NoRoute = 5,
    /// The command could not be read.
    #[error("the command is malformed")]
    Malformed = 6,
    /// A worker does not answer, so a slot it might read could not be filled.
    #[error("a worker of the plane hangs")]
    WorkerStuck = 7,
    /// More copies than [`MAX_COPIES`](crate::MAX_COPIES) or parts than [`MAX_PARTS`](crate::MAX_PARTS) of one endpoint.
    #[error("too many streams are fed by one endpoint")]
    TooManyFed = 8,
}

impl Refusal {
    /// Every refusal.
    pub const ALL: [Refusal; 8] = [
        Refusal::TableFull,
        Refusal::NoSuchAddress,
        Refusal::WrongFamily,
        Refusal::TooManyNextHops,
        Refusal::NoRoute,
        Refusal::Malformed,
        Refusal::WorkerStuck,
        Refusal::TooManyFed,
    ];
}

/// What the plane tells control.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A command, or one entry of it, was not carried out.
    Refused {
        /// The command's number.
        seq: u64,
        /// Why.
        reason: Refusal,
        /// The entry's endpoint; that of number 0, port 0 if the command has none.
        endpoint: Endpoint,
    },
    /// A stream learned its source.
    Latched {
        /// The stream.
        endpoint: Endpoint,
        /// The source it accepts now.
        remote: SocketAddr,
        /// The [`crate::StreamSpec::signal`] it was learned under.
        signal: u32,
    },
    /// A timer of a stream ran out, or its media is back.
    Media {
        /// The stream.
        endpoint: Endpoint,
        /// What is the matter.
        state: MediaState,
    },
    /// A port's link went up or down.
    Port {
        /// Number of the port, in the order of the configuration.
        port: u16,
        /// Up now.
        up: bool,
    },
    /// A worker hangs, or goes on.
    Worker {
        /// Its number.
        worker: u16,
        /// It has not turned for a second.
        hangs: bool,
    },
}

/// How the media of a stream is, by the plane's timers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum MediaState {
    /// It flows.
    Flows = 1,
    /// Nothing has come since the stream was installed.
    NoStart = 2,
    /// Nothing has come lately.
    Silent = 3,
    /// Nothing comes here, while the peer's media flows.
    OneWay = 4,
}

/// How long a stream's media may stay away, ns; 0 for ever.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timers {
    /// After the stream was signalled, until the first packet.
    pub start_ns: u64,
    /// After the last packet.
    pub silence_ns: u64,
    /// The same while the gate is closed (hold).
    pub hold_ns: u64,
    /// After the last packet, while the peer's media flows.
    pub one_way_ns: u64,
}

/// What the timers are held against; times in ns of CLOCK_MONOTONIC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// When the stream was last signalled anew.
    pub signalled_ns: u64,
    /// When its last packet came; 0 for never.
    pub last_ns: u64,
    /// When its peer's last packet came; 0 for never.
    pub peer_ns: u64,
    /// Whether its gate is open.
    pub gate_open: bool,
}

impl MediaState {
    /// How the media is at `now_ns`.
    pub fn at(now_ns: u64, seen: Seen, timers: &Timers) -> MediaState {
        let past = |limit_ns: u64, since_ns: u64| {
            limit_ns != 0 && now_ns.saturating_sub(since_ns) >= limit_ns
        };
        let since_ns = seen.signalled_ns.max(seen.last_ns);
        // Flows: seen within the time that makes this side's silence count.
        let peer_flows =
            seen.peer_ns != 0 && now_ns.saturating_sub(seen.peer_ns) < timers.one_way_ns;
        let (limit_ns, silent) = match (seen.gate_open, seen.last_ns) {
            (false, _) => (timers.hold_ns, MediaState::Silent),
            (true, 0) => (timers.start_ns, MediaState::NoStart),
            (true, _) => (timers.silence_ns, MediaState::Silent),
        };
        if past(limit_ns, since_ns) {
            silent
        } else if seen.gate_open && peer_flows && past(timers.one_way_ns, since_ns) {
            MediaState::OneWay
        } else {
            MediaState::Flows
        }
    }

    /// The state of this number, if there is one.
    pub const fn from_u8(number: u8) -> Option<MediaState> {
        match number {
            1 => Some(MediaState::Flows),
            2 => Some(MediaState::NoStart),
            3 => Some(MediaState::Silent),
            4 => Some(MediaState::OneWay),
            _ => None,
        }
    }
}

/// An event that cannot be what the plane meant; it is skipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an event of the ring is malformed: {why}")]
pub struct BadEvent {
    /// What is wrong.
    pub why: &'static str,
}

impl Event {
    pub(crate) fn encode(&self) -> Block {
        let mut b = [0; 64];
        match self {
            Event::Refused {
                seq,
                reason,
                endpoint,
            } => {
                b[0] = 1;
                b[1] = *reason as u8;
                put16(&mut b, 4, endpoint.addr);
                put16(&mut b, 6, endpoint.port);
                put64(&mut b, 32, *seq);
            }
            Event::Latched {
                endpoint,
                remote,
                signal,
            } => {
                b[0] = 2;
                put16(&mut b, 4, endpoint.addr);
                put16(&mut b, 6, endpoint.port);
                encode_remote(&mut b, *remote);
                put32(&mut b, 32, *signal);
            }
            Event::Media { endpoint, state } => {
                b[0] = 3;
                b[1] = *state as u8;
                put16(&mut b, 4, endpoint.addr);
                put16(&mut b, 6, endpoint.port);
            }
            Event::Port { port, up } => {
                b[0] = 4;
                b[1] = u8::from(*up);
                put16(&mut b, 4, *port);
            }
            Event::Worker { worker, hangs } => {
                b[0] = 5;
                b[1] = u8::from(*hangs);
                put16(&mut b, 4, *worker);
            }
        }
        b
    }

    pub(crate) fn decode(b: &Block) -> Result<Event, BadEvent> {
        Event::parse(b).map_err(|why| BadEvent { why })
    }

    fn parse(b: &Block) -> Result<Event, &'static str> {
        let endpoint = Endpoint {
            addr: get16(b, 4),
            port: get16(b, 6),
        };
        match b[0] {
            1 => {
                zero_but(b, &[0..2, 4..8, 32..40])?;
                let reason = Refusal::ALL.into_iter().find(|r| *r as u8 == b[1]);
                let reason = reason.ok_or("unknown refusal")?;
                Ok(Event::Refused {
                    seq: get64(b, 32),
                    reason,
                    endpoint,
                })
            }
            2 => {
                zero_but(b, &[0..1, 4..8, 12..13, 14..36])?;
                let remote = decode_remote(b)?.ok_or("no remote")?;
                Ok(Event::Latched {
                    endpoint,
                    remote,
                    signal: get32(b, 32),
                })
            }
            3 => {
                zero_but(b, &[0..2, 4..8])?;
                let state = MediaState::from_u8(b[1]).ok_or("unknown state of media")?;
                Ok(Event::Media { endpoint, state })
            }
            4 | 5 => {
                zero_but(b, &[0..2, 4..6])?;
                let yes = match b[1] {
                    0 => false,
                    1 => true,
                    _ => return Err("neither yes nor no"),
                };
                let number = endpoint.addr;
                Ok(match b[0] {
                    4 => Event::Port {
                        port: number,
                        up: yes,
                    },
                    _ => Event::Worker {
                        worker: number,
                        hangs: yes,
                    },
                })
            }
            _ => Err("unknown event"),
        }
    }
}
