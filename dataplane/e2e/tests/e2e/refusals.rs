//! What is refused: configurations that cannot be, a second of either daemon, a region of another
//! version, more calls than there are ports. Each with a sentence, and with nothing left behind.

use penstock_e2e::region::{live, stream};
use penstock_e2e::{Daemon, Lab, PLANE, Phone, Setup, converse, lab, phone_at, wait_for};
use std::fs;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(20);

/// The daemon ends by itself, not successfully, and says why.
fn refuses(mut daemon: Daemon, words: &[&str]) {
    let status = daemon
        .ended(SOON)
        .unwrap_or_else(|| panic!("it runs:\n{}", daemon.log()));
    let log = daemon.log();
    assert!(
        status.code().is_some_and(|code| code != 0),
        "{status}\n{log}"
    );
    for word in words {
        assert!(log.contains(word), "no \"{word}\" in\n{log}");
    }
    assert!(!log.contains("panicked"), "{log}");
}

#[test]
fn a_wrong_configuration() {
    let lab = lab!("wrong_configuration");
    let good = fs::read_to_string(lab.config()).expect("the configuration");
    let (code, out, err) = lab.penstock(&["check", &lab.config().to_string_lossy()]);
    assert_eq!(code, Some(0), "{out}{err}");

    let twice = format!("[[port.address]]\naddress = \"{PLANE}/24\"\n");
    let file = lab.config().to_string_lossy().into_owned();
    let wrong: [(String, &[&str]); 5] = [
        (
            good.replace("[plane]\n", "[plane]\nspeed = 9\n"),
            &["speed", "unknown"],
        ),
        (
            good.replace(
                &format!("address = \"{PLANE}\"\n"),
                "address = \"203.0.113.9\"\n",
            ),
            &["203.0.113.9", "default"],
        ),
        (format!("{good}{twice}"), &[PLANE, "twice"]),
        (good.replace("cores = [1]", "cores = \"all\""), &["cores"]),
        (
            good.split("[[port]]").next().expect("a part").to_owned(),
            &["[[port]]"],
        ),
    ];
    for (text, words) in wrong {
        assert_ne!(text, good);
        fs::write(lab.config(), text).expect("the configuration");
        let words = [words, &[&file]].concat();
        for program in ["penstock-dataplane", "penstock-control"] {
            refuses(lab.start(program), &words);
        }
        let (code, out, err) = lab.penstock(&["check", &file]);
        assert!(code.is_some_and(|code| code != 0), "{out}{err}");
        for word in words {
            assert!(
                err.contains(word) || out.contains(word),
                "no \"{word}\" in\n{out}{err}"
            );
        }
    }
    assert!(!lab.region().exists(), "a refused plane made a region");
}

#[test]
fn a_second_of_either() {
    let lab = lab!("second");
    let _plane = lab.plane();
    let _control = lab.control();
    let ng = lab.ng();
    let mut caller = Phone::new(&lab, phone_at(4000), 0xa);
    let mut callee = Phone::new(&lab, phone_at(5000), 0xb);
    let sides = ng.call("first", caller.at(), callee.at());

    // Everything of its own but the region.
    lab.edit("127.0.0.1:2223", "127.0.0.1:2224");
    lab.edit("control.sock", "second.sock");
    lab.edit("-calls.journal", "-second.journal");
    refuses(lab.start("penstock-control"), &["another penstock-control"]);
    lab.edit("net_tap0,iface=ps0,persist", "net_null0");
    refuses(
        lab.start("penstock-dataplane"),
        &["another penstock-dataplane"],
    );
    let _ = fs::remove_file(format!("{}-second.journal", lab.region().display()));

    converse(&mut caller, sides.caller, &mut callee, sides.callee, 50);
    caller.heard_all(0xb, 1, 50);
    callee.heard_all(0xa, 1, 50);
    assert_eq!(ng.list(), ["first"]);
}

#[test]
fn calls_before_there_is_a_plane() {
    let lab = lab!("too_early");
    let _control = lab.control();
    let ng = lab.ng();
    let refused = ng
        .offer("early", phone_at(4000))
        .expect_err("nobody would relay it");
    assert!(refused.contains("plane"), "{refused}");
    assert_eq!(ng.list(), Vec::<String>::new());
    let (code, out, err) = lab.penstock(&["streams"]);
    assert!(
        code.is_some_and(|code| code != 0) && err.contains("no region"),
        "{out}{err}"
    );

    let _plane = lab.plane();
    let mut caller = Phone::new(&lab, phone_at(4000), 0xa);
    let mut callee = Phone::new(&lab, phone_at(5000), 0xb);
    assert!(
        wait_for(SOON, || ng.offer("late", caller.at()).is_ok()),
        "control does not find the plane"
    );
    let sides = ng.call("late", caller.at(), callee.at());
    converse(&mut caller, sides.caller, &mut callee, sides.callee, 50);
    caller.heard_all(0xb, 1, 50);
    callee.heard_all(0xa, 1, 50);
}

/// Offset of the version in either file: behind magic, layout, generation and length.
const ABI_AT: usize = 32;

fn change_version(lab: &Lab) {
    for name in ["rings", "table"] {
        let path = lab.region().join(name);
        let mut file = fs::read(&path).expect("the region's file");
        assert!(
            matches!(file[ABI_AT..ABI_AT + 4], [1..99, 0, 0, 0]),
            "{name}: no version there"
        );
        file[ABI_AT] = 99;
        fs::write(&path, file).expect("the region's file");
    }
}

#[test]
fn a_region_of_another_version_is_set_aside_and_refilled() {
    let lab = lab!("version");
    let mut plane = lab.plane();
    let mut control = lab.control();
    let mut caller = Phone::new(&lab, phone_at(4000), 0xa);
    let mut callee = Phone::new(&lab, phone_at(5000), 0xb);
    let sides = lab.ng().call("lasting", caller.at(), callee.at());
    converse(&mut caller, sides.caller, &mut callee, sides.callee, 50);
    caller.heard_all(0xb, 1, 50);
    let generation = lab.table().info().generation;
    for daemon in [&mut plane, &mut control] {
        daemon.stop_well();
    }
    change_version(&lab);
    // Control alone cannot help: it says so, and the plane's word is what counts.
    let (code, out, err) = lab.penstock(&["streams"]);
    assert!(code.is_some_and(|code| code != 0), "{out}{err}");

    let _plane = lab.plane();
    for name in ["rings.aside", "table.aside"] {
        assert!(lab.region().join(name).exists(), "no {name}");
    }
    let table = lab.table();
    assert_ne!(table.info().generation, generation);
    assert_eq!(live(&table), []);
    let _control = lab.control();
    assert!(
        wait_for(SOON, || live(&table).len() == 4),
        "not refilled: {:?}",
        live(&table)
    );
    caller.forget();
    converse(&mut caller, sides.caller, &mut callee, sides.callee, 50);
    caller.heard_all(0xb, 51, 100);
    callee.heard_all(0xa, 1, 100);
    let meter = stream(&table, sides.caller).expect("the stream").meter;
    assert_eq!(meter.packets, 50, "meters start anew");
    assert_eq!(lab.ng().delete("lasting")["result"], "ok");
    assert_eq!(live(&table), []);
}

#[test]
fn a_new_region_is_refilled_by_a_control_that_lives_on() {
    let lab = lab!("refill");
    let mut plane = lab.plane();
    let _control = lab.control();
    let mut caller = Phone::new(&lab, phone_at(4000), 0xa);
    let mut callee = Phone::new(&lab, phone_at(5000), 0xb);
    let sides = lab.ng().call("lasting", caller.at(), callee.at());
    plane.stop_well();
    // A table of another size is as good as another version, and what an operator does.
    lab.edit("streams = 16384", "streams = 1024");
    let _plane = lab.plane();
    assert!(
        wait_for(SOON, || live(&lab.table()).len() == 4),
        "not refilled"
    );
    converse(&mut caller, sides.caller, &mut callee, sides.callee, 50);
    caller.heard_all(0xb, 1, 50);
    callee.heard_all(0xa, 1, 50);
    assert_eq!(lab.ng().delete("lasting")["result"], "ok");
    assert_eq!(live(&lab.table()), []);
}

#[test]
fn more_calls_than_ports() {
    // Five pairs, and a call takes two.
    let lab = lab!(
        "ports",
        Setup {
            ports: "20000-20009",
            ..Setup::default()
        }
    );
    let _plane = lab.plane();
    let _control = lab.control();
    let ng = lab.ng();
    let offer = |call: &str| ng.offer(call, phone_at(4000));
    for call in ["1", "2"] {
        assert!(offer(call).is_ok());
    }
    for _ in 0..20 {
        let refused = offer("3").expect_err("five pairs, three calls");
        assert!(refused.contains("Ran out of ports"), "{refused}");
    }
    assert_eq!(live(&lab.table()).len(), 8);
    assert_eq!(ng.delete("1")["result"], "ok");
    assert_eq!(live(&lab.table()).len(), 4);
    let refused = offer("3").expect_err("its ports rest");
    assert!(refused.contains("Ran out of ports"), "{refused}");
    assert!(
        wait_for(SOON, || offer("3").is_ok()),
        "ports do not come back"
    );
    assert!(offer("4").is_err_and(|why| why.contains("Ran out of ports")));
    let mut calls = ng.list();
    calls.sort();
    assert_eq!(calls, ["2", "3"]);
    assert_eq!(live(&lab.table()).len(), 8);
}
