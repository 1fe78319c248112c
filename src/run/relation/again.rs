//! A relation that is begun again.
//!
//! A lost snapshot is followed by another, which may see other rows. Ranges of
//! blocks that were read in the one and in the other do not fit together: rows
//! that moved between them would be there twice, or not at all. So all that was
//! read of the relation is given up, and it is read from its beginning, but for
//! the tuples that are known to take the server down.
//!
//! Its stretches are in many hands by then. Each lets go when it meets the other
//! data, or comes to its end; the last one that does begins the relation again.

use super::super::RunError;
use super::{RelationRun, State, lanes};
use crate::dump::{Stretch, piece_path};
use crate::output::manifest::RowClass;
use crate::output::{OutputError, manifest, names};

/// So often a relation is begun again; then what was read last is kept, and it
/// has failed. Without end it would be where somebody writes to it and ends the
/// session that holds the snapshot again and again.
const AGAIN_MAX: u32 = 10;

/// What becomes of whoever met other data.
pub(in super::super) enum Met {
    /// These stretches are to be read, and nothing of them was.
    Again(Vec<usize>),
    /// Others have not let go yet: they will see to it.
    Wait,
    /// It was begun again too often: nothing more is read of it.
    TooOften(Option<Box<Stretch>>),
}

/// What became of a relation when a stretch of it had come to its end.
pub(in super::super) enum Finished {
    /// Others are not done yet.
    Stretch,
    Relation(Box<manifest::Relation>),
    /// These stretches are to be read again.
    Again(Vec<usize>),
}

impl RelationRun {
    /// A stretch, begun or not, has met other data than what was read before.
    pub(in super::super) async fn let_go(
        &self,
        index: usize,
        stretch: Option<Box<Stretch>>,
    ) -> Result<Met, RunError> {
        let mut state = self.state.lock().await;
        if state.times_again == AGAIN_MAX {
            return Ok(Met::TooOften(stretch));
        }
        drop(stretch);
        state.again = true;
        state.out.remove(&index);
        state.let_go.insert(index);
        Ok(self.begin_again(&mut state).await?.map_or(Met::Wait, Met::Again))
    }

    /// Begins again, if that is wanted and nobody writes any more. The stretches
    /// that have to be read, but for those whose turn has not come yet.
    pub(super) async fn begin_again(
        &self,
        state: &mut State,
    ) -> Result<Option<Vec<usize>>, OutputError> {
        if !state.again || !state.out.is_empty() {
            return Ok(None);
        }
        tracing::warn!(
            "relation \"{}\" is read from its beginning: the database was written to, and what was \
             read before does not fit to what is seen now",
            self.relation.display_name()
        );
        self.write_plan(state.on_disk.as_ref().map_or(0, |d| d.blocks))?;
        state.lanes = lanes(&self.files, &self.stem, Default::default())?;
        self.remove_parts()?;
        let mut stretches = std::mem::take(&mut state.let_go);
        stretches.extend(std::mem::take(&mut state.done).into_keys());
        self.doctor.forget().await;
        state.begun.clear();
        state.snapshots.clear();
        state.data.clear();
        state.on_disk = None;
        state.again = false;
        state.times_again += 1;
        Ok(Some(stretches.into_iter().collect()))
    }

    fn remove_parts(&self) -> Result<(), OutputError> {
        let Some(dir) = &self.files.dir else { return Ok(()) };
        for class in RowClass::ALL {
            let path = names::data_path(&self.stem, class, self.files.codec);
            dir.remove(&format!("{path}.part"))?;
            for stretch in 0..self.cut.len() {
                dir.remove(&format!("{}.part", piece_path(&path, stretch)))?;
            }
        }
        Ok(())
    }

    /// Whether this stretch is accused of having taken the server down.
    pub(in super::super) async fn is_accused(&self, index: usize) -> bool {
        self.state.lock().await.accused.contains(&index)
    }
}
