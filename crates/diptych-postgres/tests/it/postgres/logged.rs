//! The warnings and errors that stores log.

use std::{
    io,
    sync::{Mutex, Once},
};

static TEXT: Mutex<Vec<u8>> = Mutex::new(Vec::new());

struct Collector;

impl io::Write for Collector {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        TEXT.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Collects the messages of all stores from now on.
pub(super) fn collect() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        tracing_subscriber::fmt().with_ansi(false).with_writer(|| Collector).init();
    });
}

/// All that was logged so far.
pub(super) fn text() -> String {
    String::from_utf8(TEXT.lock().unwrap().clone()).unwrap()
}
