//! What is done to the files of the stopped server, and to which.

use super::kit::harm::{ChecksumAfter, Harm, Harmed, harm};
use super::kit::ward::At;
use super::kit::{Expect, Places, Server, oracle};

use ChecksumAfter::{Recomputed, Stale};

/// One wound to inflict. A page that was damaged on its way to the disk has a
/// stale checksum; one that was damaged in memory has a good one, and no
/// checksum finds it.
struct Plan {
    relation: &'static str,
    what: &'static str,
    harm: Harm,
    at: At,
    sum: ChecksumAfter,
}

const fn plan(
    relation: &'static str,
    what: &'static str,
    harm: Harm,
    at: At,
    sum: ChecksumAfter,
) -> Plan {
    Plan { relation, what, harm, at, sum }
}

#[rustfmt::skip]
const PLANS: [Plan; 13] = [
    plan("public.orders", "a page header that makes no sense", Harm::BadPageHeader, At::Middle, Stale),
    plan("public.order_lines", "a checksum that does not fit its page", Harm::Checksum, At::Middle, Stale),
    plan("public.events", "the first page is garbage", Harm::BadPageHeader, At::First, Stale),
    plan("public.sales_by_day", "a bad page in a materialised view", Harm::BadPageHeader, At::Middle, Stale),
    plan("public.audit", "its file is gone", Harm::RemoveFile, At::First, Stale),
    plan("public.letters", "a damaged chunk in its TOAST table", Harm::ToastChunkSequence, At::Middle, Stale),
    plan("public.contracts", "a bad page in the index of its TOAST table", Harm::ToastIndexBadPageHeader, At::First, Stale),
    plan("public.fresh_payments", "a row whose pg_xact segment is missing", Harm::XminMissingClog, At::Middle, Recomputed),
    plan("public.tickets", "a row that takes the server down when read", Harm::VarlenaLength, At::Middle, Recomputed),
    plan("public.customers_id_seq", "the page of a sequence", Harm::SequenceBadPageHeader, At::First, Stale),
    plan("pg_catalog.pg_largeobject", "a bad page among the large objects", Harm::BadPageHeader, At::Middle, Stale),
    plan("public.stock", "a page of zeros: PostgreSQL takes it for new", Harm::ZeroBlock, At::Middle, Stale),
    plan("public.prices", "its last tenth cut off: PostgreSQL takes it for short", Harm::TruncateAt, At::Last, Stale),
];

/// A wound that was inflicted.
pub struct Wound {
    pub relation: &'static str,
    pub what: &'static str,
    pub oid: u32,
    pub harmed: Harmed,
}

impl Wound {
    /// Whether the server reads over it without an error.
    pub fn is_silent(&self) -> bool {
        self.harmed.expect == Expect::Silent
    }
}

/// Where the relations lie, asked while the server runs.
pub struct Planned(&'static Plan, Places);

pub async fn places(server: &Server, dbname: &str, checksums: bool) -> Vec<Planned> {
    let client = oracle::session(server, dbname).await;
    let mut planned = Vec::new();
    // Without checksums there is none to be stale.
    for plan in PLANS.iter().filter(|p| checksums || p.harm != Harm::Checksum) {
        planned.push(Planned(plan, Places::of(&client, plan.relation).await));
    }
    planned
}

pub fn inflict(server: &Server, planned: &[Planned]) -> Vec<Wound> {
    let wound = |Planned(plan, places): &Planned| {
        let is_toast = Harm::TOAST.contains(&plan.harm);
        let blocks = if is_toast { places.toast_blocks } else { places.blocks };
        let mut at = plan.at.of(blocks);
        if plan.harm == Harm::TruncateAt {
            at.block = blocks - blocks.div_ceil(10);
        }
        let harmed = harm(server, places, plan.harm, at, plan.sum);
        Wound { relation: plan.relation, what: plan.what, oid: places.oid, harmed }
    };
    planned.iter().map(wound).collect()
}
