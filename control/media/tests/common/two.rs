//! Two calls whose legs are connected.

use super::*;

/// A call of two: `from` at this port, `to` at the hundredth after it.
pub fn talk(calls: &mut Calls, id: &str, [from, to]: [&str; 2], port: u16) {
    let body = |host, port| sdp(&format!("10.0.0.{host}"), port, "");
    let none = Options::default();
    let one = parties(id, from, None);
    offer(calls, one, &body(1, port), &none, 0.0).unwrap();
    let other = parties(id, from, Some(to));
    answer(calls, other, &body(2, port + 100), &none, 1.0).unwrap();
}

/// Two calls, of `a` and `b`, and of `x` and `y`.
pub fn two() -> Calls {
    let mut calls = calls(20);
    talk(&mut calls, "one", ["a", "b"], 4000);
    talk(&mut calls, "two", ["x", "y"], 6000);
    calls
}

/// Connects, and returns what the plane has to do for it.
pub fn connect(calls: &mut Calls, one: (&str, &str), other: (&str, &str), s: f64) -> Vec<Op> {
    let pending = calls.connect(one, other, now(s)).unwrap();
    let ops = pending.ops.clone();
    calls.commit(pending, now(s));
    ops
}

/// The dialog that has the tag, and which leg of it does.
pub fn leg<'a>(calls: &'a Calls, tag: &str) -> (&'a Call, &'a Dialog, usize) {
    let all = calls
        .iter()
        .flat_map(|c| c.dialogs.iter().map(move |d| (c, d)));
    let found = all.filter_map(|(c, d)| Some((c, d, d.legs.iter().position(|l| l.has(tag))?)));
    found.last().unwrap_or_else(|| panic!("no {tag}"))
}

/// The RTP stream of a leg's first section.
pub fn stream(calls: &Calls, tag: &str) -> Stream {
    let (call, dialog, side) = leg(calls, tag);
    call.desired()[&dialog.medias[0].locals.unwrap()[side]]
}

pub fn hears(calls: &Calls, tag: &str) -> Option<String> {
    let (call, dialog, side) = leg(calls, tag);
    let (other, far) = call.partner(dialog, side)?;
    let theirs = stream(calls, &other.legs[far].tags[0]);
    let own = stream(calls, tag);
    // In the plane it is so as well.
    assert_eq!((own.peer, theirs.peer), (theirs.local, own.local));
    Some(other.legs[far].tags[0].clone())
}

pub fn who_hears_whom(calls: &Calls) -> Vec<Option<String>> {
    let tags = ["a", "b", "x", "y"].iter();
    tags.map(|tag| hears(calls, tag)).collect()
}

pub fn some(tag: &str) -> Option<String> {
    Some(tag.to_owned())
}
