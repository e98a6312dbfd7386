//! Two gateways: when the one in use dies, all routes go over to the other, and back once it is well.

use penstock_e2e::region::balanced;
use penstock_e2e::{Host, Lab, PLANE, Phone, Setup, lab, meanwhile, meet, phone_at, wait_for};
use std::net::SocketAddr;
use std::thread::sleep;
use std::time::Duration;

const FIRST: &str = "198.18.0.254";
const SECOND: &str = "198.18.0.253";
/// Where the far phone is, behind both.
const FAR: &str = "203.0.113.9";

fn setup() -> Setup {
    let mut setup = Setup::default();
    setup.port += &format!("gateway = [\"{FIRST}\", \"{SECOND}\"]\n");
    setup
}

/// A gateway at the bridge, with a wire to the far host.
fn gateway(lab: &Lab, far: &Host, ip: &str, n: u8) -> Host {
    let host = Host::on_bridge(lab, &format!("02:00:00:00:01:0{n}"));
    host.ip(&format!("addr add {ip}/16 dev eth0"));
    host.wire(&format!("w{n}"), far);
    host.ip(&format!("addr add 10.{n}.0.1/24 dev w{n}"));
    far.ip(&format!("addr add 10.{n}.0.2/24 dev w{n}"));
    host.ip(&format!("route add {FAR}/32 via 10.{n}.0.2"));
    host
}

#[test]
fn the_other_gateway_takes_over_and_gives_back() {
    let lab = lab!("gateways", setup());
    let plane = lab.plane();
    let _control = lab.control();
    lab.bridge();
    let far = Host::new(&lab);
    far.ip(&format!("addr add {FAR}/32 dev lo"));
    let first = gateway(&lab, &far, FIRST, 1);
    let _second = gateway(&lab, &far, SECOND, 2);
    // What the far phone sends takes the way that stays.
    far.ip(&format!("route add {PLANE}/32 via 10.2.0.1 src {FAR}"));
    // The log's last word on it.
    let in_use = |gateway: &str| {
        wait_for(Duration::from_secs(30), || {
            let log = plane.log();
            let last = log.lines().rfind(|line| line.contains("gateway in use"));
            last.is_some_and(|line| line.contains(gateway))
        })
    };
    assert!(in_use(FIRST), "{}", plane.log());

    let ng = lab.ng();
    let mut caller = Phone::new(&lab, phone_at(4000), 0xa);
    let far_at = SocketAddr::new(FAR.parse().expect("an address"), 5000);
    let mut callee = Phone::with(far.socket(far_at), 0xb);
    let sides = ng.call("far", caller.at(), callee.at());
    meet(&mut caller, sides.caller, &mut callee, sides.callee);
    let mut media = || {
        caller.talk(sides.caller);
        callee.talk(sides.callee);
        caller.listen();
        callee.listen();
        sleep(Duration::from_millis(5));
    };
    meanwhile(&mut media, || {
        sleep(Duration::from_millis(500));
        first.ip("link set eth0 down");
        assert!(in_use(SECOND), "{}", plane.log());
        sleep(Duration::from_millis(500));
        first.ip("link set eth0 up");
        assert!(in_use(FIRST), "{}", plane.log());
        sleep(Duration::from_millis(500));
    });
    let (said, answered) = (caller.sent(), callee.sent());
    let totals = balanced(&lab.table());
    eprintln!("{totals:?}");
    caller.heard_all(0xb, 1, answered);
    let heard = callee.listen_until(Duration::from_millis(200)).rtp[&0xa].clone();
    let gaps: Vec<u16> = heard
        .windows(2)
        .map(|w| w[1] - w[0] - 1)
        .filter(|&gap| gap > 0)
        .collect();
    eprintln!(
        "gateways: {} of {said} lost, gaps {gaps:?}",
        usize::from(said) - heard.len()
    );
    assert_eq!((heard.first(), heard.last()), (Some(&1), Some(&said)));
    assert!(heard.is_sorted(), "out of order");
    // One gap, of less than 4 s as the manual promises; the way back costs nothing.
    let longest = gaps.iter().max().copied().unwrap_or(0);
    assert!(gaps.len() == 1 && longest < 2000, "{gaps:?} of 5 ms each");
}
