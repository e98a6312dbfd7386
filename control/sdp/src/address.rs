//! Addresses as text.

use std::net::IpAddr;

/// As `to_string` writes it, which by way of `fmt` takes several times as long: of a call it is asked for dozens of times.
pub fn ip_text(ip: IpAddr) -> String {
    let IpAddr::V4(ip) = ip else {
        return ip.to_string();
    };
    let mut text = String::with_capacity("255.255.255.255".len());
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
    use super::ip_text;
    use std::net::IpAddr;

    #[test]
    fn an_address_is_written_as_by_to_string() {
        for text in ["0.0.0.0", "10.20.103.4", "255.255.255.255", "2001:db8::1"] {
            let ip: IpAddr = text.parse().unwrap();
            assert_eq!(ip_text(ip), text);
        }
    }
}
