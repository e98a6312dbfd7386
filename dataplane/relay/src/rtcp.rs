//! RTCP (RFC 3550, 6): whether a compound packet is whole, and what its reports say, also those of RFC 3611.

use crate::headers::{Rtcp, view};
use crate::meter::{bump, raise};
use penstock_shm::counters::Drop;
use penstock_shm::tally::{Tally, Voip};
use std::sync::atomic::Ordering::Relaxed;

const SENDER_REPORT: u8 = 200;
const RECEIVER_REPORT: u8 = 201;
const BYE: u8 = 203;
const EXTENDED_REPORT: u8 = 207;

/// The extended report's block of VoIP metrics (RFC 3611, 4.7): its type, and its octets.
const VOIP_METRICS: u8 = 7;
const VOIP_BLOCK: usize = 36;

/// Octets of a report block (6.4.1).
const BLOCK: usize = 24;

/// A round trip beyond this is a wrong clock, ns.
const LONGEST_TRIP_NS: u64 = 60_000_000_000;

/// The packet types that RFC 5761, 4, sets aside for RTCP.
#[inline(always)]
pub(crate) fn is_rtcp(second_octet: u8) -> bool {
    second_octet & 0xe0 == 192
}

/// Checks a compound packet, also of reduced size (RFC 5506). With `secure` (SRTCP) only the first header can be read.
///
/// # Errors
/// [`Drop::NotRtp`] if it does not begin like RTCP, [`Drop::RtcpMalformed`] if a part does not fit (A.2).
pub(crate) fn check(payload: &[u8], secure: bool) -> Result<(), Drop> {
    let (header, _) = Rtcp::split(payload).ok_or(Drop::NotRtp)?;
    if header.version() != 2 || !is_rtcp(header.packet_type()) || header.length() > payload.len() {
        return Err(Drop::NotRtp);
    }
    if secure {
        return Ok(());
    }
    let mut rest = payload;
    while !rest.is_empty() {
        let (header, _) = Rtcp::split(rest).ok_or(Drop::RtcpMalformed)?;
        let (first, behind) = rest
            .split_at_checked(header.length())
            .ok_or(Drop::RtcpMalformed)?;
        let padded = first[0] & 0x20 != 0;
        let fits = match header.packet_type() {
            SENDER_REPORT => first.len() >= 28 + BLOCK * usize::from(header.count()),
            RECEIVER_REPORT => first.len() >= 8 + BLOCK * usize::from(header.count()),
            kind => is_rtcp(kind),
        };
        // Only the last packet may be padded.
        if header.version() != 2 || !fits || padded && !behind.is_empty() {
            return Err(Drop::RtcpMalformed);
        }
        rest = behind;
    }
    Ok(())
}

/// Notes what a checked compound packet says. `peer` is the stream of the opposite direction, whose sender reports
/// the round trip is taken from: `now_ns` less the time its report passed here, less the leg's own delay.
pub(crate) fn read(payload: &[u8], tally: &Tally, peer: Option<&Tally>, now_ns: u64) {
    let mut rest = payload;
    while let Some((header, _)) = Rtcp::split(rest) {
        let Some((packet, behind)) = rest.split_at_checked(header.length()) else {
            return;
        };
        match header.packet_type() {
            SENDER_REPORT => {
                sender(packet, tally, now_ns);
                block(packet.get(28..), header.count(), tally, peer, now_ns);
            }
            RECEIVER_REPORT => block(packet.get(8..), header.count(), tally, peer, now_ns),
            BYE => bump(&tally.reports.byes),
            EXTENDED_REPORT => extended(packet.get(8..), tally, now_ns),
            _ => {}
        }
        rest = behind;
    }
}

fn sender(packet: &[u8], tally: &Tally, now_ns: u64) {
    if let Some(header) = packet.first_chunk::<28>() {
        let middle = u32::from_be_bytes(*view(header, 10));
        tally.reports.sender_report_ntp.store(middle, Relaxed);
        tally.reports.sender_report_ns.set(now_ns);
    }
}

/// The first report block: with one source a direction, the only one.
fn block(blocks: Option<&[u8]>, count: u8, tally: &Tally, peer: Option<&Tally>, now_ns: u64) {
    let Some(block) = blocks
        .and_then(<[u8]>::first_chunk::<BLOCK>)
        .filter(|_| count > 0)
    else {
        return;
    };
    let word = |at| u32::from_be_bytes(*view(block, at));
    let reports = &tally.reports;
    reports.fraction_lost.store(word(4) >> 24, Relaxed);
    reports
        .cumulative_lost
        .store(word(4) & 0x00ff_ffff, Relaxed);
    reports.jitter.store(word(12), Relaxed);
    reports.report_ns.set(now_ns);
    bump(&reports.blocks);
    let (last_report, delay) = (word(16), word(20));
    let Some(peer) = peer.map(|peer| &peer.reports) else {
        return;
    };
    if last_report == 0 || peer.sender_report_ntp.load(Relaxed) != last_report {
        return;
    }
    let delay_ns = (u64::from(delay) * 1_000_000_000) >> 16;
    let trip_ns = now_ns
        .checked_sub(peer.sender_report_ns.get())
        .and_then(|since| since.checked_sub(delay_ns));
    if let Some(trip_ns) = trip_ns.filter(|&ns| ns < LONGEST_TRIP_NS) {
        let us = (trip_ns / 1000).max(1) as u32;
        reports.rtt_us.store(us, Relaxed);
        raise(&reports.rtt_max_us, us);
    }
}

/// The blocks of an extended report (RFC 3611, 3), as far as they fit.
fn extended(blocks: Option<&[u8]>, tally: &Tally, now_ns: u64) {
    let mut rest = blocks.unwrap_or_default();
    while let Some(&[kind, _, high, low]) = rest.first_chunk() {
        let words = usize::from(u16::from_be_bytes([high, low]));
        let Some((block, behind)) = rest.split_at_checked(4 + 4 * words) else {
            return;
        };
        if let Some(block) = block.first_chunk().filter(|_| kind == VOIP_METRICS) {
            metrics(block, &tally.voip, now_ns);
        }
        rest = behind;
    }
}

fn metrics(block: &[u8; VOIP_BLOCK], voip: &Voip, now_ns: u64) {
    let half = |at| u32::from(u16::from_be_bytes(*view(block, at)));
    for (field, value) in [
        (&voip.loss, u32::from(block[8])),
        (&voip.discard, u32::from(block[9])),
        (&voip.round_trip_ms, half(16)),
        (&voip.end_system_ms, half(18)),
        (&voip.r_factor, u32::from(block[24])),
        (&voip.mos_lq, u32::from(block[26])),
        (&voip.mos_cq, u32::from(block[27])),
    ] {
        field.store(value, Relaxed);
    }
    voip.at_ns.set(now_ns);
    bump(&voip.blocks);
}
