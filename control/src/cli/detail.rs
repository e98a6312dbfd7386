//! What is counted of a stream beyond packets, loss and jitter.

use penstock_shm::counters::Drop;
use penstock_shm::{Learn, ReportStat, StreamStat, VoipStat};
use serde::Serialize;
use std::collections::BTreeMap;

/// Lower bounds of the classes of delay variation, ms.
const VARIATION_MS: [u32; 8] = [0, 20, 40, 80, 160, 320, 640, 1280];

/// The characters of DTMF events 0 to 15 (RFC 4733, table 3).
const DIGITS: [char; 16] = [
    '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', '*', '#', 'A', 'B', 'C', 'D',
];

/// One stream's particulars.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Detail {
    /// "off", "immediate", "delayed" or "heuristic".
    learn: &'static str,
    /// Whether it takes its remote alone.
    locked: bool,
    handover: bool,
    tos: u8,
    /// Number of the policing profile; 0 for none.
    police: u8,
    worker: Option<usize>,
    ssrc: Option<u32>,
    payload_type: Option<u8>,
    /// Packets of payload types that were not negotiated.
    foreign: u32,
    /// Packets that were neither RTP nor RTCP.
    other: u32,
    late: u32,
    duplicates: u32,
    largest_gap: u32,
    /// RTP packets by how far their delay was from the packet's before: from so many ms on.
    variation: BTreeMap<u32, u32>,
    dtmf: u32,
    dtmf_last: Option<String>,
    rtcp: Rtcp,
    /// Packets dropped, by reason; reasons without any are left out.
    drops: BTreeMap<&'static str, u32>,
}

/// What the leg reported of the media it receives.
#[derive(Clone, Debug, Serialize)]
struct Rtcp {
    packets: u32,
    reports: u32,
    /// Of the last report: loss since the one before, percent, and packets lost in all.
    loss_percent: Option<f64>,
    lost: Option<i32>,
    /// RTP clock units.
    jitter: Option<u32>,
    /// Between the plane and the leg.
    round_trip_ms: Option<f64>,
    round_trip_max_ms: Option<f64>,
    byes: u32,
    /// The last VoIP metrics (RFC 3611, 4.7).
    voip: Option<Voip>,
}

/// What the leg's own receiver says.
#[derive(Clone, Debug, Serialize)]
struct Voip {
    blocks: u32,
    loss_percent: f64,
    /// What came too late to be played.
    discard_percent: f64,
    round_trip_ms: u16,
    end_system_ms: u16,
    r_factor: Option<u8>,
    mos_lq: Option<f64>,
    mos_cq: Option<f64>,
}

impl Voip {
    fn of(voip: &VoipStat) -> Voip {
        Voip {
            blocks: voip.blocks,
            loss_percent: voip.loss * 100.0,
            discard_percent: voip.discard * 100.0,
            round_trip_ms: voip.round_trip_ms,
            end_system_ms: voip.end_system_ms,
            r_factor: voip.r_factor,
            mos_lq: voip.mos_lq,
            mos_cq: voip.mos_cq,
        }
    }
}

impl Rtcp {
    fn of(reports: &ReportStat, voip: Option<&VoipStat>) -> Rtcp {
        let has = reports.blocks > 0;
        let ms = |us: u32| (us > 0).then(|| f64::from(us) / 1000.0);
        Rtcp {
            packets: reports.rtcp,
            reports: reports.blocks,
            loss_percent: has.then_some(reports.fraction_lost * 100.0),
            lost: has.then_some(reports.lost),
            jitter: has.then_some(reports.jitter),
            round_trip_ms: ms(reports.rtt_us),
            round_trip_max_ms: ms(reports.rtt_max_us),
            byes: reports.byes,
            voip: voip.map(Voip::of),
        }
    }
}

impl Detail {
    pub(super) fn of(stat: &StreamStat) -> Detail {
        let (policy, meter) = (&stat.policy, &stat.meter);
        let drops = Drop::OF_STREAM.iter().zip(stat.drops);
        let digit = |code: u8| match DIGITS.get(usize::from(code)) {
            Some(digit) => digit.to_string(),
            None => format!("event {code}"),
        };
        Detail {
            learn: match policy.learn {
                Learn::Off => "off",
                Learn::Immediate => "immediate",
                Learn::Delayed => "delayed",
                Learn::Heuristic => "heuristic",
                Learn::Checks => "checks",
            },
            locked: policy.locked,
            handover: policy.handover,
            tos: policy.tos,
            police: policy.police,
            worker: meter.owner,
            ssrc: meter.ssrc,
            payload_type: meter.payload_type,
            foreign: meter.foreign,
            other: meter.other,
            late: meter.late,
            duplicates: meter.duplicates,
            largest_gap: meter.largest_gap,
            variation: VARIATION_MS.into_iter().zip(meter.variation).collect(),
            dtmf: stat.reports.dtmf,
            dtmf_last: stat.reports.dtmf_last.map(digit),
            rtcp: Rtcp::of(&stat.reports, stat.voip.as_ref()),
            drops: drops
                .filter(|(_, count)| *count > 0)
                .map(|(reason, count)| (reason.name(), count))
                .collect(),
        }
    }

    /// A line or two for a person; nothing where there is nothing to say.
    pub(super) fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        let mut add = |name: &str, parts: Vec<String>| {
            if !parts.is_empty() {
                lines.push(format!("{name}: {}", parts.join(", ")));
            }
        };
        let some = |count: u32, what: &str| (count > 0).then(|| format!("{count} {what}"));
        let packets = [
            some(self.late, "late"),
            some(self.duplicates, "twice"),
            (self.largest_gap > 0).then(|| format!("largest gap {}", self.largest_gap)),
            some(self.foreign, "of other payload types"),
            some(self.other, "STUN, DTLS or ZRTP"),
        ];
        add("packets", packets.into_iter().flatten().collect());
        let varied = self
            .variation
            .iter()
            .filter(|(ms, count)| **ms > 0 && **count > 0);
        let varied: Vec<_> = varied
            .map(|(ms, count)| format!("{count} by {ms} ms"))
            .collect();
        add("delay varied", varied);
        let rtcp = &self.rtcp;
        let reported = [
            rtcp.loss_percent.map(|loss| format!("{loss:.1} % lost")),
            rtcp.lost.map(|lost| format!("{lost} in all")),
            rtcp.jitter.map(|jitter| format!("jitter {jitter} ticks")),
            rtcp.round_trip_ms
                .map(|ms| format!("round trip {ms:.1} ms")),
            rtcp.voip
                .as_ref()
                .map(|voip| format!("{:.1} % came too late", voip.discard_percent)),
            rtcp.voip
                .as_ref()
                .and_then(|voip| voip.mos_cq)
                .map(|mos| format!("MOS {mos:.1}")),
        ];
        add("the leg reports", reported.into_iter().flatten().collect());
        if let Some(last) = &self.dtmf_last {
            add(
                "DTMF",
                vec![
                    some(self.dtmf, "events").unwrap_or_default(),
                    format!("last {last}"),
                ],
            );
        }
        let drops = self
            .drops
            .iter()
            .map(|(reason, count)| format!("{count} {reason}"));
        add("dropped", drops.collect());
        lines
    }
}
