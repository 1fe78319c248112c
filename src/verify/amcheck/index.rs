//! One index, by `bt_index_check` or its like: it ends at the first thing that is
//! wrong, so there is at most one.

use super::asking::{Asking, Failed, Layout, Silence};
use super::heap::{PAUSE, begin, is_gone};
use super::task::{Task, block_of_index, cause_of_index, in_full, row_of};
use crate::heap::Place;
use crate::report::model::Problem;
use crate::server::amcheck::{Amcheck, Deep};
use crate::server::session::CheckFault;
use crate::server::words::Words;
use std::sync::atomic::Ordering::Relaxed;

/// `GIN_AM_OID`.
pub(super) const GIN: u32 = 2742;

/// Checks an index. `Err`: the server went down meanwhile.
pub(super) async fn check(
    asking: &mut Asking,
    amcheck: &Amcheck,
    deep: Deep,
    task: &mut Task,
) -> Result<(), String> {
    if !begin(asking, task).await? {
        return Ok(());
    }
    // What was meant to be asked, and the index alone.
    let tries = [deep, Deep::default()];
    let mut beside = None;
    for deep in tries {
        match twice(asking, amcheck, deep, task).await? {
            Some(words) if matches!(words.0, CheckFault::Damage(Place::Elsewhere)) => {
                let words = in_full(&words.1);
                beside.get_or_insert(words);
            }
            Some((fault, words)) => {
                let problem = problem(task, fault, &words, asking.layout);
                task.damaged_blocks += u64::from(problem.first_block.is_some());
                task.add(problem);
                asking.progress.damaged.fetch_add(1, Relaxed);
                break;
            }
            None => break,
        }
    }
    if let (Some(words), None, true) = (beside, &task.reason, task.problems.is_empty()) {
        task.reason = Some(format!("the check ended at what is damaged elsewhere: {words}"));
    }
    asking.progress.blocks_done.fetch_add(task.blocks.into(), Relaxed);
    asking.progress.throttle.pay(asking.layout.bytes(task.blocks)).await;
    Ok(())
}

/// What is wrong; it is looked at once more, and must be there again. None:
/// nothing, or the task has the reason why that is not known.
async fn twice(
    asking: &mut Asking,
    amcheck: &Amcheck,
    deep: Deep,
    task: &mut Task,
) -> Result<Option<(CheckFault, Words)>, String> {
    let oid = task.object.oid;
    let sql = match task.object.access_method {
        GIN => amcheck.gin(oid),
        _ => amcheck.b_tree(oid, deep),
    };
    let mut before: Option<Words> = None;
    loop {
        let (fault, words) = match asking.ask(&task.about(), &sql, Silence::Long).await {
            Ok(_) => {
                if let Some(words) = before {
                    task.notes.push(format!(
                        "{}: something was found that was not there a moment later: {}",
                        task.title,
                        in_full(&words)
                    ));
                }
                return Ok(None);
            }
            Err(Failed::WentDown(words)) => return Err(words),
            Err(Failed::Away(why)) => {
                task.reason = Some(why);
                return Ok(None);
            }
            Err(Failed::Said(fault, words)) => (fault, *words),
        };
        match fault {
            CheckFault::Damage(_) | CheckFault::Missing if before.is_some() => {
                return Ok(Some((fault, words)));
            }
            CheckFault::Damage(_) | CheckFault::Missing | CheckFault::Refused => {
                if is_gone(asking, task).await {
                    task.gone = true;
                    return Ok(None);
                }
                if fault == CheckFault::Refused {
                    task.refuse(in_full(&words));
                    return Ok(None);
                }
                before = Some(words);
                tokio::time::sleep(PAUSE).await;
            }
            _ => {
                task.reason = Some(in_full(&words));
                return Ok(None);
            }
        }
    }
}

fn problem(task: &Task, fault: CheckFault, words: &Words, layout: Layout) -> Problem {
    let page = match fault {
        CheckFault::Damage(Place::Page(block)) => Some(block),
        _ => None,
    };
    let cause = cause_of_index(words, page.is_some());
    let row = row_of(words).filter(|_| cause == "not_in_index");
    let block = match row {
        Some(_) => None,
        None => page.or_else(|| block_of_index(words)),
    };
    let mut problem = task.problem(cause, block, in_full(words), layout);
    problem.ctid = row;
    problem.sqlstate = Some(words.sqlstate.clone());
    problem
}
