//! What the configuration says for all streams, in the words of the packet path.

use crate::windows::Window;
use penstock_config::Config;
use penstock_relay::Rules;
use penstock_relay::learn::{Network, Patience, Sources};
use penstock_relay::police::{Profile, Profiles, Rate};
use penstock_shm::Timers;

/// A packet, however small its peak rate's tolerance: octets.
const LARGEST: u64 = 1500;

/// Policing, source lists, and when a lock may move.
pub fn rules(config: &Config) -> Rules {
    let mut profiles = Profiles::default();
    for police in &config.police {
        // The configuration was checked: there is room for each number.
        let Some(profile) = profiles.0.get_mut(usize::from(police.number)) else {
            continue;
        };
        let rate = Rate::new;
        let early =
            |per_s: u64, least: u64| rate(per_s, (per_s * police.tolerance_ms / 1000).max(least));
        *profile = Profile {
            sustained_packets: rate(police.packets_per_s, police.packets_burst),
            peak_packets: early(police.peak_packets_per_s, 1),
            sustained_bytes: rate(police.bytes_per_s, police.bytes_burst),
            peak_bytes: early(police.peak_bytes_per_s, LARGEST),
        };
    }
    let networks = |list: &[penstock_config::Network]| {
        let network = |n: &penstock_config::Network| Network {
            ip: n.ip,
            len: n.len,
        };
        list.iter().map(network).collect()
    };
    Rules {
        profiles,
        sources: Sources {
            allow: networks(&config.sources.allow),
            deny: networks(&config.sources.deny),
        },
        patience: Patience {
            relearn_ns: u64::from(config.learning.relearn_s) * 1_000_000_000,
            handover_ns: u64::from(config.learning.handover_ms) * 1_000_000,
        },
        software: config.plane.stun_software.clone(),
    }
}

/// How long learning windows are.
pub fn window(config: &Config) -> Window {
    Window {
        ns: u64::from(config.learning.window_ms) * 1_000_000,
        packets: config.learning.window_packets,
    }
}

/// When media that stays away is reported.
pub fn timers(config: &Config) -> Timers {
    let ns = |s: u32| u64::from(s) * 1_000_000_000;
    let timeouts = &config.timeouts;
    Timers {
        start_ns: ns(timeouts.start_s),
        silence_ns: ns(timeouts.silence_s),
        hold_ns: ns(timeouts.hold_s),
        one_way_ns: ns(timeouts.one_way_s),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_keeps_its_number_wherever_it_stands() {
        let [audio, video] = [(3, 100), (15, 2000)].map(|(number, packets_per_s)| {
            format!("[[police]]\nnumber = {number}\npackets_per_s = {packets_per_s}\npackets_burst = 50\n")
        });
        let parse = |police: &str| {
            let text = format!("{}\n{police}", penstock_config::DEFAULTS);
            Config::parse(&text, "test.toml".as_ref()).expect("a good file")
        };
        let one = rules(&parse(&[&*audio, &*video].concat())).profiles;
        assert_eq!(one.0[3].sustained_packets, Rate::new(100, 50));
        assert_eq!(one.0[15].sustained_packets, Rate::new(2000, 50));
        let other = rules(&parse(&[&*video, &*audio].concat())).profiles;
        assert_eq!(other, one);
        let alone = rules(&parse(&video)).profiles;
        assert_eq!(alone.0[15], one.0[15]);
        assert_eq!(alone.0[3], Profile::default());
    }
}
