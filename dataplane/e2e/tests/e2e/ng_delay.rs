//! A delete with a delay: media goes on until then, and everything is there again afterwards.

use penstock_e2e::region::live;
use penstock_e2e::{Lab, Ng, Phone, Sides, exchange, lab, meanwhile, meet, phone_at, wait_for};
use penstock_shm::TableView;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const DELAY: Duration = Duration::from_secs(3);
const LONG: Duration = Duration::from_secs(40);
/// Far less than the time between two looks at all calls.
const SOON: Duration = Duration::from_secs(8);

fn delete(ng: &Ng, delay: Duration) -> Value {
    ng.done(&json!({"command": "delete", "call-id": "c", "from-tag": "a", "delete-delay": delay.as_secs()}))
}

struct Call {
    a: Phone,
    b: Phone,
    sides: Sides,
}

impl Call {
    fn new(lab: &Lab, ng: &Ng) -> Call {
        let (mut a, mut b) = (
            Phone::new(lab, phone_at(4000), 0xa),
            Phone::new(lab, phone_at(5000), 0xb),
        );
        let sides = ng.call("c", a.at(), b.at());
        meet(&mut a, sides.caller, &mut b, sides.callee);
        Call { a, b, sides }
    }

    fn exchange(&mut self) {
        exchange(
            &mut self.a,
            self.sides.caller,
            &mut self.b,
            self.sides.callee,
        );
    }

    fn heard_all(&mut self) {
        let [a, b] = [self.a.sent(), self.b.sent()];
        self.a.heard_all(0xb, 1, b);
        self.b.heard_all(0xa, 1, a);
    }
}

/// The call is over: no stream, no port.
fn over(lab: &Lab, ng: &Ng, table: &TableView, limit: Duration) {
    let is_over = wait_for(limit, || live(table).is_empty() && ng.list().is_empty());
    assert!(is_over, "{:?}", live(table));
    let status = lab.penstock_json("status");
    assert_eq!(status["control"]["ports"]["default"]["used"], 0, "{status}");
}

#[test]
fn media_goes_on_until_then() {
    let lab = lab!("ng_delay");
    let _plane = lab.plane();
    let _control = lab.control();
    let (ng, table) = (lab.ng(), lab.table());
    let mut call = Call::new(&lab, &ng);
    let start = Instant::now();
    let reply = delete(&ng, DELAY);
    assert_eq!(reply["totals"]["RTP"]["packets"], 2, "{reply}");
    while start.elapsed() < DELAY.mul_f32(0.8) {
        call.exchange();
    }
    call.heard_all();
    over(&lab, &ng, &table, LONG);
    assert!(start.elapsed() >= DELAY);
    // Nothing of it is left to be deleted.
    let again = ng.delete("c");
    assert!(again["warning"].is_string(), "{again}");
}

/// Whatever is said of the call takes that back; a delete without a delay ends it at once.
#[test]
fn signalling_takes_it_back() {
    let lab = lab!("ng_delay_back");
    let _plane = lab.plane();
    let _control = lab.control();
    let (ng, table) = (lab.ng(), lab.table());
    let mut call = Call::new(&lab, &ng);
    let start = Instant::now();
    delete(&ng, DELAY);
    let [a, b] = [call.a.at(), call.b.at()];
    let sides = call.sides;
    meanwhile(
        || call.exchange(),
        || {
            assert_eq!(ng.call("c", a, b), sides, "other ports");
            while start.elapsed() < DELAY + Duration::from_secs(2) {
                std::thread::sleep(Duration::from_millis(50));
            }
        },
    );
    call.heard_all();
    assert_eq!((ng.list().len(), live(&table).len()), (1, 4));
    delete(&ng, LONG * 100);
    delete(&ng, Duration::ZERO);
    over(&lab, &ng, &table, Duration::ZERO);
}

/// Control dies, and is there again before the delay is over, or after.
#[test]
fn another_control_ends_it() {
    let lab = lab!("ng_delay_killed");
    let _plane = lab.plane();
    let mut control = lab.control();
    let table = lab.table();
    for away in [Duration::ZERO, DELAY + Duration::from_secs(1)] {
        let ng = lab.ng();
        let mut call = Call::new(&lab, &ng);
        let start = Instant::now();
        delete(&ng, DELAY);
        control.kill();
        while start.elapsed() < away {
            call.exchange();
        }
        control = lab.control();
        if away.is_zero() {
            while start.elapsed() < DELAY.mul_f32(0.7) {
                call.exchange();
            }
        }
        call.heard_all();
        let rest = DELAY.saturating_sub(start.elapsed());
        over(&lab, &ng, &table, rest + SOON);
        assert!(start.elapsed() >= DELAY);
    }
}
