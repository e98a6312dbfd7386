//! ng's options in the media core's words.

use penstock_media::{
    Blocked, Family, Ice, IceWish, Learn, MuxWish, Options, Replace, RtcpAttribute, Selector, Tos,
};
use penstock_ng as ng;
use penstock_ng::{Flag, Kind, Participant};
use penstock_sdp::{AttributeEdits, CodecFilter, ExtmapEdit, MediaKind, Protocol, Sdp};

/// What an offer or answer asks for. `loop_mark` is this relay's name for `loop-protect`.
///
/// # Errors
/// A sentence: something that cannot be had.
pub(crate) fn options(
    given: &ng::Options,
    body: &[u8],
    loop_mark: &str,
) -> Result<Options, String> {
    let Some(direction) = given.interfaces() else {
        return Err("direction must name two interfaces".into());
    };
    let ice = match given.ice {
        Some(ng::Ice::Remove) => IceWish::Remove,
        Some(ng::Ice::Force) => IceWish::Force,
        Some(ng::Ice::Optional) => IceWish::Optional,
        Some(ng::Ice::Default) | None => IceWish::Default,
    };
    Ok(Options {
        asked_by: None,
        direction: direction.map(|name| name.map(str::to_owned)),
        address_family: given.address_family.map(|family| match family {
            ng::AddressFamily::Ip4 => Family::Ip4,
            ng::AddressFamily::Ip6 => Family::Ip6,
        }),
        replace: replace(given),
        replace_zero_address: given.replace.contains(&ng::Replace::ZeroAddress),
        original_sendrecv: given.has(Flag::OriginalSendrecv),
        protocol: protocol(given)?,
        accept_protocol: given.transport_protocol == Some(ng::Transport::Accept),
        learn: given.endpoint_learning.map(|learning| match learning {
            ng::EndpointLearning::Off => Learn::Off,
            ng::EndpointLearning::Immediate => Learn::Immediate,
            ng::EndpointLearning::Delayed => Learn::Delayed,
            ng::EndpointLearning::Heuristic => Learn::Heuristic,
        }),
        // strict-source asks for what is done anyway: the learned source is locked.
        handover: given.has(Flag::MediaHandover) && !given.has(Flag::StrictSource),
        asymmetric: match given.has(Flag::Asymmetric) {
            true => Some(true),
            false => given.has(Flag::Symmetric).then_some(false),
        },
        hint: given.received_from,
        reset: given.has(Flag::Reset),
        fresh_ports: given.has(Flag::NoPortLatching) && !given.has(Flag::PortLatching),
        strict_payload: given.has(Flag::StrictPayload),
        source_address: given
            .received_from
            .filter(|_| given.has(Flag::SipSourceAddress) && !given.has(Flag::TrustAddress)),
        media_address: given.media_address,
        rtcp_attribute: match (
            given.has(Flag::NoRtcpAttribute),
            given.has(Flag::FullRtcpAttribute),
        ) {
            (true, _) => RtcpAttribute::None,
            (false, true) => RtcpAttribute::Full,
            (false, false) => RtcpAttribute::Port,
        },
        tos: match given.tos {
            Some(tos @ 0..=255) => Tos::Dscp((tos >> 2) as u8),
            Some(..0) => Tos::Keep,
            None | Some(256..) => Tos::Default,
        },
        mux: mux(given),
        ice,
        reject_ice: given.has(Flag::RejectIce),
        trickle: given.has(Flag::TrickleIce),
        ice_keys: (ice != IceWish::Remove).then(ice_keys).flatten(),
        codecs: codecs(given, body)?,
        reorder_codecs: given.has(Flag::ReorderCodecs),
        ptime: given.ptime_ms.filter(|ms| *ms > 0),
        ptime_back: given.ptime_reverse_ms.filter(|ms| *ms > 0),
        maxptime: given.max_ptime_ms.filter(|ms| *ms > 0),
        attributes: attributes(given),
        generate_mid: given.has(Flag::GenerateMid),
        accept_bundle: given.bundle == Some(ng::Bundle::Accept),
        offer_bundle: given.bundle == Some(ng::Bundle::Offer),
        extmap: match (given.has(Flag::StripExtmap), &given.extmap_strip) {
            (true, _) => ExtmapEdit::Strip,
            (false, names) if names.iter().any(|name| name == "all") => ExtmapEdit::Strip,
            (false, names) => {
                let names: Vec<_> = names.iter().chain(&given.extmap_mask).cloned().collect();
                match names.is_empty() {
                    true => ExtmapEdit::Keep,
                    false => ExtmapEdit::StripNamed(names),
                }
            }
        },
        loop_mark: given.has(Flag::LoopProtect).then(|| loop_mark.to_owned()),
        remove: given.sdp_media_remove.iter().filter_map(kind).collect(),
        new_branch: given.has(Flag::NewBranch),
        label: given.set_label.clone().or(given.label.clone()),
        to_label: given.to_label.clone(),
        metadata: given.metadata.clone().filter(|text| !text.is_empty()),
        block: Blocked {
            media: given.has(Flag::BlockMedia),
            silence: false,
            dtmf: given.has(Flag::BlockDtmf) && given.dtmf_security != Some(ng::DtmfSecurity::Off),
        },
        echo: match given.media_echo {
            Some(ng::MediaEcho::Forward) => Some([false, true]),
            Some(ng::MediaEcho::Backwards) => Some([true, false]),
            Some(ng::MediaEcho::Both) => Some([true, true]),
            Some(ng::MediaEcho::Blackhole) | None => None,
        },
        drop: match (given.drop_traffic, given.media_echo) {
            (Some(ng::DropTraffic::Stop), _) => Some(false),
            (Some(ng::DropTraffic::Start), _) | (_, Some(ng::MediaEcho::Blackhole)) => Some(true),
            (None, _) => None,
        },
        wait: given.has(Flag::NatWait),
        pierce: given.has(Flag::PierceNat),
        inactive: given.has(Flag::Inactive),
        egress: given.has(Flag::Egress),
    })
}

fn replace(given: &ng::Options) -> Replace {
    let has = |part| given.replace.contains(&part);
    let full = has(ng::Replace::OriginFull);
    Replace {
        address: has(ng::Replace::Origin) || full,
        username: has(ng::Replace::Username) || full,
        session_id: full,
        session_name: has(ng::Replace::SessionName),
        version: has(ng::Replace::SdpVersion) || full,
        force_version: has(ng::Replace::ForceIncrementSdpVersion),
    }
}

fn protocol(given: &ng::Options) -> Result<Option<Protocol>, String> {
    let Some(transport) = given.transport_protocol else {
        return Ok(None);
    };
    if transport == ng::Transport::Accept {
        return Ok(None);
    }
    let word = transport.name();
    match Protocol::from_word(word) {
        Some(protocol) => Ok(Some(protocol)),
        None => Err(format!("transport-protocol \"{word}\" is not supported")),
    }
}

fn mux(given: &ng::Options) -> MuxWish {
    let has = |wish| given.rtcp_mux.contains(&wish);
    MuxWish {
        offer: has(ng::RtcpMux::Offer),
        require: has(ng::RtcpMux::Require),
        demux: has(ng::RtcpMux::Demux),
        accept: has(ng::RtcpMux::Accept),
        reject: has(ng::RtcpMux::Reject),
    }
}

fn codecs(given: &ng::Options, body: &[u8]) -> Result<CodecFilter, String> {
    let lists = &given.codecs;
    if !lists.transcode.is_empty() {
        let sdp = Sdp::parse(body).map_err(|error| error.to_string())?;
        let has = |spec: &&String| {
            let mut codecs = sdp.media().iter().flat_map(|media| &media.codecs);
            codecs.any(|codec| codec.is(spec))
        };
        if let Some(missing) = lists.transcode.iter().find(|spec| !has(spec)) {
            return Err(format!(
                "transcode \"{missing}\" is not supported: the SDP does not offer it, and nothing is transcoded here"
            ));
        }
    }
    Ok(CodecFilter {
        strip: lists.strip.clone(),
        except: lists.except.clone(),
        offer: lists
            .offer
            .iter()
            .chain(&lists.transcode)
            .cloned()
            .collect(),
        mask: lists.mask.clone(),
        consume: lists.consume.clone(),
        single: given.has(Flag::SingleCodec),
        reorder: Vec::new(),
    })
}

fn attributes(given: &ng::Options) -> Vec<(Option<MediaKind>, AttributeEdits)> {
    let edits = given.sdp_attributes.iter().filter_map(|edit| {
        let place = match edit.kind {
            Kind::Session => None,
            other => Some(kind(&other)?),
        };
        let edits = AttributeEdits {
            add: edit.add.clone(),
            remove: edit.remove.clone(),
            substitute: edit.substitute.clone(),
        };
        Some((place, edits))
    });
    edits.collect()
}

fn kind(kind: &Kind) -> Option<MediaKind> {
    match kind {
        Kind::Audio => Some(MediaKind::Audio),
        Kind::Video => Some(MediaKind::Video),
        Kind::Text => Some(MediaKind::Text),
        Kind::Application => Some(MediaKind::Application),
        Kind::Message => Some(MediaKind::Message),
        Kind::Image => Some(MediaKind::Image),
        // Whatever its word.
        Kind::Other => Some(MediaKind::Other(String::new())),
        Kind::Session => None,
    }
}

/// How a participant is selected.
pub(crate) fn selector(participant: &Participant) -> Selector<'_> {
    match participant {
        Participant::Tag(tag) => Selector {
            tag: Some(tag),
            ..Selector::default()
        },
        Participant::Label(label) => Selector {
            label: Some(label),
            ..Selector::default()
        },
        Participant::Address(address) => Selector {
            address: Some(*address),
            ..Selector::default()
        },
    }
}

/// A word that nobody can guess: ice-chars (RFC 8839 section 5.4), six bits of the kernel's randomness each. `None`
/// should the kernel have none.
pub(crate) fn random_word<const N: usize>() -> Option<[u8; N]> {
    const CHARS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut word = [0; N];
    let filled = rustix::rand::getrandom(&mut word, rustix::rand::GetRandomFlags::empty());
    if filled != Ok(N) {
        return None;
    }
    Some(word.map(|byte| CHARS[usize::from(byte & 63)]))
}

fn ice_keys() -> Option<[Ice; 2]> {
    let word: [u8; 64] = random_word()?;
    let mut bytes = word.iter().copied();
    let mut ice = || {
        let mut next = || bytes.next().unwrap_or(b'0');
        Ice {
            ufrag: std::array::from_fn(|_| next()),
            pwd: std::array::from_fn(|_| next()),
        }
    };
    Some([ice(), ice()])
}
