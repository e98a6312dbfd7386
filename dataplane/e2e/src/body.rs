//! Reading the SDP that control gives to a leg.

use crate::stun::Credentials;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Where each section's media is to be sent, in order; port 0 for one that is refused.
pub fn sections(sdp: &str) -> Vec<SocketAddr> {
    let (mut session, mut found) = (IpAddr::from(Ipv4Addr::UNSPECIFIED), Vec::new());
    for line in sdp.lines() {
        if let Some(rest) = line.strip_prefix("m=") {
            let port = rest.split(' ').nth(1).and_then(|port| port.parse().ok());
            found.push(SocketAddr::new(session, port.expect("a port")));
        } else if let Some(ip) = line
            .strip_prefix("c=IN IP4 ")
            .or(line.strip_prefix("c=IN IP6 "))
        {
            let ip = ip.trim().parse().expect("an address");
            match found.last_mut() {
                Some(section) => section.set_ip(ip),
                None => session = ip,
            }
        }
    }
    found
}

/// The values of the attributes of this name, in order; `""` of one without.
pub fn values<'a>(sdp: &'a str, name: &str) -> Vec<&'a str> {
    let attributes = sdp.lines().filter_map(|line| line.strip_prefix("a="));
    let own = attributes.filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        rest.strip_prefix(':').or(rest.is_empty().then_some(rest))
    });
    own.collect()
}

/// The credentials of ICE that it gives first.
pub fn credentials(sdp: &str) -> Credentials {
    let octets = |name| values(sdp, name).first().map_or(&[][..], |v| v.as_bytes());
    let whole = |what: &str| format!("no {what} of the plane's in\n{sdp}");
    Credentials {
        ufrag: octets("ice-ufrag")
            .try_into()
            .unwrap_or_else(|_| panic!("{}", whole("ufrag"))),
        pwd: octets("ice-pwd")
            .try_into()
            .unwrap_or_else(|_| panic!("{}", whole("pwd"))),
    }
}
