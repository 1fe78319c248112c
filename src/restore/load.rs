//! The rows of one relation, in one transaction.
//!
//! They are sent in batches, each behind a savepoint, while they are unpacked. A
//! batch that is refused is divided: at the row that the server names, if it
//! does, else in the middle, down to the single row, which is rejected. So a row
//! is rejected only when it was refused alone, whatever the server says of the
//! others. What is loaded and what is rejected are together what was read.

use super::batch::{Batch, push_parts};
use super::group::all_taken;
use super::plan::{Table, untouched_file};
use super::shared::{CommitError, Expected, Shared};
use super::{RestoreError, count, oversize};
use crate::output::manifest::{FileEntry, RowClass};
use crate::output::restore_dir::Step;
use crate::output::restored::{self, RelationStatus};
use crate::output::{Rejected, Rejects, RowReader, Rows};
use crate::server::restoring::{CopyIn, Meaning, Refusal, TargetSession, sql};
use std::ops::Range;

/// Of a row that the server passed over without a word.
const NOT_TAKEN: &str = "the server did not take the row, and gave no reason: a trigger has left \
    it out, or it is the mark that ends COPY's data";

/// Of a table into which `--on-conflict skip` cannot load.
const NO_KEY: &str = "the table has rows, and no unique index that would tell which of the dump \
    are among them";

/// For `--disable-triggers`, in a transaction.
pub(super) const NO_TRIGGERS: &str = "SET LOCAL session_replication_role TO replica";

/// Why a relation was not loaded.
#[derive(Debug)]
pub(super) enum Stop {
    /// It takes no row at all, or the server can not at the moment.
    Refused(Refusal, Meaning),
    /// The session is gone.
    Lost(Refusal),
    Interrupted,
    Fatal(RestoreError),
}

/// How rows go into the target.
pub(super) enum Way {
    /// By COPY into the table itself.
    Table,
    /// By COPY into a table of their own, from which these statements take them
    /// over; the last says how many rows it took, the others are left out.
    Through(Vec<String>),
}

pub(super) struct Loader<'a> {
    pub shared: &'a Shared,
    pub session: &'a TargetSession,
    pub table: &'a Table,
    pub way: Way,
    /// The COPY that takes the rows in.
    pub copy: String,
    /// The table that it names, as the server's words have it.
    pub named: String,
    /// Whether what the statements leave out was refused.
    pub left_out_is_refused: Option<&'static str>,
    pub rejects: Rejects,
}

/// Of a batch: how many rows are in the target, and how many were left out.
pub(super) struct Took {
    pub loaded: u64,
    pub skipped: u64,
}

/// Loads all files of a relation that are to be loaded, and commits.
pub(super) async fn relation(
    shared: &Shared,
    session: &TargetSession,
    table: &Table,
) -> Result<(), Stop> {
    let xid = session.begin().await.map_err(stop)?;
    let expected = expected(shared, table).map(|step| shared.expect(&xid, step));
    let expected = expected.transpose().map_err(fatal)?;
    let loaded = match prepare(shared, session, table).await {
        Ok(loader) => loader.all().await,
        Err(stop) => Err(stop),
    };
    let step = match loaded {
        Ok(step) => step,
        Err(Stop::Lost(refusal)) => return Err(Stop::Lost(refusal)),
        Err(stop) => {
            session.abandon().await;
            return Err(stop);
        }
    };
    commit(shared, session, xid, step, expected).await
}

pub(super) async fn commit(
    shared: &Shared,
    session: &TargetSession,
    xid: String,
    step: Step,
    expected: Option<Expected>,
) -> Result<(), Stop> {
    shared.commit(session, xid, step, expected).await.map_err(|error| match error {
        CommitError::Refused(refusal) => stop(refusal),
        CommitError::Fatal(error) => Stop::Fatal(error),
    })
}

/// What loading is likely to come to. None: some rows may well not be taken.
fn expected(shared: &Shared, table: &Table) -> Option<Step> {
    let (rejects_len, rejects) = shared.rejects_of(table.relation.oid);
    if shared.options.skip_conflicts || rejects_len > 0 {
        return None;
    }
    let relation = Box::new(all_taken(shared, table));
    Some(Step::Relation { relation, rejects_len, rejects })
}

/// A refusal that is not about single rows.
pub(super) fn stop(refusal: Refusal) -> Stop {
    match refusal.meaning("") {
        Meaning::SessionLost => Stop::Lost(refusal),
        meaning => Stop::Refused(refusal, meaning),
    }
}

async fn prepare<'a>(
    shared: &'a Shared,
    session: &'a TargetSession,
    table: &'a Table,
) -> Result<Loader<'a>, Stop> {
    if shared.options.disable_triggers {
        session.execute(NO_TRIGGERS).await.map_err(stop)?;
    }
    let encoding = shared.plan.encoding();
    let skip = shared.options.skip_conflicts;
    let (way, copy, named) = if skip || table.with_oids {
        let create = sql::create_new(&table.qualified, &table.columns, table.with_oids);
        session.execute(&create).await.map_err(stop)?;
        if skip {
            refuse_without_key(session, table).await?;
        }
        let insert = sql::insert_new(&table.qualified, &table.columns, skip);
        let copy = sql::copy_in(sql::NEW, &table.file_columns(), encoding);
        (Way::Through(vec![insert]), copy, sql::NEW_NAME.to_owned())
    } else {
        let copy = sql::copy_in(&table.qualified, &table.columns, encoding);
        (Way::Table, copy, table.relation.name.clone())
    };
    let rejects = take_up(shared, table)?;
    let left_out_is_refused = (!skip).then_some(NOT_TAKEN);
    Ok(Loader { shared, session, table, way, copy, named, left_out_is_refused, rejects })
}

/// Where no key tells which rows are there, all would be there twice.
async fn refuse_without_key(session: &TargetSession, table: &Table) -> Result<(), Stop> {
    let is_told = session.value(&sql::has_key_or_no_rows(&table.qualified)).await.map_err(stop)?;
    match is_told.as_deref() {
        Some("t") => Ok(()),
        _ => Err(Stop::Refused(Refusal::ours(NO_KEY), Meaning::Relation)),
    }
}

/// The file of rejected rows, as it was before.
pub(super) fn take_up(shared: &Shared, table: &Table) -> Result<Rejects, Stop> {
    let (len, count) = shared.rejects_of(table.relation.oid);
    Rejects::take_up(shared.dir.path(), &table.stem, len, count).map_err(fatal)
}

pub(super) fn fatal(error: impl Into<RestoreError>) -> Stop {
    Stop::Fatal(error.into())
}

impl Loader<'_> {
    /// All files, and what is to be written down of them.
    pub(super) async fn all(mut self) -> Result<Step, Stop> {
        let include = self.shared.options.include;
        let mut files = Vec::new();
        for file in self.table.included(include) {
            files.push(match file.class {
                RowClass::Oversize => oversize::file(&mut self, file).await?,
                _ => self.file(file).await?,
            });
        }
        files.extend(self.table.left_out(include));
        self.finish(files)
    }

    /// What was done, for the journal.
    pub(super) fn finish(mut self, files: Vec<restored::File>) -> Result<Step, Stop> {
        let rejects_len = self.rejects.sync().map_err(fatal)?;
        let is_short = files.iter().any(|f| f.rejected > 0 || f.complaint.is_some());
        let status = if is_short { RelationStatus::WithRejects } else { RelationStatus::Loaded };
        let rejects = self.rejects.file();
        let relation = restored::Relation { status, files, rejects, ..self.table.report() };
        let rejects = self.rejects.count();
        Ok(Step::Relation { relation: Box::new(relation), rejects_len, rejects })
    }

    /// One file, batch by batch.
    pub(super) async fn file(&mut self, entry: &FileEntry) -> Result<restored::File, Stop> {
        let mut file = restored::File { included: true, ..untouched_file(entry) };
        let path = self.shared.options.dir.join(&entry.path);
        let mut reader = match RowReader::open(&path).await {
            Ok(reader) => reader,
            Err(error) => {
                file.complaint = Some(error.to_string());
                return Ok(file);
            }
        };
        // No COPY is begun before there is a row: most files have one batch, and many
        // none.
        let mut next = reader.next().await;
        while let Some(rows) = next {
            if self.shared.progress.stopped() {
                return Err(Stop::Interrupted);
            }
            next = self.batch(rows, &mut reader, &mut file).await?;
        }
        if let Some(torn) = reader.torn() {
            let reason = "the file ends in the middle of this row".to_owned();
            let line = Some(reader.rows() + 1);
            let rejected =
                Rejected { class: "torn", line, reason, row: torn, ..Rejected::default() };
            self.rejects.record(&rejected).map_err(fatal)?;
        }
        file.complaint = reader.complaint(entry);
        Ok(file)
    }

    /// Loads these rows and some that follow. Returns the next ones.
    async fn batch(
        &mut self,
        first: Rows,
        reader: &mut RowReader,
        file: &mut restored::File,
    ) -> Result<Option<Rows>, Stop> {
        let first_line = reader.rows() - first.count + 1;
        let mut batch = Batch::default();
        let mut copy = self.session.save_and_copy_in(&self.copy).await.map_err(stop)?;
        let mut next = Some(first);
        while let Some(rows) = next {
            copy.send(rows.text.clone()).await.map_err(stop)?;
            batch.push(rows);
            next = match batch.is_full() {
                true => None,
                false => reader.next().await,
            };
        }
        file.read += batch.rows;
        let (rows, bytes) = (batch.rows, batch.bytes as u64);
        // While the server is still busy with the last rows.
        let (ended, next) = tokio::join!(self.end(copy, batch.rows), reader.next());
        match ended {
            Ok(took) => self.keep(&took, file),
            Err(refusal) => {
                let refusal = self.undo(refusal).await?;
                self.divide(batch, first_line, refusal, file).await?;
            }
        }
        count(&self.shared.progress, rows, bytes);
        Ok(next)
    }

    /// Ends a COPY of so many rows, and takes them over.
    pub(super) async fn end(&self, copy: CopyIn, rows: u64) -> Result<Took, Refusal> {
        if copy.finish().await? != rows {
            return Err(Refusal::ours(NOT_TAKEN));
        }
        let Way::Through(statements) = &self.way else {
            return Ok(Took { loaded: rows, skipped: 0 });
        };
        let mut loaded = 0;
        for statement in statements {
            loaded = self.session.affected(statement).await?;
        }
        let skipped = rows.saturating_sub(loaded);
        if skipped > 0
            && let Some(why) = self.left_out_is_refused
        {
            return Err(Refusal::ours(why));
        }
        self.session.execute(&format!("TRUNCATE {}", sql::NEW)).await?;
        Ok(Took { loaded, skipped })
    }

    /// Keeps what was taken.
    pub(super) fn keep(&self, took: &Took, file: &mut restored::File) {
        self.session.keep();
        file.loaded += took.loaded;
        file.skipped += took.skipped;
    }

    /// Takes back a batch whose rows were refused; what was refused for another
    /// reason ends the relation.
    pub(super) async fn undo(&self, refusal: Refusal) -> Result<Refusal, Stop> {
        match refusal.meaning(&self.named) {
            Meaning::Row => self.session.undo().await.map_err(stop).map(|()| refusal),
            Meaning::SessionLost => Err(Stop::Lost(refusal)),
            meaning => Err(Stop::Refused(refusal, meaning)),
        }
    }

    /// Loads a batch that was refused, part by part.
    async fn divide(
        &mut self,
        batch: Batch,
        first_line: u64,
        refusal: Refusal,
        file: &mut restored::File,
    ) -> Result<(), Stop> {
        let (whole, begins) = batch.into_rows();
        let mut todo: Vec<Range<usize>> = Vec::new();
        let all = 0..begins.len().saturating_sub(1);
        match all.len() {
            1 => self.reject(file, first_line, &whole, &refusal)?,
            _ => push_parts(&mut todo, all, refusal.line(&self.named)),
        }
        while let Some(part) = todo.pop() {
            if self.shared.progress.stopped() {
                return Err(Stop::Interrupted);
            }
            let text = whole.slice(begins[part.start]..begins[part.end]);
            let mut copy = self.session.save_and_copy_in(&self.copy).await.map_err(stop)?;
            copy.send(text.clone()).await.map_err(stop)?;
            match self.end(copy, part.len() as u64).await {
                Ok(took) => self.keep(&took, file),
                Err(refusal) => {
                    let refusal = self.undo(refusal).await?;
                    match part.len() {
                        1 => self.reject(file, first_line + part.start as u64, &text, &refusal)?,
                        _ => push_parts(&mut todo, part, refusal.line(&self.named)),
                    }
                }
            }
        }
        Ok(())
    }

    pub(super) fn reject(
        &mut self,
        file: &mut restored::File,
        line: u64,
        row: &[u8],
        refusal: &Refusal,
    ) -> Result<(), Stop> {
        file.rejected += 1;
        let rejected = Rejected {
            class: word(file.class),
            line: Some(line),
            ctid: (file.class == RowClass::Partial).then(|| self.partial_at(line)).flatten(),
            sqlstate: refusal.words.sqlstate.clone(),
            column: refusal.column(&self.named),
            constraint: refusal.constraint.clone(),
            reason: refusal.words.message.clone(),
            row: row.strip_suffix(b"\n").unwrap_or(row),
            ..Rejected::default()
        };
        self.rejects.record(&rejected).map_err(fatal)
    }

    /// Where a partial row was: they are in heap order, and so are the lost
    /// columns in the manifest, if it has all of them.
    fn partial_at(&self, line: u64) -> Option<String> {
        let relation = &self.table.relation;
        let mut places: Vec<&String> = Vec::new();
        for lost in relation.lost.iter().filter(|l| l.column.is_some()) {
            places.extend(lost.ctid.as_ref().filter(|c| places.last() != Some(c)));
        }
        let is_whole = relation.lost_omitted == 0 && places.len() as u64 == relation.rows.partial;
        let nth = usize::try_from(line).ok()?.checked_sub(1)?;
        places.get(nth).filter(|_| is_whole).map(|place| (*place).clone())
    }
}

/// How a class is called in the manifest.
fn word(class: RowClass) -> &'static str {
    match class {
        RowClass::Clean => "clean",
        RowClass::Suspect => "suspect",
        RowClass::Partial => "partial",
        RowClass::ToastChunks => "toast_chunks",
        RowClass::Oversize => "oversize",
    }
}
