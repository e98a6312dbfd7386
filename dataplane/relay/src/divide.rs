//! Which stream a packet is of, where several share one endpoint: BUNDLE (RFC 9143, 9.2) and RTCP that is multiplexed on
//! one side of the plane alone (RFC 5761).
//!
//! | packet | is of |
//! | --- | --- |
//! | RTCP | the part that knows the sender's SSRC, else the parent; there, of its RTCP part (that of its media), if it has one |
//! | RTP with a mid (RFC 8285) that a stream here has | that stream |
//! | RTP of an SSRC that a part knows | that part |
//! | RTP of a payload type that the parent has not and a part has | that part |
//! | anything else | the parent |
//!
//! A part knows the SSRCs that the second and the last but one of these rules have brought it: see [`note`].

use crate::classify::Udp;
use crate::headers::{Ipv4, Ipv6, Rtcp, Rtp, UdpHeader};
use crate::meter;
use crate::rtcp;
use penstock_shm::record::{Kind, Slot};
use penstock_shm::tally::Tally;

/// Header extension elements that are looked at.
const ELEMENTS: usize = 32;

/// A stream at a shared endpoint.
#[derive(Clone, Copy)]
pub struct Member<'a> {
    /// Policy and route.
    pub slot: &'a Slot,
    /// Its counters.
    pub tally: &'a Tally,
}

impl Member<'_> {
    fn is(&self, kind: Kind) -> bool {
        self.slot.kind == kind as u8
    }

    fn knows(&self, ssrc: u32) -> bool {
        self.is(Kind::Rtp) && self.tally.fed().knows(ssrc)
    }
}

/// Whose a packet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Whose {
    /// Which part's; `None` for the parent's.
    pub part: Option<usize>,
    /// The SSRC that is known by this packet to be the stream's: to be told to [`note`] if it passes.
    pub ssrc: Option<u32>,
}

impl Whose {
    const PARENT: Whose = Whose {
        part: None,
        ssrc: None,
    };
}

/// Finds the stream of a datagram that arrived at the endpoint of `parent`, an RTP stream; `parts` are those of the others
/// there, of any kind.
pub fn divide(frame: &[u8], udp: &Udp, parent: Member<'_>, parts: &[Member<'_>]) -> Whose {
    let ip_len = if udp.v6 { Ipv6::LEN } else { Ipv4::LEN };
    let from = udp.l3 + ip_len + UdpHeader::LEN;
    let end = (udp.l3 + ip_len).saturating_add(udp.length);
    let Some(payload) = frame.get(from..end) else {
        return Whose::PARENT;
    };
    match *payload {
        // What is neither is for the whole port: RFC 7983.
        [first, second, ..] if parent.is(Kind::Rtp) && first >> 6 == 2 => {
            if rtcp::is_rtcp(second) {
                report(payload, parent, parts)
            } else {
                media(payload, parent, parts)
            }
        }
        _ => Whose::PARENT,
    }
}

/// RTCP: the sender's SSRC follows the first header, which SRTCP does not encrypt.
fn report(payload: &[u8], parent: Member<'_>, parts: &[Member<'_>]) -> Whose {
    let sender = Rtcp::split(payload).and_then(|(_, rest)| rest.first_chunk());
    let sender = sender.map(|octets| u32::from_be_bytes(*octets));
    let of = sender.and_then(|ssrc| parts.iter().position(|part| part.knows(ssrc)));
    let media = of.and_then(|at| parts.get(at)).unwrap_or(&parent).slot;
    let is_its_rtcp = |part: &Member<'_>| {
        let same = (part.slot.leg, part.slot.media) == (media.leg, media.media);
        part.is(Kind::Rtcp) && same
    };
    Whose {
        part: parts.iter().position(is_its_rtcp).or(of),
        ssrc: None,
    }
}

fn media(payload: &[u8], parent: Member<'_>, parts: &[Member<'_>]) -> Whose {
    let Some((rtp, rest)) = Rtp::split(payload) else {
        return Whose::PARENT;
    };
    let ssrc = u32::from_be(rtp.ssrc_word());
    let mut whose = None;
    elements(rtp, rest, |extension, name| {
        let is_it = |slot: &Slot| slot.mid_extension == extension && is_named(&slot.mid, name);
        let named = |part: &Member<'_>| part.is(Kind::Rtp) && is_it(part.slot);
        whose = match parts.iter().position(named) {
            None if is_it(parent.slot) => Some(None),
            None => None,
            part => Some(part),
        };
        whose.is_some()
    });
    if let Some(part) = whose {
        let ssrc = Some(ssrc);
        return Whose { part, ssrc };
    }
    if let Some(at) = parts.iter().position(|part| part.knows(ssrc)) {
        let (part, ssrc) = (Some(at), None);
        return Whose { part, ssrc };
    }
    let payload_type = rtp.payload_type();
    let has = |part: &Member<'_>| {
        let any = part.slot.payload_types == [0; 2];
        part.is(Kind::Rtp) && !any && meter::negotiated(part.slot, payload_type)
    };
    match parts.iter().position(has) {
        Some(at) if !meter::negotiated(parent.slot, payload_type) => Whose {
            part: Some(at),
            ssrc: Some(ssrc),
        },
        _ => Whose::PARENT,
    }
}

/// Whether a mid, padded with zeros, is these octets.
fn is_named(mid: &[u8; 8], name: &[u8]) -> bool {
    let len = mid
        .iter()
        .position(|octet| *octet == 0)
        .unwrap_or(mid.len());
    mid.get(..len) == Some(name)
}

/// Shows the packet's header extension elements (RFC 8285, 4.2 and 4.3) to `is_enough`, number and data, until it says so.
fn elements(rtp: Rtp<'_>, rest: &[u8], mut is_enough: impl FnMut(u8, &[u8]) -> bool) {
    let csrcs = 4 * usize::from(rtp.csrc_count());
    let behind = rest.get(csrcs..).filter(|_| rtp.has_extension());
    let Some((&[a, b, c, d], behind)) = behind.and_then(<[u8]>::split_first_chunk) else {
        return;
    };
    let is_one_byte = match u16::from_be_bytes([a, b]) {
        0xbede => true,
        profile if profile >> 4 == 0x100 => false,
        _ => return,
    };
    let words = usize::from(u16::from_be_bytes([c, d]));
    let Some(mut left) = behind.get(..4 * words) else {
        return;
    };
    let mut seen = 0;
    while let [first, next @ ..] = left {
        left = next;
        // Padding, or what no element begins with: the rest is to be left alone.
        let (number, len) = match (is_one_byte, *first, next) {
            (_, 0, _) => continue,
            (true, first, _) if first >> 4 == 15 => return,
            (true, first, _) => (first >> 4, usize::from(first & 15) + 1),
            (false, number, [len, behind @ ..]) => {
                left = behind;
                (number, usize::from(*len))
            }
            (false, ..) => return,
        };
        let Some((data, behind)) = left.split_at_checked(len) else {
            return;
        };
        seen += 1;
        if is_enough(number, data) || seen == ELEMENTS {
            return;
        }
        left = behind;
    }
}

/// A packet of this SSRC was the stream's (`part`, or the parent's for `None`): it is no other's from now on.
pub fn note(ssrc: u32, part: Option<usize>, parts: &[Member<'_>]) {
    for (at, member) in parts.iter().enumerate() {
        let fed = member.tally.fed();
        if Some(at) == part {
            fed.learn(ssrc);
        } else if fed.knows(ssrc) {
            fed.forget(ssrc);
        }
    }
}
