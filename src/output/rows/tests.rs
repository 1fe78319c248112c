use std::fs;
use std::path::Path;
use std::process::Command;

use proptest::prelude::*;
use tokio::io::AsyncReadExt;

use super::*;
use crate::output::codec::Method;
use crate::output::frame::open_rows;
use crate::output::names::data_path;

fn codecs() -> [Codec; 4] {
    Method::ALL.map(|method| Codec { method, level: None })
}

fn create(dir: &DumpDir, stem: &str, codec: Codec) -> RowWriter {
    let path = data_path(stem, RowClass::Clean, codec);
    RowWriter::create(dir, &path, RowClass::Clean, codec).unwrap()
}

async fn read(path: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    open_rows(path).await.unwrap().read_to_end(&mut bytes).await.unwrap();
    bytes
}

/// COPY text that compresses about as well as real tables do.
fn rows(first: u32, count: u32) -> Vec<u8> {
    let mut text = Vec::new();
    for id in first..first + count {
        let hash = id.wrapping_mul(2_654_435_761);
        text.extend_from_slice(format!("{id}\t{hash:x}\tsome words\t\\N\n").as_bytes());
    }
    text
}

#[tokio::test]
async fn the_tools_of_each_codec_read_the_frames_as_one_stream() {
    let temp = tempfile::tempdir().unwrap();
    let dir = DumpDir::create(temp.path(), true).unwrap();
    for (codec, tool) in
        codecs().into_iter().zip([["zstd", "-dc"], ["gzip", "-dc"], ["lz4", "-dc"], ["cat", "-u"]])
    {
        let mut writer = create(&dir, "public.t", codec);
        let mut expected = Vec::new();
        for frame in 0..3 {
            let text = rows(frame * 20_000, 20_000);
            writer.write(&text, 20_000).await.unwrap();
            writer.end_frame().await.unwrap();
            expected.extend_from_slice(&text);
        }
        let entry = writer.finish().await.unwrap();
        assert_eq!((entry.rows, entry.class), (60_000, RowClass::Clean));

        let path = temp.path().join(&entry.path);
        assert_eq!(fs::metadata(&path).unwrap().len(), entry.bytes);
        assert_eq!(hex(&Sha256::digest(fs::read(&path).unwrap())), entry.sha256);
        assert!(read(&path).await == expected, "{codec}");
        let output =
            Command::new(tool[0]).arg(tool[1]).arg(&path).output().unwrap_or_else(|error| {
                panic!("this test needs {}: {error} (apt-get install zstd lz4)", tool[0])
            });
        assert!(output.status.success() && output.stdout == expected, "{codec}: {output:?}");
        assert!(!path.with_extension("zst.part").exists());
    }
}

#[tokio::test]
async fn a_file_without_rows_is_one_that_the_tools_accept() {
    let temp = tempfile::tempdir().unwrap();
    let dir = DumpDir::create(temp.path(), true).unwrap();
    for (codec, tool) in codecs().into_iter().zip(["zstd", "gzip", "lz4"]) {
        let entry = create(&dir, "public.t", codec).finish().await.unwrap();
        let path = temp.path().join(&entry.path);
        assert_eq!(read(&path).await, b"");
        let status = Command::new(tool).arg("-t").arg(&path).output().unwrap().status;
        assert!(status.success(), "{codec}");
    }
}

#[tokio::test]
async fn a_frame_is_not_ended_twice() {
    let temp = tempfile::tempdir().unwrap();
    let dir = DumpDir::create(temp.path(), false).unwrap();
    for codec in codecs() {
        let mut writer = create(&dir, "public.t", codec);
        assert_eq!(writer.end_frame().await.unwrap().offset, 0);
        writer.write(b"1\n", 1).await.unwrap();
        let mark = writer.end_frame().await.unwrap();
        assert_eq!(writer.end_frame().await.unwrap().offset, mark.offset);
        assert_eq!((mark.rows, mark.bytes), (1, 2));
        writer.finish().await.unwrap();
    }
}

#[tokio::test]
async fn a_row_larger_than_any_buffer_comes_through() {
    let temp = tempfile::tempdir().unwrap();
    let dir = DumpDir::create(temp.path(), false).unwrap();
    for codec in codecs() {
        let mut writer = create(&dir, "public.t", codec);
        let mut row = rows(0, 200_000);
        row.iter_mut().for_each(|byte| {
            if *byte == b'\n' {
                *byte = b' ';
            }
        });
        row.push(b'\n');
        writer.write(&row, 1).await.unwrap();
        let entry = writer.finish().await.unwrap();
        assert!(read(&temp.path().join(entry.path)).await == row, "{codec}");
    }
}

#[tokio::test]
async fn a_later_run_goes_on_from_a_mark() {
    let temp = tempfile::tempdir().unwrap();
    for codec in codecs() {
        let path = temp.path().join(codec.to_string());
        let dir = DumpDir::create(&path, true).unwrap();
        let mut writer = create(&dir, "public.t", codec);
        writer.write(&rows(0, 30_000), 30_000).await.unwrap();
        let mark = writer.sync().await.unwrap();
        writer.write(&rows(0, 60_000), 60_000).await.unwrap();
        drop((writer, dir));

        let dir = DumpDir::open(&path, true).unwrap();
        let relative = data_path("public.t", RowClass::Clean, codec);
        let at = mark.extent();
        let mut writer =
            RowWriter::reopen(&dir, &relative, RowClass::Clean, codec, at).await.unwrap();
        writer.write(&rows(30_000, 5), 5).await.unwrap();
        let entry = writer.finish().await.unwrap();
        assert_eq!(entry.rows, 30_005);
        assert_eq!(hex(&Sha256::digest(fs::read(path.join(&entry.path)).unwrap())), entry.sha256);
        assert!(read(&path.join(&entry.path)).await == rows(0, 30_005), "{codec}");
    }
}

#[tokio::test]
async fn a_file_shorter_than_its_mark_is_not_gone_on_with() {
    let temp = tempfile::tempdir().unwrap();
    drop(create(&DumpDir::create(temp.path(), true).unwrap(), "t", Codec::NONE));
    let dir = DumpDir::open(temp.path(), true).unwrap();
    let at = Extent { len: 9, rows: 1, bytes: 9, hash: None };
    let reopened = RowWriter::reopen(&dir, "data/t.copy", RowClass::Clean, Codec::NONE, at).await;
    assert_eq!(
        reopened.err().unwrap().to_string(),
        format!(
            "file \"{}/data/t.copy.part\" has 0 bytes, but 9 had been made durable",
            temp.path().display()
        )
    );
}

#[tokio::test]
async fn after_a_full_disk_every_call_says_so_until_it_is_put_right() {
    let temp = tempfile::tempdir().unwrap();
    let dir = DumpDir::create(temp.path(), false).unwrap();
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let file = PartFile::new(temp.path().join("data/t.copy.part"), full, Codec::NONE);
    let mut writer = RowWriter::new(&dir, "data/t.copy", RowClass::Clean, file);
    let rows = rows(0, 100_000);
    let mut errors = Vec::new();
    for slice in rows.chunks(FEED_BYTES) {
        errors.extend(writer.write(slice, 1).await.err());
    }
    errors.extend(writer.end_frame().await.err());
    errors.extend(writer.finish().await.err());
    assert!(errors.len() > 2);
    for error in errors {
        assert!(error.is_disk_full(), "{error}");
        let end = ": No space left on device (os error 28)";
        assert!(error.to_string().ends_with(end), "{error}");
    }
}

#[tokio::test]
async fn a_piece_that_is_not_there_any_more_is_no_part_of_the_file() {
    let temp = tempfile::tempdir().unwrap();
    let dir = DumpDir::create(temp.path(), false).unwrap();
    let mut piece = create(&dir, "piece", Codec::NONE);
    piece.write(b"2\n3\n", 2).await.unwrap();
    let piece = piece.into_piece().await.unwrap();
    fs::write(&piece.path, b"2\n").unwrap();

    let mut writer = create(&dir, "t", Codec::NONE);
    writer.write(b"1\n", 1).await.unwrap();
    let mark = writer.end_frame().await.unwrap();
    let error = writer.append(&piece).await.unwrap_err();
    assert!(matches!(error, OutputError::TooShort { found: 2, expected: 4, .. }), "{error}");
    assert!(writer.write(b"4\n", 1).await.is_err(), "half a piece is not built upon");
    writer.rollback(&mark).await.unwrap();
    writer.write(b"4\n", 1).await.unwrap();
    let entry = writer.finish().await.unwrap();
    assert_eq!(entry.rows, 2);
    assert_eq!(read(&temp.path().join(entry.path)).await, b"1\n4\n");
}

#[tokio::test]
async fn discarded_files_are_gone() {
    let temp = tempfile::tempdir().unwrap();
    let dir = DumpDir::create(temp.path(), true).unwrap();
    create(&dir, "a", Codec::default()).discard().await.unwrap();
    create(&dir, "b", Codec::default()).into_piece().await.unwrap().discard().await.unwrap();
    assert_eq!(fs::read_dir(temp.path().join("data")).unwrap().count(), 0);
}

/// What a caller may do, in any order.
#[derive(Clone, Debug)]
enum Step {
    Write {
        rows: u32,
        slice: usize,
    },
    EndFrame,
    /// To the mark of this number, counted from the last.
    Rollback(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let rows = prop_oneof![0..50u32, 0..20_000u32];
    prop_oneof![
        3 => (rows, 1..700_000usize).prop_map(|(rows, slice)| Step::Write { rows, slice }),
        2 => Just(Step::EndFrame),
        1 => (0..3usize).prop_map(Step::Rollback),
    ]
}

/// Takes the steps, and returns the file, and the text of each frame.
async fn take(dir: &DumpDir, codec: Codec, steps: &[Step]) -> (Vec<u8>, Vec<Vec<u8>>) {
    let mut writer = create(dir, "steps", codec);
    let mut frames: Vec<Vec<u8>> = Vec::new();
    let mut open = Vec::new();
    // With how many frames lie before each.
    let mut marks = vec![(writer.end_frame().await.unwrap(), 0)];
    for step in steps {
        match step {
            Step::Write { rows: count, slice } => {
                let text = rows(writer.rows().try_into().unwrap(), *count);
                for slice in text.chunks(*slice) {
                    writer.write(slice, 0).await.unwrap();
                }
                writer.write(b"", (*count).into()).await.unwrap();
                open.extend_from_slice(&text);
            }
            Step::EndFrame => {
                let mark = writer.end_frame().await.unwrap();
                if !open.is_empty() {
                    frames.push(std::mem::take(&mut open));
                }
                assert_eq!(mark.bytes, frames.iter().map(|frame| frame.len() as u64).sum::<u64>());
                marks.push((mark, frames.len()));
            }
            Step::Rollback(back) => {
                marks.truncate(marks.len().saturating_sub(*back).max(1));
                let (mark, before) = marks.last().unwrap();
                writer.rollback(mark).await.unwrap();
                frames.truncate(*before);
                open.clear();
            }
        }
    }
    let entry = writer.finish().await.unwrap();
    if !open.is_empty() {
        frames.push(open);
    }
    let lines = frames.concat().iter().filter(|byte| **byte == b'\n').count();
    assert_eq!(entry.rows, lines as u64);
    let path = dir.path().join(&entry.path);
    assert!(read(&path).await == frames.concat(), "what is read back is what was written");
    let file = fs::read(path).unwrap();
    assert_eq!(hex(&Sha256::digest(&file)), entry.sha256);
    (file, frames)
}

/// Writes the frames in place, or each to a piece of its own.
async fn rewrite(dir: &DumpDir, codec: Codec, frames: &[Vec<u8>], in_pieces: &[bool]) -> Vec<u8> {
    let mut writer = create(dir, "again", codec);
    for (number, frame) in frames.iter().enumerate() {
        let lines = frame.iter().filter(|byte| **byte == b'\n').count() as u64;
        if in_pieces[number % in_pieces.len()] {
            let mut piece = create(dir, &format!("again.{number:08}"), codec);
            piece.write(frame, lines).await.unwrap();
            if number % 2 == 0 {
                piece.sync().await.unwrap();
            }
            let piece = piece.into_piece().await.unwrap();
            assert_eq!(piece.rows(), lines);
            writer.append(&piece).await.unwrap();
            piece.discard().await.unwrap();
        } else {
            writer.write(frame, lines).await.unwrap();
            writer.end_frame().await.unwrap();
        }
    }
    let entry = writer.finish().await.unwrap();
    assert_eq!(fs::read_dir(dir.path().join("data")).unwrap().count(), 2, "pieces are deleted");
    let file = fs::read(dir.path().join(&entry.path)).unwrap();
    assert_eq!(hex(&Sha256::digest(&file)), entry.sha256);
    file
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]
    #[test]
    fn the_file_depends_on_rows_and_frames_alone(
        steps in proptest::collection::vec(step(), 0..12),
        in_pieces in proptest::collection::vec(any::<bool>(), 1..4),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            for codec in codecs() {
                let temp = tempfile::tempdir().unwrap();
                let dir = DumpDir::create(temp.path(), false).unwrap();
                let (file, frames) = take(&dir, codec, &steps).await;
                let again = rewrite(&dir, codec, &frames, &in_pieces).await;
                assert!(file == again, "{codec}");
            }
        });
    }
}
