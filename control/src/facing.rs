//! The streams that face a leg in one media, of which ICE has one at each address: what came at any of them came from the leg.

use crate::report::Meters;
use penstock_media::{Local, Media};
use penstock_shm::StreamStat;
use std::borrow::Cow;

/// Where a leg's packets of a media may arrive: RTP, or, with `second`, the port after it. The one of its m= line is first.
pub(crate) fn locals(
    media: &Media,
    side: usize,
    second: bool,
) -> impl Iterator<Item = Local> + Clone {
    let port = move |local: Local| if second { local.rtcp() } else { local };
    media.facing(side).map(port)
}

/// Of these the one where the leg was heard last, or is to be heard: the first if it is the same of several.
pub(crate) fn heard(
    mut locals: impl Iterator<Item = Local>,
    meters: Meters<'_, '_>,
) -> Option<Local> {
    let first = locals.next()?;
    // As a rule there is no other, and nothing to be compared.
    let Some(second) = locals.next() else {
        return Some(first);
    };
    let worth = |local| {
        let stat = meters(local);
        stat.map(|stat| (stat.meter.last_seen_ns, stat.policy.remote.is_some()))
    };
    let others = [second].into_iter().chain(locals);
    let best = others.fold((first, worth(first)), |best, local| {
        match (local, worth(local)) {
            next if next.1 > best.1 => next,
            _ => best,
        }
    });
    Some(best.0)
}

/// The stream of those that [`heard`] names, with what was counted at all of them.
pub(crate) fn joined<'a>(
    locals: impl Iterator<Item = Local> + Clone,
    meters: Meters<'_, 'a>,
) -> Option<(Local, Cow<'a, StreamStat>)> {
    let at = heard(locals.clone(), meters)?;
    let mut joined = meters(at)?;
    for other in locals.filter(|local| *local != at).filter_map(meters) {
        let stat = joined.to_mut();
        let (sum, more) = (&mut stat.meter, &other.meter);
        sum.packets += more.packets;
        sum.bytes += more.bytes;
        sum.dropped = sum.dropped.saturating_add(more.dropped);
        sum.lost = sum.lost.saturating_add(more.lost);
        sum.late = sum.late.saturating_add(more.late);
        sum.duplicates = sum.duplicates.saturating_add(more.duplicates);
        for (drops, more) in stat.drops.iter_mut().zip(other.drops) {
            *drops = drops.saturating_add(more);
        }
    }
    Some((at, joined))
}
