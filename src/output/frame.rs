//! Compression, one frame at a time, and its reading back.
//!
//! A data file is a sequence of frames: zstd frames, gzip members or lz4
//! frames, each complete in itself and with a checksum. `zstd -d`, `zcat` and
//! `lz4 -d` read such a sequence as one stream. Without compression a frame is
//! just its bytes.

use std::ffi::OsStr;
use std::io;
use std::path::Path;

use async_compression::Level;
use async_compression::lz4::{BlockSize, EncoderParams};
use async_compression::tokio::bufread::{GzipDecoder, Lz4Decoder, ZstdDecoder};
use async_compression::tokio::write::{GzipEncoder, Lz4Encoder, ZstdEncoder};
use async_compression::zstd::CParameter;
use futures::FutureExt;
use tokio::io::{AsyncBufRead, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};

use super::codec::{Codec, Method};
use super::error::OutputError;

const GZIP_LEVEL: i32 = 6;
const READ_BYTES: usize = 256 * 1024;

/// A frame that is being written, into memory.
///
/// The memory is always ready to take more, so the encoder never waits, and
/// what it writes depends on nothing but what it is fed.
pub(super) enum Frame {
    Zstd(ZstdEncoder<Vec<u8>>),
    Gzip(GzipEncoder<Vec<u8>>),
    Lz4(Lz4Encoder<Vec<u8>>),
    Plain(Vec<u8>),
}

impl Frame {
    pub(super) fn new(codec: Codec) -> Self {
        let out = Vec::new();
        let level = codec.level.map_or(Level::Default, Level::Precise);
        match codec.method {
            Method::Zstd => {
                let params = [CParameter::checksum_flag(true)];
                Self::Zstd(ZstdEncoder::with_quality_and_params(out, level, &params))
            }
            Method::Gzip => {
                let level = Level::Precise(codec.level.unwrap_or(GZIP_LEVEL));
                Self::Gzip(GzipEncoder::with_quality(out, level))
            }
            Method::Lz4 => {
                let params =
                    EncoderParams::default().block_size(BlockSize::Max256KB).content_checksum(true);
                Self::Lz4(Lz4Encoder::with_quality_and_params(out, level, params))
            }
            Method::None => Self::Plain(out),
        }
    }

    /// Compresses `bytes`, and appends to `out` what came of it so far.
    pub(super) fn feed(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
        at_once(self.encoder().write_all(bytes))?;
        out.append(self.compressed());
        Ok(())
    }

    /// Ends the frame, and appends the rest of it to `out`.
    pub(super) fn finish(mut self, out: &mut Vec<u8>) -> io::Result<()> {
        at_once(self.encoder().shutdown())?;
        out.append(self.compressed());
        Ok(())
    }

    fn encoder(&mut self) -> &mut (dyn AsyncWrite + Unpin) {
        match self {
            Self::Zstd(encoder) => encoder,
            Self::Gzip(encoder) => encoder,
            Self::Lz4(encoder) => encoder,
            Self::Plain(out) => out,
        }
    }

    fn compressed(&mut self) -> &mut Vec<u8> {
        match self {
            Self::Zstd(encoder) => encoder.get_mut(),
            Self::Gzip(encoder) => encoder.get_mut(),
            Self::Lz4(encoder) => encoder.get_mut(),
            Self::Plain(out) => out,
        }
    }
}

fn at_once(writing: impl Future<Output = io::Result<()>>) -> io::Result<()> {
    writing.now_or_never().expect("memory is always ready to be written")
}

/// Opens a finished data file for reading; the end of its name says how it is
/// compressed.
pub async fn open_rows(path: &Path) -> Result<Box<dyn AsyncBufRead + Send + Unpin>, OutputError> {
    let file = tokio::fs::File::open(path).await.map_err(OutputError::io("open file", path))?;
    Ok(unpacked(path, file))
}

/// What a file of this name holds, unpacked.
pub(super) fn unpacked(
    path: &Path,
    file: impl AsyncRead + Send + Unpin + 'static,
) -> Box<dyn AsyncBufRead + Send + Unpin> {
    let file = BufReader::with_capacity(READ_BYTES, file);
    match path.extension().and_then(OsStr::to_str) {
        Some("zst") => {
            let mut decoder = ZstdDecoder::new(file);
            decoder.multiple_members(true);
            Box::new(BufReader::with_capacity(READ_BYTES, decoder))
        }
        Some("gz") => {
            let mut decoder = GzipDecoder::new(file);
            decoder.multiple_members(true);
            Box::new(BufReader::with_capacity(READ_BYTES, decoder))
        }
        Some("lz4") => {
            let mut decoder = Lz4Decoder::new(file);
            decoder.multiple_members(true);
            Box::new(BufReader::with_capacity(READ_BYTES, decoder))
        }
        _ => Box::new(file),
    }
}
