//! Why a relation has failed, where others than people want to know.

use crate::server::fault::{Missing, Words, missing};

/// The run, which was told to stop, has not come to it.
pub const NOT_READ: &str = "not read: the run was stopped";

/// Or not to the end of it.
pub const NOT_ALL_READ: &str = "not all of it was read: the run was stopped";

/// It is not there any more.
pub const GONE: &str = "the relation was dropped, or another has its name now";

/// Its rows are in another file now, which is not of the snapshot.
pub const REPLACED: &str = "its file was replaced since the snapshot was taken (TRUNCATE, VACUUM \
                            FULL, CLUSTER or ALTER TABLE): what it held then cannot be read";

/// The same, between two reads of it.
pub const REPLACED_MEANWHILE: &str = "its file was replaced while it was read (TRUNCATE, VACUUM \
    FULL, CLUSTER or ALTER TABLE): places read before and after do not fit together";

/// It has not the columns any more that it had then; the server's words follow.
pub const ALTERED: &str = "its columns were altered since the snapshot was taken";

/// Of a relation that the server refuses to read.
pub(super) fn why_refused(words: &Words) -> String {
    match missing(&words.sqlstate) {
        Some(Missing::Relation) => GONE.to_owned(),
        Some(Missing::Column) => format!("{ALTERED}: {}", words.one_line()),
        None => words.one_line(),
    }
}
