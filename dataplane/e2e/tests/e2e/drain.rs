//! A node is taken out of service: new calls are refused, those that stand end in peace, and a restart
//! of control in between changes nothing.

use penstock_e2e::{Daemon, Phone, converse, exchange, lab, meanwhile, phone_at, wait_for};
use serde_json::json;
use std::time::Duration;

#[test]
fn new_calls_are_refused_and_old_ones_end_in_peace() {
    let lab = lab!("drain");
    let _plane = lab.plane();
    let control: Daemon = lab.control();
    let ng = lab.ng();
    let mut caller = Phone::new(&lab, phone_at(4000), 0xa);
    let mut callee = Phone::new(&lab, phone_at(5000), 0xb);
    let sides = ng.call("stands", caller.at(), callee.at());
    converse(&mut caller, sides.caller, &mut callee, sides.callee, 50);

    let media = || exchange(&mut caller, sides.caller, &mut callee, sides.callee);
    let _control = meanwhile(media, || {
        let (code, out, err) = lab.penstock(&["drain"]);
        assert_eq!(code, Some(0), "{err}");
        assert!(out.contains("1 call is left"), "{out}");
        let refused = ng
            .offer("new", phone_at(4010))
            .expect_err("a drained relay");
        assert!(refused.contains("drained"), "{refused}");
        let failed_over = ng.ask(&json!({
            "command": "offer", "call-id": "new", "from-tag": "a",
            "sdp": penstock_e2e::sdp(phone_at(4010)), "supports": ["load limit"],
        }));
        assert_eq!(failed_over["result"], "load limit", "{failed_over}");

        control.kill();
        let control = lab.control();
        let online = || lab.penstock_json("status")["well"] == true;
        assert!(wait_for(Duration::from_secs(20), online));
        let status = lab.penstock_json("status");
        assert_eq!(status["control"]["draining"], true, "{status}");
        assert_eq!(status["plane"]["workers"], 1, "{status}");
        assert!(ng.offer("new", phone_at(4010)).is_err());
        control
    });
    caller.heard_all(0xb, 1, callee.sent());
    callee.heard_all(0xa, 1, caller.sent());

    let mut drain = lab.penstock_start(&["drain", "--wait", "--timeout", "60"]);
    let waits = wait_for(Duration::from_secs(20), || {
        drain.log().ends_with("\n1 call is left\n")
    });
    assert!(waits, "{}", drain.log());
    let ended = drain.ended(Duration::from_secs(1));
    assert!(ended.is_none(), "a call is left: {}", drain.log());
    assert_eq!(ng.delete("stands")["result"], "ok");
    let ended = drain.ended(Duration::from_secs(20));
    let code = ended.and_then(|status| status.code());
    assert_eq!(code, Some(0), "{}", drain.log());
    assert!(
        drain.log().ends_with("no call is left\n"),
        "{}",
        drain.log()
    );
    let (code, _, err) = lab.penstock(&["drain", "--end"]);
    assert_eq!(code, Some(0), "{err}");
    ng.call("new", phone_at(4010), phone_at(5010));
}
