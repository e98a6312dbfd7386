//! The streams that face a leg in one media, of which ICE has one at each address: what came at any of them came from the leg.

use crate::report::Meters;
use penstock_media::{Local, Media};
use penstock_shm::StreamStat;

/// Where a leg's packets of a media may arrive: RTP, or, with `second`, the port after it. The one of its m= line is first.
pub(crate) fn locals(media: &Media, side: usize, second: bool) -> impl Iterator<Item = Local> {
    let port = move |local: Local| if second { local.rtcp() } else { local };
    media.facing(side).map(port)
}

/// Of these the one where the leg was heard last, or is to be heard: the first if it is the same of several.
pub(crate) fn heard(locals: impl Iterator<Item = Local>, meters: Meters<'_>) -> Option<Local> {
    let worth = |(_, stat): &(Local, Option<StreamStat>)| {
        let stat = stat.as_ref();
        stat.map(|stat| (stat.meter.last_seen_ns, stat.policy.remote.is_some()))
    };
    let all = locals.map(|local| (local, meters(local)));
    let best = all.reduce(|best, next| match worth(&next) > worth(&best) {
        true => next,
        false => best,
    });
    best.map(|(local, _)| local)
}

/// The stream of those that [`heard`] names, with what was counted at all of them.
pub(crate) fn joined(
    locals: impl Iterator<Item = Local> + Clone,
    meters: Meters<'_>,
) -> Option<(Local, StreamStat)> {
    let at = heard(locals.clone(), meters)?;
    let mut stat = meters(at)?;
    for other in locals.filter(|local| *local != at).filter_map(meters) {
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
    Some((at, stat))
}
