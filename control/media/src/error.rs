//! Why an operation was refused.

use crate::{Family, MAX_MEDIA, MAX_NAMES, MAX_TAGS};
use penstock_sdp::SdpError;
use std::net::IpAddr;
use thiserror::Error;

/// A change of the configuration that calls stand in the way of.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("interface \"{interface}\" ({ip}, ports {}-{}) cannot be removed, moved or shrunk while calls use it: {}", ports.0, ports.1, name_some(calls))]
pub struct Held {
    /// The interface as it is.
    pub interface: String,
    /// Its address.
    pub ip: IpAddr,
    /// Its ports.
    pub ports: (u16, u16),
    /// The Call-IDs; none if the calls are still being set up.
    pub calls: Vec<String>,
}

/// Call-IDs named in a sentence.
const NAMED: usize = 5;

fn name_some(calls: &[String]) -> String {
    match calls.len() {
        0 => "one that is being set up".to_owned(),
        n if n <= NAMED => calls.join(", "),
        n => format!("{} and {} more", calls[..NAMED].join(", "), n - NAMED),
    }
}

/// What rtpengine says of a body that cannot be relayed.
fn refusal(error: &SdpError) -> &'static str {
    use SdpError::{NoConnection, NoMedia, NotOneLine, NotOneWord, RewriteCount};
    match error {
        NoConnection { .. } => "Incomplete SDP specification",
        NoMedia | RewriteCount { .. } | NotOneWord { .. } | NotOneLine { .. } => {
            "Error rewriting SDP"
        }
        _ => "Failed to parse SDP",
    }
}

/// Why an operation was refused. The texts that rtpengine's clients match on are its own.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum MediaError {
    /// An answer or a query for a call nobody offered.
    #[error("Unknown call-id")]
    UnknownCall,
    /// An answer whose from-tag made no offer.
    #[error("From-tag not found")]
    UnknownTag,
    /// Legs cannot be connected: one of them is unknown.
    #[error("To-tag not found")]
    UnknownToTag,
    /// Two calls cannot become one.
    #[error("Failed to merge two calls into one (tag collision)")]
    TagCollision,
    /// Legs cannot be connected: neither could do anything with what the other sends.
    #[error(
        "The legs have no media in common that could pass: of one kind, over one transport, not encrypted"
    )]
    NothingInCommon,
    /// A command for a call nobody offered.
    #[error("Unknown call-ID")]
    NoCall,
    /// A command for a tag that the call does not have.
    #[error("From-tag given, but no such tag exists")]
    NoTag,
    /// No leg fits what was asked for.
    #[error("No leg of the call fits the tags, label or address")]
    NoLeg,
    /// A copy that nobody could read.
    #[error("Media is encrypted between the legs: a copy of it cannot be read")]
    Encrypted,
    /// A delete that fits no dialog.
    #[error("Call-ID not found or tags didn't match")]
    NoMatch,
    /// The body is not fit to be relayed.
    #[error("{what}: {0}", what = refusal(.0))]
    Sdp(#[from] SdpError),
    /// A pool is empty, or all that is left of it rests.
    #[error("Ran out of ports")]
    OutOfPorts,
    /// As many calls as the configuration allows.
    #[error("Parallel session limit reached")]
    TooManyCalls,
    /// Control drains: calls that stand go on, new ones are refused.
    #[error("No new calls: this relay is being drained")]
    Draining,
    /// Too many media sections for one call.
    #[error("Too many media sections in one call, the limit is {MAX_MEDIA}")]
    TooManyMedia,
    /// Too many tags for one call.
    #[error("Too many tags in one call, the limit is {MAX_TAGS}")]
    TooManyTags,
    /// Too many calls became one.
    #[error("Too many Call-IDs in one call, the limit is {MAX_NAMES}")]
    TooManyNames,
    /// Two calls that cannot become one: between them they had more dialogs than there are numbers.
    #[error("The two calls have had too many dialogs to become one")]
    TooManyDialogs,
    /// The answer has m= lines that the offer had not.
    #[error("The answer has {answered} media sections, the offer had {offered}")]
    AnswerCount {
        /// m= lines of the answer.
        answered: usize,
        /// m= lines of the offer.
        offered: usize,
    },
    /// `direction` names an interface that is not configured.
    #[error("Unknown interface \"{0}\"")]
    UnknownInterface(String),
    /// The leg's address cannot be reached from its interface, or does not stand for it.
    #[error("Address {address} is not of the address family of interface \"{interface}\"")]
    Family {
        /// From the SDP, or for it.
        address: IpAddr,
        /// The leg's interface.
        interface: String,
    },
    /// An address that reaches no one party from here.
    #[error("Media cannot be sent to {0}, a loopback, multicast or broadcast address")]
    NoDestination(IpAddr),
    /// The other leg is to be faced by an address of a family that no interface has.
    #[error("No interface has an {0} address")]
    NoInterface(Family),
    /// A conversion that would need keys.
    #[error("Cannot convert {from} to {to}: media is not encrypted or decrypted here")]
    Profile {
        /// Transport offered.
        from: String,
        /// Transport asked for.
        to: String,
    },
}
