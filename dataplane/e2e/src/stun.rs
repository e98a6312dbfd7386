//! The other agent of ICE: connectivity checks (RFC 8445, 7.2), and what comes back, read apart from the plane's own code.

use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

const COOKIE: u32 = 0x2112_a442;

/// USE-CANDIDATE: the pair is chosen.
pub const NOMINATE: (u16, &[u8]) = (0x0025, &[]);
/// PRIORITY, in the place of the one that a check has by itself, `[1, 2, 3, 4]`: of the highest.
pub const HIGHEST: (u16, &[u8]) = (0x0024, &[0x7f; 4]);
/// ICE-CONTROLLED: the agent takes itself for the controlled one.
pub const CONTROLLED: (u16, &[u8]) = (0x8029, &[7; 8]);

/// What a check is made with.
#[derive(Clone, Copy, Debug)]
pub struct Credentials {
    /// The plane's user name fragment.
    pub ufrag: [u8; 8],
    /// Its password.
    pub pwd: [u8; 24],
}

/// What came back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Response {
    /// The code of an error, 0 for success.
    pub code: u16,
    /// The source as the plane saw it.
    pub mapped: Option<SocketAddr>,
    /// What the plane calls itself.
    pub software: Option<String>,
    /// It has a MESSAGE-INTEGRITY, and a right one.
    pub verified: bool,
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, &octet| {
        (0..8).fold(crc ^ u32::from(octet), |crc, _| {
            crc >> 1 ^ if crc & 1 == 1 { 0xedb8_8320 } else { 0 }
        })
    })
}

fn integrity(message: &[u8], pwd: &[u8]) -> Hmac<Sha1> {
    let mut mac = Hmac::<Sha1>::new_from_slice(pwd).expect("any key");
    mac.update(message);
    mac
}

/// Adds an attribute to a message.
fn push(message: &mut Vec<u8>, kind: u16, value: &[u8]) {
    message.extend(kind.to_be_bytes());
    message.extend((value.len() as u16).to_be_bytes());
    message.extend(value);
    message.resize(message.len().next_multiple_of(4), 0);
}

fn set_length(message: &mut [u8], more: usize) {
    let len = message.len() + more - 20;
    message[2..4].copy_from_slice(&(len as u16).to_be_bytes());
}

/// A message of this type with these attributes, and with MESSAGE-INTEGRITY by `pwd` and FINGERPRINT.
pub fn message(
    kind: u16,
    transaction: [u8; 12],
    attributes: &[(u16, &[u8])],
    pwd: Option<&[u8]>,
) -> Vec<u8> {
    let mut message = [
        &kind.to_be_bytes()[..],
        &[0; 2],
        &COOKIE.to_be_bytes(),
        &transaction,
    ]
    .concat();
    for (kind, value) in attributes {
        push(&mut message, *kind, value);
    }
    if let Some(pwd) = pwd {
        set_length(&mut message, 24);
        let mac = integrity(&message, pwd).finalize().into_bytes();
        push(&mut message, 0x0008, &mac);
    }
    set_length(&mut message, 8);
    let crc = crc32(&message) ^ 0x5354_554e;
    push(&mut message, 0x8028, &crc.to_be_bytes());
    message
}

/// A check with these credentials, as the controlling agent `them` makes it, and with these attributes.
pub fn check(transaction: [u8; 12], of: Credentials, more: &[(u16, &[u8])]) -> Vec<u8> {
    let name = [&of.ufrag[..], b":them"].concat();
    let mut attributes = vec![(0x0006, &name[..])];
    if !more.contains(&HIGHEST) {
        attributes.push((0x0024, &[1, 2, 3, 4]));
    }
    if !more.contains(&CONTROLLED) {
        attributes.push((0x802a, &[9; 8]));
    }
    attributes.extend(more);
    message(0x0001, transaction, &attributes, Some(&of.pwd))
}

/// Reads the response to a transaction; `None` if this is none.
///
/// # Panics
/// If it is not whole, or its fingerprint is wrong.
pub fn response(octets: &[u8], transaction: [u8; 12], pwd: &[u8]) -> Option<Response> {
    if octets.len() < 20 || octets[0] != 1 || octets[8..20] != transaction {
        return None;
    }
    assert!(matches!(octets[1], 0x01 | 0x11), "{octets:x?}");
    let number = |at: usize| u16::from_be_bytes([octets[at], octets[at + 1]]);
    assert_eq!(usize::from(number(2)), octets.len() - 20, "{octets:x?}");
    let (mut found, mut at, mut has_crc) = (Response::default(), 20, false);
    while at < octets.len() {
        let (kind, len) = (number(at), usize::from(number(at + 2)));
        let value = &octets[at + 4..at + 4 + len];
        let mut before = octets[..at].to_vec();
        match kind {
            0x0008 => {
                set_length(&mut before, 24);
                found.verified = integrity(&before, pwd).verify_slice(value).is_ok();
            }
            0x0009 => found.code = u16::from(value[2]) * 100 + u16::from(value[3]),
            0x0020 => found.mapped = Some(mapped(value, transaction)),
            0x8022 => found.software = String::from_utf8(value.to_vec()).ok(),
            0x8028 => {
                assert_eq!(value, (crc32(&before) ^ 0x5354_554e).to_be_bytes());
                has_crc = true;
            }
            _ => {}
        }
        at += 4 + len.next_multiple_of(4);
    }
    assert!(
        has_crc && (octets[1] == 0x11) == (found.code != 0),
        "{octets:x?}"
    );
    Some(found)
}

fn mapped(value: &[u8], transaction: [u8; 12]) -> SocketAddr {
    let mask = [&COOKIE.to_be_bytes()[..], &transaction].concat();
    let port = u16::from_be_bytes([value[2] ^ mask[0], value[3] ^ mask[1]]);
    let octets: Vec<u8> = value[4..].iter().zip(&mask).map(|(a, b)| a ^ b).collect();
    let ip = match value[1] {
        1 => IpAddr::from(<[u8; 4]>::try_from(octets).expect("IPv4")),
        _ => IpAddr::from(<[u8; 16]>::try_from(octets).expect("IPv6")),
    };
    SocketAddr::new(ip, port)
}

/// Sends `request` by a socket that does not block until it is answered, `limit` at most. What else comes is lost.
pub fn ask(
    socket: &UdpSocket,
    to: SocketAddr,
    request: &[u8],
    pwd: &[u8],
    limit: Duration,
) -> Option<Response> {
    let transaction = request[8..20].try_into().expect("a transaction");
    let end = Instant::now() + limit;
    let mut buf = [0; 2048];
    while Instant::now() < end {
        socket.send_to(request, to).expect("sent");
        let again = Instant::now() + Duration::from_millis(500);
        while Instant::now() < again {
            match socket.recv(&mut buf) {
                Ok(len) => match response(&buf[..len], transaction, pwd) {
                    Some(response) => return Some(response),
                    None => continue,
                },
                Err(_) => std::thread::sleep(Duration::from_millis(1)),
            }
        }
    }
    None
}
