//! What the kernel is given.

use crate::support::{Datagram, OURS};
use penstock_relay::{Class, Drop, LocalAddrs, classify, is_kernels};

fn locals() -> LocalAddrs {
    let mut locals = LocalAddrs::new();
    for ours in ["192.0.2.1", "2001:db8::1"] {
        locals.insert(0, ours.parse().unwrap(), 1).unwrap();
    }
    locals
}

fn reason(frame: &[u8]) -> Drop {
    match classify(frame, &OURS, true) {
        Class::Drop(reason) => reason,
        other => panic!("{other:?}"),
    }
}

fn passes(frame: &[u8]) -> bool {
    is_kernels(frame, reason(frame), &locals())
}

#[test]
fn other_protocols_and_groups_pass_and_other_macs_do_not() {
    let mut tcp = Datagram::v4(&[0; 20]).frame();
    tcp[23] = 6;
    assert!(passes(&tcp));
    let mut group = Datagram::v4(&[0; 20]).frame();
    group[..6].copy_from_slice(&[0x01, 0, 0x5e, 0, 0, 5]);
    assert!(passes(&group));
    group[..6].copy_from_slice(&[2, 0, 0, 0, 0, 0x42]);
    assert!(!passes(&group));
}

#[test]
fn fragments_and_options_pass_to_addresses_that_are_not_ours() {
    for (mut ours, at, value) in [
        (Datagram::v4(&[0; 20]), 20, 0x20),
        (Datagram::v4(&[0; 20]), 14, 0x46),
        (Datagram::v6(&[0; 20]), 20, 44),
        (Datagram::v6(&[0; 20]), 20, 0),
    ] {
        let mut frame = ours.frame();
        frame[at] = value;
        assert!(!passes(&frame), "{at} {value}");
        let other = if ours.destination.is_ipv6() {
            "[2001:db8::2]:5060"
        } else {
            "192.0.2.2:5060"
        };
        ours.destination = other.parse().unwrap();
        let mut frame = ours.frame();
        frame[at] = value;
        assert!(passes(&frame), "{at} {value}");
    }
}

#[test]
fn what_is_broken_is_nobodys() {
    for broken in [
        Drop::Malformed,
        Drop::IpChecksum,
        Drop::Source,
        Drop::GateClosed,
        Drop::NotRtp,
    ] {
        let frame = Datagram::v4(&[0; 20]).frame();
        assert!(!is_kernels(&frame, broken, &locals()), "{broken:?}");
    }
    for ours_no_more in [Drop::NotOurAddress, Drop::NoStream] {
        assert!(is_kernels(&[], ours_no_more, &locals()));
    }
    assert!(!is_kernels(&[], Drop::NotOurMac, &locals()));
    assert!(!is_kernels(&[0; 14], Drop::Fragment, &locals()));
}
