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
    state.note(ROWS, &found(Status::NotReached), time(100));
    assert_eq!(state.last_ok(DB, Level::Rows), [(1, time(100)), (3, time(100))].into());
    assert_eq!(state.oldest_of(DB, Level::Rows), None, "one was never clean");
    assert_eq!(state.oldest_of(DB, Level::Pages), None, "nobody has looked");
    let oldest = state.oldest(&[Level::Rows]).expect("one");
    assert_eq!((oldest.name.as_str(), oldest.since, oldest.never), ("r2", time(100), true));
    state.note(ROWS, &found(Status::Clean), time(200));
    state.note(ROWS, &found(Status::Damaged), time(300));
    assert_eq!(state.oldest_of(DB, Level::Rows), Some(time(200)), "damage is not clean");
    let oldest = state.oldest(&[Level::Rows]).expect("one");
    assert_eq!((oldest.name.as_str(), oldest.since, oldest.never), ("r2", time(200), false));
    assert_eq!(state.last_ok_at((DB, 1), &[Level::Rows, Level::Pages]), Some(time(300)));
    state.note((DB, Level::Pages), &found(Status::NotReached)[1..2], time(400));
    assert_eq!(state.last_ok_at((DB, 2), &[Level::Rows, Level::Pages]), None);
}

#[test]
fn what_is_gone_is_forgotten() {
    let mut state = State::default();
    let all = [relation(Some("d"), 1, Status::Clean), relation(None, 3, Status::Clean)];
    state.note(ROWS, &all, time(1));
    state.note((9, Level::Rows), &[relation(Some("e"), 1, Status::Clean)], time(1));
    state.note(ROWS, &[], time(2));
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
    state.note(ROWS, &[relation(Some("d"), 1, Status::Clean)], time(1));
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
