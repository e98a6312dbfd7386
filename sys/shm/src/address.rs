//! The list of the plane's local addresses: a number for each, which endpoints are named by.

use crate::layout::AddressCell;
use crate::sync::Ordering;
use std::net::IpAddr;

/// One local address of the plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressEntry {
    /// The address.
    pub ip: IpAddr,
    /// Its VLAN, 0 for none.
    pub vlan: u16,
    /// Its port of the plane, in the order of the configuration.
    pub port: u16,
    /// Bytes of IP packet that the port carries.
    pub mtu: u16,
}

/// An address and its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// What [`crate::Endpoint::addr`] names it by.
    pub number: u16,
    /// The address.
    pub entry: AddressEntry,
    /// Whether it is still the plane's.
    pub present: bool,
}

/// There were more different addresses over the region's life than it has room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the region has room for {} addresses over its life: stop the plane and remove the region's directory",
    crate::MAX_ADDRESSES
)]
pub struct TooManyAddresses;

const PRESENT: u64 = 1 << 56;

impl AddressCell {
    fn get(&self, number: u16) -> Option<Address> {
        // Pairs with `set`: the octets are written.
        let meta = self.meta.load(Ordering::Acquire);
        let [high, low] = self.ip.each_ref().map(|word| word.load(Ordering::Relaxed));
        let ip = match meta >> 48 & 0xff {
            4 => IpAddr::from(((high >> 32) as u32).to_be_bytes()),
            6 => IpAddr::from((u128::from(high) << 64 | u128::from(low)).to_be_bytes()),
            _ => return None,
        };
        let (vlan, port, mtu) = ((meta >> 32) as u16, (meta >> 16) as u16, meta as u16);
        let entry = AddressEntry {
            ip,
            vlan,
            port,
            mtu,
        };
        Some(Address {
            number,
            entry,
            present: meta & PRESENT != 0,
        })
    }

    fn set(&self, entry: &AddressEntry, present: bool) {
        let (version, words) = match entry.ip {
            IpAddr::V4(ip) => (4, [u64::from(u32::from(ip)) << 32, 0]),
            IpAddr::V6(ip) => (6, [(u128::from(ip) >> 64) as u64, u128::from(ip) as u64]),
        };
        for (word, value) in self.ip.iter().zip(words) {
            word.store(value, Ordering::Relaxed);
        }
        let meta = version << 48
            | u64::from(entry.vlan) << 32
            | u64::from(entry.port) << 16
            | u64::from(entry.mtu)
            | if present { PRESENT } else { 0 };
        // Pairs with `get`.
        self.meta.store(meta, Ordering::Release);
    }
}

/// See [`crate::TableView::addresses`].
pub(crate) fn list(cells: &[AddressCell]) -> Vec<Address> {
    cells
        .iter()
        .zip(0..)
        .filter_map(|(cell, number)| cell.get(number))
        .collect()
}

/// See [`crate::TableWriter::set_addresses`].
pub(crate) fn set(
    cells: &[AddressCell],
    entries: &[AddressEntry],
) -> Result<Vec<u16>, TooManyAddresses> {
    let known = list(cells);
    let mut unused = known.len();
    let mut numbers = Vec::with_capacity(entries.len());
    for entry in entries {
        let same = |a: &&Address| (a.entry.ip, a.entry.vlan) == (entry.ip, entry.vlan);
        numbers.push(match known.iter().find(same) {
            Some(address) => address.number,
            None => {
                unused += 1;
                unused as u16 - 1
            }
        });
    }
    if unused > cells.len() {
        return Err(TooManyAddresses);
    }
    for address in known
        .iter()
        .filter(|address| !numbers.contains(&address.number))
    {
        cells[usize::from(address.number)].set(&address.entry, false);
    }
    for (entry, number) in entries.iter().zip(&numbers) {
        cells[usize::from(*number)].set(entry, true);
    }
    Ok(numbers)
}
