//! Two gateways: when the one in use dies, all routes go over to the other, and back once it is well.

use penstock_e2e::{Host, Lab, PLANE, Phone, Setup, lab, meanwhile, meet, phone_at, wait_for};
use std::net::SocketAddr;
use std::sync::atomic::AtomicU16;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::sleep;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(60);

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
        wait_for(SOON, || {
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
    let (sent, arrived) = (AtomicU16::new(0), AtomicU16::new(0));
    let mut media = || {
        caller.talk(sides.caller);
        sent.store(caller.sent(), Relaxed);
        callee.talk(sides.callee);
        caller.listen();
        let heard = callee.listen().rtp.get(&0xa);
        let last = heard.and_then(|seqs| seqs.last()).copied();
        arrived.store(last.unwrap_or(0), Relaxed);
        sleep(Duration::from_millis(5));
    };
    // What is said from now on arrives, a hundred packets of it.
    let flows = || {
        let now = sent.load(Relaxed);
        assert!(
            wait_for(SOON, || arrived.load(Relaxed) >= now + 100),
            "no media"
        );
    };
    let (before, after) = meanwhile(&mut media, || {
        flows();
        let before = arrived.load(Relaxed);
        first.ip("link set eth0 down");
        assert!(in_use(SECOND), "{}", plane.log());
        flows();
        let after = sent.load(Relaxed);
        first.ip("link set eth0 up");
        assert!(in_use(FIRST), "{}", plane.log());
        flows();
        (before, after)
    });
    let (said, answered) = (caller.sent(), callee.sent());
    let totals = lab.balanced();
    caller.heard_all(0xb, 1, answered);
    let heard = callee.listen_for(|heard| heard.rtp[&0xa].last() == Some(&said));
    let heard = heard.rtp[&0xa].clone();
    assert!(heard.is_sorted(), "out of order");
    let lost: Vec<u16> = (1..=said).filter(|seq| !heard.contains(seq)).collect();
    let lost_at = (lost.first(), lost.last());
    eprintln!("gateways: {} of {said} lost, {lost_at:?}", lost.len());
    // Nothing but what was said between the failure and the other gateway's turn; the way back costs nothing.
    let outside = lost.iter().find(|seq| !(before..=after).contains(*seq));
    assert_eq!(
        outside, None,
        "down after {before}, over by {after}: {totals:?}"
    );
    // The manual promises 4 s.
    assert!(
        !lost.is_empty() && lost.len() < 8000,
        "{lost_at:?} of 5 ms each"
    );
}
