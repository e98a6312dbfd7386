//! Other settings while calls stand.

mod common;
use common::*;
use penstock_media::*;

fn settings(interfaces: &[(&str, u8, u16, u16)], max_calls: usize) -> Settings {
    let interfaces = interfaces
        .iter()
        .map(|&(name, last, first, end)| Interface {
            name: name.into(),
            ip: [198, 18, 0, last].into(),
            vlan: 0,
            advertise: [203, 0, 113, last].into(),
            ports: (first, end),
        });
    Settings {
        interfaces: interfaces.collect(),
        rest: REST,
        max_calls,
        seed: 0,
    }
}

/// The ports that offers get until there are none left.
fn drained(calls: &mut Calls, s: f64) -> Vec<u16> {
    let mut ports = Vec::new();
    let body = sdp("10.0.0.1", 4000, "");
    loop {
        let id = format!("new{}", ports.len());
        let out = offer(
            calls,
            parties(&id, "a", None),
            &body,
            &Options::default(),
            s,
        );
        match out {
            Ok(_) => ports.extend(calls.get(&id).unwrap().locals().map(|local| local.port)),
            Err(error) => {
                assert_eq!(error, MediaError::OutOfPorts);
                return ports;
            }
        }
    }
}

#[test]
fn an_interface_that_a_call_uses_stays() {
    let mut calls = calls(8);
    established(&mut calls);
    let held: Vec<u16> = calls.get("c").unwrap().locals().map(|l| l.port).collect();
    assert_eq!(held, [10_000, 10_002]);
    for other in [
        vec![("external", 2, 10_000, 10_015)],
        vec![("internal", 3, 10_000, 10_015)],
        vec![("renamed", 1, 10_000, 10_015)],
        vec![("internal", 1, 10_002, 10_015)],
        vec![("internal", 1, 10_000, 10_002)],
    ] {
        let held = calls.configure(settings(&other, 20)).unwrap_err();
        let text = held.to_string();
        assert_eq!(held.calls, ["c"], "{other:?}");
        assert!(
            text.contains("interface \"internal\" (198.18.0.1, ports 10000-10015)"),
            "{text}"
        );
        assert!(text.ends_with("while calls use it: c"), "{text}");
    }
    assert_eq!(
        calls.ports().next(),
        Some(("internal", 2, 8)),
        "nothing changed"
    );
    // What no call uses may go, and what it does not need of the rest.
    let less = settings(&[("internal", 1, 10_000, 10_003)], 20);
    calls.configure(less).unwrap();
    assert_eq!(calls.ports().collect::<Vec<_>>(), [("internal", 2, 2)]);
    assert_eq!(drained(&mut calls, 5.0), []);
    assert!(delete(&mut calls, "c", None, None, 10.0));
    calls
        .configure(settings(&[("other", 3, 10_000, 10_003)], 20))
        .unwrap();
    assert_eq!(calls.ports().collect::<Vec<_>>(), [("other", 0, 2)]);
}

#[test]
fn an_offer_under_way_holds_its_ports() {
    let mut calls = calls(8);
    let body = sdp("10.0.0.1", 4000, "");
    let pending = calls
        .offer(
            &parties("c", "a", None),
            body.as_bytes(),
            &Options::default(),
            now(0.0),
        )
        .unwrap();
    let gone = settings(&[("internal", 3, 10_000, 10_015)], 20);
    let renamed = settings(&[("renamed", 1, 10_000, 10_015)], 20);
    assert!(calls.configure(renamed).is_err());
    let text = calls.configure(gone.clone()).unwrap_err().to_string();
    assert!(text.ends_with("one that is being set up"), "{text}");
    calls.rollback(pending, now(0.0));
    calls.configure(gone).unwrap();
}

#[test]
fn ports_keep_their_rest_and_no_port_is_given_out_twice() {
    let mut calls = calls(4);
    established(&mut calls);
    let body = sdp("10.0.0.1", 4000, "");
    let none = Options::default();
    offer(&mut calls, parties("d", "a", None), &body, &none, 0.0).unwrap();
    assert!(delete(&mut calls, "d", None, None, 10.0));
    // 10000 and 10002 are the call's, 10004 and 10006 rest until 12; 10008 and 10010 are new.
    let more = settings(&[("internal", 1, 10_000, 10_011)], 20);
    calls.configure(more).unwrap();
    assert_eq!(drained(&mut calls, 11.0), [10_008, 10_010]);
    assert!(delete(&mut calls, "new0", None, None, 11.0));
    assert_eq!(drained(&mut calls, 12.0), [10_004, 10_006]);
}

#[test]
fn a_lower_limit_of_calls_ends_none() {
    let mut calls = calls(8);
    established(&mut calls);
    calls
        .configure(settings(&[("internal", 1, 10_000, 10_015)], 1))
        .unwrap();
    let body = sdp("10.0.0.1", 4000, "");
    let refused = offer(
        &mut calls,
        parties("d", "a", None),
        &body,
        &Options::default(),
        1.0,
    );
    assert_eq!(refused.unwrap_err(), MediaError::TooManyCalls);
    offer(
        &mut calls,
        parties("c", "a", None),
        &body,
        &Options::default(),
        1.0,
    )
    .unwrap();
}

/// A range that grows over ports which a call of an older configuration still holds.
#[test]
fn ports_that_had_no_pool_are_claimed() {
    let mut old = calls(8);
    established(&mut old);
    let call = old.get("c").unwrap().clone();
    let mut calls = Calls::new(settings(&[("internal", 1, 20_000, 20_003)], 20), now(0.0));
    calls.restore([call]);
    calls
        .configure(settings(&[("internal", 1, 10_000, 10_007)], 20))
        .unwrap();
    assert_eq!(drained(&mut calls, 0.0), [10_004, 10_006]);
}
