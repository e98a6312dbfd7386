use super::*;
use penstock_media::Now;
use std::collections::BTreeMap;
use std::fs::{File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

fn call(n: usize) -> Call {
    let now = Now {
        mono: Duration::ZERO,
        unix_us: 1,
    };
    Call::new(&format!("call{n}"), n as u64, now)
}

/// Numbers that look random, the same in each run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, below: usize) -> usize {
        let Dice(state) = self;
        *state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (*state >> 33) as usize % below
    }
}

#[test]
fn what_was_written_is_read_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("deep/er/calls.journal");
    let (store, stored) = Store::open(&path).unwrap();
    assert!(stored.calls.is_empty() && !stored.is_draining);
    assert!(matches!(Store::open(&path), Err(StoreError::Busy(_))));
    for n in 0..22 {
        assert!(store.write(&call(n).id, Some(&call(n))));
    }
    assert!(store.write("call20", None));
    assert!(store.replace(Some("call21"), "call19", Some(&call(19))));
    drop(store);
    let (store, Stored { mut calls, .. }) = Store::open(&path).unwrap();
    calls.sort_by_key(|call| call.key);
    assert_eq!(calls, (0..20).map(call).collect::<Vec<_>>());
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(path.parent().unwrap()), 0o750);
    assert_eq!(mode(&path), 0o640);

    for is_draining in [true, false, true] {
        assert!(store.set_draining(is_draining));
    }
    drop(store);
    // What somebody has opened to all.
    std::fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
    let (store, stored) = Store::open(&path).unwrap();
    assert_eq!(mode(&path), 0o640);
    assert!(stored.is_draining);
    assert_eq!(stored.calls.len(), 20);
    assert!(store.set_draining(false));
    drop(store);
    assert!(!Store::open(&path).unwrap().1.is_draining);
}

#[test]
fn a_call_id_may_have_anything_in_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("calls.journal");
    let (store, _) = Store::open(&path).unwrap();
    let ids = ["a\tb\nc", "", "draining", "\"", "\u{0}\u{7f}", "Grüße"];
    for id in ids {
        let call = Call {
            id: id.into(),
            ..call(1)
        };
        assert!(store.write(id, Some(&call)));
    }
    drop(store);
    let (store, stored) = Store::open(&path).unwrap();
    assert!(!stored.is_draining);
    assert_eq!(stored.calls.len(), ids.len());
    for id in ids {
        assert!(stored.calls.iter().any(|call| call.id == id), "{id:?}");
        assert!(store.write(id, None));
    }
    drop(store);
    assert!(Store::open(&path).unwrap().1.calls.is_empty());
}

#[test]
fn what_is_no_store_is_set_aside() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("calls.journal");
    let later = b"penstock calls 2\n\"call1\"\t{}\n";
    for foreign in [&b"hello"[..], later, &[0; 9000]] {
        std::fs::write(&path, foreign).unwrap();
        assert!(Store::open(&path).unwrap().1.calls.is_empty());
        let aside = journal::aside(&path);
        assert_eq!(std::fs::read(&aside).unwrap(), foreign);
        std::fs::remove_file(aside).unwrap();
        std::fs::remove_file(&path).unwrap();
    }
}

#[test]
fn a_second_file_that_is_foreign_or_alone_is_set_aside() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("calls.journal");
    let next = journal::next(&path);
    let (store, _) = Store::open(&path).unwrap();
    store.write("call1", Some(&call(1)));
    drop(store);
    std::fs::write(&next, "hello").unwrap();
    let (_, stored) = Store::open(&path).unwrap();
    assert_eq!(stored.calls, [call(1)], "the first one stands");
    assert!(!next.exists() && journal::aside(&next).exists());

    // Somebody has removed the first: what changed after it was full is not all.
    std::fs::rename(&path, &next).unwrap();
    let (store, stored) = Store::open(&path).unwrap();
    assert!(stored.calls.is_empty() && !next.exists());
    store.write("call2", Some(&call(2)));
    drop(store);
    assert_eq!(Store::open(&path).unwrap().1.calls, [call(2)]);
}

#[test]
fn a_store_may_be_a_link() {
    let dir = tempfile::tempdir().unwrap();
    let (path, link) = (dir.path().join("calls"), dir.path().join("link"));
    drop(Journal::open(&path, 0).unwrap());
    std::os::unix::fs::symlink(&path, &link).unwrap();
    let (mut journal, ..) = Journal::open(&link, 0).unwrap();
    for n in 0..100_u8 {
        journal.put(b"key", &[b'a' + n % 20; 500], None).unwrap();
    }
    assert!(link.is_symlink());
    assert!(std::fs::metadata(&path).unwrap().len() < 20_000);
}

/// Of two calls that want the same ports the one that changed last is the one that is there.
#[test]
fn calls_that_changed_last_come_first() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("calls.journal");
    let (store, _) = Store::open(&path).unwrap();
    for n in [3, 1, 4, 5, 2] {
        let call = Call {
            last_signal_us: n,
            ..call(n as usize)
        };
        store.write(&call.id, Some(&call));
    }
    drop(store);
    let (_, stored) = Store::open(&path).unwrap();
    let order: Vec<_> = stored
        .calls
        .iter()
        .map(|call| call.last_signal_us)
        .collect();
    assert_eq!(order, [5, 4, 3, 2, 1]);
}

#[test]
fn an_entry_that_is_no_call_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("calls.journal");
    let (mut journal, ..) = Journal::open(&path, 0).unwrap();
    journal
        .put(b"\"call1\"", b"{\"of\":\"another release\"}", None)
        .unwrap();
    drop(journal);
    drop(Store::open(&path).unwrap());
    assert!(Journal::open(&path, 0).unwrap().1.is_empty());
}

/// Whoever is killed while it writes a line has not answered for it.
#[test]
fn a_line_that_was_cut_off_is_as_if_it_had_not_been_begun() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("calls.journal");
    let (store, _) = Store::open(&path).unwrap();
    store.write("call1", Some(&call(1)));
    let whole = std::fs::metadata(&path).unwrap().len();
    store.write("call2", Some(&call(2)));
    drop(store);
    let bytes = std::fs::read(&path).unwrap();
    for len in 0..bytes.len() {
        std::fs::write(&path, &bytes[..len]).unwrap();
        let (store, stored) = Store::open(&path).unwrap();
        assert_eq!(
            stored.calls.len(),
            usize::from(len as u64 >= whole),
            "{len}"
        );
        // And what is written next stands.
        store.write("call3", Some(&call(3)));
        drop(store);
        let (_, stored) = Store::open(&path).unwrap();
        assert!(stored.calls.contains(&call(3)), "{len}");
    }
}

/// Whatever the file holds, control starts, and calls whose lines are sound are there.
#[test]
fn damage_costs_the_calls_it_is_in() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("calls.journal");
    let (store, _) = Store::open(&path).unwrap();
    for n in 0..200 {
        store.write(&call(n).id, Some(&call(n)));
    }
    drop(store);
    let sound = std::fs::read(&path).unwrap();
    let header = sound.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    let line = (sound.len() - header) / 200;
    let mut dice = Dice(1);
    for n in 0..120 {
        let mut bytes = sound.clone();
        let at = header + dice.below(bytes.len() - header);
        let end = (at + 1 + n * 20).min(bytes.len());
        match n % 3 {
            0 => bytes[at] ^= 1 << dice.below(8),
            1 => bytes[at..end].fill(dice.below(256) as u8),
            _ => bytes[at..end].fill_with(|| dice.below(256) as u8),
        }
        std::fs::write(&path, bytes).unwrap();
        let (_, stored) = Store::open(&path).unwrap();
        let lost = (end - at) / line + 3;
        assert!(
            stored.calls.len() + lost >= 200,
            "{n}: {}",
            stored.calls.len()
        );
    }
}

/// A journal like any other, next to what it should hold. Now and then its files are read as somebody would find them who comes
/// after a kill.
#[test]
fn the_journal_holds_what_was_put_whenever_it_is_killed() {
    const KEYS: usize = 40;
    const MOST: usize = 3000;
    let dir = tempfile::tempdir().unwrap();
    let (path, found) = (dir.path().join("j"), dir.path().join("found"));
    let mut dice = Dice(7);
    let (mut journal, ..) = Journal::open(&path, 1000).unwrap();
    let mut model = BTreeMap::new();
    let (mut with_two, mut begun, mut largest) = (0, 0, 0);
    let mut had_next = false;
    for n in 0..4000 {
        let key = format!("key{}", dice.below(KEYS)).into_bytes();
        let value = format!("{n}:").into_bytes().repeat(dice.below(MOST) / 5);
        let gone = format!("key{}", dice.below(KEYS)).into_bytes();
        let gone = (dice.below(5) == 0 && gone != key).then_some(gone);
        let written = |path: &Path| match journal::next(path).exists() {
            true => journal::next(path),
            false => path.to_owned(),
        };
        let file = written(&path);
        let before = std::fs::metadata(&file).unwrap().len();
        let old = model.clone();
        journal.put(&key, &value, gone.as_deref()).unwrap();
        let line = key.len() + value.len() + gone.as_ref().map_or(0, |gone| gone.len() + 1) + 2;
        gone.map(|gone| model.remove(&gone));
        match value.is_empty() {
            true => drop(model.remove(&key)),
            false => drop(model.insert(key, value)),
        }
        let has_next = journal::next(&path).exists();
        begun += usize::from(has_next && !had_next);
        had_next = has_next;
        largest = largest.max(std::fs::metadata(&path).unwrap().len());
        if dice.below(10) > 0 {
            continue;
        }
        std::fs::copy(&path, &found).unwrap();
        let _ = std::fs::remove_file(journal::next(&found));
        if has_next {
            with_two += 1;
            std::fs::copy(journal::next(&path), journal::next(&found)).unwrap();
        }
        let (mut second, entries, bad) = Journal::open(&found, 1000).unwrap();
        assert_eq!(bad, 0);
        assert!(entries.into_iter().eq_by_key(&model), "{n}");
        if file == written(&path) {
            drop(second);
            // As if it had been killed while it wrote this.
            let cut = before + dice.below(2 * line) as u64;
            let last = File::options().write(true).open(written(&found)).unwrap();
            last.set_len(cut.min(last.metadata().unwrap().len()))
                .unwrap();
            let (_, entries, bad) = Journal::open(&found, 1000).unwrap();
            let is_whole = cut >= before + line as u64;
            assert_eq!(bad, 0);
            assert!(
                entries
                    .into_iter()
                    .eq_by_key(if is_whole { &model } else { &old }),
                "{n} {cut}"
            );
            continue;
        }
        // It goes on where the other one was.
        for _ in 0..dice.below(20) {
            second.put(b"more", &[b'.'; 500], None).unwrap();
        }
        drop(second);
        let (_, mut entries, _) = Journal::open(&found, 1000).unwrap();
        entries.remove(&b"more"[..]);
        assert!(entries.into_iter().eq_by_key(&model), "{n}");
        if dice.below(10) == 0 {
            drop(journal);
            journal = Journal::open(&path, 1000).unwrap().0;
        }
    }
    assert!(begun > 20 && with_two > 20, "{begun} {with_two}");
    assert!(largest < (KEYS * MOST * 5) as u64, "{largest}");
}

trait EqByKey {
    fn eq_by_key(self, model: &BTreeMap<Vec<u8>, Vec<u8>>) -> bool;
}

impl<I: Iterator<Item = (Vec<u8>, Vec<u8>)>> EqByKey for I {
    fn eq_by_key(self, model: &BTreeMap<Vec<u8>, Vec<u8>>) -> bool {
        self.collect::<BTreeMap<_, _>>() == *model
    }
}
