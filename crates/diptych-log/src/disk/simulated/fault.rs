//! What can be asked of a disk, and what can go wrong with it.

#[cfg(doc)]
use super::SimulatedDisk;
#[cfg(doc)]
use crate::disk::{Disk, DiskFile};

/// What can be asked of a disk or of one of its files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// [`Disk::create_dir`].
    CreateDir,
    /// [`Disk::list`].
    List,
    /// [`Disk::create`].
    Create,
    /// [`Disk::open`].
    Open,
    /// [`Disk::map`].
    Map,
    /// [`Disk::rename`].
    Rename,
    /// [`Disk::link`].
    Link,
    /// [`Disk::remove`].
    Remove,
    /// [`Disk::sync_dir`].
    SyncDir,
    /// [`Disk::pin`].
    Pin,
    /// [`Disk::lock`].
    Lock,
    /// [`DiskFile::size`].
    Size,
    /// [`DiskFile::read_at`].
    Read,
    /// [`DiskFile::write_at`].
    Write,
    /// [`DiskFile::set_size`].
    SetSize,
    /// [`DiskFile::sync`].
    Sync,
    /// [`DiskFile::share`].
    Share,
}

impl Operation {
    /// Each of them.
    pub const ALL: [Operation; 17] = [
        Operation::CreateDir,
        Operation::List,
        Operation::Create,
        Operation::Open,
        Operation::Map,
        Operation::Rename,
        Operation::Link,
        Operation::Remove,
        Operation::SyncDir,
        Operation::Pin,
        Operation::Lock,
        Operation::Size,
        Operation::Read,
        Operation::Write,
        Operation::SetSize,
        Operation::Sync,
        Operation::Share,
    ];

    pub(super) fn takes_space(self) -> bool {
        use Operation::{Create, CreateDir, SetSize, Write};
        matches!(self, CreateDir | Create | Write | SetSize)
    }
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The next operation of this kind fails, and only that one.
    ///
    /// A write that fails leaves any first part of what was to be written. A sync that fails
    /// leaves any part of what was not synced durable, and the rest will never be, even if a
    /// later sync succeeds; reads still show it.
    Io(Operation),
    /// The next operation that takes space finds none, and only that one. A write leaves a first
    /// part. For a disk that stays full see [`SimulatedDisk::set_capacity`].
    DiskFull,
    /// Everything fails from here on and does nothing, but for a write that was under way: the
    /// process or the machine stops, and what comes next is a crash.
    Stop,
}

/// A mistake of an engine, made by the disk in its place.
///
/// Each is a lie, and an engine that believes it does what an engine with the mistake would do,
/// so the engine needs no hooks for it: an engine that acknowledges before it syncs leaves the
/// same bytes not durable as one whose sync did nothing; one that goes on after a failed sync
/// does the same as one that was told that the sync succeeded; and one that forgets to sync the
/// folder leaves the same names to be lost as one whose folder sync did nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sabotage {
    /// A sync of a file succeeds and does nothing.
    AcknowledgeBeforeSync,
    /// A sync of a file that fails says that it succeeded.
    ForgetFailedSync,
    /// A sync of a folder succeeds and does nothing for the files in it.
    ForgetDirSync,
    /// Zeros are written over the end of what stands before them, as by a log that prepares space
    /// without knowing where its commits end.
    ZerosTooEarly,
}
