//! What of the configuration the workers hold, and how they get another one while they run.

use crate::addresses::Local;
use crate::worker::MediaPorts;
use penstock_config::Config;
use penstock_relay::{LocalAddrs, Rules};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering, fence};

/// What a worker takes over between two turns.
#[derive(Clone)]
pub struct Renewal {
    /// What holds for all streams.
    pub rules: Arc<Rules>,
    /// By port: its addresses, and where endpoints can be.
    pub sides: Vec<(LocalAddrs, Vec<MediaPorts>)>,
    /// Packets a second to ports without a stream, before their source counts as a flood.
    pub unknown_ports_per_s: u32,
}

/// The part of the configuration that each of `ports` ports has; `numbers` are those of `locals`.
pub fn sides(
    config: &Config,
    locals: &[Local],
    numbers: &[u16],
    ports: usize,
) -> Vec<(LocalAddrs, Vec<MediaPorts>)> {
    let side = |port: usize| {
        let (mut ours, mut media) = (LocalAddrs::new(), Vec::new());
        let here = locals.iter().zip(numbers);
        for (local, &number) in here.filter(|(l, _)| usize::from(l.port) == port) {
            // The configuration was checked: no address stands twice, and there are not too many.
            let _ = ours.insert(local.vlan, local.ip, number);
            let interfaces = config.control.interfaces.iter();
            let of_local = interfaces.filter(|i| i.address == local.ip && i.vlan == local.vlan);
            media.extend(of_local.map(|interface| MediaPorts {
                addr: number,
                ports: interface.ports,
            }));
        }
        (ours, media)
    };
    (0..ports).map(side).collect()
}

/// One word that every worker looks at when its bell has rung: how many renewals there were, or that the plane stops.
#[derive(Default)]
pub struct Notice(AtomicU32);

impl Notice {
    const STOP: u32 = u32::MAX;

    /// The plane stops.
    pub fn stop(&self) {
        // Relaxed: nothing is published by it.
        self.0.store(Notice::STOP, Ordering::Relaxed);
    }

    /// There is a renewal in each worker's queue. Steward only.
    pub fn renewed(&self) {
        let count = self.0.load(Ordering::Relaxed).wrapping_add(1);
        // Pairs with the fence of `heed`: who sees the count finds the renewal.
        self.0.store(count % Notice::STOP, Ordering::Release);
    }

    /// What is to be noticed: equal to what was seen last if there is nothing.
    #[inline(always)]
    pub fn word(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }

    /// After [`Notice::word`] has changed: what it is now; `None` if the plane stops.
    pub fn heed(&self) -> Option<u32> {
        let word = self.word();
        // Pairs with the store of `renewed`.
        fence(Ordering::Acquire);
        (word != Notice::STOP).then_some(word)
    }
}
