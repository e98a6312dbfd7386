//! Control dies in mid-call: no packet is lost, and a new control owns the call. Both daemons die and
//! the region with them: the call comes back from control's store.

use penstock_e2e::region::{live, stream};
use penstock_e2e::{Phone, converse, exchange, lab, meanwhile, phone_at, wait_for};
use serde_json::json;
use std::time::Duration;

#[test]
fn media_goes_on_and_a_new_control_takes_over() {
    let lab = lab!("control_killed");
    let _plane = lab.plane();
    let control = lab.control();
    let ng = lab.ng();
    let table = lab.table();
    let mut caller = Phone::new(&lab, phone_at(4000), 0xa);
    let mut callee = Phone::new(&lab, phone_at(5000), 0xb);
    let sides = ng.call("survivor", caller.at(), callee.at());
    let packets = || {
        stream(&table, sides.caller)
            .expect("the stream")
            .meter
            .packets
    };
    let goes_on = || {
        let before = packets();
        assert!(
            wait_for(Duration::from_secs(10), || packets() > before + 100),
            "media stands still"
        );
    };

    let media = || exchange(&mut caller, sides.caller, &mut callee, sides.callee);
    let _control = meanwhile(media, || {
        goes_on();
        control.kill();
        goes_on();
        assert_eq!(
            ng.ask_within(&json!({"command": "ping"}), Duration::from_secs(1)),
            None
        );
        let control = lab.control();
        assert_eq!(ng.list(), ["survivor"]);
        assert_eq!(live(&table).len(), 4);
        goes_on();
        control
    });

    caller.heard_all(0xb, 1, callee.sent());
    callee.heard_all(0xa, 1, caller.sent());
    assert_eq!(packets(), u64::from(caller.sent()));
    let deleted = ng.delete("survivor");
    assert_eq!(deleted["result"], "ok", "{deleted}");
    assert_eq!(live(&table), []);
    assert_eq!(ng.list(), Vec::<String>::new());
}

#[test]
fn the_store_rebuilds_what_everybody_lost() {
    let lab = lab!("all_killed");
    let plane = lab.plane();
    let control = lab.control();
    let mut caller = Phone::new(&lab, phone_at(4000), 0xa);
    let mut callee = Phone::new(&lab, phone_at(5000), 0xb);
    let sides = lab.ng().call("survivor", caller.at(), callee.at());
    converse(&mut caller, sides.caller, &mut callee, sides.callee, 50);
    caller.heard_all(0xb, 1, 50);
    callee.heard_all(0xa, 1, 50);
    plane.kill();
    control.kill();
    std::fs::remove_dir_all(lab.region()).expect("the region");

    let _control = lab.control();
    let ng = lab.ng();
    assert_eq!(ng.list(), ["survivor"]);
    let _plane = lab.plane();
    let table = lab.table();
    assert!(
        wait_for(Duration::from_secs(10), || live(&table).len() == 4),
        "{:?}",
        live(&table)
    );
    converse(&mut caller, sides.caller, &mut callee, sides.callee, 50);
    caller.heard_all(0xb, 1, 100);
    callee.heard_all(0xa, 1, 100);
    assert_eq!(ng.delete("survivor")["result"], "ok");
    assert_eq!(live(&table), []);
}
