//! `pages/<stem>/main.<block>.page`: damaged pages as they lay on the server's
//! disk, byte for byte, saved before anything is done that could change them.
//!
//! Thousands of small files cost a sync each, or one of all together: so they
//! wait under `*.part` for the end of the relation, unless one is needed on the
//! disk at once. An image that is there is kept, by later runs too.

use super::dir::{DumpDir, sync_directory, write_part};
use super::error::OutputError;
use super::fault_point::fault_point;
use super::manifest::Pages;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// So many images of one relation are kept: 80 MB at 8 kB. Those that have to be
/// there are kept in any case.
const PAGES_MAX: usize = 10_000;

const FOLDER: &str = "pages";
const SUFFIX: &str = ".page";

/// The images of the pages of one relation.
pub struct PageFiles {
    dir: Arc<DumpDir>,
    /// From the dump directory on.
    folder: String,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Whether each has its final name.
    images: BTreeMap<u32, bool>,
    /// Of another file than the relation has now: to be replaced, if need be.
    stale: BTreeSet<u32>,
    omitted: u64,
}

impl PageFiles {
    /// `is_same`: images of earlier runs are of the same file.
    pub fn new(dir: Arc<DumpDir>, stem: &str, is_same: bool) -> Result<Self, OutputError> {
        let folder = format!("{FOLDER}/{stem}");
        let mut state = State::default();
        if dir.is_resumed() {
            state.images = take_up(&dir.path().join(&folder))?;
            if !is_same {
                state.stale = state.images.keys().copied().collect();
            }
        }
        Ok(Self { dir, folder, state: Mutex::new(state) })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there is an image of this block.
    pub fn has(&self, block: u32) -> bool {
        let state = self.lock();
        state.images.contains_key(&block) && !state.stale.contains(&block)
    }

    /// Whether there is room for one more. If not, that is counted.
    pub fn has_room(&self) -> bool {
        let mut state = self.lock();
        let has_room = state.images.len() < PAGES_MAX;
        state.omitted += u64::from(!has_room);
        has_room
    }

    /// Saves the page of a block.
    pub async fn save(&self, block: u32, bytes: Vec<u8>) -> Result<(), OutputError> {
        let (_, part) = self.paths(block);
        blocking(part.clone(), move || write_part(&part, &bytes, false)).await?;
        let mut state = self.lock();
        state.images.insert(block, false);
        state.stale.remove(&block);
        Ok(())
    }

    /// Makes the image of a block durable, now.
    pub async fn keep(&self, block: u32) -> Result<(), OutputError> {
        if self.lock().images.get(&block) != Some(&false) {
            return Ok(());
        }
        let ((path, part), sync) = (self.paths(block), self.dir.sync());
        blocking(part.clone(), move || {
            if sync {
                let synced = File::open(&part).and_then(|file| file.sync_all());
                synced.map_err(OutputError::io("sync file", &part))?;
            }
            rename(&part, &path)
        })
        .await?;
        self.lock().images.insert(block, true);
        self.sync_names().await
    }

    /// Gives all images their final names. None: there are none.
    pub async fn finish(&self) -> Result<Option<Pages>, OutputError> {
        let (waiting, count, omitted) = {
            let state = self.lock();
            let waiting = state.images.iter().filter(|(_, is_kept)| !**is_kept);
            (waiting.map(|(&b, _)| b).collect::<Vec<_>>(), state.images.len(), state.omitted)
        };
        if !waiting.is_empty() {
            let renames: Vec<_> = waiting.iter().map(|&block| self.paths(block)).collect();
            let (folder, sync) = (self.dir.path().join(&self.folder), self.dir.sync());
            blocking(folder.clone(), move || {
                if sync {
                    let synced = File::open(&folder).and_then(|f| Ok(rustix::fs::syncfs(f)?));
                    synced.map_err(OutputError::io("sync directory", &folder))?;
                }
                renames.iter().try_for_each(|(path, part)| rename(part, path))
            })
            .await?;
            self.lock().images.values_mut().for_each(|is_kept| *is_kept = true);
            self.sync_names().await?;
        }
        let some = count > 0 || omitted > 0;
        let (folder, count) = (self.folder.clone(), count as u64);
        Ok(some.then_some(Pages { folder, count, omitted }))
    }

    async fn sync_names(&self) -> Result<(), OutputError> {
        if !self.dir.sync() {
            return Ok(());
        }
        let root = self.dir.path().to_owned();
        let folders = [root.join(&self.folder), root.join(FOLDER), root.clone()];
        blocking(root, move || folders.iter().try_for_each(|f| sync_directory(f))).await
    }

    /// The final name, and the one before.
    fn paths(&self, block: u32) -> (PathBuf, PathBuf) {
        let name = format!("{}/main.{block}{SUFFIX}", self.folder);
        (self.dir.path().join(&name), self.dir.path().join(format!("{name}.part")))
    }
}

fn rename(part: &Path, path: &Path) -> Result<(), OutputError> {
    fault_point("rename page");
    fs::rename(part, path).map_err(OutputError::io("rename file", part))
}

async fn blocking(
    path: PathBuf,
    work: impl FnOnce() -> Result<(), OutputError> + Send + 'static,
) -> Result<(), OutputError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|e| Err(OutputError::io("write file", &path)(io::Error::other(e))))
}

/// What earlier runs have left. What is not finished is taken away.
fn take_up(folder: &Path) -> Result<BTreeMap<u32, bool>, OutputError> {
    let failed = || OutputError::io("read directory", folder);
    let entries = match fs::read_dir(folder) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        entries => entries.map_err(failed())?,
    };
    let mut images = BTreeMap::new();
    for entry in entries {
        let entry = entry.map_err(failed())?;
        let name = entry.file_name();
        let name = name.to_str().unwrap_or_default();
        let number = name.strip_prefix("main.").and_then(|n| n.strip_suffix(SUFFIX));
        match number.and_then(|n| n.parse().ok()) {
            Some(block) => drop(images.insert(block, true)),
            None if name.ends_with(".part") => fs::remove_file(entry.path()).map_err(failed())?,
            None => {}
        }
    }
    Ok(images)
}
