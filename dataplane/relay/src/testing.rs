//! What the unit tests share.

use proptest::prelude::*;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Where [`damaged`] frames come from, if the damage spared it.
pub(crate) const SOURCE: SocketAddr =
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(198, 51, 100, 7)), 40000);

/// RTP over IPv4 to the MAC address 02:02:02:02:02:02.
pub(crate) fn sound() -> Vec<u8> {
    build(false, &[], true)
}

/// The same, tagged or not, with up to three octets changed, the IPv4 header checksum mostly right, and
/// sometimes cut short.
pub(crate) fn damaged() -> impl Strategy<Value = Vec<u8>> {
    let damage = prop::collection::vec((0usize..100, any::<u8>()), 0..4);
    (any::<bool>(), damage, 0usize..200, 0usize..5).prop_map(|(tagged, damage, cut, checksum)| {
        let mut frame = build(tagged, &damage, checksum != 0);
        frame.truncate(cut);
        frame
    })
}

fn build(tagged: bool, damage: &[(usize, u8)], checksum: bool) -> Vec<u8> {
    let mut frame = vec![2; 12];
    if tagged {
        frame.extend([0x81, 0, 0xa0, 5]);
    }
    frame.extend([0x08, 0]);
    let l3 = frame.len();
    frame.extend([
        0x45, 0, 0, 60, 0, 0, 0x40, 0, 9, 17, 0, 0, 198, 51, 100, 7, 192, 0, 2, 1,
    ]);
    frame.extend([0x9c, 0x40, 0x4e, 0x20, 0, 40, 0, 0]);
    frame.extend([0x80, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3]);
    frame.extend([0; 30]);
    for &(at, value) in damage {
        if let Some(octet) = frame.get_mut(at) {
            *octet = value;
        }
    }
    if checksum {
        frame[l3 + 10..l3 + 12].fill(0);
        let sum = !crate::sum::fold(crate::sum::bytes(&frame[l3..l3 + 20]));
        frame[l3 + 10..l3 + 12].copy_from_slice(&sum.to_ne_bytes());
    }
    frame
}
