//! Whose packets a stream takes: each way to learn, as a call's signalling asks for it.
//!
//! Every packet here is seen to arrive or is counted as dropped before the next one is sent, so nothing depends on how fast
//! the machine is; windows that must not end are a minute long.

use penstock_e2e::region::{stream, totals};
use penstock_e2e::{
    Daemon, Lab, Ng, Phone, Sides, answer_request, lab, offer_request, phone_at, reach, sdp,
    wait_for,
};
use penstock_shm::TableView;
use penstock_shm::counters::Drop;
use serde_json::json;
use std::net::{IpAddr, SocketAddr};
use std::thread::sleep;
use std::time::{Duration, Instant};

const SOON: Duration = Duration::from_secs(20);

/// Where signalling says that the caller is.
const SIGNALLED: u16 = 4000;

/// A plane and a control with these `[learning]` keys.
fn start(lab: &Lab, learning: &str) -> (Daemon, Daemon) {
    let tables = format!("[learning]\n{learning}\n[control]\n");
    lab.edit("[control]\n", &tables);
    let daemons = (lab.plane(), lab.control());
    for last in [66, 67] {
        lab.address(IpAddr::from([198, 18, 255, last]));
    }
    daemons
}

/// A phone at another IP address than the signalled one.
fn stranger(lab: &Lab, last: u8, port: u16) -> Phone {
    let at = SocketAddr::from(([198, 18, 255, last], port));
    Phone::new(
        lab,
        at,
        0xbad0_0000 | u32::from(last) << 8 | u32::from(port) & 0xff,
    )
}

/// A call, of which the caller's side learns.
struct Call {
    name: &'static str,
    ng: Ng,
    table: TableView,
    sides: Sides,
    callee: Phone,
}

impl Call {
    /// With these flags in its offer; the caller is signalled at [`SIGNALLED`], the callee at `callee`.
    fn new(lab: &Lab, name: &'static str, callee: u16, learning: &str, flags: &[&str]) -> Call {
        let callee = Phone::new(lab, phone_at(callee), 0xb);
        let ng = lab.ng();
        let mut offer = offer_request(name, &sdp(phone_at(SIGNALLED)));
        offer["endpoint-learning"] = learning.into();
        offer["flags"] = json!(flags);
        let sides = Sides {
            callee: ng.signal(&offer, SOON).expect("an offer"),
            caller: ng.answer(name, callee.at()).expect("an answer"),
        };
        let table = lab.table();
        Call {
            name,
            ng,
            table,
            sides,
            callee,
        }
    }

    /// The caller's body changes, though not its address.
    fn signal_anew(&self, learning: &str) {
        let body = sdp(phone_at(SIGNALLED)) + "a=ptime:20\r\n";
        let mut offer = offer_request(self.name, &body);
        offer["endpoint-learning"] = learning.into();
        assert_eq!(self.ng.signal(&offer, SOON), Ok(self.sides.callee));
        let answer = answer_request(self.name, &sdp(self.callee.at()));
        assert_eq!(self.ng.signal(&answer, SOON), Ok(self.sides.caller));
    }

    /// The phone's next packet arrives.
    fn takes(&mut self, phone: &mut Phone) {
        reach(phone, self.sides.caller, &mut self.callee);
    }

    /// The phone's next packet is dropped for its source.
    fn refuses(&mut self, phone: &mut Phone) {
        self.refuses_after(None, phone);
    }

    /// The same, right behind a packet of another phone, which arrives.
    fn refuses_after(&mut self, other: Option<&mut Phone>, phone: &mut Phone) {
        let dropped = || totals(&self.table).dropped(Drop::Source);
        let before = dropped();
        let other = other.map(|other| {
            other.talk(self.sides.caller);
            (other.ssrc(), other.sent())
        });
        phone.talk(self.sides.caller);
        let counted = wait_for(SOON, || dropped() > before);
        let stat = stream(&self.table, self.sides.caller);
        assert!(counted, "{} is not refused: {stat:?}", phone.at());
        assert_eq!(dropped(), before + 1, "{stat:?}");
        if let Some((ssrc, seq)) = other {
            assert!(self.callee.hears(ssrc, seq), "{:?}", self.callee.listen());
        }
        let got_through = self.callee.listen().has(phone.ssrc(), phone.sent());
        assert!(!got_through, "{} got through", phone.at());
    }

    /// The stream comes to have this remote, locked or not.
    fn settles(&self, remote: &Phone, locked: bool) {
        let policy = || {
            stream(&self.table, self.sides.caller)
                .expect("the stream")
                .policy
        };
        let is_so = || {
            let policy = policy();
            policy.remote == Some(remote.at()) && policy.locked == locked
        };
        let settled = wait_for(SOON, is_so);
        assert!(
            settled,
            "not {}, locked {locked}: {:?}",
            remote.at(),
            policy()
        );
    }

    /// What the callee says goes to this phone.
    fn answers(&mut self, phone: &mut Phone) {
        reach(&mut self.callee, self.sides.callee, phone);
        phone.forget();
    }
}

/// Windows that do not end.
const LONG: &str = "window_ms = 60000\nwindow_packets = 1000000\nrelearn_s = 0";

#[test]
fn off_takes_the_signalled_address_alone() {
    let lab = lab!("learning_off");
    let _daemons = start(&lab, "relearn_s = 1\nhandover_ms = 1");
    let mut call = Call::new(&lab, "off", 5000, "off", &["media-handover"]);
    let mut phone = Phone::new(&lab, phone_at(SIGNALLED), 0xa);
    let mut other_port = Phone::new(&lab, phone_at(4444), 0xaa);
    let mut other = stranger(&lab, 66, SIGNALLED);
    call.refuses(&mut other);
    call.refuses(&mut other_port);
    call.takes(&mut phone);
    call.answers(&mut phone);
    // However long it is silent.
    sleep(Duration::from_millis(1500));
    call.refuses(&mut other);
    call.refuses(&mut other_port);
    call.takes(&mut phone);
}

#[test]
fn immediate_locks_the_first_source() {
    let lab = lab!("learning_immediate");
    let _daemons = start(&lab, LONG);
    let mut call = Call::new(&lab, "immediate", 5000, "immediate", &[]);
    let mut phone = Phone::new(&lab, phone_at(SIGNALLED), 0xa);
    let mut first = stranger(&lab, 66, 6000);
    let mut second = stranger(&lab, 67, 6000);
    call.takes(&mut first);
    call.settles(&first, true);
    call.refuses(&mut second);
    call.refuses(&mut phone);
    call.takes(&mut first);
    call.answers(&mut first);
}

#[test]
fn delayed_locks_the_last_source_of_the_window() {
    let lab = lab!("learning_delayed");
    let _daemons = start(
        &lab,
        "window_ms = 60000\nwindow_packets = 20\nrelearn_s = 0",
    );
    let mut call = Call::new(&lab, "delayed", 5000, "delayed", &[]);
    let mut phone = Phone::new(&lab, phone_at(SIGNALLED), 0xa);
    let mut first = stranger(&lab, 66, 6000);
    let mut last = stranger(&lab, 67, 6000);
    // Not even the signalled address ends the window.
    for source in [&mut first, &mut phone, &mut last] {
        call.takes(source);
        call.settles(source, false);
        call.answers(source);
    }
    for _ in 0..20 {
        call.takes(&mut last);
    }
    call.settles(&last, true);
    call.refuses(&mut phone);
    call.refuses(&mut first);
    call.takes(&mut last);
}

#[test]
fn heuristic_takes_better_sources_only() {
    let lab = lab!("learning_heuristic");
    let _daemons = start(&lab, LONG);
    let mut call = Call::new(&lab, "heuristic", 5000, "heuristic", &[]);
    let mut any = stranger(&lab, 66, 6000);
    let mut as_bad = stranger(&lab, 67, 6000);
    let mut same_port = stranger(&lab, 67, SIGNALLED);
    let mut same_ip = Phone::new(&lab, phone_at(4444), 0xaa);
    let mut phone = Phone::new(&lab, phone_at(SIGNALLED), 0xa);
    call.takes(&mut any);
    call.settles(&any, false);
    call.answers(&mut any);
    call.refuses(&mut as_bad);
    call.takes(&mut same_port);
    call.settles(&same_port, false);
    call.refuses(&mut any);
    call.takes(&mut same_ip);
    call.settles(&same_ip, false);
    call.refuses(&mut same_port);
    // The phone is certain: the window need not end.
    call.takes(&mut phone);
    call.settles(&phone, true);
    call.answers(&mut phone);
    for other in [&mut any, &mut as_bad, &mut same_port, &mut same_ip] {
        call.refuses(other);
    }

    // And with a stranger there alone: the phone takes over at once.
    let mut call = Call::new(&lab, "quick", 5002, "heuristic", &[]);
    call.takes(&mut any);
    call.settles(&any, false);
    call.takes(&mut phone);
    call.settles(&phone, true);
    call.refuses(&mut any);
}

#[test]
fn heuristic_locks_the_best_source_when_the_window_ends() {
    let lab = lab!("learning_window");
    let _daemons = start(&lab, "window_ms = 2000\nwindow_packets = 10\nrelearn_s = 0");
    let mut phone = Phone::new(&lab, phone_at(SIGNALLED), 0xa);
    let mut any = stranger(&lab, 66, 6000);
    let mut same_ip = Phone::new(&lab, phone_at(4444), 0xaa);

    // A stranger does not hurry the end.
    let mut call = Call::new(&lab, "stranger", 5000, "heuristic", &[]);
    let first = Instant::now();
    call.takes(&mut any);
    while !stream(&call.table, call.sides.caller)
        .expect("the stream")
        .policy
        .locked
    {
        assert!(first.elapsed() < SOON, "the window does not end");
        call.takes(&mut any);
        sleep(Duration::from_millis(10));
    }
    assert!(
        first.elapsed() >= Duration::from_secs(2),
        "{:?}",
        first.elapsed()
    );
    call.settles(&any, true);
    call.refuses(&mut phone);
    call.takes(&mut any);

    // A likely one does.
    lab.edit("window_ms = 2000", "window_ms = 60000");
    let (code, _, err) = lab.penstock(&["reload"]);
    assert_eq!(code, Some(0), "{err}");
    let mut call = Call::new(&lab, "likely", 5002, "heuristic", &[]);
    call.takes(&mut same_ip);
    call.settles(&same_ip, false);
    for _ in 0..12 {
        call.takes(&mut same_ip);
    }
    call.settles(&same_ip, true);
    call.refuses(&mut phone);
}

#[test]
fn after_silence_another_port_is_taken_and_another_address_is_not() {
    let lab = lab!("learning_relearn");
    let _daemons = start(
        &lab,
        "relearn_s = 1\nwindow_ms = 60000\nwindow_packets = 10",
    );
    let mut call = Call::new(&lab, "relearn", 5000, "heuristic", &[]);
    let mut phone = Phone::new(&lab, phone_at(SIGNALLED), 0xa);
    let mut moved = Phone::new(&lab, phone_at(4444), 0xaa);
    let mut other = stranger(&lab, 66, SIGNALLED);
    call.takes(&mut phone);
    call.settles(&phone, true);
    call.refuses_after(Some(&mut phone), &mut moved);
    call.refuses_after(Some(&mut phone), &mut other);
    sleep(Duration::from_millis(1500));
    call.refuses(&mut other);
    call.takes(&mut moved);
    call.settles(&moved, false);
    call.answers(&mut moved);
    call.refuses(&mut other);
    for _ in 0..12 {
        call.takes(&mut moved);
    }
    call.settles(&moved, true);
    call.refuses_after(Some(&mut moved), &mut phone);
}

#[test]
fn media_handover_follows_once_the_old_source_is_silent() {
    let lab = lab!("learning_handover");
    let _daemons = start(&lab, "handover_ms = 1000\nrelearn_s = 0");
    let mut follows = Call::new(&lab, "follows", 5000, "heuristic", &["media-handover"]);
    let mut stays = Call::new(&lab, "stays", 5002, "heuristic", &[]);
    let strict = ["media-handover", "strict-source"];
    let mut strict = Call::new(&lab, "strict", 5004, "heuristic", &strict);
    let mut phone = Phone::new(&lab, phone_at(SIGNALLED), 0xa);
    let mut other = stranger(&lab, 66, 6000);
    for call in [&mut stays, &mut strict, &mut follows] {
        call.takes(&mut phone);
        call.settles(&phone, true);
        call.refuses_after(Some(&mut phone), &mut other);
    }
    sleep(Duration::from_millis(1500));
    stays.refuses(&mut other);
    strict.refuses(&mut other);
    follows.takes(&mut other);
    follows.settles(&other, true);
    follows.answers(&mut other);
    follows.refuses_after(Some(&mut other), &mut phone);
}

#[test]
fn after_new_signalling_the_old_source_comes_back() {
    let lab = lab!("learning_anew");
    let _daemons = start(
        &lab,
        "window_ms = 60000\nwindow_packets = 10\nrelearn_s = 0",
    );
    // Behind a NAT: neither its address nor its port is the signalled one.
    let mut phone = stranger(&lab, 66, 6000);
    let mut other = stranger(&lab, 67, SIGNALLED);
    for (name, callee, learning) in [("best", 5000, "heuristic"), ("first", 5002, "immediate")] {
        let mut call = Call::new(&lab, name, callee, "immediate", &[]);
        call.takes(&mut phone);
        call.settles(&phone, true);
        call.refuses(&mut other);
        call.signal_anew(learning);
        // Quicker, and better than a source that nothing is known of; but the old one has time to speak.
        call.refuses(&mut other);
        call.takes(&mut phone);
        call.settles(&phone, true);
        call.answers(&mut phone);
        call.refuses(&mut other);
    }
}

/// A phone behind a NAT that only listens: what it sends to keep its NAT open is dropped, and its media finds it.
#[test]
fn a_listener_is_learned_though_it_may_not_speak() {
    let lab = lab!("learning_listener");
    let (_plane, _control) = start(&lab, "window_ms = 60000");
    let ng = lab.ng();
    let table = lab.table();
    let private: SocketAddr = "10.9.9.9:4000".parse().expect("an address");
    let mut caller = stranger(&lab, 66, SIGNALLED);
    let mut other = stranger(&lab, 67, SIGNALLED);
    let mut callee = Phone::new(&lab, phone_at(5000), 0xb);
    let mut offer = offer_request("listens", &(sdp(private) + "a=recvonly\r\n"));
    offer["received-from"] = json!(["IP4", caller.at().ip().to_string()]);
    let callee_side = ng.signal(&offer, SOON).expect("an offer");
    let answer = sdp(callee.at()) + "a=sendonly\r\n";
    let caller_side = ng.answer_sdp("listens", &answer).expect("an answer");

    let dropped = |reason| totals(&table).dropped(reason);
    other.talk(caller_side);
    assert!(wait_for(SOON, || dropped(Drop::GateClosed) == 1));
    callee.talk(callee_side);
    assert!(wait_for(SOON, || dropped(Drop::NoRoute) == 1));
    caller.talk(caller_side);
    let is_learned = || {
        let remote = stream(&table, caller_side).and_then(|stream| stream.policy.remote);
        remote == Some(caller.at())
    };
    assert!(wait_for(SOON, is_learned));
    assert_eq!(dropped(Drop::GateClosed), 2);

    for _ in 0..5 {
        callee.talk(callee_side);
    }
    caller.heard_all(0xb, 2, 6);
    // Who comes later moves nothing.
    other.talk(caller_side);
    assert!(wait_for(SOON, || dropped(Drop::GateClosed) == 3));
    callee.talk(callee_side);
    caller.forget();
    caller.heard_all(0xb, 7, 7);
    assert!(callee.listen().rtp.is_empty(), "the gate is closed");
}
