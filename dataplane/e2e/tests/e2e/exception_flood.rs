//! More for the kernel than it takes: the limit holds, a proxy beside the flood is heard, and a call does not notice.

use penstock_e2e::region::totals;
use penstock_e2e::{Host, Phone, Setup, exchange, lab, meanwhile, meet, phone_at, wait_for};
use penstock_shm::counters::Drop;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

/// An address that is the kernel's alone.
const SIP: &str = "198.18.0.5";
const STRANGER: [u8; 4] = [198, 18, 255, 66];
/// What the kernel takes in a second, and what a source may send beyond that.
const PER_S: u64 = 1000;
const BEYOND_PER_S: u64 = 100;
/// The proxy's messages, and how far apart.
const MESSAGES: u64 = 500;
const PAUSE: Duration = Duration::from_millis(10);

fn setup() -> Setup {
    let mut setup = Setup::default();
    let exception = format!(
        "queues = 1\nexception = \"net_tap9,iface=sip0,persist\"\nexception_per_s = {PER_S}\n"
    );
    setup.port = setup.port.replace("queues = 1\n", &exception);
    setup
}

#[test]
fn a_proxy_is_heard_beside_a_flood() {
    let lab = lab!("exception-flood", setup());
    let limit = format!("[sources]\nunknown_ports_per_s = {BEYOND_PER_S}\n[control]\n");
    lab.edit("[control]\n", &limit);
    let _plane = lab.plane();
    let _control = lab.control();
    let table = lab.table();
    lab.address(IpAddr::from(STRANGER));
    lab.ip("link set ps0 address 02:00:00:00:00:99");
    let host = Host::new(&lab);
    host.adopt(&lab, "sip0");
    host.ip(&format!("addr add {SIP}/16 dev sip0"));
    host.ip("link set sip0 up");
    let sip = SocketAddr::new(SIP.parse().expect("an address"), 5060);
    let service = host.socket(sip);
    let proxy = lab.socket(phone_at(5060));
    let stranger = lab.socket(SocketAddr::from((STRANGER, 5060)));
    for socket in [&service, &proxy] {
        let patience = Some(Duration::from_millis(100));
        socket.set_read_timeout(patience).expect("a timeout");
    }

    let mut caller = Phone::new(&lab, phone_at(4000), 0xa);
    let mut callee = Phone::new(&lab, phone_at(5000), 0xb);
    let sides = lab.ng().call("call", caller.at(), callee.at());
    meet(&mut caller, sides.caller, &mut callee, sides.callee);
    let (done, answers, floods) = (
        AtomicBool::new(false),
        AtomicU64::new(0),
        AtomicBool::new(true),
    );
    let start = Instant::now();
    let media = || exchange(&mut caller, sides.caller, &mut callee, sides.callee);
    meanwhile(media, || {
        scope(|threads| {
            threads.spawn(|| {
                let mut buf = [0; 64];
                while !done.load(Relaxed) {
                    // The stranger is not answered: that would only fill the link.
                    if let Ok((n, from)) = service.recv_from(&mut buf)
                        && from.ip() != IpAddr::from(STRANGER)
                    {
                        let _ = service.send_to(&buf[..n], from);
                    }
                }
            });
            threads.spawn(|| {
                while !done.load(Relaxed) {
                    answers.fetch_add(u64::from(proxy.recv_from(&mut [0; 64]).is_ok()), Relaxed);
                }
            });
            threads.spawn(|| {
                while floods.load(Relaxed) {
                    // Twenty times the limit, and less than the link would drop.
                    for _ in 0..PER_S / 10 {
                        let _ = stranger.send_to(b"REGISTER", sip);
                    }
                    sleep(Duration::from_millis(5));
                }
            });
            let flood = || totals(&table).dropped(Drop::Flood) > 1000;
            assert!(
                wait_for(Duration::from_secs(30), flood),
                "{:?}",
                totals(&table)
            );
            for _ in 0..MESSAGES {
                proxy.send_to(b"OPTIONS", sip).expect("a message");
                sleep(PAUSE);
            }
            floods.store(false, Relaxed);
            let rest = || answers.load(Relaxed) == MESSAGES;
            wait_for(Duration::from_secs(2), rest);
            done.store(true, Relaxed);
        });
    });
    let seconds = start.elapsed().as_secs() + 1;
    let sum = lab.balanced();
    let heard = answers.load(Relaxed);
    eprintln!("exception-flood: {heard} of {MESSAGES} answered, {seconds} s, {sum:?}");
    // What is lost is lost at the beginning of each second, until the flood is known again.
    assert!(heard >= MESSAGES * 9 / 10, "{heard}: {sum:?}");
    assert!(sum.to_kernel >= PER_S, "{sum:?}");
    assert!(sum.to_kernel <= PER_S * (seconds + 1) + PER_S, "{sum:?}");
    let limit = sum.dropped(Drop::KernelLimit);
    assert!(limit <= 2 * BEYOND_PER_S * (seconds + 1), "{sum:?}");
    assert!(sum.dropped(Drop::Flood) > limit, "{sum:?}");
    let (said, answered) = (caller.sent(), callee.sent());
    callee.heard_all(0xa, 1, said);
    caller.heard_all(0xb, 1, answered);
}
