//! Where the bytes of a page come from: a server, a data directory, or a file
//! that has them.

use super::{Inspected, Origin};
use crate::locate::{Fork, Geometry, RelationFile, is_path};
use crate::page::check::Kind;
use crate::page::{Page, checksum::checksum};
use crate::server::connect::Target;
use crate::server::pages;
use crate::server::session::{OpenError, ReadError, Session, Timeouts};
use crate::server::whose_file::{self, Owner, Wanted};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A page with a wrong checksum may be one that is just being written: it is read
/// so often, with so much time between, before it is called damaged.
const READS_MAX: u32 = 3;
const READ_AGAIN_AFTER: Duration = Duration::from_millis(100);

#[derive(Clone, Debug)]
pub struct InspectOptions {
    /// A relation as SQL writes it, a path as the server writes it, or a file.
    pub relation: String,
    pub block: Option<u32>,
    pub fork: Option<Fork>,
    pub pgdata: Option<PathBuf>,
    /// Where they are not the server's, or there is no server.
    pub block_size: Option<u32>,
    pub segment_bytes: Option<u64>,
}

#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error("could not read the page: {0}")]
    Read(#[from] ReadError),
    #[error(
        "could not read the page: {0} (a superuser may, or a role with pg_read_server_files and the \
         right to execute pg_read_binary_file(text, bigint, bigint, boolean))"
    )]
    Permission(ReadError),
    #[error("could not read \"{path}\": {source}", path = .path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("there is no relation \"{0}\" in this database")]
    NoRelation(String),
    #[error("relation \"{0}\" has no file")]
    NoFile(String),
    #[error("\"{file}\" ends before block {block}")]
    NoBlock { file: String, block: u32 },
    #[error("give the number of the block: the checksum depends on it")]
    BlockNeeded,
    #[error("with --pgdata give the file as the server names it, as in base/16384/99454")]
    PathNeeded,
    #[error("\"{0}\" is no file: give -d to ask a server, or --pgdata")]
    NowhereToLook(String),
}

/// Reads the page, and looks at it.
pub async fn inspect(
    target: Option<&Target>,
    options: &InspectOptions,
) -> Result<Inspected, InspectError> {
    let file = Path::new(&options.relation);
    match (&options.pgdata, target) {
        (Some(pgdata), _) => of_data_directory(pgdata, options),
        (None, _) if file.is_file() => of_file(file, options),
        (None, Some(target)) => of_server(target, options).await,
        (None, None) => Err(InspectError::NowhereToLook(options.relation.clone())),
    }
}

fn geometry(options: &InspectOptions) -> Geometry {
    let block_size = options.block_size.unwrap_or(8192).max(1);
    let segment = options.segment_bytes.unwrap_or(1 << 30) / u64::from(block_size);
    Geometry { block_size, segment_blocks: u32::try_from(segment).unwrap_or(u32::MAX).max(1) }
}

fn of_data_directory(pgdata: &Path, options: &InspectOptions) -> Result<Inspected, InspectError> {
    let parsed = Some(&options.relation).filter(|path| is_path(path));
    let (file, _) = parsed
        .and_then(|path| RelationFile::parse(path.trim_matches('"')))
        .ok_or(InspectError::PathNeeded)?;
    let block = options.block.ok_or(InspectError::BlockNeeded)?;
    let file = file.of_fork(options.fork);
    let place = geometry(options).place(&file, block);
    let path = pgdata.join(&place.file);
    let origin = Origin {
        what: format!("relation \"{file}\""),
        fork: file.fork.name(),
        block,
        file: path.display().to_string(),
        segment: place.segment,
        page: place.page,
        byte: place.byte,
        ..Origin::default()
    };
    read_file(&path, geometry(options).block_size, origin)
}

/// A saved page, or a whole segment.
fn of_file(path: &Path, options: &InspectOptions) -> Result<Inspected, InspectError> {
    let failed = |source| InspectError::File { path: path.to_owned(), source };
    let length = path.metadata().map_err(failed)?.len();
    let geometry = geometry(options);
    let shown = path.display().to_string();
    let named = RelationFile::parse(&shown);
    let is_image = named.is_none() && length <= u64::from(geometry.block_size);
    let block = options.block.or_else(|| block_of_image(path)).ok_or(InspectError::BlockNeeded)?;
    let what = match is_image {
        true => "saved page".to_owned(),
        false => format!("file \"{shown}\""),
    };
    let fork = named.as_ref().map_or(Fork::Main, |(file, _)| file.fork).name();
    let mut origin = Origin { what, fork, block, file: shown, ..Origin::default() };
    if !is_image {
        let segment = named.and_then(|(_, segment)| segment).unwrap_or(0);
        let (of, within) = (block / geometry.segment_blocks, block % geometry.segment_blocks);
        // A block of the relation, or, where it is not in this segment, of the segment.
        let whole = if of == segment { Some(block) } else { geometry.block(segment, within) };
        origin.block = whole.unwrap_or(block);
        (origin.segment, origin.page) = (segment, within);
        origin.byte = u64::from(within) * u64::from(geometry.block_size);
    }
    // An image is as large as a block was.
    let size =
        if is_image { u32::try_from(length).unwrap_or(u32::MAX) } else { geometry.block_size };
    read_file(path, size, origin)
}

/// `main.100.page`, as a dump directory has it.
fn block_of_image(path: &Path) -> Option<u32> {
    path.file_name()?.to_str()?.strip_suffix(".page")?.rsplit('.').next()?.parse().ok()
}

fn read_file(path: &Path, size: u32, origin: Origin) -> Result<Inspected, InspectError> {
    let mut bytes = vec![0; usize::try_from(size).unwrap_or(0)];
    let read = File::open(path).and_then(|file| file.read_exact_at(&mut bytes, origin.byte));
    match read {
        Ok(()) => Ok(Inspected::new(origin, bytes)),
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => {
            Err(InspectError::NoBlock { file: origin.file, block: origin.block })
        }
        Err(source) => Err(InspectError::File { path: path.to_owned(), source }),
    }
}

async fn of_server(target: &Target, options: &InspectOptions) -> Result<Inspected, InspectError> {
    let timeouts = Timeouts { statement_ms: 60_000, lock_ms: 1000, read_ms: 60_000 };
    let session = whose_file::open(target, timeouts).await?;
    let block = options.block.ok_or(InspectError::BlockNeeded)?;
    let name = options.relation.trim_matches('"');
    let named = if is_path(name) { RelationFile::parse(name).map(|(file, _)| file) } else { None };
    let wanted = match &named {
        Some(file) => Wanted::File {
            tablespace: file.tablespace,
            filenode: file.filenode,
            is_temporary: file.backend.is_some(),
        },
        None => Wanted::Written(&options.relation),
    };
    let mut owners = whose_file::owners(&session, wanted).await?;
    if owners.is_empty() && named.is_none() {
        // In whatever schema, where it is in one only.
        owners = whose_file::owners(&session, Wanted::Named(&options.relation)).await?;
        owners.truncate(if owners.len() == 1 { 1 } else { 0 });
    }
    let owner = owners.into_iter().next();
    let file = match (named, &owner) {
        (Some(file), _) => file,
        (None, None) => return Err(InspectError::NoRelation(options.relation.clone())),
        (None, Some(owner)) => {
            let path = owner.path.as_deref().and_then(RelationFile::parse);
            path.map(|(file, _)| file)
                .ok_or_else(|| InspectError::NoFile(owner.relation.plain()))?
        }
    };
    let file = file.of_fork(options.fork);
    let server = session.server();
    let geometry =
        Geometry { block_size: server.block_size, segment_blocks: server.segment_blocks.max(1) };
    let place = geometry.place(&file, block);
    let bytes = read_page(&session, &file.path(), block).await?;
    let bytes = bytes.ok_or_else(|| InspectError::NoBlock { file: place.file.clone(), block })?;
    let attributes = match &owner {
        Some(owner) => whose_file::attributes(&session, owner.relation.oid).await?,
        None => None,
    };
    let origin = Origin {
        what: owner.as_ref().map_or_else(|| format!("relation \"{file}\""), named_as),
        fork: file.fork.name(),
        block,
        file: place.file,
        segment: place.segment,
        page: place.page,
        byte: place.byte,
        kind: owner.as_ref().map(|o| Kind::of(o.kind, o.access_method_oid)),
        attributes,
        checksums: Some(server.data_checksums),
        notes: vec![
            "this is the page on disk; in the server's memory there may be a newer one".to_owned(),
        ],
    };
    Ok(Inspected::new(origin, bytes))
}

fn named_as(owner: &Owner) -> String {
    let of = owner.table.as_ref().map(|t| format!(" of table \"{}\"", t.plain()));
    format!("{} \"{}\"{}", owner.kind_words(), owner.relation.plain(), of.unwrap_or_default())
}

async fn read_page(
    session: &Session,
    path: &str,
    block: u32,
) -> Result<Option<Vec<u8>>, InspectError> {
    let mut reads = 0;
    loop {
        let image =
            pages::page_image(session, path, block).await.map_err(|e| match e.is_permission() {
                true => InspectError::Permission(e),
                false => InspectError::Read(e),
            })?;
        reads += 1;
        let is_torn = image.as_ref().is_some_and(|bytes| {
            let page = Page::new(bytes);
            session.server().data_checksums
                && !page.is_new()
                && page.checksum() != checksum(bytes, block)
        });
        if !is_torn || reads >= READS_MAX {
            return Ok(image);
        }
        tokio::time::sleep(READ_AGAIN_AFTER).await;
    }
}
