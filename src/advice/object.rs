//! The smallest safe next step for an object in which the server met damage, and
//! what comes before any step.

/// Since this version an index can be made anew while others write.
const REINDEX_CONCURRENTLY: u32 = 120_000;

/// From so many relations on the storage itself is suspected.
const MANY: usize = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Object {
    /// A table, a materialised view, or what is not known better.
    Heap,
    Toast,
    Index,
    /// Of a TOAST relation, of a table of the user's.
    ToastIndex,
    CatalogIndex,
    /// An index of an exclusion constraint.
    ExclusionIndex,
    Catalog,
    /// `pg_statistic`, its TOAST relation and their indexes.
    Statistic,
    Sequence,
    /// A free space map or a visibility map.
    Map,
    /// What an unlogged relation is made of after a crash.
    Init,
    Temporary,
    /// `pg_xact`, `pg_multixact` and their kin.
    TransactionStatus,
    Wal,
    Crash,
    /// A process was killed from outside: memory.
    Killed,
    /// An impossible length: a row, or a large value that is well.
    Length,
    /// Nothing says what it is.
    Unknown,
}

/// One that is damaged. Names are as SQL needs them.
#[derive(Clone, Copy, Debug)]
pub struct Damaged<'a> {
    pub object: Object,
    pub name: Option<&'a str>,
    /// The table that it belongs to, or that it is.
    pub table: Option<&'a str>,
    pub database: Option<&'a str>,
    /// Of the server, if it was asked.
    pub version: Option<u32>,
}

/// One thing to do, in words, and as what would be typed: SQL, or a command.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Step {
    pub text: String,
    pub sql: Vec<String>,
    pub shell: Vec<String>,
}

impl Step {
    pub(super) fn of(text: impl Into<String>) -> Self {
        Self { text: text.into(), ..Self::default() }
    }

    fn sql(mut self, statement: Option<String>) -> Self {
        self.sql.extend(statement);
        self
    }

    fn shell(mut self, command: Option<String>) -> Self {
        self.shell.extend(command);
        self
    }
}

/// What comes before anything is done about any object. `relations`: how many are
/// damaged; `fails`: whether the storage has failed to read or to write.
pub fn first_steps(relations: usize, fails: bool) -> Vec<String> {
    let mut steps = vec![
        "contain: keep writers away, stop nightly jobs, and keep every backup that there is; run no \
         VACUUM, no pg_resetwal and no zero_damaged_pages on the only copy"
            .to_owned(),
        "copy the files first: stop the server, copy the whole data directory with its tablespaces, \
         and work on the copy"
            .to_owned(),
        "look for a healthy standby, or restore a backup elsewhere and roll it forward: where one \
         has the data, failing over to it beats any repair"
            .to_owned(),
    ];
    if fails || relations >= MANY {
        steps.insert(
            1,
            format!(
                "suspect the storage: {}; look into the kernel's log (dmesg), at the disks \
                 (smartctl -a), the controller and the memory, and move to other hardware before \
                 anything is repaired",
                if fails {
                    "it failed to read or to write"
                } else {
                    "several relations are damaged"
                }
            ),
        );
    }
    steps
}

/// The steps for one object, the first thing first.
pub fn steps(damaged: &Damaged<'_>) -> Vec<Step> {
    let name = damaged.name.unwrap_or("it");
    match damaged.object {
        Object::Index => vec![
            verify(damaged, "make sure that the table itself can be read: an index is made of it"),
            Step::of(format!("then make the index {name} anew: nothing is in it that the table has not"))
                .sql(reindex(damaged, true)),
            Step::of(
                "if that fails, the table is damaged, too: drop the invalid index that is left (its \
                 name ends in _ccnew), and see to the table first",
            ),
        ],
        Object::ExclusionIndex | Object::CatalogIndex => vec![
            verify(damaged, "make sure that the table itself can be read: an index is made of it"),
            Step::of(format!(
                "then make the index {name} anew; for this one that locks its table meanwhile"
            ))
            .sql(reindex(damaged, false)),
        ],
        Object::ToastIndex => vec![
            dump(damaged, "save the table first: a superuser gets values past this index"),
            Step::of(format!("then make the TOAST index {name} anew: no value is lost by that"))
                .sql(reindex(damaged, true)),
        ],
        Object::Heap => heap(damaged),
        Object::Toast => toast(damaged),
        Object::Statistic => statistic(damaged),
        Object::Catalog => vec![Step::of(
            "a system catalog is not repaired by hand: dump what can be read, then restore a backup, \
             or the dump into a new cluster",
        )
        .shell(command("dump", damaged, false))],
        Object::Sequence => vec![
            dump(damaged, "a dump derives its value from the columns that it feeds"),
            Step::of(
                "then set it: to the highest value in use, and some more, with setval; if it cannot \
                 be read at all, drop and create it",
            ),
        ],
        Object::Map => vec![
            Step::of(
                "no row is in it: the server takes a damaged page of it for an empty one, and a \
                 VACUUM of the table writes it anew, on a server whose heap is known to be well",
            )
            .sql(damaged.table.map(|table| format!("VACUUM (DISABLE_PAGE_SKIPPING) {table};"))),
        ],
        Object::Init => vec![Step::of(
            "save the unlogged table before the server is stopped or crashes: from this file it is \
             made anew then",
        )
        .shell(command("dump", damaged, true))],
        Object::Temporary => vec![Step::of(
            "it belongs to one session, and is gone when that ends: end the session; suspect the \
             storage all the same",
        )],
        object => of_cluster(object, damaged),
    }
}

/// Of what is no single relation.
fn of_cluster(object: Object, damaged: &Damaged<'_>) -> Vec<Step> {
    match object {
        Object::TransactionStatus => vec![Step::of(
            "stop writes; suspect the storage; restore a backup to a point in time before the damage \
             (PITR). Do not make the missing file of zeros or ones: whole transactions would come \
             or go. If there is no backup, dump on a copy: rows that need it are named one by one",
        )
        .shell(command("dump", damaged, false))],
        Object::Wal => vec![Step::of(
            "restore a backup and its WAL. pg_resetwal is the last resort, on a copy only: it throws \
             away what was not yet in the files. In a restored backup look whether backup_label is \
             there",
        )],
        Object::Crash => vec![
            Step::of(
                "find the row: keep the statement that the log names, and do not run it again on \
                 this server; a dump on a copy finds the table and the row with few crashes",
            )
            .shell(command("dump", damaged, false)),
        ],
        Object::Killed => vec![Step::of(
            "look into the kernel's log for its out-of-memory killer: then it is no damage, but too \
             little memory, or too much overcommitted",
        )],
        Object::Length => vec![
            Step::of(
                "a damaged length in some row, or a value that is too large as text (no damage, if \
                 between 1 and 2 GB was asked for): a dump finds which, and where",
            )
            .shell(command("dump", damaged, false)),
        ],
        _ => vec![
            Step::of("find what it is in: connect with -d, or read everything")
                .shell(command("verify", damaged, false)),
        ],
    }
}

fn heap(damaged: &Damaged<'_>) -> Vec<Step> {
    vec![
        dump(
            damaged,
            "save all that can be read; lost rows are named by the keys that indexes still hold \
             (lost-keys.csv), with SQL that fetches them",
        ),
        Step::of(
            "then fetch the lost rows from a standby or a restored copy, by that SQL; rows of other \
             blocks need nothing",
        ),
    ]
}

fn toast(damaged: &Damaged<'_>) -> Vec<Step> {
    vec![
        dump(
            damaged,
            "save the table: rows whose long values are lost come as partial rows, with the columns \
             named; what is left of the values is kept, too",
        ),
        Step::of("then fetch the lost values from a standby or a restored copy, by the rows' keys"),
    ]
}

fn statistic(damaged: &Damaged<'_>) -> Vec<Step> {
    let can_truncate = damaged.version.is_none_or(|v| v >= 130_000);
    vec![
        Step::of(
            "no row of yours is in it, but the planner reads it: plain COPY, and so a dump, works \
             without",
        )
        .shell(command("dump", damaged, false)),
        Step::of("then, on a copy first, remove the statistics and gather them anew (superuser)")
            .sql(can_truncate.then(|| "SET allow_system_table_mods = on;".to_owned()))
            .sql(Some(match can_truncate {
                true => "TRUNCATE pg_catalog.pg_statistic;".to_owned(),
                false => "DELETE FROM pg_catalog.pg_statistic;".to_owned(),
            }))
            .sql(Some("ANALYZE;".to_owned())),
    ]
}

fn verify(damaged: &Damaged<'_>, text: &str) -> Step {
    Step::of(text).shell(command("verify", damaged, true))
}

fn dump(damaged: &Damaged<'_>, text: &str) -> Step {
    Step::of(text).shell(command("dump", damaged, true))
}

/// `pg_salvage` for the table, or for the whole database.
fn command(what: &str, damaged: &Damaged<'_>, only_table: bool) -> Option<String> {
    let database = damaged.database.map_or_else(|| "DBNAME".to_owned(), shell_word);
    let table = damaged.table.filter(|_| only_table);
    let table = table.map(|t| format!(" -t {}", shell_word(t))).unwrap_or_default();
    let file = if what == "dump" { " -f DIR" } else { "" };
    Some(format!("pg_salvage {what} -d {database}{table}{file}"))
}

fn reindex(damaged: &Damaged<'_>, concurrently: bool) -> Option<String> {
    let since = damaged.version.is_none_or(|v| v >= REINDEX_CONCURRENTLY);
    let how = if concurrently && since { " CONCURRENTLY" } else { "" };
    Some(format!("REINDEX INDEX{how} {};", damaged.name?))
}

/// Quoted for a shell.
pub fn shell_word(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Object; 18] = [
        Object::Heap,
        Object::Toast,
        Object::Index,
        Object::ToastIndex,
        Object::CatalogIndex,
        Object::ExclusionIndex,
        Object::Catalog,
        Object::Statistic,
        Object::Sequence,
        Object::Map,
        Object::Init,
        Object::Temporary,
        Object::TransactionStatus,
        Object::Wal,
        Object::Crash,
        Object::Killed,
        Object::Length,
        Object::Unknown,
    ];

    fn of(object: Object, version: Option<u32>) -> Damaged<'static> {
        Damaged {
            object,
            name: Some("\"s\".\"x\""),
            table: Some("\"s\".\"t\""),
            database: Some("it's"),
            version,
        }
    }

    #[test]
    fn only_indexes_are_made_anew() {
        for object in ALL {
            let said = format!("{:?}", steps(&of(object, None)));
            let is_index = matches!(
                object,
                Object::Index | Object::ToastIndex | Object::CatalogIndex | Object::ExclusionIndex
            );
            assert_eq!(said.contains("REINDEX"), is_index, "{object:?}: {said}");
            assert!(
                !said.contains("zero_damaged_pages") && !said.contains("VACUUM FULL"),
                "{said}"
            );
        }
    }

    #[test]
    fn statements_fit_the_server_and_words_are_quoted() {
        let sql = |object, version| {
            let all: Vec<String> =
                steps(&of(object, version)).into_iter().flat_map(|s| s.sql).collect();
            all.join(" ")
        };
        let concurrently = "REINDEX INDEX CONCURRENTLY \"s\".\"x\";";
        assert_eq!(sql(Object::Index, None), concurrently);
        assert_eq!(sql(Object::ToastIndex, Some(180_000)), concurrently);
        assert_eq!(sql(Object::Index, Some(110_000)), "REINDEX INDEX \"s\".\"x\";");
        assert_eq!(sql(Object::CatalogIndex, Some(180_000)), "REINDEX INDEX \"s\".\"x\";");
        let shell = &steps(&of(Object::Heap, None))[0].shell[0];
        assert_eq!(shell, "pg_salvage dump -d 'it'\\''s' -t '\"s\".\"t\"' -f DIR");
    }

    #[test]
    fn what_comes_first_is_to_contain_and_last_to_look_for_a_standby() {
        assert_eq!(first_steps(1, false).len(), 3);
        for steps in [first_steps(3, false), first_steps(1, true)] {
            assert!(steps[0].starts_with("contain") && steps[1].starts_with("suspect the storage"));
            assert!(steps[2].starts_with("copy") && steps[3].contains("standby"));
        }
    }
}
