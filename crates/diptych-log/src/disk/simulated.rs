//! A disk in memory that keeps only the promises that a real disk keeps.
//!
//! Unsynced writes can be lost, can be torn at sectors of 512 bytes, and can reach the disk in any
//! order. A file that was synced can lose its name until its folder is synced, too. Any operation
//! can be made to fail. Everything follows from a seed: a program that runs twice with one seed
//! sees the same disk, so a failed run can be repeated.
//!
//! The test makes a crash: [`SimulatedDisk::power_loss`] and [`SimulatedDisk::process_kill`] copy
//! the disk as the next process finds it. The old disk can still be used. Writes to its open files
//! do not reach the copy, so a test can end one history in many ways. To stop a program in the
//! middle, a test arms a [`Fault::Stop`] first.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    io::{self, ErrorKind},
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;

use super::{Disk, DiskFile, DiskLock, FileSystemId, FolderPlace, LOCK_FILE, LockError};
use crate::sync::Mutex;

mod fault;
mod file;
mod locks;
mod names;
mod random;
#[cfg(test)]
mod tests;

pub use fault::{Fault, Operation, Sabotage};
use file::File;
use locks::{SimulatedLock, SimulatedSharedLock};
use names::{Entry, Names};
pub use random::Random;

/// A disk in memory with a seed. Cloning shares it.
#[derive(Clone)]
pub struct SimulatedDisk(Arc<Mutex<DiskState>>);

impl SimulatedDisk {
    /// An empty disk whose random choices follow from `seed`.
    pub fn new(seed: u64) -> SimulatedDisk {
        SimulatedDisk::of(DiskState {
            random: Random::new(seed),
            files: Vec::new(),
            names: Names::default(),
            locks: BTreeMap::new(),
            shared_locks: Vec::new(),
            counts: BTreeMap::new(),
            armed: None,
            stopped: false,
            failed: Vec::new(),
            capacity: u64::MAX,
            sabotage: None,
            boots: 1,
            mounts: 1,
            file_system: 1,
        })
    }

    /// The disk after a loss of power: everything that was synced, and any part of the rest, chosen
    /// by `seed`. All locks are released.
    pub fn power_loss(&self, seed: u64) -> SimulatedDisk {
        let state = self.0.lock();
        let mut random = Random::new(seed);
        let names = state.names.after_power_loss(&mut random);
        let files = (0..state.files.len()).filter_map(|number| {
            let stale = state.stale(number, &mut random);
            let file = state.files.get(number)?;
            Some(file.after_power_loss(&mut random, &stale))
        });
        let files = files.collect();
        let mut after = state.after_crash(names, files, random);
        after.boots += 1;
        SimulatedDisk::of(after)
    }

    /// The disk after it was disconnected for a moment while the machine kept running. Bytes that
    /// were not synced are lost, as in a loss of power.
    pub fn storage_loss(&self, seed: u64) -> SimulatedDisk {
        let after = self.power_loss(seed);
        {
            let mut state = after.0.lock();
            state.boots -= 1;
            state.mounts += 1;
        }
        after
    }

    /// A copy of all files on another file system. Everything in the copy is durable.
    pub fn copy_to_another(&self) -> SimulatedDisk {
        let copy = self.process_kill();
        {
            let mut state = copy.0.lock();
            state.names.sync_all();
            state.files.iter_mut().for_each(File::sync);
            state.file_system += 1;
            state.mounts += 1;
        }
        copy
    }

    /// The disk after the process was killed: everything that was written, synced or not. All locks
    /// are released. A loss of power can still lose unsynced writes.
    pub fn process_kill(&self) -> SimulatedDisk {
        let state = self.0.lock();
        let files = state.files.iter().map(File::after_process_kill).collect();
        let (names, random) = (state.names.clone(), state.random.clone());
        SimulatedDisk::of(state.after_crash(names, files, random))
    }

    /// Arms the fault after this many more operations, in place of any armed fault.
    pub fn fail_after(&self, operations: u64, fault: Fault) {
        let mut state = self.0.lock();
        let from = state.operations() + operations;
        state.armed = Some((from, fault));
    }

    /// Disarms a fault that has not occurred yet.
    pub fn disarm(&self) {
        self.0.lock().armed = None;
    }

    /// Whether a [`Fault::Stop`] has occurred.
    pub fn is_stopped(&self) -> bool {
        self.0.lock().stopped
    }

    /// The operations that failed so far because of a fault or a full disk, in order.
    pub fn failures(&self) -> Vec<String> {
        self.0.lock().failed.clone()
    }

    /// Sets how many bytes all files together can have.
    pub fn set_capacity(&self, bytes: u64) {
        self.0.lock().capacity = bytes;
    }

    /// Number of bytes of all files.
    pub fn used_bytes(&self) -> u64 {
        self.0.lock().used_bytes()
    }

    /// From now on the disk makes this mistake.
    pub fn set_sabotage(&self, sabotage: Sabotage) {
        self.0.lock().sabotage = Some(sabotage);
    }

    /// The number of calls of this operation, failed ones included.
    pub fn count(&self, operation: Operation) -> u64 {
        self.0.lock().counts.get(&operation).copied().unwrap_or(0)
    }

    /// The number of calls of all operations.
    pub fn operations(&self) -> u64 {
        self.0.lock().operations()
    }

    /// Every file by path, as a process sees it.
    pub fn contents(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let state = self.0.lock();
        let content = |number| {
            let file = state.files.get(number);
            file.map_or(Vec::new(), |file: &File| file.read(0, usize::MAX).to_vec())
        };
        let files = state.names.files();
        files.map(|(path, number)| (path.to_owned(), content(number))).collect()
    }

    fn of(state: DiskState) -> SimulatedDisk {
        SimulatedDisk(Arc::new(Mutex::new(state)))
    }

    fn handle(&self, number: usize, path: &Path) -> Arc<dyn DiskFile> {
        let (disk, path) = (self.clone(), path.to_owned());
        Arc::new(SimulatedFile { disk, number, path })
    }
}

impl fmt::Debug for SimulatedDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.0.lock();
        let files: Vec<_> = state.names.files().map(|(path, _)| path).collect();
        f.debug_struct("SimulatedDisk")
            .field("files", &files)
            .field("operations", &state.counts)
            .finish()
    }
}

impl Disk for SimulatedDisk {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.0.lock();
        state.begin(Operation::CreateDir, dir)?;
        let mut folders: Vec<_> = dir.ancestors().collect();
        folders.reverse();
        for folder in folders {
            match state.names.get(folder) {
                Some(Entry::Folder) => {}
                Some(Entry::File(_)) => return Err(error(ErrorKind::AlreadyExists, folder)),
                None => state.names.add(folder, Entry::Folder),
            }
        }
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut state = self.0.lock();
        state.begin(Operation::List, dir)?;
        let mut names = state.names.list(dir);
        state.random.shuffle(&mut names);
        Ok(names)
    }

    fn create(&self, path: &Path, _map_bytes: u64) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.0.lock();
        state.begin(Operation::Create, path)?;
        let number = state.create(path)?;
        drop(state);
        Ok(self.handle(number, path))
    }

    fn open(&self, path: &Path, _map_bytes: u64) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.0.lock();
        state.begin(Operation::Open, path)?;
        let number = state.find(path)?;
        drop(state);
        Ok(self.handle(number, path))
    }

    fn open_read(&self, path: &Path, map_bytes: u64) -> io::Result<Arc<dyn DiskFile>> {
        self.open(path, map_bytes)
    }

    fn map(&self, path: &Path) -> io::Result<Bytes> {
        let mut state = self.0.lock();
        state.begin(Operation::Map, path)?;
        let number = state.find(path)?;
        let file = state.file(number)?;
        let end = file.size();
        share(file, 0, end)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.0.lock();
        state.begin(Operation::Rename, from)?;
        if state.sabotage == Some(Sabotage::ForgetManifest) && state.is_manifest_again(from, to) {
            return Ok(());
        }
        if from.parent() != to.parent() {
            let what = "the simulated disk renames only within a folder";
            return Err(io::Error::new(ErrorKind::Unsupported, what));
        }
        let entry = state.names.get(from).ok_or_else(|| error(ErrorKind::NotFound, from))?;
        state.names.rename(from, to, entry);
        Ok(())
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.0.lock();
        state.begin(Operation::Link, to)?;
        let number = state.find(from)?;
        state.free(to)?;
        state.names.add(to, Entry::File(number));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.0.lock();
        state.begin(Operation::Remove, path)?;
        state.find(path)?;
        state.names.remove(path);
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.0.lock();
        state.begin(Operation::SyncDir, dir)?;
        if state.names.get(dir) != Some(Entry::Folder) {
            return Err(error(ErrorKind::NotFound, dir));
        }
        match state.sabotage {
            Some(Sabotage::ForgetDirSync) => state.names.sync_folders(dir),
            _ => state.names.sync(dir),
        }
        Ok(())
    }

    fn pin(&self, root: &Path) -> io::Result<Arc<dyn Disk>> {
        let mut state = self.0.lock();
        state.begin(Operation::Pin, root)?;
        match state.names.get(root) {
            Some(Entry::Folder) => Ok(Arc::new(self.clone())),
            Some(Entry::File(_)) => Err(error(ErrorKind::NotADirectory, root)),
            None => Err(error(ErrorKind::NotFound, root)),
        }
    }

    fn lock(&self, root: &Path, owner: &str) -> Result<Box<dyn DiskLock>, LockError> {
        let mut state = self.0.lock();
        state.begin(Operation::Lock, root)?;
        if let Some(owner) = state.locks.get(root) {
            let owner = owner.clone();
            return Err(LockError::Held { owner });
        }
        if state.shared_locks.iter().any(|locked| locked == root) {
            return Err(LockError::Held { owner: String::new() });
        }
        let path = root.join(LOCK_FILE);
        let number = match state.names.get(&path) {
            Some(_) => state.find(&path)?,
            None => state.create(&path)?,
        };
        let file = state.file(number)?;
        file.set_size(0);
        file.write(0, owner.as_bytes());
        state.locks.insert(root.to_owned(), owner.to_owned());
        drop(state);
        let (disk, root) = (self.clone(), root.to_owned());
        Ok(Box::new(SimulatedLock::new(disk, root)))
    }

    fn lock_shared(&self, root: &Path) -> Result<Box<dyn DiskLock>, LockError> {
        let mut state = self.0.lock();
        state.begin(Operation::Lock, root)?;
        if let Some(owner) = state.locks.get(root) {
            let owner = owner.clone();
            return Err(LockError::Held { owner });
        }
        state.shared_locks.push(root.to_owned());
        drop(state);
        Ok(Box::new(SimulatedSharedLock::new(self.clone(), root.to_owned())))
    }

    fn boot(&self) -> io::Result<Option<String>> {
        Ok(Some(format!("boot {}", self.0.lock().boots)))
    }

    fn mount(&self, _root: &Path) -> io::Result<u64> {
        Ok(self.0.lock().mounts)
    }

    /// Each path counts as another folder.
    fn place(&self, root: &Path) -> io::Result<Option<FolderPlace>> {
        let inode = u64::from(crc32c::crc32c(root.as_os_str().as_encoded_bytes()));
        let file_system = FileSystemId::Number(self.0.lock().file_system);
        Ok(Some(FolderPlace { inode, created: 0, file_system }))
    }

    fn allocated(&self, path: &Path) -> io::Result<u64> {
        let mut state = self.0.lock();
        state.begin(Operation::Size, path)?;
        let number = state.find(path)?;
        Ok(state.file(number)?.size() as u64)
    }
}

#[derive(Debug)]
struct SimulatedFile {
    disk: SimulatedDisk,
    number: usize,
    path: PathBuf,
}

impl DiskFile for SimulatedFile {
    fn size(&self) -> io::Result<u64> {
        let mut state = self.disk.0.lock();
        state.begin(Operation::Size, &self.path)?;
        Ok(state.file(self.number)?.size() as u64)
    }

    fn read_at(&self, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let mut state = self.disk.0.lock();
        state.begin(Operation::Read, &self.path)?;
        let offset = address(offset)?;
        Ok(state.file(self.number)?.read(offset, length).to_vec())
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.disk.0.lock();
        let mut offset = address(offset)?;
        if state.sabotage == Some(Sabotage::ZerosTooEarly) && bytes.iter().all(|byte| *byte == 0) {
            offset = offset.saturating_sub(8);
        }
        let was_stopped = state.stopped;
        let begun = state.begin(Operation::Write, &self.path);
        let mut fits = bytes.len();
        if begun.is_err() {
            fits = if was_stopped { 0 } else { state.random.index(fits + 1) };
        }
        let grown_to = (offset + fits) as u64;
        let room = state.room_for(self.number, grown_to)?;
        let full = begun.is_ok() && room < grown_to;
        fits = fits.min(address(room)?.saturating_sub(offset));
        if let Some(bytes) = bytes.get(..fits).filter(|bytes| !bytes.is_empty()) {
            state.file(self.number)?.write(offset, bytes);
        }
        if full {
            return Err(state.no_space(Operation::Write, &self.path));
        }
        begun
    }

    fn set_size(&self, size: u64) -> io::Result<()> {
        let mut state = self.disk.0.lock();
        state.begin(Operation::SetSize, &self.path)?;
        if state.room_for(self.number, size)? < size {
            return Err(state.no_space(Operation::SetSize, &self.path));
        }
        state.file(self.number)?.set_size(address(size)?);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.disk.0.lock();
        let begun = state.begin(Operation::Sync, &self.path);
        if begun.is_err() && !state.stopped {
            let mut random = state.random.clone();
            let stale = state.stale(self.number, &mut random);
            state.file(self.number)?.fail_sync(&mut random, &stale);
            state.random = random;
            if state.sabotage == Some(Sabotage::ForgetFailedSync) {
                return Ok(());
            }
        }
        begun?;
        if state.sabotage != Some(Sabotage::AcknowledgeBeforeSync) {
            state.file(self.number)?.sync();
        }
        Ok(())
    }

    fn share(&self, start: u64, end: u64) -> io::Result<Bytes> {
        let mut state = self.disk.0.lock();
        state.begin(Operation::Share, &self.path)?;
        let (start, end) = (address(start)?, address(end)?);
        share(state.file(self.number)?, start, end)
    }
}

fn share(file: &mut File, start: usize, end: usize) -> io::Result<Bytes> {
    let bytes = file.share(start, end);
    bytes.map(Bytes::from).ok_or_else(|| {
        let size = file.size();
        let what = format!("cannot share bytes {start}..{end} of a file of {size} bytes");
        io::Error::new(ErrorKind::UnexpectedEof, what)
    })
}

struct DiskState {
    random: Random,
    /// Every file that ever existed, by number. A file without a name is removed.
    files: Vec<File>,
    names: Names,
    locks: BTreeMap<PathBuf, String>,
    /// Folders with a shared lock, once for each such lock.
    shared_locks: Vec<PathBuf>,
    counts: BTreeMap<Operation, u64>,
    /// The number of operations after which the fault occurs, and the fault.
    armed: Option<(u64, Fault)>,
    stopped: bool,
    failed: Vec<String>,
    capacity: u64,
    sabotage: Option<Sabotage>,
    /// How often the machine was started.
    boots: u64,
    /// How often the disk was mounted.
    mounts: u64,
    /// The identity of its file system.
    file_system: u64,
}

impl DiskState {
    fn operations(&self) -> u64 {
        self.counts.values().sum()
    }

    /// Counts an operation, and fails if a fault is due for it.
    fn begin(&mut self, operation: Operation, path: &Path) -> io::Result<()> {
        let before = self.operations();
        *self.counts.entry(operation).or_default() += 1;
        if self.stopped {
            return Err(io::Error::other("the simulated machine has stopped"));
        }
        let due = self.armed.filter(|(from, _)| *from <= before);
        match due.map(|(_, fault)| fault) {
            Some(Fault::Stop) => self.stopped = true,
            Some(full) if full.leaves_no_space_for(operation) => {
                self.armed = self.armed.filter(|_| full == Fault::DiskStaysFull);
                return Err(self.no_space(operation, path));
            }
            Some(Fault::Io(kind)) if operation == kind => {}
            _ => return Ok(()),
        }
        self.armed = None;
        let what = format!("{operation:?} of {} fails", path.display());
        self.failed.push(what.clone());
        Err(io::Error::other(format!("simulated: {what}")))
    }

    fn no_space(&mut self, operation: Operation, path: &Path) -> io::Error {
        let what = format!("{operation:?} of {} finds no space", path.display());
        self.failed.push(what.clone());
        io::Error::new(ErrorKind::StorageFull, format!("simulated: {what}"))
    }

    fn used_bytes(&self) -> u64 {
        // A file with two names takes its space once.
        let files: BTreeSet<usize> = self.names.files().map(|(_, number)| number).collect();
        let sizes = files.into_iter().filter_map(|number| self.files.get(number));
        sizes.map(|file| file.size() as u64).sum()
    }

    /// The size that a file can reach, at most `wanted` bytes.
    fn room_for(&mut self, number: usize, wanted: u64) -> io::Result<u64> {
        let size = self.file(number)?.size() as u64;
        let capacity = fault::capacity(self.armed, self.operations(), self.capacity);
        let free = capacity.saturating_sub(self.used_bytes());
        Ok(wanted.min(size.saturating_add(free)))
    }

    /// Checks that a name is free, in a folder that exists.
    fn free(&self, path: &Path) -> io::Result<()> {
        if self.names.get(path).is_some() {
            return Err(error(ErrorKind::AlreadyExists, path));
        }
        match self.names.has_parent(path) {
            true => Ok(()),
            false => Err(error(ErrorKind::NotFound, path)),
        }
    }

    fn create(&mut self, path: &Path) -> io::Result<usize> {
        self.free(path)?;
        let number = self.files.len();
        self.files.push(File::default());
        self.names.add(path, Entry::File(number));
        Ok(number)
    }

    fn find(&self, path: &Path) -> io::Result<usize> {
        match self.names.get(path) {
            Some(Entry::File(number)) => Ok(number),
            Some(Entry::Folder) => Err(error(ErrorKind::IsADirectory, path)),
            None => Err(error(ErrorKind::NotFound, path)),
        }
    }

    /// Whether one manifest replaces another of the same open.
    fn is_manifest_again(&self, from: &Path, to: &Path) -> bool {
        let nonce = |path| {
            let file = self.files.get(self.find(path).ok()?)?;
            file.read(0, usize::MAX).get(80..96).map(<[u8]>::to_vec)
        };
        to.ends_with("manifest") && nonce(to).is_some() && nonce(from) == nonce(to)
    }

    fn file(&mut self, number: usize) -> io::Result<&mut File> {
        let file = self.files.get_mut(number);
        file.ok_or_else(|| io::Error::other("a file of another disk"))
    }

    /// Bytes that another file left on the disk. A sector that was never written may show them.
    fn stale(&self, number: usize, random: &mut Random) -> Vec<u8> {
        let other = random.index(self.files.len());
        let other = self.files.get(other).filter(|_| other != number);
        other.map_or(Vec::new(), |file| file.read(0, usize::MAX).to_vec())
    }

    fn after_crash(&self, names: Names, files: Vec<File>, random: Random) -> DiskState {
        DiskState {
            random,
            files,
            names,
            locks: BTreeMap::new(),
            shared_locks: Vec::new(),
            counts: BTreeMap::new(),
            armed: None,
            stopped: false,
            failed: Vec::new(),
            capacity: self.capacity,
            sabotage: self.sabotage,
            boots: self.boots,
            mounts: self.mounts,
            file_system: self.file_system,
        }
    }
}

fn error(kind: ErrorKind, path: &Path) -> io::Error {
    io::Error::new(kind, format!("simulated: {}: {kind}", path.display()))
}

fn address(bytes: u64) -> io::Result<usize> {
    usize::try_from(bytes).map_err(|_| io::Error::other("too large for a simulated file"))
}
