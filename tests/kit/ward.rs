//! A server with one victim for every harm, harmed and started again: the
//! matrix of harms in one go.

use super::harm::{ChecksumAfter, Harm, Harmed, Place, harm};
use super::oracle::{self, Row};
use super::{Places, Server, ServerOptions, Stop, Version, sample};
use std::collections::BTreeMap;

pub struct Ward {
    pub server: Server,
    pub dbname: &'static str,
    /// The rows of each victim before the harm: all victims are equal.
    pub before: Vec<Row>,
    pub columns: Vec<String>,
    pub harmed: BTreeMap<Harm, Harmed>,
    /// One sequence for each harm of them, of the harm's name.
    pub sequences: BTreeMap<Harm, Harmed>,
}

/// The last value of each sequence.
pub const SEQUENCE_VALUE: i64 = 77;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    First,
    Middle,
    Last,
}

impl At {
    /// The place in a relation of so many blocks.
    pub fn of(self, blocks: u32) -> Place {
        match self {
            At::First => Place::first(),
            At::Middle => Place::middle(blocks),
            At::Last => Place::last(blocks),
        }
    }
}

/// How the victims are made and harmed.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub checksums: bool,
    pub sum: ChecksumAfter,
    /// Never vacuumed: range scans look at xmin and xmax.
    pub fresh: bool,
    /// Where in the harmed relation.
    pub at: At,
}

impl Plan {
    pub const fn new(checksums: bool) -> Plan {
        Plan { checksums, sum: ChecksumAfter::Stale, fresh: false, at: At::Middle }
    }

    /// True when the server finds out about any changed page by its checksum.
    pub fn is_checked(self) -> bool {
        self.checksums && self.sum == ChecksumAfter::Stale
    }

    /// All that a victim can suffer, as far as it makes a difference here.
    pub fn harms(self) -> Vec<Harm> {
        let mut harms = Harm::of_victims();
        harms.retain(|harm| *harm != Harm::Checksum || self.is_checked());
        harms
    }

    /// The name of the table that suffers this harm, in schema public.
    pub fn table(self, harm: Harm) -> String {
        format!("{}{harm:?}", if self.fresh { "fresh" } else { "" })
    }

    /// The same as SQL wants it.
    pub fn quoted(self, harm: Harm) -> String {
        format!("public.{}", oracle::quote(&self.table(harm)))
    }
}

impl Ward {
    pub async fn open(version: &Version, plan: Plan) -> Ward {
        let dbname = "postgres";
        let server = Server::start(version, ServerOptions::checksums(plan.checksums));
        let harms = plan.harms();
        let names: Vec<String> = harms.iter().map(|each| plan.table(*each)).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        sample::victims(&server, dbname, &names).await;
        for each in Harm::SEQUENCE {
            let create = format!("CREATE SEQUENCE \"{each:?}\"");
            server.execute(dbname, &create).await;
            let set = format!("SELECT setval('\"{each:?}\"', {SEQUENCE_VALUE})");
            server.execute(dbname, &set).await;
        }
        server.execute(dbname, "CHECKPOINT").await;
        let client = oracle::session(&server, dbname).await;
        let first = plan.quoted(harms[0]);
        let columns = oracle::columns(&client, &first).await;
        let before = oracle::rows(&client, &first, &columns).await;
        let mut places = Vec::new();
        for each in &harms {
            places.push(Places::of(&client, &plan.quoted(*each)).await);
        }
        let mut sequences = Vec::new();
        for each in Harm::SEQUENCE {
            sequences.push((each, Places::of(&client, &format!("public.\"{each:?}\"")).await));
        }
        assert_eq!(server.stop(), Stop::Clean);
        let mut harmed = BTreeMap::new();
        for (each, places) in harms.into_iter().zip(&places) {
            let is_toast = Harm::TOAST.contains(&each);
            let blocks = if is_toast { places.toast_blocks } else { places.blocks };
            let done = harm(&server, places, each, plan.at.of(blocks), plan.sum);
            harmed.insert(each, done);
        }
        let of_sequence = |(each, places): (Harm, Places)| {
            (each, harm(&server, &places, each, Place::first(), plan.sum))
        };
        let sequences = sequences.into_iter().map(of_sequence).collect();
        server.start_again();
        Ward { server, dbname, before, columns, harmed, sequences }
    }
}
