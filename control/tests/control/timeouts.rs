//! Calls whose media does not flow end by themselves, with their ports and streams.

use crate::common::*;
use std::time::Duration;

/// With these `[timeouts]`.
fn running(timeouts: &str) -> (World, TestPlane) {
    let mut world = World::new(64);
    world.append(&format!("[timeouts]\n{timeouts}\n"));
    let plane = world.plane();
    world.start();
    world.wait_state("online");
    (world, plane)
}

/// An answered call: the endpoints facing its legs.
fn call(world: &World, id: &str) -> [u16; 2] {
    let facing_b = port_of(&world.offer(id, 4000));
    [port_of(&world.answer(id, 5000)), facing_b]
}

#[test]
fn a_call_without_media_ends_and_one_with_media_stays() {
    let (world, plane) = running("start_s = 3\nsilence_s = 3\none_way_s = 0");
    let talks = call(&world, "talks");
    let ceases = call(&world, "ceases");
    call(&world, "never");
    world.offer("rings", 4000);
    for port in ceases {
        plane.feed(port, 5);
    }
    let mut fed = 0;
    world.until("the dead calls' end", || {
        fed += 1;
        plane.feed(talks[fed % 2], 1);
        world.list().len() == 2
    });
    assert_eq!(world.list(), ["rings", "talks"]);
    assert_eq!(plane.streams().len(), 8);
    let stats = world.stats();
    assert_eq!(stats["ageing"]["no-start"], 1, "{stats}");
    assert_eq!(stats["ageing"]["silence"], 1, "{stats}");
    assert_eq!(stats["ports"]["default"]["used"], 4);
    let log = world.log_text();
    for (id, reason) in [("never", "no media came"), ("ceases", "media ceased")] {
        let lines = log.lines().filter(|line| line.contains(reason));
        let lines: Vec<_> = lines.collect();
        assert_eq!(lines.len(), 1, "{log}");
        assert!(lines[0].contains(&format!("call=\"{id}\"")), "{log}");
    }
    // What ended is gone from the store as well.
    let mut world = world;
    world.sigkill();
    world.start();
    assert_eq!(world.list(), ["rings", "talks"]);
}

#[test]
fn one_way_media_is_shown_and_ends_the_call_only_on_request() {
    let (mut world, plane) = running("start_s = 0\none_way_s = 2");
    let ports = call(&world, "half");
    let shown = |world: &World| {
        let out = world.cli(&["calls"]).stdout;
        String::from_utf8(out).unwrap().contains("one-way")
    };
    world.until("it is seen", || {
        plane.feed(ports[0], 1);
        world.stats()["one_way"] == 1
    });
    assert!(shown(&world));
    assert_eq!(world.stats()["ageing"]["one-way-seen"], 1);
    world.until("it is well again", || {
        plane.feed(ports[0], 1);
        plane.feed(ports[1], 1);
        world.stats()["one_way"] == 0
    });
    assert!(!shown(&world));
    assert_eq!(world.list(), ["half"]);

    assert!(world.stop());
    world.edit("one_way_s = 2", "one_way_s = 2\none_way_ends = true");
    world.start();
    world.wait_state("online");
    world.until("its end", || {
        plane.try_feed(ports[0], 1);
        world.list().is_empty()
    });
    assert_eq!(world.stats()["ageing"]["one-way"], 1);
    assert!(plane.streams().is_empty());
}

#[test]
fn a_plane_that_stood_still_ends_no_call() {
    let (world, plane) = running("start_s = 3\nsilence_s = 3\none_way_s = 0");
    let ports = call(&world, "call");
    let feed = || ports.map(|port| plane.feed(port, 1));
    feed();
    plane.freeze(true);
    world.wait_state("plane stands still");
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(world.list(), ["call"]);
    plane.freeze(false);
    world.wait_state("online");
    for _ in 0..20 {
        std::thread::sleep(Duration::from_millis(100));
        feed();
    }
    assert_eq!(world.list(), ["call"]);
    world.until("its end", || world.list().is_empty());
}

#[test]
fn no_call_lasts_longer_than_it_may() {
    let (world, plane) = running("final_s = 3");
    let ports = call(&world, "call");
    world.until("its end", || {
        plane.try_feed(ports[0], 1);
        plane.try_feed(ports[1], 1);
        std::thread::sleep(Duration::from_millis(50));
        world.list().is_empty()
    });
    assert_eq!(world.stats()["ageing"]["final"], 1);
}
