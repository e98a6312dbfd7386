//! The plane says where its addresses are: at the start, and when a link comes up.

use penstock_e2e::{Lab, PLANE, lab, wait_for};
use std::time::Duration;

/// Whether the kernel, which asks nobody here, has heard where the plane is.
fn is_known(lab: &Lab) -> bool {
    let (_, out, _) = lab.run("ip", &["neigh", "show", PLANE]);
    out.contains("lladdr 02:70:73:00:00:01")
}

#[test]
fn a_neighbour_hears_of_the_plane_without_asking() {
    let lab = lab!("announce");
    let _plane = lab.plane();
    // Who is announced gets an entry, asked for or not.
    lab.run("sysctl", &["-qw", "net/ipv4/conf/ps0/arp_accept=1"]);
    let heard = || wait_for(Duration::from_secs(20), || is_known(&lab));
    assert!(heard(), "not at the start");

    // The three of the start are over; then a switch restarts.
    std::thread::sleep(Duration::from_secs(4));
    lab.ip("neigh flush dev ps0");
    assert!(
        !wait_for(Duration::from_secs(2), || is_known(&lab)),
        "still announced"
    );
    lab.ip("link set ps0 down");
    std::thread::sleep(Duration::from_millis(2500));
    lab.ip("link set ps0 up");
    assert!(heard(), "not when the link came up");
}
