//! The operations of a disk, and the ways in which they fail.

#[cfg(doc)]
use super::SimulatedDisk;
#[cfg(doc)]
use crate::disk::{Disk, DiskFile};

/// An operation of a disk or of one of its files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// [`Disk::create_dir`].
    CreateDir,
    /// [`Disk::list`].
    List,
    /// [`Disk::create`].
    Create,
    /// [`Disk::open`] and [`Disk::open_read`].
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
    /// [`Disk::lock`] and [`Disk::lock_shared`].
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
    /// All operations.
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

    fn takes_a_name(self) -> bool {
        matches!(self, Operation::CreateDir | Operation::Create)
    }

    fn takes_space(self) -> bool {
        self.takes_a_name() || matches!(self, Operation::Write | Operation::SetSize)
    }
}

/// A failure to inject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The next operation of this kind fails, and only that one.
    ///
    /// A write that fails leaves any first part of its bytes. After a sync that fails, any part of
    /// the unsynced bytes is durable, and the rest never will be, even if a later sync succeeds;
    /// reads still show it.
    Io(Operation),
    /// The next operation that takes space finds none, and only that one. A write leaves a first
    /// part.
    DiskFull,
    /// The disk is full from here on, until the fault is disarmed: no file can be created or grow.
    /// A write leaves the part that fits. For a disk that fills up see
    /// [`SimulatedDisk::set_capacity`].
    DiskStaysFull,
    /// Everything fails from here on and does nothing, except a write that was under way: the
    /// process or the machine stops, and a crash follows.
    Stop,
}

impl Fault {
    /// Whether an operation finds no space, wherever in a file it writes.
    pub(super) fn leaves_no_space_for(self, operation: Operation) -> bool {
        match self {
            Fault::DiskFull => operation.takes_space(),
            Fault::DiskStaysFull => operation.takes_a_name(),
            _ => false,
        }
    }
}

/// How many bytes all files can have after this many operations, with this armed fault.
pub(super) fn capacity(armed: Option<(u64, Fault)>, operations: u64, capacity: u64) -> u64 {
    match armed {
        Some((from, Fault::DiskStaysFull)) if from < operations => 0,
        _ => capacity,
    }
}

/// A mistake of an engine, made by the disk in its place.
///
/// Each of these mistakes is a lie of the disk. An engine that believes it does what an engine with
/// the mistake would do, so the engine needs no hooks.
///
/// An engine that acknowledges before it syncs leaves the same bytes unsynced as one whose sync did
/// nothing. One that goes on after a failed sync acts as if it was told that the sync succeeded.
/// One that forgets to sync the folder risks the same names as one whose folder sync did nothing.
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
    /// A manifest stays the one of the last open, as if the engine acknowledged the commits of a
    /// new segment before it replaced the manifest.
    ForgetManifest,
}
