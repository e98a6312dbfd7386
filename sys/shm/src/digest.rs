//! Names for addresses that only the plane can make.

use std::net::{IpAddr, SocketAddr};

/// The key of the plane's digests: that of its region. 0 in a process that is no plane.
static DIGEST_KEY: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);

/// Keys [`digest_ip`] and [`digest_address`], once in the life of a process, by a random number that no stranger knows:
/// who could compute them would look for an address that passes for another one.
#[cfg(not(loom))]
pub(crate) fn set_digest_key(key: u64) {
    use std::sync::atomic::Ordering::Relaxed;
    let _ = DIGEST_KEY.compare_exchange(0, key, Relaxed, Relaxed);
}

/// A name for an address: equal for equal ones, never 0. Two rounds of folded multiplication.
fn digest(ip: IpAddr, port: u16, key: u64) -> u32 {
    let fold = |a: u64, b: u64| {
        let product = u128::from(a) * u128::from(b);
        product as u64 ^ (product >> 64) as u64
    };
    let (high, low) = match ip {
        IpAddr::V4(ip) => (u64::from(ip.to_bits()), u64::MAX),
        IpAddr::V6(ip) => ((ip.to_bits() >> 64) as u64, ip.to_bits() as u64),
    };
    let first = fold(
        high ^ key ^ 0x9e37_79b9_7f4a_7c15,
        low ^ key.rotate_left(32) ^ 0xbf58_476d_1ce4_e5b9,
    );
    let second = fold(
        first ^ u64::from(port) ^ 0x94d0_49bb_1331_11eb,
        key.rotate_left(16) ^ 0xff51_afd7_ed55_8ccd,
    );
    ((second ^ second >> 32) as u32).max(1)
}

/// [`StreamSpec::hint`](crate::StreamSpec::hint) of an IP address, for the region of this [`generation`](crate::RegionInfo::generation): what
/// [`digest_ip`] is in its plane.
pub fn hint(ip: IpAddr, generation: u64) -> u32 {
    digest(ip, 0, generation)
}

/// An IP address as the plane names it.
pub fn digest_ip(ip: IpAddr) -> u32 {
    digest(ip, 0, DIGEST_KEY.load(std::sync::atomic::Ordering::Relaxed))
}

/// An address with its port as the plane names it.
pub fn digest_address(address: SocketAddr) -> u32 {
    let key = DIGEST_KEY.load(std::sync::atomic::Ordering::Relaxed);
    digest(address.ip(), address.port(), key)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn digests_tell_addresses_apart_and_depend_on_the_key() {
        let mut seen = std::collections::HashSet::new();
        for key in [0, 1, 0x1234_5678_9abc_def0] {
            for last in 0..=255u8 {
                for port in [0, 1, 4000, 4001] {
                    let v6 = [0x2001, 0xdb8, 0, 0, 0, 0, 0, last.into()];
                    assert!(seen.insert(digest([198, 51, 100, last].into(), port, key)));
                    assert!(seen.insert(digest(v6.into(), port, key)));
                }
            }
        }
    }
}
