//! Offer and answer (RFC 3264) against a working copy of the call.

use crate::call::{Call, Dialog, Leg, Media, Side};
use crate::diff::{Kind, Learn};
use crate::family::{Family, facing};
use crate::pool::Pools;
use crate::{Local, MAX_MEDIA, MediaError, Now};
use penstock_sdp::{
    Codec, Direction, IceEdit, MediaKind, MediaRewrite, OriginEdit, Protocol, Rewrite, RtcpLine,
    Sdp,
};
use std::net::{IpAddr, SocketAddr};

/// Whose signalling it is.
#[derive(Clone, Copy, Debug)]
pub struct Parties<'a> {
    /// The Call-ID.
    pub call_id: &'a str,
    /// Tag of the leg that made the offer.
    pub from_tag: &'a str,
    /// Tag of the other leg, if known.
    pub to_tag: Option<&'a str>,
}

/// How an offer or answer is to be treated.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Interfaces that face the offering leg and the other; kept for the life of the dialog.
    pub direction: Option<[String; 2]>,
    /// Without `direction`: the other leg is faced by the first interface of this family, for the life of the
    /// dialog; `None` for the one that faces the offering leg.
    pub address_family: Option<Family>,
    /// Write our address into o=.
    pub replace_origin: bool,
    /// Transport of the RTP sections that leave; of an offer only.
    pub protocol: Option<Protocol>,
    /// How sources are learned; an answer without it keeps what the offer said.
    pub learn: Option<Learn>,
    /// Follow a new source once the old one is silent.
    pub handover: bool,
    /// Whether the leg sends from elsewhere than it listens at; `None` keeps what it was.
    pub asymmetric: Option<bool>,
    /// Where the signalling came from: a likely source.
    pub hint: Option<IpAddr>,
    /// Learn the leg's source anew, although its body is the one before.
    pub reset: bool,
    /// Give the other leg a new port when this one's address has changed.
    pub fresh_ports: bool,
    /// Drop payload types that were not negotiated.
    pub strict_payload: bool,
    /// Send media here rather than to the address in the SDP.
    pub source_address: Option<IpAddr>,
    /// Write this address into the SDP that leaves rather than that of the interface.
    pub media_address: Option<IpAddr>,
    /// Leave `a=rtcp` out.
    pub no_rtcp_attribute: bool,
    /// What leaves, in all directions of the call.
    pub tos: Tos,
}

/// How what leaves is marked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tos {
    /// As configured for the local address.
    #[default]
    Default,
    /// As before.
    Keep,
    /// With this DSCP, 0 to 63.
    Dscp(u8),
}

/// A working copy of a call and the ports taken for it.
pub(crate) struct Work<'a> {
    pub(crate) call: Call,
    pub(crate) pools: &'a mut Pools,
    pub(crate) taken: Vec<Local>,
    pub(crate) now: Now,
}

impl Work<'_> {
    /// Applies an offer; returns the SDP for the other leg.
    pub(crate) fn offer(
        &mut self,
        parties: &Parties<'_>,
        sdp: &Sdp,
        options: &Options,
    ) -> Result<Vec<u8>, MediaError> {
        let (idx, from) = match self.call.find_offerer(parties.from_tag, parties.to_tag) {
            Some((idx, from)) => {
                self.name_leg(idx, from, parties.from_tag)?;
                (idx, from)
            }
            None => (self.add_dialog(parties, sdp, options)?, 0),
        };
        if let Some(to) = parties.to_tag {
            self.name_leg(idx, 1 - from, to)?;
        }
        let dialog = &mut self.call.dialogs[idx];
        dialog.learn = options.learn.unwrap_or_default();
        dialog.handover = options.handover;
        dialog.strict_payload = options.strict_payload;
        let is_new = dialog.hears(from, sdp.as_bytes(), self.now);
        dialog.legs[from].describe(is_new, options);
        self.mark(options.tos);
        let dialog = &mut self.call.dialogs[idx];

        // What the offer no longer names is gone; the caller releases the ports.
        dialog.medias.truncate(sdp.media().len());
        for (position, offered) in sdp.media().iter().enumerate() {
            self.offer_media(idx, from, position, offered, is_new, options)?;
        }
        if self.call.media_count() > MAX_MEDIA {
            return Err(MediaError::TooManyMedia);
        }
        self.leave(idx, from, sdp, options, |media| {
            let to = &media.sides[1 - from];
            (false, Protocol::from_word(&to.proto))
        })
    }

    /// Applies an answer; returns the SDP for the leg that made the offer.
    pub(crate) fn answer(
        &mut self,
        parties: &Parties<'_>,
        sdp: &Sdp,
        options: &Options,
    ) -> Result<Vec<u8>, MediaError> {
        let to_tag = parties.to_tag.unwrap_or_default();
        let (idx, offerer) = self
            .call
            .find_offered(parties.from_tag, to_tag)
            .ok_or(MediaError::UnknownTag)?;
        let side = 1 - offerer;
        self.name_leg(idx, side, to_tag)?;
        let dialog = &mut self.call.dialogs[idx];
        dialog.learn = options.learn.unwrap_or(dialog.learn);
        dialog.handover |= options.handover;
        dialog.strict_payload |= options.strict_payload;
        let (answered, offered) = (sdp.media().len(), dialog.medias.len());
        if answered > offered {
            return Err(MediaError::AnswerCount { answered, offered });
        }
        let is_new = dialog.hears(side, sdp.as_bytes(), self.now);
        dialog.legs[side].describe(is_new, options);
        self.mark(options.tos);
        let dialog = &mut self.call.dialogs[idx];
        for (media, said) in dialog.medias.iter_mut().zip(sdp.media()) {
            media.sides[side].hear(said, options)?;
            check_family(&media.sides[side], &dialog.legs[side], self.pools)?;
        }
        self.leave(idx, side, sdp, options, |media| {
            let muxed = media.sides.iter().all(|side| side.mux);
            let (own, other) = (&media.sides[side].proto, &media.sides[offerer].proto);
            (muxed, convert(own, other))
        })
    }

    fn add_dialog(
        &mut self,
        parties: &Parties<'_>,
        sdp: &Sdp,
        options: &Options,
    ) -> Result<usize, MediaError> {
        let legs = facing(self.pools, sdp, options)?.map(|interface| Leg {
            tags: Vec::new(),
            interface: interface.name.clone(),
            signal: 0,
            body: 0,
            created_us: self.now.unix_us,
            asymmetric: false,
            hint: None,
        });
        let dialog = Dialog {
            number: self.call.next_dialog,
            legs,
            medias: Vec::new(),
            heard_ns: 0,
            learn: Learn::default(),
            handover: false,
            strict_payload: false,
            mark: None,
        };
        if !self.call.has_room_for_tags(2) {
            return Err(MediaError::TooManyTags);
        }
        self.call.next_dialog = self.call.next_dialog.wrapping_add(1);
        self.call.dialogs.push(dialog);
        let idx = self.call.dialogs.len() - 1;
        self.name_leg(idx, 0, parties.from_tag)?;
        Ok(idx)
    }

    /// One marking for the whole call, as rtpengine has it.
    fn mark(&mut self, tos: Tos) {
        let mark = match tos {
            Tos::Keep => return,
            Tos::Default => None,
            Tos::Dscp(dscp) => Some(dscp & 63),
        };
        for dialog in &mut self.call.dialogs {
            dialog.mark = mark;
        }
    }

    /// Makes `tag` the leg's last; a tag it had not is an alias of those it had (a fork).
    fn name_leg(&mut self, idx: usize, side: usize, tag: &str) -> Result<(), MediaError> {
        let leg = &self.call.dialogs[idx].legs[side];
        if !leg.tags.is_empty() && !leg.has(tag) && !self.call.has_room_for_tags(1) {
            return Err(MediaError::TooManyTags);
        }
        let tags = &mut self.call.dialogs[idx].legs[side].tags;
        tags.retain(|known| known != tag);
        tags.push(tag.to_owned());
        Ok(())
    }

    fn offer_media(
        &mut self,
        idx: usize,
        from: usize,
        position: usize,
        offered: &penstock_sdp::Media,
        is_new: bool,
        options: &Options,
    ) -> Result<(), MediaError> {
        let dialog = &mut self.call.dialogs[idx];
        if position == dialog.medias.len() {
            dialog.medias.push(Media::new(offered));
        }
        let media = &mut dialog.medias[position];
        if !media.is_like(offered) {
            // Another kind of media in an old place (RFC 3264 section 8.3.3): the ports stay.
            let locals = media.locals;
            *media = Media {
                locals,
                ..Media::new(offered)
            };
        }
        let before = media.sides[from].remote;
        media.sides[from].hear(offered, options)?;
        let has_moved = before.is_some() && media.sides[from].remote != before;
        check_family(&media.sides[from], &dialog.legs[from], self.pools)?;
        media.clock_hz = clock(offered);
        if is_new {
            media.sides[1 - from].declined = false;
        }
        media.sides[1 - from].proto = match options.protocol {
            Some(wanted) if is_rtp(offered) && !offered.is_rejected() => {
                let word = wanted.as_str().to_owned();
                if convert(&offered.proto, &word).is_none() {
                    let from = offered.proto.clone();
                    return Err(MediaError::Profile { from, to: word });
                }
                word
            }
            _ => offered.proto.clone(),
        };
        if media.sides[from].declined {
            media.locals = None;
            return Ok(());
        }
        if media.locals.is_none() {
            let mut take = |leg: &Leg| {
                let local = self.pools.take(&leg.interface, self.now.mono);
                let local = local.ok_or(MediaError::OutOfPorts)?;
                self.taken.push(local);
                Ok::<_, MediaError>(local)
            };
            media.locals = Some([take(&dialog.legs[0])?, take(&dialog.legs[1])?]);
        } else if options.fresh_ports
            && has_moved
            && let Some(locals) = &mut media.locals
        {
            let name = &dialog.legs[1 - from].interface;
            let local = self.pools.take(name, self.now.mono);
            locals[1 - from] = local.ok_or(MediaError::OutOfPorts)?;
            self.taken.push(locals[1 - from]);
        }
        Ok(())
    }

    /// The body of leg `side` as the other leg is to see it.
    fn leave(
        &self,
        idx: usize,
        side: usize,
        sdp: &Sdp,
        options: &Options,
        terms: impl Fn(&Media) -> (bool, Option<Protocol>),
    ) -> Result<Vec<u8>, MediaError> {
        let dialog = &self.call.dialogs[idx];
        let name = &dialog.legs[1 - side].interface;
        let interface = self.pools.interface(name);
        let interface = interface.ok_or_else(|| MediaError::UnknownInterface(name.clone()))?;
        let address = options.media_address.unwrap_or(interface.advertise);
        if Family::of(address) != Family::of(interface.ip) {
            let interface = name.clone();
            return Err(MediaError::Family { address, interface });
        }
        let media = dialog.medias.iter().zip(sdp.media()).map(|(media, said)| {
            let port = media.locals.map_or(0, |locals| locals[1 - side].port);
            let (muxed, protocol) = terms(media);
            let has_rtcp = media.has_rtcp && port != 0 && !said.is_rejected();
            let rtcp = match has_rtcp && !options.no_rtcp_attribute {
                true => RtcpLine::Port(if muxed { port } else { port | 1 }),
                false => RtcpLine::None,
            };
            MediaRewrite {
                rtcp,
                protocol: protocol.filter(|p| !p.as_str().eq_ignore_ascii_case(&said.proto)),
                // With candidates left in, the two sides would find each other past the relay.
                ice: IceEdit::Remove,
                ..MediaRewrite::new(port, address)
            }
        });
        Ok(sdp.rewrite(&Rewrite {
            origin: OriginEdit {
                address: options.replace_origin.then_some(address),
                ..OriginEdit::default()
            },
            remove_session_ice: true,
            media: media.collect(),
            ..Rewrite::default()
        })?)
    }
}

impl Dialog {
    /// Notes a body of leg `side`; false if it is the one heard last.
    fn hears(&mut self, side: usize, body: &[u8], now: Now) -> bool {
        let is_new = self.legs[side].hears(body);
        if is_new {
            self.heard_ns = now.mono.as_nanos() as u64;
        }
        is_new
    }
}

impl Leg {
    /// Takes over what signalling says of the leg itself.
    fn describe(&mut self, is_new: bool, options: &Options) {
        self.asymmetric = options.asymmetric.unwrap_or(self.asymmetric);
        self.hint = options.hint.or(self.hint);
        if options.reset && !is_new {
            self.signal = self.signal.wrapping_add(1);
        }
    }

    /// Notes a body; false if it is the one heard last, so that a retransmission changes nothing.
    fn hears(&mut self, body: &[u8]) -> bool {
        // FNV-1a: the same in every build, for it goes to the store.
        let hash = body.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        });
        let is_new = self.body != hash;
        if is_new {
            self.body = hash;
            self.signal = self.signal.wrapping_add(1);
        }
        is_new
    }
}

impl Media {
    fn new(offered: &penstock_sdp::Media) -> Media {
        Media {
            name: name(&offered.kind),
            kind: kind(offered),
            has_rtcp: is_rtp(offered),
            clock_hz: clock(offered),
            locals: None,
            sides: [Side::default(), Side::default()],
        }
    }

    fn is_like(&self, offered: &penstock_sdp::Media) -> bool {
        // A rejected section's transport means nothing.
        offered.is_rejected()
            || self.name == name(&offered.kind)
                && self.kind == kind(offered)
                && self.has_rtcp == is_rtp(offered)
    }
}

impl Side {
    /// Takes over what a leg says of one media.
    fn hear(&mut self, said: &penstock_sdp::Media, options: &Options) -> Result<(), MediaError> {
        // TCP does not pass through here: such a section is refused on the leg's behalf.
        let is_tcp = said.proto.to_ascii_uppercase().starts_with("TCP");
        self.declined = said.is_rejected() || is_tcp;
        if self.declined {
            return Ok(());
        }
        self.proto.clone_from(&said.proto);
        self.mux = said.rtcp_mux;
        let types = said.formats.iter().filter_map(|word| word.parse().ok());
        self.payload_types = types
            .filter(|number| is_rtp(said) && *number < 128)
            .collect();
        let event = |codec: &&Codec| codec.name.eq_ignore_ascii_case("telephone-event");
        self.event_type = said
            .codecs
            .iter()
            .find(event)
            .map(|codec| codec.payload_type);
        (self.sends, self.receives) = match said.direction {
            Direction::SendRecv => (true, true),
            Direction::SendOnly => (true, false),
            Direction::RecvOnly => (false, true),
            Direction::Inactive => (false, false),
        };
        let address = said.address.filter(|address| !address.is_unspecified());
        let Some(address) = address else {
            // The older hold: nothing may be sent there, and where it was is where it will be.
            self.receives = false;
            return Ok(());
        };
        let rtcp = match said.rtcp {
            Some(rtcp) => Some((rtcp.address.unwrap_or(address), rtcp.port)),
            None => said.port.checked_add(1).map(|port| (address, port)),
        };
        let place = |address: IpAddr, port| {
            let address = options.source_address.unwrap_or(address);
            match is_destination(address) {
                true => Ok(SocketAddr::new(address, port)),
                false => Err(MediaError::NoDestination(address)),
            }
        };
        self.remote = Some(place(address, said.port)?);
        self.remote_rtcp = match rtcp {
            Some((address, port)) if !address.is_unspecified() => Some(place(address, port)?),
            _ => None,
        };
        Ok(())
    }
}

/// A leg can only be reached from an address of its own family.
fn check_family(said: &Side, leg: &Leg, pools: &Pools) -> Result<(), MediaError> {
    let Some(interface) = pools.interface(&leg.interface) else {
        return Ok(());
    };
    for remote in [said.remote, said.remote_rtcp].into_iter().flatten() {
        if Family::of(remote.ip()) != Family::of(interface.ip) {
            return Err(MediaError::Family {
                address: remote.ip(),
                interface: leg.interface.clone(),
            });
        }
    }
    Ok(())
}

/// The transport to write where `own` stands so that it fits `wanted`, if no keys are needed.
fn convert(own: &str, wanted: &str) -> Option<Protocol> {
    let class = |protocol| match protocol {
        Protocol::RtpAvp | Protocol::RtpAvpf => 0,
        Protocol::RtpSavp | Protocol::RtpSavpf => 1,
        Protocol::UdpTlsRtpSavp | Protocol::UdpTlsRtpSavpf => 2,
        Protocol::Udptl => 3,
    };
    let (own, wanted) = (Protocol::from_word(own)?, Protocol::from_word(wanted)?);
    (class(own) == class(wanted)).then_some(wanted)
}

fn is_rtp(said: &penstock_sdp::Media) -> bool {
    said.proto.to_ascii_uppercase().contains("RTP/")
}

fn kind(said: &penstock_sdp::Media) -> Kind {
    match said.protocol() {
        Some(protocol) if protocol.is_rtp() => Kind::Rtp,
        // What is not known is not judged.
        _ => Kind::Raw,
    }
}

fn clock(said: &penstock_sdp::Media) -> u32 {
    said.codecs.first().map_or(0, |codec| codec.clock_rate)
}

fn name(kind: &MediaKind) -> String {
    match kind {
        MediaKind::Audio => "audio",
        MediaKind::Video => "video",
        MediaKind::Text => "text",
        MediaKind::Application => "application",
        MediaKind::Message => "message",
        MediaKind::Image => "image",
        MediaKind::Other(word) => word,
    }
    .to_owned()
}

fn is_destination(address: IpAddr) -> bool {
    let broadcast = matches!(address, IpAddr::V4(v4) if v4.is_broadcast());
    !address.is_loopback() && !address.is_multicast() && !broadcast
}
