//! Calls that became one: their names and tags, and how they end.

mod common;
use common::two::*;
use common::*;
use penstock_media::*;
use std::time::Duration;

#[test]
fn two_calls_become_one_that_goes_by_both_names() {
    let mut calls = two();
    let [one, two] = ["one", "two"].map(|id| calls.get(id).unwrap().clone());
    let first = calls.connect(("one", "a"), ("two", "y"), now(2.0)).unwrap();
    // Nothing of the second call's begins anew: it is moved first.
    let (moved, put) = first.ops.split_at(4);
    let mut theirs = two.desired().into_keys();
    for op in moved {
        let Op::Move { local, from } = *op else {
            panic!("{op:?}")
        };
        assert_eq!((Some(local), from), (theirs.next(), two.key));
    }
    assert!(put.iter().all(|op| matches!(op, Op::Put(_))));
    calls.commit(first, now(2.0));
    assert_eq!(who_hears_whom(&calls), [some("y"), None, None, some("a")]);
    assert_eq!(calls.len(), 1);
    let call = calls.get("two").unwrap().clone();
    assert_eq!((call.key, call.id.as_str()), (one.key, "one"));
    assert_eq!(call.ids().collect::<Vec<_>>(), ["one", "two"]);
    assert_eq!(calls.get("one"), Some(&call));
    assert!(calls.by_key(two.key).is_none());
    let signals = |call: &Call| {
        let streams = call.desired().into_values();
        streams
            .map(|s| (s.local, s.signal, s.remote))
            .collect::<Vec<_>>()
    };
    let mut before = [signals(&one), signals(&two)].concat();
    before.sort();
    assert_eq!(signals(&call), before);

    // Signalling finds it by either name, and another dialog is of the name it came with.
    talk(&mut calls, "two", ["p", "q"], 8000);
    let (call, dialog, _) = leg(&calls, "p");
    assert_eq!((call.key, call.id_of(dialog)), (one.key, "two"));
    let stored = calls.iter().cloned().collect::<Vec<_>>();
    let mut restarted = common::calls(20);
    assert_eq!(
        restarted.restore(stored.clone()),
        [("one".into(), Restore::Done)]
    );
    assert_eq!(restarted.get("two"), calls.get("one"));
    let theirs = Call {
        id: "two".into(),
        key: 1,
        merged: Vec::new(),
        dialogs: Vec::new(),
        ..stored[0].clone()
    };
    assert_eq!(restarted.restore([theirs])[0].1, Restore::Clash);
}

#[test]
fn either_name_ends_what_belongs_to_it() {
    let mut calls = two();
    connect(&mut calls, ("one", "a"), ("two", "y"), 2.0);
    assert!(!delete(&mut calls, "two", Some("x"), Some("b"), 3.0));
    assert!(delete(&mut calls, "two", Some("x"), Some("y"), 3.0));
    assert_eq!(hears(&calls, "a"), None, "it does not hear b again");
    assert_eq!(hears(&calls, "b"), None);
    assert_eq!(calls.len(), 1);
    assert!(!delete(&mut calls, "two", None, None, 3.5));
    // Without a dialog it is a name no more, and another call may have it.
    assert!(calls.get("two").is_none() && calls.get("one").unwrap().merged.is_empty());
    talk(&mut calls, "two", ["x", "y"], 6000);
    assert_eq!(calls.len(), 2);
    assert!(delete(&mut calls, "two", None, None, 3.8));
    assert!(delete(&mut calls, "one", Some("a"), None, 4.0));
    assert!(calls.is_empty() && calls.get("two").is_none());
    assert!(calls.ports().all(|(_, used, _)| used == 0));

    // The first may end first; the names are free again once both have.
    let mut calls = two();
    connect(&mut calls, ("one", "a"), ("two", "y"), 2.0);
    assert!(delete(&mut calls, "one", None, None, 3.0));
    assert_eq!(hears(&calls, "y"), None);
    assert!(delete(&mut calls, "two", None, None, 4.0));
    talk(&mut calls, "two", ["x", "y"], 6000);
    assert_eq!(calls.get("two").unwrap().id, "two");

    // Those who hear each other may be named instead, and either name will do.
    let mut calls = two();
    connect(&mut calls, ("one", "a"), ("two", "y"), 2.0);
    assert!(!delete(&mut calls, "one", Some("b"), Some("x"), 3.0));
    assert!(delete(&mut calls, "one", Some("y"), Some("a"), 3.0));
    assert!(calls.is_empty());

    // What ends as a whole ends under both.
    let mut calls = two();
    connect(&mut calls, ("one", "a"), ("two", "y"), 2.0);
    let pending = calls.end("two").unwrap();
    assert_eq!((pending.after(), pending.ops.len()), (None, 8));
    calls.commit(pending, now(3.0));
    assert!(calls.is_empty() && calls.get("two").is_none());
}

/// What could not be applied leaves two calls, in the plane as well.
#[test]
fn a_merge_is_taken_back() {
    let mut calls = two();
    let [one, two] = ["one", "two"].map(|id| calls.get(id).unwrap().clone());
    let pending = calls.connect(("one", "a"), ("two", "y"), now(2.0)).unwrap();
    let undo = pending.undo();
    calls.rollback(pending, now(2.0));
    assert_eq!(calls.get("one"), Some(&one));
    assert_eq!(calls.get("two"), Some(&two));
    let keys: Vec<u64> = undo.iter().map(|(key, _)| *key).collect();
    assert_eq!(keys, [two.key, one.key]);
    let moved = undo[0].1.iter().filter(|op| matches!(op, Op::Move { .. }));
    assert_eq!(moved.count(), 4);
    let theirs = two.desired();
    let puts = undo[0].1.iter().filter_map(|op| match op {
        Op::Put(stream) => Some(*stream),
        _ => None,
    });
    assert!(puts.eq(theirs.into_values()));
}

/// Tags are the names of one Call-ID's legs: another call's legs are not meant by them, nor given other tags.
#[test]
fn tags_are_sought_in_their_own_call() {
    let none = Options::default();
    let mut calls = two();
    connect(&mut calls, ("one", "a"), ("two", "y"), 2.0);
    // Those of the other call mean nobody.
    assert!(!delete(&mut calls, "two", Some("a"), None, 3.0));
    assert!(!delete(&mut calls, "two", Some("a"), Some("b"), 3.0));
    let body = sdp("10.0.0.7", 7000, "");
    let p = || parties("two", "b", Some("a"));
    let refused = answer(&mut calls, p(), &body, &none, 3.0);
    assert_eq!(refused, Err(MediaError::UnknownTag));
    let before = calls.get("one").unwrap().dialogs.clone();
    offer(&mut calls, p(), &body, &none, 3.0).unwrap();
    let call = calls.get("one").unwrap();
    assert_eq!(call.dialogs[..2], before);
    assert_eq!(call.id_of(&call.dialogs[2]), "two");

    // Of two that were connected that of the from-tag is meant, whichever name is used, and keeps its own tags.
    for id in ["one", "two"] {
        let mut calls = two();
        connect(&mut calls, ("one", "a"), ("two", "y"), 2.0);
        let tags = |calls: &Calls| {
            let legs = calls.get("one").unwrap().legs();
            legs.map(|leg| leg.tags.clone()).collect::<Vec<_>>()
        };
        let before = tags(&calls);
        let moved = sdp("10.0.0.1", 4002, "a=sendonly\r\n");
        offer(&mut calls, parties(id, "a", Some("y")), &moved, &none, 3.0).unwrap();
        assert_eq!(tags(&calls), before);
        assert_eq!(stream(&calls, "a").remote.unwrap().port(), 4002);
        assert_eq!(hears(&calls, "a"), some("y"));
        let p = parties(id, "a", Some("y"));
        answer(&mut calls, p, &body, &none, 4.0).unwrap();
        assert_eq!(tags(&calls), before);
        assert_eq!(hears(&calls, "a"), some("b"), "it is where b was");
    }
    // So it is within one call.
    let mut calls = common::calls(20);
    talk(&mut calls, "c", ["a", "b"], 4000);
    talk(&mut calls, "c", ["x", "y"], 6000);
    connect(&mut calls, ("c", "b"), ("c", "y"), 2.0);
    offer(&mut calls, parties("c", "b", Some("y")), &body, &none, 3.0).unwrap();
    assert_eq!(leg(&calls, "a").1.legs[0].tags, ["a"]);
    assert_eq!(stream(&calls, "b").remote.unwrap().port(), 7000);
}

/// As other signalling does: it is wanted again.
#[test]
fn a_connect_takes_back_a_delayed_delete() {
    let mut calls = two();
    for id in ["one", "two"] {
        let delay = Duration::from_secs(5);
        let pending = calls.delete(id, (None, None), None, delay, now(2.0));
        commit(&mut calls, pending.unwrap(), 2.0);
    }
    connect(&mut calls, ("one", "a"), ("two", "y"), 3.0);
    let key = calls.get("one").unwrap().key;
    assert!(calls.expire(key, now(9.0)).is_none());
}
