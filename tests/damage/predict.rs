//! What must become of each row of a harmed victim, by the rules of
//! docs/salvage.md and docs/errors.md: where it is found, and what is said of
//! it. Pure, and told nothing of what the program did.

use crate::kit::harm::Changed;
use crate::kit::oracle::Row;
use crate::kit::sample::VICTIM_COLUMNS;
use crate::kit::{At, Harm, Harmed, Plan};
use pg_salvage::output::manifest::RelationStatus;
use std::collections::BTreeMap;

/// What a harm comes to, for who reads around it.
enum Damage {
    /// Nobody can tell, by the rows, that anything was done.
    None,
    /// The server cannot read the page: its rows are lost.
    Page,
    /// There is no file.
    File,
    /// The rows of the blocks are gone, without an error. How that is found, if
    /// it is.
    Vanished(Option<Clue>),
    /// The tuple is not seen any more, without an error, and nobody can tell.
    Invisible,
    /// The tuple comes out otherwise, without an error.
    Altered,
    /// The tuple is lost, for this cause.
    Tuple(&'static str),
    /// These columns of the tuple are lost, each for its cause.
    Columns(&'static [Lost]),
    /// Bytes of it are zero: what that means depends on where they begin.
    Torn,
    /// Only the way to the values is damaged: they are put together without it.
    Detour,
    /// In each tuple its own.
    Several,
}

/// The best that tells of rows that vanished: they are named once, whoever tells.
enum Clue {
    /// pg_class knows the file's length, or the visibility map has these blocks,
    /// or an index has items for them: what is missing is named.
    Blocks,
    /// An index-only scan counts more rows, where pages are all-visible.
    Count,
}

/// What tells of a page of zeros.
fn clue_of_zeros(plan: Plan) -> Option<Clue> {
    // Zeros at the end of a file may be of an extension that was never used.
    let behind = plan.at == At::Last;
    // Reading for the first time sets hint bits, which with checksums make a page
    // a new one: none that follows is then as the last checkpoint has left it,
    // unless the server went down meanwhile, which made another.
    let unsettled = plan.fresh && plan.is_checked();
    let blocks = (!behind && !unsettled).then_some(Clue::Blocks);
    blocks.or((!plan.fresh).then_some(Clue::Count))
}

/// A column, and why it is lost.
type Lost = (&'static str, &'static str);

const VALUE: &[Lost] = &[("big", "stored_elsewhere")];

/// A damaged varlena, and what lies behind it.
const SQUEEZED: &[Lost] = &[("squeezed", "tuple"), ("big", "untrusted")];

/// The table of rules. Versions differ in the words of their errors
/// (docs/harm-observed.md), and before 14 in how blocks are read (`torn_page`).
fn damage(harm: Harm, plan: Plan) -> Damage {
    let checked = plan.is_checked();
    // Of an all-visible page a range scan does not look at xmin and xmax.
    let looks_at_xmin = plan.fresh;
    match harm {
        Harm::RemoveFile => Damage::File,
        // An index knows, and since VACUUM pg_class does.
        Harm::TruncateAt => Damage::Vanished(Some(Clue::Blocks)),
        // A page of zeros is a new one, and has no checksum.
        Harm::ZeroBlock => Damage::Vanished(clue_of_zeros(plan)),
        Harm::RemoveToastFile | Harm::ToastZeroBlock | Harm::ToastBadPageHeader => {
            Damage::Columns(VALUE)
        }
        Harm::ToastIndexZeroBlock | Harm::ToastIndexBadPageHeader | Harm::ToastIndexMetaPage => {
            Damage::Detour
        }
        Harm::BadPageHeader => Damage::Page,
        _ if checked && Harm::TOAST.contains(&harm) => Damage::Columns(VALUE),
        _ if checked => Damage::Page,

        Harm::TornPage | Harm::ToastTornPage => Damage::Torn,
        Harm::ToastChunkData => Damage::Altered,
        Harm::ToastPointer
        | Harm::ToastChunkSequence
        | Harm::ToastChunkMissing
        | Harm::ToastCompressed => Damage::Columns(VALUE),
        Harm::CompressedGarbage => Damage::Columns(SQUEEZED),
        Harm::SeveralTuples => Damage::Several,
        Harm::XminMissingClog | Harm::XmaxMissingClog if looks_at_xmin => Damage::Tuple("tuple"),
        Harm::XminFuture | Harm::XmaxCommitted if looks_at_xmin => Damage::Invisible,
        Harm::XminMissingClog | Harm::XmaxMissingClog | Harm::XminFuture | Harm::XmaxCommitted => {
            Damage::None
        }
        // On an all-visible page its garbage takes the server down in a range of
        // blocks; by itself the tuple's xmax is looked at, and is garbage, too.
        Harm::LinePointerOffset => Damage::Tuple("tuple"),
        Harm::THoff | Harm::VarlenaLength | Harm::VarlenaTag => Damage::Tuple("server_crash"),
        Harm::TooFewAttributes | Harm::FlipValueBytes | Harm::NullBitmap => Damage::Altered,
        // Nothing that makes a row is taken from what was changed.
        Harm::LinePointerLength | Harm::TooManyAttributes => Damage::None,
        Harm::Checksum => unreachable!("only where checksums are looked at"),
        Harm::RemoveSegment | Harm::SequenceMagic | Harm::SequenceBadPageHeader => {
            unreachable!("not of victims")
        }
    }
}

/// What becomes of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    Clean,
    /// In the clean file, but like this, and nobody can tell.
    Altered(Vec<u8>),
    Suspect,
    /// In the suspect file, but like this.
    SuspectAltered(Vec<u8>),
    /// With these columns missing.
    Partial(&'static [Lost]),
    /// In no file, and named.
    Lost,
    /// In no file, and not named by itself.
    Missing,
}

/// A place lost: what `lost` of a relation must say, but for words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    pub blocks: Option<(u32, u32)>,
    pub ctid: Option<(u32, u16)>,
    pub column: Option<&'static str>,
    pub cause: &'static str,
}

impl Named {
    fn whole(cause: &'static str) -> Named {
        Named { blocks: None, ctid: None, column: None, cause }
    }

    fn blocks(first: u32, last: u32, cause: &'static str) -> Named {
        Named { blocks: Some((first, last)), ..Named::whole(cause) }
    }

    fn tuple(at: (u32, u16), cause: &'static str) -> Named {
        Named { ctid: Some(at), ..Named::whole(cause) }
    }
}

#[derive(Debug)]
pub struct Prediction {
    pub status: RelationStatus,
    /// Whether the relation's entry has a reason.
    pub reason: bool,
    pub lost: Vec<Named>,
    /// Rows that are not clean.
    fates: BTreeMap<(u32, u16), Fate>,
}

impl Prediction {
    pub fn fate(&self, row: &Row) -> &Fate {
        self.fates.get(&(row.block, row.offset)).unwrap_or(&Fate::Clean)
    }
}

/// What must come of a victim with these rows.
pub fn predict(
    (harm, harmed): (Harm, &Harmed),
    plan: Plan,
    major: u32,
    rows: &[Row],
) -> Prediction {
    let mut prediction = Prediction {
        status: RelationStatus::Salvaged,
        reason: false,
        lost: Vec::new(),
        fates: BTreeMap::new(),
    };
    let block = harmed.blocks.first().copied().unwrap_or(0);
    let touched: Vec<&Row> =
        rows.iter().filter(|r| !harmed.leaves_tuple_alone(r.block, r.offset)).collect();
    let whole_blocks = rows.iter().filter(|r| harmed.blocks.contains(&r.block));
    match damage(harm, plan) {
        Damage::None => prediction.status = RelationStatus::Clean,
        Damage::Page => {
            prediction.all(whole_blocks, |_| Fate::Lost);
            prediction.lost = vec![Named::blocks(block, block, "page")];
        }
        Damage::File => {
            prediction.all(whole_blocks, |_| Fate::Lost);
            prediction.lost = vec![Named::whole("missing_file")];
            prediction.status = RelationStatus::Lost;
        }
        Damage::Vanished(clue) => {
            prediction.all(whole_blocks, |_| Fate::Missing);
            let last = harmed.blocks.last().copied().unwrap_or(block);
            let named = |clue| match clue {
                Clue::Blocks => Named::blocks(block, last, "silent_loss"),
                Clue::Count => Named::whole("silent_loss"),
            };
            prediction.lost = clue.map(named).into_iter().collect();
            if prediction.lost.is_empty() {
                prediction.status = RelationStatus::Clean;
            }
        }
        Damage::Invisible => {
            prediction.all(touched, |_| Fate::Missing);
            prediction.status = RelationStatus::Clean;
        }
        Damage::Altered => {
            prediction.all(touched, |row| Fate::Altered(altered(harm, harmed, row)));
            prediction.status = RelationStatus::Clean;
        }
        Damage::Tuple(cause) => {
            prediction.all(whole_blocks, |_| Fate::Suspect);
            for row in touched {
                prediction.lose(row, cause);
            }
        }
        Damage::Columns(lost) => {
            if lost.iter().any(|(_, cause)| *cause == "tuple") {
                prediction.all(whole_blocks, |_| Fate::Suspect);
            }
            for row in touched {
                prediction.lose_columns(row, lost);
            }
        }
        Damage::Several => {
            prediction.all(whole_blocks, |_| Fate::Suspect);
            for row in touched {
                // The last of them has an xmin that nobody knows. Behind a row
                // that fails only exact TIDs are left, which look at it.
                match harmed.tuples.last() {
                    Some(last) if *last == (row.block, row.offset) => prediction.lose(row, "tuple"),
                    _ => prediction.lose_columns(row, SQUEEZED),
                }
            }
        }
        Damage::Torn if harm == Harm::ToastTornPage => {
            for row in touched {
                match &harmed.changed[&(row.block, row.offset)] {
                    Changed::ChunkGone => prediction.lose_columns(row, VALUE),
                    _ => prediction.all([row], |row| Fate::Altered(altered(harm, harmed, row))),
                }
            }
        }
        Damage::Torn => {
            // Before 14 there are no scans of ranges of ctids, but only of exact
            // ones, which look at xmin on an all-visible page, too.
            let looks_at_xmin = plan.fresh || major < 14;
            prediction.torn_page(harmed, looks_at_xmin, whole_blocks);
        }
        Damage::Detour => prediction.reason = true,
    }
    prediction
}

impl Prediction {
    fn all<'a>(&mut self, rows: impl IntoIterator<Item = &'a Row>, fate: impl Fn(&Row) -> Fate) {
        self.fates.extend(rows.into_iter().map(|row| ((row.block, row.offset), fate(row))));
    }

    fn lose(&mut self, row: &Row, cause: &'static str) {
        self.fates.insert((row.block, row.offset), Fate::Lost);
        self.lost.push(Named::tuple((row.block, row.offset), cause));
    }

    fn lose_columns(&mut self, row: &Row, lost: &'static [Lost]) {
        let at = (row.block, row.offset);
        self.fates.insert(at, Fate::Partial(lost));
        let named = lost
            .iter()
            .map(|&(column, cause)| Named { column: Some(column), ..Named::tuple(at, cause) });
        self.lost.extend(named);
    }

    /// The second half of the page is zero, with it the first tuples. The one
    /// that lies across its border ends in the middle of `squeezed`.
    fn torn_page<'a>(
        &mut self,
        harmed: &Harmed,
        looks_at_xmin: bool,
        rows: impl IntoIterator<Item = &'a Row>,
    ) {
        for row in rows {
            let fate = match harmed.changed.get(&(row.block, row.offset)) {
                // xmin is 0: such a tuple was never there, if anybody looks. Else
                // it has no columns, and each of them is NULL.
                Some(Changed::Zeroed) if looks_at_xmin => Fate::Missing,
                Some(Changed::Zeroed) => Fate::SuspectAltered(nulls()),
                Some(Changed::ZeroedFrom(column)) => {
                    assert_eq!(VICTIM_COLUMNS[*column], "squeezed", "nothing else is foretold");
                    self.lose_columns(row, SQUEEZED);
                    continue;
                }
                _ => Fate::Suspect,
            };
            self.fates.insert((row.block, row.offset), fate);
        }
    }
}

fn nulls() -> Vec<u8> {
    VICTIM_COLUMNS.map(|_| &b"\\N"[..]).join(&b'\t')
}

/// A row as it comes out where bytes of it were changed and nothing tells.
fn altered(harm: Harm, harmed: &Harmed, row: &Row) -> Vec<u8> {
    let mut fields: Vec<Vec<u8>> = row.line.split(|&b| b == b'\t').map(<[u8]>::to_vec).collect();
    let null = || b"\\N".to_vec();
    match harm {
        Harm::TooFewAttributes => fields[3..].fill(null()),
        Harm::FlipValueBytes => {
            let n: u64 = String::from_utf8_lossy(&fields[1]).parse().expect("a number");
            fields[1] = (n ^ 0x40).to_string().into_bytes();
            // Behind a header of one byte.
            fields[3][2] ^= 0x02;
        }
        // What is stored of `note` is taken for the next column.
        Harm::NullBitmap => fields[4] = std::mem::replace(&mut fields[3], null()),
        Harm::ToastChunkData | Harm::ToastTornPage => {
            let Changed::Value(at, by) = &harmed.changed[&(row.block, row.offset)] else {
                panic!("{harm:?} changes bytes of a value")
            };
            let big = &mut fields[5];
            // COPY ends a text at its first zero byte.
            let end = by.iter().position(|&b| b == 0).unwrap_or(by.len());
            big[*at..at + end].copy_from_slice(&by[..end]);
            if end < by.len() {
                big.truncate(at + end);
            }
        }
        _ => unreachable!("{harm:?} alters nothing"),
    }
    fields.join(&b'\t')
}
