//! What is advised for the relations of a dump, as a script that nobody has run.

use super::object::{Damaged, Object, Step, first_steps, steps};
use super::script::{Part, script};
use crate::output::manifest::{Lost, Manifest, Relation, RelationKind, RelationStatus};
use crate::server::sql::{ident, literal};

/// So many tuples are named in one statement.
const TUPLES_MAX: usize = 1000;

/// The server's words where it looks for what became of a transaction, and the
/// tuple names one that never was.
const OF_TRANSACTIONS: [&str; 4] =
    ["could not access status of transaction", "MultiXact", "multixact", "found xm"];

/// `pg_surgery` comes with PostgreSQL since then.
const SURGERY: u32 = 140_000;

/// Whether a tuple was lost for what it says of transactions.
fn is_of_transactions(lost: &Lost) -> bool {
    lost.cause == "tuple" && OF_TRANSACTIONS.iter().any(|words| lost.message.contains(words))
}

/// The ctids of tuples whose transactions are unknown to the server.
pub(super) fn of_transactions(relation: &Relation) -> Vec<&str> {
    let lost = relation.lost.iter().filter(|lost| is_of_transactions(lost));
    lost.filter_map(|lost| lost.ctid.as_deref()).collect()
}

/// The script; none where nothing is damaged.
pub fn advice_of_dump(manifest: &Manifest) -> Option<String> {
    let is_damaged = |r: &&Relation| {
        matches!(r.status, RelationStatus::Salvaged | RelationStatus::Lost) && r.name_hex.is_none()
    };
    let damaged: Vec<&Relation> = manifest.relations.iter().filter(is_damaged).collect();
    let advised: Vec<(String, Vec<Step>)> =
        damaged.iter().map(|relation| advised(relation, manifest)).collect();
    let database = Some(manifest.database.name.as_str());
    let part = |(title, steps)| Part { title: String::clone(title), database, steps };
    let parts: Vec<Part<'_>> = advised.iter().map(|(title, steps)| part((title, steps))).collect();
    (!parts.is_empty()).then(|| script(&first_steps(parts.len(), false), &parts))
}

fn advised(relation: &Relation, manifest: &Manifest) -> (String, Vec<Step>) {
    let name = format!("{}.{}", ident(&relation.schema), ident(&relation.name));
    let only_stored_elsewhere = !relation.lost.is_empty()
        && relation.lost.iter().all(|lost| lost.cause == "stored_elsewhere");
    let object = match relation.kind {
        RelationKind::Sequence => Object::Sequence,
        RelationKind::LargeObjects | RelationKind::LargeObjectMetadata => Object::Catalog,
        _ if only_stored_elsewhere => Object::Toast,
        _ => Object::Heap,
    };
    let damaged = Damaged {
        object,
        name: Some(&name),
        table: Some(&name),
        database: Some(&manifest.database.name),
        version: Some(manifest.server.version_num),
    };
    // This dump is the one that the first of them asks for.
    let mut all: Vec<Step> = relation.advice.iter().map(Step::of).collect();
    all.extend(steps(&damaged).into_iter().skip(1).filter(|step| !step.sql.is_empty()));
    let tuples = of_transactions(relation);
    if !tuples.is_empty() && manifest.server.version_num >= SURGERY {
        all.extend(surgery(&name, &tuples));
    }
    (format!("{name}: {} clean rows were read", relation.rows.clean), all)
}

/// The statements are comments: to run them is to decide.
fn surgery(name: &str, tuples: &[&str]) -> [Step; 3] {
    let relation = format!("{}::regclass", literal(name));
    let list = tuples.iter().take(TUPLES_MAX).map(|ctid| format!("'{ctid}'"));
    let list = list.collect::<Vec<_>>().join(", ");
    let call = |function: &str| format!("SELECT {function}({relation}, ARRAY[{list}]::tid[]);");
    let step = |text: String, statement: &str| Step {
        shell: vec![statement.to_owned()],
        ..Step::of(text)
    };
    [
        step(
            "WARNING: what follows changes the heap by force, as a superuser, and cannot be taken \
             back. On a copy only, when the dump is safe, and one of the two"
                .to_owned(),
            "CREATE EXTENSION pg_surgery;",
        ),
        step(
            "remove these tuples for good, whoever sees them; then VACUUM and REINDEX the table"
                .to_owned(),
            &call("heap_force_kill"),
        ),
        step(
            "or make them visible to everybody, whether or not they were ever committed or were \
             deleted: a row may come twice, and break a unique key; look at them (pg_salvage \
             inspect), then REINDEX and dump again"
                .to_owned(),
            &call("heap_force_freeze"),
        ),
    ]
}
