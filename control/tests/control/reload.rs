//! The configuration read again while calls stand.

use crate::common::*;

fn refused(output: &std::process::Output) -> String {
    assert_eq!(output.status.code(), Some(1));
    String::from_utf8_lossy(&output.stderr)
        .trim_end()
        .to_owned()
}

#[test]
fn pools_limits_and_timeouts_change_under_calls() {
    let (world, plane) = World::running(2);
    let held = port_of(&world.offer("call", 4000));
    world.answer("call", 5000);
    assert_eq!(reason(&world.offer("second", 4002)), "Ran out of ports");
    assert_eq!(out(&world.cli(&["reload"])), "nothing changed\n");

    world.edit("ports = \"10000-10003\"", "ports = \"10000-10007\"");
    world.append("[timeouts]\nfinal_s = 3000\n");
    let told = out(&world.cli(&["reload"]));
    assert_eq!(
        told,
        "in force for new calls: [[control.interface]], [timeouts]\n"
    );
    assert_eq!(world.offer("second", 4002)["result"], "ok");
    assert_eq!(
        world.offer("call", 4008)["result"],
        "ok",
        "and the first goes on"
    );
    assert_eq!(plane.streams().len(), 8);

    // Shrunk under a call: one sentence, and nothing at all changes.
    world.edit("ports = \"10000-10007\"", "ports = \"11000-11007\"");
    world.edit("port_rest_s = 1", "port_rest_s = 1\nmax_calls = 2");
    let told = refused(&world.cli(&["reload"]));
    assert_eq!(told.lines().count(), 1, "{told}");
    assert!(
        told.contains("interface \"default\" (198.18.0.1, ports 10000-10007) cannot be removed")
            && told.contains("call, second"),
        "{told}"
    );
    world.delete("second");
    assert!(refused(&world.cli(&["reload"])).ends_with(": call"));
    assert!(world.stats()["ports"]["default"]["used"] == 2);
    assert!(plane.streams().contains_key(&held));
    world.delete("call");
    out(&world.cli(&["reload"]));
    assert!(port_of(&world.offer("third", 4000)) >= 11_000);
    world.offer("fourth", 4000);
    assert_eq!(
        reason(&world.offer("fifth", 4000)),
        "Parallel session limit reached"
    );
}

#[test]
fn what_takes_a_restart_is_named_and_mistakes_change_nothing() {
    let (world, _plane) = World::running(8);
    world.edit("control.sock\"", "control.sock\"\ncore = 3");
    world.edit("streams = 4096", "streams = 8192");
    let told = out(&world.cli(&["reload"]));
    assert!(
        told.contains("takes a restart of penstock-control: [region], [control] core"),
        "{told}"
    );
    assert!(
        out(&world.cli(&["reload"])).contains("[region], [control] core"),
        "still so"
    );
    world.append("colour = 1\n");
    let told = world.socket(r#"{"do":"reload"}"#)["error"].to_string();
    assert!(told.contains("colour"), "{told}");
    assert_eq!(world.offer("call", 4000)["result"], "ok");
}

#[test]
fn sighup_reloads() {
    let (world, plane) = World::running(2);
    let commands = plane.commands();
    world.offer("call", 4000);
    world.edit("ports = \"10000-10003\"", "ports = \"10000-10007\"");
    world.signal(rustix::process::Signal::HUP);
    world.until("the reload", || {
        world.stats()["ports"]["default"]["all"] == 4
    });
    world.wait_state("online");
    assert_eq!(world.offer("second", 4000)["result"], "ok");
    assert_eq!(
        plane.commands(),
        commands + 2,
        "nothing was installed twice"
    );
    assert!(world.log_text().contains("configuration reloaded"));
    world.edit("ports = \"10000-10007\"", "ports = \"20000-20007\"");
    world.signal(rustix::process::Signal::HUP);
    world.until("the refusal", || {
        world.log_text().contains("nothing changed: interface")
    });
}
