//! The configuration is read again while a call talks: an address and an interface come, serve a call, cannot
//! go while it stands, and go after it; a gateway comes; what takes a restart is named.

use penstock_e2e::region::live;
use penstock_e2e::{
    Daemon, Lab, PLANE, Phone, Signal, converse, exchange, lab, meanwhile, phone_at, sdp, wait_for,
};
use serde_json::json;
use std::net::SocketAddr;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(20);
const SECOND: &str = "198.18.0.2";

/// Has the plane read its configuration, and waits until its log says that again.
fn reload_plane(plane: &Daemon, says: &str) {
    let before = plane.log().matches(says).count();
    plane.signal(Signal::HUP);
    let said = || plane.log().matches(says).count() > before;
    assert!(wait_for(SOON, said), "no \"{says}\" in\n{}", plane.log());
}

fn port_of(reply: &serde_json::Value) -> SocketAddr {
    let sdp = reply["sdp"].as_str().unwrap_or_else(|| panic!("{reply}"));
    let port = sdp.lines().find_map(|l| l.strip_prefix("m=audio "));
    let port = port.and_then(|l| l.split(' ').next()).expect("a port");
    assert!(sdp.contains(&format!("c=IN IP4 {SECOND}")), "{sdp}");
    SocketAddr::new(
        SECOND.parse().expect("an address"),
        port.parse().expect("a port"),
    )
}

#[test]
fn addresses_come_and_go_under_calls() {
    let lab = lab!("reload");
    let plane = lab.plane();
    let _control = lab.control();
    let ng = lab.ng();
    let table = lab.table();
    let mut caller = Phone::new(&lab, phone_at(4000), 0xa);
    let mut callee = Phone::new(&lab, phone_at(5000), 0xb);
    let first = ng.call("first", caller.at(), callee.at());
    let address = format!("[[port.address]]\naddress = \"{SECOND}/16\"\n");
    let interface = format!(
        "[[control.interface]]\nname = \"second\"\naddress = \"{SECOND}\"\nports = \"20000-20007\"\n"
    );
    let reload = |lab: &Lab| {
        let (code, out, err) = lab.penstock(&["reload"]);
        match code {
            Some(0) => Ok(out),
            _ => Err(err),
        }
    };

    let media = || exchange(&mut caller, first.caller, &mut callee, first.callee);
    meanwhile(media, || {
        lab.edit("[[port]]\n", &format!("{interface}[[port]]\n"));
        lab.edit(
            &format!("address = \"{PLANE}/16\"\n"),
            &format!("address = \"{PLANE}/16\"\n{address}"),
        );
        reload_plane(&plane, "configuration reloaded");
        let told = reload(&lab).expect("a reload");
        assert!(told.contains("[[control.interface]]"), "{told}");

        // A call on the new interface.
        let signal = |command: &str, at: SocketAddr| {
            ng.ask(&json!({
                "command": command, "call-id": "second", "from-tag": "a", "to-tag": "b",
                "sdp": sdp(at), "direction": ["second", "second"],
            }))
        };
        let mut a = Phone::new(&lab, phone_at(4010), 0xc);
        let mut b = Phone::new(&lab, phone_at(5010), 0xd);
        let callee_side = port_of(&signal("offer", a.at()));
        let caller_side = port_of(&signal("answer", b.at()));
        // The first packets wait until the phones know the new address's MAC.
        converse(&mut a, caller_side, &mut b, callee_side, 1);
        a.heard_all(0xd, 1, 1);
        b.heard_all(0xc, 1, 1);
        converse(&mut a, caller_side, &mut b, callee_side, 49);
        a.heard_all(0xd, 1, 50);
        b.heard_all(0xc, 1, 50);

        // Neither half lets go of what the call uses; and nothing else changes either.
        lab.edit(&interface, "");
        let refused = reload(&lab).expect_err("a call uses it");
        assert!(refused.contains("interface \"second\""), "{refused}");
        assert!(
            refused.trim_end().ends_with("while calls use it: second"),
            "{refused}"
        );
        lab.edit(&address, "");
        reload_plane(
            &plane,
            &format!(
                "address {SECOND} (VLAN 0) of port \"media\" cannot be removed while 4 streams use it"
            ),
        );
        converse(&mut a, caller_side, &mut b, callee_side, 50);
        a.heard_all(0xd, 1, 100);
        b.heard_all(0xc, 1, 100);

        assert_eq!(ng.delete("second")["result"], "ok");
        assert!(reload(&lab).is_ok());
        reload_plane(&plane, "configuration reloaded");
        let gone = table
            .addresses()
            .into_iter()
            .find(|a| a.entry.ip.to_string() == SECOND);
        assert!(!gone.expect("its number").present);
        let refused = signal("offer", phone_at(4020));
        assert_eq!(refused["result"], "error", "{refused}");
    });
    // The first call never noticed.
    caller.heard_all(0xb, 1, callee.sent());
    callee.heard_all(0xa, 1, caller.sent());
    assert_eq!(live(&table).len(), 4);

    lab.edit("cores = [1]", "cores = [0]");
    reload_plane(&plane, "take a restart of the plane");
    lab.edit("cores = [0]", "cores = []");
    reload_plane(&plane, "nothing changed: ");
}

#[test]
fn a_gateway_comes_and_goes() {
    let lab = lab!("reload_gateway");
    let plane = lab.plane();
    let _control = lab.control();
    lab.address("203.0.113.5".parse().expect("an address"));
    let mut near = Phone::new(&lab, phone_at(4000), 0xa);
    let mut far = Phone::new(&lab, "203.0.113.5:5000".parse().expect("an address"), 0xb);
    let sides = lab.ng().call("far", near.at(), far.at());
    let hears = |near: &mut Phone, far: &mut Phone| {
        lab.settle();
        far.listen();
        far.forget();
        for _ in 0..10 {
            near.talk(sides.caller);
            far.talk(sides.callee);
            std::thread::sleep(Duration::from_millis(5));
        }
        let from = near.ssrc();
        lab.settle();
        far.listen().rtp.contains_key(&from)
    };
    assert!(!hears(&mut near, &mut far), "there is no way yet");
    let (without, with) = (
        format!("address = \"{PLANE}/16\"\n"),
        format!("address = \"{PLANE}/16\"\ngateway = \"198.18.255.1\"\n"),
    );
    lab.edit(&without, &with);
    reload_plane(&plane, "configuration reloaded");
    assert!(wait_for(SOON, || hears(&mut near, &mut far)));
    lab.edit(&with, &without);
    reload_plane(&plane, "configuration reloaded");
    assert!(wait_for(SOON, || !hears(&mut near, &mut far)));
}
