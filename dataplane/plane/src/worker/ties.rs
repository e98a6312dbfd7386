//! Packets of streams that are tied to others: copies for forks, and endpoints that several streams share.

use super::stages::Step;
use arrayvec::ArrayVec;
use penstock_dpdk::Mbuf;
use penstock_relay::divide::{self, Member, Whose};
use penstock_relay::{Drop, Udp};
use penstock_shm::record::{Kind, flag, link};
use penstock_shm::{Entry, Feed, MAX_PARTS};

/// The parts of an endpoint.
pub(super) type Parts<'t> = ArrayVec<Member<'t>, MAX_PARTS>;

/// Whose a packet is, of those that share an endpoint.
pub(super) struct Share<'p, 't> {
    /// The stream.
    pub(super) entry: Entry<'t>,
    parts: &'p [Member<'t>],
    whose: Whose,
}

impl Share<'_, '_> {
    /// Whether it is not the stream's that is installed at the endpoint.
    pub(super) fn is_part(&self) -> bool {
        self.whose.part.is_some()
    }
}

fn member(entry: Entry<'_>) -> Member<'_> {
    Member {
        slot: entry.slot(),
        tally: entry.tally(),
    }
}

impl<'a> Step<'a> {
    /// Whose a packet is that arrived at `at`, which others share. `parts` is room for those.
    #[cold]
    pub(super) fn divide<'p>(
        &self,
        mbuf: &Mbuf,
        udp: &Udp,
        at: Entry<'a>,
        parts: &'p mut Parts<'a>,
    ) -> Share<'p, 'a> {
        let mut entries: ArrayVec<Entry<'a>, MAX_PARTS> = ArrayVec::new();
        if let Some(fan) = self.shared.fans.get(self.view.number(at)) {
            let feed = Feed::PartOf(at.slot().home(at.endpoint()));
            let found = fan.parts().flat_map(|bits| self.view.entry_at(bits));
            entries.extend(found.filter(|part| part.slot().feed() == feed));
        }
        parts.extend(entries.iter().map(|&entry| member(entry)));
        let whose = divide::divide(mbuf.frame(), udp, member(at), parts);
        let part = whose.part.and_then(|part| entries.get(part).copied());
        Share {
            entry: part.unwrap_or(at),
            parts,
            whose,
        }
    }

    /// A packet that arrived at `at` has passed.
    #[cold]
    pub(super) fn shared(&self, share: &Share<'_, '_>, at: Entry<'_>) {
        let is_ours = self.view.owner(at.meter()) == Some(self.number);
        if let Some(ssrc) = share.whose.ssrc {
            divide::note(ssrc, share.whose.part, share.parts);
            // Its next packet must not be taken for the endpoint's own on the short way.
            if is_ours && share.is_part() && at.meter().ssrc() == ssrc {
                self.view.release(at.meter(), self.number);
            }
        }
        if is_ours {
            // The source that they share is alive: nobody else may be learned.
            at.meter().last_seen_ns.set(self.now_ns);
        }
    }

    /// Sends a copy of a packet that has passed as `entry`'s, at `at`, to each of its forks. RTCP that shares the port of its
    /// RTP goes with that if nobody asked for a copy of it alone.
    #[cold]
    pub(super) fn fork(&mut self, mbuf: &Mbuf, udp: &Udp, at: Entry<'a>, entry: Entry<'a>) {
        let (own, port) = (entry.slot(), at.slot());
        let is_its_rtcp = own.kind == Kind::Rtcp as u8
            && (own.leg, own.media) == (port.leg, port.media)
            && port.flags & flag::GATE_OPEN != 0;
        let from = match own.links & link::COPIES {
            0 if is_its_rtcp => at,
            _ => entry,
        };
        let Some(fan) = self.shared.fans.get(self.view.number(from)) else {
            return;
        };
        let feed = Feed::CopyOf(from.slot().home(from.endpoint()));
        let needed = flag::GATE_OPEN | flag::ROUTED;
        for bits in fan.copies() {
            if let Some(copy) = self.view.entry_at(bits)
                && copy.slot().feed() == feed
                && copy.slot().flags & needed == needed
            {
                self.copy_to(mbuf, udp, copy);
            }
        }
    }

    fn copy_to(&mut self, mbuf: &Mbuf, udp: &Udp, copy: Entry<'_>) {
        let slot = copy.slot();
        self.counters.copied.add(1);
        copy.tally()
            .fed()
            .count_copied(udp.length.saturating_sub(8));
        let ip_len = match slot.flags & flag::EGRESS_V6 {
            0 => 20,
            _ => 40,
        };
        if ip_len + udp.length > usize::from(slot.longest) {
            return self.lost(copy, Drop::TooBig);
        }
        let Some(mut twin) = self.side.pool.alloc() else {
            return self.lost(copy, Drop::NoBuffer);
        };
        if !twin.set_data(mbuf.frame()) {
            return self.drop_of(copy, twin, Drop::TooBig);
        }
        self.leave(twin, udp, copy);
    }

    /// A copy that was due was not made.
    fn lost(&self, copy: Entry<'_>, reason: Drop) {
        self.counters.drops[reason as usize].add(1);
        copy.tally().count_dropped(reason);
    }

    /// What passed and goes nowhere ends here.
    #[cold]
    pub(super) fn take(&mut self, mbuf: Mbuf) {
        self.counters.consumed.add(1);
        // A full burst frees the packet at once: all the same.
        let _ = self.out.dead.push(mbuf);
    }
}
