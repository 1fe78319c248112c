use super::*;

fn time(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).expect("a time")
}

fn relation(database: Option<&str>, oid: u32, status: Status) -> Relation {
    let name = format!("r{oid}");
    Relation { oid, status, ..Relation::named(database, "public", &name, "table") }
}

const DB: u32 = 5;
const ROWS: (u32, Level) = (DB, Level::Rows);

#[test]
fn what_was_never_clean_is_the_oldest_and_then_what_was_so_longest_ago() {
    let mut state = State::default();
    assert_eq!(state.oldest(&[Level::Rows]), None);
    let found = |second| {
        [
            relation(Some("d"), 1, Status::Clean),
            relation(Some("d"), 2, second),
            relation(None, 3, Status::Clean),
            relation(Some("d"), 4, Status::Skipped),
        ]
    };
    state.note(ROWS, (&found(Status::NotReached), &BTreeMap::new()), time(100));
    assert_eq!(state.last_ok(DB, Level::Rows), [(1, time(100)), (3, time(100))].into());
    assert_eq!(state.oldest_of(DB, Level::Rows), None, "one was never clean");
    assert_eq!(state.oldest_of(DB, Level::Pages), None, "nobody has looked");
    let oldest = state.oldest(&[Level::Rows]).expect("one");
    assert_eq!((oldest.name.as_str(), oldest.since, oldest.never), ("r2", time(100), true));
    state.note(ROWS, (&found(Status::Clean), &BTreeMap::new()), time(200));
    state.note(ROWS, (&found(Status::Damaged), &BTreeMap::new()), time(300));
    assert_eq!(state.oldest_of(DB, Level::Rows), Some(time(200)), "damage is not clean");
    let oldest = state.oldest(&[Level::Rows]).expect("one");
    assert_eq!((oldest.name.as_str(), oldest.since, oldest.never), ("r2", time(200), false));
    assert_eq!(state.last_ok_at((DB, 1), &[Level::Rows, Level::Pages]), Some(time(300)));
    state.note((DB, Level::Pages), (&found(Status::NotReached)[1..2], &BTreeMap::new()), time(400));
    assert_eq!(state.last_ok_at((DB, 2), &[Level::Rows, Level::Pages]), None);
}

#[test]
fn what_is_gone_is_forgotten() {
    let mut state = State::default();
    let all = [relation(Some("d"), 1, Status::Clean), relation(None, 3, Status::Clean)];
    state.note(ROWS, (&all, &BTreeMap::new()), time(1));
    state.note(
        (9, Level::Rows),
        (&[relation(Some("e"), 1, Status::Clean)], &BTreeMap::new()),
        time(1),
    );
    state.note(ROWS, (&[], &BTreeMap::new()), time(2));
    assert_eq!(state.last_ok(DB, Level::Rows), [(3, time(1))].into(), "others share it");
    assert_eq!(state.last_ok(9, Level::Rows).len(), 2);
    state.keep_databases(&BTreeSet::from([DB]));
    assert_eq!(state.last_ok(9, Level::Rows).len(), 1);
}

#[test]
fn a_file_is_read_back_and_one_that_is_not_ours_is_refused() {
    let folder = tempfile::tempdir().expect("a directory");
    let path = folder.path().join("state.json");
    let mut state = State::read(&path).expect("none yet");
    state.claim(Some("7"), &path).expect("a new one");
    state.note(ROWS, (&[relation(Some("d"), 1, Status::Clean)], &BTreeMap::new()), time(1));
    state.write(&path).expect("it is written");
    let mut again = State::read(&path).expect("it is read");
    assert_eq!(again, state);
    again.claim(Some("7"), &path).expect("the same cluster");
    assert!(again.claim(Some("8"), &path).is_err());
    for bytes in ["", "{}", "[1]", r#"{"format_version": 2, "relations": {}}"#] {
        std::fs::write(&path, bytes).expect("it is written");
        let refused = State::read(&path).expect_err(bytes).to_string();
        assert!(refused.contains("state.json"), "{refused}");
    }
}

/// A table that takes longer than a night is as old as what was read of it first.
#[test]
fn what_was_begun_is_gone_on_with_and_is_as_old_as_its_beginning() {
    let mut state = State::default();
    let read = |from, to| BTreeMap::from([(1, ReadBlocks { filenode: 77, from, to })]);
    let mut night = |status, read: &BTreeMap<u32, ReadBlocks>, at| {
        state.note(ROWS, (&[relation(Some("d"), 1, status)], read), time(at));
        let begun = state.begun(DB, Level::Rows).get(&1).map(|b| (b.filenode, b.to));
        (begun, state.last_ok(DB, Level::Rows).get(&1).copied())
    };
    assert_eq!(night(Status::NotReached, &read(0, 100), 10), (Some((77, 100)), None));
    assert_eq!(night(Status::NotReached, &read(100, 150), 20), (Some((77, 150)), None));
    // A night without time for it, and one that came to nothing.
    assert_eq!(night(Status::NotReached, &BTreeMap::new(), 30), (Some((77, 150)), None));
    assert_eq!(night(Status::NotReached, &read(150, 150), 40), (Some((77, 150)), None));
    assert_eq!(night(Status::Clean, &read(150, 300), 50), (None, Some(time(10))));
    // Read from its beginning, since it has another file.
    assert_eq!(night(Status::NotReached, &read(0, 100), 60), (Some((77, 100)), Some(time(10))));
    let other = BTreeMap::from([(1, ReadBlocks { filenode: 78, from: 0, to: 50 })]);
    assert_eq!(night(Status::NotReached, &other, 70), (Some((78, 50)), Some(time(10))));
    assert_eq!(night(Status::Clean, &read(0, 300), 80), (None, Some(time(80))));
    night(Status::NotReached, &read(0, 100), 90);
    assert_eq!(night(Status::Damaged, &read(100, 120), 100), (None, Some(time(80))));
}
