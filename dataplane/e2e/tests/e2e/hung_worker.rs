//! A worker that hangs is named, told to control, and not hidden from systemd; the rest of the plane goes on.

use penstock_e2e::{Phone, Setup, converse, lab, wait_for};
use penstock_shm::{Control, Event, EventConsumer};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(20);

/// Stops one thread of a process: the kernel's freezer takes single threads in a threaded cgroup.
struct Freezer {
    outer: PathBuf,
    inner: PathBuf,
    root: PathBuf,
    pid: u32,
}

impl Freezer {
    /// None if this process may make no cgroups.
    fn new(pid: u32) -> Option<Freezer> {
        let unified = Path::new("/sys/fs/cgroup/unified");
        let root = if unified.exists() {
            unified
        } else {
            Path::new("/sys/fs/cgroup")
        };
        let outer = root.join(format!("penstock-e2e-{pid}"));
        fs::create_dir(&outer).ok()?;
        let freezer = Freezer {
            inner: outer.join("frozen"),
            root: root.to_owned(),
            outer,
            pid,
        };
        fs::create_dir(&freezer.inner).ok()?;
        fs::write(freezer.inner.join("cgroup.type"), "threaded").ok()?;
        fs::write(freezer.outer.join("cgroup.procs"), pid.to_string()).ok()?;
        Some(freezer)
    }

    /// Freezes the thread of that name.
    fn freeze(&self, name: &str) {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.pid)).expect("its threads");
        let thread = tasks.flatten().find(|task| {
            fs::read_to_string(task.path().join("comm")).is_ok_and(|comm| comm.trim() == name)
        });
        let thread = thread
            .unwrap_or_else(|| panic!("no thread {name}"))
            .file_name();
        fs::write(self.inner.join("cgroup.threads"), thread.as_encoded_bytes())
            .expect("the thread");
        fs::write(self.inner.join("cgroup.freeze"), "1").expect("freeze");
    }

    fn thaw(&self) {
        fs::write(self.inner.join("cgroup.freeze"), "0").expect("thaw");
    }
}

impl Drop for Freezer {
    fn drop(&mut self) {
        let _ = fs::write(self.inner.join("cgroup.freeze"), "0");
        let _ = fs::write(self.root.join("cgroup.procs"), self.pid.to_string());
        for dir in [&self.inner, &self.outer] {
            wait_for(Duration::from_secs(2), || {
                fs::remove_dir(dir).is_ok() || !dir.exists()
            });
        }
    }
}

fn told(events: &mut EventConsumer, wanted: Event) -> bool {
    wait_for(SOON, || {
        std::iter::from_fn(|| events.next()).any(|event| event.is_ok_and(|event| event == wanted))
    })
}

#[test]
fn it_is_seen_reported_and_survived() {
    let lab = lab!(
        "hung_worker",
        Setup {
            cores: "[0, 1]",
            ..Setup::default()
        }
    );
    let plane = lab.start_by(&[], "penstock-dataplane", &[("WATCHDOG_USEC", "2000000")]);
    lab.plane_ready(&plane);
    let Some(freezer) = Freezer::new(plane.pid()) else {
        return penstock_e2e::skip("hung_worker", "no cgroup can be made");
    };
    assert!(plane.notifies("WATCHDOG=1", SOON), "systemd hears nothing");
    let mut events = Control::attach(lab.region())
        .expect("the region")
        .split()
        .events;

    // The tap has one queue: worker 0 receives, worker 1 does nothing but turn.
    freezer.freeze("rte-worker-2");
    let hangs = |hangs| Event::Worker { worker: 1, hangs };
    assert!(told(&mut events, hangs(true)), "{}", plane.log());
    assert!(
        wait_for(SOON, || plane.log().contains("has not moved")),
        "{}",
        plane.log()
    );
    // Once more it may be fed within a second: the worker had turned since the time before. What was told is read; then
    // systemd hears nothing for longer than it would wait.
    std::thread::sleep(Duration::from_millis(1500));
    while plane.notifies("WATCHDOG=1", Duration::from_millis(100)) {}
    assert!(
        !plane.notifies("WATCHDOG=1", Duration::from_secs(3)),
        "the watchdog was fed"
    );
    drop(events);

    // The other worker and the steward go on.
    let _control = lab.control();
    let mut caller = Phone::new(&lab, penstock_e2e::phone_at(4000), 0xa);
    let mut callee = Phone::new(&lab, penstock_e2e::phone_at(5000), 0xb);
    let sides = lab.ng().call("during", caller.at(), callee.at());
    converse(&mut caller, sides.caller, &mut callee, sides.callee, 50);
    caller.heard_all(0xb, 1, 50);
    callee.heard_all(0xa, 1, 50);

    freezer.thaw();
    assert!(
        wait_for(SOON, || plane.log().contains("the worker goes on")),
        "{}",
        plane.log()
    );
    assert!(
        plane.notifies("WATCHDOG=1", SOON),
        "systemd still hears nothing"
    );
    let log = plane.log();
    for once in ["has not moved", "the worker goes on"] {
        assert_eq!(log.matches(once).count(), 1, "{log}");
    }
}

#[test]
fn control_feeds_its_watchdog() {
    let lab = lab!("control_watchdog");
    let _plane = lab.plane();
    let control = lab.start_by(&[], "penstock-control", &[("WATCHDOG_USEC", "1000000")]);
    for _ in 0..4 {
        assert!(control.notifies("WATCHDOG=1", SOON), "{}", control.log());
    }
}
