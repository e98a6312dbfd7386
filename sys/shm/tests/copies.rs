//! The copy rings between processes: a writer that laps its readers, is killed, and is followed by another.
#![cfg(not(loom))]

mod common;

use common::{config, endpoint, temp_dir};
use penstock_shm::copies::{
    About, COPIES_PER_MS, COPY_SLOTS, Copy, CopyReader, CopyWriter, Direction, SNAP_LEN, copies_len,
};
use penstock_shm::{Plane, RegionConfig, RegionError};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

const MS: u64 = 1_000_000;

fn writers(config: &RegionConfig, workers: usize) -> Vec<CopyWriter> {
    let plane = Plane::open(config).unwrap();
    plane.copy_writers(config, workers).unwrap()
}

/// Everything in a copy follows from its number; lengths differ, so that frames leave each other's remains.
fn about(number: u64) -> About {
    About {
        time_ns: number * MS,
        call: !number,
        stream: number as u32,
        endpoint: endpoint(number as u16 % 64, number as u16),
        direction: match number % 2 {
            0 => Direction::Ingress,
            _ => Direction::Egress,
        },
        len: (number * 7 % 4000) as u16,
    }
}

fn frame(number: u64) -> Vec<u8> {
    let about = about(number);
    (0..u64::from(about.len))
        .map(|at| (number.wrapping_mul(0x9e37_79b9) >> (at % 29)) as u8 ^ at as u8)
        .collect()
}

fn check(copy: Copy<'_>) -> u64 {
    let number = copy.about.time_ns / MS;
    assert_eq!(copy.about, about(number));
    let whole = frame(number);
    assert!(
        copy.frame == &whole[..whole.len().min(SNAP_LEN)],
        "copy {number} is torn"
    );
    number
}

fn read(reader: &mut CopyReader) -> Vec<u64> {
    let mut numbers = Vec::new();
    reader.read(|copy| numbers.push(check(copy)));
    numbers
}

#[test]
fn every_reader_sees_all_copies_from_its_start_on() {
    let dir = temp_dir();
    let config = config(&dir, 16);
    let mut writers = writers(&config, 2);
    let mut early = CopyReader::open(&config.dir).unwrap();
    assert!(writers[0].write(&about(1), &frame(1)));
    let mut late = CopyReader::open(&config.dir).unwrap();
    assert!(writers[1].write(&about(2), &frame(2)));
    assert!(writers[0].write(&about(3), &frame(3)));
    assert_eq!(read(&mut early), [1, 3, 2]);
    assert_eq!(read(&mut late), [3, 2]);
    assert_eq!((read(&mut early), read(&mut late)), (vec![], vec![]));
    assert_eq!((early.lost(), late.lost()), (0, 0));
}

#[test]
fn a_reader_that_is_lapped_counts_what_it_missed() {
    let dir = temp_dir();
    let config = config(&dir, 16);
    let mut writers = writers(&config, 1);
    let mut reader = CopyReader::open(&config.dir).unwrap();
    let all = COPY_SLOTS as u64 + 10;
    for number in 1..=all {
        assert!(writers[0].write(&about(number), &frame(number)));
    }
    assert_eq!(read(&mut reader), (11..=all).collect::<Vec<_>>());
    assert_eq!(reader.lost(), 10);
}

#[test]
fn a_millisecond_has_so_many_copies_and_no_more() {
    let dir = temp_dir();
    let config = config(&dir, 16);
    let mut writers = writers(&config, 1);
    let mut reader = CopyReader::open(&config.dir).unwrap();
    for ms in 1..=3 {
        let made = (0..2 * COPIES_PER_MS).filter(|_| writers[0].write(&about(ms), &frame(ms)));
        assert_eq!(made.count(), COPIES_PER_MS as usize);
    }
    assert_eq!(read(&mut reader).len(), 3 * COPIES_PER_MS as usize);
}

#[test]
fn a_new_plane_goes_on_in_the_file_unless_it_does_not_fit() {
    let dir = temp_dir();
    let config = config(&dir, 16);
    let mut first = writers(&config, 2);
    let mut reader = CopyReader::open(&config.dir).unwrap();
    assert!(first[1].write(&about(1), &frame(1)));
    drop(first);
    let mut second = writers(&config, 2);
    assert!(second[1].write(&about(2), &frame(2)));
    assert!(!reader.is_replaced(&config.dir));
    assert_eq!(read(&mut reader), [1, 2]);
    drop(second);

    let path = config.dir.join("copies");
    let one = writers(&config, 1);
    assert!(
        reader.is_replaced(&config.dir),
        "another number of workers, another file"
    );
    drop(one);
    let file = std::fs::metadata(&path).unwrap();
    assert_eq!(file.permissions().mode() & 0o777, 0o640);
    assert_eq!(file.len(), copies_len(1).next_multiple_of(4096) as u64);
    assert!(
        file.blocks() * 512 >= file.len(),
        "its memory is really there"
    );

    for damage in [&b""[..], b"penstock", &[0xff; 4096]] {
        std::fs::write(&path, damage).unwrap();
        let refused = CopyReader::open(&config.dir).err();
        assert!(matches!(refused, Some(RegionError::Incompatible { .. })));
        drop(writers(&config, 1));
        assert!(CopyReader::open(&config.dir).is_ok());
    }
    std::fs::remove_file(&path).unwrap();
    let missing = CopyReader::open(&config.dir).err();
    assert!(matches!(missing, Some(RegionError::NoRegion { .. })));
}

/// Runs one of this program's tests as another process, in `dir`.
fn process(role: &str, dir: &Path, start: u64) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", role, "--nocapture"])
        .env("PENSTOCK_DIR", dir)
        .env("PENSTOCK_START", start.to_string())
        .spawn()
        .unwrap()
}

/// Not a test by itself: writes as fast as it can until it is killed.
#[test]
fn role_writer() {
    let Some(dir) = std::env::var_os("PENSTOCK_DIR") else {
        return;
    };
    let config = RegionConfig {
        dir: dir.into(),
        table_dir: None,
        streams: 16,
        group: None,
    };
    let mut writers = writers(&config, 1);
    let start = std::env::var("PENSTOCK_START").unwrap();
    for number in start.parse::<u64>().unwrap().. {
        assert!(writers[0].write(&about(number), &frame(number)));
    }
}

#[test]
fn no_reader_takes_a_torn_copy_though_writers_lap_it_and_are_killed() {
    let dir = temp_dir();
    let config = config(&dir, 16);
    drop(writers(&config, 1));
    let mut readers = [(); 2].map(|()| CopyReader::open(&config.dir).unwrap());
    let (mut total, mut lapped) = (0, 0);
    for round in 1..=6 {
        // Behind what the writers before may have made.
        let mut writer = process("role_writer", &config.dir, round * 1_000_000_000);
        let (end, mut last, mut seen) = (Instant::now() + Duration::from_millis(400), 0, 0);
        while Instant::now() < end || seen == 0 {
            // The second one is slow, and is lapped.
            for (reader, is_slow) in readers.iter_mut().zip([false, true]) {
                let numbers = read(reader);
                if is_slow {
                    std::thread::sleep(Duration::from_millis(5));
                    continue;
                }
                assert!(numbers.is_sorted() && numbers.first().is_none_or(|&first| first > last));
                last = numbers.last().copied().unwrap_or(last);
                seen += numbers.len();
            }
            assert!(end.elapsed() < Duration::from_secs(20), "no copies");
        }
        writer.kill().unwrap();
        writer.wait().unwrap();
        total += seen + read(&mut readers[0]).len();
        lapped = read(&mut readers[1]).len().min(1) as u64 + readers[1].lost();
    }
    assert!(total > 1000, "{total}");
    assert!(lapped > 0, "nobody was lapped");
}
