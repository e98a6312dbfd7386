//! A phone's MAC as others claim it and as it is: a claim moves nothing while the phone answers, and who has really
//! moved is found.

use penstock_e2e::{Daemon, Host, Lab, Phone, exchange, lab, meanwhile, meet, phone_at, wait_for};
use penstock_shm::counters::Drop;
use std::net::SocketAddr;
use std::thread::sleep;
use std::time::Duration;

const CALLEE: &str = "198.18.3.3";
/// The other host's MAC.
const OTHER: &str = "02:00:00:00:00:66";

fn callee_at(port: u16) -> SocketAddr {
    SocketAddr::new(CALLEE.parse().expect("an address"), port)
}

/// The plane with a bridge, the callee's host and another one.
fn start(lab: &Lab) -> (Daemon, Daemon, Host, Host) {
    let plane = lab.plane();
    let control = lab.control();
    lab.bridge();
    let host = Host::on_bridge(lab, "02:00:00:00:00:33");
    host.ip(&format!("addr add {CALLEE}/16 dev eth0"));
    let other = Host::on_bridge(lab, OTHER);
    // It then tells everyone of its addresses when its MAC is set.
    other.sysctl("net/ipv4/conf/eth0/arp_notify=1");
    (plane, control, host, other)
}

/// Takes the callee's address, and says so to everyone.
fn take(host: &Host) {
    host.ip(&format!("addr add {CALLEE}/16 dev eth0"));
    // The kernel then announces its addresses.
    host.ip(&format!("link set eth0 address {OTHER}"));
}

#[test]
fn a_claim_moves_nothing_while_the_phone_answers() {
    let lab = lab!("claims");
    let (_plane, _control, host, thief) = start(&lab);
    let ng = lab.ng();
    let mut caller = Phone::new(&lab, phone_at(4000), 0xa);
    let mut callee = Phone::with(host.socket(callee_at(5000)), 0xb);
    let sides = ng.call("kept", caller.at(), callee.at());
    meet(&mut caller, sides.caller, &mut callee, sides.callee);
    let mut loot = None;
    let media = || exchange(&mut caller, sides.caller, &mut callee, sides.callee);
    meanwhile(media, || {
        for _ in 0..8 {
            take(&thief);
            loot.get_or_insert_with(|| Phone::with(thief.socket(callee_at(5000)), 0xbad));
            sleep(Duration::from_millis(250));
            thief.ip(&format!("addr del {CALLEE}/16 dev eth0"));
        }
    });
    let loot = loot
        .expect("a socket")
        .listen_until(Duration::from_millis(100))
        .rtp
        .clone();
    assert!(loot.is_empty(), "the thief heard {loot:?}");
    let (said, answered) = (caller.sent(), callee.sent());
    callee.heard_all(0xa, 1, said);
    caller.heard_all(0xb, 1, answered);
    let totals = lab.balanced();
    assert_eq!(totals.dropped(Drop::NextHop), 0, "{totals:?}");
}

#[test]
fn a_phone_that_has_moved_is_found() {
    let lab = lab!("moved");
    let (_plane, _control, host, new_host) = start(&lab);
    let ng = lab.ng();
    let mut caller = Phone::new(&lab, phone_at(4000), 0xa);
    let mut callee = Phone::with(host.socket(callee_at(5000)), 0xb);
    let sides = ng.call("moving", caller.at(), callee.at());
    meet(&mut caller, sides.caller, &mut callee, sides.callee);
    // The address goes over to another host, as in a pair that stands by for each other.
    host.ip("link set eth0 down");
    let before = caller.sent();
    let mut moved = None;
    meanwhile(
        || {
            caller.talk(sides.caller);
            sleep(Duration::from_millis(2));
        },
        || {
            take(&new_host);
            let mut phone = Phone::with(new_host.socket(callee_at(5000)), 0xb);
            wait_for(Duration::from_secs(30), || {
                let heard = phone.listen().rtp.get(&0xa);
                moved = heard.and_then(|seqs| seqs.first().copied());
                moved.is_some()
            });
        },
    );
    let first = moved.expect("media at the new place");
    let lost_ms = u64::from(first - before) * 2;
    eprintln!("moved: some {lost_ms} ms of media lost");
    assert!(
        lost_ms < 5_000,
        "half a second was promised, not {lost_ms} ms"
    );
}
