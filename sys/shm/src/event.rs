//! Events: what the plane tells control. One 64-byte slot each.
//!
//! | event | bytes |
//! | --- | --- |
//! | any | 0 tag (1 refused, 2 latched), 4..6 address and 6..8 port of the endpoint |
//! | refused | 1 reason, 32..40 number of the command |
//! | latched | 12 IP version, 14..16 port, 16..32 address of the remote, 32..36 signal |

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
}

impl Refusal {
    /// Every refusal.
    pub const ALL: [Refusal; 7] = [
        Refusal::TableFull,
        Refusal::NoSuchAddress,
        Refusal::WrongFamily,
        Refusal::TooManyNextHops,
        Refusal::NoRoute,
        Refusal::Malformed,
        Refusal::WorkerStuck,
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
            _ => Err("unknown event"),
        }
    }
}
