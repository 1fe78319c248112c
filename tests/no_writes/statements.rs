//! Which statements are sent to a server that is read: the list, and the log of
//! the server to hold against it.

use regex::Regex;
use std::sync::LazyLock;

/// What a statement may look like, names and strings left out: nothing else is
/// sent. A SELECT writes only by the functions that it calls.
const STATEMENTS: &[&str] = &[
    r"SELECT .*",
    r"WITH heap AS \(SELECT .*",
    r"COPY ((pg_catalog\.)?pg_\w+|I\.I)( \([\w, ]+\))? TO STDOUT \((OIDS, )?ENCODING S\)",
    r"COPY \(SELECT .*\) TO STDOUT \((ENCODING S|FORMAT binary)\)",
    r"DECLARE page NO SCROLL CURSOR FOR SELECT .*",
    r"(FETCH|CLOSE) page",
    r"EXPLAIN SELECT .*",
    r"LOCK TABLE ONLY I\.I IN ACCESS SHARE MODE",
    r"SET( LOCAL)? \w+ TO .*",
    r"SET TRANSACTION SNAPSHOT S",
    r"SHOW \w+",
    r"BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY",
    r"SAVEPOINT \w+",
    r"(ROLLBACK TO|RELEASE) SAVEPOINT \w+",
    r"ROLLBACK",
];

/// What makes a SELECT write, or keeps others from writing.
const NEVER: &str = r"\b(INTO|UPDATE|SHARE|INSERT|DELETE|MERGE|CALL|DO|NEXTVAL|SETVAL)\b";

/// The functions that are called, all of `pg_catalog` (the search path has
/// nothing else) or of amcheck: none of them changes anything. `pg_export_snapshot` makes a small file that ends with its session.
const FUNCTIONS: &[&str] = &[
    "I.bt_index_check",
    "I.gin_index_check",
    "I.verify_heapam",
    "array_to_string",
    "count",
    "current_database",
    "current_setting",
    "decode",
    "encode",
    "format",
    "format_type",
    "generate_series",
    "has_function_privilege",
    "has_schema_privilege",
    "octet_length",
    "has_table_privilege",
    "pg_backend_pid",
    "pg_column_toast_chunk_id",
    "pg_column_size",
    "pg_control_checkpoint",
    "pg_control_system",
    "pg_current_snapshot",
    "pg_current_wal_insert_lsn",
    "pg_export_snapshot",
    "pg_get_constraintdef",
    "pg_get_expr",
    "pg_get_function_identity_arguments",
    "pg_get_functiondef",
    "pg_get_indexdef",
    "pg_get_partkeydef",
    "pg_get_ruledef",
    "pg_get_triggerdef",
    "pg_get_userbyid",
    "pg_get_viewdef",
    "pg_get_multixact_members",
    "pg_is_in_recovery",
    "pg_last_wal_replay_lsn",
    "pg_ls_dir",
    "pg_postmaster_start_time",
    "pg_read_binary_file",
    "pg_relation_filenode",
    "pg_relation_filepath",
    "pg_relation_size",
    "pg_sequence_last_value",
    "pg_size_bytes",
    "pg_stat_file",
    "pg_stat_get_activity",
    "pg_stat_get_db_stat_reset_time",
    "pg_stat_get_tuples_deleted",
    "pg_stat_get_tuples_inserted",
    "pg_stat_get_tuples_updated",
    "quote_ident",
    "quote_literal",
    "repeat",
    "string_agg",
    "substr",
    "sum",
    "to_char",
    "txid_current_snapshot",
    "txid_status",
    "unnest",
];

/// Words that stand before a parenthesis and are no functions.
const SYNTAX: &[&str] = &[
    "ALL", "AND", "ANY", "ARRAY", "AS", "COALESCE", "COPY", "EXISTS", "FROM", "GREATEST", "I",
    "I.I", "IN", "JOIN", "LATERAL", "LEAST", "OVER", "STDOUT", "THEN",
];

fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("a pattern")
}

/// Names and strings are taken out, so that nothing in them is taken for SQL.
pub(crate) fn without_names(sql: &str) -> String {
    static STRINGS: LazyLock<Regex> = LazyLock::new(|| pattern(r"'([^']|'')*'"));
    static NAMES: LazyLock<Regex> = LazyLock::new(|| pattern(r#""([^"]|"")*""#));
    NAMES.replace_all(&STRINGS.replace_all(sql, "S"), "I").into_owned()
}

/// What is wrong with a statement, or with one of several that are sent at once.
pub(crate) fn complaint(sql: &str) -> Option<String> {
    static SHAPES: LazyLock<Vec<Regex>> =
        LazyLock::new(|| STATEMENTS.iter().map(|s| pattern(&format!("(?s)^{s}$"))).collect());
    static WORDS: LazyLock<Regex> = LazyLock::new(|| pattern(&format!("(?i){NEVER}")));
    static CALLS: LazyLock<Regex> = LazyLock::new(|| pattern(r"([\w.]+)\s*\("));
    // COPY of a catalog names its columns in parentheses.
    static CATALOG: LazyLock<Regex> = LazyLock::new(|| pattern(r"^COPY (pg_catalog\.)?pg_\w+ \("));
    for statement in without_names(sql).split(';').map(str::trim).filter(|s| !s.is_empty()) {
        if !SHAPES.iter().any(|shape| shape.is_match(statement)) {
            return Some(format!("of no known kind: {statement}"));
        }
        let locks = statement.starts_with("LOCK TABLE");
        if let Some(word) = WORDS.find(statement).filter(|_| !locks) {
            return Some(format!("{}: {statement}", word.as_str()));
        }
        for call in CALLS.captures_iter(&CATALOG.replace(statement, "COPY (")) {
            let name = call[1].strip_prefix("pg_catalog.").unwrap_or(&call[1]);
            let known = FUNCTIONS.contains(&name) || SYNTAX.contains(&name);
            if !known {
                return Some(format!("calls {}: {statement}", &call[1]));
            }
        }
    }
    None
}

#[test]
fn a_statement_that_writes_would_be_noticed() {
    for sql in [
        "INSERT INTO t VALUES (1)",
        "SELECT * INTO x FROM t",
        "SELECT * FROM \"t\" FOR UPDATE",
        "SELECT pg_catalog.nextval('s')",
        "SELECT lo_unlink(1)",
        "SELECT 1; DROP TABLE t",
        "COPY \"s\".\"t\" FROM STDIN",
        "COPY \"s\".\"t\" TO PROGRAM 'x'",
        "LOCK TABLE ONLY \"s\".\"t\" IN SHARE MODE",
        "WITH x AS (DELETE FROM t RETURNING 1) SELECT 1",
        "CHECKPOINT",
        "EXPLAIN ANALYZE DELETE FROM t",
        "SELECT \"public\".bt_index_parent_check('7'::pg_catalog.regclass)",
    ] {
        assert!(complaint(sql).is_some(), "{sql}");
    }
    for sql in [
        "SELECT 1 FROM \"DELETE; it\"\"s\" WHERE x = 'INSERT; it''s'",
        "COPY \"s\".\"t\" (\"a\", \"b\") TO STDOUT (ENCODING 'UTF8')",
        "ROLLBACK TO SAVEPOINT reading; SAVEPOINT reading",
    ] {
        assert_eq!(complaint(sql), None, "{sql}");
    }
}

/// The statements in a part of the server's log: those that it logs as it gets
/// them, and those that it could not even parse.
pub(crate) fn statements(log: &str) -> Vec<String> {
    let begins = Regex::new(
        r"^\d{4}-\S+ \S+ \w+ \[\d+\] (?:LOG:  (?:statement|execute [^:]*)|STATEMENT): +(.*)$",
    )
    .expect("a pattern");
    let mut found: Vec<String> = Vec::new();
    let mut inside = false;
    for line in log.lines() {
        if let Some(statement) = begins.captures(line) {
            found.push(statement[1].to_owned());
            inside = true;
        } else if let (true, Some(more), Some(last)) =
            (inside, line.strip_prefix('\t'), found.last_mut())
        {
            last.push(' ');
            last.push_str(more);
        } else {
            inside = false;
        }
    }
    found
}
