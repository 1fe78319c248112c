//! What was found, by what it was found in: a fork of a relation, a TOAST
//! relation, pg_xact, a process.

use super::blocks::Blocks;
use super::entry::Entry;
use super::path::{Geometry, RelationFile};
use super::wording::{self, Kind, Saying};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// So many are told apart; what would be one more is only counted.
const GROUPS_MAX: usize = 10_000;

/// So many of each are kept in a group: values, transactions, checksums.
const EACH_MAX: usize = 100;

/// So many different reasons, files and databases are kept in a group.
const FEW_MAX: usize = 8;

/// Of so many processes the last checksum is kept, until the page is named.
const PENDING_MAX: usize = 256;

/// So much of the first message is kept.
const SAMPLE_MAX: usize = 300;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Subject {
    File(RelationFile),
    /// `pg_toast_N`, of the table with this OID.
    Toast {
        database: Option<String>,
        table: u32,
    },
    /// A relation by its name, with or without its schema.
    Named {
        database: Option<String>,
        name: String,
    },
    /// A folder: `pg_xact`, `pg_multixact/offsets`.
    Slru(String),
    Wal,
    /// A process that ended by this signal.
    Process(u32),
    /// The words name nothing.
    Unnamed(Kind),
}

/// What was found in one of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Group {
    pub(super) subject: Subject,
    pub(super) kinds: BTreeMap<Kind, u64>,
    pub(super) blocks: Blocks,
    /// Between the first and the last of these blocks are so many.
    pub(super) among: BTreeSet<(u32, u32, u64)>,
    /// Of a block: computed, and expected.
    pub(super) checksums: BTreeMap<u32, (u32, u32)>,
    pub(super) values: BTreeSet<u32>,
    pub(super) xids: BTreeSet<u32>,
    /// Files of pg_xact and its kin.
    pub(super) files: BTreeSet<String>,
    pub(super) whys: BTreeSet<String>,
    /// As the log names them.
    pub(super) databases: BTreeSet<String>,
    pub(super) size: Option<u64>,
    pub(super) first: Option<String>,
    pub(super) last: Option<String>,
    pub(super) sample: String,
}

impl Group {
    fn new(subject: Subject, message: &[u8]) -> Self {
        let sample = String::from_utf8_lossy(&message[..message.len().min(SAMPLE_MAX)]);
        Self {
            subject,
            kinds: BTreeMap::new(),
            blocks: Blocks::default(),
            among: BTreeSet::new(),
            checksums: BTreeMap::new(),
            values: BTreeSet::new(),
            xids: BTreeSet::new(),
            files: BTreeSet::new(),
            whys: BTreeSet::new(),
            databases: BTreeSet::new(),
            size: None,
            first: None,
            last: None,
            sample: sample.chars().map(|c| if c.is_control() { ' ' } else { c }).collect(),
        }
    }

    /// How many messages there were, those about a checksum beside that about its
    /// page not counted.
    pub(super) fn count(&self) -> u64 {
        let of = |kind| self.kinds.get(&kind).copied().unwrap_or(0);
        let both = of(Kind::InvalidPage).min(of(Kind::ChecksumFailure));
        self.kinds.values().sum::<u64>() - both
    }

    /// Whether damage was seen: not only asked about.
    pub(super) fn is_damage(&self) -> bool {
        self.kinds.keys().any(|kind| *kind != Kind::Asked)
    }

    pub(super) fn has(&self, kind: Kind) -> bool {
        self.kinds.contains_key(&kind)
    }

    fn seen(&mut self, time: Option<&String>) {
        let Some(time) = time else { return };
        if self.first.as_ref().is_none_or(|first| time < first) {
            self.first = Some(time.clone());
        }
        if self.last.as_ref().is_none_or(|last| time > last) {
            self.last = Some(time.clone());
        }
    }
}

fn keep<T: Ord>(set: &mut BTreeSet<T>, value: Option<T>, max: usize) {
    if let Some(value) = value.filter(|_| set.len() < max) {
        set.insert(value);
    }
}

/// All that was found, while it is read.
pub(super) struct Groups {
    geometry: Geometry,
    /// Whether a SQLSTATE is of damage, whatever the words are.
    is_of_damage: fn(&str) -> bool,
    groups: BTreeMap<Subject, Group>,
    /// By process: checksums of a page that is named by the next message.
    pending: HashMap<Option<u32>, (Entry, (u32, u32))>,
    /// Messages of damage for which there was no room.
    pub(super) omitted: u64,
}

impl Groups {
    pub(super) fn new(geometry: Geometry, is_of_damage: fn(&str) -> bool) -> Self {
        let (groups, pending) = (BTreeMap::new(), HashMap::new());
        Self { geometry, is_of_damage, groups, pending, omitted: 0 }
    }

    pub(super) fn add(&mut self, entry: Entry) {
        let known = wording::saying(&entry.message);
        let Some((kind, saying)) = known.or_else(|| self.other(&entry)) else { return };
        if let (Kind::ChecksumFailure, None, Some(sums)) = (kind, &saying.path, saying.checksums) {
            let key = entry.pid;
            if self.pending.len() >= PENDING_MAX && !self.pending.contains_key(&key) {
                self.give_up_pending();
            }
            if let Some((earlier, _)) = self.pending.insert(key, (entry, sums)) {
                self.unnamed_checksum(&earlier);
            }
            return;
        }
        let sums = match kind {
            Kind::InvalidPage if saying.among.is_none() => self.pending.remove(&entry.pid),
            _ => None,
        };
        self.note(kind, saying, &entry, sums.map(|(_, sums)| sums));
    }

    /// Somebody asks about blocks of a file; without any about the file.
    pub(super) fn ask(&mut self, file: RelationFile, blocks: &[(u32, u32)]) {
        let Some(group) = self.group(Subject::File(file), b"") else { return };
        *group.kinds.entry(Kind::Asked).or_default() += 1;
        blocks.iter().for_each(|(first, last)| group.blocks.add(*first, *last));
    }

    /// In the order of their subjects.
    pub(super) fn end(mut self) -> (Vec<Group>, u64) {
        self.give_up_pending();
        let mut groups: Vec<Group> = self.groups.into_values().collect();
        for group in &mut groups {
            let exact = &group.blocks;
            group.among.retain(|(first, last, count)| exact.count_within(*first, *last) < *count);
        }
        (groups, self.omitted)
    }

    fn give_up_pending(&mut self) {
        let pending: Vec<Entry> = self.pending.drain().map(|(_, (entry, _))| entry).collect();
        pending.iter().for_each(|entry| self.unnamed_checksum(entry));
    }

    fn unnamed_checksum(&mut self, entry: &Entry) {
        self.note(Kind::ChecksumFailure, Saying::default(), entry, None);
    }

    fn other(&self, entry: &Entry) -> Option<(Kind, Saying)> {
        let state = entry.sqlstate.as_deref()?;
        let saying = (self.is_of_damage)(state).then(|| wording::translated(&entry.message))??;
        Some((Kind::Other, saying))
    }

    fn group(&mut self, subject: Subject, message: &[u8]) -> Option<&mut Group> {
        if !self.groups.contains_key(&subject) && self.groups.len() >= GROUPS_MAX {
            self.omitted += 1;
            return None;
        }
        let group = || Group::new(subject.clone(), message);
        Some(self.groups.entry(subject.clone()).or_insert_with(group))
    }

    fn note(&mut self, kind: Kind, saying: Saying, entry: &Entry, sums: Option<(u32, u32)>) {
        let (first_held, slru) = wording::detail(&entry.detail);
        let scanned = wording::context(&entry.context);
        let named = saying.path.as_deref().and_then(RelationFile::parse);
        let blocks = match (saying.blocks, &named) {
            (Some((first, last)), Some((_, segment))) if saying.within_segment => {
                let table_wide = |page| self.geometry.block(segment.unwrap_or(0), page);
                table_wide(first).zip(table_wide(last))
            }
            (blocks, _) => blocks,
        };
        let block_scanned = scanned.as_ref().and_then(|(_, block)| *block);
        let file = named.map(|(file, _)| file);
        let slru_file = slru.as_ref().map(|(file, _)| file.as_str());
        let subject = subject(kind, &saying, entry, file, slru_file, scanned.map(|(r, _)| r));
        let has_place = matches!(subject, Subject::File(_) | Subject::Named { .. });
        let Some(group) = self.group(subject, &entry.message) else { return };
        *group.kinds.entry(kind).or_default() += 1;
        group.seen(entry.time.as_ref());
        match (blocks, saying.among) {
            (Some((first, last)), Some(count)) => {
                if group.among.len() < EACH_MAX {
                    group.among.insert((first, last, count));
                }
            }
            (Some((first, last)), None) => group.blocks.add(first, last),
            (None, _) => {}
        }
        if let Some(block) = first_held.or(block_scanned).filter(|_| has_place) {
            group.blocks.add(block, block);
        }
        if let Some((sums, (block, _))) = sums.or(saying.checksums).zip(blocks) {
            if sums_are_new(group, block) {
                group.checksums.insert(block, sums);
            }
            if kind == Kind::InvalidPage {
                *group.kinds.entry(Kind::ChecksumFailure).or_default() += 1;
            }
        }
        keep(&mut group.values, saying.value, EACH_MAX);
        keep(&mut group.xids, saying.xid, EACH_MAX);
        let (slru_file, slru_why) = slru.unzip();
        keep(&mut group.files, slru_file, EACH_MAX);
        keep(&mut group.whys, saying.why.or(slru_why), FEW_MAX);
        keep(&mut group.databases, entry.database.clone(), FEW_MAX);
        group.size = group.size.max(saying.size);
    }
}

fn sums_are_new(group: &Group, block: u32) -> bool {
    group.checksums.len() < EACH_MAX || group.checksums.contains_key(&block)
}

/// What a message is about.
fn subject(
    kind: Kind,
    saying: &Saying,
    entry: &Entry,
    file: Option<RelationFile>,
    slru_file: Option<&str>,
    scanned: Option<String>,
) -> Subject {
    let database = entry.database.clone();
    if let Some(file) = file {
        return Subject::File(file);
    }
    let folder = slru_file.and_then(|file| file.rsplit_once('/')).map(|(folder, _)| folder);
    match (kind, &saying.relation) {
        (Kind::Crash, _) => Subject::Process(saying.signal.unwrap_or(0)),
        (Kind::NoCheckpoint | Kind::WalInvalidPages, _) => Subject::Wal,
        (Kind::TransactionStatus, _) => Subject::Slru(folder.unwrap_or("pg_xact").to_owned()),
        (Kind::MultiXact, _) => Subject::Slru(folder.unwrap_or("pg_multixact").to_owned()),
        (_, Some(name)) => match name.strip_prefix("pg_toast_").and_then(|n| n.parse().ok()) {
            Some(table) => Subject::Toast { database, table },
            None => Subject::Named { database, name: name.clone() },
        },
        (_, None) => match scanned {
            Some(name) => Subject::Named { database, name },
            None => Subject::Unnamed(kind),
        },
    }
}
