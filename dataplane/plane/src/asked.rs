//! Who is expected to speak: so that answers the steward waits for, and questions of those it knows, do not queue behind what
//! strangers say.
//!
//! The steward notes each question that it asks; a worker that sees the answer takes the note. One answer a question has
//! a way of its own, whatever else claims to be one goes with the rest, so a flood of forged answers gains nothing: who is
//! asked alone, at a known MAC, is answered for by that MAC only. In the same way each next hop may have one question under
//! way at a time: a forged one that goes ahead in its name brings it the answer it would have asked for.

use crate::neighbour::{Key, Mac};
use penstock_relay::LocalAddrs;
use penstock_relay::local::{NdKind, arp_parse, nd_parse};
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, Ordering};

/// Notes of each kind there is room for: a newer one takes the place of an older one.
const PLACES: usize = 65_536;

/// Who is expected to say what. The notes' places are secret: nobody can aim at one.
pub struct Asked {
    secret: RandomState,
    answers: Box<[AtomicU32]>,
    questions: Box<[AtomicU32]>,
}

/// What ARP and neighbour discovery have in common.
struct Message {
    is_answer: bool,
    vlan: u16,
    /// The address that it has to do with here.
    to: IpAddr,
    from: IpAddr,
    /// Where it says that it is.
    said: Option<Mac>,
    /// Whose frame it is.
    sender: Mac,
}

impl Asked {
    /// Nobody.
    pub fn new() -> Asked {
        let places = || (0..PLACES).map(|_| AtomicU32::new(0)).collect();
        Asked {
            secret: RandomState::new(),
            answers: places(),
            questions: places(),
        }
    }

    /// The neighbour is about to be asked: this MAC alone, or everyone.
    pub fn ask(&self, key: Key, at: Option<Mac>) {
        let (place, mark) = self.find(&self.answers, key, at);
        // Relaxed, as below: a note that comes late sends the answer the other way, no more.
        place.store(mark, Ordering::Relaxed);
    }

    /// A next hop that is known to be at this MAC may ask.
    pub fn may_ask(&self, key: Key, at: Mac) {
        let (place, mark) = self.find(&self.questions, key, Some(at));
        place.store(mark, Ordering::Relaxed);
    }

    /// Whether a frame that came to `port` was expected; the next one like it is not.
    pub fn expects(&self, port: u8, frame: &[u8], locals: &LocalAddrs) -> bool {
        let Some(message) = arp(frame).or_else(|| nd(frame)) else {
            return false;
        };
        let (vlan, ip) = (message.vlan, message.from);
        let key = Key { port, vlan, ip };
        let at = Some(message.said.unwrap_or(message.sender));
        if locals.get(vlan, message.to).is_none() {
            return false;
        }
        if !message.is_answer {
            return self.take(&self.questions, key, at);
        }
        self.take(&self.answers, key, at)
            || message.said.is_some() && self.take(&self.answers, key, None)
    }

    fn take(&self, places: &[AtomicU32], key: Key, at: Option<Mac>) -> bool {
        let (place, mark) = self.find(places, key, at);
        let order = Ordering::Relaxed;
        place.load(order) == mark && place.compare_exchange(mark, 0, order, order).is_ok()
    }

    fn find<'a>(&self, places: &'a [AtomicU32], key: Key, at: Option<Mac>) -> (&'a AtomicU32, u32) {
        let hash = self.secret.hash_one((key, at));
        (&places[hash as usize % PLACES], (hash >> 32) as u32 | 1)
    }
}

fn arp(frame: &[u8]) -> Option<Message> {
    let arp = arp_parse(frame)?;
    Some(Message {
        is_answer: !arp.is_request,
        vlan: arp.vlan,
        to: arp.target_ip.into(),
        from: arp.sender_ip.into(),
        said: Some(arp.sender_mac),
        sender: arp.sender_mac,
    })
}

fn nd(frame: &[u8]) -> Option<Message> {
    let nd = nd_parse(frame)?;
    let (is_answer, from, to) = match nd.kind {
        NdKind::Solicitation => (false, nd.source, nd.target),
        NdKind::Advertisement { solicited: true } => (true, nd.target, nd.destination),
        NdKind::Advertisement { solicited: false } => return None,
    };
    Some(Message {
        is_answer,
        vlan: nd.vlan,
        to: to.into(),
        from: from.into(),
        said: nd.mac,
        sender: nd.link_source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use penstock_relay::local::{arp_probe, arp_reply, arp_request};
    use penstock_relay::local::{nd_advertisement, nd_announcement, nd_probe, nd_solicitation};
    use std::net::{Ipv4Addr, Ipv6Addr};

    const US: Mac = [2, 0, 0, 0, 0, 1];
    const THEM: Mac = [2, 0, 0, 0, 0, 2];
    const THIEF: Mac = [2, 0, 0, 0, 0, 3];
    const OUR_4: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
    const THEIR_4: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
    const OUR_6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1);
    const THEIR_6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2);

    fn key(ip: impl Into<IpAddr>) -> Key {
        let (port, vlan, ip) = (0, 0, ip.into());
        Key { port, vlan, ip }
    }

    fn locals() -> LocalAddrs {
        let mut locals = LocalAddrs::new();
        locals.insert(0, OUR_4.into(), 0).unwrap();
        locals.insert(0, OUR_6.into(), 1).unwrap();
        locals
    }

    /// The answers to questions by ARP and by neighbour discovery, from this MAC.
    fn answers(mac: Mac) -> [(Key, Vec<u8>); 2] {
        let asked = arp_parse(&arp_request(US, OUR_4, 0, THEIR_4)).unwrap();
        let solicited = nd_parse(&nd_solicitation(US, OUR_6, 0, THEIR_6)).unwrap();
        [
            (key(THEIR_4), arp_reply(&asked, mac).to_vec()),
            (key(THEIR_6), nd_advertisement(&solicited, mac)),
        ]
    }

    #[test]
    fn a_question_has_one_answer() {
        let (asked, locals) = (Asked::new(), locals());
        for (key, frame) in answers(THEM) {
            assert!(!asked.expects(0, &frame, &locals), "nobody asked");
            asked.ask(key, None);
            assert!(!asked.expects(1, &frame, &locals), "another port");
            assert!(asked.expects(0, &frame, &locals));
            assert!(!asked.expects(0, &frame, &locals), "a second one");
        }
    }

    #[test]
    fn who_is_asked_alone_answers_itself() {
        let (asked, locals) = (Asked::new(), locals());
        for ((key, forged), (_, frame)) in answers(THIEF).into_iter().zip(answers(THEM)) {
            asked.ask(key, Some(THEM));
            assert!(!asked.expects(0, &forged, &locals));
            assert!(asked.expects(0, &frame, &locals));
        }
    }

    #[test]
    fn a_next_hop_has_one_question_at_a_time() {
        let (asked, locals) = (Asked::new(), locals());
        let questions = |mac| {
            let arp = arp_probe(mac, THEIR_4, 0, OUR_4, US).to_vec();
            let nd = nd_probe(mac, THEIR_6, 0, OUR_6, US);
            [(key(THEIR_4), arp), (key(THEIR_6), nd)]
        };
        for ((key, frame), (_, forged)) in questions(THEM).into_iter().zip(questions(THIEF)) {
            assert!(!asked.expects(0, &frame, &locals), "a stranger");
            asked.may_ask(key, THEM);
            assert!(!asked.expects(0, &forged, &locals));
            assert!(asked.expects(0, &frame, &locals));
            assert!(!asked.expects(0, &frame, &locals), "a second one");
        }
    }

    #[test]
    fn what_is_no_answer_takes_none_away() {
        let (asked, locals) = (Asked::new(), locals());
        let to_others = arp_parse(&arp_request(US, THEIR_4, 0, OUR_4)).unwrap();
        let others: [Vec<u8>; 5] = [
            arp_request(THEM, THEIR_4, 0, OUR_4).to_vec(),
            arp_probe(THEM, THEIR_4, 0, OUR_4, US).to_vec(),
            arp_reply(&to_others, THEM).to_vec(),
            nd_announcement(THEM, THEIR_6, 0),
            nd_probe(THEM, THEIR_6, 0, OUR_6, US),
        ];
        for (key, frame) in answers(THEM) {
            asked.ask(key, Some(THEM));
            asked.ask(key, None);
            for other in &others {
                assert!(!asked.expects(0, other, &locals));
            }
            assert!(asked.expects(0, &frame, &locals));
        }
    }
}
