//! The work on all segments: handed out to sessions, which are replaced where
//! they are lost, and done once more where something seems to be wrong.

use super::here::look_here;
use super::segment::{Seen, Task, look};
use super::{File, Left, Source, stopped};
use crate::progress::Progress;
use crate::server::connect::Target;
use crate::server::session::{OpenError, ServerFacts, Session, Timeouts};
use std::cmp::Reverse;
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Before what seems to be damaged is looked at again, each time: a write of a
/// page takes thousandths of a second, on a disk that is overloaded some tenths.
const PAUSES: [Duration; 3] =
    [Duration::from_millis(100), Duration::from_millis(400), Duration::from_millis(1000)];

/// So often a session that was lost is replaced, or a process, for one segment.
pub(super) const TRIES_MAX: u32 = 5;

/// Before that; each time twice as long.
pub(super) const PAUSE: Duration = Duration::from_secs(1);

/// A task, what was found, and why not all of it was looked at.
type Done = (Task, Seen, Option<Left>);

pub(super) struct Work {
    source: Source,
    pub(super) server: Arc<ServerFacts>,
    todo: Mutex<VecDeque<Task>>,
    done: Mutex<Vec<Done>>,
    pub(super) progress: Arc<Progress>,
}

impl Work {
    /// `redo`: where the last checkpoint began. `last_ok`: as in
    /// [`super::VerifyOptions`].
    pub(super) fn new(
        (source, server): (Source, Arc<ServerFacts>),
        files: &[File],
        (redo, last_ok): (u64, &BTreeMap<u32, jiff::Timestamp>),
        progress: Arc<Progress>,
    ) -> Self {
        let mut todo = tasks(files, redo, (server.block_size, server.segment_blocks));
        // A sort keeps what is equal in its order: the largest first.
        let oid = |task: &Task| files[task.file].of.as_ref().map_or(0, |of| of.oid);
        todo.make_contiguous().sort_by_key(|task| last_ok.get(&oid(task)));
        progress.relations.store(files.len() as u64, Relaxed);
        progress.blocks.store(todo.iter().map(|t| u64::from(t.blocks())).sum(), Relaxed);
        Self { source, server, todo: Mutex::new(todo), done: Mutex::default(), progress }
    }

    /// Whether the server reads the files.
    pub(super) fn is_by_server(&self) -> bool {
        matches!(self.source, Source::Server(..))
    }
}

/// Looks at all pages of these files, and notes what was found in them.
pub(super) async fn look_at_all(
    work: &Arc<Work>,
    jobs: usize,
    session: Option<Session>,
    files: &mut [File],
    notes: &mut Vec<String>,
) {
    let mut tasks_of: BTreeMap<usize, usize> = BTreeMap::new();
    locked(&work.todo).iter().for_each(|task| *tasks_of.entry(task.file).or_default() += 1);
    let done = all(work, jobs, session, notes).await;
    for task in std::mem::take(&mut *locked(&work.todo)) {
        files[task.file].left = Some(stopped("stopped before its turn"));
    }
    for (task, ..) in &done {
        tasks_of.entry(task.file).and_modify(|left| *left -= 1);
    }
    for (file, _) in tasks_of.into_iter().filter(|(_, left)| *left > 0) {
        files[file].left.get_or_insert_with(|| stopped("not all of it was looked at"));
    }
    let done = confirmed(work, jobs, done, notes).await;
    in_a_row(files, &done);
    for (task, seen, left) in done {
        let file = &mut files[task.file];
        file.seen.add(seen);
        file.left = left.or(file.left.take());
    }
}

/// Notes how far each file was looked at without a gap, and is sound.
fn in_a_row(files: &mut [File], done: &[Done]) {
    let sound = done.iter().filter(|(_, seen, left)| left.is_none() && seen.damaged.is_empty());
    let mut ranges: Vec<(usize, (u32, u32))> =
        sound.flat_map(|(task, ..)| task.ranges.iter().map(|&range| (task.file, range))).collect();
    ranges.sort_unstable();
    for (file, (first, count)) in ranges {
        let (_, to) = &mut files[file].read;
        if *to == first {
            *to = first.saturating_add(count);
        }
    }
}

/// Works on all that is to be done, or until we are told to stop.
async fn all(
    work: &Arc<Work>,
    jobs: usize,
    mut first: Option<Session>,
    notes: &mut Vec<String>,
) -> Vec<Done> {
    let mut workers = tokio::task::JoinSet::new();
    for _ in 0..jobs.max(1).min(locked(&work.todo).len()) {
        workers.spawn(worker(work.clone(), first.take()));
    }
    while let Some(ended) = workers.join_next().await {
        if let Err(panicked) = ended {
            notes.push(format!("a worker ended before its time: {panicked}"));
        }
    }
    std::mem::take(&mut *locked(&work.done))
}

/// Looks at what seems to be damaged again, some time later, time and again: what
/// is wrong each time is damaged, and what could not be looked at each time is not known.
async fn confirmed(
    work: &Arc<Work>,
    jobs: usize,
    mut done: Vec<Done>,
    notes: &mut Vec<String>,
) -> Vec<Done> {
    for pause in PAUSES {
        // Numbered by what was done.
        let again = |(number, (task, seen, _)): (usize, &Done)| {
            (!seen.damaged.is_empty()).then(|| Task { file: number, ..task.again(seen) })
        };
        let todo: VecDeque<Task> = done.iter().enumerate().filter_map(again).collect();
        if todo.is_empty() {
            break;
        }
        tokio::time::sleep(pause).await;
        *locked(&work.todo) = todo;
        for (task, again, left) in all(work, jobs, None, notes).await {
            let (_, seen, of_task) = &mut done[task.file];
            seen.damaged = again.damaged;
            *of_task = of_task.take().or(left);
        }
        for task in std::mem::take(&mut *locked(&work.todo)) {
            let why = "stopped before what seemed to be damaged was looked at again";
            let (_, seen, of_task) = &mut done[task.file];
            (seen.damaged, *of_task) = (BTreeMap::new(), Some(stopped(why)));
        }
    }
    done
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A task for each segment, the largest first.
fn tasks(files: &[File], redo: u64, (block_size, segment_blocks): (u32, u32)) -> VecDeque<Task> {
    let mut tasks = Vec::new();
    for (number, file) in files.iter().enumerate() {
        for (&segment, &bytes) in &file.fork.segments {
            let blocks = u32::try_from(bytes / u64::from(block_size.max(1))).unwrap_or(u32::MAX);
            let first = segment.checked_mul(segment_blocks);
            let is_left = |first: &u32| blocks > 0 && *first >= file.read.0;
            let Some(first) = first.filter(is_left) else { continue };
            let (path, kind) = (file.fork.path.clone(), file.kind);
            let ranges = vec![(first, blocks.min(segment_blocks))];
            tasks.push(Task { file: number, path, kind, ranges, settled: false, redo });
        }
    }
    tasks.sort_by_key(|task| (Reverse(task.blocks()), task.file, task.ranges[0]));
    tasks.into()
}

/// Works on one task after the other, in a session of its own.
async fn worker(work: Arc<Work>, mut session: Option<Session>) {
    let mut reader = None;
    while !work.progress.stopped() {
        let Some(task) = locked(&work.todo).pop_front() else { return };
        let (seen, why) = match &work.source {
            Source::Server(target, timeouts) => {
                match patiently(&work.progress, (target, *timeouts), &mut session, &task).await {
                    Ok(seen) => (seen, None),
                    Err(why) => (Seen::default(), Some(why)),
                }
            }
            Source::Local(data) => {
                let mut seen = Seen::of(&task);
                let all = look_here(&work, data, &mut reader, (&task, &mut seen)).await;
                (seen, all.err())
            }
        };
        // The second time it is known that something of it is settled.
        if !task.settled {
            work.progress.damaged.fetch_add(seen.damaged.len() as u64, Relaxed);
            work.progress.blocks_done.fetch_add(task.blocks().into(), Relaxed);
        }
        locked(&work.done).push((task, seen, why.map(Left::Failed)));
    }
}

/// In another session, where one is lost.
async fn patiently(
    progress: &Progress,
    (target, timeouts): (&Target, Timeouts),
    session: &mut Option<Session>,
    task: &Task,
) -> Result<Seen, String> {
    let mut pause = PAUSE;
    let mut tries = 0;
    loop {
        let tried = async {
            if session.as_ref().is_none_or(Session::is_closed) {
                *session = Some(Session::open(target, timeouts, None).await?);
            }
            let Some(session) = session.as_ref() else { return Ok(Seen::default()) };
            session.renew_snapshot().await?;
            Ok::<_, OpenError>(look(session, task, &progress.throttle).await?)
        };
        let error = match tried.await {
            Ok(seen) => return Ok(seen),
            Err(error) => error,
        };
        tries += 1;
        // A session with an error in it is of no use.
        *session = None;
        if tries == TRIES_MAX || progress.stopped() {
            return Err(error.to_string());
        }
        tokio::time::sleep(pause).await;
        pause *= 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::manifest::ReadBlocks;
    use crate::page::check::Kind;
    use crate::server::files::{FileOf, ForkFile};
    use crate::verify::segment::Wrong;

    const SEGMENT: u32 = 100;

    fn file(path: &str) -> File {
        let of = FileOf {
            oid: 7,
            schema: "public".to_owned(),
            name: "t".to_owned(),
            relkind: 'r',
            access_method: 2,
            owner: None,
        };
        let segments = [(0, 100 * 8192), (1, 100 * 8192), (2, 100 * 8192), (3, 50 * 8192)];
        let fork = ForkFile { path: path.to_owned(), segments: segments.into() };
        File::new(fork, Some(of), Kind::Heap)
    }

    fn firsts(files: &[File]) -> Vec<u32> {
        tasks(files, 0, (8192, SEGMENT)).iter().map(|task| task.ranges[0].0).collect()
    }

    #[test]
    fn segments_that_an_earlier_run_has_looked_at_are_left_out() {
        let begun = |filenode, to| [(7, ReadBlocks { filenode, from: 0, to })].into();
        for (path, filenode, to, left) in [
            ("base/5/77", 77, 200, vec![200, 300]),
            // Of the last it is not known whether it was whole.
            ("base/5/77", 77, 250, vec![200, 300]),
            ("base/5/77", 77, 99, vec![0, 100, 200, 300]),
            // It became shorter since.
            ("base/5/77", 77, 351, vec![0, 100, 200, 300]),
            ("base/5/78", 77, 200, vec![0, 100, 200, 300]),
            ("base/5/77_vm", 77, 200, vec![0, 100, 200, 300]),
        ] {
            let mut file = file(path);
            file.go_on(&begun(filenode, to), (8192, SEGMENT));
            assert_eq!(firsts(&[file]), left, "{path} {to}");
        }
    }

    #[test]
    fn what_is_behind_a_gap_or_damage_is_looked_at_again() {
        let looked = |done: &[(u32, bool)]| {
            let mut files = [file("base/5/77")];
            let all = tasks(&files, 0, (8192, SEGMENT));
            let of = |first| all.iter().find(|task| task.ranges[0].0 == first).cloned();
            let wrong = Wrong { cause: "page".into(), what: String::new() };
            let done: Vec<Done> = done
                .iter()
                .map(|&(first, sound)| {
                    let damaged = (!sound).then(|| (first, wrong.clone())).into_iter().collect();
                    (of(first).unwrap(), Seen { damaged, ..Seen::default() }, None)
                })
                .collect();
            in_a_row(&mut files, &done);
            files[0].read
        };
        assert_eq!(looked(&[]), (0, 0));
        assert_eq!(looked(&[(100, true), (0, true)]), (0, 200));
        assert_eq!(looked(&[(0, true), (200, true)]), (0, 100));
        assert_eq!(looked(&[(0, true), (100, false), (200, true)]), (0, 100));
        assert_eq!(looked(&[(0, true), (100, true), (200, true), (300, true)]), (0, 350));
    }
}
