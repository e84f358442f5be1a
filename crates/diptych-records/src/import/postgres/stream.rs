//! The rows of a statement as the server sends them: one line each, in the text format of `COPY`.

use std::{
    future::Future,
    pin::pin,
    sync::mpsc::{SyncSender, sync_channel},
    thread,
};

use diptych_postgres::DatabaseConnection;
use futures_util::StreamExt;
use tokio::runtime::Builder;

use super::PostgresTable;
use crate::import::error::ImportError;

/// The bytes of lines that are handed over together.
const CHUNK_BYTES: usize = 64 << 10;
/// The chunks that wait until their rows are taken.
const CHUNKS: usize = 4;

/// The result of work on a connection, on a thread with a runtime of its own: callers may be inside
/// of another runtime.
pub(super) fn on_runtime<T: Send>(
    work: impl Future<Output = Result<T, ImportError>> + Send,
) -> Result<T, ImportError> {
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let runtime = Builder::new_current_thread().enable_all().build();
            let runtime = runtime.map_err(|error| ImportError::File {
                path: "a thread of the connection".to_owned(),
                source: error,
            })?;
            runtime.block_on(work)
        });
        thread.join().map_err(|_| ImportError::Stopped)?
    })
}

impl PostgresTable {
    /// Calls the function with each line, without its end.
    pub(super) fn lines(
        &self,
        line: &mut dyn FnMut(&[u8]) -> Result<(), ImportError>,
    ) -> Result<(), ImportError> {
        thread::scope(|scope| {
            let (sender, chunks) = sync_channel::<Vec<u8>>(CHUNKS);
            let streaming = scope.spawn(move || on_runtime(self.stream(sender)));
            let mut taken = Ok(());
            while let Ok(chunk) = chunks.recv() {
                // Line ends inside of values are escaped.
                let mut lines =
                    chunk.strip_suffix(b"\n").unwrap_or(&chunk).split(|byte| *byte == b'\n');
                taken = lines.try_for_each(&mut *line);
                if taken.is_err() {
                    break;
                }
            }
            // The stream ends when it cannot send.
            drop(chunks);
            let streamed = streaming.join().map_err(|_| ImportError::Stopped)?;
            taken.and(streamed)
        })
    }

    /// Sends the lines in chunks, which end where a line ends.
    async fn stream(&self, chunks: SyncSender<Vec<u8>>) -> Result<(), ImportError> {
        let DatabaseConnection { client, .. } = self.connect().await?;
        let columns = self.describe(&client).await?;
        let known = self.columns.iter().zip(&self.shapes);
        if !columns.iter().map(|(name, shape)| (name, shape)).eq(known) {
            let problem = "its columns have changed since it was opened: run it again";
            return Err(self.trouble(problem));
        }
        // A comment at the end of the statement ends with the line.
        let copy = format!("copy ({}\n) to stdout (format text)", self.statement);
        let copy = client.copy_out(&copy).await.map_err(|error| self.fault(&error))?;
        let (mut copy, mut chunk) = (pin!(copy), Vec::new());
        while let Some(data) = copy.next().await {
            chunk.extend_from_slice(&data.map_err(|error| self.fault(&error))?);
            let is_full = chunk.len() >= CHUNK_BYTES && chunk.ends_with(b"\n");
            if is_full && chunks.send(std::mem::take(&mut chunk)).is_err() {
                return Ok(());
            }
        }
        if !chunk.is_empty() {
            // An error of the receiver is its own result.
            let _ = chunks.send(chunk);
        }
        Ok(())
    }
}
