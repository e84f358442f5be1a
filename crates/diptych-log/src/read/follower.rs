//! Following a log that another process writes, without its lock: read only, forwards, up to the
//! published head.
//!
//! The writer stores its published head in a small file after every batch. The file is not synced:
//! it is for processes that run now, and an open writes it anew. A follower reads segments from the
//! front, frame by frame. It does not use the index, which may change meanwhile. For a clustered
//! segment it first restores the order of arrival.

use std::{io::ErrorKind, path::Path, sync::Arc};

use bytes::Bytes;
use diptych_store::{
    Batch, BatchBuilder, Filter, HistoryChanged, InvalidRequest, LogIdentity, Position, ReadError,
    Timestamp, Unavailable,
    encoding::{Fields, Layout},
};

use crate::{
    disk::{Disk, DiskFile},
    error::{OpenError, as_read_error, corruption, read_failed},
    folder::{
        Folders,
        found_end::{self, VisibleEnd},
        head_file::{self, HEAD_FILE},
        hold,
        mark::{self, BACKUP, FolderKind},
    },
    format::{
        chain::Chain,
        frame::{self, CONTROL, Frame, LAST, Link},
        frame_order,
        head::PublishedHead,
        segment::{self, Header, Order, may_precede},
    },
    options::LogOptions,
};

/// Reads a log that another process may be writing, as far as it is published.
///
/// It needs nothing but the segments, and has events only. For whole commits, with key, tracking
/// and recorded time, see [`EventStore::commits`](diptych_store::EventStore::commits) of a
/// [`ReadOnlyLog`](crate::ReadOnlyLog).
#[derive(Debug)]
pub struct Follower {
    folders: Folders,
    /// Their disk reaches the files through the folder that was opened.
    options: LogOptions,
    /// The file that says where the log ends. It is opened each time, because a backup replaces it,
    /// and a log creates it if it is missing.
    head_file: &'static str,
    /// Up to where the log is read.
    head: PublishedHead,
    /// The head in that file as it was read last. It differs from `head` while that one was found
    /// without the file.
    published: Option<PublishedHead>,
    after: Position,
    at: Option<ReadPlace>,
    /// The segment that was read to its end, and the link that the next one must hold.
    exhausted: Option<(u32, Link)>,
}

/// Where the next frame is.
#[derive(Debug)]
struct ReadPlace {
    header: Header,
    path: std::path::PathBuf,
    file: Arc<dyn DiskFile>,
    /// All its bytes in the order of arrival, if the file is clustered.
    arrived: Option<Bytes>,
    offset: usize,
    /// Position of the event in the next frame, if that holds one.
    next: Position,
    /// Whether a commit ends before `offset`.
    ends_commit: bool,
    /// The running checksum of the frames before `offset`.
    chain: Chain,
}

impl Follower {
    /// Follows the log in a folder, beginning behind position `after`. Takes no lock.
    ///
    /// # Errors
    /// [`OpenError`] if there is no log.
    pub fn open(
        dir: impl AsRef<Path>,
        after: Position,
        options: LogOptions,
    ) -> Result<Follower, OpenError> {
        let folders = Folders::new(dir.as_ref());
        let disk = hold::pin(&*options.disk, &folders.root)?;
        let (head_file, end) = match mark::kind(&*disk, &folders.root)? {
            FolderKind::Backup(head) => (BACKUP, VisibleEnd { head, is_published: true }),
            FolderKind::Log => {
                let end = found_end::visible_end(&*disk, &folders)?;
                (HEAD_FILE, end.ok_or_else(|| hold::no_log(&folders.root))?)
            }
        };
        let VisibleEnd { head, is_published } = end;
        let published = Some(head).filter(|_| is_published);
        let options = LogOptions { disk, ..options };
        let (at, exhausted) = (None, None);
        Ok(Follower { folders, options, head_file, head, published, after, at, exhausted })
    }

    /// The id and the epoch of the log.
    pub fn identity(&self) -> LogIdentity {
        self.head.identity
    }

    /// The published head that was read last.
    pub fn head(&self) -> Position {
        self.head.position
    }

    /// The position up to which everything was read.
    pub fn upto(&self) -> Position {
        self.after
    }

    /// The next matching events, at most `limit`. The batch is empty if nothing was published
    /// since, or nothing new matched. Never waits.
    ///
    /// # Errors
    /// [`ReadError`] if the log cannot be read on from here.
    pub fn next(&mut self, filter: &Filter, limit: usize) -> Result<Batch, ReadError> {
        filter.check(&self.options.limits)?;
        self.look()?;
        let limits = &self.options.limits;
        let limit = limit.min(limits.batch_events);
        let (mut builder, mut bytes) = (BatchBuilder::new(), 0);
        while self.after < self.head.position && builder.len() < limit {
            if bytes > self.options.limits.batch_bytes {
                break;
            }
            bytes += self.step(filter, &mut builder)?;
        }
        Ok(builder.finish(self.after, self.commit_end()?))
    }

    /// Where the commit ends that was read last.
    fn commit_end(&self) -> Result<Position, ReadError> {
        let Some(place) = self.at.as_ref().filter(|_| self.after < self.head.position) else {
            return Ok(self.after);
        };
        let (mut end, mut offset, mut ends) = (self.after, place.offset, place.ends_commit);
        while !ends {
            let header = match &place.arrived {
                Some(bytes) => bytes.slice(offset.min(bytes.len())..),
                None => {
                    let header = place.file.read_at(offset as u64, frame::HEADER);
                    header.map_err(|error| read_failed(&place.path, error))?.into()
                }
            };
            let peeked = header.first_chunk().and_then(frame::peek);
            let missing = || corruption(&place.path, offset as u64, "the commit has no end");
            let peeked = peeked.ok_or_else(missing)?;
            (end, ends) = (end.plus(1), peeked.flags & LAST != 0);
            offset += peeked.size;
        }
        Ok(end)
    }

    /// Reads the published head again.
    fn look(&mut self) -> Result<(), ReadError> {
        let disk = &self.options.disk;
        let moved = |cause| Unavailable::Storage {
            what: format!("cannot follow {}", self.folders.root.display()).into(),
            cause: Arc::new(cause),
            advice: "put the folder of the log back, or follow it where it is now",
        };
        disk.check_place(&self.folders.segments).map_err(moved)?;
        let path = self.folders.root.join(self.head_file);
        let head = match disk.open_read(&path, 0).and_then(|file| head_file::read_head(&*file)) {
            Err(error) if error.kind() == ErrorKind::NotFound => return self.look_without_file(),
            head => head.map_err(|error| read_failed(&path, error))?,
        };
        if self.head_file == BACKUP && head != self.head {
            // A newer backup replaces the last segment by a longer one, and does not append to it.
            (self.at, self.exhausted) = (None, None);
        }
        self.must_be_same(head)?;
        let is_found = self.published != Some(self.head);
        let position = match is_found {
            true => self.published.map_or(Position::START, |published| published.position),
            false => self.after.max(self.head.position),
        };
        if position > head.position {
            return Err(InvalidRequest::AboveHead { position, head: head.position }.into());
        }
        self.published = Some(head);
        // An end that was found may be ahead of the file for the time of a batch.
        if head.position >= self.head.position {
            self.head = head;
        }
        Ok(())
    }

    /// Finds the end of a log whose published head was removed. The process that has it open makes
    /// it again with one of its next commits.
    fn look_without_file(&mut self) -> Result<(), ReadError> {
        if self.head_file == HEAD_FILE {
            let (disk, known) = (&*self.options.disk, Some(self.head));
            let found = found_end::find(disk, &self.folders, known).map_err(as_read_error)?;
            let head = found.unwrap_or(self.head);
            self.must_be_same(head)?;
            if head.position >= self.head.position {
                self.head = head;
            }
        }
        Ok(())
    }

    fn must_be_same(&self, head: PublishedHead) -> Result<(), ReadError> {
        let (was, is) = (self.head.identity, head.identity);
        match was == is {
            true => Ok(()),
            false => Err(Unavailable::HistoryChanged(HistoryChanged { was, is }).into()),
        }
    }

    /// Reads frames up to the next matching event; answers the bytes of that event, or 0.
    fn step(&mut self, filter: &Filter, builder: &mut BatchBuilder) -> Result<usize, ReadError> {
        let mut place = match self.at.take() {
            Some(place) => place,
            None => self.find(self.after.plus(1))?,
        };
        if self.exhausted.is_some_and(|(sequence, _)| sequence == place.header.sequence) {
            let what = "records that were published are missing";
            return Err(corruption(&place.path, place.offset as u64, what).into());
        }
        let size = match &place.arrived {
            Some(bytes) => bytes.len() as u64,
            None if place.header.sequence == self.head.segment => self.head.end,
            None => place.file.size().map_err(|error| read_failed(&place.path, error))?,
        };
        if place.offset as u64 >= size {
            // The segment is complete: reading continues in the next one.
            let link = Link { chain: place.chain.to_u64(), bytes: place.offset as u64 };
            self.exhausted = Some((place.header.sequence, link));
            return Ok(0);
        }
        let shared = place.arrived.clone().map_or_else(|| place.file.share(0, size), Ok);
        let shared = shared.map_err(|error| read_failed(&place.path, error))?;
        let mut taken = 0;
        // Reads on in this segment, up to one event that matches.
        while taken == 0 && (place.offset as u64) < size && self.after < self.head.position {
            let damaged = |what: &str| corruption(&place.path, place.offset as u64, what);
            let rest = shared.get(place.offset..).unwrap_or(&[]);
            let frame = frame::parse(rest, place.header.checksum());
            let frame = frame.map_err(|flaw| damaged(flaw.text()))?;
            let end = place.offset + frame.size();
            if place.offset == segment::HEADER {
                self.must_follow(&place.header, &frame).map_err(&damaged)?;
            }
            place.chain.add_frame(&frame);
            if !frame.has(CONTROL) {
                if place.next > self.after {
                    let content =
                        frame.content().ok_or_else(|| damaged("a section is malformed"))?;
                    let layout =
                        Layout::of(content).map_err(|error| damaged(&error.to_string()))?;
                    let fields = Fields::new(content, layout);
                    if filter.matches_parts(fields.event_type(), || fields.tags()) {
                        let base = place.header.base_time.as_micros();
                        let recorded_at = Timestamp::from_micros(base + frame.time as i64);
                        let chunk = builder.chunk(shared.clone());
                        let start = (end - content.len()) as u32;
                        let pushed =
                            builder.push(place.next, recorded_at, chunk, start, end as u32);
                        pushed.map_err(|error| damaged(&error.to_string()))?;
                        taken = content.len();
                    }
                    self.after = place.next;
                }
                place.next = place.next.plus(1);
            }
            place.ends_commit = frame.has(LAST);
            place.offset = end;
        }
        self.at = Some(place);
        Ok(taken)
    }

    /// Checks that the first frame of a segment continues the segment that was read before.
    fn must_follow(&self, header: &Header, first: &Frame<'_>) -> Result<(), &'static str> {
        let before = self.exhausted.filter(|(sequence, _)| sequence + 1 == header.sequence);
        let says = first.content().and_then(frame::take_link);
        match before.zip(says) {
            Some(((_, read), says)) if read != says => {
                Err("it goes on from other records than those of the segment before")
            }
            _ => Ok(()),
        }
    }

    /// The beginning of the segment that holds this position.
    fn find(&self, position: Position) -> Result<ReadPlace, ReadError> {
        let dir = &self.folders.segments;
        let disk: &dyn Disk = &*self.options.disk;
        let names = disk.list(dir).map_err(|error| read_failed(dir, error))?;
        let listed = names.iter().filter_map(|name| segment::parse_file_name(name));
        // If two segments begin at one position, the first is empty.
        let found = listed.filter(|(_, base)| *base <= position).max();
        let (sequence, base) =
            found.ok_or_else(|| corruption(dir, 0, "the first segment is missing"))?;
        let path = dir.join(segment::file_name(sequence, base));
        let failed = |error| read_failed(&path, error);
        let file = disk.open_read(&path, self.options.segment_bytes).map_err(failed)?;
        let header = Header::parse(&file.read_at(0, segment::HEADER).map_err(failed)?);
        let header = header.ok().filter(|header| header.is_of(sequence, base));
        let header =
            header.ok_or_else(|| corruption(&path, 0, "the header of the segment is damaged"))?;
        if !may_precede(header.identity, self.head.identity) {
            let what = segment::foreign(header.identity, self.head.identity);
            return Err(corruption(&path, 0, what).into());
        }
        let (mut header, mut arrived) = (header, None);
        if header.order == Order::Clustered {
            // This open file stays the same even if its name goes to another file.
            let size = file.size().map_err(failed)?;
            let bytes = file.share(0, size).map_err(failed)?;
            let found = frame_order::arrival_bytes(&bytes)
                .map_err(|error| corruption(&path, error.offset, error.what))?;
            header = header.in_order(Order::Arrival);
            arrived = Some(Bytes::from(found.into_owned()));
        }
        let (next, chain) = (header.base, Chain::begin(header.checksum()));
        Ok(ReadPlace {
            header,
            path,
            file,
            arrived,
            offset: segment::HEADER,
            next,
            ends_commit: true,
            chain,
        })
    }
}

#[cfg(test)]
mod tests {
    use diptych_store::{Append, RawEvent, Tag};

    use super::*;
    use crate::log::Log;

    fn options() -> LogOptions {
        LogOptions { segment_bytes: 2048, index_bytes: 1024, ..LogOptions::default() }
    }

    fn append(log: &Log, numbers: std::ops::Range<u64>) {
        for number in numbers {
            let event =
                RawEvent::new("counted", number.to_string()).tag(Tag::new("odd", number % 2));
            log.blocking().commit(Append::event(event)).unwrap();
        }
    }

    fn drain(follower: &mut Follower, filter: &Filter) -> Vec<u64> {
        let mut seen = Vec::new();
        loop {
            let batch = follower.next(filter, 7).unwrap();
            seen.extend(batch.iter().map(|event| event.position().get()));
            if batch.upto() == follower.head() {
                return seen;
            }
        }
    }

    #[test]
    fn what_is_published_is_followed_while_the_folder_is_locked() {
        let dir = tempfile::tempdir().unwrap();
        let log = Log::open(dir.path(), options()).unwrap();
        append(&log, 0..100);
        let everything = Filter::everything();
        let mut all = Follower::open(dir.path(), Position::START, options()).unwrap();
        let mut odd = Follower::open(dir.path(), Position::new(50), options()).unwrap();
        let filter: Filter = "tag=odd:1".parse().unwrap();
        assert_eq!(drain(&mut all, &everything), (1..=100).collect::<Vec<_>>());
        assert_eq!(drain(&mut odd, &filter), (51..=100).filter(|n| n % 2 == 0).collect::<Vec<_>>());
        assert!(all.next(&everything, 7).unwrap().is_empty());
        append(&log, 100..130);
        assert_eq!(drain(&mut all, &everything), (101..=130).collect::<Vec<_>>());
        log.close().unwrap();
        let log = Log::open(dir.path(), options()).unwrap();
        append(&log, 130..140);
        assert_eq!(drain(&mut all, &everything), (131..=140).collect::<Vec<_>>());
    }

    #[test]
    fn a_position_above_the_head_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let log = Log::open(dir.path(), options()).unwrap();
        append(&log, 0..3);
        let mut follower = Follower::open(dir.path(), Position::new(4), options()).unwrap();
        let error = follower.next(&Filter::everything(), 1).unwrap_err();
        assert!(matches!(error, ReadError::Invalid(InvalidRequest::AboveHead { .. })), "{error}");
    }

    #[test]
    fn a_folder_without_a_log_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let error = Follower::open(dir.path(), Position::START, options()).unwrap_err();
        assert!(matches!(error, OpenError::Io { .. }), "{error}");
    }
}
