//! Who may send at all: networks that are denied, networks that alone are allowed, and who floods ports without a stream.

use penstock_e2e::region::{stream, totals};
use penstock_e2e::{Lab, Phone, exchange, lab, local, meanwhile, meet, phone_at, wait_for};
use penstock_shm::counters::Drop;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

const SOON: Duration = Duration::from_secs(10);
/// Where phones are besides their usual address.
const NEAR: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(198, 18, 255, 7));
const FAR: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(198, 18, 77, 7));
/// Packets of each phone.
const COUNT: u16 = 20;

fn sources(lab: &Lab, keys: &str) {
    lab.edit("[control]\n", &format!("[sources]\n{keys}\n[control]\n"));
}

/// A call of a phone at the usual address with one here: whether the latter's media passes. The former's always does.
fn passes(lab: &Lab, n: u16, here: IpAddr) -> bool {
    let table = lab.table();
    let before = lab.balanced();
    let mut usual = Phone::new(lab, phone_at(4000 + 4 * n), 0xa);
    let mut guest = Phone::new(lab, SocketAddr::new(here, 5000 + 4 * n), 0xb);
    let sides = lab.ng().call(&format!("call-{n}"), usual.at(), guest.at());
    for _ in 0..COUNT {
        usual.talk(sides.caller);
        let ssrc = usual.ssrc();
        guest.listen_for(|heard| heard.rtp.contains_key(&ssrc));
        guest.talk(sides.callee);
    }
    guest.heard_all(0xa, 1, COUNT);
    let after = lab.balanced();
    let denied = after.dropped(Drop::Denied) - before.dropped(Drop::Denied);
    let stat = stream(&table, sides.callee).expect("the stream");
    assert_eq!(stat.meter.packets + denied, u64::from(COUNT));
    match denied {
        0 => usual.heard_all(0xb, 1, COUNT),
        _ => assert_eq!(usual.listen().rtp.len(), 0, "of {denied} denied"),
    }
    assert!([0, u64::from(COUNT)].contains(&denied), "{after:?}");
    denied == 0
}

#[test]
fn who_is_denied_sends_nothing_though_signalled() {
    let lab = lab!("sources");
    sources(&lab, "deny = [\"198.18.255.7/32\"]");
    let _plane = lab.plane();
    let _control = lab.control();
    [NEAR, FAR].into_iter().for_each(|ip| lab.address(ip));
    assert!(!passes(&lab, 0, NEAR));
    assert!(passes(&lab, 1, FAR));
    assert!(passes(&lab, 2, phone_at(0).ip()));
}

#[test]
fn if_some_are_allowed_nobody_else_is() {
    let lab = lab!("sources-allow");
    // What is denied stays so.
    let near = "allow = [\"198.18.255.0/24\"]\ndeny = [\"198.18.255.7/32\"]";
    sources(&lab, near);
    let _plane = lab.plane();
    let _control = lab.control();
    let third = IpAddr::from([198, 18, 255, 8]);
    for ip in [NEAR, FAR, third] {
        lab.address(ip);
    }
    assert!(!passes(&lab, 0, NEAR));
    assert!(!passes(&lab, 1, FAR));
    assert!(passes(&lab, 2, third));
}

#[test]
fn a_flood_to_unknown_ports_costs_its_own_source_no_call() {
    const PER_S: u64 = 50;
    const FLOOD: u64 = 5000;
    let lab = lab!("sources-flood");
    sources(&lab, &format!("unknown_ports_per_s = {PER_S}"));
    let _plane = lab.plane();
    let _control = lab.control();
    let table = lab.table();
    let mut caller = Phone::new(&lab, phone_at(4000), 0xa);
    let mut callee = Phone::new(&lab, phone_at(5000), 0xb);
    let sides = lab.ng().call("call", caller.at(), callee.at());
    meet(&mut caller, sides.caller, &mut callee, sides.callee);
    let start = Instant::now();
    let media = || exchange(&mut caller, sides.caller, &mut callee, sides.callee);
    meanwhile(media, || {
        let stranger = lab.socket(phone_at(0));
        for n in 0..FLOOD {
            let port = 40_000 + (n % 1000) as u16;
            stranger
                .send_to(&[0x80; 172], local(port))
                .expect("a packet");
            if n % 50 == 0 {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        let all = wait_for(SOON, || {
            let sum = totals(&table);
            sum.dropped(Drop::Flood) + sum.dropped(Drop::NoStream) == FLOOD
        });
        assert!(all, "{:?}", totals(&table));
    });
    // Seconds of the source that began meanwhile.
    let seconds = start.elapsed().as_secs() + 2;
    let sum = lab.balanced();
    let (flood, chance) = (sum.dropped(Drop::Flood), sum.dropped(Drop::NoStream));
    assert_eq!(flood + chance, FLOOD, "{sum:?}");
    assert!((PER_S..=PER_S * seconds).contains(&chance), "{sum:?}");
    let (said, answered) = (caller.sent(), callee.sent());
    callee.heard_all(0xa, 1, said);
    caller.heard_all(0xb, 1, answered);
}
