//! The plane says where its addresses are: at the start, and when a link comes up.

use penstock_e2e::{Lab, PLANE, lab, wait_for};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(30);

/// Whether the kernel, which asks nobody here, has heard where the plane is.
fn is_known(lab: &Lab) -> bool {
    let (_, out, _) = lab.run("ip", &["neigh", "show", PLANE]);
    out.contains("lladdr 02:70:73:00:00:01")
}

#[test]
fn a_neighbour_hears_of_the_plane_without_asking() {
    let lab = lab!("announce");
    // Who is announced gets an entry, asked for or not: at the tap as well, which is yet to come.
    let accept = "net/ipv4/conf/default/arp_accept=1";
    let (code, _, err) = lab.run("sysctl", &["-qw", accept]);
    assert_eq!(code, Some(0), "{err}");
    let _plane = lab.plane();
    let heard = || wait_for(SOON, || is_known(&lab));
    assert!(heard(), "not at the start");

    // The three of the start, a second apart, end.
    let ends = || {
        lab.ip("neigh flush dev ps0");
        !wait_for(Duration::from_millis(2500), || is_known(&lab))
    };
    assert!((0..10).any(|_| ends()), "announced for ever");
    // A switch restarts.
    let table = lab.table();
    lab.ip("link set ps0 down");
    let is_down = || !table.ports()[0].up;
    assert!(wait_for(SOON, is_down), "{:?}", table.ports());
    lab.ip("link set ps0 up");
    assert!(heard(), "not when the link came up");
}
