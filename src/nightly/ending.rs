//! The end: what all turns came to, compared with an earlier report, and the exit
//! code.

use super::databases::{of_relation, of_server, worst};
use super::{Nightly, NightlyError};
use crate::output::manifest::{RunStatus, Tool};
use crate::output::one_file::read_one;
use crate::report::baseline::{Compared, carry, compare};
use crate::report::command::SOURCE_BYTES_MAX;
use crate::report::model::{self, ChangeKind, Command, Level, Report, Status, Totals};
use crate::server::session::ServerFacts;
use jiff::Timestamp;
use std::path::Path;
use std::time::Duration;

const EXIT_CLEAN: u8 = 0;
const EXIT_DAMAGED: u8 = 2;
const EXIT_INCOMPLETE: u8 = 3;

pub(super) struct Ending {
    pub started: Timestamp,
    pub then: Option<Report>,
    /// The time that was given is over.
    pub window_ended: bool,
}

/// The report to compare with; none, where there is none yet.
pub(super) fn baseline(path: Option<&Path>) -> Result<Option<Report>, NightlyError> {
    let Some(path) = path else { return Ok(None) };
    let wrong = |why: String| NightlyError::File { path: path.to_owned(), why };
    match read_one(path, SOURCE_BYTES_MAX) {
        Ok(json) => Report::from_json(&json).map(Some).map_err(|e| wrong(e.to_string())),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(wrong(e.to_string())),
    }
}

impl Nightly {
    pub(super) fn end(mut self, ending: Ending) -> Result<Report, NightlyError> {
        let Ending { started, then, window_ended } = ending;
        let (options, state) = (&self.options, &self.state);
        for relation in self.relations.iter_mut() {
            let of = |d: &&model::Database| Some(&d.name) == relation.database.as_ref();
            let database = self.databases.iter().find(of).map_or(0, |d| d.oid);
            relation.last_ok = state.last_ok_at((database, relation.oid), &options.levels);
        }
        let relations = self.relations.into_sorted();
        let mut server = self.server.unwrap_or_else(|| of_server(&ServerFacts::default()));
        if !options.pages.offline {
            server.host = self.target.describe();
        }
        let has = |level: &&Level| relations.iter().any(|r| r.levels.contains(level));
        let levels = options.levels.iter().filter(has).copied().collect();
        let is_windowed = options.window.max_duration.is_some() || options.window.state.is_some();
        let mut report = Report {
            format_version: model::FORMAT_VERSION,
            tool: Tool {
                name: env!("CARGO_PKG_NAME").to_owned(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
            },
            command: Command::Verify,
            started,
            finished: Some(Timestamp::now()),
            status: RunStatus::Clean,
            exit_code: 0,
            server,
            levels,
            databases: self.databases,
            totals: Totals::default(),
            relations,
            notes: self.notes,
            window: is_windowed.then(|| model::Window {
                ended: window_ended,
                oldest: options.window.state.as_ref().and_then(|_| state.oldest(&options.levels)),
            }),
            baseline: None,
        };
        if let Some(then) = &then {
            let lists_all = options.rows.selection.is_everything();
            let rows_fell_percent = options.rows_fell_percent;
            carry(&mut report, then, lists_all);
            report.baseline =
                Some(compare(&report, then, Compared { rows_fell_percent, lists_all }));
        }
        conclude(
            &mut report,
            &Rules {
                missed: self.missed,
                only_new: options.only_new,
                state_is_kept: options.window.state.is_some(),
                max_age: options.window.max_age,
            },
        );
        let status = report.status.word();
        let exit_code = report.exit_code;
        tracing::info!(
            event = "verify_finished",
            status,
            exit_code,
            "the verification has ended: {status}"
        );
        Ok(report)
    }
}

/// What counts for the exit code.
struct Rules {
    /// Whether a level of a database was not reached at all.
    missed: bool,
    only_new: bool,
    state_is_kept: bool,
    max_age: Option<Duration>,
}

/// Status, totals and exit code, by what is in the report.
fn conclude(report: &mut Report, rules: &Rules) {
    let relations = &report.relations;
    let of = |name: Option<&str>| {
        let own = relations.iter().filter(|r| r.database.as_deref() == name);
        own.fold(RunStatus::Clean, |status, r| worst(status, of_relation(r.status)))
    };
    let failed = report.databases.iter().any(|d| d.status == RunStatus::Incomplete);
    report.status = of(None);
    if rules.missed {
        report.status = RunStatus::Incomplete;
    }
    for database in &mut report.databases {
        database.status = worst(database.status, of(Some(&database.name)));
        report.status = worst(report.status, database.status);
    }
    report.totals = Totals::of(relations);
    let has = |status: Status| relations.iter().any(|r| r.status == status);
    let is_new = || {
        let mut changes = report.baseline.iter().flat_map(|baseline| &baseline.changes);
        changes.any(|change| change.kind == ChangeKind::NewDamage)
    };
    let is_damaged = has(Status::Damaged) || report.status == RunStatus::Damaged;
    // Night after night comes to all of it, if what was reached is remembered.
    let is_by_plan = rules.state_is_kept && report.window.as_ref().is_some_and(|w| w.ended);
    let not_reached = rules.missed || has(Status::NotReached);
    let oldest = report.window.as_ref().and_then(|window| window.oldest.as_ref());
    let is_too_old = rules.max_age.zip(oldest).is_some_and(|(max, oldest)| {
        Timestamp::now().duration_since(oldest.since).unsigned_abs() > max
    });
    let is_incomplete = failed || has(Status::Incomplete) || (not_reached && !is_by_plan);
    report.exit_code = if is_incomplete || is_too_old {
        EXIT_INCOMPLETE
    } else if is_damaged && (!rules.only_new || is_new()) {
        EXIT_DAMAGED
    } else {
        EXIT_CLEAN
    };
}
