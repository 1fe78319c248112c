use super::*;
use std::fs;

fn record(stretch: usize) -> Record {
    let files = std::array::from_fn(|class| match class {
        0 => Extent { len: 5, rows: 3, bytes: 17, hash: Some(ContentHash::of_row(b"a")) },
        _ => Extent::default(),
    });
    Record::Ended { oid: 7, stretch, files }
}

/// What the journal says, and whether it was harmed.
fn said(dir: &DumpDir) -> (Vec<Record>, bool) {
    let mut records = Vec::new();
    let (_, harmed) = Journal::open(dir, |r| records.push(r)).unwrap();
    (records, harmed)
}

fn written(dir: &DumpDir, records: usize) {
    let (journal, _) = Journal::open(dir, |_| ()).unwrap();
    for i in 0..records {
        journal.append(&record(i)).unwrap();
    }
}

#[test]
fn what_was_written_is_read_again_and_more_can_follow() {
    let temp = tempfile::tempdir().unwrap();
    let dir = DumpDir::create(temp.path(), false).unwrap();
    written(&dir, 2);
    written(&dir, 1);
    assert_eq!(said(&dir), (vec![record(0), record(1), record(0)], false));
}

#[test]
fn wherever_it_is_cut_the_whole_lines_before_count() {
    let temp = tempfile::tempdir().unwrap();
    let dir = DumpDir::create(temp.path(), false).unwrap();
    written(&dir, 3);
    let path = temp.path().join(JOURNAL);
    let all = fs::read(&path).unwrap();
    let line = all.len() / 3;
    for len in 0..=all.len() {
        fs::write(&path, &all[..len]).unwrap();
        let (records, harmed) = said(&dir);
        assert_eq!((records.len(), harmed), (len / line, false), "{len}");
        assert_eq!(fs::read(&path).unwrap().len(), len / line * line);
        written(&dir, 1);
        assert_eq!(said(&dir).0.len(), len / line + 1, "a later line is not lost");
    }
}

#[test]
fn whatever_byte_is_changed_nothing_false_is_read() {
    let temp = tempfile::tempdir().unwrap();
    let dir = DumpDir::create(temp.path(), false).unwrap();
    written(&dir, 3);
    let path = temp.path().join(JOURNAL);
    let all = fs::read(&path).unwrap();
    let line = all.len() / 3;
    for at in 0..all.len() {
        for bit in [1, 0x20, 0x80] {
            let mut bytes = all.clone();
            bytes[at] ^= bit;
            fs::write(&path, &bytes).unwrap();
            let (records, harmed) = said(&dir);
            // A CRC in capitals is the same.
            if records.len() == 3 {
                assert!(bytes.eq_ignore_ascii_case(&all), "{at}");
                continue;
            }
            assert_eq!(records, (0..at / line).map(record).collect::<Vec<_>>(), "{at}");
            assert_eq!(harmed, at < all.len() - 1, "{at}: only a torn last line is no harm");
        }
    }
}
