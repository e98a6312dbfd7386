//! STUN (RFC 8489) as a lite agent of ICE (RFC 8445, 2.5) has it: connectivity checks come in, answers go out.
//!
//! Nothing is ever asked. A message is looked at in this order, the cheap first, so that a stranger costs little:
//!
//! | step | function | ends |
//! | --- | --- | --- |
//! | whole | [`parse`] | silently |
//! | for these credentials | [`Request::name`] | with 400 or 401, if it is sound |
//! | sound: of its fingerprint, if it has one | [`Request::is_sound`] | silently |
//! | of who knows the password | [`Request::verify`] | with 401, 420 or 487 |
//! | answered | [`Request::answer`] | with what it changes: [`Check`] |
//!
//! A message has at most [`MOST`] octets, an answer [`Answer::MOST`].

use hmac::{Hmac, KeyInit, Mac};
use penstock_shm::Ice;
use penstock_shm::counters::Drop;
use sha1::Sha1;
use std::net::{IpAddr, SocketAddr};

/// Octets of the header (RFC 8489, 5).
const HEADER: usize = 20;
const COOKIE: [u8; 4] = 0x2112_a442_u32.to_be_bytes();
/// Octets of the longest message that is looked at: what every path carries (RFC 8489, 6.1).
pub const MOST: usize = 1280;
/// Octets of the longest SOFTWARE text that is sent.
pub const MOST_SOFTWARE: usize = 64;
/// How many attributes an answer calls unknown: the first ones.
const UNKNOWN: usize = 8;
/// Octets of an attribute's header.
const ATTRIBUTE: usize = 4;
/// Octets of MESSAGE-INTEGRITY.
const HMAC: usize = 20;
/// Octets of FINGERPRINT.
const CRC: usize = 4;
/// What a fingerprint differs by from the CRC-32 (RFC 8489, 14.7).
const FINGERPRINT_XOR: u32 = 0x5354_554e;

/// Message types: the method Binding in its classes (RFC 8489, 5).
mod kind {
    pub(super) const REQUEST: u16 = 0x0001;
    pub(super) const INDICATION: u16 = 0x0011;
    pub(super) const SUCCESS: u16 = 0x0101;
    pub(super) const ERROR: u16 = 0x0111;
}

/// Attributes (RFC 8489, 18.3; RFC 8445, 16.1). Those from 0x8000 on may be passed over.
mod attribute {
    pub(super) const USERNAME: u16 = 0x0006;
    pub(super) const MESSAGE_INTEGRITY: u16 = 0x0008;
    pub(super) const ERROR_CODE: u16 = 0x0009;
    pub(super) const UNKNOWN_ATTRIBUTES: u16 = 0x000a;
    pub(super) const XOR_MAPPED_ADDRESS: u16 = 0x0020;
    pub(super) const PRIORITY: u16 = 0x0024;
    pub(super) const USE_CANDIDATE: u16 = 0x0025;
    pub(super) const SOFTWARE: u16 = 0x8022;
    pub(super) const FINGERPRINT: u16 = 0x8028;
    pub(super) const ICE_CONTROLLED: u16 = 0x8029;
}

/// Whether a datagram is STUN, and not the media it shares its port with (RFC 8489, 5; RFC 7983).
pub fn is_stun(payload: &[u8]) -> bool {
    matches!(payload.first(), Some(0..=3)) && payload.get(4..8) == Some(&COOKIE)
}

/// What a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// A binding request: a connectivity check, or one of consent (RFC 7675).
    Request(Request<'a>),
    /// A binding indication, which keeps a NAT open (RFC 8445, 11): nothing is to be done.
    Indication,
}

/// A binding request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// From the header on.
    message: &'a [u8],
    transaction: &'a [u8; 12],
    username: Option<&'a [u8]>,
    /// Where the attribute MESSAGE-INTEGRITY begins, and its value.
    integrity: Option<(usize, &'a [u8; HMAC])>,
    /// What FINGERPRINT covers, and its value.
    fingerprint: Option<(&'a [u8], &'a [u8; CRC])>,
    priority: Option<u32>,
    nominates: bool,
    /// The other agent takes itself for the controlled one.
    controlled: bool,
    unknown: Unknown,
}

/// The first attributes that may not be passed over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Unknown {
    kinds: [u16; UNKNOWN],
    count: usize,
}

/// A check that verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Check {
    /// The other agent chose this pair of addresses (USE-CANDIDATE).
    pub nominates: bool,
    /// How the other agent ranks its candidate (PRIORITY); 0 if it does not say.
    pub priority: u32,
}

/// Why a request is refused, by the code of its answer (RFC 8489, 14.8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It lacks USERNAME or MESSAGE-INTEGRITY (RFC 8489, 9.1.3).
    BadRequest = 400,
    /// It has other credentials than the stream (RFC 8489, 9.1.3).
    Unauthenticated = 401,
    /// It has an attribute that nobody here understands and that may not be passed over (RFC 8489, 6.3.1).
    UnknownAttribute = 420,
    /// The other agent takes itself for the controlled one, which a lite agent is (RFC 8445, 7.3.1.1).
    RoleConflict = 487,
}

impl Refusal {
    /// Whether the request was authenticated, and its answer is.
    pub fn is_signed(self) -> bool {
        matches!(self, Refusal::UnknownAttribute | Refusal::RoleConflict)
    }
}

fn number(bytes: &[u8; 2]) -> u16 {
    u16::from_be_bytes(*bytes)
}

/// Octets with what makes them whole words.
fn padded(len: usize) -> usize {
    len.next_multiple_of(4)
}

/// Reads a message.
///
/// # Errors
/// [`Drop::Stun`] for one that is not whole, or that is none of [`Message`]: a response, which nobody waits for, or another
/// method. Whether its fingerprint is right, [`Request::is_sound`] says.
pub fn parse(payload: &[u8]) -> Result<Message<'_>, Drop> {
    read(payload).ok_or(Drop::Stun)
}

fn read(payload: &[u8]) -> Option<Message<'_>> {
    let (header, attributes) = payload.split_first_chunk::<HEADER>()?;
    let [
        k0,
        k1,
        l0,
        l1,
        cookie @ ..,
        _,
        _,
        _,
        _,
        _,
        _,
        _,
        _,
        _,
        _,
        _,
        _,
    ] = header;
    let is_whole = usize::from(number(&[*l0, *l1])) == attributes.len()
        && attributes.len().is_multiple_of(4)
        && payload.len() <= MOST
        && *cookie == COOKIE;
    if !is_whole {
        return None;
    }
    let mut request = Request {
        message: payload,
        transaction: header.last_chunk()?,
        username: None,
        integrity: None,
        fingerprint: None,
        priority: None,
        nominates: false,
        controlled: false,
        unknown: Unknown::default(),
    };
    let mut at = HEADER;
    while at < payload.len() {
        let (head, rest) = payload.get(at..)?.split_first_chunk::<ATTRIBUTE>()?;
        let [a0, a1, l0, l1] = *head;
        let len = usize::from(number(&[l0, l1]));
        let value = rest.get(..len)?;
        rest.get(..padded(len))?;
        request.take(number(&[a0, a1]), value, at)?;
        at += ATTRIBUTE + padded(len);
    }
    match number(&[*k0, *k1]) {
        kind::REQUEST => Some(Message::Request(request)),
        kind::INDICATION => Some(Message::Indication),
        _ => None,
    }
}

impl<'a> Request<'a> {
    /// Takes in the attribute that begins at `at`.
    fn take(&mut self, kind: u16, value: &'a [u8], at: usize) -> Option<()> {
        if kind == attribute::FINGERPRINT {
            // The last one (RFC 8489, 14.7).
            let covered = self.message.get(..at)?;
            let is_last = at + ATTRIBUTE + CRC == self.message.len();
            self.fingerprint = Some((covered, value.try_into().ok()?));
            return is_last.then_some(());
        }
        // Nothing else counts behind MESSAGE-INTEGRITY (RFC 8489, 14.5); of what comes twice, the first (RFC 8489, 14).
        if self.integrity.is_some() {
            return Some(());
        }
        match kind {
            attribute::USERNAME => self.username = self.username.or(Some(value)),
            attribute::MESSAGE_INTEGRITY => self.integrity = Some((at, value.try_into().ok()?)),
            attribute::USE_CANDIDATE => self.nominates = true,
            attribute::ICE_CONTROLLED => self.controlled = true,
            attribute::PRIORITY => {
                let priority = u32::from_be_bytes(value.try_into().ok()?);
                self.priority.get_or_insert(priority);
            }
            ..0x8000 => self.unknown.push(kind),
            _ => {}
        }
        Some(())
    }

    /// Whether the request is for who has these credentials, by what it costs nothing to look at. What it says of
    /// itself is not to be believed yet.
    ///
    /// # Errors
    /// [`Refusal::BadRequest`], [`Refusal::Unauthenticated`].
    pub fn name(&self, ice: &Ice) -> Result<(), Refusal> {
        let (Some(username), Some(_)) = (self.username, self.integrity) else {
            return Err(Refusal::BadRequest);
        };
        // Ours, a colon, and the other agent's (RFC 8445, 7.2.2).
        match username.strip_prefix(&ice.ufrag) {
            Some([b':', ..]) => Ok(()),
            _ => Err(Refusal::Unauthenticated),
        }
    }

    /// Whether its fingerprint is right, if it has one (RFC 8489, 14.7). Costs a CRC over it: bound how often. One that is
    /// not sound gets no answer.
    pub fn is_sound(&self) -> bool {
        self.fingerprint
            .is_none_or(|(covered, claimed)| *claimed == fingerprint(covered).to_be_bytes())
    }

    /// Verifies the request by the password. Costs an HMAC-SHA1 over it: bound how often.
    ///
    /// # Errors
    /// [`Refusal::Unauthenticated`], [`Refusal::UnknownAttribute`], [`Refusal::RoleConflict`].
    pub fn verify(&self, ice: &Ice) -> Result<Check, Refusal> {
        let (at, claimed) = self.integrity.ok_or(Refusal::BadRequest)?;
        let mac = integrity(self.message.get(..at).unwrap_or_default(), &ice.pwd);
        // Takes as long whatever the octets are.
        mac.verify_slice(claimed)
            .map_err(|_| Refusal::Unauthenticated)?;
        if self.unknown.count > 0 {
            return Err(Refusal::UnknownAttribute);
        }
        match self.controlled {
            true => Err(Refusal::RoleConflict),
            false => Ok(Check {
                nominates: self.nominates,
                priority: self.priority.unwrap_or(0),
            }),
        }
    }

    /// The success response to a request from `source`, with this SOFTWARE text unless it is empty.
    pub fn answer(&self, source: SocketAddr, ice: &Ice, software: &str) -> Answer {
        let mut answer = Answer::new(kind::SUCCESS, self.transaction);
        answer.xor_mapped_address(source, self.transaction);
        let software = software.as_bytes();
        let software = software.get(..MOST_SOFTWARE).unwrap_or(software);
        if !software.is_empty() {
            answer.push(attribute::SOFTWARE, software);
        }
        answer.integrity(ice);
        answer.fingerprint();
        answer
    }

    /// The error response. It is authenticated if the request was.
    pub fn refuse(&self, refusal: Refusal, ice: &Ice) -> Answer {
        let mut answer = Answer::new(kind::ERROR, self.transaction);
        let code = refusal as u16;
        answer.push(
            attribute::ERROR_CODE,
            &[0, 0, (code / 100) as u8, (code % 100) as u8],
        );
        if refusal == Refusal::UnknownAttribute {
            let kinds = self.unknown.kinds.map(u16::to_be_bytes);
            let listed = kinds.get(..self.unknown.count).unwrap_or(&kinds);
            answer.push(attribute::UNKNOWN_ATTRIBUTES, listed.as_flattened());
        }
        if refusal.is_signed() {
            answer.integrity(ice);
        }
        answer.fingerprint();
        answer
    }
}

impl Unknown {
    fn push(&mut self, kind: u16) {
        if let Some(place) = self.kinds.get_mut(self.count) {
            *place = kind;
            self.count += 1;
        }
    }
}

/// A response, ready to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    octets: [u8; Answer::MOST],
    len: usize,
}

impl Answer {
    /// Octets of the longest one: the header, an IPv6 address, SOFTWARE, MESSAGE-INTEGRITY, FINGERPRINT.
    pub const MOST: usize = HEADER
        + (ATTRIBUTE + 20)
        + (ATTRIBUTE + MOST_SOFTWARE)
        + (ATTRIBUTE + HMAC)
        + (ATTRIBUTE + CRC);

    fn new(kind: u16, transaction: &[u8; 12]) -> Answer {
        let mut answer = Answer {
            octets: [0; Answer::MOST],
            len: 0,
        };
        answer.append(&kind.to_be_bytes());
        answer.append(&[0; 2]);
        answer.append(&COOKIE);
        answer.append(transaction);
        answer
    }

    /// The octets.
    pub fn octets(&self) -> &[u8] {
        self.octets.get(..self.len).unwrap_or(&self.octets)
    }

    fn append(&mut self, bytes: &[u8]) {
        if let Some(place) = self.octets.get_mut(self.len..self.len + bytes.len()) {
            place.copy_from_slice(bytes);
            self.len += bytes.len();
        }
    }

    fn push(&mut self, kind: u16, value: &[u8]) {
        self.append(&kind.to_be_bytes());
        self.append(&(value.len() as u16).to_be_bytes());
        self.append(value);
        let lacking = padded(value.len()) - value.len();
        self.append(&[0; 4][..lacking]);
        self.announce(0);
    }

    /// Writes the length, as if so many octets more were there (RFC 8489, 14.5 and 14.7).
    fn announce(&mut self, more: usize) {
        let len = (self.len + more - HEADER) as u16;
        if let Some(place) = self.octets.get_mut(2..4) {
            place.copy_from_slice(&len.to_be_bytes());
        }
    }

    /// RFC 8489, 14.2.
    fn xor_mapped_address(&mut self, source: SocketAddr, transaction: &[u8; 12]) {
        let mut value = [0; 20];
        let mask = COOKIE.iter().chain(transaction);
        let [
            _,
            family,
            port @ ..,
            _,
            _,
            _,
            _,
            _,
            _,
            _,
            _,
            _,
            _,
            _,
            _,
            _,
            _,
            _,
            _,
        ] = &mut value;
        *port = (source.port() ^ u16::from_be_bytes([COOKIE[0], COOKIE[1]])).to_be_bytes();
        let len = match source.ip() {
            IpAddr::V4(ip) => {
                *family = 1;
                value[4..8].copy_from_slice(&ip.octets());
                8
            }
            IpAddr::V6(ip) => {
                *family = 2;
                value[4..].copy_from_slice(&ip.octets());
                20
            }
        };
        value[4..]
            .iter_mut()
            .zip(mask)
            .for_each(|(octet, m)| *octet ^= m);
        self.push(attribute::XOR_MAPPED_ADDRESS, &value[..len]);
    }

    fn integrity(&mut self, ice: &Ice) {
        let mac = integrity(self.octets(), &ice.pwd).finalize().into_bytes();
        self.push(attribute::MESSAGE_INTEGRITY, &mac);
    }

    fn fingerprint(&mut self) {
        self.announce(ATTRIBUTE + CRC);
        let crc = fingerprint(self.octets());
        self.push(attribute::FINGERPRINT, &crc.to_be_bytes());
    }
}

/// The HMAC over what stands before MESSAGE-INTEGRITY, whose length covers that attribute (RFC 8489, 14.5).
fn integrity(message: &[u8], pwd: &[u8]) -> Hmac<Sha1> {
    // A key shorter than a block is padded with zeros (RFC 2104, 2).
    let mut key = [0; 64];
    key.iter_mut()
        .zip(pwd)
        .for_each(|(place, octet)| *place = *octet);
    let mut mac = Hmac::<Sha1>::new(&key.into());
    let (kind, rest) = message.split_at_checked(2).unwrap_or_default();
    let len = (message.len() + ATTRIBUTE + HMAC - HEADER) as u16;
    mac.update(kind);
    mac.update(&len.to_be_bytes());
    mac.update(rest.get(2..).unwrap_or_default());
    mac
}

/// RFC 8489, 14.7, over what stands before FINGERPRINT and has a length that covers it.
fn fingerprint(message: &[u8]) -> u32 {
    let crc = message.iter().fold(u32::MAX, |crc, &octet| {
        crc >> 8 ^ CRC_TABLE[usize::from(crc as u8 ^ octet)]
    });
    !crc ^ FINGERPRINT_XOR
}

/// CRC-32 (ITU-T V.42) of each octet.
static CRC_TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut octet = 0;
    while octet < 256 {
        let mut crc = octet as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = crc >> 1 ^ (0xedb8_8320 & (crc & 1).wrapping_neg());
            bit += 1;
        }
        table[octet] = crc;
        octet += 1;
    }
    table
};

#[cfg(test)]
mod tests;
