//! Settings of roles and databases that change what comes out, how long it may
//! take, or how tables are read: a dump is not impressed.

use crate::binary::{Dump, truth};
use crate::kit::{Server, ServerOptions, Version, sample};

/// What every version has.
const HOSTILE: &[(&str, &str)] = &[
    // The output.
    ("bytea_output", "escape"),
    ("DateStyle", "German"),
    ("IntervalStyle", "sql_standard"),
    ("TimeZone", "Asia/Kathmandu"),
    ("extra_float_digits", "-15"),
    ("xmloption", "document"),
    ("client_encoding", "LATIN1"),
    ("quote_all_identifiers", "on"),
    ("standard_conforming_strings", "off"),
    ("backslash_quote", "off"),
    ("array_nulls", "off"),
    // What is seen.
    ("search_path", "hostile, pg_catalog"),
    ("row_security", "on"),
    ("zero_damaged_pages", "on"),
    ("ignore_checksum_failure", "on"),
    ("transform_null_equals", "on"),
    ("default_transaction_isolation", "serializable"),
    ("default_transaction_deferrable", "on"),
    ("default_transaction_read_only", "on"),
    // The order, and the way.
    ("synchronize_seqscans", "on"),
    ("enable_tidscan", "off"),
    ("enable_seqscan", "off"),
    ("max_parallel_workers_per_gather", "4"),
    ("parallel_setup_cost", "0"),
    ("parallel_tuple_cost", "0"),
    ("min_parallel_table_scan_size", "0"),
    ("cursor_tuple_fraction", "0"),
    ("work_mem", "64kB"),
    ("temp_file_limit", "0"),
    // How long.
    ("lock_timeout", "1ms"),
    ("idle_in_transaction_session_timeout", "200ms"),
    // What is said.
    ("lc_messages", "C"),
    ("client_min_messages", "debug5"),
    ("log_statement", "all"),
];

const SINCE: &[(u32, &str, &str)] = &[
    (11, "jit", "on"),
    (11, "jit_above_cost", "0"),
    (14, "idle_session_timeout", "200ms"),
    (17, "restrict_nonsystem_relation_kind", ""),
    (17, "io_combine_limit", "256kB"),
];

/// A function and a table that a hostile search_path finds first.
const TRAPS: &str = "CREATE SCHEMA hostile;
    CREATE TABLE hostile.pg_class (oid oid, relname name);
    CREATE FUNCTION hostile.pg_relation_size(oid, text) RETURNS bigint LANGUAGE sql AS 'SELECT (1 / 0)::bigint';
    CREATE FUNCTION hostile.format(text, bigint, bigint) RETURNS text LANGUAGE sql AS 'SELECT (1 / 0)::text'";

async fn hostile_server(version: &Version) -> Server {
    let server = Server::start(version, ServerOptions::checksums(true));
    sample::create(&server, "sample", 1).await;
    server.execute("sample", TRAPS).await;
    server
}

async fn set(server: &Server, whose: &str) {
    let since = SINCE.iter().filter(|s| s.0 <= server.version.major).map(|s| (s.1, s.2));
    let parallel =
        if server.version.major >= 16 { "debug_parallel_query" } else { "force_parallel_mode" };
    let mut sql = String::new();
    for (name, value) in HOSTILE.iter().copied().chain(since).chain([(parallel, "on")]) {
        sql.push_str(&format!(
            "ALTER {whose} SET {name} TO {value_sql};",
            value_sql = literals(name, value)
        ));
    }
    server.execute("postgres", &sql).await;
}

/// A list is a list of literals.
fn literals(name: &str, value: &str) -> String {
    let parts: Vec<&str> =
        if name == "search_path" { value.split(", ").collect() } else { vec![value] };
    parts.iter().map(|part| format!("'{part}'")).collect::<Vec<_>>().join(", ")
}

#[tokio::test]
async fn settings_of_the_role_and_the_database_change_nothing() {
    for version in [crate::kit::Version::one_or_two(), Version::between(10, 10)].concat() {
        let server = hostile_server(&version).await;
        let truth = truth::of(&server, "sample").await;
        for whose in ["DATABASE sample", "ROLE postgres IN DATABASE sample"] {
            set(&server, whose).await;
            for options in [&["-j2"][..], &["-j2", "--split-size=64kB"]] {
                let mut dump = Dump::of(&server, "sample", options);
                dump.case = format!("{}, ALTER {whose} SET", dump.case);
                dump.assert_clean();
                dump.assert_equals(&truth).await;
            }
        }
    }
}

/// The time in which a session has not yet said what it wants: nothing that it
/// sends then may need more time than it has.
#[tokio::test]
async fn a_millisecond_for_each_statement_is_no_trouble() {
    for version in crate::kit::Version::one_or_two() {
        let server = hostile_server(&version).await;
        let truth = truth::of(&server, "sample").await;
        let mut sql = String::from("ALTER ROLE postgres SET statement_timeout TO '1ms';");
        if version.major >= 17 {
            sql.push_str("ALTER ROLE postgres SET transaction_timeout TO '20ms';");
        }
        server.execute("postgres", &sql).await;
        for _ in 0..5 {
            let dump = Dump::of(&server, "sample", &["-j4", "--split-size=64kB"]);
            dump.assert_clean();
            dump.assert_equals(&truth).await;
        }
    }
}

/// An ordinary role cannot turn these off: it is said, and the rows are the
/// same.
#[tokio::test]
async fn settings_that_hide_damage_and_stay_on_are_said() {
    for version in crate::kit::Version::one_or_two() {
        let server = hostile_server(&version).await;
        let truth = truth::of(&server, "sample").await;
        let sql = "CREATE ROLE reader LOGIN BYPASSRLS; GRANT pg_read_all_data TO reader;
            ALTER ROLE reader SET zero_damaged_pages TO on";
        server.execute("sample", sql).await;
        let dump = Dump::as_user(&server, "reader", "sample", &["-j2"]);
        dump.assert_equals(&truth).await;
        let warning = "zero_damaged_pages is on and could not be turned off: damage may be hidden";
        assert_eq!(dump.manifest.warnings, [warning], "{}", dump.case);
        assert!(dump.ran.stdout.contains(&format!("WARNING: {warning}\n")), "{}", dump.case);
    }
}
