//! Writing accepted commits: take the whole queue, write it, sync it. While one sync runs the next
//! batch gathers.

use std::{io, sync::Arc, time::Duration};

use diptych_store::Position;

use crate::{
    append::queue::{Piece, WriteBatch},
    catalog::segment::Segment,
    disk::DiskFile,
    error::{OpenError, WriteFailure, io_error, is_full},
    folder::{
        head_file::{self, HEAD_FILE},
        manifest, unclean,
    },
    format::{
        frame::{self, Link},
        head::PublishedHead,
        manifest::{ActiveSegment, ArchivePlace, Manifest, Role, SealedSegment, State},
        segment::{self, Header},
    },
    maintain::indexer::IndexJob,
    options::Durability,
    shared::SharedState,
    sync::Instant,
};

/// Parts of the index that may wait for a sync before one is made for them, however long the
/// interval: they fill memory, and appends wait for them.
const PARTS_PER_SYNC: usize = 2;

/// The time between two looks at whether the file with the published head still has its name.
const HEAD_LOOK: Duration = Duration::from_millis(250);

/// Bytes of a block of a file system, mostly.
const BLOCK_BYTES: u64 = 4096;

/// The file that is written to. One thread at a time holds it.
#[derive(Debug)]
pub(crate) struct Writer {
    segment: Arc<Segment>,
    file: Arc<dyn DiskFile>,
    /// The file with the published head, for processes that follow the log. A backup has none.
    head_file: Option<Arc<dyn DiskFile>>,
    /// The manifest as it is in its file, or is to be. A backup has none.
    manifest: Option<Manifest>,
    /// The last time at which the writer looked whether the file with the published head has its
    /// name.
    head_looked: Instant,
    /// Whether something was written that is not synced.
    dirty: bool,
    /// Where the next commit goes.
    written: u64,
    /// Up to where the file has blocks, with zeros in them where no commit is yet.
    prepared: u64,
    /// Parts of the index that wait for a sync.
    jobs: Vec<IndexJob>,
    /// Commits that are accepted, and for which there is no space.
    held: Option<WriteBatch>,
    /// The file of the next segment, if there was no space for its header.
    next_file: Option<Arc<dyn DiskFile>>,
    /// The steps of an open that are still to be done.
    steps: OpenSteps,
}

/// The last steps of an open. If there is no space for them, they wait, and so do commits.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct OpenSteps {
    /// The manifest is to be replaced. A new segment comes with its own manifest.
    pub(crate) manifest: bool,
    /// Once the manifest is that of this open: other files of the folder are to say the same.
    pub(crate) others: bool,
}

impl Writer {
    /// Continues in a file whose commits end at `end`.
    pub(crate) fn new(
        segment: Arc<Segment>,
        file: Arc<dyn DiskFile>,
        end: u64,
        head_file: Option<Arc<dyn DiskFile>>,
        manifest: Option<Manifest>,
    ) -> Writer {
        Writer {
            segment,
            file,
            head_file,
            manifest,
            head_looked: Instant::now(),
            dirty: false,
            written: end,
            prepared: end,
            jobs: Vec::new(),
            held: None,
            next_file: None,
            steps: OpenSteps::default(),
        }
    }

    /// Writes a batch, and syncs it if every batch is synced. Readers may see its bytes once its
    /// position is published.
    ///
    /// Other processes are told before that: once a commit is acknowledged, a reader in any process
    /// finds it.
    ///
    /// # Errors
    /// After [`WriteFailure::Full`] the same batch can be written again: no sync was asked for
    /// bytes that could not be written, so no such bytes are taken for durable. They are written
    /// again, to the same place.
    pub(crate) fn write(
        &mut self,
        shared: &SharedState,
        batch: &mut WriteBatch,
    ) -> Result<(), WriteFailure> {
        let sync = shared.options().durability == Durability::Synced;
        self.write_pieces(shared, batch)?;
        if batch.tail.is_behind() {
            let pieces = batch.pieces.iter();
            for piece in pieces.filter(|piece| sync && !piece.bytes.is_empty()) {
                self.file.begin_sync(piece.offset, piece.bytes.len());
            }
            batch.tail.settle();
        }
        if sync && self.dirty {
            self.prepare(shared);
        }
        // The manifest promises only what is durable.
        if sync || batch.begun.is_some() {
            self.sync_file()?;
        }
        shared.check_place()?;
        if let Some((header, sealed)) = &batch.begun {
            self.note_segment(shared, (header, *sealed), batch.position)?;
        }
        self.leave_head(shared, batch.position)?;
        for piece in &mut batch.pieces {
            piece.segment.publish(piece.offset + piece.bytes.len() as u64);
            self.jobs.append(&mut piece.jobs);
        }
        Ok(())
    }

    fn write_pieces(
        &mut self,
        shared: &SharedState,
        batch: &mut WriteBatch,
    ) -> Result<(), WriteFailure> {
        while let Some(piece) = batch.pieces.get_mut(batch.done) {
            if let Some(header) = piece.create {
                let sealed = self.begin_segment(shared, &piece.segment, &header)?;
                (batch.begun, piece.create) = (Some((header, sealed)), None);
            }
            let written = self.write_piece(piece);
            written.map_err(|error| failure(&piece.segment, "write to", error))?;
            batch.done += 1;
        }
        Ok(())
    }

    /// Creates the file of the next segment, once the one before is durable and complete. Answers
    /// what the next segment says about the one before.
    fn begin_segment(
        &mut self,
        shared: &SharedState,
        segment: &Arc<Segment>,
        header: &Header,
    ) -> Result<Option<SealedSegment>, WriteFailure> {
        shared.check_place()?;
        self.cut_prepared()?;
        self.sync_file()?;
        let link = self.segment.link(shared.disk());
        let link = link.map_err(|error| failure(&self.segment, "look at", error))?;
        let sequence = self.segment.sequence;
        let sealed = link.map(|Link { chain, bytes }| SealedSegment { sequence, bytes, chain });
        let file = match self.next_file.take() {
            Some(file) => file,
            None => {
                let created = shared.disk().create(&segment.path, shared.options().segment_bytes);
                created.map_err(|error| failure(segment, "create", error))?
            }
        };
        let begun = segment.begin(shared.disk(), &shared.folders().segments, header, &file);
        if let Err(error) = begun {
            self.next_file = Some(file);
            return Err(failure(segment, "create", error));
        }
        (self.file, self.segment) = (file, segment.clone());
        (self.written, self.prepared) = (segment::HEADER as u64, segment::HEADER as u64);
        Ok(sealed)
    }

    /// Puts a new segment into the manifest, before its first commit is acknowledged. From then on
    /// its loss is noticed, whatever else is lost with it.
    fn note_segment(
        &mut self,
        shared: &SharedState,
        (header, sealed): (&Header, Option<SealedSegment>),
        position: Position,
    ) -> Result<(), WriteFailure> {
        let Some(manifest) = &mut self.manifest else { return Ok(()) };
        manifest.identity = header.identity;
        (manifest.state, manifest.sealed) = (State::Open, sealed);
        let (sequence, base) = (header.sequence, header.base);
        manifest.active = ActiveSegment { sequence, base, end: self.written, position };
        Ok(self.replace_manifest(shared)?)
    }

    /// Keeps a batch for which there is no space.
    pub(crate) fn hold(&mut self, batch: WriteBatch) {
        self.held = Some(batch);
    }

    pub(crate) fn take_held(&mut self) -> Option<WriteBatch> {
        self.held.take()
    }

    /// Drops the records of a log that is closed here, for which there is no space, and cuts off
    /// those that were written in part.
    pub(crate) fn forget_held(&mut self) -> Result<(), WriteFailure> {
        self.held = None;
        let cut = self.file.set_size(self.written);
        cut.map_err(|error| failure(&self.segment, "cut", error))?;
        (self.dirty, self.prepared) = (true, self.written);
        Ok(())
    }

    /// There is space again, so space can be prepared again.
    pub(crate) fn resume(&mut self) {
        if self.prepared == u64::MAX {
            self.prepared = self.file.size().unwrap_or(u64::MAX);
        }
    }

    /// Begins the last steps of an open.
    pub(crate) fn begin_steps(&mut self, steps: OpenSteps) {
        self.steps = steps;
    }

    /// Does the steps of an open that come before the first commit.
    pub(crate) fn do_first_step(&mut self, shared: &SharedState) -> Result<(), OpenError> {
        if self.steps.manifest {
            self.sync_found_head(shared)?;
            self.replace_manifest(shared)?;
            self.steps.manifest = false;
        }
        Ok(())
    }

    /// Makes the published head that this open found durable. The manifest of this open names its
    /// nonce. An older head that came back after a loss of power would look like one of another
    /// log.
    fn sync_found_head(&self, shared: &SharedState) -> Result<(), OpenError> {
        let folders = shared.folders();
        let found = match &self.head_file {
            Some(file) => Some(file.clone()),
            None => head_file::open_if_there(shared.disk(), folders)?,
        };
        let synced = found.map_or(Ok(()), |file| file.sync());
        synced.map_err(io_error("sync", &folders.root.join(HEAD_FILE)))
    }

    /// Does the steps of an open that come after the manifest of this open.
    pub(crate) fn do_last_steps(&mut self, shared: &SharedState) -> Result<(), OpenError> {
        if self.steps.others {
            let (disk, folders) = (shared.disk(), shared.folders());
            unclean::remove(disk, &folders.root)?;
            if self.head_file.is_none() {
                self.head_file = Some(head_file::open_or_create(disk, folders)?);
            }
            let left = self.leave_first_head(shared);
            left.map_err(io_error("write", &folders.root.join(HEAD_FILE)))?;
            self.steps.others = false;
        }
        Ok(())
    }

    /// Notes in the manifest that the log is closed, and everything durable.
    pub(crate) fn note_closed(&mut self, shared: &SharedState) -> Result<(), OpenError> {
        let position = shared.head().position();
        let Some(manifest) = &mut self.manifest else { return Ok(()) };
        manifest.state = State::Clean;
        (manifest.active.end, manifest.active.position) = (self.written, position);
        self.replace_manifest(shared)
    }

    /// The next manifest has this role.
    pub(crate) fn take_role(&mut self, role: Role) {
        if let Some(manifest) = &mut self.manifest {
            manifest.role = role;
        }
    }

    /// Where the archived segments lie.
    pub(crate) fn archive_place(&self) -> Option<&ArchivePlace> {
        self.manifest.as_ref()?.archive.as_ref()
    }

    /// Notes in the manifest where the archived segments lie. If that fails, the manifest has the
    /// older note or this one.
    pub(crate) fn note_archive(
        &mut self,
        shared: &SharedState,
        place: &ArchivePlace,
    ) -> Result<(), OpenError> {
        let Some(manifest) = &mut self.manifest else { return Ok(()) };
        let older = manifest.archive.replace(place.clone());
        let replaced = self.replace_manifest(shared);
        if replaced.is_err()
            && let Some(manifest) = &mut self.manifest
        {
            // The next manifest must not rest on a step that may not have happened.
            manifest.archive = older;
        }
        replaced
    }

    /// Whether the log is about to continue in a newer format.
    pub(crate) fn migrates(&self) -> bool {
        self.manifest.as_ref().is_some_and(|manifest| manifest.state == State::Migrating)
    }

    /// Makes the manifest durable as it is to be.
    pub(crate) fn replace_manifest(&self, shared: &SharedState) -> Result<(), OpenError> {
        let Some(manifest) = &self.manifest else { return Ok(()) };
        manifest::replace(shared.disk(), &shared.folders().root, manifest)
    }

    fn write_piece(&mut self, piece: &mut Piece) -> io::Result<()> {
        if piece.bytes.is_empty() {
            return Ok(());
        }
        if !self.dirty {
            frame::mark_synced(&mut piece.bytes, piece.checksum);
        }
        // Also when the write fails, because then some of it may be there.
        self.dirty = true;
        self.file.write_at(piece.offset, &piece.bytes)?;
        self.written = piece.offset + piece.bytes.len() as u64;
        Ok(())
    }

    /// Writes zeros where the next commits will go, once a batch has used up the prepared space.
    ///
    /// A file that grows makes every sync write the file system's journal as well, which costs half
    /// as much again. A sync of blocks that were written before writes only those. Allocating
    /// blocks without writing them does not help, because the journal records when they are first
    /// written. Large batches prepare nothing: zeros for the next one cost as much as they save.
    fn prepare(&mut self, shared: &SharedState) {
        let (options, batch) = (shared.options(), self.written.saturating_sub(self.prepared));
        if self.written < self.prepared || self.prepared == u64::MAX {
            return;
        }
        let most = options.tuning.prepared_bytes;
        // A quarter of what the segment has, within these bounds.
        let step = (self.written / 4).max(most / 8).min(most);
        let end = (self.written + step).min(options.segment_bytes) / BLOCK_BYTES * BLOCK_BYTES;
        self.prepared = self.written;
        if batch > step / 4 || end <= self.written {
            return;
        }
        let zeros = vec![0; (end - self.written) as usize];
        match self.file.write_at(self.written, &zeros) {
            Ok(()) => self.prepared = end,
            Err(error) => {
                let file = self.segment.path.display();
                tracing::warn!(%file, %error, "no space was prepared for the next commits");
                // Zeros that were written in part are cut off with the rest. This file is not
                // prepared again.
                self.prepared = u64::MAX;
            }
        }
    }

    /// Cuts off prepared space that was not needed.
    pub(crate) fn cut_prepared(&mut self) -> Result<(), WriteFailure> {
        if self.prepared > self.written {
            let cut = self.file.set_size(self.written);
            cut.map_err(|error| failure(&self.segment, "cut", error))?;
            (self.dirty, self.prepared) = (true, self.written);
        }
        Ok(())
    }

    fn sync_file(&mut self) -> Result<(), String> {
        if self.dirty {
            // Never a lack of space alone: bytes that were written before may be lost.
            self.file.sync().map_err(|error| {
                WriteFailure::stops("sync", &self.segment.path, &error).to_string()
            })?;
            self.dirty = false;
        }
        Ok(())
    }

    /// Makes everything durable that was written.
    pub(crate) fn sync(&mut self, shared: &SharedState) -> Result<(), String> {
        self.sync_file()?;
        shared.check_place()
    }

    /// Whether something was written that is not synced.
    pub(crate) fn is_dirty(&self) -> bool {
        self.dirty
    }

    /// Whether enough parts of the index wait for a sync to make one for them.
    pub(crate) fn has_parts_to_sync(&self, shared: &SharedState) -> bool {
        // Appends wait for a part if no more may wait.
        self.jobs.len() >= PARTS_PER_SYNC.min(shared.options().tuning.waiting_parts)
    }

    /// The parts of the index whose records were written, to be taken once these are synced.
    pub(crate) fn take_jobs(&mut self) -> Vec<IndexJob> {
        std::mem::take(&mut self.jobs)
    }

    /// Where the published log ends.
    pub(crate) fn published_head(&self, shared: &SharedState) -> PublishedHead {
        PublishedHead {
            position: shared.head().position(),
            end: self.segment.end(),
            identity: shared.identity(),
            segment: self.segment.sequence,
        }
    }

    /// Tells other processes that the log is published up to everything that was written, which
    /// ends with the event at `position`. A file that cannot be written is replaced by another one.
    ///
    /// # Errors
    /// If that fails too, the batch counts as not written: other processes take the end of the log
    /// from this file, and would miss an acknowledged commit without an error.
    fn leave_head(&mut self, shared: &SharedState, position: Position) -> Result<(), WriteFailure> {
        let failed = |what: &'static str| {
            move |error| WriteFailure::of(what, &shared.folders().root.join(HEAD_FILE), error)
        };
        match self.write_head(shared, position) {
            Err(error) if !is_full(&error) => {
                tracing::warn!(%error, "`head` cannot be written: another file takes its place");
                self.replace_head_file(shared, position).map_err(failed("replace"))?;
            }
            left => left.map_err(failed("write to"))?,
        }
        if self.head_looked.elapsed() >= HEAD_LOOK {
            self.head_looked = Instant::now();
            if let Err(error) = self.keep_head_file(shared, position) {
                // Without the file, other processes find the end in the last segment.
                tracing::warn!(%error, "the published head cannot be left for followers");
            }
        }
        Ok(())
    }

    /// As `leave_head`, and durable: later opens compare its nonce with that of the manifest.
    fn leave_first_head(&self, shared: &SharedState) -> io::Result<()> {
        self.write_head(shared, shared.head().position())?;
        self.head_file.as_ref().map_or(Ok(()), |file| file.sync())
    }

    fn write_head(&self, shared: &SharedState, position: Position) -> io::Result<()> {
        let Some(file) = &self.head_file else { return Ok(()) };
        file.write_at(0, &self.head_bytes(shared, position))
    }

    fn head_bytes(&self, shared: &SharedState, position: Position) -> Vec<u8> {
        let (end, segment) = (self.written, self.segment.sequence);
        let head = PublishedHead { position, end, identity: shared.identity(), segment };
        let nonce = self.manifest.as_ref().map(|manifest| &manifest.run.nonce);
        nonce.map_or_else(|| head.encode(), |nonce| head.encode_with(nonce))
    }

    /// Makes the file with the published head again if it was removed.
    fn keep_head_file(&mut self, shared: &SharedState, position: Position) -> io::Result<()> {
        if self.head_file.as_ref().map_or(Ok(true), |file| file.has_name())? {
            return Ok(());
        }
        tracing::warn!("the file `head` was removed while the log was open: it is made again");
        self.replace_head_file(shared, position)
    }

    fn replace_head_file(&mut self, shared: &SharedState, position: Position) -> io::Result<()> {
        let head = self.head_bytes(shared, position);
        let file = head_file::recreate(shared.disk(), &shared.folders().root, &head)?;
        self.head_file = Some(file);
        Ok(())
    }
}

fn failure(segment: &Segment, what: &str, error: io::Error) -> WriteFailure {
    WriteFailure::of(what, &segment.path, error)
}
