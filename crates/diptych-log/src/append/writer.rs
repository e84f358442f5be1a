//! Writing accepted commits: take the whole queue, write it, sync it, publish it. While one sync
//! runs the next batch gathers.
//!
//! One thread writes at a time: the writer thread, or a caller that found the writer idle and does
//! not want to wait for a thread to wake up. A caller that finds more in the queue after its batch
//! hands over to the writer thread.

use std::{
    io,
    sync::Arc,
    task::Waker,
    time::{Duration, Instant},
};

use diptych_store::{CommitNumber, Position};

use crate::{
    append::accept::{Job, Piece, Queue},
    catalog::Folders,
    disk::{Disk, DiskFile},
    engine::Engine,
    format::{
        frame::{self, TrackingTable},
        segment::{self, Header, Segment},
    },
    options::Durability,
};

/// Parts of the index that may wait for a sync before one is made for them, however long the
/// interval: they fill memory, and appends wait for them.
const PARTS_PER_SYNC: usize = 2;

/// Commits of at least this size start write-back before they are indexed, by the writer. Smaller
/// ones are indexed by the threads that append them, because those are many.
pub(crate) const LARGE_COMMIT: usize = 64 << 10;

/// Bytes of a block of a file system, mostly.
const BLOCK: u64 = 4096;
/// Bytes that are written ahead of the commits, from a quarter of what a segment has.
const LEAST_PREPARED: u64 = 64 << 10;
const MOST_PREPARED: u64 = 512 << 10;

/// The file that is written to.
#[derive(Debug)]
pub(crate) struct Writer {
    pub(crate) segment: Arc<Segment>,
    pub(crate) file: Arc<dyn DiskFile>,
    /// Whether something was written that is not synced.
    pub(crate) dirty: bool,
    /// Where the next commit goes.
    pub(crate) written: u64,
    /// Up to where the file has blocks, with zeros in them where no commit is yet.
    pub(crate) prepared: u64,
    /// Parts of the index that wait for a sync.
    pub(crate) jobs: Vec<Job>,
}

struct WriteBatch {
    queue: Queue,
    position: Position,
    commit: CommitNumber,
    tracking: Arc<TrackingTable>,
    batch: u64,
}

impl Engine {
    /// Writes one batch, and hands newer commits over to the writer thread. The caller has set
    /// `writing`.
    pub(crate) fn write_as_caller(&self) {
        self.write_batch();
        let mut state = self.state.lock();
        let idle = state.queue.pieces.is_empty() || state.failed();
        if idle && state.unsynced_since.is_none() {
            state.writing = false;
        } else {
            state.handed_over = true;
            self.work.notify_one();
        }
    }

    /// Writes until nothing is queued. The caller has set `writing`; this unsets it.
    pub(crate) fn write_all(&self) {
        loop {
            self.write_batch();
            // Here, because under load the queue is never empty.
            self.sync_if_due();
            let mut state = self.state.lock();
            if state.queue.pieces.is_empty() || state.failed() {
                state.writing = false;
                return;
            }
        }
    }

    /// The writer thread.
    pub(crate) fn run_writer(&self) {
        loop {
            let stop = self.wait_for_work();
            self.write_all();
            self.sync_if_due();
            if stop {
                return;
            }
        }
    }

    /// Waits until there is something to do; answers whether the thread should end after it.
    fn wait_for_work(&self) -> bool {
        let mut state = self.state.lock();
        loop {
            if state.stop {
                state.writing = true;
                return true;
            }
            if std::mem::take(&mut state.handed_over) {
                state.writing = true;
                return false;
            }
            let due = state.unsynced_since.map(|since| since + self.interval());
            match due {
                None => self.work.wait(&mut state),
                Some(due) if Instant::now() >= due => {
                    if !state.writing {
                        state.writing = true;
                        return false;
                    }
                    // The thread that writes hands over when it is done.
                    self.work.wait(&mut state);
                }
                Some(due) => {
                    self.work.wait_until(&mut state, due);
                }
            }
        }
    }

    fn interval(&self) -> Duration {
        match self.options.durability {
            Durability::Synced => Duration::ZERO,
            Durability::Interval { interval } => interval,
        }
    }

    pub(crate) fn sync_if_due(&self) {
        if self.options.durability == Durability::Synced {
            return;
        }
        let since = self.state.lock().unsynced_since;
        if since.is_some_and(|since| since.elapsed() >= self.interval()) {
            self.sync_all();
        }
    }

    /// Makes durable what was written; answers whether it is.
    pub(crate) fn sync_all(&self) -> bool {
        let mut writer = self.writer.lock();
        {
            let mut state = self.state.lock();
            if !writer.dirty || state.failed() {
                return !writer.dirty;
            }
            state.unsynced_since = None;
        }
        let synced = writer.sync().map_err(|error| failure(&writer.segment, "sync", &error));
        match synced.and_then(|()| self.check_place()) {
            Ok(()) => {
                let jobs = std::mem::take(&mut writer.jobs);
                drop(writer);
                self.index_all(jobs);
                true
            }
            Err(error) => {
                self.fail(&error);
                false
            }
        }
    }

    /// Cuts off space that was prepared for commits, as the last one was written; answers whether
    /// that succeeded.
    pub(crate) fn cut_prepared(&self) -> bool {
        let mut writer = self.writer.lock();
        if self.state.lock().failed() {
            return false;
        }
        let cut = writer.cut_prepared();
        if let Err(error) = &cut {
            self.fail(&failure(&writer.segment, "cut", error));
        }
        cut.is_ok()
    }

    fn take_queue(&self) -> Option<(WriteBatch, Vec<Waker>)> {
        let mut state = self.state.lock();
        if state.failed() || state.queue.pieces.is_empty() {
            return None;
        }
        let queue = std::mem::take(&mut state.queue);
        let (position, commit) = (state.accepted, CommitNumber(state.commits));
        let tracking = state.tracking.clone();
        let batch = state.batch;
        state.batch += 1;
        let taken = WriteBatch { queue, position, commit, tracking, batch };
        Some((taken, std::mem::take(&mut state.room)))
    }

    fn write_batch(&self) {
        let mut writer = self.writer.lock();
        let Some((taken, woken)) = self.take_queue() else { return };
        woken.into_iter().for_each(Waker::wake);
        let WriteBatch { mut queue, position, commit, tracking, batch } = taken;
        let every_batch = self.options.durability == Durability::Synced;
        if let Err(error) = self.write_queue(&mut writer, &mut queue, every_batch) {
            drop(writer);
            return self.fail(&error);
        }
        for piece in &mut queue.pieces {
            piece.segment.publish(piece.offset + piece.bytes.len() as u64);
            writer.jobs.append(&mut piece.jobs);
        }
        self.publish(position, commit, tracking);
        self.batches.done(batch);
        self.leave_head(position, &writer.segment);
        if writer.dirty && writer.jobs.len() >= PARTS_PER_SYNC {
            drop(writer);
            self.sync_all();
        } else if writer.dirty {
            let mut state = self.state.lock();
            state.unsynced_since.get_or_insert_with(Instant::now);
        } else {
            let jobs = std::mem::take(&mut writer.jobs);
            drop(writer);
            self.index_all(jobs);
        }
    }

    fn write_queue(
        &self,
        writer: &mut Writer,
        queue: &mut Queue,
        sync: bool,
    ) -> Result<(), String> {
        for piece in &mut queue.pieces {
            if let Some(header) = piece.create {
                self.check_place()?;
                let failed = |segment: Arc<Segment>, what: &'static str| {
                    move |error: io::Error| failure(&segment, what, &error)
                };
                // The segment before is complete: it is durable before the next one exists.
                writer.cut_prepared().map_err(failed(writer.segment.clone(), "cut"))?;
                writer.sync().map_err(failed(writer.segment.clone(), "sync"))?;
                let created = create_segment(
                    self.disk(),
                    &self.folders,
                    &piece.segment,
                    &header,
                    self.options.segment_bytes,
                );
                writer.file = created.map_err(failed(piece.segment.clone(), "create"))?;
                writer.segment = piece.segment.clone();
                (writer.written, writer.prepared) =
                    (segment::HEADER as u64, segment::HEADER as u64);
            }
            let write = write_piece(writer, piece);
            write.map_err(|error| failure(&piece.segment, "write to", &error))?;
        }
        let tail = self.state.lock().tail.clone();
        if tail.is_behind() {
            for piece in queue.pieces.iter().filter(|piece| sync && !piece.bytes.is_empty()) {
                writer.file.begin_sync(piece.offset, piece.bytes.len());
            }
            tail.settle();
        }
        if sync {
            writer.prepare(self.options.segment_bytes);
            writer.sync().map_err(|error| failure(&writer.segment, "sync", &error))?;
            self.check_place()?;
        }
        Ok(())
    }
}

fn failure(segment: &Segment, what: &str, error: &io::Error) -> String {
    format!("cannot {what} {}: {error}", segment.path.display())
}

fn write_piece(writer: &mut Writer, piece: &mut Piece) -> io::Result<()> {
    if piece.bytes.is_empty() {
        return Ok(());
    }
    if !writer.dirty {
        frame::mark_synced(&mut piece.bytes, piece.checksum);
    }
    // Also when the write fails, because then some of it may be there.
    writer.dirty = true;
    writer.file.write_at(piece.offset, &piece.bytes)?;
    writer.written = piece.offset + piece.bytes.len() as u64;
    Ok(())
}

/// Creates the file of a segment, durably, before a frame goes there: so a file that is longer
/// than a header has a whole one.
pub(crate) fn create_segment(
    disk: &dyn Disk,
    folders: &Folders,
    segment: &Segment,
    header: &Header,
    segment_bytes: u64,
) -> io::Result<Arc<dyn DiskFile>> {
    let file = disk.create(&segment.path, segment_bytes)?;
    file.write_at(0, &header.encode())?;
    file.sync()?;
    disk.sync_dir(&folders.segments)?;
    segment.activate(file.clone());
    Ok(file)
}

impl Writer {
    /// Continues in a file whose commits end at `end`.
    pub(crate) fn new(segment: Arc<Segment>, file: Arc<dyn DiskFile>, end: u64) -> Writer {
        Writer { segment, file, dirty: false, written: end, prepared: end, jobs: Vec::new() }
    }

    /// Writes zeros where the next commits will go, once a batch has used up the prepared space.
    ///
    /// A file that grows makes every sync write the file system's journal as well, which costs
    /// half as much again. Where the sync comes upon blocks that were written before, it writes
    /// those, and nothing else. Allocating them without writing does not help, since the journal
    /// has to tell when they are written. A large batch is not worth it: zeros for the next one
    /// cost as much as it does.
    fn prepare(&mut self, segment_bytes: u64) {
        let batch = self.written.saturating_sub(self.prepared);
        if self.written < self.prepared || self.prepared == u64::MAX {
            return;
        }
        let step = (self.written / 4).clamp(LEAST_PREPARED, MOST_PREPARED);
        let end = (self.written + step).min(segment_bytes) / BLOCK * BLOCK;
        self.prepared = self.written;
        if batch > step / 4 || end <= self.written {
            return;
        }
        let zeros = vec![0; (end - self.written) as usize];
        match self.file.write_at(self.written, &zeros) {
            Ok(()) => self.prepared = end,
            Err(error) => {
                let file = self.segment.path.display();
                tracing::warn!(%file, %error, "no space was prepared for the commits that come");
                // A part of the zeros that was written is cut off with the rest. This is not tried
                // again in this file.
                self.prepared = u64::MAX;
            }
        }
    }

    /// Cuts off prepared space that was not needed.
    pub(crate) fn cut_prepared(&mut self) -> io::Result<()> {
        if self.prepared > self.written {
            self.file.set_size(self.written)?;
            (self.dirty, self.prepared) = (true, self.written);
        }
        Ok(())
    }

    pub(crate) fn sync(&mut self) -> io::Result<()> {
        if self.dirty {
            self.file.sync()?;
            self.dirty = false;
        }
        Ok(())
    }
}
