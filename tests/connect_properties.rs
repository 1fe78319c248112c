//! Nothing that a user can type makes the reading of it panic.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use pg_salvage::server::connect::{ConnectArgs, Target};
use pg_salvage::server::pattern::Pattern;
use proptest::prelude::*;

/// Any text, and text made of the pieces that mean something.
fn text() -> impl Strategy<Value = String> {
    let pieces = prop::sample::select(vec![
        "host",
        "port",
        "=",
        " ",
        "'",
        "\\",
        ":",
        "/",
        "//",
        "?",
        "&",
        ",",
        "[",
        "]",
        "@",
        "%",
        "%2",
        "%41",
        "%00",
        "a",
        "é",
        "\n",
        "#",
        "*",
        "service",
        "user",
        "sslmode",
        "require",
        "postgresql://",
        "1",
        "\"",
        ".",
        "$",
        "(",
        "|",
        "{",
        "}",
        "+",
    ]);
    prop_oneof![
        any::<String>(),
        prop::collection::vec(pieces, 0..20).prop_map(|pieces| pieces.concat())
    ]
}

fn resolve(dbname: &str, env: &[(&str, &str)]) -> Result<Target, String> {
    let env = |name: &str| env.iter().find(|(n, _)| *n == name).map(|(_, v)| v.to_string());
    let args = ConnectArgs {
        dbname: Some(dbname.into()),
        user: Some("u".into()),
        ..ConnectArgs::default()
    };
    Target::resolve(&args, &env).map_err(|error| error.to_string())
}

proptest! {
    #[test]
    fn a_connection_string_is_read_or_refused(text in text()) {
        let _ = resolve(&text, &[]);
        let _ = resolve(&format!("postgresql://{text}"), &[]);
        let _ = resolve(&format!("user={text}"), &[]);
    }

    #[test]
    fn what_is_quoted_comes_out_as_it_was(name in "[^\0]+", host in "[a-z]{1,9}") {
        let quoted = name.replace('\\', "\\\\").replace('\'', "\\'");
        let target = resolve(&format!("dbname='{quoted}' host={host}"), &[]).unwrap();
        prop_assert_eq!(target.dbname(), name.as_str());
        let encoded: String = name.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let target = resolve(&format!("postgres://{host}/{encoded}"), &[]).unwrap();
        prop_assert_eq!(target.dbname(), name.as_str());
    }

    #[test]
    fn the_environment_and_the_files_are_read_or_refused(text in text()) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        fs::write(&path, format!("[s]\n{text}")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let file = path.to_string_lossy();
        let env = [("PGSERVICEFILE", &*file), ("PGSERVICE", "s"), ("PGPASSFILE", &*file), ("PGHOST", &*text)];
        let _ = resolve("d", &env);
        for name in ["PGPORT", "PGHOSTADDR", "PGSSLMODE", "PGCONNECT_TIMEOUT"] {
            let _ = resolve("d", &[(name, &text)]);
        }
    }

    #[test]
    fn a_pattern_is_read_or_refused_and_a_quoted_name_matches_itself(
        text in text(),
        schema in any::<Vec<u8>>(),
        name in any::<Vec<u8>>(),
    ) {
        for pattern in [Pattern::parse(&text), Pattern::parse_schema(&text)].into_iter().flatten() {
            let _ = pattern.matches_relation(&schema, &name) || pattern.matches_schema(&schema);
        }
        let itself = Pattern::parse(&format!("\"{}\"", text.replace('"', "\"\""))).unwrap();
        prop_assert!(itself.matches_relation(b"s", text.as_bytes()));
        prop_assert!(Pattern::parse("*").unwrap().matches_relation(b"s", &name));
    }
}
