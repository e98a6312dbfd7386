//! Which interface faces which leg.

use crate::pool::Pools;
use crate::signal::Options;
use crate::{Interface, MediaError};
use penstock_sdp::Sdp;
use std::fmt;
use std::net::IpAddr;

/// An IP version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    Ip4,
    /// IPv6.
    Ip6,
}

impl Family {
    /// That of an address.
    pub const fn of(address: IpAddr) -> Family {
        match address {
            IpAddr::V4(_) => Family::Ip4,
            IpAddr::V6(_) => Family::Ip6,
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Family::Ip4 => "IPv4",
            Family::Ip6 => "IPv6",
        })
    }
}

/// The interfaces that face the leg that makes this first offer, and the other.
///
/// Those that `direction` names; else the first of the family that the offering leg speaks, and for the other leg
/// the first of the family asked for, or the same.
pub(crate) fn facing<'a>(
    pools: &'a Pools,
    sdp: &Sdp,
    options: &Options,
) -> Result<[&'a Interface; 2], MediaError> {
    if let Some([from, to]) = &options.direction {
        let named = |name: &String| {
            let unknown = || MediaError::UnknownInterface(name.clone());
            pools.interface(name).ok_or_else(unknown)
        };
        return Ok([named(from)?, named(to)?]);
    }
    let mut medias = sdp.media().iter().filter(|media| !media.is_rejected());
    let said = options
        .source_address
        .or_else(|| medias.find_map(|media| media.address));
    let own = said
        .and_then(|address| pools.first_of(Family::of(address)))
        .or_else(|| pools.first())
        .ok_or_else(|| MediaError::UnknownInterface(String::new()))?;
    let other = match options.address_family {
        Some(family) => pools
            .first_of(family)
            .ok_or(MediaError::NoInterface(family))?,
        None => own,
    };
    Ok([own, other])
}
