//! The region's files: made, found, refused, set aside.
#![cfg(not(loom))]

mod common;

use common::{config, endpoint, temp_dir};
use penstock_shm::{
    AddressEntry, Attached, Control, Plane, PlaneState, RegionConfig, RegionError, Slot, TableView,
    TooManyAddresses,
};
use std::fs::OpenOptions;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::Path;

// Where an identity holds what.
const MAGIC: u64 = 0;
const LAYOUT: u64 = 8;
const GENERATION: u64 = 16;
const LENGTH: u64 = 24;
const ABI: u64 = 32;

fn patch(file: &Path, at: u64, bytes: &[u8]) {
    let file = OpenOptions::new().write(true).open(file).unwrap();
    file.write_all_at(bytes, at).unwrap();
}

/// Makes a region with one stream in it.
fn make(config: &RegionConfig) {
    let plane = Plane::open(config).unwrap();
    assert_eq!(plane.attached(), &Attached::Fresh);
    let mut parts = plane.split(1);
    parts.pulse.start();
    let number = parts.table.insert(endpoint(0, 4000), 7, 1).unwrap();
    parts
        .table
        .update(
            number,
            &Slot {
                leg: 3,
                ..Slot::CLOSED
            },
        )
        .unwrap();
}

#[test]
fn a_second_plane_resumes_what_the_first_left() {
    let dir = temp_dir();
    let config = config(&dir, 16);
    make(&config);
    let plane = Plane::open(&config).unwrap();
    assert_eq!(plane.attached(), &Attached::Resumed { records: 1 });
    let mut parts = plane.split(2);
    parts.pulse.start();
    let number = parts.table.find(endpoint(0, 4000)).unwrap();
    assert_eq!(parts.table.slot(number).leg, 3);
    assert_eq!(parts.table.live().collect::<Vec<_>>(), [number]);
    let view = TableView::open(&config.dir).unwrap();
    assert_eq!(view.info().epoch, 2);
    assert_eq!(view.info().pid, std::process::id());
    assert_eq!(view.info().workers, 2);
    assert_eq!(view.stream(number).unwrap().call, 7);
}

/// Damages a region, and expects the plane to set it aside for a reason that contains `why`, and
/// control to refuse it for the same reason.
fn expect_set_aside(why: &str, damage: impl Fn(&Path)) {
    let dir = temp_dir();
    let config = config(&dir, 16);
    make(&config);
    damage(&config.dir);
    match Control::attach(&config.dir) {
        Err(RegionError::Incompatible { why: found, .. }) => {
            assert!(found.contains(why), "{found}")
        }
        Err(other) => panic!("refused, but: {other}"),
        Ok(_) => panic!("control attached"),
    }
    let plane = Plane::open(&config).unwrap();
    match plane.attached() {
        Attached::SetAside { why: found } => assert!(found.contains(why), "{found}"),
        other => panic!("{other:?}"),
    }
    assert!(config.dir.join("rings.aside").exists() || config.dir.join("table.aside").exists());
    let parts = plane.split(1);
    assert_eq!(parts.table.counts().free, 16);
    Control::attach(&config.dir).expect("control attaches to the new region");
}

#[test]
fn what_does_not_fit_is_set_aside() {
    for file in ["rings", "table"] {
        let at = |dir: &Path| dir.join(file);
        expect_set_aside("ABI 99", |dir| patch(&at(dir), ABI, &99u32.to_le_bytes()));
        expect_set_aside("layout", |dir| patch(&at(dir), LAYOUT, &[1; 8]));
        expect_set_aside("generation", |dir| patch(&at(dir), GENERATION, &[1; 8]));
        expect_set_aside("made with", |dir| patch(&at(dir), LENGTH, &[1; 8]));
        expect_set_aside("no file of Penstock's", |dir| patch(&at(dir), MAGIC, b"x"));
        expect_set_aside("no file of Penstock's", |dir| {
            std::fs::write(at(dir), [0xa5; 9000]).unwrap()
        });
        expect_set_aside("cut short", |dir| std::fs::write(at(dir), "").unwrap());
        expect_set_aside("cut short", |dir| {
            std::fs::write(at(dir), "garbage").unwrap()
        });
        expect_set_aside("made with", |dir| {
            OpenOptions::new()
                .write(true)
                .open(at(dir))
                .unwrap()
                .set_len(8192)
                .unwrap();
        });
        expect_set_aside("without", |dir| std::fs::remove_file(at(dir)).unwrap());
    }
    // The head of the command ring, far ahead of its tail.
    expect_set_aside("capacity", |dir| patch(&dir.join("rings"), 64, &[1; 8]));
}

#[test]
fn another_capacity_is_set_aside_and_control_notices() {
    let dir = temp_dir();
    let small = config(&dir, 16);
    make(&small);
    let control = Control::attach(&small.dir).unwrap().split();
    assert!(!control.watch.replaced());
    let plane = Plane::open(&RegionConfig {
        streams: 17,
        ..small.clone()
    })
    .unwrap();
    assert!(
        matches!(plane.attached(), Attached::SetAside { why } if why.contains("16 streams, 17"))
    );
    assert!(control.watch.replaced());
    drop(control);
    assert_eq!(
        Control::attach(&small.dir)
            .unwrap()
            .split()
            .table
            .info()
            .capacity,
        17
    );
}

#[test]
fn each_side_is_held_once() {
    let dir = temp_dir();
    let config = config(&dir, 16);
    assert!(matches!(
        Control::attach(&config.dir),
        Err(RegionError::NoRegion { .. })
    ));
    assert!(matches!(
        TableView::open(&config.dir),
        Err(RegionError::NoRegion { .. })
    ));
    let plane = Plane::open(&config).unwrap();
    let me = std::process::id();

    let second = Plane::open(&config)
        .err()
        .expect("a second plane is refused");
    let message = second.to_string();
    assert!(
        message.contains(&format!("another penstock-dataplane (pid {me})")),
        "{message}"
    );

    let control = Control::attach(&config.dir).unwrap();
    let second = Control::attach(&config.dir)
        .err()
        .expect("a second control is refused");
    let message = second.to_string();
    assert!(
        message.contains(&format!("another penstock-control (pid {me})")),
        "{message}"
    );

    // One part is enough to hold a side.
    let mut parts = plane.split(1);
    parts.pulse.start();
    let watch = control.split().watch;
    assert!(watch.alive());
    let worker = parts.workers;
    drop((
        parts.commands,
        parts.events,
        parts.table,
        parts.bell,
        parts.pulse,
    ));
    assert!(watch.alive());
    assert!(TableView::open(&config.dir).unwrap().plane_alive());
    drop(worker);
    assert!(!watch.alive());
    assert!(Control::attach(&config.dir).is_err());
    drop(watch);
    Control::attach(&config.dir).expect("the region stays when its plane is gone");
    Plane::open(&config).expect("a new plane may start");
}

#[test]
fn owner_and_group_only() {
    let dir = temp_dir();
    let mut config = config(&dir, 16);
    let group = std::fs::metadata(dir.path()).unwrap().gid();
    config.group = Some(group);
    make(&config);
    let mode = |name: &str| {
        let meta = std::fs::metadata(config.dir.join(name)).unwrap();
        assert_eq!(meta.gid(), group);
        meta.permissions().mode() & 0o7777
    };
    assert_eq!(mode(""), 0o750);
    for name in ["rings", "plane.bell", "control.bell", "control.lock"] {
        assert_eq!(mode(name), 0o660, "{name}");
    }
    for name in ["table", "plane.lock"] {
        assert_eq!(mode(name), 0o640, "{name}");
    }
}

#[test]
fn the_table_may_lie_elsewhere() {
    let dir = temp_dir();
    let apart = RegionConfig {
        table_dir: Some(dir.path().join("huge")),
        ..config(&dir, 16)
    };
    make(&apart);
    assert!(dir.path().join("huge/table").is_file());
    assert!(Control::attach(&apart.dir).is_ok());
    let plane = Plane::open(&apart).unwrap();
    assert_eq!(plane.attached(), &Attached::Resumed { records: 1 });
    drop(plane);
    // Back into the directory: the table that stays behind no longer belongs to the rings.
    let plane = Plane::open(&config(&dir, 16)).unwrap();
    assert!(matches!(plane.attached(), Attached::SetAside { .. }));
}

/// A mounted hugetlbfs where this process may make a directory.
fn huge_dir() -> Option<tempfile::TempDir> {
    let mounts = std::fs::read_to_string("/proc/mounts").ok()?;
    let of_huge_pages = mounts
        .lines()
        .filter(|line| line.split(' ').nth(2) == Some("hugetlbfs"));
    let mut dirs = of_huge_pages.filter_map(|line| line.split(' ').nth(1));
    dirs.find_map(|dir| tempfile::tempdir_in(dir).ok())
}

#[test]
fn the_table_may_be_of_huge_pages() {
    let dir = temp_dir();
    let Some(huge) = huge_dir() else {
        return println!("skipped: no hugetlbfs is mounted");
    };
    let config = RegionConfig {
        table_dir: Some(huge.path().into()),
        ..config(&dir, 1000)
    };
    match Plane::open(&config) {
        Ok(plane) => drop(plane),
        Err(error @ RegionError::Space { .. }) => return println!("skipped: {error}"),
        Err(error) => panic!("{error}"),
    }
    let table = std::fs::metadata(huge.path().join("table")).unwrap();
    assert!(table.len().is_multiple_of(table.blksize()) && table.blksize() >= 1 << 21);
    let mut parts = Plane::open(&config).unwrap().split(1);
    let number = parts.table.insert(endpoint(63, 65_535), 1, 1).unwrap();
    let view = Control::attach(&config.dir).unwrap().split().table;
    assert_eq!(view.find(endpoint(63, 65_535)), Some(number));
}

#[test]
fn impossible_configurations_are_refused() {
    let dir = temp_dir();
    for streams in [0, penstock_shm::MAX_STREAMS + 1] {
        let error = Plane::open(&config(&dir, streams)).err().unwrap();
        assert!(matches!(error, RegionError::Streams { .. }), "{error}");
    }
    std::fs::write(dir.path().join("file"), "").unwrap();
    let config = RegionConfig {
        dir: dir.path().join("file/region"),
        ..config(&dir, 16)
    };
    let error = Plane::open(&config).err().unwrap().to_string();
    assert!(
        error.contains("cannot make") && error.contains("file/region"),
        "{error}"
    );
}

#[test]
fn a_plane_is_at_work_once_it_says_so() {
    let dir = temp_dir();
    let config = config(&dir, 16);
    let mut parts = Plane::open(&config).unwrap().split(1);
    let watch = Control::attach(&config.dir).unwrap().split().watch;
    assert_eq!((watch.state(), watch.epoch()), (PlaneState::Still, 0));
    parts.pulse.start();
    assert_eq!((watch.state(), watch.epoch()), (PlaneState::Running, 1));
}

#[test]
fn addresses_keep_their_numbers() {
    let dir = temp_dir();
    let config = config(&dir, 16);
    let entry = |ip: &str, vlan, port| AddressEntry {
        ip: ip.parse().unwrap(),
        vlan,
        port,
        mtu: 1500,
    };
    let (a, b) = (entry("192.0.2.1", 0, 0), entry("2001:db8::1", 0, 1));
    let c = entry("192.0.2.1", 7, 0);
    let mut parts = Plane::open(&config).unwrap().split(1);
    assert_eq!(parts.table.set_addresses(&[a, b]).unwrap(), [0, 1]);
    drop(parts);

    let mut parts = Plane::open(&config).unwrap().split(1);
    let moved = AddressEntry {
        port: 5,
        mtu: 9000,
        ..b
    };
    assert_eq!(parts.table.set_addresses(&[c, moved]).unwrap(), [2, 1]);
    let view = TableView::open(&config.dir).unwrap();
    let found: Vec<_> = view
        .addresses()
        .iter()
        .map(|a| (a.number, a.entry, a.present))
        .collect();
    assert_eq!(found, [(0, a, false), (1, moved, true), (2, c, true)]);
    assert_eq!(parts.table.addresses(), view.addresses());

    let many: Vec<_> = (0..62)
        .map(|n| entry(&format!("198.51.100.{n}"), 0, 0))
        .collect();
    assert_eq!(parts.table.set_addresses(&many), Err(TooManyAddresses));
    assert_eq!(
        parts.table.addresses(),
        view.addresses(),
        "a refused list changes nothing"
    );
    assert_eq!(
        parts.table.set_addresses(&many[1..]).unwrap(),
        (3..64).collect::<Vec<u16>>()
    );
}
