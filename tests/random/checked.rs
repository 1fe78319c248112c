//! What must be on a cluster with checksums: exactly what is foretold.

use super::base::{Base, Round, SEQUENCES, Table, VALUES};
use pg_salvage::output::manifest::{RelationStatus, RowClass};

/// What all rounds came to.
#[derive(Debug, Default)]
pub struct Sum {
    rounds: u64,
    flips: usize,
    rows: usize,
    clean: usize,
    partial: usize,
    lost: usize,
    /// Relations of which nothing could be planned beside their damage.
    unplannable: usize,
}

/// What must be of a table, but for rows.
#[derive(Debug, PartialEq, Eq)]
enum Ends {
    Clean,
    Salvaged,
    /// Nothing can be planned, so plain COPY ends at the first damage.
    Unplannable,
}

pub async fn round(base: &Base, seed: u64, sum: &mut Sum) {
    let round = base.round(seed);
    sum.rounds += 1;
    sum.flips += round.flips.len();
    let mut ends = Vec::new();
    for table in &base.tables {
        ends.push(check_table(table, &round, sum).await);
    }
    let mut damaged = ends.contains(&Ends::Salvaged);
    for ((name, places), value) in SEQUENCES.into_iter().zip(&base.sequences).zip(VALUES) {
        let harmed = !round.blocks(Some(&places.main)).is_empty();
        damaged |= harmed;
        check_sequence(&round, name, value, harmed, ends[2] == Ends::Clean);
    }
    let code = round.dumped.manifest.exit_code;
    if !ends.contains(&Ends::Unplannable) {
        assert_eq!(code, if damaged { 2 } else { 0 }, "{}", round.at);
    } else {
        assert_ne!(code, 0, "{}", round.at);
    }
}

async fn check_table(table: &Table, round: &Round, sum: &mut Sum) -> Ends {
    let Round { dumped, at, .. } = round;
    let places = &table.places;
    let entry = dumped.relation(table.name);
    let about = format!("{}: {at}\n{entry:#?}\n{}", table.name, dumped.said);
    let bad = round.blocks(Some(&places.main));
    let bad_toast = round.blocks(places.toast.as_ref());
    let broken = table.users_of(|page, _| bad_toast.contains(&page.block));
    let index_is_bad = !round.blocks(places.toast_index.as_ref()).is_empty();

    let lost = |row: &&crate::kit::oracle::Row| bad.contains(&row.block);
    let partial = |row: &&crate::kit::oracle::Row| broken.contains(&(row.block, row.offset));
    let whole: Vec<&[u8]> = (table.rows.iter().filter(|r| !lost(r) && !partial(r)))
        .map(|r| r.line.as_slice())
        .collect();
    // `big` is the last column.
    let in_part: Vec<Vec<u8>> = (table.rows.iter().filter(|r| !lost(r) && partial(r)))
        .map(|r| {
            let end = r.line.iter().rposition(|&b| b == b'\t').expect("columns");
            [&r.line[..=end], b"\\N"].concat()
        })
        .collect();
    let clean = dumped.lines(entry, RowClass::Clean).await;
    let found_in_part = dumped.lines(entry, RowClass::Partial).await;
    let suspect = dumped.lines(entry, RowClass::Suspect).await;
    sum.rows += table.rows.len();

    let is_damaged = !(bad.is_empty() && broken.is_empty()) || index_is_bad;
    // Each plan of a table needs the first page of each of its indexes.
    if is_damaged && round.blocks(places.index.as_ref()).contains(&0) {
        sum.unplannable += 1;
        assert_eq!(entry.status, RelationStatus::Failed, "{about}");
        // What came before the damage is there, and nothing else.
        let found: Vec<&Vec<u8>> = clean.iter().chain(&suspect).collect();
        assert!(found_in_part.is_empty() && found.len() < table.rows.len(), "{about}");
        assert!(table.rows.iter().zip(&found).all(|(row, found)| row.line == **found), "{about}");
        return Ends::Unplannable;
    }
    assert!(clean == whole, "{about}\n{} clean rows, not {}", clean.len(), whole.len());
    assert!(found_in_part == in_part, "{about}\n{} in part", found_in_part.len());
    assert!(suspect.is_empty(), "{about}");
    sum.clean += whole.len();
    sum.partial += in_part.len();
    sum.lost += table.rows.len() - whole.len() - in_part.len();

    assert_eq!(entry.blocks.lost, bad.len() as u64, "{about}");
    let status = if is_damaged { RelationStatus::Salvaged } else { RelationStatus::Clean };
    assert_eq!(entry.status, status, "{about}");
    let lost_blocks = entry.lost.iter().filter_map(|l| Some(l.first_block?..=l.last_block?));
    assert!(lost_blocks.flatten().eq(bad.iter().copied()), "{about}");
    let values = entry.lost.iter().filter(|l| l.ctid.is_some()).count();
    assert_eq!(values, in_part.len(), "{about}");
    if is_damaged { Ends::Salvaged } else { Ends::Clean }
}

/// One that is harmed is derived from the column it feeds, if it feeds one.
fn check_sequence(round: &Round, name: &str, value: i64, harmed: bool, column_is_whole: bool) {
    let entry = round.dumped.relation(name);
    let about = format!("{}\n{entry:#?}", round.at);
    let found = entry.sequence.as_ref().map(|s| (s.last_value, s.derived));
    let (expected, status) = match (harmed, name) {
        (false, _) => (Some((value, false)), RelationStatus::Clean),
        (true, "alone") => (None, RelationStatus::Lost),
        (true, _) if column_is_whole => (Some((value, true)), RelationStatus::Salvaged),
        (true, _) => return assert_ne!(entry.status, RelationStatus::Clean, "{about}"),
    };
    assert_eq!((found, entry.status), (expected, status), "{about}");
}
