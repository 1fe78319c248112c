//! The work on a segment of which the file is read on this host.

use super::local::Layout;
use super::reader::{DataDirectory, Reader, ReaderError};
use super::segment::{Seen, Task};
use super::work::{PAUSE, TRIES_MAX, Work};

/// So much is looked at for an answer.
const LOOK_BYTES: usize = 16 << 20;

/// Looks at a task, by another process where one has ended. `Err`: not at all of it, and
/// why.
pub(super) async fn look_here(
    work: &Work,
    data: &DataDirectory,
    reader: &mut Option<Reader>,
    (task, seen): (&Task, &mut Seen),
) -> Result<(), String> {
    let (block_size, segment_blocks) = (work.server.block_size, work.server.segment_blocks);
    let layout = Layout { block_size, segment_blocks, data_checksums: work.server.data_checksums };
    let alone = Task { ranges: Vec::new(), ..task.clone() };
    let (mut tries, mut pause) = (0, PAUSE);
    for &(first, count) in &task.ranges {
        let (mut next, end) = (first, first.saturating_add(count));
        while next < end {
            // What seemed to be damaged was given before.
            if !task.settled {
                data.answers_for(&task.path)?;
            }
            let bytes = work.progress.throttle.at_once(LOOK_BYTES);
            let blocks = u32::try_from(bytes / block_size.max(1) as usize).unwrap_or(u32::MAX);
            let stop = end.min(next.saturating_add(blocks.max(1)));
            match look_once(data, reader, &alone, ((next, stop), layout)).await {
                Ok((more, behind)) => {
                    let read = more.blocks as usize * block_size as usize;
                    seen.add(more);
                    next = behind.max(next + 1);
                    work.progress.throttle.pay(read).await;
                }
                Err(ReaderError::Ended(_)) if tries + 1 < TRIES_MAX && !work.progress.stopped() => {
                    tokio::time::sleep(pause).await;
                    (tries, pause) = (tries + 1, pause * 2);
                }
                Err(error) => {
                    if matches!(error, ReaderError::Hung(_)) {
                        data.hangs_for(&task.path);
                    }
                    return Err(error.to_string());
                }
            }
        }
    }
    seen.judge_the_beginning();
    Ok(())
}

async fn look_once(
    data: &DataDirectory,
    reader: &mut Option<Reader>,
    task: &Task,
    (range, layout): ((u32, u32), Layout),
) -> Result<(Seen, u32), ReaderError> {
    if reader.as_ref().is_none_or(Reader::is_lost) {
        *reader = Some(data.reader()?);
    }
    match reader {
        Some(reader) => reader.look(task, range, layout).await,
        None => Err(ReaderError::Ended("there is no process".to_owned())),
    }
}
