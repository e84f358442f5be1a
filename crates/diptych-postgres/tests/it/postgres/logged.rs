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

/// The first line that names this, or all of these.
pub(super) fn line(names: &[&str]) -> String {
    let said = text();
    let line = said.lines().find(|line| names.iter().all(|name| line.contains(name)));
    line.unwrap_or_else(|| panic!("nothing was logged about {names:?}")).to_owned()
}

/// All that was logged so far.
pub(super) fn text() -> String {
    String::from_utf8(TEXT.lock().unwrap().clone()).unwrap()
}
