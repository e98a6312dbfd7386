//! Candidates (RFC 8445) at further addresses of the interface that faces a leg.

use crate::call::{Dialog, Side};
use crate::diff::{Desired, Feed, Learn, Stream};
use crate::options::Options;
use crate::signal::Work;
use crate::{Family, Local, MAX_ALTERNATES, MAX_PAIRS};
use std::net::SocketAddr;

impl Work<'_> {
    /// Takes a pair of ports at each other address for the sections of which leg `to` is being told ICE, and gives up
    /// what neither leg has a use for any more. An address without a free pair is left out.
    pub(crate) fn alternate(&mut self, idx: usize, to: usize, options: &Options) {
        for position in 0..self.call.dialogs[idx].medias.len() {
            for side in 0..2 {
                let dialog = &mut self.call.dialogs[idx];
                if !dialog.has_candidates(position, side, to) {
                    dialog.medias[position].alternates[side].clear();
                } else if side == to && options.media_address.is_none() {
                    self.take_alternates(idx, position, side);
                }
            }
        }
    }

    fn take_alternates(&mut self, idx: usize, position: usize, side: usize) {
        let pairs = self.call.locals().count();
        let dialog = &mut self.call.dialogs[idx];
        let media = &mut dialog.medias[position];
        let room = MAX_PAIRS.saturating_sub(pairs);
        let most = MAX_ALTERNATES.min(media.alternates[side].len() + room);
        let mut held: Vec<Local> = media.facing(side).collect();
        while held.len() <= most {
            let name = &dialog.legs[side].interface;
            let Some(local) = self.pools.take_beside(name, &held, self.now.mono) else {
                break;
            };
            self.taken.push(local);
            held.push(local);
            media.alternates[side].push(local);
        }
    }
}

impl Dialog {
    /// Whether a section has ports that leg `side` is, or was, told candidates of; `to` is who is being told now.
    fn has_candidates(&self, position: usize, side: usize, to: usize) -> bool {
        let media = &self.medias[position];
        let own = &media.sides[side];
        // What it has said counts, unless it is yet to answer what it is told.
        let speaks = side == to || own.ice.is_some();
        media.is_relayed() && own.told_ice && speaks && self.head(position, side) == position
    }

    /// The streams that stand for this one at other addresses. A lite agent checks nothing: what comes from its own candidates is
    /// taken there, and it is sent to where its m= line says.
    pub(crate) fn alternates(
        &self,
        position: usize,
        side: usize,
        stream: &Stream,
        into: &mut Desired,
    ) {
        if stream.feed != Feed::Own {
            return;
        }
        let media = &self.medias[position];
        let own = &media.sides[side];
        let is_rtcp = media
            .locals
            .is_some_and(|locals| stream.local != locals[side]);
        for &rtp in &media.alternates[side] {
            let local = if is_rtcp { rtp.rtcp() } else { rtp };
            let remote = own.candidate(if is_rtcp { 2 } else { 1 }, Family::of(local.ip));
            // Nobody is sent to by an alternate who is not to be sent to by the first.
            let remote = remote.filter(|_| stream.remote.is_some());
            let learn = match (stream.ice, remote) {
                (Some(_), _) => stream.learn,
                (None, Some(_)) => Learn::Off,
                (None, None) => continue,
            };
            let alternate = Stream {
                local,
                remote,
                learn,
                hint: None,
                pierce: false,
                feed: Feed::AltOf(stream.local),
                ..*stream
            };
            into.insert(local, alternate);
        }
    }
}

impl Side {
    /// Where a lite agent is by that family.
    fn candidate(&self, component: u8, family: Family) -> Option<SocketAddr> {
        let own = self.candidates.iter().filter(|(of, _)| *of == component);
        own.map(|(_, at)| *at)
            .find(|at| Family::of(at.ip()) == family)
    }
}
