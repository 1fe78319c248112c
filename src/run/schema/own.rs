//! The schema in our own words, where pg_dump does not give it.

use super::Had;
use crate::archive::{Archive, Compression, Created, FORMAT, INT_SIZE, Section, Version};
use crate::output::manifest::{LostObject, SchemaSource};
use crate::run::generation::Way;
use crate::run::{Run, locked};
use crate::server::ddl::{Described, LEFT_OUT, Lost, describe, preamble};
use crate::server::session::ServerFacts;

/// What the header of an archive of ours has in the place of a version of
/// pg_dump.
pub(super) const MADE_BY: &str = "pg_salvage ";

/// So many objects that are lost are listed.
const LOST_MAX: usize = 1000;

impl Run {
    pub(super) async fn describe_schema(&self) -> Had {
        let failed = |words: String| Had { notes: vec![words], is_failed: true, ..Had::default() };
        let session = match self.generations.session_by(Way::Usual, false).await {
            Ok(session) => session.session,
            Err(gone) => return failed(format!("the schema could not be described: {gone}")),
        };
        let relations = locked(&self.selected).clone();
        let chosen = &self.options.selection;
        let everything = chosen.tables.is_empty() && chosen.schemas.is_empty();
        match describe(&session, &relations, everything).await {
            Ok(described) => self.had(described, session.server()),
            Err(e) => failed(format!("the schema could not be described: {e}")),
        }
    }

    fn had(&self, described: Described, server: &ServerFacts) -> Had {
        let Described { entries, lost, is_damaged } = described;
        for Lost { kind, name, words } in &lost {
            tracing::warn!(
                "{} \"{name}\" could not be described: {}",
                kind.to_lowercase(),
                words.one_line()
            );
        }
        let more = lost.len().saturating_sub(LOST_MAX);
        let object = |Lost { kind, name, words }: Lost| LostObject {
            kind: kind.to_owned(),
            name,
            message: words.one_line(),
        };
        let mut notes = vec![LEFT_OUT.to_owned()];
        notes.extend((more > 0).then(|| format!("{more} more objects could not be described")));
        Had {
            archive: Some(archive(entries, server)),
            source: SchemaSource::Own,
            lost: lost.into_iter().take(LOST_MAX).map(object).collect(),
            notes,
            is_damaged,
            ..Had::default()
        }
    }
}

fn archive(mut entries: Vec<crate::archive::Entry>, server: &ServerFacts) -> Archive {
    let encoding = if server.encoding == "SQL_ASCII" { "SQL_ASCII" } else { "UTF8" };
    let next = entries.iter().map(|entry| entry.dump_id).max().unwrap_or(0) + 1;
    let settings = preamble(encoding).into_iter().zip(next..).map(|(mut entry, id)| {
        entry.dump_id = id;
        entry
    });
    debug_assert!(entries.is_sorted_by_key(|entry| entry.section == Section::PostData));
    entries.splice(0..0, settings);
    Archive {
        version: Version::TABLE_AM,
        int_size: INT_SIZE,
        off_size: 8,
        format: FORMAT,
        compression: Compression::Level(0),
        created: now(),
        database: Some(server.database.as_str().into()),
        server_version: Some(server.version_text.as_str().into()),
        dump_version: Some(format!("{MADE_BY}{}", env!("CARGO_PKG_VERSION")).into()),
        entries,
    }
}

/// In local time, as pg_dump has it.
fn now() -> Created {
    let now = jiff::Zoned::now();
    Created {
        second: now.second().into(),
        minute: now.minute().into(),
        hour: now.hour().into(),
        day: now.day().into(),
        month: i32::from(now.month()) - 1,
        year: i32::from(now.year()) - 1900,
        is_dst: 0,
    }
}
