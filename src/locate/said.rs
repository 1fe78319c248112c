//! What was found, for a person at a terminal.

use super::group::Subject;
use super::path::{Fork, catalog_of_initdb};
use super::wording::Kind;
use super::{Finding, Located, on_disk};
use crate::report::{grouped, sized};
use std::fmt::Write as _;

/// So many ranges of blocks are shown of a relation; JSON has all.
const BLOCKS_SHOWN: usize = 8;

/// So many values, transactions and files are shown.
const FEW_SHOWN: usize = 5;

pub(super) fn text(located: &Located, verbose: bool) -> String {
    let mut out = String::new();
    for warning in &located.warnings {
        let _ = writeln!(out, "WARNING: {warning}");
    }
    if located.findings.is_empty() {
        let read = sized(located.bytes);
        let _ = writeln!(
            out,
            "Nothing in what was read ({read}) is a message of damage that is known."
        );
        return out;
    }
    for finding in &located.findings {
        one(&mut out, located, finding, verbose);
        out.push('\n');
    }
    if located.omitted > 0 {
        let _ = writeln!(
            out,
            "and {} messages for which there was no room\n",
            grouped(located.omitted)
        );
    }
    if !located.is_connected {
        let _ = writeln!(
            out,
            "NOTE: with a connection (-d DBNAME) this would name the relations, and the tables that \
             indexes and TOAST relations belong to; blocks are taken to be {} bytes, segments to have \
             {} of them (--block-size, --segment-size)\n",
            located.geometry.block_size, located.geometry.segment_blocks
        );
    }
    let _ = writeln!(out, "Before anything else, in this order:");
    for (number, step) in located.first_steps.iter().enumerate() {
        let _ = writeln!(out, "  {}. {step}", number + 1);
    }
    let _ = writeln!(out, "  {}. then follow the hints above", located.first_steps.len() + 1);
    out
}

/// What it is, on one line.
pub(super) fn title(finding: &Finding) -> String {
    let (group, resolved) = (&finding.group, &finding.resolved);
    let database = resolved.database.as_ref().or_else(|| group.databases.first());
    let within = database.map(|d| format!(" of database \"{d}\"")).unwrap_or_default();
    let title = match (&group.subject, resolved.owners.first()) {
        (_, Some(owner)) => {
            let of = owner.table.as_ref().map(|t| format!(" of table \"{}\"", t.plain()));
            format!(
                "{} \"{}\"{}{within}",
                owner.kind_words(),
                owner.relation.plain(),
                of.unwrap_or_default()
            )
        }
        (Subject::File(file), None) => {
            let known = catalog_of_initdb(file.filenode).filter(|_| file.backend.is_none());
            let known = known.map(|name| format!(" (initdb calls {name} so)")).unwrap_or_default();
            let temporary = if file.backend.is_some() { "temporary relation" } else { "relation" };
            format!("{temporary} \"{file}\"{known}{within}")
        }
        (Subject::Toast { table, .. }, None) => {
            format!("TOAST relation pg_toast_{table} of the table with OID {table}{within}")
        }
        (Subject::Named { name, .. }, None) => format!("relation \"{name}\"{within}"),
        (Subject::Slru(folder), None) => format!("status of transactions in {folder}"),
        (Subject::Wal, None) => "write-ahead log, or control file".to_owned(),
        (Subject::Process(signal), None) => format!("server process ended by signal {signal}"),
        (Subject::Unnamed(_), None) => format!("a relation that is not named{within}"),
    };
    title.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn one(out: &mut String, located: &Located, finding: &Finding, verbose: bool) {
    let (group, resolved) = (&finding.group, &finding.resolved);
    let _ = writeln!(out, "{}", title(finding));
    let kinds: Vec<String> = group
        .kinds
        .iter()
        .filter(|(kind, _)| **kind != Kind::Asked)
        .map(|(kind, count)| format!("{} ({})", kind.words(), grouped(*count)))
        .collect();
    if !kinds.is_empty() {
        let _ = writeln!(out, "  {}", kinds.join(", "));
    }
    match (&group.first, &group.last) {
        (Some(first), Some(last)) if first != last => {
            let _ = writeln!(out, "  first seen {first}, last seen {last}");
        }
        (Some(first), _) => drop(writeln!(out, "  seen {first}")),
        _ => {}
    }
    if group.is_damage() && (verbose || !matches!(group.subject, Subject::File(_))) {
        let _ = writeln!(out, "  message: {}", group.sample);
    }
    if let Some(note) = &resolved.note {
        let _ = writeln!(out, "  {note}");
    }
    blocks(out, located, finding, verbose);
    few(out, "values", &group.values.iter().map(u32::to_string).collect::<Vec<_>>());
    few(out, "transactions", &group.xids.iter().map(u32::to_string).collect::<Vec<_>>());
    few(out, "files", &group.files.iter().cloned().collect::<Vec<_>>());
    few(out, "the system says", &group.whys.iter().cloned().collect::<Vec<_>>());
    if let Some(size) = group.size {
        let _ = writeln!(out, "  largest request: {} bytes", grouped(size));
    }
    for step in &finding.steps {
        let _ = writeln!(out, "  HINT: {}", step.text);
        for command in &step.shell {
            let _ = writeln!(out, "    $ {command}");
        }
        for sql in &step.sql {
            let _ = writeln!(out, "    {}", sql.escape_debug().to_string().replace("\\\"", "\""));
        }
    }
}

fn few(out: &mut String, what: &str, all: &[String]) {
    if all.is_empty() {
        return;
    }
    let more = all.len().saturating_sub(FEW_SHOWN);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let shown = all[..all.len().min(FEW_SHOWN)].join(", ");
    let _ = writeln!(out, "  {what}: {shown}{more}");
}

fn blocks(out: &mut String, located: &Located, finding: &Finding, verbose: bool) {
    let group = &finding.group;
    let file = match &group.subject {
        Subject::File(file) => file,
        _ => {
            let all: Vec<String> = group.blocks.ranges().map(range).collect();
            return few(out, "blocks", &all);
        }
    };
    let fork = match file.fork {
        Fork::Main => String::new(),
        fork => format!(" (fork {})", fork.name()),
    };
    let _ = writeln!(out, "  file {file}{fork}");
    if !located.is_connected && file.backend.is_none() {
        let (spc, node) = (file.tablespace, file.filenode);
        let _ = writeln!(
            out,
            "  named by: SELECT pg_catalog.pg_filenode_relation({spc}, {node});{}",
            match file.database {
                0 => String::new(),
                oid => format!(" -- in the database with OID {oid}"),
            }
        );
    }
    let shown = if verbose { usize::MAX } else { BLOCKS_SHOWN };
    for (first, last) in group.blocks.ranges().take(shown) {
        let place = located.geometry.place(file, first);
        let _ = writeln!(
            out,
            "  {}: segment {} ({}), page {}, byte {} (0x{:x})",
            range((first, last)),
            place.segment,
            place.file,
            place.page,
            place.byte,
            place.byte
        );
        if let Some((computed, expected)) = group.checksums.get(&first) {
            let _ = writeln!(out, "    checksum computed {computed}, on the page {expected}");
        }
        if let Some(pgdata) = &located.pgdata
            && let Some(missing) = on_disk::missing(pgdata, &place, located.geometry)
        {
            let _ = writeln!(out, "    {missing}");
        }
    }
    let more = group.blocks.ranges().count().saturating_sub(shown);
    if more > 0 {
        let _ = writeln!(
            out,
            "  and {more} more ranges of blocks, {} blocks in all",
            grouped(group.blocks.count())
        );
    }
    for (first, last, count) in group.among.iter().take(FEW_SHOWN) {
        let _ = writeln!(out, "  {count} among blocks {first}..{last}");
    }
}

fn range((first, last): (u32, u32)) -> String {
    if first == last { format!("block {first}") } else { format!("blocks {first}..{last}") }
}
