//! A segment of an open log: its file, which is mapped when it is first read, and up to where it is
//! published.

use std::{
    io::{self, ErrorKind},
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use bytes::Bytes;
use diptych_store::{LogIdentity, Position};

use crate::{
    catalog::maps::{CacheEntry, Maps},
    disk::{Disk, DiskFile},
    error::{of_other_file, sync_failed},
    folder::archive,
    format::{
        archive::SegmentStub,
        chain,
        frame::{self, Link},
        segment::{HEADER, Head, Header, Order, file_name, foreign, may_precede},
    },
    sync::{
        RwLock,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
};

/// A segment of an open log. A sealed one is opened when it is first read.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) sequence: u32,
    pub(crate) base: Position,
    pub(crate) path: PathBuf,
    /// The identity of the log; the segment may be of an earlier epoch.
    identity: LogIdentity,
    /// Facts about a sealed segment that the next one records; read on first use.
    following: OnceLock<Following>,
    /// The first position of the next segment, if this one was sealed before the open.
    next: Option<Position>,
    state: RwLock<SegmentState>,
    /// The bytes of a sealed segment.
    sealed: CacheEntry<SegmentBytes>,
    /// The checksum of the header of its file, once that was read. A clustered file of the same
    /// name has another one, and an index that was made for this file does not fit it.
    seal: OnceLock<u32>,
    /// Another process has replaced or removed its file.
    replaced: AtomicBool,
    /// How often the segment was found to be replaced, before this one was made.
    replacements: AtomicU32,
    /// Offset up to which frames are published to readers.
    end: AtomicU64,
}

#[derive(Clone, Debug)]
enum SegmentState {
    /// Nothing is written to it any more.
    Sealed,
    /// The segment that the writer appends to.
    Active { head: Head, file: Arc<dyn DiskFile> },
    /// Accepted commits are queued for it, but its file is not created yet.
    Planned { head: Head },
}

/// Facts about a segment that the next segment records.
#[derive(Clone, Copy, Debug, Default)]
struct Following {
    /// `None` if the header of the next segment is damaged; reading that segment reports it.
    identity: Option<LogIdentity>,
    /// `None` if an older version wrote the next segment, or its first record is not whole.
    link: Option<Link>,
    /// Number of events in the segment.
    events: u64,
}

/// The published bytes of a segment, with the header fields that reading them needs.
#[derive(Clone, Debug)]
pub(crate) struct SegmentBytes {
    pub(crate) head: Head,
    pub(crate) bytes: Bytes,
}

impl Segment {
    /// A complete segment of the log with this identity. `next` is the first position of the next
    /// segment.
    pub(crate) fn sealed(
        maps: &Arc<Maps>,
        path: PathBuf,
        sequence: u32,
        (base, next): (Position, Position),
        identity: LogIdentity,
    ) -> Segment {
        Segment {
            sequence,
            base,
            path,
            identity,
            following: OnceLock::new(),
            next: Some(next),
            state: RwLock::new(SegmentState::Sealed),
            sealed: CacheEntry::unloaded(maps),
            seal: OnceLock::new(),
            replaced: AtomicBool::new(false),
            replacements: AtomicU32::new(0),
            end: AtomicU64::new(0),
        }
    }

    pub(crate) fn planned(maps: &Arc<Maps>, folder: &Path, header: &Header) -> Segment {
        Segment {
            sequence: header.sequence,
            base: header.base,
            path: folder.join(file_name(header.sequence, header.base)),
            identity: header.identity,
            following: OnceLock::new(),
            next: None,
            state: RwLock::new(SegmentState::Planned { head: Head::of(header) }),
            sealed: CacheEntry::unloaded(maps),
            seal: OnceLock::new(),
            replaced: AtomicBool::new(false),
            replacements: AtomicU32::new(0),
            end: AtomicU64::new(HEADER as u64),
        }
    }

    pub(crate) fn maps(&self) -> &Arc<Maps> {
        self.sealed.maps()
    }

    /// This segment as unread, because its file was replaced.
    pub(crate) fn read_again(&self) -> Segment {
        Segment {
            sequence: self.sequence,
            base: self.base,
            path: self.path.clone(),
            identity: self.identity,
            following: self.following.clone(),
            next: self.next,
            state: RwLock::new(SegmentState::Sealed),
            sealed: CacheEntry::unloaded(self.maps()),
            seal: OnceLock::new(),
            replaced: AtomicBool::new(false),
            replacements: AtomicU32::new(0),
            end: AtomicU64::new(0),
        }
    }

    /// Notes that another process has replaced or removed a file of this segment.
    pub(crate) fn mark_replaced(&self) -> io::Error {
        self.replaced.store(true, Ordering::Relaxed);
        io::Error::new(REPLACED, "another process replaced the file; try again")
    }

    pub(crate) fn is_replaced(&self) -> bool {
        self.replaced.load(Ordering::Relaxed)
    }

    /// Whether its name still leads to the file that is mapped. A file that is not mapped now is no
    /// file that must stay the same.
    pub(crate) fn is_as_mapped(&self, disk: &dyn Disk) -> bool {
        if !self.is_sealed() {
            return true;
        }
        let Some(mapped) = self.sealed.peek(|sealed| sealed.head.checksum) else { return false };
        let bytes = disk.open_read(&self.path, 0).and_then(|file| file.read_at(0, HEADER));
        let header = bytes.and_then(|bytes| self.own(&bytes));
        header.is_ok_and(|header| header.checksum() == mapped)
    }

    /// How often the segment was found to be replaced.
    pub(crate) fn replacements(&self) -> u32 {
        self.replacements.load(Ordering::Relaxed)
    }

    /// Takes the place of a segment that was replaced.
    pub(crate) fn comes_after(&self, replaced: &Segment) {
        self.replacements.store(replaced.replacements() + 1, Ordering::Relaxed);
    }

    /// Stores the facts about this segment that the next one, which begins now, records.
    pub(crate) fn goes_on(&self, identity: LogIdentity, next: Position, link: Link) {
        let events = next.get().saturating_sub(self.base.get());
        let following = Following { identity: Some(identity), link: Some(link), events };
        // A segment is sealed only once, so the cell is empty.
        let _ = self.following.set(following);
    }

    /// The record that the next segment holds about this one; `None` if an older version wrote that
    /// segment, or none follows yet.
    pub(crate) fn link(&self, disk: &dyn Disk) -> io::Result<Option<Link>> {
        self.following(disk).map(|following| following.link)
    }

    /// The stub of the segment, if it is archived and both are the same segment, as far as the next
    /// one tells. The segment itself is not read.
    pub(crate) fn stub(&self, disk: &dyn Disk) -> io::Result<Option<SegmentStub>> {
        if !self.is_sealed() {
            return Ok(None);
        }
        let Some(stub) = archive::read_stub(disk, &self.path)? else { return Ok(None) };
        let following = self.following(disk)?;
        let goes_on = |link: &Link| (link.chain, link.bytes) == (stub.chain(), stub.bytes());
        let header = stub.part(0, HEADER).and_then(|bytes| self.own(bytes).ok());
        let Some(header) = header.filter(|_| following.link.as_ref().is_some_and(goes_on)) else {
            return Ok(None);
        };
        let before_next = following.identity.is_some_and(|id| may_precede(header.identity, id));
        let is_known = *self.seal.get_or_init(|| header.checksum()) == header.checksum();
        Ok((before_next && is_known).then_some(stub))
    }

    /// The path of the next segment, whose first record tells what this one is.
    pub(crate) fn next_path(&self, disk: &dyn Disk) -> io::Result<PathBuf> {
        Ok(self.path_behind(&self.following(disk)?))
    }

    fn path_behind(&self, following: &Following) -> PathBuf {
        let next = self.base.plus(following.events);
        self.path.with_file_name(file_name(self.sequence + 1, next))
    }

    fn following(&self, disk: &dyn Disk) -> io::Result<Following> {
        match (self.following.get(), self.next) {
            (Some(following), _) => Ok(*following),
            (None, None) => Ok(Following::default()),
            (None, Some(next)) => {
                let read = self.read_following(disk, next)?;
                Ok(*self.following.get_or_init(|| read))
            }
        }
    }

    fn read_following(&self, disk: &dyn Disk, next: Position) -> io::Result<Following> {
        let (sequence, mut found) = (self.sequence + 1, Following::default());
        found.events = next.get().saturating_sub(self.base.get());
        let path = self.path.with_file_name(file_name(sequence, next));
        let failed = |error: io::Error| {
            of_other_file(format!("the next segment, {}, cannot be read", path.display()), error)
        };
        let file = disk.open_read(&path, 0).map_err(failed)?;
        let mut bytes = file.read_at(0, HEADER + frame::HEADER).map_err(failed)?;
        let header = Header::parse(&bytes).ok().filter(|header| header.is_of(sequence, next));
        if let Some(header) = header {
            let size = frame::size(bytes.get(HEADER..).unwrap_or(&[]));
            bytes = file.read_at(0, HEADER + size).map_err(failed)?;
            found.link = chain::link_in(&bytes, &header);
            found.identity = Some(header.identity);
        }
        Ok(found)
    }

    /// Creates the file of a planned segment in its folder, durably, before a frame goes there: so
    /// a file that is longer than a header has a whole one. Answers the file, to which the writer
    /// appends from now on.
    pub(crate) fn create(
        &self,
        disk: &dyn Disk,
        folder: &Path,
        header: &Header,
        segment_bytes: u64,
    ) -> io::Result<Arc<dyn DiskFile>> {
        let file = disk.create(&self.path, segment_bytes)?;
        self.begin(disk, folder, header, &file)?;
        Ok(file)
    }

    /// Makes an empty file the file of a planned segment. If there is no space, that can be tried
    /// again with the same file. It must not be removed for that: a loss of power could bring back
    /// its name, later than the commits that then went elsewhere.
    pub(crate) fn begin(
        &self,
        disk: &dyn Disk,
        folder: &Path,
        header: &Header,
        file: &Arc<dyn DiskFile>,
    ) -> io::Result<()> {
        file.write_at(0, &header.encode())?;
        file.sync().map_err(|error| sync_failed(&self.path, error))?;
        disk.sync_dir(folder).map_err(|error| sync_failed(folder, error))?;
        self.activate(file.clone());
        Ok(())
    }

    /// From now on the writer appends to the segment, through `file`.
    pub(crate) fn activate(&self, file: Arc<dyn DiskFile>) {
        let mut state = self.state.write();
        if let SegmentState::Planned { head } | SegmentState::Active { head, .. } = *state {
            *state = SegmentState::Active { head, file };
        }
    }

    /// Marks the segment as sealed: nothing is written to it any more, and its index is in files.
    /// This drops the handle of its file; the next read maps the file.
    pub(crate) fn seal(&self) {
        *self.state.write() = SegmentState::Sealed;
    }

    pub(crate) fn publish(&self, end: u64) {
        self.end.store(end, Ordering::Release);
    }

    /// Offset up to which frames are published; 0 if a sealed segment was not read yet.
    pub(crate) fn end(&self) -> u64 {
        self.end.load(Ordering::Acquire)
    }

    /// All published bytes of the segment.
    ///
    /// # Errors
    /// If the file cannot be read, or does not hold the segment that its name says.
    pub(crate) fn published(&self, disk: &dyn Disk) -> io::Result<SegmentBytes> {
        let state = self.state.read().clone();
        match state {
            SegmentState::Sealed => self.sealed.ask(|| self.open_sealed(disk), SegmentBytes::clone),
            SegmentState::Active { head, file } => {
                Ok(SegmentBytes { head, bytes: file.share(0, self.end())? })
            }
            SegmentState::Planned { head } => Ok(SegmentBytes { head, bytes: Bytes::new() }),
        }
    }

    /// Keeps the file of a sealed segment mapped from now on: its name is about to go to another
    /// file, and readers may still hold this segment.
    pub(crate) fn pin(&self, disk: &dyn Disk) -> io::Result<()> {
        self.sealed.pin(|| self.open_sealed(disk))
    }

    /// Whether it is sealed: nothing will be written to it.
    pub(crate) fn is_sealed(&self) -> bool {
        matches!(*self.state.read(), SegmentState::Sealed)
    }

    /// The order of a sealed segment. Reads the header at most, and does not map the file.
    pub(crate) fn order(&self, disk: &dyn Disk) -> io::Result<Order> {
        if let Some(order) = self.sealed.peek(|sealed| sealed.head.order) {
            return Ok(order);
        }
        let bytes = disk.open_read(&self.path, 0)?.read_at(0, HEADER)?;
        self.own(&bytes).map(|header| header.order)
    }

    /// The header in `bytes`, if it is that of this segment.
    fn own(&self, bytes: &[u8]) -> io::Result<Header> {
        let header = Header::parse(bytes).ok();
        let header = header.filter(|header| header.is_of(self.sequence, self.base));
        let header = header.ok_or_else(|| no_good("the header of the segment is damaged"))?;
        match may_precede(header.identity, self.identity) {
            true => Ok(header),
            false => Err(no_good(&foreign(header.identity, self.identity))),
        }
    }

    fn open_sealed(&self, disk: &dyn Disk) -> io::Result<SegmentBytes> {
        let bytes = match self.maps().map(disk, &self.path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                self.mark_replaced();
                return Err(error);
            }
            bytes => bytes?,
        };
        let header = self.own(&bytes)?;
        if *self.seal.get_or_init(|| header.checksum()) != header.checksum() {
            return Err(self.mark_replaced());
        }
        let (head, following) = (Head::of(&header), self.following(disk)?);
        let beside_next = |what: &str| {
            let next = self.path_behind(&following);
            no_good(&format!("{what}; the next one is {}", next.display()))
        };
        match following.identity {
            Some(after) if !may_precede(header.identity, after) => {
                return Err(beside_next(&foreign(header.identity, after)));
            }
            _ => {}
        }
        if let Some(link) = following.link {
            let ends = chain::ends_as(&bytes, &head, &link, following.events);
            ends.map_err(|damaged| beside_next(damaged.what))?;
        }
        self.end.fetch_max(bytes.len() as u64, Ordering::AcqRel);
        Ok(SegmentBytes { head, bytes })
    }
}

/// The kind of the error of a read that met a file which another process has replaced. The files
/// have to be listed again.
pub(crate) const REPLACED: ErrorKind = ErrorKind::StaleNetworkFileHandle;

fn no_good(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
