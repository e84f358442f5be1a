//! The bytes of appends that the store has not accepted, over all streams of a server.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use diptych_remote::wire::messages::Call;
use tokio::sync::Notify;

/// Bytes that a call takes beside the payloads of its events.
const CALL_BYTES: usize = 256;

/// Counts the bytes, so that many streams together do not fill the memory.
pub(crate) struct AppendBytes {
    limit: usize,
    held: AtomicUsize,
    freed: Notify,
}

/// The bytes of one call, until it is dropped.
pub(crate) struct HeldBytes {
    all: Arc<AppendBytes>,
    bytes: usize,
}

impl AppendBytes {
    pub(crate) fn new(limit: usize) -> AppendBytes {
        AppendBytes { limit, held: AtomicUsize::new(0), freed: Notify::new() }
    }

    /// Whether a further message may be read.
    pub(crate) fn have_room(&self) -> bool {
        self.held.load(Ordering::SeqCst) < self.limit
    }

    /// Waits until a further message may be read.
    pub(crate) async fn room(&self) {
        loop {
            let freed = self.freed.notified();
            if self.have_room() {
                return;
            }
            freed.await;
        }
    }

    /// Counts a call that was read.
    pub(crate) fn hold(self: &Arc<Self>, call: &Call) -> HeldBytes {
        let encoded = call.encoded.as_ref().map_or(0, |encoded| encoded.bytes.len());
        let payloads: usize = call.events.iter().map(|event| event.payload.len()).sum();
        let bytes = CALL_BYTES + encoded + payloads;
        self.held.fetch_add(bytes, Ordering::SeqCst);
        HeldBytes { all: self.clone(), bytes }
    }
}

impl Drop for HeldBytes {
    fn drop(&mut self) {
        let before = self.all.held.fetch_sub(self.bytes, Ordering::SeqCst);
        // Streams wait only above the limit.
        if before >= self.all.limit {
            self.all.freed.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn a_stream_waits_above_the_limit_until_bytes_are_freed() {
        let bytes = Arc::new(AppendBytes::new(2 * CALL_BYTES));
        let one = bytes.hold(&Call::default());
        assert!(bytes.have_room());
        let two = bytes.hold(&Call::default());
        assert!(!bytes.have_room());
        let mut room = Box::pin(bytes.room());
        assert!(room.as_mut().now_or_never().is_none());
        drop(two);
        room.await;
        drop(one);
        assert_eq!(bytes.held.load(Ordering::SeqCst), 0);
    }
}
