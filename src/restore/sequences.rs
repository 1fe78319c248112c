//! Sequences: set to what the dump says. Setting one twice does no harm, so
//! nothing of it is in the journal.

use super::RestoreError;
use super::shared::Shared;
use crate::output::manifest::{Relation, RelationKind};
use crate::output::restored::{self, NotMade, RelationStatus};
use crate::server::restoring::sql::{qualified, setval};
use crate::server::restoring::{Refusal, TargetSession};
use crate::server::sql::literal;

/// How far a sequence is, and in which direction it goes.
fn is_at(sequence: &str) -> String {
    format!(
        "SELECT s.last_value, s.is_called, q.seqincrement FROM {sequence} s, \
         pg_catalog.pg_sequence q WHERE q.seqrelid = {}::pg_catalog.regclass",
        literal(sequence)
    )
}

pub(super) async fn set_all(shared: &Shared) -> Result<(), RestoreError> {
    let plan = &shared.plan;
    let is_sequence = |r: &&Relation| r.kind == RelationKind::Sequence && plan.is_chosen(r);
    let sequences: Vec<&Relation> = plan.manifest.relations.iter().filter(is_sequence).collect();
    if sequences.is_empty() {
        return Ok(());
    }
    let session = shared.session_again().await?;
    for relation in sequences {
        let Some(sequence) = &relation.sequence else {
            let why = "could not be read, and is not set";
            shared.warn(format!("sequence \"{}.{}\" {why}", relation.schema, relation.name));
            let mut report = plan.untouched(relation, &shared.options);
            report.status = RelationStatus::NotLoaded;
            report.reason = Some(why.to_owned());
            note(shared, report);
            continue;
        };
        let name = qualified(&relation.schema, &relation.name);
        let mut report = plan.untouched(relation, &shared.options);
        match set(shared, &session, &name, (sequence.last_value, sequence.is_called)).await {
            Ok(is_set) => {
                report.status = RelationStatus::Loaded;
                report.reason = (!is_set).then(|| "is further already".to_owned());
            }
            Err(refusal) if refusal.is_lost() => return Err(refusal.into()),
            Err(refusal) => {
                report.status = RelationStatus::NotLoaded;
                report.reason = Some(refusal.words.one_line());
                not_set(shared, relation, &refusal);
            }
        }
        note(shared, report);
    }
    Ok(())
}

/// What became of a sequence, for the report.
fn note(shared: &Shared, relation: restored::Relation) {
    let oid = relation.oid;
    let loaded = super::shared::Loaded { relation, rejects_len: 0, rejects: 0 };
    shared.results().relations.insert(oid, loaded);
}

/// Sets one. False: it is further. Where rows are added to tables that are there,
/// nobody is to be given a value for the second time.
async fn set(
    shared: &Shared,
    session: &TargetSession,
    name: &str,
    (value, is_called): (i64, bool),
) -> Result<bool, Refusal> {
    let mut is_called = is_called;
    if !shared.options.sections.pre_data || shared.plan.archive.is_none() {
        let now = session.rows(&is_at(name)).await?;
        if let Some([Some(now), Some(called), Some(increment)]) = now.first().map(Vec::as_slice)
            && let (Ok(now), Ok(increment)) = (now.parse::<i64>(), increment.parse::<i64>())
        {
            if now != value && (now > value) == (increment > 0) {
                return Ok(false);
            }
            is_called |= now == value && called == "t";
        }
    }
    session.value(&setval(name, value, is_called)).await.map(|_| true)
}

fn not_set(shared: &Shared, relation: &Relation, refusal: &Refusal) {
    let name = &relation.name;
    tracing::warn!("sequence \"{name}\" could not be set: {}", refusal.words.one_line());
    shared.results().not_made.push(NotMade {
        dump_id: 0,
        desc: "SEQUENCE SET".to_owned(),
        schema: relation.schema.clone(),
        tag: name.clone(),
        sqlstate: refusal.words.sqlstate.clone(),
        message: refusal.words.message.clone(),
        keys: Vec::new(),
        rows: None,
    });
}
