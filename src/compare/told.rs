//! Rows that are different, for a person.

use super::{RowIs, RowsOf};
use crate::report::grouped;
use std::fmt::Write as _;

/// So many rows of a relation are shown; JSON has more.
const SHOWN_MAX: usize = 20;

pub fn text(all: &[RowsOf]) -> String {
    let mut out = String::new();
    for found in all {
        let name = format!("{}.{}", found.schema, found.name).escape_debug().to_string();
        if let Some(why) = &found.not_compared {
            let _ = writeln!(out, "\n{name}: its rows could not be compared: {why}");
        }
        if found.ranges == 0 {
            continue;
        }
        // Writing to a String cannot fail.
        let _ = writeln!(
            out,
            "\n{name}: {} rows different, {} only in A, {} only in B; of {} ranges of keys {} were \
             fetched",
            grouped(found.different),
            grouped(found.only_in_a),
            grouped(found.only_in_b),
            grouped(found.ranges),
            grouped(found.ranges_fetched)
        );
        let columns = found.key.join(", ").escape_debug().to_string();
        for row in found.listed.iter().take(SHOWN_MAX) {
            let what = match row.what {
                RowIs::OnlyInA => "only in A",
                RowIs::OnlyInB => "only in B",
                RowIs::Different => "different",
            };
            let key = row.key.join(", ").escape_debug().to_string();
            let _ = writeln!(out, "  {what}  ({columns}) = ({key})");
        }
        let more = found.rows().saturating_sub(SHOWN_MAX as u64);
        if more > 0 {
            let _ =
                writeln!(out, "  and {} more (--keys-to DIR writes all of them)", grouped(more));
        }
        if let Some(file) = &found.file {
            let _ = writeln!(out, "  all of them: {}", file.display().to_string().escape_debug());
        }
    }
    out
}
