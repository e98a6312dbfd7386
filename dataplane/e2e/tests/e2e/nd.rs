//! IPv6 without a listed neighbour: the plane answers neighbour discovery and asks by it.

use penstock_e2e::{Host, Lab, PLANE, Phone, Setup, converse, lab, meet};
use penstock_shm::counters::Drop;
use std::net::SocketAddr;

const OURS: &str = "fd00:198::1";
const THEIRS: &str = "fd00:198::ff";

/// A lab whose calls have IPv6.
fn setup() -> Setup {
    let mut setup = Setup::default();
    setup.port += &format!("[[port.address]]\naddress = \"{OURS}/64\"\n");
    setup
}

fn with_ipv6(lab: &Lab) {
    lab.edit(
        &format!("address = \"{PLANE}\"\nports"),
        &format!("address = \"{OURS}\"\nports"),
    );
}

fn at(port: u16) -> SocketAddr {
    SocketAddr::new(THEIRS.parse().expect("an address"), port)
}

#[test]
fn an_ipv6_call_needs_no_listed_neighbour() {
    let lab = lab!("nd", setup());
    with_ipv6(&lab);
    let _plane = lab.plane();
    let _control = lab.control();
    // Without waiting for the kernel to find out that nobody else has the address.
    lab.ip(&format!("addr add {THEIRS}/64 dev ps0 nodad"));
    lab.ping(OURS);

    let ng = lab.ng();
    let mut caller = Phone::new(&lab, at(4000), 0xa);
    let mut callee = Phone::new(&lab, at(5000), 0xb);
    let sides = ng.call("six", caller.at(), callee.at());
    assert!(sides.caller.is_ipv6(), "{sides:?}");
    meet(&mut caller, sides.caller, &mut callee, sides.callee);
    converse(&mut caller, sides.caller, &mut callee, sides.callee, 199);
    caller.heard_all(0xb, 1, 200);
    callee.heard_all(0xa, 1, 200);
    // The kernel looks for routers and joins groups, to which the plane says nothing.
    let totals = lab.balanced();
    assert_eq!(totals.dropped(Drop::NextHop), 0, "{totals:?}");
    assert_eq!(totals.forwarded, 400, "{totals:?}");

    // Whoever forgets us finds us again, in the middle of the call.
    lab.ip("-6 neigh flush dev ps0");
    converse(&mut caller, sides.caller, &mut callee, sides.callee, 100);
    caller.heard_all(0xb, 1, 300);
    callee.heard_all(0xa, 1, 300);

    // An address of ours is not free for others: duplicate address detection fails (RFC 4862, 5.4).
    lab.ip(&format!("addr add {OURS}/64 dev ps0"));
    let failed = penstock_e2e::wait_for(std::time::Duration::from_secs(10), || {
        let (_, out, _) = lab.run("ip", &["-6", "addr", "show", "dev", "ps0", "dadfailed"]);
        out.contains(OURS)
    });
    assert!(failed, "the kernel took our address");
}

#[test]
fn a_gateway_may_be_link_local() {
    const FAR: &str = "2001:db8:9::9";
    let mut setup = setup();
    setup.port += "gateway = \"fe80::1\"\n";
    let lab = lab!("nd-gateway", setup);
    with_ipv6(&lab);
    let _plane = lab.plane();
    let _control = lab.control();
    lab.bridge();
    lab.ip(&format!("addr add {THEIRS}/64 dev br0 nodad"));
    let gateway = Host::on_bridge(&lab, "02:00:00:00:01:01");
    gateway.ip("addr add fe80::1/64 dev eth0 nodad");
    gateway.ip(&format!("addr add {FAR}/128 dev lo nodad"));
    gateway.ip("route add fd00:198::/64 dev eth0");

    let ng = lab.ng();
    let mut caller = Phone::new(&lab, at(4000), 0xa);
    let far = SocketAddr::new(FAR.parse().expect("an address"), 5000);
    let mut callee = Phone::with(gateway.socket(far), 0xb);
    let sides = ng.call("far", caller.at(), callee.at());
    meet(&mut caller, sides.caller, &mut callee, sides.callee);
    converse(&mut caller, sides.caller, &mut callee, sides.callee, 99);
    caller.heard_all(0xb, 1, 100);
    callee.heard_all(0xa, 1, 100);
}
