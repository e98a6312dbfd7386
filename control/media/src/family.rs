//! Which interface faces which leg.

use crate::MediaError;
use crate::options::Options;
use crate::pool::Pools;
use penstock_sdp::Sdp;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::IpAddr;

/// An IP version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
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

/// What faces a leg: an interface, and the family of its addresses.
pub(crate) type Facing = (String, Option<Family>);

/// What faces the leg that makes this first offer, and the other.
///
/// The interfaces that `direction` names; else the first of the family that the offering leg speaks, and for the
/// other leg the first of the family asked for, or the same. Of a named interface with addresses of both
/// families, the offering leg is faced by the family it speaks, the other by that asked for, or the same.
pub(crate) fn facing(
    pools: &mut Pools,
    sdp: &Sdp,
    options: &Options,
) -> Result<[Facing; 2], MediaError> {
    let mut medias = sdp.media().iter().filter(|media| !media.is_rejected());
    let said = options
        .source_address
        .or_else(|| medias.find_map(|media| media.address));
    let spoken = said.map(Family::of);
    let [from, to] = &options.direction;
    let own = match from {
        Some(name) => named(pools, name, spoken)?,
        None => unnamed(pools, spoken)?,
    };
    let mut other = match (to, options.address_family) {
        (Some(name), wanted) => named(pools, name, wanted.or(spoken))?,
        (None, Some(family)) => match pools.facing(&own.0, Some(family)) {
            Some(_) => (own.0.clone(), Some(family)),
            None => {
                let first = pools.first_of(family);
                let interface = first.ok_or(MediaError::NoInterface(family))?;
                (interface.name.clone(), Some(family))
            }
        },
        (None, None) if from.is_some() => unnamed(pools, spoken)?,
        (None, None) => own.clone(),
    };
    // An address to be written says of which family the ports behind it are.
    let written = options.media_address.map(Family::of);
    if options.address_family.is_none() && pools.facing(&other.0, written).is_some() {
        other.1 = written.or(other.1);
    }
    Ok([own, other])
}

/// The first interface with an address of that family, or the first of all.
fn unnamed(pools: &Pools, wanted: Option<Family>) -> Result<Facing, MediaError> {
    let first = wanted.and_then(|family| pools.first_of(family));
    let first = first.or_else(|| pools.first());
    let interface = first.ok_or_else(|| MediaError::UnknownInterface(String::new()))?;
    Ok((interface.name.clone(), Some(Family::of(interface.ip))))
}

/// The interface of that name, or the next of those that share it in turn (`name:1`, `name:2`), and its family
/// nearest to the wanted one.
fn named(pools: &mut Pools, name: &str, wanted: Option<Family>) -> Result<Facing, MediaError> {
    let unknown = || MediaError::UnknownInterface(name.to_owned());
    let full = pools.resolve(name).ok_or_else(unknown)?;
    let interface = pools
        .facing(&full, wanted)
        .or_else(|| pools.facing(&full, None));
    let family = Family::of(interface.ok_or_else(unknown)?.ip);
    Ok((full, Some(family)))
}
