//! What a leg's SDP says of one media.

use crate::call::{Media, Mux, Side};
use crate::diff::Kind;
use crate::family::Facing;
use crate::options::Options;
use crate::{Family, MediaError};
use penstock_sdp::{Codec, Direction, MediaKind, Protocol};
use std::net::{IpAddr, SocketAddr};

/// Formats of an m= line that are remembered, and lines that describe them.
pub(crate) const MAX_FORMATS: usize = 64;

impl Media {
    pub(crate) fn new(offered: &penstock_sdp::Media) -> Media {
        Media {
            name: name(&offered.kind),
            kind: kind(offered),
            has_rtcp: offered.is_rtp(),
            clock_hz: clock(offered),
            locals: None,
            alternates: Default::default(),
            sides: [Side::default(), Side::default()],
            hidden_from: None,
            mux: Mux::Pass,
        }
    }

    pub(crate) fn is_like(&self, offered: &penstock_sdp::Media) -> bool {
        // A rejected section's transport means nothing.
        offered.is_rejected()
            || self.name == name(&offered.kind)
                && self.kind == kind(offered)
                && self.has_rtcp == offered.is_rtp()
    }
}

impl Side {
    /// Whether it offers to multiplex RTCP: by the word, or by naming one port for both (RFC 3605).
    pub(crate) fn offers_mux(&self) -> bool {
        self.mux || self.remote.is_some() && self.remote_rtcp == self.remote
    }

    /// A leg that was faced by the other family before has yet to say where it is now.
    pub(crate) fn is_faced_by(&mut self, family: Family) {
        let fits = |remote: &SocketAddr| Family::of(remote.ip()) == family;
        self.remote = self.remote.filter(fits);
        self.remote_rtcp = self.remote_rtcp.filter(fits);
    }

    /// Takes over what a leg says of one media.
    pub(crate) fn hear(
        &mut self,
        said: &penstock_sdp::Media,
        options: &Options,
    ) -> Result<(), MediaError> {
        // What goes past the relay needs no port of it.
        // With port 0 it can only share another section's port (RFC 9143 section 6).
        let lone = said.port == 0 && !options.accept_bundle && !options.offer_bundle;
        self.declined = said.is_rejected() || lone || goes_past(said);
        self.formats = said.formats.iter().take(MAX_FORMATS).cloned().collect();
        if self.declined {
            return Ok(());
        }
        self.proto.clone_from(&said.proto);
        self.mux = said.rtcp_mux;
        let types = said.formats.iter().filter_map(|word| word.parse().ok());
        self.payload_types = types
            .filter(|number| said.is_rtp() && *number < 128)
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
        let Some(address) = address.filter(|_| said.port != 0) else {
            // The older hold: nothing may be sent there, and where it was is where it will be. With ICE, checks say where
            // that is.
            self.receives &= !said.is_zero_address();
            return Ok(());
        };
        let rtcp = match said.rtcp {
            Some(rtcp) => Some((rtcp.address.unwrap_or(address), rtcp.port)),
            None => said.port.checked_add(1).map(|port| (address, port)),
        };
        let destination = |address: IpAddr, port| {
            let address = options.source_address.unwrap_or(address);
            match is_destination(address) {
                true => Ok(SocketAddr::new(address, port)),
                false => Err(MediaError::NoDestination(address)),
            }
        };
        self.remote = Some(destination(address, said.port)?);
        self.remote_rtcp = match rtcp {
            Some((address, port)) if !address.is_unspecified() => Some(destination(address, port)?),
            _ => None,
        };
        Ok(())
    }
}

/// The transport to write where `own` stands so that it fits `wanted`, if no keys are needed.
pub(crate) fn convert(own: &str, wanted: &str) -> Option<Protocol> {
    let class = |protocol| match protocol {
        Protocol::RtpAvp | Protocol::RtpAvpf => 0,
        Protocol::RtpSavp | Protocol::RtpSavpf => 1,
        Protocol::UdpTlsRtpSavp | Protocol::UdpTlsRtpSavpf => 2,
        Protocol::Udptl => 3,
    };
    let (own, wanted) = (Protocol::from_word(own)?, Protocol::from_word(wanted)?);
    (class(own) == class(wanted)).then_some(wanted)
}

/// The transport that an offered section leaves with: that asked for now or, where it fits, before.
pub(crate) fn transport_of(
    offered: &penstock_sdp::Media,
    options: &Options,
    asked: &mut Option<String>,
) -> Result<String, MediaError> {
    let own = || Ok(offered.proto.clone());
    if !offered.is_rtp() || offered.is_rejected() {
        return own();
    }
    if let Some(wanted) = options.protocol {
        *asked = Some(wanted.as_str().to_owned());
    }
    match asked {
        None => own(),
        Some(to) if convert(&offered.proto, to).is_some() => Ok(to.clone()),
        Some(_) if options.protocol.is_none() => own(),
        Some(to) => Err(MediaError::Profile {
            from: offered.proto.clone(),
            to: to.clone(),
        }),
    }
}

/// A leg can only be reached from an address of its own family.
pub(crate) fn check_family(said: &Side, (name, family): &Facing) -> Result<(), MediaError> {
    let Some(family) = *family else {
        return Ok(());
    };
    for remote in [said.remote, said.remote_rtcp].into_iter().flatten() {
        if Family::of(remote.ip()) != family {
            return Err(MediaError::Family {
                address: remote.ip(),
                interface: name.clone(),
            });
        }
    }
    Ok(())
}

/// MSRP (RFC 4975) names its way in its own lines, and is left alone.
pub(crate) fn goes_past(said: &penstock_sdp::Media) -> bool {
    let is = |proto| said.proto.eq_ignore_ascii_case(proto);
    is("TCP/MSRP") || is("TCP/TLS/MSRP")
}

fn kind(said: &penstock_sdp::Media) -> Kind {
    match said.protocol() {
        Some(protocol) if protocol.is_rtp() => Kind::Rtp,
        // What is not known is not judged.
        _ => Kind::Raw,
    }
}

pub(crate) fn clock(said: &penstock_sdp::Media) -> u32 {
    said.codecs.first().map_or(0, |codec| codec.clock_rate)
}

pub(crate) fn name(kind: &MediaKind) -> String {
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

/// Whether a section is of a kind: all that have no name here are of one.
pub(crate) fn is_of(kind: &MediaKind, said: &MediaKind) -> bool {
    kind == said || matches!((kind, said), (MediaKind::Other(_), MediaKind::Other(_)))
}

/// Whether somebody may be there.
pub(crate) fn is_host(at: &SocketAddr) -> bool {
    at.port() != 0 && !at.ip().is_unspecified() && is_destination(at.ip())
}

pub(crate) fn is_destination(address: IpAddr) -> bool {
    let broadcast = matches!(address, IpAddr::V4(v4) if v4.is_broadcast());
    !address.is_loopback() && !address.is_multicast() && !broadcast
}
