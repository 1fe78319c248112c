//! From the lines of a log to its entries: stderr with whatever
//! `log_line_prefix`, csvlog, jsonlog, the error text of a client program, and
//! bare messages; all of them mixed, too.
//!
//! Line by line, in bounded memory, on any bytes: what is not understood is
//! passed over.

use super::record::{self, Record};
use super::{json, pattern, wording};
use regex::bytes::Regex;
use std::sync::LazyLock;

/// So much is kept of a message, a detail or a context: those of damage are short.
const TEXT_MAX: usize = 2000;

/// So much is looked at for where in a line a message may begin: prefixes are
/// short, but may have a long application_name in them.
const PREFIX_MAX: usize = 1000;

/// At so many places of a line without a severity it may begin.
const STARTS_MAX: usize = 8;

/// What was logged once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Entry {
    /// As it is written; sorts as text, as long as the zone stays the same.
    pub(super) time: Option<String>,
    pub(super) pid: Option<u32>,
    pub(super) database: Option<String>,
    pub(super) sqlstate: Option<String>,
    pub(super) message: Vec<u8>,
    pub(super) detail: Vec<u8>,
    pub(super) context: Vec<u8>,
}

/// Takes lines in, and gives entries.
#[derive(Default)]
pub(super) struct Entries {
    /// Of stderr, to which details may still come.
    open: Option<Entry>,
    record: Option<Record>,
}

impl Entries {
    /// `line` may be cut off, and has no line end. What is complete by it goes to
    /// `sink`.
    pub(super) fn take(&mut self, line: &[u8], sink: &mut impl FnMut(Entry)) {
        if let Some(record) = &mut self.record {
            if !record::begins(line) {
                if record.add(line) {
                    self.end_record(sink);
                }
                return;
            }
            // What was open was torn off.
            self.end_record(sink);
        }
        if record::begins(line) {
            self.flush(sink);
            let record = Record::new(line);
            let is_complete = record.is_complete();
            self.record = Some(record);
            if is_complete {
                self.end_record(sink);
            }
        } else if line.starts_with(b"{\"") {
            self.json(line, sink);
        } else {
            self.plain(line, sink);
        }
    }

    /// Behind the last line.
    pub(super) fn end(&mut self, sink: &mut impl FnMut(Entry)) {
        self.end_record(sink);
        self.flush(sink);
    }

    fn flush(&mut self, sink: &mut impl FnMut(Entry)) {
        if let Some(entry) = self.open.take() {
            sink(entry);
        }
    }

    fn end_record(&mut self, sink: &mut impl FnMut(Entry)) {
        let Some(record) = self.record.take() else { return };
        let fields = record.fields();
        let field = |n: usize| fields.get(n).map(Vec::as_slice).unwrap_or_default();
        sink(Entry {
            time: text(field(0)),
            pid: number(field(3)),
            database: text(field(2)),
            sqlstate: text(field(12)),
            message: cut(field(13)),
            detail: cut(field(14)),
            context: cut(field(18)),
        });
    }

    fn json(&mut self, line: &[u8], sink: &mut impl FnMut(Entry)) {
        let found = json::values(line);
        let get = |names: &[&str]| {
            found
                .iter()
                .find(|(n, _)| names.contains(n))
                .map(|(_, v)| v.as_slice())
                .unwrap_or_default()
        };
        // Of a container: the line is inside.
        let inside = get(&["log"]);
        if get(&["message"]).is_empty() && !inside.is_empty() {
            let inside = inside.to_vec();
            return self.plain(inside.strip_suffix(b"\n").unwrap_or(&inside), sink);
        }
        self.flush(sink);
        sink(Entry {
            time: text(get(&["timestamp", "log_time"])),
            pid: number(get(&["pid", "process_id"])),
            database: text(get(&["dbname", "database_name"])),
            sqlstate: text(get(&["state_code", "sql_state_code"])),
            message: cut(get(&["message"])),
            detail: cut(get(&["detail"])),
            context: cut(get(&["context"])),
        });
    }

    fn plain(&mut self, line: &[u8], sink: &mut impl FnMut(Entry)) {
        static SEVERITY: LazyLock<Regex> = LazyLock::new(|| {
            pattern(
                r"(?:^|[^A-Za-z_])(?P<s>DEBUG[1-5]?|LOG|INFO|NOTICE|WARNING|ERROR|FATAL|PANIC|DETAIL|HINT|QUERY|CONTEXT|STATEMENT|LOCATION|BACKTRACE): {1,2}",
            )
        });
        // A message goes on.
        if line.starts_with(b"\t") {
            return;
        }
        let head = &line[..line.len().min(PREFIX_MAX)];
        let Some(found) = SEVERITY.captures(head) else {
            return self.without_severity(line, sink);
        };
        let (Some(all), Some(severity)) = (found.get(0), found.name("s")) else { return };
        let message = line.get(all.end()..).unwrap_or_default();
        match (severity.as_bytes(), &mut self.open) {
            (b"DETAIL", Some(open)) => open.detail = cut(message),
            (b"CONTEXT", Some(open)) => open.context = cut(message),
            (
                b"DETAIL" | b"HINT" | b"QUERY" | b"CONTEXT" | b"STATEMENT" | b"LOCATION"
                | b"BACKTRACE",
                _,
            ) => {}
            _ => {
                self.flush(sink);
                let prefix = head.get(..severity.start()).unwrap_or_default();
                self.open = Some(Entry { message: cut(message), ..prefixed(prefix) });
            }
        }
    }

    /// A bare message, or one behind the words of a client library.
    fn without_severity(&mut self, line: &[u8], sink: &mut impl FnMut(Entry)) {
        let head = &line[..line.len().min(PREFIX_MAX)];
        let behind =
            head.windows(2).enumerate().filter(|(_, two)| *two == b": ").map(|(i, _)| i + 2);
        for start in std::iter::once(0).chain(behind).take(STARTS_MAX) {
            let message = line.get(start..).unwrap_or_default();
            if wording::saying(message).is_some() {
                self.flush(sink);
                let prefix = prefixed(head.get(..start).unwrap_or_default());
                self.open = Some(Entry { message: cut(message), ..prefix });
                return;
            }
        }
    }
}

/// What the prefix of a line tells, whatever `log_line_prefix` is.
fn prefixed(prefix: &[u8]) -> Entry {
    static TIME: LazyLock<Regex> = LazyLock::new(|| {
        pattern(
            r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(?:[.,]\d{1,9})?(?:Z| ?[+-]\d\d(?::?\d\d)?| [A-Z]{2,5}\b)?|\b\d{10}\.\d{3}\b|\b[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d",
        )
    });
    static PID: LazyLock<Regex> =
        LazyLock::new(|| pattern(r"\[(\d{1,10})(?:-\d+)?\]|\bpid=(\d{1,10})"));
    static DATABASE: LazyLock<Regex> = LazyLock::new(|| {
        pattern(
            r#"\b(?:db|database|dbname)=([^\s,\]]{1,63})|[^\s@,=\[(]{1,63}@([^\s@:,\])]{1,63})"#,
        )
    });
    let either = |regex: &Regex| {
        let found = regex.captures(prefix)?;
        Some(found.get(1).or_else(|| found.get(2))?.as_bytes().to_vec())
    };
    Entry {
        time: TIME.find(prefix).and_then(|m| text(m.as_bytes())),
        pid: either(&PID).and_then(|pid| number(&pid)),
        database: either(&DATABASE).and_then(|db| text(&db)).filter(|db| db != "[unknown]"),
        ..Entry::default()
    }
}

fn cut(bytes: &[u8]) -> Vec<u8> {
    bytes[..bytes.len().min(TEXT_MAX)].to_vec()
}

fn text(bytes: &[u8]) -> Option<String> {
    let bytes = &bytes[..bytes.len().min(100)];
    (!bytes.is_empty()).then(|| String::from_utf8_lossy(bytes).into_owned())
}

fn number(bytes: &[u8]) -> Option<u32> {
    std::str::from_utf8(bytes).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(text: &str) -> Vec<Entry> {
        let (mut entries, mut found) = (Entries::default(), Vec::new());
        for line in text.lines() {
            entries.take(line.as_bytes(), &mut |entry| found.push(entry));
        }
        entries.end(&mut |entry| found.push(entry));
        found
    }

    #[test]
    fn whatever_the_prefix_the_message_is_found() {
        let message = "invalid page in block 3 of relation base/5/16389";
        for (prefix, time, pid, database) in [
            ("", None, None, None),
            (
                "2026-11-28 16:52:12.390 UTC [32678] ",
                Some("2026-11-28 16:52:12.390 UTC"),
                Some(32678),
                None,
            ),
            (
                "2026-11-28 16:52:12 CET [7] bob@shop ",
                Some("2026-11-28 16:52:12 CET"),
                Some(7),
                Some("shop"),
            ),
            (
                "2026-11-28 16:52:12 UTC:10.0.0.1(5432):bob@shop:[7]:",
                Some("2026-11-28 16:52:12 UTC"),
                Some(7),
                Some("shop"),
            ),
            (
                "1764348732.390 [7]: [3-1] user=bob,db=shop,app=x ",
                Some("1764348732.390"),
                Some(7),
                Some("shop"),
            ),
            ("Nov 28 16:52:12 host postgres[7]: [5-1] ", Some("Nov 28 16:52:12"), Some(7), None),
            ("pg_dump: error: Error message from server: ", None, None, None),
            ("psql:x.sql:12: ", None, None, None),
        ] {
            let found = entries(&format!(
                "{prefix}ERROR:  {message}\n{prefix}STATEMENT:  select 'ERROR:  {message}'"
            ));
            let [entry] = found.as_slice() else { panic!("{prefix}: {found:?}") };
            assert_eq!(entry.message, message.as_bytes(), "{prefix}");
            assert_eq!(
                (entry.time.as_deref(), entry.pid, entry.database.as_deref()),
                (time, pid, database),
                "{prefix}"
            );
        }
        for bare in
            ["", "psycopg2.errors.DataCorrupted: ", "org.postgresql.util.PSQLException: ERROR: "]
        {
            let found = entries(&format!("{bare}{message}"));
            assert_eq!(
                (found.len(), found[0].message.as_slice()),
                (1, message.as_bytes()),
                "{bare}"
            );
        }
    }

    #[test]
    fn details_belong_to_the_message_before_them_and_statements_to_none() {
        let found = entries(
            "[1] ERROR:  could not access status of transaction 7\n[1] DETAIL:  Could not open file\n\
             [1] CONTEXT:  while scanning\n[1] STATEMENT:  select\n\t'ERROR:  x'\n[2] LOG:  other\n",
        );
        assert_eq!(found.len(), 2);
        assert_eq!(
            (found[0].detail.as_slice(), found[0].context.as_slice()),
            (&b"Could not open file"[..], &b"while scanning"[..])
        );
    }

    #[test]
    fn csv_and_json_logs_give_the_same_entry() {
        let csv = "2026-11-28 16:52:14.307 UTC,\"bob\",\"shop\",317,\"[local]\",6b.13d,2,\"SELECT\",2026-11-28 16:52:14 UTC,2/2,0,ERROR,XX001,\"invalid page in block 101 of relation \"\"base/5/16384\"\"\",\"a\nb\",,,,\"c\",,,,,\"psql\"";
        let json = r#"{"timestamp":"2026-11-28 16:52:14.307 UTC","user":"bob","dbname":"shop","pid":317,"error_severity":"ERROR","state_code":"XX001","message":"invalid page in block 101 of relation \"base/5/16384\"","detail":"a\nb","context":"c"}"#;
        let (of_csv, of_json) = (entries(csv), entries(json));
        assert_eq!(of_csv, of_json);
        assert_eq!(of_csv[0].message, b"invalid page in block 101 of relation \"base/5/16384\"");
        assert_eq!((of_csv[0].pid, of_csv[0].database.as_deref()), (Some(317), Some("shop")));
        // A record that was torn off ends where the next begins.
        let torn = format!("{}\n{csv}", &csv[..160]);
        assert_eq!(entries(&torn).last(), of_csv.last());
        let docker = r#"{"log":"2026-11-28 16:52:14 UTC [3] ERROR:  x\n","stream":"stderr"}"#;
        assert_eq!(entries(docker)[0].message, b"x");
        let record = r#"{"level":"info","msg":"record","record":{"log_time":"t","process_id":"317","error_severity":"ERROR","sql_state_code":"XX001","message":"x"}}"#;
        assert_eq!(
            (entries(record)[0].message.as_slice(), entries(record)[0].pid),
            (&b"x"[..], Some(317))
        );
    }
}
