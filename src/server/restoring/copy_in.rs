//! Rows on their way to the target.

use super::Refusal;
use bytes::Bytes;
use futures::SinkExt;
use std::pin::Pin;
use tokio_postgres::CopyInSink;

pub struct CopyIn {
    sink: Pin<Box<CopyInSink<Bytes>>>,
}

impl CopyIn {
    pub(super) fn new(sink: CopyInSink<Bytes>) -> Self {
        Self { sink: Box::pin(sink) }
    }

    /// Sends whole rows. What the server has against them is said at the end.
    pub async fn send(&mut self, rows: Bytes) -> Result<(), Refusal> {
        self.sink.feed(rows).await.map_err(Refusal::from)
    }

    /// Ends the COPY. Returns how many rows the server has taken.
    pub async fn finish(mut self) -> Result<u64, Refusal> {
        self.sink.as_mut().finish().await.map_err(Refusal::from)
    }
}
