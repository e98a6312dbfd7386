//! Addresses as text: what `to_string` writes, which by way of `fmt` takes several times as long. Of a call it is asked for
//! dozens of times.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// `192.0.2.1` or `2001:db8::1`.
pub fn ip_text(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => dotted(ip),
        IpAddr::V6(ip) => ip.to_string(),
    }
}

/// `192.0.2.1:5004` or `[2001:db8::1]:5004`.
pub fn socket_text(at: SocketAddr) -> String {
    let SocketAddr::V4(at) = at else {
        return at.to_string();
    };
    let mut text = dotted(*at.ip());
    text.push(':');
    text.push_str(itoa::Buffer::new().format(at.port()));
    text
}

fn dotted(ip: Ipv4Addr) -> String {
    let mut text = String::with_capacity("255.255.255.255:65535".len());
    for octet in ip.octets() {
        if !text.is_empty() {
            text.push('.');
        }
        text.push_str(itoa::Buffer::new().format(octet));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_written_as_by_to_string() {
        for text in ["0.0.0.0", "10.20.103.4", "255.255.255.255", "2001:db8::1"] {
            let ip: IpAddr = text.parse().unwrap();
            assert_eq!(ip_text(ip), text);
            for port in [0, 7, 65_535] {
                let at = SocketAddr::new(ip, port);
                assert_eq!(socket_text(at), at.to_string());
            }
        }
    }
}
