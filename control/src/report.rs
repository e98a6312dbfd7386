//! The body of a `query` or `delete` reply, in rtpengine's structure.

use crate::facing;
use crate::history::{History, MAX_ENTRIES, Sample};
use crate::quality::Rated;
use penstock_media::{Call, Dialog, Kind, LegMedia, Local, Media};
use penstock_ng::{Dict, Value};
use penstock_sdp::ip_text;
use penstock_shm::{Policy, StreamStat};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Ratings in one report, over all sources: Kamailio reads no reply beyond 40 KiB.
const MAX_PROGRESSION: usize = 160;

/// Where the meters come from: the live table, or the last meters of what was removed.
pub(crate) type Meters<'f, 'm> = &'f dyn Fn(Local) -> Option<Cow<'m, StreamStat>>;

/// Packets, bytes, errors (packets dropped).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sum {
    pub(crate) packets: u64,
    pub(crate) bytes: u64,
    pub(crate) errors: u64,
}

impl Sum {
    pub(crate) fn of(stat: Option<&StreamStat>) -> Sum {
        stat.map_or(Sum::default(), |stat| Sum {
            packets: stat.meter.packets,
            bytes: stat.meter.bytes,
            errors: stat.meter.dropped.into(),
        })
    }

    pub(crate) fn add(&mut self, other: Sum) {
        self.packets += other.packets;
        self.bytes += other.bytes;
        self.errors += other.errors;
    }

    fn dict(self) -> Dict<'static> {
        Dict::from_iter([
            ("packets", self.packets),
            ("bytes", self.bytes),
            ("errors", self.errors),
        ])
    }
}

/// The present on both clocks, to turn the plane's times into dates.
#[derive(Clone, Copy)]
pub(crate) struct Clock {
    /// ns of CLOCK_MONOTONIC.
    pub(crate) mono_ns: u64,
    /// Microseconds since 1970.
    pub(crate) unix_us: u64,
}

impl Clock {
    /// Seconds since 1970 of a moment on CLOCK_MONOTONIC.
    pub(crate) fn unix_s(self, mono_ns: u64) -> u64 {
        let ago_us = self.mono_ns.saturating_sub(mono_ns) / 1000;
        self.unix_us.saturating_sub(ago_us) / 1_000_000
    }
}

/// The report on those legs of `call` that have one of `tags`, and on whom they talk to; on all if there are no
/// `tags`. Of a call that goes by several Call-IDs, what was made with this one alone. `rated` is how the call's streams
/// sounded.
pub(crate) fn report<'a>(
    (call, id): (&Call, &str),
    tags: &[&str],
    meters: Meters<'a, 'a>,
    rated: &'a [Rated],
    clock: Clock,
) -> Dict<'static> {
    let created_us = call.created_us_of(id);
    let mut report = Report {
        meters,
        rated,
        progression: progression(rated.iter().map(|rated| rated.sources().len()).sum()),
        clock,
        created_s: created_us / 1_000_000,
        ssrcs: BTreeMap::new(),
        rtp: Sum::default(),
        rtcp: Sum::default(),
    };
    let mut participants: Vec<Participant> = Vec::new();
    for dialog in call.dialogs.iter().filter(|d| call.id_of(d) == id) {
        let is_meant = |tag: &&str| dialog.legs.iter().any(|leg| leg.has(tag));
        let wanted = tags.is_empty() || tags.iter().any(is_meant);
        for side in dialog.sides() {
            let own = report.participant(call, dialog, side);
            if !wanted {
                continue;
            }
            let mut known = participants.iter_mut();
            match known.find(|known| !own.tag.is_empty() && known.tag == own.tag) {
                Some(known) => known.join(own),
                None => participants.push(own),
            }
        }
    }
    let mut legs = Dict::with_capacity(participants.len());
    let mut untagged = 0;
    for participant in participants {
        let key = match participant.tag.as_str() {
            "" => {
                untagged += 1;
                format!("<untagged {untagged}>")
            }
            tag => tag.to_owned(),
        };
        legs.push(key, participant.dict());
    }
    let mut ssrcs = Dict::with_capacity(report.ssrcs.len());
    for (ssrc, entry) in report.ssrcs {
        ssrcs.push(ssrc.to_string(), entry);
    }
    let mut out = Dict::with_capacity(8);
    out.push("created", created_us / 1_000_000);
    out.push("created_us", created_us % 1_000_000);
    out.push("created_ts", created_us);
    out.push("last signal", call.last_signal_us / 1_000_000);
    // rtpengine's only: there is no Redis here.
    out.push("last redis update", 0_u64);
    out.push("SSRC", ssrcs);
    out.push("tags", legs);
    let totals = [("RTP", report.rtp.dict()), ("RTCP", report.rtcp.dict())];
    out.push("totals", Dict::from_iter(totals));
    out
}

/// How many ratings of each source there is room for.
fn progression(sources: usize) -> usize {
    (MAX_PROGRESSION / sources.max(1)).clamp(1, MAX_ENTRIES)
}

/// What is said of a tag: a map has one entry for it, in however many dialogs it stands.
struct Participant {
    tag: String,
    branch: Option<String>,
    created_us: u64,
    label: Option<String>,
    metadata: Option<String>,
    /// Tags of whom it talks to; an empty one is nobody yet.
    peers: Vec<String>,
    /// Without their numbers.
    medias: Vec<Dict<'static>>,
}

impl Participant {
    /// It is in a later dialog, too.
    fn join(&mut self, later: Participant) {
        for peer in later.peers {
            if !self.peers.contains(&peer) {
                self.peers.push(peer);
            }
        }
        self.label = later.label.or(self.label.take());
        self.metadata = later.metadata.or(self.metadata.take());
        self.medias.extend(later.medias);
    }

    fn dict(self) -> Dict<'static> {
        let peer = |tag| {
            let tag = ("tag", Value::from(tag));
            Dict::from_iter([tag, ("type", "offer/answer".into())]).into()
        };
        let peers: Vec<Value<'static>> = self.peers.into_iter().map(peer).collect();
        let numbered = (1_u64..).zip(self.medias);
        let medias: Vec<Value<'static>> = numbered
            .map(|(index, mut media)| {
                media.0.insert(0, ("index".into(), index.into()));
                media.into()
            })
            .collect();
        let mut out = Dict::with_capacity(8);
        out.push("tag", self.tag);
        if let Some(branch) = self.branch {
            out.push("via-branch", branch);
        }
        out.push("created", self.created_us / 1_000_000);
        if let Some(label) = self.label {
            out.push("label", label);
        }
        if let Some(metadata) = self.metadata {
            out.push("metadata", metadata);
        }
        out.push("subscriptions", peers.clone());
        out.push("subscribers", peers);
        out.push("medias", medias);
        out
    }
}

struct Report<'a> {
    meters: Meters<'a, 'a>,
    rated: &'a [Rated],
    /// Ratings of each source.
    progression: usize,
    clock: Clock,
    created_s: u64,
    ssrcs: BTreeMap<u32, Dict<'static>>,
    rtp: Sum,
    rtcp: Sum,
}

impl Report<'_> {
    fn participant(&mut self, call: &Call, dialog: &Dialog, side: usize) -> Participant {
        let leg = &dialog.legs[side];
        let partner = call.partner(dialog, side);
        let peer = partner.map(|(other, far)| other.legs[far].tags.last());
        let peer = peer.map(|tag| tag.cloned().unwrap_or_default());
        Participant {
            tag: leg.tags.last().cloned().unwrap_or_default(),
            branch: dialog.branch.clone().filter(|_| side == 1),
            created_us: leg.created_us,
            label: leg.label.clone(),
            metadata: leg.metadata.clone(),
            peers: peer.into_iter().collect(),
            medias: call
                .leg_medias(dialog, side)
                .iter()
                .map(|(near, far)| self.media(near, far.as_ref()))
                .collect(),
        }
    }

    fn media(&mut self, near: &LegMedia<'_>, far: Option<&LegMedia<'_>>) -> Dict<'static> {
        let (dialog, media, side) = (near.dialog, near.media(), near.side);
        let own = &media.sides[side];
        let mut streams: Vec<Value<'static>> = Vec::new();
        let (mut ingress, mut egress) = (Vec::new(), Vec::new());
        if let Some(locals) = media.locals {
            let rtp = Port {
                media,
                side,
                heard: far.map(|far| (far.media(), far.side)),
                kind: media.kind,
                second: false,
                first: locals[side],
                signalled: own.remote,
            };
            streams.push(self.stream(&rtp).into());
            if media.has_rtcp {
                let rtcp = Port {
                    kind: Kind::Rtcp,
                    second: true,
                    first: rtp.first.rtcp(),
                    signalled: own.remote_rtcp,
                    ..rtp
                };
                streams.push(self.stream(&rtcp).into());
            }
            ingress = self.sources(media, side);
            egress = far.map_or_else(Vec::new, |far| self.sources(far.media(), far.side));
        }
        let leg = &dialog.legs[side];
        let proto = own.proto.to_ascii_uppercase();
        let is_secure = proto.contains("SAVP");
        let is_dtls = proto.contains("UDP/TLS/");
        let flags = [
            (leg.signal > 0, "initialized"),
            (leg.asymmetric, "asymmetric"),
            (own.sends, "send"),
            (own.receives, "recv"),
            (own.mux, "rtcp-mux"),
            (is_dtls, "DTLS-SRTP"),
            (is_secure && !is_dtls, "SDES"),
            // Keys are never ours: what is encrypted passes unopened.
            (is_secure || media.kind == Kind::Raw, "passthrough"),
            (own.ice.is_some() && own.told_ice, "ICE"),
            (proto.ends_with("AVPF"), "RTCP feedback"),
        ];
        let mut out = Dict::with_capacity(7);
        out.push("type", media.name.clone());
        out.push("protocol", own.proto.clone());
        out.push("streams", streams);
        out.push("flags", words(&flags));
        out.push("ingress SSRCs", ingress);
        out.push("egress SSRCs", egress);
        out
    }

    fn stream(&mut self, port: &Port<'_>) -> Dict<'static> {
        let Port { media, side, .. } = *port;
        let joined = |(media, side): (&Media, usize)| {
            facing::joined(facing::locals(media, side, port.second), self.meters)
        };
        let (local, stat) = joined((media, side)).unzip();
        let local = local.unwrap_or(port.first);
        let peer = port.heard.and_then(joined).map(|(_, stat)| stat);
        let sum = Sum::of(stat.as_deref());
        let total = match port.kind {
            Kind::Rtcp => &mut self.rtcp,
            Kind::Rtp | Kind::Raw => &mut self.rtp,
        };
        total.add(sum);
        let mut out = Dict::with_capacity(14);
        out.push("local port", u64::from(local.port));
        out.push("local address", ip_text(local.ip));
        out.push("family", family(local.ip));
        let remote = stat.as_ref().and_then(|stat| stat.policy.remote);
        let remote = remote.or(port.signalled);
        if let Some(remote) = remote {
            out.push("endpoint", address(remote));
        }
        if let Some(signalled) = port.signalled {
            out.push("advertised endpoint", address(signalled));
        }
        let seen_ns = stat.as_ref().map_or(0, |stat| stat.meter.last_seen_ns);
        let seen_s = (seen_ns > 0).then(|| self.clock.unix_s(seen_ns));
        out.push("last packet", seen_s.unwrap_or(self.created_s));
        out.push("last kernel packet", seen_s.unwrap_or(0));
        // No packet ever takes another way than the plane's.
        out.push("last user packet", 0_u64);
        let policy = stat.as_ref().map(|stat| &stat.policy);
        out.push("flags", port.flags(policy, remote.is_some()));
        if let Some(ssrc) = stat.as_ref().and_then(|stat| stat.meter.ssrc)
            && media.kind == Kind::Rtp
            && let Some(stat) = &stat
        {
            out.push("SSRC", u64::from(ssrc));
            self.quality(ssrc, (media, side), stat);
        }
        out.push("ingress SSRCs", source(stat.as_deref()));
        out.push("egress SSRCs", source(peer.as_deref()));
        out.push("stats", sum.dict());
        out.push("stats_out", Sum::of(peer.as_deref()).dict());
        out
    }

    /// What was rated of a leg's media.
    fn rated(&self, media: &Media, side: usize) -> impl Iterator<Item = &History> {
        let is_own = move |rated: &&Rated| media.facing(side).any(|own| own == rated.local());
        let own = self.rated.iter().filter(is_own);
        own.flat_map(Rated::sources)
    }

    /// The sources heard of a leg, the latest last.
    fn sources(&self, media: &Media, side: usize) -> Vec<Value<'static>> {
        if media.kind != Kind::Rtp {
            return Vec::new();
        }
        let at = facing::heard(media.facing(side), self.meters);
        let now = at.and_then(self.meters).and_then(|stat| stat.meter.ssrc);
        let mut ssrcs: Vec<u32> = Vec::new();
        for ssrc in self.rated(media, side).map(|known| known.ssrc).chain(now) {
            if !ssrcs.contains(&ssrc) {
                ssrcs.push(ssrc);
            }
        }
        let entry = |ssrc| Dict::from_iter([("SSRC", u64::from(ssrc))]).into();
        ssrcs.into_iter().map(entry).collect()
    }

    /// Enters the sources of a stream: all that were rated, and the present one.
    fn quality(&mut self, now: u32, (media, side): (&Media, usize), stat: &StreamStat) {
        let lost = u64::try_from(stat.meter.lost).unwrap_or(0);
        let unrated = || Dict::from_iter([("cumulative loss", lost)]);
        self.ssrcs.entry(now).or_insert_with(unrated);
        let known = self.rated(media, side);
        let known: Vec<_> = known
            .map(|history| (history.ssrc, quality(history, self.progression)))
            .collect();
        self.ssrcs.extend(known);
    }
}

/// One stream of a media.
#[derive(Clone, Copy)]
struct Port<'a> {
    media: &'a Media,
    /// Of the leg that it faces.
    side: usize,
    /// The section of the leg that this one hears, and which side of it.
    heard: Option<(&'a Media, usize)>,
    kind: Kind,
    /// It is the port after the first.
    second: bool,
    /// Where it is by the m= line.
    first: Local,
    signalled: Option<std::net::SocketAddr>,
}

impl Port<'_> {
    fn flags(&self, policy: Option<&Policy>, has_remote: bool) -> Vec<Value<'static>> {
        let mux = self.media.sides[self.side].mux;
        let (is_rtp, is_rtcp) = (self.kind == Kind::Rtp, self.kind == Kind::Rtcp);
        let says = |what: fn(&Policy) -> bool| policy.is_some_and(what);
        words(&[
            (is_rtp, "RTP"),
            (is_rtcp || is_rtp && mux, "RTCP"),
            (is_rtcp && mux, "fallback RTCP"),
            (has_remote, "filled"),
            (says(|policy| policy.latched), "confirmed"),
            (says(|policy| policy.routed), "kernelized"),
            (says(|policy| policy.locked), "strict source address"),
            (says(|policy| policy.handover), "media handover"),
        ])
    }
}

/// The present source of a stream, in a list.
fn source(stat: Option<&StreamStat>) -> Vec<Value<'static>> {
    let entry = |stat: &StreamStat| {
        let meter = &stat.meter;
        let mut out = Dict::with_capacity(4);
        out.push("SSRC", u64::from(meter.ssrc?));
        out.push("bytes", meter.bytes);
        out.push("packets", meter.packets);
        out.push("last RTP seq", u64::from(meter.ext_seq & 0xffff));
        Some(out.into())
    };
    stat.and_then(entry).into_iter().collect()
}

/// How one source sounded, under rtpengine's names: MOS times ten, round trips in us, jitter in ms, loss in percent.
fn quality(history: &History, progression: usize) -> Dict<'static> {
    let mut out = Dict::default();
    out.push(
        "cumulative loss",
        u64::try_from(history.lost).unwrap_or_default(),
    );
    let mut average = sample(history.average());
    average.push("samples", history.samples());
    out.push("average MOS", average);
    out.push("lowest MOS", dated(history.lowest()));
    out.push("highest MOS", dated(history.highest()));
    let entries = history.entries(progression);
    let span_s = match entries.as_slice() {
        [first, .., last] => last.at_s.saturating_sub(first.at_s) / (entries.len() - 1) as u32,
        _ => 0,
    };
    let entries: Vec<Value<'static>> = entries.into_iter().map(|e| dated(e).into()).collect();
    let mut list = Dict::default();
    list.push("interval", span_s);
    list.push("entries", entries);
    out.push("MOS progression", list);
    out
}

fn sample(sample: Sample) -> Dict<'static> {
    Dict::from_iter([
        ("MOS", u32::from(sample.mos_tenths)),
        ("round-trip time", sample.round_trip_us),
        ("round-trip time leg", sample.leg_us),
        ("jitter", u32::from(sample.jitter_ms)),
        ("packet loss", u32::from(sample.loss_percent)),
    ])
}

fn dated(entry: Sample) -> Dict<'static> {
    let mut out = sample(entry);
    out.push("reported at", entry.at_s);
    out
}

fn words(flags: &[(bool, &'static str)]) -> Vec<Value<'static>> {
    let set = flags.iter().filter(|(is_set, _)| *is_set);
    set.map(|&(_, word)| word.into()).collect()
}

fn family(ip: IpAddr) -> &'static str {
    if ip.is_ipv4() { "IPv4" } else { "IPv6" }
}

fn address(address: std::net::SocketAddr) -> Dict<'static> {
    let mut out = Dict::with_capacity(3);
    out.push("family", family(address.ip()));
    out.push("address", ip_text(address.ip()));
    out.push("port", u64::from(address.port()));
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::Measure;
    use penstock_ng::{Encoding, Reply};

    /// 40 KiB less what a call of few medias has besides.
    const ROOM: usize = 30_000;

    #[test]
    fn the_sources_of_a_long_call_fit_kamailios_buffer() {
        let mut history = History::new(u32::MAX);
        for at_s in 1_800_000_000..1_800_000_119 {
            history.add(&Measure {
                at_s,
                mos: 4.4,
                jitter_ms: 100.0,
                loss_percent: 10.0,
                round_trip_us: Some(1e6),
                leg_us: Some(5e5),
            });
        }
        for sources in [1_u32, 2, 4, 16] {
            let each = progression(sources as usize);
            let all = (0..sources).map(|n| (n.to_string(), quality(&history, each)));
            let reply = Reply::ok().with("SSRC", Dict::from_iter(all));
            let len = reply.encode(b"cookie", Encoding::Bencode).len();
            assert!(len < ROOM, "{sources}: {len}");
        }
        assert_eq!(progression(2), MAX_ENTRIES);
    }
}
