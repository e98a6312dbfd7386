//! The body of a `query` or `delete` reply, in rtpengine's structure.

use penstock_media::{Call, Dialog, Kind, Local, Media};
use penstock_ng::{Dict, Value};
use penstock_shm::StreamStat;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Where the meters come from: the live table, or the last meters of what was removed.
pub(crate) type Meters<'a> = &'a dyn Fn(Local) -> Option<StreamStat>;

/// Packets, bytes, errors.
#[derive(Clone, Copy, Default)]
struct Sum {
    packets: u64,
    bytes: u64,
    errors: u64,
}

impl Sum {
    fn of(stat: Option<&StreamStat>) -> Sum {
        stat.map_or(Sum::default(), |stat| Sum {
            packets: stat.meter.packets,
            bytes: stat.meter.bytes,
            errors: stat.meter.dropped.into(),
        })
    }

    fn add(&mut self, other: Sum) {
        self.packets += other.packets;
        self.bytes += other.bytes;
        self.errors += other.errors;
    }

    fn dict(self) -> Dict {
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
    fn unix_s(self, mono_ns: u64) -> u64 {
        let ago_us = self.mono_ns.saturating_sub(mono_ns) / 1000;
        self.unix_us.saturating_sub(ago_us) / 1_000_000
    }
}

/// The report on those legs of `call` that have one of `tags`; on all if there are none.
pub(crate) fn report(call: &Call, tags: &[&str], meters: Meters<'_>, clock: Clock) -> Dict {
    let mut report = Report {
        meters,
        clock,
        created_s: call.created_us / 1_000_000,
        ssrcs: BTreeMap::new(),
        rtp: Sum::default(),
        rtcp: Sum::default(),
    };
    let mut legs = Dict::default();
    for dialog in &call.dialogs {
        for side in 0..2 {
            let leg = &dialog.legs[side];
            let wanted = tags.is_empty() || tags.iter().any(|tag| leg.has(tag));
            let entry = report.leg(dialog, side);
            if wanted && let Some(tag) = leg.tags.last() {
                legs.push(tag.as_bytes(), entry);
            }
        }
    }
    let mut ssrcs = Dict::default();
    for (ssrc, entry) in report.ssrcs {
        ssrcs.push(ssrc.to_string(), entry);
    }
    let mut out = Dict::default();
    out.push("created", call.created_us / 1_000_000);
    out.push("created_us", call.created_us % 1_000_000);
    out.push("created_ts", call.created_us);
    out.push("last signal", call.last_signal_us / 1_000_000);
    out.push("SSRC", ssrcs);
    out.push("tags", legs);
    let totals = [("RTP", report.rtp.dict()), ("RTCP", report.rtcp.dict())];
    out.push("totals", Dict::from_iter(totals));
    out
}

struct Report<'a> {
    meters: Meters<'a>,
    clock: Clock,
    created_s: u64,
    ssrcs: BTreeMap<u32, Dict>,
    rtp: Sum,
    rtcp: Sum,
}

impl Report<'_> {
    fn leg(&mut self, dialog: &Dialog, side: usize) -> Dict {
        let leg = &dialog.legs[side];
        let peers: Vec<Value> = dialog.legs[1 - side]
            .tags
            .last()
            .map(|tag| {
                let pairs = [("tag", tag.as_str()), ("type", "offer/answer")];
                Dict::from_iter(pairs).into()
            })
            .into_iter()
            .collect();
        let medias: Vec<Value> = dialog
            .medias
            .iter()
            .zip(1_u64..)
            .map(|(media, index)| self.media(media, index, side).into())
            .collect();
        let mut out = Dict::default();
        out.push("tag", leg.tags.last().cloned().unwrap_or_default());
        out.push("created", leg.created_us / 1_000_000);
        out.push("subscriptions", peers.clone());
        out.push("subscribers", peers);
        out.push("medias", medias);
        out
    }

    fn media(&mut self, media: &Media, index: u64, side: usize) -> Dict {
        let own = &media.sides[side];
        let mut streams: Vec<Value> = Vec::new();
        if let Some(locals) = media.locals {
            let pair = (locals[side], locals[1 - side]);
            streams.push(self.stream(media, pair, own.remote, media.kind).into());
            if media.has_rtcp {
                let pair = (pair.0.rtcp(), pair.1.rtcp());
                streams.push(self.stream(media, pair, own.remote_rtcp, Kind::Rtcp).into());
            }
        }
        let flags = [
            (true, "initialized"),
            (own.sends, "send"),
            (own.receives, "recv"),
            (own.mux, "rtcp-mux"),
        ];
        let mut out = Dict::default();
        out.push("index", index);
        out.push("type", media.name.as_str());
        out.push("protocol", own.proto.as_str());
        out.push("streams", streams);
        out.push("flags", words(&flags));
        out
    }

    fn stream(
        &mut self,
        media: &Media,
        (local, peer): (Local, Local),
        signalled: Option<std::net::SocketAddr>,
        kind: Kind,
    ) -> Dict {
        let stat = (self.meters)(local);
        let sum = Sum::of(stat.as_ref());
        let total = match kind {
            Kind::Rtcp => &mut self.rtcp,
            Kind::Rtp | Kind::Raw => &mut self.rtp,
        };
        total.add(sum);
        let mut out = Dict::default();
        out.push("local port", u64::from(local.port));
        out.push("local address", local.ip.to_string());
        out.push("family", family(local.ip));
        let remote = stat.as_ref().and_then(|s| s.policy.remote).or(signalled);
        if let Some(remote) = remote {
            out.push("endpoint", address(remote));
        }
        if let Some(signalled) = signalled {
            out.push("advertised endpoint", address(signalled));
        }
        let seen = stat.as_ref().map_or(0, |s| s.meter.last_seen_ns);
        out.push(
            "last packet",
            match seen {
                0 => self.created_s,
                seen => self.clock.unix_s(seen),
            },
        );
        let latched = stat.as_ref().is_some_and(|s| s.policy.latched);
        let flags = [
            (kind == Kind::Rtp, "RTP"),
            (kind == Kind::Rtcp, "RTCP"),
            (remote.is_some(), "filled"),
            (latched, "confirmed"),
        ];
        out.push("flags", words(&flags));
        out.push("stats", sum.dict());
        out.push("stats_out", Sum::of((self.meters)(peer).as_ref()).dict());
        if let Some(stat) = &stat
            && media.kind == Kind::Rtp
            && let Some(ssrc) = stat.meter.ssrc
        {
            out.push("SSRC", u64::from(ssrc));
            self.ssrcs.insert(ssrc, quality(stat));
        }
        out
    }
}

/// What was measured of one source, under rtpengine's names: jitter in ms, loss in percent.
fn quality(stat: &StreamStat) -> Dict {
    let meter = &stat.meter;
    let lost = u64::try_from(meter.lost).unwrap_or(0);
    let expected = u64::from(meter.received) + lost;
    let percent = (lost * 100).checked_div(expected).unwrap_or(0);
    let jitter = meter.jitter_ms.round().max(0.0) as u64;
    let mut average = Dict::default();
    average.push("jitter", jitter);
    average.push("packet loss", percent);
    let mut out = Dict::default();
    out.push("average", average);
    out.push("packets", meter.packets);
    out.push("bytes", meter.bytes);
    out.push("packets lost", lost);
    out
}

fn words(flags: &[(bool, &str)]) -> Vec<Value> {
    let set = flags.iter().filter(|(is_set, _)| *is_set);
    set.map(|&(_, word)| word.into()).collect()
}

fn family(ip: IpAddr) -> &'static str {
    if ip.is_ipv4() { "IPv4" } else { "IPv6" }
}

fn address(address: std::net::SocketAddr) -> Dict {
    let mut out = Dict::default();
    out.push("family", family(address.ip()));
    out.push("address", address.ip().to_string());
    out.push("port", u64::from(address.port()));
    out
}
