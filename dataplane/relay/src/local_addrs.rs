//! From (VLAN, destination address) to the number of a local address, in a handful of instructions.

use crate::classify::Udp;
use crate::headers::{Ipv4, Ipv6};
use std::net::IpAddr;

/// Twice the entries, so that a probe soon meets an empty place.
const PLACES: usize = 2 * LocalAddrs::MAX;

/// Marks an occupied place; lies above the twelve bits of a VLAN identifier.
const TAKEN: u16 = 1 << 15;

/// A port's local addresses, each under the number that the table's address list gives it.
///
/// Two open-addressed tables, one for each IP version, never more than half full. Built by the steward,
/// read by workers.
#[derive(Clone)]
pub struct LocalAddrs {
    /// `address << 32 | (TAKEN | vlan) << 16 | number`; 0 for an empty place.
    v4: [u64; PLACES],
    v6: [Place6; PLACES],
    count: usize,
}

#[derive(Clone, Copy)]
struct Place6 {
    address: u128,
    /// `TAKEN | vlan`; 0 for an empty place.
    vlan: u16,
    number: u16,
}

/// Why an address was not added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddrError {
    /// The port has [`LocalAddrs::MAX`] addresses.
    Full,
    /// The address is there already, on this VLAN.
    Twice,
    /// A VLAN identifier is 0 (for none) to 4094.
    Vlan,
}

impl LocalAddrs {
    /// The most addresses a port can have.
    pub const MAX: usize = 64;

    /// No address at all.
    pub const fn new() -> Self {
        let empty = Place6 {
            address: 0,
            vlan: 0,
            number: 0,
        };
        LocalAddrs {
            v4: [0; PLACES],
            v6: [empty; PLACES],
            count: 0,
        }
    }

    /// Adds an address on a VLAN (0 for none) under its number.
    pub fn insert(&mut self, vlan: u16, address: IpAddr, number: u16) -> Result<(), AddrError> {
        if vlan > 4094 {
            return Err(AddrError::Vlan);
        }
        if self.get(vlan, address).is_some() {
            return Err(AddrError::Twice);
        }
        if self.count == Self::MAX {
            return Err(AddrError::Full);
        }
        self.count += 1;
        match address {
            IpAddr::V4(address) => {
                let key = key4(vlan, address.octets());
                let mut at = place4(key);
                while self.v4[at] != 0 {
                    at = (at + 1) % PLACES;
                }
                self.v4[at] = key << 16 | u64::from(number);
            }
            IpAddr::V6(address) => {
                let address = u128::from_ne_bytes(address.octets());
                let mut at = place6(vlan, address);
                while self.v6[at].vlan != 0 {
                    at = (at + 1) % PLACES;
                }
                self.v6[at] = Place6 {
                    address,
                    vlan: vlan | TAKEN,
                    number,
                };
            }
        }
        Ok(())
    }

    /// The number of an address on a VLAN.
    pub fn get(&self, vlan: u16, address: IpAddr) -> Option<u16> {
        match address {
            IpAddr::V4(address) => self.get4(vlan, address.octets()),
            IpAddr::V6(address) => self.get6(vlan, address.octets()),
        }
    }

    /// The number of the address a datagram was sent to; `None` if it is not one of ours.
    #[inline(always)]
    pub fn find(&self, frame: &[u8], udp: &Udp) -> Option<u16> {
        let packet = frame.get(udp.l3..)?;
        if udp.v6 {
            let (ip, _) = Ipv6::split(packet)?;
            self.get6(udp.vlan, ip.destination().octets())
        } else {
            let (ip, _) = Ipv4::split(packet)?;
            self.get4(udp.vlan, ip.destination().octets())
        }
    }

    /// As [`get`](Self::get), of an IPv4 address.
    #[inline(always)]
    pub fn get4(&self, vlan: u16, address: [u8; 4]) -> Option<u16> {
        let key = key4(vlan, address);
        let mut at = place4(key);
        loop {
            let place = self.v4[at];
            if place >> 16 == key {
                return Some(place as u16);
            }
            if place == 0 {
                return None;
            }
            at = (at + 1) % PLACES;
        }
    }

    /// As [`get`](Self::get), of an IPv6 address.
    #[inline]
    pub fn get6(&self, vlan: u16, address: [u8; 16]) -> Option<u16> {
        let address = u128::from_ne_bytes(address);
        let mut at = place6(vlan, address);
        loop {
            let place = &self.v6[at];
            if place.vlan == vlan | TAKEN && place.address == address {
                return Some(place.number);
            }
            if place.vlan == 0 {
                return None;
            }
            at = (at + 1) % PLACES;
        }
    }
}

impl Default for LocalAddrs {
    fn default() -> Self {
        LocalAddrs::new()
    }
}

#[inline(always)]
fn key4(vlan: u16, address: [u8; 4]) -> u64 {
    u64::from(u32::from_ne_bytes(address)) << 16 | u64::from(vlan | TAKEN)
}

#[inline(always)]
fn place4(key: u64) -> usize {
    mix(key)
}

#[inline(always)]
fn place6(vlan: u16, address: u128) -> usize {
    mix((address as u64) ^ ((address >> 64) as u64).rotate_left(23) ^ u64::from(vlan))
}

/// Multiplicative hashing: the upper bits depend on every bit of the key.
#[inline(always)]
fn mix(key: u64) -> usize {
    const SHIFT: u32 = u64::BITS - PLACES.trailing_zeros();
    (key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> SHIFT) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    #[test]
    fn finds_each_of_a_full_table_and_nothing_else() {
        let mut addrs = LocalAddrs::new();
        let v4 = |i: u16| IpAddr::from(Ipv4Addr::new(10, 0, 0, i as u8));
        let v6 = |i: u16| IpAddr::from(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, i));
        for i in 0..16 {
            for (n, address) in [v4(i), v6(i)].into_iter().enumerate() {
                assert_eq!(addrs.insert(0, address, i * 4 + n as u16), Ok(()));
                assert_eq!(addrs.insert(4094, address, i * 4 + 2 + n as u16), Ok(()));
            }
        }
        assert_eq!(addrs.insert(7, v4(0), 99), Err(AddrError::Full));
        for i in 0..16 {
            for (n, address) in [v4(i), v6(i)].into_iter().enumerate() {
                assert_eq!(addrs.get(0, address), Some(i * 4 + n as u16));
                assert_eq!(addrs.get(4094, address), Some(i * 4 + 2 + n as u16));
                assert_eq!(addrs.get(7, address), None);
            }
            assert_eq!(addrs.get(0, v4(i + 16)), None);
            assert_eq!(addrs.get(0, v6(i + 16)), None);
        }
    }

    #[test]
    fn a_full_table_of_one_version_ends_every_probe() {
        let mut addrs = LocalAddrs::new();
        for i in 0..LocalAddrs::MAX as u16 {
            assert_eq!(addrs.insert(i, IpAddr::from([10, 0, 0, 1]), i), Ok(()));
        }
        for i in 0..4095 {
            let expected = (i < LocalAddrs::MAX as u16).then_some(i);
            assert_eq!(addrs.get(i, IpAddr::from([10, 0, 0, 1])), expected);
        }
    }

    #[test]
    fn an_empty_place_is_no_address() {
        let addrs = LocalAddrs::new();
        assert_eq!(addrs.get(0, IpAddr::from([0; 4])), None);
        assert_eq!(addrs.get(0, IpAddr::from([0; 16])), None);
    }

    #[test]
    fn refuses_a_second_one_and_a_wrong_vlan() {
        let mut addrs = LocalAddrs::new();
        let address = IpAddr::from([10, 0, 0, 1]);
        assert_eq!(addrs.insert(5, address, 1), Ok(()));
        assert_eq!(addrs.insert(5, address, 2), Err(AddrError::Twice));
        assert_eq!(addrs.insert(4095, address, 2), Err(AddrError::Vlan));
        assert_eq!(addrs.get(5, address), Some(1));
    }
}
