//! The database of the soak: damaged, small, with the truth about it.

use crate::kit::dumped::{Dumped, Essence};
use crate::kit::{
    ChecksumAfter, Harm, Harmed, Place, Places, Server, ServerOptions, Stop, Version,
};
use crate::kit::{harm, oracle, sample};
use crate::soak::{DB, NARROW};
use pg_salvage::output::manifest::{Lost, Relation, RelationStatus, RowClass};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::Mutex;

const DAMAGED: [(&str, Harm); 5] = [
    ("page", Harm::BadPageHeader),
    ("tuple", Harm::CompressedGarbage),
    ("pointer", Harm::ToastPointer),
    ("toast", Harm::ToastChunkSequence),
    ("toastpage", Harm::ToastBadPageHeader),
];
const KILLERS: [(&str, Harm); 1] = [("killer", Harm::THoff)];

pub struct Base {
    pub server: Arc<Server>,
    /// Held by whoever stops the server, or has it crash.
    pub server_stops: Mutex<()>,
    /// Some of its tables take the server down.
    pub kills: bool,
    /// What a run gives that nobody disturbs.
    pub whole: Vec<Essence>,
    truth: BTreeMap<String, Vec<oracle::Row>>,
    harmed: BTreeMap<String, Harmed>,
}

impl Base {
    pub async fn make(version: &Version, kills: bool) -> Base {
        let server = Server::start(version, ServerOptions::checksums(true));
        let client = server.connect(DB).await;
        // No unlogged tables: a crash empties them. The role is for servers
        // with too few connections.
        let sql = format!(
            "CREATE TABLE empty (i int); CREATE TABLE none ();
             CREATE TABLE small1 AS SELECT i FROM generate_series(1, 10) i;
             CREATE TABLE small2 (s serial, t text); INSERT INTO small2 (t) SELECT 'x';
             CREATE TABLE large AS SELECT i, md5(i::text) t FROM generate_series(1, 60000) i;
             CREATE ROLE {NARROW} LOGIN CONNECTION LIMIT 2; GRANT pg_read_all_data TO {NARROW}"
        );
        client.batch_execute(&sql).await.expect("it works");
        client.batch_execute("VACUUM (ANALYZE)").await.expect("it works");
        let killers = if kills { &KILLERS[..] } else { &[] };
        let harms: Vec<(&str, Harm)> = DAMAGED.iter().chain(killers).copied().collect();
        let names: Vec<&str> = harms.iter().map(|(name, _)| *name).collect();
        sample::victims(&server, DB, &[&["well"], &names[..]].concat()).await;
        let truth = oracle::database(&server, DB).await;
        let truth = truth.into_iter().map(|(relation, rows)| (relation.name, rows)).collect();
        let mut places = Vec::new();
        for name in &names {
            places.push(Places::of(&client, &format!("public.{}", oracle::quote(name))).await);
        }
        drop(client);
        assert_eq!(server.stop(), Stop::Clean);
        let harmed = places
            .iter()
            .zip(harms)
            .map(|(places, (name, what))| (name.to_owned(), hurt(&server, places, what)));
        let harmed = harmed.collect();
        server.start_again();
        let (server, server_stops) = (Arc::new(server), Mutex::default());
        Base { server, server_stops, kills, whole: Vec::new(), truth, harmed }
    }

    /// What takes its time, while other things happen.
    pub async fn blocking(&self, what: impl FnOnce(&Server) + Send + 'static) {
        let server = self.server.clone();
        tokio::task::spawn_blocking(move || what(&server)).await.expect("no panic");
    }

    /// Takes a dump that nobody disturbed for what others must equal, if it has
    /// every row that the harm has left.
    pub async fn take(&mut self, undisturbed: &Dumped) {
        undisturbed.check_files("undisturbed");
        for (name, truth) in &self.truth {
            let entry = undisturbed.relation(name);
            let mut read = undisturbed.lines(entry, RowClass::Clean).await;
            read.extend(undisturbed.lines(entry, RowClass::Suspect).await);
            let is_lost = |row: &&oracle::Row| entry.lost.iter().any(|l| covers(l, row));
            let (lost, mut left): (Vec<_>, Vec<_>) = truth.iter().partition(is_lost);
            left.sort_by_key(|row| &row.line);
            read.sort();
            assert!(read.iter().eq(left.iter().map(|row| &row.line)), "{name}: {entry:#?}");
            match self.harmed.get(name) {
                Some(harmed) => {
                    let alone = lost.iter().find(|r| harmed.leaves_tuple_alone(r.block, r.offset));
                    assert!(alone.is_none() && !lost.is_empty(), "{name}: {harmed:?} {entry:#?}");
                }
                None => assert_eq!(entry.status, RelationStatus::Clean, "{name}: {entry:#?}"),
            }
        }
        self.whole = undisturbed.essence().await;
    }

    /// What a run leaves that did not come to its end is true as far as it goes:
    /// no row that is not there, none twice, and what is done is as it must be.
    pub async fn assert_true_so_far(&self, dumped: &Dumped, at: &str) {
        let wanted = |name: &str| self.whole.iter().find(|e| e.name == name);
        for found in dumped.essence().await {
            let entry = self.entry(dumped, &found.name);
            if entry.status == RelationStatus::Failed {
                let mut left: BTreeMap<&[u8], usize> = BTreeMap::new();
                for row in self.truth.get(&found.name).into_iter().flatten() {
                    *left.entry(&row.line).or_default() += 1;
                }
                for row in found.clean.iter().chain(&found.suspect) {
                    let rows = left.get_mut(row.as_slice()).filter(|n| **n > 0);
                    *rows.unwrap_or_else(|| panic!("{at}: {} has a row too many", found.name)) -= 1;
                }
            } else {
                let wanted = wanted(&found.name).expect("a relation that is there");
                assert_eq!(found.entry, wanted.entry, "{at}: {}", found.name);
                assert!(found == *wanted, "{at}: rows of {}", found.name);
            }
        }
    }

    fn entry<'d>(&self, dumped: &'d Dumped, name: &str) -> &'d Relation {
        let found = dumped.manifest.relations.iter().find(|r| r.name == name);
        found.expect("its essence was taken")
    }
}

fn hurt(server: &Server, places: &Places, what: Harm) -> Harmed {
    let is_toast = Harm::TOAST.contains(&what);
    let at = Place::middle(if is_toast { places.toast_blocks } else { places.blocks });
    let sum = match what {
        Harm::BadPageHeader | Harm::ToastBadPageHeader => ChecksumAfter::Stale,
        _ => ChecksumAfter::Recomputed,
    };
    harm(server, places, what, at, sum)
}

fn covers(lost: &Lost, row: &oracle::Row) -> bool {
    if let Some(ctid) = &lost.ctid {
        return oracle::parse_tid(ctid) == (row.block, row.offset);
    }
    let (Some(first), Some(last)) = (lost.first_block, lost.last_block) else { return true };
    (first..=last).contains(&row.block)
}
