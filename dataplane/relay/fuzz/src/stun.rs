//! STUN: whatever the message, nothing panics, nobody without the password is known, and no answer asks for one.

use penstock_relay::stun::{self, Answer, Message, Refusal};
use penstock_shm::Ice;
use std::net::SocketAddr;

const ICE: Ice = Ice {
    ufrag: *b"ufrag+/0",
    pwd: *b"passwordpasswordpassword",
};

/// Reads `data` as it is, and with a header that is whole.
pub fn run(data: &[u8]) {
    read(data);
    let mut whole = data.to_vec();
    whole.truncate(data.len() & !3);
    let len = (whole.len().saturating_sub(20) as u16).to_be_bytes();
    if let Some(header) = whole.first_chunk_mut::<8>() {
        header[..2].copy_from_slice(&[0, 1]);
        header[2..4].copy_from_slice(&len);
        header[4..].copy_from_slice(&[0x21, 0x12, 0xa4, 0x42]);
    }
    read(&whole);
}

fn read(data: &[u8]) {
    let parsed = stun::parse(data);
    assert!(parsed.is_err() || stun::is_stun(data) && data.len() <= stun::MOST);
    let Ok(Message::Request(request)) = parsed else {
        return;
    };
    let named = request.name(&ICE);
    let verified = request.verify(&ICE);
    assert!(verified.is_err(), "the password was guessed");
    assert!(named.is_err() || verified == Err(Refusal::Unauthenticated));
    let to: SocketAddr = ([198, 18, 0, 1], 4000).into();
    sound(&request.answer(to, &ICE, "text"), data);
    sound(&request.answer(([0xff; 16], 1).into(), &ICE, ""), data);
    for refusal in [
        Refusal::BadRequest,
        Refusal::Unauthenticated,
        Refusal::UnknownAttribute,
        Refusal::RoleConflict,
    ] {
        sound(&request.refuse(refusal, &ICE), data);
    }
}

/// An answer is whole and of the same transaction, and would itself not be answered.
fn sound(answer: &Answer, request: &[u8]) {
    let octets = answer.octets();
    assert!(
        stun::is_stun(octets) && octets.len().is_multiple_of(4) && octets.len() <= Answer::MOST
    );
    assert_eq!(octets[8..20], request[8..20]);
    assert_eq!(
        usize::from(u16::from_be_bytes([octets[2], octets[3]])),
        octets.len() - 20
    );
    assert!(stun::parse(octets).is_err());
}
