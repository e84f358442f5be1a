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
    /// The next operation of this kind fails. Later operations succeed.
    ///
    /// A failed write leaves any first part of its bytes. After a failed sync any part of the
    /// unsynced bytes is durable. The rest never will be, even if a later sync succeeds; reads
    /// still show it.
    Io(Operation),
    /// The next operation that takes space finds none; later operations succeed. A write leaves a
    /// first part of its bytes.
    DiskFull,
    /// The disk is full from here on, until the fault is disarmed: no file can be created or grow.
    /// A write leaves the part that fits. For a disk that fills up see
    /// [`SimulatedDisk::set_capacity`].
    DiskStaysFull,
    /// From now on every operation fails and does nothing. A write in progress may leave a first
    /// part. The process or the machine has stopped; the test makes a crash next.
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

/// A mistake of an engine that the disk imitates.
///
/// In each of these mistakes the disk reports something false. An engine that believes the report
/// behaves like an engine with the mistake. So the engine needs no hooks.
///
/// An engine that acknowledges before it syncs leaves the same bytes unsynced as an engine whose
/// sync did nothing. An engine that ignores a failed sync acts as if the sync had succeeded. An
/// engine that forgets to sync the folder risks the same names as an engine whose folder sync did
/// nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sabotage {
    /// A sync of a file succeeds and does nothing.
    AcknowledgeBeforeSync,
    /// A sync of a file fails, but reports success.
    ForgetFailedSync,
    /// A sync of a folder succeeds and does nothing for the names of files in it.
    ForgetDirSync,
    /// A write of zeros begins eight bytes too early, over the bytes before it. So does a log that
    /// prepares space without knowing where its commits end.
    ZerosTooEarly,
    /// A replaced manifest keeps its content from the last open, as if the engine acknowledged the
    /// commits of a new segment before it replaced the manifest.
    ForgetManifest,
}
