//! Strangers: packets to ports that nobody has, forged media to those that somebody has, garbage to ng.

use crate::state::{State, add, is};
use penstock_e2e::{Ng, PHONES, PLANE, rtp_packet};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

/// A neighbour of the phones, with an address of its own.
pub const STRANGER: [u8; 4] = [198, 18, 255, 66];

/// About 2,000 packets a second.
pub fn attack(state: &State, ng: &Ng) {
    let bind = |ip: IpAddr| UdpSocket::bind((ip, 0)).expect("a socket");
    let stranger = bind(STRANGER.into());
    let neighbour = bind(PHONES.parse().expect("an address"));
    let plane: IpAddr = PLANE.parse().expect("an address");
    let mut n = 0u32;
    while !is(&state.end) {
        let targets = state.targets.lock().expect("targets").clone();
        for _ in 0..8 {
            n = n.wrapping_add(1);
            // The plane may be away.
            let unknown = SocketAddr::new(plane, 40_000 + (n.wrapping_mul(2531) % 20_000) as u16);
            let _ = stranger.send_to(&rtp_packet(n, 1), unknown);
            let Some(target) = targets.get(n as usize % targets.len().max(1)) else {
                continue;
            };
            let _ = stranger.send_to(&rtp_packet(n, n as u16), target);
            let _ = neighbour.send_to(&rtp_packet(n, n as u16), target);
        }
        add(&state.attacks, 24);
        ng.send(&[&n.to_be_bytes()[..], b" d7:command5:offer"].concat());
        ng.send(format!("{n} {{\"command\": \"delete\"}}").as_bytes());
        std::thread::sleep(Duration::from_millis(12));
    }
}
