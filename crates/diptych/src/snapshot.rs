//! States kept outside the log, so that a long history need not be folded from its beginning. They
//! make the app faster, and change no result.
//!
//! A snapshot names its log, its position, the event there, and the code that made it. A snapshot
//! that does not fit, is damaged or cannot be read causes a warning and a replay.

mod encoding;
mod likeness;
mod policy;
mod view_store;

use std::{collections::BTreeMap, io};

use parking_lot::Mutex;

#[cfg(feature = "testing")]
pub(crate) use encoding::{decode, encode};
pub(crate) use policy::{
    SavedState, SnapshotPolicies, SnapshotPolicy, SnapshotProblem, UnsealedSnapshot, executable,
    of_a_lost_history,
};
pub(crate) use view_store::ViewSnapshotStore;

/// A place outside the log for named bytes that can be made again.
///
/// It need not be durable and may lose everything, because snapshots are checked when they are
/// read. Names consist of ASCII letters, digits and `-`. A place belongs to one log: snapshots of
/// another log are useless in it, and may be removed.
pub trait Snapshots: Send + Sync + 'static {
    /// The bytes under this name, if there are any.
    ///
    /// # Errors
    /// The reason why they cannot be read.
    fn load(&self, name: &str) -> io::Result<Option<Vec<u8>>>;

    /// Stores these bytes under this name, in place of older ones.
    ///
    /// # Errors
    /// The reason why they cannot be written.
    fn save(&self, name: &str, bytes: &[u8]) -> io::Result<()>;

    /// The names that begin with this prefix and have bytes, sorted. With "" as prefix, all names.
    ///
    /// # Errors
    /// The reason why they cannot be listed.
    fn names(&self, prefix: &str) -> io::Result<Vec<String>>;

    /// Removes the bytes under this name, if there are any.
    ///
    /// # Errors
    /// The reason why it cannot be removed.
    fn remove(&self, name: &str) -> io::Result<()>;
}

#[cfg(feature = "log")]
impl Snapshots for diptych_log::Snapshots {
    fn load(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        diptych_log::Snapshots::load(self, name)
    }

    fn save(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        diptych_log::Snapshots::save(self, name, bytes)
    }

    fn names(&self, prefix: &str) -> io::Result<Vec<String>> {
        diptych_log::Snapshots::names(self, prefix)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        diptych_log::Snapshots::remove(self, name)
    }
}

/// Snapshots in memory, gone with the process: for tests, and to look at what is kept.
#[derive(Debug, Default)]
pub struct MemorySnapshots(Mutex<BTreeMap<String, Vec<u8>>>);

impl Snapshots for MemorySnapshots {
    fn load(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        Ok(self.0.lock().get(name).cloned())
    }

    fn save(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.0.lock().insert(name.to_owned(), bytes.to_vec());
        Ok(())
    }

    fn names(&self, prefix: &str) -> io::Result<Vec<String>> {
        let kept = self.0.lock();
        Ok(kept.keys().filter(|name| name.starts_with(prefix)).cloned().collect())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.0.lock().remove(name);
        Ok(())
    }
}

impl<S: Snapshots> Snapshots for std::sync::Arc<S> {
    fn load(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        S::load(self, name)
    }

    fn save(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        S::save(self, name, bytes)
    }

    fn names(&self, prefix: &str) -> io::Result<Vec<String>> {
        S::names(self, prefix)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        S::remove(self, name)
    }
}

/// When snapshots of a fold are made, and how many are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotOptions {
    /// A snapshot is due after this many events were applied to one state since its last snapshot.
    /// `None` stands for 1,000 if the fold is the state of a command, and for 100,000 if it is a
    /// view.
    pub every_events: Option<u64>,
    /// Maximum number of snapshots of a view: the newest, and older ones. The distances of the
    /// older ones from the newest about double from one to the next. Questions about the past start
    /// from an older one, and so does the view if the newest is damaged. Each snapshot is as large
    /// as the view.
    pub keep: usize,
}

impl SnapshotOptions {
    /// Default number of events between two snapshots of the state of a command.
    pub(crate) const STATE_EVENTS: u64 = 1_000;
    /// Default number of events between two snapshots of a view.
    pub(crate) const VIEW_EVENTS: u64 = 100_000;

    /// A snapshot after this many events.
    pub const fn every(events: u64) -> SnapshotOptions {
        SnapshotOptions { every_events: Some(events), keep: 8 }
    }
}

impl Default for SnapshotOptions {
    fn default() -> SnapshotOptions {
        SnapshotOptions { every_events: None, keep: 8 }
    }
}
