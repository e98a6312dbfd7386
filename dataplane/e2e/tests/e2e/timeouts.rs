//! Media that does not flow: the plane's timers tell control, which ends the call and gives back what it
//! held; one-way media is shown; a call that is on hold or rings has longer.

use penstock_e2e::region::live;
use penstock_e2e::{Phone, exchange, lab, meanwhile, phone_at, rtp_packet, wait_for};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(100);

#[test]
fn calls_without_media_end_and_others_stay() {
    let lab = lab!("timeouts");
    lab.edit(
        "[control]\n",
        "[timeouts]\nstart_s = 3\nsilence_s = 3\nhold_s = 3600\none_way_s = 2\n[control]\n",
    );
    let _plane = lab.plane();
    let control = lab.control();
    let ng = lab.ng();
    let table = lab.table();
    let mut caller = Phone::new(&lab, phone_at(4000), 0xa);
    let mut callee = Phone::new(&lab, phone_at(5000), 0xb);
    let talks = ng.call("talks", caller.at(), callee.at());
    ng.call("never", phone_at(4010), phone_at(5010));
    ng.offer("rings", phone_at(4020)).expect("an offer");
    let half = ng.call("half", phone_at(4030), phone_at(5030));
    let stats = || lab.penstock_json("status")["control"].clone();
    let alone = lab.socket(phone_at(4030));
    let mut seq = 0;
    let mut speak = || {
        seq += 1;
        alone
            .send_to(&rtp_packet(0xc, seq), half.caller)
            .expect("a packet");
        std::thread::sleep(Duration::from_millis(20));
    };

    let media = || exchange(&mut caller, talks.caller, &mut callee, talks.callee);
    meanwhile(media, || {
        let ends = || {
            speak();
            !ng.list().contains(&"never".to_owned())
        };
        assert!(wait_for(SOON, ends), "{:?}", ng.list());
        let is_seen = || {
            speak();
            let calls = lab.penstock_json("calls");
            let calls = calls.as_array().expect("a list").clone();
            calls
                .iter()
                .any(|call| call["call_id"] == "half" && call["one_way"] == true)
        };
        assert!(wait_for(SOON, is_seen), "{}", stats());
        let mut calls = ng.list();
        calls.sort();
        assert_eq!(calls, ["half", "rings", "talks"]);
        // It falls silent, and is over.
        let ends = || !ng.list().contains(&"half".to_owned());
        assert!(wait_for(SOON, ends), "{}", stats());
    });
    assert!(caller.listen().rtp.contains_key(&0xb));
    assert!(callee.listen().rtp.contains_key(&0xa));
    let told = stats();
    assert_eq!(told["ageing"]["no-start"], 1, "{told}");
    assert_eq!(told["ageing"]["silence"], 1, "{told}");
    assert!(told["link"]["media-reports"].as_u64() > Some(0), "{told}");
    // Who talked has ceased as well; the one that rings stays.
    assert!(wait_for(SOON, || ng.list() == ["rings"]), "{:?}", ng.list());
    assert_eq!(live(&table).len(), 4);
    let log = control.log();
    assert_eq!(log.matches("call ended: ").count(), 3, "{log}");
}
