//! The values of the file that are more than a number or a word.

use serde::{Deserialize, Deserializer, de::Error};
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// What a worker does when there is nothing to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Polling {
    /// Polls on.
    Busy,
    /// Polls for a while, then sleeps briefly.
    Adaptive,
}

/// What a policing profile is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PoliceMedia {
    /// RTP of m=audio.
    Audio,
    /// RTP of m=video.
    Video,
    /// Fax.
    Image,
    /// RTCP on a port of its own.
    Rtcp,
    /// Whatever no profile before it is for.
    #[default]
    Any,
}

/// The DSCP of what leaves (RFC 2474).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dscp {
    /// That of the packet that came.
    Copy,
    /// This one, 0 to 63.
    Set(u8),
}

impl Default for Dscp {
    fn default() -> Self {
        Dscp::Set(0)
    }
}

impl<'de> Deserialize<'de> for Dscp {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Number(i64),
            Word(String),
        }
        match Written::deserialize(from) {
            Ok(Written::Number(number @ 0..64)) => Ok(Dscp::Set(number as u8)),
            Ok(Written::Word(word)) if word == "copy" => Ok(Dscp::Copy),
            _ => Err(D::Error::custom(
                "dscp is a number from 0 to 63, or \"copy\"",
            )),
        }
    }
}

/// Whether DPDK's memory lies on huge pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HugepageUse {
    /// If enough are free.
    Auto,
    /// Or refuse to start.
    Yes,
    /// Never.
    No,
}

macro_rules! from_text {
    ($name:ident) => {
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                String::deserialize(from)?.parse().map_err(D::Error::custom)
            }
        }
    };
}

/// A PCI address (`0000:3b:00.0`) or a vdev string (`net_tap0,iface=x`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device(String);

impl Device {
    /// The text as DPDK takes it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is a virtual device rather than a PCI address.
    pub fn is_virtual(&self) -> bool {
        self.0.starts_with("net_")
    }

    /// Name without arguments: what must be unique.
    pub fn name(&self) -> &str {
        self.0.split(',').next().unwrap_or(&self.0)
    }
}

impl FromStr for Device {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let device = Device(text.to_owned());
        let pci = device
            .name()
            .bytes()
            .all(|b| b.is_ascii_hexdigit() || b == b':' || b == b'.')
            && device.name().contains('.')
            && device.name().contains(':');
        if pci || device.is_virtual() {
            Ok(device)
        } else {
            Err(format!(
                "device \"{text}\" is neither a PCI address (0000:3b:00.0) nor a virtual device (net_tap0,iface=...)"
            ))
        }
    }
}
from_text!(Device);

/// A MAC address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MacAddr(pub [u8; 6]);

impl FromStr for MacAddr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("\"{text}\" is not a MAC address (02:70:73:00:00:01)");
        let mut mac = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut mac {
            let part = parts.next().filter(|p| p.len() == 2).ok_or_else(wrong)?;
            *byte = u8::from_str_radix(part, 16).map_err(|_| wrong())?;
        }
        if parts.next().is_some() {
            return Err(wrong());
        }
        if mac[0] & 1 == 1 || mac == [0; 6] {
            return Err(format!(
                "MAC address \"{text}\" does not name one station (multicast or zero)"
            ));
        }
        Ok(MacAddr(mac))
    }
}
from_text!(MacAddr);

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// An address, or a list of them.
pub(crate) fn one_or_more<'de, D, T>(from: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "expected an address or a list of addresses")]
    enum OneOrMore<T> {
        One(T),
        More(Vec<T>),
    }
    Ok(match OneOrMore::deserialize(from)? {
        OneOrMore::One(one) => vec![one],
        OneOrMore::More(more) => more,
    })
}

/// `ADDRESS/LENGTH`, with a length that the address's version has.
fn address_and_length(text: &str) -> Option<(IpAddr, u8)> {
    let (ip, len) = text.split_once('/')?;
    let (ip, len): (IpAddr, u8) = (ip.parse().ok()?, len.parse().ok()?);
    let most = if ip.is_ipv4() { 32 } else { 128 };
    (len <= most).then_some((ip, len))
}

/// Whether the first `len` bits of two addresses are the same.
fn share(a: IpAddr, b: IpAddr, len: u8) -> bool {
    match (a, b) {
        (IpAddr::V4(a), IpAddr::V4(b)) => {
            let shift = 32 - u32::from(len);
            (u64::from(a.to_bits() ^ b.to_bits()) >> shift) == 0
        }
        (IpAddr::V6(a), IpAddr::V6(b)) => {
            let differing = (a.to_bits() ^ b.to_bits()).leading_zeros();
            differing >= u32::from(len)
        }
        _ => false,
    }
}

/// An address with the length of its network prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefix {
    /// The address.
    pub ip: IpAddr,
    /// Prefix length, bits.
    pub len: u8,
}

impl Prefix {
    /// Whether `ip` is on this link.
    pub fn contains(&self, ip: IpAddr) -> bool {
        share(self.ip, ip, self.len)
    }
}

impl FromStr for Prefix {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("\"{text}\" is not an address with a prefix (198.18.0.1/24)");
        let (ip, len) = address_and_length(text).ok_or_else(wrong)?;
        if len == 0 || ip.is_unspecified() || ip.is_multicast() {
            return Err(wrong());
        }
        Ok(Prefix { ip, len })
    }
}
from_text!(Prefix);

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.ip, self.len)
    }
}

/// A network: an address of it, and how many leading bits count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    /// The address.
    pub ip: IpAddr,
    /// Prefix length, bits.
    pub len: u8,
}

impl Network {
    /// Whether `ip` is of this network.
    pub fn contains(&self, ip: IpAddr) -> bool {
        share(self.ip, ip, self.len)
    }
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("\"{text}\" is not a network (192.0.2.0/24 or 2001:db8::/32)");
        let (ip, len) = address_and_length(text).ok_or_else(wrong)?;
        Ok(Network { ip, len })
    }
}
from_text!(Network);

/// First and last UDP port of a pool, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortRange {
    /// The first.
    pub first: u16,
    /// The last.
    pub last: u16,
}

impl FromStr for PortRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("ports \"{text}\" is not FIRST-LAST (16384-32767)");
        let (first, last) = text.split_once('-').ok_or_else(wrong)?;
        let first: u16 = first.trim().parse().map_err(|_| wrong())?;
        let last: u16 = last.trim().parse().map_err(|_| wrong())?;
        if first < 1024 || last <= first {
            return Err(format!(
                "ports \"{text}\" must start at 1024 or above and hold at least one pair"
            ));
        }
        Ok(PortRange { first, last })
    }
}
from_text!(PortRange);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefix_contains() {
        let p: Prefix = "10.1.2.3/23".parse().unwrap();
        assert!(p.contains("10.1.3.9".parse().unwrap()));
        assert!(!p.contains("10.1.4.9".parse().unwrap()));
        assert!(!p.contains("::1".parse().unwrap()));
        let host: Prefix = "10.1.2.3/32".parse().unwrap();
        assert!(!host.contains("10.1.2.2".parse().unwrap()));
        let six: Prefix = "2001:db8::1/64".parse().unwrap();
        assert!(six.contains("2001:db8::ffff".parse().unwrap()));
        assert!(!six.contains("2001:db8:0:1::1".parse().unwrap()));
        let all: Network = "0.0.0.0/0".parse().unwrap();
        assert!(all.contains("203.0.113.9".parse().unwrap()));
        assert!(!all.contains("::1".parse().unwrap()));
        let all: Network = "::/0".parse().unwrap();
        assert!(all.contains("2001:db8::1".parse().unwrap()));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        for bad in [
            "10.0.0.1",
            "10.0.0.1/33",
            "10.0.0.1/0",
            "x/8",
            "224.0.0.1/4",
        ] {
            assert!(bad.parse::<Prefix>().is_err(), "{bad}");
        }
        for bad in [
            "02:00:00:00:00",
            "01:00:5e:00:00:01",
            "zz:00:00:00:00:00",
            "02:00:00:00:00:00:00",
        ] {
            assert!(bad.parse::<MacAddr>().is_err(), "{bad}");
        }
        for bad in ["1-2", "2000", "3000-2000", "4000-4000", "4000-70000"] {
            assert!(bad.parse::<PortRange>().is_err(), "{bad}");
        }
        for bad in ["eth0", "", "tap", "0000"] {
            assert!(bad.parse::<Device>().is_err(), "{bad}");
        }
        assert!("0000:3b:00.0".parse::<Device>().is_ok());
    }
}
