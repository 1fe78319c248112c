//! Every SQL text that is sent, but for the catalogs' (`catalog.rs`). Pure.
//! None of them writes.

use crate::heap::{BlockNumber, BlockRange, Ctid, Limits, OffsetNumber, Read};
use std::collections::BTreeSet;
use std::fmt::Write as _;

/// Before PostgreSQL 14 a read of blocks lists their TIDs: of so many at most.
/// That makes some 20,000 at 8 kB (1 MB on the server); wider ones were no
/// faster, narrower ones than 32 slower.
const BLOCKS_PER_TID_ARRAY: u32 = 64;

/// An identifier in double quotes.
pub fn ident(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A string in single quotes; `standard_conforming_strings` is pinned on.
pub fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// What is needed to read a relation.
#[derive(Clone, Debug)]
pub struct Readable {
    /// `"schema"."name"`.
    pub qualified: String,
    /// Quoted column names, in the order of the file.
    pub columns: Vec<String>,
    /// The database's own encoding: COPY then converts nothing.
    pub encoding: String,
    /// Whether plain `COPY relation` is allowed (not for materialised views
    /// before PostgreSQL 18).
    pub plain: bool,
    /// Whether there are TID range scans (PostgreSQL 14).
    pub tid_ranges: bool,
    /// The most line pointers of a page.
    pub tuples_max: u16,
    pub block_size: u32,
    /// Whether parts are read so that no statistics are looked up: for where
    /// those are damaged, and nothing else can be planned.
    pub past_statistics: bool,
    /// Whether the first column is the oid, which is a system column before
    /// PostgreSQL 12, and no part of a COPY that does not ask for it.
    pub oids: bool,
}

impl Readable {
    /// What bounds its reads.
    pub fn limits(&self) -> Limits {
        let blocks_per_read = (!self.tid_ranges).then_some(BLOCKS_PER_TID_ARRAY);
        Limits { tuples_max: self.tuples_max, blocks_per_read }
    }

    fn to_stdout(&self, what: &str) -> String {
        self.to_stdout_with("", what)
    }

    fn to_stdout_with(&self, options: &str, what: &str) -> String {
        format!("COPY {what} TO STDOUT ({options}ENCODING {})", literal(&self.encoding))
    }

    /// The same relation, read so that no statistics are looked up.
    pub fn past_statistics(&self) -> Self {
        Self { past_statistics: true, ..self.clone() }
    }

    fn select(&self, tagged: bool, condition: &str) -> String {
        self.select_these(tagged, &self.columns, condition, "")
    }

    /// `limit` is empty, or what follows everything else.
    fn select_these(
        &self,
        tagged: bool,
        columns: &[String],
        condition: &str,
        limit: &str,
    ) -> String {
        if self.past_statistics && tagged {
            let select = self.tagged_past_statistics(columns, condition);
            return self.to_stdout(&format!("({select}{limit})"));
        }
        let tag = tagged.then_some("ctid").into_iter();
        let list: Vec<&str> = tag.chain(columns.iter().map(String::as_str)).collect();
        let list = list.join(", ");
        let gap = if list.is_empty() { "" } else { " " };
        self.to_stdout(&format!(
            "(SELECT {list}{gap}FROM ONLY {}{condition}{limit})",
            self.qualified
        ))
    }

    /// The planner asks pg_statistic how wide a column is, but not an
    /// expression that an outer join may make null: so each column is one. The
    /// condition keeps the row of nulls out which the join makes of nothing; it
    /// is not one by which the planner would see that.
    fn tagged_past_statistics(&self, columns: &[String], condition: &str) -> String {
        let (mut outer, mut inner) = ("s.tid".to_owned(), "ctid AS tid".to_owned());
        for (i, column) in columns.iter().enumerate() {
            // Writing to a String cannot fail.
            let _ = write!(outer, ", s.c{i}");
            let _ = write!(inner, ", COALESCE({column}, {column}) AS c{i}");
        }
        format!(
            "SELECT {outer} FROM (SELECT 1) one LEFT JOIN (SELECT {inner} FROM ONLY {}{condition}) s \
             ON true WHERE CASE WHEN s.tid IS NULL THEN false ELSE true END",
            self.qualified
        )
    }

    /// All of it, in one go.
    pub fn whole(&self) -> String {
        if !self.plain {
            return self.select(false, "");
        }
        let (named, options) = match self.columns.as_slice() {
            [_, named @ ..] if self.oids => (named, "OIDS, "),
            named => (named, ""),
        };
        match named {
            // An empty list in parentheses is a syntax error.
            [] => self.to_stdout_with(options, &self.qualified),
            named => {
                let what = format!("{} ({})", self.qualified, named.join(", "));
                self.to_stdout_with(options, &what)
            }
        }
    }

    /// A part of it.
    pub fn part(&self, read: &Read) -> String {
        let tagged = !matches!(read, Read::Blocks { tagged: false, .. });
        self.select(tagged, &self.condition(read))
    }

    /// Which tuples a read is of.
    fn condition(&self, read: &Read) -> String {
        match *read {
            Read::Blocks { range: BlockRange { start, end }, .. } if self.tid_ranges => {
                format!(" WHERE ctid >= '({start},0)' AND ctid < '({end},0)'")
            }
            Read::Blocks { range, .. } => format!(
                " WHERE ctid = ANY (ARRAY(SELECT pg_catalog.format('(%s,%s)', b, o)::pg_catalog.tid \
                 FROM pg_catalog.generate_series({}::bigint, {}) b, \
                 pg_catalog.generate_series(1, {}) o))",
                range.start,
                u64::from(range.end).saturating_sub(1),
                self.tuples_max
            ),
            Read::Tuples { block, first, last } => {
                let tuples: Vec<Ctid> = (first..=last).map(|o| Ctid::new(block, o)).collect();
                format!(" WHERE ctid = ANY ('{}')", tid_array(&tuples))
            }
        }
    }

    /// The first rows of a range of blocks, tagged; none where ranges cannot be
    /// scanned. No block after that of the last row is looked at.
    pub fn first_rows(&self, range: BlockRange, rows: u64) -> Option<String> {
        let limit = format!(" LIMIT {rows}");
        let BlockRange { start, end } = range;
        match start {
            _ if self.tid_ranges => {
                let place = format!(" WHERE ctid >= '({start},0)' AND ctid < '({end},0)'");
                Some(self.select_these(true, &self.columns, &place, &limit))
            }
            0 => Some(self.select_these(true, &self.columns, "", &limit)),
            _ => None,
        }
    }

    /// Some columns (half-open) of one tuple, tagged.
    pub fn columns_of(&self, at: Ctid, columns: std::ops::Range<usize>) -> String {
        let columns = self.columns.get(columns).unwrap_or_default();
        self.select_these(true, columns, &format!(" WHERE ctid = '{at}'"), "")
    }

    /// One column of some tuples, tagged.
    pub fn column_of(&self, tuples: &[Ctid], column: usize) -> String {
        let columns = self.columns.get(column..=column).unwrap_or_default();
        let condition = format!(" WHERE ctid = ANY ('{}')", tid_array(tuples));
        self.select_these(true, columns, &condition, "")
    }

    /// Of a TOAST relation: number and data of the chunks of a value that are at
    /// these places.
    pub fn chunks_at(&self, value_id: u32, tuples: &[Ctid]) -> String {
        let columns = ["chunk_seq", "chunk_data"].map(str::to_owned);
        let condition =
            format!(" WHERE ctid = ANY ('{}') AND chunk_id = {value_id}", tid_array(tuples));
        self.select_these(false, &columns, &condition, "")
    }

    /// The most bytes of a chunk: 1,996 at 8 kB (`TOAST_MAX_CHUNK_SIZE`,
    /// `heaptoast.h`): four of them with their headers fill a page.
    pub fn toast_chunk_max(&self) -> u32 {
        let room = self.block_size.saturating_sub(40) / 4;
        (room / 8 * 8).saturating_sub(24 + 4 + 4 + 4).max(1)
    }

    /// Reads nothing, but the type of this column must be one that can be sent.
    pub fn column_probe(&self, column: usize) -> String {
        self.columns_of(Ctid::start_of(0), column..column + 1)
    }

    /// A part of it, some columns apart: of those in `stored`, first the stored
    /// size, and the value only if that is at most `inline_max`; of those in
    /// `never`, NULL. Tagged.
    pub fn part_apart(
        &self,
        read: &Read,
        stored: &BTreeSet<usize>,
        never: &BTreeSet<usize>,
        inline_max: u64,
    ) -> String {
        let size = |i: &usize| format!("pg_catalog.pg_column_size({})", self.columns[*i]);
        let value = |(i, c): (usize, &String)| match (never.contains(&i), stored.contains(&i)) {
            (true, _) => "NULL".to_owned(),
            (_, true) => format!("CASE WHEN {} <= {inline_max} THEN {c} END", size(&i)),
            _ => c.clone(),
        };
        let sizes = stored.iter().map(size);
        let columns: Vec<String> =
            sizes.chain(self.columns.iter().enumerate().map(value)).collect();
        self.select_these(true, &columns, &self.condition(read), "")
    }

    /// The place of the row that follows so many rows of a range of blocks; none
    /// where ranges cannot be scanned. No column is looked at.
    pub fn place_after(&self, range: BlockRange, rows: u64) -> Option<String> {
        let (name, BlockRange { start, end }) = (&self.qualified, range);
        self.tid_ranges.then(|| {
            format!(
                "SELECT ctid FROM ONLY {name} WHERE ctid >= '({start},0)' AND ctid < '({end},0)' \
                 OFFSET {rows} LIMIT 1"
            )
        })
    }

    /// How many rows come before a place in its block.
    pub fn rows_before(&self, at: Ctid) -> String {
        let (name, start) = (&self.qualified, Ctid::start_of(at.block));
        format!(
            "SELECT pg_catalog.count(*) FROM ONLY {name} WHERE ctid >= '{start}' AND ctid < '{at}'"
        )
    }

    /// Reads nothing, but must be planned: fails where nothing can be.
    pub fn probe(&self) -> String {
        self.select(true, " WHERE ctid = '(0,0)'")
    }

    /// Has the page of a block taken into the server's cache, whatever its
    /// checksum: nothing else is read while that is ignored. It is planned before,
    /// and no tuple is looked at: a page has less than so many.
    pub fn load(&self, block: BlockNumber) -> String {
        format!(
            "DECLARE page NO SCROLL CURSOR FOR SELECT FROM ONLY {} WHERE ctid = '{}'; \
             SET LOCAL ignore_checksum_failure TO on; FETCH page; \
             SET LOCAL ignore_checksum_failure TO off; CLOSE page",
            self.qualified,
            Ctid::new(block, OffsetNumber::MAX)
        )
    }

    /// The sizes of columns of a tuple as stored; with `tells`, which takes
    /// PostgreSQL 17, negative where a value is known to lie in TOAST.
    pub fn stored_sizes(&self, at: Ctid, columns: std::ops::Range<usize>, tells: bool) -> String {
        let columns = self.columns.get(columns).unwrap_or_default().iter();
        let size = |c: &String| match tells {
            true => format!(
                "CASE WHEN pg_catalog.pg_column_toast_chunk_id({c}) IS NULL THEN 1 ELSE -1 END \
                 * pg_catalog.pg_column_size({c})"
            ),
            false => format!("pg_catalog.pg_column_size({c})"),
        };
        let sizes: Vec<String> = columns.map(size).collect();
        format!("SELECT {} FROM ONLY {} WHERE ctid = '{at}'", sizes.join(", "), self.qualified)
    }

    /// One column of a tuple, in binary form.
    pub fn binary_column(&self, at: Ctid, column: usize) -> String {
        let column = self.columns.get(column).map_or("NULL", String::as_str);
        format!(
            "COPY (SELECT {column} FROM ONLY {} WHERE ctid = '{at}') TO STDOUT (FORMAT binary)",
            self.qualified
        )
    }

    /// What the server has in memory of a value, without asking for it: the xmin
    /// of its tuple, its stored size and, since 17, the OID of its TOAST value.
    /// Past the statistics.
    pub fn stored_as(&self, at: Ctid, column: usize, tells: bool) -> String {
        let column = self.columns.get(column).map_or("NULL", String::as_str);
        let value = match tells {
            true => format!(", pg_catalog.pg_column_toast_chunk_id({column}) AS value"),
            false => String::new(),
        };
        format!(
            "SELECT s.* FROM (SELECT 1) one LEFT JOIN \
             (SELECT xmin, pg_catalog.pg_column_size({column}) AS size{value} FROM ONLY {} \
             WHERE ctid = '{at}') s ON true",
            self.qualified
        )
    }

    /// Whether a value of these columns of a tuple is too large to be in the heap
    /// itself: one number, their largest stored size. Past the statistics.
    pub fn stored_size_max(&self, at: Ctid, columns: std::ops::Range<usize>) -> String {
        let columns = self.columns.get(columns).unwrap_or_default().iter();
        let sizes: Vec<String> =
            columns.map(|c| format!("pg_catalog.pg_column_size({c})")).collect();
        format!(
            "SELECT s.size FROM (SELECT 1) one LEFT JOIN \
             (SELECT GREATEST(0, {}) AS size FROM ONLY {} WHERE ctid = '{at}') s ON true",
            sizes.join(", "),
            self.qualified
        )
    }
}

/// A literal of type tid[], without its quotes.
fn tid_array(tuples: &[Ctid]) -> String {
    let tuples: Vec<String> = tuples.iter().map(|t| format!("\"{t}\"")).collect();
    format!("{{{}}}", tuples.join(","))
}

/// Settings that decide how values and names are written, and what a row is: a
/// dump is read as it was written, so both have these.
pub(super) const AS_DUMPED: &[(&str, &str)] = &[
    ("search_path", ""),
    ("standard_conforming_strings", "on"),
    ("DateStyle", "ISO, MDY"),
    ("IntervalStyle", "postgres"),
    ("TimeZone", "UTC"),
    ("extra_float_digits", "3"),
    ("bytea_output", "hex"),
    ("xmloption", "content"),
    // What regclass and its like print.
    ("quote_all_identifiers", "off"),
    ("row_security", "off"),
    ("synchronize_seqscans", "off"),
    ("idle_in_transaction_session_timeout", "0"),
];

/// Settings that decide how it is read, on every server.
const PINNED: &[(&str, &str)] = &[
    ("max_parallel_workers_per_gather", "0"),
    ("jit", "off"),
    // Only sequential and TID scans: whatever is planned, it goes by the heap.
    ("enable_seqscan", "off"),
    ("enable_indexscan", "off"),
    ("enable_indexonlyscan", "off"),
    ("enable_bitmapscan", "off"),
    ("enable_tidscan", "on"),
];

/// Settings that exist since a version.
const PINNED_SINCE: &[(u32, &str, &str)] = &[
    (170_000, "transaction_timeout", "0"),
    (140_000, "idle_session_timeout", "0"),
    // A read that fails then says which block it was, and nothing before it is
    // lost with it.
    (170_000, "io_combine_limit", "1"),
];

/// The settings of every session, in one go.
pub fn pin(version: u32, statement_timeout_ms: u64, lock_timeout_ms: u64) -> String {
    let since = PINNED_SINCE.iter().filter(|(v, _, _)| version >= *v).map(|(_, n, s)| (*n, *s));
    let debug = if version >= 160_000 { "debug_parallel_query" } else { "force_parallel_mode" };
    // First the timeouts: the role's or the database's may be short.
    let mut sql = format!(
        "SET statement_timeout TO {statement_timeout_ms}; SET lock_timeout TO {lock_timeout_ms}"
    );
    for (name, value) in
        since.chain(AS_DUMPED.iter().chain(PINNED).copied()).chain([(debug, "off")])
    {
        if name == "jit" && version < 110_000 {
            continue;
        }
        // Writing to a String cannot fail.
        let _ = write!(sql, "; SET {name} TO {}", literal(value));
    }
    sql
}

/// Settings that not every server has, or not everyone may set: each alone, and
/// whether it worked is not asked.
pub const PINNED_IF_POSSIBLE: &[&str] = &[
    "SET lc_messages TO 'C'",
    // Against a table swapped for a view under our eyes, as pg_dump does.
    "SET restrict_nonsystem_relation_kind TO 'view, foreign-table'",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn hostile() -> Readable {
        Readable {
            qualified: format!("{}.{}", ident("a\"b"), ident("../x")),
            columns: vec![ident("id"), ident("Ünïcode, \"q\"")],
            encoding: "UTF8".to_owned(),
            plain: true,
            tid_ranges: true,
            tuples_max: 291,
            block_size: 8192,
            past_statistics: false,
            oids: false,
        }
    }

    #[test]
    fn names_are_quoted_in_every_statement() {
        let r = hostile();
        assert_eq!(
            r.whole(),
            r#"COPY "a""b"."../x" ("id", "Ünïcode, ""q""") TO STDOUT (ENCODING 'UTF8')"#
        );
        let blocks = Read::Blocks { range: BlockRange::new(3, 9), tagged: true };
        assert_eq!(
            r.part(&blocks),
            r#"COPY (SELECT ctid, "id", "Ünïcode, ""q""" FROM ONLY "a""b"."../x" WHERE ctid >= '(3,0)' AND ctid < '(9,0)') TO STDOUT (ENCODING 'UTF8')"#
        );
        assert_eq!(
            r.part(&Read::Tuples { block: 3, first: 1, last: 2 }),
            r#"COPY (SELECT ctid, "id", "Ünïcode, ""q""" FROM ONLY "a""b"."../x" WHERE ctid = ANY ('{"(3,1)","(3,2)"}')) TO STDOUT (ENCODING 'UTF8')"#
        );
        assert_eq!(
            r.first_rows(BlockRange::new(3, 9), 7).unwrap(),
            r#"COPY (SELECT ctid, "id", "Ünïcode, ""q""" FROM ONLY "a""b"."../x" WHERE ctid >= '(3,0)' AND ctid < '(9,0)' LIMIT 7) TO STDOUT (ENCODING 'UTF8')"#
        );
        assert_eq!(r.toast_chunk_max(), 1996);
        assert!(r.stored_size_max(Ctid::new(3, 1), 0..2).contains("WHERE ctid = '(3,1)'"));
        assert_eq!(
            r.past_statistics().part(&Read::Tuples { block: 3, first: 1, last: 2 }),
            r#"COPY (SELECT s.tid, s.c0, s.c1 FROM (SELECT 1) one LEFT JOIN (SELECT ctid AS tid, COALESCE("id", "id") AS c0, COALESCE("Ünïcode, ""q""", "Ünïcode, ""q""") AS c1 FROM ONLY "a""b"."../x" WHERE ctid = ANY ('{"(3,1)","(3,2)"}')) s ON true WHERE CASE WHEN s.tid IS NULL THEN false ELSE true END) TO STDOUT (ENCODING 'UTF8')"#
        );
        assert!(
            r.past_statistics()
                .first_rows(BlockRange::new(3, 9), 7)
                .unwrap()
                .contains("ELSE true END LIMIT 7)")
        );
    }

    #[test]
    fn a_relation_without_columns_can_be_read() {
        let r = Readable { columns: Vec::new(), ..hostile() };
        assert_eq!(r.whole(), r#"COPY "a""b"."../x" TO STDOUT (ENCODING 'UTF8')"#);
        let untagged = Read::Blocks { range: BlockRange::new(0, 1), tagged: false };
        assert_eq!(
            r.part(&untagged),
            r#"COPY (SELECT FROM ONLY "a""b"."../x" WHERE ctid >= '(0,0)' AND ctid < '(1,0)') TO STDOUT (ENCODING 'UTF8')"#
        );
    }

    #[test]
    fn oids_that_are_a_system_column_come_first() {
        let oid = Readable { columns: vec![ident("oid")], oids: true, ..hostile() };
        let more = Readable { columns: vec![ident("oid"), ident("id")], ..oid.clone() };
        assert_eq!(more.whole(), r#"COPY "a""b"."../x" ("id") TO STDOUT (OIDS, ENCODING 'UTF8')"#);
        assert_eq!(oid.whole(), r#"COPY "a""b"."../x" TO STDOUT (OIDS, ENCODING 'UTF8')"#);
        assert!(more.probe().starts_with(r#"COPY (SELECT ctid, "oid", "id" FROM"#));
    }

    #[test]
    fn settings_are_those_that_the_version_has() {
        assert!(pin(150_018, 0, 10_000).contains("force_parallel_mode"));
        assert!(!pin(150_018, 0, 10_000).contains("io_combine_limit"));
        assert!(pin(180_004, 0, 10_000).contains("SET io_combine_limit TO '1'"));
        assert!(
            pin(180_004, 5, 7).starts_with("SET statement_timeout TO 5; SET lock_timeout TO 7; ")
        );
    }
}
