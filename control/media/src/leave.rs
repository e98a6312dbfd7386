//! The body that leaves for a leg.

use crate::call::{Dialog, Leg, Media, Side, Told};
use crate::diff::{Ice, Kind};
use crate::hear::{MAX_FORMATS, convert, goes_past, is_of};
use crate::options::{Options, RtcpAttribute};
use crate::signal::Work;
use crate::{Family, Local, MediaError};
use penstock_sdp::{
    AttributeEdits, Candidate, CodecFilter, Direction, ExtmapEdit, GroupEdit, IceEdit, IceLines,
    MediaKind, MediaRewrite, MidEdit, OriginEdit, Protocol, Rewrite, RtcpLine, Sdp, ZeroAddress,
    with_sections,
};
use std::net::{IpAddr, SocketAddr};

/// Priority of the first host candidate (RFC 8445 section 5.1.2.1); each further address has 256 less, a second component one
/// less.
const PRIORITY: u32 = 2_130_706_431;

/// What a body that leaves is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The other leg's offer.
    Offer,
    /// The other leg's answer.
    Answer,
    /// Our own answer, made of the leg's own offer.
    Published,
}

impl Work<'_> {
    /// The body that `sdp`, whose sections have these positions, becomes for leg `to`.
    pub(crate) fn leave(
        &mut self,
        idx: usize,
        to: usize,
        (positions, sdp): (&[usize], &Sdp),
        options: &Options,
        phase: Phase,
    ) -> Result<Vec<u8>, MediaError> {
        let default = self.advertised(&self.call.dialogs[idx].legs[to], options)?;
        let dialog = &self.call.dialogs[idx];
        let mut media = Vec::with_capacity(sdp.media().len());
        let mut first = None;
        for (&position, said) in positions.iter().zip(sdp.media()) {
            let entry = dialog.entry(position, to);
            let address = match (entry, options.media_address) {
                (_, Some(address)) => address,
                (Some(local), None) => self.pools.of(local).map_or(default, |i| i.advertise),
                (None, None) => default,
            };
            first = first.or(entry.map(|_| address));
            let alternates = match entry {
                Some(_) => &dialog.medias[dialog.head(position, to)].alternates[to][..],
                None => &[],
            };
            let at = |local: &Local| {
                let interface = self.pools.of(*local);
                let ip = interface.map_or(local.ip, |interface| interface.advertise);
                SocketAddr::new(ip, local.port)
            };
            let shape = Shape {
                dialog,
                position,
                to,
                address,
                alternates: alternates.iter().map(at).collect(),
                options,
                phase,
            };
            media.push(shape.media(said));
        }
        let mut rewrite = Rewrite {
            origin: OriginEdit {
                address: options.replace.address.then_some(first.unwrap_or(default)),
                ..OriginEdit::default()
            },
            group: dialog.group(to, phase),
            ice_lite: dialog.medias.iter().any(|media| media.sides[to].told_ice),
            remove_session_ice: true,
            loop_mark: options.loop_mark.clone(),
            attributes: session_edits(options),
            media,
            ..Rewrite::default()
        };
        let told = &mut self.call.dialogs[idx].legs[to].told;
        told.keep(sdp, options, &mut rewrite)?;
        let body = sdp.rewrite(&rewrite)?;
        let refused = self.call.dialogs[idx].refused(to, positions);
        match refused.is_empty() {
            true => Ok(body),
            false => Ok(with_sections(&body, &refused)),
        }
    }

    /// The address written for what a leg is faced by, where no port of it says otherwise.
    fn advertised(&self, leg: &Leg, options: &Options) -> Result<IpAddr, MediaError> {
        let name = &leg.interface;
        let interface = self.pools.facing(name, leg.family);
        let interface = interface.ok_or_else(|| MediaError::UnknownInterface(name.clone()))?;
        let address = options.media_address.unwrap_or(interface.advertise);
        match Family::of(address) == Family::of(interface.ip) {
            true => Ok(address),
            false => Err(MediaError::Family {
                address,
                interface: name.clone(),
            }),
        }
    }
}

/// One section as it leaves.
struct Shape<'a> {
    dialog: &'a Dialog,
    position: usize,
    to: usize,
    address: IpAddr,
    /// Where the leg is reached as well.
    alternates: Vec<SocketAddr>,
    options: &'a Options,
    phase: Phase,
}

impl Shape<'_> {
    fn media(&self, said: &penstock_sdp::Media) -> MediaRewrite {
        let (options, to) = (self.options, self.to);
        let is_offer = self.phase == Phase::Offer;
        let media = &self.dialog.medias[self.position];
        let own = &media.sides[to];
        let speaker = match self.phase {
            Phase::Published => to,
            Phase::Offer | Phase::Answer => 1 - to,
        };
        let protocol = match is_offer {
            true => Protocol::from_word(&own.proto),
            false => convert(&said.proto, &own.proto),
        };
        let protocol = protocol.filter(|p| p.as_str() != said.proto);
        let relayed = media.locals.filter(|_| !media.sides[speaker].declined);
        let Some(local) = relayed.and_then(|_| self.dialog.entry(self.position, to)) else {
            let is_hidden = media.hidden_from == Some(to);
            if goes_past(said) && !is_hidden && !said.is_rejected() {
                let own = said.address.unwrap_or(self.address);
                return MediaRewrite {
                    attributes: self.edits(said),
                    ..MediaRewrite::new(said.port, own)
                };
            }
            return MediaRewrite {
                remove: is_hidden,
                refused: !is_hidden,
                protocol,
                ..MediaRewrite::new(0, self.address)
            };
        };
        let one_port = match is_offer {
            true => options.mux.require || self.is_still_muxed(media),
            false => own.told_mux,
        };
        let rtcp_port = if one_port { local.port } else { local.port | 1 };
        MediaRewrite {
            zero_address: match options.replace_zero_address {
                true => ZeroAddress::Replace,
                false => ZeroAddress::Keep,
            },
            rtcp: match options.rtcp_attribute {
                // Of what is not known to be RTP nothing is said, though its second port is relayed.
                _ if !media.has_rtcp || media.kind != Kind::Rtp => RtcpLine::None,
                RtcpAttribute::Port => RtcpLine::Port(rtcp_port),
                RtcpAttribute::Full => RtcpLine::Full(rtcp_port, self.address),
                RtcpAttribute::None => RtcpLine::None,
            },
            rtcp_mux: media.has_rtcp.then_some(own.told_mux),
            protocol,
            direction: self.direction(own, said),
            formats: self.formats(own, said),
            ptime: match self.phase {
                Phase::Offer => options.ptime,
                // Who offered a packet time is told one.
                Phase::Answer if said.ptime.is_none() => self.dialog.ptime_back.or(ptime(own)),
                Phase::Answer => self.dialog.ptime_back,
                Phase::Published => options.ptime_back,
            },
            maxptime: options.maxptime,
            mid: self.mid(media),
            ice: match (own.told_ice, self.dialog.legs[to].ice) {
                (true, Some(ice)) => {
                    let has_rtcp_port = media.has_rtcp && !one_port;
                    IceEdit::Own(self.candidates(own, &ice, local.port, has_rtcp_port))
                }
                _ => IceEdit::Remove,
            },
            extmap: options.extmap.clone(),
            bundle_only: !own.told_bundle,
            in_order: true,
            attributes: self.edits(said),
            ..MediaRewrite::new(local.port, self.address)
        }
    }

    fn edits(&self, said: &penstock_sdp::Media) -> AttributeEdits {
        let is_it = |wanted: Option<&MediaKind>| wanted.is_some_and(|kind| is_of(kind, &said.kind));
        edits(self.options, is_it)
    }

    /// Each section says who sends. An old hold, by the zero address, is a new one as well.
    fn direction(&self, own: &Side, said: &penstock_sdp::Media) -> Option<Direction> {
        if self.phase == Phase::Published {
            return Some(Direction::RecvOnly);
        }
        let is_held = said.is_zero_address();
        let direction = match said.direction {
            Direction::SendRecv if is_held => Direction::SendOnly,
            Direction::RecvOnly if is_held => Direction::Inactive,
            direction => direction,
        };
        // With ICE the zero address is no hold: then it has to be said in words.
        let is_said = !self.options.original_sendrecv || is_held && own.told_ice;
        is_said.then_some(direction)
    }

    /// The leg multiplexes, and the other has ceased to: it goes on at the one port.
    fn is_still_muxed(&self, media: &Media) -> bool {
        let [own, other] = [self.to, 1 - self.to].map(|side| &media.sides[side]);
        media.is_muxed(self.to) && own.told_mux && !other.offers_mux() && !self.options.mux.offer
    }

    /// The formats that may pass: an answer has none that was not offered (RFC 3264 section 6.1).
    fn formats(&self, own: &Side, said: &penstock_sdp::Media) -> Option<Vec<String>> {
        let filtered = self.codecs(own).formats(said);
        // What was too long to be remembered is not judged.
        if self.phase != Phase::Answer || !said.is_rtp() || own.formats.len() >= MAX_FORMATS {
            return filtered;
        }
        let mut kept = filtered.unwrap_or_else(|| said.formats.clone());
        kept.retain(|format| own.formats.contains(format));
        (kept != said.formats).then_some(kept)
    }

    /// What is masked is masked towards who is called; one codec is chosen towards who called.
    fn codecs(&self, asked: &Side) -> CodecFilter {
        let mut filter = self.options.codecs.clone();
        if self.options.reorder_codecs && self.phase == Phase::Answer {
            filter.reorder = asked
                .formats
                .iter()
                .filter_map(|f| name(asked, f))
                .collect();
        }
        match self.phase {
            Phase::Offer => filter.single = false,
            Phase::Answer | Phase::Published => {
                filter.mask.clear();
                filter.consume.clear();
            }
        }
        filter
    }

    /// An offer passes the tag on, or makes one if asked to; an answer has the tag that the offer had.
    fn mid(&self, media: &Media) -> MidEdit {
        let [own, other] = [self.to, 1 - self.to].map(|side| media.sides[side].mid.as_deref());
        let other = match self.phase {
            Phase::Published => own,
            Phase::Offer | Phase::Answer => other,
        };
        match (self.phase == Phase::Offer, other, own) {
            (true, None, _) if self.options.generate_mid => {
                MidEdit::Set(format!("{}", self.position + 1))
            }
            (true, ..) => MidEdit::Keep,
            (false, _, Some(own)) if other != Some(own) => MidEdit::Set(own.to_owned()),
            (false, Some(_), None) => MidEdit::Remove,
            (false, ..) => MidEdit::Keep,
        }
    }

    fn candidates(&self, own: &Side, ice: &Ice, port: u16, has_rtcp_port: bool) -> IceLines {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let trickles = match self.phase {
            Phase::Offer => self.options.trickle,
            Phase::Answer | Phase::Published => own.trickles,
        };
        let first = SocketAddr::new(self.address, port);
        let all = || (0..).zip(std::iter::once(&first).chain(&self.alternates));
        let mut candidates = Vec::new();
        for component in if has_rtcp_port { 1..=2 } else { 1..=1 } {
            candidates.extend(all().map(|(number, at): (u32, _)| Candidate {
                foundation: (number + 1).to_string(),
                component,
                priority: PRIORITY - 256 * number + 1 - u32::from(component),
                address: SocketAddr::new(at.ip(), at.port() | u16::from(component - 1)),
            }));
        }
        IceLines {
            ufrag: text(&ice.ufrag),
            pwd: text(&ice.pwd),
            options: trickles.then(|| "trickle".to_owned()),
            candidates,
        }
    }
}

impl Dialog {
    /// Refusals of sections that the speaker knows nothing of: their positions, and their lines.
    fn refused(&self, to: usize, positions: &[usize]) -> Vec<(usize, String)> {
        let seen = self.seen_by(to).into_iter().enumerate();
        let lines = seen.filter_map(|(position, idx)| {
            let media = &self.medias[idx];
            let is_known = positions.contains(&idx) || media.hidden_from != Some(1 - to);
            let own = Some(&media.sides[to]).filter(|_| !is_known)?;
            let format = own.formats.first().map_or("0", String::as_str);
            let line = format!("m={} 0 {} {format}\r\n", media.name, own.proto);
            Some((position, line))
        });
        lines.collect()
    }

    /// The `a=group:BUNDLE` of what leaves for leg `to`.
    fn group(&self, to: usize, phase: Phase) -> GroupEdit {
        let bundles = |media: &Media| media.sides[to].told_bundle;
        if !self.medias.iter().any(bundles) {
            return GroupEdit::Remove;
        }
        if phase == Phase::Offer {
            return GroupEdit::Keep;
        }
        let joined = |idx: &usize| {
            let media = &self.medias[*idx];
            let leads =
                (0..self.medias.len()).any(|other| other != *idx && self.head(other, to) == *idx);
            media.is_relayed() && (self.head(*idx, to) != *idx || leads)
        };
        let tags = (0..self.medias.len())
            .filter(joined)
            .filter_map(|idx| self.medias[idx].sides[to].mid.clone());
        GroupEdit::Bundle(tags.collect())
    }
}

impl Told {
    /// Keeps of o= and s= what the leg is to be told the same of throughout, and counts the versions.
    fn keep(
        &mut self,
        sdp: &Sdp,
        options: &Options,
        rewrite: &mut Rewrite,
    ) -> Result<(), MediaError> {
        let wish = options.replace;
        let keeps_origin = wish.username || wish.session_id;
        if !(keeps_origin || wish.session_name || wish.version || wish.force_version) {
            return Ok(());
        }
        let Some(origin) = sdp.origin() else {
            return Ok(());
        };
        let first = |known: &mut Option<String>, now: &str| {
            known.get_or_insert_with(|| now.to_owned()).clone()
        };
        if wish.username {
            rewrite.origin.username = Some(first(&mut self.username, &origin.username));
        }
        if wish.session_id {
            rewrite.origin.session_id = Some(first(&mut self.session_id, &origin.session_id));
        }
        if wish.session_name
            && let Some(name) = sdp.session_name()
        {
            rewrite.session_name = Some(first(&mut self.name, name));
        }
        if wish.version || wish.force_version {
            rewrite.origin.version = Some("0".into());
            let body = hash(&sdp.rewrite(rewrite)?);
            let came = origin.session_version.parse().unwrap_or(0);
            let version = match self.version {
                None => came,
                Some(version) if wish.force_version || body != self.body => version.wrapping_add(1),
                Some(version) => version,
            };
            (self.version, self.body) = (Some(version), body);
            rewrite.origin.version = Some(version.to_string());
        }
        Ok(())
    }
}

/// The codec that a leg described under this format, or the static one (RFC 3551 section 6).
fn name(side: &Side, format: &str) -> Option<String> {
    let described = side.described.iter().find_map(|line| {
        let (number, codec) = line.strip_prefix("rtpmap:")?.split_once(' ')?;
        (number == format).then(|| codec.to_owned())
    });
    let known = match format {
        "0" => "PCMU",
        "3" => "GSM",
        "4" => "G723",
        "8" => "PCMA",
        "9" => "G722",
        "18" => "G729",
        _ => return described,
    };
    described.or_else(|| Some(known.to_owned()))
}

/// FNV-1a: the same in every build, for it goes to the store.
pub(crate) fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// The packet time that a leg asked for, ms.
fn ptime(side: &Side) -> Option<u16> {
    let mut described = side.described.iter();
    described.find_map(|line| line.strip_prefix("ptime:")?.trim().parse().ok())
}

/// Edits of the session part. Extensions of all sections go with those of each.
fn session_edits(options: &Options) -> AttributeEdits {
    let mut all = edits(options, |kind| kind.is_none());
    if options.extmap == ExtmapEdit::Strip {
        all.remove.push("extmap".to_owned());
    }
    all
}

fn edits(
    options: &Options,
    is_meant: impl Fn(Option<&penstock_sdp::MediaKind>) -> bool,
) -> AttributeEdits {
    let mut all = AttributeEdits::default();
    for (kind, edits) in &options.attributes {
        if is_meant(kind.as_ref()) {
            all.add.extend_from_slice(&edits.add);
            all.remove.extend_from_slice(&edits.remove);
            all.substitute.extend_from_slice(&edits.substitute);
        }
    }
    all
}
