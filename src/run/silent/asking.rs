//! One question about many relations, asked by several sessions at a time.

use super::{Looked, Run, locked};
use crate::run::generation::Numbered;
use crate::server::session::ReadError;
use std::collections::VecDeque;
use std::sync::Mutex;

/// What became of one question.
pub(super) enum Asked<T> {
    Answered(T),
    /// Why not, as a line for people begins, and whether nobody need be asked again.
    Failed {
        what: String,
        error: ReadError,
        all: bool,
    },
}

impl Run {
    /// Asks about each of some relations, in as many sessions as rows were read by.
    /// `nothing`: how the warning begins if there is no session at all.
    pub(super) async fn ask_of_all<'a, T>(
        &self,
        relations: Vec<&'a Looked>,
        nothing: &str,
        ask: impl AsyncFn(&Numbered, &'a Looked) -> Asked<T>,
    ) -> Vec<T> {
        let sessions = self.options.jobs.max(1).min(relations.len());
        let todo = Mutex::new(VecDeque::from(relations));
        let answers = Mutex::new(Vec::new());
        let why_none = Mutex::new(None);
        let one = async || {
            let numbered = match self.generations.session(true).await {
                Ok(numbered) => numbered,
                Err(e) => return *locked(&why_none) = Some(e),
            };
            while !self.progress.stopped() {
                let Some(relation) = locked(&todo).pop_front() else { return };
                match ask(&numbered, relation).await {
                    Asked::Answered(answer) => locked(&answers).push(answer),
                    Asked::Failed { what, error, all } => {
                        let go_on = self.not_asked(&numbered.session, &what, &error).await;
                        if all {
                            locked(&todo).clear();
                        }
                        if !go_on {
                            return;
                        }
                    }
                }
            }
        };
        futures::future::join_all((0..sessions).map(|_| one())).await;
        let why_none = locked(&why_none).take().filter(|_| !locked(&todo).is_empty());
        if let Some(why) = why_none {
            self.warn(format!("{nothing}: {why}"));
        }
        std::mem::take(&mut locked(&answers))
    }
}
