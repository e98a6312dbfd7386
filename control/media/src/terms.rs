//! What the legs agree upon with the relay rather than with each other: multiplexing (RFC 5761),
//! bundling (RFC 9143), ICE (RFC 8445).
//!
//! Each is in force at a leg once it has said so and was told so.

use crate::call::{Dialog, Mux};
use crate::diff::{Ice, Kind};
use crate::hear::is_host;
use crate::options::{IceWish, Options};
use penstock_sdp::Sdp;

/// URI of the header extension that carries a mid.
const MID_URI: &str = "urn:ietf:params:rtp-hdrext:sdes:mid";

/// Longest mid that the plane tells packets by.
const MAX_MID: usize = 8;

/// Lines that describe the formats of a section, as far as they are remembered.
const MAX_DESCRIBED: usize = 64;

impl Dialog {
    /// Takes over what a body says of its sections together.
    pub(crate) fn hear_session(
        &mut self,
        side: usize,
        (positions, sdp): (&[usize], &Sdp),
        is_offer: bool,
    ) {
        let is_lite = sdp.is_ice_lite();
        for (idx, (&position, said)) in positions.iter().zip(sdp.media()).enumerate() {
            let head = bundle(sdp, idx).and_then(|first| positions.get(first));
            let media = &mut self.medias[position];
            let own = &mut media.sides[side];
            own.ice_lite = is_lite;
            let hosts = said.candidates.iter().filter(|_| is_lite);
            let hosts = hosts.map(|host| (host.component, host.address));
            own.candidates = hosts.filter(|(_, at)| is_host(at)).collect();
            let ufrag = said.ice_ufrag.clone();
            // Other credentials than before in an offer: a restart (RFC 8839 section 4.4.1.1.1). Ours follow once it is
            // told them. In an answer they are another fork's, which has been told ours.
            if is_offer && own.ice.is_some() && own.ice != ufrag {
                self.legs[side].restarts = true;
            }
            own.ice = ufrag;
            own.trickles = said.trickle;
            own.mid.clone_from(&said.mid);
            let extension = said.extmaps.iter().find(|map| map.uri == MID_URI);
            own.mid_extension = extension
                .and_then(|map| u8::try_from(map.number).ok())
                .filter(|number| (1..=14).contains(number))
                .unwrap_or(0);
            own.bundle = head.and_then(|&head| u16::try_from(head).ok());
            own.described = sdp.described(said).take(MAX_DESCRIBED).collect();
            if said.port == 0 && !own.declined {
                let head = head.map(|&head| self.medias[head].sides[side].clone());
                let own = &mut self.medias[position].sides[side];
                match head.filter(|head| !head.declined) {
                    Some(head) => (own.remote, own.remote_rtcp) = (head.remote, head.remote_rtcp),
                    None => own.declined = true,
                }
            }
        }
    }

    pub(crate) fn offer_mux(&mut self, from: usize, options: &Options) {
        let wish = options.mux;
        for media in self.medias.iter_mut().filter(|media| media.has_rtcp) {
            let offered = media.sides[from].offers_mux();
            let stands = media.is_muxed(1 - from);
            media.mux = match (wish.demux || wish.accept, wish.reject) {
                (true, _) => Mux::Accept,
                (false, true) => Mux::Reject,
                (false, false) => Mux::Pass,
            };
            let passes = (offered || stands) && !wish.demux;
            media.sides[1 - from].told_mux = wish.offer || wish.require || passes;
        }
    }

    pub(crate) fn answer_mux(&mut self, offerer: usize) {
        for media in &mut self.medias {
            let is_answered = media.is_muxed(1 - offerer);
            let own = &mut media.sides[offerer];
            own.told_mux = own.mux
                && match media.mux {
                    Mux::Pass => is_answered,
                    Mux::Accept => true,
                    Mux::Reject => false,
                };
        }
    }

    pub(crate) fn offer_ice(&mut self, from: usize, options: &Options) {
        let to = 1 - from;
        self.rejects_ice = options.reject_ice;
        for media in &mut self.medias {
            let can = media.is_relayed();
            let offered = media.sides[from].ice.is_some();
            media.sides[to].told_ice = can
                && match options.ice {
                    IceWish::Default => offered,
                    IceWish::Remove => false,
                    IceWish::Force | IceWish::Optional => true,
                };
        }
        self.key(to, options.ice_keys.map(|keys| keys[1]));
    }

    pub(crate) fn answer_ice(&mut self, offerer: usize, options: &Options) {
        for media in &mut self.medias {
            let is_refused = self.rejects_ice || options.ice == IceWish::Remove;
            let can = media.is_relayed() && !is_refused;
            let own = &mut media.sides[offerer];
            own.told_ice = can && (own.ice.is_some() || options.ice == IceWish::Force);
        }
        self.key(offerer, options.ice_keys.map(|keys| keys[0]));
    }

    /// Gives a leg that is spoken ICE to its credentials, which it keeps.
    fn key(&mut self, side: usize, fresh: Option<Ice>) {
        let speaks = self.medias.iter().any(|media| media.sides[side].told_ice);
        let leg = &mut self.legs[side];
        let stands = leg.ice.filter(|_| !leg.restarts);
        leg.restarts = false;
        leg.ice = stands.or(fresh).filter(|_| speaks);
        if leg.ice.is_none() {
            for media in &mut self.medias {
                media.sides[side].told_ice = false;
            }
        }
    }

    pub(crate) fn offer_bundle(&mut self, from: usize, options: &Options) {
        self.accepts_bundle = options.accept_bundle;
        for media in &mut self.medias {
            let offered = media.sides[from].bundle.is_some();
            let own = &mut media.sides[1 - from];
            let stands = own.bundle.is_some() && own.told_bundle;
            own.told_bundle = offered && options.offer_bundle || stands;
        }
        for media in &mut self.medias {
            let own = &mut media.sides[from];
            own.told_bundle &= own.bundle.is_some();
        }
    }

    pub(crate) fn answer_bundle(&mut self, offerer: usize, options: &Options) {
        for media in &mut self.medias {
            // Of DTLS each association is one between both legs: it cannot be taken apart. Nor can what does not
            // say in its packets where it belongs.
            let mid = media.sides[offerer].mid.as_deref();
            let is_named = mid.is_none_or(|mid| mid.len() <= MAX_MID);
            let can_part = media.kind == Kind::Rtp && !media.has_proto("UDP/TLS/") && is_named;
            let is_answered = {
                let other = &media.sides[1 - offerer];
                other.bundle.is_some() && other.told_bundle
            };
            let own = &mut media.sides[offerer];
            let can = can_part && (options.accept_bundle || self.accepts_bundle);
            let accepted = can || is_answered || own.told_bundle;
            own.told_bundle = own.bundle.is_some() && accepted;
            // The ports of a bundle carry RTCP as well (RFC 9143 section 9.3).
            if own.told_bundle {
                own.told_mux = own.mux;
            }
        }
    }
}

/// The section whose port section `idx` shares, if the body says so: its group's first.
fn bundle(sdp: &Sdp, idx: usize) -> Option<usize> {
    let mid = sdp.media().get(idx)?.mid.as_deref()?;
    let group = sdp
        .bundles()
        .iter()
        .find(|group| group.iter().any(|tag| tag == mid))?;
    let is_first = |media: &penstock_sdp::Media| {
        let own = media.mid.as_deref();
        own.is_some_and(|own| group.iter().any(|tag| tag == own)) && media.port != 0
    };
    let first = sdp.media().iter().position(is_first)?;
    (first < idx).then_some(first)
}
