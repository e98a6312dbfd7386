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
    let pending = calls.end(calls.get("two").unwrap().key).unwrap();
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

/// Two calls that became one, and a leg of the second Call-ID by then that has the tag of one of the first.
fn with_equal_tags() -> Calls {
    let mut calls = two();
    connect(&mut calls, ("one", "a"), ("two", "y"), 2.0);
    talk(&mut calls, "two", ["a", "c"], 8000);
    calls
}

/// The dialogs of a Call-ID.
fn dialogs<'a>(calls: &'a Calls, id: &'a str) -> impl Iterator<Item = &'a Dialog> {
    let call = calls.get(id).unwrap();
    let own = call.dialogs.iter();
    own.filter(move |dialog| call.id_of(dialog) == id)
}

fn tag(tag: &str) -> Selector<'_> {
    Selector {
        tag: Some(tag),
        ..Selector::default()
    }
}

/// Call-ID and tag of the legs whose media is held back, after this was asked for in the call of equal tags.
fn held_back(id: &str, from: Selector<'_>) -> Vec<String> {
    let mut calls = with_equal_tags();
    let hold = Hold {
        what: HeldBack::Media,
        on: true,
        flows: Flows::Dialog,
        label: Some("l"),
    };
    let held = calls.hold_back(id, (from, Selector::default()), hold, now(3.0));
    commit(&mut calls, held.unwrap(), 3.0);
    let call = calls.get("one").unwrap();
    let all = call.dialogs.iter().flat_map(|d| [(d, 0), (d, 1)]);
    let held = all.filter(|(dialog, side)| dialog.legs[*side].blocked.media);
    held.map(|(dialog, side)| format!("{} {}", call.id_of(dialog), dialog.legs[side].tags[0]))
        .collect()
}

#[test]
fn a_tag_is_that_of_the_call_id_it_comes_with() {
    assert_eq!(held_back("one", tag("a")), ["one a"]);
    assert_eq!(held_back("two", tag("a")), ["two a"]);
    // A tag that none of its own has is that of the other's, as in rtpengine.
    assert_eq!(held_back("two", tag("b")), ["one b"]);
    assert_eq!(held_back("one", tag("c")), ["two c"]);
    // Without one all who talk in its calls are meant.
    let all = Selector::default();
    assert_eq!(held_back("one", all), ["one a", "one b", "two y"]);
    let own = ["one a", "two x", "two y", "two a", "two c"];
    assert_eq!(held_back("two", all), own);

    let mut calls = with_equal_tags();
    connect(&mut calls, ("two", "a"), ("two", "x"), 3.0);
    let own = dialogs(&calls, "two").last().unwrap();
    let partner = |dialog, side| {
        let partner = calls.get("one").unwrap().partner(dialog, side);
        partner.map(|(other, far)| other.legs[far].tags[0].as_str())
    };
    assert_eq!(partner(own, 0), Some("x"));
    let theirs = dialogs(&calls, "one").next().unwrap();
    assert_eq!(partner(theirs, 0), Some("y"));

    // So do an offer, an answer and a delete, even if who was connected has the tags as well.
    let mut calls = with_equal_tags();
    assert!(!delete(&mut calls, "two", Some("a"), Some("y"), 4.0));
    talk(&mut calls, "two", ["a", "y"], 4200);
    let tags = |calls: &Calls, id| {
        let legs = dialogs(calls, id).flat_map(|dialog| &dialog.legs);
        legs.map(|leg| leg.tags.join(" ")).collect::<Vec<_>>()
    };
    assert_eq!(tags(&calls, "two"), ["x", "y", "a", "c y"]);
    assert!(delete(&mut calls, "two", Some("a"), Some("y"), 4.0));
    assert_eq!(
        [tags(&calls, "one"), tags(&calls, "two")],
        [["a", "b"], ["x", "y"]]
    );
    assert!(delete(&mut calls, "two", Some("a"), Some("y"), 5.0));
    assert!(calls.is_empty(), "two has no a of its own any more");
}

/// A label is a name among the legs of a Call-ID.
#[test]
fn a_label_stays_with_the_legs_of_the_other_call_id() {
    let mut calls = with_equal_tags();
    let hold = Hold {
        what: HeldBack::Dtmf,
        on: true,
        flows: Flows::Dialog,
        label: Some("l"),
    };
    let give = |calls: &mut Calls, id, who| {
        let held = calls.hold_back(id, (tag(who), Selector::default()), hold, now(3.0));
        commit(calls, held.unwrap(), 3.0);
    };
    for (id, who) in [("one", "a"), ("two", "a"), ("two", "c")] {
        give(&mut calls, id, who);
    }
    let labels = |calls: &Calls| {
        ["one", "two"].map(|id| {
            let legs = dialogs(calls, id).flat_map(|dialog| &dialog.legs);
            let labelled = legs.filter(|leg| leg.label.is_some());
            labelled.map(|leg| leg.tags[0].clone()).collect::<Vec<_>>()
        })
    };
    assert_eq!(labels(&calls), [["a"], ["c"]]);
    // Given to a leg of the other, it is that leg's alone there as well.
    give(&mut calls, "two", "b");
    assert_eq!(labels(&calls), [vec!["b".to_owned()], vec![]]);
}

/// Both users have a recorder that they call the same.
#[test]
fn a_subscription_is_that_of_its_call_id() {
    let mut calls = with_equal_tags();
    let none = Options::default();
    let all = [Selector::default()];
    let subscribe = |calls: &mut Calls, id: &str, s| {
        let (pending, told) = calls.subscribe(id, &all, "rec", &none, now(s)).unwrap();
        (commit(calls, pending, s), told.from_tags)
    };
    let (body, from) = subscribe(&mut calls, "one", 3.0);
    assert_eq!(from, ["a", "b", "y"]);
    let (_, from) = subscribe(&mut calls, "two", 3.0);
    assert_eq!(from, ["a", "x", "y", "a", "c"]);
    let answer = body.replace("sendonly", "recvonly");
    let answered = calls.subscribe_answer("one", "rec", answer.as_bytes(), &none, now(4.0));
    commit(&mut calls, answered.unwrap(), 4.0);
    let forks = |calls: &Calls| {
        let forks = calls.get("two").unwrap().forks.iter();
        let said = forks.map(|fork| (fork.medias.len(), fork.leg.signal));
        said.collect::<Vec<_>>()
    };
    assert_eq!(forks(&calls), [(3, 1), (5, 0)]);

    // Who is recorded by both is blocked towards the one alone.
    let hold = Hold {
        what: HeldBack::Media,
        on: true,
        flows: Flows::Dialog,
        label: None,
    };
    let blocked = |calls: &Calls| {
        let forks = calls.get("two").unwrap().forks.iter();
        let count = |fork: &Fork| fork.medias.iter().filter(|m| m.blocked.media).count();
        forks.map(count).collect::<Vec<_>>()
    };
    let held = calls.hold_back("two", (tag("y"), tag("rec")), hold, now(4.0));
    commit(&mut calls, held.unwrap(), 4.0);
    assert_eq!(blocked(&calls), [0, 1]);
    let copies = Hold {
        flows: Flows::Forks,
        ..hold
    };
    let all = Selector::default();
    let held = calls.hold_back("one", (all, all), copies, now(4.0));
    commit(&mut calls, held.unwrap(), 4.0);
    assert_eq!(blocked(&calls), [3, 1]);

    // Again it replaces its own alone, and each ends its own, the first one with a delete.
    subscribe(&mut calls, "two", 4.0);
    assert_eq!(forks(&calls), [(3, 1), (5, 0)]);
    let gone = calls.unsubscribe("two", "rec").unwrap();
    commit(&mut calls, gone, 5.0);
    assert_eq!(forks(&calls), [(3, 1)]);
    // Once more it is nobody's: the other's goes on, and goes where it went.
    let again = calls.unsubscribe("two", "rec");
    assert_eq!(again.unwrap_err(), MediaError::NoLeg);
    let answered = calls.subscribe_answer("two", "rec", answer.as_bytes(), &none, now(5.0));
    assert_eq!(answered.unwrap_err(), MediaError::NoLeg);
    assert!(!delete(&mut calls, "two", Some("rec"), None, 5.0));
    assert!(delete(&mut calls, "one", Some("rec"), None, 5.0));
    assert!(calls.get("one").unwrap().forks.is_empty());

    // With the last dialog of its Call-ID it ends, whatever it is a copy of.
    subscribe(&mut calls, "two", 8.0);
    subscribe(&mut calls, "one", 8.0);
    assert!(delete(&mut calls, "one", None, None, 8.0));
    assert_eq!(forks(&calls), [(4, 0)]);
    assert!(calls.unsubscribe("two", "rec").is_ok());
}

/// The first name is given up as any other is: the call goes by the next one, and the first is that of a new call.
#[test]
fn a_call_outlives_its_first_name() {
    let mut calls = with_equal_tags();
    let key = calls.get("one").unwrap().key;
    let streams = |calls: &Calls| calls.by_key(key).unwrap().desired();
    let before = streams(&calls);
    let none = Options::default();
    let (pending, _) = calls
        .subscribe("two", &[tag("x")], "s", &none, now(2.0))
        .unwrap();
    commit(&mut calls, pending, 2.0);
    let body = sdp("10.0.0.7", 7000, "");
    let pending = calls.delete("one", (None, None), None, Duration::ZERO, now(3.0));
    let pending = pending.unwrap();
    assert_eq!((pending.gone(), &*pending.call_id), (Some("one"), "two"));
    commit(&mut calls, pending, 3.0);
    assert!(calls.get("one").is_none());
    let call = calls.get("two").unwrap();
    assert_eq!((call.key, &*call.id, call.merged.len()), (key, "two", 0));
    assert_eq!(call.created_us_of("two"), call.created_us);
    let own = |id: &Option<String>| id.is_none();
    assert!(call.dialogs.iter().all(|dialog| own(&dialog.call_id)));
    assert!(call.forks.iter().all(|fork| own(&fork.call_id)));
    let still = streams(&calls);
    let stood = before.iter().filter(|(at, _)| still.contains_key(at));
    assert_eq!(stood.count(), 8);
    assert_eq!(still.len(), 8 + 2, "and the copies");

    // A new call has the name, whatever the tags.
    offer(&mut calls, parties("one", "b", None), &body, &none, 4.0).unwrap();
    assert_eq!(calls.len(), 2);
    assert_ne!(calls.get("one").unwrap().key, key);
    let stored: Vec<Call> = calls.iter().cloned().collect();
    let mut restarted = common::calls(20);
    let outcome = restarted.restore(stored);
    assert!(outcome.iter().all(|(_, outcome)| *outcome == Restore::Done));
    assert_eq!(restarted.get("two"), calls.get("two"));
    // And the two can become one again, the other way round.
    connect(&mut calls, ("two", "y"), ("one", "b"), 5.0);
    assert_eq!(
        calls.get("one").unwrap().ids().collect::<Vec<_>>(),
        ["two", "one"]
    );
    assert!(
        delete(&mut calls, "one", None, None, 6.0) && delete(&mut calls, "two", None, None, 6.0)
    );
    assert!(calls.is_empty() && calls.ports().all(|(_, used, _)| used == 0));
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
