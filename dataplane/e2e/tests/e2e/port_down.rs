//! A port that goes down and comes up: logged once each, told to control, shown in the table; calls go on.

use penstock_e2e::{Lab, Phone, converse, lab, phone_at, wait_for};
use penstock_shm::{Control, Event};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(20);

fn link(lab: &Lab, state: &str) {
    let (code, _, err) = lab.run("ip", &["link", "set", "ps0", state]);
    assert_eq!(code, Some(0), "{err}");
}

#[test]
fn it_is_seen_reported_and_survived() {
    let lab = lab!("port_down");
    let plane = lab.plane();
    let table = lab.table();
    let is = |up| {
        wait_for(SOON, || {
            table.ports().first().is_some_and(|port| port.up == up)
        })
    };
    assert!(is(true), "{:?}", table.ports());
    let mut caller = Phone::new(&lab, phone_at(4000), 0xa);
    let mut callee = Phone::new(&lab, phone_at(5000), 0xb);
    let control = lab.control();
    let sides = lab.ng().call("lasting", caller.at(), callee.at());
    converse(&mut caller, sides.caller, &mut callee, sides.callee, 50);
    caller.heard_all(0xb, 1, 50);
    let counts = wait_for(SOON, || {
        let ports = table.ports();
        ports.len() == 1
            && ports[0].ipackets >= 100
            && ports[0].opackets >= 100
            && ports[0].obytes > ports[0].opackets
    });
    assert!(counts, "{:?}", table.ports());
    control.kill();
    let mut events = Control::attach(lab.region())
        .expect("the region")
        .split()
        .events;
    let mut told = |up| {
        let wanted = Event::Port { port: 0, up };
        wait_for(SOON, || {
            std::iter::from_fn(|| events.next())
                .any(|event| event.is_ok_and(|event| event == wanted))
        })
    };

    link(&lab, "down");
    assert!(
        is(false) && told(false),
        "{:?}\n{}",
        table.ports(),
        plane.log()
    );
    link(&lab, "up");
    assert!(
        is(true) && told(true),
        "{:?}\n{}",
        table.ports(),
        plane.log()
    );
    let log = plane.log();
    for once in ["the port's link is down", "the port's link is up"] {
        assert_eq!(log.matches(once).count(), 1, "{log}");
    }

    converse(&mut caller, sides.caller, &mut callee, sides.callee, 50);
    caller.heard_all(0xb, 1, 100);
    callee.heard_all(0xa, 1, 100);
}
