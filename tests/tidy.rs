//! Rules about the source that no compiler keeps: which module may name which,
//! what a file begins with, how long it may be, and what is not written at all.
//!
//! Read as text, line by line: comments count only where a rule says so.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The arrow of dependency: each module and all that it names. No module names
/// one that stands below it, so there is no circle.
const ARROW: &[(&str, &[&str])] = &[
    ("archive", &[]),
    ("heap", &[]),
    ("page", &[]),
    ("progress", &[]),
    ("output", &["archive", "heap"]),
    ("server", &["archive", "heap", "page"]),
    ("advice", &["output", "server"]),
    ("report", &["heap", "output"]),
    ("dump", &["heap", "output", "page", "progress", "server"]),
    ("run", &["advice", "archive", "dump", "heap", "output", "page", "progress", "server"]),
    ("list", &["report", "run", "server"]),
    ("compare", &["output", "report", "server"]),
    ("locate", &["advice", "report", "server"]),
    ("inspect", &["advice", "locate", "page", "server"]),
    ("restore", &["archive", "output", "progress", "report", "server"]),
    ("verify", &["advice", "heap", "output", "page", "progress", "report", "server"]),
    ("nightly", &["output", "progress", "report", "run", "server", "verify"]),
    (
        "cli",
        &[
            "compare", "inspect", "locate", "nightly", "output", "report", "restore", "run",
            "server", "verify",
        ],
    ),
    ("show", &["cli", "progress", "report"]),
];

/// Crates that live in a few modules only.
const AT_HOME: &[(&str, &[&str])] = &[
    ("tokio_postgres", &["server"]),
    ("postgres_openssl", &["server"]),
    ("openssl", &["server"]),
    ("async_compression", &["output"]),
    ("csv", &["output", "report"]),
    ("lz4_flex", &["page"]),
    ("pulp", &["page"]),
    ("xxhash_rust", &["output"]),
    ("clap", &["cli"]),
    ("clap_complete", &["cli"]),
    ("clap_mangen", &["cli"]),
    ("indicatif", &["show"]),
    ("tracing_subscriber", &["show"]),
];

/// Past this a file wants to be two. Tests in the file do not count.
const LINES_MAX: usize = 400;

/// Too long, and known to be.
const TO_BE_DIVIDED: &[&str] = &[];

struct Source {
    /// From the root of the project on.
    path: String,
    /// The first folder or file below src: `heap`, `run`, `main`; empty elsewhere.
    module: String,
    text: String,
}

impl Source {
    /// Without the tests in it, if any.
    fn program(&self) -> &str {
        self.text.split("\n#[cfg(test)]\nmod ").next().unwrap_or(&self.text)
    }

    /// Lines that are no comments, with their numbers.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = self.program().lines().enumerate().map(|(i, line)| (i + 1, line));
        lines.filter(|(_, line)| !line.trim_start().starts_with("//"))
    }

    fn is_test(&self) -> bool {
        !self.path.starts_with("src/") || self.path.ends_with("/tests.rs")
    }
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths = Vec::new();
    for folder in ["src", "tests", "examples", "benches"] {
        collect(&root.join(folder), &mut paths);
    }
    let source = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).expect("a source file");
        let path = path.strip_prefix(root).expect("below the root").to_string_lossy().into_owned();
        let below = path.strip_prefix("src/").unwrap_or_default();
        let module = below.split('/').next().unwrap_or_default().trim_end_matches(".rs").to_owned();
        Source { path, module, text }
    };
    let sources: Vec<Source> = paths.into_iter().map(source).collect();
    assert!(sources.len() > 50, "only {} files were found", sources.len());
    sources
}

fn collect(folder: &Path, paths: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect(&path, paths);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            paths.push(path);
        }
    }
}

/// Words of a line that stand right after `crate::` or `pg_salvage::`.
fn modules_named(line: &str) -> Vec<String> {
    let mut named = Vec::new();
    for prefix in ["crate::", "pg_salvage::"] {
        for (at, _) in line.match_indices(prefix) {
            let rest = &line[at + prefix.len()..];
            // use crate::{a, b::c};
            let list = rest.strip_prefix('{').unwrap_or(rest);
            let parts: Vec<&str> =
                if list.len() < rest.len() { list.split(", ").collect() } else { vec![rest] };
            let word = |part: &str| -> String {
                part.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect()
            };
            named.extend(parts.into_iter().map(word));
        }
    }
    named
}

fn assert_none(wrong: &[String], rule: &str) {
    assert!(wrong.is_empty(), "{rule}:\n{}", wrong.join("\n"));
}

#[test]
fn the_arrow_of_dependency_has_no_circle() {
    for (i, (module, named)) in ARROW.iter().enumerate() {
        for other in *named {
            let at = ARROW.iter().position(|(module, _)| module == other);
            assert!(
                at.is_some_and(|at| at < i),
                "{module} may not name {other}, which is below it"
            );
        }
    }
}

#[test]
fn modules_name_only_what_the_arrow_allows() {
    let mut wrong = Vec::new();
    for source in sources().iter().filter(|s| !s.module.is_empty()) {
        let (module, path) = (source.module.as_str(), &source.path);
        if matches!(module, "main" | "lib") {
            continue;
        }
        let Some((_, allowed)) = ARROW.iter().find(|(known, _)| *known == module) else {
            wrong.push(format!("{path}: module {module} is not in the table"));
            continue;
        };
        for (number, line) in source.code() {
            for named in modules_named(line) {
                if named != module && !allowed.contains(&named.as_str()) {
                    wrong.push(format!("{path}:{number}: {module} names {named}"));
                }
            }
        }
    }
    assert_none(&wrong, "a module may name only what stands above it in the table");
}

#[test]
fn the_table_has_nothing_that_is_not_there() {
    let sources = sources();
    let mut unused = BTreeSet::new();
    for (module, allowed) in ARROW {
        let own: Vec<&Source> = sources.iter().filter(|s| s.module == *module).collect();
        for other in *allowed {
            let is_named = |s: &&Source| {
                s.code().any(|(_, line)| modules_named(line).iter().any(|named| named == other))
            };
            // Pages are not looked at yet.
            if !own.iter().any(is_named) && *other != "page" {
                unused.insert(format!("{module} does not name {other}"));
            }
        }
    }
    // The arrow of the design that no code has walked yet.
    unused.remove("output does not name heap");
    assert_none(&unused.into_iter().collect::<Vec<_>>(), "the table allows what nobody does");
}

#[test]
fn each_crate_lives_in_its_module() {
    let mut wrong = Vec::new();
    for source in sources().iter().filter(|s| !s.module.is_empty()) {
        for (number, line) in source.code() {
            for (name, home) in AT_HOME {
                let named = line.match_indices(&format!("{name}::")).any(|(at, _)| {
                    !line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':')
                });
                let is_home = home.contains(&source.module.as_str())
                    || (*name == "clap" && source.module == "main");
                if named && !is_home {
                    wrong.push(format!("{}:{number}: {name}", source.path));
                }
            }
        }
    }
    assert_none(&wrong, "a crate is named outside of its module");
}

#[test]
fn only_the_binary_and_what_it_shows_print() {
    let mut wrong = Vec::new();
    for source in sources().iter().filter(|s| !matches!(s.module.as_str(), "" | "main" | "show")) {
        for (number, line) in source.code() {
            let prints =
                ["print!(", "println!(", "io::stdout(", "io::stderr(", "stdout()", "stderr()"];
            if prints.iter().any(|word| line.contains(word)) {
                wrong.push(format!("{}:{number}: {}", source.path, line.trim()));
            }
        }
    }
    assert_none(&wrong, "something is printed elsewhere than in main and show");
}

#[test]
fn every_file_says_what_it_is() {
    let begins = |source: &&Source| source.text.starts_with("//! ");
    let of_tests = |source: &&Source| source.path.ends_with("/tests.rs");
    let sources = sources();
    let silent = sources.iter().filter(|s| !begins(s) && !of_tests(s));
    let wrong: Vec<String> = silent.map(|s| s.path.clone()).collect();
    assert_none(&wrong, "a file begins with //! and what it is");
}

#[test]
fn no_file_is_too_long() {
    let mut wrong = Vec::new();
    for source in sources().iter().filter(|s| !s.path.ends_with("/tests.rs")) {
        let lines = source.program().lines().count();
        let is_known = TO_BE_DIVIDED.contains(&source.path.as_str());
        if is_known != (lines > LINES_MAX) {
            wrong.push(format!("{}: {lines} lines", source.path));
        }
    }
    assert_none(
        &wrong,
        "a file past 400 lines wants to be two (and one that is not, off the list)",
    );
}

#[test]
fn nothing_is_left_undone_or_skipped() {
    // In two, lest this file be its own finding.
    let words = [
        ["todo", "!("],
        ["unimplemented", "!("],
        ["dbg", "!("],
        ["#[", "ignore"],
        ["should_", "panic"],
    ];
    let mut wrong = Vec::new();
    for source in sources() {
        for (number, line) in source.text.lines().enumerate() {
            if words.iter().any(|word| line.contains(&word.concat())) {
                wrong.push(format!("{}:{}: {}", source.path, number + 1, line.trim()));
            }
        }
    }
    assert_none(&wrong, "something is left undone, or a test is skipped");
}

/// What an error means is decided in one place; connecting has errors of its
/// own.
#[test]
fn only_one_place_knows_sqlstates() {
    let is_sqlstate = |word: &str| {
        word.len() == 5
            && word.starts_with(|c: char| c.is_ascii_digit() || matches!(c, 'F' | 'H' | 'P' | 'X'))
            && word.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_uppercase())
            && word.bytes().any(|b| b.is_ascii_digit())
            // A size.
            && !word.ends_with("MB")
    };
    let mut wrong = Vec::new();
    for source in sources().iter().filter(|s| !s.module.is_empty() && !s.is_test()) {
        if source.path.starts_with("src/server/fault")
            || source.path.starts_with("src/server/connect/")
        {
            continue;
        }
        for (number, line) in source.code() {
            if line.split('"').skip(1).step_by(2).any(is_sqlstate) {
                wrong.push(format!("{}:{number}: {}", source.path, line.trim()));
            }
        }
    }
    assert_none(&wrong, "a SQLSTATE is named outside of src/server/fault.rs");
}
