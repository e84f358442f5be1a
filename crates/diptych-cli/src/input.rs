//! Standard input, read by a thread of its own, so that a pause of the input is noticed.

use std::{
    io::{self, BufRead, ErrorKind, Read},
    sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    thread,
    time::{Duration, Instant},
};

/// Bytes that are read at once.
const CHUNK_BYTES: usize = 64 << 10;
/// Chunks that were read and wait to be parsed.
const WAITING_CHUNKS: usize = 4;

/// Input that tells its reader about pauses, by an error of the kind `TimedOut`. The read can be
/// repeated after such an error.
///
/// It tells about a pause if no input is there and the first bytes since the last pause came this
/// long ago. So a slow input that never stops has pauses, too, and no byte waits longer than this
/// for one. It tells about a pause only once, and then waits for input.
pub(crate) struct PausingInput {
    chunks: Receiver<io::Result<Vec<u8>>>,
    chunk: Vec<u8>,
    at: usize,
    after: Duration,
    /// When the first bytes since the last pause came.
    since: Option<Instant>,
}

impl PausingInput {
    /// Reads from `input` in a thread. The thread ends with the input, or after the next chunk when
    /// this is dropped.
    pub(crate) fn new(input: impl Read + Send + 'static, after: Duration) -> io::Result<Self> {
        let (read, chunks) = sync_channel(WAITING_CHUNKS);
        thread::Builder::new().name("input".to_owned()).spawn(move || read_all(input, &read))?;
        Ok(PausingInput { chunks, chunk: Vec::new(), at: 0, after, since: None })
    }

    fn next_chunk(&mut self) -> io::Result<()> {
        let next = match self.since {
            None => self.chunks.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(since) => self.chunks.recv_timeout(self.after.saturating_sub(since.elapsed())),
        };
        self.at = 0;
        self.chunk = match next {
            Ok(chunk) => chunk?,
            Err(RecvTimeoutError::Disconnected) => Vec::new(),
            Err(RecvTimeoutError::Timeout) => {
                (self.chunk, self.since) = (Vec::new(), None);
                return Err(ErrorKind::TimedOut.into());
            }
        };
        self.since.get_or_insert_with(Instant::now);
        Ok(())
    }
}

fn read_all(mut input: impl Read, to: &SyncSender<io::Result<Vec<u8>>>) {
    loop {
        let mut chunk = vec![0; CHUNK_BYTES];
        let read = match input.read(&mut chunk) {
            Ok(0) => return,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            read => read,
        };
        let failed = read.is_err();
        let sent = to.send(read.map(|bytes| {
            chunk.truncate(bytes);
            chunk
        }));
        if failed || sent.is_err() {
            return;
        }
    }
}

impl BufRead for PausingInput {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.at >= self.chunk.len() {
            self.next_chunk()?;
        }
        Ok(self.chunk.get(self.at..).unwrap_or(&[]))
    }

    fn consume(&mut self, bytes: usize) {
        self.at += bytes;
    }
}

impl Read for PausingInput {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.fill_buf()?.read(into)?;
        self.consume(read);
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Sender, channel};

    use super::*;

    /// An input that comes as a test sends it.
    struct Sent(Receiver<&'static str>);

    impl Read for Sent {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            self.0.recv().map_or(Ok(0), |text| text.as_bytes().read(into))
        }
    }

    fn sent(after: Duration) -> (Sender<&'static str>, PausingInput) {
        let (send, input) = channel();
        (send, PausingInput::new(Sent(input), after).unwrap())
    }

    fn paused(input: &mut PausingInput) -> bool {
        matches!(input.fill_buf(), Err(error) if error.kind() == ErrorKind::TimedOut)
    }

    #[test]
    fn a_pause_is_told_once_and_bytes_follow() {
        let (send, mut input) = sent(Duration::from_millis(1));
        send.send("one").unwrap();
        assert_eq!(input.fill_buf().unwrap(), b"one");
        input.consume(3);
        assert!(paused(&mut input));
        send.send("two").unwrap();
        assert_eq!(input.fill_buf().unwrap(), b"two");
        drop(send);
        input.consume(3);
        while paused(&mut input) {}
        assert_eq!(input.fill_buf().unwrap(), b"");
    }

    #[test]
    fn an_input_without_a_pause_is_read_to_its_end() {
        let text = "line\n".repeat(100_000);
        let input = io::Cursor::new(text.clone());
        let mut input = PausingInput::new(input, Duration::from_secs(600)).unwrap();
        let mut read = String::new();
        input.read_to_string(&mut read).unwrap();
        assert_eq!(read, text);
    }
}
