use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;

use super::*;

/// A history that counts its errors.
fn open(path: &Path) -> (History, Arc<AtomicUsize>) {
    let errors = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&errors);
    let count = move || {
        counted.fetch_add(1, Ordering::Relaxed);
    };
    (History::open(path, Box::new(count)), errors)
}

fn record(reason: &str) -> Record {
    Record {
        id: 0,
        t: 5.5,
        from: 3,
        to: 4,
        winner: "rate",
        terms: BTreeMap::from([("offered_10s", 280.25)]),
        clamps: vec!["max 14→12".into()],
        action: "launch",
        reason: reason.into(),
        outcome: "accepted".into(),
    }
}

fn web() -> PoolId {
    PoolId::new("web")
}

fn corrupt_is_there(path: &Path) -> bool {
    path.with_extension("redb.corrupt").exists()
}

#[test]
fn a_restart_keeps_records_ids_and_what_is_learnt() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("history.redb");
    let (history, errors) = open(&path);
    for reason in ["a", "b"] {
        history.journal(&web()).add(record(reason));
    }
    history.journal(&"api".into()).add(record("of api"));
    history.save(&web(), "profile/1", vec![1, 2, 3]);
    history.write(false);
    history.write(true);
    history.journal(&web()).settle(2, "later".into());
    history.write(false);
    let before = history.journal(&web()).newest(9);
    drop(history);

    let (history, again) = open(&path);
    assert_eq!(history.journal(&web()).newest(9), before);
    assert_eq!(before[0].outcome, "later; accepted");
    assert_eq!(history.journal(&web()).add(record("c")), 3, "ids go on");
    assert_eq!(history.journal(&"api".into()).newest(9).len(), 1);
    assert_eq!(history.load(&web(), "profile/1"), Some(vec![1, 2, 3]));
    assert_eq!(history.load(&web(), "profile/2"), None);
    assert_eq!(history.load(&"api".into(), "profile/1"), None);
    assert_eq!((errors.load(Ordering::Relaxed), again.load(Ordering::Relaxed)), (0, 0));
}

#[test]
fn what_is_saved_soon_does_not_wait_for_the_minute_and_is_written_once() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("history.redb");
    let (history, _) = open(&path);
    history.save(&web(), "profile/1", vec![1]);
    history.save_soon(&web(), "said/1", &("three", 3));
    history.write(false);
    history.save_soon(&web(), "said/1", &("three", 3));
    assert!(lock(&history.kept).take(false).is_empty(), "the same again");
    drop(history);
    let (history, _) = open(&path);
    assert_eq!(history.recall(&web(), "said/1"), Some(("three".to_owned(), 3)));
    assert_eq!(history.recall::<u32>(&web(), "said/1"), None, "that makes no sense");
    assert_eq!(history.load(&web(), "profile/1"), None, "this was to wait");
}

#[test]
fn an_open_call_is_not_open_any_more_after_a_restart() {
    let open = Record { id: 4, outcome: String::new(), ..record("x") };
    let hold = Record { id: 5, action: "hold", ..open.clone() };
    let journal = Journal::resume(vec![open, hold]);
    let outcomes: Vec<_> = journal.newest(9).into_iter().map(|record| record.outcome).collect();
    assert_eq!(outcomes, ["", "not known: the daemon was restarted meanwhile"]);
}

#[test]
fn what_is_gone_leaves_the_file() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("history.redb");
    let (history, _) = open(&path);
    for pool in ["web", "api", "old"] {
        history.journal(&pool.into()).add(record("x"));
        history.save(&pool.into(), "k", vec![1]);
    }
    history.write(true);
    history.forget(&"old".into());
    history.write(true);
    drop(history);
    let (history, _) = open(&path);
    assert_eq!(history.load(&"old".into(), "k"), None);
    assert!(history.journal(&"old".into()).newest(9).is_empty());
    history.keep_only(&[web()]);
    history.write(true);
    drop(history);
    let (history, _) = open(&path);
    assert_eq!(history.load(&web(), "k"), Some(vec![1]));
    assert_eq!(history.load(&"api".into(), "k"), None);
}

#[test]
fn the_file_is_bounded() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("history.redb");
    let (history, errors) = open(&path);
    let journal = history.journal(&web());
    let size = || fs::metadata(&path).expect("a file").len();
    let round = || {
        for _ in 0..500 {
            journal.add(record(&"x".repeat(300)));
        }
        history.save(&web(), "k", vec![0; 10_000]);
        history.write(true);
    };
    (0..6).for_each(|_| round());
    let full = size();
    (0..20).for_each(|_| round());
    assert!(size() <= full, "{full} grew to {}", size());
    assert!(full < 8 << 20, "{full}");
    history.save(&web(), "too much", vec![0; VALUE_MAX + 1]);
    assert_eq!(history.load(&web(), "too much"), None);
    assert_eq!(errors.load(Ordering::Relaxed), 1);
    drop((journal, history));
    let (history, _) = open(&path);
    let records = history.journal(&web()).newest(usize::MAX);
    assert_eq!((records.len(), records[0].id), (journal::CAPACITY, 13_000));
}

#[test]
fn a_file_that_makes_no_sense_is_set_aside() {
    for garbage in [&b"garbage"[..], &[0; 9_000], &[0xff; 9_000]] {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("history.redb");
        fs::write(&path, garbage).expect("written");
        let (history, errors) = open(&path);
        assert_eq!(errors.load(Ordering::Relaxed), 1);
        assert!(corrupt_is_there(&path));
        history.journal(&web()).add(record("a"));
        history.write(true);
        drop(history);
        let (history, errors) = open(&path);
        assert_eq!(history.journal(&web()).newest(9).len(), 1, "a new one began");
        assert_eq!(errors.load(Ordering::Relaxed), 0);
    }
}

#[test]
fn a_record_that_makes_no_sense_sets_the_file_aside() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("history.redb");
    let database = super::open(&path).expect("a file");
    let transaction = database.begin_write().expect("a transaction");
    transaction.open_table(JOURNAL).expect("a table").insert(("web", 1), &b"{"[..]).expect("in");
    transaction.commit().expect("written");
    drop(database);
    let (history, errors) = open(&path);
    assert!(history.journal(&web()).newest(9).is_empty() && corrupt_is_there(&path));
    assert_eq!(errors.load(Ordering::Relaxed), 1);
}

#[test]
fn where_nothing_can_be_written_all_is_in_memory() {
    let dir = tempfile::tempdir().expect("a directory");
    // A file where a directory should be: that stops every user, also one who may write anything.
    let file = dir.path().join("file");
    fs::write(&file, "").expect("written");
    let path = file.join("history.redb");
    let (history, errors) = open(&path);
    history.journal(&web()).add(record("a"));
    history.save(&web(), "k", vec![1]);
    history.write(true);
    assert_eq!(errors.load(Ordering::Relaxed), 1);
    assert_eq!(history.load(&web(), "k"), Some(vec![1]));
    fs::remove_file(&file).expect("removed");
    fs::create_dir(&file).expect("a directory");
    for _ in 0..PAUSE {
        history.write(false);
    }
    assert!(path.exists(), "it is tried again");
    history.write(true);
    drop(history);
    let (history, _) = open(&path);
    assert_eq!(history.journal(&web()).newest(9).len(), 1, "nothing was lost meanwhile");
    assert_eq!(history.load(&web(), "k"), Some(vec![1]));
}

/// A file as a daemon leaves it that was stopped, or (`crashed`) that was killed.
fn sample(crashed: bool) -> Vec<u8> {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("history.redb");
    let (history, _) = open(&path);
    for round in 0..5 {
        for _ in 0..30 {
            history.journal(&web()).add(record("of a record"));
        }
        history.save(&web(), "k", vec![round; 3_000]);
        history.write(true);
    }
    let crash = fs::read(&path).expect("a file");
    drop(history);
    if crashed { crash } else { fs::read(&path).expect("a file") }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn a_damaged_file_is_read_or_set_aside(
        crashed in any::<bool>(),
        cut in proptest::option::of(0.0f64..1.0),
        flips in proptest::collection::vec((0.0f64..1.0, 1u8..), 0..20),
    ) {
        static SAMPLES: std::sync::OnceLock<[Vec<u8>; 2]> = std::sync::OnceLock::new();
        let samples = SAMPLES.get_or_init(|| [sample(false), sample(true)]);
        let mut bytes = samples[usize::from(crashed)].clone();
        let at = |share: f64, length: usize| (share * length as f64) as usize;
        if let Some(cut) = cut {
            bytes.truncate(at(cut, bytes.len()));
        }
        let length = bytes.len();
        for (place, flip) in flips.into_iter().filter(|_| length > 0) {
            bytes[at(place, length)] ^= flip;
        }
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("history.redb");
        fs::write(&path, &bytes).expect("written");
        let (history, errors) = open(&path);
        let kept = history.journal(&web()).newest(usize::MAX).len();
        // What was cut off whole, or is of an older commit, is as good as never written.
        prop_assert!(kept % 30 == 0, "{} of {}", kept, errors.load(Ordering::Relaxed));
        let next = history.journal(&web()).add(record("next"));
        history.write(true);
        drop(history);
        let (history, errors) = open(&path);
        prop_assert_eq!(history.journal(&web()).newest(1)[0].id, next);
        prop_assert_eq!(errors.load(Ordering::Relaxed), 0);
    }
}
