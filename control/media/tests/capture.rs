//! Captures: counted, on every stream of the call, and nobody else's memory.

mod common;
use common::*;
use penstock_media::*;

fn flags(ops: &[Op]) -> Vec<bool> {
    let flag = |op: &Op| match op {
        Op::Put(stream) => stream.capture,
        Op::Remove(local) | Op::Move { local, .. } => panic!("{local:?} is removed"),
    };
    ops.iter().map(flag).collect()
}

#[test]
fn the_first_capture_switches_copies_on_and_the_last_one_off() {
    let mut calls = calls(8);
    established(&mut calls);
    let key = calls.get("c").unwrap().key;
    let streams = calls.get("c").unwrap().stream_count();
    let mut change = |begins| {
        let pending = calls.capture(key, begins).unwrap();
        let flags = flags(&pending.ops);
        commit(&mut calls, pending, 2.0);
        flags
    };
    assert_eq!(change(true), vec![true; streams]);
    assert!(change(true).is_empty());
    assert!(change(false).is_empty());
    assert_eq!(change(false), vec![false; streams]);
    assert!(change(false).is_empty(), "none below none");
    assert_eq!(
        calls.capture(key + 1, true).err(),
        Some(MediaError::UnknownCall)
    );
}

#[test]
fn a_new_body_keeps_the_capture_and_its_new_streams_have_it() {
    let mut calls = calls(8);
    established(&mut calls);
    let key = calls.get("c").unwrap().key;
    let pending = calls.capture(key, true).unwrap();
    commit(&mut calls, pending, 2.0);
    let body = sdp(
        "10.0.0.1",
        4000,
        "m=video 4020 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n",
    );
    let parties = parties("c", "a", Some("b"));
    offer(&mut calls, parties, &body, &Options::default(), 3.0).unwrap();
    let desired = calls.get("c").unwrap().desired();
    assert_eq!(desired.len(), 8);
    assert!(desired.values().all(|stream| stream.capture));
}

#[test]
fn a_call_that_comes_back_from_the_store_has_no_capture() {
    let mut calls = calls(8);
    established(&mut calls);
    let call = calls.get("c").unwrap().clone();
    let pending = calls.capture(call.key, true).unwrap();
    commit(&mut calls, pending, 2.0);
    let stored = serde_json::to_string(calls.get("c").unwrap()).unwrap();
    assert_eq!(serde_json::from_str::<Call>(&stored).unwrap(), call);
}
