//! What lies where in rings and table, and the hash that tells two layouts apart.
//!
//! | file | from the start |
//! | --- | --- |
//! | rings | [`Rings`]: identity, counts, sleeping flags, command slots, event slots |
//! | table | [`Table`]: identity, plane, addresses, counters, index; then the records |

use crate::cell::BlockCell;
use crate::counters::{Drop, MAX_PORTS, MAX_WORKERS, PortCounters, WorkerCounters};
use crate::ice::IceCells;
use crate::record::{Head, Record, Slot};
use crate::ring::{Line, RingState};
use crate::sync::{AtomicU32, AtomicU64};
use crate::tally::{Bucket, Detail, Drops, Fed, Meter, Reports, Tally, Voip};
use std::mem::offset_of;

/// How many local addresses a region has room for.
pub const MAX_ADDRESSES: usize = 64;

/// The most streams a region can be made for.
pub const MAX_STREAMS: u32 = 1 << 24;

/// The version of everything that the layout hash cannot see: encodings and meanings.
pub(crate) const ABI: u32 = 4;

/// Slots of the command ring.
pub(crate) const COMMAND_SLOTS: usize = 8192;

/// Slots of the event ring.
pub(crate) const EVENT_SLOTS: usize = 4096;

/// One index entry for each port of each address.
pub(crate) const INDEX_ENTRIES: usize = MAX_ADDRESSES << 16;

/// What a file is and what it belongs to.
#[derive(Default)]
#[repr(C, align(64))]
pub(crate) struct Identity {
    /// [`RINGS_MAGIC`] or [`TABLE_MAGIC`]; written last.
    pub(crate) magic: AtomicU64,
    /// [`LAYOUT_HASH`] of who made it.
    pub(crate) layout: AtomicU64,
    /// A random number that rings and table share.
    pub(crate) generation: AtomicU64,
    /// Length of the file, bytes.
    pub(crate) length: AtomicU64,
    /// [`ABI`] of who made it.
    pub(crate) abi: AtomicU32,
    /// How many records the table holds.
    pub(crate) streams: AtomicU32,
}

pub(crate) const RINGS_MAGIC: u64 = u64::from_be_bytes(*b"penrings");
pub(crate) const TABLE_MAGIC: u64 = u64::from_be_bytes(*b"pentable");

/// The rings file.
#[repr(C)]
pub(crate) struct Rings {
    pub(crate) identity: Identity,
    pub(crate) commands: RingState,
    pub(crate) events: RingState,
    pub(crate) plane_asleep: Line<AtomicU32>,
    pub(crate) control_asleep: Line<AtomicU32>,
    pub(crate) command_slots: [BlockCell; COMMAND_SLOTS],
    pub(crate) event_slots: [BlockCell; EVENT_SLOTS],
}

/// What the plane says of itself. Written by the steward.
#[derive(Default)]
#[repr(C, align(64))]
pub(crate) struct PlaneInfo {
    /// Grows by one at each start.
    pub(crate) epoch: AtomicU64,
    /// ns of CLOCK_MONOTONIC.
    pub(crate) started_ns: AtomicU64,
    /// ns of CLOCK_MONOTONIC.
    pub(crate) heartbeat_ns: AtomicU64,
    pub(crate) pid: AtomicU32,
    pub(crate) workers: AtomicU32,
    pub(crate) live: AtomicU32,
    pub(crate) ended: AtomicU32,
    /// Major, minor and patch, 8 bits each.
    pub(crate) version: AtomicU32,
}

/// A local address. Once used, `ip` and the VLAN never change.
#[derive(Default)]
#[repr(C, align(64))]
pub(crate) struct AddressCell {
    /// The octets, big-endian, IPv4 in the upper word.
    pub(crate) ip: [AtomicU64; 2],
    /// IP version, presence, VLAN, port and MTU in one word; 0 if unused. Written last.
    pub(crate) meta: AtomicU64,
}

/// The table file up to the records.
#[repr(C)]
pub(crate) struct Table {
    pub(crate) identity: Identity,
    pub(crate) plane: PlaneInfo,
    pub(crate) addresses: [AddressCell; MAX_ADDRESSES],
    pub(crate) counters: [WorkerCounters; MAX_WORKERS],
    pub(crate) ports: [PortCounters; MAX_PORTS],
    pub(crate) index: [AtomicU32; INDEX_ENTRIES],
}

/// Length of the table file, bytes, before it is rounded up to whole pages.
pub(crate) const fn table_len(streams: u32) -> usize {
    size_of::<Table>() + streams as usize * size_of::<Record>()
}

pub(crate) const fn fnv(mut hash: u64, bytes: &[u8]) -> u64 {
    let mut i = 0;
    while i < bytes.len() {
        hash = (hash ^ bytes[i] as u64).wrapping_mul(0x0000_0100_0000_01b3);
        i += 1;
    }
    hash
}

/// The size of the field that `_` picks.
pub(crate) const fn field_size<S, F>(_: fn(&S) -> &F) -> usize {
    size_of::<F>()
}

/// Hashes a struct's name, its size, and each field's name, place and size. The pattern makes a
/// forgotten field an error; `dense` types have no padding.
macro_rules! layout {
    ($hash:expr, dense $type:ident { $($field:ident),+ $(,)? }) => {{
        let fields = 0 $(+ $crate::layout::field_size(|value: &$type| &value.$field))+;
        assert!(fields == size_of::<$type>(), "padding");
        layout!($hash, $type { $($field),+ })
    }};
    ($hash:expr, $type:ident { $($field:ident),+ }) => {{
        let _ = |value: &$type| { let $type { $($field: _),+ } = value; };
        let mut hash = fnv($hash, stringify!($type).as_bytes());
        hash = fnv(hash, &size_of::<$type>().to_le_bytes());
        $(
            hash = fnv(hash, stringify!($field).as_bytes());
            hash = fnv(hash, &offset_of!($type, $field).to_le_bytes());
            hash = fnv(hash, &$crate::layout::field_size(|value: &$type| &value.$field).to_le_bytes());
        )+
        hash
    }};
}

pub(crate) use layout;

/// Tells apart programs that would misread each other's region.
pub(crate) const LAYOUT_HASH: u64 = {
    let mut h = 0xcbf2_9ce4_8422_2325;
    h = layout!(
        h,
        Identity {
            magic,
            layout,
            generation,
            length,
            abi,
            streams
        }
    );
    h = layout!(h, RingState { head, tail });
    h = layout!(
        h,
        Rings {
            identity,
            commands,
            events,
            plane_asleep,
            control_asleep,
            command_slots,
            event_slots
        }
    );
    h = layout!(
        h,
        PlaneInfo {
            epoch,
            started_ns,
            heartbeat_ns,
            pid,
            workers,
            live,
            ended,
            version
        }
    );
    h = layout!(h, AddressCell { ip, meta });
    h = layout!(
        h,
        Table {
            identity,
            plane,
            addresses,
            counters,
            ports,
            index
        }
    );
    h = layout!(
        h,
        WorkerCounters {
            rx,
            forwarded,
            consumed,
            handed_over,
            to_kernel,
            from_kernel,
            copied,
            tx_steward,
            polls_busy,
            polls_idle,
            cycles_busy,
            cycles_idle,
            streams_moved,
            captured,
            capture_lost,
            bursts,
            drops
        }
    );
    h = layout!(
        h,
        PortCounters {
            link,
            ipackets,
            opackets,
            ibytes,
            obytes,
            imissed,
            ierrors,
            oerrors,
            rx_nombuf
        }
    );
    h = layout!(
        h,
        Head {
            generation,
            state,
            active,
            endpoint,
            call,
            created_ns,
            ended_ns
        }
    );
    h = layout!(
        h,
        Meter {
            packets,
            bytes,
            last_seen_ns,
            allowed,
            ssrc,
            ext_seq,
            apart,
            jitter_q4,
            transit,
            last,
            latch_asked
        }
    );
    h = layout!(
        h,
        Detail {
            base_seq,
            lost_before,
            late,
            skipped,
            late_before,
            duplicates_before,
            largest_gap,
            foreign,
            other,
            variation
        }
    );
    h = layout!(
        h,
        Reports {
            sender_report_ns,
            report_ns,
            sender_report_ntp,
            rtcp,
            blocks,
            fraction_lost,
            cumulative_lost,
            jitter,
            rtt_us,
            rtt_max_us,
            byes,
            dtmf,
            dtmf_last,
            dtmf_at
        }
    );
    h = layout!(
        h,
        Voip {
            at_ns,
            blocks,
            loss,
            discard,
            round_trip_ms,
            end_system_ms,
            r_factor,
            mos_lq,
            mos_cq
        }
    );
    h = layout!(h, Drops { by_reason, fed });
    h = layout!(
        h,
        Fed {
            copied_bytes,
            copied,
            ssrcs,
            learned
        }
    );
    h = layout!(
        h,
        Bucket {
            due_ns,
            packets,
            bytes,
            at_ns
        }
    );
    h = layout!(
        h,
        Tally {
            meter,
            detail,
            reports,
            voip,
            drops,
            bucket
        }
    );
    h = layout!(
        h,
        dense Slot {
            flags,
            adjacency,
            remote_port,
            longest,
            remote_v4,
            udp_sum,
            udp_delta,
            head,
            ip4_sum,
            usual_hop,
            version,
            clock_mult,
            steady,
            peer,
            event_type,
            accept,
            police,
            pcp,
            remote_v6,
            ip6_src,
            ip6_dst,
            signal,
            leg,
            media,
            links,
            kind,
            learn,
            tos,
            dscp,
            clock_hz,
            payload_types,
            signalled_ns,
            signalled,
            signalled_ip,
            hint,
            known,
            learn_until,
            peer_endpoint,
            signalled_port,
            rank,
            own_remote,
            parent_port,
            parent_addr,
            mid_extension,
            mid
        }
    );
    h = layout!(h, IceCells { words });
    h = layout!(
        h,
        Record {
            head,
            tally,
            slots,
            ice
        }
    );
    let mut i = 0;
    while i < Drop::ALL.len() {
        h = fnv(h, Drop::ALL[i].name().as_bytes());
        i += 1;
    }
    h
};

#[cfg(not(loom))]
const _: () = {
    assert!(size_of::<Table>().is_multiple_of(align_of::<Record>()));
    assert!(COMMAND_SLOTS.is_power_of_two() && EVENT_SLOTS.is_power_of_two());
};
