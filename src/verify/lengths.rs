//! What is wrong with the lengths of a fork's segments: one that is missing or
//! not full before one that holds something, and a file that ends within a page.

use super::{File, VerifyError};
use crate::server::files::{ForkFile, segment_path};
use crate::server::session::ServerFacts;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// A file that is being extended or truncated is looked at again.
const PATIENCE: Duration = Duration::from_millis(500);

/// Notes what is wrong, now and a moment later. `list` gives the forks in a
/// directory.
pub(super) async fn check(
    server: &ServerFacts,
    files: &mut [File],
    list: impl AsyncFn(&str) -> Result<Vec<ForkFile>, VerifyError>,
) -> Result<(), VerifyError> {
    let wrong = |fork: &ForkFile| wrong(fork, server.block_size, server.segment_blocks);
    let suspects: Vec<usize> =
        (0..files.len()).filter(|&i| !wrong(&files[i].fork).is_empty()).collect();
    if suspects.is_empty() {
        return Ok(());
    }
    tokio::time::sleep(PATIENCE).await;
    let directory = |path: &str| path.rsplit_once('/').map(|(directory, _)| directory.to_owned());
    let directories: BTreeSet<String> =
        suspects.iter().filter_map(|&i| directory(&files[i].fork.path)).collect();
    let mut now: BTreeMap<String, ForkFile> = BTreeMap::new();
    for directory in directories {
        let again = list(&directory).await?;
        now.extend(again.into_iter().map(|fork| (fork.path.clone(), fork)));
    }
    for i in suspects {
        let Some(fork) = now.remove(&files[i].fork.path) else { continue };
        files[i].problems = wrong(&fork);
        files[i].fork = fork;
    }
    Ok(())
}

/// In words.
fn wrong(fork: &ForkFile, block_size: u32, segment_blocks: u32) -> Vec<String> {
    let block_size = u64::from(block_size.max(1));
    let full = block_size * u64::from(segment_blocks);
    let mut wrong = Vec::new();
    let name = |segment: u32| segment_path(&fork.path, segment);
    for (&segment, &bytes) in &fork.segments {
        let within = bytes % block_size;
        if within > 0 {
            wrong.push(format!("{} ends within a page: {within} bytes too many", name(segment)));
        }
        if bytes > full {
            wrong.push(format!("{} is longer than a segment: {bytes} bytes", name(segment)));
        }
    }
    // Behind the last that holds something, truncated ones may be left.
    let last = fork.segments.iter().filter(|(_, bytes)| **bytes > 0).map(|(n, _)| *n).max();
    let short = |n: &u32| fork.segments.get(n).copied().unwrap_or(0) < full;
    // The first is enough: of a segment number that is garbage all would be.
    if let Some(segment) = (0..last.unwrap_or(0)).find(short) {
        let what = match fork.segments.contains_key(&segment) {
            true => "is not full",
            false => "is missing",
        };
        let behind = name(last.unwrap_or(0));
        wrong.push(format!("{} {what}, and {behind} holds something behind it", name(segment)));
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(segments: &[(u32, u64)]) -> Vec<String> {
        let segments = segments.iter().copied().collect();
        wrong(&ForkFile { path: "base/1/2".to_owned(), segments }, 8192, 4)
    }

    #[test]
    fn a_gap_and_a_torn_end_are_found_and_truncated_segments_are_not() {
        const FULL: u64 = 4 * 8192;
        for well in [&[][..], &[(0, 0)], &[(0, 8192)], &[(0, FULL), (1, 0)], &[(0, 8192), (1, 0)]] {
            assert_eq!(of(well), Vec::<String>::new(), "{well:?}");
        }
        assert!(of(&[(0, 8193)])[0].contains("1 bytes too many"));
        assert!(of(&[(0, FULL + 8192)])[0].contains("longer than a segment"));
        assert!(of(&[(0, 8192), (1, 8192)])[0].contains("base/1/2 is not full"));
        assert!(of(&[(0, FULL), (2, 8192)])[0].contains("base/1/2.1 is missing"));
        assert!(of(&[(1, 8192)])[0].contains("base/1/2 is missing"));
    }
}
