//! The locks of the simulated disk. Each is released when it is dropped.

use std::path::PathBuf;

use super::SimulatedDisk;
use crate::disk::DiskLock;

/// The lock of a folder. A crash releases it too, because the disk after a crash has no locks.
#[derive(Debug)]
pub(super) struct SimulatedLock {
    disk: SimulatedDisk,
    root: PathBuf,
}

impl SimulatedLock {
    pub(super) fn new(disk: SimulatedDisk, root: PathBuf) -> SimulatedLock {
        SimulatedLock { disk, root }
    }
}

impl DiskLock for SimulatedLock {}

impl Drop for SimulatedLock {
    fn drop(&mut self) {
        self.disk.0.lock().locks.remove(&self.root);
    }
}

#[derive(Debug)]
pub(super) struct SimulatedSharedLock {
    disk: SimulatedDisk,
    root: PathBuf,
}

impl SimulatedSharedLock {
    pub(super) fn new(disk: SimulatedDisk, root: PathBuf) -> SimulatedSharedLock {
        SimulatedSharedLock { disk, root }
    }
}

impl DiskLock for SimulatedSharedLock {}

impl Drop for SimulatedSharedLock {
    fn drop(&mut self) {
        let locks = &mut self.disk.0.lock().shared_locks;
        if let Some(at) = locks.iter().position(|locked| *locked == self.root) {
            locks.swap_remove(at);
        }
    }
}
