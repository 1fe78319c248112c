//! One heap, by `verify_heapam`, range by range: a block of which the check fails
//! is named, and what lies behind it is checked.

use super::STOPPED;
use super::asking::{Asking, Failed, Rows, Silence};
use super::ranges::{Narrowed, Ranges};
use super::task::{Task, in_full};
use crate::heap::Place;
use crate::report::model::Problem;
use crate::server::amcheck::{Amcheck, Finding, column, extent, findings, is_there};
use crate::server::session::CheckFault;
use crate::server::words::{Words, one_line};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// With so many blocks that cannot be checked a relation is left.
pub(super) const FAILURES_MAX: u32 = 1000;

/// With so many values that are not found in TOAST no more are looked for: if its
/// index is damaged, none is found.
const TOAST_FAILURES_MAX: u32 = 100;

/// With so many blocks that hang, or are too slow, a relation is left.
const HUNG_MAX: u32 = 3;

/// So many findings of one range are sent.
const FINDINGS_MAX: usize = 10_000;

/// Before what was found is looked at again.
pub(super) const PAUSE: Duration = Duration::from_millis(300);

/// Checks what is left of a heap. `Err`: the server went down meanwhile.
pub(super) async fn check(
    asking: &mut Asking,
    amcheck: &Amcheck,
    task: &mut Task,
) -> Result<(), String> {
    if !begin(asking, task).await? {
        return Ok(());
    }
    let mut attributes: BTreeMap<u32, Option<String>> = BTreeMap::new();
    while let Some((first, end)) = task.ranges.as_mut().and_then(Ranges::next) {
        if asking.progress.stopped() {
            task.reason = Some(format!("{STOPPED} block {first}"));
            break;
        }
        match look(asking, amcheck, task, (first, end)).await {
            Ok((found, total)) => {
                name_columns(asking, task, &found, &mut attributes).await;
                add(asking, task, found, total, &attributes);
                task.ranges.as_mut().map(Ranges::done);
                advance(asking, end - first);
                asking.progress.throttle.pay(asking.layout.bytes(end - first)).await;
            }
            Err(failed) => {
                if !went_wrong(asking, amcheck, task, failed).await? {
                    break;
                }
            }
        }
    }
    Ok(())
}

/// Looks at the file, once. Whether there is anything to do.
pub(super) async fn begin(asking: &mut Asking, task: &mut Task) -> Result<bool, String> {
    if task.ranges.is_some() {
        return Ok(true);
    }
    let mut sql = extent(task.object.oid, &task.toast_oids);
    loop {
        match asking.ask(&task.about(), &sql, Silence::Short).await {
            Ok(rows) => {
                let (blocks, path) = extent_of(asking, &rows);
                // A relation that is dropped has no path.
                if path.is_none() && is_gone(asking, task).await {
                    task.gone = true;
                    return Ok(false);
                }
                let toast = rows.into_iter().flatten().skip(2).flatten();
                task.toast_paths = toast.collect();
                (task.path, task.blocks) = (path, blocks);
                task.ranges = Some(Ranges::new(blocks));
                return Ok(true);
            }
            Err(Failed::WentDown(words)) => return Err(words),
            Err(Failed::Away(why)) => task.reason = Some(why),
            Err(Failed::Said(_, words)) if is_gone(asking, task).await => {
                task.gone = true;
                task.reason = Some(words.one_line());
            }
            // What the catalogs say of its TOAST table may be damaged.
            Err(Failed::Said(CheckFault::Damage(_), words)) if !task.toast_oids.is_empty() => {
                task.toast_oids.clear();
                task.do_without_toast(&words);
                sql = extent(task.object.oid, &[]);
                continue;
            }
            Err(Failed::Said(_, words)) => task.reason = Some(words.one_line()),
        }
        return Ok(false);
    }
}

/// Whether the relation is not there any more; unless that is known, it is.
pub(super) async fn is_gone(asking: &mut Asking, task: &Task) -> bool {
    let there = asking.ask(&task.about(), &is_there(task.object.oid), Silence::Short).await;
    there.is_ok_and(|rows| rows.is_empty())
}

/// Its blocks, and the path of its file.
fn extent_of(asking: &Asking, rows: &Rows) -> (u32, Option<String>) {
    let field = |i: usize| rows.first()?.get(i).cloned().flatten();
    let bytes: u64 = field(0).and_then(|size| size.parse().ok()).unwrap_or(0);
    let blocks = bytes / u64::from(asking.layout.block_size.max(1));
    (u32::try_from(blocks).unwrap_or(u32::MAX), field(1))
}

/// What is wrong with these blocks, and how many findings there are in all. What
/// is found is looked at once more: it must be there again.
async fn look(
    asking: &mut Asking,
    amcheck: &Amcheck,
    task: &mut Task,
    blocks: (u32, u32),
) -> Result<(Vec<Finding>, u64), Failed> {
    let sql = amcheck.heap(task.object.oid, blocks, task.toast, FINDINGS_MAX);
    let about = task.about();
    let (found, total) = findings(&asking.ask(&about, &sql, Silence::Short).await?);
    if found.is_empty() || task.is_full() {
        return Ok((found, total));
    }
    tokio::time::sleep(PAUSE).await;
    let again = asking.ask(&about, &sql, Silence::Short).await?;
    let (mut again, again_total) = findings(&again);
    let before: BTreeSet<_> = found.iter().map(Finding::place).collect();
    let twice = again.len();
    again.retain(|finding| before.contains(&finding.place()));
    let after: BTreeSet<_> = again.iter().map(Finding::place).collect();
    if let Some(once) = found.iter().find(|finding| !after.contains(&finding.place())) {
        task.notes.push(format!(
            "{}: in block {} something was found that was not there a moment later: {}",
            task.title,
            once.block,
            one_line(&once.message)
        ));
    }
    let total = again_total.saturating_sub((twice - again.len()) as u64);
    Ok((again, total))
}

/// What to do about a check that failed. Whether to go on.
async fn went_wrong(
    asking: &mut Asking,
    amcheck: &Amcheck,
    task: &mut Task,
    failed: Failed,
) -> Result<bool, String> {
    let (fault, words) = match failed {
        Failed::WentDown(words) => return Err(words),
        Failed::Away(why) => {
            task.reason = Some(why);
            return Ok(false);
        }
        Failed::Said(fault, words) => (fault, words),
    };
    match fault {
        // Something that it needs, as what the catalogs say.
        CheckFault::Damage(Place::Elsewhere) if !task.is_of_toast(&words) => {
            let goes_on = task.toast;
            task.do_without_toast(&words);
            Ok(goes_on)
        }
        CheckFault::Damage(_) | CheckFault::Hung | CheckFault::Other => {
            narrow(asking, amcheck, task, (fault, *words)).await
        }
        CheckFault::Missing => {
            task.gone = is_gone(asking, task).await;
            if !task.gone {
                // It or its TOAST relation is not found by what the catalogs have.
                found(asking, task, task.problem("catalog", None, in_full(&words), asking.layout));
                task.reason = Some(in_full(&words));
            }
            Ok(false)
        }
        CheckFault::Shorter => shorter(asking, task, &words).await,
        CheckFault::Refused => {
            task.gone = is_gone(asking, task).await;
            task.refuse(words.one_line());
            Ok(false)
        }
        CheckFault::Environment | CheckFault::SessionLost => {
            let left = task.ranges.as_ref().map_or(0, Ranges::left);
            let words = in_full(&words);
            task.reason =
                Some(format!("{words}; block {left} and what is behind it was not looked at"));
            Ok(false)
        }
    }
}

/// It was truncated while it was checked.
async fn shorter(asking: &mut Asking, task: &mut Task, words: &Words) -> Result<bool, String> {
    let is_shorter =
        match asking.ask(&task.about(), &extent(task.object.oid, &[]), Silence::Short).await {
            Ok(rows) => {
                let (blocks, _) = extent_of(asking, &rows);
                task.ranges.as_mut().is_some_and(|ranges| ranges.cut(blocks))
            }
            Err(Failed::WentDown(words)) => return Err(words),
            Err(_) => false,
        };
    if !is_shorter {
        task.reason = Some(words.one_line());
    }
    Ok(is_shorter)
}

/// Asks about less, or, where that is one block, says what is wrong with it.
/// Whether to go on.
async fn narrow(
    asking: &mut Asking,
    amcheck: &Amcheck,
    task: &mut Task,
    (fault, words): (CheckFault, Words),
) -> Result<bool, String> {
    let at = match fault {
        CheckFault::Damage(Place::Page(block)) => Some(block),
        _ => None,
    };
    let Some(ranges) = task.ranges.as_mut() else { return Ok(false) };
    if fault == CheckFault::Hung {
        ranges.slower();
    }
    let block = match ranges.failed(at) {
        Narrowed::Smaller => return Ok(true),
        Narrowed::Lost(block) => block,
    };
    advance(asking, 1);
    let message = in_full(&words);
    let (cause, message) = match fault {
        CheckFault::Hung => {
            task.hung += 1;
            let hung = block.unwrap_or(0);
            task.reason = Some(format!("the check of block {hung} hung: {message}"));
            return Ok(task.hung < HUNG_MAX);
        }
        CheckFault::Other => {
            task.failures += 1;
            let failed = block.unwrap_or(0);
            task.reason = Some(format!("the check of block {failed} failed: {message}"));
            return Ok(task.failures < FAILURES_MAX);
        }
        CheckFault::Damage(Place::Elsewhere) => {
            ("stored_elsewhere", format!("a value of this block could not be looked at: {message}"))
        }
        CheckFault::Damage(Place::Page(_)) => ("page", message),
        _ => ("tuple", message),
    };
    let mut problem = task.problem(cause, block, message, asking.layout);
    problem.sqlstate = Some(words.sqlstate);
    found(asking, task, problem);
    if let (CheckFault::Damage(Place::Elsewhere), true, Some(block)) = (fault, task.toast, block) {
        task.toast_failures += 1;
        return without_toast(asking, amcheck, task, block).await;
    }
    task.failures += 1;
    if task.failures == FAILURES_MAX {
        let left = task.ranges.as_ref().map_or(0, Ranges::left);
        task.reason = Some(format!(
            "{FAILURES_MAX} blocks could not be checked: block {left} and what is behind it was \
             not looked at"
        ));
        return Ok(false);
    }
    Ok(true)
}

/// The rest of a block of which a value could not be looked at.
async fn without_toast(
    asking: &mut Asking,
    amcheck: &Amcheck,
    task: &mut Task,
    block: u32,
) -> Result<bool, String> {
    task.toast = false;
    let end = block.saturating_add(1);
    let seen = look(asking, amcheck, task, (block, end)).await;
    if task.toast_failures < TOAST_FAILURES_MAX {
        task.toast = true;
    } else {
        task.reason = Some(format!(
            "values of {TOAST_FAILURES_MAX} blocks could not be looked at: from block {end} on \
             none was looked for in TOAST"
        ));
    }
    match seen {
        Ok((findings, total)) => {
            let same = |problem: &&Problem| problem.first_block == Some(block);
            let counted = task.problems.iter().rfind(same).is_some();
            add(asking, task, findings, total, &BTreeMap::new());
            // It is one block, found damaged twice.
            if counted && total > 0 {
                task.damaged_blocks = task.damaged_blocks.saturating_sub(1);
            }
        }
        Err(Failed::WentDown(words)) => return Err(words),
        Err(Failed::Away(why)) => {
            task.reason = Some(why);
            return Ok(false);
        }
        Err(Failed::Said(CheckFault::Damage(_), words)) => {
            let problem = task.problem("tuple", Some(block), in_full(&words), asking.layout);
            task.add(problem);
        }
        Err(Failed::Said(_, words)) => task.reason = Some(in_full(&words)),
    }
    Ok(true)
}

fn found(asking: &Asking, task: &mut Task, problem: Problem) {
    task.damaged_blocks += u64::from(problem.first_block.is_some());
    task.add(problem);
    asking.progress.damaged.fetch_add(1, Relaxed);
}

/// The names of the columns in which something was found.
async fn name_columns(
    asking: &mut Asking,
    task: &Task,
    found: &[Finding],
    names: &mut BTreeMap<u32, Option<String>>,
) {
    for attribute in found.iter().filter_map(|finding| finding.attribute) {
        if names.contains_key(&attribute) {
            continue;
        }
        let sql = column(task.object.oid, attribute);
        let name = asking.ask(&task.about(), &sql, Silence::Short).await;
        names.insert(attribute, name.ok().and_then(|rows| rows.into_iter().flatten().next()?));
    }
}

fn add(
    asking: &Asking,
    task: &mut Task,
    found: Vec<Finding>,
    total: u64,
    names: &BTreeMap<u32, Option<String>>,
) {
    let blocks: BTreeSet<u32> = found.iter().map(|finding| finding.block).collect();
    task.damaged_blocks += blocks.len() as u64;
    asking.progress.damaged.fetch_add(blocks.len() as u64, Relaxed);
    task.problems_omitted += total.saturating_sub(found.len() as u64);
    for finding in found {
        let column = finding.attribute.and_then(|attribute| names.get(&attribute).cloned()?);
        let cause = if finding.attribute.is_some() { "value" } else { "tuple" };
        let message = one_line(&finding.message);
        let mut problem = task.problem(cause, Some(finding.block), message, asking.layout);
        problem.ctid = finding.offset.map(|offset| format!("({},{offset})", finding.block));
        problem.column = column;
        task.add(problem);
    }
}

fn advance(asking: &Asking, blocks: u32) {
    asking.progress.blocks_done.fetch_add(blocks.into(), Relaxed);
}
