//! The table as a reader sees it: control, the CLI, metrics. Costs the plane nothing.

use crate::address::Address;
use crate::counters::{BURST_SIZES, Drop, MAX_WORKERS};
use crate::feed::{Feed, Mid};
use crate::ice::Ice;
use crate::layout::PlaneInfo;
use crate::life::entry_number;
use crate::lifecycle::{RegionError, TableFile, open_table};
use crate::lock::{Lock, PLANE};
use crate::pulse::PlaneState;
use crate::record::{Dscp, Endpoint, Kind, Learn, Record, Slot, flag, link, state};
use crate::sync::{AtomicU32, Ordering};
use crate::table::Counts;
use crate::tally::{Detail, Reports, Tally, VARIATIONS, Voip};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

/// The table, mapped read-only.
#[derive(Clone)]
pub struct TableView {
    table: TableFile,
    plane: Arc<Lock>,
}

/// What the plane says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RegionInfo {
    /// The random number of this region.
    pub generation: u64,
    /// How many planes have started on it.
    pub epoch: u64,
    /// The plane's process.
    pub pid: u32,
    /// When the plane started, ns of CLOCK_MONOTONIC.
    pub started_ns: u64,
    /// When its steward last turned, ns of CLOCK_MONOTONIC.
    pub heartbeat_ns: u64,
    /// How many records there are.
    pub capacity: u32,
    /// How many are in which state.
    pub counts: Counts,
    /// How many workers run.
    pub workers: usize,
    /// The plane's version: major, minor, patch.
    pub version: [u8; 3],
}

/// One stream, live or ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StreamStat {
    /// The record's number.
    pub number: u32,
    /// Its generation; [`crate::Op::Acknowledge`] wants both.
    pub generation: u32,
    /// Whether the stream was removed, and only its meter is left.
    pub ended: bool,
    /// Where the stream arrives.
    pub endpoint: Endpoint,
    /// Control's key of the call.
    pub call: u64,
    /// When it was installed, ns of CLOCK_MONOTONIC.
    pub created_ns: u64,
    /// When it was removed, ns of CLOCK_MONOTONIC.
    pub ended_ns: u64,
    /// Policy and route.
    pub policy: Policy,
    /// What passed.
    pub meter: MeterStat,
    /// What RTCP and DTMF said.
    pub reports: ReportStat,
    /// What the leg's VoIP metrics said last; `None` if there never were any.
    pub voip: Option<VoipStat>,
    /// Packets of another stream that were due to this one, a copy of it, and their UDP payload, octets.
    pub copied: (u32, u64),
    /// Packets dropped, in the order of [`Drop::OF_STREAM`].
    pub drops: [u32; Drop::OF_STREAM.len()],
}

/// VoIP metrics (RFC 3611, 4.7): what a leg says of the media it receives.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct VoipStat {
    /// How many blocks came.
    pub blocks: u32,
    /// When the last one came, ns of CLOCK_MONOTONIC.
    pub at_ns: u64,
    /// Share of packets lost on the way, 0 to 1.
    pub loss: f64,
    /// Share of packets that came too late to be played, 0 to 1.
    pub discard: f64,
    /// Round trip between the leg and the other end of its RTCP, ms.
    pub round_trip_ms: u16,
    /// Delay inside the leg, ms.
    pub end_system_ms: u16,
    /// R factor, 0 to 100, if the leg says it.
    pub r_factor: Option<u8>,
    /// MOS for listening quality, 1 to 5, if the leg says it.
    pub mos_lq: Option<f64>,
    /// MOS for conversational quality, likewise.
    pub mos_cq: Option<f64>,
}

/// The live slot of a stream, decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Whether packets that arrive are forwarded.
    pub gate_open: bool,
    /// Whether only `remote` may send.
    pub locked: bool,
    /// Whether the route is complete.
    pub routed: bool,
    /// Whether `remote` was learned from a packet.
    pub latched: bool,
    /// The remote address: who may send, and where the peer stream's packets go.
    pub remote: Option<SocketAddr>,
    /// What passes.
    pub kind: Kind,
    /// How a source is accepted.
    pub learn: Learn,
    /// The last signalling applied.
    pub signal: u32,
    /// Which leg of the call.
    pub leg: u16,
    /// Which media of the leg.
    pub media: u8,
    /// Record number of the opposite direction.
    pub peer: Option<u32>,
    /// The endpoint packets leave from.
    pub peer_endpoint: Endpoint,
    /// RTP clock rate, Hz; 0 for none.
    pub clock_hz: u32,
    /// How often the stream was updated.
    pub version: u32,
    /// TOS or traffic class of what leaves, if its DSCP is not copied.
    pub tos: u8,
    /// The DSCP asked for.
    pub dscp: Dscp,
    /// Whether a new source is followed once the old one is silent.
    pub handover: bool,
    /// See [`crate::StreamSpec::hint`].
    pub hint: u32,
    /// RTP payload types negotiated, a bit each; 0 for any.
    pub payload_types: u128,
    /// Whether others are dropped.
    pub strict_payload: bool,
    /// Payload type of telephone-event; 0 for none.
    pub event_type: u8,
    /// See [`crate::StreamSpec::accept`].
    pub accept: u8,
    /// Whether RTP and RTCP are SRTP.
    pub secure: bool,
    /// Number of the policing profile; 0 for none.
    pub police: u8,
    /// Whether what passes is copied to the capture ring.
    pub capture: bool,
    /// When the stream was last signalled anew, ns of CLOCK_MONOTONIC.
    pub signalled_ns: u64,
    /// Where its packets come from.
    pub feed: Feed,
    /// How they name themselves in a bundle.
    pub mid: Option<Mid>,
    /// Whether telephone events are dropped.
    pub drop_events: bool,
    /// Whether its remote is sent empty datagrams until something comes.
    pub pierce: bool,
    /// The credentials that its connectivity checks have, if it has ICE.
    pub ice: Option<Ice>,
}

/// The meter of a stream, decoded.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MeterStat {
    /// Packets that passed every check.
    pub packets: u64,
    /// Their UDP payload, octets.
    pub bytes: u64,
    /// When the last one came, ns of CLOCK_MONOTONIC; 0 for never.
    pub last_seen_ns: u64,
    /// Packets that were dropped: the sum of [`StreamStat::drops`], but for what came between the two.
    pub dropped: u32,
    /// The present source, if RTP came.
    pub ssrc: Option<u32>,
    /// The payload type last seen, if RTP came.
    pub payload_type: Option<u8>,
    /// Packets of the present source.
    pub received: u32,
    /// Extended highest sequence number.
    pub ext_seq: u32,
    /// Packets lost of all sources; negative if more came than were sent (RFC 3550, A.3).
    pub lost: i64,
    /// Interarrival jitter, ms (RFC 3550, A.8); 0 without a clock.
    pub jitter_ms: f64,
    /// The worker that owns the stream.
    pub owner: Option<usize>,
    /// Packets that came after one with a higher sequence number.
    pub late: u32,
    /// Packets that repeated the highest sequence number.
    pub duplicates: u32,
    /// The most sequence numbers skipped at once.
    pub largest_gap: u32,
    /// Packets of payload types that were not negotiated.
    pub foreign: u32,
    /// Packets that were neither RTP nor RTCP.
    pub other: u32,
    /// RTP packets by how much their delay differed from the packet's before: less than 20 ms, from 20, 40, 80, 160,
    /// 320, 640 and 1280 ms on.
    pub variation: [u32; VARIATIONS + 1],
}

/// What the packets of a stream said.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ReportStat {
    /// RTCP packets.
    pub rtcp: u32,
    /// Report blocks read: what this leg says of the media it receives. What follows is the last one's.
    pub blocks: u32,
    /// When it came, ns of CLOCK_MONOTONIC; 0 for never.
    pub report_ns: u64,
    /// Loss since the report before, 0 to 1.
    pub fraction_lost: f64,
    /// Packets lost in all; negative with duplicates.
    pub lost: i32,
    /// Jitter, RTP clock units: this stream's record does not know the clock of the reported one if it is RTCP.
    pub jitter: u32,
    /// Round trip between the plane and the leg, us; 0 while unknown.
    pub rtt_us: u32,
    /// Its greatest value.
    pub rtt_max_us: u32,
    /// RTCP BYE packets.
    pub byes: u32,
    /// DTMF events that began (RFC 4733).
    pub dtmf: u32,
    /// Code of the last one: 0 to 9, 10 for *, 11 for #, 12 to 15 for A to D.
    pub dtmf_last: Option<u8>,
}

/// One port's counters; see [`crate::counters::PortCounters`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the counters document them")]
pub struct PortStat {
    pub number: usize,
    pub up: bool,
    pub ipackets: u64,
    pub opackets: u64,
    pub ibytes: u64,
    pub obytes: u64,
    pub imissed: u64,
    pub ierrors: u64,
    pub oerrors: u64,
    pub rx_nombuf: u64,
}

/// One worker's counters; see [`crate::WorkerCounters`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the counters document them")]
pub struct WorkerStat {
    pub number: usize,
    pub rx: u64,
    pub forwarded: u64,
    pub consumed: u64,
    pub handed_over: u64,
    pub to_kernel: u64,
    pub from_kernel: u64,
    pub copied: u64,
    pub tx_steward: u64,
    pub polls_busy: u64,
    pub polls_idle: u64,
    pub cycles_busy: u64,
    pub cycles_idle: u64,
    pub streams_moved: u64,
    pub captured: u64,
    pub capture_lost: u64,
    pub bursts: [u64; BURST_SIZES],
    pub drops: Vec<(Drop, u64)>,
}

impl TableView {
    pub(crate) fn new(table: TableFile, plane: Arc<Lock>) -> TableView {
        TableView { table, plane }
    }

    /// Opens the table of the region in `dir`. Needs no lock, and the plane need not live.
    pub fn open(dir: &Path) -> Result<TableView, RegionError> {
        let table = open_table(dir)?;
        Ok(TableView {
            table,
            plane: Arc::new(Lock::watch(dir, &PLANE)?),
        })
    }

    /// Whether a plane works on this region at this moment.
    pub fn plane_state(&self) -> PlaneState {
        let heartbeat_ns = self.info().heartbeat_ns;
        PlaneState::of(self.plane.is_held(), heartbeat_ns, crate::monotonic_ns())
    }

    /// Whether a plane works on this region, and does not stand still.
    pub fn plane_alive(&self) -> bool {
        self.plane_state() == PlaneState::Running
    }

    /// What the plane says of itself.
    pub fn info(&self) -> RegionInfo {
        let identity = &self.table.head.identity;
        let plane: &PlaneInfo = &self.table.head.plane;
        // Pairs with `Pulse::start`: the rest is that of the plane of this epoch, or of a later one.
        let epoch = plane.epoch.load(Ordering::Acquire);
        let capacity = self.table.records.len() as u32;
        let live = plane.live.load(Ordering::Relaxed);
        let ended = plane.ended.load(Ordering::Relaxed);
        let free = capacity.saturating_sub(live).saturating_sub(ended);
        RegionInfo {
            generation: identity.generation.load(Ordering::Relaxed),
            epoch,
            pid: plane.pid.load(Ordering::Relaxed),
            started_ns: plane.started_ns.load(Ordering::Relaxed),
            heartbeat_ns: plane.heartbeat_ns.load(Ordering::Relaxed),
            capacity,
            counts: Counts { live, ended, free },
            workers: (plane.workers.load(Ordering::Relaxed) as usize).min(MAX_WORKERS),
            version: {
                let [_, version @ ..] = plane.version.load(Ordering::Relaxed).to_be_bytes();
                version
            },
        }
    }

    /// Every address that was ever the plane's.
    pub fn addresses(&self) -> Vec<Address> {
        crate::address::list(&self.table.head.addresses)
    }

    /// The number of the stream installed at the endpoint.
    pub fn find(&self, endpoint: Endpoint) -> Option<u32> {
        let index = self.table.head.index.get(endpoint.to_bits() as usize)?;
        // Pairs with `Record::enter_index`: the record is filled.
        entry_number(index.load(Ordering::Acquire))
    }

    /// A consistent copy of the stream; none if no stream has this number.
    pub fn stream(&self, number: u32) -> Option<StreamStat> {
        let record = self.table.records.get(number as usize)?;
        record.read(|record, slot, ice| decode(number, record, &slot, ice))
    }

    /// The generation of the stream; none if no stream has this number.
    pub fn generation(&self, number: u32) -> Option<u32> {
        let generation = self.table.records.get(number as usize)?.generation();
        // Odd while in use.
        (generation & 1 == 1).then_some(generation)
    }

    /// Every stream, live or ended.
    pub fn iter(&self) -> impl Iterator<Item = StreamStat> {
        (0..self.table.records.len() as u32).filter_map(|number| self.stream(number))
    }

    /// The counters of the workers that run.
    pub fn workers(&self) -> Vec<WorkerStat> {
        let counters = self.table.head.counters.iter().take(self.info().workers);
        let stat = |(number, c): (usize, &crate::WorkerCounters)| WorkerStat {
            number,
            rx: c.rx.get(),
            forwarded: c.forwarded.get(),
            consumed: c.consumed.get(),
            handed_over: c.handed_over.get(),
            to_kernel: c.to_kernel.get(),
            from_kernel: c.from_kernel.get(),
            copied: c.copied.get(),
            tx_steward: c.tx_steward.get(),
            polls_busy: c.polls_busy.get(),
            polls_idle: c.polls_idle.get(),
            cycles_busy: c.cycles_busy.get(),
            cycles_idle: c.cycles_idle.get(),
            streams_moved: c.streams_moved.get(),
            captured: c.captured.get(),
            capture_lost: c.capture_lost.get(),
            bursts: c.bursts.each_ref().map(|count| count.get()),
            drops: Drop::ALL
                .iter()
                .zip(&c.drops)
                .map(|(drop, c)| (*drop, c.get()))
                .collect(),
        };
        counters.enumerate().map(stat).collect()
    }

    /// The ports of the plane that runs, in the order of the configuration.
    pub fn ports(&self) -> Vec<PortStat> {
        let ports = self.table.head.ports.iter().enumerate();
        ports
            .filter(|(_, port)| port.link.get() != 0)
            .map(|(number, port)| PortStat {
                number,
                up: port.link.get() == 2,
                ipackets: port.ipackets.get(),
                opackets: port.opackets.get(),
                ibytes: port.ibytes.get(),
                obytes: port.obytes.get(),
                imissed: port.imissed.get(),
                ierrors: port.ierrors.get(),
                oerrors: port.oerrors.get(),
                rx_nombuf: port.rx_nombuf.get(),
            })
            .collect()
    }
}

fn decode(number: u32, record: &Record, slot: &Slot, ice: Option<Ice>) -> StreamStat {
    let head = &record.head;
    StreamStat {
        number,
        generation: record.generation(),
        // Pairs with `Record::end`: the time belongs to the state.
        ended: head.state.load(Ordering::Acquire) == state::ENDED,
        endpoint: record.endpoint(),
        call: head.call.load(Ordering::Relaxed),
        created_ns: head.created_ns.load(Ordering::Relaxed),
        ended_ns: head.ended_ns.load(Ordering::Relaxed),
        policy: decode_policy(slot, ice),
        meter: decode_meter(&record.tally, slot.clock_hz),
        reports: decode_reports(&record.tally.reports),
        voip: decode_voip(&record.tally.voip),
        copied: record.tally.fed().copies(),
        drops: record
            .tally
            .drops
            .by_reason
            .each_ref()
            .map(|count| count.load(Ordering::Relaxed)),
    }
}

fn decode_policy(slot: &Slot, ice: Option<Ice>) -> Policy {
    let is = |bit| slot.flags & bit != 0;
    Policy {
        gate_open: is(flag::GATE_OPEN),
        locked: is(flag::LOCKED),
        routed: is(flag::ROUTED),
        latched: is(flag::LATCHED),
        remote: slot.remote(),
        kind: Kind::from_u8(slot.kind).unwrap_or(Kind::Raw),
        learn: Learn::from_u8(slot.learn).unwrap_or(Learn::Off),
        signal: slot.signal,
        leg: slot.leg,
        media: slot.media,
        peer: (slot.peer != u32::MAX).then_some(slot.peer),
        peer_endpoint: Endpoint::from_bits(slot.peer_endpoint),
        clock_hz: slot.clock_hz,
        version: slot.version,
        tos: slot.tos,
        dscp: Dscp::from_u8(slot.dscp).unwrap_or_default(),
        handover: is(flag::HANDOVER),
        hint: slot.hint,
        payload_types: u128::from(slot.payload_types[1]) << 64 | u128::from(slot.payload_types[0]),
        strict_payload: is(flag::STRICT_PAYLOAD),
        event_type: slot.event_type,
        accept: slot.accept,
        secure: is(flag::SECURE),
        police: slot.police,
        capture: is(flag::CAPTURE),
        signalled_ns: slot.signalled_ns,
        feed: slot.feed(),
        mid: slot.mid(),
        drop_events: slot.links & link::DROP_EVENTS != 0,
        pierce: slot.links & link::PIERCE != 0,
        ice,
    }
}

fn decode_meter(tally: &Tally, clock_hz: u32) -> MeterStat {
    let Tally { meter, detail, .. } = tally;
    let word = |word: &AtomicU32| word.load(Ordering::Relaxed);
    let last = meter.last();
    let seen = last.seen() != 0;
    // In this order, so that a packet that comes meanwhile is not taken for lost; and a restart that
    // comes between the two numbers is not taken for four thousand million.
    let ext_seq = word(&meter.ext_seq);
    let received = if seen { meter.received() } else { 0 };
    let span = (ext_seq.wrapping_sub(word(&detail.base_seq)) as i32).max(0);
    let expected = if seen { i64::from(span) + 1 } else { 0 };
    let lost_before = i64::from(word(&detail.lost_before));
    let jitter_q4 = f64::from(word(&meter.jitter_q4));
    let Detail {
        late,
        late_before,
        duplicates_before,
        ..
    } = detail;
    let (variations, varied) = variations(detail);
    let no_rtp = word(&detail.other).wrapping_add(word(&tally.reports.rtcp));
    let rtp = (meter.packets.get() as u32).wrapping_sub(no_rtp);
    MeterStat {
        packets: meter.packets.get(),
        bytes: meter.bytes.get(),
        last_seen_ns: meter.last_seen_ns.get(),
        dropped: tally.dropped(),
        ssrc: seen.then(|| meter.ssrc()),
        payload_type: seen.then(|| last.payload_type()),
        received,
        ext_seq,
        lost: lost_before + expected - i64::from(received),
        jitter_ms: match clock_hz {
            0 => 0.0,
            hz => jitter_q4 / 16.0 * 1000.0 / f64::from(hz),
        },
        owner: usize::from(last.owner()).checked_sub(1),
        late: word(late).wrapping_add(word(late_before)),
        duplicates: tally
            .duplicates(received, ext_seq)
            .wrapping_add(word(duplicates_before)),
        largest_gap: word(&detail.largest_gap),
        foreign: word(&detail.foreign),
        other: word(&detail.other),
        variation: {
            let mut all = [rtp.saturating_sub(varied); VARIATIONS + 1];
            all[1..].copy_from_slice(&variations);
            all
        },
    }
}

/// The classes of delay variation, and their sum.
fn variations(detail: &Detail) -> ([u32; VARIATIONS], u32) {
    let classes = detail
        .variation
        .each_ref()
        .map(|class| class.load(Ordering::Relaxed));
    (
        classes,
        classes
            .iter()
            .fold(0, |sum, class| sum.wrapping_add(*class)),
    )
}

fn decode_reports(reports: &Reports) -> ReportStat {
    let word = |word: &AtomicU32| word.load(Ordering::Relaxed);
    let dtmf_last = word(&reports.dtmf_last);
    ReportStat {
        rtcp: word(&reports.rtcp),
        blocks: word(&reports.blocks),
        report_ns: reports.report_ns.get(),
        fraction_lost: f64::from(word(&reports.fraction_lost)) / 256.0,
        // A signed number of 24 bits.
        lost: (word(&reports.cumulative_lost) << 8) as i32 >> 8,
        jitter: word(&reports.jitter),
        rtt_us: word(&reports.rtt_us),
        rtt_max_us: word(&reports.rtt_max_us),
        byes: word(&reports.byes),
        dtmf: word(&reports.dtmf),
        dtmf_last: (dtmf_last > u8::MAX.into()).then_some(dtmf_last as u8),
    }
}

fn decode_voip(voip: &Voip) -> Option<VoipStat> {
    let word = |word: &AtomicU32| word.load(Ordering::Relaxed);
    // Whatever else a leg says, 127 included, says nothing.
    let mos = |tenths: u32| {
        (10..=50)
            .contains(&tenths)
            .then(|| f64::from(tenths) / 10.0)
    };
    let blocks = word(&voip.blocks);
    (blocks > 0).then(|| VoipStat {
        blocks,
        at_ns: voip.at_ns.get(),
        loss: f64::from(word(&voip.loss)) / 256.0,
        discard: f64::from(word(&voip.discard)) / 256.0,
        round_trip_ms: word(&voip.round_trip_ms) as u16,
        end_system_ms: word(&voip.end_system_ms) as u16,
        r_factor: u8::try_from(word(&voip.r_factor))
            .ok()
            .filter(|r| *r <= 100),
        mos_lq: mos(word(&voip.mos_lq)),
        mos_cq: mos(word(&voip.mos_cq)),
    })
}
