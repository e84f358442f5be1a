//! Reading what the writer adds at the end of the log, and listing its files again.
//!
//! The writer leaves its published head in a file after every batch. As long as that is in the
//! segment that was read last, the new frames are read, and their events added to a part of the
//! index in memory. When a segment begins, or when the part in memory is so large that the writer
//! has an index file of these events by now, the end of the log is opened anew, with the files that
//! there are.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use diptych_store::{CommitNumber, HistoryChanged, LogIdentity, Position, ReadError, Unavailable};

use crate::{
    catalog::{part::IndexPart, rebuild::Rebuilt, segment::Segment},
    disk::DiskFile,
    error::{as_read_error, corruption, read_failed},
    folder::{
        found_end::{self, VisibleEnd},
        head_file::{self, HEAD_FILE},
        mark::{self, BACKUP, FolderKind},
    },
    format::{
        chain::Chain,
        frame::TrackingTable,
        head::PublishedHead,
        recovery::{self, ScanStart},
    },
    open::{
        OpenLog,
        reading::{self, OpenForReading},
    },
    shared::SharedState,
};

/// How often the file with the published head is opened anew, and the place of the folder checked.
const CHECK: Duration = Duration::from_millis(250);
/// Attempts to read up to the published head, which is read again each time.
const ATTEMPTS: usize = 3;
/// The pause before files are listed for a segment that the writer has not merged yet.
const MERGED_AFTER: Duration = Duration::from_secs(1);

/// Where the next frame of the log is.
#[derive(Debug)]
struct TailPlace {
    segment: Arc<Segment>,
    file: Arc<dyn DiskFile>,
    /// The checksum of the segment's header.
    checksum: u32,
    offset: u64,
    /// The running checksum of the frames before `offset`.
    chain: Chain,
    /// The time of the last frame, since the base time of the segment; at first 0.
    time: u64,
    tracking: Arc<TrackingTable>,
    /// The part of the index in memory, and the offset of its first frame.
    part: Arc<IndexPart>,
    from: u64,
}

/// Reads what the writer adds to a log.
#[derive(Debug)]
pub(super) struct TailReader {
    kind: FolderKind,
    identity: LogIdentity,
    /// The file with the published head; `None` while there is none.
    head_file: Option<Arc<dyn DiskFile>>,
    checked: Option<Instant>,
    /// The published head that was read last.
    seen: Option<PublishedHead>,
    /// Up to where events are published here.
    end: PublishedHead,
    tail: TailPlace,
    commits: u64,
    /// The files are listed again when the tail has come this far, or at this time.
    list_at: u64,
    list_after: Option<Instant>,
}

impl TailPlace {
    fn of(log: &OpenLog) -> TailPlace {
        let end = &log.end;
        TailPlace {
            segment: end.segment.clone(),
            file: log.file.clone(),
            checksum: end.segment_head.checksum,
            offset: end.offset,
            chain: end.chain,
            time: 0,
            tracking: end.tracking.clone(),
            part: end.tail.clone(),
            from: end.tail_from,
        }
    }

    /// Reads on up to this offset, and adds what is there to the part in memory. Answers the number
    /// of commits; `None` if the bytes are damaged, and then the part may have any of them.
    fn read_on(&mut self, end: u64) -> Result<Option<u64>, ReadError> {
        let length = usize::try_from(end.saturating_sub(self.offset)).unwrap_or(usize::MAX);
        let bytes = self.file.read_at(self.offset, length);
        let bytes = bytes.map_err(|error| read_failed(&self.segment.path, error))?;
        let (next, checksum) = (self.next(), self.checksum);
        let from = ScanStart { offset: self.offset, next, time: self.time, checksum };
        let (base, range) = (self.segment.base, (self.part.first, Position::MAX));
        let (mut built, mut commits) = (Rebuilt::new(base, range, self.chain), 0);
        built.tracking = (*self.tracking).clone();
        let read = self.part.change(|columns| {
            std::mem::swap(columns, &mut built.columns);
            let read = recovery::recover(&bytes, from, |commit| {
                built.add(commit);
                commits += 1;
            });
            std::mem::swap(columns, &mut built.columns);
            read
        });
        let Some(Ok(found)) = read else { return Ok(None) };
        (self.offset, self.time, self.chain) = (found.end, found.time, built.chain);
        self.tracking = Arc::new(built.tracking);
        Ok(Some(commits))
    }

    /// Position of the next event, minus the segment's first.
    fn next(&self) -> u32 {
        let first = self.part.first.plus(u64::from(self.part.events()));
        u32::try_from(first.get() - self.segment.base.get()).unwrap_or(u32::MAX)
    }
}

fn end_of(log: &OpenLog) -> PublishedHead {
    let (end, segment) = (log.end.offset, log.end.segment.sequence);
    PublishedHead { position: log.end.position, end, identity: log.identity, segment }
}

fn place(head: &PublishedHead) -> (u32, u64) {
    (head.segment, head.end)
}

impl TailReader {
    pub(super) fn new(OpenForReading { log, kind }: &OpenForReading) -> TailReader {
        let mut reader = TailReader {
            kind: *kind,
            identity: log.identity,
            head_file: None,
            checked: None,
            seen: None,
            end: end_of(log),
            tail: TailPlace::of(log),
            commits: 0,
            list_at: 0,
            list_after: None,
        };
        reader.plan_listing(log.options.index_bytes);
        reader
    }

    /// Publishes what the writer has published since. Opens files only now and then.
    pub(super) fn look(&mut self, shared: &SharedState) -> Result<(), ReadError> {
        if self.checked.is_none_or(|checked| checked.elapsed() >= CHECK) {
            return self.look_anew(shared);
        }
        match self.kind {
            FolderKind::Log => self.advance(shared),
            // Its mark is a file that is replaced, and that happens seldom.
            FolderKind::Backup(_) => Ok(()),
        }
    }

    /// As `look`, and checks that the folder and the file are those that are at their place.
    pub(super) fn look_anew(&mut self, shared: &SharedState) -> Result<(), ReadError> {
        self.checked = Some(Instant::now());
        let (disk, folders) = (shared.disk(), shared.folders());
        if let Err(error) = disk.check_place(&folders.segments) {
            let why = Unavailable::Failed { reason: format!("{error}; open it again").into() };
            shared.end_head(why.clone());
            return Err(why.into());
        }
        if matches!(self.kind, FolderKind::Log) {
            self.head_file = head_file::open_for_reading(disk, folders).map_err(as_read_error)?;
        }
        for _ in 1..ATTEMPTS {
            match self.advance(shared) {
                // The writer may have gone on so far that the segment is clustered by now.
                Err(_) if !shared.head().is_ended() => {}
                done => return done,
            }
        }
        self.advance(shared)
    }

    /// Lists the files again, because some were replaced.
    pub(super) fn list_again(&mut self, shared: &SharedState) -> Result<(), ReadError> {
        self.look_anew(shared)?;
        self.open_end(shared, self.end)
    }

    /// Reads the published head, and publishes events up to there.
    fn advance(&mut self, shared: &SharedState) -> Result<(), ReadError> {
        let Some(end) = self.read_end(shared)? else { return Ok(()) };
        let head = end.head;
        let is_known = match end.is_published {
            true => self.seen == Some(head),
            false => self.end == head,
        };
        if is_known {
            return self.list_if_due(shared);
        }
        if head.identity != self.identity {
            let changed = HistoryChanged { was: self.identity, is: head.identity };
            return Err(ended(shared, Unavailable::HistoryChanged(changed)));
        }
        if place(&head) < place(&self.end) || head.position < self.end.position {
            // Without a process that writes, the log was read to its end, which may lie behind the
            // head that an earlier process left.
            let is_older = self.seen.is_some_and(|seen| place(&head) < place(&seen));
            if is_older {
                let (was, is) = (self.end.position, head.position);
                let reason = format!(
                    "the log ended at {was} and now ends at {is}: an older copy \
                    of it was put there; open it again"
                );
                return Err(ended(shared, Unavailable::Failed { reason: reason.into() }));
            }
            self.see(end);
            return Ok(());
        }
        let goes_on = matches!(self.kind, FolderKind::Log) && head.segment == self.end.segment;
        match goes_on {
            true => self.read_on(shared, head)?,
            false => self.open_end(shared, head)?,
        }
        self.see(end);
        self.list_if_due(shared)
    }

    /// Remembers a published head. The next one may be behind an end that was found without it.
    fn see(&mut self, end: VisibleEnd) {
        if end.is_published {
            self.seen = Some(end.head);
        }
    }

    /// The published head; if its file was removed, the end of the log as it is found.
    fn read_end(&self, shared: &SharedState) -> Result<Option<VisibleEnd>, ReadError> {
        let (disk, root) = (shared.disk(), &shared.folders().root);
        let (head, is_published) = match (self.kind, &self.head_file) {
            (FolderKind::Backup(_), _) => {
                (mark::read(disk, root, BACKUP).map_err(as_read_error)?, true)
            }
            (FolderKind::Log, None) => {
                let found = found_end::find(disk, shared.folders(), Some(self.end));
                (found.map_err(as_read_error)?, false)
            }
            (FolderKind::Log, Some(file)) => {
                let head = head_file::read_head(&**file);
                (Some(head.map_err(|error| read_failed(&root.join(HEAD_FILE), error))?), true)
            }
        };
        Ok(head.map(|head| VisibleEnd { head, is_published }))
    }

    /// Reads the frames up to `head`, which is in the same segment.
    fn read_on(&mut self, shared: &SharedState, head: PublishedHead) -> Result<(), ReadError> {
        match self.tail.read_on(head.end)? {
            // How far the part goes is not known: it is made anew.
            None => self.open_end(shared, head),
            Some(_) if self.tail.offset != head.end => {
                let (path, what) =
                    (&self.tail.segment.path, "records of the published are not whole");
                Err(corruption(path, self.tail.offset, what).into())
            }
            Some(commits) => {
                self.commits += commits;
                self.publish(shared, head);
                Ok(())
            }
        }
    }

    /// Opens the end of the log anew, up to `upto`, with the files that there are now.
    fn open_end(&mut self, shared: &SharedState, upto: PublishedHead) -> Result<(), ReadError> {
        let before = shared.catalog();
        self.finish_segment(&upto);
        let of = (shared.folders(), shared.options());
        let log = reading::again(of, (shared.maps(), shared.seed()), (upto, self.kind), &before);
        let mut log = log.map_err(as_read_error)?;
        shared.live_catalog().replace(std::mem::take(&mut log.catalog));
        self.commits += 1;
        self.tail = TailPlace::of(&log);
        self.plan_listing(shared.options().index_bytes);
        let parts = &shared.catalog().parts;
        let mut complete = parts.iter().filter(|part| part.segment.sequence < upto.segment);
        let is_in_memory = complete.any(|part| part.last_in_file().is_none());
        self.list_after = is_in_memory.then(|| Instant::now() + MERGED_AFTER);
        self.publish(shared, upto);
        Ok(())
    }

    /// Reads the segment to its end, before the next one is read: the writer may not have written
    /// all its index files yet. If that fails, the index is read from files, or built.
    fn finish_segment(&mut self, upto: &PublishedHead) {
        if upto.segment > self.end.segment
            && matches!(self.kind, FolderKind::Log)
            && let Ok(end) = self.tail.file.size()
            && let Ok(Some(_)) = self.tail.read_on(end)
        {
            self.tail.segment.publish(self.tail.offset);
        }
    }

    fn publish(&mut self, shared: &SharedState, head: PublishedHead) {
        self.end = head;
        self.tail.segment.publish(head.end);
        shared.publish(head.position, CommitNumber(self.commits), self.tail.tracking.clone());
    }

    fn list_if_due(&mut self, shared: &SharedState) -> Result<(), ReadError> {
        let is_time = self.list_after.is_some_and(|after| Instant::now() >= after);
        let is_far = matches!(self.kind, FolderKind::Log) && self.tail.offset >= self.list_at;
        match is_time || is_far {
            true => self.open_end(shared, self.end),
            false => Ok(()),
        }
    }

    /// The files are listed again when another part of the index should be in a file, but not so
    /// often that reading the tail again would cost more than reading it did.
    fn plan_listing(&mut self, index_bytes: u64) {
        let in_memory = self.tail.offset.saturating_sub(self.tail.from);
        self.list_at = self.tail.offset + index_bytes.max(in_memory);
    }
}

fn ended(shared: &SharedState, why: Unavailable) -> ReadError {
    shared.end_head(why.clone());
    why.into()
}
