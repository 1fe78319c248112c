//! Each harm is named by `verify --pages`, in the relation and with the blocks
//! that were harmed, or it is known why not.

use crate::kit::dumped::Dumped;
use crate::kit::{Harm, Plan, Ward};
use crate::verify_pages::{named_relations, report_of};
use std::collections::BTreeSet;

/// Why a harm cannot be seen on its page alone, if so. `docs/pages.md` says the
/// same.
fn hidden(harm: Harm, plan: Plan) -> Option<&'static str> {
    match harm {
        Harm::RemoveFile | Harm::RemoveToastFile => {
            return Some("a file that is gone has no pages");
        }
        Harm::TruncateAt => return Some("a file that was cut at a page has only sound pages"),
        Harm::ZeroBlock | Harm::ToastZeroBlock => {
            return Some("zeros are what a crash leaves, too");
        }
        Harm::ToastIndexZeroBlock => return Some("zeros are what a crash leaves, too"),
        _ if plan.is_checked() => return None,
        _ => {}
    }
    match harm {
        Harm::XminFuture | Harm::XminMissingClog | Harm::XmaxCommitted | Harm::XmaxMissingClog => {
            Some("any transaction may be meant")
        }
        Harm::LinePointerLength => Some("a shorter tuple may be meant"),
        Harm::TooFewAttributes | Harm::NullBitmap => {
            Some("a tuple may have fewer attributes, and NULLs")
        }
        Harm::VarlenaLength | Harm::VarlenaTag | Harm::ToastPointer => {
            Some("values are walked by the rows level: their types are in the catalogs")
        }
        Harm::CompressedGarbage | Harm::FlipValueBytes | Harm::ToastChunkData => {
            Some("bytes within a value may be anything")
        }
        Harm::ToastChunkSequence | Harm::ToastCompressed => {
            Some("bytes within a value may be anything")
        }
        Harm::ToastChunkMissing => Some("a row may have been deleted"),
        Harm::SeveralTuples => Some("each of them is hidden"),
        _ => None,
    }
}

pub fn check(ward: &Ward, plan: Plan, dumped: &Dumped) {
    let report = report_of(&ward.server, ward.dbname, &["-j2"]);
    let mut named = named_relations(&report);
    let mut wrong = Vec::new();
    for (&harm, harmed) in &ward.harmed {
        let table = plan.table(harm);
        let toast = format!("pg_toast_{}", dumped.relation(&table).oid);
        let index = format!("{toast}_index");
        let found = [table, toast, index].map(|name| named.remove(name.as_str()));
        let is_found = found.iter().flatten().any(|blocks| !blocks.is_empty());
        if is_found == hidden(harm, plan).is_some() {
            wrong.push(format!("{harm:?}: {}", if is_found { "found" } else { "not found" }));
        }
        let [blocks, ..] = found;
        let harmed: BTreeSet<u64> = harmed.blocks.iter().map(|&block| block.into()).collect();
        if let Some(blocks) = blocks.filter(|blocks| !blocks.is_subset(&harmed)) {
            wrong.push(format!("{harm:?}: {blocks:?} of {harmed:?}"));
        }
    }
    for &harm in ward.sequences.keys() {
        if named.remove(format!("{harm:?}").as_str()).is_none() {
            wrong.push(format!("{harm:?}: not found"));
        }
    }
    assert!(wrong.is_empty(), "{plan:?}: {wrong:#?}");
    assert!(named.is_empty(), "{plan:?}: nothing was done to {named:?}");
}
