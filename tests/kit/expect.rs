//! What servers do about each harm, as `tests/kit_harm.rs` proves on every
//! version; docs/harm-observed.md has their words.

use super::harm::Harm;

/// What comes of reading what was harmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// An error with one of these SQLSTATEs.
    Error(&'static [&'static str]),
    /// The backend dies, and all others with it.
    Crash,
    /// Rows are missing or wrong, without an error.
    Silent,
    /// Everything comes as before: only a look at the page finds it.
    Nothing,
}

impl Harm {
    /// True when what comes of it depends on the bytes beside those changed:
    /// then `expected` holds for the middle of a victim only.
    pub fn depends_on_neighbours(self) -> bool {
        matches!(self, Harm::LinePointerOffset | Harm::TornPage | Harm::ToastTornPage)
    }

    /// What every version from 13 to 18 was seen to do when a whole relation is
    /// read whose pages are not all-visible. `checked`: the page carries a
    /// checksum that no longer fits.
    pub fn expected(self, checked: bool) -> Expect {
        match self {
            Harm::RemoveFile | Harm::RemoveToastFile => Expect::Error(&["58P01"]),
            Harm::ZeroBlock | Harm::TruncateAt | Harm::RemoveSegment => Expect::Silent,
            Harm::ToastZeroBlock => Expect::Error(&["XX001"]),
            Harm::ToastIndexZeroBlock => Expect::Error(&["XX002"]),
            Harm::BadPageHeader
            | Harm::ToastBadPageHeader
            | Harm::ToastIndexBadPageHeader
            | Harm::ToastIndexMetaPage => Expect::Error(&["XX001"]),
            _ if checked => Expect::Error(&["XX001"]),
            Harm::XminMissingClog | Harm::XmaxMissingClog => Expect::Error(&["58P01"]),
            Harm::XminFuture
            | Harm::XmaxCommitted
            | Harm::TooFewAttributes
            | Harm::FlipValueBytes
            | Harm::NullBitmap
            | Harm::ToastChunkData => Expect::Silent,
            Harm::Checksum | Harm::LinePointerLength | Harm::TooManyAttributes => Expect::Nothing,
            Harm::THoff | Harm::VarlenaLength | Harm::VarlenaTag => Expect::Crash,
            // Garbage taken for a MultiXact.
            Harm::LinePointerOffset | Harm::SequenceMagic => Expect::Error(&["XX000"]),
            Harm::ToastPointer
            | Harm::ToastChunkSequence
            | Harm::ToastChunkMissing
            | Harm::ToastTornPage
            | Harm::SequenceBadPageHeader => Expect::Error(&["XX001"]),
            // The page is looked at for visible tuples first.
            Harm::SeveralTuples => Expect::Error(&["58P01"]),
            // XX000 on 13.
            Harm::CompressedGarbage | Harm::TornPage | Harm::ToastCompressed => {
                Expect::Error(&["XX001", "XX000"])
            }
        }
    }
}
